//! The learning rates that every entrant is tried with, and how a best rate at the edge widens them.

use std::collections::BTreeMap;

/// The first and the last point of the grid before it is widened: 1e-4 to 1e-1.
const FIRST: i32 = -8;
const LAST: i32 = -2;

/// How far a grid may widen: 1e-8 to 1e3. Outside, nothing that f32 can train.
const LEAST: i32 = -16;
const MOST: i32 = 6;

/// A point of the grid of half-decades …, 1e-3, 3e-3, 1e-2, ….
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GridPoint(i32);

impl GridPoint {
    /// The rate: 1 or 3 times a power of ten, the number that its decimal text means.
    #[must_use]
    pub fn rate(self) -> f64 {
        let digit = if self.0.rem_euclid(2) == 0 { 1 } else { 3 };
        let power = self.0.div_euclid(2);
        // Through the text: a product with a power of ten would be off in the last place.
        format!("{digit}e{power}").parse().unwrap_or(f64::NAN)
    }
}

/// A search for the rate of the least score, one for each entrant of a heat.
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
    /// The points to try next: what is missing of the first grid, then one beyond an edge for as long as the best lies on it. Where
    /// every run went astray, smaller rates follow. None: the best has worse neighbours on both sides, or the search is at its limit.
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

    /// Says what came of a point; anything that is not finite is worse than everything.
    pub fn put(&mut self, point: GridPoint, score: f64) {
        self.scores.insert(point, if score.is_finite() { score } else { f64::INFINITY });
    }

    /// The best point so far, of equals the smallest; `None` where no run came to an end.
    #[must_use]
    pub fn best(&self) -> Option<GridPoint> {
        let finite = self.scores.iter().filter(|(_, score)| score.is_finite());
        finite.min_by(|a, b| a.1.total_cmp(b.1)).map(|(point, _)| *point)
    }

    /// Whether the best lies where the search may not go on.
    #[must_use]
    pub fn at_limit(&self) -> bool {
        self.best().is_none_or(|best| [LEAST, MOST].contains(&best.0))
    }

    /// Every point with its score, rates rising.
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
    fn rates_are_what_their_text_says() {
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
    fn of_equals_the_smallest_rate_is_best() {
        let (flat, _) = search(|rate| if rate < 2e-4 { 1.0 } else { 0.5 });
        assert_eq!(flat.best().map(GridPoint::rate), Some(3e-4));
    }
}
