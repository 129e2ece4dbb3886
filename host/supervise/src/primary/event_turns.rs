//! PURE: how many events of workers the primary handles before it looks at anything else. A worker process that was broken
//! into may send messages without an end; connections, reloads and other workers' ends must not wait for that.

/// Events that are handled in a row at most.
const IN_A_ROW_MAX: u32 = 64;

/// Turns of the primary's loop.
#[derive(Debug, Default)]
pub(super) struct EventTurns {
    in_a_row: u32,
    /// The last turn was an event's.
    was_event: bool,
}

impl EventTurns {
    /// A turn begins. Whether an event may be handled in it; else everything else goes first, and if there is nothing, the turn
    /// ends at once.
    pub(super) fn begin(&mut self) -> bool {
        if !std::mem::take(&mut self.was_event) {
            self.in_a_row = 0;
        }
        self.in_a_row < IN_A_ROW_MAX
    }

    /// An event is handled in this turn.
    pub(super) fn heard(&mut self) {
        (self.in_a_row, self.was_event) = (self.in_a_row + 1, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_sends_events_without_an_end_leaves_turns_to_everything_else() {
        let mut turns = EventTurns::default();
        let mut heard = 0;
        for _ in 0..10 * (IN_A_ROW_MAX + 1) {
            if turns.begin() {
                turns.heard();
                heard += 1;
            }
        }
        assert_eq!(heard, 10 * IN_A_ROW_MAX, "one turn of each row is for the others");
        // Where others have their turns anyway, none is left out.
        for _ in 0..10 * IN_A_ROW_MAX {
            assert!(turns.begin());
            turns.heard();
            assert!(turns.begin());
        }
    }
}
