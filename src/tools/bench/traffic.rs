//! The bytes per element that a step must move.

use super::{Feature, With};
use crate::Result;
use crate::optim::{Rule, StateSpec};
use crate::options::storage::blockwise::BLOCK;
use crate::options::storage::{Formats, RoundingMode, StateFormat, Storage};

/// Bytes of an f32.
pub(super) const F32: f64 = 4.0;

/// The bytes per element that one step of a rule must move if every array is f32. A step reads parameter, gradient and kept states, and
/// writes parameter and states. A rule with sums reads once more the arrays that [`Rule::sums_read`] names. WarpAdam's product reads
/// gradient and matrix and writes `P g`; if WarpAdam learns, the product also reads v and the last gradient, and writes the last gradient
/// and the matrix. Probes and integrators are not part of a bare step.
#[must_use]
pub fn bytes_per_element(rule: &dyn Rule) -> f64 {
    Traffic { rule, formats: Formats::default() }.step()
}

/// As [`bytes_per_element`], for tensors of `elements` elements in this storage. Each block of 256 eight-bit numbers has an f32 with its
/// largest magnitude, which the step reads and writes too. A step reads a parameter in half precision beside its master copy.
///
/// # Errors
/// The rule refuses the storage.
pub fn bytes_per_element_stored(rule: &dyn Rule, storage: &Storage, elements: usize) -> Result<f64> {
    Ok(Traffic::new(rule, storage, elements)?.step())
}

/// A rule with the formats of its numbers.
pub(super) struct Traffic<'a> {
    rule: &'a dyn Rule,
    formats: Formats,
}

impl<'a> Traffic<'a> {
    pub(super) fn new(rule: &'a dyn Rule, storage: &Storage, elements: usize) -> Result<Self> {
        Ok(Self { rule, formats: storage.formats(rule, elements as u64)? })
    }

    /// The bytes per element of a bare step.
    fn step(&self) -> f64 {
        let update = 2.0 * self.param() + self.grad() + 2.0 * self.states().map(|(_, bytes)| bytes).sum::<f64>();
        update + self.sums() + self.rule.procedure().map_or(0, |procedure| procedure.traffic()) as f64 * F32
    }

    /// The bytes per element of a step with these features. A clip by norm and a loss scale read the gradient once more, unless the rule's
    /// sums read it anyway; a rule that needs the clipped gradient takes its sums after those of the clip. The average is read and written, and so are
    /// step counts of rows.
    /// The accumulator is read wherever the gradient is read. The update clears it, and its own dispatch reads and writes it beside the
    /// gradient.
    pub(super) fn step_with(&self, with: &With) -> f64 {
        let clip = with.has(Feature::Clip);
        let rule_reads = self.rule.sums_read().contains(&"g");
        let reads_again = (clip || with.has(Feature::Scale)) && (!rule_reads || clip && self.rule.sums().after_clip);
        let share = |on: bool, bytes: f64| if on { bytes } else { 0.0 };
        let accumulator = {
            let (update, own_dispatch) = (2.0 * F32, 2.0 * F32 + self.grad());
            update + share(rule_reads, F32) + share(reads_again, F32) + own_dispatch
        };
        self.step()
            + share(reads_again, self.grad())
            + share(with.has(Feature::Ema), 2.0 * F32)
            + share(with.has(Feature::Fresh) && self.rule.own_count().is_some(), 2.0 * F32)
            + share(with.has(Feature::Accumulate), accumulator)
    }

    /// The memory of the optimizer's arrays, in bytes per element.
    pub(super) fn memory(&self) -> f64 {
        self.param() + self.grad() + self.states().map(|(_, bytes)| bytes).sum::<f64>()
    }

    /// A parameter with its master copy or remainder.
    fn param(&self) -> f64 {
        let rest = match self.formats.params.keep() {
            Some(RoundingMode::Master) => F32,
            Some(RoundingMode::Split) => 2.0,
            None | Some(RoundingMode::Nearest | RoundingMode::Stochastic) => 0.0,
        };
        self.formats.params.format().bytes() as f64 + rest
    }

    fn grad(&self) -> f64 {
        self.formats.grads.bytes() as f64
    }

    fn states(&self) -> impl Iterator<Item = (StateSpec, f64)> {
        let bytes = |format| match format {
            StateFormat::F32 => F32,
            StateFormat::Bf16 | StateFormat::Bf16Stochastic => 2.0,
            StateFormat::Blockwise8 => 1.0 + F32 / BLOCK as f64,
        };
        let states = self.rule.states().into_iter().enumerate().filter(|(_, state)| state.used);
        states.map(move |(k, state)| (state, bytes(self.formats.state(k))))
    }

    /// The arrays that the sums read.
    fn sums(&self) -> f64 {
        let read = |name: &&str| match *name {
            "p" => self.param(),
            "g" => self.grad(),
            state => self.states().find(|(spec, _)| spec.name == state).map_or(0.0, |(_, bytes)| bytes),
        };
        self.rule.sums_read().iter().map(read).sum()
    }
}
