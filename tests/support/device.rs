//! The adapter under test and devices of it. Without an adapter a test fails: a GPU test that does not run has not passed.

use std::io::Write as _;
use std::sync::OnceLock;

use pollster::block_on;
use wgpu_optim::tools::adapter::{Gpu, Selector};
use wgpu_optim::wgpu;

/// The adapter under test.
pub(crate) fn adapter() -> &'static wgpu::Adapter {
    static ADAPTER: OnceLock<wgpu::Adapter> = OnceLock::new();
    ADAPTER.get_or_init(|| {
        let adapter = block_on(Selector::default().find()).unwrap_or_else(|e| panic!("GPU tests need an adapter: {e}"));
        // The test harness captures `println!`, not the stream itself: every log names the adapter.
        writeln!(std::io::stderr(), "adapter: {}", adapter.get_info().name).expect("standard error is open");
        adapter
    })
}

/// A new device with the adapter's limits after `change`.
pub(crate) fn open(change: impl FnOnce(&mut wgpu::Limits)) -> Gpu {
    let mut limits = adapter().limits();
    change(&mut limits);
    block_on(Gpu::with_limits(adapter(), limits)).expect("the adapter gives a device")
}
