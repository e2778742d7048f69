//! Choosing an adapter and opening a device on it.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::kernel::Kernel;

/// What can go wrong between kiln and the device.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GpuError {
    /// No adapter at all: no driver is installed, or none answers.
    #[error(
        "no GPU adapter found: install a Vulkan driver (on Linux without a GPU, Mesa's lavapipe: `make vulkan` does it)"
    )]
    NoAdapter,
    /// The device named on the command line or in `KILN_DEVICE` does not exist.
    #[error("no device matches `{wanted}`; there are: {available} (see `kiln devices`)")]
    NoSuchDevice {
        /// What was asked for.
        wanted: String,
        /// What there is.
        available: String,
    },
    /// The adapter refused to open a device.
    #[error("device `{adapter}` could not be opened: {reason}")]
    Open {
        /// The adapter's name.
        adapter: String,
        /// The driver's words.
        reason: String,
    },
    /// The device cannot show anything in a window.
    #[error(
        "device `{adapter}` cannot draw in a window here ({reason}): choose another with --device, or train without --view"
    )]
    NoSurface {
        /// The adapter's name.
        adapter: String,
        /// The driver's words.
        reason: String,
    },
    /// The device has no memory left.
    #[error(
        "the device ran out of memory ({context}): lower `training.batch_size` or `log2_hashmap_size` with --set, or --downscale the images"
    )]
    OutOfMemory {
        /// What was being done.
        context: String,
    },
    /// One buffer would be larger than this device can bind.
    #[error(
        "`{label}` needs {bytes} bytes in one buffer but this device binds at most {limit}: {}",
        smaller(label)
    )]
    TooLarge {
        /// The buffer's label.
        label: String,
        /// Bytes asked for.
        bytes: u64,
        /// The device's limit.
        limit: u64,
    },
    /// A grid of networks has more weights than one buffer holds.
    #[error(
        "the {networks} networks of the grid, 32768 at most, need {bytes} bytes in one buffer but this device binds at most {limit}: give cells.longest={longest} or less with --set, or cells.memory_mib"
    )]
    GridTooLarge {
        /// Networks of each kind.
        networks: u32,
        /// Bytes of their weights.
        bytes: u64,
        /// The device's limit.
        limit: u64,
        /// Cells along the longest side that would fit.
        longest: u32,
    },
    /// A grid of networks was given too little memory.
    #[error(
        "cells.memory_mib is {mib}, but the networks of a single cell take {bytes} bytes: give more with --set, or smaller networks"
    )]
    NoNetworkFits {
        /// What was given, in MiB.
        mib: f32,
        /// What one cell takes, with gradients, moments and averages.
        bytes: u64,
    },
    /// The device vanished: a driver reset, or the watchdog's work.
    #[error(
        "the device was lost ({reason}): the last checkpoint is intact, go on with `kiln train --resume`"
    )]
    DeviceLost {
        /// The driver's words.
        reason: String,
    },
    /// wgpu refused a call; a defect of kiln's.
    #[error("the device refused a command, which is a defect in kiln: {reason}")]
    Validation {
        /// wgpu's words.
        reason: String,
    },
    /// A shader text does not parse or does not fit its bindings; a defect of kiln's.
    #[error("shader `{shader}` is invalid, which is a defect in kiln: {reason}")]
    Shader {
        /// The shader's name.
        shader: String,
        /// naga's words.
        reason: String,
    },
}

/// What makes the buffer called `label` smaller.
fn smaller(label: &str) -> &'static str {
    match label {
        "images" => "--downscale the images",
        _ if label.starts_with("hash grid") || label.contains("hash table") => {
            "lower `log2_hashmap_size` with --set"
        }
        "occupancy thickness" | "occupancy bits" => {
            "lower `occupancy.resolution` or `scene.aabb_scale` with --set"
        }
        _ if label.starts_with("occupancy") => "lower `occupancy.cells_per_update` with --set",
        _ if label.ends_with("rays") => {
            "lower `training.max_rays`, or `training.n_rays` where that is given, with --set"
        }
        _ => {
            "lower `training.batch_size`, or `training.n_rays` and the samples per ray where those are given, with --set"
        }
    }
}

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
    pub fn most_operations(self) -> u64 {
        match self {
            Self::Software => 8 << 30,
            Self::Integrated => 100 << 30,
            Self::Discrete => 2000 << 30,
        }
    }

    fn of(device_type: wgpu::DeviceType) -> Self {
        match device_type {
            wgpu::DeviceType::Cpu => Self::Software,
            wgpu::DeviceType::IntegratedGpu => Self::Integrated,
            _ => Self::Discrete,
        }
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
    fn wanted(&self) -> Option<String> {
        let from_environment = std::env::var("KILN_DEVICE").ok();
        let given = self.device.clone().or(from_environment);
        given.filter(|s| !s.trim().is_empty())
    }
}

/// An open device with its queue, its error mailbox and its compiled kernels.
pub struct Gpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    #[cfg(feature = "viewer")]
    instance: wgpu::Instance,
    #[cfg(feature = "viewer")]
    adapter: wgpu::Adapter,
    /// Held by who submits and, alone, by who needs that nobody does.
    submitting: RwLock<()>,
    info: wgpu::AdapterInfo,
    features: wgpu::Features,
    limits: wgpu::Limits,
    failure: Arc<Mutex<Option<GpuError>>>,
    pub(super) allocated: AtomicU64,
    kernels: Mutex<HashMap<String, Arc<Kernel>>>,
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gpu")
            .field("name", &self.info.name)
            .finish_non_exhaustive()
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    // Indirect arguments are written by our own kernels within the limits; wgpu's check would add a dispatch to each.
    descriptor.flags = wgpu::InstanceFlags::empty().with_env();
    wgpu::Instance::new(descriptor)
}

fn adapters(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
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

fn backend_name(backend: wgpu::Backend) -> String {
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

fn choose(adapters: Vec<wgpu::Adapter>, wanted: Option<&str>) -> Result<wgpu::Adapter, GpuError> {
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
fn used_features(features: wgpu::Features) -> wgpu::Features {
    let used = USED_FEATURES.iter().map(|&(_, feature)| feature);
    features & used.fold(wgpu::Features::empty(), |all, feature| all | feature)
}

impl Gpu {
    /// Open a device.
    ///
    /// # Errors
    /// [`GpuError::NoAdapter`], [`GpuError::NoSuchDevice`] or [`GpuError::Open`].
    pub fn open(options: &GpuOptions) -> Result<Arc<Self>, GpuError> {
        let instance = instance();
        let adapter = choose(adapters(&instance), options.wanted().as_deref())?;
        let mut request = wgpu::DeviceDescriptor {
            label: Some("kiln"),
            memory_hints: wgpu::MemoryHints::Performance,
            ..Default::default()
        };
        if !options.base_path {
            request.required_features = used_features(adapter.features());
            request.required_limits = adapter.limits();
        }
        let (device, queue) =
            pollster::block_on(adapter.request_device(&request)).map_err(|e| GpuError::Open {
                adapter: adapter.get_info().name,
                reason: e.to_string(),
            })?;
        Ok(Self::from_device(&instance, &adapter, device, queue))
    }

    /// Work on a device that the caller opened, with those of its features and limits that are of use. From now on its errors
    /// that no error scope catches, and its loss, are those of the returned value.
    #[must_use]
    #[cfg_attr(
        not(feature = "viewer"),
        expect(unused_variables, reason = "only a window presents")
    )]
    pub fn from_device(
        instance: &wgpu::Instance,
        adapter: &wgpu::Adapter,
        device: wgpu::Device,
        queue: wgpu::Queue,
    ) -> Arc<Self> {
        let info = adapter.get_info();
        let (features, limits) = (used_features(device.features()), device.limits());
        let failure: Arc<Mutex<Option<GpuError>>> = Arc::default();
        let mailbox = Arc::clone(&failure);
        device.on_uncaptured_error(Arc::new(move |error| {
            lock(&mailbox).get_or_insert_with(|| translate(&error));
        }));
        let mailbox = Arc::clone(&failure);
        device.set_device_lost_callback(move |reason, text| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                // Whatever else was raised follows from it.
                *lock(&mailbox) = Some(GpuError::DeviceLost { reason: text });
            }
        });
        Arc::new(Self {
            device,
            queue,
            #[cfg(feature = "viewer")]
            instance: instance.clone(),
            #[cfg(feature = "viewer")]
            adapter: adapter.clone(),
            submitting: RwLock::default(),
            info,
            features,
            limits,
            failure,
            allocated: AtomicU64::new(0),
            kernels: Mutex::default(),
        })
    }

    /// Hand commands to the device, in order.
    pub(crate) fn enqueue(&self, encoder: wgpu::CommandEncoder) -> wgpu::SubmissionIndex {
        let _one_of_many = self.submitting.read();
        self.queue.submit([encoder.finish()])
    }

    /// Run `work` while nobody submits.
    #[cfg(feature = "viewer")]
    pub(crate) fn undisturbed<T>(&self, work: impl FnOnce() -> T) -> T {
        let _alone = self.submitting.write();
        work()
    }

    /// A surface to present on in `window`, if this device can.
    ///
    /// # Errors
    /// [`GpuError::NoSurface`]
    #[cfg(feature = "viewer")]
    pub(crate) fn surface(
        &self,
        window: impl Into<wgpu::SurfaceTarget<'static>>,
    ) -> Result<(wgpu::Surface<'static>, wgpu::SurfaceCapabilities), GpuError> {
        let refused = |reason: String| GpuError::NoSurface {
            adapter: self.info.name.clone(),
            reason,
        };
        let surface = self.instance.create_surface(window);
        let surface = surface.map_err(|e| refused(e.to_string()))?;
        let capabilities = surface.get_capabilities(&self.adapter);
        if capabilities.formats.is_empty() {
            return Err(refused("it presents on no window here".to_owned()));
        }
        Ok((surface, capabilities))
    }

    /// The adapter's name as the driver gives it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// Name, backend and driver on one line, software adapters named as such.
    #[must_use]
    pub fn description(&self) -> String {
        let kind = if self.class() == AdapterClass::Software {
            "software adapter, "
        } else {
            ""
        };
        format!(
            "{} ({kind}{}, {} {})",
            self.info.name,
            backend_name(self.info.backend),
            self.info.driver,
            self.info.driver_info
        )
    }

    /// The class that decides budgets.
    #[must_use]
    pub fn class(&self) -> AdapterClass {
        AdapterClass::of(self.info.device_type)
    }

    /// Whether kernels use the identity table that proves indices uniform to a software adapter's compiler.
    #[must_use]
    pub fn identity_table(&self) -> bool {
        self.class() == AdapterClass::Software && self.features.contains(wgpu::Features::IMMEDIATES)
    }

    /// Whether a feature was granted.
    #[must_use]
    pub fn has(&self, feature: wgpu::Features) -> bool {
        self.features.contains(feature)
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> &wgpu::Limits {
        &self.limits
    }

    /// Largest storage binding in bytes.
    #[must_use]
    pub fn max_binding_bytes(&self) -> u64 {
        self.limits
            .max_storage_buffer_binding_size
            .min(self.limits.max_buffer_size)
    }

    /// Largest uniform binding in bytes.
    #[must_use]
    pub fn max_uniform_bytes(&self) -> u64 {
        self.limits.max_uniform_buffer_binding_size
    }

    /// The first error the device has raised since the last call, if any. A lost device stays lost.
    ///
    /// # Errors
    /// That error.
    pub fn check(&self) -> Result<(), GpuError> {
        let mut failure = lock(&self.failure);
        let error = match &*failure {
            Some(GpuError::DeviceLost { .. }) => failure.clone(),
            _ => failure.take(),
        };
        error.map_or(Ok(()), Err)
    }

    /// Whether the device is gone for good.
    #[cfg(feature = "viewer")]
    pub(crate) fn is_lost(&self) -> bool {
        matches!(&*lock(&self.failure), Some(GpuError::DeviceLost { .. }))
    }

    /// Lose the device on purpose, for tests.
    #[cfg(feature = "viewer")]
    pub(crate) fn lose(&self) {
        let reason = "on purpose".to_owned();
        *lock(&self.failure) = Some(GpuError::DeviceLost { reason });
        self.device.destroy();
    }

    /// Leave `error` for the next [`Self::check`].
    pub(super) fn raise(&self, error: GpuError) {
        lock(&self.failure).get_or_insert(error);
    }

    /// Bytes of all buffers allocated so far, those freed since included.
    #[must_use]
    pub fn allocated_bytes(&self) -> u64 {
        self.allocated.load(Ordering::Relaxed)
    }

    /// Block until the device is idle. For the edges of the program (command line, tests), never the training core.
    ///
    /// # Errors
    /// What the device raised meanwhile.
    pub fn wait(&self) -> Result<(), GpuError> {
        self.poll(wgpu::PollType::wait_indefinitely())
    }

    /// Let callbacks of finished work run, without blocking.
    ///
    /// # Errors
    /// What the device raised meanwhile.
    pub fn poll_once(&self) -> Result<(), GpuError> {
        self.poll(wgpu::PollType::Poll)
    }

    /// Poll the device, unless it is lost: the first poll after a loss frees all that the device holds, for which wgpu takes its
    /// locks in another order than a thread that still writes a texture, and the two would wait for each other for ever.
    pub(super) fn poll(&self, poll: wgpu::PollType) -> Result<(), GpuError> {
        self.check()?;
        let outcome = self.device.poll(poll);
        self.check()?;
        outcome.map(|_| ()).map_err(|e| GpuError::DeviceLost {
            reason: e.to_string(),
        })
    }

    /// Every kernel compiled so far, as `file::entry` with its WGSL text, sorted.
    #[must_use]
    pub fn compiled_texts(&self) -> Vec<(String, String)> {
        let kernels = lock(&self.kernels);
        let text = |key: &str| key.split_once('\n').map_or("", |(_, text)| text).to_owned();
        let mut texts: Vec<_> = kernels
            .iter()
            .map(|(key, kernel)| (kernel.label().to_owned(), text(key)))
            .collect();
        texts.sort();
        texts
    }

    /// The kernel of this text, compiled once per device.
    pub(crate) fn cached_kernel(
        &self,
        key: &str,
        build: impl FnOnce() -> Result<Kernel, GpuError>,
    ) -> Result<Arc<Kernel>, GpuError> {
        if let Some(kernel) = lock(&self.kernels).get(key) {
            return Ok(Arc::clone(kernel));
        }
        let kernel = Arc::new(build()?);
        self.check()?;
        lock(&self.kernels).insert(key.to_owned(), Arc::clone(&kernel));
        Ok(kernel)
    }
}

fn translate(error: &wgpu::Error) -> GpuError {
    match error {
        wgpu::Error::OutOfMemory { source } => GpuError::OutOfMemory {
            context: source.to_string(),
        },
        wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => {
            GpuError::Validation {
                reason: description.clone(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::named;

    /// A device is lost while another thread writes a texture of it, time and again: neither waits for the other for ever.
    #[cfg(feature = "viewer")]
    #[test]
    fn a_device_that_is_written_to_can_be_lost() {
        use std::sync::{Arc, mpsc};
        use std::thread;
        use std::time::Duration;

        use super::{Gpu, GpuError, GpuOptions};

        /// Pixels of a side: so many that writing them takes a while.
        const SIDE: u32 = 2048;

        fn write(gpu: &Gpu) {
            let texture = gpu.device.create_texture(&wgpu::TextureDescriptor {
                label: None,
                size: wgpu::Extent3d {
                    width: SIDE,
                    height: SIDE,
                    depth_or_array_layers: 1,
                },
                mip_level_count: 1,
                sample_count: 1,
                dimension: wgpu::TextureDimension::D2,
                format: wgpu::TextureFormat::Rgba8Unorm,
                usage: wgpu::TextureUsages::COPY_DST,
                view_formats: &[],
            });
            let layout = wgpu::TexelCopyBufferLayout {
                offset: 0,
                bytes_per_row: Some(4 * SIDE),
                rows_per_image: None,
            };
            let pixels = vec![0; 4 * (SIDE * SIDE) as usize];
            while !gpu.is_lost() {
                let size = texture.size();
                gpu.queue
                    .write_texture(texture.as_image_copy(), &pixels, layout, size);
                gpu.queue.submit([]);
            }
        }

        fn lose_while_written_to() {
            let gpu = match Gpu::open(&GpuOptions::default()) {
                Err(GpuError::NoAdapter)
                    if std::env::var("KILN_REQUIRE_GPU").as_deref() != Ok("1") =>
                {
                    return;
                }
                gpu => gpu.unwrap(),
            };
            let writer = Arc::clone(&gpu);
            let writer = thread::spawn(move || write(&writer));
            thread::sleep(Duration::from_millis(20));
            gpu.wait().unwrap();
            gpu.lose();
            assert!(gpu.poll_once().is_err());
            writer.join().unwrap();
        }

        let (done, outcome) = mpsc::channel();
        thread::spawn(move || {
            for _ in 0..20 {
                lose_while_written_to();
            }
            done.send(()).unwrap();
        });
        outcome.recv_timeout(Duration::from_mins(1)).unwrap();
    }

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
