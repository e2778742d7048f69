//! Makes a dataset of a video or of photographs: frames by ffmpeg, camera poses by COLMAP.
//!
//! The dataset has the layout that COLMAP's users know: `images/` and `sparse/0/`. Logs and COLMAP's database are in
//! `prepare/`, and so is `prepare.json`, which says which stages are done: a later call goes on with the next.

mod colmap;
mod frames;
mod process;

use std::path::{Path, PathBuf};
use std::time::{Instant, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{Error, Observer, ObserverExt as _, Result};
use crate::dataset::{Dataset, images_of_folder, is_camera_model, is_video, photo_kind};
use crate::files::replace_file;
use crate::report::duration;
use crate::text::{bytes, counted_len, one_line};
use colmap::{Colmap, Matching, Places};
use frames::{Ffmpeg, VideoInfo};
use process::Ending;

/// Default number of frames of a video.
pub const FRAMES: u32 = 150;
/// Camera model that suits phones and most cameras: with fewer parameters, the others are found more reliably.
pub const CAMERA_MODEL: &str = "SIMPLE_RADIAL";
/// Number of photographs up to which each is matched with all others.
const MAX_EXHAUSTIVE: usize = 250;
/// Part of the images below which advice is given.
const FEW: f64 = 0.8;
/// Where trees of visual words are.
const TREES: &str = "download one from https://github.com/colmap/colmap/releases for COLMAP 3.12 and later, or from \
                     https://demuc.de/colmap for older versions";
/// Name of the folder of logs, in the dataset.
const FOLDER: &str = "prepare";
const STATE: &str = "prepare.json";
/// Core-seconds of COLMAP on a CPU: per megapixel of an image, per pair of images, per image to be registered.
const SECONDS_PER_MEGAPIXEL: f64 = 0.9;
const SECONDS_PER_PAIR: f64 = 0.18;
const SECONDS_PER_IMAGE: f64 = 2.0;

/// How images are matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Matcher {
    /// By the input: a video as a sequence; photographs with all others up to 250 of them, beyond by vocabulary tree.
    #[default]
    Auto,
    /// Each image with those that follow it, and every few with all others, which closes loops.
    Sequential,
    /// Each image with all others.
    Exhaustive,
    /// Each image with the most similar ones, found by a tree of visual words.
    VocabTree,
}

/// Options of [`prepare`].
#[derive(Clone, Debug, PartialEq)]
pub struct PrepareOptions {
    /// A video, or a folder of photographs.
    pub input: PathBuf,
    /// The folder of the dataset.
    pub out: PathBuf,
    /// Number of frames to take from a video.
    pub frames: Option<u32>,
    /// Longest side of the frames of a video, in pixels; as stored without one.
    pub max_side: Option<u32>,
    /// How images are matched.
    pub matcher: Matcher,
    /// The tree of visual words for [`Matcher::VocabTree`].
    pub vocab_tree: Option<PathBuf>,
    /// COLMAP's name of the camera model.
    pub camera_model: String,
    /// COLMAP's program; on the PATH without one.
    pub colmap: Option<PathBuf>,
    /// ffmpeg's program; on the PATH without one.
    pub ffmpeg: Option<PathBuf>,
    /// Whether an earlier, different preparation in `out` is replaced; other files never are.
    pub overwrite: bool,
}

impl PrepareOptions {
    /// Return options with their defaults for a dataset beside the input: `desk-dataset` for `desk.mp4`.
    #[must_use]
    pub fn beside(input: &Path) -> Self {
        let stem = if input.is_dir() {
            input.file_name()
        } else {
            input.file_stem()
        };
        let name = format!("{}-dataset", stem.unwrap_or_default().to_string_lossy());
        Self::new(input, input.with_file_name(name))
    }

    /// Return options with their defaults.
    #[must_use]
    pub fn new(input: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Self {
        Self {
            input: input.into(),
            out: out.into(),
            frames: None,
            max_side: None,
            matcher: Matcher::Auto,
            vocab_tree: None,
            camera_model: CAMERA_MODEL.to_owned(),
            colmap: None,
            ffmpeg: None,
            overwrite: false,
        }
    }
}

/// The result of [`prepare`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Preparation {
    /// Number of images.
    pub images: usize,
    /// Number of images whose camera was found.
    pub registered: usize,
    /// Number of sparse points.
    pub points: usize,
    /// Mean reprojection error of the points, in pixels, if it is known.
    pub reprojection_error: Option<f64>,
    /// Seconds that this call took.
    pub seconds: f64,
}

/// What was prepared so far, from what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct State {
    schema: u32,
    /// What the stages depend on; another value starts them over.
    frames_of: String,
    features_of: String,
    matches_of: String,
    /// Number of images that the first stage made.
    n_images: usize,
    /// Stages that are done.
    frames: bool,
    features: bool,
    matches: bool,
    model: bool,
}

impl State {
    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        replace_file(path, &text)
            .map_err(|e| Error::failed(format!("cannot write {}: {e}", path.display())))
    }
}

/// Make a dataset of a video or of photographs in `options.out`. Stages that an earlier call finished are not repeated.
///
/// # Errors
/// [`Error::Usage`] if the input is neither, `out` holds something else, or a program is missing; [`Error::Cancelled`] if the
/// observer cancels; [`Error::Failed`] with the place of the log if a program fails or finds no cameras.
pub fn prepare(options: &PrepareOptions, observer: &dyn Observer) -> Result<Preparation> {
    let started = Instant::now();
    let is_video = check_input(options)?;
    let out = &options.out;
    let (work, images, masks) = (out.join(FOLDER), out.join("images"), out.join("masks"));
    let file = work.join(STATE);
    let mut state = State::read(&file);
    let wanted = wanted(options, is_video)?;
    check_out(options, &state, &wanted)?;
    let colmap = Colmap::find(options.colmap.as_deref())?;
    let ffmpeg = is_video.then(|| Ffmpeg::find(options.ffmpeg.as_deref()));
    let ffmpeg = ffmpeg.transpose()?;
    // Nothing is written or removed before it is known that there are pictures.
    let video = ffmpeg.as_ref().map(|ffmpeg| ffmpeg.probe(&options.input));
    let video = video.transpose()?;
    if let (Some(ffmpeg), Some(video)) = (&ffmpeg, &video) {
        ffmpeg.check(&options.input, video)?;
    }
    std::fs::create_dir_all(&work)
        .map_err(|e| Error::failed(format!("cannot create {}: {e}", work.display())))?;
    let _lock = lock(&work)?;
    let (database, model) = (work.join("database.db"), out.join("sparse"));
    if options.overwrite || state.frames_of != wanted.frames_of {
        state = State::default();
    }
    // A stage is done only if what it made is there.
    let n_images = images_of_folder(&images).0.len();
    state.frames &= n_images > 0 && n_images == state.n_images;
    state.features &= state.frames && state.features_of == wanted.features_of && database.is_file();
    state.matches &= state.features && state.matches_of == wanted.matches_of;
    state.model &=
        state.matches && Dataset::open(out).is_ok_and(|d| !d.points.positions.is_empty());
    // COLMAP would take images that were added later for those of another camera.
    if !state.features {
        remove(&database)?;
    }
    if !state.model {
        remove(&model)?;
    }
    state = State {
        schema: 1,
        frames: state.frames,
        features: state.features,
        matches: state.matches,
        model: state.model,
        n_images: state.n_images,
        ..wanted
    };
    state.write(&file)?;
    let _listener = observer.listen_for_cancel();

    if !state.frames {
        remove(&images)?;
        remove(&masks)?;
        std::fs::create_dir_all(&images)
            .map_err(|e| Error::failed(format!("cannot create {}: {e}", images.display())))?;
        if let (Some(ffmpeg), Some(video)) = (&ffmpeg, &video) {
            take_frames(observer, options, (ffmpeg, video), &images, &work)?;
        } else {
            frames::copy_photographs(observer, &options.input, &images, &masks)?;
        }
        state.frames = true;
        state.n_images = images_of_folder(&images).0.len();
        state.write(&file)?;
    }
    let (all, _) = images_of_folder(&images);
    let names: Vec<String> = all
        .iter()
        .map(|path| {
            let below = path.strip_prefix(&images).unwrap_or(path);
            below.to_string_lossy().replace('\\', "/")
        })
        .collect();
    let places = Places {
        images: &images,
        database: &database,
        model: &model,
        masks: &masks,
        logs: &work,
    };
    let matching = matching(options, is_video, names.len())?;
    if !state.model {
        estimate(observer, &all, &matching, &state);
    }
    if !state.features {
        let is_one = is_video || photo_kind(&all).is_one_camera;
        colmap.features(
            observer,
            &places,
            names.len(),
            &options.camera_model,
            is_one,
        )?;
        state.features = true;
        state.write(&file)?;
    }
    if !state.matches {
        colmap.matches(observer, &places, &names, &matching)?;
        state.matches = true;
        state.write(&file)?;
    }
    if !state.model {
        remove(&model)?;
        let ending = colmap.map(observer, &places, names.len())?;
        let found = model
            .read_dir()
            .is_ok_and(|mut models| models.next().is_some());
        match ending {
            Ending::Success if found => {}
            Ending::Failure(error) if found => return Err(error),
            Ending::Success | Ending::Failure(_) => {
                return Err(Error::failed(format!(
                    "COLMAP found no cameras: {}; its output is in {}",
                    advice(is_video, &matching),
                    work.join("mapper.log").display()
                )));
            }
        }
        state.model = true;
    }
    let dataset = Dataset::open(out)?;
    state.write(&file)?;
    let registered = dataset.views().len();
    let result = Preparation {
        images: names.len(),
        registered,
        points: dataset.points.positions.len(),
        reprojection_error: dataset.points.reprojection_error,
        seconds: started.elapsed().as_secs_f64(),
    };
    if (registered as f64) < FEW * names.len() as f64 {
        observer.warn(format!(
            "only {registered} of {} were registered: {}",
            counted_len(names.len(), "image"),
            advice(is_video, &matching)
        ));
    }
    Ok(result)
}

/// Return what helps if few images are registered.
fn advice(is_video: bool, matching: &Matching) -> String {
    let mut advice = if is_video {
        "film slowly, with sideways motion rather than turns on the spot, in even light, and avoid blank walls and mirrors; or try \
         --frames with twice as many"
    } else {
        "take more photographs that overlap by two thirds, moving rather than turning on the spot, in even light, and avoid blank \
         walls and mirrors"
    }
    .to_owned();
    if *matching != Matching::Exhaustive {
        advice.push_str(", or try --matcher exhaustive");
    }
    advice
}

/// Return whether the input is a video; an error if it is neither that nor a folder.
fn check_input(options: &PrepareOptions) -> Result<bool> {
    let input = &options.input;
    if !input.exists() {
        return Err(Error::usage(format!(
            "{}: no such file or folder",
            input.display()
        )));
    }
    let video = input.is_file();
    if video && !is_video(input) {
        return Err(Error::usage(format!(
            "{}: neither a video, by its ending, nor a folder of photographs",
            input.display()
        )));
    }
    if !video && (options.frames.is_some() || options.max_side.is_some()) {
        return Err(Error::usage(
            "--frames and --max-side choose from a video, but the input is a folder of photographs: leave them out",
        ));
    }
    if !is_camera_model(&options.camera_model) {
        return Err(Error::usage(format!(
            "--camera-model {}: not one of COLMAP's: give SIMPLE_RADIAL, OPENCV, OPENCV_FISHEYE or another",
            options.camera_model
        )));
    }
    match &options.vocab_tree {
        None if options.matcher == Matcher::VocabTree => Err(Error::usage(format!(
            "--matcher vocab-tree needs a tree of visual words: {TREES}, and name it with --vocab-tree FILE"
        ))),
        Some(tree) if !tree.is_file() => Err(Error::usage(format!(
            "--vocab-tree {}: no such file: {TREES}",
            tree.display()
        ))),
        Some(_) if matches!(options.matcher, Matcher::Sequential | Matcher::Exhaustive) => {
            Err(Error::usage(
                "--vocab-tree is of no use with --matcher sequential or exhaustive: leave one of them out",
            ))
        }
        _ => Ok(()),
    }?;
    Ok(video)
}

/// Refuse a folder that holds something other than this preparation.
fn check_out(options: &PrepareOptions, state: &State, wanted: &State) -> Result<()> {
    let out = &options.out;
    let shown = out.display();
    if options.input.is_dir() && (is_below(out, &options.input) || is_below(&options.input, out)) {
        return Err(Error::usage(format!(
            "--out {shown}: lies in the folder of photographs, or holds it: give another folder"
        )));
    }
    if out.exists() && !out.is_dir() {
        return Err(Error::usage(format!(
            "--out {shown}: is a file: give a folder"
        )));
    }
    if state.schema == 0 && out.join(FOLDER).join(STATE).is_file() {
        if options.overwrite {
            return Ok(());
        }
        return Err(Error::usage(format!(
            "--out {shown}: holds a preparation whose {FOLDER}/{STATE} is damaged: give --force to start over"
        )));
    }
    if state.schema == 0 {
        let is_empty = out
            .read_dir()
            .map_or(!out.exists(), |mut d| d.next().is_none());
        if is_empty {
            return Ok(());
        }
        return Err(Error::usage(format!(
            "--out {shown}: the folder holds files that kiln prepare did not make: give another folder"
        )));
    }
    if state.frames_of != wanted.frames_of && !options.overwrite {
        return Err(Error::usage(format!(
            "--out {shown}: holds a dataset prepared from something else, or with other --frames or --max-side: give another \
             folder, or --force to replace it"
        )));
    }
    Ok(())
}

/// Return whether the path lies in `folder`, or is it.
fn is_below(path: &Path, folder: &Path) -> bool {
    let full = |path: &Path| {
        let path = std::path::absolute(path).ok()?;
        // A folder that is yet to be made has no canonical path.
        Some(path.canonicalize().unwrap_or(path))
    };
    match (full(path), folder.canonicalize()) {
        (Some(path), Ok(folder)) => path.starts_with(folder),
        _ => false,
    }
}

/// Return the state of a finished preparation.
fn wanted(options: &PrepareOptions, is_video: bool) -> Result<State> {
    let input = &options.input;
    let cannot = |e: std::io::Error| Error::failed(format!("cannot read {}: {e}", input.display()));
    let data = input.metadata().map_err(cannot)?;
    let path = std::path::absolute(input).map_err(cannot)?;
    let identity = if is_video {
        let time = data.modified().ok();
        let time = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        format!(
            "{} bytes, modified {}",
            data.len(),
            time.map_or(0, |t| t.as_secs())
        )
    } else {
        let (all, others) = images_of_folder(input);
        if let (true, Some(first)) = (all.is_empty(), others.first()) {
            return Err(Error::usage(format!(
                "{}: holds no photographs in a format that is read: convert {}, for instance {}, to JPEG (HEIC: heif-convert, or \
                 the phone's setting \"most compatible\")",
                input.display(),
                counted_len(others.len(), "image"),
                one_line(&first.display().to_string())
            )));
        }
        if all.is_empty() {
            return Err(Error::usage(format!(
                "{}: holds no photographs: give a video, or a folder of JPEG or PNG images",
                input.display()
            )));
        }
        // Before anything is copied.
        matching(options, false, all.len())?;
        let size: u64 = all
            .iter()
            .filter_map(|path| path.metadata().ok())
            .map(|m| m.len())
            .sum();
        format!("{} images, {size} bytes", all.len())
    };
    let matcher = serde_json::to_string(&options.matcher)?;
    let features_of = format!("camera model {}", options.camera_model);
    Ok(State {
        frames_of: format!(
            "{} ({identity}), frames {:?}, side {:?}",
            path.display(),
            options.frames,
            options.max_side
        ),
        matches_of: format!("{features_of}, {matcher}, tree {:?}", options.vocab_tree),
        features_of,
        ..State::default()
    })
}

fn matching(options: &PrepareOptions, is_video: bool, n: usize) -> Result<Matching> {
    let by_tree = |tree: &PathBuf| Matching::VocabularyTree(tree.clone());
    Ok(match (options.matcher, &options.vocab_tree) {
        (Matcher::Sequential, _) => Matching::Sequential,
        (Matcher::Auto, None) if is_video => Matching::Sequential,
        (Matcher::Exhaustive, _) => Matching::Exhaustive,
        (Matcher::VocabTree | Matcher::Auto, Some(tree)) => by_tree(tree),
        (Matcher::Auto, None) if n <= MAX_EXHAUSTIVE => Matching::Exhaustive,
        (Matcher::Auto | Matcher::VocabTree, None) => {
            return Err(Error::usage(format!(
                "{n} photographs are too many to match each with all others: give a tree of visual words with --vocab-tree FILE, \
                 --matcher sequential if they were taken one after another, or --matcher exhaustive if you have the time"
            )));
        }
    })
}

fn take_frames(
    observer: &dyn Observer,
    options: &PrepareOptions,
    (ffmpeg, info): (&Ffmpeg, &VideoInfo),
    images: &Path,
    work: &Path,
) -> Result<()> {
    let path = &options.input;
    let [width, height] = info.size;
    observer.note(format!(
        "video: {width}×{height}{}{}",
        info.seconds
            .map_or_else(String::new, |s| format!(", {}", duration(s))),
        info.frames
            .map_or_else(String::new, |n| format!(", {n} frames"))
    ));
    if info.is_hdr {
        observer.warn(
            "the video is HDR: its frames are converted to SDR, which clips bright lights; film in SDR for colours as they are",
        );
    }
    let scores = ffmpeg.sharpness(observer, path, info)?;
    let numbers = frames::sharpest(&scores, options.frames.unwrap_or(FRAMES) as usize);
    let log = work.join("frames.log");
    let to = [images, log.as_path()];
    ffmpeg.extract(observer, path, info, &numbers, options.max_side, to)?;
    observer.note(format!(
        "the sharpest {} of {} frames in {}",
        numbers.len(),
        scores.len(),
        images.display()
    ));
    Ok(())
}

/// Note what is about to be done and how long it may take.
fn estimate(observer: &dyn Observer, images: &[PathBuf], matching: &Matching, state: &State) {
    let kind = photo_kind(images);
    let n = images.len() as f64;
    let pairs = colmap::n_pairs(matching, images.len()) as f64;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
    let mut seconds = n * SECONDS_PER_IMAGE;
    if !state.features {
        seconds += n * kind.megapixels.min(8.0) * SECONDS_PER_MEGAPIXEL;
    }
    if !state.matches {
        seconds += pairs * SECONDS_PER_PAIR;
    }
    observer.note(format!(
        "{} of {:.1} megapixels ({}), {pairs:.0} pairs to match: COLMAP takes about {} on {}",
        counted_len(images.len(), "image"),
        kind.megapixels,
        bytes(kind.bytes),
        duration(seconds / cores),
        counted_len(cores as usize, "core"),
    ));
}

/// Lock the folder of a preparation until the returned file is dropped.
fn lock(work: &Path) -> Result<std::fs::File> {
    let path = work.join("lock");
    let file = std::fs::File::create(&path)
        .map_err(|e| Error::failed(format!("cannot write {}: {e}", path.display())))?;
    match file.try_lock() {
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::usage(format!(
            "{}: another kiln prepare is working there: wait for it, or give another --out",
            work.display()
        ))),
        // Some file systems have no locks.
        Ok(()) | Err(std::fs::TryLockError::Error(_)) => Ok(file),
    }
}

/// Remove a file or a folder that this module made, if it exists.
fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() {
        std::fs::remove_dir_all(path)
    } else if path.exists() {
        std::fs::remove_file(path)
    } else {
        return Ok(());
    };
    removed.map_err(|e| Error::failed(format!("cannot remove {}: {e}", path.display())))
}
