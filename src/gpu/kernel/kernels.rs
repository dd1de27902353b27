//! What a dispatch binds: pipelines with their bind groups, tables and arenas.

use std::sync::Arc;
use crate::options::around::{Around, Clip};
use crate::optim::procedure::evaluation::Evaluations;
use crate::gpu::layout::memory::Memory;
use crate::optim::rule::{check_common, goes_on};
use crate::optim::{Procedure, Rule, Value};
use crate::options::schedule::{Schedule, refuse_owned};
use crate::{Error, Result};
use crate::gpu::build::builder::{GroupInfo, Slice, TensorInfo};
use crate::gpu::layout::launches::Layout;
use crate::gpu::kernel::pipelines::Pipeline;
use crate::gpu::build::places::Places;
use crate::gpu::record::rows::Remap;
use crate::gpu::layout::rows::RowState;
use crate::gpu::layout::runs::Runs;
use crate::gpu::hyper::scalars::{Scalars, Slot};

/// A launch with what it binds.
#[derive(Debug)]
pub(crate) struct LaunchGpu {
    pub(crate) update: Pass,
    /// One a round, where it has sums.
    pub(crate) stats: Vec<Option<Pass>>,
    pub(crate) procedure: Option<Pass>,
    pub(crate) accumulate: Option<wgpu::ComputePipeline>,
    pub(crate) swap: Option<wgpu::ComputePipeline>,
    /// To where the rule is evaluated, and back.
    pub(crate) evaluation: Option<[wgpu::ComputePipeline; 2]>,
    pub(crate) arena: Arena,
}

/// A launch's arena, which is bound as two: f32 and packed numbers.
#[derive(Debug)]
pub(crate) struct Arena {
    pub(crate) buffer: wgpu::Buffer,
    /// Bytes of the f32.
    pub(crate) whole: u64,
    /// Where the packed ones begin.
    pub(crate) packed: u64,
}

impl Arena {
    pub(crate) fn binding(&self, range: std::ops::Range<u64>) -> wgpu::BindingResource<'_> {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &self.buffer,
            offset: range.start,
            size: wgpu::BufferSize::new(range.end - range.start),
        })
    }
}

/// A dispatch of a whole table of records.
#[derive(Debug)]
pub(crate) struct Pass {
    pub(crate) pipeline: Arc<Pipeline>,
    /// `None` where gradients move: then it is made for each run.
    pub(crate) group: Option<wgpu::BindGroup>,
    pub(crate) table: wgpu::Buffer,
    pub(crate) grid: (u32, u32),
    /// The round of sums that it belongs to.
    pub(crate) round: usize,
}

/// What a round of sums has beyond its launches.
#[derive(Debug)]
pub(crate) struct RoundGpu {
    pub(crate) finalize: wgpu::ComputePipeline,
    pub(crate) reduce: wgpu::ComputePipeline,
    pub(crate) conclude: wgpu::ComputePipeline,
    pub(crate) group: wgpu::BindGroup,
    pub(crate) partials: wgpu::Buffer,
    pub(crate) totals: wgpu::Buffer,
}
