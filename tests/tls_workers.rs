//! TLS where each worker listens itself (`--balance kernel`): many connections, sessions that another worker made, new
//! certificates, and a worker that is killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::support::server::signal;
use crate::support::tls::{Authority, TlsClient, VERSIONS};
use crate::support::{Server, TestResult, eventually, message};

const KINDS: [&str; 2] = ["thread", "process"];
const WORKERS: usize = 3;

/// How many of the workers have shaken hands.
fn shook_hands(server: &Server) -> usize {
    let status = server.status();
    let workers = status["workers"].as_array().expect("a list").iter();
    workers.filter(|worker| worker["tls_handshakes"].as_u64().is_some_and(|count| count > 0)).count()
}

#[test]
fn many_connections_are_spread_over_workers_that_listen_and_sessions_are_resumed_by_any() -> TestResult {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new();
    let files = authority.server(folder.path(), "a", &["a.test"], 30);
    let tls = files.flags();
    for kind in KINDS {
        let mut flags: Vec<&str> = tls.iter().map(String::as_str).collect();
        flags.extend(["--balance", "kernel", "--workers", "3", "--worker-kind", kind]);
        let server = Server::start("hello.wasm", &flags);
        let config = authority.trusted(VERSIONS, None);
        // The first session is a whole handshake, and all others go on with it, whichever worker has them.
        assert_eq!(TlsClient::open(server.address, &config, "a.test")?.get("/", "")?.status, 200, "{kind}");
        let failed = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let answer = TlsClient::open(server.address, &config, "a.test")
                            .and_then(|mut client| Ok((client.get("/", "")?.status, client.is_resumed())));
                        failed.fetch_add(usize::from(!answer.is_ok_and(|is| is == (200, true))), Ordering::Relaxed);
                    }
                });
            }
        });
        // A ticket is for one connection; who has none left at that moment shakes hands anew.
        assert_eq!(server.sum("tls_handshakes"), 201, "{kind}");
        assert_eq!(server.sum("tls_resumptions"), 200 - failed.load(Ordering::Relaxed) as u64, "{kind}");
        assert!(failed.load(Ordering::Relaxed) <= 8, "{kind}: {} were not resumed", failed.load(Ordering::Relaxed));
        assert_eq!(shook_hands(&server), WORKERS, "{kind}: every worker has some");
    }
    Ok(())
}

#[test]
fn every_worker_that_listens_takes_new_certificates() -> TestResult {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new();
    for kind in KINDS {
        let files = authority.server(folder.path(), "a", &["a.test"], 30);
        let tls = files.flags();
        let mut flags: Vec<&str> = tls.iter().map(String::as_str).collect();
        flags.extend(["--balance", "kernel", "--workers", "3", "--worker-kind", kind]);
        let server = Server::start("hello.wasm", &flags);
        let config = authority.trusted(VERSIONS, None);
        let mut kept: Vec<TlsClient> =
            (0..12).map(|_| TlsClient::open(server.address, &config, "a.test")).collect::<Result<_, _>>()?;
        let old = kept[0].certificate();
        authority.server(folder.path(), "a", &["a.test"], 60);
        server.signal("HUP");
        server.wait_for_record("new certificates", |record| message(record).contains("certificates"));
        // One worker after the other hears of them; in the end none has the old one.
        eventually("all have the new one", || {
            (0..12).all(|_| {
                let client = TlsClient::open(server.address, &authority.trusted(VERSIONS, None), "a.test");
                client.is_ok_and(|client| client.certificate() != old)
            })
        });
        for client in &mut kept {
            assert_eq!(client.get("/", "")?.status, 200, "{kind}: open connections go on");
        }
    }
    Ok(())
}

#[test]
fn a_worker_that_is_killed_costs_its_own_connections_and_its_successor_resumes_sessions() -> TestResult {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new();
    let files = authority.server(folder.path(), "a", &["a.test"], 30);
    let tls = files.flags();
    let mut flags: Vec<&str> = tls.iter().map(String::as_str).collect();
    flags.extend(["--balance", "kernel", "--workers", "3", "--worker-kind", "process"]);
    let server = Server::start("hello.wasm", &flags);
    let config = authority.trusted(VERSIONS, None);
    let mut kept: Vec<TlsClient> =
        (0..30).map(|_| TlsClient::open(server.address, &config, "a.test")).collect::<Result<_, _>>()?;
    for client in &mut kept {
        assert_eq!(client.get("/", "")?.status, 200);
    }
    eventually("all workers have some", || shook_hands(&server) == WORKERS);
    let status = server.status();
    let victim = &status["workers"][0];
    let (pid, its) =
        (victim["thread"].as_u64().ok_or("a number")?, victim["open_connections"].as_u64().ok_or("a number")?);
    assert!(its > 0 && its < 30, "{victim}");

    // Others come and go meanwhile, and are answered or closed: never refused, for the socket stays.
    let ends = AtomicBool::new(false);
    let refused = AtomicUsize::new(0);
    thread::scope(|scope| -> TestResult {
        scope.spawn(|| {
            while !ends.load(Ordering::Relaxed) {
                let config = Arc::clone(&config);
                let outcome = TlsClient::open(server.address, &config, "a.test");
                let is_refused = outcome.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
                refused.fetch_add(usize::from(is_refused), Ordering::Relaxed);
            }
        });
        signal(u32::try_from(pid)?, "KILL");
        eventually("it has a successor", || {
            let status = server.status();
            status["workers"][0]["thread"] != pid && status["workers"][0]["state"] == "listening"
        });
        ends.store(true, Ordering::Relaxed);
        Ok(())
    })?;
    assert_eq!(refused.load(Ordering::Relaxed), 0);
    let answered = kept.iter_mut().filter_map(|client| client.get("/", "").ok()).filter(|answer| answer.status == 200);
    assert_eq!(answered.count() as u64, 30 - its, "the others go on");
    // The new process has the keys of tickets.
    let before = server.status()["workers"][0]["tls_resumptions"].as_u64().unwrap_or(0);
    eventually("the successor resumes a session", || {
        let resumed = TlsClient::open(server.address, &config, "a.test").and_then(|mut client| client.get("/", ""));
        resumed.is_ok() && server.status()["workers"][0]["tls_resumptions"].as_u64().is_some_and(|count| count > before)
    });
    Ok(())
}
