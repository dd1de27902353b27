//! Putting a checkpoint back into an optimizer, and what keeps it from fitting.

use std::collections::HashMap;

use crate::gpu::access::snapshot::Arrays;
use crate::gpu::layout::arena::PARAM;
use crate::gpu::layout::units::keeps_precision;
use crate::io::checkpoint::{Checkpoint, Settings};
use crate::io::tensor_file::quote;
use crate::optim::{Procedure, Rule};
use crate::options::around::Mode;
use crate::options::storage::Layout;
use crate::{Error, Group, Optimizer, Result, RowSet};

/// How strictly a checkpoint must fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fit {
    /// The same optimizer, tensors, shapes and states, each stored in the same form; which way numbers are rounded into it, to the
    /// nearest or by chance, is the optimizer's own. Default.
    #[default]
    Whole,
    /// As `Whole`, but what is stored in another form is converted, to the nearest: f32 into bf16 split and back without loss, eight
    /// bits into f32. Parameters go by their full precision, as [`Checkpoint::params`] gives them.
    Converted,
    /// Whatever tensors and states are on both sides, converted where need be; counters and settings are not taken.
    Partial,
}

impl Checkpoint {
    /// Puts everything back into an optimizer of the same kind: parameters, states, counters and settings, and the key and count
    /// from which the chances of the next rounding follow, in place of the optimizer's own [`seed`](crate::Builder::seed).
    ///
    /// # Errors
    /// Every difference between the two; a recorded step is not yet finished. Nothing was changed then.
    pub fn restore(&self, optimizer: &mut Optimizer) -> Result<()> {
        self.restore_fitting(optimizer, Fit::Whole)
    }

    /// As [`restore`](Self::restore), as strictly as asked for.
    ///
    /// # Errors
    /// As [`restore`](Self::restore).
    pub fn restore_fitting(&self, optimizer: &mut Optimizer, fit: Fit) -> Result<()> {
        if fit != Fit::Partial {
            self.refuse(self.differences_fitting(optimizer, fit))?;
            // First, because it is refused while steps are under way.
            optimizer.write_control(&self.contents.control)?;
            optimizer.write_decisions(&self.contents.global_state, &self.contents.losses)?;
            for (group, settings) in self.shared_groups(optimizer) {
                optimizer.restore_settings(group, settings.iter().map(|(k, v)| (k.as_str(), v)))?;
            }
        }
        for (set, live) in self.rows(optimizer) {
            optimizer.set_row_count(set, live)?;
        }
        for saved in &self.contents.tensors {
            let Ok(tensor) = optimizer.tensor(&saved.name) else { continue };
            let tensor = tensor.index();
            if optimizer.spec.tensors[tensor].shape == saved.shape {
                optimizer.write_arrays(tensor, saved)?;
            }
        }
        Ok(())
    }

    pub(crate) fn refuse(&self, differences: Vec<String>) -> Result<()> {
        if differences.is_empty() {
            return Ok(());
        }
        Err(Error::Mismatch { checkpoint: self.name.clone(), differences })
    }

    /// The row sets that would take the saved count of rows, with it.
    fn rows(&self, optimizer: &Optimizer) -> Vec<(RowSet, usize)> {
        let saved = |name: &str| self.contents.tensors.iter().find(|t| t.name == name).map(|t| t.shape.as_slice());
        optimizer.rows_as(saved)
    }

    /// The groups that are on both sides, with the settings that were saved.
    fn shared_groups(&self, optimizer: &Optimizer) -> Vec<(Group, &Settings)> {
        let saved = |name: &str| self.groups.iter().find(|(n, _)| n == name).map(|(_, settings)| settings);
        optimizer.groups().filter_map(|(group, name)| Some((group, saved(name)?))).collect()
    }

    /// Everything in which the checkpoint and an optimizer differ, with what is stored in another form.
    #[must_use]
    pub fn differences(&self, optimizer: &Optimizer) -> Vec<String> {
        self.differences_fitting(optimizer, Fit::Whole)
    }

    fn differences_fitting(&self, optimizer: &Optimizer, fit: Fit) -> Vec<String> {
        let mut differences = Vec::new();
        let rule = optimizer.spec.rule().name();
        if rule != self.optimizer {
            differences.push(format!("it is of {}, the optimizer is {rule}", self.optimizer));
        }
        for (_, name) in optimizer.groups() {
            if !self.groups.iter().any(|(n, _)| n == name) {
                differences.push(format!("it has no group {}", quote(name)));
            }
        }
        for (group, settings) in self.shared_groups(optimizer) {
            if let Err(error) = optimizer.spec.restored_rule(group, settings.iter().map(|(k, v)| (k.as_str(), v))) {
                differences.push(error.to_string());
            }
        }
        differences.extend(self.count_differences(optimizer.spec.rule()));
        differences.extend(self.mode_difference(optimizer.spec.rule(), optimizer.spec.around.ema.is_some()));
        let saved: HashMap<&str, &Arrays> = self.contents.tensors.iter().map(|t| (t.name.as_str(), t)).collect();
        let rows = self.rows(optimizer);
        for (tensor, name, _) in optimizer.tensors() {
            let shape = optimizer.shape_with(tensor.index(), &rows);
            match saved.get(name) {
                None => differences.push(format!("it lacks tensor {}", quote(name))),
                Some(saved) if saved.shape != shape => {
                    differences.push(format!(
                        "tensor {} has shape {:?} there, {shape:?} here",
                        quote(name),
                        saved.shape
                    ));
                }
                Some(saved) => differences.extend(array_differences(saved, &optimizer.layouts(tensor.index()), fit)),
            }
        }
        for name in saved.keys().filter(|name| optimizer.tensor(name).is_err()) {
            differences.push(format!("its tensor {} is not here", quote(name)));
        }
        differences
    }
}

impl Checkpoint {
    /// What keeps an optimizer from leaving the mode in which the checkpoint was saved. `swaps`: the optimizer has `swap_ema`.
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

    /// Whether as many numbers were saved as the rule remembers and probes.
    pub(crate) fn count_differences(&self, rule: &dyn Rule) -> Vec<String> {
        let probes = if let Procedure::Probe(probe) = rule.procedure() { probe.count + 1 } else { 0 };
        let counts = [
            ("numbers that decisions remember", self.contents.global_state.len(), rule.global_state().len()),
            ("losses of probes", self.contents.losses.len(), probes),
        ];
        let differ = counts.into_iter().filter(|(_, there, here)| there != here);
        differ.map(|(what, there, here)| format!("it has {there} {what}, the optimizer {here}")).collect()
    }
}

/// What one side keeps of a tensor and the other does not, and, for a whole fit, what is stored in another form. `here` begins with the
/// parameters.
pub(crate) fn array_differences(saved: &Arrays, here: &[(&str, Layout)], fit: Fit) -> Vec<String> {
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
            None => differences.push(format!("tensor {tensor} lacks state `{name}`")),
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

/// Parameters as the model sees them, and what keeps their precision.
fn form_of_params(arrays: &[(&str, Layout)]) -> String {
    let seen =
        arrays.iter().find(|(name, _)| *name == PARAM).map_or_else(String::new, |(_, layout)| layout.to_string());
    let kept = arrays.iter().find(|(name, _)| keeps_precision(name));
    kept.map_or_else(|| seen.clone(), |(name, _)| format!("{seen} + {name}"))
}
