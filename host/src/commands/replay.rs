//! `wasmhost replay`: the request of a crash bundle once more.

mod outcome;
mod planned;
mod shown;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::uri::PathAndQuery;

use wasmhost_config::cli::ReplayArgs;
use wasmhost_config::{Config, LogChoice, Mistake, build_for_replay, machine};
use wasmhost_sandbox::capabilities;
use wasmhost_serve::worker::ReportedRequest;
use wasmhost_supervise::crashes::bundle::CrashBundle;
use wasmhost_supervise::crashes::{BundleError, read_bundle};
use wasmhost_supervise::replay::{Replay, ReplayError, Replayed, places_in};

pub(crate) use self::outcome::ReplayOutcome;
use self::outcome::outcome;
use self::planned::{PlannedRequest, header, planned};

/// Largest body that is sent.
const BODY_BYTES_MAX: u64 = 1 << 30;

/// Why nothing was run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayCommandError {
    #[error("wrong usage")]
    Usage(Vec<Mistake>),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error("the body `{}` cannot be read: {reason}", .file.display())]
    Body { file: PathBuf, reason: String },
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

impl ReplayCommandError {
    pub(crate) fn hint(&self) -> &str {
        match self {
            Self::Usage(_) => "`wasmhost replay --help` lists the flags",
            Self::Bundle(_) => "name a file of the host's --crash-dir",
            Self::Body { .. } => "name a regular file of 1 GiB at most with --body",
            Self::Replay(ReplayError::Load(_)) => {
                "name the component behind the bundle: `wasmhost replay BUNDLE app.wasm`; with --show the bundle is shown alone"
            }
            Self::Replay(error) => error.hint(),
        }
    }
}

/// What is printed.
pub(crate) struct ReplayShown {
    pub(crate) text: String,
    pub(crate) outcome: ReplayOutcome,
}

/// A bundle and what is to be done with it.
pub(crate) struct PreparedReplay {
    bundle: CrashBundle,
    name: String,
    is_json: bool,
    requests: Vec<PlannedRequest>,
    /// None: it is shown only.
    config: Option<Config>,
    component: PathBuf,
    /// How the log is written, where something runs.
    pub(crate) log: Option<LogChoice>,
}

/// Reads the bundle, and what flags add to it.
///
/// # Errors
/// When something cannot be read or used.
pub(crate) fn prepare(args: &ReplayArgs) -> Result<PreparedReplay, ReplayCommandError> {
    let bundle = read_bundle(&args.bundle)?;
    let component = args.component.clone().unwrap_or_else(|| PathBuf::from(&bundle.component));
    let name = args.bundle.display().to_string();
    let is_json = args.json;
    if args.show {
        return Ok(PreparedReplay { bundle, name, is_json, requests: Vec::new(), config: None, component, log: None });
    }
    let config = build_for_replay(&component, &args.settings.0, &bundle.settings, (capabilities(), machine()));
    let mut config = config.map_err(ReplayCommandError::Usage)?;
    // The log names it so.
    config.apps.iter_mut().for_each(|app| Arc::make_mut(app).name.clone_from(&bundle.app));
    let mut mistakes = Vec::new();
    let mut wrong = |place: &str, reason: String| {
        mistakes.push(Mistake { place: place.to_owned(), app: None, reason });
    };
    let grants = config.apps.first().map(|app| &app.grants);
    if grants.is_some_and(|grants| !grants.stores.is_empty() || !grants.databases.is_empty()) {
        wrong("--store, --sqlite", "a replay has neither stores nor databases".to_owned());
    }
    let body = args.body.as_ref().map(read_body).transpose()?;
    let mut added = HeaderMap::new();
    for text in &args.headers {
        match header(text) {
            Some((name, value)) => {
                added.append(name, value);
            }
            None => wrong("--header", "is no header: write `--header 'name: value'`".to_owned()),
        }
    }
    let target = match args.target.as_deref().map(|text| (text, text.parse::<PathAndQuery>())) {
        Some((text, Ok(target))) if text.starts_with('/') => Some(target),
        Some((text, _)) => {
            wrong(&format!("--target `{text}`"), "must be a path, and maybe a query: `/a?b=c`".to_owned());
            None
        }
        None => None,
    };
    let chosen = |request: &&ReportedRequest| args.request.is_none_or(|number| request.number == number);
    let mut requests = Vec::new();
    // An instance that did not start had none: any request has one started.
    let none = ReportedRequest { method: "GET".to_owned(), target: "/".to_owned(), ..ReportedRequest::default() };
    let of_start = bundle.requests.is_empty().then_some(&none);
    for reported in bundle.requests.iter().chain(of_start).filter(chosen) {
        match planned(reported, target.as_ref(), &added, body.as_ref()) {
            Ok(planned) => requests.push(planned),
            Err(reason) => wrong(&format!("the request {} of the bundle", reported.number), reason),
        }
    }
    if requests.is_empty() && mistakes.is_empty() {
        let numbers: Vec<String> = bundle.requests.iter().map(|request| request.number.to_string()).collect();
        mistakes.push(Mistake {
            place: "--request".to_owned(),
            app: None,
            reason: format!("the bundle has no request of this number; it has {}", numbers.join(", ")),
        });
    }
    if !mistakes.is_empty() {
        return Err(ReplayCommandError::Usage(mistakes));
    }
    let log = Some(config.log);
    Ok(PreparedReplay { bundle, name, is_json, requests, config: Some(config), component, log })
}

fn read_body(file: &PathBuf) -> Result<Bytes, ReplayCommandError> {
    let error = |reason: String| ReplayCommandError::Body { file: file.clone(), reason };
    match std::fs::metadata(file) {
        Ok(found) if found.is_file() && found.len() <= BODY_BYTES_MAX => {
            std::fs::read(file).map(Bytes::from).map_err(|reason| error(reason.to_string()))
        }
        Ok(_) => Err(error("it is no regular file, or too large".to_owned())),
        Err(reason) => Err(error(reason.to_string())),
    }
}

/// What is ready to run.
pub(crate) struct ReadyReplay {
    prepared: PreparedReplay,
    /// None: it is shown only.
    replay: Option<Replay>,
}

impl PreparedReplay {
    /// Loads the component, and confines this process.
    ///
    /// # Errors
    /// When the component cannot be served.
    pub(crate) fn ready(mut self) -> Result<ReadyReplay, ReplayCommandError> {
        let replay = self.config.take().map(Replay::prepare).transpose()?;
        Ok(ReadyReplay { prepared: self, replay })
    }
}

impl ReadyReplay {
    /// Runs the requests, one after another.
    ///
    /// # Errors
    /// When there is no worker for them.
    pub(crate) fn run(self) -> Result<ReplayShown, ReplayCommandError> {
        let PreparedReplay { bundle, name, is_json, requests, component, .. } = self.prepared;
        let Some(replay) = self.replay else {
            let places = places_in(&component, &bundle.component_sha256, &bundle.frames);
            let text = if is_json {
                shown::bundle_json(&bundle, &places)
            } else {
                shown::bundle_text(&bundle, &name, &places)
            };
            return Ok(ReplayShown { text, outcome: ReplayOutcome::NoFault });
        };
        let mut ran: Vec<(PlannedRequest, Replayed)> = Vec::new();
        for planned in requests {
            let replayed = replay.run(&planned.request)?;
            ran.push((planned, replayed));
        }
        let each: Vec<ReplayOutcome> = ran.iter().map(|(_, replayed)| outcome(replayed)).collect();
        let outcome = [ReplayOutcome::Faulted, ReplayOutcome::NotRun].into_iter().find(|one| each.contains(one));
        let outcome = outcome.unwrap_or(ReplayOutcome::NoFault);
        let text = if is_json {
            shown::json(&bundle, &replay, &ran)
        } else {
            shown::text(&bundle, (&name, &component), &replay, &ran)
        };
        Ok(ReplayShown { text, outcome })
    }
}
