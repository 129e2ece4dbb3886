//! Traces of requests, by OpenTelemetry.

use crate::draft::{HostDraft, put};
use crate::shown::{self, Shown};
use crate::traces::{Collector, sample, shown_sample};

use super::entry::{Form, Group, Setting, Takes, host};

pub(super) const GROUP: Group = Group {
    heading: "Traces",
    settings: &[
        Setting {
            name: "otlp",
            key: "otlp",
            form: Form::Text("URL"),
            default: None,
            help: "Send traces of requests to this collector of OpenTelemetry, by OTLP over HTTP: http://HOST:PORT or https://HOST:PORT. Without a path, it is /v1/traces. Without it there are no traces",
            takes: Takes::One,
            of: host(
                |draft, text| put(&mut draft.config.traces.collector, Collector::parse(text).map(Some)),
                |config| {
                    config.traces.collector.as_ref().map_or(Shown::Nothing, |found| Shown::Text(found.url.clone()))
                },
            ),
        },
        Setting {
            name: "trace-sample",
            key: "trace-sample",
            form: Form::Text("PERCENT"),
            default: Some("1%"),
            help: "Part of all requests whose traces are sent, from 0% to 100% (0.05%). The number of a trace decides, so that hosts with the same part choose the same. Of clients of --trust-proxy, the sampled flag of traceparent decides where they send one",
            takes: Takes::One,
            of: host(
                |draft, text| put(&mut draft.config.traces.sample_ppm, sample(text)),
                |config| Shown::Text(shown_sample(config.traces.sample_ppm)),
            ),
        },
        Setting {
            name: "otlp-header",
            key: "otlp-header",
            form: Form::Pairs("NAME=SOURCE"),
            default: None,
            help: "Send this header with traces, whose value is read from elsewhere, and never shown: file:PATH, credential:NAME (of systemd) or env:NAME. Read once, at the start",
            takes: Takes::Lines { most: crate::traces::HEADERS_MAX, beyond: "headers at most" },
            of: host(HostDraft::otlp_header, |config| {
                let headers = config.traces.headers.iter();
                Shown::Sources(headers.map(|header| (header.name.clone(), header.source.clone())).collect())
            }),
        },
        Setting {
            name: "otlp-ca-file",
            key: "otlp-ca-file",
            form: Form::Text("FILE"),
            default: None,
            help: "Trust the root certificates in this file (PEM) for the collector of traces, besides Mozilla's. Read once, at the start",
            takes: Takes::One,
            of: host(HostDraft::otlp_ca_file, |config| shown::path(&config.traces.ca_file)),
        },
    ],
};
