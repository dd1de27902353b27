//! Storage formats on a GPU.

use wgpu_optim::{AdamW, Group, Optimizer};

use crate::common::gpu;

#[test]
fn forms_follow_f32() {
    let gpu = gpu();
    let lengths = [5000, 300, 7, 4097];
    let run = |storage: &str| {
        let mut builder = Optimizer::builder(AdamW { lr: 1e-2, weight_decay: 0.1, ..AdamW::default() });
        builder.storage(storage.parse().unwrap());
        let tensors = lengths.map(|n| builder.tensor(Group::DEFAULT, format!("of {n}"), &[n]));
        let mut optimizer = builder.build(&gpu.device, &gpu.queue).unwrap();
        for (tensor, n) in tensors.into_iter().zip(lengths) {
            let params: Vec<f32> = (0..n).map(|i| ((i * 37 + 11) % 101) as f32 / 128.0 - 0.4).collect();
            optimizer.write_param(tensor, &params).unwrap();
        }
        for step in 0..5 {
            for (tensor, n) in tensors.into_iter().zip(lengths) {
                let grads: Vec<f32> = (0..n).map(|i| ((i * 53 + step * 7) % 127) as f32 / 128.0 - 0.5).collect();
                optimizer.write_grad(tensor, &grads).unwrap();
            }
            gpu.run(|encoder| optimizer.step(encoder)).unwrap();
        }
        let read = |t| {
            let of = |name| pollster::block_on(optimizer.read_state(t, name)).unwrap();
            [pollster::block_on(optimizer.read_param(t)).unwrap(), of("m"), of("v")]
        };
        tensors.map(read)
    };
    let plain = run("f32");
    for storage in [
        "params=bf16-split",
        "params=bf16-master",
        "params=f16-master",
        "bf16-split",
        "bf16-sr",
        "f16-sr",
        "f16-nearest",
        "states=bf16",
        "states=bf16-sr",
        "8bit",
        "8bit,min=0",
        "bf16-sr,8bit,min=0",
        "bf16-split,m=8bit,v=bf16,min=0",
    ] {
        let found = run(storage);
        let mut worst = [0.0_f32; 3];
        for (a, b) in plain.iter().zip(&found) {
            for k in 0..3 {
                let scale = a[k].iter().fold(0.0_f32, |m, x| m.max(x.abs()));
                for (x, y) in a[k].iter().zip(&b[k]) {
                    worst[k] = worst[k].max((x - y).abs() / scale);
                }
            }
        }
        println!("{storage}: {worst:?}");
    }
}
