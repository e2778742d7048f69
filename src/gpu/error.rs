//! Errors of devices.

/// An error of a device, or of a command sent to it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GpuError {
    /// There is no adapter: no driver is installed, or none responds.
    #[error("no GPU adapter found")]
    NoAdapter,
    /// No adapter has the requested name or number.
    #[error("no device matches `{wanted}`; there are: {available}")]
    NoSuchDevice {
        /// The requested name or number.
        wanted: String,
        /// The adapters that exist.
        available: String,
    },
    /// The adapter refused to open a device.
    #[error("device `{adapter}` could not be opened: {reason}")]
    Open {
        /// The adapter's name.
        adapter: String,
        /// The driver's message.
        reason: String,
    },
    /// The device cannot present to a window.
    #[error("device `{adapter}` cannot draw in a window here ({reason})")]
    NoSurface {
        /// The adapter's name.
        adapter: String,
        /// The driver's message.
        reason: String,
    },
    /// An environment variable has a value that cannot be used.
    #[error("{variable}={value}: {reason}")]
    Environment {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// The fault, or what is expected.
        reason: String,
    },
    /// The device is out of memory.
    #[error("the device ran out of memory ({context})")]
    OutOfMemory {
        /// The operation that failed.
        context: String,
    },
    /// A buffer is larger than the device can bind.
    #[error(
        "`{label}` needs {bytes} bytes in one buffer but this device binds at most {limit}{}",
        after_colon(advice)
    )]
    TooLarge {
        /// The buffer's label.
        label: String,
        /// The requested size in bytes.
        bytes: u64,
        /// The device's limit in bytes.
        limit: u64,
        /// How to need less memory, if known.
        advice: String,
    },
    /// The device was lost: a driver reset or a watchdog timeout.
    #[error("the device was lost ({reason})")]
    DeviceLost {
        /// The driver's message.
        reason: String,
    },
    /// wgpu rejected a call: a defect in kiln.
    #[error("the device refused a command, which is a defect in kiln: {reason}")]
    Validation {
        /// wgpu's message.
        reason: String,
    },
    /// A shader does not parse or does not match its bindings: a defect in kiln.
    #[error("shader `{shader}` is invalid, which is a defect in kiln: {reason}")]
    Shader {
        /// The shader's name.
        shader: String,
        /// naga's message.
        reason: String,
    },
}

impl GpuError {
    /// Add advice to a [`Self::TooLarge`] error that has none.
    #[must_use]
    pub fn advised(mut self, how: &str) -> Self {
        if let Self::TooLarge { advice, .. } = &mut self
            && advice.is_empty()
        {
            how.clone_into(advice);
        }
        self
    }
}

fn after_colon(advice: &str) -> String {
    if advice.is_empty() {
        String::new()
    } else {
        format!(": {advice}")
    }
}
