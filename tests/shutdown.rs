//! How the host stops, and the sockets it takes over and leaves behind.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::server::within;
use crate::support::{CEILING, Connection, FAULTS, Server, TestResult, command, eventually, get, guest, message, run};

/// Sends this request on a new connection, and waits until a worker serves it.
#[track_caller]
fn in_flight(server: &Server, path: &str) -> Connection {
    let before = server.sum("in_flight");
    let mut connection = Connection::open(server.address);
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
    eventually("the request is served", || server.sum("in_flight") > before);
    connection
}

/// Sends a signal to stop, and waits until the host has heard it.
#[track_caller]
fn stop(server: &Server, signal: &str) {
    server.signal(signal);
    let record = server.wait_for_record("stopping", |record| message(record).starts_with("stopping"));
    assert_eq!(record["signal"], format!("SIG{signal}"));
}

#[test]
fn requests_in_flight_finish_idle_connections_close_and_new_ones_are_refused() {
    for (component, signal) in FAULTS.into_iter().zip(["TERM", "INT"]) {
        let mut server = Server::start(component, &[]);
        let mut idle = Connection::open(server.address);
        assert_eq!(idle.get("/hello").status, 200);
        let mut never_used = Connection::open(server.address);
        let mut sleeping = in_flight(&server, "/sleep?ms=2000");
        let mut streaming = in_flight(&server, "/stream?chunks=20&bytes=10&ms=100");
        stop(&server, signal);
        let began = Instant::now();
        assert_eq!((idle.raw_to_end(), never_used.raw_to_end()), (Vec::new(), Vec::new()), "{component}");
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "{component}: idle connections stayed for {:?}",
            began.elapsed()
        );
        eventually("new connections are refused", || TcpStream::connect(server.address).is_err());
        assert_eq!(server.sum("in_flight"), 2, "{component}: requests were still in flight then");
        let streamed = streaming.response();
        assert!(streamed.whole && streamed.body.len() == 200, "{component}: {} bytes", streamed.body.len());
        let slept = sleeping.response();
        assert_eq!((slept.status, slept.text()), (200, "slept".to_owned()), "{component}");
        assert_eq!(sleeping.raw_to_end(), b"", "{component}: nothing comes behind the last answer");
        assert_eq!(server.wait_for_exit().code(), Some(0), "{component}");
    }
}

#[test]
fn a_head_that_has_begun_on_a_kept_connection_is_answered_when_the_host_stops() {
    for component in FAULTS {
        let mut server = Server::start(component, &[]);
        let [mut completed, mut abandoned] = std::array::from_fn(|_| Connection::open(server.address));
        for connection in [&mut completed, &mut abandoned] {
            assert_eq!(connection.get("/hello").status, 200);
            connection.send("GET /hello HTTP/1.1\r\nHost: te");
        }
        // That a worker has read it has no event.
        std::thread::sleep(Duration::from_millis(200));
        stop(&server, "TERM");
        let began = Instant::now();
        std::thread::sleep(Duration::from_millis(200));
        completed.send("st\r\n\r\n");
        let response = completed.response();
        assert_eq!((response.status, response.header("connection")), (200, Some("close")), "{component}");
        assert_eq!(abandoned.response().status, 408, "{component}");
        let took = began.elapsed();
        assert!(took > Duration::from_millis(700) && took < Duration::from_secs(4), "{component}: {took:?}");
        assert_eq!(server.wait_for_exit().code(), Some(0), "{component}");
    }
}

#[test]
fn connections_that_the_kernel_has_taken_are_served_when_the_host_stops() {
    for balance in ["round-robin", "kernel"] {
        let mut server = Server::start("hello.wasm", &["--balance", balance]);
        server.signal("STOP");
        let mut clients: Vec<Connection> = (0..8).map(|_| Connection::open(server.address)).collect();
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        server.signal("TERM");
        server.signal("CONT");
        for (number, client) in clients.iter_mut().enumerate() {
            let answer = client.try_response(false).map(|response| response.status);
            assert_eq!(answer, Some(200), "{balance}: client {number} was reset");
        }
        assert_eq!(server.wait_for_exit().code(), Some(0), "{balance}");
    }
}

#[test]
fn a_head_that_comes_after_the_host_began_to_stop_has_no_more_time_than_others() {
    let mut server = Server::start("hello.wasm", &["--worker-kind", "process", "--workers", "1"]);
    let workers = server.worker_pids();
    for pid in &workers {
        crate::support::server::signal(*pid, "STOP");
    }
    let mut late = Connection::open(server.address);
    late.send("GET / HTTP/1.1\r\nHost: te");
    std::thread::sleep(Duration::from_millis(200));
    stop(&server, "TERM");
    for pid in &workers {
        crate::support::server::signal(*pid, "CONT");
    }
    let began = Instant::now();
    assert_eq!(late.response().status, 408);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn an_idle_host_stops_at_once() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start("hello.wasm", &[]);
        let _idle = Connection::open(server.address);
        let began = Instant::now();
        server.signal(signal);
        assert_eq!(server.wait_for_exit().code(), Some(0));
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
}

#[test]
fn what_takes_longer_than_the_drain_timeout_is_broken_off() {
    for component in FAULTS {
        let mut server = Server::start(component, &["--drain-timeout", "300ms"]);
        let mut sleeping = in_flight(&server, "/sleep?ms=60000");
        let mut streaming = in_flight(&server, "/never-finish");
        let began = Instant::now();
        stop(&server, "TERM");
        assert_eq!(server.wait_for_exit().code(), Some(0), "{component}");
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(5), "{component}: {took:?}");
        server.wait_for_record("the limit", |record| record["limit"] == "--drain-timeout");
        assert!(sleeping.try_response(false).is_none(), "{component}: no answer");
        assert!(!streaming.response().whole, "{component}: the body is not ended cleanly");
    }
}

#[test]
fn a_second_signal_ends_the_host_at_once() {
    let mut server = Server::start("faults.wasm", &["--drain-timeout", "10m"]);
    let mut sleeping = in_flight(&server, "/sleep?ms=600000");
    stop(&server, "TERM");
    let began = Instant::now();
    server.signal("TERM");
    server.wait_for_exit();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(sleeping.try_response(false).is_none());
}

#[test]
fn a_loop_does_not_hold_up_the_end() {
    let mut server = Server::start("faults.wasm", &["--drain-timeout", "300ms", "--cpu-limit", "10m"]);
    let _looping = in_flight(&server, "/loop");
    let began = Instant::now();
    server.signal("TERM");
    assert_eq!(server.wait_for_exit().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn the_life_of_each_worker_is_in_the_log() {
    let mut server = Server::start("hello.wasm", &[]);
    server.signal("TERM");
    assert_eq!(server.wait_for_exit().code(), Some(0));
    server.wait_for_record("the end", |record| message(record) == "all workers have ended");
    for worker in [1, 2] {
        let life = server.records(|record| record["worker"] == worker);
        let events: Vec<&str> = life.iter().map(message).collect();
        assert_eq!(events, ["online", "worker listening", "disconnect", "exit"], "worker {worker}");
        let (online, exit) = (&life[0], &life[3]);
        assert!(online["thread"].as_u64().is_some_and(|thread| thread > 0), "{online}");
        assert_eq!((&online["thread"], &online["generation"]), (&exit["thread"], &1.into()), "{exit}");
        assert_eq!(
            (&exit["generation"], &exit["voluntary"], exit["cause"].is_string()),
            (&1.into(), &true.into(), true),
            "{exit}"
        );
    }
}

#[test]
fn the_address_can_be_had_again_at_once() {
    for balance in ["round-robin", "kernel"] {
        let mut first = Server::start("hello.wasm", &["--balance", balance]);
        let mut kept = Connection::open(first.address);
        assert_eq!(kept.get("/").status, 200);
        first.signal("TERM");
        assert_eq!(first.wait_for_exit().code(), Some(0));
        // The host was the one that closed: the system remembers the connection at its port.
        assert_eq!(kept.raw_to_end(), b"");
        let address = first.address.to_string();
        let second = Server::start("hello.wasm", &["--balance", balance, "--listen", &address]);
        assert_eq!((second.address, get(second.address, "/").status), (first.address, 200), "{balance}");
    }
}

/// Asks over a Unix socket for `path`: the answer as it came.
pub fn get_over_unix(socket: &Path, path: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(CEILING))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn a_unix_socket_serves_replaces_a_stale_file_and_is_removed_at_the_end() -> TestResult {
    let dir = tempfile::tempdir()?;
    let socket = dir.path().join("socket");
    drop(UnixListener::bind(&socket)?);
    assert!(socket.exists(), "a stale file");
    let listen = format!("unix:{}", socket.display());
    let mut server = Server::start("faults.wasm", &["--listen", &listen, "--access-log"]);
    for _ in 0..4 {
        let answer = get_over_unix(&socket, "/hello")?;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("Hello, World!"), "{answer}");
    }
    server.wait_for_record("the listening line", |record| message(record) == format!("listening on {listen}"));
    let status = server.status();
    let workers = status["workers"].as_array().ok_or("workers")?;
    assert!(workers.iter().all(|worker| worker["connections"] == 2), "both workers serve it: {status}");

    let mut second = command();
    second.arg(guest("hello.wasm")).args(["--listen", &listen]);
    let second = run(second);
    assert!(
        second.code == Some(1) && second.stderr.contains("socket") && !second.lines("hint: ").is_empty(),
        "{}",
        second.stderr
    );
    assert!(get_over_unix(&socket, "/hello")?.starts_with("HTTP/1.1 200"), "a live socket is not replaced");

    server.signal("TERM");
    assert_eq!(server.wait_for_exit().code(), Some(0));
    assert!(!socket.exists());
    Ok(())
}

#[test]
fn the_socket_of_a_successor_stays_when_its_predecessor_ends_at_once() -> TestResult {
    let dir = tempfile::tempdir()?;
    let socket = dir.path().join("socket");
    let listen = format!("unix:{}", socket.display());
    let mut first = Server::start("faults.wasm", &["--listen", &listen, "--workers", "1"]);
    let mut long = UnixStream::connect(&socket)?;
    long.write_all(b"GET /sleep?ms=20000 HTTP/1.1\r\nHost: test\r\n\r\n")?;
    eventually("the request runs", || first.sum("in_flight") == 1);
    first.signal("TERM");
    eventually("the first has given its name up", || !socket.exists());
    let second = Server::start("faults.wasm", &["--listen", &listen, "--workers", "1"]);
    first.signal("TERM");
    assert_eq!(first.wait_for_exit().code(), Some(1));
    assert!(get_over_unix(&socket, "/hello")?.ends_with("Hello, World!"), "the second cannot be reached");
    drop(second);
    Ok(())
}

#[test]
fn a_file_that_is_no_socket_is_not_replaced() -> TestResult {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("file");
    std::fs::write(&file, "dear")?;
    let mut command = command();
    command.arg(guest("hello.wasm")).arg("--listen").arg(format!("unix:{}", file.display()));
    let finished = run(command);
    assert!(finished.code == Some(1) && !finished.lines("hint: ").is_empty(), "{}", finished.stderr);
    assert_eq!(std::fs::read_to_string(&file)?, "dear");
    Ok(())
}

/// The binary started as a service manager does it, with `socket` as descriptor 3.
pub fn with_handed_over(component: &str, socket: impl Into<OwnedFd>, flags: &[&str]) -> Command {
    // The socket comes as standard output, from where the shell moves it; `exec` keeps the process's number.
    let mut shell = within(&["sh", "-c", "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" \"$@\" 3>&1 1>&2"]);
    shell.arg(guest(component)).args(["--workers", "2"]).args(flags);
    shell.stdout(Stdio::from(socket.into()));
    shell
}

#[test]
fn a_socket_handed_over_by_the_service_manager_is_served() -> TestResult {
    for flags in [&[][..], &["--listen", "systemd"][..]] {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let mut server = Server::spawn(with_handed_over("hello.wasm", listener, flags));
        assert_eq!(server.address, address);
        assert_eq!(get(address, "/").text(), "Hello, World!");
        server.signal("TERM");
        assert_eq!(server.wait_for_exit().code(), Some(0));
    }
    Ok(())
}

#[test]
fn a_unix_socket_handed_over_stays_when_the_host_ends() -> TestResult {
    let dir = tempfile::tempdir()?;
    let socket = dir.path().join("socket");
    let mut server = Server::spawn(with_handed_over("hello.wasm", UnixListener::bind(&socket)?, &[]));
    assert!(get_over_unix(&socket, "/")?.ends_with("Hello, World!"));
    server.signal("TERM");
    assert_eq!(server.wait_for_exit().code(), Some(0));
    assert!(socket.exists(), "it belongs to the service manager");
    Ok(())
}

#[test]
fn asking_for_a_handed_over_socket_without_one_is_wrong_usage() {
    let mut command = command();
    command.arg(guest("hello.wasm")).args(["--listen", "systemd"]);
    let finished = run(command);
    assert!(finished.code == Some(2) && finished.stderr.contains("LISTEN_FDS"), "{}", finished.stderr);
}
