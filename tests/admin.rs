//! Does the admin page tell the truth?

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::Value;

use crate::support::{Connection, FAULTS, Server, TestResult, command, eventually, get, guest};

/// A sample of the metrics page: name, labels, value.
type Sample = (String, String, f64);

/// The samples of a page in Prometheus' text format; what is not in it is an error.
fn samples(page: &str) -> Result<Vec<Sample>, String> {
    let mut samples = Vec::new();
    let mut types: Vec<&str> = Vec::new();
    for line in page.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.split(' ');
            match (words.next(), words.next(), words.next()) {
                (Some("TYPE"), Some(name), Some("counter" | "gauge" | "histogram")) => types.push(name),
                (Some("HELP"), Some(_), Some(_)) | (Some("UNIT"), Some(_), _) | (Some("EOF"), None, None) => {}
                _ => return Err(format!("not a comment of the format: {line}")),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').ok_or_else(|| format!("no value: {line}"))?;
        let (name, labels) =
            series.split_once('{').map_or((series, ""), |(name, labels)| (name, labels.trim_end_matches('}')));
        if !types.iter().any(|family| name.starts_with(family)) {
            return Err(format!("no type was given before: {line}"));
        }
        let value = value.parse().map_err(|_| format!("not a number: {line}"))?;
        samples.push((name.to_owned(), labels.to_owned(), value));
    }
    Ok(samples)
}

/// The sum of all samples of this name whose labels have `label`.
fn sum(samples: &[Sample], name: &str, label: &str) -> f64 {
    let matching = samples.iter().filter(|(of, labels, _)| of == name && labels.contains(label));
    matching.map(|(_, _, value)| value).sum()
}

#[track_caller]
fn metrics(server: &Server) -> Vec<Sample> {
    let page = server.admin("/metrics");
    assert!(page.text().ends_with("# EOF\n"));
    samples(&page.text()).expect("Prometheus' text format")
}

#[test]
fn the_metrics_match_the_requests_made() {
    for component in FAULTS {
        let server = Server::start(component, &["--workers", "1", "--instances-per-worker", "1", "--queue-max", "0"]);
        for (path, status, times) in
            [("/hello", 200, 5), ("/status?code=404", 404, 3), ("/trap", 500, 2), ("/exit", 500, 1)]
        {
            for _ in 0..times {
                assert_eq!(get(server.address, path).status, status, "{component} {path}");
            }
        }
        let mut sleeping = Connection::open(server.address);
        sleeping.send("GET /sleep?ms=600 HTTP/1.1\r\nHost: test\r\n\r\n");
        eventually("it is served", || server.sum("in_flight") == 1);
        assert_eq!(sum(&metrics(&server), "wasmhost_requests_in_flight", ""), 1.0, "{component}");
        for _ in 0..4 {
            let shed = get(server.address, "/hello");
            assert!(shed.status == 503 && shed.header("retry-after").is_some(), "{component}: {shed:?}");
        }
        assert_eq!(sleeping.response().status, 200);
        eventually("all are counted", || server.sum("in_flight") == 0);
        let samples = metrics(&server);
        let expected = [
            ("wasmhost_responses_total", "class=\"2xx\"", 6.0),
            ("wasmhost_responses_total", "class=\"4xx\"", 3.0),
            ("wasmhost_responses_total", "class=\"5xx\"", 7.0),
            ("wasmhost_faults_total", "fault=\"trap\"", 2.0),
            ("wasmhost_faults_total", "fault=\"exit\"", 1.0),
            ("wasmhost_faults_total", "", 3.0),
            ("wasmhost_sheds_total", "reason=\"queue-full\"", 4.0),
            ("wasmhost_sheds_total", "", 4.0),
            ("wasmhost_connections_total", "worker=\"1\"", 16.0),
            ("wasmhost_request_duration_seconds_count", "", 16.0),
        ];
        for (name, label, value) in expected {
            assert_eq!(sum(&samples, name, label), value, "{component} {name} {label}");
        }
        let within =
            |bound: &str| sum(&samples, "wasmhost_request_duration_seconds_bucket", &format!("le=\"{bound}\""));
        assert!(within("1.0") - within("0.25") >= 1.0, "{component}: one took 600 ms");
        assert!(sum(&samples, "wasmhost_request_duration_seconds_sum", "") >= 0.6, "{component}");
        assert_eq!(
            (server.sum("requests"), server.sum("faults.trap"), server.sum("sheds.queue-full")),
            (16, 2, 4),
            "{component}"
        );
    }
}

#[test]
fn buckets_of_the_latency_histogram_are_cumulative_and_the_last_has_no_bound() {
    let server = Server::start("faults.wasm", &["--workers", "1"]);
    for ms in [0, 0, 20, 60] {
        assert_eq!(get(server.address, &format!("/sleep?ms={ms}")).status, 200);
    }
    eventually("all are counted", || server.sum("in_flight") == 0);
    let samples = metrics(&server);
    let buckets: Vec<f64> =
        samples.iter().filter(|(name, ..)| name.ends_with("_seconds_bucket")).map(|(_, _, value)| *value).collect();
    assert!(buckets.len() > 10 && buckets.is_sorted() && buckets.last() == Some(&4.0), "{buckets:?}");
    assert!(sum(&samples, "wasmhost_request_duration_seconds_bucket", "le=\"0.05\"") <= 3.0, "{samples:?}");
    let all = sum(&samples, "wasmhost_request_duration_seconds_bucket", "le=\"+Inf\"");
    assert_eq!(all, 4.0, "the last bucket has no bound");
}

#[test]
fn the_status_page_describes_the_host_and_each_worker() {
    let server = Server::start("faults-p3.wasm", &["--workers", "3", "--isolation", "request"]);
    assert_eq!(get(server.address, "/trap").status, 500);
    let page = server.admin("/status");
    assert_eq!(page.header("content-type"), Some("application/json"));
    let status = server.status();
    for (field, value) in [
        ("phase", Value::from("running")),
        ("ready", true.into()),
        ("wasi", "0.3".into()),
        ("isolation", "request".into()),
        ("reloads", 0.into()),
    ] {
        assert_eq!(status[field], value, "{field}");
    }
    assert!(status["component"].as_str().is_some_and(|name| name.ends_with("faults-p3.wasm")), "{status}");
    let workers = status["workers"].as_array().expect("a list");
    assert_eq!(workers.iter().map(|worker| worker["worker"].as_u64()).collect::<Vec<_>>(), [Some(1), Some(2), Some(3)]);
    for worker in workers {
        assert_eq!((&worker["state"], &worker["thread_generation"]), (&"listening".into(), &1.into()), "{worker}");
        for number in [
            "thread",
            "generation",
            "instances",
            "open_connections",
            "connections",
            "in_flight",
            "requests",
            "queued",
            "client_left",
        ] {
            assert!(worker[number].is_u64(), "{number} in {worker}");
        }
        assert!(worker["faults"].is_object() && worker["sheds"].is_object(), "{worker}");
    }
    assert_eq!((server.sum("faults.trap"), server.sum("requests")), (1, 1));
}

#[test]
fn health_and_readiness_are_told_apart_while_draining() {
    let mut server = Server::start("faults.wasm", &[]);
    assert_eq!(
        (server.admin("/healthz").status, server.admin("/readyz").status, server.admin("/nothing").status),
        (200, 200, 404)
    );
    let mut streaming = Connection::open(server.address);
    streaming.send("GET /stream?chunks=20&bytes=1&ms=100 HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("it is served", || server.sum("in_flight") == 1);
    server.signal("TERM");
    eventually("no longer ready", || server.admin("/readyz").status == 503);
    assert_eq!((server.admin("/healthz").status, &server.status()["phase"]), (200, &"draining".into()));
    assert!(streaming.response().whole);
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn the_admin_page_answers_while_all_workers_loop() {
    let server = Server::start("faults.wasm", &["--cpu-limit", "60s"]);
    let mut looping: Vec<Connection> = (0..2).map(|_| Connection::open(server.address)).collect();
    for connection in &mut looping {
        connection.send("GET /loop HTTP/1.1\r\nHost: test\r\n\r\n");
    }
    eventually("both loop", || server.sum("in_flight") == 2);
    assert_eq!((server.admin("/healthz").status, server.admin("/metrics").status), (200, 200));
}

#[test]
fn the_admin_page_answers_though_others_ask_and_do_not_read() {
    let server = Server::start("hello.wasm", &[]);
    let page = server.records(|record| record["message"].as_str().is_some_and(|text| text.starts_with("admin page")));
    let text = page[0]["message"].as_str().expect("a text");
    let address = text.rsplit("http://").next().and_then(|address| address.parse().ok()).expect("an address");
    let mut greedy: Vec<Connection> = (0..32).map(|_| Connection::open(address)).collect();
    let requests = "GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n".repeat(4_000);
    for connection in &mut greedy {
        connection.stream.set_write_timeout(Some(std::time::Duration::from_millis(100))).expect("a time-out");
        // What the page does not take is not needed.
        let _ = connection.stream.write_all(requests.as_bytes());
    }
    assert_eq!(server.admin("/healthz").status, 200);
}

#[test]
fn the_admin_page_can_be_on_a_unix_socket() -> TestResult {
    let dir = tempfile::tempdir()?;
    let socket = dir.path().join("admin");
    let mut command = command();
    command
        .arg(guest("hello.wasm"))
        .args(["--listen", "127.0.0.1:0", "--admin"])
        .arg(format!("unix:{}", socket.display()));
    let mut server = Server::spawn(command);
    let mut stream = UnixStream::connect(&socket)?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok\n"), "{answer}");
    server.signal("TERM");
    assert_eq!(server.wait_for_exit().code(), Some(0));
    assert!(!socket.exists(), "the file is removed");
    Ok(())
}
