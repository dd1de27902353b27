//! Half precision in the caller's own buffers of exactly the needed length, with guards before, behind and in the last word of an odd
//! count. Steps give the same bits as in the optimizer's own buffers.

use std::ops::Range;

use wgpu_optim::tools::verify::Problem;
use wgpu_optim::{Builder, Group, Optimizer, Storage, wgpu};

use super::{Bits, amsgrad, everything, problem, same_bits, steps, storage};
use crate::common::{Page, block_on, gpu};

/// Odd counts, whole words, whole vec4s, several chunks.
const SIZES: &[usize] = &[5, 1025, 1, 0, 1023, 2, 2048, 3];

/// Formats of parameters, of gradients and of states, equal and mixed.
const FORMS: [&str; 7] = [
    "bf16-sr,states=bf16-sr",
    "bf16-split",
    "f16-master,8bit,min=0",
    "f16-sr,grads=f32",
    "bf16-nearest,grads=f16",
    "f32,grads=bf16",
    "f32,grads=f16,8bit,min=0",
];

/// A page and a range of bytes in it.
type Place = (usize, Range<u64>);

struct Pages {
    pages: Vec<Page>,
    params: Vec<Place>,
    grads: Vec<Place>,
}

impl Pages {
    /// `place` says in which pages a tensor's parameters and gradients lie, and `stored` in which storage.
    fn new(problem: &Problem, stored: impl Fn(usize) -> Storage, place: impl Fn(usize) -> (usize, usize)) -> Self {
        let mut all = Self { pages: Vec::new(), params: Vec::new(), grads: Vec::new() };
        for (t, data) in problem.tensors.iter().enumerate() {
            let (storage, (p, g)) = (stored(t), place(t));
            all.pages.resize_with(all.pages.len().max(p.max(g) + 1), Page::new);
            let mut put = |page: usize, bytes: u64, guard| {
                (page, all.pages[page].place_numbers(data.param.len(), bytes as usize, guard))
            };
            all.params.push(put(p, storage.params.format().bytes(), 1 + t % 3));
            all.grads.push(put(g, storage.grads.bytes(), 1 + t % 2));
        }
        all.pages.iter_mut().for_each(|page| page.create(gpu()));
        all
    }

    fn slice(&self, (page, range): &Place) -> wgpu::BufferSlice<'_> {
        self.pages[*page].slice_bytes(range)
    }

    /// Two steps, between guards.
    fn steps(&self, what: &str, mut optimizer: Optimizer, problem: &Problem) -> Bits {
        problem.upload(&mut optimizer).unwrap();
        self.pages.iter().for_each(|page| page.restore_guards(gpu()));
        (0..2).for_each(|_| gpu().run(|encoder| optimizer.step(encoder)).unwrap());
        self.pages.iter().for_each(|page| page.check_guards(gpu(), what));
        everything(&optimizer)
    }
}

fn build(
    problem: &Problem,
    pages: &Pages,
    stored: impl Fn(usize) -> Storage,
    change: impl Fn(&mut Builder),
) -> Optimizer {
    let mut builder = Optimizer::builder(problem.groups[0].clone());
    for (t, data) in problem.tensors.iter().enumerate() {
        let (param, grad) = (pages.slice(&pages.params[t]), pages.slice(&pages.grads[t]));
        let tensor = builder.bind(Group::DEFAULT, format!("tensor {t}"), &data.shape, param, grad);
        builder.tensor_storage(tensor, stored(t));
    }
    change(&mut builder);
    builder.build(&gpu().device, &gpu().queue).unwrap()
}

fn owned(problem: &Problem, stored: impl Fn(usize) -> Storage) -> Bits {
    let mut builder = Optimizer::builder(problem.groups[0].clone());
    for (t, data) in problem.tensors.iter().enumerate() {
        let tensor = builder.tensor(Group::DEFAULT, format!("tensor {t}"), &data.shape);
        builder.tensor_storage(tensor, stored(t));
    }
    steps(gpu(), builder.build(&gpu().device, &gpu().queue).unwrap(), problem, 2)
}

fn grads(problem: &Problem, optimizer: &Optimizer) -> Vec<Vec<f32>> {
    let tensors = (0..problem.tensors.len()).map(|t| optimizer.tensor(&format!("tensor {t}")).unwrap());
    tensors.map(|tensor| block_on(optimizer.read_grad(tensor)).unwrap()).collect()
}

#[test]
fn parameters_and_gradients_in_two_buffers_and_in_one() {
    for form in FORMS {
        let problem = problem(&amsgrad(), form, SIZES);
        let stored = |_| storage(form);
        let expected = owned(&problem, stored);
        let one = storage(form).params.format().bytes() == storage(form).grads.bytes();
        for number in 0..if one { 3 } else { 2 } {
            let place = |t: usize| [(0, 1), (t, 8 + t), (0, 0)][number];
            let what = format!("{form}, place {number}");
            let pages = Pages::new(&problem, stored, place);
            let optimizer = build(&problem, &pages, stored, |_| ());
            same_bits(&what, &expected, &pages.steps(&what, optimizer, &problem));
        }
    }
}

#[test]
fn gradients_are_read_and_never_written_but_where_they_are_zeroed() {
    for form in FORMS {
        let problem = problem(&amsgrad(), form, SIZES);
        let stored = |_| storage(form);
        let mut zeroed = Vec::new();
        for zero in [false, true] {
            let what = format!("{form}, zeroed: {zero}");
            let pages = Pages::new(&problem, stored, |_| (0, 1));
            let mut optimizer = build(&problem, &pages, stored, |builder| _ = builder.zero_grad(zero));
            problem.upload(&mut optimizer).unwrap();
            pages.pages.iter().for_each(|page| page.restore_guards(gpu()));
            gpu().run(|encoder| optimizer.step(encoder)).unwrap();
            pages.pages.iter().for_each(|page| page.check_guards(gpu(), &what));
            for (t, (data, grad)) in problem.tensors.iter().zip(grads(&problem, &optimizer)).enumerate() {
                let expected = if zero { vec![0.0; grad.len()] } else { data.grad.clone() };
                let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&grad), bits(&expected), "{what}: tensor {t}");
            }
            zeroed.push(everything(&optimizer));
        }
        same_bits(form, &zeroed[0], &zeroed[1]);
    }
}

#[test]
fn rebound_gradients() {
    for form in FORMS {
        let problem = problem(&amsgrad(), form, SIZES);
        let stored = |_| storage(form);
        let home = Pages::new(&problem, stored, |_| (0, 1));
        let mut optimizer =
            build(&problem, &home, stored, |builder| _ = builder.dynamic_gradients(true).zero_grad(true));
        problem.upload(&mut optimizer).unwrap();
        home.pages.iter().for_each(|page| page.restore_guards(gpu()));
        // Each step finds the gradients in other places.
        for round in 0..2 {
            let away = Pages::new(&problem, stored, |t| (0, if t % 2 == round { 1 } else { 2 }));
            for (tensor, ..) in optimizer.tensors() {
                let grad = away.slice(&away.grads[tensor.index()]);
                let home = home.slice(&home.grads[tensor.index()]);
                let copy = |encoder: &mut wgpu::CommandEncoder| {
                    encoder.copy_buffer_to_buffer(
                        home.buffer(),
                        home.offset(),
                        grad.buffer(),
                        grad.offset(),
                        home.size(),
                    );
                    Ok(())
                };
                gpu().run(copy).unwrap();
            }
            away.pages.iter().for_each(|page| page.restore_guards(gpu()));
            let tensors: Vec<_> = optimizer.tensors().map(|(tensor, ..)| tensor).collect();
            let grads = tensors.iter().map(|tensor| (*tensor, away.slice(&away.grads[tensor.index()])));
            gpu().run(|encoder| optimizer.step_with_grads(encoder, grads)).unwrap();
            away.pages.iter().for_each(|page| page.check_guards(gpu(), form));
        }
        home.pages.iter().for_each(|page| page.check_guards(gpu(), form));
        same_bits(form, &owned(&problem, stored), &everything(&optimizer));
    }
}

/// One buffer may hold numbers of any width, as long as the parameters and gradients of each single tensor in it have one width.
#[test]
fn formats_side_by_side_in_one_buffer() {
    let forms = ["bf16-split", "f32", "f16-sr,8bit,min=0", "f32,grads=bf16", "bf16-master,grads=f32"];
    let stored = |t: usize| storage(forms[t % forms.len()]);
    let problem = problem(&amsgrad(), "f16-nearest", SIZES);
    let expected = owned(&problem, stored);
    let place = |t: usize| if forms[t % forms.len()].contains("grads") { (0, 1) } else { (0, 0) };
    let pages = Pages::new(&problem, stored, place);
    let optimizer = build(&problem, &pages, stored, |_| ());
    same_bits("side by side", &expected, &pages.steps("side by side", optimizer, &problem));
}

/// The caller's buffers hold the numbers that the optimizer reads back.
#[test]
fn halves_lie_two_per_word_the_first_in_the_low_bits() {
    for (form, one) in [("bf16-nearest", 0x3f80_u32), ("f16-nearest", 0x3c00)] {
        let mut problem = problem(&amsgrad(), form, &[3]);
        problem.tensors[0].param = vec![1.0, -1.0, 1.0];
        problem.tensors[0].grad = vec![-1.0, 1.0, 1.0];
        let stored = |_| storage(form);
        let pages = Pages::new(&problem, stored, |_| (0, 1));
        let mut optimizer = build(&problem, &pages, stored, |_| ());
        problem.upload(&mut optimizer).unwrap();
        let word = |page: usize, range: &Range<u64>| pages.pages[page].read(gpu())[range.start as usize / 4];
        assert_eq!(word(0, &pages.params[0].1), one | (one | 0x8000) << 16, "{form}");
        assert_eq!(word(1, &pages.grads[0].1), one | 0x8000 | one << 16, "{form}");
    }
}
