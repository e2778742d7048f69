//! What a device can refuse.

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
    #[error("the device ran out of memory ({context})")]
    OutOfMemory {
        /// What was being done.
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
        /// How to need less, where that is known.
        advice: String,
    },
    /// The device vanished: a driver reset, or the watchdog's work.
    #[error("the device was lost ({reason})")]
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

impl GpuError {
    /// This error, which says how to make a buffer smaller that is too large, unless it does so already.
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
