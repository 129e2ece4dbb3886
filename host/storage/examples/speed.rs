//! What stores cost: `cargo run --release -p wasmhost-storage --example speed [FOLDER [WRITERS]]`. The folder decides about the
//! disk. With WRITERS, it is only how many puts the engine itself makes in a second, with so many in a transaction.
//! CPU time is that of all threads of this process, so it has both sides of the line.

#![allow(clippy::print_stdout, reason = "it is what it is for")]

use std::time::{Duration, Instant};

use redb::{Database, TableDefinition};
use rustix::time::{ClockId, clock_gettime};
use wasmhost_storage::{
    Edit, Embedded, KeyValue, LineEnd, Operation, Remote, StoreFile, StoreOptions, StoreQuota, serve,
};

const KEYS: u64 = 100_000;
const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 3;
const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn key(number: u64) -> String {
    format!("user:{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn value() -> Vec<u8> {
    (0..100).map(|_| fastrand::u8(..)).collect()
}

fn main() -> Result<()> {
    let folder = std::env::args().nth(1).map_or_else(tempfile::tempdir, tempfile::tempdir_in)?;
    if let Some(writers) = std::env::args().nth(2) {
        let engine = Database::create(folder.path().join("engine"))?;
        fill(&engine)?;
        println!("{:.0}", engine_rate(&engine, writers.parse()?)?);
        return Ok(());
    }
    let (stores, _closing) = Embedded::start(
        StoreFile::open(folder.path())?,
        vec![("a".to_owned(), StoreQuota::LOOSEST)],
        StoreOptions::default(),
    )?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let engine = Database::create(folder.path().join("engine"))?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        for begin in (0..KEYS).step_by(1_000) {
            let edit = |number| Edit::Set { key: key(number), value: value(), ttl_ms: None };
            stores.write("a", (begin..begin + 1_000).map(edit).collect()).await?;
        }
        fill(&engine)?;
        let (begun, gets) = (cpu(), 500_000);
        for _ in 0..gets {
            stores.look("a", &Operation::Get { keys: vec![key(fastrand::u64(..KEYS))] })?;
        }
        println!("get of 100 bytes in this process: {:.2} µs", (cpu() - begun) * 1e6 / f64::from(gets));
        let remote = connect(&stores)?;
        for clients in [1, 16] {
            let (begun, gets) = (cpu(), 50_000);
            let asking = (0..clients).map(|_| {
                let remote = remote.clone();
                tokio::task::spawn_local(async move {
                    for _ in 0..gets / clients {
                        remote.get("a", &key(fastrand::u64(..KEYS))).await?;
                    }
                    Ok::<_, wasmhost_storage::StoreError>(())
                })
            });
            for asked in asking.collect::<Vec<_>>() {
                asked.await??;
            }
            println!("get over a line, {clients} at once: {:.1} µs, both sides", (cpu() - begun) * 1e6 / gets as f64);
        }
        for writers in [1, 16, 64] {
            let mut rates = Vec::new();
            for _ in 0..ROUNDS {
                let own = engine_rate(&engine, writers)?;
                let (ours, each) = rate(&stores, writers).await?;
                let (socket, _) = rate(&remote, writers).await?;
                rates.push((ours / own, own, ours, socket, each));
            }
            rates.sort_by(|one, other| one.0.total_cmp(&other.0));
            let (share, own, ours, socket, each) = rates[ROUNDS / 2];
            println!(
                "{writers} writers: {own:.0}/s by the engine with {writers} in a transaction, {ours:.0}/s here ({share:.2}, \
                 {each:.0} µs of CPU each), {socket:.0}/s over a line; shares {:?}",
                rates.iter().map(|rate| (rate.0 * 100.0).round() / 100.0).collect::<Vec<_>>()
            );
        }
        Ok(())
    })
}

fn fill(engine: &Database) -> Result<()> {
    let writing = engine.begin_write()?;
    for number in 0..KEYS {
        writing.open_table(TABLE)?.insert(key(number).as_bytes(), &*value())?;
    }
    Ok(writing.commit()?)
}

fn engine_rate(engine: &Database, writers: usize) -> Result<f64> {
    let (begun, mut writes) = (Instant::now(), 0);
    while begun.elapsed() < ROUND {
        let writing = engine.begin_write()?;
        let mut table = writing.open_table(TABLE)?;
        for _ in 0..writers {
            table.insert(key(fastrand::u64(..KEYS)).as_bytes(), &*value())?;
        }
        drop(table);
        writing.commit()?;
        writes += writers;
    }
    Ok(writes as f64 / begun.elapsed().as_secs_f64())
}

async fn rate(stores: &(impl KeyValue + 'static), writers: usize) -> Result<(f64, f64)> {
    let (begun, used) = (Instant::now(), cpu());
    let writing = (0..writers).map(|_| {
        let stores = stores.clone();
        tokio::task::spawn_local(async move {
            let mut writes = 0;
            while begun.elapsed() < ROUND {
                stores.set("a", &key(fastrand::u64(..KEYS)), &value()).await?;
                writes += 1;
            }
            Ok::<_, wasmhost_storage::StoreError>(writes)
        })
    });
    let mut writes = 0;
    for written in writing.collect::<Vec<_>>() {
        writes += written.await??;
    }
    Ok((f64::from(writes) / begun.elapsed().as_secs_f64(), (cpu() - used) * 1e6 / f64::from(writes)))
}

fn connect(stores: &Embedded) -> Result<Remote> {
    let (ours, its) = LineEnd::pair()?;
    let stores = stores.clone();
    std::thread::Builder::new().name("owner".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { serve(its.watched()?, stores, |_| true).await })
    })?;
    let (remote, line) = Remote::new(Duration::from_secs(30));
    let (read, write) = ours.watched()?;
    tokio::task::spawn_local(line.run(read, write));
    Ok(remote)
}
