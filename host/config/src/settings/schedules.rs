//! What an `[[app.schedule]]` says.

use crate::draft::names;
use crate::schedule::{self, CatchUp, Overlap, ScheduleDraft};
use crate::shown::{self, Shown};

use super::entry::{Form, Setting, Takes, schedule};

pub(super) const SCHEDULE: &[Setting] = &[
    Setting {
        name: "schedule-cron",
        key: "cron",
        form: Form::Text("PATTERN"),
        default: None,
        help: "When the host makes the request: five fields of cron (minute, hour, day of the month, month, day of the week), or six with seconds in front (required)",
        takes: Takes::One,
        of: schedule(ScheduleDraft::cron, |schedule| Shown::Text(schedule.cron.clone())),
    },
    Setting {
        name: "schedule-timezone",
        key: "timezone",
        form: Form::Text("ZONE"),
        default: Some("UTC"),
        help: "Time zone of `cron`, by its IANA name (`Europe/Berlin`)",
        takes: Takes::One,
        of: schedule(ScheduleDraft::timezone, |schedule| Shown::Text(schedule.timezone.clone())),
    },
    Setting {
        name: "schedule-name",
        key: "name",
        form: Form::Name,
        default: None,
        help: "Name of the schedule in requests, logs and metrics: of the form of an app's name, and once in an app [default: `schedule-1` for the first of an app, and so on]",
        takes: Takes::One,
        of: schedule(ScheduleDraft::name, |schedule| Shown::Text(schedule.name.clone())),
    },
    Setting {
        name: "schedule-path",
        key: "path",
        form: Form::Text("PATH"),
        default: Some(schedule::SCHEDULE_PATH),
        help: "Path, and query, of the request (POST, without a body). An app in JavaScript that leaves it out gets the call as `scheduled`",
        takes: Takes::One,
        of: schedule(ScheduleDraft::path, |schedule| Shown::Text(schedule.path.clone())),
    },
    Setting {
        name: "schedule-overlap",
        key: "overlap",
        form: Form::Choice("WHAT", || names(Overlap::NAMES)),
        default: Some("skip"),
        help: "When a run is due and the one before has not ended: `skip` leaves it out, `queue` has one wait, `allow` runs up to 8 at once",
        takes: Takes::One,
        of: schedule(ScheduleDraft::overlap, |schedule| shown::choice(schedule.overlap, Overlap::NAMES)),
    },
    Setting {
        name: "schedule-catch-up",
        key: "catch-up",
        form: Form::Choice("WHAT", || names(CatchUp::NAMES)),
        default: Some("none"),
        help: "When times have passed unseen, since the machine was asleep, its clock was set, or (with `data-dir`) the host did not run: `none` leaves them out, `last` runs the last of them",
        takes: Takes::One,
        of: schedule(ScheduleDraft::catch_up, |schedule| shown::choice(schedule.catch_up, CatchUp::NAMES)),
    },
    Setting {
        name: "schedule-jitter",
        key: "jitter",
        form: Form::Time,
        default: Some("0s"),
        help: "Put each run off by a time between zero and this, by chance; a day at most",
        takes: Takes::One,
        of: schedule(ScheduleDraft::jitter, schedule::jitter),
    },
];
