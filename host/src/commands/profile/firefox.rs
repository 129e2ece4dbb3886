//! PURE: the "processed" format of the Firefox Profiler (<https://profiler.firefox.com>, described in `docs-developer/` of
//! firefox-devtools/profiler): each app is a thread, and each stack a sample whose weight is its CPU time in milliseconds. When
//! something happened is not known: the stacks come one after another. (The kept crate for this, `fxprof-processed-profile`, has
//! wasmtime compiled in another form; what it writes of the same stacks has the same fields.)

use std::collections::HashMap;

use serde_json::{Value, json};
use wasmhost_supervise::profile::HostProfile;

/// The version of the format; later versions of the profiler read it.
const VERSION: u32 = 55;
/// Of the format that it is made from in Firefox.
const GECKO_VERSION: u32 = 24;

/// The profile, as JSON.
pub(super) fn write(profile: &HostProfile, host: &str) -> String {
    let mut stacks: HashMap<&str, ThreadStacks<'_>> = HashMap::new();
    for (app, frames, stack) in profile.named() {
        stacks.entry(app).or_default().add(&frames, stack.cpu_us);
    }
    let name = format!("wasmhost {host}");
    let threads = (1..).zip(&profile.apps).map(|(number, app)| {
        let stacks = stacks.remove(app.app.as_str()).unwrap_or_default();
        stacks.thread(&app.app, &name, number)
    });
    let threads: Vec<Value> = threads.collect();
    let written = json!({
        "meta": {
            "categories": [{ "name": "Other", "color": "grey", "subcategories": ["Other"] }],
            "debug": false,
            "extensions": { "baseURL": [], "id": [], "length": 0, "name": [] },
            "interval": profile.tick_us as f64 / 1e3,
            "preprocessedProfileVersion": VERSION,
            "processType": 0,
            "product": name,
            "sampleUnits": { "eventDelay": "ms", "threadCPUDelta": "µs", "time": "ms" },
            "startTime": 0.0,
            "symbolicated": true,
            "pausedRanges": [],
            "version": GECKO_VERSION,
            "usesOnlyOneStackType": true,
            "sourceCodeIsNotOnSearchfox": true,
            "markerSchema": [],
        },
        "libs": [],
        "threads": threads,
        "pages": [],
        "profilerOverhead": [],
        "counters": [],
    });
    written.to_string() + "\n"
}

/// The stacks of a thread: each is a function on top of another stack.
#[derive(Default)]
struct ThreadStacks<'a> {
    functions: Vec<&'a str>,
    /// By function.
    numbers: HashMap<&'a str, usize>,
    /// The stack below, and the function.
    stacks: Vec<(Option<usize>, usize)>,
    /// By the same.
    known: HashMap<(Option<usize>, usize), usize>,
    /// The stack of each sample, and its CPU time in microseconds.
    samples: Vec<(Option<usize>, u64)>,
}

impl<'a> ThreadStacks<'a> {
    fn add(&mut self, frames: &[&'a str], cpu_us: u64) {
        let mut below = None;
        for name in frames {
            let next = self.functions.len();
            let function = *self.numbers.entry(name).or_insert(next);
            if function == next {
                self.functions.push(name);
            }
            let key = (below, function);
            let next = self.stacks.len();
            let stack = *self.known.entry(key).or_insert(next);
            if stack == next {
                self.stacks.push(key);
            }
            below = Some(stack);
        }
        self.samples.push((below, cpu_us));
    }

    fn thread(&self, name: &str, process: &str, number: usize) -> Value {
        let count = self.functions.len();
        // What is the same of each function.
        let same = |value: Value| vec![value; count];
        let each: Vec<usize> = (0..count).collect();
        let milliseconds: Vec<f64> = self.samples.iter().map(|(_, us)| *us as f64 / 1e3).collect();
        // The time from one sample to the next is that which the first one took.
        let deltas: Vec<f64> =
            std::iter::once(0.0).chain(milliseconds.iter().copied()).take(self.samples.len()).collect();
        json!({
            "frameTable": {
                "length": count, "address": same(json!(-1)), "inlineDepth": same(json!(0)), "category": same(json!(0)),
                "subcategory": same(json!(0)), "func": each, "nativeSymbol": same(Value::Null), "innerWindowID": same(json!(0)),
                "line": same(Value::Null), "column": same(Value::Null),
            },
            "funcTable": {
                "length": count, "name": each, "isJS": same(json!(false)), "relevantForJS": same(json!(false)),
                "resource": same(json!(-1)), "fileName": same(Value::Null), "lineNumber": same(Value::Null),
                "columnNumber": same(Value::Null),
            },
            "stackTable": {
                "length": self.stacks.len(),
                "prefix": self.stacks.iter().map(|(below, _)| *below).collect::<Vec<_>>(),
                "frame": self.stacks.iter().map(|(_, function)| *function).collect::<Vec<_>>(),
            },
            "samples": {
                "length": self.samples.len(),
                "weightType": "tracing-ms",
                "stack": self.samples.iter().map(|(stack, _)| *stack).collect::<Vec<_>>(),
                "timeDeltas": deltas,
                "weight": milliseconds,
                "threadCPUDelta": self.samples.iter().map(|(_, us)| *us).collect::<Vec<_>>(),
            },
            "stringArray": self.functions,
            "markers": { "length": 0, "category": [], "data": [], "endTime": [], "name": [], "phase": [], "startTime": [] },
            "nativeSymbols": { "length": 0, "address": [], "functionSize": [], "libIndex": [], "name": [] },
            "resourceTable": { "length": 0, "lib": [], "name": [], "host": [], "type": [] },
            "name": name,
            "isMainThread": false,
            "pausedRanges": [],
            "pid": "1",
            "processName": process,
            "processShutdownTime": Value::Null,
            "processStartupTime": 0.0,
            "processType": "default",
            "registerTime": 0.0,
            "tid": number.to_string(),
            "unregisterTime": Value::Null,
            "showMarkersInTimeline": false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::profile;
    use super::*;

    #[test]
    fn each_app_is_a_thread_with_its_stacks() -> serde_json::Result<()> {
        let written: Value = serde_json::from_str(&write(&profile(), "h"))?;
        assert_eq!((&written["meta"]["product"], &written["meta"]["interval"]), (&json!("wasmhost h"), &json!(1.0)));
        let threads = &written["threads"];
        assert_eq!((&threads[0]["name"], &threads[1]["name"], &threads[2]), (&json!("a"), &json!("b"), &Value::Null));
        let a = &threads[0];
        assert_eq!(a["stringArray"], json!(["m!main", "m!f;x", "m!g<T>&"]));
        assert_eq!(a["stackTable"], json!({ "length": 3, "prefix": [null, 0, 0], "frame": [0, 1, 2] }));
        let samples = json!({
            "length": 2, "weightType": "tracing-ms", "stack": [1, 2], "timeDeltas": [0.0, 6.0], "weight": [6.0, 3.0],
            "threadCPUDelta": [6_000, 3_000],
        });
        assert_eq!(a["samples"], samples);
        for table in ["frameTable", "funcTable"] {
            for (column, values) in a[table].as_object().into_iter().flatten().filter(|(column, _)| *column != "length")
            {
                assert_eq!(values.as_array().map(Vec::len), Some(3), "{table} {column}");
            }
        }
        Ok(())
    }

    #[test]
    fn an_app_without_samples_is_an_empty_thread() -> serde_json::Result<()> {
        let mut profile = profile();
        profile.stacks.clear();
        let written: Value = serde_json::from_str(&write(&profile, "h"))?;
        assert_eq!(written["threads"][0]["samples"]["timeDeltas"], json!([]));
        Ok(())
    }
}
