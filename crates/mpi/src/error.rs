//! The error type of this crate.

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An error of the optimizer, on this rank.
    #[error(transparent)]
    Optimizer(#[from] wgpu_optim::Error),
    /// Ranks did not answer in time: they ended, hang, or are slower than the timeout allows.
    #[error(
        "{} did not answer within {seconds} s while this rank waited to {what}: look there for the cause, or allow more time with World::set_timeout",
        ranks(lost)
    )]
    Lost {
        /// The ranks that did not answer.
        lost: Vec<usize>,
        /// The work that this rank waited for.
        what: &'static str,
        /// The timeout.
        seconds: f64,
    },
    /// A call that all ranks made together failed on another rank.
    #[error("rank {rank}: {problem}")]
    Rank {
        /// The rank.
        rank: usize,
        /// Its error.
        problem: String,
    },
    /// A request that contradicts the state of the ranks or of the optimizer.
    #[error("{0}")]
    Usage(String),
}

/// The names of ranks in a sentence.
fn ranks(lost: &[usize]) -> String {
    let names: Vec<String> = lost.iter().map(ToString::to_string).collect();
    if let [one] = &names[..] { format!("rank {one}") } else { format!("ranks {}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_lost_ranks() {
        let lost =
            |lost: &[usize]| Error::Lost { lost: lost.to_vec(), what: "add gradients", seconds: 2.5 }.to_string();
        assert!(lost(&[3]).starts_with("rank 3 did not answer within 2.5 s while this rank waited to add gradients"));
        assert!(lost(&[1, 3]).starts_with("ranks 1, 3 did not answer"));
    }
}
