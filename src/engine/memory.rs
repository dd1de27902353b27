//! The bytes of a plan, by role.

use super::Optimizer;
use super::buffers::Which;
use super::builder::{Builder, Home};
use super::checks::bytes_of;
use super::places::Source;
use super::plan::Plan;
use super::stored::Array;
use super::variant::Variant;
use crate::Result;
use crate::memory::{Memory, Owner, Role};

impl Builder {
    /// What the optimizer would take of the memory of a device with these limits, by role: the buffers that [`build`](Self::build) would
    /// create, and the ranges of the caller's that were bound. Nothing is allocated and no device is needed. Of tensors whose gradients
    /// have no home ([`bind_param`](Self::bind_param)) those of a step are the caller's.
    ///
    /// # Errors
    /// As [`build`](Self::build), as far as no device is needed.
    pub fn memory(&self, limits: &wgpu::Limits) -> Result<Memory> {
        let mut builder = self.clone();
        builder.settle()?;
        Ok(Plan::new(&builder, limits, false)?.memory(&builder))
    }
}

impl Optimizer {
    /// What it takes of the GPU's memory, by role: every buffer that construction created, and the ranges of the caller's that were bound.
    /// Beside it there are only copies on their way: snapshots and what is read or written.
    #[must_use]
    pub fn memory(&self) -> Memory {
        self.memory.clone()
    }
}

impl Plan {
    pub(super) fn memory(&self, builder: &Builder) -> Memory {
        let mut memory = Memory::new(builder.tensors.iter().map(|tensor| tensor.elements).sum());
        add_tensors(builder, &mut memory);
        self.add_arrays(builder, &mut memory);
        for (which, bytes) in self.sizes.iter() {
            self.add_other(which, bytes, &mut memory);
        }
        let theirs = self.rows.mask_bytes(|source| matches!(source, Source::Theirs(_)));
        memory.add(Role::Masks, Owner::Caller, theirs.unwrap_or(0));
        let rest = self.sizes.iter().map(|(_, bytes)| bytes).sum::<u64>() - memory.owned();
        memory.add(Role::Alignment, Owner::Crate, rest);
        memory
    }

    /// The arenas' arrays.
    fn add_arrays(&self, builder: &Builder, memory: &mut Memory) {
        let arrays: Vec<Vec<Array>> = self.classes.variants.iter().map(Variant::arrays).collect();
        for tensor in 0..builder.tensors.len() {
            for run in self.layout.state_runs(tensor) {
                for array in &arrays[self.layout.launches[run.launch].class] {
                    memory.add(array.role, Owner::Crate, array.bytes(&run));
                }
            }
        }
    }

    /// A buffer that is not a tensor's.
    fn add_other(&self, which: Which, bytes: u64, memory: &mut Memory) {
        let role = match which {
            Which::Parameters(_) | Which::Gradients(_) | Which::Arena(_) => return,
            Which::Chunks(launch) => {
                let measured = self.measured(launch);
                memory.add(Role::Telemetry, Owner::Crate, measured);
                return memory.add(Role::Tables, Owner::Crate, bytes - measured);
            }
            Which::Scalars => {
                let control = self.rings.control();
                memory.add(Role::Control, Owner::Crate, control);
                return memory.add(Role::Scalars, Owner::Crate, bytes - control);
            }
            Which::Spans(_) | Which::Segments(_) | Which::Tensors(_) | Which::Passes | Which::Runs => Role::Tables,
            Which::Partials(_) => Role::PartialSums,
            Which::Totals(_) => Role::Totals,
            Which::Control | Which::Confirmation | Which::Losses => Role::Control,
            Which::Calls => Role::Scalars,
            Which::Masks => Role::Masks,
            Which::Indices | Which::Scratch | Which::Tasks => Role::Rows,
            Which::Telemetry(_) => Role::Telemetry,
        };
        memory.add(role, Owner::Crate, bytes);
    }
}

/// Parameters and gradients, whosever they are.
fn add_tensors(builder: &Builder, memory: &mut Memory) {
    for tensor in &builder.tensors {
        let owner = match tensor.home {
            Home::Own => Owner::Crate,
            Home::Bound { .. } => Owner::Caller,
        };
        memory.add(Role::Parameters, owner, bytes_of(tensor.elements, tensor.formats.params.format()));
        memory.add(Role::Gradients, owner, bytes_of(tensor.elements, tensor.formats.grads));
    }
}
