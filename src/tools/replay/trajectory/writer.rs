//! The output file of a replay: every parameter and state after every step.

use std::{
    collections::HashSet,
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use safetensors::Dtype;
use serde_json::{Value, json};

use crate::io::atomic::Temporary;
use crate::io::tensor_file::{MAX_HEADER, METADATA, PREFIX, little_endian, quote};
use crate::{Error, Result};

mod sealed {
    /// Restricts [`super::Element`] to the two types that files hold.
    pub trait Sealed {
        /// The type's name in a file.
        const DTYPE: safetensors::Dtype;
    }
}

/// f32 or f64.
pub trait Element: sealed::Sealed + bytemuck::Pod + Into<f64> {}

impl sealed::Sealed for f32 {
    const DTYPE: Dtype = Dtype::F32;
}

impl sealed::Sealed for f64 {
    const DTYPE: Dtype = Dtype::F64;
}

impl Element for f32 {}
impl Element for f64 {}

/// Writes `param/<t>/<tensor>` and `<state>/<t>/<tensor>` as one safetensors file.
///
/// The header comes first in such a file, but it is complete only after the last number. So the writer puts the numbers into a temporary
/// file beside the target and keeps only the header in memory. [`Writer::finish`] joins the two in a second temporary file, and renames
/// that file. The target is the old file or the complete new one, never a part. Without `finish`, no file remains.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    data: Temporary,
    written: usize,
    header: String,
    keys: HashSet<String>,
}

impl Writer {
    /// Begins a file at `path`, with `metadata` in its header.
    ///
    /// # Errors
    /// [`Error::Io`] if no file can be created there.
    pub fn create(path: impl AsRef<Path>, metadata: &[(&str, &str)]) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let data = Temporary::replacing(&path).map_err(io_error(&path))?;
        let metadata: Value = metadata.iter().map(|(key, value)| (*key, *value)).collect();
        let header = format!("{{\"{METADATA}\":{metadata}");
        Ok(Self { path, data, written: 0, header, keys: HashSet::new() })
    }

    /// Adds a tensor's `quantity` (`param` or a state's name) after step `t`, in the type that `values` have.
    ///
    /// # Errors
    /// [`Error::Usage`] if no key can hold the quantity, or the header has no room for the key; [`Error::Tensor`] if the number of `values`
    /// does not match `shape`; [`Error::Duplicate`]; and [`Error::Io`], after which the file cannot be finished.
    pub fn add<T: Element>(
        &mut self,
        quantity: &str,
        t: usize,
        tensor: &str,
        shape: &[usize],
        values: &[T],
    ) -> Result<()> {
        if quantity.is_empty() || quantity.contains('/') {
            return Err(Error::Usage(format!("a state is named {}, needs a name without a slash", quote(quantity))));
        }
        let key = format!("{quantity}/{t}/{tensor}");
        check_length(tensor, shape, values.len())?;
        let bytes = little_endian(values);
        let end = self.written + bytes.len();
        let info = json!({ "dtype": T::DTYPE, "shape": shape, "data_offsets": [self.written, end] });
        let entry = format!(",{}:{info}", Value::from(key.as_str()));
        if self.header.len() + entry.len() + PREFIX > MAX_HEADER {
            return Err(Error::Usage(format!(
                "{} would take the header past {MAX_HEADER} bytes: write fewer steps",
                quote(&key)
            )));
        }
        if !self.keys.insert(key.clone()) {
            return Err(Error::Duplicate { kind: "key", name: key });
        }
        // Counted before the write, so that `finish` notices a failed write.
        self.written = end;
        self.data.file.write_all(&bytes).map_err(io_error(&self.path))?;
        self.header.push_str(&entry);
        Ok(())
    }

    /// Completes the file and moves it to its path.
    ///
    /// # Errors
    /// [`Error::Io`]; a file that was at the path before is still there.
    pub fn finish(self) -> Result<()> {
        let path = self.path.clone();
        self.join().map_err(io_error(&path))
    }

    fn join(mut self) -> io::Result<()> {
        self.header.push('}');
        let length = self.header.len().next_multiple_of(PREFIX);
        self.header.extend(std::iter::repeat_n(' ', length - self.header.len()));
        let mut whole = Temporary::replacing(&self.path)?;
        whole.file.write_all(&(length as u64).to_le_bytes())?;
        whole.file.write_all(self.header.as_bytes())?;
        self.data.file.flush()?;
        self.data.file.seek(SeekFrom::Start(0))?;
        let copied = io::copy(self.data.file.get_mut(), &mut whole.file)?;
        if copied != self.written as u64 {
            return Err(io::Error::other(format!("{copied} bytes were written, needs {}", self.written)));
        }
        whole.publish()
    }
}

fn check_length(tensor: &str, shape: &[usize], length: usize) -> Result<()> {
    let elements = shape.iter().try_fold(1_usize, |product, n| product.checked_mul(*n));
    if elements == Some(length) {
        return Ok(());
    }
    let problem = format!("has {length} values, needs as many as its shape {shape:?}");
    Err(Error::Tensor { tensor: tensor.to_owned(), problem })
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.display().to_string();
    |source| Error::Io { path, source }
}
