//! Certificates by ACME: from nothing to one that clients trust, renewed, kept over a restart, and what becomes of it when the
//! authority or the process that asks it fails. The authority is `support::acme`'s.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::acme::{AcmeServer, Wrong};
use crate::support::apps::{Folder, app, ask, reload};
use crate::support::server::signal;
use crate::support::tls::{TlsClient, VERSIONS};
use crate::support::{Connection, Response, Server, TestResult, command, eventually, eventually_within, message, run};

const KINDS: [&str; 2] = ["thread", "process"];
/// How long a certificate may take that is issued at the first try: files are looked at every ten seconds.
const SERVED_WITHIN: Duration = Duration::from_secs(40);
const MONTHS: Duration = Duration::from_hours(90 * 24);

/// A file of settings: an address without TLS (first), and one that has these names by ACME.
fn settings(acme: &AcmeServer, names: &[&str], kind: &str, plain: &str) -> String {
    format!(
        "worker-kind = \"{kind}\"\nworkers = 2\ndata-dir = \"state\"\n[[listener]]\nlisten = \"127.0.0.2:0\"\n{plain}\n[[listener]]\nlisten = \"127.0.0.1:0\"\ntls = {{ acme = {{ {} }} }}\n{}",
        acme.settings(names),
        app("app", "faults.wasm", "*", "")
    )
}

/// Serves a folder; the addresses without TLS and with it. The authority asks the first one for proof.
fn serve(folder: &Folder, acme: &AcmeServer, inject: &str) -> (Server, SocketAddr, SocketAddr) {
    let (server, plain, secure) = serve_unseen(folder, inject);
    acme.ask_at(plain);
    (server, plain, secure)
}

/// The same, and the authority does not know where it is.
fn serve_unseen(folder: &Folder, inject: &str) -> (Server, SocketAddr, SocketAddr) {
    let mut command = command();
    command.arg("-c").arg(folder.file()).args(["--log-format", "json", "--admin", "127.0.0.1:0"]);
    command.env_remove("WASMHOST_WORKER_KIND").env("WASMHOST_INJECT", inject);
    let server = Server::spawn(command);
    let [plain, secure] = server.addresses()[..] else { panic!("{:?}", server.addresses()) };
    (server, plain, secure)
}

/// A client that trusts the authority's root.
fn client(acme: &AcmeServer, address: SocketAddr, name: &str) -> std::io::Result<TlsClient> {
    TlsClient::open(address, &acme.authority().trusted(VERSIONS, None), name)
}

#[track_caller]
fn wait_until_trusted(acme: &AcmeServer, address: SocketAddr, name: &str) {
    eventually_within(SERVED_WITHIN, "the certificate is served", || client(acme, address, name).is_ok());
}

fn counted(server: &Server) -> (u64, u64) {
    let orders = &server.status()["acme_orders"];
    (orders["issued"].as_u64().unwrap_or(99), orders["failed"].as_u64().unwrap_or(99))
}

/// What is in the folder of ACME, with the mode of each file.
fn kept(folder: &Folder) -> Vec<(String, u32)> {
    let mut all: Vec<_> = fs::read_dir(folder.path().join("state/acme"))
        .expect("a folder")
        .flatten()
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), mode(&entry.path())))
        .collect();
    all.sort();
    all
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
}

#[test]
fn a_certificate_is_had_from_nothing_and_kept_over_a_restart() -> TestResult {
    for kind in KINDS {
        let files = tempfile::tempdir()?;
        let acme = AcmeServer::start(files.path(), MONTHS);
        let folder = Folder::new(&settings(&acme, &["a.test", "www.A.test"], kind, "https-redirect = true"))?;
        let (server, plain, secure) = serve(&folder, &acme, "");
        // Until then TLS is spoken, with a certificate that nobody trusts.
        let told =
            server.wait_for_record("there is none", |record| message(record).contains("there is no certificate yet"));
        assert_eq!(told["names"], "a.test, www.a.test", "{kind}");
        wait_until_trusted(&acme, secure, "a.test");
        for name in ["a.test", "www.a.test"] {
            assert_eq!(client(&acme, secure, name)?.get("/request", "")?.status, 200, "{kind}: {name}");
        }
        assert!(client(&acme, secure, "other.test").is_err(), "{kind}: it has no other name");
        assert_eq!(ask(plain, "a.test", "/x").status, 308, "{kind}: all else is redirected");
        let issued = server.wait_for_record("it is told", |record| message(record) == "certificate issued");
        assert_eq!(issued["names"], "a.test, www.a.test");
        eventually("it is counted", || counted(&server) == (1, 0));
        let (accounts, contacts) = acme.accounts();
        assert_eq!((accounts, contacts), (1, vec![Value::from("mailto:ops@a.test")]), "{kind}");
        assert!(acme.has_refused_nonce(), "{kind}: a nonce was refused, and another taken");
        assert_eq!(acme.violations(), Vec::<String>::new(), "{kind}");
        // On `/metrics`, by its file.
        let metrics = server.admin("/metrics").text();
        let days =
            metrics.lines().find(|line| line.starts_with("wasmhost_tls_certificate_days_left{")).unwrap_or_default();
        assert!(days.contains("/state/acme/a.test-") && days.ends_with(" 89.0"), "{kind}: {days:?}");

        // Nobody else can read it.
        assert_eq!((mode(&folder.path().join("state")), mode(&folder.path().join("state/acme"))), (0o700, 0o700));
        let all = kept(&folder);
        assert!(all.len() == 3 && all.iter().all(|(_, mode)| *mode == 0o600), "{kind}: {all:?}");

        // The one that is kept is served at once after a restart, and none is ordered.
        drop(server);
        let (server, _, secure) = serve(&folder, &acme, "");
        assert_eq!(client(&acme, secure, "a.test")?.get("/request", "")?.status, 200, "{kind}");
        assert!(server.acme_pid().is_some(), "{kind}");
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(2) {
            assert_eq!((acme.orders(), counted(&server)), (1, (0, 0)), "{kind}: nothing is ordered");
        }
        assert_eq!(server.records(|record| message(record).contains("there is no certificate")).len(), 0, "{kind}");
    }
    Ok(())
}

#[test]
fn a_certificate_is_renewed_and_no_connection_notices() -> TestResult {
    let files = tempfile::tempdir()?;
    // Renewed after 20 s.
    let acme = AcmeServer::start(files.path(), Duration::from_secs(30));
    let folder = Folder::new(&settings(&acme, &["a.test"], "thread", ""))?;
    let (server, _, secure) = serve(&folder, &acme, "");
    wait_until_trusted(&acme, secure, "a.test");
    let mut kept = client(&acme, secure, "a.test")?;
    let first = kept.certificate();
    let mut answers = 0;
    eventually_within(Duration::from_secs(60), "new connections get another certificate", || {
        answers += usize::from(kept.get("/request", "").is_ok_and(|response| response.status == 200));
        std::thread::sleep(Duration::from_millis(50));
        client(&acme, secure, "a.test").is_ok_and(|client| client.certificate() != first)
    });
    assert!(answers > 20, "{answers}");
    assert_eq!(kept.get("/request", "")?.status, 200, "on the connection of before");
    eventually("it is counted", || counted(&server).0 >= 2);
    assert_eq!((counted(&server).1, acme.violations()), (0, vec![]));
    Ok(())
}

#[test(needs(FaultInjection))]
fn an_authority_that_fails_is_asked_again_and_clients_are_served_meanwhile() -> TestResult {
    let files = tempfile::tempdir()?;
    let acme = AcmeServer::start(files.path(), MONTHS);
    // No more are tried in an hour: four failures, and the one that works.
    let rows = [
        (Wrong::Fails, "answered 500"),
        (Wrong::Closes, "closed"),
        (Wrong::Endless, "length limit exceeded"),
        (Wrong::Garbage, "JSON"),
    ];
    acme.does_wrong(&rows.map(|(wrong, _)| wrong));
    let folder = Folder::new(&settings(&acme, &["a.test"], "process", ""))?;
    let (server, plain, secure) = serve(&folder, &acme, "hasty");
    for (wrong, words) in rows {
        let told = server.wait_for_record(words, |record| {
            message(record) == "certificate not issued" && record["reason"].to_string().contains(words)
        });
        assert_eq!((&told["names"], &told["retry_s"]), (&"a.test".into(), &1.into()), "{wrong:?}: {told}");
        assert_eq!(ask(plain, "a.test", "/request").status, 200, "{wrong:?}");
    }
    wait_until_trusted(&acme, secure, "a.test");
    eventually("all are counted", || counted(&server) == (1, 4));
    assert_eq!(acme.violations(), Vec::<String>::new());
    Ok(())
}

#[test(needs(FaultInjection))]
fn an_authority_that_asks_for_patience_gets_it() -> TestResult {
    let files = tempfile::tempdir()?;
    let acme = AcmeServer::start(files.path(), MONTHS);
    acme.does_wrong(&[Wrong::OtherName, Wrong::Late(Duration::from_secs(2)), Wrong::RateLimited(3600)]);
    let folder = Folder::new(&settings(&acme, &["a.test"], "thread", ""))?;
    let (server, _, secure) = serve(&folder, &acme, "hasty");
    server.wait_for_record("another name is not taken", |record| {
        message(record) == "certificate not issued" && record["reason"].to_string().contains("other.test")
    });
    // The second is late, and is taken.
    wait_until_trusted(&acme, secure, "a.test");
    eventually("both are counted", || counted(&server) == (1, 1));
    // The third, for other names, is not.
    let more = settings(&acme, &["a.test", "b.test"], "thread", "");
    folder.write(&more)?;
    reload(&server);
    let told = server.wait_for_record("the limit", |record| record["reason"].to_string().contains("rateLimited"));
    assert!(told["reason"].to_string().contains("too many certificates already issued"), "{told}");
    let retry = told["retry_s"].as_u64().unwrap_or(0);
    assert!((3_590..=3_600).contains(&retry), "{told}");
    assert!(client(&acme, secure, "a.test").is_ok(), "the old one goes on");
    assert!(client(&acme, secure, "b.test").is_err());
    assert_eq!(acme.violations(), Vec::<String>::new());
    Ok(())
}

#[test(needs(FaultInjection))]
fn a_host_that_the_authority_cannot_reach_gets_none_until_it_can() -> TestResult {
    let files = tempfile::tempdir()?;
    let acme = AcmeServer::start(files.path(), MONTHS);
    let folder = Folder::new(&settings(&acme, &["a.test"], "thread", ""))?;
    // Nobody listens there.
    acme.ask_at(SocketAddr::from(([127, 0, 0, 9], 1)));
    let (server, plain, secure) = serve_unseen(&folder, "hasty");
    server.wait_for_record("why", |record| {
        let reason = record["reason"].as_str().unwrap_or_default();
        message(record) == "certificate not issued"
            && reason.contains("`a.test`")
            && reason.contains("cannot be reached")
    });
    acme.ask_at(plain);
    wait_until_trusted(&acme, secure, "a.test");
    Ok(())
}

#[test]
fn a_process_that_is_killed_is_started_again_and_goes_on() -> TestResult {
    let files = tempfile::tempdir()?;
    let acme = AcmeServer::start(files.path(), MONTHS);
    // In the middle of an order.
    acme.does_wrong(&[Wrong::Late(Duration::from_secs(15))]);
    let folder = Folder::new(&settings(&acme, &["a.test"], "process", ""))?;
    let (server, plain, secure) = serve(&folder, &acme, "");
    let mut first = None;
    eventually("it asks", || {
        first = server.acme_pid();
        // The first time its nonce was refused.
        first.is_some() && acme.asked("/new-order") == 2
    });
    signal(first.ok_or("a process")?, "KILL");
    server.wait_for_record("its end", |record| message(record).contains("process that gets certificates has ended"));
    assert_eq!(ask(plain, "a.test", "/request").status, 200);
    wait_until_trusted(&acme, secure, "a.test");
    assert_ne!(server.acme_pid(), first);
    // It ends with the host.
    let (pid, mut server) = (server.acme_pid().ok_or("a process")?, server);
    server.signal("TERM");
    assert_eq!(server.wait_for_exit().code(), Some(0));
    eventually("it has ended, too", || !Path::new(&format!("/proc/{pid}")).exists());
    Ok(())
}

#[test]
fn tokens_are_answered_for_the_names_of_certificates_only_and_without_tls_only() -> TestResult {
    for (kind, plain) in [("thread", ""), ("process", "https-redirect = true")] {
        let files = tempfile::tempdir()?;
        let acme = AcmeServer::start(files.path(), MONTHS);
        let folder = Folder::new(&settings(&acme, &["a.test"], kind, plain))?;
        let (_server, plain, secure) = serve(&folder, &acme, "");
        wait_until_trusted(&acme, secure, "a.test");
        let at = |token: &str| format!("/.well-known/acme-challenge/{token}");
        let usual = ask(plain, "a.test", "/x").status;
        let answer = ask(plain, "a.test:8080", &at("tok-EN_1"));
        let (token, thumbprint) =
            answer.text().split_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap_or_default();
        assert_eq!((answer.status, &*token, thumbprint.len()), (200, "tok-EN_1", 43), "{kind}: {answer:?}");
        for (host, path) in
            [("b.test", at("token")), ("a.test", at("a.b")), ("a.test", at("")), ("a.test", at(&"a".repeat(129)))]
        {
            assert_eq!(ask(plain, host, &path).status, usual, "{kind}: {host} {path} goes where all else goes");
        }
        let mut posted = Connection::open(plain);
        posted.send(format!("POST {} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n", at("token")));
        assert_eq!(posted.response().status, usual, "{kind}");
        let request = format!("GET {} HTTP/1.1\r\nHost: a.test\r\n\r\n", at("token"));
        let over_tls: Response = client(&acme, secure, "a.test")?.ask(request.as_bytes())?;
        assert!(!over_tls.text().contains(&thumbprint), "{kind}: {over_tls:?}");
    }
    Ok(())
}

#[test]
fn names_that_a_reload_adds_are_ordered_and_another_authority_needs_a_restart() -> TestResult {
    let files = tempfile::tempdir()?;
    let acme = AcmeServer::start(files.path(), MONTHS);
    let folder = Folder::new(&settings(&acme, &["a.test"], "process", ""))?;
    let (server, _, secure) = serve(&folder, &acme, "");
    wait_until_trusted(&acme, secure, "a.test");
    folder.write(&settings(&acme, &["a.test", "b.test"], "process", ""))?;
    reload(&server);
    assert!(client(&acme, secure, "a.test").is_ok(), "the old one goes on until then");
    wait_until_trusted(&acme, secure, "b.test");
    assert!(client(&acme, secure, "a.test").is_ok());

    let other = settings(&acme, &["a.test", "b.test"], "process", "").replace(&format!(":{}/", acme.port()), ":1/");
    folder.write(&other)?;
    server.signal("HUP");
    let told = server.wait_for_record("a restart is needed", |record| message(record).contains("tls.acme.directory"));
    let words = message(&told);
    assert!(words.contains("with the port 1") && words.contains("restart the host"), "{words}");
    assert!(client(&acme, secure, "b.test").is_ok());
    assert_eq!(acme.violations(), Vec::<String>::new());
    Ok(())
}

/// Whether a process may do this, by what its worker says that was told to do it.
fn deed(address: SocketAddr, what: &str) -> String {
    let mut connection = Connection::open(address);
    connection.send(format!("GET /hello HTTP/1.1\r\nHost: test\r\nX-Wasmhost-Misdeed: {what}\r\n\r\n"));
    connection.response().text()
}

#[test(needs(FaultInjection, Confinement))]
fn no_process_that_runs_guests_reaches_what_is_kept_or_the_authority() -> TestResult {
    for kind in KINDS {
        let files = tempfile::tempdir()?;
        let acme = AcmeServer::start(files.path(), MONTHS);
        let folder = Folder::new(&settings(&acme, &["a.test"], kind, ""))?;
        let (server, plain, secure) = serve(&folder, &acme, "");
        wait_until_trusted(&acme, secure, "a.test");
        let state = folder.path().join("state/acme");
        let account = state.join("account.pem");
        for what in [
            format!("open {}", account.display()),
            format!("list {}", state.display()),
            format!("create {}", state.join("planted").display()),
            format!("remove {}", account.display()),
            format!("connect 127.0.0.1:{}", acme.port()),
        ] {
            let came = deed(plain, &what);
            assert!(["1", "13", "38"].contains(&&*came), "{kind}: {what} came to {came}");
        }
        // The process that gets certificates is confined, as the kernel sees it, and holds no socket of a client.
        let pid = server.acme_pid().ok_or("a process")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
    }
    Ok(())
}

#[test]
fn what_cannot_be_is_told_before_anything_is_served() -> TestResult {
    let files = tempfile::tempdir()?;
    let acme = AcmeServer::start(files.path(), MONTHS);
    let good = settings(&acme, &["a.test"], "thread", "");
    let open = files.path().join("open");
    fs::create_dir(&open)?;
    fs::set_permissions(&open, fs::Permissions::from_mode(0o755))?;
    let rows = [
        (
            good.replace("\"a.test\"", "\"*.a.test\""),
            2,
            "is a wildcard, for which authorities ask for a record in DNS (DNS-01)",
        ),
        (good.replace("\"a.test\"", "\"127.0.0.1\""), 2, "is an address"),
        (good.replace("data-dir = \"state\"\n", ""), 2, "needs `data-dir`"),
        (good.replace("agree-to-terms = true, ", ""), 2, "needs your agreement to the terms"),
        (good.replace("https://localhost", "http://localhost"), 2, "must be the `https` address"),
        (good.replace("domains = [\"a.test\"], ", ""), 2, "has no effect without `tls.acme.domains`"),
        (good.replace("domains", "domain"), 2, "is `domains` meant?"),
        (good.replace("\"state\"", &format!("{:?}", open.display().to_string())), 1, "(mode 0755)"),
    ];
    for (text, code, words) in rows {
        let folder = Folder::new(&text)?;
        let mut command = command();
        command.arg("-c").arg(folder.file()).env_remove("STATE_DIRECTORY");
        let ended = run(command);
        assert_eq!(ended.code, Some(code), "{words}: {}", ended.stderr);
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
    // What systemd sets will do for a directory.
    let folder = Folder::new(&good.replace("data-dir = \"state\"\n", ""))?;
    let mut shown = command();
    shown.args(["config", "show", "-c"]).arg(folder.file()).env("STATE_DIRECTORY", "/var/lib/one:/var/lib/two");
    let shown = run(shown);
    assert!(shown.stdout.contains("data-dir = \"/var/lib/one\""), "{}", shown.stdout);
    assert!(shown.stdout.contains("tls.acme.domains = [\"a.test\"]"), "{}", shown.stdout);
    // Without an address without TLS, authorities cannot ask for proof.
    let only = good.replace("[[listener]]\nlisten = \"127.0.0.2:0\"\n\n", "");
    for (text, warns) in [(&only, true), (&good, false)] {
        let folder = Folder::new(text)?;
        let mut check = command();
        check.args(["config", "check", "-c"]).arg(folder.file());
        let check = run(check);
        assert_eq!(check.code, Some(0), "{}", check.stderr);
        assert_eq!(check.stdout.contains("warning: authorities ask for proof on port 80"), warns, "{}", check.stdout);
        assert!(!folder.path().join("state").exists(), "it makes nothing");
    }
    assert_eq!(acme.orders(), 0);
    Ok(())
}
