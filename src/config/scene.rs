//! Where the scene lies, and what is around it.

use serde::{Deserialize, Serialize};

use super::Background;
use super::resolve::resolved;

/// Scene box and colours. World positions map to the unit cube by `u = world * scale + offset`; the encodings see the
/// cube of side `aabb_scale` around 0.5.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scene {
    /// World to unit cube; the dataset's, else 0.33.
    #[serde(default)]
    pub scale: Option<f64>,
    /// World to unit cube; the dataset's, else 0.5 each.
    #[serde(default)]
    pub offset: Option<[f64; 3]>,
    /// What density and distances are counted per inside.
    #[serde(default)]
    pub length: LengthUnit,
    /// Side of the box in unit cubes, a power of two up to 128; the dataset's, else 1.
    #[serde(default)]
    pub aabb_scale: Option<u32>,
    /// Background behind training rays: `random`, `white`, `black`, `#rrggbb`, or `auto` or `auto:white` and so on, which go by
    /// the images.
    pub background: Background,
    /// Background of evaluation and rendering: `white`, `black`, `#rrggbb`, or `auto:white` and so on.
    pub eval_background: Background,
    /// Composite in linear colour instead of the images' own sRGB values.
    #[serde(default)]
    pub linear: bool,
    /// Nearest point of rays, world units along the ray.
    #[serde(default)]
    pub near: Option<f32>,
    /// Farthest point of rays, world units along the ray.
    #[serde(default)]
    pub far: Option<f32>,
    /// Where in a pixel its ray passes: 0.5 is the centre.
    #[serde(default = "half")]
    pub pixel_center: f32,
    /// What distances along rays, near and far among them, measure.
    #[serde(default)]
    pub ray_direction: RayDirection,
    /// How samples lie in scenes that are seen from one side alone.
    #[serde(default)]
    pub forward_facing: ForwardFacing,
    /// Normalised device coordinates; left out, the dataset's where `forward_facing` says `ndc`.
    #[serde(default)]
    pub ndc: Option<Ndc>,
}

/// The unit of length that a field computes in, and that density is per.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LengthUnit {
    /// World units, as they come: of imported models, of captures whose reader brings them to one size, of normalised device
    /// coordinates, and of configurations that say nothing else.
    #[default]
    World,
    /// World units times `scale / 0.33`, so that nothing depends on the dataset's unit and origin.
    Normalized,
}

/// World to unit cube where nothing else is said, as in Instant-NGP; of it, one normalised length is one world unit.
pub const DEFAULT_SCALE: f64 = 0.33;

/// What `scene.scale` may be.
pub const SCALE_RANGE: std::ops::RangeInclusive<f64> = 1e-15..=1e15;

impl Scene {
    /// Scale and offset from the space that fields compute in to the unit cube: `cube = position * scale + offset`.
    #[must_use]
    pub(crate) fn unit_cube(&self) -> (f64, [f64; 3]) {
        match self.length {
            LengthUnit::World => (resolved(self.scale), resolved(self.offset)),
            LengthUnit::Normalized => (DEFAULT_SCALE, [0.5; 3]),
        }
    }

    /// Gives backgrounds that go by the images their colours.
    pub(super) fn resolve_backgrounds(&mut self, surroundings: Option<Surroundings>) {
        self.background = self.background.over(surroundings);
        self.eval_background = match (self.eval_background, self.background) {
            // What a scene that fills its images leaves open is looked at as it was trained.
            (Background::Auto(_), Background::Fixed(rgb))
                if matches!(surroundings, Some(Surroundings::Filled(_))) =>
            {
                Background::Fixed(rgb)
            }
            (of_images, _) => of_images.over(surroundings),
        };
    }
}

/// How samples lie in scenes that are seen from one side alone, as LLFF captures are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForwardFacing {
    /// Between near and far in the world, as in any scene.
    #[default]
    World,
    /// Evenly in normalised device coordinates, to infinity.
    Ndc,
}

/// Normalised device coordinates (Mildenhall et al. 2020, appendix C), of cameras that look along -z.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ndc {
    /// Depth of the plane at which rays start. Rendered depth counts what is more than 64 times as far as if it were there.
    pub near: f32,
    /// Half of an image's width and height in focal lengths.
    pub half: [f32; 2],
}

/// Length of a perspective camera's ray directions; other cameras' are unit vectors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RayDirection {
    /// Unit vectors: distances from the camera.
    #[default]
    Unit,
    /// Vectors to the plane at depth 1: distances are depths along the viewing axis.
    Plane,
}

/// What images show where there is nothing of the scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Surroundings {
    /// Nothing: they are transparent there.
    Transparent,
    /// One colour (sRGB), which surrounds the scene in most images.
    Plain([u8; 3]),
    /// The scene fills them, of this colour on average.
    Filled([u8; 3]),
}

fn half() -> f32 {
    0.5
}
