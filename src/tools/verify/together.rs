//! Several rules in one optimizer, each compared with its own oracle.

use super::compare::Errors;
use super::problem::{Moved, Outcome, Problem, state_names};
use super::{counts, problem};
use crate::optim::procedure::evaluates;
use crate::optim::{ALL, Entry, Rule};
use crate::tools::adapter::Gpu;
use crate::{Error, Group, Optimizer, Result, Tensor};

/// The rules of this crate that one optimizer holds: all of them, but only the first rule that evaluates the objective inside the step.
#[must_use]
pub fn rules_together() -> Vec<Box<dyn Rule>> {
    let mut evaluating = 0;
    let mut rules = Vec::new();
    for rule in ALL.iter().map(Entry::sample) {
        let evaluates = evaluates(&rule.procedure());
        evaluating += usize::from(evaluates);
        if !evaluates || evaluating == 1 {
            rules.push(rule);
        }
    }
    rules
}

/// Runs rules on a GPU in groups of one optimizer, two groups per rule as in [`run_rule`](super::run_rule). Returns the errors of each rule.
///
/// # Errors
/// No rule; two rules that evaluate the objective inside the step; a rule without a CPU form; as [`run`](super::run).
#[cfg(not(target_arch = "wasm32"))]
pub fn run_together(gpu: &Gpu, rules: &[Box<dyn Rule>], size: usize) -> Result<Vec<Errors>> {
    pollster::block_on(run_together_async(gpu, rules, size))
}

/// As `run_together`, but in a page the future yields to the event loop.
///
/// # Errors
/// As `run_together`.
pub async fn run_together_async(gpu: &Gpu, rules: &[Box<dyn Rule>], size: usize) -> Result<Vec<Errors>> {
    let mut errors = vec![Errors::default(); rules.len()];
    for &step_count in counts(size) {
        let problems: Vec<Problem> =
            rules.iter().map(|rule| problem(rule.as_ref(), size, step_count)).collect::<Result<_>>()?;
        let mut together = Together::build(gpu, &problems).await?;
        together.upload(&problems, step_count)?;
        gpu.run_async(|encoder| together.optimizer.step(encoder)).await?;
        let outcomes = together.outcomes(&problems).await?;
        together.optimizer.destroy();
        for ((errors, problem), outcome) in errors.iter_mut().zip(&problems).zip(&outcomes) {
            errors.merge(problem.compare(outcome));
        }
    }
    Ok(errors)
}

/// One optimizer with the groups and tensors of several problems.
struct Together {
    optimizer: Optimizer,
    /// The first group and the tensors of each problem.
    of_problems: Vec<(Group, Vec<Tensor>)>,
}

impl Together {
    async fn build(gpu: &Gpu, problems: &[Problem]) -> Result<Self> {
        let first = problems.first().ok_or_else(|| Error::Usage("no rule was given".to_owned()))?;
        let mut builder = Optimizer::builder(first.groups[0].clone());
        builder.undamped_steps(true);
        let mut of_problems = Vec::new();
        for (number, problem) in problems.iter().enumerate() {
            let groups = problem.groups.iter().enumerate();
            let groups: Vec<Group> =
                groups.map(|(i, rule)| builder.group(format!("group {i} of rule {number}"), rule.clone())).collect();
            let tensors = problem.tensors.iter().enumerate();
            let tensors = tensors.map(|(i, data)| {
                builder.tensor(groups[data.group], format!("tensor {i} of rule {number}"), &data.shape)
            });
            of_problems.push((groups[0], tensors.collect()));
        }
        Ok(Self { optimizer: builder.build_async(&gpu.device, &gpu.queue).await?, of_problems })
    }

    fn upload(&mut self, problems: &[Problem], step_count: u32) -> Result<()> {
        let optimizer = &mut self.optimizer;
        for (problem, (_, tensors)) in problems.iter().zip(&self.of_problems) {
            problem.upload_arrays(optimizer, tensors)?;
            if !problem.losses.is_empty() {
                optimizer.write_losses(&problem.losses)?;
            }
        }
        if step_count > 0 {
            optimizer.write_step_count(step_count)?;
            for (problem, (_, tensors)) in problems.iter().zip(&self.of_problems) {
                problem.upload_counts(optimizer, tensors)?;
            }
            let memory: Vec<f32> = problems.iter().flat_map(|problem| problem.memory.iter().copied()).collect();
            optimizer.write_global_state(&memory)?;
        }
        Ok(())
    }

    async fn outcomes(&self, problems: &[Problem]) -> Result<Vec<Outcome>> {
        let memory = self.optimizer.read_global_state().await?;
        let mut rest = memory.as_slice();
        let mut outcomes = Vec::with_capacity(problems.len());
        for (problem, (group, tensors)) in problems.iter().zip(&self.of_problems) {
            let (own, others) = rest.split_at(problem.memory.len());
            rest = others;
            let mut moved = Vec::with_capacity(tensors.len());
            for tensor in tensors {
                moved.push(Moved::of(&self.optimizer, *tensor, &state_names(&problem.groups))?.await?);
            }
            let applied = self.optimizer.read_step_count_of(*group).await? as u32;
            outcomes.push(Outcome { tensors: moved, memory: own.to_vec(), applied, stored: Vec::new() });
        }
        Ok(outcomes)
    }
}
