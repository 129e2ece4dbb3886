//! What pyproject.toml says of how to build.

use wasmhost_sandbox::WasiVersion;

/// The settings in `[tool.wasmhost]` of pyproject.toml.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PythonSettings {
    /// Which wasi the application handles (`wasi = "0.3"`).
    pub(super) wasi: WasiVersion,
    /// The world in `wit/`, where it is one of the user's own.
    pub(super) world: Option<String>,
    /// The application's module (`app = "app"`).
    pub(super) module: String,
}

impl PythonSettings {
    pub(super) fn read(pyproject: &str) -> Self {
        let table: toml::Table = pyproject.parse().unwrap_or_default();
        let own = table.get("tool").and_then(|tool| tool.get("wasmhost"));
        let word = |name: &str| Some(own?.get(name)?.as_str()?.to_owned());
        let wasi = if word("wasi").as_deref() == Some("0.3") { WasiVersion::P3 } else { WasiVersion::P2 };
        Self { wasi, world: word("world"), module: word("app").unwrap_or_else(|| "app".to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pyproject_tells_the_module_and_the_wasi() {
        let settings = PythonSettings::read("[tool.wasmhost]\napp = \"shop.main\"\nwasi = \"0.3\"\n");
        let expected = PythonSettings { wasi: WasiVersion::P3, world: None, module: "shop.main".to_owned() };
        assert_eq!(settings, expected);
        let plain = PythonSettings { wasi: WasiVersion::P2, world: None, module: "app".to_owned() };
        assert_eq!(PythonSettings::read("[project]\nname = \"shop\"\n"), plain);
        assert_eq!(PythonSettings::read("not toml ="), plain);
    }
}
