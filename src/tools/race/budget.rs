//! The budget: the end of a run.

use std::fmt;
use std::str::FromStr;

use super::outcome::Cost;
use crate::{Error, Result};

/// The end of a run. The text form is `steps:1000`, `evals:5000` or `seconds:2.5`. Without a number, the budget is the heat's number of
/// steps, as steps or as evaluations.
///
/// ```
/// use wgpu_optim::tools::race::Budget;
///
/// assert_eq!("evals:5000".parse::<Budget>()?, Budget::Evaluations(Some(5000)));
/// assert_eq!("steps".parse::<Budget>()?, Budget::Steps(None));
/// # Ok::<(), wgpu_optim::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// After this many steps.
    Steps(Option<u64>),
    /// After the step that reaches this many evaluations, counted as [`Cost::evaluations`] does.
    Evaluations(Option<u64>),
    /// After the step that reaches this many seconds. Two runs with one seed may then differ.
    Seconds(f64),
}

impl Budget {
    /// The budget, with a heat's number of steps if the budget has no number.
    #[must_use]
    pub(super) fn or(self, steps: u64) -> Self {
        match self {
            Self::Steps(given) => Self::Steps(given.or(Some(steps))),
            Self::Evaluations(given) => Self::Evaluations(given.or(Some(steps))),
            seconds @ Self::Seconds(_) => seconds,
        }
    }

    /// The number of steps left, if the budget counts steps.
    pub(super) fn steps_left(self, cost: &Cost) -> Option<u64> {
        match self {
            Self::Steps(all) => all.map(|all| all.saturating_sub(cost.steps)),
            Self::Evaluations(_) | Self::Seconds(_) => None,
        }
    }

    /// The used share of the budget: 1 at its end.
    pub(super) fn used(self, cost: &Cost) -> f64 {
        let share = |spent: f64, all: Option<u64>| spent / all.map_or(f64::INFINITY, |all| all as f64);
        match self {
            Self::Steps(all) => share(cost.steps as f64, all),
            Self::Evaluations(all) => share(cost.evaluations(), all),
            Self::Seconds(all) => cost.seconds / all,
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, number) = match self {
            Self::Steps(n) => ("steps", n.map(|n| n.to_string())),
            Self::Evaluations(n) => ("evals", n.map(|n| n.to_string())),
            Self::Seconds(s) => ("seconds", Some(s.to_string())),
        };
        f.write_str(kind)?;
        number.map_or(Ok(()), |number| write!(f, ":{number}"))
    }
}

impl FromStr for Budget {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (kind, number) = text.split_once(':').map_or((text, None), |(kind, number)| (kind, Some(number)));
        let needs = |what: &str| Error::Usage(format!("budget `{text}` needs {what}, as {kind}:1000"));
        let count = || -> Result<Option<u64>> {
            let parse = |n: &str| n.parse().ok().filter(|n| *n > 0).ok_or_else(|| needs("a whole number above 0"));
            number.map(parse).transpose()
        };
        match kind {
            "steps" => Ok(Self::Steps(count()?)),
            "evals" => Ok(Self::Evaluations(count()?)),
            "seconds" => {
                let seconds = number.and_then(|n| n.parse().ok()).filter(|s: &f64| s.is_finite() && *s > 0.0);
                seconds.map(Self::Seconds).ok_or_else(|| needs("a number above 0"))
            }
            _ => Err(Error::unknown("budget", kind, ["steps", "evals", "seconds"])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_read_and_written() {
        for text in ["steps", "steps:7", "evals", "evals:5000", "seconds:2.5"] {
            let budget: Budget = text.parse().expect("a budget");
            assert_eq!(budget.to_string(), text);
        }
        for (text, part) in [
            ("step", "did you mean `steps`?"),
            ("steps:0", "needs a whole number above 0"),
            ("evals:many", "budget `evals:many`"),
            ("seconds", "needs a number above 0"),
            ("seconds:-1", "needs a number above 0"),
        ] {
            let error = text.parse::<Budget>().expect_err(text).to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_loss_alone_is_a_third_of_a_gradient() {
        let cost = Cost { steps: 3, gradients: 3, losses: 6, seconds: 0.5 };
        let used = |budget: Budget| budget.or(10).used(&cost);
        assert_eq!(used(Budget::Steps(None)), 0.3);
        assert_eq!(used(Budget::Evaluations(Some(5))), 1.0);
        assert_eq!(used(Budget::Seconds(2.0)), 0.25);
    }
}
