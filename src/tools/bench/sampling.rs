//! Samples of several subjects, taken in turn.

use web_time::Instant;

use crate::Result;

/// Samples per turn. Each turn begins with one sample that is not counted, because the turn before left other arrays in the caches.
const BURST: usize = 3;

/// The seconds of one subject's samples, sorted.
#[derive(Clone, Debug)]
pub(super) struct Times(Vec<f64>);

impl Times {
    pub(super) fn new(mut seconds: Vec<f64>) -> Self {
        seconds.sort_unstable_by(f64::total_cmp);
        Self(seconds)
    }

    pub(super) const fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn min(&self) -> f64 {
        self.0.first().copied().unwrap_or(f64::NAN)
    }

    pub(super) fn median(&self) -> f64 {
        let n = self.0.len();
        if n == 0 { f64::NAN } else { f64::midpoint(self.0[(n - 1) / 2], self.0[n / 2]) }
    }
}

/// The samples of a measurement.
pub(super) struct Sampled {
    pub(super) copy: Times,
    pub(super) stream: Times,
    pub(super) step: Times,
}

/// The three that are measured in turn.
#[derive(Clone, Copy)]
pub(super) enum Turn {
    Copy,
    Stream,
    Step,
}

/// A measurement: runs the work of a turn once and returns the seconds that the work took.
pub(super) trait Subject {
    async fn sample(&mut self, turn: Turn) -> Result<f64>;
}

/// Samples copy, stream, step, copy, stream, step … until `seconds` have passed and each has `least` samples.
pub(super) async fn interleave(subject: &mut impl Subject, seconds: f64, least: usize) -> Result<Sampled> {
    let turns = [Turn::Copy, Turn::Stream, Turn::Step];
    for turn in turns {
        // The first run compiles, touches fresh memory and wakes the device.
        subject.sample(turn).await?;
    }
    let start = Instant::now();
    let mut times = [const { Vec::new() }; 3];
    while times[2].len() < least.max(1) || start.elapsed().as_secs_f64() < seconds {
        for (turn, times) in turns.iter().zip(&mut times) {
            subject.sample(*turn).await?;
            for _ in 0..BURST {
                times.push(subject.sample(*turn).await?);
            }
        }
    }
    let [copy, stream, step] = times.map(Times::new);
    Ok(Sampled { copy, stream, step })
}
