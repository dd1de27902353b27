//! Checkpoints of optimizers on the host, in the same files.

use std::collections::BTreeMap;

use crate::cpu::{Counters, Number, Optimizer, TensorSpec};
use crate::engine::{Arrays, Contents, Control, PARAM};
use crate::storage::{Layout, Packed};
use crate::tensor_file::quote;
use crate::{Error, Result};

use super::fit::array_differences;
use super::{Checkpoint, Fit, Settings};

impl Checkpoint {
    /// Everything that resuming needs of an optimizer on the host, with its parameters and their shapes, in order. Numbers are
    /// rounded to f32: an `Optimizer<f32>` goes on bit for bit.
    ///
    /// # Errors
    /// Another count of parameters than tensors, or another length; more than 2³² - 1 steps.
    pub fn of_host<F: Number>(optimizer: &Optimizer<F>, params: &[(&[usize], &[F])]) -> Result<Self> {
        let groups = optimizer.settings().map(|(name, settings)| {
            (name.to_owned(), settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
        });
        Ok(Self {
            name: "snapshot".to_owned(),
            optimizer: optimizer.rule(0).name().to_owned(),
            groups: groups.collect(),
            contents: Contents {
                control: control(optimizer.counters())?,
                memory: optimizer.memory_values().iter().map(|x| x.wide() as f32).collect(),
                losses: optimizer.losses().to_vec(),
                tensors: tensors(optimizer, params)?,
            },
            notes: BTreeMap::new(),
        })
    }

    /// Puts everything back into an optimizer of the same kind on the host, and into its parameters.
    ///
    /// # Errors
    /// Every difference between the two. Nothing was changed then.
    pub fn restore_host<F: Number>(&self, optimizer: &mut Optimizer<F>, params: &mut [&mut [F]]) -> Result<()> {
        let lengths: Vec<usize> = params.iter().map(|p| p.len()).collect();
        self.refuse(self.host_differences(optimizer, &lengths))?;
        for (group, settings) in self.host_groups(optimizer) {
            optimizer.put_settings(group, settings)?;
        }
        let Control { applied, skipped, streak, scale, .. } = self.contents.control;
        let (applied, skipped, scale) = (applied.into(), skipped.into(), scale.into());
        optimizer.set_counters(Counters { applied, skipped, streak, scale });
        optimizer.set_memory(&self.contents.memory.iter().map(|x| F::of(f64::from(*x))).collect::<Vec<_>>())?;
        if !optimizer.losses().is_empty() {
            optimizer.set_losses(&self.contents.losses)?;
        }
        let names: Vec<String> = optimizer.tensors().map(|t| t.name.clone()).collect();
        for (at, (name, param)) in names.iter().zip(params).enumerate() {
            self.put(name, PARAM, param);
            for (array, values) in optimizer.arrays_mut(at) {
                self.put(name, array, values);
            }
        }
        Ok(())
    }

    /// The groups that are on both sides, with the settings that were saved.
    fn host_groups<F: Number>(&self, optimizer: &Optimizer<F>) -> Vec<(usize, &Settings)> {
        let saved = |name: &str| self.groups.iter().find(|(n, _)| n == name).map(|(_, settings)| settings);
        optimizer.settings().enumerate().filter_map(|(at, (name, _))| Some((at, saved(name)?))).collect()
    }

    fn put<F: Number>(&self, tensor: &str, array: &str, values: &mut [F]) {
        let saved = self.array(tensor, array).unwrap_or_default();
        values.iter_mut().zip(saved).for_each(|(to, from)| *to = F::of(f64::from(from)));
    }

    fn host_differences<F: Number>(&self, optimizer: &Optimizer<F>, lengths: &[usize]) -> Vec<String> {
        let mut differences = Vec::new();
        let rule = optimizer.rule(0).name();
        if rule != self.optimizer {
            differences.push(format!("it is of {}, the optimizer is {rule}", self.optimizer));
        }
        differences.extend(self.count_differences(optimizer.rule(0)));
        for (group, settings) in self.host_groups(optimizer) {
            differences.extend(optimizer.with_settings(group, settings).err().map(|e| e.to_string()));
        }
        if lengths.len() != optimizer.tensors().len() {
            let tensors = optimizer.tensors().len();
            differences.push(format!("{} parameters were given, the optimizer has {tensors} tensors", lengths.len()));
        }
        for (at, spec) in optimizer.tensors().enumerate() {
            let Some(saved) = self.tensor(&spec.name) else {
                differences.push(format!("it lacks tensor {}", quote(&spec.name)));
                continue;
            };
            let there: usize = saved.shape.iter().product();
            if there != spec.elements || lengths.get(at).is_some_and(|length| *length != spec.elements) {
                let name = quote(&spec.name);
                differences.push(format!("tensor {name} has {there} elements there, {} here", spec.elements));
            }
            let states = optimizer.arrays(at).into_iter().map(|(name, _)| name);
            let here: Vec<_> = std::iter::once(PARAM).chain(states).map(|name| (name, Layout::F32)).collect();
            differences.extend(array_differences(saved, &here, Fit::Whole));
        }
        let known = |name: &str| optimizer.tensors().any(|t| t.name == name);
        let lost = self.contents.tensors.iter().filter(|t| !known(&t.name));
        differences.extend(lost.map(|t| format!("its tensor {} is not here", quote(&t.name))));
        differences
    }
}

fn control(counters: Counters) -> Result<Control> {
    let word = |count: u64| {
        u32::try_from(count).map_err(|_| Error::Usage(format!("{count} steps are more than a checkpoint counts")))
    };
    let (applied, skipped) = (word(counters.applied)?, word(counters.skipped)?);
    Ok(Control { applied, skipped, streak: counters.streak, scale: counters.scale as f32, rounding: None })
}

fn tensors<F: Number>(optimizer: &Optimizer<F>, params: &[(&[usize], &[F])]) -> Result<Vec<Arrays>> {
    if params.len() != optimizer.tensors().len() {
        let tensors = optimizer.tensors().len();
        return Err(Error::Usage(format!("{} parameters were given, there are {tensors} tensors", params.len())));
    }
    let groups: Vec<&str> = optimizer.settings().map(|(name, _)| name).collect();
    let each = optimizer.tensors().zip(params).enumerate();
    each.map(|(at, (spec, (shape, param)))| tensor(spec, groups[spec.group], (shape, param), optimizer.arrays(at)))
        .collect()
}

fn tensor<F: Number>(
    spec: &TensorSpec,
    group: &str,
    (shape, param): (&[usize], &[F]),
    states: Vec<(&'static str, &[F])>,
) -> Result<Arrays> {
    if param.len() != spec.elements || shape.iter().product::<usize>() != spec.elements {
        let problem = format!("its parameter has {} elements, shape {shape:?}, needs {}", param.len(), spec.elements);
        return Err(Error::Tensor { tensor: spec.name.clone(), problem });
    }
    let narrow = |values: &[F]| Packed::F32(values.iter().map(|x| x.wide() as f32).collect());
    let arrays = std::iter::once((PARAM, param)).chain(states);
    Ok(Arrays {
        name: spec.name.clone(),
        group: group.to_owned(),
        shape: shape.to_vec(),
        arrays: arrays.map(|(name, values)| (name.to_owned(), narrow(values))).collect(),
    })
}
