//! The conversion between an optimizer in half precision and an objective in f32. Parameters are widened before an evaluation, and
//! gradients are rounded after it. If the optimizer stores f32, nothing is converted.

use super::GpuObjective;
use super::gpu::{Binding, Buffers, Kernel};
use crate::options::storage::Format;
use crate::{Optimizer, Result, Tensor};

const THREADS: &str = include_str!("../../../shaders/objectives/threads.wgsl");
const HALF: &str = include_str!("../../../shaders/harness/half.wgsl");
const WIDEN: &str = include_str!("../../../shaders/objectives/widen.wgsl");
const NARROW: &str = include_str!("../../../shaders/objectives/narrow.wgsl");

/// The tensors that are converted.
pub(crate) struct Halves {
    params: Vec<Option<Crossing>>,
    grads: Vec<Option<Crossing>>,
}

/// A tensor's parameters or gradients as f32, and the dispatch that converts them.
struct Crossing {
    floats: wgpu::Buffer,
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
    grid: (u32, u32),
}

/// The direction of a conversion.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Widen,
    Narrow,
}

impl Halves {
    /// Binds an objective to an optimizer's tensors, with the conversions between them.
    ///
    /// # Errors
    /// A buffer is larger than the device can bind.
    pub(crate) fn bind(
        device: &wgpu::Device,
        objective: &mut dyn GpuObjective,
        optimizer: &Optimizer,
        tensors: &[Tensor],
    ) -> Result<Self> {
        let param = |tensor: &Tensor| {
            let format = optimizer.formats(tensor.index()).params.format();
            Crossing::new(device, Way::Widen, format, optimizer.param(*tensor)?)
        };
        let grad = |tensor: &Tensor| {
            Crossing::new(device, Way::Narrow, optimizer.formats(tensor.index()).grads, optimizer.grad(*tensor)?)
        };
        let params: Vec<_> = tensors.iter().map(param).collect::<Result<_>>()?;
        let grads: Vec<_> = tensors.iter().map(grad).collect::<Result<_>>()?;
        let bound: Vec<_> = tensors
            .iter()
            .zip(&params)
            .map(|(t, c)| Ok(seen(c.as_ref(), optimizer.param(*t)?)))
            .collect::<Result<_>>()?;
        let written: Vec<_> = tensors
            .iter()
            .zip(&grads)
            .map(|(t, c)| Ok(seen(c.as_ref(), optimizer.grad(*t)?)))
            .collect::<Result<_>>()?;
        objective.bind(&bound, &written)?;
        Ok(Self { params, grads })
    }

    /// Records the conversion of the parameters, so that the objective is evaluated with their values at this point of the encoder.
    pub(crate) fn record_params(&self, encoder: &mut wgpu::CommandEncoder) {
        record(encoder, &self.params);
    }

    /// Records a mini-batch's gradient; with a loss slot, its loss instead.
    ///
    /// # Errors
    /// As those of the objective.
    pub(crate) fn record(
        &self,
        objective: &dyn GpuObjective,
        batch: usize,
        loss: Option<wgpu::BufferSlice<'_>>,
        encoder: &mut wgpu::CommandEncoder,
    ) -> Result<()> {
        self.record_params(encoder);
        match loss {
            None => objective.record_gradient(encoder, batch)?,
            Some(into) => objective.record_loss(encoder, batch, into)?,
        }
        record(encoder, &self.grads);
        Ok(())
    }
}

/// The slices that the objective binds.
fn seen<'a>(crossing: Option<&'a Crossing>, own: wgpu::BufferSlice<'a>) -> wgpu::BufferSlice<'a> {
    crossing.map_or(own, |crossing| crossing.floats.slice(..))
}

fn record(encoder: &mut wgpu::CommandEncoder, crossings: &[Option<Crossing>]) {
    if crossings.iter().all(Option::is_none) {
        return;
    }
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    for crossing in crossings.iter().flatten() {
        pass.set_pipeline(&crossing.pipeline);
        pass.set_bind_group(0, &crossing.group, &[]);
        pass.dispatch_workgroups(crossing.grid.0, crossing.grid.1, 1);
    }
}

impl Crossing {
    fn new(device: &wgpu::Device, way: Way, format: Format, halves: wgpu::BufferSlice<'_>) -> Result<Option<Self>> {
        if format == Format::F32 {
            return Ok(None);
        }
        let words = halves.size() / 4;
        let floats = Buffers { device }.words("f32 of half precision", 2 * words as usize)?;
        let (text, name) = if way == Way::Widen { (WIDEN, "widen") } else { (NARROW, "narrow") };
        let kernel = Kernel::new(
            device,
            name,
            &[THREADS, HALF, text, &functions(format)].join("\n"),
            &[Binding::Read, Binding::Write],
        );
        let packed = wgpu::BufferBinding {
            buffer: halves.buffer(),
            offset: halves.offset(),
            size: wgpu::BufferSize::new(4 * words),
        };
        let whole = wgpu::BufferBinding { buffer: &floats, offset: 0, size: None };
        let order = if way == Way::Widen { [packed, whole] } else { [whole, packed] };
        let group = kernel.group(device, &order);
        let (workgroups, most) = (words.div_ceil(64), u64::from(device.limits().max_compute_workgroups_per_dimension));
        let rows = workgroups.div_ceil(most).max(1);
        let grid = (workgroups.div_ceil(rows) as u32, rows as u32);
        Ok(Some(Self { pipeline: kernel.pipeline, group, grid, floats }))
    }
}

fn functions(format: Format) -> String {
    let name = if format == Format::F16 { "f16" } else { "bf16" };
    format!(
        "fn widened(halves: vec4<u32>) -> vec4<f32> {{ return wo_widen_{name}(halves); }}\n\
         fn nearest(x: vec4<f32>) -> vec4<u32> {{ return wo_nearest_{name}(x); }}\n"
    )
}

/// The kernels' texts by name.
pub(super) fn shaders() -> Vec<(&'static str, String)> {
    let text = |text: &str| [THREADS, HALF, text, &functions(Format::Bf16)].join("\n");
    vec![("widen", text(WIDEN)), ("narrow", text(NARROW))]
}
