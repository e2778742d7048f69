//! Counts on the device, and indirect dispatches over them: a kernel turns counts into workgroup counts, so that the host never
//! waits for the counts.

use std::sync::{Arc, Mutex, PoisonError};

use super::allocator::Allocator;
use super::buffer::Buffer;
use super::context::Gpu;
use super::error::GpuError;
use super::kernel::Binding;

/// A u32 field of a struct of counts, which determines the number of workgroups of a dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    field: &'static str,
    offset: u64,
    selector: u32,
}

impl Count {
    /// The u32 named `field` in WGSL, at byte `offset` of the struct. `shaders/entry/publish.wgsl` identifies it by `selector`.
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

/// Capacity of the table in entries: one per invocation of the workgroup of `shaders/entry/publish.wgsl`.
const CAPACITY: usize = 128;

/// A struct of counts on the device, and the indirect dispatch arguments derived from it.
#[derive(Debug, Clone)]
pub struct Counts {
    /// The struct of counts.
    pub state: Buffer,
    arguments: Buffer,
    table: Buffer,
    entries: Arc<Mutex<Entries>>,
}

/// Selector, workgroup size and depth of each distinct dispatch over counts.
#[derive(Debug, Default)]
struct Entries {
    all: Vec<[u32; 4]>,
    /// Number of entries already written to the device's table.
    n_written: usize,
}

impl Counts {
    /// Allocate a zeroed struct of counts of `bytes` bytes.
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

    /// Return the index of the table entry of a dispatch that covers `count` with workgroups of `size` in x and y, times
    /// `depth` in z. Add the entry if it is new.
    pub(super) fn entry(&self, count: Count, size: u32, depth: u32) -> usize {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = [count.selector, size, depth, 0];
        let index = entries.all.iter().position(|e| *e == entry);
        index.unwrap_or_else(|| {
            entries.all.push(entry);
            entries.all.len() - 1
        })
    }

    /// Write new entries to the device's table, and return the buffer and byte offset of the workgroup counts of entry `index`.
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

    /// Return the bindings of `shaders/entry/publish.wgsl`.
    pub(super) fn bindings(&self) -> [Binding<'_>; 3] {
        [
            ("state", &self.state),
            ("table", &self.table),
            ("arguments", &self.arguments),
        ]
    }
}
