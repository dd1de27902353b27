//! The arrays of an arena: their names, the widths of their numbers, and where they begin.
//!
//! An arena holds a header, then the arrays of f32, one after the other. Each array covers all tensors of the shard. The packed arrays
//! follow where the device allows another binding to begin: first the 16-bit arrays, one word per two numbers; then the 8-bit arrays, one
//! word per four numbers, each followed by one word per block with the largest magnitude of the block. All arrays have the same length, counted in
//! vec4s of numbers: the stride.

use crate::gpu::layout::class::Class;
use crate::gpu::layout::memory::Role;
use crate::gpu::layout::units::{ACCUMULATOR, AVERAGE, BLOCK_VEC4S, Counts, MASTER, REMAINDER, ROW_STEPS, VEC4};
use crate::optim::procedure::spec::ArraySpec;
use crate::optim::{Kind, StateSpec};
use crate::options::storage::blockwise::BLOCK;
use crate::options::storage::{Form, Packed, RoundingMode};

/// One of the arena's arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Array {
    pub(crate) name: &'static str,
    /// The role under which memory usage counts the bytes of the array.
    pub(crate) role: Role,
    pub(crate) form: Form,
    /// The kind of numbers, for a state.
    pub(crate) kind: Kind,
    /// Whether its content is undefined between steps.
    pub(crate) scratch: bool,
    /// The arrays that lie before this one.
    pub(crate) before: Counts,
}

impl Array {
    /// Numbers as the array stores them.
    pub(crate) fn pack(&self, values: &[f32]) -> Packed {
        self.form.pack(self.kind, values)
    }

    /// Whether the array rounds its numbers stochastically.
    pub(crate) fn is_stochastic(&self) -> bool {
        self.form == Form::Half { stochastic: true }
    }
}

/// A stretch of an arena, in bytes.
pub(crate) type Stretch = std::ops::Range<u64>;

impl Array {
    /// The bytes of the numbers of a run.
    pub(crate) fn stretch(&self, run: &crate::gpu::layout::tables::StateRun) -> Stretch {
        let (vec4, elements) = (run.vec4, run.elements as u64);
        let word = |first: u64, words: u64| {
            let start = run.packed + 4 * (self.before.words(run.stride) + first);
            start..start + 4 * words
        };
        match self.form {
            Form::Whole => {
                let start = (crate::gpu::layout::units::ARENA_HEADER + vec4 + self.before.whole * run.stride) * VEC4;
                start..start + 4 * elements
            }
            Form::Half { .. } | Form::Remainder => word(2 * vec4, elements.div_ceil(2)),
            Form::Blocks(_) => word(vec4, elements.div_ceil(4)),
        }
    }

    /// The length of these numbers in bytes, with the largest magnitudes of their blocks.
    pub(crate) fn bytes(&self, run: &crate::gpu::layout::tables::StateRun) -> u64 {
        let length = |stretch: Stretch| stretch.end - stretch.start;
        length(self.stretch(run)) + self.largest(run).map_or(0, length)
    }

    /// The bytes of the largest magnitudes of the blocks of a run.
    pub(crate) fn largest(&self, run: &crate::gpu::layout::tables::StateRun) -> Option<Stretch> {
        let Form::Blocks(_) = self.form else { return None };
        let first = self.before.words(run.stride) + run.stride + run.vec4 / BLOCK_VEC4S;
        let start = run.packed + 4 * first;
        Some(start..start + 4 * (run.elements as u64).div_ceil(BLOCK as u64))
    }
}

impl Class {
    /// The arrays of the arena, in order: the kept states, the accumulator, the average of the weights, the step counts, the master or remainder of the
    /// parameters, the arrays of the procedure.
    pub(crate) fn arrays(&self) -> Vec<Array> {
        let exact = |role, name| (role, name, Form::Whole, Kind::Exact, false);
        let accumulator = self.around.accumulate.map(|_| exact(Role::Accumulator, ACCUMULATOR));
        let average = self.around.ema.map(|_| exact(Role::Average, AVERAGE));
        let precision = match self.formats.params.keep() {
            Some(RoundingMode::Master) => Some(exact(Role::Master, MASTER)),
            Some(RoundingMode::Split) => Some((Role::Remainder, REMAINDER, Form::Remainder, Kind::Exact, false)),
            None | Some(RoundingMode::Nearest | RoundingMode::Stochastic) => None,
        };
        let procedure = self.procedure.as_ref().map_or_else(Vec::new, |procedure| procedure.arrays(self.given));
        let of_procedure =
            |array: ArraySpec| (Role::Procedure(array.role), array.name, Form::Whole, Kind::Exact, array.scratch);
        let procedure = procedure.into_iter().map(of_procedure);
        let state = |(k, state): (usize, &StateSpec)| {
            let role = if state.scratch { Role::Procedure(state.name) } else { Role::State(state.name) };
            (role, state.name, Form::of(state.kind, self.formats.state(k)), state.kind, state.scratch)
        };
        let states = self.kept().map(state);
        let mut before = Counts::default();
        let place = |(role, name, form, kind, scratch): (Role, &'static str, Form, Kind, bool)| {
            let array = Array { name, role, form, kind, scratch, before };
            before = before.with(form);
            array
        };
        let steps = self.has_row_steps().then(|| exact(Role::RowSteps, ROW_STEPS));
        states.chain(accumulator).chain(average).chain(steps).chain(precision).chain(procedure).map(place).collect()
    }

    /// The count of arrays of each width.
    pub(crate) fn array_counts(&self) -> Counts {
        self.arrays().last().map_or_else(Counts::default, |last| last.before.with(last.form))
    }

    /// Whether the class rounds parameters or states stochastically.
    pub(crate) fn rounds_stochastically(&self) -> bool {
        self.formats.params.keep() == Some(RoundingMode::Stochastic) || self.arrays().iter().any(Array::is_stochastic)
    }

    /// The number of an f32 array among the f32 arrays; 0 if the class has no array of this name.
    pub(crate) fn whole(&self, name: &str) -> u64 {
        self.arrays().iter().find(|a| a.name == name && a.form == Form::Whole).map_or(0, |a| a.before.whole)
    }
}

/// The name of the parameters, beside the names of the arrays.
#[cfg(any(feature = "checkpoint", feature = "custom"))]
pub(crate) const PARAM: &str = "param";

/// Whether the parameters, or an array beside the states of a rule, have this name.
#[cfg(feature = "custom")]
pub(crate) fn is_taken(name: &str) -> bool {
    let own =
        [PARAM, ACCUMULATOR, AVERAGE, ROW_STEPS].contains(&name) || crate::gpu::layout::units::keeps_precision(name);
    own || crate::optim::procedure::is_taken(name)
}
