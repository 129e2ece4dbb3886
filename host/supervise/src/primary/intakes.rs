//! The listeners that the primary accepts on. None of them can starve another: the one that had a connection goes last the
//! next time.

use std::future::poll_fn;
use std::task::Poll;

use wasmhost_serve::intake::Intake;
use wasmhost_serve::worker::inbox::Connection;

/// A listener, and whether it was handed over by a service manager.
pub(super) struct Door {
    pub(super) intake: Intake,
    /// What waits at it stays there when the host stops, for whoever is handed it next.
    pub(super) is_handed_over: bool,
}

/// All of them, the next to be looked at first.
#[derive(Default)]
pub(super) struct Intakes(Vec<Door>);

impl Intakes {
    pub(super) fn new(doors: Vec<Door>) -> Self {
        Self(doors)
    }

    /// The next connection; never ready without a listener. May be dropped at any moment.
    pub(super) async fn next(&mut self) -> Connection {
        if let [only] = &mut *self.0 {
            return only.intake.next().await;
        }
        let (index, connection) = {
            let mut waiting: Vec<_> = self.0.iter_mut().map(|door| Box::pin(door.intake.next())).collect();
            poll_fn(|context| {
                for (index, next) in waiting.iter_mut().enumerate() {
                    if let Poll::Ready(connection) = next.as_mut().poll(context) {
                        return Poll::Ready((index, connection));
                    }
                }
                Poll::Pending
            })
            .await
        };
        self.0.rotate_left(index + 1);
        connection
    }

    /// A connection that waits already, if the host takes one more.
    pub(super) fn next_waiting(&mut self) -> Option<Connection> {
        self.first_of(Intake::next_waiting)
    }

    /// A connection that waits, before the listeners are closed, if the host may take one more.
    pub(super) fn next_of_rest(&mut self) -> Option<Connection> {
        self.first_of(Intake::next_of_rest)
    }

    fn first_of(&mut self, look: fn(&mut Intake) -> Option<Connection>) -> Option<Connection> {
        let (index, connection) = first(self.0.iter_mut().map(|door| look(&mut door.intake)))?;
        self.0.rotate_left(index + 1);
        Some(connection)
    }

    /// Whether a connection waits at any.
    pub(super) fn has_waiting(&self) -> bool {
        self.0.iter().any(|door| door.intake.has_waiting())
    }

    /// Lets go of those that were handed over.
    pub(super) fn leave_handed_over(&mut self) {
        self.0.retain(|door| !door.is_handed_over);
    }

    /// Closes all.
    pub(super) fn close(&mut self) {
        self.0.clear();
    }
}

/// The first that there is, and its position. Looks no further.
fn first<T>(looks: impl Iterator<Item = Option<T>>) -> Option<(usize, T)> {
    looks.enumerate().find_map(|(index, found)| Some((index, found?)))
}
