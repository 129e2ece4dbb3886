//! Resolves names with the C library, so that `/etc/hosts`, `/etc/resolv.conf` and `nsswitch.conf` have the same effect as
//! in every other program.
//!
//! The C library blocks its thread, up to half a minute if a name server does not answer, and cannot be interrupted. So
//! each worker has a limited number of threads for look-ups, which do nothing else, and each app a part of them (`bounds`).
//! Requests of an app for the same name share one look-up, and what it found serves the app for a few seconds more: the C
//! library does not tell for how long a name server lets an answer be used (its TTL), and few let it be used for less. The names of one domain can only take some of the threads,
//! because whoever runs the domain decides how long its names take. Apps share no look-up and no domain's count: one that
//! asks for many names of a domain does not hold up another that asks for one.

use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use wasmhost_base::quota::{Account, Claim};

use crate::bounds::LOOK_UPS_MAX;

/// How many of a worker's threads may look up names of one domain for an app.
const THREADS_PER_DOMAIN_MAX: usize = 8;
/// How long a thread waits for the next look-up before it ends.
const THREAD_IDLE: Duration = Duration::from_secs(10);
/// How many addresses of one name are used. The others are left out.
const ADDRESSES_MAX: usize = 16;

/// For how long what was found is used: in a burst of requests one look-up is made, and a name that moves is followed soon.
const KNOWN_FOR: Duration = Duration::from_secs(5);
/// The same of a name that was not found.
const UNKNOWN_FOR: Duration = Duration::from_secs(1);
/// How many names an app has on a worker that were looked up; beyond, those go first that were looked up first.
const KNOWN_MAX: usize = 256;

/// The addresses of a name, or the C library's error. Everyone who asked for the name gets it.
type Outcome = Result<Arc<[IpAddr]>, Arc<str>>;
/// Finds addresses of a name. Blocks.
type LookUp = fn(&str) -> std::io::Result<Vec<IpAddr>>;

/// What a worker looks up names with.
pub(super) struct Names {
    look_up: LookUp,
    /// Only its blocking threads are used. It is taken out when this is dropped.
    threads: Option<Runtime>,
    /// A thread was given back.
    freed: Arc<Notify>,
}

/// The look-ups of one app on a worker.
pub(super) struct LookUps {
    /// The threads that it has.
    account: Arc<Account>,
    books: Arc<Mutex<Books>>,
}

#[derive(Default)]
struct Books {
    /// Look-ups that run or wait for a thread, by name.
    running: HashMap<String, Arc<watch::Sender<Option<Outcome>>>>,
    /// Threads that each domain may still take. Only domains with look-ups are listed.
    domains: HashMap<String, Arc<Semaphore>>,
    /// What was found lately, by name, and until when it is used.
    known: HashMap<String, (Outcome, Instant)>,
}

impl Books {
    /// What was found lately of this name.
    fn known(&self, host: &str) -> Option<Outcome> {
        let (outcome, until) = self.known.get(host)?;
        (Instant::now() < *until).then(|| outcome.clone())
    }

    fn note(&mut self, host: &str, outcome: &Outcome) {
        let now = Instant::now();
        if self.known.len() >= KNOWN_MAX {
            self.known.retain(|_, (_, until)| now < *until);
        }
        if self.known.len() >= KNOWN_MAX {
            let first = self.known.iter().min_by_key(|(_, (_, until))| *until).map(|(host, _)| host.clone());
            first.and_then(|host| self.known.remove(&host));
        }
        let time = if outcome.is_ok() { KNOWN_FOR } else { UNKNOWN_FOR };
        self.known.insert(host.to_owned(), (outcome.clone(), now + time));
    }
}

impl Names {
    /// # Errors
    /// When the runtime cannot be made.
    pub(super) fn new() -> std::io::Result<Self> {
        Self::with(|name| Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect()))
    }

    fn with(look_up: LookUp) -> std::io::Result<Self> {
        let threads = Builder::new_current_thread()
            .max_blocking_threads(LOOK_UPS_MAX)
            .thread_keep_alive(THREAD_IDLE)
            .thread_name("names")
            .build()?;
        Ok(Self { look_up, threads: Some(threads), freed: Arc::default() })
    }
}

impl LookUps {
    pub(super) fn of(account: &Arc<Account>) -> Self {
        Self { account: Arc::clone(account), books: Arc::default() }
    }

    /// The addresses of `host`, at least one and at most [`ADDRESSES_MAX`], without duplicates, in the order in which they
    /// should be tried (RFC 6724). It takes as long as the name servers take, so the caller limits the time. Must be called
    /// on the worker's runtime.
    ///
    /// # Errors
    /// The C library's error.
    pub(super) async fn addresses(&self, names: &Names, host: &str) -> Outcome {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok([address].into());
        }
        if let Some(known) = lock(&self.books).known(host) {
            return known;
        }
        let mut answer = self.join(names, host);
        // Unless the worker ends, the sender answers before it is dropped.
        match answer.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or_else(|| Err("the look-up was lost".into())),
            Err(_) => Err("the look-up was lost".into()),
        }
    }

    /// Looks the name up again next time: none of its addresses could be reached.
    pub(super) fn forget(&self, host: &str) {
        lock(&self.books).known.remove(host);
    }

    /// Joins the look-up of this name, or starts one.
    fn join(&self, names: &Names, host: &str) -> watch::Receiver<Option<Outcome>> {
        let mut books = lock(&self.books);
        if let Some(running) = books.running.get(host) {
            return running.subscribe();
        }
        let (answer, receiver) = watch::channel(None);
        let answer = Arc::new(answer);
        books.running.insert(host.to_owned(), Arc::clone(&answer));
        let domain = books.domains.entry(domain(host).to_owned());
        let domain = Arc::clone(domain.or_insert_with(|| Arc::new(Semaphore::new(THREADS_PER_DOMAIN_MAX))));
        drop(books);
        if let Some(threads) = &names.threads {
            let (host, look_up, threads) = (host.to_owned(), names.look_up, threads.handle().clone());
            let entry = NameEntry { host, domain, answer, books: Arc::clone(&self.books) };
            tokio::spawn(run(entry, (Arc::clone(&self.account), Arc::clone(&names.freed)), threads, look_up));
        }
        receiver
    }
}

/// The right to use a thread. Whoever waits for one is told when this is dropped.
struct LookUpTurn {
    claim: Option<Claim>,
    freed: Arc<Notify>,
    _of_domain: OwnedSemaphorePermit,
}

impl Drop for LookUpTurn {
    fn drop(&mut self) {
        self.claim = None;
        self.freed.notify_waiters();
    }
}

/// Waits until the app may have a thread more.
async fn thread(account: &Arc<Account>, freed: &Notify) -> Claim {
    let mut is_told = false;
    loop {
        let given_back = freed.notified();
        if let Some(claim) = account.take(1) {
            return claim;
        }
        if !std::mem::replace(&mut is_told, true) {
            account.note_shortage();
        }
        given_back.await;
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            // Look-ups cannot be interrupted, and nobody waits for them.
            threads.shutdown_background();
        }
    }
}

/// A look-up in the books. Dropping this removes it from them.
struct NameEntry {
    host: String,
    domain: Arc<Semaphore>,
    answer: Arc<watch::Sender<Option<Outcome>>>,
    books: Arc<Mutex<Books>>,
}

impl Drop for NameEntry {
    fn drop(&mut self) {
        let mut books = lock(&self.books);
        books.running.remove(&self.host);
        // Only the books and this entry hold the semaphore, so the domain has no other look-up.
        if Arc::strong_count(&self.domain) <= 2 {
            books.domains.remove(domain(&self.host));
        }
    }
}

/// Waits for a thread, looks the name up, and answers everyone who waits. If nobody waits any more before there is a
/// thread, it takes none.
async fn run(
    entry: NameEntry,
    (account, freed): (Arc<Account>, Arc<Notify>),
    threads: tokio::runtime::Handle,
    look_up: LookUp,
) {
    let turn = async {
        // It is never closed.
        let of_domain = Arc::clone(&entry.domain).acquire_owned().await.ok()?;
        let claim = Some(thread(&account, &freed).await);
        Some(LookUpTurn { claim, freed: Arc::clone(&freed), _of_domain: of_domain })
    };
    let turn = tokio::select! {
        biased;
        () = entry.answer.closed() => return,
        turn = turn => turn,
    };
    let host = entry.host.clone();
    let looked_up = threads.spawn_blocking(move || {
        // The thread holds it: the request may end long before the thread does.
        let _turn = turn;
        look_up(&host)
    });
    let outcome = match looked_up.await {
        Ok(Ok(found)) => first_of(found),
        Ok(Err(error)) => Err(error.to_string().into()),
        Err(_) => Err("the look-up was lost".into()),
    };
    let answer = Arc::clone(&entry.answer);
    lock(&entry.books).note(&entry.host, &outcome);
    drop(entry);
    answer.send_replace(Some(outcome));
}

/// The addresses that are used, without duplicates.
fn first_of(found: Vec<IpAddr>) -> Outcome {
    let mut used: Vec<IpAddr> = Vec::with_capacity(found.len().min(ADDRESSES_MAX));
    for address in found {
        if used.len() < ADDRESSES_MAX && !used.contains(&address) {
            used.push(address);
        }
    }
    if used.is_empty() { Err("the name has no address".into()) } else { Ok(used.into()) }
}

/// The last two labels of a name. Whoever runs them runs all names below them.
fn domain(host: &str) -> &str {
    let host = host.trim_end_matches('.');
    let second = host.rmatch_indices('.').nth(1);
    second.map_or(host, |(dot, _)| &host[dot + 1..])
}

fn lock(books: &Mutex<Books>) -> MutexGuard<'_, Books> {
    books.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use wasmhost_base::quota::Quota;

    use super::*;

    type Done = Result<(), Box<dyn std::error::Error>>;

    const FOUND: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    /// How long a name server of [`slow_below_pit`] takes: longer than anything that these tests wait for.
    const PIT: Duration = Duration::from_secs(3);
    const PROMPT: Duration = Duration::from_secs(1);

    /// Names below `pit.test` take long, `gone.test` is not there, others are.
    fn slow_below_pit(name: &str) -> std::io::Result<Vec<IpAddr>> {
        if name.ends_with("pit.test") {
            std::thread::sleep(PIT);
        }
        if name == "gone.test" { Err(std::io::Error::other("no such name")) } else { Ok(vec![FOUND, FOUND]) }
    }

    /// Of the only app.
    fn alone() -> LookUps {
        LookUps::of(&Account::new(&Quota::new(LOOK_UPS_MAX as u64), None))
    }

    fn on_a_worker<T>(test: impl Future<Output = T>) -> std::io::Result<T> {
        Ok(Builder::new_current_thread().enable_all().build()?.block_on(test))
    }

    #[test]
    fn domains_are_the_last_two_labels() {
        for (host, expected) in [
            ("a.b.example.com", "example.com"),
            ("example.com", "example.com"),
            ("a.example.com.", "example.com"),
            ("localhost", "localhost"),
            ("", ""),
            ("..", ""),
        ] {
            assert_eq!(domain(host), expected, "{host}");
        }
    }

    #[test]
    fn addresses_are_found_once_each_and_errors_are_told() -> Done {
        let (names, look_ups) = (Names::with(slow_below_pit)?, alone());
        on_a_worker(async {
            assert_eq!(look_ups.addresses(&names, "there.test").await.as_deref(), Ok(&[FOUND][..]));
            assert_eq!(
                look_ups.addresses(&names, "::1").await.as_deref(),
                Ok(&[IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])][..])
            );
            assert_eq!(look_ups.addresses(&names, "gone.test").await.err().as_deref(), Some("no such name"));
        })?;
        let many = (0..100).map(|last| IpAddr::from([192, 0, 2, last])).collect();
        assert_eq!(first_of(many).map(|used| used.len()), Ok(ADDRESSES_MAX));
        assert!(lock(&look_ups.books).running.is_empty() && lock(&look_ups.books).domains.is_empty());
        Ok(())
    }

    #[test]
    fn any_number_of_slow_names_of_one_domain_leave_threads_for_others() -> Done {
        let (names, look_ups) = (Names::with(slow_below_pit)?, alone());
        on_a_worker(async {
            let slow: Vec<_> = (0..100).map(|index| look_ups.join(&names, &format!("{index}.pit.test"))).collect();
            tokio::task::yield_now().await;
            let began = Instant::now();
            assert!(look_ups.addresses(&names, "there.test").await.is_ok());
            assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
            assert_eq!(look_ups.account.quota().free(), (LOOK_UPS_MAX - THREADS_PER_DOMAIN_MAX) as u64);
            drop(slow);
            // Look-ups without a thread end, as soon as their tasks have had a turn; the others hold their threads.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            assert_eq!(lock(&look_ups.books).running.len(), THREADS_PER_DOMAIN_MAX);
        })?;
        Ok(())
    }

    #[test]
    fn an_app_whose_names_are_all_slow_leaves_threads_and_domains_to_the_others() -> Done {
        let names = Names::with(slow_below_pit)?;
        let quota = Quota::new(LOOK_UPS_MAX as u64);
        quota.keep_room_for_others(true);
        let [greedy, modest] = [(); 2].map(|()| LookUps::of(&Account::new(&quota, None)));
        on_a_worker(async {
            let slow = (0..100).map(|index| greedy.join(&names, &format!("{index}.{}pit.test", index / 8)));
            let mut slow: Vec<_> = slow.collect();
            slow.extend((0..10).map(|index| greedy.join(&names, &format!("{index}.co.pit.test"))));
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            assert!(LOOK_UPS_MAX as u64 / 4 <= quota.free());
            let began = Instant::now();
            assert!(modest.addresses(&names, "there.test").await.is_ok());
            assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
        })?;
        Ok(())
    }

    #[test]
    fn a_look_up_that_waits_has_the_next_thread_that_is_given_back() -> Done {
        let names = Names::with(|_| Ok(vec![FOUND]))?;
        let quota = Quota::new(1);
        let look_ups = LookUps::of(&Account::new(&quota, None));
        on_a_worker(async {
            let asked: Vec<_> = (0..20).map(|index| look_ups.join(&names, &format!("a.{index}.test"))).collect();
            for mut answer in asked {
                let answer = tokio::time::timeout(PIT, answer.wait_for(Option::is_some));
                assert!(answer.await.is_ok_and(|outcome| outcome.is_ok()));
            }
        })?;
        Ok(())
    }

    #[test]
    fn one_name_is_looked_up_once_for_all_who_ask() -> Done {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        let names = Names::with(|_| {
            CALLS.fetch_add(1, Relaxed);
            std::thread::sleep(Duration::from_millis(50));
            Ok(vec![FOUND])
        })?;
        let look_ups = alone();
        on_a_worker(async {
            let asked: Vec<_> = (0..20).map(|_| look_ups.join(&names, "a.test")).collect();
            for mut answer in asked {
                let outcome = answer.wait_for(Option::is_some).await;
                assert!(outcome.is_ok_and(|outcome| outcome.as_ref().is_some_and(Result::is_ok)));
            }
        })?;
        assert_eq!(CALLS.load(Relaxed), 1);
        Ok(())
    }

    #[test]
    fn what_was_found_is_used_for_a_while_and_what_was_not_for_a_shorter_one() -> Done {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        let names = Names::with(|name| {
            CALLS.fetch_add(1, Relaxed);
            slow_below_pit(name)
        })?;
        let look_ups = alone();
        on_a_worker(async {
            let calls_of = async |host: &'static str| {
                let before = CALLS.load(Relaxed);
                // (That it is not there is an outcome as well.)
                let _ = look_ups.addresses(&names, host).await;
                CALLS.load(Relaxed) - before
            };
            let later = |host: &'static str, time: Duration| {
                let mut books = lock(&look_ups.books);
                let entry =
                    books.known.get_mut(host).map(|(_, until)| *until = until.checked_sub(time).unwrap_or(*until));
                assert!(entry.is_some(), "{host} is known");
            };
            for (host, time) in [("there.test", KNOWN_FOR), ("gone.test", UNKNOWN_FOR)] {
                assert_eq!((calls_of(host).await, calls_of(host).await), (1, 0), "{host}");
                later(host, time / 2);
                assert_eq!(calls_of(host).await, 0, "{host}");
                later(host, time / 2 + Duration::from_millis(1));
                assert_eq!(calls_of(host).await, 1, "{host}");
                look_ups.forget(host);
                assert_eq!(calls_of(host).await, 1, "{host}");
            }
        })?;
        Ok(())
    }

    #[test]
    fn names_that_are_known_are_bounded_and_the_oldest_go_first() -> Done {
        let (names, look_ups) = (Names::with(slow_below_pit)?, alone());
        on_a_worker(async {
            for index in 0..KNOWN_MAX + 10 {
                assert!(look_ups.addresses(&names, &format!("{index}.test")).await.is_ok());
            }
        })?;
        let books = lock(&look_ups.books);
        assert_eq!(books.known.len(), KNOWN_MAX);
        assert!(!books.known.contains_key("0.test") && books.known.contains_key("265.test"));
        Ok(())
    }
}
