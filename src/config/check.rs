//! What a configuration may not be.

use super::{
    Background, Cells, Config, DirectionEncoding, ForwardFacing, FrequencyConfig, HashGridConfig,
    Loss, Meta, NetworkConfig, Occupancy, Optimizer, PassConfig, PositionEncoding, SCALE_RANGE,
    Sampler,
};

/// A key with an impossible value, and what it should be.
#[derive(Debug)]
pub(super) struct InvalidValue {
    pub(super) key: String,
    pub(super) reason: String,
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
    /// Refuse impossible values of the optimiser of table `of`.
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
            ("network_rate", self.network_rate),
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
    /// Inner steps of a task at most: what the device remembers the losses of.
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
    /// Refuse impossible values.
    pub(super) fn check(&self) -> Result<(), InvalidValue> {
        // Shaders hold these values as text, where NaN and infinity have none.
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
        // Whether samples may lie outside the box.
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

impl HashGridConfig {
    fn check(&self) -> Result<(), InvalidValue> {
        let grid = self;
        if !(1..=32).contains(&grid.n_levels) {
            return Err(invalid(
                "hash_grid.n_levels",
                format!("is {}; it must lie between 1 and 32", grid.n_levels),
            ));
        }
        if ![1, 2, 4, 8].contains(&grid.n_features_per_level) {
            return Err(invalid(
                "hash_grid.n_features_per_level",
                format!("is {}; it must be 1, 2, 4 or 8", grid.n_features_per_level),
            ));
        }
        if !(4..=24).contains(&grid.log2_hashmap_size) {
            return Err(invalid(
                "hash_grid.log2_hashmap_size",
                format!(
                    "is {}; it must lie between 4 and 24",
                    grid.log2_hashmap_size
                ),
            ));
        }
        if !(1..=4096).contains(&grid.base_resolution)
            || !(1..=65_536).contains(&grid.finest_resolution)
        {
            return Err(invalid(
                "hash_grid.base_resolution",
                "must lie between 1 and 4096, finest_resolution up to 65536",
            ));
        }
        if grid.per_level_scale.is_none() && grid.finest_resolution < grid.base_resolution {
            return Err(invalid(
                "hash_grid.finest_resolution",
                format!(
                    "is {}; it must be at least base_resolution, {}",
                    grid.finest_resolution, grid.base_resolution
                ),
            ));
        }
        if let Some(growth) = grid.per_level_scale {
            // Beyond this f32 no longer tells neighbouring cells apart.
            const FINEST: f64 = 16_777_216.0;
            let finest =
                f64::from(grid.base_resolution) * growth.powf(f64::from(grid.n_levels - 1));
            if growth < 1.0 || finest > FINEST {
                let limit = "it must be at least 1 and the finest level have 16777216 cells per axis at most";
                return Err(invalid(
                    "hash_grid.per_level_scale",
                    format!("is {growth}, for {finest:.0} cells; {limit}"),
                ));
            }
        }
        if grid.grid_offset != 0.0 && grid.grid_offset != 0.5 {
            return Err(invalid("hash_grid.grid_offset", "must be 0 or 0.5"));
        }
        if grid.n_levels * grid.n_features_per_level > 128 {
            return Err(invalid(
                "hash_grid.n_levels",
                "times n_features_per_level must not exceed 128",
            ));
        }
        Ok(())
    }
}

impl FrequencyConfig {
    fn check(&self) -> Result<(), InvalidValue> {
        // The shader's range reduction is exact up to here.
        const HIGHEST: f64 = 15.0;
        if !(1..=20).contains(&self.n_frequencies) {
            return Err(invalid(
                "frequency.n_frequencies",
                format!("is {}; it must lie between 1 and 20", self.n_frequencies),
            ));
        }
        let highest = self.max_log2.unwrap_or(f64::from(self.n_frequencies - 1));
        if !(0.0..=HIGHEST).contains(&highest) {
            return Err(invalid(
                "frequency.max_log2",
                format!("is {highest}; it must lie between 0 and {HIGHEST}"),
            ));
        }
        if self.scale.is_some_and(|s| !(s.is_finite() && s > 0.0)) {
            return Err(invalid("frequency.scale", "must be positive"));
        }
        if self
            .offset
            .is_some_and(|o| o.iter().any(|v| !v.is_finite()))
        {
            return Err(invalid("frequency.offset", "must be three finite numbers"));
        }
        Ok(())
    }
}

impl PassConfig {
    fn check(&self) -> Result<(), InvalidValue> {
        if self.loss_weight <= 0.0 {
            return Err(invalid(
                "passes.loss_weight",
                format!("is {}; it must be positive", self.loss_weight),
            ));
        }
        let (transmittance, n) = match self.sampler {
            Sampler::RayMarch {
                steps,
                max_samples,
                min_transmittance,
                cone_angle,
                ..
            } => {
                if steps == 0 || steps > 65_536 {
                    return Err(invalid(
                        "passes.sampler.ray_march.steps",
                        "must lie between 1 and 65536",
                    ));
                }
                if cone_angle.is_some_and(|c| !(0.0..1.0).contains(&c)) {
                    return Err(invalid(
                        "passes.sampler.ray_march.cone_angle",
                        "must be at least 0 and below 1",
                    ));
                }
                (min_transmittance, max_samples)
            }
            Sampler::Stratified {
                n_samples,
                min_transmittance,
                last_interval,
                ..
            } => {
                if let Some(last) = last_interval.filter(|l| !(*l > 0.0 && *l <= 1e10)) {
                    return Err(invalid(
                        "passes.sampler.stratified.last_interval",
                        format!("is {last}; it must be above 0, and 1e10 at most"),
                    ));
                }
                (min_transmittance, n_samples)
            }
            Sampler::Importance { n_samples, .. } => (0.0, n_samples),
        };
        if !(2..=16_384).contains(&n) {
            return Err(invalid(
                "passes.sampler",
                format!("asks for {n} samples per ray; give 2 to 16384"),
            ));
        }
        if !(0.0..1.0).contains(&transmittance) {
            return Err(invalid(
                "passes.sampler",
                "has a min_transmittance outside 0 to 1",
            ));
        }
        let field = &self.field;
        match &field.position_encoding {
            PositionEncoding::HashGrid(grid) => grid.check()?,
            PositionEncoding::Frequency(frequency) => frequency.check()?,
        }
        match field.direction_encoding {
            DirectionEncoding::SphericalHarmonics { degree } if !(1..=4).contains(&degree) => {
                return Err(invalid(
                    "spherical_harmonics.degree",
                    format!("is {degree}; it must lie between 1 and 4"),
                ));
            }
            DirectionEncoding::Frequency { n_frequencies, .. }
                if !(1..=12).contains(&n_frequencies) =>
            {
                return Err(invalid(
                    "frequency.n_frequencies",
                    format!("is {n_frequencies}; it must lie between 1 and 12"),
                ));
            }
            _ => {}
        }
        let n = field.n_density_outputs;
        if field.color_network.is_none() && n != 4 {
            return Err(invalid(
                "n_density_outputs",
                format!("is {n}; without a color_network it must be 4: density and colour"),
            ));
        }
        let has_color = field.color_network.is_some();
        if field.rectifies_features() && (!has_color || field.density_to_color) {
            return Err(invalid(
                "feature_activation",
                "is relu, which takes a color_network and density_to_color = false",
            ));
        }
        if !has_color && field.direction_encoding != DirectionEncoding::None {
            return Err(invalid(
                "direction_encoding",
                "is given, but without a color_network colour depends on the position alone",
            ));
        }
        let apart = u32::from(!field.density_to_color);
        let aligned = n > apart && (n - apart).is_multiple_of(4);
        if field.color_network.is_some() && !(aligned && n <= 513) {
            let what = if apart == 1 {
                "the raw density and a multiple of 4 features, 512 at most"
            } else {
                "a multiple of 4, 512 at most"
            };
            return Err(invalid(
                "n_density_outputs",
                format!("is {n}; it must be {what}"),
            ));
        }
        for (key, network) in field.networks() {
            network.check(key)?;
        }
        if let Some(cells) = &field.cells {
            cells.check()?;
            if !field.is_narrow() {
                return Err(invalid(
                    "cells",
                    "are given; their networks, a color_network among them, have 64 neurons, 4 hidden layers and 65 density outputs at most, and no skips",
                ));
            }
        }
        Ok(())
    }
}

impl Cells {
    fn check(&self) -> Result<(), InvalidValue> {
        const MAX: u32 = Cells::MAX_NETWORKS;
        let corners = [self.low, self.high].concat();
        if corners.iter().any(|c| !(0.0..=1.0).contains(c))
            || self.low.iter().zip(&self.high).any(|(l, h)| l >= h)
        {
            return Err(invalid(
                "cells.high",
                format!(
                    "is {:?} with low {:?}; both lie between 0 and 1, low below high",
                    self.high, self.low
                ),
            ));
        }
        if self.longest == 0 || self.resolution.is_some_and(|r| r.contains(&0)) {
            return Err(invalid(
                "cells.resolution",
                "must be at least 1 along each axis",
            ));
        }
        match self.memory_mib {
            Some(_) if self.resolution.is_some() => {
                return Err(invalid(
                    "cells.memory_mib",
                    "is given, and cells.resolution too: give one of them",
                ));
            }
            Some(mib) if mib.is_nan() || mib <= 0.0 => {
                return Err(invalid(
                    "cells.memory_mib",
                    format!("is {mib}; it must be positive"),
                ));
            }
            _ => {}
        }
        let n: u64 = self.resolution().iter().map(|&n| u64::from(n)).product();
        if n > Self::MAX_CELLS || self.longest > Self::MAX_SIDE {
            return Err(invalid(
                "cells.resolution",
                format!(
                    "makes {n} cells, {} along a side; {} and {} are the most",
                    self.resolution().iter().max().unwrap_or(&0),
                    Self::MAX_CELLS,
                    Self::MAX_SIDE
                ),
            ));
        }
        // How many networks all cells would need is another matter: a distillation gives them to some alone.
        if let Some(networks) = self.occupied.map(u64::from)
            && (networks == 0 || networks > n.min(u64::from(MAX)))
        {
            return Err(invalid(
                "cells.resolution",
                format!(
                    "makes {networks} networks; there are 1 to {MAX}, and no more than cells: lower cells.longest or cells.resolution"
                ),
            ));
        }
        Ok(())
    }
}

impl NetworkConfig {
    fn check(&self, key: &str) -> Result<(), InvalidValue> {
        let (n, layers) = (self.n_neurons, self.n_hidden_layers);
        if !n.is_multiple_of(4) || !(4..=512).contains(&n) {
            return Err(invalid(
                &format!("{key}.n_neurons"),
                format!("is {n}; it must be a multiple of 4 from 4 to 512"),
            ));
        }
        if !(1..=16).contains(&layers) {
            return Err(invalid(
                &format!("{key}.n_hidden_layers"),
                format!("is {layers}; it must lie between 1 and 16"),
            ));
        }
        if self.skips.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(invalid(
                &format!("{key}.skips"),
                "must rise, and name no layer twice",
            ));
        }
        if let Some(skip) = self.skips.iter().find(|&&s| s == 0 || s > layers) {
            return Err(invalid(
                &format!("{key}.skips"),
                format!("names layer {skip}; there are layers 1 to {layers} behind the first"),
            ));
        }
        Ok(())
    }
}

/// The first number in `value` that is NaN or infinite, with its dotted key.
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
