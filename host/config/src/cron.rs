//! PURE: at which times a pattern of cron is due, in a time zone, also on days on which that zone's clocks are changed.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, FixedOffset, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use croner::parser::{CronParser, Seconds, Year};
use croner::{Cron, JobType};

/// How far a time is looked for: a pattern that is not due within it is taken for a mistake (`0 0 30 2 *`). Leap days may be
/// eight years apart.
const YEARS_MAX: i64 = 9;

/// Most changes of a zone's clocks that are walked over to find a time: more than there are in [`YEARS_MAX`].
const CHANGES_MAX: usize = 100;

/// Longest pattern.
const PATTERN_BYTES_MAX: usize = 256;

/// A pattern in a time zone. It has five fields (minute, hour, day of the month, month, day of the week), or six with
/// seconds in front, as croner documents them; `@daily` and its like are patterns, too.
///
/// Where the clocks of the zone are changed, a pattern that names one time of the day (`30 2 * * *`) is due once a day: at the
/// end of the gap if that time does not exist, and the first time if it exists twice. All other patterns follow the
/// clock on the wall: what is in the gap is left out, and what is repeated is due again.
#[derive(Debug, Clone)]
pub struct CronTimes {
    cron: Cron,
    zone: Tz,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CronMistake {
    /// With the pattern.
    Pattern(String),
    /// With the name of the time zone.
    Zone(String),
}

impl CronTimes {
    /// Of this pattern, in the time zone of this name in the IANA's database (`Europe/Berlin`).
    ///
    /// # Errors
    /// What is wrong with one of them, and what is expected.
    pub fn new(pattern: &str, zone: &str, now: SystemTime) -> Result<Self, CronMistake> {
        let zone = zone.parse().map_err(|_| {
            CronMistake::Zone("is no time zone of the IANA's database; write `UTC` or `Europe/Berlin`".to_owned())
        })?;
        let wrong = |reason: String| {
            CronMistake::Pattern(format!(
                "{reason}; write five fields (minute, hour, day of the month, month, day of the week), as in `*/5 * * * *` or `30 6 * * MON-FRI`, or six with seconds in front"
            ))
        };
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(wrong(format!("is longer than {PATTERN_BYTES_MAX} bytes")));
        }
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron = parser.parse(pattern).map_err(|error| wrong(format!("is no pattern of cron ({error})")))?;
        let times = Self { cron, zone };
        match times.next_after(now) {
            Some(_) => Ok(times),
            None => Err(wrong(format!("is never due within {YEARS_MAX} years"))),
        }
    }

    /// The first time after this one; none: there is none in the next years.
    pub fn next_after(&self, time: SystemTime) -> Option<SystemTime> {
        // Times are whole seconds.
        let time = DateTime::from_timestamp(DateTime::<Utc>::from(time).timestamp(), 0)?;
        let end = time.checked_add_signed(TimeDelta::days(366 * YEARS_MAX))?;
        let next = match self.cron.determine_job_type() {
            JobType::FixedTime => self.next_fixed(time, end),
            JobType::IntervalWildcard => self.next_by_the_clock(time, end),
        };
        next.map(SystemTime::from)
    }

    /// The next times after this one, `count` at most.
    pub fn next_some(&self, time: SystemTime, count: usize) -> Vec<SystemTime> {
        std::iter::successors(self.next_after(time), |time| self.next_after(*time)).take(count).collect()
    }

    /// The last of the times after `from` and not after `to`, and how many there are, counted up to `most`.
    pub fn last_within(&self, from: SystemTime, to: SystemTime, most: usize) -> Option<(SystemTime, usize)> {
        let (mut last, mut count) = (self.next_after(from).filter(|time| *time <= to)?, 1);
        while count < most {
            match self.next_after(last).filter(|time| *time <= to) {
                Some(time) => (last, count) = (time, count + 1),
                None => return Some((last, count)),
            }
        }
        // There may be many more: the last of them is near the end.
        for back in [60, 3_600, 86_400, 31 * 86_400, 366 * 86_400].map(Duration::from_secs) {
            let Some(near) = to.checked_sub(back).filter(|near| *near > last) else { break };
            let in_it = std::iter::successors(self.next_after(near), |time| self.next_after(*time));
            if let Some(found) = in_it.take_while(|time| *time <= to).last() {
                return Some((found, count));
            }
        }
        Some((last, count))
    }

    /// A time as clocks of the zone show it, with the difference to UTC.
    pub fn shown(&self, time: SystemTime) -> String {
        DateTime::<Utc>::from(time).with_timezone(&self.zone).format("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }

    /// The next of a pattern that names one time of the day.
    fn next_fixed(&self, time: DateTime<Utc>, end: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut from = time.with_timezone(&self.zone);
        // In a repeated hour the first search may find the time that has passed.
        for _ in 0..3 {
            let found = self.cron.find_next_occurrence(&from, false).ok()?;
            let instant = found.with_timezone(&Utc);
            if instant > time {
                return Some(instant).filter(|instant| *instant <= end);
            }
            from = found;
        }
        None
    }

    /// The next of a pattern that follows the clock on the wall: looked for by the clock as it is set now, and from where it
    /// is changed on by the clock as it is set then.
    fn next_by_the_clock(&self, time: DateTime<Utc>, end: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let (mut from, mut is_inclusive) = (time, false);
        for _ in 0..CHANGES_MAX {
            let offset = self.offset_at(from);
            let found = self.cron.find_next_occurrence(&from.with_timezone(&offset), is_inclusive).ok()?;
            let found = found.with_timezone(&Utc);
            match self.first_change(from, found.min(end)) {
                Some(change) => (from, is_inclusive) = (change, true),
                None => return Some(found).filter(|found| *found <= end),
            }
        }
        None
    }

    fn offset_at(&self, time: DateTime<Utc>) -> FixedOffset {
        self.zone.offset_from_utc_datetime(&time.naive_utc()).fix()
    }

    /// The second from which on the clocks of the zone are set otherwise than at `from`, up to and with `to`.
    fn first_change(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // Between two changes there are days.
        const STEP: i64 = 86_400;
        let is_changed = |seconds: i64| {
            DateTime::from_timestamp(seconds, 0).is_some_and(|time| self.offset_at(time) != self.offset_at(from))
        };
        let (mut before, to) = (from.timestamp(), to.timestamp());
        while before < to {
            let mut after = (before + STEP).min(to);
            if is_changed(after) {
                while after - before > 1 {
                    let middle = before + (after - before) / 2;
                    if is_changed(middle) { after = middle } else { before = middle }
                }
                return DateTime::from_timestamp(after, 0);
            }
            before = after;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SystemTime {
        DateTime::parse_from_rfc3339(text).map_or(SystemTime::UNIX_EPOCH, SystemTime::from)
    }

    fn times(pattern: &str, zone: &str) -> CronTimes {
        CronTimes::new(pattern, zone, at("2026-01-01T00:00:00Z")).expect("a pattern")
    }

    /// The next `count` times, as the zone shows them.
    fn next(pattern: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let times = times(pattern, zone);
        let is_whole = |time: &SystemTime| DateTime::<Utc>::from(*time).timestamp_subsec_nanos() == 0;
        assert!(times.next_some(at(from), count).iter().all(is_whole), "{pattern}");
        times.next_some(at(from), count).into_iter().map(|time| times.shown(time)).collect()
    }

    #[test]
    fn patterns_mean_what_cron_says() {
        for (pattern, from, expected) in [
            ("*/5 * * * *", "2026-11-29T22:31:00Z", "2026-11-29T22:35:00+00:00"),
            ("*/5 * * * *", "2026-11-29T22:35:00Z", "2026-11-29T22:40:00+00:00"),
            ("*/5 * * * *", "2026-11-29T22:34:59.999Z", "2026-11-29T22:35:00+00:00"),
            ("* * * * * *", "2026-11-29T22:35:00.001Z", "2026-11-29T22:35:01+00:00"),
            ("30 6 * * MON-FRI", "2026-11-29T22:31:00Z", "2026-11-30T06:30:00+00:00"),
            ("0 0 29 2 *", "2026-11-29T22:31:00Z", "2028-02-29T00:00:00+00:00"),
            ("0 0 L * *", "2026-11-29T22:31:00Z", "2026-11-30T00:00:00+00:00"),
            ("@daily", "2026-11-29T22:31:00Z", "2026-11-30T00:00:00+00:00"),
            ("*/10 * * * * *", "2026-11-29T22:31:05Z", "2026-11-29T22:31:10+00:00"),
            ("0 0 13 * 5", "2026-11-29T22:31:00Z", "2026-12-04T00:00:00+00:00"),
        ] {
            assert_eq!(next(pattern, "UTC", from, 1), [expected], "{pattern}");
        }
    }

    #[test]
    fn a_time_of_the_day_is_due_once_on_days_on_which_clocks_are_changed() {
        // 2026-03-29 has no 02:30 in Berlin, and 2026-10-25 has it twice.
        assert_eq!(
            next("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2),
            ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]
        );
        assert_eq!(
            next("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
            ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]
        );
        // Asked within the repeated hour.
        assert_eq!(next("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 1), ["2026-10-26T02:30:00+01:00"]);
    }

    #[test]
    fn other_patterns_follow_the_clock_on_the_wall() {
        assert_eq!(
            next("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:30:00Z", 2),
            ["2026-03-29T03:00:00+02:00", "2026-03-29T03:30:00+02:00"]
        );
        assert_eq!(
            next("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 4),
            [
                "2026-10-25T02:30:00+02:00",
                "2026-10-25T02:00:00+01:00",
                "2026-10-25T02:30:00+01:00",
                "2026-10-25T03:00:00+01:00"
            ]
        );
        let all_day = times("* * * * *", "Europe/Berlin").next_some(at("2026-10-24T22:00:00Z"), 25 * 60);
        assert!(all_day.windows(2).all(|pair| pair[0] + Duration::from_secs(60) == pair[1]));
        assert_eq!(all_day.last(), Some(&at("2026-10-25T23:00:00Z")));
        // Half an hour, at Lord Howe.
        assert_eq!(
            next("15 * * * *", "Australia/Lord_Howe", "2026-04-04T14:00:00Z", 2),
            ["2026-04-05T01:15:00+11:00", "2026-04-05T02:15:00+10:30"]
        );
    }

    #[test]
    fn wrong_patterns_and_zones_are_told() {
        for (pattern, words) in [
            ("", "no pattern"),
            ("* * * *", "no pattern"),
            ("* * * * * * 2027", "no pattern"),
            ("61 * * * *", "no pattern"),
            ("a b c d e", "no pattern"),
            ("*/0 * * * *", "no pattern"),
            ("0 0 30 2 *", "never due within 9 years"),
            (&"1,".repeat(200), "longer than 256 bytes"),
        ] {
            let wrong = CronTimes::new(pattern, "UTC", at("2026-01-01T00:00:00Z")).err();
            assert!(
                matches!(&wrong, Some(CronMistake::Pattern(reason)) if reason.contains(words)),
                "{pattern}: {wrong:?}"
            );
        }
        for zone in ["", "CEST+1", "Europe/Nowhere"] {
            let wrong = CronTimes::new("* * * * *", zone, at("2026-01-01T00:00:00Z")).err();
            assert!(matches!(wrong, Some(CronMistake::Zone(_))), "{zone}");
        }
    }

    #[test]
    fn of_times_that_were_missed_the_last_is_found() {
        let last = |pattern: &str, from: &str, to: &str| {
            times(pattern, "UTC").last_within(at(from), at(to), 100).map(|(time, count)| (time, count))
        };
        assert_eq!(last("*/5 * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:04:59Z"), None);
        assert_eq!(
            last("*/5 * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:17:00Z"),
            Some((at("2026-01-01T00:15:00Z"), 3))
        );
        assert_eq!(
            last("* * * * * *", "2026-01-01T00:00:00Z", "2026-06-01T12:00:07Z"),
            Some((at("2026-06-01T12:00:07Z"), 100))
        );
        assert_eq!(
            last("0 0 * * *", "2020-01-01T00:00:00Z", "2026-06-01T12:00:07Z"),
            Some((at("2026-06-01T00:00:00Z"), 100))
        );
    }

    proptest::proptest! {
        #[test]
        fn times_come_in_order_and_none_is_left_out(minute in 0_u64..525_600, step in 1_u32..30, zone in 0_usize..4) {
            let zone = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"][zone];
            let start = at("2026-01-01T00:00:00Z") + Duration::from_secs(60 * minute);
            let times = times(&format!("*/{step} * * * *"), zone);
            let found = times.next_some(start, 50);
            // By looking at each minute.
            let is_due = |time: &SystemTime| {
                let shown = times.shown(*time);
                shown.get(14..16).and_then(|minute| minute.parse::<u32>().ok()).is_some_and(|minute| minute % step == 0)
            };
            let minutes = (1..).map(|minutes| start + Duration::from_secs(60 * minutes));
            let expected: Vec<SystemTime> = minutes.filter(is_due).take(50).collect();
            proptest::prop_assert_eq!(found, expected);
        }
    }
}
