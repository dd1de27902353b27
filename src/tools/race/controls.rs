//! What is changed about an entrant, so that a race shows what explains an effect.

use std::fmt;

use crate::options::random;

/// Where an entrant's learning rate comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Rate {
    /// Its rule's own, or with tuning the best of the grid.
    Own,
    /// Its rule's own in any case.
    Fixed,
    /// A share of another entrant's, tuned or not.
    Share {
        /// The other entrant's label.
        of: String,
        /// The share.
        factor: f64,
    },
    /// Another entrant's times the mean factor that this one put on it in the run with the same seed. A decoupled decay keeps its
    /// strength, because the other's was not damped.
    MeanDamping {
        /// The other entrant's label.
        of: String,
    },
}

/// Where an entrant's run ends.
#[derive(Clone, Debug, PartialEq)]
pub enum Length {
    /// Where the race's budget says.
    Own,
    /// At as many evaluations as another entrant took with the same seed.
    EvaluationsOf(String),
}

/// What is changed about a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Treatment {
    /// Nothing.
    #[default]
    None,
    /// A step at which a trigger fires changes the states and leaves the parameters: injection without flow. On the host only.
    Stay,
    /// Each step's rate is damped at random, with the law of S-Adam's damping on a smooth function: [`random_damping`].
    RandomDamping {
        /// S-Adam's k.
        probes: u32,
        /// S-Adam's λ.
        lambda: f64,
    },
    /// WarpAdam's matrices are learned on other seeds of the problem, one after another and each for the heat's steps, and then frozen.
    /// What learning costs is not counted. On the host only.
    LearnedWarp {
        /// How many seeds it learns on.
        tasks: u32,
    },
}

impl fmt::Display for Treatment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Stay => f.write_str("parameters stay on triggers"),
            Self::RandomDamping { probes, lambda } => write!(f, "random damping, k {probes}, λ {lambda}"),
            Self::LearnedWarp { tasks } => write!(f, "P learned on {tasks} other seeds, then frozen"),
        }
    }
}

/// What S-Adam's damping is at a step of a smooth function whose slope dominates: the differences along its `probes` random
/// directions are independent and Gaussian, LGI = variance / mean square, and the damping exp(-λ LGI).
///
/// ```
/// use wgpu_optim::tools::race::random_damping;
///
/// let mean = |k| (0..100_000).map(|t| random_damping(k, 2.0, 7, t)).sum::<f64>() / 1e5;
/// assert!((mean(2) - 0.3085).abs() < 0.004);
/// assert!((mean(8) - 0.145).abs() < 0.004);
/// ```
#[must_use]
pub fn random_damping(probes: u32, lambda: f64, seed: u64, step: u64) -> f64 {
    if probes < 2 {
        return 1.0;
    }
    let key = random::draw(random::draw(seed as u32, (seed >> 32) as u32 ^ 0x5ada), step as u32);
    let slopes: Vec<f64> = (0..probes).map(|at| random::normal(key, at)).collect();
    let count = f64::from(probes);
    let mean = slopes.iter().sum::<f64>() / count;
    let square = slopes.iter().map(|d| d * d).sum::<f64>() / count;
    let variance = (square - mean * mean) * count / (count - 1.0);
    (-lambda * variance / square).exp()
}
