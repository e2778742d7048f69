//! Recognises image formats by content, and reads the size and EXIF orientation from the header.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use image::metadata::Orientation;
use image::{ImageDecoder, ImageFormat, ImageReader, Limits};

use super::error::DatasetError;
use super::error::damaged;
use super::intrinsics::MAX_SIDE;
use crate::files::{LFS_POINTER, open_file};

/// Maximum number of pixels of an image, at 4 bytes each.
const MAX_PIXELS: u64 = 1 << 27;
/// Maximum bytes per pixel while decoding: four floats.
const BYTES_PER_PIXEL: u64 = 16;
/// Bytes that a decoder may use in addition to its pixels.
const SLACK: u64 = 256 << 20;
/// Number of leading bytes that suffice to recognise every format.
const SIGNATURE: usize = 32;
/// Levels of subfolders that are searched for images.
pub(super) const MAX_DEPTH: usize = 3;
const JPEG_START: u64 = 2;
/// Start of an APP1 segment of a JPEG that holds EXIF data.
const EXIF: &[u8] = b"Exif\0\0";

/// Extensions of supported images, in the order in which they are tried.
pub(super) const SUPPORTED_EXTENSIONS: [&str; 8] =
    ["png", "jpg", "jpeg", "webp", "tif", "tiff", "bmp", "exr"];
/// Extensions of known but unsupported images.
pub(super) const UNSUPPORTED_EXTENSIONS: [&str; 26] = [
    "heic", "heif", "avif", "jxl", "jp2", "gif", "ppm", "pgm", "pnm", "tga", "ico", "hdr", "psd",
    "dng", "nef", "nrw", "arw", "cr2", "cr3", "raf", "orf", "rw2", "pef", "srw", "3fr", "iiq",
];

/// An image format that is recognised, so that an error message can name it, but is not supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsupportedFormat {
    /// Name of the format.
    pub name: &'static str,
    /// The remedy.
    pub advice: &'static str,
}

const VIDEO: UnsupportedFormat = UnsupportedFormat {
    name: "a video",
    advice: "extract its frames, for instance with ffmpeg -i video.mp4 images/%04d.png",
};
const HEIC: UnsupportedFormat = UnsupportedFormat {
    name: "HEIC",
    advice: "convert such images to JPEG or PNG, for instance with heif-convert or with ImageMagick (magick mogrify -format jpg FILES), \
             and leave them where they are",
};
const AVIF: UnsupportedFormat = UnsupportedFormat {
    name: "AVIF",
    advice: "convert such images to JPEG or PNG, for instance with avifdec or with ImageMagick (magick mogrify -format png FILES), \
             and leave them where they are",
};
const JPEG_XL: UnsupportedFormat = UnsupportedFormat {
    name: "JPEG XL",
    advice: "convert such images to JPEG or PNG, for instance with djxl or with ImageMagick (magick mogrify -format png FILES)",
};
const JPEG_2000: UnsupportedFormat = UnsupportedFormat {
    name: "JPEG 2000",
    advice: "convert such images to PNG, for instance with ImageMagick (magick mogrify -format png FILES)",
};
const GIF: UnsupportedFormat = UnsupportedFormat {
    name: "GIF",
    advice: "convert such images to PNG, for instance with ImageMagick (magick mogrify -format png FILES)",
};
const NETPBM: UnsupportedFormat = UnsupportedFormat {
    name: "PPM or PGM",
    advice: GIF.advice,
};
const ICON: UnsupportedFormat = UnsupportedFormat {
    name: "ICO",
    advice: GIF.advice,
};
const RADIANCE: UnsupportedFormat = UnsupportedFormat {
    name: "Radiance HDR",
    advice: "convert such images to OpenEXR or PNG",
};
const PAGE: UnsupportedFormat = UnsupportedFormat {
    name: "a web page in place of an image",
    advice: "download such images again: the server probably sent a page that asks for a login or a licence",
};
const PHOTOSHOP: UnsupportedFormat = UnsupportedFormat {
    name: "Photoshop documents",
    advice: "export such images as PNG or TIFF",
};
const CAMERA_RAW: UnsupportedFormat = UnsupportedFormat {
    name: "camera raw data",
    advice: "develop such images to JPEG, PNG or TIFF, for instance with darktable-cli",
};
const GIT_LFS: UnsupportedFormat = UnsupportedFormat {
    name: "Git LFS pointers in place of images",
    advice: "fetch the images with git lfs pull",
};

/// The format of a file, recognised by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoredFormat {
    Read(ImageFormat),
    NotRead(UnsupportedFormat),
    Empty,
    Unknown,
}

/// Return the format of a file whose first bytes are `bytes`.
pub(super) fn kind_of(bytes: &[u8]) -> StoredFormat {
    let starts = |signature: &[u8]| bytes.starts_with(signature);
    let at = |start: usize, text: &[u8]| bytes.get(start..start + text.len()) == Some(text);
    if bytes.is_empty() {
        StoredFormat::Empty
    } else if starts(b"\x89PNG\r\n\x1a\n") {
        StoredFormat::Read(ImageFormat::Png)
    } else if starts(&[0xff, 0xd8]) {
        StoredFormat::Read(ImageFormat::Jpeg)
    } else if starts(b"RIFF") && at(8, b"WEBP") {
        StoredFormat::Read(ImageFormat::WebP)
    } else if starts(b"II*\0") && at(8, b"CR") {
        StoredFormat::NotRead(CAMERA_RAW)
    } else if starts(b"II*\0") || starts(b"MM\0*") || starts(b"II+\0") || starts(b"MM\0+") {
        StoredFormat::Read(ImageFormat::Tiff)
    } else if starts(&[0x76, 0x2f, 0x31, 0x01]) {
        StoredFormat::Read(ImageFormat::OpenExr)
    } else if starts(b"BM") && at(6, &[0; 4]) {
        StoredFormat::Read(ImageFormat::Bmp)
    } else if at(4, b"ftyp") {
        StoredFormat::NotRead(brand(bytes))
    } else if starts(&[0xff, 0x0a]) || at(4, b"JXL ") {
        StoredFormat::NotRead(JPEG_XL)
    } else if at(4, b"jP  ") {
        StoredFormat::NotRead(JPEG_2000)
    } else if starts(b"GIF8") {
        StoredFormat::NotRead(GIF)
    } else if starts(b"8BPS") {
        StoredFormat::NotRead(PHOTOSHOP)
    } else if [&b"FUJIFILMCCD-RAW"[..], b"IIU\0", b"IIRO", b"IIRS", b"MMOR"]
        .into_iter()
        .any(starts)
    {
        StoredFormat::NotRead(CAMERA_RAW)
    } else if starts(LFS_POINTER) {
        StoredFormat::NotRead(GIT_LFS)
    } else if starts(b"#?RADIANCE") || starts(b"#?RGBE") {
        StoredFormat::NotRead(RADIANCE)
    } else if starts(&[0, 0, 1, 0]) {
        StoredFormat::NotRead(ICON)
    } else if matches!(bytes, [b'P', b'1'..=b'7', space, ..] if space.is_ascii_whitespace()) {
        StoredFormat::NotRead(NETPBM)
    } else if is_page(bytes) {
        StoredFormat::NotRead(PAGE)
    } else {
        StoredFormat::Unknown
    }
}

/// Return whether a file starts like HTML.
fn is_page(bytes: &[u8]) -> bool {
    let start = bytes.trim_ascii_start().to_ascii_lowercase();
    start.starts_with(b"<!doctype html") || start.starts_with(b"<html")
}

/// Return the format of an ISO base media file by its brands: the major brand, then the compatible ones.
fn brand(bytes: &[u8]) -> UnsupportedFormat {
    let is = |names: &[&[u8]]| {
        let brands = bytes.get(8..).unwrap_or_default().chunks_exact(4);
        brands.into_iter().any(|brand| names.contains(&brand))
    };
    if is(&[b"avif", b"avis"]) {
        AVIF
    } else if is(&[b"heic", b"heix", b"hevc", b"mif1", b"msf1"]) {
        HEIC
    } else if is(&[b"crx "]) {
        CAMERA_RAW
    } else if is(&[
        b"qt  ", b"isom", b"mp41", b"mp42", b"M4V ", b"avc1", b"3gp4", b"3gp5",
    ]) {
        VIDEO
    } else {
        HEIC
    }
}

/// The header of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Width and height as stored.
    pub size: [u32; 2],
    /// The EXIF orientation, to be applied for display.
    pub orientation: Orientation,
}

/// Return the error for a file that is not a supported image.
pub(super) fn refused(path: &Path, kind: StoredFormat) -> DatasetError {
    match kind {
        StoredFormat::NotRead(format) => DatasetError::ImageFormat {
            path: path.to_owned(),
            format: format.name,
            advice: format.advice,
            others: 0,
        },
        StoredFormat::Empty => damaged(path, "the file is empty: copy or export the image again"),
        StoredFormat::Read(_) | StoredFormat::Unknown => damaged(
            path,
            "not a PNG, JPEG, WebP, TIFF, BMP or OpenEXR image, or damaged: convert or copy such images again",
        ),
    }
}

/// Read the header of the image at `path`, and no more of the file than necessary.
///
/// # Errors
/// A [`DatasetError`] if the file is not an image, has a damaged header, or has too many pixels.
pub(super) fn header(path: &Path) -> Result<Header, DatasetError> {
    let file = open_file(path).map_err(|e| DatasetError::read(path, e))?;
    let mut reader = BufReader::new(file);
    let mut start = Vec::new();
    reader
        .by_ref()
        .take(SIGNATURE as u64)
        .read_to_end(&mut start)
        .map_err(|e| DatasetError::read(path, e))?;
    let kind = kind_of(&start);
    let StoredFormat::Read(format) = kind else {
        return Err(refused(path, kind));
    };
    let found = match format {
        ImageFormat::Png => png(&start, reader),
        ImageFormat::Jpeg => jpeg(&mut reader),
        ImageFormat::Tiff if is_raw(&mut reader).unwrap_or(false) => {
            return Err(refused(path, StoredFormat::NotRead(CAMERA_RAW)));
        }
        _ => decoder_header(reader, format),
    };
    let header =
        found.ok_or_else(|| damaged(path, "the image header is damaged: copy the image again"))?;
    check_size(path, header.size)?;
    Ok(header)
}

/// Return whether the image at `path` stores an alpha channel; the reader of its pixels reports faults.
pub(super) fn has_alpha(path: &Path) -> bool {
    let Ok(file) = open_file(path) else {
        return false;
    };
    let reader = image::ImageReader::new(BufReader::new(file)).with_guessed_format();
    let decoder = reader.map(image::ImageReader::into_decoder);
    decoder.is_ok_and(|decoder| decoder.is_ok_and(|decoder| decoder.color_type().has_alpha()))
}

fn check_size(path: &Path, [width, height]: [u32; 2]) -> Result<(), DatasetError> {
    if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE {
        return Err(damaged(
            path,
            format!("the header says {width} × {height} pixels: expected sides of 1 to {MAX_SIDE}"),
        ));
    }
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        let millions = MAX_PIXELS / 1_000_000;
        return Err(damaged(
            path,
            format!(
                "has {width} × {height} pixels, but {millions} million is the maximum: shrink it"
            ),
        ));
    }
    Ok(())
}

/// Return memory limits for decoders.
pub(super) fn limits([width, height]: [u32; 2]) -> Limits {
    let mut limits = Limits::default();
    limits.max_alloc = Some(BYTES_PER_PIXEL * u64::from(width) * u64::from(height) + SLACK);
    limits
}

/// Read the header of a PNG: the size from its first chunk, and the orientation if the EXIF data can be read.
fn png(start: &[u8], mut reader: BufReader<File>) -> Option<Header> {
    let side = |at: usize| {
        let bytes = start.get(at..at + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    let size = [side(16)?, side(20)?];
    reader.rewind().ok()?;
    let decoder = image::codecs::png::PngDecoder::new(reader).ok();
    let orientation = decoder.and_then(|mut decoder| decoder.orientation().ok());
    Some(Header {
        size,
        orientation: orientation.unwrap_or(Orientation::NoTransforms),
    })
}

/// Read the size and orientation with the image decoder.
fn decoder_header(mut reader: BufReader<File>, format: ImageFormat) -> Option<Header> {
    reader.rewind().ok()?;
    let mut decoder = ImageReader::with_format(reader, format)
        .into_decoder()
        .ok()?;
    let (width, height) = decoder.dimensions();
    let orientation = decoder.orientation().ok();
    Some(Header {
        size: [width, height],
        orientation: orientation.unwrap_or(Orientation::NoTransforms),
    })
}

/// Return whether a TIFF contains camera raw data: its first image has a DNG version, or is marked as a reduced version of
/// another (TIFF 6.0, `NewSubfileType`).
fn is_raw(reader: &mut BufReader<File>) -> Option<bool> {
    const NEW_SUBFILE_TYPE: u16 = 254;
    const DNG_VERSION: u16 = 50706;
    let mut head = [0; 8];
    reader.rewind().ok()?;
    reader.read_exact(&mut head).ok()?;
    let is_big = head[0] == b'M';
    let short = |bytes: [u8; 2]| {
        if is_big {
            u16::from_be_bytes(bytes)
        } else {
            u16::from_le_bytes(bytes)
        }
    };
    let long = |bytes: [u8; 4]| {
        if is_big {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        }
    };
    if short([head[2], head[3]]) != 42 {
        return None;
    }
    let directory = long([head[4], head[5], head[6], head[7]]);
    reader.seek(SeekFrom::Start(u64::from(directory))).ok()?;
    let mut count = [0; 2];
    reader.read_exact(&mut count).ok()?;
    for _ in 0..short(count) {
        let mut entry = [0; 12]; // tag, type, count, value
        reader.read_exact(&mut entry).ok()?;
        let value = long([entry[8], entry[9], entry[10], entry[11]]);
        match short([entry[0], entry[1]]) {
            DNG_VERSION => return Some(true),
            NEW_SUBFILE_TYPE if value & 1 == 1 => return Some(true),
            _ => {}
        }
    }
    Some(false)
}

/// Read the size from the start-of-frame segment of a JPEG, and the orientation from the EXIF data before it.
fn jpeg(reader: &mut BufReader<File>) -> Option<Header> {
    reader.seek(SeekFrom::Start(JPEG_START)).ok()?;
    let mut orientation = Orientation::NoTransforms;
    loop {
        let marker = next_marker(reader)?;
        if matches!(marker, 0x01 | 0xd0..=0xd7) {
            continue; // a marker without a segment
        }
        if matches!(marker, 0xd8..=0xda) {
            return None; // scan data before any frame header
        }
        let mut length = [0; 2];
        reader.read_exact(&mut length).ok()?;
        let length = u16::from_be_bytes(length).checked_sub(2)?;
        if matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) {
            let mut frame = [0; 5]; // precision, height, width
            reader.read_exact(&mut frame).ok()?;
            let side = |at: usize| u32::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
            return Some(Header {
                size: [side(3), side(1)],
                orientation,
            });
        }
        if marker == 0xe1 {
            let mut segment = vec![0; usize::from(length)];
            reader.read_exact(&mut segment).ok()?;
            let exif = segment.strip_prefix(EXIF);
            if let Some(found) = exif.and_then(Orientation::from_exif_chunk) {
                orientation = found;
            }
        } else {
            reader.seek_relative(i64::from(length)).ok()?;
        }
    }
}

/// Read the next marker byte: 0xff, any number of fill bytes 0xff, then the marker.
fn next_marker(reader: &mut impl Read) -> Option<u8> {
    let mut byte = [0];
    reader.read_exact(&mut byte).ok()?;
    if byte[0] != 0xff {
        return None;
    }
    while byte[0] == 0xff {
        reader.read_exact(&mut byte).ok()?;
    }
    Some(byte[0])
}

/// Return whether a JPEG contains its end-of-image marker. Decoders fill truncated images with grey without an error.
pub(super) fn jpeg_is_complete(bytes: &[u8]) -> bool {
    let mut at = JPEG_START as usize;
    let mut in_scan = false;
    while let Some(window) = bytes.get(at..at + 2) {
        let [0xff, marker] = *window else {
            at += 1;
            continue;
        };
        match marker {
            0xd9 => return true,
            0xff => at += 1,
            0x00 | 0x01 | 0xd0..=0xd8 => at += 2,
            _ if in_scan && marker < 0xc0 => at += 2, // not a segment: damaged scan data
            _ => {
                let length = bytes
                    .get(at + 2..at + 4)
                    .map_or(0, |b| usize::from(u16::from_be_bytes([b[0], b[1]])));
                at += 2 + length.max(2);
                in_scan = marker == 0xda;
            }
        }
    }
    false
}

/// Return the extension of a name in lower case.
pub(super) fn extension(path: &Path) -> String {
    let extension = path.extension().unwrap_or_default();
    extension.to_string_lossy().to_lowercase()
}

/// Return whether a name has the extension of a supported or known image format.
pub(super) fn is_image(path: &Path) -> bool {
    let ending = extension(path);
    SUPPORTED_EXTENSIONS.contains(&ending.as_str())
        || UNSUPPORTED_EXTENSIONS.contains(&ending.as_str())
}

/// Return the images in a folder by their extensions, sorted by name; none if the folder does not exist.
///
/// `OpenEXR` files beside other images contain data other than colour, so they count only if there are no others. Unsupported
/// images count only if there is nothing else, so that an error can name them.
pub(super) fn images_in(folder: &Path) -> Vec<PathBuf> {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    // Skip hidden files, which file managers create.
    let shown = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        !name.starts_with(b".")
    };
    let mut files: Vec<_> = entries.map(|e| e.path()).filter(shown).collect();
    files.sort();
    let (exr, others) = (
        ["exr"],
        &SUPPORTED_EXTENSIONS[..SUPPORTED_EXTENSIONS.len() - 1],
    );
    let of = |endings: &[&str]| -> Vec<PathBuf> {
        let is = |path: &&PathBuf| endings.contains(&extension(path).as_str());
        files.iter().filter(is).cloned().collect()
    };
    [others, &exr, &UNSUPPORTED_EXTENSIONS]
        .into_iter()
        .map(of)
        .find(|images| !images.is_empty())
        .unwrap_or_default()
}

/// Return the images in `folder` and its subfolders, at most [`MAX_DEPTH`] levels below it.
pub(super) fn images_below(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut level = vec![folder.to_owned()];
    for _ in 0..=MAX_DEPTH {
        let mut below = Vec::new();
        for folder in &level {
            all.extend(images_in(folder));
            let entries = folder.read_dir().into_iter().flatten().flatten();
            below.extend(
                entries
                    .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
                    .map(|e| e.path()),
            );
        }
        level = below;
    }
    all
}
