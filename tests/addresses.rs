//! Addresses of both families: who a client of IPv4 is on a socket of IPv6, and both families side by side on one port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::support::apps::{Folder, app};
use crate::support::{Connection, FAULTS, Server, TestResult, command, eventually, free_port, get, run};

const KINDS: [&str; 2] = ["thread", "process"];
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LOCAL_6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// What the guest sees of a request, and the client's own address.
fn seen(address: SocketAddr, fields: &str) -> std::io::Result<(String, SocketAddr)> {
    let mut found = Err(std::io::ErrorKind::TimedOut.into());
    // A worker may not have loaded the app yet.
    eventually("the app is loaded", || {
        let mut client = Connection::open(address);
        client.send(format!("GET /request HTTP/1.1\r\nHost: test\r\n{fields}\r\n"));
        let own = client.stream.local_addr();
        let answer = client.response();
        found = own.map(|own| (answer.text().to_ascii_lowercase(), own));
        answer.status != 503
    });
    found
}

#[test(needs(Ipv6))]
fn a_client_of_ipv4_has_its_own_address_on_a_socket_of_ipv6() -> TestResult {
    let kinds =
        [(FAULTS[0], "thread", "round-robin"), (FAULTS[1], "process", "round-robin"), (FAULTS[0], "process", "kernel")];
    for (component, kind, balance) in kinds {
        let what = format!("{component} {kind} {balance}");
        let settings = Folder::new(&format!(
            "listen = \"[::]:0\"\nbalance = \"{balance}\"\nworker-kind = \"{kind}\"\naccess-log = true\ntrust-proxy = [\"127.0.0.1\"]\n{}",
            app("one", component, "*", "forwarded-headers = true")
        ))?;
        let mut command = command();
        command.arg("-c").arg(settings.file()).args([
            "--log-format",
            "json",
            "--admin",
            "127.0.0.1:0",
            "--workers",
            "2",
        ]);
        command.env_remove("WASMHOST_WORKER_KIND");
        let server = Server::spawn(command);
        let port = server.address.port();
        eventually("the app is loaded", || get(SocketAddr::new(LOCAL_6, port), "/hello").status == 200);
        for ip in [LOCAL, LOCAL_6] {
            let (text, own) = seen(SocketAddr::new(ip, port), "X-Forwarded-Proto: https\r\n")?;
            assert_eq!(own.ip(), ip);
            // Only the proxy that is trusted may say what its client speaks; it is added to the list of proxies.
            assert_eq!(text.contains("scheme: https"), ip == LOCAL, "{what}: {text}");
            let (text, own) = seen(SocketAddr::new(ip, port), "")?;
            assert!(text.contains(&format!("x-forwarded-for: {ip}\n")), "{what}: {text}");
            assert!(text.contains(&format!("forwarded: for=\"{own}\"")), "{what}: {text}");
            server.wait_for_record("its line", |record| record["peer"] == own.to_string());
        }
        let mapped = server.records(|record| record["peer"].as_str().is_some_and(|peer| peer.contains("ffff")));
        assert!(mapped.is_empty(), "{what}: {mapped:?}");
    }
    Ok(())
}

#[test(needs(Ipv6))]
fn a_balancer_may_name_a_client_of_ipv4_in_the_form_of_ipv6() -> TestResult {
    let server = Server::start(
        "faults.wasm",
        &["--proxy-protocol", "--trust-proxy", "127.0.0.1", "--access-log", "--listen", "[::]:0"],
    );
    let mut client = Connection::open(SocketAddr::new(LOCAL, server.address.port()));
    client.send("PROXY TCP6 ::ffff:192.0.2.7 ::ffff:192.0.2.8 4711 443\r\nGET /hello HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.response().status, 200);
    server.wait_for_record("the client's line", |record| record["peer"] == "192.0.2.7:4711");
    Ok(())
}

#[test(needs(Ipv6))]
fn one_port_may_be_both_families_alone_and_one_socket_serves_both() -> TestResult {
    for kind in KINDS {
        let port = free_port();
        let address = |ip: IpAddr| SocketAddr::new(ip, port);
        // One address of each.
        let [one, other] = [LOCAL, LOCAL_6].map(|ip| address(ip).to_string());
        let server = Server::start("hello.wasm", &["--listen", &one, "--listen", &other, "--worker-kind", kind]);
        assert_eq!(server.addresses(), [address(LOCAL), address(LOCAL_6)], "{kind}");
        for ip in [LOCAL, LOCAL_6] {
            assert_eq!(get(address(ip), "/").text(), "Hello, World!", "{kind} {ip}");
        }
        drop(server);
        // `[::]` is all addresses of both families, so `0.0.0.0` beside it is one too many.
        let [all, all_4] = ["[::]", "0.0.0.0"].map(|ip| format!("{ip}:{port}"));
        for order in [[&all, &all_4], [&all_4, &all]] {
            let mut both = command();
            both.arg(crate::support::guest("hello.wasm")).args([
                "--listen",
                order[0],
                "--listen",
                order[1],
                "--worker-kind",
                kind,
            ]);
            let failed = run(both);
            assert_eq!(failed.code, Some(1), "{failed:?}");
            assert!(failed.stderr.contains(&format!("cannot listen on {}", order[1])), "{kind}: {failed:?}");
            assert!(failed.stderr.contains("`[::]` takes clients of IPv4, too"), "{kind}: {failed:?}");
        }
        let _server = Server::start("hello.wasm", &["--listen", &all, "--worker-kind", kind]);
        for ip in [LOCAL, LOCAL_6] {
            assert_eq!(get(address(ip), "/").text(), "Hello, World!", "{kind} {ip}");
        }
    }
    Ok(())
}

#[test(needs(Ipv6))]
fn a_reload_moves_from_one_family_to_both() -> TestResult {
    let port = free_port();
    let file = |listen: &str| format!("listen = \"{listen}:{port}\"\n{}", app("hello", "hello.wasm", "*", ""));
    let settings = Folder::new(&file("127.0.0.1"))?;
    let mut command = command();
    command.arg("-c").arg(settings.file()).args(["--log-format", "json", "--admin", "127.0.0.1:0"]);
    let server = Server::spawn(command);
    eventually("it serves", || get(SocketAddr::new(LOCAL, port), "/").status == 200);
    settings.write(&file("[::]"))?;
    server.signal("HUP");
    for ip in [LOCAL_6, LOCAL] {
        eventually("it serves both", || {
            std::net::TcpStream::connect(SocketAddr::new(ip, port)).is_ok()
                && get(SocketAddr::new(ip, port), "/").status == 200
        });
    }
    Ok(())
}
