//! Checks of the images: whether they can be decoded, and whether they are blank.

use super::super::duplicate_images::Thumbnail;
use super::super::{Frame, Image};
use super::{Problem, Severity};
use crate::text::shown;
use rayon::prelude::*;

/// Properties of a decoded image.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedImage<'a> {
    /// The view that the image belongs to.
    pub frame: &'a Frame,
    /// Whether the image has transparent pixels.
    pub has_alpha: bool,
    /// Thumbnail for comparisons.
    pub thumbnail: Thumbnail,
}

/// Decode the images of `frames` on all cores without keeping them, and report those that cannot be used or are blank.
/// `progress` is called once per image, from any thread.
#[must_use]
pub fn check_images<'a>(
    frames: &[&'a Frame],
    progress: &(dyn Fn() + Sync),
) -> (Vec<DecodedImage<'a>>, Vec<Problem>) {
    let outcomes: Vec<(Option<DecodedImage>, Option<Problem>)> = frames
        .par_iter()
        .map(|frame| {
            let outcome = frame.load();
            progress();
            match outcome {
                Ok(image) => {
                    let seen = DecodedImage {
                        frame,
                        has_alpha: image.has_alpha,
                        thumbnail: Thumbnail::of(&image),
                    };
                    (Some(seen), blank(frame, &image))
                }
                Err(error) => (
                    None,
                    Some(Problem {
                        frame: Some(frame.name.clone()),
                        ..Problem::from(&error)
                    }),
                ),
            }
        })
        .collect();
    let (seen, problems): (Vec<_>, Vec<_>) = outcomes.into_iter().unzip();
    (
        seen.into_iter().flatten().collect(),
        problems.into_iter().flatten().collect(),
    )
}

/// Report an image that has only one colour.
fn blank(frame: &Frame, image: &Image) -> Option<Problem> {
    let mut pixels = image.pixels.chunks_exact(4);
    let first = pixels.next()?;
    let is_blank = if first[3] == 0 {
        pixels.all(|p| p[3] == 0)
    } else {
        pixels.all(|p| p == first)
    };
    (is_blank && image.width * image.height > 1).then(|| {
        let what = if first[3] == 0 {
            "wholly transparent".to_owned()
        } else {
            format!(
                "of one colour, #{:02x}{:02x}{:02x}",
                first[0], first[1], first[2]
            )
        };
        let text = format!(
            "{}: the image is {what}: remove its frame if there is nothing to see",
            shown(&frame.image_path)
        );
        Problem::of_view(Severity::Warning, frame, text)
    })
}
