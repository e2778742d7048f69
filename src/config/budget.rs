//! How much work suits a device.

/// How much work suits a device, from which a configuration takes what it leaves out. `train` says which budget a class of
/// adapters has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Samples that a step evaluates.
    pub batch_size: u32,
    /// Samples of a micro-batch at most, where stages of more would take too long.
    pub max_part: Option<u32>,
    /// Whether the methods' small twins suit it.
    pub is_small: bool,
}

impl Budget {
    /// What suits a software adapter on two CPU cores.
    pub const SOFTWARE: Self = Self {
        batch_size: 1 << 15,
        max_part: Some(1 << 17),
        is_small: true,
    };

    /// What suits a GPU that shares its memory with the CPU.
    pub const INTEGRATED: Self = Self {
        batch_size: 1 << 17,
        max_part: None,
        is_small: false,
    };

    /// The preset `method`, or its small twin where that suits the device.
    #[must_use]
    pub fn preset(self, method: &str) -> String {
        let twin = if self.is_small { "-small" } else { "" };
        format!("{method}{twin}")
    }

    /// What suits a GPU with memory of its own.
    pub const DISCRETE: Self = Self {
        batch_size: 1 << 18,
        max_part: None,
        is_small: false,
    };
}
