//! Handwritten digits.

use super::data;
use super::perceptron::Classification;
use crate::optim::rule::settings::settings;
use crate::tools::objectives::problem::{Problem, Recipe};
use crate::tools::objectives::{Activation, Bits, Mlp, Part, digits};
use crate::{Error, Result};
use std::path::Path;

settings! {
    /// A perceptron on handwritten digits of 8×8 pixels, in small batches and with few bits on request.
    ///
    /// The 1797 digits of [`digits`], 64 inputs, `hidden` and `hidden`/2 ReLU units, 10 classes, softmax
    /// cross-entropy over mini-batches whose order is new in every epoch. With `bits` 2 or 4, weights and hidden outputs are rounded
    /// in the forward pass and gradients pass straight through, as in the experiments of S-Adam (arXiv 2605.29547) on larger nets.
    Digits = "digits",
    /// Units of the first hidden layer; the second has half of them. Default 128.
    hidden: usize = 128, COUNT;
    /// Rows per mini-batch. Default 64; S-Adam's papers use 2 to 128.
    batch: usize = 64, COUNT;
    /// 2 or 4: the bits of weights and hidden outputs; 0: no rounding. Default 0.
    bits: usize = 0, COUNT_OR_NONE;
    /// The share of rows that validate. Default 0.15.
    validation: f64 = 0.15, SHARE;
    /// The share of rows that test. Default 0.2.
    test: f64 = 0.2, SHARE;
    /// The seed of the split and of the order of the rows. Default 0.
    seed: u64 = 0, SEED;
}

impl Recipe for Digits {
    fn build(&self, _: Option<&Path>) -> Result<Box<dyn Problem>> {
        let bits = match self.bits {
            0 => None,
            2 => Some(Bits::Two),
            4 => Some(Bits::Four),
            other => return Err(data::refused("digits", "bits", other, "0, 2 or 4")),
        };
        if self.validation + self.test >= 1.0 {
            let (validation, test) = (self.validation, self.test);
            let problem = format!("digits: validation is {validation} and test {test}, needs a sum below 1");
            return Err(Error::Usage(problem));
        }
        let outer = digits::load()?.split(self.test, self.seed)?;
        let inner = outer.part(Part::Train).split(self.validation / (1.0 - self.test), self.seed)?;
        let widths = vec![outer.features(), self.hidden, self.hidden.div_ceil(2), outer.classes()];
        let spec = Mlp { widths, activation: Activation::Relu, bits };
        Classification::boxed("digits", spec, inner, outer.part(Part::HeldOut).clone(), (self.batch, self.seed))
    }
}
