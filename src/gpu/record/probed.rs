//! Whether a rule that probes has slopes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::gpu::hyper::watch::watch;

/// Whether a rule that probes has slopes: from losses that were written, or from recorded probes. A dropped encoder takes its probes back.
#[derive(Debug, Default)]
pub(crate) struct Probed {
    given: bool,
    recorded: Arc<AtomicUsize>,
}

impl Probed {
    /// After losses were written. Probes that were recorded before no longer matter.
    pub(crate) fn given(given: bool) -> Self {
        Self { given, recorded: Arc::default() }
    }

    pub(crate) fn get(&self) -> bool {
        self.given || self.recorded.load(Ordering::SeqCst) > 0
    }

    /// Notes probes in the encoder.
    pub(crate) fn record(&self, encoder: &wgpu::CommandEncoder) {
        let recorded = self.recorded.clone();
        recorded.fetch_add(1, Ordering::SeqCst);
        watch(encoder, move |done| {
            if !done {
                recorded.fetch_sub(1, Ordering::SeqCst);
            }
        });
    }
}
