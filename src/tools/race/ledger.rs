//! The runs that a report directory holds: one JSON object per line. A line is written when its run ends, so that an interrupted race can
//! resume.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufReader, Write as _};
use std::path::{Path, PathBuf};

use super::outcome::{Key, Outcome};
use crate::io::lines;
use crate::{Error, Result};

/// The file's name in the directory.
pub(super) const NAME: &str = "runs.jsonl";

/// The longest line in bytes: a run has at most some thousand points.
const MAX_LINE: usize = 1 << 24;

/// The runs of this race so far and, if a file keeps them, of earlier races. The default keeps them in memory only.
#[derive(Debug, Default)]
pub struct Ledger {
    file: Option<(PathBuf, File)>,
    runs: HashMap<Key, Outcome>,
}

impl Ledger {
    /// Opens the runs of a directory, and creates directory and file if they are missing. An incomplete last line is dropped, and its run is
    /// made again.
    ///
    /// # Errors
    /// The directory cannot be written; a line is not a run.
    pub fn open(directory: &Path) -> Result<Self> {
        let path = directory.join(NAME);
        let failed = |source| Error::Io { path: path.display().to_string(), source };
        fs::create_dir_all(directory).map_err(failed)?;
        let file = File::options().read(true).append(true).create(true).open(&path).map_err(failed)?;
        let (mut text, mut line) = (BufReader::new(&file), Vec::new());
        let (mut runs, mut end) = (HashMap::new(), 0);
        for number in 1.. {
            let more = lines::next(&mut text, MAX_LINE, &mut line, number, &path.display().to_string())?;
            if !more || !line.ends_with(b"\n") {
                break;
            }
            let (key, outcome) = parse(&path, number, &line)?;
            runs.insert(key, outcome);
            end += line.len() as u64;
        }
        file.set_len(end).map_err(failed)?;
        Ok(Self { file: Some((path, file)), runs })
    }

    /// The run with this key, if the ledger holds it.
    #[must_use]
    pub fn find(&self, key: &Key) -> Option<&Outcome> {
        self.runs.get(key)
    }

    /// The number of runs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether there are no runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Stores a run.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn put(&mut self, outcome: Outcome) -> Result<()> {
        if let Some((path, file)) = &mut self.file {
            let failed = |source| Error::Io { path: path.display().to_string(), source };
            let line = serde_json::to_string(&outcome).map_err(|e| failed(e.into()))?;
            file.write_all(format!("{line}\n").as_bytes()).map_err(failed)?;
        }
        self.runs.insert(outcome.key.clone(), outcome);
        Ok(())
    }
}

fn parse(path: &Path, at: u64, line: &[u8]) -> Result<(Key, Outcome)> {
    let outcome: Outcome = serde_json::from_slice(line).map_err(|error| Error::File {
        file: path.display().to_string(),
        problem: format!("line {at} is not a run of this version ({error}): remove the file to repeat all runs"),
    })?;
    Ok((outcome.key.clone(), outcome))
}
