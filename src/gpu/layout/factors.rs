//! Factors of matrices: where they lie in the control buffer, and the records of the passes over them.
//!
//! A state that is kept as factors lies behind the decisions: a table with one record per tensor; then for each tensor the means of its rows and of its
//! columns, once as they are between steps and once as the step under way makes them, and a divisor for each matrix. A step that is skipped, or whose
//! second half never runs, thus leaves the first copy as it was.

use crate::gpu::build::spec::Spec;
use crate::gpu::layout::tables::Layout;
use crate::gpu::layout::tiles::blocks;
use crate::gpu::layout::units::{CONTROL_HEAD, VEC4};
use crate::optim::procedure::factors;
use crate::optim::procedure::factors::Matrices;
use crate::optim::procedure::spec::FactorSpec;

/// Threads of a workgroup that moves means: each takes four of them.
pub(crate) const FOLD_LANES: u32 = 64;
/// Threads of a workgroup that makes divisors.
pub(crate) const DIVIDE_LANES: u32 = 256;
/// One thread adds the means of a matrix's rows where it has at most this many.
pub(crate) const FEW_ROWS: usize = 64;
/// The threads that share a matrix with more rows.
pub(crate) const ROW_LANES: u32 = 64;

/// Where the factors of a tensor lie, in vec4s behind the head of the control buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FactorPlace {
    pub(crate) matrices: Matrices,
    first: usize,
}

impl FactorPlace {
    const fn rows(&self) -> usize {
        self.matrices.all_rows().div_ceil(4)
    }

    /// The vec4s of the means of rows and columns.
    const fn lines(&self) -> usize {
        self.rows() + self.matrices.all_columns().div_ceil(4)
    }

    const fn end(&self) -> usize {
        self.first + 2 * self.lines() + self.matrices.count.div_ceil(4)
    }

    /// The byte of the control buffer at which the rows' means begin, and their count.
    pub(crate) const fn of_rows(&self) -> (u64, usize) {
        (CONTROL_HEAD + self.first as u64 * VEC4, self.matrices.all_rows())
    }

    /// As [`of_rows`](Self::of_rows), for the columns' means.
    pub(crate) const fn of_columns(&self) -> (u64, usize) {
        (CONTROL_HEAD + (self.first + self.rows()) as u64 * VEC4, self.matrices.all_columns())
    }
}

/// The places of the factors of an optimizer.
#[derive(Clone, Debug)]
pub(crate) struct FactorPlan {
    pub(crate) spec: FactorSpec,
    /// The first vec4 of the table, behind the head of the control buffer.
    pub(crate) table: usize,
    /// The place of the factors of each tensor, if it has factors.
    places: Vec<Option<FactorPlace>>,
    /// The vec4 behind the last factor.
    pub(crate) end: usize,
}

/// The records of the passes over lines, and the counts of their workgroups.
#[derive(Clone, Debug)]
pub(crate) struct FactorRecords {
    /// `wo_factor_table` of `shaders/harness/fold.wgsl`.
    pub(crate) table: Vec<[u32; 4]>,
    /// The table in the control buffer.
    pub(crate) tensors: Vec<[u32; 4]>,
    pub(crate) folds: usize,
    pub(crate) divides: usize,
}

impl FactorPlan {
    /// The plan, behind this many vec4s of decisions. `None`: no tensor has factors.
    pub(crate) fn new(spec: &Spec, decisions: usize) -> Option<Self> {
        let of_rule = factors(&spec.rule().procedure())?;
        let mut end = decisions + 2 * spec.tensors.len();
        let place = |tensor: &crate::gpu::build::spec::TensorInfo| {
            let mut matrices = Matrices::of(&tensor.shape).filter(|_| !tensor.frozen)?;
            // Another optimizer steps the tensor, and keeps its factors.
            if tensor.kept() == 0 {
                matrices.count = 0;
            }
            let place = FactorPlace { matrices, first: end };
            end = place.end();
            Some(place)
        };
        let places: Vec<_> = spec.tensors.iter().map(place).collect();
        places.iter().any(Option::is_some).then_some(Self { spec: of_rule, table: decisions, places, end })
    }

    /// The place of the factors of a tensor.
    pub(crate) fn place(&self, tensor: usize) -> Option<&FactorPlace> {
        self.places[tensor].as_ref()
    }

    /// The bytes of the factors of a tensor, with their names.
    pub(crate) fn bytes(&self, tensor: usize) -> Vec<(&'static str, u64)> {
        let Some(Matrices { count, rows, columns }) = self.matrices(tensor) else { return Vec::new() };
        vec![(self.spec.rows, (count * rows * 4) as u64), (self.spec.columns, (count * columns * 4) as u64)]
    }

    /// The matrices of a tensor with factors.
    pub(crate) fn matrices(&self, tensor: usize) -> Option<Matrices> {
        self.place(tensor).map(|place| place.matrices)
    }

    /// The records of the passes, once the layout is final.
    pub(crate) fn records(&self, layout: &Layout) -> FactorRecords {
        let (mut folds, mut divides, mut parts) = (Vec::new(), Vec::new(), Vec::new());
        let mut tensors = Vec::with_capacity(2 * self.places.len());
        for (tensor, place) in self.places.iter().enumerate() {
            let Some(place) = place else {
                tensors.extend([[0; 4]; 2]);
                continue;
            };
            let group = layout.tensors[tensor].group;
            let number = tensor as u32;
            let Matrices { count, rows, columns } = place.matrices;
            let lines = place.lines() as u32;
            let fold = |first: u32| [number, first, FOLD_LANES.min(lines - first), group];
            folds.extend((0..lines).step_by(FOLD_LANES as usize).map(fold));
            let together = if rows <= FEW_ROWS { DIVIDE_LANES } else { DIVIDE_LANES / ROW_LANES };
            divides.extend((0..count as u32).step_by(together as usize).map(|first| [number, first, group, 0]));
            let first_part = parts.len() as u32;
            parts.extend(layout.parts[tensor].iter().filter_map(|part| {
                let tile = layout.tiles[part.shard][part.tiles.clone()].first()?;
                let (first, last) = blocks(&tile.run, place.matrices);
                Some([tile.slot, first, last, 0])
            }));
            tensors.push([rows as u32, columns as u32, place.first as u32, lines]);
            tensors.push([place.rows() as u32, count as u32, first_part, parts.len() as u32 - first_part]);
        }
        let (of_folds, of_divides) = (folds.len(), divides.len());
        let before_parts = (1 + of_folds + of_divides) as u32;
        let head = [of_folds as u32, of_divides as u32, before_parts, 0];
        let table = [vec![head], folds, divides, parts].concat();
        FactorRecords { table, tensors, folds: of_folds, divides: of_divides }
    }
}
