//! The contents of a checkpoint, and taking it from a snapshot.

use std::collections::BTreeMap;

use crate::Result;
use crate::gpu::access::snapshot::{Arrays, Contents, Snapshot};
use crate::optim::Value;
use crate::options::storage::Packed;

/// The settings of a group.
pub(crate) type Settings = Vec<(String, Value)>;

/// The saved state of an optimizer.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    pub(crate) name: String,
    /// One for each rule, in the order of the groups.
    pub(crate) parts: Vec<SavedPart>,
    pub(crate) notes: BTreeMap<String, String>,
}

/// The saved state of the groups of one rule.
#[derive(Clone, Debug)]
pub(crate) struct SavedPart {
    pub(crate) optimizer: String,
    pub(crate) groups: Vec<(String, Settings)>,
    pub(crate) contents: Contents,
}

impl Snapshot {
    /// Waits for the copies without blocking: submit the encoder first.
    ///
    /// # Errors
    /// The encoder was dropped, or the device was lost.
    pub async fn checkpoint(self) -> Result<Checkpoint> {
        let own = |(name, settings): (String, Vec<(&str, Value)>)| {
            (name, settings.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
        };
        let mut parts = Vec::with_capacity(self.parts.len());
        for part in self.parts {
            let about = part.about.clone();
            parts.push(SavedPart {
                optimizer: about.optimizer.to_owned(),
                groups: about.groups.into_iter().map(own).collect(),
                contents: part.contents().await?,
            });
        }
        Ok(Checkpoint { name: "snapshot".to_owned(), parts, notes: BTreeMap::new() })
    }
}

impl Checkpoint {
    /// The optimizer's name; of several rules, the name of the first: see [`rule_of`](Self::rule_of).
    #[must_use]
    pub fn optimizer(&self) -> &str {
        self.parts.first().map_or("", |part| &part.optimizer)
    }

    /// The name of the rule that a group holds.
    #[must_use]
    pub fn rule_of(&self, group: &str) -> Option<&str> {
        let has = |part: &&SavedPart| part.groups.iter().any(|(name, _)| name == group);
        self.parts.iter().find(has).map(|part| part.optimizer.as_str())
    }

    /// The step count; of several rules, the largest.
    #[must_use]
    pub fn step_count(&self) -> u64 {
        self.parts.iter().map(SavedPart::step_count).max().unwrap_or(0)
    }

    /// The notes of the caller, such as the epoch, a seed or the data set.
    #[must_use]
    pub const fn notes(&self) -> &BTreeMap<String, String> {
        &self.notes
    }

    /// The notes, for writing.
    pub const fn notes_mut(&mut self) -> &mut BTreeMap<String, String> {
        &mut self.notes
    }

    /// The numbers of an array of a tensor in f32: `param`, as the model sees it, or a state.
    #[must_use]
    pub fn array(&self, tensor: &str, array: &str) -> Option<Vec<f32>> {
        self.tensor(tensor)?.get(array).map(Packed::values)
    }

    /// The parameters of a tensor in full precision, as steps change them.
    #[must_use]
    pub fn params(&self, tensor: &str) -> Option<Vec<f32>> {
        self.tensor(tensor)?.params()
    }

    /// The tensors with their names and shapes, in order.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        let tensors = self.parts.iter().flat_map(|part| &part.contents.tensors);
        tensors.map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice()))
    }

    pub(super) fn tensor(&self, name: &str) -> Option<&Arrays> {
        self.parts.iter().flat_map(|part| &part.contents.tensors).find(|tensor| tensor.name == name)
    }
}

impl SavedPart {
    /// The step count.
    pub(crate) fn step_count(&self) -> u64 {
        u64::from(self.contents.control.step_count)
    }
}
