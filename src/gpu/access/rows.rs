//! Row sets of a running optimizer: the count of rows in use, masks, and column rates.

use crate::Result;
use crate::gpu::Part;
use crate::gpu::build::spec::Tensor;
use crate::gpu::layout::rows::SetState;
use crate::gpu::layout::tables::StateRun;

impl Part {
    /// Sets the count of rows in use of a set for the next recorded calls, and moves no row. The set must have room.
    pub(crate) fn set_row_count(&mut self, rows: usize, live: usize) {
        self.put_live(rows, live);
        self.scalars.set_rows(self.placement.rows.table(&self.spec.tensors));
    }

    /// The runs of a tensor's states, for the rows in use.
    pub(crate) fn state_runs(&self, tensor: usize) -> impl Iterator<Item = StateRun> + '_ {
        let used = self.spec.tensors[tensor].kept() as usize;
        self.placement.layout.state_runs(tensor).filter_map(move |run| {
            let elements = run.elements.min(used.saturating_sub(run.position));
            (elements > 0).then_some(StateRun { elements, ..run })
        })
    }

    /// The state of a set.
    pub(crate) fn set_state(&self, rows: usize) -> &SetState {
        &self.placement.rows.sets[rows]
    }

    /// Checks that a set has room for this many rows.
    pub(crate) fn check_room(&self, rows: usize, live: usize) -> Result<()> {
        let set = &self.placement.rows.sets[rows];
        if live <= set.capacity {
            return Ok(());
        }
        Err(set.error(&format!(
            "{live} rows are wanted, there is room for {}: ask the builder for more with row_capacity",
            set.capacity
        )))
    }

    /// The count of rows in use, and the count before the last remap.
    pub(crate) fn live(&self, rows: usize) -> (usize, usize) {
        let set = &self.placement.rows.sets[rows];
        (set.live, set.source)
    }

    /// Takes back a change of the count of rows in use.
    pub(crate) fn restore_live(&mut self, rows: usize, (live, source): (usize, usize)) {
        self.put_live(rows, live);
        self.placement.rows.sets[rows].source = source;
    }

    /// Puts the count of rows in use.
    pub(crate) fn put_live(&mut self, rows: usize, live: usize) {
        let set = &mut self.placement.rows.sets[rows];
        (set.source, set.live) = (set.live, live);
        for &tensor in &set.tensors {
            self.spec.tensors[tensor].shape[0] = live;
        }
    }

    /// The mask of a set, if it has one.
    pub(crate) fn mask(&self, rows: usize) -> Option<wgpu::BufferSlice<'_>> {
        let mask = self.set_state(rows).mask.as_ref()?;
        let range = mask.offset..mask.offset + mask.size;
        Some(self.placement.rows.mask_buffer(mask.buffer).slice(range))
    }

    /// Writes the mask of the rows in use, before the next submitted work.
    pub(crate) fn write_mask(&self, rows: usize, flags: &[u32]) -> Result<()> {
        let set = self.set_state(rows);
        let mask = set.mask.as_ref().ok_or_else(|| set.error("it has no mask: ask the builder for one"))?;
        if flags.len() != set.live {
            return Err(set.error(&format!("{} flags were given, {} rows are in use", flags.len(), set.live)));
        }
        let buffer = self.placement.rows.mask_buffer(mask.buffer);
        if !buffer.usage().contains(wgpu::BufferUsages::COPY_DST) {
            return Err(set.error(&format!("its mask has usage {:?}, writing needs COPY_DST", buffer.usage())));
        }
        self.context.check()?;
        self.placement.rows.check_masks()?;
        self.context.write(buffer, mask.offset, bytemuck::cast_slice(flags))
    }

    /// Sets the column rates of a tensor for the next recorded steps; see [`Builder::column_rates`](crate::Builder::column_rates).
    pub(crate) fn set_column_rates(&mut self, tensor: Tensor, rates: &[f64]) -> Result<()> {
        let index = self.spec.tensor(tensor)?;
        let info = &self.spec.tensors[index];
        if self.placement.rows.columns[index].is_empty() {
            return Err(info.error("it was built without column rates".to_owned()));
        }
        info.check_columns(rates)?;
        self.placement.rows.columns[index] = rates.iter().map(|r| *r as f32).collect();
        self.scalars.set_rows(self.placement.rows.table(&self.spec.tensors));
        Ok(())
    }
}
