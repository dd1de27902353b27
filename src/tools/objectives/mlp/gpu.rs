//! The perceptron on the GPU. The data stays on the GPU. A gradient of three layers takes ten dispatches, and the host waits for none of them.

use super::batches::Batches;
use super::memory::{BATCH_BYTES, Memory, Rounded, Slots, held_out_rows};
use super::shape::{Activation, Mlp};
use crate::tools::objectives::check::LONGEST_LOOP;
use crate::tools::objectives::gpu::{Binding, Buffers, Kernel, OUTCOME_BYTES, Reading, bindings, check_loss_slot};
use crate::tools::objectives::{GpuObjective, Part, Split, TensorSpec, check};
use crate::{Error, Result};
use std::ops::Range;

const BATCH: &str = include_str!("../../../../shaders/objectives/batch.wgsl");
const GATHER: &str = include_str!("../../../../shaders/objectives/gather.wgsl");
const FORWARD: &str = include_str!("../../../../shaders/objectives/forward.wgsl");
const OUTCOME: &str = include_str!("../../../../shaders/objectives/outcome.wgsl");
const SOFTMAX: &str = include_str!("../../../../shaders/objectives/softmax.wgsl");
const SIGMOID: &str = include_str!("../../../../shaders/objectives/sigmoid.wgsl");
const QUANTIZE: &str = include_str!("../../../../shaders/objectives/quantize.wgsl");
const DELTA: &str = include_str!("../../../../shaders/objectives/delta.wgsl");
const GRADIENT: &str = include_str!("../../../../shaders/objectives/gradient.wgsl");
const LINEAR: &str = include_str!("../../../../shaders/objectives/linear.wgsl");
const RELU: &str = include_str!("../../../../shaders/objectives/relu.wgsl");
const TANH: &str = include_str!("../../../../shaders/objectives/tanh.wgsl");
const RANDOM: &str = include_str!("../../../../shaders/harness/random.wgsl");

/// Threads per workgroup, and rows or units per thread (the constants of the kernels).
const LANES: usize = 64;
const BLOCK: usize = 4;
const WALKING_LANES: usize = 256;

impl Activation {
    const fn text(self) -> &'static str {
        match self {
            Self::Relu => RELU,
            Self::Tanh => TANH,
        }
    }
}

fn join(kernel: &str, rest: &[&str]) -> String {
    [&[kernel, BATCH], rest].concat().join("\n")
}

/// Every kernel's name and text.
pub(in crate::tools::objectives) fn shaders() -> Vec<(&'static str, String)> {
    vec![
        ("gather", join(GATHER, &[RANDOM])),
        ("forward-linear", join(FORWARD, &[LINEAR])),
        ("forward-relu", join(FORWARD, &[RELU])),
        ("forward-tanh", join(FORWARD, &[TANH])),
        ("softmax", join(OUTCOME, &[SOFTMAX])),
        ("sigmoid", join(OUTCOME, &[SIGMOID])),
        ("quantize", join(QUANTIZE, &[])),
        ("delta-relu", join(DELTA, &[RELU])),
        ("delta-tanh", join(DELTA, &[TANH])),
        ("gradient", join(GRADIENT, &[])),
    ]
}

struct Kernels {
    gather: Kernel,
    hidden: Kernel,
    last: Kernel,
    head: Kernel,
    quantize: Kernel,
    delta: Kernel,
    gradient: Kernel,
}

impl Kernels {
    fn new(device: &wgpu::Device, spec: &Mlp) -> Self {
        use Binding::{Moving, Read, Uniform, Write};
        const MOVING: Binding = Moving(BATCH_BYTES);
        let kernel = |name, text: String, bindings: &[Binding]| Kernel::new(device, name, &text, bindings);
        let layer = [MOVING, Uniform, Read, Read, Read, Write];
        let act = spec.activation.text();
        let head = if spec.is_binary() { SIGMOID } else { SOFTMAX };
        Self {
            gather: kernel("gather", join(GATHER, &[RANDOM]), &[MOVING, Uniform, Uniform, Read, Read, Write, Write]),
            hidden: kernel("forward", join(FORWARD, &[act]), &layer),
            last: kernel("logits", join(FORWARD, &[LINEAR]), &layer),
            head: kernel("head", join(OUTCOME, &[head]), &[MOVING, Uniform, Read, Read, Write, Write, Read]),
            quantize: kernel("quantize", join(QUANTIZE, &[]), &[MOVING, Uniform, Uniform, Read, Write]),
            delta: kernel("delta", join(DELTA, &[act]), &layer),
            gradient: kernel("gradient", join(GRADIENT, &[]), &[MOVING, Uniform, Read, Read, Write, Write]),
        }
    }
}

/// The bind groups that depend on the caller's slices.
struct Bound {
    /// The rounding of each layer's weights, if the perceptron rounds.
    weights: Vec<wgpu::BindGroup>,
    forward: Vec<wgpu::BindGroup>,
    /// From the second layer on.
    delta: Vec<wgpu::BindGroup>,
    gradient: Vec<wgpu::BindGroup>,
}

/// An [`Mlp`] on the GPU, with its data.
///
/// [`GpuMlp::new`] and [`GpuObjective::bind`] create all resources; recording creates only the small buffer of a [`Reading`]. The same
/// device, driver and sizes give the same bits.
pub struct GpuMlp {
    device: wgpu::Device,
    tensors: Vec<TensorSpec>,
    widths: Vec<usize>,
    kernels: Kernels,
    slots: Slots,
    memory: Memory,
    gather: wgpu::BindGroup,
    head: wgpu::BindGroup,
    /// The rounding of each hidden layer's outputs, if the perceptron rounds.
    outputs: Vec<wgpu::BindGroup>,
    bound: Option<Bound>,
    loss_scale: Option<(wgpu::Buffer, u64)>,
}

impl GpuMlp {
    /// Uploads the data and compiles the kernels. The seed decides each epoch's order.
    ///
    /// # Errors
    /// The widths do not fit the data, the batch size is outside 1..=training rows, or the data is larger than the device can bind.
    pub fn new(device: &wgpu::Device, spec: &Mlp, split: &Split, batch_size: usize, seed: u64) -> Result<Self> {
        spec.check(split)?;
        let batches = Batches::new(split, batch_size, seed)?;
        let slots = Slots::new(&batches, held_out_rows(split, batches.rows)?, device)?;
        check_loops(spec, slots.most_rows())?;
        let memory = Memory::new(Buffers { device }, spec, split, &batches, &slots)?;
        let kernels = Kernels::new(device, spec);
        let (gather, head) = fixed_groups(device, &kernels, &memory);
        let outputs = output_groups(device, &kernels, &memory);
        Ok(Self {
            device: device.clone(),
            tensors: spec.tensors(),
            widths: spec.widths.clone(),
            kernels,
            slots,
            memory,
            gather,
            head,
            outputs,
            bound: None,
            loss_scale: None,
        })
    }

    /// Sets the loss scale: later gradients are multiplied by the f32 at the start of `scale`, which is read when they are computed. Losses
    /// are not multiplied.
    ///
    /// # Errors
    /// The slice is not a valid copy source.
    pub fn scale_gradients(&mut self, scale: wgpu::BufferSlice<'_>) -> Result<()> {
        let (size, offset) = (scale.size(), scale.offset());
        if size < 4 || offset % 4 != 0 || !scale.buffer().usage().contains(wgpu::BufferUsages::COPY_SRC) {
            let problem =
                format!("a loss scale needs 4 bytes at a multiple of 4 with COPY_SRC, has {size} at {offset}");
            return Err(Error::Usage(problem));
        }
        self.loss_scale = Some((scale.buffer().clone(), offset));
        Ok(())
    }

    /// Evaluates a part of the data, and reads back the loss and the number of correct rows.
    ///
    /// # Errors
    /// Nothing is bound.
    pub fn record_accuracy(&self, encoder: &mut wgpu::CommandEncoder, part: Part) -> Result<Reading> {
        let range = self.slots.part(part);
        for slot in range.clone() {
            self.evaluate(encoder, slot, false)?;
        }
        Ok(self.reading(encoder, range))
    }

    /// Reads back the outcome of each batch's latest gradient. The outcome of a batch without a gradient so far is zero.
    pub fn record_outcomes(&self, encoder: &mut wgpu::CommandEncoder) -> Reading {
        self.reading(encoder, self.slots.gradients())
    }

    fn reading(&self, encoder: &mut wgpu::CommandEncoder, range: Range<usize>) -> Reading {
        let rows = self.slots.list[range.clone()].iter().map(|s| s.rows).collect();
        Reading::record(&self.device, encoder, &self.memory.outcomes, range.start, rows)
    }

    /// Records the forward pass and, if requested, the backward pass.
    fn evaluate(&self, encoder: &mut wgpu::CommandEncoder, slot: usize, backward: bool) -> Result<()> {
        let bound = self.bound.as_ref().ok_or_else(|| Error::Usage("mlp: no parameters are bound".to_owned()))?;
        let label = Some(if backward { "wgpu-optim objective gradient" } else { "wgpu-optim objective loss" });
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label, timestamp_writes: None });
        let mut dispatch = |kernel: &Kernel, group: &wgpu::BindGroup, x: usize, y: usize| {
            pass.set_pipeline(&kernel.pipeline);
            pass.set_bind_group(0, group, &[(self.slots.stride * slot as u64) as u32]);
            pass.dispatch_workgroups(x as u32, y as u32, 1);
        };
        self.forward(bound, self.slots.list[slot].rows as usize, &mut dispatch);
        if backward {
            self.backward(bound, self.slots.list[slot].rows as usize, &mut dispatch);
        }
        Ok(())
    }

    fn forward(&self, bound: &Bound, rows: usize, dispatch: &mut Dispatch<'_>) {
        let Kernels { gather, hidden, last, head, quantize, .. } = &self.kernels;
        bound.weights.iter().for_each(|group| dispatch(quantize, group, 1, 1));
        dispatch(gather, &self.gather, self.widths[0].div_ceil(LANES), rows);
        for (at, group) in bound.forward.iter().enumerate() {
            let kernel = if at + 1 == bound.forward.len() { last } else { hidden };
            dispatch(kernel, group, self.widths[at + 1].div_ceil(LANES), rows.div_ceil(BLOCK));
            if let Some(group) = self.outputs.get(at) {
                dispatch(quantize, group, 1, 1);
            }
        }
        dispatch(head, &self.head, 1, 1);
    }

    fn backward(&self, bound: &Bound, rows: usize, dispatch: &mut Dispatch<'_>) {
        for (at, group) in bound.gradient.iter().enumerate().rev() {
            let (inputs, outputs) = (self.widths[at], self.widths[at + 1]);
            dispatch(&self.kernels.gradient, group, inputs.div_ceil(LANES), outputs.div_ceil(BLOCK));
            if at > 0 {
                let delta = &bound.delta[at - 1];
                dispatch(&self.kernels.delta, delta, inputs.div_ceil(LANES), rows.div_ceil(BLOCK));
            }
        }
    }
}

type Dispatch<'a> = dyn FnMut(&Kernel, &wgpu::BindGroup, usize, usize) + 'a;

impl GpuObjective for GpuMlp {
    fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    fn bind(&mut self, params: &[wgpu::BufferSlice<'_>], grads: &[wgpu::BufferSlice<'_>]) -> Result<()> {
        let params = bindings(&self.device, &self.tensors, params, "parameters")?;
        let grads = bindings(&self.device, &self.tensors, grads, "gradients")?;
        let Memory { layers, activations, deltas, rounded, .. } = &self.memory;
        let group = |kernel: &Kernel, at: usize, rest: &[wgpu::BufferBinding<'_>]| {
            self.memory.group(&self.device, kernel, at, rest)
        };
        let weight = |at: usize| rounded.as_ref().map_or(params[2 * at].clone(), |r| whole(&r.weights[at]));
        let input = |at: usize| match rounded {
            Some(rounded) if at > 0 => whole(&rounded.activations[at]),
            _ => whole(&activations[at]),
        };
        let forward = |at: usize| {
            let kernel = if at + 1 == layers.len() { &self.kernels.last } else { &self.kernels.hidden };
            group(kernel, at, &[input(at), weight(at), params[2 * at + 1].clone(), whole(&activations[at + 1])])
        };
        let delta = |at: usize| {
            let (behind, before) = (whole(&deltas[at]), whole(&deltas[at - 1]));
            group(&self.kernels.delta, at, &[weight(at), behind, whole(&activations[at]), before])
        };
        let gradient = |at: usize| {
            let (weight, bias) = (grads[2 * at].clone(), grads[2 * at + 1].clone());
            group(&self.kernels.gradient, at, &[input(at), whole(&deltas[at]), weight, bias])
        };
        let round = |(at, to): (usize, &wgpu::Buffer)| {
            let grid = rounded.as_ref().map(|r| whole(&r.grids[0]));
            let rest: Vec<_> = grid.into_iter().chain([params[2 * at].clone(), whole(to)]).collect();
            group(&self.kernels.quantize, at, &rest)
        };
        self.bound = Some(Bound {
            weights: rounded.iter().flat_map(|r| r.weights.iter().enumerate()).map(round).collect(),
            forward: (0..layers.len()).map(forward).collect(),
            delta: (1..layers.len()).map(delta).collect(),
            gradient: (0..layers.len()).map(gradient).collect(),
        });
        Ok(())
    }

    fn batches(&self) -> usize {
        self.slots.gradients().len()
    }

    fn record_epoch(&self, encoder: &mut wgpu::CommandEncoder, epoch: u32) {
        self.memory.record_epoch(encoder, epoch);
    }

    fn record_gradient(&self, encoder: &mut wgpu::CommandEncoder, batch: usize) -> Result<()> {
        check::batch(batch, self.batches())?;
        if let Some((scale, offset)) = &self.loss_scale {
            // Copied, because the offset may not be aligned for a binding.
            encoder.copy_buffer_to_buffer(scale, *offset, &self.memory.loss_scale, 0, 4);
        }
        self.evaluate(encoder, batch, true)
    }

    fn record_loss(&self, encoder: &mut wgpu::CommandEncoder, batch: usize, into: wgpu::BufferSlice<'_>) -> Result<()> {
        check::batch(batch, self.batches())?;
        check_loss_slot(into)?;
        let slot = self.slots.loss(batch);
        self.evaluate(encoder, slot, false)?;
        encoder.copy_buffer_to_buffer(
            &self.memory.outcomes,
            OUTCOME_BYTES * slot as u64,
            into.buffer(),
            into.offset(),
            4,
        );
        Ok(())
    }
}

fn whole(buffer: &wgpu::Buffer) -> wgpu::BufferBinding<'_> {
    buffer.as_entire_buffer_binding()
}

fn fixed_groups(device: &wgpu::Device, kernels: &Kernels, memory: &Memory) -> (wgpu::BindGroup, wgpu::BindGroup) {
    let last = memory.layers.len() - 1;
    let gather = [&memory.plan, &memory.inputs, &memory.labels, &memory.activations[0], &memory.wanted];
    let head =
        [&memory.activations[last + 1], &memory.wanted, &memory.deltas[last], &memory.outcomes, &memory.loss_scale];
    let gather = memory.group(device, &kernels.gather, 0, &gather.map(whole));
    (gather, memory.group(device, &kernels.head, last, &head.map(whole)))
}

/// The rounding of each hidden layer's outputs, if the perceptron rounds.
fn output_groups(device: &wgpu::Device, kernels: &Kernels, memory: &Memory) -> Vec<wgpu::BindGroup> {
    let rounded = memory.rounded.iter().flat_map(|r| r.activations.iter().enumerate().skip(1).map(move |a| (r, a)));
    let group = |(rounded, (at, to)): (&Rounded, (usize, &wgpu::Buffer))| {
        let rest = [&rounded.grids[1], &memory.activations[at], to].map(whole);
        memory.group(device, &kernels.quantize, at - 1, &rest)
    };
    rounded.map(group).collect()
}

/// Refuses sizes that make the threads of one workgroup loop too often.
fn check_loops(spec: &Mlp, rows: usize) -> Result<()> {
    let classes = spec.widths[spec.widths.len() - 1];
    let head = rows.div_ceil(WALKING_LANES) * (3 * classes + 1);
    let values = spec.layers().map(|(inputs, outputs)| inputs.max(rows) * outputs).max().unwrap_or(0);
    let rounding = if spec.bits.is_some() { 2 * values.div_ceil(WALKING_LANES) } else { 0 };
    if head.max(rounding) > LONGEST_LOOP {
        let widths = &spec.widths;
        return Err(Error::Usage(format!("batches of {rows} rows through {widths:?} are too large for one workgroup")));
    }
    Ok(())
}
