//! What the builder was told: groups, tensors, row sets, and the handles that name them.

use std::collections::{BTreeMap, BTreeSet};

use crate::optim::{Rule, Scalar};
use crate::options::around::{Around, evaluation_scalar};
use crate::options::schedule::{Scheduled, scalars_at};
use crate::options::storage::{Formats, Storage};
use crate::{NoDecay, Result};

/// A parameter group of one [`Optimizer`]: tensors with settings of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group(pub(crate) usize);

impl Group {
    /// The group that [`Optimizer::builder`] makes, called "default".
    pub const DEFAULT: Self = Self(0);
}

/// A tensor of one [`Optimizer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tensor(pub(crate) usize);

impl Tensor {
    /// Its place in the order in which the tensors were given to the builder.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0
    }
}

/// A range of bytes of somebody's buffer.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    pub(crate) buffer: wgpu::Buffer,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

impl From<wgpu::BufferSlice<'_>> for Slice {
    fn from(slice: wgpu::BufferSlice<'_>) -> Self {
        Self { buffer: slice.buffer().clone(), offset: slice.offset(), size: slice.size() }
    }
}

impl Slice {
    pub(crate) fn slice(&self) -> wgpu::BufferSlice<'_> {
        self.buffer.slice(self.offset..self.offset + self.size)
    }
}

/// Where a tensor's numbers are to lie.
#[derive(Clone, Debug)]
pub(crate) enum Home {
    /// In the crate's buffers.
    Own,
    /// In the caller's.
    Bound { param: Slice, grad: Option<Slice> },
}

/// A tensor as the builder was told of it.
#[derive(Clone, Debug)]
pub(crate) struct TensorInfo {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    /// Those that there is room for: of a reserved row set more than the shape's.
    pub(crate) elements: u64,
    pub(crate) group: usize,
    pub(crate) home: Home,
    pub(crate) frozen: bool,
    /// `None`: as the builder says for all.
    pub(crate) storage: Option<Storage>,
    /// What the storage comes to, found when the optimizer is built.
    pub(crate) formats: Formats,
}

/// A group as the builder was told of it.
#[derive(Clone, Debug)]
pub(crate) struct GroupInfo {
    pub(crate) name: String,
    pub(crate) rule: Box<dyn Rule>,
    pub(crate) maximize: bool,
    pub(crate) scheduled: Vec<Scheduled>,
    /// Tensors that another group takes over.
    pub(crate) routes: Vec<(NoDecay, usize)>,
}

impl GroupInfo {
    pub(crate) fn new(name: String, rule: Box<dyn Rule>) -> Self {
        Self { name, rule, maximize: false, scheduled: Vec::new(), routes: Vec::new() }
    }

    /// The group's scalars at the `t`-th applied step, those of what stands around the rule included.
    pub(crate) fn scalars(&self, around: Around, t: u64) -> Result<Vec<Scalar>> {
        let rule = scalars_at(self.rule.as_ref(), &self.scheduled, &self.name, t)?;
        let mut scalars = around.scalars(rule, self.maximize, t);
        scalars.extend(evaluation_scalar(self.rule.as_ref()));
        Ok(scalars)
    }
}

/// The place of `buffer` in `buffers`, added where it is new.
pub(crate) fn index_of<'a, B: PartialEq>(buffers: &mut Vec<&'a B>, buffer: &'a B) -> usize {
    buffers.iter().position(|b| *b == buffer).unwrap_or_else(|| {
        buffers.push(buffer);
        buffers.len() - 1
    })
}

/// A row set of one [`Optimizer`](crate::Optimizer): tensors whose first dimension is the same rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowSet(pub(crate) usize);

/// What the builder was told of rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowsInfo {
    pub(crate) sets: Vec<RowSetInfo>,
    pub(crate) columns: BTreeMap<usize, Vec<f64>>,
    pub(crate) shared: BTreeSet<usize>,
}

#[derive(Clone, Debug)]
pub(crate) struct RowSetInfo {
    pub(crate) name: String,
    pub(crate) tensors: Vec<usize>,
    pub(crate) reserved: Option<usize>,
    pub(crate) mask: Mask,
    pub(crate) nonzero: bool,
}

/// Where the flags of a set's rows lie.
#[derive(Clone, Debug)]
pub(crate) enum Mask {
    None,
    /// In the crate's buffer.
    Own,
    /// In the caller's.
    Bound(Slice),
}
