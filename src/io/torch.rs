//! Export and import of torch's optimizer states, through safetensors.
//!
//! The keys are `<torch's name>/<tensor>`: `exp_avg`, `exp_avg_sq`, `max_exp_avg_sq`, `momentum_buffer`, `square_avg`, `grad_avg`,
//! `sum` with the tensor's shape, and, as one number per tensor, `step` and nadam's `mu_product`, which this crate computes from the step
//! count and the settings. `param/<tensor>` is optional. The `safetensors` package of
//! Python reads and writes such files.

use std::collections::HashMap;

use crate::gpu::layout::arena::PARAM;
use crate::gpu::layout::units::{ACCUMULATOR, AVERAGE};
use crate::gpu::layout::units::{MASTER, REMAINDER, keeps_precision};
use crate::io::checkpoint::{Checkpoint, Settings};
use crate::io::tensor_file::{TensorFile, quote};
use crate::io::tensor_writer::{FileArray, serialize};
use crate::{Error, Group, NAdam, Optimizer, Result, Tensor};

/// The optimizer with a product of momenta.
const NADAM: &str = "nadam";

/// torch's name of a state of this crate, by optimizer.
fn torch_name(optimizer: &str, state: &str) -> Option<&'static str> {
    Some(match (optimizer, state) {
        ("rmsprop", "v") => "square_avg",
        ("rmsprop", "g_mean") => "grad_avg",
        ("sgd" | "rmsprop", "b") => "momentum_buffer",
        ("adagrad", "sum") => "sum",
        ("adam" | "adamw" | "nadam" | "radam", "m") => "exp_avg",
        ("adam" | "adamw" | "nadam" | "radam", "v") => "exp_avg_sq",
        ("adam" | "adamw", "v_max") => "max_exp_avg_sq",
        _ => return None,
    })
}

impl Checkpoint {
    /// The states under torch's names, with the parameters in their full precision, as a safetensors file of f32.
    ///
    /// # Errors
    /// torch has no optimizer of this name.
    pub fn to_torch(&self) -> Result<Vec<u8>> {
        let step = vec![self.step_count() as f32];
        let products = self.mu_products()?;
        let mut arrays = Vec::new();
        for tensor in &self.contents.tensors {
            let name = &tensor.name;
            for (state, values) in &tensor.arrays {
                let (of_torch, values) = match state.as_str() {
                    PARAM => (PARAM, tensor.params().unwrap_or_default()),
                    ACCUMULATOR | AVERAGE | MASTER | REMAINDER => continue,
                    state => {
                        let of_torch = torch_name(&self.optimizer, state).ok_or_else(|| self.unknown_to_torch())?;
                        (of_torch, values.values())
                    }
                };
                arrays.push(FileArray::f32(format!("{of_torch}/{name}"), &tensor.shape, values));
            }
            arrays.push(FileArray::f32(format!("step/{name}"), &[], step.clone()));
            if let Some(product) = products.get(&tensor.group) {
                arrays.push(FileArray::f32(format!("mu_product/{name}"), &[], product.to_vec()));
            }
        }
        serialize(&self.name, &arrays, ("optimizer", self.optimizer.clone()))
    }

    /// The product of momenta of each group, for nadam.
    fn mu_products(&self) -> Result<HashMap<String, [f32; 1]>> {
        let of_nadam = self.groups.iter().filter(|_| self.optimizer == NADAM);
        let product = |(name, settings): &(String, Settings)| {
            let settings = settings.iter().map(|(name, value)| (name.as_str(), value));
            Ok((name.clone(), [NAdam::mu_product(settings, self.step_count())? as f32]))
        };
        of_nadam.map(product).collect()
    }

    fn unknown_to_torch(&self) -> Error {
        Error::Usage(format!("torch has no optimizer `{}` with these states", self.optimizer))
    }
}

/// Restores torch's states into an optimizer, and the parameters where the file has them. The optimizer rounds to nearest where its storage
/// needs it. Every tensor must have the same step count.
///
/// # Errors
/// A tensor or state that is missing, of another shape or not f32; step counts that differ; an optimizer that torch does not have; a
/// `mu_product` that does not follow from the settings. Nothing is changed then.
pub fn restore_torch(name: &str, bytes: impl Into<Vec<u8>>, optimizer: &mut Optimizer) -> Result<()> {
    let file = TensorFile::parse(name, bytes.into())?;
    let rule = optimizer.rule(Group::DEFAULT)?.name();
    let mut writes = Vec::new();
    let mut steps: Option<f32> = None;
    let mut products: Vec<(Tensor, f32)> = Vec::new();
    for (tensor, tensor_name, shape) in optimizer.tensors() {
        let read = |key: &str, shape: &[usize]| -> Result<Option<Vec<f32>>> {
            let key = format!("{key}/{tensor_name}");
            let Some(entry) = file.entry(&key) else { return Ok(None) };
            if entry.dtype != safetensors::Dtype::F32 || entry.shape != shape {
                return Err(file.error(format!(
                    "{} is {:?} {:?}, needs F32 {shape:?}",
                    quote(&key),
                    entry.dtype,
                    entry.shape
                )));
            }
            Ok(Some(file.at::<f32>(&entry.data).into_owned()))
        };
        if let Some(values) = read(PARAM, shape)? {
            writes.push((tensor, PARAM, values));
        }
        // `write_param` writes the master or remainder too.
        for state in optimizer.state_names(tensor)?.into_iter().filter(|state| !keeps_precision(state)) {
            let of_torch = torch_name(rule, state)
                .ok_or_else(|| Error::Usage(format!("torch has no state for `{state}` of `{rule}`")))?;
            let values = read(of_torch, shape)?
                .ok_or_else(|| file.error(format!("lacks {}", quote(&format!("{of_torch}/{tensor_name}")))))?;
            writes.push((tensor, state, values));
        }
        if let Some([product]) = read("mu_product", &[])?.as_deref() {
            products.push((tensor, *product));
        }
        if let Some([step]) = read("step", &[])?.as_deref()
            && *steps.get_or_insert(*step) != *step
        {
            return Err(
                file.error(format!("step/{tensor_name} is {step}, other tensors have {steps:?}: one count serves all"))
            );
        }
    }
    let steps = steps.unwrap_or(0.0);
    if !(steps >= 0.0 && steps.fract() == 0.0 && steps < 16_777_216.0) {
        return Err(file.error(format!("a step count is {steps}, needs a whole number below 2^24")));
    }
    for (tensor, product) in products {
        check_product(&file, optimizer, tensor, (product, steps as u64))?;
    }
    optimizer.write_step_count(steps as u32)?;
    writes.into_iter().try_for_each(|(tensor, array, values)| match array {
        PARAM => optimizer.write_param(tensor, &values),
        state => optimizer.write_state(tensor, state, &values),
    })
}

/// Checks nadam's product, which follows from the settings and the step count. torch rounds its product once per step.
fn check_product(
    file: &TensorFile,
    optimizer: &Optimizer,
    tensor: Tensor,
    (of_torch, steps): (f32, u64),
) -> Result<()> {
    let rule = optimizer.rule(optimizer.group_of(tensor)?)?;
    if rule.name() != NADAM {
        return Ok(());
    }
    let settings = rule.settings();
    let computed = NAdam::mu_product(settings.iter().map(|(name, value)| (*name, value)), steps)?;
    let limit = computed * (steps as f64 * f64::from(f32::EPSILON) + 1e-5) + f64::from(f32::MIN_POSITIVE);
    if (f64::from(of_torch) - computed).abs() <= limit {
        return Ok(());
    }
    Err(file
        .error(format!("mu_product is {of_torch:e} after {steps} steps, beta1 and momentum_decay make {computed:e}")))
}
