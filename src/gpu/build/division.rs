//! The division of a specification into parts, one per rule. The handles of the caller number the groups, tensors and row sets of the whole
//! optimizer; each part numbers its own.

use std::collections::BTreeMap;

use crate::Result;
use crate::gpu::build::spec::{Group, GroupInfo, Mask, RowSet, RowSetInfo, RowsInfo, Spec, Tensor, TensorInfo};
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

    /// The share of each of `parts` parts, from one item for each tensor of the whole.
    pub(crate) fn shares<T>(&self, parts: usize, of_tensors: impl IntoIterator<Item = T>) -> Vec<Vec<T>> {
        let mut shares: Vec<Vec<T>> = (0..parts).map(|_| Vec::new()).collect();
        of_tensors.into_iter().zip(&self.tensors).for_each(|(item, place)| shares[place.part].push(item));
        shares
    }

    /// The items of the whole, from the share of each part.
    pub(crate) fn joined<T>(&self, shares: Vec<Vec<T>>) -> Vec<T> {
        let mut shares: Vec<_> = shares.into_iter().map(Vec::into_iter).collect();
        self.tensors.iter().filter_map(|place| shares[place.part].next()).collect()
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
        let (joint, is_joint) = (self.joint_masks(&rules), rules.len() > 1);
        let mut directory = Directory {
            groups: vec![None; self.groups.len()],
            tensors: vec![InPart { part: 0, index: 0 }; self.tensors.len()],
            sets: vec![Vec::new(); self.rows.sets.len()],
            set_of: vec![None; self.tensors.len()],
        };
        for (index, set) in self.rows.sets.iter().enumerate() {
            set.tensors.iter().for_each(|&tensor| directory.set_of[tensor] = Some(index));
        }
        let mut parts = Vec::with_capacity(rules.len());
        for (part, groups) in rules.into_iter().enumerate() {
            let own = self.members(groups);
            let places =
                |of: &[usize]| of.iter().copied().zip((0..).map(|index| InPart { part, index })).collect::<Vec<_>>();
            places(&own.groups).into_iter().for_each(|(group, place)| directory.groups[group] = Some(place));
            places(&own.tensors).into_iter().for_each(|(tensor, place)| directory.tensors[tensor] = place);
            places(&own.sets).into_iter().for_each(|(set, place)| directory.sets[set].push(place));
            let exchanges = is_joint && self.around.exchanges();
            let is_whole = own.groups.len() == self.groups.len();
            parts.push(if is_whole { self.clone() } else { Self { exchanges, ..own.spec(self, &joint) } });
        }
        (parts, directory)
    }

    /// The groups of each rule.
    pub(crate) fn groups_by_rule(&self) -> Vec<Vec<usize>> {
        let same = |a: usize, b: usize| same_rule(self.groups[a].rule.as_ref(), self.groups[b].rule.as_ref());
        let mut rules: Vec<Vec<usize>> = Vec::new();
        for group in 0..self.groups.len() {
            match rules.iter_mut().find(|groups| same(groups[0], group)) {
                Some(groups) => groups.push(group),
                None => rules.push(vec![group]),
            }
        }
        rules
    }

    /// The number of each tensor's rule, in the order of the parts.
    pub(crate) fn rule_numbers(&self) -> Vec<usize> {
        let mut of_group = vec![0; self.groups.len()];
        for (number, groups) in self.rules_with_tensors().iter().enumerate() {
            groups.iter().for_each(|&group| of_group[group] = number);
        }
        self.tensors.iter().map(|tensor| of_group[tensor.group]).collect()
    }

    /// The groups of each rule that some tensor has.
    fn rules_with_tensors(&self) -> Vec<Vec<usize>> {
        let mut with_tensors = vec![false; self.groups.len()];
        self.tensors.iter().for_each(|tensor| with_tensors[tensor.group] = true);
        let mut rules = self.groups_by_rule();
        rules.retain(|groups| groups.iter().any(|&group| with_tensors[group]));
        rules
    }

    /// The row sets with a mask of the crate and tensors of several rules. The parts share one buffer of masks; returned is the byte of it
    /// where the flags of each set begin.
    fn joint_masks(&self, rules: &[Vec<usize>]) -> BTreeMap<usize, u64> {
        let mut end = 0;
        let mut joint = BTreeMap::new();
        for (index, set) in self.rows.sets.iter().enumerate().filter(|(_, set)| matches!(set.mask, Mask::Own)) {
            let has = |groups: &&Vec<usize>| set.tensors.iter().any(|&t| groups.contains(&self.tensors[t].group));
            if rules.iter().filter(has).count() > 1 {
                joint.insert(index, end);
                end += self.capacity(set) as u64 * 4;
            }
        }
        joint
    }

    /// The members of the part with these groups.
    fn members(&self, groups: Vec<usize>) -> Members {
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
    fn spec(&self, whole: &Spec, joint: &BTreeMap<usize, u64>) -> Spec {
        let group = |&group: &usize| GroupInfo { routes: Vec::new(), ..whole.groups[group].clone() };
        let groups: Vec<GroupInfo> = self.groups.iter().map(group).collect();
        let index_of = |of: &[usize]| -> BTreeMap<usize, usize> { of.iter().copied().zip(0..).collect() };
        let (group_of, tensor_of) = (index_of(&self.groups), index_of(&self.tensors));
        let own = |tensor: &usize| tensor_of.get(tensor).copied();
        let tensor = |&tensor: &usize| {
            let info = &whole.tensors[tensor];
            TensorInfo { group: group_of[&info.group], ..info.clone() }
        };
        let set = |&set: &usize| {
            let info = &whole.rows.sets[set];
            let mask = joint.get(&set).map_or_else(|| info.mask.clone(), |&offset| Mask::Joint(offset));
            RowSetInfo { tensors: info.tensors.iter().filter_map(own).collect(), mask, ..info.clone() }
        };
        let columns = whole.rows.columns.iter();
        let rows = RowsInfo {
            sets: self.sets.iter().map(set).collect(),
            columns: columns.filter_map(|(tensor, rates)| Some((own(tensor)?, rates.clone()))).collect(),
            shared: whole.rows.shared.iter().filter_map(own).collect(),
        };
        let around = Around {
            signed: groups.iter().any(|group| group.maximize),
            scheduled: groups.iter().any(|group| !group.scheduled.is_empty()),
            own_counts: whole.around.partial || rows.sets.iter().any(|set| set.fresh),
            ..whole.around
        };
        let tensors = self.tensors.iter().map(tensor).collect();
        Spec { groups, tensors, rows, around, storage: whole.storage.clone(), ..*whole }
    }
}
