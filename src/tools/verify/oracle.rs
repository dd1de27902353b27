//! What a step should come to, in f64, and how far f32 may be off.
//!
//! No rounding can be better than the numbers that it rounds: where a result hangs on the difference of two large numbers, or on the
//! sign of one near zero, a right f32 kernel may be off by more than a share of the result. So the step is taken again with each of the
//! numbers that it is computed from changed a little, one after the other. What the result changes by in all is its allowance.

use super::problem::Problem;
use super::tolerance::{SUM_ERROR, tolerance};
use crate::optim::rule::MAX_SUMS;
use crate::optim::{Rule, Scalar};

/// How many times further the search for jumps looks: past the sum of the errors that one number can pick up.
const WIDE: f64 = 4.0;

/// What is changed, in all tensors at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Hyper(usize),
    Sum(usize),
    Slope(usize),
    Memory(usize),
    Decision(usize),
    Param,
    Grad,
    State(usize),
}

/// A change of an input, as a share of it.
type Change = Option<(Input, f64)>;

/// A tensor in f64, with its terms summed.
struct Wide {
    group: usize,
    param: Vec<f64>,
    grad: Vec<f64>,
    states: Vec<Option<Vec<f64>>>,
    sums: [f64; MAX_SUMS],
    /// Each sum's terms without their signs, added up: the measure of a sum's rounding.
    magnitudes: [f64; MAX_SUMS],
}

/// Takes one step of a problem, as often as asked, with this or that changed.
pub(super) struct Oracle<'a> {
    rules: &'a [Box<dyn Rule>],
    hyper: Vec<Vec<f64>>,
    tensors: Vec<Wide>,
    applied: u32,
    slopes: Vec<f64>,
    memory: Vec<f64>,
    /// The relative error that each number may have picked up.
    pub(super) tolerance: f64,
}

/// What one step should come to. All numbers lie in one row: for each tensor its changes, then each kept state;
/// at the end what is remembered and the count of applied steps.
pub(super) struct Expected {
    pub(super) values: Vec<f64>,
    /// How far each may be off for a rounding of the numbers that it is computed from.
    pub(super) allowances: Vec<f64>,
    pub(super) tolerance: f64,
}

impl<'a> Oracle<'a> {
    pub(super) fn new(problem: &'a Problem) -> Self {
        let rules = &problem.groups;
        let t = u64::from(problem.applied) + 1;
        let hyper = rules.iter().map(|rule| rule.scalars(t).iter().map(Scalar::value).collect()).collect();
        let wide = |x: &Vec<f32>| x.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
        let tensors = problem.tensors.iter().map(|data| Wide {
            group: data.group,
            param: wide(&data.param),
            grad: wide(&data.grad),
            states: data.states.iter().map(|s| s.as_ref().map(wide)).collect(),
            sums: [0.0; MAX_SUMS],
            magnitudes: [0.0; MAX_SUMS],
        });
        let mut oracle = Self {
            rules,
            applied: problem.applied,
            slopes: problem.slopes(),
            memory: problem.memory.iter().map(|x| f64::from(*x)).collect(),
            hyper,
            tensors: tensors.collect(),
            tolerance: rules.first().map_or(0.0, |r| tolerance(r.as_ref())),
        };
        if oracle.sums() > 0 {
            let sums: Vec<_> = oracle.tensors.iter().map(|tensor| oracle.sum(tensor)).collect();
            for (tensor, sums) in oracle.tensors.iter_mut().zip(sums) {
                (tensor.sums, tensor.magnitudes) = sums;
            }
        }
        oracle
    }

    pub(super) fn expect(&self) -> Expected {
        let values = self.step(None);
        // The result itself is rounded, too.
        let mut allowances: Vec<f64> = values.iter().map(|x| self.tolerance * x.abs()).collect();
        for input in self.inputs() {
            let size = if matches!(input, Input::Sum(_)) { SUM_ERROR } else { self.tolerance };
            let near = self.effect(&values, input, size);
            let far = self.effect(&values, input, WIDE * size);
            for ((allowance, near), far) in allowances.iter_mut().zip(near).zip(far) {
                // Where four times the change does much more than four times as much, a sign or a branch is undecided.
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
        inputs.extend((0..self.memory.len()).map(Input::Memory));
        inputs.extend((0..decision).map(Input::Decision));
        inputs.extend((0..states).map(Input::State));
        inputs
    }

    /// How much the step changes where `input` is off by `size` up or down.
    fn effect(&self, values: &[f64], input: Input, size: f64) -> Vec<f64> {
        let [up, down] = [size, -size].map(|x| self.step(Some((input, x))));
        let change = |((v, a), b): ((&f64, f64), f64)| (a - v).abs().max((b - v).abs());
        values.iter().zip(up).zip(down).map(change).collect()
    }

    /// The step's row of numbers.
    fn step(&self, change: Change) -> Vec<f64> {
        let hyper = self.changed_hyper(change);
        let decided = self.decide(&hyper, change);
        let numbers = |t: &Wide| t.param.len() * (1 + t.states.iter().flatten().count());
        let mut row = Vec::with_capacity(self.tensors.iter().map(numbers).sum());
        for (i, tensor) in self.tensors.iter().enumerate() {
            let mut states = tensor.states.clone();
            for (k, state) in states.iter_mut().enumerate() {
                scale(state.as_deref_mut().unwrap_or_default(), change, Input::State(k));
            }
            let (mut before, mut grad) = (tensor.param.clone(), tensor.grad.clone());
            scale(&mut before, change, Input::Param);
            scale(&mut grad, change, Input::Grad);
            let mut after = before.clone();
            if let Some((decisions, _)) = &decided {
                let mut slices: Vec<_> = states.iter_mut().map(|s| s.as_deref_mut()).collect();
                let cpu = self.rules[tensor.group].cpu_f64();
                let (hyper, decision) = (&hyper[tensor.group], &decisions[i]);
                match change {
                    None => cpu.update(hyper, decision, &mut after, &grad, &mut slices),
                    // What a change does is wanted to a few digits only.
                    Some(_) => cpu.update_fast(hyper, decision, &mut after, &grad, &mut slices),
                }
            }
            row.extend(after.iter().zip(&before).map(|(after, before)| after - before));
            row.extend(states.into_iter().flatten().flatten());
        }
        let held = decided.as_ref().is_none_or(|(decisions, _)| self.held(decisions));
        row.extend(decided.map_or_else(|| self.memory.clone(), |(_, memory)| memory));
        row.push(f64::from(self.applied) + if held { 0.0 } else { 1.0 });
        row
    }

    /// Each tensor's decision and what is remembered, or `None` where the step is refused.
    fn decide(&self, hyper: &[Vec<f64>], change: Change) -> Option<(Vec<Vec<f64>>, Vec<f64>)> {
        if self.sums() == 0 && self.slopes.is_empty() {
            return Some((vec![Vec::new(); self.tensors.len()], Vec::new()));
        }
        let (all, own) = if self.sums() > 0 { self.all_totals(hyper, change) } else { self.changed_slopes(change) };
        if self.rules[0].cpu_f64().refuse(&all) {
            return None;
        }
        let mut before = self.memory.clone();
        for (k, x) in before.iter_mut().enumerate() {
            scale(std::slice::from_mut(x), change, Input::Memory(k));
        }
        let mut memory = before.clone();
        let decide = |(tensor, own): (&Wide, Vec<f64>)| {
            let cpu = self.rules[tensor.group].cpu_f64();
            memory.copy_from_slice(&before);
            let mut decision = cpu.decide(&hyper[tensor.group], &all, &own, &mut memory);
            for (k, x) in decision.iter_mut().enumerate() {
                scale(std::slice::from_mut(x), change, Input::Decision(k));
            }
            decision
        };
        let decisions = self.tensors.iter().zip(own).map(decide).collect();
        Some((decisions, memory))
    }

    /// Whether the step leaves the count of applied steps where it is.
    fn held(&self, decisions: &[Vec<f64>]) -> bool {
        let rule = &self.rules[0];
        rule.sums().may_hold && decisions.first().is_some_and(|decision| rule.cpu_f64().hold(decision))
    }

    /// The totals over everything, and each tensor's.
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

    /// What a rule that probes has in place of totals.
    fn changed_slopes(&self, change: Change) -> (Vec<f64>, Vec<Vec<f64>>) {
        let mut slopes = self.slopes.clone();
        for (k, x) in slopes.iter_mut().enumerate() {
            scale(std::slice::from_mut(x), change, Input::Slope(k));
        }
        (slopes, vec![Vec::new(); self.tensors.len()])
    }

    fn totals(&self, tensor: &Wide, hyper: &[Vec<f64>], change: Change, count: usize) -> Vec<f64> {
        let cpu = self.rules[tensor.group].cpu_f64();
        let hyper = &hyper[tensor.group];
        let mut sums = tensor.sums;
        match change {
            Some((Input::Sum(k), x)) => sums[k] += x * tensor.magnitudes[k],
            Some((Input::Hyper(_), _)) => {
                let states: Vec<_> = tensor.states.iter().map(Option::as_deref).collect();
                sums = cpu.contribute_fast(hyper, &tensor.param, &tensor.grad, &states);
            }
            _ => (),
        }
        let totals = cpu.total(hyper, &sums, tensor.param.len() as f64);
        totals[..count].iter().map(|polynomial| polynomial.iter().sum()).collect()
    }

    /// A tensor's sums, and those of their terms without signs.
    fn sum(&self, tensor: &Wide) -> ([f64; MAX_SUMS], [f64; MAX_SUMS]) {
        let (cpu, hyper) = (self.rules[tensor.group].cpu_f64(), &self.hyper[tensor.group]);
        let (mut sums, mut magnitudes) = ([0.0; MAX_SUMS], [0.0; MAX_SUMS]);
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

/// Changes the values if they are what is to be changed.
fn scale(values: &mut [f64], change: Change, input: Input) {
    if let Some((changed, x)) = change
        && changed == input
    {
        for value in values {
            *value *= 1.0 + x;
        }
    }
}
