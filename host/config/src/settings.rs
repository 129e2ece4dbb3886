//! Every setting, written down once: a file below `settings/` for each heading. The flags, the variables, the keys of
//! `wasmhost.toml` with their JSON Schema, `wasmhost config show`, `docs/REFERENCE.md` and `docs/CONFIGURATION.md` are made
//! from these tables.

mod apps;
mod compilation;
mod crashes;
pub(crate) mod entry;
mod grants;
mod limits;
mod outgoing;
mod output;
mod reloads;
mod schedules;
mod serving;
mod stores;
mod tls;
mod traces;

use crate::capability::{Capabilities, Declaration};

use self::entry::Group;
pub(crate) use self::entry::Of;
pub use self::entry::{Form, Setting, Takes};

/// The host's own settings with a flag, by their headings.
const GROUPS: &[Group] = &[
    serving::GROUP,
    tls::GROUP,
    limits::GROUP,
    grants::GROUP,
    outgoing::GROUP,
    reloads::GROUP,
    output::GROUP,
    crashes::GROUP,
    traces::GROUP,
    compilation::GROUP,
];

/// The headings below which there are settings of apps.
pub(crate) const HEADINGS_OF_APPS: [&str; 3] = [limits::GROUP.heading, grants::GROUP.heading, outgoing::GROUP.heading];

/// The heading of what guests are granted.
pub(crate) const GRANTS: &str = grants::GROUP.heading;

/// The heading of the settings that compiling has.
pub(crate) const COMPILATION: &str = compilation::GROUP.heading;

/// Settings of apps without a flag, which may also stand in `[defaults]`.
const FILE_ONLY: &[Setting] = apps::FILE_ONLY;

/// Settings without a flag that differ between apps.
pub const ONE_APP_ONLY: &[Setting] = apps::ONE_APP_ONLY;

/// Those of an `[[app.schedule]]`.
pub const OF_SCHEDULE: &[Setting] = schedules::SCHEDULE;

/// All settings with a flag, in the order of the help, with their headings. Those of capabilities are grants.
pub fn with_headings(capabilities: Capabilities) -> impl Iterator<Item = (&'static str, &'static Setting)> {
    GROUPS.iter().flat_map(move |group| {
        let are_grants = group.heading == grants::GROUP.heading;
        let declared = are_grants.then(|| capabilities.settings()).into_iter().flatten();
        group.settings.iter().chain(declared).map(|setting| (group.heading, setting))
    })
}

/// All settings with a flag, in the order of the help.
pub fn all(capabilities: Capabilities) -> impl Iterator<Item = &'static Setting> {
    with_headings(capabilities).map(|(_, setting)| setting)
}

/// Those at the top of the file.
pub fn of_host() -> impl Iterator<Item = &'static Setting> {
    all(Capabilities::NONE).filter(|setting| !setting.is_of_app())
}

/// Those of a `[[listener]]`.
pub fn of_listener() -> impl Iterator<Item = &'static Setting> {
    of_host().filter(|setting| setting.is_of_listener())
}

/// Those of a `[[store]]`.
pub fn of_store() -> impl Iterator<Item = &'static Setting> {
    stores::STORE.iter()
}

/// Those in `[defaults]`.
pub fn of_defaults(capabilities: Capabilities) -> impl Iterator<Item = &'static Setting> {
    FILE_ONLY.iter().chain(all(capabilities).filter(|setting| setting.is_of_app()))
}

/// Those of an app in the file.
pub fn of_app(capabilities: Capabilities) -> impl Iterator<Item = &'static Setting> {
    ONE_APP_ONLY.iter().chain(of_defaults(capabilities))
}

impl Declaration {
    /// The setting that is proposed for granting it: one of its own, or one that apps have anyway.
    pub fn grant(&self) -> Option<&'static Setting> {
        let name = self.granted_by.first()?;
        self.settings.iter().chain(of_app(Capabilities::NONE)).find(|setting| setting.name == *name)
    }
}
