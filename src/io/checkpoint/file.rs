//! Checkpoints as files: reading and writing their bytes.

use std::path::Path;

use serde_json::Value as Json;

use super::saved::Checkpoint;
use super::{about, arrays, fields};
use crate::gpu::access::snapshot::{Arrays, Contents};
use crate::io::atomic;
use crate::io::tensor_file::TensorFile;
use crate::io::tensor_writer::serialize;
use crate::options::storage::Packed;
use crate::{Error, NAdam, Result};

/// The one key of the metadata. safetensors writes several keys in an order that changes from file to file.
const ABOUT: &str = "wgpu-optim checkpoint";

impl Checkpoint {
    /// The file as bytes.
    ///
    /// # Errors
    /// A tensor's name makes two keys equal.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let arrays: Vec<_> = self.contents.tensors.iter().flat_map(arrays::write).collect();
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
        let about: Json =
            serde_json::from_str(about).map_err(|e| file.error(format!("its metadata `{ABOUT}`: {e}")))?;
        about::check_version(file, &about)?;
        let mut checkpoint = Self {
            name: name.to_owned(),
            optimizer: fields::text(file, &about, "optimizer")?.to_owned(),
            groups: about::groups(file, &about)?,
            contents: Contents {
                control: about::control(file, &about)?,
                global_state: fields::bits(file, &about, "memory_bits", |bits| {
                    Some(f32::from_bits(u32::try_from(bits).ok()?))
                })?,
                losses: fields::bits(file, &about, "probe_loss_bits", |bits| Some(f64::from_bits(bits)))?,
                tensors: arrays::read(file, &about)?,
            },
            notes: about::notes(file, &about)?,
        };
        checkpoint.add_products()?;
        Ok(checkpoint)
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
