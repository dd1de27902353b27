//! The kernels of an iteration over matrices, and their dispatches.

use std::collections::BTreeMap;

use crate::Result;
use crate::gpu::build::buffers::{Buffers, OWNED, Sizes, TABLE, UNIFORM, Which};
use crate::gpu::kernel::arena::Arena;
use crate::gpu::kernel::passes;
use crate::gpu::kernel::pipelines::{Compiler, Pipeline};
use crate::gpu::kernel::text::{Access, Binding, assemble, declared};
use crate::gpu::layout::matrices::{FLAGS, MatrixPlan, Work, WorkRecord};
use crate::optim::rule::Origin;

/// Bytes of a record of work.
const WORK_BYTES: u64 = size_of::<WorkRecord>() as u64;

/// The kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kernel {
    Gather,
    Gram,
    Norm,
    Blend,
    Product,
    Scatter,
}

impl Kernel {
    pub(crate) const ALL: [Self; 6] = [Self::Gather, Self::Gram, Self::Norm, Self::Blend, Self::Product, Self::Scatter];

    const fn of(work: &Work) -> Self {
        match work {
            Work::Gather { .. } => Self::Gather,
            Work::Gram { .. } => Self::Gram,
            Work::Norm { .. } => Self::Norm,
            Work::Blend { .. } => Self::Blend,
            Work::Product { .. } => Self::Product,
            Work::Scatter { .. } => Self::Scatter,
        }
    }

    /// The name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Gather => "gather",
            Self::Gram => "gram",
            Self::Norm => "norm",
            Self::Blend => "blend",
            Self::Product => "product",
            Self::Scatter => "scatter",
        }
    }

    pub(crate) const fn entry(self) -> &'static str {
        match self {
            Self::Gather | Self::Scatter => "wo_copy",
            Self::Norm => "wo_norm",
            Self::Gram | Self::Blend | Self::Product => "wo_multiply",
        }
    }

    const fn file(self) -> &'static str {
        match self {
            Self::Gather | Self::Scatter => include_str!("../../../shaders/matrices/copy.wgsl"),
            Self::Norm => include_str!("../../../shaders/matrices/norm.wgsl"),
            Self::Gram | Self::Blend | Self::Product => include_str!("../../../shaders/matrices/product.wgsl"),
        }
    }

    pub(crate) fn bindings(self) -> Vec<Binding> {
        let b = Binding::new;
        let numbers = |name, access| b(name, access, "array<f32>");
        let work = b("wo_work", Access::Uniform, "wo_Work");
        let matrices = b("wo_matrices", Access::Read, "array<wo_Matrix>");
        let tiles = b("wo_tiles", Access::Read, "array<vec4<u32>>");
        let (left, right) = (numbers("wo_left", Access::Read), numbers("wo_right", Access::Read));
        let (norms, out) = (numbers("wo_norms", Access::Read), numbers("wo_out", Access::ReadWrite));
        let copies = |arena, page| {
            let (slots, copies) =
                (b("wo_slots", Access::Read, "array<wo_Slot>"), b("wo_copies", Access::Read, "array<vec4<u32>>"));
            vec![work, slots, copies, numbers("wo_arena", arena), numbers("wo_page", page)]
        };
        match self {
            Self::Gather => copies(Access::Read, Access::ReadWrite),
            Self::Scatter => copies(Access::ReadWrite, Access::Read),
            Self::Norm => vec![work, matrices, left, numbers("wo_norms", Access::ReadWrite)],
            Self::Gram => vec![work, matrices, tiles, left, out],
            Self::Blend => vec![work, matrices, tiles, left, numbers("wo_gram", Access::Read), norms, out],
            Self::Product => vec![work, matrices, tiles, left, right, norms, out],
        }
    }

    /// The text.
    pub(crate) fn text(self) -> String {
        let conditions = vec![
            ("GATHER", self == Self::Gather),
            ("GRAM", self == Self::Gram),
            ("BLEND", self == Self::Blend),
            ("PRODUCT", self == Self::Product),
            ("NORMED", matches!(self, Self::Blend | Self::Product)),
            ("MIRRORS", matches!(self, Self::Gram | Self::Blend)),
        ];
        let flags = FLAGS.map(|(name, flag)| format!("const wo_{name} = {flag}u;\n")).concat();
        let constants = format!("{flags}const wo_NOWHERE = {}u;\nconst wo_COPY_LANES = 256u;\n", u32::MAX);
        let written = declared(&format!("matrices {}", self.name()), &self.bindings()) + &constants;
        let files = [include_str!("../../../shaders/matrices/work.wgsl"), self.file()];
        assemble(written, &files, &conditions, &[self.entry()])
    }
}

/// A dispatch with its bindings.
#[derive(Debug)]
struct Dispatch {
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
    /// The dynamic offset of its record.
    offset: u32,
    grid: (u32, u32),
}

/// The dispatches of an iteration over all matrices of a part.
#[derive(Debug)]
pub(crate) struct Matrices(Vec<Dispatch>);

impl Matrices {
    /// Creates the scratch, the tables, the pipelines and the bindings.
    pub(crate) fn new(
        plan: &MatrixPlan,
        buffers: &Buffers<'_>,
        compiler: &Compiler<'_>,
        arenas: &[&Arena],
    ) -> Result<Self> {
        let scratch = Scratch::new(plan, buffers)?;
        let pipelines: BTreeMap<Kernel, Pipeline> =
            Kernel::ALL.map(|kernel| (kernel, compile(compiler, kernel))).into();
        let mut groups: BTreeMap<Work, wgpu::BindGroup> = BTreeMap::new();
        let mut dispatches = Vec::with_capacity(plan.jobs.len());
        for job in &plan.jobs {
            let pipeline = &pipelines[&Kernel::of(&job.work)];
            let group = groups
                .entry(job.work)
                .or_insert_with(|| compiler.bind_group(pipeline, |name| scratch.resource(job.work, name, arenas)));
            dispatches.push(Dispatch {
                pipeline: pipeline.pipeline.clone(),
                group: group.clone(),
                offset: passes::offset(job.record),
                grid: job.grid,
            });
        }
        Ok(Self(dispatches))
    }

    /// The count of dispatches.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Records the iteration.
    pub(crate) fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        for dispatch in &self.0 {
            pass.set_pipeline(&dispatch.pipeline);
            pass.set_bind_group(0, &dispatch.group, &[dispatch.offset]);
            pass.dispatch_workgroups(dispatch.grid.0, dispatch.grid.1, 1);
        }
    }
}

fn compile(compiler: &Compiler<'_>, kernel: Kernel) -> Pipeline {
    let label = format!("{} matrices {}", compiler.label, kernel.name());
    compiler.compile_text(&label, kernel.text(), Origin::CRATE, &kernel.bindings(), vec![kernel.entry()]).swap_remove(0)
}

/// Plans the scratch and the tables.
pub(crate) fn plan(plan: &MatrixPlan, sizes: &mut Sizes) {
    let numbers = |elements: u64| elements * 4;
    for (page, elements) in plan.pages.iter().enumerate() {
        (0..2).for_each(|parity| sizes.add(Which::MatrixPage(2 * page + parity), numbers(*elements)));
    }
    for (gram, elements) in plan.grams.iter().enumerate() {
        (0..2).for_each(|blend| sizes.add(Which::MatrixGram(2 * gram + blend), numbers(*elements)));
    }
    sizes.add(Which::MatrixNorms, numbers(plan.norms));
    for (table, bytes) in tables(plan).into_iter().enumerate() {
        sizes.add(Which::MatrixTable(table), bytes.len() as u64);
    }
    sizes.add(Which::MatrixWorks, passes::bytes_of(&plan.works).len() as u64);
}

/// The tables of matrices, slots, tiles and copies.
fn tables(plan: &MatrixPlan) -> [&[u8]; 4] {
    [
        bytemuck::cast_slice(&plan.matrices),
        bytemuck::cast_slice(&plan.slots),
        bytemuck::cast_slice(&plan.tiles),
        bytemuck::cast_slice(&plan.copies),
    ]
}

/// The buffers that all matrices share.
struct Scratch {
    pages: Vec<wgpu::Buffer>,
    grams: Vec<wgpu::Buffer>,
    norms: wgpu::Buffer,
    works: wgpu::Buffer,
    tables: Vec<wgpu::Buffer>,
}

impl Scratch {
    fn new(plan: &MatrixPlan, buffers: &Buffers<'_>) -> Result<Self> {
        let pages = (0..2 * plan.pages.len()).map(|page| buffers.create(Which::MatrixPage(page), OWNED));
        let grams = (0..2 * plan.grams.len()).map(|gram| buffers.create(Which::MatrixGram(gram), OWNED));
        let tables = tables(plan).into_iter().enumerate();
        Ok(Self {
            pages: pages.collect::<Result<_>>()?,
            grams: grams.collect::<Result<_>>()?,
            norms: buffers.create(Which::MatrixNorms, OWNED)?,
            works: buffers.create_with(Which::MatrixWorks, UNIFORM, &passes::bytes_of(&plan.works))?,
            tables: tables
                .map(|(table, bytes)| buffers.create_with(Which::MatrixTable(table), TABLE, bytes))
                .collect::<Result<_>>()?,
        })
    }

    fn resource<'r>(&'r self, work: Work, name: &str, arenas: &[&'r Arena]) -> wgpu::BindingResource<'r> {
        let whole = |buffer: &'r wgpu::Buffer| buffer.as_entire_binding();
        match (name, work) {
            ("wo_work", _) => wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: &self.works,
                offset: 0,
                size: wgpu::BufferSize::new(WORK_BYTES),
            }),
            ("wo_matrices", _) => whole(&self.tables[0]),
            ("wo_slots", _) => whole(&self.tables[1]),
            ("wo_tiles", _) => whole(&self.tables[2]),
            ("wo_copies", _) => whole(&self.tables[3]),
            ("wo_norms", _) => whole(&self.norms),
            ("wo_arena", Work::Gather { shard, .. } | Work::Scatter { shard, .. }) => {
                arenas[shard].binding(0..arenas[shard].whole)
            }
            ("wo_page", Work::Gather { page: number, .. }) => whole(&self.pages[2 * number]),
            ("wo_page", Work::Scatter { page: number, parity, .. })
            | ("wo_left", Work::Gram { page: number, parity, .. } | Work::Product { page: number, parity, .. }) => {
                whole(&self.pages[2 * number + parity])
            }
            ("wo_out", Work::Product { page: number, parity, .. }) => whole(&self.pages[2 * number + 1 - parity]),
            ("wo_out", Work::Gram { gram: number, .. })
            | ("wo_left", Work::Norm { gram: number } | Work::Blend { from: number, .. })
            | ("wo_gram", Work::Blend { gram: number, .. }) => whole(&self.grams[2 * number]),
            ("wo_out", Work::Blend { gram: number, .. }) | ("wo_right", Work::Product { gram: number, .. }) => {
                whole(&self.grams[2 * number + 1])
            }
            (other, work) => unreachable!("no resource for {other} of {work:?}"),
        }
    }
}
