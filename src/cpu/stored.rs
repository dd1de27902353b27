//! What a tensor's storage keeps on the host, and how it rounds. Numbers in f64 go through f32 first; where a format is f32, or full
//! precision is kept, they stay as exact as they are.

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
    /// What its states hold.
    pub(crate) kinds: Vec<Kind>,
    /// The parameters in full, where they are kept beside those that the model sees. At first zeros, which nothing but zero is rounded from.
    pub(crate) full: Option<Vec<F>>,
}

/// How a number becomes a half.
#[derive(Clone, Copy)]
pub(crate) enum HalfRounding {
    Nearest(Format),
    /// As it is split: ties away from zero.
    Upper,
    Chance(Format, StochasticRounding),
}

impl HalfRounding {
    fn bits(self, element: usize, x: f32) -> u16 {
        match self {
            Self::Nearest(format) => nearest(format, x),
            Self::Upper => split(x).0,
            Self::Chance(format, chances) => stochastic(format, x, chances.of(element as u32)),
        }
    }

    const fn format(self) -> Format {
        match self {
            Self::Nearest(format) | Self::Chance(format, _) => format,
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

/// Rounds an array to what eight bits hold.
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

    /// How a step with these chances rounds parameters; `None`: they are f32.
    fn rounding(&self, chances: Option<StochasticRounding>) -> Option<HalfRounding> {
        let format = self.formats.params.format();
        Some(match (self.formats.params.keep()?, chances) {
            (RoundingMode::Split, _) => HalfRounding::Upper,
            (RoundingMode::Stochastic, Some(chances)) => HalfRounding::Chance(format, chances),
            (RoundingMode::Nearest | RoundingMode::Master | RoundingMode::Stochastic, _) => {
                HalfRounding::Nearest(format)
            }
        })
    }

    /// Takes the parameters in full, brought up to what the caller may have written over those that the model sees; nothing where they are
    /// not kept.
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

    /// What is kept in full beside a parameter that somebody wrote: the parameter itself, and of what was split the remainder.
    fn begun(&self, full: F, p: F) -> F {
        let (given, old) = ((p.to_f64() as f32).to_bits(), full.to_f64() as f32);
        let is_upper_half = given & 0xffff == 0;
        if self.formats.params.keep() == Some(RoundingMode::Split) && is_upper_half {
            return widened(join((given >> 16) as u16, split(old).1));
        }
        p
    }

    /// Keeps the parameters in full, and rounds them to those that the model sees.
    pub(crate) fn release(&mut self, full: Option<Vec<F>>, params: &mut [F], chances: Option<StochasticRounding>) {
        if let Some(full) = &full {
            params.copy_from_slice(full);
        }
        self.full = full;
        if let Some(rounding) = self.rounding(chances) {
            rounding.round(params, Kind::Signed);
        }
    }
}

/// What decides which way numbers are rounded in one step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draws {
    pub(crate) key: u32,
    /// How many steps rounded before this one.
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

/// Rounds gradients to what buffers of these formats hold.
pub(crate) fn round_gradients<'a, F: Number>(formats: &[Format], grads: impl Iterator<Item = &'a mut [F]>) {
    for (format, g) in formats.iter().zip(grads) {
        if *format != Format::F32 {
            HalfRounding::Nearest(*format).round(g, Kind::Signed);
        }
    }
}
