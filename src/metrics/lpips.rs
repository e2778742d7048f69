//! Learned perceptual image patch similarity (Zhang et al. 2018), version 0.1, from weights that the user supplies.
//!
//! Both images pass through the convolutional layers of a classifier, divided into five slices. After each slice, the features
//! of a pixel are scaled to unit length, and their squared differences are weighted by channel and averaged over pixels:
//!
//! ```text
//! distance = Σ_slices mean_pixels Σ_channels lin[channel] · (a/(|a| + 1e-10) − b/(|b| + 1e-10))²
//! ```
//!
//! Images pass through the slices in bands of rows. Every layer keeps only the rows that its next output still needs, so
//! memory does not grow with the image's height, and nothing is computed twice.

mod layers;
mod network;

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

use layers::{Convolution, Layer, PIXELS_PER_TASK, Window};
use network::LayerSpec;
pub use network::Network;

use crate::files::read_file;

/// Maximum size of a file in bytes: VGG's convolutions take 60 MiB, the whole network ten times that.
const MAX_BYTES: u64 = 1 << 30;

/// An error while computing a learned distance.
#[derive(Debug, thiserror::Error)]
pub enum LpipsError {
    /// The file cannot be read.
    #[error("cannot read the LPIPS weights {path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The file is not safetensors, or is truncated.
    #[error("{path} is not a safetensors file, or is cut short ({reason}): export the weights as docs/evaluation.md shows", path = .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The parser's message.
        reason: String,
    },
    /// The tensors do not belong to a supported network.
    #[error("{path} holds neither the alex nor the vgg network of LPIPS ({reason}): export the weights as docs/evaluation.md shows", path = .path.display())]
    Network {
        /// The file.
        path: PathBuf,
        /// How it was recognised.
        reason: String,
    },
    /// A tensor of the network is not in the file.
    #[error("{path} lacks the tensor `{name}` of the {network} network: export the weights as docs/evaluation.md shows", path = .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The network that the other tensors belong to.
        network: Network,
    },
    /// A tensor has the wrong shape or type for its network, or holds NaN or infinite values.
    #[error("{path}: tensor `{name}` {reason}: export the weights as docs/evaluation.md shows", path = .path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// An image is too small to have a pixel after the last slice.
    #[error(
        "LPIPS with the {network} network needs images of at least {least} pixels a side, and this one has {width}×{height}: \
         measure larger images (--downscale 1), or leave out --lpips"
    )]
    TooSmall {
        /// The network.
        network: Network,
        /// The image's width.
        width: usize,
        /// The image's height.
        height: usize,
        /// The smallest allowed side.
        least: usize,
    },
    /// The number of values of an image does not match its size.
    #[error("an image of {width}×{height} pixels has {expected} values, not {given}")]
    Values {
        /// The width as given.
        width: usize,
        /// The height as given.
        height: usize,
        /// Expected number of values, three per pixel.
        expected: usize,
        /// Number of values given.
        given: usize,
    },
}

/// Number of image pixels in a band, rounded to whole rows: 16 MiB for 64 channels of features.
const PIXELS_PER_BAND: usize = 1 << 16;
/// Minimum number of rows in a band: one row of the last slice.
const ROWS_PER_BAND: usize = 16;

/// Added to the lengths in the normalisation.
const EPSILON: f64 = 1e-10;
/// Mean and standard deviation of the images that the classifiers were trained on, for values in [-1, 1].
const SHIFT: [f32; 3] = [-0.030, -0.088, -0.188];
const SCALE: [f32; 3] = [0.458, 0.448, 0.450];

/// A slice of the network: its layers, and the weights of the squared differences after them.
#[derive(Debug)]
struct Slice {
    layers: Vec<Layer>,
    lin: Vec<f32>,
}

impl Slice {
    /// Return the weighted squared differences of normalised features, summed over pixels in a fixed order.
    fn compare(&self, a: &[f32], b: &[f32]) -> f64 {
        let channels = self.lin.len();
        let inverse_length = |pixel: &[f32]| {
            let square: f64 = pixel.iter().map(|&v| f64::from(v).powi(2)).sum();
            1.0 / (square.sqrt() + EPSILON)
        };
        let pixels = a
            .par_chunks_exact(channels)
            .zip(b.par_chunks_exact(channels));
        let distances = pixels.with_min_len(PIXELS_PER_TASK).map(|(a, b)| {
            let (u, v) = (inverse_length(a), inverse_length(b));
            let pairs = a.iter().zip(b).zip(&self.lin);
            pairs
                .map(|((&a, &b), &lin)| {
                    f64::from(lin) * (f64::from(a) * u - f64::from(b) * v).powi(2)
                })
                .sum()
        });
        distances.collect::<Vec<f64>>().iter().sum()
    }
}

/// A network with its weights.
#[derive(Debug)]
pub struct Lpips {
    network: Network,
    slices: Vec<Slice>,
}

impl Lpips {
    /// Open a safetensors file with the `state_dict` of the `lpips` package's `LPIPS(net="alex")` or `LPIPS(net="vgg")`:
    /// `net.slice{s}.{layer}.weight` and `.bias`, and `lin{s}.model.1.weight` or its duplicate `lins.{s}.model.1.weight`.
    /// Other tensors are ignored.
    pub fn open(path: &Path) -> Result<Self, LpipsError> {
        let bytes = read_file(path, MAX_BYTES).map_err(|source| LpipsError::Io {
            path: path.to_owned(),
            source,
        })?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|error| LpipsError::Format {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        let file = File {
            path,
            network: recognise(path, &tensors)?,
            tensors,
        };
        let plans = file.network.slices();
        let slices = plans.into_iter().enumerate();
        let slices = slices.map(|(index, plans)| file.slice(index, plans));
        Ok(Self {
            slices: slices.collect::<Result<_, _>>()?,
            network: file.network,
        })
    }

    /// The network that the weights belong to.
    #[must_use]
    pub fn network(&self) -> Network {
        self.network
    }

    /// Check that an image is large enough for the network.
    ///
    /// # Errors
    /// [`LpipsError::TooSmall`].
    pub fn check_size(&self, width: usize, height: usize) -> Result<(), LpipsError> {
        let least = self.network.least_side();
        if width.min(height) >= least {
            return Ok(());
        }
        Err(LpipsError::TooSmall {
            network: self.network,
            width,
            height,
            least,
        })
    }

    /// Return the distance between two RGB images (height, width, 3) with values in [0, 1]: 0 for equal images, rarely
    /// above 1 with trained weights.
    ///
    /// # Errors
    /// [`LpipsError::TooSmall`], [`LpipsError::Values`].
    pub fn distance(
        &self,
        a: &[f32],
        b: &[f32],
        width: usize,
        height: usize,
    ) -> Result<f64, LpipsError> {
        self.check_size(width, height)?;
        let expected = width * height * 3;
        for image in [a, b] {
            if image.len() != expected {
                return Err(LpipsError::Values {
                    width,
                    height,
                    expected,
                    given: image.len(),
                });
            }
        }
        let mut windows = [self.windows(width), self.windows(width)];
        // For every slice: the sum of distances, and the number of pixels.
        let mut sums = vec![(0.0, 0); self.slices.len()];
        let rows = (PIXELS_PER_BAND / width).max(ROWS_PER_BAND);
        for first in (0..height).step_by(rows) {
            let end = (first + rows).min(height);
            let mut bands = [a, b].map(|image| scaled(&image[first * width * 3..end * width * 3]));
            let [windows_a, windows_b] = &mut windows;
            let mut windows = windows_a.iter_mut().zip(windows_b);
            for (slice, (sum, pixels)) in self.slices.iter().zip(&mut sums) {
                for (layer, (a, b)) in slice.layers.iter().zip(&mut windows) {
                    bands[0] = a.pass(layer, &bands[0], end == height);
                    bands[1] = b.pass(layer, &bands[1], end == height);
                }
                *sum += slice.compare(&bands[0], &bands[1]);
                *pixels += bands[0].len() / slice.lin.len();
            }
        }
        Ok(sums.iter().map(|(sum, n)| sum / (*n).max(1) as f64).sum())
    }

    /// Create one window for each layer of all slices.
    fn windows(&self, mut width: usize) -> Vec<Window> {
        let layers = self.slices.iter().flat_map(|slice| &slice.layers);
        layers
            .map(|layer| {
                let window = Window::new(layer.reach(), layer.inputs(), width);
                width = layer.reach().outputs(width);
                window
            })
            .collect()
    }
}

/// Normalise values in [0, 1] as in the training of the classifiers.
fn scaled(rgb: &[f32]) -> Vec<f32> {
    let channels = (0..3).cycle();
    rgb.iter()
        .zip(channels)
        .map(|(v, c)| (2.0 * v - 1.0 - SHIFT[c]) / SCALE[c])
        .collect()
}

/// Name of a tensor that both networks have, with different shapes.
const FIRST: &str = "net.slice1.0.weight";

fn recognise(path: &Path, tensors: &SafeTensors<'_>) -> Result<Network, LpipsError> {
    let unknown = |reason: String| LpipsError::Network {
        path: path.to_owned(),
        reason,
    };
    if tensors.names().iter().any(|name| name.contains("squeeze")) {
        return Err(unknown("it holds the squeeze network".to_owned()));
    }
    let first = tensors
        .tensor(FIRST)
        .map_err(|_| unknown(format!("there is no `{FIRST}`")))?;
    match first.shape() {
        [64, 3, 11, 11] => Ok(Network::Alex),
        [64, 3, 3, 3] => Ok(Network::Vgg),
        other => Err(unknown(format!("`{FIRST}` has the shape {other:?}"))),
    }
}

/// A file of weights.
struct File<'a> {
    path: &'a Path,
    network: Network,
    tensors: SafeTensors<'a>,
}

impl File<'_> {
    /// Read the slice that `lin{index}` belongs to; the names of the network's slices count from 1.
    fn slice(&self, index: usize, plans: &[LayerSpec]) -> Result<Slice, LpipsError> {
        let mut layers = Vec::with_capacity(plans.len());
        let mut channels = 0;
        for plan in plans {
            layers.push(match *plan {
                LayerSpec::Convolution {
                    index: layer,
                    inputs,
                    outputs,
                    reach,
                } => {
                    channels = outputs;
                    let name = format!("net.slice{}.{layer}", index + 1);
                    let shape = [outputs, inputs, reach.size, reach.size];
                    let weight = self.values(&format!("{name}.weight"), &shape)?;
                    let bias = self.values(&format!("{name}.bias"), &[outputs])?;
                    Layer::Convolution(Convolution::new(&weight, bias, inputs, outputs, reach))
                }
                LayerSpec::Pool { channels, reach } => Layer::Pool { channels, reach },
            });
        }
        let name = format!("lin{index}.model.1.weight");
        let duplicate = format!("lins.{index}.model.1.weight");
        let there = |name: &str| self.tensors.tensor(name).is_ok();
        let name = if !there(&name) && there(&duplicate) {
            duplicate
        } else {
            name
        };
        let lin = self.values(&name, &[1, channels, 1, 1])?;
        Ok(Slice { layers, lin })
    }

    fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LpipsError> {
        let fault = |reason: String| LpipsError::Tensor {
            path: self.path.to_owned(),
            name: name.to_owned(),
            reason,
        };
        let tensor = self.tensors.tensor(name).map_err(|_| LpipsError::Missing {
            path: self.path.to_owned(),
            name: name.to_owned(),
            network: self.network,
        })?;
        if tensor.shape() != shape {
            return Err(fault(format!(
                "has the shape {:?}, not the {shape:?} of the {} network",
                tensor.shape(),
                self.network
            )));
        }
        if tensor.dtype() != Dtype::F32 {
            return Err(fault(format!("holds {:?} values, not F32", tensor.dtype())));
        }
        let values = tensor.data().as_chunks().0.iter();
        let values: Vec<f32> = values.map(|&bytes| f32::from_le_bytes(bytes)).collect();
        if values.iter().any(|v| !v.is_finite()) {
            return Err(fault("holds NaN or infinite values".to_owned()));
        }
        Ok(values)
    }
}
