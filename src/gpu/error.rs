//! Errors of devices.

/// An error of a device, or of what is sent to it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GpuError {
    /// No adapter at all: no driver is installed, or none answers.
    #[error("no GPU adapter found")]
    NoAdapter,
    /// No adapter has the requested name or number.
    #[error("no device matches `{wanted}`; there are: {available}")]
    NoSuchDevice {
        /// The request.
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
    /// The device has no memory left.
    #[error("the device ran out of memory ({context})")]
    OutOfMemory {
        /// The operation that failed.
        context: String,
    },
    /// One buffer would be larger than this device can bind.
    #[error(
        "`{label}` needs {bytes} bytes in one buffer but this device binds at most {limit}{}",
        after_colon(advice)
    )]
    TooLarge {
        /// What the buffer holds.
        label: String,
        /// Bytes asked for.
        bytes: u64,
        /// The device's limit.
        limit: u64,
        /// How to need less, if known.
        advice: String,
    },
    /// The device was lost: a driver reset or a watchdog timeout.
    #[error("the device was lost ({reason})")]
    DeviceLost {
        /// The driver's message.
        reason: String,
    },
    /// wgpu refused a call: a defect in kiln.
    #[error("the device refused a command, which is a defect in kiln: {reason}")]
    Validation {
        /// wgpu's message.
        reason: String,
    },
    /// A shader text does not parse or does not fit its bindings: a defect in kiln.
    #[error("shader `{shader}` is invalid, which is a defect in kiln: {reason}")]
    Shader {
        /// The shader's name.
        shader: String,
        /// naga's message.
        reason: String,
    },
}

impl GpuError {
    /// Add advice to [`Self::TooLarge`] that has none.
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
