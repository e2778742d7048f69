//! What a device can refuse.

/// What can go wrong between kiln and the device.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GpuError {
    /// No adapter at all: no driver is installed, or none answers.
    #[error(
        "no GPU adapter found: install a Vulkan driver (on Linux without a GPU, Mesa's lavapipe: `make vulkan` does it)"
    )]
    NoAdapter,
    /// The device named on the command line or in `KILN_DEVICE` does not exist.
    #[error("no device matches `{wanted}`; there are: {available} (see `kiln devices`)")]
    NoSuchDevice {
        /// What was asked for.
        wanted: String,
        /// What there is.
        available: String,
    },
    /// The adapter refused to open a device.
    #[error("device `{adapter}` could not be opened: {reason}")]
    Open {
        /// The adapter's name.
        adapter: String,
        /// The driver's words.
        reason: String,
    },
    /// The device cannot show anything in a window.
    #[error(
        "device `{adapter}` cannot draw in a window here ({reason}): choose another with --device, or train without --view"
    )]
    NoSurface {
        /// The adapter's name.
        adapter: String,
        /// The driver's words.
        reason: String,
    },
    /// The device has no memory left.
    #[error(
        "the device ran out of memory ({context}): lower `training.batch_size` or `log2_hashmap_size` with --set, or --downscale the images"
    )]
    OutOfMemory {
        /// What was being done.
        context: String,
    },
    /// One buffer would be larger than this device can bind.
    #[error(
        "`{label}` needs {bytes} bytes in one buffer but this device binds at most {limit}: {}",
        smaller(label)
    )]
    TooLarge {
        /// The buffer's label.
        label: String,
        /// Bytes asked for.
        bytes: u64,
        /// The device's limit.
        limit: u64,
    },
    /// A grid of networks has more weights than one buffer holds.
    #[error(
        "the {networks} networks of the grid, 32768 at most, need {bytes} bytes in one buffer but this device binds at most {limit}: give cells.longest={longest} or less with --set, or cells.memory_mib"
    )]
    GridTooLarge {
        /// Networks of each kind.
        networks: u32,
        /// Bytes of their weights.
        bytes: u64,
        /// The device's limit.
        limit: u64,
        /// Cells along the longest side that would fit.
        longest: u32,
    },
    /// A grid of networks was given too little memory.
    #[error(
        "cells.memory_mib is {mib}, but the networks of a single cell take {bytes} bytes: give more with --set, or smaller networks"
    )]
    NoNetworkFits {
        /// What was given, in MiB.
        mib: f32,
        /// What one cell takes, with gradients, moments and averages.
        bytes: u64,
    },
    /// The device vanished: a driver reset, or the watchdog's work.
    #[error(
        "the device was lost ({reason}): the last checkpoint is intact, go on with `kiln train --resume`"
    )]
    DeviceLost {
        /// The driver's words.
        reason: String,
    },
    /// wgpu refused a call; a defect of kiln's.
    #[error("the device refused a command, which is a defect in kiln: {reason}")]
    Validation {
        /// wgpu's words.
        reason: String,
    },
    /// A shader text does not parse or does not fit its bindings; a defect of kiln's.
    #[error("shader `{shader}` is invalid, which is a defect in kiln: {reason}")]
    Shader {
        /// The shader's name.
        shader: String,
        /// naga's words.
        reason: String,
    },
}

/// What makes the buffer called `label` smaller.
fn smaller(label: &str) -> &'static str {
    match label {
        "images" => "--downscale the images",
        _ if label.starts_with("hash grid") || label.contains("hash table") => {
            "lower `log2_hashmap_size` with --set"
        }
        "occupancy thickness" | "occupancy bits" => {
            "lower `occupancy.resolution` or `scene.aabb_scale` with --set"
        }
        _ if label.starts_with("occupancy") => "lower `occupancy.cells_per_update` with --set",
        _ if label.ends_with("rays") => {
            "lower `training.max_rays`, or `training.n_rays` where that is given, with --set"
        }
        _ => {
            "lower `training.batch_size`, or `training.n_rays` and the samples per ray where those are given, with --set"
        }
    }
}
