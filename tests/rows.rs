//! Row sets: excluded rows, column rates, remapped rows and reset rows. They run on the GPU and on the fast path against
//! the oracle with the same row sets, states included. Excluded rows and remapped rows are compared byte by byte.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support {
    pub(crate) mod bits;
    pub(crate) mod close;
    pub(crate) mod device;
    pub(crate) mod gpu;
    pub(crate) mod micro_batches;
    pub(crate) mod numbers;
    pub(crate) mod rates;
    pub(crate) mod step;
    pub(crate) mod wide;
}

use pollster::block_on;
use wgpu_optim::cpu::{self, Number};
use wgpu_optim::optim::procedure;
use wgpu_optim::optim::procedure::spec::Feature;
use wgpu_optim::optim::{ALL, Entry, Rule};
use wgpu_optim::{
    Accumulate, Adagrad, Adai, AdamW, Builder, Clip, Ema, Error, Group, LossScale, Optimizer, RowSet, Tensor, wgpu,
};

use support::bits::bits;
use support::close::close;
use support::gpu::GPU;
use support::micro_batches;
use support::numbers::{hash, numbers};
use support::rates::two_rates;
use support::wide::wide;

/// Two tensors of a masked set whose rows cross vec4s and chunks, one of a second set, and one of none.
const SHAPES: [&[usize]; 4] = [&[450, 3], &[450, 2, 1], &[17, 5], &[33]];
const GROUPS: [usize; 4] = [0, 1, 1, 0];
const STEPS: u32 = 4;

/// The rules that only update each element.
fn plain() -> impl Iterator<Item = &'static Entry> {
    ALL.iter().filter(|entry| procedure::refusal(&entry.sample().procedure(), entry.name, Feature::Rows).is_none())
}

fn length(t: usize) -> usize {
    SHAPES[t].iter().product()
}

/// Flags a third of the rows. The excluded rows include a stretch of several chunks.
fn flags(step: u32, rows: usize) -> Vec<u32> {
    let flag = |i: u32| if (150..280).contains(&i) { 0 } else { u32::from(hash(step + 77, i).is_multiple_of(3)) * 5 };
    (0..rows as u32).map(flag).collect()
}

/// Gradients with zeros of both signs.
fn gradients(step: u32) -> Vec<Vec<f32>> {
    let some = |seed: u32, (i, g): (usize, f32)| match hash(seed, i as u32 + 9000) % 3 {
        0 => 0.0,
        1 if g < 0.0 => -0.0,
        _ => g,
    };
    let of =
        |t: usize| numbers(step * 10 + t as u32, length(t)).into_iter().enumerate().map(move |x| some(t as u32, x));
    (0..SHAPES.len()).map(|t| of(t).collect()).collect()
}

#[derive(Clone, Copy, Debug, Default)]
struct Case {
    mask: bool,
    nonzero: bool,
    columns: bool,
    around: bool,
    /// One second moment per row.
    shared: bool,
}

const SHARED: [usize; 3] = [0, 1, 2];
const EMA: Ema = Ema { decay: 0.9, warmup: true };
const SCALE: LossScale = LossScale { initial: 64.0, growth: 2.0, backoff: 0.5, interval: 2 };
const CLIP: Clip = Clip::GlobalNorm(3.0);
const RATES: [f64; 3] = [1.0, 0.0, 0.25];
const LATER_RATES: [f64; 3] = [0.5, 2.0, 1.5];

/// One description of the optimizers on the GPU and on the host.
struct Described {
    builder: Builder,
    tensors: Vec<Tensor>,
    set: RowSet,
}

impl Described {
    fn new(rule: &dyn Rule, case: Case) -> Self {
        let [first, second] = two_rates(rule);
        let mut builder = Optimizer::builder(first);
        builder.undamped_steps(true);
        let second = builder.group("second", second);
        let groups = [Group::DEFAULT, second];
        let add = |t: usize| builder.tensor(groups[GROUPS[t]], format!("t{t}"), SHAPES[t]);
        let tensors: Vec<Tensor> = (0..SHAPES.len()).map(add).collect();
        let set = builder.row_set("set", &tensors[..2]);
        let grid = builder.row_set("grid", &tensors[2..3]);
        builder.row_capacity(set, 512);
        if case.mask {
            builder.mask(set);
        }
        if case.nonzero {
            builder.skip_zero_gradients(grid).skip_zero_gradients(set);
        }
        if case.columns {
            builder.column_rates(tensors[0], &RATES).column_rates(tensors[3], &[0.5]);
        }
        if case.shared {
            SHARED.iter().for_each(|t| _ = builder.share_second_moment(tensors[*t]));
        }
        if case.around {
            builder.clip(CLIP).loss_scale(SCALE).ema(EMA).accumulate(Accumulate::Mean(2)).zero_grad(true);
        }
        Self { builder, tensors, set }
    }

    fn gpu(&self) -> Optimizer {
        let optimizer = self.builder.build(&GPU.device, &GPU.queue).unwrap();
        for (tensor, values) in self.tensors.iter().zip(start()) {
            optimizer.write_param(*tensor, &values).unwrap();
        }
        optimizer
    }

    fn host<F: Number>(&self) -> cpu::Optimizer<F> {
        self.builder.build_cpu().unwrap()
    }

    fn host_step<F: Number>(&self, host: &mut cpu::Optimizer<F>, params: &mut [Vec<F>], step: u32, case: Case) {
        if case.mask {
            host.write_mask(self.set, &flags(step, 450)).unwrap();
        }
        if case.columns && step == 3 {
            host.set_column_rates(self.tensors[0], &LATER_RATES).unwrap();
        }
        micro_batches::on_host(host, params, &batches(step, case));
    }

    fn gpu_step(&self, optimizer: &mut Optimizer, step: u32, case: Case) {
        gpu_step(optimizer, &self.tensors, self.set, step, case);
    }
}

fn start() -> Vec<Vec<f32>> {
    (0..SHAPES.len()).map(|t| numbers(t as u32 + 1000, length(t))).collect()
}

fn on_gpu(rule: &dyn Rule, case: Case) -> (Optimizer, Vec<Tensor>, RowSet) {
    let described = Described::new(rule, case);
    (described.gpu(), described.tensors, described.set)
}

/// A step's micro-batches. Gradients of excluded elements may be anything, because no result depends on them.
fn batches(step: u32, case: Case) -> Vec<Vec<Vec<f32>>> {
    let count = if case.around { 2 } else { 1 };
    let scale = if case.around { 64.0 } else { 1.0 };
    let mut batches: Vec<Vec<Vec<f32>>> = (0..count)
        .map(|batch| gradients(step + 50 * batch).iter().map(|g| g.iter().map(|g| g * scale).collect()).collect())
        .collect();
    if case.mask {
        let flags = flags(step, 450);
        let out = flags.iter().position(|f| *f == 0).unwrap();
        batches[0][0][out * 3 + 1] = f32::NAN;
        batches[0][1][out * 2] = 1e30;
    }
    batches
}

fn gpu_step(optimizer: &mut Optimizer, tensors: &[Tensor], set: RowSet, step: u32, case: Case) {
    if case.mask {
        optimizer.write_mask(set, &flags(step, 450)).unwrap();
    }
    if case.columns && step == 3 {
        optimizer.set_column_rates(tensors[0], &LATER_RATES).unwrap();
    }
    micro_batches::on_gpu(optimizer, tensors, &batches(step, case));
}

fn states_close(case: &str, got: &[f32], want: &[f64]) {
    let largest = want.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
    let scale: Vec<f64> = want.iter().map(|x| x.abs() + 1e-3 * largest).collect();
    close(case, STEPS, got, want, &scale);
}

fn run(name: &str, rule: &dyn Rule, case: Case) {
    let described = Described::new(rule, case);
    let (mut gpu, mut fast, mut oracle) = (described.gpu(), described.host::<f32>(), described.host::<f64>());
    let mut p64 = wide(&start());
    let (mut p32, mut path) = (start(), p64.iter().map(|p| vec![0.0; p.len()]).collect::<Vec<_>>());
    for step in 1..=STEPS {
        let before = p64.clone();
        described.host_step(&mut oracle, &mut p64, step, case);
        described.host_step(&mut fast, &mut p32, step, case);
        described.gpu_step(&mut gpu, step, case);
        let moved = before.iter().flatten().zip(p64.iter().flatten()).map(|(a, b)| (b - a).abs());
        path.iter_mut().flatten().zip(moved).for_each(|(path, moved)| *path += moved);
    }
    let tensors = &described.tensors;
    // Adan's v is a mean of differences, and its second moment is n.
    let second = if name == "adan" { "n" } else { "v" };
    let v = oracle.state(tensors[0], second).map(<[f64]>::to_vec).unwrap_or_default();
    assert!(!case.shared || v.chunks(3).all(|row| row[0] == row[1] && row[1] == row[2]), "{name}: v differs in a row");
    for (t, tensor) in tensors.iter().enumerate() {
        let name = format!("{name} {case:?} t{t}");
        close(&format!("{name} gpu"), STEPS, &block_on(gpu.read_param(*tensor)).unwrap(), &p64[t], &path[t]);
        close(&format!("{name} fast"), STEPS, &p32[t], &p64[t], &path[t]);
        for state in gpu.state_names(*tensor).unwrap() {
            let got = block_on(gpu.read_state(*tensor, state)).unwrap();
            match state {
                "gradient_accumulator" => assert!(got.iter().all(|x| *x == 0.0), "{name}: it is used up"),
                "ema" => {
                    let want = oracle.ema(*tensor).unwrap();
                    close(&format!("{name} gpu ema"), STEPS, &got, want, &path[t]);
                    close(&format!("{name} fast ema"), STEPS, fast.ema(*tensor).unwrap(), want, &path[t]);
                }
                state => {
                    let want = oracle.state(*tensor, state).unwrap();
                    states_close(&format!("{name} gpu {state}"), &got, want);
                    states_close(&format!("{name} fast {state}"), fast.state(*tensor, state).unwrap(), want);
                }
            }
        }
    }
    assert_eq!(block_on(gpu.read_step_count()).unwrap(), oracle.step_count(), "{name}: step count");
    assert_eq!(block_on(gpu.read_skipped()).unwrap(), 0, "{name}: excluded elements cause no skipped step");
    let still = path[0].iter().filter(|x| **x == 0.0).count();
    assert!(still < path[0].len(), "{name}: nothing moved");
    assert!(still > 0 || !(case.mask || case.nonzero), "{name}: every element moved");
}

#[test]
fn every_rule_with_excluded_rows_is_the_oracle() {
    let none = Case::default();
    for entry in plain() {
        for case in [
            none,
            Case { mask: true, ..none },
            Case { nonzero: true, ..none },
            Case { columns: true, ..none },
            Case { mask: true, columns: true, around: true, ..none },
            Case { mask: true, nonzero: true, columns: true, around: true, ..none },
            Case { shared: true, ..none },
            Case { shared: true, mask: true, columns: true, around: true, ..none },
        ] {
            // The sign of a momentum near zero is undefined: a clip by norm changes the momentum by a rounding error.
            let rule = entry.sample();
            let case = Case { columns: case.columns && !rule.needs_one_rate(), ..case };
            if (entry.name != "lion" || !case.around) && (rule.shares_rows() || !case.shared) {
                run(entry.name, entry.sample().as_ref(), case);
            }
        }
    }
}

/// A tensor's arrays by name, parameters first.
fn arrays(optimizer: &Optimizer, tensor: Tensor) -> Vec<(String, Vec<f32>)> {
    let mut all = vec![("param".to_owned(), block_on(optimizer.read_param(tensor)).unwrap())];
    for state in optimizer.state_names(tensor).unwrap() {
        all.push((state.to_owned(), block_on(optimizer.read_state(tensor, state)).unwrap()));
    }
    all
}

#[test]
fn excluded_elements_keep_every_byte() {
    // Numbers whose bits arithmetic would change.
    let odd = [-0.0, f32::from_bits(0x7fc1_2345), f32::from_bits(1), f32::NEG_INFINITY];
    for entry in plain() {
        for around in [false, true] {
            let case = Case { mask: true, around, ..Case::default() };
            let (mut gpu, tensors, set) = on_gpu(entry.sample().as_ref(), case);
            gpu_step(&mut gpu, &tensors, set, 1, case);
            let flags = flags(2, 450);
            let out = |i: usize, t: usize| flags[i / SHAPES[t][1]] == 0;
            for (t, tensor) in tensors.iter().enumerate().take(2) {
                let mut p = block_on(gpu.read_param(*tensor)).unwrap();
                let n = p.len();
                p.iter_mut().enumerate().filter(|(i, _)| out(*i, t)).for_each(|(i, p)| *p = odd[(i + n) % 4]);
                gpu.write_param(*tensor, &p).unwrap();
            }
            let before: Vec<_> = tensors.iter().map(|t| arrays(&gpu, *t)).collect();
            gpu_step(&mut gpu, &tensors, set, 2, case);
            for t in 0..2 {
                for ((array, before), (_, after)) in before[t].iter().zip(arrays(&gpu, tensors[t])) {
                    let (before, after) = (bits(before), bits(&after));
                    let kept = |i: &usize| before[*i] == after[*i];
                    let lost = (0..before.len()).find(|i| out(*i, t) && !kept(i));
                    assert_eq!(lost, None, "{} {array} of t{t}: an excluded element changed", entry.name);
                    // Prodigy's start does not move.
                    let moves = !["gradient_accumulator", "p0"].contains(&array.as_str());
                    let moved = (0..before.len()).any(|i| !kept(&i)) || !moves;
                    assert!(moved, "{} {array} of t{t}: nothing changed", entry.name);
                }
            }
        }
    }
}

fn buffer_of(words: &[u32], usage: wgpu::BufferUsages) -> wgpu::Buffer {
    let descriptor = wgpu::BufferDescriptor {
        label: Some("words"),
        size: words.len() as u64 * 4,
        usage: usage | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    };
    let buffer = GPU.device.create_buffer(&descriptor);
    GPU.queue.write_buffer(&buffer, 0, &words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>());
    buffer
}

fn indices_of(words: &[u32]) -> wgpu::Buffer {
    buffer_of(words, wgpu::BufferUsages::COPY_SRC)
}

/// Permuted, cloned and pruned, with fresh rows and indices that name no row.
fn some_indices(rows: u32, count: u32) -> Vec<u32> {
    let index = |i: u32| match hash(5, i) % 10 {
        0 => u32::MAX,
        1 => rows + hash(6, i) % 1000,
        2 => u32::MAX / 2 + i,
        _ => hash(7, i) % rows,
    };
    (0..count).map(index).collect()
}

fn gathered(values: &[f32], indices: &[u32], width: usize, first: f32) -> Vec<f32> {
    let row = |i: &u32| match values.get(*i as usize * width..(*i as usize + 1) * width) {
        Some(row) => row.to_vec(),
        None => vec![first; width],
    };
    indices.iter().flat_map(row).collect()
}

/// A rule whose state does not begin at zero, and every registered one.
fn all_rules() -> Vec<Box<dyn Rule>> {
    let adagrad = Adagrad { initial_accumulator_value: 0.25, weight_decay: 0.1, ..Adagrad::default() };
    plain().map(Entry::sample).chain([Box::new(adagrad) as Box<dyn Rule>]).collect()
}

#[test]
fn rows_that_change_places_are_a_gather_bit_for_bit() {
    let case = Case { mask: true, around: true, ..Case::default() };
    for rule in all_rules() {
        let (mut gpu, tensors, set) = on_gpu(rule.as_ref(), case);
        gpu_step(&mut gpu, &tensors, set, 1, case);
        for (tensor, g) in tensors.iter().zip(gradients(9)) {
            gpu.write_grad(*tensor, &g).unwrap();
        }
        GPU.run(|e| gpu.accumulate(e)).unwrap();
        for (rows, count) in [(450, 500), (500, 512), (512, 77), (77, 0), (0, 5)] {
            let before: Vec<_> = tensors.iter().map(|t| arrays(&gpu, *t)).collect();
            let indices = some_indices(rows.max(1), count);
            let buffer = indices_of(&[&[7][..], &indices, &[9]].concat());
            GPU.run(|e| gpu.remap(e, set, buffer.slice(4..), count as usize)).unwrap();
            assert_eq!(gpu.row_count(set).unwrap(), count as usize);
            for (t, before) in before.iter().enumerate() {
                for ((array, before), (_, after)) in before.iter().zip(arrays(&gpu, tensors[t])) {
                    let state = rule.states().into_iter().find(|s| s.name == array);
                    let first = state.map_or(0.0, |s| s.initial as f32);
                    let want = if t < 2 { gathered(before, &indices, SHAPES[t][1], first) } else { before.clone() };
                    assert_eq!(bits(&after), bits(&want), "{} {array} of t{t}, {rows} to {count}", rule.name());
                }
            }
        }
    }
}

#[test]
fn the_hosts_gather_is_the_same() {
    let rule = AdamW { weight_decay: 0.1, ..AdamW::default() };
    let case = Case { around: true, ..Case::default() };
    let mut described = Described::new(&rule, case);
    described.builder.row_capacity(described.set, 600);
    let (mut host, set, tensors) = (described.host::<f32>(), described.set, &described.tensors);
    let mut params = start();
    described.host_step(&mut host, &mut params, 1, case);
    host.accumulate(&gradients(3).iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
    let indices = some_indices(450, 600);
    let state = |host: &cpu::Optimizer<f32>, t: usize| host.state(tensors[t], "v").unwrap().to_vec();
    let before: Vec<_> = (0..2).map(|t| (params[t].clone(), state(&host, t))).collect();
    let averages: Vec<_> = (0..2).map(|t| host.ema(tensors[t]).unwrap().to_vec()).collect();
    let (a, b) = params.split_at_mut(1);
    host.remap(set, &indices, &mut [&mut a[0], &mut b[0]]).unwrap();
    assert_eq!(host.row_count(set).unwrap(), 600);
    for t in 0..2 {
        let width = SHAPES[t][1];
        assert_eq!(params[t], gathered(&before[t].0, &indices, width, 0.0));
        assert_eq!(state(&host, t), gathered(&before[t].1, &indices, width, 0.0));
        assert_eq!(host.ema(tensors[t]).unwrap(), gathered(&averages[t], &indices, width, 0.0));
    }
    let flags = vec![1; 600];
    host.reset_rows(set, &flags, &[&params[0], &params[1]]).unwrap();
    assert!(host.state(tensors[1], "m").unwrap().iter().all(|m| *m == 0.0));
    assert_eq!(host.ema(tensors[0]).unwrap(), params[0]);
    let error = host.remap(set, &[0], &mut []).unwrap_err().to_string();
    assert!(error.contains("0 parameters") && error.contains("needs 2"), "{error}");
    let (a, b) = params.split_at_mut(1);
    let error = host.remap(set, &[0; 601], &mut [&mut a[0], &mut b[0]]).unwrap_err().to_string();
    assert!(error.contains("601 rows") && error.contains("room for 600"), "{error}");
    let error = host.remap(host.row_set("grid").unwrap(), &[0], &mut [&mut a[0]]).unwrap_err().to_string();
    assert!(error.contains("row set `grid`") && error.contains("row_capacity"), "{error}");
    assert!(host.remap(Described::new(&rule, case).set, &[0], &mut [&mut a[0], &mut b[0]]).is_err());
    assert_eq!(host.row_count(set).unwrap(), 600);
}

#[test]
fn training_goes_on_after_rows_changed_and_so_does_a_checkpoint() {
    let case = Case { mask: true, around: true, ..Case::default() };
    for entry in plain() {
        let rule = entry.sample();
        let described = Described::new(rule.as_ref(), case);
        let (mut gpu, mut resumed, mut fast) = (described.gpu(), described.gpu(), described.host::<f32>());
        let (set, tensors) = (described.set, &described.tensors);
        let mut params = start();
        described.gpu_step(&mut gpu, 1, case);
        described.host_step(&mut fast, &mut params, 1, case);
        let indices = some_indices(450, 333);
        let buffer = indices_of(&indices);
        let mut encoder = GPU.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        gpu.remap(&mut encoder, set, buffer.slice(..), 333).unwrap();
        let snapshot = gpu.snapshot(&mut encoder).unwrap();
        GPU.queue.submit([encoder.finish()]);
        let checkpoint = block_on(snapshot.checkpoint()).unwrap().to_bytes().unwrap();
        let checkpoint = wgpu_optim::checkpoint::Checkpoint::from_bytes("memory", checkpoint).unwrap();
        checkpoint.restore(&mut resumed).unwrap();
        assert_eq!(resumed.row_count(set).unwrap(), 333);
        let (a, b) = params.split_at_mut(1);
        fast.remap(set, &indices, &mut [&mut a[0], &mut b[0]]).unwrap();

        let flags = flags(2, 333);
        fast.write_mask(set, &flags).unwrap();
        let mut grads = gradients(2);
        grads[0].truncate(333 * 3);
        grads[1].truncate(333 * 2);
        grads.iter_mut().flatten().for_each(|g| *g *= 64.0);
        for optimizer in [&mut gpu, &mut resumed] {
            optimizer.write_mask(set, &flags).unwrap();
            for (t, tensor) in tensors.iter().enumerate() {
                // No result depends on the numbers behind the rows in use.
                let slice = optimizer.grad(*tensor).unwrap();
                let poison = vec![f32::NAN; slice.size() as usize / 4];
                GPU.queue.write_buffer(
                    slice.buffer(),
                    slice.offset(),
                    &poison.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>(),
                );
                optimizer.write_grad(*tensor, &grads[t]).unwrap();
            }
            GPU.run(|e| optimizer.step(e)).unwrap();
            assert_eq!(block_on(optimizer.read_step_count()).unwrap(), 2, "{}", entry.name);
        }
        let mut slices: Vec<&mut [f32]> = params.iter_mut().map(Vec::as_mut_slice).collect();
        fast.step(&mut slices, &grads.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        for (t, tensor) in tensors.iter().enumerate() {
            for ((array, here), (_, there)) in arrays(&gpu, *tensor).iter().zip(arrays(&resumed, *tensor)) {
                assert_eq!(bits(here), bits(&there), "{} {array} of t{t}: resumed", entry.name);
            }
            if entry.name != "lion" {
                let want: Vec<f64> = params[t].iter().map(|x| f64::from(*x)).collect();
                let path = vec![0.1; want.len()];
                close(
                    &format!("{} t{t}", entry.name),
                    STEPS,
                    &block_on(gpu.read_param(*tensor)).unwrap(),
                    &want,
                    &path,
                );
            }
        }
    }
}

#[test]
fn states_begin_anew_for_tensors_and_for_rows() {
    let case = Case { around: true, ..Case::default() };
    for rule in all_rules() {
        let (mut gpu, tensors, set) = on_gpu(rule.as_ref(), case);
        gpu_step(&mut gpu, &tensors, set, 1, case);
        gpu_step(&mut gpu, &tensors, set, 2, case);
        let before: Vec<_> = tensors.iter().map(|t| arrays(&gpu, *t)).collect();
        let flags = flags(3, 450);
        let buffer = indices_of(&flags);
        GPU.run(|e| {
            gpu.reset_states(e, &tensors[2..3])?;
            gpu.reset_rows(e, set, buffer.slice(..))
        })
        .unwrap();
        for (t, before) in before.iter().enumerate() {
            let fresh = |i: usize| t == 2 || t < 2 && flags[i / SHAPES[t][1]] != 0;
            let param = before[0].1.clone();
            for ((array, before), (_, after)) in before.iter().zip(arrays(&gpu, tensors[t])) {
                let state = rule.states().into_iter().find(|s| s.name == array);
                let first = |i: usize| match (array.as_str(), &state) {
                    ("ema", _) => param[i],
                    (_, Some(state)) => state.initial as f32,
                    _ => 0.0,
                };
                let chosen = |i: usize| array != "param" && fresh(i);
                let want = |(i, x): (usize, &f32)| if chosen(i) { first(i) } else { *x };
                let want: Vec<f32> = before.iter().enumerate().map(want).collect();
                assert_eq!(bits(&after), bits(&want), "{} {array} of t{t}", rule.name());
            }
        }
        let error = gpu.reset_states(&mut encoder(), &tensors[3..]).unwrap_err().to_string();
        assert!(error.contains("`t3`") && error.contains("no row set"), "{error}");
    }
}

fn encoder() -> wgpu::CommandEncoder {
    GPU.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
}

#[test]
fn a_remap_between_steps_of_one_encoder_and_one_that_is_dropped() {
    let build = || {
        let mut builder = Optimizer::builder(AdamW { lr: 0.1, weight_decay: 0.1, ..AdamW::default() });
        let a = builder.tensor(Group::DEFAULT, "a", &[4, 1]);
        let set = builder.row_set("set", &[a]);
        builder.row_capacity(set, 8);
        let optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
        optimizer.write_param(a, &[1.0, 2.0, 3.0, 4.0]).unwrap();
        optimizer.write_grad(a, &[1.0; 4]).unwrap();
        (optimizer, a, set)
    };
    let indices = indices_of(&[2, 0, u32::MAX, 0, 1]);
    let (mut one, a, set) = build();
    GPU.run(|e| {
        one.step(e)?;
        one.remap(e, set, indices.slice(..), 5)?;
        one.step(e)
    })
    .unwrap();
    let (mut two, b, other) = build();
    GPU.run(|e| two.step(e)).unwrap();
    // A dropped encoder moves nothing; the count of rows is the caller's to put back.
    two.remap(&mut encoder(), other, indices.slice(..), 5).unwrap();
    two.set_row_count(other, 4).unwrap();
    assert_eq!(block_on(two.read_param(b)).unwrap().len(), 4);
    GPU.run(|e| two.remap(e, other, indices.slice(..), 5)).unwrap();
    GPU.run(|e| two.step(e)).unwrap();
    let (x, y) = (arrays(&one, a), arrays(&two, b));
    assert_eq!(x, y);
    assert_eq!(x[0].1.len(), 5);
    // The fifth row's gradient was zero, the fresh row's parameter too.
    assert!(x[0].1[2] < -0.05 && x[0].1[1] < 0.9, "{x:?}");
}

/// Flags and gradients in the caller's buffers, rebound gradients, and two sets in one dispatch.
#[test]
fn masks_in_the_callers_buffer_and_rebound_gradients() {
    let storage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
    let mask = buffer_of(&[9, 0, 3, 1, 0, 1, 1, 0], storage);
    let describe = |moving: bool| {
        let mut builder = Optimizer::builder(Adai { weight_decay: 0.1, ..Adai::new(0.1) });
        let a = builder.tensor(Group::DEFAULT, "a", &[3, 2]);
        let b = builder.tensor(Group::DEFAULT, "b", &[4, 5]);
        let (first, second) = (builder.row_set("first", &[a]), builder.row_set("second", &[b]));
        builder.mask_in(first, mask.slice(4..16)).mask_in(second, mask.slice(16..32));
        builder.dynamic_gradients(moving);
        (builder, a, b, first, second)
    };
    let run = |moving: bool| {
        let (builder, a, b, ..) = describe(moving);
        let mut optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
        assert_eq!(optimizer.dispatches(), 3);
        optimizer.write_param(a, &[1.0; 6]).unwrap();
        optimizer.write_param(b, &[1.0; 20]).unwrap();
        optimizer.write_grad(a, &numbers(1, 6)).unwrap();
        optimizer.write_grad(b, &numbers(2, 20)).unwrap();
        // The first step of Adai does not depend on its mean.
        GPU.run(|e| optimizer.step(e).and_then(|()| optimizer.step(e))).unwrap();
        let read = [a, b].map(|t| block_on(optimizer.read_param(t)).unwrap());
        for (values, width, flags) in [(&read[0], 2, &[0, 3, 1][..]), (&read[1], 5, &[0, 1, 1, 0])] {
            for (i, x) in values.iter().enumerate() {
                assert_eq!(*x != 1.0, flags[i / width] != 0, "element {i} of width {width}");
            }
        }
        read
    };
    assert_eq!(run(false), run(true));
    // Adai's mean runs over the stepped elements, on the host too.
    let (builder, .., first, second) = describe(false);
    let mut host = builder.build_cpu::<f64>().unwrap();
    host.write_mask(first, &[0, 3, 1]).unwrap();
    host.write_mask(second, &[0, 1, 1, 0]).unwrap();
    let (mut a, mut b) = (vec![1.0; 6], vec![1.0; 20]);
    for _ in 0..2 {
        let grads = wide(&[numbers(1, 6), numbers(2, 20)]);
        host.step(&mut [&mut a, &mut b], &[&grads[0], &grads[1]]).unwrap();
    }
    let [x, y] = run(true);
    close("a", STEPS, &x, &a, &[0.1; 6]);
    close("b", STEPS, &y, &b, &[0.1; 20]);
}

#[test]
fn all_rows_take_one_dispatch() {
    let mut builder = Optimizer::builder(AdamW::default());
    let tensors: Vec<Tensor> = (0..40).map(|t| builder.tensor(Group::DEFAULT, format!("t{t}"), &[30, 1 + t])).collect();
    let sets: Vec<RowSet> = tensors.chunks(8).enumerate().map(|(i, t)| builder.row_set(format!("{i}"), t)).collect();
    sets.iter().for_each(|set| _ = builder.mask(*set));
    builder.column_rates(tensors[1], &[0.5, 0.25]);
    assert_eq!(builder.build(&GPU.device, &GPU.queue).unwrap().dispatches(), 1);
}

/// The error that a builder gives, the same for the GPU and for the host.
fn refusal(builder: &Builder) -> String {
    let text = builder.build(&GPU.device, &GPU.queue).unwrap_err().to_string();
    assert_eq!(builder.build_cpu::<f32>().unwrap_err().to_string(), text, "the host");
    text
}

fn refused(change: impl FnOnce(&mut Builder, Tensor, Tensor)) -> String {
    let mut builder = Optimizer::builder(AdamW::default());
    let a = builder.tensor(Group::DEFAULT, "a", &[4, 3]);
    let b = builder.tensor(Group::DEFAULT, "b", &[5, 3]);
    change(&mut builder, a, b);
    refusal(&builder)
}

#[test]
fn the_builder_refuses_wrong_row_sets() {
    let has = |text: String, parts: &[&str]| parts.iter().for_each(|p| assert!(text.contains(p), "{text}"));
    has(refused(|b, x, y| _ = b.row_set("s", &[x, y])), &["`b`", "[5, 3]", "4 rows"]);
    has(refused(|b, x, _| _ = (b.row_set("s", &[x]), b.row_set("r", &[x]))), &["`a`", "row set `s`", "`r`"]);
    has(refused(|b, x, _| _ = b.row_set("s", &[x, x])), &["`a`", "row set `s`"]);
    has(refused(|b, x, y| _ = (b.row_set("s", &[x]), b.row_set("s", &[y]))), &["row set `s` is named twice"]);
    has(refused(|b, _, _| _ = b.row_set("s", &[])), &["row set `s`", "no tensor"]);
    has(refused(|b, x, _| _ = (b.row_set("s", &[x]), b.freeze(x).label("x"))), &["`a`", "frozen"]);
    has(
        refused(|b, _, _| {
            let scalar = b.tensor(Group::DEFAULT, "scalar", &[]);
            b.row_set("s", &[scalar]);
        }),
        &["`scalar`", "first dimension"],
    );
    has(
        refused(|b, x, _| {
            let rows = b.row_set("s", &[x]);
            b.row_capacity(rows, 3);
        }),
        &["row set `s`", "4 rows", "only 3"],
    );
    has(
        refused(|b, x, _| {
            let rows = b.row_set("s", &[x]);
            b.skip_zero_gradients(rows).share_second_moment(x);
        }),
        &["`a`", "row set `s`", "skips zero gradients"],
    );
    has(
        refused(|b, _, _| {
            let wide = b.tensor(Group::DEFAULT, "wide", &[2, 257]);
            b.share_second_moment(wide);
        }),
        &["`wide`", "at most 256", "257"],
    );
    let averaging: [Box<dyn Rule>; 2] =
        [wgpu_optim::SgdScheduleFree::default().into(), wgpu_optim::Asgd::default().into()];
    for rule in averaging {
        let name = rule.name();
        let mut builder = Optimizer::builder(rule);
        let a = builder.tensor(Group::DEFAULT, "a", &[4, 3]);
        builder.column_rates(a, &[1.0; 3]);
        has(refusal(&builder), &[name, "no column rates"]);
    }
    let mut lion = Optimizer::builder(wgpu_optim::Lion::default());
    let a = lion.tensor(Group::DEFAULT, "a", &[4, 3]);
    lion.share_second_moment(a);
    has(refusal(&lion), &["lion cannot share", "adam, adamw, nadam, radam, ademamix, adan"]);
    has(refused(|b, x, _| _ = b.column_rates(x, &[1.0, 2.0])), &["`a`", "2 column rates", "3 columns"]);
    has(refused(|b, x, _| _ = b.column_rates(x, &[1.0, -1.0, f64::NAN])), &["`a`", "column 1 is -1"]);
    for entry in
        ALL.iter().filter(|entry| procedure::refusal(&entry.sample().procedure(), entry.name, Feature::Rows).is_some())
    {
        let mut builder = Optimizer::builder(entry.sample());
        let a = builder.tensor(Group::DEFAULT, "a", &[4, 3]);
        builder.row_set("s", &[a]);
        has(refusal(&builder), &[entry.name, "row sets"]);
    }
    let words = buffer_of(&[1; 8], wgpu::BufferUsages::STORAGE);
    let mask = |offset: u64, end: u64, words: &wgpu::Buffer| {
        refused(|b, x, _| {
            let rows = b.row_set("s", &[x]);
            b.mask_in(rows, words.slice(offset..end));
        })
    };
    has(mask(0, 12, &words), &["row set `s`", "12 bytes, needs 16"]);
    has(mask(0, 16, &indices_of(&[1; 8])), &["row set `s`", "STORAGE"]);
    let page = buffer_of(&[0; 64], wgpu::BufferUsages::STORAGE);
    has(
        refused(|b, _, _| {
            let bound = b.bind(Group::DEFAULT, "bound", &[4], page.slice(..16), page.slice(16..32));
            let rows = b.row_set("s", &[bound]);
            b.mask_in(rows, page.slice(32..48));
        }),
        &["row set `s`", "`bound`", "another buffer"],
    );
    has(
        refused(|b, _, _| {
            let bound = b.bind(Group::DEFAULT, "bound", &[4], page.slice(..16), page.slice(64..80));
            let rows = b.row_set("s", &[bound]);
            b.row_capacity(rows, 8);
        }),
        &["`bound`", "16 bytes", "32", "8 rows that are reserved"],
    );
}

#[test]
fn a_call_that_does_not_fit_a_built_set_is_refused_and_changes_nothing() {
    let mut builder = Optimizer::builder(AdamW::default());
    let a = builder.tensor(Group::DEFAULT, "a", &[4, 3]);
    let b = builder.tensor(Group::DEFAULT, "b", &[4]);
    let (set, fixed) = (builder.row_set("set", &[a]), builder.row_set("fixed", &[b]));
    builder.row_capacity(set, 6).mask(fixed);
    let mut optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
    let indices = indices_of(&[0; 8]);
    let has = |error: wgpu_optim::Result<()>, parts: &[&str]| {
        let text = error.unwrap_err().to_string();
        parts.iter().for_each(|p| assert!(text.contains(p), "{text}"));
    };
    let e = &mut encoder();
    has(optimizer.remap(e, set, indices.slice(..), 7), &["row set `set`", "7 rows", "room for 6"]);
    has(optimizer.remap(e, set, indices.slice(..12), 5), &["12 bytes", "5 rows need 20"]);
    has(optimizer.remap(e, set, buffer_of(&[0; 8], wgpu::BufferUsages::STORAGE).slice(..), 5), &["COPY_SRC"]);
    has(optimizer.remap(e, fixed, indices.slice(..), 3), &["row set `fixed`", "row_capacity"]);
    has(optimizer.reset_rows(e, set, indices.slice(..12)), &["flags have 12 bytes", "4 rows need 16"]);
    has(optimizer.set_row_count(set, 7), &["room for 6"]);
    has(optimizer.write_mask(set, &[1; 4]), &["row set `set`", "no mask"]);
    has(optimizer.write_mask(fixed, &[1; 3]), &["3 flags", "4 rows"]);
    has(optimizer.set_column_rates(a, &[1.0; 3]), &["`a`", "without column rates"]);
    assert_eq!((optimizer.row_count(set).unwrap(), optimizer.row_capacity(set).unwrap()), (4, 6));
    assert_eq!(optimizer.row_set("fixed").unwrap(), fixed);
    assert!(matches!(optimizer.write_param(a, &[0.0; 18]), Err(Error::Tensor { .. })));
    assert!(optimizer.mask(fixed).unwrap().is_some() && optimizer.mask(set).unwrap().is_none());

    let mut host = builder.build_cpu::<f32>().unwrap();
    let (mut x, mut y) = (vec![0.0; 12], vec![0.0; 4]);
    has(host.remap(set, &[0; 7], &mut [&mut x]), &["row set `set`", "7 rows", "room for 6"]);
    has(host.remap(fixed, &[0; 3], &mut [&mut y]), &["row set `fixed`", "row_capacity"]);
    has(host.remap(set, &[0; 5], &mut [&mut y]), &["`a`", "4 elements, needs 12"]);
    has(host.reset_rows(set, &[1; 3], &[&x]), &["row set `set`", "3 flags", "needs 4"]);
    has(host.write_mask(set, &[1; 4]), &["row set `set`", "no mask"]);
    has(host.write_mask(fixed, &[1; 3]), &["3 flags", "4 rows"]);
    has(host.set_column_rates(a, &[1.0; 3]), &["`a`", "without column rates"]);
    assert_eq!((host.row_count(set).unwrap(), host.row_set("fixed").unwrap()), (4, fixed));
}

/// Rows of every kind of width: whole chunks, rows that are no whole vec4s, the longest.
#[test]
fn rows_of_any_width_share_their_second_moment() {
    for (rows, width) in [(5, 256), (9, 255), (7, 254), (700, 5), (300, 7), (1100, 1), (3, 4)] {
        let mut builder = Optimizer::builder(AdamW { lr: 0.1, weight_decay: 0.1, ..AdamW::default() });
        let tensor = builder.tensor(Group::DEFAULT, "w", &[rows, width]);
        builder.share_second_moment(tensor);
        let mut gpu = builder.build(&GPU.device, &GPU.queue).unwrap();
        assert_eq!(gpu.dispatches(), 1);
        let n = rows * width;
        let mut host = builder.build_cpu::<f64>().unwrap();
        let start = numbers(3, n);
        let mut p: Vec<f64> = start.iter().map(|x| f64::from(*x)).collect();
        gpu.write_param(tensor, &start).unwrap();
        for step in 0..3 {
            let g = numbers(step, n);
            gpu.write_grad(tensor, &g).unwrap();
            GPU.run(|e| gpu.step(e)).unwrap();
            let wide: Vec<f64> = g.iter().map(|x| f64::from(*x)).collect();
            host.step(&mut [&mut p], &[&wide]).unwrap();
        }
        close(&format!("width {width}"), STEPS, &block_on(gpu.read_param(tensor)).unwrap(), &p, &vec![0.3; n]);
        states_close("v", &block_on(gpu.read_state(tensor, "v")).unwrap(), host.state(tensor, "v").unwrap());
        let v = host.state(tensor, "v").unwrap();
        let mean = |step| numbers(step, n)[..width].iter().map(|g| f64::from(*g).powi(2)).sum::<f64>() / width as f64;
        let want = (0..3).fold(0.0, |v, step| 0.999 * v + 0.001 * mean(step));
        assert!((v[0] - want).abs() < 1e-9 * want, "{} is not the mean's average {want}", v[0]);
    }
}

#[test]
fn telemetry_sees_the_rows_in_use_and_of_gradients_those_stepped() {
    let mut builder = Optimizer::builder(AdamW { lr: 0.1, weight_decay: 0.1, ..AdamW::default() });
    let a = builder.tensor(Group::DEFAULT, "a", &[4, 3]);
    let set = builder.row_set("set", &[a]);
    builder.row_capacity(set, 9).mask(set).telemetry(true);
    let mut gpu = builder.build(&GPU.device, &GPU.queue).unwrap();
    let indices = indices_of(&[0, 1]);
    gpu.write_param(a, &[3.0; 12]).unwrap();
    gpu.write_grad(a, &[f32::NAN; 12]).unwrap();
    GPU.run(|e| gpu.remap(e, set, indices.slice(..), 2)).unwrap();
    gpu.write_mask(set, &[0, 1]).unwrap();
    gpu.write_grad(a, &[9.0, 9.0, 9.0, 1.0, 2.0, 2.0]).unwrap();
    GPU.run(|e| gpu.step(e)).unwrap();
    let total = gpu.try_stats().unwrap().total;
    assert_eq!((total.gradient, total.nonfinite), (3.0, 0));
    assert!((total.parameter - 54_f64.sqrt()).abs() < 1e-5, "{total:?}");
    let moved = 0.1 + 0.1 * 0.1 * 3.0;
    assert!((total.update - moved * 3_f64.sqrt()).abs() < 1e-5, "{total:?}");
}
