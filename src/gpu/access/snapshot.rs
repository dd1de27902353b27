//! Snapshots: copies of everything that resuming needs, which the GPU makes in the caller's encoder while training continues.

use futures::channel::oneshot;

use crate::Result;
use crate::gpu::Part;
use crate::gpu::access::readback::mapped;
use crate::gpu::build::buffers::buffer;
use crate::gpu::layout::arena::{Array, PARAM, Stretch};
use crate::gpu::layout::tables::StateRun;
use crate::gpu::layout::units::{
    ACCUMULATED, CONTROL_HEAD, CONTROL_WORDS, LOSS_BYTES, ROUNDING, VEC4, bytes_of, keeps_precision,
};
use crate::gpu::record::probed::Probed;
use crate::options::around::Mode;
use crate::options::storage::{Format, Layout, Packed};

/// The parameters, states and counters of an [`Optimizer`](crate::Optimizer) at one point of an encoder.
#[derive(Debug)]
pub struct Snapshot {
    pub(crate) parts: Vec<PartSnapshot>,
}

/// The snapshot of a part.
#[derive(Debug)]
pub(crate) struct PartSnapshot {
    device: wgpu::Device,
    pages: Vec<Page>,
    control: PageOffset,
    stochastic: bool,
    mode: Mode,
    global_state: usize,
    /// The names of the numbers that are kept once per tensor.
    progress: Vec<&'static str>,
    losses: Option<(PageOffset, usize)>,
    tensors: Vec<SavedTensor>,
    pub(crate) about: About,
}

/// The optimizer and settings of a snapshot, which need no read-back.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) optimizer: &'static str,
    pub(crate) groups: Vec<(String, Vec<(&'static str, crate::optim::Value)>)>,
}

/// The contents of a snapshot, read back.
#[derive(Clone, Debug)]
pub(crate) struct Contents {
    pub(crate) control: Control,
    /// The numbers that decisions keep from step to step.
    pub(crate) global_state: Vec<f32>,
    /// The losses of the last probes.
    pub(crate) losses: Vec<f64>,
    pub(crate) tensors: Vec<Arrays>,
}

/// The members of `wo_Control` that steps keep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Control {
    pub(crate) step_count: u32,
    pub(crate) skipped: u32,
    pub(crate) streak: u32,
    pub(crate) scale: f32,
    /// Micro-batches in the accumulator.
    pub(crate) accumulated: u32,
    /// The point that the parameters hold.
    pub(crate) mode: Mode,
    /// `Some` if the optimizer rounds stochastically.
    pub(crate) rounding: Option<Rounding>,
}

impl Control {
    /// From the head of `wo_Control`.
    fn of(words: [u32; CONTROL_WORDS], stochastic: bool, mode: Mode) -> Self {
        let [step_count, _, skipped, streak, scale, _, key, steps, accumulated, ..] = words;
        let rounding = stochastic.then_some(Rounding { key, steps });
        Self { step_count, skipped, streak, scale: f32::from_bits(scale), accumulated, mode, rounding }
    }
}

/// The origin of the random draws of the next step's stochastic rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rounding {
    pub(crate) key: u32,
    /// The count of steps that rounded.
    pub(crate) steps: u32,
}

/// The arrays of a tensor: `param` first, then the states.
#[derive(Clone, Debug)]
pub(crate) struct Arrays {
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) arrays: Vec<(String, Packed)>,
    /// The numbers that are kept once per tensor, with their names.
    pub(crate) progress: Vec<(String, f32)>,
}

impl Arrays {
    /// A number that is kept once per tensor.
    pub(crate) fn number(&self, name: &str) -> Option<f32> {
        self.progress.iter().find(|(n, _)| n == name).map(|(_, value)| *value)
    }

    /// The count of elements.
    pub(crate) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Packed> {
        self.arrays.iter().find(|(n, _)| n == name).map(|(_, values)| values)
    }

    /// The master or remainder of the parameters.
    pub(crate) fn precision(&self) -> Option<&Packed> {
        self.arrays.iter().find(|(name, _)| keeps_precision(name)).map(|(_, values)| values)
    }

    /// The parameters in full precision, as steps change them.
    pub(crate) fn params(&self) -> Option<Vec<f32>> {
        let seen = self.get(PARAM)?;
        Some(self.precision().map_or_else(|| seen.values(), |rest| seen.precise(rest)))
    }
}

#[derive(Debug)]
struct SavedTensor {
    name: String,
    group: String,
    shape: Vec<usize>,
    elements: usize,
    arrays: Vec<Array>,
    /// The word of the control's copy at which the progress begins.
    progress: usize,
    format: Format,
    param: Option<PageOffset>,
    runs: Vec<(PageOffset, StateRun)>,
    /// The factors of matrices, with their names and counts.
    factors: Vec<(&'static str, PageOffset, usize)>,
}

/// Where a copy begins in the pages, in bytes.
#[derive(Clone, Copy, Debug)]
struct PageOffset {
    page: usize,
    offset: u64,
}

#[derive(Debug)]
struct Page {
    buffer: wgpu::Buffer,
    arrived: oneshot::Receiver<Result<(), wgpu::BufferAsyncError>>,
}

/// Planned copies, packed into pages.
#[derive(Default)]
struct Plan<'a> {
    sizes: Vec<u64>,
    copies: Vec<(&'a wgpu::Buffer, u64, u64, PageOffset)>,
}

impl<'a> Plan<'a> {
    fn add(&mut self, buffer: &'a wgpu::Buffer, offset: u64, bytes: u64, most: u64) -> PageOffset {
        let bytes = bytes.next_multiple_of(4);
        if self.sizes.last().is_none_or(|size| size + bytes > most) {
            self.sizes.push(0);
        }
        let page = self.sizes.len() - 1;
        let to = PageOffset { page, offset: self.sizes[page] };
        self.sizes[page] += bytes.next_multiple_of(VEC4);
        self.copies.push((buffer, offset, bytes, to));
        to
    }
}

impl Part {
    /// The bytes of a tensor's own range, rounded up to whole words, in the buffer of its parameters.
    pub(crate) fn own_param(&self, tensor: usize) -> wgpu::BufferSlice<'_> {
        let whole = self.placement.param(tensor);
        let (info, format) = (&self.spec.tensors[tensor], self.spec.tensors[tensor].formats.params.format());
        let start = whole.offset() + info.range().start * format.bytes();
        whole.buffer().slice(start..start + bytes_of(info.kept(), format))
    }

    /// Records a copy of parameters, states and counters at this point of the encoder.
    pub(crate) fn snapshot(&self, encoder: &mut wgpu::CommandEncoder) -> Result<PartSnapshot> {
        self.check_buffers()?;
        let most = self.context.device.limits().max_buffer_size;
        let mut plan = Plan::default();
        let class = &self.placement.classes[0];
        let (global_state, progress) = (class.global_state.len(), class.kept_numbers());
        let kept = if progress.is_empty() { global_state } else { 4 * class.all_decisions(self.spec.tensors.len()) };
        let control = plan.add(&self.kernels.control, 0, CONTROL_HEAD + kept as u64 * 4, most);
        let losses = self
            .kernels
            .losses
            .as_ref()
            .map(|l| (plan.add(l, 0, l.size(), most), self.placement.classes[0].probes() + 1));
        let arenas: Vec<PageOffset> =
            self.kernels.dispatches.iter().map(|l| plan.add(&l.arena.buffer, 0, l.arena.buffer.size(), most)).collect();
        let mut tensors = Vec::with_capacity(self.spec.tensors.len());
        for (index, info) in self.spec.tensors.iter().enumerate() {
            let param = self.own_param(index);
            if !param.buffer().usage().contains(wgpu::BufferUsages::COPY_SRC) {
                return Err(
                    info.error(format!("its buffer has usage {:?}, a snapshot needs COPY_SRC", param.buffer().usage()))
                );
            }
            let format = info.formats.params.format();
            let bytes = bytes_of(info.kept(), format);
            let copied = (info.kept() > 0).then(|| plan.add(param.buffer(), param.offset(), bytes, most));
            tensors.push(SavedTensor {
                name: info.name.clone(),
                group: self.spec.groups[info.group].name.clone(),
                shape: info.kept_shape(),
                elements: info.kept() as usize,
                arrays: self.kept_arrays(index),
                progress: class.progress_word(index),
                format,
                param: copied,
                runs: self.state_runs(index).map(|run| (arenas[run.shard], run)).collect(),
                factors: self
                    .factors(index)
                    .into_iter()
                    .map(|(name, (at, count))| {
                        (name, plan.add(&self.kernels.control, at, 4 * count as u64, most), count)
                    })
                    .collect(),
            });
        }
        let groups = self.spec.groups.iter().map(|g| (g.name.clone(), g.rule.settings())).collect();
        Ok(PartSnapshot {
            device: self.context.device.clone(),
            pages: self.record_copies(encoder, &plan)?,
            control,
            stochastic: self.placement.classes[0].stochastic,
            mode: self.modes.get(),
            global_state,
            progress,
            losses,
            tensors,
            about: About { optimizer: self.spec.groups[0].rule.name(), groups },
        })
    }

    fn record_copies(&self, encoder: &mut wgpu::CommandEncoder, plan: &Plan<'_>) -> Result<Vec<Page>> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let make = |&size| buffer(&self.context.device, &self.context.label, "snapshot", size, usage);
        let buffers: Vec<wgpu::Buffer> = plan.sizes.iter().map(make).collect::<Result<_>>()?;
        for (source, offset, bytes, to) in &plan.copies {
            encoder.copy_buffer_to_buffer(source, *offset, &buffers[to.page], to.offset, *bytes);
        }
        let page = |buffer: wgpu::Buffer| {
            let (sender, arrived) = oneshot::channel();
            encoder.map_buffer_on_submit(&buffer, wgpu::MapMode::Read, .., move |result| {
                // The send fails if the caller dropped the snapshot. Then nobody waits for the result.
                let _ = sender.send(result);
            });
            Page { buffer, arrived }
        };
        Ok(buffers.into_iter().map(page).collect())
    }

    /// The arrays of a tensor with their layouts, the parameters first.
    pub(crate) fn layouts(&self, tensor: usize) -> Vec<(&'static str, Layout)> {
        let states = self.kept_arrays(tensor).into_iter().map(|array| (array.name, array.form.into()));
        let factors = self.factors(tensor).into_iter().map(|(name, _)| (name, Layout::F32));
        std::iter::once((PARAM, self.param_layout(tensor))).chain(states).chain(factors).collect()
    }

    fn param_layout(&self, tensor: usize) -> Layout {
        self.spec.tensors[tensor].formats.params.format().into()
    }

    /// Writes the saved arrays of a tensor, before the next submitted work. Arrays of another layout are converted. Arrays that only one side
    /// has stay as they are.
    pub(crate) fn write_arrays(&self, tensor: usize, saved: &Arrays) -> Result<()> {
        self.write_saved_params(tensor, saved)?;
        let class = &self.placement.classes[0];
        let saved_numbers = |names: &[&str]| names.iter().map(|name| saved.number(name)).collect::<Option<Vec<f32>>>();
        // A file from an optimizer without counts of its own has none; they are then those of the optimizer.
        if let Some(numbers) = saved_numbers(&class.kept_numbers()).or_else(|| saved_numbers(&class.progress)) {
            self.write_progress(tensor, &numbers)?;
        }
        for (name, _) in self.factors(tensor) {
            saved.get(name).map_or(Ok(()), |values| self.write_factor(tensor, name, &values.values()))?;
        }
        for array in self.kept_arrays(tensor).iter().filter(|array| !keeps_precision(array.name)) {
            let Some(values) = saved.get(array.name) else { continue };
            if values.layout() == array.form.into() {
                self.write_packed(tensor, array, values)?;
            } else {
                self.write_packed(tensor, array, &array.pack(&values.values()))?;
            }
        }
        Ok(())
    }

    fn write_saved_params(&self, tensor: usize, saved: &Arrays) -> Result<()> {
        let Some(seen) = saved.get(PARAM) else { return Ok(()) };
        let (own, rest) = (self.precision(tensor), saved.precision());
        let same_rest = own.map(|array| array.form.into()) == rest.map(Packed::layout);
        if seen.layout() != self.param_layout(tensor) || !same_rest {
            return saved.params().map_or(Ok(()), |params| self.write_own_params(tensor, &params));
        }
        self.write_own_seen(tensor, seen)?;
        own.zip(rest).map_or(Ok(()), |(array, rest)| self.write_packed(tensor, &array, rest))
    }

    /// Writes the counters. Without a saved key and count of stochastic rounding, the optimizer keeps its own.
    ///
    /// # Errors
    /// A recorded step is not yet finished.
    pub(crate) fn write_control(&mut self, control: &Control) -> Result<()> {
        let Control { step_count, skipped, streak, scale, accumulated, mode, rounding } = *control;
        self.write_step_count(step_count)?;
        self.modes.set(mode);
        let words = [step_count, 0, skipped, streak, scale.to_bits(), 0];
        self.context.write(&self.kernels.control, 0, bytemuck::cast_slice(&words))?;
        self.context.write(&self.kernels.control, ACCUMULATED, bytemuck::bytes_of(&accumulated))?;
        if let Some(Rounding { key, steps }) = rounding {
            self.context.write(&self.kernels.control, ROUNDING, bytemuck::cast_slice(&[key, steps]))?;
        }
        Ok(())
    }

    /// Writes the global state and the losses of probes.
    pub(crate) fn write_decisions(&mut self, global_state: &[f32], losses: &[f64]) -> Result<()> {
        self.write_global_state(global_state)?;
        if self.kernels.losses.is_none() {
            return Ok(());
        }
        self.put_losses(&losses.iter().map(|x| *x as f32).collect::<Vec<_>>())?;
        self.probed = Probed::given(were_probed(losses));
        Ok(())
    }
}

/// Whether these losses come from probes: before the first probes, all are zero.
pub(crate) fn were_probed(losses: &[f64]) -> bool {
    losses.iter().any(|loss| *loss != 0.0)
}

impl PartSnapshot {
    /// Waits for the copies, without blocking, and reads them.
    pub(crate) async fn contents(self) -> Result<Contents> {
        let (mut pages, mut buffers) = (Vec::new(), Vec::new());
        for page in self.pages {
            pages.push(mapped(&self.device, &page.buffer, page.arrived).await?);
            buffers.push(page.buffer);
        }
        let stretch = |copied: PageOffset, part: Stretch| -> &[u8] {
            &pages[copied.page][(copied.offset + part.start) as usize..(copied.offset + part.end) as usize]
        };
        let floats = |copied: PageOffset, first: u64, count: usize| -> Vec<f32> {
            let start = (copied.offset + first * VEC4) as usize;
            bytemuck::pod_collect_to_vec(&pages[copied.page][start..start + count * 4])
        };
        let head = &pages[self.control.page][self.control.offset as usize..][..CONTROL_HEAD as usize];
        let control = Control::of(bytemuck::pod_read_unaligned(head), self.stochastic, self.mode);
        let global_state = floats(self.control, CONTROL_HEAD / VEC4, self.global_state);
        let slot = |copied, j: usize| f64::from(floats(copied, j as u64 * LOSS_BYTES / VEC4, 1)[0]);
        let losses = self.losses.map_or_else(Vec::new, |(copied, n)| (0..n).map(|j| slot(copied, j)).collect());
        let words: Vec<f32> = bytemuck::pod_collect_to_vec(&pages[self.control.page][self.control.offset as usize..]);
        let decisions = &words[CONTROL_WORDS..];
        let tensors = self.tensors.into_iter().map(|tensor| {
            let numbers = decisions.get(tensor.progress..).unwrap_or_default();
            let progress = self.progress.iter().zip(numbers).map(|(name, x)| ((*name).to_owned(), *x)).collect();
            let param = tensor.param.map_or_else(
                || Packed::nearest(tensor.format, &[]),
                |copied| {
                    let bytes = stretch(copied, 0..bytes_of(tensor.elements as u64, tensor.format));
                    Packed::from_bytes(tensor.format, tensor.elements, bytes)
                },
            );
            let mut arrays = vec![(PARAM.to_owned(), param)];
            for array in &tensor.arrays {
                let mut values = array.pack(&[]);
                for (arena, run) in &tensor.runs {
                    let largest = array.largest(run).map_or(&[][..], |largest| stretch(*arena, largest));
                    let bytes = stretch(*arena, array.stretch(run));
                    values.append(array.form.unpack(run.elements, bytes, largest));
                }
                arrays.push((array.name.to_owned(), values));
            }
            let factors = tensor.factors.iter();
            arrays.extend(
                factors.map(|(name, copied, count)| ((*name).to_owned(), Packed::F32(floats(*copied, 0, *count)))),
            );
            Arrays { name: tensor.name, group: tensor.group, shape: tensor.shape, arrays, progress }
        });
        let contents = Contents { control, global_state, losses, tensors: tensors.collect() };
        // In a browser, dropping a buffer keeps its memory.
        buffers.iter().for_each(wgpu::Buffer::destroy);
        Ok(contents)
    }
}
