//! Kernels (entry points with named bindings) and stages (named lists of dispatches).

use std::sync::Arc;

use super::buffer::Buffer;
use super::context::Gpu;
use super::counts::Counts;
use super::error::GpuError;
use super::shader::{Defines, Shader};

/// A name in the shader text and the buffer behind it.
pub type Binding<'a> = (&'a str, &'a Buffer);

#[derive(Debug)]
struct Slot {
    name: String,
    number: u32,
}

/// A compiled entry point.
#[derive(Debug)]
pub struct Kernel {
    label: String,
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
    slots: Vec<Slot>,
    uses_immediates: bool,
}

impl Kernel {
    /// Compile `entry` of the shader file `file`, specialised by `defines`. The same text is compiled once per device.
    ///
    /// # Errors
    /// [`GpuError::Shader`] when the text is invalid.
    pub fn new(
        gpu: &Gpu,
        file: &str,
        entry: &str,
        defines: &Defines,
    ) -> Result<Arc<Self>, GpuError> {
        let shader = Shader::load(file, defines, gpu.profile().identity_table)?;
        let key = format!("{entry}\n{}", shader.text);
        gpu.cached_kernel(&key, || Self::compile(gpu, &shader, entry))
    }

    fn compile(gpu: &Gpu, shader: &Shader, entry: &str) -> Result<Self, GpuError> {
        let reflection = reflect(shader, entry)?;
        let label = format!("{}::{entry}", shader.name);
        let limit = gpu.limits().max_storage_buffers_per_shader_stage as usize;
        let storage = reflection.entries.iter().filter(|e| is_storage(e)).count();
        if storage > limit {
            return Err(GpuError::Shader {
                shader: label,
                reason: format!("{storage} storage buffers, but this device binds {limit}"),
            });
        }
        let layout = gpu
            .device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: Some(&label),
                entries: &reflection.entries,
            });
        let pipeline_layout = gpu
            .device
            .create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(&label),
                bind_group_layouts: &[Some(&layout)],
                immediate_size: if reflection.uses_immediates {
                    IDENTITY_BYTES
                } else {
                    0
                },
            });
        let module = gpu
            .device
            .create_shader_module(wgpu::ShaderModuleDescriptor {
                label: Some(&label),
                source: wgpu::ShaderSource::Wgsl(shader.text.as_str().into()),
            });
        let pipeline = gpu
            .device
            .create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&label),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some(entry),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                cache: None,
            });
        Ok(Self {
            label,
            pipeline,
            layout,
            slots: reflection.slots,
            uses_immediates: reflection.uses_immediates,
        })
    }

    /// `file::entry`.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    fn bind(&self, gpu: &Gpu, bindings: &[Binding<'_>]) -> Result<wgpu::BindGroup, GpuError> {
        let fault = |reason: String| GpuError::Shader {
            shader: self.label.clone(),
            reason,
        };
        let mut entries = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            let (_, buffer) = bindings
                .iter()
                .find(|(name, _)| *name == slot.name)
                .ok_or_else(|| fault(format!("nothing is bound to `{}`", slot.name)))?;
            entries.push(wgpu::BindGroupEntry {
                binding: slot.number,
                resource: buffer.raw().as_entire_binding(),
            });
        }
        Ok(gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(&self.label),
            layout: &self.layout,
            entries: &entries,
        }))
    }
}

/// Bytes of the identity table that proves indices uniform: u32 0..32.
const IDENTITY_BYTES: u32 = 128;

fn identity_table() -> [u32; 32] {
    std::array::from_fn(|i| u32::try_from(i).unwrap_or(0))
}

fn is_storage(entry: &wgpu::BindGroupLayoutEntry) -> bool {
    matches!(
        entry.ty,
        wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Storage { .. },
            ..
        }
    )
}

struct Reflection {
    entries: Vec<wgpu::BindGroupLayoutEntry>,
    slots: Vec<Slot>,
    uses_immediates: bool,
}

/// Parse and validate `shader`, and list what `entry` binds.
fn reflect(shader: &Shader, entry: &str) -> Result<Reflection, GpuError> {
    let fault = |reason: String| GpuError::Shader {
        shader: shader.name.clone(),
        reason,
    };
    let module = naga::front::wgsl::parse_str(&shader.text)
        .map_err(|e| fault(e.emit_to_string(&shader.text)))?;
    let capabilities = naga::valid::Capabilities::IMMEDIATES;
    let info = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities)
        .validate(&module)
        .map_err(|e| fault(e.emit_to_string(&shader.text)))?;
    let index = module
        .entry_points
        .iter()
        .position(|e| e.name == entry)
        .ok_or_else(|| fault(format!("there is no entry point `{entry}`")))?;
    let used = info.get_entry_point(index);
    let mut reflection = Reflection {
        entries: Vec::new(),
        slots: Vec::new(),
        uses_immediates: false,
    };
    for (handle, variable) in module.global_variables.iter() {
        if used[handle].is_empty() {
            continue;
        }
        let ty = match variable.space {
            naga::AddressSpace::Immediate => {
                reflection.uses_immediates = true;
                continue;
            }
            naga::AddressSpace::Uniform => wgpu::BufferBindingType::Uniform,
            naga::AddressSpace::Storage { access } => wgpu::BufferBindingType::Storage {
                read_only: !access.contains(naga::StorageAccess::STORE),
            },
            _ => continue,
        };
        let (Some(binding), Some(name)) = (&variable.binding, &variable.name) else {
            continue;
        };
        reflection.slots.push(Slot {
            name: name.clone(),
            number: binding.binding,
        });
        reflection.entries.push(wgpu::BindGroupLayoutEntry {
            binding: binding.binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty,
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        });
    }
    Ok(reflection)
}

/// How many workgroups a dispatch runs.
#[derive(Debug, Clone)]
pub enum Groups {
    /// A count known to the host.
    Direct([u32; 3]),
    /// What [`Counts::groups`] gave: a count on the device, published before the dispatch.
    Counted(Counts, usize),
}

/// Where a recorded dispatch finds its number of workgroups.
#[derive(Debug, Clone)]
enum DispatchSize {
    Direct([u32; 3]),
    /// Three u32 in a buffer, at a byte offset.
    Indirect(Buffer, u64),
}

impl Groups {
    /// Enough workgroups of `size` for `items` items, laid out in two dimensions once one is too small. Kernels that
    /// may run over 65,535 workgroups take their index from `linear_group`.
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
    /// What `kiln bench` calls it.
    pub name: &'static str,
    commands: Vec<Command>,
}

impl Stage {
    /// An empty stage; see [`Gpu::stage`].
    pub(super) fn new(gpu: Arc<Gpu>, name: &'static str) -> Self {
        Self {
            gpu,
            name,
            commands: Vec::new(),
        }
    }

    /// The device that runs it.
    #[must_use]
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// Add: run `kernel` over `bindings` with `groups` workgroups. Names the kernel does not use are ignored.
    ///
    /// # Errors
    /// [`GpuError::Shader`] when a binding is missing.
    pub fn dispatch(
        &mut self,
        kernel: &Arc<Kernel>,
        bindings: &[Binding<'_>],
        groups: Groups,
    ) -> Result<&mut Self, GpuError> {
        let group = kernel.bind(&self.gpu, bindings)?;
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

    /// Add: run `entry` of the shader `file`, specialised by `defines`, as [`Self::dispatch`] does.
    ///
    /// # Errors
    /// [`GpuError::Shader`] when the text is invalid or a binding is missing.
    pub fn run(
        &mut self,
        file: &str,
        entry: &str,
        defines: &Defines,
        bindings: &[Binding<'_>],
        groups: Groups,
    ) -> Result<&mut Self, GpuError> {
        let kernel = Kernel::new(&self.gpu, file, entry, defines)?;
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

    /// Add all of `other`'s commands.
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

    /// Record the stage, its dispatches in as few compute passes as its clears allow.
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
                pass.set_pipeline(&kernel.pipeline);
                pass.set_bind_group(0, group, &[]);
                if kernel.uses_immediates {
                    pass.set_immediates(0, bytemuck::cast_slice(&identity_table()));
                }
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
