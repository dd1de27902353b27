//! The backends that run an optimizer, and the choice between them.

use crate::tools::adapter;
use crate::tools::adapter::{Gpu, Selector};
use crate::tools::replay::trajectory::Precision;
use crate::{Error, Result};

/// The kinds of backends.
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
    /// The kind's name on the command line and in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gpu => "gpu",
            Self::Cpu => "cpu",
            Self::Reference => "reference",
        }
    }

    /// The precision in which the kind computes.
    #[must_use]
    pub const fn precision(self) -> Precision {
        match self {
            Self::Gpu | Self::Cpu => Precision::F32,
            Self::Reference => Precision::F64,
        }
    }
}

/// A backend that is ready to run an optimizer.
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
    /// The backend's kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Gpu(_) => Kind::Gpu,
            Self::Cpu => Kind::Cpu,
            Self::Reference => Kind::Reference,
        }
    }

    /// The device, if the backend is a GPU.
    #[must_use]
    pub const fn gpu(&self) -> Option<&Gpu> {
        match self {
            Self::Gpu(gpu) => Some(gpu),
            Self::Cpu | Self::Reference => None,
        }
    }

    /// A description in one line: for a GPU its name, API and driver.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Gpu(gpu) => gpu.name(),
            Self::Cpu => "the CPU, fast f32 path".to_owned(),
            Self::Reference => "the CPU, f64 reference".to_owned(),
        }
    }
}

/// A user's request for a backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The kind; `None`: a hardware GPU if there is one, else the CPU.
    pub kind: Option<Kind>,
    /// The adapter to choose.
    pub selector: Selector,
}

/// The backend that a [`Request`] opened.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The backend.
    pub backend: Backend,
    /// The reason why the backend is not a GPU, if the request named no kind.
    pub note: Option<String>,
}

impl Request {
    /// Whether the request or the environment names an adapter.
    fn names_adapter(&self) -> bool {
        self.selector.adapter.is_some() || std::env::var_os("WGPU_ADAPTER_NAME").is_some()
    }

    /// Opens the backend. Without a kind it opens a hardware GPU or, with a note, the CPU: a software GPU is an order of magnitude slower
    /// than the CPU.
    ///
    /// # Errors
    /// The request names a GPU or an adapter, and no adapter fits; the adapter gives no device.
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
