//! The evaluations of the objective that a step requests.

/// One requested evaluation, at the parameters as they are at the time of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvalRequest {
    /// The gradient, which the caller writes to the gradients' buffers.
    Gradient,
    /// The loss, for the slot of this number: 0 at the parameters themselves, `j` at the j-th probe.
    Loss(usize),
}

/// Counts of evaluations of the objective.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evaluations {
    /// Gradients.
    pub gradients: u64,
    /// Losses without a gradient.
    pub losses: u64,
    /// Integrations that stopped because they could not meet their tolerance. Their steps became Adam steps.
    pub abandoned: u64,
}

impl Evaluations {
    /// The difference to an earlier count.
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
