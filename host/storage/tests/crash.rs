//! `kill -9` at random moments. A child writes and tells of each acknowledgement; afterwards everything that was acknowledged
//! must be there, and nothing that was not asked for. `WASMHOST_STORAGE_KILLS` says how often (`.ci/long`: 1,000 times).

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use wasmhost_storage::{Edit, Embedded, KeyValue as _};

use crate::{open, run};

const WRITERS: u64 = 8;
/// Each writer has so many pairs of keys at once, and deletes the oldest with the transaction that sets the newest.
const WINDOW: u64 = 20;
const FOLDER: &str = "WASMHOST_STORAGE_CRASH_FOLDER";

fn key(half: char, writer: u64, number: u64) -> String {
    format!("{half}/{writer}/{number:08}")
}

fn value(writer: u64, number: u64) -> Vec<u8> {
    format!("value {number} of {writer} ").repeat(1 + (number % 9) as usize * 20).into_bytes()
}

fn next_of(writer: u64) -> String {
    format!("next/{writer}")
}

/// The child: its standard input is a socket, to which it writes the number of each writer whose write was acknowledged, or that
/// number and 100 for an increment.
#[test]
#[ignore = "is run, and killed, by another test"]
fn a_process_that_is_killed() {
    let folder = std::env::var(FOLDER).expect("a folder");
    let (stores, _) = open(Path::new(&folder)).expect("stores");
    let line = Rc::new(std::fs::File::from(rustix::io::dup(std::io::stdin()).expect("standard input")));
    run(async move {
        let writers =
            (0..WRITERS).map(|writer| tokio::task::spawn_local(write(stores.clone(), writer, Rc::clone(&line))));
        for writer in writers.collect::<Vec<_>>() {
            writer.await.expect("a writer that goes on for ever");
        }
    });
}

async fn write(stores: Embedded, writer: u64, line: Rc<std::fs::File>) {
    let next = stores.get("a", &next_of(writer)).await.expect("an answer");
    let mut number = next.map_or(0, |next| String::from_utf8(next.value).expect("text").parse().expect("a number"));
    loop {
        let set = |key: String, value: Vec<u8>| Edit::Set { key, value, ttl_ms: None };
        let mut edits = vec![
            set(key('a', writer, number), value(writer, number)),
            set(key('b', writer, number), value(writer, number)),
            set(next_of(writer), (number + 1).to_string().into_bytes()),
        ];
        if let Some(oldest) = number.checked_sub(WINDOW) {
            edits.extend(['a', 'b'].map(|half| Edit::Delete { key: key(half, writer, oldest) }));
        }
        stores.write("a", edits).await.expect("a write");
        (&*line).write_all(&[writer as u8]).expect("a line");
        number += 1;
        if number % 3 == 0 {
            stores.increment("a", "count", 1).await.expect("an increment");
            (&*line).write_all(&[100 + writer as u8]).expect("a line");
        }
    }
}

/// What was acknowledged so far.
#[derive(Default)]
struct Acknowledged {
    writes: [u64; WRITERS as usize],
    increments: i64,
}

async fn check(stores: &Embedded, acknowledged: &mut Acknowledged, round: usize) {
    let mut all = BTreeMap::new();
    let mut after = None;
    loop {
        let page = stores.list("a", "", after, 1_000).await.expect("a page");
        for key in &page.keys {
            let stored = stores.get("a", key).await.expect("an answer").expect("a value");
            all.insert(key.clone(), stored.value);
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let usage = stores.usage("a").await.expect("usage");
    let bytes: usize = all.iter().map(|(key, value)| key.len() + value.len()).sum();
    assert_eq!((usage.keys, usage.bytes), (all.len() as u64, bytes as u64), "round {round}: what is counted is there");
    for writer in 0..WRITERS {
        let last = &mut acknowledged.writes[writer as usize];
        let next = all.remove(&next_of(writer)).map_or(0, |next| String::from_utf8(next).unwrap().parse().unwrap());
        assert!(
            next == *last || next == *last + 1,
            "round {round}, writer {writer}: {last} acknowledged, {next} there"
        );
        for number in u64::saturating_sub(next, WINDOW)..next {
            for half in ['a', 'b'] {
                let found = all.remove(&key(half, writer, number));
                assert_eq!(found, Some(value(writer, number)), "round {round}: {half}/{writer}/{number} of {next}");
            }
        }
        // One that was on its way, whose acknowledgement nobody has heard.
        *last = next;
    }
    let count: i64 = all.remove("count").map_or(0, |count| String::from_utf8(count).unwrap().parse().unwrap());
    let on_their_way = count - acknowledged.increments;
    assert!(
        (0..=WRITERS as i64).contains(&on_their_way),
        "round {round}: {} acknowledged, {count}",
        acknowledged.increments
    );
    acknowledged.increments = count;
    assert!(all.is_empty(), "round {round}: nobody has asked for {:?}", all.keys());
}

#[test]
fn what_was_acknowledged_survives_a_kill_at_any_moment() {
    let rounds = std::env::var("WASMHOST_STORAGE_KILLS").map_or(20, |kills| kills.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("a folder");
    let (mut acknowledged, mut longest, mut before_the_first) = (Acknowledged::default(), Duration::ZERO, 0);
    for round in 0..rounds {
        let (mut line, its) = UnixStream::pair().expect("a pair");
        let mut child = spawn(folder.path(), its);
        if round % 4 != 0 {
            // Three of four rounds reach the writing, also on a slow machine.
            line.set_read_timeout(Some(crate::PATIENCE)).expect("a socket");
            let mut first = [0];
            line.read_exact(&mut first).expect("a first acknowledgement");
            count(&mut acknowledged, &first);
        }
        std::thread::sleep(Duration::from_micros(fastrand::u64(..60_000)));
        child.kill().expect("a kill");
        child.wait().expect("an end");
        let mut told = Vec::new();
        line.read_to_end(&mut told).expect("what it has told");
        before_the_first += usize::from(told.is_empty() && round % 4 == 0);
        count(&mut acknowledged, &told);
        let opening = std::time::Instant::now();
        let (stores, closing) = open(folder.path()).unwrap_or_else(|error| panic!("round {round}: {error}"));
        longest = longest.max(opening.elapsed());
        run(check(&stores, &mut acknowledged, round));
        drop(stores);
        closing.wait();
    }
    let writes: u64 = acknowledged.writes.iter().sum();
    assert!(writes > rounds as u64, "it has written: {writes}");
    println!(
        "{rounds} kills, {before_the_first} of them before the first write: {writes} writes and {} increments, none lost; \
         opening took {longest:?} at most",
        acknowledged.increments
    );
}

/// The child, over this folder; it tells of its acknowledgements on the socket.
fn spawn(folder: &Path, line: UnixStream) -> std::process::Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["crash::a_process_that_is_killed", "--exact", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdin(std::os::fd::OwnedFd::from(line))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a child")
}

#[test]
fn a_kill_while_the_file_is_made_leaves_one_that_can_be_used() {
    let rounds = std::env::var("WASMHOST_STORAGE_KILLS").map_or(40, |kills| kills.parse().expect("a number"));
    let mut made = 0;
    for round in 0..rounds {
        let folder = tempfile::tempdir().expect("a folder");
        let (_line, its) = UnixStream::pair().expect("a pair");
        let data = folder.path().join("data");
        let mut child = spawn(&data, its);
        // From the moment at which it begins to make it.
        let ceiling = std::time::Instant::now() + crate::PATIENCE;
        while !data.exists() && std::time::Instant::now() < ceiling {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_micros(fastrand::u64(..30_000)));
        child.kill().expect("a kill");
        child.wait().expect("an end");
        made += usize::from(crate::file_of(&data).exists());
        let (stores, closing) = open(&data).unwrap_or_else(|error| panic!("round {round}: {error}"));
        run(stores.set("a", "k", b"1")).expect("a write");
        drop(stores);
        closing.wait();
    }
    println!("{rounds} kills while the file was made, {made} after it had its name");
}

fn count(acknowledged: &mut Acknowledged, told: &[u8]) {
    for byte in told {
        match byte.checked_sub(100) {
            Some(_) => acknowledged.increments += 1,
            None => acknowledged.writes[usize::from(*byte)] += 1,
        }
    }
}
