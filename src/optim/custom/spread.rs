//! The size of a text once everything that a declaration names stands in its place. naga copies a constant to every place that names it, and
//! the compiler of a driver does the same with a function, so a short text can double at each level.

use std::collections::HashMap;

use super::tokens::{Kind, Mistake, Token, mistake};

/// The most words and signs of a text, with the copies of constants, structs and functions, and with the elements of arrays.
const MAX_WORDS: usize = 1 << 17;
/// The most elements of an array: as many as the smallest elements have bytes.
const MAX_ELEMENTS: usize = 64 * 1024;
/// The depth of structs and arrays inside each other that WGSL promises.
pub(super) const MAX_LEVELS: usize = 15;

/// A declaration at the top level with its tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    pub(super) keyword: &'a str,
    pub(super) name: &'a str,
    pub(super) at: usize,
    pub(super) tokens: &'a [Token<'a>],
}

/// What stands in the place of a name.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    words: usize,
    /// The structs, and the arrays without a written type, inside each other.
    levels: usize,
}

impl Size {
    fn max(self, other: Self) -> Self {
        Self { words: self.words.max(other.words), levels: self.levels.max(other.levels) }
    }

    fn add(&mut self, other: Self) {
        *self = Self { words: self.words.saturating_add(other.words), levels: self.levels.max(other.levels) };
    }
}

/// Refuses a text that grows too large.
pub(super) fn check(parts: &[Part<'_>]) -> Result<(), Mistake> {
    let places = parts.iter().enumerate().map(|(i, part)| (part.name, i)).collect();
    let mut spread = Spread { parts, places, numbers: numbers(parts), sizes: vec![Known::No; parts.len()] };
    let mut words = 0_usize;
    for (i, part) in parts.iter().enumerate() {
        words = words.saturating_add(spread.of_part(i)?.words);
        if words > MAX_WORDS {
            let problem = format!(
                "the text grows to more than {MAX_WORDS} words, the limit, at `{}`, with a copy of everything that it names: name \
                 functions, constants and structs less often, and give arrays fewer elements",
                part.name
            );
            return Err(mistake(part.at, problem));
        }
    }
    Ok(())
}

/// The constants that are a whole number. Of equal names, the largest number counts.
fn numbers<'a>(parts: &[Part<'a>]) -> HashMap<&'a str, usize> {
    let mut numbers = HashMap::new();
    let statements = parts.iter().flat_map(|part| statements(part.tokens));
    for statement in statements {
        if let (Some(("const", name)), [.., sign, value]) = (declared(statement), statement)
            && let Some(value) = whole(value).filter(|_| sign.text == "=")
        {
            let known = numbers.entry(name).or_insert(value);
            *known = value.max(*known);
        }
    }
    numbers
}

/// The tokens between semicolons and braces.
fn statements<'a, 't>(tokens: &'t [Token<'a>]) -> impl Iterator<Item = &'t [Token<'a>]> {
    tokens.split(|token| matches!(token.text, ";" | "{" | "}"))
}

/// The keyword and the name of the constant or variable that a statement declares.
fn declared<'a>(statement: &[Token<'a>]) -> Option<(&'a str, &'a str)> {
    let at = statement.iter().position(|token| matches!(token.text, "const" | "let" | "var"))?;
    let mut rest = &statement[at + 1..];
    if rest.first()?.kind == Kind::Less {
        let close = rest.iter().position(|token| token.kind == Kind::Greater)?;
        rest = &rest[close + 1..];
    }
    rest.first().filter(|name| name.kind == Kind::Word).map(|name| (statement[at].text, name.text))
}

/// The value of a literal that is a whole number.
fn whole(token: &Token<'_>) -> Option<usize> {
    let digits = token.text.strip_suffix(['u', 'i']).unwrap_or(token.text);
    let value = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    value.ok().filter(|_| token.kind == Kind::Number).map(|value| usize::try_from(value).unwrap_or(usize::MAX))
}

#[derive(Clone, Copy, Debug)]
enum Known {
    No,
    /// The size is being computed.
    Begun,
    Size(Size),
}

struct Spread<'a> {
    parts: &'a [Part<'a>],
    places: HashMap<&'a str, usize>,
    numbers: HashMap<&'a str, usize>,
    sizes: Vec<Known>,
}

impl<'a> Spread<'a> {
    fn of_part(&mut self, index: usize) -> Result<Size, Mistake> {
        let part = &self.parts[index];
        match self.sizes[index] {
            Known::Size(size) => return Ok(size),
            Known::Begun => {
                let problem = format!("`{}` names itself through others: rename the one that is not meant", part.name);
                return Err(mistake(part.at, problem));
            }
            Known::No => self.sizes[index] = Known::Begun,
        }
        let mut size = Size::default();
        let mut locals = HashMap::new();
        for statement in statements(part.tokens) {
            let own = self.of_statement(part, statement, &locals)?;
            size.add(own);
            if let Some((keyword, name)) = declared(statement) {
                // The value of a variable is computed once; a constant is copied.
                let words = if keyword == "const" { own.words } else { 1 };
                let known: &mut Size = locals.entry(name).or_default();
                *known = known.max(Size { words, ..own });
            }
        }
        size.levels = match part.keyword {
            // A call gives a value of a type that is written.
            "fn" => 0,
            "struct" => size.levels + 1,
            _ => size.levels,
        };
        if size.levels > MAX_LEVELS {
            return Err(too_deep(part.at, part.name));
        }
        self.sizes[index] = Known::Size(size);
        Ok(size)
    }

    fn of_statement(
        &mut self,
        part: &Part<'a>,
        tokens: &[Token<'a>],
        locals: &HashMap<&'a str, Size>,
    ) -> Result<Size, Mistake> {
        let mut size = Size::default();
        let mut infers = 0;
        for (i, token) in tokens.iter().enumerate() {
            let after = tokens.get(i + 1).map_or("", |token| token.text);
            size.add(Size { words: 1, levels: 0 });
            if token.kind != Kind::Word {
                continue;
            }
            match (token.text, after) {
                ("array", "(") => infers = 1,
                ("array", "<") => size.add(Size { words: self.elements(&tokens[i + 1..])?, levels: 0 }),
                _ => {}
            }
            let is_member = i > 0 && tokens[i - 1].text == ".";
            if !is_member && after != ":" {
                let mut named = self.named(part, token.text, locals)?;
                // A part of the value is less deep.
                named.levels = named.levels.saturating_sub(usize::from(matches!(after, "[" | ".")));
                size.add(named);
            }
        }
        size.levels += infers;
        match declared(tokens) {
            Some((_, name)) if size.levels > MAX_LEVELS => Err(too_deep(tokens[0].at, name)),
            _ => Ok(size),
        }
    }

    /// The size of what a name stands for. A local variable can hide a declaration for a part of the text only, so the larger one counts.
    fn named(&mut self, part: &Part<'a>, name: &str, locals: &HashMap<&'a str, Size>) -> Result<Size, Mistake> {
        let local = locals.get(name).copied().unwrap_or_default();
        match self.places.get(name) {
            Some(place) if name != part.name => Ok(local.max(self.of_part(*place)?)),
            _ => Ok(local),
        }
    }

    /// The elements of an array whose template begins here; 0 for an array without a size.
    fn elements(&self, template: &[Token<'a>]) -> Result<usize, Mistake> {
        let size = match arguments(template).as_deref() {
            Some([_]) => return Ok(0),
            Some([_, size]) => *size,
            _ => &[],
        };
        let elements = match size {
            [token] => whole(token).or_else(|| self.numbers.get(token.text).copied()),
            _ => None,
        };
        let at = size.first().map_or(template[0].at, |token| token.at);
        match elements {
            Some(elements) if elements <= MAX_ELEMENTS => Ok(elements),
            Some(elements) => {
                Err(mistake(at, format!("this array has {elements} elements, at most {MAX_ELEMENTS} are allowed")))
            }
            None => {
                let problem = "the size of an array must be a whole number, or a constant that is one: `const N = 4u;`";
                Err(mistake(at, problem))
            }
        }
    }
}

fn too_deep(at: usize, name: &str) -> Mistake {
    mistake(at, format!("`{name}` holds structs and arrays more than {MAX_LEVELS} deep, which WGSL does not promise"))
}

/// The arguments of a template; none if it has no end.
fn arguments<'t, 'a>(template: &'t [Token<'a>]) -> Option<Vec<&'t [Token<'a>]>> {
    let (mut angles, mut brackets, mut begin) = (0_usize, 0_usize, 1);
    let mut arguments = Vec::new();
    for (i, token) in template.iter().enumerate() {
        let is_next = |kinds: &[Kind]| template.get(i + 1).is_some_and(|next| kinds.contains(&next.kind));
        match (token.kind, brackets) {
            (Kind::Open, _) => brackets += 1,
            (Kind::Close, _) => brackets = brackets.checked_sub(1)?,
            // Another `<` is a sign of a number: a template follows a name.
            (Kind::Less, 0) if i == 0 || template[i - 1].kind == Kind::Word && !is_next(&[Kind::Less]) => angles += 1,
            (Kind::Greater, 0) if angles > 1 => angles -= 1,
            (Kind::Greater, 0) => {
                arguments.extend(Some(&template[begin..i]).filter(|last| !last.is_empty()));
                return Some(arguments);
            }
            (Kind::Comma, 0) if angles == 1 => {
                arguments.push(&template[begin..i]);
                begin = i + 1;
            }
            _ => {}
        }
    }
    None
}
