//! A Vulkan driver and what it says of compute pipelines.
//!
//! Vulkan is called directly, since wgpu does not pass on `VK_KHR_pipeline_executable_properties`.

use std::error::Error;
use std::ffi::{CStr, CString, c_char};

use ash::vk;
use naga::AddressSpace;
use naga::back::spv;
use naga::proc::BoundsCheckPolicy;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Bytes of the immediates of the identity table.
const IMMEDIATE_BYTES: u32 = 128;

/// The statistics of a table's columns: as Mesa's drivers name them, the first that exists.
const COLUMNS: [&[&str]; 8] = [
    &["VGPRs", "Register count"],
    &["Spilled VGPRs", "Spill count"],
    &["Scratch size", "Scratch Memory Size"],
    &["LDS size", "Workgroup Memory Size"],
    &["Subgroups per SIMD"],
    &["Instructions", "Instruction Count"],
    &["Code size"],
    &["Inverse Throughput"],
];

/// An open device, which lives until the program ends.
pub struct Driver {
    /// The device's name.
    pub name: String,
    _entry: ash::Entry,
    _instance: ash::Instance,
    device: ash::Device,
    statistics: ash::khr::pipeline_executable_properties::Device,
}

impl Driver {
    /// Open the first device that is not a CPU.
    pub fn open() -> Outcome<Self> {
        // SAFETY: the loader is a Vulkan loader, and everything that is made here is used on this thread and never destroyed.
        unsafe {
            let entry = ash::Entry::load()?;
            let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
            let info = vk::InstanceCreateInfo::default().application_info(&application);
            let instance = entry.create_instance(&info, None)?;
            let devices = instance.enumerate_physical_devices()?;
            let physical = devices.into_iter().find(|device| {
                let properties = instance.get_physical_device_properties(*device);
                properties.device_type != vk::PhysicalDeviceType::CPU
            });
            let physical = physical.ok_or(
                "no driver makes a device here: on Linux install Mesa's Vulkan drivers, and set RADV_FORCE_FAMILY=navi31",
            )?;
            let name = instance
                .get_physical_device_properties(physical)
                .device_name_as_c_str()?
                .to_string_lossy()
                .into_owned();
            // Mesa's name of a device without its card: "Null hardware (RADV NAVI31)".
            let inner = name.strip_prefix("Null hardware (");
            let name = inner.map_or(name.as_str(), |name| name.trim_end_matches(')'));
            let name = name.to_owned();
            let extensions = [vk::KHR_PIPELINE_EXECUTABLE_PROPERTIES_NAME.as_ptr()];
            let mut wanted = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default()
                .pipeline_executable_info(true);
            let queues = [vk::DeviceQueueCreateInfo::default().queue_priorities(&[1.0])];
            let mut memory = vk::PhysicalDeviceVulkanMemoryModelFeatures::default()
                .vulkan_memory_model(true)
                .vulkan_memory_model_device_scope(true);
            let mut zeroed = vk::PhysicalDeviceZeroInitializeWorkgroupMemoryFeatures::default()
                .shader_zero_initialize_workgroup_memory(true);
            let info = vk::DeviceCreateInfo::default()
                .queue_create_infos(&queues)
                .enabled_extension_names(&extensions)
                .push_next(&mut wanted)
                .push_next(&mut memory)
                .push_next(&mut zeroed);
            let device = instance.create_device(physical, &info, None)?;
            let statistics =
                ash::khr::pipeline_executable_properties::Device::new(&instance, &device);
            Ok(Self {
                name,
                _entry: entry,
                _instance: instance,
                device,
                statistics,
            })
        }
    }

    /// Compile `entry` of `text`, and return the columns of the table for each executable that the driver made of it.
    pub fn statistics(&self, text: &str, entry: &str, checked: bool) -> Outcome<Vec<String>> {
        let shader = Translated::of(text, entry, checked)?;
        let name = CString::new(entry)?;
        // SAFETY: naga has validated the words; the layout has the bindings and immediates that the entry point uses; all
        // objects are used on this thread, and destroyed after their last use.
        unsafe {
            let info = vk::ShaderModuleCreateInfo::default().code(&shader.words);
            let module = self.device.create_shader_module(&info, None)?;
            let info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&shader.bindings);
            let set = self.device.create_descriptor_set_layout(&info, None)?;
            let (sets, ranges) = ([set], [shader.immediates]);
            let info = vk::PipelineLayoutCreateInfo::default()
                .set_layouts(&sets)
                .push_constant_ranges(if shader.immediates.size > 0 {
                    &ranges
                } else {
                    &[]
                });
            let layout = self.device.create_pipeline_layout(&info, None)?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(&name);
            let info = vk::ComputePipelineCreateInfo::default()
                .flags(vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR)
                .stage(stage)
                .layout(layout);
            let cache = vk::PipelineCache::null();
            let pipelines = self.device.create_compute_pipelines(cache, &[info], None);
            let pipeline = pipelines.map_err(|(_, error)| error)?[0];
            let lines = self.lines_of(pipeline, shader.threads);
            self.device.destroy_pipeline(pipeline, None);
            self.device.destroy_pipeline_layout(layout, None);
            self.device.destroy_descriptor_set_layout(set, None);
            self.device.destroy_shader_module(module, None);
            lines
        }
    }

    /// # Safety
    /// The pipeline is alive, and was made with the flag to capture statistics.
    unsafe fn lines_of(&self, pipeline: vk::Pipeline, threads: u32) -> Outcome<Vec<String>> {
        let info = vk::PipelineInfoKHR::default().pipeline(pipeline);
        // SAFETY: as this function says.
        let executables = unsafe { self.statistics.get_pipeline_executable_properties(&info)? };
        let mut lines = Vec::new();
        for (index, executable) in (0..).zip(&executables) {
            let info = vk::PipelineExecutableInfoKHR::default()
                .pipeline(pipeline)
                .executable_index(index);
            // SAFETY: as this function says; the pipeline has this executable.
            let found = unsafe { self.statistics.get_pipeline_executable_statistics(&info)? };
            let mut columns = vec![threads.to_string(), executable.subgroup_size.to_string()];
            for names in COLUMNS {
                let column = names.iter().find_map(|name| {
                    let of_name = |s: &&vk::PipelineExecutableStatisticKHR| text(&s.name) == *name;
                    found.iter().find(of_name).map(value)
                });
                columns.push(column.unwrap_or_else(|| "–".to_owned()));
            }
            lines.push(columns.join(" | "));
        }
        Ok(lines)
    }
}

fn text(characters: &[c_char]) -> String {
    // SAFETY: Vulkan ends its names with a zero.
    let name = unsafe { CStr::from_ptr(characters.as_ptr()) };
    name.to_string_lossy().into_owned()
}

fn value(statistic: &vk::PipelineExecutableStatisticKHR) -> String {
    use vk::PipelineExecutableStatisticFormatKHR as Format;
    // SAFETY: the format says which member was written.
    unsafe {
        match statistic.format {
            Format::BOOL32 => statistic.value.b32.to_string(),
            Format::INT64 => statistic.value.i64.to_string(),
            Format::UINT64 => statistic.value.u64.to_string(),
            _ => format!("{:.1}", statistic.value.f64),
        }
    }
}

/// An entry point in SPIR-V, and what it binds.
struct Translated {
    words: Vec<u32>,
    bindings: Vec<vk::DescriptorSetLayoutBinding<'static>>,
    immediates: vk::PushConstantRange,
    threads: u32,
}

impl Translated {
    /// Translate `entry` of `text` as wgpu does, with or without its run-time checks.
    fn of(text: &str, entry: &str, checked: bool) -> Outcome<Self> {
        let module = naga::front::wgsl::parse_str(text).map_err(|e| e.emit_to_string(text))?;
        let flags = naga::valid::ValidationFlags::all();
        let capabilities = naga::valid::Capabilities::IMMEDIATES;
        let info = naga::valid::Validator::new(flags, capabilities)
            .validate(&module)
            .map_err(|e| e.emit_to_string(text))?;
        let index = module.entry_points.iter().position(|e| e.name == entry);
        let index = index.ok_or_else(|| format!("there is no entry point {entry}"))?;
        let point = &module.entry_points[index];
        let mut options = spv::Options {
            lang_version: (1, 5),
            zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::Native,
            force_loop_bounding: checked,
            emit_int_div_checks: checked,
            ..spv::Options::default()
        };
        options.flags.remove(spv::WriterFlags::DEBUG);
        if checked {
            options.bounds_check_policies.index = BoundsCheckPolicy::Restrict;
        }
        let pipeline = spv::PipelineOptions {
            shader_stage: naga::ShaderStage::Compute,
            entry_point: entry.to_owned(),
        };
        let words = spv::write_vec(&module, &info, &options, Some(&pipeline))?;
        let used = info.get_entry_point(index);
        let stages = vk::ShaderStageFlags::COMPUTE;
        let mut immediates = vk::PushConstantRange::default().stage_flags(stages);
        let mut bindings = Vec::new();
        for (handle, variable) in module.global_variables.iter() {
            if used[handle].is_empty() {
                continue;
            }
            let kind = match variable.space {
                AddressSpace::Uniform => vk::DescriptorType::UNIFORM_BUFFER,
                AddressSpace::Storage { .. } => vk::DescriptorType::STORAGE_BUFFER,
                AddressSpace::Immediate => {
                    immediates.size = IMMEDIATE_BYTES;
                    continue;
                }
                _ => continue,
            };
            let binding = variable.binding.as_ref().ok_or("a buffer has no binding")?;
            bindings.push(
                vk::DescriptorSetLayoutBinding::default()
                    .binding(binding.binding)
                    .descriptor_type(kind)
                    .descriptor_count(1)
                    .stage_flags(stages),
            );
        }
        Ok(Self {
            words,
            bindings,
            immediates,
            threads: point.workgroup_size.iter().product(),
        })
    }
}
