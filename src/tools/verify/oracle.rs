//! The expected result of a step in f64, and the error that f32 may make.
//!
//! A result cannot be more precise than the numbers from which it is computed. If it depends on the difference of two large numbers, or
//! on the sign of a number near zero, a correct f32 kernel may have an error that is large beside the result. So the oracle repeats the
//! step once for each number that enters it, with that number changed a little. The sum of the changes is the result's allowance.

use super::problem::{Data, Problem};
use super::tolerance::{MATRIX_ERROR, SUM_ERROR, tolerance};
use crate::cpu;
use crate::optim::rule::MAX_SUMS;
use crate::optim::{Rule, Scalar};

/// The search for jumps looks this many times further: past the sum of the errors that one number can pick up.
const WIDE: f64 = 4.0;

/// A number that enters the step. It is changed in all tensors at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Hyper(usize),
    Sum(usize),
    Slope(usize),
    GlobalState(usize),
    Progress(usize),
    Decision(usize),
    Param,
    Grad,
    State(usize),
    /// A state that the procedure makes before the update.
    Made(usize),
    /// The factors of matrices after they moved to the gradient.
    Folded,
}

/// Each tensor's decision, the global state, and each tensor's progress.
type Decided = (Vec<Vec<f64>>, Vec<f64>, Vec<Vec<f64>>);

/// Each tensor's factors after they moved to the gradient; `None` for a tensor without.
type Folded = Vec<Option<cpu::Factors<f64>>>;

/// A change of an input, as a share of the input.
type Change = Option<(Input, f64)>;

/// A tensor in f64, with the rule's sums over it.
struct Wide {
    /// Its place among the tensors.
    index: usize,
    group: usize,
    shape: Vec<usize>,
    param: Vec<f64>,
    grad: Vec<f64>,
    states: Vec<Option<Vec<f64>>>,
    factors: Option<cpu::Factors<f64>>,
    progress: Vec<f64>,
    steps: Option<u32>,
    takes: bool,
    sums: [f64; MAX_SUMS],
    /// For each sum, the sum of its terms' magnitudes: the measure of the sum's rounding.
    magnitudes: [f64; MAX_SUMS],
}

/// Takes one step of a problem any number of times, each time with another input changed.
pub(super) struct Oracle<'a> {
    rules: &'a [Box<dyn Rule>],
    /// The scalars of each tensor.
    hyper: Vec<Vec<f64>>,
    tensors: Vec<Wide>,
    step_count: u32,
    slopes: Vec<f64>,
    global_state: Vec<f64>,
    /// The relative error that each number may have picked up.
    pub(super) tolerance: f64,
}

/// The expected result of one step. All numbers lie in one row: for each tensor the changes of its parameters, then each kept state and
/// factor, its progress and its own step count; at the end the global state and the step count.
pub(super) struct Expected {
    pub(super) values: Vec<f64>,
    /// The error that each value may have, from the rounding of the numbers from which it is computed.
    pub(super) allowances: Vec<f64>,
    pub(super) tolerance: f64,
}

impl<'a> Oracle<'a> {
    pub(super) fn new(problem: &'a Problem) -> Self {
        let rules = &problem.groups;
        let t = u64::from(problem.applied) + 1;
        let count = |data: &Data| data.steps.map_or(t, |steps| u64::from(steps) + 1);
        let scalars = |data: &Data| rules[data.group].scalars(count(data)).iter().map(Scalar::value).collect();
        let hyper = problem.tensors.iter().map(scalars).collect();
        let wide = |x: &Vec<f32>| x.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
        let tensors = problem.tensors.iter().enumerate().map(|(index, data)| Wide {
            index,
            progress: wide(&data.progress),
            steps: data.steps,
            takes: data.takes,
            group: data.group,
            shape: data.shape.clone(),
            param: wide(&data.param),
            grad: wide(&data.grad),
            states: data.states.iter().map(|s| s.as_ref().map(wide)).collect(),
            factors: factors(rules[data.group].as_ref(), data),
            sums: [0.0; MAX_SUMS],
            magnitudes: [0.0; MAX_SUMS],
        });
        let mut oracle = Self {
            rules,
            step_count: problem.applied,
            slopes: problem.slopes(),
            global_state: problem.memory.iter().map(|x| f64::from(*x)).collect(),
            hyper,
            tensors: tensors.collect(),
            tolerance: rules.first().map_or(0.0, |r| tolerance(r.as_ref())),
        };
        oracle.make_states();
        if oracle.sums() > 0 {
            let mut hyper = oracle.hyper.clone();
            let folded = oracle.fold(&mut hyper, None);
            for (tensor, folded) in oracle.tensors.iter_mut().zip(&folded) {
                folded.iter().for_each(|factors| factors.show(&mut tensor.states, tensor.param.len()));
            }
            let sums: Vec<_> = oracle.tensors.iter().map(|tensor| oracle.sum(tensor, &hyper[tensor.index])).collect();
            for (tensor, sums) in oracle.tensors.iter_mut().zip(sums) {
                (tensor.sums, tensor.magnitudes) = sums;
            }
        }
        oracle
    }

    pub(super) fn expect(&self) -> Expected {
        let values = self.step(None);
        // The result itself is rounded too.
        let mut allowances: Vec<f64> = values.iter().map(|x| self.tolerance * x.abs()).collect();
        for input in self.inputs() {
            let size = match input {
                Input::Sum(_) | Input::Folded => SUM_ERROR,
                Input::Made(_) => MATRIX_ERROR,
                _ => self.tolerance,
            };
            let near = self.effect(&values, input, size);
            let far = self.effect(&values, input, WIDE * size);
            for ((allowance, near), far) in allowances.iter_mut().zip(near).zip(far) {
                // If four times the change has much more than four times the effect, a sign or a branch is undecided.
                *allowance += if far > 2.0 * WIDE * near { far } else { near };
            }
        }
        Expected { values, allowances, tolerance: self.tolerance }
    }

    fn sums(&self) -> usize {
        self.rules.first().map_or(0, |rule| rule.sums().sums)
    }

    fn inputs(&self) -> Vec<Input> {
        let decision = self.rules.first().map_or(0, |rule| rule.decision().len());
        let states = self.tensors.iter().map(|t| t.states.len()).max().unwrap_or_default();
        let mut inputs = vec![Input::Param, Input::Grad];
        inputs.extend((0..self.hyper.first().map_or(0, Vec::len)).map(Input::Hyper));
        inputs.extend((0..self.sums()).map(Input::Sum));
        inputs.extend((0..self.slopes.len()).map(Input::Slope));
        inputs.extend((0..self.global_state.len()).map(Input::GlobalState));
        let progress = self.tensors.iter().map(|t| t.progress.len()).max().unwrap_or_default();
        inputs.extend((0..progress).map(Input::Progress));
        inputs.extend((0..decision).map(Input::Decision));
        inputs.extend((0..states).map(Input::State));
        inputs.extend(self.made().map(Input::Made));
        inputs.extend(self.tensors.iter().any(|tensor| tensor.factors.is_some()).then_some(Input::Folded));
        inputs
    }

    /// The states that the procedure makes.
    fn made(&self) -> impl Iterator<Item = usize> + use<> {
        let states = self.rules.first().map_or_else(Vec::new, |rule| rule.states());
        states.into_iter().enumerate().filter(|(_, state)| state.scratch).map(|(k, _)| k)
    }

    /// Makes these states, from the gradients and the states before the step.
    fn make_states(&mut self) {
        if self.made().next().is_none() {
            return;
        }
        for tensor in self.tensors.iter_mut().filter(|tensor| tensor.takes) {
            let rule = self.rules[tensor.group].as_ref();
            let hyper = &self.hyper[tensor.index];
            cpu::make_states(rule, hyper, &tensor.shape, &tensor.grad, &mut tensor.states);
        }
    }

    /// Moves the factors of all matrices to the gradient, where the step takes them. A rule sees the state after that, so `hyper` weighs the
    /// square of the gradient with 0 then.
    fn fold(&self, hyper: &mut [Vec<f64>], change: Change) -> Folded {
        let fold = |(tensor, hyper): (&Wide, &mut Vec<f64>)| {
            let mut factors = tensor.factors.clone()?;
            let scalars = self.rules[tensor.group].scalars(1);
            let at = |name| scalars.iter().position(|scalar| scalar.name == name);
            let (share, least) = (at(factors.spec.share)?, at(factors.spec.least)?);
            let is_state = Input::State(factors.state);
            factors.arrays_mut().into_iter().for_each(|(_, values)| scale(values, change, is_state));
            if tensor.takes {
                let mut grad = tensor.grad.clone();
                scale(&mut grad, change, Input::Grad);
                factors.fold(&grad, hyper[share], hyper[least]);
                factors.arrays_mut().into_iter().for_each(|(_, values)| scale(values, change, Input::Folded));
            }
            hyper[share] = 0.0;
            Some(factors)
        };
        self.tensors.iter().zip(hyper).map(fold).collect()
    }

    /// How much each result changes if `input` changes by the share `size`, up or down.
    fn effect(&self, values: &[f64], input: Input, size: f64) -> Vec<f64> {
        let [up, down] = [size, -size].map(|x| self.step(Some((input, x))));
        let change = |((v, a), b): ((&f64, f64), f64)| (a - v).abs().max((b - v).abs());
        values.iter().zip(up).zip(down).map(change).collect()
    }

    /// The step's row of numbers.
    fn step(&self, change: Change) -> Vec<f64> {
        let mut hyper = self.changed_hyper(change);
        let folded = self.fold(&mut hyper, change);
        let decided = self.decide(&hyper, change);
        let numbers = |t: &Wide| t.param.len() * (1 + t.states.iter().flatten().count());
        let mut row = Vec::with_capacity(self.tensors.iter().map(numbers).sum());
        for (i, (tensor, folded)) in self.tensors.iter().zip(&folded).enumerate() {
            let mut states = tensor.states.clone();
            folded.iter().for_each(|factors| factors.show(&mut states, tensor.param.len()));
            for (k, state) in states.iter_mut().enumerate() {
                let state = state.as_deref_mut().unwrap_or_default();
                scale(state, change, Input::State(k));
                shift(state, change, Input::Made(k));
            }
            let (mut before, mut grad) = (tensor.param.clone(), tensor.grad.clone());
            scale(&mut before, change, Input::Param);
            scale(&mut grad, change, Input::Grad);
            let mut after = before.clone();
            if let Some((decisions, _, _)) = decided.as_ref().filter(|_| tensor.takes) {
                let mut slices: Vec<_> = states.iter_mut().map(|s| s.as_deref_mut()).collect();
                let cpu = self.rules[tensor.group].cpu_f64();
                let (hyper, decision) = (&hyper[tensor.index], &decisions[i]);
                match change {
                    None => cpu.update(hyper, decision, &mut after, &grad, &mut slices),
                    // The effect of a change is needed to a few digits only.
                    Some(_) => cpu.update_fast(hyper, decision, &mut after, &grad, &mut slices),
                }
            }
            row.extend(after.iter().zip(&before).map(|(after, before)| after - before));
            let proceeds = decided.as_ref().filter(|_| tensor.takes);
            if let Some(factors) = folded {
                states[factors.state] = None;
            }
            row.extend(states.into_iter().flatten().flatten());
            let factors = if proceeds.is_some() { folded } else { &tensor.factors };
            row.extend(factors.iter().flat_map(cpu::Factors::arrays).flat_map(|(_, values)| values));
            row.extend(proceeds.map_or(&tensor.progress, |(_, _, progress)| &progress[i]));
            let counts = proceeds.is_some_and(|(decisions, _, _)| !self.held(decisions));
            row.extend(tensor.steps.map(|steps| f64::from(steps + u32::from(counts))));
        }
        let held = decided.as_ref().is_none_or(|(decisions, _, _)| self.held(decisions));
        row.extend(decided.map_or_else(|| self.global_state.clone(), |(_, after, _)| after));
        row.push(f64::from(self.step_count) + if held { 0.0 } else { 1.0 });
        row
    }

    /// Each tensor's decision, the global state after the step, and each tensor's progress; `None` for a skipped step.
    fn decide(&self, hyper: &[Vec<f64>], change: Change) -> Option<Decided> {
        if self.tensors.iter().any(|tensor| !tensor.progress.is_empty()) {
            let (decisions, progress) = self.proceed(hyper, change);
            return Some((decisions, Vec::new(), progress));
        }
        let none = vec![Vec::new(); self.tensors.len()];
        if self.sums() == 0 && self.slopes.is_empty() {
            return Some((none.clone(), Vec::new(), none));
        }
        let (all, own) = if self.sums() > 0 { self.all_totals(hyper, change) } else { self.changed_slopes(change) };
        if self.rules[0].cpu_f64().refuse(&all) {
            return None;
        }
        let mut before = self.global_state.clone();
        for (k, x) in before.iter_mut().enumerate() {
            scale(std::slice::from_mut(x), change, Input::GlobalState(k));
        }
        let mut after = before.clone();
        let decide = |(tensor, own): (&Wide, Vec<f64>)| {
            let cpu = self.rules[tensor.group].cpu_f64();
            after.copy_from_slice(&before);
            let mut decision = cpu.decide(&hyper[tensor.index], &all, &own, &mut after);
            for (k, x) in decision.iter_mut().enumerate() {
                scale(std::slice::from_mut(x), change, Input::Decision(k));
            }
            decision
        };
        let decisions = self.tensors.iter().zip(own).map(decide).collect();
        Some((decisions, after, none))
    }

    /// Each tensor's decision from its progress, and its progress after the step.
    fn proceed(&self, hyper: &[Vec<f64>], change: Change) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
        let decide = |tensor: &Wide| {
            let mut progress = tensor.progress.clone();
            for (k, x) in progress.iter_mut().enumerate() {
                scale(std::slice::from_mut(x), change, Input::Progress(k));
            }
            let mut decision = self.rules[tensor.group].cpu_f64().proceed(&hyper[tensor.index], &mut progress);
            for (k, x) in decision.iter_mut().enumerate() {
                scale(std::slice::from_mut(x), change, Input::Decision(k));
            }
            (decision, progress)
        };
        self.tensors.iter().map(decide).unzip()
    }

    /// Whether the step leaves the step count as it is.
    fn held(&self, decisions: &[Vec<f64>]) -> bool {
        let rule = &self.rules[0];
        rule.sums().may_hold && decisions.first().is_some_and(|decision| rule.cpu_f64().hold(decision))
    }

    /// The totals over all tensors, and those of each tensor.
    fn all_totals(&self, hyper: &[Vec<f64>], change: Change) -> (Vec<f64>, Vec<Vec<f64>>) {
        let count = self.rules[0].sums().totals;
        let mut all = vec![0.0; count];
        let mut own = Vec::with_capacity(self.tensors.len());
        for tensor in &self.tensors {
            let totals = self.totals(tensor, hyper, change, count);
            for (sum, x) in all.iter_mut().zip(&totals) {
                *sum += x;
            }
            own.push(totals);
        }
        (all, own)
    }

    /// The slopes, which a rule that probes has in place of totals.
    fn changed_slopes(&self, change: Change) -> (Vec<f64>, Vec<Vec<f64>>) {
        let mut slopes = self.slopes.clone();
        for (k, x) in slopes.iter_mut().enumerate() {
            scale(std::slice::from_mut(x), change, Input::Slope(k));
        }
        (slopes, vec![Vec::new(); self.tensors.len()])
    }

    fn totals(&self, tensor: &Wide, hyper: &[Vec<f64>], change: Change, count: usize) -> Vec<f64> {
        let cpu = self.rules[tensor.group].cpu_f64();
        let hyper = &hyper[tensor.index];
        let mut sums = tensor.sums;
        match change {
            Some((Input::Sum(k), x)) => sums[k] += x * tensor.magnitudes[k],
            Some((Input::Hyper(_), _)) if tensor.takes => {
                let states: Vec<_> = tensor.states.iter().map(Option::as_deref).collect();
                sums = cpu.contribute_fast(hyper, &tensor.param, &tensor.grad, &states);
            }
            _ => (),
        }
        let totals = cpu.total(hyper, &sums, if tensor.takes { tensor.param.len() as f64 } else { 0.0 });
        totals[..count].iter().map(|polynomial| polynomial.iter().sum()).collect()
    }

    /// A tensor's sums, and the sums of their terms' magnitudes.
    fn sum(&self, tensor: &Wide, hyper: &[f64]) -> ([f64; MAX_SUMS], [f64; MAX_SUMS]) {
        let cpu = self.rules[tensor.group].cpu_f64();
        let (mut sums, mut magnitudes) = ([0.0; MAX_SUMS], [0.0; MAX_SUMS]);
        if !tensor.takes {
            return (sums, magnitudes);
        }
        for i in 0..tensor.param.len() {
            let one = i..i + 1;
            let states: Vec<_> = tensor.states.iter().map(|s| s.as_ref().map(|s| &s[one.clone()])).collect();
            let terms = cpu.contribute(hyper, &tensor.param[one.clone()], &tensor.grad[one.clone()], &states);
            for (k, term) in terms.into_iter().enumerate() {
                sums[k] += term;
                magnitudes[k] += term.abs();
            }
        }
        (sums, magnitudes)
    }

    fn changed_hyper(&self, change: Change) -> Vec<Vec<f64>> {
        let mut hyper = self.hyper.clone();
        for row in &mut hyper {
            for (j, x) in row.iter_mut().enumerate() {
                scale(std::slice::from_mut(x), change, Input::Hyper(j));
            }
        }
        hyper
    }
}

/// The factors of a tensor before the step.
fn factors(rule: &dyn Rule, data: &Data) -> Option<cpu::Factors<f64>> {
    let mut factors = cpu::Factors::of_shape(rule, &data.shape)?;
    for ((_, to), (_, from)) in factors.arrays_mut().into_iter().zip(&data.factors) {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = f64::from(*from));
    }
    Some(factors)
}

/// Shifts the values by a share of the largest of them, if they belong to the changed input. A product of matrices adds numbers of all
/// magnitudes, so that an element has the error of its matrix.
fn shift(values: &mut [f64], change: Change, input: Input) {
    if let Some((changed, x)) = change
        && changed == input
    {
        let largest = values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
        values.iter_mut().for_each(|value| *value += x * largest);
    }
}

/// Changes the values if they belong to the changed input.
fn scale(values: &mut [f64], change: Change, input: Input) {
    if let Some((changed, x)) = change
        && changed == input
    {
        for value in values {
            *value *= 1.0 + x;
        }
    }
}
