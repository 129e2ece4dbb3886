//! What a replay takes from a crash bundle: how a guest ran, and nothing that would grant the next guest anything.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::build_for_replay;

fn replayed(recorded: &BTreeMap<String, String>) -> Config {
    let known = (CAPABILITIES, MACHINE);
    build_for_replay(Path::new("app.wasm"), &args(&[]), recorded, known).expect("settings")
}

#[test]
fn a_bundle_says_how_its_guest_ran_and_grants_nothing() {
    let of = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    let bare = format!("{:?}", replayed(&BTreeMap::new()).apps);
    let limited = replayed(&of("cpu-limit", "250ms"));
    assert_eq!(limited.apps.first().map(|app| app.limits.cpu_limit), Some(Duration::from_millis(250)));
    for (name, value) in [
        ("env", "A=b"),
        ("env-file", "/etc/environment"),
        ("secret", "PASSWORDS=file:/etc/passwd"),
        ("arg", "-v"),
        ("dir", "/::/host:rw"),
        ("allow-host", "localhost:22:private"),
        ("store", "cart"),
        ("sqlite", "cart"),
        ("ca-file", "/etc/ca.pem"),
        ("config-value", "A=b"),
        ("shelf", "a"),
        ("bucket", "a"),
        ("services", "other"),
        ("static", "/"),
        ("probe", "/"),
    ] {
        assert_eq!(format!("{:?}", replayed(&of(name, value)).apps), bare, "{name}");
    }
    let granted = settings::with_headings(CAPABILITIES).filter(|(heading, _)| *heading == settings::GRANTS);
    for (_, setting) in granted {
        assert_eq!(format!("{:?}", replayed(&of(setting.name, "a")).apps), bare, "{}", setting.name);
    }
}
