//! Turns the text of all settings into a [`Config`], or into a list of all mistakes in them. What counts most is applied
//! last: the table's defaults, the file (`[defaults]`, then each app), and what flags and variables say.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::capability::Capabilities;
use super::cli::{FileArgs, ServeArgs};
use super::document::{APPS, DEFAULTS, Drafts, Keys, LISTENERS, STORES, TableReader, ValuePlaces, at};
use super::draft::{AppDraft, Folder, HostDraft, StoreDraft};
use super::file::{self, ConfigFile};
use super::given::{Given, Origin, Source, in_messages};
use super::listener::{self, ListenerDraft};
use super::machine::Machine;
use super::mistake::{Mistake, Mistakes, Offset};
use super::nearest::shown;
use super::overlap;
use super::recorded::is_of_running;
use super::schedule::ScheduleDraft;
use super::settings::{self, Setting, Takes};
use super::shown::listen as listened;
use super::stores::StoreSettings;
use super::together::{self, AppPlace, FoundApp};
use super::{APPS_MAX, CacheChoice, Compilation, Config, Grants, parse, variables};

/// The file that is read where neither a component nor a file is named.
pub const FILE_NAME: &str = "wasmhost.toml";

/// Checks every value of `args`, and of the file if one is served: the one that is named, or [`FILE_NAME`] in the current
/// folder when no component is.
///
/// # Errors
/// All mistakes: those of flags in the order of the help, those of the file in its order.
pub fn build(args: &ServeArgs, capabilities: Capabilities, machine: Machine) -> Result<Config, Vec<Mistake>> {
    let mut mistakes = Mistakes::default();
    let served = match (&args.component, &args.config) {
        (Some(component), Some(config)) => {
            mistakes.note(
                format!("`{}` and `{}`", component.display(), config.display()),
                "a component and a file of settings (`-c`, WASMHOST_CONFIG) cannot both be served; leave one out, or name the component in the file",
            );
            None
        }
        (Some(component), None) => Some(Ok(component.as_path())),
        (None, Some(config)) => Some(Err(config.as_path())),
        (None, None) if Path::new(FILE_NAME).exists() => Some(Err(Path::new(FILE_NAME))),
        (None, None) => {
            let reason = format!("name a component (`wasmhost app.wasm`), or a file of settings (`-c {FILE_NAME}`)");
            mistakes.note("nothing to serve", reason);
            None
        }
    };
    match served {
        Some(Err(file)) => of_file(file, &args.given(capabilities), (capabilities, machine), mistakes),
        Some(Ok(component)) => of_component(component, args, (capabilities, machine), mistakes),
        None => of_component(Path::new(""), args, (capabilities, machine), mistakes),
    }
}

/// [`build`] for `wasmhost dev`, which needs no component: without one, and without a file of settings in the current
/// folder, the only app's path is empty.
///
/// # Errors
/// As [`build`].
pub fn build_for_development(
    args: &ServeArgs,
    capabilities: Capabilities,
    machine: Machine,
) -> Result<Config, Vec<Mistake>> {
    match (&args.config, &args.component) {
        (None, None) if !Path::new(FILE_NAME).exists() => {
            of_component(Path::new(""), args, (capabilities, machine), Mistakes::default())
        }
        (Some(_), _) | (None, _) => build(args, capabilities, machine),
    }
}

/// The settings with which a component is served for one request, as `wasmhost replay` does: those that were `recorded` with a
/// crash bundle, by name, and flags, which count more. Of what was recorded, only that counts which grants the guest nothing: who
/// replays a bundle may not know who wrote it. Of variables of the environment, those count that are the host's.
///
/// # Errors
/// All mistakes; also flags that have no effect on a single request.
pub fn build_for_replay(
    component: &Path,
    args: &ServeArgs,
    recorded: &BTreeMap<String, String>,
    (capabilities, machine): (Capabilities, Machine),
) -> Result<Config, Vec<Mistake>> {
    const OF_HOST: [&str; 5] = ["confine", "data-dir", "log-format", "log-level", "memory-total"];
    let mut mistakes = Mistakes::default();
    let mut all = Vec::new();
    let is_of_compilation = |name: &str| {
        settings::with_headings(capabilities).any(|(heading, one)| one.name == name && heading == settings::COMPILATION)
    };
    for given in args.given(capabilities) {
        let is_of_app = given.setting(capabilities).is_some_and(Setting::is_of_app);
        let has_effect = is_of_app || OF_HOST.contains(&&*given.name) || is_of_compilation(&given.name);
        match given.origin {
            Origin::Flag if !has_effect => {
                mistakes.note(format!("--{}", given.name), "has no effect on a replay: only settings of apps have");
            }
            // Those are of hosts that serve.
            Origin::Variable if is_of_app || !has_effect => {}
            Origin::Default | Origin::Variable | Origin::Flag => all.push(given),
        }
    }
    let typed: HashSet<String> =
        all.iter().filter(|given| given.origin == Origin::Flag).map(|given| given.name.clone()).collect();
    let recorded = recorded.iter().filter(|(name, _)| !typed.contains(*name)).map(|(name, value)| Given {
        name: name.clone(),
        values: vec![value.clone()],
        origin: Origin::Flag,
    });
    let is_of_running = |name: &str| {
        settings::with_headings(capabilities).any(|(heading, one)| one.name == name && is_of_running(heading, one))
    };
    all.extend(recorded.filter(|given| is_of_running(&given.name)));
    let (config, mistakes) = read(&all, ServedFrom::Component(component), (capabilities, machine), mistakes);
    finished(config, mistakes, "", "")
}

/// Reads the file again, with the flags and variables of the start.
///
/// # Errors
/// All mistakes.
pub fn read_again(source: &Source, capabilities: Capabilities) -> Result<Config, Vec<Mistake>> {
    match read_apps_again(source, capabilities) {
        (Some(config), mistakes) if mistakes.is_empty() => Ok(config),
        (_, mistakes) => Err(mistakes),
    }
}

/// [`read_again`], where a mistake in one app leaves the others alone: the settings without the apps that are wrong
/// ([`Mistake::app`] names them), and all mistakes. None where a mistake is not one app's alone. (All apps may be wrong:
/// the settings have none then.)
pub fn read_apps_again(source: &Source, capabilities: Capabilities) -> (Option<Config>, Vec<Mistake>) {
    match ConfigFile::read(source.file()) {
        Ok(file) => {
            let known = (capabilities, source.machine());
            let (mut config, mistakes) = read(source.given(), ServedFrom::File(&file), known, Mistakes::default());
            config.source = Some(source.clone());
            let mistakes = mistakes.finish(&file.name, &file.text);
            let is_usable = mistakes.iter().all(|mistake| mistake.app.is_some());
            (is_usable.then_some(config), mistakes)
        }
        Err(reason) => {
            let place = source.file().display().to_string();
            (None, vec![Mistake { place, app: None, reason }])
        }
    }
}

/// The bounds of `wasmhost compile` of one component, which keeps nothing in the cache.
///
/// # Errors
/// The mistakes in them, and flags that count only when all apps of a file are compiled.
pub fn compile_bounds(args: &FileArgs, capabilities: Capabilities) -> Result<Compilation, Vec<Mistake>> {
    const BOUNDS: [&str; 2] = ["compile-timeout", "compile-memory-max"];
    const ONLY_WITH_ALL: &str = "has no effect on the compilation of one component; it counts with `--all`";
    let machine = Machine::UNKNOWN;
    let mut mistakes = Mistakes::default();
    let given = args.0.given(capabilities).into_iter();
    let (bounds, others): (Vec<Given>, Vec<Given>) = given.partition(|given| BOUNDS.contains(&&*given.name));
    if args.0.has_file_flag() {
        mistakes.note("-c", ONLY_WITH_ALL);
    }
    for other in others.iter().filter(|other| other.origin == Origin::Flag) {
        mistakes.note(format!("--{}", other.name), ONLY_WITH_ALL);
    }
    let (config, mistakes) = read(&bounds, ServedFrom::Component(Path::new("")), (capabilities, machine), mistakes);
    finished(config, mistakes, "", "").map(|config| Compilation { cache: CacheChoice::Off, ..config.compilation })
}

fn of_component(
    component: &Path,
    args: &ServeArgs,
    known: Known,
    mut mistakes: Mistakes,
) -> Result<Config, Vec<Mistake>> {
    note_variables(known.0, &mut mistakes);
    let (config, mistakes) = read(&args.given(known.0), ServedFrom::Component(component), known, mistakes);
    finished(config, mistakes, "", "")
}

fn of_file(path: &Path, given: &[Given], known: Known, mut mistakes: Mistakes) -> Result<Config, Vec<Mistake>> {
    note_variables(known.0, &mut mistakes);
    match ConfigFile::read(path) {
        Ok(file) => {
            let (mut config, mistakes) = read(given, ServedFrom::File(&file), known.clone(), mistakes);
            config.source = Some(Source::new(file.path.clone(), given.to_vec(), known.1));
            finished(config, mistakes, &file.name, &file.text)
        }
        Err(reason) => {
            mistakes.note(path.display().to_string(), reason);
            let (config, mistakes) = read(given, ServedFrom::Component(Path::new("")), known, mistakes);
            finished(config, mistakes, "", "")
        }
    }
}

fn finished(config: Config, mistakes: Mistakes, name: &str, text: &str) -> Result<Config, Vec<Mistake>> {
    if mistakes.is_empty() { Ok(config) } else { Err(mistakes.finish(name, text)) }
}

fn note_variables(capabilities: Capabilities, mistakes: &mut Mistakes) {
    // (Names that are not UTF-8 are not ours.)
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for reason in variables::mistakes(capabilities, names) {
        mistakes.note("environment", reason);
    }
}

/// What is known besides what is typed: which settings there are, and what the machine offers.
type Known = (Capabilities, Machine);

/// What is served.
#[derive(Clone, Copy)]
enum ServedFrom<'a> {
    Component(&'a Path),
    File(&'a ConfigFile),
}

/// The settings, and what is wrong in them: without the apps that are.
fn read(
    given: &[Given],
    served: ServedFrom<'_>,
    (capabilities, machine): Known,
    mut mistakes: Mistakes,
) -> (Config, Mistakes) {
    let listener = ListenerDraft::new(Folder::current(), machine.has_inherited_socket);
    let app = AppDraft::new(machine.environment.clone());
    let store = StoreDraft::new(machine.environment.clone());
    let schedule = ScheduleDraft::default();
    let mut drafts = Drafts { host: HostDraft::new(&machine), listener, store, app, schedule };
    let given = given.iter().filter_map(|given| Some((given.setting(capabilities)?, given)));
    let (defaults, decisions): (Vec<_>, Vec<_>) = given.partition(|(_, given)| given.origin == Origin::Default);
    apply(&defaults, &mut drafts, &mut mistakes);
    let (places, mut apps) = match served {
        ServedFrom::Component(component) => {
            apply(&decisions, &mut drafts, &mut mistakes);
            let top = drafts.listener.clone();
            end_listeners(&mut drafts, top, &ValuePlaces::default(), Vec::new(), &mut mistakes);
            drafts.app.end_place();
            let mut app = drafts.app.app;
            (app.component, app.name, app.routes) = (component.to_owned(), name_of(component), vec!["*".to_owned()]);
            (ValuePlaces::default(), vec![FoundApp { app, place: None }])
        }
        ServedFrom::File(file) => of_tables(file, capabilities, &decisions, &mut drafts, &mut mistakes),
    };
    let mut config = drafts.host.config;
    let keeps = |grants: &Grants| !grants.stores.is_empty() || !grants.databases.is_empty();
    let has_stores = apps.iter().any(|found| keeps(&found.app.grants));
    if config.data_dir.is_none() && (has_stores || !config.acme().is_empty()) {
        config.data_dir = machine.state;
    }
    config.is_worker_kind_auto = drafts.host.worker_kind.is_none();
    config.worker_kind = drafts.host.worker_kind.unwrap_or_else(|| together::kind_of(&apps, config.workers));
    let at_most = together::workers_max(&apps, &config, machine.cores);
    config.workers_max = drafts.host.workers_max.unwrap_or(at_most);
    let labels = decisions.iter().map(|(setting, given)| (setting.name, given.label(setting))).collect();
    together::check_host(&config, &labels, &places, &mut mistakes);
    together::check_apps(&mut apps, &config, &mut mistakes);
    let file = if let ServedFrom::File(file) = served { Some(&*file.path) } else { None };
    overlap::check(&apps, &config, file, &mut mistakes);
    let wrong = mistakes.apps();
    let right = apps.into_iter().map(|found| found.app).filter(|app| !wrong.contains(app.name.as_str()));
    config.apps = right.map(Arc::new).collect();
    (config, mistakes)
}

/// Reads the file's tables: the places of the host's settings, and the apps.
fn of_tables(
    file: &ConfigFile,
    capabilities: Capabilities,
    decisions: &[(&'static Setting, &Given)],
    drafts: &mut Drafts,
    mistakes: &mut Mistakes,
) -> (ValuePlaces, Vec<FoundApp>) {
    let table = file::parse(&file.text, mistakes);
    let decided: HashSet<&'static str> = decisions.iter().map(|(setting, _)| setting.name).collect();
    drafts.start_at(&Folder::of(file.folder()));
    let mut reader = TableReader { mistakes, decided: &decided, app: None, places: ValuePlaces::default() };
    reader.table(&table, &Keys::of_host(capabilities), drafts);
    let places = std::mem::take(&mut reader.places);
    match table.get(DEFAULTS).map(|value| (at(value), value.get_ref())) {
        Some((_, DeValue::Table(defaults))) => reader.table(defaults, &Keys::of_defaults(capabilities), drafts),
        Some((at, _)) => reader.mistakes.at(at, None, "`defaults` must be a table: `[defaults]`"),
        None => {}
    }
    drafts.app.end_place();
    // Flags count for all apps; their paths begin at the current folder.
    drafts.start_at(&Folder::current());
    let declared_before = std::mem::take(&mut drafts.app.app.grants.declared);
    apply(decisions, drafts, reader.mistakes);
    let top = drafts.listener.clone();
    drafts.start_at(&Folder::of(file.folder()));
    let mut more = Vec::new();
    const LISTENER: &str = "[[listener]]`, and below it `listen = \"0.0.0.0:443\"";
    for (begin, table) in tables_of(LISTENERS, LISTENER, &table, reader.mistakes) {
        drafts.listener = ListenerDraft::new(drafts.listener.folder.clone(), top.has_inherited_socket);
        reader.table(table, &Keys::of_listener(), drafts);
        let places = std::mem::take(&mut reader.places);
        if places.of("listen").is_none() {
            reader.mistakes.absent(begin, None, "this listener has no address: write `listen = \"0.0.0.0:443\"`");
        }
        more.push((drafts.listener.clone(), begin, places));
    }
    // Who says by a flag where to listen wants no other address.
    more.retain(|_| !decided.contains("listen"));
    end_listeners(drafts, top, &places, more, reader.mistakes);
    for (begin, table) in tables_of(STORES, "[[store]]`, and below it `name = \"…\"", &table, reader.mistakes) {
        drafts.store.settings = StoreSettings::default();
        reader.table(table, &Keys::of_store(), drafts);
        reader.places = ValuePlaces::default();
        add_store(std::mem::take(&mut drafts.store.settings), begin, &mut drafts.host.config.stores, reader.mistakes);
    }
    drafts.start_at(&Folder::current());
    let variables = drafts.app.take_variables();
    let declared = std::mem::replace(&mut drafts.app.app.grants.declared, declared_before);
    drafts.start_at(&Folder::of(file.folder()));
    let (keys, base) = (Keys::of_app(capabilities), drafts.app.clone());
    let mut apps = Vec::new();
    for (begin, table) in tables_of_apps(&table, reader.mistakes) {
        drafts.app.clone_from(&base);
        reader.app = name_in(table);
        reader.table(table, &keys, drafts);
        drafts.app.end_place();
        let mut app = drafts.app.app.clone();
        app.schedules = reader.schedules(table, drafts);
        app.grants.env.extend(variables.iter().cloned());
        app.grants.declared.put_over(&declared);
        apps.push(FoundApp { app, place: Some(AppPlace { begin, places: std::mem::take(&mut reader.places) }) });
    }
    (places, apps)
}

/// Puts the listeners of all places together: of the top with the flags, and of the file's tables.
fn end_listeners(
    drafts: &mut Drafts,
    mut top: ListenerDraft,
    at_top: &ValuePlaces,
    more: Vec<(ListenerDraft, Offset, ValuePlaces)>,
    mistakes: &mut Mistakes,
) {
    if top.listens.is_empty() && more.is_empty() {
        top.listen_by_default();
    }
    if let Some(key) = top.says().filter(|_| top.listens.is_empty()) {
        let reason = format!(
            "`{key}` is for addresses that are named in the same place, and there are none: write `listen` beside it, or write it below each `[[listener]]`"
        );
        match at_top.of(key) {
            Some(at) => mistakes.at(at, None, reason),
            None => mistakes.note(flag_of(key), reason),
        }
    }
    let mut add = |draft: ListenerDraft, begin: Option<Offset>, places: &ValuePlaces| {
        let listeners = &mut drafts.host.config.listeners;
        let added = draft.finish().and_then(|more| {
            listener::add(listeners, more)
                .map_err(|(listen, reason)| ("listen", format!("`{}` {reason}", listened(&listen))))
        });
        let Err((key, reason)) = added else { return };
        match places.of(key).or(begin) {
            Some(at) => mistakes.at(at, None, format!("{key}: {reason}")),
            None => mistakes.note(flag_of(key), reason),
        }
    };
    add(top, None, at_top);
    more.into_iter().for_each(|(draft, begin, places)| add(draft, Some(begin), &places));
}

/// The flag of a key of addresses.
fn flag_of(key: &str) -> String {
    settings::of_listener().find(|setting| setting.key == key).map_or_else(|| key.to_owned(), Setting::flag)
}

/// The tables of this key, and where each begins. `expected`: how they are written.
fn tables_of<'t>(
    key: &str,
    expected: &str,
    table: &'t DeTable<'t>,
    mistakes: &mut Mistakes,
) -> Vec<(Offset, &'t DeTable<'t>)> {
    let Some(value) = table.get(key) else { return Vec::new() };
    let DeValue::Array(values) = value.get_ref() else {
        mistakes.at(at(value), None, format!("`{key}` must be a list of tables: write `{expected}`"));
        return Vec::new();
    };
    let mut tables = Vec::new();
    for value in values {
        match value.get_ref() {
            DeValue::Table(table) => tables.push((at(value), table)),
            _ => mistakes.at(at(value), None, format!("a {key} must be a table: write `{expected}`")),
        }
    }
    tables
}

/// Adds a store that apps share.
fn add_store(store: StoreSettings, begin: Offset, stores: &mut Vec<StoreSettings>, mistakes: &mut Mistakes) {
    if store.name.is_empty() {
        mistakes.absent(begin, None, "this store has no name: write `name = \"…\"`");
    } else if stores.iter().any(|other| other.name == store.name) {
        mistakes.at(begin, None, format!("two stores have the name `{}`; names are unique", shown(&store.name)));
    } else if let Some(reason) = store.wrong_beside(stores) {
        mistakes.at(begin, None, format!("the store `{}` {reason}", shown(&store.name)));
    } else {
        stores.push(store);
    }
}

/// The tables of the apps, and where each begins.
pub(super) fn tables_of_apps<'t>(table: &'t DeTable<'t>, mistakes: &mut Mistakes) -> Vec<(Offset, &'t DeTable<'t>)> {
    const EXPECTED: &str = "write `[[app]]`, and below it `name = \"…\"` and `component = \"….wasm\"`";
    let Some(value) = table.get(APPS) else {
        mistakes.absent(Offset(0), None, format!("there is no app: {EXPECTED}"));
        return Vec::new();
    };
    let DeValue::Array(values) = value.get_ref() else {
        mistakes.at(at(value), None, format!("`app` must be a list of tables: {EXPECTED}"));
        return Vec::new();
    };
    if values.is_empty() {
        mistakes.absent(at(value), None, format!("there is no app: {EXPECTED}"));
    }
    if values.len() > APPS_MAX {
        let reason =
            format!("there are {} apps, and a host serves {APPS_MAX} at most: divide them between hosts", values.len());
        mistakes.at(values.get(APPS_MAX).map_or(Offset(0), at), None, reason);
        return Vec::new();
    }
    let mut tables = Vec::new();
    for value in values {
        match value.get_ref() {
            DeValue::Table(table) => tables.push((at(value), table)),
            _ => mistakes.at(at(value), None, format!("an app must be a table: {EXPECTED}")),
        }
    }
    tables
}

/// The name of an app whose other values are not read yet.
fn name_in(table: &DeTable<'_>) -> Option<String> {
    let name = table.get("name")?.get_ref().as_str()?;
    parse::name(name).ok()
}

/// Checks and stores what flags and variables say.
fn apply(given: &[(&'static Setting, &Given)], drafts: &mut Drafts, mistakes: &mut Mistakes) {
    for (setting, given) in given {
        let name = given.name_in_messages(setting);
        if let Takes::Lines { most, beyond } = setting.takes
            && given.values.len() > most
        {
            mistakes.note(format!("{name} `{} times`", given.values.len()), format!("{most} {beyond}"));
            continue;
        }
        drafts.clear(setting);
        for value in &given.values {
            if let Err(reason) = drafts.set(setting, value) {
                mistakes.note(format!("{name} `{}`", shown(&in_messages(setting, value))), reason);
            }
            for (place, reason) in std::mem::take(&mut drafts.app.wrong_lines) {
                mistakes.note(format!("{name} `{}`", shown(&place)), reason);
            }
        }
    }
}

/// The name of the app that a component on the command line is: the file's, without folders and ending, in the
/// characters that names have.
fn name_of(component: &Path) -> String {
    let stem = component.file_stem().unwrap_or_default().to_string_lossy();
    let allowed = |character| if parse::is_of_name(character) { character } else { '-' };
    let name: String = stem.chars().map(allowed).take(parse::NAME_BYTES_MAX).collect();
    if name.is_empty() { "app".to_owned() } else { name }
}

#[cfg(test)]
mod tests;
