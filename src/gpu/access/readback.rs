//! Reads and writes of numbers between host and GPU outside of steps. A read submits its copies at once and returns a future that
//! borrows nothing: steps may follow while it waits, and several reads may be under way. The future never blocks: natively it polls the
//! device whenever the executor polls it.

use std::task::Poll;

use futures::channel::oneshot;
use futures::future::{Either, poll_fn};

use crate::gpu::Part;
use crate::gpu::build::blame::{check_device, destroyed, fault, is_destroyed};
use crate::gpu::build::scope::{Answer, Boxed, Patience, Scope};
use crate::gpu::build::spec::Tensor;
use crate::gpu::layout::arena::Array;
use crate::gpu::layout::tables::StateRun;
use crate::gpu::layout::units::{CONTROL_HEAD, CONTROL_WORDS, RAN, bytes_of, keeps_precision};
#[cfg(feature = "tools")]
use crate::options::storage::Formats;
use crate::options::storage::{Format, Packed};
use crate::{Error, Result};

/// Reads a range of a buffer with `COPY_SRC` usage. The call submits the copy to `queue` at once; the future returns the bytes.
///
/// # Errors
/// The device was lost; the queue or the buffer belongs to another device or another wgpu instance; the buffer was destroyed or lacks
/// `COPY_SRC`.
pub fn read_buffer(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    slice: wgpu::BufferSlice<'_>,
) -> impl Future<Output = Result<Vec<u8>>> + use<> {
    let (device, begun) = (device.clone(), begin_read(device, queue, slice));
    async move {
        let Reading { staging, receiver, length, answer } = begun?;
        if let Some(refusal) = answer.wait().await {
            return Err(Error::Wgpu(refusal.to_string()));
        }
        let bytes = mapped(&device, &staging, receiver).await?[..length].to_vec();
        // In a browser, dropping a buffer keeps its memory.
        staging.destroy();
        Ok(bytes)
    }
}

/// A copy on its way to the host.
struct Reading {
    staging: wgpu::Buffer,
    receiver: oneshot::Receiver<Result<(), wgpu::BufferAsyncError>>,
    length: usize,
    answer: Answer,
}

fn begin_read(device: &wgpu::Device, queue: &wgpu::Queue, slice: wgpu::BufferSlice<'_>) -> Result<Reading> {
    let (length, size) = (slice.size() as usize, slice.size().next_multiple_of(4));
    check_device(device, queue)?;
    if let Some(fault) = fault(device, slice.buffer()) {
        return Err(Error::Usage(format!("the buffer to read {fault}")));
    }
    // The scope keeps wgpu's errors from the caller's error handler.
    let scope = Scope::open(device, wgpu::ErrorFilter::Validation, Patience::Later);
    let staging = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("read-back"),
        size,
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("read-back") });
    encoder.copy_buffer_to_buffer(slice.buffer(), slice.offset(), &staging, 0, size);
    let (sender, receiver) = oneshot::channel();
    encoder.map_buffer_on_submit(&staging, wgpu::MapMode::Read, .., move |result| {
        // The send fails if the caller dropped the future. Then nobody waits for the result.
        let _ = sender.send(result);
    });
    queue.submit([encoder.finish()]);
    Ok(Reading { staging, receiver, length, answer: scope.close() })
}

/// Waits until `staging` is mapped, without blocking, and returns its bytes.
pub(crate) async fn mapped(
    device: &wgpu::Device,
    staging: &wgpu::Buffer,
    mut arrived: oneshot::Receiver<Result<(), wgpu::BufferAsyncError>>,
) -> Result<wgpu::BufferView> {
    let mapped = poll_fn(|context| {
        let polled = device.poll(wgpu::PollType::Poll);
        match std::pin::Pin::new(&mut arrived).poll(context) {
            Poll::Pending if polled.is_err() => Poll::Ready(Ok(Err(wgpu::BufferAsyncError))),
            Poll::Pending => {
                // Natively this task may be the only one that polls the device. In a browser the callback wakes the task.
                #[cfg(not(target_arch = "wasm32"))]
                context.waker().wake_by_ref();
                Poll::Pending
            }
            ready => ready,
        }
    });
    let lost = |what: &dyn std::fmt::Display| Error::DeviceLost(format!("while reading back: {what}"));
    let dropped = |_| Error::Usage("the encoder with the copies was dropped".to_owned());
    mapped.await.map_err(dropped)?.map_err(|e| lost(&e))?;
    staging.slice(..).get_mapped_range().map_err(|e| lost(&e))
}

impl Part {
    /// Reads the parameters of a tensor in full precision: the numbers that steps change, with the master or remainder of half precision.
    pub(crate) fn read_param(&self, tensor: Tensor) -> impl Future<Output = Result<Vec<f32>>> + use<> {
        let read = |tensor| {
            let rest =
                self.precision(tensor).map(|array| (self.own_elements(tensor), self.read_packed(tensor, &array)));
            (self.read_seen(tensor), rest)
        };
        let reading = self.spec.tensor(tensor).map(read);
        async move {
            let (seen, rest) = reading?;
            let seen = seen.await?;
            match rest {
                None => Ok(seen.values()),
                Some((own, rest)) => {
                    let mut values = seen.values();
                    values[own.clone()].copy_from_slice(&seen.part(own).precise(&rest.await?));
                    Ok(values)
                }
            }
        }
    }

    /// The parameters as the model sees them.
    pub(crate) fn read_seen(&self, tensor: usize) -> impl Future<Output = Result<Packed>> + use<> {
        let slice = self.placement.param(tensor);
        self.read_tensor(tensor, slice, self.spec.tensors[tensor].formats.params.format())
    }

    /// Reads a tensor's gradients.
    pub(crate) fn read_grad(&self, tensor: Tensor) -> impl Future<Output = Result<Vec<f32>>> + use<> {
        let reading = self.grad(tensor).and_then(|slice| {
            let tensor = self.spec.tensor(tensor)?;
            Ok(self.read_tensor(tensor, slice, self.spec.tensors[tensor].formats.grads))
        });
        async move { Ok(reading?.await?.values()) }
    }

    fn read_tensor(
        &self,
        tensor: usize,
        slice: wgpu::BufferSlice<'_>,
        format: Format,
    ) -> impl Future<Output = Result<Packed>> + use<> {
        let info = &self.spec.tensors[tensor];
        let (elements, usage) = (info.used() as usize, slice.buffer().usage());
        let used = slice.offset()..slice.offset() + bytes_of(info.used(), format);
        let bytes = if elements == 0 {
            Ok(None)
        } else if usage.contains(wgpu::BufferUsages::COPY_SRC) {
            self.check_range(tensor, slice).map(|()| Some(self.read_bytes(slice.buffer().slice(used))))
        } else {
            Err(info.error(format!("its buffer has usage {usage:?}, reading needs COPY_SRC")))
        };
        async move {
            match bytes? {
                None => Ok(Packed::nearest(format, &[])),
                Some(bytes) => Ok(Packed::from_bytes(format, elements, &bytes.await?)),
            }
        }
    }

    /// Reads a range of a buffer on the optimizer's device. The future is boxed, because each future around it holds it twice.
    pub(crate) fn read_bytes(&self, slice: wgpu::BufferSlice<'_>) -> Boxed<Result<Vec<u8>>> {
        Box::pin(read_buffer(&self.context.device, &self.context.queue, slice))
    }

    /// Writes the parameters of a tensor, before the next submitted work.
    pub(crate) fn write_param(&self, tensor: Tensor, values: &[f32]) -> Result<()> {
        let tensor = self.spec.tensor(tensor)?;
        self.check_length(tensor, values.len())?;
        let (seen, rest) = Packed::params(self.spec.tensors[tensor].formats.params, values);
        self.write_tensor(tensor, self.placement.param(tensor), &seen)?;
        self.put_rest(tensor, rest.map(|rest| rest.part(self.own_elements(tensor))).as_ref())
    }

    /// Writes the master or remainder of the parameters, for the own range of a tensor.
    fn put_rest(&self, tensor: usize, rest: Option<&Packed>) -> Result<()> {
        self.precision(tensor).zip(rest).map_or(Ok(()), |(array, rest)| self.write_packed(tensor, &array, rest))
    }

    /// Writes the parameters of the own range of a tensor, from full precision.
    #[cfg(feature = "checkpoint")]
    pub(crate) fn write_own_params(&self, tensor: usize, values: &[f32]) -> Result<()> {
        self.check_kept(tensor, values.len())?;
        let (seen, rest) = Packed::params(self.spec.tensors[tensor].formats.params, values);
        self.write_own_seen(tensor, &seen)?;
        self.put_rest(tensor, rest.as_ref())
    }

    /// The elements of a tensor for which the optimizer keeps states: the range, or the rows in use.
    fn own_elements(&self, tensor: usize) -> std::ops::Range<usize> {
        let info = &self.spec.tensors[tensor];
        // An empty range may lie behind the rows in use.
        let first = info.range().start.min(info.used()) as usize;
        first..first + info.kept() as usize
    }

    /// Writes the parameters of the own range of a tensor, as the model sees them.
    #[cfg(feature = "checkpoint")]
    pub(crate) fn write_own_seen(&self, tensor: usize, seen: &Packed) -> Result<()> {
        self.check_kept(tensor, seen.len())?;
        self.put_numbers(tensor, self.own_param(tensor), seen)
    }

    /// The array with the master or remainder of the parameters.
    pub(crate) fn precision(&self, tensor: usize) -> Option<Array> {
        self.arrays(tensor).into_iter().find(|array| keeps_precision(array.name))
    }

    /// Writes the gradients of a tensor, before the next submitted work.
    pub(crate) fn write_grad(&self, tensor: Tensor, values: &[f32]) -> Result<()> {
        let slice = self.grad(tensor)?;
        let tensor = self.spec.tensor(tensor)?;
        let grads = Packed::nearest(self.spec.tensors[tensor].formats.grads, values);
        self.write_tensor(tensor, slice, &grads)
    }

    fn write_tensor(&self, tensor: usize, slice: wgpu::BufferSlice<'_>, values: &Packed) -> Result<()> {
        self.check_length(tensor, values.len())?;
        self.put_numbers(tensor, slice, values)
    }

    fn put_numbers(&self, tensor: usize, slice: wgpu::BufferSlice<'_>, values: &Packed) -> Result<()> {
        self.check_copies_to(tensor, slice)?;
        if values.len() == 0 {
            return Ok(());
        }
        self.context.write(slice.buffer(), slice.offset(), &values.bytes().0)
    }

    /// Checks that the buffer of a tensor's parameters can be written.
    #[cfg(feature = "checkpoint")]
    pub(crate) fn check_writable(&self, tensor: usize) -> Result<()> {
        self.check_copies_to(tensor, self.placement.param(tensor))
    }

    fn check_copies_to(&self, tensor: usize, slice: wgpu::BufferSlice<'_>) -> Result<()> {
        let usage = slice.buffer().usage();
        let info = &self.spec.tensors[tensor];
        if !usage.contains(wgpu::BufferUsages::COPY_DST) {
            return Err(info.error(format!("its buffer has usage {usage:?}, writing needs COPY_DST")));
        }
        self.check_range(tensor, slice)
    }

    /// Checks that the device works, and that the buffer of this range of a tensor was not destroyed. A lost device destroys its buffers too.
    fn check_range(&self, tensor: usize, slice: wgpu::BufferSlice<'_>) -> Result<()> {
        self.context.check()?;
        if !is_destroyed(slice.buffer()) {
            return Ok(());
        }
        let param = self.placement.param(tensor);
        let is_param = (param.buffer(), param.offset()) == (slice.buffer(), slice.offset());
        Err(destroyed(&self.spec.tensors[tensor], if is_param { "parameters" } else { "gradients" }))
    }

    /// Checks the length of a state.
    fn check_kept(&self, tensor: usize, values: usize) -> Result<()> {
        let info = &self.spec.tensors[tensor];
        let Some(range) = &info.own else { return self.check_length(tensor, values) };
        if values as u64 == info.kept() {
            return Ok(());
        }
        Err(info.error(format!("{values} values were given, its range {range:?} has {}", info.kept())))
    }

    fn check_length(&self, tensor: usize, values: usize) -> Result<()> {
        let info = &self.spec.tensors[tensor];
        if values as u64 == info.used() {
            return Ok(());
        }
        Err(info.error(format!("{values} values were given, shape {:?} has {}", info.shape, info.used())))
    }

    /// The names of the states of a tensor: the states of the rule, then `gradient_accumulator` and `ema` if the builder set them, then
    /// `master` (f32) or `remainder` (16 bits, as whole numbers) of parameters in half precision, then WarpAdam's `warp_gradient` and the
    /// columns of its matrix, then Adafactor's `r` and `c`.
    pub(crate) fn state_names(&self, tensor: Tensor) -> Result<Vec<&'static str>> {
        let tensor = self.spec.tensor(tensor)?;
        let arrays = self.kept_arrays(tensor).into_iter().map(|array| array.name);
        Ok(arrays.chain(self.factors(tensor).into_iter().map(|(name, _)| name)).collect())
    }

    /// The arrays that the optimizer keeps between steps.
    pub(crate) fn kept_arrays(&self, tensor: usize) -> Vec<Array> {
        self.arrays(tensor).into_iter().filter(|array| !array.scratch).collect()
    }

    /// Reads a state of a tensor, in any storage.
    pub(crate) fn read_state(&self, tensor: Tensor, state: &str) -> impl Future<Output = Result<Vec<f32>>> + use<> {
        let reading = self.spec.tensor(tensor).and_then(|tensor| {
            if let Some(factor) = self.factor(tensor, state) {
                return Ok(Either::Left(self.read_factor(factor)));
            }
            let packed = self.read_packed(tensor, &self.array(tensor, state)?);
            Ok(Either::Right(async move { Ok(packed.await?.values()) }))
        });
        async move { reading?.await }
    }

    /// An array as it is stored.
    pub(crate) fn read_packed(&self, tensor: usize, array: &Array) -> impl Future<Output = Result<Packed>> + use<> {
        let read = |run: StateRun| {
            let arena = &self.kernels.dispatches[run.shard].arena.buffer;
            let largest = array.largest(&run).map(|stretch| self.read_bytes(arena.slice(stretch)));
            (run.elements, self.read_bytes(arena.slice(array.stretch(&run))), largest)
        };
        let runs: Vec<_> = self.state_runs(tensor).map(read).collect();
        let (mut values, form) = (array.pack(&[]), array.form);
        async move {
            for (elements, bytes, largest) in runs {
                let bytes = bytes.await?;
                let largest = match largest {
                    None => Vec::new(),
                    Some(largest) => largest.await?,
                };
                values.append(form.unpack(elements, &bytes, &largest));
            }
            Ok(values)
        }
    }

    /// Writes a state of a tensor, in any storage, before the next submitted work.
    pub(crate) fn write_state(&self, tensor: Tensor, state: &str, values: &[f32]) -> Result<()> {
        let tensor = self.spec.tensor(tensor)?;
        if self.factor(tensor, state).is_some() {
            return self.write_factor(tensor, state, values);
        }
        let array = self.array(tensor, state)?;
        self.write_packed(tensor, &array, &array.pack(values))
    }

    /// Writes an array as it is stored.
    pub(crate) fn write_packed(&self, tensor: usize, array: &Array, values: &Packed) -> Result<()> {
        self.check_kept(tensor, values.len())?;
        for run in self.state_runs(tensor) {
            let arena = &self.kernels.dispatches[run.shard].arena.buffer;
            let (bytes, largest) = values.part(run.position..run.position + run.elements).bytes();
            self.context.write(arena, array.stretch(&run).start, &bytes)?;
            if let Some(stretch) = array.largest(&run) {
                self.context.write(arena, stretch.start, &largest)?;
            }
        }
        Ok(())
    }

    /// The step count on the GPU.
    pub(crate) fn read_step_count(&self) -> impl Future<Output = Result<u64>> + use<> {
        let control = self.read_control();
        async move { Ok(u64::from(control.await?[0])) }
    }

    /// The count of steps that were skipped because a gradient was not finite.
    pub(crate) fn read_skipped(&self) -> impl Future<Output = Result<u64>> + use<> {
        let control = self.read_control();
        async move { Ok(u64::from(control.await?[2])) }
    }

    /// The current loss scale; 1 if the optimizer has none.
    pub(crate) fn read_loss_scale(&self) -> impl Future<Output = Result<f32>> + use<> {
        let control = self.read_control();
        async move { Ok(f32::from_bits(control.await?[4])) }
    }

    /// The key of stochastic rounding, and the count of steps that rounded.
    #[cfg(feature = "tools")]
    pub(crate) fn read_rounding(&self) -> impl Future<Output = Result<(u32, u32)>> + use<> {
        let control = self.read_control();
        async move {
            let [_, _, _, _, _, _, rounding, rounded, ..] = control.await?;
            Ok((rounding, rounded))
        }
    }

    /// The formats of a tensor.
    #[cfg(feature = "tools")]
    pub(crate) fn formats(&self, tensor: usize) -> &Formats {
        &self.spec.tensors[tensor].formats
    }

    /// The head of `wo_Control`.
    fn read_control(&self) -> impl Future<Output = Result<[u32; CONTROL_WORDS]>> + use<> {
        let bytes = self.read_bytes(self.kernels.control.slice(..CONTROL_HEAD));
        async move { Ok(bytemuck::pod_read_unaligned(&bytes.await?)) }
    }

    /// Sets the step count, for example when states are loaded.
    pub(crate) fn write_step_count(&mut self, step_count: u32) -> Result<()> {
        self.check_idle()?;
        self.context.write(&self.kernels.control, 0, bytemuck::bytes_of(&step_count))?;
        self.context.write(&self.kernels.control, RAN, bytemuck::bytes_of(&self.scalars.ran()))?;
        self.scalars.restart(Some(u64::from(step_count)));
        self.restart_progress(u64::from(step_count))
    }

    /// Returns an error while a recorded step is unfinished.
    pub(crate) fn check_idle(&self) -> Result<()> {
        self.context.check()?;
        if self.scalars.idle(&self.context) {
            return Ok(());
        }
        Err(Error::Usage("the step count may change only while every recorded step is finished".to_owned()))
    }

    /// The arrays of a tensor, in the order of the arena.
    pub(crate) fn arrays(&self, tensor: usize) -> Vec<Array> {
        if self.spec.tensors[tensor].frozen {
            Vec::new()
        } else {
            self.placement.classes[self.placement.class_of[tensor]].arrays()
        }
    }

    pub(crate) fn array(&self, tensor: usize, state: &str) -> Result<Array> {
        let arrays = self.arrays(tensor);
        let unknown = || {
            let factors = self.factors(tensor).into_iter().map(|(name, _)| name);
            let known = arrays.iter().map(|array| array.name).chain(factors);
            Error::unknown(format!("state of tensor `{}`", self.spec.tensors[tensor].name), state, known)
        };
        arrays.iter().find(|array| array.name == state).copied().ok_or_else(unknown)
    }
}
