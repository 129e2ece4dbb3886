//! What a `[[store]]` of `wasmhost.toml` says of a store that apps share. (Those that an app has for itself are bounded by its
//! `limits`.)

use crate::draft::{StoreDraft, put};
use crate::parse;
use crate::shown::{self, Shown};
use crate::stores::{keys_max, value_max};

use super::entry::{Form, Setting, Takes, store};

pub(super) const STORE: &[Setting] = &[
    Setting {
        name: "name",
        key: "name",
        form: Form::Name,
        default: None,
        help: "Name of the store, as apps write it behind `=` in `stores`: 1 to 63 letters, digits, `-`, `_` and `.` (required)",
        takes: Takes::One,
        of: store(
            |draft, text| put(&mut draft.settings.name, parse::name(text)),
            |store| Shown::Text(store.name.clone()),
        ),
    },
    Setting {
        name: "keys-max",
        key: "keys-max",
        form: Form::Count,
        default: Some("1000000"),
        help: "Maximum number of keys. A guest that would set more gets an error",
        takes: Takes::One,
        of: store(
            |draft, text| put(&mut draft.settings.limits.keys_max, keys_max(text)),
            |store| shown::count(store.limits.keys_max),
        ),
    },
    Setting {
        name: "bytes-max",
        key: "bytes-max",
        form: Form::Size,
        default: Some("1GiB"),
        help: "Maximum size of all keys and values together; what the file needs beside them does not count",
        takes: Takes::One,
        of: store(
            |draft, text| put(&mut draft.settings.limits.bytes_max, parse::size(text)),
            |store| shown::size(store.limits.bytes_max),
        ),
    },
    Setting {
        name: "value-max",
        key: "value-max",
        form: Form::Size,
        default: Some("4MiB"),
        help: "Maximum size of a value, 4MiB at most",
        takes: Takes::One,
        of: store(
            |draft, text| put(&mut draft.settings.limits.value_bytes_max, value_max(text)),
            |store| shown::size(store.limits.value_bytes_max),
        ),
    },
    Setting {
        name: "ttl",
        key: "ttl",
        form: Form::Time,
        default: Some("none"),
        help: "Time after which a key is deleted that was not set again (none: never)",
        takes: Takes::One,
        of: store(
            |draft, text| put(&mut draft.settings.limits.ttl, parse::duration_or_none(text)),
            |store| shown::time_or_none(store.limits.ttl),
        ),
    },
    Setting {
        name: "backend",
        key: "backend",
        form: Form::Text("URL"),
        default: None,
        help: "Server of Redis or Valkey that has the store, for hosts on several machines: redis://[USER@]HOST[:PORT][/DATABASE], rediss:// with TLS. What it promises: docs/STORAGE.md [default: the host's own file]",
        takes: Takes::One,
        of: store(StoreDraft::backend, |store| {
            store.server.address.as_ref().map_or(Shown::Nothing, |address| Shown::Text(address.to_string()))
        }),
    },
    Setting {
        name: "password",
        key: "password",
        form: Form::Text("SOURCE"),
        default: None,
        help: "Where the server's password stands: file:PATH, credential:NAME (of systemd) or env:NAME. Read once, at the start",
        takes: Takes::One,
        of: store(StoreDraft::password, |store| {
            store.server.password_source.clone().map_or(Shown::Nothing, Shown::Text)
        }),
    },
    Setting {
        name: "ca-file",
        key: "ca-file",
        form: Form::Text("FILE"),
        default: None,
        help: "Root certificates (PEM) that the server's certificate is checked with, instead of Mozilla's. Read once, at the start",
        takes: Takes::One,
        of: store(StoreDraft::ca_file, |store| shown::path(&store.server.ca_file)),
    },
];

#[cfg(test)]
mod tests {
    use super::super::entry::Of;
    use super::*;
    use crate::StoreLimits;
    use crate::environment::HostEnvironment;

    #[test]
    fn what_holds_where_nothing_is_said_is_what_the_table_says() {
        let mut draft = StoreDraft::new(HostEnvironment::NONE);
        for setting in STORE {
            let (Of::Store(access), Some(default)) = (&setting.of, setting.default) else { continue };
            (access.set)(&mut draft, default).expect(setting.key);
        }
        assert_eq!(draft.settings.limits, StoreLimits::default());
    }
}
