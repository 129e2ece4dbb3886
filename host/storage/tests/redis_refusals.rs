//! What a server refuses: each gives an error that says so, and what was surely not done is not `Unknown`.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use wasmhost_storage::{Edit, KeyValue as _, Redis, RedisOptions, RedisPassword, StoreError, StoreUsage};

use crate::redis_server::{RedisServer, options_of, spawn};
use crate::{PATIENCE, run};

/// An error, when there is one; what the first attempts to connect meet may come before it.
async fn refused(stores: &Redis, reason: &str) {
    let ceiling = Instant::now() + PATIENCE;
    loop {
        let told = stores.increment("a", "n", 1).await;
        match &told {
            Err(StoreError::Refused { reason: found }) if found.contains(reason) => return,
            Err(StoreError::Unknown) => panic!("it is known that nothing was changed: {reason}"),
            _ => assert!(Instant::now() < ceiling, "{told:?}, and not: {reason}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn answers(stores: &Redis) {
    let ceiling = Instant::now() + PATIENCE;
    while let Err(error) = stores.set("b", "k", b"1").await {
        assert!(Instant::now() < ceiling, "{error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_replica_takes_no_changes() {
    run(async {
        let (Some(server), Some(other)) = (RedisServer::start(&[]), RedisServer::start(&[])) else { return };
        let stores = spawn(server.options());
        answers(&stores).await;
        // The connection stays, and the server is a replica from now on.
        server.cli(&["replicaof", "127.0.0.1", &other.port.to_string()]);
        refused(&stores, "it is a replica").await;
        // Nor are values of the past read from it.
        let ceiling = Instant::now() + PATIENCE;
        while stores.get("b", "k").await.is_ok() {
            assert!(Instant::now() < ceiling, "the replica is asked");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.cli(&["replicaof", "no", "one"]);
        answers(&stores).await;
        assert_eq!(stores.get("a", "n").await, Ok(None), "nothing was changed");
    });
}

#[test]
fn a_full_memory_refuses_what_needs_room() {
    run(async {
        let Some(server) = RedisServer::start(&["--maxmemory-policy", "noeviction"]) else { return };
        let stores = spawn(server.options());
        stores.set("a", "k", b"1").await.expect("a write");
        stores.set("b", "n", b"7").await.expect("a write");
        server.cli(&["config", "set", "maxmemory", "100kb"]);
        refused(&stores, "its memory is full").await;
        let full = StoreError::Refused { reason: "its memory is full (OOM)".to_owned() };
        assert_eq!(stores.set("a", "k", b"2").await, Err(full));
        assert_eq!(stores.get("a", "k").await.unwrap().expect("a value").value, b"1");
        // What makes room is done.
        stores.delete("a", "k").await.expect("room");
        assert_eq!(stores.usage("a").await, Ok(StoreUsage::default()));
        server.cli(&["config", "set", "maxmemory", "0"]);
        assert_eq!(stores.increment("b", "n", 1).await, Ok(8));
    });
}

#[test]
fn a_wrong_password_lets_nobody_in_and_is_shown_to_nobody() {
    run(async {
        let user = "--user app on >of-the-app ~{wasmhost:* +@all -@dangerous -@admin";
        let arguments: Vec<_> = ["--requirepass", "right-password"].into_iter().chain(user.split(' ')).collect();
        let login = ["-a", "right-password", "--no-auth-warning"];
        let Some(server) = RedisServer::start_with(&arguments, &login) else { return };
        let of = |user, password| options_of(server.port, user, password, PATIENCE);
        let wrong = of("", "wrong-password");
        assert!(!format!("{:?}", wrong.password).contains("wrong-password"));
        let stores = spawn(wrong);
        refused(&stores, "it does not accept the user or the password").await;
        assert!(!format!("{:?}", stores.get("a", "k").await).contains("wrong-password"));
        refused(&spawn(RedisOptions { password: None, ..of("", "") }), "it wants a password").await;
        answers(&spawn(of("", "right-password"))).await;
        // A user of the access lists that may do no more than this needs.
        refused(&spawn(of("app@", "right-password")), "it does not accept the user").await;
        let app = spawn(of("app@", "of-the-app"));
        answers(&app).await;
        assert_eq!(app.increment("a", "n", 1).await, Ok(1));
        let elsewhere = RedisOptions { prefix: "other".to_owned(), ..of("app@", "of-the-app") };
        refused(&spawn(elsewhere), "access lists").await;
    });
}

#[test]
fn a_server_that_reads_its_data_is_waited_for() {
    run(async {
        let arguments = ["--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"];
        let Some(mut server) = RedisServer::start(&arguments) else { return };
        let stores = spawn(server.options());
        for number in 0..300 {
            stores.set("b", &format!("{number}"), &[b'v'; 100]).await.expect("a write");
        }
        // Keys of somebody else, each of which takes a millisecond to read.
        server.cli(&["debug", "populate", "2000"]);
        assert_eq!(server.cli(&["save"]).trim(), "OK");
        server.kill();
        server.start_again();
        // The first question may still go into the connection that is dead.
        assert!(stores.get("b", "0").await.is_err());
        refused(&stores, "it is reading its data after a start").await;
        answers(&stores).await;
        assert_eq!(stores.get("a", "n").await, Ok(None), "nothing was changed");
        assert_eq!(stores.usage("b").await.expect("usage").keys, 301);
    });
}

#[test]
fn a_store_is_in_one_slot_of_a_cluster() {
    run(async {
        let (Some(server), Some(other)) =
            (RedisServer::start(&["--cluster-enabled", "yes"]), RedisServer::start(&["--cluster-enabled", "yes"]))
        else {
            return;
        };
        let stores = spawn(server.options());
        refused(&stores, "CLUSTERDOWN").await;
        server.cli(&["cluster", "addslotsrange", "0", "16383"]);
        answers(&stores).await;
        assert_eq!(stores.increment("b", "n", 1).await, Ok(1));
        // Another server gets the slot of store `a`.
        server.cli(&["cluster", "meet", "127.0.0.1", &other.port.to_string()]);
        let slot = server.cli(&["cluster", "keyslot", "{wasmhost:a}:rows"]).trim().to_owned();
        let id = other.cli(&["cluster", "myid"]).trim().to_owned();
        let ceiling = Instant::now() + PATIENCE;
        while server.cli(&["cluster", "setslot", &slot, "node", &id]).trim() != "OK" {
            assert!(Instant::now() < ceiling, "the servers do not meet");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        refused(&stores, "another server has the store").await;
    });
}

#[test]
fn a_server_that_runs_a_script_for_too_long_is_busy() {
    run(async {
        let Some(server) = RedisServer::start(&["--lua-time-limit", "10"]) else { return };
        let stores = spawn(server.options());
        answers(&stores).await;
        let port = server.port.to_string();
        let mut script = Command::new("redis-cli");
        script.args(["-p", &port, "eval", "while true do end", "0"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut script = script.spawn().expect("redis-cli");
        let ceiling = Instant::now() + PATIENCE;
        while stores.increment("a", "n", 1).await != Err(StoreError::Busy) {
            assert!(Instant::now() < ceiling, "it is not busy");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.cli(&["script", "kill"]);
        script.wait().expect("an end");
        answers(&stores).await;
    });
}

#[test]
fn a_server_that_forgets_scripts_is_given_them_again() {
    run(async {
        let Some(server) = RedisServer::start(&[]) else { return };
        let stores = spawn(server.options());
        for number in 1..20 {
            server.cli(&["script", "flush"]);
            assert_eq!(stores.increment("a", "n", 1).await, Ok(number));
            assert_eq!(stores.exists("a", "n").await, Ok(true));
        }
    });
}

#[test]
fn a_store_of_which_parts_are_missing_is_refused() {
    run(async {
        let Some(server) = RedisServer::start(&[]) else { return };
        let stores = spawn(server.options());
        for part in ["meta", "rows", "keys"] {
            stores.set("a", "k", b"1").await.expect("a write");
            server.cli(&["del", &format!("{{wasmhost:a}}:{part}")]);
            refused(&stores, "parts of the store are missing").await;
            server.cli(&["flushall"]);
        }
        stores.set("a", "k", b"1").await.expect("a write");
    });
}

#[test]
fn the_time_is_that_of_the_server() {
    run(async {
        let Some(server) = RedisServer::start(&[]) else { return };
        let stores = spawn(server.options());
        let edit = |key: &str, ttl_ms| Edit::Set { key: key.to_owned(), value: b"1".to_vec(), ttl_ms };
        stores
            .write("a", vec![edit("k", Some(300)), edit("l", Some(300_000)), edit("m", None)])
            .await
            .expect("a write");
        let written = Instant::now();
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_millis() as u64;
        let expiry = stores.get("a", "l").await.unwrap().expect("a value").expires_at.expect("an expiry");
        assert!(expiry.abs_diff(now + 300_000) < 10_000, "{expiry} of {now}");
        while stores.get("a", "k").await.unwrap().is_some() {
            assert!(written.elapsed() < PATIENCE, "it does not expire");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(written.elapsed() > Duration::from_millis(200));
        assert_eq!(stores.list("a", "", None, 10).await.unwrap().keys, ["l", "m"]);
        // The sweep comes without being asked.
        while stores.usage("a").await.unwrap().keys > 2 {
            assert!(written.elapsed() < PATIENCE, "it is not removed");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn versions_do_not_come_again_after_all_was_lost() {
    run(async {
        let Some(server) = RedisServer::start(&[]) else { return };
        let stores = spawn(server.options());
        let mut last = 0;
        for _ in 0..3 {
            stores.set("a", "k", b"1").await.expect("a write");
            let version = stores.get("a", "k").await.unwrap().expect("a value").version;
            assert!(version > last, "{version} after {last}");
            last = version;
            server.cli(&["flushall"]);
        }
    });
}

#[test]
fn a_server_with_a_certificate_is_checked() {
    run(async {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = |name: &str| {
            let key = rcgen::KeyPair::generate().expect("a key");
            let mut params = rcgen::CertificateParams::new(vec![]).expect("parameters");
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let certificate = params.self_signed(&key).expect("a certificate");
            (certificate.pem(), rcgen::Issuer::new(params, key))
        };
        let ((ca_pem, issuer), (other_pem, _)) = (authority("one"), authority("other"));
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        let file = |name: &str, text: String| {
            let path = folder.path().join(name);
            std::fs::File::create(&path).expect("a file").write_all(text.as_bytes()).expect("a file");
            path.to_str().expect("text").to_owned()
        };
        let (chain, key) = (file("chain", certificate.pem()), file("key", key.serialize_pem()));
        // The port for TLS is another one, which redis-cli does not need.
        let tls_port =
            std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        let port = tls_port.to_string();
        let arguments =
            ["--tls-port", &port, "--tls-cert-file", &chain, "--tls-key-file", &key, "--tls-auth-clients", "no"];
        let Some(_server) = RedisServer::start(&arguments) else { return };
        let of = |host: &str, ca_pem: Option<&String>| {
            let address = format!("rediss://{host}:{port}").parse().expect("an address");
            let ca_pem = ca_pem.cloned();
            RedisOptions { patience: PATIENCE, ca_pem, ..RedisOptions::new(address) }
        };
        let stores = spawn(of("localhost", Some(&ca_pem)));
        answers(&stores).await;
        assert_eq!(stores.increment("a", "n", 1).await, Ok(1));
        let large = vec![7; 4 << 20];
        stores.set("a", "large", &large).await.expect("a write");
        assert_eq!(stores.get("a", "large").await.unwrap().expect("a value").value, large);
        refused(&spawn(of("localhost", Some(&other_pem))), "certificate").await;
        refused(&spawn(of("localhost", None)), "certificate").await;
        refused(&spawn(of("127.0.0.1", Some(&ca_pem))), "certificate").await;
        // Without TLS at a port for TLS.
        let plain = format!("redis://localhost:{port}").parse().expect("an address");
        let password = Some(RedisPassword::new("secret".to_owned()));
        refused(&spawn(RedisOptions { password, patience: PATIENCE, ..RedisOptions::new(plain) }), "").await;
        for pem in ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let options = of("localhost", Some(&pem.to_owned()));
            assert!(Redis::new(options, vec![]).is_err(), "{pem}");
        }
    });
}
