//! Reading ratings. A file may be hostile: every line has a bound, and every error names the number of its line.

use super::names::Names;
use crate::io::{lean, lines};
use crate::optim::rule::settings::choice;
use crate::tools::objectives::low_rank::MOST_ENTRIES;
use crate::{Error, Result};
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
/// (MovieLens 100K, 1M and later, and RecBole's `.inter` files); the first line may name the columns. Or a file has one user per line, with
/// one rating per item (Jester). The reader skips empty lines. The limits are 2^24 ratings, 2^20 users and 2^20 items; a rating is a number
/// of magnitude 1e6 at most.
#[derive(Clone, Debug, PartialEq)]
pub struct RatingTable {
    items: usize,
    /// The number of the first rating of each user, and the number of all ratings.
    starts: Vec<u32>,
    /// The item and the value of each rating.
    ratings: Vec<(u32, f32)>,
    skipped: usize,
}

/// A rating that came with the names of its user and its item.
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
        let mut table = Lines {
            layout,
            separator: None,
            columns: None,
            names: Default::default(),
            named: Vec::new(),
            starts: vec![0],
            ratings: Vec::new(),
        };
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
        self.starts.len() - 1
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
        let (item, value) = self.ratings[which];
        let user = self.starts.partition_point(|start| *start as usize <= which) - 1;
        ([user as u32, item], value)
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
    names: [Names; 2],
    /// The triples so far.
    named: Vec<Rating>,
    /// The dense layout's users and ratings so far, as a table has them.
    starts: Vec<u32>,
    ratings: Vec<(u32, f32)>,
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
        if self.layout == Layout::Dense { self.dense(text) } else { self.triple(text, number) }
    }

    fn triple(&mut self, text: &str, number: u32) -> Result<(), Bad> {
        let first = self.separator.is_none();
        let Some(separator) = self.separator.or_else(|| ["::", "\t", ","].into_iter().find(|s| text.contains(s)))
        else {
            return bad("has no tab, comma or `::`, expected `user item rating` separated by one of them".to_owned());
        };
        self.separator = Some(separator);
        let fields: Vec<&str> = text.split(separator).map(str::trim).take(5).collect();
        let ([user, item, rating] | [user, item, rating, _]) = fields[..] else {
            let fields = text.split(separator).count();
            return bad(format!("has {fields} fields, expected user, item, rating and perhaps a timestamp"));
        };
        let is_number = |field: &str| field.parse::<f64>().is_ok();
        if first && !is_number(rating) && !is_number(user) {
            return Ok(()); // the names of the columns
        }
        let value = value(rating)?;
        let at = [self.name(0, "user", user)?, self.name(1, "item", item)?];
        check_count(self.named.len() + 1)?;
        lean::push(&mut self.named, Rating { at, value, line: number });
        Ok(())
    }

    fn dense(&mut self, text: &str) -> Result<(), Bad> {
        let fields = text.bytes().filter(|byte| *byte == b',').count() + 1;
        let columns = *self.columns.get_or_insert(fields);
        if fields != columns || columns < 2 {
            return bad(format!("has {fields} fields, expected a count and {} ratings", columns.max(2) - 1));
        }
        let before = self.ratings.len();
        let taken = self.row(text, columns - 1);
        if taken.is_err() {
            self.ratings.truncate(before);
        }
        taken
    }

    /// A user's line of so many ratings.
    fn row(&mut self, text: &str, ratings: usize) -> Result<(), Bad> {
        lean::reserve(&mut self.ratings, ratings);
        let before = self.ratings.len();
        let mut fields = text.split(',').map(str::trim);
        let stated = fields.next().unwrap_or_default();
        for (item, field) in (0..).zip(fields) {
            let value = value(field)?;
            if value != MISSING {
                self.ratings.push((item, value));
            }
        }
        let count = self.ratings.len() - before;
        if stated.parse::<f64>() != Ok(count as f64) {
            return bad(format!("has {count} ratings that are not 99, its first field says `{}`", short(stated)));
        }
        if self.starts.len() > MOST_NAMES {
            return Err(Bad::File(format!("more than {MOST_NAMES} users")));
        }
        check_count(self.ratings.len())?;
        lean::push(&mut self.starts, self.ratings.len() as u32);
        Ok(())
    }

    /// A name's number.
    fn name(&mut self, side: usize, what: &str, name: &str) -> Result<u32, Bad> {
        if name.is_empty() || name.len() > LONGEST_NAME {
            return bad(format!("the {what} has {} bytes, expected 1 to {LONGEST_NAME}", name.len()));
        }
        let names = &mut self.names[side];
        if let Some(number) = names.find(name) {
            return Ok(number);
        }
        if names.len() >= MOST_NAMES {
            return Err(Bad::File(format!("more than {MOST_NAMES} {what}s")));
        }
        Ok(names.add(name))
    }

    /// The table, in which the triples are sorted and none is there twice.
    fn finish(mut self, skip_bad: bool, mut skipped: usize) -> Result<RatingTable, (Option<u32>, String)> {
        if self.layout != Layout::Dense {
            skipped += self.sort(skip_bad)?;
        }
        if self.ratings.is_empty() {
            return Err((None, format!("no ratings ({skipped} bad lines)")));
        }
        let items = self.columns.map_or(self.names[1].len(), |columns| columns - 1);
        Ok(RatingTable { items, starts: self.starts, ratings: self.ratings, skipped })
    }

    /// Sorts the triples into the table. Returns the count of those that came before.
    fn sort(&mut self, skip_bad: bool) -> Result<usize, (Option<u32>, String)> {
        let mut named = std::mem::take(&mut self.named);
        named.sort_unstable_by_key(|rating| (rating.at, rating.line));
        let again = named.windows(2).filter(|pair| pair[0].at == pair[1].at).min_by_key(|pair| pair[1].line);
        if let (Some([before, again]), false) = (again, skip_bad) {
            let problem = format!("its user has rated this item before, on line {}", before.line);
            return Err((Some(again.line), problem));
        }
        let all = named.len();
        named.dedup_by_key(|rating| rating.at);
        self.starts = vec![0; self.names[0].len() + 1];
        for rating in &named {
            self.starts[rating.at[0] as usize + 1] += 1;
        }
        for user in 1..self.starts.len() {
            self.starts[user] += self.starts[user - 1];
        }
        self.ratings = named.iter().map(|rating| (rating.at[1], rating.value)).collect();
        Ok(all - named.len())
    }
}

fn check_count(ratings: usize) -> Result<(), Bad> {
    if ratings > MOST_ENTRIES {
        return Err(Bad::File(format!("more than {MOST_ENTRIES} ratings")));
    }
    Ok(())
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
