//! Finding and opening an adapter, for the command line, tests and examples. The library itself works on any device that the caller has.

use std::sync::{Arc, Mutex};

use crate::{Error, Result};

/// The criteria for an adapter. The default reads the environment variables `WGPU_BACKEND`, `WGPU_ADAPTER_NAME` and `WGPU_POWER_PREF`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Only adapters of these APIs; `None`: those that `WGPU_BACKEND` names, or all.
    pub backends: Option<wgpu::Backends>,
    /// An index of [`adapters`], or a part of a name in any case; `None`: the adapter that `WGPU_ADAPTER_NAME` names, or the best.
    pub adapter: Option<String>,
}

/// The names that wgpu accepts in `WGPU_BACKEND`; the usual name of each API comes first.
const BACKENDS: [(&str, wgpu::Backends); 11] = [
    ("vulkan", wgpu::Backends::VULKAN),
    ("metal", wgpu::Backends::METAL),
    ("dx12", wgpu::Backends::DX12),
    ("gl", wgpu::Backends::GL),
    ("webgpu", wgpu::Backends::BROWSER_WEBGPU),
    ("noop", wgpu::Backends::NOOP),
    ("vk", wgpu::Backends::VULKAN),
    ("mtl", wgpu::Backends::METAL),
    ("d3d12", wgpu::Backends::DX12),
    ("gles", wgpu::Backends::GL),
    ("opengl", wgpu::Backends::GL),
];

/// The usual names of these APIs.
fn names(backends: wgpu::Backends) -> String {
    let mut names: Vec<&str> = Vec::new();
    let mut left = backends;
    for (name, backend) in BACKENDS {
        if left.contains(backend) {
            names.push(name);
            left.remove(backend);
        }
    }
    names.join(", ")
}

/// The APIs in a value of `WGPU_BACKEND`. An unknown name is an error here; wgpu itself only logs it.
fn named_backends(value: &str) -> Result<wgpu::Backends> {
    let mut backends = wgpu::Backends::empty();
    for name in value.split(',').map(str::trim) {
        let known = BACKENDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        let names = || BACKENDS.iter().map(|(name, _)| *name);
        backends |= known.ok_or_else(|| Error::unknown("value of WGPU_BACKEND", name, names()))?.1;
    }
    Ok(backends)
}

/// Refuses `wanted` if none of its APIs is in this build, which has `built`: no driver could then provide an adapter.
fn check_built(wanted: wgpu::Backends, built: wgpu::Backends) -> Result<()> {
    if wanted.intersects(built) {
        return Ok(());
    }
    let (wanted, built, os) = (names(wanted), names(built), std::env::consts::OS);
    let problem = format!("the backend {wanted} does not exist here: this build for {os} has {built}");
    Err(Error::Usage(problem))
}

/// An open device.
#[derive(Clone, Debug)]
pub struct Gpu {
    /// The adapter.
    pub info: wgpu::AdapterInfo,
    /// The device, with the adapter's limits and of the optional features only timestamps, if the adapter has them.
    pub device: wgpu::Device,
    /// The device's queue.
    pub queue: wgpu::Queue,
    lost: Arc<Mutex<Option<String>>>,
}

/// Whether the adapter is hardware and not a software rasterizer. A browser tells only its software rasterizer from the others.
#[must_use]
pub fn is_hardware(info: &wgpu::AdapterInfo) -> bool {
    match info.device_type {
        wgpu::DeviceType::DiscreteGpu | wgpu::DeviceType::IntegratedGpu | wgpu::DeviceType::VirtualGpu => true,
        wgpu::DeviceType::Other => info.backend == wgpu::Backend::BrowserWebGpu,
        wgpu::DeviceType::Cpu => false,
    }
}

/// Advice for a user on whose system no adapter was found.
#[must_use]
pub const fn install_hint() -> &'static str {
    if cfg!(target_os = "linux") {
        "install the GPU vendor's Vulkan driver, or a software one: apt install mesa-vulkan-drivers"
    } else if cfg!(target_os = "windows") {
        "install the GPU vendor's driver"
    } else {
        "this system needs a GPU that Metal or Vulkan supports"
    }
}

/// All adapters of these APIs, the best first: hardware before software, the platform's own API before GL.
pub async fn adapters(backends: Option<wgpu::Backends>) -> Vec<wgpu::Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
    if let Some(backends) = backends {
        descriptor.backends = backends;
    }
    let instance = wgpu::Instance::new(descriptor);
    let mut adapters = instance.enumerate_adapters(wgpu::Backends::all()).await;
    let low_power = wgpu::PowerPreference::from_env() == Some(wgpu::PowerPreference::LowPower);
    adapters.sort_by_key(|adapter| {
        let info = adapter.get_info();
        let kind = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => u8::from(low_power),
            wgpu::DeviceType::IntegratedGpu => u8::from(!low_power),
            wgpu::DeviceType::VirtualGpu => 2,
            wgpu::DeviceType::Other => 3,
            wgpu::DeviceType::Cpu => 4,
        };
        (kind, info.backend == wgpu::Backend::Gl)
    });
    adapters
}

impl Selector {
    /// Checks that this platform and this build have an API that [`backends`](Self::backends) or `WGPU_BACKEND` names.
    ///
    /// # Errors
    /// No named API is in this build; `WGPU_BACKEND` holds a name that wgpu does not know.
    pub fn check_backends(&self) -> Result<()> {
        let wanted = match (self.backends, std::env::var("WGPU_BACKEND")) {
            (Some(backends), _) => backends,
            (None, Ok(value)) => named_backends(&value)?,
            (None, Err(_)) => return Ok(()),
        };
        check_built(wanted, wgpu::Instance::enabled_backend_features())
    }

    /// The adapter that fits best.
    ///
    /// # Errors
    /// No adapter fits, and the error lists the adapters that were found; [`check_backends`](Self::check_backends) refuses the APIs.
    pub async fn find(&self) -> Result<wgpu::Adapter> {
        self.check_backends()?;
        let adapters = adapters(self.backends).await;
        let names: Vec<String> = adapters.iter().map(|a| a.get_info().name).collect();
        let wanted = self.adapter.clone().or_else(|| std::env::var("WGPU_ADAPTER_NAME").ok());
        let found = match &wanted {
            None => 0,
            Some(wanted) => match wanted.parse::<usize>() {
                Ok(index) => index,
                Err(_) => {
                    let wanted = wanted.to_lowercase();
                    names.iter().position(|name| name.to_lowercase().contains(&wanted)).unwrap_or(usize::MAX)
                }
            },
        };
        adapters.into_iter().nth(found).ok_or_else(|| {
            let list = if names.is_empty() {
                format!(": no driver is installed; {}", install_hint())
            } else {
                format!(", found: {}", names.join(", "))
            };
            Error::NoAdapter(wanted.map_or_else(String::new, |w| format!(" for `{w}`")) + &list)
        })
    }

    /// Opens the adapter that fits best, with all its limits.
    ///
    /// # Errors
    /// No adapter fits; the adapter gives no device.
    pub async fn open(&self) -> Result<Gpu> {
        let adapter = self.find().await?;
        Gpu::with_limits(&adapter, adapter.limits()).await
    }
}

impl Gpu {
    /// Takes an open device. If it is lost, [`Gpu::lost`] tells why.
    #[must_use]
    pub fn of(info: wgpu::AdapterInfo, device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let lost = Arc::new(Mutex::new(None));
        let note = lost.clone();
        device.set_device_lost_callback(move |reason, message| {
            if let Ok(mut note) = note.lock() {
                *note = Some(format!("{reason:?}: {message}"));
            }
        });
        Self { info, device, queue, lost }
    }

    /// Opens an adapter with these limits. If the device is lost, [`Gpu::lost`] tells why.
    ///
    /// # Errors
    /// The adapter gives no device with these limits.
    pub async fn with_limits(adapter: &wgpu::Adapter, required_limits: wgpu::Limits) -> Result<Self> {
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("wgpu-optim"),
            required_features: adapter.features() & wgpu::Features::TIMESTAMP_QUERY,
            required_limits,
            ..Default::default()
        };
        let info = adapter.get_info();
        let opened = adapter.request_device(&descriptor).await;
        let (device, queue) = opened.map_err(|e| Error::Wgpu(format!("{}: {e}", info.name)))?;
        Ok(Self::of(info, device, queue))
    }

    /// The reason why the device was lost; `None` while it works.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        self.lost.lock().ok()?.clone()
    }

    /// Submits the commands that `record` records, and waits until they are done. Blocks; a page calls [`run_async`](Self::run_async).
    ///
    /// # Errors
    /// `record` returns an error; the device was lost.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn run(&self, record: impl FnOnce(&mut wgpu::CommandEncoder) -> Result<()>) -> Result<()> {
        self.submit(record)?;
        self.wait()
    }

    /// As `run`, but in a page the future yields to the event loop.
    ///
    /// # Errors
    /// `record` returns an error; the device was lost.
    pub async fn run_async(&self, record: impl FnOnce(&mut wgpu::CommandEncoder) -> Result<()>) -> Result<()> {
        self.submit(record)?;
        self.done().await
    }

    fn submit(&self, record: impl FnOnce(&mut wgpu::CommandEncoder) -> Result<()>) -> Result<()> {
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        record(&mut encoder)?;
        self.queue.submit([encoder.finish()]);
        Ok(())
    }

    /// Waits until all submitted commands are done. Natively the future blocks, as `wait` does: the caller has nothing else to do. In a page
    /// it yields to the event loop.
    ///
    /// # Errors
    /// The device was lost.
    #[cfg_attr(not(target_arch = "wasm32"), allow(clippy::unused_async, reason = "a page awaits"))]
    pub async fn done(&self) -> Result<()> {
        #[cfg(not(target_arch = "wasm32"))]
        return self.wait();
        #[cfg(target_arch = "wasm32")]
        {
            let (sender, receiver) = futures::channel::oneshot::channel();
            self.queue.on_submitted_work_done(move || _ = sender.send(()));
            let called = receiver.await;
            match (called, self.lost()) {
                (Ok(()), None) => Ok(()),
                (_, why) => Err(Error::DeviceLost(why.unwrap_or_else(|| "its work was not done".to_owned()))),
            }
        }
    }

    /// Waits until all submitted commands are done. Blocks; a page calls [`done`](Self::done).
    ///
    /// # Errors
    /// The device was lost.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn wait(&self) -> Result<()> {
        let done = self.device.poll(wgpu::PollType::wait_indefinitely());
        done.map_err(|e| Error::DeviceLost(self.lost().unwrap_or_else(|| e.to_string())))?;
        self.lost().map_or(Ok(()), |why| Err(Error::DeviceLost(why)))
    }

    /// The adapter in one line: name, API, driver.
    #[must_use]
    pub fn name(&self) -> String {
        let i = &self.info;
        format!("{} ({:?}, {} {})", i.name, i.backend, i.driver, i.driver_info).replace("  ", " ").replace(" )", ")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINUX: wgpu::Backends = wgpu::Backends::VULKAN.union(wgpu::Backends::GL);

    #[test]
    fn backends_have_the_names_that_wgpu_reads() {
        for (name, backend) in BACKENDS {
            assert_eq!(wgpu::Backends::from_comma_list(name), backend, "{name}");
            assert_eq!(named_backends(&name.to_uppercase()).ok(), Some(backend), "{name}");
        }
        assert_eq!(named_backends("vulkan, gl").ok(), Some(LINUX));
        assert_eq!(names(wgpu::Backends::all()), "vulkan, metal, dx12, gl, webgpu, noop");
    }

    #[test]
    fn unknown_and_missing_backends_are_told_apart() {
        let error = named_backends("vulkan,vulcan").expect_err("an unknown name").to_string();
        assert!(error.contains("unknown value of WGPU_BACKEND `vulcan`, did you mean `vulkan`?"), "{error}");
        assert!(named_backends("").is_err());
        let error = check_built(wgpu::Backends::METAL, LINUX).expect_err("not in this build").to_string();
        assert!(error.contains("the backend metal does not exist here") && error.contains("vulkan, gl"), "{error}");
        assert!(check_built(wgpu::Backends::METAL | wgpu::Backends::GL, LINUX).is_ok());
    }
}
