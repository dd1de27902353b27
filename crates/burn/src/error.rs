//! The error type of the crate.

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate. A step that returns an error has changed no number: neither the parameters, nor the states. The module that the
/// step took is gone; a clone that was kept has its values.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine refused a rule, a setting, a storage, a checkpoint or a device.
    #[error(transparent)]
    Engine(#[from] wgpu_optim::Error),
    /// A parameter of the module does not fit.
    #[error("parameter `{path}`: {problem}")]
    Param {
        /// The path of the parameter in the module.
        path: String,
        /// The actual and the required value, and the call that mends it.
        problem: String,
    },
    /// A call that contradicts the module or the optimizer.
    #[error("{0}")]
    Usage(String),
    /// Burn reported an error.
    #[error("Burn: {0}")]
    Burn(String),
}

impl Error {
    pub(crate) fn param(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Param { path: path.into(), problem: problem.into() }
    }
}
