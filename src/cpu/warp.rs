//! The matrices of WarpAdam on the host: as `shaders/harness/warp.wgsl` on the GPU.

use std::ops::Range;

use crate::cpu::extent::Extent;
use crate::cpu::hyper::Scaled;
use crate::cpu::number::Number;
use crate::cpu::optimizer::Optimizer;
use crate::gpu::build::spec::Tensor;
#[cfg(feature = "checkpoint")]
use crate::gpu::layout::arena::{BEFORE, COLUMNS};
use crate::optim::procedure::{Warp, check_matrix};
use crate::{Error, Result};

/// The block-diagonal matrix of a tensor, by columns: element i of column j lies in row i of its block.
#[derive(Debug)]
pub(crate) struct Warped<F> {
    warp: Warp,
    columns: Vec<Vec<F>>,
    /// The last step's gradient; empty where the matrix does not change.
    before: Vec<F>,
}

/// The scalars of a step that learning uses.
struct Learning<F> {
    eps: F,
    unbias: F,
    learn: F,
    keep: F,
    anchor: F,
    normalised: bool,
}

impl<F: Number> Learning<F> {
    fn of(group: &Scaled<'_, F>) -> Self {
        let [eps, unbias, learn, keep, anchor] =
            ["eps", "unbias", "learn", "keep", "anchor"].map(|name| group.member(name));
        Self { eps, unbias, learn, keep, anchor, normalised: group.flag("NORMALISED") }
    }
}

impl<F: Number> Warped<F> {
    pub(crate) fn new(warp: Warp, elements: usize) -> Self {
        let one = |on: bool| if on { F::one() } else { F::zero() };
        let column = |j: usize| (0..elements).map(|i| one(i % warp.block == j)).collect();
        let before = if warp.learned { vec![F::zero(); elements] } else { Vec::new() };
        Self { warp, columns: (0..warp.block).map(column).collect(), before }
    }

    /// Learns from the previous step, where the matrix is learned, and returns P g.
    pub(crate) fn pass(&mut self, group: &Scaled<'_, F>, g: &[F], v: &[F]) -> Vec<F> {
        let scalars = self.warp.learned.then(|| Learning::of(group));
        let mut out = vec![F::zero(); g.len()];
        for (at, out) in out.chunks_mut(self.warp.block).enumerate() {
            let start = at * self.warp.block;
            let block = start..start + out.len();
            if let Some(scalars) = &scalars {
                self.learn(scalars, block.clone(), &g[block.clone()], &v[block.clone()]);
            }
            for (column, g) in self.columns.iter().zip(&g[block.clone()]) {
                out.iter_mut().zip(&column[block.clone()]).for_each(|(w, p)| *w = *w + *p * *g);
            }
        }
        out
    }

    /// The hypergradient step of one block, with the symbol a of the rule's file.
    fn learn(&mut self, scalars: &Learning<F>, block: Range<usize>, g: &[F], v: &[F]) {
        let Learning { eps, unbias, learn, keep, anchor, normalised } = *scalars;
        // The first step has no previous gradient, and a would be as large as 1/ε.
        let seen = learn != F::zero();
        let influence = |(g, v): (&F, &F)| if seen { *g / ((*v * unbias).sqrt() + eps) } else { F::zero() };
        let a: Vec<F> = g.iter().zip(v).map(influence).collect();
        let before = &mut self.before[block.clone()];
        let rate = if normalised {
            let norm = |x: &[F]| x.iter().fold(F::zero(), |sum, x| sum + *x * *x).sqrt();
            let norms = norm(&a) * norm(before);
            if norms > F::zero() { learn / norms } else { F::zero() }
        } else {
            learn
        };
        for (j, (column, before)) in self.columns.iter_mut().zip(before.iter()).enumerate() {
            for (i, (p, a)) in column[block.clone()].iter_mut().zip(&a).enumerate() {
                let identity = if i == j { anchor } else { F::zero() };
                *p = keep * (*p + rate * *a * *before) + identity;
            }
        }
        before.copy_from_slice(g);
    }

    /// The arrays that a checkpoint saves, under the names of the optimizer on the GPU.
    #[cfg(feature = "checkpoint")]
    pub(crate) fn arrays(&self) -> impl Iterator<Item = (&'static str, &[F])> {
        let before = self.warp.learned.then_some((BEFORE, self.before.as_slice()));
        before.into_iter().chain(COLUMNS.into_iter().zip(self.columns.iter().map(Vec::as_slice)))
    }

    /// As [`arrays`](Self::arrays), for writing.
    #[cfg(feature = "checkpoint")]
    pub(crate) fn arrays_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut [F])> {
        let before = self.warp.learned.then_some((BEFORE, self.before.as_mut_slice()));
        before.into_iter().chain(COLUMNS.into_iter().zip(self.columns.iter_mut().map(Vec::as_mut_slice)))
    }
}

impl<F: Number> Optimizer<F> {
    /// WarpAdam's matrix of a tensor: for each element, the `warp_block` numbers of its row in its block.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; the rule has no matrix.
    pub fn warp(&self, tensor: Tensor) -> Result<Vec<F>> {
        let kept = &self.tensors[self.spec.tensor(tensor)?];
        let warp = kept.warp.as_ref().ok_or_else(|| no_matrix(&kept.spec))?;
        let rows = (0..kept.spec.elements).flat_map(|i| warp.columns.iter().map(move |column| column[i]));
        Ok(rows.collect())
    }

    /// Sets WarpAdam's matrix of a tensor, in the layout of [`warp`](Self::warp). Numbers past the end of a smaller last block must be 0.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; the rule has no matrix; the length is wrong; a number past the end of a block is not 0.
    pub fn set_warp(&mut self, tensor: Tensor, rows: &[F]) -> Result<()> {
        let index = self.spec.tensor(tensor)?;
        let kept = &mut self.tensors[index];
        let warp = kept.warp.as_mut().ok_or_else(|| no_matrix(&kept.spec))?;
        check_matrix(&kept.spec.name, warp.warp, kept.spec.elements, rows)?;
        for (i, row) in rows.chunks_exact(warp.warp.block).enumerate() {
            warp.columns.iter_mut().zip(row).for_each(|(column, p)| column[i] = *p);
        }
        Ok(())
    }
}

fn no_matrix(tensor: &Extent) -> Error {
    Error::Tensor { tensor: tensor.name.clone(), problem: "it has no matrix".to_owned() }
}
