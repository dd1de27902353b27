//! The parts that the tests of all objectives share: a device, slices, and the measure of errors.

use std::ops::Range;
use std::sync::OnceLock;

use wgpu_optim::read_buffer;
use wgpu_optim::tools::objectives::{GpuObjective, Outcome, Reading};

use crate::support::device;

pub(crate) fn slices<F>(tensors: &[Vec<F>]) -> Vec<&[F]> {
    tensors.iter().map(Vec::as_slice).collect()
}

/// The largest error of any tensor, as a share of the tensor's largest value.
pub(crate) fn worst(expected: &[Vec<f64>], actual: &[Vec<f32>]) -> f64 {
    let share = |(e, a): (&Vec<f64>, &Vec<f32>)| {
        assert_eq!(e.len(), a.len());
        let largest = e.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
        assert!(largest > 0.0, "a gradient without values tests nothing");
        let off = e.iter().zip(a).map(|(e, a)| (e - f64::from(*a)).abs());
        off.fold(0.0, |most: f64, x| if x.is_nan() { f64::INFINITY } else { most.max(x) }) / largest
    };
    expected.iter().zip(actual).map(share).fold(0.0, f64::max)
}

/// The device of the objectives' tests.
pub(crate) struct Gpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
}

/// One device for all tests, with the default limits.
pub(crate) fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| {
        let wgpu_optim::tools::adapter::Gpu { device, queue, .. } =
            device::open(|limits| *limits = wgpu::Limits::default());
        Gpu { device, queue }
    })
}

impl Gpu {
    pub(crate) fn encode(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }

    pub(crate) fn storage(&self, bytes: u64) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    }

    pub(crate) fn words(&self, buffer: &wgpu::Buffer) -> Vec<f32> {
        let bytes = read_buffer(&self.device, &self.queue, buffer.slice(..));
        bytemuck::pod_collect_to_vec(&pollster::block_on(bytes).expect("read"))
    }

    pub(crate) fn outcomes(&self, reading: Reading) -> Vec<Outcome> {
        let read = reading.read();
        self.wait();
        pollster::block_on(read).expect("outcomes")
    }

    pub(crate) fn wait(&self) {
        self.device.poll(wgpu::PollType::wait_indefinitely()).expect("polled");
    }
}

/// An objective with its tensors in one buffer of parameters and one of gradients, with 256 guard bytes between tensors.
pub(crate) struct Rig<O: GpuObjective + ?Sized> {
    pub(crate) gpu: &'static Gpu,
    pub(crate) objective: Box<O>,
    pub(crate) params: wgpu::Buffer,
    pub(crate) grads: wgpu::Buffer,
    pub(crate) ranges: Vec<Range<u64>>,
}

pub(crate) const GUARD: f32 = 12345.5;

impl<O: GpuObjective + ?Sized> Rig<O> {
    pub(crate) fn new(objective: Box<O>) -> Self {
        let gpu = gpu();
        let mut end = 0;
        let mut range = |elements: usize| {
            let start: u64 = end;
            end = (start + 4 * elements as u64 + 256).next_multiple_of(256);
            start..start + 4 * elements as u64
        };
        let ranges: Vec<_> = objective.tensors().iter().map(|t| range(t.elements())).collect();
        let (params, grads) = (gpu.storage(end), gpu.storage(end));
        gpu.queue.write_buffer(&grads, 0, bytemuck::cast_slice(&vec![GUARD; end as usize / 4]));
        let mut rig = Self { gpu, objective, params, grads, ranges };
        let (params, grads) = (rig.slices(&rig.params), rig.slices(&rig.grads));
        rig.objective.bind(&params, &grads).expect("bound");
        rig
    }

    pub(crate) fn slices<'a>(&self, buffer: &'a wgpu::Buffer) -> Vec<wgpu::BufferSlice<'a>> {
        self.ranges.iter().map(|r| buffer.slice(r.clone())).collect()
    }

    pub(crate) fn set(&self, params: &[Vec<f32>]) {
        for (range, values) in self.ranges.iter().zip(params) {
            self.gpu.queue.write_buffer(&self.params, range.start, bytemuck::cast_slice(values));
        }
    }

    pub(crate) fn tensors(&self, buffer: &wgpu::Buffer) -> Vec<Vec<f32>> {
        let words = self.gpu.words(buffer);
        self.ranges.iter().map(|r| words[r.start as usize / 4..r.end as usize / 4].to_vec()).collect()
    }

    pub(crate) fn run<T>(&self, record: impl FnOnce(&mut wgpu::CommandEncoder) -> T) -> T {
        let mut encoder = self.gpu.encode();
        let result = record(&mut encoder);
        self.gpu.queue.submit([encoder.finish()]);
        result
    }
}

/// The text of the error.
pub(crate) fn failure<T>(result: wgpu_optim::Result<T>) -> String {
    result.err().expect("an error").to_string()
}
