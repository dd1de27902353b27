//! Adafactor's matrices: the factors on the GPU against the oracle, over several steps.

use pollster::block_on;
use wgpu_optim::cpu;
use wgpu_optim::tools::adapter::Gpu;
use wgpu_optim::{Accumulate, Adafactor, Builder, Clip, Ema, Group, LossScale, Optimizer, Storage, Tensor, wgpu};

use crate::common::{gpu, open};

/// Matrices of one row or one column, at the edges of vec4s and tiles, of several tiles, in batches; tensors without rows and columns.
const SHAPES: &[&[usize]] = &[
    &[1, 24],
    &[24, 1],
    &[64, 64],
    &[37, 53],
    &[3, 5, 7],
    &[33],
    &[],
    &[2, 3, 2, 1],
    &[257, 259],
    &[1, 1],
    &[70, 3, 2],
    &[0, 4],
    &[513, 30],
    &[5, 601],
    &[2, 300, 10],
];

fn hash(seed: u32, i: u32) -> u32 {
    let mut x = seed.wrapping_mul(0x9e37_79b9) ^ i.wrapping_mul(0x85eb_ca6b);
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// Numbers whose magnitudes differ by rows and columns, as those of gradients do.
fn numbers(seed: u32, shape: &[usize], scale: f32) -> Vec<f32> {
    let n: usize = shape.iter().product();
    let width = shape.last().copied().unwrap_or(1).max(1);
    let unit = |i: u32| (hash(seed, i) % 20_001) as f32 / 10_000.0 - 1.0;
    let spread = |i: usize| 0.05 + (i % 7) as f32;
    (0..n).map(|i| scale * unit(i as u32) * spread(i / width) * spread(3 * (i % width))).collect()
}

fn rule() -> Adafactor {
    Adafactor { lr: 0.05, weight_decay: 0.1, ..Adafactor::default() }
}

/// The same optimizer on the GPU and in f64.
struct Pair {
    gpu: Gpu,
    tensors: Vec<Tensor>,
    shapes: Vec<Vec<usize>>,
    optimizer: Optimizer,
    oracle: cpu::Optimizer<f64>,
    params: Vec<Vec<f64>>,
}

impl Pair {
    fn new(gpu: &Gpu, shapes: &[&[usize]], options: impl Fn(&mut Builder)) -> Self {
        let mut builder = Optimizer::builder(rule());
        let other = builder.group("other", Adafactor { lr: 0.2, d: 1.5, beta2_decay: -0.6, ..rule() });
        let group = |i: usize| if i % 3 == 1 { other } else { Group::DEFAULT };
        let named = shapes.iter().enumerate();
        let tensors = named.map(|(i, shape)| builder.tensor(group(i), format!("tensor {i}"), shape)).collect();
        options(&mut builder);
        let optimizer = builder.build(&gpu.device, &gpu.queue).unwrap();
        let oracle = builder.build_cpu().unwrap();
        let mut pair = Self {
            gpu: gpu.clone(),
            tensors,
            shapes: shapes.iter().map(|shape| shape.to_vec()).collect(),
            optimizer,
            oracle,
            params: Vec::new(),
        };
        for i in 0..shapes.len() {
            let values = numbers(1000 + i as u32, shapes[i], 0.3);
            pair.optimizer.write_param(pair.tensors[i], &values).unwrap();
            pair.params.push(pair.read_param(i));
        }
        pair
    }

    fn read_param(&self, i: usize) -> Vec<f64> {
        wide(&block_on(self.optimizer.read_param(self.tensors[i])).unwrap())
    }

    /// The gradients of step `t`, as the storage holds them.
    fn write_grads(&self, t: u32, scale: f32) -> Vec<Vec<f64>> {
        let one = |(i, tensor): (usize, &Tensor)| {
            self.optimizer.write_grad(*tensor, &numbers(37 * t + i as u32, &self.shapes[i], scale)).unwrap();
            wide(&block_on(self.optimizer.read_grad(*tensor)).unwrap())
        };
        self.tensors.iter().enumerate().map(one).collect()
    }

    fn step(&mut self, t: u32, scale: f32) {
        let grads = self.write_grads(t, scale);
        let optimizer = &mut self.optimizer;
        self.gpu.run(|encoder| optimizer.step(encoder)).unwrap();
        self.step_oracle(&grads);
    }

    fn step_oracle(&mut self, grads: &[Vec<f64>]) {
        let mut params: Vec<&mut [f64]> = self.params.iter_mut().map(Vec::as_mut_slice).collect();
        let grads: Vec<&[f64]> = grads.iter().map(Vec::as_slice).collect();
        self.oracle.step(&mut params, &grads).unwrap();
    }

    /// Compares parameters and states.
    fn check(&self, what: &str, tolerance: f64) {
        let mut compared = 0;
        for (i, tensor) in self.tensors.iter().enumerate() {
            let names = self.optimizer.state_names(*tensor).unwrap();
            assert_eq!(names, self.oracle.state_names(*tensor).unwrap(), "{what}: tensor {i}");
            let matrix = self.shapes[i].len() > 1 && self.params[i].len() > 0;
            let kept: Vec<_> = names.iter().copied().filter(|name| ["r", "c", "v"].contains(name)).collect();
            assert_eq!(kept, if matrix { &["r", "c"][..] } else { &["v"] }, "{what}: tensor {i}");
            for name in names {
                let got = wide(&block_on(self.optimizer.read_state(*tensor, name)).unwrap());
                let want = self.oracle.state(*tensor, name).unwrap();
                close(&format!("{what}: {name} of {:?}", self.shapes[i]), &got, want, tolerance);
                compared += got.len();
            }
            close(&format!("{what}: {:?}", self.shapes[i]), &self.read_param(i), &self.params[i], tolerance);
        }
        assert!(compared > 100, "{what}: {compared} states");
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|x| f64::from(*x)).collect()
}

/// Whether all numbers agree to a share of the largest.
fn close(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let largest = want.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
    for (i, (a, b)) in got.iter().zip(want).enumerate() {
        assert!(
            (a - b).abs() <= tolerance * largest,
            "{what}: element {i} is {a}, needs {b}; the largest is {largest}"
        );
    }
}

const CLOSE: f64 = 3e-6;

#[test]
fn matrices_of_every_shape_follow_the_oracle() {
    let mut pair = Pair::new(gpu(), SHAPES, |_| ());
    assert_eq!(
        pair.optimizer.dispatches(),
        9,
        "two classes: tiles, three for the factors, two of sums, one of decisions, two updates"
    );
    for t in 1..=4 {
        pair.step(t, 0.1);
        pair.check(&format!("step {t}"), CLOSE);
    }
}
