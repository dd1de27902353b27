//! Export and import of torch's optimizer states, through safetensors.
//!
//! The keys are `<torch's name>/<tensor>`: `exp_avg`, `exp_avg_sq`, `max_exp_avg_sq`, `momentum_buffer`, `square_avg`, `grad_avg`,
//! `sum` with the tensor's shape, and, as one number per tensor, `step` and nadam's `mu_product`, which is 1 - q of this crate's state.
//! `param/<tensor>` is optional. The `safetensors` package of Python reads and writes such files.

use crate::gpu::layout::arena::PARAM;
use crate::gpu::layout::units::{ACCUMULATOR, AVERAGE};
use crate::gpu::layout::units::{MASTER, REMAINDER, keeps_precision};
use crate::io::checkpoint::Checkpoint;
use crate::io::tensor_file::{TensorFile, quote};
use crate::io::tensor_writer::{FileArray, serialize};
use crate::{Error, Group, NAdam, Optimizer, Result};

/// torch's product of momenta, one number per tensor.
const MU_PRODUCT: &str = "mu_product";

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
        let mut arrays = Vec::new();
        for tensor in &self.contents.tensors {
            let name = &tensor.name;
            for (state, values) in &tensor.arrays {
                let (of_torch, values) = match state.as_str() {
                    PARAM => (PARAM, tensor.params().unwrap_or_default()),
                    ACCUMULATOR | AVERAGE | MASTER | REMAINDER => continue,
                    NAdam::LEFT if self.optimizer == NAdam::NAME => {
                        let product = one_product(name, &values.values())?;
                        arrays.push(FileArray::f32(format!("{MU_PRODUCT}/{name}"), &[], vec![product]));
                        continue;
                    }
                    state => {
                        let of_torch = torch_name(&self.optimizer, state).ok_or_else(|| self.unknown_to_torch())?;
                        (of_torch, values.values())
                    }
                };
                arrays.push(FileArray::f32(format!("{of_torch}/{name}"), &tensor.shape, values));
            }
            arrays.push(FileArray::f32(format!("step/{name}"), &[], step.clone()));
        }
        serialize(&self.name, &arrays, ("optimizer", self.optimizer.clone()))
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
/// `mu_product` outside of 0 to 1. Nothing is changed then.
pub fn restore_torch(name: &str, bytes: impl Into<Vec<u8>>, optimizer: &mut Optimizer) -> Result<()> {
    let file = TensorFile::parse(name, bytes.into())?;
    let rule = optimizer.rule(Group::DEFAULT)?.name();
    let mut writes = Vec::new();
    let mut steps: Option<f32> = None;
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
            if (rule, state) == (NAdam::NAME, NAdam::LEFT) {
                let product = read(MU_PRODUCT, &[])?.and_then(|of_tensor| of_tensor.first().copied());
                let key = quote(&format!("{MU_PRODUCT}/{tensor_name}"));
                let product = product.ok_or_else(|| file.error(format!("lacks {key}")))?;
                if !(0.0..=1.0).contains(&product) {
                    return Err(file.error(format!("{key} is {product}, needs a number in [0, 1]")));
                }
                writes.push((tensor, state, vec![1.0 - product; shape.iter().product()]));
                continue;
            }
            let of_torch = torch_name(rule, state)
                .ok_or_else(|| Error::Usage(format!("torch has no state for `{state}` of `{rule}`")))?;
            let values = read(of_torch, shape)?
                .ok_or_else(|| file.error(format!("lacks {}", quote(&format!("{of_torch}/{tensor_name}")))))?;
            writes.push((tensor, state, values));
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
    optimizer.write_step_count(steps as u32)?;
    writes.into_iter().try_for_each(|(tensor, array, values)| match array {
        PARAM => optimizer.write_param(tensor, &values),
        state => optimizer.write_state(tensor, state, &values),
    })
}

/// The product of a tensor's momenta, from its state.
fn one_product(tensor: &str, left: &[f32]) -> Result<f32> {
    match left.split_first() {
        None => Ok(1.0),
        Some((first, others)) if others.iter().all(|q| q == first) => Ok(1.0 - first),
        Some(_) => Err(Error::Usage(format!(
            "the elements of tensor `{tensor}` took different steps: torch has one {MU_PRODUCT} per tensor"
        ))),
    }
}
