//! Checks of configuration values: ranges, and constraints between settings.

mod passes;

use super::{
    Background, Config, ForwardFacing, Loss, Meta, Occupancy, Optimizer, PassConfig,
    PositionEncoding, SCALE_RANGE, Sampler,
};

/// A key with an invalid value.
#[derive(Debug, thiserror::Error)]
#[error("`{key}` {reason}")]
pub struct InvalidValue {
    /// Dotted key.
    pub key: String,
    /// The value, and its allowed range.
    pub reason: String,
}

fn invalid(key: &str, reason: impl Into<String>) -> InvalidValue {
    InvalidValue {
        key: key.to_owned(),
        reason: reason.into(),
    }
}

fn positive(
    key: &str,
    value: impl Into<f64> + Copy + std::fmt::Display,
) -> Result<(), InvalidValue> {
    let number: f64 = value.into();
    if number.is_finite() && number > 0.0 {
        Ok(())
    } else {
        Err(invalid(key, format!("is {value}; it must be positive")))
    }
}

fn not_negative(key: &str, value: f32) -> Result<(), InvalidValue> {
    if value >= 0.0 {
        Ok(())
    } else {
        Err(invalid(key, format!("is {value}; it must not be negative")))
    }
}

impl Optimizer {
    /// Check the values of the optimiser of table `of`.
    fn check(&self, of: &str) -> Result<(), InvalidValue> {
        let key = |name: &str| format!("{of}optimizer.{name}");
        for (name, value) in [
            ("decay_base", self.decay_base),
            ("learning_rate", self.learning_rate),
            ("epsilon", self.epsilon),
        ] {
            positive(&key(name), value)?;
        }
        if let Some(end) = self.decay_end
            && end < self.decay_start
        {
            let reason = format!("is {end}, before decay_start, {}", self.decay_start);
            return Err(invalid(&key("decay_end"), reason));
        }
        for (name, value) in [
            ("l2_reg", self.l2_reg),
            ("norm_reg", self.norm_reg),
            ("network_rate", self.network_rate.unwrap_or(1.0)),
        ] {
            not_negative(&key(name), value)?;
        }
        for (name, value) in [
            ("beta1", self.beta1),
            ("beta2", self.beta2),
            ("ema_decay", self.ema_decay),
        ] {
            if !(0.0..1.0).contains(&value) {
                let reason = format!("is {value}; it must be at least 0 and below 1");
                return Err(invalid(&key(name), reason));
            }
        }
        Ok(())
    }
}

impl Meta {
    /// Maximum number of inner steps per task: the capacity of the history of losses on the device.
    const MAX_INNER_STEPS: u32 = 256;

    fn check(&self) -> Result<(), InvalidValue> {
        self.optimizer.check("meta.")?;
        let unused = [
            ("norm_reg", self.optimizer.norm_reg > 0.0),
            ("ema_decay", self.optimizer.ema_decay > 0.0),
        ];
        if let Some((name, _)) = unused.iter().find(|(_, is_set)| *is_set) {
            let key = format!("meta.optimizer.{name}");
            return Err(invalid(
                &key,
                "is of no use to the outer steps: leave it out",
            ));
        }
        if !(1..=Self::MAX_INNER_STEPS).contains(&self.inner_steps) {
            let most = Self::MAX_INNER_STEPS;
            let reason = format!("is {}; it must lie between 1 and {most}", self.inner_steps);
            return Err(invalid("meta.inner_steps", reason));
        }
        if self.held_out_steps == 0 {
            return Err(invalid(
                "meta.held_out_steps",
                "is 0; it must be at least 1",
            ));
        }
        if self.resident_mib == 0 {
            return Err(invalid("meta.resident_mib", "is 0; it must be at least 1"));
        }
        Ok(())
    }
}

impl Config {
    /// Check all values. Configurations read from files have been checked; one built in code should be.
    ///
    /// # Errors
    /// [`InvalidValue`] names the first key with an invalid value.
    pub fn check(&self) -> Result<(), InvalidValue> {
        // Shaders hold these values as literals, which NaN and infinity do not have.
        if let Some((key, value)) = toml::Value::try_from(self)
            .ok()
            .and_then(|v| non_finite(&v, ""))
        {
            let limit = if value.is_finite() {
                " of at most 3.4e38"
            } else {
                ""
            };
            return Err(invalid(
                &key,
                format!("is {value}; it must be a finite number{limit}"),
            ));
        }
        let scene = &self.scene;
        if let Some(scale) = scene.scale {
            positive("scene.scale", scale)?;
            if !SCALE_RANGE.contains(&scale) {
                return Err(invalid(
                    "scene.scale",
                    format!("is {scale}; it must lie between 1e-15 and 1e15"),
                ));
            }
        }
        if let Some(a) = scene.aabb_scale
            && !(a.is_power_of_two() && a <= 128)
        {
            return Err(invalid(
                "scene.aabb_scale",
                format!("is {a}; it must be a power of two up to 128"),
            ));
        }
        if matches!(
            scene.eval_background,
            Background::Random | Background::Auto(None)
        ) {
            return Err(invalid(
                "scene.eval_background",
                "is no colour, which images need: white, black, #rrggbb or auto:white",
            ));
        }
        if let (Some(near), Some(far)) = (scene.near, scene.far)
            && !(near >= 0.0 && far > near && far.is_finite())
        {
            return Err(invalid(
                "scene.far",
                format!("is {far} with near {near}; it must be larger, and near not negative"),
            ));
        }
        for (key, value) in [("scene.near", scene.near), ("scene.far", scene.far)] {
            not_negative(key, value.unwrap_or(0.0))?;
        }
        if !(0.0..=1.0).contains(&scene.pixel_center) {
            return Err(invalid(
                "scene.pixel_center",
                format!("is {}; it must lie between 0 and 1", scene.pixel_center),
            ));
        }
        if let Some(ndc) = scene.ndc {
            positive("scene.ndc.near", ndc.near)?;
            positive("scene.ndc.half", ndc.half[0].min(ndc.half[1]))?;
        }
        self.optimizer.check("")?;
        let optimizer = &self.optimizer;
        let has_cells = |pass: &PassConfig| pass.field.cells.is_some();
        if optimizer.norm_reg > 0.0 && !self.passes.iter().any(has_cells) {
            return Err(invalid(
                "optimizer.norm_reg",
                format!(
                    "is {}, but no pass has cells, whose networks it is for: leave it out, or use l2_reg",
                    optimizer.norm_reg
                ),
            ));
        }
        if let Some(meta) = &self.meta {
            meta.check()?;
        }
        if let Some(batch) = self.training.batch_size
            && !(1024..=1 << 24).contains(&batch)
        {
            return Err(invalid(
                "training.batch_size",
                format!("is {batch}; it must lie between 1024 and 16777216"),
            ));
        }
        if let Some(parts) = self.training.micro_batches
            && !(1..=256).contains(&parts)
        {
            return Err(invalid(
                "training.micro_batches",
                format!("is {parts}; it must lie between 1 and 256"),
            ));
        }
        for (key, rays) in [
            ("training.initial_rays", self.training.initial_rays),
            ("training.max_rays", self.training.max_rays),
        ] {
            if let Some(rays) = rays
                && !(64..=1 << 22).contains(&rays)
            {
                return Err(invalid(
                    key,
                    format!("is {rays}; it must lie between 64 and 4194304"),
                ));
            }
        }
        if let Some(rays) = self.training.n_rays
            && !(1..=1 << 22).contains(&rays)
        {
            return Err(invalid(
                "training.n_rays",
                format!("is {rays}; it must lie between 1 and 4194304"),
            ));
        }
        let crop = self.training.crop_fraction;
        if !(crop > 0.0 && crop <= 1.0) {
            return Err(invalid(
                "training.crop_fraction",
                format!("is {crop}; it must be positive and 1 at most"),
            ));
        }
        if let Some(near) = self.training.near_start {
            not_negative("training.near_start", near)?;
            if self.training.near_steps == 0 && near > 0.0 {
                return Err(invalid(
                    "training.near_start",
                    "does nothing without training.near_steps, the steps over which rays come nearer",
                ));
            }
        }
        not_negative("training.density_noise", self.training.density_noise)?;
        if let Some(loss) = self.training.opacity_loss
            && !(0.0..=1.0).contains(&loss)
        {
            return Err(invalid(
                "training.opacity_loss",
                format!("is {loss}; it must lie between 0 and 1, as differences of colours do"),
            ));
        }
        if let Some(loss) = self.training.mask_loss
            && !(0.0..=1.0).contains(&loss)
        {
            return Err(invalid(
                "training.mask_loss",
                format!("is {loss}; it must lie between 0 and 1"),
            ));
        }
        let loss = self.training.depth_loss;
        if !(loss.is_finite() && loss >= 0.0) {
            return Err(invalid(
                "training.depth_loss",
                format!("is {loss}; it must be at least 0"),
            ));
        }
        let deviation = self.training.depth_deviation;
        if !(deviation > 0.0 && deviation <= 1.0) {
            return Err(invalid(
                "training.depth_deviation",
                format!("is {deviation}; it must lie above 0 and be at most 1"),
            ));
        }
        if !(1.0..=64.0).contains(&self.training.marched_per_kept) {
            return Err(invalid(
                "training.marched_per_kept",
                "must lie between 1 and 64",
            ));
        }
        let longest = self.training.submission_ms;
        if !(longest > 0.0 && longest <= 60_000.0) {
            return Err(invalid(
                "training.submission_ms",
                format!("is {longest}; it must be positive and 60000 at most"),
            ));
        }
        if let Loss::Huber { delta } = self.loss {
            positive("loss.huber.delta", delta)?;
        }
        if let Some(distillation) = &self.distillation {
            positive("distillation.alpha_distance", distillation.alpha_distance)?;
            positive("distillation.threshold", distillation.threshold)?;
            let counts = [
                ("distillation.steps", distillation.steps),
                (
                    "distillation.points_per_network",
                    distillation.points_per_network,
                ),
                ("distillation.supersampling", distillation.supersampling),
            ];
            if let Some((key, _)) = counts.iter().find(|(_, n)| *n == 0) {
                return Err(invalid(key, "is 0; it must be at least 1"));
            }
            let of_cells = self.passes.first().is_some_and(|p| p.field.cells.is_some());
            if !of_cells || self.passes.len() != 1 || self.occupancy.is_none() {
                return Err(invalid(
                    "distillation",
                    "is given; it teaches a method of one pass with passes.field.cells and an occupancy grid",
                ));
            }
        }
        if let Some(occupancy) = &self.occupancy {
            occupancy.check()?;
            not_negative("occupancy.threshold", occupancy.threshold)?;
        }
        self.check_passes()
    }

    fn check_passes(&self) -> Result<(), InvalidValue> {
        let n = self.passes.len();
        let training = &self.training;
        if let (Some(rays), Some(parts)) = (training.n_rays, training.micro_batches)
            && rays % parts != 0
        {
            return Err(invalid(
                "training.micro_batches",
                format!("is {parts}, which does not divide training.n_rays, {rays}"),
            ));
        }
        if !(1..=4).contains(&n) {
            return Err(invalid(
                "passes",
                format!("has {n} entries; a method needs one to four"),
            ));
        }
        // Whether samples may lie outside the scene's box.
        let mut outside = false;
        for (index, pass) in self.passes.iter().enumerate() {
            pass.check()?;
            let feeds_color = pass.field.density_to_color && pass.field.color_network.is_some();
            if training.density_noise > 0.0 && feeds_color {
                return Err(invalid(
                    "training.density_noise",
                    format!(
                        "is {}, but the color_network of pass {index} sees the density: it takes density_to_color = false",
                        training.density_noise
                    ),
                ));
            }
            outside = match pass.sampler {
                Sampler::RayMarch { .. } => false,
                Sampler::Stratified { bounded, .. } => !bounded,
                Sampler::Importance { .. } => outside,
            };
            if outside && matches!(pass.field.position_encoding, PositionEncoding::HashGrid(_)) {
                return Err(invalid(
                    "position_encoding",
                    format!(
                        "of pass {index} is a hash grid, which has no features outside the box: it takes a stratified sampler with bounded = true"
                    ),
                ));
            }
            let ndc = self.scene.ndc.is_some() || self.scene.forward_facing == ForwardFacing::Ndc;
            match pass.sampler {
                Sampler::Importance { .. } if index == 0 => {
                    return Err(invalid(
                        "passes.sampler.importance",
                        "needs a pass before its own, whose samples it looks at",
                    ));
                }
                Sampler::RayMarch { .. } if self.occupancy.is_none() => {
                    return Err(invalid(
                        "occupancy",
                        "is missing; marching rays need an occupancy grid",
                    ));
                }
                Sampler::RayMarch { .. } if ndc => {
                    return Err(invalid(
                        "scene.forward_facing",
                        "is ndc, but rays are marched in the world: it takes a stratified sampler",
                    ));
                }
                _ => {}
            }
        }
        if n > 1 && self.training.n_rays.is_none() {
            return Err(invalid(
                "training.n_rays",
                "is missing; with more than one pass the number of rays does not adapt",
            ));
        }
        Ok(())
    }
}

impl Occupancy {
    fn check(&self) -> Result<(), InvalidValue> {
        let occupancy = self;
        if !(occupancy.resolution.is_power_of_two() && (16..=256).contains(&occupancy.resolution)) {
            return Err(invalid(
                "occupancy.resolution",
                format!(
                    "is {}; it must be a power of two from 16 to 256",
                    occupancy.resolution
                ),
            ));
        }
        if occupancy.interval == 0 {
            return Err(invalid("occupancy.interval", "is 0; it must be at least 1"));
        }
        if let Some(cells) = occupancy.cells_per_update
            && !(2048..=1 << 26).contains(&cells)
        {
            return Err(invalid(
                "occupancy.cells_per_update",
                format!("is {cells}; it must lie between 2048 and 67108864"),
            ));
        }
        if !(0.0..=1.0).contains(&occupancy.decay) {
            return Err(invalid("occupancy.decay", "must lie between 0 and 1"));
        }
        Ok(())
    }
}

/// Return the first number in `value` that is NaN or infinite (as f32), with its dotted key.
fn non_finite(value: &toml::Value, key: &str) -> Option<(String, f64)> {
    match value {
        toml::Value::Float(number) if !(*number as f32).is_finite() => {
            Some((key.to_owned(), *number))
        }
        toml::Value::Array(items) => items.iter().find_map(|item| non_finite(item, key)),
        toml::Value::Table(table) => table.iter().find_map(|(name, item)| {
            let dot = if key.is_empty() { "" } else { "." };
            non_finite(item, &format!("{key}{dot}{name}"))
        }),
        _ => None,
    }
}
