//! The device that the tests of a suite share.

use std::sync::LazyLock;

use wgpu_optim::tools::adapter::Gpu;

/// A device with all that the adapter's limits allow.
pub(crate) static GPU: LazyLock<Gpu> = LazyLock::new(|| super::device::open(|_| ()));
