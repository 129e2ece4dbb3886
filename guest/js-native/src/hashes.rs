//! Hashes, and what is made of them alone.

use alloc::{vec, vec::Vec};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Digest;

use crate::Made;
use crate::exports::wasmhost::native::crypto::Hash;

/// Does something with the type of a hash.
macro_rules! with_hash {
    ($hash:expr, $type:ident => $made:expr) => {
        match $hash {
            $crate::exports::wasmhost::native::crypto::Hash::Sha1 => {
                type $type = sha1::Sha1;
                $made
            }
            $crate::exports::wasmhost::native::crypto::Hash::Sha256 => {
                type $type = sha2::Sha256;
                $made
            }
            $crate::exports::wasmhost::native::crypto::Hash::Sha384 => {
                type $type = sha2::Sha384;
                $made
            }
            $crate::exports::wasmhost::native::crypto::Hash::Sha512 => {
                type $type = sha2::Sha512;
                $made
            }
        }
    };
}
pub(crate) use with_hash;

pub(crate) fn digest(hash: Hash, data: &[u8]) -> Vec<u8> {
    with_hash!(hash, D => D::digest(data).to_vec())
}

pub(crate) fn hmac(hash: Hash, key: &[u8], data: &[u8]) -> Made {
    with_hash!(hash, D => {
        let mut mac = Hmac::<D>::new_from_slice(key).map_err(drop)?;
        mac.update(data);
        Ok(mac.finalize().into_bytes().to_vec())
    })
}

pub(crate) fn hkdf(hash: Hash, key: &[u8], salt: &[u8], info: &[u8], length: usize) -> Made {
    with_hash!(hash, D => {
        // RFC 5869, section 2.3.
        if length > 255 * D::output_size() {
            return Err(());
        }
        let mut made = vec![0; length];
        hkdf::Hkdf::<D>::new(Some(salt), key).expand(info, &mut made).map_err(drop)?;
        Ok(made)
    })
}

/// Fails where there is no memory for so many bytes.
pub(crate) fn pbkdf2(hash: Hash, password: &[u8], salt: &[u8], iterations: u32, length: usize) -> Made {
    let mut made = Vec::new();
    made.try_reserve_exact(length).map_err(drop)?;
    made.resize(length, 0);
    with_hash!(hash, D => pbkdf2::pbkdf2_hmac::<D>(password, salt, iterations, &mut made));
    Ok(made)
}
