//! What does an instance, or a worker, cost that does not come up? The time that a request has, and no more.

use std::time::{Duration, Instant, SystemTime};

use crate::support::server::{signal, try_signal};
use crate::support::wat::{More, WAIT, WAIT_FUNCTION, WAIT_IMPORTS};
use crate::support::{Connection, Server, TestResult, eventually, get};

/// What a request may wait beyond `--request-timeout`, on a busy machine.
const SLACK: Duration = Duration::from_secs(3);

/// A component whose start waits for so long from a moment on, which stands in it.
pub fn starts_slowly_from(
    moment: SystemTime,
    wait: Duration,
) -> Result<tempfile::NamedTempFile, Box<dyn std::error::Error>> {
    let component = format!(
        r#"{WAIT}
  (import "wasi:clocks/wall-clock@0.2.0" (instance $wall
    (type $datetime-shape (record (field "seconds" u64) (field "nanoseconds" u32)))
    (export "datetime" (type $datetime (eq $datetime-shape)))
    (export "now" (func (result $datetime)))))
  (core func $now (canon lower (func $wall "now") (memory $memory)))
"#
    );
    let imports = [&WAIT_IMPORTS[..], &[("now", "(param i32)")]].concat();
    let seconds = moment.duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let module = format!(
        "{WAIT_FUNCTION}
    (func $start
      (call $now (i32.const 512))
      (if (i64.ge_u (i64.load (i32.const 512)) (i64.const {seconds})) (then (call $wait (i64.const {})))))
    (start $start)",
        wait.as_nanos()
    );
    Ok(More { component: &component, imports: &imports, module: &module, handle: "" }.file())
}

fn sleep_until(moment: SystemTime) {
    std::thread::sleep(moment.duration_since(SystemTime::now()).unwrap_or_default() + Duration::from_millis(100));
}

/// As a start function does that waits for a service which has gone.
#[test]
fn a_request_waits_for_an_instance_no_longer_than_it_may_take() -> TestResult {
    let moment = SystemTime::now() + Duration::from_secs(5);
    let file = starts_slowly_from(moment, Duration::from_secs(3_600))?;
    let flags = ["--workers", "1", "--isolation", "request", "--request-timeout", "1s", "--instances-per-worker", "2"];
    let server = Server::start(file.path().to_str().ok_or("a path in UTF-8")?, &flags);
    assert_eq!(get(server.address, "/").text(), "Hello, World!");
    sleep_until(moment);
    // Those that were made ahead answer still. Then each try has an end.
    let mut seen = Vec::new();
    let began = Instant::now();
    while !seen.contains(&504) {
        let asked = Instant::now();
        let response = get(server.address, "/");
        assert!(asked.elapsed() < Duration::from_secs(1) + SLACK, "{:?} for {}", asked.elapsed(), response.status);
        assert!([200, 503, 504].contains(&response.status), "{response:?}");
        seen.push(response.status);
        assert!(began.elapsed() < Duration::from_secs(60), "{seen:?}");
    }
    let record = server.wait_for_record("the start was too slow", |record| {
        record["limit"] == "--request-timeout" && record["fault"] == "wall"
    });
    assert!(record["detail"].as_str().is_some_and(|detail| detail.contains("did not start within 1s")), "{record}");
    // So are those that are made ahead ended, for which nobody waits.
    server.wait_for_record("one made ahead was too slow", |record| {
        record["limit"] == "--request-timeout" && record["fault"] == "start"
    });
    eventually("nothing is in flight", || server.sum("in_flight") == 0);
    Ok(())
}

#[test]
fn a_component_that_does_not_start_is_refused_at_a_reload() -> TestResult {
    let moment = SystemTime::now() + Duration::from_secs(3);
    let file = starts_slowly_from(moment, Duration::from_secs(3_600))?;
    let flags = ["--workers", "1", "--request-timeout", "1s"];
    let server = Server::start(file.path().to_str().ok_or("a path in UTF-8")?, &flags);
    sleep_until(moment);
    server.signal("HUP");
    eventually("the reload failed", || server.status()["failed_reloads"] == 1);
    server.wait_for_record("why", |record| {
        let has = |field: &str, words: &str| record[field].as_str().is_some_and(|text| text.contains(words));
        has("message", "did not start within 1s") && has("hint", "--request-timeout")
    });
    assert_eq!(get(server.address, "/").status, 200, "the instance that runs goes on");
    Ok(())
}

/// Workers that are processes: the one that takes the place of one that died finds a start that does not end.
#[test]
fn a_worker_listens_though_its_first_instance_does_not_start() -> TestResult {
    let moment = SystemTime::now() + Duration::from_secs(5);
    let file = starts_slowly_from(moment, Duration::from_secs(3_600))?;
    let flags = ["--worker-kind", "process", "--workers", "1", "--request-timeout", "2s"];
    let server = Server::start(file.path().to_str().ok_or("a path in UTF-8")?, &flags);
    sleep_until(moment);
    let [first] = server.worker_pids()[..] else { panic!("one worker") };
    signal(first, "KILL");
    eventually("another listens", || {
        // That its first instance did not come up takes its slot down until the next try.
        let is_other = server.worker_pids().iter().any(|pid| *pid != first);
        is_other && ["listening", "down"].iter().any(|state| server.status()["workers"][0]["state"] == *state)
    });
    Ok(())
}

/// The same, of a process that is stopped while it starts: nothing of it listens, and nothing tells of it.
#[test]
fn a_process_that_hangs_while_it_starts_is_replaced() -> TestResult {
    let moment = SystemTime::now() + Duration::from_secs(5);
    let file = starts_slowly_from(moment, Duration::from_secs(4))?;
    let flags = ["--worker-kind", "process", "--workers", "1", "--worker-hang-timeout", "1s"];
    let server = Server::start(file.path().to_str().ok_or("a path in UTF-8")?, &flags);
    sleep_until(moment);
    let [first] = server.worker_pids()[..] else { panic!("one worker") };
    signal(first, "KILL");
    let other = |not: &[u32]| server.worker_pids().into_iter().find(|pid| !not.contains(pid));
    eventually("another starts", || other(&[first]).is_some());
    let second = other(&[first]).ok_or("it has gone")?;
    // Its first instance takes seconds.
    assert!(try_signal(second, "STOP"));
    server.wait_for_record("it is killed", |record| record["limit"] == "--worker-hang-timeout");
    eventually("a third starts", || other(&[first, second]).is_some());
    let mut connection = Connection::open(server.address);
    assert_eq!(connection.get("/").status, 200);
    Ok(())
}
