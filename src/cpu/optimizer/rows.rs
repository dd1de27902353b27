//! Row sets on the host: the count of rows, masks, column rates, and the remapping and resetting of rows. The tensors of a row set may have
//! different rules; each part moves its own.

use crate::cpu::number::Number;
use crate::cpu::optimizer::Optimizer;
use crate::gpu::build::spec::{RowSet, Tensor};
use crate::{Error, Result};

impl<F: Number> Optimizer<F> {
    /// The row set of this name.
    ///
    /// # Errors
    /// The optimizer has no row set of this name; the error suggests the nearest name.
    pub fn row_set(&self, name: &str) -> Result<RowSet> {
        self.spec.row_set_named(name)
    }

    /// The count of rows of a set.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub fn row_count(&self, rows: RowSet) -> Result<usize> {
        let place = self.directory.set(&self.spec, rows)?[0];
        Ok(self.parts[place.part].row_count(place.index))
    }

    /// Sets the mask of a set for the next steps: 0 for a row that a step leaves as it is. At first every row is flagged.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; the set has no mask; the count of flags is not the count of rows.
    pub fn write_mask(&mut self, rows: RowSet, flags: &[u32]) -> Result<()> {
        let places = self.directory.set(&self.spec, rows)?.to_vec();
        places.iter().try_for_each(|place| self.parts[place.part].write_mask(place.index, flags))
    }

    /// Sets the column rates of a tensor for the next steps: see [`Builder::column_rates`](crate::Builder::column_rates).
    ///
    /// # Errors
    /// The handle belongs to another optimizer; the tensor was built without column rates; the count of rates is not the count of columns; a rate that is not
    /// finite or below 0.
    pub fn set_column_rates(&mut self, tensor: Tensor, rates: &[f64]) -> Result<()> {
        let (part, tensor) = self.of_tensor_mut(tensor)?;
        part.set_column_rates(tensor, rates)
    }

    /// Remaps the rows of a set, with all their states: new row `i` is old row `indices[i]`, and the set then has as many rows as indices. An
    /// index that names no row (`u32::MAX`, for example) makes a fresh row: zero parameters and average, states as before the first step.
    /// `params` are the parameters of the set's tensors, in the order of the set. Every row is flagged until the next
    /// [`write_mask`](Self::write_mask).
    ///
    /// # Errors
    /// The handle belongs to another optimizer; the set has no row capacity, or its row capacity is too small; a count or length that does not
    /// fit. Nothing was changed then.
    pub fn remap(&mut self, rows: RowSet, indices: &[u32], params: &mut [&mut Vec<F>]) -> Result<()> {
        let places = self.directory.set(&self.spec, rows)?.to_vec();
        let mut shares = self.set_shares(rows, params.iter_mut().map(|p| &mut **p))?;
        for (place, share) in places.iter().zip(&shares) {
            self.parts[place.part].check_remap(place.index, indices.len(), share)?;
        }
        for (place, share) in places.iter().zip(&mut shares) {
            self.parts[place.part].remap(place.index, indices, share);
        }
        for &tensor in &self.spec.rows.sets[rows.index].tensors {
            self.spec.tensors[tensor].shape[0] = indices.len();
        }
        Ok(())
    }

    /// Resets the states of a tensor: states as before the first step, the accumulator at zero, the average at the parameters.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; a length that does not fit.
    pub fn reset_states(&mut self, tensor: Tensor, param: &[F]) -> Result<()> {
        let (part, tensor) = self.of_tensor_mut(tensor)?;
        part.reset_states(tensor, param)
    }

    /// As [`reset_states`](Self::reset_states), for the flagged rows of a set. `params` are the parameters of the set's
    /// tensors, in the order of the set.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; a count or length that does not fit.
    pub fn reset_rows(&mut self, rows: RowSet, flags: &[u32], params: &[&[F]]) -> Result<()> {
        let places = self.directory.set(&self.spec, rows)?.to_vec();
        let shares = self.set_shares(rows, params.iter().copied())?;
        for (place, share) in places.iter().zip(&shares) {
            self.parts[place.part].check_reset_rows(place.index, flags, share)?;
        }
        places
            .iter()
            .zip(&shares)
            .for_each(|(place, share)| self.parts[place.part].reset_rows(place.index, flags, share));
        Ok(())
    }

    /// The share of each part with tensors of a row set, from one item for each tensor of the set.
    fn set_shares<T>(&self, rows: RowSet, of_tensors: impl ExactSizeIterator<Item = T>) -> Result<Vec<Vec<T>>> {
        let places = self.directory.set(&self.spec, rows)?;
        let set = &self.spec.rows.sets[rows.index];
        let (given, needs) = (of_tensors.len(), set.tensors.len());
        if given != needs {
            let problem = format!("row set `{}`: {given} parameters were given, needs {needs}", set.name);
            return Err(Error::Usage(problem));
        }
        let mut shares: Vec<Vec<T>> = places.iter().map(|_| Vec::new()).collect();
        for (item, &tensor) in of_tensors.zip(&set.tensors) {
            let part = self.directory.tensors()[tensor].part;
            if let Some(share) = places.iter().position(|place| place.part == part) {
                shares[share].push(item);
            }
        }
        Ok(shares)
    }
}
