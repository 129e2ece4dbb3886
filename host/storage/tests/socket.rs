//! What only a socket can do: lose answers, stall, and carry what is no message.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use wasmhost_storage::{KeyValue as _, Remote, StoreError, serve};

use crate::{PATIENCE, connect, embedded, run};

const SOON: Duration = Duration::from_millis(200);

/// A client that asks over this socket.
fn asking(socket: UnixStream, patience: Duration) -> Remote {
    let (remote, line) = Remote::new(patience);
    let (read, write) = socket.into_split();
    tokio::task::spawn_local(line.run(read, write));
    remote
}

/// A client whose other side is in the hands of the test.
fn alone(patience: Duration) -> (Remote, UnixStream) {
    let (ours, its) = UnixStream::pair().expect("a pair");
    (asking(ours, patience), its)
}

#[test]
fn a_change_whose_answer_is_lost_is_unknown_and_not_asked_again() {
    run(async {
        let (remote, mut its) = alone(PATIENCE);
        let asking = tokio::task::spawn_local({
            let remote = remote.clone();
            async move { tokio::join!(remote.increment("a", "n", 1), remote.get("a", "n"), remote.set("a", "k", b"")) }
        });
        let mut bytes = vec![0; 4_096];
        its.readable().await.expect("a question");
        tokio::time::sleep(Duration::from_millis(20)).await;
        let read = its.read(&mut bytes).await.expect("questions");
        drop(its);
        let told = asking.await.expect("answers");
        assert_eq!(told, (Err(StoreError::Unknown), Err(StoreError::Unavailable), Err(StoreError::Unknown)));
        // Three messages came, each once.
        let (mut at, mut messages) = (0, 0);
        while at < read {
            at += 4 + u32::from_le_bytes(bytes[at..at + 4].try_into().expect("a length")) as usize;
            messages += 1;
        }
        assert_eq!((at, messages), (read, 3));
        assert_eq!(remote.increment("a", "n", 1).await, Err(StoreError::Unavailable), "it was not asked at all");
    });
}

#[test]
fn an_owner_that_does_not_answer_is_waited_for_within_bounds() {
    run(async {
        let (remote, its) = alone(SOON);
        let begun = Instant::now();
        assert_eq!(remote.increment("a", "n", 1).await, Err(StoreError::Unknown), "it was sent");
        assert_eq!(remote.get("a", "n").await, Err(StoreError::Unavailable));
        assert!(begun.elapsed() >= 2 * SOON && begun.elapsed() < PATIENCE);
        // As many as one store may have there are with the other side, of which two have no answer yet; what does not fit is refused
        // at once.
        let asking: Vec<_> = (0..1_000)
            .map(|_| {
                let remote = remote.clone();
                tokio::task::spawn_local(async move { remote.increment("a", "n", 1).await })
            })
            .collect();
        let (mut unknown, mut busy) = (0, 0);
        for asked in asking {
            match asked.await.expect("an answer") {
                Err(StoreError::Unknown) => unknown += 1,
                Err(StoreError::Busy) => busy += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(unknown == 254 && busy == 1_000 - unknown, "{unknown} unknown, {busy} busy");
        drop(its);
    });
}

#[test]
fn an_owner_that_is_gone_is_told_of_at_once() {
    run(async {
        let (remote, its) = alone(PATIENCE);
        drop(its);
        let begun = Instant::now();
        assert!(matches!(remote.set("a", "k", b"").await, Err(StoreError::Unknown | StoreError::Unavailable)));
        assert_eq!(remote.set("a", "k", b"").await, Err(StoreError::Unavailable));
        assert_eq!(remote.get("a", "k").await, Err(StoreError::Unavailable));
        assert!(begun.elapsed() < PATIENCE);
    });
}

#[test]
fn a_process_asks_only_the_stores_that_it_may_ask() {
    run(async {
        let world = embedded().await;
        let (ours, its) = UnixStream::pair().expect("a pair");
        tokio::task::spawn_local(serve(its.into_split(), world.owner.clone(), |name| name == "b"));
        let remote = asking(ours, PATIENCE);
        world.owner.set("a", "k", b"1").await.expect("a write");
        let missing = StoreError::NoSuchStore { name: "a".to_owned() };
        assert_eq!(remote.get("a", "k").await, Err(missing.clone()));
        assert_eq!(remote.set("a", "k", b"2").await, Err(missing));
        remote.set("b", "k", b"2").await.expect("a write");
        assert_eq!(world.owner.get("a", "k").await.expect("an answer").map(|stored| stored.value), Some(b"1".to_vec()));
    });
}

#[test]
fn what_is_no_message_ends_the_connection_and_nothing_else() {
    run(async {
        let world = embedded().await;
        for trial in 0..500_u64 {
            let mut random = fastrand::Rng::with_seed(trial);
            let (mut ours, its) = UnixStream::pair().expect("a pair");
            let serving = tokio::task::spawn_local(serve(its.into_split(), world.owner.clone(), |_| true));
            let mut bytes: Vec<u8> = (0..random.usize(1..200)).map(|_| random.u8(..)).collect();
            match trial % 3 {
                0 => {}
                // A right length, and nonsense in it.
                1 => {
                    let length = u32::try_from(bytes.len()).expect("few bytes");
                    bytes.splice(0..0, length.to_le_bytes());
                }
                // A length of which no more comes than that.
                _ => bytes.splice(0..0, (8_u32 << 20).to_le_bytes()).for_each(drop),
            }
            ours.write_all(&bytes).await.expect("bytes");
            ours.shutdown().await.expect("an end");
            let mut answer = Vec::new();
            ours.read_to_end(&mut answer).await.expect("an answer or none");
            assert!(serving.await.expect("no panic").is_err() || answer.is_empty(), "trial {trial}: {answer:?}");
        }
        let remote = connect(&world.owner);
        remote.set("a", "k", b"1").await.expect("others go on");
        assert_eq!(world.owner.usage("a").await.expect("usage").keys, 1);
        // The same for replies.
        let (remote, mut its) = alone(PATIENCE);
        let asking = tokio::task::spawn_local(async move { remote.increment("a", "n", 1).await });
        its.readable().await.expect("a question");
        its.write_all(&[9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 99]).await.expect("nonsense");
        assert_eq!(asking.await.expect("an answer"), Err(StoreError::Unknown));
    });
}
