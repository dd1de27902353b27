//! The description of a procedure: its arrays, its pass, its rounds of sums, and the features that it may refuse. Plain data.

use super::adjust::AdjustLr;

/// An array of one f32 per element, beside the states of the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArraySpec {
    /// The name, which is the name in checkpoints too.
    pub name: &'static str,
    /// The line of reports of memory usage that counts it.
    pub role: &'static str,
    /// Whether its content is undefined between steps. Such an array is in no checkpoint.
    pub scratch: bool,
}

impl ArraySpec {
    pub(crate) const fn scratch(name: &'static str) -> Self {
        Self { name, role: name, scratch: true }
    }

    pub(crate) const fn kept(name: &'static str) -> Self {
        Self { name, role: name, scratch: false }
    }
}

/// A pass over the elements of every tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassSpec {
    /// The name on the command line.
    pub name: &'static str,
    /// The WGSL files, that of the entry point last.
    pub files: &'static [&'static str],
    /// The entry point.
    pub entry: &'static str,
    /// The entry point that runs once, when the optimizer is built.
    pub setup: Option<&'static str>,
    /// Whether it reads the gradient.
    pub reads_gradient: bool,
    /// Whether the gradient that it reads is clipped by norm.
    pub clips_by_norm: bool,
    /// Whether each dispatch reads a record of its own.
    pub reads_record: bool,
    /// Whether it reads the totals of the last round of sums.
    pub reads_totals: bool,
    /// Whether it does nothing where the step is skipped.
    pub skips: bool,
    /// Whether every step runs it before the update. Otherwise the script of the step runs it.
    pub before_update: bool,
}

/// An iteration over the matrices of a state, between the pass and the update. X is the matrix, transposed where it has more rows than
/// columns. `X ← X/max(‖X‖, ε)`, then `steps` times `X ← aX + (bA + cA²)X` with `A = XXᵀ`, then `X ← kX`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IterationSpec {
    /// The state of the rule that holds the matrices before and after.
    pub array: &'static str,
    /// The number of iterations, at least 1.
    pub steps: u32,
    /// a, b and c.
    pub coefficients: [f64; 3],
    /// ε.
    pub eps: f64,
    /// How k follows from the shape.
    pub adjust: AdjustLr,
}

/// A state that a matrix keeps as two factors: the weighted means of the squared gradient over each row and over each column. The state is their
/// product, divided by the mean of the first. Tensors of fewer than two dimensions keep the state itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FactorSpec {
    /// The state.
    pub state: &'static str,
    /// The flag of the rule that holds where the state that a text sees comes from factors.
    pub flag: &'static str,
    /// The name of the rows' means in checkpoints and reports.
    pub rows: &'static str,
    /// The name of the columns' means.
    pub columns: &'static str,
    /// The member of `Hyper` that weighs the new means.
    pub share: &'static str,
    /// The member of `Hyper` below which no divisor falls.
    pub least: &'static str,
}

/// A round of sums that a procedure adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoundSpec {
    /// The sums of the rule again. The decisions are completed with them.
    Rule,
    /// This many sums of terms that `wo_procedure_terms` computes from a record, and no decision.
    Own(usize),
}

/// A feature that a procedure may refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// Steps over some rows or elements of a tensor, and rates per column.
    Rows,
    /// Parameters in half precision.
    HalfParams,
    /// Measurements of steps.
    Telemetry,
    /// A clip by norm.
    ClipByNorm,
    /// A loss scale.
    LossScale,
    /// Gradients of micro-batches, joined.
    Accumulate,
    /// Step counts of single tensors or rows.
    OwnCounts,
    /// Tensors, or ranges of tensors, that other optimizers step.
    Shards,
    /// A range of a tensor of which other optimizers step the rest. A rule that refuses this feature alone steps a tensor whole or not at all.
    Ranges,
}
