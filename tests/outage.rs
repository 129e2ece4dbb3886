//! What happens when an instance faults in every request, or for half a minute in nothing else? Its worker refuses
//! requests, tries again ever more seldom, and is up again by itself. (What one fault costs is in `recovery`.)

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{CEILING, Connection, FAULTS, Server, eventually};

fn is_down(record: &Value) -> bool {
    record["message"].as_str().is_some_and(|text| text.starts_with("the instance pool is down"))
}

/// How long the slot stays down, by its log record.
fn retry_ms(record: &Value) -> u64 {
    let field = &record["retry_ms"];
    field.as_u64().or_else(|| field.as_str()?.parse().ok()).expect("a number of milliseconds")
}

#[test]
fn a_component_that_faults_in_every_call_goes_down_and_is_tried_ever_more_seldom() {
    let server = Server::start("wat/trap.wat", &["--workers", "1"]);
    let mut connection = Connection::open(server.address);
    let mut failed = 0;
    let refused = loop {
        let response = connection.get("/");
        match response.status {
            500 => failed += 1,
            _ => break response,
        }
        assert!(failed <= 16, "still restarted after {failed} faults in a row");
    };
    assert_eq!(refused.status, 503);
    let after: u64 = refused.header("retry-after").expect("Retry-After").parse().expect("seconds");
    assert!((1..=5).contains(&after), "Retry-After: {after}");
    server.wait_for_record("the slot is down", |record| record["level"] == "ERROR" && is_down(record));

    let downs = || server.records(is_down).iter().map(retry_ms).collect::<Vec<_>>();
    eventually("three tries, each of which failed", || {
        assert!(matches!(connection.get("/").status, 500 | 503));
        downs().len() >= 4
    });
    let delays = downs();
    assert!(delays[3] > delays[0], "the back-off does not grow: {delays:?}");
    assert_eq!(server.status()["workers"][0]["state"], "down");
    assert!(server.sum("sheds.down") >= 1);
    assert_eq!(server.sum("faults.trap"), failed + delays.len() as u64 - 1, "one call for each try");
}

#[test]
fn a_slot_that_went_down_recovers_while_the_other_worker_goes_on() {
    let servers = FAULTS.map(|component| Server::start(component, &[]));
    let mut pairs = servers.each_ref().map(|server| {
        let mut faulty = Connection::open(server.address);
        assert_eq!(faulty.get("/hello").status, 200);
        let mut sound = Connection::open(server.address);
        assert_eq!(sound.get("/hello").status, 200);
        (faulty, sound)
    });
    // Nothing but faults for half a minute is what takes down a slot that has answered; the pace spares the machine.
    let began = Instant::now();
    let mut refused = [false; 2];
    while refused != [true; 2] {
        assert!(began.elapsed() < CEILING + Duration::from_secs(30), "never refused");
        for ((faulty, _), refused) in pairs.iter_mut().zip(&mut refused) {
            *refused = *refused || faulty.get("/trap").status == 503;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    for ((server, (faulty, sound)), component) in servers.iter().zip(&mut pairs).zip(FAULTS) {
        server.wait_for_record("the slot is down", is_down);
        assert_eq!(sound.get("/hello").status, 200, "{component}: the other worker");
        eventually("the slot answers again", || faulty.get("/hello").status == 200);
        server.wait_for_record("recovery", |record| record["message"] == "the instance pool answers again");
        let status = server.status();
        let states: Vec<_> =
            status["workers"].as_array().expect("workers").iter().map(|worker| worker["state"].clone()).collect();
        assert_eq!(states, ["listening", "listening"], "{component}");
    }
}
