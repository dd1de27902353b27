//! The step count and its rings: bias corrections stay right past the end of a ring, and the number of steps in flight is bounded.

use wgpu_optim::optim::{AdamW, Rule};
use wgpu_optim::tools::verify::Problem;
use wgpu_optim::{Builder, Error, Group, Optimizer, Tensor};

use crate::common::{block_on, check, encoder, gpu, groups, read, submit};

/// The number of groups with which a ring has its shortest length: 512 rows.
const GROUPS: usize = 128;
const ROWS: u32 = 512;
/// Half of the ring's rows.
const BOUND: usize = 256;

fn problem(applied: u32) -> Problem {
    let rule = AdamW { weight_decay: 0.1, beta2: 0.9999, ..AdamW::default() };
    Problem::random(groups(&rule, GROUPS), &[(0, 5), (1, 3), (64, 2), (GROUPS - 1, 6)], applied, 9).unwrap()
}

fn build(problem: &Problem) -> Optimizer {
    let mut optimizer = problem.build(&gpu().device, &gpu().queue).unwrap();
    problem.upload(&mut optimizer).unwrap();
    optimizer
}

/// An optimizer with a step count that only the GPU knows, because steps are skipped.
fn build_skipping(problem: &Problem) -> Optimizer {
    let mut builder = Optimizer::builder(problem.groups[0].clone());
    builder.skip_nonfinite(true);
    let mut handles = vec![Group::DEFAULT];
    handles.extend((1..GROUPS).map(|i| builder.group(format!("{i}"), problem.groups[i].clone())));
    for (i, data) in problem.tensors.iter().enumerate() {
        builder.tensor(handles[data.group], format!("tensor {i}"), &data.shape);
    }
    let mut optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
    problem.upload(&mut optimizer).unwrap();
    optimizer
}

/// Takes one step from the optimizer's current state and compares it with the oracle's at that count.
#[track_caller]
fn check_step(problem: &Problem, optimizer: &mut Optimizer, count: u32) {
    assert_eq!(block_on(optimizer.read_step_count()).unwrap(), u64::from(count));
    let problem = Problem { applied: count, ..problem.next(read(optimizer)) };
    gpu().run(|encoder| optimizer.step(encoder)).unwrap();
    check(&format!("after {count} steps"), &problem, &read(optimizer));
}

#[test]
fn corrections_stay_right_past_the_end_of_the_ring() {
    let problem = problem(0);
    let mut optimizer = build(&problem);
    let mut count = 0;
    // Many steps per encoder, many encoders in flight, and one encoder at a time.
    for (encoders, steps) in [(1, 200), (200, 1), (3, 70), (1, 255), (70, 3), (1, 1), (2, 250), (300, 1)] {
        for _ in 0..encoders {
            let mut encoder = encoder();
            for _ in 0..steps {
                optimizer.step(&mut encoder).unwrap();
            }
            submit(encoder);
            // The number of steps in flight is bounded too.
            gpu().wait().unwrap();
        }
        count += encoders * steps;
        check_step(&problem, &mut optimizer, count);
        count += 1;
    }
    assert!(count > 3 * ROWS, "{count} steps never came past the end of the ring");
}

#[test]
fn steps_in_flight_without_a_wait() {
    let problem = problem(0);
    let mut optimizer = build(&problem);
    let mut refused = 0;
    let mut count = 0;
    while count < 2 * ROWS {
        let mut encoder = encoder();
        match optimizer.step(&mut encoder) {
            Ok(()) => count += 1,
            Err(Error::TooManySteps { bound: BOUND, .. }) => {
                refused += 1;
                gpu().wait().unwrap();
            }
            Err(other) => panic!("{other}"),
        }
        submit(encoder);
    }
    check_step(&problem, &mut optimizer, count);
    assert!(refused < count / 4, "{refused} of {count} steps were refused although the device was polled");
}

#[test]
fn more_unfinished_steps_than_the_bound_are_refused() {
    let problem = problem(0);
    let mut optimizer = build(&problem);
    let mut recorded = encoder();
    for _ in 0..BOUND {
        optimizer.step(&mut recorded).unwrap();
    }
    let before = read(&optimizer);
    let mut refused = encoder();
    for _ in 0..2 {
        let error = optimizer.step(&mut refused).unwrap_err();
        assert!(matches!(error, Error::TooManySteps { unfinished: BOUND, bound: BOUND }), "{error}");
        let text = error.to_string();
        assert!(text.contains("256 recorded steps are unfinished") && text.contains("at most 256"), "{text}");
    }
    submit(refused);
    crate::common::same("refused", &before, &read(&optimizer));
    submit(recorded);
    gpu().wait().unwrap();
    check_step(&problem, &mut optimizer, BOUND as u32);
    check_step(&problem, &mut optimizer, BOUND as u32 + 1);
}

#[test]
fn dropped_steps_do_not_count_towards_the_bound() {
    let problem = problem(0);
    let mut optimizer = build(&problem);
    for round in 0..5 {
        let mut dropped = encoder();
        for step in 0..BOUND {
            optimizer.step(&mut dropped).unwrap_or_else(|e| panic!("round {round}, step {step}: {e}"));
        }
        drop(dropped);
    }
    check_step(&problem, &mut optimizer, 0);
    // Some of the recorded steps are dropped; the others are submitted.
    for _ in 0..8 {
        let (mut dropped, mut kept) = (encoder(), encoder());
        for _ in 0..60 {
            optimizer.step(&mut kept).unwrap();
            optimizer.step(&mut dropped).unwrap();
        }
        submit(kept);
        drop(dropped);
        gpu().wait().unwrap();
    }
    check_step(&problem, &mut optimizer, 481);
}

#[test]
fn settings_of_unfinished_steps_have_a_bound() {
    let rule = AdamW::default().boxed();
    let problem = Problem::random(vec![rule], &[(0, 5)], 0, 9).unwrap();
    let mut optimizer = build(&problem);
    let mut recorded = encoder();
    let mut steps = 0;
    let error = loop {
        optimizer.set_lr(Group::DEFAULT, 1e-3 + 1e-6 * f64::from(steps)).unwrap();
        match optimizer.step(&mut recorded) {
            Ok(()) => steps += 1,
            Err(error) => break error,
        }
        assert!(steps < 1 << 20, "never refused");
    };
    assert!(
        matches!(error, Error::TooManySteps { unfinished, bound } if unfinished == bound && bound == steps as usize)
    );
    submit(recorded);
    gpu().wait().unwrap();
    let mut expected = problem;
    expected.groups[0] = AdamW { lr: 1e-3 + 1e-6 * f64::from(steps), ..AdamW::default() }.boxed();
    check_step(&expected, &mut optimizer, steps as u32);
}

/// If steps are skipped, only the GPU knows the step count.
#[test]
fn corrections_stay_right_where_steps_are_skipped() {
    let problem = problem(0);
    let mut optimizer = build_skipping(&problem);
    let first = optimizer.tensor("tensor 0").unwrap();
    let mut count = 0;
    for (encoders, steps, good) in [
        (100, 3, false),
        (1, 250, true),
        (1, 256, false),
        (2, 255, true),
        (300, 2, false),
        (400, 1, true),
        (1, 9, true),
    ] {
        let bad = vec![f32::NAN; problem.tensors[0].grad.len()];
        optimizer.write_grad(first, if good { &problem.tensors[0].grad } else { &bad }).unwrap();
        for _ in 0..encoders {
            let (mut kept, mut dropped) = (encoder(), encoder());
            for step in 0..steps {
                optimizer.step(&mut kept).unwrap();
                if step == 0 && encoders > 1 {
                    optimizer.step(&mut dropped).unwrap();
                }
            }
            submit(kept);
            gpu().wait().unwrap();
        }
        optimizer.write_grad(first, &problem.tensors[0].grad).unwrap();
        count += if good { encoders * steps } else { 0 };
        check_step(&problem, &mut optimizer, count);
        count += 1;
    }
    assert!(count > 2 * ROWS);
}

/// States that are loaded into an optimizer after some steps come with their own step count.
#[test]
fn a_count_that_is_set_back_brings_its_corrections() {
    let problem = problem(2);
    check_set_back(&problem, build(&problem));
    check_set_back(&problem, build_skipping(&problem));
}

fn check_set_back(problem: &Problem, mut optimizer: Optimizer) {
    for count in [2, 300, 100_000, 7] {
        for _ in 0..3 {
            let mut encoder = encoder();
            for _ in 0..100 {
                optimizer.step(&mut encoder).unwrap();
            }
            submit(encoder);
            gpu().wait().unwrap();
        }
        let problem = Problem { applied: count, ..problem.clone() };
        problem.upload(&mut optimizer).unwrap();
        check_step(&problem, &mut optimizer, count);
        let mut encoder = encoder();
        for _ in 0..250 {
            optimizer.step(&mut encoder).unwrap();
        }
        submit(encoder);
        gpu().wait().unwrap();
        check_step(&problem, &mut optimizer, count + 251);
    }
}

/// Records as many steps as the documentation promises, each with settings and gradients of its own.
fn check_promise(what: &str, tensors: usize, describe: impl FnOnce(&mut Builder, &[Tensor])) {
    let mut builder = Optimizer::builder(AdamW::default());
    let tensors: Vec<Tensor> = (0..tensors).map(|i| builder.tensor(Group::DEFAULT, format!("{i}"), &[1])).collect();
    describe(&mut builder, &tensors);
    let mut optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
    let mut recorded = encoder();
    for step in 0..BOUND {
        optimizer.set_lr(Group::DEFAULT, 1e-3 + 1e-6 * step as f64).unwrap();
        optimizer.step(&mut recorded).unwrap_or_else(|e| panic!("{what}, step {step}: {e}"));
    }
}

#[test]
fn as_many_steps_as_promised_may_be_unfinished() {
    check_promise("rebound gradients", 20_000, |builder, _| _ = builder.dynamic_gradients(true));
    check_promise("row sets", 2000, |builder, tensors| {
        for (i, tensor) in tensors.iter().enumerate() {
            builder.row_set(format!("rows {i}"), &[*tensor]);
        }
    });
}
