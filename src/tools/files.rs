//! Checks of the files that a run reads and writes. They refuse a run before it begins if an output would overwrite an input, or if an output
//! cannot be written.

use std::path::{Path, PathBuf};

use crate::io::atomic::{self, Temporary};
use crate::io::tensor_file::quote;
use crate::{Error, Result};

/// A file of a run: the option that names it, and its path.
pub type Named<'a> = (&'a str, &'a Path);

/// Checks that no output is an input or another output, through links too, and that each output path holds a regular file or nothing.
///
/// # Errors
/// [`Error::Usage`] if two options name the same file, with the options and the path; [`Error::Io`] for a folder, a device, a pipe or a socket.
pub fn check(inputs: &[Named<'_>], outputs: &[Named<'_>]) -> Result<()> {
    for (at, (option, path)) in outputs.iter().enumerate() {
        atomic::target(path).map_err(failed(path))?;
        let shown = quote(&path.display().to_string());
        if let Some((other, _)) = inputs.iter().find(|(_, input)| same(path, input)) {
            return Err(Error::Usage(format!(
                "{option} would overwrite {shown}, which {other} reads: give another path"
            )));
        }
        if let Some((other, _)) = outputs[..at].iter().find(|(_, output)| same(path, output)) {
            return Err(Error::Usage(format!(
                "{other} and {option} both write {shown}: give another path to one of them"
            )));
        }
    }
    Ok(())
}

/// Checks that a file can be written at `path`, by a temporary file beside it.
///
/// # Errors
/// [`Error::Io`] if no file can be written there.
pub fn check_writable(path: &Path) -> Result<()> {
    Temporary::replacing(path).map(drop).map_err(failed(path))
}

/// Writes a whole file: first a temporary file beside it, which then takes its place. A kill leaves the old or the new file.
///
/// # Errors
/// [`Error::Io`]; a file that was there is unchanged.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    atomic::write(path, bytes).map_err(failed(path))
}

/// The error of an operation on the file at `path`.
fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    |source| Error::Io { path: path.display().to_string(), source }
}

/// Whether two paths name the same file, or would name the same file once it exists.
fn same(a: &Path, b: &Path) -> bool {
    identity(a) == identity(b) || is_hard_link(a, b)
}

/// The path without links, also of a file that does not exist.
fn identity(path: &Path) -> PathBuf {
    let path = atomic::target(path).map_or_else(|_| path.to_owned(), |(target, _)| target);
    let whole = path.canonicalize().or_else(|_| std::path::absolute(&path)).unwrap_or_else(|_| path.clone());
    match (whole.parent().and_then(|folder| folder.canonicalize().ok()), whole.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => whole,
    }
}

#[cfg(unix)]
fn is_hard_link(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |path: &Path| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    id(a).is_some_and(|a| Some(a) == id(b))
}

#[cfg(not(unix))]
fn is_hard_link(_: &Path, _: &Path) -> bool {
    false
}
