//! Lines of a text that may be hostile: each line has a bound.

use std::io::{BufRead, Read as _};

use crate::{Error, Result};

/// Reads the next line, with its line break, into `line`. Returns false at the end of the text. `number` is for the error.
pub(crate) fn next(text: &mut impl BufRead, most: usize, line: &mut Vec<u8>, number: u64, name: &str) -> Result<bool> {
    line.clear();
    let taken = text.by_ref().take(most as u64 + 1).read_until(b'\n', line);
    taken.map_err(|source| Error::Io { path: name.to_owned(), source })?;
    if line.len() > most {
        let problem = format!("line {number}: longer than {most} bytes");
        return Err(Error::File { file: name.to_owned(), problem });
    }
    Ok(!line.is_empty())
}
