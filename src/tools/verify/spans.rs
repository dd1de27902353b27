//! For each stored number, the span of the numbers that are rounded to it. A result that was rounded to fewer than 24 bits is right if
//! the exact result lies in this span.
//!
//! Rounding is monotonic, and stochastic rounding with fixed random bits is too. So the oracle, followed by the same rounding, gives the
//! stored number exactly if the oracle's number lies in the span. The distance from the span is an error like any other.

use crate::options::storage::blockwise::{BLOCK, Map};
use crate::options::storage::half::{StochasticRounding, widen};
use crate::options::storage::{Format, Packed};
use crate::{Optimizer, Result, Tensor};

/// How far a kernel may move a cell's edge, as a share of the edge: the kernel inverts, multiplies twice, subtracts 0.1 and multiplies.
const EDGE_ERROR: f64 = 8e-7;

/// The least and the greatest of the numbers that are rounded to one stored number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Span {
    pub(super) least: f64,
    pub(super) most: f64,
}

/// The spans of an array, and the largest magnitudes of its blocks.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Spans {
    pub(super) of: Vec<Span>,
    pub(super) largest: Vec<f32>,
}

/// The spans of a tensor's arrays; `None` for an array in f32.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    pub(super) param: Option<Spans>,
    pub(super) states: Vec<Option<Spans>>,
}

impl Stored {
    /// Reads the arrays of a tensor after a step.
    pub(super) async fn of(optimizer: &Optimizer, tensor: Tensor) -> Result<Self> {
        let rule = optimizer.rule(optimizer.group_of(tensor)?)?;
        let (part, tensor) = optimizer.of_tensor(tensor)?;
        let tensor = tensor.index();
        let (seed, steps) = part.read_rounding().await?;
        let rounding = |array: u32| StochasticRounding::new(seed, steps.wrapping_sub(1), tensor as u32, array);
        let formats = part.formats(tensor);
        let mut stored = Self::default();
        if formats.params.keep().is_some() && !formats.params.is_exact() {
            let is_stochastic = formats.params.keep() == Some(crate::options::storage::RoundingMode::Stochastic);
            let seen = part.read_seen(tensor).await?;
            stored.param = Some(Spans::of(&seen, is_stochastic.then(|| rounding(0))));
        }
        let mut number = 0;
        for state in rule.states() {
            let Ok(array) = part.array(tensor, state.name) else {
                stored.states.push(None);
                continue;
            };
            number += 1;
            let rounding = array.is_stochastic().then(|| rounding(number));
            let packed = part.read_packed(tensor, &array).await?;
            let is_whole = matches!(packed, Packed::F32(_));
            stored.states.push((!is_whole).then(|| Spans::of(&packed, rounding)));
        }
        Ok(stored)
    }
}

impl Spans {
    fn of(packed: &Packed, rounding: Option<StochasticRounding>) -> Self {
        match packed {
            Packed::Half(format, bits) => {
                let random = |i: usize| rounding.map(|rounding| rounding.of(i as u32));
                let span = |(i, bits): (usize, &u16)| half_span(*format, *bits, random(i));
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
    /// How far a number lies outside the span; NaN lies infinitely far outside.
    pub(super) fn distance(self, x: f64) -> f64 {
        if x >= self.least && x <= self.most {
            return 0.0;
        }
        let off = (self.least - x).max(x - self.most);
        if off.is_nan() { f64::INFINITY } else { off }
    }
}

/// The numbers that are stored as these bits, by round to nearest, or by stochastic rounding with the random bits `random`.
fn half_span(format: Format, bits: u16, random: Option<u16>) -> Span {
    let (sign, magnitude) = (bits & 0x8000, bits & 0x7fff);
    let value = |magnitude: u16| f64::from(widen(format, magnitude));
    let here = value(magnitude);
    let below = if magnitude == 0 { -value(1) } else { value(magnitude - 1) };
    let above = match value(magnitude.saturating_add(1)) {
        above if above.is_finite() => above,
        _ => 2.0 * here - below,
    };
    // The smallest magnitude also stands for every smaller number that must not become 0.
    let down = if magnitude == 1 { here } else { 0.0 };
    let (least, most) = match random {
        None => (0.5 * (below + here) - down, 0.5 * (here + above)),
        Some(random) => {
            let share = f64::from(random) / 65536.0;
            // Rounding uses only as many random bits as the format removes.
            let cut = 1.0 / 4096.0;
            let least = here - (share + cut) * (here - below);
            (least - down, above - (share - cut) * (above - here))
        }
    };
    if sign == 0 { Span { least, most } } else { Span { least: -most, most: -least } }
}

/// The numbers of a code's cell. The cell's edges lie halfway to the neighbouring codes' values.
fn block_span(map: Map, code: u8, largest: f64) -> Span {
    let value = |code: u8| f64::from(map.value(code));
    let below = code.checked_sub(1).map_or(f64::NEG_INFINITY, |below| 0.5 * (value(below) + value(code)));
    let above = code.checked_add(1).map_or(f64::INFINITY, |above| 0.5 * (value(code) + value(above)));
    let (below, above) = match (map, code) {
        // Only 0 has the code of 0.
        (Map::Unsigned, 0) => (0.0, 0.0),
        (Map::Unsigned, 1) => (0.0, above),
        _ => (below, above),
    };
    let wide = |edge: f64, out: f64| edge + out * EDGE_ERROR * edge.abs();
    Span { least: wide(below, -1.0) * largest, most: wide(above, 1.0) * largest }
}
