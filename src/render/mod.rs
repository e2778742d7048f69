//! Rendering: from a camera to an image of colour, opacity, depth and normals.

mod buffers;
mod crop;
mod frame;
mod job;
mod normals;
mod pixels;
mod rounds;
mod screen;

use std::sync::Arc;

use buffers::Buffers;
pub use crop::GpuCrop;
pub use frame::{Channel, RenderedFrame};
pub use job::{RenderCost, RenderJob, Rendered};
pub use normals::NormalSource;
#[cfg(feature = "viewer")]
pub(crate) use screen::texture_of;
pub use screen::{DeviceImage, GpuShade, RenderMode, Shading, turbo};

use crate::aabb::Aabb;
use crate::config::ResolvedConfig;
use crate::field::{Field, FieldParameters};
use crate::gpu::{Allocator, Buffer, Gpu, GpuError, Planner, ReadBack, Stage, Submitter};
use crate::images::camera_rays;
use crate::pass::{Pass, PassUse};
use crate::scene_frame::SceneFrame;
use rounds::Rounds;
use screen::DisplayBuffer;

/// Renders views of a field, tile by tile.
#[derive(Debug)]
pub struct Renderer {
    gpu: Arc<Gpu>,
    config: ResolvedConfig,
    passes: Vec<Pass>,
    /// Parameters of each pass; [`crate::train::Trainer::export_ema`] writes them.
    pub parameters: Vec<FieldParameters>,
    occupancy: Option<Buffer>,
    cameras: Buffer,
    tile: Buffer,
    crop: Buffer,
    scene_frame: SceneFrame,
    image: Buffer,
    plain: Vec<Stage>,
    /// Stages that continue a tile while rays remain, if it is rendered in rounds.
    rounds: Vec<Stage>,
    with_normals: Option<NormalPasses>,
    /// Where the normals of frames come from.
    pub normal_source: NormalSource,
    /// Buffer of the image for a window, once one was requested.
    screen: Option<DisplayBuffer>,
    submitter: Submitter,
    /// Number of rays per tile, which adapts to the use of the buffers.
    tile_rays: u32,
}

/// Passes that save the activations required for the gradient of the density, and their stages.
#[derive(Debug)]
struct NormalPasses {
    passes: Vec<Pass>,
    stages: Vec<Stage>,
}

/// Number of pairs of rounds that are submitted with a tile; few tiles need more.
const PAIRS: usize = 3;

/// Number of f32 per pixel on the device: colour, opacity, normal, depth.
const FLOATS_PER_PIXEL: usize = 8;

impl Renderer {
    /// Create a renderer for fields of `config`, whose rays sample the occupied cells of `occupancy` (bits).
    pub fn new(
        gpu: &Arc<Gpu>,
        config: &ResolvedConfig,
        occupancy: Option<&Buffer>,
    ) -> Result<Self, GpuError> {
        let fields = Field::of_passes(gpu.profile(), config)?;
        let parameters = FieldParameters::of_passes(gpu, &fields)?;
        Self::of_fields(gpu, config, occupancy, &fields, parameters)
    }

    /// Create another renderer of the same field, with its own buffers, so that the views of the two do not interfere.
    pub fn sharing_parameters(&self) -> Result<Self, GpuError> {
        let fields: Vec<Field> = self.fields().cloned().collect();
        let (occupancy, parameters) = (self.occupancy.as_ref(), self.parameters.clone());
        Self::of_fields(&self.gpu, &self.config, occupancy, &fields, parameters)
    }

    /// Create another renderer for fields of the same shape, with its own parameters and occupancy: further training is not
    /// visible before [`crate::train::Trainer::export_ema`] and [`Self::copy_occupancy_from`].
    pub fn with_own_parameters(&self) -> Result<Self, GpuError> {
        let fields: Vec<Field> = self.fields().cloned().collect();
        let own = |bits: &Buffer| self.gpu.buffer("occupancy of the window", bits.bytes());
        let bits = self.occupancy.as_ref().map(own).transpose()?;
        let parameters = FieldParameters::of_passes(&self.gpu, &fields)?;
        let (gpu, config) = (&self.gpu, &self.config);
        let apart = Self::of_fields(gpu, config, bits.as_ref(), &fields, parameters)?;
        apart.copy_occupancy_from(self);
        Ok(apart)
    }

    /// Copy the occupancy bits of `other`.
    pub fn copy_occupancy_from(&self, other: &Self) {
        if let Some((from, to)) = other.occupancy.as_ref().zip(self.occupancy.as_ref()) {
            let mut stage = self.gpu.stage("occupancy");
            stage.copy(from, to);
            self.gpu.submit([&stage]);
        }
    }

    /// The device.
    #[must_use]
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    fn of_fields(
        gpu: &Arc<Gpu>,
        config: &ResolvedConfig,
        occupancy: Option<&Buffer>,
        fields: &[Field],
        parameters: Vec<FieldParameters>,
    ) -> Result<Self, GpuError> {
        let Buffers {
            passes,
            rounds,
            cameras,
            image,
        } = Buffers::new(gpu, config, fields)?;
        let rays = passes[0].capacity.rays;
        let mut renderer = Self {
            gpu: Arc::clone(gpu),
            config: config.clone(),
            parameters,
            occupancy: occupancy.cloned(),
            cameras,
            tile: gpu.uniform("render tile", &[0_u32; 4])?,
            crop: gpu.uniform("render crop", &GpuCrop::new(None, &SceneFrame::WORLD))?,
            scene_frame: SceneFrame::of(config),
            image,
            plain: Vec::new(),
            rounds: Vec::new(),
            with_normals: None,
            normal_source: NormalSource::default(),
            screen: None,
            tile_rays: if rounds.is_some() {
                rays
            } else {
                (rays / 8).max(64).min(rays)
            },
            submitter: Submitter::new(std::time::Duration::from_secs_f32(
                config.training.submission_ms / 1e3,
            )),
            passes,
        };
        match &rounds {
            Some(rounds) => renderer.build_rounds(rounds)?,
            None => renderer.plain = renderer.build(&renderer.passes, false)?,
        }
        Ok(renderer)
    }

    /// Plan the allocations of [`Self::new`]: parameters, and everything else. Buffers for normals are allocated on demand.
    pub fn plan(
        parameters: &dyn Allocator,
        batch: &dyn Allocator,
        config: &ResolvedConfig,
    ) -> Result<(), GpuError> {
        let fields = Field::of_passes(batch.profile(), config)?;
        FieldParameters::of_passes(parameters, &fields)?;
        Buffers::new(batch, config, &fields)?;
        Ok(())
    }

    /// Return the number of bytes of the parameters, and of everything that [`Self::sharing_parameters`] allocates.
    pub fn bytes(&self) -> Result<[u64; 2], GpuError> {
        let [parameters, batch] = [(); 2].map(|()| Planner::new(self.gpu.profile()));
        Self::plan(&parameters, &batch, &self.config)?;
        Ok([parameters.bytes(), batch.bytes()])
    }

    /// The fields of all passes.
    pub fn fields(&self) -> impl Iterator<Item = &Field> {
        self.passes.iter().map(|p| &p.field)
    }

    /// The last pass, which renders the image.
    fn last(&self) -> &Pass {
        &self.passes[self.passes.len() - 1]
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &ResolvedConfig {
        &self.config
    }

    /// Whether rays can be clipped to a crop box, which is not possible in normalised device coordinates.
    #[must_use]
    pub fn can_crop(&self) -> bool {
        self.config.scene.ndc.is_none()
    }

    /// Set the time budget of subsequent submissions, so that others can use the device in between.
    pub fn set_budget(&mut self, budget: std::time::Duration) {
        self.submitter.set_budget(budget);
    }

    /// Whether nothing is in flight.
    pub fn is_idle(&mut self) -> Result<bool, GpuError> {
        self.submitter.ready(&self.gpu)?;
        Ok(self.submitter.idle())
    }

    /// Set the crop box of subsequent views, if [`Self::can_crop`].
    pub fn set_crop(&mut self, crop: Option<Aabb>) {
        let crop = crop.filter(|_| self.can_crop());
        self.gpu
            .write(&self.crop, 0, &[GpuCrop::new(crop, &self.scene_frame)]);
    }

    /// Start reading back the bits of the occupancy grid; `None` without a grid.
    #[must_use]
    pub fn read_occupancy(&self) -> Option<ReadBack> {
        let bits = self.occupancy.as_ref()?;
        Some(self.gpu.read_back(bits, 0, bits.bytes()))
    }

    /// Create the stage that generates the rays of a tile of `pass`.
    fn rays(&self, pass: &Pass) -> Result<Stage, GpuError> {
        let (gpu, counts) = (&*self.gpu, &pass.counts);
        let (cameras, tile) = (&self.cameras, &self.tile);
        let mut rays = gpu.stage("rays");
        counts.publish(&mut rays)?;
        camera_rays(
            &mut rays,
            counts,
            &self.config,
            cameras,
            tile,
            &self.crop,
            &pass.rays,
        )?;
        Ok(rays)
    }

    fn build_rounds(&mut self, rounds: &Rounds) -> Result<(), GpuError> {
        let (gpu, pass) = (&*self.gpu, self.last());
        let mut begin = self.rays(pass)?;
        rounds.begin(&mut begin, &self.image)?;
        let (parameters, occupancy) = (&self.parameters[0], self.occupancy.as_ref());
        let pair = rounds.two_rounds(gpu, parameters, occupancy, &self.image)?;
        let pairs = std::iter::repeat_n(&pair, PAIRS).flatten().cloned();
        self.plain = std::iter::once(begin).chain(pairs).collect();
        self.rounds = pair;
        Ok(())
    }

    fn build(&self, passes: &[Pass], normals: bool) -> Result<Vec<Stage>, GpuError> {
        let gpu = &*self.gpu;
        let (last, occupancy) = (&passes[passes.len() - 1], self.occupancy.as_ref());
        let mut stages = vec![self.rays(last)?];
        for (index, pass) in passes.iter().enumerate() {
            let is_last = index + 1 == passes.len();
            let purpose = PassUse {
                training: false,
                color: is_last,
                limited: false,
            };
            let parameters = &self.parameters[index];
            stages.extend(pass.stages(gpu, parameters, occupancy, purpose)?.into_vec());
        }
        let d_position = if normals {
            let bytes = u64::from(last.capacity.kept) * 16;
            let d_position = gpu.buffer("rendering d_position", bytes)?;
            let mut stage = gpu.stage("normals");
            let (parameters, samples) = (&self.parameters[last.index], last.kept_samples());
            last.field.density_gradient(
                &mut stage,
                parameters,
                &samples,
                &last.buffers,
                &d_position,
            )?;
            stages.push(stage);
            Some(d_position)
        } else {
            None
        };
        let mut composite = gpu.stage("composite");
        let samples = last.ray_samples();
        samples.render(&mut composite, d_position.as_ref(), &self.image)?;
        stages.push(composite);
        Ok(stages)
    }
}
