//! One step from the same state, on the GPU and in f64: every rule, wherever its tensors lie. Errors are measured against the step,
//! states are compared too, and the caller's bytes around the tensors keep their bits.

use std::ops::Range;

use wgpu_optim::optim::procedure::probes;
use wgpu_optim::optim::{ALL, ProxSgd, Rule};
use wgpu_optim::tools::adapter::Gpu;
use wgpu_optim::tools::verify::{Outcome, Problem, varied};
use wgpu_optim::{Builder, Group, Optimizer, wgpu};

use crate::common::{Page, block_on, check, deal, gpu, groups, open, read, take};

/// Sizes at the kernel's edges: empty, less than a vec4, a vec4, one more; a chunk minus one, a chunk, one more; just past one span,
/// several spans.
const SIZES: &[usize] = &[0, 1, 3, 4, 5, 1023, 1024, 1025, 16 * 1024 + 1, 33_003];
/// The same sizes without the spans.
const SMALL: &[usize] = &[5, 0, 1, 1023, 4, 1025, 3, 1024, 2048];
/// Step counts before the step: initial states, states of few terms, past RAdam's plain steps.
const APPLIED: [u32; 3] = [0, 2, 6];

fn for_all(check: impl Fn(&str, &dyn Rule)) {
    let mut count = 0;
    for entry in ALL {
        for (variant, rule) in entry.variants() {
            check(&format!("{} {variant}", entry.name), rule.as_ref());
            count += 1;
        }
    }
    assert!(count > 2 * ALL.len(), "the registry has {count} variants only");
}

fn problem(rule: &dyn Rule, sizes: &[usize], applied: u32) -> Problem {
    Problem::random(groups(rule, 3), &deal(sizes, 3), applied, 7 + applied).unwrap()
}

#[test]
fn own_buffers_of_every_size() {
    for_all(|what, rule| {
        let mut optimizer = None;
        for (applied, sizes) in APPLIED.into_iter().zip([SIZES; 3]) {
            let problem = problem(rule, sizes, applied);
            let optimizer = optimizer.get_or_insert_with(|| problem.build(&gpu().device, &gpu().queue).unwrap());
            check(&format!("{what} after {applied}"), &problem, &take(gpu(), optimizer, &problem));
        }
    });
}

/// Sums of a few numbers, in which one lane too many or too few shows.
#[test]
fn sums_of_every_size() {
    for entry in ALL {
        let rule = entry.sample();
        for &size in SIZES.iter().filter(|_| rule.sums().sums > 0) {
            let problem = problem(rule.as_ref(), &[size, 2], 2);
            let mut optimizer = problem.build(&gpu().device, &gpu().queue).unwrap();
            check(&format!("{} {size}", entry.name), &problem, &take(gpu(), &mut optimizer, &problem));
        }
    }
}

/// The place of a tensor's parameters and gradients: the page, and the range in the page.
struct Bound {
    param: (usize, Range<usize>),
    grad: (usize, Range<usize>),
}

/// The caller's pages.
struct Pages {
    pages: Vec<Page>,
    tensors: Vec<Bound>,
}

impl Pages {
    /// `place` says in which page a tensor's parameters and gradients lie.
    fn new(gpu: &Gpu, problem: &Problem, place: impl Fn(usize) -> (usize, usize)) -> Self {
        let mut pages: Vec<Page> = Vec::new();
        let mut tensors = Vec::new();
        for (i, data) in problem.tensors.iter().enumerate() {
            let (p, g) = place(i);
            while pages.len() <= p.max(g) {
                pages.push(Page::new());
            }
            let n = data.param.len();
            let param = (p, pages[p].place(n, 1 + i % 3));
            let grad = (g, pages[g].place(n, 1 + i % 2));
            tensors.push(Bound { param, grad });
        }
        for page in &mut pages {
            page.create(gpu);
        }
        Self { pages, tensors }
    }

    fn slice(&self, (page, range): &(usize, Range<usize>)) -> wgpu::BufferSlice<'_> {
        self.pages[*page].slice(range)
    }

    fn write_grads(&self, gpu: &Gpu, problem: &Problem) {
        for (bound, data) in self.tensors.iter().zip(&problem.tensors) {
            self.pages[bound.grad.0].write(gpu, &bound.grad.1, &data.grad);
        }
    }

    fn check_guards(&self, gpu: &Gpu, what: &str) {
        for (i, page) in self.pages.iter().enumerate() {
            page.check_guards(gpu, &format!("{what}, page {i}"));
        }
    }

    /// Gradients are read and never written.
    fn check_grads(&self, gpu: &Gpu, problem: &Problem, what: &str) {
        let pages: Vec<Vec<u32>> = self.pages.iter().map(|page| page.read(gpu)).collect();
        for (i, (bound, data)) in self.tensors.iter().zip(&problem.tensors).enumerate() {
            let now = &pages[bound.grad.0][bound.grad.1.clone()];
            assert!(now == bytemuck::cast_slice::<f32, u32>(&data.grad), "{what}: the gradients of tensor {i} changed");
        }
    }
}

fn builder(problem: &Problem) -> (Builder, Vec<Group>) {
    let mut builder = Optimizer::builder(problem.groups[0].clone());
    builder.undamped_steps(true);
    let mut handles = vec![Group::DEFAULT];
    for (i, rule) in problem.groups.iter().enumerate().skip(1) {
        handles.push(builder.group(format!("group {i}"), rule.clone()));
    }
    (builder, handles)
}

fn bound(gpu: &Gpu, problem: &Problem, place: impl Fn(usize) -> (usize, usize)) -> (Optimizer, Pages) {
    let pages = Pages::new(gpu, problem, place);
    let (mut builder, groups) = builder(problem);
    for (i, (bound, data)) in pages.tensors.iter().zip(&problem.tensors).enumerate() {
        let (param, grad) = (pages.slice(&bound.param), pages.slice(&bound.grad));
        builder.bind(groups[data.group], format!("tensor {i}"), &data.shape, param, grad);
    }
    (builder.build(&gpu.device, &gpu.queue).unwrap(), pages)
}

pub(crate) fn check_bound(
    gpu: &Gpu,
    what: &str,
    problem: &Problem,
    place: impl Fn(usize) -> (usize, usize),
) -> Optimizer {
    let (mut optimizer, pages) = bound(gpu, problem, place);
    let outcome = take(gpu, &mut optimizer, problem);
    check(what, problem, &outcome);
    pages.check_guards(gpu, what);
    pages.check_grads(gpu, problem, what);
    optimizer
}

/// As [`check_bound`], without the comparison of the outcome.
pub(crate) fn check_pages(
    gpu: &Gpu,
    what: &str,
    problem: &Problem,
    place: impl Fn(usize) -> (usize, usize),
) -> Outcome {
    let (mut optimizer, pages) = bound(gpu, problem, place);
    let outcome = take(gpu, &mut optimizer, problem);
    pages.check_guards(gpu, what);
    pages.check_grads(gpu, problem, what);
    outcome
}

/// One dispatch serves all groups that keep the same states with the same initial values. Sums need one more dispatch. Sums, slopes and
/// progress need one for the decision. A matrix needs one.
fn dispatches(problem: &Problem) -> usize {
    let mut classes = Vec::new();
    for rule in &problem.groups {
        if !classes.contains(&rule.states()) {
            classes.push(rule.states());
        }
    }
    let procedure = problem.groups[0].procedure();
    let probes = probes(&procedure) > 0;
    let passes = procedure.as_ref().and_then(|procedure| procedure.pass()).is_some_and(|pass| pass.before_update);
    let decides = probes || !problem.groups[0].progress().is_empty();
    let iteration = procedure.as_ref().and_then(|procedure| procedure.iteration());
    // The matrices go in and out of the scratch of each class; three products an iteration, and the norms.
    let products = iteration.map_or(0, |iteration| 2 * classes.len() + 3 * iteration.steps as usize + 1);
    let extra = usize::from(decides) + if passes { classes.len() } else { 0 } + products;
    // Tensors with factors are another class, with another dispatch for the sums and for the update; the factors take four more.
    let factors = if problem.tensors.iter().any(|data| !data.factors.is_empty()) { 2 + 4 } else { 0 };
    if problem.groups[0].sums().sums > 0 { 3 + factors } else { classes.len() + extra }
}

#[test]
fn callers_buffers_of_parameters_and_of_gradients() {
    for_all(|what, rule| {
        let problem = problem(rule, SMALL, 2);
        let optimizer = check_bound(gpu(), what, &problem, |_| (0, 1));
        assert_eq!(optimizer.dispatches(), dispatches(&problem), "{what}");
    });
}

#[test]
fn callers_buffer_of_both() {
    for_all(|what, rule| {
        let problem = problem(rule, SMALL, 2);
        let optimizer = check_bound(gpu(), what, &problem, |_| (0, 0));
        assert_eq!(optimizer.dispatches(), dispatches(&problem), "{what}");
    });
}

/// Buffers of the exact size, one per tensor; buffers that hold parameters of some tensors and gradients of others.
#[test]
fn callers_buffers_in_every_arrangement() {
    for entry in ALL {
        let rule = entry.sample();
        let problem = problem(rule.as_ref(), SMALL, 2);
        check_bound(gpu(), entry.name, &problem, |i| (2 * i, 2 * i + 1));
        check_bound(gpu(), entry.name, &problem, |i| (i % 2, (i + 1) % 2));
        check_bound(gpu(), entry.name, &problem, |i| (i % 3, i % 2));
    }
}

/// Every step rebinds the gradients, in several buffers and in another order.
#[test]
fn dynamic_gradients() {
    for_all(|what, rule| check_moving(gpu(), what, &problem(rule, SMALL, 2)));
}

fn check_moving(gpu: &Gpu, what: &str, problem: &Problem) {
    let pages = Pages::new(gpu, problem, |_| (0, 1));
    let (mut builder, groups) = builder(problem);
    for (i, (bound, data)) in pages.tensors.iter().zip(&problem.tensors).enumerate() {
        let param = pages.slice(&bound.param);
        builder.bind_param(groups[data.group], format!("tensor {i}"), &data.shape, param);
    }
    let mut optimizer = builder.build(&gpu.device, &gpu.queue).unwrap();
    problem.upload(&mut optimizer).unwrap();
    let mut problem = problem.clone();
    let places: [fn(usize) -> usize; 3] = [|_| 0, |i| i % 3, |i| 20 - i];
    for (round, place) in places.into_iter().enumerate() {
        let moved = Pages::new(gpu, &problem, |i| (30, place(i)));
        moved.write_grads(gpu, &problem);
        let tensors: Vec<_> = optimizer.tensors().map(|(tensor, ..)| tensor).collect();
        let grads = tensors.iter().zip(&moved.tensors).rev().map(|(tensor, bound)| (*tensor, moved.slice(&bound.grad)));
        gpu.run(|encoder| optimizer.step_with_grads(encoder, grads)).unwrap();
        let outcome = read(&optimizer);
        let what = format!("{what}, round {round}");
        check(&what, &problem, &outcome);
        pages.check_guards(gpu, &what);
        moved.check_grads(gpu, &problem, &what);
        problem = problem.next(outcome);
    }
}

/// A step rebinds some gradients; the others keep their binding.
#[test]
fn steps_that_rebind_some_gradients() {
    for entry in ALL {
        let problem = problem(entry.sample().as_ref(), SMALL, 2);
        let pages = Pages::new(gpu(), &problem, |_| (0, 1));
        let (mut builder, groups) = builder(&problem);
        builder.dynamic_gradients(true);
        for (i, (bound, data)) in pages.tensors.iter().zip(&problem.tensors).enumerate() {
            let (param, grad) = (pages.slice(&bound.param), pages.slice(&bound.grad));
            builder.bind(groups[data.group], format!("tensor {i}"), &data.shape, param, grad);
        }
        let mut optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
        problem.upload(&mut optimizer).unwrap();
        let moved = Pages::new(gpu(), &problem, |_| (1, 0));
        moved.write_grads(gpu(), &problem);
        let tensor = optimizer.tensor("tensor 3").unwrap();
        optimizer.write_grad(tensor, &vec![f32::NAN; problem.tensors[3].grad.len()]).unwrap();
        let given = [(tensor, moved.slice(&moved.tensors[3].grad))];
        gpu().run(|encoder| optimizer.step_with_grads(encoder, given)).unwrap();
        check(entry.name, &problem, &read(&optimizer));
        pages.check_guards(gpu(), entry.name);
    }
}

/// Groups with settings that keep different states are separate classes. Rules with sums keep all states for all groups.
#[test]
fn groups_of_every_variant() {
    for entry in ALL {
        let mut rules: Vec<_> = entry.variants().into_iter().map(|(_, rule)| rule).collect();
        // Settings that all groups must share are those of the first group.
        let common = |rule: &dyn Rule| {
            let settings = rule.settings().into_iter().filter(|(name, _)| rule.common().contains(name));
            settings.collect::<Vec<_>>()
        };
        let first = rules[0].clone();
        // Other sums make another rule, and a problem has one.
        rules.retain(|rule| {
            let same = rule.procedure() == first.procedure() && rule.sums() == first.sums();
            same && common(rule.as_ref()) == common(first.as_ref())
        });
        rules.push(varied(first.as_ref()));
        let count = rules.len();
        let problem = Problem::random(rules, &deal(SMALL, count), 2, 3).unwrap();
        let mut optimizer = problem.build(&gpu().device, &gpu().queue).unwrap();
        check(entry.name, &problem, &take(gpu(), &mut optimizer, &problem));
    }
}

/// Tensors in the optimizer's own buffers and in the caller's buffers, in one optimizer.
#[test]
fn own_and_callers_buffers_together() {
    for entry in ALL {
        let problem = problem(entry.sample().as_ref(), SMALL, 2);
        let pages = Pages::new(gpu(), &problem, |i| if i % 3 == 0 { (0, 0) } else { (0, 1) });
        let (mut builder, groups) = builder(&problem);
        for (i, (bound, data)) in pages.tensors.iter().zip(&problem.tensors).enumerate() {
            let (group, name) = (groups[data.group], format!("tensor {i}"));
            let shape = data.shape.clone();
            if i % 2 == 0 {
                builder.tensor(group, name, &shape);
            } else {
                builder.bind(group, name, &shape, pages.slice(&bound.param), pages.slice(&bound.grad));
            }
        }
        let mut optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
        check(entry.name, &problem, &take(gpu(), &mut optimizer, &problem));
    }
}

/// 65,535 workgroups in a row take 67 million elements; four take 4096.
#[test]
fn folded_grids() {
    let gpu = open(|limits| {
        limits.max_compute_workgroups_per_dimension = 4;
        limits.min_storage_buffer_offset_alignment = 256;
    });
    for entry in ALL {
        let rule = entry.sample();
        for sizes in [&[4096_usize, 0][..], &[4097, 1, 3000, 5, 1024, 1025]] {
            let problem = problem(rule.as_ref(), sizes, 2);
            let mut optimizer = problem.build(&gpu.device, &gpu.queue).unwrap();
            check(entry.name, &problem, &take(&gpu, &mut optimizer, &problem));
            check_bound(&gpu, entry.name, &problem, |_| (0, 0));
            check_moving(&gpu, entry.name, &problem);
        }
    }
}

/// Windows of 1.25 MiB: models that need several windows, and a tensor that is split between windows.
#[test]
fn several_windows() {
    const WINDOW: u64 = 5 << 18;
    let gpu = open(|limits| limits.max_storage_buffer_binding_size = WINDOW);
    for (name, sizes) in [
        ("sgd", &[7, 330_000, 1024, 3][..]),
        ("adagrad", &[5, 330_000, 1024, 3]),
        ("vradam", &[60_000, 7, 200_001, 1024]),
        ("adai", &[7, 110_001, 60_000]),
    ] {
        let rule = wgpu_optim::optim::find(name).unwrap().sample();
        let problem = problem(rule.as_ref(), sizes, 2);
        let mut optimizer = problem.build(&gpu.device, &gpu.queue).unwrap();
        assert!(optimizer.dispatches() > dispatches(&problem), "{name} fits one window");
        check(name, &problem, &take(&gpu, &mut optimizer, &problem));
    }
    let rule = wgpu_optim::optim::find("lamb").unwrap().sample();
    let bound = check_bound(&gpu, "lamb", &problem(rule.as_ref(), &[7, 180_000, 9], 2), |i| (i, 3 + i));
    assert!(bound.dispatches() > 3, "lamb fits one window");
    let rule = wgpu_optim::optim::find("adamw").unwrap().sample();
    check_moving(&gpu, "adamw", &problem(rule.as_ref(), &[100_000, 5, 150_000, 150_001], 2));
}

/// A step by hand: SGD with momentum, then the soft threshold, which sets small weights to exactly 0.
#[test]
fn prox_sgd_leaves_exact_zeros() {
    let rule = ProxSgd { lr: 0.5, momentum: 0.5, l1: 0.25 };
    let mut builder = Optimizer::builder(rule);
    let w = builder.tensor(Group::DEFAULT, "w", &[6]);
    let mut optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
    optimizer.write_param(w, &[1.0, -1.0, 0.125, -0.125, 0.0, 0.75]).unwrap();
    optimizer.write_grad(w, &[1.0, 0.0, 0.0, 0.25, 0.25, 2.0]).unwrap();
    // z = 0.5, -1, 0.125, -0.25, -0.125, -0.25, and the threshold is 0.125.
    gpu().run(|encoder| optimizer.step(encoder)).unwrap();
    assert_eq!(block_on(optimizer.read_param(w)).unwrap(), [0.375, -0.875, 0.0, -0.125, 0.0, -0.125]);
    assert_eq!(block_on(optimizer.read_state(w, "b")).unwrap(), [1.0, 0.0, 0.0, 0.25, 0.25, 2.0]);
    // b = 1.5, 0, 0, 0.375, 0.375, 3: z = -0.375, -0.875, 0, -0.3125, -0.1875, -1.625.
    gpu().run(|encoder| optimizer.step(encoder)).unwrap();
    assert_eq!(block_on(optimizer.read_param(w)).unwrap(), [-0.25, -0.75, 0.0, -0.1875, -0.0625, -1.5]);
}

#[test]
fn an_outcome_names_every_tensor() {
    let problem = problem(ALL[0].sample().as_ref(), SMALL, 0);
    let optimizer = problem.build(&gpu().device, &gpu().queue).unwrap();
    let outcome = block_on(Outcome::of(&optimizer)).unwrap();
    assert_eq!(outcome.tensors.iter().map(|t| t.param.len()).collect::<Vec<_>>(), SMALL);
}
