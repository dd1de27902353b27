//! Changes to an entrant that test possible explanations of an effect.

use std::fmt;

use crate::options::random;

/// The source of an entrant's learning rate.
#[derive(Clone, Debug, PartialEq)]
pub enum Rate {
    /// The rate of the entrant's rule; with tuning, the best rate of the grid. A rule that finds its own rate keeps its factor.
    Own,
    /// The rate of the entrant's rule, with tuning too.
    Fixed,
    /// A share of another entrant's rate, tuned or not.
    Share {
        /// The other entrant's label.
        of: String,
        /// The share.
        factor: f64,
    },
    /// Another entrant's rate times the mean factor that the other entrant put on it in the run with the same seed. A decoupled decay keeps
    /// its strength, because the other entrant's decay was not damped.
    MeanDamping {
        /// The other entrant's label.
        of: String,
    },
}

/// The end of an entrant's run.
#[derive(Clone, Debug, PartialEq)]
pub enum Length {
    /// The end that the race's budget sets.
    Own,
    /// The number of evaluations that another entrant made with the same seed.
    EvaluationsOf(String),
}

/// A change to a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Treatment {
    /// No change.
    #[default]
    None,
    /// A step on which a trigger fires changes the states but not the parameters: injection without flow. On the host only.
    Stay,
    /// Each step's rate is damped at random, with the distribution of S-Adam's damping on a smooth function: [`random_damping`].
    RandomDamping {
        /// S-Adam's k.
        probes: u32,
        /// S-Adam's λ.
        lambda: f64,
    },
    /// WarpAdam's matrices are learned on other seeds of the problem, one after another and for the heat's steps each, and then frozen. The
    /// cost of learning does not count. On the host only.
    LearnedWarp {
        /// The number of seeds to learn on.
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

/// A random draw of S-Adam's damping on a smooth function that is dominated by its slope: the differences along the `probes` random
/// directions are independent and Gaussian, LGI = variance / mean square, and the damping is exp(-λ LGI).
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
