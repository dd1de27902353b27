//! The notes that a run stores in its checkpoint beside the optimizer, and the resuming of a run from it.

use std::collections::BTreeMap;

use super::plan::Plan;
use crate::io::checkpoint::Checkpoint;
use crate::{Error, Result, Storage};

/// The note with the number of completed epochs.
const EPOCHS: &str = "epochs";
/// The note with the storage. Files without this note are f32: they were written before other storages existed.
const STORAGE: &str = "storage";

/// Saves a checkpoint with the plan's notes, if the plan names a file.
pub(super) fn save(plan: &Plan, epochs: u32, mut checkpoint: Checkpoint) -> Result<()> {
    let Some(path) = &plan.save else { return Ok(()) };
    *checkpoint.notes_mut() = notes(plan);
    checkpoint.notes_mut().insert(EPOCHS.to_owned(), epochs.to_string());
    checkpoint.save(path)
}

/// Reads the checkpoint from which the plan resumes, and the number of completed epochs. The checkpoint must come from the same plan; only
/// its storage may differ, if the plan converts it.
pub(super) fn load(plan: &Plan) -> Result<Option<(Checkpoint, u32)>> {
    let Some(path) = &plan.resume else { return Ok(None) };
    let checkpoint = Checkpoint::load(path)?;
    let file = path.display().to_string();
    let epochs = checkpoint.notes().get(EPOCHS).and_then(|text| text.parse().ok());
    let Some(epochs) = epochs else {
        return Err(Error::File {
            file,
            problem: format!("is not the checkpoint of a training run: it has no note `{EPOCHS}`"),
        });
    };
    let differences = differences(plan, checkpoint.notes());
    if !differences.is_empty() {
        return Err(Error::Mismatch { checkpoint: file, differences });
    }
    if epochs >= plan.epochs {
        let problem = format!("has {epochs} completed epochs, the plan has {}: give the plan more epochs", plan.epochs);
        return Err(Error::File { file, problem });
    }
    Ok(Some((checkpoint, epochs)))
}

/// The options that decide the run's numbers.
fn notes(plan: &Plan) -> BTreeMap<String, String> {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
    let settings = plan.rule.settings().into_iter().map(|(name, value)| format!("{name} {value}"));
    let text = |(name, value): (&str, String)| (name.to_owned(), value);
    [
        ("optimizer", plan.rule.name().to_owned()),
        ("settings", settings.collect::<Vec<_>>().join(", ")),
        ("model", format!("{:?}", plan.mlp)),
        ("batch", plan.batch.to_string()),
        ("seed", plan.seed.to_string()),
        ("held-out share", plan.held_out.to_string()),
        ("clip", or_none(plan.clip.map(|clip| clip.to_string()))),
        ("schedule", or_none(plan.schedule.as_ref().map(ToString::to_string))),
        ("ema", or_none(plan.ema.map(|ema| format!("{} warmup {}", ema.decay, ema.warmup)))),
        ("no decay", or_none(plan.no_decay.as_ref().map(ToString::to_string))),
        (STORAGE, plan.storage.to_string()),
        ("loss scale", or_none(plan.loss_scale.map(|scale| format!("{scale:?}")))),
    ]
    .map(text)
    .into()
}

fn differences(plan: &Plan, saved: &BTreeMap<String, String>) -> Vec<String> {
    let plain = Storage::default().to_string();
    let other = |(name, here): (&String, &String)| {
        let unknown = if name == STORAGE { &plain } else { "not known" };
        let there = saved.get(name).map_or(unknown, String::as_str);
        (there != here).then(|| format!("its {name}: {there}, here: {here}"))
    };
    notes(plan).iter().filter(|(name, _)| !plan.convert || *name != STORAGE).filter_map(other).collect()
}
