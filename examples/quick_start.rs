//! Fits a line to four points: the shortest whole program with this crate. A real model writes its gradients on the GPU. Here the host
//! writes them, so that the program shows the optimizer alone.

use wgpu_optim::tools::adapter::Selector;
use wgpu_optim::{AdamW, Group, Optimizer, Result};

fn main() -> Result<()> {
    let gpu = pollster::block_on(Selector::default().open())?;
    println!("on {}", gpu.name());

    let mut builder = Optimizer::builder(AdamW { lr: 0.1, ..AdamW::default() });
    let biases = builder.group("biases", AdamW { lr: 0.1, weight_decay: 0.0, ..AdamW::default() });
    let slope = builder.tensor(Group::DEFAULT, "slope", &[1]);
    let offset = builder.tensor(biases, "offset", &[1]);
    let mut optimizer = builder.build(&gpu.device, &gpu.queue)?;

    let points: [[f32; 2]; 4] = [[0.0, 1.0], [1.0, 3.0], [2.0, 5.0], [3.0, 7.0]];
    for step in 0..600 {
        let (a, b) = pollster::block_on(async {
            Ok((optimizer.read_param(slope).await?, optimizer.read_param(offset).await?))
        })?;
        let error = |[x, y]: [f32; 2]| a[0] * x + b[0] - y;
        optimizer.write_grad(slope, &[points.iter().map(|&p| error(p) * p[0]).sum::<f32>() / 4.0])?;
        optimizer.write_grad(offset, &[points.iter().map(|&p| error(p)).sum::<f32>() / 4.0])?;
        if step == 400 {
            optimizer.set_lr(Group::DEFAULT, 0.01)?;
            optimizer.set_lr(biases, 0.01)?;
        }
        gpu.run(|encoder| optimizer.step(encoder))?;
    }

    let (a, b) =
        pollster::block_on(async { Ok((optimizer.read_param(slope).await?, optimizer.read_param(offset).await?)) })?;
    println!("y = {:.3} x + {:.3} after {} steps", a[0], b[0], pollster::block_on(optimizer.read_step_count())?);
    assert!((a[0] - 2.0).abs() < 0.05 && (b[0] - 1.0).abs() < 0.05);
    Ok(())
}
