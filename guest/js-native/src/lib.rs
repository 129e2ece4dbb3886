//! What the JavaScript runtime calls of compiled code: cryptography, by the crates of RustCrypto and dalek. `wasmhost build`
//! puts the component beside the engine (`host/toolchain/src/build/native.rs`); `crypto.subtle` calls it
//! (`guest/js-runtime/src/crypto`).
//!
//! It imports `wasi:random` alone. `std` would bring more, so there is none of it in the component.

#![cfg_attr(target_family = "wasm", no_std)]

extern crate alloc;

mod aes;
mod curves;
mod hashes;
mod random;
mod rsa;

wit_bindgen::generate!({
    path: ["../js-runtime/wit/deps/native.wit", "wit"],
    world: "wasmhost:js-native/native",
    generate_all,
});

use alloc::vec::Vec;

use exports::wasmhost::native::crypto::{Curve, Guest, Hash, RsaScheme};

// What a component without std has to bring.
use js_part as _;

type Bytes = Vec<u8>;
/// Why it failed is the same to all callers: what was given does not fit.
type Made = Result<Bytes, ()>;

struct Native;

export!(Native);

impl Guest for Native {
    fn digest(hash: Hash, data: Bytes) -> Made {
        Ok(hashes::digest(hash, &data))
    }

    fn hmac(hash: Hash, key: Bytes, data: Bytes) -> Made {
        hashes::hmac(hash, &key, &data)
    }

    fn hkdf(hash: Hash, key: Bytes, salt: Bytes, info: Bytes, length: u32) -> Made {
        hashes::hkdf(hash, &key, &salt, &info, length as usize)
    }

    fn pbkdf2(hash: Hash, password: Bytes, salt: Bytes, iterations: u32, length: u32) -> Made {
        hashes::pbkdf2(hash, &password, &salt, iterations, length as usize)
    }

    fn aes_gcm(encrypt: bool, key: Bytes, iv: Bytes, additional: Bytes, tag: u32, data: Bytes) -> Made {
        aes::gcm(encrypt, &key, &iv, &additional, tag as usize, data)
    }

    fn aes_cbc(encrypt: bool, key: Bytes, iv: Bytes, data: Bytes) -> Made {
        aes::cbc(encrypt, &key, &iv, &data)
    }

    fn aes_ctr(key: Bytes, counter: Bytes, bits: u32, data: Bytes) -> Made {
        aes::ctr(&key, &counter, bits, data)
    }

    fn aes_kw(wrap: bool, key: Bytes, data: Bytes) -> Made {
        aes::kw(wrap, &key, &data)
    }

    fn ec_generate(curve: Curve) -> Made {
        Ok(curves::generate(curve))
    }

    fn ec_public(curve: Curve, private: Bytes) -> Made {
        curves::public(curve, &private)
    }

    fn ec_point(curve: Curve, public: Bytes) -> Made {
        curves::point(curve, public)
    }

    fn ec_sign(curve: Curve, hash: Hash, private: Bytes, data: Bytes) -> Made {
        curves::sign(curve, hash, &private, &data)
    }

    fn ec_verify(curve: Curve, hash: Hash, public: Bytes, signature: Bytes, data: Bytes) -> bool {
        curves::verify(curve, hash, &public, &signature, &data)
    }

    fn ec_derive(curve: Curve, private: Bytes, public: Bytes) -> Made {
        curves::derive(curve, &private, &public)
    }

    fn rsa_generate(bits: u32, exponent: u32) -> Made {
        rsa::generate(bits as usize, exponent)
    }

    fn rsa_check(private: bool, key: Bytes) -> bool {
        rsa::check(private, &key)
    }

    fn rsa_sign(scheme: RsaScheme, hash: Hash, salt: u32, key: Bytes, data: Bytes) -> Made {
        rsa::sign(scheme, hash, salt as usize, &key, &data)
    }

    fn rsa_verify(scheme: RsaScheme, hash: Hash, salt: u32, key: Bytes, signature: Bytes, data: Bytes) -> bool {
        rsa::verify(scheme, hash, salt as usize, &key, &signature, &data)
    }

    fn rsa_encrypt(hash: Hash, label: Bytes, key: Bytes, data: Bytes) -> Made {
        rsa::encrypt(hash, label, &key, &data)
    }

    fn rsa_decrypt(hash: Hash, label: Bytes, key: Bytes, data: Bytes) -> Made {
        rsa::decrypt(hash, label, &key, &data)
    }
}
