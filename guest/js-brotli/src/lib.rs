//! What the JavaScript runtime calls of compiled code for the format `brotli` of CompressionStream and DecompressionStream.
//! `wasmhost build` puts the component beside the engine (`host/toolchain/src/build/native.rs`);
//! `guest/js-runtime/src/compression` calls it.
//!
//! It imports nothing.

#![cfg_attr(target_family = "wasm", no_std)]

extern crate alloc;

mod heap;

wit_bindgen::generate!({
    path: ["../js-runtime/wit/deps/compression.wit", "wit"],
    world: "wasmhost:js-brotli/native",
    generate_all,
});

use alloc::boxed::Box;
use alloc::vec::Vec;

use brotli::enc::encode::{BrotliEncoderOperation, BrotliEncoderParameter, BrotliEncoderStateStruct};
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use exports::wasmhost::compression::brotli::{Guest, GuestCoder};
use heap::Heap;
use js_part::{Code, Damaged, Step};

/// A server compresses while a client waits: higher qualities take several times as long for a few percent.
const QUALITY: u32 = 5;
/// The window of 512 KiB, and with it what a coder takes of memory.
const WINDOW_BITS: u32 = 19;

struct Native;

export!(Native);

impl Guest for Native {
    type Coder = Coder;
}

struct Coder(js_part::Coder<Brotli>);

impl GuestCoder for Coder {
    fn new(decompress: bool) -> Self {
        Self(js_part::Coder::new(Brotli::new(decompress)))
    }

    fn feed(&self, input: Vec<u8>, last: bool) {
        self.0.feed(input, last);
    }

    fn next(&self) -> Result<Vec<u8>, ()> {
        self.0.next().map_err(|Damaged| ())
    }
}

enum Brotli {
    Compress(Box<BrotliEncoderStateStruct<Heap>>),
    Decompress(Box<BrotliState<Heap, Heap, Heap>>),
}

impl Brotli {
    fn new(decompress: bool) -> Self {
        if decompress {
            let mut state = BrotliState::new(Heap, Heap, Heap);
            // Only windows of RFC 7932: the others may take a gigabyte.
            state.large_window = false;
            return Self::Decompress(Box::new(state));
        }
        let mut encoder = BrotliEncoderStateStruct::new(Heap);
        encoder.set_parameter(BrotliEncoderParameter::BROTLI_PARAM_QUALITY, QUALITY);
        encoder.set_parameter(BrotliEncoderParameter::BROTLI_PARAM_LGWIN, WINDOW_BITS);
        Self::Compress(Box::new(encoder))
    }
}

impl Code for Brotli {
    fn step(&mut self, input: &[u8], output: &mut [u8], last: bool) -> Result<Step, Damaged> {
        let (mut input_left, mut output_left) = (input.len(), output.len());
        let (mut read, mut written) = (0, 0);
        let is_end = match self {
            Self::Compress(encoder) => {
                let operation = if last {
                    BrotliEncoderOperation::BROTLI_OPERATION_FINISH
                } else {
                    BrotliEncoderOperation::BROTLI_OPERATION_PROCESS
                };
                let is_done = encoder.compress_stream(
                    operation,
                    &mut input_left,
                    input,
                    &mut read,
                    &mut output_left,
                    output,
                    &mut written,
                    &mut None,
                    &mut |_, _, _, _| (),
                );
                if !is_done {
                    return Err(Damaged);
                }
                encoder.is_finished()
            }
            Self::Decompress(state) => {
                let result = BrotliDecompressStream(
                    &mut input_left,
                    &mut read,
                    input,
                    &mut output_left,
                    &mut written,
                    output,
                    &mut 0,
                    state,
                );
                match result {
                    BrotliResult::ResultSuccess => true,
                    BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => false,
                    BrotliResult::ResultFailure => return Err(Damaged),
                }
            }
        };
        Ok(Step { read, written, is_end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coded(decompress: bool, input: &[u8], piece: usize) -> Result<Vec<u8>, ()> {
        let coder = Coder::new(decompress);
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
        for content in [&text[..], b"abc", b""] {
            let packed = coded(false, content, 10_000).expect("it is compressed");
            assert!(content.len() < 100 || packed.len() < content.len() / 2, "{}", packed.len());
            assert!(coded(true, &packed, 999).as_deref() == Ok(content));
            for length in (0..packed.len()).step_by(packed.len() / 7 + 1) {
                assert_eq!(coded(true, &packed[..length], 999), Err(()), "{length}");
            }
            for piece in [1, 1_000_000] {
                assert_eq!(coded(true, &[&packed[..], b"x"].concat(), piece), Err(()));
            }
        }
    }

    /// From the appendix of RFC 7932: an empty stream, and a window that is none of the RFC.
    #[test]
    fn what_others_made_is_read_and_no_large_window() {
        assert_eq!(coded(true, &[0x06], 9), Ok(vec![]));
        assert_eq!(coded(true, b"\x0b\x02\x80hello\x03", 9).as_deref(), Ok(&b"hello"[..]));
        assert_eq!(coded(true, &[0x11, 0x1e, 0x03], 9), Err(()));
    }
}
