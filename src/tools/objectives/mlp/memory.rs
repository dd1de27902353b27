//! The buffers of the perceptron on the GPU.

use super::batches::Batches;
use super::quantize::{Bits, Grid};
use super::shape::Mlp;
use crate::tools::objectives::gpu::{Buffers, Kernel};
use crate::tools::objectives::{Part, Samples, Split};
use crate::{Error, Result};
use std::num::NonZeroU64;
use std::ops::Range;
use wgpu::BufferUsages as Usage;

/// The bytes of `Batch` in `batch.wgsl`.
pub(super) const BATCH_BYTES: u64 = 16;

/// Rows that an evaluation takes at a time.
const EVALUATED: u32 = 512;

/// Bits of an epoch's number per word, and the offsets of the words in `Plan` of `gather.wgsl`.
const EPOCH_BITS: u32 = 12;
const EPOCH_OFFSET: u64 = 8;

/// The rows of one evaluation.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) rows: u32,
    first: u32,
    shuffled: bool,
}

/// All slots: the batches for gradients, the same batches for losses, the held-out data in pieces, the training data in pieces.
/// Each slot has its own outcome.
pub(super) struct Slots {
    pub(super) list: Vec<Slot>,
    /// The distance between two slots in their buffer, in bytes.
    pub(super) stride: u64,
    batches: usize,
    held_out: Range<usize>,
    train: Range<usize>,
}

impl Slots {
    pub(super) fn new(batches: &Batches, held_out: u32, device: &wgpu::Device) -> Result<Self> {
        let ranges: Vec<_> = (0..batches.count()).map(|b| batches.range(b)).collect::<Result<_>>()?;
        let batch = |r: &Range<u32>| Slot { first: r.start, rows: r.end - r.start, shuffled: true };
        let mut list: Vec<Slot> = ranges.iter().chain(&ranges).map(batch).collect();
        let mut pieces = |rows: Range<u32>| {
            let before = list.len();
            let piece = |first| Slot { first, rows: (rows.end - first).min(EVALUATED), shuffled: false };
            list.extend(rows.clone().step_by(EVALUATED as usize).map(piece));
            before..list.len()
        };
        let held_out = pieces(batches.rows..batches.rows + held_out);
        let train = pieces(0..batches.rows);
        let alignment = u64::from(device.limits().min_uniform_buffer_offset_alignment);
        Ok(Self { list, stride: BATCH_BYTES.next_multiple_of(alignment), batches: ranges.len(), held_out, train })
    }

    /// The slots in which the batches' gradients are computed.
    pub(super) fn gradients(&self) -> Range<usize> {
        0..self.batches
    }

    /// The slot in which a batch's loss alone is computed.
    pub(super) fn loss(&self, batch: usize) -> usize {
        self.batches + batch
    }

    pub(super) fn part(&self, part: Part) -> Range<usize> {
        match part {
            Part::HeldOut => self.held_out.clone(),
            Part::Train => self.train.clone(),
        }
    }

    pub(super) fn most_rows(&self) -> usize {
        self.list.iter().map(|s| s.rows as usize).max().unwrap_or(0)
    }

    /// The slots as the kernels read them.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.list.len() * self.stride as usize];
        for ((slot, outcome), to) in self.list.iter().zip(0..).zip(bytes.chunks_exact_mut(self.stride as usize)) {
            let words = [slot.first, slot.rows, u32::from(slot.shuffled), outcome];
            to[..BATCH_BYTES as usize].copy_from_slice(bytemuck::cast_slice(&words));
        }
        bytes
    }
}

/// Rounded values.
pub(super) struct Rounded {
    pub(super) weights: Vec<wgpu::Buffer>,
    /// One buffer per layer. The first buffer, for the inputs, is not used.
    pub(super) activations: Vec<wgpu::Buffer>,
    /// `Grid` of `quantize.wgsl`, for weights and for activations.
    pub(super) grids: [wgpu::Buffer; 2],
}

impl Rounded {
    fn new(make: Buffers<'_>, spec: &Mlp, bits: Bits, rows: usize) -> Result<Self> {
        let Grid { top, least, most } = bits.grid();
        let grid = |of_weights| {
            let words = [top.to_bits(), least.to_bits(), most.to_bits(), of_weights];
            make.filled("grid", bytemuck::cast_slice(&words), Usage::UNIFORM)
        };
        let layers = || spec.layers();
        Ok(Self {
            weights: layers().map(|(i, o)| make.words("rounded weights", i * o)).collect::<Result<_>>()?,
            activations: layers().map(|(i, _)| make.words("rounded outputs", rows * i)).collect::<Result<_>>()?,
            grids: [grid(1)?, grid(0)?],
        })
    }
}

/// All buffers of the perceptron.
pub(super) struct Memory {
    pub(super) slots: wgpu::Buffer,
    pub(super) layers: Vec<wgpu::Buffer>,
    pub(super) plan: wgpu::Buffer,
    pub(super) inputs: wgpu::Buffer,
    pub(super) labels: wgpu::Buffer,
    pub(super) wanted: wgpu::Buffer,
    /// The gathered inputs, then each layer's outputs.
    pub(super) activations: Vec<wgpu::Buffer>,
    /// The weights of each layer and the outputs before it, rounded, if the perceptron rounds.
    pub(super) rounded: Option<Rounded>,
    /// The derivative of the loss by each layer's sums.
    pub(super) deltas: Vec<wgpu::Buffer>,
    pub(super) outcomes: wgpu::Buffer,
    /// The factor on the derivatives of the loss.
    pub(super) loss_scale: wgpu::Buffer,
    numbers: wgpu::Buffer,
}

impl Memory {
    pub(super) fn new(make: Buffers<'_>, spec: &Mlp, split: &Split, batches: &Batches, slots: &Slots) -> Result<Self> {
        let rows = slots.most_rows();
        let both = [split.part(Part::Train), split.part(Part::HeldOut)];
        let words = |role, words: &[u32], usage| make.filled(role, bytemuck::cast_slice(words), usage);
        let layer = |(inputs, outputs)| words("layer", &[inputs as u32, outputs as u32], Usage::UNIFORM);
        let numbers: Vec<u32> = (0..1 << EPOCH_BITS).collect();
        let values = |role| {
            let width = move |width: &usize| make.words(role, rows * width);
            spec.widths.iter().map(width).collect::<Result<Vec<_>>>()
        };
        let mut deltas = values("deltas")?;
        deltas.remove(0); // the derivative by the inputs is not needed
        Ok(Self {
            slots: make.filled("batches", &slots.bytes(), Usage::UNIFORM)?,
            layers: spec.layers().map(layer).collect::<Result<_>>()?,
            plan: words("plan", &[batches.rows, batches.key, 0, 0], Usage::UNIFORM | Usage::COPY_DST)?,
            inputs: make.filled("inputs", bytemuck::cast_slice(&both.map(Samples::inputs).concat()), Usage::STORAGE)?,
            labels: words("labels", &both.map(Samples::labels).concat(), Usage::STORAGE)?,
            wanted: make.words("wanted", rows)?,
            activations: values("activations")?,
            rounded: spec.bits.map(|bits| Rounded::new(make, spec, bits, rows)).transpose()?,
            deltas,
            outcomes: make.words("outcomes", 2 * slots.list.len())?,
            loss_scale: words("loss scale", &[1f32.to_bits()], Usage::STORAGE | Usage::COPY_DST)?,
            numbers: words("numbers", &numbers, Usage::COPY_SRC)?,
        })
    }

    /// A bind group of layer `at`: the slot that a dispatch's dynamic offset selects, the layer, and the rest.
    pub(super) fn group(
        &self,
        device: &wgpu::Device,
        kernel: &Kernel,
        at: usize,
        rest: &[wgpu::BufferBinding<'_>],
    ) -> wgpu::BindGroup {
        let slot = wgpu::BufferBinding { buffer: &self.slots, offset: 0, size: NonZeroU64::new(BATCH_BYTES) };
        let head = [slot, self.layers[at].as_entire_buffer_binding()];
        kernel.group(device, &head.into_iter().chain(rest.iter().cloned()).collect::<Vec<_>>())
    }

    /// Writes an epoch's number into the plan, in the encoder's order: copied from a table of numbers, in two digits.
    pub(super) fn record_epoch(&self, encoder: &mut wgpu::CommandEncoder, epoch: u32) {
        let digits = [epoch, epoch >> EPOCH_BITS].map(|word| word % (1 << EPOCH_BITS));
        for (digit, to) in digits.into_iter().zip([EPOCH_OFFSET, EPOCH_OFFSET + 4]) {
            encoder.copy_buffer_to_buffer(&self.numbers, 4 * u64::from(digit), &self.plan, to, 4);
        }
    }
}

/// The number of held-out rows, checked to fit the kernels' words.
pub(super) fn held_out_rows(split: &Split, train: u32) -> Result<u32> {
    let rows = split.part(Part::HeldOut).rows();
    let fits = u32::try_from(rows).ok().filter(|rows| train.checked_add(*rows).is_some());
    fits.ok_or_else(|| Error::Usage(format!("{rows} held-out rows and {train} training rows, needs < 2^32")))
}
