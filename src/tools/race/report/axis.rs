//! An axis with round ticks.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};

/// The free space before the least and after the greatest value, as a share of the axis.
const ROOM: f64 = 0.03;

/// The largest value that an axis shows.
const LARGEST: f64 = 1e300;

/// An axis, linear or logarithmic.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    log: bool,
    /// The ends as values, and as places on the axis: logarithms on a logarithmic axis.
    ends: Range<f64>,
    places: Range<f64>,
}

impl Axis {
    /// An axis on which all finite `values` lie; `log` needs values above 0.
    pub(super) fn around(values: impl Iterator<Item = f64>, log: bool) -> Self {
        // The bound keeps the length of the axis finite.
        let mut values = values.filter(|x| x.is_finite()).map(|x| x.clamp(-LARGEST, LARGEST)).peekable();
        if values.peek().is_none() {
            return Self::linear(0.0..1.0);
        }
        let places = values.map(|x| if log { x.max(f64::MIN_POSITIVE).log10() } else { x });
        let (least, most) = places.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
        let size = least.abs().max(most.abs());
        // Values that differ by rounding alone are one value, with room on both sides.
        let span = if most - least > 1e-9 * size { most - least } else { size };
        let room = if span > 0.0 { ROOM * span } else { 1.0 };
        Self::new(least - room..most + room, log)
    }

    /// An axis between two values.
    pub(super) fn linear(ends: Range<f64>) -> Self {
        Self::new(ends, false)
    }

    fn new(places: Range<f64>, log: bool) -> Self {
        let value = |place: f64| if log { 10.0_f64.powf(place) } else { place };
        Self { log, ends: value(places.start)..value(places.end), places }
    }

    /// The text of a tick. A tick is a round number, so that its shortest decimal form is short.
    pub(super) fn text(x: f64) -> String {
        let size = x.abs();
        if size != 0.0 && !(1e-3..1e5).contains(&size) { format!("{x:e}") } else { x.to_string() }
    }

    /// At most `most` round numbers on the axis.
    fn ticks(&self, most: usize) -> Vec<f64> {
        if self.log
            && let Some(ticks) = self.decades(most)
        {
            return ticks;
        }
        self.multiples(most)
    }

    /// Multiples of 1, 2 or 5 times a power of ten.
    fn multiples(&self, most: usize) -> Vec<f64> {
        let Range { start, end } = self.ends;
        let first = ((end - start) / most.max(1) as f64).log10().floor() as i32;
        let steps = (first..first + 3).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| (digit, power)));
        let ticks = |(digit, power): (f64, i32)| {
            let step = scaled(digit, power);
            let multiples = (start / step).ceil() as i64..=(end / step).floor() as i64;
            multiples.map(|k| scaled(k as f64 * digit, power)).collect::<Vec<f64>>()
        };
        steps.map(ticks).find(|ticks| ticks.len() <= most).unwrap_or_default()
    }

    /// The numbers 1, 2 and 5 of each decade, or as many of them as there is room for; `None` if fewer than two lie on the axis.
    fn decades(&self, most: usize) -> Option<Vec<f64>> {
        const DIGITS: [&[f64]; 3] = [&[1.0, 2.0, 5.0], &[1.0, 3.0], &[1.0]];
        let powers = self.places.start.floor() as i32..=self.places.end.floor() as i32;
        let of = |digits: &[f64], stride: i32| -> Vec<f64> {
            let powers = powers.clone().filter(|power| power % stride == 0);
            let ticks = powers.flat_map(|power| digits.iter().map(move |digit| scaled(*digit, power)));
            ticks.filter(|tick| self.ends.contains(tick)).collect()
        };
        let dense = DIGITS.iter().map(|digits| of(digits, 1));
        let sparse = (2..).map(|stride| of(&[1.0], stride));
        dense.chain(sparse).find(|ticks| ticks.len() <= most.max(1)).filter(|ticks| ticks.len() > 1)
    }
}

/// A number of few digits times a power of ten, rounded once.
fn scaled(digits: f64, power: i32) -> f64 {
    if power < 0 { digits / 10.0_f64.powi(-power) } else { digits * 10.0_f64.powi(power) }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let place = if self.log { value.max(f64::MIN_POSITIVE).log10() } else { *value };
        let share = (place - self.places.start) / (self.places.end - self.places.start);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        self.ticks(hint.bold_points())
    }

    fn range(&self) -> Range<f64> {
        self.ends.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(values: [f64; 2], log: bool) -> String {
        let ticks = Axis::around(values.into_iter(), log).ticks(8);
        ticks.into_iter().map(Axis::text).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ticks_are_round_and_short() {
        assert_eq!(texts([0.0, 100.0], false), "0 20 40 60 80 100");
        assert_eq!(texts([0.0, 1.0], false), "0 0.2 0.4 0.6 0.8 1");
        assert_eq!(texts([0.113, 0.354], false), "0.15 0.2 0.25 0.3 0.35");
        assert_eq!(texts([-3.0, 4.0], false), "-3 -2 -1 0 1 2 3 4");
        assert_eq!(texts([0.0, 4e5], false), "0 1e5 2e5 3e5 4e5");
        assert_eq!(texts([1e-5, 4e-5], false), "1e-5 1.5e-5 2e-5 2.5e-5 3e-5 3.5e-5 4e-5");
        assert_eq!(texts([0.011, 0.4], true), "0.01 0.02 0.05 0.1 0.2");
        assert_eq!(texts([1e-4, 0.1], true), "1e-4 3e-4 0.001 0.003 0.01 0.03 0.1");
        assert_eq!(texts([1e-12, 1.0], true), "1e-12 1e-10 1e-8 1e-6 1e-4 0.01 1");
        assert_eq!(texts([0.5, 0.6], true), "0.5 0.52 0.54 0.56 0.58 0.6");
    }

    #[test]
    fn equal_values_have_an_axis() {
        for value in [0.0, 0.25, -3e7] {
            let axis = Axis::around([value, value].into_iter(), false);
            assert!(axis.ends.contains(&value) && axis.ticks(8).len() > 1, "{value}: {axis:?}");
            assert_eq!(axis.map(&value, (0, 100)), 50, "{value}: {axis:?}");
        }
    }

    /// Runs that diverge have such values.
    #[test]
    fn any_values_have_a_few_ticks() {
        for values in
            [[f64::NAN; 2], [f64::INFINITY; 2], [f64::NAN, 1.0], [f64::NEG_INFINITY, 3.0], [-f64::MAX, f64::MAX]]
        {
            for log in [false, true] {
                let axis = Axis::around(values.into_iter(), log);
                let Range { start, end } = axis.places;
                assert!(start < end && start.is_finite() && end.is_finite(), "{values:?}: {axis:?}");
                let ticks = axis.ticks(8);
                assert!((1..=8).contains(&ticks.len()) && ticks.iter().all(|x| x.is_finite()), "{values:?}: {ticks:?}");
            }
        }
    }

    #[test]
    fn ends_map_to_the_ends_and_a_decade_has_its_share() {
        let axis = Axis::around([0.01, 100.0].into_iter(), true);
        assert_eq!((axis.map(&axis.ends.start, (500, 0)), axis.map(&axis.ends.end, (500, 0))), (500, 0));
        assert_eq!(axis.map(&1.0, (500, 0)), 250);
    }
}
