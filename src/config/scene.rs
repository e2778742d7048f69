//! The scene's box and frame, and what surrounds the scene.

use serde::{Deserialize, Serialize};

use super::Background;
use super::resolve::resolved;

/// Scene box, coordinate frame and backgrounds. World positions map to the unit cube by `u = world * scale + offset`; the
/// domain of the encodings is the cube with side `aabb_scale` around 0.5, the centre of the unit cube.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scene {
    /// Scale from world units to the unit cube: 1e-15 to 1e15. Default: the dataset's, else 0.33.
    #[serde(default)]
    pub scale: Option<f64>,
    /// Offset from world to unit cube, added after `scale`. Default: the dataset's, else 0.5 along each axis.
    #[serde(default)]
    pub offset: Option<[f64; 3]>,
    /// Unit of length of the field's space; density is per this unit. Default: `world`; the presets set `normalized`.
    #[serde(default)]
    pub length: LengthUnit,
    /// Side of the scene's box in unit cubes: a power of two up to 128. Default: the dataset's, else 1.
    #[serde(default)]
    pub aabb_scale: Option<u32>,
    /// Background of training rays: `random`, `white`, `black`, `#rrggbb`, or one that depends on the images: `auto`,
    /// or `auto:` with a colour.
    pub background: Background,
    /// Background of evaluation and rendering: `white`, `black`, `#rrggbb`, or `auto:` with a colour.
    pub eval_background: Background,
    /// Whether to composite in linear colour space instead of sRGB values. Default: false.
    #[serde(default)]
    pub linear: bool,
    /// Near bound of rays, in world units along the ray. Default: the dataset's, else 0.
    #[serde(default)]
    pub near: Option<f32>,
    /// Far bound of rays, in world units along the ray. Default: the dataset's, else none.
    #[serde(default)]
    pub far: Option<f32>,
    /// Position of a ray within its pixel along both axes, 0 to 1. Default: 0.5, the centre.
    #[serde(default = "half")]
    pub pixel_center: f32,
    /// What distances along rays measure, including near and far. Default: `unit`.
    #[serde(default)]
    pub ray_direction: RayDirection,
    /// Space in which samples of forward-facing captures are placed. Default: `world`.
    #[serde(default)]
    pub forward_facing: ForwardFacing,
    /// Normalised device coordinates. Default: the dataset's if `forward_facing` is `ndc`, else none.
    #[serde(default)]
    pub ndc: Option<Ndc>,
}

/// Unit of length of the space that a field computes in; density is per this unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LengthUnit {
    /// World units: for imported models, captures that the dataset's reader has normalised, normalised device coordinates, and
    /// configurations without this setting.
    #[default]
    World,
    /// Normalised length: world units times `scale / 0.33`, so that nothing depends on the dataset's unit and origin.
    Normalized,
}

/// Default scale from world units to the unit cube, as in Instant-NGP; with it, a normalised length is a world unit.
pub const DEFAULT_SCALE: f64 = 0.33;

/// Range of `scene.scale`.
pub const SCALE_RANGE: std::ops::RangeInclusive<f64> = 1e-15..=1e15;

impl Scene {
    /// Return scale and offset from the field's space to the unit cube: `cube = position * scale + offset`.
    #[must_use]
    pub(crate) fn unit_cube(&self) -> (f64, [f64; 3]) {
        match self.length {
            LengthUnit::World => (resolved(self.scale), resolved(self.offset)),
            LengthUnit::Normalized => (DEFAULT_SCALE, [0.5; 3]),
        }
    }

    /// Replace automatic backgrounds by those for images with these `surroundings`.
    pub(super) fn resolve_backgrounds(&mut self, surroundings: Option<Surroundings>) {
        self.background = self.background.resolved_for(surroundings);
        self.eval_background = match (self.eval_background, self.background) {
            // If the scene fills its images, rays that pass through it have the same background as in training.
            (Background::Auto(_), Background::Fixed(rgb))
                if matches!(surroundings, Some(Surroundings::Filled(_))) =>
            {
                Background::Fixed(rgb)
            }
            (of_images, _) => of_images.resolved_for(surroundings),
        };
    }
}

/// Space in which samples of forward-facing captures, such as LLFF's, are placed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForwardFacing {
    /// World space, between near and far.
    #[default]
    World,
    /// Normalised device coordinates, evenly spaced, up to infinity.
    Ndc,
}

/// Normalised device coordinates (Mildenhall et al. 2020, appendix C), for cameras that look along -z.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ndc {
    /// Depth of the near plane, at which rays start; positive. In rendered depth, the distance of a sample is
    /// limited to 64 times this depth.
    pub near: f32,
    /// Half of the image's width and height, in focal lengths; positive.
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

/// What the images show around the scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Surroundings {
    /// Transparent pixels.
    Transparent,
    /// A border of one colour (sRGB), in most images.
    Plain([u8; 3]),
    /// The scene fills the images; their mean colour (sRGB).
    Filled([u8; 3]),
}

fn half() -> f32 {
    0.5
}
