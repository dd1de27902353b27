//! A step on the host.

use crate::cpu::around::Surroundings;
use crate::cpu::counts::scale_tensors;
use crate::cpu::decide::{self, Decider};
use crate::cpu::hyper::Scaled;
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
        self.accumulate_given(grads);
        self.tensors.iter_mut().for_each(|tensor| tensor.waiting = true);
        Ok(())
    }

    /// As [`accumulate`](Self::accumulate), for a micro-batch with gradients of some tensors alone; `None`: the micro-batch has no gradient of
    /// this tensor. The step of the window takes every tensor with a gradient in a micro-batch of the window.
    ///
    /// # Errors
    /// As [`accumulate`](Self::accumulate) and [`step_tensors`](Self::step_tensors).
    pub fn accumulate_tensors(&mut self, grads: &[Option<&[F]>]) -> Result<()> {
        self.mode.check_trains()?;
        self.check_partial()?;
        if self.around.around.accumulate.is_none() {
            return Err(Error::Usage("the optimizer was built without accumulate".to_owned()));
        }
        self.check_some(grads)?;
        let given: Vec<&[F]> = grads.iter().map(|g| g.unwrap_or_default()).collect();
        self.accumulate_given(&given);
        for (tensor, g) in self.tensors.iter_mut().zip(grads) {
            tensor.waiting |= g.is_some();
        }
        Ok(())
    }

    fn accumulate_given(&mut self, grads: &[&[F]]) {
        match self.stored_gradients(grads) {
            None => self.around.accumulate(grads),
            Some(rounded) => self.around.accumulate(&slices(&rounded)),
        }
    }

    /// Checks the count and the lengths of the gradients of some tensors.
    fn check_some(&self, grads: &[Option<&[F]>]) -> Result<()> {
        self.check_count("gradients", grads.len())?;
        let given = grads.iter().enumerate().filter_map(|(t, g)| Some((t, (*g)?)));
        given.into_iter().try_for_each(|(t, g)| self.check_length(t, "gradient", g.len()))
    }

    /// One step that leaves out the tensors without a gradient: their parameters, states, averages, accumulators and step counts stay as they
    /// are, and they have no part in sums. With accumulation, the step also takes the tensors with gradients in their accumulators.
    ///
    /// ```
    /// use wgpu_optim::{AdamW, Group, Optimizer};
    ///
    /// let mut builder = Optimizer::builder(AdamW { lr: 0.1, weight_decay: 0.5, ..AdamW::default() });
    /// let used = builder.tensor(Group::DEFAULT, "expert 1", &[2]);
    /// let unused = builder.tensor(Group::DEFAULT, "expert 2", &[2]);
    /// let mut optimizer = builder.partial_steps(true).build_cpu::<f32>()?;
    /// let (mut a, mut b) = ([1.0, 2.0], [0.85, 1.0]);
    /// optimizer.step_tensors(&mut [&mut a, &mut b], &[Some(&[0.1, -0.1]), None])?;
    /// assert_eq!(b, [0.85, 1.0]);
    /// assert_eq!((optimizer.tensor_step_count(used)?, optimizer.tensor_step_count(unused)?), (1, 0));
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    ///
    /// # Errors
    /// The builder did not set [`Builder::partial_steps`](crate::Builder::partial_steps); otherwise as [`step`](Self::step).
    pub fn step_tensors(&mut self, params: &mut [&mut [F]], grads: &[Option<&[F]>]) -> Result<()> {
        self.check_partial()?;
        self.check_whole()?;
        self.check_count("parameters", params.len())?;
        params.iter().enumerate().try_for_each(|(t, p)| self.check_length(t, "parameter", p.len()))?;
        self.check_some(grads)?;
        let mut zeros = Vec::with_capacity(grads.len());
        for (tensor, g) in self.tensors.iter_mut().zip(grads) {
            tensor.takes = g.is_some() || tensor.waiting;
            zeros.push(vec![F::zero(); if g.is_none() && tensor.takes { tensor.spec.elements } else { 0 }]);
        }
        let given = grads.iter().zip(&self.tensors).zip(&zeros);
        let given: Vec<&[F]> =
            given.map(|((g, tensor), zeros)| g.map_or(zeros.as_slice(), |g| tensor.live(g))).collect();
        let mut params: Vec<&mut [F]> = params.iter_mut().zip(&self.tensors).map(|(p, t)| t.live_mut(p)).collect();
        let stepped = self.step_live(&mut params, &given);
        self.tensors.iter_mut().for_each(|tensor| tensor.takes = true);
        stepped
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
        self.check_whole()?;
        self.check_lengths(params, grads)?;
        if self.spec.tensors.iter().any(|info| info.frozen) {
            let mut params: Vec<&mut [F]> = params.iter_mut().zip(&self.tensors).map(|(p, t)| t.live_mut(p)).collect();
            let grads: Vec<&[F]> = grads.iter().zip(&self.tensors).map(|(g, t)| t.live(g)).collect();
            return self.step_live(&mut params, &grads);
        }
        self.step_live(params, grads)
    }

    /// Checks that the rule evaluates nothing inside the step, and that its probes came before.
    fn check_whole(&self) -> Result<()> {
        if self.spec.rule().procedure().is_some_and(|procedure| procedure.needs_call().is_some()) {
            let rule = self.spec.rule().name();
            return Err(Error::Usage(format!("{rule} evaluates gradients inside the step: call step_with")));
        }
        self.mode.check_trains()?;
        self.spec.check_probed(self.probes.probed)
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
        if self.around.passes_gradients() && !self.leaves() {
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

    /// Whether the step may leave out elements.
    pub(crate) fn leaves(&self) -> bool {
        !self.rows.is_empty() || self.tensors.iter().any(|tensor| !tensor.takes)
    }

    /// The gradients as the rule sees them. `None`: the step is skipped. The caller puts the gradients back into `around.prepared`.
    pub(crate) fn prepare(&mut self, grads: &[&[F]]) -> Option<Vec<Vec<F>>> {
        let group_of: Vec<usize> = self.tensors.iter().map(|t| t.spec.group).collect();
        let takes: Vec<bool> = self.tensors.iter().map(|tensor| tensor.takes).collect();
        let goes = self.around.prepare(&self.spec.groups, &group_of, &mut self.rows, (&takes, grads));
        self.tensors.iter_mut().for_each(|tensor| tensor.waiting = false);
        goes.then(|| std::mem::take(&mut self.around.prepared))
    }

    /// The step of the rule, with gradients as the rule sees them.
    pub(crate) fn apply(&mut self, params: &mut [&mut [F]], grads: &[&[F]]) -> Result<()> {
        let groups =
            scale_tensors(&self.spec.groups, &mut self.tensors, self.step_count + 1, self.around.around.own_counts)?;
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
    let counts = u64::from(decide::counts(groups, tensors));
    *step_count += counts;
    for tensor in tensors.iter_mut().filter(|tensor| tensor.takes) {
        tensor.steps += counts;
        let one = F::from_f64(counts as f64);
        tensor.row_steps.iter_mut().flatten().for_each(|steps| *steps = *steps + one);
    }
}

/// The gradients for the update, which the procedure's pass makes.
fn passed<F: Number>(groups: &[Scaled<'_, F>], tensors: &mut [TensorState<F>], grads: &[&[F]]) -> Vec<Vec<F>> {
    let one = |(tensor, g): (&mut TensorState<F>, &&[F])| {
        let group = &groups[tensor.scaled];
        let states = &tensor.states;
        tensor.pass.as_mut().map_or_else(|| g.to_vec(), |pass| pass.pass(group, g, states))
    };
    tensors.iter_mut().zip(grads).map(one).collect()
}
