//! An instance that serves several calls at once (wasi 0.3). It is polled in a separate task, and each call has a place in
//! it. A fault ends the instance with all its calls. An instance that retires takes no more calls and ends after its last
//! one.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::call::{Answer, Call, Desk, Head, Job};
use super::fault::{Fault, FaultKind};
use super::instance::{Instance, InstanceRecord};
use super::meter::Meter;

/// A shared instance, as its callers see it.
pub struct Shared {
    desk: Rc<Desk>,
    ending: Rc<SharedEnding>,
    capacity: usize,
    /// Places given out.
    held: Cell<usize>,
    served: Cell<u64>,
    retiring: Cell<bool>,
    /// Calls without an answer whose clients have left, and until when they may go on: they cannot be stopped alone, and
    /// take a place each. In the order of their deadlines.
    left: RefCell<VecDeque<(Instant, Arc<Answer>)>>,
    /// How long such a call may go on, and what calls leave running when the instance retires.
    linger_max: Option<Duration>,
    meter: Arc<Meter>,
}

/// How a shared instance came to its end.
#[derive(Debug, Clone)]
pub enum SharedEnd {
    /// With a fault, and all its calls.
    Fault(Fault),
    /// As planned, with no call in it.
    Retired,
}

/// What the instance's task and its callers tell each other. All on the worker's thread.
#[derive(Default)]
struct SharedEnding {
    /// The fault that every call in it ends with; set by the task before the store is dropped.
    fault: RefCell<Option<Fault>>,
    /// Answers of the calls that have a place, to wake those who wait for them.
    waiting: RefCell<Vec<Arc<Answer>>>,
    /// Asked for by a caller.
    wanted: RefCell<Option<Fault>>,
    task: RefCell<Option<Waker>>,
}

impl SharedEnding {
    fn wake_task(&self) {
        if let Some(task) = self.task.borrow_mut().take() {
            task.wake();
        }
    }
}

/// A place for one call in a shared instance, and then that call. Dropped, the place is free again; what the call still
/// does goes on in the instance.
pub struct SharedPlace {
    shared: Rc<Shared>,
    answer: Option<Arc<Answer>>,
    /// Of its request, where that is recorded.
    number: u64,
}

impl Shared {
    /// Gives the instance a task of its own, which must be spawned on this thread, and the first place in it. What
    /// nobody waits for has `linger_max` to end: calls whose clients have left, and work that is left when it retires.
    pub fn new(
        mut instance: Instance,
        capacity: usize,
        linger_max: Option<Duration>,
    ) -> (Rc<Self>, SharedPlace, impl Future<Output = SharedEnd> + 'static) {
        let ending = Rc::new(SharedEnding::default());
        let (desk, meter) = instance.desk_and_meter();
        let shared = Rc::new(Self {
            desk,
            ending: Rc::clone(&ending),
            capacity,
            held: Cell::new(0),
            served: Cell::new(0),
            retiring: Cell::new(false),
            left: RefCell::default(),
            linger_max,
            meter,
        });
        let member = Rc::clone(&shared);
        let task = async move {
            let mut linger: Option<Pin<Box<tokio::time::Sleep>>> = None;
            let mut left_alarm = Box::pin(tokio::time::sleep(Duration::ZERO));
            let end = poll_fn(|context| {
                if let Some(fault) = ending.wanted.borrow_mut().take() {
                    return Poll::Ready(SharedEnd::Fault(fault));
                }
                *ending.task.borrow_mut() = Some(context.waker().clone());
                if let Poll::Ready(fault) = instance.poll(context) {
                    return Poll::Ready(SharedEnd::Fault(fault));
                }
                if member.poll_left(&mut left_alarm, context).is_ready() {
                    let detail = "a call whose client had left gave no answer";
                    return Poll::Ready(SharedEnd::Fault(Fault::new(FaultKind::Wall, detail)));
                }
                if !member.retiring.get() || member.held.get() > 0 {
                    return Poll::Pending;
                }
                if member.is_quiet() || member.is_abandoned() {
                    return Poll::Ready(SharedEnd::Retired);
                }
                match (&mut linger, linger_max) {
                    (_, None) => Poll::Pending,
                    (Some(linger), _) => linger.as_mut().poll(context).map(|()| SharedEnd::Retired),
                    (none, Some(limit)) => {
                        let linger = none.insert(Box::pin(tokio::time::sleep(limit)));
                        linger.as_mut().poll(context).map(|()| SharedEnd::Retired)
                    }
                }
            })
            .await;
            // Set before the store is dropped, whose bodies would else end as if they were whole.
            *ending.fault.borrow_mut() = Some(match &end {
                SharedEnd::Fault(fault) => fault.clone(),
                SharedEnd::Retired => Fault::new(FaultKind::Host, "a call in an instance that had retired"),
            });
            drop(instance);
            for answer in ending.waiting.borrow_mut().drain(..) {
                answer.wake();
            }
            end
        };
        let first = shared.take_place();
        (shared, first, task)
    }

    fn take_place(self: &Rc<Self>) -> SharedPlace {
        self.held.set(self.held.get() + 1);
        SharedPlace { shared: Rc::clone(self), answer: None, number: 0 }
    }

    /// A place for one more call, if there is one.
    pub fn place(self: &Rc<Self>) -> Option<SharedPlace> {
        (self.has_room() && !self.retiring.get()).then(|| self.take_place())
    }

    fn has_room(&self) -> bool {
        // Calls whose client has left run on, and take their place still.
        let taken = self.held.get().max(self.desk.active.get());
        taken < self.capacity && self.ending.fault.borrow().is_none()
    }

    /// Ready when a call whose client has left has had its time.
    fn poll_left(&self, alarm: &mut Pin<Box<tokio::time::Sleep>>, context: &mut Context<'_>) -> Poll<()> {
        let mut left = self.left.borrow_mut();
        while left.front().is_some_and(|(_, answer)| answer.was_given()) {
            left.pop_front();
        }
        let Some((deadline, _)) = left.front() else { return Poll::Pending };
        let deadline = tokio::time::Instant::from_std(*deadline);
        if alarm.deadline() != deadline {
            alarm.as_mut().reset(deadline);
        }
        alarm.as_mut().poll(context)
    }

    /// Whether calls whose clients have all left take every place.
    pub fn is_abandoned(&self) -> bool {
        self.held.get() == 0 && !self.has_room()
    }

    /// Calls begun so far.
    pub fn served(&self) -> u64 {
        self.served.get()
    }

    /// What is known of its calls when it faults; see [`Instance::record`].
    pub fn record(&self) -> Option<InstanceRecord> {
        InstanceRecord::new(&self.meter, self.served.get())
    }

    /// Whether it met a limit, or is about to after many calls.
    pub fn met_limit(&self) -> bool {
        self.meter.wants_to_retire(self.served.get()).is_some()
    }

    /// Whether no place is given out.
    pub fn is_empty(&self) -> bool {
        self.held.get() == 0
    }

    /// Whether nothing runs in it: no call, and nothing that one left behind.
    pub fn is_quiet(&self) -> bool {
        self.held.get() == 0 && self.desk.active.get() == 0 && self.desk.quiet.get()
    }

    /// Gives out no more places; the instance ends when the last is given back and what the calls left running has ended;
    /// at once where all that runs are calls whose clients have left ([`Self::is_abandoned`]).
    pub fn retire(&self) {
        self.retiring.set(true);
        self.ending.wake_task();
    }

    /// Ends the instance, with all calls in it.
    pub fn stop(&self, fault: Fault) {
        *self.ending.wanted.borrow_mut() = Some(fault);
        self.ending.wake_task();
    }
}

impl SharedPlace {
    /// Begins the call.
    pub fn begin(&mut self, mut call: Call, request_number: u64) {
        let shared = &self.shared;
        shared.meter.is_led_to_by(call.take_chain(), shared.desk.active.get() > 0);
        // A limit on one request's time must not add up over all; one that computes is not let off by the next.
        if !shared.meter.is_computing() {
            shared.meter.begin_call(request_number);
        }
        if let Some(record) = shared.meter.record() {
            let Call::Http(request) = &call;
            record.begins(request_number, request, shared.desk.active.get() > 0);
            self.number = request_number;
        }
        shared.served.set(shared.served.get() + 1);
        let answer = Arc::new(Answer::default());
        shared.desk.put(Job { call, answer: Arc::clone(&answer) });
        shared.ending.waiting.borrow_mut().push(Arc::clone(&answer));
        self.answer = Some(answer);
    }

    /// Ready when the instance is at its end.
    pub fn poll(&self, context: &Context<'_>) -> Poll<Fault> {
        if let Some(fault) = &*self.shared.ending.fault.borrow() {
            return Poll::Ready(fault.clone());
        }
        if let Some(answer) = &self.answer {
            answer.wake_on_change(context);
        }
        Poll::Pending
    }

    /// The answer, once.
    pub fn take_head(&self) -> Option<Head> {
        self.answer.as_ref().and_then(|answer| answer.take())
    }

    /// Whether the answer has been given; what else the call does is the instance's own.
    pub fn is_idle(&self) -> bool {
        self.answer.as_ref().is_none_or(|answer| answer.was_given())
    }
}

impl Drop for SharedPlace {
    fn drop(&mut self) {
        let shared = &self.shared;
        shared.held.set(shared.held.get().saturating_sub(1));
        // One that is to end, or has, is looked into.
        let goes_on = shared.ending.wanted.borrow().is_none() && shared.ending.fault.borrow().is_none();
        if let Some(record) = shared.meter.record().filter(|_| goes_on) {
            record.ended(self.number);
        }
        if let Some(answer) = &self.answer {
            shared.ending.waiting.borrow_mut().retain(|other| !Arc::ptr_eq(other, answer));
            if let Some(limit) = shared.linger_max.filter(|_| !answer.was_given()) {
                let mut left = shared.left.borrow_mut();
                left.retain(|(_, answer)| !answer.was_given());
                left.push_back((Instant::now() + limit, Arc::clone(answer)));
                shared.ending.wake_task();
            }
        }
        if shared.retiring.get() && shared.held.get() == 0 {
            shared.ending.wake_task();
        }
    }
}
