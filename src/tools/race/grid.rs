//! The grid of learning rates that is tried for every entrant. If the best rate lies at an edge, the grid widens.

use std::collections::BTreeMap;

/// The first and the last point of the grid before it widens: 1e-4 to 1e-1.
const FIRST: i32 = -8;
const LAST: i32 = -2;

/// The bounds of a widened grid: 1e-8 to 1e3. No rate outside them can train in f32.
const LEAST: i32 = -16;
const MOST: i32 = 6;

/// A point of the grid of half-decades …, 1e-3, 3e-3, 1e-2, ….
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GridPoint(i32);

impl GridPoint {
    /// The rate: 1 or 3 times a power of ten, rounded once from its decimal text.
    #[must_use]
    pub fn rate(self) -> f64 {
        let digit = if self.0.rem_euclid(2) == 0 { 1 } else { 3 };
        let power = self.0.div_euclid(2);
        // From the text, because a product with a power of ten would be wrong in the last place.
        format!("{digit}e{power}").parse().unwrap_or(f64::NAN)
    }
}

/// The search for the rate with the least score, one per entrant of a heat.
///
/// ```
/// use wgpu_optim::tools::race::Search;
///
/// let mut search = Search::default();
/// while let Some(point) = search.pending().first().copied() {
///     search.put(point, (point.rate().log10() - 0.9).abs()); // best at 10, far outside the first grid
/// }
/// assert_eq!(search.best().map(|point| point.rate()), Some(10.0));
/// assert!(!search.at_limit());
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Search {
    scores: BTreeMap<GridPoint, f64>,
}

impl Search {
    /// The points to try next: the missing points of the first grid, then one point beyond an edge as long as the best point lies on that
    /// edge. If every run diverged, smaller rates follow. Empty: the best point has worse neighbours on both sides, or the search is at its
    /// limit.
    #[must_use]
    pub fn pending(&self) -> Vec<GridPoint> {
        let missing: Vec<_> = (FIRST..=LAST).map(GridPoint).filter(|p| !self.scores.contains_key(p)).collect();
        if missing.is_empty() { self.beyond().into_iter().collect() } else { missing }
    }

    fn beyond(&self) -> Option<GridPoint> {
        let ((first, _), (last, _)) = (self.scores.first_key_value()?, self.scores.last_key_value()?);
        let beyond = match self.best() {
            Some(best) if best == *last => last.0 + 1,
            Some(best) if best != *first => return None,
            _ => first.0 - 1,
        };
        (LEAST..=MOST).contains(&beyond).then_some(GridPoint(beyond))
    }

    /// Stores the score of a point. A score that is not finite is worse than every other.
    pub fn put(&mut self, point: GridPoint, score: f64) {
        self.scores.insert(point, if score.is_finite() { score } else { f64::INFINITY });
    }

    /// The best point so far, and the smallest of equal points; `None` if every run diverged.
    #[must_use]
    pub fn best(&self) -> Option<GridPoint> {
        let finite = self.scores.iter().filter(|(_, score)| score.is_finite());
        finite.min_by(|a, b| a.1.total_cmp(b.1)).map(|(point, _)| *point)
    }

    /// Whether the best point lies at a bound of the search, or does not exist.
    #[must_use]
    pub fn at_limit(&self) -> bool {
        self.best().is_none_or(|best| [LEAST, MOST].contains(&best.0))
    }

    /// Every point with its score, by ascending rate.
    pub fn scores(&self) -> impl Iterator<Item = (GridPoint, f64)> {
        self.scores.iter().map(|(point, score)| (*point, *score))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(score: impl Fn(f64) -> f64) -> (Search, Vec<f64>) {
        let (mut search, mut tried) = (Search::default(), Vec::new());
        while let Some(point) = search.pending().first().copied() {
            tried.push(point.rate());
            search.put(point, score(point.rate()));
        }
        (search, tried)
    }

    #[test]
    fn rates_equal_their_decimal_text() {
        let rates: Vec<f64> = (FIRST..=MOST).map(|k| GridPoint(k).rate()).collect();
        let expected = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0];
        assert_eq!(rates, expected);
    }

    #[test]
    fn a_best_inside_ends_the_search() {
        let (search, tried) = search(|rate| (rate - 3e-3).abs());
        assert_eq!(tried, [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1]);
        assert_eq!(search.best().map(GridPoint::rate), Some(3e-3));
    }

    #[test]
    fn a_best_at_the_edge_widens() {
        let (up, tried) = search(|rate| (rate.log10() - 0.0).abs());
        assert_eq!(tried[7..], [0.3, 1.0, 3.0]);
        assert_eq!(up.best().map(GridPoint::rate), Some(1.0));
        let (down, tried) = search(|rate| if rate > 2e-5 { f64::NAN } else { (rate - 1e-6).abs() });
        assert_eq!(tried[7..], [3e-5, 1e-5, 3e-6, 1e-6, 3e-7]);
        assert_eq!(down.best().map(GridPoint::rate), Some(1e-6));
    }

    #[test]
    fn a_search_ends_where_nothing_ever_works() {
        let (lost, tried) = search(|_| f64::NAN);
        assert_eq!((lost.best(), lost.at_limit()), (None, true));
        assert_eq!(tried.last(), Some(&1e-8));
        let (endless, _) = search(|rate| -rate);
        assert_eq!(endless.best().map(GridPoint::rate), Some(1e3));
        assert!(endless.at_limit());
    }

    #[test]
    fn the_smallest_rate_of_equal_scores_is_best() {
        let (flat, _) = search(|rate| if rate < 2e-4 { 1.0 } else { 0.5 });
        assert_eq!(flat.best().map(GridPoint::rate), Some(3e-4));
    }
}
