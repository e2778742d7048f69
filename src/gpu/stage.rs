//! Stages: named lists of dispatches.

use std::sync::Arc;

use super::buffer::Buffer;
use super::context::Gpu;
use super::counts::{Count, Counts};
use super::error::GpuError;
use super::kernel::{Binding, Kernel};
use super::shader::Defines;

/// Number of workgroups of a dispatch.
#[derive(Debug, Clone)]
pub enum Groups {
    /// A number known to the host.
    Direct([u32; 3]),
    /// The result of [`Counts::groups`]: derived from a count on the device, which must be published before the dispatch.
    Counted(Counts, usize),
}

/// Number of workgroups of a recorded dispatch.
#[derive(Debug, Clone)]
enum DispatchSize {
    Direct([u32; 3]),
    /// Three u32 in a buffer, at a byte offset.
    Indirect(Buffer, u64),
}

impl Groups {
    /// Return enough workgroups of `size` for `items` items, in two dimensions if one is too small. Kernels that may run more
    /// than 65,535 workgroups compute their index with `linear_group`.
    #[must_use]
    pub fn covering(items: u64, size: u64) -> Self {
        const WIDTH: u64 = 32_768;
        let groups = items.div_ceil(size);
        let (x, y) = if groups <= WIDTH {
            (groups, 1)
        } else {
            (WIDTH, groups.div_ceil(WIDTH))
        };
        Self::Direct([
            u32::try_from(x).unwrap_or(u32::MAX),
            u32::try_from(y).unwrap_or(u32::MAX),
            1,
        ])
    }
}

#[derive(Debug, Clone)]
enum Command {
    Dispatch {
        kernel: Arc<Kernel>,
        group: wgpu::BindGroup,
        size: DispatchSize,
    },
    Clear(Buffer),
    Copy(Buffer, Buffer),
}

/// A named list of commands for a device: the unit of submission, timing and reporting.
#[derive(Debug, Clone)]
pub struct Stage {
    gpu: Arc<Gpu>,
    /// Name, as `kiln bench` shows it.
    pub name: &'static str,
    commands: Vec<Command>,
}

impl Stage {
    /// The stage's device.
    #[must_use]
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// Add: dispatch `groups` workgroups of `kernel` with `bindings`; names that the kernel does not use are ignored.
    ///
    /// # Errors
    /// [`GpuError::Shader`] if a binding is missing.
    pub fn dispatch(
        &mut self,
        kernel: &Arc<Kernel>,
        bindings: &[Binding<'_>],
        groups: Groups,
    ) -> Result<&mut Self, GpuError> {
        let group = kernel.bind(&self.gpu.device, bindings)?;
        let size = match groups {
            Groups::Direct(size) => DispatchSize::Direct(size),
            Groups::Counted(counts, index) => {
                let (buffer, offset) = counts.arguments(&self.gpu, index)?;
                DispatchSize::Indirect(buffer, offset)
            }
        };
        self.commands.push(Command::Dispatch {
            kernel: Arc::clone(kernel),
            group,
            size,
        });
        Ok(self)
    }

    /// Add: dispatch `entry` of the shader `file`, specialised by `defines`; see [`Self::dispatch`].
    ///
    /// # Errors
    /// [`GpuError::Shader`] if the shader is invalid or a binding is missing.
    pub fn run(
        &mut self,
        file: &str,
        entry: &str,
        defines: &Defines,
        bindings: &[Binding<'_>],
        groups: Groups,
    ) -> Result<&mut Self, GpuError> {
        let kernel = self.gpu.kernel(file, entry, defines)?;
        self.dispatch(&kernel, bindings, groups)
    }

    /// Add: fill `buffer` with zeros.
    pub fn clear(&mut self, buffer: &Buffer) -> &mut Self {
        self.commands.push(Command::Clear(buffer.clone()));
        self
    }

    /// Add: copy all of `from` to the start of `to`.
    pub fn copy(&mut self, from: &Buffer, to: &Buffer) -> &mut Self {
        self.commands.push(Command::Copy(from.clone(), to.clone()));
        self
    }

    /// Add: all commands of `other`.
    pub fn append(&mut self, other: Self) -> &mut Self {
        self.commands.extend(other.commands);
        self
    }

    /// Number of commands.
    #[must_use]
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// Whether the stage does nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Record the commands; consecutive dispatches share a compute pass.
    pub(crate) fn record(&self, encoder: &mut wgpu::CommandEncoder) {
        let mut commands = self.commands.as_slice();
        while let Some(first) = commands.first() {
            if let Command::Clear(buffer) = first {
                encoder.clear_buffer(buffer.raw(), 0, None);
                commands = &commands[1..];
                continue;
            }
            if let Command::Copy(from, to) = first {
                encoder.copy_buffer_to_buffer(from.raw(), 0, to.raw(), 0, from.bytes());
                commands = &commands[1..];
                continue;
            }
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: Some(self.name),
                timestamp_writes: None,
            });
            while let Some(Command::Dispatch {
                kernel,
                group,
                size,
            }) = commands.first()
            {
                kernel.set(&mut pass, group);
                match size {
                    DispatchSize::Direct([x, y, z]) => pass.dispatch_workgroups(*x, *y, *z),
                    DispatchSize::Indirect(buffer, offset) => {
                        pass.dispatch_workgroups_indirect(buffer.raw(), *offset);
                    }
                }
                commands = &commands[1..];
            }
        }
    }
}

impl Gpu {
    /// Create an empty stage for this device.
    ///
    /// # Panics
    /// Never: a device in use is held by an [`Arc`].
    #[must_use]
    pub fn stage(&self, name: &'static str) -> Stage {
        Stage {
            gpu: self.shared().expect("a device in use is alive"),
            name,
            commands: Vec::new(),
        }
    }
}

impl Counts {
    /// Return enough workgroups of `size` to cover `count` in x and y, times `depth` in z.
    #[must_use]
    pub fn groups(&self, count: Count, size: u32, depth: u32) -> Groups {
        Groups::Counted(self.clone(), self.entry(count, size, depth))
    }

    /// Add: compute the arguments of all indirect dispatches from the current counts.
    pub fn publish(&self, stage: &mut Stage) -> Result<(), GpuError> {
        let once = Groups::Direct([1, 1, 1]);
        let (defines, bindings) = (Defines::new(), self.bindings());
        stage.run("entry/publish", "publish", &defines, &bindings, once)?;
        Ok(())
    }
}
