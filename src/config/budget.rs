//! The amount of work that suits a device.

/// The amount of work that suits a device: defaults of settings that depend on it. The module `train` selects the
/// budget of an adapter class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Number of samples evaluated per training step.
    pub batch_size: u32,
    /// Maximum number of samples per micro-batch, if larger stages would take too long; `None` for no limit.
    pub max_micro_batch: Option<u32>,
    /// Whether the device should use the `-small` presets.
    pub uses_small_presets: bool,
}

impl Budget {
    /// For a software adapter on two CPU cores.
    pub const SOFTWARE: Self = Self {
        batch_size: 1 << 15,
        max_micro_batch: Some(1 << 17),
        uses_small_presets: true,
    };

    /// For a GPU that shares its memory with the CPU.
    pub const INTEGRATED: Self = Self {
        batch_size: 1 << 17,
        max_micro_batch: None,
        uses_small_presets: false,
    };

    /// Return the name of the preset `method`, or of its `-small` variant if that suits the device.
    #[must_use]
    pub fn preset(self, method: &str) -> String {
        let twin = if self.uses_small_presets {
            "-small"
        } else {
            ""
        };
        format!("{method}{twin}")
    }

    /// For a GPU with its own memory.
    pub const DISCRETE: Self = Self {
        batch_size: 1 << 18,
        max_micro_batch: None,
        uses_small_presets: false,
    };
}
