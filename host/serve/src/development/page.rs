//! The pages for browsers. All text in them is escaped, since it comes from a component, a toolchain or a source file. They
//! load and run nothing, and their content security policy (`http::respond`) makes sure of it.

use std::fmt::Write;

use wasmhost_sandbox::{SourcePlace, Trace, TraceFrame};

const STYLE: &str = "\
:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.3rem;color:#c62828;margin:0 0 1rem}pre{font:13px/1.5 ui-monospace,monospace;background:#8881;\
border-left:4px solid #c62828;padding:.8rem 1rem;overflow-x:auto;white-space:pre-wrap;overflow-wrap:anywhere;tab-size:4}\
ol{padding-left:1.5rem}li{margin:.3rem 0;overflow-wrap:anywhere}code{font:13px ui-monospace,monospace}.place{opacity:.7}\
.at{display:block;background:#c6282833;margin:0 -1rem;padding:0 1rem}footer{margin-top:2rem;font-size:.85rem;opacity:.7}";

/// What is told in the component's place. It looks again by itself, until the component is there.
pub(super) fn notice(title: &str, text: &str, hint: &str) -> String {
    let mut body = String::new();
    if !text.is_empty() {
        // Writing to a string does not fail.
        let _ = write!(body, "<pre>{}</pre>", escape(text.trim_end()));
    }
    if !hint.is_empty() {
        let _ = write!(body, "<p>{}</p>", escape(hint));
    }
    whole(title, &body, true)
}

/// A request that failed.
pub(super) fn failure(headline: &str, what: &str, flag: Option<&str>, trace: Option<&Trace>) -> String {
    let mut body = String::new();
    if !what.is_empty() {
        let _ = write!(body, "<pre>{}</pre>", escape(what));
    }
    if let Some(flag) = flag {
        let _ = write!(body, "<p>{}</p>", escape(flag));
    }
    if let Some(trace) = trace.filter(|trace| !trace.frames.is_empty()) {
        // What the developer wrote comes first, however deep below the library's functions it lies.
        let own = |frame: &&TraceFrame| frame.place.as_ref().is_some_and(|place| !place.excerpt.is_empty());
        let own = trace.frames.iter().find(own);
        if let Some(frame) = own {
            show(&mut body, frame);
        }
        body.push_str("<ol>");
        for frames in trace.frames.chunk_by(|one, next| one.is_same_place(next)) {
            body.push_str("<li>");
            show(&mut body, &frames[0]);
            if frames.len() > 1 {
                let _ = write!(body, " × {}", frames.len());
            }
            body.push_str("</li>");
        }
        body.push_str("</ol>");
    }
    whole(headline, &body, false)
}

fn show(body: &mut String, frame: &TraceFrame) {
    let _ = write!(body, "<code>{}</code>", escape(&frame.function));
    if let Some(place) = &frame.place {
        let _ = write!(body, " <code class=place>{}</code>", escape(&place.to_string()));
        if !place.excerpt.is_empty() {
            let _ = write!(body, "<pre>{}</pre>", excerpt(place));
        }
    }
}

fn excerpt(place: &SourcePlace) -> String {
    let mut text = String::new();
    let caret = place.caret().map(|caret| format!("\n{:>5} | {caret}", "")).unwrap_or_default();
    for (number, line) in &place.excerpt {
        let line = escape(line);
        let _ = if *number == place.line {
            write!(text, "<span class=at>{number:>5} | {line}{caret}</span>")
        } else {
            writeln!(text, "{number:>5} | {line}")
        };
    }
    text
}

fn whole(title: &str, body: &str, again: bool) -> String {
    let refresh = if again { "<meta http-equiv=refresh content=1>" } else { "" };
    let title = escape(title);
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8>{refresh}<meta name=viewport content=\"width=device-width\">\
<title>{title}</title><style>{STYLE}</style><h1>{title}</h1>{body}\
<footer>wasmhost dev tells reasons; in production clients never see them.</footer></html>\n"
    )
}

/// Text as HTML shows it as it is.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_becomes_markup() {
        let evil = "<script>alert(\"1\")</script>&'";
        let place = SourcePlace { file: evil.to_owned(), line: 1, column: 0, excerpt: vec![(1, evil.to_owned())] };
        let trace = Trace { frames: vec![TraceFrame { function: evil.to_owned(), place: Some(place) }] };
        for page in [failure(evil, evil, Some(evil), Some(&trace)), notice(evil, evil, evil)] {
            assert!(
                !page.contains("<script") && page.matches("&lt;script&gt;alert(&quot;1&quot;)").count() >= 4,
                "{page}"
            );
        }
    }
}
