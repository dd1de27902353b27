//! Several optimizers, each with ranges of the same tensors, are one optimizer: they add their totals and hand each other their parameters.
#![cfg(all(feature = "tools", feature = "checkpoint"))]
// Tests stop where something is missing, and say in their names what they show.
#![allow(clippy::unwrap_used, missing_docs)]

use std::ops::Range;

use pollster::block_on;
use support::gpu::GPU;
use wgpu_optim::checkpoint::{Checkpoint, TensorRange};
use wgpu_optim::optim::{ALL, Rule};
use wgpu_optim::{
    Accumulate, Adai, AdamW, Builder, Clip, Cut, Ema, Group, Lamb, Lion, LossScale, Muon, NoDecay, Optimizer, SAdam,
    SgdScheduleFree, VRAdam, read_buffer, wgpu,
};

#[path = "support"]
mod support {
    pub(crate) mod device;
    pub(crate) mod gpu;
}

/// Long tensors, tensors shorter than a chunk, an empty one, and lengths that are no whole vec4s.
const SIZES: [usize; 6] = [5000, 7, 0, 1024, 9001, 300];

/// Every rule and option with which tensors may have ranges keeps these numbers in order.
fn builder(rule: &dyn Rule, storage: &str) -> Builder {
    let mut builder = Optimizer::builder(rule.boxed());
    let other = builder.group("other", rule.boxed());
    for (i, n) in SIZES.into_iter().enumerate() {
        builder.tensor(
            if i % 2 == 0 { Group::DEFAULT } else { other },
            format!("t{i}"),
            &builder.sample_shape(if i % 2 == 0 { Group::DEFAULT } else { other }, n),
        );
    }
    builder.storage(storage.parse().unwrap()).seed(11);
    builder
}

/// A number between -1 and 1.
fn noise(seed: usize, at: usize) -> f32 {
    let x = (at as u32).wrapping_mul(0x9e37_79b9) ^ (seed as u32).wrapping_mul(0x85eb_ca6b);
    let x = (x ^ (x >> 15)).wrapping_mul(0x2c1b_3c6d);
    (x ^ (x >> 12)) as f32 / u32::MAX as f32 * 2.0 - 1.0
}

fn numbers(tensor: usize, seed: usize) -> Vec<f32> {
    (0..SIZES[tensor]).map(|at| noise(seed * 31 + tensor, at)).collect()
}

/// The range of each tensor for part `part` of `parts`, by units of the cuts.
fn ranges(cuts: &[Cut], part: usize, parts: usize) -> Vec<Range<u64>> {
    let units: Vec<u64> = cuts.iter().map(|cut| cut.elements.div_ceil(cut.unit)).collect();
    let all: u64 = units.iter().sum();
    let edge = |part: usize| (all * part as u64).div_ceil(parts as u64);
    let (from, to) = (edge(part), edge(part + 1));
    let mut before = 0;
    cuts.iter()
        .zip(units)
        .map(|(cut, n)| {
            let at = |edge: u64| (edge.clamp(before, before + n) - before) * cut.unit;
            let range = at(from).min(cut.elements)..at(to).min(cut.elements);
            before += n;
            range
        })
        .collect()
}

/// The optimizers of all parts.
struct Parts {
    optimizers: Vec<Optimizer>,
    ranges: Vec<Vec<Range<u64>>>,
}

impl Parts {
    fn new(builder: &Builder, parts: usize) -> Self {
        let cuts = builder.cuts().unwrap();
        let ranges: Vec<_> = (0..parts).map(|part| ranges(&cuts, part, parts)).collect();
        let build = |ranges: &Vec<Range<u64>>| {
            let mut own = builder.clone();
            for (cut, range) in cuts.iter().zip(ranges) {
                own.own_range(cut.tensor, range.clone());
            }
            own.build(&GPU.device, &GPU.queue).unwrap()
        };
        Self { optimizers: ranges.iter().map(build).collect(), ranges }
    }

    fn each(&mut self, mut call: impl FnMut(&mut Optimizer, &mut wgpu::CommandEncoder) -> wgpu_optim::Result<()>) {
        self.optimizers.iter_mut().for_each(|optimizer| GPU.run(|encoder| call(optimizer, encoder)).unwrap());
    }

    /// Adds the totals of all parts. A part has zeros for the tensors of which it has no element.
    fn exchange(&mut self) {
        let totals: Vec<wgpu::Buffer> = self.optimizers.iter().filter_map(|o| o.totals().cloned()).collect();
        let mut sum: Vec<f32> = Vec::new();
        for buffer in &totals {
            let part: Vec<f32> = bytemuck::pod_collect_to_vec(
                &block_on(read_buffer(&GPU.device, &GPU.queue, buffer.slice(..))).unwrap(),
            );
            sum.resize(part.len(), 0.0);
            sum.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
        }
        totals.iter().for_each(|buffer| GPU.queue.write_buffer(buffer, 0, bytemuck::cast_slice(&sum)));
    }

    /// Hands the parameters of each range to the other parts.
    fn gather(&mut self) {
        let tensors: Vec<_> = self.optimizers[0].tensors().map(|(tensor, ..)| tensor).collect();
        for (tensor, part) in
            tensors.iter().flat_map(|tensor| (0..self.optimizers.len()).map(move |part| (*tensor, part)))
        {
            let range = &self.ranges[part][tensor.index()];
            if range.is_empty() {
                continue;
            }
            let from = self.optimizers[part].param(tensor).unwrap();
            let width = from.size() / SIZES[tensor.index()] as u64;
            let bytes = range.start * width..(range.end * width).next_multiple_of(4);
            let numbers = block_on(read_buffer(
                &GPU.device,
                &GPU.queue,
                from.buffer().slice(from.offset() + bytes.start..from.offset() + bytes.end),
            ));
            let numbers = numbers.unwrap();
            for to in &self.optimizers {
                let to = to.param(tensor).unwrap();
                GPU.queue.write_buffer(to.buffer(), to.offset() + bytes.start, &numbers);
            }
        }
    }

    fn step(&mut self) {
        self.each(Optimizer::record_sums);
        self.exchange();
        for _ in 1..self.optimizers[0].sum_rounds() {
            self.each(Optimizer::record_next_sums);
            self.exchange();
        }
        self.each(Optimizer::record_update);
        self.gather();
    }

    /// The checkpoint of the whole model.
    fn checkpoint(&self) -> Checkpoint {
        let parts: Vec<_> =
            self.optimizers.iter().zip(&self.ranges).map(|(o, ranges)| (snapshot(o), named(ranges))).collect();
        Checkpoint::from_ranges("joined", &parts, &named(&SIZES.map(|n| 0..n as u64))).unwrap()
    }
}

fn named(ranges: &[Range<u64>]) -> Vec<TensorRange> {
    let range = |(i, range): (usize, &Range<u64>)| TensorRange {
        name: format!("t{i}"),
        shape: vec![SIZES[i]],
        range: range.clone(),
    };
    ranges.iter().enumerate().map(range).collect()
}

fn snapshot(optimizer: &Optimizer) -> Checkpoint {
    let mut snapshot = None;
    GPU.run(|encoder| optimizer.snapshot(encoder).map(|taken| snapshot = Some(taken))).unwrap();
    block_on(snapshot.unwrap().checkpoint()).unwrap()
}

fn write(optimizer: &Optimizer, seed: usize, params: bool) {
    for (tensor, ..) in optimizer.tensors() {
        let values = numbers(tensor.index(), seed);
        let written =
            if params { optimizer.write_param(tensor, &values) } else { optimizer.write_grad(tensor, &values) };
        written.unwrap();
    }
}

/// The checkpoints of one optimizer and of the parts after some steps, with a step of gradients that are not finite among them where `poison`.
fn train(builder: &Builder, parts: usize, poison: bool) -> [Checkpoint; 2] {
    let mut one = builder.build(&GPU.device, &GPU.queue).unwrap();
    let mut parts = Parts::new(builder, parts);
    write(&one, 0, true);
    parts.optimizers.iter().for_each(|optimizer| write(optimizer, 0, true));
    for t in 1..6 {
        for optimizer in std::iter::once(&one).chain(&parts.optimizers) {
            write(optimizer, t, false);
            if poison && t == 3 {
                let tensor = optimizer.tensor("t4").unwrap();
                let mut bad = numbers(4, t);
                bad[9000] = f32::NAN;
                optimizer.write_grad(tensor, &bad).unwrap();
            }
        }
        GPU.run(|encoder| one.step(encoder)).unwrap();
        parts.step();
    }
    [snapshot(&one), parts.checkpoint()]
}

#[track_caller]
fn same(what: &str, one: &Checkpoint, parts: &Checkpoint) {
    assert!(one.to_bytes().unwrap() == parts.to_bytes().unwrap(), "{what}: {}", worst(one, parts));
}

/// The largest difference over all arrays, relative to the largest number of its array.
fn worst(one: &Checkpoint, parts: &Checkpoint) -> f32 {
    let mut worst: f32 = 0.0;
    for tensor in 0..SIZES.len() {
        let name = format!("t{tensor}");
        for array in ["param", "m", "v", "q", "square_avg", "momentum_buffer"] {
            let (Some(a), Some(b)) = (one.array(&name, array), parts.array(&name, array)) else { continue };
            assert_eq!(a.len(), b.len());
            let largest = a.iter().fold(f32::MIN_POSITIVE, |most, x| most.max(x.abs()));
            worst = a.iter().zip(&b).fold(worst, |worst, (a, b)| {
                if a.is_nan() || b.is_nan() { f32::NAN } else { worst.max((a - b).abs() / largest) }
            });
        }
    }
    worst
}

/// A sum of parts rounds otherwise than the whole sum: five steps may differ by a few ulp.
const CLOSE: f32 = 2e-6;

/// The rules without sums give the same bits; the others differ by the rounding of their sums. Rules of whole matrices have no parts, and rules that
/// evaluate gradients inside a step leave no tensor to others.
#[test]
fn parts_of_every_rule_are_the_whole() {
    let (mut equal, mut whole, mut refused) = (0, Vec::new(), Vec::new());
    for (entry, (variant, rule)) in ALL.iter().flat_map(|entry| entry.variants().into_iter().map(move |v| (entry, v))) {
        let builder = builder(rule.as_ref(), "f32");
        if builder.cuts().unwrap().iter().all(|cut| cut.whole) {
            whole.push(entry.name);
            continue;
        }
        let mut ranged = builder.clone();
        ranged.own_range(builder.find_tensor("t0").unwrap(), 0..1024);
        if let Err(error) = ranged.build(&GPU.device, &GPU.queue) {
            assert!(error.to_string().contains("evaluates gradients of whole tensors"), "{}: {error}", entry.name);
            refused.push(entry.name);
            continue;
        }
        let [one, parts] = train(&builder, 3, false);
        if rule.sums().sums == 0 {
            same(&format!("{} {variant}", entry.name), &one, &parts);
            equal += 1;
        } else {
            let worst = worst(&one, &parts);
            assert!(worst <= CLOSE, "{} {variant}: {worst}", entry.name);
        }
    }
    whole.dedup();
    refused.dedup();
    assert!(equal > 10);
    assert_eq!((whole, refused), (vec!["muon", "adafactor"], vec!["sadam"]));
}

/// Where stochastic rounding draws and where blocks begin does not depend on the ranges.
#[test]
fn parts_of_every_storage_are_the_whole() {
    for storage in ["bf16-sr,8bit", "bf16-split,8bit,min=300", "bf16-sr,states=bf16-sr", "f16-master,grads=f32"] {
        for parts in [1, 2, 3, 4, 40] {
            let [one, parts_] =
                train(&builder(&AdamW { weight_decay: 0.1, ..AdamW::default() }, storage), parts, false);
            same(&format!("{storage} in {parts} parts"), &one, &parts_);
        }
    }
}

#[test]
fn clips_scales_and_skips_agree() {
    let rules: [Box<dyn Rule>; 4] = [
        Box::new(AdamW { weight_decay: 0.1, ..AdamW::default() }),
        Box::new(VRAdam { weight_decay: 0.1, beta3: 0.01, ..VRAdam::default() }),
        Box::new(Lamb { weight_decay: 0.1, ..Lamb::default() }),
        Box::new(Adai { weight_decay: 0.1, ..Adai::new(0.01) }),
    ];
    for rule in rules {
        let mut builder = builder(rule.as_ref(), "f32");
        builder
            .clip(Clip::GlobalNorm(3.0))
            .loss_scale(LossScale { initial: 4.0, ..LossScale::default() })
            .ema(Ema::default());
        let [one, parts] = train(&builder, 3, true);
        let worst = worst(&one, &parts);
        assert!(worst <= CLOSE, "{}: {worst}", rule.name());
        // The step with a NaN, which only one part saw, is skipped by all.
        assert_eq!((one.step_count(), parts.step_count()), (4, 4), "{}", rule.name());
    }
}

#[test]
fn a_joined_checkpoint_restores_into_other_parts() {
    let builder = builder(&AdamW { weight_decay: 0.1, ..AdamW::default() }, "bf16-split,8bit,min=300");
    let [whole, _] = train(&builder, 1, false);
    let parts = Parts::new(&builder, 4);
    let mut four = Parts::new(&builder, 4);
    for (optimizer, ranges) in four.optimizers.iter_mut().zip(&parts.ranges) {
        let all = [(whole.clone(), named(&SIZES.map(|n| 0..n as u64)))];
        Checkpoint::from_ranges("cut", &all, &named(ranges)).unwrap().restore(optimizer).unwrap();
    }
    same("four", &whole, &four.checkpoint());
    // Parts of four make the parts of three.
    let saved: Vec<_> =
        four.optimizers.iter().zip(&four.ranges).map(|(o, ranges)| (snapshot(o), named(ranges))).collect();
    let mut three = Parts::new(&builder, 3);
    for (optimizer, ranges) in three.optimizers.iter_mut().zip(&three.ranges) {
        Checkpoint::from_ranges("again", &saved, &named(ranges)).unwrap().restore(optimizer).unwrap();
    }
    same("three", &whole, &three.checkpoint());
    let refused = |parts: &[(Checkpoint, Vec<TensorRange>)], words: &str| {
        let error =
            Checkpoint::from_ranges("joined", parts, &named(&SIZES.map(|n| 0..n as u64))).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    refused(&[], "no part was given");
    refused(&saved[1..], "lacks element 0 of tensor `t0`");
    refused(&[saved[0].clone(), saved[1].clone(), saved[3].clone()], "lacks element");
    refused(&[saved.clone(), saved[3..].to_vec()].concat(), "twice");
    let [other, _] = train(&super_builder(), 1, false);
    refused(
        &[saved.clone(), vec![(other, named(&SIZES.map(|n| 0..n as u64)))]].concat(),
        "its rule is sgd, and adamw in",
    );
}

fn super_builder() -> Builder {
    builder(&wgpu_optim::Sgd { lr: 0.1, ..wgpu_optim::Sgd::default() }, "f32")
}

#[test]
fn states_fall_with_the_range() {
    let builder = builder(&AdamW::default(), "f32");
    let all = builder.memory_usage(&GPU.device.limits()).unwrap();
    let parts = Parts::new(&builder, 2);
    let states: Vec<u64> = parts.optimizers.iter().map(|optimizer| optimizer.memory_usage().states()).collect();
    assert_eq!(states.iter().sum::<u64>(), all.states());
    assert!(states.iter().all(|own| *own < all.states() * 6 / 10), "{states:?}");
}

#[test]
fn full_precision_belongs_to_the_range() {
    let mut builder = builder(&AdamW::default(), "bf16-master");
    let t0 = builder.find_tensor("t0").unwrap();
    builder.own_range(t0, 1024..2048);
    let optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
    let values = numbers(0, 3);
    optimizer.write_param(t0, &values).unwrap();
    let read = block_on(optimizer.read_param(t0)).unwrap();
    assert_eq!(optimizer.own_range(t0).unwrap(), 1024..2048);
    assert_eq!(read[1024..2048], values[1024..2048]);
    assert!((0..1024).any(|at| read[at] != values[at]));
    assert!(read.iter().zip(&values).all(|(a, b)| (a - b).abs() < 0.01));
    assert_eq!(block_on(optimizer.read_state(t0, "m")).unwrap().len(), 1024);
    let error = optimizer.write_state(t0, "m", &values).unwrap_err().to_string();
    assert!(error.contains("5000 values were given, its range 1024..2048 has 1024"), "{error}");
}

#[test]
fn ranges_that_cannot_be_are_refused() {
    let adamw = AdamW { weight_decay: 0.1, ..AdamW::default() };
    let build = |rule: &dyn Rule, change: &dyn Fn(&mut Builder)| {
        let mut builder = builder(rule, "f32");
        builder.own_range(builder.find_tensor("t4").unwrap(), 0..1024);
        change(&mut builder);
        builder.build(&GPU.device, &GPU.queue).map(drop).map_err(|error| error.to_string())
    };
    let says = |built: Result<(), String>, words: &[&str]| {
        let error = built.unwrap_err();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    assert_eq!(build(&adamw, &|_| ()), Ok(()));
    for range in [Range { start: 100, end: 1024 }, 0..1000, 1024..10_240, Range { start: 2048, end: 1024 }] {
        let t4 = |builder: &mut Builder| {
            let tensor = builder.find_tensor("t4").unwrap();
            builder.own_range(tensor, range.clone());
        };
        says(
            build(&adamw, &t4),
            &["tensor `t4`", &format!("{range:?}"), "0..9001", "multiples of 1024", "Builder::cuts"],
        );
    }
    says(build(&adamw, &|b| _ = b.clip(Clip::GroupNorm(1.0))), &["norm of groups", "own_range"]);
    says(build(&adamw, &|b| _ = b.clip(Clip::TensorNorm(1.0))), &["norm of tensors", "own_range"]);
    says(
        build(&Muon::default(), &|_| ()),
        &["tensor `t4`", "ends are multiples of 9001", "muon makes whole matrices orthogonal"],
    );
    says(build(&SAdam::default(), &|_| ()), &["sadam", "inside a step", "own_range"]);
    let frozen = |b: &mut Builder| {
        let tensor = b.find_tensor("t4").unwrap();
        b.freeze(tensor);
    };
    says(build(&adamw, &frozen), &["tensor `t4`", "frozen"]);
    let rows = |b: &mut Builder| {
        let tensor = b.find_tensor("t4").unwrap();
        b.row_set("rows", &[tensor]);
    };
    says(build(&adamw, &rows), &["tensor `t4`", "multiples of 9001"]);
    let mut host = builder(&adamw, "f32");
    host.own_range(host.find_tensor("t4").unwrap(), 0..1024);
    says(host.build_cpu::<f32>().map(drop).map_err(|error| error.to_string()), &["own_range", "whole tensors"]);
    // A range of everything is no range.
    host.own_range(host.find_tensor("t4").unwrap(), 0..9001);
    assert!(host.build_cpu::<f32>().is_ok());
    let mut undecayed = builder(&adamw, "f32");
    undecayed.exclude_from_decay(Group::DEFAULT, NoDecay::Rank(1)).unwrap();
    undecayed.accumulate(Accumulate::Mean(2));
    undecayed.own_range(undecayed.find_tensor("t0").unwrap(), 0..1024);
    assert!(undecayed.build(&GPU.device, &GPU.queue).is_ok());
}

/// Parts of a tensor that were not saved together make no tensor.
#[test]
fn parts_that_differ_are_refused() {
    let rule = SgdScheduleFree { lr: 0.1, ..SgdScheduleFree::default() };
    let stored = |rule: &dyn Rule, storage: &str, steps: &[f64]| {
        let mut parts = Parts::new(&builder(rule, storage), 2);
        parts.optimizers.iter().for_each(|optimizer| write(optimizer, 0, true));
        for (t, lr) in steps.iter().enumerate() {
            parts.optimizers.iter().for_each(|optimizer| write(optimizer, t, false));
            let set = |optimizer: &mut Optimizer, lr: f64| {
                let groups: Vec<Group> = optimizer.groups().map(|(group, _)| group).collect();
                groups.into_iter().for_each(|group| optimizer.set_lr(group, lr).unwrap());
            };
            parts.optimizers.iter_mut().for_each(|optimizer| set(optimizer, *lr));
            parts.step();
            parts.optimizers.iter_mut().for_each(|optimizer| set(optimizer, 0.1));
        }
        let [first, last] = [0, 1].map(|part| (snapshot(&parts.optimizers[part]), named(&parts.ranges[part])));
        [first, last]
    };
    let join = |parts: [(Checkpoint, Vec<TensorRange>); 2]| {
        Checkpoint::from_ranges("joined", &parts, &named(&SIZES.map(|n| 0..n as u64))).map_err(|e| e.to_string())
    };
    let [first, last] = stored(&rule, "f32", &[0.1, 0.1]);
    assert!(join([first.clone(), last]).is_ok());
    let refused = |other: (Checkpoint, Vec<TensorRange>), words: &str| {
        let error = join([first.clone(), other]).unwrap_err();
        assert!(error.contains(words), "{error}");
    };
    let [_, later] = stored(&rule, "f32", &[0.1, 0.1, 0.1]);
    refused(later, "its step count is 3, and 2 in snapshot");
    // The rule keeps the sum of its weights once per tensor.
    let [_, faster] = stored(&rule, "f32", &[0.2, 0.1]);
    refused(faster, "a part of tensor `t4` has the numbers");
    let [_, packed] = stored(&rule, "bf16-split", &[0.1, 0.1]);
    refused(packed, "a part of tensor `t4` has `param`");
    let [_, decayed] = stored(&SgdScheduleFree { weight_decay: 0.5, ..rule }, "f32", &[0.1, 0.1]);
    refused(decayed, "its groups have other settings than those of snapshot");
}

/// The second tensor and its rule lie in the last part alone: the counters of the rule are in that part.
#[test]
fn rules_of_some_parts_keep_their_counters() {
    let mut builder = Optimizer::builder(AdamW::default());
    let other = builder.group("other", Lion::default());
    builder.tensor(Group::DEFAULT, "t0", &[SIZES[0]]);
    builder.tensor(other, "t1", &[SIZES[1]]);
    assert_eq!(builder.cuts().unwrap().iter().map(|cut| cut.rule).collect::<Vec<_>>(), [0, 1]);
    let mut parts = Parts::new(&builder, 2);
    assert_eq!([&parts.ranges[0][1], &parts.ranges[1][1]], [&(0..0), &(0..7)]);
    let mut one = builder.build(&GPU.device, &GPU.queue).unwrap();
    for t in 0..4 {
        for optimizer in std::iter::once(&one).chain(&parts.optimizers) {
            write(optimizer, t, t == 0);
        }
        if t > 0 {
            GPU.run(|encoder| one.step(encoder)).unwrap();
            parts.step();
        }
    }
    let saved: Vec<_> =
        parts.optimizers.iter().zip(&parts.ranges).map(|(o, ranges)| (snapshot(o), named(ranges))).collect();
    let whole = named(&[0..SIZES[0] as u64, 0..SIZES[1] as u64]);
    let joined = Checkpoint::from_ranges("joined", &saved, &whole).unwrap();
    same("joined", &snapshot(&one), &joined);
}
