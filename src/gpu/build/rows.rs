//! What the builder is told of rows.

use crate::gpu::build::builder::Builder;
use crate::gpu::build::spec::{Mask, RowSet, RowSetInfo, Tensor, next_id};

impl Builder {
    /// Names tensors that share rows: the first dimension of each is the same rows. A step can then leave rows out
    /// ([`mask`](Self::mask), [`skip_zero_gradients`](Self::skip_zero_gradients)), and rows can change places together with
    /// everything that is kept for them ([`Optimizer::remap`](crate::Optimizer::remap)). Rules that mix or
    /// move whole tensors inside the step (`warpadam`, and `flowadam` where it integrates) take no row sets; S-Adam's probes leave out
    /// what is masked.
    ///
    /// What is not stepped keeps every bit of its parameters and states, and has no part in sums: clips, tests for numbers that are not
    /// finite, and the norms and means of rules see the stepped elements alone. Two things reach all elements: the first applied step
    /// begins every average of the weights ([`ema`](Self::ema)), and a step uses up what was accumulated and zeroes gradients where
    /// that was asked for.
    ///
    /// ```
    /// use wgpu_optim::{AdamW, Group, Optimizer};
    /// # let gpu = pollster::block_on(wgpu_optim::tools::adapter::Selector::default().open())?;
    /// # let (device, queue) = (gpu.device, gpu.queue);
    /// let mut builder = Optimizer::builder(AdamW { lr: 0.1, ..AdamW::default() });
    /// let centres = builder.tensor(Group::DEFAULT, "centres", &[4, 2]);
    /// let colours = builder.tensor(Group::DEFAULT, "colours", &[4, 3]);
    /// let splats = builder.row_set("splats", &[centres, colours]);
    /// builder.mask(splats).reserve(splats, 100);
    /// let mut optimizer = builder.build(&device, &queue)?;
    /// optimizer.write_mask(splats, &[1, 0, 0, 1])?; // or from a kernel: optimizer.mask(splats)
    /// optimizer.write_grad(colours, &[1.0; 12])?;
    ///
    /// let mut encoder = device.create_command_encoder(&Default::default());
    /// optimizer.step(&mut encoder)?;
    /// queue.submit([encoder.finish()]);
    /// let moved = pollster::block_on(optimizer.read_param(colours))?;
    /// assert!(moved[0] < 0.0 && moved[3] == 0.0 && moved[11] < 0.0);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    pub fn row_set(&mut self, name: impl Into<String>, tensors: &[Tensor]) -> RowSet {
        let id = next_id();
        let tensors = tensors.iter().filter_map(|tensor| self.known(|spec| spec.tensor(*tensor))).collect();
        self.spec.rows.sets.push(RowSetInfo {
            id,
            name: name.into(),
            tensors,
            reserved: None,
            mask: Mask::None,
            nonzero: false,
        });
        RowSet { index: self.spec.rows.sets.len() - 1, id }
    }

    /// Makes room for this many rows of a set, so that [`Optimizer::remap`](crate::Optimizer::remap) can change how many are in use; at
    /// first the tensors' shapes say it. The crate's buffers get that size, and the caller's ranges
    /// ([`bind`](Self::bind)) must hold it. Costs, beside the room, 4 bytes a parameter of the sets that are reserved. Default: rows
    /// stay where they are.
    pub fn row_capacity(&mut self, rows: RowSet, count: usize) -> &mut Self {
        self.change(rows, |set| set.reserved = Some(count))
    }

    /// Steps only the rows of a set that are flagged in the crate's mask: one u32 a row, 0 for a row that stays as it is. See
    /// [`Optimizer::mask`](crate::Optimizer::mask) and [`Optimizer::write_mask`](crate::Optimizer::write_mask). Default: every row.
    pub fn mask(&mut self, rows: RowSet) -> &mut Self {
        self.change(rows, |set| set.mask = Mask::Own)
    }

    /// As [`mask`](Self::mask), with the flags in the caller's buffer: 4 bytes for each row that there is room for, beginning at a
    /// multiple of 4, of `STORAGE` usage. A renderer's count of pixels or radius of each row serves as it is.
    pub fn mask_in(&mut self, rows: RowSet, mask: wgpu::BufferSlice<'_>) -> &mut Self {
        self.change(rows, |set| set.mask = Mask::Bound(mask.into()))
    }

    /// Steps only those elements of a set whose gradient is not exactly zero (either zero): what hash grids want. With accumulation the
    /// sum is meant. May be combined with a mask. Default: not.
    pub fn skip_zero_gradients(&mut self, rows: RowSet) -> &mut Self {
        self.change(rows, |set| set.nonzero = true)
    }

    /// Multiplies the change of each column of a tensor with a rate of its own, decoupled decay included. A column is an element's place
    /// among those of its row, all dimensions but the first taken together: as many rates as a row has elements, finite, not below 0.
    /// [`Optimizer::set_column_rates`](crate::Optimizer::set_column_rates) changes them. The tensor need not be in a row set.
    /// Not for the schedule-free rules. Default: 1.
    pub fn column_rates(&mut self, tensor: Tensor, rates: &[f64]) -> &mut Self {
        if let Some(index) = self.known(|spec| spec.tensor(tensor)) {
            self.spec.rows.columns.insert(index, rates.to_vec());
        }
        self
    }

    /// Keeps one second moment a row of a tensor: `v ← β2 v + (1-β2) mean(g²)`, the mean over the row's elements, in place of each element's
    /// own square (of the gradient as the rule squares it: with L2 decay, where it has that). So all columns are scaled alike and the step
    /// turns with the row's coordinates. `v` is stored for each element as before, and the same in all of a row; a state that
    /// was written otherwise keeps its differences, decaying. For `adam`, `adamw`, `nadam` and `radam`, rows of at most 256 elements, and
    /// not together with [`skip_zero_gradients`](Self::skip_zero_gradients). The tensor need not be in a row set. Such
    /// tensors take a dispatch of their own. Default: not.
    pub fn share_second_moment(&mut self, tensor: Tensor) -> &mut Self {
        if let Some(index) = self.known(|spec| spec.tensor(tensor)) {
            self.spec.rows.shared.insert(index);
        }
        self
    }

    fn change(&mut self, rows: RowSet, change: impl FnOnce(&mut RowSetInfo)) -> &mut Self {
        if let Some(index) = self.known(|spec| spec.row_set(rows)) {
            change(&mut self.spec.rows.sets[index]);
        }
        self
    }
}
