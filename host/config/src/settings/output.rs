//! What the host shows.

use crate::draft::{choice, names, put};
use crate::shown::{self, Shown};
use crate::{ControlSocket, LogForm, LogLevel, parse};

use super::entry::{Form, Group, Setting, Takes, host};

const LOG_FORMS: &[(&str, LogForm)] = &[("auto", LogForm::Auto), ("text", LogForm::Text), ("json", LogForm::Json)];
const LOG_LEVELS: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

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
            help: "Lowest level that is logged: error, warn, info, debug or trace",
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
            help: "Log a line for each request",
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
            help: "Serve /healthz, /readyz, /status, /metrics and /events on this address (ADDRESS:PORT or unix:PATH)",
            takes: Takes::One,
            of: host(
                |draft, text| {
                    put(&mut draft.config.admin, parse::admin(text).map(|admin| Some(draft.folder.listen(admin))))
                },
                |config| config.admin.as_ref().map_or(Shown::Nothing, |admin| Shown::Text(shown::listen(admin))),
            ),
        },
    ],
};
