//! Schedules as text, for the command line and files.

use std::fmt;
use std::str::FromStr;

use super::field::Field;
use super::sequence::{Part, Schedule, Shape, Warmup, with_shape};
use super::shapes::{Constant, Cosine, Exponential, Form, InverseSqrt, Linear, MultiStep, OneCycle, Polynomial, Step};
use crate::{Error, Result};

/// The text forms of a schedule, for the help of `--schedule`.
pub const HELP: &str = "\
A schedule of the learning rate has the form NAME[:KEY=VALUE,…]. Several in a row have the form NAME…/NAME:from=STEP,…. The names:
  constant
  linear        start=1/3 end=1 (shares of the base)  steps=5
  cosine        steps  min=0 (a value)  hold=true (false: climbs again)
  exponential   gamma
  step          step_size  gamma=0.1
  multi_step    milestones=A+B+…  gamma=0.1
  one_cycle     steps  pct_start=0.3  div_factor=25  final_div_factor=1e4
                anneal=cos|linear  three_phase=false
  inverse_sqrt  timescale=0 (0: the warm-up's length, or 10000)
  polynomial    steps=5  power=1
Each takes warmup=STEPS, warmup_from=SHARE (default 1/(warmup+1)) and base=VALUE (default: the optimizer's setting).
The steps of a shape begin after its warm-up. total=STEP in place of steps: the shape ends at this step, warm-up included.
Two schedules, for example:
  cosine:total=1000,min=0,warmup=50
  linear:steps=100/exponential:from=100,gamma=0.999";

/// The keys that every part accepts.
const COMMON: [&str; 5] = ["warmup", "warmup_from", "base", "from", "total"];

type Pairs<'a> = Vec<(&'a str, &'a str)>;

/// Every name with the function that reads it, in the order of [`HELP`].
type Reader = fn(&Pairs<'_>) -> Result<Shape>;
const READERS: [(&str, Reader); 9] = [
    (Constant::NAME, |p| read::<Constant>(p).map(Shape::Constant)),
    (Linear::NAME, |p| read::<Linear>(p).map(Shape::Linear)),
    (Cosine::NAME, |p| read::<Cosine>(p).map(Shape::Cosine)),
    (Exponential::NAME, |p| read::<Exponential>(p).map(Shape::Exponential)),
    (Step::NAME, |p| read::<Step>(p).map(Shape::Step)),
    (MultiStep::NAME, |p| read::<MultiStep>(p).map(Shape::MultiStep)),
    (OneCycle::NAME, |p| read::<OneCycle>(p).map(Shape::OneCycle)),
    (InverseSqrt::NAME, |p| read::<InverseSqrt>(p).map(Shape::InverseSqrt)),
    (Polynomial::NAME, |p| read::<Polynomial>(p).map(Shape::Polynomial)),
];

/// The names of all schedules that have a text.
#[must_use]
pub fn names() -> Vec<&'static str> {
    READERS.iter().map(|(name, _)| *name).collect()
}

/// Reads a schedule such as `cosine:total=1000,min=0,warmup=50`; [`HELP`] lists the forms. [`Display`](fmt::Display) writes a text that
/// reads as the same schedule. An error names an unknown name or key, with the nearest known one, or a key that is missing, given twice or
/// out of its range.
impl FromStr for Schedule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = split_parts(text).into_iter().map(read_part).collect::<Result<Vec<_>>>()?;
        if let Some(first) = parts.first().filter(|first| first.from > 0) {
            return Err(Error::Usage(format!(
                "schedule {}: from is {}, the first part needs from=0",
                first.shape.name(),
                first.from
            )));
        }
        let schedule = Self { parts };
        schedule.check()?;
        Ok(schedule)
    }
}

/// A slash before a digit belongs to a fraction; a slash before a name begins the next part.
fn split_parts(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, _) in text.match_indices('/') {
        if !text[at + 1..].starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            parts.push(&text[start..at]);
            start = at + 1;
        }
    }
    parts.push(&text[start..]);
    parts
}

fn read_part(text: &str) -> Result<Part> {
    let (name, rest) = text.split_once(':').unwrap_or((text, ""));
    let name = name.trim();
    let reader = READERS.iter().find(|(known, _)| *known == name).map(|(_, reader)| reader);
    let reader = reader.ok_or_else(|| Error::unknown("schedule", name, names()))?;
    let mut pairs = Pairs::new();
    for pair in rest.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| Error::Usage(format!("schedule {name}: `{pair}` is not KEY=VALUE")))?;
        if pairs.iter().any(|(known, _)| *known == key.trim()) {
            return Err(Error::Usage(format!("schedule {name}: {} is given twice", key.trim())));
        }
        pairs.push((key.trim(), value.trim()));
    }
    let steps: Option<u64> = common(name, &pairs, "warmup")?;
    let from: Option<f64> = common(name, &pairs, "warmup_from")?;
    let warmup = match (steps, from) {
        (None, None) => None,
        (Some(steps), from) => Some(Warmup { steps, from }),
        (None, Some(from)) => {
            return Err(Error::Usage(format!("schedule {name}: warmup_from is {from}, needs warmup beside it")));
        }
    };
    let from = common(name, &pairs, "from")?.unwrap_or(0);
    let mut part = Part { from, shape: reader(&pairs)?, warmup, base: common(name, &pairs, "base")? };
    let total: Option<u64> = common(name, &pairs, "total")?;
    total.map_or(Ok(()), |total| part.end_at(total))?;
    Ok(part)
}

fn refused(shape: &str, key: &str, value: &str, needs: &str) -> Error {
    Error::Usage(format!("schedule {shape}: {key} is `{value}`, needs {needs}"))
}

fn common<T: Field>(shape: &str, pairs: &Pairs<'_>, key: &str) -> Result<Option<T>> {
    let Some((_, text)) = pairs.iter().find(|(known, _)| *known == key) else { return Ok(None) };
    T::read(text).map(Some).ok_or_else(|| refused(shape, key, text, T::KIND))
}

fn read<F: Form>(pairs: &Pairs<'_>) -> Result<F> {
    let mut form = F::template();
    for (key, text) in pairs.iter().filter(|(key, _)| !COMMON.contains(key)) {
        match form.put(key, text) {
            Some(put) => put.map_err(|needs| refused(F::NAME, key, text, needs))?,
            None => {
                let fields: Vec<_> = form.fields().into_iter().map(|(name, _)| name).chain(COMMON).collect();
                return Err(Error::unknown(format!("setting of schedule {}", F::NAME), key, fields));
            }
        }
    }
    let given = |field: &str| pairs.iter().any(|(key, _)| *key == field);
    if given("total") && given("steps") {
        return Err(Error::Usage(format!("schedule {}: steps and total are both given, needs one of them", F::NAME)));
    }
    let known = |field: &str| given(field) || field == "steps" && given("total");
    match F::REQUIRED.iter().find(|needed| !known(needed)) {
        Some(missing) => Err(Error::Usage(format!("schedule {}: {missing} has no default and must be given", F::NAME))),
        None => Ok(form),
    }
}

/// Joins a part's name and its pairs.
fn write<F: Form>(f: &mut fmt::Formatter<'_>, form: &F, more: &[(&str, String)]) -> fmt::Result {
    f.write_str(F::NAME)?;
    for (i, (key, value)) in form.fields().iter().chain(more).enumerate() {
        write!(f, "{}{key}={value}", if i == 0 { ':' } else { ',' })?;
    }
    Ok(())
}

/// The text that [`FromStr`] reads. A caller's function has no text and appears as `custom`.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.parts.iter().enumerate() {
            let mut more = Vec::new();
            if let Some(warmup) = part.warmup {
                more.push(("warmup", warmup.steps.print()));
                more.extend(warmup.from.map(|from| ("warmup_from", from.print())));
            }
            more.extend(part.base.map(|base| ("base", base.print())));
            if i > 0 {
                f.write_str("/")?;
                more.push(("from", part.from.print()));
            }
            with_shape!(&part.shape, form => write(f, form, &more), _ => f.write_str("custom"))?;
        }
        Ok(())
    }
}
