//! What the builder was told: groups, tensors, row sets, and the handles that name them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::optim::{Rule, Scalar};
use crate::options::around::{Around, evaluation_scalar};
use crate::options::schedule::{Scheduled, scalars_at};
use crate::options::storage::{Formats, Storage};
use crate::{Error, NoDecay, Result};

/// A parameter group: tensors with settings of their own. The handle belongs to the builder that made it, and to every optimizer that
/// this builder builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group {
    pub(crate) index: usize,
    pub(crate) id: u64,
}

impl Group {
    /// The group that [`Optimizer::builder`](crate::Optimizer::builder) makes, called "default". Every optimizer has it.
    pub const DEFAULT: Self = Self { index: 0, id: 0 };
}

/// A tensor. The handle belongs to the builder that made it, and to every optimizer that this builder builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tensor {
    pub(crate) index: usize,
    pub(crate) id: u64,
}

impl Tensor {
    /// The tensor's place in the order in which the tensors were given to the builder.
    #[must_use]
    pub const fn index(self) -> usize {
        self.index
    }
}

/// A row set: tensors whose first dimension is the same rows. The handle belongs to the builder that made it, and to every optimizer
/// that this builder builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowSet {
    pub(crate) index: usize,
    pub(crate) id: u64,
}

/// A number that no other handle of this process has: what tells the handles of two builders apart, also where one is a clone of the
/// other.
pub(crate) fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Everything that the optimizers on the GPU and on the host are both built from, and keep.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) groups: Vec<GroupInfo>,
    pub(crate) tensors: Vec<TensorInfo>,
    pub(crate) rows: RowsInfo,
    pub(crate) around: Around,
    /// Of tensors that have no storage of their own.
    pub(crate) storage: Storage,
    pub(crate) seed: u64,
    /// The directions of probes are given, and not drawn.
    pub(crate) given_directions: bool,
    /// Gradients are given with each step.
    pub(crate) dynamic_gradients: bool,
}

impl Spec {
    pub(crate) fn new(rule: Box<dyn Rule>) -> Self {
        Self {
            groups: vec![GroupInfo::new("default".to_owned(), rule, Group::DEFAULT.id)],
            tensors: Vec::new(),
            rows: RowsInfo::default(),
            around: Around::default(),
            storage: Storage::default(),
            seed: 0,
            given_directions: false,
            dynamic_gradients: false,
        }
    }

    /// The rule of all groups.
    pub(crate) fn rule(&self) -> &dyn Rule {
        self.groups[0].rule.as_ref()
    }

    /// A group's place.
    ///
    /// # Errors
    /// The handle is another optimizer's.
    pub(crate) fn group(&self, group: Group) -> Result<usize> {
        let known = self.groups.get(group.index).is_some_and(|info| info.id == group.id);
        known.then_some(group.index).ok_or_else(|| foreign("group", "Optimizer::groups"))
    }

    /// A tensor's place.
    ///
    /// # Errors
    /// The handle is another optimizer's.
    pub(crate) fn tensor(&self, tensor: Tensor) -> Result<usize> {
        let known = self.tensors.get(tensor.index).is_some_and(|info| info.id == tensor.id);
        known.then_some(tensor.index).ok_or_else(|| foreign("tensor", "Optimizer::tensor"))
    }

    /// A row set's place.
    ///
    /// # Errors
    /// The handle is another optimizer's.
    pub(crate) fn row_set(&self, set: RowSet) -> Result<usize> {
        let known = self.rows.sets.get(set.index).is_some_and(|info| info.id == set.id);
        known.then_some(set.index).ok_or_else(|| foreign("row set", "Optimizer::row_set"))
    }

    pub(crate) fn group_info(&self, group: Group) -> Result<&GroupInfo> {
        Ok(&self.groups[self.group(group)?])
    }

    pub(crate) fn tensor_info(&self, tensor: Tensor) -> Result<&TensorInfo> {
        Ok(&self.tensors[self.tensor(tensor)?])
    }

    /// The handle of the group at this place.
    pub(crate) fn group_handle(&self, index: usize) -> Group {
        Group { index, id: self.groups[index].id }
    }

    /// The handle of the tensor at this place.
    pub(crate) fn tensor_handle(&self, index: usize) -> Tensor {
        Tensor { index, id: self.tensors[index].id }
    }

    /// The handle of the row set at this place.
    pub(crate) fn row_set_handle(&self, index: usize) -> RowSet {
        RowSet { index, id: self.rows.sets[index].id }
    }

    /// The handles of all groups, in order.
    pub(crate) fn group_handles(&self) -> impl Iterator<Item = (Group, &GroupInfo)> {
        self.groups.iter().enumerate().map(|(index, info)| (Group { index, id: info.id }, info))
    }

    /// The handles of all tensors, in order.
    pub(crate) fn tensor_handles(&self) -> impl Iterator<Item = (Tensor, &TensorInfo)> {
        self.tensors.iter().enumerate().map(|(index, info)| (Tensor { index, id: info.id }, info))
    }

    /// The row set of this name.
    ///
    /// # Errors
    /// There is none; the error suggests the nearest.
    pub(crate) fn row_set_named(&self, name: &str) -> Result<RowSet> {
        let sets = &self.rows.sets;
        let found = sets.iter().position(|set| set.name == name).map(|index| self.row_set_handle(index));
        found.ok_or_else(|| Error::unknown("row set", name, sets.iter().map(|set| set.name.as_str())))
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// There is none; the error suggests the nearest.
    pub(crate) fn tensor_named(&self, name: &str) -> Result<Tensor> {
        let found = self.tensors.iter().position(|info| info.name == name);
        let unknown = || Error::unknown("tensor", name, self.tensors.iter().map(|info| info.name.as_str()));
        found.map(|index| self.tensor_handle(index)).ok_or_else(unknown)
    }
}

fn foreign(kind: &str, lookup: &str) -> Error {
    Error::Usage(format!(
        "the handle of a {kind} belongs to another optimizer: use one that this optimizer's builder returned, or {lookup}"
    ))
}

/// A range of bytes of a buffer, as the caller gives it.
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
    pub(crate) id: u64,
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
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) rule: Box<dyn Rule>,
    pub(crate) maximize: bool,
    pub(crate) scheduled: Vec<Scheduled>,
    /// Tensors that another group takes over.
    pub(crate) routes: Vec<(NoDecay, usize)>,
}

impl GroupInfo {
    pub(crate) fn new(name: String, rule: Box<dyn Rule>, id: u64) -> Self {
        Self { id, name, rule, maximize: false, scheduled: Vec::new(), routes: Vec::new() }
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
pub(crate) fn index_of<B: PartialEq>(buffers: &mut Vec<B>, buffer: B) -> usize {
    buffers.iter().position(|known| *known == buffer).unwrap_or_else(|| {
        buffers.push(buffer);
        buffers.len() - 1
    })
}

/// What the builder was told of rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowsInfo {
    pub(crate) sets: Vec<RowSetInfo>,
    pub(crate) columns: BTreeMap<usize, Vec<f64>>,
    pub(crate) shared: BTreeSet<usize>,
}

#[derive(Clone, Debug)]
pub(crate) struct RowSetInfo {
    pub(crate) id: u64,
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
