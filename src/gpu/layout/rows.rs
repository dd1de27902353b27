//! Row sets of an optimizer: the rows that a step takes, the count of rows in use, and the rate of each column.

use std::collections::BTreeSet;

use crate::gpu::build::blame::is_destroyed;
use crate::gpu::build::buffers::{Buffers, Created, OWNED, Sizes, Source, Which};
use crate::gpu::build::spec::{Mask, Spec, TensorInfo, index_of};
use crate::gpu::layout::class::RowText;
use crate::gpu::layout::units::{CHUNK, VEC4};
use crate::gpu::layout::windows::{Limits, Place, Window};
use crate::{Error, Result};

/// Words of `wo_Member` of `shaders/harness/rows.wgsl`, rounded up to vec4s.
const MEMBER: usize = 8;

/// The work of a remap or a reset on a tensor: `wo_Member.task`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Task {
    Nothing,
    /// The rows that the indices name.
    Indexed,
    /// Every row.
    Whole,
}

/// A row set of a built optimizer.
#[derive(Debug)]
pub(crate) struct SetState {
    pub(crate) name: String,
    pub(crate) tensors: Vec<usize>,
    pub(crate) capacity: usize,
    /// Whether its rows may be remapped.
    pub(crate) reserved: bool,
    pub(crate) live: usize,
    /// The count of rows that were in use before the last remap.
    pub(crate) source: usize,
    pub(crate) mask: Option<Place>,
    pub(crate) nonzero: bool,
    pub(crate) fresh: bool,
}

/// The row sets of an optimizer and its columns' rates.
#[derive(Debug)]
pub(crate) struct RowState {
    pub(crate) sets: Vec<SetState>,
    pub(crate) set_of: Vec<Option<usize>>,
    /// The column rates of each tensor; empty if the tensor has none.
    pub(crate) columns: Vec<Vec<f32>>,
    /// The tensors that keep one second moment per row.
    pub(crate) shared: BTreeSet<usize>,
    /// The buffers that hold masks.
    sources: Vec<Source>,
    /// The window of each of these buffers that is bound.
    masks: Vec<Window>,
    /// The crate's buffer of masks, once it exists.
    created: Created,
}

impl RowState {
    pub(crate) fn new(spec: &Spec, limits: Limits) -> Result<Self> {
        let info = &spec.rows;
        let mut state = Self {
            sets: Vec::with_capacity(info.sets.len()),
            set_of: vec![None; spec.tensors.len()],
            columns: vec![Vec::new(); spec.tensors.len()],
            shared: info.shared.clone(),
            sources: Vec::new(),
            masks: Vec::new(),
            created: Created::new(),
        };
        let mut own = 0;
        for (index, set) in info.sets.iter().enumerate() {
            let capacity = spec.capacity(set);
            let live = spec.tensors[set.tensors[0]].shape[0];
            let mask = match &set.mask {
                Mask::Bound(slice) => Some((Source::Caller(slice.buffer.clone()), slice.offset, slice.size)),
                Mask::Own => {
                    let (offset, size) = (own, capacity as u64 * 4);
                    own += size;
                    Some((Source::Crate(Which::Masks), offset, size))
                }
                Mask::Joint(offset) => Some((Source::Crate(Which::JointMasks), *offset, capacity as u64 * 4)),
                Mask::None => None,
            };
            let mask = mask.map(|(source, offset, size)| {
                let buffer = index_of(&mut state.sources, source);
                Place { buffer, offset, size, unit: VEC4 }
            });
            set.tensors.iter().for_each(|&t| state.set_of[t] = Some(index));
            let (name, tensors) = (set.name.clone(), set.tensors.clone());
            let (reserved, nonzero, fresh) = (set.reserved.is_some(), set.nonzero, set.fresh);
            state.sets.push(SetState { name, tensors, capacity, reserved, live, source: live, mask, nonzero, fresh });
        }
        for (&tensor, rates) in &info.columns {
            state.columns[tensor] = rates.iter().map(|r| *r as f32).collect();
        }
        state.bind_masks(limits)?;
        Ok(state)
    }

    /// Plans the crate's buffer of masks, if a set has such a mask.
    pub(crate) fn plan(&self, sizes: &mut Sizes) {
        if let Some(bytes) = self.mask_bytes(|source| *source == Source::Crate(Which::Masks)) {
            sizes.add(Which::Masks, bytes);
        }
    }

    /// Creates the buffer with every row flagged, so that a step takes every row until the caller writes the mask. `joint` holds the masks of
    /// sets with tensors in several parts.
    pub(crate) fn create(&mut self, buffers: &Buffers<'_>, joint: Option<&wgpu::Buffer>) -> Result<()> {
        self.created.extend(joint.map(|joint| (Which::JointMasks, joint.clone())));
        let rows = buffers.sizes.of(Which::Masks) as usize / 4;
        if rows > 0 {
            let flags = vec![1_u32; rows];
            self.created.insert(Which::Masks, buffers.create_with(Which::Masks, OWNED, bytemuck::cast_slice(&flags))?);
        }
        Ok(())
    }

    /// Bytes of the masks that lie in buffers that `which` picks. `None`: no mask lies in such a buffer.
    pub(crate) fn mask_bytes(&self, which: impl Fn(&Source) -> bool) -> Option<u64> {
        let masks = self.sets.iter().filter_map(|set| set.mask.as_ref());
        masks.filter(|mask| which(&self.sources[mask.buffer])).map(|mask| mask.size).reduce(|sum, size| sum + size)
    }

    /// Makes one window per buffer of masks.
    fn bind_masks(&mut self, limits: Limits) -> Result<()> {
        for mask in self.sets.iter().filter_map(|s| s.mask.as_ref()) {
            let start = mask.offset / limits.alignment * limits.alignment;
            let end = mask.offset + mask.size.max(4);
            match self.masks.get_mut(mask.buffer) {
                Some(Window { range, .. }) => *range = range.start.min(start)..range.end.max(end),
                // Masks number their buffers in order of appearance.
                None => self.masks.push(Window { buffer: mask.buffer, range: start..end }),
            }
        }
        let lengths = self.masks.iter().map(|window| window.range.end - window.range.start);
        match lengths.into_iter().find(|length| *length > limits.window) {
            None => Ok(()),
            Some(needs) => Err(Error::Limit { limit: "max_storage_buffer_binding_size", actual: limits.window, needs }),
        }
    }

    /// Whether there are row sets, so that steps may leave out rows.
    pub(crate) fn selects(&self) -> bool {
        !self.sets.is_empty()
    }

    /// Whether any set has a mask.
    pub(crate) fn masks(&self) -> bool {
        !self.masks.is_empty()
    }

    /// The needs of a tensor for rows, which its class serves.
    pub(crate) fn text(&self, tensor: usize) -> Option<RowText> {
        let set = self.set_of[tensor].map(|set| &self.sets[set]);
        let shared = self.shared.contains(&tensor);
        if set.is_none() && self.columns[tensor].is_empty() && !shared {
            return None;
        }
        let mask = set.and_then(|set| set.mask.as_ref());
        Some(RowText {
            mask: mask.map(|mask| mask.buffer),
            nonzero: set.is_some_and(|set| set.nonzero),
            columns: self.columns.iter().any(|rates| !rates.is_empty()),
            shared,
            fresh: set.is_some_and(|set| set.fresh),
        })
    }

    /// Elements of a chunk of a tensor: whole rows, if a row shares one second moment.
    pub(crate) fn chunk(&self, tensor: usize, info: &TensorInfo) -> u64 {
        let width = info.width() as u64;
        if !self.shared.contains(&tensor) || width == 0 {
            return CHUNK;
        }
        // The fewest elements that are whole rows and whole vec4s.
        let whole = width * [1, 4, 2, 4][(width % 4) as usize];
        CHUNK / whole * whole
    }

    /// The binding of the buffer of masks of a class.
    pub(crate) fn mask_binding(&self, text: Option<RowText>) -> wgpu::BindingResource<'_> {
        let window = &self.masks[text.and_then(|text| text.mask).unwrap_or(0)];
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: self.mask_buffer(window.buffer),
            offset: window.range.start,
            size: wgpu::BufferSize::new(window.range.end - window.range.start),
        })
    }

    /// Checks that no buffer of masks of the caller was destroyed.
    pub(crate) fn check_masks(&self) -> Result<()> {
        let of_caller = |set: &SetState| self.sources[set.mask.as_ref()?.buffer].of_caller();
        let destroyed = |set: &&SetState| of_caller(set).is_some_and(is_destroyed);
        let problem =
            "the buffer of its mask was destroyed: build the optimizer again with a buffer that lives as long";
        self.sets.iter().find(destroyed).map_or(Ok(()), |set| Err(set.error(problem)))
    }

    /// The buffer of masks of this number.
    pub(crate) fn mask_buffer(&self, number: usize) -> &wgpu::Buffer {
        self.sources[number].buffer(&self.created)
    }

    /// The table of a call: one `wo_Member` per tensor, then the rates of columns. Empty if no class needs the table.
    pub(crate) fn table(&self, tensors: &[TensorInfo]) -> Vec<u32> {
        self.table_for(tensors, |_| Task::Nothing)
    }

    pub(crate) fn table_for(&self, tensors: &[TensorInfo], task: impl Fn(usize) -> Task) -> Vec<u32> {
        if (0..tensors.len()).all(|t| self.text(t).is_none()) {
            return Vec::new();
        }
        let mut table = Vec::with_capacity(tensors.len() * MEMBER);
        let mut rates: Vec<u32> = Vec::new();
        for (t, info) in tensors.iter().enumerate() {
            let set = self.set_of[t].map(|set| &self.sets[set]);
            let columns = tensors.len() * MEMBER + rates.len();
            if let Some(RowText { columns: true, .. }) = self.text(t).filter(|_| info.elements > 0) {
                let own = self.columns[t].iter().map(|r| r.to_bits());
                rates.extend(own.chain(std::iter::repeat_n(1_f32.to_bits(), info.width() - self.columns[t].len())));
            }
            table.extend([
                info.width().max(1) as u32,
                info.used() as u32,
                set.map_or(0, |s| s.source as u32),
                task(t) as u32,
                set.and_then(|s| s.mask.as_ref()).map_or(0, |mask| self.first_word(mask)),
                columns as u32,
                0,
                0,
            ]);
        }
        table.extend(rates);
        table.resize(table.len().next_multiple_of((VEC4 / 4) as usize), 0);
        table
    }

    /// The first word of a mask in its window.
    pub(crate) fn first_word(&self, mask: &Place) -> u32 {
        ((mask.offset - self.masks[mask.buffer].range.start) / 4) as u32
    }
}

impl SetState {
    pub(crate) fn error(&self, problem: &str) -> Error {
        Error::Usage(format!("row set `{}`: {problem}", self.name))
    }
}

impl TensorInfo {
    /// Elements of a row.
    pub(crate) fn width(&self) -> usize {
        usize::try_from(count(self.shape.get(1..).unwrap_or_default())).unwrap_or(usize::MAX)
    }

    /// For errors: the row capacity, if it is larger than the first dimension of the shape.
    pub(crate) fn room(&self) -> String {
        let rows = self.elements / (self.width() as u64).max(1);
        if self.elements == self.used() { String::new() } else { format!(" for the {rows} rows that are reserved") }
    }

    /// Elements in the rows in use; all elements of a tensor without row set.
    pub(crate) fn used(&self) -> u64 {
        count(&self.shape)
    }
}

/// The elements of a shape; `u64::MAX` where u64 cannot count them.
pub(crate) fn count(shape: &[usize]) -> u64 {
    if shape.contains(&0) {
        return 0;
    }
    shape.iter().fold(1_u64, |n, &d| n.saturating_mul(d as u64))
}
