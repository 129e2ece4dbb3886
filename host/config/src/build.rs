//! Turns the text of all settings into a [`Config`], or into a list of all mistakes in them. What is checked, and how, stands
//! in [`super::settings`].

use std::path::Path;

use super::cli::{CompileBounds, ServeArgs, Values};
use super::draft::{Draft, Mistake};
use super::machine::Machine;
use super::settings::Takes;
use super::{CacheChoice, Compilation, Config};

/// Checks every value of `args`.
///
/// # Errors
/// All mistakes, in the order of the flags in the help.
pub fn build(args: &ServeArgs, machine: Machine) -> Result<Config, Vec<Mistake>> {
    let mut draft = Draft::new(machine);
    draft.app.component = args.component.clone().unwrap_or_default();
    draft.app.name = name_of(&draft.app.component);
    read(&mut draft, &args.values);
    draft.finish()
}

/// The bounds of `wasmhost compile`, which keeps nothing in the cache.
///
/// # Errors
/// The mistakes in them.
pub fn compile_bounds(bounds: &CompileBounds) -> Result<Compilation, Vec<Mistake>> {
    let mut draft = Draft::new(Machine { cores: 1, memory_bytes: 0, has_inherited_socket: false });
    read(&mut draft, &bounds.0);
    draft.finish().map(|config| Compilation { cache: CacheChoice::Off, ..config.compilation })
}

/// The name of an app that has none: its component's, without folders and ending.
fn name_of(component: &Path) -> String {
    component.file_stem().map_or_else(|| "app".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

/// Checks and stores all values.
fn read(draft: &mut Draft, values: &Values) {
    for (setting, values) in values {
        if let Takes::Lines { most, beyond } = setting.takes
            && values.len() > most
        {
            draft.wrong(&setting.flag(), format!("{} times", values.len()), format!("{most} {beyond}"));
            continue;
        }
        for value in values {
            if let Err(reason) = (setting.set)(draft, value) {
                draft.wrong(&setting.flag(), value.as_str(), reason);
            }
        }
    }
}
