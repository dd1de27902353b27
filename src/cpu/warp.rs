//! WarpAdam's matrices on the host: `shaders/harness/warp.wgsl` does the same on the GPU.

use super::{Number, Optimizer, Scaled, Tensor};
use crate::optim::procedure::Warp;
use crate::{Error, Result};

/// A tensor's block-diagonal matrix: `block` numbers for each element, its row in the block's square.
#[derive(Debug)]
pub(super) struct Warped<F> {
    warp: Warp,
    rows: Vec<F>,
    /// The last step's gradient; empty where the matrix does not change.
    before: Vec<F>,
}

impl<F: Number> Warped<F> {
    pub(super) fn new(warp: Warp, elements: usize) -> Self {
        let mut rows = vec![F::zero(); elements * warp.block];
        for (i, row) in rows.chunks_exact_mut(warp.block).enumerate() {
            row[i % warp.block] = F::one();
        }
        let before = if warp.learned { vec![F::zero(); elements] } else { Vec::new() };
        Self { warp, rows, before }
    }

    /// Learns from the step before, where it may, and returns P g. `influence` is a of the rule's file.
    fn pass(&mut self, group: &Scaled<'_, F>, g: &[F], v: &[F]) -> Vec<F> {
        let b = self.warp.block;
        let mut out = vec![F::zero(); g.len()];
        for (at, out) in out.chunks_mut(b).enumerate() {
            let block = at * b..at * b + out.len();
            let g = &g[block.clone()];
            let rows = &mut self.rows[block.start * b..block.end * b];
            if self.warp.learned {
                learn(group, rows, b, g, &v[block.clone()], &mut self.before[block]);
            }
            for (out, row) in out.iter_mut().zip(rows.chunks_exact(b)) {
                *out = row.iter().zip(g).fold(F::zero(), |sum, (p, g)| sum + *p * *g);
            }
        }
        out
    }
}

/// One block's hypergradient step; `before` becomes this step's gradient.
fn learn<F: Number>(group: &Scaled<'_, F>, rows: &mut [F], b: usize, g: &[F], v: &[F], before: &mut [F]) {
    let [eps, unbias, rate, keep, anchor] = ["eps", "unbias", "learn", "keep", "anchor"].map(|name| group.member(name));
    let a: Vec<F> = g.iter().zip(v).map(|(g, v)| *g / ((*v * unbias).sqrt() + eps)).collect();
    let square = |x: &[F]| x.iter().fold(F::zero(), |sum, x| sum + *x * *x);
    let norms = square(&a).sqrt() * square(before).sqrt();
    let rate = if !group.flag("NORMALISED") {
        rate
    } else if norms > F::zero() {
        rate / norms
    } else {
        F::zero()
    };
    for (i, (row, a)) in rows.chunks_exact_mut(b).zip(&a).enumerate() {
        for (j, (p, before)) in row.iter_mut().zip(before.iter()).enumerate() {
            let identity = if i == j { anchor } else { F::zero() };
            *p = keep * (*p + rate * *a * *before) + identity;
        }
    }
    before.copy_from_slice(g);
}

/// Passes every tensor's gradient through its matrix.
pub(super) fn warp<F: Number>(groups: &[Scaled<'_, F>], tensors: &mut [Tensor<F>], grads: &[&[F]]) -> Vec<Vec<F>> {
    let one = |(tensor, g): (&mut Tensor<F>, &&[F])| {
        let group = &groups[tensor.spec.group];
        let v = tensor.states.get(1).and_then(|v| v.as_deref()).unwrap_or_default();
        tensor.warp.as_mut().map_or_else(|| g.to_vec(), |warp| warp.pass(group, g, v))
    };
    tensors.iter_mut().zip(grads).map(one).collect()
}

impl<F: Number> Optimizer<F> {
    /// WarpAdam's matrix of a tensor: a row of `warp_block` numbers for each element, its row of the block that it lies in. `None` for
    /// other rules.
    #[must_use]
    pub fn warp(&self, tensor: usize) -> Option<&[F]> {
        self.tensors.get(tensor)?.warp.as_ref().map(|warp| warp.rows.as_slice())
    }

    /// Gives WarpAdam's matrix of a tensor, laid out as [`warp`](Self::warp). What lies past the end of a smaller last block must be 0.
    ///
    /// # Errors
    /// The rule has no matrix; another length; a number past a block's end.
    pub fn set_warp(&mut self, tensor: usize, rows: &[F]) -> Result<()> {
        let count = self.tensors.len();
        let missing = || Error::Usage(format!("tensor {tensor} has no matrix: there are {count} tensors"));
        let found = self.tensors.get_mut(tensor).ok_or_else(missing)?;
        let (name, elements) = (found.spec.name.clone(), found.spec.elements);
        let warp = found.warp.as_mut().ok_or_else(missing)?;
        crate::optim::procedure::check_matrix(&name, warp.warp, elements, rows)?;
        warp.rows.copy_from_slice(rows);
        Ok(())
    }
}
