//! WGSL texts: finding them, joining them, and filling in sizes.
//!
//! A shader file is WGSL with three additions:
//! - `#import name` pulls in another file once;
//! - a module-level `var<storage…>` or `var<uniform>` carries no `@group`/`@binding`: the loader numbers them in order;
//! - lines starting with `//:` are template statements (`//: for q in range(n)`, `//: endfor`, `//: if x`), and
//!   `${expr}` is replaced by its value. The values are the [`Defines`] that the owner of the kernel passes.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::error::GpuError;

macro_rules! shaders {
    ($($name:literal),* $(,)?) => {
        const SHADERS: &[(&str, &str)] = &[$(($name, include_str!(concat!("../../shaders/", $name, ".wgsl")))),*];
    };
}

shaders! {
    "common/activation",
    "common/box_position",
    "common/camera",
    "common/color",
    "common/crop",
    "common/empty",
    "common/grid_index",
    "common/index_direct",
    "common/index_proved",
    "common/pcg",
    "common/ray",
    "common/ray_loss",
    "common/scene_box",
    "common/step",
    "compaction",
    "compositing",
    "distillation",
    "encoding/frequency",
    "encoding/hash_grid",
    "encoding/spherical_harmonics",
    "entry/bench_peak",
    "entry/direction",
    "entry/noise",
    "entry/one_hot",
    "entry/position",
    "entry/publish",
    "entry/rounds",
    "entry/step",
    "images",
    "loss",
    "network/binned",
    "network/fused",
    "network/tiled",
    "network/transpose",
    "network/weight_gradients",
    "occupancy",
    "optimizer",
    "primitives/bin",
    "primitives/scan",
    "reptile",
    "sampling/importance",
    "sampling/ray_march",
    "sampling/stratified",
    "scene/car",
    "scene/demo",
    "scene/solids",
    "viewer/screen",
}

/// Names of all shader files, without the ending.
#[must_use]
pub fn shader_names() -> Vec<&'static str> {
    SHADERS.iter().map(|&(name, _)| name).collect()
}

/// Values that a shader text is specialised with: numbers, flags and lists.
#[derive(Debug, Clone, Default)]
pub struct Defines(std::collections::BTreeMap<String, minijinja::Value>);

impl Defines {
    /// No values.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Add a value under `name`.
    #[must_use]
    pub fn set<T: serde::Serialize>(mut self, name: &str, value: T) -> Self {
        self.0
            .insert(name.to_owned(), minijinja::Value::from_serialize(value));
        self
    }

    /// Add a number under `name`, as the shortest WGSL literal that is this f32.
    #[must_use]
    pub fn set_f32(self, name: &str, value: f32) -> Self {
        self.set(name, format!("{value:?}"))
    }

    /// The same of a list.
    #[must_use]
    pub fn set_f32s<const N: usize>(self, name: &str, values: [f32; N]) -> Self {
        self.set(name, values.map(|value| format!("{value:?}")).as_slice())
    }

    /// Add all of `other`'s values.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}

/// A text ready for the compiler.
#[derive(Debug, Clone)]
pub struct Shader {
    /// The file it came from, for messages.
    pub name: String,
    /// Plain WGSL.
    pub text: String,
}

impl Shader {
    /// Join `name` with its imports and fill in `defines`. `proved_indices` chooses between the two texts of the index
    /// helpers (see `shaders/common/index_proved.wgsl`).
    ///
    /// # Errors
    /// [`GpuError::Shader`] for an unknown file or a faulty template.
    pub fn load(name: &str, defines: &Defines, proved_indices: bool) -> Result<Self, GpuError> {
        let mut seen = BTreeSet::new();
        let mut joined = String::new();
        join(name, defines, proved_indices, &mut seen, &mut joined)?;
        Ok(Self {
            name: name.to_owned(),
            text: number_bindings(&joined),
        })
    }
}

fn fault(shader: &str, reason: impl Into<String>) -> GpuError {
    GpuError::Shader {
        shader: shader.to_owned(),
        reason: reason.into(),
    }
}

/// Append the filled text of `name` to `out`, its imports before it, each file once.
fn join(
    name: &str,
    defines: &Defines,
    proved: bool,
    seen: &mut BTreeSet<String>,
    out: &mut String,
) -> Result<(), GpuError> {
    let name = match (name, proved) {
        ("common/index", true) => "common/index_proved",
        ("common/index", false) => "common/index_direct",
        _ => name,
    };
    if !seen.insert(name.to_owned()) {
        return Ok(());
    }
    let (_, text) = SHADERS
        .iter()
        .find(|&&(n, _)| n == name)
        .ok_or_else(|| fault(name, "there is no such file"))?;
    let mut own = String::new();
    for line in fill(name, text, defines)?.lines() {
        if let Some(import) = line.strip_prefix("#import ") {
            join(import.trim(), defines, proved, seen, out)?;
        } else {
            own.push_str(line);
            own.push('\n');
        }
    }
    out.push_str(&own);
    Ok(())
}

fn fill(name: &str, text: &str, defines: &Defines) -> Result<String, GpuError> {
    let syntax = minijinja::syntax::SyntaxConfig::builder()
        .block_delimiters("<%", "%>")
        .variable_delimiters("${", "}")
        .comment_delimiters("<#", "#>")
        .line_statement_prefix("//:")
        .build()
        .map_err(|e| fault(name, e.to_string()))?;
    let mut environment = minijinja::Environment::new();
    environment.set_syntax(syntax);
    environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    environment.set_trim_blocks(true);
    environment.set_keep_trailing_newline(true);
    environment
        .render_str(text, &defines.0)
        .map_err(|e| fault(name, format!("{e:#}")))
}

fn number_bindings(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 512);
    let mut next = 0;
    for line in text.lines() {
        if line.starts_with("var<storage") || line.starts_with("var<uniform") {
            let _ = write!(out, "@group(0) @binding({next}) ");
            next += 1;
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}
