//! The measurement on the host: the fast path's step, beside a copy and a stream over slices of the same sizes.

use rayon::prelude::*;
use web_time::Instant;

use crate::Result;
use crate::cpu::Optimizer;
use crate::tools::bench::sampling::{Sample, Subject, Turn, interleave};
use crate::tools::bench::{BackendKind, Feature, GRAD, Measured, Measurement, PARAM, Place, Plan, check_memory};
use crate::tools::report;

/// Elements that a thread takes at a time, as in the fast path.
const PIECE: usize = 64 * 1024;

/// Measures a rule on the host.
pub(super) async fn measure(plan: &Plan, of: Measured<'_>) -> Result<Measurement> {
    let total = of.size.total()?;
    check_memory(of.size, of.bytes_needed(total)?)?;
    let sampled = interleave(&mut Steps::new(of)?, plan.seconds, plan.samples).await?;
    let place = Place {
        backend: BackendKind::Cpu,
        adapter: report::cpu_name(),
        dispatches: None,
        record_s: None,
        stages: Vec::new(),
    };
    Measurement::new(of, &sampled, place)
}

/// An optimizer with its tensors.
struct Steps {
    optimizer: Optimizer<f32>,
    accumulates: bool,
    params: Vec<Vec<f32>>,
    grads: Vec<Vec<f32>>,
    /// p, g, m and v of the copy and the stream.
    arrays: [Vec<f32>; 4],
}

impl Steps {
    fn new(of: Measured<'_>) -> Result<Self> {
        let Measured { with, size, .. } = of;
        let total = size.total()?;
        Ok(Self {
            optimizer: of.builder()?.build_cpu()?,
            accumulates: with.has(Feature::Accumulate),
            params: vec![vec![PARAM; size.elements]; size.tensors],
            grads: vec![vec![GRAD; size.elements]; size.tensors],
            arrays: std::array::from_fn(|_| vec![PARAM; total]),
        })
    }
}

impl Subject for Steps {
    async fn sample(&mut self, turn: Turn) -> Result<Sample> {
        let wall = match turn {
            Turn::Copy => self.copy(),
            Turn::Stream => self.stream(),
            Turn::Step => self.step()?,
        };
        Ok(Sample { wall, gpu: None })
    }
}

impl Steps {
    fn copy(&mut self) -> f64 {
        let [p, g, ..] = &mut self.arrays;
        let share = p.len().div_ceil(rayon::current_num_threads());
        let start = Instant::now();
        g.par_chunks_mut(share).zip(p.par_chunks(share)).for_each(|(to, from)| to.copy_from_slice(from));
        start.elapsed().as_secs_f64()
    }

    fn stream(&mut self) -> f64 {
        let [p, g, m, v] = &mut self.arrays;
        let start = Instant::now();
        let pieces = p.par_chunks_mut(PIECE).zip(g.par_chunks(PIECE));
        let pieces = pieces.zip(m.par_chunks_mut(PIECE)).zip(v.par_chunks_mut(PIECE));
        pieces.for_each(|(((p, g), m), v)| stream(p, g, m, v));
        start.elapsed().as_secs_f64()
    }

    fn step(&mut self) -> Result<f64> {
        let mut params: Vec<&mut [f32]> = self.params.iter_mut().map(Vec::as_mut_slice).collect();
        let grads: Vec<&[f32]> = self.grads.iter().map(Vec::as_slice).collect();
        let start = Instant::now();
        if self.accumulates {
            self.optimizer.accumulate(&grads)?;
        }
        self.optimizer.step(&mut params, &grads)?;
        Ok(start.elapsed().as_secs_f64())
    }
}

/// Reads four arrays and writes three, with the widest vector units that this processor has.
fn stream(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has the feature, as just checked.
            return unsafe { stream_avx512(p, g, m, v) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the feature, as just checked.
            return unsafe { stream_avx2(p, g, m, v) };
        }
    }
    stream_plain(p, g, m, v);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn stream_avx512(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    stream_plain(p, g, m, v);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn stream_avx2(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    stream_plain(p, g, m, v);
}

#[inline(always)]
fn stream_plain(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
        *p += g;
        *m += g;
        *v += g;
    }
}
