//! S-Adam on the GPU: a step requests the gradient, and then losses at displaced parameters. The program takes such a step in three ways:
//! with a closure, request by request, and on the CPU.

use wgpu_optim::tools::adapter::Selector;
use wgpu_optim::tools::objectives::{CpuMlp, CpuObjective as _, GpuMlp, GpuObjective as _, Mlp, digits};
use wgpu_optim::{EvalRequest, Group, Optimizer, Result, SAdam};

const BATCH: usize = 64;

fn main() -> Result<()> {
    let gpu = pollster::block_on(Selector::default().open())?;
    let split = digits::load()?.split(0.2, 0)?;
    let mlp = Mlp::default();
    let mut model = GpuMlp::new(&gpu.device, &mlp, &split, BATCH, 0)?;

    let mut builder = Optimizer::builder(SAdam::default());
    let tensors: Vec<_> = model.tensors().iter().map(|t| builder.tensor(Group::DEFAULT, &t.name, &t.shape)).collect();
    let mut optimizer = builder.build(&gpu.device, &gpu.queue)?;
    let params: Vec<_> = tensors.iter().map(|t| optimizer.param(*t)).collect::<Result<_, _>>()?;
    let grads: Vec<_> = tensors.iter().map(|t| optimizer.grad(*t)).collect::<Result<_, _>>()?;
    model.bind(&params, &grads)?;
    for (tensor, values) in tensors.iter().zip(mlp.initial(0)) {
        optimizer.write_param(*tensor, &values)?;
    }

    // With a closure: nothing is read back, and the whole step is in the caller's encoder.
    gpu.run(|encoder| {
        optimizer.step_with(encoder, |_, loss, encoder| match loss {
            None => model.record_gradient(encoder, 0),
            Some(slot) => model.record_loss(encoder, 0, slot),
        })
    })?;

    // Request by request, without a closure.
    gpu.run(|encoder| {
        let mut step = optimizer.begin_step()?;
        while let Some(need) = step.next(encoder)? {
            match need {
                EvalRequest::Gradient => model.record_gradient(encoder, 1)?,
                EvalRequest::Loss(slot) => model.record_loss(encoder, 1, step.loss_slot(slot)?)?,
            }
        }
        Ok(())
    })?;
    let decision = pollster::block_on(optimizer.read_decision(tensors[0]))?;
    println!("on {}: damping {:.3}, LGI {:.3}", gpu.name(), decision[0], decision[1]);

    // On the CPU.
    let mut model = CpuMlp::<f32>::new(&mlp, &split, BATCH, 0)?;
    let mut optimizer = builder.build_cpu::<f32>()?;
    let mut params = mlp.initial(0);
    let mut grads = params.clone();
    for batch in 0..2 {
        let mut params: Vec<&mut [f32]> = params.iter_mut().map(Vec::as_mut_slice).collect();
        let mut grads: Vec<&mut [f32]> = grads.iter_mut().map(Vec::as_mut_slice).collect();
        optimizer.step_with(&mut params, &mut grads, |evaluation, params, grads| match evaluation {
            EvalRequest::Gradient => Ok(model.gradient(params, batch, grads)?.loss),
            EvalRequest::Loss(_) => Ok(model.loss(params, batch)?.loss),
        })?;
    }
    let number = |name| optimizer.decision(tensors[0], name).ok().flatten().unwrap_or(f32::NAN);
    println!("on the CPU: damping {:.3}, LGI {:.3}", number("damp"), number("lgi"));
    Ok(())
}
