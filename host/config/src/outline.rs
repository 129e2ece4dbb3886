//! What a `wasmhost.toml` says its apps are made from, for commands that only build or look: nothing else in the file is
//! checked, and none of what it names is opened.

use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::build::tables_of_apps;
use super::document::at;
use super::draft::Folder;
use super::file::{self, ConfigFile};
use super::mistake::{Mistake, Mistakes};
use super::{App, parse};

/// What an app is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// The app's name.
    pub app: String,
    /// The file of its component, as an absolute path.
    pub component: PathBuf,
    /// The folder of the project that makes it, if the file names one.
    pub project: Option<PathBuf>,
}

/// Reads what the apps of a file are made from, in the file's order.
///
/// # Errors
/// The mistakes in it that keep from knowing that.
pub fn outline(path: &Path) -> Result<Vec<Outline>, Vec<Mistake>> {
    let file = match ConfigFile::read(path) {
        Ok(file) => file,
        Err(reason) => return Err(vec![Mistake { place: path.display().to_string(), app: None, reason }]),
    };
    let mut mistakes = Mistakes::default();
    let table = file::parse(&file.text, &mut mistakes);
    let folder = Folder::of(file.folder());
    let mut apps = Vec::new();
    for (begin, table) in tables_of_apps(&table, &mut mistakes) {
        let name = text(table, "name", &mut mistakes).map(parse::name);
        let component = path_in(table, "component", &folder, &mut mistakes);
        let project = path_in(table, "project", &folder, &mut mistakes);
        match (name, component, project) {
            (Some(Ok(app)), component, Some(project)) => {
                let component = component.unwrap_or_else(|| App::component_of(&project, &app));
                apps.push(Outline { app, component, project: Some(project) });
            }
            (Some(Ok(app)), Some(component), None) => apps.push(Outline { app, component, project: None }),
            (Some(Ok(app)), None, None) => {
                mistakes.absent(begin, Some(&app), "this app has no `component` and no `project`");
            }
            (Some(Err(reason)), ..) => mistakes.at(begin, None, format!("the name of this app {reason}")),
            (None, ..) => mistakes.absent(begin, None, "this app has no name: write `name = \"…\"`"),
        }
    }
    if mistakes.is_empty() { Ok(apps) } else { Err(mistakes.finish(&file.name, &file.text)) }
}

/// The `data-dir` that a file names, as a path from where the file is; none if it names none.
///
/// # Errors
/// The mistakes in it that keep from knowing that.
pub fn data_dir(path: &Path) -> Result<Option<PathBuf>, Vec<Mistake>> {
    let file = match ConfigFile::read(path) {
        Ok(file) => file,
        Err(reason) => return Err(vec![Mistake { place: path.display().to_string(), app: None, reason }]),
    };
    let mut mistakes = Mistakes::default();
    let table = file::parse(&file.text, &mut mistakes);
    let named = path_in(&table, "data-dir", &Folder::of(file.folder()), &mut mistakes);
    if mistakes.is_empty() { Ok(named) } else { Err(mistakes.finish(&file.name, &file.text)) }
}

fn text<'t>(table: &'t DeTable<'_>, key: &str, mistakes: &mut Mistakes) -> Option<&'t str> {
    let value = table.get(key)?;
    let text = value.get_ref().as_str();
    if text.is_none() {
        mistakes.at(at(value), None, format!("`{key}` must be a text in quotes"));
    }
    text
}

fn path_in(table: &DeTable<'_>, key: &str, folder: &Folder, mistakes: &mut Mistakes) -> Option<PathBuf> {
    let path = folder.path(text(table, key, mistakes)?);
    match path {
        Ok(path) => Some(path),
        Err(reason) => {
            mistakes.at(table.get(key).map_or(super::mistake::Offset(0), at), None, format!("`{key}` {reason}"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Found = Result<Result<Vec<Outline>, Vec<String>>, std::io::Error>;

    fn outline_of(text: &str) -> Found {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("wasmhost.toml");
        std::fs::write(&file, text)?;
        let relative = |path: &Path| path.strip_prefix(folder.path()).unwrap_or(path).to_owned();
        let apps = outline(&file).map(|apps| {
            let apps = apps.into_iter().map(|app| Outline {
                component: relative(&app.component),
                project: app.project.as_deref().map(relative),
                ..app
            });
            apps.collect()
        });
        Ok(apps.map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn apps_are_made_from_projects_or_come_as_components_whatever_else_is_wrong() -> std::io::Result<()> {
        let text = "unknown = 1\n[[app]]\nname = \"shop\"\nproject = \"shop\"\ndirs = [\"/missing::/\"]\n\
            [[app]]\nname = \"blog\"\nproject = \"b\"\ncomponent = \"out/blog.wasm\"\n\
            [[app]]\nname = \"old\"\ncomponent = \"old.wasm\"\n";
        let app = |app: &str, component: &str, project: Option<&str>| Outline {
            app: app.to_owned(),
            component: component.into(),
            project: project.map(PathBuf::from),
        };
        let expected = [
            app("shop", "shop/shop.wasm", Some("shop")),
            app("blog", "out/blog.wasm", Some("b")),
            app("old", "old.wasm", None),
        ];
        assert_eq!(outline_of(text)?.as_deref(), Ok(&expected[..]));
        Ok(())
    }

    #[test]
    fn an_app_that_cannot_be_told_is_a_mistake_with_its_place() -> std::io::Result<()> {
        for (text, expected) in [
            ("[[app]]\nproject = \"a\"\n", ":1:1: this app has no name"),
            ("[[app]]\nname = \"a\"\n", "this app has no `component` and no `project`"),
            ("[[app]]\nname = \"a\"\nproject = 1\n", ":3:11: `project` must be a text in quotes"),
            ("[[app]]\nname = \"a\"\nproject = \"\"\n", "`project` names no file"),
        ] {
            let mistakes = outline_of(text)?.err().unwrap_or_default();
            assert!(mistakes.iter().any(|mistake| mistake.contains(expected)), "{expected}: {mistakes:?}");
        }
        Ok(())
    }
}
