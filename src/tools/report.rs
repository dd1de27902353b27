//! The description of a run, which is the first line of the tools' JSON output.

use web_time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// The version of the format of the JSON lines. It changes when a field changes its meaning or is removed.
pub const SCHEMA: u32 = 1;

/// The version of wgpu that this crate uses; a test compares it with `Cargo.lock`.
pub const WGPU_VERSION: &str = "30.0";

/// The place and time of a run. The fields of the adapter are `None` if only the CPU ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Run {
    /// [`SCHEMA`].
    pub schema: u32,
    /// This crate's version.
    pub crate_version: &'static str,
    /// [`WGPU_VERSION`].
    pub wgpu_version: &'static str,
    /// The adapter's name.
    pub adapter: Option<String>,
    /// The vendor's PCI number.
    pub vendor: Option<u32>,
    /// The device's PCI number.
    pub device: Option<u32>,
    /// Discrete, integrated, virtual, software (`cpu`) or `other`.
    pub device_type: Option<&'static str>,
    /// `vulkan`, `metal`, `dx12`, `gl` or `webgpu`.
    pub api: Option<String>,
    /// The driver's name.
    pub driver: Option<String>,
    /// The driver's version, as the driver gives it.
    pub driver_info: Option<String>,
    /// The processor, with the number of threads that it runs at once.
    pub cpu: String,
    /// The time at which the run began: RFC 3339, UTC.
    pub time: String,
}

impl Run {
    /// A run that begins now.
    #[must_use]
    pub fn now(adapter: Option<&wgpu::AdapterInfo>) -> Self {
        Self {
            schema: SCHEMA,
            crate_version: env!("CARGO_PKG_VERSION"),
            wgpu_version: WGPU_VERSION,
            adapter: adapter.map(|a| a.name.clone()),
            vendor: adapter.map(|a| a.vendor),
            device: adapter.map(|a| a.device),
            device_type: adapter.map(|a| device_type(a.device_type)),
            api: adapter.map(|a| a.backend.to_str().to_owned()),
            driver: adapter.map(|a| a.driver.clone()),
            driver_info: adapter.map(|a| a.driver_info.clone()),
            cpu: format!("{} ({} threads)", cpu_name(), threads()),
            time: rfc3339(SystemTime::now()),
        }
    }
}

const fn device_type(kind: wgpu::DeviceType) -> &'static str {
    match kind {
        wgpu::DeviceType::DiscreteGpu => "discrete",
        wgpu::DeviceType::IntegratedGpu => "integrated",
        wgpu::DeviceType::VirtualGpu => "virtual",
        wgpu::DeviceType::Cpu => "cpu",
        wgpu::DeviceType::Other => "other",
    }
}

/// The number of threads that this machine runs at once.
#[must_use]
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The processor's name, or its architecture if the system does not tell the name.
#[must_use]
pub fn cpu_name() -> String {
    system_cpu_name().filter(|name| !name.is_empty()).unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn system_cpu_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    // x86 has the key "model name"; other architectures have one of the other keys, or none.
    ["model name", "Model", "cpu model", "Hardware", "cpu"].iter().find_map(|key| {
        let values = text.lines().filter_map(|line| line.split_once(':'));
        let mut found = values.filter(|(name, _)| name.trim() == *key).map(|(_, value)| value.trim().to_owned());
        found.next()
    })
}

#[cfg(target_os = "macos")]
fn system_cpu_name() -> Option<String> {
    let output = std::process::Command::new("sysctl").args(["-n", "machdep.cpu.brand_string"]).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(windows)]
fn system_cpu_name() -> Option<String> {
    std::env::var("PROCESSOR_IDENTIFIER").ok()
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "macos", windows)))]
fn system_cpu_name() -> Option<String> {
    None
}

/// The bytes of free memory of the host; `None` if the system does not tell.
#[must_use]
pub fn free_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// `2026-08-31T12:34:56Z`.
fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of a count of days since 1970-01-01. Years begin in March here, so that the leap day is the last; an era is the
/// 400 years after which the calendar repeats.
const fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year_of_era + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_the_calendars() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_078_099_200, "2004-03-01T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn wgpus_version_is_the_locked_one() {
        let lock = include_str!("../../Cargo.lock");
        let (_, after) = lock.split_once("name = \"wgpu\"\nversion = \"").expect("wgpu is locked");
        assert!(after.starts_with(&format!("{WGPU_VERSION}.")), "wgpu is locked at {}", &after[..8]);
    }

    #[test]
    fn a_run_on_the_cpu_has_every_field() {
        let json = serde_json::to_value(Run::now(None)).expect("a run is plain data");
        let names: Vec<&str> = json.as_object().expect("an object").keys().map(String::as_str).collect();
        let expected =
            "schema crate_version wgpu_version adapter vendor device device_type api driver driver_info cpu time";
        assert_eq!(names, expected.split(' ').collect::<Vec<_>>());
        assert!(json["adapter"].is_null());
        assert!(!Run::now(None).cpu.is_empty());
    }
}
