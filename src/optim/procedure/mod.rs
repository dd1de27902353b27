//! Procedures: the parts of a step beside the sums and the update of one element. Probes evaluate the loss around the parameters; integrators
//! move the parameters between evaluations; a matrix multiplies the gradient; an iteration makes matrices orthogonal; factors stand for a
//! state of matrices. The elementwise mathematics is the rule's.
//!
//! A procedure is one file here and its WGSL in `shaders/procedures`. It implements [`Procedure`], and the engine names none: layout, memory
//! usage, checkpoints, texts and steps follow from the description. The form for the CPU lies in `cpu/procedure`.

mod adjust;
pub(crate) mod evaluation;
pub(crate) mod factors;
mod integrate;
pub(crate) mod integrator;
mod orthogonalize;
mod probe;
pub mod record;
pub mod script;
pub mod spec;
mod warp;

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

pub use adjust::AdjustLr;
pub use factors::Factors;
pub use integrate::Scheme;
pub use orthogonalize::Orthogonalize;
pub(crate) use probe::LOSS_STRIDE;
pub use probe::{Directions, Probe};
#[cfg(feature = "checkpoint")]
pub(crate) use warp::BEFORE;
pub use warp::Warp;
pub(crate) use warp::{COLUMNS, check_matrix};

use record::PassRecord;
use script::Script;
use spec::{ArraySpec, FactorSpec, Feature, IterationSpec, PassSpec, RoundSpec};

/// The parts of a rule's step beside its sums and its update.
///
/// All methods describe: they depend on the settings of the procedure alone, so that two procedures with equal settings are equal.
pub trait Procedure: Debug + Send + Sync + Any {
    /// The arrays beside the states of the rule, in the order of the arena. `given`: the caller gives the directions of probes.
    fn arrays(&self, _given: bool) -> Vec<ArraySpec> {
        Vec::new()
    }

    /// The conditions that the WGSL of the procedure uses beside those of every class.
    fn conditions(&self, _given: bool) -> Vec<(&'static str, bool)> {
        Vec::new()
    }

    /// The constants of its WGSL. `place` gives the number of one of its arrays among the f32 arrays of the arena.
    fn constants(&self, _place: &dyn Fn(&str) -> u64) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    /// Its pass over the elements of every tensor.
    fn pass(&self) -> Option<PassSpec> {
        None
    }

    /// Its iteration over the matrices of a state, after the pass and before the update.
    fn iteration(&self) -> Option<IterationSpec> {
        None
    }

    /// Its rounds of sums, beside those that every step of the rule makes.
    fn rounds(&self) -> Vec<RoundSpec> {
        Vec::new()
    }

    /// The records that its passes read, where the host knows them before the step. `seed` is the key of random directions.
    fn records(&self, _seed: u32) -> Vec<PassRecord> {
        Vec::new()
    }

    /// The array that holds the gradient for the update, if the pass makes that gradient.
    fn gradient(&self) -> Option<&'static str> {
        None
    }

    /// The state that matrices keep as factors.
    fn factors(&self) -> Option<FactorSpec> {
        None
    }

    /// The count of losses that the step asks for: at the parameters and at each probe. 0: it asks for none. With losses, the decision comes
    /// from their slopes.
    fn losses(&self) -> usize {
        0
    }

    /// The moves of a step. `None`: the step asks for the gradient alone. `submits`: the step submits its own passes, so that the script may
    /// read numbers back.
    fn script(&self, _submits: bool) -> Option<Box<dyn Script>> {
        None
    }

    /// The call that a step needs, if [`Optimizer::step`](crate::Optimizer::step) cannot make it.
    fn needs_call(&self) -> Option<&'static str> {
        None
    }

    /// Whether the moves of a step depend on numbers that the host reads back.
    fn reads_back(&self) -> bool {
        false
    }

    /// The reason why a step of `rule` cannot have this feature, as the end of an error's sentence.
    fn refuses(&self, _rule: &str, _feature: Feature) -> Option<String> {
        None
    }

    /// The reason why `rule` cannot step a tensor of this shape.
    fn refuses_shape(&self, _rule: &str, _shape: &[usize]) -> Option<String> {
        None
    }

    /// The count of f32 arrays that its pass reads and writes in a bare step.
    fn traffic(&self) -> usize {
        0
    }
}

impl PartialEq for dyn Procedure {
    /// The debug text holds the type's name and all settings.
    fn eq(&self, other: &Self) -> bool {
        self.type_id() == other.type_id() && format!("{self:?}") == format!("{other:?}")
    }
}

/// A procedure that rules and classes share. `None`: the step has only sums and the update.
pub type Shared = Option<Arc<dyn Procedure>>;

/// The procedure of this type, if it has this type.
pub(crate) fn downcast<P: Procedure>(procedure: &Shared) -> Option<&P> {
    let any: &dyn Any = procedure.as_deref()?;
    any.downcast_ref()
}

/// Whether a step with this procedure evaluates the objective more than once.
#[must_use]
pub(crate) fn evaluates(procedure: &Shared) -> bool {
    procedure.as_ref().is_some_and(|procedure| procedure.losses() > 0 || procedure.needs_call().is_some())
}

/// The count of probes of a procedure.
#[must_use]
pub fn probes(procedure: &Shared) -> usize {
    procedure.as_ref().map_or(0, |procedure| procedure.losses().saturating_sub(1))
}

/// The reason why a step of `rule` with this procedure cannot have this feature.
#[must_use]
pub fn refusal(procedure: &Shared, rule: &str, feature: Feature) -> Option<String> {
    procedure.as_ref().and_then(|procedure| procedure.refuses(rule, feature))
}

/// Whether an array of any procedure has this name.
#[cfg(feature = "custom")]
pub(crate) fn is_taken(name: &str) -> bool {
    [probe::NAMES, integrate::NAMES, warp::NAMES].iter().any(|names| names.iter().any(|part| part.contains(&name)))
}

/// The state that the matrices of a rule with this procedure keep as factors.
#[must_use]
pub fn factors(procedure: &Shared) -> Option<FactorSpec> {
    procedure.as_ref().and_then(|procedure| procedure.factors())
}

/// The reason of a procedure that evaluates gradients, for [`Feature::Shards`].
fn evaluates_whole(rule: &str) -> String {
    format!("{rule} evaluates gradients of whole tensors inside a step")
}

/// The reason of a procedure that steps whole tensors, for [`Feature::Rows`].
fn whole_tensors(rule: &str) -> String {
    format!("{rule} moves or mixes whole tensors inside its step: row sets and column rates are for the other rules")
}
