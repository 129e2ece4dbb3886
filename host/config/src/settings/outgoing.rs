//! Bounds on what guests ask of other hosts.

use crate::draft::{COUNT_MAX, count, put};
use crate::parse;
use crate::shown;

use super::entry::{Form, Group, Setting, Takes, app};

/// As many outgoing requests as a worker has at once.
const AT_ONCE_MAX: u64 = 256;

pub(super) const GROUP: Group = Group {
    heading: "Outgoing requests",
    settings: &[
        Setting {
            name: "outgoing-connect-timeout",
            key: "limits.outgoing-connect-timeout",
            form: Form::Time,
            default: Some("10s"),
            help: "Time of an outgoing request to look up its host's name, to wait for its turn and to connect, TLS included. A guest can set less for its request, not more",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.limits.outgoing.connect_timeout, parse::positive_duration(text)),
                |app| shown::time(app.limits.outgoing.connect_timeout),
            ),
        },
        Setting {
            name: "outgoing-first-byte-timeout",
            key: "limits.outgoing-first-byte-timeout",
            form: Form::Time,
            default: Some("600s"),
            help: "Time of an upstream, from when it has the request, until its response headers. A guest can set less for its request, not more",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.limits.outgoing.first_byte_timeout, parse::positive_duration(text)),
                |app| shown::time(app.limits.outgoing.first_byte_timeout),
            ),
        },
        Setting {
            name: "outgoing-between-bytes-timeout",
            key: "limits.outgoing-between-bytes-timeout",
            form: Form::Time,
            default: Some("60s"),
            help: "Silence of an upstream while the guest waits for more of its response, or while it takes nothing of the request's body. A guest can set less for its request, not more",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.limits.outgoing.between_bytes_timeout, parse::positive_duration(text)),
                |app| shown::time(app.limits.outgoing.between_bytes_timeout),
            ),
        },
        Setting {
            name: "outgoing-host-max",
            key: "limits.outgoing-host-max",
            form: Form::Count,
            default: Some("128"),
            help: "Maximum number of outgoing requests at once to one scheme, host and port, of an app on a worker; more wait for their turn, no longer than they may take to connect. At most 256, which is what a worker has in all",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.limits.outgoing.host_max, count(text, 1, AT_ONCE_MAX)),
                |app| shown::whole(app.limits.outgoing.host_max),
            ),
        },
        Setting {
            name: "outgoing-calls-max",
            key: "limits.outgoing-calls-max",
            form: Form::Count,
            default: Some("10000"),
            help: "Maximum number of outgoing requests that the guest makes for one request of its own; more get the error connection-limit-reached (none: no limit)",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.limits.outgoing.calls_max, parse::count_or_none(text, COUNT_MAX)),
                |app| shown::count_or_none(app.limits.outgoing.calls_max),
            ),
        },
    ],
};
