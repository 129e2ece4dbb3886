//! A worker's CPU, shared by the instances of its apps. An instance that a tick interrupted waits in a queue (`fairness`),
//! and one turn of the worker's loop lets only so many instances run that their time in sum is about a tick. So a request
//! that has just come waits for about a tick, however many others compute. An instance that no tick has interrupted runs
//! without waiting, as long as its app is the only one, or has not used more than its part.
//!
//! All on the worker's thread. [`WorkerCpu::attend`] releases who is next; without it nobody waits longer than
//! `tokio::task::yield_now` does.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use super::epoch::TICK;
use super::fairness::{AppTime, FREE_NS, FairQueue, Ticket};
use super::meter::Meter;
use super::soon_free::{CpuWait, SoonFree};

/// While those released in a turn of the loop have used less than this in sum, the next is released in the same turn.
const SLICE_NS: u64 = TICK.as_nanos() as u64 / 2;

/// With so much used without waiting, the attendant is asked for the end of this turn of the loop, which it does not count
/// while nobody waits: only what is used within one turn makes calls wait.
const ASK_NS: u64 = FREE_NS / 2;

/// The CPU of a worker.
#[derive(Default)]
pub struct WorkerCpu {
    queue: RefCell<FairQueue<Waker>>,
    /// The apps that have instances.
    apps: RefCell<HashMap<u32, CpuApp>>,
    released: Cell<Option<Released>>,
    /// What those who were released in this turn of the loop have used.
    slice_ns: Cell<u64>,
    /// Counts the turns of the loop in which the attendant had something to do.
    turn: Cell<u64>,
    /// The end of this turn of the loop is wanted.
    asked: Cell<bool>,
    is_attended: Cell<bool>,
    /// The attendant, while it sleeps.
    attendant: RefCell<Option<Waker>>,
}

/// An app on a worker, while it has instances.
struct CpuApp {
    time: Weak<AppTime>,
    soon: Weak<SoonFree>,
}

/// Who may run, and has not yet.
#[derive(Clone, Copy)]
struct Released {
    ticket: Ticket,
    /// The attendant has come by since. At its next coming the release lapses: nobody polls that instance for now.
    seen: bool,
}

/// An instance as a user of its worker's CPU. Dropped, it waits no more.
pub(super) struct CpuUser {
    cpu: Rc<WorkerCpu>,
    app: Rc<AppTime>,
    /// Its app's instances that would be free soon if they had the CPU.
    soon: Rc<SoonFree>,
    /// Its place in the queue, or its release.
    ticket: Option<Ticket>,
    wait: CpuWait,
}

/// Why an instance is polled now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CpuRuns {
    Released,
    Free,
}

impl WorkerCpu {
    /// A user of this CPU, of the app with this key.
    pub(super) fn user(self: &Rc<Self>, app: u32) -> CpuUser {
        let mut apps = self.apps.borrow_mut();
        let known = apps.get(&app).and_then(|known| known.time.upgrade().zip(known.soon.upgrade()));
        let (time, soon) = known.unwrap_or_else(|| {
            let (time, soon) = (Rc::new(AppTime::new(app)), Rc::<SoonFree>::default());
            apps.insert(app, CpuApp { time: Rc::downgrade(&time), soon: Rc::downgrade(&soon) });
            (time, soon)
        });
        CpuUser { cpu: Rc::clone(self), app: time, soon, ticket: None, wait: CpuWait::default() }
    }

    /// Releases those who wait, in turn: a task of the worker. It sleeps while nobody waits.
    pub async fn attend(self: Rc<Self>) {
        let attended = AttendedCpu::begin(self);
        let cpu = &attended.0;
        loop {
            poll_fn(|context| cpu.poll_work(context)).await;
            // tokio polls its driver before it goes on here: sockets come first.
            tokio::task::yield_now().await;
            cpu.begin_turn();
        }
    }

    fn poll_work(&self, context: &Context<'_>) -> Poll<()> {
        if self.asked.get() || !self.queue.borrow().is_empty() {
            return Poll::Ready(());
        }
        let before = self.attendant.replace(Some(context.waker().clone()));
        drop(before);
        Poll::Pending
    }

    fn wake_attendant(&self) {
        let attendant = self.attendant.take();
        if let Some(attendant) = attendant {
            attendant.wake();
        }
    }

    fn begin_turn(&self) {
        self.asked.set(false);
        self.turn.set(self.turn.get().wrapping_add(1));
        self.slice_ns.set(0);
        match self.released.get() {
            // It may be in a task that runs after this one.
            Some(released) if !released.seen => self.released.set(Some(Released { seen: true, ..released })),
            _ => self.release_next(),
        }
    }

    /// The wakers run user code of tokio's only; still, none is woken or dropped while the queue is borrowed.
    fn release_next(&self) {
        let next = self.queue.borrow_mut().next();
        self.released.set(next.as_ref().map(|(ticket, _)| Released { ticket: *ticket, seen: false }));
        if let Some((_, waker)) = next {
            waker.wake();
        }
    }

    /// Whether this ticket was released; then it is used up.
    fn take_release(&self, ticket: Ticket) -> bool {
        let is_it = self.released.get().is_some_and(|released| released.ticket == ticket);
        if is_it {
            self.released.set(None);
        }
        is_it
    }
}

/// While it lives, the queue has an attendant.
struct AttendedCpu(Rc<WorkerCpu>);

impl AttendedCpu {
    fn begin(cpu: Rc<WorkerCpu>) -> Self {
        cpu.is_attended.set(true);
        cpu.released.set(None);
        Self(cpu)
    }
}

impl Drop for AttendedCpu {
    fn drop(&mut self) {
        self.0.is_attended.set(false);
        while !self.0.queue.borrow().is_empty() {
            self.0.release_next();
        }
        self.0.released.set(None);
    }
}

impl CpuUser {
    /// Another user of the same app.
    pub(super) fn another(&self) -> Self {
        let (cpu, app, soon) = (Rc::clone(&self.cpu), Rc::clone(&self.app), Rc::clone(&self.soon));
        Self { cpu, app, soon, ticket: None, wait: CpuWait::default() }
    }

    /// Those of the app's instances that wait for the CPU, and will soon be free.
    pub(super) fn soon(&self) -> &Rc<SoonFree> {
        &self.soon
    }

    /// Runs `poll`, a poll of guest code that `meter` counts, if it may run now; otherwise `context`'s task is woken when it
    /// may.
    pub(super) fn run<T>(
        &mut self,
        context: &mut Context<'_>,
        meter: &Meter,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let Some(runs) = self.may_run(context, meter) else { return Poll::Pending };
        let before_ns = meter.cpu_ns();
        let polled = poll(context);
        self.charge(runs, meter.cpu_ns().saturating_sub(before_ns));
        if polled.is_pending() && meter.is_computing() {
            self.line_up(context, meter);
        } else {
            self.wait.forget();
        }
        if runs == CpuRuns::Released {
            self.hand_on();
        }
        polled
    }

    fn may_run(&mut self, context: &mut Context<'_>, meter: &Meter) -> Option<CpuRuns> {
        let cpu = &self.cpu;
        if !cpu.is_attended.get() {
            self.ticket = None;
            self.wait.end(&self.soon);
            return Some(CpuRuns::Free);
        }
        let Some(ticket) = self.ticket else {
            // An only app takes nobody's time. Its short calls would wait with an instance each, and others for instances.
            let has_others = cpu.apps.borrow().len() > 1;
            if meter.is_computing() || (has_others && cpu.queue.borrow().is_closed_to(&self.app, cpu.turn.get())) {
                self.line_up(context, meter);
                return None;
            }
            return Some(CpuRuns::Free);
        };
        if cpu.take_release(ticket) {
            self.ticket = None;
            self.wait.end(&self.soon);
            return Some(CpuRuns::Released);
        }
        if !self.still_waits(ticket, context) {
            // Its release has lapsed.
            self.line_up(context, meter);
        }
        None
    }

    /// Whether it is in the queue; then it is this task that is woken.
    fn still_waits(&self, ticket: Ticket, context: &Context<'_>) -> bool {
        let mut queue = self.cpu.queue.borrow_mut();
        let Some(waker) = queue.stored(&self.app, ticket) else { return false };
        let before = (!waker.will_wake(context.waker())).then(|| std::mem::replace(waker, context.waker().clone()));
        drop(queue);
        drop(before);
        true
    }

    /// Waits for the next turn of the loop, and for those who wait already.
    fn line_up(&mut self, context: &mut Context<'_>, meter: &Meter) {
        let cpu = &self.cpu;
        self.wait.begin(&self.soon, meter.cpu_ns());
        let mut queue = cpu.queue.borrow_mut();
        if !cpu.is_attended.get() || (queue.is_empty() && cpu.released.get().is_none()) {
            // There is nobody to share with. tokio wakes the task when it has looked at the sockets.
            let ticket = queue.ticket();
            drop(queue);
            cpu.released.set(Some(Released { ticket, seen: false }));
            self.ticket = Some(ticket);
            let _ = pin!(tokio::task::yield_now()).poll(context);
            return;
        }
        self.ticket = Some(queue.join(&self.app, !meter.is_computing(), context.waker().clone()));
        drop(queue);
        cpu.wake_attendant();
    }

    fn charge(&self, runs: CpuRuns, spent_ns: u64) {
        let cpu = &self.cpu;
        cpu.queue.borrow_mut().charge(&self.app, spent_ns);
        if runs == CpuRuns::Released {
            cpu.slice_ns.set(cpu.slice_ns.get().saturating_add(spent_ns));
        } else if self.app.use_free(cpu.turn.get(), spent_ns) >= ASK_NS && !cpu.asked.replace(true) {
            cpu.wake_attendant();
        }
    }

    /// Its slice is over: the next one runs in this turn, too, if little of it is used.
    fn hand_on(&self) {
        let cpu = &self.cpu;
        if cpu.slice_ns.get() < SLICE_NS && cpu.released.get().is_none() {
            cpu.release_next();
        }
    }

    /// Waits no more.
    pub(super) fn leave(&mut self) {
        self.wait.end(&self.soon);
        let Some(ticket) = self.ticket.take() else { return };
        // The attendant is awake while anybody waits, and releases the next in the place of this one.
        if !self.cpu.take_release(ticket) {
            let waker = self.cpu.queue.borrow_mut().leave(&self.app, ticket);
            drop(waker);
        }
    }
}

impl Drop for CpuUser {
    fn drop(&mut self) {
        self.leave();
        if Rc::strong_count(&self.app) == 1 {
            self.cpu.apps.borrow_mut().remove(&self.app.app());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::task::Wake;
    use std::time::{Duration, Instant};

    use tokio::task::{JoinHandle, spawn_local, yield_now};

    use super::super::meter::Tick;
    use super::super::testing::app_of_test;
    use super::*;

    /// Above what any wait here takes.
    const CEILING: Duration = Duration::from_secs(20);

    /// The CPU time of this thread.
    fn cpu_time() -> Duration {
        let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(used.tv_sec.unsigned_abs(), u32::try_from(used.tv_nsec).unwrap_or(0))
    }

    /// A guest that computes for so many ticks, and tells of each; a tick interrupts it after all but the last.
    async fn compute(mut user: CpuUser, ticks: usize, mut tell: impl FnMut()) {
        let meter = Meter::new(1, CEILING, std::sync::Arc::new(app_of_test()));
        meter.begin_call(1);
        let mut left = ticks;
        poll_fn(|context| {
            user.run(context, &meter, |_| {
                meter.begin_poll(Instant::now());
                // Of CPU time, for the thread may have to wait for a core.
                let began = cpu_time();
                while cpu_time() - began < TICK {
                    std::hint::spin_loop();
                }
                tell();
                left -= 1;
                if left > 0 {
                    assert_eq!(meter.tick().tick, Tick::Yield);
                }
                meter.end_poll();
                if left > 0 { Poll::Pending } else { Poll::Ready(()) }
            })
        })
        .await;
    }

    /// Runs a test in an event loop like a worker's, with or without an attendant.
    fn on_a_worker(is_attended: bool, test: impl AsyncFnOnce(&Rc<WorkerCpu>)) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default())?;
        let cpu = Rc::<WorkerCpu>::default();
        runtime.block_on(async {
            if is_attended {
                spawn_local(Rc::clone(&cpu).attend());
                yield_now().await;
            }
            tokio::time::timeout(CEILING, test(&cpu)).await.expect("nobody waits for ever");
        });
        Ok(())
    }

    /// Starts calls of an app that compute for so many ticks each; counts the ticks that they had.
    fn start(cpu: &Rc<WorkerCpu>, app: u32, calls: usize, ticks: usize) -> (Rc<Cell<usize>>, Vec<JoinHandle<()>>) {
        let had = Rc::<Cell<usize>>::default();
        let started = (0..calls).map(|_| {
            let had = Rc::clone(&had);
            spawn_local(compute(cpu.user(app), ticks, move || had.set(had.get() + 1)))
        });
        let started = started.collect();
        (had, started)
    }

    /// Polls a call once; nobody is woken for it.
    fn poll(call: &mut Pin<Box<impl Future<Output = ()>>>) -> Poll<()> {
        call.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    async fn all(calls: Vec<JoinHandle<()>>) {
        for call in calls {
            call.await.expect("it ends");
        }
    }

    #[test]
    fn one_call_of_an_app_gets_as_much_as_twenty_of_another() -> std::io::Result<()> {
        on_a_worker(true, async |cpu| {
            let (crowd, calls) = start(cpu, 1, 20, 30);
            while crowd.get() < 40 {
                yield_now().await;
            }
            let before = crowd.get();
            let (_, single) = start(cpu, 2, 1, 50);
            all(single).await;
            let meanwhile = crowd.get() - before;
            assert!((40..=60).contains(&meanwhile), "{meanwhile} ticks beside fifty");
            all(calls).await;
            assert_eq!(crowd.get(), 600);
            assert_eq!(cpu.apps.borrow().len(), 0, "nothing is kept of apps that have no instances");
        })
    }

    #[test]
    fn a_turn_of_the_loop_lets_one_of_those_run_that_compute() -> std::io::Result<()> {
        on_a_worker(true, async |cpu| {
            let _other = cpu.user(2);
            let (had, calls) = start(cpu, 1, 30, 10);
            let mut most = Vec::new();
            while had.get() < 300 {
                let before = had.get();
                yield_now().await;
                most.push(had.get() - before);
            }
            all(calls).await;
            // Those that begin may run freely until their app has had its part; then one after the other.
            assert!(most.iter().all(|ticks| *ticks <= 6), "{most:?}");
            let in_line = most.get(20..).expect("many turns");
            assert!(in_line.iter().filter(|ticks| **ticks > 1).count() <= 5, "{most:?}");
        })
    }

    #[test]
    fn many_new_calls_at_once_hold_a_turn_for_their_part_only() -> std::io::Result<()> {
        on_a_worker(true, async |cpu| {
            let _other = cpu.user(2);
            // None of them is interrupted by a tick.
            let (had, calls) = start(cpu, 1, 60, 1);
            while had.get() < 60 {
                let before = had.get();
                yield_now().await;
                assert!(had.get() - before <= 6, "{} of 60 ran in one turn", had.get() - before);
            }
            all(calls).await;
        })
    }

    #[test]
    fn a_new_call_runs_at_once_beside_many_that_compute() -> std::io::Result<()> {
        on_a_worker(true, async |cpu| {
            let (had, calls) = start(cpu, 1, 20, 30);
            while had.get() < 60 {
                yield_now().await;
            }
            for app in [1, 2] {
                let before = had.get();
                let (_, new) = start(cpu, app, 1, 1);
                all(new).await;
                assert!(had.get() - before <= 2, "app {app}: {} others ran first", had.get() - before);
            }
            all(calls).await;
        })
    }

    #[test]
    fn calls_that_are_dropped_while_they_wait_or_are_released_hold_nobody_up() -> std::io::Result<()> {
        on_a_worker(true, async |cpu| {
            let (had, mut calls) = start(cpu, 1, 20, 20);
            for turn in 0..200 {
                yield_now().await;
                // Whoever it is: in the queue, released, or between.
                if turn % 12 == 0 && calls.len() > 5 {
                    calls.remove(turn % calls.len()).abort();
                }
            }
            assert_eq!(calls.len(), 5);
            all(calls).await;
            assert!(had.get() >= 100 && cpu.queue.borrow().is_empty());
        })
    }

    #[test]
    fn one_that_is_not_polled_when_it_is_released_holds_nobody_up_and_waits_again_later() -> std::io::Result<()> {
        on_a_worker(true, async |cpu| {
            let (had, calls) = start(cpu, 1, 3, 50);
            while had.get() < 10 {
                yield_now().await;
            }
            let ran = Rc::<Cell<usize>>::default();
            let told = Rc::clone(&ran);
            let mut slow = Box::pin(compute(cpu.user(1), 3, move || told.set(told.get() + 1)));
            assert!(poll(&mut slow).is_pending() && ran.get() == 1);
            while had.get() < 60 {
                yield_now().await;
            }
            // Its release is an old one: it may not run at once.
            assert!(poll(&mut slow).is_pending());
            assert_eq!(ran.get(), 1);
            slow.await;
            assert_eq!(ran.get(), 3);
            all(calls).await;
        })
    }

    #[test]
    fn without_an_attendant_all_go_on() -> std::io::Result<()> {
        on_a_worker(false, async |cpu| {
            let (had, calls) = start(cpu, 1, 5, 5);
            all(calls).await;
            assert_eq!(had.get(), 25);
        })
    }

    #[test]
    fn who_waits_when_the_attendant_ends_goes_on() -> std::io::Result<()> {
        on_a_worker(false, async |cpu| {
            let attendant = spawn_local(Rc::clone(cpu).attend());
            yield_now().await;
            let (had, calls) = start(cpu, 1, 10, 10);
            while had.get() < 30 {
                yield_now().await;
            }
            attendant.abort();
            all(calls).await;
            assert_eq!(had.get(), 100);
        })
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn the_attendant_sleeps_while_nobody_waits_and_a_single_call_does_not_wake_it() {
        let cpu = Rc::<WorkerCpu>::default();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut attendant = pin!(Rc::clone(&cpu).attend());
        let mut attend = || {
            let before = woken.0.swap(0, SeqCst);
            let polled = attendant.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
            before
        };
        attend();
        let call = |ticks| Box::pin(compute(cpu.user(1), ticks, || ()));
        let mut single = call(50);
        assert!(poll(&mut single).is_pending() && poll(&mut single).is_pending());
        assert_eq!(woken.0.load(SeqCst), 0, "it has nobody to share with");
        let mut other = call(2);
        assert!(poll(&mut other).is_pending());
        assert_eq!(woken.0.load(SeqCst), 1);
        // Outside an event loop the attendant wakes itself at once in the place of tokio.
        let (mut turns, mut has_ended) = (0, false);
        while attend() > 0 {
            turns += 1;
            has_ended = has_ended || poll(&mut other).is_ready();
            let _ = poll(&mut single);
            assert!(turns < 20, "it never sleeps");
        }
        assert!(has_ended, "it was never released");
    }
}
