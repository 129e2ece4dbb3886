//! `wasmhost top`, on pseudo-terminals whose screens are read, and as JSON.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::apps::{Folder, app, ask_until_loaded};
use crate::support::pty::{CONTROLLING, Terminal, differences};
use crate::support::server::{self, signal, status_field, within};
use crate::support::{Connection, Finished, Server, TestResult, command, eventually, get, guest, message, run};

/// Sets where a command looks for hosts, and what its terminal is like.
fn at(mut command: Command, runtime: &Path) -> Command {
    command.env("XDG_RUNTIME_DIR", runtime).env("TMPDIR", runtime).env_remove("RUNTIME_DIRECTORY");
    command.env("TERM", "xterm-256color").env("LC_ALL", "C.UTF-8").env_remove("NO_COLOR").env_remove("COLUMNS");
    command
}

/// `wasmhost top` with these words, for a terminal.
fn top(runtime: &Path, words: &[&str]) -> Command {
    let mut command = within(&CONTROLLING);
    command.arg("top").args(words);
    at(command, runtime)
}

fn ask(runtime: &Path, words: &[&str]) -> Finished {
    let mut asks = command();
    asks.args(words);
    run(at(asks, runtime))
}

/// A host of two apps with its control socket in this directory. The second app cannot be loaded, and its error has what
/// moves cursors.
fn host(runtime: &Path) -> Result<(Folder, Server), Box<dyn std::error::Error>> {
    let broken = "[[app]]\nname = \"broken\"\ncomponent = \"/no/su\\u001b[2Jch.wasm\"\nroutes = [\"broken.test/*\"]\n";
    let folder = Folder::new(&(app("shop", "faults.wasm", "shop.test/*", "") + broken))?;
    let server = serve(&folder, runtime);
    assert_eq!(ask_until_loaded(server.address, "shop.test", "/status?code=201").status, 201);
    Ok((folder, server))
}

fn serve(folder: &Folder, runtime: &Path) -> Server {
    let mut command = folder.command(&[]);
    command.env("XDG_RUNTIME_DIR", runtime).env("WASMHOST_CONTROL", runtime.join("wasmhost/shop.sock"));
    command.env_remove("RUNTIME_DIRECTORY");
    Server::spawn(command)
}

/// A directory for control sockets.
fn runtime() -> std::io::Result<tempfile::TempDir> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let dir = tempfile::tempdir()?;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700))?;
    std::fs::DirBuilder::new().mode(0o700).create(dir.path().join("wasmhost"))?;
    Ok(dir)
}

/// The row of a table that begins with this name.
fn row<'a>(lines: &'a [String], name: &str) -> Option<Vec<&'a str>> {
    let cells = |line: &'a String| line.trim_start_matches(['>', ' ']).split_whitespace().collect::<Vec<_>>();
    lines.iter().map(cells).find(|cells| cells.first() == Some(&name))
}

#[test]
fn the_screen_shows_hosts_workers_and_apps_as_they_are() -> TestResult {
    let runtime = runtime()?;
    let (_folder, server) = host(runtime.path())?;
    let before = Terminal::open(Command::new("true"), 80, 24).settings();
    let mut screen = Terminal::open(top(runtime.path(), &["--interval", "200ms"]), 80, 24);
    screen.shows("running, up ");
    assert_eq!(screen.is_taken(), (true, true));
    assert!(!differences(&before, &screen.settings()).is_empty(), "it is raw");
    let lines = screen.lines();
    assert!(
        lines[0].starts_with("shop: running, up ") && lines[0].contains(&format!("process {}", server.pid())),
        "{lines:#?}"
    );
    assert_eq!(row(&lines, "1").ok_or("a row")?[1], "listening", "{lines:#?}");
    assert_eq!(row(&lines, "shop").ok_or("a row")?[1], "awake", "{lines:#?}");
    assert_eq!(row(&lines, "broken").ok_or("a row")?[1], "failed", "{lines:#?}");
    // Requests: a rate and times that are there while they come, and only then.
    let of_shop = |screen: &Terminal, column: usize| {
        row(&screen.lines(), "shop").and_then(|row| row.get(column).map(|cell| (*cell).to_owned())).unwrap_or_default()
    };
    // APP STATE UP BUSY WAIT REQ/S P50 P99
    eventually("there are none", || of_shop(&screen, 5) == "0" && of_shop(&screen, 7) == "-");
    let began = Instant::now();
    let mut is_seen = false;
    while !is_seen {
        assert!(began.elapsed() < Duration::from_secs(20), "{:#?}", screen.lines());
        assert_eq!(ask_until_loaded(server.address, "shop.test", "/status?code=201").status, 201);
        is_seen = of_shop(&screen, 5).parse::<f64>().is_ok_and(|rate| rate > 1.0) && of_shop(&screen, 7).ends_with('s');
    }
    assert!(screen.lines()[1].contains(['▁', '▄', '█']), "{:#?}", screen.lines());
    eventually("it is quiet again", || of_shop(&screen, 5) == "0" && of_shop(&screen, 7) == "-");
    // One that is in flight.
    let mut slow = Connection::open(server.address);
    slow.send("GET /sleep?ms=1500 HTTP/1.1\r\nHost: shop.test\r\n\r\n");
    eventually("it is seen", || of_shop(&screen, 3) == "1");
    assert!(screen.has(" busy 1"), "{:#?}", screen.lines());
    assert_eq!(slow.response().text(), "slept");
    // A fault, with its kind and message.
    assert_eq!(ask_until_loaded(server.address, "shop.test", "/panic").status, 500);
    screen.shows("faults: trap 1");
    screen.shows(" UTC, shop on worker ");
    // Nothing of others' texts is a command of the terminal.
    screen.press("j");
    screen.shows("error: ");
    assert!(screen.has("su\\u{1b}[2Jch.wasm"), "{:#?}", screen.lines());
    screen.press("q");
    assert_eq!(screen.wait_for_exit().code(), Some(0));
    eventually("the terminal is as it was", || screen.is_taken() == (false, false));
    assert_eq!(differences(&before, &screen.settings()), Vec::<String>::new());
    Ok(())
}

#[test]
fn every_terminal_gets_what_it_can_show() -> TestResult {
    let runtime = runtime()?;
    let (_folder, _server) = host(runtime.path())?;
    let is_coloured =
        |cell: &vt100::Cell| cell.fgcolor() != vt100::Color::Default || cell.bgcolor() != vt100::Color::Default;
    for (name, term, no_color, has_colours) in [
        ("colours", "xterm-256color", "", true),
        ("linux", "linux", "", true),
        ("NO_COLOR", "xterm-256color", "1", false),
        ("vt220", "vt220", "", false),
    ] {
        let mut command = top(runtime.path(), &["--interval", "100ms"]);
        command.env("TERM", term).env("NO_COLOR", no_color);
        let mut screen = Terminal::open(command, 80, 24);
        screen.shows("broken ");
        assert_eq!(screen.any_cell(is_coloured), has_colours, "{name}");
        assert!(screen.any_cell(|cell| cell.inverse() && cell.contents() == ">"), "{name}: the selected row");
        assert!(!screen.any_cell(|cell| is_coloured(cell) && cell.inverse()), "{name}");
        if term == "linux" {
            assert!(screen.written().is_ascii(), "{name}");
        }
        // Sizes, small and large, also while it runs.
        for (columns, rows) in [(40, 10), (200, 50), (20, 4), (80, 24)] {
            screen.resize(columns, rows);
            screen.shows_such(&format!("{columns}x{rows}"), |lines| {
                let last = lines.iter().rev().find(|line| !line.is_empty());
                let is_whole = last.is_some_and(|line| line.contains("q end") || columns < 40);
                lines.len() == usize::from(rows) && is_whole && lines[0].starts_with("shop")
            });
        }
        screen.press("\u{3}");
        assert_eq!(screen.wait_for_exit().code(), Some(0), "{name}");
    }
    Ok(())
}

#[test]
fn a_key_that_is_pressed_while_the_window_changes_its_size_is_not_lost() -> TestResult {
    let runtime = runtime()?;
    let (_folder, _server) = host(runtime.path())?;
    let mut screen = Terminal::open(top(runtime.path(), &["--interval", "100ms"]), 80, 24);
    screen.shows("broken ");
    for round in 0..100_u16 {
        screen.resize(80 + round % 2, 24);
        screen.press("h");
        screen.shows("select a row");
        screen.resize(80 + (round + 1) % 2, 24);
        // Any key leads back.
        screen.press("h");
        screen.shows("broken ");
    }
    screen.press("q");
    assert_eq!(screen.wait_for_exit().code(), Some(0));
    Ok(())
}

#[test]
fn a_screen_on_which_little_changes_takes_few_bytes() -> TestResult {
    let runtime = runtime()?;
    let (_folder, _server) = host(runtime.path())?;
    let screen = Terminal::open(top(runtime.path(), &["--interval", "200ms"]), 80, 24);
    screen.shows("broken ");
    let whole = screen.written().len();
    std::thread::sleep(Duration::from_millis(600));
    let before = screen.written().len();
    assert!(before > 1_000, "the first drawing: {whole}, {before}");
    let began = Instant::now();
    std::thread::sleep(Duration::from_secs(2));
    let bytes = screen.written().len() - before;
    let drawings = began.elapsed().as_millis() / 200 + 1;
    assert!(bytes > 0 && bytes as u128 <= 100 * drawings, "{bytes} bytes in {drawings} drawings");
    Ok(())
}

#[test]
fn keys_order_filter_reload_and_restart() -> TestResult {
    let runtime = runtime()?;
    let (folder, server) = host(runtime.path())?;
    let mut screen = Terminal::open(top(runtime.path(), &["shop", "--interval", "100ms"]), 80, 24);
    let first = |screen: &Terminal| {
        let lines = screen.lines();
        let head = lines.iter().position(|line| line.starts_with(" APP"));
        head.and_then(|head| lines.get(head + 1)).and_then(|line| line[1..].split(' ').next().map(str::to_owned))
    };
    screen.shows("by REQ/S");
    screen.press("<<<<<");
    screen.shows("by APP");
    eventually("by name", || first(&screen).as_deref() == Some("broken"));
    screen.press("i");
    screen.shows("by APP (i)");
    eventually("the other way round", || first(&screen).as_deref() == Some("shop"));
    screen.press("/bro\r");
    screen.shows("filter: bro");
    eventually("the filter hides one", || {
        row(&screen.lines(), "shop").is_none() && first(&screen).as_deref() == Some("broken")
    });
    // Escape leaves it.
    screen.press("\u{1b}");
    eventually("the filter is left", || row(&screen.lines(), "shop").is_some());
    // A question is answered before anything is done.
    let reloads = || server.records(|record| message(record).starts_with("reload: reading")).len();
    screen.press("r");
    screen.shows("reload the host? y n");
    screen.press("n");
    screen.shows("by APP");
    assert_eq!(reloads(), 0);
    folder.write(&app("shop", "faults.wasm", "shop.test/*", ""))?;
    screen.press("ry");
    screen.shows("shop: reloaded");
    assert_eq!(reloads(), 1);
    eventually("the app is gone", || row(&screen.lines(), "broken").is_none());
    // The selected worker.
    screen.press("2j");
    eventually("the second is selected", || screen.lines().iter().any(|line| line.starts_with(">2 ")));
    screen.press("x");
    screen.shows("restart worker 2?");
    screen.press("y");
    screen.shows("shop: restarted 2");
    let starts = |worker: usize| server.status()["workers"][worker]["thread_generation"].clone();
    assert_eq!((starts(0), starts(1)), (1.into(), 2.into()));
    screen.shows("started 2x");
    screen.press("h");
    screen.shows("reload the host");
    screen.press("h\r");
    screen.shows("-- worker 2");
    screen.press(" ");
    screen.shows("PAUSED");
    assert_eq!(get(server.address, "/").status, 404);
    screen.press("q");
    assert_eq!(screen.wait_for_exit().code(), Some(0));
    Ok(())
}

#[test]
fn keys_change_the_number_of_workers_and_the_memory_of_their_processes_is_shown() -> TestResult {
    for kind in ["thread", "process"] {
        let runtime = runtime()?;
        let settings = format!("worker-kind = \"{kind}\"\nworkers-max = 3\n");
        let folder = Folder::new(&(settings + &app("shop", "faults.wasm", "shop.test/*", "")))?;
        let server = serve(&folder, runtime.path());
        assert_eq!(ask_until_loaded(server.address, "shop.test", "/status?code=201").status, 201);
        let wanted = || {
            let status = server.status();
            let workers = status["workers"].as_array().expect("workers").clone();
            workers.iter().filter(|worker| worker["state"] == "listening").count()
        };
        let mut screen = Terminal::open(top(runtime.path(), &["--interval", "100ms"]), 160, 30);
        screen.shows("running, up ");
        screen.press("+");
        screen.shows("scale to 3 workers? Clients lose no request. y n");
        screen.press("n");
        screen.shows("+- scale");
        assert_eq!(wanted(), 2, "{kind}");
        screen.press("+y");
        screen.shows("shop: 3 workers, started 3");
        assert_eq!(wanted(), 3, "{kind}");
        // More than there may be.
        eventually("it is seen", || row(&screen.lines(), "3").is_some_and(|row| row[1] == "listening"));
        screen.press("+y");
        screen.shows("not scaling: ");
        screen.press("-y");
        screen.shows("shop: 2 workers, ended 3");
        assert_eq!(wanted(), 2, "{kind}");
        // RAM is known of processes; of threads, of the host that they are of.
        let sample = ask(runtime.path(), &["top", "--json", "--interval", "100ms"]);
        let sample: Value = serde_json::from_str(&sample.stdout)?;
        let host = &sample["hosts"][0];
        let resident = |of: &Value| of["resident_bytes"].as_u64();
        let of_worker = resident(&host["workers"][0]);
        // (The variable of a run of all tests counts more than the file.)
        let is_process = !server.worker_pids().is_empty();
        assert!(is_process || kind == "thread");
        assert_eq!(of_worker.is_some_and(|bytes| bytes > 1 << 20), is_process, "{host}");
        let own = status_field(server.pid(), "VmRSS:").ok_or("its memory")? * 1_024;
        let seen = server.status()["resident_bytes"].as_u64().unwrap_or(0);
        assert!(own.abs_diff(seen) < 4 << 20, "{kind}: {own} {seen}");
        assert!(resident(host) >= Some(seen / 2 + of_worker.unwrap_or(0)), "{kind}: {host}");
        let shown = ask(runtime.path(), &["status"]);
        assert!(shown.stdout.contains("  MEMORY  RSS"), "{}", shown.stdout);
        let listed = ask(runtime.path(), &["ps"]);
        let ram =
            row(&listed.stdout.lines().map(str::to_owned).collect::<Vec<_>>(), "shop").map(|row| row[7].to_owned());
        assert!(ram.is_some_and(|ram| ram.ends_with('M')), "{}", listed.stdout);
        screen.press("2");
        eventually("the column is there", || screen.has("RSS"));
        screen.press("q");
        assert_eq!(screen.wait_for_exit().code(), Some(0));
    }
    Ok(())
}

#[test]
fn the_terminal_is_as_it_was_however_the_screen_ends() -> TestResult {
    let runtime = runtime()?;
    let (_folder, _server) = host(runtime.path())?;
    let before = Terminal::open(Command::new("true"), 80, 24).settings();
    for name in ["TERM", "INT", "HUP", "QUIT"] {
        let mut screen = Terminal::open(top(runtime.path(), &[]), 80, 24);
        screen.shows("broken ");
        signal(screen.pid(), name);
        assert_eq!(screen.wait_for_exit().code(), Some(0), "{name}");
        eventually("the terminal is as it was", || screen.is_taken() == (false, false));
        assert_eq!(differences(&before, &screen.settings()), Vec::<String>::new(), "{name}");
    }
    Ok(())
}

#[test(needs(FaultInjection))]
fn a_panic_gives_the_terminal_back_before_it_is_told() -> TestResult {
    let runtime = runtime()?;
    let (_folder, _server) = host(runtime.path())?;
    let before = Terminal::open(Command::new("true"), 80, 24).settings();
    let mut command = top(runtime.path(), &[]);
    command.env("WASMHOST_INJECT", "screen").env("RUST_BACKTRACE", "0");
    let mut screen = Terminal::open(command, 80, 24);
    assert_eq!(screen.wait_for_exit().code(), Some(101));
    screen.shows("injected: screen");
    assert_eq!(screen.is_taken(), (false, false));
    assert_eq!(differences(&before, &screen.settings()), Vec::<String>::new());
    Ok(())
}

#[test]
fn a_shell_gets_the_terminal_back_while_the_screen_is_stopped() -> TestResult {
    let runtime = runtime()?;
    let (_folder, _server) = host(runtime.path())?;
    let mut shell = Command::new(CONTROLLING[0]);
    shell.args([CONTROLLING[1], "sh", "-i"]).env("PS1", "ready> ").env_remove("ENV");
    let mut screen = Terminal::open(at(shell, runtime.path()), 80, 24);
    screen.shows("ready>");
    screen.press(&format!("{} top\n", server::binary()));
    screen.shows("broken ");
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", screen.pid()))?;
    let on_screen: u32 = children.trim().parse()?;
    for (stop, sum) in [("\u{1a}", 22), ("kill", 23)] {
        if stop == "kill" {
            signal(on_screen, "TSTP");
        } else {
            screen.press(stop);
        }
        // Until it has stopped, it may read what is typed.
        eventually("it is stopped", || server::state(on_screen) == Some('T'));
        eventually("the shell is there", || screen.is_taken() == (false, false));
        screen.press(&format!("echo s$((20+{sum}))s\n"));
        screen.shows(&format!("s{}s", 20 + sum));
        screen.press("fg\n");
        eventually("the screen is there", || screen.is_taken() == (true, true));
        screen.shows("broken ");
    }
    screen.press("q");
    eventually("the shell is there", || screen.is_taken() == (false, false));
    screen.press("echo s$((20+21))s\n");
    screen.shows("s41s");
    screen.press("exit\n");
    screen.wait_for_exit();
    // Without a shell it goes on: nobody could have it go on.
    let mut alone = Terminal::open(top(runtime.path(), &[]), 80, 24);
    alone.shows("broken ");
    alone.press("\u{1a}");
    alone.shows("not stopped: no shell");
    alone.press("q");
    assert_eq!(alone.wait_for_exit().code(), Some(0));
    Ok(())
}

#[test]
fn a_host_that_goes_away_is_shown_as_gone_and_one_that_comes_back_as_it_is() -> TestResult {
    let runtime = runtime()?;
    let (folder, mut server) = host(runtime.path())?;
    let screen = Terminal::open(top(runtime.path(), &["--interval", "200ms"]), 80, 24);
    screen.shows("broken ");
    server.signal("KILL");
    server.wait_for_exit();
    screen.shows("GONE for ");
    assert!(screen.has("is tried again for 30s"), "{:#?}", screen.lines());
    let server = serve(&folder, runtime.path());
    screen.shows(&format!("process {}", server.pid()));
    assert!(!screen.has("GONE"), "{:#?}", screen.lines());
    // One that hangs is shown as such, and keys go on.
    signal(server.pid(), "STOP");
    screen.shows("SILENT for ");
    signal(server.pid(), "CONT");
    eventually("it answers again", || !screen.has("SILENT"));
    Ok(())
}

#[test(needs(FaultInjection))]
fn a_host_that_stays_away_ends_the_screen() -> TestResult {
    let runtime = runtime()?;
    let (_folder, mut server) = host(runtime.path())?;
    let mut command = top(runtime.path(), &["--interval", "100ms"]);
    command.env("WASMHOST_INJECT", "hasty");
    let mut screen = Terminal::open(command, 80, 24);
    screen.shows("broken ");
    server.signal("TERM");
    server.wait_for_exit();
    assert_eq!(screen.wait_for_exit().code(), Some(1));
    screen.shows("error: no host listens on `");
    screen.shows("hint: `wasmhost ps` shows the hosts that run");
    assert_eq!(screen.is_taken(), (false, false));
    Ok(())
}

#[test]
fn several_hosts_are_on_one_screen_and_one_that_starts_appears() -> TestResult {
    let runtime = runtime()?;
    let (_folder, _server) = host(runtime.path())?;
    let mut screen = Terminal::open(top(runtime.path(), &["--interval", "100ms"]), 80, 24);
    screen.shows("broken ");
    assert!(!screen.has("HOST"));
    let mut other = command();
    other.arg(guest("hello.wasm")).args(["--listen", "127.0.0.1:0", "--log-format", "json", "--workers", "1"]);
    other.env("XDG_RUNTIME_DIR", runtime.path()).env("WASMHOST_CONTROL", "auto").env_remove("RUNTIME_DIRECTORY");
    let _other = Server::spawn(other);
    screen.shows(" HOST ");
    // The first by name is there first; the other is chosen by keys.
    screen.press("1");
    eventually("the first is selected", || screen.lines().iter().any(|line| line.starts_with(">hello ")));
    screen.press("j");
    eventually("the other is selected", || screen.lines().iter().any(|line| line.starts_with(">shop ")));
    eventually("its apps are there", || row(&screen.lines(), "broken").is_some());
    screen.press("q");
    assert_eq!(screen.wait_for_exit().code(), Some(0));
    Ok(())
}

/// Answers as a host whose every text has what moves cursors and turns colours on.
fn hostile(listener: &UnixListener) -> std::io::Result<()> {
    const EVIL: &str = r"e\u001b[2J\u001b]0;title\u0007\u009b31m\r\n\u202eevil\u2066";
    loop {
        let (mut stream, _) = listener.accept()?;
        let mut head = [0; 1_000];
        let count = stream.read(&mut head)?;
        let body = if head[..count].starts_with(b"GET /events") {
            format!(
                r#"{{"id":1,"time":"{EVIL}","event":"fault","worker":1,"app":"{EVIL}","fault":"{EVIL}","detail":"{EVIL}"}}"#
            ) + "\n"
        } else {
            format!(
                r#"{{"version":"{EVIL}","pid":7,"phase":"{EVIL}","ready":true,"workers":[{{"worker":1,"group":"{EVIL}","state":"{EVIL}","faults":{{"{EVIL}":1}},"sheds":{{"{EVIL}":1}}}}],"apps":[{{"name":"{EVIL}","state":"{EVIL}","error":"{EVIL}","group":"{EVIL}"}}]}}"#
            )
        };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
    }
}

#[test]
fn texts_of_hosts_and_guests_are_no_commands_of_the_terminal() -> TestResult {
    let runtime = runtime()?;
    let listener = UnixListener::bind(runtime.path().join("wasmhost/bad.sock"))?;
    std::thread::Builder::new().name("no host".to_owned()).spawn(move || hostile(&listener))?;
    let mut screen = Terminal::open(top(runtime.path(), &["--interval", "100ms"]), 160, 40);
    screen.shows("last fault");
    screen.press("2\r");
    screen.shows("-- worker 1");
    screen.press("\r4");
    screen.shows("EVENTS");
    screen.shows("e\\u{1b}[2J");
    let written = String::from_utf8_lossy(&screen.written()).into_owned();
    for evil in ["\u{1b}[2J\u{1b}]", "\u{1b}]", "\u{7}", "\u{9b}", "\u{202e}", "\u{2066}"] {
        assert!(!written.contains(evil), "{evil:?}");
    }
    screen.press("q");
    assert_eq!(screen.wait_for_exit().code(), Some(0));
    let printed = ask(runtime.path(), &["top", "--json", "--interval", "100ms"]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    assert!(printed.stdout.chars().all(|letter| letter == '\n' || !letter.is_control()), "{}", printed.stdout);
    Ok(())
}

#[test]
fn where_no_screen_can_be_shown_the_way_out_is_named() -> TestResult {
    let runtime = runtime()?;
    let (_folder, server) = host(runtime.path())?;
    let piped = ask(runtime.path(), &["top"]);
    assert_eq!((piped.code, piped.stdout.as_str()), (Some(1), ""));
    assert!(
        piped.stderr.contains("is no terminal") && piped.stderr.contains("hint: `wasmhost top --json`"),
        "{}",
        piped.stderr
    );
    for term in ["dumb", ""] {
        let mut command = top(runtime.path(), &[]);
        command.env("TERM", term);
        let mut screen = Terminal::open(command, 160, 24);
        assert_eq!(screen.wait_for_exit().code(), Some(1));
        screen.shows(&format!("TERM is `{term}`"));
    }
    let wrong = ask(runtime.path(), &["top", "--interval", "1ms"]);
    assert!(wrong.code == Some(2) && wrong.stderr.contains("from 100ms to 1h"), "{}", wrong.stderr);
    let unknown = ask(runtime.path(), &["top", "--json", "hallo"]);
    assert_eq!(unknown.stderr.lines().next(), Some("error: no host has the name `hallo`; these run: shop"));
    drop(server);
    let none = ask(runtime.path(), &["top", "--json"]);
    assert_eq!((none.code, none.stderr), (Some(1), ask(runtime.path(), &["status"]).stderr));
    let mut screen = Terminal::open(top(runtime.path(), &[]), 80, 24);
    assert_eq!(screen.wait_for_exit().code(), Some(1));
    screen.shows("error: no host runs");
    assert_eq!(screen.is_taken(), (false, false));
    Ok(())
}

#[test]
fn programs_get_samples_as_json() -> TestResult {
    for kind in ["thread", "process"] {
        let runtime = runtime()?;
        let settings = format!("worker-kind = \"{kind}\"\n");
        let one_at_once = "instances-per-worker = 1\nqueue-timeout = \"10s\"";
        let folder = Folder::new(&(settings + &app("shop", "faults.wasm", "shop.test/*", one_at_once)))?;
        let mut server = serve(&folder, runtime.path());
        assert_eq!(ask_until_loaded(server.address, "shop.test", "/panic").status, 500);
        let mut follows = command();
        follows.args(["top", "--json", "--follow", "--interval", "300ms"]).stdout(std::process::Stdio::piped());
        let mut child = at(follows, runtime.path()).spawn()?;
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().ok_or("its output")?));
        let mut next = || -> Result<Value, Box<dyn std::error::Error>> {
            Ok(serde_json::from_str::<Value>(&lines.next().ok_or("a line")??)?["hosts"][0].clone())
        };
        // Three that compute for a while, on connections of their own: each of the two workers has one instance.
        let mut busy: Vec<Connection> = (0..3).map(|_| Connection::open(server.address)).collect();
        for connection in &mut busy {
            connection.send("GET /sleep?ms=1200 HTTP/1.1\r\nHost: shop.test\r\n\r\n");
        }
        let mut seen = next()?;
        while seen["apps"][0]["in_flight"] != 3 || seen["apps"][0]["waiting"] != 1 {
            seen = next()?;
        }
        for connection in &mut busy {
            assert_eq!(connection.response().text(), "slept");
        }
        while seen["apps"][0]["requests_per_second"].as_f64() <= Some(0.0) {
            seen = next()?;
        }
        let app = seen["apps"][0].clone();
        assert!(app["p50_us"].as_f64().is_some_and(|us| us > 1e6), "{app}");
        assert_eq!((&app["last_fault"]["fault"], &app["faults"]["trap"]), (&"trap".into(), &1.into()), "{app}");
        let number = |of: &Value, field: &str| of[field].as_u64().unwrap_or(0);
        assert!(number(&app, "memory_peak_bytes") >= number(&app, "memory_bytes"), "{app}");
        assert!(number(&seen, "memory_peak_bytes") >= number(&app, "memory_peak_bytes"), "{seen}");
        let mut quiet = next()?;
        while quiet["apps"][0]["requests_per_second"] != 0.0 {
            quiet = next()?;
        }
        assert_eq!((&quiet["apps"][0]["p99_us"], &quiet["apps"][0]["waiting"]), (&Value::Null, &0.into()));
        // CPU time of a worker that computes, beyond what its guests do: it is there for the whole worker.
        let until = Instant::now() + Duration::from_secs(20);
        let mut cpu = 0.0;
        while cpu < 1.0 {
            assert!(Instant::now() < until, "{seen}");
            for _ in 0..200 {
                assert_eq!(ask_until_loaded(server.address, "shop.test", "/status?code=201").status, 201);
            }
            let seen = next()?;
            let workers = seen["workers"].as_array().ok_or("workers")?.clone();
            cpu = workers.iter().filter_map(|worker| worker["cpu_percent"].as_f64()).fold(0.0, f64::max);
            assert!(workers.iter().all(|worker| worker["uptime_seconds"].is_u64() && worker["memory_bytes"].is_u64()));
            assert!(cpu < 250.0, "{seen}");
        }
        let one = ask(runtime.path(), &["top", "--json", "--interval", "100ms", "shop"]);
        let sample: Value = serde_json::from_str(&one.stdout)?;
        assert_eq!(
            (one.code, &sample["interval_ms"], &sample["hosts"][0]["name"]),
            (Some(0), &100.into(), &"shop".into())
        );
        // It ends with the host.
        server.signal("TERM");
        server.wait_for_exit();
        assert_eq!(child.wait()?.code(), Some(1), "{kind}");
    }
    Ok(())
}
