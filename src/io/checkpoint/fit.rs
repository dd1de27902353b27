//! Restoring a checkpoint into an optimizer, and the differences that prevent it.

use std::collections::{HashMap, HashSet};

use crate::gpu::access::snapshot::Arrays;
use crate::gpu::build::division::InPart;
use crate::gpu::build::spec::{GroupInfo, Spec, TensorInfo};
use crate::gpu::layout::arena::PARAM;
use crate::gpu::layout::units::{ROW_STEPS, STEPS, WAITING, keeps_precision};
use crate::io::checkpoint::{Checkpoint, SavedPart, Settings};
use crate::io::tensor_file::quote;
use crate::optim::procedure::factors;
use crate::optim::{Rule, Value};
use crate::options::around::Mode;
use crate::options::storage::{Layout, Packed};
use crate::{Error, Group, Optimizer, Result, RowSet};

/// How strictly a checkpoint must fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fit {
    /// The same optimizer, tensors, shapes and states, each stored in the same form. The optimizer keeps its own rounding into the form, to
    /// nearest or stochastic. Default.
    #[default]
    Whole,
    /// As `Whole`, but arrays in another form are converted and rounded to nearest: f32 into split bf16 and back without loss, eight bits into
    /// f32. Parameters are converted from their full precision, as [`Checkpoint::params`] returns them.
    Converted,
    /// The tensors and states that both sides have, converted where their forms differ. The optimizer keeps its counters and settings.
    Partial,
}

impl Checkpoint {
    /// Restores everything into an optimizer of the same kind: parameters, states, counters and settings, and the key and count of stochastic
    /// rounding, which replace the [`seed`](crate::Builder::seed) of the optimizer.
    ///
    /// # Errors
    /// The optimizer differs from the checkpoint; the error lists every difference. A recorded step is not yet finished. A caller's buffer
    /// lacks `COPY_DST`. Nothing is changed then.
    pub fn restore(&self, optimizer: &mut Optimizer) -> Result<()> {
        self.restore_fitting(optimizer, Fit::Whole)
    }

    /// As [`restore`](Self::restore), with the strictness of `fit`.
    ///
    /// # Errors
    /// As [`restore`](Self::restore).
    pub fn restore_fitting(&self, optimizer: &mut Optimizer, fit: Fit) -> Result<()> {
        let saved = self.by_name();
        let rows = rows(&saved, optimizer);
        let tensors: Vec<(InPart, &Arrays)> = optimizer
            .tensors()
            .filter_map(|(tensor, name, _)| Some((tensor.index(), *saved.get(name)?)))
            .filter(|(tensor, saved)| optimizer.shape_with(*tensor, &rows) == saved.shape)
            .map(|(tensor, saved)| (optimizer.directory.tensors()[tensor], saved))
            .collect();
        // All that can be refused comes before the first change.
        let mut restored = Vec::new();
        if fit != Fit::Partial {
            self.refuse(self.differences_fitting(optimizer, fit))?;
            optimizer.check_idle()?;
            for (part, saved) in
                optimizer.parts.iter().zip(self.in_order(optimizer.parts.iter().map(|part| &part.spec)))
            {
                let Ok(saved) = saved else { continue };
                restored.push((saved, part.spec.restored_rules(saved.shared_groups(&part.spec))?));
            }
        }
        tensors.iter().try_for_each(|(place, _)| optimizer.parts[place.part].check_writable(place.index))?;
        for (number, (saved, rules)) in restored.into_iter().enumerate() {
            let part = &mut optimizer.parts[number];
            part.write_control(&saved.contents.control)?;
            part.write_decisions(&saved.contents.global_state, &saved.contents.losses)?;
            optimizer.put_rules(number, rules);
        }
        for (set, live) in rows {
            optimizer.set_row_count(set, live)?;
        }
        tensors.into_iter().try_for_each(|(place, saved)| optimizer.parts[place.part].write_arrays(place.index, saved))
    }

    pub(crate) fn refuse(&self, differences: Vec<String>) -> Result<()> {
        if differences.is_empty() {
            return Ok(());
        }
        Err(Error::Mismatch { checkpoint: self.name.clone(), differences })
    }

    /// The tensors by their names. A search of the list for each tensor would take minutes with a hundred thousand tensors.
    pub(crate) fn by_name(&self) -> HashMap<&str, &Arrays> {
        let tensors = self.parts.iter().flat_map(|part| &part.contents.tensors);
        tensors.map(|tensor| (tensor.name.as_str(), tensor)).collect()
    }

    /// For each part of an optimizer, the saved part with its groups, or the differences between their rules.
    pub(crate) fn in_order<'a>(
        &self,
        parts: impl ExactSizeIterator<Item = &'a Spec>,
    ) -> Vec<std::result::Result<&SavedPart, Vec<String>>> {
        if let ([saved], 1) = (self.parts.as_slice(), parts.len()) {
            return vec![Ok(saved)];
        }
        parts.map(|spec| self.with_groups_of(spec)).collect()
    }

    /// The saved part with the groups of a part, or the differences between their rules.
    fn with_groups_of(&self, spec: &Spec) -> std::result::Result<&SavedPart, Vec<String>> {
        let here = spec.rule().name();
        let saved = |group: &GroupInfo| {
            self.parts.iter().position(|part| part.groups.iter().any(|(name, _)| *name == group.name))
        };
        let mut differences = Vec::new();
        let mut of_groups = Vec::new();
        for group in &spec.groups {
            let name = quote(&group.name);
            match saved(group) {
                None => differences.push(format!("it has no group {name}")),
                Some(at) if self.parts[at].optimizer != here => {
                    let there = self.parts[at].optimizer.escape_debug();
                    differences.push(format!("its group {name} holds {there}, the group here holds {here}"));
                }
                Some(at) => of_groups.push(at),
            }
        }
        of_groups.dedup();
        match of_groups.as_slice() {
            [at] if differences.is_empty() => Ok(&self.parts[*at]),
            [_, _, ..] => {
                differences.push(format!("its groups of {here} hold several rules, the groups here hold one"));
                Err(differences)
            }
            _ => Err(differences),
        }
    }

    /// The groups and tensors that the optimizer does not have.
    pub(crate) fn lost<'a>(&self, parts: impl Iterator<Item = &'a Spec> + Clone) -> Vec<String> {
        let groups: HashSet<&str> =
            parts.clone().flat_map(|spec| &spec.groups).map(|group| group.name.as_str()).collect();
        let tensors: HashSet<&str> = parts.flat_map(|spec| &spec.tensors).map(|info| info.name.as_str()).collect();
        let there = self.parts.iter().flat_map(|part| &part.groups).map(|(name, _)| name.as_str());
        let lost = there.filter(|name| !groups.contains(name));
        let mut differences: Vec<String> = lost.map(|name| format!("its group {} is not here", quote(name))).collect();
        let there = self.parts.iter().flat_map(|part| &part.contents.tensors).map(|tensor| tensor.name.as_str());
        let lost = there.filter(|name| !tensors.contains(name));
        differences.extend(lost.map(|name| format!("its tensor {} is not here", quote(name))));
        differences
    }

    /// All differences between the checkpoint and an optimizer, with arrays in another form.
    #[must_use]
    pub fn differences(&self, optimizer: &Optimizer) -> Vec<String> {
        self.differences_fitting(optimizer, Fit::Whole)
    }

    fn differences_fitting(&self, optimizer: &Optimizer, fit: Fit) -> Vec<String> {
        let mut differences = Vec::new();
        let specs = optimizer.parts.iter().map(|part| &part.spec);
        let of_parts = self.in_order(specs.clone());
        for (part, saved) in optimizer.parts.iter().zip(&of_parts) {
            match saved {
                Ok(saved) => differences.extend(saved.rule_differences(&part.spec, part.spec.around.ema.is_some())),
                Err(of_rules) => differences.extend(of_rules.iter().cloned()),
            }
        }
        let saved = self.by_name();
        let rows = rows(&saved, optimizer);
        for (tensor, name, _) in optimizer.tensors() {
            let (shape, InPart { part, index }) =
                (optimizer.shape_with(tensor.index(), &rows), optimizer.directory.tensors()[tensor.index()]);
            match saved.get(name) {
                None => differences.push(format!("it lacks tensor {}", quote(name))),
                Some(saved) if saved.shape != shape => {
                    differences.push(format!(
                        "tensor {} has shape {:?} there, {shape:?} here",
                        quote(name),
                        saved.shape
                    ));
                }
                Some(saved) => {
                    differences.extend(array_differences(saved, &optimizer.parts[part].layouts(index), &shape, fit));
                    if let Ok(of_part) = &of_parts[part] {
                        let numbers = optimizer.parts[part].placement.classes[0].kept_numbers();
                        differences.extend(number_differences(saved, &numbers, of_part.contents.control.step_count));
                    }
                }
            }
        }
        differences.extend(self.lost(specs));
        differences
    }
}

/// The row sets that would take the saved count of rows, in order, with it.
fn rows(saved: &HashMap<&str, &Arrays>, optimizer: &Optimizer) -> Vec<(RowSet, usize)> {
    optimizer.rows_as(|name| saved.get(name).map(|tensor| tensor.shape.as_slice()))
}

impl SavedPart {
    /// The groups that are on both sides, with the settings that were saved.
    pub(crate) fn shared_groups<'a>(&'a self, spec: &Spec) -> Vec<(Group, &'a [(String, Value)])> {
        let saved: HashMap<&str, &Settings> = self.groups.iter().map(|(name, saved)| (name.as_str(), saved)).collect();
        let shared = |(group, info): (Group, &GroupInfo)| Some((group, saved.get(info.name.as_str())?.as_slice()));
        spec.group_handles().filter_map(shared).collect()
    }

    /// The differences between the groups, their settings and their tensors.
    pub(crate) fn group_differences(&self, spec: &Spec) -> Vec<String> {
        let there: HashMap<&str, &Settings> = self.groups.iter().map(|(name, saved)| (name.as_str(), saved)).collect();
        let mut differences = Vec::new();
        for group in &spec.groups {
            let name = quote(&group.name);
            let Some(saved) = there.get(group.name.as_str()) else {
                differences.push(format!("it has no group {name}"));
                continue;
            };
            if group.rule.name() == self.optimizer {
                let settings = group.rule.settings().into_iter().map(|(setting, _)| setting);
                let lacking = settings.filter(|setting| !saved.iter().any(|(saved, _)| saved == setting));
                differences.extend(lacking.map(|setting| format!("its group {name} lacks the setting `{setting}`")));
            }
        }
        differences.extend(self.moved_tensors(spec));
        differences.extend(spec.restored_rules(self.shared_groups(spec)).err().map(|error| error.to_string()));
        differences
    }

    /// The tensors that are in another group than in the checkpoint.
    fn moved_tensors(&self, spec: &Spec) -> Vec<String> {
        let saved: HashMap<&str, &Arrays> =
            self.contents.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        let pairs =
            spec.tensors.iter().filter_map(|info| Some((info, &spec.groups[info.group].name, saved.get(&*info.name)?)));
        let moved = pairs.filter(|(_, group, saved)| saved.group != **group);
        let difference = |(info, group, saved): (&TensorInfo, &String, &&Arrays)| {
            format!("tensor {} is in group {} there, {} here", quote(&info.name), quote(&saved.group), quote(group))
        };
        moved.map(difference).collect()
    }

    /// The differences between the saved part and a part beside those of arrays. `swaps`: the optimizer has `swap_ema`.
    pub(crate) fn rule_differences(&self, spec: &Spec, swaps: bool) -> Vec<String> {
        let rule = spec.rule();
        let mut differences = Vec::new();
        if rule.name() != self.optimizer {
            differences.push(format!(
                "it belongs to {}, the optimizer is {}",
                self.optimizer.escape_debug(),
                rule.name()
            ));
        }
        differences.extend(self.group_differences(spec));
        differences.extend(self.count_differences(rule));
        differences.extend(self.mode_difference(rule, swaps));
        differences
    }

    /// The reason why an optimizer could not leave the mode in which the checkpoint was saved. `swaps`: the optimizer has `swap_ema`.
    pub(crate) fn mode_difference(&self, rule: &dyn Rule, swaps: bool) -> Option<String> {
        match self.contents.control.mode {
            Mode::Average if !swaps => Some(
                "it was saved while the average of the weights was swapped in, and this optimizer has no swap_ema: save it after a \
                 second swap_ema"
                    .to_owned(),
            ),
            Mode::Evaluation if rule.evaluation().is_none() => {
                Some(format!("it was saved at the point of evaluation, which {} does not have", rule.name()))
            }
            Mode::Training | Mode::Average | Mode::Evaluation => None,
        }
    }

    /// The differences between the saved counts of global state and losses and the counts of the rule.
    pub(crate) fn count_differences(&self, rule: &dyn Rule) -> Vec<String> {
        let losses = rule.procedure().map_or(0, |procedure| procedure.losses());
        let counts = [
            ("numbers of global state", self.contents.global_state.len(), rule.global_state().len()),
            ("losses of probes", self.contents.losses.len(), losses),
        ];
        let differ = counts.into_iter().filter(|(_, there, here)| there != here);
        differ.map(|(what, there, here)| format!("it has {there} {what}, the optimizer {here}")).collect()
    }
}

/// Whether a saved factor of matrices, if the array is one, has the length that a tensor of this shape needs.
fn fits(saved: &Arrays, name: &str, shape: &[usize]) -> bool {
    let needs = factors::shape_of(name, shape).map(|shape| shape.iter().product::<usize>());
    needs.zip(saved.get(name)).is_none_or(|(needs, values)| values.len() == needs)
}

/// The arrays of a tensor that only one side has or that have another length, and, for a whole fit, the arrays in another form. `here` begins with
/// the parameters, and `shape` is the shape here.
pub(crate) fn array_differences(saved: &Arrays, here: &[(&str, Layout)], shape: &[usize], fit: Fit) -> Vec<String> {
    let tensor = quote(&saved.name);
    let there: Vec<(&str, Layout)> =
        saved.arrays.iter().map(|(name, values)| (name.as_str(), values.layout())).collect();
    let is_state = |name: &str| name != PARAM && !keeps_precision(name);
    let mut differences = Vec::new();
    if fit == Fit::Whole && form_of_params(&there) != form_of_params(here) {
        let (there, here) = (form_of_params(&there), form_of_params(here));
        differences.push(format!("the parameters of tensor {tensor} are stored as {there} there, {here} here"));
    }
    for (name, layout) in here.iter().filter(|(name, _)| is_state(name)) {
        match there.iter().find(|(n, _)| n == name) {
            // Elements without step counts have those of the optimizer.
            None if *name == ROW_STEPS => {}
            None => differences.push(format!("tensor {tensor} lacks state `{name}`")),
            Some(_) if !fits(saved, name, shape) => {
                let numbers = saved.get(name).map_or(0, Packed::len);
                differences.push(format!(
                    "state `{name}` of tensor {tensor} has {numbers} numbers, which is not its shape here"
                ));
            }
            Some((_, other)) if fit == Fit::Whole && other != layout => {
                differences
                    .push(format!("state `{name}` of tensor {tensor} is stored as {other} there, {layout} here"));
            }
            Some(_) => {}
        }
    }
    let extra = there.iter().filter(|(name, _)| is_state(name) && !here.iter().any(|(n, _)| n == name));
    differences.extend(extra.map(|(name, _)| format!("state {} of tensor {tensor} is not kept here", quote(name))));
    differences
}

/// The numbers that are kept once per tensor and that only one side has. Step counts of tensors that are all the optimizer's need no place, and
/// where a file has none, they are the optimizer's.
pub(crate) fn number_differences(saved: &Arrays, here: &[&str], step_count: u32) -> Vec<String> {
    let tensor = quote(&saved.name);
    let lacking = here.iter().filter(|name| saved.number(name).is_none() && ![STEPS, WAITING].contains(name));
    let lacking = lacking.map(|name| format!("tensor {tensor} lacks the number `{name}`"));
    let unkept = saved.progress.iter().filter(|(name, x)| {
        let plain = (name == STEPS && *x == step_count as f32) || (name == WAITING && *x == 0.0);
        !here.contains(&name.as_str()) && !plain
    });
    let unkept = unkept.map(|(name, x)| match name.as_str() {
        STEPS => format!(
            "tensor {tensor} has made {x} steps of {step_count}: tell the builder of counts of its own with partial_steps(true)"
        ),
        name => format!("number {} of tensor {tensor} is not kept here", quote(name)),
    });
    lacking.chain(unkept).collect()
}

/// The form of the parameters, with the name of the master or remainder.
fn form_of_params(arrays: &[(&str, Layout)]) -> String {
    let seen =
        arrays.iter().find(|(name, _)| *name == PARAM).map_or_else(String::new, |(_, layout)| layout.to_string());
    let kept = arrays.iter().find(|(name, _)| keeps_precision(name));
    kept.map_or_else(|| seen.clone(), |(name, _)| format!("{seen} + {name}"))
}
