//! The comparison of a step's result with the oracle's.

use std::fmt;

use super::oracle::{Expected, Oracle};
use super::problem::{Moved, Outcome, Problem, state_names};
use super::spans::{Spans, Stored};
use super::tolerance::{FLUSHED, ulp};
use crate::options::storage::blockwise::BLOCK;

/// The errors of an outcome. The errors of steps and states are relative errors of the numbers that the results are computed from: the
/// least relative error of all these numbers that explains the result. The relative error of a product is shared among its factors; the
/// error of a difference of large numbers is relative to these large numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Errors {
    /// The worst error of a parameter, in ulp of the parameter, or of the terms of its step where those are larger.
    pub param_ulp: f64,
    /// The worst error of a step beyond the one ulp by which adding it to the parameter may round.
    pub step: f64,
    /// The worst error of a state.
    pub state: f64,
    /// The largest error of steps and states that passes.
    pub tolerance: f64,
    /// The number of numbers that were compared.
    pub compared: usize,
    /// The number with the largest error.
    pub worst: Option<Place>,
}

/// A number that was compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// The index of its tensor.
    pub tensor: usize,
    /// The name of its state, or "parameter".
    pub what: &'static str,
    /// Its index in the tensor.
    pub index: usize,
    /// Its value.
    pub got: f64,
    /// The value that the oracle expects.
    pub want: f64,
    /// Its error as a multiple of the tolerance.
    pub excess: f64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tensor, what, index, got, want, excess } = self;
        write!(f, "{what} {index} of tensor {tensor}: got {got:e}, want {want:e}, {excess:.3} of the tolerance")
    }
}

impl Errors {
    /// Whether every error is within the tolerance.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.step <= self.tolerance && self.state <= self.tolerance
    }

    /// Adds the errors of another comparison: of each kind, the larger error stays.
    pub fn merge(&mut self, other: Self) {
        self.param_ulp = self.param_ulp.max(other.param_ulp);
        self.step = self.step.max(other.step);
        self.state = self.state.max(other.state);
        self.tolerance = self.tolerance.max(other.tolerance);
        self.compared += other.compared;
        let excess = |place: &Option<Place>| place.as_ref().map_or(0.0, |p| p.excess);
        if excess(&other.worst) > excess(&self.worst) {
            self.worst = other.worst;
        }
    }

    /// Counts one number, with its relative error as defined above.
    fn note(&mut self, error: f64, place: impl FnOnce() -> Place) {
        self.compared += 1;
        self.note_largest(error, place);
    }

    /// As [`note`](Self::note) without the count: a block's largest magnitude is one of the block's numbers, which are counted already.
    fn note_largest(&mut self, error: f64, place: impl FnOnce() -> Place) {
        let excess = error / self.tolerance;
        if excess > self.worst.as_ref().map_or(0.0, |p| p.excess) {
            self.worst = Some(Place { excess, ..place() });
        }
    }
}

impl Problem {
    /// Compares the outcome of this step with the same step in f64.
    ///
    /// # Panics
    /// The outcome has other tensors, lengths or states than this problem.
    #[must_use]
    pub fn compare(&self, outcome: &Outcome) -> Errors {
        let expected = Oracle::new(self).expect();
        let mut errors = Errors { tolerance: expected.tolerance, ..Errors::default() };
        let names = state_names(&self.groups);
        let mut at = 0;
        assert_eq!(self.tensors.len(), outcome.tensors.len(), "tensors");
        let plain = Stored::default();
        for (tensor, (data, Moved { param, states, factors, progress, steps })) in
            self.tensors.iter().zip(&outcome.tensors).enumerate()
        {
            assert_eq!(data.param.len(), param.len(), "elements of tensor {tensor}");
            let stored = outcome.stored.get(tensor).unwrap_or(&plain);
            compare_params(&mut errors, &expected, at, tensor, (&data.param, param), stored.param.as_ref());
            at += param.len();
            for (k, (name, (before, state))) in names.iter().zip(data.states.iter().zip(states)).enumerate() {
                assert_eq!(before.as_ref().map(Vec::len), state.as_ref().map(Vec::len), "{name} of tensor {tensor}");
                let state = state.as_deref().unwrap_or_default();
                let spans = stored.states.get(k).and_then(Option::as_ref);
                compare_states(&mut errors, &expected, at, (tensor, name), state, spans);
                at += state.len();
            }
            assert_eq!(data.factors.len(), factors.len(), "factors of tensor {tensor}");
            for ((name, before), (_, factor)) in data.factors.iter().zip(factors) {
                assert_eq!(before.len(), factor.len(), "{name} of tensor {tensor}");
                compare_states(&mut errors, &expected, at, (tensor, name), factor, None);
                at += factor.len();
            }
            assert_eq!((data.progress.len(), data.steps.is_some()), (progress.len(), steps.is_some()), "numbers kept");
            let steps = steps.map(|steps| steps as f32);
            for number in progress.iter().chain(&steps) {
                compare_states(&mut errors, &expected, at, (tensor, "progress"), &[*number], None);
                at += 1;
            }
        }
        assert_eq!(self.memory.len(), outcome.memory.len(), "global state");
        for (k, name) in self.groups.first().map_or(&[][..], |rule| rule.global_state()).iter().enumerate() {
            compare_states(&mut errors, &expected, at + k, (0, name), &outcome.memory[k..=k], None);
        }
        let step_count = [outcome.applied as f32];
        compare_states(&mut errors, &expected, at + self.memory.len(), (0, "step count"), &step_count, None);
        errors
    }
}

fn compare_params(
    errors: &mut Errors,
    expected: &Expected,
    at: usize,
    tensor: usize,
    (before, after): (&[f32], &[f32]),
    spans: Option<&Spans>,
) {
    for (index, (&before, &after)) in before.iter().zip(after).enumerate() {
        let (before, got) = (f64::from(before), f64::from(after));
        let want = before + expected.values[at + index];
        let off = spans.map_or_else(|| distance(got, want), |spans| spans.of[index].distance(want));
        // Compilers may add the terms of a step to the parameter one by one.
        // An intermediate sum may pass the next power of two, where an ulp is twice as large.
        let terms = expected.terms(at + index);
        let passed = if terms < before.abs() { before.abs() + terms } else { 0.0 };
        let size = before.abs().max(want.abs()).max(passed);
        let error = expected.relative(at + index, off - ulp(size));
        errors.param_ulp = errors.param_ulp.max(off / ulp(size.max(expected.terms(at + index))));
        errors.step = errors.step.max(error);
        errors.note(error, || Place { tensor, what: "parameter", index, got, want, excess: 0.0 });
    }
}

fn compare_states(
    errors: &mut Errors,
    expected: &Expected,
    at: usize,
    (tensor, what): (usize, &'static str),
    state: &[f32],
    spans: Option<&Spans>,
) {
    for (index, &got) in state.iter().enumerate() {
        let (got, want) = (f64::from(got), expected.values[at + index]);
        let off = spans.map_or_else(|| distance(got, want), |spans| spans.of[index].distance(want));
        let error = expected.relative(at + index, off);
        errors.state = errors.state.max(error);
        errors.note(error, || Place { tensor, what, index, got, want, excess: 0.0 });
    }
    let Some(spans) = spans else { return };
    // A block's largest magnitude is the magnitude of one of its numbers.
    for (block, &got) in spans.largest.iter().enumerate() {
        let numbers = block * BLOCK..state.len().min((block + 1) * BLOCK);
        let magnitude = |index: &usize| expected.values[at + index].abs();
        let Some(index) = numbers.max_by(|a, b| magnitude(a).total_cmp(&magnitude(b))) else { continue };
        let error = expected.relative(at + index, distance(f64::from(got), magnitude(&index)));
        errors.state = errors.state.max(error);
        errors.note_largest(error, || Place {
            tensor,
            what,
            index,
            got: f64::from(got),
            want: magnitude(&index),
            excess: 0.0,
        });
    }
}

/// NaN is infinitely far from every number.
fn distance(got: f64, want: f64) -> f64 {
    let distance = (got - want).abs();
    if distance.is_nan() { f64::INFINITY } else { distance }
}

impl Expected {
    /// The size of the terms from which a number is computed.
    fn terms(&self, at: usize) -> f64 {
        self.allowances[at] / self.tolerance
    }

    /// The relative error of the terms that explains an error of `off`.
    fn relative(&self, at: usize, off: f64) -> f64 {
        if off <= FLUSHED { 0.0 } else { off / self.terms(at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::{ALL, Lion, Rule};
    use crate::tools::verify::{Data, varied};

    fn problem(rule: &dyn Rule) -> Problem {
        Problem::random(vec![rule.boxed(), varied(rule)], &[(0, 300), (1, 0), (1, 77)], 2, 1).unwrap()
    }

    /// The oracle's own result, rounded to f32 once.
    fn rounded(problem: &Problem) -> Outcome {
        let values = Oracle::new(problem).expect().values;
        let mut values = values.iter();
        let mut take = |n| values.by_ref().take(n).map(|x| *x as f32).collect::<Vec<f32>>();
        let mut tensors = Vec::new();
        for data in &problem.tensors {
            let n = data.param.len();
            let param = data.param.iter().zip(take(n)).map(|(p, change)| p + change).collect();
            let states = data.states.iter().map(|s| s.as_ref().map(|_| take(n))).collect();
            let factors = data.factors.iter().map(|(name, values)| (*name, take(values.len()))).collect();
            let progress = take(data.progress.len());
            let steps = data.steps.map(|_| take(1)[0] as u32);
            tensors.push(Moved { param, states, factors, progress, steps });
        }
        let memory = take(problem.memory.len());
        Outcome { tensors, memory, applied: take(1)[0] as u32, stored: Vec::new() }
    }

    fn for_all(mut check: impl FnMut(&str, &Problem, Outcome)) {
        for entry in ALL {
            for (variant, rule) in entry.variants() {
                let problem = problem(rule.as_ref());
                check(&format!("{} {variant}", entry.name), &problem, rounded(&problem));
            }
        }
    }

    #[test]
    fn the_oracle_rounded_once_passes() {
        for_all(|what, problem, outcome| {
            let errors = problem.compare(&outcome);
            assert!(errors.passed() && errors.param_ulp <= 2.0, "{what}: {errors:?}");
            let numbers: usize = problem.tensors.iter().map(Data::numbers).sum();
            assert_eq!(errors.compared, numbers + problem.memory.len() + 1, "{what}");
        });
    }

    #[test]
    fn a_step_that_was_not_taken_fails() {
        for_all(|what, problem, outcome| {
            for tensor in [0, 2] {
                let mut outcome = outcome.clone();
                outcome.tensors[tensor].param.clone_from(&problem.tensors[tensor].param);
                assert!(problem.compare(&outcome).step > 0.01, "{what}");
            }
        });
    }

    #[test]
    fn one_wrong_parameter_fails() {
        for_all(|what, problem, outcome| {
            let wrongs: [fn(f32) -> f32; 5] =
                [|_| f32::NAN, |_| f32::INFINITY, |p| -p, |p| p * (1.0 + 1e-4), |p| p + p.signum() * 1e-3];
            for wrong in wrongs {
                let mut outcome = outcome.clone();
                let large = |p: &&mut f32| p.abs() > 0.1;
                let param = outcome.tensors[0].param.iter_mut().find(large).expect("some are large");
                let was = *param;
                *param = wrong(was);
                assert!(!problem.compare(&outcome).passed(), "{what} {was}");
            }
        });
    }

    #[test]
    fn one_wrong_state_fails_and_is_named() {
        for_all(|what, problem, outcome| {
            for k in 0..problem.tensors[2].states.len() {
                let mut outcome = outcome.clone();
                let Some(state) = &mut outcome.tensors[2].states[k] else { continue };
                // A state that is a small difference of large numbers may be wrong by more: the largest is none.
                let at = (0..state.len()).max_by(|a, b| state[*a].abs().total_cmp(&state[*b].abs())).expect("some");
                state[at] *= 1.0 + 3e-5;
                let errors = problem.compare(&outcome);
                let worst = errors.worst.clone().expect("an error");
                let name = problem.groups[0].states()[k].name;
                assert!(!errors.passed(), "{what} {name}: {errors:?}");
                assert_eq!((worst.tensor, worst.what, worst.index), (2, name, at), "{what}");
            }
        });
    }

    #[test]
    fn a_sign_is_open_only_where_rounding_decides_it() {
        let rule = Lion { weight_decay: 0.1, ..Lion::default() };
        let mut problem = Problem::random(vec![Box::new(rule)], &[(0, 3)], 2, 3).unwrap();
        // β1 m + (1-β1) g is 0 except for rounding; in the last element it is 1e-6 of its terms.
        problem.tensors[0].grad = vec![-0.9, -0.9, -0.9];
        problem.tensors[0].states[0] = Some(vec![0.1, 0.1_f32.next_up(), 0.1 * (1.0 + 4e-6)]);
        let outcome = rounded(&problem);
        for (i, open) in [true, true, false].into_iter().enumerate() {
            let mut other = outcome.clone();
            let lr = 1e-4_f32.copysign(outcome.tensors[0].param[i] - problem.tensors[0].param[i]);
            other.tensors[0].param[i] -= 2.0 * lr;
            assert_eq!(problem.compare(&other).passed(), open, "element {i}");
        }
    }

    #[test]
    fn few_signs_and_branches_are_open() {
        for_all(|what, problem, _| {
            let expected = Oracle::new(problem).expect();
            // Where a sign or branch is undecided, the error may be about as large as the number itself.
            let open = expected.allowances.iter().zip(&expected.values).filter(|(a, v)| **a > 0.1 * v.abs()).count();
            assert!(open * 100 <= expected.values.len(), "{what}: {open} of {}", expected.values.len());
        });
    }
}
