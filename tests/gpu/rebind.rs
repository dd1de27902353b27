//! Parameters that move to another buffer between two steps.

use wgpu_optim::optim::ALL;
use wgpu_optim::{AdamW, Clip, Error, EvalRequest, Group, Optimizer, wgpu};

use crate::common::{block_on, gpu};

const BYTES: u64 = 4 * 1500;

fn buffer(fill: f32) -> wgpu::Buffer {
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let descriptor = wgpu::BufferDescriptor { label: None, size: BYTES, usage, mapped_at_creation: false };
    let buffer = gpu().device.create_buffer(&descriptor);
    let values: Vec<f32> = (0..BYTES / 4).map(|i| fill * (1.0 + i as f32 / 1500.0)).collect();
    gpu().queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&values));
    buffer
}

fn read(buffer: &wgpu::Buffer) -> Vec<u8> {
    block_on(wgpu_optim::read_buffer(&gpu().device, &gpu().queue, buffer.slice(..))).unwrap()
}

fn copy((from, at): (&wgpu::Buffer, u64), (to, place): (&wgpu::Buffer, u64), bytes: u64) {
    let record = |encoder: &mut wgpu::CommandEncoder| {
        encoder.copy_buffer_to_buffer(from, at, to, place, bytes);
        Ok(())
    };
    gpu().run(record).unwrap();
}

/// A step of any rule with these gradients; the loss of every probe is the same number.
fn step(optimizer: &mut Optimizer) {
    let loss = buffer(0.5);
    block_on(optimizer.step_with_submits(|request, slot| {
        if let (EvalRequest::Loss(_), Some(slot)) = (request, slot) {
            copy((&loss, 0), (slot.buffer(), slot.offset()), 4);
        }
        Ok(())
    }))
    .unwrap();
}

#[test]
fn a_step_after_the_parameters_moved_is_the_step_in_their_old_place() {
    for entry in ALL {
        let build = |params: &wgpu::Buffer, grads: &wgpu::Buffer| {
            let mut builder = Optimizer::builder(entry.sample());
            builder.bind(Group::DEFAULT, "a", &[900], params.slice(..3600), grads.slice(..3600));
            builder.bind(Group::DEFAULT, "b", &[20, 30], params.slice(3600..6000), grads.slice(3600..6000));
            if !matches!(entry.name, "flowadam") {
                builder.clip(Clip::GlobalNorm(0.1));
            }
            builder.build(&gpu().device, &gpu().queue).unwrap()
        };
        let (here, from, to, grads) = (buffer(1.0), buffer(1.0), buffer(7.0), buffer(0.25));
        let (mut stays, mut moves) = (build(&here, &grads), build(&from, &grads));
        step(&mut stays);
        step(&mut moves);
        let before = read(&from);
        assert_eq!(before, read(&here), "{}", entry.name);
        copy((&from, 0), (&to, 0), BYTES);
        moves.rebind_params(&from, &to).unwrap();
        step(&mut stays);
        step(&mut moves);
        assert_eq!(read(&to), read(&here), "{}", entry.name);
        assert_ne!(read(&to), before, "{}", entry.name);
        assert_eq!(read(&from), before, "{}: the old buffer keeps its values", entry.name);
        let a = moves.tensor("a").unwrap();
        assert_eq!(moves.param(a).unwrap().buffer(), &to);
        assert_eq!(bytemuck::cast_slice::<f32, u8>(&block_on(moves.read_param(a)).unwrap()), &read(&to)[..3600]);
    }
}

#[test]
fn rows_move_in_the_new_buffer() {
    let (from, to, grads) = (buffer(1.0), buffer(2.0), buffer(0.5));
    let mut builder = Optimizer::builder(AdamW::default());
    let w = builder.bind(Group::DEFAULT, "w", &[300, 5], from.slice(..), grads.slice(..));
    let set = builder.row_set("rows", &[w]);
    builder.row_capacity(set, 300);
    let mut optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
    let (old, new) = (read(&from), read(&to));
    optimizer.rebind_params(&from, &to).unwrap();
    let indices = buffer(0.0);
    gpu().queue.write_buffer(&indices, 0, bytemuck::cast_slice(&[299_u32, 7]));
    gpu().run(|encoder| optimizer.remap(encoder, set, indices.slice(..8), 2)).unwrap();
    assert_eq!(read(&from), old);
    assert_eq!(read(&to)[..20], new[299 * 20..]);
    assert_eq!(read(&to)[20..40], new[7 * 20..8 * 20]);
}

#[test]
fn what_cannot_move_is_named() {
    let (params, other, grads, strange) = (buffer(1.0), buffer(1.0), buffer(1.0), buffer(1.0));
    let mut builder = Optimizer::builder(AdamW::default());
    builder.bind(Group::DEFAULT, "a", &[8], params.slice(..32), grads.slice(..32));
    builder.bind(Group::DEFAULT, "b", &[8], other.slice(..32), grads.slice(32..64));
    let mut optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
    let plain = |size, usage| {
        gpu().device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    };
    let (short, bare) = (plain(16, wgpu::BufferUsages::STORAGE), plain(BYTES, wgpu::BufferUsages::COPY_DST));
    for (from, to, part) in [
        (&strange, &params, "already lie"),
        (&strange, &short, "no parameters lie"),
        (&params, &other, "already lie"),
        (&params, &grads, "to which rebind_params moves"),
        (&grads, &strange, "from which rebind_params moves"),
        (&params, &short, "bytes longer"),
        (&params, &bare, "needs STORAGE"),
    ] {
        let error = optimizer.rebind_params(from, to).unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
    let gpu2 = crate::support::device::open(|_| ());
    let usage = wgpu::BufferUsages::STORAGE;
    let foreign = gpu2.device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: BYTES,
        usage,
        mapped_at_creation: false,
    });
    let error = optimizer.rebind_params(&params, &foreign).unwrap_err();
    assert!(matches!(&error, Error::Tensor { tensor, .. } if tensor == "a"), "{error}");
    // Nothing has changed.
    let before = read(&params);
    step(&mut optimizer);
    assert_ne!(read(&params), before);
    optimizer.rebind_params(&params, &params).unwrap();
}
