//! The similarity between a dataset's world space and the normalised space of a field.
//!
//! Inputs and outputs use world units: poses, near and far, depth, crops and camera paths. The field's space is *normalised*:
//! in it, the unit cube that `scene.scale` and `scene.offset` define has side 1 / 0.33, so that training does not depend on the
//! unit and the origin of the dataset. Positions are converted in f64 and then rounded to f32.

use glam::{DMat3, DVec3};

use crate::camera::{Camera, Lens};
use crate::config::{DEFAULT_SCALE, LengthUnit, ResolvedConfig};

/// A similarity: `field = length · rotation · world + offset`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SceneFrame {
    /// Length of a world unit in the field's space; positive.
    length: f64,
    /// Rotation from the world's axes to the field's.
    rotation: DMat3,
    /// The world's origin in the field's space.
    offset: DVec3,
}

impl SceneFrame {
    /// The identity: the field's space is world space.
    pub const WORLD: Self = Self {
        length: 1.0,
        rotation: DMat3::IDENTITY,
        offset: DVec3::ZERO,
    };

    /// Return the frame of a resolved configuration.
    #[must_use]
    pub fn of(config: &ResolvedConfig) -> Self {
        let scene = &config.scene;
        match scene.length {
            LengthUnit::World => Self::WORLD,
            LengthUnit::Normalized => {
                let offset = DVec3::from(config.offset()) - DVec3::splat(0.5);
                Self {
                    length: config.scale() / DEFAULT_SCALE,
                    rotation: DMat3::IDENTITY,
                    offset: offset / DEFAULT_SCALE,
                }
            }
        }
    }

    /// Convert a length from world units to the field's units.
    #[must_use]
    pub fn length(&self, world: f64) -> f64 {
        world * self.length
    }

    /// Convert a length from the field's units to world units.
    #[must_use]
    pub fn world_length(&self, field: f64) -> f64 {
        field / self.length
    }

    /// Convert a position from world space to the field's space.
    #[must_use]
    pub fn point(&self, world: [f64; 3]) -> [f64; 3] {
        (self.length * (self.rotation * DVec3::from(world)) + self.offset).to_array()
    }

    /// Convert a position from the field's space to world space.
    #[must_use]
    pub fn world_point(&self, field: [f64; 3]) -> [f64; 3] {
        let turned = (DVec3::from(field) - self.offset) / self.length;
        (self.rotation.transpose() * turned).to_array()
    }

    /// Convert a direction from the field's space to world space.
    #[must_use]
    pub fn world_direction(&self, field: [f32; 3]) -> [f32; 3] {
        if self.rotation == DMat3::IDENTITY {
            return field;
        }
        let turned = self.rotation.transpose() * DVec3::from(field.map(f64::from));
        turned.to_array().map(|v| v as f32)
    }

    /// Convert `camera` from world space to the field's space.
    #[must_use]
    pub fn camera(&self, camera: &Camera) -> Camera {
        let [x, y, z] = [0, 1, 2].map(|i| {
            let column = DVec3::from(camera.world_from_camera.map(|row| row[i]));
            self.rotation * column
        });
        let columns = [x, y, z, self.point(camera.position()).into()];
        let focal = match camera.lens {
            Lens::Orthographic => camera
                .focal
                .map(|pixels| self.world_length(f64::from(pixels)) as f32),
            _ => camera.focal,
        };
        Camera {
            world_from_camera: std::array::from_fn(|row| columns.map(|column| column[row])),
            focal,
            ..*camera
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn frame(overrides: &[&str]) -> SceneFrame {
        let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        let config = Config::preset("ngp-small", &overrides).unwrap();
        SceneFrame::of(&ResolvedConfig::from_run(config))
    }

    #[test]
    fn the_default_scale_changes_no_bit() {
        let plain = frame(&["scene.scale=0.33", "scene.offset=[0.5,0.5,0.5]"]);
        assert_eq!(plain, SceneFrame::WORLD);
        let world = frame(&["scene.scale=0.01", "scene.length=world"]);
        assert_eq!(world, SceneFrame::WORLD);
    }

    #[test]
    fn a_scene_in_other_units_elsewhere_looks_the_same_inside() {
        // 0.5 − 0.00033 · 512345250 = −169073.4325, and so on.
        let far = frame(&[
            "scene.scale=0.00033",
            "scene.offset=[-169073.4325,-1534425.745,-82.0]",
        ]);
        let at = |x: f64, y: f64, z: f64| [512_345_250.0 + x, 4_649_776_500.0 + y, 250_000.0 + z];
        for (world, expected) in [
            (at(0.0, 0.0, 0.0), [0.0, 0.0, 0.0]),
            (at(4000.0, -250.0, 1000.0), [4.0, -0.25, 1.0]),
        ] {
            let found = far.point(world);
            for axis in 0..3 {
                assert!((found[axis] - expected[axis]).abs() < 1e-5, "{found:?}");
                assert!((far.world_point(found)[axis] - world[axis]).abs() < 1e-5);
            }
        }
        assert!((far.length(3000.0) - 3.0).abs() < 1e-12);
        assert!((far.world_length(3.0) - 3000.0).abs() < 1e-9);
    }

    #[test]
    fn cameras_keep_what_they_see() {
        let frame = frame(&["scene.scale=3.3", "scene.offset=[-2.8,0.5,7.1]"]);
        let eye = [1.5, 0.25, -1.75];
        let camera = Camera::look_at(eye, [1.0, 0.0, -2.0], [0.0, 0.0, 1.0], 0.7, 40, 30);
        let inside = frame.camera(&camera);
        for point in [[1.0, 0.0, -2.0], [1.1, 0.05, -1.9]] {
            let (a, b) = (camera.project(point), inside.project(frame.point(point)));
            let (a, b) = (a.unwrap(), b.unwrap());
            assert!((a[0] - b[0]).abs() < 1e-9 && (a[1] - b[1]).abs() < 1e-9);
        }
        let flat = Camera {
            lens: Lens::Orthographic,
            focal: [20.0; 2],
            ..camera
        };
        let (a, b) = (
            flat.project([1.1, 0.05, -1.9]).unwrap(),
            frame.camera(&flat).project(frame.point([1.1, 0.05, -1.9])),
        );
        assert!((a[0] - b.unwrap()[0]).abs() < 1e-5);
    }
}
