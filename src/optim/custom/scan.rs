//! The first check of a user's text, before naga's: the declarations at its top level, and whether the text is small and flat enough for
//! recursive parsers.

use super::builtins::is_builtin;
use super::names::MAX_NAME;
use super::spread::{self, Part};
use super::tokens::{Kind, Mistake, Token, mistake, tokens};

/// The most bytes of a rule's text.
pub(super) const MAX_TEXT: usize = 256 * 1024;
/// The limit of the nesting of blocks, brackets and chains of operators, all together and weighed. Parsers and compilers recurse over them.
/// A weight is the stack that naga takes in a build without optimization, in units of 8 KiB, so that any accepted text fits a thread's stack of 2 MiB.
const MAX_DEPTH: usize = 192;
const BLOCK: usize = 8;
const BRACKET: usize = 4;
/// The most structs, functions and constants of a text. naga follows their references recursively.
pub(super) const MAX_DECLARATIONS: usize = 256;

/// A declaration at the top level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Declaration<'a> {
    pub(super) keyword: &'a str,
    pub(super) name: &'a str,
    pub(super) at: usize,
}

/// Checks the text and lists its declarations.
pub(super) fn scan(text: &str) -> Result<Vec<Declaration<'_>>, Mistake> {
    if text.len() > MAX_TEXT {
        return Err(mistake(0, format!("the text has {} bytes, at most {MAX_TEXT} are allowed", text.len())));
    }
    let tokens = tokens(text)?;
    let mut nesting = Nesting::new();
    let mut declarations = Vec::new();
    let mut starts = Vec::new();
    let mut begins = true;
    for (i, token) in tokens.iter().enumerate() {
        check_word(token)?;
        if begins && nesting.is_outside() && token.kind != Kind::Semicolon {
            declarations.push(declaration(token, tokens.get(i + 1))?);
            starts.push(i);
        }
        nesting.take(token, tokens.get(i + 1))?;
        begins = nesting.is_outside() && matches!(token.text, ";" | "}");
        if declarations.len() > MAX_DECLARATIONS {
            return Err(mistake(token.at, format!("the text declares more than {MAX_DECLARATIONS} things")));
        }
    }
    if let Some(open) = nesting.open() {
        return Err(mistake(open.at, "this bracket is never closed"));
    }
    let ends = starts.iter().skip(1).copied().chain([tokens.len()]);
    let bodies = starts.iter().zip(ends).map(|(start, end)| &tokens[*start..end]);
    let part = |(Declaration { keyword, name, at }, tokens)| Part { keyword, name, at, tokens };
    let parts: Vec<_> = declarations.iter().copied().zip(bodies).map(part).collect();
    spread::check(&parts)?;
    Ok(declarations)
}

/// Refuses words that a rule must not contain.
fn check_word(token: &Token<'_>) -> Result<(), Mistake> {
    let word = token.text;
    if token.kind != Kind::Word {
        return Ok(());
    }
    if word.len() > MAX_NAME {
        // Compilers write a name again at every use, also at those that the text does not show.
        let problem = format!("this name has {} bytes, at most {MAX_NAME} are allowed", word.len());
        return Err(mistake(token.at, problem));
    }
    if word.starts_with("wo_") {
        return Err(mistake(token.at, format!("`{word}`: names that start with `wo_` belong to the harness")));
    }
    if word.ends_with("Barrier") || word == "workgroupUniformLoad" {
        return Err(mistake(
            token.at,
            format!("`{word}`: a rule runs on four lanes and sees no other thread, so that it cannot wait"),
        ));
    }
    if matches!(word, "arrayLength") || word.starts_with("atomic") && is_builtin(word) {
        return Err(mistake(token.at, format!("`{word}`: a rule sees no buffer")));
    }
    Ok(())
}

fn declaration<'a>(token: &Token<'a>, next: Option<&Token<'a>>) -> Result<Declaration<'a>, Mistake> {
    let only = "a rule holds structs, functions and constants only";
    let what = match (token.text, next.map_or("", |n| n.text)) {
        ("fn" | "struct" | "const", name) => return named(token, next, name),
        ("const_assert", _) => return Ok(Declaration { keyword: "const_assert", name: "", at: token.at }),
        ("var", _) => "a global variable",
        ("override", _) => "an override",
        ("alias", _) => "an alias",
        ("enable" | "requires" | "diagnostic", _) => "a directive",
        ("@", "compute" | "vertex" | "fragment" | "task" | "mesh" | "workgroup_size") => "an entry point",
        ("@", "group" | "binding") => "a binding",
        ("@", "id") => "an override",
        ("@", _) => "an attribute",
        (other, _) => {
            let other: String = other.chars().take(40).collect();
            return Err(mistake(token.at, format!("`{other}` does not begin a declaration: {only}")));
        }
    };
    Err(mistake(token.at, format!("{what}: {only}")))
}

fn named<'a>(token: &Token<'a>, next: Option<&Token<'a>>, name: &'a str) -> Result<Declaration<'a>, Mistake> {
    let Some(next) = next.filter(|n| n.kind == Kind::Word) else {
        return Err(mistake(token.at, format!("`{}` needs a name", token.text)));
    };
    if is_builtin(name) {
        return Err(mistake(next.at, format!("`{name}` is built into WGSL and must not be redefined")));
    }
    Ok(Declaration { keyword: token.text, name, at: next.at })
}

/// One open bracket, and the chain of operators inside it since the last separator.
#[derive(Debug, Default)]
struct Level<'a> {
    bracket: &'a str,
    at: usize,
    operators: usize,
    angles: usize,
}

/// The depth that a parser would reach. The first level is the text itself.
#[derive(Debug)]
struct Nesting<'a> {
    levels: Vec<Level<'a>>,
    depth: usize,
}

impl<'a> Nesting<'a> {
    fn new() -> Self {
        Self { levels: vec![Level::default()], depth: 0 }
    }

    fn is_outside(&self) -> bool {
        self.levels.len() == 1
    }

    fn open(&self) -> Option<&Level<'a>> {
        self.levels.last().filter(|level| !level.bracket.is_empty())
    }

    fn take(&mut self, token: &Token<'a>, next: Option<&Token<'a>>) -> Result<(), Mistake> {
        match token.kind {
            Kind::Open => {
                self.depth += weight(token.text);
                self.levels.push(Level { bracket: token.text, at: token.at, ..Level::default() });
            }
            Kind::Close => self.close(token, next)?,
            Kind::Semicolon => self.chain(|level| (level.operators, level.angles) = (0, 0)),
            Kind::Comma => self.chain(|level| level.operators = 0),
            // The count of `<` survives a comma, because a `<` may begin a template, and a template has commas inside. Only the parser can tell.
            Kind::Less => self.chain(|level| (level.operators, level.angles) = (level.operators + 1, level.angles + 1)),
            Kind::Greater => self.chain(|level| {
                (level.operators, level.angles) = (level.operators + 1, level.angles.saturating_sub(1));
            }),
            Kind::Other => self.chain(|level| level.operators += 1),
            // A parser nests the statement after `else` one level deeper.
            Kind::Word if token.text == "else" => self.chain(|level| level.operators += BLOCK),
            Kind::Word | Kind::Number => {}
        }
        if self.depth > MAX_DEPTH {
            return Err(mistake(token.at, "blocks, brackets and operators nest too deep"));
        }
        Ok(())
    }

    fn close(&mut self, token: &Token<'a>, next: Option<&Token<'a>>) -> Result<(), Mistake> {
        let fits = |level: &Level<'_>| matches!((level.bracket, token.text), ("(", ")") | ("[", "]") | ("{", "}"));
        if !self.levels.last().is_some_and(fits) {
            return Err(mistake(token.at, format!("`{}` closes nothing", token.text)));
        }
        self.chain(|level| (level.operators, level.angles) = (0, 0));
        self.levels.pop();
        self.depth -= weight(if token.text == "}" { "{" } else { token.text });
        if token.text != "}" {
            self.chain(|level| level.operators += 1);
        } else if next.is_none_or(|n| n.text != "else") {
            self.chain(|level| (level.operators, level.angles) = (0, 0));
        }
        Ok(())
    }

    /// Changes the chain of operators of the innermost bracket.
    fn chain(&mut self, change: impl FnOnce(&mut Level<'a>)) {
        if let Some(level) = self.levels.last_mut() {
            self.depth -= level.operators + level.angles;
            change(level);
            self.depth += level.operators + level.angles;
        }
    }
}

fn weight(bracket: &str) -> usize {
    if bracket == "{" { BLOCK } else { BRACKET }
}
