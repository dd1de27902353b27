//! The numbers that a tensor's storage keeps on the host, and their rounding. A number in f64 is rounded to f32 first. Where the format is
//! f32, or the storage keeps full precision, the number is not rounded.

use crate::cpu::number::Number;
use crate::cpu::pieces::pieces;
use crate::optim::Kind;
use crate::options::storage::blockwise;
use crate::options::storage::blockwise::{BLOCK, Map};
use crate::options::storage::half::{
    StochasticRounding, join, nearest, not_zero, rounding_key, split, stochastic, widen,
};
use crate::options::storage::{Format, Formats, RoundingMode};

/// How a tensor is stored.
#[derive(Clone, Debug)]
pub(crate) struct Stored<F> {
    pub(crate) formats: Formats,
    /// The kind of numbers of each state.
    pub(crate) kinds: Vec<Kind>,
    /// The parameters in full precision, where the storage keeps them beside the parameters that the model sees. At first they are zeros,
    /// because only zero rounds to zero.
    pub(crate) full: Option<Vec<F>>,
}

/// How a number becomes a half.
#[derive(Clone, Copy)]
pub(crate) enum HalfRounding {
    Nearest(Format),
    /// To the upper half of a split f32: ties away from zero.
    Upper,
    Stochastic(Format, StochasticRounding),
}

impl HalfRounding {
    fn bits(self, element: usize, x: f32) -> u16 {
        match self {
            Self::Nearest(format) => nearest(format, x),
            Self::Upper => split(x).0,
            Self::Stochastic(format, draws) => stochastic(format, x, draws.of(element as u32)),
        }
    }

    const fn format(self) -> Format {
        match self {
            Self::Nearest(format) | Self::Stochastic(format, _) => format,
            Self::Upper => Format::Bf16,
        }
    }

    /// Rounds an array.
    pub(crate) fn round<F: Number>(self, values: &mut [F], kind: Kind) {
        let one = |element: usize, x: &mut F| {
            let narrow = x.to_f64() as f32;
            let bits = self.bits(element, narrow);
            let bits = if kind == Kind::Positive { not_zero(bits, narrow) } else { bits };
            *x = widened(widen(self.format(), bits));
        };
        pieces(values, 0, &|first, piece: &mut [F]| {
            piece.iter_mut().enumerate().for_each(|(i, x)| one(first + i, x));
        });
    }
}

fn widened<F: Number>(x: f32) -> F {
    F::from_f64(f64::from(x))
}

/// Rounds an array to numbers that eight bits hold.
pub(crate) fn round_blocks<F: Number>(values: &mut [F], map: Map) {
    pieces(values, 0, &|_, piece: &mut [F]| {
        for block in piece.chunks_mut(BLOCK) {
            let (mut numbers, mut codes) = ([0.0; BLOCK], [0; BLOCK]);
            let (numbers, codes) = (&mut numbers[..block.len()], &mut codes[..block.len()]);
            numbers.iter_mut().zip(block.iter()).for_each(|(to, x)| *to = x.to_f64() as f32);
            let largest = blockwise::encode(map, numbers, codes);
            blockwise::decode(map, largest, codes, numbers);
            block.iter_mut().zip(numbers.iter()).for_each(|(x, from)| *x = widened(*from));
        }
    });
}

impl<F: Number> Stored<F> {
    pub(crate) fn new(formats: Formats, kinds: Vec<Kind>, elements: usize) -> Self {
        let full = formats.params.keep().filter(|_| formats.params.is_exact());
        Self { formats, kinds, full: full.map(|_| vec![F::zero(); elements]) }
    }

    /// How a step with these draws rounds parameters. `None`: the parameters are f32.
    fn rounding(&self, draws: Option<StochasticRounding>) -> Option<HalfRounding> {
        let format = self.formats.params.format();
        Some(match (self.formats.params.keep()?, draws) {
            (RoundingMode::Split, _) => HalfRounding::Upper,
            (RoundingMode::Stochastic, Some(draws)) => HalfRounding::Stochastic(format, draws),
            (RoundingMode::Nearest | RoundingMode::Master | RoundingMode::Stochastic, _) => {
                HalfRounding::Nearest(format)
            }
        })
    }

    /// Takes the parameters in full precision. A parameter that the caller wrote over since the last step takes the caller's value. `None`:
    /// the storage keeps no full precision.
    pub(crate) fn recall(&mut self, params: &[F]) -> Option<Vec<F>> {
        let rounding = self.rounding(None)?;
        let mut full = self.full.take()?;
        for (full, p) in full.iter_mut().zip(params) {
            let given = p.to_f64() as f32;
            let seen = widen(rounding.format(), rounding.bits(0, full.to_f64() as f32));
            if seen.to_bits() != given.to_bits() {
                *full = self.begun(*full, *p);
            }
        }
        Some(full)
    }

    /// The number in full precision for a parameter that the caller wrote: the parameter itself. A split parameter keeps its remainder.
    fn begun(&self, full: F, p: F) -> F {
        let (given, old) = ((p.to_f64() as f32).to_bits(), full.to_f64() as f32);
        let is_upper_half = given & 0xffff == 0;
        if self.formats.params.keep() == Some(RoundingMode::Split) && is_upper_half {
            return widened(join((given >> 16) as u16, split(old).1));
        }
        p
    }

    /// Keeps the parameters in full precision, and rounds the caller's parameters to the numbers that the model sees.
    pub(crate) fn release(&mut self, full: Option<Vec<F>>, params: &mut [F], draws: Option<StochasticRounding>) {
        if let Some(full) = &full {
            params.copy_from_slice(full);
        }
        self.full = full;
        if let Some(rounding) = self.rounding(draws) {
            rounding.round(params, Kind::Signed);
        }
    }
}

/// The random draws of one step's stochastic rounding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draws {
    pub(crate) key: u32,
    /// The count of earlier steps that rounded.
    pub(crate) steps: u32,
}

impl Draws {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { key: rounding_key(seed), steps: 0 }
    }

    pub(crate) const fn of(self, tensor: usize, array: u32) -> StochasticRounding {
        StochasticRounding::new(self.key, self.steps, tensor as u32, array)
    }
}

/// Rounds gradients to numbers that buffers of these formats hold.
pub(crate) fn round_gradients<'a, F: Number>(formats: &[Format], grads: impl Iterator<Item = &'a mut [F]>) {
    for (format, g) in formats.iter().zip(grads) {
        if *format != Format::F32 {
            HalfRounding::Nearest(*format).round(g, Kind::Signed);
        }
    }
}
