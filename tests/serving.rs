//! Is a request answered as HTTP/1.1 and the guest say?

use crate::support::{Connection, FAULTS, Server, get, guest, request};

#[test]
fn hello_is_served_from_both_versions_and_from_text() {
    for component in ["hello.wasm", "hello-p3.wasm", "wat/hello.wat"] {
        let server = Server::start(component, &[]);
        let response = get(server.address, "/");
        assert_eq!((response.status, response.text()), (200, "Hello, World!".to_owned()), "{}", guest(component));
        assert!(response.header("date").is_some(), "{component}");
    }
}

#[test]
fn a_kept_connection_carries_many_requests_and_pipelined_ones_in_order() {
    for component in FAULTS {
        let server = Server::start(component, &[]);
        let mut connection = Connection::open(server.address);
        for _ in 0..10 {
            assert_eq!(connection.get("/hello").status, 200);
        }
        let batch: String =
            (0..20).map(|n| format!("GET /status?code={} HTTP/1.1\r\nHost: test\r\n\r\n", 200 + n * 10)).collect();
        connection.send(batch);
        for n in 0..20 {
            let status = 200 + n * 10;
            assert_eq!(connection.try_response(false).map(|response| response.status), Some(status), "{component}");
        }
    }
}

#[test]
fn echo_streams_both_ways_with_trailers() {
    for component in FAULTS {
        let server = Server::start(component, &[]);
        let body: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let response = request(server.address, "POST", "/echo", &body);
        assert!(response.whole && response.body == body, "{component}");

        let mut connection = Connection::open(server.address);
        connection.send("POST /body-size HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nx-sum: 11\r\n\r\n");
        let response = connection.response();
        assert!(response.text().starts_with("bytes: 11"), "{component}: {}", response.text());
        assert!(response.text().contains("x-sum: 11"), "{component}: {}", response.text());

        let mut connection = Connection::open(server.address);
        connection.send("GET /trailers HTTP/1.1\r\nHost: test\r\nTE: trailers\r\n\r\n");
        let response = connection.response();
        assert_eq!(response.trailers, [("x-checksum".to_owned(), "1234".to_owned())], "{component}");
    }
}

#[test]
fn the_guest_sees_the_request_as_it_was_sent() {
    for component in FAULTS {
        let server = Server::start(component, &[]);
        let mut connection = Connection::open(server.address);
        connection.send("PATCH /request?a=1&b=%20 HTTP/1.1\r\nHost: example.test:81\r\nX-One: 1\r\nX-One: 2\r\nX-Forwarded-For: 9.9.9.9\r\nForwarded: for=9.9.9.9\r\nContent-Length: 0\r\n\r\n");
        let text = connection.response().text();
        for line in [
            "method: PATCH",
            "scheme: http",
            "authority: example.test:81",
            "path: /request?a=1&b=%20",
            "x-one: 1",
            "x-one: 2",
        ] {
            assert!(text.lines().any(|given| given.eq_ignore_ascii_case(line)), "{component}: no `{line}` in:\n{text}");
        }
        assert!(!text.contains("9.9.9.9"), "{component}: forwarded headers of a client that is not trusted:\n{text}");
    }
}

#[test]
fn a_trusted_proxy_may_say_for_whom_it_asks() {
    for component in FAULTS {
        let server = Server::start(component, &["--trust-proxy", "127.0.0.0/8"]);
        let mut connection = Connection::open(server.address);
        connection
            .send("GET /request HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\n\r\n");
        let text = connection.response().text();
        assert!(text.contains("9.9.9.9") && text.contains("scheme: https"), "{component}:\n{text}");
    }
}
