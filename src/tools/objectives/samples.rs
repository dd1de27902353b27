//! Labelled rows, and their split into training data and held-out data.

use super::random::{self, Stream};
use crate::{Error, Result};

/// A part of a [`Split`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The rows that gradients come from.
    Train,
    /// The rows that are only measured.
    HeldOut,
}

/// Rows of features, each with its class.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    features: usize,
    classes: usize,
    inputs: Vec<f32>,
    labels: Vec<u32>,
}

impl Samples {
    /// Rows with these inputs, row by row.
    ///
    /// # Errors
    /// The lengths contradict each other, a label is not a class, or an input is not finite.
    pub fn new(features: usize, classes: usize, inputs: Vec<f32>, labels: Vec<u32>) -> Result<Self> {
        if features == 0 || inputs.len() != labels.len() * features {
            let (values, rows) = (inputs.len(), labels.len());
            return Err(Error::Usage(format!("samples: {values} inputs, needs {features} for each of {rows} labels")));
        }
        if let Some(row) = labels.iter().position(|l| *l as usize >= classes) {
            return Err(Error::Usage(format!("samples: row {row} has label {}, needs < {classes}", labels[row])));
        }
        if let Some(at) = inputs.iter().position(|x| !x.is_finite()) {
            return Err(Error::Usage(format!("samples: row {} has the input {}", at / features, inputs[at])));
        }
        Ok(Self { features, classes, inputs, labels })
    }

    /// The number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    /// The number of inputs per row.
    #[must_use]
    pub fn features(&self) -> usize {
        self.features
    }

    /// The number of classes.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// All inputs, row by row.
    #[must_use]
    pub fn inputs(&self) -> &[f32] {
        &self.inputs
    }

    /// A row's inputs.
    #[must_use]
    pub fn row(&self, row: usize) -> &[f32] {
        &self.inputs[row * self.features..][..self.features]
    }

    /// The rows' classes.
    #[must_use]
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// Shuffles by the seed and holds out a share of the rows, rounded to whole rows.
    ///
    /// # Errors
    /// A part has no rows.
    pub fn split(&self, held_out: f64, seed: u64) -> Result<Split> {
        let rows = self.rows();
        let held = (rows as f64 * held_out).round() as usize;
        if held == 0 || held >= rows {
            return Err(Error::Usage(format!("split: {held} of {rows} rows held out, both parts need rows")));
        }
        let count = u32::try_from(rows).map_err(|_| Error::Usage(format!("split: {rows} rows, needs < 2^32")))?;
        let key = random::key(seed, Stream::Split);
        let order: Vec<usize> = (0..count).map(|at| random::place(at, count, key) as usize).collect();
        let (held_out, train) = order.split_at(held);
        Ok(Split { train: self.pick(train), held_out: self.pick(held_out) })
    }

    fn pick(&self, rows: &[usize]) -> Self {
        let inputs = rows.iter().flat_map(|r| self.row(*r)).copied().collect();
        let labels = rows.iter().map(|r| self.labels[*r]).collect();
        Self { features: self.features, classes: self.classes, inputs, labels }
    }
}

/// Training data and held-out data of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    train: Samples,
    held_out: Samples,
}

impl Split {
    /// Joins two parts that were made separately.
    ///
    /// # Errors
    /// A part has no rows, or the parts differ in features or classes.
    pub fn new(train: Samples, held_out: Samples) -> Result<Self> {
        let shape = |samples: &Samples| (samples.features, samples.classes);
        if train.rows() == 0 || held_out.rows() == 0 || shape(&train) != shape(&held_out) {
            let [a, b] = [&train, &held_out].map(|s| format!("{} rows of {:?}", s.rows(), shape(s)));
            return Err(Error::Usage(format!(
                "split: {a} and {b} (features, classes), needs rows of one kind in both"
            )));
        }
        Ok(Self { train, held_out })
    }

    /// A part's rows.
    #[must_use]
    pub fn part(&self, part: Part) -> &Samples {
        match part {
            Part::Train => &self.train,
            Part::HeldOut => &self.held_out,
        }
    }

    /// The number of inputs per row.
    #[must_use]
    pub fn features(&self) -> usize {
        self.train.features
    }

    /// The number of classes.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.train.classes
    }
}
