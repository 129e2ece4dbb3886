//! How components are compiled, and where the results are kept.

use crate::draft::{HostDraft, put, size};
use crate::{parse, shown};

use super::entry::{Form, Group, Setting, Takes, host};

pub(super) const GROUP: Group = Group {
    heading: "Compilation",
    settings: &[
        Setting {
            name: "cache-dir",
            key: "cache-dir",
            form: Form::Text("DIR"),
            default: None,
            help: "Directory of the cache for compiled components, or off [default: wasmhost in $XDG_CACHE_HOME or ~/.cache]",
            takes: Takes::One,
            of: host(HostDraft::cache_dir, |config| shown::cache(&config.compilation.cache)),
        },
        Setting {
            name: "cache-max",
            key: "cache-max",
            form: Form::Size,
            default: Some("1GiB"),
            help: "Size of the cache; entries not used for the longest time are deleted first",
            takes: Takes::One,
            of: host(
                |draft, text| put(&mut draft.config.compilation.cache_max_bytes, size(text)),
                |config| shown::size(config.compilation.cache_max_bytes),
            ),
        },
        Setting {
            name: "compile-timeout",
            key: "compile-timeout",
            form: Form::Time,
            default: Some("5m"),
            help: "Time that a compilation may take; then it is ended",
            takes: Takes::One,
            of: host(
                |draft, text| put(&mut draft.config.compilation.timeout, parse::positive_duration(text)),
                |config| shown::time(config.compilation.timeout),
            ),
        },
        Setting {
            name: "compile-memory-max",
            key: "compile-memory-max",
            form: Form::Size,
            default: Some("8GiB"),
            help: "Address space that a compilation may use; then it is ended",
            takes: Takes::One,
            of: host(
                |draft, text| put(&mut draft.config.compilation.memory_max_bytes, size(text)),
                |config| shown::size(config.compilation.memory_max_bytes),
            ),
        },
    ],
};
