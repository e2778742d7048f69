//! Storage buffers, and read-backs that never block.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::error::GpuError;

/// A storage buffer on the device, or in a plan.
#[derive(Debug, Clone)]
pub struct Buffer {
    pub(super) raw: Option<wgpu::Buffer>,
    pub(super) label: Arc<str>,
    pub(super) bytes: u64,
}

impl Buffer {
    /// A buffer that is planned only.
    pub(super) fn planned(label: &str, bytes: u64) -> Self {
        Self {
            raw: None,
            label: label.into(),
            bytes,
        }
    }

    /// The buffer on the device.
    ///
    /// # Panics
    /// If the buffer is only planned: nothing can be bound, written or read there.
    pub(crate) fn raw(&self) -> &wgpu::Buffer {
        self.raw.as_ref().expect("a planned buffer is on no device")
    }

    /// Size in bytes (a multiple of 16).
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The name it was created under.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }
}

/// A copy of device memory on its way to the host; see [`super::Gpu::read_back`].
#[derive(Debug)]
pub struct ReadBack {
    pub(super) staging: wgpu::Buffer,
    pub(super) state: Arc<AtomicU8>,
    pub(super) bytes: usize,
}

pub(super) const PENDING: u8 = 0;
pub(super) const READY: u8 = 1;
pub(super) const FAILED: u8 = 2;

impl ReadBack {
    /// The bytes, once they have arrived.
    ///
    /// # Errors
    /// [`GpuError::DeviceLost`] when the copy failed.
    pub fn poll(&self) -> Result<Option<Vec<u8>>, GpuError> {
        match self.state.load(Ordering::Acquire) {
            PENDING => Ok(None),
            READY => {
                let view = self.staging.slice(..).get_mapped_range().map_err(|e| {
                    GpuError::Validation {
                        reason: e.to_string(),
                    }
                })?;
                Ok(Some(view[..self.bytes].to_vec()))
            }
            _ => Err(GpuError::DeviceLost {
                reason: "a read-back failed".to_owned(),
            }),
        }
    }
}
