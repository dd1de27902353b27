//! The metadata of a checkpoint.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value as Json, json};

use super::arrays;
use super::metadata::{self, Common, Rule, Rules, Setting, Version};
use super::saved::{Checkpoint, SavedPart, Settings};
use crate::Result;
use crate::gpu::access::snapshot::{Control, Rounding};
use crate::io::tensor_file::{TensorFile, quote};
use crate::optim::Value;
use crate::options::around::{LossScale, Mode};
use crate::options::storage::Packed;

/// The newest version that this crate reads and writes.
const VERSION: u64 = RULES_VERSION;
/// Files of several rules have this version and no lower one.
const RULES_VERSION: u64 = 3;
/// Files of one rule have at most this version. Version 1 has only f32.
const RULE_VERSION: u64 = 2;
/// The rules of a file of several rules, in the metadata.
const RULES: &str = "rules";

/// f32 holds every count up to this one, and no count wraps.
const MOST_MICRO_BATCHES: u32 = 1 << 24;

impl Checkpoint {
    pub(crate) fn about(&self) -> Json {
        let (version, mut about) = match self.parts.as_slice() {
            [part] => (part.version(), part.about()),
            parts => (RULES_VERSION, json!({ RULES: parts.iter().map(SavedPart::about).collect::<Vec<_>>() })),
        };
        about["version"] = version.into();
        about["notes"] = json!(self.notes);
        about
    }
}

impl SavedPart {
    /// The lowest version that can hold this checkpoint, so that older readers can read it.
    fn version(&self) -> u64 {
        let mut arrays = self.contents.tensors.iter().flat_map(|tensor| &tensor.arrays);
        let plain = arrays.all(|(_, values)| matches!(values, Packed::F32(_)));
        let plain = plain && self.contents.tensors.iter().all(|tensor| tensor.progress.is_empty());
        let Control { rounding, mode, .. } = self.contents.control;
        if plain && rounding.is_none() && mode == Mode::Training { 1 } else { RULE_VERSION }
    }

    fn about(&self) -> Json {
        let Control { step_count, skipped, streak, scale, accumulated, mode, rounding } = self.contents.control;
        let settings = |(name, settings): &(String, Settings)| {
            let settings: Map<String, Json> = settings.iter().map(|(k, v)| (k.clone(), to_json(v))).collect();
            json!({ "name": name, "settings": settings })
        };
        let mut about = json!({
            "optimizer": self.optimizer,
            "groups": self.groups.iter().map(settings).collect::<Vec<_>>(),
            "tensors": self.contents.tensors.iter().map(arrays::about).collect::<Vec<_>>(),
            "applied": step_count,
            "skipped": skipped,
            "streak": streak,
            // The bits, because a decimal number may not restore them.
            "loss_scale_bits": scale.to_bits(),
            "memory_bits": self.contents.global_state.iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
            "probe_loss_bits": self.contents.losses.iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
        });
        // Older readers do not know this key, and a file that was saved between two windows does not need it.
        if accumulated > 0 {
            about["accumulated"] = accumulated.into();
        }
        if let Some(Rounding { key, steps }) = rounding {
            about["rounding"] = json!({ "key": key, "steps": steps });
        }
        if mode != Mode::Training {
            about["mode"] = json!(mode.name());
        }
        about
    }
}

/// The metadata of every rule, and the notes of the caller.
pub(super) fn read(file: &TensorFile, text: &str, key: &str) -> Result<(Vec<Rule>, BTreeMap<String, String>)> {
    let wrong = |e: serde_json::Error| file.error(format!("its metadata `{key}`: {e}"));
    let version = serde_json::from_str::<Version>(text).map_err(wrong)?.version;
    check_version(file, version)?;
    let rules = if version < RULES_VERSION {
        vec![serde_json::from_str::<Rule>(text).map_err(wrong)?]
    } else {
        serde_json::from_str::<Rules>(text).map_err(wrong)?.rules.0
    };
    if rules.is_empty() {
        return Err(file.error(format!("its metadata `{RULES}` name no rule")));
    }
    check_groups(file, &rules)?;
    Ok((rules, serde_json::from_str::<Common>(text).map_err(wrong)?.notes.0))
}

/// Checks that no group appears twice.
fn check_groups(file: &TensorFile, rules: &[Rule]) -> Result<()> {
    let mut names = HashSet::new();
    let mut groups = rules.iter().flat_map(|rule| &rule.groups.0);
    match groups.find(|group| !names.insert(&group.name)) {
        Some(group) => Err(file.error(format!("has group {} twice", quote(&group.name)))),
        None => Ok(()),
    }
}

fn check_version(file: &TensorFile, version: u64) -> Result<()> {
    if version == 0 {
        return Err(file.error("has version 0; versions begin at 1"));
    }
    if version > VERSION {
        return Err(file.error(format!("has version {version}, this crate reads up to {VERSION}")));
    }
    Ok(())
}

pub(super) fn control(file: &TensorFile, metadata: &Rule) -> Result<Control> {
    let scale = f32::from_bits(metadata.loss_scale);
    LossScale::check_scale(scale.into()).map_err(|problem| file.error(format!("its {problem}")))?;
    let mode = match metadata.mode.as_deref() {
        None => Mode::Training,
        Some(mode) => Mode::named(mode).ok_or_else(|| {
            let mode = quote(mode);
            file.error(format!("its mode is {mode}, needs \"training\", \"average\" or \"evaluation\""))
        })?,
    };
    if metadata.accumulated > MOST_MICRO_BATCHES {
        let batches = metadata.accumulated;
        return Err(file.error(format!("`accumulated` is {batches}, needs at most {MOST_MICRO_BATCHES}")));
    }
    let Rule { step_count, skipped, streak, accumulated, .. } = *metadata;
    let rounding = metadata.rounding.as_ref().map(|rounding| Rounding { key: rounding.key, steps: rounding.steps });
    Ok(Control { step_count, skipped, streak, scale, accumulated, mode, rounding })
}

/// The groups with their settings.
pub(super) fn groups(groups: Vec<metadata::Group>) -> Vec<(String, Settings)> {
    let own = |(name, setting): (String, Setting)| (name, setting.0);
    groups.into_iter().map(|group| (group.name, group.settings.0.into_iter().map(own).collect())).collect()
}

fn to_json(value: &Value) -> Json {
    match value {
        Value::Number(x) => json!(x),
        Value::Flag(x) => json!(x),
        Value::Word(x) => json!(x),
    }
}
