//! Position and surroundings of a dataset's scene: Instant-NGP's keys, or estimates from cameras and images.

use super::framing::{CameraLayout, Framing, is_forward_facing};
use super::json::Fields;
use super::{Dataset, DatasetError, Format, Frame, inverted, surroundings};
use crate::config::{Ndc, SceneHints, Surroundings};

impl Dataset {
    /// Return the properties of the scene that are needed to resolve a configuration.
    #[must_use]
    pub fn hints(&self) -> SceneHints {
        let framing = self.framing.as_ref();
        let of_file = self.scale.zip(self.offset);
        let center = of_file.map(|(scale, offset)| offset.map(|o| (0.5 - o) / scale));
        SceneHints {
            aabb_scale: self.aabb_scale.or(framing.map(|f| f.aabb_scale)),
            scale: self.scale.or(framing.map(|f| f.scale)),
            offset: self.offset.or(framing.map(|f| f.offset)),
            center: center.or(framing.map(Framing::center)),
            surroundings: self.surroundings,
            distance: self.filled_distance(),
            forward_facing: self.ndc(),
            is_normalized: self.format == Format::Llff,
        }
    }

    /// Return whether the scene fills the images.
    pub(crate) fn is_filled(&self) -> bool {
        matches!(self.surroundings, Some(Surroundings::Filled(_)))
    }

    /// Return the distance of the cameras from their focus, if the scene fills their images.
    fn filled_distance(&self) -> Option<f64> {
        if !self.is_filled() {
            return None;
        }
        CameraLayout::of(&self.cameras())?.distance()
    }

    /// Examine some of the training images to detect what surrounds the scene. The result determines the default background,
    /// and the box if no file gives it. Images that cannot be decoded are skipped; loading reports them.
    pub fn examine_surroundings(&mut self) {
        self.surroundings = surroundings::of(&self.train);
        self.estimate_box();
    }

    /// Estimate the scene box from the cameras if no file gives it.
    pub(super) fn estimate_box(&mut self) {
        let cameras = self.cameras();
        if self.scale.is_some() || self.offset.is_some() || self.format == Format::Llff {
            return;
        }
        if inverted::are_inverted_poses(&cameras) {
            self.framing = None;
            return;
        }
        let is_filled = self.is_filled();
        let found = Framing::of(&cameras, self.aabb_scale, is_filled);
        // What fills the images is where the points are, if the files have any.
        let reaches = self.aabb_scale.is_none() && is_filled;
        let found = found.map(|found| {
            if reaches {
                found.around(&self.points.positions)
            } else {
                found
            }
        });
        self.framing = found.and_then(|found| match self.format {
            // These formats imply the default box.
            Format::Blender | Format::Nsvf | Format::Srn => {
                Some(found).filter(Framing::is_far_from_default)
            }
            Format::Colmap
            | Format::Metashape
            | Format::NerfPlusPlus
            | Format::Polycam
            | Format::RealityCapture => Some(found),
            Format::Transforms | Format::Llff => found.or_default(self.aabb_scale),
        });
    }

    /// Return a box that suits the cameras, to be suggested if the current box of `cubes` unit cubes per side does not.
    pub(crate) fn suggested(&self, cubes: u32) -> Option<Framing> {
        let cameras = self.cameras();
        let is_filled = self.is_filled();
        if self.format == Format::Llff {
            return Framing::of(&cameras, Some(1), is_filled).map(Framing::as_one_cube);
        }
        // If the scene fills the images, only the file's `aabb_scale` specifies how far the scene extends.
        let given = self.aabb_scale.filter(|cubes| *cubes > 1);
        let wanted = if is_filled { given } else { Some(cubes) };
        Framing::of(&cameras, wanted, is_filled)
    }

    /// Return a box for cameras that all face away from one point, whose layout is therefore ambiguous, on the assumption that
    /// they are inside the scene.
    pub(crate) fn suggested_inside_out(&self) -> Option<Framing> {
        let cameras = self.cameras();
        if CameraLayout::of(&cameras).is_some() {
            return None;
        }
        let layout = CameraLayout::inside_out(&cameras)?;
        let given = self.aabb_scale.filter(|cubes| *cubes > 1);
        Framing::of_layout(layout, cameras.len(), given, true)
    }

    /// Return the normalised device coordinates of a forward-facing capture, as wide as the widest of its images. The nearest
    /// bound lies at 4/3, and rays start at three quarters of it.
    fn ndc(&self) -> Option<Ndc> {
        let half = |axis: usize| {
            let half = |frame: &Frame| {
                let camera = frame.camera;
                let size = [camera.width, camera.height][axis] as f32;
                size / 2.0 / camera.focal[axis]
            };
            let frames = self.train.iter().chain(&self.test);
            frames.map(half).reduce(f32::max)
        };
        let cameras = self.cameras();
        if self.format != Format::Llff || !is_forward_facing(&cameras) {
            return None;
        }
        Some(Ndc {
            near: 1.0,
            half: [half(0)?, half(1)?],
        })
    }

    /// Set the `aabb_scale`, `scale` and `offset` of the file.
    pub(super) fn with_hints(self, fields: &Fields) -> Result<Self, DatasetError> {
        Ok(Self {
            aabb_scale: aabb_scale(fields)?,
            scale: scale(fields)?,
            offset: offset(fields)?,
            ..self
        })
    }
}

fn aabb_scale(fields: &Fields) -> Result<Option<u32>, DatasetError> {
    let Some(value) = fields.number("aabb_scale")? else {
        return Ok(None);
    };
    let valid = (0..8)
        .map(|power| 1_u32 << power)
        .find(|valid| (f64::from(*valid) - value).abs() < 1e-9);
    valid.map(Some).ok_or_else(|| {
        fields.error(format!(
            "`aabb_scale` = {value} should be a power of two from 1 to 128: use {}",
            value.clamp(1.0, 128.0).ceil().log2().ceil().exp2()
        ))
    })
}

fn scale(fields: &Fields) -> Result<Option<f64>, DatasetError> {
    let scale = fields.number("scale")?;
    if scale.is_some_and(|scale| scale <= 0.0) {
        return Err(fields.error("`scale` should be positive: correct it or leave it out"));
    }
    Ok(scale)
}

fn offset(fields: &Fields) -> Result<Option<[f64; 3]>, DatasetError> {
    let Some(value) = fields.get("offset") else {
        return Ok(None);
    };
    let numbers = value.as_array().map(|list| {
        list.iter()
            .map_while(serde_json::Value::as_f64)
            .collect::<Vec<_>>()
    });
    match numbers.as_deref() {
        Some([x, y, z]) if [x, y, z].iter().all(|v| (**v as f32).is_finite()) => {
            Ok(Some([*x, *y, *z]))
        }
        _ => {
            Err(fields
                .error("`offset` should be a list of three numbers: correct it or leave it out"))
        }
    }
}
