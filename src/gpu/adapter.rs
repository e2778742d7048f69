//! The machine's adapters, and the choice of one.

use std::fmt;

use super::error::GpuError;

/// Environment variable that forces the class of the adapter.
const CLASS: &str = "KILN_CLASS";

/// Environment variable that says whether kernels have run-time checks.
const CHECKED: &str = "KILN_CHECKED";

/// Class of an adapter, from which budgets follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AdapterClass {
    /// A software rasteriser such as Mesa's lavapipe.
    Software,
    /// A GPU that shares memory with the CPU.
    Integrated,
    /// A GPU with its own memory, or a virtual GPU.
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
    /// Maximum number of operations per stage, so that a submission takes a fraction of a second.
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

    /// Return the class that [`CLASS`] forces.
    fn forced() -> Result<Option<Self>, GpuError> {
        let Ok(name) = std::env::var(CLASS) else {
            return Ok(None);
        };
        [Self::Software, Self::Integrated, Self::Discrete]
            .into_iter()
            .find(|class| class.to_string() == name)
            .map(Some)
            .ok_or_else(|| GpuError::Environment {
                variable: CLASS,
                value: name,
                reason: "expected software, integrated or discrete".to_owned(),
            })
    }
}

/// Properties of a device that buffer sizes and kernel variants depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceProfile {
    /// Class of the adapter, from which budgets follow.
    pub class: AdapterClass,
    /// Largest storage binding in bytes.
    pub max_binding_bytes: u64,
    /// Largest uniform binding in bytes.
    pub max_uniform_bytes: u64,
    /// Whether kernels use the identity table that proves indices uniform to a software adapter's compiler.
    pub identity_table: bool,
}

impl DeviceProfile {
    /// Return the size of a buffer for `bytes` bytes: a multiple of 16, at least 16.
    ///
    /// # Errors
    /// [`GpuError::TooLarge`] if the device cannot bind that many bytes.
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

/// An adapter, as `kiln devices` lists it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct AdapterSummary {
    /// Index in the list: the N of `--device N`.
    pub index: usize,
    /// The adapter's name as the driver reports it. `--device NAME` matches any part of it, ignoring case.
    pub name: String,
    /// `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// Software, integrated or discrete.
    pub class: AdapterClass,
    /// Driver name and version.
    pub driver: String,
    /// Whether kiln would use this adapter: the requested one, else the best.
    pub default: bool,
    /// Optional features that kiln uses, each with whether the adapter supports it.
    pub features: Vec<(String, bool)>,
    /// Features that kiln does not use yet, each with whether the adapter supports it.
    pub unused_features: Vec<(String, bool)>,
    /// Largest storage binding in bytes.
    pub max_binding_bytes: u64,
    /// Largest buffer in bytes.
    pub max_buffer_bytes: u64,
    /// Workgroup memory in bytes.
    pub workgroup_bytes: u32,
    /// Maximum number of storage buffers per kernel.
    pub max_storage_buffers: u32,
    /// Maximum number of invocations per workgroup.
    pub max_invocations: u32,
    /// Smallest and largest subgroup size.
    pub subgroup_sizes: [u32; 2],
}

/// Options for opening a device.
#[derive(Debug, Clone, Default)]
pub struct GpuOptions {
    /// Index of an adapter or part of its name. `None`: read `KILN_DEVICE`; if that is not set, use the best adapter.
    pub device: Option<String>,
    /// Use WebGPU's default limits and no optional features: the base path, which runs on every adapter.
    pub base_path: bool,
    /// Take the adapter for one of this class, for tests of the kernels and budgets of another class. `None`: read `KILN_CLASS`;
    /// if that is not set, the adapter's own class counts.
    pub class: Option<AdapterClass>,
    /// Whether kernels have wgpu's run-time checks: bounds of indices and loops, divisors. `None`: read `KILN_CHECKED`, 0 or 1;
    /// if that is not set, only on software adapters.
    pub checked: Option<bool>,
}

impl GpuOptions {
    /// Return the class that these options force, else `KILN_CLASS`, if any.
    pub(super) fn forced_class(&self) -> Result<Option<AdapterClass>, GpuError> {
        self.class
            .map_or_else(AdapterClass::forced, |class| Ok(Some(class)))
    }

    /// Return whether kernels have run-time checks on an adapter of this class.
    pub(super) fn checked_on(&self, class: AdapterClass) -> Result<bool, GpuError> {
        if let Some(checked) = self.checked {
            return Ok(checked);
        }
        match std::env::var(CHECKED).as_deref() {
            Err(_) => Ok(class == AdapterClass::Software),
            Ok("1") => Ok(true),
            Ok("0") => Ok(false),
            Ok(other) => Err(GpuError::Environment {
                variable: CHECKED,
                value: other.to_owned(),
                reason: "expected 0 or 1".to_owned(),
            }),
        }
    }

    /// Return the device requested by these options, else by `KILN_DEVICE`, if any.
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
    // kiln's own kernels write the indirect arguments, within the limits; wgpu's check would add a dispatch to each indirect
    // dispatch.
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

/// List all adapters of this machine; `default` marks the one that `options` select.
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

/// Return the index of the name that `wanted` selects. A number is an index or, if out of range, a whole word of a name (RTX
/// 4090).
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

/// Return the subset of `features` that kiln uses.
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
