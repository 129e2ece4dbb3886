//! `wasmhost inspect`: what a file holds, or each component of a `wasmhost.toml`.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};

use wasmhost_config::cli::InspectArgs;
use wasmhost_config::{FILE_NAME, Mistake, Outline, outline};
use wasmhost_sandbox::LoadError;
use wasmhost_toolchain::inspect::Report;

/// The largest components take about a second; one that takes so long was made to.
const READING_MAX: Duration = Duration::from_secs(60);

/// Why nothing is shown.
#[derive(Debug)]
pub(crate) enum InspectError {
    /// The component cannot be read.
    Load(LoadError),
    /// Nothing is named, or the file of settings is wrong.
    Usage(Vec<Mistake>),
}

/// What there is to say.
pub(crate) struct Inspected {
    /// With the end of its last line.
    pub(crate) text: String,
    /// Everything that was named could be read.
    pub(crate) is_complete: bool,
}

/// Reads, and says what there is. `tell` says which component of a file cannot be read.
///
/// # Errors
/// When the file cannot be read, is nothing that wasmhost knows, or is damaged.
pub(crate) fn run(args: &InspectArgs, tell: &dyn Fn(&str)) -> Result<Inspected, InspectError> {
    let Some(component) = &args.component else {
        let file = args.config.as_deref().or_else(|| Some(Path::new(FILE_NAME)).filter(|file| file.is_file()));
        let nothing = || {
            let reason =
                format!("name a component (`wasmhost inspect app.wasm`), or a file of settings (`-c {FILE_NAME}`)");
            InspectError::Usage(vec![Mistake { place: "nothing to inspect".to_owned(), app: None, reason }])
        };
        let apps = outline(file.ok_or_else(nothing)?).map_err(InspectError::Usage)?;
        return Ok(if args.json { all_in_json(&apps) } else { all_in_text(&apps, tell) });
    };
    let report = within(READING_MAX, component).map_err(InspectError::Load)?;
    let text = if args.json {
        let json = serde_json::to_string_pretty(&report).map(|json| format!("{json}\n"));
        json.map_err(|error| InspectError::Load(failed(component, error.to_string())))?
    } else {
        report.full(&component.display().to_string()).to_string()
    };
    Ok(Inspected { text, is_complete: true })
}

fn all_in_text(apps: &[Outline], tell: &dyn Fn(&str)) -> Inspected {
    let (mut parts, mut is_complete) = (Vec::new(), true);
    for Outline { app, component, .. } in apps {
        match within(READING_MAX, component) {
            Ok(report) => parts.push(format!("app {app}\n{}", report.full(&component.display().to_string()))),
            Err(error) => {
                is_complete = false;
                tell(&format!("error: app `{app}`: {error}\nhint: {}\n", error.hint));
            }
        }
    }
    Inspected { text: parts.join("\n"), is_complete }
}

fn all_in_json(apps: &[Outline]) -> Inspected {
    let mut is_complete = true;
    let mut shown = |Outline { app, component, .. }: &Outline| -> Value {
        let report = within(READING_MAX, component)
            .and_then(|report| serde_json::to_value(report).map_err(|error| failed(component, error.to_string())));
        let component = component.display().to_string();
        match report {
            Ok(report) => json!({ "app": app, "component": component, "report": report }),
            Err(error) => {
                is_complete = false;
                json!({ "app": app, "component": component, "error": error.reason, "hint": error.hint })
            }
        }
    };
    let apps: Vec<Value> = apps.iter().map(&mut shown).collect();
    Inspected { text: format!("{:#}\n", json!({ "apps": apps })), is_complete }
}

/// Reads in a thread, which is left behind when it takes too long: the program ends then.
fn within(limit: Duration, file: &Path) -> Result<Report, LoadError> {
    let (answer, read) = mpsc::sync_channel(1);
    let name = file.to_path_buf();
    let reader = std::thread::Builder::new().name("inspect".to_owned()).spawn(move || {
        // Without a receiver, it took too long.
        let _ = answer.send(Report::of_file(&name));
    });
    reader.map_err(|error| failed(file, format!("no thread to read it in: {error}")))?;
    match read.recv_timeout(limit) {
        Ok(report) => report,
        Err(mpsc::RecvTimeoutError::Timeout) => {
            Err(failed(file, format!("reading it takes more than {} s", limit.as_secs())))
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            Err(failed(file, "reading it failed; a bug of wasmhost".to_owned()))
        }
    }
}

fn failed(file: &Path, reason: String) -> LoadError {
    LoadError { file: file.display().to_string(), reason, hint: "build it again with a current toolchain".to_owned() }
}
