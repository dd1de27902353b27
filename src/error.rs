//! The crate's one error type. Every text names the thing, what it was and what it should have been.

use std::borrow::Cow;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong. Nothing was changed where one of these comes back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting lies outside its range or is not finite.
    #[error("{optimizer}: {setting} is {value}, needs {needs}")]
    Setting {
        /// The optimizer's name.
        optimizer: String,
        /// The setting's name.
        setting: String,
        /// What it was.
        value: String,
        /// The range it must lie in.
        needs: Cow<'static, str>,
    },
    /// A name that is not in the list it should come from.
    #[error("unknown {kind} `{name}`{}; known: {known}", nearest.as_deref().map(|n| format!(", did you mean `{n}`?")).unwrap_or_default())]
    Unknown {
        /// What was looked for: "optimizer", "setting of adamw", …
        kind: String,
        /// The name given.
        name: String,
        /// The closest known name, where one is close.
        nearest: Option<String>,
        /// All known names, comma-separated.
        known: String,
    },
    /// A setting that has no default was left out.
    #[error("{optimizer}: {setting} has no default and must be given")]
    MissingSetting {
        /// The optimizer's name.
        optimizer: String,
        /// The setting's name.
        setting: String,
    },
    /// Two things carry one name.
    #[error("{kind} `{name}` is named twice")]
    Duplicate {
        /// "tensor" or "group".
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A tensor's range, length or buffer does not fit.
    #[error("tensor `{tensor}`: {problem}")]
    Tensor {
        /// The tensor's name.
        tensor: String,
        /// What it was and what it should have been.
        problem: String,
    },
    /// A request that contradicts how the optimizer was built.
    #[error("{0}")]
    Usage(String),
    /// The device cannot run this optimizer.
    #[error("the device's {limit} is {actual}, needs at least {needs}")]
    Limit {
        /// The name of wgpu's limit.
        limit: &'static str,
        /// The device's value.
        actual: u64,
        /// What is needed.
        needs: u64,
    },
    /// More steps are recorded and not yet finished than the rings hold.
    #[error(
        "{unfinished} steps are recorded and not yet finished, at most {bound} may be: submit them and let the device be polled"
    )]
    TooManySteps {
        /// How many.
        unfinished: usize,
        /// The bound.
        bound: usize,
    },
    /// wgpu refused something during creation.
    #[error("wgpu: {0}")]
    Wgpu(String),
    /// The GPU ran out of memory.
    #[error("out of GPU memory while creating {what} of {bytes} bytes")]
    OutOfMemory {
        /// The role of the buffer.
        what: String,
        /// Its size.
        bytes: u64,
    },
    /// No adapter was found.
    #[error("no GPU adapter found{0}")]
    NoAdapter(String),
    /// The device was lost.
    #[error("the device was lost: {0}")]
    DeviceLost(String),
    /// A file is not what it should be.
    #[error("{file}: {problem}")]
    File {
        /// The file's name.
        file: String,
        /// What was found and what was expected.
        problem: String,
    },
    /// A checkpoint belongs to something else.
    #[error("{checkpoint} does not fit the optimizer: {}", differences.join("; "))]
    Mismatch {
        /// The checkpoint's name.
        checkpoint: String,
        /// Every difference: what it is there, and what it should be.
        differences: Vec<String>,
    },
    /// WGSL text that does not compile or holds what it must not.
    #[error("shader: {0}")]
    Shader(String),
    /// An input or output operation failed.
    #[error("{path}: {source}")]
    Io {
        /// The path.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
}

impl Error {
    /// An [`Error::Unknown`] that suggests the closest of `known`.
    pub(crate) fn unknown<'a>(kind: impl Into<String>, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        let nearest = known
            .iter()
            .map(|k| (strsim::damerau_levenshtein(&name.to_lowercase(), &k.to_lowercase()), *k))
            .min()
            .filter(|(distance, k)| *distance <= 1 + k.len() / 3)
            .map(|(_, k)| k.to_owned());
        Self::Unknown { kind: kind.into(), name: name.to_owned(), nearest, known: known.join(", ") }
    }
}
