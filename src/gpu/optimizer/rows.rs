//! Row sets of a running optimizer: the count of rows in use, masks, column rates, and the remapping and resetting of rows. The tensors of a
//! row set may have different rules; each part moves its own.

use crate::Result;
use crate::gpu::build::division::InPart;
#[cfg(feature = "checkpoint")]
use crate::gpu::build::spec::RowSetInfo;
use crate::gpu::build::spec::{RowSet, Tensor};
use crate::gpu::hyper::scalars::Slot;
use crate::gpu::layout::rows::SetState;
use crate::gpu::optimizer::Optimizer;
use crate::gpu::record::rows::RowTask;

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
        let places = self.set_places(rows)?;
        places.iter().try_for_each(|place| self.parts[place.part].check_room(place.index, live))?;
        places.iter().for_each(|place| self.parts[place.part].set_row_count(place.index, live));
        self.put_rows(rows.index, live);
        Ok(())
    }

    /// The mask of a set: one u32 per row, 0 where a step leaves the row as it is. `None` for a set without a mask. The masks of the crate flag
    /// every row at first.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub fn mask(&self, rows: RowSet) -> Result<Option<wgpu::BufferSlice<'_>>> {
        let place = self.first_place(rows)?;
        Ok(self.parts[place.part].mask(place.index))
    }

    /// Writes the mask of the rows in use, before the next submitted work.
    ///
    /// # Errors
    /// The set has no mask; the count of flags is not the count of rows in use; the caller's buffer lacks `COPY_DST`.
    pub fn write_mask(&self, rows: RowSet, flags: &[u32]) -> Result<()> {
        let place = self.first_place(rows)?;
        self.parts[place.part].write_mask(place.index, flags)
    }

    /// Sets the column rates of a tensor for the next recorded steps; see
    /// [`Builder::column_rates`](crate::Builder::column_rates).
    ///
    /// # Errors
    /// The tensor was built without column rates; the count of rates is not the count of columns; a rate that is not finite or below 0.
    pub fn set_column_rates(&mut self, tensor: Tensor, rates: &[f64]) -> Result<()> {
        let (part, tensor) = self.of_tensor_mut(tensor)?;
        part.set_column_rates(tensor, rates)
    }

    /// Records a remap of the rows of a set: parameters, states, accumulated gradients and averages. New row `i` is old row `indices[i]`,
    /// for `rows` rows, which are the rows in use from then on. So one call clones, splits, prunes and relocates. `indices` holds at least
    /// `rows` u32 in a buffer of the caller with `COPY_SRC` usage, beginning at a multiple of 4 bytes. An index that names no row in use
    /// (`u32::MAX`, for example) makes a fresh row: zero parameters and average, states as before the first step. Bias corrections follow
    /// the step count of the optimizer, unless the set has [`Builder::fresh_rows`](crate::Builder::fresh_rows). The call does not move
    /// gradients and masks.
    ///
    /// Lengths and [`row_count`](Self::row_count) change as soon as the call is recorded: submit the encoder, or restore the count with
    /// [`set_row_count`](Self::set_row_count). The call creates nothing.
    ///
    /// # Errors
    /// The set has no row capacity or too small a one; too few indices, or a buffer without `COPY_SRC`; a tensor of the set is too long for one
    /// binding; too many recorded steps are not yet finished.
    pub fn remap(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        set: RowSet,
        indices: wgpu::BufferSlice<'_>,
        rows: usize,
    ) -> Result<()> {
        let places = self.set_places(set)?;
        places.iter().try_for_each(|place| self.parts[place.part].check_remap(place.index, indices, rows))?;
        let mut begun: Vec<(InPart, (usize, usize), Slot)> = Vec::with_capacity(places.len());
        for place in places {
            let part = &mut self.parts[place.part];
            let before = part.live(place.index);
            match part.begin_remap(place.index, rows) {
                Ok(slot) => begun.push((place, before, slot)),
                Err(error) => {
                    begun
                        .iter()
                        .for_each(|(place, before, _)| self.parts[place.part].restore_live(place.index, *before));
                    return Err(error);
                }
            }
        }
        for (place, _, slot) in begun {
            self.parts[place.part].record_task(encoder, Some((indices, rows)), RowTask::Remap, slot);
        }
        self.put_rows(set.index, rows);
        Ok(())
    }

    /// Records a reset of the states of some tensors: states as before the first step, accumulators at zero, averages at the current
    /// weights. Bias corrections continue, unless the set has [`Builder::fresh_rows`](crate::Builder::fresh_rows). The tensors must be in
    /// row sets; a row set may have one tensor.
    ///
    /// # Errors
    /// A tensor is in no row set; too many recorded steps are not yet finished.
    pub fn reset_states(&mut self, encoder: &mut wgpu::CommandEncoder, tensors: &[Tensor]) -> Result<()> {
        let mut of_part: Vec<Vec<usize>> = vec![Vec::new(); self.parts.len()];
        for tensor in tensors {
            let InPart { part, index } = self.directory.tensor(&self.spec, *tensor)?;
            self.parts[part].check_reset(index)?;
            of_part[part].push(index);
        }
        let parts = self.parts.iter_mut().zip(&of_part).filter(|(_, tensors)| !tensors.is_empty());
        let slots = parts.map(|(part, tensors)| part.begin_reset(tensors)).collect::<Result<Vec<_>>>()?;
        let parts = self.parts.iter().zip(&of_part).filter(|(_, tensors)| !tensors.is_empty());
        parts.zip(slots).for_each(|((part, _), slot)| part.record_task(encoder, None, RowTask::Reset, slot));
        Ok(())
    }

    /// As [`reset_states`](Self::reset_states), for the flagged rows of a set: one u32 per row in use, 0 for a row that keeps its states,
    /// in a buffer of the caller with `COPY_SRC` usage. The average of a reset row begins at its current parameters.
    ///
    /// # Errors
    /// Too few flags, or a buffer without `COPY_SRC`; too many recorded steps are not yet finished.
    pub fn reset_rows(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        set: RowSet,
        flags: wgpu::BufferSlice<'_>,
    ) -> Result<()> {
        let (places, rows) = (self.set_places(set)?, self.row_count(set)?);
        places.iter().try_for_each(|place| self.parts[place.part].check_words(place.index, "flags", flags, rows))?;
        let begin = |place: &InPart| self.parts[place.part].begin_row_reset(place.index);
        let slots = places.iter().map(begin).collect::<Result<Vec<_>>>()?;
        for (place, slot) in places.into_iter().zip(slots) {
            self.parts[place.part].record_task(encoder, Some((flags, rows)), RowTask::Reset, slot);
        }
        Ok(())
    }

    fn set_places(&self, rows: RowSet) -> Result<Vec<InPart>> {
        Ok(self.directory.set(&self.spec, rows)?.to_vec())
    }

    fn first_place(&self, rows: RowSet) -> Result<InPart> {
        Ok(self.directory.set(&self.spec, rows)?[0])
    }

    fn set_state(&self, rows: RowSet) -> Result<&SetState> {
        let place = self.first_place(rows)?;
        Ok(self.parts[place.part].set_state(place.index))
    }

    /// Puts the count of rows in use into the shapes of the whole.
    fn put_rows(&mut self, rows: usize, live: usize) {
        for &tensor in &self.spec.rows.sets[rows].tensors {
            self.spec.tensors[tensor].shape[0] = live;
        }
    }

    /// The row sets whose tensors can take the shapes that `shape` returns for them, each with the count of rows in these shapes.
    #[cfg(feature = "checkpoint")]
    pub(crate) fn rows_as<'a>(&self, shape: impl Fn(&str) -> Option<&'a [usize]>) -> Vec<(RowSet, usize)> {
        let rows_of = |set: &RowSetInfo| {
            // A range says nothing about the count of rows.
            if set.tensors.iter().any(|tensor| self.spec.tensors[*tensor].own.is_some()) {
                return None;
            }
            let rows = *shape(&self.spec.tensors[set.tensors[0]].name)?.first()?;
            let fits = |t: &usize| {
                let info = &self.spec.tensors[*t];
                shape(&info.name).is_some_and(|s| s.first() == Some(&rows) && s[1..] == info.shape[1..])
            };
            (rows <= self.spec.capacity(set) && set.tensors.iter().all(fits)).then_some(rows)
        };
        let sets = self.spec.rows.sets.iter().enumerate();
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
        let set = self.directory.set_of(tensor);
        let of_set = set.and_then(|set| rows.binary_search_by_key(&set, |(of, _)| of.index).ok());
        if let (Some(first), Some(at)) = (shape.first_mut(), of_set) {
            *first = rows[at].1;
        }
        shape
    }
}
