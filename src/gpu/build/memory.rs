//! The bytes of a plan by role.

use crate::Result;
use crate::gpu::build::buffers::{Source, Which};
use crate::gpu::build::builder::Builder;
use crate::gpu::build::joint::JointPlan;
use crate::gpu::build::plan::Plan;
use crate::gpu::build::spec::{Home, Spec};
use crate::gpu::layout::arena::Array;
use crate::gpu::layout::class::Class;
use crate::gpu::layout::memory::{MemoryUsage, Owner, Role};
use crate::gpu::layout::units::bytes_of;

impl Builder {
    /// The GPU memory that the optimizer would take on a device with these limits, by role: the buffers that [`build`](Self::build) would
    /// create, and the ranges that the caller bound. The call allocates nothing and needs no device. For tensors that were bound without
    /// gradients ([`bind_param`](Self::bind_param)), the caller owns the gradients of a step.
    ///
    /// # Errors
    /// Those errors of [`build`](Self::build) that need no device.
    pub fn memory_usage(&self, limits: &wgpu::Limits) -> Result<MemoryUsage> {
        let spec = self.settled()?;
        let parts = spec.divide().0;
        let plan = |part: &Spec| Plan::new(part, self.sum_lanes, limits, false);
        let plans = parts.iter().map(plan).collect::<Result<Vec<_>>>()?;
        let of_parts: Vec<_> = parts.iter().zip(&plans).map(|(part, plan)| plan.memory_usage(part)).collect();
        Ok(JointPlan::new(&parts, &plans, limits)?.memory_usage(of_parts.iter()))
    }
}

impl Plan {
    pub(crate) fn memory_usage(&self, spec: &Spec) -> MemoryUsage {
        let mut memory = MemoryUsage::new(spec.tensors.iter().map(|tensor| tensor.elements).sum());
        add_tensors(spec, &mut memory);
        self.add_arrays(spec, &mut memory);
        for (which, bytes) in self.sizes.iter() {
            self.add_other(which, bytes, &mut memory);
        }
        let bound = self.rows.mask_bytes(|source| matches!(source, Source::Caller(_)));
        memory.add(Role::Masks, Owner::Caller, bound.unwrap_or(0));
        let rest = self.sizes.iter().map(|(_, bytes)| bytes).sum::<u64>() - memory.owned();
        memory.add(Role::Alignment, Owner::Crate, rest);
        memory
    }

    /// Adds the arrays of the arenas.
    fn add_arrays(&self, spec: &Spec, memory: &mut MemoryUsage) {
        let arrays: Vec<Vec<Array>> = self.classes.distinct.iter().map(Class::arrays).collect();
        for tensor in 0..spec.tensors.len() {
            for run in self.layout.state_runs(tensor) {
                for array in &arrays[self.layout.shards[run.shard].class] {
                    memory.add(array.role, Owner::Crate, array.bytes(&run));
                }
            }
            for (name, bytes) in self.classes.factors.iter().flat_map(|factors| factors.bytes(tensor)) {
                memory.add(Role::State(name), Owner::Crate, bytes);
            }
        }
    }

    /// The bytes of all factors.
    fn factor_bytes(&self) -> u64 {
        self.classes.factors.as_ref().map_or(0, |factors| {
            let tensors = 0..self.classes.items.len();
            tensors.flat_map(|tensor| factors.bytes(tensor)).map(|(_, bytes)| bytes).sum()
        })
    }

    /// Adds a buffer that holds no tensor.
    fn add_other(&self, which: Which, bytes: u64, memory: &mut MemoryUsage) {
        let role = match which {
            Which::Parameters(_) | Which::Gradients(_) | Which::Arena(_) => return,
            Which::Chunks(shard) => {
                let measured = self.measured(shard);
                memory.add(Role::Telemetry, Owner::Crate, measured);
                return memory.add(Role::Tables, Owner::Crate, bytes - measured);
            }
            Which::Scalars => {
                let control = self.rings.control();
                memory.add(Role::Control, Owner::Crate, control.saturating_sub(self.factor_bytes()));
                return memory.add(Role::Scalars, Owner::Crate, bytes - control);
            }
            // The factors in the control buffer are counted among the states.
            Which::Control => return memory.add(Role::Control, Owner::Crate, bytes - self.factor_bytes()),
            Which::Spans(_)
            | Which::Tiles(_)
            | Which::FactorTable
            | Which::Segments(_)
            | Which::Tensors(_)
            | Which::Passes
            | Which::Runs
            | Which::StandIn
            | Which::Exchange => Role::Tables,
            Which::MatrixTable(_) | Which::MatrixWorks => Role::Tables,
            Which::MatrixPage(_) | Which::MatrixGram(_) | Which::MatrixNorms => Role::Procedure("matrix products"),
            Which::Partials(_) | Which::TileSums => Role::PartialSums,
            Which::Totals(_) | Which::JointTotals => Role::Totals,
            Which::Confirmation | Which::Losses => Role::Control,
            Which::Calls => Role::Scalars,
            Which::Masks | Which::JointMasks => Role::Masks,
            Which::Indices | Which::Scratch | Which::Tasks => Role::Rows,
            Which::Telemetry(_) => Role::Telemetry,
        };
        memory.add(role, Owner::Crate, bytes);
    }
}

/// Adds parameters and gradients, of both owners.
fn add_tensors(spec: &Spec, memory: &mut MemoryUsage) {
    for tensor in &spec.tensors {
        let owner = match tensor.home {
            Home::Own => Owner::Crate,
            Home::Bound { .. } => Owner::Caller,
        };
        memory.add(Role::Parameters, owner, bytes_of(tensor.elements, tensor.formats.params.format()));
        memory.add(Role::Gradients, owner, bytes_of(tensor.elements, tensor.formats.grads));
    }
}

#[cfg(all(test, feature = "tools"))]
mod tests {
    use super::*;
    use crate::gpu::build::buffers::{OWNED, created};
    use crate::optim::procedure::refusal;
    use crate::optim::procedure::spec::Feature;
    use crate::optim::{ALL, Entry};
    use crate::tools::adapter::{Gpu, Selector};
    use crate::{Accumulate, AdamW, Clip, Ema, Group, LossScale, Optimizer, Rule};

    const STORAGES: [&str; 4] = ["f32", "bf16-split,8bit,min=300", "bf16-sr,states=bf16", "f16-master,grads=f32"];

    fn gpu() -> Gpu {
        pollster::block_on(Selector::default().open()).expect("an adapter")
    }

    fn buffer(gpu: &Gpu, size: u64) -> wgpu::Buffer {
        let descriptor = wgpu::BufferDescriptor { label: Some("bound"), size, usage: OWNED, mapped_at_creation: false };
        gpu.device.create_buffer(&descriptor)
    }

    /// The crate's buffers, two groups and no options.
    fn plain(_: &Gpu, rule: &dyn Rule, storage: &str) -> Builder {
        let mut builder = Optimizer::builder(rule.boxed());
        let other = builder.group("other", rule.boxed());
        for (i, n) in [5000, 300, 0, 7, 4097].into_iter().enumerate() {
            builder.tensor(if i % 2 == 0 { Group::DEFAULT } else { other }, format!("{i}"), &[n]);
        }
        builder.storage(storage.parse().expect("it is one"));
        builder
    }

    /// As [`plain`], with all options that the rule allows.
    fn busy(gpu: &Gpu, rule: &dyn Rule, storage: &str) -> Builder {
        let mut builder = plain(gpu, rule, storage);
        builder.ema(Ema::default()).skip_nonfinite(true).given_directions(true);
        if refusal(&rule.procedure(), rule.name(), Feature::Accumulate).is_none() {
            builder.clip(Clip::TensorNorm(1.0)).loss_scale(LossScale::default());
            builder.accumulate(Accumulate::Sum).telemetry(true);
        }
        let frozen = builder.tensor(Group::DEFAULT, "frozen", &[70]);
        builder.freeze(frozen);
        builder
    }

    /// The caller's buffers, dynamic gradients, row sets.
    fn bound(gpu: &Gpu, rule: &dyn Rule, storage: &str) -> Builder {
        let mut builder = Optimizer::builder(rule.boxed());
        let (page, flags) = (buffer(gpu, 4 * 800), buffer(gpu, 4 * 20));
        builder.storage(storage.parse().expect("it is one"));
        let bytes = if storage.starts_with("f32") { 4 } else { 2 };
        let bound = builder.bind_param(Group::DEFAULT, "bound", &[20, 40], page.slice(..bytes * 800));
        let own = builder.tensor(Group::DEFAULT, "own", &[20, 3]);
        let alone = builder.tensor(Group::DEFAULT, "alone", &[400]);
        let [first, second] = [builder.row_set("first", &[bound, own]), builder.row_set("second", &[alone])];
        builder.mask_in(first, flags.slice(..)).mask(second).row_capacity(second, 500);
        builder.column_rates(own, &[0.5, 1.0, 2.0]);
        builder
    }

    /// Checks that the builder reports what construction creates, or that both return the same error.
    fn check(gpu: &Gpu, what: &str, builder: Builder) -> Option<MemoryUsage> {
        let planned = builder.memory_usage(&gpu.device.limits());
        created::take();
        let built = builder.build(&gpu.device, &gpu.queue);
        let (planned, optimizer) = match (planned, built) {
            (Ok(planned), Ok(optimizer)) => (planned, optimizer),
            (Err(planned), Err(built)) => {
                assert_eq!(planned.to_string(), built.to_string(), "{what}");
                return None;
            }
            (planned, built) => panic!("{what}: {planned:?}, but {:?}", built.map(|_| ())),
        };
        // Construction frees a stand-in before it returns, so the plan does not count it.
        let created: Vec<(String, u64)> =
            created::take().into_iter().filter(|(label, _)| !label.ends_with("stand-in")).collect();
        let bytes: u64 = created.iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(planned.owned(), bytes, "{what}: {created:#?}\n{planned}");
        assert_eq!(optimizer.memory_usage(), planned, "{what}");
        Some(planned)
    }

    #[test]
    fn what_is_reported_is_what_is_created() {
        let gpu = gpu();
        let (mut refused, mut turn) = (0, 0);
        for (name, rule) in ALL.iter().flat_map(Entry::variants) {
            let rule = rule.as_ref();
            for kind in [plain, busy, bound] {
                // The storages take turns, so that each variant has another storage than the variant before.
                turn += 1;
                let storage = STORAGES[turn % STORAGES.len()];
                let what = format!("{} {name} {storage}, number {turn}", rule.name());
                let Some(memory) = check(&gpu, &what, kind(&gpu, rule, storage)) else {
                    refused += 1;
                    continue;
                };
                // Bytes that no role counts are in the role of alignment, so that forgotten bytes show there. Blocks need more alignment.
                assert!(storage != "f32" || memory.of(Role::Alignment) < 8192, "{what}: {memory}");
                let mut used = rule.states().into_iter().filter(|state| state.used);
                assert!(used.all(|state| memory.of(Role::State(state.name)) > 0), "{what}: {memory}");
            }
        }
        assert!(refused > 0);
    }

    /// The limits of a device that binds 1 GiB.
    fn large() -> wgpu::Limits {
        let most = 1 << 30;
        wgpu::Limits { max_buffer_size: most, max_storage_buffer_binding_size: most, ..wgpu::Limits::default() }
    }

    fn adamw(storage: &str) -> MemoryUsage {
        let mut builder = Optimizer::builder(AdamW::default());
        builder.tensor(Group::DEFAULT, "w", &[1 << 24]);
        builder.storage(storage.parse().expect("it is one"));
        builder.memory_usage(&large()).expect("it fits")
    }

    /// Bytes per parameter of AdamW with 16 M parameters. The expected numbers are written out: none comes from the code under test.
    #[test]
    fn bytes_a_parameter_are_those_of_the_formats() {
        let block = 1.0 + 4.0 / 256.0;
        for (storage, params, grads, states, kept) in [
            ("f32", 4.0, 4.0, 8.0, (Role::Master, 0.0)),
            ("8bit", 4.0, 4.0, 2.0 * block, (Role::Master, 0.0)),
            ("bf16-sr", 2.0, 2.0, 8.0, (Role::Master, 0.0)),
            ("bf16-sr,8bit", 2.0, 2.0, 2.0 * block, (Role::Remainder, 0.0)),
            ("bf16-split,v=bf16", 2.0, 2.0, 6.0, (Role::Remainder, 2.0)),
            ("f16-master,grads=f32", 2.0, 4.0, 8.0, (Role::Master, 4.0)),
        ] {
            let memory = adamw(storage);
            let of = |bytes: u64| bytes as f64 / f64::from(1 << 24);
            assert_eq!(of(memory.of(Role::Parameters)), params, "{storage}");
            assert_eq!(of(memory.of(Role::Gradients)), grads, "{storage}");
            assert_eq!(of(memory.states()), states, "{storage}");
            assert_eq!(of(memory.of(kept.0)), kept.1, "{storage}");
            let rest = memory.per_parameter() - params - grads - states - kept.1;
            assert!((0.0..0.15).contains(&rest), "{storage}: {rest} beside what is stored\n{memory}");
        }
        assert!(adamw("8bit").states() as f64 <= 2.04 * f64::from(1 << 24));
    }

    #[test]
    fn mistakes_are_those_of_build() {
        let mut builder = Optimizer::builder(AdamW::default());
        builder.tensor(Group::DEFAULT, "w", &[1 << 28]);
        let error = builder.memory_usage(&wgpu::Limits::default()).unwrap_err().to_string();
        assert!(error.contains("max_buffer_size is 268435456, needs at least 1073741824"), "{error}");
        builder.tensor(Group::DEFAULT, "w", &[1]);
        let error = builder.memory_usage(&large()).unwrap_err().to_string();
        assert!(error.contains("`w` is named twice"), "{error}");
        let few = wgpu::Limits { max_storage_buffers_per_shader_stage: 4, ..large() };
        let mut builder = Optimizer::builder(AdamW::default());
        let error = builder.memory_usage(&large()).unwrap_err().to_string();
        assert!(error.contains("has no tensor"), "{error}");
        builder.tensor(Group::DEFAULT, "w", &[1]);
        let error = builder.memory_usage(&few).unwrap_err().to_string();
        assert!(error.contains("max_storage_buffers_per_shader_stage is 4"), "{error}");
    }
}
