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
    /// Create a buffer that exists only in a plan.
    pub(super) fn planned(label: &str, bytes: u64) -> Self {
        Self {
            raw: None,
            label: label.into(),
            bytes,
        }
    }

    /// Return the buffer on the device.
    ///
    /// # Panics
    /// If the buffer exists only in a plan: it cannot be bound, written or read.
    pub(crate) fn raw(&self) -> &wgpu::Buffer {
        self.raw.as_ref().expect("a planned buffer is on no device")
    }

    /// Size in bytes (a multiple of 16).
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The label it was created with.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }
}

/// A pending copy of device memory to the host; see [`super::Gpu::read_back`].
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
    /// Return the bytes if the copy is complete, else `None`.
    ///
    /// # Errors
    /// [`GpuError::DeviceLost`] if the copy failed.
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
