//! Training on the host, in f32 on the fast path and in f64 on the oracle.

use std::ops::ControlFlow;

use super::{Epoch, Log, Plan};
use crate::Result;
use crate::cpu::{Number, Optimizer, TensorSpec};
use crate::objective::{CpuMlp, CpuObjective as _, Part, Split};

pub(super) fn run<F: Number>(
    plan: &Plan,
    split: &Split,
    mut log: Log<impl FnMut(&Epoch) -> ControlFlow<()>>,
) -> Result<Vec<Epoch>> {
    let mut model = CpuMlp::<F>::new(&plan.mlp, split, plan.batch, plan.seed)?;
    let tensors = model.tensors().iter();
    let tensors = tensors.map(|t| TensorSpec { name: t.name.clone(), group: 0, elements: t.elements() }).collect();
    let mut optimizer = Optimizer::<F>::new(vec![("default".to_owned(), plan.rule.clone())], tensors)?;

    let initial = plan.mlp.initial(plan.seed);
    let mut params: Vec<Vec<F>> = initial.iter().map(|p| p.iter().map(|x| F::of(f64::from(*x))).collect()).collect();
    let mut grads: Vec<Vec<F>> = params.iter().map(|p| vec![F::zero(); p.len()]).collect();
    for epoch in 0..plan.epochs {
        log.begin();
        model.set_epoch(epoch);
        let mut outcomes = Vec::with_capacity(model.batches());
        for batch in 0..model.batches() {
            outcomes.push(model.gradient(&slices(&params), batch, &mut slices_mut(&mut grads))?);
            optimizer.step(&mut slices_mut(&mut params), &slices(&grads))?;
        }
        let held_out = model.accuracy(&slices(&params), Part::HeldOut)?;
        if log.end(&outcomes, held_out).is_break() {
            break;
        }
    }
    Ok(log.epochs)
}

fn slices<F>(tensors: &[Vec<F>]) -> Vec<&[F]> {
    tensors.iter().map(Vec::as_slice).collect()
}

fn slices_mut<F>(tensors: &mut [Vec<F>]) -> Vec<&mut [F]> {
    tensors.iter_mut().map(Vec::as_mut_slice).collect()
}
