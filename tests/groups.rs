//! Apps in groups: are the processes of a group its own, confined to what its apps were granted, and is a request that is
//! forwarded to them answered as it would be without a group?

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;

use crate::support::apps::{Folder, app, ask, ask_until_loaded, reload, status_of};
use crate::support::server::signal;
use crate::support::{Connection, Server, TestResult, eventually, message};

const PROCESS: &str = "worker-kind = \"process\"\n";
/// Apps in groups, and the versions of WASI that they are made for.
const GROUPED: [&str; 2] = ["one", "two"];

/// An app without a group, and two groups: each with an app of wasi 0.2 and one of wasi 0.3. The second lines are of the
/// first app of each.
fn apps(one: &str, two: &str) -> String {
    let of_group = |name: &str, component: &str, group: &str, more: &str| {
        let more = format!("group = \"{group}\"\nenv = {{ NAME = \"secret-{name}\" }}\n{more}");
        app(name, component, &format!("{name}.test/*"), &more)
    };
    PROCESS.to_owned()
        + &app("plain", "faults.wasm", "plain.test/*", "env = { NAME = \"secret-plain\" }")
        + &of_group("one", "faults.wasm", "left", one)
        + &of_group("one-b", "faults-p3.wasm", "left", "")
        + &of_group("two", "faults-p3.wasm", "right", two)
        + &of_group("two-b", "faults.wasm", "right", "")
}

const NAMES: [&str; 5] = ["plain", "one", "one-b", "two", "two-b"];

fn group_of(name: &str) -> Option<&'static str> {
    match name {
        "one" | "one-b" => Some("left"),
        "two" | "two-b" => Some("right"),
        _ => None,
    }
}

/// The processes of each group, and of none.
fn pids(server: &Server) -> BTreeMap<Option<String>, BTreeSet<u32>> {
    let mut pids: BTreeMap<_, BTreeSet<u32>> = BTreeMap::new();
    for worker in server.status()["workers"].as_array().expect("workers") {
        let pid = worker["thread"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a number");
        pids.entry(worker["group"].as_str().map(str::to_owned)).or_default().insert(pid);
    }
    pids
}

#[track_caller]
fn all_loaded(server: &Server) {
    for name in NAMES {
        let response = ask_until_loaded(server.address, &format!("{name}.test"), "/env");
        assert_eq!((response.status, response.text().contains(name)), (200, true), "{name}: {}", response.text());
    }
}

#[test]
fn each_app_is_served_by_the_processes_of_its_group_and_counted_once() -> TestResult {
    let folder = Folder::new(&apps("", ""))?;
    let server = folder.serve(&["--access-log"]);
    all_loaded(&server);
    let pids = pids(&server);
    assert_eq!(pids.len(), 3, "{pids:?}");
    let all: BTreeSet<u32> = pids.values().flatten().copied().collect();
    assert_eq!(all.len(), 6, "two for each, all different: {pids:?}");
    assert!(all.iter().all(|pid| server.worker_pids().contains(pid)), "{pids:?}");
    let metrics = server.admin("/metrics").text();
    for series in ["{worker=\"1\"} 1", "{worker=\"3\",group=\"left\"} 1", "{worker=\"5\",group=\"right\"} 1"] {
        assert!(metrics.contains(&format!("wasmhost_worker_up{series}")), "{series}: {metrics}");
    }
    // One connection goes from group to group.
    let before: Vec<u64> =
        NAMES.iter().map(|name| status_of(&server, name)["requests"].as_u64().unwrap_or(0)).collect();
    let mut connection = Connection::open(server.address);
    for round in 0..20 {
        for name in NAMES {
            connection.send(format!("GET /env HTTP/1.1\r\nHost: {name}.test\r\n\r\n"));
            let response = connection.response();
            assert_eq!(response.status, 200, "{name} {round}");
            assert_eq!(response.text().trim(), format!("NAME=secret-{name}"), "{round}");
        }
    }
    connection.send("GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\n");
    assert_eq!(connection.response().status, 404);
    for (name, before) in NAMES.iter().zip(before) {
        eventually("each was counted", || status_of(&server, name)["requests"] == before + 20);
        assert_eq!(status_of(&server, name)["group"].as_str(), group_of(name), "{name}");
        let lines = || server.records(|record| record["target"] == "access" && record["app"] == **name);
        eventually("each was logged", || lines().len() >= 20);
        let workers = server.status()["workers"].clone();
        for line in lines() {
            let number = line["worker"].as_u64().and_then(|number| usize::try_from(number).ok()).unwrap_or(0);
            assert_eq!(workers[number - 1]["group"].as_str(), group_of(name), "{line}");
            assert!(line["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{line}");
        }
    }
    Ok(())
}

#[test(needs(FaultInjection, Confinement))]
fn what_a_group_was_granted_is_closed_to_all_others() -> TestResult {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let one = format!("dirs = [\"left::/data\"]\nallow-hosts = [\"127.0.0.1:{}\"]", address.port());
    let folder = Folder::new(&apps(&one, "dirs = [\"right::/data:rw\"]"))?;
    for name in ["left", "right"] {
        std::fs::create_dir(folder.path().join(name))?;
        std::fs::write(folder.path().join(name).join("file"), name)?;
    }
    let server = folder.serve(&["--confine", "require"]);
    all_loaded(&server);
    assert_eq!(ask(server.address, "one.test", "/read?path=/data/file").text(), "left");
    assert_eq!(ask(server.address, "two.test", "/read?path=/data/file").text(), "right");
    let deed = |name: &str, what: &str| {
        let mut connection = Connection::open(server.address);
        connection.send(format!("GET /hello HTTP/1.1\r\nHost: {name}.test\r\nX-Wasmhost-Misdeed: {what}\r\n\r\n"));
        connection.response().text()
    };
    for (what, group) in [
        (format!("open {}", folder.path().join("left/file").display()), Some("left")),
        (format!("open {}", folder.path().join("right/file").display()), Some("right")),
        (format!("create {}", folder.path().join("right/new").display()), Some("right")),
        (format!("connect {address}"), Some("left")),
    ] {
        for name in NAMES {
            let outcome = deed(name, &what);
            let refused = ["1", "13", "38"].contains(&outcome.as_str());
            let is_own = group_of(name) == group;
            assert_eq!((outcome == "done", refused), (is_own, !is_own), "{name}: {what} came to {outcome}");
        }
    }
    Ok(())
}

#[test]
fn no_process_has_in_memory_that_it_was_given_what_apps_of_others_know() -> TestResult {
    let folder = Folder::new(&apps("", ""))?;
    // (A process that is confined cannot be looked into.)
    let server = folder.serve(&["--confine", "off"]);
    all_loaded(&server);
    for (group, pids) in pids(&server) {
        for pid in pids {
            let mut given = std::fs::read(format!("/proc/{pid}/environ"))?;
            for fd in std::fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
                let is_memory = std::fs::read_link(fd.path()).is_ok_and(|name| name.starts_with("/memfd:"));
                // (What workers show has a row for each app that there may be, and nothing of their settings.)
                if is_memory && std::fs::metadata(fd.path()).is_ok_and(|file| file.len() < 1 << 20) {
                    given.extend(std::fs::read(fd.path())?);
                }
            }
            // All that it has mapped, what it was sent and has read included.
            given.extend(memory_of(pid)?);
            let found = secrets_in(&given);
            for name in NAMES {
                // In quotes it stands in settings; a response that was passed on has it without.
                if group_of(name) == group.as_deref() {
                    assert!(found.iter().any(|text| text.starts_with(name)), "{name} in a process of {group:?}");
                } else {
                    let quoted = format!("{name}\"");
                    assert!(!found.iter().any(|text| text.starts_with(&quoted)), "{name} in a process of {group:?}");
                }
            }
        }
    }
    Ok(())
}

/// What follows each `secret-`.
fn secrets_in(bytes: &[u8]) -> BTreeSet<String> {
    const MARK: &[u8] = b"secret-";
    let begins = bytes.iter().enumerate().filter(|(_, byte)| **byte == MARK[0]).map(|(at, _)| &bytes[at..]);
    let marked = begins.filter_map(|rest| rest.strip_prefix(MARK));
    marked.map(|rest| String::from_utf8_lossy(&rest[..rest.len().min(10)]).into_owned()).collect()
}

/// The private writable memory of a process and its shared files, as far as it can be read.
pub fn memory_of(pid: u32) -> std::io::Result<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    let memory = std::fs::File::open(format!("/proc/{pid}/mem"))?;
    let mut all = Vec::new();
    let mut mapping = None;
    for line in std::fs::read_to_string(format!("/proc/{pid}/smaps"))?.lines() {
        let mut words = line.split_whitespace();
        let (Some(first), Some(second)) = (words.next(), words.next()) else { continue };
        let bounds =
            first.split_once('-').map(|(from, to)| (u64::from_str_radix(from, 16), u64::from_str_radix(to, 16)));
        if let Some((Ok(from), Ok(to))) = bounds {
            // (Pools of instances reserve far more.)
            mapping = (second.starts_with("rw") && to - from <= 16 << 20).then_some((from, to));
        }
        // In what has no pages nothing is. Pools have thousands of such mappings.
        let Some((from, to)) = mapping.take_if(|_| first == "Rss:").filter(|_| second != "0") else { continue };
        let mut bytes = vec![0; usize::try_from(to - from).unwrap_or(0)];
        if memory.read_exact_at(&mut bytes, from).is_ok() {
            all.extend(bytes);
        }
    }
    Ok(all)
}

#[test]
fn the_death_of_a_groups_process_costs_its_own_requests_only() -> TestResult {
    let folder = Folder::new(&apps("", ""))?;
    let server = folder.serve(&[]);
    all_loaded(&server);
    for name in GROUPED {
        let mut waiting = Connection::open(server.address);
        waiting.send(format!("GET /wait-forever HTTP/1.1\r\nHost: {name}.test\r\n\r\n"));
        let mut streaming = Connection::open(server.address);
        streaming.send(format!("GET /stream?chunks=100000&bytes=100&ms=20 HTTP/1.1\r\nHost: {name}.test\r\n\r\n"));
        streaming.fill_until(|bytes| (bytes.len() > 400).then_some(())).expect("the stream begins");
        let mut others: Vec<(&str, Connection)> = NAMES
            .into_iter()
            .filter(|other| group_of(other) != group_of(name))
            .map(|other| {
                let mut connection = Connection::open(server.address);
                connection.send(format!("GET /sleep?ms=1500 HTTP/1.1\r\nHost: {other}.test\r\n\r\n"));
                (other, connection)
            })
            .collect();
        eventually("it is being served", || status_of(&server, name)["in_flight"].as_u64() >= Some(2));
        let before = status_of(&server, name)["faults"]["never-answered"].as_u64().unwrap_or(0);
        for pid in &pids(&server)[&group_of(name).map(str::to_owned)] {
            signal(*pid, "KILL");
        }
        let answer = waiting.response();
        assert_eq!((answer.status, answer.text().trim()), (500, "500 the application failed"), "{name}");
        let broken = streaming.response();
        assert_eq!((broken.status, broken.whole), (200, false), "{name}: half of it is not all");
        // Its connection goes on.
        waiting.send("GET /hello HTTP/1.1\r\nHost: plain.test\r\n\r\n");
        assert_eq!(waiting.response().status, 200, "{name}");
        eventually("others have come", || {
            let response = ask(server.address, &format!("{name}.test"), "/hello");
            let is_told = response.status != 503 || response.header("retry-after").is_some();
            assert!(is_told && [200, 500, 503].contains(&response.status), "{name}: {response:?}");
            response.status == 200
        });
        for (other, connection) in &mut others {
            assert_eq!(connection.response().status, 200, "{other} beside {name}");
        }
        eventually("it is counted where it failed", || {
            status_of(&server, name)["faults"]["never-answered"].as_u64() > Some(before)
        });
        let record = server.wait_for_record("the group is named", |record| {
            message(record) == "exit" && record["group"].as_str() == group_of(name)
        });
        assert_eq!(record["level"], "ERROR", "{record}");
    }
    Ok(())
}

#[test]
fn bodies_of_any_size_pass_both_ways_as_they_are() -> TestResult {
    let folder = Folder::new(&apps("limits = { body = \"64MiB\" }", "limits = { body = \"64MiB\" }"))?;
    let server = folder.serve(&[]);
    all_loaded(&server);
    let body: Vec<u8> = (0..8_u32 << 20).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for name in GROUPED {
        for is_chunked in [false, true] {
            let mut connection = Connection::open(server.address);
            let mut writer = connection.stream.try_clone()?;
            let (sent, host) = (body.clone(), format!("{name}.test"));
            let sender =
                std::thread::Builder::new().name("sender".to_owned()).spawn(move || -> std::io::Result<()> {
                    use std::io::Write;
                    let framing = match is_chunked {
                        true => "Transfer-Encoding: chunked".to_owned(),
                        false => format!("Content-Length: {}", sent.len()),
                    };
                    write!(writer, "POST /echo HTTP/1.1\r\nHost: {host}\r\n{framing}\r\n\r\n")?;
                    for part in sent.chunks(50_000) {
                        match is_chunked {
                            true => {
                                write!(writer, "{:x}\r\n", part.len())?;
                                writer.write_all(part)?;
                                writer.write_all(b"\r\n")?;
                            }
                            false => writer.write_all(part)?,
                        }
                    }
                    if is_chunked { writer.write_all(b"0\r\n\r\n") } else { Ok(()) }
                })?;
            let response = connection.response();
            sender.join().expect("a thread")?;
            assert!(response.whole && response.body == body, "{name} {is_chunked}: {} bytes", response.body.len());
            // The connection is good for more.
            connection.send(format!("GET /hello HTTP/1.1\r\nHost: {name}.test\r\n\r\n"));
            assert_eq!(connection.response().text(), "Hello, World!", "{name} {is_chunked}");
        }
    }
    Ok(())
}

#[test]
fn a_client_that_leaves_ends_the_work_for_it() -> TestResult {
    let folder = Folder::new(&apps("", ""))?;
    let server = folder.serve(&[]);
    all_loaded(&server);
    for name in GROUPED {
        for path in ["/wait-forever", "/stream?chunks=1000000&bytes=100&ms=5", "/echo"] {
            let before = status_of(&server, name)["client_left"].as_u64().unwrap_or(0);
            let mut connection = Connection::open(server.address);
            let head = match path {
                "/echo" => format!(
                    "POST {path} HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: {name}.test\r\n\r\n4\r\nhalf\r\n"
                ),
                _ => format!("GET {path} HTTP/1.1\r\nHost: {name}.test\r\n\r\n"),
            };
            connection.send(head);
            eventually("it is being served", || status_of(&server, name)["in_flight"] == 1);
            // An end of sending alone may be that of a client that still reads.
            socket2::SockRef::from(&connection.stream).set_linger(Some(std::time::Duration::ZERO))?;
            drop(connection);
            eventually("its client has left", || {
                let status = status_of(&server, name);
                status["in_flight"] == 0 && status["client_left"] == before + 1
            });
        }
    }
    Ok(())
}

#[test]
fn what_workers_tell_each_other_is_hidden_from_guests_and_cannot_be_said_by_clients() -> TestResult {
    let folder = Folder::new(&apps("", ""))?;
    let server = folder.serve(&["--access-log"]);
    all_loaded(&server);
    for name in NAMES {
        let mut connection = Connection::open(server.address);
        let own = connection.stream.local_addr()?.to_string();
        for _ in 0..2 {
            connection.send(format!(
                "GET /request HTTP/1.1\r\nHost: {name}.test\r\nX-Wasmhost-Client: 0 0 true true 9.9.9.9:9\r\nX-Wasmhost-Client: two\r\nX-Forwarded-For: 9.9.9.9\r\nX-Own: kept\r\n\r\n"
            ));
            let text = connection.response().text().to_lowercase();
            assert!(text.contains("x-own: kept"), "{name}: {text}");
            assert!(text.contains(&format!("host: {name}.test")), "{name}: {text}");
            assert!(!text.contains("x-wasmhost") && !text.contains("9.9.9.9"), "{name}: {text}");
        }
        server.wait_for_record("its true client", |record| record["app"] == name && record["peer"] == *own);
    }
    Ok(())
}

#[test]
fn http_works_as_without_a_group() -> TestResult {
    let folder = Folder::new(&apps("limits = { body = \"1MiB\" }", "limits = { body = \"1MiB\" }"))?;
    let server = folder.serve(&[]);
    all_loaded(&server);
    for name in GROUPED {
        let host = format!("Host: {name}.test\r\n");
        let mut kept = Connection::open(server.address);
        kept.send(format!("HEAD /hello HTTP/1.1\r\n{host}\r\n"));
        let head = kept.try_response(true).expect("a head");
        assert_eq!((head.status, head.header("content-length")), (200, Some("13")), "{name}");
        kept.send(format!("GET /headers?count=1000&bytes=50 HTTP/1.1\r\n{host}\r\n"));
        let large = kept.response();
        assert!(large.status == 200 && large.headers.len() >= 1000, "{name}: {} {}", large.status, large.headers.len());
        kept.send(format!("GET /no-content HTTP/1.1\r\n{host}\r\n"));
        assert_eq!(kept.response().status, 204, "{name}");
        kept.send(format!("GET /trailers HTTP/1.1\r\n{host}TE: trailers\r\n\r\n"));
        let trailers = kept.response();
        assert!(trailers.whole && !trailers.trailers.is_empty(), "{name}: {trailers:?}");
        // The body is sent only when it is asked for.
        kept.send(format!("POST /body-size HTTP/1.1\r\n{host}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"));
        assert_eq!(kept.response().status, 100, "{name}");
        kept.send("hello");
        assert!(kept.response().text().contains('5'), "{name}");
        // Trailers that nobody announced.
        kept.send(format!("POST /body-size HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 1\r\nHost: b\r\n\r\n"));
        assert_eq!(kept.response().text(), "bytes: 1\ntrailer x-sum: 1\n", "{name}");
        // A fault is the app's, and the connection goes on.
        kept.send(format!("GET /trap HTTP/1.1\r\n{host}\r\n"));
        assert_eq!(kept.response().status, 500, "{name}");
        eventually("it is counted", || status_of(&server, name)["faults"]["trap"] == 1);
        kept.send(format!("GET /hello HTTP/1.1\r\n{host}Connection: close\r\n\r\n"));
        assert_eq!(kept.response().header("connection"), Some("close"), "{name}");
        assert!(kept.raw_to_end().is_empty(), "{name}");

        let answer = |text: &str| {
            let mut connection = Connection::open(server.address);
            connection.send(text);
            connection.try_response(false).map_or(0, |response| response.status)
        };
        assert_eq!(
            answer(&format!("POST /echo HTTP/1.1\r\n{host}Expect: 100-continue\r\nContent-Length: 9999999\r\n\r\n")),
            413
        );
        assert_eq!(answer(&format!("POST /body-size HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\nz\r\n")), 400);
        assert_eq!(answer(&format!("GET /hello HTTP/1.1\r\n{host}{host}\r\n")), 400);
        assert_eq!(answer(&format!("CONNECT {name}.test:80 HTTP/1.1\r\n{host}\r\n")), 501);
        assert_eq!(answer(&format!("GET http://{name}.test/hello HTTP/1.1\r\nHost: plain.test\r\n\r\n")), 200);
        // A half of a body that its guest broke off has no clean end.
        let mut broken = Connection::open(server.address);
        broken.send(format!("GET /error-after-head HTTP/1.1\r\n{host}\r\n"));
        let half = broken.response();
        assert_eq!((half.status, half.whole), (200, false), "{name}");
        // HTTP/1.0.
        let mut old = Connection::open(server.address);
        old.send(format!("GET /hello HTTP/1.0\r\n{host}\r\n"));
        assert!(String::from_utf8_lossy(&old.raw_to_end()).ends_with("Hello, World!"), "{name}");
    }
    Ok(())
}

#[test]
fn a_drain_finishes_requests_that_were_forwarded() -> TestResult {
    let folder = Folder::new(&apps("", ""))?;
    let mut server = folder.serve(&["--drain-timeout", "20s"]);
    all_loaded(&server);
    let mut waiting: Vec<Connection> = GROUPED
        .into_iter()
        .map(|name| {
            let mut connection = Connection::open(server.address);
            connection.send(format!("GET /sleep?ms=1500 HTTP/1.1\r\nHost: {name}.test\r\n\r\n"));
            connection
        })
        .collect();
    for name in GROUPED {
        eventually("it is being served", || status_of(&server, name)["in_flight"] == 1);
    }
    server.signal("TERM");
    for connection in &mut waiting {
        assert_eq!(connection.response().status, 200);
    }
    assert_eq!(server.wait_for_exit().code(), Some(0));
    Ok(())
}

#[test]
fn a_reload_adds_apps_to_a_group_and_says_what_needs_a_restart() -> TestResult {
    let folder = Folder::new(&apps("", ""))?;
    let server = folder.serve(&[]);
    all_loaded(&server);
    let of_group = |name: &str, group: &str| {
        app(
            name,
            "faults.wasm",
            &format!("{name}.test/*"),
            &format!("group = \"{group}\"\nenv = {{ NAME = \"{name}\" }}"),
        )
    };
    let changed = apps("", "").replace("secret-two\"", "changed\"");
    folder.write(&(changed.clone() + &of_group("new", "right") + &of_group("stranger", "unknown")))?;
    reload(&server);
    assert!(ask_until_loaded(server.address, "new.test", "/env").text().contains("NAME=new"));
    eventually("the other has its new variable", || ask(server.address, "two.test", "/env").text().contains("changed"));
    let barred = server.wait_for_record("which group there is not", |record| {
        record["app"] == "stranger" && record["level"] == "ERROR"
    });
    assert!(message(&barred).contains("the group `unknown`") && message(&barred).contains("restart"), "{barred}");
    let response = ask(server.address, "stranger.test", "/");
    assert_eq!((response.status, response.header("retry-after").is_some()), (503, true));

    // Another group: the app stays where it is.
    folder.write(&(changed.clone() + &of_group("new", "left")))?;
    reload(&server);
    let barred = server.wait_for_record("that it stays", |record| record["app"] == "new" && record["level"] == "ERROR");
    assert!(message(&barred).contains("the group `left`") && message(&barred).contains("restart"), "{barred}");
    assert!(ask(server.address, "new.test", "/env").text().contains("NAME=new"));
    assert_eq!(status_of(&server, "new")["group"], "right");

    folder.write(&changed)?;
    reload(&server);
    eventually("it is gone", || ask(server.address, "new.test", "/env").status == 404);
    assert!(ask(server.address, "two.test", "/env").text().contains("changed"));
    Ok(())
}

#[test]
fn an_app_of_a_group_falls_asleep_and_wakes_for_its_next_request() -> TestResult {
    let alone =
        |name: &str, group: &str| app(name, "faults.wasm", &format!("{name}.test/*"), &format!("group = \"{group}\""));
    let file = format!("app-idle-timeout = \"300ms\"\n{PROCESS}") + &alone("one", "left") + &alone("two", "right");
    let folder = Folder::new(&file)?;
    let server = folder.serve(&["--workers", "1"]);
    for round in 0..2 {
        for name in GROUPED {
            let response = ask_until_loaded(server.address, &format!("{name}.test"), "/count");
            assert_eq!((response.status, response.text().trim()), (200, "1"), "{name}, round {round}");
        }
        eventually("both are asleep", || GROUPED.iter().all(|app| status_of(&server, app)["state"] == "asleep"));
    }
    Ok(())
}

#[test]
fn trailers_of_a_request_have_the_same_bounds_as_without_a_group() -> TestResult {
    let folder = Folder::new(&apps("", ""))?;
    let server = folder.serve(&[]);
    all_loaded(&server);
    let post = |name: &str, trailers: &str| {
        let mut connection = Connection::open(server.address);
        let head = format!("POST /body-size HTTP/1.1\r\nHost: {name}.test\r\nTransfer-Encoding: chunked\r\n\r\n");
        connection.send(format!("{head}1\r\nx\r\n0\r\n{trailers}\r\n"));
        connection.response()
    };
    let trailers = |count: usize, bytes: usize| -> String {
        (0..count).map(|nth| format!("x-{nth:03}: {}\r\n", "v".repeat(bytes - "x-000: \r\n".len()))).collect()
    };
    for name in NAMES {
        // 16 KiB at most, and a hundred fields.
        let fits = post(name, &trailers(100, 160));
        assert_eq!((fits.status, fits.text().matches("trailer x-").count()), (200, 100), "{name}: {}", fits.text());
        let fits = post(name, &trailers(1, 16_000));
        assert_eq!((fits.status, fits.text().matches("trailer x-").count()), (200, 1), "{name}");
        for (count, bytes) in [(1, 17_000), (101, 20)] {
            assert_eq!(post(name, &trailers(count, bytes)).status, 400, "{name}: {count} of {bytes} bytes");
        }
        server.wait_for_record("it is said", |record| {
            message(record).starts_with("requests were refused because their body is not valid")
                && record["app"] == *name
        });
    }
    let reason =
        |record: &serde_json::Value| record["reason"].as_str().is_some_and(|reason| reason.contains("trailers"));
    server.wait_for_record("why", |record| record["app"] == "plain" && reason(record));
    Ok(())
}

#[test]
fn a_group_that_hangs_holds_its_clients_no_longer_than_its_limits_say() -> TestResult {
    let limits = "limits = { request-timeout = \"1s\", body-idle-timeout = \"1s\" }";
    let folder = Folder::new(&apps(limits, limits))?;
    let server = folder.serve(&["--worker-hang-timeout", "none", "--queue-timeout", "100ms"]);
    all_loaded(&server);
    for name in GROUPED {
        let ask_for = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {name}.test\r\n\r\n");
        let mut streaming = Connection::open(server.address);
        streaming.send(ask_for("/stream?chunks=100000&bytes=100&ms=20"));
        streaming.fill_until(|bytes| (bytes.len() > 400).then_some(())).expect("the stream begins");
        // It leaves a connection to the group, on which the next request goes.
        let mut waiting = Connection::open(server.address);
        waiting.send(ask_for("/hello"));
        assert_eq!(waiting.response().status, 200, "{name}");
        let hung = &pids(&server)[&group_of(name).map(str::to_owned)];
        for pid in hung {
            signal(*pid, "STOP");
        }
        waiting.send(ask_for("/hello"));
        let answer = waiting.response();
        assert_eq!(answer.status, 504, "{name}: {}", answer.text());
        let broken = streaming.response();
        assert_eq!((broken.status, broken.whole), (200, false), "{name}");
        for fault in ["wall", "body-idle"] {
            eventually("it is counted", || status_of(&server, name)["faults"][fault].as_u64() >= Some(1));
        }
        server.wait_for_record("the group is named", |record| {
            message(record).starts_with("a worker of the group did not end a request")
                && (record["group"].as_str(), record["app"].as_str()) == (group_of(name), Some(name))
        });
        // Its connection goes on.
        waiting.send("GET /hello HTTP/1.1\r\nHost: plain.test\r\n\r\n");
        assert_eq!(waiting.response().status, 200, "{name}");
        for pid in hung {
            signal(*pid, "CONT");
        }
    }
    Ok(())
}
