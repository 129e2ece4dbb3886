//! Revisions of the apps of a host that runs: `reload`, `rollback`, `promote`.

use http::{Method, StatusCode};
use serde_json::Value;

use super::hosts::{
    HostCommandError, HostShown, RELOAD_PATIENCE, RunningHost, chosen, has_failed, is_name, json, list_of, refused,
    reload_of, reload_told, text_of,
};
use super::plain::plain;
use wasmhost_config::cli::{AppArgs, PromoteArgs, ReloadArgs, RollbackArgs};
use wasmhost_supervise::control::client::{ControlAnswer, FoundHost, ask};

/// `wasmhost reload`.
///
/// # Errors
/// When there is no such host, or it gives no answer.
pub(crate) fn reload(args: &ReloadArgs) -> Result<HostShown, HostCommandError> {
    let RunningHost { host, .. } = chosen(args.host.host.as_deref())?;
    if let Some(app) = &args.app {
        return reload_app(&host, app, args.host.json);
    }
    let outcome = reload_of(&host)?;
    let failed = has_failed(&outcome);
    let mut text = format!("{}: {}\n", host.name, reload_told(failed));
    for app in list_of(&outcome, "apps") {
        text.push_str(&format!(
            "  {}: {}\n    hint: {}\n",
            text_of(app, "name"),
            text_of(app, "error"),
            text_of(app, "hint")
        ));
    }
    Ok(HostShown::of(args.host.json, &outcome, failed, || text))
}

/// `wasmhost reload --app`.
///
/// # Errors
/// When the host gives no answer, or has no such app.
fn reload_app(host: &FoundHost, app: &str, as_json: bool) -> Result<HostShown, HostCommandError> {
    let answer = of_app(host, app, "reload")?;
    let outcome = outcome(&answer)?;
    let failed = answer.status != StatusCode::OK;
    let words = || match failed {
        true => format!(
            "{}: the reload of {app} failed, and what was served before goes on: {}\n    hint: {}\n",
            host.name,
            text_of(&outcome, "error"),
            text_of(&outcome, "hint")
        ),
        false => format!("{}: reloaded {app}, revision {}\n", host.name, outcome["revision"]),
    };
    Ok(HostShown::of(as_json, &outcome, failed, words))
}

/// `wasmhost rollback`.
///
/// # Errors
/// When there is no such host, app or revision, or the host gives no answer.
pub(crate) fn rollback(args: &RollbackArgs) -> Result<HostShown, HostCommandError> {
    let RunningHost { host, status } = chosen(args.host.host.as_deref())?;
    let app = chosen_app(&args.app, &status)?;
    let to = args.to.map(|to| format!("/{to}")).unwrap_or_default();
    let outcome = done_for(&host, &app, &format!("rollback{to}"))?;
    let words =
        || format!("{}: {app} went back from revision {} to revision {}\n", host.name, outcome["from"], outcome["to"]);
    Ok(HostShown::of(args.host.json, &outcome, false, words))
}

/// `wasmhost promote`.
///
/// # Errors
/// When there is no such host or app, or no revision to promote, or the host gives no answer.
pub(crate) fn promote(args: &PromoteArgs) -> Result<HostShown, HostCommandError> {
    let RunningHost { host, status } = chosen(args.host.host.as_deref())?;
    let app = chosen_app(&args.app, &status)?;
    let outcome = done_for(&host, &app, "promote")?;
    let words = || format!("{}: all new requests of {app} go to revision {}\n", host.name, outcome["revision"]);
    Ok(HostShown::of(args.host.json, &outcome, false, words))
}

/// The app that is named, or the only one.
fn chosen_app(app: &AppArgs, status: &Value) -> Result<String, HostCommandError> {
    if let Some(name) = &app.name {
        return Ok(name.clone());
    }
    match list_of(status, "apps") {
        [only] => Ok(text_of(only, "name")),
        apps => {
            let names = apps.iter().map(|app| text_of(app, "name")).collect::<Vec<_>>().join(", ");
            Err(HostCommandError::Strange(format!("it has several apps, name one of them with --app: {names}")))
        }
    }
}

fn of_app(host: &FoundHost, app: &str, command: &str) -> Result<ControlAnswer, HostCommandError> {
    if app.is_empty() || !is_name(app) {
        return Err(HostCommandError::Strange(format!("there is no app `{}`", plain(app))));
    }
    Ok(ask(host, Method::POST, &format!("/apps/{app}/{command}"), RELOAD_PATIENCE)?)
}

/// The outcome of a command that the host has carried out for an app.
fn done_for(host: &FoundHost, app: &str, command: &str) -> Result<Value, HostCommandError> {
    let answer = of_app(host, app, command)?;
    if answer.status != StatusCode::OK {
        return Err(refused(&answer));
    }
    outcome(&answer)
}

fn outcome(answer: &ControlAnswer) -> Result<Value, HostCommandError> {
    json(answer).ok().filter(Value::is_object).ok_or_else(|| refused(answer))
}
