//! A checkpoint as a file: its bytes, and how they are read and written.

use std::path::Path;

use serde_json::Value as Json;

use super::saved::Checkpoint;
use super::{about, arrays, fields};
use crate::gpu::access::snapshot::Contents;
use crate::io::atomic;
use crate::io::tensor_file::TensorFile;
use crate::io::tensor_writer::serialize;
use crate::{Error, Result};

/// The one key of the metadata: several would come in another order every time.
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

    /// Writes the file: to a temporary one beside it, synced, then renamed, so that a kill at any moment leaves the old or the new
    /// file whole. A symbolic link is followed, the mode of the old file kept, and the temporary files of killed runs beside it are removed.
    ///
    /// # Errors
    /// As [`to_bytes`](Self::to_bytes), and what the file system says; `path` is a folder, a device, a pipe or a socket.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let written = atomic::write(path, &self.to_bytes()?);
        written.map_err(|source| Error::Io { path: path.display().to_string(), source })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// What the file system says, and as [`from_bytes`](Self::from_bytes).
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::from_file(&path.display().to_string(), &TensorFile::open(path)?)
    }

    /// Reads a file's bytes; `name` is for errors. Nothing in them is believed before it was checked.
    ///
    /// # Errors
    /// It is no checkpoint, of a newer version, truncated, or contradicts itself.
    pub fn from_bytes(name: &str, bytes: impl Into<Vec<u8>>) -> Result<Self> {
        Self::from_file(name, &TensorFile::parse(name, bytes.into())?)
    }

    fn from_file(name: &str, file: &TensorFile) -> Result<Self> {
        let about =
            file.text(ABOUT).map_err(|_| file.error(format!("is no checkpoint: its metadata lack `{ABOUT}`")))?;
        let about: Json =
            serde_json::from_str(about).map_err(|e| file.error(format!("its metadata `{ABOUT}`: {e}")))?;
        about::check_version(file, &about)?;
        Ok(Self {
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
        })
    }
}
