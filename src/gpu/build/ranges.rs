//! Ranges: an optimizer that steps only a part of each tensor, because other optimizers or machines step the rest.

use std::ops::Range;

use crate::gpu::Optimizer;
use crate::gpu::build::builder::Builder;
use crate::gpu::build::spec::{Home, RowSet, Spec, Tensor, TensorInfo};
use crate::gpu::layout::rows::RowState;
use crate::gpu::layout::windows::Limits;
use crate::optim::procedure::refusal;
use crate::optim::procedure::spec::Feature;
use crate::options::around::Clip;
use crate::options::storage::Format;
use crate::{Error, Result};

/// How a tensor may be cut into ranges; see [`Builder::cuts`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The tensor.
    pub tensor: Tensor,
    /// The tensor's name.
    pub name: String,
    /// The count of elements for which the tensor has room.
    pub elements: u64,
    /// A range begins at a multiple of this many elements, and ends at a multiple or at the end of the tensor. A tensor that must stay whole
    /// has the count of its elements, at least 1.
    pub unit: u64,
    /// Whether the tensor must stay whole: one optimizer steps all of it, and the others have an empty range. So it is for tensors of row sets,
    /// and of rules that work on whole matrices, Muon and Adafactor.
    pub whole: bool,
    /// The format of parameters in the buffer that [`Optimizer::param`](crate::Optimizer::param) returns.
    pub params: Format,
    /// The format of gradients in the buffer that [`Optimizer::grad`](crate::Optimizer::grad) returns.
    pub grads: Format,
    /// The number of the tensor's rule. Tensors with the same number, in order, share [totals](Optimizer::totals_of).
    pub rule: usize,
    /// The row set of the tensor, if it is in one.
    pub rows: Option<RowSet>,
    /// Whether the tensor lies in the caller's buffers. Bytes between two tensors there belong to the caller.
    pub bound: bool,
    /// Whether the tensor is frozen. No optimizer steps it, and it has no range.
    pub frozen: bool,
}

impl Builder {
    /// Gives the optimizer a range of a tensor's elements. The optimizer steps this range, keeps states for this range and sums over it. Other
    /// optimizers, on other devices or machines, step the other elements. Parameters and gradients stay whole; states and
    /// [snapshots](crate::Optimizer::snapshot) hold the range. Default: the whole tensor. Where stochastic rounding draws, and where 8-bit blocks
    /// begin, does not depend on the ranges.
    ///
    /// The sums of such an optimizer are parts. [`Optimizer::record_sums`](crate::Optimizer::record_sums) records them, the caller adds
    /// those of all optimizers ([`Optimizer::totals`](crate::Optimizer::totals), or of each rule
    /// [`Optimizer::totals_of`](crate::Optimizer::totals_of)), and
    /// [`Optimizer::record_update`](crate::Optimizer::record_update) decides from them. The `total` of a custom rule must then be linear in
    /// the sums and in the count of elements, as it is in every rule of this crate.
    ///
    /// [`build`](Self::build) refuses a range that does not fit the tensor's [cut](Self::cuts), so that tensors of Muon and of Adafactor have a
    /// whole or an empty range. It refuses a rule that evaluates gradients inside a step, and a clip by the norm of groups or tensors, whose
    /// factors the first half of a step computes. [`build_cpu`](Self::build_cpu) refuses any range.
    pub fn own_range(&mut self, tensor: Tensor, range: Range<u64>) -> &mut Self {
        if let Some(index) = self.known(|spec| spec.tensor(tensor)) {
            self.spec.tensors[index].own = Some(range);
        }
        self
    }

    /// How each tensor may be cut into ranges ([`own_range`](Self::own_range)), in order.
    ///
    /// # Errors
    /// Those errors of [`build`](Self::build) that need no device.
    pub fn cuts(&self) -> Result<Vec<Cut>> {
        let spec = self.settled()?;
        let rows = RowState::new(&spec, Limits::of(&wgpu::Limits::default()))?;
        let rules = spec.rule_numbers();
        let cut = |(tensor, info): (Tensor, &TensorInfo)| Cut {
            tensor,
            name: info.name.clone(),
            elements: info.elements,
            unit: spec.unit(&rows, tensor.index),
            whole: spec.stays_whole(&rows, tensor.index),
            params: info.formats.params.format(),
            grads: info.formats.grads,
            rule: rules[tensor.index],
            rows: rows.set_of[tensor.index].map(|set| spec.row_set_handle(set)),
            bound: matches!(info.home, Home::Bound { .. }),
            frozen: info.frozen,
        };
        Ok(spec.tensor_handles().map(cut).collect())
    }
}

impl Optimizer {
    /// The range of a tensor's elements that this optimizer steps; see [`Builder::own_range`](crate::Builder::own_range).
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub fn own_range(&self, tensor: Tensor) -> Result<Range<u64>> {
        Ok(self.spec.tensor_info(tensor)?.range())
    }
}

impl TensorInfo {
    /// The elements that the optimizer steps, of those for which the tensor has room.
    pub(crate) fn range(&self) -> Range<u64> {
        self.own.clone().unwrap_or(0..self.elements)
    }

    /// The count of elements of each state: the rows in use, or the range.
    pub(crate) fn kept(&self) -> u64 {
        self.own.as_ref().map_or_else(|| self.used(), |range| range.end - range.start)
    }

    /// The shape of each state: the tensor's, or one dimension for a range.
    #[cfg(feature = "checkpoint")]
    pub(crate) fn kept_shape(&self) -> Vec<usize> {
        self.own.as_ref().map_or_else(|| self.shape.clone(), |_| vec![self.kept() as usize])
    }
}

impl Spec {
    /// Whether the optimizer steps only parts of its tensors.
    pub(crate) fn has_ranges(&self) -> bool {
        self.tensors.iter().any(|tensor| tensor.own.is_some())
    }

    /// Checks every range. A range of the whole tensor counts as no range.
    pub(crate) fn check_ranges(&mut self) -> Result<()> {
        for tensor in &mut self.tensors {
            if tensor.own == Some(0..tensor.elements) {
                tensor.own = None;
            }
        }
        if !self.has_ranges() {
            return Ok(());
        }
        self.check_halves()?;
        let rows = RowState::new(self, Limits::of(&wgpu::Limits::default()))?;
        for (index, tensor) in self.tensors.iter().enumerate() {
            let Some(range) = &tensor.own else { continue };
            if tensor.frozen {
                return Err(tensor.error("it is frozen and was given a range: a frozen tensor has none".to_owned()));
            }
            let (unit, elements) = (self.unit(&rows, index), tensor.elements);
            let fits = |edge: u64| edge.is_multiple_of(unit) || edge == elements;
            if range.start > range.end || range.end > elements || !fits(range.start) || !fits(range.end) {
                let reason =
                    self.refusal_of_ranges(index).map(|reason| format!(", because {reason}")).unwrap_or_default();
                return Err(tensor.error(format!(
                    "its range is {range:?}, needs a range of 0..{elements} whose ends are multiples of {unit} or {elements}{reason}: see \
                     Builder::cuts"
                )));
            }
        }
        Ok(())
    }

    /// The reason why the rule of a tensor steps no part of it.
    fn refusal_of_ranges(&self, tensor: usize) -> Option<String> {
        let rule = self.groups[self.tensors[tensor].group].rule.as_ref();
        refusal(&rule.procedure(), rule.name(), Feature::Ranges)
    }

    fn stays_whole(&self, rows: &RowState, tensor: usize) -> bool {
        rows.set_of[tensor].is_some() || self.refusal_of_ranges(tensor).is_some()
    }

    /// The unit of a tensor's cuts: a chunk, so that chunks, blocks and rows that share numbers stay whole, or the whole tensor.
    fn unit(&self, rows: &RowState, tensor: usize) -> u64 {
        let info = &self.tensors[tensor];
        if self.stays_whole(rows, tensor) { info.elements.max(1) } else { rows.chunk(tensor, info) }
    }

    /// Checks that the two halves of a step can work with parts of the sums.
    fn check_halves(&self) -> Result<()> {
        let clip = match self.around.clip {
            Some(Clip::GroupNorm(_)) => Some("a clip by the norm of groups needs whole groups".to_owned()),
            Some(Clip::TensorNorm(_)) => Some("a clip by the norm of tensors needs whole tensors".to_owned()),
            None | Some(Clip::GlobalNorm(_) | Clip::Value(_)) => None,
        };
        let rules = self.groups.iter().map(|group| group.rule.as_ref());
        let of_rule = rules.filter_map(|rule| refusal(&rule.procedure(), rule.name(), Feature::Shards)).next();
        let Some(problem) = of_rule.or(clip) else { return Ok(()) };
        Err(Error::Usage(format!(
            "{problem}, and tensors have ranges (Builder::own_range): give every optimizer all elements"
        )))
    }
}
