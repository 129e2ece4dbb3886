//! What is asked of a new revision of an app.

use crate::draft::{count, put};
use crate::parse;
use crate::request_key::RequestKey;
use crate::revisions::{REVISIONS_KEPT_MAX, canary_share, percent, probe_body, probe_path, probe_status};
use crate::shown::{self, Shown};

use super::entry::{Form, Group, Setting, Takes, app, host};

pub(super) const GROUP: Group = Group {
    heading: "Reloads",
    settings: &[
        Setting {
            name: "probe",
            key: "probe",
            form: Form::Text("PATH"),
            default: Some("none"),
            help: "Path, and query, of a GET request that each new revision of the app has to answer, at the start and at a reload, before it gets requests of clients (none: it is only tried whether an instance starts). It has the host name probe.wasmhost.internal",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.probe.path, probe_path(text)),
                |app| Shown::Text(app.probe.path.clone().unwrap_or_else(|| "none".to_owned())),
            ),
        },
        Setting {
            name: "probe-status",
            key: "probe-status",
            form: Form::Text("STATUS"),
            default: Some("200-399"),
            help: "Status that the answer to the probe must have: one, or the first and the last of some",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.probe.status, probe_status(text)),
                |app| Shown::Text(app.probe.statuses()),
            ),
        },
        Setting {
            name: "probe-body",
            key: "probe-body",
            form: Form::Text("TEXT"),
            default: None,
            help: "Text that must occur in the first 1MiB of the answer to the probe",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.probe.body, probe_body(text)),
                |app| match &*app.probe.body {
                    "" => Shown::Nothing,
                    text => Shown::Text(text.to_owned()),
                },
            ),
        },
        Setting {
            name: "probe-timeout",
            key: "probe-timeout",
            form: Form::Time,
            default: Some("5s"),
            help: "Time for the whole answer to the probe",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.probe.timeout, parse::positive_duration(text)),
                |app| shown::time(app.probe.timeout),
            ),
        },
        Setting {
            name: "revisions-kept",
            key: "revisions-kept",
            form: Form::Count,
            default: Some("3"),
            help: "Earlier revisions of the app that are kept, for `wasmhost rollback` and --rollback-window, 100 at most (0: none). Their code stays in the cache; without a cache, it stays in memory",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.rollback.kept, count(text, 0, REVISIONS_KEPT_MAX)),
                |app| shown::whole(app.rollback.kept),
            ),
        },
        Setting {
            name: "rollback-window",
            key: "rollback-window",
            form: Form::Time,
            default: Some("30s"),
            help: "For so long after a reload, the requests of the new revision are compared with those of the one before. If too many of them fail (a status from 500 on, an answer that is broken off, a fault), the host goes back to the one before, once (none: they are not compared)",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.rollback.window, parse::duration_or_none(text)),
                |app| shown::time_or_none(app.rollback.window),
            ),
        },
        Setting {
            name: "rollback-threshold",
            key: "rollback-threshold",
            form: Form::Text("PERCENT"),
            default: Some("10%"),
            help: "By so many percent points more requests of a new revision may fail than of the one before; with more, and 5 failures at least, the host goes back",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.rollback.threshold_percent, percent(text)),
                |app| Shown::Text(format!("{}%", app.rollback.threshold_percent)),
            ),
        },
        Setting {
            name: "canary",
            key: "canary",
            form: Form::Text("PERCENT"),
            default: Some("none"),
            help: "After a reload that changes the component alone, give the new revision this share of requests first, 1% to 99%, beside the one before, which gets the others (none: all at once). If it fares worse (--rollback-threshold), all go back to the one before",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.canary.share_percent, canary_share(text)),
                |app| {
                    let share = app.canary.share_percent;
                    Shown::Text(share.map_or_else(|| "none".to_owned(), |share| format!("{share}%")))
                },
            ),
        },
        Setting {
            name: "canary-time",
            key: "canary-time",
            form: Form::Time,
            default: Some("60s"),
            help: "Time after which a revision that has held as a canary gets all requests (none: when `wasmhost promote` says so)",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.canary.time, parse::duration_or_none(text)),
                |app| shown::time_or_none(app.canary.time),
            ),
        },
        Setting {
            name: "canary-by",
            key: "canary-by",
            form: Form::Text("WHAT"),
            default: Some("connection"),
            help: "What decides which requests go to a canary: connection (all requests of a connection go to the same revision), header:NAME or cookie:NAME (all requests with the same value of it do; those without it go by their connection)",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.canary.by, RequestKey::parse(text, "connection")),
                |app| Shown::Text(RequestKey::shown(app.canary.by.as_ref(), "connection")),
            ),
        },
        Setting {
            name: "watch",
            key: "watch",
            form: Form::Switch,
            default: None,
            help: "Reload when the file of a component, or wasmhost.toml, has changed on the disk. Files are looked at every half second, and a change counts when they rest; files that wasmhost.toml names are not watched, but for components",
            takes: Takes::One,
            of: host(
                |draft, text| put(&mut draft.config.watch, parse::switch(text)),
                |config| Shown::Switch(config.watch),
            ),
        },
    ],
};
