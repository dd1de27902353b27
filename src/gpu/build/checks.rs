//! Checks of a specification, before anything is created.

use std::collections::{BTreeMap, HashSet};

use crate::gpu::build::spec::{GroupInfo, Home, Slice, Spec, TensorInfo, index_of};
use crate::gpu::layout::units::{VEC4, bytes_of};
use crate::optim::Rule;
use crate::optim::procedure::evaluates;
use crate::optim::procedure::spec::Feature;
use crate::optim::rule::{check_common, need, need_own_counts};
use crate::options::storage::Format;
use crate::{Error, NoDecay, Result};

impl Spec {
    /// Applies row capacities, finds the formats of every tensor, and checks everything. The ranges come last: their check needs valid row sets.
    pub(crate) fn settle(&mut self) -> Result<()> {
        self.make_room();
        self.find_formats()?;
        self.check()?;
        self.check_ranges()
    }

    /// Finds the formats of every tensor.
    fn find_formats(&mut self) -> Result<()> {
        for tensor in &mut self.tensors {
            let storage = tensor.storage.as_ref().unwrap_or(&self.storage);
            tensor.formats = storage.formats(self.groups[tensor.group].rule.as_ref(), tensor.elements)?;
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let mut names = HashSet::new();
        for group in &self.groups {
            if !names.insert(&group.name) {
                return Err(Error::Duplicate { kind: "group", name: group.name.clone() });
            }
            group.rule.check()?;
            group.scheduled.iter().try_for_each(|s| s.check(group.rule.as_ref(), &group.name))?;
        }
        self.around.check()?;
        for groups in self.groups_by_rule() {
            if self.around.partial {
                need_own_counts(self.groups[groups[0]].rule.as_ref(), "partial_steps")?;
            }
            check_common(groups.iter().map(|&g| (self.groups[g].name.as_str(), self.groups[g].rule.as_ref())))?;
            self.check_procedure(self.groups[groups[0]].rule.as_ref())?;
        }
        self.check_evaluations()?;
        if self.tensors.is_empty() {
            return Err(Error::Usage("the builder has no tensor: add one with tensor, tensors or bind".to_owned()));
        }
        names.clear();
        for tensor in &self.tensors {
            if !names.insert(&tensor.name) {
                return Err(Error::Duplicate { kind: "tensor", name: tensor.name.clone() });
            }
            tensor.check()?;
            self.check_shape(tensor)?;
        }
        self.check_routes()?;
        self.check_rows()?;
        self.check_overlaps()
    }

    /// Checks that the rule of a tensor can step its shape.
    fn check_shape(&self, tensor: &TensorInfo) -> Result<()> {
        let rule = self.groups[tensor.group].rule.as_ref();
        let procedure = rule.procedure().filter(|_| !tensor.frozen);
        let refused = procedure.and_then(|procedure| procedure.refuses_shape(rule.name(), &tensor.shape));
        refused.map_or(Ok(()), |problem| Err(tensor.error(problem)))
    }

    /// Checks that a rule's procedure goes with the options around the rule.
    fn check_procedure(&self, rule: &dyn Rule) -> Result<()> {
        let around = &self.around;
        let features = [
            (Feature::Telemetry, around.telemetry),
            (Feature::ClipByNorm, around.clips_norm()),
            (Feature::LossScale, around.loss_scale.is_some()),
            (Feature::Accumulate, around.accumulate.is_some()),
        ];
        features.into_iter().filter(|(_, on)| *on).try_for_each(|(feature, _)| need(rule, feature))
    }

    /// Checks that at most one rule evaluates the objective inside the step: each would move the parameters between the evaluations of the
    /// other.
    fn check_evaluations(&self) -> Result<()> {
        let rules = self.groups_by_rule().into_iter().map(|groups| &self.groups[groups[0]]);
        let evaluating: Vec<&GroupInfo> = rules.filter(|group| evaluates(&group.rule.procedure())).collect();
        let [first, second, ..] = evaluating.as_slice() else { return Ok(()) };
        Err(Error::Usage(format!(
            "group `{}` holds {}, group `{}` {}{}: both evaluate the objective inside the step, and one would move the parameters between \
             the evaluations of the other: use a second optimizer for one of them",
            first.name,
            first.rule.name(),
            second.name,
            if first.rule.name() == second.rule.name() { "another " } else { "" },
            second.rule.name()
        )))
    }

    /// Checks that every pattern of names fits a tensor. A pattern that fits none is most likely misspelt: weight decay would then act on
    /// tensors that the caller meant to exclude, and no message would say so.
    fn check_routes(&self) -> Result<()> {
        for (index, group) in self.groups.iter().enumerate() {
            for (which, _) in &group.routes {
                let NoDecay::Names(pattern) = which else { continue };
                let of_group = |tensor: &&TensorInfo| tensor.group == index || self.routes_to(index, tensor.group);
                if self.tensors.iter().filter(of_group).any(|tensor| which.picks(&tensor.name, &tensor.shape)) {
                    continue;
                }
                return Err(Error::Usage(format!(
                    "no tensor of group `{}` fits the pattern `{pattern}` of exclude_from_decay: a pattern is compared with whole \
                     names, and `*` stands for any characters",
                    group.name
                )));
            }
        }
        Ok(())
    }

    /// Whether tensors that the caller gave to the group `from` may be in the group `to`. The search ends, because routes lead only to groups
    /// that were added later.
    fn routes_to(&self, from: usize, to: usize) -> bool {
        self.groups[from].routes.iter().any(|(_, undecayed)| *undecayed == to || self.routes_to(*undecayed, to))
    }

    /// Checks that the ranges of one buffer, rounded up to 16 bytes, do not overlap.
    fn check_overlaps(&self) -> Result<()> {
        let mut buffers: Vec<&wgpu::Buffer> = Vec::new();
        let mut ranges: BTreeMap<(usize, u64), (u64, &str, &str)> = BTreeMap::new();
        for tensor in &self.tensors {
            // An empty tensor has no bytes, so its range overlaps nothing.
            let Home::Bound { param, grad } = &tensor.home else { continue };
            if tensor.elements == 0 {
                continue;
            }
            for (what, slice) in [("parameters", Some(param)), ("gradients", grad.as_ref())] {
                let Some(slice) = slice else { continue };
                let buffer = index_of(&mut buffers, &slice.buffer);
                let end = slice.offset + slice.size.next_multiple_of(VEC4);
                if let Some((other_end, other, other_what)) =
                    ranges.insert((buffer, slice.offset), (end, &tensor.name, what))
                {
                    return Err(overlap(tensor, what, slice.offset..end, other, other_what, slice.offset..other_end));
                }
                let before = ranges.range(..(buffer, slice.offset)).next_back();
                let after = ranges.range((buffer, slice.offset + 1)..).next();
                for (&(b, start), &(other_end, other, other_what)) in before.into_iter().chain(after) {
                    if b == buffer && start < end && slice.offset < other_end {
                        return Err(overlap(tensor, what, slice.offset..end, other, other_what, start..other_end));
                    }
                }
            }
        }
        Ok(())
    }
}

fn overlap(
    tensor: &TensorInfo,
    what: &str,
    range: std::ops::Range<u64>,
    other: &str,
    other_what: &str,
    other_range: std::ops::Range<u64>,
) -> Error {
    tensor.error(format!(
        "its {what} at bytes {range:?}, rounded up to 16, overlap the {other_what} of `{other}` at bytes {other_range:?} of \
         the same buffer"
    ))
}

impl TensorInfo {
    pub(crate) fn error(&self, problem: String) -> Error {
        Error::Tensor { tensor: self.name.clone(), problem }
    }

    fn check(&self) -> Result<()> {
        // The kernels count elements and the elements of a row in u32, and round up to whole vec4s.
        const MOST: u64 = u32::MAX as u64 - 3;
        if self.elements > MOST {
            return Err(self.error(format!("shape {:?} has more than {MOST} elements", self.shape)));
        }
        if self.width() as u64 > MOST {
            return Err(self.error(format!("shape {:?} has rows of more than {MOST} elements", self.shape)));
        }
        if let Home::Bound { param, grad } = &self.home {
            self.check_slice("parameters", param, self.formats.params.format())?;
            if let Some(grad) = grad {
                self.check_slice("gradients", grad, self.formats.grads)?;
                self.check_widths(param, grad)?;
            }
        }
        Ok(())
    }

    /// Checks the widths of numbers in a buffer that holds parameters and gradients: the buffer is bound once, as one type.
    fn check_widths(&self, param: &Slice, grad: &Slice) -> Result<()> {
        let (params, grads) = (self.formats.params.format(), self.formats.grads);
        if param.buffer != grad.buffer || params.bytes() == grads.bytes() {
            return Ok(());
        }
        Err(self.error("its parameters and gradients have numbers of different widths and need two buffers".to_owned()))
    }

    /// Checks a range that the caller gave, against the shape and the buffer.
    pub(crate) fn check_slice(&self, what: &str, slice: &Slice, format: Format) -> Result<()> {
        let bytes = bytes_of(self.elements, format);
        let end = slice.offset + bytes.next_multiple_of(VEC4);
        let problem = if self.elements == 0 {
            return Ok(());
        } else if slice.size != bytes {
            format!("its {what} have {} bytes, shape {:?} needs {bytes}{}", slice.size, self.shape, self.room())
        } else if !slice.offset.is_multiple_of(VEC4) {
            format!("its {what} begin at byte {}, needs a multiple of 16", slice.offset)
        } else if end > slice.buffer.size() {
            format!(
                "its {what}, rounded up to 16 bytes, end at byte {end}, the buffer has {}: make the buffer {} bytes longer",
                slice.buffer.size(),
                end - slice.buffer.size()
            )
        } else if !slice.buffer.usage().contains(wgpu::BufferUsages::STORAGE) {
            format!("the buffer of its {what} has usage {:?}, needs STORAGE", slice.buffer.usage())
        } else {
            return Ok(());
        };
        Err(self.error(problem))
    }
}
