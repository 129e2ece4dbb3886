//! Does a component start and serve as componentize-js makes it by itself, with no flag? It answers one request an instance.
//! `guest/toolchains.sh` builds it into the folder that `WASMHOST_TEST_TOOLCHAINS` names. (What `wasmhost build`
//! makes is asked in `table`.)

use std::time::Duration;

use serde_json::Value;

use crate::loading::compilations;
use crate::support::{Connection, Server, TestResult, facility, get};

/// Ceiling of a first start: it takes 20 to 60 s of CPU time to compile.
const FIRST_START_CEILING: Duration = Duration::from_secs(240);

#[test(needs(Toolchains))]
fn javascript_on_the_fetch_event_gets_an_instance_a_request() -> TestResult {
    let component = facility::toolchains().join("js-hello.wasm");
    let component = component.to_str().ok_or("a path in UTF-8")?;
    let cache = tempfile::tempdir()?;
    let flags = ["--cache-dir", cache.path().to_str().ok_or("a path in UTF-8")?];

    let server = Server::start_within(FIRST_START_CEILING, component, &flags);
    assert_eq!(compilations(&server), 1, "the first start");
    let started = server.wait_for_record("listening", |record| {
        record["message"].as_str().is_some_and(|message| message.starts_with("listening on "))
    });
    assert_eq!((&started["isolation"], &started["wasi"]), (&"request".into(), &"0.2".into()));
    let mut kept = Connection::open(server.address);
    for _ in 0..20 {
        for response in [kept.get("/"), get(server.address, "/?from=a-new-connection")] {
            assert_eq!((response.status, response.text().as_str()), (200, "Hello, World!"));
        }
    }
    let counted: Vec<String> = (0..3).map(|_| kept.get("/count").text()).collect();
    assert_eq!(counted, ["1", "1", "1"]);
    let complaints: Vec<Value> = server.records(|record| record["level"] == "WARN" || record["level"] == "ERROR");
    assert!(complaints.is_empty(), "{complaints:#?}");
    drop(server);

    let server = Server::start(component, &flags);
    assert_eq!(compilations(&server), 0, "the second start");
    assert_eq!(get(server.address, "/").text(), "Hello, World!");
    Ok(())
}
