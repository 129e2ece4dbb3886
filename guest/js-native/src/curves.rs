//! Elliptic curves: those of NIST, with ECDSA and ECDH, and Ed25519 and X25519.

use alloc::vec::Vec;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use p256::elliptic_curve::sec1::ToSec1Point;
use rsa::rand_core::Rng;
use rsa::{
    Generate,
    signature::hazmat::{PrehashSigner, PrehashVerifier},
};
use x25519_dalek::{PublicKey, StaticSecret};

use crate::exports::wasmhost::native::crypto::{Curve, Hash};
use crate::random::HostRng;
use crate::{Made, hashes};

/// Does something with the crate of a curve of NIST and the length of its numbers; something else with the two others.
macro_rules! with_curve {
    ($curve:expr, ($of:ident, $length:ident) => $made:expr, Ed25519 => $edwards:expr, X25519 => $montgomery:expr $(,)?) => {
        match $curve {
            Curve::P256 => {
                use p256 as $of;
                #[allow(unused, reason = "not all operations need it")]
                const $length: usize = 32;
                $made
            }
            Curve::P384 => {
                use p384 as $of;
                #[allow(unused, reason = "not all operations need it")]
                const $length: usize = 48;
                $made
            }
            Curve::P521 => {
                use p521 as $of;
                #[allow(unused, reason = "not all operations need it")]
                const $length: usize = 66;
                $made
            }
            Curve::Ed25519 => $edwards,
            Curve::X25519 => $montgomery,
        }
    };
}

type Key = [u8; 32];

fn key(bytes: &[u8]) -> Result<Key, ()> {
    bytes.try_into().map_err(drop)
}

pub(crate) fn generate(curve: Curve) -> Vec<u8> {
    let seed = || {
        let mut seed = Key::default();
        HostRng::default().fill_bytes(&mut seed);
        seed.to_vec()
    };
    with_curve!(curve,
        (of, LENGTH) => of::SecretKey::generate_from_rng(&mut HostRng::default()).to_bytes().to_vec(),
        Ed25519 => seed(),
        X25519 => seed(),
    )
}

pub(crate) fn public(curve: Curve, private: &[u8]) -> Made {
    with_curve!(curve,
        (of, LENGTH) => {
            let private = exactly(private, LENGTH)?;
            Ok(of::SecretKey::from_slice(private).map_err(drop)?.public_key().to_sec1_point(false).as_bytes().to_vec())
        },
        Ed25519 => Ok(SigningKey::from_bytes(&key(private)?).verifying_key().to_bytes().to_vec()),
        X25519 => Ok(PublicKey::from(&StaticSecret::from(key(private)?)).to_bytes().to_vec()),
    )
}

/// (The crates take shorter private keys, too.)
fn exactly(bytes: &[u8], length: usize) -> Result<&[u8], ()> {
    if bytes.len() == length { Ok(bytes) } else { Err(()) }
}

pub(crate) fn point(curve: Curve, public: Vec<u8>) -> Made {
    with_curve!(curve,
        (of, LENGTH) => Ok(of::PublicKey::from_sec1_bytes(&public).map_err(drop)?.to_sec1_point(false).as_bytes().to_vec()),
        // One that is no point is found when it is used, as the standard has it.
        Ed25519 => key(&public).map(|_| public),
        X25519 => key(&public).map(|_| public),
    )
}

/// A hash's value as the number that is signed: the crates take none that is much shorter than the curve's numbers.
fn number(hash: Hash, data: &[u8], length: usize) -> Vec<u8> {
    let digest = hashes::digest(hash, data);
    let mut number = alloc::vec![0; length.saturating_sub(digest.len())];
    number.extend(digest);
    number
}

pub(crate) fn sign(curve: Curve, hash: Hash, private: &[u8], data: &[u8]) -> Made {
    with_curve!(curve,
        (of, LENGTH) => {
            let private = of::ecdsa::SigningKey::from_slice(exactly(private, LENGTH)?).map_err(drop)?;
            let made: of::ecdsa::Signature = private.sign_prehash(&number(hash, data, LENGTH)).map_err(drop)?;
            Ok(made.to_bytes().to_vec())
        },
        Ed25519 => Ok(SigningKey::from_bytes(&key(private)?).sign(data).to_bytes().to_vec()),
        X25519 => Err(()),
    )
}

pub(crate) fn verify(curve: Curve, hash: Hash, public: &[u8], signature: &[u8], data: &[u8]) -> bool {
    let verified: Result<(), ()> = (|| {
        with_curve!(curve,
            (of, LENGTH) => {
                let public = of::ecdsa::VerifyingKey::from_sec1_bytes(public).map_err(drop)?;
                let signature = of::ecdsa::Signature::from_slice(signature).map_err(drop)?;
                public.verify_prehash(&number(hash, data, LENGTH), &signature).map_err(drop)
            },
            Ed25519 => {
                let signature = Signature::from_slice(signature).map_err(drop)?;
                // Without points of small order, as the standard has it.
                VerifyingKey::from_bytes(&key(public)?).map_err(drop)?.verify_strict(data, &signature).map_err(drop)
            },
            X25519 => Err(()),
        )
    })();
    verified.is_ok()
}

pub(crate) fn derive(curve: Curve, private: &[u8], public: &[u8]) -> Made {
    with_curve!(curve,
        (of, LENGTH) => {
            let private = of::SecretKey::from_slice(exactly(private, LENGTH)?).map_err(drop)?;
            let public = of::PublicKey::from_sec1_bytes(public).map_err(drop)?;
            Ok(private.diffie_hellman(&public).raw_secret_bytes().to_vec())
        },
        Ed25519 => Err(()),
        X25519 => {
            let shared = StaticSecret::from(key(private)?).diffie_hellman(&PublicKey::from(key(public)?));
            // All zeros for a point of small order.
            if shared.was_contributory() { Ok(shared.to_bytes().to_vec()) } else { Err(()) }
        },
    )
}
