//! The files of TLS, which the spawner alone opens: at the start, when they change, and when the file of settings is read
//! again. What is in them goes to the primary in sealed memory, for the workers that speak TLS, together with the keys of
//! session tickets, which all of them share.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use wasmhost_base::private_files;
use wasmhost_base::sealed::{seal, unseal};
use wasmhost_base::wire::{Descriptor, Descriptors};
use wasmhost_config::tls::{CertificateFacts, EndedCertificates, HostTls, TicketKey};
use wasmhost_config::{ListenerConfig, TlsFiles, acme, acme_of};

use super::stamps::{FileStamp, stamp};

/// For how long tickets are made with one key; they are read for as long again.
const TICKET_KEY_LASTS: Duration = Duration::from_hours(8);

/// What the spawner has read of TLS.
#[derive(Debug)]
pub struct TlsReading {
    /// Later ones have higher numbers.
    pub number: u64,
    /// What the operator sees of the certificates.
    pub facts: Vec<CertificateFacts>,
    /// A [`HostTls`], sealed, for the workers.
    pub sealed: OwnedFd,
}

/// What came of looking at the files of TLS.
#[derive(Debug)]
pub enum TlsLook {
    /// They are those of the reading that is known.
    Same,
    /// They are others.
    New(TlsReading),
    /// They are others, and cannot be used.
    Wrong(String),
}

/// The files as they were when they were read.
pub(super) type TlsStamps = BTreeMap<PathBuf, FileStamp>;

/// What was read of the files of some settings.
pub(super) struct ReadTls {
    tls: HostTls,
    facts: Vec<CertificateFacts>,
    stamps: TlsStamps,
}

/// Looks at the files of TLS of these listeners; `data_dir`: of the start. Blocks.
pub(super) fn look(listeners: &[ListenerConfig], data_dir: Option<&Path>) -> TlsStamps {
    let files = listeners.iter().filter_map(|listener| listener.tls.as_deref()).flat_map(TlsFiles::paths).cloned();
    let by_acme = acme_of(listeners).into_iter().filter_map(|acme| Some(acme.file(data_dir?)));
    files.chain(by_acme).map(|file| (file.clone(), stamp(&file))).collect()
}

/// Reads the files of TLS of these listeners. Blocks.
///
/// # Errors
/// All that is wrong.
pub(super) fn read(
    listeners: &[ListenerConfig],
    data_dir: Option<&Path>,
    ended: EndedCertificates,
) -> Result<ReadTls, Vec<String>> {
    if let Some(data_dir) = data_dir.filter(|_| !acme_of(listeners).is_empty()) {
        make_account(data_dir).map_err(|reason| vec![reason])?;
    }
    // Before: what changes meanwhile is read again.
    let stamps = look(listeners, data_dir);
    HostTls::read(listeners, data_dir, SystemTime::now(), ended).map(|(tls, facts)| ReadTls { tls, facts, stamps })
}

/// Makes the key by which authorities know the host, if there is none yet: what they are told that ask for proof follows from
/// it.
fn make_account(data_dir: &Path) -> Result<(), String> {
    let file = acme::account_file(data_dir);
    if file.exists() {
        return Ok(());
    }
    let written = acme::new_key().and_then(|key| private_files::write(&file, key.as_bytes()));
    written.map_err(|error| format!("the key of the account cannot be written to `{}`: {error}", file.display()))
}

/// What the spawner keeps of TLS between two readings.
#[derive(Clone, Default)]
pub(super) struct TlsKept {
    number: u64,
    stamps: TlsStamps,
    tickets: Vec<TicketKey>,
    rotated: Option<Instant>,
}

impl TlsKept {
    /// Whether a process that has the reading of this number has what the files hold, which look like this now.
    pub(super) fn is_latest(&self, number: u64, seen: &TlsStamps) -> bool {
        number == self.number && self.stamps == *seen && !self.is_rotation_due()
    }

    fn is_rotation_due(&self) -> bool {
        self.rotated.is_none_or(|at| at.elapsed() >= TICKET_KEY_LASTS)
    }

    /// Takes note of a new reading, and seals it.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn take(&mut self, read: ReadTls) -> io::Result<TlsReading> {
        if self.is_rotation_due() {
            self.tickets.insert(0, TicketKey::new()?);
            self.tickets.truncate(2);
            self.rotated = Some(Instant::now());
        }
        let ReadTls { mut tls, facts, stamps } = read;
        tls.ticket_keys = self.tickets.clone();
        let sealed = seal(&serde_json::to_vec(&tls)?)?;
        self.number += 1;
        self.stamps = stamps;
        Ok(TlsReading { number: self.number, facts, sealed })
    }
}

impl TlsReading {
    /// The facts, in the form in which they are sent.
    pub(super) fn sealed_facts(&self) -> io::Result<OwnedFd> {
        seal(&serde_json::to_vec(&self.facts)?)
    }

    /// A reading that was sent.
    pub(super) fn received(number: u64, descriptors: &mut Descriptors) -> io::Result<Self> {
        let facts = serde_json::from_slice(&unseal(&descriptors.take(Descriptor::Settings)?)?)?;
        Ok(Self { number, facts, sealed: descriptors.take(Descriptor::Tls(0))? })
    }
}
