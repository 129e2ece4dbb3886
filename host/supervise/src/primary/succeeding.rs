//! The primary's part in an upgrade of the program, as the host that takes over: it makes everything ready, says so, and serves
//! when the old one tells it to, or is gone.

use std::os::fd::AsFd;
use std::rc::Rc;

use wasmhost_base::wire::{Descriptor, Sent, Wire, cut};
use wasmhost_config::Balance;
use wasmhost_serve::listener::Listener;

use super::error::PrimaryError;
use super::serving::LOADED_AHEAD_MAX;
use super::state::Primary;
use super::succession::SuccessionStage;
use crate::backend::Backend;
use crate::upgrade::{FAILED_REASONS_TOLD, FromSuccessor, PredecessorError, Readiness, SteeredState, ToSuccessor};

/// Longest reason of an app that is told.
const REASON_CHARS: usize = 200;

impl<B: Backend> Primary<B> {
    /// What the old host says; none: it is gone. False: this host is to end, and finishes what its workers may have.
    ///
    /// # Errors
    /// When this host is to end, and nobody has come to it.
    pub(super) fn on_predecessor(
        &mut self,
        word: Option<ToSuccessor>,
        line: &mut Option<Rc<Wire>>,
    ) -> Result<bool, PrimaryError> {
        let Some(succession) = &mut self.upgrades.succession else { return Ok(true) };
        match word {
            Some(ToSuccessor::Go) => succession.stage = SuccessionStage::Goes,
            Some(ToSuccessor::Main) => self.service_manager.is_main(),
            // Clients may have come to it: where it serves, and with the sockets of its workers.
            Some(ToSuccessor::End)
                if succession.stage == SuccessionStage::Serves || self.config.balance == Balance::Kernel =>
            {
                self.upgrades.succession = None;
                *line = None;
                return Ok(false);
            }
            Some(ToSuccessor::End) => return Err(PredecessorError::GoesOn.into()),
            Some(ToSuccessor::AllSockets(SteeredState { schedules, .. })) => self.scheduling.left = schedules,
            Some(ToSuccessor::Socket(..)) => {}
            None => {
                *line = None;
                succession.is_alone = true;
                if succession.stage < SuccessionStage::Serves {
                    tracing::warn!(
                        "upgrade: the host that this one takes over from is gone; this one serves as soon as it can"
                    );
                } else {
                    self.end_succession();
                }
            }
        }
        Ok(true)
    }

    /// Whether this host, which takes over from another, may serve now. Tells that one when this one is ready.
    pub(super) fn takes_over_now(&mut self) -> bool {
        let Some(stage) = self.upgrades.succession.as_ref().map(|succession| succession.stage) else { return false };
        let is_alone = self.upgrades.succession.as_ref().is_some_and(|succession| succession.is_alone);
        match stage {
            SuccessionStage::Starts if self.has_begun() => {
                if self.only.is_none() {
                    // No request waits for them then, and what cannot be loaded is known before.
                    self.load_ahead();
                }
                self.reach(SuccessionStage::Loads);
                self.takes_over_now()
            }
            SuccessionStage::Loads if self.is_loaded() => {
                self.reach(if is_alone { SuccessionStage::Goes } else { SuccessionStage::Waits });
                if !is_alone {
                    self.tell_ready();
                }
                is_alone
            }
            SuccessionStage::Waits => {
                if is_alone {
                    self.reach(SuccessionStage::Goes);
                }
                is_alone
            }
            SuccessionStage::Goes => true,
            SuccessionStage::Starts | SuccessionStage::Loads | SuccessionStage::Serves => false,
        }
    }

    /// Takes on what an operator has changed of the old host. Where the file names another number of workers than before, that counts.
    pub(super) fn take_on_steered(&mut self) {
        let Some(succession) = &mut self.upgrades.succession else { return };
        let SteeredState { is_withdrawn, workers, scaled, log, schedules: _ } = std::mem::take(&mut succession.steered);
        self.host_status.set_withdrawn(is_withdrawn);
        if let Some((named, shown)) = log {
            self.take_on_log(named, shown);
        }
        if workers == self.config.workers {
            for (group, workers) in scaled {
                // Nobody waits.
                self.scale_for(workers, group.as_deref(), tokio::sync::oneshot::channel().0);
            }
        }
    }

    fn reach(&mut self, stage: SuccessionStage) {
        if let Some(succession) = &mut self.upgrades.succession {
            succession.stage = stage;
        }
    }

    fn is_loaded(&self) -> bool {
        self.apps.book.iter().take(LOADED_AHEAD_MAX).all(|(_, record)| record.is_at_rest())
    }

    fn tell_ready(&mut self) {
        let failed =
            self.apps.book.iter().take(LOADED_AHEAD_MAX).filter_map(|(_, record)| Some((record, record.failure()?)));
        let failed = failed.enumerate().map(|(number, (record, failure))| {
            let chars = if number < FAILED_REASONS_TOLD { REASON_CHARS } else { 0 };
            (record.app().name.clone(), failure.error.to_string().chars().take(chars).collect())
        });
        let failed = failed.collect();
        let files = self.files.later().to_vec();
        let Some(succession) = &self.upgrades.succession else { return };
        let readiness = Readiness { pid: std::process::id(), taken: succession.taken.clone(), files, failed };
        let beside = succession.sockets.beside.as_ref().and_then(|_| self.upgrades.commands_socket());
        let beside: Vec<Sent<'_>> = beside.iter().map(|socket| (Descriptor::Listener(0), socket.as_fd())).collect();
        if let Err(error) = succession.line.try_send(&FromSuccessor::Ready(readiness), &beside) {
            // Its end is heard, too.
            tracing::warn!(%error, "upgrade: the host that runs is not told that this one is ready");
        }
    }

    /// Serves in the place of the old host, which has let go of what only one may have.
    ///
    /// # Errors
    /// When it cannot.
    pub(super) fn take_over(&mut self, addresses: &str) -> Result<(), PrimaryError> {
        let counts = self.host_status.host;
        if let Err(error) = self.data.open(&self.kept, &self.spawner, counts) {
            if let Some(succession) = &self.upgrades.succession {
                // It may be gone.
                let _ = succession.line.try_send(&FromSuccessor::Failed(cut(&error.to_string())), &[]);
            }
            return Err(error);
        }
        if let Some(file) = &mut self.scheduling.file
            && let Err(error) = file.read()
        {
            tracing::error!(%error, "what the old host has kept of schedules cannot be read; they may run again");
        }
        self.files.take_over();
        let Some(succession) = &mut self.upgrades.succession else { return Ok(()) };
        let (admin, control) = (succession.sockets.admin.take(), succession.sockets.control.take());
        if let Some(admin) = admin {
            let admin = Listener::new(admin)?;
            tracing::info!("admin page on {}", admin.address());
            self.upgrades.serve_admin(admin, &self.config, &self.host_status);
        }
        if let Some(control) = control {
            self.upgrades.end_commands();
            self.upgrades.serve_commands(Listener::new(control)?, &self.host_status);
        }
        self.announce(addresses);
        self.reach(SuccessionStage::Serves);
        if let Some(succession) = &self.upgrades.succession {
            if succession.is_alone {
                self.service_manager.is_main();
                self.end_succession();
            } else if let Err(error) = succession.line.try_send(&FromSuccessor::Serving, &[]) {
                tracing::warn!(%error, "upgrade: the old host is not told that this one serves");
            }
        }
        Ok(())
    }

    /// The old host is gone.
    fn end_succession(&mut self) {
        let Some(succession) = self.upgrades.succession.take() else { return };
        self.service_manager.is_main();
        if let Some(file) = &succession.sockets.beside {
            self.files.remove_one(file);
        }
    }
}
