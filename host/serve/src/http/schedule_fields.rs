//! The fields that tell a guest that its request is a schedule's, which no client can set. Pure.

use http::HeaderName;

/// How the names of all fields begin that tell a guest of its schedule. No client's request has one behind the host.
const PREFIX: &str = "x-wasmhost-schedule";
/// The name of the schedule.
pub(super) const NAME: HeaderName = HeaderName::from_static(PREFIX);
/// Its pattern, as it is written.
pub(super) const CRON: HeaderName = HeaderName::from_static("x-wasmhost-schedule-cron");
/// The time at which it was due, in milliseconds since 1970.
pub(super) const TIME: HeaderName = HeaderName::from_static("x-wasmhost-schedule-time");
/// What the worker says of a failure of its own. No guest's response has it.
pub(super) const OUTCOME: HeaderName = HeaderName::from_static("x-wasmhost-schedule-outcome");

/// Whether only a schedule may say this.
pub(super) fn is_of_schedule(name: &HeaderName) -> bool {
    name.as_str().starts_with(PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_known_by_their_beginning() {
        assert!([NAME, CRON, TIME, OUTCOME].iter().all(is_of_schedule));
        assert!(!is_of_schedule(&HeaderName::from_static("x-wasmhost-client")));
    }
}
