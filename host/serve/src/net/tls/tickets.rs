//! Session tickets that any worker can read: all have the same keys, which the spawner makes and changes. (rustls's own
//! ticketer makes keys that no other process has.)

use std::fmt;
use std::sync::Arc;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::crypto::ring::default_provider;
use rustls::server::ProducesTickets;

use wasmhost_config::tls::TicketKey;

/// How long a client may keep a ticket: with the key that made it, and the one after (RFC 8446, section 4.6.1, allows a
/// week).
const LIFETIME_S: u32 = 16 * 60 * 60;
/// Of the name of the key before a ticket, in bytes.
const NAME_BYTES: usize = 16;

/// Makes tickets with the first key, and reads those of all.
pub(super) struct Tickets(Vec<([u8; NAME_BYTES], Arc<LessSafeKey>)>);

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

impl Tickets {
    pub(super) fn new(keys: Vec<TicketKey>) -> Self {
        let key = |key: TicketKey| {
            let secret = UnboundKey::new(&AES_256_GCM, &key.secret).ok()?;
            Some((key.name, Arc::new(LessSafeKey::new(secret))))
        };
        Self(keys.into_iter().filter_map(key).collect())
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        !self.0.is_empty()
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_S
    }

    /// The key's name, a nonce, and the session with its tag (as RFC 5077, section 4, recommends it).
    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let (name, key) = self.0.first()?;
        // By chance: 2^32 tickets of a key that lasts for hours are not reached (NIST SP 800-38D, section 8.3).
        let mut nonce = [0; NONCE_LEN];
        default_provider().secure_random.fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(name), &mut sealed).ok()?;
        Some([name.as_slice(), &nonce, &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let (_, key) = self.0.iter().find(|(known, _)| known == name)?;
        let mut sealed = sealed.to_vec();
        let plain = key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(name), &mut sealed).ok()?;
        Some(plain.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_of_the_last_two_keys_are_read_and_no_others() -> std::io::Result<()> {
        let (old, new, other) = (TicketKey::new()?, TicketKey::new()?, TicketKey::new()?);
        let (before, after) = (Tickets::new(vec![old.clone()]), Tickets::new(vec![new.clone(), old]));
        let session = b"a session".as_slice();
        let ticket = before.encrypt(session).ok_or(std::io::ErrorKind::Other)?;
        assert_eq!(after.decrypt(&ticket).as_deref(), Some(session));
        assert_eq!(Tickets::new(vec![new, other]).decrypt(&ticket), None);
        assert_ne!(before.encrypt(session), Some(ticket.clone()), "each has its own nonce");
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(after.decrypt(&changed), None, "byte {at}");
            assert_eq!(after.decrypt(&ticket[..at]), None, "cut at {at}");
        }
        assert!(!Tickets::new(Vec::new()).enabled());
        Ok(())
    }
}
