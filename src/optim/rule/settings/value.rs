//! The value of a setting, as data.

use std::fmt;

/// A setting's value as the command line, files and checkpoints carry it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number.
    Number(f64),
    /// A flag.
    Flag(bool),
    /// One of a few words.
    Word(String),
}

impl Value {
    /// Reads `1e-3`, `true` or a word.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text {
            "true" => Self::Flag(true),
            "false" => Self::Flag(false),
            _ => text.parse().map_or_else(|_| Self::Word(text.to_owned()), Self::Number),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(x) if *x != 0.0 && !(1e-3..1e6).contains(&x.abs()) => write!(f, "{x:e}"),
            Self::Number(x) => write!(f, "{x}"),
            Self::Flag(x) => write!(f, "{x}"),
            Self::Word(x) => write!(f, "{x}"),
        }
    }
}
