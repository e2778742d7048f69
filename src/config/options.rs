//! Selects a configuration, a preset or a file, and changes its values.

use std::path::PathBuf;

use super::{Background, Config, ConfigError, Meta};

/// Which configuration to start from, and what to change in it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConfigOptions {
    /// Preset; where left out, what suits the device.
    pub method: Option<String>,
    /// Configuration file instead of a preset.
    pub file: Option<PathBuf>,
    /// Values to change, as `training.batch_size=65536`.
    pub overrides: Vec<String>,
    /// Seed of all random numbers; the configuration's where left out.
    pub seed: Option<u32>,
    /// What stands behind training rays; a colour also serves evaluation.
    pub background: Option<Background>,
    /// Whether to composite in linear colour.
    pub linear: bool,
}

/// The key of `key=value`.
pub(crate) fn key_of(text: &str) -> &str {
    text.split('=').next().unwrap_or_default().trim()
}

impl ConfigOptions {
    /// The preset `method` as it is.
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

    /// Whether the value at `key` is set.
    #[must_use]
    pub fn sets(&self, key: &str) -> bool {
        self.overrides.iter().any(|text| key_of(text) == key)
    }

    /// The configuration that is asked for; `default` is the preset where none is named.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn load(&self, default: &str) -> Result<Config, ConfigError> {
        let config = self.start(default, &self.overrides)?;
        Ok(self.apply(config))
    }

    /// The same with settings for meta-learning, which suit the method where it has none, and can be set too.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn load_with_meta(&self, default: &str) -> Result<Config, ConfigError> {
        let of_meta = |text: &String| text.trim_start().starts_with("meta.");
        let (of_meta, others): (Vec<String>, Vec<String>) =
            self.overrides.iter().cloned().partition(of_meta);
        let mut config = self.start(default, &others)?;
        let suiting = Meta::matching(&config.optimizer);
        config.meta.get_or_insert(suiting);
        config.distillation = None;
        let config = Config::parse(&config.to_toml(), &config.method, &of_meta)?;
        Ok(self.apply(config))
    }

    /// The configuration of a run, called `origin` in errors, with the same changes.
    ///
    /// # Errors
    /// [`ConfigError`]
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
        // The opacity loss belongs to an automatic background, which is chosen from the images.
        if !self.sets("training.opacity_loss") {
            config.training.opacity_loss = None;
        }
        config
    }
}
