//! tables.wat (wasi 0.2, answers hello to every path) with more in it: what no toolchain would make, or what has to be
//! exact.

use std::fs;
use std::io::Write;

use super::guest;

/// What is put into tables.wat.
#[derive(Default)]
pub struct More<'a> {
    /// Imports of the component, and functions of its own that are lowered from them.
    pub component: &'a str,
    /// Names of these as core functions (`$name` and `"host" "name"`), with their core types.
    pub imports: &'a [(&'a str, &'a str)],
    /// In the guest's module: functions, memories, tables.
    pub module: &'a str,
    /// At the beginning of its `handle`; the request's path stands at 1024.
    pub handle: &'a str,
}

impl More<'_> {
    /// The component as a file, which goes with what is returned.
    pub fn file(&self) -> tempfile::NamedTempFile {
        let text = fs::read_to_string(guest("wat/tables.wat")).expect("a text");
        let before = |text: &str, anchor: &str, more: &str| {
            assert_eq!(text.matches(anchor).count(), 1, "{anchor}");
            text.replace(anchor, &format!("{more}\n{anchor}"))
        };
        let imports =
            self.imports.iter().map(|(name, shape)| format!("(import \"host\" \"{name}\" (func ${name} {shape}))\n"));
        let given = self.imports.iter().map(|(name, _)| format!("(export \"{name}\" (func ${name}))\n"));
        let text = before(&text, "  (core module $guest\n", self.component);
        let text = before(&text, "    (import \"host\" \"drop-request\"", &imports.collect::<String>());
        let text = before(&text, "    (global $result", self.module);
        let text = before(&text, "      (call $drop-request (local.get $request))", self.handle);
        let text = before(&text, "    (export \"drop-request\" (func $drop-request))", &given.collect::<String>());
        let mut file = tempfile::Builder::new().suffix(".wat").tempfile().expect("a file");
        file.write_all(text.as_bytes()).expect("it is written");
        file
    }
}

/// Waits on the clock: `(call $wait (i64 of nanoseconds))`.
pub const WAIT: &str = r#"
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
  (alias export $poll "pollable" (type $pollable-type))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
    (alias outer 1 $pollable-type (type $pollable-outer))
    (export "pollable" (type $pollable (eq $pollable-outer)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
  (core func $block (canon lower (func $poll "[method]pollable.block")))
  (core func $subscribe (canon lower (func $clock "subscribe-duration")))
  (core func $drop-pollable (canon resource.drop $pollable-type))
"#;

/// The imports that [`WAIT`] and [`WAIT_FUNCTION`] need.
pub const WAIT_IMPORTS: [(&str, &str); 3] =
    [("block", "(param i32)"), ("subscribe", "(param i64) (result i32)"), ("drop-pollable", "(param i32)")];

pub const WAIT_FUNCTION: &str = "
    (func $wait (param $ns i64) (local $timer i32)
      (local.set $timer (call $subscribe (local.get $ns)))
      (call $block (local.get $timer))
      (call $drop-pollable (local.get $timer)))
";

/// A component in text whose module has no memory: `functions`, of which one is exported as `handle` with two parameters.
pub fn component_of(functions: &str) -> String {
    format!(
        r#"(component
  (import "wasi:http/types@0.2.0" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $types "incoming-request" (type $incoming-request))
  (alias export $types "response-outparam" (type $response-outparam))
  (core module $guest
{functions})
  (core instance $guest (instantiate $guest))
  (func $handle (param "request" (own $incoming-request)) (param "response-out" (own $response-outparam))
    (canon lift (core func $guest "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))
"#
    )
}
