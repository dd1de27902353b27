//! Where tensors lie, and which of them may share a launch.

use super::builder::{Builder, Home, Slice, TensorInfo, index_of};
use super::checks::bytes_of;
use super::create::{OWNED, buffer};
use super::layout::{Item, Limits, Place, VEC4};
use super::rows::RowState;
use super::variant::Variant;
use crate::optim::Rule;
use crate::storage::Format;
use crate::{Error, Result};

/// Where a tensor's parameters and gradients lie.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) param: Slice,
    pub(super) grad: Option<Slice>,
}

/// Finds every tensor's place; the crate's own go into as few buffers as the device allows.
pub(super) fn place_tensors(builder: &Builder, device: &wgpu::Device, limits: Limits) -> Result<Vec<Places>> {
    let own = |what: &str, extra, format: fn(&TensorInfo) -> Format| -> Result<Vec<Option<Slice>>> {
        let pages = Pages::of(&builder.tensors, device.limits().max_buffer_size, limits, format)?;
        let page =
            |(i, &size): (usize, &u64)| buffer(device, &builder.label, &format!("{what} {i}"), size, OWNED | extra);
        let buffers: Vec<wgpu::Buffer> = pages.sizes.iter().enumerate().map(page).collect::<Result<_>>()?;
        let slice = |(tensor, spot): (&TensorInfo, Option<(usize, u64)>)| {
            let (page, offset) = spot?;
            let size = bytes_of(tensor.elements, format(tensor)).max(VEC4 / 4);
            Some(Slice { buffer: buffers[page].clone(), offset, size })
        };
        Ok(builder.tensors.iter().zip(pages.spots).map(slice).collect())
    };
    let params = own("parameters", builder.param_usages, |tensor| tensor.formats.params.format())?;
    let grads = own("gradients", builder.grad_usages, |tensor| tensor.formats.grads)?;
    let place = |((tensor, own_param), own_grad): ((&TensorInfo, Option<Slice>), Option<Slice>)| match &tensor.home {
        Home::Bound { param, grad } => Some(Places { param: param.clone(), grad: grad.clone() }),
        Home::Own => Some(Places { param: own_param?, grad: own_grad }),
    };
    Ok(builder.tensors.iter().zip(params).zip(grads).filter_map(place).collect())
}

/// The crate's buffers for what tensors have of one kind: as few as the device allows.
pub(super) struct Pages {
    pub(super) sizes: Vec<u64>,
    /// Each tensor's buffer and offset; none in the caller's.
    spots: Vec<Option<(usize, u64)>>,
}

impl Pages {
    pub(super) fn of(
        tensors: &[TensorInfo],
        max: u64,
        limits: Limits,
        format: impl Fn(&TensorInfo) -> Format,
    ) -> Result<Self> {
        let mut pages = Self { sizes: vec![0], spots: Vec::with_capacity(tensors.len()) };
        for tensor in tensors {
            let bytes = bytes_of(tensor.elements, format(tensor)).next_multiple_of(VEC4).max(VEC4);
            if !matches!(tensor.home, Home::Own) {
                pages.spots.push(None);
                continue;
            }
            if bytes > max {
                return Err(Error::Limit { limit: "max_buffer_size", actual: max, needs: bytes });
            }
            let mut page = pages.sizes.len() - 1;
            let mut offset = pages.sizes[page].next_multiple_of(limits.alignment.max(VEC4));
            if offset + bytes > max {
                pages.sizes.push(0);
                (page, offset) = (page + 1, 0);
            }
            pages.sizes[page] = offset + bytes;
            pages.spots.push(Some((page, offset)));
        }
        Ok(pages)
    }
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
            let param = place(&mut buffers, &places.param, tensor.formats.params.format());
            let grad = places.grad.as_ref().map(|g| place(&mut buffers, g, tensor.formats.grads));
            let moving = builder.moving_gradients;
            let shared = !moving && grad.as_ref().is_some_and(|g| g.buffer == param.buffer);
            let rows = state.text(t);
            let formats = tensor.formats.clone();
            let variant = Variant { shared, moving, sum_lanes, rows, formats, ..rules[tensor.group].clone() };
            let class = variants.iter().position(|v| *v == variant).unwrap_or_else(|| {
                variants.push(variant);
                variants.len() - 1
            });
            let arrays = variants[class].array_counts();
            let elements = if tensor.frozen { 0 } else { tensor.elements };
            let grad = grad.filter(|_| !moving);
            let (group, chunk) = (tensor.group as u32, state.chunk(t, tensor));
            items.push(Item { elements, group, class, chunk, arrays, param, grad });
        }
        if variants.is_empty() {
            variants.push(Variant { sum_lanes, ..rules[0].clone() });
        }
        Self { variants, items, buffers: buffers.into_iter().cloned().collect() }
    }
}

fn place<'a>(buffers: &mut Vec<&'a wgpu::Buffer>, slice: &'a Slice, format: Format) -> Place {
    Place { buffer: index_of(buffers, &slice.buffer), offset: slice.offset, unit: 4 * format.bytes() }
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
    let stored = |tensor: &TensorInfo| Variant { formats: tensor.formats.clone(), ..variants[tensor.group].clone() };
    let packs = builder.tensors.iter().any(|tensor| stored(tensor).array_counts().packs());
    let chances = builder.tensors.iter().any(|tensor| stored(tensor).takes_chances());
    let packed = (state.masks() || packs) && !variants[0].rounds().is_empty();
    for variant in &mut variants {
        variant.counted = counted;
        variant.chances = chances;
        variant.packed = packed.then(|| variant.all_decisions(tensors));
    }
    variants
}
