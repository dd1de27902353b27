//! Remapping and resetting rows on the GPU.

use crate::Result;
use crate::gpu::Part;
use crate::gpu::build::blame::fault;
use crate::gpu::build::buffers::{Buffers, OWNED, Sizes, UNIFORM, Which};
use crate::gpu::hyper::scalars::Slot;
use crate::gpu::kernel::kernels::DispatchSet;
use crate::gpu::kernel::pipelines::{Compiler, Pipeline, bind_group};
use crate::gpu::layout::class::{Class, Stage};
use crate::gpu::layout::rows::{RowState, Task};
use crate::gpu::layout::shards::Shard;
use crate::gpu::layout::tables::Layout;
use crate::gpu::layout::units::VEC4;

/// Bytes from the record of one task to the next: a dynamic offset is a multiple of this on every device.
const TASK_STRIDE: u64 = 256;

/// The dispatches and the buffer of remapping and resetting.
#[derive(Debug)]
pub(crate) struct Remap {
    /// One per shard; `None` if the shard's class has no rows.
    dispatches: Vec<Option<RemapDispatch>>,
    /// The indices or flags of the current call, one word per row.
    indices: wgpu::Buffer,
    /// An array of a shard while its rows move.
    scratch: wgpu::Buffer,
    /// The number of the array, one record per array.
    tasks: wgpu::Buffer,
}

#[derive(Debug)]
struct RemapDispatch {
    gather: wgpu::ComputePipeline,
    scatter: wgpu::ComputePipeline,
    reset: wgpu::ComputePipeline,
    /// The pipeline whose layout `group` has.
    bound: Pipeline,
    group: wgpu::BindGroup,
    grid: (u32, u32),
    /// Parameters, and each array of the arena.
    arrays: u32,
}

/// The work of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowTask {
    Remap,
    Reset,
}

impl RowState {
    /// Plans the buffers of remapping and resetting, if there are row sets.
    pub(crate) fn plan_remap(&self, layout: &Layout, classes: &[Class], sizes: &mut Sizes) {
        let Some(rows) = self.sets.iter().map(|s| s.capacity).max() else { return };
        sizes.add(Which::Indices, rows as u64 * 4);
        let remaps = self.sets.iter().any(|s| s.reserved);
        let arrays = layout.shards.iter().filter(|l| remaps && classes[l.class].rows.is_some());
        sizes.add(Which::Scratch, arrays.map(Shard::array).max().unwrap_or(0) * VEC4);
        let tasks = classes.iter().map(|v| v.arrays().len() as u64 + 1).max().unwrap_or(1);
        sizes.add(Which::Tasks, tasks * TASK_STRIDE);
    }
}

impl Part {
    /// Creates the dispatches of remapping and resetting, if there are row sets.
    pub(crate) fn create_remap(&self, buffers: &Buffers<'_>, compiler: &Compiler<'_>) -> Result<Option<Remap>> {
        if !self.placement.rows.selects() {
            return Ok(None);
        }
        let indices = buffers.create(Which::Indices, OWNED)?;
        let scratch = buffers.create(Which::Scratch, OWNED)?;
        let tasks = buffers.create(Which::Tasks, UNIFORM)?;
        for array in 0..(tasks.size() / TASK_STRIDE) as u32 {
            self.context.write(&tasks, u64::from(array) * TASK_STRIDE, bytemuck::bytes_of(&array))?;
        }
        let compile = |class: &Class| class.rows.map(|_| compiler.compile(class, Stage::Rows));
        let classes: Vec<Option<Vec<Pipeline>>> = self.placement.classes.iter().map(compile).collect();
        let shard = |(index, shard): (usize, &DispatchSet)| {
            let class = self.placement.layout.shards[index].class;
            let [gather, scatter, reset] = classes[class].as_deref()? else { return None };
            let group = self.remap_group(gather, index, shard, [&tasks, &indices, &scratch]);
            let bound = gather.clone();
            let [gather, scatter, reset] = [gather, scatter, reset].map(|p| p.pipeline.clone());
            let arrays = self.placement.classes[class].arrays().len() as u32 + 1;
            Some(RemapDispatch { gather, scatter, reset, bound, group, grid: shard.update.grid, arrays })
        };
        let dispatches = self.kernels.dispatches.iter().enumerate().map(shard).collect();
        Ok(Some(Remap { dispatches, indices, scratch, tasks }))
    }

    /// The bindings of a shard's remapping and resetting.
    fn remap_group(
        &self,
        pipeline: &Pipeline,
        index: usize,
        shard: &DispatchSet,
        [tasks, indices, scratch]: [&wgpu::Buffer; 3],
    ) -> wgpu::BindGroup {
        let window = self.placement.layout.shards[index].param.clone();
        bind_group(&self.context.device, &self.context.label, pipeline, |name| match name {
            "wo_task" => wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: tasks,
                offset: 0,
                size: wgpu::BufferSize::new(VEC4),
            }),
            "wo_indices" => indices.as_entire_binding(),
            "wo_scratch" => scratch.as_entire_binding(),
            _ => self.resource(name, window.clone(), &shard.arena, &shard.update.table, 0),
        })
    }

    /// Binds remapping and resetting again, once the placement of the parameters has changed.
    pub(crate) fn rebind_remap(&mut self) {
        let Some(mut remap) = self.remap.take() else { return };
        let shared = [&remap.tasks, &remap.indices, &remap.scratch];
        for (index, dispatch) in remap.dispatches.iter_mut().enumerate() {
            if let Some(dispatch) = dispatch {
                dispatch.group = self.remap_group(&dispatch.bound, index, &self.kernels.dispatches[index], shared);
            }
        }
        self.remap = Some(remap);
    }

    /// Checks a remap of a set to this many rows.
    pub(crate) fn check_remap(&self, set: usize, indices: wgpu::BufferSlice<'_>, rows: usize) -> Result<()> {
        self.check_room(set, rows)?;
        self.check_remappable(set)?;
        self.check_words(set, "indices", indices, rows)
    }

    /// Takes the slot of a checked remap, and sets the count of rows in use.
    pub(crate) fn begin_remap(&mut self, set: usize, rows: usize) -> Result<Slot> {
        let before = self.live(set);
        self.put_live(set, rows);
        let slot = self.begin_task(&self.task_of(set));
        if slot.is_err() {
            self.restore_live(set, before);
        }
        slot
    }

    /// Takes the slot of a reset of the flagged rows of a set.
    pub(crate) fn begin_row_reset(&mut self, set: usize) -> Result<Slot> {
        self.begin_task(&self.task_of(set))
    }

    /// Takes the slot of a reset of whole tensors.
    pub(crate) fn begin_reset(&mut self, tensors: &[usize]) -> Result<Slot> {
        let mut tasks = vec![Task::Nothing; self.spec.tensors.len()];
        tensors.iter().for_each(|&tensor| tasks[tensor] = Task::Whole);
        self.begin_task(&tasks)
    }

    /// Checks that the states of a tensor can be reset.
    pub(crate) fn check_reset(&self, tensor: usize) -> Result<()> {
        if self.placement.rows.set_of[tensor].is_some() {
            return Ok(());
        }
        Err(self.spec.tensors[tensor]
            .error("it is in no row set: name one with Builder::row_set to reset its states".to_owned()))
    }

    /// The task of each tensor: the indexed rows for the tensors of the set, nothing for the others.
    fn task_of(&self, set: usize) -> Vec<Task> {
        let task = |of: &Option<usize>| if *of == Some(set) { Task::Indexed } else { Task::Nothing };
        self.placement.rows.set_of.iter().map(task).collect()
    }

    fn check_remappable(&self, set: usize) -> Result<()> {
        let set = &self.placement.rows.sets[set];
        if !set.reserved {
            return Err(set
                .error("its rows cannot be remapped without a row capacity: call Builder::row_capacity before build"));
        }
        match set.tensors.iter().find(|&&t| self.placement.layout.parts[t].len() > 1) {
            None => Ok(()),
            Some(&tensor) => Err(self.spec.tensors[tensor].error(
                "it takes more than one binding, so its rows cannot be remapped: raise the device's \
                 max_storage_buffer_binding_size or lower the row capacity"
                    .to_owned(),
            )),
        }
    }

    /// Checks a buffer of the caller with one word per row.
    pub(crate) fn check_words(&self, set: usize, what: &str, words: wgpu::BufferSlice<'_>, rows: usize) -> Result<()> {
        let set = &self.placement.rows.sets[set];
        let usage = words.buffer().usage();
        if words.size() / 4 < rows as u64 {
            return Err(set.error(&format!("its {what} have {} bytes, {rows} rows need {}", words.size(), rows * 4)));
        }
        if !words.offset().is_multiple_of(4) {
            return Err(set.error(&format!("its {what} begin at byte {}, needs a multiple of 4", words.offset())));
        }
        if !usage.contains(wgpu::BufferUsages::COPY_SRC) {
            return Err(set.error(&format!("the buffer of its {what} has usage {usage:?}, needs COPY_SRC")));
        }
        self.context.check()?;
        let fault = fault(&self.context.device, words.buffer());
        fault.map_or(Ok(()), |fault| Err(set.error(&format!("the buffer of its {what} {fault}"))))
    }

    /// Takes the slot of a call with these tasks.
    fn begin_task(&mut self, tasks: &[Task]) -> Result<Slot> {
        self.scalars.set_rows(self.placement.rows.table_for(&self.spec.tensors, |t| tasks[t]));
        let positions = self.kernels.runs.as_ref().map(|_| vec![0; self.spec.tensors.len()]);
        let slot = self.begin_call(positions.as_deref());
        // The next recorded call has no tasks.
        self.scalars.set_rows(self.placement.rows.table(&self.spec.tensors));
        slot
    }

    /// Records the remap or reset of a slot. `words`: one word per row, for so many rows.
    pub(crate) fn record_task(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        words: Option<(wgpu::BufferSlice<'_>, usize)>,
        kind: RowTask,
        slot: Slot,
    ) {
        let Some(remap) = &self.remap else { return };
        if let Some((words, rows)) = words.filter(|(_, rows)| *rows > 0) {
            let bytes = rows as u64 * 4;
            encoder.copy_buffer_to_buffer(words.buffer(), words.offset(), &remap.indices, 0, bytes);
        }
        {
            let mut pass = self.begin_pass(encoder);
            for dispatch in remap.dispatches.iter().flatten() {
                dispatch.record(&mut pass, kind, slot.offset);
            }
        }
        self.scalars.release(encoder, slot);
    }
}

impl RemapDispatch {
    fn record(&self, pass: &mut wgpu::ComputePass<'_>, kind: RowTask, slot: u32) {
        let mut run = |pipeline: &wgpu::ComputePipeline, array: u32| {
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, &self.group, &[slot, array * TASK_STRIDE as u32]);
            pass.dispatch_workgroups(self.grid.0, self.grid.1, 1);
        };
        if kind == RowTask::Reset {
            return run(&self.reset, 0);
        }
        for array in 0..self.arrays {
            run(&self.gather, array);
            run(&self.scatter, array);
        }
    }
}
