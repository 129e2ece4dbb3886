//! When a worker makes a further instance: for requests that come while others wait for something outside, not while others
//! compute, which would only share one core among more.

use crate::support::{Connection, FAULTS, Server};

/// Requests at once.
const AT_ONCE: usize = 24;
/// Instances that a worker may have for short requests that compute. (Each is one whose call was interrupted, and the worker
/// had used ten milliseconds since.)
const FOR_SHORT_ONES_MAX: u64 = 6;

/// Asks for `path` on so many connections at once: how many instances there are then. All must be answered.
fn instances_after(server: &Server, path: &str) -> u64 {
    let mut connections: Vec<Connection> = (0..AT_ONCE).map(|_| Connection::open(server.address)).collect();
    for connection in &mut connections {
        connection.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    }
    for connection in &mut connections {
        assert_eq!(connection.response().status, 200, "{path}");
    }
    server.sum("instances")
}

#[test]
fn short_requests_that_compute_share_an_instance_and_those_that_wait_have_one_each() {
    for component in FAULTS {
        let start = || Server::start(component, &["--workers", "1", "--queue-max", "0"]);
        // A machine on which others compute as well can make a short request a long one.
        let had: Vec<u64> = (0..5)
            .map(|_| instances_after(&start(), "/spin?ms=2"))
            .scan(false, |done, instances| {
                (!std::mem::replace(done, instances <= FOR_SHORT_ONES_MAX)).then_some(instances)
            })
            .collect();
        assert!(had.iter().any(|instances| *instances <= FOR_SHORT_ONES_MAX), "{component}: {had:?} instances");
        assert_eq!(instances_after(&start(), "/sleep?ms=500"), AT_ONCE as u64, "{component}");
    }
}

#[test]
fn a_request_does_not_wait_for_one_that_computes_for_long() {
    for component in FAULTS {
        let server = Server::start(component, &["--workers", "1", "--cpu-limit", "1h", "--request-timeout", "1h"]);
        let mut loops: Vec<Connection> = Vec::new();
        for number in 0..3 {
            let mut connection = Connection::open(server.address);
            connection.send("GET /loop HTTP/1.1\r\nHost: a\r\n\r\n");
            loops.push(connection);
            assert_eq!(Connection::open(server.address).get("/hello").status, 200, "{component}: beside {number} more");
        }
        assert_eq!(server.sum("instances"), 4, "{component}");
    }
}
