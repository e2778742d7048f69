//! Compiles shader modules with or without wgpu's run-time checks: index clamps, bounds on loops, checked divisions.
//!
//! The checks cost a GPU a quarter of some kernels' cycles. Memory stays safe without them where the driver bounds accesses to
//! buffers itself, which wgpu asks for; indices into arrays of a function and of a workgroup, loops and divisors are kiln's own.

#![allow(unsafe_code)]

/// Compile `module`, with run-time checks if `checked`.
pub(super) fn shader_module(
    device: &wgpu::Device,
    module: wgpu::ShaderModuleDescriptor<'_>,
    checked: bool,
) -> wgpu::ShaderModule {
    if checked {
        return device.create_shader_module(module);
    }
    // SAFETY: every text is kiln's own, expanded from a file in `shaders/`, never from input. Its loops end by a counter, or by a
    // distance that grows with each step; its divisors are constants or at least 1; its indices lie within the lengths that its
    // constants give. The tests of each kernel (`tests/gpu/`) run it both without these checks, where a software driver would
    // crash on a stray index, and with them, against one reference.
    unsafe { device.create_shader_module_trusted(module, wgpu::ShaderRuntimeChecks::unchecked()) }
}
