//! Reading ratings. A file may be hostile: every line has a bound, and every error names the number of its line.

use crate::io::lines;
use crate::optim::rule::settings::choice;
use crate::tools::objectives::low_rank::MOST_ENTRIES;
use crate::{Error, Result};
use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;

choice! {
    /// How a file of ratings is laid out.
    Layout {
        /// Dense if the first line has more than four fields between commas.
        Auto = "auto",
        /// One rating per line: `user item rating`, and a timestamp that is ignored.
        Triples = "triples",
        /// One user per line: the number of its ratings, then one field per item, with 99 for no rating.
        Dense = "dense",
    }
}

/// The longest line, and the longest name of a user or an item, in bytes.
const LONGEST_LINE: usize = 1 << 20;
const LONGEST_NAME: usize = 64;

/// The most users and the most items.
const MOST_NAMES: usize = 1 << 20;

/// Ratings beyond this cannot be squared and summed in f32.
const LARGEST: f32 = 1e6;

/// The number for no rating in the dense layout.
const MISSING: f32 = 99.0;

/// The ratings of a file, sorted by user and item. Users and items are numbered in the order in which they first appear.
///
/// A file has one rating per line, `user item rating` separated by tabs, by commas or by `::`, with or without a timestamp as fourth field
/// (MovieLens 100K, 1M and later); the first line may name the columns. Or a file has one user per line, with one rating per item
/// (Jester). The reader skips empty lines. The limits are 2^24 ratings, 2^20 users and 2^20 items; a rating is a number of magnitude 1e6
/// at most.
#[derive(Clone, Debug, PartialEq)]
pub struct RatingTable {
    users: usize,
    items: usize,
    ratings: Vec<Rating>,
    skipped: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Rating {
    at: [u32; 2],
    value: f32,
    line: u32,
}

impl RatingTable {
    /// Reads a file.
    ///
    /// # Errors
    /// The file cannot be read; the errors of [`RatingTable::read`].
    pub fn open(path: &Path, layout: Layout, skip_bad: bool) -> Result<Self> {
        let name = path.display().to_string();
        match std::fs::File::open(path) {
            Ok(file) => Self::read(BufReader::new(file), &name, layout, skip_bad),
            Err(source) => Err(Error::Io { path: name, source }),
        }
    }

    /// Reads text; `name` appears in errors. With `skip_bad`, malformed lines are skipped, and so are ratings of an item that the same user
    /// has rated before.
    ///
    /// # Errors
    /// Without `skip_bad`: a bad line, or a second rating of an item by one user; the error names the line. In any case: a line longer
    /// than 1 MiB, a number above the limits, or no rating at all.
    pub fn read(mut text: impl BufRead, name: &str, layout: Layout, skip_bad: bool) -> Result<Self> {
        let mut table =
            Lines { layout, separator: None, columns: None, names: Default::default(), users: 0, ratings: Vec::new() };
        let (mut line, mut number, mut skipped) = (Vec::new(), 0_u32, 0);
        let at = |number: u32, problem: &str| Error::File {
            file: name.to_owned(),
            problem: format!("line {number}: {problem}"),
        };
        loop {
            if !lines::next(&mut text, LONGEST_LINE, &mut line, u64::from(number) + 1, name)? {
                break;
            }
            number = number.checked_add(1).ok_or_else(|| at(number, "too many lines"))?;
            match table.take(&line, number) {
                Ok(()) => {}
                Err(Bad::Line(_)) if skip_bad => skipped += 1,
                Err(Bad::Line(problem) | Bad::File(problem)) => return Err(at(number, &problem)),
            }
        }
        table.finish(skip_bad, skipped).map_err(|(number, problem)| match number {
            Some(number) => at(number, &problem),
            None => Error::File { file: name.to_owned(), problem },
        })
    }

    /// The number of users.
    #[must_use]
    pub fn users(&self) -> usize {
        self.users
    }

    /// The number of items.
    #[must_use]
    pub fn items(&self) -> usize {
        self.items
    }

    /// The number of ratings.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ratings.len()
    }

    /// Whether there are no ratings; false for every table that was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ratings.is_empty()
    }

    /// The number of skipped lines and ratings.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// The user and the item of a rating below [`len`](Self::len), and its value.
    #[must_use]
    pub fn rating(&self, which: usize) -> ([u32; 2], f32) {
        (self.ratings[which].at, self.ratings[which].value)
    }
}

/// A fault of a line, which may be skipped, or of the whole file.
enum Bad {
    Line(String),
    File(String),
}

fn bad<T>(problem: String) -> Result<T, Bad> {
    Err(Bad::Line(problem))
}

/// The contents of the lines so far.
struct Lines {
    layout: Layout,
    /// The separator of the fields of triples.
    separator: Option<&'static str>,
    /// The number of fields per line of the dense layout.
    columns: Option<usize>,
    /// The numbers of users' and items' names; the dense layout has no names.
    names: [HashMap<Box<str>, u32>; 2],
    /// The dense layout's lines so far.
    users: u32,
    ratings: Vec<Rating>,
}

impl Lines {
    fn take(&mut self, line: &[u8], number: u32) -> Result<(), Bad> {
        let Ok(text) = std::str::from_utf8(line) else { return bad("not UTF-8".to_owned()) };
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            return Ok(());
        }
        if self.layout == Layout::Auto {
            self.layout = if text.split(',').count() > 4 { Layout::Dense } else { Layout::Triples };
        }
        if self.layout == Layout::Dense { self.dense(text, number) } else { self.triple(text, number) }
    }

    fn triple(&mut self, text: &str, number: u32) -> Result<(), Bad> {
        let first = self.separator.is_none();
        let Some(separator) = self.separator.or_else(|| ["::", "\t", ","].into_iter().find(|s| text.contains(s)))
        else {
            return bad("has no tab, comma or `::`, expected `user item rating` separated by one of them".to_owned());
        };
        self.separator = Some(separator);
        let fields: Vec<&str> = text.split(separator).map(str::trim).collect();
        let ([user, item, rating] | [user, item, rating, _]) = fields[..] else {
            return bad(format!("has {} fields, expected user, item, rating and perhaps a timestamp", fields.len()));
        };
        let is_number = |field: &str| field.parse::<f64>().is_ok();
        if first && !is_number(rating) && !is_number(user) {
            return Ok(()); // the names of the columns
        }
        let value = value(rating)?;
        let at = [self.name(0, "user", user)?, self.name(1, "item", item)?];
        self.push(Rating { at, value, line: number })
    }

    fn dense(&mut self, text: &str, number: u32) -> Result<(), Bad> {
        let fields: Vec<&str> = text.split(',').map(str::trim).collect();
        let columns = *self.columns.get_or_insert(fields.len());
        if fields.len() != columns || columns < 2 {
            return bad(format!("has {} fields, expected a count and {} ratings", fields.len(), columns.max(2) - 1));
        }
        let values = fields[1..].iter().map(|field| value(field)).collect::<Result<Vec<f32>, Bad>>()?;
        let count = values.iter().filter(|value| **value != MISSING).count();
        if fields[0].parse::<f64>() != Ok(count as f64) {
            return bad(format!("has {count} ratings that are not 99, its first field says `{}`", short(fields[0])));
        }
        let user = self.users;
        if user as usize >= MOST_NAMES {
            return Err(Bad::File(format!("more than {MOST_NAMES} users")));
        }
        self.users += 1;
        for (item, value) in (0..).zip(values).filter(|(_, value)| *value != MISSING) {
            self.push(Rating { at: [user, item], value, line: number })?;
        }
        Ok(())
    }

    /// A name's number.
    fn name(&mut self, side: usize, what: &str, name: &str) -> Result<u32, Bad> {
        if name.is_empty() || name.len() > LONGEST_NAME {
            return bad(format!("the {what} has {} bytes, expected 1 to {LONGEST_NAME}", name.len()));
        }
        let names = &mut self.names[side];
        if let Some(number) = names.get(name) {
            return Ok(*number);
        }
        if names.len() >= MOST_NAMES {
            return Err(Bad::File(format!("more than {MOST_NAMES} {what}s")));
        }
        let number = names.len() as u32;
        names.insert(name.into(), number);
        Ok(number)
    }

    fn push(&mut self, rating: Rating) -> Result<(), Bad> {
        if self.ratings.len() >= MOST_ENTRIES {
            return Err(Bad::File(format!("more than {MOST_ENTRIES} ratings")));
        }
        self.ratings.push(rating);
        Ok(())
    }

    /// Sorts the ratings, and finds ratings that are given twice.
    fn finish(self, skip_bad: bool, mut skipped: usize) -> Result<RatingTable, (Option<u32>, String)> {
        let mut ratings = self.ratings;
        ratings.sort_unstable_by_key(|rating| (rating.at, rating.line));
        let again = ratings.windows(2).filter(|pair| pair[0].at == pair[1].at).min_by_key(|pair| pair[1].line);
        if let (Some([before, again]), false) = (again, skip_bad) {
            let problem = format!("its user has rated this item before, on line {}", before.line);
            return Err((Some(again.line), problem));
        }
        let all = ratings.len();
        ratings.dedup_by_key(|rating| rating.at);
        skipped += all - ratings.len();
        if ratings.is_empty() {
            return Err((None, format!("no ratings ({skipped} bad lines)")));
        }
        let items = self.columns.map_or(self.names[1].len(), |columns| columns - 1);
        let users = self.columns.map_or(self.names[0].len(), |_| self.users as usize);
        Ok(RatingTable { users, items, ratings, skipped })
    }
}

fn value(field: &str) -> Result<f32, Bad> {
    match field.parse::<f32>() {
        Ok(value) if value.abs() <= LARGEST => Ok(value),
        _ => bad(format!("the rating is `{}`, expected a number of magnitude {LARGEST} at most", short(field))),
    }
}

/// A field, shortened for errors.
fn short(field: &str) -> String {
    field.chars().take(32).collect()
}
