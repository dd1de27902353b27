//! The sharpness of a minimum: the largest eigenvalue of the training loss's Hessian, in f64.

use crate::Result;
use crate::options::random;
use crate::tools::objectives::{CpuObjective, Problem};

/// The number of products with the Hessian. The largest eigenvalue of a network stands out, so that few products are enough.
const ROUNDS: usize = 24;

/// The distance in parameter space from the parameters to each of the two gradients of a product.
const REACH: f64 = 1e-3;

const KEY: u32 = 0x5a47;

/// Power iteration on Hv ≈ (∇f(θ + hv) - ∇f(θ - hv)) / 2h.
pub(super) fn of(problem: &dyn Problem, params: &[Vec<f32>]) -> Result<f64> {
    let mut objective = problem.cpu_f64()?;
    let at: Vec<Vec<f64>> = params.iter().map(|p| p.iter().copied().map(f64::from).collect()).collect();
    let start = |(tensor, p): (usize, &Vec<f64>)| {
        let key = random::draw(KEY, tensor as u32);
        (0..p.len()).map(|i| random::normal(key, i as u32)).collect()
    };
    let mut direction: Vec<Vec<f64>> = at.iter().enumerate().map(start).collect();
    let mut value = 0.0;
    for _ in 0..ROUNDS {
        let length = dot(&direction, &direction).sqrt();
        if length == 0.0 {
            return Ok(0.0);
        }
        direction.iter_mut().flatten().for_each(|x| *x /= length);
        let ahead = gradient(objective.as_mut(), &moved(&at, &direction, REACH))?;
        let behind = gradient(objective.as_mut(), &moved(&at, &direction, -REACH))?;
        let product = combine(&ahead, &behind, |a, b| (a - b) / (2.0 * REACH));
        value = dot(&direction, &product);
        direction = product;
    }
    Ok(value)
}

/// The gradient over all training data: the batches of epoch 0, weighted by their rows.
fn gradient(objective: &mut dyn CpuObjective<f64>, params: &[Vec<f64>]) -> Result<Vec<Vec<f64>>> {
    let slices: Vec<&[f64]> = params.iter().map(Vec::as_slice).collect();
    let mut sum: Vec<Vec<f64>> = params.iter().map(|p| vec![0.0; p.len()]).collect();
    let mut one = sum.clone();
    let mut rows = 0.0;
    for batch in 0..objective.batches() {
        let mut grads: Vec<&mut [f64]> = one.iter_mut().map(Vec::as_mut_slice).collect();
        let weight = f64::from(objective.gradient(&slices, batch, &mut grads)?.rows.max(1));
        rows += weight;
        sum = combine(&sum, &one, |sum, g| sum + weight * g);
    }
    sum.iter_mut().flatten().for_each(|x| *x /= rows);
    Ok(sum)
}

fn moved(at: &[Vec<f64>], direction: &[Vec<f64>], distance: f64) -> Vec<Vec<f64>> {
    combine(at, direction, |x, d| x + distance * d)
}

fn combine(a: &[Vec<f64>], b: &[Vec<f64>], join: impl Fn(f64, f64) -> f64) -> Vec<Vec<f64>> {
    a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(x, y)| join(*x, *y)).collect()).collect()
}

fn dot(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    a.iter().flatten().zip(b.iter().flatten()).map(|(x, y)| x * y).sum()
}
