//! Volume rendering along rays: `shaders/compositing.wgsl` (Mildenhall et al. 2020, eq. 3).

use crate::config::{ColorActivation, DensityActivation, FieldConfig, Loss};
use crate::gpu::{Binding, Buffer, Counts, Defines, GpuError, Groups, Stage};
use crate::loss;
use crate::step_state::{DEPTH_STRIDE, StepState};

const FILE: &str = "compositing";

/// Size in bytes of a `RayLoss` in `shaders/common/ray_loss.wgsl`.
pub const RAY_LOSS_BYTES: u64 = 48;

/// The raw outputs of a field at the kept samples, or their gradients, as compositing reads and writes them.
#[derive(Debug, Clone)]
pub struct RawOutputs {
    /// Raw density at f32 `density_stride * sample`.
    pub density: Buffer,
    /// Stride of `density` in f32.
    pub density_stride: u32,
    /// Raw colour, a vec4 at `color_stride * sample + color_offset`.
    pub color: Buffer,
    /// Stride of `color` in vec4.
    pub color_stride: u32,
    /// Offset of `color` in vec4.
    pub color_offset: u32,
}

/// Template values of the output activations.
#[must_use]
pub fn activation_defines(field: &FieldConfig) -> Defines {
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

/// Template values that locate the raw outputs.
#[must_use]
pub fn output_defines(raw: &RawOutputs) -> Defines {
    Defines::new()
        .set("density_stride", raw.density_stride)
        .set("color_stride", raw.color_stride)
        .set("color_offset", raw.color_offset)
}

/// Terms of the loss of a ray.
#[derive(Debug, Clone)]
pub struct LossTerms<'a> {
    /// The loss on composited colours.
    pub loss: &'a Loss,
    /// Factor of all loss terms.
    pub weight: f32,
    /// Coefficient of the loss on a ray's transmittance where the image is opaque; 0 for none.
    pub opacity_loss: f32,
    /// Coefficient of the loss on a ray's opacity where the image is transparent; 0 for none.
    pub mask_loss: f32,
    /// Whether colours are composited in linear colour space.
    pub linear: bool,
    /// Number of micro-batches of a step, over which the loss is averaged.
    pub micro_batches: u32,
}

/// The loss on the depths of some rays.
#[derive(Debug, Clone)]
pub struct DepthTerms<'a> {
    /// Coefficient of the loss.
    pub depth_loss: f32,
    /// Standard deviation of depths, as a fraction of the depth.
    pub deviation: f32,
    /// Distance and weight of every [`DEPTH_STRIDE`]th ray, (rays / stride, 2) f32.
    pub targets: &'a Buffer,
}

/// The kept samples of rays, and the field's outputs there.
#[derive(Debug)]
pub struct RaySamples<'a> {
    /// Counts on the device.
    pub counts: &'a Counts,
    /// The rays.
    pub rays: &'a Buffer,
    /// Offsets of each ray's kept samples: the second value of each pair.
    pub offsets: &'a Buffer,
    /// Position and dt.
    pub samples: &'a Buffer,
    /// Ray and distance.
    pub sample_rays: &'a Buffer,
    /// Raw outputs of the field at the samples.
    pub raw: RawOutputs,
    /// Template values of the field's output activations and of the scene's box.
    pub defines: Defines,
}

impl RaySamples<'_> {
    fn bindings(&self) -> Vec<Binding<'_>> {
        vec![
            ("counts", &self.counts.state),
            ("rays", self.rays),
            ("offsets", self.offsets),
            ("kept_samples", self.samples),
            ("kept_rays", self.sample_rays),
            ("raw_color", &self.raw.color),
            ("raw_density", &self.raw.density),
        ]
    }

    fn per_ray(&self) -> Groups {
        self.counts.groups(StepState::RAYS, 64, 1)
    }

    fn defines(&self, pass: &str) -> Defines {
        self.defines
            .clone()
            .merge(output_defines(&self.raw))
            .set("pass", pass)
    }

    /// Add: composite each ray, compare it with its target, and write what [`Self::backward`] needs to `ray_losses`.
    pub fn forward(
        &self,
        stage: &mut Stage,
        terms: &LossTerms<'_>,
        targets: &Buffer,
        ray_losses: &Buffer,
    ) -> Result<(), GpuError> {
        let defines = self
            .defines("train")
            .merge(loss::defines(terms.loss))
            .set("opacity_loss", terms.opacity_loss)
            .set("mask_loss", terms.mask_loss)
            .set_f32("loss_weight", terms.weight)
            .set("linear", terms.linear)
            .set("micro_batches", terms.micro_batches);
        let mut bindings = self.bindings();
        bindings.extend([("targets", targets), ("ray_losses", ray_losses)]);
        stage.run(FILE, "train", &defines, &bindings, self.per_ray())?;
        Ok(())
    }

    /// Add: compute the gradients of the raw outputs, `d_raw`. `joint` says that density and colour are outputs of one network.
    pub fn backward(
        &self,
        stage: &mut Stage,
        terms: &LossTerms<'_>,
        ray_losses: &Buffer,
        d_raw: &RawOutputs,
        joint: bool,
    ) -> Result<(), GpuError> {
        let defines = self
            .defines("gradients")
            .set("opacity_loss", terms.opacity_loss)
            .set("mask_loss", terms.mask_loss)
            .set("joint", joint)
            .set("d_density_stride", d_raw.density_stride);
        let mut bindings = self.bindings();
        bindings.extend([
            ("ray_losses", ray_losses),
            ("d_color", &d_raw.color),
            ("d_density", &d_raw.density),
        ]);
        let entry = "gradients_of_samples";
        stage.run(FILE, entry, &defines, &bindings, self.per_ray())?;
        Ok(())
    }

    /// Add: after [`Self::backward`], add the loss on depths and its gradients: the cross-entropy between the weights of a
    /// ray's samples and a normal distribution around its depth (DS-NeRF, Deng et al. 2022).
    pub fn depth_backward(
        &self,
        stage: &mut Stage,
        terms: &LossTerms<'_>,
        depth: &DepthTerms<'_>,
        ray_losses: &Buffer,
        d_raw: &RawOutputs,
        joint: bool,
    ) -> Result<(), GpuError> {
        let defines = self
            .defines("depth")
            .set("joint", joint)
            .set("d_density_stride", d_raw.density_stride)
            .set("stride", DEPTH_STRIDE)
            .set_f32("depth_loss", depth.depth_loss)
            .set_f32("deviation", depth.deviation)
            .set_f32("loss_weight", terms.weight)
            .set("micro_batches", terms.micro_batches);
        let mut bindings = self.bindings();
        bindings.extend([
            ("depth_targets", depth.targets),
            ("ray_losses", ray_losses),
            ("d_color", &d_raw.color),
            ("d_density", &d_raw.density),
        ]);
        let entry = "depth_gradients";
        stage.run(FILE, entry, &defines, &bindings, self.per_ray())?;
        Ok(())
    }

    /// Add: write colour, opacity and depth of each ray to `image`, and normals if the gradients of the raw density with
    /// respect to position, `d_position`, are given.
    pub fn render(
        &self,
        stage: &mut Stage,
        d_position: Option<&Buffer>,
        image: &Buffer,
    ) -> Result<(), GpuError> {
        let defines = self.defines("render").set("normals", d_position.is_some());
        let mut bindings = self.bindings();
        bindings.push(("image", image));
        bindings.extend(d_position.map(|gradients| ("d_position", gradients)));
        stage.run(FILE, "render", &defines, &bindings, self.per_ray())?;
        Ok(())
    }

    /// Add: composite this round's samples behind those already in `image`. Rays whose transmittance is below
    /// `min_transmittance`, or that have left the scene, become empty; the others continue behind their last sample.
    pub fn accumulate(
        &self,
        stage: &mut Stage,
        min_transmittance: f32,
        image: &Buffer,
    ) -> Result<(), GpuError> {
        let defines = self
            .defines("accumulate")
            .set_f32("min_transmittance", min_transmittance);
        let mut bindings = self.bindings();
        bindings.push(("image", image));
        stage.run(FILE, "accumulate", &defines, &bindings, self.per_ray())?;
        Ok(())
    }
}
