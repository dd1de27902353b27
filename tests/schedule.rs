//! Schedules against torch's, their limits and text, and their use by the optimizers.
#![cfg(feature = "tools")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support {
    pub(crate) mod device;
    pub(crate) mod gpu;
    pub(crate) mod host;
}

use proptest::prelude::*;
use serde_json::Value as Json;
use wgpu_optim::optim::{ALL, Rule, Value};
use wgpu_optim::schedule::{
    Anneal, Constant, Cosine, Exponential, InverseSqrt, Linear, MultiStep, OneCycle, Polynomial, Schedule, Step, names,
};
use wgpu_optim::{AdamW, Asgd, Builder, FlowAdam, Group, NAdam, Optimizer, Rprop, Sgd};

use support::gpu::GPU;
use support::host;

// ---- torch

#[test]
fn rates_are_those_of_torch() {
    let golden: Json = serde_json::from_str(include_str!("golden/schedules.json")).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() >= 20 && golden["torch"].is_string());
    let mut worst = (0.0, String::new());
    for case in cases {
        let schedule =
            case["schedule"].as_str().unwrap().parse::<Schedule>().unwrap().base(case["base"].as_f64().unwrap());
        let rates = case["rates"].as_array().unwrap();
        assert_eq!(rates.len(), 200);
        for (t, expected) in rates.iter().enumerate() {
            let (rate, expected) = (schedule.rate(t as u64), expected.as_f64().unwrap());
            let off = (rate - expected).abs();
            assert!(off <= 1e-12 * expected.abs(), "{schedule} at {t}: {rate:e}, torch has {expected:e}");
            if off > worst.0 * expected {
                worst = (off / expected, format!("{schedule} at {t}"));
            }
        }
    }
    println!("worst relative deviation from torch: {:e} ({})", worst.0, worst.1);
}

#[test]
fn every_shape_but_the_inverse_square_root_is_compared_with_torch() {
    let golden: Json = serde_json::from_str(include_str!("golden/schedules.json")).unwrap();
    let texts: Vec<&str> =
        golden["cases"].as_array().unwrap().iter().map(|c| c["schedule"].as_str().unwrap()).collect();
    for name in names() {
        let seen = texts.iter().flat_map(|t| t.split('/')).any(|part| part.split(':').next() == Some(name));
        assert_eq!(seen, name != "inverse_sqrt", "{name}");
    }
}

// ---- limits

#[test]
fn the_inverse_square_root_follows_its_warm_up() {
    let schedule = Schedule::from(InverseSqrt::new()).warmup_from(400, 0.0).base(2.0);
    assert_eq!(schedule.rate(0), 0.0);
    assert_eq!(schedule.rate(200), 1.0);
    for t in [400_u64, 1000, 123_456] {
        let expected = 2.0 * (400.0 / t as f64).sqrt();
        assert!((schedule.rate(t) - expected).abs() <= 1e-15 * expected, "{t}");
    }
    assert_eq!(Schedule::from(InverseSqrt::new()).rate(30_000), 0.5);
    assert_eq!(Schedule::from(InverseSqrt { timescale: 10 }).rate(30), 0.5);
}

#[test]
fn a_finished_shape_keeps_its_last_value() {
    let at = |schedule: Schedule| [schedule.rate(100), schedule.rate(1_000_000), schedule.rate(u64::MAX)];
    assert_eq!(at(Linear { start: 1.0, end: 0.25, steps: 100 }.into()), [0.25; 3]);
    assert_eq!(at(Cosine { steps: 100, min: 0.1, hold: true }.into()), [0.1; 3]);
    assert_eq!(at(Polynomial { steps: 100, power: 2.0 }.into()), [0.0; 3]);
    assert_eq!(at(OneCycle::new(100).into()), [1.0 / 25.0 / 1e4; 3]);
    assert_eq!(at(Constant::new().into()), [1.0; 3]);
    assert_eq!(at(Cosine::new(100).into()), [0.0; 3]);
    assert_eq!(at("cosine:steps=100,min=0.1".parse().unwrap()), [0.1; 3]);
    assert_eq!(Schedule::from(Cosine { hold: false, ..Cosine::new(100) }).rate(200), 1.0);
}

fn rates(schedule: &Schedule, steps: u64) -> Vec<f64> {
    (0..steps).map(|t| schedule.rate(t)).collect()
}

fn optional<T: std::fmt::Debug>(of: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    proptest::option::of(of)
}

/// A shape, and the longest warm-up that it takes.
fn shape() -> impl Strategy<Value = (Schedule, u64)> {
    let (count, share, factor) = (1_u64..1000, 0.0..=1.0_f64, 1e-9..1e9_f64);
    let anneal = prop_oneof![Just(Anneal::Cos), Just(Anneal::Linear)];
    let cycle = (count.clone(), share.clone(), factor.clone(), factor.clone(), anneal, any::<bool>());
    let endless = |shape: Schedule| (shape, u64::MAX);
    prop_oneof![
        Just(endless(Constant::new().into())),
        (share.clone(), share.clone(), count.clone())
            .prop_map(|(start, end, steps)| (Linear { start, end, steps }.into(), steps)),
        (count.clone(), 0.0..1e-3, any::<bool>())
            .prop_map(|(steps, min, hold)| (Cosine { steps, min, hold }.into(), steps)),
        share.clone().prop_map(move |x| endless(Exponential::new(x + 1e-3).into())),
        (count.clone(), factor.clone()).prop_map(move |(step_size, gamma)| endless(Step { step_size, gamma }.into())),
        (proptest::collection::vec(0_u64..500, 0..4), factor)
            .prop_map(move |(milestones, gamma)| endless(MultiStep { milestones, gamma }.into())),
        cycle.prop_map(|(steps, pct_start, div_factor, final_div_factor, anneal, three_phase)| {
            (OneCycle { steps, pct_start, div_factor, final_div_factor, anneal, three_phase }.into(), steps)
        }),
        (0_u64..1000).prop_map(move |timescale| endless(InverseSqrt { timescale }.into())),
        (count, 0.0..5.0).prop_map(|(steps, power)| (Polynomial { steps, power }.into(), steps)),
    ]
}

/// The longest warm-up of a part.
const LONGEST: u64 = 100;

fn part() -> impl Strategy<Value = Schedule> {
    (shape(), optional((0..=LONGEST, optional(0.0..1.0_f64))), optional(1e-9..10.0_f64)).prop_map(
        |((schedule, longest), warmup, base)| {
            let schedule = match warmup {
                Some((steps, Some(from))) => schedule.warmup_from(steps.min(longest), from),
                Some((steps, None)) => schedule.warmup(steps.min(longest)),
                None => schedule,
            };
            base.map_or(schedule.clone(), |base| schedule.base(base))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn text_reads_as_what_wrote_it(first in part(), rest in proptest::collection::vec((LONGEST..500, part()), 0..3)) {
        let mut at = 0;
        let schedule = rest.into_iter().fold(first, |schedule, (gap, next)| {
            at += gap;
            schedule.then(at, next)
        });
        schedule.check().unwrap();
        prop_assert_eq!(schedule.to_string().parse::<Schedule>().unwrap(), schedule);
    }

    #[test]
    fn falling_shapes_fall_and_stay_in_their_bounds(
        steps in 1_u64..300, low in 0.0..1.0_f64, gamma in 0.5..1.0_f64, power in 0.1..4.0_f64,
    ) {
        let falling: [Schedule; 7] = [
            Linear { start: 1.0, end: low, steps }.into(),
            Cosine { steps, min: low, hold: true }.into(),
            Exponential { gamma }.into(),
            Step { step_size: steps, gamma }.into(),
            MultiStep { milestones: vec![steps, 2 * steps], gamma }.into(),
            Polynomial { steps, power }.into(),
            InverseSqrt { timescale: steps }.into(),
        ];
        for schedule in falling {
            let rates = rates(&schedule, 400);
            prop_assert_eq!(rates[0], 1.0);
            prop_assert!(rates.windows(2).all(|w| w[1] <= w[0] + 1e-15 && w[1] >= 0.0), "{}", schedule);
        }
        let floor = Schedule::from(Cosine { steps, min: low, hold: true });
        prop_assert!(rates(&floor, 400).into_iter().all(|r| r >= low));
    }

    #[test]
    fn a_warm_up_climbs_to_the_first_rate_and_moves_the_rest_back((schedule, _) in shape(), n in 0_u64..200, base in 1e-6..1.0_f64) {
        let warm = schedule.clone().warmup(n).base(base);
        let first = warm.rate(n);
        prop_assert!(rates(&warm, n + 1).windows(2).all(|w| w[0] < w[1] || first == 0.0));
        prop_assert!(first == 0.0 || warm.rate(0) > 0.0);
        // The inverse square root depends on its warm-up.
        if !schedule.to_string().starts_with("inverse_sqrt") {
            let cold = schedule.base(base);
            prop_assert!((0..50).all(|t| warm.rate(n + t) == cold.rate(t)));
        }
    }

    #[test]
    fn a_sequence_is_its_parts(first in part(), at in 1_u64..300, next in part(), n in 0_u64..50) {
        let next = next.base(0.5);
        let both = first.clone().then(at, next.clone());
        prop_assert!((0..at).all(|t| both.rate(t) == first.rate(t)));
        prop_assert!((0..300).all(|t| both.rate(at + t) == next.rate(t)));
        let whole = Schedule::from(Constant::new()).then(at, next.clone()).warmup(n);
        prop_assert!((0..300).all(|t| whole.rate(n + at + t) == next.rate(t)));
    }

    #[test]
    fn one_cycle_peaks_at_the_base_and_ends_at_the_lowest(
        steps in 20_u64..300, start in 0.1..0.5_f64, div in 1.0..100.0_f64, last in 1.0..1e6_f64,
        anneal in prop_oneof![Just(Anneal::Cos), Just(Anneal::Linear)], three_phase: bool,
    ) {
        let cycle = OneCycle { steps, pct_start: start, div_factor: div, final_div_factor: last, anneal, three_phase };
        let rates = rates(&cycle.into(), steps);
        let low = 1.0 / div / last;
        prop_assert!(rates.iter().all(|r| *r <= 1.0 + 1e-12 && *r >= low - 1e-12));
        prop_assert!((rates[0] - 1.0 / div).abs() < 1e-12);
        prop_assert!((rates[steps as usize - 1] - low).abs() < 1e-12);
    }
}

/// The schedules of the documentation's examples for a training of 460 steps, read from the text.
#[test]
fn the_examples_of_the_command_line_reach_their_end() {
    for text in [include_str!("../docs/cli.md"), include_str!("../src/cli/train.rs")] {
        let found: Vec<_> = text
            .match_indices("cosine:")
            .map(|(at, _)| &text[at..])
            .map(|rest| &rest[..rest.find([' ', '`', ';']).unwrap()])
            .collect();
        assert!(!found.is_empty());
        for schedule in found {
            let schedule: Schedule = schedule.parse().unwrap();
            assert!(schedule.rate(459) > 0.0 && schedule.rate(459) < 1e-4, "{schedule}: {}", schedule.rate(459));
            assert_eq!([schedule.rate(460), schedule.rate(700)], [0.0; 2], "{schedule}");
        }
    }
}

// ---- text and mistakes

fn refused(text: &str) -> String {
    text.parse::<Schedule>().unwrap_err().to_string()
}

#[test]
fn mistakes_in_a_text_are_named() {
    for (text, said) in [
        ("cosin:steps=3", "did you mean `cosine`?"),
        ("", "unknown schedule ``"),
        ("cosine:step=3", "did you mean `steps`?"),
        ("cosine", "steps has no default"),
        ("cosine:steps=0", "steps is 0, needs at least 1"),
        ("cosine:steps=-3", "steps is `-3`, needs a count of steps"),
        ("cosine:steps=3,steps=4", "steps is given twice"),
        ("cosine:steps=3,min", "`min` is not KEY=VALUE"),
        ("cosine:steps=3,min=nan", "min is NaN, needs a finite number of at least 0"),
        ("cosine:steps=3,hold=maybe", "needs true or false"),
        ("exponential:gamma=0", "gamma is 0, needs a finite number above 0"),
        ("one_cycle:steps=9,pct_start=1.5", "pct_start is 1.5, needs a number in [0, 1]"),
        ("one_cycle:steps=9,anneal=sine", "anneal is `sine`, needs cos or linear"),
        ("multi_step:milestones=3+x", "needs steps with + between them"),
        ("constant:base=-1", "base is -1"),
        ("constant:warmup_from=0.5", "needs warmup beside it"),
        ("constant:from=5", "from is 5"),
        ("constant/linear", "it begins at step 0, needs a step past 0"),
        ("constant/linear:from=9/cosine:steps=3,from=9", "it begins at step 9, needs a step past 9"),
        ("cosine:steps=10,warmup=50", "warmup is 50, longer than the whole schedule of steps = 10"),
        ("linear:warmup=6", "longer than the whole schedule of steps = 5"),
        (
            "constant:warmup=50/linear:from=10",
            "longer than the 10 steps until the next schedule begins: needs at most 10",
        ),
        ("custom", "unknown schedule `custom`"),
        ("cosine:steps=3,total=4", "steps and total are both given, needs one of them"),
        ("cosine:total=20,warmup=20", "total is 20, needs more than the 20 steps before the shape begins"),
        ("constant/polynomial:from=30,total=20", "total is 20, needs more than the 30 steps"),
        ("inverse_sqrt:total=20", "total is 20, needs a shape with steps"),
        ("linear:total=many", "total is `many`, needs a count of steps"),
    ] {
        assert!(refused(text).contains(said), "{text}: {}", refused(text));
    }
}

#[test]
fn texts_mean_what_they_say() {
    let parse = |text: &str| text.parse::<Schedule>().unwrap();
    assert_eq!(parse("linear:start=1/3"), Linear::new().into());
    assert_eq!(
        parse(" constant : warmup = 5 /cosine:from=100,steps=900,min=1e-5"),
        Schedule::from(Constant::new()).warmup(5).then(100, Cosine { min: 1e-5, ..Cosine::new(900) })
    );
    assert_eq!(
        parse("cosine:steps=10,warmup=10/polynomial:from=20,steps=10,warmup=10"),
        Schedule::from(Cosine::new(10))
            .then(10, Schedule::from(Polynomial { steps: 10, power: 1.0 }).warmup(10))
            .warmup(10)
    );
    assert_eq!(parse("multi_step:milestones=30+80"), MultiStep::new(vec![30, 80]).into());
    assert_eq!(parse("cosine:warmup=20,total=460"), Schedule::from(Cosine::new(440)).warmup(20));
    assert_eq!(
        parse("linear:start=0/one_cycle:from=30,total=100,warmup=10"),
        Schedule::from(Linear { start: 0.0, ..Linear::new() })
            .then(30, Schedule::from(OneCycle::new(7)).warmup(10))
            .total(100)
            .unwrap()
    );
    assert_eq!(Schedule::custom(|_| 1.0).to_string(), "custom");
    assert!(wgpu_optim::schedule::HELP.lines().count() < 20);
    for name in names() {
        assert!(
            wgpu_optim::schedule::HELP.contains(&format!("\n  {name} ").replace("constant ", "constant\n")),
            "{name}"
        );
    }
}

// ---- the host's optimizers

fn one_number(rule: &dyn Rule) -> Builder {
    host::builder([("default", rule.boxed())], [("w", 0, 1)])
}

#[test]
fn the_host_takes_the_rate_of_the_applied_step() {
    let mut builder = one_number(&Sgd { lr: 0.5, ..Sgd::default() });
    let mut optimizer = builder.schedule(Group::DEFAULT, Exponential::new(0.5)).build_cpu::<f64>().unwrap();
    let mut w = [0.0];
    for moved in [0.5, 0.75, 0.875] {
        optimizer.step(&mut [&mut w], &[&[-1.0]]).unwrap();
        assert_eq!(w[0], moved);
    }
    optimizer.set_step_count(0);
    optimizer.step(&mut [&mut w], &[&[-1.0]]).unwrap();
    assert_eq!(w[0], 1.375);
    let error = optimizer.set(Group::DEFAULT, "lr", &Value::Number(1.0)).unwrap_err().to_string();
    assert!(
        error.contains("lr of group `default` belongs to its schedule `exponential:gamma=0.5,base=0.5`"),
        "{error}"
    );
}

#[test]
fn any_number_is_scheduled_and_senseless_schedules_are_refused() {
    let sgd = Sgd { lr: 0.1, weight_decay: 0.1, ..Sgd::default() };
    for (setting, schedule, said) in [
        ("rate", Schedule::from(Constant::new()), "unknown setting of sgd `rate`"),
        ("lr", Cosine::new(0).into(), "steps is 0"),
        ("lr", Schedule::custom(|_| f64::NAN), "at step 1: sgd: lr is NaN"),
        ("momentum", Schedule::custom(|_| 0.9), "momentum = 0.9 changes which states are kept"),
        ("nesterov", Constant::new().into(), "nesterov"),
    ] {
        let mut builder = one_number(&sgd);
        let error = builder.schedule_setting(Group::DEFAULT, setting, schedule).build_cpu::<f64>().unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
    let zero_from_2 = Schedule::custom(|t| if t < 2 { 0.1 } else { f64::INFINITY });
    let mut builder = one_number(&sgd);
    let mut optimizer =
        builder.schedule_setting(Group::DEFAULT, "weight_decay", zero_from_2).build_cpu::<f64>().unwrap();
    let mut w = [1.0];
    for _ in 0..2 {
        optimizer.step(&mut [&mut w], &[&[0.0]]).unwrap();
    }
    let before = w;
    let error = optimizer.step(&mut [&mut w], &[&[0.0]]).unwrap_err().to_string();
    assert!(error.contains("at step 3: sgd: weight_decay is inf"), "{error}");
    assert_eq!((w, optimizer.step_count()), (before, 2));
}

// ---- the GPU's

fn build(builder: Builder) -> Optimizer {
    builder.build(&GPU.device, &GPU.queue).unwrap()
}

fn step(optimizer: &mut Optimizer) -> wgpu_optim::Result<()> {
    GPU.run(|encoder| optimizer.step(encoder))
}

const LENGTHS: [usize; 2] = [37, 1030];
const SKIPPED: u64 = 5;

fn numbers(seed: u64, n: usize) -> Vec<f32> {
    // Away from 0, where the sign of a moment may depend on the last bit.
    (0..n as u64)
        .map(|i| {
            let x = ((i * 7919 + seed * 104_729 + 17) % 1009) as f32 / 1009.0 - 0.5;
            x + 0.1 * x.signum()
        })
        .collect()
}

fn steep() -> Schedule {
    Schedule::from(Exponential::new(0.8)).warmup(4)
}

/// The oracle's parameters after 20 steps, and how far each moved. `by_call`: the schedule moves on in the skipped step, too.
fn oracle(rule: &dyn Rule, by_call: bool) -> Vec<Vec<(f64, f64)>> {
    let tensors = (0..2).map(|i| (format!("t{i}"), i, LENGTHS[i]));
    let groups = [("default", rule.boxed()), ("fixed", rule.boxed())];
    let mut builder = host::builder(groups, tensors);
    let lag = u64::from(by_call);
    let base = match rule.settings().into_iter().find(|(name, _)| *name == "lr") {
        Some((_, Value::Number(lr))) => lr,
        other => panic!("{}: {other:?}", rule.name()),
    };
    let schedule = steep().base(base);
    let late = Schedule::custom(move |t| schedule.rate(if t + 1 >= SKIPPED { t + lag } else { t }));
    let mut optimizer = builder.schedule(Group::DEFAULT, late).build_cpu::<f64>().unwrap();
    let wide = |x: Vec<f32>| -> Vec<f64> { x.into_iter().map(f64::from).collect() };
    let mut params: Vec<Vec<f64>> = (0..2).map(|i| wide(numbers(1000 + i as u64, LENGTHS[i]))).collect();
    let mut paths: Vec<Vec<f64>> = LENGTHS.iter().map(|n| vec![0.0; *n]).collect();
    for t in (1..=20).filter(|t| *t != SKIPPED) {
        let before = params.clone();
        let grads: Vec<Vec<f64>> = (0..2).map(|i| wide(numbers(t * 2 + i as u64, LENGTHS[i]))).collect();
        let mut slices: Vec<&mut [f64]> = params.iter_mut().map(Vec::as_mut_slice).collect();
        let grads: Vec<&[f64]> = grads.iter().map(Vec::as_slice).collect();
        optimizer.step(&mut slices, &grads).unwrap();
        let moves = params.iter().flatten().zip(before.iter().flatten()).map(|(a, b)| (a - b).abs());
        paths.iter_mut().flatten().zip(moves).for_each(|(path, moved)| *path += moved);
    }
    params.into_iter().zip(paths).map(|(p, path)| p.into_iter().zip(path).collect()).collect()
}

fn on_gpu(rule: &dyn Rule) -> Vec<Vec<f32>> {
    let mut builder = Optimizer::builder(rule.boxed());
    builder.undamped_steps(true);
    let fixed = builder.group("fixed", rule.boxed());
    builder.skip_nonfinite(true).schedule(Group::DEFAULT, steep());
    let groups = [Group::DEFAULT, fixed];
    let tensor = |i: usize| builder.tensor(groups[i], format!("t{i}"), &builder.sample_shape(groups[i], LENGTHS[i]));
    let tensors: Vec<_> = (0..2).map(tensor).collect();
    let mut optimizer = build(builder);
    for (i, tensor) in tensors.iter().enumerate() {
        optimizer.write_param(*tensor, &numbers(1000 + i as u64, LENGTHS[i])).unwrap();
    }
    for t in 1..=20 {
        for (i, tensor) in tensors.iter().enumerate() {
            let mut grad = numbers(t * 2 + i as u64, LENGTHS[i]);
            if t == SKIPPED && i == 1 {
                grad[LENGTHS[1] - 1] = f32::NAN;
            }
            optimizer.write_grad(*tensor, &grad).unwrap();
        }
        step(&mut optimizer).unwrap();
    }
    let applied = pollster::block_on(optimizer.read_step_count()).unwrap();
    assert_eq!(applied, 19, "{}", rule.name());
    tensors.iter().map(|t| pollster::block_on(optimizer.read_param(*t)).unwrap()).collect()
}

/// The largest error as a share of the allowed error, which grows with the path and with the rounding of every step.
fn error(found: &[f32], expected: &[(f64, f64)]) -> f64 {
    let share = |(found, (expected, path)): (&f32, &(f64, f64))| {
        (f64::from(*found) - expected).abs() / (1e-4 * path + 60.0 * f64::from(f32::EPSILON) * expected.abs() + 1e-30)
    };
    found.iter().zip(expected).map(share).fold(0.0, f64::max)
}

#[test]
fn a_skipped_step_does_not_move_the_schedule_of_any_rule() {
    // A rule with steps that do not count takes no schedule.
    for entry in ALL.iter().filter(|entry| !entry.sample().sums().may_hold) {
        let (name, rule) = entry.variants().swap_remove(0);
        let found = on_gpu(rule.as_ref());
        let (right, wrong) = (oracle(rule.as_ref(), false), oracle(rule.as_ref(), true));
        let errors = [error(&found[0], &right[0]), error(&found[1], &right[1])];
        println!("{} {name}: {errors:?}, moved on: {}", entry.name, error(&found[0], &wrong[0]));
        assert!(errors.iter().all(|e| *e <= 1.0), "{} {name}: {errors:?}", entry.name);
        // Rprop's rate is that of the first step only.
        let seen = error(&found[0], &wrong[0]) > 3.0 || entry.name == "rprop";
        assert!(seen, "{} {name}: the test would not see the schedule move", entry.name);
    }
}

#[test]
fn a_schedule_owns_its_setting_and_others_wait_for_the_gpu() {
    let mut builder = Optimizer::builder(AdamW { lr: 0.25, ..AdamW::default() });
    builder.tensor(Group::DEFAULT, "w", &[4]);
    builder.schedule(Group::DEFAULT, Exponential::new(0.5));
    let mut optimizer = build(builder);
    assert_eq!(optimizer.schedule(Group::DEFAULT, "lr").unwrap().unwrap().rate(1), 0.125);
    assert!(optimizer.schedule(Group::DEFAULT, "beta1").unwrap().is_none());
    let error = optimizer.set_lr(Group::DEFAULT, 1.0).unwrap_err().to_string();
    assert!(error.contains("lr of group `default` belongs to its schedule"), "{error}");

    let mut encoder = GPU.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    optimizer.step(&mut encoder).unwrap();
    let decay = |optimizer: &mut Optimizer| optimizer.set(Group::DEFAULT, "weight_decay", &Value::Number(0.5));
    assert!(decay(&mut optimizer).unwrap_err().to_string().contains("every recorded step is finished"));
    GPU.queue.submit([encoder.finish()]);
    GPU.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    decay(&mut optimizer).unwrap();
    let tensor = optimizer.tensor("w").unwrap();
    optimizer.write_param(tensor, &[1.0; 4]).unwrap();
    step(&mut optimizer).unwrap();
    let w = pollster::block_on(optimizer.read_param(tensor)).unwrap();
    assert_eq!(w, [1.0 - 0.125 * 0.5; 4]);
}

#[test]
fn a_value_out_of_range_stops_its_own_step() {
    let mut builder = Optimizer::builder(Sgd { lr: 0.5, ..Sgd::default() });
    let tensor = builder.tensor(Group::DEFAULT, "w", &[4]);
    builder.schedule(Group::DEFAULT, Schedule::custom(|t| if t < 3 { 0.5 } else { -1.0 }));
    let mut optimizer = build(builder);
    optimizer.write_grad(tensor, &[-1.0; 4]).unwrap();
    for _ in 0..3 {
        step(&mut optimizer).unwrap();
    }
    let error = step(&mut optimizer).unwrap_err().to_string();
    assert!(error.contains("group `default`: its schedule `custom` at step 4: sgd: lr is -1"), "{error}");
    assert_eq!(pollster::block_on(optimizer.read_param(tensor)).unwrap(), [1.5; 4]);

    let mut builder = Optimizer::builder(Sgd { lr: 0.5, ..Sgd::default() });
    builder.schedule(Group::DEFAULT, Cosine::new(0));
    assert!(builder.build(&GPU.device, &GPU.queue).unwrap_err().to_string().contains("steps is 0"));
}

#[test]
fn the_position_is_restored_with_the_count() {
    let mut builder = Optimizer::builder(Sgd { lr: 1.0, ..Sgd::default() });
    let tensor = builder.tensor(Group::DEFAULT, "w", &[4]);
    builder.schedule(Group::DEFAULT, Step { step_size: 100, gamma: 0.5 });
    let mut optimizer = build(builder);
    optimizer.write_grad(tensor, &[-1.0; 4]).unwrap();
    optimizer.write_step_count(99_999).unwrap();
    optimizer.write_step_count(99).unwrap();
    step(&mut optimizer).unwrap();
    step(&mut optimizer).unwrap();
    assert_eq!(pollster::block_on(optimizer.read_param(tensor)).unwrap(), [1.5; 4]);
}

#[test]
fn by_call_a_schedule_sets_the_rate() {
    let mut builder = Optimizer::builder(Sgd { lr: 9.0, ..Sgd::default() });
    let tensor = builder.tensor(Group::DEFAULT, "w", &[4]);
    let mut optimizer = build(builder);
    optimizer.write_grad(tensor, &[-1.0; 4]).unwrap();
    let schedule = Schedule::from(Exponential::new(0.5));
    let error = schedule.apply(&mut optimizer, Group::DEFAULT, 0).unwrap_err().to_string();
    assert!(error.contains("has no base"), "{error}");
    let schedule = schedule.base(1.0);
    for call in 0..3 {
        schedule.apply(&mut optimizer, Group::DEFAULT, call).unwrap();
        step(&mut optimizer).unwrap();
    }
    assert_eq!(pollster::block_on(optimizer.read_param(tensor)).unwrap(), [1.75; 4]);
}

// ---- steps that do not count

#[test]
fn a_schedule_that_would_stand_still_is_refused() {
    let holding: Vec<_> = ALL.iter().filter(|entry| entry.sample().sums().may_hold).collect();
    assert_eq!(holding.iter().map(|entry| entry.name).collect::<Vec<_>>(), ["flowadam"]);
    for setting in ["lr", "beta1"] {
        let mut builder = one_number(&FlowAdam::default());
        builder.schedule_setting(Group::DEFAULT, setting, Constant::new());
        let error = builder.build(&GPU.device, &GPU.queue).unwrap_err().to_string();
        let says = format!("would stand still: set {setting} before each step from a count of your own");
        assert!(error.contains("flowadam does not count its steps along the flow") && error.contains(&says), "{error}");
        assert_eq!(builder.build_cpu::<f64>().unwrap_err().to_string(), error);
    }
    // The call that the error names works, also while steps are unfinished.
    let mut builder = Optimizer::builder(FlowAdam::default());
    builder.tensor(Group::DEFAULT, "w", &[1]);
    let (mut on_host, mut on_gpu) = (builder.build_cpu::<f64>().unwrap(), build(builder));
    let schedule = Schedule::from(Exponential::new(0.5)).base(1.0);
    let mut encoder = GPU.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    for call in 0..3 {
        schedule.apply(&mut on_gpu, Group::DEFAULT, call).unwrap();
        on_gpu.step(&mut encoder).unwrap();
        on_host.set_lr(Group::DEFAULT, schedule.rate(call)).unwrap();
    }
    GPU.queue.submit([encoder.finish()]);
    assert_eq!([on_gpu.lr(Group::DEFAULT).unwrap(), on_host.lr(Group::DEFAULT).unwrap()], [0.25; 2]);
}

// ---- scalars with a past

/// β1 rises from 0.5 to 0.99 after ten steps, by hand or by schedule. The numbers are torch's, whose NAdam keeps the product of the momenta
/// that it used.
#[test]
fn a_beta1_that_changes_keeps_nadams_product_of_the_past() {
    let rule = NAdam { lr: 0.01, beta1: 0.5, momentum_decay: 100.0, ..NAdam::default() };
    let late = || Schedule::custom(|t| if t < 10 { 0.5 } else { 0.99 });
    for scheduled in [false, true] {
        let mut builder = Optimizer::builder(rule);
        let tensor = builder.tensor(Group::DEFAULT, "w", &[1]);
        if scheduled {
            builder.schedule_setting(Group::DEFAULT, "beta1", late());
        }
        let mut on_host = builder.build_cpu::<f64>().unwrap();
        let mut on_gpu = builder.build(&GPU.device, &GPU.queue).unwrap();
        on_gpu.write_param(tensor, &[1.0]).unwrap();
        let mut w = [1.0_f64];
        for t in 0..11 {
            if t == 10 && !scheduled {
                let beta1 = Value::Number(0.99);
                on_host.set(Group::DEFAULT, "beta1", &beta1).unwrap();
                on_gpu.set(Group::DEFAULT, "beta1", &beta1).unwrap();
            }
            let gradient = 1.0 + 0.1 * f64::from(t % 3);
            on_host.step(&mut [&mut w], &[&[gradient]]).unwrap();
            on_gpu.write_grad(tensor, &[gradient as f32]).unwrap();
            step(&mut on_gpu).unwrap();
            let of_gpu = f64::from(pollster::block_on(on_gpu.read_param(tensor)).unwrap()[0]);
            let of_torch = [None, Some(0.894_115_4), Some(0.884_315_4)][(t.max(8) - 8) as usize];
            for found in [w[0], of_gpu] {
                assert!(
                    of_torch.is_none_or(|w: f64| (found - w).abs() < 2e-7),
                    "{scheduled} {t}: {found}, {of_torch:?}"
                );
            }
        }
    }
}

/// A learning rate that rises from 0.1 to 0.4 before the fourth of six steps. The numbers are torch's: ASGD's rate is that of the settings of the
/// step before, and Rprop's step goes on from its own size.
#[test]
fn a_rate_that_changes_leaves_the_past_of_asgd_and_rprop() {
    let asgd = Asgd { lr: 0.1, lambd: 0.5, t0: 2.0, weight_decay: 0.1, ..Asgd::default() };
    let rprop = Rprop { lr: 0.1, ..Rprop::default() };
    type Case = (Box<dyn Rule>, [[f64; 2]; 3], [(&'static str, [f64; 2]); 2]);
    let cases: [Case; 2] = [
        (
            asgd.into(),
            [[0.416_383_6, -0.258_108_4], [0.068_939_6, -0.243_986_2], [-0.226_308_1, -0.280_520_6]],
            [("ax", [0.086_338_35, -0.260_871_74]), ("eta", [0.221_433_3; 2])],
        ),
        (
            rprop.into(),
            [[0.4632, 0.0368], [0.255_84, 0.0368], [0.007_008, -0.0496]],
            [("s", [0.248_832, 0.0864]), ("q", [1.0, 1.0])],
        ),
    ];
    for (rule, of_torch, states) in cases {
        let mut builder = Optimizer::builder(rule.clone());
        let tensor = builder.tensor(Group::DEFAULT, "w", &[2]);
        let mut on_host = builder.build_cpu::<f64>().unwrap();
        let mut on_gpu = builder.build(&GPU.device, &GPU.queue).unwrap();
        let mut w = [1.0_f64, -0.5];
        on_gpu.write_param(tensor, &[1.0, -0.5]).unwrap();
        for t in 0..6 {
            if t == 3 {
                on_host.set_lr(Group::DEFAULT, 0.4).unwrap();
                on_gpu.set_lr(Group::DEFAULT, 0.4).unwrap();
            }
            let gradient = [1.0 + 0.1 * f64::from(t % 3), -0.7 + 0.2 * f64::from(t)];
            on_host.step(&mut [&mut w], &[&gradient]).unwrap();
            on_gpu.write_grad(tensor, &gradient.map(|g| g as f32)).unwrap();
            step(&mut on_gpu).unwrap();
            let Some(expected) = usize::try_from(t - 3).ok().map(|t| of_torch[t]) else { continue };
            let of_gpu = pollster::block_on(on_gpu.read_param(tensor)).unwrap();
            for i in 0..2 {
                for found in [w[i], f64::from(of_gpu[i])] {
                    assert!((found - expected[i]).abs() < 3e-7, "{} {t} {i}: {found}, {}", rule.name(), expected[i]);
                }
            }
        }
        for (state, expected) in states {
            let here = on_host.state(tensor, state).unwrap().to_vec();
            let there = pollster::block_on(on_gpu.read_state(tensor, state)).unwrap();
            for i in 0..2 {
                for found in [here[i], f64::from(there[i])] {
                    assert!((found - expected[i]).abs() < 3e-7, "{state} {i}: {found}, {}", expected[i]);
                }
            }
        }
    }
}
