//! Muon on matrices of every shape: against the oracle, against the definition of an orthogonal matrix, and in few dispatches.

use wgpu_optim::memory::Role;
use wgpu_optim::tools::adapter::Gpu;
use wgpu_optim::tools::objectives::random::unit;
use wgpu_optim::{AdamW, AdjustLr, Builder, Group, Muon, Optimizer, Tensor, wgpu};

use crate::common::{block_on, gpu};
use crate::support::device::open;

/// Numbers around 0.
fn random(key: u32, elements: usize) -> Vec<f32> {
    (0..elements as u32).map(|i| unit(key, i) - 0.5).collect()
}

/// The largest difference to the oracle over some steps, as a share of the largest number of a tensor: of parameters and of the momentum.
fn difference(gpu: &Gpu, rule: Muon, shapes: &[&[usize]], steps: u32) -> f64 {
    let mut builder = Optimizer::builder(rule);
    let tensors: Vec<Tensor> =
        shapes.iter().enumerate().map(|(i, shape)| builder.tensor(Group::DEFAULT, format!("t{i}"), shape)).collect();
    let mut optimizer = builder.build(&gpu.device, &gpu.queue).unwrap();
    let mut oracle = builder.build_cpu::<f64>().unwrap();
    let elements: Vec<usize> = shapes.iter().map(|shape| shape.iter().product()).collect();
    let wide = |x: &[f32]| x.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
    // The parameters begin at zero, so that they show the steps without the rounding of an addition to a large number.
    let mut params: Vec<Vec<f64>> = elements.iter().map(|&n| vec![0.0; n]).collect();
    for step in 0..steps {
        let grads: Vec<Vec<f32>> =
            elements.iter().enumerate().map(|(i, &n)| random(100 * step + i as u32, n)).collect();
        for (tensor, g) in tensors.iter().zip(&grads) {
            optimizer.write_grad(*tensor, g).unwrap();
        }
        gpu.run(|encoder| optimizer.step(encoder)).unwrap();
        let grads: Vec<Vec<f64>> = grads.iter().map(|g| wide(g)).collect();
        let mut slices: Vec<&mut [f64]> = params.iter_mut().map(Vec::as_mut_slice).collect();
        oracle.step(&mut slices, &grads.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
    }
    let mut worst = 0.0_f64;
    for (tensor, param) in tensors.iter().zip(&params) {
        let pairs = [
            (block_on(optimizer.read_param(*tensor)).unwrap(), param.as_slice()),
            (block_on(optimizer.read_state(*tensor, "m")).unwrap(), oracle.state(*tensor, "m").unwrap()),
        ];
        for (got, want) in pairs {
            let largest = want.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
            let error = |(got, want): (&f32, &f64)| (f64::from(*got) - want).abs();
            let errors = got.iter().zip(want).map(error);
            worst = worst.max(errors.fold(0.0, f64::max) / largest);
            assert!(worst.is_finite() && got.len() == want.len(), "{worst}");
        }
    }
    worst
}

/// Worst measured on lavapipe: 3e-6.
const CLOSE: f64 = 1e-5;

#[test]
fn matrices_of_every_shape_are_the_oracles() {
    let shapes: &[&[usize]] =
        &[&[1, 300], &[300, 1], &[1, 1], &[64, 64], &[65, 33], &[12, 200], &[200, 12], &[3, 5, 7], &[2, 2, 70, 66]];
    for adjust_lr in [AdjustLr::Original, AdjustLr::MatchRmsAdamW] {
        let difference = difference(gpu(), Muon { adjust_lr, ..Muon::default() }, shapes, 3);
        assert!(difference < CLOSE, "{difference}");
    }
}

/// A window of 1.25 MiB shows 327,680 numbers: the tall and the wide matrix are cut into panels, and so are their squares; the arena is cut
/// into shards within a matrix.
#[test]
fn matrices_larger_than_a_window_are_the_oracles() {
    let gpu = open(|limits| limits.max_storage_buffer_binding_size = 5 << 18);
    let rule = Muon { ns_steps: 2, ..Muon::default() };
    let shapes: &[&[usize]] = &[&[9, 11], &[600, 580], &[570, 580], &[2, 40, 30]];
    let difference = difference(&gpu, rule, shapes, 1);
    assert!(difference < CLOSE, "{difference}");
}

/// The singular values of a matrix, by Jacobi's rotations of its columns.
fn singular_values(matrix: &[f32], rows: usize, columns: usize) -> Vec<f64> {
    let wide = |i: usize, j: usize| f64::from(matrix[i * columns + j]);
    let mut vectors: Vec<Vec<f64>> = if rows >= columns {
        (0..columns).map(|j| (0..rows).map(|i| wide(i, j)).collect()).collect()
    } else {
        (0..rows).map(|i| (0..columns).map(|j| wide(i, j)).collect()).collect()
    };
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for _ in 0..30 {
        for i in 0..vectors.len() {
            for j in i + 1..vectors.len() {
                let (head, tail) = vectors.split_at_mut(j);
                let (a, b) = (&mut head[i], &mut tail[0]);
                let angle = 0.5 * (2.0 * dot(a, b)).atan2(dot(a, a) - dot(b, b));
                let (sin, cos) = angle.sin_cos();
                for (a, b) in a.iter_mut().zip(b.iter_mut()) {
                    (*a, *b) = (cos * *a + sin * *b, cos * *b - sin * *a);
                }
            }
        }
    }
    vectors.iter().map(|vector| dot(vector, vector).sqrt()).collect()
}

#[test]
fn singular_values_come_near_one() {
    for (key, (rows, columns)) in
        (0..).zip([(1, 100), (100, 1), (16, 16), (20, 90), (90, 20), (64, 64), (4096, 64), (64, 4096)])
    {
        let mut builder = Optimizer::builder(Muon { lr: 1.0, weight_decay: 0.0, ..Muon::default() });
        let w = builder.tensor(Group::DEFAULT, "w", &[rows, columns]);
        let mut optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
        optimizer.write_param(w, &vec![0.0; rows * columns]).unwrap();
        optimizer.write_grad(w, &random(key, rows * columns)).unwrap();
        gpu().run(|encoder| optimizer.step(encoder)).unwrap();
        let step = block_on(optimizer.read_param(w)).unwrap();
        let factor = (rows as f64 / columns as f64).max(1.0).sqrt();
        let values = singular_values(&step, rows, columns);
        assert_eq!(values.len(), rows.min(columns));
        // With torch's coefficients five iterations bring singular values into [0.68, 1.14]: a single one becomes 0.6964 in any matrix.
        let near = |value: &f64| (0.68..=1.2).contains(&(value / factor));
        assert!(values.iter().all(near), "{rows} x {columns}: {values:?}");
    }
}

#[test]
fn dispatches_do_not_grow_with_the_number_of_matrices() {
    let dispatches = |count: usize, shape: &[usize]| {
        let mut builder = Optimizer::builder(Muon::default());
        (0..count).for_each(|i| _ = builder.tensor(Group::DEFAULT, format!("t{i}"), shape));
        builder.build(&gpu().device, &gpu().queue).unwrap().dispatches()
    };
    // The pass, in, three products an iteration, the norms, out, the update.
    let one = 1 + 1 + 5 * 3 + 1 + 1 + 1;
    assert_eq!(dispatches(1, &[8, 6]), one);
    assert_eq!(dispatches(1000, &[8, 6]), one);
    assert_eq!(dispatches(1, &[1000, 8, 6]), one);
}

fn memory_of(builder: &Builder) -> u64 {
    let most = 1 << 31;
    let limits =
        wgpu::Limits { max_buffer_size: most, max_storage_buffer_binding_size: most, ..wgpu::Limits::default() };
    builder.memory_usage(&limits).unwrap().of(Role::Procedure("matrix products"))
}

/// Twelve matrices of 768 x 3072 share the scratch of two: an eighth of all elements has room for one.
#[test]
fn matrices_share_their_scratch() {
    let mut builder = Optimizer::builder(Muon::default());
    builder.tensor(Group::DEFAULT, "w", &[768, 3072]);
    let one = memory_of(&builder);
    assert_eq!(one, 4 * (2 * 768 * 3072 + 2 * 768 * 768) + 16, "two pages, A, B and a norm");
    (1..12).for_each(|i| _ = builder.tensor(Group::DEFAULT, format!("{i}"), &[768, 3072]));
    let twelve = memory_of(&builder);
    assert!(twelve <= 2 * one, "{twelve} for twelve, {one} for one");
    assert!(
        memory_of(&Optimizer::builder(AdamW::default()).tensors(Group::DEFAULT, [("w", [768, 3072])]).clone()) == 0
    );
}

#[test]
fn a_vector_is_refused_with_the_way_out() {
    let mut builder = Optimizer::builder(Muon::default());
    let bias = builder.tensor(Group::DEFAULT, "bias", &[8]);
    let refused = builder.build(&gpu().device, &gpu().queue).unwrap_err().to_string();
    for part in ["`bias`", "[8]", "two dimensions", "group with another rule, such as adamw"] {
        assert!(refused.contains(part), "{refused}");
    }
    assert_eq!(builder.build_cpu::<f32>().unwrap_err().to_string(), refused);
    builder.freeze(bias);
    builder.tensor(Group::DEFAULT, "w", &[8, 2]);
    assert!(builder.build(&gpu().device, &gpu().queue).is_ok(), "a frozen vector is not stepped");
}

/// Zeros stay zeros: the norm is not divided by.
#[test]
fn a_matrix_of_zeros_is_not_moved() {
    let mut builder = Optimizer::builder(Muon { weight_decay: 0.0, ..Muon::default() });
    let w = builder.tensor(Group::DEFAULT, "w", &[5, 4]);
    let mut optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
    let values = random(1, 20);
    optimizer.write_param(w, &values).unwrap();
    gpu().run(|encoder| optimizer.step(encoder)).unwrap();
    assert_eq!(block_on(optimizer.read_param(w)).unwrap(), values);
}
