//! `wasmhost replay`: the request of a crash bundle once more.

mod shown;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use wasmhost_config::cli::ReplayArgs;
use wasmhost_config::{Config, LogChoice, Mistake, build_for_replay, machine};
use wasmhost_sandbox::capabilities;
use wasmhost_serve::worker::{ReplayedRequest, ReportedRequest};
use wasmhost_supervise::crashes::bundle::CrashBundle;
use wasmhost_supervise::crashes::{BundleError, read_bundle};
use wasmhost_supervise::replay::{ONLY, Replay, ReplayError, Replayed, places_in};

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

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplayOutcome {
    NoFault,
    Faulted,
    /// The guest was not asked.
    NotRun,
}

/// What is printed.
pub(crate) struct ReplayShown {
    pub(crate) text: String,
    pub(crate) outcome: ReplayOutcome,
}

/// A request that is to run, and which one of the bundle it is.
struct PlannedRequest {
    number: u64,
    request: ReplayedRequest,
    /// What the bundle does not have of it, and no flag has added.
    missing: Vec<String>,
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
    let body = args.body.as_ref().map(|file| read_body(file)).transpose()?;
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

fn header(text: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':')?;
    Some((HeaderName::try_from(name.trim()).ok()?, HeaderValue::try_from(value.trim()).ok()?))
}

/// A request as it is to run, with what flags add.
fn planned(
    reported: &ReportedRequest,
    target: Option<&PathAndQuery>,
    added: &HeaderMap,
    body: Option<&Bytes>,
) -> Result<PlannedRequest, String> {
    let method = Method::try_from(reported.method.as_str()).map_err(|_| "it has no valid method".to_owned())?;
    let mut missing = Vec::new();
    let recorded = reported.target.parse::<PathAndQuery>();
    let target = match (target, recorded) {
        (Some(target), _) => target.clone(),
        (None, Ok(recorded)) => {
            missing.extend(reported.is_query_hidden.then(|| "values of its query (--target)".to_owned()));
            recorded
        }
        (None, Err(_)) => return Err("its path cannot be used; name one with --target".to_owned()),
    };
    let mut headers = HeaderMap::new();
    let mut hidden = Vec::new();
    for field in &reported.headers {
        let Ok(name) = HeaderName::try_from(field.name.as_str()) else { continue };
        if added.contains_key(&name) {
            continue;
        }
        match field.value.as_ref().and_then(|value| HeaderValue::try_from(value.as_str()).ok()) {
            Some(value) => {
                headers.append(name, value);
            }
            None => hidden.push(field.name.clone()),
        }
    }
    headers.extend(added.iter().map(|(name, value)| (name.clone(), value.clone())));
    if !hidden.is_empty() {
        hidden.dedup();
        missing.push(format!("the values of {} (--header)", hidden.join(", ")));
    }
    if reported.has_body && body.is_none() {
        let size = reported.body_bytes.map(|bytes| format!(" of {bytes} bytes")).unwrap_or_default();
        missing.push(format!("its body{size} (--body)"));
    }
    let request = ReplayedRequest {
        app: ONLY,
        method,
        target,
        is_encrypted: reported.scheme == "https",
        authority: reported.authority.clone(),
        headers,
        body: body.cloned().unwrap_or_default(),
    };
    Ok(PlannedRequest { number: reported.number, request, missing })
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

/// What came of one.
fn outcome(replayed: &Replayed) -> ReplayOutcome {
    let by_host = replayed.answer.as_ref().map(|answer| answer.by_host.as_deref());
    match by_host {
        _ if !replayed.kinds.is_empty() => ReplayOutcome::Faulted,
        Err(_) | Ok(Some("refused")) => ReplayOutcome::NotRun,
        // An error code in the place of a response is an answer.
        Ok(Some(_) | None) => ReplayOutcome::NoFault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmhost_serve::worker::ReportedField;

    fn reported() -> ReportedRequest {
        let field =
            |name: &str, value: Option<&str>| ReportedField { name: name.to_owned(), value: value.map(str::to_owned) };
        ReportedRequest {
            number: 3,
            method: "POST".to_owned(),
            scheme: "https".to_owned(),
            authority: "a.test".to_owned(),
            target: "/b?c=*".to_owned(),
            is_query_hidden: true,
            headers: vec![field("x-note", Some("d")), field("authorization", None)],
            has_body: true,
            body_bytes: Some(9),
        }
    }

    #[test]
    fn what_a_bundle_lacks_is_told_until_flags_add_it() {
        let bare = planned(&reported(), None, &HeaderMap::new(), None).expect("a request");
        assert_eq!(bare.missing.len(), 3, "{:?}", bare.missing);
        assert!(bare.missing.iter().any(|missing| missing.contains("9 bytes")));
        let mut added = HeaderMap::new();
        let (name, value) = header("Authorization: Bearer e").expect("a header");
        added.append(name, value);
        let body = Bytes::from_static(b"123456789");
        let target = PathAndQuery::from_static("/b?c=1");
        let whole = planned(&reported(), Some(&target), &added, Some(&body)).expect("a request");
        assert_eq!(whole.missing, Vec::<String>::new());
        assert_eq!(whole.request.headers.get("authorization").map(HeaderValue::as_bytes), Some(&b"Bearer e"[..]));
        assert_eq!((whole.request.target.as_str(), whole.request.is_encrypted), ("/b?c=1", true));
    }

    #[test]
    fn a_path_that_cannot_be_used_is_a_mistake() {
        let request = ReportedRequest { target: "not a path".to_owned(), ..reported() };
        assert!(planned(&request, None, &HeaderMap::new(), None).is_err_and(|reason| reason.contains("--target")));
    }
}
