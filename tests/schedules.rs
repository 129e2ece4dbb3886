//! Schedules (`[[app.schedule]]`): is each time run once by the whole host, within the limits of requests; what becomes of runs
//! that overlap, fail or were missed; and can nobody else make such a request?

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::connections::is_silent;
use crate::support::apps::{Folder, app, ask, ask_until_loaded, reload, status_of};
use crate::support::{Connection, FAULTS, Runtime, Server, TestResult, command, eventually, message, run};

/// A schedule of the app above it.
fn schedule(name: &str, cron: &str, path: &str, more: &str) -> String {
    format!("[[app.schedule]]\nname = \"{name}\"\ncron = \"{cron}\"\npath = \"{path}\"\n{more}\n")
}

const EVERY_SECOND: &str = "* * * * * *";

/// What the status page says of a schedule.
#[track_caller]
fn state(server: &Server, app: &str, schedule: &str) -> Value {
    let shown = status_of(server, app);
    let all = shown["schedules"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|row| row["name"] == schedule).unwrap_or_default()
}

fn count(state: &Value, field: &str) -> u64 {
    state[field].as_u64().unwrap_or_default()
}

fn is_run(record: &Value) -> bool {
    record["target"] == "access" && record["peer"] == "schedule"
}

fn ms_now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[test]
fn each_time_is_run_once_by_the_whole_host() -> TestResult {
    let file = FAULTS.iter().enumerate().fold(String::new(), |file, (number, guest)| {
        file + &app(&format!("app{number}"), guest, &format!("{number}.test/*"), "")
            + &schedule("tick", EVERY_SECOND, "/hello?a=b", "")
    });
    let folder = Folder::new(&file)?;
    let server = folder.serve(&["--access-log"]);
    for number in 0..FAULTS.len() {
        assert_eq!(ask_until_loaded(server.address, &format!("{number}.test"), "/hello").status, 200);
    }
    for number in 0..FAULTS.len() {
        let name = format!("app{number}");
        let before = count(&state(&server, &name, "tick"), "runs");
        eventually("some times have come", || count(&state(&server, &name, "tick"), "runs") >= before + 4);
        let runs = server.records(|record| is_run(record) && record["app"] == *name && record["status"] == 200);
        assert!(runs.iter().all(|run| run["method"] == "POST" && run["path"] == "/hello?a=b"), "{runs:?}");
        // Each run is in another second: none is run by two workers.
        let seconds: BTreeMap<String, usize> = runs.iter().fold(BTreeMap::new(), |mut seconds, run| {
            let second = run["timestamp"].as_str().unwrap_or_default().get(..19).unwrap_or_default().to_owned();
            *seconds.entry(second).or_default() += 1;
            seconds
        });
        let twice = seconds.values().filter(|runs| **runs > 1).count();
        // (One that was late may share its second with the next.)
        assert!(twice <= seconds.len() / 3, "{seconds:?}");
        let shown = state(&server, &name, "tick");
        assert_eq!(
            (&shown["cron"], &shown["timezone"], &shown["last"]["outcome"]),
            (&EVERY_SECOND.into(), &"UTC".into(), &"done".into())
        );
        assert_eq!(shown["last"]["status"], 200, "{shown}");
        let due = shown["last"]["due_ms"].as_u64().unwrap_or_default();
        assert!(due.is_multiple_of(1000) && ms_now().abs_diff(due) < 5_000, "{shown}");
        assert!(count(&shown, "next_ms") > due, "{shown}");
        let ended = server
            .wait_for_record("a run has ended", |record| message(record) == "schedule ended" && record["app"] == *name);
        assert_eq!((&ended["schedule"], &ended["status"]), (&"tick".into(), &200.into()));
    }
    let by = server.records(is_run).iter().filter_map(|run| run["worker"].as_u64()).collect::<BTreeSet<u64>>();
    assert_eq!(by, BTreeSet::from([1, 2]), "the workers take turns");
    let metrics = server.admin("/metrics").text();
    let line = "wasmhost_app_schedule_runs_total{app=\"app0\",schedule=\"tick\"}";
    assert_eq!(metrics.lines().filter(|shown| shown.starts_with(line)).count(), 1, "{metrics}");
    Ok(())
}

#[test]
fn a_run_has_the_limits_of_a_request_and_its_faults_are_counted() -> TestResult {
    for guest in FAULTS {
        let limits = "limits = { request-timeout = \"500ms\", cpu = \"300ms\" }";
        let file = app("jobs", guest, "jobs.test/*", limits)
            + &schedule("traps", EVERY_SECOND, "/trap", "")
            + &schedule("late", EVERY_SECOND, "/sleep?ms=60000", "")
            + &schedule("computes", EVERY_SECOND, "/spin?ms=60000", "")
            + &schedule("halves", EVERY_SECOND, "/trap-after-head", "")
            + &schedule("refuses", EVERY_SECOND, "/status?code=403", "");
        let folder = Folder::new(&file)?;
        let server = folder.serve(&[]);
        for (name, field, outcome, status, detail) in [
            ("traps", "faults", "fault", 500, "trap"),
            ("late", "faults", "fault", 504, "wall"),
            ("computes", "faults", "fault", 500, "cpu"),
            ("halves", "faults", "fault", 200, "the response was broken off"),
            ("refuses", "failures", "failed", 403, ""),
        ] {
            let is_so = |state: &Value| {
                count(state, field) > 0
                    && state["last"]["outcome"] == outcome
                    && state["last"]["status"] == status
                    && state["last"]["detail"].as_str().unwrap_or_default() == detail
            };
            eventually(&format!("{guest}: {name} is {outcome}"), || is_so(&state(&server, "jobs", name)));
            let record = server.wait_for_record("the failure", |record| {
                message(record) == "schedule failed"
                    && record["schedule"] == name
                    && record["outcome"] == outcome
                    && record["status"] == status
            });
            assert_eq!(
                (&record["app"], &record["status"], &record["level"]),
                (&"jobs".into(), &status.into(), &"WARN".into())
            );
        }
        let shown = status_of(&server, "jobs");
        assert!(shown["faults"]["trap"].as_u64() > Some(0) && shown["faults"]["wall"].as_u64() > Some(0), "{shown}");
        let metrics = server.admin("/metrics").text();
        let faults = "wasmhost_app_schedule_faults_total{app=\"jobs\",schedule=\"traps\"}";
        let counted = metrics.lines().find_map(|line| line.strip_prefix(faults)?.trim().parse::<f64>().ok());
        assert!(counted > Some(0.0), "{metrics}");
    }
    Ok(())
}

#[test]
fn runs_that_overlap_are_left_out_or_wait_or_run_beside_each_other() -> TestResult {
    let path = "/sleep?ms=2300";
    let file = app("jobs", "faults.wasm", "jobs.test/*", "")
        + &schedule("skips", EVERY_SECOND, path, "")
        + &schedule("queues", EVERY_SECOND, path, "overlap = \"queue\"")
        + &schedule("allows", EVERY_SECOND, path, "overlap = \"allow\"");
    let folder = Folder::new(&file)?;
    let server = folder.serve(&[]);
    let most = std::cell::Cell::new([0; 3]);
    let look = || {
        let names = ["skips", "queues", "allows"];
        let states = names.map(|name| state(&server, "jobs", name));
        let running = std::array::from_fn(|at| most.get()[at].max(count(&states[at], "running")));
        most.set(running);
        states
    };
    eventually("each has run", || look().iter().all(|state| count(state, "runs") >= 3));
    let [skips, queues, allows] = look();
    assert!(count(&skips, "left_out") > 0 && count(&queues, "left_out") > 0, "{skips} {queues}");
    assert_eq!(count(&allows, "left_out"), 0, "{allows}");
    let most = most.get();
    assert!(most[0] == 1 && most[1] == 1 && most[2] >= 2, "{most:?}");
    let record = server.wait_for_record("what was left out", |record| message(record) == "schedule left out");
    assert_eq!((&record["reason"], &record["times"]), (&"overlap".into(), &1.into()));
    Ok(())
}

#[test]
fn apps_that_are_asleep_or_in_a_group_are_run_too() -> TestResult {
    let file = "app-idle-timeout = \"300ms\"\nworker-kind = \"process\"\n".to_owned()
        + &app("sleeper", "faults.wasm", "sleeper.test/*", "")
        + &schedule("seldom", "*/3 * * * * *", "/hello", "")
        + &app("grouped", "faults-p3.wasm", "grouped.test/*", "group = \"g\"")
        + &schedule("tick", EVERY_SECOND, "/hello", "");
    let folder = Folder::new(&file)?;
    let server = folder.serve(&["--access-log"]);
    eventually("the app of the group has run", || count(&state(&server, "grouped", "tick"), "runs") >= 3);
    assert_eq!(state(&server, "grouped", "tick")["last"]["outcome"], "done");
    let workers = server.status()["workers"].clone();
    let group = |worker: &Value| {
        workers
            .as_array()
            .and_then(|all| all.iter().find(|row| row["worker"] == *worker))
            .map(|row| row["group"].clone())
    };
    for run in server.records(|record| is_run(record) && record["app"] == "grouped") {
        assert_eq!(group(&run["worker"]), Some("g".into()), "{run}");
    }
    eventually("the app sleeps between its runs", || status_of(&server, "sleeper")["state"] == "asleep");
    let before = count(&state(&server, "sleeper", "seldom"), "runs");
    eventually("it was woken", || count(&state(&server, "sleeper", "seldom"), "runs") > before);
    assert_eq!(state(&server, "sleeper", "seldom")["last"]["outcome"], "done");
    Ok(())
}

#[test]
fn nobody_else_makes_such_a_request() -> TestResult {
    for guest in FAULTS {
        let file = app("jobs", guest, "jobs.test/*", "") + &schedule("yearly", "0 0 1 1 *", "/request", "");
        let folder = Folder::new(&file)?;
        let server = folder.serve(&["--trust-proxy", "127.0.0.0/8"]);
        assert_eq!(ask_until_loaded(server.address, "jobs.test", "/hello").status, 200);
        let mut client = Connection::open(server.address);
        client.send(
            "POST /request HTTP/1.1\r\nHost: jobs.test\r\nX-Wasmhost-Schedule: yearly\r\n\
             x-wasmhost-schedule-cron: 0 0 1 1 *\r\nx-wasmhost-schedule-time: 1\r\nX-WASMHOST-SCHEDULE-other: 1\r\n\
             x-wasmhost-client: 0 0 false true false none HTTP/1.1 schedule\r\nx-other: kept\r\ncontent-length: 0\r\n\r\n",
        );
        let seen = client.response().text().to_lowercase();
        assert!(!seen.contains("x-wasmhost") && seen.contains("x-other: kept"), "{guest}: {seen}");
        client.send(
            "POST /echo HTTP/1.1\r\nHost: jobs.test\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n\
             1\r\na\r\n0\r\nx-wasmhost-schedule: yearly\r\nx-other: kept\r\n\r\n",
        );
        let echoed = client.response();
        assert_eq!(echoed.status, 200);
        let trailers = format!("{:?}", echoed.trailers).to_lowercase();
        assert!(!trailers.contains("x-wasmhost") && trailers.contains("x-other"), "{guest}: {trailers}");
    }
    Ok(())
}

#[test]
fn a_reload_changes_schedules_and_keeps_what_runs() -> TestResult {
    let file = |schedules: &str| app("jobs", "faults.wasm", "jobs.test/*", "") + schedules;
    let folder = Folder::new(&file(""))?;
    let server = folder.serve(&[]);
    assert_eq!(ask_until_loaded(server.address, "jobs.test", "/count").text(), "1");
    assert!(status_of(&server, "jobs").get("schedules").is_none());
    folder.write(&file(&schedule("long", "* * * * * *", "/sleep?ms=3000", "")))?;
    reload(&server);
    eventually("it runs", || count(&state(&server, "jobs", "long"), "running") == 1);
    // Another pattern, while the run goes on.
    folder.write(&file(&schedule("long", "0 0 1 1 *", "/sleep?ms=3000", "")))?;
    reload(&server);
    let shown = state(&server, "jobs", "long");
    assert_eq!((&shown["cron"], count(&shown, "running")), (&"0 0 1 1 *".into(), 1), "{shown}");
    eventually("the run has ended", || count(&state(&server, "jobs", "long"), "runs") == 1);
    assert_eq!(state(&server, "jobs", "long")["last"]["outcome"], "done");
    // What changed was no reason to load the app anew.
    assert_eq!(status_of(&server, "jobs")["revision"], 1);
    folder.write(&file(""))?;
    reload(&server);
    assert!(status_of(&server, "jobs").get("schedules").is_none());
    assert_eq!(ask(server.address, "jobs.test", "/hello").status, 200);
    Ok(())
}

#[test]
fn a_stop_lets_a_run_end_and_begins_no_other() -> TestResult {
    let file = app("jobs", "faults.wasm", "jobs.test/*", "") + &schedule("long", EVERY_SECOND, "/sleep?ms=2500", "");
    let folder = Folder::new(&file)?;
    let mut server = folder.serve(&[]);
    assert_eq!(ask_until_loaded(server.address, "jobs.test", "/hello").status, 200);
    eventually("it runs", || count(&state(&server, "jobs", "long"), "running") == 1);
    let before = server.records(|record| message(record) == "schedule ended").len();
    let began = Instant::now();
    server.signal("TERM");
    assert_eq!(server.wait_for_exit().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    let ended = server.records(|record| message(record) == "schedule ended");
    assert_eq!(ended.len(), before + 1, "{ended:?}");
    assert_eq!(ended.last().map(|run| run["outcome"].clone()), Some("done".into()));
    Ok(())
}

#[test]
fn a_run_that_waits_when_the_host_stops_is_left_out_and_not_lost() -> TestResult {
    let queued = schedule("long", EVERY_SECOND, "/sleep?ms=5000", "overlap = \"queue\"");
    let folder = Folder::new(&(app("jobs", "faults.wasm", "jobs.test/*", "") + &queued))?;
    let mut server = folder.serve(&[]);
    // (Where one is left out, another waits.)
    eventually("one waits", || count(&state(&server, "jobs", "long"), "left_out") > 0);
    server.signal("TERM");
    assert_eq!(server.wait_for_exit().code(), Some(0));
    assert_eq!(
        server.records(|record| message(record) == "schedule failed").len(),
        0,
        "none was begun that had to fail"
    );
    let told = server.records(|record| message(record) == "schedule left out" && record["reason"] == "the host stops");
    assert_eq!(told.len(), 1, "{told:?}");
    Ok(())
}

#[test]
fn what_was_missed_while_the_host_did_not_run_is_run_once() -> TestResult {
    let folder = Folder::new("")?;
    let data = folder.path().join("data");
    let file = format!("data-dir = \"{}\"\n", data.display())
        + &app("jobs", "faults.wasm", "jobs.test/*", "")
        + &schedule("catches-up", "0 0 1 * *", "/hello", "catch-up = \"last\"")
        + &schedule("does-not", "0 0 1 * *", "/hello", "");
    folder.write(&file)?;
    let runs = |server: &Server, name: &str| count(&state(server, "jobs", name), "runs");
    {
        // It knows of nothing that it has missed.
        let mut server = folder.serve(&[]);
        assert_eq!(ask_until_loaded(server.address, "jobs.test", "/hello").status, 200);
        assert_eq!(runs(&server, "catches-up"), 0);
        server.signal("TERM");
        assert_eq!(server.wait_for_exit().code(), Some(0));
    }
    let kept = data.join("schedules.json");
    let text = std::fs::read_to_string(&kept)?;
    let known: Value = serde_json::from_str(&text)?;
    assert!(known["jobs"]["does-not"].is_null() && known["jobs"]["catches-up"].as_u64() > Some(0), "{text}");
    std::fs::write(&kept, "{\"jobs\":{\"catches-up\":1700000000000}}")?;
    {
        let mut server = folder.serve(&[]);
        eventually("it has caught up", || runs(&server, "catches-up") == 1);
        assert_eq!(state(&server, "jobs", "catches-up")["last"]["outcome"], "done");
        assert_eq!(runs(&server, "does-not"), 0);
        server.signal("TERM");
        assert_eq!(server.wait_for_exit().code(), Some(0));
    }
    let server = folder.serve(&[]);
    assert_eq!(ask_until_loaded(server.address, "jobs.test", "/hello").status, 200);
    assert_eq!((runs(&server, "catches-up"), runs(&server, "does-not")), (0, 0), "it was caught up before");
    Ok(())
}

#[test]
fn mistakes_in_schedules_are_told_with_their_places() -> TestResult {
    let file = app("jobs", "faults.wasm", "jobs.test/*", "")
        + "[[app.schedule]]\ncron = \"61 * * * *\"\n\
           [[app.schedule]]\ncron = \"0 0 30 2 *\"\ntimezone = \"Europe/Nowhere\"\n\
           [[app.schedule]]\npath = \"/a\"\n\
           [[app.schedule]]\ncron = \"@daily\"\npath = \"a\"\noverlap = \"wait\"\njitter = \"2d\"\nmemory = \"1MiB\"\n\
           [[app.schedule]]\nname = \"one\"\ncron = \"@daily\"\n\
           [[app.schedule]]\nname = \"one\"\ncron = \"@daily\"\n";
    let folder = Folder::new(&file)?;
    let mut check = command();
    check.args(["config", "check", "-c"]).arg(folder.file());
    let finished = run(check);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    for (place, words) in [
        (":7:8:", "cron `61 * * * *`: is no pattern of cron"),
        (":9:8:", "cron `0 0 30 2 *`: is never due within 9 years"),
        (":10:12:", "timezone `Europe/Nowhere`: is no time zone"),
        (":11:1:", "this schedule is never due"),
        (":15:8:", "path `a`: must be a path"),
        (":16:11:", "must be one of `skip`, `queue`, `allow`"),
        (":17:10:", "must be a day at most"),
        (":18:1:", "unknown key `memory`"),
        (":23:8:", "two schedules of the app have the name `one`"),
    ] {
        let found = finished.stderr.lines().find(|line| line.contains(words));
        assert!(found.is_some_and(|line| line.contains(place)), "{words}: {}", finished.stderr);
    }
    Ok(())
}

#[test]
fn the_settings_that_hold_are_shown_with_the_next_times() -> TestResult {
    let file = app("jobs", "faults.wasm", "jobs.test/*", "")
        + "[[app.schedule]]\ncron = \"30 2 * * *\"\ntimezone = \"Europe/Berlin\"\n";
    let folder = Folder::new(&file)?;
    let shown = |file: &std::path::Path| {
        let mut show = command();
        show.args(["config", "show", "-c"]).arg(file);
        run(show).stdout
    };
    let text = shown(&folder.file());
    for line in [
        "[[app.schedule]]",
        "name = \"schedule-1\"",
        "cron = \"30 2 * * *\"",
        "timezone = \"Europe/Berlin\"",
        "path = \"/.well-known/wasmhost/schedule\"",
        "overlap = \"skip\"",
        "catch-up = \"none\"",
        "jitter = \"0s\"",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}: {text}");
    }
    let next = text.lines().find_map(|line| line.strip_prefix("# due next: ")).unwrap_or_default();
    assert!(next.split(", ").count() == 3 && next.contains("T02:30:00+01:00"), "{next}");
    // It means the same.
    std::fs::write(folder.path().join("again.toml"), &text)?;
    assert_eq!(shown(&folder.path().join("again.toml")), text);
    Ok(())
}

#[test]
fn a_schedule_is_run_by_hand() -> TestResult {
    let file = app("jobs", "faults.wasm", "jobs.test/*", "")
        + &schedule("good", "0 0 1 1 *", "/hello", "")
        + &schedule("bad", "0 0 1 1 *", "/trap", "")
        + &schedule("long", "0 0 1 1 *", "/sleep?ms=3000", "");
    let folder = Folder::new(&file)?;
    let runtime = Runtime::new()?;
    let server = Server::spawn(runtime.of_host(folder.command(&[])));
    assert_eq!(ask_until_loaded(server.address, "jobs.test", "/hello").status, 200);
    let asked = |app: &str, name: &str| runtime.ask(&["schedule", "run", app, name]);
    let good = asked("jobs", "good");
    assert!(good.code == Some(0) && good.stdout.starts_with("jobs/good: done after "), "{good:?}");
    assert!(good.stdout.ends_with(", status 200\n"), "{good:?}");
    let bad = asked("jobs", "bad");
    assert!(bad.code == Some(1) && bad.stdout.contains("fault after ") && bad.stdout.contains("(trap)"), "{bad:?}");
    assert_eq!(
        (count(&state(&server, "jobs", "good"), "runs"), count(&state(&server, "jobs", "bad"), "faults")),
        (1, 1)
    );
    for (app, name, words) in [
        ("jobs", "other", "the app has no schedule `other`"),
        ("other", "good", "there is no app `other`"),
        ("../jobs", "good", "there is no schedule"),
    ] {
        let refused = asked(app, name);
        assert!(refused.code == Some(1) && refused.stderr.contains(words), "{refused:?}");
    }
    std::thread::scope(|threads| {
        let long = threads.spawn(|| asked("jobs", "long"));
        eventually("it runs", || count(&state(&server, "jobs", "long"), "running") == 1);
        let second = asked("jobs", "long");
        assert!(second.code == Some(1) && second.stderr.contains("a run of it is under way"), "{second:?}");
        assert_eq!(long.join().ok().and_then(|long| long.code), Some(0));
    });
    Ok(())
}

#[test]
fn runs_take_nothing_from_clients_however_many_there_were() -> TestResult {
    // More than may be under way at once.
    const RUNS: u64 = 70;
    for kind in ["thread", "process"] {
        let file = format!("worker-kind = \"{kind}\"\nmax-connections = 4\n")
            + &app("jobs", "faults.wasm", "jobs.test/*", "")
            + &schedule("good", "0 0 1 1 *", "/hello", "");
        let folder = Folder::new(&file)?;
        let runtime = Runtime::new()?;
        let server = Server::spawn(runtime.of_host(folder.command(&[])));
        assert_eq!(ask_until_loaded(server.address, "jobs.test", "/hello").status, 200);
        for number in 1..=RUNS {
            let good = runtime.ask(&["schedule", "run", "jobs", "good"]);
            assert!(good.stdout.starts_with("jobs/good: done after "), "{kind}, run {number}: {good:?}");
        }
        // As many clients as before, and no more.
        let ask = |connection: &mut Connection| connection.send("GET /hello HTTP/1.1\r\nHost: jobs.test\r\n\r\n");
        let mut clients: Vec<Connection> = (0..5).map(|_| Connection::open(server.address)).collect();
        for client in &mut clients {
            ask(client);
        }
        for client in &mut clients[..4] {
            assert_eq!(client.response().status, 200, "{kind}");
        }
        assert!(is_silent(&clients[4]), "{kind}: a fifth is served");
        clients.remove(0);
        assert_eq!(clients[3].response().status, 200, "{kind}: a place is free again");
    }
    Ok(())
}
