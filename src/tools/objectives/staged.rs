//! The parts that all objectives without mini-batches share on the GPU. The first stage copies the caller's parameters into one array, and
//! the last stage copies the gradients from one array to the caller, so that an objective's own kernels never see the caller's buffers. The
//! loss is the sum of terms that the kernels write.

use super::gpu::{Binding, Buffers, Kernel, bindings, check_loss_slot};
use super::{GpuObjective, TensorSpec, check};
use crate::{Error, Result};
use wgpu::BufferUsages as Usage;

const THREADS: &str = include_str!("../../../shaders/objectives/threads.wgsl");
const LOAD: &str = include_str!("../../../shaders/objectives/load.wgsl");
const STORE: &str = include_str!("../../../shaders/objectives/store.wgsl");
const SQUARES: &str = include_str!("../../../shaders/objectives/squares.wgsl");
const SUM: &str = include_str!("../../../shaders/objectives/sum.wgsl");

/// Threads per workgroup of all kernels except the sum, which takes one block per workgroup.
const LANES: usize = 64;
const BLOCK: usize = 4096;

/// The longest row of workgroups: below every device's limit.
const FOLD: usize = 32_768;

/// The text of a kernel, joined with the text that all kernels use.
pub(super) fn join(texts: &[&str]) -> String {
    [texts, &[THREADS]].concat().join("\n")
}

pub(super) fn shaders() -> Vec<(&'static str, String)> {
    let texts = [("load", LOAD), ("store", STORE), ("squares", SQUARES)];
    let joined = texts.map(|(name, text)| (name, join(&[text])));
    joined.into_iter().chain([("sum", SUM.to_owned())]).collect()
}

/// The evaluations that a stage is part of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Always,
    Loss,
    Gradient,
}

/// The use of a buffer in a stage.
pub(super) enum Use<'a> {
    Read(&'a wgpu::Buffer),
    Write(&'a wgpu::Buffer),
}

impl Use<'_> {
    fn binding(&self) -> Binding {
        match self {
            Self::Read(_) => Binding::Read,
            Self::Write(_) => Binding::Write,
        }
    }

    fn resource(&self) -> wgpu::BufferBinding<'_> {
        match self {
            Self::Read(buffer) | Self::Write(buffer) => buffer.as_entire_buffer_binding(),
        }
    }
}

struct Stage {
    when: When,
    kernel: Kernel,
    group: wgpu::BindGroup,
    workgroups: usize,
}

/// An objective under construction: the buffers that its stages share, and the stages so far.
pub(super) struct Frame<'a> {
    pub(super) make: Buffers<'a>,
    tensors: Vec<TensorSpec>,
    /// All parameters, tensor after tensor.
    pub(super) point: wgpu::Buffer,
    /// The gradient without the part of the L2 term, in the same places.
    pub(super) slope: wgpu::Buffer,
    /// The terms of the loss, already divided by the number of terms of the mean.
    pub(super) terms: wgpu::Buffer,
    term_count: usize,
    l2: f64,
    stages: Vec<Stage>,
}

impl<'a> Frame<'a> {
    /// Buffers for these tensors and for this many terms, plus those of the L2 term.
    pub(super) fn new(device: &'a wgpu::Device, tensors: &[TensorSpec], terms: usize, l2: f64) -> Result<Self> {
        let make = Buffers { device };
        let elements = tensors.iter().map(TensorSpec::elements).sum();
        let penalties = if l2 == 0.0 { 0 } else { elements };
        let mut frame = Self {
            make,
            tensors: tensors.to_vec(),
            point: make.words("point", elements)?,
            slope: make.words("slope", elements)?,
            terms: make.words("terms", terms + penalties)?,
            term_count: terms + penalties,
            l2,
            stages: Vec::new(),
        };
        if penalties > 0 {
            let (point, to) = (frame.point.clone(), frame.terms.clone());
            let words = [terms as u32, penalties as u32, (l2 as f32).to_bits()];
            let uses = [Use::Read(&point), Use::Write(&to)];
            frame.stage(When::Loss, ("squares", &join(&[SQUARES])), &words, &uses, penalties)?;
        }
        Ok(frame)
    }

    /// Adds a kernel: a uniform of `words` at binding 0, then the buffers in order, one of 64 lanes for each of `threads`.
    pub(super) fn stage(
        &mut self,
        when: When,
        text: (&str, &str),
        words: &[u32],
        uses: &[Use<'_>],
        threads: usize,
    ) -> Result<()> {
        self.groups(when, text, words, uses, threads.div_ceil(LANES))
    }

    /// As [`stage`](Self::stage), with a number of workgroups instead of threads.
    pub(super) fn groups(
        &mut self,
        when: When,
        (name, text): (&str, &str),
        words: &[u32],
        uses: &[Use<'_>],
        workgroups: usize,
    ) -> Result<()> {
        let uniform = self.uniform(name, words)?;
        let kinds: Vec<_> = [Binding::Uniform].into_iter().chain(uses.iter().map(Use::binding)).collect();
        let kernel = Kernel::new(self.make.device, name, text, &kinds);
        let buffers: Vec<_> =
            [uniform.as_entire_buffer_binding()].into_iter().chain(uses.iter().map(Use::resource)).collect();
        let group = kernel.group(self.make.device, &buffers);
        self.stages.push(Stage { when, kernel, group, workgroups });
        Ok(())
    }

    /// Storage that holds these words or numbers.
    pub(super) fn data<T: bytemuck::NoUninit>(&self, role: &str, contents: &[T]) -> Result<wgpu::Buffer> {
        self.make.filled(role, bytemuck::cast_slice(contents), Usage::STORAGE)
    }

    fn uniform(&self, role: &str, words: &[u32]) -> Result<wgpu::Buffer> {
        let mut words = words.to_vec();
        words.resize(words.len().next_multiple_of(4), 0);
        self.make.filled(role, bytemuck::cast_slice(&words), Usage::UNIFORM)
    }

    /// Adds the sums, and makes the objective.
    pub(super) fn finish(mut self) -> Result<Box<dyn GpuObjective>> {
        let (mut count, mut from) = (self.term_count, self.terms.clone());
        loop {
            let blocks = count.div_ceil(BLOCK);
            let to = self.make.words("sums", blocks)?;
            let uses = [Use::Read(&from), Use::Write(&to)];
            self.groups(When::Loss, ("sum", SUM), &[count as u32], &uses, blocks)?;
            (count, from) = (blocks, to);
            if count == 1 {
                break;
            }
        }
        let kernel = |name, text, kinds: &[Binding]| Kernel::new(self.make.device, name, &join(&[text]), kinds);
        let load = kernel("load", LOAD, &[Binding::Uniform, Binding::Read, Binding::Write]);
        let store = kernel("store", STORE, &[Binding::Uniform, Binding::Read, Binding::Read, Binding::Write]);
        let places = self.places()?;
        Ok(Box::new(Staged {
            device: self.make.device.clone(),
            tensors: self.tensors,
            point: self.point,
            slope: self.slope,
            places,
            stages: self.stages,
            load,
            store,
            loss: from,
            bound: None,
        }))
    }

    /// The place of each tensor in the array of all parameters.
    fn places(&self) -> Result<Vec<wgpu::Buffer>> {
        let mut first = 0;
        let twice_l2 = (2.0 * self.l2) as f32;
        let place = |tensor: &TensorSpec| {
            let count = tensor.elements();
            let words = [first as u32, count as u32, twice_l2.to_bits()];
            first += count;
            self.uniform("place", &words)
        };
        self.tensors.iter().map(place).collect()
    }
}

/// The bind groups with the caller's slices, one per tensor.
struct Bound {
    load: Vec<wgpu::BindGroup>,
    store: Vec<wgpu::BindGroup>,
}

/// An objective of one batch, made of stages.
struct Staged {
    device: wgpu::Device,
    tensors: Vec<TensorSpec>,
    point: wgpu::Buffer,
    slope: wgpu::Buffer,
    places: Vec<wgpu::Buffer>,
    stages: Vec<Stage>,
    load: Kernel,
    store: Kernel,
    loss: wgpu::Buffer,
    bound: Option<Bound>,
}

impl Staged {
    fn evaluate(&self, encoder: &mut wgpu::CommandEncoder, what: When) -> Result<()> {
        let bound = self.bound.as_ref().ok_or_else(|| Error::Usage("no parameters are bound".to_owned()))?;
        let label = Some(if what == When::Gradient { "wgpu-optim gradient" } else { "wgpu-optim loss" });
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label, timestamp_writes: None });
        let mut dispatch = |kernel: &Kernel, group: &wgpu::BindGroup, workgroups: usize| {
            let x = workgroups.min(FOLD);
            pass.set_pipeline(&kernel.pipeline);
            pass.set_bind_group(0, group, &[]);
            pass.dispatch_workgroups(x as u32, workgroups.div_ceil(x) as u32, 1);
        };
        let workgroups = |tensor: &TensorSpec| tensor.elements().div_ceil(LANES);
        for (tensor, group) in self.tensors.iter().zip(&bound.load) {
            dispatch(&self.load, group, workgroups(tensor));
        }
        for stage in self.stages.iter().filter(|stage| stage.when == When::Always || stage.when == what) {
            dispatch(&stage.kernel, &stage.group, stage.workgroups);
        }
        if what == When::Gradient {
            for (tensor, group) in self.tensors.iter().zip(&bound.store) {
                dispatch(&self.store, group, workgroups(tensor));
            }
        }
        Ok(())
    }
}

impl GpuObjective for Staged {
    fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    fn bind(&mut self, params: &[wgpu::BufferSlice<'_>], grads: &[wgpu::BufferSlice<'_>]) -> Result<()> {
        let params = bindings(&self.device, &self.tensors, params, "parameters")?;
        let grads = bindings(&self.device, &self.tensors, grads, "gradients")?;
        let [point, slope] = [&self.point, &self.slope].map(wgpu::Buffer::as_entire_buffer_binding);
        let place = self.places.iter().map(wgpu::Buffer::as_entire_buffer_binding);
        let load = |(place, param)| self.load.group(&self.device, &[place, param, point.clone()]);
        let store = |(place, grad)| self.store.group(&self.device, &[place, point.clone(), slope.clone(), grad]);
        self.bound = Some(Bound {
            load: place.clone().zip(params).map(load).collect(),
            store: place.zip(grads).map(store).collect(),
        });
        Ok(())
    }

    fn batches(&self) -> usize {
        1
    }

    fn record_epoch(&self, _: &mut wgpu::CommandEncoder, _: u32) {}

    fn record_gradient(&self, encoder: &mut wgpu::CommandEncoder, batch: usize) -> Result<()> {
        check::batch(batch, 1)?;
        self.evaluate(encoder, When::Gradient)
    }

    fn record_loss(&self, encoder: &mut wgpu::CommandEncoder, batch: usize, into: wgpu::BufferSlice<'_>) -> Result<()> {
        check::batch(batch, 1)?;
        check_loss_slot(into)?;
        self.evaluate(encoder, When::Loss)?;
        encoder.copy_buffer_to_buffer(&self.loss, 0, into.buffer(), into.offset(), 4);
        Ok(())
    }
}
