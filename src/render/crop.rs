//! A box that rays are cut off at: what lies outside is not rendered.

use std::str::FromStr;

use bytemuck::{Pod, Zeroable};

use crate::scene_frame::SceneFrame;

/// A box along the world's axes.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Crop {
    /// Lower corner in world units.
    pub low: [f64; 3],
    /// Upper corner.
    pub high: [f64; 3],
}

/// Mirror of `Crop` in `shaders/common/crop.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[expect(
    missing_docs,
    reason = "documented in the WGSL struct, whose offsets a test compares"
)]
pub struct GpuCrop {
    pub low: [f32; 3],
    pub is_set: u32,
    pub high: [f32; 3],
    pub unused: u32,
}

impl GpuCrop {
    /// The device's view of `crop`, in the space of `frame`.
    #[must_use]
    pub fn new(crop: Option<Crop>, frame: &SceneFrame) -> Self {
        crop.map_or_else(Self::zeroed, |crop| Self {
            low: frame.point(crop.low).map(|v| v as f32),
            is_set: 1,
            high: frame.point(crop.high).map(|v| v as f32),
            unused: 0,
        })
    }
}

impl Crop {
    /// Between two corners, if that is a box.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(low: [f64; 3], high: [f64; 3]) -> Result<Self, String> {
        for (axis, name) in ["x", "y", "z"].into_iter().enumerate() {
            let (a, b) = (low[axis], high[axis]);
            if !(a.is_finite() && b.is_finite() && a < b) {
                return Err(format!(
                    "a crop box ends behind its start along every axis, and along {name} it runs from {a} to {b}"
                ));
            }
        }
        Ok(Self { low, high })
    }
}

impl FromStr for Crop {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Result<Vec<f64>, _> = text.split(',').map(|t| t.trim().parse()).collect();
        match numbers.as_deref() {
            Ok(&[x0, y0, z0, x1, y1, z1]) => Self::new([x0, y0, z0], [x1, y1, z1]),
            _ => Err(format!(
                "`{text}` is no box: give six numbers x0,y0,z0,x1,y1,z1, two corners in world units"
            )),
        }
    }
}

impl std::fmt::Display for Crop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ([x0, y0, z0], [x1, y1, z1]) = (self.low, self.high);
        write!(f, "{x0:.4},{y0:.4},{z0:.4},{x1:.4},{y1:.4},{z1:.4}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_read_as_they_are_written() {
        let crop: Crop = "-1, -0.5,0,1,0.5,2.25".parse().unwrap();
        assert_eq!(crop.low, [-1.0, -0.5, 0.0]);
        assert_eq!(crop.to_string().parse(), Ok(crop));
        for bad in ["", "1,2,3", "0,0,0,1,1,0", "0,0,0,1,1,nan", "a,0,0,1,1,1"] {
            assert!(bad.parse::<Crop>().is_err(), "{bad}");
        }
    }
}
