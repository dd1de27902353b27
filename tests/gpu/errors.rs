//! Bad input gives an error that names the thing, its value and the expected value, and changes nothing.

use wgpu_optim::optim::{AdamW, FlowAdam, Integrator, SAdam, Sgd, Value, find};
use wgpu_optim::tools::adapter::{Gpu, Selector};
use wgpu_optim::{Builder, Error, Group, Optimizer, Result, Tensor, wgpu};

use crate::common::{adapter, block_on, gpu, open, read, same};

const USAGE: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_SRC).union(wgpu::BufferUsages::COPY_DST);

fn buffer_on(gpu: &Gpu, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
    let label = Some("theirs");
    gpu.device.create_buffer(&wgpu::BufferDescriptor { label, size, usage, mapped_at_creation: false })
}

pub(crate) fn buffer(size: u64) -> wgpu::Buffer {
    buffer_on(gpu(), size, USAGE)
}

fn builder() -> Builder {
    Optimizer::builder(AdamW::default())
}

/// The error's text must hold all of `parts`.
#[track_caller]
pub(crate) fn says<T>(result: Result<T>, parts: &[&str]) {
    let Err(error) = result else { panic!("no error, expected {parts:?}") };
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in `{text}`");
    }
}

#[track_caller]
pub(crate) fn refuses(builder: Builder, parts: &[&str]) {
    says(builder.build(&gpu().device, &gpu().queue), parts);
    // The build that waits for the device says the same.
    says(block_on(builder.build_async(&gpu().device, &gpu().queue)), parts);
}

/// A builder with one tensor of 10 elements, bound to these ranges of two new buffers.
fn bound(buffer_size: u64, param: std::ops::Range<u64>, grad: std::ops::Range<u64>) -> Builder {
    let (params, grads) = (buffer(buffer_size), buffer(buffer_size));
    let mut builder = builder();
    builder.bind(Group::DEFAULT, "w", &[5, 2], params.slice(param), grads.slice(grad));
    builder
}

#[test]
fn ranges_that_do_not_fit() {
    bound(48, 0..40, 0..40).build(&gpu().device, &gpu().queue).expect("this fits exactly");
    refuses(bound(64, 0..36, 0..40), &["tensor `w`", "parameters have 36 bytes", "[5, 2] needs 40"]);
    refuses(bound(64, 0..40, 0..44), &["tensor `w`", "gradients have 44 bytes", "[5, 2] needs 40"]);
    refuses(bound(64, 8..48, 0..40), &["tensor `w`", "parameters begin at byte 8", "multiple of 16"]);
    refuses(bound(64, 0..40, 20..60), &["tensor `w`", "gradients begin at byte 20", "multiple of 16"]);
    refuses(bound(40, 0..40, 0..40), &["tensor `w`", "end at byte 48", "the buffer has 40", "8 bytes longer"]);
    refuses(bound(60, 0..40, 16..56), &["tensor `w`", "gradients", "end at byte 64", "the buffer has 60"]);
}

#[test]
fn ranges_that_overlap() {
    let page = buffer(256);
    let other = buffer(256);
    let two = |second: std::ops::Range<u64>| {
        let mut builder = builder();
        builder.bind(Group::DEFAULT, "first", &[10], page.slice(32..72), other.slice(0..40));
        builder.bind(Group::DEFAULT, "second", &[4], page.slice(second), other.slice(64..80));
        builder
    };
    for free in [80..96, 16..32] {
        two(free).build(&gpu().device, &gpu().queue).expect("these do not overlap");
    }
    // A range inside the first, a range with the same start, and a range in the last vec4 of the first tensor.
    for taken in [48..64, 32..48, 64..80] {
        let range = format!("{taken:?}");
        refuses(two(taken), &["tensor `second`", "parameters", &range, "the parameters of `first`", "32..80"]);
    }
    let mut builder = builder();
    builder.bind(Group::DEFAULT, "w", &[8], page.slice(0..32), page.slice(16..48));
    refuses(builder, &["tensor `w`", "gradients at bytes 16..48", "the parameters of `w` at bytes 0..32"]);
    let mut builder = self::builder();
    builder.bind(Group::DEFAULT, "a", &[4], page.slice(0..16), other.slice(0..16));
    builder.bind(Group::DEFAULT, "b", &[4], page.slice(32..48), other.slice(0..16));
    refuses(builder, &["tensor `b`", "gradients at bytes 0..16", "the gradients of `a`"]);
}

#[test]
fn empty_tensors_and_groups_are_valid() {
    let page = buffer(64);
    let mut builder = builder();
    let empty = builder.group("nobody's", AdamW::default());
    builder.bind(Group::DEFAULT, "a", &[4], page.slice(0..16), page.slice(16..32));
    builder.bind(empty, "b", &[0, 3], page.slice(0..0), page.slice(16..16));
    builder.bind(empty, "c", &[2, 0], page.slice(0..16), page.slice(..));
    builder.tensor(empty, "d", &[0]);
    let mut optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
    let a = optimizer.tensor("a").unwrap();
    optimizer.write_param(a, &[1.0; 4]).unwrap();
    optimizer.write_grad(a, &[1.0; 4]).unwrap();
    gpu().run(|encoder| optimizer.step(encoder)).unwrap();
    assert!(block_on(optimizer.read_param(a)).unwrap().iter().all(|x| *x < 1.0));
    for name in ["b", "c", "d"] {
        let tensor = optimizer.tensor(name).unwrap();
        assert!(block_on(optimizer.read_param(tensor)).unwrap().is_empty(), "{name}");
        assert!(block_on(optimizer.read_state(tensor, "m")).unwrap().is_empty(), "{name}");
        optimizer.write_param(tensor, &[]).unwrap();
    }
    let nothing = Optimizer::builder(AdamW::default()).build(&gpu().device, &gpu().queue);
    says(nothing, &["the builder has no tensor"]);
    let mut only_empty = self::builder();
    only_empty.tensor(Group::DEFAULT, "e", &[0]);
    let mut only_empty = only_empty.build(&gpu().device, &gpu().queue).unwrap();
    gpu().run(|encoder| only_empty.step(encoder)).unwrap();
}

#[test]
fn usages_that_are_missing() {
    let (plain, storage) = (buffer_on(gpu(), 64, wgpu::BufferUsages::COPY_SRC), buffer(64));
    let mut builder = builder();
    builder.bind(Group::DEFAULT, "w", &[4], plain.slice(0..16), storage.slice(0..16));
    refuses(builder, &["tensor `w`", "parameters", "COPY_SRC", "needs STORAGE"]);
    let mut builder = self::builder();
    builder.bind(Group::DEFAULT, "w", &[4], storage.slice(0..16), plain.slice(0..16));
    refuses(builder, &["tensor `w`", "gradients", "COPY_SRC", "needs STORAGE"]);
    let bare = buffer_on(gpu(), 64, wgpu::BufferUsages::STORAGE);
    let mut builder = self::builder();
    let w = builder.bind(Group::DEFAULT, "w", &[4], bare.slice(0..16), bare.slice(16..32));
    let optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
    says(block_on(optimizer.read_param(w)), &["tensor `w`", "STORAGE", "needs COPY_SRC"]);
    says(block_on(optimizer.read_grad(w)), &["tensor `w`", "STORAGE", "needs COPY_SRC"]);
    says(optimizer.write_param(w, &[0.0; 4]), &["tensor `w`", "STORAGE", "needs COPY_DST"]);
    says(optimizer.write_grad(w, &[0.0; 4]), &["tensor `w`", "STORAGE", "needs COPY_DST"]);
}

#[test]
fn buffers_of_another_device() {
    let other = open(|_| ());
    let theirs = buffer_on(&other, 64, USAGE);
    let mut builder = builder();
    builder.bind(Group::DEFAULT, "w", &[4], theirs.slice(0..16), theirs.slice(16..32));
    refuses(builder, &["tensor `w`", "parameters", "another device"]);
    let ours = buffer(64);
    let mut builder = self::builder();
    builder.bind(Group::DEFAULT, "w", &[4], ours.slice(0..16), theirs.slice(16..32));
    refuses(builder, &["tensor `w`", "gradients", "another device"]);
    let mut builder = self::builder();
    let w = builder.bind_param(Group::DEFAULT, "w", &[4], ours.slice(0..16));
    let mut optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
    let stepped = gpu().run(|encoder| optimizer.step_with_grads(encoder, [(w, theirs.slice(0..16))]));
    says(stepped, &["tensor `w`", "gradients", "another device"]);
}

#[test]
fn names_given_twice() {
    let mut builder = builder();
    builder.tensor(Group::DEFAULT, "w", &[4]);
    builder.tensor(Group::DEFAULT, "w", &[4]);
    refuses(builder, &["tensor `w`", "twice"]);
    let mut builder = self::builder();
    builder.group("biases", AdamW::default());
    builder.group("biases", AdamW::default());
    refuses(builder, &["group `biases`", "twice"]);
    let mut builder = self::builder();
    builder.group("default", AdamW::default());
    refuses(builder, &["group `default`", "twice"]);
}

#[test]
fn groups_of_different_rules() {
    let mut builder = Optimizer::builder(SAdam::default());
    builder.group("other", FlowAdam { integrator: Integrator::Rk4, ..FlowAdam::default() });
    refuses(builder, &["group `other`", "flowadam", "sadam", "both evaluate the objective"]);
    let mut big = self::builder();
    let foreign = (0..3).map(|i| big.group(i.to_string(), AdamW::default())).last().unwrap();
    let mut builder = self::builder();
    builder.tensor(foreign, "w", &[4]);
    refuses(builder, &["the handle of a group belongs to another optimizer"]);
}

#[test]
fn settings_out_of_range() {
    for (rule, parts) in [
        (AdamW { lr: -1.0, ..AdamW::default() }, ["adamw", "lr is -1", "at least 0"]),
        (AdamW { lr: f64::NAN, ..AdamW::default() }, ["adamw", "lr is NaN", "finite"]),
        (AdamW { beta1: 1.0, ..AdamW::default() }, ["adamw", "beta1 is 1", "[0, 1)"]),
        (AdamW { beta2: -0.1, ..AdamW::default() }, ["adamw", "beta2 is -0.1", "[0, 1)"]),
        (AdamW { eps: 0.0, ..AdamW::default() }, ["adamw", "eps is 0", "at least 1e-30"]),
        (AdamW { weight_decay: f64::INFINITY, ..AdamW::default() }, ["adamw", "weight_decay is inf", "finite"]),
    ] {
        refuses(Optimizer::builder(rule), &parts);
        let mut builder = builder();
        builder.group("second", rule);
        refuses(builder, &parts);
    }
    refuses(Optimizer::builder(Sgd { nesterov: true, ..Sgd::default() }), &["sgd", "momentum is 0", "nesterov"]);
    says(find("adamw").unwrap().configure([("eps", Value::Number(-1.0))]), &["adamw", "eps is -1"]);
    says(find("adai").unwrap().configure([]), &["adai", "lr", "must be given"]);
}

#[test]
fn unknown_names() {
    says(find("adamww").map(|e| e.name), &["optimizer `adamww`", "did you mean `adamw`", "lion"]);
    says(find("AdamW").map(|e| e.name), &["optimizer `AdamW`", "did you mean `adamw`"]);
    says(find("zzzzzzzz").map(|e| e.name), &["optimizer `zzzzzzzz`", "known:"]);
    let entry = find("adamw").unwrap();
    says(entry.configure([("betal", Value::Number(0.5))]), &["setting of adamw `betal`", "did you mean `beta1`"]);
    says(entry.configure([("lr", Value::Word("fast".to_owned()))]), &["adamw", "lr is fast", "a number"]);
    let (mut optimizer, w) = small();
    says(optimizer.set(Group::DEFAULT, "weigt_decay", &Value::Number(0.1)), &["`weigt_decay`", "`weight_decay`"]);
    says(block_on(optimizer.read_state(w, "n")), &["state of tensor `w` `n`", "`m`", "known: m, v"]);
    says(optimizer.write_state(w, "v_max", &[0.0; 4]), &["state of tensor `w` `v_max`"]);
    says(optimizer.write_param(w, &[0.0; 5]), &["tensor `w`", "5 values", "[2, 2] has 4"]);
    says(optimizer.write_grad(w, &[0.0; 3]), &["tensor `w`", "3 values", "[2, 2] has 4"]);
    says(optimizer.write_state(w, "m", &[0.0; 3]), &["tensor `w`", "3 values", "[2, 2] has 4"]);
}

fn small() -> (Optimizer, Tensor) {
    let mut builder = builder();
    let w = builder.tensor(Group::DEFAULT, "w", &[2, 2]);
    (builder.build(&gpu().device, &gpu().queue).unwrap(), w)
}

#[test]
fn gradients_that_cannot_be_rebound_there() {
    let (params, grads) = (buffer(64), buffer(256));
    let mut builder = builder();
    let a = builder.bind(Group::DEFAULT, "a", &[4], params.slice(0..16), grads.slice(0..16));
    let b = builder.bind_param(Group::DEFAULT, "b", &[4], params.slice(16..32));
    let mut optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
    optimizer.write_param(a, &[1.0; 4]).unwrap();
    optimizer.write_grad(a, &[1.0; 4]).unwrap();
    let before = read(&optimizer);
    let good = grads.slice(16..32);
    let plain = buffer_on(gpu(), 64, wgpu::BufferUsages::COPY_DST);
    let mut step = |given: &[(Tensor, wgpu::BufferSlice<'_>)], parts: &[&str]| {
        says(gpu().run(|encoder| optimizer.step_with_grads(encoder, given.iter().copied())), parts);
        same("refused", &before, &read(&optimizer));
    };
    step(&[], &["tensor `b`", "no gradient"]);
    step(&[(b, params.slice(32..48))], &["tensor `b`", "buffer of parameters"]);
    step(&[(b, good), (b, good)], &["`b`", "twice"]);
    step(&[(b, grads.slice(16..36))], &["tensor `b`", "20 bytes", "needs 16"]);
    step(&[(b, grads.slice(20..36))], &["tensor `b`", "begin at byte 20", "multiple of 16"]);
    step(&[(b, plain.slice(0..16))], &["tensor `b`", "COPY_DST", "needs STORAGE"]);
    let (mut fixed, w) = small();
    says(gpu().run(|encoder| fixed.step_with_grads(encoder, [(w, good)])), &["dynamic_gradients(true)"]);
    gpu().run(|encoder| optimizer.step_with_grads(encoder, [(b, good)])).unwrap();
    assert_eq!(block_on(optimizer.read_step_count()).unwrap(), 1);
    says(optimizer.grad(b).map(|_| ()), &["tensor `b`", "without gradients"]);
    says(block_on(optimizer.read_grad(b)), &["tensor `b`", "without gradients"]);
    says(
        gpu().run(|encoder| optimizer.record_sums(encoder)),
        &["dynamic gradients has no halves", "call step_with_grads"],
    );
}

/// Gradients in the buffer of the parameters share the binding of the parameters; with dynamic gradients they cannot.
#[test]
fn rebound_gradients_beside_their_parameters() {
    let page = buffer(64);
    let mut builder = builder();
    builder.dynamic_gradients(true);
    builder.bind(Group::DEFAULT, "w", &[4], page.slice(0..16), page.slice(16..32));
    let stepped = builder
        .build(&gpu().device, &gpu().queue)
        .and_then(|mut optimizer| gpu().run(|encoder| optimizer.step(encoder)));
    says(stepped, &["tensor `w`", "buffer of parameters"]);
}

#[test]
fn devices_with_limits_too_low() {
    type Lower = fn(&mut wgpu::Limits);
    let lowered: [(&str, Lower, &str); 5] = [
        ("max_storage_buffers_per_shader_stage", |l| l.max_storage_buffers_per_shader_stage = 4, "7"),
        ("max_compute_invocations_per_workgroup", |l| l.max_compute_invocations_per_workgroup = 64, "256"),
        ("max_compute_workgroup_size_x", |l| l.max_compute_workgroup_size_x = 128, "256"),
        ("max_compute_workgroup_storage_size", |l| l.max_compute_workgroup_storage_size = 8192, "16384"),
        ("max_storage_buffer_binding_size", |l| l.max_storage_buffer_binding_size = 1 << 16, "at least"),
    ];
    for (limit, lower, needs) in lowered {
        let gpu = open(lower);
        let mut builder = builder();
        builder.tensor(Group::DEFAULT, "w", &[4]);
        says(builder.build(&gpu.device, &gpu.queue), &["the device's", limit, needs]);
    }
    let gpu = open(|l| l.max_compute_workgroups_per_dimension = 4);
    let mut builder = builder();
    builder.tensor(Group::DEFAULT, "w", &[17 * 1024]);
    says(builder.build(&gpu.device, &gpu.queue), &["max_compute_workgroups_per_dimension is 4", "at least 5"]);
    let gpu = open(|l| (l.max_buffer_size, l.max_storage_buffer_binding_size) = (1 << 21, 1 << 21));
    let mut builder = self::builder();
    let w = builder.tensor(Group::DEFAULT, "w", &[1 << 20]);
    let text = ["tensor `w`: its parameters", "max_buffer_size is 2097152", "at least 4194304", "into 2 tensors"];
    says(builder.build(&gpu.device, &gpu.queue), &text);
    says(builder.build(&gpu.device, &gpu.queue), &["half precision", "which takes 2097152 bytes"]);
    // The advice is right.
    builder.tensor_storage(w, "bf16-sr".parse().unwrap());
    builder.build(&gpu.device, &gpu.queue).expect("half precision fits");
    let mut builder = self::builder();
    builder.tensor(Group::DEFAULT, "v", &[(1 << 20) + 1]);
    let error = builder.build(&gpu.device, &gpu.queue).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("tensor `v`") && error.contains("into 3 tensors") && !error.contains("half"), "{error}");
}

#[test]
fn tensors_too_large_to_count() {
    let mut builder = builder();
    builder.tensor(Group::DEFAULT, "w", &[usize::MAX, 3]);
    refuses(builder, &["tensor `w`", "more than 4294967292 elements"]);
    let mut builder = self::builder();
    builder.tensor(Group::DEFAULT, "w", &[1 << 16, 1 << 16]);
    refuses(builder, &["tensor `w`", "more than 4294967292 elements"]);
}

/// Where a dimension is 0, the other dimensions may overflow without an element.
#[test]
fn shapes_whose_rows_overflow() {
    let rows = "has rows of more than 4294967292 elements";
    for shape in [&[0, usize::MAX][..], &[0, usize::MAX, 2], &[0, 1 << 20, 1 << 20], &[0, 1 << 33, 1 << 31]] {
        let mut builder = builder();
        let narrow = builder.tensor(Group::DEFAULT, "narrow", &[0, 2]);
        let wide = builder.tensor(Group::DEFAULT, "wide", shape);
        builder.column_rates(narrow, &[1.0, 0.5]);
        builder.row_set("set", &[narrow, wide]);
        says(builder.build_cpu::<f32>(), &["tensor `wide`", rows]);
        refuses(builder, &["tensor `wide`", rows]);
    }
    // The product of the last one is 2^64, of which u64 would keep 0.
    for shape in [&[usize::MAX][..], &[usize::MAX, 3], &[1 << 33, 1 << 31]] {
        let mut builder = builder();
        builder.tensor(Group::DEFAULT, "w", shape);
        says(builder.build_cpu::<f64>(), &["tensor `w`", "more than 4294967292 elements"]);
    }
    let mut builder = builder();
    let narrow = builder.tensor(Group::DEFAULT, "narrow", &[0, 2]);
    let empty = builder.tensor(Group::DEFAULT, "empty", &[0, u32::MAX as usize - 3]);
    builder.column_rates(narrow, &[1.0, 0.5]);
    builder.row_set("set", &[narrow, empty]);
    builder.tensor(Group::DEFAULT, "none", &[usize::MAX, 2, 0]);
    builder.build(&gpu().device, &gpu().queue).expect("it has no element");
}

/// A rebound gradient is bound in one piece.
#[test]
fn a_rebound_gradient_longer_than_a_binding() {
    let gpu = open(|limits| limits.max_storage_buffer_binding_size = 5 << 18);
    let bytes = 400_000 * 4;
    let (params, grads) = (buffer_on(&gpu, bytes, USAGE), buffer_on(&gpu, bytes, USAGE));
    let mut builder = builder();
    let w = builder.bind_param(Group::DEFAULT, "w", &[400_000], params.slice(..));
    let mut optimizer = builder.build(&gpu.device, &gpu.queue).unwrap();
    let stepped = gpu.run(|encoder| optimizer.step_with_grads(encoder, [(w, grads.slice(..))]));
    says(stepped, &["tensor `w`", "max_storage_buffer_binding_size is 1310720", "1600000"]);
}

#[test]
fn a_destroyed_device() {
    let gpu = open(|_| ());
    let mut builder = builder();
    let w = builder.tensor(Group::DEFAULT, "w", &[4]);
    let mut optimizer = builder.clone().build(&gpu.device, &gpu.queue).unwrap();
    gpu.device.destroy();
    let lost = |error: Error| assert!(matches!(error, Error::DeviceLost(_)), "{error}");
    lost(gpu.wait().unwrap_err());
    lost(builder.build(&gpu.device, &gpu.queue).unwrap_err());
    lost(block_on(optimizer.read_param(w)).unwrap_err());
    lost(block_on(optimizer.read_state(w, "m")).unwrap_err());
    lost(block_on(optimizer.read_step_count()).unwrap_err());
    lost(gpu.run(|encoder| optimizer.step(encoder)).unwrap_err());
    assert!(gpu.lost().is_some());
}

/// The test's way to run out of memory depends on the adapter. A software GPU uses the memory of the process, which can be bounded;
/// hardware has a budget. Metal has neither.
#[cfg(not(target_vendor = "apple"))]
#[test]
fn memory_that_runs_out_is_named() {
    if cfg!(target_os = "linux") && gpu().info.device_type == wgpu::DeviceType::Cpu {
        refused_in_a_bounded_process();
    } else {
        refused_past_a_budget();
    }
}

fn refused_past_a_budget() {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
    descriptor.memory_budget_thresholds.for_resource_creation = Some(5);
    let (_instance, gpu) = crate::engine::own_instance(descriptor);
    let elements = (gpu.device.limits().max_buffer_size / 4) as usize;
    let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    drop(buffer_on(&gpu, elements as u64 * 4, USAGE));
    assert!(block_on(scope.pop()).is_some(), "the driver has no budget and refuses no buffer");
    let mut builder = builder();
    builder.label("mine");
    builder.tensor(Group::DEFAULT, "w", &[elements]);
    let error = builder.build(&gpu.device, &gpu.queue).unwrap_err();
    assert!(matches!(&error, Error::OutOfMemory { bytes, .. } if *bytes >= elements as u64 * 4), "{error}");
    says(Err::<(), _>(error), &["out of GPU memory", "mine parameters"]);
}

const CHILD: &str = "WGPU_OPTIM_CHILD_WITHOUT_MEMORY";

/// Runs in a process with little memory: builds twice as many tensors each time, until there is no memory for a buffer.
#[test]
#[ignore = "memory_that_runs_out_is_named runs it in a bounded process"]
fn child_that_runs_out_of_memory() {
    assert!(std::env::var_os(CHILD).is_some(), "only in the process that memory_that_runs_out_is_named bounds");
    let gpu = open(|_| ());
    let build = |tensors: usize| {
        let mut builder = builder();
        builder.label("mine");
        for i in 0..tensors {
            builder.tensor(Group::DEFAULT, i.to_string(), &[1 << 20]);
        }
        builder.build(&gpu.device, &gpu.queue)
    };
    let refusal = (0..14).find_map(|doublings| {
        let refusal = build(1 << doublings).err();
        gpu.wait().unwrap();
        refusal
    });
    println!("refusal: {}", refusal.expect("16 GiB of parameters are refused"));
    build(1).expect("a smaller optimizer builds after the refusal");
}

fn refused_in_a_bounded_process() {
    let script = "ulimit -v 4000000; exec \"$0\" --exact errors::child_that_runs_out_of_memory --ignored --nocapture";
    let test = std::env::current_exe().unwrap();
    let output = std::process::Command::new("sh").args(["-c", script]).arg(test).env(CHILD, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let (_, refusal) = text.split_once("refusal: out of GPU memory while creating mine ").expect(&text);
    let refusal = refusal.lines().next().unwrap();
    let roles = ["parameters ", "gradients ", "state arena ", "table of "];
    assert!(roles.iter().any(|role| refusal.starts_with(role)), "{refusal}");
    assert_eq!(refusal.starts_with("state arena "), refusal.contains(" (state m, state v) of "), "{refusal}");
    println!("{refusal}");
}

#[test]
fn no_such_adapter() {
    let selector = Selector { adapter: Some("no such adapter".to_owned()), ..Selector::default() };
    says(block_on(selector.find()).map(|_| ()), &["no GPU adapter", "`no such adapter`", &adapter().get_info().name]);
}

#[test]
fn a_destroyed_optimizer_gives_its_memory_back_and_not_the_callers() {
    let (param, grad) = (buffer(64), buffer(64));
    let mut builder = builder();
    builder.bind(Group::DEFAULT, "theirs", &[16], param.slice(..), grad.slice(..));
    let own = builder.tensor(Group::DEFAULT, "own", &[16]);
    let optimizer = block_on(builder.build_async(&gpu().device, &gpu().queue)).unwrap();
    let kept = optimizer.param(own).unwrap().buffer().clone();
    let read = |buffer: &wgpu::Buffer| block_on(wgpu_optim::read_buffer(&gpu().device, &gpu().queue, buffer.slice(..)));
    assert_eq!(read(&kept).unwrap(), vec![0; 64]);
    optimizer.destroy();
    assert!(read(&kept).is_err(), "a clone keeps a destroyed buffer alive");
    assert_eq!(read(&param).unwrap(), vec![0; 64]);
}

#[test]
fn steps_follow_a_read_that_is_not_awaited_yet() {
    let mut builder = Optimizer::builder(Sgd { lr: 1.0, ..Sgd::default() });
    let w = builder.tensor(Group::DEFAULT, "w", &[5]);
    let mut optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
    optimizer.write_grad(w, &[1.0; 5]).unwrap();
    let mut reads = Vec::new();
    for _ in 0..3 {
        gpu().run(|encoder| optimizer.step(encoder)).unwrap();
        reads.push((optimizer.read_param(w), optimizer.read_step_count()));
    }
    drop(optimizer);
    for (at, (param, count)) in (1..).zip(reads) {
        assert_eq!(block_on(param).unwrap(), [-(at as f32); 5]);
        assert_eq!(block_on(count).unwrap(), at);
    }
}
