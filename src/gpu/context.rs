//! An open device with its queue, its errors and its compiled kernels.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use super::adapter::{
    AdapterClass, DeviceProfile, GpuOptions, adapters, backend_name, choose, instance,
    used_features,
};
use super::error::GpuError;
use super::kernel::Kernel;
use super::shader::{Defines, Shader};

/// An open device with its queue, its error mailbox and its compiled kernels.
pub struct Gpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    #[cfg(feature = "viewer")]
    instance: wgpu::Instance,
    #[cfg(feature = "viewer")]
    adapter: wgpu::Adapter,
    /// Readers submit; the writer excludes all submissions.
    submitting: RwLock<()>,
    info: wgpu::AdapterInfo,
    features: wgpu::Features,
    limits: wgpu::Limits,
    profile: DeviceProfile,
    /// Whether kernels are compiled with run-time checks.
    checked: bool,
    /// Lets a [`super::Stage`] hold its device.
    this: Weak<Self>,
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gpu {
    /// Open a device.
    ///
    /// # Errors
    /// [`GpuError::NoAdapter`], [`GpuError::NoSuchDevice`], [`GpuError::Open`] or [`GpuError::Environment`].
    pub fn open(options: &GpuOptions) -> Result<Arc<Self>, GpuError> {
        let class = options.forced_class()?;
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
        let own = AdapterClass::of(adapter.get_info().device_type);
        let class = class.unwrap_or(own);
        let checked = options.checked_on(class)?;
        let device = (device, queue);
        Ok(Self::of_class(&instance, &adapter, device, class, checked))
    }

    /// Use a device that the caller opened. The returned value receives its uncaptured errors and its loss.
    #[must_use]
    pub fn from_device(
        instance: &wgpu::Instance,
        adapter: &wgpu::Adapter,
        device: wgpu::Device,
        queue: wgpu::Queue,
    ) -> Arc<Self> {
        let class = AdapterClass::of(adapter.get_info().device_type);
        let checked = GpuOptions::default().checked_on(class).unwrap_or(true);
        Self::of_class(instance, adapter, (device, queue), class, checked)
    }

    #[cfg_attr(
        not(feature = "viewer"),
        expect(unused_variables, reason = "only a window presents")
    )]
    fn of_class(
        instance: &wgpu::Instance,
        adapter: &wgpu::Adapter,
        (device, queue): (wgpu::Device, wgpu::Queue),
        class: AdapterClass,
        checked: bool,
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
                // Other errors are consequences of the loss.
                *lock(&mailbox) = Some(GpuError::DeviceLost { reason: text });
            }
        });
        let profile = DeviceProfile {
            class,
            max_binding_bytes: limits
                .max_storage_buffer_binding_size
                .min(limits.max_buffer_size),
            max_uniform_bytes: limits.max_uniform_buffer_binding_size,
            identity_table: class == AdapterClass::Software
                && features.contains(wgpu::Features::IMMEDIATES),
        };
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            profile,
            checked,
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

    /// Submit commands, in order.
    pub(crate) fn enqueue(&self, encoder: wgpu::CommandEncoder) -> wgpu::SubmissionIndex {
        let _one_of_many = self.submitting.read();
        self.queue.submit([encoder.finish()])
    }

    /// Run `work` while no other thread submits.
    #[cfg(feature = "viewer")]
    pub(crate) fn with_submissions_blocked<T>(&self, work: impl FnOnce() -> T) -> T {
        let _alone = self.submitting.write();
        work()
    }

    /// Create a surface of `window` that this device can present to.
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

    /// Name, backend and driver on one line; software adapters are marked.
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

    /// Properties that buffer sizes and kernel variants depend on.
    #[must_use]
    pub fn profile(&self) -> &DeviceProfile {
        &self.profile
    }

    /// The class that decides budgets.
    #[must_use]
    pub fn class(&self) -> AdapterClass {
        self.profile.class
    }

    /// This device as its owners hold it.
    pub(super) fn shared(&self) -> Option<Arc<Self>> {
        self.this.upgrade()
    }

    /// Whether a feature is enabled.
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
        self.profile.max_binding_bytes
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

    /// Whether the device is lost.
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

    /// Bytes of all storage buffers allocated so far, including those freed since.
    #[must_use]
    pub fn allocated_bytes(&self) -> u64 {
        self.allocated.load(Ordering::Relaxed)
    }

    /// Block until the device is idle. For the command line and tests; training never blocks.
    pub fn wait(&self) -> Result<(), GpuError> {
        self.poll(wgpu::PollType::wait_indefinitely())
    }

    /// Run the callbacks of finished work, without blocking.
    pub fn poll_once(&self) -> Result<(), GpuError> {
        self.poll(wgpu::PollType::Poll)
    }

    /// Poll the device unless it is lost. The first poll after a loss frees the device's resources; wgpu then takes its locks in
    /// another order than a thread that writes a texture, and both would deadlock.
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

    /// The kernel `entry` of the shader file `file`, specialised by `defines`. Each text is compiled once per device.
    ///
    /// # Errors
    /// [`GpuError::Shader`] if the text is invalid.
    pub fn kernel(
        &self,
        file: &str,
        entry: &str,
        defines: &Defines,
    ) -> Result<Arc<Kernel>, GpuError> {
        let shader = Shader::load(file, defines, self.profile.identity_table)?;
        let key = format!("{entry}\n{}", shader.text);
        if let Some(kernel) = lock(&self.kernels).get(&key) {
            return Ok(Arc::clone(kernel));
        }
        let kernel = Arc::new(Kernel::compile(&self.device, &shader, entry, self.checked)?);
        self.check()?;
        lock(&self.kernels).insert(key, Arc::clone(&kernel));
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
    /// A device is lost repeatedly while another thread writes one of its textures, without a deadlock.
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
}
