//! The rows of each mini-batch, the same for the GPU and the CPU.

use crate::tools::objectives::check::LONGEST_LOOP;
use crate::tools::objectives::random;
use crate::tools::objectives::random::Stream;
use crate::tools::objectives::{Part, Split, check};
use crate::{Error, Result};
use std::ops::Range;

/// The mini-batches of an epoch; the last may be shorter.
#[derive(Clone, Debug)]
pub(super) struct Batches {
    pub(super) rows: u32,
    pub(super) key: u32,
    size: u32,
}

impl Batches {
    pub(super) fn new(split: &Split, size: usize, seed: u64) -> Result<Self> {
        let rows = split.part(Part::Train).rows();
        if size == 0 || size > rows.min(LONGEST_LOOP) {
            let most = rows.min(LONGEST_LOOP);
            return Err(Error::Usage(format!("batch size is {size}, needs 1..={most} ({rows} training rows)")));
        }
        let rows = u32::try_from(rows).map_err(|_| Error::Usage(format!("{rows} training rows, needs < 2^32")))?;
        Ok(Self { rows, key: random::key(seed, Stream::Order), size: size as u32 })
    }

    pub(super) fn count(&self) -> usize {
        self.rows.div_ceil(self.size) as usize
    }

    /// A batch's positions in the epoch's order.
    pub(super) fn range(&self, batch: usize) -> Result<Range<u32>> {
        check::batch(batch, self.count())?;
        let first = batch as u32 * self.size;
        Ok(first..self.rows.min(first + self.size))
    }

    /// The training row at a position of an epoch's order.
    pub(super) fn row(&self, position: u32, epoch: u32) -> usize {
        random::place(position, self.rows, random::draw(self.key, epoch)) as usize
    }
}
