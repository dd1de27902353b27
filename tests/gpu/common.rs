//! The parts that the tests share: one device, problems and their outcomes, and buffers with guard bands.

use std::ops::Range;

use wgpu_optim::tools::adapter::Gpu;
use wgpu_optim::tools::verify::{Data, Errors, Moved, Outcome, Problem};
use wgpu_optim::{Optimizer, optim::Rule, read_buffer, wgpu};

pub(crate) use crate::support::device::{adapter, open};
pub(crate) use pollster::block_on;

/// The device that most tests share.
pub(crate) fn gpu() -> &'static Gpu {
    &crate::support::gpu::GPU
}

/// An encoder of that device.
pub(crate) fn encoder() -> wgpu::CommandEncoder {
    gpu().device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
}

/// Submits what an encoder of that device recorded.
pub(crate) fn submit(encoder: wgpu::CommandEncoder) {
    gpu().queue.submit([encoder.finish()]);
}

/// Takes the problem's step with this optimizer, and reads the outcome.
pub(crate) fn take(gpu: &Gpu, optimizer: &mut Optimizer, problem: &Problem) -> Outcome {
    problem.upload(optimizer).unwrap();
    gpu.run(|encoder| optimizer.step(encoder)).unwrap();
    read(optimizer)
}

pub(crate) fn read(optimizer: &Optimizer) -> Outcome {
    block_on(Outcome::of(optimizer)).unwrap()
}

/// Fails if two outcomes differ in a bit.
#[track_caller]
pub(crate) fn same(what: &str, a: &Outcome, b: &Outcome) {
    assert_eq!(a.tensors.len(), b.tensors.len(), "{what}");
    for (tensor, (a, b)) in a.tensors.iter().zip(&b.tensors).enumerate() {
        let arrays = |t: &Moved| -> Vec<Vec<u32>> {
            let bits = |x: &Vec<f32>| x.iter().map(|x| x.to_bits()).collect();
            let factors = t.factors.iter().map(|(_, factor)| factor);
            std::iter::once(&t.param).chain(t.states.iter().flatten()).chain(factors).map(bits).collect()
        };
        for (array, (a, b)) in arrays(a).into_iter().zip(arrays(b)).enumerate() {
            assert_eq!(a.len(), b.len(), "{what}");
            let different = a.iter().zip(&b).position(|(a, b)| a != b);
            assert_eq!(different, None, "{what}: array {array} of tensor {tensor} differs first there");
        }
    }
}

/// Fails if an outcome is not that of the problem.
#[track_caller]
pub(crate) fn check(what: &str, problem: &Problem, outcome: &Outcome) {
    passed(what, &problem.compare(outcome), problem);
}

#[track_caller]
pub(crate) fn passed(what: &str, errors: &Errors, problem: &Problem) {
    let numbers: usize = problem.tensors.iter().map(Data::numbers).sum();
    assert_eq!(errors.compared, numbers + problem.memory.len() + 1, "{what}: not everything was compared");
    let worst = errors.worst.as_ref().map(ToString::to_string).unwrap_or_default();
    assert!(errors.passed(), "{what}: {worst}");
}

/// The rule with other numbers, to tell groups apart.
pub(crate) fn groups(rule: &dyn Rule, count: usize) -> Vec<Box<dyn Rule>> {
    let mut groups = vec![rule.boxed()];
    while groups.len() < count {
        groups.push(wgpu_optim::tools::verify::varied(groups.last().unwrap().as_ref()));
    }
    groups
}

/// Tensors of these sizes, assigned to the groups in turn.
pub(crate) fn deal(sizes: &[usize], groups: usize) -> Vec<(usize, usize)> {
    sizes.iter().enumerate().map(|(i, &n)| (i % groups, n)).collect()
}

/// A buffer of guard words in which ranges are reserved for tensors.
pub(crate) struct Page {
    words: Vec<u32>,
    /// The reserved ranges, in halves of words.
    taken: Vec<Range<usize>>,
    pub(crate) buffer: Option<wgpu::Buffer>,
}

impl Page {
    pub(crate) fn new() -> Self {
        Self { words: Vec::new(), taken: Vec::new(), buffer: None }
    }

    /// A NaN that encodes its place. A kernel that computes with it gives a NaN.
    fn poison(at: usize) -> u32 {
        0x7fa0_0000 | (at as u32 & 0x1f_ffff)
    }

    /// Reserves elements after a guard of `guard` vec4s. More guard words round the end of the range up to a vec4.
    pub(crate) fn place(&mut self, elements: usize, guard: usize) -> Range<usize> {
        let start = self.words.len().next_multiple_of(4) + 4 * guard;
        let range = start..start + elements;
        self.words.extend((self.words.len()..range.end.next_multiple_of(4)).map(Self::poison));
        self.taken.push(2 * range.start..2 * range.end);
        range
    }

    /// The same for numbers of this many bytes. The range is in bytes and has whole words; half of the last word may be guard.
    pub(crate) fn place_numbers(&mut self, elements: usize, bytes: usize, guard: usize) -> Range<u64> {
        let words = self.place((elements * bytes).div_ceil(4), guard);
        if let Some(taken) = self.taken.last_mut() {
            taken.end = taken.start + elements * bytes / 2;
        }
        words.start as u64 * 4..words.end as u64 * 4
    }

    /// Sets the contents of a range.
    pub(crate) fn put(&mut self, range: &Range<usize>, values: impl Iterator<Item = f32>) {
        for (word, value) in self.words[range.clone()].iter_mut().zip(values) {
            *word = value.to_bits();
        }
    }

    /// Creates the buffer, exactly as long as its contents.
    pub(crate) fn create(&mut self, gpu: &Gpu) {
        use wgpu::util::DeviceExt as _;
        self.buffer = Some(gpu.device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
            label: Some("page"),
            contents: bytemuck::cast_slice(&self.words),
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
        }));
    }

    pub(crate) fn slice(&self, range: &Range<usize>) -> wgpu::BufferSlice<'_> {
        let buffer = self.buffer.as_ref().unwrap();
        buffer.slice(range.start as u64 * 4..range.end as u64 * 4)
    }

    /// A slice of these bytes.
    pub(crate) fn slice_bytes(&self, bytes: &Range<u64>) -> wgpu::BufferSlice<'_> {
        self.buffer.as_ref().unwrap().slice(bytes.clone())
    }

    pub(crate) fn write(&self, gpu: &Gpu, range: &Range<usize>, values: &[f32]) {
        assert_eq!(range.len(), values.len());
        if !range.is_empty() {
            let at = range.start as u64 * 4;
            gpu.queue.write_buffer(self.buffer.as_ref().unwrap(), at, bytemuck::cast_slice(values));
        }
    }

    pub(crate) fn read(&self, gpu: &Gpu) -> Vec<u32> {
        let buffer = self.buffer.as_ref().unwrap();
        let bytes = block_on(read_buffer(&gpu.device, &gpu.queue, buffer.slice(..))).unwrap();
        bytemuck::pod_collect_to_vec(&bytes)
    }

    /// Writes the guards again after the host wrote whole words.
    pub(crate) fn restore_guards(&self, gpu: &Gpu) {
        let mut now = self.read(gpu);
        for half in self.free().into_iter().enumerate().filter_map(|(half, free)| free.then_some(half)) {
            let mask = 0xffff << (16 * (half % 2));
            now[half / 2] = now[half / 2] & !mask | Self::poison(half / 2) & mask;
        }
        gpu.queue.write_buffer(self.buffer.as_ref().unwrap(), 0, bytemuck::cast_slice(&now));
    }

    /// The halves of words that no range reserves.
    fn free(&self) -> Vec<bool> {
        let mut free = vec![true; 2 * self.words.len()];
        self.taken.iter().for_each(|range| free[range.clone()].fill(false));
        assert!(free.iter().any(|free| *free), "there is no guard");
        free
    }

    /// Fails if a word outside the reserved ranges changed.
    #[track_caller]
    pub(crate) fn check_guards(&self, gpu: &Gpu, what: &str) {
        let now = self.read(gpu);
        assert_eq!(now.len(), self.words.len());
        for half in self.free().into_iter().enumerate().filter_map(|(half, free)| free.then_some(half)) {
            let (word, shift) = (half / 2, 16 * (half % 2));
            let is_guard = (now[word] ^ Self::poison(word)) >> shift & 0xffff == 0;
            assert!(is_guard, "{what}: word {word} of the caller's is {:#010x}", now[word]);
        }
    }
}
