//! Which numbers would be stored as the ones that are: what a result must lie in where it was rounded to fewer than 24 bits.
//!
//! Rounding keeps the order of numbers, for one chance too. So the oracle followed by the same rounding gives what was found exactly where
//! the oracle's number lies in the span of those that are stored so; and how far it lies outside is an error like any other.

use crate::options::storage::blockwise::{BLOCK, Map};
use crate::options::storage::half::{StochasticRounding, widen};
use crate::options::storage::{Format, Packed};
use crate::{Optimizer, Result, Tensor};

/// By how much a kernel may find a cell's edge elsewhere, as a share of it: it inverts, multiplies twice, takes 0.1 off and multiplies again.
const EDGE_ERROR: f64 = 8e-7;

/// The least and the greatest number that is stored as one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Span {
    pub(super) least: f64,
    pub(super) most: f64,
}

/// An array's spans, and its blocks' largest magnitudes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Spans {
    pub(super) of: Vec<Span>,
    pub(super) largest: Vec<f32>,
}

/// The spans of a tensor's arrays; `None` where they are f32.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    pub(super) param: Option<Spans>,
    pub(super) states: Vec<Option<Spans>>,
}

impl Stored {
    /// What a step left in an optimizer.
    pub(super) async fn of(optimizer: &Optimizer, tensor: Tensor) -> Result<Self> {
        let (rounding, rounded) = optimizer.read_rounding().await?;
        let chances =
            |array: u32| StochasticRounding::new(rounding, rounded.wrapping_sub(1), tensor.index() as u32, array);
        let (rule, tensor) = (optimizer.rule(optimizer.group_of(tensor)?)?, tensor.index());
        let formats = optimizer.formats(tensor);
        let mut stored = Self::default();
        if formats.params.keep().is_some() && !formats.params.is_exact() {
            let by_chance = formats.params.keep() == Some(crate::options::storage::RoundingMode::Stochastic);
            let seen = optimizer.read_seen(tensor).await?;
            stored.param = Some(Spans::of(&seen, by_chance.then(|| chances(0))));
        }
        let mut number = 0;
        for state in rule.states() {
            let Ok(array) = optimizer.array(tensor, state.name) else {
                stored.states.push(None);
                continue;
            };
            number += 1;
            let chances = array.is_stochastic().then(|| chances(number));
            let packed = optimizer.read_packed(tensor, &array).await?;
            let is_whole = matches!(packed, Packed::F32(_));
            stored.states.push((!is_whole).then(|| Spans::of(&packed, chances)));
        }
        Ok(stored)
    }
}

impl Spans {
    fn of(packed: &Packed, chances: Option<StochasticRounding>) -> Self {
        match packed {
            Packed::Half(format, bits) => {
                let chance = |i: usize| chances.map(|chances| chances.of(i as u32));
                let span = |(i, bits): (usize, &u16)| half_span(*format, *bits, chance(i));
                Self { of: bits.iter().enumerate().map(span).collect(), largest: Vec::new() }
            }
            Packed::Blocks { map, codes, largest } => {
                let span = |(i, code): (usize, &u8)| block_span(*map, *code, f64::from(largest[i / BLOCK]));
                Self { of: codes.iter().enumerate().map(span).collect(), largest: largest.clone() }
            }
            Packed::F32(_) | Packed::Remainder(_) => Self::default(),
        }
    }
}

impl Span {
    /// How far a number lies outside; NaN is infinitely far.
    pub(super) fn distance(self, x: f64) -> f64 {
        if x >= self.least && x <= self.most {
            return 0.0;
        }
        let off = (self.least - x).max(x - self.most);
        if off.is_nan() { f64::INFINITY } else { off }
    }
}

/// The numbers that are stored as these bits: around the nearest, or one step of them that a chance has moved.
fn half_span(format: Format, bits: u16, chance: Option<u16>) -> Span {
    let (sign, magnitude) = (bits & 0x8000, bits & 0x7fff);
    let value = |magnitude: u16| f64::from(widen(format, magnitude));
    let here = value(magnitude);
    let below = if magnitude == 0 { -value(1) } else { value(magnitude - 1) };
    let above = match value(magnitude.saturating_add(1)) {
        above if above.is_finite() => above,
        _ => 2.0 * here - below,
    };
    // The smallest may stand for anything that must not be 0.
    let down = if magnitude == 1 { here } else { 0.0 };
    let (least, most) = match chance {
        None => (0.5 * (below + here) - down, 0.5 * (here + above)),
        Some(chance) => {
            let share = f64::from(chance) / 65536.0;
            // A chance is cut to the bits that are.
            let cut = 1.0 / 4096.0;
            let least = here - (share + cut) * (here - below);
            (least - down, above - (share - cut) * (above - here))
        }
    };
    if sign == 0 { Span { least, most } } else { Span { least: -most, most: -least } }
}

/// The numbers of a cell, whose edges lie halfway to its neighbours'.
fn block_span(map: Map, code: u8, largest: f64) -> Span {
    let value = |code: u8| f64::from(map.value(code));
    let below = code.checked_sub(1).map_or(f64::NEG_INFINITY, |below| 0.5 * (value(below) + value(code)));
    let above = code.checked_add(1).map_or(f64::INFINITY, |above| 0.5 * (value(code) + value(above)));
    let (below, above) = match (map, code) {
        // Nothing but 0 has the code of 0.
        (Map::Unsigned, 0) => (0.0, 0.0),
        (Map::Unsigned, 1) => (0.0, above),
        _ => (below, above),
    };
    let wide = |edge: f64, out: f64| edge + out * EDGE_ERROR * edge.abs();
    Span { least: wide(below, -1.0) * largest, most: wide(above, 1.0) * largest }
}
