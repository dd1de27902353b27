//! Integration of the flow of the clipped gradient, from evaluation to evaluation: as `shaders/procedures/flow.wgsl` on the GPU.

use crate::Result;
use crate::cpu::hyper::Scaled;
use crate::cpu::number::Number;
use crate::cpu::objective::Evaluate;
use crate::cpu::tensor::TensorState;
use crate::optim::procedure::Scheme;
use crate::optim::procedure::evaluation::EvalRequest;
use crate::optim::procedure::integrator::{Control, RK4, Verdict, Weights, first_step, second_step};

/// A tensor during the integration.
struct Place<F> {
    base: Vec<F>,
    /// The displacement so far, without the current step of the integrator.
    displacement: Vec<F>,
    /// The derivatives of the current step of the integrator.
    k: Vec<Vec<F>>,
    horizon: F,
    limit: F,
    sign: F,
}

impl<F: Number> Place<F> {
    fn derivative(&self, g: &[F]) -> Vec<F> {
        // A NaN stays a NaN, and the error estimate finds it.
        g.iter().map(|g| -(self.sign * *g).clamp(-self.limit, self.limit)).collect()
    }

    /// A linear combination of the derivatives, element by element.
    fn combined(&self, weights: &Weights, factor: F) -> Vec<F> {
        let mut sum = vec![F::zero(); self.base.len()];
        for (k, w) in self.k.iter().zip(weights) {
            let w = F::from_f64(*w) * factor;
            sum.iter_mut().zip(k).for_each(|(sum, k)| *sum = *sum + w * *k);
        }
        sum
    }
}

/// All tensors during the integration.
pub(crate) struct Flow<F> {
    places: Vec<Place<F>>,
    /// Whether the integration failed.
    pub(crate) abandoned: bool,
}

impl<F: Number> Flow<F> {
    /// `start`: the gradients at the parameters, as the rule sees them. `signs`: the signs of later gradients.
    pub(crate) fn new(
        groups: &[Scaled<'_, F>],
        tensors: &[TensorState<F>],
        params: &[&mut [F]],
        start: &[&[F]],
        signs: Vec<F>,
    ) -> Self {
        let mut places = Vec::with_capacity(tensors.len());
        for (t, (tensor, sign)) in tensors.iter().zip(signs).enumerate() {
            let group = &groups[tensor.scaled];
            let mut place = Place {
                base: params[t].to_vec(),
                displacement: vec![F::zero(); params[t].len()],
                k: Vec::new(),
                horizon: group.member("horizon"),
                limit: group.member("limit"),
                sign: F::one(),
            };
            place.k.push(place.derivative(start[t]));
            place.sign = sign;
            places.push(place);
        }
        Self { abandoned: false, places }
    }

    /// Follows the flow. [`displacement`](Self::displacement) returns the result.
    pub(crate) fn follow(
        &mut self,
        scheme: Scheme,
        params: &mut [&mut [F]],
        grads: &mut [&mut [F]],
        evaluate: &mut dyn Evaluate<F>,
    ) -> Result<()> {
        match scheme {
            Scheme::Rk4 => {
                for weights in &RK4[..3] {
                    self.stage(weights, true, params, grads, evaluate)?;
                }
                self.advance(&RK4[3], true);
                Ok(())
            }
            Scheme::Dopri5 { tolerance } => self.follow_controlled(tolerance, params, grads, evaluate),
        }
    }

    fn follow_controlled(
        &mut self,
        tolerance: f64,
        params: &mut [&mut [F]],
        grads: &mut [&mut [F]],
        evaluate: &mut dyn Evaluate<F>,
    ) -> Result<()> {
        let only_first = |w: f64| [w, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let position = self.norm(tolerance, None, |place, i| place.base[i]);
        let derivative = self.norm(tolerance, None, |place, i| place.k[0][i]);
        let guess = first_step(position, derivative);
        self.stage(&only_first(guess), false, params, grads, evaluate)?;
        let change = self.norm(tolerance, None, |place, i| place.k[1][i] - place.k[0][i]);
        self.places.iter_mut().for_each(|place| place.k.truncate(1));
        let horizon = self.places.first().map_or(0.0, |place| place.horizon.to_f64());
        let mut control = Control::new(horizon, second_step(guess, derivative, change));
        loop {
            for stage in 0..6 {
                self.stage(&control.position(stage), false, params, grads, evaluate)?;
            }
            let weights = control.error();
            let errors: Vec<Vec<F>> = self.places.iter().map(|place| place.combined(&weights, F::one())).collect();
            let mut errors = errors.into_iter();
            let error = self.norm_of(tolerance, Some(params), |_| errors.next().unwrap_or_default());
            match control.judge(error) {
                Verdict::Again => self.places.iter_mut().for_each(|place| place.k.truncate(1)),
                Verdict::Onward(weights) => {
                    self.advance(&weights, false);
                    self.places.iter_mut().for_each(|place| drop(place.k.drain(..6)));
                }
                Verdict::Arrived(weights) => {
                    self.advance(&weights, false);
                    return Ok(());
                }
                Verdict::Failed => {
                    self.abandoned = true;
                    self.places.iter_mut().flat_map(|place| &mut place.displacement).for_each(|x| *x = F::nan());
                    return Ok(());
                }
            }
        }
    }

    /// Moves the parameters to the position of a stage and evaluates the derivative there.
    fn stage(
        &mut self,
        weights: &Weights,
        in_horizons: bool,
        params: &mut [&mut [F]],
        grads: &mut [&mut [F]],
        evaluate: &mut dyn Evaluate<F>,
    ) -> Result<()> {
        for (place, p) in self.places.iter().zip(params.iter_mut()) {
            let step = place.combined(weights, place.unit(in_horizons));
            for (((p, base), way), step) in p.iter_mut().zip(&place.base).zip(&place.displacement).zip(step) {
                *p = *base + (*way + step);
            }
        }
        evaluate(EvalRequest::Gradient, params, grads)?;
        for (place, g) in self.places.iter_mut().zip(grads.iter()) {
            place.k.push(place.derivative(g));
        }
        Ok(())
    }

    fn advance(&mut self, weights: &Weights, in_horizons: bool) {
        for place in &mut self.places {
            let step = place.combined(weights, place.unit(in_horizons));
            place.displacement.iter_mut().zip(step).for_each(|(way, step)| *way = *way + step);
        }
    }

    /// The root mean square of `what`, in units of the tolerance. The tolerance scales with the position before the integrator's step, or
    /// with `next` where `next` is larger.
    fn norm(&self, tolerance: f64, next: Option<&[&mut [F]]>, what: impl Fn(&Place<F>, usize) -> F) -> f64 {
        self.norm_of(tolerance, next, |place| (0..place.base.len()).map(|i| what(place, i)).collect())
    }

    fn norm_of(&self, tolerance: f64, next: Option<&[&mut [F]]>, mut what: impl FnMut(&Place<F>) -> Vec<F>) -> f64 {
        let (mut sum, mut count) = (0.0, 0_usize);
        for (t, place) in self.places.iter().enumerate() {
            for (i, x) in what(place).into_iter().enumerate() {
                let mut size = (place.base[i] + place.displacement[i]).abs().to_f64();
                if let Some(next) = next {
                    size = size.max(next[t][i].abs().to_f64());
                }
                let ratio = x.to_f64() / (tolerance + tolerance * size);
                sum += ratio * ratio;
            }
            count += place.base.len();
        }
        (sum / count.max(1) as f64).sqrt()
    }

    /// Restores the parameters from before the integration.
    pub(crate) fn restore(&self, params: &mut [&mut [F]]) {
        for (place, p) in self.places.iter().zip(params) {
            p.copy_from_slice(&place.base);
        }
    }

    pub(crate) fn displacement(self) -> Vec<Vec<F>> {
        self.places.into_iter().map(|place| place.displacement).collect()
    }
}

impl<F: Number> Place<F> {
    /// The unit of weights: the horizon of the tensor, or 1.
    fn unit(&self, in_horizons: bool) -> F {
        if in_horizons { self.horizon } else { F::one() }
    }
}
