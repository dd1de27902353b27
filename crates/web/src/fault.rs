//! Errors of this crate as JavaScript's `Error`.

use std::future::Future;
use std::pin::Pin;

use js_sys::Promise;
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::future_to_promise;
use wgpu_optim::Error;

pub(crate) type Result<T> = std::result::Result<T, JsValue>;

/// An `Error` with our text, and with the kind of the error as its `code`.
pub(crate) fn fault(error: &Error) -> JsValue {
    let made = js_sys::Error::new(&error.to_string());
    let code = match error {
        Error::DeviceLost(_) => "device-lost",
        Error::OutOfMemory { .. } => "out-of-memory",
        Error::TooManySteps { .. } => "too-many-steps",
        Error::Mismatch { .. } | Error::File { .. } => "checkpoint",
        Error::Shader(_) => "shader",
        Error::Wgpu(_) => "webgpu",
        _ => "usage",
    };
    // A plain object takes any property.
    let _ = js_sys::Reflect::set(&made, &"code".into(), &code.into());
    made.into()
}

pub(crate) fn usage(problem: &str) -> JsValue {
    fault(&Error::Usage(problem.to_owned()))
}

pub(crate) trait OrFault<T> {
    fn or_fault(self) -> Result<T>;
}

impl<T> OrFault<T> for wgpu_optim::Result<T> {
    fn or_fault(self) -> Result<T> {
        self.map_err(|error| fault(&error))
    }
}

/// A promise of what a future of the library returns. Boxed, because each type of future that becomes a promise adds code to the module.
pub(crate) fn promise<T: Into<JsValue>>(future: impl Future<Output = wgpu_optim::Result<T>> + 'static) -> Promise {
    boxed(Box::pin(async move { future.await.map(Into::into).or_fault() }))
}

pub(crate) fn boxed(future: Pin<Box<dyn Future<Output = Result<JsValue>>>>) -> Promise {
    future_to_promise(future)
}
