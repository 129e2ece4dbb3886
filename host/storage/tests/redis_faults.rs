//! What may happen between a host and its server: it is killed, stands still, loses answers and connections, and another takes
//! its place. Whatever happens, every wait is bounded, no change is done twice, and what was acknowledged is there.
//! `WASMHOST_STORAGE_REDIS_ROUNDS` says how often (`.ci/long`: more often).

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use wasmhost_storage::{Edit, KeyValue as _, Redis, RedisOptions, StoreError, StoreQuota};

use crate::redis_server::{Proxy, RedisServer, Way, options, spawn};
use crate::{PATIENCE, ROOMY, run};

const SOON: Duration = Duration::from_millis(300);
/// An answer may be late by so much on a busy machine.
const SLACK: Duration = Duration::from_secs(5);

fn rounds(usual: usize) -> usize {
    std::env::var("WASMHOST_STORAGE_REDIS_ROUNDS").map_or(usual, |rounds| rounds.parse().expect("a number"))
}

fn impatient(port: u16) -> RedisOptions {
    RedisOptions { patience: SOON, ..options(port) }
}

/// Asks until there is an answer.
async fn eventually(stores: &Redis, store: &str, key: &str) -> i64 {
    let ceiling = Instant::now() + PATIENCE;
    loop {
        match stores.get(store, key).await {
            Ok(found) => {
                return found.map_or(0, |found| String::from_utf8(found.value).unwrap().parse().expect("a number"));
            }
            Err(error) => assert!(Instant::now() < ceiling, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What became of increments.
#[derive(Default)]
struct Tally {
    acknowledged: Cell<i64>,
    unknown: Cell<i64>,
    refused: Cell<i64>,
    others: RefCell<BTreeSet<String>>,
    longest: Cell<Duration>,
    done: Cell<bool>,
}

impl Tally {
    /// So many clients increment until they are told that it is done.
    fn begin(clients: &[Redis], count: usize) -> (Rc<Self>, Vec<tokio::task::JoinHandle<()>>) {
        let tally = Rc::new(Self::default());
        let tasks = (0..count).map(|number| {
            let (client, tally) = (clients[number % clients.len()].clone(), Rc::clone(&tally));
            tokio::task::spawn_local(async move {
                while !tally.done.get() {
                    let begun = Instant::now();
                    let told = client.increment("a", "n", 1).await;
                    tally.longest.set(tally.longest.get().max(begun.elapsed()));
                    let counted = match told {
                        Ok(_) => &tally.acknowledged,
                        Err(StoreError::Unknown) => &tally.unknown,
                        Err(error) => {
                            tally.others.borrow_mut().insert(error.to_string());
                            // Nobody asks again at once whom a server has just refused.
                            tokio::time::sleep(Duration::from_millis(2)).await;
                            &tally.refused
                        }
                    };
                    counted.set(counted.get() + 1);
                }
            })
        });
        let tasks = tasks.collect();
        (tally, tasks)
    }

    async fn acknowledges(&self, more: i64) {
        let (ceiling, before) = (Instant::now() + PATIENCE, self.acknowledged.get());
        while self.acknowledged.get() < before + more {
            assert!(Instant::now() < ceiling, "{} acknowledged, {:?}", self.acknowledged.get(), self.others.borrow());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn end(&self, tasks: Vec<tokio::task::JoinHandle<()>>, stores: &Redis, what: &str) {
        self.done.set(true);
        for task in tasks {
            task.await.expect("a client");
        }
        let (least, most) = (self.acknowledged.get(), self.acknowledged.get() + self.unknown.get());
        let there = eventually(stores, "a", "n").await;
        println!(
            "{what}: {least} acknowledged, {} unknown, {} refused, {there} there, longest {:?}; {:?}",
            self.unknown.get(),
            self.refused.get(),
            self.longest.get(),
            self.others.borrow()
        );
        assert!((least..=most).contains(&there), "{what}: {least} <= {there} <= {most}");
    }
}

#[test]
fn a_change_whose_answer_is_lost_is_unknown_and_not_asked_again() {
    run(async {
        let Some(server) = RedisServer::start(&[]) else { return };
        let proxy = Proxy::start(server.port).await;
        for cut in [false, true] {
            let stores = spawn(impatient(proxy.port));
            let store = if cut { "a" } else { "b" };
            assert_eq!(eventually(&stores, store, "n").await, 0);
            let edit = || Edit::Set { key: "m".to_owned(), value: b"1".to_vec(), ttl_ms: None };
            // A server that lacks a script says so before it does anything; it has these from now on.
            let told = tokio::join!(
                stores.increment(store, "n", 0),
                stores.swap(store, Some(1), edit()),
                stores.delete(store, "k")
            );
            assert_eq!(told, (Ok(0), Ok(false), Ok(())));
            proxy.way.send_replace(Way::Deaf);
            let asking = tokio::task::spawn_local({
                let stores = stores.clone();
                async move {
                    tokio::join!(
                        stores.increment(store, "n", 1),
                        stores.swap(store, None, edit()),
                        stores.set(store, "k", b"1"),
                        stores.get(store, "k")
                    )
                }
            });
            if cut {
                while !server.cli(&["hget", &format!("{{wasmhost:{store}}}:rows"), "n"]).trim().ends_with('1') {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                proxy.cut();
            }
            let told = asking.await.expect("answers");
            let (unknown, unavailable) = (StoreError::Unknown, StoreError::Unavailable);
            assert_eq!(
                told,
                (Err(unknown.clone()), Err(unknown.clone()), Err(unknown), Err(unavailable)),
                "cut: {cut}"
            );
            proxy.way.send_replace(Way::Open);
            // All was done, once.
            assert_eq!(eventually(&stores, store, "n").await, 1);
            for key in ["k", "m"] {
                assert_eq!(stores.get(store, key).await.unwrap().expect("a value").value, b"1");
            }
        }
    });
}

#[test]
fn nothing_is_lost_or_done_twice_while_connections_are_killed() {
    run(async {
        let Some(server) = RedisServer::start(&[]) else { return };
        let clients: Vec<_> = (0..4).map(|_| spawn(server.options())).collect();
        let (tally, tasks) = Tally::begin(&clients, 64);
        let mut seen_unknown = 0;
        for _ in 0..rounds(20) {
            tally.acknowledges(200).await;
            server.cli(&["client", "kill", "type", "normal"]);
            seen_unknown = tally.unknown.get();
        }
        tally.end(tasks, &clients[0], "connections killed").await;
        assert!(seen_unknown > 0, "the kills hit nothing");
    });
}

#[test]
fn what_a_server_keeps_survives_its_kills() {
    run(async {
        let Some(mut server) = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]) else { return };
        let clients: Vec<_> = (0..4).map(|_| spawn(server.options())).collect();
        let (tally, tasks) = Tally::begin(&clients, 64);
        for _ in 0..rounds(4) {
            tally.acknowledges(100).await;
            server.kill();
            // While it is away, questions are refused at once.
            let ceiling = Instant::now() + PATIENCE;
            while !matches!(clients[0].set("b", "k", b"").await, Err(StoreError::Refused { .. })) {
                assert!(Instant::now() < ceiling, "the kill is not noticed");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let begun = Instant::now();
            assert!(clients[0].set("b", "k", b"").await.is_err());
            assert!(begun.elapsed() < SLACK);
            server.start_again();
        }
        tally.acknowledges(100).await;
        tally.end(tasks, &clients[0], "server killed").await;
        let others = tally.others.borrow();
        assert!(others.iter().any(|error| error.contains("it cannot be reached")), "{others:?}");
        assert!(others.iter().all(|error| error.ends_with("nothing was changed")), "{others:?}");
    });
}

/// What stands still, how it goes on, and whether questions that were sent may be done later.
async fn stands_still(server: &RedisServer, port: u16, stop: impl Fn(), go_on: impl Fn()) {
    let stores = spawn(impatient(port));
    assert_eq!(eventually(&stores, "a", "n").await, 0);
    stop();
    // More than may be asked at once, in several waves.
    for wave in 0..3 {
        let begun = Instant::now();
        let asking: Vec<_> = (0..1_000)
            .map(|_| {
                let stores = stores.clone();
                tokio::task::spawn_local(async move { stores.increment("a", "n", 1).await })
            })
            .collect();
        let (mut unknown, mut busy, mut refused) = (0, 0, 0);
        for asked in asking {
            match asked.await.expect("an answer") {
                Err(StoreError::Unknown) => unknown += 1,
                Err(StoreError::Busy) => busy += 1,
                Err(StoreError::Refused { .. }) => refused += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(begun.elapsed() < 2 * SOON + SLACK, "wave {wave} took {:?}", begun.elapsed());
        println!("wave {wave}: {unknown} unknown, {busy} busy, {refused} refused in {:?}", begun.elapsed());
        // Only what was sent may have been done.
        assert!(
            if wave == 0 { unknown == 256 && busy == 744 } else { unknown <= 256 },
            "{unknown} unknown, {busy} busy"
        );
    }
    assert!(matches!(
        stores.get("a", "n").await,
        Err(StoreError::Refused { .. } | StoreError::Busy | StoreError::Unavailable)
    ));
    go_on();
    let there = eventually(&stores, "a", "n").await;
    assert!((0..=3 * 256).contains(&there), "{there}");
    let sum = stores.increment("a", "n", 1).await.expect("an increment");
    assert!(sum > there);
    assert!(server.info("connected_clients").parse::<usize>().expect("a number") < 20, "connections do not pile up");
}

#[test]
fn a_server_that_stands_still_is_waited_for_within_bounds() {
    run(async {
        let Some(server) = RedisServer::start(&[]) else { return };
        stands_still(&server, server.port, || server.signal(Signal::STOP), || server.signal(Signal::CONT)).await;
    });
}

#[test]
fn a_network_that_swallows_all_is_waited_for_within_bounds() {
    run(async {
        let Some(server) = RedisServer::start(&[]) else { return };
        let proxy = Proxy::start(server.port).await;
        let turn = |way| {
            proxy.way.send_replace(way);
        };
        stands_still(&server, proxy.port, || turn(Way::Black), || turn(Way::Open)).await;
    });
}

#[test]
fn a_replica_takes_over_and_nothing_acknowledged_is_lost() {
    run(async {
        let (Some(first), Some(second)) = (RedisServer::start(&[]), RedisServer::start(&[])) else { return };
        let mut servers = [first, second];
        let proxy = Proxy::start(servers[0].port).await;
        let clients: Vec<_> = (0..4).map(|_| spawn(options(proxy.port))).collect();
        let (tally, tasks) = Tally::begin(&clients, 64);
        for round in 0..rounds(3) {
            let [primary, replica] = &servers;
            replica.cli(&["replicaof", "127.0.0.1", &primary.port.to_string()]);
            let ceiling = Instant::now() + PATIENCE;
            while replica.info("master_link_status") != "up" {
                assert!(
                    Instant::now() < ceiling,
                    "the replica does not come up: {}",
                    primary.cli(&["info", "replication"])
                );
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            tally.acknowledges(100).await;
            // The primary holds changes back until the replica has all, and they change places.
            assert_eq!(primary.cli(&["failover"]).trim(), "OK", "round {round}");
            while replica.info("role") != "master" {
                assert!(Instant::now() < ceiling, "no fail-over: {}", primary.cli(&["info", "replication"]));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // Whoever keeps its connection meets a replica for a moment.
            tokio::time::sleep(Duration::from_millis(50)).await;
            proxy.target.send_replace(replica.port);
            servers.reverse();
            tally.acknowledges(100).await;
        }
        tally.end(tasks, &clients[0], "fail-over").await;
        let others = tally.others.borrow();
        assert!(others.iter().any(|error| error.contains("replica")), "{others:?}");
    });
}

#[test]
fn two_hosts_fill_a_store_to_its_quota_and_not_further() {
    run(async {
        let Some(server) = RedisServer::start(&[]) else { return };
        let quota = StoreQuota { keys_max: 500, ..ROOMY };
        let hosts: Vec<_> = (0..2).map(|_| spawn(server.options())).collect();
        for host in &hosts {
            host.grant(vec![("a".to_owned(), quota)]).expect("a grant");
        }
        let writing = (0..40_usize).map(|writer| {
            let host = hosts[writer % 2].clone();
            tokio::task::spawn_local(async move {
                let mut written = 0;
                loop {
                    match host.set("a", &format!("{writer}/{written}"), b"value").await {
                        Ok(()) => written += 1,
                        Err(StoreError::KeysFull { max: 500 }) => return written,
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        });
        let mut written = 0;
        for writer in writing.collect::<Vec<_>>() {
            written += writer.await.expect("a writer");
        }
        assert_eq!(written, 500);
        let usage = hosts[0].usage("a").await.expect("usage");
        let keys = hosts[1].list("a", "", None, 1_000).await.expect("a page").keys;
        assert_eq!((usage.keys, keys.len()), (500, 500));
        assert_eq!(usage.bytes, keys.iter().map(|key| key.len() as u64 + 5).sum::<u64>());
    });
}

#[test]
fn whoever_gives_up_leaves_no_place_taken() {
    run(async {
        let Some(server) = RedisServer::start(&[]) else { return };
        let stores = spawn(server.options());
        for _ in 0..20 {
            let asking: Vec<_> = (0..200).map(|_| Box::pin(stores.increment("a", "n", 1))).collect();
            // Asked, and dropped before there is an answer.
            let _ = tokio::time::timeout(Duration::from_micros(200), futures_util::future::join_all(asking)).await;
        }
        assert!(eventually(&stores, "a", "n").await <= 20 * 200);
        let asking: Vec<_> = (0..200).map(|_| stores.increment("a", "n", 1)).collect();
        for told in futures_util::future::join_all(asking).await {
            told.expect("there is room");
        }
    });
}
