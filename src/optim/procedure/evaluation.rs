//! What a step asks of the objective while it is under way.

/// One evaluation, of the parameters as they are when it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvalRequest {
    /// The gradient, written to where the optimizer reads it.
    Gradient,
    /// The loss, for the slot of this number: 0 at the parameters themselves, `j` at the j-th probe.
    Loss(usize),
}

/// How often the objective was evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evaluations {
    /// Gradients.
    pub gradients: u64,
    /// Losses without a gradient.
    pub losses: u64,
    /// Integrations that were given up because they could not meet their tolerance: those steps were Adam's.
    pub abandoned: u64,
}

impl Evaluations {
    /// What was added to an earlier count.
    #[must_use]
    pub const fn since(self, before: Self) -> Self {
        Self {
            gradients: self.gradients - before.gradients,
            losses: self.losses - before.losses,
            abandoned: self.abandoned - before.abandoned,
        }
    }

    pub(crate) fn count(&mut self, evaluation: EvalRequest) {
        match evaluation {
            EvalRequest::Gradient => self.gradients += 1,
            EvalRequest::Loss(_) => self.losses += 1,
        }
    }
}
