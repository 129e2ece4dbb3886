//! What several settings, or several apps, say together. What is wrong with a single value stands in the settings.

use std::collections::{BTreeSet, HashMap};

use super::document::ValuePlaces;
use super::draft::latest;
use super::environment::GuestVariable;
use super::mistake::{Mistakes, Offset};
use super::nearest::nearest;
use super::routes::{AppRoute, ROUTES_MAX, Router};
use super::stores::StoreSettings;
use super::{App, Balance, Config, DIRECTORIES_MAX, Isolation, Listen, ListenerConfig, MAX_WORKERS, WorkerKind};

/// The guest's variables in sum; no process gets more from the system by far.
const ENVIRONMENT_BYTES_MAX: usize = 4 << 20;
/// What the settings of capabilities say for one app, in sum: a guest may have all of it copied with one call.
const DECLARED_BYTES_MAX: usize = 4 << 20;
/// Variables, values and certificates of all apps in sum: every process of the host gets a copy.
const ALL_APPS_BYTES_MAX: usize = 32 << 20;

/// Where flags and variables gave a value: by the setting's name, how messages call it.
pub(super) type Labels = HashMap<&'static str, String>;

/// An app that was read, and where.
pub(super) struct FoundApp {
    pub(super) app: App,
    /// None for the app of the command line.
    pub(super) place: Option<AppPlace>,
}

/// Where an app stands in the file.
pub(super) struct AppPlace {
    /// Its table.
    pub(super) begin: Offset,
    /// Some of its values.
    pub(super) places: ValuePlaces,
}

impl FoundApp {
    /// Notes what is wrong with this app.
    pub(super) fn wrong(&self, mistakes: &mut Mistakes, key: &str, flag: &str, reason: String) {
        match &self.place {
            Some(place) => mistakes.at(place.of(key), self.label(), reason),
            None => mistakes.note(flag, reason),
        }
    }

    /// Its name, if it has one.
    fn label(&self) -> Option<&str> {
        Some(self.app.name.as_str()).filter(|name| !name.is_empty())
    }
}

impl AppPlace {
    /// Of a key's value, or else of the app.
    fn of(&self, key: &str) -> Offset {
        self.places.of(key).unwrap_or(self.begin)
    }

    fn route(&self, number: usize) -> Offset {
        self.places.routes.get(number).copied().unwrap_or_else(|| self.of("routes"))
    }
}

/// Checks the host's settings. `places`: where they stand in the file.
pub(super) fn check_host(config: &Config, labels: &Labels, places: &ValuePlaces, mistakes: &mut Mistakes) {
    check_workers_max(config, labels, places, mistakes);
    check_balance_by(config, labels, places, mistakes);
    check_proxy_headers(config, mistakes);
    check_acme(config, mistakes);
    check_admin(config, labels, places, mistakes);
    let is_tcp = |listen: &Listen| matches!(listen, Listen::Tcp(_));
    if config.balance == Balance::Kernel && !config.addresses().all(is_tcp) {
        let reason = "needs TCP addresses to listen on, and no others (`--listen ADDRESS:PORT`)";
        match (labels.get("balance"), places.of("balance")) {
            (None, Some(at)) => mistakes.at(at, None, format!("balance `kernel`: {reason}")),
            (label, _) => mistakes.note(label.map_or("--balance `kernel`", String::as_str), reason),
        }
    }
}

/// What a client is counts only where clients have workers.
fn check_balance_by(config: &Config, labels: &Labels, places: &ValuePlaces, mistakes: &mut Mistakes) {
    if config.balance_by.is_none() || config.balance == Balance::Client {
        return;
    }
    let reason = "needs `balance = \"client\"` (`--balance client`): otherwise no client has a worker";
    match (labels.get("balance-by"), places.of("balance-by")) {
        (None, Some(at)) => mistakes.at(at, None, format!("balance-by: {reason}")),
        (label, _) => mistakes.note(label.map_or("--balance-by", String::as_str), reason),
    }
}

fn check_workers_max(config: &Config, labels: &Labels, places: &ValuePlaces, mistakes: &mut Mistakes) {
    let (workers, most) = (config.workers, config.workers_max);
    let reason = match config.balance {
        Balance::Kernel if most != workers => {
            format!(
                "the number of workers stays {workers} with `--balance kernel`, which gives each a socket at the start; leave it out"
            )
        }
        _ if most < workers => format!("there are more workers at the start: {workers}; raise it, or lower `workers`"),
        _ => return,
    };
    match (labels.get("workers-max"), places.of("workers-max")) {
        (None, Some(at)) => mistakes.at(at, None, format!("workers-max `{most}`: {reason}")),
        (label, _) => mistakes.note(label.map_or("--workers-max", String::as_str), &reason),
    }
}

/// Others than the users of this machine have to know a token.
fn check_admin(config: &Config, labels: &Labels, places: &ValuePlaces, mistakes: &mut Mistakes) {
    let Some(admin) = config.admin.as_ref().filter(|admin| !admin.is_of_this_machine()) else { return };
    if config.admin_access.token.is_some() {
        return;
    }
    let reason = "other machines may reach this address, so it needs a token: write `admin-token = \"file:PATH\"` (`--admin-token file:PATH`; `openssl rand -base64 32 > PATH` makes one), or an address of this machine alone (`127.0.0.1:9090`, `unix:PATH`)";
    match (labels.get("admin"), places.of("admin")) {
        (None, Some(at)) => mistakes.at(at, None, format!("admin `{admin}`: {reason}")),
        (label, _) => mistakes.note(label.map_or("--admin", String::as_str), reason),
    }
}

/// Nobody may name clients but balancers that the operator trusts.
fn check_proxy_headers(config: &Config, mistakes: &mut Mistakes) {
    let is_open = |listener: &&ListenerConfig| listener.has_proxy_header && !matches!(listener.listen, Listen::Unix(_));
    if config.trust_proxy.is_empty() && config.listeners.iter().any(|listener| is_open(&listener)) {
        let reason =
            "needs `trust-proxy`, the networks of the balancers that may say who a client is (`--trust-proxy CIDR`)";
        mistakes.note("proxy-protocol", reason);
    }
}

/// Certificates by ACME have to be kept somewhere, each in a file of its own.
fn check_acme(config: &Config, mistakes: &mut Mistakes) {
    let all = config.acme();
    let Some(data_dir) = &config.data_dir else {
        if !all.is_empty() {
            let reason = "needs `data-dir`, a directory in which certificates and their keys are kept (`--data-dir DIR`, or `StateDirectory=` of systemd)";
            mistakes.note("tls.acme", reason);
        }
        return;
    };
    for (number, acme) in all.iter().enumerate() {
        if all.iter().take(number).any(|other| other.file(data_dir) == acme.file(data_dir)) {
            let first = acme.domains.first().map_or("", String::as_str);
            let reason = format!(
                "two addresses order a certificate whose first name is `{first}`, and say different things of it: write the same in both, or begin with another name"
            );
            mistakes.note("tls.acme", reason);
        }
    }
}

/// Checks the apps, and completes what one of them leaves to the others.
pub(super) fn check_apps(apps: &mut [FoundApp], config: &Config, mistakes: &mut Mistakes) {
    let is_only = apps.len() == 1;
    let (mut dirs, mut bytes) = (0_usize, 0_usize);
    let (mut is_beyond_dirs, mut is_beyond_bytes) = (false, false);
    for found in apps.iter_mut() {
        complete(found, is_only, mistakes);
        complete_stores(found, &config.stores, mistakes);
        let environment: usize = found.app.grants.env.iter().map(GuestVariable::bytes).sum();
        if environment > ENVIRONMENT_BYTES_MAX {
            let most = ENVIRONMENT_BYTES_MAX >> 20;
            let reason = format!("with `env` and all files, the guest has more than {most} MiB of variables");
            found.wrong(mistakes, "env", &format!("--env-file `{environment} bytes`"), reason);
        }
        let declared = found.app.grants.declared.bytes();
        if declared > DECLARED_BYTES_MAX {
            let most = DECLARED_BYTES_MAX >> 20;
            let reason = format!(
                "the values that the app's capabilities are given (`config` and the like) are more than {most} MiB; give large ones as files (`dirs`)"
            );
            found.wrong(mistakes, "", &format!("flags of capabilities `{declared} bytes`"), reason);
        }
        if config.data_dir.is_none() && !found.app.grants.stores.is_empty() {
            let reason = "needs `data-dir`, a directory in which stores are kept (`--data-dir DIR`, such as `--data-dir state` to try it; or `StateDirectory=` of systemd)";
            found.wrong(mistakes, "stores", "--store", reason.to_owned());
        }
        if config.data_dir.is_none() && !found.app.grants.databases.is_empty() {
            let reason = "needs `data-dir`, a directory in which databases are kept (`--data-dir DIR`, such as `--data-dir state` to try it; or `StateDirectory=` of systemd)";
            found.wrong(mistakes, "sqlite", "--sqlite", reason.to_owned());
        }
        if found.app.group.is_some() && config.worker_kind == WorkerKind::Thread {
            let reason =
                "`group` needs processes as workers: write `worker-kind = \"process\"` at the top, or leave it out";
            found.wrong(mistakes, "group", "--worker-kind `thread`", reason.to_owned());
        }
        dirs += found.app.grants.dirs.len();
        if dirs > DIRECTORIES_MAX && !std::mem::replace(&mut is_beyond_dirs, true) {
            let reason =
                format!("all apps together have more than {DIRECTORIES_MAX} `dirs`; grant fewer, each to fewer apps");
            found.wrong(mistakes, "dirs", "--dir", reason);
        }
        bytes += environment + declared + found.app.grants.ca_pem.len();
        if bytes > ALL_APPS_BYTES_MAX && !std::mem::replace(&mut is_beyond_bytes, true) {
            let most = ALL_APPS_BYTES_MAX >> 20;
            let reason = format!(
                "the variables, certificates and values of capabilities of all apps together are more than {most} MiB"
            );
            found.wrong(mistakes, "env", "--env", reason);
        }
    }
    let setting = if config.workers_max > config.workers { "workers-max" } else { "workers" };
    check_groups(apps, (config.workers_max.max(config.workers), setting), mistakes);
    check_names(apps, mistakes);
    check_services(apps, mistakes);
    check_routes(apps, mistakes);
}

/// What workers are where the settings leave it open. Groups need processes. So do several workers whose instances are fresh
/// for each request: in one address space they wait for each other whenever the system maps and clears their memory.
pub(super) fn kind_of(apps: &[FoundApp], workers: u16) -> WorkerKind {
    let needs_process = |app: &App| app.group.is_some() || (workers > 1 && app.isolation == Isolation::Request);
    let is_needed = apps.iter().any(|found| needs_process(&found.app));
    if is_needed { WorkerKind::Process } else { WorkerKind::Thread }
}

/// How many workers there may be at most while the host runs, where the settings leave it open: one for each core, if there is memory
/// for those of all groups.
pub(super) fn workers_max(apps: &[FoundApp], config: &Config, cores: usize) -> u16 {
    if config.balance == Balance::Kernel {
        return config.workers;
    }
    let groups: BTreeSet<_> = apps.iter().filter_map(|found| found.app.group.as_deref()).collect();
    let of_each = usize::from(MAX_WORKERS) / (1 + groups.len());
    u16::try_from(cores.min(of_each)).unwrap_or(MAX_WORKERS).max(config.workers)
}

/// Each group has as many workers as there are beside the groups. The first app that makes too many of them is named.
fn check_groups(apps: &[FoundApp], (workers, setting): (u16, &str), mistakes: &mut Mistakes) {
    let mut groups = BTreeSet::new();
    for found in apps {
        let Some(group) = &found.app.group else { continue };
        if !groups.insert(group) {
            continue;
        }
        let all = usize::from(workers).saturating_mul(1 + groups.len());
        if all > MAX_WORKERS.into() {
            let count = groups.len();
            let reason = format!(
                "{workers} workers, and as many for each of {count} groups, are {all} processes, of {MAX_WORKERS} at most; lower `{setting}`, or have more apps share a group"
            );
            return found.wrong(mistakes, "group", &format!("--{setting}"), reason);
        }
    }
}

/// What an app must have, and what it has when it says nothing.
fn complete(found: &mut FoundApp, is_only: bool, mistakes: &mut Mistakes) {
    latest(&mut found.app.grants.env, |variable| &variable.name);
    found.app.grants.env.shrink_to_fit();
    found.app.grants.declared.complete();
    let Some(place) = &found.place else { return };
    let has = |key| place.places.of(key).is_some();
    if !has("name") {
        mistakes.absent(place.begin, None, "this app has no name: write `name = \"…\"`");
    }
    match (has("component"), has("project")) {
        (true, _) => {}
        (false, true) => found.app.component = App::component_of(&found.app.project, &found.app.name),
        (false, false) => {
            let reason = "this app has no component: write `component = \"….wasm\"`, or, for one that `wasmhost build` makes, `project = \"…\"`";
            mistakes.absent(place.begin, found.label(), reason);
        }
    }
    match (has("routes"), is_only) {
        (true, _) => {}
        (false, true) => found.app.routes = vec!["*".to_owned()],
        (false, false) => {
            let reason =
                "this app has no routes: write `routes = [\"shop.example.com/*\"]` (`[]`: it gets no requests)";
            mistakes.absent(place.begin, found.label(), reason);
        }
    }
    found.app.routes.shrink_to_fit();
}

/// Names the stores and databases of an app, whose name is known by now, and says what they may hold. (On the command line, nothing says so
/// of a store that is shared: it is as one of the app's own.)
fn complete_stores(found: &mut FoundApp, shared: &[StoreSettings], mistakes: &mut Mistakes) {
    latest(&mut found.app.grants.stores, |grant| &grant.name);
    latest(&mut found.app.grants.databases, |grant| &grant.name);
    let is_in_file = found.place.is_some();
    let mut wrong = Vec::new();
    let App { name, grants, limits, .. } = &mut found.app;
    for grant in &mut grants.databases {
        grant.complete(name, limits.databases);
    }
    for grant in &mut grants.stores {
        let declared = grant.shared.as_deref().and_then(|name| shared.iter().find(|store| store.name == name));
        let server = declared.and_then(|store| store.server.address.clone());
        grant.complete(name, declared.map_or(limits.stores, |store| store.limits), server);
        if let Some(name) = grant.shared.as_deref().filter(|_| is_in_file && declared.is_none()) {
            let meant = nearest(name, shared.iter().map(|store| store.name.as_str()));
            let meant = meant.map(|meant| format!(", is `{meant}` meant?")).unwrap_or_default();
            wrong.push(format!(
                "stores `{grant}`: no `[[store]]` has the name `{name}`{meant}: write `[[store]]`, and below it `name = \"{name}\"`"
            ));
        }
    }
    for reason in wrong {
        found.wrong(mistakes, "stores", "--store", reason);
    }
}

fn check_names(apps: &[FoundApp], mistakes: &mut Mistakes) {
    let mut first = HashMap::new();
    for found in apps {
        let (Some(name), Some(place)) = (found.label(), &found.place) else { continue };
        match first.entry(name) {
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(place.of("name"));
            }
            std::collections::hash_map::Entry::Occupied(entry) => {
                let reason = format!("two apps have the name `{name}`; names are unique");
                mistakes.at_both(place.of("name"), Some(*entry.get()), Some(name), reason);
            }
        }
    }
}

/// Whom an app calls must be there, and within reach: a worker of a group knows of no other apps than the group's.
fn check_services(apps: &[FoundApp], mistakes: &mut Mistakes) {
    let groups: HashMap<&str, Option<&str>> =
        apps.iter().map(|found| (found.app.name.as_str(), found.app.group.as_deref())).collect();
    for found in apps {
        let own = found.app.group.as_deref();
        let mut names = BTreeSet::new();
        for service in &found.app.services {
            let (name, app) = (&service.name, &service.app);
            let reason = match groups.get(app.as_str()) {
                _ if !names.insert(name) => format!("services: two services have the name `{name}`"),
                None => format!("services `{app}`: there is no app of this name"),
                Some(group) if own.is_some() && *group != own => format!(
                    "services `{app}`: an app of a group can call apps of its group only; put both into one group, or take this one out of its"
                ),
                Some(_) => continue,
            };
            found.wrong(mistakes, "services", "services", reason);
        }
    }
}

fn check_routes(apps: &[FoundApp], mistakes: &mut Mistakes) {
    let routes = apps.iter().flat_map(|found| {
        found.app.routes.iter().enumerate().map(move |(number, route)| AppRoute {
            name: &found.app.name,
            app: (),
            route,
            place: (found.label(), found.place.as_ref().map(|place| place.route(number))),
        })
    });
    // (One more than there may be says that there are more.)
    let Err(wrong) = Router::build(routes.take(ROUTES_MAX + 1)) else { return };
    for wrong in wrong {
        let (app, at) = wrong.place;
        let earlier = wrong.earlier.and_then(|(_, at)| at);
        match at {
            Some(at) => mistakes.at_both(at, earlier, app, wrong.message),
            None => mistakes.note("routes", wrong.message),
        }
    }
}
