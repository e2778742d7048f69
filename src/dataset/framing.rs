//! Estimates the position and size of a scene from its cameras, if its files do not give them.

use glam::DVec3;
use serde::Serialize;

use crate::camera::{Camera, focus};
use crate::config::{DEFAULT_SCALE, SCALE_RANGE};

/// Ratio of half a box's side to the radius of the region that cameras around an object see: that of the NeRF-synthetic scenes,
/// seen from a distance of 4 with a field of view of 40°.
const BOX_MARGIN: f64 = 1.04;
/// Tangent of half of the widest field of view that is assumed to frame an object.
const WIDEST: f64 = 0.8;
/// Minimum fraction of cameras that face the focus for a layout around an object.
const FACING: f64 = 0.8;
/// If most cameras face away from a point and their axes pass it within this fraction of their distance, the poses are
/// assumed to be reversed.
const REVERSED: f64 = 0.1;
/// Unit cubes per side of the box of cameras that look in one direction, if the file does not give it.
const ONE_WAY: u32 = 4;
/// Maximum side of a box, in unit cubes.
const MAX_AABB_SCALE: u32 = 128;
/// Number of sparse points from which on they determine the box, and the part of them that must lie in it.
const MIN_POINTS: usize = 100;
const INSIDE: f64 = 0.95;
/// Cells per side of the unit cube, as in an occupancy grid, for judging the size of a box.
pub const CELLS: f64 = 128.0;

/// Layout of the cameras; lengths in world units.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "layout")]
pub enum CameraLayout {
    /// The cameras look at a common point, from all around or from one side.
    Around {
        /// The point nearest to their optical axes.
        focus: [f64; 3],
        /// Median distance of the cameras from the focus.
        distance: f64,
        /// Median radius of the region that the cameras see at the focus.
        radius: f64,
    },
    /// The cameras look outwards, or in all directions.
    InsideOut {
        /// Mean position of the cameras.
        center: [f64; 3],
        /// Maximum distance of a camera from the centre.
        radius: f64,
    },
    /// The cameras' optical axes are nearly parallel.
    ForwardFacing {
        /// Mean position of the cameras.
        center: [f64; 3],
        /// Mean viewing direction, of unit length.
        direction: [f64; 3],
        /// Maximum distance of a camera from the centre.
        radius: f64,
    },
}

impl CameraLayout {
    /// Determine the layout of `cameras`. Return `None` for a single camera, for cameras at one point, and for poses that look
    /// reversed.
    #[must_use]
    pub fn of(cameras: &[Camera]) -> Option<Self> {
        if cameras.len() < 2 {
            return None;
        }
        let n = cameras.len() as f64;
        let (center, radius) = spread(cameras)?;
        let Some(focus) = focus(cameras) else {
            let direction = cameras.iter().map(Camera::direction).sum::<DVec3>();
            return Some(Self::ForwardFacing {
                center: center.to_array(),
                direction: direction.normalize_or(DVec3::NEG_Z).to_array(),
                radius,
            });
        };
        let facing = cameras.iter().filter(|c| faces(c, focus)).count();
        if 2 * facing < cameras.len() && median_axis_offset(cameras, focus) < REVERSED {
            // All face away from one point: poses in another convention are more likely than a real capture.
            return None;
        }
        if (facing as f64) < FACING * n {
            return Some(Self::InsideOut {
                center: center.to_array(),
                radius,
            });
        }
        let distance = median(cameras.iter().map(|c| c.place().distance(focus)));
        let seen = median(
            cameras
                .iter()
                .map(|c| c.place().distance(focus) * tangent(c)),
        );
        is_length(distance, focus).then_some(Self::Around {
            focus: focus.to_array(),
            distance,
            radius: seen,
        })
    }

    /// Return the inside-out layout of `cameras`. [`Self::of`] cannot distinguish it from reversed poses if all cameras face
    /// away from one point.
    #[must_use]
    pub fn inside_out(cameras: &[Camera]) -> Option<Self> {
        let (center, radius) = spread(cameras)?;
        Some(Self::InsideOut {
            center: center.to_array(),
            radius,
        })
    }

    /// Return the point that the cameras look at, if there is one.
    #[must_use]
    pub fn focus(&self) -> Option<[f64; 3]> {
        match *self {
            Self::Around { focus, .. } => Some(focus),
            Self::InsideOut { .. } | Self::ForwardFacing { .. } => None,
        }
    }

    /// Return the median distance of the cameras from their focus, or `None` without a focus, because walls may be close to
    /// such cameras.
    pub(crate) fn distance(&self) -> Option<f64> {
        match *self {
            Self::Around { distance, .. } => Some(distance),
            Self::InsideOut { .. } | Self::ForwardFacing { .. } => None,
        }
    }

    /// Return the centre of the unit cube for this layout.
    fn center(&self) -> DVec3 {
        match *self {
            Self::Around { focus, .. } => focus.into(),
            Self::InsideOut { center, .. } => center.into(),
            Self::ForwardFacing {
                center,
                direction,
                radius,
            } => DVec3::from(center) + f64::from(ONE_WAY) * radius * DVec3::from(direction),
        }
    }

    /// Return half the side of the unit cube if the box has `aabb_scale` such cubes per side.
    fn half(&self, aabb_scale: u32) -> f64 {
        match *self {
            Self::Around { radius, .. } => BOX_MARGIN * radius,
            Self::InsideOut { radius, .. } => radius * (4.0 / f64::from(aabb_scale)).max(1.0),
            Self::ForwardFacing { radius, .. } => f64::from(ONE_WAY) * radius,
        }
    }

    /// Return whether the default unit cube suits this layout.
    fn suits_default(&self) -> bool {
        let half = 0.5 / DEFAULT_SCALE;
        match *self {
            Self::Around {
                focus, distance, ..
            } => (3.0..=6.0).contains(&distance) && DVec3::from(focus).length() <= 0.5,
            Self::InsideOut { center, radius } | Self::ForwardFacing { center, radius, .. } => {
                DVec3::from(center).length() <= half && (half / 6.0..=half * 2.0).contains(&radius)
            }
        }
    }
}

/// Return whether all of `cameras` look within 45° of their mean direction, as in a forward-facing capture.
#[must_use]
pub fn is_forward_facing(cameras: &[Camera]) -> bool {
    let mean = cameras.iter().map(Camera::direction).sum::<DVec3>();
    let mean = mean.normalize_or_zero();
    let limit = std::f64::consts::FRAC_1_SQRT_2;
    cameras.iter().all(|c| c.direction().dot(mean) > limit)
}

/// Return the mean position of `cameras`, and the maximum distance from it; `None` if all cameras are at one point.
fn spread(cameras: &[Camera]) -> Option<(DVec3, f64)> {
    // Averaging differences keeps full precision, wherever the origin is.
    let first = cameras.first()?.place();
    let sum = cameras.iter().map(|c| c.place() - first).sum::<DVec3>();
    let center = first + sum / cameras.len() as f64;
    let radius = cameras.iter().map(|c| c.place().distance(center));
    let radius = radius.fold(0.0, f64::max);
    is_length(radius, center).then_some((center, radius))
}

/// Return whether `length` exceeds the rounding error of coordinates near `at`.
fn is_length(length: f64, at: DVec3) -> bool {
    length.is_finite() && length > 1e-10 * at.abs().max_element()
}

fn faces(camera: &Camera, point: DVec3) -> bool {
    camera.direction().dot(point - camera.place()) > 0.0
}

/// Return the tangent of half the wider field of view.
fn tangent(camera: &Camera) -> f64 {
    let half = |axis: usize| {
        let side = f64::from([camera.width, camera.height][axis]);
        side / 2.0 / f64::from(camera.focal[axis])
    };
    let angle = half(0).max(half(1));
    if camera.lens.is_perspective() {
        angle.min(WIDEST)
    } else {
        WIDEST
    }
}

/// Return the median, over the cameras, of the distance between optical axis and `point`, divided by the camera's distance from
/// `point`.
fn median_axis_offset(cameras: &[Camera], point: DVec3) -> f64 {
    median(cameras.iter().map(|c| {
        let to = point - c.place();
        to.reject_from_normalized(c.direction()).length() / to.length().max(1e-12)
    }))
}

pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Position and size of the unit cube and of the box, rounded to the values that are used and reported.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Framing {
    /// Scale from world to unit cube, rounded to four significant digits.
    pub scale: f64,
    /// Offset from world to unit cube, rounded to four decimals.
    pub offset: [f64; 3],
    /// Side of the box in unit cubes.
    pub aabb_scale: u32,
    /// The camera layout from which the framing is derived.
    #[serde(flatten)]
    pub layout: CameraLayout,
    /// Number of cameras.
    pub cameras: usize,
}

impl Framing {
    /// Return the framing for `cameras` and a box of `aabb_scale` unit cubes per side. Without `aabb_scale`, if the scene fills
    /// the images (`filled`), they also show the surroundings of an object, so the box reaches at least twice as far as the
    /// cameras.
    #[must_use]
    pub fn of(cameras: &[Camera], aabb_scale: Option<u32>, filled: bool) -> Option<Self> {
        Self::of_layout(
            CameraLayout::of(cameras)?,
            cameras.len(),
            aabb_scale,
            filled,
        )
    }

    /// Return the framing for a number of `cameras` in `layout`.
    #[must_use]
    pub fn of_layout(
        layout: CameraLayout,
        cameras: usize,
        aabb_scale: Option<u32>,
        filled: bool,
    ) -> Option<Self> {
        let aabb_scale = aabb_scale.unwrap_or_else(|| side(&layout, filled));
        let scale = digits(0.5 / layout.half(aabb_scale));
        let offset = DVec3::splat(0.5) - scale * layout.center();
        let is_usable = SCALE_RANGE.contains(&scale) && offset.is_finite();
        is_usable.then(|| Self {
            scale,
            offset: rounded(offset),
            aabb_scale,
            layout,
            cameras,
        })
    }

    /// For cameras around an object, return a single cube that reaches twice as far as the cameras, which needs few samples per
    /// ray.
    pub(super) fn as_one_cube(self) -> Self {
        let CameraLayout::Around {
            focus, distance, ..
        } = self.layout
        else {
            return self;
        };
        let scale = digits(0.5 / (2.0 * distance));
        let offset = DVec3::splat(0.5) - scale * DVec3::from(focus);
        Self {
            scale,
            offset: rounded(offset),
            aabb_scale: 1,
            ..self
        }
    }

    /// Return this framing with as many unit cubes per side as contain most of `points`, which are on the scene's surfaces, if it
    /// has fewer. A few points say nothing.
    #[must_use]
    pub(super) fn around(self, points: &[[f64; 3]]) -> Self {
        if points.len() < MIN_POINTS {
            return self;
        }
        let center = DVec3::from(self.center());
        let mut reach: Vec<f64> = points
            .iter()
            .map(|point| (DVec3::from(*point) - center).abs().max_element())
            .collect();
        let rank = (INSIDE * points.len() as f64) as usize;
        let rank = rank.min(points.len() - 1);
        let (_, far, _) = reach.select_nth_unstable_by(rank, f64::total_cmp);
        let cubes = (*far / self.half()).clamp(1.0, f64::from(MAX_AABB_SCALE));
        let cubes = (cubes.ceil() as u32).next_power_of_two();
        Self {
            aabb_scale: self.aabb_scale.max(cubes),
            ..self
        }
    }

    /// Return the centre of the unit cube in world units.
    #[must_use]
    pub fn center(&self) -> [f64; 3] {
        self.offset.map(|offset| (0.5 - offset) / self.scale)
    }

    /// Return half the side of the unit cube in world units.
    #[must_use]
    pub fn half(&self) -> f64 {
        0.5 / self.scale
    }

    /// Return this framing, or the default framing if that suits the layout; `None` if the default box with the file's
    /// `aabb_scale` suits it unchanged.
    pub(super) fn or_default(self, aabb_scale: Option<u32>) -> Option<Self> {
        if !self.layout.suits_default() {
            return Some(self);
        }
        // Keep the default unit cube, but use as many cubes as needed to contain the surroundings that fill the images.
        let reach = f64::from(self.aabb_scale) * self.half() * DEFAULT_SCALE;
        let cubes = (2.0 * reach).clamp(1.0, f64::from(MAX_AABB_SCALE)).round() as u32;
        let cubes = cubes.next_power_of_two();
        (aabb_scale.is_none() && cubes > 1).then_some(Self {
            scale: DEFAULT_SCALE,
            offset: [0.5; 3],
            aabb_scale: cubes,
            ..self
        })
    }

    /// Return whether the default box would miss most of what the cameras see, or resolve it with only a few cells.
    pub(super) fn is_far_from_default(&self) -> bool {
        let default = 0.5 / DEFAULT_SCALE;
        let middle = DVec3::from(self.center()).abs().max_element();
        let size = default / self.half();
        middle > default || !(0.3..=CELLS / 8.0).contains(&size)
    }

    /// Return the command-line flags for this framing, if the box currently has `cubes` unit cubes per side.
    #[must_use]
    pub fn flags(&self, cubes: u32) -> String {
        let [x, y, z] = self.offset;
        let side = if self.aabb_scale == cubes {
            String::new()
        } else {
            format!(" --set scene.aabb_scale={}", self.aabb_scale)
        };
        format!(
            "--set scene.scale={} --set scene.offset=[{x},{y},{z}]{side}",
            self.scale
        )
    }

    /// Describe the layout from which the framing is derived.
    #[must_use]
    pub fn reason(&self) -> String {
        let cameras = format!("{} cameras", self.cameras);
        match self.layout {
            CameraLayout::Around {
                focus, distance, ..
            } => format!(
                "{cameras} look at {} from about {} away",
                point(focus, distance),
                short(distance)
            ),
            CameraLayout::InsideOut { center, radius } => format!(
                "{cameras} look in all directions from within {} of {}",
                short(radius),
                point(center, radius)
            ),
            CameraLayout::ForwardFacing { center, radius, .. } => format!(
                "{cameras} look one way from within {} of {}",
                short(radius),
                point(center, radius)
            ),
        }
    }
}

/// Return the side of a box in unit cubes, if no file gives it.
fn side(layout: &CameraLayout, filled: bool) -> u32 {
    match *layout {
        CameraLayout::Around {
            distance, radius, ..
        } if filled => {
            let cubes =
                (2.0 * distance / (BOX_MARGIN * radius)).clamp(1.0, f64::from(MAX_AABB_SCALE));
            (cubes.ceil() as u32).next_power_of_two()
        }
        CameraLayout::Around { .. } => 1,
        CameraLayout::InsideOut { .. } => 4 * ONE_WAY,
        CameraLayout::ForwardFacing { .. } => ONE_WAY,
    }
}

/// Round an offset to four decimals.
fn rounded(offset: DVec3) -> [f64; 3] {
    offset.to_array().map(|v| (v * 1e4).round() / 1e4 + 0.0)
}

/// Round a positive number to four significant digits.
fn digits(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

/// Format a length with about three significant digits.
#[must_use]
pub fn short(length: f64) -> String {
    if length != 0.0 && !(1e-6..1e9).contains(&length.abs()) {
        return format!("{length:.2e}");
    }
    let digits = decimals(length.abs());
    format!("{length:.digits$}")
}

/// Return the number of decimals that give a number of size `length` about three significant digits.
fn decimals(length: f64) -> usize {
    if length > 0.0 && length.is_finite() {
        (2.0 - length.log10().floor()).clamp(0.0, 12.0) as usize
    } else {
        2
    }
}

/// Format a point, rounded to about a hundredth of the length `around`.
#[must_use]
pub fn point(p: [f64; 3], around: f64) -> String {
    let digits = decimals(around);
    // Avoid negative zeros.
    let least = 0.5 * 10_f64.powf(-(digits as f64));
    let [x, y, z] = p.map(|v| if v.abs() < least { 0.0 } else { v });
    format!("({x:.digits$}, {y:.digits$}, {z:.digits$})")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Return cameras on a sphere of radius `distance` around `at` that look at it, or away from it.
    fn around(at: [f64; 3], distance: f64, away: bool) -> Vec<Camera> {
        (0..24)
            .map(|i| {
                let (turn, height) = (f32::from(i as u8) * 0.7, f32::from(i as u8 % 3) * 0.3);
                let eye = [turn.cos(), turn.sin(), height].map(|v| v * 4.0);
                let mut camera =
                    Camera::look_at(eye, [0.0; 3], [0.0, 0.0, 1.0], 0.698_131_7, 40, 40);
                let far = f64::from(eye[0].hypot(eye[1]).hypot(eye[2]));
                for (axis, row) in camera.world_from_camera.iter_mut().enumerate() {
                    row[3] = at[axis] + row[3] / far * distance;
                    if away {
                        row[0] = -row[0];
                        row[2] = -row[2];
                    }
                }
                camera
            })
            .collect()
    }

    #[test]
    fn the_synthetic_scenes_box_is_what_suits_them() {
        let found = Framing::of(&around([0.0; 3], 4.0, false), None, false).unwrap();
        assert!((found.scale - 0.33).abs() < 2e-3, "{found:?}");
        assert_eq!(found.offset, [0.5; 3]);
        assert!(found.or_default(None).is_none() && !found.is_far_from_default());
        for (at, distance) in [([0.0; 3], 2.5), ([0.0; 3], 6.5), ([0.6, 0.0, 0.0], 4.0)] {
            let found = Framing::of(&around(at, distance, false), None, false).unwrap();
            assert_eq!(found.or_default(None), Some(found));
            assert!(!found.is_far_from_default(), "{found:?}");
        }
    }

    #[test]
    fn a_copy_in_another_unit_elsewhere_is_framed_alike() {
        for unit in [1e-3, 1.0, 10.0, 1e3] {
            let at = [512_345.25 * unit, 4_649_776.5 * unit, 250.0 * unit];
            let found = Framing::of(&around(at, 4.0 * unit, false), Some(1), false).unwrap();
            assert!((found.scale * unit - 0.3302).abs() < 1e-4, "{found:?}");
            for (at, offset) in at.into_iter().zip(found.offset) {
                let middle = found.scale * at + offset;
                assert!((middle - 0.5).abs() < 1e-3, "{found:?}");
            }
            // The flags reproduce exactly this framing.
            let typed = found.flags(1);
            let scale = typed.split(['=', ' ']).nth(2).unwrap();
            assert_eq!(scale.parse::<f64>().unwrap(), found.scale, "{typed}");
        }
    }

    #[test]
    fn most_sparse_points_are_in_the_box() {
        let found = Framing::of(&around([5.0, 0.0, 0.0], 4.0, false), None, true).unwrap();
        let half = found.half();
        // Nine in ten points on the object, the others at ten times the cube's half, and one far away.
        let points: Vec<[f64; 3]> = (0..200)
            .map(|i| {
                let away = match i {
                    0 => 1e6,
                    i if i % 10 == 0 => 10.0 * half,
                    _ => 0.5 * half,
                };
                [5.0 + away, 0.0, 0.0]
            })
            .collect();
        let all = found.around(&points);
        assert_eq!(all.aabb_scale, 16);
        assert_eq!((all.scale, all.offset), (found.scale, found.offset));
        // Neither points within the box nor a few points change it.
        assert_eq!(found.around(&[[5.0, 0.0, 0.0]; 200]), found);
        assert_eq!(found.around(&points[..50]), found);
    }

    #[test]
    fn what_fills_the_images_is_in_the_box() {
        let around = around([0.0; 3], 40.0, false);
        let found = Framing::of(&around, None, true).unwrap();
        let half = f64::from(found.aabb_scale) * 0.5 / found.scale;
        assert!((80.0..=160.0).contains(&half), "{found:?}");
        assert_eq!(Framing::of(&around, Some(2), true).unwrap().aabb_scale, 2);
    }

    #[test]
    fn cameras_that_look_outwards_are_inside() {
        // Cameras that all face away from one point are assumed to be poses in another convention.
        let reversed = around([7.0, 0.0, 0.0], 30.0, true);
        assert_eq!(Framing::of(&reversed, None, true), None);
        let mut walk = reversed;
        for (i, camera) in walk.iter_mut().enumerate() {
            camera.world_from_camera[i % 3][3] += if i % 2 == 0 { 15.0 } else { -15.0 };
        }
        let found = Framing::of(&walk, None, true).unwrap();
        assert!(
            matches!(found.layout, CameraLayout::InsideOut { .. }),
            "{found:?}"
        );
        assert!(
            found.reason().contains("in all directions"),
            "{}",
            found.reason()
        );
        let half = f64::from(found.aabb_scale) * 0.5 / found.scale;
        assert!(half > 100.0, "{found:?}");
    }

    #[test]
    fn cameras_that_look_one_way_are_outside_or_at_the_border() {
        let cameras: Vec<Camera> = (0..9)
            .map(|i| {
                let eye = [(i % 3) as f32 * 10.0, (i / 3) as f32 * 10.0, 0.0];
                Camera::look_at(eye, [eye[0], eye[1], -1.0], [0.0, 1.0, 0.0], 0.7, 40, 30)
            })
            .collect();
        let found = Framing::of(&cameras, None, true).unwrap();
        assert!(
            matches!(found.layout, CameraLayout::ForwardFacing { .. }),
            "{found:?}"
        );
        // The box lies in front of the cameras.
        assert!(0.5 - found.offset[2] < 0.0, "{found:?}");
    }

    #[test]
    fn one_camera_and_cameras_at_a_point_say_nothing() {
        let all = around([3.0, 4.0, 5.0], 4.0, false);
        assert_eq!(Framing::of(&all[..1], None, false), None);
        assert_eq!(Framing::of(&[all[0]; 5], None, false), None);
    }

    #[test]
    fn numbers_have_as_many_digits_as_they_mean() {
        assert_eq!(short(4000.0), "4000");
        assert_eq!(short(4.0), "4.00");
        assert_eq!(short(0.004), "0.00400");
        assert_eq!(short(3e20), "3.00e20");
        assert_eq!(short(-4e-16), "-4.00e-16");
        assert_eq!(
            point([512_345.251, -1e-9, 3.0], 4.0),
            "(512345.25, 0.00, 3.00)"
        );
    }
}
