//! The configuration of a run: a TOML file that says everything about a method. A method is data: the presets in
//! `assets/configs/` are such files.

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

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the config {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The text is not TOML, or a key is unknown or of the wrong type.
    #[error("in the config {origin}: {reason}")]
    Parse {
        /// File or preset.
        origin: String,
        /// Where and what.
        reason: String,
    },
    /// A value is impossible.
    #[error("in the config {origin}: `{key}` {reason}")]
    Value {
        /// File or preset.
        origin: String,
        /// Dotted key.
        key: String,
        /// What it should be.
        reason: String,
    },
    /// There is no such preset.
    #[error("there is no method `{name}`; there are: {known} (or give a file with --config)")]
    NoSuchMethod {
        /// What was asked for.
        name: String,
        /// The presets.
        known: String,
    },
    /// A `--set` is malformed, or sets what cannot be.
    #[error("--set {text}: {reason}")]
    Set {
        /// As typed.
        text: String,
        /// What is wrong.
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

/// A run's configuration, complete once [`Config::resolve`] has filled in what depends on the scene and the adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the method, for reports only.
    pub method: String,
    /// Seed of all random numbers.
    #[serde(default)]
    pub seed: u32,
    /// The scene's box, frame and colours.
    pub scene: Scene,
    /// Batches.
    pub training: Training,
    /// The optimiser and its schedule.
    pub optimizer: Optimizer,
    /// How the field learns from another one, where it does, before it is trained on images.
    #[serde(default)]
    pub distillation: Option<Distillation>,
    /// How weights to begin with are learned from many objects; `kiln meta` alone looks at it.
    #[serde(default)]
    pub meta: Option<Meta>,
    /// The loss on composited colours.
    pub loss: Loss,
    /// The occupancy grid that ray marching skips empty space with; needed where a pass marches.
    #[serde(default)]
    pub occupancy: Option<Occupancy>,
    /// Sampler and field of each pass; an importance sampler looks at the pass before its own, and the last one makes the
    /// image.
    pub passes: Vec<PassConfig>,
}

/// Longest file that is read.
const MAX_BYTES: u64 = 1 << 20;

impl Config {
    /// Whether something of it depends on what the images show.
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

    /// The optimiser of the steps, which average nothing where weights to begin with are learned: tasks are too short.
    #[must_use]
    pub fn inner_optimizer(&self) -> Optimizer {
        let mut optimizer = self.optimizer.clone();
        if self.meta.is_some() {
            optimizer.ema_decay = 0.0;
        }
        optimizer
    }

    /// Steps that learn from a teacher, which are the first ones; 0 where there is none.
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

    /// Load a preset with `--set` overrides.
    ///
    /// # Errors
    /// [`ConfigError`]
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
    ///
    /// # Errors
    /// [`ConfigError`]
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
    ///
    /// # Errors
    /// [`ConfigError`]
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

    /// The configuration in `table`, or on one line what is wrong with it.
    fn from_table(table: toml::Table) -> Result<Self, String> {
        let config = Self::deserialize(toml::Value::Table(table))
            .map_err(|e| e.to_string().trim().replace('\n', ", "))?;
        config
            .check()
            .map_err(|InvalidValue { key, reason }| format!("`{key}` {reason}"))?;
        Ok(config)
    }

    /// Whose fault `reason` is: the text's, if it is wrong by itself, else the first override's that breaks it.
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
        // The one that broke it for good: an earlier one may be wrong without a later one.
        let mut culprit = None;
        for text in overrides {
            let outcome = set(&mut table, text).map(|()| Self::from_table(table.clone()));
            match outcome {
                Ok(Ok(_)) => culprit = None,
                Ok(Err(reason)) if culprit.is_none() => {
                    culprit = Some(ConfigError::Set {
                        text: text.clone(),
                        reason,
                    });
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
    /// Never: every field has a form in TOML.
    #[must_use]
    pub fn to_toml(&self) -> String {
        // Every field is a table, a list or a value that TOML has.
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
        // What is filled in can be read again, whatever the grid's size.
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
        // What is filled in once stays.
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
        // Instant-NGP's own step and beginning.
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
        // A background that is asked for may be what is seen through the scene.
        let black = ["scene.background=black"];
        assert_eq!(resolved(&black, filled), told("black", "black", None));
        let none = ["training.opacity_loss=0"];
        assert_eq!(resolved(&none, filled), told(mean, mean, Some(0.0)));
        for wrong in ["-1", "1.5", "nan"] {
            let wrong = format!("training.opacity_loss={wrong}");
            let refused = small(&[&wrong]).unwrap_err().to_string();
            assert!(refused.contains("training.opacity_loss"), "{refused}");
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
        // The images are looked at for it, whatever else is given.
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
        // Two that are only right together.
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
