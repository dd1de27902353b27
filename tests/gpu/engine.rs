//! The guarantees of the engine beyond right numbers: encoders, counts, rates, determinism, no resources created after construction.

use wgpu_optim::optim::{ALL, Adai, AdaiW, AdamW, Lamb, Rule, VRAdam, Value};
use wgpu_optim::tools::adapter::Gpu;
use wgpu_optim::tools::verify::{Outcome, Problem};
use wgpu_optim::{Accumulate, Clip, Ema, Error, Group, LossScale, Optimizer, wgpu};

use crate::common::{adapter, block_on, check, deal, encoder, gpu, groups, read, same, submit, take};

const SIZES: &[usize] = &[5, 1025, 700, 3, 20_000];

fn problem(rule: &dyn Rule, applied: u32) -> Problem {
    Problem::random(groups(rule, 2), &deal(SIZES, 2), applied, 5).unwrap()
}

fn build(problem: &Problem) -> Optimizer {
    let mut optimizer = problem.build(&gpu().device, &gpu().queue).unwrap();
    problem.upload(&mut optimizer).unwrap();
    optimizer
}

fn adamw() -> Box<dyn Rule> {
    AdamW { weight_decay: 0.1, ..AdamW::default() }.boxed()
}

fn applied(optimizer: &Optimizer) -> u64 {
    block_on(optimizer.read_step_count()).unwrap()
}

#[test]
fn two_steps_in_one_encoder_are_two_steps() {
    for entry in ALL {
        let problem = problem(entry.sample().as_ref(), 2);
        let (mut one, mut two) = (build(&problem), build(&problem));
        gpu().run(|encoder| one.step(encoder).and_then(|()| one.step(encoder))).unwrap();
        gpu().run(|encoder| two.step(encoder)).unwrap();
        let between = read(&two);
        gpu().run(|encoder| two.step(encoder)).unwrap();
        same(entry.name, &read(&one), &read(&two));
        check(entry.name, &problem.next(between), &read(&one));
        assert_eq!((applied(&one), applied(&two)), (4, 4), "{}", entry.name);
    }
}

#[test]
fn a_rate_set_between_two_steps_affects_the_second_only() {
    for entry in ALL {
        let problem = problem(entry.sample().as_ref(), 2);
        let (mut one, mut two) = (build(&problem), build(&problem));
        let mut encoder = encoder();
        one.step(&mut encoder).unwrap();
        one.set_lr(Group::DEFAULT, 0.25).unwrap();
        one.step(&mut encoder).unwrap();
        submit(encoder);
        gpu().run(|encoder| two.step(encoder)).unwrap();
        check(entry.name, &problem, &read(&two));
        let mut second = problem.next(read(&two));
        two.set_lr(Group::DEFAULT, 0.25).unwrap();
        gpu().run(|encoder| two.step(encoder)).unwrap();
        same(entry.name, &read(&one), &read(&two));
        second.groups[0].set("lr", &Value::Number(0.25)).unwrap();
        check(entry.name, &second, &read(&one));
    }
}

fn with_lr(mut problem: Problem, lr: f64) -> Problem {
    problem.groups[0].set("lr", &Value::Number(lr)).unwrap();
    problem
}

#[test]
fn encoders_may_be_submitted_in_another_order_than_they_were_recorded() {
    let problem = problem(adamw().as_ref(), 2);
    let mut optimizer = build(&problem);
    let (mut first, mut second) = (encoder(), encoder());
    optimizer.set_lr(Group::DEFAULT, 0.5).unwrap();
    optimizer.step(&mut first).unwrap();
    optimizer.set_lr(Group::DEFAULT, 0.125).unwrap();
    optimizer.step(&mut second).unwrap();
    submit(second);
    let outcome = read(&optimizer);
    check("recorded second", &with_lr(problem.clone(), 0.125), &outcome);
    submit(first);
    check("recorded first", &with_lr(problem.next(outcome), 0.5), &read(&optimizer));
}

#[test]
fn a_dropped_encoder_changes_nothing() {
    for entry in ALL {
        let problem = problem(entry.sample().as_ref(), 2);
        let mut optimizer = build(&problem);
        let before = read(&optimizer);
        let mut dropped = encoder();
        optimizer.step(&mut dropped).unwrap();
        optimizer.set_lr(Group::DEFAULT, 0.5).unwrap();
        optimizer.step(&mut dropped).unwrap();
        drop(dropped);
        gpu().wait().unwrap();
        same(entry.name, &before, &read(&optimizer));
        assert_eq!(applied(&optimizer), 2, "{}", entry.name);
        gpu().run(|encoder| optimizer.step(encoder)).unwrap();
        check(entry.name, &with_lr(problem, 0.5), &read(&optimizer));
        assert_eq!(applied(&optimizer), 3, "{}", entry.name);
    }
}

#[test]
fn an_encoder_dropped_after_a_later_one_was_recorded_changes_nothing() {
    let problem = problem(adamw().as_ref(), 0);
    let mut optimizer = build(&problem);
    let mut dropped = encoder();
    optimizer.set_lr(Group::DEFAULT, 0.5).unwrap();
    optimizer.step(&mut dropped).unwrap();
    optimizer.set_lr(Group::DEFAULT, 0.125).unwrap();
    let mut kept = encoder();
    optimizer.step(&mut kept).unwrap();
    submit(kept);
    drop(dropped);
    let outcome = read(&optimizer);
    check("the first step", &with_lr(problem.clone(), 0.125), &outcome);
    gpu().run(|encoder| optimizer.step(encoder)).unwrap();
    check("the second", &with_lr(problem.next(outcome), 0.125), &read(&optimizer));
    assert_eq!(applied(&optimizer), 2);
}

#[test]
fn a_half_step_whose_encoder_is_dropped_changes_nothing() {
    let problem = problem(&VRAdam::default(), 2);
    let mut optimizer = build(&problem);
    let mut dropped = encoder();
    optimizer.record_sums(&mut dropped).unwrap();
    drop(dropped);
    gpu().run(|encoder| optimizer.step(encoder)).unwrap();
    check("vradam", &problem, &read(&optimizer));
}

#[test]
fn the_same_bits_twice_and_on_a_fresh_device() {
    let fresh = crate::common::open(|_| ());
    for entry in ALL {
        let problem = problem(entry.sample().as_ref(), 2);
        let steps = |gpu: &Gpu| {
            let mut optimizer = problem.build(&gpu.device, &gpu.queue).unwrap();
            take(gpu, &mut optimizer, &problem);
            gpu.run(|encoder| optimizer.step(encoder)).unwrap();
            read(&optimizer)
        };
        let first = steps(gpu());
        same(entry.name, &first, &steps(gpu()));
        same(entry.name, &first, &steps(&fresh));
    }
}

/// The number of ids that wgpu gave to resources, by kind: buffers, bind groups, pipelines, and their parts.
fn made(instance: &wgpu::Instance) -> [usize; 6] {
    let report = instance.generate_report().expect("a native instance");
    let hub = report.hub_report();
    let kinds = [
        &hub.buffers,
        &hub.bind_groups,
        &hub.compute_pipelines,
        &hub.bind_group_layouts,
        &hub.pipeline_layouts,
        &hub.shader_modules,
    ];
    kinds.map(|kind| kind.num_kept_from_user + kind.num_released_from_user)
}

/// wgpu reuses the ids of dropped resources, so that a resource that is created and dropped would not show. This function takes the free
/// ids of buffers.
fn plug(instance: &wgpu::Instance, gpu: &Gpu) -> Vec<wgpu::Buffer> {
    let report = instance.generate_report().expect("a native instance");
    let hub = report.hub_report();
    assert_eq!(hub.bind_groups.num_released_from_user + hub.compute_pipelines.num_released_from_user, 0);
    (0..hub.buffers.num_released_from_user).map(|_| small_buffer(gpu)).collect()
}

fn small_buffer(gpu: &Gpu) -> wgpu::Buffer {
    let usage = wgpu::BufferUsages::STORAGE;
    gpu.device.create_buffer(&wgpu::BufferDescriptor { label: None, size: 16, usage, mapped_at_creation: false })
}

/// A separate instance, because reports count all resources of an instance.
pub(crate) fn own_instance(descriptor: wgpu::InstanceDescriptor) -> (wgpu::Instance, Gpu) {
    let instance = wgpu::Instance::new(descriptor);
    let wanted = adapter().get_info();
    let adapters = block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let chosen =
        adapters.into_iter().find(|a| a.get_info().name == wanted.name && a.get_info().backend == wanted.backend);
    let chosen = chosen.expect("the adapter is found again");
    let gpu = block_on(Gpu::with_limits(&chosen, chosen.limits())).unwrap();
    (instance, gpu)
}

#[test]
fn nothing_is_made_after_construction() {
    let (instance, gpu) = own_instance(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let (mut kept, mut optimizers) = (Vec::new(), Vec::new());
    for rule in [adamw(), VRAdam::default().boxed(), Lamb::default().boxed(), Adai::new(0.1).boxed()] {
        let problem = Problem::random(groups(rule.as_ref(), 2), &deal(SIZES, 2), 0, 5).unwrap();
        let mut optimizer = problem.build(&gpu.device, &gpu.queue).unwrap();
        problem.upload(&mut optimizer).unwrap();
        kept.extend(plug(&instance, &gpu));
        let before = made(&instance);
        for round in 0..40 {
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            optimizer.step(&mut encoder).unwrap();
            optimizer.set_lr(Group::DEFAULT, 1e-3 * f64::from(round + 1)).unwrap();
            optimizer.record_sums(&mut encoder).unwrap();
            optimizer.record_update(&mut encoder).unwrap();
            assert_eq!(before, made(&instance), "{} recorded, round {round}", rule.name());
            gpu.queue.submit([encoder.finish()]);
            assert_eq!(before, made(&instance), "{} submitted, round {round}", rule.name());
        }
        gpu.wait().unwrap();
        assert_eq!(before, made(&instance), "{}", rule.name());
        optimizers.push(optimizer);
    }
}

#[test]
fn rebound_gradients_make_bind_groups_only() {
    let (instance, gpu) = own_instance(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let problem = Problem::random(groups(adamw().as_ref(), 1), &deal(SIZES, 1), 0, 5).unwrap();
    let mut builder = Optimizer::builder(adamw());
    builder.dynamic_gradients(true);
    for (i, data) in problem.tensors.iter().enumerate() {
        builder.tensor(Group::DEFAULT, format!("{i}"), &data.shape);
    }
    let mut optimizer = builder.build(&gpu.device, &gpu.queue).unwrap();
    let before = made(&instance);
    for _ in 0..3 {
        gpu.run(|encoder| optimizer.step(encoder)).unwrap();
    }
    let after = made(&instance);
    for (kind, (before, after)) in before.iter().zip(after).enumerate() {
        assert!(kind == 1 || *before == after, "kind {kind}: {before} before, {after} after");
    }
}

#[test]
fn reports_see_what_is_made_and_dropped() {
    let (instance, gpu) = own_instance(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let before = made(&instance);
    drop(small_buffer(&gpu));
    assert_eq!(made(&instance)[0], before[0] + 1);
}

#[test]
fn dispatches_do_not_grow_with_tensors_and_groups() {
    let rules: [(Box<dyn Rule>, usize); 5] = [
        (adamw(), 1),
        (VRAdam::default().boxed(), 3),
        (Adai::new(0.1).boxed(), 3),
        (AdaiW::new(0.1).boxed(), 3),
        (Lamb::default().boxed(), 3),
    ];
    for (rule, expected) in rules {
        for count in [1, 300, 1000] {
            for group_count in [1, 4] {
                let sizes = vec![7; count];
                let problem =
                    Problem::random(groups(rule.as_ref(), group_count), &deal(&sizes, group_count), 0, 1).unwrap();
                let optimizer = problem.build(&gpu().device, &gpu().queue).unwrap();
                assert_eq!(optimizer.dispatches(), expected, "{} {count} {group_count}", rule.name());
            }
        }
    }
}

/// wgpu's default limits are enough for every rule with every option.
#[test]
fn default_limits_are_enough() {
    let gpu = crate::common::open(|limits| *limits = wgpu::Limits::default());
    for entry in ALL {
        let problem = problem(entry.sample().as_ref(), 2);
        let mut optimizer = problem.build(&gpu.device, &gpu.queue).unwrap();
        check(entry.name, &problem, &take(&gpu, &mut optimizer, &problem));
        for clip in [Clip::GlobalNorm(1.0), Clip::GroupNorm(1.0), Clip::TensorNorm(1.0)] {
            for moving in [false, true] {
                let mut builder = Optimizer::builder(entry.sample());
                builder.undamped_steps(true);
                builder.clip(clip).loss_scale(LossScale::default()).accumulate(Accumulate::Mean(2)).ema(Ema::default());
                builder.dynamic_gradients(moving).zero_grad(true).maximize(Group::DEFAULT);
                let w = builder.tensor(Group::DEFAULT, "w", &builder.sample_shape(Group::DEFAULT, 5000));
                let mut optimizer =
                    builder.build(&gpu.device, &gpu.queue).unwrap_or_else(|e| panic!("{}: {e}", entry.name));
                optimizer.write_param(w, &[1.0; 5000]).unwrap();
                optimizer.write_grad(w, &[1.0; 5000]).unwrap();
                gpu.run(|encoder| optimizer.accumulate(encoder).and_then(|()| optimizer.step(encoder))).unwrap();
                assert_eq!(block_on(optimizer.read_step_count()).unwrap(), 1, "{}", entry.name);
            }
        }
    }
}

#[test]
fn many_tensors_and_groups_are_right() {
    for rule in [adamw(), VRAdam::default().boxed(), Adai::new(0.1).boxed(), Lamb::default().boxed()] {
        let sizes: Vec<usize> = (0..300).map(|i| i % 37).collect();
        let problem = Problem::random(groups(rule.as_ref(), 4), &deal(&sizes, 4), 2, 1).unwrap();
        crate::parity::check_bound(gpu(), rule.name(), &problem, |_| (0, 1));
    }
}

/// A step that a rule refuses changes no bit, does not count, and does not shift the bias corrections.
#[test]
fn a_refused_step_leaves_no_trace() {
    let rule = AdaiW { weight_decay: 0.1, ..AdaiW::new(0.1) };
    let problem = Problem::random(groups(&rule, 2), &deal(SIZES, 2), 0, 5).unwrap();
    let mut optimizer = build(&problem);
    let before = read(&optimizer);
    let tensors: Vec<_> = optimizer.tensors().map(|(tensor, ..)| tensor).collect();
    let write = |optimizer: &Optimizer, factor: f32| {
        for (tensor, data) in tensors.iter().zip(&problem.tensors) {
            let grad: Vec<f32> = data.grad.iter().map(|g| g * factor).collect();
            optimizer.write_grad(*tensor, &grad).unwrap();
        }
    };
    write(&optimizer, 0.0);
    gpu().run(|encoder| optimizer.step(encoder).and_then(|()| optimizer.step(encoder))).unwrap();
    same("refused", &before, &read(&optimizer));
    assert_eq!(applied(&optimizer), 0);
    write(&optimizer, 1.0);
    gpu().run(|encoder| optimizer.step(encoder)).unwrap();
    check("after it", &problem, &read(&optimizer));
    assert_eq!(applied(&optimizer), 1);
}

#[test]
fn the_halves_are_the_step() {
    for entry in ALL {
        let problem = problem(entry.sample().as_ref(), 2);
        let (mut one, mut two) = (build(&problem), build(&problem));
        gpu().run(|encoder| one.step(encoder)).unwrap();
        let (mut sums, mut update) = (encoder(), encoder());
        two.record_sums(&mut sums).unwrap();
        two.record_update(&mut update).unwrap();
        submit(sums);
        submit(update);
        same(entry.name, &read(&one), &read(&two));
        assert!(matches!(two.record_update(&mut encoder()), Err(Error::Usage(_))), "{}", entry.name);
    }
}

/// Adds one buffer's first vec4s to another's.
fn add(gpu: &Gpu, from: &wgpu::Buffer, to: &wgpu::Buffer) {
    let source = "
        @group(0) @binding(0) var<storage, read> from_: array<vec4<f32>>;
        @group(0) @binding(1) var<storage, read_write> to_: array<vec4<f32>>;
        @compute @workgroup_size(1) fn main() { to_[0] += from_[0]; }";
    let device = &gpu.device;
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: None,
        source: wgpu::ShaderSource::Wgsl(source.into()),
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: None,
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    });
    let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[
            wgpu::BindGroupEntry { binding: 0, resource: from.as_entire_binding() },
            wgpu::BindGroupEntry { binding: 1, resource: to.as_entire_binding() },
        ],
    });
    gpu.run(|encoder| {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(1, 1, 1);
        Ok(())
    })
    .unwrap();
}

/// Two optimizers that share their norm are one optimizer of all their tensors.
#[test]
fn totals_of_two_optimizers_join() {
    let rule = VRAdam { lr_cutoff: 1e6, beta3: 0.1, ..VRAdam::default() };
    let whole = Problem::random(groups(&rule, 1), &deal(SIZES, 1), 2, 5).unwrap();
    let part = |range: std::ops::Range<usize>| Problem { tensors: whole.tensors[range].to_vec(), ..whole.clone() };
    let (mut a, mut b) = (build(&part(0..2)), build(&part(2..5)));
    gpu().run(|encoder| a.record_sums(encoder).and_then(|()| b.record_sums(encoder))).unwrap();
    let (of_a, of_b) = (a.totals().unwrap(), b.totals().unwrap());
    add(gpu(), of_b, of_a);
    gpu()
        .run(|encoder| {
            encoder.copy_buffer_to_buffer(of_a, 0, of_b, 0, 16);
            Ok(())
        })
        .unwrap();
    gpu().run(|encoder| a.record_update(encoder).and_then(|()| b.record_update(encoder))).unwrap();
    let mut tensors = read(&a).tensors;
    assert!(!part(0..2).compare(&read(&a)).passed(), "the norm of a part is not the norm of all");
    tensors.extend(read(&b).tensors);
    check("joined", &whole, &Outcome { tensors, ..read(&a) });
}

#[test]
fn numbers_may_be_set_and_structure_may_not() {
    let problem = problem(adamw().as_ref(), 2);
    let mut optimizer = build(&problem);
    for (name, x) in [("weight_decay", 0.3), ("lr", 0.02), ("eps", 1e-3), ("beta1", 0.5), ("beta2", 0.8)] {
        optimizer.set(Group::DEFAULT, name, &Value::Number(x)).unwrap();
    }
    gpu().run(|encoder| optimizer.step(encoder)).unwrap();
    let mut expected = problem.clone();
    let set = AdamW { lr: 0.02, weight_decay: 0.3, eps: 1e-3, beta1: 0.5, beta2: 0.8, amsgrad: false, cautious: false };
    expected.groups[0] = set.boxed();
    check("set", &expected, &read(&optimizer));
    for (name, value) in [("amsgrad", Value::Flag(true)), ("beta1", Value::Number(0.0)), ("eps", Value::Number(0.0))] {
        assert!(optimizer.set(Group::DEFAULT, name, &value).is_err(), "{name} {value}");
    }
    assert_eq!(format!("{:?}", optimizer.rule(Group::DEFAULT).unwrap()), format!("{set:?}"));
}

#[test]
fn bias_corrections_change_only_while_no_step_is_unfinished() {
    let problem = problem(adamw().as_ref(), 2);
    let mut optimizer = build(&problem);
    let mut unfinished = encoder();
    optimizer.step(&mut unfinished).unwrap();
    for (name, x) in [("beta1", 0.5), ("beta2", 0.8), ("eps", 1e-3)] {
        let error = optimizer.set(Group::DEFAULT, name, &Value::Number(x)).unwrap_err();
        assert!(
            matches!(&error, Error::Usage(text) if text.contains("while every recorded step is finished")),
            "{error}"
        );
    }
    assert!(matches!(optimizer.write_step_count(9), Err(Error::Usage(_))));
    optimizer.set(Group::DEFAULT, "weight_decay", &Value::Number(0.5)).unwrap();
    submit(unfinished);
    gpu().wait().unwrap();
    optimizer.set(Group::DEFAULT, "beta2", &Value::Number(0.8)).unwrap();
    let mut second = problem.next(read(&optimizer));
    check("before", &problem, &read(&optimizer));
    gpu().run(|encoder| optimizer.step(encoder)).unwrap();
    second.groups[0].set("beta2", &Value::Number(0.8)).unwrap();
    second.groups[0].set("weight_decay", &Value::Number(0.5)).unwrap();
    check("after", &second, &read(&optimizer));
}
