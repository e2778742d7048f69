//! Fills in the settings that a configuration leaves to the scene and the device.

use std::ops::Deref;

use serde::Serialize;

use super::{
    Background, Budget, Cells, Config, DEFAULT_SCALE, DensityActivation, ForwardFacing, LengthUnit,
    Ndc, PositionEncoding, Sampler, Spacing, Surroundings,
};

/// Bias on raw density in boxes with cascades: a third of the initial density, since rays are longer there.
const BIAS_IN_CASCADES: f32 = -1.2;

/// Smallest cone angle for which [`BIAS_IN_CASCADES`] applies: with shorter steps, a thin field costs too many samples per ray.
const LONG_STEPS: f32 = 1.0 / 128.0;

/// Number of initial training steps with coarser ray marching, if the cone angle is at least [`LONG_STEPS`].
const COARSE_STEPS: u32 = 1024;

/// Weight of the loss on transmittance if the scene fills its images: the standard deviation of colours uniform in [0, 1].
const OPACITY_LOSS: f32 = 0.29;

/// Weight of the loss on opacity where images are transparent.
const MASK_LOSS: f32 = 5e-3;

/// Initial start of rays, as a fraction of the cameras' distance from their focus.
const NEAR_START: f64 = 0.5;

/// Default of `optimizer.warmup_steps` for hash grids in front of one colour.
const WARMUP_STEPS: u32 = 128;

/// Defaults of `optimizer.network_rate` for hash grids of objects, whose images show one colour around them, or are transparent.
const RATE_BEFORE_ONE_COLOR: f32 = 0.25;
const RATE_OF_TRANSPARENT: f32 = 0.5;

/// Properties of a dataset's scene that settings depend on.
#[derive(Debug, Clone, Copy, Default)]
pub struct SceneHints {
    /// Side of the scene's box in unit cubes.
    pub aabb_scale: Option<u32>,
    /// Scale from world units to the unit cube.
    pub scale: Option<f64>,
    /// Offset that is added after `scale`.
    pub offset: Option<[f64; 3]>,
    /// Centre of the unit cube in world units; kept if the configuration gives another `scale`.
    pub center: Option<[f64; 3]>,
    /// What the images show around the scene.
    pub surroundings: Option<Surroundings>,
    /// Distance of the cameras from their focus in world units, if the scene fills the images.
    pub distance: Option<f64>,
    /// Whether the dataset's reader has normalised world units by the scene's depths.
    pub is_normalized: bool,
    /// Normalised device coordinates of a forward-facing capture.
    pub forward_facing: Option<Ndc>,
}

impl Config {
    /// Fill in the settings that depend on the scene (`hints`) and on the device (`budget`).
    #[must_use]
    pub fn resolve(mut self, hints: SceneHints, budget: impl Into<Budget>) -> ResolvedConfig {
        let budget = budget.into();
        let scene = &mut self.scene;
        if scene.forward_facing == ForwardFacing::Ndc
            && let Some(ndc) = hints.forward_facing
        {
            scene.ndc.get_or_insert(ndc);
        }
        if scene.ndc.is_some() {
            // Normalised device coordinates lie between -1 and 1.
            scene.scale.get_or_insert(0.5);
            scene.offset.get_or_insert([0.5; 3]);
            scene.aabb_scale.get_or_insert(1);
        }
        let in_world = scene.ndc.is_none();
        let aabb_scale = *scene
            .aabb_scale
            .get_or_insert(hints.aabb_scale.unwrap_or(1));
        let own = hints.scale.unwrap_or(DEFAULT_SCALE);
        let scale = *scene.scale.get_or_insert(own);
        let offset = match (hints.offset, hints.center) {
            // Keep the centre.
            (Some(_), Some(center)) if scale.to_bits() != own.to_bits() => {
                center.map(|c| 0.5 - scale * c)
            }
            (offset, _) => offset.unwrap_or([0.5; 3]),
        };
        scene.offset.get_or_insert(offset);
        if matches!(scene.background, Background::Auto(_)) {
            match hints.surroundings {
                Some(Surroundings::Filled(_)) => {
                    self.training.opacity_loss.get_or_insert(OPACITY_LOSS);
                }
                Some(Surroundings::Transparent) => {
                    self.training.mask_loss.get_or_insert(MASK_LOSS);
                }
                Some(Surroundings::Plain(_)) | None => {}
            }
        }
        scene.resolve_backgrounds(hints.surroundings);
        let is_filled = matches!(hints.surroundings, Some(Surroundings::Filled(_)));
        let is_of_one_color = matches!(scene.background, Background::Fixed(_)) && !is_filled;
        let has_grid = self
            .passes
            .iter()
            .any(|pass| matches!(pass.field.position_encoding, PositionEncoding::HashGrid(_)));
        let learns_grid = has_grid && self.meta.is_none();
        let warmup = if is_of_one_color && learns_grid {
            WARMUP_STEPS
        } else {
            0
        };
        let network_rate = match hints.surroundings {
            Some(Surroundings::Plain(_)) if learns_grid => RATE_BEFORE_ONE_COLOR,
            Some(Surroundings::Transparent) if learns_grid => RATE_OF_TRANSPARENT,
            _ => 1.0,
        };
        self.optimizer.warmup_steps.get_or_insert(warmup);
        self.optimizer.network_rate.get_or_insert(network_rate);
        if self.training.near_steps > 0
            && in_world
            && let Some(distance) = hints.distance
        {
            let start = (NEAR_START * distance) as f32;
            self.training.near_start.get_or_insert(start);
        }
        if hints.is_normalized || !in_world {
            scene.length = LengthUnit::World;
        }
        let length = scene.length;
        // With fewer samples, updating the networks of a grid costs more than evaluating them.
        let cells = self.passes.iter().filter_map(|p| p.field.cells.as_ref());
        let networks = cells.map(Cells::n_networks).max().unwrap_or(0);
        let enough = (64 * networks).next_power_of_two();
        let batch = *self
            .training
            .batch_size
            .get_or_insert(enough.clamp(budget.batch_size, 1 << 18));
        // Micro-batches are small enough for a slow adapter to finish a stage within a submission.
        let max_part = budget.max_micro_batch.filter(|_| networks == 0);
        let parts = max_part.map_or(1, |most| batch.div_ceil(most));
        if self.training.n_rays.is_none() {
            self.training.micro_batches.get_or_insert(parts);
        }
        if let Some(occupancy) = &mut self.occupancy {
            let cells = occupancy.n_cells(aabb_scale);
            occupancy
                .cells_per_update
                .get_or_insert(if budget.uses_small_presets {
                    batch.max(2048)
                } else {
                    (cells / 4).clamp(2048, 1 << 19)
                });
        }
        for pass in &mut self.passes {
            match &mut pass.sampler {
                Sampler::RayMarch {
                    steps,
                    cone_angle,
                    coarse_steps,
                    ..
                } => {
                    let wanted = if aabb_scale > 1 {
                        4.0 / *steps as f32
                    } else {
                        0.0
                    };
                    let growth = *cone_angle.get_or_insert(wanted);
                    let is_long = aabb_scale > 1 && growth >= LONG_STEPS;
                    // Meta-learning starts anew with every object.
                    let coarse = is_long && self.meta.is_none();
                    coarse_steps.get_or_insert(if coarse { COARSE_STEPS } else { 0 });
                    let is_exp = pass.field.density_activation == DensityActivation::Exp;
                    if is_long && is_exp && length == LengthUnit::Normalized {
                        pass.field.density_bias.get_or_insert(BIAS_IN_CASCADES);
                    }
                }
                Sampler::Stratified { spacing, .. } => {
                    spacing.get_or_insert(if hints.is_normalized && in_world {
                        Spacing::Disparity
                    } else {
                        Spacing::Linear
                    });
                }
                Sampler::Importance { .. } => {}
            }
        }
        ResolvedConfig::from_run(self)
    }
}

/// A complete configuration: every setting that depends on the scene and the device has a value. Made by [`Config::resolve`] and
/// [`Self::from_run`].
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct ResolvedConfig(Config);

impl Deref for ResolvedConfig {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.0
    }
}

/// The value of a setting that every [`ResolvedConfig`] has.
///
/// # Panics
/// If the setting is `None`.
pub(crate) fn resolved<T>(setting: Option<T>) -> T {
    setting.expect("a resolved configuration has this setting")
}

impl ResolvedConfig {
    /// The configuration of an existing run. Settings that its version did not have get their neutral values.
    #[must_use]
    pub fn from_run(mut config: Config) -> Self {
        let scene = &mut config.scene;
        let aabb_scale = *scene.aabb_scale.get_or_insert(1);
        scene.scale.get_or_insert(DEFAULT_SCALE);
        scene.offset.get_or_insert([0.5; 3]);
        let (unit_scale, unit_offset) = scene.unit_cube();
        let training = &mut config.training;
        let batch = *training
            .batch_size
            .get_or_insert(Budget::SOFTWARE.batch_size);
        if training.n_rays.is_none() {
            training.micro_batches.get_or_insert(1);
            training.max_rays.get_or_insert(batch.clamp(256, 1 << 18));
            training.initial_rays.get_or_insert((batch / 64).max(64));
        }
        if let Some(occupancy) = &mut config.occupancy {
            let cells = occupancy.n_cells(aabb_scale);
            let per_update = (cells / 4).max(2048);
            occupancy.cells_per_update.get_or_insert(per_update);
        }
        for pass in &mut config.passes {
            match &mut pass.sampler {
                Sampler::RayMarch {
                    cone_angle,
                    coarse_steps,
                    ..
                } => {
                    cone_angle.get_or_insert(0.0);
                    coarse_steps.get_or_insert(0);
                }
                Sampler::Stratified { spacing, .. } => {
                    spacing.get_or_insert(Spacing::Linear);
                }
                Sampler::Importance { .. } => {}
            }
            match &mut pass.field.position_encoding {
                PositionEncoding::HashGrid(grid) => {
                    let levels = f64::from(grid.n_levels.max(2) - 1);
                    let finest = f64::from(grid.finest_resolution) * f64::from(aabb_scale);
                    grid.per_level_scale.get_or_insert(
                        (finest / f64::from(grid.base_resolution)).powf(1.0 / levels),
                    );
                }
                PositionEncoding::Frequency(frequency) => {
                    let side = aabb_scale as f32;
                    let scale = unit_scale as f32;
                    frequency.scale.get_or_insert(side / scale);
                    let low = unit_offset.map(|o| (0.5 - side / 2.0 - o as f32) / scale);
                    frequency.offset.get_or_insert(low);
                }
            }
        }
        Self(config)
    }

    /// Side of the scene's box in unit cubes.
    #[must_use]
    pub fn aabb_scale(&self) -> u32 {
        resolved(self.scene.aabb_scale)
    }

    /// Scale from world units to the unit cube.
    #[must_use]
    pub fn scale(&self) -> f64 {
        resolved(self.scene.scale)
    }

    /// Offset that is added after [`Self::scale`].
    #[must_use]
    pub fn offset(&self) -> [f64; 3] {
        resolved(self.scene.offset)
    }

    /// Samples evaluated per step.
    #[must_use]
    pub fn batch_size(&self) -> u32 {
        resolved(self.training.batch_size)
    }

    /// Largest number of rays per step.
    #[must_use]
    pub fn max_rays(&self) -> u32 {
        let training = &self.training;
        training
            .n_rays
            .unwrap_or_else(|| resolved(training.max_rays))
    }

    /// Rays of the first step.
    #[must_use]
    pub fn first_rays(&self) -> u32 {
        let training = &self.training;
        training
            .n_rays
            .unwrap_or_else(|| resolved(training.initial_rays))
    }

    /// Apply `change`, and fill in what it removed with neutral values.
    #[must_use]
    pub fn with(&self, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = self.0.clone();
        change(&mut config);
        Self::from_run(config)
    }
}
