//! Adafactor's matrices: the factors on the GPU against the oracle, over several steps.

use pollster::block_on;
use wgpu_optim::checkpoint::Checkpoint;
use wgpu_optim::cpu;
use wgpu_optim::memory::Role;
use wgpu_optim::tools::adapter::Gpu;
use wgpu_optim::{Accumulate, Adafactor, AdamW, Builder, Clip, Ema, Group, LossScale, Optimizer, Tensor, wgpu};

use crate::common::{gpu, open};
use crate::support::snapshot::snapshot;

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
        for (i, shape) in shapes.iter().enumerate() {
            let values = numbers(1000 + i as u32, shape, 0.3);
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

    fn check(&self, what: &str, tolerance: f64) {
        self.check_stored(what, tolerance, tolerance);
    }

    /// Compares states and parameters.
    fn check_stored(&self, what: &str, tolerance: f64, of_params: f64) {
        let mut compared = 0;
        for (i, tensor) in self.tensors.iter().enumerate() {
            let names = self.optimizer.state_names(*tensor).unwrap();
            let matrix = self.shapes[i].len() > 1 && !self.params[i].is_empty();
            let kept: Vec<_> = names.iter().copied().filter(|name| ["r", "c", "v"].contains(name)).collect();
            assert_eq!(kept, if matrix { &["r", "c"][..] } else { &["v"] }, "{what}: tensor {i}");
            for name in kept {
                let got = wide(&block_on(self.optimizer.read_state(*tensor, name)).unwrap());
                let want = self.oracle.state(*tensor, name).unwrap();
                close(&format!("{what}: {name} of {:?}", self.shapes[i]), &got, want, tolerance);
                compared += got.len();
            }
            close(&format!("{what}: {:?}", self.shapes[i]), &self.read_param(i), &self.params[i], of_params);
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

/// Turns an option on.
type TurnOn = fn(&mut Builder);

/// Every option changes the gradient, or the steps that count, in a way of its own.
#[test]
fn matrices_follow_the_oracle_with_every_option() {
    let options: [(&str, f32, TurnOn); 12] = [
        ("clip by global norm", 1.0, |b| _ = b.clip(Clip::GlobalNorm(1.0))),
        ("clip by group norm", 1.0, |b| _ = b.clip(Clip::GroupNorm(0.5))),
        ("clip by tensor norm", 1.0, |b| _ = b.clip(Clip::TensorNorm(0.5))),
        ("clip by value", 1.0, |b| _ = b.clip(Clip::Value(0.3))),
        ("loss scale", 256.0, |b| _ = b.loss_scale(LossScale { initial: 256.0, interval: 2, ..LossScale::default() })),
        ("loss scale and clip", 256.0, |b| {
            b.loss_scale(LossScale { initial: 256.0, interval: 2, ..LossScale::default() }).clip(Clip::GlobalNorm(1.0));
        }),
        ("telemetry", 1.0, |b| _ = b.telemetry(true)),
        ("average", 1.0, |b| _ = b.ema(Ema { decay: 0.9, warmup: false })),
        ("zero_grad", 1.0, |b| _ = b.zero_grad(true)),
        ("dynamic gradients", 1.0, |b| _ = b.dynamic_gradients(true)),
        ("dynamic gradients and clip", 1.0, |b| _ = b.dynamic_gradients(true).clip(Clip::GlobalNorm(1.0))),
        ("maximize", 1.0, |b| _ = b.maximize(Group::DEFAULT)),
    ];
    for (what, scale, option) in options {
        let mut pair = Pair::new(gpu(), SHAPES, option);
        for t in 1..=3 {
            // The scale grows after two steps.
            let grown = if what.starts_with("loss") && t > 2 { 2.0 } else { 1.0 };
            pair.step(t, scale * grown * 0.1);
        }
        pair.check(what, CLOSE);
    }
}

#[test]
fn matrices_follow_the_oracle_with_micro_batches() {
    for how in [Accumulate::Mean(3), Accumulate::Sum] {
        let mut pair = Pair::new(gpu(), SHAPES, |b| _ = b.accumulate(how).clip(Clip::TensorNorm(2.0)));
        for t in 0..2 {
            for k in 0..2 {
                let grads = pair.write_grads(10 * t + k, 0.1);
                let optimizer = &mut pair.optimizer;
                pair.gpu.run(|encoder| optimizer.accumulate(encoder)).unwrap();
                let grads: Vec<&[f64]> = grads.iter().map(Vec::as_slice).collect();
                pair.oracle.accumulate(&grads).unwrap();
            }
            pair.step(10 * t + 2, 0.1);
        }
        pair.check(&format!("{how:?}"), CLOSE);
    }
}

/// Half precision rounds parameters and the states of vectors; matrices keep their factors in f32.
#[test]
fn matrices_follow_the_oracle_in_every_storage() {
    // The oracle's parameters are those that the model sees.
    let (half, eighth) = (0.005, 0.05);
    let storages = [
        ("grads=bf16", CLOSE, CLOSE),
        ("bf16-split", CLOSE, half),
        ("f16-master,grads=f32", CLOSE, half),
        ("bf16-master,states=bf16", half, half),
        ("bf16-split,8bit,min=0", eighth, half),
        ("bf16-sr,8bit,min=0", eighth, half),
        ("f16-nearest", CLOSE, half),
        ("v=8bit,min=0,grads=f16", eighth, half),
    ];
    for (storage, states, params) in storages {
        let mut pair = Pair::new(gpu(), SHAPES, |b| _ = b.storage(storage.parse().unwrap()));
        for t in 1..=3 {
            pair.step(t, 0.1);
        }
        pair.check_stored(storage, states, params);
    }
}

/// A binding shows 1.25 MiB and a grid has 64 workgroups a side: matrices lie in many windows, which cut their rows.
#[test]
fn matrices_that_are_larger_than_a_window() {
    const WINDOW: u64 = 5 << 18;
    let gpu = open(|limits| {
        limits.max_storage_buffer_binding_size = WINDOW;
        limits.max_compute_workgroups_per_dimension = 64;
        limits.min_storage_buffer_offset_alignment = 256;
    });
    let split: &[&[usize]] = &[&[5], &[701, 703], &[3, 259, 511], &[600_001], &[2, 700, 301], &[37, 53]];
    // Gradients that a step names are not split.
    let whole: &[&[usize]] = &[&[5], &[401, 703], &[3, 259, 311], &[300_001], &[2, 400, 301], &[37, 53]];
    for (dynamic, shapes) in [(false, split), (true, whole)] {
        let mut pair = Pair::new(&gpu, shapes, |b| _ = b.dynamic_gradients(dynamic).clip(Clip::GlobalNorm(3.0)));
        assert!(pair.optimizer.dispatches() > 15, "they fit one window");
        for t in 1..=2 {
            pair.step(t, 0.1);
        }
        pair.check(&format!("windows, {dynamic}"), 2.0 * CLOSE);
    }
}

#[test]
fn a_step_that_leaves_out_matrices_leaves_their_factors() {
    let options: [TurnOn; 3] =
        [|_| (), |b| _ = b.clip(Clip::GlobalNorm(1.0)), |b| _ = b.dynamic_gradients(true).skip_nonfinite(true)];
    for option in options {
        let mut pair = Pair::new(gpu(), SHAPES, |b| option(b.partial_steps(true)));
        for t in 1..=5_u32 {
            let grads = pair.write_grads(t, 0.1);
            let takes = |i: &usize| !(t as usize + i).is_multiple_of(3);
            let named: Vec<Tensor> = (0..SHAPES.len()).filter(takes).map(|i| pair.tensors[i]).collect();
            let optimizer = &mut pair.optimizer;
            pair.gpu.run(|encoder| optimizer.step_tensors(encoder, named)).unwrap();
            let some: Vec<Option<&[f64]>> =
                grads.iter().enumerate().map(|(i, g)| takes(&i).then_some(g.as_slice())).collect();
            let mut params: Vec<&mut [f64]> = pair.params.iter_mut().map(Vec::as_mut_slice).collect();
            pair.oracle.step_tensors(&mut params, &some).unwrap();
        }
        pair.check("partial", 2.0 * CLOSE);
    }
}

#[test]
fn a_skipped_step_leaves_the_factors() {
    let options: [TurnOn; 3] = [
        |b| _ = b.skip_nonfinite(true),
        |b| _ = b.loss_scale(LossScale { initial: 1.0, ..LossScale::default() }),
        |b| _ = b.skip_nonfinite(true).clip(Clip::GlobalNorm(1.0)),
    ];
    for option in options {
        let mut pair = Pair::new(gpu(), SHAPES, option);
        pair.step(1, 0.1);
        let before = snapshot(&pair.optimizer).to_bytes().unwrap();
        for bad in [f32::NAN, f32::INFINITY] {
            let mut grads = pair.write_grads(2, 0.1);
            let mut values: Vec<f32> = grads[3].iter().map(|x| *x as f32).collect();
            values[700] = bad;
            pair.optimizer.write_grad(pair.tensors[3], &values).unwrap();
            grads[3][700] = bad.into();
            let optimizer = &mut pair.optimizer;
            pair.gpu.run(|encoder| optimizer.step(encoder)).unwrap();
            pair.step_oracle(&grads);
        }
        assert_eq!((block_on(pair.optimizer.read_skipped()).unwrap(), pair.oracle.skipped()), (2, 2));
        let arrays = |bytes: &[u8]| bytes[8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize..].to_vec();
        let after = snapshot(&pair.optimizer).to_bytes().unwrap();
        assert!(arrays(&before) == arrays(&after), "a skipped step changed an array");
    }
}

/// Sums whose update never runs are no step: the factors are those before them.
#[test]
fn a_half_step_leaves_the_factors() {
    for clips in [false, true] {
        let mut pair = Pair::new(gpu(), SHAPES, |b| {
            if clips {
                b.clip(Clip::GlobalNorm(1.0));
            }
        });
        pair.step(1, 0.1);
        let grads = pair.write_grads(2, 0.1);
        let rounds = pair.optimizer.sum_rounds();
        assert_eq!(rounds, if clips { 2 } else { 1 });
        for whole in [false, true] {
            let optimizer = &mut pair.optimizer;
            pair.gpu.run(|encoder| optimizer.record_sums(encoder)).unwrap();
            if clips {
                pair.gpu.run(|encoder| optimizer.record_next_sums(encoder)).unwrap();
            }
            if whole {
                pair.gpu.run(|encoder| optimizer.record_update(encoder)).unwrap();
            }
        }
        pair.step_oracle(&grads);
        pair.check("halves", CLOSE);
    }
}

#[test]
fn a_checkpoint_of_matrices_goes_from_the_gpu_to_the_host_and_back() {
    let options = |b: &mut Builder| _ = b.storage("bf16-split".parse().unwrap());
    let mut pair = Pair::new(gpu(), SHAPES, options);
    for t in 1..=2 {
        pair.step(t, 0.1);
    }
    let bytes = snapshot(&pair.optimizer).to_bytes().unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let shape = |key: &str| file.tensor(key).unwrap().shape().to_vec();
    assert_eq!((shape("r/tensor 3"), shape("c/tensor 3")), (vec![37], vec![53]));
    assert_eq!((shape("r/tensor 4"), shape("c/tensor 4")), (vec![3, 5], vec![3, 7]));
    assert_eq!((shape("r/tensor 1"), shape("c/tensor 1"), shape("v/tensor 5")), (vec![24], vec![1], vec![33]));
    assert!(file.tensor("v/tensor 3").is_err());
    let checkpoint = Checkpoint::from_bytes("saved", bytes.clone()).unwrap();

    // To the host: a step there is the oracle's next step.
    let mut host = Pair::new(gpu(), SHAPES, options);
    let mut params: Vec<&mut [f64]> = host.params.iter_mut().map(Vec::as_mut_slice).collect();
    checkpoint.restore_host(&mut host.oracle, &mut params).unwrap();
    let named = |params: &[Vec<f64>]| -> Checkpoint {
        let shaped: Vec<(&[usize], &[f64])> = SHAPES.iter().copied().zip(params.iter().map(Vec::as_slice)).collect();
        Checkpoint::of_host(&host.oracle, &shaped).unwrap()
    };
    let again = named(&host.params).to_bytes().unwrap();
    let data = |bytes: &[u8]| bytes[8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize..].to_vec();
    assert!(data(&bytes) == data(&again), "the host saves other numbers");

    // And back to the GPU, which goes on with the same bits.
    Checkpoint::from_bytes("again", again).unwrap().restore(&mut host.optimizer).unwrap();
    let next = |pair: &mut Pair| {
        pair.step(3, 0.1);
        data(&snapshot(&pair.optimizer).to_bytes().unwrap())
    };
    assert!(next(&mut host) == next(&mut pair), "the restored optimizer steps otherwise");
    host.check_stored("restored", CLOSE, 0.005);

    // A vector's state is no matrix's.
    let mut builder = Optimizer::builder(rule());
    let flat = builder.tensor(Group::DEFAULT, "tensor 3", &[37 * 53]);
    let mut other = builder.build(&gpu().device, &gpu().queue).unwrap();
    let error = checkpoint.restore(&mut other).unwrap_err().to_string();
    assert!(error.contains("tensor 3"), "{error}");
    let error = block_on(other.read_state(flat, "r")).unwrap_err().to_string();
    assert!(error.contains("state of tensor `tensor 3`"), "{error}");
}

/// The states of matrices, by hand and by name.
#[test]
fn factors_are_states_that_are_read_and_written() {
    let mut builder = Optimizer::builder(rule());
    let w = builder.tensor(Group::DEFAULT, "w", &[3, 5]);
    let mut optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
    optimizer.write_param(w, &[1.0; 15]).unwrap();
    let grads: Vec<f32> = (0..15_u8).map(f32::from).collect();
    optimizer.write_grad(w, &grads).unwrap();
    gpu().run(|encoder| optimizer.step(encoder)).unwrap();
    let state = |name| block_on(optimizer.read_state(w, name)).unwrap();
    assert_eq!(state("r"), [6.0, 51.0, 146.0], "means of squares: 0 to 4, 5 to 9, 10 to 14");
    assert_eq!(state("c"), [125.0 / 3.0, 158.0 / 3.0, 197.0 / 3.0, 242.0 / 3.0, 293.0 / 3.0]);
    optimizer.write_state(w, "r", &[1.0, 2.0, 3.0]).unwrap();
    assert_eq!(block_on(optimizer.read_state(w, "r")).unwrap(), [1.0, 2.0, 3.0]);
    let error = optimizer.write_state(w, "c", &[1.0; 3]).unwrap_err().to_string();
    assert!(error.contains("3 values were given, its state c has 5"), "{error}");
    let error = optimizer.write_state(w, "v", &[1.0; 15]).unwrap_err().to_string();
    assert!(error.contains("`v`") && error.contains('r'), "{error}");
}

/// A matrix and its transpose with the transposed gradient make the same step.
#[test]
fn rows_and_columns_are_alike_where_the_product_is() {
    let (rows, columns) = (45, 70);
    let transposed =
        |values: &[f32]| -> Vec<f32> { (0..values.len()).map(|i| values[i % rows * columns + i / rows]).collect() };
    let step = |shape: &[usize], grads: &[f32]| {
        let mut builder = Optimizer::builder(rule());
        let w = builder.tensor(Group::DEFAULT, "w", shape);
        let mut optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
        optimizer.write_param(w, &vec![1.0; grads.len()]).unwrap();
        optimizer.write_grad(w, grads).unwrap();
        gpu().run(|encoder| optimizer.step(encoder)).unwrap();
        block_on(optimizer.read_param(w)).unwrap()
    };
    let grads = numbers(5, &[rows, columns], 1.0);
    let (a, b) = (step(&[rows, columns], &grads), step(&[columns, rows], &transposed(&grads)));
    close("transposed", &wide(&transposed(&a)), &wide(&b), CLOSE);
}

#[test]
fn the_states_of_a_large_matrix_take_two_thousandths_of_its_bytes() {
    let mut builder = Optimizer::builder(Adafactor::default());
    builder.tensor(Group::DEFAULT, "w", &[4096, 4096]);
    let memory = builder.memory_usage(&wgpu::Limits::default()).unwrap();
    let parameters = memory.of(Role::Parameters);
    assert_eq!((memory.of(Role::State("r")), memory.of(Role::State("c"))), (4 * 4096, 4 * 4096));
    assert_eq!(memory.states(), 8 * 4096);
    assert!(memory.states() * 1000 <= 2 * parameters);
    // With all buffers that a step needs beside parameters and gradients.
    let rest = memory.owned() - 2 * parameters;
    assert!(rest * 100 < 4 * parameters, "{memory}");
    println!("{memory}");
}

#[test]
fn parts_of_matrices_are_refused() {
    let refused = |change: &dyn Fn(&mut Builder, Tensor)| {
        let mut builder = Optimizer::builder(rule());
        let w = builder.tensor(Group::DEFAULT, "w", &[64, 64]);
        change(&mut builder, w);
        builder.build(&gpu().device, &gpu().queue).unwrap_err().to_string()
    };
    let error = refused(&|b, w| _ = b.own_range(w, 0..1024));
    assert!(error.contains("adafactor takes means over whole matrices"), "{error}");
    let rows = "adafactor takes means over the rows and columns of whole matrices";
    let error = refused(&|b, w| _ = b.column_rates(w, &[1.0; 64]));
    assert!(error.contains(rows), "{error}");
    let error = refused(&|b, w| {
        let set = b.row_set("rows", &[w]);
        b.mask(set);
    });
    assert!(error.contains(rows), "{error}");
}

/// Beside another rule, with one clip for both.
#[test]
fn matrices_beside_another_rule() {
    let build = |builder: &mut Builder| {
        let other = builder.group("adamw", AdamW { lr: 0.01, ..AdamW::default() });
        let w = builder.tensor(Group::DEFAULT, "w", &[40, 30]);
        let b = builder.tensor(other, "b", &[30]);
        builder.clip(Clip::GlobalNorm(1.0)).skip_nonfinite(true);
        [w, b]
    };
    let mut builder = Optimizer::builder(rule());
    let tensors = build(&mut builder);
    let mut optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
    let mut oracle = builder.build_cpu::<f64>().unwrap();
    let shapes: [&[usize]; 2] = [&[40, 30], &[30]];
    let mut params: Vec<Vec<f64>> = shapes.iter().map(|shape| wide(&numbers(1, shape, 1.0))).collect();
    for (tensor, shape) in tensors.iter().zip(shapes) {
        optimizer.write_param(*tensor, &numbers(1, shape, 1.0)).unwrap();
    }
    for t in 1..=3 {
        let grads = shapes.map(|shape| numbers(50 + t, shape, 1.0));
        tensors.iter().zip(&grads).for_each(|(tensor, g)| optimizer.write_grad(*tensor, g).unwrap());
        gpu().run(|encoder| optimizer.step(encoder)).unwrap();
        let grads = grads.map(|g| wide(&g));
        let mut params: Vec<&mut [f64]> = params.iter_mut().map(Vec::as_mut_slice).collect();
        oracle.step(&mut params, &[&grads[0], &grads[1]]).unwrap();
    }
    for (i, tensor) in tensors.into_iter().enumerate() {
        let got = wide(&block_on(optimizer.read_param(tensor)).unwrap());
        close(&format!("tensor {i}"), &got, &params[i], CLOSE);
    }
    assert_eq!(optimizer.state_names(tensors[0]).unwrap(), ["r", "c"]);
}
