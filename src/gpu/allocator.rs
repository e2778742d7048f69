//! Buffer allocation: on a device, or in a plan that adds up sizes.
//!
//! Every constructor that allocates takes an [`Allocator`]. With a [`Planner`], the same constructors compute the memory that a
//! run needs, and find buffers that the device cannot bind, before anything is allocated.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytemuck::Pod;

use super::adapter::DeviceProfile;
use super::buffer::Buffer;
use super::context::Gpu;
use super::error::GpuError;

/// Allocates buffers.
pub trait Allocator {
    /// Return the properties of the device.
    fn profile(&self) -> &DeviceProfile;

    /// Allocate a zeroed storage buffer of `bytes` bytes, rounded up to a multiple of 16. Shaders may also bind it as a uniform
    /// buffer if it is small enough.
    ///
    /// # Errors
    /// [`GpuError::TooLarge`]; on a device also [`GpuError::OutOfMemory`].
    fn buffer(&self, label: &str, bytes: u64) -> Result<Buffer, GpuError>;

    /// Write `bytes` at byte `offset` of `buffer`, in order with submissions.
    fn write_bytes(&self, buffer: &Buffer, offset: u64, bytes: &[u8]);
}

impl dyn Allocator + '_ {
    /// Write `data` at byte `offset` of `buffer`, in order with submissions.
    pub fn write<T: Pod>(&self, buffer: &Buffer, offset: u64, data: &[T]) {
        self.write_bytes(buffer, offset, bytemuck::cast_slice(data));
    }

    /// Allocate a zeroed storage buffer of `n` elements of `size` bytes, labelled with `owner` and `role`.
    pub fn array(&self, owner: &str, role: &str, n: u64, size: u64) -> Result<Buffer, GpuError> {
        self.buffer(&format!("{owner} {role}"), n * size)
    }

    /// Allocate a storage buffer that holds `data`.
    pub fn buffer_with<T: Pod>(&self, label: &str, data: &[T]) -> Result<Buffer, GpuError> {
        let buffer = self.buffer(label, size_of_val(data) as u64)?;
        self.write(&buffer, 0, data);
        Ok(buffer)
    }
}

impl<T: Allocator + ?Sized> Allocator for Arc<T> {
    fn profile(&self) -> &DeviceProfile {
        (**self).profile()
    }

    fn buffer(&self, label: &str, bytes: u64) -> Result<Buffer, GpuError> {
        (**self).buffer(label, bytes)
    }

    fn write_bytes(&self, buffer: &Buffer, offset: u64, bytes: &[u8]) {
        (**self).write_bytes(buffer, offset, bytes);
    }
}

impl Allocator for Gpu {
    fn profile(&self) -> &DeviceProfile {
        Self::profile(self)
    }

    fn buffer(&self, label: &str, bytes: u64) -> Result<Buffer, GpuError> {
        Self::buffer(self, label, bytes)
    }

    fn write_bytes(&self, buffer: &Buffer, offset: u64, bytes: &[u8]) {
        self.write_padded(buffer, offset, bytes);
    }
}

impl Gpu {
    /// Allocate a storage buffer that holds `data`.
    pub fn buffer_with<T: Pod>(&self, label: &str, data: &[T]) -> Result<Buffer, GpuError> {
        let allocator: &dyn Allocator = self;
        allocator.buffer_with(label, data)
    }
}

/// An allocator that allocates nothing and adds up the sizes of the buffers.
#[derive(Debug)]
pub struct Planner {
    profile: DeviceProfile,
    bytes: AtomicU64,
}

impl Planner {
    /// Create an empty plan for a device with `profile`.
    #[must_use]
    pub fn new(profile: &DeviceProfile) -> Self {
        Self {
            profile: *profile,
            bytes: AtomicU64::new(0),
        }
    }

    /// Return the total size in bytes of all buffers so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Allocator for Planner {
    fn profile(&self) -> &DeviceProfile {
        &self.profile
    }

    fn buffer(&self, label: &str, bytes: u64) -> Result<Buffer, GpuError> {
        let bytes = self.profile.size_of_buffer(label, bytes)?;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(Buffer::planned(label, bytes))
    }

    fn write_bytes(&self, _buffer: &Buffer, _offset: u64, _bytes: &[u8]) {}
}

/// An allocator whose errors say how to need less memory.
pub struct WithAdvice<'a> {
    allocator: &'a dyn Allocator,
    advice: &'a str,
}

impl<'a> WithAdvice<'a> {
    /// Wrap `allocator`. [`GpuError::TooLarge`] errors without advice get `advice`.
    #[must_use]
    pub fn new(allocator: &'a dyn Allocator, advice: &'a str) -> Self {
        Self { allocator, advice }
    }
}

impl Allocator for WithAdvice<'_> {
    fn profile(&self) -> &DeviceProfile {
        self.allocator.profile()
    }

    fn buffer(&self, label: &str, bytes: u64) -> Result<Buffer, GpuError> {
        let buffer = self.allocator.buffer(label, bytes);
        buffer.map_err(|error| error.advised(self.advice))
    }

    fn write_bytes(&self, buffer: &Buffer, offset: u64, bytes: &[u8]) {
        self.allocator.write_bytes(buffer, offset, bytes);
    }
}
