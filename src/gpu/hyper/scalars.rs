//! The scalars of a step, from the host to the GPU.
//!
//! Scalars that depend on the step count lie in a ring of rows. The host fills the ring ahead, and the GPU indexes it by the step count,
//! which only the GPU knows. Scalars that depend on the call lie in a record that a dynamic offset picks, so that they take effect in the
//! order of the encoder. The host writes over a row only when no recorded step can still read it. Encoders hold tokens that report when
//! their work is done or dropped. Where steps may be skipped, the GPU sends a copy of its counts back from time to time, and the host
//! never waits for the copy. The copy holds the step count and the count of steps that ran, so that it is exact however late its encoder is
//! submitted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::gpu::build::buffers::{Buffers, OWNED, Sizes, UNIFORM, Which};
use crate::gpu::build::spec::GroupInfo;
use crate::gpu::build::spec::Spec;
use crate::gpu::hyper::mailbox::Mailbox;
use crate::gpu::hyper::watch::watch;
use crate::gpu::kernel::context::Context;
use crate::gpu::kernel::text::scalar_rows;
use crate::gpu::layout::units::{CONTROL_HEAD, RAN};
use crate::optim::Scalar;
use crate::optim::procedure::probes;
use crate::options::around::Around;
use crate::{Error, Result};

/// Bytes that the ring of per-count rows may take.
const COUNT_BYTES: u64 = 1 << 20;
/// Bytes that the rows of calls and of dynamic gradients may take, unless [`LEAST_SLOTS`] of them take more.
const CALL_BYTES: u64 = 1 << 22;
/// The fewest slots, however long the rows of a call are, if one binding holds them. The documentation promises this many unfinished steps.
const LEAST_SLOTS: u64 = 256;
/// The fewest slots with which an optimizer is built.
const FEW_SLOTS: u64 = 64;
/// Rows filled ahead of need.
const MARGIN: u64 = 256;
/// A dynamic offset is a multiple of this on every device.
const ALIGNMENT: u64 = 256;

/// The head of `wo_Call` of `shaders/harness/tables.wgsl`; the groups' rows follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
struct Call {
    count_mask: u32,
    groups: u32,
    gradients: u32,
    rows: u32,
}

const CALL_HEAD: u64 = size_of::<Call>() as u64;

/// The rings and their use.
#[derive(Debug)]
pub(crate) struct Scalars {
    /// The rows per step count, then the gradient positions and the table of rows of each call, in vec4s. The control lies in front of them
    /// if it has no binding of its own.
    pub(crate) buffer: wgpu::Buffer,
    /// A [`Call`] with its rows, per slot.
    pub(crate) calls: wgpu::Buffer,
    rings: Rings,
    counts: Counts,
    slots: Slots,
    /// The step with recorded sums and no recorded update.
    half: Option<Half>,
    around: Around,
    /// The table that new calls carry, in words; empty if there are no row sets.
    rows: Vec<u32>,
}

/// The lengths of the rings, and the places in them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rings {
    /// Rows of step counts.
    rows: u64,
    /// Bytes of the row of a step count, for all groups.
    count_row: u64,
    slots: u64,
    /// Bytes of a [`Call`] with its rows.
    call_size: u64,
    /// The tensors with a position per call, else 0.
    positions: usize,
    /// Bytes of the gradient positions of a call.
    gradients_row: u64,
    /// Bytes of the table of rows of a call.
    rows_row: u64,
    /// Bytes of the control in front.
    in_control: Option<u64>,
    /// Whether steps may be skipped, so that a copy of the step count comes back.
    may_skip: bool,
}

/// The sizes of the tables beside the rows per step count.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    /// The count of tensors where each step names its gradients, or its tensors, else 0.
    pub(crate) gradients: usize,
    /// The table of rows of the first call.
    pub(crate) rows: Vec<u32>,
    /// Bytes of the control if it shares the buffer.
    pub(crate) in_control: Option<u64>,
}

#[derive(Debug)]
struct Counts {
    rings: Rings,
    /// The host wrote the rows up to this step count.
    filled: u64,
    /// The GPU had counted this many steps …
    known: u64,
    /// … when this many of the recorded steps had run, skipped steps included.
    ran: u64,
    recorded: u64,
    progress: Arc<Progress>,
    /// Where steps may be skipped, the host knows the step count only from copies of the head of `wo_Control`.
    confirmation: Option<Mailbox>,
}

/// The counts of recorded steps that were finished and dropped.
#[derive(Debug, Default)]
struct Progress {
    finished: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Slots {
    /// One token per slot. Encoders hold clones of the token while they may still read the slot.
    tokens: Vec<Arc<()>>,
    current: Option<usize>,
    /// Whether the current slot names all tensors.
    names_all: bool,
}

/// The slot of a recorded step.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    /// The dynamic offset of the [`Call`].
    pub(crate) offset: u32,
    token: Arc<()>,
}

/// The first half of a step. It keeps its slot for the second half.
#[derive(Debug)]
struct Half {
    slot: Slot,
    /// The last recorded round of sums.
    round: usize,
    dropped: Arc<AtomicBool>,
}

impl Rings {
    /// # Errors
    /// The rings do not fit the device's bindings.
    pub(crate) fn new(spec: &Spec, limits: &wgpu::Limits, tables: &Tables) -> Result<Self> {
        let groups = &spec.groups;
        let (call, count) = scalar_rows(&groups[0].scalars(spec.around, 1)?);
        let bytes = |row: &[f32]| (row.len() * groups.len()) as u64 * 4;
        let (call_size, count_row) = (CALL_HEAD + bytes(&call).max(16), bytes(&count));
        check(limits.max_uniform_buffer_binding_size, "max_uniform_buffer_binding_size", call_size)?;
        let gradients_row = (tables.gradients as u64 * 4).next_multiple_of(16);
        let rows_row = (tables.rows.len() as u64 * 4).next_multiple_of(16);
        let rows = COUNT_BYTES.checked_div(count_row).unwrap_or(1 << 16).clamp(1 << 9, 1 << 16);
        let rows = 1 << rows.ilog2();
        let call_stride = call_size.next_multiple_of(ALIGNMENT);
        let in_control = tables.in_control;
        // The rows of all slots lie in one binding with the rows per step count.
        let left = limits.max_storage_buffer_binding_size.saturating_sub(in_control.unwrap_or(0) + rows * count_row);
        let fitting = left.checked_div(gradients_row + rows_row).unwrap_or(u64::MAX);
        let slots = (CALL_BYTES / (call_stride + gradients_row + rows_row)).clamp(LEAST_SLOTS, 1024);
        let slots = slots.min(fitting.max(FEW_SLOTS));
        let sums = groups[0].rule.sums();
        let probes = probes(&groups[0].rule.procedure()) > 0;
        let may_skip = spec.around.guards() || sums.may_refuse || sums.may_hold || probes;
        let positions = tables.gradients;
        let rings =
            Self { rows, count_row, slots, call_size, positions, gradients_row, rows_row, in_control, may_skip };
        let end = rings.gradients_at(slots);
        check(limits.max_storage_buffer_binding_size, "max_storage_buffer_binding_size", end)?;
        Ok(rings)
    }

    /// Plans the buffers of the rings.
    pub(crate) fn plan(&self, sizes: &mut Sizes) {
        sizes.add(Which::Scalars, self.gradients_at(self.slots));
        sizes.add(Which::Calls, self.call_at(self.slots));
        if self.may_skip {
            sizes.add(Which::Confirmation, CONTROL_HEAD);
        }
    }

    /// Bytes of the control in front of the scalars.
    pub(crate) fn control(&self) -> u64 {
        self.in_control.unwrap_or(0)
    }

    fn count_at(&self, row: u64) -> u64 {
        self.control() + row * self.count_row
    }

    fn call_at(&self, slot: u64) -> u64 {
        slot * self.call_size.next_multiple_of(ALIGNMENT)
    }

    fn gradients_at(&self, slot: u64) -> u64 {
        self.count_at(self.rows) + slot * (self.gradients_row + self.rows_row)
    }

    fn rows_at(&self, slot: u64) -> u64 {
        self.gradients_at(slot) + self.gradients_row
    }

    /// The vec4 at which the GPU finds a byte of the scalars.
    fn vec4_of(&self, byte: u64) -> u32 {
        let view = self.in_control.map_or(0, |_| CONTROL_HEAD);
        ((byte - view) / 16) as u32
    }

    /// The records of all calls, without settings.
    fn calls(&self, groups: usize) -> Vec<u8> {
        let mut records = vec![0_u8; self.call_at(self.slots) as usize];
        for slot in 0..self.slots {
            let call = Call {
                count_mask: (self.rows - 1) as u32,
                groups: groups as u32,
                gradients: self.vec4_of(self.gradients_at(slot)),
                rows: self.vec4_of(self.rows_at(slot)),
            };
            let at = self.call_at(slot) as usize;
            records[at..at + size_of::<Call>()].copy_from_slice(bytemuck::bytes_of(&call));
        }
        records
    }
}

impl Scalars {
    pub(crate) fn new(
        buffers: &Buffers<'_>,
        rings: Rings,
        groups: usize,
        around: Around,
        rows: Vec<u32>,
    ) -> Result<Self> {
        Ok(Self {
            buffer: buffers.create(Which::Scalars, OWNED)?,
            calls: buffers.create_with(Which::Calls, UNIFORM, &rings.calls(groups))?,
            rings,
            counts: Counts {
                rings,
                filled: 0,
                known: 0,
                ran: 0,
                recorded: 0,
                progress: Arc::default(),
                confirmation: rings.may_skip.then(|| Mailbox::new(buffers, Which::Confirmation)).transpose()?,
            },
            slots: Slots { tokens: (0..rings.slots).map(|_| Arc::new(())).collect(), current: None, names_all: true },
            half: None,
            around,
            rows,
        })
    }

    /// Bytes of the record of a call.
    pub(crate) const fn call_size(&self) -> u64 {
        self.rings.call_size
    }

    /// Whether steps may be skipped.
    pub(crate) const fn may_skip(&self) -> bool {
        self.rings.may_skip
    }

    /// Prepares the rows that the next recorded step may read. `gradients`: the gradient positions of the step, for dynamic gradients and for
    /// steps that leave out tensors. `None`: all tensors, with the gradients that they were bound with. A half step that has no update yet
    /// ends.
    pub(crate) fn begin(&mut self, context: &Context, groups: &[GroupInfo], gradients: Option<&[u32]>) -> Result<Slot> {
        if self.counts.is_full() && !settle(context, || !self.counts.is_full()) {
            return Err(self.counts.refusal());
        }
        let slot = match self.slots.current {
            Some(slot) if gradients.is_none() && self.slots.names_all => slot,
            _ => self.take_slot(context, groups, gradients)?,
        };
        self.counts
            .fill(context, &self.buffer, |t| rows_of(groups, self.around, t, |scalars| scalar_rows(scalars).1))?;
        self.half = None;
        Ok(Slot { offset: self.rings.call_at(slot as u64) as u32, token: self.slots.tokens[slot].clone() })
    }

    /// Finds a slot that no recorded step can still read, and writes the current settings into it.
    fn take_slot(&mut self, context: &Context, groups: &[GroupInfo], gradients: Option<&[u32]>) -> Result<usize> {
        let start = self.slots.current.map_or(0, |s| s + 1);
        let mut free = self.slots.free(start);
        if free.is_none() {
            settle(context, || self.slots.free(start).is_some());
            free = self.slots.free(start);
        }
        let bound = self.slots.tokens.len();
        let slot = free.ok_or(Error::TooManySteps { unfinished: bound, bound })?;
        let rows = rows_of(groups, self.around, 1, |scalars| scalar_rows(scalars).0)?;
        context.write(&self.calls, self.rings.call_at(slot as u64) + CALL_HEAD, bytemuck::cast_slice(&rows))?;
        if self.rings.positions > 0 {
            let all = vec![0; if gradients.is_none() { self.rings.positions } else { 0 }];
            let positions = bytemuck::cast_slice(gradients.unwrap_or(&all));
            context.write(&self.buffer, self.rings.gradients_at(slot as u64), positions)?;
        }
        if !self.rows.is_empty() {
            context.write(&self.buffer, self.rings.rows_at(slot as u64), bytemuck::cast_slice(&self.rows))?;
        }
        (self.slots.current, self.slots.names_all) = (Some(slot), gradients.is_none());
        Ok(slot)
    }

    /// Records the callbacks that free the slot. Call this once the step is in the encoder. `count` holds the step count.
    pub(crate) fn end(&mut self, encoder: &mut wgpu::CommandEncoder, slot: Slot, count: &wgpu::Buffer) {
        self.release(encoder, slot);
        self.counts.recorded += 1;
        let progress = self.counts.progress.clone();
        watch(encoder, move |done| {
            let count = if done { &progress.finished } else { &progress.dropped };
            count.fetch_add(1, Ordering::SeqCst);
        });
        self.counts.confirm(encoder, count);
    }

    /// Frees the slot once the work of the encoder is done or dropped.
    pub(crate) fn release(&self, encoder: &wgpu::CommandEncoder, slot: Slot) {
        encoder.on_submitted_work_done(move || drop(slot.token));
    }

    /// Keeps the slot of a step whose sums are in the encoder, until its update is recorded or another call begins.
    pub(crate) fn keep_half(&mut self, encoder: &wgpu::CommandEncoder, slot: Slot, round: usize) {
        self.release(encoder, slot.clone());
        let dropped = Arc::<AtomicBool>::default();
        self.half = Some(Half { slot, round, dropped: dropped.clone() });
        watch(encoder, move |done| dropped.store(!done, Ordering::SeqCst));
    }

    /// The last round of sums that a half step recorded; 0 if there is no half step.
    pub(crate) fn half_round(&self) -> usize {
        self.half.as_ref().map_or(0, |half| half.round)
    }

    /// Ends a half step, if there is one.
    pub(crate) fn end_half(&mut self) {
        self.half = None;
    }

    /// The slot of the step whose sums were recorded. The half step stays if this returns an error.
    ///
    /// # Errors
    /// No sums were recorded since the last other call; their encoder was dropped.
    pub(crate) fn take_half(&mut self) -> Result<Slot> {
        let half = self.half.take_if(|half| !half.dropped.load(Ordering::SeqCst));
        half.map(|half| half.slot).ok_or_else(|| {
            let problem = "record_update needs a record_sums before it, in an encoder that was not dropped, with no other recorded call, \
                           restore or change of the step count between the two: call record_sums again";
            Error::Usage(problem.to_owned())
        })
    }

    /// Whether the rows that the host wrote ahead, and that a step may still read, differ between two states of a group.
    pub(crate) fn written_differ(&self, before: &GroupInfo, after: &GroupInfo) -> bool {
        if !self.around.scheduled && before.rate_alone_differs(after) {
            return false;
        }
        let row = |group: &GroupInfo, t| group.scalars(self.around, t).ok().map(|scalars| scalar_rows(&scalars).1);
        self.counts.written().any(|t| row(before, t) != row(after, t))
    }

    /// The settings changed: the next step takes a new slot.
    pub(crate) fn settings_changed(&mut self) {
        self.slots.current = None;
    }

    /// The table of rows changed: the next call takes a new slot.
    pub(crate) fn set_rows(&mut self, rows: Vec<u32>) {
        self.rows = rows;
        self.settings_changed();
    }

    /// The options around the rule changed: the next step takes a new slot.
    pub(crate) fn set_around(&mut self, around: Around) {
        self.around = around;
        self.settings_changed();
    }

    /// The most steps that the GPU can have counted once every recorded step is finished.
    pub(crate) fn most_steps(&self) -> u64 {
        self.counts.most()
    }

    /// Whether everything that is recorded is finished or dropped. The sums of a half step count; its missing update does not.
    pub(crate) fn idle(&self, context: &Context) -> bool {
        let kept = |token: &Arc<()>| self.half.as_ref().is_some_and(|half| Arc::ptr_eq(&half.slot.token, token));
        let is_free = |token: &Arc<()>| Arc::strong_count(token) == 1 + usize::from(kept(token));
        settle(context, || self.counts.pending() == 0 && self.slots.tokens.iter().all(is_free))
    }

    /// Starts over: ends a half step, writes every row anew, and sets the step count if one is given. Only while [`idle`](Self::idle).
    pub(crate) fn restart(&mut self, count: Option<u64>) {
        if let Some(step_count) = count {
            self.counts.set_known(step_count);
        }
        self.counts.filled = self.counts.least();
        self.slots.current = None;
        self.half = None;
    }

    /// The word at [`RAN`] of an optimizer without unfinished steps.
    pub(crate) fn ran(&self) -> u32 {
        self.counts.kept() as u32
    }
}

/// Polls the device until `settled`, so that the callbacks of finished work run. The function does not wait for unfinished work. One poll is
/// not enough, because the poll of another thread may have taken the callbacks and not run them yet. A browser runs
/// callbacks between tasks, never within a poll.
fn settle(context: &Context, mut settled: impl FnMut() -> bool) -> bool {
    const LOOKS: usize = if cfg!(target_arch = "wasm32") { 1 } else { 2000 };
    (0..LOOKS).any(|_| {
        context.poll();
        settled() || {
            std::thread::yield_now();
            false
        }
    })
}

fn check(actual: u64, limit: &'static str, needs: u64) -> Result<()> {
    if needs > actual { Err(Error::Limit { limit, actual, needs }) } else { Ok(()) }
}

/// One of the two rows of every group, for the `t`-th step.
fn rows_of(groups: &[GroupInfo], around: Around, t: u64, pick: fn(&[Scalar]) -> Vec<f32>) -> Result<Vec<f32>> {
    let mut rows = Vec::new();
    for group in groups {
        rows.extend(pick(&group.scalars(around, t)?));
    }
    Ok(rows)
}

impl Slots {
    fn free(&self, start: usize) -> Option<usize> {
        let n = self.tokens.len();
        (0..n).map(|i| (start + i) % n).find(|&i| Arc::strong_count(&self.tokens[i]) == 1)
    }
}

impl Counts {
    /// The bound on steps that are recorded and not finished.
    const fn bound(&self) -> u64 {
        self.rings.rows / 2
    }

    /// Steps that are recorded and not dropped.
    fn kept(&self) -> u64 {
        self.recorded - self.progress.dropped.load(Ordering::SeqCst)
    }

    fn finished(&self) -> u64 {
        self.progress.finished.load(Ordering::SeqCst)
    }

    /// Steps that are recorded, and neither finished nor dropped.
    fn pending(&self) -> u64 {
        let finished = self.finished();
        self.kept() - finished
    }

    /// The fewest steps that the GPU can have counted by now.
    fn least(&self) -> u64 {
        if self.confirmation.is_some() { self.known } else { self.known + self.finished() - self.ran }
    }

    /// The most steps that the GPU can have counted once every recorded step is finished.
    fn most(&self) -> u64 {
        self.known + self.kept() - self.ran
    }

    /// The step counts of the rows that are written and that a step may still read.
    fn written(&self) -> impl Iterator<Item = u64> {
        self.least() + 1..=self.filled
    }

    /// Whether another step might read a row past the end of the ring.
    fn is_full(&mut self) -> bool {
        self.take_confirmation();
        self.pending() >= self.bound() || self.most() - self.least() >= self.rings.rows
    }

    /// The error if [`is_full`](Self::is_full). With skipped steps, the host takes a step as unfinished until a copy tells its end.
    fn refusal(&self) -> Error {
        let unfinished = self.pending().max(self.most() - self.least());
        Error::TooManySteps { unfinished: unfinished as usize, bound: self.bound() as usize }
    }

    /// The caller sets the step count and the count of steps that ran on the GPU while no step is pending.
    fn set_known(&mut self, step_count: u64) {
        (self.known, self.ran) = (step_count, self.kept());
        if let Some(confirmation) = &self.confirmation {
            // A copy from before.
            confirmation.open(|_| ());
        }
    }

    fn confirm(&mut self, encoder: &mut wgpu::CommandEncoder, count: &wgpu::Buffer) {
        if (self.most() - self.least()) * 8 < self.rings.rows {
            return;
        }
        if let Some(confirmation) = &self.confirmation {
            confirmation.send(encoder, |encoder, to| encoder.copy_buffer_to_buffer(count, 0, to, 0, CONTROL_HEAD));
        }
    }

    fn take_confirmation(&mut self) {
        let word = |bytes: &[u8], at: u64| bytemuck::pod_read_unaligned::<u32>(&bytes[at as usize..][..4]);
        let counts = |bytes: &[u8]| (u64::from(word(bytes, 0)), word(bytes, RAN));
        let Some((step_count, ran)) = self.confirmation.as_ref().and_then(|copy| copy.open(counts)) else { return };
        self.known = step_count;
        // The GPU's word wraps.
        self.ran += u64::from(ran.wrapping_sub(self.ran as u32));
    }

    /// Writes the rows that the recorded steps and the next step may read, in any order of submission, and some rows more.
    fn fill(&mut self, context: &Context, buffer: &wgpu::Buffer, row: impl Fn(u64) -> Result<Vec<f32>>) -> Result<()> {
        let (most, end) = (self.most(), self.least() + self.rings.rows);
        if self.rings.count_row == 0 || self.filled >= end.min(most + MARGIN) {
            return Ok(());
        }
        let mut target = end.min(most + 4 * MARGIN);
        let mut t = self.filled + 1;
        while t <= target {
            let index = (t - 1) & (self.rings.rows - 1);
            let n = (target + 1 - t).min(self.rings.rows - index);
            let mut rows: Vec<f32> = Vec::with_capacity((n * self.rings.count_row / 4) as usize);
            for ahead in t..t + n {
                match row(ahead) {
                    Ok(row) => rows.extend(row),
                    Err(error) if ahead <= most + 1 => return Err(error),
                    // A schedule may have no valid value past the end of the training. That is an error only once a step may need the value.
                    Err(_) => {
                        target = ahead - 1;
                        break;
                    }
                }
            }
            context.write(buffer, self.rings.count_at(index), bytemuck::cast_slice(&rows))?;
            t += n;
        }
        self.filled = target;
        Ok(())
    }
}
