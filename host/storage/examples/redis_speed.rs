//! What stores in a server cost beside ioredis, by turns and with the same server: `cargo run --release -p wasmhost-storage
//! --example redis_speed FOLDER`, where FOLDER/node_modules has ioredis (`npm install --prefix FOLDER ioredis`). It needs
//! `redis-server` and `node`.

#![allow(clippy::print_stdout, reason = "it is what it is for")]

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use wasmhost_storage::{Edit, KeyValue, Redis, RedisOptions, StoreQuota};

const KEYS: u64 = 100_000;
const ROUND: Duration = Duration::from_secs(1);
const ROUNDS: usize = 5;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Ends the server.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> Result<()> {
    let folder = std::env::args().nth(1).ok_or("expected a folder whose node_modules has ioredis")?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]).stdout(Stdio::null());
    let _server = Server(command.spawn()?);
    let (redis, line) = Redis::new(
        RedisOptions::new(format!("redis://127.0.0.1:{port}").parse()?),
        vec![("a".to_owned(), StoreQuota::LOOSEST)],
    )?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        tokio::task::spawn_local(line.run());
        let begun = Instant::now();
        while redis.usage("a").await.is_err() {
            if begun.elapsed() > ROUND {
                return Err("the server does not answer".into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for begin in (0..KEYS).step_by(1_000) {
            let edit = |number| Edit::Set { key: key(number), value: vec![b'v'; 100], ttl_ms: None };
            redis.write("a", (begin..begin + 1_000).map(edit).collect()).await?;
        }
        ioredis(&folder, port, 0, "fill").await?;
        for (what, set) in [("get", false), ("set", true)] {
            for clients in [1, 16, 64, 256] {
                let (mut shares, mut each) = (Vec::new(), Vec::new());
                for _ in 0..ROUNDS {
                    let plain = ioredis(&folder, port, clients, what).await?;
                    let gathered = ioredis(&folder, port, clients, &format!("{what}-gathered")).await?;
                    let ours = rate(&redis, clients, set).await?;
                    shares.push((ours / plain, ours / gathered));
                    each.push((plain.round(), gathered.round(), ours.round()));
                }
                let median = |mut shares: Vec<f64>| {
                    shares.sort_by(f64::total_cmp);
                    shares.get(ROUNDS / 2).copied().unwrap_or_default()
                };
                println!(
                    "{what}, {clients} at once: {:.2} of ioredis, {:.2} of it with autopipelining; (ioredis, autopipelining, here) {each:?}",
                    median(shares.iter().map(|share| share.0).collect()),
                    median(shares.iter().map(|share| share.1).collect()),
                );
            }
        }
        Ok(())
    })
}

fn key(number: u64) -> String {
    format!("user:{number:016x}")
}

/// So many operations of each second by Node.js, in a process of its own.
async fn ioredis(folder: &str, port: u16, clients: usize, what: &str) -> Result<f64> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/ioredis.cjs");
    let mut command = Command::new("node");
    command.env("NODE_PATH", format!("{folder}/node_modules")).arg(script);
    command.args([
        port.to_string(),
        clients.to_string(),
        what.to_owned(),
        KEYS.to_string(),
        ROUND.as_millis().to_string(),
    ]);
    command.stderr(Stdio::inherit());
    // The event loop goes on meanwhile.
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

async fn rate(redis: &Redis, clients: usize, set: bool) -> Result<f64> {
    let begun = Instant::now();
    let asking = (0..clients).map(|_| {
        let redis = redis.clone();
        tokio::task::spawn_local(async move {
            let mut answers = 0;
            while begun.elapsed() < ROUND {
                let key = key(fastrand::u64(..KEYS));
                if set {
                    redis.set("a", &key, &[b'v'; 100]).await?;
                } else {
                    redis.get("a", &key).await?;
                }
                answers += 1;
            }
            Ok::<_, wasmhost_storage::StoreError>(answers)
        })
    });
    let mut answers = 0;
    for asked in asking.collect::<Vec<_>>() {
        answers += asked.await??;
    }
    Ok(f64::from(answers) / begun.elapsed().as_secs_f64())
}
