//! What an optimizer is made from, checked before anything is created.

use std::collections::HashSet;

use crate::cpu::spec::{RowSetSpec, Spec, TensorSpec};
use crate::optim::rule::{check_common, need_cpu, need_one_rate, need_rows, need_shared, same_rule};
use crate::optim::{Procedure, Rule};
use crate::options::telemetry::refuse;
use crate::{Error, Result};

impl Spec {
    pub(crate) fn check(&self) -> Result<()> {
        self.check_groups()?;
        self.check_tensors()?;
        self.around.check()?;
        let rule = self.groups[0].rule.as_ref();
        if let (true, Procedure::Integrate(_)) = (self.around.telemetry, rule.procedure()) {
            return Err(refuse(rule.name()));
        }
        self.check_rows(rule)?;
        for (&tensor, rates) in &self.columns {
            check_column_rates(rule, self.tensor(tensor)?, self.set_of(tensor), rates)?;
        }
        self.shared.iter().try_for_each(|(&tensor, &width)| self.check_shared(rule, tensor, width))
    }

    fn check_groups(&self) -> Result<()> {
        let none = || Error::Usage("an optimizer needs at least one group".to_owned());
        let first = self.groups.first().ok_or_else(none)?;
        for group in &self.groups {
            group.rule.check()?;
            need_cpu(group.rule.as_ref())?;
            if !same_rule(group.rule.as_ref(), first.rule.as_ref()) {
                return Err(Error::Usage(format!(
                    "group `{}` runs {} and group `{}` runs {}; all groups of an optimizer run the same one",
                    first.name,
                    first.rule.name(),
                    group.name,
                    group.rule.name()
                )));
            }
        }
        check_common(self.groups.iter().map(|g| (g.name.as_str(), g.rule.as_ref())))?;
        check_names("group", self.groups.iter().map(|g| g.name.as_str()))
    }

    fn check_tensors(&self) -> Result<()> {
        if let Some(lost) = self.tensors.iter().find(|t| t.group >= self.groups.len()) {
            let problem = format!("its group is {}, there are {}", lost.group, self.groups.len());
            return Err(Error::Tensor { tensor: lost.name.clone(), problem });
        }
        check_names("tensor", self.tensors.iter().map(|t| t.name.as_str()))
    }

    fn check_rows(&self, rule: &dyn Rule) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        need_rows(rule)?;
        check_names("row set", self.rows.iter().map(|set| set.name.as_str()))?;
        let mut set_of: Vec<Option<&RowSetSpec>> = vec![None; self.tensors.len()];
        for set in &self.rows {
            if set.tensors.is_empty() || set.rows == 0 {
                return Err(set.error("it needs at least one tensor and one row"));
            }
            for &tensor in &set.tensors {
                let spec = self.tensors.get(tensor);
                let spec = spec.ok_or_else(|| set.error(&format!("its tensor number {tensor} is not there")))?;
                self.formats[tensor].need_rows(&spec.name)?;
                if let Some(other) = set_of[tensor].replace(set) {
                    return Err(
                        spec.error(format!("it is in row set `{}` and cannot be in `{}` too", other.name, set.name))
                    );
                }
                if spec.elements % set.rows != 0 {
                    let problem = format!("{} elements do not fall into {} rows", spec.elements, set.rows);
                    return Err(spec.error(problem));
                }
            }
        }
        Ok(())
    }

    fn check_shared(&self, rule: &dyn Rule, tensor: usize, width: usize) -> Result<()> {
        need_shared(rule)?;
        let (spec, set) = (self.tensor(tensor)?, self.set_of(tensor));
        if spec.elements.checked_rem(width) != Some(0) || set.is_some_and(|s| s.rows * width != spec.elements) {
            return Err(spec.error(format!("{} elements have no rows of {width}", spec.elements)));
        }
        if set.is_some_and(|s| s.nonzero) {
            return Err(spec.error("a row that skips zero gradients cannot share a second moment".to_owned()));
        }
        self.formats[tensor].need_rows(&spec.name)
    }
}

/// Checks the rates of a tensor's columns; a set says how many rows the tensor has.
pub(crate) fn check_column_rates(
    rule: &dyn Rule,
    tensor: &TensorSpec,
    set: Option<&RowSetSpec>,
    rates: &[f64],
) -> Result<()> {
    need_rows(rule)?;
    need_one_rate(rule)?;
    let fits = match set {
        Some(set) => set.rows * rates.len() == tensor.elements,
        None => tensor.elements.checked_rem(rates.len()) == Some(0),
    };
    if !fits {
        let (rates, elements) = (rates.len(), tensor.elements);
        return Err(tensor.error(format!("{rates} column rates do not divide its {elements} elements into rows")));
    }
    match rates.iter().find(|rate| !(**rate >= 0.0 && **rate <= f64::from(f32::MAX))) {
        None => Ok(()),
        Some(rate) => Err(tensor.error(format!("a column rate is {rate}, needs a finite number of at least 0"))),
    }
}

fn check_names<'a>(kind: &'static str, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(Error::Duplicate { kind, name: name.to_owned() });
        }
    }
    Ok(())
}
