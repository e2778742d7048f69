// Random numbers: PCG (Jarzynski and Olano 2020, "Hash Functions for GPU Rendering"), seeded by (seed, step, item).
fn pcg(value: u32) -> u32 {
    let state = value * 747796405u + 2891336453u;
    let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
    return (word >> 22u) ^ word;
}

fn random_seed(seed: u32, step: u32, item: u32) -> u32 { return pcg(pcg(pcg(seed) + step) + item); }

// Uniform in [0, 1); advances `state`.
fn random(state: ptr<function, u32>) -> f32 {
    *state = pcg(*state);
    return f32(*state >> 8u) * (1.0 / 16777216.0);
}
