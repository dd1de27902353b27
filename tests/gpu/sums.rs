//! Sums per tensor and over all tensors, against f64: one tensor, a thousand, a hundred thousand, and one of 64 million elements.

use wgpu_optim::optim::{NormOf, Rule as _, VRAdam};
use wgpu_optim::tools::adapter::Gpu;
use wgpu_optim::tools::objectives::random::unit;
use wgpu_optim::{Group, Optimizer, read_buffer, wgpu};

use crate::common::{Page, block_on, gpu};

/// The rounding error of a tree of a few hundred additions, of which most cancel. A running f32 sum of a million terms has a hundred times
/// this error.
const TOLERANCE: f64 = 1e-6;

fn rule() -> VRAdam {
    VRAdam { beta1: 0.0, norm_of: NormOf::Gradient, ..VRAdam::default() }
}

/// The squared norms of the gradient: over all tensors, then of each tensor.
fn squared_norms(gpu: &Gpu, optimizer: &mut Optimizer) -> Vec<f32> {
    gpu.run(|encoder| optimizer.record_sums(encoder)).unwrap();
    let totals = optimizer.totals().unwrap();
    let bytes = block_on(read_buffer(&gpu.device, &gpu.queue, totals.slice(..))).unwrap();
    let totals: Vec<[f32; 4]> = bytemuck::pod_collect_to_vec(&bytes);
    // The squared norm is the first total of a record; the coefficient of c² comes third.
    totals.chunks(rule().sums().totals).map(|record| record[0][2]).collect()
}

#[track_caller]
fn close(what: &str, got: f32, want: f64) {
    let error = (f64::from(got) - want).abs() / want.max(f64::from(f32::MIN_POSITIVE));
    assert!(error <= TOLERANCE, "{what}: got {got:e}, want {want:e}, off by {error:e}");
}

fn check(sizes: &[usize]) {
    let mut grads = Page::new();
    let mut params = Page::new();
    let places: Vec<_> = sizes.iter().map(|&n| (params.place(n, 0), grads.place(n, 0))).collect();
    let mut exact = Vec::new();
    for (t, (_, range)) in places.iter().enumerate() {
        let values = (0..range.len()).map(|i| unit(t as u32, i as u32) - 0.25);
        exact.push(values.clone().map(|g| f64::from(g) * f64::from(g)).sum::<f64>());
        grads.put(range, values);
    }
    params.create(gpu());
    grads.create(gpu());
    let mut builder = Optimizer::builder(rule());
    for (i, (param, grad)) in places.iter().enumerate() {
        builder.bind(
            Group::DEFAULT,
            i.to_string(),
            &builder.sample_shape(Group::DEFAULT, param.len()),
            params.slice(param),
            grads.slice(grad),
        );
    }
    let mut optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
    let first = squared_norms(gpu(), &mut optimizer);
    assert_eq!(first.len(), sizes.len() + 1);
    close(&format!("all of {} tensors", sizes.len()), first[0], exact.iter().sum());
    for (i, (got, want)) in first[1..].iter().zip(&exact).enumerate() {
        close(&format!("tensor {i} of {}", sizes.len()), *got, *want);
    }
    assert_eq!(first, squared_norms(gpu(), &mut optimizer), "the same bits twice");
}

#[test]
fn one_tensor() {
    for size in [1, 3, 1024, 16 * 1024 - 1, 16 * 1024 + 1, 1_000_003] {
        check(&[size]);
    }
}

#[test]
fn a_thousand_tensors() {
    let sizes: Vec<usize> = (0..1000).map(|i| if i % 100 == 0 { 40_000 } else { i % 70 }).collect();
    check(&sizes);
}

#[test]
fn a_hundred_thousand_tensors() {
    let sizes: Vec<usize> = (0..100_000).map(|i| i % 9).collect();
    check(&sizes);
}

#[test]
fn a_tensor_of_64_million_elements() {
    const ELEMENTS: usize = 64 << 20;
    const PIECE: usize = 4 << 20;
    let mut builder = Optimizer::builder(rule());
    let tensor = builder.tensor(Group::DEFAULT, "large", &[ELEMENTS]);
    let mut optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
    let piece: Vec<f32> = (0..PIECE).map(|i| unit(1, i as u32) - 0.25).collect();
    let of_piece: f64 = piece.iter().map(|g| f64::from(*g) * f64::from(*g)).sum();
    let mut exact = 0.0;
    for (k, at) in (0..ELEMENTS).step_by(PIECE).enumerate() {
        // Powers of two, so that scaling the piece is exact.
        let factor = [1.0_f32, 0.5, 2.0, 0.25][k % 4];
        let scaled: Vec<f32> = piece.iter().map(|g| g * factor).collect();
        let grad = optimizer.grad(tensor).unwrap();
        gpu().queue.write_buffer(grad.buffer(), grad.offset() + at as u64 * 4, bytemuck::cast_slice(&scaled));
        // In pieces, so that the staging buffers do not hold all of them at once.
        gpu().queue.submit(std::iter::empty::<wgpu::CommandBuffer>());
        gpu().wait().unwrap();
        exact += of_piece * f64::from(factor) * f64::from(factor);
    }
    let norms = squared_norms(gpu(), &mut optimizer);
    close("everything", norms[0], exact);
    close("the tensor", norms[1], exact);
}
