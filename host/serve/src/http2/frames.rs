//! The frames of HTTP/2, as far as they are looked at in front of hyper: where each begins, what it is, and how many a client
//! may send that make no request go on. Pure.

use std::time::Duration;

use crate::preface::PREFACE;

/// The bytes of a frame before its payload (RFC 9113, section 4.1).
const HEAD_BYTES: usize = 9;

/// The types of frames that matter here (section 6).
mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const CONTINUATION: u8 = 9;
}

/// `END_STREAM` of DATA and HEADERS; `ACK` of SETTINGS and PING.
const FLAG_FIRST: u8 = 1;
const END_HEADERS: u8 = 4;

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FrameHead {
    length: u32,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl FrameHead {
    fn read(bytes: [u8; HEAD_BYTES]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = bytes;
        let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
        Self { length: u32::from_be_bytes([0, a, b, c]), kind, flags, stream }
    }

    /// Whether it is the client's settings, and not an acknowledgement of ours.
    fn is_settings(self) -> bool {
        self.kind == kind::SETTINGS && self.flags & FLAG_FIRST == 0
    }

    /// What it costs.
    fn price(self) -> u32 {
        let is_flagged = self.flags & FLAG_FIRST != 0;
        match self.kind {
            // h2 counts small ones that nobody has read.
            kind::DATA if self.length > 0 || is_flagged => 0,
            // Each is answered, and may change all streams.
            kind::SETTINGS if !is_flagged => 8,
            _ => 1,
        }
    }
}

/// A frame that tells of the connection's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// The client's settings have come.
    Settings,
    /// Headers begin. `stream`: their stream's number.
    HeadersBegin { stream: u32 },
    /// All of the headers have come.
    HeadersEnd,
}

/// Finds the frames in the bytes that come.
#[derive(Debug, Default)]
pub(super) struct FrameWalker {
    /// Bytes of the preface that are still to come.
    preface: usize,
    /// So are the client's settings, before any other frame.
    expects_settings: bool,
    head: [u8; HEAD_BYTES],
    /// How many of them have come.
    have: usize,
    frame: Option<FrameHead>,
    /// Bytes of the payload that are still to come.
    left: usize,
    budget: Budget,
}

impl FrameWalker {
    /// Before the preface.
    pub(super) fn new() -> Self {
        Self { preface: PREFACE.len(), expects_settings: true, ..Self::default() }
    }

    /// The bytes that came next. `since`: how long the connection is open, asked for when the budget is spent.
    ///
    /// # Errors
    /// When the client has sent too many frames for what they did, or has not begun with its settings.
    pub(super) fn take(
        &mut self,
        mut bytes: &[u8],
        since: impl Fn() -> Duration,
        mut seen: impl FnMut(Seen),
    ) -> Result<(), Breach> {
        let skipped = self.preface.min(bytes.len());
        self.preface -= skipped;
        bytes = &bytes[skipped..];
        while !bytes.is_empty() {
            if self.frame.is_some() {
                let come = self.left.min(bytes.len());
                self.left -= come;
                bytes = &bytes[come..];
            } else {
                let come = (HEAD_BYTES - self.have).min(bytes.len());
                self.head[self.have..self.have + come].copy_from_slice(&bytes[..come]);
                self.have += come;
                bytes = &bytes[come..];
                if self.have == HEAD_BYTES {
                    self.have = 0;
                    let frame = FrameHead::read(self.head);
                    self.left = usize::try_from(frame.length).unwrap_or(usize::MAX);
                    self.frame = Some(frame);
                    // RFC 9113, section 3.4; h2 would take any frame.
                    if std::mem::take(&mut self.expects_settings) && !frame.is_settings() {
                        return Err(Breach::NoSettings);
                    }
                    self.budget.spend(frame, &since).map_err(Breach::Flood)?;
                    begins(frame).into_iter().for_each(&mut seen);
                }
            }
            if self.left == 0
                && let Some(frame) = self.frame.take()
            {
                ends(frame).into_iter().for_each(&mut seen);
            }
        }
        Ok(())
    }

    /// What was done for the client since: it may send more frames.
    pub(super) fn budget(&mut self) -> &mut Budget {
        &mut self.budget
    }
}

fn begins(frame: FrameHead) -> Option<Seen> {
    match frame.kind {
        kind::HEADERS => Some(Seen::HeadersBegin { stream: frame.stream }),
        _ => None,
    }
}

fn ends(frame: FrameHead) -> Option<Seen> {
    match frame.kind {
        kind::SETTINGS if frame.is_settings() => Some(Seen::Settings),
        kind::HEADERS | kind::CONTINUATION if frame.flags & END_HEADERS != 0 => Some(Seen::HeadersEnd),
        _ => None,
    }
}

/// Why a connection ends before hyper sees what came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Breach {
    Flood(Flood),
    /// The client's first frame is not its settings.
    NoSettings,
}

/// How a client floods a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flood {
    /// With frames that make no request go on.
    Frames,
    /// With requests that it gives up.
    Resets,
    /// With what h2 itself bounds.
    Library,
}

/// What a client may still send.
#[derive(Debug)]
pub(super) struct Budget {
    frames: u32,
    resets: u32,
    /// For so much of the connection's time it got more.
    counted: Duration,
}

/// Frames that do nothing, in a burst. A client that answers each piece of a response with two WINDOW_UPDATEs, and
/// measures the way with PINGs, earns them as it reads.
const FRAMES_MAX: u32 = 2_000;
/// And in a second, beyond those that are earned.
const FRAMES_A_SECOND: u32 = 50;
/// Requests that a client gives up in a burst: somebody who leaves a page gives up all that are under way, and a second
/// such page is near. (CVE-2023-44487 makes thousands in a second.)
const RESETS_MAX: u32 = 300;
/// And in a second, beyond one for each request that was answered.
const RESETS_A_SECOND: u32 = 5;
/// What an answer earns.
const FRAMES_AN_ANSWER: u32 = 8;
/// What a written piece of a response earns, beside one frame for each [`BYTES_A_FRAME`].
const FRAMES_A_PIECE: u32 = 3;
const BYTES_A_FRAME: usize = 1_024;

impl Default for Budget {
    fn default() -> Self {
        Self { frames: FRAMES_MAX, resets: RESETS_MAX, counted: Duration::ZERO }
    }
}

impl Budget {
    fn spend(&mut self, frame: FrameHead, since: impl Fn() -> Duration) -> Result<(), Flood> {
        let (frames, resets) = (frame.price(), u32::from(frame.kind == kind::RST_STREAM));
        if self.frames < frames || self.resets < resets {
            self.pass(since());
        }
        self.frames = self.frames.checked_sub(frames).ok_or(Flood::Frames)?;
        self.resets = self.resets.checked_sub(resets).ok_or(Flood::Resets)?;
        Ok(())
    }

    /// Time passes.
    fn pass(&mut self, since: Duration) {
        let passed = since.saturating_sub(self.counted);
        self.counted = since;
        let more = |a_second: u32| u32::try_from(passed.as_millis() * u128::from(a_second) / 1_000).unwrap_or(u32::MAX);
        self.earn(more(FRAMES_A_SECOND));
        self.resets = self.resets.saturating_add(more(RESETS_A_SECOND)).min(RESETS_MAX);
    }

    fn earn(&mut self, frames: u32) {
        self.frames = self.frames.saturating_add(frames).min(FRAMES_MAX);
    }

    /// A request was answered.
    pub(super) fn answered(&mut self) {
        self.earn(FRAMES_AN_ANSWER);
        self.resets = self.resets.saturating_add(1).min(RESETS_MAX);
    }

    /// A piece of a response was written.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.earn(FRAMES_A_PIECE.saturating_add(u32::try_from(bytes / BYTES_A_FRAME).unwrap_or(u32::MAX)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    fn seen_in(pieces: &[&[u8]]) -> Vec<Seen> {
        let mut walker = FrameWalker::new();
        let mut all = Vec::new();
        for piece in pieces {
            assert_eq!(walker.take(piece, || Duration::ZERO, |seen| all.push(seen)), Ok(()));
        }
        all
    }

    proptest! {
        #[test]
        fn frames_are_found_however_their_bytes_are_cut(cuts in proptest::collection::vec(0_usize..400, 0..20)) {
            let bytes = [
                PREFACE.to_vec(),
                frame(kind::SETTINGS, 0, 0, &[0; 12]),
                frame(kind::HEADERS, 0, 1, &[1; 40]),
                frame(kind::CONTINUATION, END_HEADERS, 1, &[]),
                frame(kind::DATA, FLAG_FIRST, 1, &[2; 200]),
                frame(kind::SETTINGS, FLAG_FIRST, 0, &[]),
                frame(kind::HEADERS, END_HEADERS, 0x8000_0003, &[3]),
                frame(kind::RST_STREAM, 0, 3, &[0; 4]),
                frame(7, 0, 0, &[0; 8]),
            ]
            .concat();
            let mut places: Vec<usize> = cuts.into_iter().filter(|cut| *cut < bytes.len()).collect();
            places.sort_unstable();
            let (mut pieces, mut from) = (Vec::new(), 0);
            for place in places {
                pieces.push(&bytes[from..place]);
                from = place;
            }
            pieces.push(&bytes[from..]);
            prop_assert_eq!(seen_in(&pieces), vec![
                Seen::Settings,
                Seen::HeadersBegin { stream: 1 },
                Seen::HeadersEnd,
                Seen::HeadersBegin { stream: 3 },
                Seen::HeadersEnd,
            ]);
        }
    }

    #[test]
    fn settings_come_first() {
        let first = |frame: &[u8]| {
            let mut walker = FrameWalker::new();
            walker.take(&[PREFACE, frame].concat(), || Duration::ZERO, drop)
        };
        assert_eq!(first(&frame(kind::SETTINGS, 0, 0, &[])), Ok(()));
        let acknowledged = frame(kind::SETTINGS, FLAG_FIRST, 0, &[]);
        for other in
            [acknowledged, frame(PING, 0, 0, &[0; 8]), frame(kind::HEADERS, 5, 1, &[1]), frame(0xbb, 0, 0, &[])]
        {
            assert_eq!(first(&other), Err(Breach::NoSettings), "{other:?}");
        }
    }

    /// How many of these frames are let through.
    fn let_through(bytes: &[u8], most: usize, work: impl Fn(&mut Budget)) -> (usize, Option<Flood>) {
        let mut walker = FrameWalker::default();
        for count in 0..most {
            if let Err(Breach::Flood(flood)) = walker.take(bytes, || Duration::ZERO, drop) {
                return (count, Some(flood));
            }
            work(walker.budget());
        }
        (most, None)
    }

    #[test]
    fn frames_that_do_nothing_are_bounded() {
        let idle = |_: &mut Budget| ();
        let unknown = frame(0xbb, 0, 0, &[0; 100]);
        for bytes in [&frame(PING, 0, 0, &[0; 8]), &frame(2, 0, 1, &[0; 5]), &frame(8, 0, 0, &[0; 4]), &unknown] {
            assert_eq!(let_through(bytes, 10_000, idle), (2_000, Some(Flood::Frames)));
        }
        assert_eq!(let_through(&frame(kind::SETTINGS, 0, 0, &[]), 10_000, idle), (250, Some(Flood::Frames)));
        let empty = frame(kind::DATA, 0, 1, &[]);
        assert_eq!(let_through(&empty, 10_000, idle), (2_000, Some(Flood::Frames)));
        let given_up = [frame(kind::HEADERS, END_HEADERS, 1, &[1]), frame(kind::RST_STREAM, 0, 1, &[0; 4])].concat();
        assert_eq!(let_through(&given_up, 10_000, idle), (300, Some(Flood::Resets)));
    }

    #[test]
    fn who_is_answered_may_go_on_for_ever() {
        let asked = [
            frame(kind::HEADERS, END_HEADERS, 1, &[1]),
            frame(PING, 0, 0, &[0; 8]),
            frame(8, 0, 0, &[0; 4]),
            frame(kind::RST_STREAM, 0, 1, &[0; 4]),
        ]
        .concat();
        assert_eq!(let_through(&asked, 100_000, Budget::answered), (100_000, None));
        // A client that reads one long response, and allows each piece of it to two windows.
        let allowed = [frame(8, 0, 0, &[0; 4]), frame(8, 0, 1, &[0; 4])].concat();
        assert_eq!(let_through(&allowed, 100_000, |budget| budget.wrote(100)), (100_000, None));
        // Bodies cost nothing.
        assert_eq!(let_through(&frame(kind::DATA, 0, 1, &[1]), 100_000, |_| ()), (100_000, None));
    }

    #[test]
    fn time_earns_frames_too() {
        let mut walker = FrameWalker::default();
        let ping = frame(PING, 0, 0, &[0; 8]);
        let at = |walker: &mut FrameWalker, seconds| {
            (0_u32..).find(|_| walker.take(&ping, || Duration::from_secs(seconds), drop).is_err())
        };
        // (The first ones earn the time that has passed before.)
        assert_eq!(at(&mut walker, 0), Some(2_000));
        walker = FrameWalker { budget: walker.budget, ..FrameWalker::default() };
        assert_eq!(at(&mut walker, 2), Some(100));
    }
}
