//! Step counts of tensors and of elements: steps that leave out tensors, and rows that begin anew.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support {
    pub(crate) mod array;
    pub(crate) mod bits;
    pub(crate) mod close;
    pub(crate) mod device;
    pub(crate) mod gpu;
    pub(crate) mod numbers;
    pub(crate) mod rates;
    pub(crate) mod snapshot;
}

use pollster::block_on;
use wgpu_optim::checkpoint::{Checkpoint, restore_torch};
use wgpu_optim::cpu::{self, Number};
use wgpu_optim::optim::procedure::probes;
use wgpu_optim::optim::{ALL, CustomRule, Entry, Integrator, Range, Rule, Scalar};
use wgpu_optim::{
    Accumulate, AdaiW, Adam, AdamW, Builder, Clip, Ema, FlowAdam, Group, Lion, LossScale, NAdam, Optimizer, RowSet,
    Sgd, SgdScheduleFree, Tensor, read_buffer, wgpu,
};

use support::bits::bits;
use support::close::close;
use support::gpu::GPU;
use support::numbers::{hash, numbers};
use support::rates::two_rates;
use support::snapshot::snapshot;

/// Two groups: the first and the last tensor in one, the others in the second.
const LENGTHS: [usize; 5] = [1025, 3, 0, 700, 18];
const GROUPS: [usize; 5] = [0, 1, 1, 1, 0];
const STEPS: u32 = 7;

/// Every rule that allows tensors to be left out.
fn rules() -> impl Iterator<Item = (&'static Entry, &'static str, Box<dyn Rule>)> {
    let of_entry = |entry: &'static Entry| entry.variants().into_iter().map(move |(name, rule)| (entry, name, rule));
    ALL.iter().flat_map(of_entry)
}

/// The options of a case.
#[derive(Clone, Copy, Debug, Default)]
struct Options {
    storage: Option<&'static str>,
    clip: Option<Clip>,
    scale: bool,
    skip: bool,
    accumulate: Option<Accumulate>,
    ema: bool,
    zero_grad: bool,
    dynamic: bool,
}

impl Options {
    fn builder(self, rule: &dyn Rule) -> (Builder, Vec<Tensor>) {
        let [first, second] = two_rates(rule);
        let mut builder = Optimizer::builder(first);
        let groups = [Group::DEFAULT, builder.group("second", second)];
        builder.undamped_steps(true).partial_steps(true).skip_nonfinite(self.skip).zero_grad(self.zero_grad);
        builder.dynamic_gradients(self.dynamic);
        if let Some(storage) = self.storage {
            builder.storage(storage.parse().unwrap());
        }
        if let Some(clip) = self.clip {
            builder.clip(clip);
        }
        if self.scale {
            builder.loss_scale(LossScale { initial: 4.0, interval: 3, ..LossScale::default() });
        }
        if let Some(how) = self.accumulate {
            builder.accumulate(how);
        }
        if self.ema {
            builder.ema(Ema { decay: 0.9, warmup: false });
        }
        let tensors = LENGTHS.iter().zip(GROUPS).enumerate();
        let tensors = tensors.map(|(i, (&n, group))| {
            builder.tensor(groups[group], format!("tensor {i}"), &builder.sample_shape(groups[group], n))
        });
        let tensors = tensors.collect();
        (builder, tensors)
    }
}

/// Whether a step takes a tensor. The tensors take turns, and no step takes all.
fn takes(seed: u32, step: u32, tensor: usize) -> bool {
    hash(seed.wrapping_add(step), tensor as u32) % 5 < 2 || (step as usize + tensor) % 4 == 1
}

fn gradients(seed: u32, step: u32) -> Vec<Vec<f32>> {
    LENGTHS.iter().enumerate().map(|(t, &n)| numbers(seed ^ (97 * step + t as u32), n)).collect()
}

fn start() -> Vec<Vec<f32>> {
    LENGTHS.iter().enumerate().map(|(t, &n)| numbers(7000 + t as u32, n)).collect()
}

fn wide<F: Number>(values: &[Vec<f32>]) -> Vec<Vec<F>> {
    values.iter().map(|v| v.iter().map(|x| F::from_f64(f64::from(*x))).collect()).collect()
}

fn mutable<F>(values: &mut [Vec<F>]) -> Vec<&mut [F]> {
    values.iter_mut().map(Vec::as_mut_slice).collect()
}

/// The gradients of the tensors that a step takes.
fn some<'a, F>(grads: &'a [Vec<F>], taken: &[bool]) -> Vec<Option<&'a [F]>> {
    grads.iter().zip(taken).map(|(g, taken)| taken.then_some(g.as_slice())).collect()
}

/// Everything that the optimizer keeps of a tensor.
fn kept(optimizer: &Optimizer, tensor: Tensor) -> Vec<(&'static str, Vec<f32>)> {
    let states = optimizer.state_names(tensor).unwrap();
    let states = states.into_iter().map(|name| (name, block_on(optimizer.read_state(tensor, name)).unwrap()));
    let param = block_on(optimizer.read_param(tensor)).unwrap();
    let progress = block_on(optimizer.read_progress(tensor)).unwrap();
    let count = block_on(optimizer.read_tensor_step_count(tensor)).unwrap();
    states.chain([("param", param), ("progress", progress), ("count", vec![count as f32])]).collect()
}

/// A torch optimizer steps every parameter by itself: a tensor that misses steps is that of an optimizer that holds this tensor alone and
/// steps only where it has a gradient.
#[test]
fn a_tensor_without_a_gradient_is_left_as_torch_leaves_it() {
    let mut checked = 0;
    for (entry, variant, rule) in rules() {
        let shares = entry.sample().sums().sums > 0 && entry.name != "lamb";
        if shares || probes(&rule.procedure()) > 0 {
            continue;
        }
        let (builder, tensors) = Options::default().builder(rule.as_ref());
        let mut all = builder.build_cpu::<f64>().unwrap();
        let mut params = wide::<f64>(&start());
        let rates = two_rates(rule.as_ref());
        let alone = |t: usize| {
            // An optimizer with nothing to step counts no step.
            let mut builder = Optimizer::builder(rates[GROUPS[t]].boxed());
            let handle = builder.tensor(Group::DEFAULT, "alone", &builder.sample_shape(Group::DEFAULT, LENGTHS[t]));
            (builder.build_cpu::<f64>().unwrap(), handle)
        };
        let mut each: Vec<_> = (0..LENGTHS.len()).map(alone).collect();
        let mut own = params.clone();
        for step in 0..3 * STEPS {
            let taken: Vec<bool> = (0..LENGTHS.len()).map(|t| takes(1, step, t)).collect();
            let grads = wide::<f64>(&gradients(31, step));
            all.step_tensors(&mut mutable(&mut params), &some(&grads, &taken)).unwrap();
            for (t, (optimizer, _)) in each.iter_mut().enumerate().filter(|(t, _)| taken[*t]) {
                optimizer.step(&mut [&mut own[t]], &[&grads[t]]).unwrap();
            }
            assert_eq!(params, own, "{} {variant}, step {step}", entry.name);
        }
        for (t, (optimizer, handle)) in each.iter().enumerate() {
            for state in optimizer.state_names(*handle).unwrap() {
                assert_eq!(
                    all.state(tensors[t], state).unwrap(),
                    optimizer.state(*handle, state).unwrap(),
                    "{variant}"
                );
            }
            let count = (0..3 * STEPS).filter(|step| takes(1, *step, t)).count() as u64;
            if LENGTHS[t] > 0 {
                assert_eq!(all.progress(tensors[t]).unwrap(), optimizer.progress(*handle).unwrap());
                assert_eq!((all.tensor_step_count(tensors[t]).unwrap(), optimizer.step_count()), (count, count));
            }
        }
        assert_eq!(all.step_count(), u64::from(3 * STEPS));
        checked += 1;
    }
    assert!(checked > 20, "{checked} variants");
}

/// The rule on the GPU, on the fast path and in the oracle, with the same tensors left out. Each step is also recorded into an encoder that is
/// dropped, and some steps have a gradient that is not finite.
fn follow(what: &str, rule: &dyn Rule, options: Options, seed: u32) {
    let (builder, tensors) = options.builder(rule);
    let mut optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
    let (mut oracle, mut fast) = (builder.build_cpu::<f64>().unwrap(), builder.build_cpu::<f32>().unwrap());
    let (mut params, mut fast_params) = (wide::<f64>(&start()), start());
    oracle.store_params(&mut mutable(&mut params)).unwrap();
    fast.store_params(&mut mutable(&mut fast_params)).unwrap();
    for (t, p) in tensors.iter().zip(start()) {
        optimizer.write_param(*t, &p).unwrap();
    }
    let mut path: Vec<Vec<f64>> = params.iter().map(|p| vec![0.0; p.len()]).collect();
    let pages = options.dynamic.then(|| Pages::new(&LENGTHS, if options.storage.is_some() { 2 } else { 4 }));
    let batches = if options.accumulate.is_some() { 3 } else { 1 };
    for step in 0..STEPS {
        let bad = options.skip && step % 3 == 1;
        let before: Vec<_> = tensors.iter().map(|t| kept(&optimizer, *t)).collect();
        let was = params.clone();
        let mut in_window = [false; LENGTHS.len()];
        for batch in 0..batches {
            let number = batches * step + batch;
            let taken: Vec<bool> = (0..LENGTHS.len()).map(|t| takes(seed, number, t)).collect();
            (0..LENGTHS.len()).for_each(|t| in_window[t] |= taken[t]);
            let mut grads = gradients(seed, number);
            if options.scale {
                let scale = oracle.loss_scale() as f32;
                grads.iter_mut().flatten().for_each(|g| *g *= scale);
            }
            // What is left out holds numbers that no step may look at.
            for (t, g) in grads.iter_mut().enumerate().filter(|(t, _)| !taken[*t]) {
                g.fill(f32::NAN);
                assert!(t < LENGTHS.len());
            }
            if bad && batch + 1 == batches {
                let first = (0..LENGTHS.len()).find(|t| taken[*t] && LENGTHS[*t] > 0).unwrap();
                grads[first][0] = f32::INFINITY;
            }
            for (t, g) in tensors.iter().zip(&grads) {
                optimizer.write_grad(*t, g).unwrap();
            }
            if let Some(pages) = &pages {
                pages.write(&grads);
            }
            let mut record = |encoder: &mut wgpu::CommandEncoder| {
                let named: Vec<Tensor> =
                    tensors.iter().zip(&taken).filter(|(_, taken)| **taken).map(|(t, _)| *t).collect();
                match (&pages, batch + 1 == batches) {
                    (None, true) => optimizer.step_tensors(encoder, named),
                    (None, false) => optimizer.accumulate_tensors(encoder, named),
                    (Some(pages), true) => optimizer.step_with_grads(encoder, pages.of(&tensors, &taken)),
                    (Some(pages), false) => optimizer.accumulate_with_grads(encoder, pages.of(&tensors, &taken)),
                }
            };
            let mut dropped = GPU.device.create_command_encoder(&Default::default());
            record(&mut dropped).unwrap();
            drop(dropped);
            GPU.run(&mut record).unwrap();
            let wide = wide::<f64>(&grads);
            if batch + 1 == batches {
                oracle.step_tensors(&mut mutable(&mut params), &some(&wide, &taken)).unwrap();
                fast.step_tensors(&mut mutable(&mut fast_params), &some(&grads, &taken)).unwrap();
            } else {
                oracle.accumulate_tensors(&some(&wide, &taken)).unwrap();
                fast.accumulate_tensors(&some(&grads, &taken)).unwrap();
            }
            for (t, tensor) in tensors.iter().enumerate().filter(|_| options.zero_grad) {
                let after = block_on(optimizer.read_grad(*tensor)).unwrap();
                let zeroed = taken[t] && !options.dynamic;
                assert!(after.iter().all(|g| if zeroed { *g == 0.0 } else { options.dynamic || g.is_nan() }), "{what}");
            }
        }
        for (path, (p, was)) in path.iter_mut().zip(params.iter().zip(&was)) {
            path.iter_mut().zip(p.iter().zip(was)).for_each(|(path, (p, was))| *path += (p - was).abs());
        }
        for (t, tensor) in tensors.iter().enumerate().filter(|(t, _)| bad || !in_window[*t]) {
            let begins = options.ema && step == 0;
            for ((name, was), (_, is)) in before[t].iter().zip(kept(&optimizer, *tensor)) {
                let clears = *name == "gradient_accumulator" || (begins && *name == "ema");
                assert!(clears || bits(was) == bits(&is), "{what}, step {step}: {name} of tensor {t}");
            }
        }
    }
    for (t, tensor) in tensors.iter().enumerate() {
        let count = block_on(optimizer.read_tensor_step_count(*tensor)).unwrap();
        if LENGTHS[t] == 0 {
            continue;
        }
        assert_eq!(count, oracle.tensor_step_count(*tensor).unwrap(), "{what}: tensor {t}");
        assert_eq!(count, fast.tensor_step_count(*tensor).unwrap(), "{what}: tensor {t}");
        let got = block_on(optimizer.read_param(*tensor)).unwrap();
        if options.storage.is_none() {
            close(&format!("{what}: tensor {t}"), STEPS, &got, &params[t], &path[t]);
        } else {
            let file = Checkpoint::of_host(&oracle, &all(&params)).unwrap();
            coarse(&format!("{what}: tensor {t}"), &got, &file.params(&format!("tensor {t}")).unwrap(), &start()[t]);
        }
        if options.storage.is_none() {
            close(&format!("{what}: fast tensor {t}"), STEPS, &fast_params[t], &params[t], &path[t]);
            check_states(what, &optimizer, &oracle, *tensor);
        }
        if options.ema {
            let ema = block_on(optimizer.read_state(*tensor, "ema")).unwrap();
            close(&format!("{what}: average of tensor {t}"), STEPS, &ema, oracle.ema(*tensor).unwrap(), &path[t]);
        }
    }
    assert_eq!(block_on(optimizer.read_step_count()).unwrap(), oracle.step_count(), "{what}");
    assert_eq!(fast.step_count(), oracle.step_count(), "{what}");
}

const SHAPES: [[usize; 1]; 5] = [[LENGTHS[0]], [LENGTHS[1]], [LENGTHS[2]], [LENGTHS[3]], [LENGTHS[4]]];

fn all(params: &[Vec<f64>]) -> Vec<(&'static [usize], &[f64])> {
    SHAPES.iter().zip(params).map(|(shape, p)| (shape.as_slice(), p.as_slice())).collect()
}

/// Rounding to few bits may fall on the other side in some elements.
#[track_caller]
fn coarse(what: &str, got: &[f32], want: &[f32], start: &[f32]) {
    let mean = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>();
    let (off, way) = (mean(got, want), mean(want, start));
    assert!(way > 0.0 || want.is_empty(), "{what}: nothing moved");
    assert!(off <= 0.05 * way, "{what}: {off} of {way}");
}

fn check_states(what: &str, optimizer: &Optimizer, oracle: &cpu::Optimizer<f64>, tensor: Tensor) {
    for state in oracle.state_names(tensor).unwrap() {
        let (got, want) =
            (block_on(optimizer.read_state(tensor, state)).unwrap(), oracle.state(tensor, state).unwrap());
        let size = want.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
        for (i, (got, want)) in got.iter().zip(want).enumerate() {
            let error = (f64::from(*got) - want).abs();
            assert!(error <= 2e-5 * want.abs() + 2e-6 * size, "{what}: {state} {i} is {got}, want {want}");
        }
    }
    let progress = block_on(optimizer.read_progress(tensor)).unwrap();
    for (got, want) in progress.iter().zip(oracle.progress(tensor).unwrap()) {
        assert!((f64::from(*got) - want).abs() <= 1e-5 * want.abs(), "{what}: progress {got}, want {want}");
    }
}

/// Gradients in buffers of the caller: the tensors take turns between two.
struct Pages {
    buffers: [wgpu::Buffer; 2],
    places: Vec<(usize, std::ops::Range<u64>)>,
    bytes: u64,
}

impl Pages {
    fn new(lengths: &[usize], bytes: u64) -> Self {
        let mut ends = [256_u64, 512];
        let place = |(i, n): (usize, &usize)| {
            let start = ends[i % 2];
            let end = start + (*n as u64 * bytes).next_multiple_of(4);
            ends[i % 2] = end.next_multiple_of(256);
            (i % 2, start..end)
        };
        let places = lengths.iter().enumerate().map(place).collect();
        let buffer = |size: u64| {
            GPU.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: size + 256,
                usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        };
        Self { buffers: ends.map(buffer), places, bytes }
    }

    fn write(&self, grads: &[Vec<f32>]) {
        for ((page, range), g) in self.places.iter().zip(grads) {
            let mut halves: Vec<u16> = g.iter().map(|g| half::bf16::from_f32(*g).to_bits()).collect();
            halves.resize(halves.len().next_multiple_of(2), 0);
            let bytes: &[u8] = if self.bytes == 2 { bytemuck::cast_slice(&halves) } else { bytemuck::cast_slice(g) };
            GPU.queue.write_buffer(&self.buffers[*page], range.start, bytes);
        }
    }

    fn of<'a>(&'a self, tensors: &[Tensor], taken: &[bool]) -> Vec<(Tensor, wgpu::BufferSlice<'a>)> {
        let all =
            tensors.iter().zip(&self.places).zip(taken).filter(|((_, (_, range)), taken)| **taken && !range.is_empty());
        all.map(|((t, (page, range)), _)| (*t, self.buffers[*page].slice(range.clone()))).collect()
    }
}

#[test]
fn every_rule_leaves_out_tensors() {
    for (seed, (entry, variant, rule)) in (100..).zip(rules()) {
        let options = Options { skip: true, ..Options::default() };
        follow(&format!("{} {variant}", entry.name), rule.as_ref(), options, seed);
    }
}

#[test]
fn every_rule_leaves_out_tensors_under_all_options() {
    let clips = [Clip::GlobalNorm(0.7), Clip::GroupNorm(0.7), Clip::TensorNorm(0.7), Clip::Value(0.4)];
    for (seed, entry) in (300..).zip(ALL) {
        let rule = entry.sample();
        let options =
            Options { clip: Some(clips[seed as usize % 4]), ema: true, scale: true, skip: true, ..Options::default() };
        follow(&format!("{} {options:?}", entry.name), rule.as_ref(), options, seed);
        let dynamic = Options { dynamic: true, ema: true, ..Options::default() };
        follow(&format!("{} {dynamic:?}", entry.name), rule.as_ref(), dynamic, seed + 1);
    }
}

#[test]
fn a_window_takes_the_tensors_of_all_its_micro_batches() {
    for (seed, rule) in
        [AdamW::default().boxed(), Sgd { momentum: 0.9, dampening: 0.1, ..Sgd::default() }.boxed()].iter().enumerate()
    {
        for dynamic in [false, true] {
            for accumulate in [Accumulate::Sum, Accumulate::Mean(3)] {
                let options = Options {
                    accumulate: Some(accumulate),
                    dynamic,
                    zero_grad: !dynamic,
                    clip: Some(Clip::GlobalNorm(0.7)),
                    skip: true,
                    ..Options::default()
                };
                follow(&format!("{} {options:?}", rule.name()), rule.as_ref(), options, 500 + seed as u32);
            }
        }
    }
}

#[test]
fn storage_of_a_tensor_that_is_left_out_keeps_its_bits() {
    for (seed, storage) in (600..).zip([
        "bf16-split",
        "bf16-sr",
        "8bit,min=0",
        "bf16-split,8bit,min=0",
        "f16-master,grads=bf16,states=bf16",
    ]) {
        for rule in [AdamW { weight_decay: 0.1, ..AdamW::default() }.boxed(), NAdam::default().boxed()] {
            for dynamic in [false, storage != "8bit,min=0"] {
                let options = Options { storage: Some(storage), skip: true, dynamic, ..Options::default() };
                follow(&format!("{} {options:?}", rule.name()), rule.as_ref(), options, seed);
            }
        }
    }
}

/// The scalars of the text's `at_count`, on the GPU, for these counts.
fn at_counts(rule: &dyn Rule, counts: &[f32]) -> Vec<f32> {
    let list = |scalars: &[Scalar]| {
        scalars.iter().map(|s| format!("f32({:e})", s.value() as f32)).collect::<Vec<_>>().join(", ")
    };
    let mut text = rule.text().to_owned() + include_str!("../shaders/harness/counts.wgsl");
    rule.flags().iter().for_each(|(name, value)| text += &format!("const {name}: bool = {value};\n"));
    if rule.decision().is_empty() && !rule.text().contains("struct Decision") {
        text += "struct Decision { none: f32 }\n";
    }
    if probes(&rule.procedure()) > 0 {
        text += &format!("const PROBES = {}u;\n", probes(&rule.procedure()));
    }
    text += include_str!("../shaders/harness/caution.wgsl");
    text += "fn wo_square(weight: f32, x: vec4<f32>) -> vec4<f32> { return weight * x * x; }\n";
    let (before, own) = (rule.scalars(7), rule.own_count().unwrap());
    let stores: String = before.iter().enumerate().map(|(k, s)| format!("out[at + {k}u] = h.{};\n", s.name)).collect();
    text += &format!(
        "@group(0) @binding(0) var<storage, read> counts: array<f32>;
         @group(0) @binding(1) var<storage, read_write> out: array<f32>;
         @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
             if id.x < arrayLength(&counts) {{
                 let h = at_count(Hyper({}), Own({}), counts[id.x]);
                 let at = id.x * {}u;
                 {stores}
             }}
         }}",
        list(&before),
        list(&own),
        before.len()
    );
    let source = wgpu::ShaderSource::Wgsl(text.into());
    let module = GPU.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
    let pipeline = GPU.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    });
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
    let given = buffer(bytemuck::cast_slice(counts), usage);
    let out = buffer(&vec![0; counts.len() * before.len() * 4], usage);
    let group = GPU.device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[
            wgpu::BindGroupEntry { binding: 0, resource: given.as_entire_binding() },
            wgpu::BindGroupEntry { binding: 1, resource: out.as_entire_binding() },
        ],
    });
    GPU.run(|encoder| {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(counts.len().div_ceil(64) as u32, 1, 1);
        Ok(())
    })
    .unwrap();
    bytemuck::pod_collect_to_vec(&block_on(read_buffer(&GPU.device, &GPU.queue, out.slice(..))).unwrap())
}

/// Units of 2⁻²⁴ by which a scalar that the GPU computes may be off: three times the worst that lavapipe (Mesa 22.3.6) measured, 2.67.
const SCALAR_ERROR: f64 = 8.0;

#[test]
fn scalars_at_a_count_are_those_of_the_host() {
    let counts: Vec<u64> = (1..60).chain([100, 333, 1000, 4321, 10_000, 99_999, 1_000_000, 10_000_000]).collect();
    let floats: Vec<f32> = counts.iter().map(|n| *n as f32).collect();
    let (mut worst, mut compared) = ((0.0, String::new()), 0);
    for (entry, variant, rule) in rules().filter(|(_, _, rule)| rule.own_count().is_some()) {
        let got = at_counts(rule.as_ref(), &floats);
        for (n, got) in counts.iter().zip(got.chunks(rule.scalars(1).len())) {
            for (scalar, got) in rule.scalars(*n).iter().zip(got) {
                let (got, want) = (f64::from(*got), scalar.value());
                let units = (got - want).abs() * f64::from(1 << 24) / want.abs().max(1e-30);
                if units > worst.0 {
                    worst =
                        (units, format!("{} {variant}: {} at {n} is {got:e}, want {want:e}", entry.name, scalar.name));
                }
                compared += 1;
            }
        }
    }
    assert!(compared > 10_000, "{compared}");
    eprintln!("worst: {} units, {}", worst.0, worst.1);
    assert!(worst.0 <= SCALAR_ERROR, "{} units: {}", worst.0, worst.1);
}

/// An optimizer on the GPU after some steps that left out tensors.
fn stepped(rule: &dyn Rule, options: Options) -> (Builder, Optimizer, Vec<Tensor>) {
    let (builder, tensors) = options.builder(rule);
    let mut optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
    tensors.iter().zip(start()).for_each(|(t, p)| optimizer.write_param(*t, &p).unwrap());
    (0..STEPS).for_each(|step| partial_step(&mut optimizer, &tensors, step));
    (builder, optimizer, tensors)
}

fn partial_step(optimizer: &mut Optimizer, tensors: &[Tensor], step: u32) {
    for (tensor, gradient) in tensors.iter().zip(gradients(5, step)) {
        optimizer.write_grad(*tensor, &gradient).unwrap();
    }
    let named = tensors.iter().enumerate().filter(|(t, _)| takes(5, step, *t)).map(|(_, tensor)| *tensor);
    GPU.run(|encoder| optimizer.step_tensors(encoder, named.clone())).unwrap();
}

fn counts(optimizer: &Optimizer, tensors: &[Tensor]) -> Vec<u64> {
    tensors.iter().map(|t| block_on(optimizer.read_tensor_step_count(*t)).unwrap()).collect()
}

#[test]
fn a_checkpoint_holds_the_step_count_of_every_tensor() {
    for (entry, variant, rule) in rules() {
        let options = Options { accumulate: Some(Accumulate::Sum), ..Options::default() };
        let (builder, mut optimizer, tensors) = stepped(rule.as_ref(), options);
        // The file is in the middle of a window.
        GPU.run(|encoder| optimizer.accumulate_tensors(encoder, [tensors[1]])).unwrap();
        let bytes = snapshot(&optimizer).to_bytes().unwrap();
        let file = Checkpoint::from_bytes("file", bytes).unwrap();
        let mut resumed = builder.build(&GPU.device, &GPU.queue).unwrap();
        file.restore(&mut resumed).unwrap();
        assert_eq!(counts(&resumed, &tensors), counts(&optimizer, &tensors));
        let mut host = builder.build_cpu::<f32>().unwrap();
        let mut params = start();
        file.restore_host(&mut host, &mut mutable(&mut params)).unwrap();
        let on_host: Vec<u64> = tensors.iter().map(|t| host.tensor_step_count(*t).unwrap()).collect();
        assert_eq!(on_host, counts(&optimizer, &tensors));
        let shaped = optimizer.tensors().zip(&params).map(|((.., shape), p)| (shape, p.as_slice()));
        let again = Checkpoint::of_host(&host, &shaped.collect::<Vec<_>>()).unwrap();
        assert_eq!(again.to_bytes().unwrap(), file.to_bytes().unwrap(), "{} {variant}", entry.name);
        // The first step takes the waiting tensor.
        for o in [&mut optimizer, &mut resumed] {
            GPU.run(|encoder| o.step_tensors(encoder, [])).unwrap();
            partial_step(o, &tensors, STEPS);
        }
        for tensor in &tensors {
            for ((name, a), (_, b)) in kept(&optimizer, *tensor).iter().zip(kept(&resumed, *tensor)) {
                assert_eq!(bits(a), bits(&b), "{} {variant}: {name}", entry.name);
            }
        }
    }
}

#[test]
fn files_with_and_without_counts_of_tensors_fit_where_they_say_the_same() {
    let rule = AdamW::default();
    let (builder, optimizer, _) = stepped(&rule, Options::default());
    let own = snapshot(&optimizer);
    let mut plain = builder.clone();
    plain.partial_steps(false);
    let mut one_count = plain.build(&GPU.device, &GPU.queue).unwrap();
    let error = own.restore(&mut one_count).unwrap_err().to_string();
    assert!(error.contains("steps of 7: tell the builder of counts of its own with partial_steps(true)"), "{error}");
    GPU.run(|encoder| one_count.step(encoder)).unwrap();
    GPU.run(|encoder| one_count.step(encoder)).unwrap();
    let mut partial = builder.build(&GPU.device, &GPU.queue).unwrap();
    snapshot(&one_count).restore(&mut partial).unwrap();
    let first = partial.tensor("tensor 0").unwrap();
    assert_eq!(block_on(partial.read_tensor_step_count(first)).unwrap(), 2);
    // And back: every tensor has the count of the optimizer.
    snapshot(&partial).restore(&mut one_count).unwrap();
    assert_eq!(block_on(one_count.read_step_count()).unwrap(), 2);
}

#[test]
fn torch_has_a_step_count_for_every_tensor() {
    let (builder, optimizer, tensors) = stepped(&AdamW::default(), Options::default());
    let bytes = snapshot(&optimizer).to_torch().unwrap();
    let steps: Vec<u64> =
        (0..LENGTHS.len()).map(|t| support::array::of_file(&bytes, &format!("step/tensor {t}"))[0] as u64).collect();
    assert_eq!(steps, counts(&optimizer, &tensors));
    assert!(steps.iter().any(|step| *step != steps[0]));
    let mut restored = builder.build(&GPU.device, &GPU.queue).unwrap();
    restore_torch("torch", bytes.clone(), &mut restored).unwrap();
    assert_eq!(counts(&restored, &tensors), steps);
    assert_eq!(block_on(restored.read_step_count()).unwrap(), *steps.iter().max().unwrap());
    let mut plain = builder.clone();
    let mut plain = plain.partial_steps(false).build(&GPU.device, &GPU.queue).unwrap();
    let error = restore_torch("torch", bytes, &mut plain).unwrap_err().to_string();
    assert!(error.contains("all tensors of a rule have one count, tell the builder partial_steps(true)"), "{error}");
}

#[test]
fn wrong_calls_name_the_call_that_mends_them() {
    let (mut builder, tensors) = Options::default().builder(&AdamW::default());
    let whole = builder.partial_steps(false);
    let mut optimizer = whole.build(&GPU.device, &GPU.queue).unwrap();
    let mut host = whole.build_cpu::<f32>().unwrap();
    let mut params = start();
    let mut encoder = GPU.device.create_command_encoder(&Default::default());
    let allow = "tell the builder with partial_steps(true)";
    for error in [
        optimizer.step_tensors(&mut encoder, [tensors[0]]).unwrap_err(),
        optimizer.write_tensor_step_count(tensors[0], 3).unwrap_err(),
        host.step_tensors(&mut mutable(&mut params), &[None; 5]).unwrap_err(),
        host.set_tensor_step_count(tensors[0], 3).unwrap_err(),
    ] {
        assert!(error.to_string().contains(allow), "{error}");
    }
    let staged = FlowAdam { integrator: Integrator::Rk4, ..FlowAdam::default() };
    let (builder, _) = Options::default().builder(&staged);
    for error in [builder.build(&GPU.device, &GPU.queue).unwrap_err(), builder.build_cpu::<f32>().unwrap_err()] {
        assert!(error.to_string().contains("does not work with step counts of single tensors or rows"), "{error}");
    }
    let text = "struct Hyper { lr: f32, step: f32 }
        fn update(h: Hyper, d: Decision, p: vec4<f32>, g: vec4<f32>, s: ptr<function, State>) -> vec4<f32> { return -h.lr / h.step * g; }";
    let custom = CustomRule::from_wgsl("mine", text).unwrap().setting("lr", 0.1, Range::NOT_NEGATIVE);
    let (builder, _) = Options::default().builder(&custom);
    let error = builder.build(&GPU.device, &GPU.queue).unwrap_err().to_string();
    assert!(error.contains("Hyper.step of mine depends on the step count, and its text has no at_count"), "{error}");
}

/// The example of the issue: zeros are not the same as no gradient.
#[test]
fn decay_does_not_reach_a_tensor_that_is_left_out() {
    let rule = AdamW { lr: 0.1, weight_decay: 0.5, ..AdamW::default() };
    let mut builder = Optimizer::builder(rule);
    let [a, b] = ["a", "b"].map(|name| builder.tensor(Group::DEFAULT, name, &[1]));
    let mut optimizer = builder.partial_steps(true).build(&GPU.device, &GPU.queue).unwrap();
    let read = |o: &Optimizer, t| block_on(o.read_param(t)).unwrap()[0];
    [a, b].into_iter().for_each(|t| optimizer.write_param(t, &[1.0]).unwrap());
    optimizer.write_grad(b, &[1.0]).unwrap();
    GPU.run(|encoder| optimizer.step(encoder)).unwrap();
    let before = read(&optimizer, b);
    assert!((before - 0.85).abs() < 1e-6, "{before}");
    GPU.run(|encoder| optimizer.step_tensors(encoder, [a])).unwrap();
    assert_eq!(read(&optimizer, b), before);
    optimizer.write_grad(b, &[0.0]).unwrap();
    GPU.run(|encoder| optimizer.step(encoder)).unwrap();
    assert!((read(&optimizer, b) - 0.7405).abs() < 1e-4, "{}", read(&optimizer, b));
}

/// The parameters after a step with evaluations whose gradients lie in a buffer of the test. `named`: the tensors of the step. `None`: the
/// step names none and reads the bound gradients.
fn evaluated(named: Option<&[usize]>) -> Vec<Vec<f32>> {
    let mut builder = Optimizer::builder(AdamW { lr: 0.1, weight_decay: 0.5, ..AdamW::default() });
    let tensors = ["a", "b"].map(|name| builder.tensor(Group::DEFAULT, name, &[64]));
    let mut optimizer = builder.partial_steps(true).dynamic_gradients(true).build(&GPU.device, &GPU.queue).unwrap();
    for tensor in tensors {
        optimizer.write_param(tensor, &[1.0; 64]).unwrap();
        optimizer.write_grad(tensor, &[1.0; 64]).unwrap();
    }
    let gradients = buffer(bytemuck::cast_slice(&[2.0f32; 64]), wgpu::BufferUsages::STORAGE);
    GPU.run(|encoder| {
        let mut step = optimizer.begin_step()?;
        while step.next(encoder)?.is_some() {
            if let Some(named) = named {
                step.set_grads(named.iter().map(|t| (tensors[*t], gradients.slice(..))))?;
            }
        }
        Ok(())
    })
    .unwrap();
    tensors.into_iter().map(|tensor| block_on(optimizer.read_param(tensor)).unwrap()).collect()
}

#[test]
fn a_step_with_evaluations_takes_the_tensors_that_it_names() {
    let moved = |param: &[f32]| param.iter().all(|x| (x - 0.85).abs() < 1e-6);
    let stays = |param: &[f32]| param.iter().all(|x| *x == 1.0);
    let bound = evaluated(None);
    assert!(moved(&bound[0]) && moved(&bound[1]), "{bound:?}");
    let both = evaluated(Some(&[0, 1]));
    assert!(moved(&both[0]) && moved(&both[1]), "{both:?}");
    let second = evaluated(Some(&[1]));
    assert!(stays(&second[0]) && moved(&second[1]), "{second:?}");
    let none = evaluated(Some(&[]));
    assert!(stays(&none[0]) && stays(&none[1]), "{none:?}");
}

/// Widths of the rows of a set: a row in one lane, across lanes, and across chunks.
const WIDTHS: [usize; 3] = [1, 3, 48];
const ROWS: usize = 70;
const ROOM: usize = 90;

/// What a row set has beside fresh rows.
#[derive(Clone, Copy, Debug, Default)]
struct Set {
    mask: bool,
    nonzero: bool,
    shared: bool,
    columns: bool,
    partial: bool,
    ema: bool,
    master: bool,
}

impl Set {
    fn builder(self, rule: &dyn Rule) -> (Builder, Vec<Tensor>, RowSet) {
        let mut builder = Optimizer::builder(rule.boxed());
        let tensors = WIDTHS.map(|width| builder.tensor(Group::DEFAULT, format!("width {width}"), &[ROWS, width]));
        let other = builder.tensor(Group::DEFAULT, "other", &[9]);
        let rows = builder.row_set("rows", &tensors);
        builder.fresh_rows(rows).row_capacity(rows, ROOM).skip_nonfinite(true).undamped_steps(true);
        builder.partial_steps(self.partial);
        if self.mask {
            builder.mask(rows);
        }
        if self.nonzero {
            builder.skip_zero_gradients(rows);
        }
        if self.shared {
            builder.share_second_moment(tensors[1]).share_second_moment(tensors[2]);
        }
        if self.columns {
            builder.column_rates(tensors[1], &[1.0, 0.5, 2.0]);
        }
        if self.ema {
            builder.ema(Ema { decay: 0.9, warmup: false });
        }
        if self.master {
            builder.storage("bf16-master,grads=f32".parse().unwrap());
        }
        (builder, [&tensors[..], &[other]].concat(), rows)
    }
}

fn words(words: &[u32]) -> wgpu::Buffer {
    buffer(bytemuck::cast_slice(words), wgpu::BufferUsages::COPY_SRC)
}

fn buffer(contents: &[u8], usage: wgpu::BufferUsages) -> wgpu::Buffer {
    use wgpu::util::DeviceExt as _;
    GPU.device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents, usage })
}

/// Whether a rule may have fresh rows.
fn allows_rows(rule: &dyn Rule) -> bool {
    let (builder, ..) = Set::default().builder(rule);
    builder.build_cpu::<f32>().is_ok()
}

/// Steps, masks, zero gradients, remaps and resets, on the GPU, on the fast path and in the oracle.
fn follow_rows(what: &str, rule: &dyn Rule, set: Set, seed: u32) {
    let (builder, tensors, rows) = set.builder(rule);
    let mut optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
    let (mut oracle, mut fast) = (builder.build_cpu::<f64>().unwrap(), builder.build_cpu::<f32>().unwrap());
    let mut count = ROWS;
    let lengths = |count: usize| WIDTHS.map(|width| width * count).into_iter().chain([9]).collect::<Vec<_>>();
    let first: Vec<Vec<f32>> = lengths(ROWS).iter().enumerate().map(|(t, n)| numbers(seed + t as u32, *n)).collect();
    let (mut params, mut fast_params) = (wide::<f64>(&first), first.clone());
    oracle.store_params(&mut mutable(&mut params)).unwrap();
    fast.store_params(&mut mutable(&mut fast_params)).unwrap();
    tensors.iter().zip(&first).for_each(|(t, p)| optimizer.write_param(*t, p).unwrap());
    let mut path: Vec<Vec<f64>> = params.iter().map(|p| vec![0.0; p.len()]).collect();
    for step in 0..10_u32 {
        let mut grads: Vec<Vec<f32>> =
            lengths(count).iter().enumerate().map(|(t, n)| numbers(seed ^ (31 * step + t as u32), *n)).collect();
        for (i, g) in grads.iter_mut().flatten().enumerate() {
            if set.nonzero && hash(seed + step, i as u32).is_multiple_of(3) {
                *g = 0.0;
            }
        }
        if step == 4 {
            grads[3][0] = f32::NAN;
        }
        if set.mask {
            let flags: Vec<u32> =
                (0..count as u32).map(|row| u32::from(!hash(seed + 7 * step, row).is_multiple_of(3))).collect();
            optimizer.write_mask(rows, &flags).unwrap();
            oracle.write_mask(rows, &flags).unwrap();
            fast.write_mask(rows, &flags).unwrap();
        }
        tensors.iter().zip(&grads).for_each(|(t, g)| optimizer.write_grad(*t, g).unwrap());
        let taken: Vec<bool> =
            (0..4).map(|t| !set.partial || step == 4 || !(step as usize + t).is_multiple_of(3)).collect();
        let mut record = |encoder: &mut wgpu::CommandEncoder| {
            let named: Vec<Tensor> = tensors.iter().zip(&taken).filter(|(_, taken)| **taken).map(|(t, _)| *t).collect();
            if set.partial { optimizer.step_tensors(encoder, named) } else { optimizer.step(encoder) }
        };
        let mut dropped = GPU.device.create_command_encoder(&Default::default());
        record(&mut dropped).unwrap();
        drop(dropped);
        GPU.run(&mut record).unwrap();
        let was = params.clone();
        let wide = wide::<f64>(&grads);
        if set.partial {
            oracle.step_tensors(&mut mutable(&mut params), &some(&wide, &taken)).unwrap();
            fast.step_tensors(&mut mutable(&mut fast_params), &some(&grads, &taken)).unwrap();
        } else {
            oracle.step(&mut mutable(&mut params), &slices(&wide)).unwrap();
            fast.step(&mut mutable(&mut fast_params), &slices(&grads)).unwrap();
        }
        for (path, (p, was)) in path.iter_mut().zip(params.iter().zip(&was)) {
            path.iter_mut().zip(p.iter().zip(was)).for_each(|(path, (p, was))| *path += (p - was).abs());
        }
        if step % 4 == 2 {
            let flags: Vec<u32> =
                (0..count as u32).map(|row| u32::from(hash(seed + step, row).is_multiple_of(4))).collect();
            let buffer = words(&flags);
            GPU.run(|encoder| optimizer.reset_rows(encoder, rows, buffer.slice(..))).unwrap();
            oracle.reset_rows(rows, &flags, &slices(&params)[..3]).unwrap();
            fast.reset_rows(rows, &flags, &slices(&fast_params)[..3]).unwrap();
        }
        if step % 4 == 1 {
            let new = if step == 1 { ROOM - 3 } else { ROWS - 9 };
            let pick = |row: u32| {
                if hash(seed + step, row).is_multiple_of(5) { u32::MAX } else { hash(seed, row) % count as u32 }
            };
            let indices: Vec<u32> = (0..new as u32).map(pick).collect();
            let buffer = words(&indices);
            GPU.run(|encoder| optimizer.remap(encoder, rows, buffer.slice(..), new)).unwrap();
            oracle.remap(rows, &indices, &mut params[..3].iter_mut().collect::<Vec<_>>()).unwrap();
            fast.remap(rows, &indices, &mut fast_params[..3].iter_mut().collect::<Vec<_>>()).unwrap();
            path = params
                .iter()
                .zip(&path)
                .map(|(p, old)| {
                    let most = old.iter().fold(0.0_f64, |most, x| most.max(*x));
                    vec![most; p.len()]
                })
                .collect();
            count = new;
        }
    }
    for (t, tensor) in tensors.iter().enumerate() {
        let what = format!("{what}: tensor {t}");
        let got = block_on(optimizer.read_param(*tensor)).unwrap();
        if set.master {
            let shapes: Vec<Vec<usize>> = WIDTHS.iter().map(|width| vec![count, *width]).chain([vec![9]]).collect();
            let all: Vec<(&[usize], &[f64])> = shapes.iter().map(Vec::as_slice).zip(slices(&params)).collect();
            let name = optimizer.tensors().nth(t).unwrap().1.to_owned();
            let want = Checkpoint::of_host(&oracle, &all).unwrap().params(&name).unwrap();
            close(&what, 10, &got, &want.iter().copied().map(f64::from).collect::<Vec<_>>(), &path[t]);
        } else {
            close(&what, 10, &got, &params[t], &path[t]);
            close(&format!("{what}, fast"), 10, &fast_params[t], &params[t], &path[t]);
        }
        check_states(&what, &optimizer, &oracle, *tensor);
        if t < 3 && rule.own_count().is_some() {
            let steps = block_on(optimizer.read_state(*tensor, "steps")).unwrap();
            let shapes: Vec<Vec<usize>> = WIDTHS.iter().map(|width| vec![count, *width]).chain([vec![9]]).collect();
            let all: Vec<(&[usize], &[f64])> = shapes.iter().map(Vec::as_slice).zip(slices(&params)).collect();
            let name = optimizer.tensors().nth(t).unwrap().1.to_owned();
            let want = Checkpoint::of_host(&oracle, &all).unwrap().array(&name, "steps").unwrap();
            assert_eq!(steps, want, "{what}");
            assert!(steps.iter().any(|n| *n != steps[0]), "{what}: {steps:?}");
        }
    }
}

fn slices<F>(values: &[Vec<F>]) -> Vec<&[F]> {
    values.iter().map(Vec::as_slice).collect()
}

#[test]
fn every_rule_has_fresh_rows() {
    let mut checked = 0;
    for (seed, (entry, variant, rule)) in (900..).zip(rules()).filter(|(_, (_, _, rule))| allows_rows(rule.as_ref())) {
        follow_rows(&format!("{} {variant}", entry.name), rule.as_ref(), Set::default(), seed);
        checked += 1;
    }
    assert!(checked > 25, "{checked} variants");
}

#[test]
fn fresh_rows_go_with_every_option_of_rows() {
    let every = [
        Set { mask: true, columns: true, ..Set::default() },
        Set { nonzero: true, ema: true, ..Set::default() },
        Set { mask: true, shared: true, ..Set::default() },
        Set { partial: true, mask: true, ..Set::default() },
        Set { master: true, mask: true, ..Set::default() },
    ];
    for (seed, entry) in (1200..).zip(ALL) {
        let rule = entry.sample();
        if !allows_rows(rule.as_ref()) {
            continue;
        }
        for (i, set) in every.into_iter().enumerate() {
            let probes = probes(&rule.procedure()) > 0;
            if (set.shared && !rule.shares_rows()) || (set.master && probes) {
                continue;
            }
            let set = Set { columns: set.columns && !rule.needs_one_rate(), ..set };
            follow_rows(&format!("{} {set:?}", entry.name), rule.as_ref(), set, seed + 100 * i as u32);
        }
    }
}

/// The lengths of the steps of a row that was reset after a thousand steps with a constant gradient, and of a new optimizer.
fn lengths_after_reset(rule: &dyn Rule, fresh: bool) -> (Vec<f32>, Vec<f32>) {
    let mut builder = Optimizer::builder(rule.boxed());
    let w = builder.tensor(Group::DEFAULT, "w", &[3, 2]);
    let rows = builder.row_set("rows", &[w]);
    if fresh {
        builder.fresh_rows(rows);
    }
    let mut optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
    let mut new = builder.build(&GPU.device, &GPU.queue).unwrap();
    let gradient = [0.5; 6];
    optimizer.write_grad(w, &gradient).unwrap();
    new.write_grad(w, &gradient).unwrap();
    for _ in 0..10 {
        let mut encoder = GPU.device.create_command_encoder(&Default::default());
        (0..100).for_each(|_| optimizer.step(&mut encoder).unwrap());
        GPU.queue.submit([encoder.finish()]);
        GPU.wait().unwrap();
    }
    let flags = words(&[0, 1, 0]);
    GPU.run(|encoder| optimizer.reset_rows(encoder, rows, flags.slice(..))).unwrap();
    // The change of parameters near 0 has all its digits.
    let walk = |optimizer: &mut Optimizer| -> Vec<f32> {
        let step = |_| {
            optimizer.write_param(w, &[0.0; 6]).unwrap();
            GPU.run(|encoder| optimizer.step(encoder)).unwrap();
            block_on(optimizer.read_param(w)).unwrap()[2]
        };
        (0..12).map(step).collect()
    };
    (walk(&mut optimizer), walk(&mut new))
}

#[test]
fn a_row_that_begins_anew_takes_the_steps_of_a_new_optimizer() {
    for (entry, variant, rule) in rules().filter(|(_, _, rule)| allows_rows(rule.as_ref()) && rule.sums().sums == 0) {
        if probes(&rule.procedure()) > 0 {
            continue;
        }
        let (reset, new) = lengths_after_reset(rule.as_ref(), true);
        for (i, (reset, new)) in reset.iter().zip(&new).enumerate() {
            assert!((reset - new).abs() <= 2e-6 * new.abs(), "{} {variant}, step {i}: {reset}, new {new}", entry.name);
        }
    }
    // How long they are without a count of their own.
    let adam = Adam { lr: 1e-3, ..Adam::default() };
    let nadam = NAdam { lr: 1e-3, ..NAdam::default() };
    for (rule, times) in [(adam.boxed(), 2.5), (nadam.boxed(), 25.5)] {
        let (reset, new) = lengths_after_reset(rule.as_ref(), false);
        assert!((reset[0] / new[0] - times).abs() < 0.1 * times, "{}: {} times", rule.name(), reset[0] / new[0]);
    }
}

#[test]
fn a_checkpoint_holds_the_step_count_of_every_row() {
    for rule in [
        AdamW::default().boxed(),
        NAdam::default().boxed(),
        Sgd { momentum: 0.9, dampening: 0.2, ..Sgd::default() }.boxed(),
    ] {
        let (builder, tensors, rows) = Set { mask: true, ..Set::default() }.builder(rule.as_ref());
        let mut optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
        let step = |optimizer: &mut Optimizer, number: u32| {
            for tensor in &tensors {
                let n = block_on(optimizer.read_param(*tensor)).unwrap().len();
                optimizer.write_grad(*tensor, &numbers(number, n)).unwrap();
            }
            let flags: Vec<u32> = (0..ROWS as u32).map(|row| hash(number, row) % 2).collect();
            optimizer.write_mask(rows, &flags).unwrap();
            GPU.run(|encoder| optimizer.step(encoder)).unwrap();
        };
        (0..5).for_each(|number| step(&mut optimizer, number));
        let file = Checkpoint::from_bytes("file", snapshot(&optimizer).to_bytes().unwrap()).unwrap();
        let mut resumed = builder.build(&GPU.device, &GPU.queue).unwrap();
        file.restore(&mut resumed).unwrap();
        (5..8).for_each(|number| [&mut optimizer, &mut resumed].into_iter().for_each(|o| step(o, number)));
        for tensor in &tensors {
            for ((name, a), (_, b)) in kept(&optimizer, *tensor).iter().zip(kept(&resumed, *tensor)) {
                assert_eq!(bits(a), bits(&b), "{}: {name}", rule.name());
            }
        }
        // A file without these counts: every row has made the steps of the optimizer.
        let mut plain = Optimizer::builder(rule.boxed());
        let handles = WIDTHS.map(|width| plain.tensor(Group::DEFAULT, format!("width {width}"), &[ROWS, width]));
        plain.tensor(Group::DEFAULT, "other", &[9]);
        plain.row_set("rows", &handles);
        let mut plain = plain.build(&GPU.device, &GPU.queue).unwrap();
        (0..3).for_each(|_| GPU.run(|encoder| plain.step(encoder)).unwrap());
        snapshot(&plain).restore(&mut resumed).unwrap();
        let steps = block_on(resumed.read_state(tensors[1], "steps")).unwrap();
        assert!(steps.iter().all(|n| *n == 3.0), "{steps:?}");
    }
}

#[test]
fn rules_without_counts_of_rows_say_why() {
    for (rule, why) in [
        (AdaiW::new(0.1).boxed(), "sums over elements, which all need one step count: no fresh_rows"),
        (SgdScheduleFree::default().boxed(), "keeps the weights of its average once per tensor: no fresh_rows"),
    ] {
        let (builder, ..) = Set::default().builder(rule.as_ref());
        let error = builder.build(&GPU.device, &GPU.queue).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    // A rule whose scalars do not depend on the count keeps no array.
    let (builder, tensors, _) = Set::default().builder(&Lion::default());
    let optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
    assert!(!optimizer.state_names(tensors[0]).unwrap().contains(&"steps"));
}
