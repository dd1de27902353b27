//! Checkpoints as files: reading and writing their bytes.

use std::path::Path;

use super::arrays::Entries;
use super::metadata::Rule;
use super::saved::{Checkpoint, SavedPart};
use super::{about, arrays};
use crate::gpu::access::snapshot::{Arrays, Contents};
use crate::io::atomic;
use crate::io::tensor_file::TensorFile;
use crate::io::tensor_writer::serialize;
use crate::optim::{self, Value};
use crate::options::storage::Packed;
use crate::{Error, NAdam, Result};

/// The one key of the metadata. safetensors writes several keys in an order that changes from file to file.
const ABOUT: &str = "wgpu-optim checkpoint";

/// Settings that rules got after files of these rules had been written, with the value that a rule had before.
const LATER: [(&str, Value); 1] = [("cautious", Value::Flag(false))];

impl Checkpoint {
    /// The file as bytes.
    ///
    /// # Errors
    /// A tensor's name makes two keys equal.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let tensors = self.parts.iter().flat_map(|part| &part.contents.tensors);
        let arrays: Vec<_> = tensors.flat_map(arrays::write).collect();
        serialize(&self.name, &arrays, (ABOUT, self.about().to_string()))
    }

    /// Writes the file: creates a temporary file beside it, syncs it and renames it, so that a kill at any moment leaves the old or the new
    /// file whole. The function follows a symbolic link and keeps the mode of the old file. It removes temporary files of killed runs
    /// beside the file.
    ///
    /// # Errors
    /// As [`to_bytes`](Self::to_bytes), and errors of the file system; `path` is a folder, a device, a pipe or a socket.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let written = atomic::write(path, &self.to_bytes()?);
        written.map_err(|source| Error::Io { path: path.display().to_string(), source })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Errors of the file system, and as [`from_bytes`](Self::from_bytes).
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::from_file(&path.display().to_string(), &TensorFile::open(path)?)
    }

    /// Reads a file's bytes; `name` is for errors. The reader checks every number before it uses it.
    ///
    /// # Errors
    /// The file is no checkpoint, has a newer version, is truncated, or contradicts itself.
    pub fn from_bytes(name: &str, bytes: impl Into<Vec<u8>>) -> Result<Self> {
        Self::from_file(name, &TensorFile::parse(name, bytes.into())?)
    }

    fn from_file(name: &str, file: &TensorFile) -> Result<Self> {
        let about =
            file.text(ABOUT).map_err(|_| file.error(format!("is no checkpoint: its metadata lack `{ABOUT}`")))?;
        let (rules, notes) = about::read(file, about, ABOUT)?;
        let entries = Entries::new(file, &rules)?;
        let read = |rule: Rule| SavedPart::read(file, rule, &entries);
        let parts = rules.into_iter().map(read).collect::<Result<_>>()?;
        Ok(Self { name: name.to_owned(), parts, notes })
    }
}

impl SavedPart {
    /// Reads a rule.
    fn read(file: &TensorFile, rule: Rule, entries: &Entries<'_>) -> Result<Self> {
        let mut part = Self {
            contents: Contents {
                control: about::control(file, &rule)?,
                global_state: rule.global_state.0.iter().copied().map(f32::from_bits).collect(),
                losses: rule.losses.0.iter().copied().map(f64::from_bits).collect(),
                tensors: entries.read(&rule.tensors.0)?,
            },
            optimizer: rule.optimizer,
            groups: about::groups(rule.groups.0),
        };
        part.add_settings();
        part.add_products()?;
        part.add_progress()?;
        Ok(part)
    }

    /// Adds the settings that the rule did not have yet when the file was written.
    fn add_settings(&mut self) {
        let Ok(entry) = optim::find(&self.optimizer) else { return };
        for (name, value) in LATER.iter().filter(|(name, _)| entry.settings.contains(name)) {
            for (_, settings) in &mut self.groups {
                if !settings.iter().any(|(setting, _)| setting == name) {
                    settings.push(((*name).to_owned(), value.clone()));
                }
            }
        }
    }

    /// Adds the progress to a file that was written before its rule kept one. Such a run took its weights from its settings and its step count.
    fn add_progress(&mut self) -> Result<()> {
        let Ok(entry) = optim::find(&self.optimizer) else { return Ok(()) };
        let steps = self.step_count();
        for tensor in self.contents.tensors.iter_mut().filter(|tensor| tensor.progress.is_empty()) {
            let Some((_, settings)) = self.groups.iter().find(|(group, _)| *group == tensor.group) else { continue };
            if entry.sample().progress().is_empty() {
                break;
            }
            let rule = entry.configure(settings.iter().map(|(name, value)| (name.as_str(), value.clone())))?;
            let numbers = rule.progress_after(steps).into_iter().map(|x| x as f32);
            tensor.progress = rule.progress().iter().map(|name| (*name).to_owned()).zip(numbers).collect();
        }
        Ok(())
    }

    /// Adds nadam's product of momenta to a file that was written before the product was a state. Such a run took the product from its
    /// settings.
    fn add_products(&mut self) -> Result<()> {
        let steps = self.step_count();
        let lacking = |tensor: &&mut Arrays| tensor.get(NAdam::FIRST).is_some() && tensor.get(NAdam::LEFT).is_none();
        for tensor in self.contents.tensors.iter_mut().filter(lacking) {
            let settings =
                self.groups.iter().find(|(group, _)| self.optimizer == NAdam::NAME && *group == tensor.group);
            if let Some((_, settings)) = settings {
                let settings = settings.iter().map(|(name, value)| (name.as_str(), value));
                let left = 1.0 - NAdam::mu_product(settings, steps)?;
                let elements = tensor.shape.iter().product();
                tensor.arrays.push((NAdam::LEFT.to_owned(), Packed::F32(vec![left as f32; elements])));
            }
        }
        Ok(())
    }
}
