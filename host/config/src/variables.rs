//! Variables of the environment that are named as ours: which of them nobody reads.

use super::capability::Capabilities;
use super::nearest::unknown;
use super::settings;

const PREFIX: &str = "WASMHOST_";

/// Those that are no settings: which component and which file, `wasmhost dev`'s flag, and what the host's own processes and
/// its tests say to each other.
const OTHERS: [&str; 7] = [
    "WASMHOST_COMPONENT",
    "WASMHOST_CONFIG",
    "WASMHOST_RELEASE",
    "WASMHOST_COMPILE_CHILD",
    "WASMHOST_COMPILE_TIER",
    "WASMHOST_TAKES_OVER",
    "WASMHOST_WRITE_DOCUMENTS",
];

/// Those of tests (what they inject among them, whose full name no build for users has); and those that Kubernetes sets in
/// every container when a service is named `wasmhost` (Kubernetes documentation, "Service", "Environment variables").
const OTHERS_BEGIN: [&str; 5] =
    ["WASMHOST_TEST_", "WASMHOST_FUZZ_", "WASMHOST_INJ", "WASMHOST_SERVICE_", "WASMHOST_PORT"];

/// What is wrong with each of these names that begins as ours and is not known.
pub(super) fn mistakes(capabilities: Capabilities, names: impl IntoIterator<Item = String>) -> Vec<String> {
    let settings: Vec<String> = settings::all(capabilities).map(settings::Setting::variable).collect();
    let known = || settings.iter().map(String::as_str).chain(OTHERS);
    let is_foreign = |name: &str| OTHERS_BEGIN.iter().any(|begin| name.starts_with(begin));
    let ours = names.into_iter().filter(|name| name.starts_with(PREFIX));
    let strange = ours.filter(|name| !is_foreign(name) && !known().any(|known| known == name));
    let mut mistakes: Vec<String> = strange.map(|name| unknown("variable", &name, known())).collect();
    mistakes.sort();
    mistakes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_nobody_reads_is_a_mistake_that_names_the_nearest() {
        let names = [
            "PATH",
            "WASMHOST_WORKERS",
            "WASMHOST_CONFIG",
            "WASMHOST_WROKERS",
            "WASMHOST_TEST_GUESTS",
            "WASMHOST_SERVICE_HOST",
            "WASMHOST_PORT_8080_TCP",
        ];
        let told = mistakes(Capabilities::NONE, names.map(str::to_owned));
        let reason = "unknown variable `WASMHOST_WROKERS`, is `WASMHOST_WORKERS` meant?";
        assert_eq!(told, [reason]);
    }
}
