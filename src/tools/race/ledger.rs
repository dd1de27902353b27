//! The runs that a report directory holds: one JSON object per line. Each is written when its run ends, so that an interrupted race can
//! resume.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::outcome::{Key, Outcome};
use crate::{Error, Result};

/// The file's name in the directory.
pub(super) const NAME: &str = "runs.jsonl";

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
        let text = if path.exists() { fs::read_to_string(&path).map_err(failed)? } else { String::new() };
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let runs = whole.lines().enumerate().map(|(at, line)| parse(&path, at + 1, line)).collect::<Result<_>>()?;
        let file = File::options().append(true).create(true).open(&path).map_err(failed)?;
        file.set_len(whole.len() as u64).map_err(failed)?;
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

fn parse(path: &Path, at: usize, line: &str) -> Result<(Key, Outcome)> {
    let outcome: Outcome = serde_json::from_str(line).map_err(|error| Error::File {
        file: path.display().to_string(),
        problem: format!("line {at} is not a run of this version ({error}): remove the file to repeat all runs"),
    })?;
    Ok((outcome.key.clone(), outcome))
}
