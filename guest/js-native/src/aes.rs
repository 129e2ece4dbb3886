//! AES in the modes that the web has.

use alloc::{vec, vec::Vec};

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{
    Array, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, KeyInit, KeyIvInit, StreamCipher, consts::U16,
};
use ghash::GHash;
use ghash::universal_hash::UniversalHash;
use p256::elliptic_curve::subtle::ConstantTimeEq;

use crate::Made;

const BLOCK: usize = 16;
type Block = Array<u8, U16>;

/// Does something with the type of a cipher, by the length of its key.
macro_rules! with_cipher {
    ($key:expr, $type:ident => $made:expr) => {
        match $key.len() {
            16 => {
                type $type = aes::Aes128;
                $made
            }
            24 => {
                type $type = aes::Aes192;
                $made
            }
            32 => {
                type $type = aes::Aes256;
                $made
            }
            _ => Err(()),
        }
    };
}

/// NIST SP 800-38D, with initialization vectors of any length and tags of 4 to 16 bytes.
pub(crate) fn gcm(encrypt: bool, key: &[u8], iv: &[u8], additional: &[u8], tag: usize, mut data: Vec<u8>) -> Made {
    if !(4..=BLOCK).contains(&tag) || iv.is_empty() {
        return Err(());
    }
    with_cipher!(key, C => {
        let cipher = C::new_from_slice(key).map_err(drop)?;
        let mut hash_key = Block::default();
        cipher.encrypt_block(&mut hash_key);
        let first = first_counter(&hash_key, iv);
        let mut stream = ctr::Ctr32BE::<C>::new_from_slices(key, &first).map_err(drop)?;
        let mut mask = Block::default();
        stream.apply_keystream(&mut mask);
        let tag_of = |text: &[u8]| {
            let mut made = authenticate(&hash_key, additional, text);
            made.iter_mut().zip(&mask).for_each(|(byte, mask)| *byte ^= mask);
            made
        };
        if encrypt {
            stream.apply_keystream(&mut data);
            let made = tag_of(&data);
            data.reserve_exact(tag);
            data.extend(made.iter().take(tag));
        } else {
            let length = data.len().checked_sub(tag).ok_or(())?;
            let made = tag_of(data.get(..length).ok_or(())?);
            if !is_same(made.get(..tag).ok_or(())?, data.get(length..).ok_or(())?) {
                return Err(());
            }
            data.truncate(length);
            stream.apply_keystream(&mut data);
        }
        Ok(data)
    })
}

/// The block J0 of section 7.1.
fn first_counter(hash_key: &Block, iv: &[u8]) -> Block {
    if iv.len() == 12 {
        let mut first = Block::default();
        first.iter_mut().zip(iv).for_each(|(to, from)| *to = *from);
        if let Some(last) = first.last_mut() {
            *last = 1;
        }
        return first;
    }
    authenticate(hash_key, &[], iv)
}

/// GHASH of two texts, each filled up to whole blocks, and their lengths.
fn authenticate(hash_key: &Block, additional: &[u8], text: &[u8]) -> Block {
    let mut hash = GHash::new(hash_key);
    hash.update_padded(additional);
    hash.update_padded(text);
    let bits = |bytes: &[u8]| (bytes.len() as u64 * 8).to_be_bytes();
    let mut lengths = Block::default();
    let counted = bits(additional).into_iter().chain(bits(text));
    lengths.iter_mut().zip(counted).for_each(|(to, from)| *to = from);
    hash.update(&[lengths]);
    hash.finalize()
}

/// In a time that does not tell where they differ.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

pub(crate) fn cbc(encrypt: bool, key: &[u8], iv: &[u8], data: &[u8]) -> Made {
    with_cipher!(key, C => if encrypt {
        Ok(cbc::Encryptor::<C>::new_from_slices(key, iv).map_err(drop)?.encrypt_padded_vec::<Pkcs7>(data))
    } else {
        let cipher = cbc::Decryptor::<C>::new_from_slices(key, iv).map_err(drop)?;
        cipher.decrypt_padded_vec::<Pkcs7>(data).map_err(drop)
    })
}

/// The counter is the last `bits` of its block; the others stay when it begins again.
pub(crate) fn ctr(key: &[u8], counter: &[u8], bits: u32, mut data: Vec<u8>) -> Made {
    let counter = u128::from_be_bytes(counter.try_into().map_err(drop)?);
    if bits == 0 || bits > 128 {
        return Err(());
    }
    let mask = u128::MAX >> (128 - bits);
    // How many blocks come before it begins again.
    let before = mask - (counter & mask);
    let blocks = data.len().div_ceil(BLOCK) as u128;
    if blocks > 0 && blocks - 1 > mask {
        return Err(());
    }
    let before = usize::try_from(before.saturating_add(1)).unwrap_or(usize::MAX).saturating_mul(BLOCK);
    let before = before.min(data.len());
    let (now, after) = data.split_at_mut(before);
    with_cipher!(key, C => {
        for (counter, part) in [(counter, now), (counter & !mask, after)] {
            ctr::Ctr128BE::<C>::new_from_slices(key, &counter.to_be_bytes()).map_err(drop)?.apply_keystream(part);
        }
        Ok(data)
    })
}

pub(crate) fn kw(wrap: bool, key: &[u8], data: &[u8]) -> Made {
    // Of at least two halves of a block (RFC 3394).
    let least = if wrap { BLOCK } else { BLOCK + 8 };
    if data.len() < least || !data.len().is_multiple_of(8) {
        return Err(());
    }
    with_cipher!(key, C => {
        let cipher = aes_kw::AesKw::<C>::new_from_slice(key).map_err(drop)?;
        let mut made = vec![0; if wrap { data.len() + 8 } else { data.len() - 8 }];
        let done = if wrap { cipher.wrap_key(data, &mut made).is_ok() } else { cipher.unwrap_key(data, &mut made).is_ok() };
        if done { Ok(made) } else { Err(()) }
    })
}
