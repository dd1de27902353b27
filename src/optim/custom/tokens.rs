//! The words and signs of a user's text, each with its place.

/// A mistake with its place in the text.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) at: usize,
    pub(super) message: String,
}

pub(super) fn mistake(at: usize, message: impl Into<String>) -> Mistake {
    Mistake { at, message: message.into() }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Word,
    Number,
    Open,
    Close,
    Comma,
    Semicolon,
    Less,
    Greater,
    Other,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    pub(super) at: usize,
}

/// The words and signs of a text, without comments and white space.
pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, Mistake> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        if let Some(length) = blank(text, at)? {
            at += length;
            continue;
        }
        let rest = &text[at..];
        let (kind, length) = match first {
            '(' | '[' | '{' => (Kind::Open, 1),
            ')' | ']' | '}' => (Kind::Close, 1),
            ',' => (Kind::Comma, 1),
            ';' => (Kind::Semicolon, 1),
            '-' if rest.starts_with("->") => (Kind::Other, 2),
            '<' => (Kind::Less, 1),
            '>' => (Kind::Greater, 1),
            '0'..='9' => (Kind::Number, run(rest, |c| c.is_ascii_alphanumeric() || c == '.')),
            c if is_word(c) => (Kind::Word, run(rest, is_word)),
            c => (Kind::Other, c.len_utf8()),
        };
        tokens.push(Token { kind, text: &rest[..length], at });
        at += length;
    }
    Ok(tokens)
}

/// A name in WGSL may have letters of any script; the parser refuses characters that are not letters.
fn is_word(c: char) -> bool {
    c == '_' || c.is_ascii_alphanumeric() || (!c.is_ascii() && !c.is_whitespace())
}

fn run(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

/// The length of the comment or white space at this place, if there is one.
fn blank(text: &str, at: usize) -> Result<Option<usize>, Mistake> {
    let rest = &text[at..];
    if rest.starts_with("//") {
        let ends = |c| matches!(c, '\n'..='\r' | '\u{85}' | '\u{2028}' | '\u{2029}');
        return Ok(Some(rest.find(ends).unwrap_or(rest.len())));
    }
    if !rest.starts_with("/*") {
        let spaces = run(rest, |c| c.is_whitespace() || matches!(c, '\u{200e}' | '\u{200f}'));
        return Ok(Some(spaces).filter(|n| *n > 0));
    }
    let (mut length, mut depth) = (2, 1);
    while depth > 0 {
        let rest = &rest[length..];
        let Some(next) = rest.chars().next() else { return Err(mistake(at, "this comment is never closed")) };
        length += match rest.get(..2) {
            Some("*/") => {
                depth -= 1;
                2
            }
            Some("/*") => {
                depth += 1;
                2
            }
            _ => next.len_utf8(),
        };
    }
    Ok(Some(length))
}
