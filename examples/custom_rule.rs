//! A user-defined optimizer in WGSL: it steps by the sign of the momentum. A clip works with it as with every built-in rule.

use wgpu_optim::tools::adapter::Selector;
use wgpu_optim::{Clip, CustomRule, Group, Optimizer, Result};

const RULE: &str = "
//! setting lr = 0.1 (0..)
//! setting beta = 0.9 (0..1)
struct Hyper { lr: f32, beta: f32, one_minus_beta: f32 }
struct State { m: vec4<f32> }
fn update(h: Hyper, d: Decision, p: vec4<f32>, g: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    (*s).m = h.beta * (*s).m + h.one_minus_beta * g;
    return -h.lr * sign((*s).m);
}";

fn main() -> Result<()> {
    let gpu = pollster::block_on(Selector::default().open())?;
    let mut builder = Optimizer::builder(CustomRule::from_wgsl("sign_momentum", RULE)?);
    let w = builder.tensor(Group::DEFAULT, "w", &[3]);
    builder.clip(Clip::GlobalNorm(1.0));
    let mut optimizer = builder.build(&gpu.device, &gpu.queue)?;
    optimizer.write_grad(w, &[3.0, 0.0, -4.0])?;
    gpu.run(|encoder| optimizer.step(encoder))?;
    let (w, m) =
        pollster::block_on(async { Ok((optimizer.read_param(w).await?, optimizer.read_state(w, "m").await?)) })?;
    println!("on {}: w = {w:?}, m = {m:?}", gpu.name());
    assert_eq!(w, [-0.1, 0.0, 0.1]);
    assert!((m[0] - 0.06).abs() < 1e-6 && (m[2] + 0.08).abs() < 1e-6);
    Ok(())
}
