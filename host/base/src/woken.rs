//! Futures that are polled only when they were woken themselves: beside another of the same task that is woken often, they cost
//! nothing.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel, Ordering::Release};
use std::task::{Poll, Wake, Waker};

struct Woken {
    task: Waker,
    is_woken: AtomicBool,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Release);
        self.task.wake_by_ref();
    }
}

/// The output of `future`, which is polled a first time, and then whenever it was woken.
pub async fn when_woken<F: Future>(mut future: Pin<&mut F>) -> F::Output {
    let mut known: Option<(Arc<Woken>, Waker)> = None;
    poll_fn(|context| {
        let own = known.take().filter(|(woken, _)| woken.task.will_wake(context.waker()));
        let (woken, waker) = known.insert(own.unwrap_or_else(|| {
            // Whoever moved to another task has to be heard of there.
            let woken = Arc::new(Woken { task: context.waker().clone(), is_woken: AtomicBool::new(true) });
            (Arc::clone(&woken), Waker::from(woken))
        }));
        if !woken.is_woken.swap(false, AcqRel) {
            return Poll::Pending;
        }
        future.as_mut().poll(&mut std::task::Context::from_waker(waker))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Context;

    #[test]
    fn it_is_polled_first_and_then_only_when_it_was_woken() {
        let (mut polls, mut waker) = (0, None);
        {
            let inner = pin!(poll_fn(|context| {
                polls += 1;
                waker = Some(context.waker().clone());
                if polls < 3 { Poll::Pending } else { Poll::Ready("done") }
            }));
            let mut outer = pin!(when_woken(inner));
            let mut poll = || outer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert_eq!([poll(), poll(), poll()], [Poll::Pending; 3]);
        }
        assert_eq!(polls, 1);
        assert!(waker.is_some());
    }

    #[test]
    fn one_that_was_woken_goes_on() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let receiver = pin!(receiver);
        let mut outer = pin!(when_woken(receiver));
        let mut poll = || outer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(poll(), Poll::Pending);
        assert_eq!(sender.send(1), Ok(()));
        assert_eq!(poll(), Poll::Ready(Ok(1)));
    }
}
