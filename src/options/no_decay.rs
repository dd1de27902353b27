//! The tensors of a group that take no weight decay: mostly biases and the scales of norms.

use std::fmt;
use std::str::FromStr;

use crate::optim::{Rule, Value};
use crate::{Error, Result};

/// The setting that is 0 for these tensors.
const SETTING: &str = "weight_decay";

/// A choice of tensors that take no weight decay. Its text form is `rank:1` or a pattern of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoDecay {
    /// Tensors of at most this many dimensions: 1 for biases and norms.
    Rank(usize),
    /// Tensors with a name that fits the whole pattern; `*` stands for any characters or none: `*.bias`, `norm*`.
    Names(String),
}

impl NoDecay {
    /// Whether the choice includes this tensor.
    #[must_use]
    pub fn picks(&self, name: &str, shape: &[usize]) -> bool {
        match self {
            Self::Rank(most) => shape.len() <= *most,
            Self::Names(pattern) => fits(pattern, name),
        }
    }

    /// The name of the group that receives these tensors.
    pub(crate) fn undecayed_name(group: &str) -> String {
        format!("{group}, no decay")
    }

    /// The rule of the group that receives these tensors.
    pub(crate) fn undecayed_rule(rule: &dyn Rule) -> Result<Box<dyn Rule>> {
        if !rule.settings().iter().any(|(name, _)| *name == SETTING) {
            return Err(Error::Usage(format!("{} has no {SETTING} from which tensors could be excluded", rule.name())));
        }
        let mut undecayed = rule.boxed();
        undecayed.set(SETTING, &Value::Number(0.0))?;
        Ok(undecayed)
    }

    /// Whether the setting belongs only to the tensors that keep their decay.
    pub(crate) fn is_decay(setting: &str) -> bool {
        setting == SETTING
    }
}

/// Whether the whole text fits the pattern: every part between stars follows the one before it.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(body) = text.strip_suffix(tail) else { return false };
    text = body;
    middle.split('*').all(|part| text.find(part).map(|at| text = &text[at + part.len()..]).is_some())
}

impl fmt::Display for NoDecay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rank(most) => write!(f, "rank:{most}"),
            Self::Names(pattern) => f.write_str(pattern),
        }
    }
}

impl FromStr for NoDecay {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            _ if text.is_empty() => {
                Err(Error::Usage("no-decay is empty, needs rank:1 or a pattern of names".to_owned()))
            }
            Some(("rank", most)) => match most.parse() {
                Ok(most) => Ok(Self::Rank(most)),
                Err(_) => Err(Error::Usage(format!("no-decay `{text}` needs a whole number, as rank:1"))),
            },
            _ => Ok(Self::Names(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_whole_names() {
        for (pattern, name, fit) in [
            ("bias", "bias", true),
            ("bias", "a.bias", false),
            ("*.bias", "a.bias", true),
            ("*.bias", "a.bias.x", false),
            ("norm*", "norm", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
            ("*x*x*", "ax", false),
            ("*x*x*", "axbxc", true),
            ("*", "", true),
            ("**", "any", true),
        ] {
            assert_eq!(fits(pattern, name), fit, "{pattern} {name}");
        }
        assert_eq!("rank:1".parse::<NoDecay>().ok(), Some(NoDecay::Rank(1)));
        assert!("rank:x".parse::<NoDecay>().is_err() && "".parse::<NoDecay>().is_err());
        assert!(NoDecay::Rank(1).picks("b", &[7]) && !NoDecay::Rank(1).picks("w", &[7, 1]));
    }
}
