//! Stochastic rounding and blocks give the same bits for any window, grid, dispatch and buffer, and beside any other
//! tensors. Draws depend on the seed, the step, the tensor and the element, and on nothing else.

use wgpu_optim::optim::{AdamW, Sgd};
use wgpu_optim::tools::adapter::Gpu;
use wgpu_optim::tools::verify::Problem;
use wgpu_optim::{Builder, Group, NoDecay, Optimizer, Tensor};

use super::{Bits, amsgrad, everything, problem, same_bits, steps, storage};
use crate::common::{Page, block_on, gpu, open};

const FORMS: [&str; 5] =
    ["bf16-sr,states=bf16-sr", "f16-sr,8bit,min=0", "bf16-split,8bit,min=0", "f16-master,states=bf16-sr", "8bit,min=0"];
const SIZES: &[usize] = &[4097, 1, 3000, 5, 1024, 1025];

/// A builder with the problem's tensors in the optimizer's own buffers.
fn builder(problem: &Problem) -> (Builder, Vec<Tensor>) {
    let mut builder = Optimizer::builder(problem.groups[0].clone());
    builder.undamped_steps(true);
    builder.storage(problem.storage.clone());
    let tensors = problem.tensors.iter().enumerate();
    let tensors = tensors.map(|(t, data)| builder.tensor(Group::DEFAULT, format!("tensor {t}"), &data.shape));
    let tensors = tensors.collect();
    (builder, tensors)
}

/// Two steps on a device, with what `change` does to the builder; how many dispatches each is.
fn run(gpu: &Gpu, problem: &Problem, change: impl FnOnce(&mut Builder, &[Tensor])) -> (Bits, usize) {
    let (mut builder, tensors) = builder(problem);
    change(&mut builder, &tensors);
    let optimizer = builder.build(&gpu.device, &gpu.queue).unwrap();
    let dispatches = optimizer.dispatches();
    (steps(gpu, optimizer, problem, 2), dispatches)
}

fn plain(problem: &Problem) -> Bits {
    run(gpu(), problem, |_, _| ()).0
}

#[test]
fn of_windows() {
    let windows = open(|limits| {
        limits.max_storage_buffer_binding_size = 5 << 18;
        limits.min_storage_buffer_offset_alignment = 256;
    });
    for form in ["bf16-sr,grads=f32,states=bf16-sr", "bf16-split,grads=f32,8bit,min=0"] {
        let problem = problem(&AdamW::default(), form, &[7, 400_001, 1029, 2]);
        let (bits, dispatches) = run(&windows, &problem, |_, _| ());
        assert!(dispatches > 1, "{form} fits one window");
        same_bits(form, &bits, &plain(&problem));
    }
}

#[test]
fn of_grids() {
    let folded = open(|limits| {
        limits.max_compute_workgroups_per_dimension = 4;
        limits.min_storage_buffer_offset_alignment = 256;
    });
    for form in FORMS {
        let problem = problem(&amsgrad(), form, SIZES);
        same_bits(form, &run(&folded, &problem, |_, _| ()).0, &plain(&problem));
    }
}

/// The first tensors of an optimizer have the same bits with and without other tensors, whose dispatches come before and between.
#[test]
fn of_company() {
    for form in FORMS {
        let problem = problem(&amsgrad(), form, SIZES);
        let alone = plain(&problem);
        let more = run(gpu(), &problem, |builder, _| {
            for (i, form) in ["f32", "bf16-nearest", "bf16-sr,states=bf16"].into_iter().enumerate() {
                let other = builder.tensor(Group::DEFAULT, format!("other {i}"), &[700]);
                builder.tensor_storage(other, storage(form));
            }
            builder.tensor(Group::DEFAULT, "like them", &[2000]);
        });
        same_bits(form, &alone, &more.0[..alone.len()].to_vec());
        // A tensor in another storage splits the dispatches.
        let parted = run(gpu(), &problem, |builder, tensors| {
            builder.tensor_storage(tensors[2], storage("f32"));
        });
        let others =
            |bits: &Bits| -> Bits { bits.iter().filter(|(name, _)| !name.starts_with("tensor 2")).cloned().collect() };
        same_bits(form, &others(&alone), &others(&parted.0));
        assert!(parted.1 > 1, "{form}");
    }
}

/// Tensors in row sets have chunks of other lengths.
#[test]
fn of_chunks() {
    let rule = AdamW { lr: 0.01, weight_decay: 0.1, ..AdamW::default() };
    for form in ["bf16-sr", "f16-sr,grads=f32", "bf16-master"] {
        let sizes = [3 * 700, 3 * 343, 21];
        let problem = problem(&rule, form, &sizes);
        let in_rows = |wide: bool| {
            let mut builder = Optimizer::builder(rule);
            builder.storage(storage(form));
            let shapes = sizes.map(|n| if wide { [n / 21, 21] } else { [n / 3, 3] });
            let tensors: Vec<Tensor> = shapes
                .iter()
                .enumerate()
                .map(|(t, shape)| builder.tensor(Group::DEFAULT, format!("tensor {t}"), shape))
                .collect();
            for (t, shape) in shapes.iter().enumerate() {
                let rows = builder.row_set(format!("rows of {t}"), &tensors[t..=t]);
                builder.mask(rows);
                builder.column_rates(tensors[t], &vec![1.0; shape[1]]);
            }
            let optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
            for (t, shape) in shapes.iter().enumerate() {
                let rows = optimizer.row_set(&format!("rows of {t}")).unwrap();
                optimizer.write_mask(rows, &vec![1; shape[0]]).unwrap();
            }
            steps(gpu(), optimizer, &problem, 2)
        };
        for wide in [false, true] {
            same_bits(&format!("{form} {wide}"), &in_rows(wide), &plain(&problem));
        }
    }
}

#[test]
fn of_the_callers_buffers_and_of_rebound_gradients() {
    for form in FORMS {
        let problem = problem(&amsgrad(), form, SIZES);
        let expected = plain(&problem);
        // A buffer each, in the reverse order.
        let storage = storage(form);
        let width = |format: wgpu_optim::storage::Format| format.bytes() as usize;
        let mut pages: Vec<_> = problem.tensors.iter().map(|_| (Page::new(), Page::new())).collect();
        let mut places = Vec::new();
        for (data, (params, grads)) in problem.tensors.iter().zip(&mut pages).rev() {
            let n = data.param.len();
            let place = (
                params.place_numbers(n, width(storage.params.format()), 1),
                grads.place_numbers(n, width(storage.grads), 2),
            );
            params.create(gpu());
            grads.create(gpu());
            places.insert(0, place);
        }
        let slices: Vec<_> = pages
            .iter()
            .zip(&places)
            .map(|((p, g), (param, grad))| (p.slice_bytes(param), g.slice_bytes(grad)))
            .collect();
        for moving in [false, true] {
            let mut builder = Optimizer::builder(problem.groups[0].clone());
            builder.storage(storage.clone()).dynamic_gradients(moving);
            for (t, (data, (param, grad))) in problem.tensors.iter().zip(&slices).enumerate() {
                builder.bind(Group::DEFAULT, format!("tensor {t}"), &data.shape, *param, *grad);
            }
            let optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
            same_bits(&format!("{form}, moving: {moving}"), &expected, &steps(gpu(), optimizer, &problem, 2));
        }
        let (mut builder, tensors) = builder(&problem);
        builder.dynamic_gradients(true);
        let mut moved = builder.build(&gpu().device, &gpu().queue).unwrap();
        problem.upload(&mut moved).unwrap();
        for tensor in &tensors {
            moved.write_grad(*tensor, &vec![f32::NAN; block_on(moved.read_grad(*tensor)).unwrap().len()]).unwrap();
        }
        let grads = || tensors.iter().copied().zip(slices.iter().map(|(_, grad)| *grad));
        (0..2).for_each(|_| gpu().run(|encoder| moved.step_with_grads(encoder, grads())).unwrap());
        same_bits(&format!("{form}, moved"), &expected, &everything(&moved));
    }
}

#[test]
fn of_everything_but_the_seed() {
    for form in FORMS {
        let problem = problem(&amsgrad(), form, SIZES);
        let of_seed = |seed| run(gpu(), &problem, |builder, _| _ = builder.seed(seed)).0;
        same_bits(form, &of_seed(0), &plain(&problem));
        same_bits(form, &of_seed(7), &of_seed(7));
        assert_eq!(of_seed(7) == of_seed(1 << 40), !form.contains("sr"), "{form}: another seed");
    }
}

/// Draws do not depend on a group's settings.
#[test]
fn of_groups() {
    let problem = problem(&amsgrad(), "bf16-sr,states=bf16-sr", SIZES);
    let routed = run(gpu(), &problem, |builder, _| {
        let undecayed = builder.exclude_from_decay(Group::DEFAULT, NoDecay::Names("tensor 3".to_owned())).unwrap();
        assert_ne!(undecayed, Group::DEFAULT);
    });
    let others = |bits: Bits| -> Bits { bits.into_iter().filter(|(name, _)| !name.starts_with("tensor 3")).collect() };
    same_bits("the others", &others(plain(&problem)), &others(routed.0));
}

#[test]
fn two_steps_in_one_encoder_draw_anew() {
    const ELEMENTS: usize = 20_000;
    let rule = Sgd { lr: 1.0, ..Sgd::default() };
    for form in ["bf16-sr,grads=f32", "f16-sr,grads=f32"] {
        let mut problem = problem(&rule, form, &[ELEMENTS]);
        let unit = if form.starts_with("bf16") { 2f32.powi(-7) } else { 2f32.powi(-10) };
        problem.tensors[0].param.fill(1.0);
        problem.tensors[0].grad.fill(-0.25 * unit);
        let mut together = problem.build(&gpu().device, &gpu().queue).unwrap();
        problem.upload(&mut together).unwrap();
        gpu().run(|encoder| together.step(encoder).and_then(|()| together.step(encoder))).unwrap();
        let together = everything(&together);
        same_bits(form, &together, &plain(&problem));
        let ups = |up: f32| together[0].1.iter().filter(|bits| f32::from_bits(**bits) == 1.0 + up * unit).count();
        let [none, once, twice] = [0.0, 1.0, 2.0].map(ups);
        assert_eq!(none + once + twice, ELEMENTS, "{form}");
        // A quarter each time: 9/16, 6/16, 1/16 of all, each known to a few times √n.
        for (got, share) in [(none, 9.0), (once, 6.0), (twice, 1.0)] {
            let expected = ELEMENTS as f64 * share / 16.0;
            assert!((got as f64 - expected).abs() < 5.0 * expected.sqrt(), "{form}: {none} {once} {twice}");
        }
    }
}

/// Each of two tensors and two arrays is rounded up half of the time, independently of the others.
#[test]
fn arrays_and_tensors_have_draws_of_their_own() {
    let rule = Sgd { lr: 1.0, momentum: 0.9, ..Sgd::default() };
    let mut problem = problem(&rule, "bf16-sr,grads=f32,states=bf16-sr", &[4096, 4096]);
    let unit = 2f32.powi(-7);
    for data in &mut problem.tensors {
        data.param.fill(0.5);
        data.grad.fill(-1.0 - 0.5 * unit);
    }
    let bits = steps(gpu(), problem.build(&gpu().device, &gpu().queue).unwrap(), &problem, 1);
    let up = |bits: &u32| f32::from_bits(*bits).abs() % 0.5 == unit;
    for (a, (name, first)) in bits.iter().enumerate() {
        for (other, second) in &bits[a..] {
            let both = first.iter().zip(second).filter(|(a, b)| up(a) && up(b)).count();
            let expected = if name == other { 2048 } else { 1024 };
            assert!(both.abs_diff(expected) < 160, "{name} and {other}: {both} of 4096 go up together");
        }
    }
}

/// A skipped step changes no byte, and the next step draws as if there had been no skipped step.
#[test]
fn a_skipped_step_leaves_no_trace() {
    for form in FORMS {
        let problem = problem(&amsgrad(), form, SIZES);
        let skipping = |builder: &mut Builder, _: &[Tensor]| _ = builder.skip_nonfinite(true);
        let (mut builder, tensors) = builder(&problem);
        skipping(&mut builder, &tensors);
        let mut optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
        problem.upload(&mut optimizer).unwrap();
        gpu().run(|encoder| optimizer.step(encoder)).unwrap();
        let before = everything(&optimizer);
        for bad in [f32::NAN, f32::INFINITY] {
            let grad = &problem.tensors[2].grad;
            let mut wrong = grad.clone();
            wrong[2999] = bad;
            optimizer.write_grad(tensors[2], &wrong).unwrap();
            gpu().run(|encoder| optimizer.step(encoder).and_then(|()| optimizer.step(encoder))).unwrap();
            same_bits(&format!("{form} {bad}"), &before, &everything(&optimizer));
            optimizer.write_grad(tensors[2], grad).unwrap();
        }
        gpu().run(|encoder| optimizer.step(encoder)).unwrap();
        same_bits(form, &run(gpu(), &problem, skipping).0, &everything(&optimizer));
        assert_eq!(block_on(optimizer.read_skipped()).unwrap(), 4);
    }
}

/// Every form twice on one device and once on another.
#[test]
fn the_same_bits_twice_and_on_a_fresh_device() {
    let fresh = open(|_| ());
    for form in super::FORMS {
        let problem = problem(&amsgrad(), form, SIZES);
        let first = plain(&problem);
        same_bits(form, &first, &plain(&problem));
        same_bits(form, &first, &run(&fresh, &problem, |_, _| ()).0);
    }
}
