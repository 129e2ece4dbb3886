//! The format gzip (RFC 1952), piece by piece.

use bytes::Bytes;
use flate2::{CompressError, Compression, Crc, FlushCompress, Status};

/// Of 1 to 9. Texts take a third of the time of 6 with it, and stay 3 % longer.
const LEVEL: u32 = 4;

/// What one takes in memory, most of it for what it remembers of the last 32 KiB.
pub(super) const GZIP_BYTES: usize = 320 * 1024;

/// Without a name, a time or a system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// One body on its way into the format.
pub(crate) struct Gzip {
    deflate: flate2::Compress,
    sum: Crc,
    has_begun: bool,
}

impl Gzip {
    pub(super) fn new() -> Self {
        Self { deflate: flate2::Compress::new(Compression::new(LEVEL), false), sum: Crc::new(), has_begun: false }
    }

    /// Begins another body.
    pub(super) fn reset(&mut self) {
        self.deflate.reset();
        self.sum.reset();
        self.has_begun = false;
    }

    /// From these bytes of the body to those that a client can make them of at once.
    pub(super) fn piece(&mut self, bytes: &[u8]) -> Result<Bytes, CompressError> {
        self.run(bytes, FlushCompress::Sync).map(Bytes::from)
    }

    /// The same of the last bytes, with the end.
    pub(super) fn end(&mut self, bytes: &[u8]) -> Result<Bytes, CompressError> {
        let mut out = self.run(bytes, FlushCompress::Finish)?;
        out.extend_from_slice(&self.sum.sum().to_le_bytes());
        out.extend_from_slice(&self.sum.amount().to_le_bytes());
        Ok(out.into())
    }

    fn run(&mut self, bytes: &[u8], flush: FlushCompress) -> Result<Vec<u8>, CompressError> {
        let mut out = Vec::with_capacity(bytes.len() / 2 + 64);
        if !std::mem::replace(&mut self.has_begun, true) {
            out.extend_from_slice(&HEADER);
        }
        self.sum.update(bytes);
        let before = self.deflate.total_in();
        loop {
            let taken = usize::try_from(self.deflate.total_in() - before).unwrap_or(usize::MAX);
            let left = bytes.get(taken..).unwrap_or_default();
            let status = self.deflate.compress_vec(left, &mut out, flush)?;
            // Where no room is left there may be more.
            if status == Status::StreamEnd || (flush != FlushCompress::Finish && out.len() < out.capacity()) {
                // It may wait for its client, among many that are as short.
                out.shrink_to_fit();
                return Ok(out);
            }
            out.reserve(out.len().max(64));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 1_u64;
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(bytes)
        .collect()
    }

    #[test]
    fn a_short_piece_takes_little_memory() {
        let mut gzip = Gzip::new();
        for flush in [FlushCompress::Sync, FlushCompress::Finish] {
            let made = gzip.run(&[0; 64 * 1024], flush).expect("compressed");
            assert!(made.len() < 1_000 && made.capacity() < 2_000, "{} of {}", made.len(), made.capacity());
        }
    }

    #[test]
    fn each_piece_can_be_read_before_the_next_and_the_whole_has_an_end() {
        let mut gzip = Gzip::new();
        for pieces in [
            vec![b"Hello, ".to_vec(), b"World!".to_vec()],
            vec![vec![b'a'; 100_000], noise(100_000), noise(1), Vec::new()],
            vec![noise(64 * 1024); 5],
            vec![Vec::new()],
        ] {
            gzip.reset();
            let (mut sent, mut given) = (Vec::new(), Vec::new());
            for piece in &pieces {
                sent.extend_from_slice(&gzip.piece(piece).expect("compressed"));
                given.extend_from_slice(piece);
                let mut got = vec![0; given.len()];
                flate2::read::GzDecoder::new(&sent[..]).read_exact(&mut got).expect("all that was given");
                assert!(got == given);
                // It has no end yet.
                assert!(flate2::read::GzDecoder::new(&sent[..]).read_to_end(&mut Vec::new()).is_err());
            }
            sent.extend_from_slice(&gzip.end(b"end").expect("compressed"));
            given.extend_from_slice(b"end");
            let mut got = Vec::new();
            flate2::read::GzDecoder::new(&sent[..]).read_to_end(&mut got).expect("a whole body");
            assert!(got == given);
        }
    }
}
