//! The wasm module behind the npm package `wgpu-optim-web`. Its functions are plain: names, numbers and handles. The habits of
//! JavaScript (options as objects, the caller's own buffers and encoders) live in `js/`, which calls these functions.
//!
//! - `device` has the caller's device, buffers and recorded commands as wgpu's.
//! - `plan` collects what an optimizer is built from; `engine` is the built optimizer.
//! - `tools` (feature `full`) verifies, measures and races.

#![cfg(target_arch = "wasm32")]

mod device;
mod engine;
mod evaluation;
mod fault;
mod plan;
mod settings;
#[cfg(feature = "full")]
pub mod tools;

use js_sys::Array;
use wasm_bindgen::prelude::*;
use wgpu_optim::optim::{ALL, Entry, SettingSpec};

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn console_error(text: &str);
}

/// Runs when the module loads. A panic is a defect of this crate; its text would otherwise be lost behind `unreachable`.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|panic| console_error(&panic.to_string())));
}

/// The optimizers of this crate, as `[name, settings]`; a setting is `[name, default, accepted values]`.
#[wasm_bindgen]
pub fn rules() -> Array {
    let setting = |spec: SettingSpec| {
        let default = spec.default.map_or(JsValue::UNDEFINED, |value| settings::value(&value));
        Array::of3(&spec.name.into(), &default, &JsValue::from_str(&spec.accepts))
    };
    let rule = |entry: &Entry| {
        let settings: Array = entry.setting_specs().into_iter().map(setting).collect();
        Array::of2(&entry.name.into(), &settings)
    };
    ALL.iter().map(rule).collect()
}
