//! Every public call on a lost device, with destroyed buffers, and with objects of another device or another instance: an error that says
//! what the thing is, and no panic. Calls that need no GPU work on.

use std::collections::BTreeSet;
use std::path::Path;

use wgpu_optim::checkpoint::Checkpoint;
use wgpu_optim::optim::{AdamW, FlowAdam, Lamb, Rule, SAdam, SgdScheduleFree, Value, WarpAdam};
use wgpu_optim::tools::adapter::Gpu;
use wgpu_optim::{
    Accumulate, Builder, Clip, Ema, Error, EvalRequest, Group, LossScale, Optimizer, PendingStep, Result, RowSet,
    Schedule, Tensor, read_buffer, wgpu,
};

use crate::common::{block_on, open};

/// An optimizer for the calls that need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// AdamW with options around it.
    Plain,
    /// AdamW whose steps may name tensors.
    Partial,
    Dynamic,
    /// LAMB with a clip by norm, which makes two rounds of sums.
    TwoRounds,
    Probing,
    ScheduleFree,
    Rows,
    Warp,
    Flow,
}

struct Subject {
    gpu: Gpu,
    optimizer: Optimizer,
    w: Tensor,
    rows: Option<RowSet>,
    params: wgpu::Buffer,
    grads: wgpu::Buffer,
    mask: wgpu::Buffer,
    checkpoint: Checkpoint,
    torch: Option<Vec<u8>>,
}

fn buffer(gpu: &Gpu) -> wgpu::Buffer {
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("theirs"),
        size: 64,
        usage,
        mapped_at_creation: false,
    })
}

/// The builder of an optimizer whose tensor `w` lies in these buffers.
fn builder(kind: Kind, [params, grads, mask]: [&wgpu::Buffer; 3]) -> (Builder, Tensor, Option<RowSet>) {
    let rule: Box<dyn Rule> = match kind {
        Kind::Plain | Kind::Partial | Kind::Dynamic | Kind::Rows => AdamW::default().boxed(),
        Kind::TwoRounds => Lamb::default().boxed(),
        Kind::Probing => SAdam::default().boxed(),
        Kind::ScheduleFree => SgdScheduleFree { lr: 0.1, ..SgdScheduleFree::default() }.boxed(),
        Kind::Warp => WarpAdam::default().boxed(),
        Kind::Flow => FlowAdam::default().boxed(),
    };
    let mut builder = Optimizer::builder(rule);
    let w = match kind {
        Kind::Dynamic => builder.bind_param(Group::DEFAULT, "w", &[8, 2], params.slice(..)),
        _ => builder.bind(Group::DEFAULT, "w", &[8, 2], params.slice(..), grads.slice(..)),
    };
    match kind {
        Kind::Plain => {
            builder.ema(Ema::default()).telemetry(true).loss_scale(LossScale::default()).clip(Clip::TensorNorm(1.0));
            builder.accumulate(Accumulate::Mean(2));
        }
        Kind::Partial => _ = builder.partial_steps(true).accumulate(Accumulate::Mean(2)),
        Kind::Dynamic => _ = builder.accumulate(Accumulate::Mean(2)),
        Kind::TwoRounds => _ = builder.clip(Clip::GlobalNorm(1.0)),
        Kind::Probing => _ = builder.undamped_steps(true),
        Kind::Rows => _ = builder.column_rates(w, &[1.0, 0.5]),
        _ => {}
    }
    let rows = (kind == Kind::Rows).then(|| builder.row_set("set", &[w]));
    if let Some(rows) = rows {
        builder.row_capacity(rows, 8).mask_in(rows, mask.slice(..32));
    }
    (builder, w, rows)
}

fn subject(kind: Kind) -> Subject {
    let gpu = open(|_| ());
    let [params, grads, mask] = [(); 3].map(|()| buffer(&gpu));
    let (builder, w, rows) = builder(kind, [&params, &grads, &mask]);
    let mut optimizer = builder.build(&gpu.device, &gpu.queue).unwrap();
    match kind {
        Kind::Dynamic => gpu.run(|encoder| optimizer.step_with_grads(encoder, [(w, grads.slice(..))])).unwrap(),
        Kind::Flow => block_on(optimizer.step_with_submits(|_, _| Ok(()))).unwrap(),
        _ => gpu.run(|encoder| optimizer.step(encoder)).unwrap(),
    }
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let snapshot = optimizer.snapshot(&mut encoder).unwrap();
    gpu.queue.submit([encoder.finish()]);
    let checkpoint = block_on(snapshot.checkpoint()).unwrap();
    let torch = checkpoint.to_torch().ok();
    // The measurements of this step would still be there after the device was lost.
    let _ = optimizer.try_stats();
    Subject { gpu, optimizer, w, rows, params, grads, mask, checkpoint, torch }
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Fails,
    Works,
}
use Outcome::{Fails, Works};

/// A public call with its outcomes on a lost device and with destroyed buffers of the caller.
struct Call {
    name: &'static str,
    kind: Kind,
    lost: Outcome,
    destroyed: Outcome,
    run: fn(&mut Subject, &mut wgpu::CommandEncoder) -> Result<()>,
}

const fn call(
    name: &'static str,
    kind: Kind,
    [lost, destroyed]: [Outcome; 2],
    run: fn(&mut Subject, &mut wgpu::CommandEncoder) -> Result<()>,
) -> Call {
    Call { name, kind, lost, destroyed, run }
}

/// The calls that record what the caller submits, or that read or write the caller's buffers.
const BOTH: [Outcome; 2] = [Fails, Fails];
/// The calls that use the optimizer's own buffers alone.
const OWN: [Outcome; 2] = [Fails, Works];
/// The calls that need no GPU.
const HOST: [Outcome; 2] = [Works, Works];

fn evaluate(step: &mut PendingStep<'_>, encoder: &mut wgpu::CommandEncoder) -> Result<()> {
    while step.next(encoder)?.is_some() {}
    Ok(())
}

fn ignore<T>(_: T) {}

const CALLS: &[Call] = &[
    call("step", Kind::Plain, BOTH, |s, e| s.optimizer.step(e)),
    call("step_with_grads", Kind::Dynamic, BOTH, |s, e| s.optimizer.step_with_grads(e, [(s.w, s.grads.slice(..))])),
    call("step_with_timestamps", Kind::Plain, BOTH, |s, e| s.optimizer.step_with_timestamps(e, [None, None, None])),
    call("record_sums", Kind::ScheduleFree, BOTH, |s, e| s.optimizer.record_sums(e)),
    call("record_next_sums", Kind::TwoRounds, BOTH, |s, e| {
        s.optimizer.record_sums(e).and(s.optimizer.record_next_sums(e))
    }),
    call("record_update", Kind::ScheduleFree, BOTH, |s, e| {
        s.optimizer.record_sums(e).and(s.optimizer.record_update(e))
    }),
    call("step_tensors", Kind::Partial, BOTH, |s, e| s.optimizer.step_tensors(e, [s.w])),
    call("accumulate_tensors", Kind::Partial, BOTH, |s, e| s.optimizer.accumulate_tensors(e, [s.w])),
    call("accumulate", Kind::Plain, BOTH, |s, e| s.optimizer.accumulate(e)),
    call("accumulate_with_grads", Kind::Dynamic, BOTH, |s, e| {
        s.optimizer.accumulate_with_grads(e, [(s.w, s.grads.slice(..))])
    }),
    call("swap_ema", Kind::Plain, BOTH, |s, e| s.optimizer.swap_ema(e)),
    call("to_eval_params", Kind::ScheduleFree, BOTH, |s, e| s.optimizer.to_eval_params(e)),
    call("to_train_params", Kind::ScheduleFree, BOTH, |s, e| {
        s.optimizer.to_eval_params(e).and_then(|()| s.optimizer.to_train_params(e))
    }),
    call("begin_step", Kind::Probing, BOTH, |s, _| s.optimizer.begin_step().map(ignore)),
    call("probe", Kind::Probing, BOTH, |s, _| s.optimizer.probe().map(ignore)),
    call("next", Kind::Probing, BOTH, |s, e| evaluate(&mut s.optimizer.begin_step()?, e)),
    call("next_submitted", Kind::Probing, BOTH, |s, _| {
        let mut step = s.optimizer.begin_step()?;
        while block_on(step.next_submitted())?.is_some() {}
        Ok(())
    }),
    call("set_grads", Kind::Dynamic, BOTH, |s, e| {
        let mut step = s.optimizer.begin_step()?;
        step.next(e)?;
        step.set_grads([(s.w, s.grads.slice(..))])
    }),
    call("rebind_params", Kind::Dynamic, OWN, |s, _| s.optimizer.rebind_params(&s.params, &buffer(&s.gpu))),
    call("rebind_params", Kind::Dynamic, BOTH, |s, _| {
        let (from, to) = (s.params.clone(), buffer(&s.gpu));
        let mut step = s.optimizer.begin_step()?;
        step.rebind_params(&from, &to)
    }),
    call("step_with", Kind::Probing, BOTH, |s, e| s.optimizer.step_with(e, |_, _, _| Ok(()))),
    call("step_with_submits", Kind::Probing, BOTH, |s, _| {
        block_on(s.optimizer.step_with_submits(|request, _| match request {
            EvalRequest::Gradient | EvalRequest::Loss(_) => Ok(()),
        }))
    }),
    call("step_with_submits", Kind::Flow, BOTH, |s, _| block_on(s.optimizer.step_with_submits(|_, _| Ok(())))),
    call("remap", Kind::Rows, BOTH, |s, e| s.optimizer.remap(e, s.rows.unwrap(), s.grads.slice(..), 8)),
    call("reset_states", Kind::Rows, BOTH, |s, e| s.optimizer.reset_states(e, &[s.w])),
    call("reset_rows", Kind::Rows, BOTH, |s, e| s.optimizer.reset_rows(e, s.rows.unwrap(), s.grads.slice(..))),
    call("snapshot", Kind::Plain, BOTH, |s, e| s.optimizer.snapshot(e).map(ignore)),
    call("checkpoint", Kind::Plain, BOTH, |s, _| {
        let mut encoder = s.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let snapshot = s.optimizer.snapshot(&mut encoder)?;
        s.gpu.queue.submit([encoder.finish()]);
        block_on(snapshot.checkpoint()).map(ignore)
    }),
    call("restore", Kind::Plain, BOTH, |s, _| s.checkpoint.restore(&mut s.optimizer)),
    call("restore_fitting", Kind::Plain, BOTH, |s, _| {
        s.checkpoint.restore_fitting(&mut s.optimizer, wgpu_optim::checkpoint::Fit::Partial)
    }),
    call("restore_torch", Kind::Rows, BOTH, |s, _| {
        wgpu_optim::checkpoint::restore_torch("f", s.torch.clone().unwrap(), &mut s.optimizer)
    }),
    call("read_param", Kind::Plain, BOTH, |s, _| block_on(s.optimizer.read_param(s.w)).map(ignore)),
    call("write_param", Kind::Plain, BOTH, |s, _| s.optimizer.write_param(s.w, &[1.0; 16])),
    call("read_grad", Kind::Plain, BOTH, |s, _| block_on(s.optimizer.read_grad(s.w)).map(ignore)),
    call("write_grad", Kind::Plain, BOTH, |s, _| s.optimizer.write_grad(s.w, &[1.0; 16])),
    call("write_mask", Kind::Rows, BOTH, |s, _| s.optimizer.write_mask(s.rows.unwrap(), &[1; 8])),
    call("read_buffer", Kind::Plain, BOTH, |s, _| {
        block_on(read_buffer(&s.gpu.device, &s.gpu.queue, s.params.slice(..))).map(ignore)
    }),
    call("build", Kind::Plain, BOTH, |s, _| {
        builder(Kind::Rows, [&s.params, &s.grads, &s.mask]).0.build(&s.gpu.device, &s.gpu.queue).map(ignore)
    }),
    call("build_async", Kind::Plain, BOTH, |s, _| {
        let builder = builder(Kind::Rows, [&s.params, &s.grads, &s.mask]).0;
        block_on(builder.build_async(&s.gpu.device, &s.gpu.queue)).map(ignore)
    }),
    call("read_state", Kind::Plain, OWN, |s, _| block_on(s.optimizer.read_state(s.w, "m")).map(ignore)),
    call("write_state", Kind::Plain, OWN, |s, _| s.optimizer.write_state(s.w, "m", &[0.0; 16])),
    call("read_step_count", Kind::Plain, OWN, |s, _| block_on(s.optimizer.read_step_count()).map(ignore)),
    call("read_step_count_of", Kind::Plain, OWN, |s, _| {
        block_on(s.optimizer.read_step_count_of(Group::DEFAULT)).map(ignore)
    }),
    call("write_step_count", Kind::Plain, OWN, |s, _| s.optimizer.write_step_count(3)),
    call("read_tensor_step_count", Kind::Partial, OWN, |s, _| {
        block_on(s.optimizer.read_tensor_step_count(s.w)).map(ignore)
    }),
    call("write_tensor_step_count", Kind::Partial, OWN, |s, _| s.optimizer.write_tensor_step_count(s.w, 3)),
    call("read_progress", Kind::ScheduleFree, OWN, |s, _| block_on(s.optimizer.read_progress(s.w)).map(ignore)),
    call("read_skipped", Kind::Plain, OWN, |s, _| block_on(s.optimizer.read_skipped()).map(ignore)),
    call("read_loss_scale", Kind::Plain, OWN, |s, _| block_on(s.optimizer.read_loss_scale()).map(ignore)),
    call("read_nonfinite", Kind::Plain, OWN, |s, _| block_on(s.optimizer.read_nonfinite()).map(ignore)),
    call("read_decision", Kind::Probing, OWN, |s, _| block_on(s.optimizer.read_decision(s.w)).map(ignore)),
    call("write_losses", Kind::Probing, OWN, |s, _| s.optimizer.write_losses(&[1.0; 3])),
    call("read_warp", Kind::Warp, OWN, |s, _| block_on(s.optimizer.read_warp(s.w)).map(ignore)),
    call("write_warp", Kind::Warp, OWN, |s, _| {
        let warp = block_on(s.optimizer.read_warp(s.w))?;
        s.optimizer.write_warp(s.w, &warp)
    }),
    call("read_global_state", Kind::Flow, OWN, |s, _| block_on(s.optimizer.read_global_state()).map(ignore)),
    call("write_global_state", Kind::Flow, OWN, |s, _| {
        let state = block_on(s.optimizer.read_global_state())?;
        s.optimizer.write_global_state(&state)
    }),
    call("try_stats", Kind::Plain, HOST, |s, _| {
        let _ = s.optimizer.try_stats();
        Ok(())
    }),
    call("destroy", Kind::Plain, HOST, |s, _| {
        std::mem::replace(&mut s.optimizer, subject(Kind::Plain).optimizer).destroy();
        Ok(())
    }),
    call("lr", Kind::Plain, HOST, |s, _| s.optimizer.lr(Group::DEFAULT).map(ignore)),
    call("set_lr", Kind::Plain, HOST, |s, _| s.optimizer.set_lr(Group::DEFAULT, 0.5)),
    call("set_rule", Kind::Plain, HOST, |s, _| {
        s.optimizer.set_rule(Group::DEFAULT, AdamW { beta1: 0.5, ..AdamW::default() })
    }),
    call("set", Kind::Plain, HOST, |s, _| s.optimizer.set(Group::DEFAULT, "beta1", &Value::Number(0.25))),
    call("set_all", Kind::Plain, HOST, |s, _| s.optimizer.set_all(Group::DEFAULT, [("eps", &Value::Number(0.25))])),
    call("set_clip", Kind::Plain, HOST, |s, _| s.optimizer.set_clip(2.0)),
    call("apply", Kind::Plain, HOST, |s, _| {
        "constant".parse::<Schedule>()?.base(0.5).apply(&mut s.optimizer, Group::DEFAULT, 1)
    }),
    call("apply_to", Kind::Plain, HOST, |s, _| {
        "constant".parse::<Schedule>()?.base(0.5).apply_to(&mut s.optimizer, Group::DEFAULT, "beta1", 1)
    }),
    call("set_row_count", Kind::Rows, HOST, |s, _| s.optimizer.set_row_count(s.rows.unwrap(), 4)),
    call("set_column_rates", Kind::Rows, HOST, |s, _| s.optimizer.set_column_rates(s.w, &[2.0, 1.0])),
    call("differences", Kind::Plain, HOST, |s, _| {
        let _ = s.checkpoint.differences(&s.optimizer);
        Ok(())
    }),
];

/// The public methods that read what the host knows, or that only describe.
const DESCRIBE: &[&str] = &[
    "builder",
    "rule",
    "schedule",
    "groups",
    "tensors",
    "group_of",
    "tensor",
    "param",
    "grad",
    "dispatches",
    "step_stages",
    "accumulate_dispatches",
    "totals",
    "sum_rounds",
    "totals_of",
    "loss_scale",
    "loss_slot",
    "state_names",
    "row_set",
    "row_count",
    "row_capacity",
    "mask",
    "evaluations",
    "optimizer",
    "memory_usage",
    "index",
];

/// Adds the names of the public functions of a file.
fn public(file: &Path, names: &mut BTreeSet<String>) {
    let text = std::fs::read_to_string(file).unwrap();
    for line in text.lines() {
        let line = line.trim_start();
        let Some(rest) = ["pub fn ", "pub async fn ", "pub const fn "].iter().find_map(|p| line.strip_prefix(p)) else {
            continue;
        };
        names.insert(rest.split(['(', '<']).next().unwrap().to_owned());
    }
}

/// A new public call of the optimizer needs a line in the table.
#[test]
fn the_table_has_every_public_call() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut names = BTreeSet::new();
    let mut folders = ["record", "access", "optimizer"].map(|folder| source.join("gpu").join(folder)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { public(&path, &mut names) }
        }
    }
    assert!(names.len() > 50, "{names:?}");
    let known: BTreeSet<&str> = CALLS.iter().map(|call| call.name).chain(DESCRIBE.iter().copied()).collect();
    let missing: Vec<&String> = names.iter().filter(|name| !known.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "not in the table of calls: {missing:?}");
}

fn run(subject: &mut Subject, call: &Call) -> Result<()> {
    let mut encoder = subject.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let outcome = (call.run)(subject, &mut encoder);
    // A call that failed recorded nothing that the caller could not submit; and a lost device takes every submission.
    subject.gpu.queue.submit([encoder.finish()]);
    outcome
}

#[test]
fn every_call_on_a_lost_device() {
    for call in CALLS {
        let mut subject = subject(call.kind);
        subject.gpu.device.destroy();
        for again in [false, true] {
            let name = call.name;
            if again {
                // Now wgpu destroys the buffers of the device.
                subject.gpu.wait().unwrap_err();
            }
            match (call.lost, run(&mut subject, call)) {
                (Fails, Err(Error::DeviceLost(why))) => assert!(why.contains("it takes no more work"), "{name}: {why}"),
                (Works, Ok(())) => {}
                (_, outcome) => panic!("{name}, again: {again}: {outcome:?}"),
            }
        }
    }
}

#[test]
fn every_call_with_destroyed_buffers() {
    for call in CALLS {
        let mut subject = subject(call.kind);
        [&subject.params, &subject.grads, &subject.mask].into_iter().for_each(wgpu::Buffer::destroy);
        let name = call.name;
        match (call.destroyed, run(&mut subject, call)) {
            (Fails, Err(error)) => {
                let text = error.to_string();
                assert!(text.contains("the buffer ") && text.contains(" was destroyed"), "{name}: {text}");
            }
            (Works, Ok(())) => {}
            (_, outcome) => panic!("{name}: {outcome:?}"),
        }
    }
}

/// Each kind of buffer alone is named.
#[test]
fn a_destroyed_buffer_is_named() {
    let names = [
        "tensor `w`: the buffer of its parameters",
        "tensor `w`: the buffer of its gradients",
        "row set `set`: the buffer of its mask",
    ];
    for (which, name) in names.into_iter().enumerate() {
        let mut subject = subject(Kind::Rows);
        [&subject.params, &subject.grads, &subject.mask][which].destroy();
        let texts = ["step", "build"].map(|wanted| {
            let call = CALLS.iter().find(|call| call.name == wanted).unwrap();
            run(&mut subject, call).unwrap_err().to_string()
        });
        for text in texts {
            assert!(text.contains(name) && text.contains("was destroyed"), "{text}");
        }
    }
    let mut subject = subject(Kind::Rows);
    let words = buffer(&subject.gpu);
    words.destroy();
    let rows = subject.rows.unwrap();
    let remapped = subject.gpu.run(|encoder| subject.optimizer.remap(encoder, rows, words.slice(..), 8));
    assert!(remapped.unwrap_err().to_string().contains("the buffer of its indices was destroyed"));
    let reset = subject.gpu.run(|encoder| subject.optimizer.reset_rows(encoder, rows, words.slice(..)));
    assert!(reset.unwrap_err().to_string().contains("the buffer of its flags was destroyed"));
    assert_eq!(subject.optimizer.row_count(rows).unwrap(), 8);
}

/// What was recorded before the device was lost is submitted after it.
#[test]
fn a_device_that_is_lost_between_recording_and_submission() {
    let mut subject = subject(Kind::Plain);
    let mut encoder = subject.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    for _ in 0..3 {
        subject.optimizer.step(&mut encoder).unwrap();
    }
    let snapshot = subject.optimizer.snapshot(&mut encoder).unwrap();
    subject.gpu.device.destroy();
    subject.gpu.queue.submit([encoder.finish()]);
    assert!(subject.optimizer.try_stats().is_none());
    let lost = block_on(snapshot.checkpoint()).unwrap_err();
    assert!(matches!(lost, Error::DeviceLost(_)), "{lost}");
}

/// The device is lost while copies are on their way, and while the host holds one that arrived.
#[test]
fn a_device_that_is_lost_while_copies_are_under_way() {
    for wait in [false, true] {
        let mut subject = subject(Kind::Plain);
        let mut encoder = subject.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        subject.optimizer.step(&mut encoder).unwrap();
        let snapshot = subject.optimizer.snapshot(&mut encoder).unwrap();
        subject.gpu.queue.submit([encoder.finish()]);
        if wait {
            subject.gpu.wait().unwrap();
        }
        subject.gpu.device.destroy();
        let _ = subject.optimizer.try_stats();
        let _ = block_on(snapshot.checkpoint());
        let _ = subject.gpu.wait();
        assert!(subject.optimizer.try_stats().is_none());
        assert!(subject.gpu.run(|encoder| subject.optimizer.step(encoder)).is_err());
    }
}

/// Objects of another device of the same instance, and of another instance.
#[test]
fn objects_of_another_device_are_named() {
    let (_instance, stranger) =
        crate::engine::own_instance(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    // The other instance gives the numbers that wgpu looks up here too.
    let _plugs: Vec<wgpu::Buffer> = (0..64).map(|_| buffer(&stranger)).collect();
    for other in [&open(|_| ()), &stranger] {
        let foreign = "belongs to another device";
        let theirs = buffer(other);
        let names = [
            "tensor `w`: the buffer of its parameters",
            "tensor `w`: the buffer of its gradients",
            "row set `set`: the buffer of its mask",
        ];
        let here = open(|_| ());
        let ours = [(); 3].map(|()| buffer(&here));
        for (which, name) in names.into_iter().enumerate() {
            let mut buffers = [&ours[0], &ours[1], &ours[2]];
            buffers[which] = &theirs;
            let refused = builder(Kind::Rows, buffers).0.build(&here.device, &here.queue).unwrap_err().to_string();
            assert!(refused.contains(name) && refused.contains(foreign), "{refused}");
        }
        let refused = builder(Kind::Rows, [&ours[0], &ours[1], &ours[2]]).0.build(&here.device, &other.queue);
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("the queue belongs to another device"), "{refused}");

        for (queue, buffer, name) in [
            (&other.queue, &ours[0], "the queue belongs to another device"),
            (&here.queue, &theirs, "the buffer to read belongs to another device"),
        ] {
            let refused = block_on(read_buffer(&here.device, queue, buffer.slice(..))).unwrap_err().to_string();
            assert!(refused.contains(name), "{refused}");
        }

        let mut dynamic = subject(Kind::Dynamic);
        let w = dynamic.w;
        let mut encoder = dynamic.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let steps = [
            dynamic.optimizer.step_with_grads(&mut encoder, [(w, theirs.slice(..))]),
            dynamic.optimizer.accumulate_with_grads(&mut encoder, [(w, theirs.slice(..))]),
            dynamic.optimizer.begin_step().and_then(|mut step| step.set_grads([(w, theirs.slice(..))])),
        ];
        for refused in steps.map(|step| step.unwrap_err().to_string()) {
            assert!(refused.contains("tensor `w`: the buffer of its gradients belongs to another device"), "{refused}");
        }
        dynamic.gpu.queue.submit([encoder.finish()]);

        let mut rows = subject(Kind::Rows);
        let set = rows.rows.unwrap();
        let mut encoder = rows.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let indices = rows.optimizer.remap(&mut encoder, set, theirs.slice(..), 8).unwrap_err().to_string();
        let flags = rows.optimizer.reset_rows(&mut encoder, set, theirs.slice(..)).unwrap_err().to_string();
        assert!(indices.contains("its indices belongs to another device"), "{indices}");
        assert!(flags.contains("its flags belongs to another device"), "{flags}");
        rows.gpu.queue.submit([encoder.finish()]);
        rows.gpu.run(|encoder| rows.optimizer.step(encoder)).unwrap();
    }
}
