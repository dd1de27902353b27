//! Checkpoints: everything that resuming needs, through safetensors.
//!
//! A file holds the numbers as the optimizer [stores](crate::options::storage) them, and in its metadata the optimizer, every group's settings, and
//! the counters, those of chances among them. Resuming on the same device and driver gives the same bits as going on would have.
//!
//! | key | dtype and shape |
//! |---|---|
//! | `param/<tensor>` | F32, BF16 or F16, the tensor's shape |
//! | `master/<tensor>` | F32, the tensor's shape: beside parameters in half precision |
//! | `remainder/<tensor>` | U16, the tensor's shape: what BF16 parameters lack of F32, see [`half::join`](crate::options::storage::half::join) |
//! | `<state>/<tensor>` | F32, BF16, or U8, the tensor's shape; U8 are the codes of the [map](crate::options::storage::blockwise::Map) that the metadata name |
//! | `<state>.largest/<tensor>` | F32, one for 256 codes: the largest magnitudes of their blocks |
//!
//! What is f32 throughout is of version 1, which every release of this crate reads, the rest of version 2.
//!
//! ```
//! use wgpu_optim::{AdamW, Group, Optimizer, checkpoint::Checkpoint};
//! # let gpu = pollster::block_on(wgpu_optim::tools::adapter::Selector::default().open())?;
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

mod about;
pub(crate) mod arrays;
mod fit;
mod host;

pub use crate::io::torch::restore_torch;
pub use fit::Fit;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use serde_json::Value as Json;

use crate::gpu::access::snapshot::{Arrays, Contents, Snapshot};
use crate::io::atomic::Temporary;
use crate::io::tensor_file::TensorFile;
use crate::optim::Value;
use crate::options::storage::Packed;
use crate::{Error, Result};

/// The one key of the metadata: several would come in another order every time.
const ABOUT: &str = "wgpu-optim checkpoint";

/// A group's settings.
pub(crate) type Settings = Vec<(String, Value)>;

/// What was saved of an optimizer.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    pub(crate) name: String,
    pub(crate) optimizer: String,
    pub(crate) groups: Vec<(String, Settings)>,
    pub(crate) contents: Contents,
    pub(crate) notes: BTreeMap<String, String>,
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
    pub fn step_count(&self) -> u64 {
        u64::from(self.contents.control.applied)
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

    /// The numbers of an array of a tensor: `param`, as the model sees it, or a state; decoded where they are stored otherwise than in f32.
    #[must_use]
    pub fn array(&self, tensor: &str, array: &str) -> Option<Vec<f32>> {
        self.tensor(tensor)?.get(array).map(Packed::values)
    }

    /// The parameters of a tensor as the steps change them: in half precision with what keeps theirs.
    #[must_use]
    pub fn params(&self, tensor: &str) -> Option<Vec<f32>> {
        self.tensor(tensor)?.params()
    }

    fn tensor(&self, name: &str) -> Option<&Arrays> {
        self.contents.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// The file as bytes.
    ///
    /// # Errors
    /// A tensor's name makes two keys equal.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let arrays: Vec<_> = self.contents.tensors.iter().flat_map(arrays::write).collect();
        arrays::serialize(&self.name, &arrays, (ABOUT, self.about().to_string()))
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
        about::check_version(&file, &about)?;
        Ok(Self {
            name: name.to_owned(),
            optimizer: about::text(&file, &about, "optimizer")?.to_owned(),
            groups: about::groups(&file, &about)?,
            contents: Contents {
                control: about::control(&file, &about)?,
                memory: about::bits(&file, &about, "memory_bits", |bits| {
                    Some(f32::from_bits(u32::try_from(bits).ok()?))
                })?,
                losses: about::bits(&file, &about, "probe_loss_bits", |bits| Some(f64::from_bits(bits)))?,
                tensors: arrays::read(&file, &about)?,
            },
            notes: about::notes(&file, &about)?,
        })
    }
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut temporary = Temporary::beside(path)?;
        temporary.file.write_all(bytes)?;
        temporary.publish(path)
    };
    write().map_err(|source| Error::Io { path: path.display().to_string(), source })
}
