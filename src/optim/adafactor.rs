//! Adafactor; the rule is `shaders/rules/adafactor.wgsl`.

use std::sync::Arc;

use super::procedure::{Factors, Shared};
use super::rule::{ElementwiseRule, MAX_SUMS, Nothing, Real, Scalar, StateSpec, Sums, fields};
use crate::optim::rule::settings::settings;

settings! {
    /// Adafactor (Shazeer & Stern 2018) as `torch.optim.Adafactor`: the second moment of a matrix takes a number per row and per column.
    ///
    /// `w = t^beta2_decay`, `r ← r + w (row means of g² - r)`, `c ← c + w (column means of g² - c)`, `v = r cᵀ / max(mean r, eps1)`,
    /// `U = g / √max(v, eps1²)`, `α = max(eps2, RMS(θ)) min(η, 1/√t)`, `θ ← θ - ηλθ - α / max(1, RMS(U)/d) U`. RMS is over a tensor, that of θ
    /// is from before the step.
    ///
    /// A matrix, which is a tensor of at least two dimensions, keeps `r` and `c`, always in f32: for 4096 × 4096 elements 0.05 % of the bytes of
    /// the parameters. Leading dimensions beyond two are a batch of matrices. A tensor of fewer dimensions keeps `v`, a number per element.
    ///
    /// ```
    /// use wgpu_optim::memory::Role;
    /// use wgpu_optim::{Adafactor, Group, Optimizer, wgpu};
    ///
    /// let mut builder = Optimizer::builder(Adafactor { lr: 1e-3, ..Adafactor::default() });
    /// builder.tensors(Group::DEFAULT, [("w", &[4096, 4096][..]), ("b", &[4096])]);
    /// let memory = builder.memory_usage(&wgpu::Limits::default())?;
    /// assert_eq!(["r", "c", "v"].map(|state| memory.of(Role::State(state))), [4 * 4096; 3]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    Adafactor = "adafactor",
    /// Learning rate η, the largest relative step. Default 1e-2, torch's.
    lr: f64 = 1e-2, NOT_NEGATIVE;
    /// The power of the step count that is the weight of the new square, at most 0. Default -0.8, torch's.
    beta2_decay: f64 = -0.8, NEGATIVE_POWER;
    /// The least mean square that a division by a mean sees; its square is the least `v`. Default 2⁻²³, torch's for parameters in f32.
    eps1: f64 = 1.192_092_895_507_812_5e-7, ROOT_EPSILON;
    /// The least RMS of the parameters that a step is relative to. Default 1e-3, torch's.
    eps2: f64 = 1e-3, NOT_NEGATIVE;
    /// The largest RMS of a step's direction, at least 1. Default 1, torch's.
    d: f64 = 1.0, AT_LEAST_ONE;
    /// λ, decoupled: each step subtracts ηλθ. Default 0, torch's.
    weight_decay: f64 = 0.0, NOT_NEGATIVE;
}

fields! {
    /// The scalars of a step.
    Hyper {
        /// η
        lr,
        /// 1/√t
        root,
        /// w; 0 where the harness gives the next `v`
        share,
        /// eps1
        least,
        /// eps1²
        floor,
        /// eps2
        eps2,
        /// d
        d,
        /// ηλ
        decay,
    }
}

fields! {
    /// The states.
    State {
        /// Second moment.
        v,
    }
}

fields! {
    /// The decision from the two means of squares.
    Decision {
        /// α / max(1, RMS(U)/d)
        step,
    }
}

#[inline(always)]
fn second_moment<F: Real>(h: &Hyper<F>, g: F, v: F) -> F {
    v + h.share * (g * g - v)
}

#[inline(always)]
fn direction<F: Real>(h: &Hyper<F>, g: F, v: F) -> F {
    g / v.max(h.floor).sqrt()
}

impl ElementwiseRule for Adafactor {
    type Hyper<F: Real> = Hyper<F>;
    type State<F: Real> = State<F>;
    type Decision<F: Real> = Decision<F>;
    type GlobalState<F: Real> = Nothing;
    const TEXT: &'static str = include_str!("../../shaders/rules/adafactor.wgsl");
    /// Worst measured error: 0.89.
    const TOLERANCE: f64 = 3.0;
    const SUMS: Sums = Sums { sums: 2, totals: 2, after_clip: true, ..Sums::NONE };

    fn procedure(&self) -> Shared {
        Some(Arc::new(Factors))
    }

    fn sums_read(&self) -> &'static [&'static str] {
        &["p", "g", "v"]
    }

    fn scalars(&self, t: u64) -> Vec<Scalar> {
        let t = t.max(1) as f64;
        vec![
            Scalar::call("lr", self.lr),
            Scalar::count("root", 1.0 / t.sqrt()),
            Scalar::count("share", t.powf(self.beta2_decay)),
            Scalar::call("least", self.eps1),
            Scalar::call("floor", self.eps1 * self.eps1),
            Scalar::call("eps2", self.eps2),
            Scalar::call("d", self.d),
            Scalar::call("decay", self.lr * self.weight_decay),
        ]
    }

    fn own_count(&self) -> Option<Vec<Scalar>> {
        let product = self.beta2_decay * std::f64::consts::LN_2;
        // Without its last bits, so that the product with a whole number below 32 is exact in f32.
        let high = f32::from_bits((product as f32).to_bits() & !0x1f);
        Some(vec![
            Scalar::call("own_beta2_decay", self.beta2_decay),
            Scalar::call("own_high", high.into()),
            Scalar::call("own_low", product - f64::from(high)),
        ])
    }

    fn states(&self) -> Vec<StateSpec> {
        vec![StateSpec::zero("v", true).positive()]
    }

    fn flags(&self) -> Vec<(&'static str, bool)> {
        vec![(Factors::FLAG, false)]
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let base = Self { weight_decay: 0.1, ..Self::default() };
        vec![("default", base), ("loose", Self { lr: 0.3, beta2_decay: -2.0, eps1: 1e-3, eps2: 0.5, d: 2.0, ..base })]
    }

    #[inline(always)]
    fn contribute<F: Real>(&self, h: &Hyper<F>, p: F, g: F, s: &State<F>) -> [F; MAX_SUMS] {
        let u = direction(h, g, second_moment(h, g, s.v));
        let mut terms = [F::zero(); MAX_SUMS];
        terms[..2].copy_from_slice(&[p * p, u * u]);
        terms
    }

    fn total<F: Real>(&self, _: &Hyper<F>, sums: &[F], elements: F) -> [[F; 3]; MAX_SUMS] {
        let count = elements.max(F::one());
        let mut totals = [[F::zero(); 3]; MAX_SUMS];
        totals[0][0] = sums[0] / count;
        totals[1][0] = sums[1] / count;
        totals
    }

    fn decide<F: Real>(&self, h: &Hyper<F>, _: &[F], own: &[F], _: &mut Nothing) -> Decision<F> {
        let alpha = h.eps2.max(own[0].sqrt()) * h.lr.min(h.root);
        Decision { step: alpha / F::one().max(own[1].sqrt() / h.d) }
    }

    #[inline(always)]
    fn update<F: Real>(&self, h: &Hyper<F>, d: &Decision<F>, p: F, g: F, s: &mut State<F>) -> F {
        let v = second_moment(h, g, s.v);
        s.v = v;
        -(h.decay * p + d.step * direction(h, g, v))
    }
}
