//! Where tensors lie, and which of them may share a launch.

use crate::gpu::build::buffers::{Ours, Sizes, Source, Spot, Which};
use crate::gpu::build::builder::Builder;
use crate::gpu::build::spec::{Home, Slice, TensorInfo, index_of};
use crate::gpu::layout::class::Class;
use crate::gpu::layout::launches::{Item, Limits, Place};
use crate::gpu::layout::rows::RowState;
use crate::gpu::layout::units::{VEC4, bytes_of};
use crate::optim::Rule;
use crate::options::storage::Format;
use crate::{Error, Result};

/// Where a tensor's parameters and gradients lie.
#[derive(Clone, Debug)]
pub(crate) struct Places<S = Slice> {
    pub(crate) param: S,
    pub(crate) grad: Option<S>,
}

impl Places<Spot> {
    /// The same, now that the crate's buffers are there.
    pub(crate) fn slices(&self, ours: &Ours) -> Places {
        Places { param: self.param.slice(ours), grad: self.grad.as_ref().map(|grad| grad.slice(ours)) }
    }
}

/// Finds every tensor's place; the crate's own go into as few buffers as the device allows.
pub(crate) fn place_tensors(
    builder: &Builder,
    most: u64,
    limits: Limits,
    sizes: &mut Sizes,
) -> Result<Vec<Places<Spot>>> {
    let mut own = |which, format| own_spots(&builder.tensors, most, limits, sizes, which, format);
    let params = own(Which::Parameters, |tensor| tensor.formats.params.format())?;
    let grads = own(Which::Gradients, |tensor| tensor.formats.grads)?;
    let place = |((tensor, own_param), own_grad): ((&TensorInfo, Option<Spot>), Option<Spot>)| match &tensor.home {
        Home::Bound { param, grad } => Some(Places { param: param.into(), grad: grad.as_ref().map(Spot::from) }),
        Home::Own => Some(Places { param: own_param?, grad: own_grad }),
    };
    Ok(builder.tensors.iter().zip(params).zip(grads).filter_map(place).collect())
}

/// Places what the crate's own tensors have of one kind, each at the device's alignment, in buffers no longer than `most`; of the
/// caller's tensors nothing.
fn own_spots(
    tensors: &[TensorInfo],
    most: u64,
    limits: Limits,
    sizes: &mut Sizes,
    which: fn(usize) -> Which,
    format: fn(&TensorInfo) -> Format,
) -> Result<Vec<Option<Spot>>> {
    let mut pages: Vec<u64> = Vec::new();
    let mut spots = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let size = bytes_of(tensor.elements, format(tensor));
        let bytes = size.next_multiple_of(VEC4).max(VEC4);
        if !matches!(tensor.home, Home::Own) {
            spots.push(None);
            continue;
        }
        if bytes > most {
            return Err(Error::Limit { limit: "max_buffer_size", actual: most, needs: bytes });
        }
        let behind = pages.last().map(|page| page.next_multiple_of(limits.alignment.max(VEC4)));
        let offset = behind.filter(|offset| offset + bytes <= most).unwrap_or_else(|| {
            pages.push(0);
            0
        });
        let page = pages.len() - 1;
        pages[page] = offset + bytes;
        spots.push(Some(Spot { source: Source::Ours(which(page)), offset, size: size.max(VEC4 / 4) }));
    }
    pages.into_iter().enumerate().for_each(|(page, bytes)| sizes.add(which(page), bytes));
    Ok(spots)
}

/// The classes of an optimizer's tensors: what changes a pipeline's text.
#[derive(Debug)]
pub(crate) struct Classes {
    pub(crate) variants: Vec<Class>,
    pub(crate) items: Vec<Item>,
    /// The buffers that the items' places number.
    pub(crate) sources: Vec<Source>,
}

impl Classes {
    pub(crate) fn new(builder: &Builder, places: &[Places<Spot>], state: &RowState, sum_lanes: u32) -> Self {
        let rules = united(builder, state);
        // A thread a sum adds the others'.
        let sum_lanes = sum_lanes.max((rules[0].sum_counts().0 as u32).next_multiple_of(8));
        let mut variants: Vec<Class> = Vec::new();
        let mut sources = Vec::new();
        let mut items = Vec::with_capacity(places.len());
        for (t, (tensor, places)) in builder.tensors.iter().zip(places).enumerate() {
            let param = place(&mut sources, &places.param, tensor.formats.params.format());
            let grad = places.grad.as_ref().map(|g| place(&mut sources, g, tensor.formats.grads));
            let moving = builder.dynamic_gradients;
            let shared = !moving && grad.as_ref().is_some_and(|g| g.buffer == param.buffer);
            let rows = state.text(t);
            let formats = tensor.formats.clone();
            let variant = Class { shared, moving, sum_lanes, rows, formats, ..rules[tensor.group].clone() };
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
            variants.push(Class { sum_lanes, ..rules[0].clone() });
        }
        Self { variants, items, sources: sources.into_iter().cloned().collect() }
    }
}

fn place<'a>(sources: &mut Vec<&'a Source>, spot: &'a Spot, format: Format) -> Place {
    Place { buffer: index_of(sources, &spot.source), offset: spot.offset, unit: 4 * format.bytes() }
}

/// Each group's variant. A rule with sums has one text for all its groups, because its sums are decided in one pass: a state that
/// one group needs is kept for all, which changes no result.
fn united(builder: &Builder, state: &RowState) -> Vec<Class> {
    let groups = &builder.groups;
    let variant =
        |rule: &dyn Rule| Class { given: builder.given_directions, ..Class::with(rule, builder.around, groups.len()) };
    let mut variants: Vec<Class> = groups.iter().map(|g| variant(g.rule.as_ref())).collect();
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
    let stored = |tensor: &TensorInfo| Class { formats: tensor.formats.clone(), ..variants[tensor.group].clone() };
    let packs = builder.tensors.iter().any(|tensor| stored(tensor).array_counts().packs());
    let chances = builder.tensors.iter().any(|tensor| stored(tensor).takes_chances());
    let in_control = (state.masks() || packs) && !variants[0].rounds().is_empty();
    for variant in &mut variants {
        variant.counted = counted;
        variant.chances = chances;
        variant.scalars_in_control = in_control.then(|| variant.all_decisions(tensors));
    }
    variants
}
