//! What when more comes than can be served? At ten times the load: as much is served as at the load that can be borne,
//! nobody waits for longer than the queue allows, the others are refused with a word of when to come back, and when the
//! load is gone all is as before. The bounds here are loose, since other tests run beside; `tests/bench/overload` prints
//! the figures.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::{Connection, Response, Server, TestResult, guest};

/// A component whose every request takes so many turns of a loop, and so always the same CPU time.
fn burning(turns: u32, file: &std::path::Path) -> TestResult {
    let first = "(call $drop-request (local.get $request))";
    let burn = format!(
        "(local.set $headers (i32.const {turns}))
         (loop $burn (br_if $burn (local.tee $headers (i32.sub (local.get $headers) (i32.const 1)))))"
    );
    let hello = std::fs::read_to_string(guest("wat/hello.wat"))?;
    assert!(hello.contains(first), "hello.wat is another");
    std::fs::write(file, hello.replacen(first, &format!("{burn} {first}"), 1))?;
    Ok(())
}

/// What one client saw: when it asked, the answer, and how long it took.
type Seen = (Instant, Response, Duration);

/// Asks `clients` times at once, each once in `pause` (at once again when the answer took longer), for `time`.
fn load(address: SocketAddr, clients: u32, pause: Duration, time: Duration) -> Vec<Seen> {
    let began = Instant::now();
    let ask = move |client: u32| {
        let mut connection = Connection::open(address);
        let mut seen = Vec::new();
        // Spread over the first pause.
        let mut next = began + pause * client / clients;
        while next.duration_since(began) < time {
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            let asked = Instant::now();
            seen.push((asked, connection.get("/"), asked.elapsed()));
            next = (next + pause).max(Instant::now());
        }
        seen
    };
    let spawn = |client| {
        let thread = std::thread::Builder::new().name(format!("client-{client}")).stack_size(256 * 1024);
        thread.spawn(move || ask(client)).expect("a thread")
    };
    let threads: Vec<_> = (0..clients).map(spawn).collect();
    threads.into_iter().flat_map(|thread| thread.join().expect("a client")).collect()
}

#[test]
fn ten_times_the_load_is_served_as_far_as_it_can_be_and_the_rest_refused_at_once() -> TestResult {
    const QUEUE_TIMEOUT: Duration = Duration::from_millis(500);
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("burn.wat");
    burning(10_000_000, &file)?;
    let flags = ["--workers", "1", "--instances-per-worker", "4", "--queue-timeout", "500ms"];
    let server = Server::start(file.to_str().ok_or("a path in UTF-8")?, &flags);
    let time = Duration::from_secs(3);
    let peak = load(server.address, 4, Duration::ZERO, time);
    assert!(peak.iter().all(|(_, response, _)| response.status == 200));
    let resident_before = server.resident_kib();
    let refused_before = server.sum("sheds.queue-timeout") + server.sum("sheds.queue-full");

    // So many clients, each as often as a tenth of the load that it takes.
    let clients = 120;
    let rate = peak.len() as f64 / time.as_secs_f64();
    let pause = Duration::from_secs_f64(f64::from(clients) / (10.0 * rate));
    // The second half: the line in front of the instances stands by then.
    let (began, load_time) = (Instant::now(), time * 2);
    let seen = load(server.address, clients, pause, load_time);
    let late: Vec<&Seen> = seen.iter().filter(|(asked, _, _)| asked.duration_since(began) >= load_time / 2).collect();
    let (served, refused): (Vec<&Seen>, Vec<&Seen>) =
        late.into_iter().partition(|(_, response, _)| response.status == 200);
    let took = |seen: &[&Seen], percent: usize| {
        let mut times: Vec<Duration> = seen.iter().map(|(_, _, took)| *took).collect();
        times.sort_unstable();
        times.get(times.len() * percent / 100).copied().unwrap_or_default()
    };
    eprintln!(
        "peak {rate:.0}/s; at ten times that {:.0}/s served, p99 {:?}, {} refused, p50 {:?}, p99 {:?}",
        served.len() as f64 / (load_time / 2).as_secs_f64(),
        took(&served, 99),
        refused.len(),
        took(&refused, 50),
        took(&refused, 99)
    );
    assert!(served.len() * 3 >= peak.len(), "{} served, {} at the peak", served.len(), peak.len());
    assert!(!refused.is_empty(), "it was no overload");
    for (_, response, _) in &refused {
        assert_eq!(response.status, 503);
        assert_eq!(response.header("retry-after"), Some("1"));
        assert!(response.whole);
    }
    // Waiting, and then one's own turn beside three others: seconds, where the machine has other things to do.
    assert!(took(&served, 99) < QUEUE_TIMEOUT * 10, "{:?}", took(&served, 99));
    assert!(took(&refused, 50) < QUEUE_TIMEOUT, "in a line that stands: {:?}", took(&refused, 50));

    let all_refused = seen.iter().filter(|(_, response, _)| response.status == 503).count() as u64;
    let counted = server.sum("sheds.queue-timeout") + server.sum("sheds.queue-full") - refused_before;
    assert_eq!(counted, all_refused, "counted and seen");
    assert_eq!(server.sum("requests"), (peak.len() + seen.len()) as u64, "none is lost");
    assert_eq!(server.sum("in_flight"), 0);
    let grown = server.resident_kib().saturating_sub(resident_before);
    assert!(grown < 32 * 1024, "{grown} KiB more");
    let after = load(server.address, 2, Duration::ZERO, Duration::from_secs(1));
    assert!(!after.is_empty() && after.iter().all(|(_, response, _)| response.status == 200), "as before");
    Ok(())
}

#[test]
fn connections_that_come_faster_than_they_are_served_are_answered_each() -> TestResult {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("burn.wat");
    burning(10_000_000, &file)?;
    let flags = ["--instances-per-worker", "8", "--queue-timeout", "200ms"];
    let server = Server::start(file.to_str().ok_or("a path in UTF-8")?, &flags);
    let began = Instant::now();
    // A connection for each request, three hundred at once, in front of some sixteen that can be served.
    let mut connections: Vec<Connection> = (0..300).map(|_| Connection::open(server.address)).collect();
    for connection in &mut connections {
        connection.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    }
    let mut statuses = std::collections::BTreeMap::<u16, usize>::new();
    for connection in &mut connections {
        *statuses.entry(connection.response().status).or_default() += 1;
    }
    eprintln!("{statuses:?} within {:?}", began.elapsed());
    assert_eq!(statuses.values().sum::<usize>(), 300);
    assert!(statuses.keys().all(|status| [200, 503].contains(status)), "{statuses:?}");
    assert!(statuses.get(&200).is_some_and(|served| *served >= 16), "{statuses:?}");
    Ok(())
}
