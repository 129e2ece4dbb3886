//! Every setting, written down once: a file below `settings/` for each heading. The flags, the variables, the keys of
//! `wasmhost.toml` with their JSON Schema, `wasmhost config show`, `docs/REFERENCE.md` and `docs/CONFIGURATION.md` are made
//! from these tables.

mod apps;
mod compilation;
mod entry;
mod grants;
mod limits;
mod output;
mod serving;

pub(crate) use self::entry::Of;
pub use self::entry::{Form, Group, Setting, Takes};

/// The settings with a flag, by their headings.
pub const GROUPS: &[Group] = &[serving::GROUP, limits::GROUP, grants::GROUP, output::GROUP, compilation::GROUP];

/// Settings of apps without a flag, which may also stand in `[defaults]`.
pub const FILE_ONLY: &[Setting] = apps::FILE_ONLY;

/// Settings without a flag that differ between apps.
pub const ONE_APP_ONLY: &[Setting] = apps::ONE_APP_ONLY;

/// All settings with a flag, in the order of the help.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    GROUPS.iter().flat_map(|group| group.settings)
}

/// Those at the top of the file.
pub fn of_host() -> impl Iterator<Item = &'static Setting> {
    all().filter(|setting| !setting.is_of_app())
}

/// Those in `[defaults]`.
pub fn of_defaults() -> impl Iterator<Item = &'static Setting> {
    FILE_ONLY.iter().chain(all().filter(|setting| setting.is_of_app()))
}

/// Those of an app in the file.
pub fn of_app() -> impl Iterator<Item = &'static Setting> {
    ONE_APP_ONLY.iter().chain(of_defaults())
}
