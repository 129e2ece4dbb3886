//! The numbers of the host's addresses, and what workers are told of them: how connections begin there, and what is needed
//! for TLS. The spawner looks at the files of TLS again and again; what has changed is handed on.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;

use wasmhost_config::tls::CertificateFacts;
use wasmhost_config::{Config, Listen, ListenerConfig};
use wasmhost_confine::spawner::{TlsLook, TlsReading};
use wasmhost_serve::worker::{ListenerId, ListenerRow};

use super::state::Primary;
use crate::backend::{Backend, Worker};

/// How often the files of TLS are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How often the operator hears of certificates that end soon, and of files that cannot be used.
const TELL_EVERY: Duration = Duration::from_hours(24);
const TELL_WRONG_EVERY: Duration = Duration::from_mins(10);

/// What is known of the host's addresses.
pub(super) struct HostListeners<L> {
    /// By number. An address keeps its number when it goes.
    known: Vec<Listen>,
    /// As the settings have them now.
    settings: Vec<ListenerConfig>,
    tls: Option<HeldTls>,
    /// What the workers know that take clients' connections.
    pub(super) told: L,
    /// What those of groups know, to whom no client comes.
    pub(super) none: L,
    looks: mpsc::Sender<io::Result<TlsLook>>,
    /// When the files are looked at next; none: they are being looked at.
    look_at: Option<Instant>,
    /// What was wrong with the files, and when that was told.
    wrong_told: Option<(String, Instant)>,
    soon_told: Option<Instant>,
}

/// What the spawner has read of TLS.
#[derive(Clone)]
pub(super) struct HeldTls {
    number: u64,
    pub(super) facts: Vec<CertificateFacts>,
    sealed: Arc<OwnedFd>,
}

impl From<TlsReading> for HeldTls {
    fn from(TlsReading { number, facts, sealed }: TlsReading) -> Self {
        Self { number, facts, sealed: Arc::new(sealed) }
    }
}

impl<L> HostListeners<L> {
    /// Of the settings of the start, and the end at which looks at the files are heard.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn new<B: Backend<Listeners = L>>(
        config: &Config,
        tls: Option<HeldTls>,
        backend: &B,
    ) -> io::Result<(Self, mpsc::Receiver<io::Result<TlsLook>>)> {
        let (looks, looked) = mpsc::channel(1);
        let mut known = Vec::new();
        let rows = rows(&mut known, &config.listeners, speaks_http2(config));
        let told = backend.listeners(rows, tls.as_ref().map(|tls| &tls.sealed))?;
        let none = backend.listeners(Vec::new(), None)?;
        let look_at = Some(Instant::now() + LOOK_EVERY);
        let all = Self {
            known,
            settings: config.listeners.clone(),
            tls,
            told,
            none,
            looks,
            look_at,
            wrong_told: None,
            soon_told: None,
        };
        Ok((all, looked))
    }

    /// The number of an address, and whether its clients speak TLS.
    pub(super) fn number(&self, listen: &Listen) -> (ListenerId, bool) {
        let number = self.known.iter().position(|known| known == listen).and_then(|number| u16::try_from(number).ok());
        let speaks_tls = self.settings.iter().any(|listener| listener.listen == *listen && listener.tls.is_some());
        // (One that is not known has no connections.)
        (ListenerId(number.unwrap_or(u16::MAX)), speaks_tls)
    }

    /// When the files of TLS are to be looked at; none: there are none, or they are being looked at.
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.look_at.filter(|_| self.tls.is_some())
    }
}

fn speaks_http2(config: &Config) -> bool {
    config.limits.http2_streams_max > 0
}

/// What workers are told of these listeners. Those that have no number yet get one.
fn rows(known: &mut Vec<Listen>, settings: &[ListenerConfig], speaks_http2: bool) -> Vec<ListenerRow> {
    let row = |listener: &ListenerConfig| {
        let number = known.iter().position(|known| *known == listener.listen).unwrap_or_else(|| {
            known.push(listener.listen.clone());
            known.len() - 1
        });
        // (Some sixty addresses at a time: a host that has had more of them keeps from these that connections begin.)
        u16::try_from(number).ok().map(|number| ListenerRow::new(ListenerId(number), listener, speaks_http2))
    };
    settings.iter().filter_map(row).collect()
}

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
        let kept = self.listeners.settings.iter().filter(is_kept).cloned();
        let settings: Vec<ListenerConfig> = settings.iter().cloned().chain(kept).collect();
        let rows = rows(&mut self.listeners.known, &settings, speaks_http2(&self.config));
        self.listeners.told = self.backend.listeners(rows, tls.as_ref().map(|tls| &tls.sealed))?;
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
                match self.backend.listeners(rows, Some(&tls.sealed)) {
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
        for soon in facts.iter().filter(|facts| facts.ends_soon(now)) {
            let (days_left, file) = (soon.days_left(now), &soon.file);
            tracing::warn!(days_left, file, "a certificate ends soon: renew it; the host takes a new file by itself");
        }
        self.host_status.set_certificates(facts);
    }
}
