//! The optimizers, one file per family: configuration, defaults, checks, scalars and the form for the CPU. The WGSL of each file has the
//! same stem under `shaders/rules/`. [`ALL`] is the registry that the engine, the tools, the tests and the benches use; `CustomRule` is a
//! user-defined rule.
//!
//! Every configuration is a plain struct with public fields and defaults, and implements [`Rule`]. In the formulas θ is a parameter, g its
//! gradient (clipped and unscaled, if the builder says so) and t the step count, from 1. The formulas hold for each element; the
//! text of a norm or a mean says over which elements it runs. States have their tensor's shape. Decay rates and shares have no unit. Where
//! a rule divides by the root of a second moment, its learning rate has θ's unit and its ε that of g; elsewhere the learning rate is in θ's
//! units per unit of g.

mod adabelief;
mod adadelta;
mod adafactor;
mod adagrad;
mod adai;
mod adam;
mod adamax;
mod adamw_schedule_free;
mod adan;
mod ademamix;
mod asgd;
#[cfg(feature = "custom")]
mod custom;
mod flowadam;
mod lamb;
mod lion;
mod muon;
mod nadam;
#[doc(hidden)]
pub mod procedure;
mod prodigy;
mod prox_sgd;
mod radam;
mod registry;
mod rmsprop;
mod rprop;
#[doc(hidden)]
pub mod rule;
mod sadam;
mod schedule_free;
mod sgd;
mod sgd_schedule_free;
mod vradam;
mod warpadam;

pub use adabelief::AdaBelief;
pub use adadelta::Adadelta;
pub use adafactor::Adafactor;
pub use adagrad::Adagrad;
pub use adai::{Adai, AdaiW};
pub use adam::{Adam, AdamW};
pub use adamax::Adamax;
pub use adamw_schedule_free::AdamWScheduleFree;
pub use adan::Adan;
pub use ademamix::AdEMAMix;
pub use asgd::Asgd;
#[cfg(feature = "custom")]
pub use custom::{CustomCpu, CustomRule, Settings};
pub use flowadam::{FlowAdam, Injection, Integrator, Mode};
pub use lamb::Lamb;
pub use lion::Lion;
pub use muon::Muon;
pub use nadam::NAdam;
#[doc(inline)]
pub use procedure::{AdjustLr, Directions};
#[doc(hidden)]
pub use procedure::{Factors, Orthogonalize, Probe, Procedure, Scheme, Shared, Warp};
pub use prodigy::{Beta3, Prodigy};
pub use prox_sgd::ProxSgd;
pub use radam::RAdam;
pub use registry::{ALL, Entry, SettingSpec, Variant, find};
pub use rmsprop::RmsProp;
pub use rprop::Rprop;
#[doc(inline)]
pub use rule::settings::{Range, Value};
#[doc(inline)]
pub use rule::{Depends, Kind, Rule, Scalar, StateSpec, Sums};
pub use sadam::SAdam;
pub use sgd::Sgd;
pub use sgd_schedule_free::SgdScheduleFree;
pub use vradam::{NormOf, VRAdam};
pub use warpadam::{WarpAdam, WarpMode};
