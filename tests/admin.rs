//! Does the admin page tell the truth?

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::apps::{Folder, app};
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
    let buckets: Vec<f64> = samples
        .iter()
        .filter(|(name, ..)| name == "wasmhost_request_duration_seconds_bucket")
        .map(|(_, _, value)| *value)
        .collect();
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

#[test]
fn health_is_told_though_as_many_connections_as_there_may_be_say_nothing() {
    let server = Server::start("hello.wasm", &[]);
    let mut silent: Vec<Connection> = (0..32).map(|_| Connection::open(server.admin_address())).collect();
    for nth in 0..3 {
        let began = Instant::now();
        assert_eq!(server.admin("/healthz").status, 200);
        assert!(began.elapsed() < Duration::from_secs(2), "question {nth} waited for {:?}", began.elapsed());
    }
    assert_eq!(silent[0].raw_to_end(), b"", "the one that was silent for longest made room");
    let last = &mut silent[31].stream;
    last.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
    let outcome = last.read(&mut [0; 16]);
    assert!(outcome.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "the latest stays");
}

#[test]
fn other_methods_are_told_which_there_are() {
    let server = Server::start("hello.wasm", &[]);
    let mut connection = Connection::open(server.admin_address());
    connection.send("POST /healthz HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
    let response = connection.response();
    assert_eq!((response.status, response.header("allow")), (405, Some("GET, HEAD")), "{response:?}");
}

#[test]
fn every_metric_of_the_table_is_on_its_pages() {
    use wasmhost_serve::metrics::MetricKind;
    use wasmhost_supervise::admin::table::families;
    let folder = tempfile::tempdir().expect("a folder");
    let authority = crate::support::tls::Authority::new();
    let tls = authority.server(folder.path(), "a", &["a.test"], 30).flags();
    // With what some figures are about.
    let more =
        "stores = [\"default\"]\nsqlite = [\"default\"]\n[[app.schedule]]\nname = \"nightly\"\ncron = \"0 3 * * *\"\n";
    let apps = Folder::new(&app("faults", "faults.wasm", "*", more)).expect("a file of settings");
    let data = folder.path().join("data");
    let flags = ["--workers", "1", "--data-dir", data.to_str().expect("a path in UTF-8")];
    let flags: Vec<&str> = flags.into_iter().chain(tls.iter().map(String::as_str)).collect();
    let server = apps.serve(&flags);
    let config = authority.trusted(crate::support::tls::VERSIONS, None);
    let mut client = crate::support::tls::TlsClient::open(server.address, &config, "a.test").expect("a session");
    assert_eq!(client.get("/trap", "").expect("an answer").status, 500);
    let (samples, status) = (metrics(&server), server.status());
    for family in families() {
        let ending = if family.kind == MetricKind::Histogram { "_count" } else { "" };
        let name = family.full_name() + ending;
        let sample = samples.iter().find(|(of, ..)| *of == name);
        let (_, labels, _) = sample.unwrap_or_else(|| panic!("{name} is not on /metrics"));
        for label in &family.labels {
            assert!(labels.contains(&format!("{label}=\"")), "{name}: {label} in {labels}");
        }
        let place = match family.labels.first() {
            Some(&"worker") => &status["workers"][0],
            Some(&"app") => &status["apps"][0],
            _ => &status,
        };
        assert!(family.status.is_none_or(|field| !place[field].is_null()), "{name}: {:?}", family.status);
    }
    let mut names: Vec<&str> = samples.iter().map(|(name, ..)| name.as_str()).collect();
    names.dedup();
    let known: Vec<String> = families().iter().map(|family| family.full_name()).collect();
    let is_known = |name: &&str| known.iter().any(|family| name.starts_with(family));
    assert!(names.iter().all(is_known), "{names:?}");
}

/// What is counted by worker is counted by app, too, and once each.
#[test]
fn counts_by_app_and_by_worker_are_the_same_in_sum() {
    let server = Server::start("faults.wasm", &["--workers", "2"]);
    for path in ["/hello", "/trap", "/hello", "/status?code=404"] {
        get(server.address, path);
    }
    eventually("all are counted", || server.sum("in_flight") == 0 && server.sum("requests") == 4);
    let samples = metrics(&server);
    for name in ["responses_total", "faults_total", "generations_total", "request_duration_seconds_count"] {
        let of_workers = sum(&samples, &format!("wasmhost_{name}"), "");
        let of_apps = sum(&samples, &format!("wasmhost_app_{name}"), "app=\"faults\"");
        assert!(of_workers == of_apps && of_apps > 0.0, "{name}: {of_workers} and {of_apps}");
    }
    let app = &server.status()["apps"][0];
    assert_eq!(
        (&app["name"], &app["state"], &app["requests"]),
        (&"faults".into(), &"awake".into(), &4.into()),
        "{app}"
    );
    assert_eq!(sum(&samples, "wasmhost_app_state", "state=\"awake\""), 1.0);
}

#[test]
fn lines_of_the_log_that_are_lost_are_counted_and_told_of() {
    const REQUESTS: u64 = 16_000;
    let mut command = command();
    let flags = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", "1", "--log-format", "json"];
    command.arg(guest("hello.wasm")).args(flags).arg("--access-log");
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let mut lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines().map_while(Result::ok);
    let mut address = |before: &str| {
        let line = lines.find(|line| line.contains(before)).unwrap_or_else(|| panic!("never said: {before}"));
        let (_, rest) = line.split_once(before).expect("it is in it");
        rest[..rest.find('"').unwrap_or(rest.len())].parse().expect("an address")
    };
    let (admin, clients) = (address("admin page on http://"), address("listening on http://"));
    // From here on nobody reads the log.
    let mut connection = Connection::open(clients);
    for _ in 0..REQUESTS {
        assert_eq!(connection.get("/").status, 200);
    }
    let lost = || {
        let page = get(admin, "/metrics").text();
        sum(&samples(&page).expect("the format"), "wasmhost_log_lines_lost_total", "")
    };
    eventually("losses are counted", || lost() > 0.0);
    let mut read = 0;
    let mut told = 0;
    while read + told < REQUESTS {
        let line = lines.next().unwrap_or_else(|| panic!("the log ended: {read} lines, {told} lost"));
        let record: Value = serde_json::from_str(&line).expect("a record");
        read += u64::from(record["message"] == "request");
        if record["message"].as_str().is_some_and(|text| text.starts_with("lines of the log were lost")) {
            told += record["lines"].as_u64().expect("a number");
        }
    }
    let counted = lost();
    child.kill().expect("it can be ended");
    child.wait().expect("it can be waited for");
    assert_eq!((read + told, f64::from(u32::try_from(told).expect("few"))), (REQUESTS, counted));
}
