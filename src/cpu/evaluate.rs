//! Steps with evaluations of the objective inside.

use crate::Result;
use crate::cpu::decide::{self, Decider};
use crate::cpu::flow::Flow;
use crate::cpu::hyper::scale;
use crate::cpu::number::Number;
use crate::cpu::objective::Evaluate;
use crate::cpu::part::Part;
use crate::cpu::procedure::{self, shared};
use crate::cpu::step::{conclude, slices};
use crate::cpu::stored::round_gradients;
use crate::cpu::tensor::TensorState;
use crate::optim::Rule;
use crate::optim::procedure::Scheme;
use crate::optim::procedure::evaluation::{EvalRequest, Evaluations};

impl<F: Number> Part<F> {
    /// One step of any rule, with all its evaluations.
    pub(crate) fn step_with(
        &mut self,
        params: &mut [&mut [F]],
        grads: &mut [&mut [F]],
        mut evaluate: impl FnMut(EvalRequest, &[&[F]], &mut [&mut [F]]) -> Result<f64>,
    ) -> Result<()> {
        {
            let params: Vec<&[F]> = shared(params);
            self.check_evaluation(&params, &shared(grads))?;
        }
        let loss = evaluate(EvalRequest::Gradient, &shared(params), grads)?;
        self.step_after(loss, params, grads, evaluate)
    }

    /// Checks everything that [`step_with`](Self::step_with) may refuse before the first evaluation.
    pub(crate) fn check_evaluation(&self, params: &[&[F]], grads: &[&[F]]) -> Result<()> {
        self.mode.check_trains()?;
        self.check_lengths(params, grads)
    }

    /// The step after the evaluation of the gradient at the parameters, which returned `loss`.
    pub(crate) fn step_after(
        &mut self,
        loss: f64,
        params: &mut [&mut [F]],
        grads: &mut [&mut [F]],
        mut evaluate: impl FnMut(EvalRequest, &[&[F]], &mut [&mut [F]]) -> Result<f64>,
    ) -> Result<()> {
        let formats = self.gradient_formats();
        let mut counts = Evaluations::default();
        counts.count(EvalRequest::Gradient);
        // The caller evaluates all tensors; the step sees the tensors that are not frozen.
        let (mut live, frozen): (Vec<&mut [F]>, Vec<&mut [F]>) =
            params.iter_mut().zip(&self.tensors).map(|(p, t)| split_at_live(p, t)).unzip();
        let (mut live_grads, mut frozen_grads): (Vec<&mut [F]>, Vec<&mut [F]>) =
            grads.iter_mut().zip(&self.tensors).map(|(g, t)| split_at_live(g, t)).unzip();
        let mut evaluate = |evaluation, params: &mut [&mut [F]], grads: &mut [&mut [F]]| {
            counts.count(evaluation);
            let all = whole(params, &frozen);
            let mut all_grads = whole_mut(grads, &mut frozen_grads);
            let loss = evaluate(evaluation, &all, &mut all_grads)?;
            if let (EvalRequest::Gradient, Some(formats)) = (evaluation, &formats) {
                round_gradients(formats, grads.iter_mut().map(|g| &mut **g));
            }
            Ok(loss)
        };
        if let Some(formats) = &formats {
            round_gradients(formats, live_grads.iter_mut().map(|g| &mut **g));
        }
        let procedure = procedure::of(&self.spec.rule().procedure());
        let stepped = procedure.step(self, loss, &mut live, &mut live_grads, &mut evaluate);
        self.evaluations.gradients += counts.gradients;
        self.evaluations.losses += counts.losses;
        stepped
    }

    /// A step of a rule that integrates between evaluations.
    pub(crate) fn step_along(
        &mut self,
        scheme: Scheme,
        params: &mut [&mut [F]],
        grads: &mut [&mut [F]],
        evaluate: &mut dyn Evaluate<F>,
    ) -> Result<()> {
        let before = self.before(params);
        let stepped = match self.prepare(&shared(grads)) {
            None => Ok(()),
            Some(start) => {
                let stepped = self.apply_along(scheme, params, grads, &start, evaluate);
                self.around.prepared = start;
                stepped
            }
        };
        self.measure(before, params);
        stepped
    }

    fn apply_along(
        &mut self,
        scheme: Scheme,
        params: &mut [&mut [F]],
        grads: &mut [&mut [F]],
        start: &[Vec<F>],
        evaluate: &mut dyn Evaluate<F>,
    ) -> Result<()> {
        let groups = scale(&self.spec.groups, self.step_count + 1)?;
        let start = slices(start);
        let before = self.global_state.clone();
        let mut decider = Decider { totals: &mut self.totals, global_state: &mut self.global_state, slopes: &[] };
        decider.decide(&groups, &mut self.tensors, params, &start);
        let follows = decide::held(&groups, &self.tensors);
        if follows {
            let signs = self.tensors.iter().map(|t| if self.spec.groups[t.spec.group].maximize { -1.0 } else { 1.0 });
            let mut flow = Flow::new(&groups, &self.tensors, params, &start, signs.map(F::from_f64).collect());
            let followed = flow.follow(scheme, params, grads, evaluate);
            flow.restore(params);
            if let Err(error) = followed {
                self.global_state = before;
                return Err(error);
            }
            self.evaluations.abandoned += u64::from(flow.abandoned);
            put_states(groups[0].rule, &mut self.tensors, "displacement", flow.displacement());
        }
        let gradients = start.iter().map(|g| g.to_vec()).collect();
        put_states(groups[0].rule, &mut self.tensors, "g_prev", gradients);
        if follows {
            decider = Decider { totals: &mut self.totals, global_state: &mut self.global_state, slopes: &[] };
            decider.settle(&groups, &mut self.tensors, params, &start);
        }
        conclude(&groups, &mut self.tensors, &mut self.around, (&mut self.step_count, &mut self.draws), params, &start);
        Ok(())
    }
}

/// Replaces the state of this name in every tensor.
fn put_states<F: Number>(rule: &dyn Rule, tensors: &mut [TensorState<F>], name: &str, values: Vec<Vec<F>>) {
    let Some(at) = rule.states().iter().position(|s| s.name == name) else { return };
    for (tensor, values) in tensors.iter_mut().zip(values) {
        if let Some(state) = &mut tensor.states[at] {
            *state = values;
        }
    }
}

/// The numbers of a tensor that a step sees, and the numbers that it does not see. A step sees no number of a frozen tensor.
fn split_at_live<'a, F>(values: &'a mut [F], tensor: &TensorState<F>) -> (&'a mut [F], &'a mut [F]) {
    values.split_at_mut(tensor.spec.elements)
}

/// The numbers of each tensor, frozen or not.
fn whole<'a, F>(live: &'a [&mut [F]], frozen: &'a [&mut [F]]) -> Vec<&'a [F]> {
    live.iter().zip(frozen).map(|(live, frozen)| if frozen.is_empty() { &**live } else { &**frozen }).collect()
}

/// As [`whole`], for writing.
fn whole_mut<'a, F>(live: &'a mut [&mut [F]], frozen: &'a mut [&mut [F]]) -> Vec<&'a mut [F]> {
    let both = live.iter_mut().zip(frozen);
    both.map(|(live, frozen)| if frozen.is_empty() { &mut **live } else { &mut **frozen }).collect()
}
