use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::cli::{Command, Parsed, ServeArgs, parse};
use crate::given::{Given, Origin};
use crate::mistake::Mistakes;
use crate::settings::{self, Form, Setting, Takes};
use crate::{
    App, CacheChoice, Capabilities, Config, Declaration, HostEnvironment, Isolation, Listen, LogLevel, Machine,
    Mistake, Needs, Source, WorkerKind, build, changed_host_settings, read_again, read_apps_again, schema, show,
};

mod replay;
mod stores;
mod trust;
mod workers;

type TestResult = Result<(), Box<dyn std::error::Error>>;

const MACHINE: Machine = Machine {
    cores: 3,
    memory_bytes: 1 << 30,
    has_inherited_socket: false,
    cache: CacheChoice::Off,
    state: None,
    runtime: None,
    environment: HostEnvironment::NONE,
};

/// Capabilities with settings of all forms.
const CAPABILITIES: Capabilities = Capabilities::new(&[&[Declaration {
    what: "tests",
    interfaces: &[],
    granted_by: &["config-value"],
    without: "nothing is tested",
    settings: &[
        Setting::of_capability("config-value", "config", (Form::Pairs("NAME=VALUE"), Takes::LINES), "Values", small),
        Setting::of_capability("shelf", "shelves", (Form::Text("NAME"), Takes::LINES), "Shelves", small),
        Setting::of_capability("bucket", "bucket", (Form::Text("NAME"), Takes::One), "A bucket [default: none]", small),
    ],
    needs: Needs::none,
}]]);

fn small(text: &str) -> Result<(), String> {
    if text.len() > 20 { Err("is longer than 20 bytes".to_owned()) } else { Ok(()) }
}

/// The issue's example.
const EXAMPLE: &str = r#"
listen = ["127.0.0.1:8080"]
[[app]]
name = "shop"
component = "shop.wasm"            # relative to this file
routes = ["shop.example.com/*", "example.com/api/*"]
limits = { cpu = "2s", memory = "64MiB" }
env = { MODE = "live" }
"#;

fn args(words: &[&str]) -> ServeArgs {
    let words = ["wasmhost", "serve"].iter().chain(words).map(OsString::from);
    match parse(words, CAPABILITIES) {
        Parsed::Cli(cli, mistakes) if mistakes.is_empty() => match cli.command {
            Some(Command::Serve(args)) => *args,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// A folder with this file in it.
fn folder(text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("wasmhost.toml"), text).unwrap();
    folder
}

fn read_in(folder: &Path, flags: &[&str]) -> Result<Config, Vec<Mistake>> {
    let file = folder.join("wasmhost.toml").display().to_string();
    build(&args(&[&["-c", &file], flags].concat()), CAPABILITIES, MACHINE)
}

fn read(text: &str, flags: &[&str]) -> Result<Config, Vec<Mistake>> {
    read_in(folder(text).path(), flags)
}

fn config(text: &str, flags: &[&str]) -> Config {
    read(text, flags).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"))
}

fn app<'a>(config: &'a Config, name: &str) -> &'a App {
    config.apps.iter().find(|app| app.name == name).unwrap()
}

/// What is wrong with a text, each as `LINE:COLUMN: reason`.
fn mistakes(text: &str) -> Vec<String> {
    let folder = folder(text);
    let wrong = read_in(folder.path(), &[]).err().unwrap_or_default();
    let file = format!("{}:", folder.path().join("wasmhost.toml").display());
    wrong.iter().map(|mistake| mistake.to_string().replace(&file, "")).collect()
}

fn pairs(pairs: &[(String, String)]) -> Vec<String> {
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn variables(app: &App) -> Vec<String> {
    app.grants.env.iter().map(|variable| format!("{}={}", variable.name, variable.value)).collect()
}

fn addresses(config: &Config) -> Vec<Listen> {
    config.addresses().cloned().collect()
}

#[test]
fn secrets_count_more_than_variables_of_their_place_and_show_where_they_stand() {
    let folder = folder(
        "[defaults]\nsecrets = { A = \"file:a\", B = \"file:a\" }\nenv = { A = \"plain\" }\n\
         [[app]]\nname = \"one\"\ncomponent = \"one\"\nenv = { B = \"plain\", C = \"plain\" }\nsecrets = { C = \"file:a\" }\n",
    );
    fs::write(folder.path().join("a"), "opensesame\n").unwrap();
    let config = read_in(folder.path(), &["--env", "C=flag"]).unwrap();
    assert_eq!(variables(&config.apps[0]), ["A=opensesame", "B=plain", "C=flag"]);
    let config =
        read_in(folder.path(), &["--secret", &format!("B=file:{}", folder.path().join("a").display())]).unwrap();
    assert_eq!(variables(&config.apps[0]), ["A=opensesame", "C=opensesame", "B=opensesame"]);
    let shown = show(&config, CAPABILITIES, true);
    assert!(shown.contains(&format!("\"A\" = \"file:{}\"", folder.path().join("a").display())), "{shown}");
    assert!(!shown.contains("opensesame"), "{shown}");
    assert!(!format!("{config:?}").contains("opensesame"));
}

#[test]
fn the_example_of_the_issue_means_what_it_says() {
    let folder = folder(EXAMPLE);
    let config = read_in(folder.path(), &[]).unwrap();
    assert_eq!(addresses(&config), [Listen::Tcp(([127, 0, 0, 1], 8080).into())]);
    let [shop] = &*config.apps else { panic!("{config:?}") };
    assert_eq!(shop.component, folder.path().join("shop.wasm"));
    assert_eq!(shop.routes, ["shop.example.com/*", "example.com/api/*"]);
    assert_eq!((shop.limits.cpu_limit, shop.limits.memory_max_bytes), (Duration::from_secs(2), 64 << 20));
    assert_eq!(shop.limits.request_timeout, Some(Duration::from_secs(30)), "the default");
    assert_eq!(variables(shop), ["MODE=live"]);
}

#[test]
fn a_component_is_the_only_app_of_a_config_without_a_source() {
    let config = build(
        &args(&["some dir/my app.wasm", "--listen", "unix:/a,127.0.0.1:1", "--listen=127.0.0.1:2"]),
        CAPABILITIES,
        MACHINE,
    )
    .unwrap();
    let [app] = &*config.apps else { panic!("{config:?}") };
    assert_eq!((app.name.as_str(), &*app.routes), ("my-app", &["*".to_owned()][..]));
    assert_eq!(config.listeners.len(), 3);
    assert!(config.source.is_none());
}

#[test]
fn an_empty_list_of_addresses_is_a_mistake_of_the_host() {
    let folder = folder(&EXAMPLE.replace("[\"127.0.0.1:8080\"]", "[]"));
    let mistakes = read_in(folder.path(), &[]).unwrap_err();
    let [mistake] = &*mistakes else { panic!("{mistakes:?}") };
    assert!(mistake.app.is_none() && mistake.reason.contains("leave `listen` out"), "{mistake}");
    assert!(mistake.place.ends_with(":2:10"), "{mistake}");
}

#[test]
fn settings_of_the_host_that_differ_are_named_as_the_file_names_them() {
    let config = |more: &str| read_in(folder(&(more.to_owned() + EXAMPLE)).path(), &[]).unwrap();
    let before = config("");
    let after = config(
        "memory-total = \"1GiB\"\ncompile-timeout = \"7s\"\ndrain-timeout = \"3s\"\nlog-level = \"warn\"\naccess-log = true\n",
    );
    let mut changed = changed_host_settings(&before, &after);
    changed.sort_unstable();
    assert_eq!(changed, ["compile-timeout", "drain-timeout", "memory-total"], "a reload follows the log");
    let mut elsewhere = before.clone();
    elsewhere.listeners.clear();
    assert!(changed_host_settings(&before, &elsewhere).is_empty(), "addresses change without a restart");
    let with = |more: &str| read(&format!("{EXAMPLE}{more}"), &["--workers=2"]).unwrap();
    let (fresh, reused) = (with("isolation = \"request\"\n"), with(""));
    assert_eq!(changed_host_settings(&reused, &fresh), ["worker-kind"]);
    assert!(changed_host_settings(&fresh, &reused).is_empty(), "processes serve what threads would serve");
}

#[test]
fn a_component_beside_a_file_is_a_mistake_and_so_is_neither() {
    let both = build(&args(&["a.wasm", "-c", "b.toml"]), CAPABILITIES, MACHINE).unwrap_err();
    assert!(both.len() == 1 && both[0].reason.contains("leave one out"), "{both:?}");
    let neither = build(&args(&[]), CAPABILITIES, MACHINE).unwrap_err();
    assert!(neither.len() == 1 && neither[0].to_string().contains("nothing to serve"), "{neither:?}");
    let missing = build(&args(&["-c", "/no/such.toml", "--workers", "x"]), CAPABILITIES, MACHINE).unwrap_err();
    let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
    assert!(
        missing[0].starts_with("/no/such.toml: cannot be read") && missing[1].starts_with("--workers `x`"),
        "{missing:?}"
    );
}

#[test]
fn every_mistake_is_reported_with_its_place_and_a_way_out() {
    let app = "[[app]]\nname = \"a\"\ncomponent = \"a.wasm\"\n";
    let rows: &[(&str, &[&str])] = &[
        (&format!("{app}limit = {{ cpu = \"2s\" }}"), &["4:1: unknown key `limit`, is `limits` meant?"]),
        (&format!("{app}cpu-limit = \"2s\""), &["4:1: unknown key `cpu-limit`, is `limits.cpu` meant?"]),
        (&format!("{app}cpu = \"2s\""), &["4:1: unknown key `cpu`, is `limits.cpu` meant?"]),
        (&format!("{app}limits = {{ cpus = \"2s\" }}"), &["4:12: unknown key `cpus`, is `cpu` meant?"]),
        (
            &format!("{app}[app.limits]\nrequest-timeuot = \"2s\""),
            &["5:1: unknown key `request-timeuot`, is `request-timeout` meant?"],
        ),
        (&format!("{app}workers = 2"), &["4:1: `workers` is a setting of the host; write it above"]),
        (&format!("routes = [\"*\"]\n{app}"), &["1:1: `routes` is a setting of apps"]),
        (&format!("[defaults]\nname = \"x\"\n{app}"), &["2:1: `name` differs between apps"]),
        (
            &format!("wrokers = 2\nzzzzzz = 1\n{app}"),
            &["1:1: unknown key `wrokers`, is `workers` meant?", "2:1: unknown key `zzzzzz`"],
        ),
        (&format!("apps = []\n{app}"), &["1:1: unknown key `apps`, is `app` meant?"]),
        (
            &format!("workers = 0\n{app}limits = {{ cpu = 5, memory = true }}"),
            &[
                "1:11: workers `0`: must be a whole number from 1 to 512",
                "5:18: limits.cpu `5`: has no unit",
                "5:30: `limits.memory` must be a size",
            ],
        ),
        (&format!("workers = \"two\"\n{app}"), &["1:11: workers `two`: must be a whole number"]),
        (&format!("access-log = \"true\"\n{app}"), &["1:14: `access-log` must be `true` or `false`, without quotes"]),
        (
            &format!("log-level = \"loud\"\nlog-format = \"xml\"\n{app}"),
            &["1:13: log-level `loud`: must be one of `error`", "2:14: log-format `xml`: must be one of `auto`"],
        ),
        (
            &format!("listen = [\"nowhere\", 8080]\n{app}"),
            &[
                "1:11: listen `nowhere`: not an address",
                "1:22: `listen` must be a text in quotes, but is a whole number",
            ],
        ),
        (
            &format!("listen = [\"127.0.0.1:1\", \"127.0.0.1:1\"]\n{app}"),
            &["1:26: listen `127.0.0.1:1`: is already listened on"],
        ),
        (&format!("balance = \"kernel\"\nlisten = \"unix:/x\"\n{app}"), &["1:11: balance `kernel`: needs TCP"]),
        (&format!("{app}limits = 5"), &["4:10: `limits` must be a table"]),
        (&format!("{app}env = [\"A=b\"]"), &["4:7: `env` must be a table"]),
        (
            &format!(
                "{app}config = {{ a = \"a text of many more\", b = [], c = 1 }}\nshelves = [\"a\", \"twenty-one characters\"]"
            ),
            &[
                "4:16: `a` of `config` is longer than 20 bytes",
                "4:43: `b` of `config` must be a text in quotes",
                "5:17: shelves `twenty-one characters`: is longer than 20 bytes",
            ],
        ),
        (&format!("config-value = {{}}\n{app}"), &["1:1: unknown key `config-value`, is `config` meant?"]),
        (&format!("config = {{}}\n{app}"), &["1:1: `config` is a setting of apps"]),
        (
            &format!("{app}env = {{ A = 1.5, \"B=c\" = \"d\" }}"),
            &["4:13: `A` of `env` must be a text in quotes", "4:18: `env` has the name `B=c`, but a name has no `=`"],
        ),
        (
            &format!("{app}dirs = [\"/no/such/dir::/x\", \"/\"]"),
            &["4:9: dirs `/no/such/dir::/x`: `/no/such/dir` cannot be opened", "4:29: dirs `/`: names no guest path"],
        ),
        (&format!("worker-kind = \"thread\"\n{app}group = \"g\""), &["5:9: `group` needs processes as workers"]),
        (
            &format!("workers = 300\nworker-kind = \"process\"\n{app}group = \"g\""),
            &["6:9: 300 workers, and as many for each of 1 groups, are 600 processes, of 512 at most"],
        ),
        (&format!("{app}routes = [\"http://a\"]"), &["4:11: route `http://a` of app `a` cannot be used"]),
        (
            &format!("{app}{app}"),
            &[
                "1:1: this app has no routes",
                "4:1: this app has no routes",
                "5:8: two apps have the name `a`; names are unique (the other one: 2:8)",
            ],
        ),
        (&format!("{app}routes = [\"a.b\", \"a.b/*\"]"), &["4:18: route `a.b/*` of app `a` is there twice"]),
        ("workers = 1\n", &["1:1: there is no app: write `[[app]]`"]),
        ("app = 5\n", &["1:7: `app` must be a list of tables"]),
        ("app = [5]\n", &["1:8: an app must be a table"]),
        (
            "defaults = 5\n[[app]]\n",
            &["1:12: `defaults` must be a table", "2:1: this app has no name", "2:1: this app has no component"],
        ),
        (
            "[[app]]\nname = \"a b\"\ncomponent = \"\"\n",
            &["2:8: name `a b`: must be 1 to 63 letters", "3:13: component ``: names no file"],
        ),
        ("a = \nb = ]\n", &["1:5: not TOML", "2:5: not TOML"]),
        (&format!("{app}name = \"b\"\nwrokers = 1"), &["4:1: not TOML: duplicate key", "5:1: unknown key `wrokers`"]),
    ];
    for (text, expected) in rows {
        let found = mistakes(text);
        assert_eq!(found.len(), expected.len(), "{text}\n{found:#?}");
        for (found, expected) in found.iter().zip(*expected) {
            assert!(found.starts_with(expected), "{text}\n{found}\nis not\n{expected}");
        }
    }
}

#[test]
fn the_values_of_an_apps_capabilities_are_bounded_in_sum() {
    let values = |count: usize| {
        let pairs: String = (0..count).map(|number| format!("n{number:06} = \"abcdefghijk\"\n")).collect();
        format!(
            "[[app]]\nname = \"a\"\ncomponent = \"a\"\nroutes = [\"a\"]\n[[app]]\nname = \"b\"\ncomponent = \"b\"\nroutes = []\n[app.config]\n{pairs}"
        )
    };
    assert_eq!(config(&values(200_000), &[]).apps.len(), 2);
    let found = mistakes(&values(215_000));
    assert!(found.len() == 1 && found[0].starts_with("5:1: the values that the app's capabilities"), "{found:?}");
}

#[test]
fn routes_that_tie_name_both_apps_and_both_places() {
    let text = "[[app]]\nname = \"a\"\ncomponent = \"a\"\nroutes = [\"a.b/*\"]\n[[app]]\nname = \"b\"\ncomponent = \"b\"\nroutes = [\"x.y\", \"A.b\"]\n";
    let found = mistakes(text);
    assert_eq!(found.len(), 1, "{found:?}");
    for part in ["8:18: ", "app `b`", "app `a`", "(the other one: 4:11)"] {
        assert!(found[0].contains(part), "{part} in {found:?}");
    }
}

#[test]
fn flags_count_more_than_an_app_which_counts_more_than_the_defaults() {
    let text = r#"
workers = 7
log-level = "debug"
[defaults]
isolation = "request"
limits = { cpu = "1s", memory = "1MiB" }
args = ["d"]
env = { A = "defaults", B = "defaults", C = "defaults" }
config = { x = "defaults", y = "defaults" }
shelves = ["one", "two"]
bucket = "b"
[[app]]
name = "a"
component = "a"
routes = ["a"]
limits = { memory = "2MiB", body = "none" }
args = []
env = { B = "app", C = "app", PORT = 80, ON = true }
config = { y = "app" }
shelves = "own"
[[app]]
name = "b"
component = "b"
routes = ["b"]
isolation = "worker"
"#;
    let plain = config(text, &[]);
    assert_eq!((plain.workers, plain.log.level), (7, LogLevel::Debug));
    let (a, b) = (app(&plain, "a"), app(&plain, "b"));
    assert_eq!((a.isolation, b.isolation), (Isolation::Request, Isolation::Worker));
    assert_eq!(
        (a.limits.cpu_limit, a.limits.memory_max_bytes, a.limits.body_max_bytes),
        (Duration::from_secs(1), 2 << 20, None)
    );
    assert_eq!((b.limits.memory_max_bytes, b.limits.body_max_bytes), (1 << 20, Some(100 << 20)));
    assert!(a.grants.args.is_empty() && b.grants.args == ["d"]);
    assert_eq!(variables(a), ["A=defaults", "B=app", "C=app", "ON=true", "PORT=80"]);
    let declared = |app: &App| pairs(app.grants.declared.pairs("config-value"));
    assert_eq!(declared(a), ["x=defaults", "y=app"]);
    assert_eq!(declared(b), ["x=defaults", "y=defaults"]);
    assert_eq!(
        (a.grants.declared.texts("shelf"), a.grants.declared.texts("bucket")),
        (&["own".to_owned()][..], &["b".to_owned()][..])
    );
    assert_eq!(b.grants.declared.texts("shelf"), ["one", "two"]);

    let flags = [
        "--workers=2",
        "--cpu-limit=9s",
        "--arg=flag",
        "--env=C=flag",
        "--isolation=auto",
        "--log-level=info",
        "--config-value=y=flag",
        "--bucket=c",
        "--shelf=three",
    ];
    let decided = config(text, &flags);
    assert_eq!((decided.workers, decided.log.level), (2, LogLevel::Info), "also a flag that says the default");
    for name in ["a", "b"] {
        let app = app(&decided, name);
        assert_eq!((app.limits.cpu_limit, app.isolation), (Duration::from_secs(9), Isolation::Auto), "{name}");
        assert_eq!(app.grants.args, ["flag"], "{name}");
        assert!(variables(app).contains(&"C=flag".to_owned()), "{name}: {:?}", app.grants.env);
        assert_eq!(declared(app), ["x=defaults", "y=flag"], "{name}");
        assert_eq!(
            (app.grants.declared.texts("shelf"), app.grants.declared.texts("bucket")),
            (&["three".to_owned()][..], &["c".to_owned()][..])
        );
    }
    assert_eq!(app(&decided, "a").limits.memory_max_bytes, 2 << 20, "what no flag says is the file's");
    // What a flag decides is checked all the same.
    let wrong = read(&text.replace("workers = 7", "workers = 0"), &flags).unwrap_err();
    assert!(wrong.len() == 1 && wrong[0].reason.starts_with("workers `0`"), "{wrong:?}");
}

#[test]
fn files_of_variables_count_less_than_variables_and_wrong_lines_are_named() {
    let folder = folder(
        "[defaults]\nenv-file = \"base.env\"\n[[app]]\nname = \"a\"\ncomponent = \"a\"\nenv-file = [\"own.env\"]\nenv = { B = \"table\" }\n",
    );
    fs::write(folder.path().join("base.env"), "A=base\nB=base\nC=base\n").unwrap();
    fs::write(folder.path().join("own.env"), "B=own\nC=own\n").unwrap();
    let config = read_in(folder.path(), &["--env=D=flag"]).unwrap();
    assert_eq!(variables(&config.apps[0]), ["A=base", "C=own", "B=table", "D=flag"]);
    fs::write(folder.path().join("own.env"), "B\n").unwrap();
    let wrong = read_in(folder.path(), &[]).unwrap_err();
    assert!(wrong.len() == 1 && wrong[0].to_string().contains("wasmhost.toml:6:13: env-file `own.env:1`"), "{wrong:?}");
}

#[test]
fn the_variable_of_development_cannot_be_granted_in_any_way() {
    let variable = "WASMHOST_DEVELOPMENT";
    let toml = "[[app]]\nname = \"a\"\ncomponent = \"a\"\n";
    let folder = folder(toml);
    let cannot = "`WASMHOST_DEVELOPMENT` cannot be granted";
    let wrong = read_in(folder.path(), &["--env=WASMHOST_DEVELOPMENT=1"]).unwrap_err();
    assert!(wrong.len() == 1 && wrong[0].reason.contains(cannot), "{wrong:?}");
    for line in [format!("env = {{ {variable} = \"\" }}"), "env-file = \"a.env\"".to_owned()] {
        fs::write(folder.path().join("a.env"), format!("A=1\nexport {variable}=1\n")).unwrap();
        fs::write(folder.path().join("wasmhost.toml"), format!("{toml}{line}\n")).unwrap();
        let wrong = read_in(folder.path(), &[]).unwrap_err();
        assert!(wrong.len() == 1 && wrong[0].reason.contains(cannot), "{line}: {wrong:?}");
        assert!(wrong[0].to_string().contains("wasmhost.toml:4:"), "{wrong:?}");
    }
}

#[test]
fn paths_in_the_file_begin_at_its_folder_and_those_of_flags_at_the_current_one() {
    let folder = folder(
        "listen = \"unix:run/a.sock\"\ndata-dir = \"data\"\ncache-dir = \"cache\"\nadmin = \"unix:admin\"\n[[app]]\nname = \"a\"\ncomponent = \"other/a.wasm\"\ndirs = [\"sub::/sub:rw\"]\n",
    );
    let at = |path: &str| folder.path().join(path);
    fs::create_dir(at("sub")).unwrap();
    let config = read_in(folder.path(), &[]).unwrap();
    assert_eq!(addresses(&config), [Listen::Unix(at("run/a.sock"))]);
    assert_eq!(config.admin, Some(Listen::Unix(at("admin"))));
    assert_eq!((config.data_dir.as_deref(), config.compilation.cache_dir()), (Some(&*at("data")), Some(&*at("cache"))));
    let [app] = &*config.apps else { panic!("{config:?}") };
    assert_eq!(app.component, at("other/a.wasm"));
    let [dir] = &*app.grants.dirs else { panic!("{app:?}") };
    assert_eq!((&dir.host, dir.guest.as_str(), dir.writable), (&at("sub"), "/sub", true));
    let flags = read_in(folder.path(), &["--listen=unix:x", "--dir=.::/here"]).unwrap();
    assert_eq!(addresses(&flags), [Listen::Unix("x".into())]);
    assert_eq!(flags.apps[0].grants.dirs[0].host, Path::new("."));
}

#[test]
fn what_is_shown_is_read_as_the_same() -> TestResult {
    let text = format!(
        "{EXAMPLE}{}",
        r#"
args = ["--a", "b\"c\\\n\u007f"]
dirs = ["sub/below::/root", "sub::/sub:rw"]
allow-hosts = ["*:443", "db:5432:private", "10.0.0.0/8"]
config = { "a b" = "ü", c = "" }
shelves = ["x\"y", "z"]
stores = ["default", "mine=links"]
sqlite = ["default", "more"]
bucket = "b"
strip-prefix = true
[[app]]
name = "second"
component = "/abs/second.wasm"
routes = []
isolation = "request"
instances-per-worker = 1
max-requests = 9223372036854775807
limits = { sqlite-bytes = "65537B", store-keys = 7, store-ttl = "1h", request-timeout = "none", response-timeout = "1h 1ms", body-idle-timeout = "90s", body = "none" }
group = "g"
"#
    );
    let head = "workers = 5\nworker-kind = \"process\"\nbalance = \"least-connections\"\nmax-connections = 10\nmax-connections-per-client = 3\n\
        trust-proxy = [\"10.0.0.0/8\", \"::1\"]\nadmin = \"[::1]:9\"\naccess-log = true\nlog-format = \"json\"\ncache-dir = \"off\"\ndata-dir = \"d\"\n\
        memory-total = 123457\nheader-max = \"8KiB\"\n";
    let listener = "[[listener]]\nlisten = \"127.0.0.1:1\"\n[listener.tls.acme]\ndomains = [\"a.test\", \"B.test\"]\nagree-to-terms = true\n\
        contact = \"mailto:a@b\"\ndirectory = \"https://ca.test:1/\"\n\
        [[store]]\nname = \"links\"\nkeys-max = 5\nbytes-max = \"3MiB\"\nvalue-max = 100\nttl = \"90s\"\n";
    let folder = folder(&format!("{head}{text}{listener}"));
    fs::create_dir_all(folder.path().join("sub/below"))?;
    let first = read_in(folder.path(), &[]).map_err(|mistakes| format!("{mistakes:?}"))?;
    let acme = first.acme();
    assert!(matches!(&*acme, [acme] if acme.domains == ["a.test", "b.test"] && acme.port() == 1), "{acme:?}");
    let shown = show(&first, CAPABILITIES, true);
    let other = tempfile::tempdir()?;
    fs::write(other.path().join("wasmhost.toml"), &shown)?;
    let second = read_in(other.path(), &[]).map_err(|mistakes| format!("{mistakes:?}\n{shown}"))?;
    assert_eq!(comparable(first.clone()), comparable(second));
    let hidden = show(&first, CAPABILITIES, false);
    assert!(!hidden.contains("\"live\"") && !hidden.contains('ü') && hidden.contains("\"MODE\" = \"…\""), "{hidden}");
    Ok(())
}

/// Without descriptors, which are others each time, and without the file's place.
fn comparable(mut config: Config) -> String {
    config.source = None;
    let text = format!("{config:#?}");
    let lines = text.lines().filter(|line| !line.contains("fd:"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_file_is_read_again_with_the_flags_of_the_start() -> TestResult {
    let folder = folder(EXAMPLE);
    let first = read_in(folder.path(), &["--workers=2", "--env=F=flag"]).map_err(|mistakes| format!("{mistakes:?}"))?;
    let source = first.source.clone().ok_or("a source")?;
    let source = serde_json::from_str(&serde_json::to_string(&source)?)?;
    let again = read_again(&source, CAPABILITIES).map_err(|mistakes| format!("{mistakes:?}"))?;
    assert_eq!(again.source.as_ref(), Some(&source));
    assert_eq!(comparable(first), comparable(again));

    let more = "[[app]]\nname = \"new\"\ncomponent = \"n\"\nroutes = [\"n\"]\nisolaton = \"auto\"\n";
    fs::write(folder.path().join("wasmhost.toml"), format!("{EXAMPLE}{more}"))?;
    let wrong = read_again(&source, CAPABILITIES).err().ok_or("a mistake")?;
    assert_eq!(wrong.iter().map(|mistake| mistake.app.as_deref()).collect::<Vec<_>>(), [Some("new")]);
    let (config, mistakes) = read_apps_again(&source, CAPABILITIES);
    assert_eq!((config.map(|config| config.apps.len()), mistakes), (Some(1), wrong));

    fs::write(folder.path().join("wasmhost.toml"), format!("wrokers = 1\n{EXAMPLE}"))?;
    assert!(read_apps_again(&source, CAPABILITIES).0.is_none(), "the host's own settings are wrong");
    Ok(())
}

#[test]
fn each_setting_has_a_key_of_its_own_and_its_choices_and_default_can_be_given() {
    let mut keys = std::collections::HashSet::new();
    for setting in settings::of_host().chain(settings::of_app(CAPABILITIES)) {
        assert!(!setting.key.is_empty() && keys.insert(setting.key), "{}", setting.key);
        assert!(setting.key.split('.').count() <= 3, "{}", setting.key);
        let Form::Choice(_, names) = setting.form else { continue };
        for name in names() {
            let flag = format!("{}={name}", setting.flag());
            assert!(build(&args(&["a.wasm", &flag]), CAPABILITIES, MACHINE).is_ok(), "{flag}");
        }
        assert!(setting.default.is_some_and(|default| names().contains(&default)), "{}", setting.key);
    }
}

#[test]
fn a_value_of_a_variable_is_wrong_under_the_variables_name() {
    let given = Given { name: "workers".to_owned(), values: vec!["many".to_owned()], origin: Origin::Variable };
    let served = super::ServedFrom::Component(Path::new("a.wasm"));
    let (config, mistakes) = super::read(&[given], served, (CAPABILITIES, MACHINE), Mistakes::default());
    let wrong = super::finished(config, mistakes, "", "").unwrap_err();
    assert!(wrong.len() == 1 && wrong[0].to_string().starts_with("WASMHOST_WORKERS `many`: must be"), "{wrong:?}");
}

/// Whether the schema knows every key of a table, as `additionalProperties: false` asks.
fn accepts(schema: &serde_json::Value, table: &toml::Table) -> bool {
    table.iter().all(|(key, value)| match (&schema["properties"][key], value) {
        (serde_json::Value::Null, _) => schema["additionalProperties"] != false,
        (known, toml::Value::Table(inner)) => accepts(known, inner),
        (known, toml::Value::Array(values)) if known["items"].is_object() => {
            values.iter().all(|value| value.as_table().is_none_or(|table| accepts(&known["items"], table)))
        }
        _ => true,
    })
}

#[test]
fn the_schema_has_every_key_with_a_description_and_no_others() -> TestResult {
    let schema = schema(CAPABILITIES);
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let at = |root: &serde_json::Value, key: &str| {
        key.split('.').fold(root.clone(), |table, part| table["properties"][part].clone())
    };
    let without = |root: &serde_json::Value, setting: &settings::Setting| {
        let found = at(root, setting.key);
        assert_eq!(found["description"], setting.help, "{}", setting.key);
        let says_none = ["[default: ", "(required)"].iter().any(|text| setting.help.contains(text));
        (found.get("default").is_none() && !says_none).then_some(setting.key)
    };
    let of_host = settings::of_host().filter_map(|setting| without(&schema, setting));
    let of_defaults = settings::of_defaults(CAPABILITIES);
    let of_defaults = of_defaults.filter_map(|setting| without(&schema["properties"]["defaults"], setting));
    let of_store = settings::of_store();
    let of_store = of_store.filter_map(|setting| without(&schema["properties"]["store"]["items"], setting));
    let of_app = settings::of_app(CAPABILITIES);
    let of_app = of_app.filter_map(|setting| without(&schema["properties"]["app"]["items"], setting));
    let optional: BTreeSet<_> = of_host.chain(of_defaults).chain(of_store).chain(of_app).collect();
    let expected = [
        "admin",
        "admin-token",
        "ca-file",
        "crash-dir",
        "group",
        "hsts",
        "otlp",
        "otlp-ca-file",
        "password",
        "probe-body",
        "tls.acme.ca-file",
        "tls.acme.contact",
        "tls.client-ca",
    ];
    assert_eq!(optional.into_iter().collect::<Vec<_>>(), expected, "settings without a default");
    assert!(accepts(&schema, &EXAMPLE.parse()?));
    for wrong in [
        "worker = 1",
        "[defaults]\nname = \"a\"",
        "[[app]]\nlimit = 1",
        "[[app]]\nlimits = { cpus = 1 }",
        "[defaults.limits]\nx = 1",
    ] {
        assert!(!accepts(&schema, &wrong.parse()?), "{wrong}");
    }
    Ok(())
}

#[test]
fn a_file_that_is_too_large_or_no_text_is_a_mistake() -> TestResult {
    let folder = folder("");
    let file = folder.path().join("wasmhost.toml");
    fs::File::create(&file)?.set_len(17 << 20)?;
    let wrong = read_in(folder.path(), &[]).err().ok_or("a mistake")?;
    assert!(wrong[0].reason.starts_with("is larger than 16 MiB"), "{wrong:?}");
    fs::write(&file, b"a = 1\nb = \"\xff\"\n")?;
    let wrong = read_in(folder.path(), &[]).err().ok_or("a mistake")?;
    assert!(wrong[0].reason.contains("UTF-8: see line 2"), "{wrong:?}");
    Ok(())
}

#[test]
fn too_many_apps_are_a_mistake() {
    let app = "[[app]]\n".repeat(crate::APPS_MAX + 1);
    let found = mistakes(&app);
    assert!(found.len() == 1 && found[0].starts_with("16385:1: there are 16385 apps"), "{}", found.len());
}

#[test]
fn apps_may_have_groups() {
    let config = config(&format!("{EXAMPLE}group = \"g\"\n"), &[]);
    assert_eq!((config.worker_kind, config.apps[0].group.as_deref()), (WorkerKind::Process, Some("g")));
    assert_eq!(config.groups().into_iter().collect::<Vec<_>>(), ["g"]);
    assert_eq!(config.all_workers(), 2 * usize::from(config.workers));
    let (inside, outside) = (config.of_group(Some("g")), config.of_group(None));
    assert_eq!((inside.apps.len(), outside.apps.len(), config.of_no_app().apps.len()), (1, 0, 0));
    let stub = config.apps[0].seen_from_outside();
    assert_eq!(
        (&stub.name, &stub.routes, &stub.group),
        (&config.apps[0].name, &config.apps[0].routes, &Some("g".into()))
    );
    assert!(stub.grants.env.is_empty() && stub.component.as_os_str().is_empty());
    assert_eq!(stub.limits, config.apps[0].limits);
    assert_eq!(stub.capacity.queue_timeout, config.apps[0].capacity.queue_timeout);
}

fn read_anything(bytes: &[u8]) -> std::io::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("wasmhost.toml");
    fs::write(&file, bytes)?;
    let (config, mistakes) = read_apps_again(&Source::new(file, Vec::new(), MACHINE), CAPABILITIES);
    assert!(config.is_some() || !mistakes.is_empty());
    Ok(())
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_fail_otherwise_than_by_mistakes(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        read_anything(&bytes)?;
    }

    #[test]
    fn nothing_like_a_file_makes_the_reader_fail_otherwise_than_by_mistakes(
        words in proptest::collection::vec(proptest::sample::select(&[
            "[[app]]", "[app]", "[defaults]", "name", "routes", "limits", "env", "listen", "=", ".", "{", "}", "[", "]", ",", "\n", "\"", "'", "\"a\"",
            "5", "true", "1979-05-27", "\"\"\"", "#", "ü", "\\", "\u{0}", "cpu", "app", "dirs", "balance", "\"kernel\"",
        ][..]), 0..40)
    ) {
        read_anything(words.join(" ").as_bytes())?;
    }
}
