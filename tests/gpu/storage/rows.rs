//! Row sets with parameters in half precision: excluded rows keep every byte, stepped rows get the results of a step over all
//! rows, and remapped rows keep their full precision.

use wgpu_optim::optim::AdamW;
use wgpu_optim::tools::verify::Problem;
use wgpu_optim::{Builder, Ema, Group, Optimizer, RowSet, Tensor, wgpu};

use super::{Bits, everything, problem, same_bits, storage};
use crate::common::{block_on, gpu};
use crate::errors::says;

const FORMS: [&str; 5] = ["bf16-sr", "bf16-master", "f16-master,grads=f32", "f16-sr,grads=bf16", "bf16-nearest"];
/// Rows that cross words, vec4s and chunks; a tensor of one column.
const SHAPES: [[usize; 2]; 2] = [[450, 5], [450, 1]];

fn rule() -> AdamW {
    AdamW { lr: 0.01, weight_decay: 0.1, ..AdamW::default() }
}

fn build(form: &str, change: impl FnOnce(&mut Builder, RowSet)) -> (Optimizer, Vec<Tensor>, RowSet) {
    let mut builder = Optimizer::builder(rule());
    builder.storage(storage(form));
    let add = |(t, shape): (usize, &[usize; 2])| builder.tensor(Group::DEFAULT, format!("tensor {t}"), shape);
    let tensors: Vec<Tensor> = SHAPES.iter().enumerate().map(add).collect();
    let set = builder.row_set("set", &tensors);
    change(&mut builder, set);
    (builder.build(&gpu().device, &gpu().queue).unwrap(), tensors, set)
}

fn start(form: &str) -> Problem {
    problem(&rule(), form, &SHAPES.map(|[rows, width]| rows * width))
}

fn step(optimizer: &mut Optimizer) -> Bits {
    gpu().run(|encoder| optimizer.step(encoder)).unwrap();
    everything(optimizer)
}

/// Whether an element of the array of this name is stepped in a pattern of rows.
fn chosen(array: &str, element: usize, flags: &[u32]) -> bool {
    let width = if array.starts_with("tensor 0") { SHAPES[0][1] } else { SHAPES[1][1] };
    flags[element / width] != 0
}

fn mixed(before: &Bits, after: &Bits, chosen: impl Fn(&str, usize) -> bool) -> Bits {
    let mix = |((name, before), after): (&(String, Vec<u32>), &Vec<u32>)| {
        let pick = |(i, (before, after)): (usize, (&u32, &u32))| if chosen(name, i) { *after } else { *before };
        (name.clone(), before.iter().zip(after).enumerate().map(pick).collect())
    };
    before.iter().zip(after.iter().map(|(_, after)| after)).map(mix).collect()
}

#[test]
fn excluded_rows_keep_every_byte_and_the_others_take_a_whole_step() {
    let flags: Vec<u32> = (0..450).map(|i| u32::from(i % 7 < 3 && !(150..280).contains(&i)) * 5).collect();
    for form in FORMS {
        let problem = start(form);
        let (mut all, ..) = build(form, |_, _| ());
        let (mut masked, _, set) = build(form, |builder, set| _ = builder.mask(set));
        for optimizer in [&mut all, &mut masked] {
            problem.upload(optimizer).unwrap();
        }
        masked.write_mask(set, &[1; 450]).unwrap();
        let before = step(&mut all);
        same_bits(form, &before, &step(&mut masked));
        masked.write_mask(set, &flags).unwrap();
        let expected = mixed(&before, &step(&mut all), |array, i| chosen(array, i, &flags));
        same_bits(form, &expected, &step(&mut masked));
        assert_ne!(before, expected, "{form}");
    }
}

#[test]
fn elements_whose_gradient_is_zero_keep_every_byte() {
    for form in FORMS {
        let mut problem = start(form);
        for data in &mut problem.tensors {
            data.grad.iter_mut().enumerate().filter(|(i, _)| i % 3 == 1).for_each(|(i, g)| *g = [0.0, -0.0][i % 2]);
        }
        let (mut all, ..) = build(form, |_, _| ());
        let (mut some, ..) = build(form, |builder, set| _ = builder.skip_zero_gradients(set));
        problem.upload(&mut all).unwrap();
        problem.upload(&mut some).unwrap();
        let expected = mixed(&everything(&all), &step(&mut all), |_, i| i % 3 != 1);
        same_bits(form, &expected, &step(&mut some));
    }
}

fn words(words: &[u32]) -> wgpu::Buffer {
    use wgpu::util::DeviceExt as _;
    let (contents, usage) = (bytemuck::cast_slice(words), wgpu::BufferUsages::COPY_SRC);
    gpu().device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents, usage })
}

fn trained(form: &str) -> (Optimizer, Vec<Tensor>, RowSet) {
    let (mut optimizer, tensors, set) = build(form, |builder, set| {
        builder.row_capacity(set, 512).ema(Ema { decay: 0.9, warmup: false });
    });
    start(form).upload(&mut optimizer).unwrap();
    step(&mut optimizer);
    (optimizer, tensors, set)
}

#[test]
fn rows_change_places_bit_for_bit() {
    for form in FORMS {
        let (mut optimizer, _, set) = trained(form);
        let mut live = 450;
        for count in [500_u32, 512, 77, 3] {
            let index = |i: u32| if i % 10 == 3 { u32::MAX } else { i.wrapping_mul(2_654_435_761) % live };
            let indices: Vec<u32> = (0..count).map(index).collect();
            let gathered = |(name, values): (String, Vec<u32>)| {
                let width = if name.starts_with("tensor 0") { SHAPES[0][1] } else { SHAPES[1][1] };
                let row = |i: &u32| match values.get(*i as usize * width..(*i as usize + 1) * width) {
                    Some(row) if *i < live => row.to_vec(),
                    _ => vec![0; width],
                };
                let moved = indices.iter().flat_map(row).collect();
                (name, moved)
            };
            let expected: Bits = everything(&optimizer).into_iter().map(gathered).collect();
            gpu().run(|encoder| optimizer.remap(encoder, set, words(&indices).slice(..), count as usize)).unwrap();
            same_bits(&format!("{form}, {live} to {count}"), &expected, &everything(&optimizer));
            live = count;
        }
        let before = everything(&optimizer);
        assert_ne!(before, step(&mut optimizer), "{form}: the next step moves");
    }
}

/// A reset also restarts the copy in full precision, from the parameters that the model sees.
#[test]
fn rows_begin_anew() {
    let flags: Vec<u32> = (0..512).map(|i| i % 3 % 2).collect();
    for form in FORMS {
        let (mut optimizer, tensors, set) = trained(form);
        let seen = |optimizer: &Optimizer, tensor: Tensor| {
            let slice = optimizer.param(tensor).unwrap();
            block_on(wgpu_optim::read_buffer(&gpu().device, &gpu().queue, slice)).unwrap()
        };
        let halves: Vec<Vec<u8>> = tensors.iter().map(|tensor| seen(&optimizer, *tensor)).collect();
        let before = everything(&optimizer);
        gpu().run(|encoder| optimizer.reset_rows(encoder, set, words(&flags).slice(..))).unwrap();
        let after = everything(&optimizer);
        for (tensor, halves) in tensors.iter().zip(halves) {
            assert!(seen(&optimizer, *tensor) == halves, "{form}: the model sees the same");
        }
        for ((name, before), (_, after)) in before.iter().zip(&after) {
            for (i, (before, after)) in before.iter().zip(after).enumerate() {
                if !chosen(name, i, &flags) {
                    assert_eq!(before, after, "{form} {name}: element {i} is another row's");
                } else if name.ends_with(": m") || name.ends_with(": v") {
                    assert_eq!(*after, 0, "{form} {name}: element {i}");
                } else if name.ends_with("parameters") {
                    let exact = if form.starts_with("bf16") { after & 0xffff } else { after & 0x1fff };
                    assert!(exact == 0 || f32::from_bits(*after).abs() < 1e-4, "{form} {name}: element {i} is no half");
                }
            }
        }
    }
}

#[test]
fn storage_that_rows_do_not_allow_is_refused() {
    for (form, part) in
        [("bf16-split", "bf16-master"), ("states=bf16-sr", "f32"), ("8bit,min=0", "f32"), ("bf16-sr,v=bf16", "f32")]
    {
        let mut builder = Optimizer::builder(rule());
        builder.storage(storage(form));
        let tensor = builder.tensor(Group::DEFAULT, "splats", &[4, 3]);
        builder.row_set("set", &[tensor]);
        says(builder.build(&gpu().device, &gpu().queue), &["tensor `splats`", "rows", part]);
    }
}
