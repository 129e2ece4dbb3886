//! What only `wasmhost.toml` says of an app.

use crate::draft::{AppDraft, put};
use crate::parse;
use crate::service::{SERVICES_MAX, Service};
use crate::shown::{self, Shown};

use super::entry::{Form, Setting, Takes, app, app_list};

pub(super) const ONE_APP_ONLY: &[Setting] = &[
    Setting {
        name: "name",
        key: "name",
        form: Form::Name,
        default: None,
        help: "Name of the app in logs and metrics: 1 to 63 letters, digits, `-`, `_` and `.` (required)",
        takes: Takes::One,
        of: app(|draft, text| put(&mut draft.app.name, parse::name(text)), |app| Shown::Text(app.name.clone())),
    },
    Setting {
        name: "component",
        key: "component",
        form: Form::Text("FILE"),
        default: None,
        help: "The component: .wasm, .wat, or .cwasm from `wasmhost compile` (native code that runs outside the sandbox: only run files you trust). Required without `project` [default: `NAME.wasm`, with the app's name, in the folder of `project`]",
        takes: Takes::One,
        of: app(AppDraft::component, |app| shown::path(&app.component)),
    },
    Setting {
        name: "project",
        key: "project",
        form: Form::Text("DIR"),
        default: None,
        help: "Folder of a project that makes the component: `wasmhost build` builds all projects of the file, and `wasmhost dev` builds each again when its files change [default: none; something else makes the component]",
        takes: Takes::One,
        of: app(AppDraft::project, |app| match app.project.as_os_str().is_empty() {
            true => Shown::Nothing,
            false => shown::path(&app.project),
        }),
    },
    Setting {
        name: "routes",
        key: "routes",
        form: Form::Text("[HOST][/PATH]"),
        default: None,
        help: "Which requests the app gets: a host (`shop.example.com`, `*.example.com` or `*`) and a path (`/api/*`, `/exact`). The most specific route of all apps wins. Required if there are several apps [default: `*`]",
        takes: Takes::LINES,
        of: app_list(
            |draft| draft.app.routes.clear(),
            |draft, text| {
                draft.app.routes.push(text.to_owned());
                Ok(())
            },
            |app| shown::list(app.routes.iter().cloned()),
        ),
    },
    Setting {
        name: "services",
        key: "services",
        form: Form::Text("[NAME=]APP"),
        default: None,
        help: "Other apps of the file that the app may call, each by a name: with `users=accounts`, a request to `http://users.wasmhost.internal/` goes to the app `accounts`",
        takes: Takes::Lines { most: SERVICES_MAX, beyond: "services at most" },
        of: app_list(
            |draft| draft.app.services.clear(),
            |draft, text| Service::parse(text).map(|service| draft.app.services.push(service)),
            |app| shown::list(app.services.iter().map(Service::shown)),
        ),
    },
];

pub(super) const FILE_ONLY: &[Setting] = &[
    Setting {
        name: "strip-prefix",
        key: "strip-prefix",
        form: Form::Switch,
        default: Some("false"),
        help: "Take the path of the route off before the app sees the request: with the route `/api/*`, it gets `/api/a` as `/a`",
        takes: Takes::One,
        of: app(
            |draft, text| put(&mut draft.app.strip_prefix, parse::switch(text)),
            |app| Shown::Switch(app.strip_prefix),
        ),
    },
    Setting {
        name: "forwarded-headers",
        key: "forwarded-headers",
        form: Form::Switch,
        default: Some("false"),
        help: "Tell the guest of its client in Forwarded (RFC 7239) and X-Forwarded-For, -Proto and -Host. Behind a proxy of --trust-proxy, the proxy is added to the list that it sends",
        takes: Takes::One,
        of: app(
            |draft, text| put(&mut draft.app.forwarded_headers, parse::switch(text)),
            |app| Shown::Switch(app.forwarded_headers),
        ),
    },
    Setting {
        name: "group",
        key: "group",
        form: Form::Name,
        default: None,
        help: "Apps of one group share worker processes that apps of other groups, and those without a group, do not enter. Workers are processes then (`worker-kind`)",
        takes: Takes::One,
        of: app(
            |draft, text| put(&mut draft.app.group, parse::name(text).map(Some)),
            |app| app.group.clone().map_or(Shown::Nothing, Shown::Text),
        ),
    },
];
