//! Input and output of a coder, piece by piece.

use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

/// What `next` gives at most.
const PIECE_BYTES: usize = 65_536;

/// What one step has used of the input and made of the output.
#[derive(Default)]
pub struct Step {
    pub read: usize,
    pub written: usize,
    /// All is done: no more output comes, and no more input may come.
    pub is_end: bool,
}

/// The input is damaged, breaks off, or goes on behind its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

/// An algorithm.
pub trait Code {
    /// Goes on as far as both go; `last` tells that no input comes behind this.
    ///
    /// # Errors
    /// When the input is damaged.
    fn step(&mut self, input: &[u8], output: &mut [u8], last: bool) -> Result<Step, Damaged>;
}

/// An algorithm with the input that it has not used yet.
pub struct Coder<C>(RefCell<State<C>>);

struct State<C> {
    code: C,
    input: Vec<u8>,
    used: usize,
    is_last: bool,
    is_end: bool,
}

impl<C: Code> Coder<C> {
    pub fn new(code: C) -> Self {
        Self(RefCell::new(State { code, input: Vec::new(), used: 0, is_last: false, is_end: false }))
    }

    /// Takes input, after all of the last was used.
    pub fn feed(&self, input: Vec<u8>, last: bool) {
        let mut state = self.0.borrow_mut();
        state.input = input;
        state.used = 0;
        state.is_last = last;
    }

    /// The next piece of output; an empty one when there is none without further input, or all is done.
    ///
    /// # Errors
    /// When the input is damaged, breaks off, or goes on behind its end.
    pub fn next(&self) -> Result<Vec<u8>, Damaged> {
        self.0.borrow_mut().next()
    }
}

impl<C: Code> State<C> {
    fn next(&mut self) -> Result<Vec<u8>, Damaged> {
        let mut output = vec![0; PIECE_BYTES];
        while !self.is_end {
            let rest = self.input.get(self.used..).unwrap_or_default();
            let step = self.code.step(rest, &mut output, self.is_last)?;
            self.used += step.read;
            self.is_end = step.is_end;
            if step.written > 0 {
                output.truncate(step.written);
                return Ok(output);
            }
            if !self.is_end && step.read == 0 {
                // It waits for input. There must be none left, and some to come.
                return if self.is_last || step.read < rest.len() { Err(Damaged) } else { Ok(Vec::new()) };
            }
        }
        if self.used < self.input.len() { Err(Damaged) } else { Ok(Vec::new()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says each byte as often as it tells, until a zero; 255 is damage.
    struct Repeat(u8);

    impl Code for Repeat {
        fn step(&mut self, input: &[u8], output: &mut [u8], _: bool) -> Result<Step, Damaged> {
            let mut step = Step::default();
            while step.written < output.len() {
                if self.0 == 0 {
                    match input.get(step.read) {
                        None => break,
                        Some(255) => return Err(Damaged),
                        Some(&times) => self.0 = times,
                    }
                    step.read += 1;
                    if self.0 == 0 {
                        step.is_end = true;
                        break;
                    }
                }
                output[step.written] = b'x';
                step.written += 1;
                self.0 -= 1;
            }
            Ok(step)
        }
    }

    fn all(coder: &Coder<Repeat>) -> Result<usize, Damaged> {
        let mut length = 0;
        loop {
            match coder.next()?.len() {
                0 => return Ok(length),
                piece => {
                    assert!(piece <= PIECE_BYTES);
                    length += piece;
                }
            }
        }
    }

    #[test]
    fn output_comes_in_pieces_and_the_end_is_where_the_input_ends() {
        let coder = Coder::new(Repeat(0));
        coder.feed(vec![200; 1_000], false);
        assert_eq!(all(&coder), Ok(200_000));
        coder.feed(vec![], false);
        assert_eq!(all(&coder), Ok(0));
        coder.feed(vec![3, 0], false);
        assert_eq!(all(&coder), Ok(3));
        coder.feed(vec![], true);
        assert_eq!(all(&coder), Ok(0));
    }

    #[test]
    fn input_that_is_damaged_or_breaks_off_or_goes_on_behind_the_end_is_an_error() {
        for (input, last) in [(vec![3, 255], false), (vec![3], true), (vec![], true), (vec![3, 0, 1], false)] {
            let coder = Coder::new(Repeat(0));
            coder.feed(input.clone(), last);
            assert_eq!(all(&coder), Err(Damaged), "{input:?}");
        }
        let coder = Coder::new(Repeat(0));
        coder.feed(vec![0], false);
        assert_eq!(all(&coder), Ok(0));
        coder.feed(vec![1], false);
        assert_eq!(all(&coder), Err(Damaged));
    }
}
