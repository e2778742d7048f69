//! Adam or gradient descent, by parameter group: `shaders/optimizer.wgsl`.
//!
//! A parameter group stores values, gradients, moments and averages, each in one buffer per chunk. Network weights form a dense
//! group; the rows of a hash table form a sparse group, in which a row without a gradient is skipped. Networks of a grid that
//! had no samples are skipped too: their weights and moments do not change, and their bias correction counts only their own
//! updates.

use crate::config::{Algorithm, Optimizer};
use crate::encoding::HashGrid;
use crate::gpu::{Allocator, Binding, Buffer, Counts, Defines, GpuError, Groups, Stage};
use crate::network::{LayerMatrix, Weights};

/// A slab of network weights.
#[derive(Debug, Clone)]
pub struct DenseGroup {
    /// Number of f32 in the slab.
    pub len: u32,
    /// Weights, and their transposed copy, layer by layer.
    pub weights: Weights,
    /// dL/dW of the current step.
    pub gradients: Buffer,
    /// First and second moments.
    pub moments: [Buffer; 2],
    /// Exponential moving averages; the weights themselves without averaging.
    pub averages: Buffer,
}

/// The networks of a grid, whose parameters are a range of a [`DenseGroup`].
#[derive(Debug, Clone)]
pub struct CellGroup {
    networks: u32,
    /// Offset of the first f32 in the slab, f32 per network, and stride between networks in f32.
    range: [u32; 3],
    matrices: Vec<LayerMatrix>,
    /// Per network: number of updates, and step of the last update.
    pub counters: Buffer,
}

/// Which networks of a grid a step updates, and how.
#[derive(Debug, Clone, Copy)]
pub struct CellUpdate<'a> {
    /// 1 for each network with samples.
    pub updated: &'a Buffer,
    /// Whether the next step's gradients overwrite this step's, which are then not zeroed.
    pub overwrite: bool,
    /// Whether the norm penalty of the configuration applies.
    pub penalized: bool,
}

/// A hash table, chunk by chunk.
#[derive(Debug, Clone)]
pub struct SparseGroup {
    /// Rows of features.
    pub values: Vec<Buffer>,
    /// Fixed-point gradients of the current step.
    pub gradients: Vec<Buffer>,
    /// First and second moments, interleaved per part of a row (up to four features).
    pub moments: Vec<Buffer>,
    /// Exponential moving averages as of each row's last update.
    pub averages: Vec<Buffer>,
    /// Per row: number of updates, and step of the last update.
    pub counters: Vec<Buffer>,
    /// Fixed-point scale of each level's gradients.
    pub gradient_scales: Buffer,
    /// Largest gradient of each level in this step.
    pub largest: Buffer,
}

/// Initial scale of gradients; it adapts from the first step on.
const INITIAL_GRADIENT_SCALE: f32 = 16_777_216.0;

/// Template values of the learning-rate schedule, for `begin_step`.
#[must_use]
pub fn schedule_defines(optimizer: &Optimizer) -> Defines {
    Defines::new()
        .set_f32("learning_rate", optimizer.learning_rate)
        .set_f32("decay_base", optimizer.decay_base)
        .set("decay_start", optimizer.decay_start)
        .set("decay_interval", optimizer.decay_interval)
        .set("decay_end", optimizer.decay_end.unwrap_or(u32::MAX))
        .set("staircase", optimizer.staircase)
        .set("warmup_steps", optimizer.warmup_steps.unwrap_or(0))
}

/// Return the factor of the learning rate of network weights.
fn network_rate(config: &Optimizer) -> f32 {
    config.network_rate.unwrap_or(1.0)
}

fn adam_defines(optimizer: &Optimizer, rate: f32, l2_reg: f32) -> Defines {
    Defines::new()
        .set_f32("beta1", optimizer.beta1)
        .set_f32("beta2", optimizer.beta2)
        .set_f32("epsilon", optimizer.epsilon)
        .set_f32("learning_rate_factor", rate)
        .set_f32("l2_reg", l2_reg)
        .set_f32("ema_decay", optimizer.ema_decay)
        .set("averages", optimizer.ema_decay > 0.0)
        .set("is_sgd", optimizer.algorithm == Algorithm::Sgd)
}

impl DenseGroup {
    /// Allocate zeroed buffers for `len` weights (a multiple of 4); without averages if `ema_decay` is 0.
    pub fn new(
        allocator: &dyn Allocator,
        label: &str,
        len: u32,
        ema_decay: f32,
    ) -> Result<Self, GpuError> {
        let buffer = |role: &str, n: u64| allocator.array(label, role, n, 4);
        let n = u64::from(len);
        let values = buffer("values", n)?;
        Ok(Self {
            len,
            averages: if ema_decay > 0.0 {
                buffer("averages", n)?
            } else {
                values.clone()
            },
            weights: Weights {
                values,
                transposed: buffer("transposed", n)?,
            },
            gradients: buffer("gradients", n)?,
            moments: [buffer("first moments", n)?, buffer("second moments", n)?],
        })
    }

    /// Add: reset the gradients and moments; the caller sets the values and averages.
    pub fn reset(&self, stage: &mut Stage) {
        let [first, second] = &self.moments;
        stage.clear(&self.gradients).clear(first).clear(second);
    }

    /// The buffers that an update reads and writes, with their WGSL names.
    fn roles(&self) -> [Binding<'_>; 5] {
        [
            ("values", &self.weights.values),
            ("gradients", &self.gradients),
            ("first_moments", &self.moments[0]),
            ("second_moments", &self.moments[1]),
            ("averages", &self.averages),
        ]
    }

    /// Add: one optimiser step with L2 regularisation on `n` weights from `first` on; zero their gradients.
    pub fn update(
        &self,
        stage: &mut Stage,
        counts: &Counts,
        config: &Optimizer,
        [first, n]: [u32; 2],
    ) -> Result<(), GpuError> {
        let defines = adam_defines(config, network_rate(config), config.l2_reg)
            .set("pass", "dense")
            .set("overwrites_gradients", false)
            .set("counts_faults", true)
            .set("first", first)
            .set("n", n);
        let mut bindings = vec![("state", &counts.state)];
        bindings.extend(self.roles());
        stage.run(
            "optimizer",
            "dense",
            &defines,
            &bindings,
            Groups::covering(u64::from(n / 4), 64),
        )?;
        Ok(())
    }
}

impl CellGroup {
    /// Create the group of `networks` networks of `n` weights each, which start at f32 `first` of the slab with stride
    /// `stride`; `matrices` are the layers of each network.
    pub fn new(
        allocator: &dyn Allocator,
        networks: u32,
        [first, n, stride]: [u32; 3],
        matrices: Vec<LayerMatrix>,
    ) -> Result<Self, GpuError> {
        Ok(Self {
            networks,
            range: [first, n, stride],
            matrices,
            counters: allocator.buffer("network counters", u64::from(networks) * 8)?,
        })
    }

    /// Whether [`Self::update`] also writes the transposed copy of the weights, while they are in the cache. It does not if
    /// averages take the last storage buffer of the base path.
    #[must_use]
    pub fn transposes(config: &Optimizer) -> bool {
        config.ema_decay == 0.0
    }

    fn defines(&self, pass: &str, config: &Optimizer) -> Defines {
        let [first, n, stride] = self.range;
        adam_defines(config, network_rate(config), config.l2_reg)
            .set("pass", pass)
            .set("networks", self.networks)
            .set("first", first)
            .set("n", n)
            .set("network_stride", stride)
    }

    /// Add: one optimiser step on the networks that are marked in `update`; clear their marks and increment their counters.
    pub fn update(
        &self,
        stage: &mut Stage,
        counts: &Counts,
        config: &Optimizer,
        dense: &DenseGroup,
        update: &CellUpdate<'_>,
    ) -> Result<(), GpuError> {
        let mut bindings = vec![
            ("state", &counts.state),
            ("counters", &self.counters),
            ("updated", update.updated),
            ("counts", &counts.state),
            ("transposed", &dense.weights.transposed),
        ];
        bindings.extend(dense.roles());
        let shape = |m: &LayerMatrix| format!("vec3({}u, {}u, {}u)", m.first, m.columns, m.rows);
        let matrices: Vec<String> = self.matrices.iter().map(shape).collect();
        let norm_reg = if update.penalized {
            config.norm_reg
        } else {
            0.0
        };
        let of_color = self
            .matrices
            .iter()
            .filter(|m| m.of_color && norm_reg > 0.0);
        // The colour network comes last.
        let mut parts = vec![0];
        parts.extend(of_color.map(|m| m.first / 4));
        let defines = self
            .defines("cells", config)
            .set("counts_faults", true)
            .set("overwrites_gradients", update.overwrite)
            .set("writes_transposed", Self::transposes(config))
            .set("matrices", matrices)
            .set_f32("norm_reg", norm_reg)
            .set("parts", parts);
        let groups = Groups::covering(u64::from(self.networks), 1);
        stage.run("optimizer", "cells", &defines, &bindings, groups)?;
        let defines = self.defines("count_cells", config);
        let groups = Groups::covering(u64::from(self.networks), 64);
        stage.run("optimizer", "count_cells", &defines, &bindings, groups)?;
        Ok(())
    }

    /// Add: `exported` = the averages as of the current step, including networks that were skipped.
    pub fn export_ema(
        &self,
        stage: &mut Stage,
        counts: &Counts,
        config: &Optimizer,
        dense: &DenseGroup,
        exported: &Buffer,
    ) -> Result<(), GpuError> {
        let bindings = [
            ("counts", &counts.state),
            ("values", &dense.weights.values),
            ("averages", &dense.averages),
            ("counters", &self.counters),
            ("exported", exported),
        ];
        let defines = self.defines("export_ema_cells", config);
        let groups = Groups::covering(u64::from(self.networks), 1);
        stage.run("optimizer", "export_ema_cells", &defines, &bindings, groups)?;
        Ok(())
    }
}

impl SparseGroup {
    /// Allocate zeroed buffers for the rows of `grid`.
    pub fn new(allocator: &dyn Allocator, grid: &HashGrid) -> Result<Self, GpuError> {
        // Bindings cannot be empty.
        let levels = grid.levels().len().max(1);
        let counters = grid
            .chunks()
            .iter()
            .map(|c| allocator.buffer("hash table counters", u64::from(c.rows) * 8))
            .collect::<Result<_, _>>()?;
        let group = Self {
            values: grid.allocate(allocator, "hash table values", 4)?,
            gradients: grid.allocate(allocator, "hash table gradients", 4)?,
            moments: grid.allocate(allocator, "hash table moments", 8)?,
            averages: grid.allocate(allocator, "hash table averages", 4)?,
            counters,
            gradient_scales: allocator.buffer("gradient scales", levels as u64 * 4)?,
            largest: allocator.buffer("largest gradients", levels as u64 * 4)?,
        };
        Self::reset_scales(allocator, &group.gradient_scales);
        Ok(group)
    }

    /// Add: reset the gradients, moments, counters and gradient scales; the caller sets the values and averages.
    pub fn reset(&self, stage: &mut Stage) {
        let roles = [&self.gradients, &self.moments, &self.counters];
        for buffer in roles.into_iter().flatten() {
            stage.clear(buffer);
        }
        stage.clear(&self.largest);
        Self::reset_scales(stage.gpu(), &self.gradient_scales);
    }

    /// Fill `scales` with the initial scale.
    pub fn reset_scales(allocator: &dyn Allocator, scales: &Buffer) {
        let n = scales.bytes() as usize / 4;
        allocator.write(scales, 0, &vec![INITIAL_GRADIENT_SCALE; n]);
    }

    /// Add: one optimiser step on the rows that have a gradient; zero their gradients.
    pub fn update(
        &self,
        stage: &mut Stage,
        counts: &Counts,
        grid: &HashGrid,
        config: &Optimizer,
    ) -> Result<(), GpuError> {
        each_chunk(stage, grid, config, "sparse", |chunk| {
            vec![
                ("state", &counts.state),
                ("values", &self.values[chunk]),
                ("gradients", &self.gradients[chunk]),
                ("moments", &self.moments[chunk]),
                ("averages", &self.averages[chunk]),
                ("counters", &self.counters[chunk]),
                ("gradient_scales", &self.gradient_scales),
                ("largest", &self.largest),
            ]
        })
    }

    /// Add: `exported` = the averages as of the current step, including rows that were skipped.
    pub fn export_ema(
        &self,
        stage: &mut Stage,
        counts: &Counts,
        grid: &HashGrid,
        config: &Optimizer,
        exported: &[Buffer],
    ) -> Result<(), GpuError> {
        each_chunk(stage, grid, config, "export_ema", |chunk| {
            vec![
                ("counts", &counts.state),
                ("values", &self.values[chunk]),
                ("averages", &self.averages[chunk]),
                ("counters", &self.counters[chunk]),
                ("exported", &exported[chunk]),
            ]
        })
    }
}

/// Add: run `entry` over the rows of every chunk.
fn each_chunk<'a>(
    stage: &mut Stage,
    grid: &HashGrid,
    config: &Optimizer,
    entry: &str,
    bindings: impl Fn(usize) -> Vec<Binding<'a>>,
) -> Result<(), GpuError> {
    for (index, chunk) in grid.chunks().iter().enumerate() {
        let mut defines = adam_defines(config, 1.0, 0.0)
            .merge(grid.defines(chunk))
            .set("pass", entry);
        // Atomic counts need a state that may be written.
        if entry == "sparse" {
            defines = defines.set("counts_faults", true);
        }
        let groups = Groups::covering(u64::from(chunk.rows), 64);
        stage.run("optimizer", entry, &defines, &bindings(index), groups)?;
    }
    Ok(())
}
