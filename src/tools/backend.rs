//! Where things run, and how that is chosen.

use crate::tools::adapter;
use crate::tools::adapter::{Gpu, Selector};
use crate::tools::replay::trajectory::Precision;
use crate::{Error, Result};

/// The kinds of place that run an optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Any adapter, hardware or software.
    Gpu,
    /// The fast f32 path on the host.
    Cpu,
    /// The f64 oracle on the host.
    Reference,
}

impl Kind {
    /// Its name on the command line and in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gpu => "gpu",
            Self::Cpu => "cpu",
            Self::Reference => "reference",
        }
    }

    /// What it computes in.
    #[must_use]
    pub const fn precision(self) -> Precision {
        match self {
            Self::Gpu | Self::Cpu => Precision::F32,
            Self::Reference => Precision::F64,
        }
    }
}

/// A place that is ready to run an optimizer.
#[derive(Clone, Debug)]
pub enum Backend {
    /// An open device.
    Gpu(Box<Gpu>),
    /// The fast f32 path on the host.
    Cpu,
    /// The f64 oracle on the host.
    Reference,
}

impl Backend {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Gpu(_) => Kind::Gpu,
            Self::Cpu => Kind::Cpu,
            Self::Reference => Kind::Reference,
        }
    }

    /// The device, where there is one.
    #[must_use]
    pub const fn gpu(&self) -> Option<&Gpu> {
        match self {
            Self::Gpu(gpu) => Some(gpu),
            Self::Cpu | Self::Reference => None,
        }
    }

    /// In a line: what it is and, of a GPU, its name, API and driver.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Gpu(gpu) => gpu.name(),
            Self::Cpu => "the CPU, fast f32 path".to_owned(),
            Self::Reference => "the CPU, f64 reference".to_owned(),
        }
    }
}

/// What a user asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The kind; `None`: a hardware GPU where there is one, else the CPU.
    pub kind: Option<Kind>,
    /// Which adapter.
    pub selector: Selector,
}

/// What a [`Request`] came to.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The backend.
    pub backend: Backend,
    /// Why it is not a GPU, where the request left that open.
    pub note: Option<String>,
}

impl Request {
    /// Whether an adapter was named, here or in the environment.
    fn names_adapter(&self) -> bool {
        self.selector.adapter.is_some() || std::env::var_os("WGPU_ADAPTER_NAME").is_some()
    }

    /// Opens what was asked for: where the kind is left open, a hardware GPU or, with a note, the CPU, because a software GPU is an
    /// order of magnitude slower than that.
    ///
    /// # Errors
    /// A GPU was asked for, or an adapter named, and none fits, or it gives no device.
    pub async fn open(&self) -> Result<Choice> {
        match self.kind {
            Some(Kind::Cpu) => Ok(Choice { backend: Backend::Cpu, note: None }),
            Some(Kind::Reference) => Ok(Choice { backend: Backend::Reference, note: None }),
            Some(Kind::Gpu) => self.open_gpu().await,
            None => self.open_best().await,
        }
    }

    async fn open_gpu(&self) -> Result<Choice> {
        Ok(Choice { backend: Backend::Gpu(Box::new(self.selector.open().await?)), note: None })
    }

    async fn open_best(&self) -> Result<Choice> {
        let note = match self.selector.find().await {
            Ok(adapter) if adapter::is_hardware(&adapter.get_info()) => return self.open_gpu().await,
            Ok(adapter) => format!("{} is a software GPU, slower than the CPU path", adapter.get_info().name),
            Err(Error::NoAdapter(found)) if !self.names_adapter() => {
                format!("no GPU adapter found{found}")
            }
            Err(error) => return Err(error),
        };
        Ok(Choice { backend: Backend::Cpu, note: Some(note) })
    }
}
