//! A step on the host.

use crate::cpu::around::Surroundings;
use crate::cpu::decide::{self, Decider};
use crate::cpu::hyper::{Scaled, scale};
use crate::cpu::number::Number;
use crate::cpu::optimizer::Optimizer;
use crate::cpu::storage::round_states;
use crate::cpu::stored::Draws;
use crate::cpu::tensor::TensorState;
use crate::cpu::walk;
use crate::{Error, Result};

impl<F: Number> Optimizer<F> {
    /// Adds the gradients of a micro-batch to the accumulator. The step itself adds the last micro-batch.
    ///
    /// # Errors
    /// A count or length that does not fit; the builder did not set [`accumulate`](crate::Builder::accumulate).
    pub fn accumulate(&mut self, grads: &[&[F]]) -> Result<()> {
        self.mode.check_trains()?;
        if self.around.around.accumulate.is_none() {
            return Err(Error::Usage("the optimizer was built without accumulate".to_owned()));
        }
        self.check_count("gradients", grads.len())?;
        grads.iter().enumerate().try_for_each(|(t, g)| self.check_length(t, "gradient", g.len()))?;
        match self.stored_gradients(grads) {
            None => self.around.accumulate(grads),
            Some(rounded) => self.around.accumulate(&slices(&rounded)),
        }
        Ok(())
    }

    /// One step: it changes parameters and states, and [`step_count`](Self::step_count) counts it. `params` and `grads` come in the order of the
    /// tensors. A step that the rule refuses (Adai's, where every gradient so far was zero) changes nothing and is not counted.
    /// An optimizer whose tensors are all frozen or empty counts no step.
    ///
    /// # Errors
    /// A count or length that does not fit, a schedule's value out of range, a rule that evaluates gradients inside the step and needs
    /// [`step_with`](Self::step_with), a rule that probes, before its first probes
    /// ([`Builder::undamped_steps`](crate::Builder::undamped_steps)). Nothing is changed then.
    pub fn step(&mut self, params: &mut [&mut [F]], grads: &[&[F]]) -> Result<()> {
        if self.spec.rule().procedure().is_some_and(|procedure| procedure.needs_call().is_some()) {
            let rule = self.spec.rule().name();
            return Err(Error::Usage(format!("{rule} evaluates gradients inside the step: call step_with")));
        }
        self.mode.check_trains()?;
        self.spec.check_probed(self.probes.probed)?;
        self.check_lengths(params, grads)?;
        if self.spec.tensors.iter().any(|info| info.frozen) {
            let mut params: Vec<&mut [F]> = params.iter_mut().zip(&self.tensors).map(|(p, t)| t.live_mut(p)).collect();
            let grads: Vec<&[F]> = grads.iter().zip(&self.tensors).map(|(g, t)| t.live(g)).collect();
            return self.step_live(&mut params, &grads);
        }
        self.step_live(params, grads)
    }

    /// A step over the numbers that steps see. Steps see no number of a frozen tensor.
    pub(crate) fn step_live(&mut self, params: &mut [&mut [F]], grads: &[&[F]]) -> Result<()> {
        match self.stored_gradients(grads) {
            None => self.in_full(params, |optimizer, params| optimizer.step_in_full(params, grads)),
            Some(rounded) => {
                self.in_full(params, |optimizer, params| optimizer.step_in_full(params, &slices(&rounded)))
            }
        }
    }

    /// A step over parameters in full precision and rounded gradients.
    fn step_in_full(&mut self, params: &mut [&mut [F]], grads: &[&[F]]) -> Result<()> {
        if self.around.passes_gradients() && self.rows.is_empty() {
            return self.apply(params, grads);
        }
        let before = self.before(params);
        let stepped = match self.prepare(grads) {
            None => Ok(()),
            Some(prepared) => {
                let stepped = self.apply_selected(params, &slices(&prepared));
                self.around.prepared = prepared;
                stepped
            }
        };
        self.measure(before, params);
        stepped
    }

    /// The gradients as the rule sees them. `None`: the step is skipped. The caller puts the gradients back into `around.prepared`.
    pub(crate) fn prepare(&mut self, grads: &[&[F]]) -> Option<Vec<Vec<F>>> {
        let group_of: Vec<usize> = self.tensors.iter().map(|t| t.spec.group).collect();
        let goes = self.around.prepare(&self.spec.groups, &group_of, &mut self.rows, grads);
        goes.then(|| std::mem::take(&mut self.around.prepared))
    }

    /// The step of the rule, with gradients as the rule sees them.
    pub(crate) fn apply(&mut self, params: &mut [&mut [F]], grads: &[&[F]]) -> Result<()> {
        let groups = scale(&self.spec.groups, self.step_count + 1)?;
        let mut decider =
            Decider { totals: &mut self.totals, global_state: &mut self.global_state, slopes: &self.probes.slopes };
        if !decider.decide(&groups, &mut self.tensors, params, grads) {
            return Ok(());
        }
        conclude(&groups, &mut self.tensors, &mut self.around, (&mut self.step_count, &mut self.draws), params, grads);
        Ok(())
    }
}

pub(crate) fn slices<F>(arrays: &[Vec<F>]) -> Vec<&[F]> {
    arrays.iter().map(Vec::as_slice).collect()
}

/// The part of a step after the decision.
pub(crate) fn conclude<F: Number>(
    groups: &[Scaled<'_, F>],
    tensors: &mut [TensorState<F>],
    around: &mut Surroundings<F>,
    (step_count, draws): (&mut u64, &mut Draws),
    params: &mut [&mut [F]],
    grads: &[&[F]],
) {
    if *step_count == 0 {
        around.start_average(params);
    }
    if tensors.iter().any(|t| t.pass.is_some()) {
        let passed = passed(groups, tensors, grads);
        walk::update(groups, tensors, params, &slices(&passed));
    } else {
        walk::update(groups, tensors, params, grads);
    }
    round_states(tensors, draws);
    around.average(*step_count + 1, params);
    *step_count += u64::from(decide::counts(groups, tensors));
}

/// The gradients for the update, which the procedure's pass makes.
fn passed<F: Number>(groups: &[Scaled<'_, F>], tensors: &mut [TensorState<F>], grads: &[&[F]]) -> Vec<Vec<F>> {
    let one = |(tensor, g): (&mut TensorState<F>, &&[F])| {
        let group = &groups[tensor.spec.group];
        let states = &tensor.states;
        tensor.pass.as_mut().map_or_else(|| g.to_vec(), |pass| pass.pass(group, g, states))
    };
    tensors.iter_mut().zip(grads).map(one).collect()
}
