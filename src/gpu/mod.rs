//! The layer between kiln and wgpu: adapters, allocators, buffers, shaders, kernels, primitives, timing.
//!
//! This module is independent of radiance fields. A [`Kernel`] is a WGSL entry point with named bindings, a [`Stage`] is a
//! named list of dispatches, and a training step is a list of stages.

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
mod trusted;

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
