//! The plan of an optimizer: the layout, and every buffer with its bytes. Construction creates nothing before the plan is complete.

use crate::gpu::access::telemetry::{Sample, measured_bytes};
use crate::gpu::build::buffers::{Sizes, Which};
use crate::gpu::build::places::{Classes, Planned};
use crate::gpu::build::spec::Spec;
use crate::gpu::hyper::scalars::{Rings, Tables};
use crate::gpu::kernel::{matrices, passes};
use crate::gpu::layout::class::Class;
use crate::gpu::layout::factors::FactorRecords;
use crate::gpu::layout::matrices::{MatrixPlan, MatrixTensor};
use crate::gpu::layout::rows::RowState;
use crate::gpu::layout::runs::RunTable;
use crate::gpu::layout::shards::{Shard, sum_lanes};
use crate::gpu::layout::tables::{Layout, check_grid};
use crate::gpu::layout::units::{CONTROL_HEAD, LOSS_BYTES, VEC4};
use crate::gpu::layout::windows::Limits;
use crate::options::around::Around;
use crate::options::random;
use crate::{Error, Result};

/// An optimizer that is planned but not created.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) planned: Planned,
    pub(crate) rows: RowState,
    /// The table of rows of the first call.
    pub(crate) row_table: Vec<u32>,
    pub(crate) classes: Classes,
    pub(crate) layout: Layout,
    pub(crate) rings: Rings,
    /// `Some` if each step names its gradients.
    pub(crate) runs: Option<RunTable>,
    /// The records of the passes over factors.
    pub(crate) factor_records: Option<FactorRecords>,
    /// The records of the passes of the procedure.
    pub(crate) passes: Vec<u8>,
    /// `Some` if the rule iterates over matrices.
    pub(crate) matrices: Option<MatrixPlan>,
    /// `Some` if the optimizer measures each step (telemetry).
    pub(crate) sample: Option<Sample>,
    pub(crate) sizes: Sizes,
}

impl Plan {
    /// Plans an optimizer with this checked specification.
    ///
    /// # Errors
    /// The device's limits are too low.
    pub(crate) fn new(spec: &Spec, lanes: Option<u32>, device: &wgpu::Limits, software: bool) -> Result<Self> {
        check_limits(device)?;
        let (limits, tensors) = (Limits::of(device), spec.tensors.len());
        let mut sizes = Sizes::default();
        let planned = Planned::new(spec, device, &mut sizes)?;
        let rows = RowState::new(spec, limits)?;
        let largest = spec.tensors.iter().map(|t| t.elements).max().unwrap_or(0);
        let lanes = lanes.unwrap_or_else(|| sum_lanes(software, largest));
        let classes = Classes::new(spec, &planned.places, &rows, lanes);
        let layout = Layout::new(&classes.items, limits)?;
        let class = &classes.distinct[0];
        let matrices = plan_matrices(spec, &classes, &layout, limits)?;
        let end = classes.factors.as_ref().map_or_else(|| class.all_decisions(tensors), |factors| factors.end);
        let control = CONTROL_HEAD + end as u64 * VEC4;
        let dynamic_gradients = spec.dynamic_gradients;
        let tables = Tables {
            gradients: if dynamic_gradients || spec.around.partial { tensors } else { 0 },
            rows: rows.table(&spec.tensors),
            in_control: class.scalars_in_control.map(|_| control),
        };
        let rings = Rings::new(spec, device, &tables)?;
        let runs = dynamic_gradients.then(|| RunTable::new(&layout, limits));
        let seed = random::key(spec.seed, random::Stream::Probe);
        let passes = class.procedure.as_ref().map_or_else(Vec::new, |procedure| procedure.records(seed));
        let passes = passes::bytes_of(&passes);
        plan_shards(&layout, spec.around, &mut sizes);
        plan_rounds(class, &layout, tensors, &mut sizes);
        plan_control(class, control, &mut sizes);
        // Other optimizers may step all matrices.
        let factor_records =
            classes.factors.as_ref().map(|factors| factors.records(&layout)).filter(|records| records.folds > 0);
        if let Some(records) = &factor_records {
            plan_factors(records, &layout, control, device, &mut sizes)?;
        }
        rings.plan(&mut sizes);
        passes::plan(&passes, &mut sizes);
        runs.iter().for_each(|runs| runs.plan(&mut sizes));
        matrices.iter().for_each(|plan| matrices::plan(plan, &mut sizes));
        if dynamic_gradients && spec.around.partial {
            sizes.add(Which::StandIn, VEC4);
        }
        rows.plan(&mut sizes);
        rows.plan_remap(&layout, &classes.distinct, &mut sizes);
        let sample = spec.around.telemetry.then(|| Sample::new(control, &layout, &sizes));
        sample.map_or(Ok(()), |sample| sample.plan(device, &mut sizes))?;
        let row_table = tables.rows;
        Ok(Self {
            planned,
            rows,
            row_table,
            classes,
            layout,
            rings,
            runs,
            factor_records,
            passes,
            matrices,
            sample,
            sizes,
        })
    }

    /// Bytes of the measurements of a shard, after its records of chunks.
    pub(crate) fn measured(&self, shard: usize) -> u64 {
        measured(&self.layout.shards[shard], self.classes.distinct[0].around)
    }

    /// The count of totals of a record of the first round.
    pub(crate) fn totals_per_record(&self) -> usize {
        let class = &self.classes.distinct[0];
        let first = class.all_rounds().next();
        first.map_or(0, |round| Class { round, ..class.clone() }.sum_counts().1)
    }

    /// The contents of each shard's arena, in words.
    pub(crate) fn contents(&self) -> Vec<String> {
        let words = |class: usize| {
            let mut words: Vec<String> = Vec::new();
            for array in self.classes.distinct[class].arrays() {
                let word = array.role.to_string();
                if !words.contains(&word) {
                    words.push(word);
                }
            }
            if words.is_empty() { "no states".to_owned() } else { words.join(", ") }
        };
        self.layout.shards.iter().map(|shard| words(shard.class)).collect()
    }
}

/// Bytes after the records of chunks of a shard, into which the update writes its measurements.
fn measured(shard: &Shard, around: Around) -> u64 {
    if around.telemetry { measured_bytes(shard) } else { 0 }
}

/// Plans the iteration over matrices, if the rule has one and there are matrices.
fn plan_matrices(spec: &Spec, classes: &Classes, layout: &Layout, limits: Limits) -> Result<Option<MatrixPlan>> {
    let procedure = &classes.distinct[0].procedure;
    let Some(iteration) = procedure.as_ref().and_then(|procedure| procedure.iteration()) else { return Ok(None) };
    let mut tensors: Vec<(usize, usize)> = Vec::new();
    // A frozen tensor has no part in a shard.
    for (index, parts) in layout.parts.iter().enumerate() {
        tensors.extend(parts.first().map(|first| (first.shard, index)));
    }
    // In the order of the shards, so that a wave works on few of them.
    tensors.sort_unstable();
    let matrix = |(_, tensor): (usize, usize)| {
        let array = classes.distinct[classes.items[tensor].class].whole(iteration.array);
        MatrixTensor::new(tensor, &spec.tensors[tensor].shape, array)
    };
    let tensors: Vec<MatrixTensor> = tensors.into_iter().filter_map(matrix).collect();
    if tensors.is_empty() {
        return Ok(None);
    }
    MatrixPlan::new(&tensors, &iteration, layout, limits).map(Some)
}

fn plan_shards(layout: &Layout, around: Around, sizes: &mut Sizes) {
    for (index, shard) in layout.shards.iter().enumerate() {
        sizes.add(Which::Arena(index), shard.arena());
        sizes.add(Which::Chunks(index), size_of_val(shard.chunks.as_slice()) as u64 + measured(shard, around));
        sizes.add(Which::Spans(index), size_of_val(shard.spans.as_slice()) as u64);
    }
}

fn plan_rounds(class: &Class, layout: &Layout, tensors: usize, sizes: &mut Sizes) {
    for (index, round) in class.all_rounds().enumerate() {
        let (sums, totals) = Class { round, ..class.clone() }.sum_counts();
        let records = tensors as u64 + 1;
        sizes.add(Which::Partials(index), u64::from(layout.rows).max(1) * sums.max(1) as u64 * 4);
        sizes.add(Which::Totals(index), records * totals.max(1) as u64 * VEC4);
        sizes.add(Which::Segments(index), size_of_val(layout.segments.as_slice()) as u64);
        sizes.add(Which::Tensors(index), size_of_val(layout.tensors.as_slice()) as u64);
    }
}

fn plan_control(class: &Class, control: u64, sizes: &mut Sizes) {
    if class.scalars_in_control.is_none() {
        sizes.add(Which::Control, control);
    }
    if class.probes() > 0 {
        sizes.add(Which::Losses, (class.probes() as u64 + 1) * LOSS_BYTES);
    }
}

/// Plans the buffers of the passes over factors, and checks that the device can bind them.
fn plan_factors(
    records: &FactorRecords,
    layout: &Layout,
    control: u64,
    device: &wgpu::Limits,
    sizes: &mut Sizes,
) -> Result<()> {
    for workgroups in [records.folds, records.divides] {
        check_grid(workgroups, device.max_compute_workgroups_per_dimension)?;
    }
    let sums = layout.tile_words * 4;
    sizes.add(Which::TileSums, sums);
    sizes.add(Which::FactorTable, size_of_val(records.table.as_slice()) as u64);
    for (index, tiles) in layout.tiles.iter().enumerate().filter(|(_, tiles)| !tiles.is_empty()) {
        sizes.add(Which::Tiles(index), size_of_val(tiles.as_slice()) as u64);
    }
    let (limit, actual) = ("max_storage_buffer_binding_size", device.max_storage_buffer_binding_size);
    match [sums, control, sizes.of(Which::FactorTable)].into_iter().find(|needs| *needs > actual) {
        Some(needs) => Err(Error::Limit { limit, actual, needs }),
        None => Ok(()),
    }
}

fn check_limits(limits: &wgpu::Limits) -> Result<()> {
    for (limit, actual, needs) in [
        ("max_compute_invocations_per_workgroup", limits.max_compute_invocations_per_workgroup, 256),
        ("max_compute_workgroup_size_x", limits.max_compute_workgroup_size_x, 256),
        ("max_storage_buffers_per_shader_stage", limits.max_storage_buffers_per_shader_stage, 7),
        ("max_compute_workgroup_storage_size", limits.max_compute_workgroup_storage_size, 16384),
        ("max_dynamic_uniform_buffers_per_pipeline_layout", limits.max_dynamic_uniform_buffers_per_pipeline_layout, 2),
    ] {
        if actual < needs {
            return Err(Error::Limit { limit, actual: u64::from(actual), needs: u64::from(needs) });
        }
    }
    Ok(())
}
