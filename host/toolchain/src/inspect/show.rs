//! A report as text: a short form of three lines, and the long one. Names come out of the file, so that what could act on
//! a terminal is made visible, and what is long is cut.

use std::fmt;

use super::report::{Kind, Producer, Report};

/// Names of a kind that are shown; the JSON form has all.
const NAMES_SHOWN: usize = 40;
/// Characters of a name that are shown.
const NAME_CHARS_MAX: usize = 120;

/// The long form of a report.
pub struct Full<'a> {
    report: &'a Report,
    name: &'a str,
}

/// Bytes in the unit that suits them: `640 B`, `83.4 kB`, `13.0 MB`.
pub(super) fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().si().to_string()
}

/// A name as it can be shown on a terminal.
fn clean(name: &str) -> String {
    let mut shown = String::new();
    for (count, character) in name.chars().enumerate() {
        if count >= NAME_CHARS_MAX {
            shown.push('…');
            break;
        }
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Names in a row, the first of them when they are many.
fn listed<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(NAMES_SHOWN);
    let mut text: Vec<String> = names.take(NAMES_SHOWN).map(clean).collect();
    if more > 0 {
        text.push(format!("and {more} more"));
    }
    if text.is_empty() { "nothing".to_owned() } else { text.join(", ") }
}

impl Report {
    /// The long form, of a file that is called so.
    pub fn full<'a>(&'a self, name: &'a str) -> Full<'a> {
        Full { report: self, name }
    }

    /// What it is, in a few words.
    fn headline(&self) -> String {
        let size = size(self.size_bytes);
        let what = match self.kind {
            Kind::CoreModule => return format!("a core module, not a component; {size}"),
            Kind::Component => "a component",
            Kind::Compiled => "a compiled component",
        };
        match (&self.wasi, &self.world) {
            (Some(wasi), Some(world)) => format!("{what} of wasi {wasi} ({}), {size}", clean(world)),
            (None, Some(world)) => format!("{what} of the world {}, {size}", clean(world)),
            _ => format!("{what}, {size}"),
        }
    }

    fn wanted(&self) -> String {
        match self.wants.as_slice() {
            [] => "nothing but the request".to_owned(),
            wants => wants.iter().map(|want| want.what).collect::<Vec<_>>().join(", "),
        }
    }

    /// The largest parts first.
    fn sizes(&self) -> String {
        let mut sections: Vec<_> = self.sections.iter().filter(|section| section.bytes > 0).collect();
        sections.sort_by_key(|section| std::cmp::Reverse(section.bytes));
        let words: Vec<String> = sections
            .iter()
            .map(|section| format!("{} {}", section.name.replace('-', " "), size(section.bytes)))
            .collect();
        words.join(", ")
    }

    fn begins_with(&self) -> Option<String> {
        let memory = self.memory?;
        let tables = match memory.table_bytes {
            0 => String::new(),
            bytes => format!(", and {} of tables", size(bytes)),
        };
        Some(match memory.memories {
            0 => format!("none of its own{tables}"),
            1 => format!("starts with {}{tables}", size(memory.initial_bytes)),
            many => format!("starts with {} in {many} memories{tables}", size(memory.initial_bytes)),
        })
    }
}

/// The short form.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.headline(), self.sizes())?;
        if self.kind != Kind::CoreModule {
            write!(f, "\nwants: {}", self.wanted())?;
        }
        if let Some(memory) = self.begins_with() {
            write!(f, "\nmemory: {memory}")?;
            if let Some(isolation) = &self.isolation {
                write!(f, "; isolation: {}", isolation.mode)?;
            }
        }
        if let Some(reason) = &self.runs.reason {
            write!(f, "\ndoes not run: {}", clean(reason))?;
        }
        Ok(())
    }
}

impl fmt::Display for Full<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.report;
        writeln!(f, "{}: {}", clean(self.name), report.headline())?;
        let mut row = |title: &str, text: &str| writeln!(f, "  {title:<11}{text}");
        if report.kind == Kind::CoreModule {
            row("exports", &listed(report.exports.iter().map(String::as_str)))?;
            row("imports", &listed(report.imports.iter().map(String::as_str)))?;
        } else {
            row("serves", &listed(report.exports.iter().map(String::as_str)))?;
            row("wants", &report.wanted())?;
        }
        if !report.languages.is_empty() {
            row("language", &listed(report.languages.iter().map(String::as_str)))?;
        }
        let tools: Vec<String> =
            report.producers.iter().filter(|producer| producer.role != "language").map(tool).collect();
        if !tools.is_empty() {
            row("made by", &listed(tools.iter().map(String::as_str)))?;
        }
        if let Some(compiled) = &report.compiled {
            let here = if compiled.fits_here { "fits this host" } else { "does not fit this host" };
            row("compiled", &format!("by wasmhost {} for {}; {here}", clean(&compiled.wasmhost), compiled.cpu))?;
        }
        row("size", &report.sizes())?;
        if report.components + report.modules > 0 {
            row("parts", &format!("core modules: {}, components: {}", report.modules, report.components))?;
        }
        if let Some(memory) = report.begins_with() {
            row("memory", &memory)?;
        }
        if let Some(isolation) = &report.isolation {
            row("isolation", &format!("{} (auto: {})", isolation.mode, isolation.reason))?;
        }
        let needed: Vec<&str> = report.flags.iter().filter(|flag| flag.needed).map(|flag| flag.flag.as_str()).collect();
        let name = clean(self.name);
        match (&report.runs.reason, needed.as_slice()) {
            (Some(reason), _) => {
                row("runs", &format!("no: {}", clean(reason)))?;
                row("hint", report.runs.hint.as_deref().unwrap_or_default())?;
            }
            (None, []) => row("runs", &format!("yes: wasmhost {name}"))?,
            (None, needed) => row("runs", &format!("yes: wasmhost {name} {}", needed.join(" ")))?,
        }
        for flag in &report.flags {
            let need = if flag.needed { "needed" } else { "if it uses it" };
            let key = flag.key.map_or_else(String::new, |key| format!(" or `{key}` in wasmhost.toml"));
            row("flag", &format!("{}{key}  ({need}; {})", flag.flag, flag.reason))?;
        }
        Ok(())
    }
}

fn tool(producer: &Producer) -> String {
    if producer.version.is_empty() { producer.name.clone() } else { format!("{} {}", producer.name, producer.version) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_act_on_a_terminal_is_made_visible() {
        assert_eq!(clean("a\u{1b}[31mb\n"), "a\\u{1b}[31mb\\n");
        assert_eq!(clean(&"x".repeat(1_000)).chars().count(), NAME_CHARS_MAX + 1);
        assert_eq!(listed(std::iter::repeat_n("a", 50)).matches("a, ").count(), NAMES_SHOWN);
    }
}
