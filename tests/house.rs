//! The structure of `src/`, read as text: imports run one way, every folder has a description, and every file lies in a folder.
//!
//! The test sees `use` lines only, and neither paths inside expressions nor modules under `#[cfg(test)]`. Two imports are
//! allowed: that of `Optimizer` or `Part` in a file with `impl` blocks of this type, and the re-export of a folder's own files by its `mod.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A module's path below the crate. The path of the root is empty.
type Module = Vec<String>;

/// One imported name.
struct Use {
    line: usize,
    public: bool,
    path: Vec<String>,
    /// The name in this file; `*` for all names of a module.
    name: String,
}

struct File {
    path: String,
    uses: Vec<Use>,
    /// The types among `Optimizer` and `Part` that have `impl` blocks in the file.
    extends: Vec<&'static str>,
}

/// The files of a crate by their modules.
struct House(BTreeMap<Module, File>);

impl House {
    /// A crate of these files, by their paths below `src/`.
    fn of<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let file = |(path, text): (&str, &str)| {
            let mut module: Module = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
            if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
                module.pop();
            }
            let blocks: Vec<&str> =
                text.lines().filter(|line| line.starts_with("impl") && !line.contains(" for ")).collect();
            let has_block = |of: &str| {
                let [plain, generic] = [format!(" {of} {{"), format!(" {of}<")];
                blocks.iter().any(|line| line.contains(&plain) || line.contains(&generic))
            };
            let extends = ["Optimizer", "Part"].into_iter().filter(|of| has_block(of)).collect();
            (module, File { path: path.to_owned(), uses: uses(text), extends })
        };
        Self(files.into_iter().map(file).collect())
    }

    /// The path of a module's `use` line, from the crate's root; `None` if the path leaves the crate or names an item of the file itself.
    fn absolute(&self, module: &Module, path: &[String], depth: usize) -> Option<Vec<String>> {
        let first = path.first()?;
        let supers = path.iter().take_while(|part| *part == "super").count();
        let child = [&module[..], std::slice::from_ref(first)].concat();
        let (base, rest) = match first.as_str() {
            "crate" => (Vec::new(), &path[1..]),
            "self" => (module.clone(), &path[1..]),
            "super" => (module[..module.len().checked_sub(supers)?].to_vec(), &path[supers..]),
            _ if self.0.contains_key(&child) => (child, &path[1..]),
            _ => {
                let imported = self.0[module].uses.iter().find(|u| u.name == *first && u.path != path)?;
                (self.absolute(module, &imported.path, depth.checked_sub(1)?)?, &path[1..])
            }
        };
        Some([base, rest.to_vec()].concat())
    }

    /// The file in which the item of an absolute path lies, through all re-exports.
    fn file_of(&self, path: &[String], depth: usize) -> Option<Module> {
        let length = (0..=path.len()).rev().find(|length| self.0.contains_key(&path[..*length]))?;
        let module = path[..length].to_vec();
        let Some(name) = path.get(length) else { return Some(module) };
        let reexport = self.0[&module].uses.iter().find(|u| u.name == *name);
        let followed = reexport.and_then(|u| {
            let target = self.absolute(&module, &u.path, depth)?;
            let target = [&target, &path[length + 1..]].concat();
            if target == path { None } else { self.file_of(&target, depth.checked_sub(1)?) }
        });
        Some(followed.unwrap_or(module))
    }

    /// The imports of each file, with their lines.
    fn imports(&self) -> BTreeMap<&Module, BTreeMap<Module, BTreeSet<String>>> {
        let mut imports: BTreeMap<&Module, BTreeMap<Module, BTreeSet<String>>> = BTreeMap::new();
        for (module, file) in &self.0 {
            let of_file = imports.entry(module).or_default();
            for one in &file.uses {
                let path = if one.name == "*" { &one.path[..one.path.len() - 1] } else { &one.path };
                let target = self.absolute(module, path, DEPTH).and_then(|path| self.file_of(&path, DEPTH));
                let Some(target) = target.filter(|target| target != module) else { continue };
                let is_folder = file.path.ends_with("mod.rs") || file.path == "lib.rs";
                let own = one.public && is_folder && target.starts_with(module);
                let extended = path.last().is_some_and(|name| file.extends.contains(&name.as_str()));
                if !own && !extended {
                    let line = format!("src/{}:{}: use {}", file.path, one.line, one.path.join("::"));
                    of_file.entry(target).or_default().insert(line);
                }
            }
        }
        imports
    }

    /// Every circle: its files, each with the lines that import other files of the circle.
    fn circles(&self) -> Vec<BTreeMap<String, Vec<String>>> {
        let imports = self.imports();
        let reach = |from: &Module| {
            let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
            while let Some(module) = next.pop() {
                let new: Vec<_> = imports[&module].keys().filter(|target| seen.insert((*target).clone())).collect();
                next.extend(new.into_iter().cloned());
            }
            seen
        };
        let reached: BTreeMap<_, _> = self.0.keys().map(|module| (module, reach(module))).collect();
        let mut circles = BTreeSet::new();
        for (module, seen) in &reached {
            let circle: Vec<&Module> = seen.iter().filter(|other| reached[other].contains(*module)).collect();
            circles.extend((circle.len() > 1).then_some(circle));
        }
        let named = |circle: Vec<&Module>| {
            let lines = |module: &&Module| {
                let inside = imports[module].iter().filter(|(target, _)| circle.contains(target));
                let told = |to: &Module, line| format!("{line}  ->  src/{}", self.0[to].path);
                let lines = inside.flat_map(|(to, lines)| lines.iter().map(move |line| told(to, line)));
                (self.0[*module].path.clone(), lines.collect())
            };
            circle.iter().map(lines).collect()
        };
        circles.into_iter().map(named).collect()
    }
}

/// The largest number of re-exports between a path and its item.
const DEPTH: usize = 16;

/// The part of a line before its comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// The `use` lines outside of items under `#[cfg(test)]`, which rustfmt closes with a bracket under their first letter.
fn uses(text: &str) -> Vec<Use> {
    let (mut uses, mut lines) = (Vec::new(), text.lines().enumerate());
    while let Some((at, line)) = lines.next() {
        let item = code(line).trim_start();
        if item.starts_with("#[cfg(test") || item.starts_with("#[cfg(all(test") {
            let end = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
            let begin = lines.find(|(_, line)| !line.trim_start().starts_with("#["));
            if begin.is_some_and(|(_, line)| line.ends_with('{')) {
                lines.find(|(_, line)| line.starts_with(&end));
            }
            continue;
        }
        let is_visibility = |v: &str| v.is_empty() || v == "pub " || v.starts_with("pub(") && v.ends_with(") ");
        let found = item.split_once("use ").filter(|(before, _)| is_visibility(before));
        let Some((visibility, begin)) = found else { continue };
        let mut tree = begin.to_owned();
        while !tree.contains(';') {
            tree.push_str(code(lines.next().expect("a `use` line ends").1));
        }
        expand(tree.trim_end().trim_end_matches(';'), &[], &mut |path, name| {
            uses.push(Use { line: at + 1, public: !visibility.is_empty(), path, name });
        });
    }
    uses
}

/// Every name that a `use` tree imports.
fn expand(tree: &str, before: &[String], found: &mut impl FnMut(Vec<String>, String)) {
    let parts = |text: &str| text.split("::").map(|part| part.trim().to_owned()).filter(|p| !p.is_empty()).collect();
    let Some((prefix, inner)) = tree.split_once('{') else {
        let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(path, alias)| (path, Some(alias)));
        let own: Vec<String> = parts(path);
        let is_self = !before.is_empty() && own == ["self"];
        let path = [before, if is_self { &[][..] } else { &own[..] }].concat();
        if let Some(last) = path.last().filter(|_| !own.is_empty()).cloned() {
            found(path, alias.map_or(last, |alias| alias.trim().to_owned()));
        }
        return;
    };
    let prefix: Vec<String> = [before, &parts(prefix)[..] as &[String]].concat();
    let inner = &inner[..inner.rfind('}').expect("braces match")];
    let (mut depth, mut start) = (0, 0);
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if c == ',' && depth == 0 {
            expand(&inner[start..at], &prefix, found);
            start = at + 1;
        }
    }
}

// ---- src/

/// Every file of Rust below a folder.
fn walk(folder: &Path, below: &str, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry").path();
        let path = format!("{below}{}", entry.file_name().expect("a name").to_string_lossy());
        if entry.is_dir() {
            walk(&entry, &format!("{path}/"), files);
        } else if path.ends_with(".rs") {
            files.insert(path, fs::read_to_string(entry).expect("text"));
        }
    }
}

fn source() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut files);
    assert!(files.len() > 100, "src/ has {} files of Rust", files.len());
    files
}

#[test]
fn imports_run_one_way() {
    let files = source();
    let house = House::of(files.iter().map(|(path, text)| (path.as_str(), text.as_str())));
    let imports: usize = house.imports().values().map(BTreeMap::len).sum();
    assert!(imports > files.len(), "{imports} imports found in {} files", files.len());
    let mut all = house.0.values().flat_map(|file| file.uses.iter().map(move |one| (file, one)));
    let hidden = all.find(|(_, one)| one.public && one.name == "*").map(|(file, _)| &file.path);
    assert_eq!(hidden, None, "a re-export of `*` hides the names");
    let circles = house.circles();
    let told = circles.iter().map(|circle| {
        let files = circle.iter().map(|(path, lines)| format!("  src/{path}\n    {}\n", lines.join("\n    ")));
        format!("a circle of {} files:\n{}", circle.len(), files.collect::<String>())
    });
    assert!(circles.is_empty(), "imports run in circles\n{}", told.collect::<String>());
}

#[test]
fn every_folder_has_a_description() {
    let files = source();
    let folders: BTreeSet<_> = files.keys().filter_map(|path| Some(path.rsplit_once('/')?.0)).collect();
    let short = folders.iter().filter(|folder| {
        let text = files.get(&format!("{folder}/mod.rs")).map_or("", String::as_str);
        let docs: String =
            text.lines().map_while(|line| line.strip_prefix("//!")).flat_map(|line| [line, " "]).collect();
        docs.split("```").next().unwrap_or_default().matches(". ").count() < 2
    });
    let short: Vec<String> = short.map(|folder| format!("src/{folder}/mod.rs")).collect();
    assert!(short.is_empty(), "these begin without two sentences of `//!` docs:\n{}", short.join("\n"));
}

#[test]
fn no_file_lies_loose() {
    let files = source();
    let loose: Vec<_> = files.keys().filter(|path| !path.contains('/')).collect();
    assert_eq!(loose, ["error.rs", "lib.rs", "main.rs"], "a file of src/ belongs in a folder");
}

// ---- the resolver on made-up trees

/// The files of each circle.
fn circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    House::of(files.iter().copied()).circles().into_iter().map(|circle| circle.into_keys().collect()).collect()
}

#[test]
fn a_circle_of_two_is_found_with_its_lines() {
    let files = [
        ("lib.rs", "mod a;\nmod b;\n"),
        ("a.rs", "/// use nothing;\nuse std::fmt;\n\npub(crate) use super::b::{self as other, B};\n"),
        ("b.rs", "fn b() {\n    use crate::{\n        a::{A, C}, // and\n        Unknown,\n    };\n}\n"),
    ];
    assert_eq!(circles(&files), [["a.rs", "b.rs"]]);
    let found = House::of(files).circles().remove(0);
    assert_eq!(found["a.rs"][0], "src/a.rs:4: use super::b  ->  src/b.rs");
    assert_eq!(
        found["b.rs"],
        ["src/b.rs:2: use crate::a::A  ->  src/a.rs", "src/b.rs:2: use crate::a::C  ->  src/a.rs"]
    );
}

#[test]
fn a_circle_of_three_is_found_through_a_re_export() {
    let files = [
        ("lib.rs", "pub use room::{Chair as Seat, lamp};\n"),
        ("room/mod.rs", "pub mod lamp;\npub use chair::Chair;\npub(crate) use self::table::{Table};\n"),
        ("room/chair.rs", "use super::Table;\n"),
        ("room/table.rs", "use super::super::lamp;\nuse lamp::Light as Bright;\n"),
        ("room/lamp.rs", "use crate::Seat;\n"),
    ];
    assert_eq!(circles(&files), [["room/chair.rs", "room/lamp.rs", "room/table.rs"]]);
}

#[test]
fn a_tree_without_a_circle_has_none() {
    let files = [
        ("lib.rs", "pub mod room;\npub use room::{Chair, Optimizer};\n"),
        ("room/mod.rs", "mod step;\npub use chair::Chair;\npub use optimizer::Optimizer;\n"),
        ("room/chair.rs", "#[cfg(test)]\nmod tests {\n    use super::super::Optimizer;\n}\n"),
        ("room/optimizer.rs", "use super::step::Step;\nuse crate::Chair;\n"),
        ("room/step.rs", "use crate::{Chair, Optimizer};\n\nimpl<F: Fn() -> u8> Optimizer<F> {}\n"),
    ];
    assert!(circles(&files).is_empty());
    let mut taken = files;
    taken[4].1 = "use crate::{Chair, Optimizer};\n\nimpl Clone for Optimizer {}\n";
    assert_eq!(circles(&taken), [["room/optimizer.rs", "room/step.rs"]]);
}
