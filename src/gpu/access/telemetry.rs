//! Telemetry: every step copies its measurements into the next place of a small ring, and the host reads the newest at any time.

use std::sync::Arc;

use crate::gpu::Part;
use crate::gpu::access::readback::read_buffer;
use crate::gpu::build::buffers::{Buffers, Sizes, Which};
use crate::gpu::hyper::mailbox::Mailbox;
use crate::gpu::layout::shards::{Chunk, Shard};
use crate::gpu::layout::tables::Layout;
use crate::gpu::layout::units::{CONTROL_HEAD, CONTROL_WORDS, VEC4};
use crate::options::telemetry::{Squares, nothing_counts};
use crate::{Error, Result};

/// The count of places of the ring.
const RING: usize = 4;

/// The ring, and the layout of a sample.
#[derive(Debug)]
pub(crate) struct Telemetry {
    ring: Vec<Place>,
    names: Vec<Arc<str>>,
    sample: Sample,
    recorded: u64,
    dropped: u64,
}

/// The lengths of the parts of a sample, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// The counters and decisions at the start of the control buffer.
    control: u64,
    /// The totals of the first round of sums.
    totals: u64,
    /// The measurements that the update wrote after the records of chunks.
    measured: u64,
}

/// A place of the ring, with the number of the step that its sample measures.
#[derive(Debug)]
struct Place {
    mailbox: Mailbox,
    step: u64,
}

/// The measurements of a part in one step.
pub(crate) struct Measured {
    pub(crate) step_count: u64,
    pub(crate) skipped: u64,
    pub(crate) dropped: u64,
    /// The name and the measurements of each tensor.
    pub(crate) tensors: Vec<(Arc<str>, Squares)>,
}

/// Bytes of the measurements after the records of chunks in the table of a shard.
pub(crate) fn measured_bytes(shard: &Shard) -> u64 {
    shard.chunks.len() as u64 * VEC4
}

impl Sample {
    /// The sample of an optimizer with this many bytes of control. The rounds must be planned.
    pub(crate) fn new(control: u64, layout: &Layout, sizes: &Sizes) -> Self {
        let measured = layout.shards.iter().map(measured_bytes).sum();
        Self { control, totals: sizes.of(Which::Totals(0)), measured }
    }

    const fn bytes(self) -> u64 {
        self.control + self.totals + self.measured
    }

    /// Plans the ring.
    ///
    /// # Errors
    /// A sample is longer than the device's buffers may be.
    pub(crate) fn plan(self, limits: &wgpu::Limits, sizes: &mut Sizes) -> Result<()> {
        let (actual, needs) = (limits.max_buffer_size, self.bytes());
        if needs > actual {
            return Err(Error::Limit { limit: "max_buffer_size", actual, needs });
        }
        (0..RING).for_each(|place| sizes.add(Which::Telemetry(place), needs));
        Ok(())
    }
}

impl Telemetry {
    pub(crate) fn new(buffers: &Buffers<'_>, sample: Sample, names: impl Iterator<Item = Arc<str>>) -> Result<Self> {
        let make = |place| Ok(Place { mailbox: Mailbox::new(buffers, Which::Telemetry(place))?, step: 0 });
        let ring = (0..RING).map(make).collect::<Result<_>>()?;
        Ok(Self { ring, names: names.collect(), sample, recorded: 0, dropped: 0 })
    }
}

impl Part {
    /// The steps with a sample that arrived and was not opened.
    pub(crate) fn samples(&self) -> impl Iterator<Item = u64> {
        let ring = self.telemetry.iter().flat_map(|telemetry| &telemetry.ring);
        ring.filter(|place| place.mailbox.is_ready()).map(|place| place.step)
    }

    /// Opens the sample of a step. Frees the places of older samples.
    pub(crate) fn open_sample(&self, step: u64) -> Option<Measured> {
        let telemetry = self.telemetry.as_ref()?;
        let ready = |place: &&Place| place.mailbox.is_ready();
        let older = telemetry.ring.iter().filter(ready).filter(|place| place.step < step);
        older.for_each(|place| _ = place.mailbox.open(|_| ()));
        let place = telemetry.ring.iter().filter(ready).find(|place| place.step == step)?;
        place.mailbox.open(|sample| self.measured(telemetry, sample))
    }

    /// Whether each tensor had a gradient, or a sum of squared gradients, that was not finite in the last finished step.
    pub(crate) async fn read_bad_tensors(&self) -> Result<Vec<bool>> {
        let Some(round) = self.kernels.rounds.first().filter(|_| self.spec.around.sums()) else {
            return Err(nothing_counts());
        };
        let totals = read_buffer(&self.context.device, &self.context.queue, round.totals.slice()).await?;
        let totals: Vec<[f32; 4]> = bytemuck::pod_collect_to_vec(&totals);
        let is_bad = |t: usize| {
            let (gradient, nonfinite) = self.harness_totals(&totals, t);
            Squares { gradient, nonfinite, ..Squares::default() }.is_bad()
        };
        Ok((0..self.spec.tensors.len()).map(is_bad).collect())
    }

    /// A tensor's squared norm and count of numbers that are not finite, from the records of the first round.
    fn harness_totals(&self, totals: &[[f32; 4]], tensor: usize) -> (f64, f64) {
        let records = self.spec.tensors.len() + 1;
        let of = &totals[(tensor + 1) * (totals.len() / records)..][..totals.len() / records];
        match of {
            [.., square, bad] => (f64::from(square[2]), f64::from(bad[0])),
            _ => (0.0, 0.0),
        }
    }

    /// Records the copies of a step's sample. Drops the sample if every place waits for the arrival of a copy.
    pub(crate) fn record_sample(&mut self, encoder: &mut wgpu::CommandEncoder) {
        let Some(mut telemetry) = self.telemetry.take() else { return };
        telemetry.recorded += 1;
        let step = telemetry.recorded;
        // Takes an idle place, or the oldest place that the host did not open.
        telemetry.ring.sort_by_key(|place| (place.mailbox.is_ready(), place.step));
        let sent = telemetry.ring.iter_mut().find_map(|place| {
            place.mailbox.open(|_| ());
            place
                .mailbox
                .send(encoder, |encoder, to| self.copy_sample(encoder, to, telemetry.sample.control))
                .then(|| place.step = step)
        });
        telemetry.dropped += u64::from(sent.is_none());
        self.telemetry = Some(telemetry);
    }

    fn copy_sample(&self, encoder: &mut wgpu::CommandEncoder, to: &wgpu::Buffer, control: u64) {
        let mut at = 0;
        let mut copy = |from: &wgpu::Buffer, offset: u64, bytes: u64| {
            encoder.copy_buffer_to_buffer(from, offset, to, at, bytes);
            at += bytes;
        };
        copy(&self.kernels.control, 0, control);
        if let Some(round) = self.kernels.rounds.first() {
            copy(&round.totals.buffer, round.totals.offset, round.totals.size);
        }
        for (gpu, shard) in self.kernels.dispatches.iter().zip(&self.placement.layout.shards) {
            let records = size_of_val(shard.chunks.as_slice()) as u64;
            copy(&gpu.update.table, records, measured_bytes(shard));
        }
    }

    fn measured(&self, telemetry: &Telemetry, sample: &[u8]) -> Measured {
        let Sample { control, totals, .. } = telemetry.sample;
        let (control, rest) = sample[..telemetry.sample.bytes() as usize].split_at(control as usize);
        let (totals, measured) = rest.split_at(totals as usize);
        let head: [u32; CONTROL_WORDS] = bytemuck::pod_read_unaligned(&control[..CONTROL_HEAD as usize]);
        let totals: Vec<[f32; 4]> = bytemuck::pod_collect_to_vec(totals);
        let words: Vec<f32> = bytemuck::pod_collect_to_vec(control);
        let mut squares: Vec<Squares> = (0..self.spec.tensors.len())
            .map(|t| {
                let (gradient, nonfinite) = self.harness_totals(&totals, t);
                Squares { gradient, nonfinite, clip: self.clip_factor(&words, t), ..Squares::default() }
            })
            .collect();
        self.add_measured(measured, &mut squares);
        Measured {
            step_count: u64::from(head[0]),
            skipped: u64::from(head[2]),
            dropped: telemetry.dropped,
            tensors: telemetry.names.iter().cloned().zip(squares).collect(),
        }
    }

    /// Adds the sums of chunks to the sums of their tensors.
    fn add_measured(&self, measured: &[u8], squares: &mut [Squares]) {
        let chunks = self.placement.layout.shards.iter().flat_map(|shard| &shard.chunks);
        let live = |(chunk, _): &(&Chunk, _)| chunk.length > 0;
        for (chunk, sums) in chunks.zip(measured.chunks_exact(VEC4 as usize)).filter(live) {
            let sums: [f32; 4] = bytemuck::pod_read_unaligned(sums);
            let tensor = &mut squares[chunk.tensor as usize];
            tensor.parameter += f64::from(sums[0]);
            tensor.update += f64::from(sums[1]);
        }
    }

    fn clip_factor(&self, control: &[f32], tensor: usize) -> f64 {
        if !self.spec.around.clips_norm() {
            return 1.0;
        }
        f64::from(control[CONTROL_WORDS + self.placement.classes[0].clip_word(tensor)])
    }
}
