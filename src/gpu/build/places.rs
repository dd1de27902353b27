//! The places of tensors, and their classes: tensors of one class may share a shard.

use std::ops::Range;

use crate::gpu::build::buffers::{Sizes, Source, Which};
use crate::gpu::build::spec::Spec;
use crate::gpu::build::spec::{Home, Slice, TensorInfo, index_of};
use crate::gpu::layout::class::{Class, FactorText};
use crate::gpu::layout::factors::FactorPlan;
use crate::gpu::layout::item::Item;
use crate::gpu::layout::rows::RowState;
use crate::gpu::layout::units::{VEC4, bytes_of};
use crate::gpu::layout::windows::{Limits, Place};
use crate::optim::Rule;
use crate::options::storage::Format;
use crate::{Error, Result};

/// The places of a tensor's parameters and gradients.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) param: Place,
    /// `None`: the tensor was bound without gradients.
    pub(crate) grad: Option<Place>,
}

/// The places of all tensors, and the buffers that the places number.
#[derive(Debug, Default)]
pub(crate) struct Planned {
    pub(crate) places: Vec<Places>,
    pub(crate) sources: Vec<Source>,
}

impl Planned {
    /// Finds the place of every tensor. The crate's tensors go into as few buffers as the device allows.
    ///
    /// # Errors
    /// A tensor is longer than the device's buffers may be.
    pub(crate) fn new(spec: &Spec, device: &wgpu::Limits, sizes: &mut Sizes) -> Result<Self> {
        let mut params = Pages::new(Which::Parameters, device);
        let mut grads = Pages::new(Which::Gradients, device);
        let mut planned = Self::default();
        for tensor in &spec.tensors {
            let formats = [tensor.formats.params.format(), tensor.formats.grads];
            let (param, grad) = match &tensor.home {
                Home::Bound { param, grad } => (bound(param), grad.as_ref().map(bound)),
                Home::Own => {
                    let [param, grad] = formats.map(|format| bytes_of(tensor.elements, format));
                    (params.place(tensor, "parameters", param)?, Some(grads.place(tensor, "gradients", grad)?))
                }
            };
            let [param_format, grad_format] = formats;
            let param = planned.number(param, param_format);
            let grad = grad.map(|grad| planned.number(grad, grad_format));
            planned.places.push(Places { param, grad });
        }
        params.plan(sizes);
        grads.plan(sizes);
        Ok(planned)
    }

    fn number(&mut self, (source, range): (Source, Range<u64>), format: Format) -> Place {
        let buffer = index_of(&mut self.sources, source);
        Place { buffer, offset: range.start, size: range.end - range.start, unit: 4 * format.bytes() }
    }
}

fn bound(slice: &Slice) -> (Source, Range<u64>) {
    (Source::Caller(slice.buffer.clone()), slice.offset..slice.offset + slice.size)
}

/// The crate's buffers of one kind, filled one after the other. Each range begins at the device's alignment.
struct Pages {
    which: fn(usize) -> Which,
    /// The largest buffer of the device, in bytes.
    most: u64,
    alignment: u64,
    lengths: Vec<u64>,
}

impl Pages {
    fn new(which: fn(usize) -> Which, device: &wgpu::Limits) -> Self {
        let alignment = Limits::of(device).alignment.max(VEC4);
        Self { which, most: device.max_buffer_size, alignment, lengths: Vec::new() }
    }

    /// Places a range of `size` bytes. An empty range gets a vec4 of room, because no binding is empty.
    fn place(&mut self, tensor: &TensorInfo, what: &str, size: u64) -> Result<(Source, Range<u64>)> {
        let bytes = size.next_multiple_of(VEC4).max(VEC4);
        if bytes > self.most {
            return Err(too_large(tensor, what, bytes, self.most));
        }
        let behind = self.lengths.last().map(|length| length.next_multiple_of(self.alignment));
        let offset = behind.filter(|offset| offset + bytes <= self.most).unwrap_or_else(|| {
            self.lengths.push(0);
            0
        });
        let page = self.lengths.len() - 1;
        self.lengths[page] = offset + bytes;
        Ok((Source::Crate((self.which)(page)), offset..offset + size.max(VEC4 / 4)))
    }

    fn plan(self, sizes: &mut Sizes) {
        self.lengths.iter().enumerate().for_each(|(page, bytes)| sizes.add((self.which)(page), *bytes));
    }
}

/// The error for a tensor that no buffer of the device holds, with the tensors or formats that would fit.
fn too_large(tensor: &TensorInfo, what: &str, bytes: u64, most: u64) -> Error {
    let half = bytes_of(tensor.elements, Format::Bf16).next_multiple_of(VEC4);
    let smaller = if half < bytes && half <= most {
        format!("store them in half precision (Builder::storage), which takes {half} bytes; ")
    } else {
        String::new()
    };
    tensor.error(format!(
        "its {what} have {bytes} bytes, but the device's max_buffer_size is {most}, needs at least {bytes}: {smaller}split the tensor \
         into {} tensors; or request the adapter's limits for the device",
        bytes.div_ceil(most / VEC4 * VEC4)
    ))
}

/// The classes of the tensors of an optimizer.
#[derive(Debug)]
pub(crate) struct Classes {
    /// The classes, each once.
    pub(crate) distinct: Vec<Class>,
    pub(crate) items: Vec<Item>,
    /// `None`: no tensor keeps factors.
    pub(crate) factors: Option<FactorPlan>,
}

impl Classes {
    pub(crate) fn new(spec: &Spec, places: &[Places], state: &RowState, sum_lanes: u32) -> Self {
        let (rules, factors) = united(spec, state);
        // One thread per sum adds the sums of the other threads.
        let sum_lanes = sum_lanes.max((rules[0].sum_counts().0 as u32).next_multiple_of(8));
        let mut classes: Vec<Class> = Vec::new();
        let mut items = Vec::with_capacity(places.len());
        for (t, (tensor, places)) in spec.tensors.iter().zip(places).enumerate() {
            let Places { param, grad } = places.clone();
            let dynamic_gradients = spec.dynamic_gradients;
            let shared = !dynamic_gradients && grad.as_ref().is_some_and(|g| g.buffer == param.buffer);
            let rows = state.text(t);
            let formats = tensor.formats.clone();
            let class = Class { shared, dynamic_gradients, sum_lanes, rows, formats, ..rules[tensor.group].clone() };
            let matrices = factors.as_ref().and_then(|factors| factors.matrices(t));
            let class = if matrices.is_some() { class.of_matrices(spec.rule_of(tensor)) } else { class };
            let class = classes.iter().position(|v| *v == class).unwrap_or_else(|| {
                classes.push(class);
                classes.len() - 1
            });
            let arrays = classes[class].array_counts();
            let range = if tensor.frozen { 0..0 } else { tensor.range() };
            let (first, elements) = (range.start, range.end - range.start);
            let (param, grad) = (param.at(first), grad.filter(|_| !dynamic_gradients).map(|grad| grad.at(first)));
            let (group, chunk) = (tensor.group as u32, state.chunk(t, tensor));
            items.push(Item { first, elements, group, class, chunk, arrays, matrices, param, grad });
        }
        if classes.is_empty() {
            classes.push(Class { sum_lanes, ..rules[0].clone() });
        }
        Self { distinct: classes, items, factors }
    }
}

/// The class of each group. A rule with sums has one text for all groups, because one pass decides from the sums: a state that one group
/// needs is kept for all groups, which changes no result.
fn united(spec: &Spec, state: &RowState) -> (Vec<Class>, Option<FactorPlan>) {
    let groups = &spec.groups;
    let class = |rule: &dyn Rule| Class {
        given: spec.given_directions,
        exchanges: spec.exchanges,
        ..Class::with(rule, spec.around, groups.len())
    };
    let mut classes: Vec<Class> = groups.iter().map(|g| class(g.rule.as_ref())).collect();
    if groups[0].rule.sums().sums > 0 {
        let used = |k: usize| classes.iter().any(|v| v.states[k].used);
        let all: Vec<bool> = (0..classes[0].states.len()).map(used).collect();
        for class in &mut classes {
            for (state, &used) in class.states.iter_mut().zip(&all) {
                state.used = used;
            }
        }
    }
    let leaves = state.selects() || spec.around.partial;
    let (counted, tensors) = (leaves && groups[0].rule.sums().sums > 0, spec.tensors.len());
    let stored = |tensor: &TensorInfo| Class { formats: tensor.formats.clone(), ..classes[tensor.group].clone() };
    let packs = spec.tensors.iter().any(|tensor| stored(tensor).array_counts().packs());
    let stochastic = spec.tensors.iter().any(|tensor| stored(tensor).rounds_stochastically());
    let in_control = (state.masks() || packs) && !classes[0].rounds().is_empty();
    let decisions = classes[0].all_decisions(tensors);
    let factors = FactorPlan::new(spec, decisions);
    let text = factors.as_ref().map(|plan| FactorText { spec: plan.spec, table: plan.table, matrix: false });
    let end = factors.as_ref().map_or(decisions, |plan| plan.end);
    for class in &mut classes {
        class.factors = text;
        class.counted = counted;
        class.stochastic = stochastic;
        class.scalars_in_control = in_control.then_some(end);
    }
    (classes, factors)
}
