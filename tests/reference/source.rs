//! The log's events, read from the source: the arguments of `tracing::error!`, `warn!` and `info!`.

use std::collections::BTreeSet;
use std::path::PathBuf;

/// An event as the source has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    /// `error`, `warn` or `info`.
    pub level: &'static str,
    /// The format string.
    pub message: String,
    /// Names of its fields, in their order.
    pub fields: Vec<String>,
}

/// Levels that are logged by default.
const LEVELS: [&str; 3] = ["error", "warn", "info"];

/// All files of the program's source, without the tests at their ends.
pub fn files() -> std::io::Result<Vec<(PathBuf, String)>> {
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path)?;
        let text = text.split("\n#[cfg(test)]\n").next().unwrap_or_default().to_owned();
        Ok((path, text))
    };
    crate::tidy::all_sources().into_iter().map(read).collect()
}

/// Every event of `serve`, at the levels that are logged by default.
///
/// # Panics
/// When an event is written in a way that this does not read.
pub fn events() -> std::io::Result<BTreeSet<Event>> {
    let mut events = BTreeSet::new();
    for (path, text) in files()? {
        for level in LEVELS {
            let start = format!("tracing::{level}!(");
            let calls = text.matches(&start).count();
            assert_eq!(text.matches(&format!("{level}!(")).count(), calls, "{}: not `{start}`", path.display());
            let mut rest = text.as_str();
            while let Some(at) = rest.find(&start) {
                rest = &rest[at + start.len()..];
                let parts = arguments(rest);
                // `wasmhost dev` has a log of its own form.
                if parts.first().is_some_and(|first| first == "target: DEV") {
                    continue;
                }
                let position = parts.iter().position(|part| part.starts_with('"'));
                let position = position.unwrap_or_else(|| panic!("{}: no message in {parts:?}", path.display()));
                let fields = parts[..position].iter().filter(|part| !part.starts_with("target:"));
                events.insert(Event {
                    level,
                    message: unquoted(&parts[position]),
                    fields: fields.map(|field| name(field)).collect(),
                });
            }
        }
        assert!(!text.contains("tracing::event!"), "{}: an event of any level", path.display());
    }
    Ok(events)
}

/// The arguments of a macro, from behind its opening parenthesis.
fn arguments(text: &str) -> Vec<String> {
    let (mut parts, mut part) = (Vec::new(), String::new());
    let (mut depth, mut quoted, mut escaped) = (0_u32, false, false);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '[' | '{' => depth += 1,
            ')' if depth == 0 => break,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(std::mem::take(&mut part).trim().to_owned());
                continue;
            }
            _ => {}
        }
        part.push(c);
    }
    parts.push(part.trim().to_owned());
    parts.retain(|part| !part.is_empty());
    parts
}

/// What a string literal stands for, on one line.
fn unquoted(literal: &str) -> String {
    let text = literal.trim_start_matches('"').trim_end_matches('"').replace("\\\n", " ");
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace("\\\"", "\"")
}

/// A field's name: `%error`, `worker = …`, `self.worker` is called `worker`.
fn name(field: &str) -> String {
    let name = field.split('=').next().unwrap_or_default().trim().trim_start_matches(['%', '?']);
    name.rsplit('.').next().unwrap_or_default().to_owned()
}

/// The variables that the program reads, but for those of its flags.
pub fn variables() -> std::io::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for (_, text) in files()? {
        for start in ["env::var(\"", "env::var_os(\"", " set(\""] {
            found.extend(text.split(start).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned));
        }
    }
    Ok(found)
}
