//! The table of verbs: from a request's path with query to a [`Verb`].

use std::time::Duration;

use crate::query::{BadParameter, Query};
use crate::{Fault, Plain};

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// What `std` alone can answer.
    Plain(Plain),
    /// A fault before the response's head.
    Fault(Fault),
    /// Head and half of the body, then a fault.
    FaultAfterHead(Fault),
    /// Never answer: return without a response, or where one must return, never return.
    NeverAnswer,
    /// Wait for ever on the clock, before the head.
    WaitForever,
    /// Answer with an error-code.
    Error,
    /// Half of the body, then wait for ever.
    NeverFinish,
    /// Half of the body, then drop it unfinished.
    DropBody,
    /// Half of the body, then an error-code where there is one to give.
    ErrorAfterHead,
    /// A whole response, then a busy loop without end.
    LoopAfterBody,
    /// A busy loop in the function that the host calls for memory, from within a call of the host.
    ReallocLoop,
    /// A call with a handle that was given back.
    UseAfterDrop,
    /// More of the body after its end.
    WriteAfterFinish,
    /// Two answers to one request.
    AnswerTwice,

    /// The request's body and trailers back, as they come.
    Echo,
    /// The size of the request's body, and its trailers.
    BodySize,
    /// The request's head as text.
    Request,
    /// Chunks with a pause between them, of so many waits.
    Stream { chunks: u64, bytes: usize, pause: Duration, waits: u32 },
    /// An answer after a wait.
    Sleep(Duration),
    /// An answer, and work that goes on after it.
    Linger(Duration),
    /// A `content-length` that may not be true.
    Length { declared: u64, actual: u64 },
    /// A body with trailers.
    Trailers,
    /// An outgoing GET.
    Fetch { url: String },
    /// An outgoing POST of the request's body.
    FetchPost { url: String },
    /// The request's body into a file.
    Write { path: String },
    /// An outgoing TCP connection.
    Connect { address: String },
    /// Random bytes as hex.
    Random { bytes: u64 },
    /// A panic that says random bytes.
    PanicRandom { bytes: u64 },
    /// Handles of `fields`, each with a value of so many bytes, never given back.
    Handles { count: u64, bytes: usize },
    /// Futures of 0.3 itself, never given back.
    Futures { count: u64 },
    /// Outgoing requests that are never sent, each with bytes in its body.
    Unsent { count: u64, bytes: usize },
    /// The same file, opened so many times before the first is closed.
    Files { count: usize, path: String },
    /// Sets the times of a file to now.
    Touch { path: String },
    /// Waits on the clock, all at once.
    ManyTimers { count: usize, time: Duration },
    /// Outgoing GETs, all at once.
    FetchMany { count: usize, url: String },
    /// Outgoing GETs, one after the other.
    FetchEach { count: usize, url: String },
    /// Outgoing GETs, all at once, whose responses are kept and never read.
    FetchKeep { count: usize, url: String },
    /// An outgoing GET without a path.
    FetchBare { url: String },
    /// An outgoing GET with request-options: each of its times is this one.
    FetchWithin { time: Duration, url: String },
    /// What a guest learns of the transmission of a GET: sent to this URL, or dropped where there is none.
    Transmitted { url: String },
    /// Outgoing requests that are never sent, each with a method of so many letters.
    LongMethods { count: u64, bytes: usize },
    /// One call of the host with so many bytes.
    BigCopy { bytes: usize },
}

impl Verb {
    /// Reads the verb and its parameters.
    pub fn parse(path_with_query: &str) -> Result<Verb, BadParameter> {
        let (path, query) = path_with_query.split_once('?').unwrap_or((path_with_query, ""));
        let query = Query::new(query);
        let name = path.trim_start_matches('/');

        if let Some(plain) = Plain::parse(name, &query)? {
            return Ok(Verb::Plain(plain));
        }
        if let Some(fault) = Fault::parse(name, &query)? {
            return Ok(Verb::Fault(fault));
        }
        if let Some(name) = name.strip_suffix("-after-head")
            && let Some(fault) = Fault::parse(name, &query)?
        {
            return Ok(Verb::FaultAfterHead(fault));
        }
        Ok(match name {
            "never-answer" => Verb::NeverAnswer,
            "wait-forever" => Verb::WaitForever,
            "error" => Verb::Error,
            "never-finish" => Verb::NeverFinish,
            "drop-body" => Verb::DropBody,
            "error-after-head" => Verb::ErrorAfterHead,
            "loop-after-body" => Verb::LoopAfterBody,
            "realloc-loop" => Verb::ReallocLoop,
            "use-after-drop" => Verb::UseAfterDrop,
            "write-after-finish" => Verb::WriteAfterFinish,
            "answer-twice" => Verb::AnswerTwice,
            "echo" => Verb::Echo,
            "body-size" => Verb::BodySize,
            "request" => Verb::Request,
            "stream" => Verb::Stream {
                chunks: query.number("chunks", 1)?,
                bytes: query.number("bytes", 1)?,
                pause: query.milliseconds("ms")?,
                waits: query.number("waits", 1)?,
            },
            "sleep" => Verb::Sleep(query.milliseconds("ms")?),
            "linger" => Verb::Linger(query.milliseconds("ms")?),
            "length" => Verb::Length { declared: query.number("declared", 0)?, actual: query.number("actual", 0)? },
            "trailers" => Verb::Trailers,
            "fetch" => Verb::Fetch { url: query.text("url") },
            "fetch-post" => Verb::FetchPost { url: query.text("url") },
            "write" => Verb::Write { path: query.text("path") },
            "connect" => Verb::Connect { address: query.text("addr") },
            "random" => Verb::Random { bytes: query.number("bytes", 16)? },
            "panic-random" => Verb::PanicRandom { bytes: query.number("bytes", 16)? },
            "handles" => Verb::Handles { count: query.number("count", 1)?, bytes: query.number("bytes", 0)? },
            "futures" => Verb::Futures { count: query.number("count", 1)? },
            "unsent" => Verb::Unsent { count: query.number("count", 1)?, bytes: query.number("bytes", 1)? },
            "files" => Verb::Files { count: query.number("count", 1)?, path: query.text("path") },
            "touch" => Verb::Touch { path: query.text("path") },
            "many-timers" => Verb::ManyTimers { count: query.number("count", 1)?, time: query.milliseconds("ms")? },
            "fetch-many" => Verb::FetchMany { count: query.number("count", 1)?, url: query.text("url") },
            "fetch-each" => Verb::FetchEach { count: query.number("count", 1)?, url: query.text("url") },
            "fetch-keep" => Verb::FetchKeep { count: query.number("count", 1)?, url: query.text("url") },
            "fetch-bare" => Verb::FetchBare { url: query.text("url") },
            "fetch-within" => Verb::FetchWithin { time: query.milliseconds("ms")?, url: query.text("url") },
            "transmitted" => Verb::Transmitted { url: query.text("url") },
            "long-methods" => Verb::LongMethods { count: query.number("count", 1)?, bytes: query.number("bytes", 1)? },
            "big-copy" => Verb::BigCopy { bytes: query.number("bytes", 1)? },
            _ => Verb::Plain(Plain::NotFound),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_its_verb() {
        let cases = [
            ("/", Verb::Plain(Plain::Hello)),
            ("/hello", Verb::Plain(Plain::Hello)),
            ("/hello?a=b", Verb::Plain(Plain::Hello)),
            ("/nothing", Verb::Plain(Plain::NotFound)),
            ("/trap", Verb::Fault(Fault::Trap)),
            ("/exit", Verb::Fault(Fault::Exit(1))),
            ("/exit?code=0", Verb::Fault(Fault::Exit(0))),
            ("/exit-after-head?code=7", Verb::FaultAfterHead(Fault::Exit(7))),
            ("/hello-after-head", Verb::Plain(Plain::NotFound)),
            ("/error-after-head", Verb::ErrorAfterHead),
            ("/sleep?ms=20", Verb::Sleep(Duration::from_millis(20))),
            ("/fetch?url=http%3A%2F%2Fa%2Fb%3Fc", Verb::Fetch { url: "http://a/b?c".into() }),
        ];
        for (path, verb) in cases {
            assert_eq!(Verb::parse(path), Ok(verb), "{path}");
        }
    }

    #[test]
    fn a_wrong_number_is_named() {
        assert_eq!(Verb::parse("/sleep?ms=soon"), Err(BadParameter("ms")));
    }
}
