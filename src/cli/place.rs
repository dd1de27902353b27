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
    /// Any adapter, software included
    Gpu,
    /// The fast f32 path on the host
    Cpu,
    /// The f64 oracle on the host
    Reference,
    /// gpu, on Vulkan
    Vulkan,
    /// gpu, on Metal
    Metal,
    /// gpu, on Direct3D 12
    Dx12,
    /// gpu, on OpenGL ES
    Gl,
}

/// Where a command runs.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Place {
    /// Where to run; default: a hardware GPU, else the CPU
    #[arg(long, value_enum)]
    backend: Option<Where>,
    /// Which adapter: its index in `wgpu-optim info`, or a part of its name
    #[arg(long, value_name = "INDEX|NAME")]
    adapter: Option<String>,
}

impl Place {
    /// What was asked for; naming an adapter asks for a GPU.
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
                let problem = format!("--adapter {adapter} needs --backend gpu, it is {}", kind.name());
                Err(Error::Usage(problem).into())
            }
            _ => Ok(Request { kind, selector: Selector { backends, adapter: self.adapter.clone() } }),
        }
    }

    /// As [`request`](Self::request); what was left open is the GPU where nothing else can run what is asked for.
    pub(super) fn request_for(&self, gpu_only: bool) -> Result<Request, Failure> {
        let request = self.request()?;
        Ok(Request { kind: request.kind.or(gpu_only.then_some(Kind::Gpu)), ..request })
    }

    /// Opens it, and says on standard error why it is not a GPU where that was left open.
    pub(super) fn open(&self, gpu_only: bool) -> Result<Choice, Failure> {
        let choice = pollster::block_on(self.request_for(gpu_only)?.open())?;
        if let Some(note) = &choice.note {
            Output::note(format_args!("running on the CPU: {note}"));
        }
        Ok(choice)
    }
}
