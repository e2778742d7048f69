//! WGSL sources: lookup, imports and template expansion.
//!
//! A shader file is WGSL with three additions:
//! - `#import name` inserts another file, once;
//! - a module-level `var<storage…>` or `var<uniform>` carries no `@group`/`@binding`: the loader numbers them in order;
//! - lines starting with `//:` are template statements (`//: for q in range(n)`, `//: endfor`, `//: if x`), and `${expr}` is
//!   replaced by its value. The values are the [`Defines`] that the caller passes.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::LazyLock;

use minijinja::Environment;
use minijinja::syntax::SyntaxConfig;

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
    "common/lens",
    "common/pcg",
    "common/ray",
    "common/ray_loss",
    "common/scene_box",
    "common/shade",
    "common/step",
    "common/trigonometry",
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
    "scene/room",
    "scene/solids",
    "viewer/normals",
    "viewer/screen",
}

/// Return the names of all shader files, without the extension.
#[must_use]
pub fn shader_names() -> Vec<&'static str> {
    SHADERS.iter().map(|&(name, _)| name).collect()
}

/// Template values that specialise a shader: numbers, flags and lists.
#[derive(Debug, Clone, Default)]
pub struct Defines(std::collections::BTreeMap<String, minijinja::Value>);

impl Defines {
    /// Create an empty set of values.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Set `name` to `value`.
    #[must_use]
    pub fn set<T: serde::Serialize>(mut self, name: &str, value: T) -> Self {
        self.0
            .insert(name.to_owned(), minijinja::Value::from_serialize(value));
        self
    }

    /// Set `name` to the shortest WGSL literal that denotes the f32 `value`.
    #[must_use]
    pub fn set_f32(self, name: &str, value: f32) -> Self {
        self.set(name, format!("{value:?}"))
    }

    /// Set `name` to a list of literals, as in [`Self::set_f32`].
    #[must_use]
    pub fn set_f32s<const N: usize>(self, name: &str, values: [f32; N]) -> Self {
        self.set(name, values.map(|value| format!("{value:?}")).as_slice())
    }

    /// Add all values of `other`, which take precedence.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}

/// WGSL source ready for the compiler.
#[derive(Debug, Clone)]
pub struct Shader {
    /// Name of its file, for messages.
    pub name: String,
    /// Plain WGSL.
    pub text: String,
}

impl Shader {
    /// Join the file `name` with its imports and expand it with `defines`. `proved_indices` selects the variant of the index
    /// helpers (see `shaders/common/index_proved.wgsl`).
    ///
    /// # Errors
    /// [`GpuError::Shader`] for an unknown file or an invalid template.
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

/// Append the expanded source of `name` to `out`, preceded by its imports; include each file once.
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
    if !SHADERS.iter().any(|&(n, _)| n == name) {
        return Err(fault(name, "there is no such file"));
    }
    let mut own = String::new();
    for line in expand(name, defines)?.lines() {
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

/// All shader files as templates, parsed once.
static TEMPLATES: LazyLock<Result<Environment<'static>, minijinja::Error>> = LazyLock::new(|| {
    let syntax = SyntaxConfig::builder()
        .block_delimiters("<%", "%>")
        .variable_delimiters("${", "}")
        .comment_delimiters("<#", "#>")
        .line_statement_prefix("//:")
        .build()?;
    let mut environment = Environment::new();
    environment.set_syntax(syntax);
    environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    environment.set_trim_blocks(true);
    environment.set_keep_trailing_newline(true);
    for (name, text) in SHADERS {
        environment.add_template(name, text)?;
    }
    Ok(environment)
});

/// Expand the template `name`.
fn expand(name: &str, defines: &Defines) -> Result<String, GpuError> {
    let expanded = TEMPLATES
        .as_ref()
        .map_err(|e| fault(name, format!("{e:#}")))?;
    let expanded = expanded
        .get_template(name)
        .and_then(|template| template.render(&defines.0));
    expanded.map_err(|e| fault(name, format!("{e:#}")))
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
