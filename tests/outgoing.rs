//! What does a guest learn of an upstream that cannot be trusted, or that does not answer? (Which ones it may reach at all
//! is asked in `isolation`.)

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::isolation::named;
use crate::support::{CEILING, FAULTS, Server, TestResult, get};

/// An upstream that does this with each connection, and what that gave.
fn upstream<T: Send + 'static>(
    serve: impl Fn(TcpStream) -> T + Send + 'static,
) -> std::io::Result<(SocketAddr, Receiver<T>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (tell, told) = channel();
    thread::Builder::new().name("upstream".to_owned()).spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            stream.set_read_timeout(Some(CEILING)).expect("a time-out");
            if tell.send(serve(stream)).is_err() {
                return;
            }
        }
    })?;
    Ok((address, told))
}

/// An upstream with a certificate that it has signed itself, for all names that this machine has. Tells whether a client
/// sent it a request all the same.
fn self_signed() -> Result<(SocketAddr, Receiver<bool>), Box<dyn std::error::Error>> {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let key = PrivateKeyDer::try_from(signing_key.serialize_der())?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![cert.der().clone()], key)?;
    let config = Arc::new(config);
    Ok(upstream(move |stream| {
        let connection = ServerConnection::new(Arc::clone(&config)).expect("a TLS session");
        let mut stream = StreamOwned::new(connection, stream);
        let asked = stream.read(&mut [0; 1024]).is_ok_and(|read| read > 0);
        // Were the client content, it would have its answer.
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        asked
    })?)
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_an_error_for_the_guest_and_no_request_is_sent() -> TestResult {
    let (address, asked) = self_signed()?;
    for component in FAULTS {
        let server = Server::start(component, &["--allow-host", "localhost,127.0.0.1"]);
        for host in ["localhost", "127.0.0.1"] {
            let began = Instant::now();
            let response = get(server.address, &format!("/fetch?url=https://{host}:{}/secret", address.port()));
            let text = response.text();
            assert_eq!(response.status, 502, "{component} {host}: {text}");
            assert!(named(&text, "TlsCertificateError"), "{component} {host}: {text}");
            assert!(began.elapsed() < Duration::from_secs(5), "{component} {host}: {:?}", began.elapsed());
            assert!(!asked.recv_timeout(CEILING)?, "{component} {host}: the request was sent");
        }
        assert_eq!(get(server.address, "/hello").status, 200, "{component}: an error is no fault");
        assert_eq!(server.records(|record| record["fault"].is_string()).len(), 0, "{component}");
    }
    Ok(())
}

#[test]
fn an_upstream_that_speaks_no_tls_is_an_error_of_the_protocol() -> TestResult {
    let (address, _told) = upstream(|mut stream| {
        let read = stream.read(&mut [0; 1024]);
        read.and_then(|_| stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")).is_ok()
    })?;
    for component in FAULTS {
        let server = Server::start(component, &["--allow-host", "127.0.0.1"]);
        let response = get(server.address, &format!("/fetch?url=https://{address}/"));
        assert_eq!(response.status, 502, "{component}");
        assert!(named(&response.text(), "TlsProtocolError"), "{component}: {}", response.text());
    }
    Ok(())
}

/// An upstream that says only these bytes, and tells whether the client then closed its connection.
fn says_only(bytes: &'static [u8]) -> std::io::Result<(SocketAddr, Receiver<bool>)> {
    upstream(move |mut stream| {
        let mut some = [0; 1024];
        // A request, or a TLS client's first words.
        let mut read = stream.read(&mut some);
        if stream.write_all(bytes).is_err() {
            return true;
        }
        loop {
            match read {
                Ok(0) => return true,
                Ok(_) => read = stream.read(&mut some),
                Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    })
}

#[test]
fn an_upstream_that_never_answers_is_given_up_with_its_request_and_its_connection_closed() -> TestResult {
    let (address, closed) = says_only(b"")?;
    for component in FAULTS {
        let server = Server::start(component, &["--allow-host", "127.0.0.1", "--request-timeout", "400ms"]);
        // The response never comes; the handshake never ends.
        for scheme in ["http", "https"] {
            let began = Instant::now();
            let response = get(server.address, &format!("/fetch?url={scheme}://{address}/"));
            assert_eq!(response.status, 504, "{component} {scheme}: {}", response.text());
            let took = began.elapsed();
            assert!(
                took >= Duration::from_millis(350) && took < Duration::from_secs(5),
                "{component} {scheme}: {took:?}"
            );
            assert!(closed.recv_timeout(CEILING)?, "{component} {scheme}: the upstream's connection stays");
        }
        assert_eq!(get(server.address, "/hello").status, 200, "{component}");
    }
    Ok(())
}

#[test]
fn an_upstream_that_falls_silent_breaks_the_response_off() -> TestResult {
    let (address, closed) = says_only(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")?;
    for component in FAULTS {
        let server = Server::start(component, &["--allow-host", "127.0.0.1", "--body-idle-timeout", "400ms"]);
        let response = get(server.address, &format!("/fetch?url=http://{address}/"));
        assert_eq!((response.status, response.text().as_str()), (200, "half"), "{component}");
        assert!(!response.whole, "{component}: half a body looks whole");
        assert!(closed.recv_timeout(CEILING)?, "{component}: the upstream's connection stays");
    }
    Ok(())
}

#[test]
fn an_upstream_that_breaks_off_its_answer_never_makes_a_whole_one() -> TestResult {
    for bytes in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let (address, _told) = upstream(move |mut stream| {
            let read = stream.read(&mut [0; 1024]);
            read.and_then(|_| stream.write_all(bytes)).is_ok()
        })?;
        for component in FAULTS {
            let server = Server::start(component, &["--allow-host", "127.0.0.1"]);
            let response = get(server.address, &format!("/fetch?url=http://{address}/"));
            assert!(!(response.status == 200 && response.whole), "{component}: {response:?}");
            assert_eq!(get(server.address, "/hello").status, 200, "{component}");
        }
    }
    Ok(())
}
