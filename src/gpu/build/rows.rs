//! The calls of the builder for rows.

use crate::gpu::build::builder::Builder;
use crate::gpu::build::spec::{Mask, RowSet, RowSetInfo, Tensor, next_id};

impl Builder {
    /// Adds a row set: tensors that share the rows of their first dimension. A step can then leave out rows ([`mask`](Self::mask)) or elements
    /// ([`skip_zero_gradients`](Self::skip_zero_gradients)), and [`Optimizer::remap`](crate::Optimizer::remap) can move rows together with
    /// all their states. Rules that mix or move whole tensors inside the step (`warpadam`, and `flowadam` with an integrator) allow no row
    /// sets. The probes of S-Adam leave out masked rows.
    ///
    /// An element that a step leaves out keeps every bit of its parameter and states, and has no part in sums: clips, tests for numbers that are
    /// not finite, and the norms and means of rules see only the stepped elements. Two actions reach all elements: the first step begins every
    /// average of the weights ([`ema`](Self::ema)), and a step clears the accumulator, and gradients with [`zero_grad`](Self::zero_grad).
    ///
    /// ```
    /// use wgpu_optim::{AdamW, Group, Optimizer};
    /// # let gpu = pollster::block_on(wgpu_optim::tools::adapter::Selector::default().open())?;
    /// # let (device, queue) = (gpu.device, gpu.queue);
    /// let mut builder = Optimizer::builder(AdamW { lr: 0.1, ..AdamW::default() });
    /// let centres = builder.tensor(Group::DEFAULT, "centres", &[4, 2]);
    /// let colours = builder.tensor(Group::DEFAULT, "colours", &[4, 3]);
    /// let splats = builder.row_set("splats", &[centres, colours]);
    /// builder.mask(splats).row_capacity(splats, 100);
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

    /// Sets the row capacity of a set, so that [`Optimizer::remap`](crate::Optimizer::remap) can change the count of rows in use, which is at
    /// first the first dimension of the shapes. The crate's buffers get the size of the capacity, and the caller's ranges
    /// ([`bind`](Self::bind)) must have this size too. The capacity also takes 4 bytes per parameter of the set. Default: rows cannot be remapped.
    pub fn row_capacity(&mut self, rows: RowSet, count: usize) -> &mut Self {
        self.change(rows, |set| set.reserved = Some(count))
    }

    /// Steps only the rows of a set that are flagged in the crate's mask: one u32 per row, 0 for a row that the step leaves
    /// as it is. See
    /// [`Optimizer::mask`](crate::Optimizer::mask) and [`Optimizer::write_mask`](crate::Optimizer::write_mask). Default: every row.
    pub fn mask(&mut self, rows: RowSet) -> &mut Self {
        self.change(rows, |set| set.mask = Mask::Own)
    }

    /// As [`mask`](Self::mask), with the flags in the caller's buffer: 4 bytes for each row of the capacity, beginning at a multiple
    /// of 4, in a buffer with `STORAGE` usage. A renderer's buffer of pixel counts or radii per row can be the mask.
    pub fn mask_in(&mut self, rows: RowSet, mask: wgpu::BufferSlice<'_>) -> &mut Self {
        self.change(rows, |set| set.mask = Mask::Bound(mask.into()))
    }

    /// Steps only those elements of a set with a gradient that is neither 0 nor -0, as hash grids need. With accumulation, the sum counts as
    /// the gradient. A mask may be set too. Default: off.
    pub fn skip_zero_gradients(&mut self, rows: RowSet) -> &mut Self {
        self.change(rows, |set| set.nonzero = true)
    }

    /// Multiplies the change of each column of a tensor by a rate; decoupled decay is part of the change. A row holds all dimensions but the first, and a column
    /// is an index in the row: give one rate per element of a row, finite and not below 0.
    /// [`Optimizer::set_column_rates`](crate::Optimizer::set_column_rates) changes them. The tensor need not be in a row set.
    /// The schedule-free rules and `asgd` do not allow it. Default: 1.
    pub fn column_rates(&mut self, tensor: Tensor, rates: &[f64]) -> &mut Self {
        if let Some(index) = self.known(|spec| spec.tensor(tensor)) {
            self.spec.rows.columns.insert(index, rates.to_vec());
        }
        self
    }

    /// Keeps one second moment per row of a tensor: `v ← β2 v + (1-β2) mean(g²)`, the mean over the row's elements, in place of the
    /// square of each element (of the gradient as the rule squares it, with L2 decay if the rule has it). All columns then have the same
    /// scale, and a rotation of the coordinates of a row rotates the step. The optimizer stores `v` for each element, with the same value in
    /// all of a row. If the caller writes different values, the differences decay. Only `adam`, `adamw`, `nadam`, `radam`, `ademamix` and
    /// `adan` allow this, for rows of at most 256 elements and not together with [`skip_zero_gradients`](Self::skip_zero_gradients). The
    /// tensor need not be in a row set. Such tensors take a dispatch of their own. Default: off.
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
