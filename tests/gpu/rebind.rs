//! Parameters that move to another buffer between two steps.

use wgpu_optim::optim::{ALL, Entry, Integrator, Rule};
use wgpu_optim::{AdamW, Clip, Ema, Error, EvalRequest, FlowAdam, Group, Optimizer, wgpu};

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

/// Two tensors in these buffers. `around`: with the options of the engine that add bindings, dispatches and states.
fn two(rule: Box<dyn Rule>, params: &wgpu::Buffer, grads: &wgpu::Buffer, around: bool) -> Result<Optimizer, Error> {
    let clips = rule.name() != "flowadam";
    let mut builder = Optimizer::builder(rule);
    let shape = builder.sample_shape(Group::DEFAULT, 900);
    builder.bind(Group::DEFAULT, "a", &shape, params.slice(..3600), grads.slice(..3600));
    let b = builder.bind(Group::DEFAULT, "b", &[20, 30], params.slice(3600..6000), grads.slice(3600..6000));
    if clips {
        builder.clip(Clip::GlobalNorm(0.1));
    }
    if around {
        let rows = builder.row_set("rows", &[b]);
        builder
            .mask(rows)
            .fresh_rows(rows)
            .ema(Ema::default())
            .telemetry(true)
            .skip_nonfinite(true)
            .partial_steps(true);
    }
    builder.build(&gpu().device, &gpu().queue)
}

/// Whether the engine allows the rule these options.
fn moves_alike(entry: &Entry, around: bool) -> bool {
    let (here, from, to, grads) = (buffer(1.0), buffer(1.0), buffer(7.0), buffer(0.25));
    let Ok(mut stays) = two(entry.sample(), &here, &grads, around) else { return false };
    let mut moves = two(entry.sample(), &from, &grads, around).unwrap();
    step(&mut stays);
    step(&mut moves);
    let before = read(&from);
    assert_eq!(before, read(&here), "{}", entry.name);
    copy((&from, 0), (&to, 0), BYTES);
    moves.rebind_params(&from, &to).unwrap();
    // Whoever still reads the old buffer steps otherwise.
    let others = buffer(3.0);
    copy((&others, 0), (&from, 0), BYTES);
    step(&mut stays);
    step(&mut moves);
    assert_eq!(read(&to), read(&here), "{} {around}", entry.name);
    assert_ne!(read(&to), before, "{}", entry.name);
    assert_eq!(read(&from), read(&others), "{}: a step wrote the old buffer", entry.name);
    let a = moves.tensor("a").unwrap();
    assert_eq!(moves.param(a).unwrap().buffer(), &to);
    assert_eq!(bytemuck::cast_slice::<f32, u8>(&block_on(moves.read_param(a)).unwrap()), &read(&to)[..3600]);
    true
}

#[test]
fn a_step_after_the_parameters_moved_is_the_step_in_their_old_place() {
    assert!(ALL.iter().all(|entry| moves_alike(entry, false)));
    let tried = ALL.iter().filter(|entry| moves_alike(entry, true)).count();
    assert!(2 * tried > ALL.len(), "{tried} rules allow the options");
}

/// Gradients that steps name have bind groups of their own, and so have moves that read none.
#[test]
fn named_gradients_go_with_parameters_that_moved() {
    let (here, from, to, grads) = (buffer(1.0), buffer(1.0), buffer(7.0), buffer(0.25));
    let build = |params: &wgpu::Buffer| {
        let mut builder = Optimizer::builder(AdamW::default());
        builder.bind_param(Group::DEFAULT, "w", &[1500], params.slice(..));
        builder.dynamic_gradients(true).ema(Ema::default()).build(&gpu().device, &gpu().queue).unwrap()
    };
    let (mut stays, mut moves) = (build(&here), build(&from));
    for _ in 0..2 {
        for optimizer in [&mut stays, &mut moves] {
            let w = optimizer.tensor("w").unwrap();
            gpu().run(|encoder| optimizer.step_with_grads(encoder, [(w, grads.slice(..))])).unwrap();
        }
    }
    let before = read(&from);
    copy((&from, 0), (&to, 0), BYTES);
    moves.rebind_params(&from, &to).unwrap();
    for optimizer in [&mut stays, &mut moves] {
        gpu().run(|encoder| optimizer.swap_ema(encoder)).unwrap();
    }
    assert_eq!(read(&to), read(&here));
    assert_ne!(read(&to), before);
    assert_eq!(read(&from), before);
}

/// A step of rk4 whose parameters move before stage `at`, if any; with gradients that each stage names. The parameters afterwards.
fn four_stages(at: Option<usize>) -> Vec<u8> {
    let (mut params, grads) = (buffer(1.0), buffer(0.25));
    let mut builder = Optimizer::builder(FlowAdam { integrator: Integrator::Rk4, ..FlowAdam::default() });
    let w = builder.bind_param(Group::DEFAULT, "w", &[1500], params.slice(..));
    let mut optimizer = builder.dynamic_gradients(true).build(&gpu().device, &gpu().queue).unwrap();
    let mut step = optimizer.begin_step().unwrap();
    for stage in 0.. {
        let mut request = None;
        gpu()
            .run(|encoder| {
                request = step.next(encoder)?;
                Ok(())
            })
            .unwrap();
        if request.is_none() {
            assert_eq!(stage, 4);
            break;
        }
        step.set_grads([(w, grads.slice(..))]).unwrap();
        if at == Some(stage) {
            let to = buffer(7.0);
            copy((&params, 0), (&to, 0), BYTES);
            step.rebind_params(&params, &to).unwrap();
            params = to;
            step.set_grads([(w, grads.slice(..))]).unwrap();
        }
    }
    read(&params)
}

#[test]
fn parameters_move_between_two_evaluations() {
    let expected = four_stages(None);
    assert!((0..4).all(|stage| four_stages(Some(stage)) == expected));
}

/// The bind groups of named gradients hold the old buffer: a pass must not use them.
#[test]
fn a_step_forgets_named_gradients_when_parameters_move() {
    let (params, to, grads) = (buffer(1.0), buffer(1.0), buffer(0.25));
    let mut builder = Optimizer::builder(AdamW::default());
    let w = builder.bind_param(Group::DEFAULT, "w", &[1500], params.slice(..));
    let mut optimizer = builder.dynamic_gradients(true).build(&gpu().device, &gpu().queue).unwrap();
    let mut encoder = gpu().device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let mut step = optimizer.begin_step().unwrap();
    assert_eq!(step.next(&mut encoder).unwrap(), Some(EvalRequest::Gradient));
    step.set_grads([(w, grads.slice(..))]).unwrap();
    step.rebind_params(&params, &to).unwrap();
    let error = step.next(&mut encoder).unwrap_err().to_string();
    assert!(error.contains("it has no gradient"), "{error}");
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
