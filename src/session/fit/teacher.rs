//! The teacher of a distillation: opens it, extracts where it is dense, and checks that it has not changed on a resume.

use std::path::{Path, PathBuf};

use super::DistillOptions;
use crate::checkpoint::Checkpoint;
use crate::config::{Config, Distillation, ResolvedConfig, key_of};
use crate::dataset::Dataset;
use crate::distillation::{DistillationError, Extraction, Teacher, extract};
use crate::field::{Field, FieldParameters};
use crate::gpu::{AdapterClass, Gpu};
use crate::images::ImageSet;
use crate::run::RunDir;
use crate::session::memory::SOFTWARE_SPEED;
use crate::session::{Error, Observer, ObserverExt, Result, Scale, open};
use crate::train::{max_networks, plan};

/// A teacher whose distillation is not finished.
pub(super) struct TeacherState {
    pub(super) teacher: Teacher,
    /// Whether the distillation is new, so that the student's cells are still to be extracted.
    pub(super) is_new: bool,
}

/// Hash of a teacher's checkpoint, to detect changes.
fn fingerprint(checkpoint: &Checkpoint) -> String {
    format!("{:016x}", checkpoint.content_hash())
}

/// Load the field that `checkpoint` renders with: that of its last pass.
fn load(gpu: &Gpu, checkpoint: &Checkpoint) -> Result<Teacher> {
    let config = checkpoint.info.config.clone();
    let mut fields = Field::of_passes(gpu.profile(), &config)?;
    let mut parameters = FieldParameters::of_passes(gpu, &fields)?;
    let all: Vec<&Field> = fields.iter().collect();
    checkpoint.load_parameters(gpu, &all, &parameters)?;
    let last = fields.len() - 1;
    Ok(Teacher::new(
        config,
        fields.swap_remove(last),
        parameters.swap_remove(last),
    ))
}

/// Copy the scene of the teacher in `checkpoint` to `config`, store the teacher's path and fingerprint there, and load the
/// teacher.
pub(super) fn prepare(
    gpu: &Gpu,
    distill: &DistillOptions,
    checkpoint: &Checkpoint,
    dataset: &Dataset,
    overrides: &[String],
    config: &mut Config,
) -> Result<TeacherState> {
    let (info, run) = (&checkpoint.info, &distill.teacher);
    if !info.fingerprint.is_empty() && info.fingerprint != dataset.fingerprint() {
        return Err(Error::usage(format!(
            "{} was trained on {}, whose training cameras differ from those of {}: give the dataset that it was trained on",
            run.display(),
            info.dataset,
            dataset.root.display()
        )));
    }
    let backgrounds = ["scene.background", "scene.eval_background"];
    let is_dropped = |text: &&String| {
        let key = key_of(text);
        key.starts_with("scene.") && !backgrounds.contains(&key)
    };
    if let Some(text) = overrides.iter().find(is_dropped) {
        return Err(Error::usage(format!(
            "--set {text}: a student uses its teacher's scene; only {} may be set",
            backgrounds.join(" and ")
        )));
    }
    let scene = &info.config.scene;
    if scene.ndc.is_some() {
        return Err(Error::usage(format!(
            "{} was trained in normalised device coordinates, which distillation does not support: train the teacher with \
             --set scene.forward_facing=world",
            run.display()
        )));
    }
    if config.passes.len() != 1 || config.passes[0].field.cells.is_none() {
        return Err(Error::usage(format!(
            "method {} is not a grid of networks: use kilonerf, kilonerf-small or a configuration with passes.field.cells",
            config.method
        )));
    }
    let (background, eval_background) = (config.scene.background, config.scene.eval_background);
    config.scene = scene.clone();
    if matches!(background, crate::config::Background::Fixed(_)) {
        (config.scene.background, config.scene.eval_background) = (background, eval_background);
    } else {
        let (training, of_teacher) = (&mut config.training, &info.config.training);
        training.opacity_loss = training.opacity_loss.or(of_teacher.opacity_loss);
        training.mask_loss = training.mask_loss.or(of_teacher.mask_loss);
    }
    let distillation = config
        .distillation
        .get_or_insert_with(Distillation::default);
    if let Some(steps) = distill.steps {
        distillation.steps = steps;
    }
    distillation.teacher = std::path::absolute(run)?.display().to_string();
    distillation.teacher_fingerprint = fingerprint(checkpoint);
    let place = |run: &PathBuf| std::path::absolute(run).map(|path| path.display().to_string());
    distillation.compare = distill
        .compare
        .iter()
        .map(place)
        .collect::<Result<_, _>>()?;
    Ok(TeacherState {
        teacher: load(gpu, checkpoint)?,
        is_new: true,
    })
}

/// Return an error if `out` is the teacher or a run to compare with, or if a run to compare with cannot be opened or was
/// trained on another dataset.
pub(super) fn check_others(
    observer: &dyn Observer,
    distill: &DistillOptions,
    out: &RunDir,
    dataset: &Dataset,
) -> Result<()> {
    let place = |path: &Path| path.canonicalize().ok();
    let out = out.path();
    for run in std::iter::once(&distill.teacher).chain(&distill.compare) {
        if place(out).is_some() && place(out) == place(run) {
            return Err(Error::usage(format!(
                "--out {}: that is the teacher or a run to compare with; give another folder",
                out.display()
            )));
        }
    }
    for run in &distill.compare {
        let info = open::open_checkpoint(observer, run)?.info;
        if !info.fingerprint.is_empty() && info.fingerprint != dataset.fingerprint() {
            return Err(Error::usage(format!(
                "--compare {}: it was trained on {}, whose training cameras differ from those of {}; leave it out",
                run.display(),
                info.dataset,
                dataset.root.display()
            )));
        }
    }
    Ok(())
}

/// Open the teacher of a resumed run if its distillation is not finished.
pub(super) fn teacher_of(
    observer: &dyn Observer,
    gpu: &Gpu,
    run: &Path,
    checkpoint: &Checkpoint,
) -> Result<Option<TeacherState>> {
    let config = &checkpoint.info.config;
    let is_distilling = checkpoint.info.step < config.distillation_steps();
    let Some(distillation) = config.distillation.as_ref().filter(|_| is_distilling) else {
        return Ok(None);
    };
    let path = Path::new(&distillation.teacher);
    let refused = |reason: &str| {
        Error::usage(format!(
            "--resume {}: its distillation is at step {} of {} and needs its teacher {}, which {reason}; the run is unchanged",
            run.display(),
            checkpoint.info.step,
            distillation.steps,
            path.display()
        ))
    };
    if !path.exists() {
        return Err(refused("does not exist: put it back"));
    }
    let teacher = open::open_checkpoint(observer, path)
        .map_err(|error| refused(&format!("cannot be read ({error}): put it back")))?;
    if fingerprint(&teacher) != distillation.teacher_fingerprint {
        return Err(refused(
            "has changed since: restore it, or start a new distillation with `kiln distill`",
        ));
    }
    Ok(Some(TeacherState {
        teacher: load(gpu, &teacher)?,
        is_new: false,
    }))
}

/// Extract the teacher's occupancy grid and the cells that get networks, with a progress bar.
pub(super) fn extract_grid(
    observer: &dyn Observer,
    gpu: &Gpu,
    config: &ResolvedConfig,
    teacher: &Teacher,
    images: &ImageSet,
) -> Result<Extraction> {
    if gpu.class() == AdapterClass::Software {
        let kept =
            plan(gpu.profile(), config).map_or(config.batch_size(), |p| p.capacities[0].kept);
        let work = teacher.multiply_adds(gpu.profile(), config, kept);
        let [extraction, distillation_step] = work.map(|n| 2.0 * n / SOFTWARE_SPEED);
        if extraction > 60.0 || distillation_step > 2.0 {
            observer.warn(format!("on this adapter extracting the teacher's occupancy takes about {extraction:.0} s and a distillation step \
                 about {distillation_step:.1} s: lower distillation.supersampling and distillation.points_per_network with --set, or \
                 --distill-steps"
            ));
        }
    }
    let bar = observer.task("extracting the teacher's occupancy", Scale::Count(1000));
    let most = max_networks(gpu.profile(), config, 0)?;
    let found = extract(gpu, config, teacher, images, most, &mut |share| {
        bar.set((share * 1000.0) as u64);
        observer.keep_going()
    });
    drop(bar);
    let found = match found {
        Err(DistillationError::Stopped) => {
            return Err(Error::Cancelled(
                " before the distillation started; nothing was written".into(),
            ));
        }
        found => found?,
    };
    let [x, y, z] = found.cells.resolution();
    let occupied: u32 = found.bits.iter().map(|word| word.count_ones()).sum();
    observer.note(format!(
        "teacher: {:.1} % of the occupancy grid is dense; {} of {x}×{y}×{z} cells get networks",
        100.0 * f64::from(occupied) / (32.0 * found.bits.len() as f64),
        found.cells.n_networks(),
    ));
    Ok(found)
}
