//! Checks of row sets, before anything is created.

use crate::gpu::build::spec::{Home, Mask, RowSetInfo, Spec, TensorInfo};
use crate::optim::Value;
use crate::optim::rule::settings::within_f32;
use crate::optim::rule::{need_element_counts, need_one_rate, need_rows, need_shared};
use crate::options::storage::RoundingMode;
use crate::{Error, Result};

/// The longest row that may share a second moment. With rows of at most this length, a chunk of whole rows and whole vec4s holds at most
/// 1024 elements.
const MOST_SHARED: usize = 256;

impl Spec {
    /// The row capacity of a set.
    pub(crate) fn capacity(&self, set: &RowSetInfo) -> usize {
        set.reserved.unwrap_or_else(|| self.tensors[set.tensors[0]].shape[0])
    }

    /// Applies the row capacities to the tensors of their sets.
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
        let mut names = std::collections::HashSet::new();
        let mut set_of: Vec<Option<&str>> = vec![None; self.tensors.len()];
        for set in &self.rows.sets {
            if !names.insert(&set.name) {
                return Err(Error::Duplicate { kind: "row set", name: set.name.clone() });
            }
            self.check_set(set, &mut set_of)?;
            if set.fresh {
                let rules = set.tensors.iter().map(|&tensor| self.rule_of(&self.tensors[tensor]));
                rules.into_iter().try_for_each(|rule| need_element_counts(rule, "fresh_rows"))?;
            }
            self.check_mask(set)?;
        }
        for (&tensor, rates) in &self.rows.columns {
            let info = &self.tensors[tensor];
            need_rows(self.rule_of(info))?;
            need_one_rate(self.rule_of(info))?;
            info.check_columns(rates)?;
            info.check_rows_storage()?;
        }
        self.check_shared()
    }

    fn check_shared(&self) -> Result<()> {
        for &tensor in &self.rows.shared {
            let info = &self.tensors[tensor];
            need_rows(self.rule_of(info))?;
            need_shared(self.rule_of(info))?;
            info.check_rows_storage()?;
            if info.shape.is_empty() || info.width() > MOST_SHARED {
                let what = "one second moment per row needs rows of at most";
                return Err(info.error(format!(
                    "{what} {MOST_SHARED} elements, shape {:?} has {}",
                    info.shape,
                    info.width()
                )));
            }
            if let Some(set) = self.rows.sets.iter().find(|s| s.nonzero && s.tensors.contains(&tensor)) {
                let what = "one second moment per row does not allow a step that leaves out elements";
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
                return refuse(format!("it names tensor number {tensor}, the builder has only {}", self.tensors.len()));
            };
            need_rows(self.rule_of(info))?;
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
            (Some(room), Some(rows)) if room < *rows => {
                refuse(format!("it has {rows} rows, its row capacity is only {room}"))
            }
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
                "remapping moves rows one by one, which split parameters do not allow: store them as bf16-master";
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
                let needs = within_f32(rates[at], "a finite number of at least 0".into());
                Err(self.error(format!("the rate of column {at} is {}, needs {needs}", Value::Number(rates[at]))))
            }
        }
    }
}
