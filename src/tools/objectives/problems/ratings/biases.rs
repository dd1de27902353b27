//! The biases that are subtracted from ratings before a model is fitted: the mean, and the offsets of each user and of each item.

use crate::tools::objectives::low_rank::HeldOut;

/// Sweeps over users and items, and the largest change after which they end.
const SWEEPS: usize = 200;
const SETTLED: f64 = 1e-6;

/// The mean, and the biases of users and of items.
pub(super) struct Base {
    mean: f64,
    biases: [Vec<f64>; 2],
}

impl Base {
    /// The prediction of a rating without a model.
    pub(super) fn of(&self, at: &[u32; 2]) -> f64 {
        self.mean + self.biases[0][at[0] as usize] + self.biases[1][at[1] as usize]
    }
}

/// The mean of the ratings and, with a shrinkage, the biases. The biases of users and of items are fitted by turns. They minimise the squared
/// error over the ratings and over `shrink` added ratings of 0 for each bias.
pub(super) fn fit(train: &HeldOut<2>, sizes: [usize; 2], shrink: Option<f64>) -> Base {
    let count = train.values.len() as f64;
    let mean = train.values.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
    let mut base = Base { mean, biases: sizes.map(|size| vec![0.0; size]) };
    let Some(shrink) = shrink else { return base };
    for _ in 0..SWEEPS {
        let change = (0..2).map(|side| sweep(train, &mut base, side, shrink)).fold(0.0, f64::max);
        if change < SETTLED {
            break;
        }
    }
    base
}

/// Fits the biases of one side while those of the other side stay fixed, and returns the largest change.
fn sweep(train: &HeldOut<2>, base: &mut Base, side: usize, shrink: f64) -> f64 {
    let size = base.biases[side].len();
    let (mut sums, mut counts) = (vec![0.0; size], vec![0.0; size]);
    for (at, value) in train.at.iter().zip(&train.values) {
        let place = at[side] as usize;
        sums[place] += f64::from(*value) - base.of(at) + base.biases[side][place];
        counts[place] += 1.0;
    }
    let mut change: f64 = 0.0;
    for ((bias, sum), count) in base.biases[side].iter_mut().zip(sums).zip(counts) {
        let fitted = if count > 0.0 { sum / (count + shrink) } else { 0.0 };
        change = change.max((fitted - *bias).abs());
        *bias = fitted;
    }
    change
}
