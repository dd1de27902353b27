//! Storage on the host. Between steps, parameters and states are numbers that the storage can hold, as on the GPU, where kernels round what they
//! store.

use crate::Result;
use crate::cpu::number::Number;
use crate::cpu::part::Part;
use crate::cpu::stored::{Draws, HalfRounding, round_blocks, round_gradients};
use crate::cpu::tensor::TensorState;
use crate::options::storage::blockwise::Map;
use crate::options::storage::half::StochasticRounding;
use crate::options::storage::{Format, Params, StateFormat};

impl<F: Number> TensorState<F> {
    /// Rounds the first values of the states to nearest.
    pub(crate) fn round_first_states(&mut self) {
        self.round_states(None);
    }

    /// Rounds the states as a step with these draws does. Without draws, rounds to nearest.
    fn round_states(&mut self, draws: Option<&dyn Fn(u32) -> StochasticRounding>) {
        let kept = self.states.iter_mut().enumerate().filter_map(|(at, state)| Some((at, state.as_deref_mut()?)));
        for (array, (at, state)) in (1..).zip(kept) {
            let kind = self.stored.kinds.get(at).copied().unwrap_or_default();
            match (self.stored.formats.state(at), draws) {
                (StateFormat::F32, _) => {}
                (StateFormat::Bf16Stochastic, Some(of)) => {
                    HalfRounding::Stochastic(Format::Bf16, of(array)).round(state, kind);
                }
                (StateFormat::Bf16 | StateFormat::Bf16Stochastic, _) => {
                    HalfRounding::Nearest(Format::Bf16).round(state, kind);
                }
                (StateFormat::Blockwise8, _) => round_blocks(state, Map::of(kind)),
            }
        }
    }
}

/// Rounds the states after a step, and counts the step.
pub(crate) fn round_states<F: Number>(tensors: &mut [TensorState<F>], draws: &mut Draws) {
    for (t, tensor) in tensors.iter_mut().enumerate().filter(|(_, tensor)| tensor.takes) {
        tensor.round_states(Some(&|array| draws.of(t, array)));
    }
    draws.steps = draws.steps.wrapping_add(1);
}

/// Storage.
impl<F: Number> Part<F> {
    /// Rounds parameters to nearest, to the numbers that the model sees.
    pub(crate) fn store_params(&mut self, params: &mut [&mut [F]]) -> Result<()> {
        self.check_params(params)?;
        for ((tensor, info), p) in self.tensors.iter_mut().zip(&self.spec.tensors).zip(params) {
            // The storage keeps no full precision for a frozen tensor.
            let full = if info.frozen { None } else { tensor.stored.recall(p) };
            tensor.stored.release(full, p, None);
        }
        Ok(())
    }

    /// Runs `work` on the parameters in full precision, and leaves the caller with the parameters that the model sees.
    pub(crate) fn in_full(
        &mut self,
        params: &mut [&mut [F]],
        work: impl FnOnce(&mut Self, &mut [&mut [F]]) -> Result<()>,
    ) -> Result<()> {
        if self.tensors.iter().all(|tensor| tensor.stored.formats.params == Params::F32) {
            return work(self, params);
        }
        // Copied before `work`, because `work` counts the step and so changes the draws.
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

    /// The formats of the gradients. `None`: all are f32.
    pub(crate) fn gradient_formats(&self) -> Option<Vec<Format>> {
        let formats = self.tensors.iter().map(|tensor| tensor.stored.formats.grads);
        Some(formats.collect()).filter(|all: &Vec<Format>| all.iter().any(|format| *format != Format::F32))
    }

    /// Gradients rounded to their formats. `None`: all are f32.
    pub(crate) fn stored_gradients(&self, grads: &[&[F]]) -> Option<Vec<Vec<F>>> {
        let formats = self.gradient_formats()?;
        let mut rounded: Vec<Vec<F>> = grads.iter().map(|g| g.to_vec()).collect();
        round_gradients(&formats, rounded.iter_mut().map(Vec::as_mut_slice));
        Some(rounded)
    }
}
