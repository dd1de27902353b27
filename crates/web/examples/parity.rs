//! The optimizers of the parity cases of `tests/cases.mjs`, on a native device: writes their checkpoints after some steps, and resumes
//! those that a page wrote.
//!
//!     cargo run -p wgpu-optim-web --example parity -- FOLDER            # before the page
//!     cargo run -p wgpu-optim-web --example parity -- FOLDER --resume   # after it

#[cfg(target_arch = "wasm32")]
fn main() {}

#[cfg(not(target_arch = "wasm32"))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    native::main()
}

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use std::path::Path;

    use wgpu_optim::checkpoint::Checkpoint;
    use wgpu_optim::tools::adapter::{Gpu, Selector};
    use wgpu_optim::{AdamW, Builder, Clip, Ema, Group, Lion, Optimizer, VRAdam};

    const SHAPES: [(&str, &[usize]); 2] = [("w", &[70, 30]), ("b", &[33])];
    const STEPS: u32 = 5;
    const NAMES: [&str; 4] = ["adamw", "vradam", "bf16-sr", "8bit"];

    /// `numbers` of cases.mjs.
    fn numbers(seed: u32, count: usize, scale: f64) -> Vec<f32> {
        let mut x = ((f64::from(seed) * 2_654_435_761.0 + 12_345.0) as u64 as u32).max(1);
        let mut next = || {
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            ((f64::from(x) / f64::from(1_u32 << 31) - 1.0) * scale) as f32
        };
        (0..count).map(|_| next()).collect()
    }

    fn builder(name: &str) -> Result<Builder, wgpu_optim::Error> {
        let adamw = AdamW { lr: 3e-3, weight_decay: 0.1, ..AdamW::default() };
        let mut builder = match name {
            "vradam" => Optimizer::builder(VRAdam { lr: 3e-3, weight_decay: 0.1, ..VRAdam::default() }),
            "8bit" => Optimizer::builder(Lion { lr: 3e-3, weight_decay: 0.1, ..Lion::default() }),
            _ => Optimizer::builder(adamw),
        };
        match name {
            "adamw" => builder.clip(Clip::GlobalNorm(1.0)).ema(Ema { decay: 0.9, ..Ema::default() }),
            "bf16-sr" => builder.storage("bf16-sr".parse()?).seed(7),
            "8bit" => builder.storage("bf16-split,8bit".parse()?),
            _ => &mut builder,
        };
        builder.tensors(Group::DEFAULT, SHAPES);
        Ok(builder)
    }

    /// Takes the steps that `range` numbers.
    fn run(gpu: &Gpu, optimizer: &mut Optimizer, range: std::ops::RangeInclusive<u32>) -> wgpu_optim::Result<()> {
        for at in range {
            for (i, (name, shape)) in (0..).zip(SHAPES) {
                let grads = numbers(100 * at + i, shape.iter().product(), 3.0);
                optimizer.write_grad(optimizer.tensor(name)?, &grads)?;
            }
            gpu.run(|encoder| optimizer.step(encoder))?;
        }
        Ok(())
    }

    fn checkpoint(gpu: &Gpu, optimizer: &Optimizer) -> wgpu_optim::Result<Checkpoint> {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        let snapshot = optimizer.snapshot(&mut encoder)?;
        gpu.queue.submit([encoder.finish()]);
        pollster::block_on(snapshot.checkpoint())
    }

    pub(super) fn main() -> Result<(), Box<dyn std::error::Error>> {
        let mut arguments = std::env::args().skip(1);
        let folder = arguments.next().ok_or("name the folder")?;
        let folder = Path::new(&folder);
        let resumes = arguments.next().as_deref() == Some("--resume");
        let gpu = pollster::block_on(Selector::default().open())?;
        println!("parity: {}", gpu.name());
        for name in NAMES {
            let mut optimizer = builder(name)?.build(&gpu.device, &gpu.queue)?;
            if resumes {
                // The page stepped twice as far; its file goes on here, and gives what went on without a stop.
                Checkpoint::load(folder.join(format!("{name}-page.safetensors")))?.restore(&mut optimizer)?;
                run(&gpu, &mut optimizer, 2 * STEPS + 1..=3 * STEPS)?;
                let here = checkpoint(&gpu, &optimizer)?.to_bytes()?;
                let whole = std::fs::read(folder.join(format!("{name}-{}.safetensors", 3 * STEPS)))?;
                assert_eq!(here.len(), whole.len(), "{name}: the length of the checkpoint");
                assert!(here == whole, "{name}: the page's checkpoint went on to other bits");
                continue;
            }
            for (i, (tensor, shape)) in (1..).zip(SHAPES) {
                optimizer.write_param(optimizer.tensor(tensor)?, &numbers(i, shape.iter().product(), 1.0))?;
            }
            for part in 1..=3 {
                run(&gpu, &mut optimizer, (part - 1) * STEPS + 1..=part * STEPS)?;
                checkpoint(&gpu, &optimizer)?.save(folder.join(format!("{name}-{}.safetensors", part * STEPS)))?;
            }
        }
        println!("parity: {} optimizers {}", NAMES.len(), if resumes { "went on to the same bits" } else { "saved" });
        Ok(())
    }
}
