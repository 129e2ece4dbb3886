//! What a `[[store]]` of `wasmhost.toml` says of a store that apps share. (Those that an app has for itself are bounded by its
//! `limits`.)

use crate::draft::put;
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
        of: store(|store, text| put(&mut store.name, parse::name(text)), |store| Shown::Text(store.name.clone())),
    },
    Setting {
        name: "keys-max",
        key: "keys-max",
        form: Form::Count,
        default: Some("1000000"),
        help: "Maximum number of keys. A guest that would set more gets an error",
        takes: Takes::One,
        of: store(
            |store, text| put(&mut store.limits.keys_max, keys_max(text)),
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
            |store, text| put(&mut store.limits.bytes_max, parse::size(text)),
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
            |store, text| put(&mut store.limits.value_bytes_max, value_max(text)),
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
            |store, text| put(&mut store.limits.ttl, parse::duration_or_none(text)),
            |store| shown::time_or_none(store.limits.ttl),
        ),
    },
];

#[cfg(test)]
mod tests {
    use super::super::entry::Of;
    use super::*;
    use crate::{StoreLimits, StoreSettings};

    #[test]
    fn what_holds_where_nothing_is_said_is_what_the_table_says() {
        let mut settings = StoreSettings::default();
        for setting in STORE {
            let (Of::Store(access), Some(default)) = (&setting.of, setting.default) else { continue };
            (access.set)(&mut settings, default).expect(setting.key);
        }
        assert_eq!(settings.limits, StoreLimits::default());
    }
}
