//! Traces of requests (`--otlp`): do they reach the collector, joined over apps and processes; whose word on sampling counts; and
//! what does a collector cost that is slow, refuses or is not there?

use std::net::TcpListener;

use crate::support::apps::{Folder, app, ask_until_loaded};
use crate::support::collector::{Collector, Got, Upstream, values};
use crate::support::tls::Authority;
use crate::support::{
    Connection, FAULTS, Response, Server, TestResult, command, eventually, free_address, get, message, run,
};

/// Of a client: its trace, and its span.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

const KINDS: [&str; 2] = ["thread", "process"];

fn parent(flags: &str) -> String {
    format!("00-{TRACE}-{SPAN}-{flags}")
}

/// As a value in a query.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Asks with more fields.
#[track_caller]
fn ask_with(server: &Server, host: &str, path: &str, fields: &str) -> Response {
    let mut connection = Connection::open(server.address);
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}Connection: close\r\n\r\n"));
    connection.response()
}

fn count(server: &Server, metric: &str) -> u64 {
    let metrics = server.admin("/metrics").text();
    let line = metrics.lines().find_map(|line| line.strip_prefix(metric)?.trim_start_matches("{}").strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {metric}: {metrics}")).parse::<f64>().expect("a number") as u64
}

/// The span of this kind that is within another.
#[track_caller]
fn within<'a>(spans: &'a [Got], parent: &str, what: &str, is: impl Fn(&Got) -> bool) -> &'a Got {
    let mut found = spans.iter().filter(|got| got.parent() == parent && is(got));
    let first = found.next().unwrap_or_else(|| panic!("no {what} within {parent}: {spans:#?}"));
    assert!(found.next().is_none(), "several {what} within {parent}: {spans:#?}");
    first
}

/// A trusted client has one trace recorded of all that comes of its request, over an app, another app and an upstream. `sets`:
/// more of the settings of the app that is called.
fn one_trace_of_all(kind: &str, caller: &str, callee: &str, sets: &str) -> TestResult {
    let what = format!("{kind}: {caller} calls {callee} {sets}");
    let (collector, upstream) = (Collector::start(), Upstream::start());
    let file = app("caller", caller, "caller.test/*", "services = [\"called\"]")
        + &app("called", callee, "called.test/*", &format!("allow-hosts = [\"127.0.0.1\"]\n{sets}"));
    let folder = Folder::new(&file)?;
    let url = collector.url();
    let flags = ["--otlp", &url, "--trace-sample", "0%", "--trust-proxy", "127.0.0.0/8", "--worker-kind", kind];
    let server = folder.serve(&flags);
    for host in ["caller.test", "called.test"] {
        assert_eq!(ask_until_loaded(server.address, host, "/hello").status, 200, "{what}");
    }
    let to_upstream = format!("http://{}/up?secret", upstream.address);
    let to_called = format!("http://called.wasmhost.internal/fetch?url={}", encoded(&to_upstream));
    let fields = format!("traceparent: {}\r\ntracestate: a=b\r\n", parent("01"));
    let response = ask_with(&server, "caller.test", &format!("/fetch?url={}", encoded(&to_called)), &fields);
    assert_eq!(response.status, 200, "{what}: {}", response.text());
    assert_eq!(response.header("x-upstream-status"), Some("200"), "{what}: {}", response.text());
    collector.server_span("called", "/fetch");
    collector.server_span("caller", "/fetch");
    let spans = collector.spans();
    assert!(spans.iter().all(|got| got.trace() == TRACE && got.span.trace_state == "a=b"), "{what}: {spans:#?}");
    let is_guest = |got: &Got| got.span.name == "guest";
    let server_of = |name: &'static str| move |got: &Got| got.is_server() && got.service == name;
    let first = within(&spans, SPAN, "request of the client", server_of("caller"));
    let first_guest = within(&spans, &first.id(), "guest", is_guest);
    let call = within(&spans, &first_guest.id(), "call of the service", Got::is_client);
    let second = within(&spans, &call.id(), "request of the app", server_of("called"));
    let second_guest = within(&spans, &second.id(), "guest", is_guest);
    let last = within(&spans, &second_guest.id(), "outgoing request", Got::is_client);
    let sent = format!("00-{TRACE}-{}-01", last.id());
    assert_eq!(
        (upstream.last("traceparent"), upstream.last("tracestate")),
        (vec![sent], vec!["a=b".to_owned()]),
        "{what}"
    );
    for (got, name, value) in [
        (first, "http.request.method", "GET"),
        (first, "http.response.status_code", "200"),
        (first, "url.scheme", "http"),
        (first, "server.address", "caller.test"),
        (first, "client.address", "127.0.0.1"),
        (first, "network.protocol.version", "1.1"),
        (first, "wasmhost.ending", "whole"),
        (call, "server.address", "called.wasmhost.internal"),
        (last, "server.address", "127.0.0.1"),
        (last, "server.port", &*upstream.address.port().to_string()),
        (last, "url.full", &*format!("http://{}/up", upstream.address)),
        (last, "http.response.status_code", "200"),
    ] {
        assert_eq!(got.attribute(name).as_deref(), Some(value), "{what}: {name}: {got:#?}");
    }
    for got in [first_guest, second_guest] {
        let head = got.span.events.first().map(|event| (&*event.name, event.time_unix_nano));
        let times = got.span.start_time_unix_nano..=got.span.end_time_unix_nano;
        assert!(head.is_some_and(|(name, at)| name == "response head" && times.contains(&at)), "{what}: {got:#?}");
    }
    for (inner, outer) in [(first_guest, first), (call, first_guest), (second, call), (last, second_guest)] {
        assert!(inner.span.start_time_unix_nano + 50_000_000 > outer.span.start_time_unix_nano, "{what}");
    }
    Ok(())
}

#[test]
fn all_that_comes_of_a_request_is_one_trace_over_apps_and_upstreams() -> TestResult {
    one_trace_of_all("thread", "faults.wasm", "faults-p3.wasm", "")?;
    one_trace_of_all("thread", "faults-p3.wasm", "faults.wasm", "")?;
    one_trace_of_all("process", "faults.wasm", "faults-p3.wasm", "")
}

#[test]
fn a_trace_goes_on_in_the_worker_of_a_group() -> TestResult {
    one_trace_of_all("process", "faults-p3.wasm", "faults.wasm", "group = \"g\"")
}

#[test]
fn a_clients_word_on_sampling_counts_only_where_it_is_trusted() -> TestResult {
    for (trusted, sample, flags, sampled) in
        [(false, "0%", "01", false), (true, "0%", "01", true), (false, "100%", "00", true), (true, "100%", "00", false)]
    {
        for kind in KINDS {
            let what = format!("trusted {trusted}, {sample}, flags {flags}, {kind}");
            let (collector, upstream) = (Collector::start(), Upstream::start());
            let url = collector.url();
            let mut words =
                vec!["--otlp", &url, "--trace-sample", sample, "--allow-host", "127.0.0.1", "--worker-kind", kind];
            if trusted {
                words.extend(["--trust-proxy", "127.0.0.0/8"]);
            }
            words.push("--access-log");
            let mut server = Server::start("faults.wasm", &words);
            let path = format!("/fetch?url={}", encoded(&format!("http://{}/", upstream.address)));
            let fields = format!("traceparent: {}\r\n", parent(flags));
            assert_eq!(ask_with(&server, "test", &path, &fields).status, 200, "{what}");
            let sent = upstream.last("traceparent");
            let expected = if sampled { "01" } else { "00" };
            assert!(sent.len() == 1 && sent[0].starts_with(&format!("00-{TRACE}-")), "{what}: {sent:?}");
            assert!(sent[0].ends_with(&format!("-{expected}")) && !sent[0].contains(SPAN), "{what}: {sent:?}");
            let line = server.wait_for_record("the request", |record| record["target"] == "access");
            assert_eq!(line["trace_id"].as_str(), sampled.then_some(TRACE), "{what}: {line}");
            server.signal("TERM");
            assert!(server.wait_for_exit().success(), "{what}");
            // What was there at the end was sent before the host ended.
            let spans = collector.spans();
            assert_eq!(spans.iter().any(|got| got.trace() == TRACE && got.is_server()), sampled, "{what}: {spans:#?}");
            assert_eq!(spans.is_empty(), !sampled, "{what}: {spans:#?}");
        }
    }
    Ok(())
}

#[test]
fn what_names_no_trace_begins_one_and_the_guest_sees_it() -> TestResult {
    for component in FAULTS {
        let collector = Collector::start();
        let server = Server::start(component, &["--otlp", &collector.url(), "--trace-sample", "100%"]);
        let valid = parent("01");
        for (number, fields) in [
            String::new(),
            "traceparent: 00-0-0-01\r\n".to_owned(),
            format!("traceparent: {}\r\n", valid.to_uppercase()),
            format!("traceparent: ff{}\r\n", &valid[2..]),
            format!("traceparent: {valid}\r\ntraceparent: {valid}\r\n"),
        ]
        .into_iter()
        .enumerate()
        {
            let what = format!("{component}: {fields:?}");
            let path = format!("/request?n={number}");
            let text = ask_with(&server, "test", &path, &format!("{fields}tracestate: a=b\r\n")).text();
            let told = values(&text, "traceparent");
            let [told] = &*told else { panic!("{what}: {text}") };
            let (trace, guest) = (&told[3..35], &told[36..52]);
            assert!(trace != TRACE && told.ends_with("-01"), "{what}: {told}");
            assert!(values(&text, "tracestate").is_empty(), "{what}: {text}");
            let spans = collector.wait(&what, |spans| spans.iter().any(|got| got.trace() == trace && got.is_server()));
            let of_guest = spans.iter().find(|got| got.id() == guest).expect("the guest's span");
            assert_eq!((of_guest.trace().as_str(), of_guest.span.name.as_str()), (trace, "guest"), "{what}");
            let of_request = spans.iter().find(|got| got.trace() == trace && got.is_server()).expect("a span");
            assert_eq!((of_request.parent(), of_guest.parent()), (String::new(), of_request.id()), "{what}");
            assert_eq!(of_request.attribute("url.path").as_deref(), Some("/request"), "{what}: no query");
        }
    }
    Ok(())
}

#[test]
fn without_a_collector_the_fields_pass_as_they_came() -> TestResult {
    for component in FAULTS {
        let upstream = Upstream::start();
        let server = Server::start(component, &["--allow-host", "127.0.0.1"]);
        let fields = format!("traceparent: {}\r\ntracestate: a=b\r\n", parent("01"));
        let text = ask_with(&server, "test", "/request", &fields).text();
        assert_eq!(
            (values(&text, "traceparent"), values(&text, "tracestate")),
            (vec![parent("01")], vec!["a=b".into()])
        );
        let path = format!("/fetch?url={}", encoded(&format!("http://{}/", upstream.address)));
        assert_eq!(ask_with(&server, "test", &path, &fields).status, 200);
        assert!(upstream.last("traceparent").is_empty(), "{component}: whether to pass it on is the guest's to say");
        assert_eq!(count(&server, "wasmhost_spans_exported_total"), 0);
    }
    Ok(())
}

#[test]
fn faults_and_waits_stand_in_the_spans_of_their_requests() -> TestResult {
    for kind in KINDS {
        for component in FAULTS {
            let what = format!("{kind} {component}");
            let collector = Collector::start();
            let url = collector.url();
            let flags = ["--otlp", &url, "--trace-sample", "100%", "--worker-kind", kind, "--workers", "1"];
            let server = Server::start(component, &[&flags[..], &["--instances-per-worker", "1"]].concat());
            let service = component.trim_end_matches(".wasm");
            assert_eq!(get(server.address, "/trap").status, 500, "{what}");
            let trap = collector.server_span(service, "/trap");
            assert_eq!(trap.attribute("error.type").as_deref(), Some("trap"), "{what}: {trap:#?}");
            let status = trap.span.status.as_ref().expect("a status");
            assert!(status.code == 2 && status.message.starts_with("trap: "), "{what}: {status:?}");
            assert_eq!(trap.attribute("http.response.status_code").as_deref(), Some("500"), "{what}");
            let mut cut = Connection::open(server.address);
            cut.send("GET /trap-after-head HTTP/1.1\r\nHost: test\r\n\r\n");
            assert!(cut.try_response(false).is_none_or(|response| !response.whole), "{what}");
            let cut = collector.server_span(service, "/trap-after-head");
            assert_eq!(cut.attribute("wasmhost.ending").as_deref(), Some("trap"), "{what}: {cut:#?}");
            assert!(cut.span.status.as_ref().is_some_and(|status| status.code == 2), "{what}: {cut:#?}");
            // The next request finds no instance, or one that was made ahead; while it runs, another waits for it.
            let mut slow = Connection::open(server.address);
            slow.send("GET /sleep?ms=700 HTTP/1.1\r\nHost: test\r\n\r\n");
            eventually("it runs", || server.sum("in_flight") > 0);
            assert_eq!(get(server.address, "/hello").status, 200, "{what}");
            assert_eq!(slow.response().status, 200, "{what}");
            let waited = collector.server_span(service, "/hello");
            let spans = collector.spans();
            let is_wait = |got: &&Got| got.parent() == waited.id() && got.span.name == "queue";
            let waits = spans.iter().filter(is_wait);
            let waited_ns: u64 = waits.map(|got| got.span.end_time_unix_nano - got.span.start_time_unix_nano).sum();
            assert!(waited_ns > 50_000_000, "{what}: {spans:#?}");
        }
    }
    Ok(())
}

#[test]
fn an_instance_that_is_made_for_a_request_has_a_span_in_it() -> TestResult {
    let collector = Collector::start();
    let url = collector.url();
    let server = Server::start("faults.wasm", &["--otlp", &url, "--trace-sample", "100%", "--workers", "1"]);
    // While the first runs, the second gets an instance of its own.
    let mut slow = Connection::open(server.address);
    slow.send("GET /sleep?ms=1500 HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("it runs", || server.sum("in_flight") > 0);
    assert_eq!(get(server.address, "/hello").status, 200);
    assert_eq!(slow.response().status, 200);
    let request = collector.server_span("faults", "/hello");
    within(&collector.spans(), &request.id(), "instance", |got| got.span.name == "instantiate");
    Ok(())
}

/// What a host does with requests while its collector does this.
fn unhindered(what: &str, url: &str, kind: &str, more: impl FnOnce(&Server)) {
    let server = Server::start("hello.wasm", &["--otlp", url, "--trace-sample", "100%", "--worker-kind", kind]);
    let began = std::time::Instant::now();
    // More spans than there is room for.
    for _ in 0..40 {
        let mut connection = Connection::open(server.address);
        for _ in 0..100 {
            assert_eq!(connection.get("/").status, 200, "{what}");
        }
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(15), "{what}: {:?}", began.elapsed());
    let dropped = |reason: &str| count(&server, &format!("wasmhost_spans_dropped_total{{reason=\"{reason}\"}}"));
    eventually(&format!("{what}: what has no room is counted"), || dropped("queue") > 0);
    eventually(&format!("{what}: attempts are counted"), || count(&server, "wasmhost_span_exports_failed_total") > 0);
    let is_told = |record: &serde_json::Value| message(record).contains("does not take spans");
    server.wait_for_record("the collector", is_told);
    assert_eq!(server.records(is_told).len(), 1, "{what}: it is told once");
    more(&server);
}

#[test]
fn a_collector_that_is_not_there_or_refuses_or_says_nothing_hinders_no_request() -> TestResult {
    let address = free_address();
    unhindered("not there", &format!("http://{address}"), "thread", |server| {
        let collector = Collector::at(TcpListener::bind(address).expect("the address is free"));
        assert_eq!(get(server.address, "/").status, 200);
        // (What it is sent first after a pause may be what came last.)
        server.wait_for_record("it works again", |record| message(record).contains("takes spans again"));
        assert!(!collector.spans().is_empty(), "what waited was sent");
        eventually("they are counted", || count(server, "wasmhost_spans_exported_total") > 0);
    });
    for (status, kind) in [(503, "process"), (0, "thread")] {
        let collector = Collector::start();
        collector.answers(status);
        unhindered(&format!("{kind}: {status}"), &collector.url(), kind, |_| {
            assert!(collector.spans().is_empty());
        });
    }
    Ok(())
}

#[test]
fn what_a_collector_refuses_is_dropped_and_counted() -> TestResult {
    let collector = Collector::start();
    collector.answers(400);
    let server = Server::start("hello.wasm", &["--otlp", &collector.url(), "--trace-sample", "100%"]);
    assert_eq!(get(server.address, "/").status, 200);
    eventually("it is counted", || count(&server, "wasmhost_spans_dropped_total{reason=\"refused\"}") > 0);
    let record = server.wait_for_record("the refusal", |record| message(record).contains("does not take spans"));
    assert!(record["why"].as_str().is_some_and(|why| why.contains("400")), "{record}");
    collector.answers(200);
    assert_eq!(get(server.address, "/").status, 200);
    collector.server_span("hello", "/");
    server.wait_for_record("it works again", |record| message(record).contains("takes spans again"));
    Ok(())
}

#[test(needs(Confinement))]
fn a_confined_host_reaches_its_collector() -> TestResult {
    for (kind, name) in [("thread", "127.0.0.1"), ("process", "127.0.0.1"), ("process", "localhost")] {
        let collector = Collector::start();
        let url = format!("http://{name}:{}", collector.address.port());
        let flags = ["--otlp", &url, "--trace-sample", "100%", "--worker-kind", kind, "--confine", "require"];
        let server = Server::start("hello.wasm", &flags);
        assert_eq!(get(server.address, "/").status, 200, "{kind} {name}");
        collector.server_span("hello", "/");
    }
    Ok(())
}

/// By TLS, its certificate is checked: with Mozilla's roots, or with those of a file.
#[test]
fn a_collector_over_tls_is_known_by_its_certificate() -> TestResult {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new();
    let root = folder.path().join("root.pem");
    std::fs::write(&root, authority.pem())?;
    let root = root.to_str().ok_or("a path in UTF-8")?;
    let [right, wrong] = ["localhost", "other.test"].map(|name| authority.server(folder.path(), name, &[name], 1));
    for kind in KINDS {
        let collector = Collector::encrypted(&right);
        let url = format!("https://localhost:{}", collector.address.port());
        let flags = ["--otlp", &url, "--otlp-ca-file", root, "--trace-sample", "100%", "--worker-kind", kind];
        let server = Server::start("hello.wasm", &flags);
        assert_eq!(get(server.address, "/").status, 200, "{kind}");
        collector.server_span("hello", "/");
        // Of no root that the host trusts, or of another name: it gets nothing.
        for (files, flags) in [(&right, &[][..]), (&wrong, &["--otlp-ca-file", root])] {
            let collector = Collector::encrypted(files);
            let url = format!("https://localhost:{}", collector.address.port());
            let own = ["--otlp", &url, "--trace-sample", "100%", "--worker-kind", kind];
            let server = Server::start("hello.wasm", &[&own, flags].concat());
            assert_eq!(get(server.address, "/").status, 200, "{kind}");
            let record = server.wait_for_record("why", |record| message(record).contains("does not take spans"));
            assert!(record["why"].as_str().is_some_and(|why| why.contains("certificate")), "{kind}: {record}");
            assert!(collector.spans().is_empty(), "{kind}");
        }
    }
    Ok(())
}

#[test]
fn headers_for_the_collector_are_secrets() -> TestResult {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("key");
    std::fs::write(&file, "hunter2\n")?;
    let header = format!("X-Api-Key=file:{}", file.display());
    let collector = Collector::start();
    let url = format!("{}/own/path", collector.url());
    let flags = ["--otlp", &url, "--trace-sample", "100%", "--otlp-header", &header, "--log-level", "debug"];
    let server = Server::start("hello.wasm", &flags);
    assert_eq!(get(server.address, "/").status, 200);
    collector.server_span("hello", "/");
    let head = collector.heads().pop().ok_or("a head")?;
    assert!(head.starts_with("POST /own/path HTTP/1.1"), "{head}");
    assert_eq!(values(&head, "x-api-key"), ["hunter2"]);
    assert_eq!(values(&head, "content-type"), ["application/x-protobuf"]);
    let mut shown = command();
    std::fs::write(folder.path().join("wasmhost.toml"), app("hello", "hello.wasm", "*", ""))?;
    shown.args(["config", "show"]).current_dir(folder.path()).args(&flags[..6]);
    let shown = run(shown);
    assert!(shown.stdout.contains("x-api-key") && shown.stdout.contains("file:"), "{shown:?}");
    for text in [server.lines().join("\n"), server.status().to_string(), shown.stdout, shown.stderr] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    Ok(())
}
