//! Shows a run in the window, and describes the open run or dataset.

use std::path::Path;

use super::super::protocol::{OpenChoice, Opened, Viewpoint};
use super::context::{EngineContext, OpenRequest};
use crate::aabb::Aabb;
use crate::camera::Camera;
use crate::config::ResolvedConfig;
use crate::dataset::Dataset;
use crate::render::{RenderMode, Renderer};
use crate::report::History;
use crate::run::RunDir;
use crate::sampling::SceneBox;
use crate::scene_frame::SceneFrame;
use crate::session::open::{self, OpenRun};
use crate::session::{ObserverExt as _, Result, data, evaluate};

/// Show the run at `path` until the window requests something else.
pub(super) fn show_run(engine: &EngineContext, path: &Path) -> Result<()> {
    let gpu = engine.open_gpu()?;
    let OpenRun {
        checkpoint,
        mut renderer,
    } = open::open_run(engine, &gpu, path, None)?;
    let dataset = data::dataset_of(engine, &checkpoint, None, checkpoint.info.opening());
    let dataset = dataset
        .map_err(|error| {
            let reason = format!("the cameras of the run's dataset are not shown: {error}");
            engine.note(reason);
        })
        .ok();
    let config = &checkpoint.info.config;
    let opened = Opened {
        evaluation: evaluate::stored(&RunDir::of(path)),
        is_kept_stage: open::rendered(path) != path,
        ..opened(path, config, dataset.as_ref(), &renderer, None)?
    };
    let choice = OpenChoice {
        path: path.to_owned(),
        method: None,
    };
    engine.open(
        opened,
        renderer.sharing_parameters()?,
        OpenRequest::Path(choice),
    );
    while !engine.is_over() {
        engine.run_export(&mut renderer);
        engine.show()?;
    }
    Ok(())
}

/// Describe what was opened; `bytes` is the device memory of its training, if it is being trained.
pub(super) fn opened(
    path: &Path,
    config: &ResolvedConfig,
    dataset: Option<&Dataset>,
    renderer: &Renderer,
    bytes: Option<u64>,
) -> Result<Opened> {
    let mut viewpoints = Vec::new();
    if let Some(dataset) = dataset {
        let frames = dataset
            .train
            .iter()
            .chain(&dataset.val)
            .chain(&dataset.test);
        viewpoints.extend(frames.map(|frame| Viewpoint {
            name: frame.name.clone(),
            camera: frame.camera.downscaled(dataset.downscale),
            near_far: frame.near_far,
            frame: Some(frame.clone()),
        }));
    }
    let scene_frame = SceneFrame::of(config);
    let bounds = SceneBox::of(config).bounds();
    let bounds = bounds.map(|corner| scene_frame.world_point(corner));
    if viewpoints.is_empty() {
        viewpoints.push(Viewpoint {
            name: "the scene's box".to_owned(),
            camera: outside(&bounds),
            near_far: None,
            frame: None,
        });
    }
    let all = [
        RenderMode::Color,
        RenderMode::Depth,
        RenderMode::Normals,
        RenderMode::Opacity,
        RenderMode::Samples,
        RenderMode::Occupancy,
        RenderMode::Cells,
    ];
    // The window's renderer allocates its own batches.
    let [parameters, batches] = renderer.bytes()?;
    Ok(Opened {
        title: path.display().to_string(),
        path: path.to_owned(),
        method: config.method.clone(),
        viewpoints,
        n_train: dataset.map_or(0, |d| d.train.len()),
        downscale: dataset.map_or(1, |d| d.downscale),
        linear: config.scene.linear,
        bounds,
        points: dataset.map(|d| d.points.clone()).unwrap_or_default(),
        shows: all.into_iter().filter(|s| renderer.can_show(*s)).collect(),
        can_crop: renderer.can_crop(),
        bytes: batches + bytes.unwrap_or(batches + parameters),
        training: bytes.is_some(),
        evaluation: None,
        is_kept_stage: false,
        history: History::of(&RunDir::of(path)),
    })
}

/// Return a camera that sees the whole of `bounds`.
fn outside(bounds: &Aabb) -> Camera {
    let middle = bounds.center().to_array();
    let eye = [0.9, -1.2, 0.7].map(|v| v * bounds.side());
    let eye: [f32; 3] = std::array::from_fn(|a| (middle[a] + eye[a]) as f32);
    Camera::look_at(
        eye,
        middle.map(|v| v as f32),
        [0.0, 0.0, 1.0],
        0.8,
        800,
        600,
    )
}
