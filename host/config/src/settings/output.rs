//! What the host shows.

use crate::draft::{HostDraft, names, put};
use crate::log_choice::LOG_LEVELS;
use crate::parse::{self, choice};
use crate::shown::{self, Shown};
use crate::{ControlSocket, LogForm, admin};

use super::entry::{Form, Group, Setting, Takes, host, host_list};

const LOG_FORMS: &[(&str, LogForm)] = &[("auto", LogForm::Auto), ("text", LogForm::Text), ("json", LogForm::Json)];

pub(super) const GROUP: Group = Group {
    heading: "Output",
    settings: &[
        Setting {
            name: "log-format",
            key: "log-format",
            form: Form::Choice("FORMAT", || names(LOG_FORMS)),
            default: Some("auto"),
            help: "Format of the log on standard error: text, json, or auto (text)",
            takes: Takes::One,
            of: host(
                |draft, text| put(&mut draft.config.log.form, choice(text, LOG_FORMS)),
                |config| shown::choice(config.log.form, LOG_FORMS),
            ),
        },
        Setting {
            name: "log-level",
            key: "log-level",
            form: Form::Choice("LEVEL", || names(LOG_LEVELS)),
            default: Some("info"),
            help: "Lowest level that is logged: error, warn, info, debug or trace. A reload follows changes, and `wasmhost log-level` changes it while the host runs",
            takes: Takes::One,
            of: host(
                |draft, text| put(&mut draft.config.log.level, choice(text, LOG_LEVELS)),
                |config| shown::choice(config.log.level, LOG_LEVELS),
            ),
        },
        Setting {
            name: "access-log",
            key: "access-log",
            form: Form::Switch,
            default: None,
            help: "Log a line for each request. A reload follows changes",
            takes: Takes::One,
            of: host(
                |draft, text| put(&mut draft.config.access_log, parse::switch(text)),
                |config| Shown::Switch(config.access_log),
            ),
        },
        Setting {
            name: "control",
            key: "control",
            form: Form::Text("FILE"),
            default: Some("auto"),
            help: "Unix socket at which commands such as `wasmhost ps` and `wasmhost reload` reach this host: a path, auto (NAME.sock in wasmhost of $XDG_RUNTIME_DIR, in $RUNTIME_DIRECTORY, which systemd sets, or in /tmp/wasmhost-UID; NAME is that of the component, or of the folder of wasmhost.toml), or off. Only this user can use it",
            takes: Takes::One,
            of: host(
                |draft, text| {
                    let found = ControlSocket::parse(text, |path| draft.folder.path(path));
                    put(&mut draft.config.control, found)
                },
                |config| shown::control(&config.control),
            ),
        },
        Setting {
            name: "admin",
            key: "admin",
            form: Form::Text("ADDRESS"),
            default: None,
            help: "Serve a dashboard, /healthz, /readyz, /status, /metrics and /events on this address (ADDRESS:PORT or unix:PATH), and, with --admin-token, take commands",
            takes: Takes::One,
            of: host(
                |draft, text| {
                    put(&mut draft.config.admin, parse::admin(text).map(|admin| Some(draft.folder.listen(admin))))
                },
                |config| config.admin.as_ref().map_or(Shown::Nothing, |admin| Shown::Text(shown::listen(admin))),
            ),
        },
        Setting {
            name: "admin-host",
            key: "admin-host",
            form: Form::Text("NAME"),
            default: None,
            help: "A name of this host by which the admin address is asked (wasmhost.example.com), without a port. IP addresses and localhost are accepted without it; requests with any other Host get 421. A reload follows changes",
            takes: Takes::Commas,
            of: host_list(
                |draft| draft.config.admin_access.hosts.clear(),
                |draft, text| admin::host(text).map(|name| draft.config.admin_access.hosts.push(name)),
                |config| shown::list(config.admin_access.hosts.iter().cloned()),
            ),
        },
        Setting {
            name: "admin-token",
            key: "admin-token",
            form: Form::Text("SOURCE"),
            default: None,
            help: "Where the token stands that requests to the admin address must have (Authorization: Bearer TOKEN), all but those of /healthz and /readyz: file:PATH, credential:NAME (of systemd) or env:NAME. Required where --admin is not a loopback address or a Unix socket; without it nothing can be changed over this address. Read at the start, and when the file of settings is read again",
            takes: Takes::One,
            of: host(HostDraft::admin_token, |config| {
                let token = config.admin_access.token.as_ref();
                token.map_or(Shown::Nothing, |token| Shown::Text(token.source.clone()))
            }),
        },
    ],
};
