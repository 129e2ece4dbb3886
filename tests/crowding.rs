//! Does one client leave room for the others (`--max-connections-per-client`), is it forgotten when it leaves, and who is
//! not counted?

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::net::UnixStream;

use crate::support::server::signal;
use crate::support::{CEILING, Connection, FAULTS, Neighbours, Server, TestResult, eventually, get};

const MAX: usize = 4;

/// All connections of one client that are served, and then one more that is not.
#[track_caller]
fn fill(server: &Server, local: IpAddr, count: usize) -> Vec<Connection> {
    let mut open: Vec<Connection> = (0..count).map(|_| Connection::open_from(local, server.address)).collect();
    for connection in &mut open {
        assert_eq!(connection.get("/hello").status, 200);
    }
    open
}

/// Whether a new connection is turned away: with 503, or where the answer was lost, with its end.
#[track_caller]
fn is_refused(server: &Server, local: IpAddr) -> bool {
    let mut connection = Connection::open_from(local, server.address);
    // It may be closed already.
    let _ = connection.stream.write_all(b"GET /hello HTTP/1.1\r\nHost: test\r\n\r\n");
    match connection.try_response(false) {
        None => true,
        Some(response) if response.status == 503 => {
            assert_eq!((response.header("connection"), response.header("retry-after")), (Some("close"), Some("1")));
            true
        }
        Some(response) => {
            assert_eq!(response.status, 200);
            false
        }
    }
}

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[test]
fn a_client_has_so_many_connections_and_the_others_theirs() {
    for (component, balance) in FAULTS.into_iter().zip(["round-robin", "least-connections"]) {
        let server = Server::start(component, &["--max-connections-per-client", "4", "--balance", balance]);
        let neighbours = Neighbours::that_upload(server.address);
        let mut open = fill(&server, LOCAL, MAX);
        for _ in 0..50 {
            assert!(is_refused(&server, LOCAL), "{balance}");
        }
        assert_eq!(server.status()["refused_connections"], 50, "{balance}");
        assert_eq!(server.records(|record| record["limit"] == "--max-connections-per-client").len(), 1, "{balance}");
        for connection in &mut open {
            assert_eq!(connection.get("/hello").status, 200, "{balance}: those that are in go on");
        }
        open.pop();
        eventually("there is room again", || !is_refused(&server, LOCAL));
        drop(open);
        eventually("they have ended", || server.sum("open_connections") <= 2);
        // Wherever connections are counted, as many as before find room: none was left on the books.
        for _ in 0..3 {
            eventually("all are forgotten", || {
                let mut open: Vec<Connection> = (0..MAX).map(|_| Connection::open(server.address)).collect();
                let mut statuses = open.iter_mut().map(|connection| {
                    let _ = connection.stream.write_all(b"GET /hello HTTP/1.1\r\nHost: test\r\n\r\n");
                    connection.try_response(false).map(|response| response.status)
                });
                statuses.all(|status| status == Some(200))
            });
        }
        neighbours.end("beside them");
    }
}

#[test]
fn where_the_kernel_balances_a_client_has_no_more_connections_in_sum() {
    // Processes that accept themselves have a part of the limit each, rounded up.
    let server = Server::start("faults.wasm", &["--max-connections-per-client", "4", "--balance", "kernel"]);
    let mut open: Vec<Connection> = (0..40).map(|_| Connection::open(server.address)).collect();
    let served = open.iter_mut().filter_map(|connection| {
        let _ = connection.stream.write_all(b"GET /hello HTTP/1.1\r\nHost: test\r\n\r\n");
        connection.try_response(false).filter(|response| response.status == 200)
    });
    assert_eq!(served.count(), MAX);
    assert_eq!(server.status()["refused_connections"], 36);
    drop(open);
    eventually("there is room again", || get(server.address, "/hello").status == 200);
}

#[test(needs(Ipv6))]
fn clients_of_ipv6_are_networks() {
    let flags = ["--max-connections-per-client", "1", "--listen", "[::]:0"];
    let mut server = Server::start("faults.wasm", &flags);
    server.address.set_ip(Ipv6Addr::LOCALHOST.into());
    let _one = fill(&server, Ipv6Addr::LOCALHOST.into(), 1);
    assert!(is_refused(&server, Ipv6Addr::LOCALHOST.into()));
    // Of IPv4 by its own address, though the socket is one of IPv6.
    server.address.set_ip(LOCAL);
    let _other = fill(&server, LOCAL, 1);
    assert!(is_refused(&server, LOCAL));
}

#[test]
fn clients_of_a_proxy_or_a_unix_socket_are_not_counted() -> TestResult {
    let server = Server::start("faults.wasm", &["--max-connections-per-client", "1", "--trust-proxy", "127.0.0.2/31"]);
    let _proxy = fill(&server, [127, 0, 0, 3].into(), 8);
    let _client = fill(&server, LOCAL, 1);
    assert!(is_refused(&server, LOCAL));

    let dir = tempfile::tempdir()?;
    let socket = dir.path().join("socket");
    let listen = format!("unix:{}", socket.display());
    let _server = Server::start("faults.wasm", &["--max-connections-per-client", "1", "--listen", &listen]);
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = UnixStream::connect(&socket)?;
        client.set_read_timeout(Some(CEILING))?;
        client.write_all(b"GET /hello HTTP/1.1\r\nHost: test\r\n\r\n")?;
        let mut start = [0; 12];
        client.read_exact(&mut start)?;
        assert_eq!(&start, b"HTTP/1.1 200");
        clients.push(client);
    }
    Ok(())
}

#[test]
fn a_worker_process_that_dies_leaves_no_connection_on_the_books() {
    let flags = ["--max-connections-per-client", "4", "--worker-kind", "process", "--workers", "1"];
    let server = Server::start("faults.wasm", &flags);
    for _ in 0..2 {
        let open = fill(&server, LOCAL, MAX);
        assert!(is_refused(&server, LOCAL));
        for pid in server.worker_pids() {
            signal(pid, "KILL");
        }
        drop(open);
        eventually("there is room for all again", || {
            let mut open: Vec<Connection> = (0..MAX).map(|_| Connection::open(server.address)).collect();
            open.iter_mut().all(|connection| {
                let _ = connection.stream.write_all(b"GET /hello HTTP/1.1\r\nHost: test\r\n\r\n");
                connection.try_response(false).is_some_and(|response| response.status == 200)
            })
        });
        eventually("they have ended", || server.sum("open_connections") == 0);
    }
}

#[test]
fn a_flood_of_one_client_is_turned_away_while_the_other_is_served() {
    for component in FAULTS {
        let server = Server::start(component, &["--max-connections-per-client", "4"]);
        let neighbours = Neighbours::that_upload(server.address);
        let _open = fill(&server, LOCAL, MAX);
        for _ in 0..20 {
            let flood: Vec<Connection> = (0..100).map(|_| Connection::open(server.address)).collect();
            drop(flood);
        }
        eventually("all were turned away", || server.status()["refused_connections"] == 2_000);
        neighbours.end("beside them");
    }
}
