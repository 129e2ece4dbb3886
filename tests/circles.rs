//! Does a file of the host import itself, by way of others? Between crates the compiler sees to it that none does; inside a
//! crate this reads `use` and paths, as text. A parent's `mod child;` and `pub use self::child::Name` are no imports; any
//! other use of a child by its parent is one, and so is a child's use of its parent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A module that is a file, by its path in the crate; the crate's root is empty.
type Module = Vec<String>;

/// The code of each module of a crate, without comments and tests.
type Crate = BTreeMap<Module, String>;

/// Which modules each module imports, and the names that it takes from them.
type Imports = BTreeMap<Module, BTreeMap<Module, BTreeSet<String>>>;

fn read(sources: &Path) -> Crate {
    let mut modules = Crate::new();
    for file in crate::tidy::sources(sources) {
        let relative = file.strip_prefix(sources).expect("below").with_extension("");
        let mut module: Module = relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if module == ["lib"] || module == ["main"] {
            module.clear();
        }
        if module.last().is_none_or(|name| name != "tests") {
            modules.insert(module, code(&std::fs::read_to_string(&file).expect("a source")));
        }
    }
    modules
}

/// A source without its comments, and without its tests, which stand at its end.
fn code(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let is_tests = |at: &usize| {
        let after = lines[at + 1..].iter().find(|line| !line.starts_with("#["));
        lines[*at] == "#[cfg(test)]" && after.is_some_and(|line| line.starts_with("mod ") && line.ends_with('{'))
    };
    let end = (0..lines.len()).find(is_tests).unwrap_or(lines.len());
    lines[..end].join("\n")
}

/// What a `use` statement names, when the line begins one; and whether it exports that again.
fn use_statement(line: &str) -> Option<(bool, &str)> {
    let line = line.trim_start();
    if let Some(tree) = line.strip_prefix("use ") {
        return Some((false, tree));
    }
    let (visibility, tree) = line.strip_prefix("pub")?.split_once("use ")?;
    let visibility = visibility.trim();
    (visibility.is_empty() || (visibility.starts_with('(') && visibility.ends_with(')'))).then_some((true, tree))
}

/// The paths of a `use` tree: `a::{b, c::{d}}` names `a::b` and `a::c::d`.
fn expand(prefix: &str, tree: &str, into: &mut Vec<String>) {
    let (mut depth, mut begin) = (0, 0);
    let ends = tree.char_indices().filter(|&(_, character)| {
        depth += i32::from(character == '{') - i32::from(character == '}');
        character == ',' && depth == 0
    });
    let ends: Vec<usize> = ends.map(|(at, _)| at).chain([tree.len()]).collect();
    for end in ends {
        let part = tree[begin..end].trim();
        begin = end + 1;
        match (part.find('{'), part.rfind('}')) {
            (Some(open), Some(close)) => expand(&format!("{prefix}{}", &part[..open]), &part[open + 1..close], into),
            _ if part.is_empty() => {}
            _ => into.push(format!("{prefix}{}", part.split(" as ").next().unwrap_or(part).trim())),
        }
    }
}

/// All paths that a module names: in `use`, with whether it exports them again, and elsewhere.
fn paths(code: &str) -> Vec<(bool, Vec<String>)> {
    let (mut found, mut statement) = (Vec::new(), None::<(bool, String)>);
    let segments = |path: &str| path.split("::").map(str::to_owned).filter(|part| !part.is_empty()).collect();
    for line in code.lines() {
        let begun = use_statement(line).map(|(again, tree)| (again, tree.to_owned()));
        statement = match (statement.take(), begun) {
            (Some((again, tree)), _) => Some((again, tree + " " + line)),
            (None, begun) => begun,
        };
        if let Some((again, tree)) = statement.take_if(|(_, tree)| tree.contains(';')) {
            let mut names = Vec::new();
            expand("", tree.split(';').next().unwrap_or_default(), &mut names);
            found.extend(names.iter().map(|name| (again, segments(name))));
        } else if statement.is_none() {
            let words = line.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
            found.extend(words.filter(|word| word.contains("::")).map(|word| (false, segments(word))));
        }
    }
    found
}

/// The path from the crate's root, for one that is named in `module`; none for a path into another crate.
fn absolute(modules: &Crate, module: &[String], path: &[String]) -> Option<Vec<String>> {
    let joined = |head: &[String], tail: &[String]| head.iter().chain(tail).cloned().collect::<Vec<String>>();
    match path.first()?.as_str() {
        "crate" => Some(path[1..].to_vec()),
        "self" => Some(joined(module, &path[1..])),
        "super" => {
            let ups = path.iter().take_while(|part| *part == "super").count();
            Some(joined(&module[..module.len().checked_sub(ups)?], &path[ups..]))
        }
        _ => {
            let own = joined(module, path);
            modules.contains_key(&own[..=module.len()]).then_some(own)
        }
    }
}

/// The module that a path from the root leads to, and what it names there.
fn target(modules: &Crate, path: &[String]) -> (Module, Option<String>) {
    let depth = (0..=path.len()).rev().find(|&depth| modules.contains_key(&path[..depth])).unwrap_or(0);
    (path[..depth].to_vec(), path.get(depth).cloned())
}

fn imports(modules: &Crate) -> Imports {
    // Names that a module exports again from a module below it.
    let mut again: BTreeMap<(Module, String), Module> = BTreeMap::new();
    for (module, code) in modules {
        for (_, path) in paths(code).into_iter().filter(|(exports, _)| *exports) {
            let Some(path) = absolute(modules, module, &path) else { continue };
            let (to, name) = target(modules, &path);
            if let Some(name) = name.filter(|_| to.len() > module.len() && to.starts_with(module)) {
                again.insert((module.clone(), name), to);
            }
        }
    }
    let mut imports = Imports::new();
    for (module, code) in modules {
        for (exports, path) in paths(code) {
            let Some(path) = absolute(modules, module, &path) else { continue };
            let (mut to, name) = target(modules, &path);
            let name = name.unwrap_or_default();
            if exports && to.len() > module.len() && to.starts_with(module) {
                continue;
            }
            while let Some(below) = again.get(&(to.clone(), name.clone())) {
                to.clone_from(below);
            }
            if to != *module {
                imports.entry(module.clone()).or_default().entry(to).or_default().insert(name);
            }
        }
    }
    imports
}

/// All modules that can be reached from one.
fn reached(imports: &Imports, from: &Module) -> BTreeSet<Module> {
    let (mut reached, mut left) = (BTreeSet::new(), vec![from]);
    while let Some(module) = left.pop() {
        for next in imports.get(module).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(next.clone()) {
                left.push(next);
            }
        }
    }
    reached
}

/// The imports that lie on a circle, one line each.
fn circles(modules: &Crate) -> Vec<String> {
    let imports = imports(modules);
    let reach: BTreeMap<&Module, BTreeSet<Module>> =
        modules.keys().map(|module| (module, reached(&imports, module))).collect();
    let name = |module: &Module| if module.is_empty() { "the root".to_owned() } else { module.join("/") };
    let mut lines = Vec::new();
    for (from, targets) in &imports {
        for (to, names) in targets.iter().filter(|(to, _)| reach.get(to).is_some_and(|reach| reach.contains(from))) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            lines.push(format!("{} -> {}: {}", name(from), name(to), names.join(", ")));
        }
    }
    lines
}

#[test]
fn no_file_imports_itself_by_way_of_others() {
    let mut found = Vec::new();
    for sources in crate::tidy::crates() {
        let modules = read(&sources);
        assert!(modules.len() > 1, "{} has no sources", sources.display());
        found.extend(circles(&modules).iter().map(|line| format!("{}: {line}", sources.display())));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_circle_is_found_however_a_file_names_the_others() {
    let module = |name: &str| name.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Module>();
    let files =
        |files: &[(&str, &str)]| -> Crate { files.iter().map(|(name, text)| (module(name), code(text))).collect() };
    // By `use` in a group over lines, by a path in the code, and by what a parent exports again.
    let round = [
        ("", "pub mod a;\npub mod b;\n"),
        ("a", "mod c;\npub use self::c::Deep;\nuse crate::{\n    b::{self, Other},\n};\n"),
        ("a/c", "use super::super::b;\npub struct Deep;\n"),
        ("b", "fn f() { crate::a::Deep; }\n"),
    ];
    let found = circles(&files(&round)).join("\n");
    assert!(found.contains("a/c -> b") && found.contains("b -> a/c: Deep"), "{found}");
    assert!(!found.contains("a -> a/c") && !found.contains("a -> b"), "{found}");
    // A parent that uses its child, which uses its parent.
    let family = [("", "mod a;\n"), ("a", "mod c;\nfn f() { c::g() }\n"), ("a/c", "use super::Named;\n")];
    assert_eq!(circles(&files(&family)), ["a -> a/c: g", "a/c -> a: Named"]);
    // Comments and tests do not count.
    let none = [
        ("", "mod a;\nmod b;\n"),
        ("a", "use crate::b::B;\n"),
        ("b", "// crate::a::A\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n"),
    ];
    assert_eq!(circles(&files(&none)), [""; 0]);
}
