//! PURE: what one holder may take of something that several share, when little of it is left.

/// The part that each of so many holders has if they share equally. (A count of `holders` below 1 is one that is being
/// changed.)
pub fn equal_part(total: u64, holders: u64) -> u64 {
    total / holders.cast_signed().max(1).cast_unsigned()
}

/// Whether `asked` more can be taken of `total`, of which `used` is in use, by a holder that has `own` already. The last
/// quarter is only for holders of no more than an equal part each, so that one cannot starve the others.
pub fn may_take(total: u64, used: u64, asked: u64, own: u64, holders: u64) -> bool {
    lacking(total, used, asked, own, holders) == 0
}

/// How much of what is in use has to be given back before [`may_take`] allows the same.
pub fn lacking(total: u64, used: u64, asked: u64, own: u64, holders: u64) -> u64 {
    let is_modest = own.saturating_add(asked) <= equal_part(total, holders);
    let allowed = if is_modest { total } else { total - total / 4 };
    u64::try_from((u128::from(used) + u128::from(asked)).saturating_sub(allowed.into())).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_holder_may_take_all_and_no_more() {
        assert!(may_take(100, 99, 1, 99, 1));
        assert!(!may_take(100, 99, 2, 99, 1));
        assert!(!may_take(100, 1, u64::MAX, 1, 1));
        assert!(may_take(100, 99, 1, 99, 0) && may_take(100, 99, 1, 99, u64::MAX), "a count that is being changed");
    }

    #[test]
    fn the_last_quarter_is_for_those_with_an_equal_part_at_most() {
        assert!(may_take(100, 74, 1, 74, 2), "as much as it likes of the first three quarters");
        assert!(!may_take(100, 75, 1, 75, 2));
        assert!(may_take(100, 75, 25, 0, 2), "the other may have the rest");
        assert!(may_take(100, 90, 10, 40, 2) && !may_take(100, 90, 10, 41, 2));
    }

    #[test]
    fn what_is_lacking_is_what_others_have_to_give_back() {
        assert_eq!(lacking(100, 74, 1, 74, 2), 0);
        assert_eq!(lacking(100, 80, 10, 80, 2), 15, "beyond an equal part, of three quarters");
        assert_eq!(lacking(100, 95, 10, 20, 2), 5, "within it, of all");
        assert_eq!(lacking(100, 1, u64::MAX, 1, 1), u64::MAX - 74);
        assert_eq!((equal_part(100, 4), equal_part(100, 0), equal_part(100, u64::MAX)), (25, 100, 100));
    }

    proptest! {
        #[test]
        fn no_more_is_taken_than_there_is(
            total in 0..1_000_u64, used in 0..2_000_u64, asked in 1..2_000_u64, own in 0..2_000_u64, holders in 0..9_u64,
        ) {
            prop_assert!(!may_take(total, used, asked, own, holders) || used + asked <= total);
        }

        #[test]
        fn whatever_one_takes_another_finds_a_quarter_of_it(total in 4..1_000_u64, pieces in prop::collection::vec(1..50_u64, 0..200)) {
            let mut own = 0;
            for piece in pieces {
                if may_take(total, own, piece, own, 2) {
                    own += piece;
                }
            }
            prop_assert!(may_take(total, own, total / 4, 0, 2));
        }
    }
}
