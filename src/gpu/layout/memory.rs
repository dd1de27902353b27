//! The GPU memory that an optimizer takes, by role: see [`Builder::memory_usage`](crate::Builder::memory_usage).

use std::fmt;

/// The use of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Parameters as the model sees them.
    Parameters,
    /// Gradients.
    Gradients,
    /// A state of the rule: its name.
    State(&'static str),
    /// Gradients of micro-batches, joined: [`Builder::accumulate`](crate::Builder::accumulate).
    Accumulator,
    /// The average of the weights: [`Builder::ema`](crate::Builder::ema).
    Average,
    /// Step counts of elements: [`Builder::fresh_rows`](crate::Builder::fresh_rows).
    RowSteps,
    /// The f32 copy of parameters in half precision: [`RoundingMode::Master`](crate::options::storage::RoundingMode::Master).
    Master,
    /// The low 16 bits of split parameters: [`RoundingMode::Split`](crate::options::storage::RoundingMode::Split).
    Remainder,
    /// An array of a rule that probes, integrates or multiplies by a matrix: its name; `warp matrix` for all columns of WarpAdam's matrix.
    Procedure(&'static str),
    /// Flags of rows: [`Builder::mask`](crate::Builder::mask).
    Masks,
    /// Buffers that remapping rows needs: [`Optimizer::remap`](crate::Optimizer::remap).
    Rows,
    /// Sums of spans, before they are added to totals.
    PartialSums,
    /// Sums of each tensor and of all tensors.
    Totals,
    /// Records with the places of chunks, spans, segments, tensors and runs of dynamic gradients.
    Tables,
    /// Settings and bias corrections, which the host computes ahead.
    Scalars,
    /// Counters, decisions and losses.
    Control,
    /// Measurements of steps, which the host reads: [`Builder::telemetry`](crate::Builder::telemetry).
    Telemetry,
    /// Room between tensors and arrays, because each begins where the device can bind it.
    Alignment,
}

/// The name of the role in reports: `parameters`, `state m`, `tables` …
impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parameters => f.pad("parameters"),
            Self::Gradients => f.pad("gradients"),
            Self::State(name) => f.pad(&format!("state {name}")),
            Self::Accumulator => f.pad("gradient accumulator"),
            Self::Average => f.pad("average of the weights"),
            Self::RowSteps => f.pad("step counts of rows"),
            Self::Master => f.pad("master"),
            Self::Remainder => f.pad("remainder"),
            Self::Procedure(name) => f.pad(name),
            Self::Masks => f.pad("masks of rows"),
            Self::Rows => f.pad("rows that move"),
            Self::PartialSums => f.pad("partial sums"),
            Self::Totals => f.pad("totals"),
            Self::Tables => f.pad("tables"),
            Self::Scalars => f.pad("scalars"),
            Self::Control => f.pad("control"),
            Self::Telemetry => f.pad("telemetry"),
            Self::Alignment => f.pad("alignment"),
        }
    }
}

/// The owner of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// The crate, which creates the buffer when the optimizer is built.
    Crate,
    /// The caller: [`Builder::bind`](crate::Builder::bind).
    Caller,
}

/// The bytes of one role in one owner's buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Share {
    /// The use of the bytes.
    pub role: Role,
    /// The owner of the buffers.
    pub owner: Owner,
    /// The count of bytes.
    pub bytes: u64,
}

/// The GPU memory that an optimizer takes, by role: the buffers that the crate creates, and the ranges that the caller bound. `Display`
/// prints a table.
///
/// ```
/// use wgpu_optim::memory::Role;
/// use wgpu_optim::{AdamW, Group, Optimizer, wgpu};
/// let mut builder = Optimizer::builder(AdamW::default());
/// builder.tensor(Group::DEFAULT, "w", &[4096, 4096]);
/// builder.storage("bf16-sr,8bit".parse()?);
/// // Nothing is allocated, and no device is needed.
/// let memory = builder.memory_usage(&wgpu::Limits::default())?;
/// assert_eq!(memory.of(Role::Parameters), 2 * 4096 * 4096);
/// assert_eq!(memory.of(Role::State("m")), 4096 * 4096 + 4096 * 4096 / 64);
/// assert!(memory.per_parameter() < 6.2);
/// # Ok::<(), wgpu_optim::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    parameters: u64,
    shares: Vec<Share>,
}

impl MemoryUsage {
    /// No bytes yet, for this many parameters.
    pub(crate) const fn new(parameters: u64) -> Self {
        Self { parameters, shares: Vec::new() }
    }

    /// Adds bytes to a role. Adding 0 bytes adds no share.
    pub(crate) fn add(&mut self, role: Role, owner: Owner, bytes: u64) {
        match self.shares.iter_mut().find(|share| share.role == role && share.owner == owner) {
            Some(share) => share.bytes += bytes,
            None if bytes > 0 => self.shares.push(Share { role, owner, bytes }),
            None => {}
        }
    }

    /// Adds the bytes and the parameters of another part.
    pub(crate) fn join(&mut self, other: &Self) {
        self.parameters += other.parameters;
        other.shares.iter().for_each(|share| self.add(share.role, share.owner, share.bytes));
    }

    /// The count of parameters, with frozen ones, and with the full capacity of row sets.
    #[must_use]
    pub const fn parameters(&self) -> u64 {
        self.parameters
    }

    /// Every role that takes bytes.
    #[must_use]
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }

    /// The bytes of a role, in the buffers of the crate and of the caller.
    #[must_use]
    pub fn of(&self, role: Role) -> u64 {
        self.sum(|share| share.role == role)
    }

    /// The bytes of the rule's states.
    #[must_use]
    pub fn states(&self) -> u64 {
        self.sum(|share| matches!(share.role, Role::State(_)))
    }

    /// The bytes that [`Builder::build`](crate::Builder::build) allocates.
    #[must_use]
    pub fn owned(&self) -> u64 {
        self.sum(|share| share.owner == Owner::Crate)
    }

    /// All bytes, with those in the caller's buffers.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.sum(|_| true)
    }

    /// All bytes per parameter; 0 if there is no parameter.
    #[must_use]
    pub fn per_parameter(&self) -> f64 {
        self.share_of(self.total())
    }

    fn share_of(&self, bytes: u64) -> f64 {
        if self.parameters == 0 { 0.0 } else { bytes as f64 / self.parameters as f64 }
    }

    fn sum(&self, which: impl Fn(&Share) -> bool) -> u64 {
        self.shares.iter().filter(|share| which(share)).map(|share| share.bytes).sum()
    }
}

/// One line per role: its bytes, and its bytes per parameter.
impl fmt::Display for MemoryUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<32} {:>16} {:>13}", "role", "bytes", "per parameter")?;
        for Share { role, owner, bytes } in &self.shares {
            let name = match owner {
                Owner::Crate => role.to_string(),
                Owner::Caller => format!("{role} (caller's)"),
            };
            writeln!(f, "{name:<32} {bytes:>16} {:>13.4}", self.share_of(*bytes))?;
        }
        write!(f, "{:<32} {:>16} {:>13.4}", "total", self.total(), self.per_parameter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_adds_up() {
        let mut memory = MemoryUsage::new(10);
        memory.add(Role::Gradients, Owner::Caller, 40);
        memory.add(Role::State("m"), Owner::Crate, 20);
        memory.add(Role::State("m"), Owner::Crate, 5);
        memory.add(Role::Alignment, Owner::Crate, 0);
        assert_eq!((memory.total(), memory.owned(), memory.states()), (65, 25, 25));
        assert_eq!(memory.shares().len(), 2, "a role without bytes is not shown");
        let text = memory.to_string();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["gradients", "(caller's)", "40", "4.0000"]);
        assert_eq!(lines[2], ["state", "m", "25", "2.5000"]);
        assert_eq!(lines[3], ["total", "65", "6.5000"]);
        assert!(text.lines().all(|line| line.len() == text.lines().next().unwrap().len()), "{text}");
        assert_eq!(MemoryUsage::default().per_parameter(), 0.0);
    }
}
