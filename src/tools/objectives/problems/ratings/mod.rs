//! Ratings from a file: the settings, the reader of the file and of the names in it, and the biases that are subtracted. The fitted model lies in
//! `low_rank`.

mod biases;
mod file;
mod names;

pub use file::{Layout, RatingTable};

use super::data;
use crate::optim::rule::settings::settings;
use crate::tools::objectives::low_rank::{Completion, Entries, HeldOut, Observed};
use crate::tools::objectives::problem::{Problem, Recipe};
use crate::tools::objectives::random;
use crate::tools::objectives::random::Stream;
use crate::{Error, Result};
use std::path::Path;
use std::sync::Arc;

settings! {
    /// Ratings of items by users from a file, minus the mean of the ratings, or minus the biases of users and items.
    ///
    /// The file is MovieLens' (`user item rating`, separated by tabs, commas or `::`, with or without header and timestamp; RecBole's
    /// `ml-100k.inter` is read as it is) or Jester's dense one; [`RatingTable`] describes its reader. Seven tenths of the ratings train, a
    /// tenth validates, two tenths test. The loss is the mean squared error of a model of rank `rank`.
    Ratings = "ratings",
    /// The model's rank. Default 20, that of FlowAdam's runs on Jester and MovieLens (arXiv 2604.06652).
    rank: usize = 20, COUNT;
    /// Fits a bias per user and a bias per item first, on the training ratings. Default false, the authors' for Jester; for MovieLens they
    /// use true.
    biases: bool = false;
    /// The number of ratings of 0 that pull each bias towards 0. Default 5, our choice: the authors stop their fit early instead.
    bias_shrink: f64 = 5.0, NOT_NEGATIVE;
    /// The share of ratings that validate. Default 0.1, the authors'.
    validation: f64 = 0.1, SHARE;
    /// The share of ratings that test. Default 0.2, the authors'.
    test: f64 = 0.2, SHARE;
    /// The layout of the file. Default auto: dense if the first line has more than four fields.
    layout: Layout = Layout::Auto;
    /// Skips malformed lines, and ratings that are given twice. Default false: both are errors.
    skip_bad: bool = false;
    /// The factors' initial standard deviation. Default 0.1, the authors'.
    init: f64 = 0.1, NOT_NEGATIVE;
    /// The weight of ‖θ‖² in the loss. Default 0; the authors' FlowAdam runs have 1e-5.
    l2: f64 = 0.0, NOT_NEGATIVE;
    /// The seed of the split. Default 0.
    seed: u64 = 0, SEED;
}

impl Recipe for Ratings {
    const FROM_FILE: bool = true;

    fn build(&self, file: Option<&Path>) -> Result<Box<dyn Problem>> {
        let path = file.ok_or_else(|| Error::Usage("ratings: needs a file".to_owned()))?;
        let table = RatingTable::open(path, self.layout, self.skip_bad)?;
        let mut parts = self.split(&table)?;
        data::cells("ratings factors", &[table.users().max(table.items()), self.rank])?;
        let base = biases::fit(&parts[0], [table.users(), table.items()], self.biases.then_some(self.bias_shrink));
        for part in &mut parts {
            part.values.iter_mut().zip(&part.at).for_each(|(value, at)| *value -= base.of(at) as f32);
        }
        let [train, validation, test] = parts;
        let entries = Entries::new([table.users(), table.items()], self.rank, train.at);
        Ok(Box::new(Completion {
            name: "ratings",
            tensors: entries.tensors(["users", "items"]),
            entries: Arc::new(entries),
            values: train.values,
            observed: Observed::Squared,
            init: self.init,
            l2: self.l2,
            validation,
            test,
        }))
    }
}

impl Ratings {
    /// Training, validation and test, drawn from the seed.
    fn split(&self, table: &RatingTable) -> Result<[HeldOut<2>; 3]> {
        let count = table.len();
        let part = |share: f64| (share * count as f64).round() as usize;
        let (validation, test) = (part(self.validation), part(self.test));
        if validation == 0 || test == 0 || validation + test >= count {
            return Err(Error::Usage(format!(
                "ratings: of {count} ratings {validation} would validate and {test} test, each part needs at least one"
            )));
        }
        let key = random::key(self.seed, Stream::Split);
        let mut part_of = vec![0_u8; count];
        for place in 0..validation + test {
            part_of[random::place(place as u32, count as u32, key) as usize] = if place < test { 2 } else { 1 };
        }
        let mut parts = [const { HeldOut { at: Vec::new(), values: Vec::new() } }; 3];
        // In the table's order, by user and item, so that neighbours share factor rows.
        for (which, part) in part_of.into_iter().enumerate() {
            let (at, value) = table.rating(which);
            parts[usize::from(part)].push(at, value);
        }
        Ok(parts)
    }
}
