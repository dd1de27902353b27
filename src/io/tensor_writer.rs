//! The writer of safetensors files.

use std::borrow::Cow;
use std::collections::HashSet;

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::tensor_file::little_endian;
use crate::{Error, Result};

/// An array of a safetensors file.
pub(crate) struct FileArray<'a> {
    key: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Cow<'a, [u8]>,
}

impl<'a> FileArray<'a> {
    /// `bytes` are the numbers in little endian.
    pub(crate) fn new(key: String, dtype: Dtype, shape: &[usize], bytes: Cow<'a, [u8]>) -> Self {
        Self { key, dtype, shape: shape.to_vec(), bytes }
    }
}

impl FileArray<'static> {
    pub(crate) fn f32(key: String, shape: &[usize], values: Vec<f32>) -> Self {
        Self::new(key, Dtype::F32, shape, Cow::Owned(little_endian(&values).into_owned()))
    }
}

/// A safetensors file with one entry of metadata.
pub(crate) fn serialize(name: &str, arrays: &[FileArray<'_>], (key, text): (&str, String)) -> Result<Vec<u8>> {
    let failed = |e: safetensors::SafeTensorError| Error::File { file: name.to_owned(), problem: e.to_string() };
    let mut keys = HashSet::new();
    if let Some(array) = arrays.iter().find(|array| !keys.insert(&array.key)) {
        return Err(Error::Duplicate { kind: "key", name: array.key.clone() });
    }
    let views: Vec<_> = arrays
        .iter()
        .map(|array| Ok((&array.key, TensorView::new(array.dtype, array.shape.clone(), &array.bytes)?)))
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    let metadata = std::iter::once((key.to_owned(), text)).collect();
    safetensors::serialize(views, Some(metadata)).map_err(failed)
}
