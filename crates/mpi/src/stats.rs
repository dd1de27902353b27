//! Telemetry over all ranks.

use wgpu_optim::{Norms, Stats, TensorStats};

use crate::Result;
use crate::sharded::Sharded;

/// The squares of a tensor's norms that ranks add.
const NUMBERS: usize = 4;

impl Sharded {
    /// The measurements of the last step over all ranks, where the builder set [`Builder::telemetry`](wgpu_optim::Builder::telemetry). `None` if it
    /// did not, or if no step was taken since the last call. Every rank must call this and gets the same numbers. The exchange grows with the
    /// count of tensors.
    ///
    /// # Errors
    /// A rank does not answer.
    pub fn stats(&mut self) -> Result<Option<Stats>> {
        let own = self.optimizer.try_stats();
        if self.owns_all() {
            return Ok(own);
        }
        let result = self.add_stats(own);
        self.world.shared(result)
    }

    fn add_stats(&self, own: Option<Stats>) -> Result<Option<Stats>> {
        let bytes = own.as_ref().map_or_else(Vec::new, |stats| self.squares(stats));
        let parts = self.world.all_gather("add telemetry", &bytes)?;
        let Some(mut stats) = own.filter(|_| parts.iter().all(|part| !part.is_empty())) else { return Ok(None) };
        let mut sums = vec![0.0_f64; stats.tensors.len() * NUMBERS];
        for part in &parts {
            let part: Vec<f64> = bytemuck::pod_collect_to_vec(part);
            sums.iter_mut().zip(part.get(1..).unwrap_or_default()).for_each(|(sum, x)| *sum += x);
        }
        // A rank without elements has counted no step.
        let counts = parts.iter().filter_map(|part| bytemuck::pod_collect_to_vec::<u8, f64>(part).first().copied());
        stats.step_count = counts.fold(0.0, f64::max) as u64;
        let mut total = [0.0; NUMBERS];
        for (tensor, sums) in stats.tensors.iter_mut().zip(sums.chunks_exact(NUMBERS)) {
            total.iter_mut().zip(sums).for_each(|(total, x)| *total += x);
            tensor.norms = norms(sums, tensor.norms.clip);
        }
        stats.total = norms(&total, stats.total.clip);
        Ok(Some(stats))
    }

    /// The step count, then the squares of each tensor. One rank gives the squares of gradients that all ranks hold.
    fn squares(&self, stats: &Stats) -> Vec<u8> {
        let squares = |(index, tensor): (usize, &TensorStats)| {
            let n = &tensor.norms;
            let counts = !self.totals.shares(index) || self.world.rank() == 0;
            let gradient = if counts { [n.gradient * n.gradient, n.nonfinite as f64] } else { [0.0; 2] };
            [gradient[0], gradient[1], n.parameter * n.parameter, n.update * n.update]
        };
        let numbers: Vec<f64> = std::iter::once(stats.step_count as f64)
            .chain(stats.tensors.iter().enumerate().flat_map(squares))
            .collect();
        bytemuck::cast_slice(&numbers).to_vec()
    }
}

fn norms(squares: &[f64], clip: f64) -> Norms {
    Norms {
        gradient: squares[0].sqrt(),
        nonfinite: squares[1] as u64,
        parameter: squares[2].sqrt(),
        update: squares[3].sqrt(),
        clip,
    }
}
