//! How often a connection may run before others do. A task that wakes itself while it is polled goes to the end of tokio's
//! queue, and tokio looks at sockets only when the queue is empty or after 61 polls. Without this file, a client that sends a
//! thousand requests at once, or a body in a million chunks, would run for all of these polls before a neighbour that has just
//! sent one request. Here such a wake waits until tokio has looked at the sockets. One poll of hyper handles at most sixteen
//! requests, or pieces of a body.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::AcqRel, Ordering::Acquire};
use std::task::{Context, Poll, Wake, Waker};

/// Polls one future, in turns.
#[derive(Default)]
pub(crate) struct Turns(Option<(Arc<Turn>, Waker)>);

struct Turn {
    task: Waker,
    state: AtomicU8,
}

/// Nothing is under way.
const RESTS: u8 = 0;
/// The future is being polled.
const RUNS: u8 = 1;
/// And has been woken since that began.
const WOKEN: u8 = 2;

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.compare_exchange(RUNS, WOKEN, AcqRel, Acquire) == Err(RESTS) {
            self.task.wake_by_ref();
        }
    }
}

impl Turns {
    /// One turn.
    pub(crate) fn take<T>(
        &mut self,
        context: &mut Context<'_>,
        poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.take_rounds(1, context, poll)
    }

    /// One turn, in which the future is polled again at once when it woke itself, so many times in all.
    pub(crate) fn take_rounds<T>(
        &mut self,
        rounds: usize,
        context: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let known = self.0.take().filter(|(turn, _)| turn.task.will_wake(context.waker()));
        let (turn, waker) = self.0.insert(known.unwrap_or_else(|| {
            let turn = Arc::new(Turn { task: context.waker().clone(), state: AtomicU8::new(RESTS) });
            (Arc::clone(&turn), Waker::from(turn))
        }));
        for _ in 0..rounds {
            turn.state.swap(RUNS, AcqRel);
            let outcome = poll(&mut Context::from_waker(waker));
            let was_woken = turn.state.swap(RESTS, AcqRel) == WOKEN;
            if outcome.is_ready() || !was_woken {
                return outcome;
            }
        }
        // tokio wakes the task when it has looked at the sockets; what is woken then stands before it in the queue.
        let _ = pin!(tokio::task::yield_now()).poll(context);
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;
    use tokio::io::AsyncReadExt;

    /// Wakes itself again and again, until there is an end to it.
    async fn restless(ended: Rc<Cell<bool>>, in_turns: bool) -> u32 {
        let mut turns = Turns::default();
        let mut count = 0;
        std::future::poll_fn(|context| {
            let mut poll = |context: &mut Context<'_>| {
                count += 1;
                context.waker().wake_by_ref();
                if ended.get() { Poll::Ready(count) } else { Poll::Pending }
            };
            if in_turns { turns.take(context, poll) } else { poll(context) }
        })
        .await
    }

    #[test]
    fn who_wakes_itself_lets_the_sockets_come_first() -> std::io::Result<()> {
        for (in_turns, at_most) in [(true, 4), (false, 100)] {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build_local(Default::default())?;
            let count = runtime.block_on(async {
                let (mut one, other) = tokio::net::UnixStream::pair()?;
                let ended = Rc::new(Cell::new(false));
                let seen = Rc::clone(&ended);
                let reader = tokio::task::spawn_local(async move {
                    let outcome = one.read_u8().await;
                    seen.set(true);
                    outcome
                });
                tokio::task::yield_now().await;
                // It can be read from now on, which only the sockets tell.
                other.try_write(b"x")?;
                let count = tokio::task::spawn_local(restless(ended, in_turns)).await?;
                reader.await??;
                std::io::Result::Ok(count)
            })?;
            assert!(count <= at_most, "in turns: {in_turns}: {count}");
            assert!(in_turns || count > 4, "without turns the loop looks at the sockets late: {count}");
        }
        Ok(())
    }
}
