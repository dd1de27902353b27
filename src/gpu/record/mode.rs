//! The mode of the parameters: they hold the point at which the rule trains, the average of the weights, or the point of evaluation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::gpu::Part;
use crate::gpu::hyper::watch::watch;
use crate::options::around::Mode;
use crate::{Error, Result};

/// The mode after all recorded work. A dropped encoder takes its changes back.
#[derive(Debug, Default)]
pub(crate) struct Modes(Arc<AtomicU8>);

impl Modes {
    pub(crate) fn get(&self) -> Mode {
        Mode::of_bits(self.0.load(Ordering::SeqCst))
    }

    /// Sets the mode, as when a checkpoint is restored. Only while all recorded work is finished.
    #[cfg(feature = "checkpoint")]
    pub(crate) fn set(&mut self, mode: Mode) {
        self.0 = Arc::new(AtomicU8::new(mode.bits()));
    }

    /// Changes between training and `mode`, in the order of the encoder. A dropped encoder changes back: changes are their own inverses, so
    /// that their order does not matter.
    fn toggle(&self, encoder: &wgpu::CommandEncoder, mode: Mode) {
        let (bit, modes) = (mode.bits(), self.0.clone());
        modes.fetch_xor(bit, Ordering::SeqCst);
        watch(encoder, move |done| {
            if !done {
                modes.fetch_xor(bit, Ordering::SeqCst);
            }
        });
    }
}

impl Part {
    /// Checks that the parameters are those at which the rule trains.
    pub(crate) fn check_trains(&self) -> Result<()> {
        self.modes.get().check_trains()
    }

    /// Checks that the mode of the parameters is one of `from`.
    ///
    /// # Errors
    /// The parameters are in another mode. The error names `call`, which the caller made.
    pub(crate) fn check_mode(&self, call: &str, from: &[Mode]) -> Result<()> {
        let mode = self.modes.get();
        if from.contains(&mode) { Ok(()) } else { Err(Error::Usage(mode.refusal(call))) }
    }

    /// Records that the mode changes between training and `mode`.
    pub(crate) fn change_mode(&self, encoder: &wgpu::CommandEncoder, mode: Mode) {
        self.modes.toggle(encoder, mode);
    }
}
