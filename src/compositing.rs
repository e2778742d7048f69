//! Volume rendering along rays: `shaders/compositing.wgsl` (Mildenhall et al. 2020, eq. 3).

use crate::config::{ColorActivation, DensityActivation, FieldConfig, Loss};
use crate::gpu::{Binding, Buffer, Counts, Defines, GpuError, Groups, Stage};
use crate::loss;
use crate::step_state::StepState;

const FILE: &str = "compositing";

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

/// Where the shaders find raw outputs.
#[must_use]
pub fn output_defines(raw: &RawOutputs) -> Defines {
    Defines::new()
        .set("density_stride", raw.density_stride)
        .set("color_stride", raw.color_stride)
        .set("color_offset", raw.color_offset)
}

/// What the loss of a ray is made of.
#[derive(Debug, Clone)]
pub struct LossTerms<'a> {
    /// The loss on composited colours.
    pub loss: &'a Loss,
    /// Factor on it.
    pub weight: f32,
    /// What transmittance costs where an image is opaque.
    pub opacity_loss: f32,
    /// Whether colours are composited in linear colour.
    pub linear: bool,
    /// Micro-batches of a step, over which the loss is a mean.
    pub micro_batches: u32,
}

/// The kept samples of rays, with what a field made of them.
#[derive(Debug)]
pub struct RaySamples<'a> {
    /// Counts on the device.
    pub counts: &'a Counts,
    /// The rays.
    pub rays: &'a Buffer,
    /// Offsets of each ray's kept samples, in the second of each pair.
    pub offsets: &'a Buffer,
    /// Position and dt.
    pub samples: &'a Buffer,
    /// Ray and distance.
    pub sample_rays: &'a Buffer,
    /// What the field says there.
    pub raw: RawOutputs,
    /// The values of its activations and of the scene's box.
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
    ///
    /// # Errors
    /// As [`Stage::run`].
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
            .set_f32("loss_weight", terms.weight)
            .set("linear", terms.linear)
            .set("micro_batches", terms.micro_batches);
        let mut bindings = self.bindings();
        bindings.extend([("targets", targets), ("ray_losses", ray_losses)]);
        stage.run(FILE, "train", &defines, &bindings, self.per_ray())?;
        Ok(())
    }

    /// Add: the gradients of the raw outputs, `d_raw`, which is `joint` where density and colour are outputs of one network.
    ///
    /// # Errors
    /// As [`Stage::run`].
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

    /// Add: write colour, opacity and depth of each ray to `image`, and normals where the gradients of the raw density with
    /// respect to position are given.
    ///
    /// # Errors
    /// As [`Stage::run`].
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

    /// Add: composite this round's samples behind what `image` holds of each ray. Rays that let less than `min_transmittance` through, or
    /// have left the scene, are empty from then on; the others start behind their last sample.
    ///
    /// # Errors
    /// As [`Stage::run`].
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
