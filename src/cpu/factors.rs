//! A state of a matrix that the optimizer keeps as two factors. Before the sums of a step, `fold` moves the factors to the step's gradient; the
//! walk over the tensors computes the state from them, a piece at a time.

use crate::cpu::number::Number;
use crate::cpu::pieces::{PIECE, join};
use crate::gpu::build::spec::TensorInfo;
use crate::optim::Rule;
use crate::optim::procedure::factors;
use crate::optim::procedure::factors::Matrices;
use crate::optim::procedure::spec::FactorSpec;

/// The factors of the matrices of a tensor.
#[derive(Clone, Debug)]
pub(crate) struct Factors<F> {
    pub(crate) spec: FactorSpec,
    /// The place of the state among those of the rule.
    pub(crate) state: usize,
    matrices: Matrices,
    rows: Vec<F>,
    columns: Vec<F>,
    /// The mean of each matrix's rows, or the least divisor. Each step computes it anew.
    divisors: Vec<F>,
}

impl<F: Number> Factors<F> {
    /// The factors before the first step. `None`: the tensor keeps no factors.
    pub(crate) fn new(rule: &dyn Rule, info: &TensorInfo) -> Option<Self> {
        Self::of_shape(rule, &info.shape).filter(|_| !info.frozen)
    }

    /// As [`new`](Self::new), for a tensor of this shape that is not frozen.
    pub(crate) fn of_shape(rule: &dyn Rule, shape: &[usize]) -> Option<Self> {
        let spec = factors(&rule.procedure())?;
        let matrices = Matrices::of(shape)?;
        let state = rule.states().iter().position(|state| state.name == spec.state)?;
        let zeros = |length| vec![F::zero(); length];
        Some(Self {
            spec,
            state,
            rows: zeros(matrices.all_rows()),
            columns: zeros(matrices.all_columns()),
            divisors: zeros(matrices.count),
            matrices,
        })
    }

    /// The factors with their names.
    pub(crate) fn arrays(&self) -> [(&'static str, &[F]); 2] {
        [(self.spec.rows, &self.rows), (self.spec.columns, &self.columns)]
    }

    /// As [`arrays`](Self::arrays), for writing.
    pub(crate) fn arrays_mut(&mut self) -> [(&'static str, &mut [F]); 2] {
        [(self.spec.rows, &mut self.rows), (self.spec.columns, &mut self.columns)]
    }

    /// The factor of this name.
    pub(crate) fn array(&self, name: &str) -> Option<&[F]> {
        self.arrays().into_iter().find(|(factor, _)| *factor == name).map(|(_, values)| values)
    }

    /// As [`array`](Self::array), for writing.
    pub(crate) fn array_mut(&mut self, name: &str) -> Option<&mut [F]> {
        self.arrays_mut().into_iter().find(|(factor, _)| *factor == name).map(|(_, values)| values)
    }

    /// Moves the factors towards the means of the squares of `g`.
    pub(crate) fn fold(&mut self, g: &[F], share: F, least: F) {
        let Matrices { rows: height, columns: width, .. } = self.matrices;
        let parts =
            self.rows.chunks_exact_mut(height).zip(self.columns.chunks_exact_mut(width)).zip(&mut self.divisors);
        for (((rows, columns), divisor), g) in parts.zip(g.chunks_exact(height * width)) {
            let (mut of_rows, mut of_columns) = (vec![0.0; height], vec![0.0; width]);
            sum_squares::<F>(g, &mut of_rows, &mut of_columns);
            move_means(rows, &of_rows, width, share);
            move_means(columns, &of_columns, height, share);
            let sum: f64 = rows.iter().map(|x| x.to_f64()).sum();
            *divisor = F::from_f64(sum / height as f64).max(least);
        }
    }

    /// Puts the state of a tensor with as many elements among the states of its rule.
    #[cfg(feature = "tools")]
    pub(crate) fn show(&self, states: &mut [Option<Vec<F>>], elements: usize) {
        states[self.state] = Some(self.state_from(0, elements));
    }

    /// The state of the elements from `first` on.
    pub(crate) fn state_from(&self, first: usize, count: usize) -> Vec<F> {
        let Matrices { rows: height, columns: width, .. } = self.matrices;
        let mut state = Vec::with_capacity(count);
        let (mut row, mut column) = (first / width, first % width);
        while state.len() < count {
            let matrix = row / height;
            let factor = self.rows[row] / self.divisors[matrix];
            let last = width.min(column + count - state.len());
            let columns = &self.columns[matrix * width + column..matrix * width + last];
            state.extend(columns.iter().map(|c| factor * *c));
            (row, column) = (row + 1, 0);
        }
        state
    }
}

fn move_means<F: Number>(means: &mut [F], sums: &[f64], count: usize, share: F) {
    for (mean, sum) in means.iter_mut().zip(sums) {
        *mean = *mean + share * (F::from_f64(sum / count as f64) - *mean);
    }
}

/// Adds the squares of the rows of `g` to the sums of rows and columns. The order of every sum is the same on any count of threads.
fn sum_squares<F: Number>(g: &[F], rows: &mut [f64], columns: &mut [f64]) {
    if F::FAST && g.len() > PIECE && rows.len() > 1 {
        let at = rows.len() / 2;
        let (rows, more_rows) = rows.split_at_mut(at);
        let (g, more_g) = g.split_at(at * columns.len());
        let mut more_columns = vec![0.0; columns.len()];
        join(|| sum_squares(g, rows, columns), || sum_squares(more_g, more_rows, &mut more_columns));
        columns.iter_mut().zip(more_columns).for_each(|(sum, more)| *sum += more);
        return;
    }
    for (sum, row) in rows.iter_mut().zip(g.chunks_exact(columns.len())) {
        for (column, x) in columns.iter_mut().zip(row) {
            let square = (*x * *x).to_f64();
            *sum += square;
            *column += square;
        }
    }
}
