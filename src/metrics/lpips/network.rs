//! Architectures of the networks, without weights.

/// The classifier that computes the features of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// The five convolutions of `AlexNet`: the usual choice for evaluation.
    Alex,
    /// The thirteen convolutions of `VGG-16`, at about twenty times the cost.
    Vgg,
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Alex => "alex",
            Self::Vgg => "vgg",
        })
    }
}

/// A layer of a network, without weights.
#[derive(Debug, Clone, Copy)]
pub(super) enum LayerSpec {
    /// A convolution with `ReLU`. `index` is the layer's number in the classifier, after which its tensors are named.
    Convolution {
        index: usize,
        inputs: usize,
        outputs: usize,
        reach: KernelGeometry,
    },
    /// Max pooling with stride 2.
    Pool {
        channels: usize,
        reach: KernelGeometry,
    },
}

/// Kernel size, stride and padding of a layer, equal along both axes.
#[derive(Debug, Clone, Copy)]
pub(super) struct KernelGeometry {
    pub(super) size: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
}

impl KernelGeometry {
    /// Return the number of outputs along an axis of `n` pixels, padding included.
    pub(super) fn outputs_of_padded(self, n: usize) -> usize {
        (n + self.stride).saturating_sub(self.size) / self.stride
    }

    /// Return the minimum number of pixels along an axis, at least 1, for a number of outputs.
    fn least_inputs(self, outputs: usize) -> usize {
        let padded = (outputs - 1) * self.stride + self.size;
        padded.saturating_sub(2 * self.padding).max(1)
    }

    /// Return the number of outputs along an axis of `n` pixels.
    pub(super) fn outputs(self, n: usize) -> usize {
        self.outputs_of_padded(n + 2 * self.padding)
    }
}

impl LayerSpec {
    const fn convolution(index: usize, inputs: usize, outputs: usize, size: usize) -> Self {
        Self::Convolution {
            index,
            inputs,
            outputs,
            reach: KernelGeometry {
                size,
                stride: 1,
                padding: size / 2,
            },
        }
    }

    const fn pool(channels: usize, size: usize) -> Self {
        Self::Pool {
            channels,
            reach: KernelGeometry {
                size,
                stride: 2,
                padding: 0,
            },
        }
    }

    pub(super) const fn reach(&self) -> KernelGeometry {
        match self {
            Self::Convolution { reach, .. } | Self::Pool { reach, .. } => *reach,
        }
    }
}

const ALEX: [&[LayerSpec]; 5] = [
    &[LayerSpec::Convolution {
        index: 0,
        inputs: 3,
        outputs: 64,
        reach: KernelGeometry {
            size: 11,
            stride: 4,
            padding: 2,
        },
    }],
    &[
        LayerSpec::pool(64, 3),
        LayerSpec::convolution(3, 64, 192, 5),
    ],
    &[
        LayerSpec::pool(192, 3),
        LayerSpec::convolution(6, 192, 384, 3),
    ],
    &[LayerSpec::convolution(8, 384, 256, 3)],
    &[LayerSpec::convolution(10, 256, 256, 3)],
];

const VGG: [&[LayerSpec]; 5] = [
    &[
        LayerSpec::convolution(0, 3, 64, 3),
        LayerSpec::convolution(2, 64, 64, 3),
    ],
    &[
        LayerSpec::pool(64, 2),
        LayerSpec::convolution(5, 64, 128, 3),
        LayerSpec::convolution(7, 128, 128, 3),
    ],
    &[
        LayerSpec::pool(128, 2),
        LayerSpec::convolution(10, 128, 256, 3),
        LayerSpec::convolution(12, 256, 256, 3),
        LayerSpec::convolution(14, 256, 256, 3),
    ],
    &[
        LayerSpec::pool(256, 2),
        LayerSpec::convolution(17, 256, 512, 3),
        LayerSpec::convolution(19, 512, 512, 3),
        LayerSpec::convolution(21, 512, 512, 3),
    ],
    &[
        LayerSpec::pool(512, 2),
        LayerSpec::convolution(24, 512, 512, 3),
        LayerSpec::convolution(26, 512, 512, 3),
        LayerSpec::convolution(28, 512, 512, 3),
    ],
];

impl Network {
    pub(super) fn slices(self) -> [&'static [LayerSpec]; 5] {
        match self {
            Self::Alex => ALEX,
            Self::Vgg => VGG,
        }
    }

    /// Return the smallest image side that has an output after the last slice.
    #[must_use]
    pub fn least_side(self) -> usize {
        let layers = self.slices().into_iter().flatten().rev();
        layers.fold(1, |outputs, layer| layer.reach().least_inputs(outputs))
    }
}
