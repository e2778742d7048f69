//! Empties cells of the occupancy grid of a checkpoint.

use safetensors::SafeTensors;

use super::{Checkpoint, CheckpointError};
use crate::aabb::Aabb;
use crate::sampling::SceneBox;
use crate::scene_frame::SceneFrame;

impl Checkpoint {
    /// Return the file of this checkpoint with the cells of the occupancy grid empty whose centres lie outside `crop`, in world
    /// units, and the number of occupied cells before and after. Nothing is rendered in empty cells; training that goes on may
    /// fill them again.
    ///
    /// # Errors
    /// [`CheckpointError::Tensor`] if the checkpoint has no occupancy grid, or a damaged one.
    pub(crate) fn cropped(&self, crop: &Aabb) -> Result<(Vec<u8>, [u64; 2]), CheckpointError> {
        let mut bytes = self.bytes.clone();
        let tensors =
            SafeTensors::deserialize(&self.bytes).map_err(|e| CheckpointError::Format {
                path: self.path.clone(),
                reason: e.to_string(),
            })?;
        let mut bits = self.bits()?;
        let place = |name: &str| {
            let view = tensors.tensor(name);
            let view = view.map_err(|_| self.fault(name, "is missing"))?;
            let start = view.data().as_ptr() as usize - self.bytes.as_ptr() as usize;
            Ok::<_, CheckpointError>(start..start + view.data().len())
        };
        let (of_bits, of_thickness) = (place("occupancy.bits")?, place("occupancy.thickness")?);
        let count = |bits: &[u32]| bits.iter().map(|word| u64::from(word.count_ones())).sum();
        let before: u64 = count(&bits);
        let config = &self.info.config;
        let side = config.occupancy.as_ref().map_or(0, |o| o.resolution);
        let (scene, frame) = (SceneBox::of(config), SceneFrame::of(config));
        for index in 0..side.pow(3) * scene.cascades() {
            let [x, y, z] = [
                index % side,
                index / side % side,
                index / side.pow(2) % side,
            ];
            let size = f64::from(1_u32 << (index / side.pow(3))) / f64::from(side);
            let at = [x, y, z].map(|i| 0.5 + (f64::from(i) + 0.5 - 0.5 * f64::from(side)) * size);
            let center: [f64; 3] = std::array::from_fn(|a| {
                (at[a] - f64::from(scene.offset[a])) / f64::from(scene.scale)
            });
            if crop.contains(frame.world_point(center).into()) {
                continue;
            }
            bits[index as usize / 32] &= !(1 << (index % 32));
            let at = of_thickness.start + 4 * index as usize;
            bytes[at..at + 4].fill(0);
        }
        bytes[of_bits].copy_from_slice(bytemuck::cast_slice(&bits));
        Ok((bytes, [before, count(&bits)]))
    }
}
