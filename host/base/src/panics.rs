//! Catches panics of the host, which are its bugs. A panic is caught where a task is polled, so that it ends only that task.
//! Nothing is dropped that must not be dropped while a thread unwinds.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

/// What a panic says of itself.
pub fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a message".to_owned())
}

/// Runs something in which a panic is to end nothing else.
///
/// # Errors
/// What the panic says.
pub fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| text(&*panic))
}

/// The same for a task, which the caller has put in a box: it is not copied again. What it still held after a panic is leaked: it
/// may hold stores, in any state.
///
/// # Errors
/// What the panic says.
pub async fn guarded<F: Future + ?Sized>(task: Pin<Box<F>>) -> Result<F::Output, String> {
    let mut running = Some(task);
    poll_fn(|context| {
        let Some(task) = running.as_mut() else { return Poll::Pending };
        match caught(|| task.as_mut().poll(context)) {
            Ok(polled) => polled.map(Ok),
            Err(text) => {
                std::mem::forget(running.take());
                Poll::Ready(Err(text))
            }
        }
    })
    .await
}

/// Holds something that must not be dropped while its thread unwinds, and is leaked then: a store of wasmtime, whose
/// suspended calls would run on, to their ends, in the middle of the panic.
pub struct LeakedByPanic<T>(Option<T>);

impl<T> LeakedByPanic<T> {
    /// Takes it into its care.
    pub fn new(held: T) -> Self {
        Self(Some(held))
    }

    /// What it holds: always something, until it is dropped.
    pub fn get(&mut self) -> Option<&mut T> {
        self.0.as_mut()
    }
}

impl<T> Drop for LeakedByPanic<T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::mem::forget(self.0.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::pin::pin;
    use std::rc::Rc;
    use std::task::{Context, Waker};

    struct Counted(Rc<Cell<u32>>);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }

    #[test]
    fn a_panic_is_told_and_what_must_not_be_dropped_then_is_leaked() {
        let drops = Rc::new(Cell::new(0));
        let (leaked, dropped) = (Counted(Rc::clone(&drops)), Counted(Rc::clone(&drops)));
        let outcome = caught(move || {
            let _held = (LeakedByPanic::new(leaked), dropped);
            panic!("as asked");
        });
        assert_eq!(outcome.err().as_deref(), Some("as asked"));
        assert_eq!(drops.get(), 1);
        drop(LeakedByPanic::new(Counted(Rc::clone(&drops))));
        assert_eq!(drops.get(), 2, "without a panic it is dropped");
    }

    #[test]
    fn a_task_that_panics_ends_with_the_panics_words() {
        let task = pin!(guarded(Box::pin(async { panic!("{}", "as asked") })));
        let polled: Poll<Result<(), String>> = task.poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(polled, Poll::Ready(Err("as asked".to_owned())));
    }
}
