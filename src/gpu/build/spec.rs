//! The specification of an optimizer, which the builder collects: groups, tensors, row sets, and the handles that name them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::optim::procedure::probes;
use crate::optim::{Rule, Scalar};
use crate::options::around::{Around, evaluation_scalar};
use crate::options::schedule::{Scheduled, scalars_of};
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
    /// The index of the tensor in the order in which the builder got the tensors.
    #[must_use]
    pub const fn index(self) -> usize {
        self.index
    }
}

/// A row set: tensors that share the rows of their first dimension. The handle belongs to the builder that made it, and to every optimizer
/// that this builder builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowSet {
    pub(crate) index: usize,
    pub(crate) id: u64,
}

/// A number that no other handle of this process has. It tells the handles of two builders apart, even where one builder is a clone of the
/// other.
pub(crate) fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The specification from which the optimizers on the GPU and on the host are built. Both keep it.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) groups: Vec<GroupInfo>,
    pub(crate) tensors: Vec<TensorInfo>,
    pub(crate) rows: RowsInfo,
    pub(crate) around: Around,
    /// The storage of tensors that have none of their own.
    pub(crate) storage: Storage,
    pub(crate) seed: u64,
    /// The caller gives the directions of probes; the crate draws none.
    pub(crate) given_directions: bool,
    /// Each step names its gradients.
    pub(crate) dynamic_gradients: bool,
    /// Steps before the first probes are allowed, for rules that probe.
    pub(crate) undamped_steps: bool,
    /// This is a part, and its steps share norms and tests for finite numbers with the steps of other parts.
    pub(crate) exchanges: bool,
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
            undamped_steps: false,
            exchanges: false,
        }
    }

    /// Checks that a step without evaluations has the slopes from which the rule decides. `probed`: slopes were measured or given.
    ///
    /// # Errors
    /// The rule probes, and no probe came before.
    pub(crate) fn check_probed(&self, probed: bool) -> Result<()> {
        if probed || self.undamped_steps || probes(&self.rule().procedure()) == 0 {
            return Ok(());
        }
        Err(Error::Usage(format!(
            "{} has no slopes before the first probes, and this step would not be damped: call step_with first, or allow such steps \
             with Builder::undamped_steps(true)",
            self.rule().name()
        )))
    }

    /// Replaces a buffer of parameters.
    pub(crate) fn put_params(&mut self, from: &wgpu::Buffer, to: &wgpu::Buffer) {
        for tensor in &mut self.tensors {
            if let Home::Bound { param, .. } = &mut tensor.home
                && param.buffer == *from
            {
                param.buffer = to.clone();
            }
        }
    }

    /// Checks that calls may name tensors.
    ///
    /// # Errors
    /// The builder did not allow steps that leave out tensors.
    pub(crate) fn check_partial(&self) -> Result<()> {
        if self.around.partial {
            return Ok(());
        }
        let problem = "a call that names its tensors leaves out the others: tell the builder with partial_steps(true)";
        Err(Error::Usage(problem.to_owned()))
    }

    /// The rule of a part: of all its groups.
    pub(crate) fn rule(&self) -> &dyn Rule {
        self.groups[0].rule.as_ref()
    }

    /// The rule of a tensor.
    pub(crate) fn rule_of(&self, tensor: &TensorInfo) -> &dyn Rule {
        self.groups[tensor.group].rule.as_ref()
    }

    /// The index of a group.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub(crate) fn group(&self, group: Group) -> Result<usize> {
        let known = self.groups.get(group.index).is_some_and(|info| info.id == group.id);
        known.then_some(group.index).ok_or_else(|| foreign("group", "Optimizer::groups"))
    }

    /// The index of a tensor.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub(crate) fn tensor(&self, tensor: Tensor) -> Result<usize> {
        let known = self.tensors.get(tensor.index).is_some_and(|info| info.id == tensor.id);
        known.then_some(tensor.index).ok_or_else(|| foreign("tensor", "Optimizer::tensor"))
    }

    /// The index of a row set.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
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

    /// The handle of the group with this index.
    pub(crate) fn group_handle(&self, index: usize) -> Group {
        Group { index, id: self.groups[index].id }
    }

    /// The handle of the tensor with this index.
    pub(crate) fn tensor_handle(&self, index: usize) -> Tensor {
        Tensor { index, id: self.tensors[index].id }
    }

    /// The handle of the row set with this index.
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
    /// No row set has this name; the error suggests the nearest.
    pub(crate) fn row_set_named(&self, name: &str) -> Result<RowSet> {
        let sets = &self.rows.sets;
        let found = sets.iter().position(|set| set.name == name).map(|index| self.row_set_handle(index));
        found.ok_or_else(|| Error::unknown("row set", name, sets.iter().map(|set| set.name.as_str())))
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// No tensor has this name; the error suggests the nearest.
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

impl Slice {
    /// The whole of a buffer.
    pub(crate) fn whole(buffer: wgpu::Buffer) -> Self {
        Self { offset: 0, size: buffer.size(), buffer }
    }

    /// The range, to read or write.
    pub(crate) fn slice(&self) -> wgpu::BufferSlice<'_> {
        self.buffer.slice(self.offset..self.offset + self.size)
    }

    /// The range as a binding.
    pub(crate) fn binding(&self) -> wgpu::BindingResource<'_> {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &self.buffer,
            offset: self.offset,
            size: wgpu::BufferSize::new(self.size),
        })
    }
}

impl From<wgpu::BufferSlice<'_>> for Slice {
    fn from(slice: wgpu::BufferSlice<'_>) -> Self {
        Self { buffer: slice.buffer().clone(), offset: slice.offset(), size: slice.size() }
    }
}

/// The owner of the buffers of a tensor's parameters and gradients.
#[derive(Clone, Debug)]
pub(crate) enum Home {
    /// The crate.
    Own,
    /// The caller.
    Bound { param: Slice, grad: Option<Slice> },
}

/// A tensor of a specification.
#[derive(Clone, Debug)]
pub(crate) struct TensorInfo {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    /// The elements that the tensor has room for. With a row capacity, more than the elements of the shape.
    pub(crate) elements: u64,
    pub(crate) group: usize,
    pub(crate) home: Home,
    pub(crate) frozen: bool,
    /// The elements that the optimizer steps. `None`: all.
    pub(crate) own: Option<Range<u64>>,
    /// `None`: the storage of the specification.
    pub(crate) storage: Option<Storage>,
    /// The formats that follow from the storage, found when the optimizer is built.
    pub(crate) formats: Formats,
}

/// A group of a specification.
#[derive(Clone, Debug)]
pub(crate) struct GroupInfo {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) rule: Box<dyn Rule>,
    pub(crate) maximize: bool,
    pub(crate) scheduled: Vec<Scheduled>,
    /// The filters that send tensors to other groups.
    pub(crate) routes: Vec<(NoDecay, usize)>,
}

impl GroupInfo {
    pub(crate) fn new(name: String, rule: Box<dyn Rule>, id: u64) -> Self {
        Self { id, name, rule, maximize: false, scheduled: Vec::new(), routes: Vec::new() }
    }

    /// Whether both groups hold the same rule of this crate and differ in the learning rate alone. No rule of this crate computes the
    /// learning rate ahead, so that such a change, which is frequent, changes no row that the host wrote ahead.
    pub(crate) fn rate_alone_differs(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.rule.settings(), other.rule.settings());
        let same = ours.iter().zip(&theirs).all(|(a, b)| a.0 == "lr" || a == b);
        self.rule.origin().is_own() && same
    }

    /// The scalars of the group at the `t`-th step, with the scalars of the options around the rule.
    pub(crate) fn scalars(&self, around: Around, t: u64) -> Result<Vec<Scalar>> {
        let pick = |now: &dyn Rule| around.rule_scalars(now, t);
        let rule = scalars_of(self.rule.as_ref(), &self.scheduled, &self.name, t, pick)?;
        let mut scalars = around.scalars(rule, self.maximize, t);
        scalars.extend(evaluation_scalar(self.rule.as_ref()));
        Ok(scalars)
    }
}

/// The index of `buffer` in `buffers`; adds the buffer if it is new.
pub(crate) fn index_of<B: PartialEq>(buffers: &mut Vec<B>, buffer: B) -> usize {
    buffers.iter().position(|known| *known == buffer).unwrap_or_else(|| {
        buffers.push(buffer);
        buffers.len() - 1
    })
}

/// The row sets and the options of rows of a specification.
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
    /// Each element has a step count of its own, which begins anew with its row.
    pub(crate) fresh: bool,
}

/// The owner of the flags of a row set.
#[derive(Clone, Debug)]
pub(crate) enum Mask {
    None,
    /// The crate.
    Own,
    /// The caller.
    Bound(Slice),
    /// The crate, for several parts. The flags begin at this byte of their buffer.
    Joint(u64),
}
