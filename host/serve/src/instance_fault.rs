//! Why an instance was given up, as the primary is told.

use serde::{Deserialize, Serialize};

use wasmhost_sandbox::Fault;

/// Most bytes of what is said of a fault.
const DETAIL_BYTES_MAX: usize = 512;

/// Most bytes of the stack. (A message of a worker's process has room for it, however it is escaped.)
const TRACE_BYTES_MAX: usize = 5 << 10;

/// Why an instance was given up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InstanceFault {
    /// Its kind, as log and metrics name it.
    pub kind: String,
    /// What the engine or the host said: the first half KiB of it.
    pub detail: String,
    /// The stack of the guest, a line a frame: the first bytes of it, without control characters.
    pub trace: Option<String>,
    /// The number of the request on the worker; 0: the instance had none, or several.
    pub request: u64,
    /// The number of the revision that the instance was of.
    pub revision: u64,
}

impl InstanceFault {
    /// `trace`: its stack, a line a frame.
    pub(crate) fn of(fault: &Fault, trace: Option<&str>, request: u64, revision: u64) -> Self {
        let detail = fault.detail[..fault.detail.floor_char_boundary(DETAIL_BYTES_MAX)].to_owned();
        Self { kind: fault.kind.name().to_owned(), detail, trace: trace.map(shortened), request, revision }
    }
}

/// The beginning of a stack. Names in it are the component's.
fn shortened(trace: &str) -> String {
    let trace = &trace[..trace.floor_char_boundary(TRACE_BYTES_MAX)];
    trace.replace(|letter: char| letter.is_control() && letter != '\n', "?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_fits_a_message_however_its_names_are_written() {
        for name in ["a", "\"", "\u{1}", "\n", "\u{7f}", "\u{1f980}"] {
            let trace = shortened(&name.repeat(100_000));
            assert!(serde_json::json!(trace).to_string().len() < 12_000, "{name:?}: {}", trace.len());
        }
        assert_eq!(shortened("a\u{1}b\n"), "a?b\n");
    }
}
