//! componentize-py's error messages, rewritten for the project: without its own stack frames, and with the paths that the files
//! have on this machine.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use wasmhost_sandbox::WasiVersion;

use super::environment::{REQUIREMENTS, VENV};
use super::settings::PythonSettings;

/// `paths` are those that the application and its libraries were looked for in.
pub(super) fn explain(said: &str, paths: &[PathBuf], folder: &Path, settings: &PythonSettings) -> String {
    let mut text = on_this_machine(without_own_frames(said), paths);
    if let Some(hint) = hint(&text, folder, settings) {
        let end = if text.ends_with('\n') { "" } else { "\n" };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{end}hint: {hint}");
    }
    text
}

/// componentize-py is a Python program, which raises the application's trace as the text of an exception of its own, and
/// says its last line again as the cause.
fn without_own_frames(said: &str) -> &str {
    const RAISED: &str = "\nAssertionError: ";
    let told = match said.split_once(RAISED) {
        Some((own, told)) if own.starts_with("Traceback") && own.contains("componentize-py") => told,
        _ => return said,
    };
    // With RUST_BACKTRACE.
    let told = told.split("\n\nStack backtrace:\n").next().unwrap_or(told);
    match told.split_once("\n\nCaused by:\n") {
        Some((trace, cause)) if trace.contains("  File \"/") || trace.trim() == cause.trim() => trace.trim_end(),
        _ => told,
    }
}

/// In the component, the first path is `/0`, the second `/1`, and so on.
fn on_this_machine(said: &str, paths: &[PathBuf]) -> String {
    paths.iter().enumerate().fold(said.to_owned(), |text, (number, path)| {
        text.replace(&format!("File \"/{number}/"), &format!("File \"{}/", path.display()))
    })
}

fn hint(said: &str, folder: &Path, settings: &PythonSettings) -> Option<String> {
    let (class, module) = (handler(settings.wasi), &settings.module);
    if let Some((_, rest)) = said.split_once("ModuleNotFoundError: No module named '") {
        let (missing, _) = rest.split_once('\'')?;
        return Some(if missing == module {
            format!("`app` in `[tool.wasmhost]` of pyproject.toml names the module that has the class `{class}`")
        } else if folder.join(VENV).is_dir() {
            format!("if `{missing}` is a third-party package, add it to {REQUIREMENTS}: the next build installs it")
        } else {
            format!(
                "if `{missing}` is a third-party package, add it to {REQUIREMENTS}, and: python3 -m venv {VENV} && \
                 {VENV}/bin/pip install -r {REQUIREMENTS}"
            )
        });
    }
    let is_missing = said.contains(&format!("'{class}'")) && said.contains("AttributeError");
    is_missing.then(|| format!("the module `{module}` must have the class: `{class} = app.handler()`"))
}

/// The class that the component's handler is.
fn handler(wasi: WasiVersion) -> &'static str {
    match wasi {
        WasiVersion::P2 => "IncomingHandler",
        WasiVersion::P3 => "Handler",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(said: &str) -> String {
        let settings = PythonSettings { wasi: WasiVersion::P2, world: None, module: "app".to_owned() };
        let paths = ["/home/ada/shop", "/home/ada/shop/.venv/lib/python3.12/site-packages"].map(PathBuf::from);
        explain(said, &paths, Path::new("/home/ada/shop"), &settings)
    }

    #[test]
    fn a_trace_is_the_applications_with_its_own_files() {
        let said = "Traceback (most recent call last):\n  File \"/x/.venv/bin/componentize-py\", line 7, in <module>\n    \
             sys.exit(script())\n             ~~~~~~^^\nAssertionError: Traceback (most recent call last):\n  \
             File \"/0/app.py\", line 3, in <module>\n    import slugify\n  \
             File \"/1/slugify/__init__.py\", line 2, in <module>\nModuleNotFoundError: No module named 'text_unidecode'\n\n\n\
             Caused by:\n    ModuleNotFoundError: No module named 'text_unidecode'\n\n\
             Stack backtrace:\n   0: <anyhow::Error>::msg\n";
        let expected = "Traceback (most recent call last):\n  File \"/home/ada/shop/app.py\", line 3, in <module>\n    \
             import slugify\n  \
             File \"/home/ada/shop/.venv/lib/python3.12/site-packages/slugify/__init__.py\", line 2, in <module>\n\
             ModuleNotFoundError: No module named 'text_unidecode'\nhint: if `text_unidecode` is a third-party package, ";
        let text = explained(said);
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn what_is_said_otherwise_stays_as_it_is() {
        let said = "Traceback (most recent call last):\n  File \"/home/ada/x.py\", line 1\nAssertionError: no\n";
        assert_eq!(explained(said), said);
        assert_eq!(explained("error: unexpected argument"), "error: unexpected argument");
    }

    #[test]
    fn the_modules_and_classes_that_are_looked_for_are_named() {
        let own = "Traceback (most recent call last):\n  File \"/x/bin/componentize-py\", line 8, in <module>\nAssertionError: ";
        let of = |error: &str| explained(&format!("{own}{error}\n\n\nCaused by:\n    {error}\n"));
        assert_eq!(
            of("ModuleNotFoundError: No module named 'app'"),
            "ModuleNotFoundError: No module named 'app'\n\
             hint: `app` in `[tool.wasmhost]` of pyproject.toml names the module that has the class `IncomingHandler`\n"
        );
        assert_eq!(
            of("AttributeError: module 'app' has no attribute 'IncomingHandler'"),
            "AttributeError: module 'app' has no attribute 'IncomingHandler'\n\
             hint: the module `app` must have the class: `IncomingHandler = app.handler()`\n"
        );
    }
}
