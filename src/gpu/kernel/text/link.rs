//! The linker of texts: it keeps the declarations that the entry points reach.

use std::collections::HashMap;

/// A declaration at module scope.
struct Declaration<'a> {
    /// The text, with the comments before it.
    text: &'a str,
    /// `None`: a directive or an assertion. No text can name it, so it is always kept.
    name: Option<&'a str>,
    /// Whether the declaration is a binding. The layout has every binding, even where the text does not read it.
    bound: bool,
    /// The words that may name other declarations.
    words: Vec<&'a str>,
}

/// The bindings of a text and the declarations that `roots` reach, in the order of the text. Every word counts as a name: a local
/// variable with the name of a function keeps that function.
pub(super) fn link(text: &str, roots: &[&str]) -> String {
    let declarations = declarations(text);
    let by_name: HashMap<&str, usize> =
        declarations.iter().enumerate().filter_map(|(i, d)| d.name.map(|name| (name, i))).collect();
    let mut kept = vec![false; declarations.len()];
    let always = declarations.iter().enumerate().filter(|(_, d)| d.bound || d.name.is_none()).map(|(i, _)| i);
    let mut open: Vec<usize> = always.chain(roots.iter().filter_map(|root| by_name.get(root).copied())).collect();
    while let Some(i) = open.pop() {
        if !std::mem::replace(&mut kept[i], true) {
            open.extend(declarations[i].words.iter().filter_map(|word| by_name.get(word)));
        }
    }
    let texts = declarations.iter().zip(kept).filter(|(_, kept)| *kept).map(|(d, _)| d.text);
    let linked: String = texts.collect();
    linked.trim_start().to_owned() + "\n"
}

fn declarations(text: &str) -> Vec<Declaration<'_>> {
    let mut declarations = Vec::new();
    let mut tokens = Vec::new();
    let (mut start, mut depth) = (0, 0_usize);
    for token in (Tokens { text, at: 0 }) {
        let end = token.at + token.text.len();
        tokens.push(token.text);
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && matches!(token.text, ";" | "}") {
            // A semicolon after a struct's brace declares nothing.
            if tokens.len() > 1 {
                declarations.push(declaration(&text[start..end], &tokens));
            }
            tokens.clear();
            start = end;
        }
    }
    declarations
}

fn declaration<'a>(text: &'a str, tokens: &[&'a str]) -> Declaration<'a> {
    let after = |i: usize| i.checked_sub(1).map(|before| tokens[before]);
    let is_keyword = |i: usize| {
        matches!(tokens[i], "fn" | "struct" | "const" | "override" | "alias" | "var") && after(i) != Some("@")
    };
    let keyword = (0..tokens.len()).find(|i| is_keyword(*i));
    let name = keyword.and_then(|keyword| {
        let rest = &tokens[keyword + 1..];
        // In `var<storage, read> name` the name follows the template.
        let template =
            if rest.first() == Some(&"<") { rest.iter().position(|t| *t == ">").map_or(0, |i| i + 1) } else { 0 };
        rest.get(template).copied()
    });
    let words =
        (0..tokens.len()).filter(|i| after(*i) != Some(".") && tokens[*i].starts_with(is_word)).map(|i| tokens[i]);
    Declaration { text, name, bound: tokens.windows(2).any(|pair| pair == ["@", "binding"]), words: words.collect() }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// A word, or a single character of anything else.
struct Token<'a> {
    at: usize,
    text: &'a str,
}

/// The tokens of a text, without comments.
struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl Tokens<'_> {
    /// The length of the blank or the comment at the beginning of `rest`.
    fn skipped(rest: &str) -> usize {
        if rest.starts_with("//") {
            return rest.find('\n').unwrap_or(rest.len());
        }
        if !rest.starts_with("/*") {
            return rest.len() - rest.trim_start().len();
        }
        // Block comments nest.
        let (mut depth, mut at) = (0_usize, 0);
        while at < rest.len() {
            let step = match rest.as_bytes().get(at..at + 2) {
                Some(b"/*") => {
                    depth += 1;
                    2
                }
                Some(b"*/") => {
                    depth -= 1;
                    2
                }
                _ => 1,
            };
            at += step;
            if depth == 0 {
                break;
            }
        }
        at
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            match Self::skipped(&self.text[self.at..]) {
                0 => break,
                skipped => self.at += skipped,
            }
        }
        let rest = &self.text[self.at..];
        let first = rest.chars().next()?;
        let length = if is_word(first) { rest.find(|c| !is_word(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
        let token = Token { at: self.at, text: &rest[..length] };
        self.at += length;
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::link;

    const TEXT: &str = "\
// A comment { that opens nothing.
enable f16;
struct A { b: f32 };
struct B { a: A } /* of /* two */ levels; */
const C = 3u;
const D = C + 1u;
@group(0) @binding(0) var<storage, read_write> e: array<B, C>;
var<private> f: f32;
fn g() -> u32 { return D; }
fn h() -> f32 { return f; }
@compute @workgroup_size(C)
fn i() { e[0].a.g = h(); }
";

    #[test]
    fn what_a_root_reaches_is_kept_with_bindings_and_directives() {
        let linked = link(TEXT, &["i"]);
        for kept in ["enable f16;", "struct A", "struct B", "const C", "var<storage", "var<private> f", "fn h", "fn i"]
        {
            assert!(linked.contains(kept), "{kept}: {linked}");
        }
        for dropped in ["const D", "fn g"] {
            assert!(!linked.contains(dropped), "{dropped}: {linked}");
        }
        assert!(linked.starts_with("// A comment { that opens nothing.\nenable f16;"), "{linked}");
    }

    #[test]
    fn another_root_reaches_another_part() {
        let linked = link(TEXT, &["g"]);
        assert!(linked.contains("const D") && linked.contains("fn g()"), "{linked}");
        assert!(!linked.contains("fn i()") && !linked.contains("var<private>"), "{linked}");
    }
}
