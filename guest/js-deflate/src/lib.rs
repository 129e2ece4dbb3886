//! What the JavaScript runtime calls of compiled code for CompressionStream and DecompressionStream: gzip, deflate and deflate-raw.
//! `wasmhost build` puts the component beside the engine (`host/toolchain/src/build/native.rs`);
//! `guest/js-runtime/src/compression` calls it.
//!
//! It imports nothing.

#![cfg_attr(target_family = "wasm", no_std)]

extern crate alloc;

wit_bindgen::generate!({
    path: ["../js-runtime/wit/deps/compression.wit", "wit"],
    world: "wasmhost:js-deflate/native",
    generate_all,
});

use alloc::vec::Vec;

use exports::wasmhost::compression::deflate::{Format, Guest, GuestCoder};
use js_part::{Code, Damaged, Step};
use zlib_rs::{Deflate, DeflateFlush, Inflate, InflateFlush, Status};

/// That of zlib itself.
const LEVEL: i32 = 6;
const WINDOW_BITS: u8 = 15;
/// What zlib adds to them for the head and end of gzip.
const GZIP: u8 = 16;

struct Native;

export!(Native);

impl Guest for Native {
    type Coder = Coder;
}

struct Coder(js_part::Coder<Zlib>);

impl GuestCoder for Coder {
    fn new(format: Format, decompress: bool) -> Self {
        Self(js_part::Coder::new(Zlib::new(format, decompress)))
    }

    fn feed(&self, input: Vec<u8>, last: bool) {
        self.0.feed(input, last);
    }

    fn next(&self) -> Result<Vec<u8>, ()> {
        self.0.next().map_err(|Damaged| ())
    }
}

enum Zlib {
    Compress(Deflate),
    Decompress(Inflate),
}

impl Zlib {
    fn new(format: Format, decompress: bool) -> Self {
        let has_head = format != Format::DeflateRaw;
        let bits = if format == Format::Gzip { WINDOW_BITS + GZIP } else { WINDOW_BITS };
        if decompress {
            Self::Decompress(Inflate::new(has_head, bits))
        } else {
            Self::Compress(Deflate::new(LEVEL, has_head, bits))
        }
    }

    /// How many bytes have gone in and come out so far.
    fn totals(&self) -> (u64, u64) {
        match self {
            Self::Compress(deflate) => (deflate.total_in(), deflate.total_out()),
            Self::Decompress(inflate) => (inflate.total_in(), inflate.total_out()),
        }
    }
}

impl Code for Zlib {
    fn step(&mut self, input: &[u8], output: &mut [u8], last: bool) -> Result<Step, Damaged> {
        let before = self.totals();
        let status = match self {
            Self::Compress(deflate) => {
                let flush = if last { DeflateFlush::Finish } else { DeflateFlush::NoFlush };
                deflate.compress(input, output, flush).map_err(|_| Damaged)
            }
            Self::Decompress(inflate) => inflate.decompress(input, output, InflateFlush::NoFlush).map_err(|_| Damaged),
        }?;
        let after = self.totals();
        // Both are of one call, and as long as what it was given at most.
        let of_call = |before: u64, after: u64| usize::try_from(after - before).unwrap_or_default();
        Ok(Step {
            read: of_call(before.0, after.0),
            written: of_call(before.1, after.1),
            is_end: status == Status::StreamEnd,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const FORMATS: [Format; 3] = [Format::DeflateRaw, Format::Deflate, Format::Gzip];

    fn coded(format: Format, decompress: bool, input: &[u8], piece: usize) -> Result<Vec<u8>, ()> {
        let coder = Coder::new(format, decompress);
        let mut output = Vec::new();
        for piece in input.chunks(piece).map(Some).chain([None]) {
            coder.feed(piece.unwrap_or_default().to_vec(), piece.is_none());
            loop {
                let piece = coder.next()?;
                if piece.is_empty() {
                    break;
                }
                output.extend(piece);
            }
        }
        Ok(output)
    }

    #[test]
    fn what_was_compressed_comes_back_and_only_the_whole_of_it() {
        let text: Vec<u8> = (0..300_000_u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
        for format in FORMATS {
            for content in [&text[..], b"abc", b""] {
                let packed = coded(format, false, content, 10_000).expect("it is compressed");
                assert!(content.len() < 100 || packed.len() < content.len() / 2, "{}", packed.len());
                assert!(coded(format, true, &packed, 999).as_deref() == Ok(content), "{format:?}");
                for length in [0, 1, packed.len() / 2, packed.len() - 1] {
                    assert_eq!(coded(format, true, &packed[..length], 999), Err(()), "{format:?} {length}");
                }
                for piece in [1, 1_000_000] {
                    assert_eq!(coded(format, true, &[&packed[..], b"x"].concat(), piece), Err(()), "{format:?}");
                }
                // Raw data has nothing that could be compared.
                if format != Format::DeflateRaw {
                    let mut damaged = packed.clone();
                    *damaged.last_mut().expect("a byte") ^= 0x80;
                    assert_eq!(coded(format, true, &damaged, 999), Err(()), "{format:?}");
                }
            }
        }
    }

    #[test]
    fn the_head_tells_the_format() {
        let heads = FORMATS.map(|format| coded(format, false, b"abc", 9).expect("it is compressed")[0]);
        assert_eq!(heads, [0x4b, 0x78, 0x1f]);
    }

    #[test]
    fn a_small_input_gives_its_output_in_pieces() {
        let packed = coded(Format::Gzip, false, &vec![0; 10_000_000], 65_536).expect("it is compressed");
        let coder = Coder::new(Format::Gzip, true);
        coder.feed(packed, true);
        let lengths: Vec<usize> =
            core::iter::from_fn(|| coder.next().ok()).map(|piece| piece.len()).take(200).collect();
        assert!(lengths.iter().all(|&length| length <= 65_536));
        assert_eq!(lengths.iter().sum::<usize>(), 10_000_000);
    }
}
