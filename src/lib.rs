//! Optimizers for training on wgpu, as WGSL kernels that run on the caller's own device and buffers.
//!
//! A [`Builder`] collects parameter groups and tensors and builds an [`Optimizer`]. [`Optimizer::step`] then records one step into the
//! caller's encoder: one dispatch for all tensors. The step submits nothing, waits for nothing and creates no GPU object. Parameters and
//! gradients lie in the optimizer's buffers, or in the caller's buffers with [`Builder::bind`]. States lie in the optimizer's buffers.
//!
//! ```
//! use wgpu_optim::{AdamW, Clip, Group, Optimizer, wgpu};
//!
//! let instance = wgpu::Instance::default();
//! let adapter = pollster::block_on(instance.request_adapter(&Default::default())).expect("an adapter");
//! let (device, queue) = pollster::block_on(adapter.request_device(&Default::default())).expect("a device");
//!
//! let mut builder = Optimizer::builder(AdamW { lr: 1e-3, ..AdamW::default() });
//! let w = builder.tensor(Group::DEFAULT, "w", &[128, 64]);
//! let b = builder.tensor(Group::DEFAULT, "b", &[128]);
//! let mut optimizer = builder.clip(Clip::GlobalNorm(1.0)).build(&device, &queue)?;
//! optimizer.write_param(w, &[0.5; 128 * 64])?;
//!
//! for _ in 0..3 {
//!     let mut encoder = device.create_command_encoder(&Default::default());
//!     // In a real program, your backward pass writes into optimizer.grad(w)? and optimizer.grad(b)?.
//!     optimizer.write_grad(w, &[0.1; 128 * 64])?;
//!     optimizer.step(&mut encoder)?;
//!     queue.submit([encoder.finish()]);
//! }
//! assert!(pollster::block_on(optimizer.read_param(w))?[0] < 0.5);
//! # let _ = b;
//! # Ok::<(), wgpu_optim::Error>(())
//! ```
//!
//! - Rules: [`optim`] has one file per rule; `CustomRule` (feature `custom`) takes a rule of your own in WGSL.
//! - Options that go with every rule, inside the same dispatches: [`Clip`], [`LossScale`], [`Accumulate`], [`Ema`], [`NoDecay`], [`Schedule`].
//! - [`storage`]: parameters and gradients in half precision, states in half precision or 8 bits.
//! - [`cpu`]: the same rules on the host, from the same builder. The f64 form is the oracle, with which every other form is compared. The f32
//!   form runs on all cores (feature `parallel`).
//! - `checkpoint` (feature `checkpoint`): files from which a run resumes, and the states of torch's optimizers.
//! - `tools` (feature `tools`): the library behind the command line: adapters, verification, benchmarks, replays, training and races.
//!
//! How a step works: the caller's passes write the gradients. If a rule or a clip needs sums, a read-only pass sums the gradients and
//! states of every tensor, and one workgroup adds the sums and computes the decision of the rule (a damping or a clip factor, for example).
//! The update then changes the parameters in chunks of 1024 elements, one workgroup per chunk. The step count lives on the GPU and selects the
//! bias corrections of the step from a ring of scalars that the host fills ahead. So bias corrections stay right after a dropped encoder or a
//! skipped step.

pub mod cpu;
mod error;
mod gpu;
#[cfg(feature = "checkpoint")]
mod io;
pub mod optim;
mod options;
#[cfg(feature = "tools")]
pub mod tools;

pub use error::{Error, Result};
#[cfg(feature = "checkpoint")]
pub use gpu::Snapshot;
pub use gpu::layout::memory;
pub use gpu::{Builder, Cut, Group, Optimizer, PendingStep, RowSet, Tensor, read_buffer};
#[doc(hidden)]
pub use gpu::{Class, Stage};
#[cfg(feature = "checkpoint")]
pub use io::checkpoint;
#[cfg(feature = "custom")]
pub use optim::CustomRule;
pub use optim::procedure::evaluation::{EvalRequest, Evaluations};
pub use optim::{
    AdEMAMix, AdaBelief, Adadelta, Adafactor, Adagrad, Adai, AdaiW, Adam, AdamW, AdamWScheduleFree, Adamax, Adan,
    AdjustLr, Asgd, Beta3, FlowAdam, Lamb, Lion, Muon, NAdam, NormOf, Prodigy, ProxSgd, RAdam, RmsProp, Rprop, Rule,
    SAdam, Sgd, SgdScheduleFree, VRAdam, WarpAdam,
};
pub use options::around::{Accumulate, Clip, Ema, LossScale};
pub use options::no_decay::NoDecay;
#[doc(hidden)]
pub use options::random;
pub use options::schedule::{self, Schedule};
pub use options::storage::{self, Storage};
pub use options::telemetry::{Norms, Stats, TensorStats};
pub use wgpu;

/// The guide: one page per subject. Every program in it is compiled and run as a test.
#[cfg(all(any(doc, doctest), feature = "tools"))]
pub mod guide {
    #[doc = include_str!("../docs/guide/around.md")]
    pub mod around {}
    #[doc = include_str!("../docs/guide/buffers.md")]
    pub mod buffers {}
    #[doc = include_str!("../docs/guide/checkpoints.md")]
    pub mod checkpoints {}
    #[doc = include_str!("../docs/guide/custom.md")]
    pub mod custom {}
    #[doc = include_str!("../docs/guide/evaluating.md")]
    pub mod evaluating {}
    #[doc = include_str!("../docs/guide/glossary.md")]
    pub mod glossary {}
    #[doc = include_str!("../docs/guide/groups.md")]
    pub mod groups {}
    #[doc = include_str!("../docs/guide/numerics.md")]
    pub mod numerics {}
    #[doc = include_str!("../docs/guide/problems.md")]
    pub mod problems {}
    #[doc = include_str!("../docs/guide/row_sets.md")]
    pub mod row_sets {}
    #[doc = include_str!("../docs/guide/rules.md")]
    pub mod rules {}
    #[doc = include_str!("../docs/guide/scale.md")]
    pub mod scale {}
    #[doc = include_str!("../docs/guide/storage.md")]
    pub mod storage {}
}

/// The README's program, compiled and run.
#[cfg(all(doctest, feature = "tools"))]
#[doc = include_str!("../README.md")]
struct Readme;
