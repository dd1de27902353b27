//! Muon; the rule is `shaders/rules/muon.wgsl`, and the iteration over the matrices is in [`procedure`](super::procedure).

use std::sync::Arc;

use super::procedure::{AdjustLr, Orthogonalize, Shared};
use super::rule::{ElementwiseRule, Nothing, Real, Scalar, StateSpec, fields};
use crate::optim::rule::settings::settings;

settings! {
    /// Muon (Jordan et al. 2024) as `torch.optim.Muon`: the momentum of a matrix, made orthogonal, is the step.
    ///
    /// `m ← μm + (1-μ)g`, `u = (1-μ)g + μm` with `nesterov`, else `u = m`. `X = u/max(‖u‖, ε)`, transposed where the matrix has more rows
    /// than columns; then `ns_steps` times `A = XXᵀ`, `X ← aX + (bA + cA²)X`, which brings the singular values near 1.
    /// `θ ← θ - lr λθ - lr k X`, where `k` follows from the shape (`adjust_lr`). torch iterates in bf16, this crate in f32.
    ///
    /// Muon steps matrices only. Give biases, norms' scales and embeddings to a group with another rule, such as
    /// [`AdamW`](crate::AdamW). Leading dimensions are a batch of matrices; a convolution is one matrix if the caller gives its tensor
    /// the shape `[out, in * height * width]`. ‖u‖² must be within f32: a matrix whose norm is above 1.8e19 becomes NaN.
    ///
    /// The rule keeps `m`. Between the pass over the gradients and the update `o` holds `u` and then `k X`; its content is undefined
    /// between steps, and no checkpoint has it. The products need memory too, which all steps and all matrices of the group share:
    /// [`memory_usage`](crate::Builder::memory_usage) shows it as `matrix products`.
    ///
    /// ```
    /// use wgpu_optim::{AdamW, Group, Muon, Optimizer};
    ///
    /// let mut builder = Optimizer::builder(AdamW::default());
    /// let matrices = builder.group("matrices", Muon { lr: 0.02, ..Muon::default() });
    /// let w = builder.tensor(matrices, "w", &[2, 3]);
    /// builder.tensor(Group::DEFAULT, "b", &[3]);
    /// let mut optimizer = builder.build_cpu::<f32>()?;
    /// let (mut weights, mut bias) = ([0.0; 6], [0.0; 3]);
    /// optimizer.step(&mut [&mut weights, &mut bias], &[&[1.0, 0.0, 0.0, 0.0, 2.0, 0.0], &[0.0; 3]])?;
    /// // Each row of the gradient is a singular vector, of length 1 and 2. Both become steps of a length between 0.68 and 1.14 times lr.
    /// assert!([weights[0], weights[4]].iter().all(|x| (0.68..1.14).contains(&(-x / 0.02))));
    /// assert_eq!(optimizer.state(w, "m")?.len(), 6);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    Muon = "muon",
    /// Learning rate. Default 1e-3, torch's.
    lr: f64 = 1e-3, NOT_NEGATIVE;
    /// μ, in [0, 1). Default 0.95, torch's.
    momentum: f64 = 0.95, BELOW_ONE;
    /// Whether the step looks ahead along the momentum. Default true, torch's.
    nesterov: bool = true;
    /// Iterations, in [1, 99]. Default 5, torch's.
    ns_steps: u32 = 5, ITERATIONS;
    /// a of the iteration. Default 3.4445, torch's.
    ns_a: f64 = 3.4445, ANY;
    /// b of the iteration. Default -4.775, torch's.
    ns_b: f64 = -4.775, ANY;
    /// c of the iteration. Default 2.0315, torch's.
    ns_c: f64 = 2.0315, ANY;
    /// ε, the least norm by which a matrix is divided. Default 1e-7, torch's.
    eps: f64 = 1e-7, EPSILON;
    /// λ: each step subtracts lr λθ. Default 0.1, torch's.
    weight_decay: f64 = 0.1, NOT_NEGATIVE;
    /// How k follows from the shape. Default original, torch's.
    adjust_lr: AdjustLr = AdjustLr::Original;
}

fields! {
    /// The scalars of a step.
    Hyper {
        /// The learning rate.
        lr,
        /// lr λ
        decay,
        /// μ
        momentum,
        /// 1-μ
        one_minus_momentum,
    }
}

fields! {
    /// The states.
    State {
        /// The momentum.
        m,
        /// u, then k X. Undefined between steps.
        o,
    }
}

impl ElementwiseRule for Muon {
    type Hyper<F: Real> = Hyper<F>;
    type State<F: Real> = State<F>;
    type Decision<F: Real> = Nothing;
    type GlobalState<F: Real> = Nothing;
    const TEXT: &'static str = include_str!("../../shaders/rules/muon.wgsl");
    /// Worst measured error: 1.35.
    const TOLERANCE: f64 = 4.5;

    fn procedure(&self) -> Shared {
        Some(Arc::new(Orthogonalize {
            steps: self.ns_steps,
            coefficients: [self.ns_a, self.ns_b, self.ns_c],
            eps: self.eps,
            adjust: self.adjust_lr,
        }))
    }

    fn scalars(&self, _: u64) -> Vec<Scalar> {
        vec![
            Scalar::call("lr", self.lr),
            Scalar::call("decay", self.lr * self.weight_decay),
            Scalar::call("momentum", self.momentum),
            Scalar::call("one_minus_momentum", 1.0 - self.momentum),
        ]
    }

    fn states(&self) -> Vec<StateSpec> {
        vec![StateSpec::zero("m", true), StateSpec::zero("o", true).exact().scratch()]
    }

    fn flags(&self) -> Vec<(&'static str, bool)> {
        vec![("NESTEROV", self.nesterov)]
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let base = Self::default();
        vec![
            ("default", base),
            ("heavy_ball", Self { nesterov: false, momentum: 0.9, ..base }),
            ("like_adamw", Self { adjust_lr: AdjustLr::MatchRmsAdamW, ns_steps: 2, ..base }),
        ]
    }

    #[inline(always)]
    fn update<F: Real>(&self, h: &Hyper<F>, _: &Nothing, p: F, g: F, s: &mut State<F>) -> F {
        s.m = h.momentum * s.m + h.one_minus_momentum * g;
        -h.decay * p - h.lr * s.o
    }
}
