//! Background colours.

use serde::{Deserialize, Serialize};

use super::Surroundings;

/// The background of rays, in sRGB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Background {
    /// A random colour for each ray.
    Random,
    /// A fixed colour.
    Fixed([f32; 3]),
    /// Chosen from what surrounds the scene in the images: if they are transparent, the given colour, or a random one for each
    /// ray; if they have a border of one colour, that colour; else their mean colour.
    Auto(Option<[f32; 3]>),
}

impl std::fmt::Display for Background {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto(None) => f.write_str("auto"),
            Self::Auto(Some(rgb)) => write!(f, "auto:{}", Self::Fixed(*rgb)),
            Self::Random => f.write_str("random"),
            Self::Fixed([1.0, 1.0, 1.0]) => f.write_str("white"),
            Self::Fixed([0.0, 0.0, 0.0]) => f.write_str("black"),
            Self::Fixed(rgb) => {
                let byte = |c: f32| (c.clamp(0.0, 1.0) * 255.0).round() as u8;
                write!(
                    f,
                    "#{:02x}{:02x}{:02x}",
                    byte(rgb[0]),
                    byte(rgb[1]),
                    byte(rgb[2])
                )
            }
        }
    }
}

impl std::str::FromStr for Background {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => return Ok(Self::Auto(None)),
            "random" => return Ok(Self::Random),
            "white" => return Ok(Self::Fixed([1.0; 3])),
            "black" => return Ok(Self::Fixed([0.0; 3])),
            _ => {}
        }
        if let Some(color) = text.strip_prefix("auto:") {
            return match color.parse()? {
                Self::Fixed(rgb) => Ok(Self::Auto(Some(rgb))),
                Self::Random | Self::Auto(_) => Err(format!(
                    "`{text}` is not a background: give a colour after auto:, such as white"
                )),
            };
        }
        let hex = text.strip_prefix('#').filter(|h| h.len() == 6);
        let value = hex.and_then(|h| u32::from_str_radix(h, 16).ok());
        let value = value.ok_or_else(|| {
            format!(
                "`{text}` is not a background: give auto, random, white, black or #rrggbb in six hexadecimal digits"
            )
        })?;
        let channel = |shift: u32| ((value >> shift) & 255) as f32 / 255.0;
        Ok(Self::Fixed([channel(16), channel(8), channel(0)]))
    }
}

impl Serialize for Background {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Background {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl Background {
    /// Return the colour to use where a single one is required; black if there is none.
    #[must_use]
    pub fn color(self) -> [f32; 3] {
        match self {
            Self::Random | Self::Auto(None) => [0.0; 3],
            Self::Fixed(rgb) | Self::Auto(Some(rgb)) => rgb,
        }
    }

    /// Replace an automatic background by the one for images with these `surroundings`.
    pub(super) fn resolved_for(self, surroundings: Option<Surroundings>) -> Self {
        let Self::Auto(color) = self else {
            return self;
        };
        let byte = |v: u8| f32::from(v) / 255.0;
        match surroundings {
            Some(Surroundings::Plain(rgb) | Surroundings::Filled(rgb)) => {
                Self::Fixed(rgb.map(byte))
            }
            Some(Surroundings::Transparent) | None => color.map_or(Self::Random, Self::Fixed),
        }
    }
}
