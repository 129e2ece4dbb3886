//! An error that a handler in JavaScript has thrown. The runtime answers with status 500, and in development tells of the
//! error in a field of the response, in JSON. The client gets a page in the place of this answer, and never the field.

use std::path::Path;

use http::HeaderMap;
use serde::Deserialize;

use wasmhost_sandbox::{SourcePlace, Trace, TraceFrame};

/// The field's name; `guest/js-runtime/src/development.js` has it, too.
const FIELD: &str = "wasmhost-error";

/// What was thrown.
#[derive(Debug)]
pub struct Thrown {
    /// The error's name and message, and those of its causes.
    pub what: String,
    /// Its stack, with lines of the project's sources.
    pub trace: Trace,
}

#[derive(Deserialize)]
struct Told {
    what: String,
    frames: Vec<ToldFrame>,
}

#[derive(Deserialize)]
struct ToldFrame {
    function: String,
    file: String,
    line: u32,
    column: u32,
}

impl Thrown {
    /// Takes the field out of a response, if it is there. Sources below `root` are read.
    pub fn take(headers: &mut HeaderMap, root: &Path) -> Option<Self> {
        let told: Told = serde_json::from_slice(headers.remove(FIELD)?.as_bytes()).ok()?;
        let frames = told.frames.into_iter().map(|ToldFrame { function, file, line, column }| TraceFrame {
            function,
            place: Some(SourcePlace { file, line, column, excerpt: Vec::new() }),
        });
        let mut trace = Trace { frames: frames.collect() };
        trace.read_sources(root);
        Some(Self { what: told.what, trace })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::development::{Audience, Reason, failure};

    #[test]
    fn an_error_is_shown_with_the_lines_around_its_first_place_in_the_project() -> Result<(), Box<dyn std::error::Error>>
    {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("app.js"), "one\n  two(<b>);\nthree\n")?;
        let told = r#"{"what":"Error: \u00e4 <i>","frames":[
            {"function":"f","file":"node_modules/a/index.js","line":1,"column":1},
            {"function":"g","file":"app.js","line":2,"column":7}]}"#;
        let mut headers = HeaderMap::new();
        headers.insert(FIELD, told.replace('\n', "").parse()?);
        let thrown = Thrown::take(&mut headers, dir.path()).ok_or("an error")?;
        assert!(headers.is_empty());
        let text = failure(Audience::Other, "500 the application failed", Reason::Thrown(&thrown)).text;
        let expected = "500 the application failed\nError: ä <i>\n  at f (node_modules/a/index.js:1:1)\n  at g (app.js:2:7)\n        1 | one\n  >     2 |   two(<b>);\n          |       ^\n        3 | three\n";
        assert_eq!(text, expected);
        let page = failure(Audience::Browser, "500", Reason::Thrown(&thrown)).text;
        assert!(page.contains("two(&lt;b&gt;);\n      |       ^</span>") && !page.contains("<i>"), "{page}");
        let stranger = failure(Audience::Stranger, "500", Reason::Thrown(&thrown)).text;
        assert!(!stranger.contains("two") && !stranger.contains("Error"), "{stranger}");
        Ok(())
    }

    #[test]
    fn a_field_that_says_something_else_is_taken_away() {
        let mut headers = HeaderMap::new();
        headers.insert(FIELD, http::HeaderValue::from_static("{}"));
        assert!(Thrown::take(&mut headers, Path::new("/")).is_none() && headers.is_empty());
        assert!(Thrown::take(&mut headers, Path::new("/")).is_none());
    }
}
