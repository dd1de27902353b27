//! The arena's arrays: which there are, how wide their numbers are, and where they begin.
//!
//! An arena holds a header, then the arrays of whole f32, one behind the other, each over all tensors of the launch; then, where the
//! device lets another binding begin, the packed ones in the same way: halves, a word for two numbers; bytes, a word for four, and behind
//! these a word a block with its largest magnitude. All are as long, counted in vec4s of numbers: the stride.

use super::arrays;
use crate::gpu::layout::launches::VEC4;
use crate::gpu::layout::class::{ACCUMULATOR, AVERAGE, Variant};
use crate::gpu::layout::memory::Role;
use crate::optim::{Kind, StateSpec};
use crate::options::storage::blockwise::BLOCK;
use crate::options::storage::{Form, Keep, Packed};

/// The f32 copy of parameters in half precision.
pub(crate) const MASTER: &str = "master";
/// What bf16 parameters lack of an f32.
pub(crate) const REMAINDER: &str = "remainder";

/// Whether an array of this name keeps the precision of parameters.
pub(crate) fn keeps_precision(name: &str) -> bool {
    [MASTER, REMAINDER].contains(&name)
}

/// Vec4s of numbers that share a block: arrays with blocks are so many times as long, so that no block is of two tensors.
pub(crate) const BLOCK_VEC4S: u64 = BLOCK as u64 / 4;

/// How many arrays of each width.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) whole: u64,
    pub(crate) halves: u64,
    pub(crate) bytes: u64,
}

impl Counts {
    const fn with(self, form: Form) -> Self {
        match form {
            Form::Whole => Self { whole: self.whole + 1, ..self },
            Form::Half { .. } | Form::Remainder => Self { halves: self.halves + 1, ..self },
            Form::Blocks(_) => Self { bytes: self.bytes + 1, ..self },
        }
    }

    /// Whether anything is packed.
    pub(crate) const fn packs(self) -> bool {
        self.halves + self.bytes > 0
    }

    /// Words of the packed arrays of this length.
    pub(crate) const fn words(self, stride: u64) -> u64 {
        stride * (2 * self.halves + self.bytes) + stride / BLOCK_VEC4S * self.bytes
    }

    /// Tensors begin at multiples of so many vec4s.
    pub(crate) const fn alignment(self) -> u64 {
        if self.bytes > 0 { BLOCK_VEC4S } else { 1 }
    }
}

/// One of the arena's arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Array {
    pub(crate) name: &'static str,
    /// What it is to users who count its bytes.
    pub(crate) role: Role,
    pub(crate) form: Form,
    /// Which numbers it holds, of a state.
    pub(crate) kind: Kind,
    /// Those that lie before it.
    pub(crate) before: Counts,
}

impl Array {
    /// Numbers as it stores them.
    pub(crate) fn pack(&self, values: &[f32]) -> Packed {
        self.form.pack(self.kind, values)
    }

    /// Whether its numbers are rounded by chance.
    pub(crate) fn by_chance(&self) -> bool {
        self.form == Form::Half { chance: true }
    }
}

/// A stretch of an arena, in bytes.
pub(crate) type Stretch = std::ops::Range<u64>;

impl Array {
    /// Where `elements` numbers from a vec4 on lie, counted behind the header: whole vec4s of f32, or words.
    pub(crate) fn stretch(&self, run: &crate::gpu::layout::launches::StateRun) -> Stretch {
        let (vec4, elements) = (run.vec4, run.elements as u64);
        let word = |first: u64, words: u64| {
            let start = run.packed + 4 * (self.before.words(run.stride) + first);
            start..start + 4 * words
        };
        match self.form {
            Form::Whole => {
                let start = (crate::gpu::layout::launches::ARENA_HEADER + vec4 + self.before.whole * run.stride) * VEC4;
                start..start + 4 * elements
            }
            Form::Half { .. } | Form::Remainder => word(2 * vec4, elements.div_ceil(2)),
            Form::Blocks(_) => word(vec4, elements.div_ceil(4)),
        }
    }

    /// Bytes of these numbers, with what their blocks share.
    pub(crate) fn bytes(&self, run: &crate::gpu::layout::launches::StateRun) -> u64 {
        let length = |stretch: Stretch| stretch.end - stretch.start;
        length(self.stretch(run)) + self.largest(run).map_or(0, length)
    }

    /// Where the largest magnitudes of the same numbers' blocks lie.
    pub(crate) fn largest(&self, run: &crate::gpu::layout::launches::StateRun) -> Option<Stretch> {
        let Form::Blocks(_) = self.form else { return None };
        let first = self.before.words(run.stride) + run.stride + run.vec4 / BLOCK_VEC4S;
        let start = run.packed + 4 * first;
        Some(start..start + 4 * (run.elements as u64).div_ceil(BLOCK as u64))
    }
}

impl Variant {
    /// The arena's arrays: the kept states, the accumulator, the average of the weights, what keeps the parameters' precision, the
    /// procedure's.
    pub(crate) fn arrays(&self) -> Vec<Array> {
        let exact = |role, name| (role, name, Form::Whole, Kind::Exact);
        let accumulator = self.around.accumulate.map(|_| exact(Role::Accumulator, ACCUMULATOR));
        let average = self.around.ema.map(|_| exact(Role::Average, AVERAGE));
        let precision = match self.formats.params.keep() {
            Some(Keep::Master) => Some(exact(Role::Master, MASTER)),
            Some(Keep::Split) => Some((Role::Remainder, REMAINDER, Form::Remainder, Kind::Exact)),
            None | Some(Keep::Nearest | Keep::Stochastic) => None,
        };
        let procedure = arrays::of(self.procedure, self.given).into_iter().map(|name| exact(arrays::role(name), name));
        let state = |(k, state): (usize, &StateSpec)| {
            (Role::State(state.name), state.name, Form::of(state.kind, self.formats.state(k)), state.kind)
        };
        let states = self.kept().map(state);
        let mut before = Counts::default();
        let place = |(role, name, form, kind): (Role, &'static str, Form, Kind)| {
            let array = Array { name, role, form, kind, before };
            before = before.with(form);
            array
        };
        states.chain(accumulator).chain(average).chain(precision).chain(procedure).map(place).collect()
    }

    /// How many of each width.
    pub(crate) fn array_counts(&self) -> Counts {
        self.arrays().last().map_or_else(Counts::default, |last| last.before.with(last.form))
    }

    /// Whether anything is rounded by chance.
    pub(crate) fn takes_chances(&self) -> bool {
        self.formats.params.keep() == Some(Keep::Stochastic) || self.arrays().iter().any(Array::by_chance)
    }

    /// The number of an f32 array among these, 0 where it is not there.
    pub(crate) fn whole(&self, name: &str) -> u64 {
        self.arrays().iter().find(|a| a.name == name && a.form == Form::Whole).map_or(0, |a| a.before.whole)
    }
}
