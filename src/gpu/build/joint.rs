//! The buffers that the parts of an optimizer share: the totals, so that one dispatch exchanges the norms of all parts, and the masks of row
//! sets with tensors in several parts. An optimizer with one part has none.

use crate::gpu::build::buffers::{Buffers, OWNED, Sizes, Which};
use crate::gpu::build::plan::Plan;
use crate::gpu::build::spec::{Mask, Slice, Spec};
use crate::gpu::layout::memory::{MemoryUsage, Owner, Role};
use crate::gpu::layout::units::VEC4;
use crate::gpu::layout::windows::Limits;
use crate::{Error, Result};

/// The plan of the shared buffers.
#[derive(Debug, Default)]
pub(crate) struct JointPlan {
    pub(crate) sizes: Sizes,
    /// The bytes of the masks.
    masks: u64,
    /// Where the totals of each part begin in the buffer, and their bytes; empty if the parts exchange nothing.
    totals: Vec<(u64, u64)>,
    /// The index of each part's squared norm in the totals, in vec4s.
    pub(crate) norms: Vec<u32>,
}

/// The shared buffers.
#[derive(Debug, Default)]
pub(crate) struct Joint {
    /// One range per part; empty if the parts exchange nothing.
    pub(crate) totals: Vec<Slice>,
    pub(crate) masks: Option<wgpu::Buffer>,
}

impl JointPlan {
    /// # Errors
    /// The device's limits are too low.
    pub(crate) fn new(specs: &[Spec], plans: &[Plan], device: &wgpu::Limits) -> Result<Self> {
        let mut plan = Self::default();
        plan.plan_masks(specs);
        if specs.iter().any(|spec| spec.exchanges) {
            plan.plan_totals(plans, device)?;
        }
        Ok(plan)
    }

    fn plan_masks(&mut self, specs: &[Spec]) {
        let sets = specs.iter().flat_map(|spec| spec.rows.sets.iter().map(move |set| (spec, set)));
        let ends = sets.filter_map(|(spec, set)| match set.mask {
            Mask::Joint(offset) => Some(offset + spec.capacity(set) as u64 * 4),
            Mask::None | Mask::Own | Mask::Bound(_) => None,
        });
        if let Some(bytes) = ends.max() {
            self.masks = bytes;
            self.sizes.add(Which::JointMasks, bytes);
        }
    }

    fn plan_totals(&mut self, plans: &[Plan], device: &wgpu::Limits) -> Result<()> {
        let Limits { alignment, window, .. } = Limits::of(device);
        let mut end = 0_u64;
        for part in plans {
            let (offset, bytes) = (end.next_multiple_of(alignment), part.sizes.of(Which::Totals(0)));
            self.totals.push((offset, bytes));
            // The squared norm and the count of numbers that are not finite are the last two totals of a record.
            self.norms.push((offset / VEC4) as u32 + part.totals_per_record() as u32 - 2);
            end = offset + bytes;
        }
        if end > window {
            let limit = "max_storage_buffer_binding_size";
            return Err(Error::Limit { limit, actual: window, needs: end });
        }
        self.sizes.add(Which::JointTotals, end);
        self.sizes.add(Which::Exchange, size_of_val(self.norms.as_slice()) as u64);
        Ok(())
    }

    /// Creates the shared buffers. All rows are flagged at first.
    pub(crate) fn create(&self, buffers: &Buffers<'_>) -> Result<Joint> {
        let flags = vec![1_u32; self.masks as usize / 4];
        let masks = (self.masks > 0)
            .then(|| buffers.create_with(Which::JointMasks, OWNED, bytemuck::cast_slice(&flags)))
            .transpose()?;
        if self.totals.is_empty() {
            return Ok(Joint { totals: Vec::new(), masks });
        }
        let buffer = buffers.create(Which::JointTotals, OWNED)?;
        let range = |&(offset, size): &(u64, u64)| Slice { buffer: buffer.clone(), offset, size };
        Ok(Joint { totals: self.totals.iter().map(range).collect(), masks })
    }

    /// The bytes of all parts, by role. Each part already counts its totals.
    pub(crate) fn memory_usage<'a>(&self, parts: impl Iterator<Item = &'a MemoryUsage>) -> MemoryUsage {
        let mut all = MemoryUsage::default();
        parts.for_each(|part| all.join(part));
        let counted: u64 = self.totals.iter().map(|(_, bytes)| bytes).sum();
        all.add(Role::Masks, Owner::Crate, self.masks);
        all.add(Role::Tables, Owner::Crate, self.sizes.of(Which::Exchange));
        let masks = self.sizes.of(Which::JointMasks) - self.masks;
        all.add(Role::Alignment, Owner::Crate, self.sizes.of(Which::JointTotals) - counted + masks);
        all
    }
}
