//! What a guest may reach; capabilities add their settings to these.

use crate::draft::AppDraft;
use crate::shown::{self, Shown};
use crate::stores::{DatabaseGrant, StoreGrant};
use crate::{DIRECTORIES_MAX, DirectoryPurpose, host_rule, parse};

use super::entry::{Form, Group, Setting, Takes, app, app_list};

/// Most stores of one app.
const STORES_MAX: usize = 64;
/// Most databases of one app.
const DATABASES_MAX: usize = 16;

pub(super) const GROUP: Group = Group {
    heading: "Grants (nothing is granted by default)",
    settings: &[
        Setting {
            name: "env",
            key: "env",
            form: Form::Pairs("NAME=VALUE"),
            default: None,
            help: "Give the guest an environment variable",
            takes: Takes::LINES,
            of: app(AppDraft::env, |app| {
                let given = app.grants.env.iter().filter(|variable| variable.source.is_none());
                Shown::Pairs(given.map(|variable| (variable.name.clone(), variable.value.clone())).collect())
            }),
        },
        Setting {
            name: "env-file",
            key: "env-file",
            form: Form::PairsFile("FILE"),
            default: None,
            help: "Give the guest the environment variables of a file: one NAME=VALUE per line, `#` comments, quotes as in dotenv. --env wins",
            takes: Takes::LINES,
            of: app(AppDraft::env_file, |_| Shown::Nothing),
        },
        Setting {
            name: "secret",
            key: "secrets",
            form: Form::Pairs("NAME=SOURCE"),
            default: None,
            help: "Give the guest an environment variable whose value is read from elsewhere, and never shown: `file:PATH`, `credential:NAME` (of systemd) or `env:NAME` (a variable of the host). It counts more than --env. Guests also read it through wasi:config/store",
            takes: Takes::LINES,
            of: app(AppDraft::secret, |app| {
                let sources =
                    app.grants.env.iter().filter_map(|variable| Some((&variable.name, variable.source.as_ref()?)));
                Shown::Sources(sources.map(|(name, source)| (name.clone(), source.clone())).collect())
            }),
        },
        Setting {
            name: "arg",
            key: "args",
            form: Form::Text("ARGUMENT"),
            default: None,
            help: "Give the guest a command line argument",
            takes: Takes::LINES,
            of: app_list(
                |draft| draft.app.grants.args.clear(),
                |draft, text| {
                    draft.app.grants.args.push(text.to_owned());
                    Ok(())
                },
                |app| shown::list(app.grants.args.iter().cloned()),
            ),
        },
        Setting {
            name: "dir",
            key: "dirs",
            form: Form::Text("HOST::GUEST[:rw]"),
            default: None,
            help: "Give the guest a directory: read-only, or writable with `:rw` at the end",
            takes: Takes::Lines { most: DIRECTORIES_MAX, beyond: "directories at most; grant one that holds several" },
            of: app_list(
                |draft| draft.app.grants.dirs.retain(|dir| dir.purpose != DirectoryPurpose::Guest),
                |draft, text| parse::preopen(text, draft.folder.as_path()).map(|dir| draft.app.grants.dirs.push(dir)),
                |app| shown::list(app.grants.of_purpose(DirectoryPurpose::Guest).map(shown::dir)),
            ),
        },
        Setting {
            name: "allow-host",
            key: "allow-hosts",
            form: Form::Text("HOST[:PORT][:private]"),
            default: None,
            help: "Let outgoing HTTP requests reach this host: a name, `*.NAME` for all names below it, an address, a network (10.0.0.0/8), or `*` for every host. A scheme (`https://`), a port, a path (this one and those below it) and methods narrow it: `https://*.example.com:443/v1/ GET POST`. With a scheme and no port it is the scheme's port. A name, or `*`, reaches public addresses only; with `:private` behind it also loopback and private ones (`db.internal:5432:private`). Link-local addresses and cloud metadata services are reached only when they are themselves written as addresses",
            takes: Takes::Commas,
            of: app_list(
                |draft| draft.app.grants.allow_hosts.clear(),
                |draft, text| host_rule::host_rule(text).map(|rule| draft.app.grants.allow_hosts.push(rule)),
                |app| shown::list(app.grants.allow_hosts.iter().map(ToString::to_string)),
            ),
        },
        Setting {
            name: "store",
            key: "stores",
            form: Form::Text("NAME[=SHARED]"),
            default: None,
            help: "Give the guest a store of keys and values, which it opens by this name through wasi:keyvalue. It is the app's own; with `=SHARED` it is the one that all apps have that name it so. Needs --data-dir",
            takes: Takes::Lines {
                most: STORES_MAX,
                beyond: "stores at most; keys with different prefixes can share one",
            },
            of: app_list(
                |draft| draft.app.grants.stores.clear(),
                |draft, text| StoreGrant::parse(text).map(|grant| draft.app.grants.stores.push(grant)),
                |app| shown::list(app.grants.stores.iter().map(ToString::to_string)),
            ),
        },
        Setting {
            name: "sqlite",
            key: "sqlite",
            form: Form::Text("NAME"),
            default: None,
            help: "Give the guest a database of SQLite, which it opens by this name through Spin's interface (fermyon:spin/sqlite). It is the app's own, a file in --data-dir, which this needs",
            takes: Takes::Lines {
                most: DATABASES_MAX,
                beyond: "databases at most; a database has any number of tables",
            },
            of: app_list(
                |draft| draft.app.grants.databases.clear(),
                |draft, text| DatabaseGrant::parse(text).map(|grant| draft.app.grants.databases.push(grant)),
                |app| shown::list(app.grants.databases.iter().map(|grant| grant.name.clone())),
            ),
        },
        Setting {
            name: "ca-file",
            key: "ca-file",
            form: Form::Text("FILE"),
            default: None,
            help: "Trust the root certificates in this file (PEM) for outgoing HTTPS, besides Mozilla's. Read once, at the start",
            takes: Takes::One,
            of: app(AppDraft::ca_file, |app| shown::path(&app.grants.ca_file)),
        },
    ],
};
