//! `--optimizer`, `--rule` and `--set`.

use std::path::Path;

use clap::Args;

use wgpu_optim::optim::{self, CustomRule, Entry, Rule, Value};

use wgpu_optim::Storage;

use super::failure::Failure;

/// An optimizer of the registry, as the value of an option.
#[derive(Clone, Copy)]
pub(super) struct Named(pub(super) &'static Entry);

impl std::fmt::Debug for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.name)
    }
}

fn optimizer(name: &str) -> wgpu_optim::Result<Named> {
    optim::find(name).map(Named)
}

/// Parses a setting from the value of an option.
pub(super) fn setting(text: &str) -> Result<(String, Value), &'static str> {
    let (name, value) = text.split_once('=').ok_or("needs KEY=VALUE, such as lr=1e-3")?;
    Ok((name.trim().to_owned(), Value::parse(value.trim())))
}

/// `--optimizer`, which may be repeated.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Optimizers {
    /// The optimizer; repeat the option for several
    #[arg(long = "optimizer", value_name = "NAME", value_parser = optimizer)]
    pub(super) names: Vec<Named>,
}

/// `--set`, which may be repeated.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Settings {
    /// A setting of the optimizer, such as lr=3e-4; repeat the option for several
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    pub(super) pairs: Vec<(String, Value)>,
}

impl Settings {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Value)> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value.clone()))
    }
}

/// `--storage`, which may be repeated.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Storages {
    /// How tensors are stored, such as bf16-sr,8bit; repeat the option for several; see below
    #[arg(long = "storage", value_name = "FORM")]
    pub(super) given: Vec<Storage>,
}

/// Reads the user's own rule from a file and applies these settings.
pub(super) fn custom<'a>(
    file: &Path,
    settings: impl IntoIterator<Item = (&'a str, Value)>,
) -> Result<Box<dyn Rule>, Failure> {
    let mut rule = CustomRule::from_file(file)?;
    for (name, value) in settings {
        rule.set(name, &value)?;
    }
    rule.check()?;
    Ok(Box::new(rule))
}
