//! The fields of a checkpoint's metadata. The error of a field names the type that the field needs.

use serde_json::Value as Json;

use crate::Result;
use crate::io::tensor_file::TensorFile;

pub(crate) fn count(file: &TensorFile, about: &Json, key: &str) -> Result<u64> {
    about[key]
        .as_u64()
        .ok_or_else(|| file.error(format!("its metadata need a whole number `{key}`, have {}", about[key])))
}

/// A list of numbers, by their bits. Empty where the file has no such list.
pub(crate) fn bits<T>(file: &TensorFile, about: &Json, key: &str, from: impl Fn(u64) -> Option<T>) -> Result<Vec<T>> {
    if about[key].is_null() {
        return Ok(Vec::new());
    }
    let number = |value: &Json| value.as_u64().and_then(&from);
    let numbers = list(file, about, key)?.iter().map(number).collect::<Option<Vec<T>>>();
    numbers.ok_or_else(|| file.error(format!("its metadata `{key}` holds an entry that is not the bits of a number")))
}

pub(crate) fn word(file: &TensorFile, about: &Json, key: &str) -> Result<u32> {
    let value = count(file, about, key)?;
    u32::try_from(value).map_err(|_| file.error(format!("`{key}` is {value}, at most {} fits", u32::MAX)))
}

pub(crate) fn text<'a>(file: &TensorFile, about: &'a Json, key: &str) -> Result<&'a str> {
    about[key].as_str().ok_or_else(|| file.error(format!("its metadata need a text `{key}`, have {}", about[key])))
}

pub(crate) fn list<'a>(file: &TensorFile, about: &'a Json, key: &str) -> Result<&'a Vec<Json>> {
    about[key].as_array().ok_or_else(|| file.error(format!("its metadata need a list `{key}`, have {}", about[key])))
}
