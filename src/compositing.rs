//! Volume rendering along rays: `shaders/compositing.wgsl` (Mildenhall et al. 2020, eq. 3).

use crate::config::{ColorActivation, Config, DensityActivation, Field};
use crate::gpu::{Buffer, Defines};
use crate::scene_frame::SceneFrame;

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
        .set(
            "density_bias",
            format!("{:?}", field.density_bias.unwrap_or(0.0)),
        )
        .set("color_activation", color)
}

/// How gradients of samples near their camera are scaled: by min(1, (t / `training.gradient_distance`)²) (Philip and
/// Deschaintre 2023, eq. 5).
#[must_use]
pub fn gradient_defines(config: &Config) -> Defines {
    let distance = config.training.gradient_distance.filter(|d| *d > 0.0);
    let distance = distance.filter(|_| config.scene.ndc.is_none());
    let inside = distance.map(|d| SceneFrame::of(config).length(f64::from(d)) as f32);
    Defines::new()
        .set("scales_gradients", inside.is_some())
        .set("gradient_distance", format!("{:?}", inside.unwrap_or(1.0)))
}

/// Where the shaders find raw outputs.
#[must_use]
pub fn output_defines(raw: &RawOutputs) -> Defines {
    Defines::new()
        .set("density_stride", raw.density_stride)
        .set("color_stride", raw.color_stride)
        .set("color_offset", raw.color_offset)
}
