//! The keys of a trajectory file.

use safetensors::Dtype;

/// The quantity of `expect/<t>/param/<tensor>` and of the writer's `param/<t>/<tensor>`.
pub(super) const PARAM: &str = "param";
pub(super) const LGI: &str = "expect/lgi";
pub(super) const TRIGGERS: &str = "expect/triggers";
pub(super) const FORMS: &str = "`param/<tensor>`, `grad/<t>/<tensor>`, `curvature/<tensor>`, `direction/<t>/<j>/<tensor>`, \
    `expect/<t>/<state>/<tensor>`, `expect/lgi` or `expect/triggers`, with t and j counted from 1";

/// A parsed key. The tensor's name is the rest of the key, including slashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key<'a> {
    Param { tensor: &'a str },
    Gradient { t: usize, tensor: &'a str },
    Curvature { tensor: &'a str },
    Direction { t: usize, j: usize, tensor: &'a str },
    Expect { t: usize, quantity: &'a str, tensor: &'a str },
    Lgi,
    Triggers,
}

impl<'a> Key<'a> {
    pub(super) fn parse(key: &'a str) -> Option<Self> {
        let (head, rest) = key.split_once('/')?;
        let key = match (head, rest) {
            ("expect", "lgi") => Self::Lgi,
            ("expect", "triggers") => Self::Triggers,
            (PARAM, tensor) => Self::Param { tensor },
            ("curvature", tensor) => Self::Curvature { tensor },
            ("grad", rest) => {
                let (t, tensor) = counted(rest)?;
                Self::Gradient { t, tensor }
            }
            ("direction", rest) => {
                let (t, rest) = counted(rest)?;
                let (j, tensor) = counted(rest)?;
                Self::Direction { t, j, tensor }
            }
            ("expect", rest) => {
                let (t, rest) = counted(rest)?;
                let (quantity, tensor) = rest.split_once('/').filter(|(quantity, _)| !quantity.is_empty())?;
                Self::Expect { t, quantity, tensor }
            }
            _ => return None,
        };
        (key.tensor() != Some("")).then_some(key)
    }

    pub(super) fn tensor(self) -> Option<&'a str> {
        match self {
            Self::Param { tensor }
            | Self::Gradient { tensor, .. }
            | Self::Curvature { tensor }
            | Self::Direction { tensor, .. }
            | Self::Expect { tensor, .. } => Some(tensor),
            Self::Lgi | Self::Triggers => None,
        }
    }

    pub(super) fn step(self) -> Option<usize> {
        match self {
            Self::Gradient { t, .. } | Self::Direction { t, .. } | Self::Expect { t, .. } => Some(t),
            _ => None,
        }
    }

    pub(super) fn dtype(self) -> Dtype {
        match self {
            Self::Expect { .. } | Self::Lgi => Dtype::F64,
            Self::Triggers => Dtype::I64,
            _ => Dtype::F32,
        }
    }
}

/// Splits `12/rest`.
fn counted(text: &str) -> Option<(usize, &str)> {
    let (digits, rest) = text.split_once('/')?;
    Some((count(digits)?, rest))
}

/// A number from 1 in its only accepted spelling, so that two keys never mean the same.
pub(super) fn count(digits: &str) -> Option<usize> {
    digits.starts_with(|c| matches!(c, '1'..='9')).then(|| digits.parse().ok())?
}

pub(super) fn gradient(t: usize, tensor: &str) -> String {
    format!("grad/{t}/{tensor}")
}

pub(super) fn curvature(tensor: &str) -> String {
    format!("curvature/{tensor}")
}

pub(super) fn direction(t: usize, j: usize, tensor: &str) -> String {
    format!("direction/{t}/{j}/{tensor}")
}

pub(super) fn expect(t: usize, quantity: &str, tensor: &str) -> String {
    format!("expect/{t}/{quantity}/{tensor}")
}
