//! Storage that keeps the full precision of 16-bit parameters: steps give the results of f32, and parameters that the caller writes count.

use half::{bf16, f16};
use wgpu_optim::optim::{ALL, AdamW, Sgd, VRAdam};
use wgpu_optim::random::{Stream, key, normal};
use wgpu_optim::storage::Format;
use wgpu_optim::storage::half::{nearest, split, widen};
use wgpu_optim::tools::verify::Problem;
use wgpu_optim::{AdamWScheduleFree, Ema, Group, Optimizer, Rule, Tensor, read_buffer};

use super::{everything, problem, storage};
use crate::common::{block_on, check, gpu, groups, read};

/// The forms that keep full precision.
const EXACT: [&str; 3] = ["bf16-split,grads=f32", "bf16-master,grads=f32", "f16-master,grads=f32"];

fn gradient(step: u64, elements: usize) -> Vec<f32> {
    let words = key(step, Stream::Data);
    (0..elements as u32).map(|i| (0.1 * normal(words, i)) as f32).collect()
}

/// The halves that the model sees.
fn seen(optimizer: &Optimizer, tensor: Tensor, elements: usize) -> Vec<u16> {
    let bytes = block_on(read_buffer(&gpu().device, &gpu().queue, optimizer.param(tensor).unwrap())).unwrap();
    bytemuck::pod_collect_to_vec(&bytes[..2 * elements])
}

/// Steps in f32, and in forms that keep full precision: the numbers agree within the tolerance, and bit for bit if the shader compiler
/// treats both texts in the same way.
#[test]
fn twenty_steps_are_those_of_f32() {
    const ELEMENTS: usize = 3001;
    let rules: [Box<dyn Rule>; 4] = [
        AdamW { lr: 3e-4, weight_decay: 0.1, ..AdamW::default() }.boxed(),
        Sgd { lr: 0.01, momentum: 0.9, weight_decay: 0.01, ..Sgd::default() }.boxed(),
        VRAdam { weight_decay: 0.1, ..VRAdam::default() }.boxed(),
        AdamWScheduleFree { lr: 0.01, ..AdamWScheduleFree::default() }.boxed(),
    ];
    for rule in rules {
        for form in EXACT {
            let what = format!("{} {form}", rule.name());
            let built = |form: &str| {
                let problem = problem(rule.as_ref(), form, &[ELEMENTS]);
                let mut optimizer = problem.build(&gpu().device, &gpu().queue).unwrap();
                problem.upload(&mut optimizer).unwrap();
                let w = optimizer.tensor("tensor 0").unwrap();
                (problem, optimizer, w)
            };
            let (_, mut plain, w) = built("f32");
            let (mut at, mut kept, v) = built(form);
            for step in 0..20 {
                let grad = gradient(step, ELEMENTS);
                plain.write_grad(w, &grad).unwrap();
                kept.write_grad(v, &grad).unwrap();
                at = at.next(read(&kept));
                at.tensors[0].grad.clone_from(&grad);
                gpu().run(|encoder| plain.step(encoder)).unwrap();
                gpu().run(|encoder| kept.step(encoder)).unwrap();
                if step % 7 == 0 {
                    check(&format!("{what}, step {step}"), &at, &read(&kept));
                }
            }
            let [a, b] = [(&plain, w), (&kept, v)].map(|(o, t)| block_on(o.read_param(t)).unwrap());
            let start = problem(rule.as_ref(), "f32", &[ELEMENTS]).tensors.remove(0).param;
            let mut moved = 0;
            for ((start, a), b) in start.iter().zip(&a).zip(&b) {
                let (path, off) = ((start - a).abs(), (a - b).abs());
                assert!(off <= 1e-4 * path + 20.0 * f32::EPSILON * a.abs(), "{what}: {a:e} and {b:e} from {start:e}");
                moved += usize::from(path > 0.0);
            }
            assert!(moved > ELEMENTS / 2, "{what}");
            let format = storage(form).params.format();
            let half = |x: f32| if form.contains("split") { split(x).0 } else { nearest(format, x) };
            let halves: Vec<u16> = b.iter().map(|x| half(*x)).collect();
            assert!(seen(&kept, v, ELEMENTS) == halves, "{what}: the model sees other halves");
        }
    }
}

/// Written parameters are read back bit for bit, and the model sees their halves.
#[test]
fn parameters_are_written_and_read_in_full() {
    let values: Vec<f32> =
        [0.1, -1.0 / 3.0, 1e-30, -0.0, 65519.0, 3.4e38, f32::MIN_POSITIVE, 1.0_f32.next_up(), -2.5e-41].to_vec();
    for entry in ALL {
        for form in EXACT {
            let Ok(problem) = Problem::random(groups(entry.sample().as_ref(), 1), &[(0, values.len())], 0, 1)
                .unwrap()
                .stored(&storage(form))
            else {
                continue;
            };
            let optimizer = problem.build(&gpu().device, &gpu().queue).unwrap();
            let w = optimizer.tensor("tensor 0").unwrap();
            optimizer.write_param(w, &values).unwrap();
            let read = block_on(optimizer.read_param(w)).unwrap();
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
            assert_eq!(bits(&read), bits(&values), "{} {form}", entry.name);
            let format = storage(form).params.format();
            let half = |x: &f32| if form.contains("split") { split(*x).0 } else { nearest(format, *x) };
            assert_eq!(seen(&optimizer, w, values.len()), values.iter().map(half).collect::<Vec<u16>>());
        }
    }
}

/// Halves that the caller may write: zeros, the smallest, the largest, and numbers as they are.
fn written(format: Format) -> Vec<u16> {
    let largest = if format == Format::F16 { f16::MAX.to_bits() } else { bf16::MAX.to_bits() };
    let one = nearest(format, 1.0);
    let magnitudes = [0, 1, largest, one, one + 1, one - 1, largest - 1, 0x0400, 0x0080];
    magnitudes.into_iter().flat_map(|bits| [bits, bits | 0x8000]).collect()
}

/// An optimizer after a step from numbers whose remainders are of all kinds, and then these halves in place of the parameters.
fn overwritten(form: &str, halves: &[u16]) -> (Optimizer, Tensor) {
    let rule = Sgd { lr: 1.0, ..Sgd::default() };
    let elements = halves.len();
    let mut problem = problem(&rule, form, &[elements]);
    problem.tensors[0].param =
        (0..elements).map(|i| 0.5 + normal(key(3, Stream::Data), i as u32).abs() as f32).collect();
    problem.tensors[0].grad.fill(1e-4);
    let mut optimizer = problem.build(&gpu().device, &gpu().queue).unwrap();
    problem.upload(&mut optimizer).unwrap();
    gpu().run(|encoder| optimizer.step(encoder)).unwrap();
    let w = optimizer.tensor("tensor 0").unwrap();
    let (buffer, offset) = (optimizer.param(w).unwrap().buffer().clone(), optimizer.param(w).unwrap().offset());
    gpu().queue.write_buffer(&buffer, offset, bytemuck::cast_slice(halves));
    optimizer.write_grad(w, &vec![0.0; elements]).unwrap();
    (optimizer, w)
}

#[test]
fn a_master_restarts_from_parameters_that_the_caller_writes() {
    for form in ["bf16-master", "f16-master"] {
        let format = storage(form).params.format();
        let halves: Vec<u16> = written(format).repeat(5);
        let (mut optimizer, w) = overwritten(form, &halves);
        let want: Vec<f32> = halves.iter().map(|bits| widen(format, *bits)).collect();
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
        assert_eq!(bits(&block_on(optimizer.read_param(w)).unwrap()), bits(&want), "{form}: before the step");
        gpu().run(|encoder| optimizer.step(encoder)).unwrap();
        // Adding nothing to -0 gives 0, and denormals may be flushed: so may the step in f32.
        for (want, got) in want.iter().zip(block_on(optimizer.read_state(w, "master")).unwrap()) {
            assert!(got == *want || got == 0.0 && !want.is_normal(), "{form}: {got:e}, not {want:e}");
        }
        for (half, now) in halves.iter().zip(seen(&optimizer, w, halves.len())) {
            let (half, now) = (widen(format, *half), widen(format, now));
            assert!(half == now || now == 0.0 && half.abs() < f32::MIN_POSITIVE, "{form}: {half:e} became {now:e}");
        }
    }
}

/// A parameter that the caller does not write continues from the copy, although its half is the same.
#[test]
fn a_master_stays_where_its_half_was_not_written() {
    for form in ["bf16-master", "f16-master", "bf16-split"] {
        let (optimizer, w) = overwritten(form, &[0; 64]);
        optimizer.write_param(w, &[1.0; 64]).unwrap();
        optimizer.write_grad(w, &[-1e-5; 64]).unwrap();
        let mut optimizer = optimizer;
        (0..10).for_each(|_| gpu().run(|encoder| optimizer.step(encoder)).unwrap());
        let now = block_on(optimizer.read_param(w)).unwrap();
        assert!(now.iter().all(|x| (x - 1.0001).abs() < 1e-6), "{form}: {}", now[0]);
    }
}

#[test]
fn a_split_stays_within_a_place_of_the_callers_number_and_makes_no_nan() {
    const INFINITY: u16 = 0x7f80;
    let halves: Vec<u16> = [written(Format::Bf16), vec![INFINITY, INFINITY | 0x8000]].concat().repeat(16);
    let (mut optimizer, w) = overwritten("bf16-split", &halves);
    let check = |optimizer: &Optimizer, when: &str, with_infinity: bool| {
        let now = block_on(optimizer.read_param(w)).unwrap();
        for (bits, got) in halves.iter().zip(now).filter(|(bits, _)| with_infinity || *bits & INFINITY != INFINITY) {
            let here = widen(Format::Bf16, *bits);
            let magnitude = bits & 0x7fff;
            let (below, above) = (magnitude.saturating_sub(1), (magnitude + 1).min(INFINITY));
            let [below, above] = [below, above].map(|magnitude| widen(Format::Bf16, magnitude));
            assert!(!got.is_nan(), "{when}: a NaN from {here:e}");
            // A step may flush denormals, which lie just below the smallest normal number.
            let flushed = got == 0.0 && here.abs() <= f32::MIN_POSITIVE;
            assert!(flushed || got.abs() >= below && got.abs() <= above, "{when}: {got:e} from {here:e}");
            assert!(got == 0.0 || got.is_sign_negative() == here.is_sign_negative(), "{when}: {got:e} from {here:e}");
        }
    };
    let remainders = block_on(optimizer.read_state(w, "remainder")).unwrap();
    assert!(remainders.iter().any(|x| *x >= 32768.0) && remainders.iter().any(|x| *x > 0.0 && *x < 32768.0));
    check(&optimizer, "before the step", true);
    gpu().run(|encoder| optimizer.step(encoder)).unwrap();
    // In f32 too a decay of nothing makes a NaN of infinity.
    check(&optimizer, "after it", false);
}

/// Weights and average change places in full, and again: every bit is where it was.
#[test]
fn an_average_takes_the_weights_place_exactly() {
    for form in ["bf16-split", "bf16-master", "f16-master", "bf16-split,8bit,min=0"] {
        let rule = AdamW { lr: 0.01, weight_decay: 0.1, ..AdamW::default() };
        let problem = problem(&rule, form, &[1031, 3]);
        let mut builder = Optimizer::builder(rule);
        builder.storage(storage(form)).ema(Ema { decay: 0.9, warmup: false });
        let tensors = [1031, 3]
            .map(|n| builder.tensor(Group::DEFAULT, format!("tensor {n}"), &builder.sample_shape(Group::DEFAULT, n)));
        let mut optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
        problem.upload(&mut optimizer).unwrap();
        (0..3).for_each(|_| gpu().run(|encoder| optimizer.step(encoder)).unwrap());
        let before = everything(&optimizer);
        let [weights, averages] = read_both(&optimizer, &tensors);
        gpu().run(|encoder| optimizer.swap_ema(encoder)).unwrap();
        let [now, kept] = read_both(&optimizer, &tensors);
        assert_eq!((&now, &kept), (&averages, &weights), "{form}");
        assert_ne!(now, weights, "{form}");
        gpu().run(|encoder| optimizer.swap_ema(encoder)).unwrap();
        super::same_bits(form, &before, &everything(&optimizer));
    }
}

fn read_both(optimizer: &Optimizer, tensors: &[Tensor]) -> [Vec<Vec<f32>>; 2] {
    let params = tensors.iter().map(|tensor| block_on(optimizer.read_param(*tensor)).unwrap());
    let averages = tensors.iter().map(|tensor| block_on(optimizer.read_state(*tensor, "ema")).unwrap());
    [params.collect(), averages.collect()]
}

/// Schedule-free training in halves with their remainders: the moves to the point of evaluation and back end where those of f32 end.
#[test]
fn points_of_evaluation_are_those_of_f32() {
    let rule = AdamWScheduleFree { lr: 0.01, warmup_steps: 0, ..AdamWScheduleFree::default() };
    let run = |form: &str| {
        let problem = problem(&rule, form, &[1500]);
        let mut optimizer = problem.build(&gpu().device, &gpu().queue).unwrap();
        problem.upload(&mut optimizer).unwrap();
        let w = optimizer.tensor("tensor 0").unwrap();
        let mut points = Vec::new();
        for step in 0..4 {
            optimizer.write_grad(w, &gradient(step, 1500)).unwrap();
            gpu().run(|encoder| optimizer.step(encoder)).unwrap();
            gpu().run(|encoder| optimizer.to_eval_params(encoder)).unwrap();
            points.push(block_on(optimizer.read_param(w)).unwrap());
            gpu().run(|encoder| optimizer.to_train_params(encoder)).unwrap();
            points.push(block_on(optimizer.read_param(w)).unwrap());
        }
        points
    };
    let plain = run("f32");
    for form in EXACT {
        for (at, (plain, kept)) in plain.iter().zip(run(form)).enumerate() {
            for (a, b) in plain.iter().zip(kept) {
                assert!((a - b).abs() <= 2e-6 * a.abs().max(1e-3), "{form}, point {at}: {b:e}, in f32 {a:e}");
            }
        }
    }
}
