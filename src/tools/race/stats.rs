//! Statistics over a few seeds: means with their spread, and differences paired by seed with bootstrap intervals.

use serde::Serialize;

use crate::options::random;

/// The number of resamples of a bootstrap.
const RESAMPLES: u32 = 10_000;

/// The share of resamples that lie outside an interval at either end.
const TAIL: f64 = 0.025;

/// The key of the random draws. It is fixed, so that the same numbers give the same interval.
const KEY: u32 = 0x0b00_757a;

/// The mean and the spread of some runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The number of runs.
    pub count: usize,
    /// The mean of the runs.
    pub mean: f64,
    /// The population standard deviation of the runs, as the papers give it.
    pub std: f64,
}

impl Spread {
    /// The spread of the finite values; `None` if no value is finite.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let finite: Vec<f64> = values.iter().copied().filter(|x| x.is_finite()).collect();
        let mean = mean(&finite)?;
        let squares: Vec<f64> = finite.iter().map(|x| (x - mean) * (x - mean)).collect();
        Some(Self { count: finite.len(), mean, std: self::mean(&squares)?.sqrt() })
    }
}

/// A mean difference with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The number of pairs.
    pub pairs: usize,
    /// The mean difference.
    pub mean: f64,
    /// The 2.5th percentile of the resampled means.
    pub low: f64,
    /// The 97.5th percentile.
    pub high: f64,
}

impl Difference {
    /// The mean of `first - second` over the pairs of finite numbers, with a percentile bootstrap over these pairs; `None` if there is no
    /// such pair. With one pair the interval is a point, which says nothing about other seeds.
    #[must_use]
    pub fn paired(pairs: &[(f64, f64)]) -> Option<Self> {
        let differences: Vec<f64> = pairs.iter().map(|(a, b)| a - b).filter(|d| d.is_finite()).collect();
        let mean = mean(&differences)?;
        let mut means: Vec<f64> = (0..RESAMPLES).map(|at| resampled(&differences, at)).collect();
        means.sort_by(f64::total_cmp);
        let at = |share: f64| means[(share * (means.len() - 1) as f64).round() as usize];
        Some(Self { pairs: differences.len(), mean, low: at(TAIL), high: at(1.0 - TAIL) })
    }

    /// The same difference as a share of `whole`.
    #[must_use]
    pub fn relative_to(self, whole: f64) -> Self {
        let [mean, low, high] = [self.mean, self.low, self.high].map(|x| x / whole);
        Self { mean, low, high, ..self }
    }

    /// Whether the interval excludes 0.
    #[must_use]
    pub fn excludes_zero(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }
}

/// The mean of a resample: as many values, drawn with replacement.
fn resampled(values: &[f64], resample: u32) -> f64 {
    let key = random::draw(KEY, resample);
    let count = values.len();
    let draw = |at| values[random::draw(key, at as u32) as usize % count];
    (0..count).map(draw).sum::<f64>() / count as f64
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The number of columns that each row of a table wins. A row wins a column if it has the column's least finite number, alone or with
/// others.
#[must_use]
pub fn wins(rows: &[Vec<f64>]) -> Vec<usize> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let value = |row: &Vec<f64>, column: usize| row.get(column).copied().filter(|x| x.is_finite());
    let best = |column| rows.iter().filter_map(|row| value(row, column)).min_by(f64::total_cmp);
    let bests: Vec<Option<f64>> = (0..columns).map(best).collect();
    let won = |row: &Vec<f64>| (0..columns).filter(|c| value(row, *c).is_some_and(|x| Some(x) == bests[*c])).count();
    rows.iter().map(won).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_match_the_textbook() {
        let spread = Spread::of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]).expect("values");
        assert_eq!((spread.count, spread.mean, spread.std), (8, 5.0, 2.0));
        assert_eq!(Spread::of(&[1.0, f64::INFINITY, 3.0, f64::NAN]).map(|s| (s.count, s.mean)), Some((2, 2.0)));
        assert_eq!(Spread::of(&[f64::NAN]), None);
    }

    #[test]
    fn pairs_remove_the_differences_between_seeds() {
        // Seeds differ by 10 and the two numbers of each pair by 0.1: without pairs, the difference would not show.
        let pairs = [(10.1, 10.0), (20.1, 20.0), (30.1, 30.0), (40.1, 40.0)];
        let difference = Difference::paired(&pairs).expect("pairs");
        assert!((difference.mean - 0.1).abs() < 1e-12 && difference.excludes_zero());
        assert!(difference.high - difference.low < 1e-9, "{difference:?}");
        let crossed = [(10.1, 20.0), (20.1, 10.0), (30.1, 40.0), (40.1, 30.0)];
        assert!(!Difference::paired(&crossed).expect("pairs").excludes_zero());
    }

    #[test]
    fn intervals_are_the_percentiles_of_resampled_means() {
        // The mean of n fair coins is binomial: for n = 16 the 2.5th and 97.5th percentiles are 4/16 and 12/16.
        let pairs: Vec<(f64, f64)> = (0..16).map(|i| (f64::from(i % 2), 0.0)).collect();
        let difference = Difference::paired(&pairs).expect("pairs");
        assert_eq!((difference.low, difference.mean, difference.high), (0.25, 0.5, 0.75));
        assert_eq!(Difference::paired(&pairs), Some(difference));
        let half = difference.relative_to(2.0);
        assert_eq!((half.low, half.mean, half.high, half.pairs), (0.125, 0.25, 0.375, 16));
    }

    #[test]
    fn a_pair_without_two_finite_numbers_does_not_count() {
        let pairs = [(1.0, f64::INFINITY), (f64::NAN, 1.0), (3.0, 2.0)];
        let difference = Difference::paired(&pairs).expect("a pair");
        assert_eq!((difference.pairs, difference.mean), (1, 1.0));
        assert_eq!(Difference::paired(&[(f64::NAN, 0.0)]), None);
    }

    #[test]
    fn wins_are_counted_by_column() {
        let rows = [vec![1.0, 5.0, f64::INFINITY], vec![2.0, 4.0, f64::NAN], vec![1.0, 6.0, f64::INFINITY]];
        assert_eq!(wins(&rows), [1, 1, 1]);
        assert_eq!(wins(&[]), [0; 0]);
    }
}
