//! The declarations in a text's leading lines that begin with `//!`.

use super::tokens::Mistake;
use crate::optim::Range;

/// The meaning of one line.
#[derive(Debug)]
pub(super) enum Line<'a> {
    Setting { name: &'a str, default: f64, range: Range },
    Initial { state: &'a str, value: f64 },
    AfterClip,
}

/// The declarations of the leading comment, each with its place.
pub(super) fn lines(text: &str) -> Result<Vec<(usize, Line<'_>)>, Mistake> {
    let mut found = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        if !trimmed.is_empty() && !trimmed.starts_with("//") {
            break;
        }
        if let Some(rest) = trimmed.strip_prefix("//!") {
            let meaning = meaning(rest.trim()).map_err(|message| Mistake { at, message })?;
            found.extend(meaning.map(|meaning| (at, meaning)));
        }
        at += line.len();
    }
    Ok(found)
}

/// Lines that begin with another word are prose.
fn meaning(line: &str) -> Result<Option<Line<'_>>, String> {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    match word {
        "setting" => setting(rest).map(Some),
        "initial" => {
            let (state, value) = pair(rest).ok_or("must be `initial STATE = NUMBER`")?;
            Ok(Some(Line::Initial { state, value: number(value)? }))
        }
        "sums" if rest.trim() == "after clip" => Ok(Some(Line::AfterClip)),
        "sums" => Err("must be `sums after clip`".to_owned()),
        _ => Ok(None),
    }
}

fn pair(text: &str) -> Option<(&str, &str)> {
    text.split_once('=').map(|(name, value)| (name.trim(), value.trim()))
}

fn setting(rest: &str) -> Result<Line<'_>, String> {
    let form = "must be `setting NAME = NUMBER` or `setting NAME = NUMBER (LEAST..MOST)`";
    let (name, value) = pair(rest).ok_or(form)?;
    let (value, range) = match value.split_once('(') {
        None => (value, Range::ANY),
        Some((value, bounds)) => (value.trim(), range(bounds.strip_suffix(')').ok_or(form)?)?),
    };
    Ok(Line::Setting { name, default: number(value)?, range })
}

/// A range in Rust's notation: `0..`, `0..1` without 1, `0..=1` with 1.
fn range(bounds: &str) -> Result<Range, String> {
    let (least, most) = bounds.split_once("..").ok_or("a range is `0..`, `0..1` or `0..=1`")?;
    let least = number(least.trim())?;
    let most = most.trim();
    if most.is_empty() {
        return Ok(Range::from(least));
    }
    match most.strip_prefix('=') {
        Some(most) => Ok(Range::between(least, number(most.trim())?)),
        None => Ok(Range::below(least, number(most)?)),
    }
}

fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| format!("`{}` is not a number", text.chars().take(40).collect::<String>()))
}
