//! The log of a training: one JSON object per epoch and line. A run that resumes drops the lines of the epochs that it repeats.

use std::fs::File;
use std::io::{BufReader, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::io::lines;
use crate::{Error, Result};

/// The longest line in bytes, far longer than a line of a log.
const MAX_LINE: usize = 1 << 16;

/// What a run that resumes needs of a line.
#[derive(Deserialize)]
struct Line {
    epoch: u64,
}

/// A log file. Each line is on the disk before [`write`](Self::write) returns, so that a log has every epoch that a checkpoint has.
#[derive(Debug)]
pub struct Journal {
    name: String,
    file: File,
    /// The epochs that the file had when it was opened, each with the end of its line; `None` after the first write.
    earlier: Option<Vec<(u64, u64)>>,
}

impl Journal {
    /// Begins an empty log.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = File::create(path).map_err(|source| Error::Io { path: name.clone(), source })?;
        Ok(Self { name, file, earlier: None })
    }

    /// Opens the log of a run that resumes, or begins an empty one. A last line that a kill cut is dropped.
    ///
    /// # Errors
    /// The file cannot be read and written, or a line is not an epoch.
    pub fn resume(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|source| Error::Io { path: name.clone(), source })?;
        let (mut text, mut line) = (BufReader::new(&file), Vec::new());
        let (mut earlier, mut end) = (Vec::new(), 0);
        for number in 1.. {
            if !lines::next(&mut text, MAX_LINE, &mut line, number, &name)? || !line.ends_with(b"\n") {
                break;
            }
            let Line { epoch } = serde_json::from_slice(&line).map_err(|error| {
                let problem = format!("line {number} is not an epoch of a log ({error}): give --log another file");
                Error::File { file: name.clone(), problem }
            })?;
            end += line.len() as u64;
            earlier.push((epoch, end));
        }
        Ok(Self { name, file, earlier: Some(earlier) })
    }

    /// Adds an epoch. The first call drops the lines of this epoch and of later ones: an earlier run wrote them, and was killed before it
    /// saved them.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&mut self, epoch: u32, object: &Json) -> Result<()> {
        self.put(epoch, object).map_err(|source| Error::Io { path: self.name.clone(), source })
    }

    fn put(&mut self, epoch: u32, object: &Json) -> std::io::Result<()> {
        if let Some(earlier) = self.earlier.take() {
            let kept = earlier.iter().take_while(|(before, _)| *before < u64::from(epoch)).last();
            self.file.set_len(kept.map_or(0, |(_, end)| *end))?;
        }
        self.file.seek(SeekFrom::End(0))?;
        self.file.write_all(format!("{object}\n").as_bytes())?;
        self.file.sync_data()
    }
}
