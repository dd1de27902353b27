//! The error type of the crate. Every message names the thing, its actual value and the required value.

use std::borrow::Cow;

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate. A call that returns an error has changed nothing.
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
        /// The refused value.
        value: String,
        /// The range that the value must lie in.
        needs: Cow<'static, str>,
    },
    /// A name that is not in the list of known names.
    #[error("unknown {kind} `{name}`{}; known: {known}", nearest.as_deref().map(|n| format!(", did you mean `{n}`?")).unwrap_or_default())]
    Unknown {
        /// The kind of name: "optimizer", "setting of adamw", …
        kind: String,
        /// The refused name.
        name: String,
        /// The closest known name, if one is close.
        nearest: Option<String>,
        /// All known names, comma-separated.
        known: String,
    },
    /// A setting without a default is missing.
    #[error("{optimizer}: {setting} has no default and must be given")]
    MissingSetting {
        /// The optimizer's name.
        optimizer: String,
        /// The setting's name.
        setting: String,
    },
    /// Two things have the same name.
    #[error("{kind} `{name}` is named twice")]
    Duplicate {
        /// The kind of name: "tensor", "group", "row set", …
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A tensor's range, length or buffer does not fit.
    #[error("tensor `{tensor}`: {problem}")]
    Tensor {
        /// The tensor's name.
        tensor: String,
        /// The actual and the required value.
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
        /// The least value that the optimizer needs.
        needs: u64,
    },
    /// More recorded steps are unfinished than the ring buffers hold.
    #[error(
        "{unfinished} recorded steps are unfinished, at most {bound} may be: submit or drop the encoders with steps, and poll the device"
    )]
    TooManySteps {
        /// The count of unfinished steps.
        unfinished: usize,
        /// The most steps that may be unfinished.
        bound: usize,
    },
    /// wgpu refused to create an object.
    #[error("wgpu: {0}")]
    Wgpu(String),
    /// The GPU ran out of memory.
    #[error("out of GPU memory while creating {what} of {bytes} bytes")]
    OutOfMemory {
        /// The role of the buffer.
        what: String,
        /// The size of the buffer.
        bytes: u64,
    },
    /// No adapter was found.
    #[error("no GPU adapter found{0}")]
    NoAdapter(String),
    /// The device was lost.
    #[error("the device was lost: {0}")]
    DeviceLost(String),
    /// A file has the wrong content.
    #[error("{file}: {problem}")]
    File {
        /// The file's name.
        file: String,
        /// The found and the expected content.
        problem: String,
    },
    /// A checkpoint does not fit the optimizer.
    #[error("{checkpoint} does not fit the optimizer: {}", differences.join("; "))]
    Mismatch {
        /// The checkpoint's name.
        checkpoint: String,
        /// Every difference: the checkpoint's value, and the value that the optimizer needs.
        differences: Vec<String>,
    },
    /// WGSL text that does not compile or contains a forbidden construct.
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
