//! The shape of a perceptron: its layers, its activation, and its initial values.

use super::quantize::Bits;
use crate::tools::objectives::check::LONGEST_LOOP;
use crate::tools::objectives::random::{self, Stream};
use crate::tools::objectives::{Split, TensorSpec};
use crate::{Error, Result};

/// The activation of a hidden unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// max(x, 0), slope 0 at 0.
    #[default]
    Relu,
    /// The hyperbolic tangent.
    Tanh,
}

impl Activation {
    /// The activation's name, which [`std::str::FromStr`] accepts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::Tanh => "tanh",
        }
    }
}

impl std::str::FromStr for Activation {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let all = [Self::Relu, Self::Tanh];
        let found = all.into_iter().find(|a| a.name() == name);
        found.ok_or_else(|| Error::unknown("activation", name, all.map(Self::name)))
    }
}

/// The shape of a multilayer perceptron. The default, 64-128-64-10 with ReLU, fits the digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mlp {
    /// Inputs, hidden layers, classes. With 1 at the end, there are two classes, and the loss is the binary cross-entropy of a sigmoid.
    pub widths: Vec<usize>,
    /// The hidden units' activation.
    pub activation: Activation,
    /// The number of bits to which each layer's weights and the hidden units' outputs are rounded in the forward pass. The scale is the
    /// largest of the layer's weights, or of the outputs of the rows that are evaluated together. Gradients come from the straight-through
    /// estimator. Inputs and biases are not rounded. Default: no rounding.
    pub bits: Option<Bits>,
}

impl Default for Mlp {
    fn default() -> Self {
        Self { widths: vec![64, 128, 64, 10], activation: Activation::Relu, bits: None }
    }
}

impl Mlp {
    /// The perceptron's tensors: `layer1.weight` of outputs × inputs, `layer1.bias` of outputs, `layer2.weight`, …
    #[must_use]
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let layers = self.widths.windows(2).enumerate();
        layers
            .flat_map(|(at, pair)| {
                let name = |kind| format!("layer{}.{kind}", at + 1);
                let weight = TensorSpec { name: name("weight"), shape: vec![pair[1], pair[0]] };
                [weight, TensorSpec { name: name("bias"), shape: vec![pair[1]] }]
            })
            .collect()
    }

    /// Initial values of each tensor: biases 0, weights uniform within ±√(6 / inputs) before ReLU units (He et al. 2015)
    /// and within ±√(6 / (inputs + outputs)) elsewhere (Glorot & Bengio 2010).
    #[must_use]
    pub fn initial(&self, seed: u64) -> Vec<Vec<f32>> {
        let key = random::key(seed, Stream::Weights);
        let tensors = self.tensors();
        let last = tensors.len().saturating_sub(2);
        let values = |(at, tensor): (usize, &TensorSpec)| match tensor.shape[..] {
            [outputs, inputs] => {
                let he = self.activation == Activation::Relu && at < last;
                let fan = if he { inputs } else { inputs + outputs };
                let bound = (6.0 / fan as f64).sqrt() as f32;
                let key = random::draw(key, at as u32);
                (0..tensor.elements()).map(|i| bound * (2.0 * random::unit(key, i as u32) - 1.0)).collect()
            }
            _ => vec![0.0; tensor.elements()],
        };
        tensors.iter().enumerate().map(values).collect()
    }

    /// Whether the sigmoid of one sum separates two classes.
    pub(super) fn is_binary(&self) -> bool {
        self.widths.last() == Some(&1)
    }

    /// The widths of each layer: inputs and outputs.
    pub(super) fn layers(&self) -> impl DoubleEndedIterator<Item = (usize, usize)> + ExactSizeIterator + '_ {
        self.widths.windows(2).map(|pair| (pair[0], pair[1]))
    }

    pub(super) fn check(&self, split: &Split) -> Result<()> {
        let widths = &self.widths;
        if widths.len() < 2 || widths.contains(&0) || widths.iter().any(|w| *w > LONGEST_LOOP) {
            return Err(Error::Usage(format!("mlp: widths are {widths:?}, needs at least two of 1..={LONGEST_LOOP}")));
        }
        let (features, classes) = (split.features(), split.classes());
        let outputs = widths[widths.len() - 1];
        if widths[0] != features || !(outputs == classes || (outputs, classes) == (1, 2)) {
            let problem = format!("mlp: widths are {widths:?}, the data needs {features} first and {classes} last");
            return Err(Error::Usage(problem));
        }
        Ok(())
    }
}
