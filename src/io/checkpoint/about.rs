//! The metadata of a checkpoint.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value as Json, json};

use super::arrays;
use super::fields::{count, list, text, word};
use super::saved::{Checkpoint, Settings};
use crate::Result;
use crate::gpu::access::snapshot::{Control, Rounding};
use crate::io::tensor_file::{TensorFile, quote};
use crate::optim::Value;
use crate::options::around::{LossScale, Mode};
use crate::options::storage::Packed;

/// The newest version that this crate reads and writes. Version 1 has only f32.
const VERSION: u64 = 2;

/// f32 holds every count up to this one, and no count wraps.
const MOST_MICRO_BATCHES: u32 = 1 << 24;

impl Checkpoint {
    /// The lowest version that can hold this checkpoint, so that older readers can read it.
    fn version(&self) -> u64 {
        let mut arrays = self.contents.tensors.iter().flat_map(|tensor| &tensor.arrays);
        let plain = arrays.all(|(_, values)| matches!(values, Packed::F32(_)));
        let Control { rounding, mode, .. } = self.contents.control;
        if plain && rounding.is_none() && mode == Mode::Training { 1 } else { VERSION }
    }

    pub(crate) fn about(&self) -> Json {
        let Control { step_count, skipped, streak, scale, accumulated, mode, rounding } = self.contents.control;
        let settings = |(name, settings): &(String, Settings)| {
            let settings: Map<String, Json> = settings.iter().map(|(k, v)| (k.clone(), to_json(v))).collect();
            json!({ "name": name, "settings": settings })
        };
        let mut about = json!({
            "version": self.version(),
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
            "notes": self.notes,
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

pub(crate) fn check_version(file: &TensorFile, about: &Json) -> Result<()> {
    let version = count(file, about, "version")?;
    if version == 0 {
        return Err(file.error("has version 0; versions begin at 1"));
    }
    if version > VERSION {
        return Err(file.error(format!("has version {version}, this crate reads up to {VERSION}")));
    }
    Ok(())
}

pub(crate) fn control(file: &TensorFile, about: &Json) -> Result<Control> {
    let scale = f32::from_bits(word(file, about, "loss_scale_bits")?);
    LossScale::check_scale(scale.into()).map_err(|problem| file.error(format!("its {problem}")))?;
    let rounding = match &about["rounding"] {
        Json::Null => None,
        rounding => Some(Rounding { key: word(file, rounding, "key")?, steps: word(file, rounding, "steps")? }),
    };
    let mode = match &about["mode"] {
        Json::Null => Mode::Training,
        mode => mode.as_str().and_then(Mode::named).ok_or_else(|| {
            file.error(format!("its mode is {mode}, needs \"training\", \"average\" or \"evaluation\""))
        })?,
    };
    Ok(Control {
        step_count: word(file, about, "applied")?,
        skipped: word(file, about, "skipped")?,
        streak: word(file, about, "streak")?,
        scale,
        accumulated: micro_batches(file, about)?,
        mode,
        rounding,
    })
}

/// The count of micro-batches in the accumulator; a file that was saved between two windows has no such count.
fn micro_batches(file: &TensorFile, about: &Json) -> Result<u32> {
    if about["accumulated"].is_null() {
        return Ok(0);
    }
    let batches = word(file, about, "accumulated")?;
    if batches > MOST_MICRO_BATCHES {
        return Err(file.error(format!("`accumulated` is {batches}, needs at most {MOST_MICRO_BATCHES}")));
    }
    Ok(batches)
}

fn to_json(value: &Value) -> Json {
    match value {
        Value::Number(x) => json!(x),
        Value::Flag(x) => json!(x),
        Value::Word(x) => json!(x),
    }
}

fn from_json(value: &Json) -> Option<Value> {
    match value {
        Json::Number(x) => x.as_f64().map(Value::Number),
        Json::Bool(x) => Some(Value::Flag(*x)),
        Json::String(x) => Some(Value::Word(x.clone())),
        _ => None,
    }
}

pub(crate) fn groups(file: &TensorFile, about: &Json) -> Result<Vec<(String, Settings)>> {
    let group = |group: &Json| -> Result<(String, Settings)> {
        let settings = group["settings"].as_object().ok_or_else(|| file.error("a group lacks its settings"))?;
        let setting = |(name, value): (&String, &Json)| {
            let value = from_json(value).ok_or_else(|| file.error(format!("setting {} is {value}", quote(name))))?;
            Ok((name.clone(), value))
        };
        Ok((text(file, group, "name")?.to_owned(), settings.iter().map(setting).collect::<Result<_>>()?))
    };
    let groups = list(file, about, "groups")?.iter().map(group).collect::<Result<Vec<_>>>()?;
    let mut names = HashSet::new();
    match groups.iter().find(|(name, _)| !names.insert(name)) {
        Some((name, _)) => Err(file.error(format!("has group {} twice", quote(name)))),
        None => Ok(groups),
    }
}

/// The notes of the caller; a file may have none.
pub(crate) fn notes(file: &TensorFile, about: &Json) -> Result<BTreeMap<String, String>> {
    let notes = match &about["notes"] {
        Json::Null => return Ok(BTreeMap::new()),
        Json::Object(notes) => notes,
        other => return Err(file.error(format!("`notes` is {other}, needs names and texts"))),
    };
    let note = |(name, value): (&String, &Json)| {
        let value =
            value.as_str().ok_or_else(|| file.error(format!("note {} is {value}, needs a text", quote(name))))?;
        Ok((name.clone(), value.to_owned()))
    };
    notes.iter().map(note).collect()
}
