//! The problems: gradients against finite differences of the f64 loss, the fast forms against f64, determinism, and refused
//! settings.

use crate::rig::{GUARD, Rig, failure, gpu, slices, worst};
use crate::support::wide::wide;
use wgpu_optim::optim::Value;
use wgpu_optim::tools::objectives::problems;
use wgpu_optim::tools::objectives::problems::ALL;
use wgpu_optim::tools::objectives::{CpuObjective, GpuObjective, Problem, TensorSpec, random};

/// The largest error of a gradient, as a share of the tensor's largest gradient: f32 sums have some hundred terms of both signs.
const GRADIENT_TOLERANCE: f64 = 3e-6;
const LOSS_TOLERANCE: f64 = 1e-6;

/// Sizes that are not multiples of a vector or a workgroup, small enough for finite differences; l2 is on.
fn cases() -> Vec<(&'static str, &'static str)> {
    vec![
        ("matrix", "rows=23 columns=17 rank=3 extra_rank=2 l2=1e-3"),
        ("matrix", "rows=40 columns=70 density=0.01 extra_rank=7"),
        ("matrix", "rows=90 columns=80 rank=1 density=0.9 l2=1e-3"), // more terms than one block of the sums
        ("matrix", "rows=600 columns=500 rank=20"),                  // several pieces for threads
        ("tensor", "rows=7 columns=9 layers=11 rank=2 density=0.4 l2=1e-3"),
        ("tensor", "rows=300 columns=2 layers=3 density=0.9"),
        ("robust", "rows=13 columns=21 rank=2 l2=1e-3"),
        ("sensing", "size=9 rank=2 width=5 measurements=70 l2=1e-3"),
        ("quadratic", "size=13 l2=1e-3 target=1"),
        ("quadratic", "size=70 spectrum=spread condition=30"),
        ("quadratic", "size=5 spectrum=shuffled condition=30"),
        ("rosenbrock", ""),
        ("rosenbrock", "size=131 form=kinked l2=1e-3"),
        ("l1", "features=70 rows=33 l2=1e-3"),
        ("l1", "features=1000 rows=300"), // several pieces for threads
        ("l1", "features=3 rows=40000"),  // more workgroups than a row of the grid
        ("spirals", "points=70 hidden=9"),
        ("spirals", "points=50 hidden=5 batch=17"),
        ("digits", "hidden=21 batch=5"),
        ("ratings", "rank=3 l2=1e-3"),
        ("ratings", "rank=9 biases=true"),
        ("kinematics", "l2=1e-3"),
        ("kinematics", "joints=3 waypoints=70 smoothness=0.3"),
        ("kinematics", "joints=5 waypoints=1"),
    ]
}

/// Settings as `name=value`, as on a command line.
fn parsed(settings: &str) -> impl Iterator<Item = (&str, Value)> {
    settings.split_whitespace().map(|setting| {
        let (name, value) = setting.split_once('=').expect("name=value");
        (name, Value::parse(value))
    })
}

/// Files made for the tests: the layout of MovieLens and that of Jester.
pub(crate) const RATINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/ratings.tsv");

pub(crate) fn configured(name: &str, settings: &str) -> wgpu_optim::Result<Box<dyn Problem>> {
    let entry = problems::find(name)?;
    entry.configure(entry.from_file.then_some(RATINGS.as_ref()), parsed(settings))
}

fn make(name: &str, settings: &str) -> Box<dyn Problem> {
    configured(name, settings).expect("made")
}

/// A point without small gradients.
fn point(problem: &dyn Problem) -> Vec<Vec<f32>> {
    let mut params = problem.initial(3);
    for (key, value) in (0..).zip(params.iter_mut().flatten()) {
        *value += 0.5 * (random::unit(77, key) - 0.5);
    }
    params
}

fn gradient_of<F: Clone>(objective: &mut dyn CpuObjective<F>, params: &[Vec<F>]) -> (Vec<Vec<F>>, f64) {
    let mut grads = params.to_vec();
    let mut into: Vec<&mut [F]> = grads.iter_mut().map(Vec::as_mut_slice).collect();
    let outcome = objective.gradient(&slices(params), 0, &mut into).expect("a gradient");
    (grads, outcome.loss)
}

/// A NaN is beyond every bound.
fn beyond(difference: f64, bound: f64) -> bool {
    difference.is_nan() || difference.abs() > bound
}

/// The failures of all cases: one failure must not hide another.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn check(&mut self, what: &str, error: f64, (loss, expected): (f64, f64)) {
        println!("{what}: gradient error {error:.1e}, loss {loss} for {expected}");
        if error > GRADIENT_TOLERANCE {
            self.0.push(format!("{what}: gradients are off by {error:e} of the largest"));
        }
        if beyond(loss - expected, LOSS_TOLERANCE * expected) {
            self.0.push(format!("{what}: loss {loss}, needs {expected}"));
        }
    }

    fn none(&self) {
        assert!(self.0.is_empty(), "{:#?}", self.0);
    }
}

#[test]
fn every_problem_is_tested() {
    for entry in ALL {
        assert!(cases().iter().any(|(name, _)| *name == entry.name), "{}", entry.name);
    }
}

#[test]
fn gradients_match_finite_differences() {
    const STEP: f64 = 1e-6;
    let mut wrong = Wrong::default();
    for (name, settings) in cases() {
        let problem = make(name, settings);
        let mut exact = problem.cpu_f64().expect("the exact form");
        let params = wide(&point(problem.as_ref()));
        let (grads, loss) = gradient_of(exact.as_mut(), &params);
        assert_eq!(loss, exact.loss(&slices(&params), 0).expect("a loss").loss);
        for (tensor, spec) in problem.tensors().iter().enumerate() {
            for draw in 0..12 {
                let at = random::draw(tensor as u32, draw) as usize % spec.elements();
                let mut loss = |by: f64| {
                    let mut moved = params.clone();
                    moved[tensor][at] += by;
                    exact.loss(&slices(&moved), 0).expect("a loss").loss
                };
                let slope = (loss(STEP) - loss(-STEP)) / (2.0 * STEP);
                let (gradient, of) = (grads[tensor][at], &spec.name);
                let bound = 1e-9 * (1.0 + loss(0.0));
                if beyond(gradient - slope, bound) {
                    wrong.0.push(format!("{name} {settings} {of}[{at}]: {gradient}, needs {slope}"));
                }
            }
        }
    }
    wrong.none();
}

#[test]
fn the_fast_form_matches_f64() {
    let mut wrong = Wrong::default();
    for (name, settings) in cases() {
        let problem = make(name, settings);
        let params = point(problem.as_ref());
        let (expected, loss) = gradient_of(problem.cpu_f64().expect("the exact form").as_mut(), &wide(&params));
        let mut fast = problem.cpu_f32().expect("the fast form");
        let (grads, fast_loss) = gradient_of(fast.as_mut(), &params);
        let error = worst(&expected, &grads);
        wrong.check(&format!("{name} {settings}"), error, (fast_loss, loss));
        assert_eq!(fast.loss(&slices(&params), 0).expect("a loss").loss, fast_loss);
    }
    wrong.none();
}

fn rig_of(problem: &dyn Problem) -> Rig<dyn GpuObjective> {
    Rig::new(problem.gpu(&gpu().device).expect("the form on the GPU"))
}

/// The gradients and the loss on the GPU.
fn found(rig: &Rig<dyn GpuObjective>, params: &[Vec<f32>]) -> (Vec<Vec<f32>>, f64) {
    rig.set(params);
    let loss = rig.gpu.storage(256);
    rig.run(|encoder| {
        rig.objective.record_epoch(encoder, 0);
        rig.objective.record_gradient(encoder, 0).expect("recorded");
        rig.objective.record_loss(encoder, 0, loss.slice(4..)).expect("recorded");
    });
    (rig.tensors(&rig.grads), f64::from(rig.gpu.words(&loss)[1]))
}

#[test]
fn the_gpu_matches_f64() {
    let mut wrong = Wrong::default();
    for (name, settings) in cases() {
        let problem = make(name, settings);
        let params = point(problem.as_ref());
        let (expected, loss) = gradient_of(problem.cpu_f64().expect("the exact form").as_mut(), &wide(&params));
        let rig = rig_of(problem.as_ref());
        let (grads, gpu_loss) = found(&rig, &params);
        let error = worst(&expected, &grads);
        wrong.check(&format!("{name} {settings}"), error, (gpu_loss, loss));
        assert_eq!((grads, gpu_loss), found(&rig_of(problem.as_ref()), &params), "{name}: the same bits twice");
        for (at, word) in rig.gpu.words(&rig.grads).iter().enumerate() {
            let inside = rig.ranges.iter().any(|r| r.contains(&(4 * at as u64)));
            assert_eq!(inside, *word != GUARD, "{name}: word {at}");
        }
        assert_eq!(rig.tensors(&rig.params), params, "{name}");
    }
    wrong.none();
}

/// Parameters and gradients of the caller may lie in one buffer; an evaluation before a binding is an error.
#[test]
fn parameters_and_gradients_may_share_a_buffer() {
    for (name, settings) in [("matrix", "l2=1e-3"), ("sensing", "size=9"), ("digits", ""), ("l1", "features=70")] {
        let problem = make(name, settings);
        let params = point(problem.as_ref());
        let mut rig = rig_of(problem.as_ref());
        let (apart, loss) = found(&rig, &params);
        let half = rig.params.size();
        rig.params = rig.gpu.storage(2 * half);
        let ranges = rig.ranges.iter().map(|r| r.start + half..r.end + half);
        let behind: Vec<_> = ranges.clone().map(|r| rig.params.slice(r)).collect();
        let before = rig.slices(&rig.params);
        rig.objective.bind(&before, &behind).expect("bound");
        rig.set(&params);
        assert_eq!(found(&rig, &params).1, loss, "{name}");
        let words = rig.gpu.words(&rig.params);
        for (range, expected) in ranges.zip(&apart) {
            assert_eq!(&words[range.start as usize / 4..range.end as usize / 4], expected.as_slice(), "{name}");
        }
        let fresh = problem.gpu(&gpu().device).expect("the form on the GPU");
        let error = failure(fresh.record_gradient(&mut gpu().encode(), 0));
        assert!(error.contains("no parameters are bound"), "{error}");
        let error = failure(rig.objective.record_gradient(&mut gpu().encode(), 99));
        assert!(error.contains("batch 99 of "), "{error}");
    }
}

#[test]
fn threads_change_no_bit() {
    for (name, settings) in [("matrix", "rows=600 columns=500 rank=20"), ("l1", ""), ("spirals", "")] {
        let problem = make(name, settings);
        let params = problem.initial(1);
        let on_threads = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| {
                let (grads, loss) = gradient_of(problem.cpu_f32().expect("the fast form").as_mut(), &params);
                (grads.iter().flatten().map(|x| x.to_bits()).collect::<Vec<_>>(), loss.to_bits())
            })
        };
        assert_eq!(on_threads(1), on_threads(5), "{name}");
    }
}

#[test]
fn seeds_decide_the_data() {
    for (name, settings) in cases() {
        let has_seed = problems::find(name).expect("a problem").settings.contains(&"seed");
        let seeded = |seed: u64| {
            let seed = if has_seed { format!("{settings} seed={seed}") } else { settings.to_owned() };
            let problem = make(name, &seed);
            let params = point(problem.as_ref());
            let loss =
                problem.cpu_f64().expect("the exact form").loss(&slices(&wide(&params)), 0).expect("a loss").loss;
            (loss, problem.validation(&slices(&params)), problem.test(&slices(&params)))
        };
        assert_eq!(seeded(1), seeded(1), "{name}");
        assert_eq!(seeded(1).0 == seeded(2).0, !has_seed, "{name}");
        let problem = make(name, settings);
        assert_eq!(problem.initial(5), problem.initial(5), "{name}");
        assert_eq!(problem.initial(5) == problem.initial(6), name == "rosenbrock", "{name}");
        let lengths: Vec<_> = problem.initial(0).iter().map(Vec::len).collect();
        assert_eq!(lengths, problem.tensors().iter().map(TensorSpec::elements).collect::<Vec<_>>(), "{name}");
        let (_, validation, test) = seeded(1);
        assert_eq!(problem.measure().is_none(), validation.is_none() && test.is_none(), "{name}");
    }
}

/// At the factors that made the data, the loss is that of the noise, and the held-out error is 0.
#[test]
fn the_truth_has_no_test_error() {
    let problem = make("matrix", "noise=0.2 extra_rank=0 rank=4 density=0.5");
    let key = random::key(0, random::Stream::Data);
    let factor = |which, rows: u32| -> Vec<f32> {
        let key = random::draw(key, which);
        (0..rows * 4).map(|i| (0.5 * random::normal(key, i)) as f32).collect()
    };
    let truth = [factor(0, 200), factor(1, 300)];
    let loss = problem.cpu_f32().expect("the fast form").loss(&slices(&truth), 0).expect("a loss");
    assert!((loss.loss - 0.04).abs() < 0.002, "{loss:?}");
    assert!(loss.rows.abs_diff(30_000) < 500, "{loss:?}");
    let [validation, test] = [problem.validation(&slices(&truth)), problem.test(&slices(&truth))].map(Option::unwrap);
    assert!(validation < 1e-6 && test < 1e-6, "{validation} {test}");
}

#[test]
fn normal_numbers_are_normal() {
    let key = random::key(3, random::Stream::Data);
    let numbers: Vec<f64> = (0..100_000).map(|i| random::normal(key, i)).collect();
    let moment = |power| numbers.iter().map(|x| x.powi(power)).sum::<f64>() / 1e5;
    let moments = [moment(1), moment(2), moment(3), moment(4)];
    println!("{moments:?}");
    for (found, (expected, bound)) in moments.into_iter().zip([(0.0, 0.015), (1.0, 0.02), (0.0, 0.04), (3.0, 0.15)]) {
        assert!((found - expected).abs() < bound, "{moments:?}");
    }
    let lag: f64 = numbers.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / 1e5;
    assert!(lag.abs() < 0.015, "{lag}");
    assert!(numbers.iter().any(|x| *x > 3.8) && numbers.iter().all(|x| x.abs() < 7.0));
}

fn refused(name: &str, settings: &str) -> String {
    failure(configured(name, settings))
}

#[test]
fn bad_settings_are_named() {
    let unknown = failure(problems::find("matrx"));
    assert!(unknown.contains("problem `matrx`, did you mean `matrix`?"), "{unknown}");
    assert!(refused("matrix", "row=3").contains("did you mean `rows`?"));
    assert_eq!(refused("matrix", "rows=0"), "matrix: rows is 0, needs a whole number in [1, 100000]");
    assert_eq!(refused("matrix", "rows=2.5"), "matrix: rows is 2.5, needs a whole number of at least 0");
    assert!(refused("matrix", "rank=-1").contains("rank is -1"));
    assert!(refused("matrix", "rank=NaN").contains("rank is NaN"));
    assert!(refused("matrix", "noise=inf").contains("noise is inf"));
    assert!(refused("matrix", "rows=1e5 columns=1e5").contains("needs at most 16777216"));
    assert!(refused("matrix", "rank=1e5").contains("too many entries"));
    assert!(refused("matrix", "rows=1 columns=1 density=1e-9").contains("no entry is observed"));
    assert!(refused("tensor", "rows=1e4 columns=1e4 layers=1e4").contains("too many entries"));
    assert!(refused("robust", "rows=1e5 columns=1e5").contains("too many entries"));
    assert!(refused("sensing", "size=4096 measurements=2").contains("too many entries"));
    assert!(refused("sensing", "width=1e6").contains("width is 1e6"));
    assert!(refused("l1", "features=1e5 rows=100").contains("too many entries"));
    assert_eq!(refused("quadratic", "size=1025"), "quadratic: size is 1025, needs at most 1024");
    assert_eq!(refused("quadratic", "stiff=51"), "quadratic: stiff is 51, needs at most 50");
    assert_eq!(
        refused("quadratic", "spectrum=flat"),
        "quadratic: spectrum is flat, needs one of stiff shuffled spread"
    );
    assert_eq!(refused("digits", "bits=3"), "digits: bits is 3, needs 0, 2 or 4");
    assert!(refused("digits", "validation=0.5 test=0.5").contains("needs a sum below 1"));
    assert!(refused("digits", "validation=0").contains("both parts need rows"));
    assert!(refused("digits", "batch=1797").contains("batch size is 1797, needs 1..=1168"));
    assert_eq!(refused("spirals", "points=30001"), "spirals: points is 30001, needs at most 30000");
    assert_eq!(refused("rosenbrock", "size=1"), "rosenbrock: size is 1, needs at least 2");
    assert!(refused("kinematics", "joints=1e5 waypoints=1e5").contains("too many entries"));
    let file = failure(problems::find("matrix").expect("a problem").configure(Some("x".as_ref()), []));
    assert_eq!(file, "matrix: takes no file, has x");
    let none = failure(problems::find("ratings").expect("a problem").configure(None, []));
    assert_eq!(none, "ratings: needs a file");
    assert!(refused("ratings", "validation=0").contains("of 84 ratings 0 would validate and 17 test"));
    assert!(refused("ratings", "validation=0.5 test=0.5").contains("each part needs at least one"));
    assert!(refused("ratings", "layout=wide").contains("needs one of auto triples dense"));
}

#[test]
fn bad_slices_are_named() {
    let problem = make("matrix", "rows=4 columns=5 rank=1 density=1");
    let mut fast = problem.cpu_f32().expect("the fast form");
    let params = problem.initial(0);
    assert!(failure(fast.loss(&slices(&params)[..1], 0)).contains("1 slices of parameters, needs 2"));
    assert!(failure(fast.loss(&slices(&params), 1)).contains("batch 1 of 1"));
    let [mut short, mut right] = [vec![0.0; 23], vec![7.0; 30]];
    let result = fast.gradient(&slices(&params), 0, &mut [&mut short, &mut right]);
    assert!(failure(result).contains("tensor `u`: gradients have 23 elements, needs 24"));
    assert_eq!(right, [7.0; 30]);
}
