//! Can a request be read in more than one way, so that a client smuggles one past a proxy (RFC 9112, section 11.2)? Each row
//! of the table says what is sent, what must come back, and how many requests the guest may see, by the guest's own
//! count. `proxies` sends the same through nginx and HAProxy.

mod framing;
mod heads;
mod row;

use std::net::Shutdown;

use self::framing::{bodies, codings, lengths};
use self::heads::{bodies_and_ends, heads, hosts, names_and_values, paths_and_versions, sequences, targets};
use self::row::from;
pub use self::row::{Row, SMUGGLED, Then};
use crate::support::{Connection, FAULTS, Neighbours, Response, Server};

/// The table. Where hyper takes more than the RFC lets a server take, the row's comment says so; all of these are
/// refused.
pub fn table() -> Vec<Row> {
    let chunk = "1\r\na\r\n0\r\n\r\n";
    let all = [
        from("RFC 9112, 6.3", lengths(chunk)),
        from("RFC 9112, 6.1", codings(chunk)),
        from("RFC 9112, 5", heads()),
        from("RFC 9112, 5", names_and_values()),
        from("RFC 9112, 3.2", hosts()),
        from("RFC 9112, 3", targets()),
        from("RFC 9112, 3", paths_and_versions()),
        from("RFC 9112, 7.1", bodies()),
        from("RFC 9112, 9.3", sequences()),
        from("RFC 9112, 9.3", bodies_and_ends()),
    ];
    all.into_iter().flatten().collect()
}

/// What came back, up to the connection's end or the last answer that is expected.
pub fn answers(connection: &mut Connection, row: &Row) -> Vec<Response> {
    let mut answers = Vec::new();
    while row.then == Then::Closed || answers.len() < row.statuses.len() {
        match connection.try_response(false) {
            Some(answer) => answers.push(answer),
            None => break,
        }
    }
    answers
}

#[test]
fn every_request_is_read_in_one_way_or_refused() {
    for component in FAULTS {
        let server = Server::start(component, &["--workers", "1", "--instances-per-worker", "1"]);
        let count = || -> u64 {
            let mut connection = Connection::open(server.address);
            connection.get("/count").text().parse().expect("a number")
        };
        let neighbours = Neighbours::that_upload(server.address);
        let mut wrong = Vec::new();
        let (mut counted, mut generation) = (count(), server.sum("generation"));
        for row in table() {
            let what = format!("{component}: {}", row.name);
            let refused = server.sum("refusals.bad-request");
            let mut connection = Connection::open(server.address);
            connection.send(&row.bytes);
            if row.then == Then::Closed {
                // Otherwise an end before its time would be waited for.
                connection.stream.shutdown(Shutdown::Write).expect("half closed");
            }
            let given = answers(&mut connection, &row);
            let statuses: Vec<u16> = given.iter().map(|answer| answer.status).collect();
            let mut check = |is_so: bool, is_not: &str| {
                if !is_so {
                    wrong.push(format!("{what}: {is_not}: {statuses:?} {given:?}"));
                }
            };
            let is_expected = statuses == row.statuses;
            check(is_expected && given.iter().all(|answer| answer.whole), "other answers");
            if row.then == Then::Closed {
                check(connection.raw_to_end().is_empty(), "bytes behind the last answer");
            } else if is_expected {
                check(connection.get("/hello").text() == "Hello, World!", "it is not kept");
            }
            // A guest whose request was stopped has a successor, which counts anew.
            let (now, generation_now) = (count(), server.sum("generation"));
            let expected = if generation_now == generation { counted + row.seen + 1 } else { 1 };
            check(now == expected, "the guest saw other requests than it should");
            (counted, generation) = (now, generation_now);
            let bad = statuses.iter().filter(|status| **status == 400).count() as u64;
            check(server.sum("refusals.bad-request") == refused + bad, "it is not counted");
        }
        assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
        assert_eq!(server.sum("client_left"), 0, "{component}");
        assert_eq!(
            server.records(|record| record["fault"].is_string()).len(),
            0,
            "{component}: none is the guest's fault"
        );
        neighbours.end("beside them");
    }
}

/// The same bytes, cut into pieces, are read in the same way.
#[test]
fn how_a_request_is_cut_into_pieces_changes_nothing() {
    let server = Server::start("faults.wasm", &["--workers", "1"]);
    let mut wrong = Vec::new();
    for row in table() {
        for piece in [1, 7] {
            let mut connection = Connection::open(server.address);
            for bytes in row.bytes.chunks(piece).take(200) {
                use std::io::Write;
                // It may be refused before all of it was sent.
                if connection.stream.write_all(bytes).is_err() {
                    break;
                }
            }
            if row.bytes.len() > 200 * piece {
                continue;
            }
            if row.then == Then::Closed {
                let _ = connection.stream.shutdown(Shutdown::Write);
            }
            let statuses: Vec<u16> = answers(&mut connection, &row).iter().map(|answer| answer.status).collect();
            let is_closed = row.is_unread && statuses == row.statuses[..1];
            if statuses != row.statuses && !is_closed {
                wrong.push(format!("{} in pieces of {piece}: {statuses:?}", row.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
