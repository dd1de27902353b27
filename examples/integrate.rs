//! FlowAdam with the authors' integrator, `dopri5`. The caller submits the gradient passes, and the step submits its own passes between them.
//! The step also awaits the few numbers that its step control needs.

use wgpu_optim::optim::{Integrator, Value};
use wgpu_optim::tools::adapter::{Gpu, Selector};
use wgpu_optim::tools::objectives::{GpuObjective, problems};
use wgpu_optim::{FlowAdam, Group, Optimizer, Result};

fn main() -> Result<()> {
    pollster::block_on(run())
}

async fn run() -> Result<()> {
    let gpu = Selector::default().open().await?;
    let problem =
        problems::find("matrix")?.configure(None, [("rows", Value::Number(60.0)), ("columns", Value::Number(50.0))])?;
    let mut model = problem.gpu(&gpu.device)?;

    let rule = FlowAdam { lr: 0.01, integrator: Integrator::Dopri5, ..FlowAdam::default() };
    let mut builder = Optimizer::builder(rule);
    let tensors: Vec<_> = problem.tensors().iter().map(|t| builder.tensor(Group::DEFAULT, &t.name, &t.shape)).collect();
    let mut optimizer = builder.build(&gpu.device, &gpu.queue)?;
    let params: Vec<_> = tensors.iter().map(|t| optimizer.param(*t)).collect::<Result<_, _>>()?;
    let grads: Vec<_> = tensors.iter().map(|t| optimizer.grad(*t)).collect::<Result<_, _>>()?;
    model.bind(&params, &grads)?;
    for (tensor, values) in tensors.iter().zip(problem.initial(0)) {
        optimizer.write_param(*tensor, &values)?;
    }

    for _ in 0..20 {
        // FlowAdam needs gradients only.
        optimizer.step_with_submits(|_, _| gradient(&gpu, model.as_ref())).await?;
    }
    let triggers = optimizer.read_global_state().await?[3];
    let gradients = optimizer.evaluations().gradients;
    println!("on {}: 20 steps, {triggers} of them along the flow, {gradients} gradients", gpu.name());
    Ok(())
}

fn gradient(gpu: &Gpu, model: &dyn GpuObjective) -> Result<()> {
    let mut encoder = gpu.device.create_command_encoder(&wgpu_optim::wgpu::CommandEncoderDescriptor::default());
    model.record_gradient(&mut encoder, 0)?;
    gpu.queue.submit([encoder.finish()]);
    Ok(())
}
