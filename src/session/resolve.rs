//! Resolves the configuration that the options select, and checks the cameras against it.

use std::path::Path;

use super::{Error, Observer, ObserverExt, Result};
use crate::aabb::Aabb;
use crate::config::{Background, Config, ForwardFacing, ResolvedConfig, SceneHints, Surroundings};
use crate::dataset::doctor::{self, Problem, Severity};
use crate::dataset::framing::short;
use crate::dataset::{Dataset, Frame};
use crate::gpu::AdapterClass;
use crate::images::near_far;

/// Note that a small preset was chosen for a software adapter; `full` is the full-size preset that it replaces.
pub(crate) fn note_small_method(observer: &dyn Observer, config: &Config, full: &str) {
    observer.note(format!(
        "method: {}, sized for a software adapter (use --method {full} for the full size)",
        config.method
    ));
}

/// Fill in the values that depend on the scene and the device, and note those taken from the cameras and the images.
pub(crate) fn resolve(
    observer: &dyn Observer,
    config: Config,
    dataset: &mut Dataset,
    class: AdapterClass,
) -> ResolvedConfig {
    if dataset.surroundings.is_none() && config.depends_on_images() {
        dataset.examine_surroundings();
    }
    let (hints, framing) = (dataset.hints(), dataset.framing);
    let is_placed = config.scene.scale.is_some() && config.scene.offset.is_some();
    let why = match (config.scene.scale, config.scene.offset) {
        (Some(_), _) => "with the given scale, placed because",
        (None, Some(_)) => "with the given offset, sized because",
        (None, None) => "because",
    };
    let given = [config.scene.background, config.scene.eval_background];
    let config = config.resolve(hints, class);
    if let Some(framing) = framing.filter(|_| !is_placed && config.scene.ndc.is_none()) {
        let [x, y, z] = config.offset();
        observer.note(format!(
            "scene: a box of {} world units per side, {why} {} (scene.scale={} scene.offset=[{x},{y},{z}] \
             scene.aabb_scale={}; change them with --set)",
            short(f64::from(config.aabb_scale()) / config.scale()),
            framing.reason(),
            config.scale(),
            config.aabb_scale(),
        ));
    }
    if config.scene.forward_facing == ForwardFacing::Ndc
        && hints.is_normalized
        && config.scene.ndc.is_none()
    {
        observer.note(
            "the cameras do not all face the same way: the scene uses world coordinates, not normalised device coordinates",
        );
    }
    if matches!(given, [Background::Auto(_), _])
        && let Some(surroundings) = hints.surroundings
    {
        let background = config.scene.background;
        let why = match surroundings {
            Surroundings::Transparent => "for the transparent parts of the images".to_owned(),
            Surroundings::Plain(_) => {
                "the colour around the object in most images, which are opaque".to_owned()
            }
            Surroundings::Filled(_) => {
                "the mean colour of the images, which the scene fills".to_owned()
            }
        };
        let loss = config.training.opacity_loss.unwrap_or(0.0);
        let more = if loss > 0.0 {
            ", without training.opacity_loss, which keeps the scene opaque"
        } else {
            ""
        };
        observer.note(format!(
            "background: {background}, {why} (choose another with --background{more})"
        ));
    }
    config
}

/// Return the scene box of a resolved configuration, in world units. For normalised device coordinates, which contain
/// everything in front of the cameras, return the box that `dataset` suggests.
pub(crate) fn world_box(dataset: &Dataset, config: &ResolvedConfig) -> Aabb {
    box_of(
        config,
        if config.scene.ndc.is_some() {
            dataset.hints()
        } else {
            SceneHints::default()
        },
    )
}

/// Return the scene box of a resolved configuration, in world units; values in `hints` take precedence.
pub(crate) fn box_of(config: &ResolvedConfig, hints: SceneHints) -> Aabb {
    let scale = hints.scale.unwrap_or(config.scale());
    let offset = hints.offset.unwrap_or(config.offset());
    let side = hints.aabb_scale.unwrap_or(config.aabb_scale());
    Aabb::around_unit_cube(f64::from(side), scale, offset)
}

/// Return the problems of the cameras of `dataset` with a resolved configuration.
pub(crate) fn problems(dataset: &Dataset, config: &ResolvedConfig) -> Vec<Problem> {
    let world = world_box(dataset, config);
    let near_far = |view: &Frame| near_far(config, view.near_far);
    let cubes = config.aabb_scale();
    let mut problems = doctor::check(dataset, &world, cubes, &near_far);
    for cells in config.passes.iter().filter_map(|p| p.field.cells.as_ref()) {
        let corner = |share: [f32; 3]| -> [f64; 3] {
            let side = |a: usize| world.high[a] - world.low[a];
            std::array::from_fn(|a| world.low[a] + f64::from(share[a]) * side(a))
        };
        let grid = Aabb {
            low: corner(cells.low),
            high: corner(cells.high),
        };
        // A grid that fills the box has been checked already.
        if grid != world {
            problems.extend(doctor::check_grid(dataset, &grid, &near_far));
        }
    }
    problems
}

/// Warn of problems with the cameras of `dataset`, and return an error if training would fail.
pub(crate) fn check(
    observer: &dyn Observer,
    dataset: &Dataset,
    path: &Path,
    config: &ResolvedConfig,
) -> Result<()> {
    let problems = problems(dataset, config);
    let (errors, warnings): (Vec<_>, Vec<_>) = problems
        .into_iter()
        .partition(|p| p.severity == Severity::Error);
    for warning in warnings {
        observer.warn(&warning.message);
    }
    check_depths(dataset, config)?;
    errors.first().map_or(Ok(()), |error| {
        Err(Error::failed(format!(
            "{}: {} (to see the cameras: kiln inspect {} --plot cameras.png)",
            dataset.name,
            error.message,
            path.display()
        )))
    })
}

/// Return an error if the near bound of a view is not below its far bound.
fn check_depths(dataset: &Dataset, config: &ResolvedConfig) -> Result<()> {
    let frames = dataset
        .train
        .iter()
        .chain(&dataset.val)
        .chain(&dataset.test);
    for frame in frames {
        let [near, far] = near_far(config, frame.near_far);
        if near >= far {
            return Err(Error::usage(format!(
                "the rays of {} would start at {near} and end at {far}: change scene.near or scene.far with --set",
                frame.name
            )));
        }
    }
    Ok(())
}
