//! Numbers that no training should see, where numbers are rounded or share a block: a number that is not finite reaches only its element or
//! its block, and a divisor that was not zero does not become zero.

use wgpu_optim::optim::{ALL, Adagrad, AdamW, RmsProp, Sgd};
use wgpu_optim::storage::blockwise::BLOCK;
use wgpu_optim::tools::verify::Problem;
use wgpu_optim::{Builder, Group, Optimizer, Rule, Tensor};

use super::{amsgrad, everything, problem, storage};
use crate::common::{block_on, check, deal, gpu, groups, take};

const SIZES: &[usize] = &[7, 1030, 64, 300, 3];
/// Tensor and element: the first, the last, in the tail of a word, on both sides of a block's end and of a chunk's.
const PLACES: &[(usize, usize)] = &[(0, 0), (0, 6), (1, 255), (1, 1024), (3, 299), (4, 1)];
const BAD: &[f32] = &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -1e30, f32::from_bits(0x7f80_0001)];
const EXTREME: &[f32] = &[0.0, -0.0, 1e-45, -1e-40, 1e-38, -1e-30, 1e-20, 1e15, -1e15];

/// Forms without blocks, and forms with blocks.
const FORMS: [&str; 6] = [
    "bf16-sr,states=bf16-sr",
    "bf16-nearest,states=bf16",
    "bf16-split",
    "bf16-master,8bit,min=0",
    "bf16-split,8bit,min=0",
    "f32,v=8bit,min=0",
];

/// The part of an array that a place may reach: itself, or its block.
fn reached(array: &str, form: &str, tensor: usize, element: usize) -> bool {
    let state = array.rsplit(": ").next().unwrap();
    let blocks = form.contains("8bit") && !["parameters", "remainder", "master"].contains(&state)
        || form.contains("v=8bit") && state == "v";
    let reach = |at: usize| if blocks { at / BLOCK } else { at };
    PLACES.iter().any(|(t, e)| *t == tensor && reach(*e) == reach(element))
}

#[test]
fn a_number_that_is_not_finite_stays_in_its_element_or_its_block() {
    let rules: [Box<dyn Rule>; 3] = [
        amsgrad().boxed(),
        Adagrad { weight_decay: 0.1, ..Adagrad::default() }.boxed(),
        Sgd { momentum: 0.9, ..Sgd::default() }.boxed(),
    ];
    for rule in &rules {
        for form in FORMS {
            if form.contains("v=") && rule.name() != "adam" {
                continue;
            }
            let good = problem(rule.as_ref(), form, SIZES);
            let mut optimizer = good.build(&gpu().device, &gpu().queue).unwrap();
            take(gpu(), &mut optimizer, &good);
            let expected = everything(&optimizer);
            for shift in 0..BAD.len() {
                let mut wrong = good.clone();
                for (i, (tensor, element)) in PLACES.iter().enumerate() {
                    wrong.tensors[*tensor].grad[*element] = BAD[(i + shift) % BAD.len()];
                }
                let mut optimizer = wrong.build(&gpu().device, &gpu().queue).unwrap();
                take(gpu(), &mut optimizer, &wrong);
                for ((array, want), (_, got)) in expected.iter().zip(everything(&optimizer)) {
                    let tensor = array["tensor ".len()..].split(':').next().unwrap().parse().unwrap();
                    for (element, (want, got)) in want.iter().zip(got).enumerate() {
                        let free = reached(array, form, tensor, element);
                        assert!(free || *want == got, "{} {form}: {array} {element} is {got:#x}", rule.name());
                    }
                }
            }
        }
    }
}

/// If a gradient is not finite, its parameter and its states are not finite, and neither is any number of its block.
#[test]
fn a_number_that_is_not_finite_shows() {
    for form in FORMS {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut problem = problem(&AdamW::default(), form, &[600]);
            problem.tensors[0].grad[300] = bad;
            let mut optimizer = problem.build(&gpu().device, &gpu().queue).unwrap();
            take(gpu(), &mut optimizer, &problem);
            for (array, bits) in everything(&optimizer) {
                if array.ends_with("remainder") {
                    continue;
                }
                let lost: Vec<usize> = (0..600).filter(|i| !f32::from_bits(bits[*i]).is_finite()).collect();
                let blocks =
                    form.contains("8bit") && array.ends_with(": v") || form.contains(",8bit") && array.ends_with(": m");
                let expected: Vec<usize> = if blocks { (256..512).collect() } else { vec![300] };
                assert_eq!(lost, expected, "{form} {bad}: {array}");
            }
        }
    }
}

#[test]
fn finite_extremes_are_right() {
    for form in ["bf16-sr,states=bf16-sr", "bf16-split,states=bf16", "bf16-master,8bit,min=0"] {
        for entry in ALL {
            let rule = entry.sample();
            let plain = |shift: usize| {
                let mut problem = Problem::random(groups(rule.as_ref(), 1), &deal(SIZES, 1), 2, 21).unwrap();
                for (i, (tensor, element)) in PLACES.iter().enumerate() {
                    problem.tensors[*tensor].grad[*element] = EXTREME[(i + shift) % EXTREME.len()];
                    problem.tensors[*tensor].param[*element] = EXTREME[(i + shift + 4) % EXTREME.len()];
                }
                problem.stored(&storage(form))
            };
            let Ok(first) = plain(0) else { continue };
            let mut optimizer = first.build(&gpu().device, &gpu().queue).unwrap();
            for shift in [0, 2, 5, 7] {
                let problem = plain(shift).unwrap();
                let outcome = take(gpu(), &mut optimizer, &problem);
                check(&format!("{} {form} {shift}", entry.name), &problem, &outcome);
            }
        }
    }
}

/// Blocks of zeros stay zeros, and so does their largest magnitude.
#[test]
fn zeros_stay_zeros() {
    for form in FORMS {
        let mut problem = problem(&amsgrad(), form, SIZES);
        for (t, data) in problem.tensors.iter_mut().enumerate() {
            data.grad.fill([0.0, -0.0][t % 2]);
            data.param.fill([0.0, -0.0][t % 2]);
        }
        let mut optimizer = problem.build(&gpu().device, &gpu().queue).unwrap();
        problem.upload(&mut optimizer).unwrap();
        (0..3).for_each(|_| gpu().run(|encoder| optimizer.step(encoder)).unwrap());
        for (array, bits) in everything(&optimizer) {
            assert!(bits.iter().all(|bits| f32::from_bits(*bits) == 0.0), "{form}: {array}");
        }
    }
}

fn one(rule: &dyn Rule, form: &str, elements: usize) -> (Builder, Tensor) {
    let mut builder = Optimizer::builder(rule.boxed());
    let w = builder.tensor(Group::DEFAULT, "w", &builder.sample_shape(Group::DEFAULT, elements));
    builder.storage(storage(form));
    (builder, w)
}

/// With zero gradients, a second moment shrinks. In f32 it reaches zero in the end; in fewer bits it must not reach zero earlier.
#[test]
fn a_divisor_never_becomes_zero() {
    const ELEMENTS: usize = 520;
    let rules: [(Box<dyn Rule>, &str); 2] = [
        (AdamW { beta2: 0.6, ..AdamW::default() }.boxed(), "v"),
        (RmsProp { alpha: 0.5, ..RmsProp::default() }.boxed(), "v"),
    ];
    let sizes = [1.0_f32, 1e-12, 1e-7, 1e-20, 1e-30, 1e-38, 3e-39, 1e-41, 1e-45, 0.0];
    for (rule, state) in rules {
        let run = |form: &str| -> Vec<Vec<f32>> {
            let (builder, w) = one(rule.as_ref(), form, ELEMENTS);
            let mut optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
            let start: Vec<f32> =
                (0..ELEMENTS).map(|i| if i < 256 { sizes[i % 10] } else { sizes[4 + i % 6] }).collect();
            optimizer.write_state(w, state, &start).unwrap();
            let read = |optimizer: &Optimizer| block_on(optimizer.read_state(w, state)).unwrap();
            let mut all = vec![read(&optimizer)];
            for _ in 0..8 {
                gpu().run(|encoder| optimizer.step(encoder)).unwrap();
                all.push(read(&optimizer));
            }
            all
        };
        let plain = run("f32");
        assert!(plain[8].iter().filter(|v| **v > 0.0).count() > ELEMENTS / 3);
        for form in ["states=bf16", "states=bf16-sr", "8bit,min=0"] {
            for (step, (plain, stored)) in plain.iter().zip(run(form)).enumerate() {
                for (i, (plain, stored)) in plain.iter().zip(stored).enumerate() {
                    let kept = plain.to_bits() == 0 || stored.to_bits() != 0;
                    assert!(kept, "{} {form}, step {step}: element {i} is 0, in f32 {plain:e}", rule.name());
                    assert!(!(i % 10 == 9 && i < 256) || stored.to_bits() == 0, "{form}: 0 became {stored:e}");
                }
            }
        }
    }
}

/// The map has 1 and not -1. A block with a negative largest number must be the same on the GPU and on the host.
#[test]
fn the_largest_may_be_negative() {
    let rule = AdamW { weight_decay: 0.1, ..AdamW::default() };
    let grad: Vec<f32> = (0..700).map(|i| if i % 256 == 17 { -8.0 } else { (i as f32).sin() }).collect();
    let (builder, w) = one(&rule, "8bit,min=0", 700);
    let mut optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
    let mut host = builder.build_cpu::<f32>().unwrap();
    let mut params = vec![0.0; 700];
    for step in 0..3 {
        optimizer.write_grad(w, &grad).unwrap();
        gpu().run(|encoder| optimizer.step(encoder)).unwrap();
        host.step(&mut [&mut params], &[&grad]).unwrap();
        let m = block_on(optimizer.read_state(w, "m")).unwrap();
        let other = m.iter().zip(host.state(w, "m").unwrap()).filter(|(a, b)| (*a - *b).abs() > 1e-5 * b.abs()).count();
        assert!(other <= 7, "step {step}: {other} of 700 codes differ");
        let largest = [17, 273, 529].map(|i| m[i]);
        // Each step loses less than a hundredth of it.
        let wanted = -8.0 * (1.0 - 0.9_f32.powi(step + 1));
        assert!(largest.iter().all(|x| (x / wanted - 1.0).abs() < 0.02), "step {step}: {largest:?}, not {wanted}");
    }
}
