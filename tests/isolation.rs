//! What does a guest see of others, and of the machine? Nothing that was not granted.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::wat::More;
use crate::support::{CEILING, Connection, FAULTS, Server, free_address, get, request};

#[test]
fn a_counter_in_the_guest_never_shows_what_another_worker_wrote() {
    for component in FAULTS {
        let server = Server::start(component, &["--isolation", "worker"]);
        // Two connections a worker, dealt in turn, asked in an order that mixes the workers.
        let mut kept: Vec<Connection> = (0..4).map(|_| Connection::open(server.address)).collect();
        let mut counts = [0_u64; 2];
        for turn in 0..400 {
            let index = (turn * 7 + turn / 5) % 4;
            let count: u64 = kept[index].get("/count").text().parse().expect("a number");
            counts[index % 2] += 1;
            assert_eq!(count, counts[index % 2], "{component}: turn {turn}, connection {index}");
        }
        assert!(counts.iter().all(|count| *count > 50), "{component}: {counts:?}");
    }
}

#[test]
fn memory_lasts_from_request_to_request_in_a_worker_and_in_no_other() {
    for component in FAULTS {
        let server = Server::start(component, &["--isolation", "worker"]);
        let [mut one, mut other] = [(); 2].map(|()| Connection::open(server.address));
        assert_eq!(one.get("/remember?value=secret").text(), "ok");
        for _ in 0..20 {
            assert_eq!(one.get("/recall").text(), "secret", "{component}: the same worker");
            assert_eq!(other.get("/recall").text(), "", "{component}: the other worker");
        }
    }
}

#[test]
fn memory_of_one_request_is_not_seen_by_another_under_request_isolation() {
    for component in FAULTS {
        let server = Server::start(component, &["--isolation", "request", "--workers", "1"]);
        let mut connection = Connection::open(server.address);
        for _ in 0..50 {
            assert_eq!(connection.get("/remember?value=secret").text(), "ok");
            assert_eq!(connection.get("/recall").text(), "", "{component}");
            assert_eq!(connection.get("/count").text(), "1", "{component}");
        }
        assert_eq!(server.status()["isolation"], "request");
        assert!(server.sum("generation") >= 150, "{component}: an instance for each request");
    }
}

/// Searches all of a memory and of a table for what another instance wrote, and traps if it finds some. Then it writes to
/// every second page, from the first or the second, as the path's letter says: more pieces than wasmtime 50 asks the kernel
/// about at once.
const SEARCHING: More = More {
    component: "",
    imports: &[],
    module: r#"
    (memory $own 64)
    (data (memory $own) (i32.const 0x200000) "of image")
    (table $slots 4096 funcref)
    (elem declare func $search)
    (func $search (param $letter i32) (local $at i32)
      (drop (memory.grow $own (i32.const 16)))
      (loop $next
        (if (i64.ne (i64.load $own offset=2048 (local.get $at)) (i64.const 0)) (then unreachable))
        (local.set $at (i32.add (local.get $at) (i32.const 4096)))
        (br_if $next (i32.lt_u (local.get $at) (i32.const 0x500000))))
      (if (i64.ne (i64.load $own (i32.const 0x200000)) (i64.const 0x6567616d6920666f)) (then unreachable))
      (local.set $at (i32.const 0))
      (loop $next
        (if (i32.eqz (ref.is_null (table.get $slots (local.get $at)))) (then unreachable))
        (table.set $slots (local.get $at) (ref.func $search))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $at) (i32.const 4096))))
      (i64.store $own (i32.const 0x200000) (i64.const 7))
      (local.set $at (i32.shl (i32.and (local.get $letter) (i32.const 1)) (i32.const 12)))
      (loop $next
        (i64.store $own offset=2048 (local.get $at) (i64.const 7))
        (local.set $at (i32.add (local.get $at) (i32.const 0x2000)))
        (br_if $next (i32.lt_u (local.get $at) (i32.const 0x500000)))))"#,
    handle: "(call $search (i32.load8_u (i32.const 1025)))",
};

#[test]
fn a_fresh_instance_finds_nothing_of_others_while_the_kernel_moves_pages() {
    const LASTS: Duration = Duration::from_secs(2);
    let component = SEARCHING.file();
    for kind in ["thread", "process"] {
        let component = component.path().to_str().expect("a path in UTF-8");
        let server = Server::start(component, &["--isolation", "request", "--worker-kind", kind]);
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            // It takes root; without, the search goes on alone.
            scope.spawn(|| {
                while !over.load(Relaxed) && fs::write("/proc/sys/vm/compact_memory", "1").is_ok() {
                    thread::sleep(Duration::from_millis(5));
                }
            });
            let search = || {
                let mut connection = Connection::open(server.address);
                let began = Instant::now();
                for path in ["/a", "/b", "/b", "/a"].into_iter().cycle() {
                    let response = connection.get(path);
                    if response.status != 200 || began.elapsed() > LASTS {
                        return response.status;
                    }
                }
                0
            };
            let clients: Vec<_> = (0..8).map(|_| scope.spawn(search)).collect();
            let statuses: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
            over.store(true, Relaxed);
            let statuses: Vec<u16> = statuses.into_iter().map(|status| status.expect("a client")).collect();
            assert_eq!(statuses, [200; 8], "{kind}: an instance found what another wrote");
        });
    }
}

#[test]
fn nothing_is_granted_unasked() {
    for component in FAULTS {
        let server = Server::start(component, &[]);
        assert_eq!(get(server.address, "/env").text(), "", "{component}");
        assert_eq!(get(server.address, "/args").text(), "", "{component}");
        for path in ["/etc/hostname", "/", ".", "Cargo.toml"] {
            assert_eq!(get(server.address, &format!("/read?path={path}")).status, 404, "{component}: read {path}");
        }
        let file = format!("{}/ungranted-{component}", env!("CARGO_TARGET_TMPDIR"));
        assert_eq!(request(server.address, "POST", &format!("/write?path={file}"), b"x").status, 403, "{component}");
        assert!(!fs::exists(&file).expect("a known folder"), "{component} wrote {file}");
    }
}

#[test]
fn a_socket_is_refused_even_where_something_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    for component in FAULTS {
        for flags in [&[][..], &["--allow-host", &address.to_string()]] {
            let server = Server::start(component, flags);
            let response = get(server.address, &format!("/connect?addr={address}"));
            assert_eq!((response.status, response.text().as_str()), (403, "access-denied"), "{component} {flags:?}");
        }
    }
    listener.set_nonblocking(true).expect("a mode");
    assert!(listener.accept().is_err(), "a connection came through");
}

#[test]
fn variables_and_arguments_are_those_given() {
    for component in FAULTS {
        let server = Server::start(
            component,
            &["--env", "B=two=2", "--env", "A=1", "--env", "EMPTY=", "--arg", "--first", "--arg", "second word"],
        );
        assert_eq!(get(server.address, "/env").text(), "A=1\nB=two=2\nEMPTY=\n", "{component}");
        assert_eq!(get(server.address, "/args").text(), "--first\nsecond word\n", "{component}");
    }
}

#[test]
fn variables_come_from_files_too_and_the_later_of_two_counts() -> std::io::Result<()> {
    let folder = tempfile::tempdir()?;
    let [first, second] = ["first.env", "second.env"].map(|name| folder.path().join(name));
    fs::write(&first, "# of the app\nA=1\nB='two # 2' # a comment\nexport C=\"a\\tb\"\r\nD=$A\n")?;
    fs::write(&second, "A=2\n")?;
    for component in FAULTS {
        let files = [&first, &second].map(|file| format!("--env-file={}", file.display()));
        let server = Server::start(component, &[&files[0], &files[1], "--env", "D=4", "--env", "D=5"]);
        // Read once: what is in them later is for the next start.
        assert_eq!(get(server.address, "/env").text(), "A=2\nB=two # 2\nC=a\tb\nD=5\n", "{component}");
    }
    Ok(())
}

#[test]
fn a_directory_is_granted_to_be_read_and_to_be_written_when_it_says_so() {
    for component in FAULTS {
        let outside = tempfile::tempdir().expect("a folder");
        fs::write(outside.path().join("secret"), "not granted").expect("written");
        let root = outside.path().join("granted");
        fs::create_dir(&root).expect("a folder");
        fs::write(root.join("note"), "granted").expect("written");
        std::os::unix::fs::symlink("../secret", root.join("link")).expect("a link");

        for (mode, may_write) in [("", false), (":rw", true)] {
            let grant = format!("{}::/data{mode}", root.display());
            let server = Server::start(component, &["--dir", &grant]);
            assert_eq!(get(server.address, "/read?path=/data/note").text(), "granted", "{component} {mode}");
            for path in ["/data/../secret", "/data/link", "/secret", "/data/none"] {
                let response = get(server.address, &format!("/read?path={path}"));
                assert_eq!(response.status, 404, "{component} {mode}: {path}: {}", response.text());
            }
            let written = request(server.address, "POST", "/write?path=/data/new", b"from the guest");
            assert_eq!(written.status, if may_write { 200 } else { 403 }, "{component} {mode}: {}", written.text());
            assert_eq!(
                fs::read(root.join("new")).ok().as_deref(),
                may_write.then_some(&b"from the guest"[..]),
                "{component} {mode}"
            );
            assert_eq!(
                request(server.address, "POST", "/write?path=/data/link", b"x").status,
                403,
                "{component} {mode}: out by a link"
            );
            assert_eq!(
                fs::read(outside.path().join("secret")).expect("it is there"),
                b"not granted",
                "{component} {mode}"
            );
        }
    }
}

/// An origin server that answers every request with 203, a body that says what it got, and the connection's end.
pub fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::Builder::new()
        .name("upstream".to_owned())
        .spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                stream.set_read_timeout(Some(CEILING)).expect("a time-out");
                let (mut got, mut chunk) = (Vec::new(), [0; 4096]);
                loop {
                    if is_whole(&String::from_utf8_lossy(&got)) {
                        break;
                    }
                    match stream.read(&mut chunk) {
                        Ok(0) | Err(_) => break,
                        Ok(read) => got.extend_from_slice(&chunk[..read]),
                    }
                }
                let head = format!("HTTP/1.1 203 Fine\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", got.len());
                // Who asked may have gone.
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&got));
            }
        })
        .expect("a thread");
    address
}

/// Whether a request has come to its end, as its headers say where that is.
fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let head = head.to_lowercase();
    if head.contains("transfer-encoding: chunked") {
        return body.ends_with("0\r\n\r\n");
    }
    let length = head.split_once("content-length: ").and_then(|(_, rest)| rest.lines().next()?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

#[test]
fn an_outgoing_request_is_denied_and_the_log_names_the_flag() {
    let upstream = upstream();
    let elsewhere = format!("127.0.0.1:{}", if upstream.port() == 9 { 10 } else { 9 });
    for component in FAULTS {
        for flags in [vec![], vec!["--allow-host", elsewhere.as_str()], vec!["--allow-host", "localhost"]] {
            let server = Server::start(component, &flags);
            let response = get(server.address, &format!("/fetch?url=http://{upstream}/"));
            assert_eq!(response.status, 502, "{component} {flags:?}");
            assert!(named(&response.text(), "HTTPRequestDenied"), "{component} {flags:?}: {}", response.text());
            let record = server.wait_for_record("--allow-host", |record| record["limit"] == "--allow-host");
            let message = record["message"].as_str().unwrap_or_default();
            assert!(message.contains(&format!("--allow-host {upstream}")), "{component}: {message}");
            assert_eq!(get(server.address, "/hello").status, 200, "{component}: a refusal is no fault");
        }
    }
}

#[test]
fn an_outgoing_request_reaches_a_host_that_is_named() {
    let upstream = upstream();
    for component in FAULTS {
        for rule in [upstream.to_string(), "127.0.0.1".to_owned()] {
            let server = Server::start(component, &["--allow-host", &rule]);
            let response = get(server.address, &format!("/fetch?url=http://{upstream}/path%3Fa%3D1"));
            let text = response.text();
            assert_eq!(
                (response.status, response.header("x-upstream-status")),
                (200, Some("203")),
                "{component}: {text}"
            );
            assert!(text.starts_with("GET /path?a=1 HTTP/1.1\r\n"), "{component}: {text}");
            assert!(text.to_lowercase().contains(&format!("\r\nhost: {upstream}\r\n")), "{component}: {text}");

            let response =
                request(server.address, "POST", &format!("/fetch-post?url=http://{upstream}/in"), b"a streamed body");
            let text = response.text();
            assert_eq!(
                (response.status, response.header("x-upstream-status")),
                (200, Some("203")),
                "{component}: {text}"
            );
            assert!(
                text.starts_with("POST /in HTTP/1.1\r\n") && text.contains("a streamed body"),
                "{component}: {text}"
            );
            assert!(response.whole, "{component}");
        }
    }
}

#[test]
fn the_star_does_not_reach_loopback_by_address_or_by_name() {
    let upstream = upstream();
    for component in FAULTS {
        let server = Server::start(component, &["--allow-host", "*"]);
        for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
            let response = get(server.address, &format!("/fetch?url=http://{host}:{}/", upstream.port()));
            assert_eq!(response.status, 502, "{component}: {host}: {}", response.text());
            assert!(named(&response.text(), "DestinationIPProhibited"), "{component}: {host}: {}", response.text());
            let asked = host.trim_matches(['[', ']']);
            server.wait_for_record("the refusal", |record| {
                record["limit"] == "--allow-host" && record["message"].as_str().is_some_and(|text| text.contains(asked))
            });
        }
    }
}

#[test]
fn an_upstream_that_is_not_there_is_an_error_code_for_the_guest() {
    let gone = free_address();
    for component in FAULTS {
        let server = Server::start(component, &["--allow-host", "127.0.0.1"]);
        let response = get(server.address, &format!("/fetch?url=http://{gone}/"));
        assert_eq!(response.status, 502, "{component}");
        assert!(named(&response.text(), "ConnectionRefused"), "{component}: {}", response.text());
    }
}

/// Whether a text has an error-code's name, as one of the bindings of the two versions writes it.
pub fn named(text: &str, name: &str) -> bool {
    let letters = |text: &str| text.replace(['-', '_'], "").to_lowercase();
    letters(text).contains(&letters(name))
}

#[test]
fn a_guest_with_a_directory_waits_and_fetches_as_one_without() -> std::io::Result<()> {
    let upstream = upstream();
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("file"), "content")?;
    for component in FAULTS {
        let dir = format!("{}::/data", folder.path().display());
        let server = Server::start(component, &["--dir", &dir, "--allow-host", "127.0.0.1"]);
        assert_eq!(get(server.address, "/sleep?ms=50").text(), "slept", "{component}");
        let fetched = get(server.address, &format!("/fetch?url=http://{upstream}/"));
        assert_eq!(fetched.header("x-upstream-status"), Some("203"), "{component}: {}", fetched.text());
        assert_eq!(get(server.address, "/read?path=/data/file").text(), "content", "{component}");
        assert_ne!(get(server.address, "/connect?addr=127.0.0.1:9").status, 200, "{component}: nothing grants sockets");
        assert_eq!(get(server.address, "/hello").status, 200, "{component}");
    }
    Ok(())
}

#[test]
fn times_of_a_file_are_set_where_writing_was_granted_and_nowhere_else() -> std::io::Result<()> {
    for component in FAULTS {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("file");
        fs::write(&file, "content")?;
        let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (grant, status) in [("", 403), (":rw", 200)] {
            fs::File::options().write(true).open(&file)?.set_modified(long_ago)?;
            let dir = format!("{}::/data{grant}", folder.path().display());
            let server = Server::start(component, &["--dir", &dir]);
            let touched = get(server.address, "/touch?path=/data/file");
            assert_eq!(touched.status, status, "{component}{grant}: {}", touched.text());
            assert_eq!(fs::metadata(&file)?.modified()? > long_ago, status == 200, "{component}{grant}");
        }
    }
    Ok(())
}
