//! `--backend` and `--adapter`.

use clap::{Args, ValueEnum};

use wgpu_optim::Error;
use wgpu_optim::tools::adapter::Selector;
use wgpu_optim::tools::backend::{Choice, Kind, Request};
use wgpu_optim::wgpu::Backends;

use super::failure::Failure;
use super::output::Output;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Where {
    /// Any adapter, software adapters included
    Gpu,
    /// The fast f32 path on the CPU
    Cpu,
    /// The f64 reference on the CPU
    Reference,
    /// A Vulkan adapter
    Vulkan,
    /// A Metal adapter
    Metal,
    /// A Direct3D 12 adapter
    Dx12,
    /// An OpenGL ES adapter
    Gl,
}

/// The options that choose the backend of a command.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Place {
    /// Where to run; without the option: a hardware GPU, else the CPU (verify: any adapter; bench: any adapter and the CPU)
    #[arg(long, value_enum)]
    backend: Option<Where>,
    /// The adapter: its index in `wgpu-optim info`, or a part of its name
    #[arg(long, value_name = "INDEX|NAME")]
    adapter: Option<String>,
}

impl Place {
    /// The request that the options make; naming an adapter requests a GPU.
    pub(super) fn request(&self) -> Result<Request, Failure> {
        let (kind, backends) = match self.backend {
            None => (self.adapter.as_ref().map(|_| Kind::Gpu), None),
            Some(Where::Gpu) => (Some(Kind::Gpu), None),
            Some(Where::Cpu) => (Some(Kind::Cpu), None),
            Some(Where::Reference) => (Some(Kind::Reference), None),
            Some(Where::Vulkan) => (Some(Kind::Gpu), Some(Backends::VULKAN)),
            Some(Where::Metal) => (Some(Kind::Gpu), Some(Backends::METAL)),
            Some(Where::Dx12) => (Some(Kind::Gpu), Some(Backends::DX12)),
            Some(Where::Gl) => (Some(Kind::Gpu), Some(Backends::GL)),
        };
        match (kind, &self.adapter) {
            (Some(kind @ (Kind::Cpu | Kind::Reference)), Some(adapter)) => {
                let problem = format!("--adapter {adapter} needs --backend gpu, but --backend is {}", kind.name());
                Err(Error::Usage(problem).into())
            }
            _ => Ok(Request { kind, selector: Selector { backends, adapter: self.adapter.clone() } }),
        }
    }

    /// As [`request`](Self::request). Without --backend, the request names a GPU if `gpu_only` says that only a GPU can run the command.
    pub(super) fn request_for(&self, gpu_only: bool) -> Result<Request, Failure> {
        let request = self.request()?;
        Ok(Request { kind: request.kind.or(gpu_only.then_some(Kind::Gpu)), ..request })
    }

    /// Opens the backend. If no option names a backend and it is not a GPU, a note on standard error says why.
    pub(super) fn open(&self, gpu_only: bool) -> Result<Choice, Failure> {
        let choice = pollster::block_on(self.request_for(gpu_only)?.open())?;
        if let Some(note) = &choice.note {
            Output::note(format_args!("running on the CPU: {note}"));
        }
        Ok(choice)
    }
}
