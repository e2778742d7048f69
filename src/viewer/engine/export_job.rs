//! Tasks of the window beside training: screenshots, camera paths as in `kiln render`, evaluations, and picked points.

use std::path::PathBuf;
use std::sync::Arc;

use super::super::protocol::{Event, EventSender};
use crate::camera::Camera;
use crate::config::Background;
use crate::render::{Rendered, Renderer};
use crate::session::evaluate::{EvaluateOptions, evaluate};
use crate::session::render::{RenderBackground, RenderOptions, render_draft};
use crate::session::sink::save_png;
use crate::session::{Error, Observer, ObserverExt as _, Result, Scale};
use crate::viewer::{ExportJob, ViewRequest};

/// Minimum opacity of a pixel that shows a surface.
const MIN_OPACITY: f32 = 0.5;

/// Run `export` with `renderer`, and send its result to `events`; the window stays responsive meanwhile.
pub(super) fn run(
    observer: &dyn Observer,
    events: &EventSender,
    renderer: &mut Renderer,
    export: ExportJob,
) -> Result<()> {
    match export {
        ExportJob::Evaluation(run) => {
            let gpu = Arc::clone(renderer.gpu());
            let report = evaluate(&gpu, &EvaluateOptions::new(run), observer)?;
            events.send(Event::Evaluated(Box::new(report)));
            Ok(())
        }
        ExportJob::Pick {
            camera,
            near_far,
            crop,
        } => {
            renderer.set_crop(crop);
            let point = surface_point(renderer, &camera, near_far)?;
            events.send(Event::Picked(point));
            Ok(())
        }
        ExportJob::Screenshot { request } => screenshot(observer, renderer, &request),
        ExportJob::Path {
            path,
            to,
            channel,
            per_side,
            background,
        } => {
            if to.as_os_str().is_empty() {
                return Err(Error::usage("no output file for the path: name one"));
            }
            let options = RenderOptions {
                channels: vec![channel],
                samples_per_side: per_side,
                background: Some(RenderBackground::Color(Background::Fixed(background))),
                ..RenderOptions::new(PathBuf::new(), to)
            };
            render_draft(observer, renderer, &options, &path)
        }
    }
}

/// Return the point that the only pixel of `camera` shows, if it shows one.
fn surface_point(
    renderer: &mut Renderer,
    camera: &Camera,
    near_far: Option<[f32; 2]>,
) -> Result<Option<[f64; 3]>> {
    let frame = renderer.render(camera, near_far, false)?;
    let distance = frame.distances()[0];
    if frame.opacity[0] < MIN_OPACITY || distance <= 0.0 {
        return Ok(None);
    }
    let (origin, direction) = camera.ray(0.5, 0.5);
    let length = direction.iter().map(|v| v * v).sum::<f64>().sqrt();
    let scale = f64::from(distance) / length;
    Ok(Some(std::array::from_fn(|a| {
        origin[a] + scale * direction[a]
    })))
}

/// Render the view `request` to a PNG, with the same pixels that the window would show at that size.
fn screenshot(
    observer: &dyn Observer,
    renderer: &mut Renderer,
    request: &ViewRequest,
) -> Result<()> {
    let gpu = Arc::clone(renderer.gpu());
    let size = [request.camera.width, request.camera.height];
    let task = observer.task("rendering", Scale::Count(1));
    renderer.set_crop(request.crop);
    let mut job = renderer.begin_picture(&request.camera, request.near_far, &request.shading)?;
    let picture = loop {
        if !observer.keep_going() {
            return Err(Error::Cancelled(
                " before the screenshot was complete".to_owned(),
            ));
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
    save_png(&to, &rgb, size[0], size[1])?;
    task.increment();
    drop(task);
    observer.note(format!("saved {} ({}×{})", to.display(), size[0], size[1]));
    Ok(())
}
