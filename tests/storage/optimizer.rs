//! The host's optimizers, which keep between steps only numbers that the storage holds, compared with plain optimizers whose arrays the
//! test rounds.

use wgpu_optim::checkpoint::Checkpoint;
use wgpu_optim::cpu::{Number, Optimizer};
use wgpu_optim::optim::rule::Real;
use wgpu_optim::optim::{Adagrad, Adam, AdamW, AdamWScheduleFree, Kind, RmsProp, SAdam, Sgd, VRAdam};
use wgpu_optim::random::{Stream, key, normal};
use wgpu_optim::storage::blockwise::{Map, decode, encode};
use wgpu_optim::storage::half::{StochasticRounding, join, nearest, not_zero, rounding_key, split, stochastic, widen};
use wgpu_optim::storage::{Format, Params, RoundingMode, StateFormat, Storage};
use wgpu_optim::{Accumulate, Builder, Ema, EvalRequest, Group, NoDecay, Rule};

use crate::support::bits::bits;
use crate::support::handle;
use crate::support::host;
use crate::support::step::step;

/// A tensor smaller than a block, one of several blocks and a part, and one that several threads share.
const SIZES: [usize; 3] = [100, 700, 70_000];

fn storage(text: &str) -> Storage {
    text.parse().unwrap()
}

/// Tensors `t0` … of one group.
fn tensors(sizes: &[usize]) -> impl Iterator<Item = (String, usize, usize)> {
    sizes.iter().enumerate().map(|(at, elements)| (format!("t{at}"), 0, *elements))
}

fn described(rule: &dyn Rule, sizes: &[usize]) -> Builder {
    host::builder([("all", rule.boxed())], tensors(sizes))
}

/// The same, stored in another way.
fn packed(rule: &dyn Rule, sizes: &[usize], text: &str, seed: u64) -> Builder {
    let mut builder = described(rule, sizes);
    builder.seed(seed).storage(storage(text));
    builder
}

fn plain<F: Number>(rule: &dyn Rule, sizes: &[usize]) -> Optimizer<F> {
    host::builder([("all", rule.boxed())], tensors(sizes)).build_cpu().unwrap()
}

fn stored<F: Number>(rule: &dyn Rule, sizes: &[usize], text: &str, seed: u64) -> Optimizer<F> {
    packed(rule, sizes, text, seed).build_cpu().unwrap()
}

/// A state of the tensor at this place.
fn state<'a, F: Number>(optimizer: &'a Optimizer<F>, at: usize, name: &str) -> Option<&'a [F]> {
    optimizer.state(handle::tensor(optimizer, at), name).ok()
}

/// Numbers of many sizes, some of them zero.
fn numbers<F: Real>(sizes: &[usize], seed: u64, scale: f64) -> Vec<Vec<F>> {
    let words = key(seed, Stream::Data);
    let number = |t: usize, i: usize| {
        let at = (t * 100_000 + i) as u32;
        if i % 11 == 3 { 0.0 } else { scale * normal(words, at) * [1.0, 1e-3, 30.0][i % 3] }
    };
    let tensor =
        |(t, elements): (usize, &usize)| (0..*elements).map(|i| F::from_f64(f64::from(number(t, i) as f32))).collect();
    sizes.iter().enumerate().map(tensor).collect()
}

fn store<F: Number>(optimizer: &mut Optimizer<F>, params: &mut [Vec<F>]) {
    optimizer.store_params(&mut params.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).unwrap();
}

/// Rounds an array outside of the optimizer.
fn rounded<F: Number>(values: &mut [F], kind: Kind, one: impl Fn(usize, f32) -> (Format, u16)) {
    for (i, x) in values.iter_mut().enumerate() {
        let narrow = x.to_f64() as f32;
        let (format, bits) = one(i, narrow);
        let bits = if kind == Kind::Positive { not_zero(bits, narrow) } else { bits };
        *x = F::from_f64(f64::from(widen(format, bits)));
    }
}

fn rounded_state<F: Number>(values: &mut [F], kind: Kind, format: StateFormat, draws: StochasticRounding) {
    match format {
        StateFormat::F32 => {}
        StateFormat::Bf16 => rounded(values, kind, |_, x| (Format::Bf16, nearest(Format::Bf16, x))),
        StateFormat::Bf16Stochastic => {
            rounded(values, kind, |i, x| (Format::Bf16, stochastic(Format::Bf16, x, draws.of(i as u32))));
        }
        StateFormat::Blockwise8 => {
            for block in values.chunks_mut(256) {
                let narrow: Vec<f32> = block.iter().map(|x| x.to_f64() as f32).collect();
                let (mut codes, mut back) = (vec![0; block.len()], vec![0.0; block.len()]);
                let map = if kind == Kind::Positive { Map::Unsigned } else { Map::Signed };
                let largest = encode(map, &narrow, &mut codes);
                decode(map, largest, &codes, &mut back);
                block.iter_mut().zip(back).for_each(|(x, back)| *x = F::from_f64(f64::from(back)));
            }
        }
    }
}

/// Compares some steps with those of a plain optimizer whose numbers the test rounds after each step.
fn check_rounding<F: Number>(rule: &dyn Rule, text: &str, states: &[(&str, StateFormat)]) {
    const SEED: u64 = 9;
    let wanted = storage(text);
    let (mut ours, mut theirs) = (stored::<F>(rule, &SIZES, text, SEED), plain::<F>(rule, &SIZES));
    let mut params = numbers::<F>(&SIZES, 1, 0.1);
    store(&mut ours, &mut params);
    let mut expected = params.clone();
    for t in 0..4_u32 {
        let grads = numbers::<F>(&SIZES, 2 + u64::from(t), 1e-2);
        step(&mut ours, &mut params, &grads);
        step(&mut theirs, &mut expected, &grads);
        for at in 0..SIZES.len() {
            let draws = |array| StochasticRounding::new(rounding_key(SEED), t, at as u32, array);
            let format = wanted.params.format();
            match wanted.params.keep() {
                Some(RoundingMode::Nearest) => {
                    rounded(&mut expected[at], Kind::Signed, |_, x| (format, nearest(format, x)));
                }
                Some(RoundingMode::Stochastic) => rounded(&mut expected[at], Kind::Signed, |i, x| {
                    (format, stochastic(format, x, draws(0).of(i as u32)))
                }),
                _ => {}
            }
            let specs = rule.states();
            for (array, (name, format)) in (1..).zip(states) {
                let kind = specs.iter().find(|s| s.name == *name).unwrap().kind;
                let small = *format == StateFormat::Blockwise8 && (SIZES[at] as u64) < wanted.min_blockwise;
                let format = if small { StateFormat::F32 } else { *format };
                let tensor = handle::tensor(&theirs, at);
                rounded_state(theirs.state_mut(tensor, name).unwrap(), kind, format, draws(array));
                let (ours, theirs) = (state(&ours, at, name), state(&theirs, at, name));
                assert!(ours == theirs, "{text}: {name} of tensor {at} after step {t}");
            }
            assert!(params[at] == expected[at], "{text}: tensor {at} after step {t}");
        }
    }
}

#[test]
fn steps_end_with_what_the_storage_holds() {
    use StateFormat::{Bf16, Bf16Stochastic, Blockwise8, F32};
    let adamw = AdamW { lr: 0.01, weight_decay: 0.1, ..AdamW::default() };
    let without_m = AdamW { beta1: 0.0, ..adamw };
    let amsgrad = Adam { lr: 0.01, amsgrad: true, weight_decay: 0.1, ..Adam::default() };
    let centered = RmsProp { centered: true, momentum: 0.9, ..RmsProp::default() };
    let sums = VRAdam { lr: 0.01, weight_decay: 0.1, ..VRAdam::default() };
    type Case<'a> = (&'a dyn Rule, &'a str, &'a [(&'a str, StateFormat)]);
    let cases: [Case<'_>; 9] = [
        (&adamw, "bf16-nearest,grads=f32,states=bf16", &[("m", Bf16), ("v", Bf16)]),
        (&adamw, "bf16-sr,grads=f32,states=bf16-sr", &[("m", Bf16Stochastic), ("v", Bf16Stochastic)]),
        (&adamw, "f16-sr,grads=f32,8bit,min=700", &[("m", Blockwise8), ("v", Blockwise8)]),
        (&adamw, "f16-nearest,grads=f32,v=8bit,min=0", &[("m", F32), ("v", Blockwise8)]),
        (&without_m, "states=bf16-sr", &[("v", Bf16Stochastic)]),
        (&amsgrad, "8bit,min=1,v=bf16-sr", &[("m", Blockwise8), ("v", Bf16Stochastic), ("v_max", Blockwise8)]),
        (&centered, "states=bf16-sr", &[("v", F32), ("g_mean", F32), ("b", Bf16Stochastic)]),
        (&sums, "bf16-sr,grads=f32,8bit,min=0", &[("m", Blockwise8), ("v", Blockwise8)]),
        (&Sgd { momentum: 0.9, ..Sgd::default() }, "8bit", &[("b", Blockwise8)]),
    ];
    for (rule, text, states) in cases {
        check_rounding::<f32>(rule, text, states);
        check_rounding::<f64>(rule, text, states);
    }
}

#[test]
fn a_second_moment_never_becomes_zero() {
    let rule = AdamW { beta2: 0.5, ..AdamW::default() };
    for text in ["states=bf16", "states=bf16-sr", "8bit,min=0"] {
        let mut optimizer = stored::<f32>(&rule, &[512], text, 0);
        let mut params = vec![vec![0.1; 512]];
        let grads = vec![(0..512).map(|i| 10f32.powi(-(i % 20))).collect::<Vec<_>>()];
        step(&mut optimizer, &mut params, &grads);
        let zeros = vec![vec![0.0; 512]];
        (0..40).for_each(|_| step(&mut optimizer, &mut params, &zeros));
        assert!(state(&optimizer, 0, "v").unwrap().iter().all(|v| *v > 0.0), "{text}");
    }
}

#[test]
fn initial_states_are_rounded_too() {
    let rule = Adagrad { initial_accumulator_value: 0.1, ..Adagrad::default() };
    for (text, value) in [("states=bf16-sr", widen(Format::Bf16, nearest(Format::Bf16, 0.1))), ("8bit,min=0", 0.1)] {
        let optimizer = stored::<f32>(&rule, &[300], text, 0);
        assert_eq!(state(&optimizer, 0, "sum").unwrap(), [value; 300], "{text}");
    }
}

/// The parameters in full precision.
fn master(optimizer: &Optimizer<f32>, params: &[Vec<f32>], tensor: &str) -> Vec<f32> {
    let shapes: Vec<[usize; 1]> = params.iter().map(|p| [p.len()]).collect();
    let params: Vec<_> = shapes.iter().zip(params).map(|(shape, p)| (shape.as_slice(), p.as_slice())).collect();
    Checkpoint::of_host(optimizer, &params).unwrap().params(tensor).unwrap()
}

#[test]
fn a_split_or_a_master_trains_as_f32_bit_for_bit() {
    let rule = AdamW { lr: 3e-4, weight_decay: 0.1, ..AdamW::default() };
    for text in ["bf16-split,grads=f32", "bf16-master,grads=f32", "f16-master,grads=f32"] {
        let (mut ours, mut theirs) = (stored::<f32>(&rule, &SIZES, text, 0), plain::<f32>(&rule, &SIZES));
        let mut expected = numbers::<f32>(&SIZES, 1, 0.1);
        let mut params = expected.clone();
        store(&mut ours, &mut params);
        for t in 0..30 {
            let format = storage(text).params.format();
            for (p, expected) in params.iter().zip(&expected) {
                for (p, expected) in p.iter().zip(expected) {
                    let seen = if text.contains("split") { split(*expected).0 } else { nearest(format, *expected) };
                    assert_eq!(p.to_bits(), widen(format, seen).to_bits(), "{text} before step {t}");
                }
            }
            let grads = numbers::<f32>(&SIZES, 2 + t, 1e-2);
            step(&mut ours, &mut params, &grads);
            step(&mut theirs, &mut expected, &grads);
        }
        for (t, expected) in expected.iter().enumerate() {
            assert!(bits(&master(&ours, &params, &format!("t{t}"))) == bits(expected), "{text}: tensor {t}");
            assert!(
                ["m", "v"].iter().all(|name| state(&ours, t, name) == state(&theirs, t, name)),
                "{text}: tensor {t}"
            );
        }
        assert!(params[1] != expected[1], "{text} is not f32");
    }
}

#[test]
fn parameters_that_the_caller_overwrites_count() {
    let rule = Sgd { lr: 1.0, ..Sgd::default() };
    let still = |text: &str, written: f32| -> (f32, f32) {
        let mut optimizer = stored::<f32>(&rule, &[1], text, 0);
        let mut params = vec![vec![1.0]];
        step(&mut optimizer, &mut params, &[vec![-2f32.powi(-12)]]);
        assert_eq!(params[0], [1.0], "{text}");
        params[0][0] = written;
        step(&mut optimizer, &mut params, &[vec![0.0]]);
        (params[0][0], master(&optimizer, &params, "t0")[0])
    };
    let full = 1.0 + 2f32.powi(-12);
    assert_eq!(still("bf16-master", 1.0), (1.0, full), "an unchanged parameter keeps its master");
    assert_eq!(still("bf16-split", 1.0), (1.0, full), "an unchanged parameter keeps its master");
    assert_eq!(still("bf16-master", 2.0), (2.0, 2.0), "a master starts again from the parameter");
    assert_eq!(still("f16-master", -2.0), (-2.0, -2.0), "a master starts again from the parameter");
    let joined = join(nearest(Format::Bf16, 2.0), split(full).1);
    assert!(joined != 2.0 && (joined - 2.0).abs() < 0.01);
    assert_eq!(still("bf16-split", 2.0), (2.0, joined), "a remainder is worth less than half a place");
    let precise = 2.0_f32.next_up();
    assert_eq!(
        still("bf16-split", precise),
        (2.0, precise),
        "the caller wrote no bf16: the written number is all there is"
    );
    assert_eq!(still("bf16-master", precise), (2.0, precise));
}

/// A run of six steps, and a run that continues in another optimizer after three steps.
#[test]
fn a_resumed_run_draws_the_same() {
    let rule = AdamW { lr: 0.01, weight_decay: 0.1, ..AdamW::default() };
    let grads: Vec<_> = (0..6).map(|t| numbers::<f32>(&SIZES, 5 + t, 1e-2)).collect();
    for text in ["bf16-sr,states=bf16-sr", "bf16-split,8bit,min=0", "f16-master,states=bf16", "f16-sr,v=8bit,min=0"] {
        let fresh = |seed| stored::<f32>(&rule, &SIZES, text, seed);
        let run = |optimizer: &mut Optimizer<f32>, params: &mut Vec<Vec<f32>>, steps: std::ops::Range<usize>| {
            steps.for_each(|t| step(optimizer, params, &grads[t]));
        };
        let start = numbers::<f32>(&SIZES, 1, 0.1);
        let (mut whole, mut params) = (fresh(4), start.clone());
        store(&mut whole, &mut params);
        run(&mut whole, &mut params, 0..3);
        let shapes = SIZES.map(|n| [n]);
        let kept: Vec<_> = shapes.iter().zip(&params).map(|(s, p)| (s.as_slice(), p.as_slice())).collect();
        let checkpoint = Checkpoint::of_host(&whole, &kept).unwrap();
        run(&mut whole, &mut params, 3..6);

        // Another seed: the resumed run must draw with the checkpoint's key.
        let (mut resumed, mut again) = (fresh(11), start.clone());
        let mut slices: Vec<&mut [f32]> = again.iter_mut().map(Vec::as_mut_slice).collect();
        checkpoint.restore_host(&mut resumed, &mut slices).unwrap();
        run(&mut resumed, &mut again, 3..6);
        let same = |optimizer: &Optimizer<f32>, p: &[Vec<f32>]| {
            let states =
                (0..SIZES.len()).all(|t| ["m", "v"].iter().all(|s| state(optimizer, t, s) == state(&whole, t, s)));
            states && p == params
        };
        assert!(same(&resumed, &again), "{text}");

        let (mut other, mut elsewhere) = (fresh(5), start);
        store(&mut other, &mut elsewhere);
        run(&mut other, &mut elsewhere, 0..6);
        assert_eq!(same(&other, &elsewhere), !text.contains("sr"), "{text}: another seed");
    }
}

#[test]
fn a_skipped_step_changes_nothing() {
    let rule = AdamW { lr: 0.01, ..AdamW::default() };
    for text in ["bf16-sr,states=bf16-sr", "bf16-split,8bit,min=0", "f16-master", "bf16-nearest,states=bf16"] {
        let mut builder = packed(&rule, &SIZES, text, 1);
        let mut optimizer = builder.skip_nonfinite(true).build_cpu::<f32>().unwrap();
        let mut params = numbers::<f32>(&SIZES, 1, 0.1);
        step(&mut optimizer, &mut params, &numbers(&SIZES, 2, 1e-2));
        let arrays = |optimizer: &Optimizer<f32>| ["m", "v"].map(|name| state(optimizer, 2, name).unwrap().to_vec());
        let before = (params.clone(), arrays(&optimizer));
        let full = (text.contains("split") || text.contains("master")).then(|| master(&optimizer, &params, "t1"));
        let mut grads = numbers::<f32>(&SIZES, 3, 1e-2);
        grads[1][5] = f32::NAN;
        step(&mut optimizer, &mut params, &grads);
        assert_eq!((optimizer.step_count(), optimizer.skipped()), (1, 1));
        assert!((params.clone(), arrays(&optimizer)) == before, "{text}");
        assert!(full.is_none_or(|full| master(&optimizer, &params, "t1") == full), "{text}");
    }
}

#[test]
fn stochastic_rounding_keeps_small_steps_that_rounding_to_nearest_loses() {
    const ELEMENTS: usize = 4096;
    let rule = Sgd { lr: 1.0, ..Sgd::default() };
    let run = |text: &str| -> f64 {
        let mut optimizer = stored::<f32>(&rule, &[ELEMENTS], text, 3);
        let mut params = vec![vec![1.0; ELEMENTS]];
        let grads = vec![vec![1e-4; ELEMENTS]];
        (0..200).for_each(|_| step(&mut optimizer, &mut params, &grads));
        params[0].iter().map(|p| f64::from(*p)).sum::<f64>() / ELEMENTS as f64
    };
    assert_eq!(run("bf16-nearest,grads=f32"), 1.0);
    // A place is 2^-8 below 1: the standard error of the mean is below 2^-8 √(200 · 0.026) / 64 = 1.4e-4.
    for text in ["bf16-sr,grads=f32", "f16-sr,grads=f32", "bf16-master,grads=f32", "bf16-split,grads=f32"] {
        assert!((run(text) - 0.98).abs() < 5e-4, "{text}: {}", run(text));
    }
}

#[test]
fn gradients_are_those_of_a_half_buffer() {
    let rule = AdamW { lr: 0.01, ..AdamW::default() };
    for (text, format) in [("grads=bf16", Format::Bf16), ("grads=f16", Format::F16)] {
        let grads = numbers::<f64>(&SIZES, 2, 1e-2);
        let mut narrow = grads.clone();
        narrow.iter_mut().for_each(|g| rounded(g, Kind::Signed, |_, x| (format, nearest(format, x))));
        assert!(grads != narrow);
        let start = numbers::<f64>(&SIZES, 1, 0.1);
        let fresh = || packed(&rule, &SIZES, text, 0).accumulate(Accumulate::Sum).build_cpu::<f64>().unwrap();
        let (mut ours, mut params) = (fresh(), start.clone());
        ours.accumulate(&grads.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        step(&mut ours, &mut params, &grads);

        let (mut evaluated, mut moved) = (fresh(), start.clone());
        evaluated.accumulate(&narrow.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        let mut room = grads.clone();
        let (mut p, mut g): (Vec<&mut [f64]>, Vec<&mut [f64]>) =
            (moved.iter_mut().map(Vec::as_mut_slice).collect(), room.iter_mut().map(Vec::as_mut_slice).collect());
        let evaluate = |evaluation, _: &[&[f64]], g: &mut [&mut [f64]]| {
            assert_eq!(evaluation, EvalRequest::Gradient);
            g.iter_mut().zip(&grads).for_each(|(g, from)| g.copy_from_slice(from));
            Ok(0.0)
        };
        evaluated.step_with(&mut p, &mut g, evaluate).unwrap();
        assert!(room == narrow, "{text}");

        let mut theirs = described(&rule, &SIZES).accumulate(Accumulate::Sum).build_cpu::<f64>().unwrap();
        let mut expected = start;
        theirs.accumulate(&narrow.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        step(&mut theirs, &mut expected, &narrow);
        assert!(params == expected && moved == expected, "{text}");
    }
}

#[test]
fn averages_and_telemetry_see_parameters_in_full() {
    let rule = Sgd { lr: 1.0, ..Sgd::default() };
    let ema = Ema { decay: 0.5, ..Ema::default() };
    let run = |text: &str| {
        let mut optimizer = packed(&rule, &[2], text, 0).ema(ema).telemetry(true).build_cpu::<f32>().unwrap();
        let mut params = vec![vec![1.0, -1.0]];
        (0..2).for_each(|_| step(&mut optimizer, &mut params, &[vec![1e-4, 1e-4]]));
        (optimizer.ema(handle::tensor(&optimizer, 0)).unwrap().to_vec(), optimizer.stats().unwrap().total.update)
    };
    assert_eq!(run("bf16-split,grads=f32"), run("f32"));
    assert_eq!(run("bf16-master,grads=f32"), run("f32"));
    assert!(run("f32").1 > 1e-4);
}

#[test]
fn points_of_evaluation_are_reached_in_full() {
    let rule = AdamWScheduleFree { lr: 0.01, warmup_steps: 0, ..AdamWScheduleFree::default() };
    let (mut ours, mut theirs) = (stored::<f32>(&rule, &[300], "bf16-split,grads=f32", 0), plain::<f32>(&rule, &[300]));
    let mut expected = numbers::<f32>(&[300], 1, 0.1);
    let mut params = expected.clone();
    store(&mut ours, &mut params);
    for t in 0..3 {
        let grads = numbers::<f32>(&[300], 2 + t, 1e-2);
        step(&mut ours, &mut params, &grads);
        step(&mut theirs, &mut expected, &grads);
        ours.to_eval_params(&mut [&mut params[0]]).unwrap();
        theirs.to_eval_params(&mut [&mut expected[0]]).unwrap();
        assert_eq!(bits(&master(&ours, &params, "t0")), bits(&expected[0]));
        assert!(params[0].iter().zip(&expected[0]).all(|(p, e)| *p == widen(Format::Bf16, split(*e).0)));
        ours.to_train_params(&mut [&mut params[0]]).unwrap();
        theirs.to_train_params(&mut [&mut expected[0]]).unwrap();
        assert_eq!(bits(&master(&ours, &params, "t0")), bits(&expected[0]));
    }
}

#[test]
fn rows_keep_their_own_draws() {
    let rule = AdamW { lr: 0.01, ..AdamW::default() };
    for text in ["bf16-sr", "bf16-master", "f16-master"] {
        let mut builder = wgpu_optim::Optimizer::builder(rule);
        let points = builder.tensor(Group::DEFAULT, "t0", &[10, 4]);
        let rows = builder.row_set("points", &[points]);
        builder.mask(rows).row_capacity(rows, 10).seed(2).storage(storage(text));
        let mut optimizer = builder.build_cpu::<f32>().unwrap();
        let mut params = numbers::<f32>(&[40], 1, 0.1);
        store(&mut optimizer, &mut params);
        let flags: Vec<u32> = (0..10).map(|row| u32::from(row % 2 == 0)).collect();
        optimizer.write_mask(rows, &flags).unwrap();
        let before = params.clone();
        step(&mut optimizer, &mut params, &numbers(&[40], 2, 1.0));
        // The draws of an element depend on its own place, whichever rows are stepped.
        let (mut whole, mut all) = (stored::<f32>(&rule, &[40], text, 2), before.clone());
        store(&mut whole, &mut all);
        if text == "bf16-sr" {
            step(&mut whole, &mut all, &numbers(&[40], 2, 1.0));
            for (i, p) in params[0].iter().enumerate() {
                assert_eq!(*p, if i / 4 % 2 == 0 { all[0][i] } else { before[0][i] }, "{text}: element {i}");
            }
            continue;
        }
        let full = master(&optimizer, &params, "t0");
        optimizer.remap(rows, &[3, u32::MAX, 0], &mut [&mut params[0]]).unwrap();
        let moved = master(&optimizer, &params, "t0");
        assert_eq!((&moved[..4], &moved[8..]), (&full[12..16], &full[..4]), "{text}");
        assert_eq!(moved[4..8], [0.0; 4]);
        optimizer.reset_rows(rows, &[1, 0, 0], &[&params[0]]).unwrap();
        let anew = master(&optimizer, &params, "t0");
        assert_eq!((&anew[..4], &anew[8..]), (&params[0][..4], &full[..4]), "{text}");
    }
}

#[test]
fn storage_that_does_not_fit_is_refused() {
    let adamw = AdamW::default();
    let refused = |rule: &dyn Rule, change: &dyn Fn(&mut Builder), parts: &[&str]| {
        let mut builder = described(rule, &[]);
        builder.tensors(Group::DEFAULT, [("t0", [2, 4]), ("t1", [2, 4])]);
        change(&mut builder);
        let text = builder.build_cpu::<f32>().map(drop).unwrap_err().to_string();
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    };
    let other = host::builder([("all", adamw.boxed())], [("other", 0, 8)]).find_tensor("other").unwrap();
    refused(&adamw, &|b| _ = b.tensor_storage(other, Storage::default()), &["handle of a tensor", "another optimizer"]);
    refused(&adamw, &|b| _ = b.storage(storage("w=8bit")), &["state of adamw", "m, v"]);
    refused(&SAdam::default(), &|b| _ = b.storage(storage("bf16-split")), &["bf16-split", "sadam"]);
    let split = Storage { params: Params::F16(RoundingMode::Split), ..Storage::default() };
    refused(&adamw, &|b| _ = b.storage(split.clone()), &["f16-master"]);
    let rows = |b: &mut Builder| {
        let t1 = b.find_tensor("t1").unwrap();
        b.row_set("points", &[t1]);
    };
    refused(&adamw, &|b| rows(b.storage(storage("states=bf16"))), &["`t1`", "rows"]);
    refused(&adamw, &|b| rows(b.storage(storage("bf16-split"))), &["`t1`", "bf16-master"]);
    let share = |b: &mut Builder| {
        let t0 = b.find_tensor("t0").unwrap();
        b.share_second_moment(t0);
    };
    refused(&adamw, &|b| share(b.storage(storage("v=bf16-sr"))), &["`t0`", "rows"]);
    let mut beside = described(&adamw, &[8, 8]);
    rows(&mut beside);
    let t0 = beside.find_tensor("t0").unwrap();
    beside.tensor_storage(t0, storage("states=bf16")).build_cpu::<f32>().unwrap();
    let mut short = plain::<f32>(&adamw, &[8, 8]);
    assert!(short.store_params(&mut [&mut [0.0; 8], &mut [0.0; 7]]).unwrap_err().to_string().contains("`t1`"));
}

#[test]
fn tensors_without_decay_stay_stored() {
    let rule = AdamW { weight_decay: 0.1, ..AdamW::default() };
    let mut builder = wgpu_optim::Optimizer::builder(rule);
    builder.storage(storage("bf16-split,states=bf16"));
    builder.tensors(Group::DEFAULT, [("t0", &[300][..]), ("t1", &[30, 10])]);
    let without = builder.exclude_from_decay(Group::DEFAULT, NoDecay::Rank(1)).unwrap();
    let mut optimizer = builder.build_cpu::<f32>().unwrap();
    let groups = [0, 1].map(|t| optimizer.group_of(handle::tensor(&optimizer, t)).unwrap());
    assert_eq!(groups, [without, Group::DEFAULT]);
    let mut params = numbers::<f32>(&[300, 300], 1, 0.1);
    step(&mut optimizer, &mut params, &numbers(&[300, 300], 2, 1e-2));
    for (t, p) in params.iter().enumerate() {
        let halves = |values: &[f32]| values.iter().all(|x| x.to_bits() & 0xffff == 0);
        assert!(halves(p) && halves(state(&optimizer, t, "v").unwrap()), "tensor {t}");
    }
}
