//! The proof on the user's own machines: ranks take the trajectory of one process that is given the mean gradient.
//!
//! Every rank runs the reference too, a plain optimizer of the same builder on its own device. Gradients are functions of the rank, the step
//! and the place, so that every rank knows those of all ranks. Each rank compares all parameters, and the states of its shard.

use std::ops::Range;
use std::path::Path;

use wgpu_optim::optim::Rule;
use wgpu_optim::storage::{Format, half};
use wgpu_optim::tools::adapter::Gpu;
use wgpu_optim::{
    Adafactor, Adai, AdamW, Builder, Clip, Ema, Group, Lamb, Lion, LossScale, Muon, Optimizer, Prodigy, Tensor, VRAdam,
    WarpAdam, read_buffer, wgpu,
};

use crate::checkpoint::join;
use crate::tools::noise;
use crate::{Error, Options, Result, Sharded, States, Wire, World};

/// The shapes of tensors.
type Shapes = &'static [&'static [usize]];

/// Tensors longer and shorter than a chunk, an empty one, and lengths that are no whole vec4s.
const VECTORS: Shapes = &[&[5000], &[7], &[0], &[1024], &[9001], &[300]];
/// Fewer elements than ranks have chunks: all ranks but the first are empty.
const FEW: Shapes = &[&[10]];
/// The second tensor lies on the last rank alone.
const LAST: Shapes = &[&[9000], &[300]];
/// Matrices of all proportions, batches of them, and an empty one.
const MATRICES: Shapes = &[&[64, 80], &[7, 3], &[3, 20, 33], &[0, 4], &[130, 70], &[2, 300]];
/// Matrices between vectors.
const MIXED: Shapes = &[&[64, 80], &[9001], &[3, 20, 33], &[300], &[70, 10], &[7], &[31, 2]];
/// Matrices, vectors, and tensors of both kinds in turn.
const THREE: Shapes = &[&[64, 80], &[9001], &[3, 20, 33], &[70, 10], &[300], &[5000], &[31, 2], &[7], &[40, 90]];
/// One matrix, and ranks without any.
const FEW_MATRICES: Shapes = &[&[24, 60]];
/// Steps of a trajectory.
const STEPS: u32 = 6;
/// The step in which the last rank has a NaN, where a case has one.
const POISONED: u32 = 3;
/// The row set of a case, the step after which its rows move, and the count of rows from then on.
const ROWS: &str = "rows";
const MOVED: u32 = 2;
const FEWER: usize = 4500;
/// The largest difference of a number, as a share of the largest number of its array, where sums over ranks round otherwise than sums in one
/// process.
const CLOSE: f32 = 2e-6;

/// One comparison.
struct Case {
    name: &'static str,
    rule: Box<dyn Rule>,
    /// Further rules, each with a group of its own: the tensors belong to the groups in turn.
    others: Vec<Box<dyn Rule>>,
    storage: &'static str,
    shapes: Shapes,
    options: Options,
    /// Clip by the global norm, loss scale and average, with a NaN in one step of one rank.
    guarded: bool,
    /// The first tensor is a row set, whose rows move once.
    rows: bool,
    /// Whether ranks give the same bits as one process.
    exact: bool,
}

/// The outcome of a case over all ranks.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The name of the case.
    pub name: &'static str,
    /// The largest difference of a number, as a share of the largest number of its array.
    pub worst: f32,
    /// The largest difference that passes: 0 where the bits must be equal.
    pub tolerance: f32,
    /// What else went wrong.
    pub problem: Option<String>,
}

impl Outcome {
    /// Whether the case passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.problem.is_none() && self.worst <= self.tolerance
    }
}

fn adamw() -> AdamW {
    AdamW { lr: 1e-2, weight_decay: 0.1, ..AdamW::default() }
}

fn cases() -> Vec<Case> {
    let vradam = || VRAdam { weight_decay: 0.1, beta3: 0.01, ..VRAdam::default() };
    let lamb = || Lamb { weight_decay: 0.1, ..Lamb::default() };
    let adafactor = || Adafactor { weight_decay: 0.1, ..Adafactor::default() };
    let adai = || Adai { weight_decay: 0.1, ..Adai::new(0.01) };
    // Small buckets, so that every case has several.
    let options = Options { bucket: 16_384, ..Options::default() };
    let whole = Options { states: States::Whole, ..options };
    let case = |name, rule: Box<dyn Rule>, storage, exact| Case {
        name,
        rule,
        others: Vec::new(),
        storage,
        shapes: VECTORS,
        options,
        guarded: false,
        rows: false,
        exact,
    };
    vec![
        case("adamw", Box::new(adamw()), "f32", true),
        case("adamw bf16-sr,8bit", Box::new(adamw()), "bf16-sr,8bit", true),
        case("adamw f16-master", Box::new(adamw()), "f16-master,states=bf16", true),
        case("vradam", Box::new(vradam()), "f32", false),
        case("lamb", Box::new(lamb()), "f32", false),
        case("adai", Box::new(adai()), "f32", false),
        Case { guarded: true, ..case("adamw guarded", Box::new(adamw()), "f32", false) },
        Case { guarded: true, ..case("vradam guarded", Box::new(vradam()), "f32", false) },
        Case { guarded: true, ..case("lamb guarded", Box::new(lamb()), "f32", false) },
        Case { guarded: true, ..case("adai guarded", Box::new(adai()), "f32", false) },
        Case {
            options: Options { wire: Wire::Bf16, ..options },
            ..case("adamw, gradients in bf16 between ranks", Box::new(adamw()), "f32", true)
        },
        Case { options: Options::default(), ..case("adamw in one bucket", Box::new(adamw()), "f32", true) },
        Case { shapes: FEW, ..case("adamw with empty ranks", Box::new(adamw()), "f32", true) },
        Case { shapes: FEW, guarded: true, ..case("lamb with empty ranks", Box::new(lamb()), "f32", false) },
        case("warpadam", Box::<WarpAdam>::default(), "f32", true),
        Case { rows: true, ..case("adamw with a row set", Box::new(adamw()), "bf16-master", true) },
        Case { rows: true, ..case("vradam with a row set", Box::new(vradam()), "f32", false) },
        case("prodigy", Box::<Prodigy>::default(), "f32", false),
        case("adamw cautious", Box::new(AdamW { cautious: true, ..adamw() }), "f32", false),
        case("vradam cautious", Box::new(VRAdam { cautious: true, ..vradam() }), "f32", false),
        Case { shapes: MATRICES, ..case("muon", Box::<Muon>::default(), "f32", true) },
        Case { shapes: MATRICES, ..case("adafactor", Box::new(adafactor()), "bf16-sr", true) },
        Case { shapes: FEW_MATRICES, ..case("muon with empty ranks", Box::<Muon>::default(), "f32", true) },
        Case { shapes: FEW_MATRICES, ..case("adafactor with empty ranks", Box::new(adafactor()), "f32", true) },
        Case {
            others: vec![Box::new(adamw())],
            shapes: MIXED,
            ..case("muon beside adamw", Box::<Muon>::default(), "bf16-sr,8bit", true)
        },
        Case {
            others: vec![Box::new(adamw())],
            shapes: MIXED,
            guarded: true,
            ..case("muon beside adamw guarded", Box::<Muon>::default(), "f32", false)
        },
        Case {
            others: vec![Box::new(adamw())],
            shapes: MIXED,
            guarded: true,
            ..case("adafactor beside adamw guarded", Box::new(adafactor()), "f32", false)
        },
        Case { options: whole, shapes: MATRICES, ..case("muon, whole states", Box::<Muon>::default(), "f32", true) },
        Case { others: vec![Box::new(lamb())], ..case("adamw and lamb", Box::new(adamw()), "f32", false) },
        Case {
            others: vec![Box::new(vradam())],
            guarded: true,
            ..case("adai and vradam guarded", Box::new(adai()), "f32", false)
        },
        Case {
            others: vec![Box::<Lion>::default()],
            shapes: LAST,
            ..case("adamw, and lion on the last rank", Box::new(adamw()), "f32", true)
        },
        Case {
            others: vec![Box::new(vradam())],
            shapes: LAST,
            guarded: true,
            ..case("lamb, and vradam on the last rank, guarded", Box::new(lamb()), "f32", false)
        },
        Case {
            others: vec![Box::new(vradam())],
            shapes: FEW,
            guarded: true,
            ..case("adamw, and vradam without elements, guarded", Box::new(adamw()), "f32", false)
        },
        Case { options: whole, ..case("adamw, whole states", Box::new(adamw()), "bf16-sr,8bit", true) },
        Case { options: whole, guarded: true, ..case("lamb, whole states", Box::new(lamb()), "f32", true) },
    ]
}

/// The names of all cases.
#[must_use]
pub fn names() -> Vec<&'static str> {
    cases().iter().map(|case| case.name).collect()
}

/// Runs the cases with names that contain `filter`, and saves checkpoints in `folder`, which all ranks share. Every rank must call this and gets
/// the same outcomes. `report` gets each outcome.
///
/// # Errors
/// A case cannot run; a rank does not answer; no case has such a name.
pub fn run(
    world: &World,
    gpu: &Gpu,
    filter: &str,
    folder: &Path,
    mut report: impl FnMut(&Outcome),
) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for case in cases().into_iter().filter(|case| case.name.contains(filter)) {
        // An error of this rank alone ends the others too: they wait for its next message.
        let outcome = world.shared(case.run(world, gpu, folder))?;
        report(&outcome);
        outcomes.push(outcome);
    }
    if outcomes.is_empty() {
        return Err(Error::Usage(format!("no case has `{filter}` in its name; there are: {}", names().join("; "))));
    }
    Ok(outcomes)
}

impl Case {
    fn builder(&self) -> Builder {
        let mut builder = Optimizer::builder(self.rule.boxed());
        let mut groups = vec![Group::DEFAULT];
        // Without another rule, the groups have the same.
        let others = if self.others.is_empty() { std::slice::from_ref(&self.rule) } else { &self.others };
        groups.extend(others.iter().enumerate().map(|(i, rule)| builder.group(format!("other {i}"), rule.boxed())));
        for (i, shape) in self.shapes.iter().enumerate() {
            builder.tensor(groups[i % groups.len()], format!("t{i}"), shape);
        }
        let frozen = builder.tensor(groups[1], "frozen", &[3, 3]);
        builder.freeze(frozen).seed(11);
        if self.rows
            && let Ok(first) = builder.find_tensor("t0")
        {
            let set = builder.row_set(ROWS, &[first]);
            builder.row_capacity(set, self.size(0) + 1000).skip_zero_gradients(set);
        }
        if let Ok(storage) = self.storage.parse() {
            builder.storage(storage);
        }
        if self.guarded {
            builder.clip(Clip::GlobalNorm(3.0)).loss_scale(LossScale { initial: 4.0, ..LossScale::default() });
            builder.ema(Ema::default()).telemetry(true);
        }
        builder
    }

    /// The gradient of a rank, as the rank stores it.
    fn gradient(&self, rank: usize, ranks: usize, t: u32, tensor: usize, format: Format) -> Vec<f32> {
        let elements = self.elements(t, tensor);
        let seed = 1000 * t + 31 * tensor as u32 + 7919 * rank as u32;
        let mut numbers: Vec<f32> = (0..elements as u32).map(|at| stored(format, noise(seed, at))).collect();
        if self.guarded && t == POISONED && rank + 1 == ranks && tensor == 0 {
            numbers[elements / 2] = f32::NAN;
        }
        numbers
    }

    /// Elements of a tensor in a step.
    fn elements(&self, t: u32, tensor: usize) -> usize {
        if self.rows && tensor == 0 && t > MOVED { FEWER } else { self.size(tensor) }
    }

    /// Elements of a tensor at first; the last is frozen.
    fn size(&self, tensor: usize) -> usize {
        self.shapes.get(tensor).map_or(9, |shape| shape.iter().product())
    }

    /// Moves the rows of the row set, on one process and on all ranks.
    fn move_rows(&self, one: &mut Optimizer, ranks: &mut Sharded, gpu: &Gpu) -> Result<()> {
        let indices: Vec<u32> =
            (0..FEWER as u32).map(|row| if row % 7 == 0 { u32::MAX } else { row * 13 % self.size(0) as u32 }).collect();
        let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let size = indices.len() as u64 * 4;
        let descriptor = wgpu::BufferDescriptor { label: Some("indices"), size, usage, mapped_at_creation: false };
        let buffer = gpu.device.create_buffer(&descriptor);
        gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&indices));
        let set = one.row_set(ROWS)?;
        gpu.run(|encoder| one.remap(encoder, set, buffer.slice(..), FEWER))?;
        let set = ranks.optimizer().row_set(ROWS)?;
        ranks.remap(set, buffer.slice(..), FEWER)
    }

    /// The mean of the gradients of all ranks, as a process would compute it.
    fn mean(&self, ranks: usize, t: u32, tensor: usize, format: Format) -> Vec<f32> {
        let sent = |x: f32| {
            if self.options.wire == Wire::Bf16 && format == Format::F32 && ranks > 1 {
                stored(Format::Bf16, x)
            } else {
                x
            }
        };
        let mut sums = vec![0.0_f64; self.elements(t, tensor)];
        for rank in 0..ranks {
            let numbers = self.gradient(rank, ranks, t, tensor, format);
            sums.iter_mut().zip(numbers).for_each(|(sum, x)| *sum += f64::from(sent(x)));
        }
        sums.into_iter().map(|sum| (sum / ranks as f64) as f32).collect()
    }

    fn run(&self, world: &World, gpu: &Gpu, folder: &Path) -> Result<Outcome> {
        let builder = self.builder();
        let mut one = builder.build(&gpu.device, &gpu.queue)?;
        let mut ranks = Sharded::build(&builder, world, self.options, &gpu.device, &gpu.queue)?;
        start(&one)?;
        // Rank 0 alone has the parameters at first.
        if world.rank() == 0 {
            start(ranks.optimizer())?;
        }
        ranks.share_params()?;
        let formats: Vec<Format> = builder.cuts()?.iter().map(|cut| cut.grads).collect();
        let mut worst: f32 = 0.0;
        for t in 1..=STEPS {
            self.step(&mut one, &mut ranks, gpu, t, &formats)?;
            if self.rows && t == MOVED {
                self.move_rows(&mut one, &mut ranks, gpu)?;
            }
            worst = worse(worst, difference(gpu, &one, &ranks)?);
        }
        let mut problem = self.counters(&one, &mut ranks)?;
        let path = folder.join("verify.safetensors");
        ranks.save(&path)?;
        problem = problem.or(self.joined(&one, gpu, &path)?);
        // A resume on the same ranks continues bit for bit.
        let mut again = Sharded::build(&builder, world, self.options, &gpu.device, &gpu.queue)?;
        again.load(&path)?;
        self.step(&mut one, &mut ranks, gpu, STEPS + 1, &formats)?;
        self.write(&again, STEPS + 1, &formats)?;
        again.step()?;
        if bits(gpu, &ranks)? != bits(gpu, &again)? {
            problem = problem.or(Some("a resumed run differs".to_owned()));
        }
        worst = worse(worst, difference(gpu, &one, &ranks)?);
        let tolerance = if self.exact || world.size() == 1 { 0.0 } else { CLOSE };
        combine(world, Outcome { name: self.name, worst, tolerance, problem })
    }

    fn step(&self, one: &mut Optimizer, ranks: &mut Sharded, gpu: &Gpu, t: u32, formats: &[Format]) -> Result<()> {
        for (tensor, ..) in one.tensors() {
            let index = tensor.index();
            one.write_grad(tensor, &self.mean(ranks.world().size(), t, index, formats[index]))?;
        }
        gpu.run(|encoder| one.step(encoder))?;
        self.write(ranks, t, formats)?;
        ranks.step()
    }

    fn write(&self, ranks: &Sharded, t: u32, formats: &[Format]) -> Result<()> {
        let (rank, size) = (ranks.world().rank(), ranks.world().size());
        for (tensor, ..) in ranks.optimizer().tensors() {
            let index = tensor.index();
            ranks.optimizer().write_grad(tensor, &self.gradient(rank, size, t, index, formats[index]))?;
        }
        Ok(())
    }

    /// Compares counters and telemetry.
    fn counters(&self, one: &Optimizer, ranks: &mut Sharded) -> Result<Option<String>> {
        let counts =
            |of: u64, there: u64, what: &str| (of != there).then(|| format!("{there} {what}, one process has {of}"));
        let own = ranks.optimizer();
        let skipped =
            counts(pollster::block_on(one.read_skipped())?, pollster::block_on(own.read_skipped())?, "skipped steps");
        let (scale, there) = (pollster::block_on(one.read_loss_scale())?, pollster::block_on(own.read_loss_scale())?);
        let scaled = (scale != there).then(|| format!("the loss scale is {there}, in one process {scale}"));
        let counted = counts(pollster::block_on(one.read_step_count())?, ranks.read_step_count()?, "steps");
        let expected = u64::from(STEPS - u32::from(self.guarded));
        let poisoned = counts(expected, ranks.read_step_count()?, "steps of those with finite gradients");
        let stats = ranks.stats()?;
        let telemetry = match (one.try_stats(), stats) {
            (Some(one), Some(ranks)) => differ(&one, &ranks),
            (None, None) => None,
            _ => Some("telemetry is there on one side alone".to_owned()),
        };
        Ok(skipped.or(scaled).or(counted).or(poisoned).or(telemetry))
    }

    /// Compares the checkpoint of all ranks with that of one process.
    fn joined(&self, one: &Optimizer, gpu: &Gpu, path: &Path) -> Result<Option<String>> {
        let mut taken = None;
        gpu.run(|encoder| one.snapshot(encoder).map(|snapshot| taken = Some(snapshot)))?;
        let (Some(snapshot), joined) = (taken, join(path)?) else { return Ok(Some("no snapshot".to_owned())) };
        let whole = pollster::block_on(snapshot.checkpoint())?;
        let same = whole.shapes().eq(joined.shapes()) && whole.step_count() == joined.step_count();
        let equal = !self.exact || whole.to_bytes()? == joined.to_bytes()?;
        Ok((!same || !equal).then(|| "the joined checkpoint is not that of one process".to_owned()))
    }
}

/// The worst outcome over all ranks.
fn combine(world: &World, own: Outcome) -> Result<Outcome> {
    let text = format!("{}\n{}", own.worst, own.problem.clone().unwrap_or_default());
    let mut all = own;
    for (rank, other) in world.all_gather("compare outcomes", text.as_bytes())?.iter().enumerate() {
        let text = String::from_utf8_lossy(other);
        let (worst, problem) = text.split_once('\n').unwrap_or(("NaN", ""));
        let worst = worst.parse().unwrap_or(f32::NAN);
        // A NaN is worse than any number.
        all.worst = if worst.is_nan() || worst > all.worst { worst } else { all.worst };
        if !problem.is_empty() {
            all.problem = Some(format!("rank {rank}: {problem}"));
        }
    }
    Ok(all)
}

fn stored(format: Format, x: f32) -> f32 {
    if format == Format::F32 { x } else { half::widen(format, half::nearest(format, x)) }
}

fn start(optimizer: &Optimizer) -> Result<()> {
    for (tensor, _, shape) in optimizer.tensors() {
        let elements: usize = shape.iter().product();
        let seed = 17 * tensor.index() as u32;
        // In half precision these numbers are exact, so that sharing them loses nothing.
        let numbers: Vec<f32> = (0..elements as u32).map(|at| (noise(seed, at) * 64.0).round() / 64.0).collect();
        optimizer.write_param(tensor, &numbers)?;
    }
    Ok(())
}

/// The largest difference of parameters as the model sees them, and of the states of the own shard.
fn difference(gpu: &Gpu, one: &Optimizer, ranks: &Sharded) -> Result<f32> {
    let formats: Vec<Format> = ranks.cuts.iter().map(|cut| cut.params).collect();
    let mut worst: f32 = 0.0;
    for ((tensor, ..), (own, ..)) in one.tensors().zip(ranks.optimizer().tensors()) {
        let range = ranks.optimizer().own_range(own)?;
        let format = formats[tensor.index()];
        worst = worse(worst, far(&seen(gpu, one, tensor, format)?, &seen(gpu, ranks.optimizer(), own, format)?));
        for name in one.state_names(tensor)? {
            let whole = pollster::block_on(one.read_state(tensor, name))?;
            let part = pollster::block_on(ranks.optimizer().read_state(own, name))?;
            // A row set may use fewer rows than it has room for.
            let [start, end] = [range.start, range.end].map(|edge| whole.len().min(edge as usize));
            worst = worse(worst, far_of(&whole, start..end, &part));
        }
    }
    Ok(worst)
}

fn worse(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) }
}

/// The parameters as the model sees them. The optimizer of a rank knows the full precision of half precision for its own shard alone.
fn seen(gpu: &Gpu, optimizer: &Optimizer, tensor: Tensor, format: Format) -> Result<Vec<f32>> {
    let bytes = pollster::block_on(read_buffer(&gpu.device, &gpu.queue, optimizer.param(tensor)?))?;
    let halves = |bits: &u16| half::widen(format, *bits);
    let numbers: Vec<f32> = match format {
        Format::F32 => bytemuck::pod_collect_to_vec(&bytes),
        Format::F16 | Format::Bf16 => bytemuck::pod_collect_to_vec::<u8, u16>(&bytes).iter().map(halves).collect(),
    };
    let elements =
        optimizer.tensors().find(|(other, ..)| *other == tensor).map_or(0, |(_, _, shape)| shape.iter().product());
    Ok(numbers[..elements].to_vec())
}

fn far(a: &[f32], b: &[f32]) -> f32 {
    far_of(a, 0..a.len(), b)
}

/// The largest difference as a share of the largest number of the whole array; NaN if lengths differ.
fn far_of(whole: &[f32], range: Range<usize>, part: &[f32]) -> f32 {
    if range.len() != part.len() {
        return f32::NAN;
    }
    let largest = whole.iter().fold(f32::MIN_POSITIVE, |most, x| most.max(x.abs()));
    let share = |(a, b): (&f32, &f32)| {
        if a.to_bits() == b.to_bits() { 0.0 } else { ((a - b).abs() / largest).max(f32::MIN_POSITIVE) }
    };
    whole[range].iter().zip(part).map(share).fold(0.0, worse)
}

/// The bits of parameters and states.
fn bits(gpu: &Gpu, ranks: &Sharded) -> Result<Vec<u32>> {
    let optimizer = ranks.optimizer();
    let mut bits = Vec::new();
    for cut in &ranks.cuts {
        bits.extend(seen(gpu, optimizer, cut.tensor, cut.params)?.iter().map(|x| x.to_bits()));
        for name in optimizer.state_names(cut.tensor)? {
            bits.extend(pollster::block_on(optimizer.read_state(cut.tensor, name))?.iter().map(|x| x.to_bits()));
        }
    }
    Ok(bits)
}

/// The first difference between measurements of a step.
fn differ(one: &wgpu_optim::Stats, ranks: &wgpu_optim::Stats) -> Option<String> {
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-5 * a.abs() || (a.is_nan() && b.is_nan()) || a == b;
    let norms = |what: &str, a: &wgpu_optim::Norms, b: &wgpu_optim::Norms| {
        let same = near(a.gradient, b.gradient)
            && near(a.parameter, b.parameter)
            && near(a.update, b.update)
            && near(a.clip, b.clip);
        (!same || a.nonfinite != b.nonfinite).then(|| format!("telemetry of {what} is {b:?}, in one process {a:?}"))
    };
    let counts = (one.step_count, one.skipped) == (ranks.step_count, ranks.skipped);
    let counted =
        (!counts).then(|| format!("telemetry counts {} steps, one process {}", ranks.step_count, one.step_count));
    let tensors = one.tensors.iter().zip(&ranks.tensors).find_map(|(a, b)| norms(&a.name, &a.norms, &b.norms));
    counted.or_else(|| norms("all tensors", &one.total, &ranks.total)).or(tensors)
}

/// Steps that a checkpoint of [`save`] has behind it.
const SAVED: u32 = 4;

/// Trains with gradients that are equal on all ranks, and saves.
///
/// # Errors
/// Those of [`Sharded::step`] and [`Sharded::save`].
pub fn save(world: &World, gpu: &Gpu, path: &Path) -> Result<()> {
    world.shared(save_equal(world, gpu, path))
}

fn save_equal(world: &World, gpu: &Gpu, path: &Path) -> Result<()> {
    let case = equal_gradients();
    let mut ranks = Sharded::build(&case.builder(), world, case.options, &gpu.device, &gpu.queue)?;
    start(ranks.optimizer())?;
    for t in 1..=SAVED {
        write_equal(ranks.optimizer(), &case, t)?;
        ranks.step()?;
    }
    ranks.save(path)
}

/// Loads a checkpoint of [`save`] from any number of ranks, trains on with gradients that are equal on all ranks, and compares with one process
/// that loads the same checkpoint.
///
/// # Errors
/// Those of [`Sharded::load`] and [`Sharded::step`].
pub fn load(world: &World, gpu: &Gpu, path: &Path) -> Result<Outcome> {
    world.shared(load_equal(world, gpu, path))
}

fn load_equal(world: &World, gpu: &Gpu, path: &Path) -> Result<Outcome> {
    let case = equal_gradients();
    let mut ranks = Sharded::build(&case.builder(), world, case.options, &gpu.device, &gpu.queue)?;
    ranks.load(path)?;
    let mut one = case.builder().build(&gpu.device, &gpu.queue)?;
    world.agree(join(path)?.restore(&mut one))?;
    let mut worst = difference(gpu, &one, &ranks)?;
    for t in SAVED + 1..SAVED + 4 {
        write_equal(&one, &case, t)?;
        write_equal(ranks.optimizer(), &case, t)?;
        gpu.run(|encoder| one.step(encoder))?;
        ranks.step()?;
        worst = worse(worst, difference(gpu, &one, &ranks)?);
    }
    let steps = ranks.read_step_count()?;
    let problem = (steps != u64::from(SAVED + 3)).then(|| format!("{steps} steps"));
    combine(world, Outcome { name: "a checkpoint of other ranks", worst, tolerance: 0.0, problem })
}

fn equal_gradients() -> Case {
    let options = Options { bucket: 16_384, ..Options::default() };
    Case {
        name: "",
        rule: Box::<Muon>::default(),
        others: vec![Box::new(adamw()), Box::<Adafactor>::default()],
        storage: "bf16-sr,8bit",
        shapes: THREE,
        options,
        guarded: false,
        rows: false,
        exact: true,
    }
}

fn write_equal(optimizer: &Optimizer, case: &Case, t: u32) -> Result<()> {
    for (tensor, ..) in optimizer.tensors() {
        optimizer.write_grad(tensor, &case.gradient(0, 1, t, tensor.index(), Format::Bf16))?;
    }
    Ok(())
}
