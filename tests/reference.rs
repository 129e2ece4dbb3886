//! Do `docs/REFERENCE.md` and `docs/CONFIGURATION.md` say what the program has? Flags, keys, metrics and events of the log are
//! written there by these tests (`WASMHOST_WRITE_DOCUMENTS=1`); the rest is written by hand, and compared with the program's
//! names.

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use clap::{Arg, Command};
use serde_json::Value;

use wasmhost_config::settings::{self, Form, Setting, Takes};
use wasmhost_sandbox::capabilities;

use crate::support::apps::{Folder, app, ask_until_loaded};
use crate::support::{Connection, Server, TestResult, document, eventually, run};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/REFERENCE.md");
const KEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/CONFIGURATION.md");

/// No test writes the document meanwhile.
fn turn() -> std::io::Result<fs::File> {
    let file = fs::File::open(DOCUMENT)?;
    file.lock()?;
    Ok(file)
}

#[track_caller]
fn check(section: &str, text: &str) -> TestResult {
    check_in(DOCUMENT, section, text)
}

/// Compares what stands between the marks of `section` with `text`, or writes it there.
#[track_caller]
fn check_in(file: &str, section: &str, text: &str) -> TestResult {
    let (begin, end) = (format!("<!-- reference:{section} -->\n"), format!("<!-- /reference:{section} -->"));
    document::check_part(file, &begin, &end, text)
}

/// The first cells of the table below a heading, without back quotes; a cell may have several names.
fn names_below(heading: &str) -> Result<BTreeSet<String>, Box<dyn std::error::Error>> {
    let _turn = turn()?;
    let document = fs::read_to_string(DOCUMENT)?;
    let (_, rest) = document.split_once(&format!("\n{heading}\n")).ok_or(format!("no heading `{heading}`"))?;
    let section = rest.split("\n#").next().unwrap_or_default();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `")).filter_map(|line| line.split(" |").next());
    let names = cells.flat_map(|cell| cell.split(", ")).map(|name| name.trim_matches('`').to_owned());
    Ok(names.collect())
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// The default in an argument's definition, or in its help.
fn default_of(argument: &Arg) -> String {
    let values: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let in_help = help.split_once("[default: ").and_then(|(_, rest)| rest.split(']').next()).map(str::to_owned);
    match (values.is_empty() || argument.get_action().takes_values().eq(&false), in_help) {
        (_, Some(text)) => text,
        (false, None) => format!("`{}`", values.join(" ")),
        (true, None) if argument.is_required_set() => "none, required".to_owned(),
        (true, None) => "not set".to_owned(),
    }
}

/// The variable that stands for a flag; lists of lines are read outside of the definition.
fn variable_of(argument: &Arg) -> Option<String> {
    let of_setting = settings::all(capabilities()).find(|setting| argument.get_id() == setting.name);
    let of_list = || of_setting.map(Setting::variable);
    argument.get_env().map(|name| name.to_string_lossy().into_owned()).or_else(of_list)
}

/// A row for each flag of a command that `is` chosen.
fn rows(command: &Command, is: impl Fn(&Arg) -> bool) -> String {
    let mut text = String::new();
    for argument in command.get_arguments().filter(|argument| !argument.is_hide_set() && is(argument)) {
        let Some(flag) = argument.get_long().filter(|flag| !["help", "version"].contains(flag)) else { continue };
        let value = argument.get_value_names().filter(|_| argument.get_action().takes_values());
        let value = value.map(|names| format!(" {}", names[0])).unwrap_or_default();
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let help = help.split("[default: ").next().unwrap_or_default().trim().trim_end_matches('.').to_owned();
        let default = default_of(argument);
        let variable = variable_of(argument).map_or("none".to_owned(), |name| format!("`{name}`"));
        let _ = writeln!(text, "| `--{flag}{}` | {} | {} | {variable} |", cell(&value), cell(&default), cell(&help));
    }
    text
}

const HEAD: &str = "| flag | default | meaning | variable |\n|---|---|---|---|\n";

/// The text of `wasmhost … --help`, without variables of this process.
fn help_of(words: &[&str]) -> String {
    let mut command = std::process::Command::new(crate::support::server::binary());
    command.args(words).arg("--help");
    let finished = run(command);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    finished.stdout
}

#[test]
fn every_flag_is_listed_with_its_default_and_variable() -> TestResult {
    let command = wasmhost_config::cli::command(capabilities());
    let mut text = String::new();
    let serve = command.find_subcommand("serve").ok_or("a command serve")?;
    let flags: BTreeSet<&str> = serve.get_arguments().filter_map(Arg::get_long).collect();
    let mut headings: Vec<&str> = serve.get_arguments().filter_map(Arg::get_help_heading).collect();
    headings.dedup();
    for heading in headings {
        let _ = write!(text, "\n### {heading}\n\n{HEAD}");
        text.push_str(&rows(serve, |argument| argument.get_help_heading() == Some(heading)));
    }
    for other in command.get_subcommands().filter(|other| !other.is_hide_set() && other.get_name() != "serve") {
        let name = other.get_name();
        let own = |argument: &Arg| {
            let in_serve = argument.get_long().is_some_and(|flag| flags.contains(flag));
            let repeats_none = ["dev", "replay"].contains(&name);
            !repeats_none || !in_serve || (name == "dev" && argument.get_id() == "drain-timeout")
        };
        let rows = rows(other, own);
        if !rows.is_empty() {
            let more = match name {
                "dev" => "All flags of serving, and these:\n\n",
                "replay" => "The flags of limits, grants and outgoing requests that apps have, and these:\n\n",
                _ => "",
            };
            let _ = write!(text, "\n### `wasmhost {name}`\n\n{more}{HEAD}{rows}");
        }
        for part in other.get_subcommands() {
            let rows = self::rows(part, |argument| argument.get_long().is_none_or(|flag| !flags.contains(flag)));
            if !rows.is_empty() {
                let _ = write!(text, "\n### `wasmhost {name} {}`\n\n{HEAD}{rows}", part.get_name());
            }
        }
    }
    text.push('\n');
    // The definition is what the program's help shows.
    let help = help_of(&[]);
    for flag in flags.iter().filter(|flag| !["help", "version"].contains(flag)) {
        assert!(help.contains(&format!("--{flag}")), "--{flag} is not in the help");
    }
    check("flags", &text)
}

/// A row for each key.
fn keys_of(settings: impl Iterator<Item = &'static Setting>) -> String {
    let mut text = String::from("\n| key | value | default | meaning | flag |\n|---|---|---|---|---|\n");
    for setting in settings {
        let in_help = setting.help.split_once("[default: ").and_then(|(_, rest)| rest.split(']').next());
        let default = match (setting.default, in_help) {
            (_, Some(text)) => text.to_owned(),
            (Some(default), None) => format!("`{default}`"),
            (None, None) if setting.help.ends_with("(required)") => "none, required".to_owned(),
            (None, None) if matches!(setting.form, Form::Switch) => "`false`".to_owned(),
            (None, None) => "not set".to_owned(),
        };
        let value = match (setting.form, setting.takes) {
            (Form::Switch, _) => "`true` or `false`".to_owned(),
            (Form::Pairs(_), _) => "table".to_owned(),
            (_, Takes::One) => format!("`{}`", setting.value()),
            _ => format!("list of `{}`", setting.value()),
        };
        let help = setting.help.split(" [default: ").next().unwrap_or_default();
        let help = help.trim_end_matches(" (required)").trim_end_matches('.');
        let has_flag = settings::all(capabilities()).any(|other| other.name == setting.name);
        let flag = if has_flag { format!("`{}`", setting.flag()) } else { "none".to_owned() };
        let row = [&format!("`{}`", setting.key), &value, &default, help, &flag].map(cell);
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text.push('\n');
    text
}

#[test]
fn every_key_of_the_file_is_listed_with_its_default_and_flag() -> TestResult {
    check_in(KEYS, "host", &keys_of(settings::of_host()))?;
    check_in(KEYS, "store", &keys_of(settings::of_store()))?;
    check_in(KEYS, "app", &keys_of(settings::ONE_APP_ONLY.iter()))?;
    check_in(KEYS, "schedule", &keys_of(settings::OF_SCHEDULE.iter()))?;
    check_in(KEYS, "defaults", &keys_of(settings::of_defaults(capabilities())))
}

#[test]
fn every_metric_is_listed_with_its_labels() -> TestResult {
    let more = "stores = [\"default\"]\n[[app.schedule]]\ncron = \"@yearly\"";
    let file = app("app", "faults.wasm", "app.test/*", more);
    let folder = Folder::new(&format!("data-dir = \"state\"\n{file}"))?;
    let server = folder.serve(&[]);
    assert_eq!(ask_until_loaded(server.address, "app.test", "/hello").status, 200);
    let page = server.admin("/metrics").text();
    let (mut helps, mut kinds) = (BTreeMap::new(), BTreeMap::new());
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in page.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            helps.insert(name, help.trim_end_matches('.'));
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            kinds.insert(name, kind);
        } else if let Some((name, rest)) = line.split_once('{') {
            let of_this = rest.split('}').next().unwrap_or_default().split(',');
            labels
                .entry(name)
                .or_default()
                .extend(of_this.filter_map(|label| label.split('=').next()).filter(|name| !name.is_empty()));
        }
    }
    assert!(helps.len() > 20 && helps.keys().eq(kinds.keys()), "{page}");
    let mut text = String::from("\n| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for (name, help) in helps {
        let full = match kinds[name] {
            "counter" => format!("{name}_total"),
            _ => name.to_owned(),
        };
        let sample = if kinds[name] == "histogram" { format!("{name}_bucket") } else { full.clone() };
        let labels: Vec<String> = labels.get(&*sample).into_iter().flatten().map(|name| format!("`{name}`")).collect();
        let labels = if labels.is_empty() { "none".to_owned() } else { labels.join(", ") };
        let _ = writeln!(text, "| `{full}` | {} | {labels} | {} |", kinds[name], cell(help));
    }
    text.push('\n');
    check("metrics", &text)
}

#[test]
fn every_field_of_the_status_page_is_explained() -> TestResult {
    let server = Server::start("faults.wasm", &[]);
    let status = server.status();
    let worker = &status["workers"][0];
    for (heading, found) in [
        ("### The host", keys(&status)),
        ("### A worker", keys(worker)),
        ("### An app", keys(&status["apps"][0])),
        ("### Confinement", keys(&status["confinement"])),
        ("## Faults", keys(&worker["faults"])),
        ("### Reasons of `sheds`", keys(&worker["sheds"])),
        ("### Reasons of `refusals`", keys(&worker["refusals"])),
        ("### Bounds of `shortages`", keys(&worker["shortages"])),
    ] {
        assert_eq!(names_below(heading)?, found, "below `{heading}` of docs/REFERENCE.md");
    }
    Ok(())
}

#[test]
fn every_event_of_the_log_is_listed_and_every_field_explained() -> TestResult {
    let events = source::events()?;
    let mut text = String::from("\n| level | message | fields |\n|---|---|---|\n");
    for event in &events {
        let fields: Vec<String> = event.fields.iter().map(|name| format!("`{name}`")).collect();
        let _ = writeln!(text, "| {} | {} | {} |", event.level, cell(&event.message), fields.join(", "));
    }
    text.push('\n');
    let fields: BTreeSet<String> = events.into_iter().flat_map(|event| event.fields).collect();
    assert_eq!(names_below("### Fields")?, fields, "below `### Fields` of docs/REFERENCE.md");
    check("events", &text)
}

#[test]
fn every_field_of_an_access_line_is_explained() -> TestResult {
    let server = Server::start("faults.wasm", &["--access-log"]);
    assert_eq!(Connection::open(server.address).get("/hello").status, 200);
    let is_access = |record: &Value| record["target"] == "access";
    eventually("an access line", || !server.records(is_access).is_empty());
    let record = server.records(is_access).remove(0);
    assert_eq!((&record["protocol"], record.get("tls")), (&"HTTP/1.1".into(), None));
    let mut explained = names_below("### Fields")?;
    explained.extend(["timestamp", "level", "message", "target"].map(str::to_owned));
    let missing: Vec<_> = keys(&record).into_iter().filter(|name| !explained.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?} of an access line are not below `### Fields` of docs/REFERENCE.md");
    Ok(())
}

#[test]
fn every_variable_and_exit_code_is_listed() -> TestResult {
    // Those of tests and of the program's own children are nobody else's.
    let read = source::variables()?.into_iter().filter(|name| !name.starts_with("WASMHOST_"));
    assert_eq!(names_below("## Variables that are no flags")?, read.collect(), "variables in docs/REFERENCE.md");
    let help = help_of(&[]).split_whitespace().collect::<Vec<_>>().join(" ");
    let (_, codes) = help.split_once("Exit codes: ").ok_or("exit codes in the help")?;
    let codes = codes.split("; ").filter_map(|code| code.split(' ').next()).map(str::to_owned);
    // A replay has one more.
    let of_replay = help_of(&["replay"]);
    let is_listed = of_replay.split_once("Exit codes: ").is_some_and(|(_, codes)| codes.contains("3 "));
    let codes = codes.chain(is_listed.then(|| "3".to_owned()));
    assert_eq!(names_below("## Exit codes")?, codes.collect(), "exit codes in docs/REFERENCE.md");
    Ok(())
}
