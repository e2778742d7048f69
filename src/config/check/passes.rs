//! Checks of passes: samplers, encodings, grids and networks.

use super::super::{
    Cells, DirectionEncoding, FrequencyConfig, HashGridConfig, NetworkConfig, PassConfig,
    PositionEncoding, Sampler,
};
use super::{InvalidValue, invalid};

impl HashGridConfig {
    pub(super) fn check(&self) -> Result<(), InvalidValue> {
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
            // Beyond this, f32 does not distinguish neighbouring cells.
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
    pub(super) fn check(&self) -> Result<(), InvalidValue> {
        // The range reduction in the shader is exact up to this frequency (base-2 logarithm).
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
    pub(super) fn check(&self) -> Result<(), InvalidValue> {
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
    pub(super) fn check(&self) -> Result<(), InvalidValue> {
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
        // The number of all cells may exceed that of networks: a distillation gives networks only to occupied cells.
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
    pub(super) fn check(&self, key: &str) -> Result<(), InvalidValue> {
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
