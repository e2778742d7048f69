//! Volume rendering along rays: `shaders/compositing.wgsl` (Mildenhall et al. 2020, eq. 3).

use crate::config::{ColorActivation, DensityActivation, Field};
use crate::gpu::{Buffer, Defines};

/// Bytes of a `RayLoss` in `shaders/common/ray_loss.wgsl`.
pub const RAY_LOSS_BYTES: u64 = 48;

/// The raw outputs of a field at the kept samples, or their gradients, as compositing reads and writes them.
#[derive(Debug, Clone)]
pub struct RawOutputs {
    /// Raw density at f32 `density_stride * sample`.
    pub density: Buffer,
    /// See `density`.
    pub density_stride: u32,
    /// Raw colour, a vec4 at `color_stride * sample + color_offset`.
    pub color: Buffer,
    /// See `color`, in vec4.
    pub color_stride: u32,
    /// See `color`, in vec4.
    pub color_offset: u32,
}

/// The values of the output activations.
#[must_use]
pub fn activation_defines(field: &Field) -> Defines {
    let density = match field.density_activation {
        DensityActivation::Exp => "exp",
        DensityActivation::Relu => "relu",
        DensityActivation::Softplus => "softplus",
    };
    let color = match field.color_activation {
        ColorActivation::Sigmoid => "sigmoid",
        ColorActivation::None => "none",
    };
    Defines::new()
        .set("density_activation", density)
        .set_f32("density_bias", field.density_bias.unwrap_or(0.0))
        .set("color_activation", color)
}

/// Where the shaders find raw outputs.
#[must_use]
pub fn output_defines(raw: &RawOutputs) -> Defines {
    Defines::new()
        .set("density_stride", raw.density_stride)
        .set("color_stride", raw.color_stride)
        .set("color_offset", raw.color_offset)
}
