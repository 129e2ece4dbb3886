//! What is asked of a new revision of an app.

use crate::draft::put;
use crate::revisions::{probe_body, probe_path, probe_status};
use crate::shown::{self, Shown};
use crate::parse;

use super::entry::{Form, Group, Setting, Takes, app};

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
            help: "Status that the answer to --probe must have: one, or the first and the last of some",
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
            help: "Text that must occur in the first 1MiB of the answer to --probe",
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
            help: "Time for the whole answer to --probe",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.probe.timeout, parse::positive_duration(text)),
                |app| shown::time(app.probe.timeout),
            ),
        },
    ],
};
