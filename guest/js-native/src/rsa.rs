//! RSA. Keys are read, and checked, for each operation.

use rsa::pkcs1::{DecodeRsaPrivateKey, DecodeRsaPublicKey, EncodeRsaPrivateKey};
use rsa::traits::PublicKeyParts;
use rsa::{BoxedUint, Oaep, Pkcs1v15Sign, PrivateKey, Pss, PublicKey};

use crate::exports::wasmhost::native::crypto::{Hash, RsaScheme};
use crate::hashes::{digest, with_hash};
use crate::random::HostRng;
use crate::{Bytes, Made};

pub(crate) fn generate(bits: usize, exponent: u32) -> Made {
    if bits > PublicKey::MAX_SIZE {
        return Err(());
    }
    let exponent = BoxedUint::from(exponent);
    let key = PrivateKey::new_with_exp(&mut HostRng::default(), bits, exponent).map_err(drop)?;
    Ok(key.to_pkcs1_der().map_err(drop)?.as_bytes().to_vec())
}

fn private(key: &[u8]) -> Result<PrivateKey, ()> {
    PrivateKey::from_pkcs1_der(key).map_err(drop)
}

fn public(key: &[u8]) -> Result<PublicKey, ()> {
    PublicKey::from_pkcs1_der(key).map_err(drop)
}

/// Reading a private key passes over the numbers that follow from the others: what is written again has the right ones.
pub(crate) fn check(is_private: bool, key: &[u8]) -> bool {
    if is_private {
        private(key).is_ok_and(|read| read.to_pkcs1_der().is_ok_and(|written| written.as_bytes() == key))
    } else {
        public(key).is_ok()
    }
}

/// Signing and decrypting are blinded: their time tells nothing of the key.
pub(crate) fn sign(scheme: RsaScheme, hash: Hash, salt: usize, key: &[u8], data: &[u8]) -> Made {
    let (key, digest, mut rng) = (private(key)?, digest(hash, data), HostRng::default());
    // The crate allocates the salt before it looks whether there is room for it.
    if salt > key.size() {
        return Err(());
    }
    let made = with_hash!(hash, D => match scheme {
        RsaScheme::Pkcs1 => key.sign_with_rng(&mut rng, Pkcs1v15Sign::new::<D>(), &digest),
        RsaScheme::Pss => key.sign_with_rng(&mut rng, Pss::<D>::new_with_salt(salt), &digest),
    });
    made.map_err(drop)
}

pub(crate) fn verify(scheme: RsaScheme, hash: Hash, salt: usize, key: &[u8], signature: &[u8], data: &[u8]) -> bool {
    let Ok(key) = public(key) else { return false };
    let digest = digest(hash, data);
    let verified = with_hash!(hash, D => match scheme {
        RsaScheme::Pkcs1 => key.verify(Pkcs1v15Sign::new::<D>(), &digest, signature),
        RsaScheme::Pss => key.verify(Pss::<D>::new_with_salt(salt), &digest, signature),
    });
    verified.is_ok()
}

pub(crate) fn encrypt(hash: Hash, label: Bytes, key: &[u8], data: &[u8]) -> Made {
    let (key, mut rng) = (public(key)?, HostRng::default());
    with_hash!(hash, D => key.encrypt(&mut rng, Oaep::<D>::new_with_label(label), data).map_err(drop))
}

pub(crate) fn decrypt(hash: Hash, label: Bytes, key: &[u8], data: &[u8]) -> Made {
    let (key, mut rng) = (private(key)?, HostRng::default());
    with_hash!(hash, D => key.decrypt_blinded(&mut rng, Oaep::<D>::new_with_label(label), data).map_err(drop))
}
