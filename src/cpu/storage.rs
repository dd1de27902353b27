//! Storage on the host: between steps its numbers are those that the storage can hold, so that it does what the GPU does when it loads and
//! stores. Numbers in f64 go through f32 first; where a format is f32, or full precision is kept, they stay as exact as they are.

use super::{Number, Optimizer, Tensor, walk};
use crate::optim::Kind;
use crate::options::storage::blockwise;
use crate::options::storage::blockwise::{BLOCK, Map};
use crate::options::storage::half::{
    StochasticRounding, join, nearest, not_zero, rounding_key, split, stochastic, widen,
};
use crate::options::storage::{Format, Formats, Params, RoundingMode, StateFormat};
use crate::{Error, Result, Storage};

/// How a tensor is stored.
#[derive(Clone, Debug)]
pub(crate) struct Stored<F> {
    pub(crate) formats: Formats,
    /// What its states hold.
    kinds: Vec<Kind>,
    /// The parameters in full, where they are kept beside those that the model sees. At first zeros, which nothing but zero is rounded from.
    pub(crate) full: Option<Vec<F>>,
}

impl<F> Default for Stored<F> {
    fn default() -> Self {
        Self { formats: Formats::default(), kinds: Vec::new(), full: None }
    }
}

/// How a number becomes a half.
#[derive(Clone, Copy)]
enum Rounding {
    Nearest(Format),
    /// As it is split: ties away from zero.
    Upper,
    Chance(Format, StochasticRounding),
}

impl Rounding {
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
    fn round<F: Number>(self, values: &mut [F], kind: Kind) {
        let one = |element: usize, x: &mut F| {
            let narrow = x.to_f64() as f32;
            let bits = self.bits(element, narrow);
            let bits = if kind == Kind::Positive { not_zero(bits, narrow) } else { bits };
            *x = widened(widen(self.format(), bits));
        };
        walk::pieces(values, 0, &|first, piece: &mut [F]| {
            piece.iter_mut().enumerate().for_each(|(i, x)| one(first + i, x));
        });
    }
}

fn widened<F: Number>(x: f32) -> F {
    F::from_f64(f64::from(x))
}

/// Rounds an array to what eight bits hold.
fn round_blocks<F: Number>(values: &mut [F], map: Map) {
    walk::pieces(values, 0, &|_, piece: &mut [F]| {
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
    fn new(formats: Formats, kinds: Vec<Kind>, elements: usize) -> Self {
        let full = formats.params.keep().filter(|_| formats.params.is_exact());
        Self { formats, kinds, full: full.map(|_| vec![F::zero(); elements]) }
    }

    /// How a step with these chances rounds parameters; `None`: they are f32.
    fn rounding(&self, chances: Option<StochasticRounding>) -> Option<Rounding> {
        let format = self.formats.params.format();
        Some(match (self.formats.params.keep()?, chances) {
            (RoundingMode::Split, _) => Rounding::Upper,
            (RoundingMode::Stochastic, Some(chances)) => Rounding::Chance(format, chances),
            (RoundingMode::Nearest | RoundingMode::Master | RoundingMode::Stochastic, _) => Rounding::Nearest(format),
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
    fn release(&mut self, full: Option<Vec<F>>, params: &mut [F], chances: Option<StochasticRounding>) {
        if let Some(full) = &full {
            params.copy_from_slice(full);
        }
        self.full = full;
        if let Some(rounding) = self.rounding(chances) {
            rounding.round(params, Kind::Signed);
        }
    }
}

impl<F: Number> Tensor<F> {
    /// Rounds the states from before the first step.
    pub(crate) fn round_first_states(&mut self) {
        self.round_states(None);
    }

    /// Rounds the states as a step with these chances does; without chances to the nearest.
    fn round_states(&mut self, chances: Option<&dyn Fn(u32) -> StochasticRounding>) {
        let kept = self.states.iter_mut().enumerate().filter_map(|(at, state)| Some((at, state.as_deref_mut()?)));
        for (array, (at, state)) in (1..).zip(kept) {
            let kind = self.stored.kinds.get(at).copied().unwrap_or_default();
            match (self.stored.formats.state(at), chances) {
                (StateFormat::F32, _) => {}
                (StateFormat::Bf16Stochastic, Some(of)) => Rounding::Chance(Format::Bf16, of(array)).round(state, kind),
                (StateFormat::Bf16 | StateFormat::Bf16Stochastic, _) => {
                    Rounding::Nearest(Format::Bf16).round(state, kind);
                }
                (StateFormat::Blockwise8, _) => round_blocks(state, Map::of(kind)),
            }
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

    const fn of(self, tensor: usize, array: u32) -> StochasticRounding {
        StochasticRounding::new(self.key, self.steps, tensor as u32, array)
    }
}

/// Rounds what a step made of the states, and counts it.
pub(crate) fn round_states<F: Number>(tensors: &mut [Tensor<F>], draws: &mut Draws) {
    for (t, tensor) in tensors.iter_mut().enumerate() {
        tensor.round_states(Some(&|array| draws.of(t, array)));
    }
    draws.steps = draws.steps.wrapping_add(1);
}

/// Storage.
impl<F: Number> Optimizer<F> {
    /// Stores every tensor so: [`with_tensor_storage`](Self::with_tensor_storage).
    ///
    /// # Errors
    /// As there.
    pub fn with_storage(self, storage: &Storage) -> Result<Self> {
        (0..self.tensors.len()).try_fold(self, |optimizer, tensor| optimizer.with_tensor_storage(tensor, storage))
    }

    /// Stores a tensor so: after every step its parameters, as the caller holds them, and its states are numbers that the storage can
    /// hold, rounded as on the GPU; gradients are rounded to the nearest before they are used. Initial parameters are the caller's to
    /// round, with [`store_params`](Self::store_params). What is kept beside parameters in half precision is kept in here.
    ///
    /// ```
    /// use wgpu_optim::cpu::{Optimizer, TensorSpec};
    /// use wgpu_optim::AdamW;
    ///
    /// # fn main() -> wgpu_optim::Result<()> {
    /// let tensors = vec![TensorSpec { name: "w".to_owned(), group: 0, elements: 2 }];
    /// let mut optimizer = Optimizer::<f32>::new(vec![("all".to_owned(), AdamW::default().into())], tensors)?
    ///     .with_tensor_storage(0, &"bf16-split,states=bf16-sr".parse()?)?;
    /// let mut w = [1.0, 2.0];
    /// optimizer.step(&mut [&mut w], &[&[0.1, 0.1]])?;
    /// assert_eq!(w, [1.0, 2.0], "0.999 and 1.999 are kept, their nearest bf16 are these");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// There is no such tensor; steps were applied; a storage that the rule does not allow, or row sets; nothing was changed then.
    pub fn with_tensor_storage(mut self, tensor: usize, storage: &Storage) -> Result<Self> {
        if self.applied > 0 {
            let problem = format!("{} steps were applied: storage is chosen before the first", self.applied);
            return Err(Error::Usage(problem));
        }
        let count = self.tensors.len();
        let missing = || Error::Usage(format!("tensor {tensor} does not exist, there are {count}"));
        let in_rows = self.rows.hold(tensor);
        let found = self.tensors.get_mut(tensor).ok_or_else(missing)?;
        let rule = self.groups[found.spec.group].rule.as_ref();
        let formats = storage.formats(rule, found.spec.elements as u64)?;
        if in_rows || found.shared.is_some() {
            formats.need_rows(&found.spec.name)?;
        }
        let kinds = rule.states().iter().map(|state| state.kind).collect();
        found.stored = Stored::new(formats, kinds, found.spec.elements);
        found.round_first_states();
        Ok(self)
    }

    /// Rounds parameters to those that the model is to see, as initial values must be, to the nearest; what a storage keeps beside them
    /// is what they lose by it.
    ///
    /// # Errors
    /// A count or length that does not fit.
    pub fn store_params(&mut self, params: &mut [&mut [F]]) -> Result<()> {
        self.check_count("parameters", params.len())?;
        for (tensor, p) in self.tensors.iter_mut().zip(params) {
            tensor.check_length("parameter", p.len())?;
            let full = tensor.stored.recall(p);
            tensor.stored.release(full, p, None);
        }
        Ok(())
    }

    /// Does something to the parameters in full, and leaves the caller with those that the model sees.
    pub(crate) fn in_full(
        &mut self,
        params: &mut [&mut [F]],
        work: impl FnOnce(&mut Self, &mut [&mut [F]]) -> Result<()>,
    ) -> Result<()> {
        if self.tensors.iter().all(|tensor| tensor.stored.formats.params == Params::F32) {
            return work(self, params);
        }
        // Those of this step, whose end counts on.
        let draws = self.draws;
        let recalled = self.tensors.iter_mut().zip(params.iter());
        let mut fulls: Vec<Option<Vec<F>>> = recalled.map(|(tensor, p)| tensor.stored.recall(p)).collect();
        let worked = {
            let both = params.iter_mut().zip(&mut fulls);
            let mut params: Vec<&mut [F]> = both.map(|(p, full)| full.as_deref_mut().unwrap_or(p)).collect();
            work(self, &mut params)
        };
        for (t, ((tensor, p), full)) in self.tensors.iter_mut().zip(params).zip(fulls).enumerate() {
            match worked {
                Ok(()) => tensor.stored.release(full, p, Some(draws.of(t, 0))),
                Err(_) => tensor.stored.full = full,
            }
        }
        worked
    }

    /// The formats of the gradients; nothing where all are f32.
    pub(crate) fn gradient_formats(&self) -> Option<Vec<Format>> {
        let formats = self.tensors.iter().map(|tensor| tensor.stored.formats.grads);
        Some(formats.collect()).filter(|all: &Vec<Format>| all.iter().any(|format| *format != Format::F32))
    }

    /// Gradients as buffers of their formats hold them; nothing where all are f32.
    pub(crate) fn stored_gradients(&self, grads: &[&[F]]) -> Option<Vec<Vec<F>>> {
        let formats = self.gradient_formats()?;
        let mut rounded: Vec<Vec<F>> = grads.iter().map(|g| g.to_vec()).collect();
        round_gradients(&formats, rounded.iter_mut().map(Vec::as_mut_slice));
        Some(rounded)
    }
}

/// Rounds gradients to what buffers of these formats hold.
pub(crate) fn round_gradients<'a, F: Number>(formats: &[Format], grads: impl Iterator<Item = &'a mut [F]>) {
    for (format, g) in formats.iter().zip(grads) {
        if *format != Format::F32 {
            Rounding::Nearest(*format).round(g, Kind::Signed);
        }
    }
}
