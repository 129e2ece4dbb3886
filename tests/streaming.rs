//! Does a body that is far larger than the host's memory go through it, up and down at once, and at what cost?

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use crate::support::{Connection, FAULTS, Server, TestResult, request};

/// What is sent in all.
const BODY_BYTES: u64 = 1 << 30;
/// What is sent as one chunk.
const CHUNK_BYTES: usize = 64 * 1024;
/// What the host may need more than at rest.
const GROWTH_MAX_KIB: u64 = 32 * 1024;

/// A chunk's bytes: a pattern whose length is prime to that of any buffer, so that a piece that is lost, doubled or
/// moved shows.
const PERIOD: usize = 251;

fn pattern() -> Vec<u8> {
    (0..CHUNK_BYTES + PERIOD).map(|n| (n % PERIOD) as u8).collect()
}

/// Sends the body in chunks, holding no more than one of them.
fn send(mut stream: TcpStream) -> std::io::Result<()> {
    let pattern = pattern();
    let mut sent = 0_u64;
    let mut frame = Vec::with_capacity(CHUNK_BYTES + 16);
    while sent < BODY_BYTES {
        let from = (sent % PERIOD as u64) as usize;
        frame.clear();
        write!(frame, "{CHUNK_BYTES:x}\r\n")?;
        frame.extend_from_slice(&pattern[from..from + CHUNK_BYTES]);
        frame.extend_from_slice(b"\r\n");
        stream.write_all(&frame)?;
        sent += CHUNK_BYTES as u64;
    }
    stream.write_all(b"0\r\n\r\n")
}

/// Reads a body in chunks to its end, holding no more than a buffer of it: how many bytes it had, all of the pattern.
fn receive(stream: TcpStream) -> Result<u64, Box<dyn std::error::Error>> {
    let pattern = pattern();
    let mut stream = BufReader::with_capacity(CHUNK_BYTES, stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        assert!(stream.read_line(&mut line)? > 0, "the end within the head");
    }
    let mut piece = vec![0; CHUNK_BYTES];
    let mut got = 0_u64;
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let mut left = usize::from_str_radix(line.trim_end(), 16)?;
        if left == 0 {
            return Ok(got);
        }
        while left > 0 {
            let now = left.min(CHUNK_BYTES);
            stream.read_exact(&mut piece[..now])?;
            let from = (got % PERIOD as u64) as usize;
            assert!(piece[..now] == pattern[from..from + now], "other bytes than were sent, before byte {got}");
            got += now as u64;
            left -= now;
        }
        stream.read_exact(&mut piece[..2])?;
    }
}

#[test]
fn a_gibibyte_is_echoed_while_it_is_sent_in_constant_memory() -> TestResult {
    for component in FAULTS {
        let server = Server::start(component, &["--workers", "1", "--body-max", "none"]);
        assert_eq!(request(server.address, "POST", "/echo", &[1; 1 << 20]).body.len(), 1 << 20);
        let before = server.peak_kib();
        let began = std::time::Instant::now();
        let mut connection = Connection::open(server.address);
        connection.send("POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
        let writer = connection.stream.try_clone()?;
        let sender = std::thread::Builder::new().name("sender".to_owned()).spawn(move || send(writer))?;
        let received = receive(connection.stream)?;
        sender.join().expect("the sender does not panic")?;
        assert_eq!(received, BODY_BYTES, "{component}");
        let grown = server.peak_kib() - before;
        eprintln!("{component}: {grown} KiB more, in {:?}", began.elapsed());
        assert!(grown < GROWTH_MAX_KIB, "{component}: {grown} KiB more");
    }
    Ok(())
}
