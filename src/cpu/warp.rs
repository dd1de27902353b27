//! The matrices of WarpAdam on the host: as `shaders/procedures/warp.wgsl` on the GPU.

use std::any::Any;
use std::ops::Range;

use crate::cpu::extent::Extent;
use crate::cpu::hyper::Scaled;
use crate::cpu::number::Number;
use crate::cpu::part::Part;
use crate::cpu::pass::TensorPass;
use crate::gpu::build::spec::Tensor;
#[cfg(feature = "checkpoint")]
use crate::optim::procedure::{BEFORE, COLUMNS};
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
    fn product(&mut self, group: &Scaled<'_, F>, g: &[F], v: &[F]) -> Vec<F> {
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
}

impl<F: Number> TensorPass<F> for Warped<F> {
    fn pass(&mut self, group: &Scaled<'_, F>, g: &[F], states: &mut [Option<Vec<F>>]) -> Option<Vec<F>> {
        let v = states.get(1).and_then(|v| v.as_deref()).unwrap_or_default();
        Some(self.product(group, g, v))
    }

    #[cfg(feature = "checkpoint")]
    fn arrays(&self) -> Vec<(&'static str, &[F])> {
        let before = self.warp.learned.then_some((BEFORE, self.before.as_slice()));
        before.into_iter().chain(COLUMNS.into_iter().zip(self.columns.iter().map(Vec::as_slice))).collect()
    }

    #[cfg(feature = "checkpoint")]
    fn arrays_mut(&mut self) -> Vec<(&'static str, &mut [F])> {
        let before = self.warp.learned.then_some((BEFORE, self.before.as_mut_slice()));
        before.into_iter().chain(COLUMNS.into_iter().zip(self.columns.iter_mut().map(Vec::as_mut_slice))).collect()
    }
}

impl<F: Number> Part<F> {
    /// WarpAdam's matrix of a tensor: for each element, the `warp_block` numbers of its row in its block.
    pub(crate) fn warp(&self, tensor: Tensor) -> Result<Vec<F>> {
        let kept = &self.tensors[self.spec.tensor(tensor)?];
        let warp = kept.pass.as_deref().and_then(of).ok_or_else(|| no_matrix(&kept.spec))?;
        let rows = (0..kept.spec.elements).flat_map(|i| warp.columns.iter().map(move |column| column[i]));
        Ok(rows.collect())
    }

    /// Sets WarpAdam's matrix of a tensor, in the layout of [`warp`](Self::warp).
    pub(crate) fn set_warp(&mut self, tensor: Tensor, rows: &[F]) -> Result<()> {
        let index = self.spec.tensor(tensor)?;
        let kept = &mut self.tensors[index];
        let warp = kept.pass.as_deref_mut().and_then(of_mut).ok_or_else(|| no_matrix(&kept.spec))?;
        check_matrix(&kept.spec.name, warp.warp, kept.spec.elements, rows)?;
        for (i, row) in rows.chunks_exact(warp.warp.block).enumerate() {
            warp.columns.iter_mut().zip(row).for_each(|(column, p)| column[i] = *p);
        }
        Ok(())
    }
}

/// The matrix of a pass, if the pass multiplies by one.
fn of<F: Number>(pass: &dyn TensorPass<F>) -> Option<&Warped<F>> {
    let any: &dyn Any = pass;
    any.downcast_ref()
}

/// As [`of`], for writing.
fn of_mut<F: Number>(pass: &mut dyn TensorPass<F>) -> Option<&mut Warped<F>> {
    let any: &mut dyn Any = pass;
    any.downcast_mut()
}

fn no_matrix(tensor: &Extent) -> Error {
    Error::Tensor { tensor: tensor.name.clone(), problem: "it has no matrix".to_owned() }
}
