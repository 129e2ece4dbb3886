//! Bounds on guests, clients and all apps together.

use crate::draft::{COUNT_MAX, REQUESTS_MAX, count, put, size, size_or_none};
use crate::parse;
use crate::shown::{self, Shown};
use crate::stores::{database_max, keys_max, value_max};

use super::entry::{Form, Group, Setting, Takes, app, host};

/// Below, ordinary requests with cookies fail.
const HEADER_MAX_RANGE: std::ops::RangeInclusive<u64> = 8 * 1024..=1024 * 1024;
/// The windows of so many streams are far from what a window can be (RFC 9113, section 6.9.1).
const HTTP2_STREAMS_MAX: u64 = 4_096;

pub(super) const GROUP: Group = Group {
    heading: "Limits",
    settings: &[
        Setting {
            name: "memory-max",
            key: "limits.memory",
            form: Form::Size,
            default: Some("128MiB"),
            help: "Memory of one instance (all memories and tables together). More growth is refused, and the instance is replaced",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.limits.memory_max_bytes, size(text)),
                |app| shown::size(app.limits.memory_max_bytes),
            ),
        },
        Setting {
            name: "app-memory-max",
            key: "limits.app-memory",
            form: Form::Size,
            default: Some("none"),
            help: "Memory of all instances of one app (none: --memory-total; the last quarter of that is for apps that use less than an equal part). More growth is refused, and requests that need an instance get 503",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.limits.app_memory_max_bytes, size_or_none(text)),
                |app| shown::size_or_none(app.limits.app_memory_max_bytes),
            ),
        },
        Setting {
            name: "memory-total",
            key: "memory-total",
            form: Form::Size,
            default: None,
            help: "Memory of all instances, and of the host's heap above 64MiB per process. Then growth is refused, and requests that need an instance get 503 [default: 75 % of the smaller of RAM and cgroup limit]",
            takes: Takes::One,
            of: host(
                |draft, text| put(&mut draft.config.limits.memory_total_bytes, size(text)),
                |config| shown::size(config.limits.memory_total_bytes),
            ),
        },
        Setting {
            name: "cpu-limit",
            key: "limits.cpu",
            form: Form::Time,
            default: Some("5s"),
            help: "CPU time of a request in the guest, including its bodies; then it gets 500, or is broken off if the response headers were sent",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.limits.cpu_limit, parse::positive_duration(text)),
                |app| shown::time(app.limits.cpu_limit),
            ),
        },
        Setting {
            name: "request-timeout",
            key: "limits.request-timeout",
            form: Form::Time,
            default: Some("30s"),
            help: "Time of the guest until the response headers; then the request gets 504. The client has as much time to send the request's body; then it gets 408 (none: no limit)",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.limits.request_timeout, parse::duration_or_none(text)),
                |app| shown::time_or_none(app.limits.request_timeout),
            ),
        },
        Setting {
            name: "body-idle-timeout",
            key: "limits.body-idle-timeout",
            form: Form::Time,
            default: Some("60s"),
            help: "Silence within a request or response body, after which the transfer is broken off (408 before the response headers; none: no limit)",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.limits.body_idle_timeout, parse::duration_or_none(text)),
                |app| shown::time_or_none(app.limits.body_idle_timeout),
            ),
        },
        Setting {
            name: "body-rate-min",
            key: "body-rate-min",
            form: Form::Size,
            default: Some("500B"),
            help: "Minimum rate, in bytes per second, of a client that sends a request body or reads a response, after the host has waited for it for 10s. A slower client gets 408, or its response is broken off (none: no limit). Does not apply to a chunked request body once the response has begun",
            takes: Takes::One,
            of: host(
                |draft, text| put(&mut draft.config.limits.body_rate_min, size_or_none(text)),
                |config| shown::size_or_none(config.limits.body_rate_min),
            ),
        },
        Setting {
            name: "response-timeout",
            key: "limits.response-timeout",
            form: Form::Time,
            default: Some("none"),
            help: "Time until the end of the response; then it is broken off (none: no limit)",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.limits.response_timeout, parse::duration_or_none(text)),
                |app| shown::time_or_none(app.limits.response_timeout),
            ),
        },
        Setting {
            name: "header-timeout",
            key: "header-timeout",
            form: Form::Time,
            default: Some("10s"),
            help: "Time for the request headers to arrive; then the client gets 408",
            takes: Takes::One,
            of: host(
                |draft, text| put(&mut draft.config.limits.header_timeout, parse::positive_duration(text)),
                |config| shown::time(config.limits.header_timeout),
            ),
        },
        Setting {
            name: "keepalive-timeout",
            key: "keepalive-timeout",
            form: Form::Time,
            default: Some("60s"),
            help: "Idle time of a connection between requests; then it is closed",
            takes: Takes::One,
            of: host(
                |draft, text| put(&mut draft.config.limits.keepalive_timeout, parse::positive_duration(text)),
                |config| shown::time(config.limits.keepalive_timeout),
            ),
        },
        Setting {
            name: "header-max",
            key: "header-max",
            form: Form::Size,
            default: Some("64KiB"),
            help: "Size of the request line and headers; larger ones get 431 (414 for the request line). From 8KiB to 1MiB",
            takes: Takes::One,
            of: host(
                |draft, text| {
                    let size = parse::size(text)?;
                    if !HEADER_MAX_RANGE.contains(&size) {
                        return Err("must be from 8KiB to 1MiB".to_owned());
                    }
                    draft.config.limits.header_max_bytes = usize::try_from(size).unwrap_or(usize::MAX);
                    Ok(())
                },
                |config| shown::size(config.limits.header_max_bytes as u64),
            ),
        },
        Setting {
            name: "body-max",
            key: "limits.body",
            form: Form::Size,
            default: Some("100MiB"),
            help: "Size of a request body; larger ones get 413, or are broken off if the response headers were sent (none: no limit)",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.limits.body_max_bytes, size_or_none(text)),
                |app| shown::size_or_none(app.limits.body_max_bytes),
            ),
        },
        Setting {
            name: "store-keys-max",
            key: "limits.store-keys",
            form: Form::Count,
            default: Some("1000000"),
            help: "Maximum number of keys in each store of the app's own (--store). A guest that would set more gets an error",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.limits.stores.keys_max, keys_max(text)),
                |app| shown::count(app.limits.stores.keys_max),
            ),
        },
        Setting {
            name: "store-bytes-max",
            key: "limits.store-bytes",
            form: Form::Size,
            default: Some("1GiB"),
            help: "Maximum size of all keys and values together in each store of the app's own",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.limits.stores.bytes_max, parse::size(text)),
                |app| shown::size(app.limits.stores.bytes_max),
            ),
        },
        Setting {
            name: "store-value-max",
            key: "limits.store-value",
            form: Form::Size,
            default: Some("4MiB"),
            help: "Maximum size of a value in each store of the app's own, 4MiB at most",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.limits.stores.value_bytes_max, value_max(text)),
                |app| shown::size(app.limits.stores.value_bytes_max),
            ),
        },
        Setting {
            name: "store-ttl",
            key: "limits.store-ttl",
            form: Form::Time,
            default: Some("none"),
            help: "Time after which a key of a store of the app's own is deleted that was not set again (none: never)",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.limits.stores.ttl, parse::duration_or_none(text)),
                |app| shown::time_or_none(app.limits.stores.ttl),
            ),
        },
        Setting {
            name: "sqlite-bytes-max",
            key: "limits.sqlite-bytes",
            form: Form::Size,
            default: Some("1GiB"),
            help: "Maximum size of each database of the app (--sqlite), 64KiB at least. A statement that needs more gets an error",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.limits.databases.bytes_max, database_max(text)),
                |app| shown::size(app.limits.databases.bytes_max),
            ),
        },
        Setting {
            name: "http2-streams-max",
            key: "http2-streams-max",
            form: Form::Count,
            default: Some("128"),
            help: "Maximum number of requests at once on one HTTP/2 connection; a client that sends more gets them refused, and may send them again (0: HTTP/2 is not spoken)",
            takes: Takes::One,
            of: host(
                |draft, text| put(&mut draft.config.limits.http2_streams_max, count(text, 0, HTTP2_STREAMS_MAX)),
                |config| shown::count(config.limits.http2_streams_max.into()),
            ),
        },
        Setting {
            name: "max-connections",
            key: "max-connections",
            form: Form::Count,
            default: None,
            help: "Maximum number of connections; more wait in the kernel's backlog [default: what the file descriptor limit allows]",
            takes: Takes::One,
            of: host(
                |draft, text| put(&mut draft.config.limits.max_connections, count(text, 1, COUNT_MAX).map(Some)),
                |config| config.limits.max_connections.map_or(Shown::Nothing, shown::whole),
            ),
        },
        Setting {
            name: "max-connections-per-client",
            key: "max-connections-per-client",
            form: Form::Count,
            default: Some("none"),
            help: "Maximum number of connections of one client (an IPv4 address, or an IPv6 /64 network); more get 503 and are closed. Clients in --trust-proxy networks and of a Unix socket are not counted (none: no limit)",
            takes: Takes::One,
            of: host(
                |draft, text| {
                    let count = parse::count_or_none(text, COUNT_MAX)?;
                    draft.config.limits.max_connections_per_client =
                        count.map(|count| usize::try_from(count).unwrap_or(usize::MAX));
                    Ok(())
                },
                |config| shown::whole_or_none(config.limits.max_connections_per_client),
            ),
        },
        Setting {
            name: "max-requests-per-connection",
            key: "max-requests-per-connection",
            form: Form::Count,
            default: Some("none"),
            help: "Maximum number of requests of one connection; the last gets `Connection: close` (none: no limit)",
            takes: Takes::One,
            of: host(
                |draft, text| {
                    let count = parse::count_or_none(text, REQUESTS_MAX);
                    put(&mut draft.config.limits.max_requests_per_connection, count)
                },
                |config| shown::count_or_none(config.limits.max_requests_per_connection),
            ),
        },
    ],
};
