//! Does an application find what Workers gives it: KV namespaces, caches, other applications, variables, runs of schedules?
//! `guest/javascript/workers` asks one question with each request; `guest/javascript/links` is an application as it is
//! written for Workers.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::javascript::{FIRST_START_CEILING, serve};
use crate::support::apps::{Folder, app, ask, reload, status_of};
use crate::support::redis::RedisServer;
use crate::support::{
    Connection, Response, Server, TestResult, command, eventually, eventually_within, facility, get, message, request,
    run,
};

/// Of the server that has stores.
const PASSWORD: &str = "crocus-2468";

/// What the application is granted.
const GRANTS: [&str; 4] = ["--store", "values", "--store", "SECOND"];

/// Serves the application with its stores in this directory.
fn workers(data: &Path, flags: &[&str]) -> Server {
    // The host makes it, for itself alone.
    let data = data.join("state");
    let data = ["--data-dir", data.to_str().expect("a path in UTF-8")];
    serve("workers.wasm", &[&data, GRANTS.as_slice(), flags].concat())
}

/// Where the application's stores are: in a file, or in a server.
struct StorePlace {
    folder: Folder,
    redis: Option<RedisServer>,
}

impl StorePlace {
    fn all() -> std::io::Result<[Self; 2]> {
        let redis = RedisServer::start(PASSWORD)?;
        let component = facility::javascript().join("workers.wasm");
        let grants = "isolation = \"worker\"\nstores = [\"values=links\"]";
        let in_a_server = Folder::new(&format!(
            "data-dir = \"state\"\n[[store]]\nname = \"links\"\nbackend = \"redis://127.0.0.1:{}/1\"\npassword = \"file:key\"\n{}",
            redis.port,
            app("workers", component.to_str().expect("a path in UTF-8"), "*", grants)
        ))?;
        std::fs::write(in_a_server.path().join("key"), PASSWORD)?;
        Ok([Self { folder: Folder::new("")?, redis: None }, Self { folder: in_a_server, redis: Some(redis) }])
    }

    /// Serves the application with them.
    fn serve(&self) -> Server {
        if self.redis.is_none() {
            return workers(self.folder.path(), &[]);
        }
        let server = self.folder.serve(&[]);
        let is_loaded = || get(server.address, "/kv/get?key=none").status == 200;
        eventually_within(FIRST_START_CEILING, "the application is loaded", is_loaded);
        server
    }
}

/// A text within a query.
fn encoded(text: &str) -> String {
    let of_byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(of_byte).collect()
}

/// A path with these parameters.
fn path(path: &str, parameters: &[(&str, &str)]) -> String {
    let parameters: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    format!("{path}?{}", parameters.join("&"))
}

/// The application.
struct App(SocketAddr);

impl App {
    fn put(&self, key: &str, value: &[u8], options: &Value) -> Response {
        let parameters = [("key", key), ("options", &options.to_string()), ("as", "buffer")];
        request(self.0, "POST", &path("/kv/put", &parameters), value)
    }

    #[track_caller]
    fn has_put(&self, key: &str, value: &[u8], options: &Value) {
        let put = self.put(key, value, options);
        assert_eq!((put.status, put.text().as_str()), (200, "undefined"), "{key}");
    }

    fn get(&self, key: &str, kind: &str) -> Response {
        get(self.0, &path("/kv/get", &[("key", key), ("type", kind)]))
    }

    #[track_caller]
    fn json(&self, path: &str) -> Value {
        let response = get(self.0, path);
        serde_json::from_slice(&response.body).unwrap_or_else(|_| panic!("{path}: {}", response.text()))
    }

    #[track_caller]
    fn list(&self, options: &Value) -> Value {
        self.json(&path("/kv/list", &[("options", &options.to_string())]))
    }
}

#[test(needs(Javascript, Redis))]
fn values_have_forms_metadata_and_an_expiry_and_survive_a_restart() -> TestResult {
    StorePlace::all()?.iter().try_for_each(values_survive_a_restart)
}

fn values_survive_a_restart(place: &StorePlace) -> TestResult {
    let server = place.serve();
    let app = App(server.address);
    assert_eq!(app.get("none", "text").text(), "null");
    app.has_put("text", "ä€😀".as_bytes(), &Value::Null);
    app.has_put("json", br#"{"a":[1,null]}"#, &Value::Null);
    let binary: Vec<u8> = (0..=255).collect();
    app.has_put("binary", &binary, &Value::Null);
    app.has_put("empty", b"", &Value::Null);
    for kind in ["text", "arrayBuffer", "stream"] {
        assert_eq!(app.get("text", kind).text(), "ä€😀", "{kind}");
    }
    assert_eq!(app.get("json", "json").text(), r#"{"a":[1,null]}"#);
    for kind in ["arrayBuffer", "stream"] {
        assert_eq!(app.get("binary", kind).body, binary, "{kind}");
    }
    assert_eq!(app.get("empty", "text").text(), "");
    let streamed = request(server.address, "POST", &path("/kv/put", &[("key", "stream"), ("as", "stream")]), &binary);
    assert_eq!((streamed.text().as_str(), app.get("stream", "arrayBuffer").body), ("undefined", binary));
    let many = path("/kv/many", &[("key", "json"), ("key", "none"), ("key", "text")]);
    assert_eq!(app.json(&many), json!([["json", "{\"a\":[1,null]}"], ["none", null], ["text", "ä€😀"]]));

    let entry = |key: &str| app.json(&path("/kv/entry", &[("key", key)]));
    app.has_put("meta", b"1", &json!({"metadata": {"by": "ä", "n": [1]}}));
    assert_eq!(entry("meta"), json!({"value": "1", "metadata": {"by": "ä", "n": [1]}, "cacheStatus": null}));
    app.has_put("meta", b"2", &Value::Null);
    assert_eq!(entry("meta")["metadata"], Value::Null, "it goes with the value that it was put with");
    app.has_put("soon", b"1", &json!({"expirationTtl": 1, "metadata": "m"}));
    eventually("the key has expired", || app.get("soon", "text").text() == "null");
    app.has_put("kept", b"3", &json!({"expirationTtl": 3600, "metadata": "m"}));
    let listed = app.list(&json!({"prefix": "kept"}));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let left = listed["keys"][0]["expiration"].as_u64().and_then(|at| at.checked_sub(now));
    assert!(left.is_some_and(|left| (3_500..=3_601).contains(&left)), "{listed}");

    drop(server);
    let server = place.serve();
    let app = App(server.address);
    let entry = app.json(&path("/kv/entry", &[("key", "kept")]));
    assert_eq!(entry, json!({"value": "3", "metadata": "m", "cacheStatus": null}));
    let deleted = get(server.address, &path("/kv/delete", &[("key", "kept")]));
    assert_eq!((deleted.text().as_str(), app.get("kept", "text").text().as_str()), ("undefined", "null"));
    Ok(())
}

#[test(needs(Javascript, Redis))]
fn lists_come_in_pages_in_the_order_of_bytes() -> TestResult {
    StorePlace::all()?.iter().try_for_each(lists_come_in_order)
}

fn lists_come_in_order(place: &StorePlace) -> TestResult {
    let server = place.serve();
    let app = App(server.address);
    let names = ["a", "b/1", "b/2", "b/ä", "b/\u{ffff}", "b/😀", "c"];
    for name in names.iter().rev() {
        app.has_put(name, b"1", &json!({"metadata": name}));
    }
    let keys = |page: &Value| -> Vec<String> {
        let keys = page["keys"].as_array().cloned().unwrap_or_default();
        assert!(keys.iter().all(|key| key["name"] == key["metadata"]), "{page}");
        keys.iter().filter_map(|key| key["name"].as_str().map(str::to_owned)).collect()
    };
    let all = app.list(&Value::Null);
    assert_eq!((keys(&all), &all["list_complete"]), (names.map(str::to_owned).to_vec(), &json!(true)));
    let (mut found, mut cursor, mut pages) = (Vec::new(), Value::Null, 0);
    loop {
        let page = app.list(&json!({"prefix": "b/", "limit": 2, "cursor": cursor}));
        found.extend(keys(&page));
        pages += 1;
        if page["list_complete"] == true {
            break;
        }
        cursor = page["cursor"].clone();
    }
    assert_eq!(found, names[1..6]);
    assert!((3..=4).contains(&pages), "{pages}");
    assert_eq!(app.list(&json!({"prefix": "d"})), json!({"keys": [], "list_complete": true, "cacheStatus": null}));
    // A key that others have set, so long that there can be no metadata of it.
    let long = "z".repeat(1_024);
    let store = if place.redis.is_some() { "links" } else { "workers/values" };
    let mut put = command();
    put.arg("kv").arg("--data-dir").arg(place.folder.path().join("state")).args(["put", store, &long, "v"]);
    let put = run(put);
    assert_eq!(put.code, Some(0), "{}", put.stderr);
    let listed = app.list(&json!({"prefix": "z"}));
    assert_eq!(listed["keys"], json!([{"name": long}]), "{listed}");
    Ok(())
}

#[test(needs(Javascript))]
fn all_workers_have_the_same_values() -> TestResult {
    for kind in ["thread", "process"] {
        let data = tempfile::tempdir()?;
        let server = workers(data.path(), &["--workers", "2", "--worker-kind", kind]);
        // Connections are given to the workers in turn.
        let mut apps: Vec<Connection> = (0..2).map(|_| Connection::open(server.address)).collect();
        for turn in 0..20 {
            let (key, options) = (format!("key-{turn}"), json!({"metadata": turn}).to_string());
            let put = path("/kv/put", &[("key", &key), ("options", &options)]);
            let writer = &mut apps[turn % 2];
            writer.send(format!("POST {put} HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nvalue"));
            assert_eq!(writer.response().text(), "undefined", "{kind}");
            let read = apps[1 - turn % 2].get(&path("/kv/entry", &[("key", &key)]));
            let read: Value = serde_json::from_slice(&read.body)?;
            assert_eq!(read, json!({"value": "value", "metadata": turn, "cacheStatus": null}), "{kind}");
        }
        let served: Vec<u64> = server.status()["workers"]
            .as_array()
            .map(|workers| workers.iter().filter_map(|worker| worker["requests"].as_u64()).collect())
            .unwrap_or_default();
        assert!(served.len() == 2 && served.iter().all(|&requests| requests >= 20), "{kind}: {served:?}");
    }
    Ok(())
}

#[test(needs(Javascript))]
fn what_is_not_granted_or_too_large_is_an_error_that_says_so() -> TestResult {
    let data = tempfile::tempdir()?;
    let server = workers(data.path(), &["--body-max", "16MiB", "--workers", "1"]);
    let app = App(server.address);
    let denied = "the store `not-granted` is not granted; to grant it: `--store not-granted`, or `stores = [\"not-granted\"]` of the app in wasmhost.toml";
    for (operation, told) in [("get", "GET"), ("list", "GET"), ("put", "PUT"), ("delete", "DELETE")] {
        let response = get(server.address, &path(&format!("/kv/{operation}/REFUSED"), &[("key", "a")]));
        assert_eq!(
            (response.status, response.text()),
            (400, format!("Error: KV {told} failed: {denied}")),
            "{operation}"
        );
    }
    server.wait_for_record("the grant that is missing", |record| {
        record["limit"] == "--store" && message(record).contains("`--store not-granted`")
    });
    let cached = get(server.address, &path("/cache/match", &[("url", "http://any.test/")]));
    assert!(cached.status == 400 && cached.text().contains("`--store cache`"), "{}", cached.text());

    let most = vec![0x80; 4 << 20];
    app.has_put("large", &most, &Value::Null);
    assert_eq!(app.get("large", "stream").body, most);
    let larger = [most.as_slice(), b"x"].concat();
    let error = "KV PUT failed: Value length of 4194305 exceeds limit of 4194304: stores take values of up to 4 MiB, where Workers takes 25 MiB.";
    let refused = app.put("large", &larger, &Value::Null);
    assert_eq!((refused.status, refused.text()), (400, format!("Error: {error}")));
    let refused = request(server.address, "POST", &path("/kv/put", &[("key", "large"), ("as", "stream")]), &larger);
    assert!(refused.text().starts_with("Error: KV PUT failed: Value length exceeds limit"), "{}", refused.text());
    assert_eq!(app.get("large", "arrayBuffer").body.len(), most.len(), "nothing was changed");
    for (key, options, expected) in [
        ("k".repeat(513).as_str(), json!(null), "exceeds key length limit of 512"),
        ("", json!(null), "TypeError: Key name cannot be empty."),
        ("a", json!({"metadata": "x".repeat(1_023)}), "Metadata size of 1025 exceeds limit of 1024."),
        ("a", json!({"expirationTtl": 0}), "Invalid expiration_ttl of 0."),
        ("\u{10ffff}a", json!(null), "keys that begin with U+10FFFF are for metadata"),
    ] {
        let refused = app.put(key, b"1", &options);
        assert!(refused.status == 400 && refused.text().contains(expected), "{}", refused.text());
    }
    assert_eq!(server.sum("generation"), 1, "the instance goes on");
    Ok(())
}

#[test(needs(Javascript))]
fn what_is_put_after_the_response_is_there_before_the_next_request() -> TestResult {
    let data = tempfile::tempdir()?;
    let server = workers(data.path(), &["--workers", "1", "--instances-per-worker", "1"]);
    let later = request(server.address, "POST", &path("/kv/later", &[("key", "a")]), b"after");
    assert_eq!(later.text(), "later");
    assert_eq!(App(server.address).get("a", "text").text(), "after");
    Ok(())
}

#[test(needs(Javascript))]
fn operations_on_stores_leave_nothing_in_the_instance() -> TestResult {
    let data = tempfile::tempdir()?;
    let server = workers(data.path(), &["--workers", "1", "--instances-per-worker", "1"]);
    let mut connection = Connection::open(server.address);
    for turn in 0..1_000 {
        let response = connection.get(&path("/kv/churn", &[("key", &(turn % 7).to_string()), ("length", "100000")]));
        assert_eq!(response.text(), "true", "{turn}");
    }
    assert_eq!(server.sum("generation"), 1, "the first instance lives still");
    let bytes = server.status()["instance_memory_bytes"].as_u64().unwrap_or(u64::MAX);
    assert!(bytes < 60 << 20, "{bytes} bytes");
    Ok(())
}

#[test(needs(Javascript))]
fn the_hosts_variables_go_before_those_of_the_project() -> TestResult {
    let data = tempfile::tempdir()?;
    let server =
        workers(data.path(), &["--env", "GRANTED=by the host", "--env", "SECRET=s", "--env", "KV=no variable"]);
    let env = App(server.address).json("/env");
    let names = json!(["GRANTED", "OBJECT", "TEXT", "SECRET", "KV", "REFUSED", "SECOND", "ECHO"]);
    let expected = json!({"names": names, "TEXT": "of the file", "OBJECT": {"a": [1, null]}, "GRANTED": "by the host", "SECRET": "s", "process": ["by the host", "{\"a\":[1,null]}"]});
    assert_eq!(env, expected);
    Ok(())
}

/// Asks a cache of the application.
fn cached(server: &Server, fields: &str) -> Response {
    let mut connection = Connection::open(server.address);
    let asked = path("/cache/match", &[("url", "https://example.test/a?b")]);
    connection.send(format!("GET {asked} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{fields}\r\n"));
    connection.response()
}

#[test(needs(Javascript))]
fn responses_are_cached_by_the_rules_of_http_for_all_workers() -> TestResult {
    let data = tempfile::tempdir()?;
    let server = workers(data.path(), &["--store", "cache", "--worker-kind", "process"]);
    let put = |headers: &Value, body: &[u8]| {
        let parameters = [("url", "https://example.test/a?b"), ("headers", &headers.to_string())];
        request(server.address, "POST", &path("/cache/put", &parameters), body)
    };
    assert_eq!(cached(&server, "").status, 404);
    let body: Vec<u8> = (0..=255).collect();
    let stored = put(&json!({"cache-control": "max-age=60", "etag": "\"1\"", "x-a": "kept"}), &body);
    assert_eq!((stored.status, stored.text().as_str()), (200, "undefined"));
    for _ in 0..4 {
        let found = cached(&server, "");
        assert_eq!((found.status, &found.body), (200, &body));
        assert_eq!((found.header("cf-cache-status"), found.header("x-a")), (Some("HIT"), Some("kept")));
        let age = found.header("age").and_then(|age| age.parse::<u64>().ok());
        assert!(age.is_some_and(|age| age < 60), "{age:?}");
    }
    let known = cached(&server, "If-None-Match: W/\"1\"\r\n");
    assert_eq!((known.status, known.body.len(), known.header("etag")), (304, 0, Some("\"1\"")));
    let part = cached(&server, "Range: bytes=250-\r\n");
    assert_eq!(
        (part.status, part.body.as_slice(), part.header("content-range")),
        (206, &body[250..], Some("bytes 250-255/256"))
    );
    for headers in [json!({"cache-control": "no-store"}), json!({"cache-control": "max-age=60", "set-cookie": "a=1"})] {
        assert_eq!(put(&headers, b"other").text(), "undefined");
        assert_eq!(cached(&server, "").body, body, "{headers}");
    }
    let refused = put(&json!({"vary": "*"}), b"other");
    assert_eq!(refused.text(), "TypeError: Cannot cache response with 'Vary: *' header.");
    assert_eq!(put(&json!({"cache-control": "max-age=1"}), b"short").text(), "undefined");
    eventually("the response is stale", || cached(&server, "").status == 404);
    let delete = path("/cache/delete", &[("url", "https://example.test/a?b")]);
    assert_eq!(get(server.address, &delete).text(), "false");
    put(&json!({}), b"by its status");
    assert_eq!(
        (cached(&server, "").text().as_str(), get(server.address, &delete).text().as_str()),
        ("by its status", "true")
    );
    Ok(())
}

/// A component of `guest/javascript`, as a file of settings names it.
fn component(name: &str) -> String {
    facility::javascript().join(format!("{name}.wasm")).display().to_string()
}

/// Waits until the app of this host is there, which may have to be compiled first.
fn is_loaded(server: &Server, host: &str) {
    eventually_within(FIRST_START_CEILING, &format!("{host} is loaded"), || {
        ask(server.address, host, "/").status != 503
    });
}

#[test(needs(Javascript))]
fn links_runs_as_it_is_written_for_workers() -> TestResult {
    let folder = Folder::new(&format!(
        "data-dir = \"state\"\n[[app]]\nname = \"links\"\ncomponent = \"{}\"\nroutes = [\"*\"]\nstores = [\"LINKS\", \"cache\"]\n\
         [app.env]\nADMIN_TOKEN = \"secret\"\n[[app.schedule]]\ncron = \"* * * * * *\"\n",
        component("links"),
    ))?;
    let server = folder.serve(&[]);
    is_loaded(&server, "go.test");
    assert_eq!(ask(server.address, "go.test", "/").text(), "<h1>Short links</h1>");
    let admin = |method: &str, path: &str, body: &str, token: &str| {
        let mut connection = Connection::open(server.address);
        connection.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: go.test\r\nAuthorization: Bearer {token}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let response = connection.response();
        (response.status, serde_json::from_slice::<Value>(&response.body).unwrap_or_default())
    };
    let create = |body: Value| admin("POST", "/api/links", &body.to_string(), "secret");
    assert_eq!(admin("POST", "/api/links", "{}", "guessed").0, 401);
    assert_eq!(create(json!({"url": "no"})), (400, json!({"error": "url is no URL"})));
    let made = create(json!({"url": "https://example.test/a?b=ä", "slug": "one"}));
    assert_eq!(made, (201, json!({"slug": "one", "short": "http://go.test/one"})));
    assert_eq!(create(json!({"url": "https://other.test", "slug": "one"})).0, 409);
    for slug in ["two", "three"] {
        assert_eq!(create(json!({"url": "https://other.test/", "slug": slug, "days": 1})).0, 201);
    }
    for _ in 0..3 {
        let followed = get(server.address, "/one");
        assert_eq!((followed.status, followed.header("location")), (302, Some("https://example.test/a?b=%C3%A4")));
    }
    assert_eq!(get(server.address, "/none").status, 404);
    let (_, first) = admin("GET", "/api/links?limit=2", "", "secret");
    let slugs = |page: &Value| {
        page["links"].as_array().map(|links| links.iter().map(|link| link["slug"].clone()).collect::<Vec<_>>())
    };
    assert_eq!(slugs(&first), Some(vec![json!("one"), json!("three")]), "{first}");
    assert!(first["links"][0]["expiration"].is_u64() && first["links"][0]["host"] == "example.test", "{first}");
    let (_, second) = admin(
        "GET",
        &format!("/api/links?limit=2&cursor={}", first["cursor"].as_str().unwrap_or_default()),
        "",
        "secret",
    );
    assert_eq!((slugs(&second), &second["cursor"]), (Some(vec![json!("two")]), &Value::Null), "{second}");
    assert_eq!(admin("DELETE", "/api/links/two", "", "secret").0, 204);
    assert_eq!(get(server.address, "/two").status, 404);

    // The first one that is found is cached, so it has to be asked for when it is right: by another URL each time.
    let mut asked = 0;
    eventually("a run of the schedule has counted", || {
        asked += 1;
        let summary = get(server.address, &format!("/api/summary?{asked}"));
        let summary: Value = serde_json::from_slice(&summary.body).unwrap_or_default();
        summary["links"] == 2
            && summary["hits"] == 3
            && summary["cron"] == "* * * * * *"
            && summary["hosts"] == json!({"example.test": 1, "other.test": 1})
    });
    let cached = get(server.address, &format!("/api/summary?{asked}"));
    assert_eq!(cached.header("cf-cache-status"), Some("HIT"), "{:?}", cached.headers);
    Ok(())
}

#[test(needs(Javascript))]
fn only_what_asks_for_a_store_imports_one() -> TestResult {
    for (name, has_store) in [("workers", true), ("links", true), ("conformance", false), ("hono", false)] {
        let mut inspect = command();
        inspect.args(["inspect", &component(name), "--json"]);
        let report = run(inspect);
        assert_eq!(report.code, Some(0), "{}", report.stderr);
        assert_eq!(report.stdout.contains("wasmhost:keyvalue/entries"), has_store, "{name}: {}", report.stdout);
    }
    Ok(())
}

/// Under Node.js, on a store in memory.
#[test(needs(Javascript))]
fn the_parts_that_ask_no_host_hold_their_own_tests() -> TestResult {
    let units = concat!(env!("CARGO_MANIFEST_DIR"), "/../guest/javascript/units");
    let output = Command::new("node").arg("--test").arg(units).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("# pass ") && !said.contains("# pass 0"), "{said}");
    Ok(())
}

#[test(needs(Javascript))]
fn schedules_call_scheduled_and_what_fails_of_it_is_a_failed_run() -> TestResult {
    let schedule = |name: &str, cron: &str| format!("[[app.schedule]]\nname = \"{name}\"\ncron = \"{cron}\"\n");
    let folder = Folder::new(&format!(
        "data-dir = \"state\"\n{}{}{}{}{}",
        app("workers", &component("workers"), "*", "stores = [\"values\", \"SECOND\"]"),
        schedule("well", "*/1 * * * * *"),
        schedule("throws", "* * * * * *"),
        schedule("left", "0-59 * * * * *"),
        schedule("named", "* * * * SUN-SAT"),
    ))?;
    let server = folder.serve(&["--workers", "1"]);
    is_loaded(&server, "any.test");
    let outcome = |name: &str| {
        let app = status_of(&server, "workers");
        let found = app["schedules"].as_array().and_then(|all| all.iter().find(|one| one["name"] == name).cloned());
        found.unwrap_or_default()["last"]["outcome"].clone()
    };
    for (name, expected) in [("well", "done"), ("throws", "failed"), ("left", "failed")] {
        eventually(&format!("{name} has run"), || outcome(name) == expected);
    }
    server.wait_for_record("the error of a run", |record| message(record).contains("Error: a run that fails"));
    server
        .wait_for_record("the rest's error", |record| message(record).contains("Error: what was left of a run fails"));
    let run = |cron: &str| {
        let found = get(server.address, &path("/kv/get/SECOND", &[("key", &format!("run {cron}")), ("type", "json")]));
        serde_json::from_slice::<Value>(&found.body).unwrap_or_default()
    };
    let well = run("*/1 * * * * *");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis();
    let late = well["scheduledTime"].as_u64().and_then(|due| now.checked_sub(u128::from(due)));
    assert!(well["type"] == "scheduled" && late.is_some_and(|late| late < 60_000), "{well}");
    // The application knows the pattern as its own file has it. It is due at each full minute.
    eventually_within(Duration::from_secs(100), "the pattern with names of days", || {
        run("* * * * 1-7")["cron"] == "* * * * 1-7"
    });
    // No client's request is a run.
    let mut connection = Connection::open(server.address);
    connection.send("POST /.well-known/wasmhost/schedule HTTP/1.1\r\nHost: test\r\nx-wasmhost-schedule-cron: forged\r\nx-wasmhost-schedule-time: 1\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((connection.response().status, run("forged")), (404, Value::Null));
    Ok(())
}

#[test(needs(Javascript))]
fn a_service_is_another_app_of_the_host() -> TestResult {
    let apps = |services: &str| {
        let of = format!("stores = [\"values\", \"SECOND\"]\n{services}");
        format!(
            "data-dir = \"state\"\n{}{}",
            app("workers", &component("workers"), "workers.test", &of),
            app("conformance", &component("conformance"), "conformance.test", ""),
        )
    };
    let folder = Folder::new(&apps("services = [\"echo=conformance\"]"))?;
    let server = folder.serve(&[]);
    for host in ["workers.test", "conformance.test"] {
        is_loaded(&server, host);
    }
    let call = || {
        let mut connection = Connection::open(server.address);
        connection.send("POST /service/echo HTTP/1.1\r\nHost: workers.test\r\nX-A: 1\r\nContent-Type: text/x\r\nContent-Length: 4\r\n\r\nbody");
        connection.response()
    };
    let answer = call();
    assert_eq!((answer.status, answer.text().as_str()), (200, "body"), "{:?}", answer.headers);
    folder.write(&apps(""))?;
    reload(&server);
    eventually("the grant is gone", || call().status == 400);
    let denied = "TypeError: the service `echo` is not granted; to grant it: `services = [\"echo\"]` of the app in wasmhost.toml";
    assert_eq!(call().text(), denied);
    Ok(())
}
