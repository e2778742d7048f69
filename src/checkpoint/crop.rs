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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use safetensors::tensor::{Dtype, TensorView};

    use super::*;
    use crate::checkpoint::FORMAT;
    use crate::config::{Budget, Config, SceneHints};

    #[test]
    fn cells_outside_the_box_are_emptied_in_every_cascade() {
        let folder = tempfile::tempdir().unwrap();
        let overrides = ["occupancy.resolution=16", "scene.aabb_scale=2"].map(str::to_owned);
        let config = Config::preset("ngp-small", &overrides).unwrap();
        let config = config.resolve(SceneHints::default(), Budget::SOFTWARE);
        let (n, side) = (16_usize.pow(3), 16);
        let (bits, thickness) = (vec![255_u8; 2 * n / 8], vec![1.0_f32; 2 * n]);
        let shape = vec![2, side, side, side];
        let tensors = [
            (
                "occupancy.bits",
                TensorView::new(Dtype::U32, vec![2 * n / 32], &bits),
            ),
            (
                "occupancy.thickness",
                TensorView::new(Dtype::F32, shape, bytemuck::cast_slice(&thickness)),
            ),
        ];
        let tensors = tensors.map(|(name, view)| (name, view.unwrap()));
        let metadata = [("format", FORMAT.to_owned()), ("config", config.to_toml())];
        let metadata: HashMap<_, _> = metadata.map(|(k, v)| (k.to_owned(), v)).into();
        let file = safetensors::serialize(tensors, Some(metadata)).unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        std::fs::write(&path, file).unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap();

        // The half of the scene's box with x below its middle.
        let bounds = SceneBox::of(&config).bounds();
        let bounds = bounds.map(|corner| SceneFrame::of(&config).world_point(corner));
        let mut half = bounds;
        half.high[0] = bounds.center().x;
        let (bytes, [before, after]) = checkpoint.cropped(&half).unwrap();
        assert_eq!((before, after), (2 * n as u64, n as u64));
        std::fs::write(&path, bytes).unwrap();
        let cropped = Checkpoint::open(&path).unwrap();
        let kept = cropped.bits().unwrap();
        let thickness = cropped
            .values::<f32>("occupancy.thickness", Dtype::F32, &[2, side, side, side])
            .unwrap();
        for cell in 0..2 * n {
            let is_kept = kept[cell / 32] >> (cell % 32) & 1 == 1;
            assert_eq!(is_kept, cell % side < side / 2, "cell {cell}");
            assert_eq!(thickness[cell], f32::from(u8::from(is_kept)));
        }
    }
}
