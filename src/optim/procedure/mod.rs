//! The parts of a step around the update of one element, for rules that need more than elementwise mathematics: probes of the loss, an
//! integrator that moves the parameters between evaluations, a matrix that multiplies the gradient. The elementwise mathematics belongs to the rule.

pub(crate) mod evaluation;
pub(crate) mod integrator;

use crate::optim::rule::settings::choice;
use crate::{Error, Result};

/// The parts of a rule's step beside its sums and its update.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Procedure {
    /// No other part.
    #[default]
    Plain,
    /// The caller evaluates the loss along random directions; the decision comes from the slopes.
    Probe(Probe),
    /// If the decision says so, the parameters follow the flow of the clipped gradient, and the update receives the displacement.
    Integrate(Scheme),
    /// The update receives `P g` in place of the gradient.
    Warp(Warp),
}

impl Procedure {
    /// Whether a step may skip some elements of a tensor.
    #[must_use]
    pub const fn steps_rows(self) -> bool {
        matches!(self, Self::Plain | Self::Probe(_))
    }
}

/// Probes of the loss around the parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probe {
    /// The number of directions.
    pub count: usize,
    /// The part of a direction that has length one.
    pub directions: Directions,
}

choice! {
    /// The part of a probe's direction that has length one.
    Directions {
        /// The part in each tensor, as in the authors' code.
        Tensor = "tensor",
        /// The whole direction, as in the paper.
        Global = "global",
    }
}

/// A method that integrates the flow, with evaluations of the gradient between its stages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scheme {
    /// The classical fourth-order method in one step.
    Rk4,
    /// Dormand–Prince 5(4) with step control.
    Dopri5 {
        /// The relative and the absolute tolerance.
        tolerance: f64,
    },
}

impl Scheme {
    /// The number of derivatives that the scheme keeps.
    #[must_use]
    pub const fn stages(self) -> usize {
        match self {
            Self::Rk4 => 4,
            Self::Dopri5 { .. } => 7,
        }
    }
}

/// One matrix per tensor, block-diagonal over the elements of the tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warp {
    /// Rows and columns of a block, a power of two; the last block of a tensor may be smaller.
    pub block: usize,
    /// Whether the matrices change.
    pub learned: bool,
}

/// Checks a tensor's matrix: a row of `block` numbers for each element, zeros past the end of a smaller last block.
pub(crate) fn check_matrix<F: super::rule::Real>(tensor: &str, warp: Warp, elements: usize, rows: &[F]) -> Result<()> {
    let bad = |problem| Error::Tensor { tensor: tensor.to_owned(), problem };
    let b = warp.block;
    if rows.len() != elements * b {
        return Err(bad(format!("its matrix has {} numbers, needs {elements} rows of {b}", rows.len())));
    }
    let tail = elements % b;
    let past = rows.chunks_exact(b).skip(elements - tail).any(|row| row[tail..].iter().any(|x| *x != F::zero()));
    if past {
        return Err(bad(format!("its matrix has a number past the end of its last block, which has {tail} columns")));
    }
    Ok(())
}
