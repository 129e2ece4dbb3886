//! Projects of a `wasmhost.toml`: does `wasmhost dev` build, serve and rebuild each on its own, does `wasmhost build` build
//! all, and what does `wasmhost serve` say of one that was not built?

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::dev::{MAKE, SERVED};
use crate::support::apps::{ask, ask_until_loaded, status_of};
use crate::support::{Connection, Finished, Server, TestResult, command, eventually, guest, message, run};

/// A folder with a `wasmhost.toml`, projects in C whose `make` copies the component that `app.c` names, and that `make`.
struct Folder {
    dir: tempfile::TempDir,
}

/// A project and its route.
fn project(name: &str) -> String {
    format!(
        "[[app]]\nname = \"{name}\"\nproject = \"{name}\"\nroutes = [\"{name}.test/*\", \"{name}.localhost/*\"]\nenv = {{ NAME = \"{name}\" }}\n"
    )
}

/// A component that something else builds.
fn component(name: &str, file: &str) -> String {
    format!("[[app]]\nname = \"{name}\"\ncomponent = \"{file}\"\nroutes = [\"{name}.test/*\"]\n")
}

impl Folder {
    fn new(file: &str) -> std::io::Result<Self> {
        let folder = Self { dir: tempfile::tempdir()? };
        fs::create_dir(folder.path("tools"))?;
        fs::write(folder.path("tools/make"), MAKE)?;
        fs::set_permissions(folder.path("tools/make"), fs::Permissions::from_mode(0o755))?;
        fs::write(folder.path("wasmhost.toml"), file)?;
        Ok(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Saves the source of a project, which is made if need be.
    fn save(&self, project: &str, source: &str) -> std::io::Result<()> {
        fs::create_dir_all(self.path(project))?;
        fs::write(self.path(project).join("Makefile"), "NAME = app\n")?;
        fs::write(self.path(project).join("app.c"), source)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = command();
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.path("tools").display())).env("CC", "true");
        command.env("TMPDIR", self.dir.path()).current_dir(self.dir.path()).args(words);
        command
    }

    fn run(&self, words: &[&str]) -> Finished {
        run(self.command(words))
    }

    fn dev(&self, kind: &str) -> Server {
        let mut command = self.command(&["dev", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        Server::spawn({
            command.args(["--workers", "2", "--log-format", "json", "--worker-kind", kind]);
            command
        })
    }

    fn builds(&self, project: &str) -> usize {
        fs::read_to_string(self.path(project).join("target/builds")).unwrap_or_default().lines().count()
    }
}

/// What was said of an app so often.
fn count(server: &Server, app: &str, words: &str) -> usize {
    server.records(|record| record["app"] == app && message(record).contains(words)).len()
}

#[track_caller]
fn until_served(server: &Server, app: &str, times: usize) {
    eventually(&format!("{times} components of {app} were served"), || count(server, app, SERVED) >= times);
}

/// Each worker answers with this status.
#[track_caller]
fn until_answers(server: &Server, app: &str, path: &str, status: u16) {
    let host = format!("{app}.test");
    eventually(&format!("{app}{path} answers {status}"), || {
        (0..4).all(|_| ask(server.address, &host, path).status == status)
    });
}

#[test]
fn each_project_is_built_served_and_built_again_on_its_own() -> TestResult {
    let folder = Folder::new(&(project("two") + &project("three") + &component("file", "file.wasm")))?;
    folder.save("two", &guest("faults.wasm"))?;
    folder.save("three", &guest("faults-p3.wasm"))?;
    fs::copy(guest("hello.wasm"), folder.path("file.wasm"))?;
    for kind in ["thread", "process"] {
        let builds = (folder.builds("two"), folder.builds("three"));
        folder.save("two", &guest("faults.wasm"))?;
        let server = folder.dev(kind);
        for app in ["two", "three", "file"] {
            until_served(&server, app, 1);
        }
        for app in ["two", "three"] {
            let answer = ask_until_loaded(server.address, &format!("{app}.test"), "/env");
            assert!(answer.status == 200 && answer.text().contains(app), "{kind} {app}: {}", answer.text());
        }
        assert_eq!(ask_until_loaded(server.address, "file.test", "/").text(), "Hello, World!", "{kind}");
        assert_eq!(
            (status_of(&server, "two")["wasi"].as_str(), status_of(&server, "three")["wasi"].as_str()),
            (Some("0.2"), Some("0.3"))
        );

        // One is changed while the others go on.
        folder.save("two", &guest("hello.wasm"))?;
        until_served(&server, "two", 2);
        eventually("the new one answers", || ask(server.address, "two.test", "/").text() == "Hello, World!");
        assert_eq!(folder.builds("two") - builds.0, 2, "{kind}");
        assert_eq!((folder.builds("three") - builds.1, count(&server, "three", "building")), (1, 1), "{kind}");
        assert_eq!(count(&server, "two", "app.c changed"), 1);
        // One that something else builds.
        let other = if kind == "thread" { "faults.wasm" } else { "hello.wasm" };
        fs::copy(guest(other), folder.path("new.wasm"))?;
        fs::rename(folder.path("new.wasm"), folder.path("file.wasm"))?;
        until_served(&server, "file", 2);
        assert!(!folder.path("two/two.wasm").exists(), "components for production are left alone");
    }
    Ok(())
}

#[test]
fn a_build_that_fails_leaves_its_old_revision_serving_and_names_the_app() -> TestResult {
    let folder = Folder::new(&(project("two") + &project("three")))?;
    folder.save("two", &guest("faults.wasm"))?;
    folder.save("three", "broken\n")?;
    let server = folder.dev("thread");
    until_served(&server, "two", 1);
    server.wait_for_record("the failure of three", |record| record["app"] == "three" && record["level"] == "ERROR");
    let told = ask(server.address, "three.test", "/");
    assert_eq!((told.status, ask(server.address, "two.test", "/status?code=201").status), (503, 201));
    until_answers(&server, "two", "/status?code=201", 201);

    folder.save("two", "broken\n")?;
    let failed =
        server.wait_for_record("the failure of two", |record| record["app"] == "two" && record["level"] == "ERROR");
    assert!(message(&failed).contains("the last component that worked goes on"), "{failed}");
    assert!(failed["text"].as_str().is_some_and(|text| text.contains("<b>expected</b>")), "{failed}");
    until_answers(&server, "two", "/status?code=201", 201);
    let mut browser = Connection::open(server.address);
    browser.send("GET / HTTP/1.1\r\nHost: two.localhost\r\nAccept: text/html\r\n\r\n");
    let told = browser.response();
    assert!(told.status == 503 && told.text().contains("expected"), "a browser is told: {}", told.text());

    folder.save("three", &guest("faults-p3.wasm"))?;
    until_served(&server, "three", 1);
    until_answers(&server, "three", "/status?code=202", 202);
    folder.save("two", &guest("hello.wasm"))?;
    until_served(&server, "two", 2);
    Ok(())
}

#[test]
fn a_change_of_the_file_is_a_reload() -> TestResult {
    let folder = Folder::new(&project("two"))?;
    folder.save("two", &guest("faults.wasm"))?;
    folder.save("three", &guest("faults-p3.wasm"))?;
    let server = folder.dev("thread");
    until_served(&server, "two", 1);
    until_answers(&server, "two", "/status?code=201", 201);
    // Another app, and another route of the first.
    let both = project("two").replace("two.test/*", "2.test/*") + &project("three");
    fs::write(folder.path("wasmhost.toml"), &both)?;
    until_served(&server, "three", 1);
    eventually("the new route has an effect", || ask(server.address, "2.test", "/status?code=201").status == 201);
    assert_eq!(ask(server.address, "two.test", "/").status, 404);
    until_answers(&server, "three", "/status?code=202", 202);
    assert_eq!(folder.builds("two"), 1, "what has not changed is not built again");
    // A mistake changes nothing, and is told.
    fs::write(folder.path("wasmhost.toml"), "wrong")?;
    server.wait_for_record("the mistake", |record| message(record).contains("not TOML"));
    until_answers(&server, "three", "/status?code=202", 202);
    // One that is gone is served and built no more.
    fs::write(folder.path("wasmhost.toml"), project("two"))?;
    eventually("it is gone", || ask(server.address, "three.test", "/").status == 404);
    let builds = folder.builds("three");
    folder.save("three", &guest("hello.wasm"))?;
    folder.save("two", &guest("hello.wasm"))?;
    until_served(&server, "two", 2);
    assert_eq!(folder.builds("three"), builds);
    Ok(())
}

#[test]
fn build_makes_the_components_of_all_projects_and_serve_serves_them() -> TestResult {
    let other = project("three") + "component = \"out.wasm\"\n";
    let folder = Folder::new(&(project("two") + &other + &component("file", &guest("hello.wasm"))))?;
    folder.save("two", &guest("faults.wasm"))?;
    folder.save("three", "broken\n")?;
    let serve = || {
        let mut serving = folder.command(&["serve", "--listen", "127.0.0.1:0", "--log-format", "json"]);
        serving.args(["--workers", "2", "--admin", "127.0.0.1:0"]);
        Server::spawn(serving)
    };
    let server = serve();
    let told = server.wait_for_record("it was not built", |record| {
        record["app"] == "two" && message(record).contains("has not been built yet")
    });
    assert!(
        told["hint"].as_str().is_some_and(|hint| hint.contains("wasmhost build") && hint.contains("wasmhost dev")),
        "{told}"
    );
    drop(server);

    let failed = folder.run(&["build"]);
    assert_eq!(failed.code, Some(2), "the toolchain's code: {failed:?}");
    assert!(failed.lines("error: ").iter().any(|line| line.starts_with("app `three`: ")), "{failed:?}");
    assert!(folder.path("two/two.wasm").exists(), "the others are built all the same");
    folder.save("three", &guest("faults-p3.wasm"))?;
    let built = folder.run(&["build"]);
    assert_eq!(built.code, Some(0), "{built:?}");
    assert!(built.stdout.contains("two: two/two.wasm: ") && built.stdout.contains("three: out.wasm: "), "{built:?}");

    let server = serve();
    for (app, status) in [("two", 201), ("three", 202)] {
        let answer = ask_until_loaded(server.address, &format!("{app}.test"), &format!("/status?code={status}"));
        assert_eq!(answer.status, status, "{app}");
    }
    Ok(())
}

#[test]
fn inspect_names_each_app_of_the_file() -> TestResult {
    let file = component("good", &guest("hello.wasm")) + &project("unbuilt");
    let folder = Folder::new(&file)?;
    let told = folder.run(&["inspect"]);
    assert_eq!(told.code, Some(1), "{told:?}");
    assert!(told.stdout.starts_with("app good\n") && told.stderr.starts_with("error: app `unbuilt`: "), "{told:?}");
    let told = folder.run(&["inspect", "-c", "wasmhost.toml", "--json"]);
    let shown: Value = serde_json::from_str(&told.stdout)?;
    assert_eq!((&shown["apps"][0]["app"], &shown["apps"][0]["report"]["wasi"]), (&"good".into(), &"0.2".into()));
    assert!(shown["apps"][1]["app"] == "unbuilt" && shown["apps"][1]["error"].is_string(), "{shown}");
    Ok(())
}

#[test]
fn a_file_without_projects_and_wrong_flags_are_told() -> TestResult {
    let folder = Folder::new(&component("one", &guest("hello.wasm")))?;
    let none = folder.run(&["build", "-c", "wasmhost.toml"]);
    assert!(none.code == Some(2) && none.lines("error: ")[0].contains("no app has a project"), "{none:?}");
    let none = folder.run(&["build"]);
    assert!(none.code == Some(1) && none.lines("error: ")[0].contains("no project"), "the folder's own: {none:?}");
    fs::write(folder.path("wasmhost.toml"), project("one"))?;
    let output = folder.run(&["build", "-o", "one.wasm"]);
    assert!(output.code == Some(2) && output.lines("error: ")[0].contains("--output"), "{output:?}");
    Ok(())
}
