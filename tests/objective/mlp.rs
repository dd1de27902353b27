//! The perceptron and the digits.

use crate::rig::{GUARD, Rig, failure, gpu, slices, worst};
use crate::support::wide::wide;
use std::sync::OnceLock;
use wgpu_optim::tools::objectives::random;
use wgpu_optim::tools::objectives::random::Stream;
use wgpu_optim::tools::objectives::{
    Activation, Bits, CpuMlp, CpuObjective, GpuMlp, GpuObjective, Mlp, Outcome, Part, Split, digits,
};

/// The largest error of a tensor's gradient, as a share of its largest gradient: f32 sums have at most 1438 terms of both signs, in
/// chunks or one after the other.
const GRADIENT_TOLERANCE: f64 = 1e-5;
/// WGSL allows log an absolute error of 2^-21.
const LOSS_TOLERANCE: f64 = 2e-6;

fn split() -> &'static Split {
    static SPLIT: OnceLock<Split> = OnceLock::new();
    SPLIT.get_or_init(|| digits::load().expect("the digits").split(0.2, 7).expect("a split"))
}

/// Widths that are not multiples of a workgroup or a block.
fn odd(activation: Activation) -> Mlp {
    Mlp { widths: vec![64, 70, 9, 10], activation, bits: None }
}

/// Initial values with biases that are not zero.
fn parameters(spec: &Mlp, seed: u64) -> Vec<Vec<f32>> {
    let mut params = spec.initial(seed);
    for (at, bias) in params.iter_mut().enumerate().filter(|(at, _)| at % 2 == 1) {
        let draw = |i| 0.2 * random::unit(at as u32, i as u32) - 0.1;
        bias.iter_mut().enumerate().for_each(|(i, b)| *b = draw(i));
    }
    params
}

type Found<F> = (Vec<Vec<F>>, Outcome);
type Evaluate<'a> = dyn FnMut(&[Vec<f32>], u32, usize) -> Found<f32> + 'a;

fn gradient_of<F: Clone>(mlp: &mut impl CpuObjective<F>, params: &[Vec<F>], batch: usize) -> Found<F> {
    let mut grads = params.to_vec();
    let mut into: Vec<&mut [F]> = grads.iter_mut().map(Vec::as_mut_slice).collect();
    let outcome = mlp.gradient(&slices(params), batch, &mut into).expect("a gradient");
    (grads, outcome)
}

fn rig_of(spec: &Mlp, batch_size: usize, seed: u64) -> Rig<GpuMlp> {
    Rig::new(Box::new(GpuMlp::new(&gpu().device, spec, split(), batch_size, seed).expect("a perceptron")))
}

fn found(rig: &Rig<GpuMlp>, epoch: u32, batch: usize) -> Found<f32> {
    let reading = rig.run(|encoder| {
        rig.objective.record_epoch(encoder, epoch);
        rig.objective.record_gradient(encoder, batch).expect("recorded");
        rig.objective.record_outcomes(encoder)
    });
    (rig.tensors(&rig.grads), rig.gpu.outcomes(reading)[batch])
}

fn assert_close(reference: &Found<f64>, actual: &Found<f32>, what: &str) {
    let error = worst(&reference.0, &actual.0);
    let (loss, expected) = (actual.1.loss, reference.1.loss);
    println!("{what}: gradient error {error:.2e}, loss {loss} for {expected}");
    assert!(error <= GRADIENT_TOLERANCE, "{what}: gradients are off by {error:e} of the largest");
    assert!((loss - expected).abs() <= LOSS_TOLERANCE * expected.max(1.0), "{what}: loss {loss}, needs {expected}");
    assert_eq!((actual.1.rows, actual.1.correct), (reference.1.rows, reference.1.correct), "{what}");
}

#[test]
fn gradients_match_finite_differences() {
    const STEP: f64 = 1e-6;
    for activation in [Activation::Relu, Activation::Tanh] {
        let spec = odd(activation);
        let mut mlp = CpuMlp::<f64>::new(&spec, split(), 33, 1).expect("a perceptron");
        let params = wide(&parameters(&spec, 2));
        let (grads, _) = gradient_of(&mut mlp, &params, 0);
        for (tensor, spec) in mlp.tensors().to_vec().iter().enumerate() {
            for draw in 0..8 {
                let at = random::draw(tensor as u32, draw) as usize % spec.elements();
                let mut loss = |by: f64| {
                    let mut moved = params.clone();
                    moved[tensor][at] += by;
                    mlp.loss(&slices(&moved), 0).expect("a loss").loss
                };
                let slope = (loss(STEP) - loss(-STEP)) / (2.0 * STEP);
                let (gradient, name) = (grads[tensor][at], &spec.name);
                assert!((gradient - slope).abs() <= 1e-8, "{activation:?} {name}[{at}]: {gradient}, needs {slope}");
            }
        }
    }
}

#[test]
fn both_forms_match_f64() {
    let rows = split().part(Part::Train).rows();
    let specs = [Mlp::default(), odd(Activation::Relu), odd(Activation::Tanh)];
    for (spec, size) in specs.iter().flat_map(|s| [1, 3, 32, rows].map(|size| (s, size))) {
        let params = parameters(spec, 3);
        let rig = rig_of(spec, size, 5);
        rig.set(&params);
        let mut fast = CpuMlp::<f32>::new(spec, split(), size, 5).expect("a perceptron");
        let mut exact = CpuMlp::<f64>::new(spec, split(), size, 5).expect("a perceptron");
        let last = exact.batches() - 1;
        for (epoch, batch) in [(0, 0), (3, last / 2), (70_000, last)] {
            fast.set_epoch(epoch);
            exact.set_epoch(epoch);
            let what = |form| format!("{form} {:?} batch {batch} of size {size}, epoch {epoch}", spec.widths);
            let reference = gradient_of(&mut exact, &wide(&params), batch);
            assert_close(&reference, &gradient_of(&mut fast, &params, batch), &what("cpu"));
            assert_close(&reference, &found(&rig, epoch, batch), &what("gpu"));
        }
    }
}

/// The rounding of torch's fake quantisation, as in S-Adam's experiments.
fn rounded(values: &[f64], bits: Bits) -> Vec<f64> {
    let (top, least, most) = if bits == Bits::Two { (1.5, -2.0, 1.0) } else { (7.0, -8.0, 7.0) };
    let largest = values.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    let scale = top / (largest + f64::from(1e-5_f32));
    values.iter().map(|x| (x * scale).round_ties_even().clamp(least, most) / scale).collect()
}

/// The straight-through gradients of a perceptron of two layers, written out: the forward pass takes rounded values, and the backward
/// pass ignores the rounding.
fn straight_through(params: &[Vec<f64>], widths: [usize; 3], bits: Bits, rows: &[usize]) -> Found<f64> {
    let [inputs, hidden, classes] = widths;
    let train = split().part(Part::Train);
    let [w1, w2] = [0, 2].map(|at| rounded(&params[at], bits));
    let x = |row: usize, i: usize| f64::from(train.row(row)[i]);
    let unit =
        |row, h: usize| (params[1][h] + (0..inputs).map(|i| w1[h * inputs + i] * x(row, i)).sum::<f64>()).max(0.0);
    let raw: Vec<f64> =
        rows.iter().flat_map(|row| (0..hidden).map(move |h| (*row, h))).map(|(r, h)| unit(r, h)).collect();
    let seen = rounded(&raw, bits);
    let mut grads: Vec<Vec<f64>> = params.iter().map(|p| vec![0.0; p.len()]).collect();
    let (mut loss, mut correct) = (0.0, 0);
    for (at, row) in rows.iter().enumerate() {
        let y = &seen[at * hidden..][..hidden];
        let z: Vec<f64> =
            (0..classes).map(|c| params[3][c] + (0..hidden).map(|h| w2[c * hidden + h] * y[h]).sum::<f64>()).collect();
        let total: f64 = z.iter().map(|z| z.exp()).sum();
        let label = train.labels()[*row] as usize;
        loss += (total.ln() - z[label]) / rows.len() as f64;
        correct += u32::from((0..classes).all(|c| z[c] <= z[label]));
        for c in 0..classes {
            let d = (z[c].exp() / total - if c == label { 1.0 } else { 0.0 }) / rows.len() as f64;
            grads[3][c] += d;
            for h in 0..hidden {
                grads[2][c * hidden + h] += d * y[h];
                let behind = if raw[at * hidden + h] > 0.0 { d * w2[c * hidden + h] } else { 0.0 };
                grads[1][h] += behind;
                (0..inputs).for_each(|i| grads[0][h * inputs + i] += behind * x(*row, i));
            }
        }
    }
    (grads, Outcome { rows: rows.len() as u32, loss, correct })
}

#[test]
fn rounding_passes_gradients_straight_through() {
    for bits in [Bits::Two, Bits::Four] {
        let spec = Mlp { widths: vec![64, 13, 10], bits: Some(bits), ..Mlp::default() };
        let params = parameters(&spec, 3);
        for (size, batch) in [(1, 0), (37, 2)] {
            let order = random::draw(random::key(5, Stream::Order), 0);
            let rows: Vec<usize> =
                (0..size).map(|i| random::place((size * batch + i) as u32, 1438, order) as usize).collect();
            let expected = straight_through(&wide(&params), [64, 13, 10], bits, &rows);
            let mut exact = CpuMlp::<f64>::new(&spec, split(), size, 5).expect("a perceptron");
            let found_exact = gradient_of(&mut exact, &wide(&params), batch);
            let narrow: Vec<Vec<f32>> = found_exact.0.iter().map(|t| t.iter().map(|x| *x as f32).collect()).collect();
            assert_close(&expected, &(narrow, found_exact.1), "f64");
            let mut fast = CpuMlp::<f32>::new(&spec, split(), size, 5).expect("a perceptron");
            assert_close(&expected, &gradient_of(&mut fast, &params, batch), "cpu");
            let rig = rig_of(&spec, size, 5);
            rig.set(&params);
            assert_close(&expected, &found(&rig, 0, batch), "gpu");
        }
    }
}

#[test]
fn a_wrong_gradient_is_caught() {
    let spec = Mlp::default();
    let mut exact = CpuMlp::<f64>::new(&spec, split(), 32, 5).expect("a perceptron");
    let params = parameters(&spec, 3);
    let (reference, _) = gradient_of(&mut exact, &wide(&params), 0);
    let narrow: Vec<Vec<f32>> = reference.iter().map(|t| t.iter().map(|x| *x as f32).collect()).collect();
    assert!(worst(&reference, &narrow) < GRADIENT_TOLERANCE);
    for tensor in 0..reference.len() {
        let largest =
            (0..narrow[tensor].len()).max_by(|a, b| narrow[tensor][*a].abs().total_cmp(&narrow[tensor][*b].abs()));
        let at = largest.expect("elements");
        for mutate in [|x: f32| -x, |x: f32| x * 1.0001, |_: f32| 0.0, |_: f32| f32::NAN] {
            let mut wrong = narrow.clone();
            wrong[tensor][at] = mutate(wrong[tensor][at]);
            assert!(worst(&reference, &wrong) > GRADIENT_TOLERANCE, "tensor {tensor}");
        }
    }
    let (other_batch, _) = gradient_of(&mut exact, &wide(&params), 1);
    assert!(worst(&other_batch, &narrow) > GRADIENT_TOLERANCE, "another batch");
}

#[test]
fn same_bits_twice() {
    let spec = Mlp::default();
    let params = parameters(&spec, 3);
    let bits = |(grads, outcome): Found<f32>| {
        (grads.iter().flatten().map(|x| x.to_bits()).collect::<Vec<_>>(), outcome.loss.to_bits())
    };
    for size in [32, 1438] {
        let rig = rig_of(&spec, size, 5);
        rig.set(&params);
        let again = rig_of(&spec, size, 5);
        again.set(&params);
        let first = bits(found(&rig, 1, 0));
        assert_eq!(first, bits(found(&rig, 1, 0)));
        assert_eq!(first, bits(found(&again, 1, 0)));
        let on_threads = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| {
                let mut mlp = CpuMlp::<f32>::new(&spec, split(), size, 5).expect("a perceptron");
                bits(gradient_of(&mut mlp, &params, 0))
            })
        };
        assert_eq!(on_threads(1), on_threads(5));
    }
}

#[test]
fn the_gpu_touches_its_gradients_only() {
    let rig = rig_of(&odd(Activation::Relu), 32, 5);
    let params = parameters(&odd(Activation::Relu), 3);
    rig.set(&params);
    found(&rig, 0, 0);
    let words = rig.gpu.words(&rig.grads);
    for (at, word) in words.iter().enumerate() {
        let inside = rig.ranges.iter().any(|r| r.contains(&(4 * at as u64)));
        assert_eq!(inside, *word != GUARD, "word {at}");
    }
    assert_eq!(rig.tensors(&rig.params), params);
}

#[test]
fn parameters_and_gradients_may_share_a_buffer() {
    let spec = odd(Activation::Tanh);
    let (params, mut rig) = (parameters(&spec, 3), rig_of(&spec, 32, 5));
    rig.set(&params);
    let apart = found(&rig, 0, 0).0;
    let half = rig.params.size();
    let shared = rig.gpu.storage(2 * half);
    rig.run(|encoder| encoder.copy_buffer_to_buffer(&rig.params, 0, &shared, 0, half));
    let behind: Vec<_> = rig.ranges.iter().map(|r| shared.slice(r.start + half..r.end + half)).collect();
    let before = rig.slices(&shared);
    rig.objective.bind(&before, &behind).expect("bound");
    found(&rig, 0, 0);
    let words = rig.gpu.words(&shared);
    for (range, expected) in rig.ranges.iter().zip(&apart) {
        let start = ((range.start + half) / 4) as usize;
        assert_eq!(&words[start..start + expected.len()], expected.as_slice());
    }
}

#[test]
fn evaluations_match_f64() {
    let spec = Mlp::default();
    let params = parameters(&spec, 3);
    let rig = rig_of(&spec, 48, 5);
    rig.set(&params);
    let mut exact = CpuMlp::<f64>::new(&spec, split(), 48, 5).expect("a perceptron");
    for part in [Part::HeldOut, Part::Train] {
        let reading = rig.run(|encoder| rig.objective.record_accuracy(encoder, part).expect("recorded"));
        let found = Outcome::total(&rig.gpu.outcomes(reading));
        let expected = exact.accuracy(&slices(&wide(&params)), part).expect("an accuracy");
        assert_eq!((found.rows, found.correct), (expected.rows, expected.correct), "{part:?}");
        assert!((found.loss - expected.loss).abs() <= LOSS_TOLERANCE * expected.loss, "{part:?}");
    }
}

#[test]
fn losses_and_epochs_follow_the_encoder() {
    let spec = Mlp::default();
    let params = parameters(&spec, 3);
    let rig = rig_of(&spec, 48, 5);
    rig.set(&params);
    let probes = rig.gpu.storage(64);
    rig.run(|encoder| {
        for (at, (epoch, batch)) in [(1, 0), (2, 0), (1, 29)].into_iter().enumerate() {
            let slot = probes.slice(8 * at as u64..);
            rig.objective.record_epoch(encoder, epoch);
            rig.objective.record_gradient(encoder, 1).expect("recorded");
            rig.objective.record_loss(encoder, batch, slot).expect("recorded");
        }
    });
    let found = rig.gpu.words(&probes);
    let mut exact = CpuMlp::<f64>::new(&spec, split(), 48, 5).expect("a perceptron");
    for (at, (epoch, batch)) in [(1, 0), (2, 0), (1, 29)].into_iter().enumerate() {
        exact.set_epoch(epoch);
        let expected = exact.loss(&slices(&wide(&params)), batch).expect("a loss").loss;
        assert!((f64::from(found[2 * at]) - expected).abs() <= LOSS_TOLERANCE * expected, "loss {at}");
        assert_eq!(found[2 * at + 1], 0.0);
    }
}

#[test]
fn plain_descent_lowers_the_loss_on_both() {
    let spec = Mlp::default();
    let rig = rig_of(&spec, 64, 5);
    let mut cpu = CpuMlp::<f32>::new(&spec, split(), 64, 5).expect("a perceptron");
    let descend = |gradient: &mut Evaluate<'_>| {
        let mut params = spec.initial(1);
        let mut epochs = Vec::new();
        for epoch in 0..3 {
            let mut outcomes = Vec::new();
            for batch in 0..23 {
                let (grads, outcome) = gradient(&params, epoch, batch);
                params.iter_mut().flatten().zip(grads.iter().flatten()).for_each(|(p, g)| *p -= 0.2 * g);
                outcomes.push(outcome);
            }
            epochs.push(Outcome::total(&outcomes));
        }
        println!("{epochs:?}");
        assert!(epochs[0].loss > 2.0 * epochs[2].loss && epochs[2].accuracy() > 0.9, "{epochs:?}");
        params
    };
    descend(&mut |params, epoch, batch| {
        rig.set(params);
        found(&rig, epoch, batch)
    });
    let trained = descend(&mut |params, epoch, batch| {
        cpu.set_epoch(epoch);
        gradient_of(&mut cpu, params, batch)
    });
    let unseen = cpu.accuracy(&slices(&trained), Part::HeldOut).expect("an accuracy");
    assert!(unseen.accuracy() > 0.85, "{unseen:?}");
}

#[test]
fn a_nan_stays_visible() {
    for spec in [Mlp::default(), Mlp { bits: Some(Bits::Two), ..Mlp::default() }] {
        let mut params = parameters(&spec, 3);
        params[0][5 * 64 + 20] = f32::NAN;
        let rig = rig_of(&spec, 32, 5);
        rig.set(&params);
        assert!(found(&rig, 0, 0).1.loss.is_nan());
        let mut cpu = CpuMlp::<f32>::new(&spec, split(), 32, 5).expect("a perceptron");
        assert!(gradient_of(&mut cpu, &params, 0).1.loss.is_nan());
    }
}

#[test]
fn an_epoch_holds_every_row_once() {
    for count in (1..300).chain([1438, 65_537]) {
        for key in [0, 1, 0xdead_beef] {
            let mut seen = vec![false; count as usize];
            (0..count).for_each(|at| seen[random::place(at, count, key) as usize] = true);
            assert!(seen.iter().all(|s| *s), "{count} things, key {key}");
        }
    }
}

#[test]
fn orders_are_even() {
    const KEYS: u32 = 60_000;
    for (count, bound) in [(5_u32, 80.0), (10, 190.0), (12, 240.0)] {
        let pairs = (count * (count - 1)) as usize;
        let mut seen = vec![0_u32; pairs];
        for key in 0..KEYS {
            let key = random::key(u64::from(key), Stream::Order);
            let (a, b) = (random::place(0, count, key), random::place(count - 1, count, key));
            seen[(a * (count - 1) + if b > a { b - 1 } else { b }) as usize] += 1;
        }
        let mean = f64::from(KEYS) / pairs as f64;
        let chi: f64 = seen.iter().map(|n| (f64::from(*n) - mean).powi(2) / mean).sum();
        println!("{count}: chi² {chi:.1} of {} degrees of freedom", pairs - 1);
        assert!(chi < bound, "{count}: chi² {chi}");
    }
}

#[test]
fn random_numbers_are_pinned() {
    assert_eq!([random::pcg(0), random::pcg(1), random::pcg(u32::MAX)], PINNED);
    let key = random::key(9, Stream::Weights);
    let units: Vec<f32> = (0..10_000).map(|i| random::unit(key, i)).collect();
    assert!(units.iter().all(|u| (0.0..1.0).contains(u)));
    let mean = units.iter().sum::<f32>() / 10_000.0;
    assert!((mean - 0.5).abs() < 0.015, "{mean}");
}

const PINNED: [u32; 3] = [129_708_002, 2_831_084_092, 3_861_530_882];

#[test]
fn initial_weights_fill_their_bounds() {
    let spec = Mlp::default();
    let bounds = [(6.0_f32 / 64.0).sqrt(), (6.0_f32 / 128.0).sqrt(), (6.0_f32 / 74.0).sqrt()];
    let initial = spec.initial(4);
    for (layer, bound) in bounds.into_iter().enumerate() {
        let largest = initial[2 * layer].iter().fold(0.0, |most: f32, w| most.max(w.abs()));
        assert!(largest <= bound && largest > 0.97 * bound, "layer {layer}: {largest}, bound {bound}");
        assert!(initial[2 * layer + 1].iter().all(|b| *b == 0.0));
    }
    assert_eq!(initial, spec.initial(4));
    assert_ne!(initial, spec.initial(5));
    let names: Vec<_> = spec.tensors().iter().map(|t| format!("{} {:?}", t.name, t.shape)).collect();
    assert_eq!(names[..3], ["layer1.weight [128, 64]", "layer1.bias [128]", "layer2.weight [64, 128]"]);
}

#[test]
fn the_digits_are_whole() {
    let all = digits::load().expect("the digits");
    assert_eq!((all.rows(), all.features(), all.classes()), (1797, 64, 10));
    assert_eq!(all.inputs().iter().fold(0.0, |most: f32, x| most.max(*x)), 1.0);
    let (train, held_out) = (split().part(Part::Train), split().part(Part::HeldOut));
    assert_eq!((train.rows(), held_out.rows()), (1438, 359));
    let bits = |s: &wgpu_optim::tools::objectives::Samples, row| {
        (s.labels()[row], s.row(row).iter().map(|x| x.to_bits()).collect::<Vec<_>>())
    };
    let mut parts: Vec<_> = (0..1438).map(|r| bits(train, r)).chain((0..359).map(|r| bits(held_out, r))).collect();
    let mut whole: Vec<_> = (0..1797).map(|r| bits(&all, r)).collect();
    assert_ne!(parts, whole);
    parts.sort();
    whole.sort();
    assert_eq!(parts, whole);
    assert_eq!(*split(), all.split(0.2, 7).expect("a split"));
    assert_ne!(*split(), all.split(0.2, 8).expect("a split"));
}

#[test]
fn bad_data_is_named() {
    let good = include_bytes!("../../src/tools/objectives/data/digits.bin").to_vec();
    let changed = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        bytes
    };
    let says = |bytes: &[u8], what: &str| {
        let error = digits::parse(bytes).expect_err("bad data").to_string();
        assert!(error.contains(what), "{error}");
    };
    says(&good[1..], "116804 bytes, needs 116805");
    says(&[], "0 bytes");
    says(&changed(65 * 3 + 7, 17), "row 3 has a pixel of 17");
    says(&changed(65 * 4 + 64, 10), "row 4 has the label 10");
    let all = digits::load().expect("the digits");
    for share in [0.0, 1.0, -1.0, f64::NAN, 1e-9] {
        assert!(all.split(share, 0).expect_err("an empty part").to_string().contains("both parts need rows"));
    }
}

#[test]
fn bad_shapes_are_named() {
    let make = |widths: &[usize], size| {
        let spec = Mlp { widths: widths.to_vec(), ..Mlp::default() };
        let gpu = failure(GpuMlp::new(&gpu().device, &spec, split(), size, 0));
        assert_eq!(gpu, failure(CpuMlp::<f32>::new(&spec, split(), size, 0)));
        gpu
    };
    assert!(make(&[64], 32).contains("at least two"));
    assert!(make(&[64, 0, 10], 32).contains("[64, 0, 10]"));
    assert!(make(&[63, 10], 32).contains("the data needs 64 first and 10 last"));
    assert!(make(&[64, 10], 0).contains("batch size is 0, needs 1..=1438"));
    assert!(make(&[64, 10], 1439).contains("batch size is 1439"));
    assert!("rely".parse::<Activation>().expect_err("unknown").to_string().contains("did you mean `relu`?"));
}

#[test]
fn bad_slices_are_named_and_change_nothing() {
    let spec = Mlp { widths: vec![64, 10], ..Mlp::default() };
    let gpu = gpu();
    let mut fresh = GpuMlp::new(&gpu.device, &spec, split(), 32, 0).expect("a perceptron");
    assert!(failure(fresh.record_gradient(&mut gpu.encode(), 0)).contains("no parameters are bound"));
    let buffer = gpu.storage(8192);
    let plain = gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 8192,
        usage: wgpu::BufferUsages::COPY_SRC,
        mapped_at_creation: false,
    });
    let good = [buffer.slice(0..2560), buffer.slice(2560..2816)];
    assert!(failure(fresh.bind(&good[..1], &good)).contains("1 slices of parameters, needs 2"));
    let short = [buffer.slice(0..2556), good[1]];
    assert!(failure(fresh.bind(&short, &good)).contains("`layer1.weight`: parameters have 2556 bytes, needs 2560"));
    let crooked = [good[0], buffer.slice(2564..2604)];
    assert!(failure(fresh.bind(&good, &crooked)).contains("`layer1.bias`: gradients start at byte 2564"));
    let foreign = [good[0], plain.slice(2560..2816)];
    assert!(failure(fresh.bind(&good, &foreign)).contains("needs STORAGE"));
    fresh.bind(&good, &good).expect("bound");
    let mut encoder = gpu.encode();
    assert!(failure(fresh.record_gradient(&mut encoder, 45)).contains("no batch 45, needs less than 45"));
    assert!(failure(fresh.record_loss(&mut encoder, 0, plain.slice(..))).contains("COPY_DST"));

    let mut cpu = CpuMlp::<f32>::new(&spec, split(), 32, 0).expect("a perceptron");
    let params = spec.initial(0);
    let mut short = [0.0; 639];
    let mut bias = [1.0; 10];
    let error = failure(cpu.gradient(&slices(&params), 0, &mut [&mut short, &mut bias]));
    assert!(error.contains("`layer1.weight`: gradients have 639 elements, needs 640"), "{error}");
    assert_eq!(bias, [1.0; 10]);
    assert!(failure(cpu.loss(&slices(&params), 45)).contains("no batch 45, needs less than 45"));
}
