//! The division of a specification into parts, one per rule. The handles of the caller number the groups, tensors and row sets of the whole
//! optimizer; each part numbers its own.

use std::collections::BTreeMap;

use crate::Result;
use crate::gpu::build::spec::{Group, GroupInfo, RowSet, RowSetInfo, RowsInfo, Spec, Tensor, TensorInfo};
use crate::optim::rule::same_rule;
use crate::options::around::Around;

/// A group, tensor or row set of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InPart {
    pub(crate) part: usize,
    /// The index in the part.
    pub(crate) index: usize,
}

/// Where the groups, tensors and row sets of the whole lie in the parts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Directory {
    /// `None`: no tensor has the rule of the group.
    groups: Vec<Option<InPart>>,
    tensors: Vec<InPart>,
    /// A row set lies in every part with tensors of it.
    sets: Vec<Vec<InPart>>,
    /// The row set of each tensor, in the whole.
    set_of: Vec<Option<usize>>,
}

impl Directory {
    /// The place of a group; `None` if no tensor has its rule.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub(crate) fn group(&self, spec: &Spec, group: Group) -> Result<Option<InPart>> {
        Ok(self.groups[spec.group(group)?])
    }

    /// The place of a tensor.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub(crate) fn tensor(&self, spec: &Spec, tensor: Tensor) -> Result<InPart> {
        Ok(self.tensors[spec.tensor(tensor)?])
    }

    /// The places of all tensors, in the order of the whole.
    pub(crate) fn tensors(&self) -> &[InPart] {
        &self.tensors
    }

    /// The row set of a tensor, both in the whole.
    #[cfg(feature = "checkpoint")]
    pub(crate) fn set_of(&self, tensor: usize) -> Option<usize> {
        self.set_of[tensor]
    }

    /// The places of a row set.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub(crate) fn set(&self, spec: &Spec, set: RowSet) -> Result<&[InPart]> {
        Ok(&self.sets[spec.row_set(set)?])
    }
}

impl Spec {
    /// Divides a settled specification into parts, each with the groups and tensors of one rule, in the order of the groups.
    pub(crate) fn divide(&self) -> (Vec<Self>, Directory) {
        let rules = self.rules_with_tensors();
        let (mut parts, mut directory) = (Vec::with_capacity(rules.len()), Directory::default());
        directory.groups = self.groups.iter().map(|_| None).collect();
        directory.sets = self.rows.sets.iter().map(|_| Vec::new()).collect();
        let mut tensors: Vec<Option<InPart>> = vec![None; self.tensors.len()];
        for (part, &first) in rules.iter().enumerate() {
            let own = self.part_of(first);
            for (index, &group) in own.groups.iter().enumerate() {
                directory.groups[group] = Some(InPart { part, index });
            }
            for (index, &tensor) in own.tensors.iter().enumerate() {
                tensors[tensor] = Some(InPart { part, index });
            }
            for (index, &set) in own.sets.iter().enumerate() {
                directory.sets[set].push(InPart { part, index });
            }
            parts.push(if rules.len() == 1 && own.groups.len() == self.groups.len() {
                self.clone()
            } else {
                own.spec(self)
            });
        }
        directory.tensors = tensors.into_iter().flatten().collect();
        directory.set_of = vec![None; self.tensors.len()];
        for (index, set) in self.rows.sets.iter().enumerate() {
            set.tensors.iter().for_each(|&tensor| directory.set_of[tensor] = Some(index));
        }
        (parts, directory)
    }

    /// The first group of each rule that some tensor has.
    fn rules_with_tensors(&self) -> Vec<usize> {
        let mut with_tensors = vec![false; self.groups.len()];
        self.tensors.iter().for_each(|tensor| with_tensors[tensor.group] = true);
        let mut firsts: Vec<usize> = Vec::new();
        for group in (0..self.groups.len()).filter(|&group| with_tensors[group]) {
            if !firsts.iter().any(|&first| self.same_rule(first, group)) {
                firsts.push(group);
            }
        }
        firsts
    }

    /// Whether two groups hold the same rule.
    fn same_rule(&self, a: usize, b: usize) -> bool {
        same_rule(self.groups[a].rule.as_ref(), self.groups[b].rule.as_ref())
    }

    /// The members of the part with the rule of this group.
    fn part_of(&self, first: usize) -> Members {
        let groups: Vec<usize> = (0..self.groups.len()).filter(|&group| self.same_rule(first, group)).collect();
        let is_own = |tensor: &usize| groups.contains(&self.tensors[*tensor].group);
        let tensors: Vec<usize> = (0..self.tensors.len()).filter(is_own).collect();
        let has_own = |set: &usize| self.rows.sets[*set].tensors.iter().any(is_own);
        let sets = (0..self.rows.sets.len()).filter(has_own).collect();
        Members { groups, tensors, sets }
    }
}

/// The groups, tensors and row sets of a part, by their indices in the whole.
struct Members {
    groups: Vec<usize>,
    tensors: Vec<usize>,
    sets: Vec<usize>,
}

impl Members {
    /// The specification of the part.
    fn spec(&self, whole: &Spec) -> Spec {
        let group = |&group: &usize| GroupInfo { routes: Vec::new(), ..whole.groups[group].clone() };
        let groups: Vec<GroupInfo> = self.groups.iter().map(group).collect();
        let index_of =
            |of: &[usize]| -> BTreeMap<usize, usize> { of.iter().enumerate().map(|(i, &of)| (of, i)).collect() };
        let (group_of, tensor_of) = (index_of(&self.groups), index_of(&self.tensors));
        let tensor = |&tensor: &usize| {
            let info = &whole.tensors[tensor];
            TensorInfo { group: group_of[&info.group], ..info.clone() }
        };
        let set = |&set: &usize| {
            let info = &whole.rows.sets[set];
            RowSetInfo {
                tensors: info.tensors.iter().filter_map(|t| tensor_of.get(t).copied()).collect(),
                ..info.clone()
            }
        };
        let columns = whole.rows.columns.iter();
        let rows = RowsInfo {
            sets: self.sets.iter().map(set).collect(),
            columns: columns.filter_map(|(t, rates)| Some((*tensor_of.get(t)?, rates.clone()))).collect(),
            shared: whole.rows.shared.iter().filter_map(|t| tensor_of.get(t).copied()).collect(),
        };
        let around = Around {
            signed: groups.iter().any(|group| group.maximize),
            scheduled: groups.iter().any(|group| !group.scheduled.is_empty()),
            ..whole.around
        };
        let tensors = self.tensors.iter().map(tensor).collect();
        Spec { groups, tensors, rows, around, storage: whole.storage.clone(), ..*whole }
    }
}
