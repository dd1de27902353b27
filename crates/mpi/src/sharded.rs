//! The optimizer of one rank among others, and its step.

use std::ops::Range;
use std::time::{Duration, Instant};

use wgpu_optim::{Builder, Cut, Optimizer, RowSet, Tensor, wgpu};

use crate::courier::{Courier, Traffic};
use crate::mean::Wire;
use crate::pieces::{Place, Route};
use crate::shards::{keepers, shards, split, whole};
use crate::totals::Totals;
use crate::world::World;
use crate::{Error, Result};

/// Which rank keeps which states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum States {
    /// Each rank keeps the states of its shard and steps it (ZeRO stage 1). Default.
    #[default]
    Sharded,
    /// Each rank keeps all states and steps everything: plain data parallelism. Any rule, clip and option works as in one process.
    Whole,
}

/// How ranks work together. The same on all ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which rank keeps which states. Default: shards.
    pub states: States,
    /// The form of gradients between ranks. Default: as they are stored.
    pub wire: Wire,
    /// Bytes of a bucket: the most that a rank holds of an exchange, from 4096 to 2³⁰. Default 25,000,000. A bucket has a piece of at least 4096
    /// bytes for each rank.
    pub bucket: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { states: States::default(), wire: Wire::default(), bucket: 25_000_000 }
    }
}

/// The times and bytes of one step of a rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepReport {
    /// The time to the mean gradients: copies from the GPU, messages, sums on the host, copies to the GPU.
    pub reduce: Duration,
    /// The time of the step itself: sums, their exchange, and the update, until the GPU is done.
    pub step: Duration,
    /// The time until every rank has all parameters.
    pub gather: Duration,
    /// Messages of gradients.
    pub gradients: Traffic,
    /// Messages of parameters.
    pub parameters: Traffic,
}

impl StepReport {
    /// The time of the whole step.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.reduce + self.step + self.gather
    }

    /// The share of the step's time that moves numbers between ranks.
    #[must_use]
    pub fn exchange_share(&self) -> f64 {
        let total = self.total().as_secs_f64();
        if total > 0.0 { (self.reduce + self.gather).as_secs_f64() / total } else { 0.0 }
    }

    /// All messages of the step.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        let mut traffic = self.gradients;
        traffic.add(self.parameters);
        traffic
    }
}

/// The optimizer of one rank. All ranks hold all parameters and compute gradients of their own data; a step gives every rank the parameters
/// after a step with the mean gradient.
///
/// Every rank makes the same calls in the same order. The calls that say so wait for the other ranks.
pub struct Sharded {
    pub(crate) world: World,
    pub(crate) optimizer: Optimizer,
    pub(crate) totals: Totals,
    pub(crate) cuts: Vec<Cut>,
    /// The range of each tensor on each rank; the whole tensors, once, if every rank steps everything.
    pub(crate) owned: Vec<Vec<Range<u64>>>,
    /// The rank whose file of a checkpoint holds a frozen tensor.
    pub(crate) keepers: Vec<usize>,
    device: wgpu::Device,
    queue: wgpu::Queue,
    states: States,
    courier: Courier,
    params: Route,
    grads: Route,
    report: StepReport,
}

impl Sharded {
    /// Builds the optimizer of this rank from a builder of the whole model: the same builder as for one process, with the same groups, tensors
    /// and options on every rank. Tensors lie in the optimizer's buffers or in the caller's. The parameters of the ranks may differ at first:
    /// write the same values on all ranks, or call [`share_params`](Self::share_params). Waits for the other ranks.
    ///
    /// With [`States::Sharded`], [`Builder::zero_grad`] clears the own shard alone: call [`clear_grads`](Self::clear_grads) instead.
    ///
    /// # Errors
    /// Those of [`Builder::build`]; with shards those of [`Builder::own_range`]; a bucket out of range; a caller's buffer without `COPY_SRC`
    /// and `COPY_DST`; a rank that built another optimizer, or failed, or does not answer.
    pub fn build(
        builder: &Builder,
        world: &World,
        options: Options,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
    ) -> Result<Self> {
        let built = world.agree(Self::build_own(builder, world, options, device, queue))?;
        built.check_equal(options)?;
        Ok(built)
    }

    fn build_own(
        builder: &Builder,
        world: &World,
        options: Options,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
    ) -> Result<Self> {
        let cuts = builder.cuts()?;
        if !(4096..=1 << 30).contains(&options.bucket) {
            return Err(Error::Usage(format!("bucket is {} bytes, needs 4096 to 2^30", options.bucket)));
        }
        let pieces = shards(&cuts, world.size());
        let mut own = builder.clone();
        if options.states == States::Sharded {
            let ranges = cuts.iter().zip(&pieces[world.rank()]).filter(|(cut, _)| !cut.frozen);
            ranges.for_each(|(cut, range)| _ = own.own_range(cut.tensor, range.clone()));
        }
        let optimizer = own.build(device, queue)?;
        let params = route(&cuts, &pieces, options.bucket, |tensor| optimizer.param(tensor), |cut| cut.params)?;
        let grads = route(&cuts, &pieces, options.bucket, |tensor| optimizer.grad(tensor), |cut| cut.grads)?;
        let owned = if options.states == States::Sharded { pieces } else { vec![whole(&cuts)] };
        Ok(Self {
            courier: Courier::new(world, device, queue, options.wire, &[&params, &grads]),
            totals: Totals::new(device, &optimizer, &cuts, &split(&owned))?,
            world: world.clone(),
            keepers: keepers(&cuts, &owned),
            optimizer,
            cuts,
            owned,
            device: device.clone(),
            queue: queue.clone(),
            states: options.states,
            params,
            grads,
            report: StepReport::default(),
        })
    }

    /// Checks that every rank built the same optimizer with the same layout.
    fn check_equal(&self, options: Options) -> Result<()> {
        let groups = self.optimizer.groups().map(|(group, name)| {
            let rule = self.optimizer.rule(group).map(|rule| format!("{} {:?}", rule.name(), rule.settings()));
            format!("{name} {rule:?}")
        });
        let shape = |(_, name, shape): (Tensor, &str, &[usize])| format!("{name} {shape:?}");
        let cut = |cut: &Cut| {
            format!("{} {} {:?} {:?} {} {}", cut.elements, cut.unit, cut.params, cut.grads, cut.rule, cut.frozen)
        };
        let states = self
            .optimizer
            .tensors()
            .map(|(tensor, ..)| format!("{:?}", self.optimizer.state_names(tensor).unwrap_or_default()));
        let whats = [
            ("groups or settings", groups.collect::<Vec<_>>().join("\n")),
            (
                "tensors",
                self.optimizer.tensors().map(shape).chain(self.cuts.iter().map(cut)).collect::<Vec<_>>().join("\n"),
            ),
            ("states", states.collect::<Vec<_>>().join("\n")),
            ("options", format!("{options:?}")),
            (
                "places of tensors in buffers (min_storage_buffer_offset_alignment)",
                format!("{:?} {:?}", self.params.buckets, self.grads.buckets),
            ),
        ];
        let own: Vec<u64> = whats.iter().map(|(_, text)| fingerprint(text)).collect();
        let all = self.world.all_gather_equal("compare optimizers", bytemuck::cast_slice(&own))?;
        let first: Vec<u64> = bytemuck::pod_collect_to_vec(&all[0]);
        for (rank, other) in all.iter().enumerate() {
            let other: Vec<u64> = bytemuck::pod_collect_to_vec(other);
            if let Some(at) = other.iter().zip(&first).position(|(a, b)| a != b) {
                let problem =
                    format!("its {} differ from those of rank 0: build the same optimizer on every rank", whats[at].0);
                return Err(Error::Rank { rank, problem });
            }
        }
        Ok(())
    }

    /// The optimizer of this rank. Write parameters, and bind [`param`](Optimizer::param) and [`grad`](Optimizer::grad), which are whole, in the
    /// passes of the model. States are those of the own shard.
    #[must_use]
    pub const fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// The optimizer of this rank, to change settings, masks of rows and the count of steps. Make the same changes on every rank. A step of
    /// this optimizer alone would part the ranks: call [`step`](Self::step).
    pub const fn optimizer_mut(&mut self) -> &mut Optimizer {
        &mut self.optimizer
    }

    /// The ranks.
    #[must_use]
    pub const fn world(&self) -> &World {
        &self.world
    }

    fn is_alone(&self) -> bool {
        self.world.size() == 1
    }

    /// Whether this rank steps every element, so that it has no parameters and sums to exchange.
    pub(crate) fn owns_all(&self) -> bool {
        self.states == States::Whole || self.is_alone()
    }

    /// The step, in all ranks: replaces gradients by their mean, steps, and hands out parameters. The gradients must be in submitted work. On
    /// return, parameters are complete in the order of the queue. After a step, the gradients of the own shard are the mean, and those of other
    /// shards are undefined. Waits for the other ranks and for the GPU.
    ///
    /// # Errors
    /// Those of [`Optimizer::record_sums`]; the device was lost; a rank does not answer. After an error this rank cannot work with the others.
    pub fn step(&mut self) -> Result<()> {
        let result = self.try_step();
        self.world.shared(result)
    }

    fn try_step(&mut self) -> Result<()> {
        let start = Instant::now();
        self.reduce()?;
        let reduced = Instant::now();
        let gradients = self.courier.take_traffic();
        self.step_shard()?;
        self.courier.finish()?;
        let stepped = Instant::now();
        self.gather()?;
        self.report = StepReport {
            reduce: reduced - start,
            step: stepped - reduced,
            gather: stepped.elapsed(),
            gradients,
            parameters: self.courier.take_traffic(),
        };
        Ok(())
    }

    /// Steps the own shard with the gradients in the buffers.
    fn step_shard(&mut self) -> Result<()> {
        let mut encoder = self.encoder();
        if self.owns_all() {
            // All ranks have the same gradients, and so the same sums.
            self.optimizer.step(&mut encoder)?;
            self.queue.submit([encoder.finish()]);
            return Ok(());
        }
        self.optimizer.record_sums(&mut encoder)?;
        self.totals.exchange(&self.world, &self.device, &self.queue, &self.optimizer, encoder)?;
        for _ in 1..self.optimizer.sum_rounds() {
            let mut encoder = self.encoder();
            self.optimizer.record_next_sums(&mut encoder)?;
            self.totals.exchange(&self.world, &self.device, &self.queue, &self.optimizer, encoder)?;
        }
        let mut encoder = self.encoder();
        self.optimizer.record_update(&mut encoder)?;
        self.queue.submit([encoder.finish()]);
        Ok(())
    }

    /// Adds a micro-batch, in all ranks: the mean of its gradients over the ranks goes to the accumulator of the own shard
    /// ([`Builder::accumulate`]). [`step`](Self::step) adds the last micro-batch. Waits for the other ranks.
    ///
    /// # Errors
    /// Those of [`Optimizer::accumulate`]; those of [`step`](Self::step).
    pub fn accumulate(&mut self) -> Result<()> {
        let result = self.reduce().and_then(|()| self.run(Optimizer::accumulate));
        self.world.shared(result)
    }

    /// Swaps the weights with their average on every rank; see [`Optimizer::swap_ema`]. Waits for the other ranks.
    ///
    /// # Errors
    /// Those of [`Optimizer::swap_ema`]; those of [`step`](Self::step).
    pub fn swap_ema(&mut self) -> Result<()> {
        self.move_params(Optimizer::swap_ema)
    }

    /// Moves the parameters to the point at which the model is evaluated; see [`Optimizer::to_eval_params`]. Waits for the other ranks.
    ///
    /// # Errors
    /// Those of [`Optimizer::to_eval_params`]; those of [`step`](Self::step).
    pub fn to_eval_params(&mut self) -> Result<()> {
        self.move_params(Optimizer::to_eval_params)
    }

    /// Moves the parameters back to the point at which the model is trained; see [`Optimizer::to_train_params`]. Waits for the other ranks.
    ///
    /// # Errors
    /// Those of [`Optimizer::to_train_params`]; those of [`step`](Self::step).
    pub fn to_train_params(&mut self) -> Result<()> {
        self.move_params(Optimizer::to_train_params)
    }

    /// Remaps the rows of a set on every rank; see [`Optimizer::remap`]. The indices are the same on all ranks. Waits for the other ranks.
    ///
    /// # Errors
    /// Those of [`Optimizer::remap`]; those of [`step`](Self::step).
    pub fn remap(&mut self, set: RowSet, indices: wgpu::BufferSlice<'_>, rows: usize) -> Result<()> {
        self.move_params(|optimizer, encoder| optimizer.remap(encoder, set, indices, rows))
    }

    fn move_params(
        &mut self,
        record: impl FnOnce(&mut Optimizer, &mut wgpu::CommandEncoder) -> wgpu_optim::Result<()>,
    ) -> Result<()> {
        // All ranks refuse a call alike, and no rank has sent anything then.
        self.run(record)?;
        let result = self.gather();
        self.world.shared(result)
    }

    /// Hands the parameters of every shard to all ranks, after [`optimizer_mut`](Self::optimizer_mut) changed parameters of a shard.
    /// With whole states there is nothing to hand out. Waits for the other ranks.
    ///
    /// # Errors
    /// Those of [`step`](Self::step).
    pub fn gather_params(&mut self) -> Result<()> {
        let result = self.gather();
        self.world.shared(result)
    }

    /// Replaces the gradients in the buffers by their mean over the ranks: those of the own shard, or all with whole states. [`step`](Self::step)
    /// does this itself; the call is for steps that evaluate gradients inside. Waits for the other ranks.
    ///
    /// # Errors
    /// Those of [`step`](Self::step).
    pub fn reduce_grads(&mut self) -> Result<()> {
        let result = self.reduce();
        self.world.shared(result)
    }

    /// Gives all ranks the parameters of rank 0 as the model sees them; f32 parameters are then equal bit for bit, and the master or remainder of
    /// half precision starts from the rounded values. Waits for the other ranks.
    ///
    /// # Errors
    /// Those of [`step`](Self::step).
    pub fn share_params(&mut self) -> Result<()> {
        let result = self.try_share();
        self.world.shared(result)
    }

    fn try_share(&mut self) -> Result<()> {
        let tensors: Vec<Tensor> = self.cuts.iter().map(|cut| cut.tensor).collect();
        for tensor in tensors {
            let own = if self.world.rank() == 0 {
                pollster::block_on(self.optimizer.read_param(tensor))?
            } else {
                Vec::new()
            };
            let all = self.world.all_gather("share parameters", bytemuck::cast_slice(&own))?;
            let values: Vec<f32> = bytemuck::pod_collect_to_vec(&all[0]);
            self.optimizer.write_param(tensor, &values)?;
        }
        Ok(())
    }

    /// Records that all gradients are cleared, on this rank.
    ///
    /// # Errors
    /// A tensor was bound without gradients.
    pub fn clear_grads(&self, encoder: &mut wgpu::CommandEncoder) -> Result<()> {
        for run in self.grads.buckets.iter().flat_map(|bucket| &bucket.pieces).flat_map(|piece| &piece.runs) {
            encoder.clear_buffer(&self.grads.buffers[run.buffer], run.offset, Some(run.bytes));
        }
        Ok(())
    }

    /// The step count of all ranks; of several rules, the largest. A rank without elements counts no steps itself. Waits for the other ranks.
    ///
    /// # Errors
    /// Those of [`step`](Self::step).
    pub fn read_step_count(&self) -> Result<u64> {
        let own = pollster::block_on(self.optimizer.read_step_count())?;
        let all = self.world.all_gather_equal("compare step counts", &own.to_le_bytes());
        let all = self.world.shared(all)?;
        Ok(all.iter().flat_map(|count| bytemuck::pod_collect_to_vec::<u8, u64>(count)).max().unwrap_or(own))
    }

    /// The times and bytes of the last step on this rank.
    #[must_use]
    pub const fn report(&self) -> StepReport {
        self.report
    }

    /// Bytes of the mapped buffers through which numbers move, which are made once.
    #[must_use]
    pub fn staging_bytes(&self) -> u64 {
        self.courier.staging_bytes()
    }

    /// Bytes of parameters of the shard of `rank`, as ranks hand them out.
    #[must_use]
    pub fn shard_bytes(&self, rank: usize) -> u64 {
        if rank < self.world.size() { self.params.bytes_of(rank) } else { 0 }
    }

    fn reduce(&mut self) -> Result<()> {
        if self.is_alone() { Ok(()) } else { self.courier.reduce(&self.grads, self.states == States::Whole) }
    }

    fn gather(&mut self) -> Result<()> {
        if self.owns_all() { Ok(()) } else { self.courier.gather(&self.params) }
    }

    /// Records a call of the optimizer and submits it.
    pub(crate) fn run(
        &mut self,
        record: impl FnOnce(&mut Optimizer, &mut wgpu::CommandEncoder) -> wgpu_optim::Result<()>,
    ) -> Result<()> {
        let mut encoder = self.encoder();
        record(&mut self.optimizer, &mut encoder)?;
        self.queue.submit([encoder.finish()]);
        Ok(())
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("wgpu-optim-mpi step") })
    }
}

impl std::fmt::Debug for Sharded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sharded")
            .field("world", &self.world)
            .field("states", &self.states)
            .field("optimizer", &self.optimizer)
            .finish_non_exhaustive()
    }
}

/// The buckets of one kind of numbers.
fn route<'o>(
    cuts: &[Cut],
    pieces: &[Vec<Range<u64>>],
    bucket: u64,
    slice: impl Fn(Tensor) -> wgpu_optim::Result<wgpu::BufferSlice<'o>>,
    format: impl Fn(&Cut) -> wgpu_optim::storage::Format,
) -> Result<Route> {
    let mut buffers: Vec<wgpu::Buffer> = Vec::new();
    let mut places = Vec::with_capacity(cuts.len());
    for cut in cuts {
        let slice = slice(cut.tensor)?;
        let needs = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let usage = slice.buffer().usage();
        if !usage.contains(needs) && !cut.frozen {
            return Err(Error::Usage(format!(
                "tensor `{}`: its buffer has usage {usage:?}, ranks exchange its numbers and need {needs:?}",
                cut.name
            )));
        }
        let buffer = buffers.iter().position(|known| known == slice.buffer()).unwrap_or_else(|| {
            buffers.push(slice.buffer().clone());
            buffers.len() - 1
        });
        places.push(Place { buffer, offset: slice.offset(), format: format(cut), bound: cut.bound });
    }
    Ok(Route::new(buffers, &places, pieces, bucket))
}

/// A hash that is the same in every process (FNV-1a).
fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
