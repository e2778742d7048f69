//! The configuration of a run: a TOML file that completely defines a method. The presets in `assets/configs/` are such files.

mod background;
mod budget;
mod check;
mod distillation;
mod meta;
mod occupancy;
mod optimizer;
mod options;
mod overrides;
mod passes;
mod resolve;
mod scene;
mod training;

use serde::{Deserialize, Serialize};

pub use background::Background;
pub use budget::Budget;
pub use check::InvalidValue;
pub use distillation::Distillation;
pub use meta::Meta;
pub use occupancy::Occupancy;
pub use optimizer::{Algorithm, Optimizer};
pub use options::ConfigOptions;
pub(crate) use options::key_of;
pub use passes::{
    Cells, ColorActivation, DensityActivation, DirectionEncoding, FeatureActivation, FieldConfig,
    FrequencyConfig, HashGridConfig, Initialization, NetworkConfig, PassConfig, PositionEncoding,
    Sampler, Spacing,
};
pub(crate) use resolve::resolved;
pub use resolve::{ResolvedConfig, SceneHints};
pub use scene::{
    DEFAULT_SCALE, ForwardFacing, LengthUnit, Ndc, RayDirection, SCALE_RANGE, Scene, Surroundings,
};
pub use training::{Loss, Precision, Training};

use overrides::set;

/// An error in a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the config {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The text is not TOML, or a key is unknown or of the wrong type.
    #[error("in the config {origin}: {reason}")]
    Parse {
        /// File or preset.
        origin: String,
        /// Location and cause.
        reason: String,
    },
    /// A value is out of its range.
    #[error("in the config {origin}: `{key}` {reason}")]
    Value {
        /// File or preset.
        origin: String,
        /// Dotted key.
        key: String,
        /// The value and its allowed range.
        reason: String,
    },
    /// There is no such preset.
    #[error("there is no method `{name}`; there are: {known} (or give a file with --config)")]
    NoSuchMethod {
        /// The requested name.
        name: String,
        /// The names of all presets.
        known: String,
    },
    /// A `--set` override is malformed, or makes the configuration invalid.
    #[error("--set {text}: {reason}")]
    Set {
        /// The override as given.
        text: String,
        /// The cause.
        reason: String,
    },
}

const PRESETS: [(&str, &str); 9] = [
    ("ngp", include_str!("../assets/configs/ngp.toml")),
    (
        "ngp-small",
        include_str!("../assets/configs/ngp-small.toml"),
    ),
    ("nerf", include_str!("../assets/configs/nerf.toml")),
    (
        "nerf-lowres",
        include_str!("../assets/configs/nerf-lowres.toml"),
    ),
    (
        "nerf-small",
        include_str!("../assets/configs/nerf-small.toml"),
    ),
    ("kilonerf", include_str!("../assets/configs/kilonerf.toml")),
    (
        "kilonerf-small",
        include_str!("../assets/configs/kilonerf-small.toml"),
    ),
    ("learnit", include_str!("../assets/configs/learnit.toml")),
    (
        "learnit-small",
        include_str!("../assets/configs/learnit-small.toml"),
    ),
];

/// The configuration of a run. It is complete once [`Config::resolve`] has filled in the settings that depend on
/// the scene and the adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the method, for reports only.
    pub method: String,
    /// Seed of all random numbers.
    #[serde(default)]
    pub seed: u32,
    /// Bounding box, coordinate frame and backgrounds of the scene.
    pub scene: Scene,
    /// Batch size, ray count, and schedules and regularisers of training.
    pub training: Training,
    /// Optimiser and learning-rate schedule.
    pub optimizer: Optimizer,
    /// Distillation from a teacher field, before training on images; none by default.
    #[serde(default)]
    pub distillation: Option<Distillation>,
    /// Meta-learning of an initialisation; used only by `kiln meta`.
    #[serde(default)]
    pub meta: Option<Meta>,
    /// Loss on composited colours.
    pub loss: Loss,
    /// The occupancy grid with which ray marching skips empty space; required if a pass marches rays.
    #[serde(default)]
    pub occupancy: Option<Occupancy>,
    /// Sampler and field of each pass, 1 to 4. An importance sampler uses the samples of the previous pass; the
    /// last pass renders the image.
    pub passes: Vec<PassConfig>,
}

/// Maximum size of a configuration file in bytes.
const MAX_BYTES: u64 = 1 << 20;

impl Config {
    /// Whether any setting depends on the content of the images.
    #[must_use]
    pub fn depends_on_images(&self) -> bool {
        let Scene {
            aabb_scale,
            background,
            eval_background,
            ..
        } = self.scene;
        let is_auto = |b| matches!(b, Background::Auto(_));
        let training = &self.training;
        let starts_anywhere = training.near_steps > 0 && training.near_start.is_none();
        aabb_scale.is_none() || is_auto(background) || is_auto(eval_background) || starts_anywhere
    }

    /// Return the optimiser of the training steps. In meta-learning these are the inner steps, which have no moving average,
    /// since tasks are too short for one.
    #[must_use]
    pub fn inner_optimizer(&self) -> Optimizer {
        let mut optimizer = self.optimizer.clone();
        if self.meta.is_some() {
            optimizer.ema_decay = 0.0;
        }
        optimizer
    }

    /// Number of distillation steps, which come first; 0 without a teacher.
    #[must_use]
    pub fn distillation_steps(&self) -> u32 {
        let taught = self.distillation.as_ref();
        let taught = taught.filter(|d| !d.teacher.is_empty());
        taught.map_or(0, |d| d.steps)
    }

    /// Names of the presets.
    #[must_use]
    pub fn presets() -> Vec<&'static str> {
        PRESETS.iter().map(|&(name, _)| name).collect()
    }

    /// Return the preset that is to a software adapter what `method` is to a GPU, if there is one.
    #[must_use]
    pub fn small_twin(method: &str) -> Option<String> {
        let family = method.split('-').next().unwrap_or_default();
        let twin = format!("{family}-small");
        (twin != method && Self::presets().contains(&&*twin)).then_some(twin)
    }

    /// Load a preset with `--set` overrides.
    pub fn preset(name: &str, overrides: &[String]) -> Result<Self, ConfigError> {
        let (_, text) =
            PRESETS
                .iter()
                .find(|&&(n, _)| n == name)
                .ok_or_else(|| ConfigError::NoSuchMethod {
                    name: name.to_owned(),
                    known: Self::presets().join(", "),
                })?;
        Self::parse(text, name, overrides)
    }

    /// Load a file with `--set` overrides.
    pub fn from_file(path: &std::path::Path, overrides: &[String]) -> Result<Self, ConfigError> {
        let origin = path.display().to_string();
        let bytes = crate::files::read_file(path, MAX_BYTES);
        let text = bytes.and_then(|bytes| {
            let invalid = |e| std::io::Error::new(std::io::ErrorKind::InvalidData, e);
            String::from_utf8(bytes).map_err(invalid)
        });
        let text = text.map_err(|source| ConfigError::Read {
            path: origin.clone(),
            source,
        })?;
        Self::parse(&text, &origin, overrides)
    }

    /// Parse `text`, apply `overrides` (`key.path=value`), and check every value.
    pub fn parse(text: &str, origin: &str, overrides: &[String]) -> Result<Self, ConfigError> {
        let fault = |e: toml::de::Error| ConfigError::Parse {
            origin: origin.to_owned(),
            reason: e.to_string().trim().replace('\n', "\n  "),
        };
        let mut table: toml::Table = toml::from_str(text).map_err(fault)?;
        for text in overrides {
            set(&mut table, text)?;
        }
        Self::from_table(table)
            .map_err(|reason| Self::locate_fault(text, origin, overrides, reason))
    }

    /// Deserialize and check `table`; the error is on one line.
    fn from_table(table: toml::Table) -> Result<Self, String> {
        let config = Self::deserialize(toml::Value::Table(table))
            .map_err(|e| e.to_string().trim().replace('\n', ", "))?;
        config
            .check()
            .map_err(|InvalidValue { key, reason }| format!("`{key}` {reason}"))?;
        Ok(config)
    }

    /// Attribute the error `reason`: to the text if it is invalid by itself, else to the first override that makes it invalid.
    fn locate_fault(text: &str, origin: &str, overrides: &[String], reason: String) -> ConfigError {
        match toml::from_str::<Self>(text) {
            Err(e) => {
                let reason = e.to_string().trim().replace('\n', "\n  ");
                return ConfigError::Parse {
                    origin: origin.to_owned(),
                    reason,
                };
            }
            Ok(config) => {
                if let Err(InvalidValue { key, reason }) = config.check() {
                    return ConfigError::Value {
                        origin: origin.to_owned(),
                        key,
                        reason,
                    };
                }
            }
        }
        let mut table: toml::Table = toml::from_str(text).unwrap_or_default();
        // The first override from which on the table stays invalid: an earlier fault may be corrected by a later override.
        let mut culprit = None;
        for text in overrides {
            let outcome = set(&mut table, text).map(|()| Self::from_table(table.clone()));
            match outcome {
                Ok(Ok(_)) => culprit = None,
                Ok(Err(reason)) if culprit.is_none() => {
                    culprit = Some(overrides::fault(text, reason));
                }
                _ => {}
            }
        }
        if let Some(culprit) = culprit {
            return culprit;
        }
        ConfigError::Parse {
            origin: origin.to_owned(),
            reason,
        }
    }

    /// The complete configuration as TOML.
    ///
    /// # Panics
    /// Never: TOML can represent every field.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a configuration can be written as TOML")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: &str = "passes.field.position_encoding.hash_grid";

    fn small(overrides: &[&str]) -> Result<Config, ConfigError> {
        Config::preset(
            "ngp-small",
            &overrides
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn a_resolved_configuration_can_be_read_again() {
        for levels in [1, 2, 8, 32] {
            for aabb_scale in [1, 128] {
                let overrides = [
                    format!("{GRID}.n_levels={levels}"),
                    format!("{GRID}.finest_resolution=65536"),
                    format!("scene.aabb_scale={aabb_scale}"),
                ];
                let config = small(&overrides.each_ref().map(String::as_str)).unwrap();
                let config = config.resolve(SceneHints::default(), Budget::SOFTWARE);
                assert_eq!(
                    Config::parse(&config.to_toml(), "itself", &[]).unwrap(),
                    *config
                );
            }
        }
    }

    #[test]
    fn runs_without_a_setting_are_read_with_its_neutral_value() {
        let written = small(&["scene.aabb_scale=8"]).unwrap();
        let config = ResolvedConfig::from_run(written);
        assert_eq!((config.scale(), config.offset()), (DEFAULT_SCALE, [0.5; 3]));
        assert_eq!(config.training.near_start, None);
        assert_eq!(config.passes[0].field.density_bias, None);
        let Sampler::RayMarch {
            cone_angle,
            coarse_steps,
            ..
        } = config.passes[0].sampler
        else {
            panic!("ngp-small marches rays");
        };
        assert_eq!((cone_angle, coarse_steps), (Some(0.0), Some(0)));
        // The filled-in values can be parsed again for any size of the grid.
        for resolution in [16, 32, 128] {
            let sized = format!("occupancy.resolution={resolution}");
            let mut written = small(&[&sized]).unwrap();
            written.occupancy.as_mut().unwrap().cells_per_update = None;
            let config = ResolvedConfig::from_run(written);
            assert_eq!(
                Config::parse(&config.to_toml(), "itself", &[]).unwrap(),
                *config
            );
        }
        // Filling in is idempotent.
        assert_eq!(ResolvedConfig::from_run((*config).clone()), config);
    }

    #[test]
    fn boxes_of_cascades_begin_thin_and_coarse() {
        let resolved = |preset: &str, overrides: &[&str]| {
            let overrides: Vec<_> = overrides.iter().map(ToString::to_string).collect();
            let config = Config::preset(preset, &overrides).unwrap();
            let config = config.resolve(SceneHints::default(), Budget::SOFTWARE);
            let Sampler::RayMarch {
                cone_angle,
                coarse_steps,
                ..
            } = config.passes[0].sampler
            else {
                panic!("{preset} marches rays");
            };
            let bias = config.passes[0].field.density_bias;
            (cone_angle.unwrap(), coarse_steps.unwrap(), bias)
        };
        let (box_of_8, cube) = ("scene.aabb_scale=8", "scene.aabb_scale=1");
        assert_eq!(resolved("ngp-small", &[cube]), (0.0, 0, None));
        assert_eq!(
            resolved("ngp-small", &[box_of_8]),
            (1.0 / 64.0, 1024, Some(-1.2))
        );
        // Cone angle and initial density as in Instant-NGP.
        assert_eq!(resolved("ngp", &[box_of_8]), (1.0 / 256.0, 0, None));
        let world = [box_of_8, "scene.length=\"world\""];
        assert_eq!(resolved("ngp-small", &world), (1.0 / 64.0, 1024, None));
        let typed = [
            box_of_8,
            "passes.field.density_bias=0.5",
            "passes.sampler.ray_march.cone_angle=0.01",
            "passes.sampler.ray_march.coarse_steps=7",
        ];
        assert_eq!(resolved("ngp-small", &typed), (0.01, 7, Some(0.5)));
    }

    #[test]
    fn scenes_that_fill_their_images_are_opaque_before_their_mean_colour() {
        let resolved = |overrides: &[&str], surroundings| {
            let config = small(overrides).unwrap();
            let hints = SceneHints {
                surroundings: Some(surroundings),
                ..SceneHints::default()
            };
            let config = config.resolve(hints, Budget::SOFTWARE);
            let scene = &config.scene;
            (
                scene.background.to_string(),
                scene.eval_background.to_string(),
                config.training.opacity_loss,
            )
        };
        let told = |back: &str, eval: &str, loss| (back.to_owned(), eval.to_owned(), loss);
        let (filled, plain) = (
            Surroundings::Filled([16, 32, 48]),
            Surroundings::Plain([255; 3]),
        );
        let mean = "#102030";
        assert_eq!(resolved(&[], filled), told(mean, mean, Some(0.29)));
        assert_eq!(resolved(&[], plain), told("white", "white", None));
        let random = told("random", "white", None);
        assert_eq!(resolved(&[], Surroundings::Transparent), random);
        // Where images are transparent, nothing may be.
        let mask_loss = |overrides: &[&str], surroundings| {
            let hints = SceneHints {
                surroundings: Some(surroundings),
                ..SceneHints::default()
            };
            let config = small(overrides).unwrap().resolve(hints, Budget::SOFTWARE);
            config.training.mask_loss
        };
        assert_eq!(mask_loss(&[], Surroundings::Transparent), Some(5e-3));
        assert_eq!(mask_loss(&[], plain), None);
        let own = ["training.mask_loss=0.1"];
        assert_eq!(mask_loss(&own, Surroundings::Transparent), Some(0.1));
        let white = ["scene.background=white"];
        assert_eq!(mask_loss(&white, Surroundings::Transparent), None);
        // A warm-up keeps the colours alive in front of one colour.
        let optimizer = |overrides: &[&str], surroundings| {
            let hints = SceneHints {
                surroundings: Some(surroundings),
                ..SceneHints::default()
            };
            let config = small(overrides).unwrap().resolve(hints, Budget::SOFTWARE);
            config.optimizer.clone()
        };
        let warmup = |overrides, surroundings| optimizer(overrides, surroundings).warmup_steps;
        assert_eq!(warmup(&[], plain), Some(128));
        assert_eq!(warmup(&white, Surroundings::Transparent), Some(128));
        assert_eq!(warmup(&[], Surroundings::Transparent), Some(0));
        assert_eq!(warmup(&[], filled), Some(0));
        assert_eq!(warmup(&["optimizer.warmup_steps=7"], plain), Some(7));
        // The networks of objects learn more slowly.
        let rate = |overrides, surroundings| optimizer(overrides, surroundings).network_rate;
        assert_eq!(rate(&[], plain), Some(0.25));
        assert_eq!(rate(&white, Surroundings::Transparent), Some(0.5));
        assert_eq!(rate(&[], filled), Some(1.0));
        assert_eq!(rate(&["optimizer.network_rate=0.1"], plain), Some(0.1));
        let frequencies = ["passes.field.position_encoding={frequency={n_frequencies=4}}"];
        assert_eq!(rate(&frequencies, plain), Some(1.0));
        // An explicit background may be visible through the scene, so there is no opacity loss.
        let black = ["scene.background=black"];
        assert_eq!(resolved(&black, filled), told("black", "black", None));
        let none = ["training.opacity_loss=0"];
        assert_eq!(resolved(&none, filled), told(mean, mean, Some(0.0)));
        for wrong in ["-1", "1.5", "nan"] {
            let wrong = format!("training.opacity_loss={wrong}");
            let refused = small(&[&wrong]).unwrap_err().to_string();
            assert!(refused.contains("training.opacity_loss"), "{refused}");
            let wrong = wrong.replace("opacity", "mask");
            let refused = small(&[&wrong]).unwrap_err().to_string();
            assert!(refused.contains("training.mask_loss"), "{refused}");
        }
    }

    #[test]
    fn rays_start_halfway_to_what_fills_the_images() {
        let resolved = |preset: &str, overrides: &[&str], distance: Option<f64>| {
            let overrides: Vec<_> = overrides.iter().map(ToString::to_string).collect();
            let config = Config::preset(preset, &overrides).unwrap();
            let hints = SceneHints {
                distance,
                ..SceneHints::default()
            };
            let config = config.resolve(hints, Budget::SOFTWARE);
            config.training.near_start
        };
        let far = Some(4000.0);
        assert_eq!(resolved("ngp-small", &[], far), Some(2000.0));
        assert_eq!(resolved("ngp", &[], far), Some(2000.0));
        assert_eq!(resolved("ngp-small", &[], None), None);
        assert_eq!(resolved("nerf", &[], far), None);
        let typed = ["training.near_start=20"];
        assert_eq!(resolved("ngp-small", &typed, far), Some(20.0));
        // `near_start` depends on the images, even if everything else is given.
        let given = [
            "scene.aabb_scale=8",
            "scene.background=black",
            "scene.eval_background=black",
        ];
        let given = given.map(str::to_owned);
        let preset = |name: &str| Config::preset(name, &given).unwrap();
        assert!(preset("ngp").depends_on_images() && !preset("nerf").depends_on_images());
        let off = ["training.near_steps=0"];
        assert_eq!(resolved("ngp-small", &off, far), None);
    }

    #[test]
    fn values_without_a_text_in_shaders_are_refused() {
        for key in [
            "scene.pixel_center",
            "scene.near",
            "scene.scale",
            "training.near_start",
            "optimizer.l2_reg",
            "optimizer.norm_reg",
            "occupancy.threshold",
        ] {
            for value in ["nan", "inf", "-inf", "1e39"] {
                let error = small(&[&format!("{key}={value}")]).unwrap_err().to_string();
                assert!(
                    error.contains(&format!("`{key}` is")) && error.contains("finite"),
                    "{error}"
                );
            }
        }
        let error = small(&["scene.offset=[0.5, nan, 0.5]"])
            .unwrap_err()
            .to_string();
        assert!(error.contains("`scene.offset` is NaN"), "{error}");
    }

    #[test]
    fn the_override_that_is_wrong_is_named() {
        let error = small(&["seed=1", "optimizer.nosuch=1", "seed=2"])
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("--set optimizer.nosuch=1: unknown field `nosuch`"),
            "{error}"
        );
        assert!(!error.contains('\n'), "{error}");
        let error = small(&["seed=1", "training.batch_size=0"])
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("--set training.batch_size=0: `training.batch_size` is 0; it must"),
            "{error}"
        );
        // Two overrides that are valid only together.
        assert!(
            small(&[
                &format!("{GRID}.finest_resolution=8"),
                &format!("{GRID}.base_resolution=4")
            ])
            .is_ok()
        );
    }

    #[test]
    fn what_is_wrong_with_the_text_is_not_blamed_on_an_override() {
        let text = PRESETS[1].1.replace("batch_size = 16384", "batch_size = 3");
        let error = Config::parse(&text, "my.toml", &["seed=1".to_owned()])
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("in the config my.toml: `training.batch_size` is 3"),
            "{error}"
        );
        let text = PRESETS[1].1.replace("batch_size", "batchsize");
        let error = Config::parse(&text, "my.toml", &["seed=1".to_owned()])
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("in the config my.toml: ")
                && error.contains("unknown field `batchsize`"),
            "{error}"
        );
    }

    #[test]
    fn grids_finer_than_f32_are_refused() {
        let error = small(&[
            &format!("{GRID}.n_levels=32"),
            &format!("{GRID}.n_features_per_level=1"),
            &format!("{GRID}.per_level_scale=8"),
        ]);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("16777216 cells per axis at most"), "{error}");
        let error = small(&["training.submission_ms=1e30"])
            .unwrap_err()
            .to_string();
        assert!(error.contains("60000 at most"), "{error}");
    }
}
