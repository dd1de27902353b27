//! The step counts and the other numbers that are kept once per tensor, and the scalars of a step at those counts.

use std::collections::BTreeMap;

use crate::Result;
use crate::cpu::hyper::{Scaled, scale};
use crate::cpu::number::Number;
use crate::cpu::part::Part;
use crate::cpu::tensor::TensorState;
use crate::gpu::build::spec::{GroupInfo, Tensor};
#[cfg(feature = "checkpoint")]
use crate::gpu::layout::units::{STEPS, WAITING};

/// The rule of every group with its scalars at the `t`-th step. Where tensors have step counts of their own, the scalars at those counts follow,
/// with the settings of the `t`-th step, and every tensor gets the place of its own.
pub(crate) fn scale_tensors<'a, F: Number>(
    groups: &'a [GroupInfo],
    tensors: &mut [TensorState<F>],
    t: u64,
    own_counts: bool,
) -> Result<Vec<Scaled<'a, F>>> {
    let mut scaled = scale(groups, t)?;
    tensors.iter_mut().for_each(|tensor| tensor.scaled = tensor.spec.group);
    let mut places = BTreeMap::new();
    let mut place = |group: usize, n: u64| {
        if let Some(place) = places.get(&(group, n)) {
            return Ok(*place);
        }
        scaled.push(Scaled::at(&groups[group], t, n)?);
        places.insert((group, n), scaled.len() - 1);
        Ok(scaled.len() - 1)
    };
    for tensor in tensors.iter_mut().filter(|_| own_counts) {
        let group = tensor.spec.group;
        tensor.scaled = place(group, tensor.steps + 1)?;
        if let Some(steps) = &tensor.row_steps {
            let of_elements = steps.iter().map(|steps| place(group, steps.to_f64() as u64 + 1));
            tensor.places = of_elements.collect::<Result<_>>()?;
        }
    }
    Ok(scaled)
}

impl<F: Number> Part<F> {
    /// The step count of a tensor.
    pub(crate) fn tensor_step_count(&self, tensor: Tensor) -> Result<u64> {
        let tensor = self.spec.tensor(tensor)?;
        Ok(if self.spec.around.partial { self.tensors[tensor].steps } else { self.step_count })
    }

    /// Sets the step count of a tensor.
    pub(crate) fn set_tensor_step_count(&mut self, tensor: Tensor, t: u64) -> Result<()> {
        let tensor = self.spec.tensor(tensor)?;
        if !self.spec.around.partial {
            let problem = "it has the step count of the optimizer: call set_step_count, or tell the builder with partial_steps(true)";
            return Err(self.spec.tensors[tensor].error(problem.to_owned()));
        }
        self.restart_tensor(tensor, t);
        Ok(())
    }

    /// Sets the numbers that are kept for a tensor to those after `t` steps.
    pub(crate) fn restart_tensor(&mut self, tensor: usize, t: u64) {
        let kept = &mut self.tensors[tensor];
        let progress = self.spec.groups[kept.spec.group].rule.progress_after(t);
        kept.progress = progress.into_iter().map(F::from_f64).collect();
        (kept.steps, kept.waiting) = (t, false);
        kept.row_steps.iter_mut().for_each(|steps| steps.fill(F::from_f64(t as f64)));
    }

    /// The numbers that are kept for a tensor, under the names of the optimizer on the GPU.
    #[cfg(feature = "checkpoint")]
    pub(crate) fn numbers(&self, tensor: usize) -> Vec<(&'static str, f64)> {
        let kept = &self.tensors[tensor];
        let names = self.spec.groups[kept.spec.group].rule.progress().to_vec();
        let progress = names.into_iter().zip(kept.progress.iter().map(|x| x.to_f64()));
        let own = [(STEPS, kept.steps as f64), (WAITING, f64::from(u8::from(kept.waiting)))];
        progress.chain(own.into_iter().filter(|_| self.spec.around.partial)).collect()
    }

    /// Sets the numbers of a tensor that `saved` returns.
    #[cfg(feature = "checkpoint")]
    pub(crate) fn put_numbers(&mut self, tensor: usize, saved: impl Fn(&str) -> Option<f32>) {
        let kept = &mut self.tensors[tensor];
        let names = self.spec.groups[kept.spec.group].rule.progress();
        for (to, name) in kept.progress.iter_mut().zip(names) {
            *to = saved(name).map_or(*to, |x| F::from_f64(x.into()));
        }
        if self.spec.around.partial {
            kept.steps = saved(STEPS).map_or(kept.steps, |x| x as u64);
            kept.waiting = saved(WAITING).is_some_and(|x| x != 0.0);
        }
    }
}
