//! What the window wants rendered and written: screenshots, and paths as `kiln render` renders them.

use std::path::PathBuf;
use std::sync::Arc;

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
        Errand::Screenshot { looking } => screenshot(session, renderer, &looking),
        Errand::Path {
            path,
            to,
            channel,
            per_side,
            background,
        } => {
            if to.as_os_str().is_empty() {
                return Err(usage("the path has no file to be rendered to: name one"));
            }
            let args = render::Args::along_path(&to, channel, per_side, background);
            render::along(session, renderer, &args, &path)
        }
    }
}

/// Write what `looking` shows to a PNG, pixel by pixel what the window would show at that size.
fn screenshot(session: &Session, renderer: &mut Renderer, looking: &Looking) -> anyhow::Result<()> {
    let gpu = Arc::clone(renderer.gpu());
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
    let mut names = (1..).map(|n| PathBuf::from(format!("screenshot-{n:03}.png")));
    let to = names.find(|path| !path.exists()).unwrap_or_default();
    super::super::sink::save_png(&to, &rgb, size[0], size[1])?;
    bar.inc();
    bar.finish_and_clear();
    session
        .out
        .note(format!("saved {} ({}×{})", to.display(), size[0], size[1]));
    Ok(())
}
