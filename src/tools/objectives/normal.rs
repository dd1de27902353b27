//! Initial values of a normal distribution.

use super::objective::TensorSpec;
use super::random::{self, Stream};

/// Each tensor drawn from the normal distribution times `scale`.
pub(super) fn normal_tensors(tensors: &[TensorSpec], scale: f64, seed: u64) -> Vec<Vec<f32>> {
    let key = random::key(seed, Stream::Weights);
    let tensor = |(at, tensor): (u32, &TensorSpec)| {
        let key = random::draw(key, at);
        (0..tensor.elements()).map(|i| (scale * random::normal(key, i as u32)) as f32).collect()
    };
    (0..).zip(tensors).map(tensor).collect()
}
