//! Takes the sharpest frames from a video with ffmpeg, and copies photographs.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::super::{Error, Observer, ObserverExt as _, Result, Scale};
use super::process::{self, Tool, command, start};
use crate::dataset::{
    Orientation, check_image, copy_upright, images_of_folder, is_mask, mask_in_folder,
    orientation_of,
};
use crate::text::{counted_len, one_line};

/// Width or height, the longer one, at which sharpness is measured.
const MEASURED_SIDE: u32 = 480;
/// Transfer functions of HDR video: PQ and HLG.
const HDR: [&str; 2] = ["smpte2084", "arib-std-b67"];
/// ffmpeg's conversion of HDR to SDR in BT.709.
const TO_SDR: &str = "zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,tonemap=tonemap=hable:desat=0,\
                      zscale=t=bt709:m=bt709:r=tv,format=yuv420p,";
/// The filters in [`TO_SDR`] that not every build has.
const TO_SDR_FILTERS: [&str; 2] = ["zscale", "tonemap"];

/// What ffprobe says about a video.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct VideoInfo {
    /// Width and height as shown, after rotation, of square pixels.
    pub size: [u32; 2],
    /// Width of a pixel as stored, divided by its height.
    pub pixel_aspect: f64,
    pub seconds: Option<f64>,
    /// Number of frames, if it is known without decoding.
    pub frames: Option<u64>,
    pub is_hdr: bool,
}

/// The programs that handle videos.
pub(super) struct Ffmpeg {
    program: PathBuf,
    probe: PathBuf,
    /// The flags that keep every frame of a video with a variable frame rate.
    passthrough: [&'static str; 2],
}

impl Ffmpeg {
    /// Find ffmpeg at `path`, or on the PATH, and ffprobe beside it.
    pub fn find(path: Option<&Path>) -> Result<Self> {
        let ffmpeg = path.unwrap_or(Path::new("ffmpeg")).to_owned();
        let name = ffmpeg.file_name().unwrap_or_default().to_string_lossy();
        let ffprobe = ffmpeg.with_file_name(name.replace("ffmpeg", "ffprobe"));
        let version = process::output(command(&ffmpeg).arg("-version"), Tool::Ffmpeg)?;
        if !version.starts_with("ffmpeg version") {
            return Err(Error::usage(format!(
                "{} is not ffmpeg: it says {}",
                ffmpeg.display(),
                one_line(version.lines().next().unwrap_or("nothing"))
            )));
        }
        // The newer flag came with version 5.1; builds from git have no number.
        let number = version.split_whitespace().nth(2).unwrap_or("");
        let number = number.trim_start_matches('n');
        let major = number
            .split(['.', '-'])
            .next()
            .and_then(|v| v.parse::<u32>().ok());
        let is_old = number.starts_with("5.0") || major.is_some_and(|major| major < 5);
        let passthrough = if is_old {
            ["-vsync", "0"]
        } else {
            ["-fps_mode", "passthrough"]
        };
        Ok(Self {
            program: ffmpeg,
            probe: ffprobe,
            passthrough,
        })
    }

    /// Ask ffprobe about the first video stream of the file at `path`.
    pub fn probe(&self, path: &Path) -> Result<VideoInfo> {
        let mut probe = command(&self.probe);
        probe
            .args(["-v", "error", "-select_streams", "v:0", "-of", "json"])
            .args([
                "-show_entries",
                "stream:stream_side_data=rotation:stream_tags=rotate:format=duration",
            ])
            .arg(input(path));
        let text = process::output(&mut probe, Tool::Ffmpeg)?;
        let document: Value = serde_json::from_str(&text).unwrap_or_default();
        let stream = &document["streams"][0];
        let side = |key: &str| stream[key].as_u64().and_then(|v| u32::try_from(v).ok());
        let (Some(width), Some(height)) = (side("width"), side("height")) else {
            let told = text
                .lines()
                .find(|line| line.contains(':') && !line.contains('"'));
            let told =
                told.map_or_else(String::new, |line| format!(" ({})", one_line(line.trim())));
            return Err(Error::usage(format!(
                "{}: ffprobe finds no video in it{told}: give a video or a folder of photographs",
                path.display()
            )));
        };
        let rotation = stream["side_data_list"]
            .as_array()
            .into_iter()
            .flatten()
            .find_map(|data| data["rotation"].as_f64())
            .or_else(|| stream["tags"]["rotate"].as_str()?.parse().ok())
            .unwrap_or(0.0);
        let is_turned = (rotation / 90.0).round() as i64 % 2 != 0;
        let aspect = stream["sample_aspect_ratio"].as_str().and_then(|text| {
            let (x, y) = text.split_once(':')?;
            Some(x.parse::<f64>().ok()? / y.parse::<f64>().ok()?)
        });
        let pixel_aspect = aspect.filter(|a| (0.1..10.0).contains(a)).unwrap_or(1.0);
        let width = (f64::from(width) * pixel_aspect).round() as u32;
        let number = |value: &Value| value.as_str().and_then(|text| text.parse::<f64>().ok());
        let transfer = stream["color_transfer"].as_str().unwrap_or("");
        Ok(VideoInfo {
            size: if is_turned {
                [height, width]
            } else {
                [width, height]
            },
            pixel_aspect,
            seconds: number(&stream["duration"]).or(number(&document["format"]["duration"])),
            frames: number(&stream["nb_frames"]).map(|n| n as u64),
            is_hdr: HDR.contains(&transfer),
        })
    }

    /// Check that this build of ffmpeg can convert the video at `path`.
    pub fn check(&self, path: &Path, info: &VideoInfo) -> Result<()> {
        if !info.is_hdr {
            return Ok(());
        }
        let mut list = command(&self.program);
        let filters = process::output(list.args(["-hide_banner", "-filters"]), Tool::Ffmpeg)?;
        if TO_SDR_FILTERS.into_iter().all(|name| {
            filters
                .lines()
                .any(|line| line.split_whitespace().nth(1) == Some(name))
        }) {
            return Ok(());
        }
        Err(Error::usage(format!(
            "{}: the video is HDR, and {} was built without the filters that convert it to SDR ({}): name a full build with --ffmpeg, \
             film in SDR, or convert the video with another program",
            path.display(),
            self.program.display(),
            TO_SDR_FILTERS.join(" and ")
        )))
    }

    fn decode(&self, path: &Path) -> Command {
        let mut decode = command(&self.program);
        decode
            .args(["-hide_banner", "-nostdin", "-loglevel", "error", "-i"])
            .arg(input(path))
            .args(["-map", "0:v:0"])
            .args(self.passthrough);
        decode
    }

    /// Return the sharpness of every frame of the video.
    pub fn sharpness(
        &self,
        observer: &dyn Observer,
        path: &Path,
        info: &VideoInfo,
    ) -> Result<Vec<f64>> {
        let [width, height] = measured_size(info.size);
        let mut decode = self.decode(path);
        decode
            .args([
                "-vf",
                &format!("scale={width}:{height}:flags=area,format=gray"),
            ])
            .args(["-f", "rawvideo", "pipe:1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let bar = observer.task(
            "measuring sharpness",
            info.frames.map_or(Scale::Unknown, Scale::Count),
        );
        let mut child = start(&mut decode, Tool::Ffmpeg)?;
        let Some(mut pipe) = child.0.stdout.take() else {
            return Ok(Vec::new());
        };
        let (width, height) = (width as usize, height as usize);
        let mut frame = vec![0; width * height];
        let mut all = Vec::new();
        while pipe.read_exact(&mut frame).is_ok() {
            all.push(variance_of_laplacian(&frame, width));
            bar.increment();
            process::go_on(observer)?;
        }
        if all.is_empty() {
            return Err(Error::failed(format!(
                "{}: ffmpeg decodes no frame of it: play it, and export it again",
                path.display()
            )));
        }
        Ok(all)
    }

    /// Write the frames with these numbers, in ascending order, as JPEG files to a folder; the second path is that of the log.
    pub fn extract(
        &self,
        observer: &dyn Observer,
        path: &Path,
        info: &VideoInfo,
        numbers: &[usize],
        max_side: Option<u32>,
        [folder, log]: [&Path; 2],
    ) -> Result<()> {
        let mut filter = format!("select='{}',", any_of(numbers));
        if info.is_hdr {
            filter.push_str(TO_SDR);
        }
        if (info.pixel_aspect - 1.0).abs() > 1e-3 {
            filter.push_str("scale='trunc(iw*sar/2)*2':ih:flags=area,setsar=1,");
        }
        if let Some(side) = max_side
            && info.size.iter().any(|s| *s > side)
        {
            let _ = write!(
                filter,
                "scale='if(gte(iw,ih),{side},-2)':'if(gte(iw,ih),-2,{side})':flags=area,"
            );
        }
        filter.push_str("format=yuvj444p");
        let mut decode = self.decode(path);
        decode
            .args(["-vf", &filter, "-q:v", "1", "-qmin", "1"])
            .args(["-progress", "pipe:1"])
            .arg("frame_%05d.jpg")
            // A pattern in the path of the folder would be filled in too.
            .current_dir(folder);
        let bar = observer.task("extracting frames", Scale::Count(numbers.len() as u64));
        process::run(observer, &mut decode, Tool::Ffmpeg, log, &mut |line| {
            if let Some(done) = line.strip_prefix("frame=") {
                bar.set(done.trim().parse().unwrap_or(0));
            }
        })
    }
}

/// Return ffmpeg's expression for a frame whose number is one of `numbers`: a balanced sum, since the parser refuses deep ones.
fn any_of(numbers: &[usize]) -> String {
    match numbers {
        [] => "0".to_owned(),
        [n] => format!(r"eq(n\,{n})"),
        all => {
            let (first, rest) = all.split_at(all.len() / 2);
            format!("({}+{})", any_of(first), any_of(rest))
        }
    }
}

/// Return the argument that names a file to ffmpeg, which would take some names for options or protocols.
fn input(path: &Path) -> std::ffi::OsString {
    let mut argument = std::ffi::OsString::from("file:");
    argument.push(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
    argument
}

fn measured_size(size: [u32; 2]) -> [u32; 2] {
    let longest = size[0].max(size[1]).max(1);
    let ratio = f64::from(MEASURED_SIDE.min(longest)) / f64::from(longest);
    size.map(|side| ((f64::from(side) * ratio).round() as u32).max(3))
}

/// Return the variance of the Laplacian of a grey image, which is small for blurred images (Pech-Pacheco et al. 2000).
fn variance_of_laplacian(pixels: &[u8], width: usize) -> f64 {
    let height = pixels.len() / width;
    let (mut sum, mut squares, mut n) = (0.0, 0.0, 0.0);
    for y in 1..height.saturating_sub(1) {
        let row = |offset: usize| &pixels[(y + offset - 1) * width..][..width];
        let (above, here, below) = (row(0), row(1), row(2));
        for x in 1..width.saturating_sub(1) {
            let around = i32::from(above[x])
                + i32::from(below[x])
                + i32::from(here[x - 1])
                + i32::from(here[x + 1]);
            let laplacian = f64::from(around - 4 * i32::from(here[x]));
            sum += laplacian;
            squares += laplacian * laplacian;
            n += 1.0;
        }
    }
    if n == 0.0 {
        return 0.0;
    }
    squares / n - (sum / n) * (sum / n)
}

/// Return the number of the sharpest frame in each of `n` equal intervals.
pub(super) fn sharpest(scores: &[f64], n: usize) -> Vec<usize> {
    let n = n.min(scores.len());
    let interval = |i: usize| i * scores.len() / n..(i + 1) * scores.len() / n;
    (0..n)
        .filter_map(|i| interval(i).max_by(|a, b| scores[*a].total_cmp(&scores[*b])))
        .collect()
}

/// Copy the photographs in `from`, with their sub-folders, to `images`, upright, and their masks in `from/masks` to `masks`, named
/// as COLMAP wants them. Tell what is copied and what is left out.
pub(super) fn copy_photographs(
    observer: &dyn Observer,
    from: &Path,
    images: &Path,
    masks: &Path,
) -> Result<()> {
    let (mut read, not_read) = images_of_folder(from);
    if let Some(first) = not_read.first() {
        observer.warn(format!(
            "{} in formats that are not read, for instance {}: left out; convert them to JPEG or PNG",
            counted_len(not_read.len(), "image"),
            one_line(&first.display().to_string())
        ));
    }
    let mut faults = Vec::new();
    read.retain(|path| {
        let checked = check_image(path);
        let is_whole = checked.is_ok();
        faults.extend(checked.err());
        is_whole
    });
    if let Some(first) = faults.first() {
        observer.warn(format!(
            "{} cannot be read and {} left out: {first}",
            counted_len(faults.len(), "photograph"),
            if faults.len() == 1 { "is" } else { "are" },
        ));
    }
    let n_read = read.len();
    let photographs: Vec<(PathBuf, Option<PathBuf>)> = read
        .into_iter()
        .filter(|path| !is_mask(from, path))
        .map(|path| {
            let mask = mask_in_folder(from, &path);
            (path, mask)
        })
        .collect();
    if photographs.is_empty() {
        return Err(Error::failed(format!(
            "{}: holds no photograph that can be read: copy them again",
            from.display()
        )));
    }
    // A folder of photographs and one of masks.
    let inner = from.join("images");
    let all_below = photographs.iter().all(|(path, _)| path.starts_with(&inner));
    let base = if all_below { &inner } else { from };
    let bar = observer.task(
        "copying photographs",
        Scale::Count(photographs.len() as u64),
    );
    let (mut turned, mut masked) = (0, 0);
    for (path, mask) in &photographs {
        let below = without_spaces(path.strip_prefix(base).unwrap_or(path));
        let target = free_name(&images.join(&below));
        let orientation = orientation_of(path);
        copy(path, &target, orientation)?;
        turned += usize::from(orientation != Orientation::NoTransforms);
        if let Some(mask) = mask {
            let named = target.strip_prefix(images).unwrap_or(&below);
            let mut name = masks.join(named).into_os_string();
            name.push(".png");
            // A mask is stored as its image is.
            copy_mask(mask, Path::new(&name), orientation)?;
            masked += 1;
        }
        bar.increment();
        process::go_on(observer)?;
    }
    drop(bar);
    let n = photographs.len();
    let mut told = format!("{} copied", counted_len(n, "photograph"));
    if turned > 0 {
        let _ = write!(
            told,
            ", {turned} of them turned upright by their EXIF orientation"
        );
    }
    if masked > 0 {
        let _ = write!(told, ", {masked} with masks");
    }
    let unused = n_read - n - masked;
    if unused > 0 {
        let _ = write!(
            told,
            "; {} of no photograph left out",
            counted_len(unused, "mask")
        );
    }
    observer.note(told);
    Ok(())
}

fn copy(from: &Path, to: &Path, orientation: Orientation) -> Result<()> {
    make_folder_of(to)?;
    Ok(copy_upright(from, to, orientation)?)
}

/// Copy a mask, whatever its format, to a PNG file.
fn copy_mask(from: &Path, to: &Path, orientation: Orientation) -> Result<()> {
    make_folder_of(to)?;
    let cannot = |e: image::ImageError| {
        Error::failed(format!(
            "cannot copy {} to {}: {e}",
            from.display(),
            to.display()
        ))
    };
    let mut mask = image::open(from).map_err(cannot)?;
    mask.apply_orientation(orientation);
    mask.to_luma8().save(to).map_err(cannot)
}

fn make_folder_of(path: &Path) -> Result<()> {
    let folder = crate::files::parent(path);
    std::fs::create_dir_all(&folder)
        .map_err(|e| Error::failed(format!("cannot create {}: {e}", folder.display())))
}

/// Return the path with underscores for spaces, which separate names in COLMAP's lists of pairs.
fn without_spaces(path: &Path) -> PathBuf {
    let name = path.to_string_lossy();
    PathBuf::from(name.replace(char::is_whitespace, "_"))
}

/// Return `path`, or with a number if a file of that name exists.
fn free_name(path: &Path) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let ending = path.extension().unwrap_or_default().to_string_lossy();
    let numbered = (2..).map(|n| path.with_file_name(format!("{stem}_{n}.{ending}")));
    let mut all = std::iter::once(path.to_owned()).chain(numbered);
    all.find(|path| !path.exists())
        .unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blurred_frames_are_less_sharp() {
        let (width, height) = (40, 30);
        let sharp: Vec<u8> = (0..width * height)
            .map(|i| {
                if (i % width / 4 + i / width / 4) % 2 == 0 {
                    220
                } else {
                    30
                }
            })
            .collect();
        let blurred: Vec<u8> = (0..width * height)
            .map(|i| {
                let (x, y) = (i % width, i / width);
                let at = |dx: usize, dy: usize| {
                    let (x, y) = ((x + dx).min(width), (y + dy).min(height));
                    u32::from(sharp[(y.max(1) - 1) * width + x.max(1) - 1])
                };
                let sum: u32 = (0..3)
                    .flat_map(|dx| (0..3).map(move |dy| (dx, dy)))
                    .map(|(dx, dy)| at(dx, dy))
                    .sum();
                (sum / 9) as u8
            })
            .collect();
        let [a, b] = [&sharp, &blurred].map(|image| variance_of_laplacian(image, width));
        assert!(a > 3.0 * b && b > 0.0, "{a} {b}");
        assert_eq!(variance_of_laplacian(&[7; 100], 10), 0.0);
        assert_eq!(variance_of_laplacian(&[7; 4], 2), 0.0);
    }

    #[test]
    fn every_interval_gives_its_sharpest_frame() {
        let scores = [1.0, 5.0, 2.0, 9.0, 0.0, 3.0, 4.0];
        assert_eq!(sharpest(&scores, 3), [1, 3, 6]);
        assert_eq!(sharpest(&scores, 100), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(sharpest(&[], 3), [0; 0]);
    }

    #[test]
    fn photographs_are_copied_under_names_without_spaces() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let write = |name: &str, width| {
            let path = from.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            image::RgbImage::new(width, 6).save(&path).unwrap();
            path
        };
        write("a b.jpg", 8);
        write("a_b.jpg", 9);
        write("day 1/c.png", 10);
        let cut = write("cut.jpg", 8);
        let bytes = std::fs::read(&cut).unwrap();
        std::fs::write(&cut, &bytes[..bytes.len() - 2]).unwrap();
        std::fs::write(from.join("d.heic"), "d").unwrap();
        std::fs::write(from.join("text.jpg"), "text").unwrap();
        copy_photographs(&(), &from, &to, &folder.path().join("masks")).unwrap();
        assert_eq!(images_of_folder(&to).0.len(), 3);
        let width = |name: &str| image::image_dimensions(to.join(name)).unwrap().0;
        assert_eq!(
            ["a_b.jpg", "a_b_2.jpg", "day_1/c.png"].map(width),
            [8, 9, 10]
        );
        for damaged in ["cut.jpg", "text.jpg"] {
            assert!(!to.join(damaged).exists(), "{damaged}");
        }
    }

    #[test]
    fn masks_follow_their_photographs() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, size) in [
            ("from/images/day 1/a.jpg", [8, 6]),
            ("from/images/b.jpg", [8, 6]),
            ("from/masks/day 1/a.png", [8, 6]),
            ("from/masks/c.png", [8, 6]),
        ] {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            image::RgbImage::new(size[0], size[1])
                .save(at(name))
                .unwrap();
        }
        copy_photographs(&(), &at("from"), &at("images"), &at("masks")).unwrap();
        for name in [
            "images/day_1/a.jpg",
            "images/b.jpg",
            "masks/day_1/a.jpg.png",
        ] {
            assert!(at(name).is_file(), "{name}");
        }
        assert_eq!(images_of_folder(&at("images")).0.len(), 2);
        assert_eq!(images_of_folder(&at("masks")).0.len(), 1);
    }

    #[test]
    fn photographs_are_turned_upright() {
        use image::ImageEncoder as _;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("from/masks")).unwrap();
        // Red on the left; shown turned by 90° clockwise, so that red is above.
        let color = |x: u32, _| image::Rgb(if x < 8 { [220, 20, 20] } else { [20, 20, 220] });
        let photo = image::RgbImage::from_fn(16, 8, color);
        let mut exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
        exif.extend([6, 0, 0, 0, 0, 0, 0, 0]);
        let mut bytes = Vec::new();
        let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 95);
        encoder.set_exif_metadata(exif).unwrap();
        photo.write_with_encoder(encoder).unwrap();
        std::fs::write(at("from/a.jpg"), bytes).unwrap();
        photo.save(at("from/masks/a.jpg.png")).unwrap();
        copy_photographs(&(), &at("from"), &at("images"), &at("masks")).unwrap();
        for name in ["images/a.jpg", "masks/a.jpg.png"] {
            let copy = image::open(at(name)).unwrap().to_rgb8();
            assert_eq!(copy.dimensions(), (8, 16), "{name}");
            assert_eq!(orientation_of(&at(name)), Orientation::NoTransforms);
        }
        let copy = image::open(at("images/a.jpg")).unwrap().to_rgb8();
        let [above, below] = [copy.get_pixel(4, 2), copy.get_pixel(4, 13)];
        assert!(above[0] > 150 && below[2] > 150, "{above:?} {below:?}");
    }

    #[test]
    fn many_frames_are_chosen_by_a_shallow_sum() {
        assert_eq!(any_of(&[3, 5, 9]), r"(eq(n\,3)+(eq(n\,5)+eq(n\,9)))");
        let all: Vec<usize> = (0..5000).collect();
        let expression = any_of(&all);
        let depth = expression.chars().take_while(|c| *c == '(').count();
        assert!(depth < 15, "{depth}");
        // The limit of an argument on Linux.
        assert!(expression.len() < 120 << 10, "{}", expression.len());
    }

    #[test]
    fn sharpness_is_measured_on_small_frames() {
        assert_eq!(measured_size([3840, 2160]), [480, 270]);
        assert_eq!(measured_size([1080, 1920]), [270, 480]);
        assert_eq!(measured_size([100, 80]), [100, 80]);
    }
}
