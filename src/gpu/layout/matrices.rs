//! The matrices of an iteration: which of them a wave works on, where they lie in the scratch, and the tables of its dispatches.
//!
//! The scratch holds every matrix with at least as many rows as columns: a matrix with more columns is transposed on its way in and out. So
//! Y is X transposed, and one iteration is `A = YᵀY`, `B = aI + bA + cA²`, `Y ← YB`. A wave takes as many matrices as the scratch has room
//! for, and all waves use the same scratch. A matrix that no binding can show is alone in its wave: its rows, and those of A and B, are cut
//! into panels with a buffer each.

use std::ops::Range;

use crate::gpu::layout::tables::{Layout, StateRun, fold};
use crate::gpu::layout::units::{ARENA_HEADER, VEC4};
use crate::gpu::layout::windows::Limits;
use crate::optim::procedure::spec::IterationSpec;
use crate::{Error, Result};

/// Rows and columns of a tile, which one workgroup computes.
pub(crate) const TILE: u64 = 64;
/// Elements that a workgroup copies.
const COPY: u64 = 1024;
/// A wave takes matrices up to this share of all elements …
const WAVES: u64 = 8;
/// … and at least this many elements, so that small models need one wave.
const LEAST_WAVE: u64 = 4 << 20;
/// Rows of a panel at most: a workgroup adds the products of all rows in one loop, and lavapipe silently ends a loop of 65535 iterations.
const PANEL_ROWS: u64 = 1 << 19;

/// Adds to the output.
const ADDS: u32 = 1;
/// Multiplies the matrix by 1/max(‖Y‖, ε) as it is read.
const SCALES: u32 = 2;
/// Multiplies the output by k.
const ADJUSTS: u32 = 4;
/// The last product of an output of `blend`.
const ENDS: u32 = 8;

/// The flags' names in WGSL.
pub(crate) const FLAGS: [(&str, u32); 4] = [("ADDS", ADDS), ("SCALES", SCALES), ("ADJUSTS", ADJUSTS), ("ENDS", ENDS)];

/// `wo_Matrix` of `shaders/matrices/product.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct MatrixRecord {
    /// First element in the page.
    first: u32,
    rows: u32,
    columns: u32,
    /// First element of A, and of B.
    gram: u32,
    /// k.
    factor: f32,
    pad: [u32; 3],
}

/// `wo_Slot` of `shaders/matrices/copy.wgsl`: matrices of one tensor that follow each other.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct SlotRecord {
    rows: u32,
    columns: u32,
    /// First element in the page.
    first: u32,
    pad: u32,
}

/// A record of the table of tiles or of copies: four numbers, which the kernel of the table names.
type Four = [u32; 4];

/// `wo_Work` of `shaders/matrices/work.wgsl`: what one dispatch does.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct WorkRecord {
    /// First record in the table of the kernel.
    first: u32,
    count: u32,
    /// First record in the table of matrices, or of slots.
    matrices: u32,
    flags: u32,
    /// Rows of the output: of A or B for `gram` and `blend`, of the matrices for copies.
    begin: u32,
    end: u32,
    /// The sums run over these rows of A or B.
    depth_begin: u32,
    depth_end: u32,
    /// a, b, c and ε.
    numbers: [f32; 4],
    /// First element of the matrices in the arena.
    array: u32,
    pad: [u32; 3],
}

/// The kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Work {
    /// From the arena of a shard to a page.
    Gather { shard: usize, page: usize },
    /// A ← YᵀY: from a page to a page of A.
    Gram { page: usize, parity: usize, gram: usize },
    /// The squared norm, from the diagonal of A.
    Norm { gram: usize },
    /// B ← aI + bA + cA²: from a page of A to a page of B.
    Blend { from: usize, gram: usize },
    /// Y ← YB.
    Product { page: usize, parity: usize, gram: usize },
    /// From a page to the arena of a shard.
    Scatter { shard: usize, page: usize, parity: usize },
}

/// A dispatch.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Job {
    pub(crate) work: Work,
    /// The number of its record.
    pub(crate) record: usize,
    pub(crate) grid: (u32, u32),
}

/// The plan of an iteration over the matrices of a part.
#[derive(Clone, Debug, Default)]
pub(crate) struct MatrixPlan {
    pub(crate) jobs: Vec<Job>,
    pub(crate) works: Vec<WorkRecord>,
    pub(crate) matrices: Vec<MatrixRecord>,
    pub(crate) slots: Vec<SlotRecord>,
    pub(crate) tiles: Vec<Four>,
    pub(crate) copies: Vec<Four>,
    /// Elements of each page, of which there are two.
    pub(crate) pages: Vec<u64>,
    /// Elements of each page of A, and of B.
    pub(crate) grams: Vec<u64>,
    /// Matrices of the largest wave.
    pub(crate) norms: u64,
}

/// A tensor whose matrices an iteration takes.
#[derive(Clone, Debug)]
pub(crate) struct MatrixTensor {
    /// The index in the layout.
    pub(crate) tensor: usize,
    pub(crate) batch: u64,
    pub(crate) rows: u64,
    pub(crate) columns: u64,
    /// The number of the array with the matrices in the arena.
    pub(crate) array: u64,
}

impl MatrixTensor {
    /// A tensor of this shape; `None` where it has no element.
    pub(crate) fn new(tensor: usize, shape: &[usize], array: u64) -> Option<Self> {
        let [batch @ .., rows, columns] = shape else { return None };
        let [rows, columns] = [*rows as u64, *columns as u64];
        let batch = batch.iter().map(|n| *n as u64).product();
        (batch * rows * columns > 0).then_some(Self { tensor, batch, rows, columns, array })
    }

    const fn long(&self) -> u64 {
        if self.rows > self.columns { self.rows } else { self.columns }
    }

    const fn short(&self) -> u64 {
        if self.rows > self.columns { self.columns } else { self.rows }
    }

    const fn elements(&self) -> u64 {
        self.rows * self.columns
    }
}

/// Matrices of one tensor that follow each other in a wave.
#[derive(Clone, Debug)]
struct Slot<'a> {
    of: &'a MatrixTensor,
    matrices: Range<u64>,
    /// First element in the page.
    first: u64,
    /// First element of A.
    gram: u64,
}

/// The matrices that the scratch holds at one time.
#[derive(Clone, Debug)]
struct Wave<'a> {
    slots: Vec<Slot<'a>>,
    elements: u64,
    of_grams: u64,
    /// The rows of each page, and of each page of A. One page shows all rows of all matrices, unless the wave has one large matrix.
    panels: Vec<Range<u64>>,
    grams: Vec<Range<u64>>,
}

/// All rows of all matrices.
fn all_rows() -> Vec<Range<u64>> {
    std::iter::once(0..u64::from(u32::MAX)).collect()
}

impl<'a> Wave<'a> {
    fn new() -> Self {
        Self { slots: Vec::new(), elements: 0, of_grams: 0, panels: all_rows(), grams: all_rows() }
    }

    /// Adds a matrix.
    fn push(&mut self, of: &'a MatrixTensor, matrix: u64) {
        match self.slots.last_mut() {
            Some(slot) if slot.of.tensor == of.tensor && slot.matrices.end == matrix => slot.matrices.end += 1,
            _ => {
                let (first, gram) = (self.elements, self.of_grams);
                self.slots.push(Slot { of, matrices: matrix..matrix + 1, first, gram });
            }
        }
        self.elements += of.elements();
        self.of_grams += of.short() * of.short();
    }

    /// The wave of one matrix that a page cannot hold.
    fn of_large(of: &'a MatrixTensor, matrix: u64, page: u64) -> Result<Self> {
        let (long, short) = (of.long(), of.short());
        if short > page {
            return Err(Error::Limit { limit: "max_storage_buffer_binding_size", actual: page * 4, needs: short * 4 });
        }
        let cut = |rows: u64, most: u64| -> Vec<Range<u64>> {
            let most = (page / short).min(most);
            (0..rows).step_by(most as usize).map(|first| first..(first + most).min(rows)).collect()
        };
        let mut wave = Self::new();
        wave.push(of, matrix);
        (wave.panels, wave.grams) = (cut(long, PANEL_ROWS), cut(short, u64::MAX));
        Ok(wave)
    }
}

/// Divides the matrices into waves. `page`: the most elements of a page.
fn waves(tensors: &[MatrixTensor], page: u64) -> Result<Vec<Wave<'_>>> {
    let total: u64 = tensors.iter().map(|t| t.batch * t.elements()).sum();
    let most = total.div_ceil(WAVES).max(LEAST_WAVE).min(page);
    let mut waves: Vec<Wave<'_>> = Vec::new();
    let mut open = false;
    for of in tensors {
        let (elements, gram) = (of.elements(), of.short() * of.short());
        for matrix in 0..of.batch {
            if elements > page || gram > page || of.long() > PANEL_ROWS {
                waves.push(Wave::of_large(of, matrix, page)?);
                open = false;
                continue;
            }
            let fits = |wave: &Wave<'_>| wave.elements + elements <= most && wave.of_grams + gram <= page;
            if !open || !waves.last().is_some_and(fits) {
                waves.push(Wave::new());
                open = true;
            }
            if let Some(wave) = waves.last_mut() {
                wave.push(of, matrix);
            }
        }
    }
    Ok(waves)
}

impl MatrixPlan {
    /// Plans the iteration over these tensors, which come in the order of the shards.
    ///
    /// # Errors
    /// The device's limits are too low.
    pub(crate) fn new(
        tensors: &[MatrixTensor],
        iteration: &IterationSpec,
        layout: &Layout,
        limits: Limits,
    ) -> Result<Self> {
        let mut planner = Planner { plan: Self::default(), iteration, layout, limits };
        for wave in waves(tensors, limits.window / 4)? {
            planner.wave(&wave)?;
        }
        Ok(planner.plan)
    }
}

struct Planner<'a> {
    plan: MatrixPlan,
    iteration: &'a IterationSpec,
    layout: &'a Layout,
    limits: Limits,
}

/// The records of a wave's tables.
struct Tables {
    /// The first slot.
    slots: u32,
    /// For each panel, the first matrix.
    matrices: Vec<u32>,
    /// For each panel, the tiles of its product.
    products: Vec<Range<usize>>,
    /// For each page of A, its tiles.
    grams: Vec<Range<usize>>,
    count: u32,
}

impl Planner<'_> {
    fn wave(&mut self, wave: &Wave<'_>) -> Result<()> {
        let tables = self.tables(wave);
        self.reserve(wave, tables.count);
        let copies = self.copies(wave);
        for (page, panel) in wave.panels.iter().enumerate() {
            for (shard, array, records) in &copies {
                let work = WorkRecord { array: *array, matrices: tables.slots, ..over(panel) };
                self.job(Work::Gather { shard: *shard, page }, records, work)?;
            }
        }
        for step in 0..self.iteration.steps {
            self.step(wave, &tables, step)?;
        }
        let parity = self.iteration.steps as usize % 2;
        for (page, panel) in wave.panels.iter().enumerate() {
            for (shard, array, records) in &copies {
                let work = WorkRecord { array: *array, matrices: tables.slots, ..over(panel) };
                self.job(Work::Scatter { shard: *shard, page, parity }, records, work)?;
            }
        }
        Ok(())
    }

    /// One iteration.
    fn step(&mut self, wave: &Wave<'_>, tables: &Tables, step: u32) -> Result<()> {
        let parity = step as usize % 2;
        let scales = if step == 0 { SCALES } else { 0 };
        let adjusts = if step + 1 == self.iteration.steps { ADJUSTS } else { 0 };
        let adds = |later: bool| if later { ADDS } else { 0 };
        for (gram, rows) in wave.grams.iter().enumerate() {
            for page in 0..wave.panels.len() {
                let work = WorkRecord { matrices: tables.matrices[page], flags: adds(page > 0), ..over(rows) };
                self.job(Work::Gram { page, parity, gram }, &tables.grams[gram], work)?;
            }
        }
        if step == 0 {
            for (gram, rows) in wave.grams.iter().enumerate() {
                let work = WorkRecord { matrices: tables.matrices[0], flags: adds(gram > 0), ..over(rows) };
                self.job(Work::Norm { gram }, &(0..tables.count as usize), work)?;
            }
        }
        for (gram, rows) in wave.grams.iter().enumerate() {
            for (from, depth) in wave.grams.iter().enumerate() {
                let ends = if from + 1 == wave.grams.len() { ENDS } else { 0 };
                let flags = adds(from > 0) | scales | ends;
                let work = WorkRecord { matrices: tables.matrices[0], flags, ..over(rows) }.along(depth);
                self.job(Work::Blend { from, gram }, &tables.grams[gram], work)?;
            }
        }
        for page in 0..wave.panels.len() {
            for (gram, depth) in wave.grams.iter().enumerate() {
                let flags = adds(gram > 0) | scales | adjusts;
                let work = WorkRecord { matrices: tables.matrices[page], flags, ..WorkRecord::default() }.along(depth);
                self.job(Work::Product { page, parity, gram }, &tables.products[page], work)?;
            }
        }
        Ok(())
    }

    /// Adds a dispatch over these records of its table.
    fn job(&mut self, work: Work, records: &Range<usize>, record: WorkRecord) -> Result<()> {
        let IterationSpec { coefficients: [a, b, c], eps, .. } = *self.iteration;
        let grid = fold(records.len(), self.limits.grid);
        if grid.1 > self.limits.grid {
            return Err(Error::Limit {
                limit: "max_compute_workgroups_per_dimension",
                actual: u64::from(self.limits.grid),
                needs: (records.len() as u64).isqrt() + 1,
            });
        }
        let numbers = [a, b, c, eps].map(|x| x as f32);
        let (first, count) = (records.start as u32, records.len() as u32);
        self.plan.jobs.push(Job { work, record: self.plan.works.len(), grid });
        self.plan.works.push(WorkRecord { first, count, numbers, ..record });
        Ok(())
    }

    /// Adds the matrices, slots and tiles of a wave.
    fn tables(&mut self, wave: &Wave<'_>) -> Tables {
        let plan = &mut self.plan;
        let slots = plan.slots.len() as u32;
        plan.slots.extend(wave.slots.iter().map(|slot| SlotRecord {
            rows: slot.of.rows as u32,
            columns: slot.of.columns as u32,
            first: slot.first as u32,
            pad: 0,
        }));
        let (mut matrices, mut products) = (Vec::new(), Vec::new());
        for panel in &wave.panels {
            matrices.push(plan.matrices.len() as u32);
            let (base, first) = (plan.matrices.len(), plan.tiles.len());
            for slot in &wave.slots {
                let of = slot.of;
                let rows = panel.end.min(of.long()) - panel.start;
                let factor = self.iteration.adjust.factor(of.rows as usize, of.columns as usize) as f32;
                for matrix in 0..slot.matrices.end - slot.matrices.start {
                    let number = (plan.matrices.len() - base) as u32;
                    plan.matrices.push(MatrixRecord {
                        first: (slot.first + matrix * of.elements()) as u32,
                        rows: rows as u32,
                        columns: of.short() as u32,
                        gram: (slot.gram + matrix * of.short() * of.short()) as u32,
                        factor,
                        pad: [0; 3],
                    });
                    let all = starts(0..rows).flat_map(|i| starts(0..of.short()).map(move |j| [number, i, j, 0]));
                    plan.tiles.extend(all);
                }
            }
            products.push(first..plan.tiles.len());
        }
        let count = wave.slots.iter().map(|slot| slot.matrices.end - slot.matrices.start).sum::<u64>() as u32;
        let grams = wave.grams.iter().map(|rows| add_gram_tiles(&mut plan.tiles, wave, rows)).collect();
        Tables { slots, matrices, products, grams, count }
    }

    /// Makes room for a wave in the scratch.
    fn reserve(&mut self, wave: &Wave<'_>, matrices: u32) {
        let plan = &mut self.plan;
        let grow = |pages: &mut Vec<u64>, rows: &[Range<u64>], whole: u64, width: u64| {
            for (page, rows) in rows.iter().enumerate() {
                let elements = whole.min((rows.end - rows.start).saturating_mul(width));
                match pages.get_mut(page) {
                    Some(most) => *most = elements.max(*most),
                    None => pages.push(elements),
                }
            }
        };
        let width = wave.slots.iter().map(|slot| slot.of.short()).max().unwrap_or(1);
        grow(&mut plan.pages, &wave.panels, wave.elements, width);
        grow(&mut plan.grams, &wave.grams, wave.of_grams, width);
        plan.norms = plan.norms.max(u64::from(matrices));
    }

    /// Adds the copies of a wave. Returns for each shard the first element of the matrices' array in its arena, and the records.
    fn copies(&mut self, wave: &Wave<'_>) -> Vec<(usize, u32, Range<usize>)> {
        let mut copies: Vec<(usize, u32, Range<usize>)> = Vec::new();
        for (number, slot) in wave.slots.iter().enumerate() {
            let of = slot.of;
            let elements = slot.matrices.start * of.elements()..slot.matrices.end * of.elements();
            for run in self.layout.state_runs(of.tensor) {
                let first = self.plan.copies.len();
                add_copies(&mut self.plan.copies, number as u32, &elements, &run);
                let end = self.plan.copies.len();
                let array = (of.array * run.stride * VEC4 / 4) as u32;
                match copies.last_mut() {
                    Some((shard, known, records)) if (*shard, *known) == (run.shard, array) => records.end = end,
                    _ if end > first => copies.push((run.shard, array, first..end)),
                    _ => {}
                }
            }
        }
        copies
    }
}

/// A record for these rows of the output.
fn over(rows: &Range<u64>) -> WorkRecord {
    WorkRecord { begin: rows.start as u32, end: rows.end as u32, ..WorkRecord::default() }
}

impl WorkRecord {
    /// The record with sums over these rows of A or B.
    const fn along(self, depth: &Range<u64>) -> Self {
        Self { depth_begin: depth.start as u32, depth_end: depth.end as u32, ..self }
    }
}

/// Where the tiles of a range of rows or columns begin.
fn starts(range: Range<u64>) -> impl Iterator<Item = u32> + Clone {
    range.step_by(TILE as usize).map(|start| start as u32)
}

/// Adds the tiles of these rows of A. A is symmetric: where one page holds all of it, a tile above the diagonal is written below it too.
fn add_gram_tiles(tiles: &mut Vec<Four>, wave: &Wave<'_>, rows: &Range<u64>) -> Range<usize> {
    let first = tiles.len();
    let mirrors = wave.grams.len() == 1;
    let mut number = 0;
    for slot in &wave.slots {
        let short = slot.of.short();
        for _ in slot.matrices.clone() {
            for i in starts(rows.start..rows.end.min(short)) {
                let from = if mirrors { u64::from(i) } else { 0 };
                tiles.extend(starts(from..short).map(|j| [number, i, j, u32::from(mirrors && i != j)]));
            }
            number += 1;
        }
    }
    first..tiles.len()
}

/// Adds the copies of those elements of a slot that lie in a run: the element in the arena's first array, the element in the slot, the
/// count, the slot.
fn add_copies(copies: &mut Vec<Four>, slot: u32, elements: &Range<u64>, run: &StateRun) {
    let held = run.position as u64..(run.position + run.elements) as u64;
    let both = elements.start.max(held.start)..elements.end.min(held.end);
    let arena = (ARENA_HEADER + run.vec4) * (VEC4 / 4);
    copies.extend(both.clone().step_by(COPY as usize).map(|at| {
        let count = COPY.min(both.end - at);
        [(arena + at - held.start) as u32, (at - elements.start) as u32, count as u32, slot]
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tensor(tensor: usize, batch: u64, rows: u64, columns: u64) -> MatrixTensor {
        MatrixTensor { tensor, batch, rows, columns, array: 0 }
    }

    /// Checks that the waves take every matrix once, and that no page is longer than `page`.
    fn check(tensors: &[MatrixTensor], page: u64) {
        let waves = waves(tensors, page).unwrap();
        let mut taken: Vec<u64> = tensors.iter().map(|_| 0).collect();
        for wave in &waves {
            let (mut elements, mut grams) = (0, 0);
            for slot in &wave.slots {
                assert_eq!((slot.first, slot.gram), (elements, grams), "matrices follow each other");
                assert_eq!(slot.matrices.start, taken[slot.of.tensor], "in order, each once");
                taken[slot.of.tensor] = slot.matrices.end;
                let count = slot.matrices.end - slot.matrices.start;
                elements += count * slot.of.elements();
                grams += count * slot.of.short() * slot.of.short();
            }
            assert_eq!((wave.elements, wave.of_grams), (elements, grams));
            if wave.panels == all_rows() && wave.grams == all_rows() {
                assert!(elements <= page && grams <= page);
                continue;
            }
            let [slot] = wave.slots.as_slice() else { panic!("a large matrix is alone: {wave:?}") };
            for (panels, rows) in [(&wave.panels, slot.of.long()), (&wave.grams, slot.of.short())] {
                let end = panels.iter().fold(0, |end, panel| {
                    assert_eq!(panel.start, end, "every row is in one panel");
                    assert!((panel.end - panel.start) * slot.of.short() <= page);
                    panel.end
                });
                assert_eq!(end, rows);
            }
        }
        assert!(taken.iter().zip(tensors).all(|(taken, tensor)| *taken == tensor.batch));
        let total: u64 = tensors.iter().map(|t| t.batch * t.elements()).sum();
        let large = tensors.iter().filter(|t| t.elements().max(t.short().pow(2)) > page).map(|t| t.batch).sum::<u64>();
        let by_room = 2 * total.div_ceil(total.div_ceil(WAVES).max(LEAST_WAVE).min(page)) + 1;
        assert!(waves.len() as u64 <= by_room + 2 * large, "{} waves", waves.len());
    }

    proptest! {
        #[test]
        fn every_matrix_is_in_one_wave(
            shapes in prop::collection::vec((1_u64..6, 1_u64..400, 1_u64..400), 1..30),
            page in 400_u64..100_000,
        ) {
            let tensors: Vec<_> =
                shapes.iter().enumerate().map(|(i, &(batch, rows, columns))| tensor(i, batch, rows, columns)).collect();
            check(&tensors, page);
        }
    }

    #[test]
    fn a_long_matrix_is_cut_before_a_loop_is_too_long() {
        let long = [tensor(0, 1, 3 * PANEL_ROWS + 1, 2)];
        check(&long, 1 << 30);
        assert_eq!(waves(&long, 1 << 30).unwrap()[0].panels.len(), 4);
    }

    #[test]
    fn a_row_longer_than_a_page_is_refused() {
        let error = waves(&[tensor(0, 1, 101, 102)], 100).unwrap_err().to_string();
        assert!(error.contains("max_storage_buffer_binding_size is 400") && error.contains("404"), "{error}");
    }

    #[test]
    fn many_large_matrices_share_a_scratch_of_an_eighth() {
        let all = [tensor(0, 64, 1024, 1024)];
        let all = waves(&all, 1 << 30).unwrap();
        assert_eq!((all.len(), all[0].elements), (8, 8 << 20));
    }
}
