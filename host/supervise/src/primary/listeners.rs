//! Following what becomes of the host's addresses, and of the files of TLS.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use wasmhost_config::{Listen, ListenerConfig};
use wasmhost_confine::spawner::{TlsLook, TlsReading};

use super::held_tls::HeldTls;
use super::host_listeners::{LOOK_EVERY, rows, sealed, speaks_http2};
use super::state::Primary;
use crate::backend::{Backend, Worker};

/// How often the operator hears of certificates that end soon, and of files that cannot be used.
const TELL_EVERY: Duration = Duration::from_hours(24);
const TELL_WRONG_EVERY: Duration = Duration::from_mins(10);

impl<B: Backend> Primary<B> {
    /// Follows new settings of addresses, before the host listens on any that is new.
    ///
    /// # Errors
    /// What the system says. Nothing has changed then.
    pub(super) fn follow_listeners(&mut self, settings: &[ListenerConfig], tls: Option<TlsReading>) -> io::Result<()> {
        let tls = tls.map(HeldTls::from);
        // Those that are given up, now or when all new ones are bound: until then connections come to them.
        let is_kept = |old: &&ListenerConfig| {
            self.reload.listening.contains(&old.listen) && settings.iter().all(|new| new.listen != old.listen)
        };
        let kept: Vec<ListenerConfig> = self.listeners.settings.iter().filter(is_kept).cloned().collect();
        let earlier = self.listeners.tls_of_kept.clone();
        let had = |listen: &Listen| earlier.iter().find(|(of, _)| of == listen).map(|(_, tls)| Arc::clone(tls));
        let latest = self.listeners.tls.as_ref().map(|tls| Arc::clone(&tls.sealed));
        let speaks_tls = kept.iter().filter(|listener| listener.tls.is_some());
        let tls_of_kept: Vec<_> = speaks_tls
            .filter_map(|listener| Some((listener.listen.clone(), had(&listener.listen).or_else(|| latest.clone())?)))
            .collect();
        let settings: Vec<ListenerConfig> = settings.iter().cloned().chain(kept).collect();
        let rows = rows(&mut self.listeners.known, &settings, speaks_http2(&self.config));
        self.listeners.told = self.backend.listeners(rows, sealed(tls.as_ref(), &tls_of_kept))?;
        self.listeners.tls_of_kept = tls_of_kept;
        self.listeners.settings = settings;
        self.listeners.tls = tls;
        self.show_certificates();
        self.tell_listeners();
        Ok(())
    }

    fn tell_listeners(&self) {
        for place in self.places.iter().filter(|place| place.group.is_none()) {
            if let Some(handle) = &place.handle {
                handle.listeners(&self.listeners.told);
            }
        }
    }

    /// Has the spawner look at the files of TLS now.
    pub(super) fn look_at_tls(&mut self) {
        let Some(held) = &self.listeners.tls else { return };
        self.listeners.look_at = None;
        let (spawner, known, looks) = (Arc::clone(&self.spawner), held.number, self.listeners.looks.clone());
        tokio::task::spawn_local(async move {
            // Without a receiver the host is stopping.
            let _ = looks.send(spawner.look_at_tls(known).await).await;
        });
    }

    /// The spawner has looked at the files of TLS.
    pub(super) fn on_tls_look(&mut self, look: io::Result<TlsLook>) {
        self.listeners.look_at = Some(Instant::now() + LOOK_EVERY);
        let wrong = match look {
            Ok(TlsLook::Same) => None,
            Ok(TlsLook::New(reading)) => {
                let tls = HeldTls::from(reading);
                let is_rotation = self.listeners.tls.as_ref().is_some_and(|before| before.facts == tls.facts);
                let rows =
                    rows(&mut self.listeners.known, &self.listeners.settings.clone(), speaks_http2(&self.config));
                match self.backend.listeners(rows, sealed(Some(&tls), &self.listeners.tls_of_kept)) {
                    Ok(told) => {
                        self.listeners.told = told;
                        self.listeners.tls = Some(tls);
                        if is_rotation {
                            tracing::debug!("the files of TLS, or the keys of session tickets, are new");
                        } else {
                            tracing::info!("the certificates have changed: new connections get the new ones");
                        }
                        self.show_certificates();
                        self.tell_listeners();
                        None
                    }
                    Err(error) => Some(error.to_string()),
                }
            }
            Ok(TlsLook::Wrong(reason)) => Some(reason),
            Err(error) => Some(error.to_string()),
        };
        let now = Instant::now();
        match wrong {
            Some(reason) => {
                let told = self.listeners.wrong_told.as_ref();
                if told.is_none_or(|(told, at)| *told != reason || now.duration_since(*at) >= TELL_WRONG_EVERY) {
                    tracing::error!("the certificates that were read last go on: {reason}");
                    self.listeners.wrong_told = Some((reason, now));
                }
            }
            None => self.listeners.wrong_told = None,
        }
        if self.listeners.soon_told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            self.show_certificates();
        }
    }

    /// Shows the certificates on the admin page, and tells of those that end soon.
    pub(super) fn show_certificates(&mut self) {
        let facts = self.listeners.tls.as_ref().map(|tls| tls.facts.clone()).unwrap_or_default();
        self.listeners.soon_told = Some(Instant::now());
        let now = SystemTime::now();
        for placeholder in facts.iter().filter(|facts| facts.is_placeholder) {
            let names = placeholder.names.join(", ");
            tracing::warn!(
                names,
                "there is no certificate yet: until the authority has given one, clients get one that nobody trusts"
            );
        }
        for soon in facts.iter().filter(|facts| facts.ends_soon(now)) {
            let (days_left, file) = (soon.days_left(now), &soon.file);
            if days_left < 0 {
                tracing::error!(
                    days_left,
                    file,
                    "a certificate has ended: renew it; the host takes a new file by itself"
                );
            } else {
                tracing::warn!(
                    days_left,
                    file,
                    "a certificate ends soon: renew it; the host takes a new file by itself"
                );
            }
        }
        self.host_status.set_certificates(facts);
    }
}
