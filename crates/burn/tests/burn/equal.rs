//! Steps equal those of Burn's own optimizers.

use burn::optim::AdamWConfig;
use wgpu_optim::AdamW;
use wgpu_optim_burn::{WgpuOptimizer, burn, wgpu_optim};

use crate::support::{Gpu, Mlp, difference, exclusive, shared};

fn adamw(gpu: &Gpu) {
    let mut theirs = Mlp::new(&gpu.device);
    let mut ours = theirs.clone();
    let mut burns = AdamWConfig::new().with_weight_decay(0.1).with_epsilon(1e-8).init();
    let rule = AdamW { weight_decay: 0.1, eps: 1e-8, ..AdamW::default() };
    let mut optim = WgpuOptimizer::new(rule).with_setup(&gpu.setup).init(&ours).unwrap();
    for step in 0..20 {
        let grads = theirs.grads(step);
        theirs = burns.step(1e-2, theirs, grads);
        let grads = ours.grads(step);
        ours = optim.step(1e-2, ours, grads).unwrap();
    }
    let worst = difference(&ours, &theirs);
    println!("worst difference {worst:e}");
    assert!(worst < 2e-6, "{worst}");
    assert!(difference(&ours, &Mlp::new(&gpu.device)) > 1e-2, "it trained");
}

#[test]
fn adamw_in_shared_pages() {
    adamw(shared());
}

#[test]
fn adamw_in_buffers_of_their_own() {
    adamw(exclusive());
}
