//! The sources of the members of `Hyper`.

use std::cell::RefCell;
use std::sync::Arc;

use crate::optim::rule::bias_correction;
use crate::optim::{Range, Scalar};

/// A setting of a rule.
#[derive(Clone, Debug)]
pub(super) struct Declared {
    pub(super) name: &'static str,
    pub(super) value: f64,
    pub(super) range: Range,
}

/// The settings of a [`CustomRule`](super::CustomRule), for the closures that fill `Hyper`.
#[derive(Debug)]
pub struct Settings<'a> {
    all: &'a [Declared],
    unknown: RefCell<Option<String>>,
}

impl<'a> Settings<'a> {
    pub(super) fn new(all: &'a [Declared]) -> Self {
        Self { all, unknown: RefCell::default() }
    }

    /// The value of a setting. An unknown name gives NaN, and [`Rule::check`](crate::Rule::check) then reports the name.
    #[must_use]
    pub fn get(&self, name: &str) -> f64 {
        if let Some(setting) = self.all.iter().find(|s| s.name == name) {
            return setting.value;
        }
        self.unknown.borrow_mut().get_or_insert_with(|| name.to_owned());
        f64::NAN
    }

    /// The first unknown name that a closure asked for.
    pub(super) fn unknown(self) -> Option<String> {
        self.unknown.into_inner()
    }
}

pub(super) type OfCall = Arc<dyn Fn(&Settings<'_>) -> f64 + Send + Sync>;
pub(super) type OfCount = Arc<dyn Fn(&Settings<'_>, u64) -> f64 + Send + Sync>;

/// The source of a member's value.
#[derive(Clone)]
pub(super) enum Fill {
    /// The member is undefined.
    Missing,
    Setting(usize),
    OneMinus(usize),
    Step,
    Correction {
        beta: usize,
        form: Form,
    },
    Call(OfCall),
    Count(OfCount),
    Both(OfCall, OfCount),
}

/// The forms of 1 - β^t.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    Inverse,
    Root,
    InverseRoot,
}

const FORMS: [(&str, Form); 4] = [
    ("bias_correction", Form::Plain),
    ("inv_bias_correction", Form::Inverse),
    ("sqrt_bias_correction", Form::Root),
    ("inv_sqrt_bias_correction", Form::InverseRoot),
];

impl Fill {
    /// The source of a member that no closure fills, from the member's name.
    pub(super) fn of_name(member: &str, settings: &[Declared]) -> Self {
        let find = |name: &str| settings.iter().position(|s| s.name == name);
        if let Some(setting) = find(member) {
            return Self::Setting(setting);
        }
        if member == "step" {
            return Self::Step;
        }
        if let Some(setting) = member.strip_prefix("one_minus_").and_then(find) {
            return Self::OneMinus(setting);
        }
        for (prefix, form) in FORMS {
            let beta = member.strip_prefix(prefix).and_then(|number| find(&format!("beta{number}")));
            if let Some(beta) = beta {
                return Self::Correction { beta, form };
            }
        }
        Self::Missing
    }

    /// The names that [`of_name`](Self::of_name) knows with these settings.
    pub(super) fn known(settings: &[Declared]) -> Vec<String> {
        let mut known: Vec<String> = settings.iter().map(|s| s.name.to_owned()).collect();
        known.push("step".to_owned());
        known.extend(settings.iter().map(|s| format!("one_minus_{}", s.name)));
        for number in settings.iter().filter_map(|s| s.name.strip_prefix("beta")) {
            known.extend(FORMS.map(|(prefix, _)| format!("{prefix}{number}")));
        }
        known
    }

    pub(super) fn scalar(&self, name: &'static str, settings: &Settings<'_>, t: u64) -> Scalar {
        let value = |i: usize| settings.all.get(i).map_or(f64::NAN, |s| s.value);
        match self {
            Self::Missing => Scalar::call(name, f64::NAN),
            Self::Setting(i) => Scalar::call(name, value(*i)),
            Self::OneMinus(i) => Scalar::call(name, 1.0 - value(*i)),
            Self::Step => Scalar::count(name, t as f64),
            Self::Correction { beta, form } => {
                let correction = bias_correction(value(*beta), t);
                Scalar::count(
                    name,
                    match form {
                        Form::Plain => correction,
                        Form::Inverse => 1.0 / correction,
                        Form::Root => correction.sqrt(),
                        Form::InverseRoot => 1.0 / correction.sqrt(),
                    },
                )
            }
            Self::Call(call) => Scalar::call(name, call(settings)),
            Self::Count(count) => Scalar::count(name, count(settings, t)),
            Self::Both(call, count) => Scalar::both(name, call(settings), count(settings, t)),
        }
    }
}
