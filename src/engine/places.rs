//! Where tensors lie, and which of them may share a launch.

use super::builder::{Builder, Slice, Storage, TensorInfo, index_of};
use super::create::{OWNED, buffer};
use super::layout::{Item, Limits, Place, VEC4};
use super::rows::RowState;
use super::variant::Variant;
use crate::optim::Rule;
use crate::{Error, Result};

/// Where a tensor's parameters and gradients lie.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) param: Slice,
    pub(super) grad: Option<Slice>,
}

/// Finds every tensor's place; the crate's own go into as few buffers as the device allows.
pub(super) fn place_tensors(builder: &Builder, device: &wgpu::Device, limits: Limits) -> Result<Vec<Places>> {
    let max = device.limits().max_buffer_size;
    let mut pages: Vec<u64> = vec![0];
    let mut at = Vec::with_capacity(builder.tensors.len());
    for tensor in &builder.tensors {
        let bytes = (tensor.elements * 4).next_multiple_of(VEC4).max(VEC4);
        if !matches!(tensor.storage, Storage::Own) {
            at.push((0, 0));
            continue;
        }
        if bytes > max {
            return Err(Error::Limit { limit: "max_buffer_size", actual: max, needs: bytes });
        }
        let mut page = pages.len() - 1;
        let mut offset = pages[page].next_multiple_of(limits.alignment.max(VEC4));
        if offset + bytes > max {
            pages.push(0);
            (page, offset) = (page + 1, 0);
        }
        pages[page] = offset + bytes;
        at.push((page, offset));
    }
    let make = |what: &str, extra| -> Result<Vec<wgpu::Buffer>> {
        let page =
            |(i, &size): (usize, &u64)| buffer(device, &builder.label, &format!("{what} {i}"), size, OWNED | extra);
        pages.iter().enumerate().map(page).collect()
    };
    let params = make("parameters", builder.param_usages)?;
    let grads = make("gradients", builder.grad_usages)?;
    let own = |buffers: &[wgpu::Buffer], (page, offset): (usize, u64), tensor: &TensorInfo| Slice {
        buffer: buffers[page].clone(),
        offset,
        size: (tensor.elements * 4).max(VEC4 / 4),
    };
    Ok(builder
        .tensors
        .iter()
        .zip(at)
        .map(|(tensor, at)| match &tensor.storage {
            Storage::Own => Places { param: own(&params, at, tensor), grad: Some(own(&grads, at, tensor)) },
            Storage::Bound { param, grad } => Places { param: param.clone(), grad: grad.clone() },
        })
        .collect())
}

/// The classes of an optimizer's tensors: what changes a pipeline's text.
pub(super) struct Classes {
    pub(super) variants: Vec<Variant>,
    pub(super) items: Vec<Item>,
    /// The buffers that the items' places number.
    pub(super) buffers: Vec<wgpu::Buffer>,
}

impl Classes {
    pub(super) fn new(builder: &Builder, places: &[Places], state: &RowState, sum_lanes: u32) -> Self {
        let rules = united(builder, state);
        // A thread a sum adds the others'.
        let sum_lanes = sum_lanes.max((rules[0].sum_counts().0 as u32).next_multiple_of(8));
        let mut variants: Vec<Variant> = Vec::new();
        let mut buffers = Vec::new();
        let mut items = Vec::with_capacity(places.len());
        for (t, (tensor, places)) in builder.tensors.iter().zip(places).enumerate() {
            let param = Place { buffer: index_of(&mut buffers, &places.param.buffer), offset: places.param.offset };
            let grad =
                places.grad.as_ref().map(|g| Place { buffer: index_of(&mut buffers, &g.buffer), offset: g.offset });
            let moving = builder.moving_gradients;
            let shared = !moving && grad.as_ref().is_some_and(|g| g.buffer == param.buffer);
            let rows = state.text(t);
            let variant = Variant { shared, moving, sum_lanes, rows, ..rules[tensor.group].clone() };
            let class = variants.iter().position(|v| *v == variant).unwrap_or_else(|| {
                variants.push(variant);
                variants.len() - 1
            });
            let states = variants[class].slots().len() as u64;
            let elements = if tensor.frozen { 0 } else { tensor.elements };
            let grad = grad.filter(|_| !moving);
            let (group, chunk) = (tensor.group as u32, state.chunk(t, tensor));
            items.push(Item { elements, group, class, chunk, states, param, grad });
        }
        if variants.is_empty() {
            variants.push(Variant { sum_lanes, ..rules[0].clone() });
        }
        Self { variants, items, buffers: buffers.into_iter().cloned().collect() }
    }
}

/// Each group's variant. A rule with sums has one text for all its groups, because its sums are decided in one pass: a state that
/// one group needs is kept for all, which changes no result.
fn united(builder: &Builder, state: &RowState) -> Vec<Variant> {
    let groups = &builder.groups;
    let variant = |rule: &dyn Rule| Variant {
        given: builder.given_directions,
        ..Variant::with(rule, builder.around, groups.len())
    };
    let mut variants: Vec<Variant> = groups.iter().map(|g| variant(g.rule.as_ref())).collect();
    if groups[0].rule.sums().sums > 0 {
        let used = |k: usize| variants.iter().any(|v| v.states[k].used);
        let all: Vec<bool> = (0..variants[0].states.len()).map(used).collect();
        for variant in &mut variants {
            for (state, &used) in variant.states.iter_mut().zip(&all) {
                state.used = used;
            }
        }
    }
    let (counted, tensors) = (state.selects() && groups[0].rule.sums().sums > 0, builder.tensors.len());
    let packed = state.masks() && !variants[0].rounds().is_empty();
    for variant in &mut variants {
        variant.counted = counted;
        variant.packed = packed.then(|| variant.all_decisions(tensors));
    }
    variants
}
