//! Capabilities that an app is granted by settings of their own (`host/sandbox/src/capability.rs`): `wasi:config/store`, which
//! gives an app values by their names.

use std::process::Command;

use serde_json::Value;

use crate::support::apps::{Folder, app, ask, ask_until_loaded};
use crate::support::{Server, TestResult, command, eventually, get, guest, run, wat};

/// A guest of wasi 0.2 that answers with the value whose name the path is (13 bytes of it, dots behind a shorter one), with
/// `(none)`, or, to `/*`, with the number of all values. `version`: of the interface that it imports.
pub fn reader(version: &str) -> tempfile::NamedTempFile {
    let component = format!(
        r#"
  (import "wasi:config/store@{version}" (instance $config
    (type $error-shape (variant (case "upstream" string) (case "io" string)))
    (export "error" (type $error (eq $error-shape)))
    (export "get" (func (param "key" string) (result (result (option string) (error $error)))))
    (export "get-all" (func (result (result (list (tuple string string)) (error $error)))))))
  (core func $get (canon lower (func $config "get") (memory $memory) (realloc $realloc)))
  (core func $get-all (canon lower (func $config "get-all") (memory $memory) (realloc $realloc)))
"#
    );
    let more = wat::More {
        component: &component,
        imports: &[("get", "(param i32 i32 i32)"), ("get-all", "(param i32)")],
        module: r#"(data (i32.const 320) "(none)")
    (func $show (param $at i32) (param $length i32)
      (memory.fill (i32.const 288) (i32.const 46) (i32.const 13))
      (if (i32.gt_u (local.get $length) (i32.const 13)) (then (local.set $length (i32.const 13))))
      (memory.copy (i32.const 288) (local.get $at) (local.get $length)))
    (func $config (param $at i32) (param $length i32)
      (if (i32.eq (i32.load8_u (local.get $at)) (i32.const 42)) ;; *
        (then
          (call $get-all (global.get $result))
          (call $check)
          (i32.store8 (i32.const 330) (i32.add (i32.const 48) (i32.load offset=8 (global.get $result))))
          (call $show (i32.const 330) (i32.const 1))
          (return)))
      (call $get (local.get $at) (local.get $length) (global.get $result))
      (call $check)
      (if (i32.load8_u offset=4 (global.get $result))
        (then (call $show (i32.load offset=8 (global.get $result)) (i32.load offset=12 (global.get $result))))
        (else (call $show (i32.const 320) (i32.const 6)))))
"#,
        handle: r#"(call $config (i32.add (i32.load offset=4 (global.get $result)) (i32.const 1))
        (i32.sub (i32.load offset=8 (global.get $result)) (i32.const 1)))"#,
    };
    more.file()
}

pub const VERSION: &str = "0.2.0-rc.1";
/// The version that Spin has.
const OLDER_VERSION: &str = "0.2.0-draft-2024-09-27";

/// What the guest says of a value.
fn shown(text: &str) -> &str {
    text.trim_end_matches('.')
}

/// What the guest answers for a name.
#[track_caller]
pub fn value(server: &Server, host: &str, name: &str) -> String {
    let response = ask_until_loaded(server.address, host, &format!("/{name}"));
    assert_eq!(response.status, 200, "{host}/{name}: {}", response.text());
    shown(&response.text()).to_owned()
}

#[test]
fn an_app_finds_its_own_values_and_nothing_else() -> TestResult {
    [VERSION, OLDER_VERSION].into_iter().try_for_each(finds_its_own_values_and_nothing_else)
}

fn finds_its_own_values_and_nothing_else(version: &str) -> TestResult {
    let guest = reader(version);
    let file = guest.path().to_str().ok_or("a path in UTF-8")?;
    let folder = Folder::new(
        &("[defaults]\nconfig = { color = \"blue\", mode = \"live\" }\n".to_owned()
            + &app("one", file, "one.test/*", "config = { color = \"red\", number = 5, on = true, \"a b\" = \"\" }")
            + &app("two", file, "two.test/*", "isolation = \"request\"\nconfig = { \"größe\" = \"groß\" }")
            + &app("env", "faults.wasm", "env.test/*", "")),
    )?;
    let server = folder.serve(&[]);
    for (name, one, two) in [
        ("color", "red", "blue"),
        ("mode", "live", "live"),
        ("number", "5", "(none)"),
        ("on", "true", "(none)"),
        ("größe", "(none)", "groß"),
        ("COLOR", "(none)", "(none)"),
        ("", "(none)", "(none)"),
        ("*", "5", "3"),
    ] {
        assert_eq!([value(&server, "one.test", name), value(&server, "two.test", name)], [one, two], "{name}");
    }
    // A component that does not import it sees nothing of its values.
    let environment = ask_until_loaded(server.address, "env.test", "/env");
    assert!(environment.status == 200 && !environment.text().contains("blue"), "{}", environment.text());
    Ok(())
}

/// A guest of wasi 0.2 that answers with the variable of Spin whose name the path is, or with what the error says; 13 bytes of it,
/// dots behind a shorter one.
fn reader_of_variables() -> tempfile::NamedTempFile {
    let more = wat::More {
        component: r#"
  (import "fermyon:spin/variables@2.0.0" (instance $variables
    (type $error-shape (variant
      (case "invalid-name" string) (case "undefined" string) (case "provider" string) (case "other" string)))
    (export "error" (type $error (eq $error-shape)))
    (export "get" (func (param "name" string) (result (result string (error $error)))))))
  (core func $get (canon lower (func $variables "get") (memory $memory) (realloc $realloc)))
"#,
        imports: &[("get", "(param i32 i32 i32)")],
        module: r#"(func $show (param $at i32) (param $length i32)
      (memory.fill (i32.const 288) (i32.const 46) (i32.const 13))
      (if (i32.gt_u (local.get $length) (i32.const 13)) (then (local.set $length (i32.const 13))))
      (memory.copy (i32.const 288) (local.get $at) (local.get $length)))
    (func $variable (param $at i32) (param $length i32)
      (call $get (local.get $at) (local.get $length) (global.get $result))
      (if (i32.load8_u (global.get $result))
        (then (call $show (i32.load offset=8 (global.get $result)) (i32.load offset=12 (global.get $result))))
        (else (call $show (i32.load offset=4 (global.get $result)) (i32.load offset=8 (global.get $result))))))
"#,
        handle: r#"(call $variable (i32.add (i32.load offset=4 (global.get $result)) (i32.const 1))
        (i32.sub (i32.load offset=8 (global.get $result)) (i32.const 1)))"#,
    };
    more.file()
}

#[test]
fn a_component_of_spin_finds_the_same_values_as_variables() -> TestResult {
    let guest = reader_of_variables();
    let file = guest.path().to_str().ok_or("a path in UTF-8")?;
    let server = Server::start(file, &["--config-value", "greeting=hello", "--config-value", "empty="]);
    for (name, expected) in
        [("greeting", "hello"), ("empty", ""), ("other", "no variable h"), ("Greeting", "\"Greeting\" is")]
    {
        assert_eq!(shown(&get(server.address, &format!("/{name}")).text()), expected, "{name}");
    }
    Ok(())
}

#[test]
fn a_component_without_values_is_served_and_finds_nothing() -> TestResult {
    let guest = reader(VERSION);
    let server = Server::start(guest.path().to_str().ok_or("a path in UTF-8")?, &[]);
    assert_eq!(shown(&get(server.address, "/color").text()), "(none)");
    assert_eq!(shown(&get(server.address, "/*").text()), "0");
    Ok(())
}

#[test]
fn flags_and_lines_of_the_variable_give_values_and_count_more_than_the_file() -> TestResult {
    let guest = reader(VERSION);
    let file = guest.path().to_str().ok_or("a path in UTF-8")?;
    let server =
        Server::start(file, &["--config-value", "color=a=b", "--config-value=mode=x", "--config-value=mode=y"]);
    let text = |name: &str| shown(&get(server.address, name).text()).to_owned();
    assert_eq!([text("/color"), text("/mode"), text("/*")], ["a=b", "y", "2"]);
    drop(server);
    let folder = Folder::new(&app("one", file, "*", "config = { color = \"file\", mode = \"file\" }"))?;
    let server = folder.serve(&["--config-value", "mode=flag"]);
    assert_eq!([value(&server, "any.test", "color"), value(&server, "any.test", "mode")], ["file", "flag"]);
    drop(server);
    let mut serve = command();
    serve.arg(file).args(["--listen", "127.0.0.1:0", "--log-format", "json", "--admin", "127.0.0.1:0"]);
    serve.env("WASMHOST_CONFIG_VALUE", "color=green\nmode=of a variable");
    let server = Server::spawn(serve);
    assert_eq!(shown(&get(server.address, "/color").text()), "green");
    Ok(())
}

#[test]
fn a_reload_changes_the_values_of_the_app_that_it_names() -> TestResult {
    let guest = reader(VERSION);
    let file = guest.path().to_str().ok_or("a path in UTF-8")?;
    let two = app("two", file, "two.test/*", "config = { color = \"blue\" }");
    let folder = Folder::new(&(app("one", file, "one.test/*", "config = { color = \"red\" }") + &two))?;
    let server = folder.serve(&[]);
    assert_eq!([value(&server, "one.test", "color"), value(&server, "two.test", "color")], ["red", "blue"]);
    folder.write(&(app("one", file, "one.test/*", "config = { color = \"green\" }") + &two))?;
    server.signal("HUP");
    eventually("the new value", || shown(&ask(server.address, "one.test", "/color").text()) == "green");
    assert_eq!(value(&server, "two.test", "color"), "blue");
    // A mistake leaves the app as it is.
    folder.write(&(app("one", file, "one.test/*", "config = { color = [] }") + &two))?;
    server.signal("HUP");
    let is_told = |record: &Value| record.to_string().contains("`color` of `config` must be a text in quotes");
    eventually("the mistake", || !server.records(is_told).is_empty());
    assert_eq!(value(&server, "one.test", "color"), "green");
    Ok(())
}

#[test]
fn inspect_names_the_interface_with_the_flag_and_the_key_that_give_values() -> TestResult {
    let guest = reader(VERSION);
    let inspect = |flags: &[&str]| {
        let mut inspect = command();
        inspect.arg("inspect").arg(guest.path()).args(flags);
        run(inspect)
    };
    let report: Value = serde_json::from_str(&inspect(&["--json"]).stdout)?;
    let wants = report["wants"].as_array().ok_or("a list")?;
    let expected = serde_json::json!({
        "what": "configuration",
        "flag": "--config-value NAME=VALUE",
        "imports": [format!("wasi:config/store@{VERSION}")],
    });
    assert!(wants.contains(&expected), "{wants:?}");
    let flags = report["flags"].as_array().ok_or("a list")?;
    assert!(flags.iter().any(|flag| flag["key"] == "config" && flag["needed"] == false), "{flags:?}");
    assert_eq!(report["runs"]["verdict"], true);
    let text = inspect(&[]).stdout;
    assert!(text.contains("configuration"), "{text}");
    assert!(text.contains("--config-value NAME=VALUE or `config` in wasmhost.toml  (if it uses it; "), "{text}");
    Ok(())
}

#[test]
fn another_version_is_refused_with_the_one_that_is_provided() -> TestResult {
    for version in ["0.2.0-draft", "0.2.0-rc.2", "0.2.0"] {
        let guest = reader(version);
        let mut serve = command();
        serve.arg(guest.path()).args(["--listen", "127.0.0.1:0"]);
        let refused = run(serve);
        assert_eq!(refused.code, Some(1), "{version}");
        assert!(refused.stderr.contains(&format!("it imports `wasi:config/store@{version}`")), "{}", refused.stderr);
        assert!(refused.stderr.contains("build it against `wasi:config/store` of 0.2.0-rc.1"), "{}", refused.stderr);
    }
    Ok(())
}

#[test]
fn wrong_values_are_mistakes_with_their_places() -> TestResult {
    let check = |more: &str, flags: &[&str]| -> Result<String, Box<dyn std::error::Error>> {
        let folder = Folder::new(&app("one", "hello.wasm", "*", more))?;
        let mut check = command();
        check.args(["config", "check", "-c"]).arg(folder.file()).args(flags);
        let finished = run(check);
        assert_eq!(finished.code, Some(2), "{more}: {}", finished.stdout);
        Ok(finished.stderr)
    };
    for (more, told) in [
        ("config = 5", ":5:10: `config` must be a table: `config = { NAME = \"value\" }`"),
        ("config = { color = 1.5 }", ":5:20: `color` of `config` must be a text in quotes"),
        ("config = { \"a=b\" = \"c\" }", ":5:12: `config` has the name `a=b`, but a name has no `=`"),
        ("config = { \"\" = \"c\" }", "`` of `config` the name before `=` is empty"),
        ("confgi = {}", ":5:1: unknown key `confgi`, is `config` meant?"),
        ("config-value = {}", ":5:1: unknown key `config-value`, is `config` meant?"),
    ] {
        let found = check(more, &[])?;
        assert!(found.contains(told), "{more}: {found}");
    }
    let found = check("", &["--config-value", "color"])?;
    assert!(found.contains("--config-value `color`: write `NAME=VALUE`"), "{found}");
    let mut serve = Command::new(crate::support::server::binary());
    serve.arg(guest("hello.wasm")).args(["--config-vaule", "a=b"]);
    assert!(run(serve).stderr.contains("is `--config-value` meant?"));
    Ok(())
}

#[test]
fn what_is_shown_hides_values_and_means_the_same_with_them() -> TestResult {
    let folder = Folder::new(&app("one", "hello.wasm", "*", "config = { color = \"secret\" }"))?;
    let show = |flags: &[&str]| {
        let mut show = command();
        show.args(["config", "show", "-c"]).arg(folder.file()).args(flags);
        run(show).stdout
    };
    assert!(show(&[]).contains("config = { \"color\" = \"…\" }"), "{}", show(&[]));
    assert!(show(&["--values", "--config-value=b=c"]).contains("config = { \"color\" = \"secret\", \"b\" = \"c\" }"));
    Ok(())
}
