//! Losses on composited colours: `shaders/loss.wgsl`.

use crate::config::Loss;
use crate::gpu::Defines;

/// Template values of the shader.
#[must_use]
pub fn defines(loss: &Loss) -> Defines {
    match loss {
        Loss::L2 {} => Defines::new().set("loss", "l2"),
        Loss::Huber { delta } => Defines::new().set("loss", "huber").set_f32("delta", *delta),
    }
}
