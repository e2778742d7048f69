// What a step's kernels tell one another; lives on the device so that the host never waits. See src/gpu/counts.rs.
// Kernels of many threads that raise alarms see those counts as atomics.
//: set alarm = "atomic<u32>" if raises_alarms is defined else "u32"
struct StepState {
    step: u32,            // optimiser steps done
    seed: u32,
    n_rays: u32,          // rays of this micro-batch
    n_marched: u32,       // samples that the sampler placed
    n_kept: u32,          // samples kept after culling those behind opaque ones
    n_rays_fitting: u32,  // rays whose samples fit the buffers
    n_rays_total: u32,    // rays of the whole step so far
    n_kept_total: u32,    // kept samples of the whole step so far
    n_marched_total: u32, // marched samples of the whole step so far
    next_rays: u32,       // rays that the next step will draw in each micro-batch
    loss: f32,            // mean loss over the rays of the step so far
    squared_error: f32,   // mean squared error over the rays of the step so far
    learning_rate: f32,   // of the coming optimiser step
    non_finite: ${alarm}, // non-finite values seen in losses or gradients
    saturated: ${alarm},  // hash-table gradients that came near the end of the fixed-point range
    occupancy_phase: u32, // occupancy updates done
    n_tiles: u32,         // tiles that the samples of a grid of networks fall into
    n_cells: u32,         // networks that have samples
    most_samples: u32,    // samples that a ray may have in a round of rendering
    task: u32,            // which of the tasks rays are drawn for: 0 where there is one
    task_start: u32,      // step at which that task began
}
