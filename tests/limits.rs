//! Is each limit kept, with the answer that it promises and a log record that names its flag?

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use crate::support::{CEILING, Connection, FAULTS, Server, TestResult, eventually, get, request};

/// Waits for the record of a limit that was met.
#[track_caller]
fn wait_for_limit(server: &Server, flag: &str) {
    server.wait_for_record(&format!("{flag} was met"), |record| record["limit"] == flag);
}

#[test]
fn memory_above_its_limit_is_refused_and_the_instance_retired_after_the_request() {
    for component in FAULTS {
        let server = Server::start(component, &["--workers", "1", "--memory-max", "16MiB"]);
        assert_eq!(get(server.address, "/memory?bytes=1000000").text(), "allocated 1000000", "{component}");
        assert_eq!(get(server.address, "/count").text(), "1", "{component}");
        assert_eq!(server.records(|record| record["limit"] == "--memory-max").len(), 0, "{component}");
        assert_eq!(get(server.address, "/memory?bytes=17000000").text(), "refused", "{component}");
        wait_for_limit(&server, "--memory-max");
        assert_eq!(get(server.address, "/count").text(), "1", "{component}: an instance that met the limit was kept");
        assert_eq!(server.sum("faults.memory"), 0, "{component}: a refusal that the guest bears is no fault");
        assert_eq!(get(server.address, "/alloc").status, 500, "{component}");
        assert_eq!(server.sum("faults.memory"), 1, "{component}");
        assert_eq!(get(server.address, "/hello").status, 200, "{component}");
    }
}

#[test]
fn memory_is_counted_in_sum_over_the_requests_of_an_instance() {
    for component in FAULTS {
        let server = Server::start(component, &["--workers", "1", "--memory-max", "16MiB"]);
        let mut connection = Connection::open(server.address);
        let mut leaked = 0;
        while connection.get("/leak?bytes=1000000").status == 200 {
            leaked += 1;
            assert!(leaked < 17, "{component}: {leaked} MB in 16 MiB");
        }
        assert!(leaked >= 8, "{component}: only {leaked} MB");
        wait_for_limit(&server, "--memory-max");
        assert_eq!(connection.get("/leak?bytes=1000000").status, 200, "{component}: the next instance");
    }
}

/// Before a slow leak meets the limit, and costs a request, its instance goes.
#[test]
fn an_instance_that_is_nearly_full_retires_before_it_meets_the_limit() {
    for component in FAULTS {
        let server = Server::start(component, &["--workers", "1", "--memory-max", "32MiB"]);
        let mut connection = Connection::open(server.address);
        // Twice as much in sum as the limit allows one instance.
        for request in 0..700 {
            assert_eq!(connection.get("/leak?bytes=100000").status, 200, "{component}: request {request}");
        }
        let retired = server.records(|record| record["message"] == "retire: a new instance takes its place");
        assert!(retired.len() >= 2, "{component}: {retired:?}");
        for record in retired {
            assert!(
                record["served"].as_u64() >= Some(100) && record["limit"] == "--memory-max",
                "{component}: {record}"
            );
        }
    }
}

#[test]
fn memory_of_all_instances_has_a_limit_of_its_own() {
    for component in FAULTS {
        let server = Server::start(component, &["--memory-total", "24MiB"]);
        assert_eq!(get(server.address, "/memory?bytes=40000000").text(), "refused", "{component}");
        wait_for_limit(&server, "--memory-total");
        let held = || server.status()["instance_memory_bytes"].as_u64().expect("a number");
        eventually("the memory is given back", || held() < 8 << 20);
        // One worker's instance keeps most of it: there is too little left for the other's.
        let [mut one, mut other] = [(); 2].map(|()| Connection::open(server.address));
        assert_eq!(one.get("/leak?bytes=18000000").text(), "leaked", "{component}");
        assert!(held() > 18_000_000, "{component}: {}", held());
        assert_eq!(other.get("/memory?bytes=10000000").text(), "refused", "{component}");
        assert_eq!(other.get("/hello").status, 200, "{component}");
        assert!(held() <= 24 << 20, "{component}: {}", held());
    }
}

#[test]
fn a_guest_that_finds_no_memory_to_grow_is_told_when_to_come_back_and_never_counts_as_broken() {
    for component in FAULTS {
        let flags = ["--workers", "1", "--memory-total", "24MiB", "--queue-timeout", "2s"];
        let server = Server::start(component, &flags);
        // More in a row than take down the slot of a component that has never answered.
        let mut connection = Connection::open(server.address);
        for turn in 0..20 {
            let refused = connection.get("/alloc");
            assert_eq!((refused.status, refused.header("retry-after")), (503, Some("2")), "{component}: {turn}");
        }
        wait_for_limit(&server, "--memory-total");
        assert_eq!((server.sum("faults.capacity"), server.sum("faults.memory")), (20, 0), "{component}");
        assert_eq!(connection.get("/hello").status, 200, "{component}");
    }
}

#[test]
fn a_request_that_finds_no_memory_for_an_instance_is_shed() {
    for component in FAULTS {
        let server =
            Server::start(component, &["--workers", "1", "--memory-total", "24MiB", "--queue-timeout", "100ms"]);
        assert_eq!(get(server.address, "/leak?bytes=20000000").text(), "leaked", "{component}");
        // The one instance is busy; others fit until the rest of the memory is spent.
        let mut busy: Vec<Connection> = (0..16).map(|_| Connection::open(server.address)).collect();
        for connection in &mut busy {
            connection.send("GET /sleep?ms=3000 HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        eventually(&format!("{component}: a shed for want of memory"), || server.sum("sheds.memory") >= 1);
        wait_for_limit(&server, "--memory-total");
        let statuses: Vec<u16> = busy.iter_mut().map(|connection| connection.response().status).collect();
        assert!(statuses.contains(&200) && statuses.contains(&503), "{component}: {statuses:?}");
        assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{component}: {statuses:?}");
        assert_eq!(get(server.address, "/hello").status, 200, "{component}");
    }
}

#[test]
fn cpu_time_and_wall_clock_have_limits_and_a_wait_costs_no_cpu() {
    for component in FAULTS {
        let server = Server::start(component, &["--cpu-limit", "200ms", "--request-timeout", "2s"]);
        assert_eq!(get(server.address, "/sleep?ms=600").text(), "slept", "{component}");
        assert_eq!(get(server.address, "/loop").status, 500, "{component}");
        wait_for_limit(&server, "--cpu-limit");
        assert_eq!(server.records(|record| record["limit"] == "--request-timeout").len(), 0, "{component}");
        let began = Instant::now();
        assert_eq!(get(server.address, "/sleep?ms=60000").status, 504, "{component}");
        assert!(began.elapsed() >= Duration::from_secs(2), "{component}: {:?}", began.elapsed());
        wait_for_limit(&server, "--request-timeout");
    }
}

#[test]
fn a_response_that_falls_silent_is_broken_off_and_one_that_moves_is_not() {
    for component in FAULTS {
        let server = Server::start(component, &["--body-idle-timeout", "500ms"]);
        let moving = get(server.address, "/stream?chunks=10&bytes=3&ms=100");
        assert!(moving.whole && moving.text().len() == 30, "{component}: {moving:?}");
        assert_eq!(server.sum("faults.body-idle"), 0, "{component}");
        let silent = get(server.address, "/never-finish");
        assert!(!silent.whole && silent.text() == "half of the ", "{component}: {silent:?}");
        wait_for_limit(&server, "--body-idle-timeout");
        assert_eq!(server.sum("faults.body-idle"), 1, "{component}");
    }
}

#[test]
fn a_response_that_is_broken_off_does_not_look_whole_to_an_older_client() {
    for component in FAULTS {
        let server = Server::start(component, &["--body-idle-timeout", "500ms"]);
        let mut connection = Connection::open(server.address);
        connection.send("GET /never-finish HTTP/1.0\r\n\r\n");
        let ended = connection.stream.read_to_end(&mut connection.buffer);
        let text = String::from_utf8_lossy(&connection.buffer);
        assert!(text.ends_with("half of the "), "{component}: {text}");
        assert!(ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset), "{component}: an orderly end");
    }
}

#[test]
fn a_client_that_does_not_send_its_body_is_told_so_and_its_instance_replaced() {
    for component in FAULTS {
        let server = Server::start(component, &["--workers", "1", "--body-idle-timeout", "400ms"]);
        // A body that is read before the request has an instance, and one that is not.
        for (framing, generation) in
            [("Content-Length: 10\r\n\r\nhalf ", 1), ("Transfer-Encoding: chunked\r\n\r\n5\r\nhalf \r\n", 2)]
        {
            let mut connection = Connection::open(server.address);
            connection.send(format!("POST /body-size HTTP/1.1\r\nHost: test\r\n{framing}"));
            let response = connection.response();
            assert_eq!((response.status, response.header("connection")), (408, Some("close")), "{component}");
            assert!(connection.raw_to_end().is_empty(), "{component}: bytes behind the last answer");
            wait_for_limit(&server, "--body-idle-timeout");
            assert_eq!(get(server.address, "/count").text(), "1", "{component}");
            eventually("the generation", || server.sum("generation") == generation);
        }

        let mut echo = Connection::open(server.address);
        echo.send("POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf \r\n");
        let raw = echo.raw_to_end();
        assert!(raw.starts_with(b"HTTP/1.1 200"), "{component}: {:?}", String::from_utf8_lossy(&raw));
        assert!(!raw.ends_with(b"0\r\n\r\n"), "{component}: an echo of half a body ended cleanly");
        assert_eq!(server.records(|record| record["fault"].is_string()).len(), 0, "{component}: no guest is at fault");
    }
}

#[test]
fn a_client_that_does_not_read_is_broken_off() {
    for component in FAULTS {
        let server = Server::start(component, &["--workers", "1", "--body-idle-timeout", "400ms"]);
        let mut connection = Connection::open(server.address);
        connection.send("GET /stream?chunks=1000000&bytes=65536 HTTP/1.1\r\nHost: test\r\n\r\n");
        wait_for_limit(&server, "--body-idle-timeout");
        eventually("the request is over", || server.sum("in_flight") == 0);
        assert_eq!(get(server.address, "/hello").status, 200, "{component}");
        let raw = connection.raw_to_end();
        assert!(raw.starts_with(b"HTTP/1.1 200") && !raw.ends_with(b"\r\n0\r\n\r\n"), "{component}");
    }
}

#[test]
fn a_response_that_takes_too_long_is_broken_off_though_it_moves() {
    for component in FAULTS {
        let server = Server::start(component, &["--response-timeout", "700ms"]);
        let quick = get(server.address, "/stream?chunks=3&bytes=3&ms=10");
        assert!(quick.whole && quick.text().len() == 9, "{component}: {quick:?}");
        let began = Instant::now();
        let slow = get(server.address, "/stream?chunks=100000&bytes=3&ms=50");
        assert!(!slow.whole && slow.body.len() >= 6, "{component}: {slow:?}");
        assert!(began.elapsed() >= Duration::from_millis(650), "{component}: {:?}", began.elapsed());
        wait_for_limit(&server, "--response-timeout");
        assert_eq!(server.sum("faults.response-timeout"), 1, "{component}");
    }
}

#[test]
fn a_response_that_takes_too_long_is_broken_off_however_fast_its_client_reads() {
    for component in FAULTS {
        let flags = [
            "--workers",
            "1",
            "--response-timeout",
            "1s",
            "--body-idle-timeout",
            "none",
            "--access-log",
            "--cpu-limit",
            "1h",
        ];
        let server = Server::start(component, &flags);
        // At fault is who was waited for. Of two that are as fast as they can that may be either.
        for (reads, path, at_fault) in [
            (false, "/stream?chunks=100000&bytes=10000", &["refusals.slow-client"][..]),
            (true, "/stream?chunks=100000&bytes=10000&ms=5", &["faults.response-timeout"]),
            (true, "/stream?chunks=10000000&bytes=10000", &["refusals.slow-client", "faults.response-timeout"]),
        ] {
            let counted = |names: &[&str]| names.iter().map(|name| server.sum(name)).sum::<u64>();
            let before = (counted(at_fault), counted(&["refusals.slow-client", "faults.response-timeout"]));
            let mut connection = Connection::open(server.address);
            let began = Instant::now();
            connection.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
            eventually("it is in flight", || server.sum("in_flight") == 1);
            let mut end = [0; 64 * 1024];
            let mut last = Vec::new();
            while reads && let Ok(read @ 1..) = connection.stream.read(&mut end) {
                last = end[..read].to_vec();
            }
            eventually("the request is over", || server.sum("in_flight") == 0);
            let took = began.elapsed();
            let what = format!("{component}, reads: {reads}, took {took:?}");
            assert!(took >= Duration::from_millis(950) && took < Duration::from_secs(5), "{what}");
            let after = (counted(at_fault), counted(&["refusals.slow-client", "faults.response-timeout"]));
            assert_eq!(after, (before.0 + 1, before.1 + 1), "{what}: {at_fault:?}");
            if !reads {
                last = connection.raw_to_end();
            }
            assert!(!last.ends_with(b"\r\n0\r\n\r\n"), "{what}: it looks whole");
        }
        wait_for_limit(&server, "--response-timeout");
        for ending in ["client-slow", "response-timeout"] {
            server.wait_for_record(ending, |record| record["ending"] == ending);
        }
        assert_eq!(get(server.address, "/count").text(), "1", "{component}: the guest's call was stopped");
    }
}

#[test]
fn a_client_that_reads_slowly_and_steadily_gets_its_response() {
    for component in FAULTS {
        let server = Server::start(component, &["--workers", "1", "--body-idle-timeout", "1s"]);
        let mut connection = Connection::open(server.address);
        connection.send("GET /stream?chunks=1000&bytes=10000 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        // That a client reads slowly has no event: its pauses are the test.
        let (began, mut got, mut piece) = (Instant::now(), 0, vec![0; 30_000]);
        while began.elapsed() < Duration::from_secs(6) {
            std::thread::sleep(Duration::from_millis(100));
            connection.stream.read_exact(&mut piece).expect("more");
            got += piece.len();
        }
        assert_eq!(server.records(|record| record["limit"] == "--body-idle-timeout").len(), 0, "{component}");
        let rest = connection.raw_to_end();
        assert!(rest.ends_with(b"\r\n0\r\n\r\n") && got + rest.len() > 10_000_000, "{component}");
    }
}

#[test]
fn a_slow_readers_time_is_not_the_silence_of_a_guest_that_pauses() {
    // A guest that writes little at once, and one that writes much and pauses in several waits. A clock that runs from the
    // last piece that the guest gave passes this test, too.
    for (path, bytes_a_ms) in
        [("/stream?chunks=1000&bytes=10000&ms=5", 200), ("/stream?chunks=10&bytes=1000000&ms=400&waits=8", 400)]
    {
        for component in FAULTS {
            let server = Server::start(component, &["--workers", "1", "--body-idle-timeout", "1s"]);
            // A small window, so that the client's pace reaches the host.
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.set_recv_buffer_size(8 * 1024).expect("an option");
            socket.connect(&server.address.into()).expect("the server accepts");
            socket.set_read_timeout(Some(CEILING)).expect("a time-out");
            let mut connection = Connection { stream: socket.into(), buffer: Vec::new() };
            connection.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"));
            // That a client reads slowly has no event: its pauses are the test.
            let (began, mut got) = (Instant::now(), 0);
            while began.elapsed() < Duration::from_secs(6) {
                std::thread::sleep(Duration::from_millis(20));
                // The same pace on a machine that lets it oversleep.
                let due = began.elapsed().as_millis() as usize * bytes_a_ms;
                let mut piece = vec![0; due.saturating_sub(got)];
                let what = format!("{component} {path}: cut off after {got} bytes and {:?}", began.elapsed());
                connection.stream.read_exact(&mut piece).expect(&what);
                got += piece.len();
            }
            assert_eq!(server.records(|record| record["fault"].is_string()).len(), 0, "{component} {path}");
            let rest = connection.raw_to_end();
            assert!(rest.ends_with(b"\r\n0\r\n\r\n") && got + rest.len() > 10_000_000, "{component} {path}");
        }
    }
}

#[test]
fn requests_of_an_instance_have_a_limit_spread_by_a_fifth() {
    for component in FAULTS {
        let server = Server::start(component, &["--workers", "1", "--max-requests", "20"]);
        let mut connection = Connection::open(server.address);
        let counts: Vec<u64> = (0..400).map(|_| connection.get("/count").text().parse().expect("a number")).collect();
        let mut served: Vec<u64> = counts.windows(2).filter(|pair| pair[1] == 1).map(|pair| pair[0]).collect();
        assert!(served.len() >= 16, "{component}: {served:?}");
        assert!(served.iter().all(|served| (16..=24).contains(served)), "{component}: {served:?}");
        served.sort_unstable();
        served.dedup();
        assert!(served.len() > 1, "{component}: all retire after {served:?}");
        server.wait_for_record("a retirement", |record| {
            record["message"].as_str().is_some_and(|text| text.starts_with("retire"))
        });
    }
}

#[test]
fn a_request_beyond_the_queue_is_refused_and_told_when_to_come_back() {
    for component in FAULTS {
        let flags = ["--workers", "1", "--instances-per-worker", "1", "--queue-max", "1", "--queue-timeout", "20s"];
        let server = Server::start(component, &flags);
        let mut busy = Connection::open(server.address);
        busy.send("GET /sleep?ms=1500 HTTP/1.1\r\nHost: test\r\n\r\n");
        eventually("the instance is taken", || server.sum("in_flight") == 1);
        let mut queued = Connection::open(server.address);
        queued.send("GET /hello HTTP/1.1\r\nHost: test\r\n\r\n");
        eventually("a request waits", || server.sum("queued") == 1);
        let refused = get(server.address, "/hello");
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("20")), "{component}");
        assert_eq!(server.sum("sheds.queue-full"), 1, "{component}");
        assert_eq!(busy.response().text(), "slept", "{component}");
        assert_eq!(queued.response().text(), "Hello, World!", "{component}: the one in the queue");
    }
}

#[test]
fn a_request_waits_in_the_queue_for_no_longer_than_it_may() {
    for component in FAULTS {
        let server =
            Server::start(component, &["--workers", "1", "--instances-per-worker", "1", "--queue-timeout", "300ms"]);
        let mut busy = Connection::open(server.address);
        busy.send("GET /sleep?ms=1500 HTTP/1.1\r\nHost: test\r\n\r\n");
        eventually("the instance is taken", || server.sum("in_flight") == 1);
        let began = Instant::now();
        let refused = get(server.address, "/hello");
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{component}");
        assert!(began.elapsed() >= Duration::from_millis(300), "{component}: {:?}", began.elapsed());
        assert_eq!(server.sum("sheds.queue-timeout"), 1, "{component}");
        assert_eq!(busy.response().text(), "slept", "{component}: the one that had the instance");
    }
}

#[test]
fn clients_cannot_fill_the_log() {
    const CLIENTS: usize = 60;
    let limits =
        ["--workers", "1", "--header-timeout", "500ms", "--body-idle-timeout", "500ms", "--header-max", "8KiB"];
    let server = Server::start("faults.wasm", &limits);
    let long = "x".repeat(9_000);
    let endless = "GET /stream?chunks=100&bytes=65536 HTTP/1.1\r\nHost: a\r\n\r\n";
    for (flag, counted, bytes) in [
        ("--header-max", "refusals.head-too-large", &*format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n")),
        ("--header-timeout", "refusals.head-timeout", "GET / HTTP/1.1\r\nHost: "),
        (
            "--body-idle-timeout",
            "refusals.body-timeout",
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx",
        ),
        ("--body-idle-timeout", "refusals.slow-client", endless),
    ] {
        let lines = |server: &Server| server.records(|record| record["limit"] == flag).len();
        let before = lines(&server);
        let clients: Vec<Connection> = (0..CLIENTS)
            .map(|_| {
                let mut client = Connection::open(server.address);
                SockRef::from(&client.stream).set_recv_buffer_size(4 * 1024).expect("an option");
                client.send(bytes);
                client
            })
            .collect();
        eventually(&format!("{flag}: all have met it"), || server.sum(counted) == CLIENTS as u64);
        drop(clients);
        assert_eq!(lines(&server), before + 1, "{flag}: one line for {CLIENTS} clients");
        assert!(server.records(|record| record["limit"] == flag).iter().all(|record| record["count"].is_u64()));
    }
}

#[test]
fn guests_that_wait_do_not_hold_their_worker() {
    const SLEEPERS: usize = 64;
    for component in FAULTS {
        let server = Server::start(component, &["--workers", "1"]);
        let mut sleeping: Vec<Connection> = (0..SLEEPERS).map(|_| Connection::open(server.address)).collect();
        let began = Instant::now();
        for connection in &mut sleeping {
            connection.send("GET /sleep?ms=6000 HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        eventually("each sleeps in its instance", || server.sum("instances") == SLEEPERS as u64);
        // No instance is one that another sleeper has given back.
        assert!(began.elapsed() < Duration::from_secs(6), "{component}: {:?}", began.elapsed());
        assert_eq!(get(server.address, "/hello").text(), "Hello, World!", "{component}: meanwhile");
        for connection in &mut sleeping {
            assert_eq!(connection.response().text(), "slept", "{component}");
        }
    }
}

#[test]
fn a_client_that_leaves_cancels_its_request_long_before_any_limit() {
    for component in FAULTS {
        let limits =
            ["--workers", "1", "--cpu-limit", "1h", "--request-timeout", "none", "--body-idle-timeout", "none"];
        let server = Server::start(component, &limits);
        for (done, path) in [
            "/sleep?ms=3600000",
            "/loop",
            "/never-answer",
            "/never-finish",
            "/stream?chunks=1000000000&bytes=1000&ms=1",
        ]
        .into_iter()
        .enumerate()
        {
            if (component, path) == ("faults.wasm", "/never-answer") {
                continue;
            }
            let generation = server.sum("generation");
            let left = server.sum("client_left");
            let mut connection = Connection::open(server.address);
            connection.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
            eventually(&format!("{path} is in flight"), || server.sum("in_flight") == 1);
            SockRef::from(&connection.stream).set_linger(Some(Duration::ZERO)).expect("an option");
            drop(connection);
            let what = format!("{component}{path}, number {done}");
            eventually(&format!("{what}: it is cancelled"), || {
                server.sum("in_flight") == 0 && server.sum("client_left") == left + 1
            });
            eventually(&format!("{what}: a new generation"), || server.sum("generation") > generation);
            assert_eq!(get(server.address, "/count").text(), "1", "{what}");
        }
        assert_eq!(server.records(|record| record["fault"].is_string()).len(), 0, "{component}: leaving is no fault");
    }
}

#[test]
fn a_half_closed_client_is_still_answered() {
    for component in FAULTS {
        let server = Server::start(component, &[]);
        let mut connection = Connection::open(server.address);
        connection.send("GET /sleep?ms=200 HTTP/1.1\r\nHost: test\r\n\r\n");
        connection.stream.shutdown(Shutdown::Write).expect("half closed");
        assert_eq!(connection.response().text(), "slept", "{component}");
        assert_eq!(server.sum("client_left"), 0, "{component}");
    }
}

#[test]
fn a_client_of_the_unix_socket_is_answered_when_half_closed_and_missed_when_gone() -> TestResult {
    let dir = tempfile::tempdir()?;
    let socket = dir.path().join("socket");
    let listen = format!("unix:{}", socket.display());
    for component in FAULTS {
        let flags = ["--workers", "1", "--listen", &listen, "--request-timeout", "none"];
        let server = Server::start(component, &flags);
        let asks = |path: &str| -> std::io::Result<UnixStream> {
            let mut client = UnixStream::connect(&socket)?;
            client.write_all(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes())?;
            Ok(client)
        };
        let mut client = asks("/sleep?ms=500")?;
        client.shutdown(Shutdown::Write)?;
        client.set_read_timeout(Some(CEILING))?;
        let mut answer = String::new();
        client.read_to_string(&mut answer)?;
        assert!(answer.ends_with("slept"), "{component}: {answer}");
        assert_eq!(server.sum("client_left"), 0, "{component}");
        for half_closes in [false, true] {
            let left = server.sum("client_left");
            let client = asks("/sleep?ms=3600000")?;
            eventually("it is in flight", || server.sum("in_flight") == 1);
            if half_closes {
                client.shutdown(Shutdown::Write)?;
                assert_eq!(server.sum("in_flight"), 1, "{component}");
            }
            drop(client);
            eventually(&format!("{component}: it is cancelled"), || {
                server.sum("in_flight") == 0 && server.sum("client_left") == left + 1
            });
        }
    }
    Ok(())
}

#[test]
fn an_upload_that_nobody_reads_meets_back_pressure() {
    let server = Server::start("faults.wasm", &["--workers", "1", "--body-idle-timeout", "none", "--body-max", "none"]);
    let mut connection = Connection::open(server.address);
    connection.stream.set_write_timeout(Some(Duration::from_millis(500))).expect("a time-out");
    connection.send("POST /wait-forever HTTP/1.1\r\nHost: test\r\nContent-Length: 10000000000\r\n\r\n");
    let piece = vec![b'x'; 1 << 20];
    let mut sent = 0;
    let error = loop {
        match connection.stream.write(&piece) {
            Ok(bytes) => sent += bytes,
            Err(error) => break error,
        }
        assert!(sent < 256 << 20, "the host takes a body that nobody reads");
    };
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    assert!(server.resident_kib() < 200 << 10, "{} KiB", server.resident_kib());
    assert_eq!(request(server.address, "POST", "/body-size", b"x").status, 200);
}

#[test]
fn a_shortage_of_memory_while_idle_is_tried_seldom_and_told_seldom() {
    let flags = ["--isolation", "request", "--memory-total", "3MiB", "--queue-timeout", "1ms", "--workers", "1"];
    let server = Server::start("hello.wasm", &flags);
    let failed = |server: &Server| server.sum("faults.capacity");
    eventually("it has run out", || failed(&server) > 0);
    let before = failed(&server);
    // The time is what is tested.
    std::thread::sleep(Duration::from_secs(2));
    let tries = failed(&server) - before;
    assert!(tries <= 10, "{tries} tries in two seconds");
    let told = server.records(|record| record["fault"] == "capacity").len();
    assert!(told <= 1, "{told} lines");
}
