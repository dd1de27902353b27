//! The matrices of Muon on the host: as the iteration of `shaders/matrices/` on the GPU. The products are those of the crate `gemm`.

use crate::cpu::around::square;
use crate::cpu::hyper::Scaled;
use crate::cpu::number::Number;
use crate::cpu::pass::TensorPass;
use crate::optim::procedure::Orthogonalize;

/// The number of the momentum among the states of the rule.
const MOMENTUM: usize = 0;
/// The number of the matrices among the states of the rule.
const MATRICES: usize = 1;

/// The pass of one tensor.
#[derive(Debug)]
pub(crate) struct Orthogonal {
    pub(crate) iteration: Orthogonalize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

impl Orthogonal {
    /// The pass of a tensor of this shape, which has two dimensions or more.
    pub(crate) fn new(iteration: Orthogonalize, shape: &[usize]) -> Self {
        let [.., rows, columns] = *shape else { return Self { iteration, rows: 1, columns: shape.iter().product() } };
        Self { iteration, rows, columns }
    }

    /// `X ← k · orthogonal(X)`, in place.
    fn orthogonalize<F: Number>(&self, x: &mut [F]) {
        let Orthogonalize { steps, coefficients, eps, adjust } = self.iteration;
        let [a, b, c] = coefficients.map(F::from_f64);
        let norm = square(x).sqrt().max(eps);
        let scale = F::from_f64(norm.recip());
        x.iter_mut().for_each(|x| *x = *x * scale);
        let view = Matrix::short(self.rows, self.columns);
        let n = view.rows;
        let gram = Matrix { rows: n, columns: n, row: n, column: 1 };
        let [mut of_gram, mut blend] = [vec![F::zero(); n * n], vec![F::zero(); n * n]];
        let mut before = x.to_vec();
        for _ in 0..steps {
            before.copy_from_slice(x);
            product((&mut of_gram, gram), F::zero(), (&before, view), (&before, view.transposed()), F::one());
            blend.copy_from_slice(&of_gram);
            product((&mut blend, gram), b, (&of_gram, gram), (&of_gram, gram), c);
            product((x, view), a, (&blend, gram), (&before, view), F::one());
        }
        let factor = F::from_f64(adjust.factor(self.rows, self.columns));
        x.iter_mut().for_each(|x| *x = *x * factor);
    }
}

impl<F: Number> TensorPass<F> for Orthogonal {
    fn pass(&mut self, group: &Scaled<'_, F>, g: &[F], states: &mut [Option<Vec<F>>]) -> Option<Vec<F>> {
        let [momentum, rest] = ["momentum", "one_minus_momentum"].map(|name| group.member(name));
        let nesterov = group.flag("NESTEROV");
        let (before, after) = states.split_at_mut(MATRICES);
        if let (Some(m), Some(o)) = (&before[MOMENTUM], &mut after[0]) {
            for ((o, m), g) in o.iter_mut().zip(m).zip(g) {
                let m = momentum * *m + rest * *g;
                *o = if nesterov { rest * *g + momentum * m } else { m };
            }
            let elements = (self.rows * self.columns).max(1);
            o.chunks_exact_mut(elements).for_each(|matrix| self.orthogonalize(matrix));
        }
        None
    }

    #[cfg(feature = "checkpoint")]
    fn arrays(&self) -> Vec<(&'static str, &[F])> {
        Vec::new()
    }

    #[cfg(feature = "checkpoint")]
    fn arrays_mut(&mut self) -> Vec<(&'static str, &mut [F])> {
        Vec::new()
    }
}

/// Where the elements of a matrix lie in a slice.
#[derive(Clone, Copy, Debug)]
struct Matrix {
    rows: usize,
    columns: usize,
    /// Elements from one row to the next.
    row: usize,
    /// Elements from one column to the next.
    column: usize,
}

impl Matrix {
    /// A matrix that lies row by row, transposed where it has more rows than columns.
    const fn short(rows: usize, columns: usize) -> Self {
        let whole = Self { rows, columns, row: columns, column: 1 };
        if rows > columns { whole.transposed() } else { whole }
    }

    const fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, row: self.column, column: self.row }
    }

    /// The length of a slice that holds the matrix.
    const fn length(self) -> usize {
        if self.rows == 0 || self.columns == 0 {
            return 0;
        }
        (self.rows - 1) * self.row + (self.columns - 1) * self.column + 1
    }
}

/// `out ← keep · out + weight · left · right`.
fn product<F: Number>(
    (out, of_out): (&mut [F], Matrix),
    keep: F,
    (left, of_left): (&[F], Matrix),
    (right, of_right): (&[F], Matrix),
    weight: F,
) {
    assert!(of_out.rows == of_left.rows && of_left.columns == of_right.rows && of_right.columns == of_out.columns);
    assert!(of_out.length() <= out.len() && of_left.length() <= left.len() && of_right.length() <= right.len());
    // SAFETY: the assertions hold the largest index of each matrix within its slice. `out` is borrowed mutably, so that it overlaps neither
    // `left` nor `right`, and its elements have different places. `F` is f32 or f64, which `gemm` knows.
    unsafe {
        gemm::gemm(
            of_out.rows,
            of_out.columns,
            of_left.columns,
            out.as_mut_ptr(),
            of_out.column as isize,
            of_out.row as isize,
            keep != F::zero(),
            left.as_ptr(),
            of_left.column as isize,
            of_left.row as isize,
            right.as_ptr(),
            of_right.column as isize,
            of_right.row as isize,
            keep,
            weight,
            false,
            false,
            false,
            THREADS,
        );
    }
}

/// The threads of a product: with the feature `parallel` all of the pool.
#[cfg(feature = "parallel")]
const THREADS: gemm::Parallelism = gemm::Parallelism::Rayon(0);
#[cfg(not(feature = "parallel"))]
const THREADS: gemm::Parallelism = gemm::Parallelism::None;
