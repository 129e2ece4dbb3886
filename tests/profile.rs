//! `wasmhost profile`: where guests of a host that runs use CPU time.

use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::apps::{Folder, app, ask, ask_until_loaded};
use crate::support::pty::Terminal;
use crate::support::server::signal;
use crate::support::wat::More;
use crate::support::{
    Connection, Finished, Runtime, Server, TestResult, command, eventually, get, guest, under_load_of,
};

/// On `/c` it computes: `$hot` has nine tenths of it, `$warm` the rest.
const COMPUTES: More<'_> = More {
    component: "",
    imports: &[],
    module: "
    (func $turns (param $turns i32)
      (loop $again
        (local.set $turns (i32.sub (local.get $turns) (i32.const 1)))
        (br_if $again (local.get $turns))))
    (func $hot (call $turns (i32.const 9000000)))
    (func $warm (call $turns (i32.const 1000000)))
    (func $compute (call $hot) (call $warm))",
    handle: "(if (i32.eq (i32.load8_u (i32.const 1025)) (i32.const 99)) (then (call $compute)))",
};

fn host(runtime: &Runtime, component: &str, flags: &[&str]) -> Server {
    let mut host = command();
    host.arg(guest(component)).args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"]);
    host.args(["--workers", "2"]).args(flags);
    Server::spawn(runtime.of_host(host))
}

fn profile(runtime: &Runtime, words: &[&str]) -> Finished {
    runtime.ask(&[&["profile"], words].concat())
}

/// Begins one that goes on until it is ended, and waits until it is under way.
fn begun(runtime: &Runtime) -> Child {
    loop {
        let mut command: Command = runtime.command(&["profile", "--seconds", "300"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        loop {
            // It may itself be refused, for the one that only asks.
            let is_under_way = is_refused(&profile(runtime, &["--seconds", "1"]));
            if child.try_wait().expect("it can be waited for").is_some() {
                break;
            }
            if is_under_way {
                return child;
            }
        }
    }
}

fn is_refused(made: &Finished) -> bool {
    made.stderr.contains("a profile is being made already")
}

/// Waits until one is being made.
fn is_under_way(runtime: &Runtime) {
    eventually("it is under way", || is_refused(&profile(runtime, &["--seconds", "1"])));
}

/// Makes one as soon as no other is being made, such as one of [`is_under_way`].
fn in_its_turn(runtime: &Runtime, words: &[&str]) -> Finished {
    loop {
        let made = profile(runtime, words);
        if !is_refused(&made) {
            return made;
        }
    }
}

/// Stacks, outermost first, with their CPU time in microseconds.
fn stacks(folded: &str) -> Vec<(Vec<&str>, u64)> {
    let stack = |line| -> Option<(Vec<&str>, u64)> {
        let (stack, number): (&str, &str) = str::rsplit_once(line, ' ')?;
        Some((stack.split(';').collect(), number.parse().ok()?))
    };
    folded.lines().map(|line| stack(line).unwrap_or_else(|| panic!("no stack: {line}"))).collect()
}

#[test]
fn the_function_that_computes_has_most_of_a_profile_in_each_format() -> TestResult {
    let component = COMPUTES.file();
    let component = component.path().to_str().ok_or("a path in UTF-8")?;
    for kind in ["thread", "process"] {
        let runtime = Runtime::new()?;
        let server = host(&runtime, component, &["--worker-kind", kind]);
        let answered = under_load_of(server.address, "/c", || {
            let made = profile(&runtime, &["--seconds", "2"]);
            assert_eq!(made.code, Some(0), "{kind}: {}", made.stderr);
            let stacks = stacks(&made.stdout);
            let of = |function: &str| -> u64 {
                let with = |(frames, _): &&(Vec<&str>, u64)| frames.iter().any(|frame| frame.ends_with(function));
                stacks.iter().filter(with).map(|(_, us)| us).sum()
            };
            let all: u64 = stacks.iter().map(|(_, us)| us).sum();
            assert!(all > 200_000, "{kind}: {all} µs of 2 s and more than one core, {}", made.stdout);
            assert!(of("!hot") * 10 > all * 7, "{kind}: {}", made.stdout);
            assert!(of("!warm") > 0 && of("!warm") * 10 < all * 3, "{kind}: {}", made.stdout);
            let whole = |(frames, _): &(Vec<&str>, u64)| {
                let names: Vec<&str> = frames.iter().skip(1).filter_map(|frame| frame.split('!').nth(1)).collect();
                names.ends_with(&["compute", "hot", "turns"])
            };
            assert!(stacks.iter().any(whole), "{kind}: {}", made.stdout);
            // The lines add up to what the summary says.
            let told = format!(", {:.2} s of CPU time\n", all as f64 / 1e6);
            assert!(made.stderr.contains(&told), "{kind}: {told} {}", made.stderr);
            assert!(made.stderr.contains("(revision 1): "), "{kind}: {}", made.stderr);

            let file = |name: &str| runtime.path().join(name).display().to_string();
            let (svg, json) = (file("profile.svg"), file("profile.json"));
            for (output, more) in [(&svg, &[][..]), (&json, &["--worker", "1"])] {
                let made = profile(&runtime, &[&["--seconds", "1", "--output", output], more].concat());
                assert_eq!((made.code, &*made.stdout), (Some(0), ""), "{kind}: {}", made.stderr);
            }
            let svg = std::fs::read_to_string(svg)?;
            assert!(svg.starts_with("<?xml ") && svg.ends_with("</svg>\n"), "{kind}: {svg}");
            assert!(
                svg.contains("!hot (") && svg.matches("<g ").count() == svg.matches("</g>").count(),
                "{kind}: {svg}"
            );
            let json: Value = serde_json::from_str(&std::fs::read_to_string(json)?)?;
            let text = json.to_string();
            assert!(text.contains("!hot\"") && json["meta"]["interval"] == 1.0, "{kind}: {text}");
            let weights = json["threads"][0]["samples"]["weight"].as_array().ok_or("no weights")?;
            assert!(weights.iter().filter_map(Value::as_f64).sum::<f64>() > 50.0, "{kind}: {text}");
            Ok(())
        })?;
        assert!(answered > 10, "{kind}: {answered}");
    }
    Ok(())
}

#[test]
fn each_app_is_a_root_and_one_that_computes_nothing_has_no_samples() -> TestResult {
    let (component, runtime) = (COMPUTES.file(), Runtime::new()?);
    let component = component.path().to_str().ok_or("a path in UTF-8")?;
    let file = app("shop", component, "shop.test/*", "") + &app("blog", component, "blog.test/*", "");
    let folder = Folder::new(&file)?;
    let server = Server::spawn(runtime.of_host(folder.command(&[])));
    for app in ["shop.test", "blog.test"] {
        assert_eq!(ask_until_loaded(server.address, app, "/").status, 200);
    }
    let compute = |made: &(dyn Fn() -> Finished + Sync)| {
        std::thread::scope(|scope| {
            let making = scope.spawn(made);
            while !making.is_finished() {
                assert_eq!(ask(server.address, "shop.test", "/c").status, 200);
            }
            making.join().expect("it ends")
        })
    };
    // Two apps.
    let both = compute(&|| profile(&runtime, &["--seconds", "1"]));
    assert_eq!(both.code, Some(0), "{}", both.stderr);
    assert!(both.stdout.lines().any(|line| line.starts_with("shop;") && line.contains("!hot;")), "{}", both.stdout);
    assert!(!both.stdout.contains("blog"), "{}", both.stdout);
    let blog = compute(&|| profile(&runtime, &["blog", "--seconds", "1"]));
    assert_eq!((blog.code, &*blog.stdout), (Some(0), ""), "{}", blog.stderr);
    assert!(blog.stderr.starts_with("0 samples of 1.0 s"), "{}", blog.stderr);
    assert!(blog.stderr.contains("blog (revision 1): 0 samples") && blog.stderr.contains("no guest used CPU time"));
    for format in ["svg", "firefox"] {
        let idle = profile(&runtime, &["blog", "--seconds", "1", "--format", format]);
        assert_eq!(idle.code, Some(0), "{format}: {}", idle.stderr);
        match format {
            "svg" => assert!(idle.stdout.contains("no samples"), "{}", idle.stdout),
            _ => assert_eq!(serde_json::from_str::<Value>(&idle.stdout)?["threads"][0]["name"], "blog"),
        }
    }
    Ok(())
}

#[test]
fn what_cannot_be_profiled_is_refused_with_a_way_out() -> TestResult {
    let runtime = Runtime::new()?;
    let _server = host(&runtime, "faults.wasm", &[]);
    for (words, code, reason) in [
        (&["fauls"][..], 1, "error: the host answered: there is no app `fauls`, is `faults` meant?"),
        (&["a b"], 1, "error: the host answered: there is no app `a b`"),
        (&["--worker", "7"], 1, "error: the host answered: there is no such worker: they have the numbers 1, 2"),
        (&["--host", "nobody"], 1, "error: no host has the name `nobody`; these run: faults"),
        (&["--output", "/nowhere/a.svg"], 1, "error: `/nowhere/a.svg`: No such file or directory"),
        (&["--seconds", "0"], 2, "error: invalid value '0' for '--seconds <SECONDS>'"),
        (&["--seconds", "301"], 2, "error: invalid value '301' for '--seconds <SECONDS>'"),
    ] {
        let refused = profile(&runtime, words);
        assert_eq!((refused.code, &*refused.stdout), (Some(code), ""), "{words:?}: {}", refused.stderr);
        assert!(refused.stderr.starts_with(reason), "{words:?}: {}", refused.stderr);
        assert!(refused.stderr.contains("\nhint: "), "{words:?}: {}", refused.stderr);
    }
    let mut screen = Terminal::open(runtime.command(&["profile", "--format", "svg"]), 100, 10);
    assert_eq!(screen.wait_for_exit().code(), Some(2));
    screen.shows("this format is not for terminals");
    Ok(())
}

#[test]
fn a_profile_that_nobody_waits_for_any_more_has_ended() -> TestResult {
    for kind in ["thread", "process"] {
        let runtime = Runtime::new()?;
        let server = host(&runtime, "faults.wasm", &["--worker-kind", kind]);
        let mut first = begun(&runtime);
        signal(first.id(), "INT");
        assert_eq!(first.wait()?.code(), None, "{kind}");
        let mut computing = Connection::open(server.address);
        computing.send("GET /spin?ms=3000 HTTP/1.1\r\nHost: test\r\n\r\n");
        eventually("the next one can be made", || {
            let next = profile(&runtime, &["--seconds", "1"]);
            assert!(next.code == Some(0) || is_refused(&next), "{kind}: {}", next.stderr);
            next.code == Some(0) && !next.stdout.is_empty()
        });
        assert_eq!(computing.response().status, 200, "{kind}");
    }
    Ok(())
}

#[test]
fn faults_reloads_and_restarts_go_on_while_a_profile_is_made() -> TestResult {
    for kind in ["thread", "process"] {
        let runtime = Runtime::new()?;
        let server = host(&runtime, "faults.wasm", &["--worker-kind", kind]);
        let made = std::thread::scope(|scope| {
            let making = scope.spawn(|| in_its_turn(&runtime, &["--seconds", "3"]));
            let storm = scope.spawn(|| {
                let mut faults = 0;
                while !making.is_finished() {
                    faults += u32::from(get(server.address, "/trap").status == 500);
                    let _ = get(server.address, "/spin?ms=5");
                }
                (faults, making.join())
            });
            is_under_way(&runtime);
            let reloaded = runtime.ask(&["reload"]);
            assert_eq!(reloaded.code, Some(0), "{kind}: {}", reloaded.stderr);
            let restarted = runtime.ask(&["restart", "--worker", "2"]);
            assert_eq!(restarted.code, Some(0), "{kind}: {}", restarted.stderr);
            storm.join()
        });
        let (faults, made) = made.map_err(|_| "a client failed")?;
        let made = made.map_err(|_| "the profile failed")?;
        assert!(faults > 10, "{kind}: {faults}");
        assert_eq!(made.code, Some(0), "{kind}: {}", made.stderr);
        assert!(!made.stdout.is_empty(), "{kind}");
        assert!(made.stderr.contains("faults (revision 1, 2): "), "{kind}: {}", made.stderr);
        assert!(
            made.stderr.contains("without samples of workers that ended meanwhile: 2\n"),
            "{kind}: {}",
            made.stderr
        );
        assert_eq!(get(server.address, "/hello").status, 200, "{kind}");
    }
    Ok(())
}

#[test]
fn what_a_killed_worker_had_counted_is_missing_and_its_successor_takes_part() -> TestResult {
    let runtime = Runtime::new()?;
    let server = host(&runtime, "faults.wasm", &["--worker-kind", "process"]);
    let made = std::thread::scope(|scope| {
        let making = scope.spawn(|| in_its_turn(&runtime, &["--seconds", "3", "--worker", "1"]));
        is_under_way(&runtime);
        let before = server.sum("thread_generation");
        let status = server.status();
        let process = status["workers"][0]["thread"].as_u64().and_then(|process| u32::try_from(process).ok());
        signal(process.expect("a process"), "KILL");
        eventually("its successor listens", || {
            let status = server.status();
            server.sum("thread_generation") > before && status["workers"][0]["state"] == "listening"
        });
        while !making.is_finished() {
            let mut both: Vec<_> = (0..4).map(|_| Connection::open(server.address)).collect();
            for connection in &mut both {
                connection.send("GET /spin?ms=20 HTTP/1.1\r\nHost: test\r\n\r\n");
            }
            assert!(both.iter_mut().all(|connection| connection.response().status == 200));
        }
        making.join()
    });
    let made = made.map_err(|_| "the profile failed")?;
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert!(made.stderr.contains("without samples of workers that ended meanwhile: 1\n"), "{}", made.stderr);
    assert!(!made.stdout.is_empty(), "the successor's: {}", made.stderr);
    Ok(())
}
