//! Atomic files: a file appears whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A temporary file. Dropping it removes the file, unless the file was renamed.
#[derive(Debug)]
pub(crate) struct Temporary {
    /// Before the path, so that the file is closed before it is removed.
    pub(crate) file: BufWriter<File>,
    path: Removed,
}

#[derive(Debug)]
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // A renamed file is not found. `drop` cannot report another failure.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Temporary {
    /// Creates the file in the folder of `target`, so that a rename stays within one file system.
    pub(crate) fn beside(target: &Path) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = target.with_file_name(format!(".wgpu-optim-{}-{count}.tmp", std::process::id()));
            match OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Self { file: BufWriter::new(file), path: Removed(path) }),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Syncs the file and renames it to `target`. A kill at any moment leaves the old or the new file whole.
    pub(crate) fn publish(mut self, target: &Path) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        drop(self.file);
        std::fs::rename(&self.path.0, target)?;
        // The rename itself is durable once the folder is synced, where a folder can be opened.
        let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        File::open(folder).map_or(Ok(()), |folder| folder.sync_all().or(Ok(())))
    }
}
