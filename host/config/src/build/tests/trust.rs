//! What guests may not write, since the host trusts it, and what they may not even read.

use super::*;

#[test]
fn a_guest_may_not_write_what_the_host_trusts() {
    let head = "cache-dir = \"keep/cache\"\ndata-dir = \"keep/state\"\nlisten = \"unix:run/a.sock\"\n";
    let app = |name: &str, more: &str| {
        format!("[[app]]\nname = \"{name}\"\ncomponent = \"code/{name}.wasm\"\nroutes = [\"{name}.test/*\"]\n{more}")
    };
    for (dir, what) in [
        (".", Some("`data-dir` is in it")),
        ("keep", Some("`data-dir` is in it")),
        ("keep/cache", Some("the cache")),
        ("keep/cache/below", Some("it is in the cache")),
        ("keep/state", Some("it is in `data-dir`")),
        ("keep/state/below", Some("it is in `data-dir`")),
        ("run", Some("a socket of the host")),
        ("code", Some("a component")),
        ("link-to-code", Some("a component")),
        ("code/below", None),
        ("run/below", None),
        ("elsewhere", None),
    ] {
        // What all apps have stored may not be read, either.
        let is_secret = what.is_some_and(|what| what.contains("`data-dir`"));
        for (mode, is_refused) in [(":rw", what.is_some()), ("", is_secret)] {
            let granted = format!("dirs = [\"{dir}::/d{mode}\"]\n");
            let folder = folder(&(head.to_owned() + &app("writes", &granted) + &app("other", "")));
            let at = |path: &str| folder.path().join(path);
            for below in ["keep/cache/below", "keep/state/below", "run/below", "code/below", "elsewhere"] {
                fs::create_dir_all(at(below)).unwrap();
            }
            std::os::unix::fs::symlink("code", at("link-to-code")).unwrap();
            let wrong = read_in(folder.path(), &[]).err().unwrap_or_default();
            // Where the other app's component can be written, that app is wrong, too.
            let has_component = mode == ":rw" && [".", "code", "link-to-code"].contains(&dir);
            let (of_writer, of_other): (Vec<_>, Vec<_>) =
                wrong.iter().partition(|wrong| wrong.app.as_deref() == Some("writes"));
            assert_eq!(of_writer.len(), usize::from(is_refused), "{dir}{mode}: {wrong:?}");
            assert_eq!(of_other.len(), usize::from(is_refused && has_component), "{dir}{mode}: {wrong:?}");
            let way_out = if is_secret { "guests may not read" } else { "without `:rw`" };
            let is_named = |text: &str| text.contains(what.unwrap_or_default()) && text.contains(way_out);
            assert!(of_writer.iter().all(|wrong| is_named(&wrong.to_string())), "{dir}{mode}: {wrong:?}");
            let tells_who = |text: &str| text.contains("guests of the app `writes` may write to");
            assert!(of_other.iter().all(|wrong| tells_who(&wrong.to_string())), "{dir}{mode}: {wrong:?}");
        }
    }
}

#[test]
fn a_link_that_guests_could_replace_does_not_hide_what_the_host_trusts() {
    let app = |name: &str, component: &str, more: &str| {
        format!("[[app]]\nname = \"{name}\"\ncomponent = \"{component}\"\nroutes = [\"{name}.test/*\"]\n{more}")
    };
    let text = |head: &str, component: &str, mode: &str| {
        let dirs = format!("dirs = [\"data/rw::/d{mode}\"]\n");
        format!("{head}{}{}", app("writes", "srv/writes.wasm", &dirs), app("other", component, ""))
    };
    let (none, file) = ("cache-dir = \"off\"\n", "srv/other.wasm");
    for (head, component, what) in [
        (none, file, None),
        ("cache-dir = \"data/rw/cache\"\n", file, Some("the cache (`cache-dir`) is in it")),
        ("cache-dir = \"srv/to-cache/below\"\n", file, Some("the cache (`cache-dir`) is in it")),
        ("cache-dir = \"data/rw/nothing/new\"\n", file, Some("the cache (`cache-dir`) is in it")),
        ("cache-dir = \"off\"\ndata-dir = \"data/rw/cache\"\n", file, Some("`data-dir` is in it")),
        ("cache-dir = \"off\"\nlisten = \"unix:srv/to-cache/web.sock\"\n", file, Some("a socket of the host is in it")),
        (none, "data/rw/current.wasm", Some("a component is in it")),
        (none, "srv/to-current.wasm", Some("a component is in it")),
        (none, "srv/to-folder/r.wasm", Some("a component is in it")),
        (none, "srv/by-way-of.wasm", Some("a component is in it")),
    ] {
        for (mode, is_refused) in [(":rw", what.is_some()), ("", head.contains("data-dir"))] {
            let folder = folder(&text(head, component, mode));
            let at = |path: &str| folder.path().join(path);
            for below in ["data/rw/real", "opt/cache/below", "srv"] {
                fs::create_dir_all(at(below)).unwrap();
            }
            for (link, target) in [
                ("data/rw/cache", "../../opt/cache"),
                ("data/rw/folder", "../../opt"),
                ("data/rw/nothing", "../../opt/nothing"),
                ("data/rw/current.wasm", "../../opt/r.wasm"),
                ("srv/to-cache", "../data/rw/cache"),
                ("srv/to-current.wasm", "../data/rw/current.wasm"),
                ("srv/to-folder", "../data/rw/folder"),
                // No link is in the directory, but guests could make one of the folder through which this one leads.
                ("srv/by-way-of.wasm", "../data/rw/real/../../../opt/r.wasm"),
            ] {
                std::os::unix::fs::symlink(target, at(link)).unwrap();
            }
            fs::write(at("opt/r.wasm"), "").unwrap();
            let wrong = read_in(folder.path(), &[]).err().unwrap_or_default();
            let says = |app: &str, text: &str| {
                wrong.iter().any(|wrong| wrong.app.as_deref() == Some(app) && wrong.reason.contains(text))
            };
            let case = format!("{head}{component}{mode}: {wrong:?}");
            assert_eq!(says("writes", what.unwrap_or("guests may not")), is_refused, "{case}");
            assert_eq!(says("other", "`writes` may write to"), is_refused && component != file, "{case}");
            assert!(is_refused || wrong.is_empty(), "{case}");
        }
    }
}

#[test]
fn the_file_of_settings_is_trusted_where_a_link_to_it_is_too() {
    let folder = folder("cache-dir = \"off\"\n[[app]]\nname = \"a\"\ncomponent = \"/none/a.wasm\"\n");
    let at = |path: &str| folder.path().join(path);
    for below in ["etc", "rw", "conf"] {
        fs::create_dir(at(below)).unwrap();
    }
    let text =
        fs::read_to_string(at("wasmhost.toml")).unwrap() + &format!("dirs = [\"{}::/d:rw\"]\n", at("rw").display());
    fs::write(at("conf/wasmhost.toml"), text).unwrap();
    std::os::unix::fs::symlink("../conf/wasmhost.toml", at("rw/current.toml")).unwrap();
    std::os::unix::fs::symlink("../rw/current.toml", at("etc/wasmhost.toml")).unwrap();
    assert!(read_in(&at("conf"), &[]).is_ok());
    let wrong = read_in(&at("etc"), &[]).unwrap_err();
    assert!(wrong.len() == 1 && wrong[0].reason.contains("the file of settings is in it"), "{wrong:?}");
}
