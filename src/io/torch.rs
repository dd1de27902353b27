//! Export and import of torch's optimizer states, through safetensors.
//!
//! The keys are `<torch's name>/<tensor>`: `exp_avg`, `exp_avg_sq`, `max_exp_avg_sq`, `exp_inf`, `momentum_buffer`, `square_avg`, `grad_avg`,
//! `acc_delta`, `prev`, `step_size`, `sum` and `variance` with the tensor's shape, `row_var` and `col_var` with 1 in place of the columns or the
//! rows, and, as one number per tensor, `step` and nadam's `mu_product`, which is 1 - q of this crate's state.
//! `param/<tensor>` is optional. The `safetensors` package of Python reads and writes such files.

use safetensors::Dtype;

use crate::gpu::layout::arena::PARAM;
use crate::gpu::layout::units::{ACCUMULATOR, AVERAGE};
use crate::gpu::layout::units::{MASTER, REMAINDER, STEPS};
use crate::io::checkpoint::{Checkpoint, SavedPart};
use crate::io::tensor_file::{Entry, TensorFile, quote};
use crate::io::tensor_writer::{FileArray, serialize};
use crate::optim::StateSpec;
use crate::optim::procedure::{self, factors, factors::Matrices};
use crate::options::storage::Format;
use crate::options::storage::half::widen;
use crate::{Error, NAdam, Optimizer, Result, Rule};

/// torch's product of momenta, one number per tensor.
const MU_PRODUCT: &str = "mu_product";

/// torch's count of steps, one number per tensor.
const STEP: &str = "step";
/// torch's decaying maximum of adamax.
const LARGEST: &str = "exp_inf";
/// torch's means of the squares over the rows and over the columns.
const ROW_VAR: &str = "row_var";
const COL_VAR: &str = "col_var";
/// torch's first moment, which its optimizers keep even where β1 = 0.
const FIRST_MOMENT: &str = "exp_avg";
/// torch's SGD and Muon have this state from their first step on, and no count of steps.
const MOMENTUM: &str = "momentum_buffer";

/// torch's name of a state of this crate, by optimizer.
fn torch_name(optimizer: &str, state: &str) -> Option<&'static str> {
    Some(match (optimizer, state) {
        ("rmsprop", "v") => "square_avg",
        ("rmsprop", "g_mean") => "grad_avg",
        ("sgd" | "rmsprop", "b") | ("muon", "m") => MOMENTUM,
        ("adagrad", "sum") => "sum",
        ("adadelta", "v") => "square_avg",
        ("adadelta", "a") => "acc_delta",
        ("rprop", "q") => "prev",
        ("rprop", "s") => "step_size",
        ("adafactor", "v") => "variance",
        ("adafactor", factors::ROWS) => ROW_VAR,
        ("adafactor", factors::COLUMNS) => COL_VAR,
        ("adamax", "u") => LARGEST,
        ("adam" | "adamw" | "adamax" | "nadam" | "radam", "m") => FIRST_MOMENT,
        ("adam" | "adamw" | "nadam" | "radam", "v") => "exp_avg_sq",
        ("adam" | "adamw", "v_max") => "max_exp_avg_sq",
        ("nadam", NAdam::LEFT) => MU_PRODUCT,
        _ => return None,
    })
}

/// The shape that torch gives a state of a tensor of this shape.
fn torch_shape(of_torch: &str, shape: &[usize]) -> Vec<usize> {
    let mut shape = shape.to_vec();
    let from_the_end = match of_torch {
        ROW_VAR => 1,
        COL_VAR => 2,
        _ => return shape,
    };
    if let Some(at) = shape.len().checked_sub(from_the_end) {
        shape[at] = 1;
    }
    shape
}

/// A state that torch's optimizer keeps.
struct TorchState {
    /// This crate's name.
    name: &'static str,
    of_torch: &'static str,
    /// Whether this crate's rule keeps the state too, with its settings.
    kept: bool,
}

/// The states that torch's optimizer keeps with the settings of `rule` for a tensor of this shape.
fn torch_states(rule: &dyn Rule, shape: &[usize]) -> Result<Vec<TorchState>> {
    let factored = procedure::factors(&rule.procedure()).filter(|_| Matrices::of(shape).is_some());
    let of_rule = |state: StateSpec| match factored.filter(|spec| spec.state == state.name) {
        Some(spec) => vec![(spec.rows, state.used), (spec.columns, state.used)],
        None => vec![(state.name, state.used)],
    };
    let mut states = Vec::new();
    for (name, kept) in rule.states().into_iter().filter(|state| !state.scratch).flat_map(of_rule) {
        let of_torch = torch_name(rule.name(), name)
            .ok_or_else(|| Error::Usage(format!("torch has no state for `{name}` of `{}`", rule.name())))?;
        if kept || of_torch == FIRST_MOMENT || of_torch == MU_PRODUCT {
            states.push(TorchState { name, of_torch, kept });
        }
    }
    Ok(states)
}

impl Checkpoint {
    /// The states under torch's names, with the parameters in their full precision, as a safetensors file of f32. The file has all states that
    /// torch's optimizer needs to step.
    ///
    /// # Errors
    /// torch has no optimizer of this name.
    pub fn to_torch(&self) -> Result<Vec<u8>> {
        let mut arrays = Vec::new();
        for (part, tensor) in self.parts.iter().flat_map(|part| part.contents.tensors.iter().map(move |t| (part, t))) {
            let name = &tensor.name;
            let mut push = |state: &str, shape: &[usize], values| {
                arrays.push(FileArray::f32(format!("{state}/{name}"), shape, values));
            };
            let mut kept = Vec::new();
            for (state, values) in &tensor.arrays {
                match state.as_str() {
                    PARAM => push(PARAM, &tensor.shape, tensor.params().unwrap_or_default()),
                    ACCUMULATOR | AVERAGE | MASTER | REMAINDER => {}
                    state => {
                        let of_torch = torch_name(&part.optimizer, state).ok_or_else(|| part.unknown_to_torch())?;
                        kept.push((of_torch, values.values()));
                    }
                }
            }
            let steps = tensor.number(STEPS).unwrap_or(part.step_count() as f32);
            for (of_torch, values) in part.for_torch(kept, tensor.shape.iter().product(), steps > 0.0) {
                if of_torch == MU_PRODUCT {
                    push(MU_PRODUCT, &[], vec![one_product(name, &values)?]);
                } else {
                    push(of_torch, &torch_shape(of_torch, &tensor.shape), values);
                }
            }
            push(STEP, &[], vec![steps]);
        }
        let rules: Vec<&str> = self.parts.iter().map(|part| part.optimizer.as_str()).collect();
        serialize(&self.name, &arrays, ("optimizer", rules.join(" ")))
    }
}

impl SavedPart {
    /// Adds the states that torch keeps where β1 = 0, and leaves out the momentum of an SGD that has not stepped: torch's first momentum is the
    /// gradient.
    fn for_torch(
        &self,
        mut kept: Vec<(&'static str, Vec<f32>)>,
        elements: usize,
        has_stepped: bool,
    ) -> Vec<(&'static str, Vec<f32>)> {
        kept.retain(|(state, _)| *state != MOMENTUM || self.optimizer != "sgd" || has_stepped);
        let lacks = |state| !kept.iter().any(|(kept, _)| *kept == state);
        let moments = !lacks("exp_avg_sq") || !lacks(LARGEST);
        let (first, product) = (lacks(FIRST_MOMENT), lacks(MU_PRODUCT));
        if moments && first {
            kept.push((FIRST_MOMENT, vec![0.0; elements]));
        }
        if moments && product && self.optimizer == NAdam::NAME {
            kept.push((MU_PRODUCT, vec![if has_stepped { 1.0 } else { 0.0 }]));
        }
        kept
    }

    fn unknown_to_torch(&self) -> Error {
        Error::Usage(format!("torch has no optimizer `{}` with these states", self.optimizer))
    }
}

/// Restores torch's states into an optimizer, and the parameters where the file has them. Numbers may be F16, BF16, F32 or F64, a step count
/// also an integer, with no dimension or one. The optimizer rounds to nearest where its storage needs it. The step counts of tensors may differ
/// with [`Builder::partial_steps`](crate::Builder::partial_steps); that of a rule becomes its largest. torch's SGD and Muon have no step count: with
/// a momentum, they have made their first step.
///
/// # Errors
/// A tensor, a state or a step count that torch needs is missing; another shape or type; step counts that differ without `partial_steps`; an optimizer that torch
/// does not have; a `mu_product` outside of 0 to 1. Nothing is changed then.
pub fn restore_torch(name: &str, bytes: impl Into<Vec<u8>>, optimizer: &mut Optimizer) -> Result<()> {
    let file = TensorFile::parse(name, bytes.into())?;
    let mut writes = Vec::new();
    let partial = optimizer.spec.around.partial;
    // The largest step count of each rule, with a tensor that has it.
    let mut steps: Vec<Option<(u32, &str)>> = vec![None; optimizer.parts.len()];
    let mut own = Vec::new();
    for (tensor, name, shape) in optimizer.tensors() {
        let source = Source { file: &file, tensor: name };
        if let Some(values) = source.array(PARAM, shape)? {
            writes.push((tensor, PARAM, values));
        }
        // `write_param` writes the master or remainder too. A frozen tensor has no state.
        let states = torch_states(optimizer.rule(optimizer.group_of(tensor)?)?, shape)?;
        if optimizer.spec.tensors[tensor.index()].frozen {
            continue;
        }
        let part = optimizer.directory.tensors()[tensor.index()].part;
        let step = source.steps(optimizer.parts[part].spec.rule().name(), &states)?;
        let (first, of) = *steps[part].get_or_insert((step, name));
        if step != first && !partial {
            let [here, there] = [name, of].map(|tensor| quote(&format!("step/{tensor}")));
            return Err(file.error(format!(
                "{here} is {step}, {there} is {first}: all tensors of a rule have one count, tell the builder partial_steps(true)"
            )));
        }
        own.push((tensor, step));
        steps[part] = steps[part].max(Some((step, of)));
        for state in states {
            let values = source.state(state.of_torch, &torch_shape(state.of_torch, shape), step)?;
            if state.kept {
                writes.push((tensor, state.name, values));
            }
        }
    }
    let params = writes.iter().filter(|(_, array, _)| *array == PARAM);
    for (tensor, ..) in params {
        let place = optimizer.directory.tensors()[tensor.index()];
        optimizer.parts[place.part].check_writable(place.index)?;
    }
    let steps: Vec<u32> = steps.into_iter().map(|steps| steps.map_or(0, |(steps, _)| steps)).collect();
    optimizer.check_idle()?;
    optimizer.parts.iter_mut().zip(steps).try_for_each(|(part, steps)| part.write_step_count(steps))?;
    if partial {
        own.into_iter().try_for_each(|(tensor, step)| optimizer.write_tensor_step_count(tensor, step))?;
    }
    writes.into_iter().try_for_each(|(tensor, array, values)| match array {
        PARAM => optimizer.write_param(tensor, &values),
        state => optimizer.write_state(tensor, state, &values),
    })
}

/// torch's numbers of one tensor.
struct Source<'a> {
    file: &'a TensorFile,
    tensor: &'a str,
}

impl Source<'_> {
    fn key(&self, array: &str) -> String {
        format!("{array}/{}", self.tensor)
    }

    fn error(&self, array: &str, problem: impl std::fmt::Display) -> Error {
        self.file.error(format!("{} {problem}", quote(&self.key(array))))
    }

    /// An array of this shape in f32.
    fn array(&self, array: &str, shape: &[usize]) -> Result<Option<Vec<f32>>> {
        let Some(entry) = self.file.entry(&self.key(array)) else { return Ok(None) };
        match self.floats(entry) {
            Some(values) if entry.shape == shape => Ok(Some(values.into_iter().map(|x| x as f32).collect())),
            _ => {
                let problem = format!("is {:?} {:?}, needs F16, BF16, F32 or F64 {shape:?}", entry.dtype, entry.shape);
                Err(self.error(array, problem))
            }
        }
    }

    fn floats(&self, entry: &Entry) -> Option<Vec<f64>> {
        let widened =
            |format| self.file.at::<u16>(&entry.data).iter().map(|bits| widen(format, *bits).into()).collect();
        Some(match entry.dtype {
            Dtype::F16 => widened(Format::F16),
            Dtype::BF16 => widened(Format::Bf16),
            Dtype::F32 => self.file.at::<f32>(&entry.data).iter().copied().map(f64::from).collect(),
            Dtype::F64 => self.file.at::<f64>(&entry.data).into_owned(),
            _ => return None,
        })
    }

    /// A single number, which torch keeps without a dimension; some programs write it with one.
    fn number(&self, array: &str) -> Result<Option<f64>> {
        let Some(entry) = self.file.entry(&self.key(array)) else { return Ok(None) };
        let values = match entry.dtype {
            Dtype::I64 => Some(self.file.at::<i64>(&entry.data).iter().map(|x| *x as f64).collect()),
            Dtype::I32 => Some(self.file.at::<i32>(&entry.data).iter().copied().map(f64::from).collect()),
            _ => self.floats(entry),
        };
        match values.as_deref() {
            Some([value]) if entry.shape.len() <= 1 => Ok(Some(*value)),
            _ => {
                let problem = format!("is {:?} {:?}, needs one number", entry.dtype, entry.shape);
                Err(self.error(array, problem))
            }
        }
    }

    /// The count of steps after which torch saved the states.
    fn steps(&self, rule: &str, states: &[TorchState]) -> Result<u32> {
        let Some(steps) = self.number(STEP)? else {
            if ["sgd", "muon"].contains(&rule) {
                return Ok(u32::from(!states.is_empty()));
            }
            return Err(self.missing(STEP));
        };
        // An f32 count stands still at 2^24, and torch keeps its counts in f32.
        if !(steps >= 0.0 && steps.fract() == 0.0 && steps < 16_777_216.0) {
            return Err(self.error(STEP, format_args!("is {steps}, needs a whole number below 2^24")));
        }
        Ok(steps as u32)
    }

    /// The numbers of a state as this crate keeps it.
    fn state(&self, of_torch: &str, shape: &[usize], step: u32) -> Result<Vec<f32>> {
        let elements = shape.iter().product();
        if of_torch == MU_PRODUCT {
            let product = self.number(MU_PRODUCT)?.ok_or_else(|| self.missing(MU_PRODUCT))?;
            if !(0.0..=1.0).contains(&product) {
                return Err(self.error(MU_PRODUCT, format_args!("is {product}, needs a number in [0, 1]")));
            }
            return Ok(vec![(1.0 - product) as f32; elements]);
        }
        match self.array(of_torch, shape)? {
            Some(values) => Ok(values),
            None if of_torch == MOMENTUM && step == 0 => Ok(vec![0.0; elements]),
            None => Err(self.missing(of_torch)),
        }
    }

    fn missing(&self, array: &str) -> Error {
        self.error(array, "is missing: torch could not go on without it")
    }
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
