//! A step on the host.

use crate::cpu::around::Surroundings;
use crate::cpu::counts::scale_tensors;
use crate::cpu::decide::{self, Decider};
use crate::cpu::fold;
use crate::cpu::hyper::{Scaled, scale};
use crate::cpu::number::Number;
use crate::cpu::part::Part;
use crate::cpu::storage::round_states;
use crate::cpu::stored::Draws;
use crate::cpu::tensor::TensorState;
use crate::cpu::walk;
use crate::{Error, Result};

impl<F: Number> Part<F> {
    /// Adds the gradients of a micro-batch to the accumulator.
    pub(crate) fn accumulate(&mut self, grads: &[&[F]]) -> Result<()> {
        self.check_accumulates(grads)?;
        self.accumulate_given(grads);
        self.tensors.iter_mut().for_each(|tensor| tensor.waiting = true);
        Ok(())
    }

    /// Adds checked gradients to the accumulator.
    pub(crate) fn accumulate_given(&mut self, grads: &[&[F]]) {
        match self.stored_gradients(grads) {
            None => self.around.accumulate(grads),
            Some(rounded) => self.around.accumulate(&slices(&rounded)),
        }
    }

    /// Checks everything that [`accumulate`](Self::accumulate) may refuse.
    pub(crate) fn check_accumulates(&self, grads: &[&[F]]) -> Result<()> {
        self.check_accumulation()?;
        self.check_count("gradients", grads.len())?;
        grads.iter().enumerate().try_for_each(|(t, g)| self.check_length(t, "gradient", g.len()))
    }

    /// Checks that the part accumulates, and that its parameters are those at which the rule trains.
    pub(crate) fn check_accumulation(&self) -> Result<()> {
        self.mode.check_trains()?;
        let accumulates = self.around.around.accumulate.map(|_| ());
        accumulates.ok_or_else(|| Error::Usage("the optimizer was built without accumulate".to_owned()))
    }

    /// One step: it changes parameters and states, and [`step_count`](Self::step_count) counts it.
    pub(crate) fn step(&mut self, params: &mut [&mut [F]], grads: &[&[F]]) -> Result<()> {
        self.check_step(params, grads)?;
        if self.spec.tensors.iter().any(|info| info.frozen) {
            let mut params: Vec<&mut [F]> = params.iter_mut().zip(&self.tensors).map(|(p, t)| t.live_mut(p)).collect();
            let grads: Vec<&[F]> = grads.iter().zip(&self.tensors).map(|(g, t)| t.live(g)).collect();
            return self.step_live(&mut params, &grads);
        }
        self.step_live(params, grads)
    }

    /// Checks everything that [`step`](Self::step) may refuse.
    pub(crate) fn check_step(&self, params: &[&mut [F]], grads: &[&[F]]) -> Result<()> {
        self.check_whole()?;
        self.check_lengths(params, grads)?;
        self.check_schedules()
    }

    /// Checks the values of the schedules at the next step.
    pub(crate) fn check_schedules(&self) -> Result<()> {
        scale::<F>(&self.spec.groups, self.step_count + 1).map(|_| ())
    }

    /// Gathers the gradients of the next step, so that the parts can share their norms.
    pub(crate) fn gather<'a>(&mut self, grads: &[&'a [F]]) {
        let live = |(g, tensor): (&&'a [F], &TensorState<F>)| if tensor.takes { tensor.live(g) } else { g };
        let live: Vec<&[F]> = grads.iter().zip(&self.tensors).map(live).collect();
        let rounded = self.stored_gradients(&live);
        let live = rounded.as_deref().map_or(live, slices);
        let (group_of, takes) = self.places();
        self.around.gather(&self.spec.groups, &group_of, &mut self.rows, (&takes, &live));
    }

    /// Checks that the rule evaluates nothing inside the step, and that its probes came before.
    pub(crate) fn check_whole(&self) -> Result<()> {
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
        let (group_of, takes) = self.places();
        let goes = self.around.prepare(&self.spec.groups, &group_of, &mut self.rows, (&takes, grads));
        self.tensors.iter_mut().for_each(|tensor| tensor.waiting = false);
        goes.then(|| std::mem::take(&mut self.around.prepared))
    }

    /// The group of each tensor, and whether the step takes the tensor.
    fn places(&self) -> (Vec<usize>, Vec<bool>) {
        self.tensors.iter().map(|tensor| (tensor.spec.group, tensor.takes)).unzip()
    }

    /// The step of the rule, with gradients as the rule sees them.
    pub(crate) fn apply(&mut self, params: &mut [&mut [F]], grads: &[&[F]]) -> Result<()> {
        let mut groups =
            scale_tensors(&self.spec.groups, &mut self.tensors, self.step_count + 1, self.around.around.own_counts)?;
        fold::fold(&mut groups, &mut self.tensors, grads);
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
        let passed = passed.iter().zip(grads).map(|(made, g)| made.as_deref().unwrap_or(g));
        walk::update(groups, tensors, params, &passed.collect::<Vec<_>>());
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

/// The gradients for the update that the procedure's pass makes; `None` where it makes none.
fn passed<F: Number>(groups: &[Scaled<'_, F>], tensors: &mut [TensorState<F>], grads: &[&[F]]) -> Vec<Option<Vec<F>>> {
    let one = |(tensor, g): (&mut TensorState<F>, &&[F])| {
        let group = &groups[tensor.scaled];
        let states = &mut tensor.states;
        tensor.pass.as_mut().and_then(|pass| pass.pass(group, g, states))
    };
    tensors.iter_mut().zip(grads).map(one).collect()
}
