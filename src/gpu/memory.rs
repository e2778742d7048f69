//! Device memory: allocating, writing and reading buffers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytemuck::Pod;

use super::buffer::{Buffer, FAILED, PENDING, READY, ReadBack};
use super::context::Gpu;
use super::error::GpuError;

impl Gpu {
    /// Allocate a storage buffer; see [`super::Allocator::buffer`].
    ///
    /// # Errors
    /// [`GpuError::TooLarge`] or [`GpuError::OutOfMemory`].
    pub fn buffer(&self, label: &str, bytes: u64) -> Result<Buffer, GpuError> {
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::UNIFORM
            | wgpu::BufferUsages::COPY_SRC
            | wgpu::BufferUsages::COPY_DST
            | wgpu::BufferUsages::INDIRECT;
        let buffer = self.allocate(label, bytes, usage)?;
        self.allocated.fetch_add(buffer.bytes, Ordering::Relaxed);
        Ok(buffer)
    }

    /// Create a uniform buffer that holds `value`.
    pub fn uniform<T: Pod>(&self, label: &str, value: &T) -> Result<Buffer, GpuError> {
        self.uniform_slice(label, std::slice::from_ref(value))
    }

    /// Create a uniform buffer that holds `values`.
    pub fn uniform_slice<T: Pod>(&self, label: &str, values: &[T]) -> Result<Buffer, GpuError> {
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let buffer = self.allocate(label, size_of_val(values) as u64, usage)?;
        self.write(&buffer, 0, values);
        Ok(buffer)
    }

    fn allocate(
        &self,
        label: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<Buffer, GpuError> {
        let bytes = self.profile().size_of_buffer(label, bytes)?;
        let raw = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: bytes,
            usage,
            mapped_at_creation: false,
        });
        self.check().map_err(|e| match e {
            GpuError::OutOfMemory { .. } => GpuError::OutOfMemory {
                context: format!("allocating {bytes} bytes for `{label}`"),
            },
            other => other,
        })?;
        Ok(Buffer {
            raw: Some(raw),
            label: label.into(),
            bytes,
        })
    }

    /// Write `data` at byte `offset`, in order with submissions.
    pub fn write<T: Pod>(&self, buffer: &Buffer, offset: u64, data: &[T]) {
        self.write_padded(buffer, offset, bytemuck::cast_slice(data));
    }

    /// Write `bytes`, padded with zeros to a multiple of four.
    pub(super) fn write_padded(&self, buffer: &Buffer, offset: u64, bytes: &[u8]) {
        if bytes.len().is_multiple_of(4) {
            self.queue.write_buffer(buffer.raw(), offset, bytes);
        } else {
            let mut padded = bytes.to_vec();
            padded.resize(bytes.len().next_multiple_of(4), 0);
            self.queue.write_buffer(buffer.raw(), offset, &padded);
        }
    }

    /// Start copying `bytes` bytes from byte `offset` to the host.
    pub fn read_back(&self, buffer: &Buffer, offset: u64, bytes: u64) -> ReadBack {
        let size = bytes.next_multiple_of(4);
        let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("read-back"),
            size,
            usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
            mapped_at_creation: false,
        });
        let mut encoder = self
            .device
            .create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(buffer.raw(), offset, &staging, 0, size);
        self.enqueue(encoder);
        let state = Arc::new(AtomicU8::new(PENDING));
        let flag = Arc::clone(&state);
        staging
            .slice(..)
            .map_async(wgpu::MapMode::Read, move |result| {
                flag.store(
                    if result.is_ok() { READY } else { FAILED },
                    Ordering::Release,
                );
            });
        ReadBack {
            staging,
            state,
            bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
        }
    }

    /// Read `count` values from byte `offset`. Blocks; training steps never call it.
    pub fn read<T: Pod>(
        &self,
        buffer: &Buffer,
        offset: u64,
        count: usize,
    ) -> Result<Vec<T>, GpuError> {
        let ticket = self.read_back(buffer, offset, (count * size_of::<T>()) as u64);
        loop {
            self.wait()?;
            if let Some(bytes) = ticket.poll()? {
                return Ok(bytemuck::pod_collect_to_vec(&bytes));
            }
        }
    }
}
