//! What the tests share: devices, a model, and numbers.

use std::sync::OnceLock;

use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::{Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::wgpu::{MemoryConfiguration, WgpuSetup};
use burn::tensor::{Device, Tensor, TensorData};
use wgpu_optim_burn::{burn, wgpu_optim};

/// A device of Burn with autodiff, and the handles of wgpu behind it.
pub struct Gpu {
    pub device: Device,
    pub setup: WgpuSetup,
}

/// Burn's default: small tensors share pages.
pub fn shared() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| {
        let (device, setup) = Device::wgpu_options().init_with_setup().expect("an adapter");
        println!("adapter: {:?}", setup.adapter.get_info());
        Gpu { device: device.autodiff(), setup }
    })
}

/// A second device of wgpu, given to Burn, on which every tensor has a buffer of its own.
pub fn exclusive() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| {
        let WgpuSetup { instance, adapter, backend, .. } = shared().setup.clone();
        let descriptor = wgpu_optim::wgpu::DeviceDescriptor {
            required_limits: adapter.limits(),
            required_features: adapter.features() - wgpu_optim::wgpu::Features::all_experimental_mask(),
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).expect("a device");
        let setup = WgpuSetup { instance, adapter, device, queue, backend };
        let options = Device::wgpu_options().memory_config(MemoryConfiguration::ExclusivePages);
        let device = options.setup(setup.clone()).init().expect("Burn takes the device");
        Gpu { device: device.autodiff(), setup }
    })
}

/// A perceptron with a layer that does not train with the others where the test says so.
#[derive(Module, Debug)]
pub struct Mlp {
    pub first: Linear,
    pub second: Linear,
    pub third: Linear,
}

impl Mlp {
    pub fn new(device: &Device) -> Self {
        let [first, second, third] = [[6, 33], [33, 17], [17, 3]].map(|[from, to]| linear(from, to, device));
        Self { first, second, third }
    }

    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let x = burn::tensor::activation::tanh(self.first.forward(x));
        self.third.forward(burn::tensor::activation::tanh(self.second.forward(x)))
    }

    /// The loss of a batch that `step` chooses.
    pub fn loss(&self, step: u64) -> Tensor<1> {
        let (x, y) = batch(step, &self.first.weight.device());
        (self.forward(x) - y).powi_scalar(2).mean()
    }

    pub fn grads(&self, step: u64) -> GradientsParams {
        GradientsParams::from_grads(self.loss(step).backward(), self)
    }
}

/// Numbers between -1 and 1 that look random. Burn's generator belongs to the device, which the tests share.
pub fn numbers(count: usize, salt: u64) -> Vec<f32> {
    let number = |i: u64| {
        let x = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(salt.wrapping_mul(0xD1B5_4A32_D192_ED03));
        let x = (x ^ (x >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        ((x >> 40) as f32) / f32::from(1_u16 << 15) / 256.0 - 1.0
    };
    (0..count as u64).map(number).collect()
}

/// A tensor of such numbers.
pub fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    let count = shape.iter().product();
    Tensor::from_data(TensorData::new(numbers(count, count as u64), shape), device)
}

/// A layer with such numbers.
pub fn linear(from: usize, to: usize, device: &Device) -> Linear {
    let scale = 1.0 / (from as f32).sqrt();
    let mut linear = LinearConfig::new(from, to).init(device);
    linear.weight = Param::from_tensor(random([from, to], device).inner().mul_scalar(scale).autodiff());
    linear.bias = Some(Param::from_tensor(random([to], device).inner().mul_scalar(scale).autodiff()));
    linear
}

/// Ten rows of inputs and targets.
pub fn batch(step: u64, device: &Device) -> (Tensor<2>, Tensor<2>) {
    let x = Tensor::from_data(TensorData::new(numbers(60, 2 * step), [10, 6]), device);
    let y = Tensor::from_data(TensorData::new(numbers(30, 2 * step + 1), [10, 3]), device);
    (x, y)
}

/// Every float parameter of a module, by path.
pub fn values<M: Module>(module: &M) -> Vec<(String, Vec<f32>)> {
    #[derive(Default)]
    struct Reader {
        path: Vec<String>,
        found: Vec<(String, Vec<f32>)>,
    }
    impl ModuleVisitor for Reader {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let data = param.val().into_data().convert::<f32>();
            self.found.push((self.path.join("."), data.try_into_vec::<f32>().unwrap()));
        }
    }
    let mut reader = Reader::default();
    module.visit(&mut reader);
    reader.found
}

/// The largest difference of two modules, relative to 1 plus the size of the number.
pub fn difference<M: Module>(a: &M, b: &M) -> f32 {
    let (a, b) = (values(a), values(b));
    assert_eq!(a.len(), b.len());
    let mut worst = 0.0_f32;
    for ((name, a), (other, b)) in a.iter().zip(&b) {
        assert_eq!((name, a.len()), (other, b.len()));
        for (a, b) in a.iter().zip(b) {
            assert!(a.is_finite() && b.is_finite(), "{name}: {a} and {b}");
            worst = worst.max((a - b).abs() / (1.0 + b.abs()));
        }
    }
    worst
}
