//! How fast a step is: its time, and the bytes it must move against what a copy and a stream kernel move over arrays of the same
//! sizes, measured in turn with it, so that a noisy machine slows all three alike. Whether a step is right is not asked here but in
//! [`verify`](crate::tools::verify).

mod baseline;
mod cpu;
mod gpu;
mod recording;
mod sampling;
mod traffic;
mod with;

pub use baseline::{Regression, compare, read_baseline};
pub use recording::{Recording, recording};
pub use traffic::{bytes_per_element, bytes_per_element_stored};
pub use with::{Feature, With};

use serde::{Deserialize, Serialize};

use crate::Optimizer;
use crate::gpu::build::builder::Builder;
use crate::gpu::build::spec::Group;
use crate::optim::{ALL, Entry, Rule};
use crate::options::storage::Storage;
use crate::tools::adapter::Gpu;
use crate::tools::report;
use crate::{Error, Result};
use sampling::Sampled;
use traffic::{F32, Traffic};

/// What a copy moves for each element: it reads one array and writes one.
const COPY_BYTES: f64 = 2.0 * F32;
/// What the stream kernel moves for each element: it reads four arrays and writes three.
const STREAM_BYTES: f64 = 7.0 * F32;
/// What parameters and gradients are filled with.
const PARAM: f32 = 0.5;
const GRAD: f32 = 0.01;
/// Arrays of the copy's and the stream's own: p, g, m, v.
const STREAM_ARRAYS: u64 = 4;

/// What runs the step.
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

/// So many tensors of so many elements each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Size {
    /// How many tensors.
    pub tensors: usize,
    /// Elements of each.
    pub elements: usize,
}

impl Size {
    /// The elements of all tensors.
    ///
    /// # Errors
    /// There are none, or more than can be counted.
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
}

/// What to measure: every rule with every combination of features in every storage at every size on every backend.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The rules with their settings. Default: every optimizer of the registry.
    pub rules: Vec<Box<dyn Rule>>,
    /// What stands around each rule. Default: nothing.
    pub with: Vec<With>,
    /// How tensors are stored. Default: f32. Anything else is measured on the GPU only: the host rounds alike, but holds f32.
    pub storages: Vec<Storage>,
    /// The sizes. Default: 1 tensor of a million elements, 1000 of a thousand.
    pub sizes: Vec<Size>,
    /// The backends. Default: the GPU.
    pub backends: Vec<BackendKind>,
    /// How long one measurement goes on, in seconds, preparation not counted. Default 1.
    pub seconds: f64,
    /// The least number of samples, however long they take. Default 5.
    pub samples: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            rules: ALL.iter().map(Entry::sample).collect(),
            with: vec![With::default()],
            storages: vec![Storage::default()],
            sizes: vec![Size { tensors: 1, elements: 1_000_000 }, Size { tensors: 1000, elements: 1000 }],
            backends: vec![BackendKind::Gpu],
            seconds: 1.0,
            samples: 5,
        }
    }
}

/// One optimizer's time on one backend at one size. Every rate in GB/s is the bytes that must be moved over the median time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The optimizer's name.
    pub optimizer: String,
    /// What ran it.
    pub backend: BackendKind,
    /// The adapter's name; of the CPU backend, the processor's.
    pub adapter: String,
    /// How parameters, gradients and states are stored.
    pub storage: String,
    /// How many tensors.
    pub tensors: usize,
    /// Elements of each.
    pub elements: usize,
    /// How many steps were timed.
    pub samples: usize,
    /// The median time of a step, in seconds, from submit to completion, one step per submit.
    pub median_s: f64,
    /// The shortest time of a step, in seconds. No rate is derived from it.
    pub min_s: f64,
    /// [`bytes_per_element_stored`], and what the features move beside them.
    pub bytes_per_element: f64,
    /// The step's rate: all its bytes over [`median_s`](Self::median_s).
    pub gb_per_s: f64,
    /// The rate of a kernel that copies one array to another, 8 bytes per element, from its median time.
    pub copy_gb_per_s: f64,
    /// The rate of a kernel that reads four arrays and writes three of them, 28 bytes per element, from its median time.
    pub stream_gb_per_s: f64,
    /// Launches of a step, those of a micro-batch included; `None` on the CPU.
    pub dispatches: Option<usize>,
    /// The shortest time to record a step into an encoder, in seconds, not part of the step's time; `None` on the CPU.
    pub record_s: Option<f64>,
    /// What stood around it.
    #[serde(default)]
    pub with: With,
}

impl Measurement {
    fn new(measured: Measured<'_>, sampled: &Sampled, of: Place) -> Result<Self> {
        let Measured { rule, with, storage, size } = measured;
        let elements = size.total()? as f64;
        let rate = |bytes: f64, seconds: f64| bytes * elements / seconds / 1e9;
        let bytes = Traffic::new(rule, storage, size.elements)?.step_with(with);
        Ok(Self {
            optimizer: rule.name().to_owned(),
            backend: of.backend,
            adapter: of.adapter,
            storage: storage.to_string(),
            tensors: size.tensors,
            elements: size.elements,
            samples: sampled.step.count(),
            median_s: sampled.step.median(),
            min_s: sampled.step.min(),
            bytes_per_element: bytes,
            gb_per_s: rate(bytes, sampled.step.median()),
            copy_gb_per_s: rate(COPY_BYTES, sampled.copy.median()),
            stream_gb_per_s: rate(STREAM_BYTES, sampled.stream.median()),
            dispatches: of.dispatches,
            record_s: of.record_s,
            with: with.clone(),
        })
    }

    /// The step's rate as a share of the stream kernel's. Noise that hits both leaves it alone.
    #[must_use]
    pub fn share_of_stream(&self) -> f64 {
        self.gb_per_s / self.stream_gb_per_s
    }
}

/// What is measured.
#[derive(Clone, Copy)]
struct Measured<'a> {
    rule: &'a dyn Rule,
    with: &'a With,
    storage: &'a Storage,
    size: Size,
}

impl Measured<'_> {
    fn builder(self) -> Builder {
        let mut builder = Optimizer::builder(self.rule.boxed());
        let shape = [self.size.elements];
        builder.storage(self.storage.clone());
        builder.tensors(Group::DEFAULT, (0..self.size.tensors).map(|i| (format!("tensor {i}"), shape)));
        self.with.build(&mut builder);
        builder
    }

    /// The bytes of its measurement: the optimizer's arrays, and the copy's and the stream's.
    fn bytes_needed(self, total: usize) -> Result<u64> {
        let own = Traffic::new(self.rule, self.storage, self.size.elements)?.memory();
        let around = (self.with.arrays() + STREAM_ARRAYS) as f64 * F32;
        Ok((total as f64 * (own + around)) as u64)
    }
}

/// Where a measurement was taken.
struct Place {
    backend: BackendKind,
    adapter: String,
    dispatches: Option<usize>,
    record_s: Option<f64>,
}

/// Measures what `plan` lists and hands each result on as soon as it is there.
///
/// # Errors
/// The plan asks for a GPU and none is given; settings out of range; too little memory for a size; the device was lost.
pub fn run(plan: &Plan, gpu: Option<&Gpu>, mut on_result: impl FnMut(&Measurement)) -> Result<Vec<Measurement>> {
    plan.check()?;
    let mut results = Vec::new();
    for &backend in &plan.backends {
        for &size in &plan.sizes {
            for (rule, with, storage) in plan.combinations(backend) {
                let measured = Measured { rule, with, storage, size };
                let result = match (backend, gpu) {
                    (BackendKind::Cpu, _) => cpu::measure(plan, measured)?,
                    (BackendKind::Gpu, Some(gpu)) => gpu::measure(plan, gpu, measured)?,
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
    /// What is measured on a backend at each size.
    fn combinations(&self, backend: BackendKind) -> impl Iterator<Item = (&dyn Rule, &With, &Storage)> {
        let storages = move |storage: &&Storage| backend == BackendKind::Gpu || **storage == Storage::default();
        self.rules.iter().flat_map(move |rule| {
            let with = self.with.iter();
            let of =
                move |with| self.storages.iter().filter(storages).map(move |storage| (rule.as_ref(), with, storage));
            with.flat_map(of)
        })
    }

    /// How many measurements there will be.
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

/// Refuses what would not fit into the host's memory, where that can be known. Drivers promise more than there is, and the system ends
/// the process that believes them.
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
    use super::sampling::Times;
    use super::*;
    use crate::optim::AdamW;

    /// The shortest samples are luck: a rate that is derived from them would not belong to the median beside it.
    #[test]
    fn rates_are_those_of_the_medians() {
        let times = |middle: f64| Times::new(vec![middle, 1e-6, 9.0]);
        let sampled = Sampled { copy: times(0.1), stream: times(0.2), step: times(0.4) };
        let (rule, size) = (AdamW::default(), Size { tensors: 2, elements: 500_000 });
        let measured = Measured { rule: &rule, with: &With::default(), storage: &Storage::default(), size };
        let place = Place { backend: BackendKind::Cpu, adapter: String::new(), dispatches: None, record_s: None };
        let m = Measurement::new(measured, &sampled, place).expect("a measurement");
        assert_eq!((m.median_s, m.min_s, m.bytes_per_element), (0.4, 1e-6, 28.0));
        for (rate, expected) in [(m.gb_per_s, 0.07), (m.copy_gb_per_s, 0.08), (m.stream_gb_per_s, 0.14)] {
            assert!((rate - expected).abs() < 1e-12, "{m:?}");
        }
    }
}
