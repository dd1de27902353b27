//! Steps and micro-batches over some of the tensors.

use std::ops::Range;

use crate::Result;
use crate::gpu::build::spec::Tensor;
use crate::gpu::layout::units::ABSENT;
use crate::gpu::optimizer::Optimizer;

impl Optimizer {
    /// Records one step over these tensors, with the gradients that they were bound with. It leaves out the other tensors: parameters, states,
    /// averages, accumulators, gradients and their step counts stay as they are, and they have no part in sums. With accumulation, the step
    /// also takes the tensors with gradients in their accumulators. A step without any tensor counts too.
    ///
    /// # Errors
    /// The builder did not set [`Builder::partial_steps`](crate::Builder::partial_steps); otherwise as [`step`](Self::step), except that a tensor
    /// that the step leaves out needs no gradient.
    pub fn step_tensors(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        tensors: impl IntoIterator<Item = Tensor>,
    ) -> Result<()> {
        self.check_whole()?;
        let named = self.named(tensors)?;
        if self.spec.dynamic_gradients {
            let grads = self.bound_grads(&named)?;
            return self.step_with_grads(encoder, slices(&grads));
        }
        let call = self.begin_named(named)?;
        self.record(encoder, &call);
        self.finish(encoder, call);
        Ok(())
    }

    /// As [`accumulate`](Self::accumulate), for a micro-batch with gradients of these tensors alone. The step of the window takes every tensor
    /// that a micro-batch of the window named.
    ///
    /// # Errors
    /// As [`accumulate`](Self::accumulate) and [`step_tensors`](Self::step_tensors).
    pub fn accumulate_tensors(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        tensors: impl IntoIterator<Item = Tensor>,
    ) -> Result<()> {
        self.check_accumulates()?;
        let named = self.named(tensors)?;
        if self.spec.dynamic_gradients {
            let grads = self.bound_grads(&named)?;
            return self.accumulate_with_grads(encoder, slices(&grads));
        }
        let call = self.begin_named(named)?;
        self.record_micro_batch(encoder, call);
        Ok(())
    }

    /// The bound gradients of the tensors that a call without names takes, where each step names its gradients: with
    /// [`Builder::partial_steps`](crate::Builder::partial_steps) a call would leave out the tensors that it does not name.
    pub(crate) fn grads_without_names(&self) -> Result<Vec<BoundGrad>> {
        if self.spec.around.partial { self.bound_grads(&vec![0; self.spec.tensors.len()]) } else { Ok(Vec::new()) }
    }

    /// The position of each tensor's gradient for a call that names these tensors: 0, or [`ABSENT`].
    fn named(&self, tensors: impl IntoIterator<Item = Tensor>) -> Result<Vec<u32>> {
        self.spec.check_partial()?;
        let mut named = vec![ABSENT; self.spec.tensors.len()];
        for tensor in tensors {
            named[self.spec.tensor(tensor)?] = 0;
        }
        Ok(named)
    }

    /// The bound gradients of the named tensors.
    fn bound_grads(&self, named: &[u32]) -> Result<Vec<BoundGrad>> {
        let tensors = self.spec.tensor_handles().zip(named).filter(|(_, position)| **position != ABSENT);
        let bound = |((tensor, _), _)| {
            let slice = self.grad(tensor)?;
            Ok((tensor, slice.buffer().clone(), slice.offset()..slice.offset() + slice.size()))
        };
        tensors.map(bound).collect()
    }
}

/// A tensor with the buffer and the bytes of its gradient.
pub(crate) type BoundGrad = (Tensor, wgpu::Buffer, Range<u64>);

/// The gradients as a call takes them.
pub(crate) fn slices(grads: &[BoundGrad]) -> impl Iterator<Item = (Tensor, wgpu::BufferSlice<'_>)> {
    grads.iter().map(|(tensor, buffer, range)| (*tensor, buffer.slice(range.clone())))
}
