//! `wasmhost inspect`: what a file holds.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use wasmhost_config::cli::InspectArgs;
use wasmhost_sandbox::LoadError;
use wasmhost_toolchain::inspect::Report;

/// The largest components take about a second; one that takes so long was made to.
const READING_MAX: Duration = Duration::from_secs(60);

/// What there is to say, with the end of its last line.
///
/// # Errors
/// When the file cannot be read, is nothing that wasmhost knows, or is damaged.
pub(crate) fn run(args: &InspectArgs) -> Result<String, LoadError> {
    let report = within(READING_MAX, &args.component)?;
    if args.json {
        let json = serde_json::to_string_pretty(&report);
        return json.map(|json| format!("{json}\n")).map_err(|error| failed(&args.component, error.to_string()));
    }
    Ok(report.full(&args.component.display().to_string()).to_string())
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
