//! The two paths on the host: against each other, against plain forms of the formulas, and with input that must be refused.

mod support {
    pub(crate) mod handle;
    pub(crate) mod host;
    pub(crate) mod step;
    pub(crate) mod ulp;
    pub(crate) mod wide;
}

use wgpu_optim::cpu::{Number, Optimizer};
use wgpu_optim::optim::{
    ALL, AdaBelief, Adai, AdaiW, Adam, AdamW, FlowAdam, Integrator, Lamb, Lion, NormOf, ProxSgd, RmsProp, Rule, SAdam,
    Sgd, VRAdam, Value,
};
use wgpu_optim::{Error, Group};

use support::handle;

use support::host;
use support::step::step;
use support::ulp::ulp32;
use support::wide::wide;

/// Normal numbers from a counter.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
    fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.uniform()).ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
    /// Exact f32 numbers.
    fn tensor<F: Number>(&mut self, elements: usize) -> Vec<F> {
        (0..elements).map(|_| F::from_f64(f64::from(self.normal() as f32))).collect()
    }
}

fn single<F: Number>(rule: impl Rule + 'static, elements: usize) -> Optimizer<F> {
    host::builder([("all", rule.boxed())], [("w", 0, elements)]).build_cpu().expect("valid")
}

/// Parameters of one tensor after each of `steps` steps of the oracle from the same numbers.
fn trajectory(rule: impl Rule + 'static, elements: usize, steps: usize) -> Vec<Vec<f64>> {
    let mut optimizer = single::<f64>(rule, elements);
    let mut random = Random(7);
    let mut p = vec![random.tensor(elements)];
    (0..steps)
        .map(|_| {
            step(&mut optimizer, &mut p, &[random.tensor(elements)]);
            p[0].clone()
        })
        .collect()
}

/// The same numbers by a plain form: `rule(t, i, θ, g)` gives the next θ.
fn plain(elements: usize, steps: usize, mut rule: impl FnMut(usize, usize, f64, f64) -> f64) -> Vec<Vec<f64>> {
    let mut random = Random(7);
    let mut p = random.tensor::<f64>(elements);
    (1..=steps)
        .map(|t| {
            let g = random.tensor::<f64>(elements);
            for i in 0..elements {
                p[i] = rule(t, i, p[i], g[i]);
            }
            p.clone()
        })
        .collect()
}

fn assert_close(a: &[Vec<f64>], b: &[Vec<f64>], tolerance: f64) {
    assert_eq!(a.len(), b.len());
    for (t, (a, b)) in a.iter().zip(b).enumerate() {
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            assert!((a - b).abs() <= tolerance * (1.0 + b.abs()), "step {}, element {i}: {a} and {b}", t + 1);
        }
    }
}

#[test]
fn vradam_without_beta3_is_adamw() {
    let ours = trajectory(VRAdam { beta3: 0.0, weight_decay: 0.1, ..VRAdam::default() }, 50, 20);
    assert_close(&ours, &trajectory(AdamW { weight_decay: 0.1, ..AdamW::default() }, 50, 20), 1e-14);
    let capped = trajectory(VRAdam { lr_cutoff: 0.0, weight_decay: 0.1, ..VRAdam::default() }, 50, 20);
    assert_close(&capped, &ours, 1e-14);
}

/// Adam with L2 decay, written out for a whole tensor: the gradient that the step must agree with has the decay.
#[test]
fn cautious_adam_moves_what_agrees_with_the_decayed_gradient() {
    const N: usize = 50;
    let rule = Adam { lr: 0.01, weight_decay: 0.5, cautious: true, ..Adam::default() };
    let mut random = Random(7);
    let mut p = random.tensor::<f64>(N);
    let (mut m, mut v, mut still) = ([0.0; N], [0.0; N], 0);
    let expected: Vec<Vec<f64>> = (1..=20)
        .map(|t| {
            let gradient = random.tensor::<f64>(N);
            let g: Vec<f64> = (0..N).map(|i| gradient[i] + 0.5 * p[i]).collect();
            (0..N).for_each(|i| m[i] = 0.9 * m[i] + 0.1 * g[i]);
            (0..N).for_each(|i| v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i]);
            let agree: Vec<bool> = (0..N).map(|i| m[i] * g[i] > 0.0).collect();
            let moving = agree.iter().filter(|agree| **agree).count();
            still += N - moving;
            for i in (0..N).filter(|i| agree[*i]) {
                let (first, second) = (m[i] / (1.0 - 0.9_f64.powi(t)), v[i] / (1.0 - 0.999_f64.powi(t)));
                p[i] -= 0.01 * N as f64 / moving as f64 * first / (second.sqrt() + 1e-8);
            }
            p.clone()
        })
        .collect();
    assert!(still > 0, "every element moved in every step");
    assert_close(&trajectory(rule, N, 20), &expected, 1e-12);
}

#[test]
fn cautious_vradam_without_beta3_is_cautious_adamw() {
    let rule = VRAdam { beta3: 0.0, weight_decay: 0.1, cautious: true, ..VRAdam::default() };
    let adamw = trajectory(AdamW { weight_decay: 0.1, cautious: true, ..AdamW::default() }, 50, 20);
    assert_close(&trajectory(rule, 50, 20), &adamw, 1e-14);
    // The norm is that of the moments, whatever moves.
    let norm_of = |cautious| {
        let rule = VRAdam { beta3: 0.01, weight_decay: 0.0, lr: 1e-6, cautious, ..VRAdam::default() };
        let mut optimizer = single::<f64>(rule, 50);
        let (mut random, mut etas) = (Random(7), Vec::new());
        let mut p = vec![random.tensor(50)];
        for _ in 0..5 {
            step(&mut optimizer, &mut p, &[random.tensor(50)]);
            etas.push(optimizer.decision(handle::tensor(&optimizer, 0), "eta").expect("its handle").expect("decided"));
        }
        etas
    };
    for (plain, cautious) in norm_of(false).into_iter().zip(norm_of(true)) {
        assert!((plain - cautious).abs() <= 1e-14 * plain, "{plain} {cautious}");
    }
}

#[test]
fn groups_with_and_without_caution_are_two_rules() {
    let rules = || [Adam::default(), Adam { cautious: true, ..Adam::default() }].map(|rule| rule.boxed());
    let [plain, cautious] = rules();
    let builder = host::builder([("all", plain), ("other", cautious)], [("w", 0, 3), ("u", 1, 3)]);
    let mut both = builder.build_cpu::<f64>().expect("it is built");
    let mut moved = [vec![0.0; 3], vec![0.0; 3]];
    let mut alone = [vec![vec![0.0; 3]], vec![vec![0.0; 3]]];
    let mut separate =
        rules().map(|rule| host::builder([("all", rule)], [("w", 0, 3)]).build_cpu::<f64>().expect("it is built"));
    for grads in [[1.0, -2.0, 0.5], [-0.5, -1.0, 0.25]] {
        step(&mut both, &mut moved, &[grads.to_vec(), grads.to_vec()]);
        for (optimizer, params) in separate.iter_mut().zip(&mut alone) {
            step(optimizer, params, &[grads.to_vec()]);
        }
    }
    assert_eq!(moved.to_vec(), alone.concat());
    assert_ne!(moved[0], moved[1], "the first element disagrees in the second step");
}

/// Where no element agrees, the factor ends at 1000, and only the decay moves.
#[test]
fn cautious_steps_against_the_momentum_move_by_decay_alone() {
    let mut optimizer = single::<f64>(Lion { lr: 0.1, weight_decay: 0.5, cautious: true, ..Lion::default() }, 2);
    let mut p = vec![vec![1.0, -2.0]];
    step(&mut optimizer, &mut p, &[vec![1.0, -1.0]]);
    assert_close(&p, &[vec![0.95 - 0.1, -1.9 + 0.1]], 1e-15);
    // The momentum is 0.01 of the first gradient: 0.9 · 0.01 outweighs 0.1 · 0.05.
    step(&mut optimizer, &mut p, &[vec![-0.05, 0.05]]);
    assert_close(&p, &[vec![0.85 * 0.95, -1.8 * 0.95]], 1e-15);
    let scale = optimizer.decision(handle::tensor(&optimizer, 0), "scale").expect("its handle");
    assert_eq!(scale, Some(1.0 / 1e-3));
}

#[test]
fn vradam_brakes_by_the_norm_over_everything() {
    let rule = VRAdam { lr: 0.01, weight_decay: 0.1, beta3: 0.01, ..VRAdam::default() };
    for norm_of in [NormOf::Velocity, NormOf::Gradient] {
        let mut optimizer = single::<f64>(VRAdam { norm_of, ..rule }, 2);
        let mut p = vec![vec![1.0, -2.0]];
        step(&mut optimizer, &mut p, &[vec![3.0, 4.0]]);
        let norm = if norm_of == NormOf::Velocity { 0.25 } else { 25.0 };
        assert!((optimizer.totals()[0] - norm).abs() < 1e-14);
        let eta = 0.01 / (1.0 + 0.01 * norm);
        assert!((p[0][0] - (1.0 - eta * 0.1 - eta)).abs() < 1e-9);
    }
}

/// Takes the same steps with one tensor and with its two parts, and returns the worst difference.
fn split_difference(rule: &dyn Rule) -> f64 {
    let groups = || [("all", rule.boxed())];
    let mut whole = host::builder(groups(), [("w", 0, 100)]).build_cpu::<f64>().expect("valid");
    let mut parts = host::builder(groups(), [("a", 0, 30), ("b", 0, 70)]).build_cpu::<f64>().expect("valid");
    let mut random = Random(3);
    let mut p = vec![random.tensor::<f64>(100)];
    let mut q = vec![p[0][..30].to_vec(), p[0][30..].to_vec()];
    let mut worst = 0.0_f64;
    for _ in 0..20 {
        let g: Vec<f64> = random.tensor(100);
        step(&mut whole, &mut p, std::slice::from_ref(&g));
        step(&mut parts, &mut q, &[g[..30].to_vec(), g[30..].to_vec()]);
        worst = p[0].iter().zip(q.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(worst, f64::max);
    }
    worst
}

#[test]
fn splitting_a_tensor_changes_only_what_is_of_one_tensor() {
    for entry in ALL {
        for (variant, rule) in entry.variants() {
            let worst = split_difference(rule.as_ref());
            // LAMB's ratio, Muon's matrix, Adafactor's means, and the share of the elements that a cautious step moves.
            if ["lamb", "muon", "adafactor"].contains(&entry.name) || variant.starts_with("cautious") {
                assert!(worst > 1e-6, "{variant}: {worst:e}");
            } else {
                assert!(worst < 1e-13, "{} {variant}: {worst:e}", entry.name);
            }
        }
    }
}

#[test]
fn groups_have_their_own_settings_and_share_the_sums() {
    for entry in ALL {
        let first = entry.sample();
        let mut second = first.boxed();
        second.set("lr", &Value::Number(0.02)).expect("every rule has lr");
        let groups = [("a", first.boxed()), ("b", second.boxed())];
        let mut both = host::builder(groups, [("x", 1, 10), ("y", 0, 20)]).build_cpu::<f64>().expect("valid");
        let alone = |rule: &dyn Rule| {
            host::builder([("all", rule.boxed())], [("x", 0, 10), ("y", 0, 20)]).build_cpu::<f64>().expect("valid")
        };
        let (mut with_first, mut with_second) = (alone(first.as_ref()), alone(second.as_ref()));
        let mut random = Random(5);
        let p = vec![random.tensor::<f64>(10), random.tensor(20)];
        let g = vec![random.tensor::<f64>(10), random.tensor(20)];
        let (mut p0, mut p1, mut p2) = (p.clone(), p.clone(), p);
        step(&mut both, &mut p0, &g);
        step(&mut with_first, &mut p1, &g);
        step(&mut with_second, &mut p2, &g);
        assert_eq!(p0[0], p2[0], "{}", entry.name);
        assert_eq!(p0[1], p1[1], "{}", entry.name);
        assert_ne!(p0[0], p1[0], "{}", entry.name);
    }
}

#[test]
fn a_state_is_kept_where_settings_need_it() {
    let unkept = single::<f64>(Adam { beta1: 0.0, ..Adam::default() }, 3);
    assert_eq!(unkept.state_names(handle::tensor(&unkept, 0)).unwrap(), ["v"]);
    let rules: [Box<dyn Rule>; 2] = [Box::new(VRAdam { beta1: 0.0, ..VRAdam::default() }), Box::new(VRAdam::default())];
    let groups = ["a", "b"].into_iter().zip(rules);
    let shared = host::builder(groups, [("x", 0, 3), ("y", 1, 3)]).build_cpu::<f64>().expect("valid");
    assert!((0..2).all(|t| shared.state(handle::tensor(&shared, t), "m").is_ok()));
    let unknown = shared.state(handle::tensor(&shared, 0), "n").unwrap_err().to_string();
    assert!(unknown.contains("unknown state of tensor `x` `n`"), "{unknown}");
}

#[test]
fn adai_refuses_a_step_of_zeros() {
    for rule in [Box::new(Adai { weight_decay: 0.0, ..Adai::new(0.1) }) as Box<dyn Rule>, Box::new(AdaiW::new(0.1))] {
        let mut optimizer = host::builder([("all", rule)], [("w", 0, 40)]).build_cpu::<f32>().expect("valid");
        let mut p = vec![vec![1.5_f32; 40]];
        step(&mut optimizer, &mut p, &[vec![0.0; 40]]);
        assert_eq!((optimizer.step_count(), p[0][0], optimizer.totals()[0]), (0, 1.5, 0.0));
        assert!(optimizer.state(handle::tensor(&optimizer, 0), "q").expect("kept").iter().all(|q| *q == 0.0));
        step(&mut optimizer, &mut p, &[vec![2.0; 40]]);
        assert_eq!((optimizer.step_count(), p[0][0]), (1, 1.5 - 0.1 * 2.0));
        step(&mut optimizer, &mut p, &[vec![0.0; 40]]);
        assert_eq!(optimizer.step_count(), 2, "v is above 0 from now on");
    }
}

/// Near the minimum of a decayed loss g + λθ is tiny beside g, and rounding may make a sum negative.
#[test]
fn adai_goes_on_where_gradient_and_decay_balance() {
    for seed in 0..20 {
        let mut optimizer = single::<f32>(Adai { weight_decay: 0.1, ..Adai::new(0.1) }, 1000);
        let w = handle::tensor(&optimizer, 0);
        optimizer.state_mut(w, "v").expect("kept").fill(1e-13);
        optimizer.state_mut(w, "q").expect("kept").fill(1.0);
        optimizer.set_step_count(5000);
        let mut p = vec![Random(seed).tensor::<f32>(1000)];
        let g = p[0].iter().map(|p| -0.1 * p).collect();
        step(&mut optimizer, &mut p, &[g]);
        assert_eq!(optimizer.step_count(), 5001, "seed {seed}: {:?}", optimizer.totals());
        assert!(p[0].iter().all(|p| p.is_finite()));
    }
}

/// The authors' form: Π and 1-β1 by subtraction, β1 of each element, v̄ over everything.
fn adai_v2_plain(decoupled: bool, lr: f64, lambda: f64, d: f64, steps: usize) -> Vec<Vec<f64>> {
    let (n, beta0, beta2, eps) = (20, 0.1, 0.99, 1e-3);
    let mut random = Random(7);
    let mut p = random.tensor::<f64>(n);
    let (mut m, mut v, mut product) = (vec![0.0; n], vec![0.0; n], vec![1.0; n]);
    let mut out = Vec::new();
    for t in 1..=steps {
        let mut g = random.tensor::<f64>(n);
        let bc2 = 1.0 - f64::powi(beta2, t as i32);
        let mut mean = 0.0;
        for i in 0..n {
            if decoupled {
                p[i] *= 1.0 - lr * lambda;
            } else {
                g[i] += lambda * p[i];
            }
            v[i] = beta2 * v[i] + (1.0 - beta2) * g[i] * g[i];
            mean += v[i] / bc2 / n as f64;
        }
        for i in 0..n {
            let share = (v[i] / bc2 / mean).powf(1.0 / (3.0 - 2.0 * d));
            let beta1 = (1.0 - beta0 * share).clamp(0.0, 1.0 - eps);
            product[i] *= beta1;
            m[i] = beta1 * m[i] + (1.0 - beta1).powf(d) * g[i];
            p[i] -= lr * f64::powf(beta0, 1.0 - d) * m[i] / (1.0 - product[i]);
        }
        out.push(p.clone());
    }
    out
}

#[test]
fn adai_with_dampening_follows_the_authors_form() {
    for d in [1.0, 0.7, 0.5, 0.0] {
        let l2 = Adai { weight_decay: 0.1, dampening: d, ..Adai::new(0.05) };
        assert_close(&trajectory(l2, 20, 10), &adai_v2_plain(false, 0.05, 0.1, d, 10), 1e-12);
        let w = AdaiW { weight_decay: 0.1, dampening: d, ..AdaiW::new(0.05) };
        assert_close(&trajectory(w, 20, 10), &adai_v2_plain(true, 0.05, 0.1, d, 10), 1e-12);
    }
}

#[test]
fn adai_without_beta0_is_sgd_with_an_average_and_bias_correction() {
    let mut m = [0.0; 20];
    let beta1: f64 = 1.0 - 1e-3;
    let ema = plain(20, 15, |t, i, p, g| {
        m[i] = beta1 * m[i] + 1e-3 * g;
        p - 0.05 * m[i] / (1.0 - beta1.powi(t as i32))
    });
    assert_close(&trajectory(Adai { beta0: 0.0, ..Adai::new(0.05) }, 20, 15), &ema, 1e-12);
}

#[test]
fn prox_sgd_is_the_soft_threshold_in_closed_form() {
    let (lr, l1) = (0.1, 3.0);
    let mut b = [0.0; 40];
    let expected = plain(40, 12, |_, i, p, g| {
        b[i] = 0.9 * b[i] + g;
        let z = p - lr * b[i];
        z.signum() * (z.abs() - lr * l1).max(0.0)
    });
    assert_close(&trajectory(ProxSgd { lr, l1, momentum: 0.9 }, 40, 12), &expected, 1e-15);
    assert!(expected[11].iter().filter(|p| **p == 0.0).count() > 3, "some weights lie under the threshold");
}

#[test]
fn prox_sgd_finds_the_lasso_solution() {
    // ½(θ-a)² + k|θ| has its minimum at the soft threshold of a by k; the buffer takes the share μ off l1.
    let a = [2.0, 0.3, -0.3, -2.0, 0.5, 0.0];
    for (l1, momentum) in [(0.5, 0.0), (1.0, 0.5)] {
        lasso(ProxSgd { lr: 0.1, l1, momentum }, a);
    }
}

fn lasso(rule: ProxSgd, a: [f32; 6]) {
    let mut optimizer = single::<f32>(rule, 6);
    let mut p = vec![vec![1.0_f32, -1.0, 1.0, 1.0, -0.2, 0.7]];
    for _ in 0..300 {
        let g = p[0].iter().zip(a).map(|(p, a)| p - a).collect();
        step(&mut optimizer, &mut p, &[g]);
    }
    for (p, expected) in p[0].iter().zip([1.5, 0.0, 0.0, -1.5, 0.0, 0.0]) {
        assert!((p - expected).abs() < 1e-5, "{p} and {expected}");
    }
    assert_eq!((p[0][1], p[0][2], p[0][5]), (0.0, 0.0, 0.0), "exact zeros");
}

#[test]
fn prox_sgd_without_l1_is_sgd() {
    let sgd = Sgd { lr: 0.1, momentum: 0.9, ..Sgd::default() };
    assert_close(&trajectory(ProxSgd { lr: 0.1, l1: 0.0, momentum: 0.9 }, 30, 10), &trajectory(sgd, 30, 10), 1e-15);
}

#[test]
fn sgd_dampens_from_the_second_step_on() {
    let mut b = [0.0; 10];
    let expected = plain(10, 8, |t, i, p, gradient| {
        let g = gradient + 0.1 * p;
        b[i] = if t == 1 { g } else { 0.9 * b[i] + (1.0 - 0.3) * g };
        p - 0.05 * b[i]
    });
    let rule = Sgd { lr: 0.05, momentum: 0.9, dampening: 0.3, weight_decay: 0.1, ..Sgd::default() };
    assert_close(&trajectory(rule, 10, 8), &expected, 1e-14);
    let ignored = Sgd { dampening: 0.3, ..Sgd::default() };
    assert_close(&trajectory(ignored, 10, 8), &trajectory(Sgd::default(), 10, 8), 0.0);
}

#[test]
fn rmsprop_centered_with_momentum_follows_torchs_form() {
    let (mut v, mut mean, mut b) = ([0.0; 10], [0.0; 10], [0.0; 10]);
    let expected = plain(10, 10, |_, i, p, gradient| {
        let g: f64 = gradient + 0.1 * p;
        v[i] = 0.9 * v[i] + (1.0 - 0.9) * g * g;
        mean[i] += (1.0 - 0.9) * (g - mean[i]);
        b[i] = 0.5 * b[i] + g / ((v[i] - mean[i] * mean[i]).sqrt() + 1e-8);
        p - 0.01 * b[i]
    });
    let rule = RmsProp { alpha: 0.9, momentum: 0.5, centered: true, weight_decay: 0.1, ..RmsProp::default() };
    assert_close(&trajectory(rule, 10, 10), &expected, 1e-12);
}

#[test]
fn adabelief_decays_decoupled() {
    let with = AdaBelief { lr: 0.01, weight_decay: 0.1, ..AdaBelief::default() };
    let without = AdaBelief { weight_decay: 0.0, ..with };
    let (a, b) = (trajectory(with, 5, 1), trajectory(without, 5, 1));
    let start = Random(7).tensor::<f64>(5);
    for i in 0..5 {
        assert!((a[0][i] - (b[0][i] - 0.01 * 0.1 * start[i])).abs() < 1e-15);
    }
}

#[test]
fn lion_leaves_parameters_with_zero_gradients() {
    let mut optimizer = single::<f32>(Lion { weight_decay: 0.0, ..Lion::default() }, 3);
    let mut p = vec![vec![1.0_f32, 1.0, 1.0]];
    step(&mut optimizer, &mut p, &[vec![0.0, -0.0, 1.0]]);
    assert_eq!(p[0], [1.0, 1.0, 1.0 - 1e-4]);
}

#[test]
fn lamb_takes_one_for_the_ratio_of_a_zero_norm() {
    let mut optimizer = single::<f64>(Lamb { lr: 0.1, ..Lamb::default() }, 2);
    let mut p = vec![vec![0.0, 0.0]];
    step(&mut optimizer, &mut p, &[vec![1.0, -1.0]]);
    assert!((p[0][0] + 0.1).abs() < 1e-6 && (p[0][1] - 0.1).abs() < 1e-6, "{p:?}");
    let mut still = single::<f64>(Lamb { lr: 0.1, ..Lamb::default() }, 2);
    let mut q = vec![vec![3.0, 4.0]];
    step(&mut still, &mut q, &[vec![0.0, 0.0]]);
    assert_eq!(q[0], [3.0, 4.0]);
}

fn rms(numbers: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = numbers.clone().count().max(1);
    (numbers.map(|x| x * x).sum::<f64>() / count as f64).sqrt()
}

/// A fast path and an oracle in the same f32 state after three steps, with parameters.
fn pair(rule: &dyn Rule, sizes: &[usize], random: &mut Random) -> (Optimizer<f32>, Optimizer<f64>, Vec<Vec<f32>>) {
    let tensors = || sizes.iter().enumerate().map(|(i, n)| (format!("t{i}"), 0, *n));
    let mut fast = host::builder([("all", rule.boxed())], tensors()).build_cpu::<f32>().expect("valid");
    let mut oracle = host::builder([("all", rule.boxed())], tensors()).build_cpu::<f64>().expect("valid");
    let mut p: Vec<Vec<f32>> = sizes.iter().map(|n| random.tensor(*n)).collect();
    for _ in 0..3 {
        let g: Vec<Vec<f32>> = sizes.iter().map(|n| random.tensor(*n)).collect();
        step(&mut fast, &mut p, &g);
    }
    for tensor in 0..sizes.len() {
        for state in rule.states().iter().filter(|s| s.used && !s.scratch) {
            let (here, there) = (handle::tensor(&fast, tensor), handle::tensor(&oracle, tensor));
            let from = fast.state(here, state.name).expect("kept").iter().map(|x| f64::from(*x));
            let to = oracle.state_mut(there, state.name).expect("kept");
            to.iter_mut().zip(from).for_each(|(to, from)| *to = from);
        }
    }
    oracle.set_step_count(fast.step_count());
    let memory: Vec<f64> = fast.global_state_values().iter().map(|x| f64::from(*x)).collect();
    oracle.set_global_state(&memory).expect("as many");
    (fast, oracle, p)
}

/// The worst shares of the tolerance in parameters and states, one step from the same state.
fn shares(rule: &dyn Rule, sizes: &[usize]) -> (f64, f64) {
    let mut random = Random(11);
    let (mut fast, mut oracle, mut p) = pair(rule, sizes, &mut random);
    let g: Vec<Vec<f32>> = sizes.iter().map(|n| random.tensor(*n)).collect();
    let before = wide(&p);
    let mut exact = before.clone();
    step(&mut fast, &mut p, &g);
    step(&mut oracle, &mut exact, &wide(&g));
    // Where states depend on sums, so do their errors.
    let tolerance = if rule.sums().sums > 0 { 4e-6 } else { 1e-6 };
    let (mut params, mut states) = (0.0_f64, 0.0_f64);
    for tensor in 0..sizes.len() {
        let change = || before[tensor].iter().zip(&exact[tensor]).map(|(a, b)| b - a);
        let typical = rms(change());
        for ((x, e), delta) in p[tensor].iter().zip(&exact[tensor]).zip(change()) {
            let allowed = ulp32(*e) + 4e-6 * delta.abs().max(typical);
            params = params.max((f64::from(*x) - e).abs() / allowed);
        }
        for state in rule.states().iter().filter(|s| s.used && !s.scratch) {
            let (here, there) = (handle::tensor(&fast, tensor), handle::tensor(&oracle, tensor));
            let (x, e) = (fast.state(here, state.name), oracle.state(there, state.name));
            let (x, e) = (x.expect("kept"), e.expect("kept"));
            let typical = rms(e.iter().copied());
            for (x, e) in x.iter().zip(e).filter(|(x, e)| f64::from(**x) != **e) {
                states = states.max((f64::from(*x) - e).abs() / (tolerance * e.abs().max(typical)));
            }
        }
    }
    (params, states)
}

#[test]
fn fast_path_agrees_with_the_oracle() {
    for entry in ALL {
        for (variant, rule) in entry.variants() {
            let (params, states) = shares(rule.as_ref(), &[0, 1, 31, 32, 33, 1000, 100_001, 65_537, 5]);
            println!("{:10} {variant:20} parameters {params:.3}, states {states:.3} of the tolerance", entry.name);
            assert!(params <= 1.0 && states <= 1.0, "{} {variant}: {params} {states}", entry.name);
        }
    }
}

#[cfg(feature = "parallel")]
#[test]
fn fast_path_gives_the_same_bits_on_any_number_of_threads() {
    let sizes = [200_001, 7, 0, 65_537, 65_536, 3];
    for entry in ALL {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            let mut random = Random(2);
            pool.install(|| pair(entry.sample().as_ref(), &sizes, &mut random).2)
        };
        assert_eq!(run(1), run(3), "{}", entry.name);
    }
}

#[test]
fn the_order_of_many_small_tensors_is_kept() {
    let mut random = Random(9);
    let sizes: Vec<usize> = (0..3000).map(|i| i % 37).collect();
    let (mut fast, mut oracle, mut p) = pair(&VRAdam::default(), &sizes, &mut random);
    let g: Vec<Vec<f32>> = sizes.iter().map(|n| random.tensor(*n)).collect();
    let mut exact = wide(&p);
    step(&mut fast, &mut p, &g);
    step(&mut oracle, &mut exact, &wide(&g));
    for (p, e) in p.iter().flatten().zip(exact.iter().flatten()) {
        assert!((f64::from(*p) - e).abs() <= ulp32(*e) + 1e-8, "{p} and {e}");
    }
}

#[test]
fn input_that_does_not_fit_changes_nothing() {
    let mut optimizer = single::<f32>(AdamW::default(), 3);
    let (mut p, g) = ([1.0_f32; 3], [1.0_f32; 3]);
    let counts = optimizer.step(&mut [], &[&g]).expect_err("no parameter");
    assert!(counts.to_string().contains("0 parameters"), "{counts}");
    let counts = optimizer.step(&mut [&mut p], &[&g, &g]).expect_err("two gradients");
    assert!(counts.to_string().contains("2 gradients"), "{counts}");
    let length = optimizer.step(&mut [&mut p], &[&g[..2]]).expect_err("short");
    assert_eq!(length.to_string(), "tensor `w`: its gradient has 2 elements, needs 3");
    let length = optimizer.step(&mut [&mut p[..1]], &[&g]).expect_err("short");
    assert_eq!(length.to_string(), "tensor `w`: its parameter has 1 elements, needs 3");
    assert_eq!((optimizer.step_count(), p), (0, [1.0; 3]));
    assert_eq!(optimizer.state(handle::tensor(&optimizer, 0), "m").expect("kept"), [0.0; 3]);
}

#[test]
fn an_optimizer_that_makes_no_sense_is_refused() {
    type Groups = Vec<(&'static str, Box<dyn Rule>)>;
    let group = |name: &'static str, rule: Box<dyn Rule>| (name, rule);
    let new = |groups: Groups, tensors: Vec<(&str, usize, usize)>| {
        host::builder(groups, tensors).build_cpu::<f64>().expect_err("refused")
    };
    let adamw = || Box::<AdamW>::default();
    let flow = FlowAdam { integrator: Integrator::Rk4, ..FlowAdam::default() };
    let both = new(vec![group("a", Box::<SAdam>::default()), group("b", Box::new(flow))], vec![]);
    assert!(both.to_string().contains("group `default` holds sadam, group `b` flowadam: both evaluate"), "{both}");
    let twice = new(vec![group("default", adamw()), group("a", adamw()), group("a", adamw())], vec![]);
    assert!(matches!(twice, Error::Duplicate { kind: "group", .. }));
    let twice = new(vec![group("a", adamw())], vec![("w", 0, 1), ("w", 0, 1)]);
    assert!(matches!(twice, Error::Duplicate { kind: "tensor", .. }));
    let none = new(vec![group("a", adamw())], vec![]).to_string();
    assert!(none.contains("has no tensor"), "{none}");
    let range = new(vec![group("a", Box::new(AdamW { lr: f64::NAN, ..AdamW::default() }))], vec![]);
    assert!(matches!(range, Error::Setting { .. }));
    let nesterov = new(vec![group("a", Box::new(Sgd { nesterov: true, ..Sgd::default() }))], vec![]);
    assert_eq!(nesterov.to_string(), "sgd: momentum is 0, needs to be above 0 with nesterov");
    let damped = Sgd { nesterov: true, momentum: 0.9, dampening: 0.5, ..Sgd::default() };
    assert!(new(vec![group("a", Box::new(damped))], vec![]).to_string().contains("dampening is 0.5"));
}

#[test]
fn a_setting_changes_from_the_next_step_on() {
    let mut optimizer = single::<f64>(Sgd::default(), 1);
    let mut p = vec![vec![0.0]];
    step(&mut optimizer, &mut p, &[vec![1.0]]);
    optimizer.set(Group::DEFAULT, "lr", &Value::Number(0.5)).expect("valid");
    step(&mut optimizer, &mut p, &[vec![1.0]]);
    assert_eq!(p[0][0], -1e-3 - 0.5);
    for (name, value) in [("lr", -1.0), ("learning_rate", 0.1), ("momentum", 0.9)] {
        assert!(optimizer.set(Group::DEFAULT, name, &Value::Number(value)).is_err(), "{name} {value}");
    }
    assert_eq!(
        optimizer.rule(Group::DEFAULT).unwrap().settings()[..2],
        [("lr", Value::Number(0.5)), ("momentum", Value::Number(0.0))]
    );
}

#[test]
fn a_tensor_without_elements_is_valid() {
    for entry in ALL {
        let mut empty = host::builder([("all", entry.sample())], [("w", 0, 0)]).build_cpu::<f32>().expect("valid");
        empty.step(&mut [&mut []], &[&[]]).expect("a step");
    }
}
