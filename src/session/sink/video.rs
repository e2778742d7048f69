//! Videos, encoded by ffmpeg from frames that are piped to it.

use std::any::Any;
use std::ffi::OsString;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread::JoinHandle;

use super::{Error, Observer, Result, cannot_write, part_of};
use crate::render::RenderedFrame;

/// Number of bytes to keep of the end of ffmpeg's error output.
const STDERR_TAIL: usize = 4096;

/// A video that is being written to a temporary file beside its final path.
pub(super) struct Video {
    path: PathBuf,
    part: PathBuf,
    _incomplete: Box<dyn Any>,
    size: [u32; 2],
    ffmpeg: Option<Child>,
    stderr_tail: Option<JoinHandle<Vec<u8>>>,
}

impl Drop for Video {
    fn drop(&mut self) {
        if let Some(mut ffmpeg) = self.ffmpeg.take() {
            let _ = ffmpeg.kill();
            let _ = ffmpeg.wait();
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

/// Read ffmpeg's error output continuously, so that ffmpeg never blocks. Return the end of the output.
fn read_end(mut stderr: ChildStderr) -> Vec<u8> {
    let (mut kept, mut chunk) = (Vec::new(), [0; 1024]);
    while let Ok(n) = stderr.read(&mut chunk) {
        if n == 0 {
            break;
        }
        kept.extend_from_slice(&chunk[..n]);
        let surplus = kept.len().saturating_sub(STDERR_TAIL);
        kept.drain(..surplus);
    }
    kept
}

/// Round a side of the video up to an even number, as 4:2:0 chroma subsampling requires.
fn even(side: u32) -> u32 {
    side.next_multiple_of(2)
}

impl Video {
    pub(super) fn begin(
        observer: &dyn Observer,
        path: &Path,
        size: [u32; 2],
        fps: f64,
    ) -> Result<Self> {
        let part = part_of(path);
        // Detect errors of the file system here; ffmpeg would report them less clearly.
        std::fs::File::create(&part).map_err(|e| cannot_write(path, e))?;
        let [width, height] = size.map(even);
        let mut file = OsString::from("file:");
        file.push(&part);
        let mut command = Command::new("ffmpeg");
        command
            .args(["-hide_banner", "-loglevel", "error", "-y"])
            .args(["-f", "rawvideo", "-pixel_format", "rgb24"])
            .args(["-video_size", &format!("{width}x{height}")])
            .args(["-framerate", &format!("{fps}"), "-i", "pipe:0"])
            .args([
                "-vf",
                "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p",
            ])
            .args(["-c:v", "libx264", "-crf", "18", "-preset", "medium"])
            .args(["-colorspace", "bt709", "-color_primaries", "bt709"])
            .args(["-color_trc", "bt709", "-color_range", "tv"])
            .args(["-movflags", "+faststart", "-f", "mp4"])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        // Ctrl-C in a terminal signals the whole process group; ffmpeg gets its own group, and this program ends it.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut ffmpeg = command.spawn().map_err(|e| {
            let _ = std::fs::remove_file(&part);
            if e.kind() == ErrorKind::NotFound {
                Error::usage(format!(
                    "--out {}: ffmpeg, which encodes videos, is not on the PATH: install it (https://ffmpeg.org \
                     or your system's packages), or give a folder for PNGs or a .gif file",
                    path.display()
                ))
            } else {
                cannot_write(path, format!("ffmpeg cannot be started: {e}"))
            }
        })?;
        let stderr_tail = ffmpeg
            .stderr
            .take()
            .map(|stderr| std::thread::spawn(|| read_end(stderr)));
        Ok(Self {
            path: path.to_owned(),
            _incomplete: observer.guard_incomplete_file(&part),
            part,
            size,
            ffmpeg: Some(ffmpeg),
            stderr_tail,
        })
    }

    /// Write a frame of RGB8 pixels.
    pub(super) fn add(&mut self, frame: &RenderedFrame, pixels: &[u8]) -> Result<()> {
        if [frame.width, frame.height] != self.size {
            return Err(cannot_write(&self.path, "its frames differ in size"));
        }
        let pixels = with_even_sides(pixels, self.size);
        let stdin = self.ffmpeg.as_mut().and_then(|f| f.stdin.as_mut());
        let sent = stdin.map_or(Ok(()), |stdin| stdin.write_all(&pixels));
        // If ffmpeg ended early, report its own error.
        sent.map_err(|e| {
            let told = self.end().err();
            let _ = std::fs::remove_file(&self.part);
            told.unwrap_or_else(|| cannot_write(&self.path, e))
        })
    }

    /// Close ffmpeg's input and wait for it to end.
    fn end(&mut self) -> Result<()> {
        let Some(mut ffmpeg) = self.ffmpeg.take() else {
            return Ok(());
        };
        drop(ffmpeg.stdin.take());
        let status = ffmpeg.wait();
        let words = self.stderr_tail.take().and_then(|w| w.join().ok());
        match status {
            Ok(status) if status.success() => Ok(()),
            status => {
                let _ = std::fs::remove_file(&self.part);
                let words = words.unwrap_or_default();
                let words = String::from_utf8_lossy(&words);
                let last = words.lines().map(str::trim).rfind(|line| !line.is_empty());
                let reason = match (last, status) {
                    (Some(line), _) => format!("ffmpeg says: {}", printable(line)),
                    (None, Ok(status)) => format!("ffmpeg failed ({status})"),
                    (None, Err(e)) => format!("ffmpeg cannot be waited for: {e}"),
                };
                Err(cannot_write(&self.path, reason))
            }
        }
    }

    pub(super) fn finish(mut self) -> Result<PathBuf> {
        self.end()?;
        let complete = || {
            // Windows can only sync files that are open for writing.
            let file = std::fs::File::options().write(true).open(&self.part)?;
            file.sync_all()?;
            std::fs::rename(&self.part, &self.path)
        };
        complete().map_err(|e| {
            let _ = std::fs::remove_file(&self.part);
            cannot_write(&self.path, e)
        })?;
        Ok(self.path.clone())
    }
}

fn printable(line: &str) -> String {
    line.chars().filter(|c| !c.is_control()).collect()
}

/// Return the RGB8 pixels with the last column or row repeated if the width or height is odd.
fn with_even_sides(pixels: &[u8], [width, height]: [u32; 2]) -> std::borrow::Cow<'_, [u8]> {
    if width % 2 == 0 && height % 2 == 0 {
        return pixels.into();
    }
    let row_bytes = 3 * width as usize;
    let mut out = Vec::with_capacity(3 * even(width) as usize * even(height) as usize);
    let mut rows: Vec<&[u8]> = pixels.chunks_exact(row_bytes).collect();
    if height % 2 == 1 {
        rows.extend(rows.last().copied());
    }
    for row in rows {
        out.extend_from_slice(row);
        if width % 2 == 1 {
            out.extend_from_slice(&row[row_bytes - 3..]);
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::with_even_sides;

    #[test]
    fn odd_sides_repeat_their_last_pixels() {
        let pixels: Vec<u8> = (0..9).collect();
        let out = with_even_sides(&pixels, [1, 3]);
        assert_eq!(
            *out,
            [
                0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5, 6, 7, 8, 6, 7, 8, 6, 7, 8, 6, 7, 8
            ]
        );
        let out = with_even_sides(&pixels[..6], [2, 1]);
        assert_eq!(*out, [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]);
        let even: Vec<u8> = (0..12).collect();
        assert_eq!(*with_even_sides(&even, [2, 2]), even);
    }
}
