//! A worker: one event loop with its connections and instances, in a thread of the host or in the main thread of a process.
//! [`orders`] and [`events`] are what the primary and a worker tell each other, [`handle`] starts a worker as a thread,
//! [`thread`] is what runs in it. The other files follow a connection through it.

mod alarms;
mod body;
mod buffers;
mod conn;
mod crash;
mod deadline;
mod events;
mod exchange;
mod framing;
mod guard;
mod handle;
mod head;
mod id;
pub mod inbox;
mod last_answer;
mod lines;
mod linger;
mod link;
#[cfg(feature = "fault-injection")]
mod misdeeds;
mod orders;
mod pace;
mod peer;
mod pool;
mod respond;
mod serve;
mod shared;
mod socket;
mod stream;
pub mod thread;
mod turns;
mod upload;
mod waits;

pub use self::events::{Events, Exit, WorkerEvent};
pub use self::handle::ThreadHandle;
pub use self::id::WorkerId;
pub use self::orders::{Orders, Stage, WorkerSetup};
pub use self::peer::Peer;
