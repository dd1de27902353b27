//! The text form of a storage.

use std::fmt;
use std::str::FromStr;

use super::{Format, Params, RoundingMode, StateFormat, Storage};
use crate::{Error, Result};

/// The text form of a storage, for the help of commands. Paragraphs are unbroken: the reader of the text wraps them.
pub const HELP: &str = "\
The form of storage is a list of parts, separated by commas. Without a part, numbers are f32.
  f32, bf16-nearest, bf16-sr, bf16-master, bf16-split, f16-nearest, f16-sr, f16-master
      The parameters, and the gradients in the same format. Parameters use round to nearest (nearest), stochastic rounding (sr), an \
f32 copy beside them (master), or the low 16 bits of an f32 beside them (split).
  8bit
      The states in eight bits per number, in blocks of 256; the same as states=8bit.
  params=FORM, grads=f32|f16|bf16, states=f32|bf16|bf16-sr|8bit, NAME=FORM
      The parameters, the gradients, all states, or the state NAME alone, such as v=bf16-sr.
  min=4096
      With 8bit, the states of tensors with fewer elements stay f32.";

const FORMATS: [(&str, Format); 3] = [("f32", Format::F32), ("f16", Format::F16), ("bf16", Format::Bf16)];

const PARAMS: [(&str, Params); 8] = [
    ("f32", Params::F32),
    ("bf16-nearest", Params::Bf16(RoundingMode::Nearest)),
    ("bf16-sr", Params::Bf16(RoundingMode::Stochastic)),
    ("bf16-master", Params::Bf16(RoundingMode::Master)),
    ("bf16-split", Params::Bf16(RoundingMode::Split)),
    ("f16-nearest", Params::F16(RoundingMode::Nearest)),
    ("f16-sr", Params::F16(RoundingMode::Stochastic)),
    ("f16-master", Params::F16(RoundingMode::Master)),
];

const STATES: [(&str, StateFormat); 4] = [
    ("f32", StateFormat::F32),
    ("bf16", StateFormat::Bf16),
    ("bf16-sr", StateFormat::Bf16Stochastic),
    ("8bit", StateFormat::Blockwise8),
];

fn find<T: Copy>(what: &str, words: &[(&str, T)], word: &str) -> Result<T> {
    let found = words.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
    found.ok_or_else(|| Error::unknown(what, word, words.iter().map(|(name, _)| *name)))
}

fn name<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> &'static str {
    words.iter().find(|(_, v)| v == value).map_or("", |(name, _)| name)
}

impl FromStr for Storage {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut storage = Self::default();
        for part in text.split(',').map(str::trim) {
            match part.split_once('=').map(|(key, value)| (key.trim(), value.trim())) {
                None if part == "8bit" => storage.set_states(StateFormat::Blockwise8),
                None => {
                    let known = PARAMS.map(|(name, _)| name).into_iter().chain(["8bit"]);
                    let params = PARAMS.iter().find(|(name, _)| *name == part);
                    storage.params = params.ok_or_else(|| Error::unknown("storage", part, known))?.1;
                    storage.grads = storage.params.format();
                }
                Some(("params", value)) => storage.params = find("format of parameters", &PARAMS, value)?,
                Some(("grads", value)) => storage.grads = find("format of gradients", &FORMATS, value)?,
                Some(("states", value)) => storage.set_states(find("format of states", &STATES, value)?),
                Some(("min", value)) => {
                    let wrong = |_| Error::Usage(format!("storage: min is `{value}`, needs a number of elements"));
                    storage.min_blockwise = value.parse().map_err(wrong)?;
                }
                Some((state, value)) => {
                    let format = find("format of states", &STATES, value)?;
                    storage.named.retain(|(name, _)| name != state);
                    storage.named.push((state.to_owned(), format));
                }
            }
        }
        Ok(storage)
    }
}

impl Storage {
    fn set_states(&mut self, format: StateFormat) {
        self.states = format;
        self.named.clear();
    }
}

/// `f32`, `f16` or `bf16`.
impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name(&FORMATS, self))
    }
}

/// The shortest text that is read back as the same storage.
impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = vec![name(&PARAMS, &self.params).to_owned()];
        if self.grads != self.params.format() {
            parts.push(format!("grads={}", self.grads));
        }
        match self.states {
            StateFormat::F32 => {}
            StateFormat::Blockwise8 => parts.push("8bit".to_owned()),
            format => parts.push(format!("states={}", name(&STATES, &format))),
        }
        parts.extend(self.named.iter().map(|(state, format)| format!("{state}={}", name(&STATES, format))));
        if self.min_blockwise != Self::default().min_blockwise {
            parts.push(format!("min={}", self.min_blockwise));
        }
        f.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_back() {
        for text in ["f32", "bf16-sr", "bf16-split,8bit", "f16-master,grads=f32,states=bf16,v=f32,min=0", "f32,8bit"] {
            assert_eq!(text.parse::<Storage>().unwrap().to_string(), text);
        }
        assert_eq!("8bit".parse::<Storage>().unwrap().to_string(), "f32,8bit");
        assert_eq!("v=f32,states=bf16-sr".parse::<Storage>().unwrap().to_string(), "f32,states=bf16-sr");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("bf16", "bf16-sr"),
            ("8-bit", "8bit"),
            ("grads=bf16-sr", "f16"),
            ("m=4bit", "8bit"),
            ("min=many", "number of elements"),
        ] {
            let error = text.parse::<Storage>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
