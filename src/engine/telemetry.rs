//! Telemetry: every step copies what it measured into the next place of a small ring, and the host opens the newest when it likes.

use std::sync::Arc;

use super::Optimizer;
use super::create::{CONTROL_HEAD, buffer};
use super::layout::{Chunk, VEC4};
use super::mailbox::Mailbox;
use crate::stats::{Squares, Stats, TensorStats, nothing_counts};
use crate::{Error, Result};

/// Places of the ring.
const RING: usize = 4;

/// The ring and where in a sample everything lies.
#[derive(Debug)]
pub(super) struct Telemetry {
    ring: Vec<Place>,
    names: Vec<Arc<str>>,
    /// Bytes of the counters and decisions, with which the control buffer begins.
    control: u64,
    /// Bytes of the totals of the first round of sums, behind the control buffer's.
    totals: u64,
    /// Bytes of a sample.
    size: u64,
    recorded: u64,
    dropped: u64,
}

/// A place of the ring, with the number of the step whose sample it holds.
#[derive(Debug)]
struct Place {
    mailbox: Mailbox,
    step: u64,
}

/// Bytes of the chunks' measurements behind their records in a launch's table.
pub(super) const fn measured_bytes(chunks: usize) -> u64 {
    chunks as u64 * VEC4
}

impl Telemetry {
    /// For an optimizer whose passes are all there.
    pub(super) fn new(optimizer: &Optimizer) -> Result<Self> {
        let totals = optimizer.rounds.first().map_or(0, |r| r.totals.size());
        let measured: u64 = optimizer.layout.launches.iter().map(|l| measured_bytes(l.chunks.len())).sum();
        let decisions = optimizer.variants[0].all_decisions(optimizer.tensors.len());
        let control = CONTROL_HEAD + decisions as u64 * VEC4;
        let size = control + totals + measured;
        let most = optimizer.device.limits().max_buffer_size;
        if size > most {
            return Err(Error::Limit { limit: "max_buffer_size", actual: most, needs: size });
        }
        let make = |_| {
            let make = |usage| buffer(&optimizer.device, &optimizer.label, "telemetry", size, usage);
            Ok(Place { mailbox: Mailbox::new(make)?, step: 0 })
        };
        let ring = (0..RING).map(make).collect::<Result<_>>()?;
        let names = optimizer.tensors.iter().map(|t| t.name.as_str().into()).collect();
        Ok(Self { ring, names, control, totals, size, recorded: 0, dropped: 0 })
    }
}

impl Optimizer {
    /// What the newest finished step did, once; `None` while no step has finished since the last call, or where
    /// [`Builder::telemetry`](crate::Builder::telemetry) was not asked for. Never waits.
    pub fn try_stats(&self) -> Option<Stats> {
        let _ = self.device.poll(wgpu::PollType::Poll);
        let telemetry = self.telemetry.as_ref()?;
        let mut ready: Vec<&Place> = telemetry.ring.iter().filter(|place| place.mailbox.is_ready()).collect();
        ready.sort_unstable_by_key(|place| place.step);
        let newest = ready.pop()?;
        ready.into_iter().for_each(|place| _ = place.mailbox.open(|_| ()));
        newest.mailbox.open(|sample| self.stats(telemetry, sample))
    }

    /// The name of the first tensor with a gradient that was not finite in the last finished step. Costs nothing until it is called, where
    /// steps count such numbers anyway: with a loss scale, `skip_nonfinite`, a clip by norm or telemetry.
    ///
    /// # Errors
    /// Nothing counts them; the device was lost.
    pub async fn read_nonfinite(&self) -> Result<Option<&str>> {
        let Some(round) = self.rounds.first().filter(|_| self.around.sums()) else {
            return Err(nothing_counts());
        };
        let totals = super::read_buffer(&self.device, &self.queue, round.totals.slice(..)).await?;
        let totals: Vec<[f32; 4]> = bytemuck::pod_collect_to_vec(&totals);
        let bad = (0..self.tensors.len()).find(|t| self.harness_totals(&totals, *t).1 != 0.0);
        Ok(bad.map(|t| self.tensors[t].name.as_str()))
    }

    /// A tensor's squared norm and count of numbers that are not finite, from the records of the first round.
    fn harness_totals(&self, totals: &[[f32; 4]], tensor: usize) -> (f64, f64) {
        let records = self.tensors.len() + 1;
        let of = &totals[(tensor + 1) * (totals.len() / records)..][..totals.len() / records];
        match of {
            [.., square, bad] => (f64::from(square[2]), f64::from(bad[0])),
            _ => (0.0, 0.0),
        }
    }

    /// Records the copies of a step's sample. Where every place is under way there is none.
    pub(super) fn record_sample(&mut self, encoder: &mut wgpu::CommandEncoder) {
        let Some(mut telemetry) = self.telemetry.take() else { return };
        telemetry.recorded += 1;
        let step = telemetry.recorded;
        // An idle place, or else the oldest that nobody opened.
        telemetry.ring.sort_by_key(|place| (place.mailbox.is_ready(), place.step));
        let sent = telemetry.ring.iter_mut().find_map(|place| {
            place.mailbox.open(|_| ());
            place
                .mailbox
                .send(encoder, |encoder, to| self.copy_sample(encoder, to, telemetry.control))
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
        copy(&self.control, 0, control);
        if let Some(round) = self.rounds.first() {
            copy(&round.totals, 0, round.totals.size());
        }
        for (gpu, launch) in self.launches.iter().zip(&self.layout.launches) {
            let records = size_of_val(launch.chunks.as_slice()) as u64;
            copy(&gpu.update.table, records, measured_bytes(launch.chunks.len()));
        }
    }

    fn stats(&self, telemetry: &Telemetry, sample: &[u8]) -> Stats {
        let (control, rest) = sample[..telemetry.size as usize].split_at(telemetry.control as usize);
        let (totals, measured) = rest.split_at(telemetry.totals as usize);
        let head: [u32; (CONTROL_HEAD / 4) as usize] = bytemuck::pod_read_unaligned(&control[..CONTROL_HEAD as usize]);
        let totals: Vec<[f32; 4]> = bytemuck::pod_collect_to_vec(totals);
        let words: Vec<f32> = bytemuck::pod_collect_to_vec(control);
        let mut squares: Vec<Squares> = (0..self.tensors.len())
            .map(|t| {
                let (gradient, nonfinite) = self.harness_totals(&totals, t);
                Squares { gradient, nonfinite, clip: self.clip_factor(&words, t), ..Squares::default() }
            })
            .collect();
        self.add_measured(measured, &mut squares);
        let named = telemetry.names.iter().zip(&squares);
        Stats {
            applied: u64::from(head[0]),
            skipped: u64::from(head[2]),
            total: Squares::total(&squares).norms(),
            tensors: named.map(|(name, s)| TensorStats { name: name.clone(), norms: s.norms() }).collect(),
            dropped: telemetry.dropped,
        }
    }

    /// Adds the chunks' sums to their tensors'.
    fn add_measured(&self, measured: &[u8], squares: &mut [Squares]) {
        let chunks = self.layout.launches.iter().flat_map(|launch| &launch.chunks);
        let live = |(chunk, _): &(&Chunk, _)| chunk.length > 0;
        for (chunk, sums) in chunks.zip(measured.chunks_exact(VEC4 as usize)).filter(live) {
            let sums: [f32; 4] = bytemuck::pod_read_unaligned(sums);
            let tensor = &mut squares[chunk.tensor as usize];
            tensor.parameter += f64::from(sums[0]);
            tensor.update += f64::from(sums[1]);
        }
    }

    fn clip_factor(&self, control: &[f32], tensor: usize) -> f64 {
        if !self.around.clips_norm() {
            return 1.0;
        }
        f64::from(control[(CONTROL_HEAD / 4) as usize + self.variants[0].clip_word(tensor)])
    }
}
