//! The help texts below a command's options.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use wgpu_optim::optim::{self, SettingSpec};

pub(super) const EXIT: &str = "\
Exit status: 0 success; 1 past a tolerance or slower than the baseline; 2 usage error or bad input; 3 no adapter; 4 device lost.";

const MAIN: &str = "\
Examples:
  wgpu-optim                                   the tour
  wgpu-optim info                              the adapters and the CPU of this machine
  wgpu-optim info --optimizer adamw            an optimizer's settings: defaults and ranges
  wgpu-optim info --model 16M                  the GPU memory that each optimizer takes
  wgpu-optim verify --optimizer vradam
  wgpu-optim train --optimizer adaiw --set lr=0.3
  wgpu-optim bench --optimizer adamw --tensors 1,1000 --elements 1000000,1000
  wgpu-optim replay my_run.safetensors --backend gpu
  wgpu-optim shader adamw --target msl

Environment variables: WGPU_BACKEND (vulkan, metal, dx12, gl), WGPU_ADAPTER_NAME and WGPU_POWER_PREF (low, high) choose the \
adapter where no option does.";

pub(super) fn main() -> String {
    format!("{MAIN}\n\n{EXIT}")
}

/// The optimizers with the defaults of their settings, then the values that the settings accept, all from the registry.
pub(super) fn optimizers() -> String {
    let mut text = String::from("Optimizers and their settings with defaults:\n");
    let mut accepted: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for entry in optim::ALL {
        let specs = entry.setting_specs();
        let defaults: Vec<String> = specs.iter().map(|spec| format!("{} {}", spec.name, default(spec))).collect();
        put(&mut text, format_args!("  {:<10} {}", entry.name, defaults.join(", ")));
        for spec in specs {
            let names = accepted.entry(spec.accepts.into_owned()).or_default();
            if !names.contains(&spec.name) {
                names.push(spec.name);
            }
        }
    }
    text.push_str(
        "The values that the settings accept (`wgpu-optim info --optimizer NAME` shows them for one optimizer):\n",
    );
    for (accepts, names) in &accepted {
        put(&mut text, format_args!("  {accepts}: {}", names.join(", ")));
    }
    text
}

/// A setting's default, as text for people.
pub(super) fn default(spec: &SettingSpec) -> String {
    spec.default.as_ref().map_or_else(|| "(required)".to_owned(), ToString::to_string)
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}
