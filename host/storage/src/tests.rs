//! The file on a disk that fails: power cuts, no room, and writes that the disk refuses.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redb::StorageBackend;

use crate::engine::Engine;
use crate::{
    Closing, Edit, Embedded, KeyValue as _, Operation, Reply, StoreError, StoreOptions, StoreQuota, StoreUsage, Stored,
};

/// What a power cut loses in parts.
const SECTOR: usize = 512;

#[derive(Debug, Clone)]
enum Unsynced {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Debug, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Unsynced>,
}

/// A disk in memory that remembers what was not synced yet. Clones are the same disk.
#[derive(Debug, Clone)]
struct Disk {
    content: Arc<Mutex<Content>>,
    room: Arc<AtomicU64>,
    sync_fails: Arc<AtomicBool>,
}

impl Disk {
    fn with(bytes: Vec<u8>) -> Self {
        let content = Content { now: bytes.clone(), durable: bytes, unsynced: Vec::new() };
        let (room, sync_fails) = (Arc::new(AtomicU64::new(u64::MAX)), Arc::default());
        Self { content: Arc::new(Mutex::new(content)), room, sync_fails }
    }

    fn content(&self) -> std::sync::MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is on the disk after a power cut at this moment: what was synced, and any part of what was not.
    fn cut(&self, random: &mut fastrand::Rng) -> Vec<u8> {
        let content = self.content();
        let mut left = content.durable.clone();
        let share = [0.0, 0.1, 0.5, 0.9, 1.0][random.usize(..5)];
        for change in &content.unsynced {
            match change {
                Unsynced::Length(length) => {
                    if random.f64() < share {
                        left.resize(*length, 0);
                    }
                }
                Unsynced::Write(at, bytes) => {
                    for (number, sector) in bytes.chunks(SECTOR).enumerate() {
                        if random.f64() < share {
                            let at = at + number * SECTOR;
                            left.resize(left.len().max(at + sector.len()), 0);
                            left[at..at + sector.len()].copy_from_slice(sector);
                        }
                    }
                }
            }
        }
        left
    }

    fn check_room(&self, end: usize) -> std::io::Result<()> {
        if end as u64 > self.room.load(Relaxed) { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn start(&self, patience: Duration) -> Result<(Embedded, Closing), crate::OpenError> {
        let disk = self.clone();
        let open = move |builder: &redb::Builder| builder.create_with_backend(disk.clone());
        let engine = Engine::open(PathBuf::from("disk"), Box::new(open), 1 << 20)?;
        let quota = StoreQuota { keys_max: 10_000, bytes_max: 1 << 30, ..StoreQuota::LOOSEST };
        Embedded::start_over(
            engine,
            vec![("a".to_owned(), quota)],
            StoreOptions { patience, ..StoreOptions::default() },
        )
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> std::io::Result<u64> {
        Ok(self.content().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        let content = self.content();
        let at = offset as usize;
        let bytes = content.now.get(at..at + out.len()).ok_or(std::io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, length: u64) -> std::io::Result<()> {
        self.check_room(length as usize)?;
        let mut content = self.content();
        content.now.resize(length as usize, 0);
        content.unsynced.push(Unsynced::Length(length as usize));
        Ok(())
    }

    fn sync_data(&self) -> std::io::Result<()> {
        if self.sync_fails.load(Relaxed) {
            return Err(std::io::Error::other("the disk failed"));
        }
        let mut content = self.content();
        content.durable = content.now.clone();
        content.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        let at = offset as usize;
        self.check_room(at + data.len())?;
        let mut content = self.content();
        let end = content.now.len().max(at + data.len());
        content.now.resize(end, 0);
        content.now[at..at + data.len()].copy_from_slice(data);
        content.unsynced.push(Unsynced::Write(at, data.to_vec()));
        Ok(())
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

fn set(key: String, value: &[u8]) -> Edit {
    Edit::Set { key, value: value.to_vec(), ttl_ms: None }
}

fn found(stores: &Embedded, key: &str) -> Option<Vec<u8>> {
    match stores.look("a", &Operation::Get { keys: vec![key.to_owned()] }) {
        Ok(Reply::Values(values)) => values.into_iter().next().flatten().map(|Stored { value, .. }| value),
        other => panic!("{key}: {other:?}"),
    }
}

#[test]
fn what_was_acknowledged_survives_power_cuts() {
    const WRITERS: usize = 5;
    let mut random = fastrand::Rng::with_seed(7);
    let (mut disk, mut began) = (Disk::with(Vec::new()), [0_u64; WRITERS]);
    let mut lost_on_the_way = 0;
    for cut in 0..150 {
        let (stores, closing) = disk.start(PATIENCE).unwrap_or_else(|error| panic!("cut {cut}: {error}"));
        // What writers were told when the power was cut: each writes the same number into two keys.
        let (left, acknowledged) = run(async {
            let acknowledged = std::rc::Rc::new(std::cell::RefCell::new(began));
            for writer in 0..WRITERS {
                let (stores, acknowledged) = (stores.clone(), std::rc::Rc::clone(&acknowledged));
                let sizes = random.usize(1..2_000);
                tokio::task::spawn_local(async move {
                    loop {
                        let number = acknowledged.borrow()[writer] + 1;
                        let value = number.to_string().repeat(sizes);
                        let edits = ["x", "y"].map(|half| set(format!("{half}{writer}"), value.as_bytes()));
                        let edits = edits.into_iter().chain([set(format!("z{writer}"), number.to_string().as_bytes())]);
                        stores.write("a", edits.collect()).await.expect("a write");
                        acknowledged.borrow_mut()[writer] = number;
                    }
                });
            }
            tokio::time::sleep(Duration::from_micros(random.u64(..20_000))).await;
            // Answered first: what is told a moment later may be on the disk as well.
            let told = *acknowledged.borrow();
            (disk.cut(&mut random), told)
        });
        drop(stores);
        closing.wait();
        disk = Disk::with(left);
        let (stores, closing) = disk.start(PATIENCE).unwrap_or_else(|error| panic!("cut {cut}: {error}"));
        let mut usage = StoreUsage::default();
        for writer in 0..WRITERS {
            let number = found(&stores, &format!("z{writer}"))
                .map_or(0, |number| String::from_utf8(number).expect("text").parse().expect("a number"));
            let last = acknowledged[writer];
            // The thread goes on while the disk is copied.
            assert!(number >= last, "cut {cut}, writer {writer}: {last} was acknowledged, {number} is there");
            lost_on_the_way += u64::from(number == last);
            let halves = ["x", "y"].map(|half| found(&stores, &format!("{half}{writer}")));
            assert_eq!(halves[0], halves[1], "cut {cut}, writer {writer}");
            let text = halves[0].as_ref().map_or("", |half| std::str::from_utf8(half).expect("text"));
            assert!(number == 0 || text.starts_with(&number.to_string()), "cut {cut}, writer {writer}");
            began[writer] = number;
            for (key, value) in [("x", text.len()), ("y", text.len()), ("z", number.to_string().len())] {
                if number > 0 {
                    usage.keys += 1;
                    usage.bytes += (key.len() + 1 + value) as u64;
                }
            }
        }
        assert_eq!(stores.look("a", &Operation::Usage), Ok(Reply::Usage(usage)), "cut {cut}");
        assert_eq!(stores.usage_known("a"), Some(usage), "cut {cut}");
        drop(stores);
        closing.wait();
    }
    let written: u64 = began.iter().sum();
    assert!(written > 300 && lost_on_the_way > 50, "{written} written, {lost_on_the_way}");
}

#[test]
fn a_full_disk_refuses_writes_and_loses_nothing() {
    run(async {
        let disk = Disk::with(Vec::new());
        let (stores, closing) = disk.start(PATIENCE).expect("stores");
        stores.set("a", "before", b"1").await.expect("a write");
        disk.room.store(disk.content().now.len() as u64, Relaxed);
        let mut written = 0;
        let error = loop {
            match stores.write("a", vec![set(format!("{written:05}"), &[b'v'; 3_000])]).await {
                Ok(()) => written += 1,
                Err(error) => break error,
            }
            assert!(written < 1_000, "the disk is never full");
        };
        assert!(matches!(&error, StoreError::Io { .. }), "nothing was changed, and that is known: {error:?}");
        assert!(error.to_string().contains("disk") && error.to_string().contains("nothing was changed"), "{error}");
        assert_eq!(found(&stores, &format!("{written:05}")), None);
        for number in 0..written {
            assert!(found(&stores, &format!("{number:05}")).is_some(), "{number}");
        }
        assert_eq!(found(&stores, "before").as_deref(), Some(&b"1"[..]));
        // With room, it goes on without a restart.
        disk.room.store(u64::MAX, Relaxed);
        let ceiling = Instant::now() + PATIENCE;
        while let Err(error) = stores.set("a", "after", b"2").await {
            assert!(Instant::now() < ceiling, "{error}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(found(&stores, "after").as_deref(), Some(&b"2"[..]));
        let held = stores.usage("a").await.expect("usage");
        assert_eq!(held.keys, written + 2);
        assert_eq!(stores.usage_known("a"), Some(held));
        drop(stores);
        closing.wait();
        let content = disk.content();
        assert!(content.durable == content.now, "closing leaves nothing behind");
    });
}

#[test]
fn a_write_that_the_disk_did_not_confirm_is_unknown_or_not_done() {
    run(async {
        let disk = Disk::with(Vec::new());
        let (stores, _) = disk.start(PATIENCE).expect("stores");
        stores.set("a", "k", b"1").await.expect("a write");
        disk.sync_fails.store(true, Relaxed);
        let told = stores.set("a", "k", b"2").await;
        assert_eq!(told, Err(StoreError::Unknown), "it is in the file, but nobody knows for how long");
        // While the disk fails, nothing is acknowledged.
        let told = stores.set("a", "k", b"3").await;
        assert!(matches!(told, Err(StoreError::Io { .. } | StoreError::Unknown)), "{told:?}");
        disk.sync_fails.store(false, Relaxed);
        let ceiling = Instant::now() + PATIENCE;
        while let Err(error) = stores.increment("a", "n", 1).await {
            assert!(Instant::now() < ceiling, "{error}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(found(&stores, "n").as_deref(), Some(&b"1"[..]), "refused ones were not done later");
        let there = found(&stores, "k").expect("a value");
        assert!(there == b"1" || there == b"2", "{there:?}");
    });
}

#[test]
fn a_disk_that_stands_still_is_waited_for_within_bounds() {
    const SOON: Duration = Duration::from_millis(100);
    run(async {
        let disk = Disk::with(Vec::new());
        let (stores, closing) = disk.start(SOON).expect("stores");
        let (stopped, stops) = std::sync::mpsc::channel();
        let (go_on, goes_on) = std::sync::mpsc::channel::<()>();
        let still = disk.clone();
        let holding = std::thread::Builder::new().spawn(move || {
            let _content = still.content();
            stopped.send(()).expect("a test that waits");
            let _ = goes_on.recv();
        });
        stops.recv().expect("a disk that stands still");
        // One is in a transaction; those behind it have not begun, and never will.
        let asking: Vec<_> = (0..2_000)
            .map(|number| {
                let stores = stores.clone();
                tokio::task::spawn_local(async move {
                    tokio::time::sleep(Duration::from_millis(u64::from(number > 0) * 20)).await;
                    stores.increment("a", "n", 1).await
                })
            })
            .collect();
        let begun = Instant::now();
        let mut told = Vec::new();
        for asked in asking {
            told.push(asked.await.expect("an answer"));
        }
        assert!(begun.elapsed() < PATIENCE);
        assert_eq!(told[0], Err(StoreError::Unknown));
        assert!(told[1..].iter().all(|told| *told == Err(StoreError::Busy)), "{:?}", &told[1..]);
        drop(go_on);
        holding.expect("a thread").join().expect("no panic");
        let ceiling = Instant::now() + PATIENCE;
        let number = loop {
            match stores.increment("a", "n", 1).await {
                Ok(number) => break number,
                Err(error) => assert!(Instant::now() < ceiling, "{error}"),
            }
        };
        assert_eq!(number, 2, "the one that was unknown was done, the others were not");
        drop(stores);
        closing.wait();
    });
}
