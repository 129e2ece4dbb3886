//! `wasmhost top --json`: the model of the screen, for programs.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Map, Value, json};
use wasmhost_supervise::control::client::{ControlError, FoundHost};

use super::ask::TopFollowed;
use super::model::{TopFault, TopHost, TopModel, TopRow, of};
use crate::commands::hosts::HostCommandError;

/// Prints a sample after an interval; `follows`: one in a line after each interval, until nobody reads or no host is left.
///
/// # Errors
/// When a host gives no answer, or the last one is gone.
pub(super) fn run(
    hosts: Vec<FoundHost>,
    interval: Duration,
    follows: bool,
    out: &mut dyn Write,
) -> Result<(), HostCommandError> {
    let mut hosts: Vec<(FoundHost, TopFollowed)> =
        hosts.into_iter().map(|host| (host, TopFollowed::default())).collect();
    let mut model = TopModel::default();
    ask_all(&mut hosts, &mut model)?;
    loop {
        std::thread::sleep(interval);
        ask_all(&mut hosts, &mut model)?;
        let shown = shown(&model, interval);
        let text = if follows { format!("{shown}\n") } else { format!("{shown:#}\n") };
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) if follows => {}
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(HostCommandError::Output(error)),
            // The reader has seen enough.
            Ok(()) | Err(_) => return Ok(()),
        }
    }
}

/// Asks each host once. One that is gone is left out while another is there.
fn ask_all(hosts: &mut Vec<(FoundHost, TopFollowed)>, model: &mut TopModel) -> Result<(), HostCommandError> {
    let (mut gone, mut left) = (None, Vec::new());
    for (host, mut followed) in hosts.drain(..) {
        match followed.ask(&host) {
            Ok(answer) => {
                model.answered(&host.name, &host.socket, answer);
                left.push((host, followed));
            }
            Err(error @ HostCommandError::Control(ControlError::Gone(_))) => {
                model.hosts.retain(|known| known.socket != host.socket);
                gone = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    *hosts = left;
    match gone {
        Some(error) if hosts.is_empty() => Err(error),
        _ => Ok(()),
    }
}

/// What the screen would show.
fn shown(model: &TopModel, interval: Duration) -> Value {
    let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
    json!({"interval_ms": interval_ms, "hosts": model.hosts.iter().map(of_host).collect::<Vec<_>>()})
}

fn of_host(host: &TopHost) -> Value {
    let mut fields = of_row(&host.row);
    let sample = &host.sample;
    fields.insert("socket".to_owned(), host.socket.to_string_lossy().into());
    fields.insert("pid".to_owned(), sample.pid.into());
    fields.insert("version".to_owned(), sample.version.clone().into());
    fields.insert("memory_max_bytes".to_owned(), sample.memory_max_bytes.into());
    fields.remove("revision");
    let worker = |row: &TopRow| {
        let mut fields = of_row(row);
        fields.remove("name");
        let starts = fields.remove("revision");
        fields.insert("worker".to_owned(), row.part.name.parse::<u64>().ok().into());
        fields.insert("starts".to_owned(), starts.unwrap_or_default());
        Value::Object(fields)
    };
    fields.insert("workers".to_owned(), host.workers.iter().map(worker).collect());
    fields.insert("apps".to_owned(), host.apps.iter().map(|row| Value::Object(of_row(row))).collect());
    Value::Object(fields)
}

fn of_row(row: &TopRow) -> Map<String, Value> {
    let (figures, rates) = of(row);
    let part = &row.part;
    let number = |value: Option<f64>| value.map(|value| (value * 1e3).round() / 1e3);
    let fields = json!({
        "name": part.name,
        "group": part.group,
        "state": part.state,
        "revision": part.revision,
        "error": part.error,
        "uptime_seconds": figures.uptime.map(|uptime| uptime.as_secs()),
        "connections": figures.connections,
        "in_flight": figures.in_flight,
        "waiting": figures.waiting,
        "instances": figures.instances,
        "memory_bytes": figures.memory_bytes,
        "memory_peak_bytes": figures.peak_bytes,
        "resident_bytes": figures.resident_bytes,
        "requests": figures.requests,
        "requests_per_second": number(rates.map(|rates| rates.requests)),
        "errors_per_second": number(rates.map(|rates| rates.errors)),
        "sheds_per_second": number(rates.map(|rates| rates.sheds)),
        "p50_us": number(rates.and_then(|rates| rates.p50).map(|time| time.us)),
        "p99_us": number(rates.and_then(|rates| rates.p99).map(|time| time.us)),
        "cpu_percent": number(rates.and_then(|rates| rates.cpu_percent)),
        "guest_cpu_us_per_request": number(rates.and_then(|rates| rates.guest_us)),
        "faults": figures.faults,
        "sheds": figures.sheds,
        "last_fault": row.fault.as_ref().map(of_fault),
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn of_fault(fault: &TopFault) -> Value {
    json!({
        "time": fault.time,
        "app": fault.app,
        "worker": fault.worker.parse::<u64>().ok(),
        "fault": fault.kind,
        "detail": fault.detail,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::model;
    use super::*;

    #[test]
    fn programs_get_what_the_screen_shows_in_base_units() {
        let shown = shown(&model(), Duration::from_secs(1));
        let host = &shown["hosts"][0];
        assert_eq!(
            (&shown["interval_ms"], &host["name"], &host["state"]),
            (&1_000.into(), &"shop".into(), &"running".into())
        );
        assert_eq!((&host["requests"], &host["requests_per_second"]), (&150.into(), &50.0.into()));
        let worker = &host["workers"][0];
        assert_eq!(
            (&worker["worker"], &worker["starts"], &worker["cpu_percent"]),
            (&1.into(), &1.into(), &25.0.into())
        );
        assert_eq!(worker["last_fault"], Value::Null);
        let app = &host["apps"][0];
        assert_eq!((&app["guest_cpu_us_per_request"], &app["p50_us"]), (&200.0.into(), &500.0.into()));
        assert_eq!((&app["last_fault"]["worker"], &app["last_fault"]["fault"]), (&2.into(), &"trap".into()));
        assert_eq!(app["faults"], json!({"trap": 3}));
    }
}
