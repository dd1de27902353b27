//! Atomic files: a file appears whole or not at all. Only a regular file is replaced.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, BufWriter, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

const PREFIX: &str = ".wgpu-optim-";
const SUFFIX: &str = ".tmp";
/// As many symbolic links in a row as Linux follows.
const MAX_LINKS: usize = 40;

/// A temporary file. Dropping it removes the file, unless [`publish`](Self::publish) renamed it.
///
/// The file is locked while it is written. A temporary file without a lock is left from a killed run, and the next write removes it.
#[derive(Debug)]
pub(crate) struct Temporary {
    pub(crate) file: BufWriter<File>,
    path: Removed,
    target: PathBuf,
}

#[derive(Debug)]
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // After the rename, the file is not found, which is no failure. `drop` cannot report any other failure.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Temporary {
    /// Creates the file that will replace `path`, or the file that `path` links to, with the mode of the old file. The temporary file lies in
    /// the folder of the target, so that a rename stays within one file system.
    pub(crate) fn replacing(path: &Path) -> io::Result<Self> {
        let (target, old) = target(path)?;
        let folder = folder(&target);
        remove_leftovers(folder);
        loop {
            // The keys of a `RandomState` come from the operating system: process numbers repeat between containers.
            let path = folder.join(format!("{PREFIX}{:016x}{SUFFIX}", RandomState::new().hash_one(&target)));
            let file = match OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
                Ok(file) => file,
                Err(e) if e.kind() == ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(e),
            };
            let locked = file.try_lock();
            // Another process can take the file for a leftover before this process locks it.
            if matches!(locked, Err(TryLockError::WouldBlock)) || !path.exists() {
                continue;
            }
            let path = Removed(path);
            if let Some(old) = old {
                file.set_permissions(old.permissions())?;
            }
            return Ok(Self { file: BufWriter::new(file), path, target });
        }
    }

    /// Syncs the file and renames it to its target. A kill at any moment leaves the old or the new file whole.
    pub(crate) fn publish(mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        // The file stays open and locked until it has its name, so that no other process takes it for a leftover.
        std::fs::rename(&self.path.0, &self.target)?;
        // The rename is durable only after the folder is synced. Some systems cannot open a folder.
        File::open(folder(&self.target)).map_or(Ok(()), |folder| folder.sync_all().or(Ok(())))
    }
}

/// Writes a whole file.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = Temporary::replacing(path)?;
    temporary.file.write_all(bytes)?;
    temporary.publish()
}

/// The path behind all symbolic links, and the regular file that is there, if any.
pub(crate) fn target(path: &Path) -> io::Result<(PathBuf, Option<Metadata>)> {
    if let Ok(found) = std::fs::metadata(path) {
        if found.is_dir() {
            return Err(io::Error::new(ErrorKind::IsADirectory, "is a folder, needs the name of a file"));
        }
        if !found.is_file() {
            let problem = "is a device, a pipe or a socket, needs a regular file or a new name";
            return Err(io::Error::new(ErrorKind::InvalidInput, problem));
        }
    }
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let found = match std::fs::symlink_metadata(&path) {
            Ok(found) => found,
            Err(e) if e.kind() == ErrorKind::NotFound && path.file_name().is_some() => return Ok((path, None)),
            Err(e) => return Err(e),
        };
        if !found.is_symlink() {
            return Ok((path, Some(found)));
        }
        path = folder(&path).join(std::fs::read_link(&path)?);
    }
    Err(io::Error::other(format!("links to more than {MAX_LINKS} links in a row")))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// Removes the temporary files of killed runs. No failure matters: the run itself needs none of these files.
fn remove_leftovers(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX));
        // Opening a pipe would block.
        if ours && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let unlocked = OpenOptions::new().write(true).open(entry.path()).is_ok_and(|file| file.try_lock().is_ok());
            if unlocked {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_names_do_not_repeat() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        // One after the other: each name is free again before the next.
        let names: std::collections::HashSet<PathBuf> =
            (0..20).map(|_| Temporary::replacing(&path).expect("it is created").path.0.clone()).collect();
        assert_eq!(names.len(), 20);
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }
}
