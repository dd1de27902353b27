//! Recording against a model: encoders that are submitted late, in another order, or not at all, and steps that are recorded by halves,
//! have the effect of the same steps one by one, and leave nothing behind.

use std::cell::RefCell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseResult, TestRunner};
use wgpu_optim::checkpoint::Checkpoint;
use wgpu_optim::optim::{Adai, AdamW, Rule, SAdam, VRAdam, Value};
use wgpu_optim::{Accumulate, Error, EvalRequest, Group, Optimizer, Tensor, wgpu};

use crate::common::{block_on, encoder, gpu, submit};

const SIZES: [usize; 2] = [5, 1030];
/// The count of gradients that a step may copy. The last is not finite, so that its step is skipped.
const GRADIENTS: usize = 3;
/// The losses of the probes of a step that evaluates.
const LOSSES: [f32; 3] = [1.0, 1.25, 0.875];

/// Something that is recorded into one encoder.
#[derive(Clone, Debug)]
struct Part {
    kind: Kind,
    lr: f64,
    gradient: usize,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Step,
    /// Both halves.
    Halves,
    /// The first half, which the next call ends.
    Sums,
    MicroBatch,
    /// With all evaluations of the rule.
    Evaluating,
    /// The evaluations that were asked for before the caller gave up. The encoder cannot be submitted.
    GivenUp(usize),
}

#[derive(Clone, Debug)]
enum Op {
    /// Records an encoder; the number is its place among the held ones.
    Record(Vec<Part>),
    /// Submits one of the held encoders.
    Submit(usize),
    /// Drops one of the held encoders.
    Drop(usize),
    /// A step whose halves lie in two encoders.
    Split {
        part: Part,
        end: End,
    },
    Wait,
}

/// What becomes of the two encoders of a step by halves.
#[derive(Clone, Copy, Debug)]
enum End {
    Stepped,
    SumsDropped,
    SumsHeld,
    NoUpdate,
    UpdateDropped,
    BothDropped,
}

fn part(kinds: Vec<Kind>) -> impl Strategy<Value = Part> {
    let kind = proptest::sample::select(kinds);
    (kind, 1..5_u32, 0..GRADIENTS).prop_map(|(kind, lr, gradient)| Part { kind, lr: f64::from(lr) / 64.0, gradient })
}

fn op() -> impl Strategy<Value = Op> {
    use Kind::{Evaluating, GivenUp, Halves, MicroBatch, Step, Sums};
    let parts = part(vec![Step, Step, Halves, Sums, MicroBatch, Evaluating, GivenUp(1), GivenUp(2), GivenUp(3)]);
    let ends = vec![End::Stepped, End::SumsDropped, End::SumsHeld, End::NoUpdate, End::UpdateDropped, End::BothDropped];
    prop_oneof![
        4 => proptest::collection::vec(parts, 0..4).prop_map(Op::Record),
        3 => (0..8_usize).prop_map(Op::Submit),
        2 => (0..8_usize).prop_map(Op::Drop),
        3 => (part(vec![Halves]), proptest::sample::select(ends)).prop_map(|(part, end)| Op::Split { part, end }),
        1 => Just(Op::Wait),
    ]
}

/// An optimizer with the gradients that its steps copy.
struct Trainee {
    optimizer: Optimizer,
    tensors: Vec<Tensor>,
    gradients: Vec<wgpu::Buffer>,
    losses: wgpu::Buffer,
}

fn upload(values: &[f32]) -> wgpu::Buffer {
    use wgpu::util::DeviceExt as _;
    gpu().device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
        label: None,
        contents: bytemuck::cast_slice(values),
        usage: wgpu::BufferUsages::COPY_SRC,
    })
}

impl Trainee {
    fn new(rule: Box<dyn Rule>) -> Self {
        let mut builder = Optimizer::builder(rule);
        builder.skip_nonfinite(true).accumulate(Accumulate::Mean(2)).undamped_steps(true);
        let tensors: Vec<Tensor> = SIZES
            .iter()
            .map(|&n| builder.tensor(Group::DEFAULT, format!("of {n}"), &builder.sample_shape(Group::DEFAULT, n)))
            .collect();
        let optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
        for (&tensor, n) in tensors.iter().zip(SIZES) {
            let values: Vec<f32> = (0..n).map(|i| (i * 37 % 101) as f32 / 101.0 - 0.5).collect();
            optimizer.write_param(tensor, &values).unwrap();
        }
        let gradient = |k: usize| {
            let value = |i: usize| ((i * 53 + k * 17) % 89) as f32 / 89.0 - 0.4;
            (0..SIZES[1]).map(|i| if k == GRADIENTS - 1 && i == 3 { f32::NAN } else { value(i) }).collect::<Vec<_>>()
        };
        let gradients = (0..GRADIENTS).map(|k| upload(&gradient(k))).collect();
        Self { optimizer, tensors, gradients, losses: upload(&LOSSES) }
    }

    fn record(&mut self, encoder: &mut wgpu::CommandEncoder, part: &Part) {
        self.optimizer.set_lr(Group::DEFAULT, part.lr).unwrap();
        self.copy_gradient(encoder, part);
        match part.kind {
            Kind::Step => self.optimizer.step(encoder).unwrap(),
            Kind::Halves => {
                self.optimizer.record_sums(encoder).unwrap();
                self.optimizer.record_update(encoder).unwrap();
            }
            Kind::Sums => self.optimizer.record_sums(encoder).unwrap(),
            Kind::MicroBatch => self.optimizer.accumulate(encoder).unwrap(),
            Kind::Evaluating => self.evaluate(encoder, usize::MAX),
            Kind::GivenUp(evaluations) => self.evaluate(encoder, evaluations),
        }
    }

    /// Records the part alone, and waits for it.
    fn run(&mut self, part: &Part) {
        let mut encoder = encoder();
        self.record(&mut encoder, part);
        submit(encoder);
        gpu().wait().unwrap();
    }

    fn copy_gradient(&self, encoder: &mut wgpu::CommandEncoder, part: &Part) {
        for (&tensor, n) in self.tensors.iter().zip(SIZES) {
            let to = self.optimizer.grad(tensor).unwrap();
            let source = &self.gradients[part.gradient];
            encoder.copy_buffer_to_buffer(source, 0, to.buffer(), to.offset(), n as u64 * 4);
        }
    }

    fn evaluate(&mut self, encoder: &mut wgpu::CommandEncoder, evaluations: usize) {
        let mut step = self.optimizer.begin_step().unwrap();
        for _ in 0..evaluations {
            match step.next(encoder).unwrap() {
                Some(EvalRequest::Gradient) => {}
                Some(EvalRequest::Loss(slot)) => {
                    let to = step.loss_slot(slot).unwrap();
                    encoder.copy_buffer_to_buffer(&self.losses, slot as u64 * 4, to.buffer(), to.offset(), 4);
                }
                None => return,
            }
        }
    }

    /// Everything that a checkpoint holds.
    fn bytes(&self) -> Vec<u8> {
        crate::support::snapshot::snapshot(&self.optimizer).to_bytes().unwrap()
    }
}

/// The optimizer under test with the encoders that it holds, and the model, which takes the same steps one by one.
struct Pair {
    tested: Trainee,
    model: Trainee,
    held: Vec<(wgpu::CommandEncoder, Vec<Part>)>,
}

impl Pair {
    fn take(&mut self, op: &Op) {
        match op {
            Op::Record(parts) => {
                let mut encoder = encoder();
                parts.iter().for_each(|part| self.tested.record(&mut encoder, part));
                // A step that its caller gave up may have moved the parameters in its encoder.
                if !parts.iter().any(|part| matches!(part.kind, Kind::GivenUp(_))) {
                    self.held.push((encoder, parts.clone()));
                }
            }
            Op::Submit(_) | Op::Drop(_) if self.held.is_empty() => {}
            Op::Submit(place) => {
                let (encoder, parts) = self.held.remove(place % self.held.len());
                submit(encoder);
                self.model(&parts);
            }
            Op::Drop(place) => drop(self.held.remove(place % self.held.len())),
            Op::Split { part, end } => self.split(part, *end),
            Op::Wait => gpu().wait().unwrap(),
        }
    }

    fn model(&mut self, parts: &[Part]) {
        for part in parts {
            self.model.run(part);
        }
    }

    fn split(&mut self, part: &Part, end: End) {
        let (mut sums, mut update) = (encoder(), encoder());
        self.tested.record(&mut sums, &Part { kind: Kind::Sums, ..part.clone() });
        match end {
            End::SumsDropped => {
                drop(sums);
                let refused = self.tested.optimizer.record_update(&mut update).unwrap_err();
                assert!(refused.to_string().contains("call record_sums again"), "{refused}");
                return;
            }
            End::SumsHeld => return self.held.push((sums, vec![Part { kind: Kind::Sums, ..part.clone() }])),
            End::NoUpdate => {
                submit(sums);
                return self.model(&[Part { kind: Kind::Sums, ..part.clone() }]);
            }
            _ => self.tested.optimizer.record_update(&mut update).unwrap(),
        }
        match end {
            End::Stepped => {
                submit(sums);
                submit(update);
                self.model(std::slice::from_ref(part));
            }
            End::UpdateDropped => {
                submit(sums);
                drop(update);
                self.model(&[Part { kind: Kind::Sums, ..part.clone() }]);
            }
            _ => drop((sums, update)),
        }
    }

    /// Submits what is still held, the last first, and then checks the outcome and that every call works again.
    fn finish(&mut self, first: &Checkpoint) -> TestCaseResult {
        while let Some((encoder, parts)) = self.held.pop() {
            submit(encoder);
            self.model(&parts);
        }
        gpu().wait().unwrap();
        for trainee in [&mut self.tested, &mut self.model] {
            trainee.optimizer.set_lr(Group::DEFAULT, 0.01).unwrap();
        }
        prop_assert_eq!(self.tested.bytes(), self.model.bytes());
        let step = Part { kind: Kind::Step, lr: 0.5, gradient: 0 };
        for trainee in [&mut self.tested, &mut self.model] {
            let settings = trainee.optimizer.rule(Group::DEFAULT).unwrap().settings();
            let ahead = ["beta1", "beta2"].into_iter().find(|ahead| settings.iter().any(|(name, _)| name == ahead));
            trainee.optimizer.set(Group::DEFAULT, ahead.expect("a setting"), &Value::Number(0.25)).unwrap();
            trainee.run(&step);
            let count = block_on(trainee.optimizer.read_step_count()).unwrap() as u32;
            trainee.optimizer.write_step_count(count + 5).unwrap();
            trainee.run(&Part { kind: Kind::Evaluating, ..step.clone() });
        }
        prop_assert_eq!(self.tested.bytes(), self.model.bytes());
        for trainee in [&mut self.tested, &mut self.model] {
            first.restore(&mut trainee.optimizer).unwrap();
        }
        prop_assert_eq!(self.tested.bytes(), first.to_bytes().unwrap());
        Ok(())
    }
}

/// One optimizer goes through all cases, so that whatever a case leaves behind meets the next.
fn like_sequential_steps(rule: &dyn Rule) {
    let (tested, model) = (Trainee::new(rule.boxed()), Trainee::new(rule.boxed()));
    let first = crate::support::snapshot::snapshot(&tested.optimizer);
    let pair = RefCell::new(Pair { tested, model, held: Vec::new() });
    let config = Config { failure_persistence: None, ..Config::with_cases(24) };
    let cases = proptest::collection::vec(op(), 1..14);
    let run = TestRunner::new(config).run(&cases, |ops| {
        let mut pair = pair.borrow_mut();
        pair.held.clear();
        for trainee in [0, 1] {
            let trainee = if trainee == 0 { &mut pair.tested } else { &mut pair.model };
            first.restore(&mut trainee.optimizer).map_err(|e| TestCaseError::fail(e.to_string()))?;
        }
        ops.iter().for_each(|op| pair.take(op));
        pair.finish(&first)
    });
    run.unwrap_or_else(|e| panic!("{}: {e}", rule.name()));
}

#[test]
fn recording_adamw_is_like_sequential_steps() {
    like_sequential_steps(&AdamW { weight_decay: 0.1, ..AdamW::default() });
}

#[test]
fn recording_vradam_is_like_sequential_steps() {
    like_sequential_steps(&VRAdam { weight_decay: 0.1, ..VRAdam::default() });
}

#[test]
fn recording_adai_is_like_sequential_steps() {
    like_sequential_steps(&Adai { weight_decay: 0.1, ..Adai::new(0.1) });
}

#[test]
fn recording_sadam_is_like_sequential_steps() {
    like_sequential_steps(&SAdam { weight_decay: 0.1, ..SAdam::default() });
}

/// The ring has 512 rows. The first encoder holds the one copy of the counts, and is submitted when the window is full.
#[test]
fn an_encoder_of_skipped_steps_that_is_submitted_very_late_locks_nothing() {
    for late in [true, false] {
        let mut builder = Optimizer::builder(AdamW::default());
        builder.skip_nonfinite(true);
        let mut tensors = vec![builder.tensor(Group::DEFAULT, "0", &[1])];
        for i in 1..200 {
            let group = builder.group(i.to_string(), AdamW::default());
            tensors.push(builder.tensor(group, i.to_string(), &[1]));
        }
        let mut optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
        optimizer.write_grad(tensors[0], &[f32::NAN]).unwrap();
        let mut held = encoder();
        for _ in 0..100 {
            optimizer.step(&mut held).unwrap();
        }
        let mut others = 0;
        let refused = loop {
            let mut other = encoder();
            match optimizer.step(&mut other) {
                Ok(()) => submit(other),
                Err(error) => break error,
            }
            others += 1;
            assert!(others < 2000, "the window never filled");
            gpu().wait().unwrap();
        };
        assert!(matches!(refused, Error::TooManySteps { .. }), "{refused}");
        if late {
            submit(held);
        } else {
            drop(held);
        }
        gpu().wait().unwrap();
        // One step of the gradient that is finite, and then as many as fill the window twice.
        optimizer.write_grad(tensors[0], &[1.0]).unwrap();
        for step in 0..1100 {
            gpu().run(|encoder| optimizer.step(encoder)).unwrap_or_else(|e| panic!("late: {late}, step {step}: {e}"));
        }
        assert_eq!(block_on(optimizer.read_step_count()).unwrap(), 1100);
        let skipped = if late { others + 100 } else { others };
        assert_eq!(block_on(optimizer.read_skipped()).unwrap(), skipped);
        optimizer.write_step_count(3).unwrap();
        gpu().run(|encoder| optimizer.step(encoder)).unwrap();
        assert_eq!(block_on(optimizer.read_step_count()).unwrap(), 4);
    }
}

/// A half step blocks nothing, and its update is refused once its sums cannot be trusted.
#[test]
fn a_half_step_ends_where_its_sums_cannot_be_trusted() {
    let mut trainee = Trainee::new(VRAdam::default().boxed());
    let first = crate::support::snapshot::snapshot(&trainee.optimizer);
    type Ending = fn(&mut Optimizer, &Checkpoint);
    let ends: [(&str, Ending); 5] = [
        ("restore", |o, first| first.restore(o).unwrap()),
        ("write_step_count", |o, _| o.write_step_count(3).unwrap()),
        ("a setting that is computed ahead", |o, _| o.set(Group::DEFAULT, "beta1", &Value::Number(0.5)).unwrap()),
        ("a step", |o, _| gpu().run(|encoder| o.step(encoder)).unwrap()),
        ("a micro-batch", |o, _| gpu().run(|encoder| o.accumulate(encoder)).unwrap()),
    ];
    for (what, end) in ends {
        for submitted in [true, false] {
            let mut sums = encoder();
            trainee.optimizer.record_sums(&mut sums).unwrap();
            if submitted {
                submit(sums);
                gpu().wait().unwrap();
            } else {
                drop(sums);
            }
            end(&mut trainee.optimizer, &first);
            let refused = trainee.optimizer.record_update(&mut encoder()).unwrap_err().to_string();
            assert!(refused.contains("record_update needs a record_sums before it"), "{what}: {refused}");
        }
    }
    // The sums are still under way: they read the scalars that a restore would write.
    let mut sums = encoder();
    trainee.optimizer.record_sums(&mut sums).unwrap();
    assert!(matches!(trainee.optimizer.write_step_count(0), Err(Error::Usage(_))));
    trainee.optimizer.record_update(&mut sums).unwrap();
    submit(sums);
}

/// The slopes of probes in a dropped encoder were never measured.
#[test]
fn probes_in_a_dropped_encoder_do_not_count() {
    let mut builder = Optimizer::builder(SAdam::default());
    builder.tensor(Group::DEFAULT, "w", &[8]);
    let mut optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
    let mut dropped = encoder();
    optimizer.step_with(&mut dropped, |_, _, _| Ok(())).unwrap();
    optimizer.step(&mut dropped).unwrap();
    drop(dropped);
    let refused = optimizer.step(&mut encoder()).unwrap_err().to_string();
    assert!(refused.contains("has no slopes before the first probes"), "{refused}");
    gpu().run(|encoder| optimizer.step_with(encoder, |_, _, _| Ok(()))).unwrap();
    optimizer.step(&mut encoder()).unwrap();
}
