//! The optimizers of [`wgpu_optim`] for modules of Burn 0.22 on its wgpu backend, with and without fusion. Parameters stay tensors of Burn and are
//! stepped where they lie, in one dispatch for all of them; states lie in the optimizer. The call reads like Burn's `ModuleOptimizer`:
//!
//! ```
//! use burn::module::{Module, ParamGroup};
//! use burn::nn::{Linear, LinearConfig};
//! use burn::optim::GradientsParams;
//! use burn::tensor::{Device, Tensor};
//! use wgpu_optim::{AdamW, Clip};
//! use wgpu_optim_burn::{WgpuOptimizer, burn, wgpu_optim};
//!
//! #[derive(Module, Debug)]
//! struct Model {
//!     hidden: Linear,
//!     head: Linear,
//! }
//!
//! impl Model {
//!     fn loss(&self, x: Tensor<2>, y: Tensor<2>) -> Tensor<1> {
//!         let x = self.head.forward(burn::tensor::activation::relu(self.hidden.forward(x)));
//!         (x - y).powi_scalar(2).mean()
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (device, setup) = Device::wgpu_options().init_with_setup()?; // Burn's device, with the handles of wgpu behind it
//! let device = device.autodiff();
//! let mut model = Model { hidden: LinearConfig::new(2, 16).init(&device), head: LinearConfig::new(16, 1).init(&device) };
//!
//! let mut optim = WgpuOptimizer::new(AdamW { weight_decay: 0.1, ..AdamW::default() })
//!     .with_group(ParamGroup::from_predicate("bias"), AdamW { weight_decay: 0.0, ..AdamW::default() })
//!     .with_clip(Clip::GlobalNorm(1.0))
//!     .with_storage("f32,8bit".parse()?)
//!     .with_setup(&setup)
//!     .init(&model)?;
//!
//! let x = Tensor::<2>::from_floats([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], &device);
//! let y = Tensor::<2>::from_floats([[0.0], [1.0], [1.0], [0.0]], &device);
//! let before = model.loss(x.clone(), y.clone()).into_scalar::<f32>();
//! for _ in 0..20 {
//!     let loss = model.loss(x.clone(), y.clone());
//!     let grads = GradientsParams::from_grads(loss.backward(), &model);
//!     model = optim.step(1e-2, model, grads)?;
//! }
//! assert!(model.loss(x, y).into_scalar::<f32>() < before);
//! # Ok(())
//! # }
//! ```
//!
//! # From Burn's optimizers
//!
//! One type and one line change, and the device is created with `init_with_setup`, because Burn tells its device and queue of wgpu only there. A
//! setup of your own, which Burn got from `Device::wgpu_options().setup(…)`, serves as well.
//!
//! | Burn | here |
//! |---|---|
//! | `AdamWConfig::new().init()` | `WgpuOptimizer::new(AdamW { eps: 1e-5, weight_decay: 1e-4, .. }).with_setup(&setup).init(&model)?` |
//! | `optim.with_group(group, optimizer, clip)` | [`Options::with_group`], before [`init`](Options::init) |
//! | `optim.step(lr, model, grads)` | [`WgpuOptimizer::step`], which returns a `Result`; `lr` is a number or what a scheduler returns |
//! | `GradientClippingConfig::Norm` | [`Options::with_clip`]: `Clip::TensorNorm` as Burn's, `Clip::GlobalNorm` over all parameters |
//! | `optim.to_record()`, `load_record` | [`WgpuOptimizer::checkpoint`], [`restore`](WgpuOptimizer::restore); [`restore_record`](WgpuOptimizer::restore_record) takes a record of Burn's Adam or AdamW |
//! | `GradientsAccumulator` | works as it is; or [`WgpuOptimizer::accumulate`] |
//!
//! Burn's defaults differ: eps is 1e-5 in Adam, AdamW, RMSprop and Adagrad, the weight decay of AdamW is 1e-4, RMSprop has a momentum of 0.9,
//! SGD's momentum has a dampening of 0.1, and Muon has no weight decay. With equal settings, the steps of SGD, Adam, AdamW, Adan, RMSprop, Adagrad,
//! Lion, LAMB and Muon equal Burn's. Adafactor is torch's, which is not Burn's.
//!
//! # What a step does
//!
//! - The first step copies the parameters, once, into one allocation of Burn. They lie in it from then on, as ranges: to Burn they are contiguous
//!   tensors like any other. A parameter that your own code replaced, by a map over the module for example, is copied to its place at the next
//!   step. So is a strided one, and a strided gradient is made contiguous by a copy of its own.
//! - The step takes every tensor out of the module first and then asks Burn whether anybody else holds a tensor in the allocation: a clone of the
//!   module, one tensor, a view, a graph that waits for its backward pass, a kernel of another thread. If so, the step moves to a copy of the
//!   allocation, and those who hold the old one keep its values. One kept tensor keeps the whole allocation.
//! - A parameter that occurs twice in a module, with one id, is one parameter. After a step both places have one tensor.
//! - Nothing is read back, and nothing waits for the GPU. Burn's work is submitted before the step's, to the same queue, and its later work after it.
//! - Gradients are read where Burn left them. Gradients in one page share a dispatch; where Burn gives every tensor a buffer of its own
//!   (`MemoryConfiguration::ExclusivePages`, and the browser), each gradient takes one.
//! - A parameter without a gradient keeps its values, its states and its own step count. Only FlowAdam's integrators need every gradient.
//! - Gradients must come from wgpu tensors of the module's device and have the number type of their parameters.
//!
//! The features: `fusion`, on by default as in Burn, must agree with Burn's own.

mod engine;
mod error;
mod evaluate;
mod module;
mod optimizer;
mod options;
mod params;
mod rates;
mod record;
mod step;
mod tensor;

pub use burn;
pub use error::{Error, Result};
pub use evaluate::Evaluation;
pub use optimizer::WgpuOptimizer;
pub use options::Options;
pub use rates::LearningRates;
pub use wgpu_optim;
