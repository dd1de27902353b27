//! The registry of optimizers: names, settings and configurations, for the engine, the tools, the tests and the benches.

use std::borrow::Cow;

use super::rule::{ElementwiseRule, Fields};
use super::{
    AdEMAMix, AdaBelief, Adadelta, Adafactor, Adagrad, Adai, AdaiW, Adam, AdamW, AdamWScheduleFree, Adamax, Adan, Asgd,
    FlowAdam, Lamb, Lion, Muon, NAdam, Prodigy, ProxSgd, RAdam, RmsProp, Rprop, SAdam, Sgd, SgdScheduleFree, VRAdam,
    WarpAdam,
};
use super::{Rule, Value};
use crate::{Error, Result};

/// An entry of the registry: one optimizer.
#[derive(Clone, Copy)]
pub struct Entry {
    /// The name.
    pub name: &'static str,
    /// The settings' names, in order.
    pub settings: &'static [&'static str],
    /// The names of the settings without a default.
    pub required: &'static [&'static str],
    /// The stem of its files in `src/optim` and `shaders/rules`.
    pub stem: &'static str,
    /// The members of `Hyper`, in order.
    pub hyper_names: &'static [&'static str],
    /// The members of `State`, in order, with those that the settings may make unused.
    pub state_names: &'static [&'static str],
    template: fn() -> Box<dyn Rule>,
    accepts: fn() -> Vec<Cow<'static, str>>,
    variants: fn() -> Vec<Variant>,
}

/// A setting of an optimizer, with its default and its range.
#[derive(Clone, Debug, PartialEq)]
pub struct SettingSpec {
    /// The name.
    pub name: &'static str,
    /// The default; `None` if the setting must be given.
    pub default: Option<Value>,
    /// The accepted values, in the words of the error for any other value: "a number in [0, 1)".
    pub accepts: Cow<'static, str>,
}

/// A configuration with its name.
pub type Variant = (&'static str, Box<dyn Rule>);

impl Entry {
    const fn of<T: ElementwiseRule>(stem: &'static str) -> Self {
        Self {
            name: T::NAME,
            settings: T::SETTINGS,
            required: T::REQUIRED,
            stem,
            hyper_names: <T::Hyper<f64> as Fields<f64>>::NAMES,
            state_names: <T::State<f64> as Fields<f64>>::NAMES,
            template: || Box::new(T::template()),
            accepts: T::accepts,
            variants: || {
                T::variants().into_iter().map(|(name, rule)| (name, Box::new(rule) as Box<dyn Rule>)).collect()
            },
        }
    }

    /// The settings in order, each with its default and its accepted values.
    #[must_use]
    pub fn setting_specs(&self) -> Vec<SettingSpec> {
        let spec = |((name, default), accepts)| {
            let default = (!self.required.contains(&name)).then_some(default);
            SettingSpec { name, default, accepts }
        };
        (self.template)().settings().into_iter().zip((self.accepts)()).map(spec).collect()
    }

    /// Configurations that together reach every text and every branch of the rule, for tests, `verify` and benches.
    #[must_use]
    pub fn variants(&self) -> Vec<Variant> {
        (self.variants)()
    }

    /// The first of [`variants`](Self::variants): the rule in its usual configuration.
    #[must_use]
    pub fn sample(&self) -> Box<dyn Rule> {
        self.variants().swap_remove(0).1
    }

    /// The defaults with `settings` applied and checked.
    ///
    /// # Errors
    /// A name is unknown (the error suggests the nearest known name), a value is out of range, or a required setting is missing.
    pub fn configure<'a>(&self, settings: impl IntoIterator<Item = (&'a str, Value)>) -> Result<Box<dyn Rule>> {
        let mut rule = (self.template)();
        let mut given = Vec::new();
        for (name, value) in settings {
            rule.set(name, &value)?;
            given.push(name);
        }
        if let Some(missing) = self.required.iter().find(|r| !given.contains(*r)) {
            return Err(Error::MissingSetting { optimizer: self.name.to_owned(), setting: (*missing).to_owned() });
        }
        rule.check()?;
        Ok(rule)
    }
}

/// Every optimizer of this crate.
pub static ALL: &[Entry] = &[
    Entry::of::<Sgd>("sgd"),
    Entry::of::<ProxSgd>("prox_sgd"),
    Entry::of::<Adam>("adam"),
    Entry::of::<AdamW>("adam"),
    Entry::of::<NAdam>("nadam"),
    Entry::of::<RAdam>("radam"),
    Entry::of::<RmsProp>("rmsprop"),
    Entry::of::<Adagrad>("adagrad"),
    Entry::of::<Adadelta>("adadelta"),
    Entry::of::<Adamax>("adamax"),
    Entry::of::<Rprop>("rprop"),
    Entry::of::<Asgd>("asgd"),
    Entry::of::<AdaBelief>("adabelief"),
    Entry::of::<Lion>("lion"),
    Entry::of::<Lamb>("lamb"),
    Entry::of::<Muon>("muon"),
    Entry::of::<Adafactor>("adafactor"),
    Entry::of::<AdEMAMix>("ademamix"),
    Entry::of::<Adan>("adan"),
    Entry::of::<Prodigy>("prodigy"),
    Entry::of::<VRAdam>("vradam"),
    Entry::of::<Adai>("adai"),
    Entry::of::<AdaiW>("adai"),
    Entry::of::<AdamWScheduleFree>("adamw_schedule_free"),
    Entry::of::<SgdScheduleFree>("sgd_schedule_free"),
    Entry::of::<FlowAdam>("flowadam"),
    Entry::of::<SAdam>("sadam"),
    Entry::of::<WarpAdam>("warpadam"),
];

/// The optimizer of this name.
///
/// # Errors
/// The name is unknown; the error suggests the nearest.
pub fn find(name: &str) -> Result<&'static Entry> {
    ALL.iter().find(|e| e.name == name).ok_or_else(|| Error::unknown("optimizer", name, ALL.iter().map(|e| e.name)))
}
