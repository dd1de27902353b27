//! Notices what became of recorded work: its encoder was submitted and the work is done, or the encoder was dropped.

/// Calls `end` once: with `true` when the work of the encoder is done, with `false` when the encoder is dropped without a submission.
pub(crate) fn watch(encoder: &wgpu::CommandEncoder, end: impl FnOnce(bool) + Send + 'static) {
    let watched = Watched(Some(end));
    encoder.on_submitted_work_done(move || watched.done());
}

struct Watched<F: FnOnce(bool)>(Option<F>);

impl<F: FnOnce(bool)> Watched<F> {
    fn done(mut self) {
        self.tell(true);
    }

    fn tell(&mut self, done: bool) {
        if let Some(end) = self.0.take() {
            end(done);
        }
    }
}

impl<F: FnOnce(bool)> Drop for Watched<F> {
    fn drop(&mut self) {
        self.tell(false);
    }
}
