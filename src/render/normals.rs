//! Surface normals from the depth of a view: the plane through the points that a pixel and its neighbours see.
//!
//! Gradients of the density are noisy, since nothing in training asks the density for a smooth slope; the depth of a view, a
//! mean over the samples of each ray, is smooth. `shaders/viewer/normals.wgsl` does the same for the window.

use std::str::FromStr;

use glam::DVec3;
use rayon::prelude::*;

use crate::camera::Camera;

/// Pixels with a lower opacity have no normal.
pub(super) const MIN_OPACITY: f32 = 1e-3;
/// Slope of depth against a pixel's side at which a neighbour is taken to be on another surface.
pub(super) const MAX_SLOPE: f32 = 4.0;

/// Where the normals of a view come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NormalSource {
    /// Its depth.
    #[default]
    Depth,
    /// The gradient of the density, averaged over the samples of a ray: noisy, but of each ray alone.
    Density,
}

impl FromStr for NormalSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "depth" => Ok(Self::Depth),
            "density" => Ok(Self::Density),
            _ => Err("give depth or density".to_owned()),
        }
    }
}

/// Return the radius of the neighbourhood in pixels, for an image of this height.
pub(super) fn radius(height: u32) -> u32 {
    ((f64::from(height) / 200.0).round() as u32).clamp(1, 4)
}

/// Return the unit normals times opacity in world space, (height, width, 3), of a view with these distances times opacity, in
/// world units, and opacities, (height, width) each.
pub(super) fn of_depth(camera: &Camera, depth: &[f32], opacity: &[f32]) -> Vec<f32> {
    let width = camera.width as usize;
    let mut normals = vec![0.0; 3 * depth.len()];
    let rows = normals.par_chunks_mut(3 * width.max(1)).enumerate();
    rows.for_each(|(y, row)| {
        for (x, out) in row.chunks_exact_mut(3).enumerate() {
            let opacity_here = opacity[y * width + x];
            if opacity_here > MIN_OPACITY {
                let normal = normal_at(camera, depth, opacity, [x, y]);
                for (out, n) in out.iter_mut().zip(normal.to_array()) {
                    *out = n as f32 * opacity_here;
                }
            }
        }
    });
    normals
}

/// Return the unit normal at pixel (x, y).
fn normal_at(camera: &Camera, depth: &[f32], opacity: &[f32], [x, y]: [usize; 2]) -> DVec3 {
    let (width, height) = (camera.width as usize, camera.height as usize);
    let ray = |dx: f32, dy: f32| {
        let (origin, direction) = camera.ray(x as f32 + 0.5 + dx, y as f32 + 0.5 + dy);
        (DVec3::from(origin), DVec3::from(direction))
    };
    let here = ray(0.0, 0.0);
    let away_from = |(origin, direction): (DVec3, DVec3)| (origin - here.0, direction - here.1);
    let (axis_x, axis_y) = (away_from(ray(1.0, 0.0)), away_from(ray(0.0, 1.0)));
    let distance_of = |pixel: usize| f64::from(depth[pixel] / opacity[pixel]);
    let distance = distance_of(y * width + x);
    let side = (axis_x.0 + distance * axis_x.1).length();
    let radius = radius(camera.height).cast_signed();
    let reach = f64::from(MAX_SLOPE) * side * f64::from(radius);
    let spread = 0.6 * f64::from(radius);
    let point = here.0 + distance * here.1;
    let (mut n, mut at, mut xx, mut xy, mut yy) = (0.0, [0.0; 2], 0.0, 0.0, 0.0);
    let (mut sum, mut sum_x, mut sum_y) = (DVec3::ZERO, DVec3::ZERO, DVec3::ZERO);
    for dy in -radius..=radius {
        for dx in -radius..=radius {
            let to = (
                x.checked_add_signed(dx as isize).filter(|x| *x < width),
                y.checked_add_signed(dy as isize).filter(|y| *y < height),
            );
            let (Some(to_x), Some(to_y)) = to else {
                continue;
            };
            let pixel = to_y * width + to_x;
            if opacity[pixel] <= MIN_OPACITY {
                continue;
            }
            let there = distance_of(pixel);
            let (u, v) = (f64::from(dx), f64::from(dy));
            let direction = (here.1 + u * axis_x.1 + v * axis_y.1).normalize();
            let p = here.0 + u * axis_x.0 + v * axis_y.0 + there * direction - point;
            let away = (there - distance) / reach;
            let near = (u * u + v * v) / (2.0 * spread * spread);
            let weight = f64::from(opacity[pixel]) * (-away * away - near).exp();
            n += weight;
            at = [at[0] + weight * u, at[1] + weight * v];
            xx += weight * u * u;
            xy += weight * u * v;
            yy += weight * v * v;
            sum += weight * p;
            sum_x += weight * u * p;
            sum_y += weight * v * p;
        }
    }
    // Weighted least squares of p = a + u b + v c; the normal is c × b up to the sign.
    let mean = at.map(|v| v / n);
    let (xx, xy, yy) = (
        xx - at[0] * mean[0],
        xy - at[0] * mean[1],
        yy - at[1] * mean[1],
    );
    let (px, py) = (sum_x - mean[0] * sum, sum_y - mean[1] * sum);
    let normal = (py * xx - px * xy).cross(px * yy - py * xy);
    let facing = -here.1;
    match normal.try_normalize() {
        Some(normal) if normal.dot(facing) < 0.0 => -normal,
        Some(normal) => normal,
        None => facing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::Lens;

    /// Return depth and opacity of the unit sphere at the origin as `camera` sees it.
    fn sphere(camera: &Camera, noise: f64) -> (Vec<f32>, Vec<f32>) {
        let mut seed = 1_u32;
        let mut random = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(seed >> 8) / f64::from(1 << 24) - 0.5
        };
        let pixels = (0..camera.height).flat_map(|y| (0..camera.width).map(move |x| (x, y)));
        let depth = pixels.map(|(x, y)| {
            let (origin, direction) = camera.ray(x as f32 + 0.5, y as f32 + 0.5);
            let (o, d) = (DVec3::from(origin), DVec3::from(direction));
            let (b, c) = (o.dot(d), o.length_squared() - 1.0);
            let root = b * b - c;
            if root > 0.0 {
                (-b - root.sqrt() + noise * random()) as f32
            } else {
                0.0
            }
        });
        let depth: Vec<f32> = depth.collect();
        let opacity = depth.iter().map(|d| f32::from(u8::from(*d > 0.0)));
        let opacity = opacity.collect();
        (depth, opacity)
    }

    /// Return the mean and the maximum angle in degrees between the normals and the sphere's, away from its outline.
    fn errors(camera: &Camera, noise: f64) -> (f64, f64) {
        let (depth, opacity) = sphere(camera, noise);
        let normals = of_depth(camera, &depth, &opacity);
        let mut angles = Vec::new();
        for (pixel, normal) in normals.chunks_exact(3).enumerate() {
            let normal = DVec3::from([0, 1, 2].map(|c| f64::from(normal[c])));
            if opacity[pixel] == 0.0 {
                assert_eq!(normal, DVec3::ZERO);
                continue;
            }
            let (x, y) = (pixel as u32 % camera.width, pixel as u32 / camera.width);
            let (origin, direction) = camera.ray(x as f32 + 0.5, y as f32 + 0.5);
            let point = DVec3::from(origin) + f64::from(depth[pixel]) * DVec3::from(direction);
            if -point.dot(direction.into()) > 0.4 {
                angles.push(normal.angle_between(point).to_degrees());
            }
        }
        assert!(angles.len() > 500, "{}", angles.len());
        let mean = angles.iter().sum::<f64>() / angles.len() as f64;
        (mean, angles.into_iter().fold(0.0, f64::max))
    }

    #[test]
    fn normals_of_a_sphere_point_outwards_through_every_lens() {
        let seen = |lens: Lens, side: u32| {
            let camera =
                Camera::look_at([2.0, 1.5, 1.0], [0.0; 3], [0.0, 0.0, 1.0], 0.9, side, side);
            let scale = match lens {
                // Pixels per world unit.
                Lens::Orthographic => 0.3 * side as f32 / camera.focal[0],
                _ => 1.0,
            };
            Camera {
                lens,
                focal: camera.focal.map(|f| f * scale),
                ..camera
            }
        };
        let opencv = Lens::OpenCv {
            k1: -0.1,
            k2: 0.02,
            k3: 0.0,
            p1: 0.01,
            p2: -0.005,
        };
        let fisheye = Lens::OpenCvFisheye {
            k1: 0.02,
            k2: 0.0,
            k3: 0.0,
            k4: 0.0,
        };
        for lens in [Lens::Pinhole, opencv, fisheye, Lens::Orthographic] {
            let (mean, most) = errors(&seen(lens, 100), 0.0);
            assert!(mean < 0.6 && most < 4.0, "{lens:?}: {mean}°, {most}°");
        }
        // Noise of a fifth of a pixel's side.
        let (mean, _) = errors(&seen(Lens::Pinhole, 400), 0.001);
        assert!(mean < 6.0, "{mean}°");
    }
}
