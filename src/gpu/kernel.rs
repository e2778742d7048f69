//! Kernels: compiled entry points with named bindings.

use super::buffer::Buffer;
use super::error::GpuError;
use super::shader::Shader;
use super::trusted::shader_module;

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
    /// Compile `entry` of `shader`, with wgpu's run-time checks if `checked`.
    pub(super) fn compile(
        device: &wgpu::Device,
        shader: &Shader,
        entry: &str,
        checked: bool,
    ) -> Result<Self, GpuError> {
        keep(shader)?;
        let reflection = reflect(shader, entry)?;
        let label = format!("{}::{entry}", shader.name);
        let limit = device.limits().max_storage_buffers_per_shader_stage as usize;
        let storage = reflection.entries.iter().filter(|e| is_storage(e)).count();
        if storage > limit {
            return Err(GpuError::Shader {
                shader: label,
                reason: format!("{storage} storage buffers, but this device binds {limit}"),
            });
        }
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(&label),
            entries: &reflection.entries,
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(&label),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: if reflection.uses_immediates {
                IDENTITY_BYTES
            } else {
                0
            },
        });
        let module = wgpu::ShaderModuleDescriptor {
            label: Some(&label),
            source: wgpu::ShaderSource::Wgsl(shader.text.as_str().into()),
        };
        let module = shader_module(device, module, checked);
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
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

    /// Bind each buffer that the entry point uses by its name.
    pub(super) fn bind(
        &self,
        device: &wgpu::Device,
        bindings: &[Binding<'_>],
    ) -> Result<wgpu::BindGroup, GpuError> {
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
        Ok(device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(&self.label),
            layout: &self.layout,
            entries: &entries,
        }))
    }

    /// Set the pipeline, the bindings and the immediates of a compute pass.
    pub(super) fn set(&self, pass: &mut wgpu::ComputePass<'_>, group: &wgpu::BindGroup) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, group, &[]);
        if self.uses_immediates {
            pass.set_immediates(0, bytemuck::cast_slice(&identity_table()));
        }
    }
}

/// Environment variable that names a folder in which each text that is compiled is kept, for other compilers and for reading.
const SHADERS: &str = "KILN_SHADERS";

/// Write the text of `shader` to the folder that [`SHADERS`] names, if it does.
fn keep(shader: &Shader) -> Result<(), GpuError> {
    let Some(folder) = std::env::var_os(SHADERS).map(std::path::PathBuf::from) else {
        return Ok(());
    };
    let name = shader.name.replace('/', ".");
    let text = shader.text.as_bytes();
    let path = folder.join(format!("{name}-{:08x}.wgsl", crc32c::crc32c(text)));
    let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, text));
    written.map_err(|e| GpuError::Environment {
        variable: SHADERS,
        value: folder.display().to_string(),
        reason: format!("cannot write {}: {e}", path.display()),
    })
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
