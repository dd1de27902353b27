//! Checkpoints of optimizers on the host, in the same file format.

use std::collections::BTreeMap;

use crate::cpu::{Counters, Number, Optimizer, Part};
use crate::gpu::access::snapshot::{Arrays, Contents, Control, were_probed};
use crate::gpu::build::division::InPart;
use crate::gpu::layout::arena::PARAM;
use crate::gpu::layout::units::{MASTER, REMAINDER};
use crate::io::tensor_file::quote;
use crate::options::storage::{Layout, Packed, RoundingMode};
use crate::{Error, Result};

use super::fit::{Fit, array_differences, number_differences};
use super::saved::{Checkpoint, SavedPart};

impl Checkpoint {
    /// Takes a checkpoint of an optimizer on the host, with its parameters and their shapes, in order. The checkpoint stores arrays in the forms
    /// of an optimizer on the GPU. Numbers are rounded to f32: an `Optimizer<f32>` resumes bit for bit.
    ///
    /// # Errors
    /// The count of parameters is not the count of tensors; a length is wrong; the storage cannot hold a parameter, see
    /// [`store_params`](Optimizer::store_params); more than 2³² - 1 steps.
    pub fn of_host<F: Number>(optimizer: &Optimizer<F>, params: &[(&[usize], &[F])]) -> Result<Self> {
        let tensors = optimizer.spec.tensors.len();
        if params.len() != tensors {
            return Err(Error::Usage(format!("{} parameters were given, there are {tensors} tensors", params.len())));
        }
        let shares = optimizer.shares(params.iter().copied());
        let parts = optimizer.parts.iter().zip(shares).map(|(part, share)| SavedPart::of_host(part, &share));
        Ok(Self { name: "snapshot".to_owned(), parts: parts.collect::<Result<_>>()?, notes: BTreeMap::new() })
    }

    /// Restores everything into an optimizer of the same kind on the host, and into its parameters.
    ///
    /// # Errors
    /// The optimizer differs from the checkpoint; the error lists every difference. Nothing is changed then.
    pub fn restore_host<F: Number>(&self, optimizer: &mut Optimizer<F>, params: &mut [&mut [F]]) -> Result<()> {
        self.restore_host_fitting(optimizer, params, Fit::Whole)
    }

    /// As [`restore_host`](Self::restore_host), with the strictness of `fit`.
    ///
    /// # Errors
    /// As [`restore_host`](Self::restore_host).
    pub fn restore_host_fitting<F: Number>(
        &self,
        optimizer: &mut Optimizer<F>,
        params: &mut [&mut [F]],
        fit: Fit,
    ) -> Result<()> {
        if fit != Fit::Partial {
            let lengths: Vec<usize> = params.iter().map(|p| p.len()).collect();
            self.refuse(self.host_differences(optimizer, &lengths, fit))?;
            let parts = self.in_order(optimizer.parts.iter().map(|part| &part.spec));
            for (number, saved) in parts.into_iter().enumerate() {
                let Ok(saved) = saved else { continue };
                let spec = &optimizer.parts[number].spec;
                let rules = spec.restored_rules(saved.shared_groups(spec))?;
                optimizer.put_rules(number, rules);
                saved.put_counters(&mut optimizer.parts[number])?;
            }
        }
        let by_name = self.by_name();
        for (at, param) in params.iter_mut().enumerate().take(optimizer.spec.tensors.len()) {
            let InPart { part, index } = optimizer.directory.tensors()[at];
            let part = &mut optimizer.parts[part];
            let info = &part.spec.tensors[index];
            let elements = info.used() as usize;
            let fits = |saved: &&Arrays| saved.shape.iter().product::<usize>() == elements && param.len() == elements;
            if let Some(saved) = by_name.get(info.name.as_str()).copied().filter(fits) {
                put(saved, part, index, param);
            }
        }
        Ok(())
    }

    fn host_differences<F: Number>(&self, optimizer: &Optimizer<F>, lengths: &[usize], fit: Fit) -> Vec<String> {
        let mut differences = Vec::new();
        let specs = optimizer.parts.iter().map(|part| &part.spec);
        let of_parts = self.in_order(specs.clone());
        for (part, saved) in optimizer.parts.iter().zip(&of_parts) {
            match saved {
                Ok(saved) => differences.extend(saved.rule_differences(&part.spec, false)),
                Err(of_rules) => differences.extend(of_rules.iter().cloned()),
            }
        }
        let by_name = self.by_name();
        let tensors = optimizer.spec.tensors.len();
        if lengths.len() != tensors {
            differences.push(format!("{} parameters were given, the optimizer has {tensors} tensors", lengths.len()));
        }
        for (at, info) in optimizer.spec.tensors.iter().enumerate() {
            let Some(saved) = by_name.get(info.name.as_str()) else {
                differences.push(format!("it lacks tensor {}", quote(&info.name)));
                continue;
            };
            let (there, here) = (saved.shape.iter().product::<usize>(), info.used() as usize);
            if there != here || lengths.get(at).is_some_and(|length| *length != here) {
                let name = quote(&info.name);
                differences.push(format!("tensor {name} has {there} elements there, {here} here"));
            }
            let InPart { part, index } = optimizer.directory.tensors()[at];
            let (part, of_part) = (&optimizer.parts[part], &of_parts[part]);
            differences.extend(array_differences(saved, &layouts(part, index), &info.shape, fit));
            if let Ok(of_part) = of_part {
                let numbers: Vec<&str> = part.numbers(index).into_iter().map(|(name, _)| name).collect();
                differences.extend(number_differences(saved, &numbers, of_part.contents.control.step_count));
            }
        }
        differences.extend(self.lost(specs));
        differences
    }
}

impl SavedPart {
    fn of_host<F: Number>(part: &Part<F>, params: &[(&[usize], &[F])]) -> Result<Self> {
        let groups = part.spec.groups.iter().map(|group| {
            let settings = group.rule.settings().into_iter();
            (group.name.clone(), settings.map(|(name, value)| (name.to_owned(), value)).collect())
        });
        Ok(Self {
            optimizer: part.spec.rule().name().to_owned(),
            groups: groups.collect(),
            contents: Contents {
                control: control(part)?,
                global_state: part.global_state_values().iter().map(|x| x.to_f64() as f32).collect(),
                losses: part.losses().to_vec(),
                tensors: params
                    .iter()
                    .enumerate()
                    .map(|(at, param)| tensor(part, at, *param))
                    .collect::<Result<_>>()?,
            },
        })
    }

    fn put_counters<F: Number>(&self, part: &mut Part<F>) -> Result<()> {
        let Control { step_count, skipped, streak, scale, accumulated, mode, rounding } = self.contents.control;
        part.mode = mode;
        let (step_count, skipped) = (step_count.into(), skipped.into());
        part.set_counters(Counters { step_count, skipped, streak, scale, accumulated });
        if let Some(rounding) = rounding {
            part.set_rounding(rounding);
        }
        part.set_global_state(
            &self.contents.global_state.iter().map(|x| F::from_f64(f64::from(*x))).collect::<Vec<_>>(),
        )?;
        if part.losses().is_empty() {
            return Ok(());
        }
        part.set_losses(&self.contents.losses)?;
        part.probes.probed = were_probed(&self.contents.losses);
        Ok(())
    }
}

/// The arrays of a tensor with their layouts, the parameters first.
fn layouts<F: Number>(part: &Part<F>, tensor: usize) -> Vec<(&'static str, Layout)> {
    let params = part.param_storage(tensor);
    let keep = params.keep().filter(|_| !part.spec.tensors[tensor].frozen);
    let precision = match keep {
        Some(RoundingMode::Master) => Some((MASTER, Layout::F32)),
        Some(RoundingMode::Split) => Some((REMAINDER, Layout::Remainder)),
        None | Some(RoundingMode::Nearest | RoundingMode::Stochastic) => None,
    };
    let state = |(name, _): (&'static str, &[F])| (name, part.form(tensor, name).0.into());
    let states = part.arrays(tensor).into_iter().map(state);
    std::iter::once((PARAM, params.format().into())).chain(precision).chain(states).collect()
}

/// Restores the arrays of a tensor. Arrays of another layout are converted. Arrays that only one side has stay as they are.
fn put<F: Number>(saved: &Arrays, part: &mut Part<F>, tensor: usize, param: &mut [F]) {
    let copy =
        |to: &mut [F], from: &[f32]| to.iter_mut().zip(from).for_each(|(to, x)| *to = F::from_f64(f64::from(*x)));
    if let Some(values) = saved.params() {
        copy(param, &Packed::params(part.param_storage(tensor), &values).0.values());
        part.put_full_params(tensor, &values);
    }
    part.put_numbers(tensor, |name| saved.number(name));
    let states = part.arrays(tensor).into_iter();
    let forms: Vec<_> = states.map(|(name, _)| part.form(tensor, name)).collect();
    for ((name, to), (form, kind)) in part.arrays_mut(tensor).into_iter().zip(forms) {
        match saved.get(name) {
            None => {}
            Some(values) if values.layout() == form.into() => copy(to, &values.values()),
            Some(values) => copy(to, &form.pack(kind, &values.values()).values()),
        }
    }
}

fn control<F: Number>(part: &Part<F>) -> Result<Control> {
    let Counters { step_count, skipped, streak, scale, accumulated } = part.counters();
    let word = |count: u64| {
        u32::try_from(count).map_err(|_| Error::Usage(format!("{count} steps are more than a checkpoint counts")))
    };
    let (step_count, skipped) = (word(step_count)?, word(skipped)?);
    Ok(Control { step_count, skipped, streak, scale, accumulated, mode: part.mode, rounding: part.rounding() })
}

fn tensor<F: Number>(part: &Part<F>, at: usize, (shape, param): (&[usize], &[F])) -> Result<Arrays> {
    let info = &part.spec.tensors[at];
    let (elements, group) = (info.used() as usize, &part.spec.groups[info.group].name);
    let error = |problem| Err(info.error(problem));
    if param.len() != elements || shape.iter().product::<usize>() != elements {
        return error(format!("its parameter has {} elements, shape {shape:?}, needs {elements}", param.len()));
    }
    if part.tensors[at].factors.is_some() && shape != info.shape {
        return error(format!(
            "its shape is given as {shape:?}, needs {:?}: its states are of rows and columns",
            info.shape
        ));
    }
    let narrow = |values: &[F]| -> Vec<f32> { values.iter().map(|x| x.to_f64() as f32).collect() };
    let full = part.full_params(at, param);
    let values = narrow(full.as_deref().unwrap_or(param));
    let (seen, rest) = Packed::params(part.param_storage(at), &values);
    let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan();
    let rest = rest.filter(|_| !info.frozen);
    if full.is_none() && !values.iter().zip(&seen.values()).all(same) {
        let form = seen.layout();
        return error(format!(
            "its parameters hold numbers that {form} does not: call store_params before the first step"
        ));
    }
    let mut arrays = vec![(PARAM.to_owned(), seen)];
    arrays.extend(rest.map(|rest| (if rest.layout() == Layout::F32 { MASTER } else { REMAINDER }.to_owned(), rest)));
    for (name, values) in part.arrays(at) {
        let (form, kind) = part.form(at, name);
        arrays.push((name.to_owned(), form.pack_again(kind, &narrow(values))));
    }
    let progress = part.numbers(at).into_iter().map(|(name, x)| (name.to_owned(), x as f32)).collect();
    Ok(Arrays { name: info.name.clone(), group: group.clone(), shape: shape.to_vec(), arrays, progress })
}
