//! The tour: what a new user wants to know of this machine, in under a minute. It is right, it learns, and how fast it is.

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

/// Sizes that are verified: less than one vector, just past a chunk, several spans.
const SIZES: [usize; 3] = [1, 1025, 40_000];

/// What is trained, with rates that suit the digits.
const TRAINED: [(&str, &[(&str, f64)]); 5] = [
    ("adamw", &[("lr", 3e-3)]),
    ("vradam", &[("lr", 3e-3)]),
    ("adaiw", &[("lr", 1.0), ("weight_decay", 1e-3)]),
    ("sgd", &[("lr", 0.1), ("momentum", 0.9)]),
    ("lion", &[("lr", 1e-3)]),
];

/// How often the data is gone through.
const EPOCHS: u32 = 10;

/// Where the tour goes.
#[derive(Clone, Debug)]
pub struct Tour {
    /// The adapter that is verified and measured, software included.
    pub gpu: Option<Gpu>,
    /// What trains.
    pub backend: Backend,
    /// Why that is not a GPU, where the request left it open.
    pub note: Option<String>,
}

impl Tour {
    /// Finds the best backend for training, and any adapter at all to verify and measure.
    ///
    /// # Errors
    /// A GPU was asked for and none fits, or it gives no device.
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
    /// None, unless the registry lacks one of them.
    pub fn plans() -> Result<Vec<Plan>> {
        let plan = |(name, settings): &(&str, &[(&'static str, f64)])| {
            let settings = settings.iter().map(|(name, value)| (*name, Value::Number(*value)));
            Ok(Plan { epochs: EPOCHS, ..Plan::new(optim::find(name)?.configure(settings)?) })
        };
        TRAINED.iter().map(plan).collect()
    }

    /// AdamW over a million elements in one tensor and in a thousand.
    #[must_use]
    pub fn measurements(&self) -> bench::Plan {
        let rule: Box<dyn Rule> = Box::new(optim::AdamW::default());
        let of =
            |backend: &Backend| if backend.gpu().is_some() { bench::BackendKind::Gpu } else { bench::BackendKind::Cpu };
        bench::Plan {
            rules: vec![rule],
            sizes: vec![Size { tensors: 1, elements: 1_000_000 }, Size { tensors: 1000, elements: 1000 }],
            backends: self.backends().iter().map(of).collect(),
            ..bench::Plan::default()
        }
    }
}
