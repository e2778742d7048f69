//! The layer between kiln and wgpu: adapters, allocators, buffers, kernels and their text, primitives, timing.
//!
//! Nothing here knows what a radiance field is. A [`Kernel`] is a WGSL entry point whose bindings have names; a
//! [`Stage`] is a named list of dispatches; a step of training is a list of stages.

mod adapter;
mod allocator;
mod buffer;
mod context;
mod counts;
mod error;
mod kernel;
mod memory;
pub mod primitives;
mod profile;
mod shader;
mod stage;
mod submit;

pub use adapter::{AdapterClass, AdapterSummary, DeviceProfile, GpuOptions, list_adapters};
pub use allocator::{Allocator, Planner, WithAdvice};
pub use buffer::{Buffer, ReadBack};
pub use context::Gpu;
pub use counts::{Count, Counts};
pub use error::GpuError;
pub use kernel::{Binding, Kernel};
pub use profile::{StageTime, time_stages};
pub use shader::{Defines, Shader, shader_names};
pub use stage::{Groups, Stage};
pub use submit::Submitter;
