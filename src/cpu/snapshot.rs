//! The arrays and counters of an optimizer that a checkpoint saves and restores.

use crate::cpu::around::Counters;
use crate::cpu::factors::Factors;
use crate::cpu::number::Number;
use crate::cpu::part::Part;
use crate::gpu::access::snapshot::Rounding;
use crate::gpu::layout::units::ROW_STEPS;
use crate::optim::Kind;
use crate::options::storage::{Form, Params};

impl<F: Number> Part<F> {
    /// The arrays of a tensor beside its parameters, under the names of the optimizer on the GPU.
    pub(crate) fn arrays(&self, tensor: usize) -> Vec<(&'static str, &[F])> {
        let kept = &self.tensors[tensor];
        if self.spec.tensors[tensor].frozen {
            return Vec::new();
        }
        let states = self.spec.groups[kept.spec.group].rule.states().into_iter().zip(&kept.states);
        let states =
            states.filter(|(spec, _)| !spec.scratch).filter_map(|(spec, state)| Some((spec.name, state.as_deref()?)));
        let pass = kept.pass.iter().flat_map(|pass| pass.arrays());
        let factors = kept.factors.iter().flat_map(Factors::arrays);
        let steps = kept.row_steps.iter().map(|steps| (ROW_STEPS, steps.as_slice()));
        states.chain(self.around.arrays(tensor)).chain(steps).chain(pass).chain(factors).collect()
    }

    /// As [`arrays`](Self::arrays), for writing.
    pub(crate) fn arrays_mut(&mut self, tensor: usize) -> Vec<(&'static str, &mut [F])> {
        if self.spec.tensors[tensor].frozen {
            return Vec::new();
        }
        let kept = &mut self.tensors[tensor];
        let states = self.spec.groups[kept.spec.group].rule.states().into_iter().zip(&mut kept.states);
        let states = states
            .filter(|(spec, _)| !spec.scratch)
            .filter_map(|(spec, state)| Some((spec.name, state.as_deref_mut()?)));
        let pass = kept.pass.iter_mut().flat_map(|pass| pass.arrays_mut());
        let factors = kept.factors.iter_mut().flat_map(Factors::arrays_mut);
        let steps = kept.row_steps.iter_mut().map(|steps| (ROW_STEPS, steps.as_mut_slice()));
        states.chain(self.around.arrays_mut(tensor)).chain(steps).chain(pass).chain(factors).collect()
    }

    /// The form of an array of a tensor, and the kind of its numbers.
    pub(crate) fn form(&self, tensor: usize, array: &str) -> (Form, Kind) {
        let kept = &self.tensors[tensor];
        let states = self.spec.groups[kept.spec.group].rule.states();
        let state = states.iter().enumerate().find(|(_, state)| state.name == array);
        state.map_or((Form::Whole, Kind::Exact), |(at, state)| {
            (Form::of(state.kind, kept.stored.formats.state(at)), state.kind)
        })
    }

    /// The storage of a tensor's parameters.
    pub(crate) fn param_storage(&self, tensor: usize) -> Params {
        self.tensors[tensor].stored.formats.params
    }

    /// The parameters of a tensor in full precision, from the parameters that the model sees. `None`: the storage keeps no full precision.
    pub(crate) fn full_params(&self, tensor: usize, params: &[F]) -> Option<Vec<F>> {
        self.tensors[tensor].stored.clone().recall(params)
    }

    /// Sets the parameters of a tensor in full precision, where the storage keeps them.
    pub(crate) fn put_full_params(&mut self, tensor: usize, values: &[f32]) {
        if let Some(full) = &mut self.tensors[tensor].stored.full {
            full.iter_mut().zip(values).for_each(|(full, x)| *full = F::from_f64(f64::from(*x)));
        }
    }

    /// The key and the count from which the draws of the next step follow. `None`: no array is rounded stochastically.
    pub(crate) fn rounding(&self) -> Option<Rounding> {
        let stochastic = self.tensors.iter().any(|tensor| tensor.stored.formats.round_stochastically());
        stochastic.then_some(Rounding { key: self.draws.key, steps: self.draws.steps })
    }

    pub(crate) fn set_rounding(&mut self, rounding: Rounding) {
        (self.draws.key, self.draws.steps) = (rounding.key, rounding.steps);
    }

    pub(crate) fn counters(&self) -> Counters {
        Counters { step_count: self.step_count, ..self.around.counters() }
    }

    pub(crate) fn set_counters(&mut self, counters: Counters) {
        self.set_step_count(counters.step_count);
        self.around.set_counters(counters);
    }
}
