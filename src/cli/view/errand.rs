//! What the window wants rendered and written: screenshots, and paths as `kiln render` renders them.

use std::path::Path;

use super::super::interrupt::Interrupted;
use super::super::{Session, render, usage};
use crate::render::{Rendered, Renderer};
use crate::viewer::{Errand, Looking};

/// Do `errand` with `renderer`, while the window has its part.
pub(super) fn run(
    session: &Session,
    renderer: &mut Renderer,
    errand: Errand,
) -> anyhow::Result<()> {
    match errand {
        Errand::Screenshot { looking, to } => screenshot(session, renderer, &looking, &to),
        Errand::Path {
            path,
            to,
            channel,
            per_side,
            background,
        } => {
            let args = render::Args::along_path(&to, channel, per_side, background);
            render::along(session, renderer, &args, &path)
        }
    }
}

/// Write what `looking` shows to a PNG, pixel by pixel what the window would show at that size.
fn screenshot(
    session: &Session,
    renderer: &mut Renderer,
    looking: &Looking,
    to: &Path,
) -> anyhow::Result<()> {
    let is_png = to
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("png"));
    if !is_png {
        return Err(usage(format!(
            "{}: a screenshot is a PNG: give a name that ends in .png",
            to.display()
        )));
    }
    let gpu = session.open_gpu()?;
    let size = [looking.camera.width, looking.camera.height];
    let bar = session.out.bar(1, "rendering");
    renderer.set_crop(looking.crop);
    let mut job = renderer.begin_picture(&looking.camera, looking.near_far, &looking.shading)?;
    let picture = loop {
        if !session.keep_going() {
            bar.finish_and_clear();
            return Err(Interrupted(" before the screenshot was done".to_owned()).into());
        }
        match renderer.advance(&mut job)? {
            Some(Rendered::Picture(picture)) => break picture,
            _ => gpu.wait()?,
        }
    };
    let rgba = picture.read(&gpu)?;
    let rgb: Vec<u8> = rgba.chunks_exact(4).flat_map(|p| p[..3].to_vec()).collect();
    super::super::sink::save_png(to, &rgb, size[0], size[1])?;
    bar.inc();
    bar.finish_and_clear();
    session
        .out
        .note(format!("saved {} ({}×{})", to.display(), size[0], size[1]));
    Ok(())
}
