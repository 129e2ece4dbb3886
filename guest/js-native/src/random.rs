//! The host's randomness, in portions: an RSA key takes many small pieces.

use alloc::vec::Vec;
use core::convert::Infallible;

use rsa::rand_core::{TryCryptoRng, TryRng};
use wasip2::random::random::get_random_bytes;

const PORTION: u64 = 256;

/// A generator for one operation: what is left of a portion is not kept.
#[derive(Default)]
pub(crate) struct HostRng(Vec<u8>);

impl TryRng for HostRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Infallible> {
        for byte in into {
            *byte = loop {
                match self.0.pop() {
                    Some(byte) => break byte,
                    None => self.0 = get_random_bytes(PORTION),
                }
            };
        }
        Ok(())
    }
}

impl TryCryptoRng for HostRng {}
