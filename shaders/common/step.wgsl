// State that the kernels of a step share; it stays on the device so that the host never waits. See src/step_state.rs and
// src/gpu/counts.rs. Kernels whose threads count faults use atomics for those counts.
//: set fault_count = "atomic<u32>" if counts_faults is defined else "u32"
struct StepState {
    step: u32,            // optimiser steps done
    seed: u32,
    n_rays: u32,          // rays of this micro-batch
    n_marched: u32,       // samples that the sampler placed
    n_kept: u32,          // samples kept after culling those behind opaque samples
    n_rays_fitting: u32,  // rays whose samples fit the buffers
    n_rays_total: u32,    // rays of the whole step so far
    n_kept_total: u32,    // kept samples of the whole step so far
    n_marched_total: u32, // marched samples of the whole step so far
    next_rays: u32,       // rays to draw in each micro-batch of the next step
    loss: f32,            // mean loss over the rays of the step so far
    squared_error: f32,   // mean squared error over the rays of the step so far
    learning_rate: f32,   // of the next optimiser step
    non_finite: ${fault_count}, // non-finite values seen in losses or gradients
    saturated: ${fault_count},  // hash-table gradients close to the end of the fixed-point range
    occupancy_phase: u32, // occupancy updates done
    n_tiles: u32,         // tiles of samples of a grid of networks
    n_cells: u32,         // networks that have samples
    max_ray_samples: u32,    // largest number of samples of a ray in a round of rendering
    task: u32,            // the task that rays are drawn for: 0 if there is only one
    task_start: u32,      // step at which that task started
}
