//! The texts below a command's options.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use wgpu_optim::Error;
use wgpu_optim::optim::{self, Entry, Value};

pub(super) const EXIT: &str = "\
Exit status: 0; 1 past a tolerance or regressed; 2 usage or bad input; 3 no adapter; 4 device lost.";

const MAIN: &str = "\
Examples:
  wgpu-optim                                   the tour
  wgpu-optim info                              what there is to run on
  wgpu-optim info --model 16M                  what optimizers would take of its memory
  wgpu-optim info --model 16M                  what optimizers take of its memory
  wgpu-optim verify --optimizer vradam
  wgpu-optim train --optimizer adaiw --set lr=0.3
  wgpu-optim bench --optimizer adamw --tensors 1,1000 --elements 1000000,1000
  wgpu-optim replay my_run.safetensors --backend gpu
  wgpu-optim shader adamw --target msl

Heeded: WGPU_BACKEND, WGPU_ADAPTER_NAME, WGPU_POWER_PREF.";

pub(super) fn main() -> String {
    format!("{MAIN}\n{EXIT}")
}

/// The optimizers with their settings' defaults, then the ranges, all from the registry.
pub(super) fn optimizers() -> String {
    let mut text = String::from("Optimizers and their settings with defaults:\n");
    let mut ranges: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for entry in optim::ALL {
        let defaults: Vec<String> =
            defaults(entry).into_iter().map(|(name, value)| format!("{name} {value}")).collect();
        put(&mut text, format_args!("  {:<10} {}", entry.name, defaults.join(", ")));
        for setting in entry.settings {
            let named = ranges.entry(range(entry, setting)).or_default();
            if !named.contains(setting) {
                named.push(setting);
            }
        }
    }
    text.push_str("Ranges:\n");
    for (range, names) in &ranges {
        put(&mut text, format_args!("  {range}: {}", names.join(", ")));
    }
    text
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

fn defaults(entry: &Entry) -> Vec<(&'static str, String)> {
    let required = entry.required.iter().map(|name| (*name, Value::Number(1.0)));
    let Ok(rule) = entry.configure(required) else { return Vec::new() };
    let shown = |(name, value): (&'static str, Value)| {
        (name, if entry.required.contains(&name) { "(required)".to_owned() } else { value.to_string() })
    };
    rule.settings().into_iter().map(shown).collect()
}

/// What the setting accepts, in the words of its refusal: nothing accepts both a NaN and a `?`.
fn range(entry: &Entry, setting: &'static str) -> String {
    let others = entry.required.iter().filter(|name| **name != setting).map(|name| (*name, Value::Number(1.0)));
    let refused = |value| entry.configure(others.clone().chain([(setting, value)])).map(|_| ());
    let error = match refused(Value::Number(f64::NAN)) {
        Ok(()) => refused(Value::Word("?".to_owned())),
        error => error,
    };
    match error {
        Err(Error::Setting { needs, .. }) => needs.into_owned(),
        _ => "anything".to_owned(),
    }
}
