//! The embedded data: handwritten digits of 8×8 pixels. `data/README.md` names their source.

use super::Samples;
use crate::{Error, Result};

const ROWS: usize = 1797;
const PIXELS: usize = 64;
const CLASSES: usize = 10;
const BRIGHTEST: u8 = 16;
static BYTES: &[u8] = include_bytes!("data/digits.bin");

/// All 1797 digits, pixels scaled to [0, 1].
///
/// # Errors
/// None, unless the embedded data is corrupt.
pub fn load() -> Result<Samples> {
    parse(BYTES)
}

/// Reads and checks bytes in the layout of the embedded data.
///
/// # Errors
/// The number of rows is wrong, a pixel is above 16, or a label is above 9.
pub fn parse(bytes: &[u8]) -> Result<Samples> {
    let expected = ROWS * (PIXELS + 1);
    if bytes.len() != expected {
        return Err(bad(format!("{} bytes, needs {expected}", bytes.len())));
    }
    let mut inputs = Vec::with_capacity(ROWS * PIXELS);
    let mut labels = Vec::with_capacity(ROWS);
    for (row, record) in bytes.chunks_exact(PIXELS + 1).enumerate() {
        let (pixels, label) = (&record[..PIXELS], record[PIXELS]);
        if let Some(pixel) = pixels.iter().find(|p| **p > BRIGHTEST) {
            return Err(bad(format!("row {row} has a pixel of {pixel}, needs at most {BRIGHTEST}")));
        }
        if usize::from(label) >= CLASSES {
            return Err(bad(format!("row {row} has the label {label}, needs at most {}", CLASSES - 1)));
        }
        inputs.extend(pixels.iter().map(|p| f32::from(*p) / f32::from(BRIGHTEST)));
        labels.push(u32::from(label));
    }
    Samples::new(PIXELS, CLASSES, inputs, labels)
}

fn bad(problem: String) -> Error {
    Error::File { file: "digits.bin".to_owned(), problem }
}
