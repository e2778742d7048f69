//! A cost model of the stages: arithmetic operations and bytes of memory traffic.

use crate::config::PositionEncoding;
use crate::pass::Pass;
use crate::step_state::StepState;
use crate::train::Trainer;

/// Number of items that a stage processes (samples, cells, or rows of the hash table), and its operations and bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cost {
    pub(super) items: f64,
    pub(super) flops: f64,
    pub(super) bytes: f64,
}

/// Samples of one pass in a whole step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Samples {
    marched: f64,
    kept: f64,
}

/// Return the samples of each pass, from the counts of the last micro-batch. The counts are those of the last pass; other
/// passes are scaled by their capacities, which is exact if the number of samples per ray is fixed.
pub(super) fn samples_of(trainer: &Trainer, state: &StepState, micro_batches: u32) -> Vec<Samples> {
    let last = trainer.passes[trainer.passes.len() - 1].capacity;
    let of_pass = |pass: &Pass| {
        let share = f64::from(pass.capacity.kept) / f64::from(last.kept);
        Samples {
            marched: f64::from(state.n_marched) * f64::from(micro_batches) * share,
            kept: f64::from(state.n_kept) * f64::from(micro_batches) * share,
        }
    };
    trainer.passes.iter().map(of_pass).collect()
}

/// Return the cost of a stage summed over all passes, counting only the arithmetic of its formulas, without index arithmetic or
/// padding.
pub(super) fn cost(stage: &str, trainer: &Trainer, samples: &[Samples]) -> Option<Cost> {
    let mut sum = Cost::default();
    for (pass, &samples) in trainer.passes.iter().zip(samples) {
        let is_last = pass.index + 1 == trainer.passes.len();
        let cells = trainer.occupancy.as_ref().filter(|_| is_last);
        let cells = cells.map_or(0.0, |grid| f64::from(grid.cells_per_update()));
        let cost = pass_cost(stage, pass, samples, cells)?;
        sum.items += cost.items;
        sum.flops += cost.flops * cost.items;
        sum.bytes += cost.bytes * cost.items;
    }
    Some(sum)
}

/// Return the cost of a stage in one pass, with operations and bytes per item; `None` for a stage without a cost model.
fn pass_cost(stage: &str, pass: &Pass, samples: Samples, cells: f64) -> Option<Cost> {
    let field = &pass.field;
    let Samples { marched, kept } = samples;
    let (levels, features) = match &field.config.position_encoding {
        PositionEncoding::HashGrid(grid) => (
            f64::from(grid.n_levels),
            f64::from(grid.n_features_per_level),
        ),
        PositionEncoding::Frequency(_) => (0.0, 0.0),
    };
    let row = 4.0 * features;
    let encoded = 4.0 * f64::from(field.position.n_outputs());
    // Before culling, only the first output of the density network is computed.
    let density = field.density.layout();
    let last = density.n_layers() - 1;
    let other_outputs = f64::from(density.dims[last + 1]) - 4.0;
    let first_output =
        density.multiply_adds() as f64 - f64::from(density.inputs(last)) * other_outputs.max(0.0);
    let networks = field.multiply_adds() as f64;
    let activations: u64 = field.networks().map(|(_, n)| n.activation_bytes()).sum();
    let activations = activations as f64;
    let interpolation = match &field.config.position_encoding {
        PositionEncoding::HashGrid(_) => levels * 8.0 * (2.0 * features + 3.0),
        // A sine or cosine counts as one operation.
        PositionEncoding::Frequency(_) => 2.0 * f64::from(field.position.n_outputs()),
    };
    let rows = field.tables().total_rows() as f64;
    Some(match stage {
        "encode" => Cost {
            items: marched,
            flops: interpolation,
            bytes: 8.0 * encoded + encoded + 16.0,
        },
        "density" => Cost {
            items: marched,
            flops: 2.0 * first_output,
            bytes: encoded + 16.0,
        },
        "occupancy encode" => Cost {
            items: cells,
            flops: interpolation,
            bytes: 9.0 * encoded + 16.0,
        },
        "occupancy density" => Cost {
            items: cells,
            flops: 2.0 * first_output,
            bytes: encoded + 16.0,
        },
        "cull" => Cost {
            items: marched,
            flops: 0.0,
            bytes: 2.0 * (encoded + 24.0) + 20.0,
        },
        "forward" => Cost {
            items: kept,
            flops: 2.0 * networks,
            bytes: encoded + activations,
        },
        "composite" => Cost {
            items: kept,
            flops: 60.0,
            bytes: 2.0 * 36.0 + 20.0,
        },
        "network backward" => Cost {
            items: kept,
            flops: 4.0 * networks,
            bytes: 2.0 * encoded + 3.0 * activations,
        },
        "encode backward" if rows == 0.0 => Cost::default(),
        "encode backward" => Cost {
            items: kept,
            flops: interpolation,
            bytes: 16.0 * encoded + encoded + 16.0,
        },
        "optimize" => Cost {
            items: rows,
            flops: 0.0,
            bytes: row,
        },
        "march" => Cost {
            items: marched,
            flops: 0.0,
            bytes: 24.0,
        },
        _ => return None,
    })
}
