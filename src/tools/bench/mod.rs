//! The time of a step, and the bytes that the step must move, beside those of a copy and of a stream kernel over arrays of the same
//! sizes. The module measures the three in turn, so that a noisy machine slows all of them alike. [`verify`](crate::tools::verify) checks
//! whether a step is right; this module does not.

mod baseline;
mod clock;
mod cpu;
mod gpu;
mod recording;
mod sampling;
mod traffic;
mod with;

pub use baseline::{Regression, compare, read_baseline};
#[cfg(not(target_arch = "wasm32"))]
pub use recording::recording;
pub use recording::{Recording, recording_async};
pub use traffic::{bytes_per_element, bytes_per_element_stored};
pub use with::{Feature, With};

use serde::{Deserialize, Serialize};

use crate::Optimizer;
use crate::gpu::build::builder::Builder;
use crate::gpu::build::spec::{Group, Tensor};
use crate::optim::{ALL, Entry, Rule};
use crate::options::storage::Storage;
use crate::tools::adapter::Gpu;
use crate::tools::report;
use crate::{Error, Result};
use sampling::Samples;
use traffic::{F32, Traffic};

/// Bytes per element that a copy moves: the copy reads one array and writes one.
const COPY_BYTES: f64 = 2.0 * F32;
/// Bytes per element that the stream kernel moves: the kernel reads four arrays and writes three.
const STREAM_BYTES: f64 = 7.0 * F32;
/// The value of every parameter, and of every gradient.
const PARAM: f32 = 0.5;
const GRAD: f32 = 0.01;
/// The number of arrays that the copy and the stream kernel share: p, g, m, v.
const STREAM_ARRAYS: u64 = 4;

/// The implementation that runs the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// The engine on an adapter, software included.
    Gpu,
    /// The fast path on the host.
    Cpu,
}

impl std::fmt::Display for BackendKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gpu => "gpu",
            Self::Cpu => "cpu",
        })
    }
}

/// A number of tensors, all with the same number of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Size {
    /// The number of tensors.
    pub tensors: usize,
    /// The number of elements of each tensor.
    pub elements: usize,
    /// The columns of each tensor, if it has rows and columns. `None`: one dimension, or for a rule that steps matrices a matrix that is as near
    /// to a square as the number of elements allows.
    pub columns: Option<usize>,
}

impl Size {
    /// A number of tensors with as many elements each.
    #[must_use]
    pub const fn new(tensors: usize, elements: usize) -> Self {
        Self { tensors, elements, columns: None }
    }

    /// The size of each tensor: its elements, or its rows and columns.
    fn of_tensor(self) -> String {
        match self.columns {
            None => self.elements.to_string(),
            Some(columns) => format!("{}x{columns}", self.elements / columns.max(1)),
        }
    }

    /// The number of elements of all tensors.
    ///
    /// # Errors
    /// The number is 0 or does not fit into a `usize`.
    pub fn total(self) -> Result<usize> {
        match self.tensors.checked_mul(self.elements) {
            Some(total) if total > 0 => Ok(total),
            _ => Err(Error::Usage(format!(
                "{} tensors of {} elements cannot be measured: needs at least one element and fewer than {}",
                self.tensors,
                self.elements,
                usize::MAX
            ))),
        }
    }

    /// The shape of each tensor.
    fn shape(self, builder: &Builder) -> Result<Vec<usize>> {
        match self.columns {
            None => Ok(builder.sample_shape(Group::DEFAULT, self.elements)),
            Some(columns) if columns > 0 && self.elements.is_multiple_of(columns) => {
                Ok(vec![self.elements / columns, columns])
            }
            Some(columns) => {
                Err(Error::Usage(format!("{} elements cannot be a matrix of {columns} columns", self.elements)))
            }
        }
    }
}

/// A plan of measurements: every rule with every combination of features in every storage at every size on every backend.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The rules with their settings. Default: every optimizer of the registry.
    pub rules: Vec<Box<dyn Rule>>,
    /// The combinations of features to measure each rule with. Default: no feature.
    pub with: Vec<With>,
    /// How tensors are stored. Default: f32. Other forms are measured on the GPU only: the host rounds in the same way, but holds f32.
    pub storages: Vec<Storage>,
    /// The sizes. Default: one tensor of a million elements, and 1000 tensors of a thousand elements.
    pub sizes: Vec<Size>,
    /// The backends. Default: the GPU.
    pub backends: Vec<BackendKind>,
    /// The length of one measurement in seconds, without its preparation. Default: 1.
    pub seconds: f64,
    /// The least number of samples, however long they take. Default: 5.
    pub samples: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            rules: ALL.iter().map(Entry::sample).collect(),
            with: vec![With::default()],
            storages: vec![Storage::default()],
            sizes: vec![Size::new(1, 1_000_000), Size::new(1000, 1000)],
            backends: vec![BackendKind::Gpu],
            seconds: 1.0,
            samples: 5,
        }
    }
}

/// One optimizer's time on one backend at one size. Every rate in GB/s is the bytes that must be moved divided by the median time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The optimizer's name.
    pub optimizer: String,
    /// The backend that ran the step.
    pub backend: BackendKind,
    /// The adapter's name; on the CPU backend, the processor's name.
    pub adapter: String,
    /// How parameters, gradients and states are stored.
    pub storage: String,
    /// The number of tensors.
    pub tensors: usize,
    /// The number of elements of each tensor.
    pub elements: usize,
    /// The columns of each tensor, where the measurement chose them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<usize>,
    /// The number of steps that were timed.
    pub samples: usize,
    /// The median time of a step, in seconds, from submit to completion, one step per submit.
    pub median_s: f64,
    /// The shortest time of a step, in seconds. No rate is derived from it.
    pub min_s: f64,
    /// [`bytes_per_element_stored`], plus the bytes that the features move.
    pub bytes_per_element: f64,
    /// The step's rate: all its bytes divided by [`median_s`](Self::median_s).
    pub gb_per_s: f64,
    /// The rate of a kernel that copies one array to another, 8 bytes per element, from its median time.
    pub copy_gb_per_s: f64,
    /// The rate of a kernel that reads four arrays and writes three of them, 28 bytes per element, from its median time.
    pub stream_gb_per_s: f64,
    /// Dispatches of a step, including those of a micro-batch; `None` on the CPU.
    pub dispatches: Option<usize>,
    /// The shortest time to record a step into an encoder, in seconds. The step's time does not include it. `None` on the CPU.
    pub record_s: Option<f64>,
    /// The features that the step had.
    #[serde(default)]
    pub with: With,
    /// The range of the middle four fifths of the step's times, as a share of the median.
    #[serde(default)]
    pub spread: Option<f64>,
    /// The step by the GPU's own clock; `None` on the CPU, for steps of several micro-batches, and where the device writes no timestamps.
    #[serde(flatten)]
    pub gpu: Option<GpuTimes>,
}

/// The time of a step by the GPU's own clock, from the begin of the first pass to the end of the last. It contains neither the submission
/// nor the wait for its end. Each stage of the step has a pass of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GpuTimes {
    /// The median time of a step, in seconds.
    pub gpu_median_s: f64,
    /// The shortest time of a step, in seconds.
    pub gpu_min_s: f64,
    /// The range of the middle four fifths, as a share of the median.
    pub gpu_spread: f64,
    /// The step's rate as a share of the copy's, both by this clock.
    pub gpu_of_copy: f64,
    /// The step's rate as a share of the stream kernel's, both by this clock.
    pub gpu_of_stream: f64,
    /// The stages of a step in their order.
    pub gpu_stages: Vec<StageTime>,
}

/// The time of a stage of a step by the GPU's own clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageTime {
    /// The stage: see [`Optimizer::step_stages`].
    pub stage: String,
    /// Its median time, in seconds.
    pub median_s: f64,
}

impl Measurement {
    fn new(measured: Measured<'_>, samples: &Samples, place: Place) -> Result<Self> {
        let Measured { rule, with, storage, size } = measured;
        let elements = size.total()? as f64;
        let rate = |bytes: f64, seconds: f64| bytes * elements / seconds / 1e9;
        let bytes = Traffic::new(rule, storage, size.elements)?.step_with(with);
        let sampled = &samples.wall;
        let gpu = samples.gpu.as_ref().map(|gpu| GpuTimes {
            gpu_median_s: gpu.step.median(),
            gpu_min_s: gpu.step.min(),
            gpu_spread: gpu.step.spread(),
            gpu_of_copy: rate(bytes, gpu.step.median()) / rate(COPY_BYTES, gpu.copy.median()),
            gpu_of_stream: rate(bytes, gpu.step.median()) / rate(STREAM_BYTES, gpu.stream.median()),
            gpu_stages: place.stages,
        });
        Ok(Self {
            optimizer: rule.name().to_owned(),
            backend: place.backend,
            adapter: place.adapter,
            storage: storage.to_string(),
            tensors: size.tensors,
            elements: size.elements,
            columns: size.columns,
            samples: sampled.step.count(),
            median_s: sampled.step.median(),
            min_s: sampled.step.min(),
            bytes_per_element: bytes,
            gb_per_s: rate(bytes, sampled.step.median()),
            copy_gb_per_s: rate(COPY_BYTES, sampled.copy.median()),
            stream_gb_per_s: rate(STREAM_BYTES, sampled.stream.median()),
            dispatches: place.dispatches,
            record_s: place.record_s,
            with: with.clone(),
            spread: Some(sampled.step.spread()),
            gpu,
        })
    }

    /// What was measured: the number of tensors and their size.
    #[must_use]
    pub fn size(&self) -> String {
        let size = Size { tensors: self.tensors, elements: self.elements, columns: self.columns };
        format!("{} × {}", size.tensors, size.of_tensor())
    }

    /// The step's rate as a share of the stream kernel's rate. Noise that slows both does not change the share.
    #[must_use]
    pub fn share_of_stream(&self) -> f64 {
        self.gb_per_s / self.stream_gb_per_s
    }
}

/// The subject of one measurement.
#[derive(Clone, Copy)]
struct Measured<'a> {
    rule: &'a dyn Rule,
    with: &'a With,
    storage: &'a Storage,
    size: Size,
}

impl Measured<'_> {
    fn builder(self) -> Result<Builder> {
        let mut builder = Optimizer::builder(self.rule.boxed());
        builder.undamped_steps(true);
        let shape = self.size.shape(&builder)?;
        builder.storage(self.storage.clone());
        let tensor = |i| builder.tensor(Group::DEFAULT, format!("tensor {i}"), &shape);
        let tensors: Vec<Tensor> = (0..self.size.tensors).map(tensor).collect();
        self.with.build(&mut builder, &tensors);
        Ok(builder)
    }

    /// The memory that the measurement needs: the optimizer's arrays, and those of the copy and the stream kernel.
    fn bytes_needed(self, total: usize) -> Result<u64> {
        let of_rule = Traffic::new(self.rule, self.storage, self.size.elements)?.memory();
        let of_features = (self.with.arrays() + STREAM_ARRAYS) as f64 * F32;
        Ok((total as f64 * (of_rule + of_features)) as u64)
    }
}

/// The place of a measurement, with the numbers that only the GPU has.
struct Place {
    backend: BackendKind,
    adapter: String,
    dispatches: Option<usize>,
    record_s: Option<f64>,
    /// By the GPU's clock, if it has one.
    stages: Vec<StageTime>,
}

/// Takes the measurements of `plan`, and calls `on_result` with each result at once.
///
/// # Errors
/// The plan names the GPU and `gpu` is `None`; a setting is out of range; a size needs more memory than is free; the device was lost.
#[cfg(not(target_arch = "wasm32"))]
pub fn run(plan: &Plan, gpu: Option<&Gpu>, on_result: impl FnMut(&Measurement)) -> Result<Vec<Measurement>> {
    pollster::block_on(run_async(plan, gpu, on_result))
}

/// As `run`, but in a page the future yields to the event loop while it waits for the GPU. What a page measures has the delay of its event
/// loop in it, the copy and the stream kernel as much as the step.
///
/// # Errors
/// As `run`.
pub async fn run_async(
    plan: &Plan,
    gpu: Option<&Gpu>,
    mut on_result: impl FnMut(&Measurement),
) -> Result<Vec<Measurement>> {
    plan.check()?;
    let mut results = Vec::new();
    for &backend in &plan.backends {
        for &size in &plan.sizes {
            for (rule, with, storage) in plan.combinations(backend) {
                let measured = Measured { rule, with, storage, size };
                let result = match (backend, gpu) {
                    (BackendKind::Cpu, _) => cpu::measure(plan, measured).await?,
                    (BackendKind::Gpu, Some(gpu)) => gpu::measure(plan, gpu, measured).await?,
                    (BackendKind::Gpu, None) => {
                        return Err(Error::NoAdapter(": measuring the GPU needs one".to_owned()));
                    }
                };
                on_result(&result);
                results.push(result);
            }
        }
    }
    Ok(results)
}

impl Plan {
    /// The combinations that are measured on a backend at each size.
    fn combinations(&self, backend: BackendKind) -> impl Iterator<Item = (&dyn Rule, &With, &Storage)> {
        let storages = move |storage: &&Storage| backend == BackendKind::Gpu || **storage == Storage::default();
        self.rules.iter().flat_map(move |rule| {
            let with = self.with.iter();
            let of =
                move |with| self.storages.iter().filter(storages).map(move |storage| (rule.as_ref(), with, storage));
            with.flat_map(of)
        })
    }

    /// The number of measurements.
    #[must_use]
    pub fn count(&self) -> usize {
        self.sizes.len() * self.backends.iter().map(|backend| self.combinations(*backend).count()).sum::<usize>()
    }

    fn check(&self) -> Result<()> {
        if !(self.seconds.is_finite() && self.seconds >= 0.0) {
            return Err(Error::Usage(format!("seconds is {}, needs a finite number of at least 0", self.seconds)));
        }
        self.sizes.iter().try_for_each(|size| size.total().map(drop))
    }
}

/// Refuses a size that does not fit into the host's free memory, if the system reports its free memory. Drivers promise more memory than
/// there is, and the system then ends the process.
fn check_memory(size: Size, bytes: u64) -> Result<()> {
    match report::free_memory() {
        Some(free) if bytes > free => Err(Error::Usage(format!(
            "{} tensors of {} elements need {bytes} bytes, {free} are free",
            size.tensors, size.elements
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::sampling::{Sampled, Times};
    use super::*;
    use crate::optim::AdamW;

    /// The shortest sample is luck, so that a rate derived from it would not fit the median beside it.
    #[test]
    fn rates_are_those_of_the_medians() {
        let times = |middle: f64| Times::new(vec![middle, 1e-6, 9.0]);
        let sampled = || Sampled { copy: times(0.1), stream: times(0.2), step: times(0.4) };
        let samples = Samples { wall: sampled(), gpu: Some(sampled()) };
        let (rule, size) = (AdamW::default(), Size::new(2, 500_000));
        let measured = Measured { rule: &rule, with: &With::default(), storage: &Storage::default(), size };
        let place = Place {
            backend: BackendKind::Gpu,
            adapter: String::new(),
            dispatches: None,
            record_s: None,
            stages: Vec::new(),
        };
        let m = Measurement::new(measured, &samples, place).expect("a measurement");
        assert_eq!((m.median_s, m.min_s, m.bytes_per_element), (0.4, 1e-6, 28.0));
        for (rate, expected) in [(m.gb_per_s, 0.07), (m.copy_gb_per_s, 0.08), (m.stream_gb_per_s, 0.14)] {
            assert!((rate - expected).abs() < 1e-12, "{m:?}");
        }
        let gpu = m.gpu.as_ref().expect("a clock");
        assert_eq!((gpu.gpu_median_s, gpu.gpu_min_s), (0.4, 1e-6));
        let shares = [(gpu.gpu_of_copy, 0.07 / 0.08), (gpu.gpu_of_stream, 0.5), (m.share_of_stream(), 0.5)];
        assert!(shares.iter().all(|(share, expected)| (share - expected).abs() < 1e-12), "{gpu:?}");
        let tenths = Times::new((0..11).map(|x| 1.0 + f64::from(x) / 10.0).collect());
        assert!((tenths.spread() - 0.8 / 1.5).abs() < 1e-12, "{}", tenths.spread());
    }
}
