//! What `wasmhost replay` prints: texts of guests as lines that move no cursor.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use wasmhost_sandbox::{FaultKind, Trace, TrapFrame};
use wasmhost_serve::worker::{ReportedOutput, ReportedRequest};
use wasmhost_supervise::crashes::bundle::CrashBundle;
use wasmhost_supervise::replay::{Replay, ReplayFault, Replayed};

use super::outcome::{ReplayOutcome, outcome};
use super::planned::PlannedRequest;
use crate::commands::plain::plain;

/// Lines of a stack, and of an output, that are shown.
const LINES_SHOWN: usize = 40;

/// A string takes all that is written to it.
macro_rules! line {
    ($text:expr, $($arguments:tt)*) => { let _ = writeln!($text, $($arguments)*); };
}

fn head(text: &mut String, bundle: &CrashBundle, name: &str) {
    let CrashBundle { app, revision, worker, request, time, fault, .. } = bundle;
    line!(text, "bundle     {}", plain(name));
    let request = request.map(|request| format!(", request {request}")).unwrap_or_default();
    line!(text, "app        {}, revision {revision}, worker {worker}{request}, at {}", plain(app), plain(time));
    line!(text, "fault      {}: {}", plain(&fault.kind), plain(&fault.detail));
    if let Some(limit) = &fault.limit {
        let value = bundle.settings.get(limit.trim_start_matches("--"));
        line!(
            text,
            "limit      {}{}",
            plain(limit),
            value.map(|value| format!(" {}", plain(value))).unwrap_or_default()
        );
    }
    if fault.served > 1 {
        line!(
            text,
            "           it was request {} of its instance: what earlier ones left in its memory is not known",
            fault.served
        );
    }
}

fn stack(text: &mut String, places: &Trace) {
    for (number, frame) in places.frames.iter().enumerate().take(LINES_SHOWN) {
        let place = frame.place.as_ref().map(|place| format!(" at {}", plain(&place.to_string()))).unwrap_or_default();
        let title = if number == 0 { "stack" } else { "" };
        line!(text, "{title:<10} {}{place}", plain(&frame.function));
    }
    if places.frames.len() > LINES_SHOWN {
        line!(text, "           and {} more", places.frames.len() - LINES_SHOWN);
    }
}

fn output(text: &mut String, title: &str, output: &ReportedOutput) {
    let lines: Vec<&str> = output.text.lines().collect();
    for (number, line) in lines.iter().skip(lines.len().saturating_sub(LINES_SHOWN)).enumerate() {
        let title = if number == 0 { title } else { "" };
        line!(text, "{title:<10} {}", plain(line));
    }
}

fn request_line(request: &ReportedRequest) -> String {
    let ReportedRequest { method, scheme, authority, target, .. } = request;
    plain(&format!("{method} {scheme}://{authority}{target}"))
}

/// A bundle for people.
pub(super) fn bundle_text(bundle: &CrashBundle, name: &str, places: &Trace) -> String {
    let mut text = String::new();
    head(&mut text, bundle, name);
    line!(text, "component  {}", plain(&bundle.component));
    for request in &bundle.requests {
        line!(text, "request    {}", request_line(request));
        for field in &request.headers {
            let value = field.value.as_deref().map_or_else(|| "(hidden)".to_owned(), plain);
            line!(text, "           {}: {value}", plain(&field.name));
        }
    }
    stack(&mut text, places);
    output(&mut text, "stdout", &bundle.stdout);
    output(&mut text, "stderr", &bundle.stderr);
    for (name, names) in &bundle.grants {
        line!(text, "granted    {} {}", plain(name), plain(&names.join(", ")));
    }
    text
}

/// The same for programs.
pub(super) fn bundle_json(bundle: &CrashBundle, places: &Trace) -> String {
    let mut value = serde_json::to_value(bundle).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.insert("stack".to_owned(), stack_json(places));
    }
    format!("{value:#}\n")
}

fn stack_json(places: &Trace) -> Value {
    let frames = places.frames.iter();
    let frame = frames.map(|frame| {
        let place = frame.place.as_ref();
        json!({
            "function": frame.function,
            "file": place.map(|place| &place.file),
            "line": place.map(|place| place.line).filter(|line| *line > 0),
            "column": place.map(|place| place.column).filter(|column| *column > 0),
        })
    });
    frame.collect()
}

/// The component that was run, compared with the recorded one.
fn component_line(bundle: &CrashBundle, component: &Path, replay: &Replay) -> String {
    let compared = match bundle.component_sha256.as_str() {
        "" => "the bundle does not say which one it was".to_owned(),
        recorded if recorded == replay.component_sha256() => "the recorded one".to_owned(),
        recorded => {
            let short = |sum: &str| sum.chars().take(12).collect::<String>();
            format!("ANOTHER ONE: SHA-256 {}…, recorded {}…", short(replay.component_sha256()), short(&plain(recorded)))
        }
    };
    format!("{} ({compared})", plain(&component.display().to_string()))
}

fn frames_of(fault: &ReplayFault) -> &[TrapFrame] {
    fault.report.as_ref().map_or(&[], |report| &report.frames)
}

fn kinds(replayed: &Replayed) -> String {
    replayed.kinds.iter().map(|kind| FaultKind::name(*kind)).collect::<Vec<_>>().join(", ")
}

/// Whether it ended as the bundle says.
fn is_same(bundle: &CrashBundle, replayed: &Replayed) -> bool {
    replayed.kinds.iter().any(|kind| kind.name() == bundle.fault.kind)
}

/// What came of it, for people.
pub(super) fn text(
    bundle: &CrashBundle,
    (name, component): (&str, &PathBuf),
    replay: &Replay,
    ran: &[(PlannedRequest, Replayed)],
) -> String {
    let mut text = String::new();
    head(&mut text, bundle, name);
    line!(text, "component  {}", component_line(bundle, component, replay));
    if component_line_is_same(bundle, replay) {
        stack(&mut text, &replay.places(&bundle.frames));
    }
    if !bundle.grants.is_empty() {
        let granted =
            bundle.grants.iter().map(|(name, names)| format!("--{} {}", plain(name), plain(&names.join(" "))));
        line!(text, "granted    (not here, unless flags say so) {}", granted.collect::<Vec<_>>().join("; "));
    }
    for (planned, replayed) in ran {
        let request = &planned.request;
        let scheme = if request.is_encrypted { "https" } else { "http" };
        let head = format!("{} {scheme}://{}{}", request.method, request.authority, request.target);
        line!(text, "\nrequest    {}", plain(&head));
        for missing in &planned.missing {
            line!(text, "missing    {}", plain(missing));
        }
        let took = replayed.took.as_millis();
        match (outcome(replayed), &replayed.answer) {
            (ReplayOutcome::Faulted, _) => {
                let how = if is_same(bundle, replayed) { "it faulted again" } else { "it faulted IN ANOTHER WAY" };
                line!(text, "result     {how}: {}, after {took} ms", kinds(replayed));
                for fault in &replayed.faults {
                    line!(text, "detail     {}", plain(&fault.fault.detail));
                    stack(&mut text, &replay.places(frames_of(fault)));
                }
            }
            (_, Err(reason)) => {
                line!(text, "result     it was not run: {}", plain(reason));
            }
            (ReplayOutcome::NotRun, Ok(answer)) => {
                line!(text, "result     it was not run: the host refused it with status {}", answer.status);
            }
            (ReplayOutcome::NoFault, Ok(answer)) => {
                line!(
                    text,
                    "result     it did not fault: status {}, {} bytes{}, after {took} ms",
                    answer.status,
                    answer.body_bytes,
                    if answer.is_whole { "" } else { " (broken off)" }
                );
            }
        }
    }
    text
}

fn component_line_is_same(bundle: &CrashBundle, replay: &Replay) -> bool {
    bundle.component_sha256 == replay.component_sha256()
}

/// The same for programs.
pub(super) fn json(bundle: &CrashBundle, replay: &Replay, ran: &[(PlannedRequest, Replayed)]) -> String {
    let one = |(planned, replayed): &(PlannedRequest, Replayed)| {
        let answer = replayed.answer.as_ref();
        let faults = replayed.faults.iter().map(|fault| {
            json!({
                "kind": fault.fault.kind,
                "detail": fault.fault.detail,
                "stack": stack_json(&replay.places(frames_of(fault))),
                "cpu_us": fault.report.as_ref().map(|report| report.cpu_us),
            })
        });
        json!({
            "request": planned.number,
            "outcome": match outcome(replayed) {
                ReplayOutcome::NoFault => "no-fault",
                ReplayOutcome::Faulted => "faulted",
                ReplayOutcome::NotRun => "not-run",
            },
            "same_fault": is_same(bundle, replayed),
            "kinds": replayed.kinds.iter().map(|kind| FaultKind::name(*kind)).collect::<Vec<_>>(),
            "faults": faults.collect::<Vec<_>>(),
            "status": answer.ok().map(|answer| answer.status),
            "body_bytes": answer.ok().map(|answer| answer.body_bytes),
            "is_whole": answer.ok().map(|answer| answer.is_whole),
            "error": answer.err(),
            "missing": planned.missing,
            "elapsed_ms": u64::try_from(replayed.took.as_millis()).unwrap_or(u64::MAX),
        })
    };
    let value = json!({
        "format": 1,
        "app": bundle.app,
        "recorded": bundle.fault,
        "same_component": component_line_is_same(bundle, replay),
        "not_granted": bundle.grants,
        "replays": ran.iter().map(one).collect::<Vec<_>>(),
    });
    format!("{value:#}\n")
}
