//! Checkpoints: everything that resuming needs, through safetensors.
//!
//! A file holds `param/<tensor>` and `<state>/<tensor>` as f32, and in its metadata the optimizer, every group's settings, and the
//! counters. Resuming on the same device and driver gives the same bits as going on would have.
//!
//! ```
//! use wgpu_optim::{AdamW, Group, Optimizer, checkpoint::Checkpoint};
//! # let gpu = pollster::block_on(wgpu_optim::gpu::Selector::default().open())?;
//! # let (device, queue) = (gpu.device, gpu.queue);
//! let build = || {
//!     let mut builder = Optimizer::builder(AdamW::default());
//!     builder.tensor(Group::DEFAULT, "w", &[5]);
//!     builder.build(&device, &queue)
//! };
//! let optimizer = build()?;
//! let mut encoder = device.create_command_encoder(&Default::default());
//! let snapshot = optimizer.snapshot(&mut encoder)?; // a copy on the GPU; training goes on
//! queue.submit([encoder.finish()]);
//! let bytes = pollster::block_on(snapshot.checkpoint())?.to_bytes()?; // or `.save(path)?`
//!
//! let mut resumed = build()?;
//! Checkpoint::from_bytes("memory", bytes)?.restore(&mut resumed)?;
//! # Ok::<(), wgpu_optim::Error>(())
//! ```

mod host;
mod torch;

pub use torch::restore_torch;

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Map, Value as Json, json};

use crate::engine::{Arrays, Contents, Snapshot};
use crate::optim::Value;
use crate::optim::{Procedure, Rule};
use crate::storage::Packed;
use crate::temporary::Temporary;
use crate::tensor_file::{TensorFile, little_endian, quote};
use crate::{Error, Group, Optimizer, Result, Rows, Tensor};

/// The version that this crate writes.
const VERSION: u64 = 1;
/// The one key of the metadata: several would come in another order every time.
const ABOUT: &str = "wgpu-optim checkpoint";

/// A group's settings.
type Settings = Vec<(String, Value)>;

/// What was saved of an optimizer.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    name: String,
    optimizer: String,
    groups: Vec<(String, Settings)>,
    contents: Contents,
    notes: BTreeMap<String, String>,
}

/// How strictly a checkpoint must fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fit {
    /// The same optimizer, tensors, shapes and states. Default.
    #[default]
    Whole,
    /// Whatever tensors and states are on both sides; counters and settings are not taken.
    Partial,
}

impl Snapshot {
    /// Waits for the copies without blocking: submit the encoder first.
    ///
    /// # Errors
    /// The encoder was dropped, or the device lost.
    pub async fn checkpoint(self) -> Result<Checkpoint> {
        let about = self.about.clone();
        let own = |(name, settings): (String, Vec<(&str, Value)>)| {
            (name, settings.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
        };
        Ok(Checkpoint {
            name: "snapshot".to_owned(),
            optimizer: about.optimizer.to_owned(),
            groups: about.groups.into_iter().map(own).collect(),
            contents: self.contents().await?,
            notes: BTreeMap::new(),
        })
    }
}

impl Checkpoint {
    /// The optimizer's name.
    #[must_use]
    pub fn optimizer(&self) -> &str {
        &self.optimizer
    }

    /// How many steps had been applied.
    #[must_use]
    pub fn applied(&self) -> u64 {
        u64::from(self.contents.control[0])
    }

    /// The caller's own texts, saved with the rest: the epoch, a seed, what data.
    #[must_use]
    pub const fn notes(&self) -> &BTreeMap<String, String> {
        &self.notes
    }

    /// The notes, to be changed.
    pub const fn notes_mut(&mut self) -> &mut BTreeMap<String, String> {
        &mut self.notes
    }

    /// The numbers of an array of a tensor: `param` or a state.
    #[must_use]
    pub fn array(&self, tensor: &str, array: &str) -> Option<Vec<f32>> {
        let tensor = self.contents.tensors.iter().find(|t| t.name == tensor)?;
        tensor.arrays.iter().find(|(name, _)| name == array).map(|(_, values)| values.values())
    }

    /// The file as bytes.
    ///
    /// # Errors
    /// A tensor's name makes two keys equal.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let control = &self.contents.control;
        let settings = |(name, settings): &(String, Settings)| {
            let settings: Map<String, Json> = settings.iter().map(|(k, v)| (k.clone(), to_json(v))).collect();
            json!({ "name": name, "settings": settings })
        };
        let about = json!({
            "version": VERSION,
            "optimizer": self.optimizer,
            "groups": self.groups.iter().map(settings).collect::<Vec<_>>(),
            "tensors": self.contents.tensors.iter().map(|t| json!({ "name": t.name, "group": t.group })).collect::<Vec<_>>(),
            "applied": control[0],
            "skipped": control[2],
            "streak": control[3],
            // The bits: a decimal might not bring them back.
            "loss_scale_bits": control[4],
            "memory_bits": self.contents.memory.iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
            "probe_loss_bits": self.contents.losses.iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
            "notes": self.notes,
        });
        let arrays =
            self.contents.tensors.iter().flat_map(|t| t.arrays.iter().map(move |(name, values)| (t, name, values)));
        let arrays = arrays.map(|(t, name, values)| (format!("{name}/{}", t.name), t.shape.clone(), values.values()));
        serialize(&self.name, arrays, (ABOUT, about.to_string()))
    }

    /// Writes the file: to a temporary one beside it, synced, then renamed, so that a kill at any moment leaves the old or the new
    /// file whole.
    ///
    /// # Errors
    /// As [`to_bytes`](Self::to_bytes), and what the file system says.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        write_whole(path.as_ref(), &self.to_bytes()?)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// What the file system says, and as [`from_bytes`](Self::from_bytes).
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let name = path.as_ref().display().to_string();
        let bytes = std::fs::read(&path).map_err(|source| Error::Io { path: name.clone(), source })?;
        Self::from_bytes(&name, bytes)
    }

    /// Reads a file's bytes; `name` is for errors. Nothing in them is believed before it was checked.
    ///
    /// # Errors
    /// It is no checkpoint, of a newer version, truncated, or contradicts itself.
    pub fn from_bytes(name: &str, bytes: impl Into<Vec<u8>>) -> Result<Self> {
        let file = TensorFile::parse(name, bytes.into())?;
        let about =
            file.text(ABOUT).map_err(|_| file.error(format!("is no checkpoint: its metadata lack `{ABOUT}`")))?;
        let about: Json =
            serde_json::from_str(about).map_err(|e| file.error(format!("its metadata `{ABOUT}`: {e}")))?;
        let version = count(&file, &about, "version")?;
        if version > VERSION {
            return Err(file.error(format!("has version {version}, this crate reads up to {VERSION}")));
        }
        let scale = f32::from_bits(word(&file, &about, "loss_scale_bits")?);
        if !(scale.is_finite() && scale > 0.0) {
            return Err(file.error(format!("its loss scale is {scale}, needs a finite number above 0")));
        }
        let [applied, skipped, streak] =
            [word(&file, &about, "applied")?, word(&file, &about, "skipped")?, word(&file, &about, "streak")?];
        Ok(Self {
            name: name.to_owned(),
            optimizer: text(&file, &about, "optimizer")?.to_owned(),
            groups: groups(&file, &about)?,
            contents: Contents {
                control: [applied, 0, skipped, streak, scale.to_bits(), 0, 0, 0],
                memory: bits(&file, &about, "memory_bits", |bits| Some(f32::from_bits(u32::try_from(bits).ok()?)))?,
                losses: bits(&file, &about, "probe_loss_bits", |bits| Some(f64::from_bits(bits)))?,
                tensors: tensors(&file, &about)?,
            },
            notes: notes(&file, &about)?,
        })
    }

    /// Puts everything back into an optimizer of the same kind: parameters, states, counters and settings.
    ///
    /// # Errors
    /// Every difference between the two; a recorded step is not yet finished. Nothing was changed then.
    pub fn restore(&self, optimizer: &mut Optimizer) -> Result<()> {
        self.restore_fitting(optimizer, Fit::Whole)
    }

    /// As [`restore`](Self::restore), as strictly as asked for.
    ///
    /// # Errors
    /// As [`restore`](Self::restore).
    pub fn restore_fitting(&self, optimizer: &mut Optimizer, fit: Fit) -> Result<()> {
        let differences = if fit == Fit::Whole { self.differences(optimizer) } else { Vec::new() };
        if !differences.is_empty() {
            return Err(Error::Mismatch { checkpoint: self.name.clone(), differences });
        }
        if fit == Fit::Whole {
            // First, because it is refused while steps are under way.
            optimizer.write_control(self.contents.control)?;
            optimizer.write_decisions(&self.contents.memory, &self.contents.losses)?;
            for (group, settings) in self.shared_groups(optimizer) {
                optimizer.put_settings(group, settings.iter().map(|(k, v)| (k.as_str(), v)))?;
            }
        }
        for (set, live) in self.rows(optimizer) {
            optimizer.set_live_rows(set, live)?;
        }
        for saved in &self.contents.tensors {
            let Some(tensor) = optimizer.tensor(&saved.name) else { continue };
            if shape_of(optimizer, tensor) != saved.shape {
                continue;
            }
            let states = optimizer.state_names(tensor);
            for (array, values) in &saved.arrays {
                if array == "param" || states.contains(&array.as_str()) {
                    optimizer.write_array(tensor, array, &values.values())?;
                }
            }
        }
        Ok(())
    }

    /// The row sets that would take the saved count of rows, with it.
    fn rows(&self, optimizer: &Optimizer) -> Vec<(Rows, usize)> {
        let saved = |name: &str| self.contents.tensors.iter().find(|t| t.name == name).map(|t| t.shape.as_slice());
        optimizer.rows_as(saved)
    }

    /// The groups that are on both sides, with the settings that were saved.
    fn shared_groups(&self, optimizer: &Optimizer) -> Vec<(Group, &Settings)> {
        let saved = |name: &str| self.groups.iter().find(|(n, _)| n == name).map(|(_, settings)| settings);
        optimizer.groups().filter_map(|(group, name)| Some((group, saved(name)?))).collect()
    }

    /// Everything in which the checkpoint and an optimizer differ.
    #[must_use]
    pub fn differences(&self, optimizer: &Optimizer) -> Vec<String> {
        let mut differences = Vec::new();
        let rule = optimizer.rule(Group::DEFAULT).name();
        if rule != self.optimizer {
            differences.push(format!("it is of {}, the optimizer is {rule}", self.optimizer));
        }
        for (_, name) in optimizer.groups() {
            if !self.groups.iter().any(|(n, _)| n == name) {
                differences.push(format!("it has no group {}", quote(name)));
            }
        }
        for (group, settings) in self.shared_groups(optimizer) {
            if let Err(error) = optimizer.with_settings(group, settings.iter().map(|(k, v)| (k.as_str(), v))) {
                differences.push(error.to_string());
            }
        }
        differences.extend(self.count_differences(optimizer.rule(Group::DEFAULT)));
        let saved: HashMap<&str, &Arrays> = self.contents.tensors.iter().map(|t| (t.name.as_str(), t)).collect();
        let rows = self.rows(optimizer);
        for (tensor, name, _) in optimizer.tensors() {
            let shape = optimizer.shape_with(tensor, &rows);
            match saved.get(name) {
                None => differences.push(format!("it lacks tensor {}", quote(name))),
                Some(saved) if saved.shape != shape => {
                    differences.push(format!(
                        "tensor {} has shape {:?} there, {shape:?} here",
                        quote(name),
                        saved.shape
                    ));
                }
                Some(saved) => differences.extend(state_differences(name, saved, &optimizer.state_names(tensor))),
            }
        }
        for name in saved.keys().filter(|name| optimizer.tensor(name).is_none()) {
            differences.push(format!("its tensor {} is not here", quote(name)));
        }
        differences
    }
}

impl Checkpoint {
    /// Whether as many numbers were saved as the rule remembers and probes.
    fn count_differences(&self, rule: &dyn Rule) -> Vec<String> {
        let probes = if let Procedure::Probe(probe) = rule.procedure() { probe.count + 1 } else { 0 };
        let counts = [
            ("numbers that decisions remember", self.contents.memory.len(), rule.memory().len()),
            ("losses of probes", self.contents.losses.len(), probes),
        ];
        let differ = counts.into_iter().filter(|(_, there, here)| there != here);
        differ.map(|(what, there, here)| format!("it has {there} {what}, the optimizer {here}")).collect()
    }
}

fn state_differences(tensor: &str, saved: &Arrays, states: &[&str]) -> Vec<String> {
    let there: Vec<&str> = saved.arrays.iter().map(|(name, _)| name.as_str()).filter(|n| *n != "param").collect();
    let lacks =
        states.iter().filter(|s| !there.contains(*s)).map(|s| format!("tensor {} lacks state `{s}`", quote(tensor)));
    let extra = there.iter().filter(|s| !states.contains(*s));
    lacks.chain(extra.map(|s| format!("state {} of tensor {} is not kept here", quote(s), quote(tensor)))).collect()
}

fn shape_of(optimizer: &Optimizer, tensor: Tensor) -> Vec<usize> {
    optimizer.tensors().nth(tensor.index()).map_or_else(Vec::new, |(_, _, shape)| shape.to_vec())
}

/// A safetensors file of f32 arrays.
fn serialize(
    name: &str,
    arrays: impl IntoIterator<Item = (String, Vec<usize>, Vec<f32>)>,
    (key, text): (&str, String),
) -> Result<Vec<u8>> {
    let failed = |e: safetensors::SafeTensorError| Error::File { file: name.to_owned(), problem: e.to_string() };
    let arrays: Vec<_> =
        arrays.into_iter().map(|(key, shape, values)| (key, shape, little_endian(&values).into_owned())).collect();
    let mut keys = std::collections::HashSet::new();
    if let Some((key, ..)) = arrays.iter().find(|(key, ..)| !keys.insert(key)) {
        return Err(Error::Duplicate { kind: "key", name: key.clone() });
    }
    let views: Vec<_> = arrays
        .iter()
        .map(|(key, shape, bytes)| Ok((key, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    let metadata = std::iter::once((key.to_owned(), text)).collect();
    safetensors::serialize(views, Some(metadata)).map_err(failed)
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut temporary = Temporary::beside(path)?;
        temporary.file.write_all(bytes)?;
        temporary.publish(path)
    };
    write().map_err(|source| Error::Io { path: path.display().to_string(), source })
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

fn count(file: &TensorFile, about: &Json, key: &str) -> Result<u64> {
    about[key]
        .as_u64()
        .ok_or_else(|| file.error(format!("its metadata need a whole number `{key}`, have {}", about[key])))
}

/// A list of numbers by their bits; none where the file has no such list.
fn bits<T>(file: &TensorFile, about: &Json, key: &str, from: impl Fn(u64) -> Option<T>) -> Result<Vec<T>> {
    if about[key].is_null() {
        return Ok(Vec::new());
    }
    let number = |value: &Json| value.as_u64().and_then(&from);
    let numbers = list(file, about, key)?.iter().map(number).collect::<Option<Vec<T>>>();
    numbers.ok_or_else(|| file.error(format!("its metadata `{key}` holds something that is no number's bits")))
}

fn word(file: &TensorFile, about: &Json, key: &str) -> Result<u32> {
    let value = count(file, about, key)?;
    u32::try_from(value).map_err(|_| file.error(format!("`{key}` is {value}, at most {} fits", u32::MAX)))
}

fn text<'a>(file: &TensorFile, about: &'a Json, key: &str) -> Result<&'a str> {
    about[key].as_str().ok_or_else(|| file.error(format!("its metadata need a text `{key}`, have {}", about[key])))
}

fn list<'a>(file: &TensorFile, about: &'a Json, key: &str) -> Result<&'a Vec<Json>> {
    about[key].as_array().ok_or_else(|| file.error(format!("its metadata need a list `{key}`, have {}", about[key])))
}

fn groups(file: &TensorFile, about: &Json) -> Result<Vec<(String, Settings)>> {
    let group = |group: &Json| -> Result<(String, Settings)> {
        let settings = group["settings"].as_object().ok_or_else(|| file.error("a group lacks its settings"))?;
        let setting = |(name, value): (&String, &Json)| {
            let value = from_json(value).ok_or_else(|| file.error(format!("setting {} is {value}", quote(name))))?;
            Ok((name.clone(), value))
        };
        Ok((text(file, group, "name")?.to_owned(), settings.iter().map(setting).collect::<Result<_>>()?))
    };
    list(file, about, "groups")?.iter().map(group).collect()
}

/// The caller's texts; files without any are fine.
fn notes(file: &TensorFile, about: &Json) -> Result<BTreeMap<String, String>> {
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

/// Every tensor that the metadata name, with the arrays that the file has of it.
fn tensors(file: &TensorFile, about: &Json) -> Result<Vec<Arrays>> {
    let mut of_tensor: HashMap<&str, Vec<(&str, &str)>> = HashMap::new();
    for entry in file.entries() {
        let (array, tensor) = entry
            .key
            .split_once('/')
            .ok_or_else(|| file.error(format!("key {} names no tensor", quote(&entry.key))))?;
        if entry.dtype != Dtype::F32 {
            return Err(file.error(format!("{} is {:?}, needs F32", quote(&entry.key), entry.dtype)));
        }
        of_tensor.entry(tensor).or_default().push((array, &entry.key));
    }
    let mut tensors = Vec::new();
    for tensor in list(file, about, "tensors")? {
        let (name, group) = (text(file, tensor, "name")?, text(file, tensor, "group")?);
        let keys = of_tensor.remove(name).ok_or_else(|| file.error(format!("tensor {} has no arrays", quote(name))))?;
        tensors.push(arrays(file, name, group, &keys)?);
    }
    match of_tensor.keys().next() {
        Some(name) => Err(file.error(format!("tensor {} is not among those that the metadata name", quote(name)))),
        None => Ok(tensors),
    }
}

fn arrays(file: &TensorFile, name: &str, group: &str, keys: &[(&str, &str)]) -> Result<Arrays> {
    let mut shape: Option<&[usize]> = None;
    let mut arrays = Vec::new();
    for (array, key) in keys {
        let Some(entry) = file.entry(key) else { continue };
        if *shape.get_or_insert(&entry.shape) != entry.shape {
            return Err(file.error(format!(
                "{} has shape {:?}, other arrays of the tensor {shape:?}",
                quote(key),
                entry.shape
            )));
        }
        arrays.push(((*array).to_owned(), Packed::F32(file.at::<f32>(&entry.data).into_owned())));
    }
    let shape = shape.unwrap_or_default().to_vec();
    Ok(Arrays { name: name.to_owned(), group: group.to_owned(), shape, arrays })
}
