//! Counts that live on the device, and the indirect dispatches over them: a kernel turns counts into workgroup counts, so that
//! the host never waits for them.

use std::sync::{Arc, Mutex, PoisonError};

use super::allocator::Allocator;
use super::buffer::Buffer;
use super::context::Gpu;
use super::error::GpuError;
use super::kernel::Binding;

/// A u32 of a struct of counts that decides how many workgroups a dispatch runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    field: &'static str,
    offset: u64,
    selector: u32,
}

impl Count {
    /// The u32 called `field` in WGSL, at byte `offset` of the struct, which `shaders/entry/publish.wgsl` selects by `selector`.
    #[must_use]
    pub const fn new(field: &'static str, offset: usize, selector: u32) -> Self {
        Self {
            field,
            offset: offset as u64,
            selector,
        }
    }

    /// The field's name in WGSL.
    #[must_use]
    pub fn field(self) -> &'static str {
        self.field
    }
}

/// Entries of the table: one for each lane of the workgroup of `shaders/entry/publish.wgsl`.
const CAPACITY: usize = 128;

/// A struct of counts on the device together with the indirect arguments derived from them.
#[derive(Debug, Clone)]
pub struct Counts {
    /// The struct.
    pub state: Buffer,
    arguments: Buffer,
    table: Buffer,
    entries: Arc<Mutex<Entries>>,
}

/// Selector, workgroup size and depth of each dispatch over counts.
#[derive(Debug, Default)]
struct Entries {
    all: Vec<[u32; 4]>,
    /// How many of them the device's table holds.
    n_written: usize,
}

impl Counts {
    /// Zeroed counts in a struct of `bytes` bytes.
    ///
    /// # Errors
    /// As [`Allocator::buffer`].
    pub fn new(allocator: &dyn Allocator, label: &str, bytes: u64) -> Result<Self, GpuError> {
        let table_bytes = CAPACITY as u64 * 16;
        Ok(Self {
            state: allocator.buffer(&format!("{label} state"), bytes)?,
            arguments: allocator.buffer(&format!("{label} indirect arguments"), table_bytes)?,
            table: allocator.buffer(&format!("{label} indirect table"), table_bytes)?,
            entries: Arc::default(),
        })
    }

    /// Set `count` to `value`.
    pub fn set(&self, allocator: &dyn Allocator, count: Count, value: u32) {
        allocator.write_bytes(&self.state, count.offset, bytemuck::bytes_of(&value));
    }

    /// The table entry of a dispatch of as many workgroups of `size` as cover `count` in x and y, times `depth` in z.
    pub(super) fn entry(&self, count: Count, size: u32, depth: u32) -> usize {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = [count.selector, size, depth, 0];
        let index = entries.all.iter().position(|e| *e == entry);
        index.unwrap_or_else(|| {
            entries.all.push(entry);
            entries.all.len() - 1
        })
    }

    /// Where the device finds the workgroup counts of entry `index`, which is in the table from now on.
    pub(super) fn arguments(&self, gpu: &Gpu, index: usize) -> Result<(Buffer, u64), GpuError> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.all.len() > CAPACITY {
            return Err(GpuError::Validation {
                reason: "the table of indirect dispatches is full".to_owned(),
            });
        }
        let first = entries.n_written;
        gpu.write(&self.table, first as u64 * 16, &entries.all[first..]);
        entries.n_written = entries.all.len();
        Ok((self.arguments.clone(), index as u64 * 16))
    }

    /// The bindings of `shaders/entry/publish.wgsl`.
    pub(super) fn bindings(&self) -> [Binding<'_>; 3] {
        [
            ("state", &self.state),
            ("table", &self.table),
            ("arguments", &self.arguments),
        ]
    }
}
