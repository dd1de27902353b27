//! Steps with evaluations of the objective inside.

use crate::Result;
use crate::cpu::number::Number;
use crate::cpu::optimizer::Optimizer;
use crate::cpu::procedure::shared;
use crate::optim::procedure::evaluation::{EvalRequest, Evaluations};

impl<F: Number> Optimizer<F> {
    /// One step of any rule, with all its evaluations. `evaluate` gets the parameters to read and the gradients to write, and returns the loss:
    /// first for [`EvalRequest::Gradient`] at the parameters, then for the other requests of the rule. `evaluate` must use the same
    /// mini-batch throughout the step.
    ///
    /// ```
    /// use wgpu_optim::{EvalRequest, Group, Optimizer, SAdam};
    ///
    /// let mut builder = Optimizer::builder(SAdam::default());
    /// builder.tensor(Group::DEFAULT, "w", &[2]);
    /// let mut optimizer = builder.build_cpu::<f32>()?;
    /// let (mut w, mut g) = ([1.0, -2.0], [0.0; 2]);
    /// optimizer.step_with(&mut [&mut w], &mut [&mut g], |evaluation, params, grads| {
    ///     if evaluation == EvalRequest::Gradient {
    ///         grads[0].copy_from_slice(params[0]);
    ///     }
    ///     Ok(params[0].iter().map(|x| f64::from(x * x) / 2.0).sum())
    /// })?;
    /// assert_eq!(optimizer.evaluations().losses, 2);
    /// assert!(w[0] < 1.0 && w[1] > -2.0);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`step`](Self::step), and the errors of `evaluate`. Parameters and states are then as before the step. With
    /// several rules and an integrator, the groups of the other rules have stepped.
    pub fn step_with(
        &mut self,
        params: &mut [&mut [F]],
        grads: &mut [&mut [F]],
        mut evaluate: impl FnMut(EvalRequest, &[&[F]], &mut [&mut [F]]) -> Result<f64>,
    ) -> Result<()> {
        let at = self.evaluating();
        if let [part] = self.parts.as_mut_slice() {
            return part.step_with(params, grads, evaluate);
        }
        self.check_count("parameters", params.len())?;
        self.check_count("gradients", grads.len())?;
        {
            let (params, grads) = (self.shares(params.iter().map(|p| &**p)), self.shares(grads.iter().map(|g| &**g)));
            for ((part, params), grads) in self.parts.iter().zip(&params).zip(&grads) {
                part.check_evaluation(params, grads)?;
            }
        }
        let loss = evaluate(EvalRequest::Gradient, &shared(params), grads)?;
        let mut params = self.shares(params.iter_mut().map(|p| &mut **p));
        let mut grads = self.shares(grads.iter_mut().map(|g| &mut **g));
        self.exchange(&grads.iter().map(|grads| shared(grads)).collect::<Vec<_>>());
        // Later gradients overwrite those of the other parts, so the other parts step first. Probes read losses alone, at the parameters
        // before the step.
        let probes = self.parts[at].spec.rule().procedure().is_some_and(|procedure| procedure.losses() > 0);
        if !probes {
            self.step_others(at, &mut params, &grads)?;
        }
        let (mut own, mut own_grads) = (std::mem::take(&mut params[at]), std::mem::take(&mut grads[at]));
        let directory = &self.directory;
        let stepped = self.parts[at].step_after(loss, &mut own, &mut own_grads, |request, own, own_grads| {
            let mut others: Vec<Vec<&[F]>> = params.iter().map(|params| shared(params)).collect();
            others[at] = own.to_vec();
            let mut others_grads: Vec<Vec<&mut [F]>> =
                grads.iter_mut().map(|grads| grads.iter_mut().map(|g| &mut **g).collect()).collect();
            others_grads[at] = own_grads.iter_mut().map(|g| &mut **g).collect();
            evaluate(request, &directory.joined(others), &mut directory.joined(others_grads))
        });
        if stepped.is_err() {
            self.parts.iter_mut().for_each(|part| part.around.joint = None);
        }
        stepped?;
        if probes {
            self.step_others(at, &mut params, &grads)?;
        }
        Ok(())
    }

    /// The counts of gradients and losses that [`step_with`](Self::step_with) evaluated so far.
    #[must_use]
    pub fn evaluations(&self) -> Evaluations {
        self.parts[self.evaluating()].evaluations
    }

    /// Steps all parts but one.
    fn step_others(&mut self, at: usize, params: &mut [Vec<&mut [F]>], grads: &[Vec<&mut [F]>]) -> Result<()> {
        let others = self.parts.iter_mut().enumerate().filter(|(number, _)| *number != at);
        for (number, part) in others {
            part.step(&mut params[number], &shared(&grads[number]))?;
        }
        Ok(())
    }
}
