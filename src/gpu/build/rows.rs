//! What the builder is told of rows, and the checks before anything is created.

use crate::gpu::build::builder::Builder;
use crate::gpu::build::spec::{Home, Mask, RowSet, RowSetInfo, Tensor, TensorInfo};
use crate::optim::rule::{need_one_rate, need_rows, need_shared};
use crate::options::storage::RoundingMode;
use crate::{Error, Result};

/// The longest row that may share a second moment: chunks of whole rows, in vec4s, then hold at most 1024 elements.
const MOST_SHARED: usize = 256;

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
        self.rows.sets.push(RowSetInfo {
            name: name.into(),
            tensors: tensors.iter().map(|t| t.0).collect(),
            reserved: None,
            mask: Mask::None,
            nonzero: false,
        });
        RowSet(self.rows.sets.len() - 1)
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
        self.rows.columns.insert(tensor.0, rates.to_vec());
        self
    }

    /// Keeps one second moment a row of a tensor: `v ← β2 v + (1-β2) mean(g²)`, the mean over the row's elements, in place of each element's
    /// own square (of the gradient as the rule squares it: with L2 decay, where it has that). So all columns are scaled alike and the step
    /// turns with the row's coordinates. `v` is stored for each element as before, and the same in all of a row; a state that
    /// was written otherwise keeps its differences, decaying. For `adam`, `adamw`, `nadam` and `radam`, rows of at most 256 elements, and
    /// not together with [`skip_zero_gradients`](Self::skip_zero_gradients). The tensor need not be in a row set. Such
    /// tensors take a launch of their own. Default: not.
    pub fn share_second_moment(&mut self, tensor: Tensor) -> &mut Self {
        self.rows.shared.insert(tensor.0);
        self
    }

    fn change(&mut self, rows: RowSet, change: impl FnOnce(&mut RowSetInfo)) -> &mut Self {
        if let Some(set) = self.rows.sets.get_mut(rows.0) {
            change(set);
        }
        self
    }

    /// How many rows a set has room for.
    pub(crate) fn capacity(&self, set: &RowSetInfo) -> usize {
        set.reserved.unwrap_or_else(|| self.tensors[set.tensors[0]].shape[0])
    }

    /// Makes the tensors of reserved sets as long as was asked for.
    pub(crate) fn make_room(&mut self) {
        for set in &self.rows.sets {
            let Some(rows) = set.reserved else { continue };
            for &tensor in &set.tensors {
                if let Some(info) = self.tensors.get_mut(tensor) {
                    info.elements = (rows as u64).saturating_mul(info.width() as u64);
                }
            }
        }
    }

    pub(crate) fn check_rows(&self) -> Result<()> {
        if self.rows.sets.is_empty() && self.rows.columns.is_empty() && self.rows.shared.is_empty() {
            return Ok(());
        }
        self.groups.iter().try_for_each(|group| need_rows(group.rule.as_ref()))?;
        let mut names = std::collections::HashSet::new();
        let mut set_of: Vec<Option<&str>> = vec![None; self.tensors.len()];
        for set in &self.rows.sets {
            if !names.insert(&set.name) {
                return Err(Error::Duplicate { kind: "row set", name: set.name.clone() });
            }
            self.check_set(set, &mut set_of)?;
            self.check_mask(set)?;
        }
        for (&tensor, rates) in &self.rows.columns {
            let info = self.tensors.get(tensor);
            let info =
                info.ok_or_else(|| Error::Usage(format!("column rates of tensor {tensor}, which is not there")))?;
            need_one_rate(self.groups[0].rule.as_ref())?;
            info.check_columns(rates)?;
            info.check_rows_storage()?;
        }
        self.check_shared()
    }

    fn check_shared(&self) -> Result<()> {
        for &tensor in &self.rows.shared {
            let info = self.tensors.get(tensor);
            let info =
                info.ok_or_else(|| Error::Usage(format!("a second moment of tensor {tensor}, which is not there")))?;
            need_shared(self.groups[0].rule.as_ref())?;
            info.check_rows_storage()?;
            if info.shape.is_empty() || info.width() > MOST_SHARED {
                let what = "one second moment a row needs rows of at most";
                return Err(info.error(format!(
                    "{what} {MOST_SHARED} elements, shape {:?} has {}",
                    info.shape,
                    info.width()
                )));
            }
            if let Some(set) = self.rows.sets.iter().find(|s| s.nonzero && s.tensors.contains(&tensor)) {
                let what = "one second moment a row does not go with elements that are left out";
                return Err(info.error(format!("{what}: row set `{}` skips zero gradients", set.name)));
            }
        }
        Ok(())
    }

    fn check_set<'a>(&'a self, set: &'a RowSetInfo, set_of: &mut [Option<&'a str>]) -> Result<()> {
        let refuse = |problem: String| Err(Error::Usage(format!("row set `{}`: {problem}", set.name)));
        let Some(first) = set.tensors.first() else { return refuse("it has no tensor".to_owned()) };
        let rows = self.tensors.get(*first).and_then(|info| info.shape.first());
        for &tensor in &set.tensors {
            let Some(info) = self.tensors.get(tensor) else {
                return refuse(format!("its tensor number {tensor} is not there, there are {}", self.tensors.len()));
            };
            if let Some(other) = set_of[tensor].replace(&set.name) {
                return Err(info.error(format!("it is in row set `{other}` and cannot be in `{}` too", set.name)));
            }
            if info.frozen {
                return Err(info.error(format!("it is frozen and cannot be in row set `{}`", set.name)));
            }
            info.check_rows_storage()?;
            if info.shape.first() != rows || rows.is_none() {
                let rows = rows.map_or_else(|| "a first dimension".to_owned(), |rows| format!("{rows} rows"));
                return Err(info.error(format!("shape {:?} in row set `{}` needs {rows}", info.shape, set.name)));
            }
        }
        match (set.reserved, rows) {
            (Some(room), Some(rows)) if room < *rows => refuse(format!("it has {rows} rows, reserved are only {room}")),
            _ => Ok(()),
        }
    }

    fn check_mask(&self, set: &RowSetInfo) -> Result<()> {
        let Mask::Bound(mask) = &set.mask else { return Ok(()) };
        let bytes = self.capacity(set) as u64 * 4;
        let usage = mask.buffer.usage();
        let written = |info: &TensorInfo| match &info.home {
            Home::Own => false,
            Home::Bound { param, grad } => {
                let zeroed = grad.as_ref().is_some_and(|g| self.around.zero_grad && g.buffer == mask.buffer);
                param.buffer == mask.buffer || zeroed
            }
        };
        let problem = if mask.size != bytes {
            format!("its mask has {} bytes, needs {bytes}: 4 for each row that there is room for", mask.size)
        } else if !mask.offset.is_multiple_of(4) {
            format!("its mask begins at byte {}, needs a multiple of 4", mask.offset)
        } else if !usage.contains(wgpu::BufferUsages::STORAGE) {
            format!("the buffer of its mask has usage {usage:?}, needs STORAGE")
        } else if let Some(info) = self.tensors.iter().find(|info| written(info)) {
            format!("its mask lies in a buffer of `{}` that steps write, needs another buffer", info.name)
        } else {
            return Ok(());
        };
        Err(Error::Usage(format!("row set `{}`: {problem}", set.name)))
    }
}

impl TensorInfo {
    fn check_rows_storage(&self) -> Result<()> {
        if self.formats.params.keep() == Some(RoundingMode::Split) {
            let problem =
                "its rows are moved one by one, which split parameters do not allow: keep them with bf16-master";
            return Err(self.error(problem.to_owned()));
        }
        self.formats.need_rows(&self.name)
    }

    pub(crate) fn check_columns(&self, rates: &[f64]) -> Result<()> {
        if self.shape.is_empty() || rates.len() != self.width() {
            let columns = self.width();
            return Err(self.error(format!(
                "{} column rates, shape {:?} has {columns} columns",
                rates.len(),
                self.shape
            )));
        }
        match rates.iter().position(|r| !(*r >= 0.0 && *r <= f64::from(f32::MAX))) {
            None => Ok(()),
            Some(at) => {
                Err(self
                    .error(format!("the rate of column {at} is {}, needs a finite number of at least 0", rates[at])))
            }
        }
    }
}
