//! Row sets of a running optimizer: the count of rows in use, masks, and column rates.

use crate::Result;
use crate::gpu::Optimizer;
use crate::gpu::build::spec::{RowSet, Tensor};
use crate::gpu::layout::rows::SetState;
use crate::gpu::layout::tables::StateRun;

impl Optimizer {
    /// The row set of this name.
    ///
    /// # Errors
    /// The optimizer has no row set of this name; the error suggests the nearest.
    pub fn row_set(&self, name: &str) -> Result<RowSet> {
        self.spec.row_set_named(name)
    }

    /// The count of rows in use of a set: the first dimension of the shapes of its tensors.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub fn row_count(&self, rows: RowSet) -> Result<usize> {
        self.set_state(rows).map(|set| set.live)
    }

    /// The row capacity of a set.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub fn row_capacity(&self, rows: RowSet) -> Result<usize> {
        self.set_state(rows).map(|set| set.capacity)
    }

    /// Sets the count of rows in use of a set for the next recorded calls, and moves no row. Call it after writing new parameters, or after
    /// dropping an encoder with a [`remap`](Self::remap).
    ///
    /// # Errors
    /// The handle belongs to another optimizer; the set has a smaller row capacity.
    pub fn set_row_count(&mut self, rows: RowSet, live: usize) -> Result<()> {
        let rows = self.spec.row_set(rows)?;
        self.check_room(rows, live)?;
        self.put_live(rows, live);
        self.scalars.set_rows(self.placement.rows.table(&self.spec.tensors));
        Ok(())
    }

    /// The runs of a tensor's states, for the rows in use.
    pub(crate) fn state_runs(&self, tensor: usize) -> impl Iterator<Item = StateRun> + '_ {
        let used = self.spec.tensors[tensor].kept() as usize;
        self.placement.layout.state_runs(tensor).filter_map(move |run| {
            let elements = run.elements.min(used.saturating_sub(run.position));
            (elements > 0).then_some(StateRun { elements, ..run })
        })
    }

    fn set_state(&self, rows: RowSet) -> Result<&SetState> {
        Ok(&self.placement.rows.sets[self.spec.row_set(rows)?])
    }

    /// The row sets whose tensors can take the shapes that `shape` returns for them, each with the count of rows in these shapes.
    #[cfg(feature = "checkpoint")]
    pub(crate) fn rows_as<'a>(&self, shape: impl Fn(&str) -> Option<&'a [usize]>) -> Vec<(RowSet, usize)> {
        let rows_of = |set: &SetState| {
            // A range says nothing about the count of rows.
            if set.tensors.iter().any(|tensor| self.spec.tensors[*tensor].own.is_some()) {
                return None;
            }
            let rows = *shape(&self.spec.tensors[set.tensors[0]].name)?.first()?;
            let fits = |t: &usize| {
                let info = &self.spec.tensors[*t];
                shape(&info.name).is_some_and(|s| s.first() == Some(&rows) && s[1..] == info.shape[1..])
            };
            (rows <= set.capacity && set.tensors.iter().all(fits)).then_some(rows)
        };
        let sets = self.placement.rows.sets.iter().enumerate();
        sets.filter_map(|(i, set)| Some((self.spec.row_set_handle(i), rows_of(set)?))).collect()
    }

    /// The shape that a tensor would have with these counts of rows. The sets come in order.
    #[cfg(feature = "checkpoint")]
    pub(crate) fn shape_with(&self, tensor: usize, rows: &[(RowSet, usize)]) -> Vec<usize> {
        let info = &self.spec.tensors[tensor];
        let mut shape = info.kept_shape();
        if info.own.is_some() {
            return shape;
        }
        let set = self.placement.rows.set_of[tensor];
        let of_set = set.and_then(|set| rows.binary_search_by_key(&set, |(of, _)| of.index).ok());
        if let (Some(first), Some(at)) = (shape.first_mut(), of_set) {
            *first = rows[at].1;
        }
        shape
    }

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

    pub(crate) fn put_live(&mut self, rows: usize, live: usize) {
        let set = &mut self.placement.rows.sets[rows];
        (set.source, set.live) = (set.live, live);
        for &tensor in &set.tensors {
            self.spec.tensors[tensor].shape[0] = live;
        }
    }

    /// The mask of a set: one u32 per row, 0 where a step leaves the row as it is. `None` for a set without a mask. The masks of the crate flag
    /// every row at first.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub fn mask(&self, rows: RowSet) -> Result<Option<wgpu::BufferSlice<'_>>> {
        let Some(mask) = &self.set_state(rows)?.mask else { return Ok(None) };
        let range = mask.offset..mask.offset + mask.size;
        Ok(Some(self.placement.rows.mask_buffer(mask.buffer).slice(range)))
    }

    /// Writes the mask of the rows in use, before the next submitted work.
    ///
    /// # Errors
    /// The set has no mask; the count of flags is not the count of rows in use; the caller's buffer lacks `COPY_DST`.
    pub fn write_mask(&self, rows: RowSet, flags: &[u32]) -> Result<()> {
        let set = self.set_state(rows)?;
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

    /// Sets the column rates of a tensor for the next recorded steps; see
    /// [`Builder::column_rates`](crate::Builder::column_rates).
    ///
    /// # Errors
    /// The tensor was built without column rates; the count of rates is not the count of columns; a rate that is not finite or below 0.
    pub fn set_column_rates(&mut self, tensor: Tensor, rates: &[f64]) -> Result<()> {
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
