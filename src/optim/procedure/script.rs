//! The script of a step: the moves of the step one after the other. The engine makes each move and knows no procedure.

use std::collections::VecDeque;
use std::fmt::Debug;

use super::evaluation::EvalRequest;
use super::record::PassRecord;

/// One move of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Move {
    /// The caller evaluates its objective.
    Ask(EvalRequest),
    /// The sums that every step of the rule makes, and the decisions from them.
    Decide,
    /// The sums of a round of the procedure, and no decision.
    Sum(usize),
    /// The sums of a round of the procedure, and the decisions, completed with them.
    Complete(usize),
    /// The pass of the procedure, with the record of this number.
    Pass(usize),
    /// Overwrites the first record. All moves before it are submitted first.
    Write(PassRecord),
    /// Numbers for the host; the script receives them with its next move. All moves before it are submitted first.
    Read(Reading),
    /// The caller's objective could not be followed; the step becomes a step without the procedure.
    Abandon,
    /// The update.
    Update,
}

/// The numbers of [`Move::Read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// A member of the first tensor's decision.
    Decision(&'static str),
    /// The totals of a round of the procedure over all tensors, each divided by the count of elements that are stepped.
    Means(usize),
    /// A scalar of the first group for this step.
    Scalar(&'static str),
}

/// The moves of a step, in order.
pub trait Script: Debug + Send + Sync {
    /// The next move; `None` after the last. `read` holds the numbers of the last [`Move::Read`].
    fn next(&mut self, read: &[f64]) -> Option<Move>;
}

/// A script that reads nothing.
#[derive(Clone, Debug)]
pub(crate) struct Fixed(VecDeque<Move>);

impl Fixed {
    pub(crate) fn new(moves: impl IntoIterator<Item = Move>) -> Self {
        Self(moves.into_iter().collect())
    }

    /// The step of a rule without a procedure, or with a pass that every step runs.
    pub(crate) fn plain() -> Self {
        Self::new([Move::Ask(EvalRequest::Gradient), Move::Decide, Move::Update])
    }
}

impl Script for Fixed {
    fn next(&mut self, _: &[f64]) -> Option<Move> {
        self.0.pop_front()
    }
}
