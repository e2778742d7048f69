//! The adapters of a machine, and which of them is meant.

use std::fmt;

use super::error::GpuError;

/// The class that decides budgets: a software adapter, a GPU that shares memory with the CPU, one that does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AdapterClass {
    /// A software rasteriser such as Mesa's lavapipe.
    Software,
    /// A GPU in the processor.
    Integrated,
    /// A GPU with its own memory, or a virtual one.
    Discrete,
}

impl fmt::Display for AdapterClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Software => "software",
            Self::Integrated => "integrated",
            Self::Discrete => "discrete",
        })
    }
}

impl AdapterClass {
    /// Operations of one stage at most, so that a submission takes a fraction of a second.
    #[must_use]
    pub fn max_stage_operations(self) -> u64 {
        match self {
            Self::Software => 8 << 30,
            Self::Integrated => 100 << 30,
            Self::Discrete => 2000 << 30,
        }
    }

    pub(super) fn of(device_type: wgpu::DeviceType) -> Self {
        match device_type {
            wgpu::DeviceType::Cpu => Self::Software,
            wgpu::DeviceType::IntegratedGpu => Self::Integrated,
            _ => Self::Discrete,
        }
    }
}

/// Properties of a device that sizes of buffers and forms of kernels depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceProfile {
    /// The class that decides budgets.
    pub class: AdapterClass,
    /// Largest storage binding in bytes.
    pub max_binding_bytes: u64,
    /// Largest uniform binding in bytes.
    pub max_uniform_bytes: u64,
    /// Whether kernels use the identity table that proves indices uniform to a software adapter's compiler.
    pub identity_table: bool,
}

impl DeviceProfile {
    /// Bytes that a buffer of `bytes` bytes takes.
    ///
    /// # Errors
    /// [`GpuError::TooLarge`] where the device cannot bind so many.
    pub(super) fn size_of_buffer(&self, label: &str, bytes: u64) -> Result<u64, GpuError> {
        let bytes = bytes.max(16).next_multiple_of(16);
        let limit = self.max_binding_bytes;
        if bytes > limit {
            return Err(GpuError::TooLarge {
                label: label.to_owned(),
                bytes,
                limit,
                advice: String::new(),
            });
        }
        Ok(bytes)
    }
}

/// One adapter, as `kiln devices` shows it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct AdapterSummary {
    /// Position in the list: what `--device N` takes.
    pub index: usize,
    /// The driver's name for it: what `--device NAME` matches, case-insensitively and in part.
    pub name: String,
    /// `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// Software, integrated or discrete.
    pub class: AdapterClass,
    /// Driver name and version.
    pub driver: String,
    /// Whether this is the adapter that is used: the one that was named, else the best.
    pub default: bool,
    /// Features kiln uses where they exist, with whether this adapter has them.
    pub features: Vec<(String, bool)>,
    /// Features kiln does not use yet, with whether this adapter has them.
    pub unused_features: Vec<(String, bool)>,
    /// Largest storage binding in bytes.
    pub max_binding_bytes: u64,
    /// Largest buffer in bytes.
    pub max_buffer_bytes: u64,
    /// Workgroup memory in bytes.
    pub workgroup_bytes: u32,
    /// Storage buffers a kernel may bind.
    pub max_storage_buffers: u32,
    /// Largest workgroup.
    pub max_invocations: u32,
    /// Range of subgroup sizes.
    pub subgroup_sizes: [u32; 2],
}

/// How to open a device.
#[derive(Debug, Clone, Default)]
pub struct GpuOptions {
    /// An index or a part of a name; `None` reads `KILN_DEVICE`, then takes the best.
    pub device: Option<String>,
    /// Use nothing beyond WebGPU's default limits and no optional feature: the path that runs everywhere.
    pub base_path: bool,
}

impl GpuOptions {
    /// What the command line or the environment names, if either does.
    pub(super) fn wanted(&self) -> Option<String> {
        let from_environment = std::env::var("KILN_DEVICE").ok();
        let given = self.device.clone().or(from_environment);
        given.filter(|s| !s.trim().is_empty())
    }
}

const USED_FEATURES: [(&str, wgpu::Features); 3] = [
    ("immediates", wgpu::Features::IMMEDIATES),
    ("timestamps", wgpu::Features::TIMESTAMP_QUERY),
    (
        "timestamps_in_encoders",
        wgpu::Features::TIMESTAMP_QUERY_INSIDE_ENCODERS,
    ),
];

const SHOWN_FEATURES: [(&str, wgpu::Features); 3] = [
    ("f32_atomics", wgpu::Features::SHADER_FLOAT32_ATOMIC),
    ("shader_f16", wgpu::Features::SHADER_F16),
    ("subgroups", wgpu::Features::SUBGROUP),
];

pub(super) fn instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    // Indirect arguments are written by our own kernels within the limits; wgpu's check would add a dispatch to each.
    descriptor.flags = wgpu::InstanceFlags::empty().with_env();
    wgpu::Instance::new(descriptor)
}

pub(super) fn adapters(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
    pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()))
}

fn rank(info: &wgpu::AdapterInfo) -> u32 {
    match info.device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    }
}

fn best(adapters: &[wgpu::Adapter]) -> Option<usize> {
    (0..adapters.len()).min_by_key(|&i| rank(&adapters[i].get_info()))
}

pub(super) fn backend_name(backend: wgpu::Backend) -> String {
    format!("{backend:?}").to_lowercase()
}

fn present(of: &[(&str, wgpu::Features)], has: wgpu::Features) -> Vec<(String, bool)> {
    of.iter()
        .map(|&(name, feature)| (name.to_owned(), has.contains(feature)))
        .collect()
}

/// All adapters of this machine, the one that `options` choose marked.
#[must_use]
pub fn list_adapters(options: &GpuOptions) -> Vec<AdapterSummary> {
    let adapters = adapters(&instance());
    let chosen = position(&adapters, options.wanted().as_deref());
    adapters
        .iter()
        .enumerate()
        .map(|(index, adapter)| {
            let info = adapter.get_info();
            let (features, limits) = (adapter.features(), adapter.limits());
            AdapterSummary {
                index,
                backend: backend_name(info.backend),
                class: AdapterClass::of(info.device_type),
                driver: format!("{} {}", info.driver, info.driver_info)
                    .trim()
                    .to_owned(),
                default: chosen == Some(index),
                features: present(&USED_FEATURES, features),
                unused_features: present(&SHOWN_FEATURES, features),
                max_binding_bytes: limits.max_storage_buffer_binding_size,
                max_buffer_bytes: limits.max_buffer_size,
                workgroup_bytes: limits.max_compute_workgroup_storage_size,
                max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
                max_invocations: limits.max_compute_invocations_per_workgroup,
                subgroup_sizes: [info.subgroup_min_size, info.subgroup_max_size],
                name: info.name,
            }
        })
        .collect()
}

fn position(adapters: &[wgpu::Adapter], wanted: Option<&str>) -> Option<usize> {
    let Some(wanted) = wanted else {
        return best(adapters);
    };
    let names: Vec<String> = adapters.iter().map(|a| a.get_info().name).collect();
    named(&names, wanted)
}

/// Which of `names` is meant: a number is a place in the list or, beyond it, a whole word of a name (RTX 4090).
fn named(names: &[String], wanted: &str) -> Option<usize> {
    let wanted = wanted.trim().to_lowercase();
    let number = wanted.parse::<usize>().ok();
    if let Some(index) = number.filter(|&i| i < names.len()) {
        return Some(index);
    }
    let means = |name: &String| {
        let name = name.to_lowercase();
        let mut words = name.split(|c: char| !c.is_alphanumeric());
        match number {
            Some(_) => wanted.len() > 2 && words.any(|word| word == wanted),
            None => name.contains(&wanted),
        }
    };
    names.iter().position(means)
}

pub(super) fn choose(
    adapters: Vec<wgpu::Adapter>,
    wanted: Option<&str>,
) -> Result<wgpu::Adapter, GpuError> {
    let index = position(&adapters, wanted);
    if let (None, Some(wanted), false) = (index, wanted, adapters.is_empty()) {
        let available: Vec<String> = adapters
            .iter()
            .enumerate()
            .map(|(i, a)| format!("{i} {}", a.get_info().name))
            .collect();
        return Err(GpuError::NoSuchDevice {
            wanted: wanted.to_owned(),
            available: available.join(", "),
        });
    }
    index
        .and_then(|i| adapters.into_iter().nth(i))
        .ok_or(GpuError::NoAdapter)
}

/// Those of `features` that kernels have variants for.
pub(super) fn used_features(features: wgpu::Features) -> wgpu::Features {
    let used = USED_FEATURES.iter().map(|&(_, feature)| feature);
    features & used.fold(wgpu::Features::empty(), |all, feature| all | feature)
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn a_number_is_a_place_or_a_whole_word() {
        let names = ["llvmpipe (LLVM 15.0.6, 256 bits)", "GeForce RTX 4090"].map(String::from);
        for (wanted, found) in [
            ("0", Some(0)),
            ("1", Some(1)),
            ("2", None),
            ("5", None),
            ("15", None),
            ("4090", Some(1)),
            ("409", None),
            ("geforce", Some(1)),
            ("LLVM", Some(0)),
            ("radeon", None),
        ] {
            assert_eq!(named(&names, wanted), found, "{wanted}");
        }
    }
}
