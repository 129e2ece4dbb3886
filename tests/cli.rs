//! The command line, the variables that stand for it, and the log.

use std::net::TcpListener;

use serde_json::Value;
use tokio_rustls::rustls::{ClientConfig, version};

use crate::support::apps::{Folder, app, ask_until_loaded};
use crate::support::http2::Http2;
use crate::support::tls::{Authority, TlsClient};
use crate::support::{Connection, FAULTS, Finished, Server, TestResult, command, eventually, get, guest, run};

#[track_caller]
fn run_with(arguments: &[&str]) -> Finished {
    let mut command = command();
    command.args(arguments);
    run(command)
}

/// What the help says of each flag: its first word (`--workers`), its group, and its text on one line.
fn flags_in(help: &str) -> Vec<(String, String, String)> {
    let mut group = String::new();
    let mut flags: Vec<(String, String, String)> = Vec::new();
    for line in help.lines() {
        let words = line.trim();
        match (line.starts_with(' '), flags.last_mut()) {
            (false, _) => group = words.trim_end_matches(':').to_owned(),
            (true, _) if words.starts_with("--") => {
                let name = words.split_whitespace().next().unwrap_or_default();
                flags.push((name.to_owned(), group.clone(), words.to_owned()));
            }
            (true, Some((_, of, text))) if *of == group => {
                text.push(' ');
                text.push_str(words);
            }
            (true, _) => {}
        }
    }
    flags
}

#[test]
fn help_is_grouped_and_each_flag_has_its_default_with_a_unit() {
    let help = run_with(&["--help"]);
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    let flags = flags_in(&help.stdout);
    for group in ["Serving", "TLS", "Limits", "Grants (nothing is granted by default)", "Output", "Compilation"] {
        assert!(flags.iter().filter(|(_, of, _)| of == group).count() >= 4, "{group}:\n{}", help.stdout);
    }
    // Lists are empty, switches are off, and there is no admin page, unless asked for.
    let unset = [
        "--env",
        "--env-file",
        "--arg",
        "--dir",
        "--allow-host",
        "--ca-file",
        "--trust-proxy",
        "--access-log",
        "--admin",
        "--admin-host",
        "--admin-token",
        "--crash-dir",
        "--otlp",
        "--otlp-header",
        "--otlp-ca-file",
        "--crash-hide",
        "--crash-query",
        "--probe-body",
        "--watch",
        "--config-value",
        "--secret",
        "--store",
        "--sqlite",
        "--proxy-protocol",
        "--static",
        "--tls-cert",
        "--tls-key",
        "--tls-ocsp",
        "--tls-client-ca",
        "--tls-acme",
        "--tls-acme-agree-to-terms",
        "--tls-acme-contact",
        "--tls-acme-ca-file",
        "--https-redirect",
        "--hsts",
    ];
    for (name, group, text) in &flags {
        assert!(!group.is_empty() && !group.starts_with("Options"), "{name} is in no group");
        let default = text.split_once("[default: ").map(|(_, rest)| rest.split(']').next().unwrap_or_default());
        assert_eq!(default.is_none(), unset.contains(&name.as_str()), "{name}: {text}");
        let Some(default) = default.filter(|default| *default != "none") else { continue };
        let units: &[&str] = match text {
            text if text.contains("<TIME>") => &["ms", "s", "m"],
            text if text.contains("<SIZE>") => &["B", "% of the smaller of RAM and cgroup limit"],
            _ => continue,
        };
        assert!(units.iter().any(|unit| default.ends_with(unit)), "{name} has a default without a unit: {default}");
    }
    for named in ["SIGTERM", "SIGHUP", "Exit codes", "WASMHOST_", "runs outside the sandbox"] {
        let words = help.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(named), "the help says nothing of {named}");
    }
}

#[test]
fn version_and_completions_are_printed() {
    let version = run_with(&["--version"]);
    assert!(version.code == Some(0) && version.stdout.starts_with("wasmhost 0."), "{version:?}");
    for (shell, word) in [("bash", "_wasmhost()"), ("zsh", "#compdef wasmhost"), ("fish", "complete -c wasmhost")] {
        let script = run_with(&["completions", shell]);
        assert!(script.code == Some(0) && script.stdout.contains(word), "{shell}: {}", script.stderr);
        assert!(script.stdout.contains("cpu-limit"), "{shell} knows no flags");
    }
}

#[test]
fn all_mistakes_are_told_at_once_with_exit_code_2() {
    let component = guest("hello.wasm");
    let wrong = [
        "--workers=none",
        "--cpu-limit=0",
        "--balance=fair",
        "--header-max=1",
        "--memory-max=big",
        "--body-max=0",
        "--max-connections-per-client=few",
        "--env=NAME",
        "--listen=nowhere",
        "--log-format=xml",
    ];
    let mut arguments = vec![component.as_str(), "--no-such-flag", "--wrokers=2"];
    arguments.extend(wrong);
    let finished = run_with(&arguments);
    assert_eq!(finished.code, Some(2), "{}", finished.stderr);
    let errors = finished.lines("error: ");
    assert_eq!(errors.len(), wrong.len() + 2, "one line each:\n{}", finished.stderr);
    for flag in wrong.into_iter().filter_map(|flag| flag.split_once('=')) {
        assert!(
            errors.iter().any(|error| error.contains(flag.0) && error.contains(flag.1)),
            "{flag:?} in:\n{}",
            finished.stderr
        );
    }
    for flag in ["--no-such-flag", "--wrokers"] {
        assert!(errors.iter().any(|error| error.contains(flag)), "{flag} in:\n{}", finished.stderr);
    }
    assert_eq!(finished.lines("hint: ").len(), 1);
}

#[test]
fn the_help_of_compile_says_that_its_result_is_not_sandboxed() {
    let help = run_with(&["compile", "--help"]);
    let words = help.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("Native code runs outside the sandbox"), "{}", help.stdout);
}

#[test]
fn wrong_lines_of_a_file_of_variables_are_named_with_file_and_line() -> TestResult {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("app.env");
    std::fs::write(&file, "A=1\nB\n# a comment\nC='open\n")?;
    let (file, missing) = (file.display().to_string(), dir.path().join("missing.env").display().to_string());
    let folder = dir.path().display().to_string();
    let component = guest("hello.wasm");
    let flags = [&component, "--env-file", &file, "--env-file", &missing, "--env-file", &folder];
    let finished = run_with(&flags);
    assert_eq!(finished.code, Some(2), "{}", finished.stderr);
    let errors = finished.lines("error: ");
    assert_eq!(errors.len(), 4, "{}", finished.stderr);
    for (error, words) in errors.iter().zip([
        [&*format!("--env-file `{file}:2`"), "NAME=VALUE"],
        [&*format!("--env-file `{file}:4`"), "not closed"],
        [&*format!("--env-file `{missing}`"), "No such file"],
        [&*format!("--env-file `{folder}`"), "not a regular file"],
    ]) {
        assert!(words.iter().all(|word| error.contains(word)), "{words:?} in {error}");
    }
    Ok(())
}

#[test]
fn wrong_usage_is_told_before_the_component_is_looked_at() {
    for arguments in [
        &["missing.wasm", "--workers", "0"][..],
        &[],
        &["compile", "missing.wasm"],
        &["compile", "a", "-o", "b", "--compile-timeout", "x"],
        &["completions", "tcsh2"],
    ] {
        let finished = run_with(arguments);
        assert!(
            finished.code == Some(2) && !finished.lines("error: ").is_empty(),
            "{arguments:?}: {}",
            finished.stderr
        );
    }
}

#[test]
fn variables_stand_for_flags_and_flags_win() -> TestResult {
    let mut command = command();
    command.arg(guest("faults.wasm")).envs([
        ("WASMHOST_WORKERS", "3"),
        ("WASMHOST_LISTEN", "127.0.0.1:0"),
        ("WASMHOST_ENV", "A=1\nB=two words"),
    ]);
    command.envs([("WASMHOST_ADMIN", "127.0.0.1:0"), ("WASMHOST_LOG_FORMAT", "json"), ("WASMHOST_CPU_LIMIT", "7s")]);
    let server = Server::spawn(command);
    assert_eq!(server.status()["workers"].as_array().map(Vec::len), Some(3));
    assert_eq!(get(server.address, "/env").text().lines().collect::<Vec<_>>(), ["A=1", "B=two words"]);

    let mut command = self::command();
    command
        .arg(guest("hello.wasm"))
        .args(["--workers=1", "--admin=127.0.0.1:0", "--listen=127.0.0.1:0"])
        .env("WASMHOST_WORKERS", "3");
    assert_eq!(Server::spawn(command).status()["workers"].as_array().map(Vec::len), Some(1));

    let mut command = self::command();
    command.arg(guest("hello.wasm")).env("WASMHOST_WORKERS", "many").env("WASMHOST_ACCESS_LOG", "true");
    let finished = run(command);
    assert!(finished.code == Some(2) && finished.stderr.contains("WASMHOST_WORKERS `many`"), "{}", finished.stderr);
    Ok(())
}

#[test]
fn the_listening_line_tells_port_workers_and_isolation_in_text_and_in_json() {
    let mut command = command();
    command.arg(guest("hello.wasm")).args(["--listen", "127.0.0.1:0", "--workers", "2"]);
    let server = Server::spawn(command);
    let lines = server.lines();
    let line = lines.iter().find(|line| line.contains("listening on ")).expect("the line");
    for part in [&format!("http://127.0.0.1:{} ", server.address.port()), "workers=2", "isolation=\"worker\""] {
        assert!(server.address.port() != 0 && line.contains(part), "no {part} in {line}");
    }
    assert!(!line.contains('\u{1b}'), "no colours where there is no terminal: {line}");

    let server = Server::start("hello-p3.wasm", &[]);
    let record = server.wait_for_record("listening", |record| {
        record["message"].as_str().is_some_and(|text| text.starts_with("listening on"))
    });
    assert_eq!(
        (&record["workers"], &record["isolation"], &record["wasi"]),
        (&2.into(), &"worker".into(), &"0.3".into())
    );
}

/// The component with a producers section that names ComponentizeJS, as its components have it.
fn as_javascript(component: &str) -> std::io::Result<Vec<u8>> {
    let mut bytes = std::fs::read(component)?;
    let section = b"\x09producers\x01\x0cprocessed-by\x01\x0eComponentizeJS\x060.19.3";
    bytes.extend([0, u8::try_from(section.len()).unwrap_or(u8::MAX)]);
    bytes.extend(section);
    Ok(bytes)
}

#[test]
fn isolation_is_worker_or_request_for_guests_that_do_not_bear_reuse_or_as_asked() -> TestResult {
    let dir = tempfile::tempdir()?;
    let javascript = dir.path().join("javascript.wasm");
    std::fs::write(&javascript, as_javascript(&guest("faults.wasm"))?)?;
    let javascript = javascript.to_str().ok_or("a path in UTF-8")?;
    let faults = guest("faults.wasm");
    for (component, asked, given) in [
        (&*faults, "auto", "worker"),
        (javascript, "auto", "request"),
        (javascript, "worker", "worker"),
        (&*faults, "request", "request"),
    ] {
        let server = Server::start(component, &["--isolation", asked]);
        assert_eq!(server.status()["isolation"], given, "{component} {asked}");
        let mut connection = Connection::open(server.address);
        let counts = [connection.get("/count").text(), connection.get("/count").text()];
        let counts = counts.each_ref().map(|count| count.trim());
        assert_eq!(counts, if given == "worker" { ["1", "2"] } else { ["1", "1"] }, "{component} {asked}");
    }
    Ok(())
}

fn of_target<'a>(target: &'a str) -> impl Fn(&Value) -> bool + 'a {
    move |record| record["target"] == target
}

#[test]
fn every_line_of_the_json_log_is_an_object_with_time_level_and_message() {
    let mut server = Server::start("faults.wasm", &["--access-log"]);
    get(server.address, "/trap");
    get(server.address, "/log");
    server.signal("TERM");
    server.wait_for_exit();
    eventually("the log ends", || server.lines().last().is_some_and(|line| line == "<end of the log>"));
    let lines = server.lines();
    let records = &lines[..lines.len() - 1];
    assert!(records.len() >= 10, "{records:?}");
    for line in records {
        let record: Value = serde_json::from_str(line).unwrap_or_default();
        let texts = ["timestamp", "level", "message"].map(|field| record[field].is_string());
        assert_eq!(texts, [true; 3], "{line}");
    }
}

#[test]
fn the_access_log_has_a_line_for_each_request_and_guest_lines_name_it() {
    for component in FAULTS {
        let server = Server::start(component, &["--access-log"]);
        let mut connection = Connection::open(server.address);
        assert_eq!(connection.get("/log?lines=2&bytes=3").text(), "logged");
        assert_eq!(connection.get("/status?code=404").status, 404);
        let record = server.wait_for_record("the first request", |record| record["path"] == "/log?lines=2&bytes=3");
        assert_eq!(
            (&record["target"], &record["method"], &record["status"], &record["bytes"], &record["ending"]),
            (&"access".into(), &"GET".into(), &200.into(), &6.into(), &"whole".into())
        );
        for number in ["worker", "request", "cpu_us", "elapsed_ms"] {
            assert!(record[number].is_number(), "{number} in {record}");
        }
        assert_eq!(
            record["peer"].as_str(),
            connection.stream.local_addr().ok().map(|peer| peer.to_string()).as_deref()
        );
        server.wait_for_record("the second request", |record| record["target"] == "access" && record["status"] == 404);

        let lines = server.records(of_target("guest"));
        let of_stream = |stream: &str| {
            lines
                .iter()
                .filter(|line| line["stream"] == stream)
                .map(|line| line["message"].as_str().unwrap_or_default().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            (of_stream("stdout"), of_stream("stderr")),
            (
                vec!["out 0 xxx".to_owned(), "out 1 xxx".to_owned()],
                vec!["err 0 xxx".to_owned(), "err 1 xxx".to_owned()]
            ),
            "{component}"
        );
        for line in &lines {
            assert_eq!((&line["worker"], &line["request"]), (&record["worker"], &record["request"]), "{component}");
        }
    }
}

#[test]
fn access_lines_name_what_the_client_speaks() -> TestResult {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new();
    let files = authority.server(folder.path(), "a", &["a.test"], 30);
    for (kind, group) in [("thread", ""), ("process", ""), ("process", "group = \"one\"")] {
        let settings = Folder::new(&format!(
            "worker-kind = \"{kind}\"\naccess-log = true\n[[listener]]\nlisten = \"127.0.0.2:0\"\n\
             [[listener]]\nlisten = \"127.0.0.1:0\"\ntls = {{ cert = \"{}\", key = \"{}\" }}\n{}",
            files.cert.display(),
            files.key.display(),
            app("app", "faults.wasm", "*", group)
        ))?;
        let mut command = command();
        command.arg("-c").arg(settings.file()).args(["--log-format", "json", "--admin", "127.0.0.1:0"]);
        command.env_remove("WASMHOST_WORKER_KIND");
        let server = Server::spawn(command);
        let [plain, encrypted] = server.addresses()[..] else { return Err("two addresses".into()) };
        ask_until_loaded(plain, "test", "/hello");
        let mut old = Connection::open(plain);
        old.send("GET /hello?1 HTTP/1.0\r\nHost: test\r\n\r\n");
        assert_eq!(old.response().status, 200);
        assert_eq!(get(plain, "/hello?2").status, 200);
        assert_eq!(Http2::open(plain).get("/hello?3").status, 200);
        let of = |version| authority.trusted(&[version], None);
        let mut client = TlsClient::open(encrypted, &of(&version::TLS12), "a.test")?;
        assert_eq!(client.get("/hello?4", "")?.status, 200);
        let config = ClientConfig::clone(&of(&version::TLS13));
        assert_eq!(Http2::open_tls(encrypted, config, "a.test")?.get("/hello?5").status, 200);
        for (path, protocol, tls) in [
            ("/hello?1", "HTTP/1.0", None),
            ("/hello?2", "HTTP/1.1", None),
            ("/hello?3", "HTTP/2.0", None),
            ("/hello?4", "HTTP/1.1", Some("1.2")),
            ("/hello?5", "HTTP/2.0", Some("1.3")),
        ] {
            let line = server.wait_for_record(path, |record| record["target"] == "access" && record["path"] == path);
            assert_eq!((&line["protocol"], line["tls"].as_str()), (&protocol.into(), tls), "{kind} {group:?}: {line}");
        }
    }
    Ok(())
}

#[test]
fn without_the_flag_no_request_is_logged() {
    let server = Server::start("faults.wasm", &[]);
    get(server.address, "/log");
    server.wait_for_record("a line of the guest", of_target("guest"));
    assert_eq!(get(server.address, "/hello").status, 200);
    assert_eq!(server.records(of_target("access")).len(), 0);
}

#[test]
fn guest_output_is_limited_in_rate_and_what_is_left_out_is_counted() {
    for component in FAULTS {
        let server = Server::start(component, &[]);
        let mut connection = Connection::open(server.address);
        assert_eq!(connection.get("/log?lines=5000&bytes=10").text(), "logged");
        let mut asked = 0;
        let left_out = |record: &Value| record["message"].as_str().is_some_and(|text| text.contains("left out"));
        eventually("a notice of what was left out", || {
            asked += 2;
            connection.get("/log?lines=1");
            !server.records(left_out).is_empty()
        });
        server.wait_for_record("a line after the notice", |record| {
            record["target"] == "guest" && record["message"] == "err 0 xxxx"
        });
        let logged = server.records(of_target("guest")).len();
        let counted: u64 = server.records(left_out).iter().filter_map(|record| record["lines"].as_u64()).sum();
        let written = 10_000 + asked;
        assert!((1_000..5_000).contains(&logged), "{component}: {logged} of {written} lines were logged");
        assert!(
            counted >= 5_000 && counted + 1_000 <= written,
            "{component}: {counted} of {written} lines were left out"
        );
    }
}

#[test]
fn a_port_in_use_is_an_error_with_a_hint() -> TestResult {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    for balance in ["round-robin", "kernel"] {
        let finished = run_with(&[&guest("hello.wasm"), "--listen", &address, "--balance", balance]);
        assert_eq!(finished.code, Some(1), "{}", finished.stderr);
        assert!(
            finished.lines("error: ").len() == 1 && finished.lines("error: ")[0].contains(&address),
            "{}",
            finished.stderr
        );
        assert_eq!(finished.lines("hint: ").len(), 1, "{}", finished.stderr);
    }
    Ok(())
}

/// Runs the command, which ends with code 1, one error that has `word`, and one hint.
#[track_caller]
fn failed_for(arguments: &[&str], word: &str) {
    let finished = run_with(arguments);
    let (errors, hints) = (finished.lines("error: "), finished.lines("hint: "));
    assert!(finished.code == Some(1) && errors.len() == 1 && hints.len() == 1, "{arguments:?}: {}", finished.stderr);
    assert!(errors[0].contains(word), "{arguments:?}: no `{word}` in: {}", errors[0]);
}

#[test]
fn an_admin_address_in_use_is_an_error_with_a_hint() -> TestResult {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    failed_for(&[&guest("hello.wasm"), "--listen", "127.0.0.1:0", "--admin", &address], &address);
    Ok(())
}

#[test]
fn a_unix_socket_that_cannot_be_made_is_an_error_with_a_hint() -> TestResult {
    let dir = tempfile::tempdir()?;
    let long = format!("unix:{}", dir.path().join("x".repeat(108)).display());
    let nowhere = format!("unix:{}", dir.path().join("no/socket").display());
    for flag in ["--listen", "--admin"] {
        let other = if flag == "--admin" { "--listen" } else { "--admin" };
        for address in [&long, &nowhere] {
            failed_for(&[&guest("hello.wasm"), other, "127.0.0.1:0", flag, address], address);
        }
    }
    assert_eq!(std::fs::read_dir(dir.path())?.count(), 0);
    Ok(())
}

#[test(needs(Ipv6))]
fn an_address_of_ipv6_is_served() {
    for balance in ["round-robin", "kernel"] {
        let server = Server::start("faults.wasm", &["--listen", "[::1]:0", "--balance", balance]);
        assert!(server.address.is_ipv6() && server.address.port() != 0, "{}", server.address);
        let mut connection = Connection::open(server.address);
        // Without a `Host`, the authority is the host's own address.
        connection.send("GET /request HTTP/1.0\r\n\r\n");
        let text = connection.response().text();
        assert!(text.lines().any(|line| line == format!("authority: {}", server.address)), "{balance}:\n{text}");
    }
}

#[test]
fn a_pipe_is_no_file_of_certificates_and_does_not_hold_up_the_start() -> TestResult {
    let dir = tempfile::tempdir()?;
    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status()?.success());
    let finished = run_with(&[&guest("hello.wasm"), "--ca-file", pipe.to_str().ok_or("a path in UTF-8")?]);
    assert_eq!(finished.code, Some(2), "{}", finished.stderr);
    assert!(finished.stderr.contains("is not a regular file"), "{}", finished.stderr);
    Ok(())
}

#[test]
fn a_variable_that_the_hosts_own_compiler_gets_changes_nothing_for_a_user() -> TestResult {
    let dir = tempfile::tempdir()?;
    let output = dir.path().join("hello.cwasm");
    let mut command = command();
    command.args(["compile", &guest("hello.wasm"), "-o"]).arg(&output).env("WASMHOST_COMPILE_CHILD", "auto");
    let finished = run(command);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert!(finished.stdout.is_empty() && output.exists());
    Ok(())
}
