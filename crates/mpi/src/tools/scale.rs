//! Bytes per rank and times per step of models that no test can hold, from the same numbers that [`bench`](crate::tools::bench) measures.

use std::fmt::Write as _;

use wgpu_optim::memory::Role;
use wgpu_optim::storage::Storage;
use wgpu_optim::{AdamW, Group, Optimizer, wgpu};

use crate::{Options, Result, States, Wire};

/// Bytes per second between host and GPU, in each direction: PCIe 4.0 with 16 lanes, of whose 32 GB/s programs reach about this much.
pub const PCIE: f64 = 25e9;
/// Bytes per second of a network adapter of 100 Gb/s, in each direction.
pub const NETWORK: f64 = 12.5e9;

/// Bytes per parameter of AdamW in a storage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PerParameter {
    /// Parameters, whole on every rank.
    pub parameters: f64,
    /// Gradients, whole on every rank.
    pub gradients: f64,
    /// Gradients between ranks.
    pub wire: f64,
    /// States, with the master or remainder of half precision: one shard on every rank.
    pub states: f64,
}

impl PerParameter {
    /// As the optimizer reports them for a tensor of 2²⁴ elements.
    ///
    /// # Errors
    /// The rule does not allow this storage.
    pub fn of(storage: &Storage, wire: Wire) -> Result<Self> {
        let elements = 1_u64 << 24;
        let limits = wgpu::Limits {
            max_buffer_size: 1 << 30,
            max_storage_buffer_binding_size: 1 << 30,
            ..wgpu::Limits::default()
        };
        let mut builder = Optimizer::builder(AdamW::default());
        builder.tensor(Group::DEFAULT, "w", &[elements as usize]);
        builder.storage(storage.clone());
        let memory = builder.memory_usage(&limits)?;
        let per = |bytes: u64| bytes as f64 / elements as f64;
        let wire = builder.cuts()?.first().map_or(4, |cut| wire.format(cut.grads).bytes());
        Ok(Self {
            parameters: per(memory.of(Role::Parameters)),
            gradients: per(memory.of(Role::Gradients)),
            wire: wire as f64,
            states: per(memory.states() + memory.of(Role::Master) + memory.of(Role::Remainder)),
        })
    }
}

/// A model on ranks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Parameters of the model.
    pub parameters: f64,
    /// Ranks.
    pub ranks: f64,
    /// Bytes per parameter.
    pub bytes: PerParameter,
    /// Which rank keeps which states.
    pub states: States,
}

impl Scale {
    /// Bytes of states on a rank.
    #[must_use]
    pub fn state_bytes(&self) -> f64 {
        let share = if self.states == States::Sharded { self.ranks } else { 1.0 };
        self.parameters * self.bytes.states / share
    }

    /// Bytes of parameters, gradients and states on a rank.
    #[must_use]
    pub fn bytes_per_rank(&self) -> f64 {
        self.parameters * (self.bytes.parameters + self.bytes.gradients) + self.state_bytes()
    }

    /// Bytes that a rank sends in a step, and receives too: all pieces but its own of the gradients, and its own piece, of parameters or of mean
    /// gradients, to all other ranks.
    #[must_use]
    pub fn sent_bytes(&self) -> f64 {
        let back = if self.states == States::Sharded { self.bytes.parameters } else { self.bytes.gradients };
        self.parameters * (self.bytes.wire + back) * (self.ranks - 1.0) / self.ranks
    }

    /// Bytes between host and GPU in a step, in the busier direction: to the host all gradients and the own parameters, to the GPU the own mean
    /// gradients and the parameters of others.
    #[must_use]
    pub fn copied_bytes(&self) -> f64 {
        let own = 1.0 / self.ranks;
        let up = self.bytes.gradients + self.bytes.parameters * own;
        let down = self.bytes.gradients * own + self.bytes.parameters * (1.0 - own);
        self.parameters * up.max(down)
    }
}

/// The tables of the guide's page: one per storage.
///
/// # Errors
/// AdamW does not allow a storage, which does not happen.
pub fn page() -> Result<String> {
    let mut page = String::new();
    for storage in ["f32", "bf16-sr,8bit"] {
        let bytes = PerParameter::of(&storage.parse()?, Options::default().wire)?;
        let _ = write!(
            page,
            "### AdamW, storage `{storage}`\n\nBytes per parameter: {} parameters, {} gradients, {} states.\n\n\
             | parameters | ranks | states per rank | memory per rank | sent per rank and step | host and GPU | 100 Gb/s |\n|--:|--:|--:|--:|--:|--:|--:|\n",
            number(bytes.parameters),
            number(bytes.gradients),
            number(bytes.states),
        );
        for exponent in [9, 10, 11, 12] {
            for ranks in [8, 64, 256, 1024] {
                let scale = Scale {
                    parameters: 10_f64.powi(exponent),
                    ranks: f64::from(ranks),
                    bytes,
                    states: States::Sharded,
                };
                let _ = writeln!(
                    page,
                    "| 10{} | {ranks} | {} | {} | {} | {} | {} |",
                    superscript(exponent),
                    size(scale.state_bytes()),
                    size(scale.bytes_per_rank()),
                    size(scale.sent_bytes()),
                    seconds(scale.copied_bytes() / PCIE),
                    seconds(scale.sent_bytes() / NETWORK),
                );
            }
        }
        page.push('\n');
    }
    Ok(page.trim_end().to_owned() + "\n")
}

fn superscript(exponent: i32) -> &'static str {
    ["⁹", "¹⁰", "¹¹", "¹²"][(exponent - 9) as usize]
}

fn number(x: f64) -> String {
    format!("{x:.4}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Three digits and a unit.
fn size(bytes: f64) -> String {
    let (unit, name) = if bytes >= 1e12 {
        (1e12, "TB")
    } else if bytes >= 1e9 {
        (1e9, "GB")
    } else {
        (1e6, "MB")
    };
    format!("{} {name}", digits(bytes / unit))
}

fn seconds(s: f64) -> String {
    if s < 1.0 { format!("{} ms", digits(s * 1e3)) } else { format!("{} s", digits(s)) }
}

fn digits(x: f64) -> String {
    if x >= 100.0 {
        format!("{x:.0}")
    } else if x >= 10.0 {
        format!("{x:.1}")
    } else {
        format!("{x:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected numbers are written out: none comes from the code under test.
    #[test]
    fn bytes_of_a_model_of_a_billion() -> Result<()> {
        let bytes = PerParameter::of(&"f32".parse()?, Wire::Stored)?;
        assert_eq!(bytes, PerParameter { parameters: 4.0, gradients: 4.0, wire: 4.0, states: 8.0 });
        let scale = Scale { parameters: 1e9, ranks: 8.0, bytes, states: States::Sharded };
        assert_eq!((scale.state_bytes(), scale.bytes_per_rank(), scale.sent_bytes()), (1e9, 9e9, 7e9));
        assert_eq!(scale.copied_bytes(), 4.5e9);
        let whole = Scale { states: States::Whole, ..scale };
        assert_eq!((whole.state_bytes(), whole.sent_bytes()), (8e9, 7e9));
        assert_eq!(PerParameter::of(&"f32".parse()?, Wire::Bf16)?.wire, 2.0);
        Ok(())
    }
}
