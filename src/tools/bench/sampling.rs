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

    /// The range of the middle four fifths, as a share of the median.
    pub(super) fn spread(&self) -> f64 {
        let n = self.0.len();
        if n == 0 { f64::NAN } else { (self.0[(n - 1) * 9 / 10] - self.0[n / 10]) / self.median() }
    }
}

/// The samples of a measurement by one clock.
pub(super) struct Sampled {
    pub(super) copy: Times,
    pub(super) stream: Times,
    pub(super) step: Times,
}

/// The samples of a measurement.
pub(super) struct Samples {
    /// From submit to completion.
    pub(super) wall: Sampled,
    /// By the GPU's clock, where there is one.
    pub(super) gpu: Option<Sampled>,
}

/// One sample.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Seconds from submit to completion.
    pub(super) wall: f64,
    /// Seconds by the GPU's clock, where there is one.
    pub(super) gpu: Option<f64>,
}

/// The three that are measured in turn.
#[derive(Clone, Copy)]
pub(super) enum Turn {
    Copy,
    Stream,
    Step,
}

/// A measurement: runs the work of a turn and returns the seconds that the work took.
pub(super) trait Subject {
    async fn sample(&mut self, turn: Turn) -> Result<Sample>;
}

/// Samples copy, stream, step, copy, stream, step … until `seconds` have passed and each has `least` samples.
pub(super) async fn interleave(subject: &mut impl Subject, seconds: f64, least: usize) -> Result<Samples> {
    let turns = [Turn::Copy, Turn::Stream, Turn::Step];
    for turn in turns {
        // The first run compiles, touches fresh memory and wakes the device.
        subject.sample(turn).await?;
    }
    let start = Instant::now();
    let mut samples = [const { Vec::new() }; 3];
    while samples[2].len() < least.max(1) || start.elapsed().as_secs_f64() < seconds {
        for (turn, samples) in turns.iter().zip(&mut samples) {
            subject.sample(*turn).await?;
            for _ in 0..BURST {
                samples.push(subject.sample(*turn).await?);
            }
        }
    }
    let by = |seconds: fn(&Sample) -> f64| {
        let [copy, stream, step] = samples.each_ref().map(|samples| Times::new(samples.iter().map(seconds).collect()));
        Sampled { copy, stream, step }
    };
    let has_clock = samples.iter().flatten().all(|sample| sample.gpu.is_some());
    let gpu = has_clock.then(|| by(|sample| sample.gpu.unwrap_or(f64::NAN)));
    Ok(Samples { wall: by(|sample| sample.wall), gpu })
}
