//! Numbers that no training should see: neighbours stay untouched, finite elements are right, and a skipped step changes no bit.

use wgpu_optim::optim::{ALL, Procedure, Rule};
use wgpu_optim::tools::verify::{Data, Moved, Outcome, Problem};
use wgpu_optim::{Group, Optimizer};

use crate::common::{block_on, check, deal, gpu, groups, read, same};
use crate::parity::check_pages;

const SIZES: &[usize] = &[7, 1030, 0, 64, 3];
/// The elements and tensors of these numbers: first, last, in the tail's vec4, on both sides of a chunk's end.
const PLACES: &[(usize, usize)] = &[(0, 0), (0, 6), (1, 3), (1, 1023), (1, 1024), (4, 1)];

/// Numbers that are not finite, or are not finite after squaring.
const BAD: &[f32] = &[
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::MAX,
    -1e30,
    f32::from_bits(0x7f80_0001),
    f32::from_bits(0xffc0_1234),
];
/// Numbers that f32 holds; their squares are finite, or may be lost without effect.
const EXTREME: &[f32] = &[0.0, -0.0, 1e-45, -1e-40, 1e-38, 1e-30, -1e-20, 1e15, -1e15];

fn problem(rule: &dyn Rule) -> Problem {
    Problem::random(groups(rule, 2), &deal(SIZES, 2), 2, 21).unwrap()
}

fn put(problem: &mut Problem, values: &[f32], shift: usize, pick: fn(&mut Data) -> &mut Vec<f32>) {
    for (i, &(tensor, index)) in PLACES.iter().enumerate() {
        pick(&mut problem.tensors[tensor])[index] = values[(i + shift) % values.len()];
    }
}

/// The same values without the elements at [`PLACES`].
fn without(problem: &Problem, outcome: &Outcome) -> (Problem, Outcome) {
    let keep = |tensor: usize, array: &Vec<f32>| -> Vec<f32> {
        let kept = array.iter().enumerate().filter(|(index, _)| !PLACES.contains(&(tensor, *index)));
        kept.map(|(_, x)| *x).collect()
    };
    let states = |t, states: &[Option<Vec<f32>>]| states.iter().map(|s| s.as_ref().map(|s| keep(t, s))).collect();
    let data = problem.tensors.iter().enumerate().map(|(t, data)| Data {
        group: data.group,
        param: keep(t, &data.param),
        grad: keep(t, &data.grad),
        states: states(t, &data.states),
        ..data.clone()
    });
    let moved = |(t, moved): (usize, &Moved)| Moved {
        param: keep(t, &moved.param),
        states: states(t, &moved.states),
        ..moved.clone()
    };
    let tensors = outcome.tensors.iter().enumerate().map(moved).collect();
    let outcome = Outcome { tensors, ..outcome.clone() };
    (Problem { tensors: data.collect(), ..problem.clone() }, outcome)
}

#[test]
fn a_number_that_is_not_finite_stays_in_its_element() {
    let mut count = 0;
    for entry in ALL {
        let rule = entry.sample();
        // With sums, one such number affects every element; through a matrix, it affects its whole block or matrix.
        let mixes = |procedure: &dyn Procedure| procedure.gradient().is_some() || procedure.iteration().is_some();
        if rule.sums().sums > 0 || rule.procedure().is_some_and(|procedure| mixes(procedure.as_ref())) {
            continue;
        }
        count += 1;
        let picks: [fn(&mut Data) -> &mut Vec<f32>; 2] = [|data| &mut data.grad, |data| &mut data.param];
        for pick in picks {
            for shift in 0..BAD.len() {
                let mut problem = problem(rule.as_ref());
                put(&mut problem, BAD, shift, pick);
                let outcome = check_pages(gpu(), entry.name, &problem, |_| (0, 1));
                let (problem, outcome) = without(&problem, &outcome);
                check(entry.name, &problem, &outcome);
            }
        }
    }
    assert!(count > 8, "{count} rules without sums");
}

#[test]
fn finite_extremes_are_right() {
    for entry in ALL {
        let rule = entry.sample();
        let mut optimizer = problem(rule.as_ref()).build(&gpu().device, &gpu().queue).unwrap();
        for shift in 0..EXTREME.len() {
            let mut problem = problem(rule.as_ref());
            put(&mut problem, EXTREME, shift, |data| &mut data.grad);
            put(&mut problem, EXTREME, shift + 4, |data| &mut data.param);
            check(&format!("{} {shift}", entry.name), &problem, &crate::common::take(gpu(), &mut optimizer, &problem));
        }
    }
}

/// Every gradient is zero, so that only decay and momentum act.
#[test]
fn gradients_of_zero_are_right() {
    for entry in ALL {
        let mut problem = problem(entry.sample().as_ref());
        for (i, data) in problem.tensors.iter_mut().enumerate() {
            data.grad.fill(if i % 2 == 0 { 0.0 } else { -0.0 });
        }
        let mut optimizer = problem.build(&gpu().device, &gpu().queue).unwrap();
        check(entry.name, &problem, &crate::common::take(gpu(), &mut optimizer, &problem));
    }
}

/// All parameters are zero: LAMB's norms are 0, and its ratio is 1.
#[test]
fn parameters_of_zero_are_right() {
    for entry in ALL {
        let mut problem = problem(entry.sample().as_ref());
        problem.tensors.iter_mut().for_each(|data| data.param.fill(0.0));
        let mut optimizer = problem.build(&gpu().device, &gpu().queue).unwrap();
        check(entry.name, &problem, &crate::common::take(gpu(), &mut optimizer, &problem));
    }
}

/// The outcome without the states whose content is undefined between steps.
fn kept(problem: &Problem, mut outcome: Outcome) -> Outcome {
    for moved in &mut outcome.tensors {
        let states = moved.states.iter_mut().zip(problem.groups[0].states());
        states.filter(|(_, spec)| spec.scratch).for_each(|(state, _)| *state = None);
    }
    outcome
}

#[test]
fn a_step_with_a_number_that_is_not_finite_is_skipped_on_request() {
    for entry in ALL {
        let good = problem(entry.sample().as_ref());
        let mut builder = Optimizer::builder(good.groups[0].clone());
        builder.skip_nonfinite(true);
        let handles = [Group::DEFAULT, builder.group("second", good.groups[1].clone())];
        for (i, data) in good.tensors.iter().enumerate() {
            builder.tensor(handles[data.group], format!("tensor {i}"), &data.shape);
        }
        let mut optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::from_bits(0x7f80_0001)] {
            for &(tensor, index) in PLACES {
                let mut problem = good.clone();
                problem.tensors[tensor].grad[index] = bad;
                problem.upload(&mut optimizer).unwrap();
                let before = read(&optimizer);
                gpu().run(|encoder| optimizer.step(encoder)).unwrap();
                let after = kept(&good, read(&optimizer));
                same(&format!("{} {bad} at {index} of {tensor}", entry.name), &kept(&good, before), &after);
                assert_eq!(block_on(optimizer.read_step_count()).unwrap(), 2, "{}", entry.name);
            }
        }
        check(entry.name, &good, &crate::common::take(gpu(), &mut optimizer, &good));
    }
}
