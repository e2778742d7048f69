//! Selection of a configuration, a preset or a file, and overrides of its values.

use std::path::PathBuf;

use super::{Background, Config, ConfigError, Meta};

/// Which configuration to start from, and which values to override.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConfigOptions {
    /// Name of a preset. Default: the one that suits the device.
    pub method: Option<String>,
    /// Configuration file instead of a preset.
    pub file: Option<PathBuf>,
    /// Overrides, such as `training.batch_size=65536`.
    pub overrides: Vec<String>,
    /// Seed of all random numbers. Default: the configuration's.
    pub seed: Option<u32>,
    /// Background of training rays; a fixed colour is also that of evaluation.
    pub background: Option<Background>,
    /// Whether to composite in linear colour space.
    pub linear: bool,
}

/// Return the key of `key=value`.
pub(crate) fn key_of(text: &str) -> &str {
    text.split('=').next().unwrap_or_default().trim()
}

impl ConfigOptions {
    /// Select the preset `method`, without overrides.
    #[must_use]
    pub fn preset(method: &str) -> Self {
        Self {
            method: Some(method.to_owned()),
            ..Self::default()
        }
    }

    /// Whether a preset or a file is named.
    #[must_use]
    pub fn names_method(&self) -> bool {
        self.method.is_some() || self.file.is_some()
    }

    /// Whether an override sets the value at `key`.
    #[must_use]
    pub fn sets(&self, key: &str) -> bool {
        self.overrides.iter().any(|text| key_of(text) == key)
    }

    /// Load the selected configuration; `default` is the preset if none is named.
    pub fn load(&self, default: &str) -> Result<Config, ConfigError> {
        let config = self.start(default, &self.overrides)?;
        Ok(self.apply(config))
    }

    /// Load the selected configuration with `[meta]`: the method's, else [`Meta::default_for`]. Overrides may set its values too.
    pub fn load_with_meta(&self, default: &str) -> Result<Config, ConfigError> {
        let of_meta = |text: &String| text.trim_start().starts_with("meta.");
        let (of_meta, others): (Vec<String>, Vec<String>) =
            self.overrides.iter().cloned().partition(of_meta);
        let mut config = self.start(default, &others)?;
        let suiting = Meta::default_for(&config.optimizer);
        config.meta.get_or_insert(suiting);
        config.distillation = None;
        let config = Config::parse(&config.to_toml(), &config.method, &of_meta)?;
        Ok(self.apply(config))
    }

    /// Apply the overrides to the configuration of a run, which errors call `origin`.
    pub fn change(&self, of_run: &Config, origin: &str) -> Result<Config, ConfigError> {
        let config = Config::parse(&of_run.to_toml(), origin, &self.overrides)?;
        Ok(self.apply(config))
    }

    fn start(&self, default: &str, overrides: &[String]) -> Result<Config, ConfigError> {
        match (&self.file, &self.method) {
            (Some(file), _) => Config::from_file(file, overrides),
            (None, method) => Config::preset(method.as_deref().unwrap_or(default), overrides),
        }
    }

    fn apply(&self, mut config: Config) -> Config {
        if let Some(seed) = self.seed {
            config.seed = seed;
        }
        config.scene.linear |= self.linear;
        let Some(background) = self.background else {
            return config;
        };
        config.scene.background = background;
        match background {
            Background::Fixed(_) => config.scene.eval_background = background,
            Background::Auto(_) if !self.sets("scene.eval_background") => {
                config.scene.eval_background = Background::Auto(Some([1.0; 3]));
            }
            Background::Auto(_) | Background::Random => {}
        }
        // The losses on opacity belong to an automatic background, which is chosen from the images.
        if !self.sets("training.opacity_loss") {
            config.training.opacity_loss = None;
        }
        if !self.sets("training.mask_loss") {
            config.training.mask_loss = None;
        }
        config
    }
}
