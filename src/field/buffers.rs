//! Parameters of a field, and buffers for its evaluation.

use super::{Field, RAW_DENSITY_STRIDE, SAMPLE_ALIGNMENT};
use crate::compositing::RawOutputs;
use crate::gpu::{Allocator, Buffer, Counts, DeviceProfile, GpuError, Planner};
use crate::network::{Activations, Batch, Bins, Network, SavedActivations, Weights};
use crate::step_state::StepState;

/// Parameters of a field: the trained ones, or their moving averages.
#[derive(Debug, Clone)]
pub struct FieldParameters {
    /// Hash table, chunk by chunk.
    pub tables: Vec<Buffer>,
    /// Network weights.
    pub weights: Weights,
    /// Cell map: the network of each cell of a grid, in the order (z, y, x).
    pub cells: Option<Buffer>,
}

impl FieldParameters {
    /// Allocate zeroed parameters of `fields`, which share one slab of network weights; [`crate::train::Trainer::export_ema`]
    /// fills them.
    pub fn of_passes(allocator: &dyn Allocator, fields: &[Field]) -> Result<Vec<Self>, GpuError> {
        let weights: u64 = fields.iter().map(|f| u64::from(f.slab_len()) * 4).sum();
        let weights = Weights {
            values: allocator.buffer("exported weights", weights)?,
            transposed: allocator.buffer("exported weights transposed", weights)?,
        };
        let parameters = |field: &Field| {
            let tables = field.tables();
            Ok(Self {
                tables: tables.allocate(allocator, "exported hash table", 4)?,
                weights: weights.clone(),
                cells: field.full_cell_map(allocator)?,
            })
        };
        fields.iter().map(parameters).collect()
    }

    /// Allocate zeroed parameters of one field.
    pub fn new(allocator: &dyn Allocator, field: &Field) -> Result<Self, GpuError> {
        Ok(Self::of_passes(allocator, std::slice::from_ref(field))?.remove(0))
    }
}

/// Buffers for evaluating a field: first the density of all marched samples, then density and colour of the kept samples.
#[derive(Debug, Clone)]
pub struct FieldBuffers {
    /// Encoded positions of marched samples.
    pub features: Buffer,
    /// Raw density of marched samples, with stride 4 f32.
    pub raw_density: Buffer,
    /// Encoded positions of kept samples.
    pub kept_features: Buffer,
    /// Input of the colour network: density outputs, then the encoded direction.
    pub color_input: Buffer,
    /// Raw colour of kept samples, with stride 4 f32; unused without a colour network.
    pub(super) raw_color: Buffer,
    pub(super) d_raw_color: Buffer,
    pub(super) d_raw_density: Buffer,
    pub(super) marched_activations: Activations,
    pub(super) density_activations: Activations,
    pub(super) color_activations: Option<Activations>,
    pub(super) binned_raw_density: Buffer,
    pub(super) d_color_input: Buffer,
    pub(super) d_features: Buffer,
    pub(super) marched_bins: Option<Bins>,
    pub(super) kept_bins: Option<KeptBins>,
}

/// The kept samples sorted by cell, and the networks' outputs and their gradients in sample order.
#[derive(Debug, Clone)]
pub(super) struct KeptBins {
    pub(super) bins: Bins,
    pub(super) raw_density: Buffer,
    pub(super) raw_color: Buffer,
    pub(super) d_raw_density: Buffer,
    pub(super) d_raw_color: Buffer,
}

impl FieldBuffers {
    /// The batch of kept samples.
    pub(super) fn kept_batch<'a>(&'a self, counts: &'a Counts) -> Batch<'a> {
        match &self.kept_bins {
            Some(kept) => kept.bins.batch(),
            None => Batch::of(counts, StepState::KEPT),
        }
    }

    /// 1 for networks of a grid that have had kept samples since this buffer was cleared.
    #[must_use]
    pub fn updated(&self) -> Option<&Buffer> {
        self.kept_bins.as_ref().map(|kept| &kept.bins.updated)
    }
}

/// Raw outputs in sample order.
fn unsorted_outputs(density: &Buffer, color: &Buffer) -> RawOutputs {
    RawOutputs {
        density: density.clone(),
        density_stride: 1,
        color: color.clone(),
        color_stride: 1,
        color_offset: 0,
    }
}

/// What the colour network saves if the field saves `saved`: input gradients without weight gradients are only computed for
/// density.
fn color_saves(saved: SavedActivations) -> SavedActivations {
    match saved {
        SavedActivations::Gradients => SavedActivations::Gradients,
        SavedActivations::Nothing | SavedActivations::Activations => SavedActivations::Nothing,
    }
}

impl Field {
    /// Whether a device with `profile` can bind the buffers for that many samples.
    #[must_use]
    pub fn fits(
        &self,
        profile: &DeviceProfile,
        marched: u64,
        kept: u64,
        saved: SavedActivations,
    ) -> bool {
        let planner = Planner::new(profile);
        self.buffers(&planner, "", marched, kept, saved).is_ok()
    }

    /// Allocate buffers for `marched` and `kept` samples. A forward pass saves `saved` for the backward pass. The buffers'
    /// labels start with `label`.
    pub fn buffers(
        &self,
        allocator: &dyn Allocator,
        label: &str,
        marched: u64,
        kept: u64,
        saved: SavedActivations,
    ) -> Result<FieldBuffers, GpuError> {
        let rows = |name: &str, n: u64, stride: u32| {
            allocator.array(
                label,
                name,
                n.next_multiple_of(SAMPLE_ALIGNMENT),
                u64::from(stride) * 4,
            )
        };
        let bins = |samples: u64, with_rays: bool| {
            let cells = self.cells.as_ref().filter(|_| samples > 0);
            cells
                .map(|grid| Bins::new(allocator, label, grid, samples, with_rays, self.tile()))
                .transpose()
        };
        let (is_grid, has_color) = (self.cells.is_some(), self.color.is_some());
        let (marched_bins, kept_bins) = (bins(marched, false)?, bins(kept, true)?);
        let unsorted = kept;
        // Threads without a sample write to a padding row.
        let spare = |n: u64| n + u64::from(n > 0 && is_grid);
        let (marched, kept) = (spare(marched), spare(kept));
        let if_any = |condition: bool, n: u64| if condition { n } else { 0 };
        let backward = if_any(saved != SavedActivations::Nothing, kept);
        let trained = if_any(saved == SavedActivations::Gradients, kept);
        let apart = self.color_offset() > 0;
        let (features, color) = (self.feature_stride(), self.color_stride());
        let kept_bins = match kept_bins {
            Some(bins) => Some(KeptBins {
                bins,
                raw_density: rows("unsorted raw density", unsorted, 1)?,
                raw_color: rows("unsorted raw color", unsorted, 4)?,
                d_raw_density: rows("d_unsorted raw density", trained, 1)?,
                d_raw_color: rows("d_unsorted raw color", trained, 4)?,
            }),
            None => None,
        };
        let activations = |network: &Network, name: &str, samples: u64, saved| {
            network.activations(
                allocator,
                &format!("{label} {name} network"),
                samples,
                saved,
            )
        };
        let color_activations = self
            .color
            .as_ref()
            .map(|network| activations(network, "color", kept, color_saves(saved)));
        Ok(FieldBuffers {
            marched_bins,
            kept_bins,
            binned_raw_density: rows(
                "binned raw density",
                if_any(is_grid, marched),
                RAW_DENSITY_STRIDE,
            )?,
            features: rows("features", marched, features)?,
            raw_density: rows("raw density", marched, RAW_DENSITY_STRIDE)?,
            kept_features: rows("kept features", kept, features)?,
            color_input: rows("color input", kept, color)?,
            raw_color: rows("raw color", if_any(has_color, kept), 4)?,
            d_raw_color: rows("d_raw color", if_any(has_color, trained), 4)?,
            d_raw_density: rows("d_raw density", if_any(!apart, trained), 1)?,
            d_color_input: rows("d_color input", backward, color)?,
            d_features: rows("d_features", backward, features)?,
            marched_activations: activations(
                &self.density,
                "marched density",
                marched,
                SavedActivations::Nothing,
            )?,
            density_activations: activations(&self.density, "density", kept, saved)?,
            color_activations: color_activations.transpose()?,
        })
    }

    /// The raw outputs at the kept samples.
    #[must_use]
    pub fn raw_outputs(&self, buffers: &FieldBuffers) -> RawOutputs {
        match &buffers.kept_bins {
            Some(kept) => unsorted_outputs(&kept.raw_density, &kept.raw_color),
            None => self.outputs(&buffers.color_input, &buffers.raw_color),
        }
    }

    fn outputs(&self, density: &Buffer, color: &Buffer) -> RawOutputs {
        let stride = self.color_stride();
        let joint = self.color.is_none();
        RawOutputs {
            density: density.clone(),
            density_stride: stride,
            color: if joint { density } else { color }.clone(),
            color_stride: if joint { stride / 4 } else { 1 },
            color_offset: u32::from(joint),
        }
    }

    /// The gradients of the raw outputs, which [`Self::backward`] reads.
    #[must_use]
    pub fn d_raw_outputs(&self, buffers: &FieldBuffers) -> RawOutputs {
        match &buffers.kept_bins {
            Some(kept) => unsorted_outputs(&kept.d_raw_density, &kept.d_raw_color),
            None => self.d_outputs(buffers),
        }
    }

    pub(super) fn d_outputs(&self, buffers: &FieldBuffers) -> RawOutputs {
        let mut outputs = self.outputs(&buffers.d_color_input, &buffers.d_raw_color);
        if self.color_offset() == 0 {
            outputs.density = buffers.d_raw_density.clone();
            outputs.density_stride = 1;
        }
        outputs
    }
}
