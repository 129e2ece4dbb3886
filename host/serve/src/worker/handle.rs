//! The primary's side of a worker that is a thread.

use std::io;
use std::thread;

use tokio::sync::mpsc;

use super::events::WorkerEvent;
use super::orders::{OrderReceiver, OrderSender, WorkerSetup};
use super::thread::run;
use crate::net::inbox::{self, Connection};

/// An end to send connections to a worker's thread, and one to order it.
pub struct ThreadHandle {
    inbox: inbox::Sender,
    /// What to serve, and whether to go on.
    pub orders: OrderSender,
}

impl ThreadHandle {
    /// Starts a worker's thread.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(
        setup: WorkerSetup,
        events: mpsc::Sender<WorkerEvent>,
        (orders, heard): (OrderSender, OrderReceiver),
    ) -> io::Result<Self> {
        let (inbox, connections) = inbox::inbox();
        let name = format!("worker-{}", setup.id);
        thread::Builder::new().name(name).spawn(move || run(setup, events, connections, heard))?;
        Ok(Self { inbox, orders })
    }

    /// Connections that it can still be given.
    pub fn room(&self) -> usize {
        self.inbox.capacity()
    }

    /// Gives it a connection.
    ///
    /// # Errors
    /// The connection, when the worker cannot take it now.
    pub fn try_send(&self, connection: Connection) -> Result<(), Connection> {
        self.inbox.try_send(connection).map_err(|error| match error {
            mpsc::error::TrySendError::Full(connection) | mpsc::error::TrySendError::Closed(connection) => connection,
        })
    }
}
