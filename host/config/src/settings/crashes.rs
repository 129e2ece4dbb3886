//! What a host leaves about faults of guests.

use crate::crash_settings::field_name;
use crate::draft::{count, put};
use crate::parse;
use crate::shown::{self, Shown};

use super::entry::{Form, Group, Setting, Takes, host, host_list};

/// Most bundles that a directory may have: it is read for each new one.
const BUNDLES_MAX: u64 = 10_000;
/// Smallest and largest bound on a bundle, in bytes: below the one, nothing useful is left of it.
const BUNDLE_BYTES: [u64; 2] = [4 << 10, 4 << 20];

fn bundle_size(text: &str) -> Result<u64, String> {
    let [min, max] = BUNDLE_BYTES;
    match parse::size(text)? {
        size if (min..=max).contains(&size) => Ok(size),
        _ => Err("must be from 4KiB to 4MiB".to_owned()),
    }
}

pub(super) const GROUP: Group = Group {
    heading: "Crash bundles",
    settings: &[
        Setting {
            name: "crash-dir",
            key: "crash-dir",
            form: Form::Text("DIR"),
            default: None,
            help: "Leave a bundle about a fault of a guest (a trap, a limit that was met) in this directory, for `wasmhost replay`: the head of the request without secrets, the limits, the stack, and the end of the guest's output. It is made with mode 0700, and refused if others can read or write it. docs/OPERATIONS.md says what is in a bundle, and how many are written",
            takes: Takes::One,
            of: host(
                |draft, text| put(&mut draft.config.crashes.dir, draft.folder.path(text).map(Some)),
                |config| config.crashes.dir.as_deref().map_or(Shown::Nothing, shown::path),
            ),
        },
        Setting {
            name: "crash-max",
            key: "crash-max",
            form: Form::Count,
            default: Some("64"),
            help: "Maximum number of bundles; the app that has the most of them loses its oldest for a new one",
            takes: Takes::One,
            of: host(
                |draft, text| put(&mut draft.config.crashes.bundles_max, count(text, 1, BUNDLES_MAX)),
                |config| shown::whole(config.crashes.bundles_max),
            ),
        },
        Setting {
            name: "crash-size",
            key: "crash-size",
            form: Form::Size,
            default: Some("64KiB"),
            help: "Maximum size of a bundle, from 4KiB to 4MiB; of a larger one, the beginning of the output, deep frames of the stack and long header values are left out",
            takes: Takes::One,
            of: host(
                |draft, text| put(&mut draft.config.crashes.bundle_max_bytes, bundle_size(text)),
                |config| shown::size(config.crashes.bundle_max_bytes),
            ),
        },
        Setting {
            name: "crash-hide",
            key: "crash-hide",
            form: Form::Text("HEADER"),
            default: None,
            help: "Request headers whose values no bundle has, besides those that sound like a secret (Authorization, Cookie, names with `auth`, `token`, `key`, `secret`, `session` and the like)",
            takes: Takes::Commas,
            of: host_list(
                |draft| draft.config.crashes.hidden_fields.clear(),
                |draft, text| field_name(text).map(|name| draft.config.crashes.hidden_fields.push(name)),
                |config| shown::list(config.crashes.hidden_fields.iter().cloned()),
            ),
        },
        Setting {
            name: "crash-query",
            key: "crash-query",
            form: Form::Switch,
            default: None,
            help: "Write the values of queries (`?name=value`) into bundles; without it only their names, since values may be secrets",
            takes: Takes::One,
            of: host(
                |draft, text| put(&mut draft.config.crashes.with_query, parse::switch(text)),
                |config| Shown::Switch(config.crashes.with_query),
            ),
        },
    ],
};
