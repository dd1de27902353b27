//! The tour: in less than a minute it shows a new user whether the optimizers are right on this machine, whether they learn, and how fast
//! a step is.

use crate::optim;
use crate::optim::{Rule, Value};
use crate::tools::adapter::Gpu;
use crate::tools::backend::{Backend, Choice, Kind, Request};
use crate::tools::bench;
use crate::tools::bench::Size;
use crate::tools::train::Plan;
use crate::tools::verify;
use crate::tools::verify::Case;
use crate::{Error, Result};

/// Sizes of the verified cases: less than one vector, just past a chunk, several spans.
const SIZES: [usize; 3] = [1, 1025, 40_000];

/// The optimizers that train, with learning rates that suit the digits.
const TRAINED: [(&str, &[(&str, f64)]); 5] = [
    ("adamw", &[("lr", 3e-3)]),
    ("vradam", &[("lr", 3e-3)]),
    ("adaiw", &[("lr", 1.0), ("weight_decay", 1e-3)]),
    ("sgd", &[("lr", 0.1), ("momentum", 0.9)]),
    ("lion", &[("lr", 1e-3)]),
];

/// The number of passes through the data.
const EPOCHS: u32 = 10;

/// The backends of a tour.
#[derive(Clone, Debug)]
pub struct Tour {
    /// The adapter that is verified and measured, software included.
    pub gpu: Option<Gpu>,
    /// The backend that trains.
    pub backend: Backend,
    /// The reason why this backend is not a GPU, if the request named no kind.
    pub note: Option<String>,
}

impl Tour {
    /// Opens the best backend for training, and any adapter to verify and measure.
    ///
    /// # Errors
    /// The request names a GPU and none fits; the adapter gives no device.
    pub fn begin(request: &Request) -> Result<Self> {
        let Choice { backend, note } = pollster::block_on(request.open())?;
        let gpu = match (backend.gpu(), request.kind) {
            (Some(gpu), _) => Some(gpu.clone()),
            (None, Some(Kind::Cpu | Kind::Reference)) => None,
            (None, _) => match pollster::block_on(request.selector.open()) {
                Err(Error::NoAdapter(_)) => None,
                opened => Some(opened?),
            },
        };
        Ok(Self { gpu, backend, note })
    }

    /// The backends that are verified and measured.
    #[must_use]
    pub fn backends(&self) -> Vec<Backend> {
        let gpu = self.gpu.clone().map(|gpu| Backend::Gpu(Box::new(gpu)));
        gpu.into_iter().chain([Backend::Cpu]).collect()
    }

    /// Every variant of every optimizer at a few sizes.
    #[must_use]
    pub fn cases() -> Vec<Case> {
        verify::cases().into_iter().filter(|case| SIZES.contains(&case.size)).collect()
    }

    /// A few optimizers on the digits.
    ///
    /// # Errors
    /// None, unless the registry lacks one of the optimizers.
    pub fn plans() -> Result<Vec<Plan>> {
        let plan = |(name, settings): &(&str, &[(&'static str, f64)])| {
            let settings = settings.iter().map(|(name, value)| (*name, Value::Number(*value)));
            Ok(Plan { epochs: EPOCHS, ..Plan::new(optim::find(name)?.configure(settings)?) })
        };
        TRAINED.iter().map(plan).collect()
    }

    /// AdamW over a million elements, in one tensor and in a thousand tensors.
    #[must_use]
    pub fn measurements(&self) -> bench::Plan {
        let rule: Box<dyn Rule> = Box::new(optim::AdamW::default());
        let kind =
            |backend: &Backend| if backend.gpu().is_some() { bench::BackendKind::Gpu } else { bench::BackendKind::Cpu };
        bench::Plan {
            rules: vec![rule],
            sizes: vec![Size::new(1, 1_000_000), Size::new(1000, 1000)],
            backends: self.backends().iter().map(kind).collect(),
            ..bench::Plan::default()
        }
    }
}
