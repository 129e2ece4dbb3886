//! `/events`: those that are kept, as lines of JSON; with `?follow`, or for who accepts `text/event-stream` (server-sent events,
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html>), all that come besides.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::unfold;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::watch;

use super::AdminAnswer;
use super::answers::page;
use crate::events::KeptEvent;
use crate::host_status::HostStatus;

/// What keeps proxies from ending a stream on which nothing happens.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// An answer, and whether it goes on for as long as somebody reads it.
pub(super) fn answer<T>(request: &Request<T>, host_status: &Arc<HostStatus>) -> (AdminAnswer, bool) {
    let form = if wants_stream(request.headers()) { EventForm::Stream } else { EventForm::Lines };
    let query = request.uri().query().unwrap_or_default();
    let has = |name: &str| query.split('&').any(|part| part == name);
    let after = query.split('&').find_map(|part| part.strip_prefix("after="));
    // A browser that lost its stream says so which event was its last.
    let last = request.headers().get("last-event-id").and_then(|last| last.to_str().ok());
    let Ok(after) = after.or(last).unwrap_or("0").parse::<u64>() else {
        return (page(StatusCode::BAD_REQUEST, "text/plain", "400 `after` must be the number of an event\n"), false);
    };
    let follows = form == EventForm::Stream || has("follow");
    let reader = Reader { host_status: Arc::clone(host_status), news: host_status.events.news(), after, form };
    let body = if follows {
        StreamBody::new(unfold(reader, Reader::next)).boxed_unsync()
    } else {
        let all = form.written(&host_status.events.after(after));
        http_body_util::Full::new(all).boxed_unsync()
    };
    let mut response = Response::new(body);
    let content_type = HeaderValue::from_static(form.content_type());
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    (response, follows)
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| kind.trim().starts_with("text/event-stream"))
}

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EventForm {
    Lines,
    Stream,
}

impl EventForm {
    fn content_type(self) -> &'static str {
        match self {
            Self::Lines => "application/jsonl",
            Self::Stream => "text/event-stream",
        }
    }

    fn written(self, events: &[KeptEvent]) -> Bytes {
        let mut text = BytesMut::new();
        for KeptEvent { id, line } in events {
            if self == Self::Stream {
                text.extend_from_slice(format!("id: {id}\ndata: ").as_bytes());
            }
            text.extend_from_slice(line);
            text.extend_from_slice(if self == Self::Stream { b"\n\n" } else { b"\n" });
        }
        text.freeze()
    }
}

/// Who follows.
struct Reader {
    host_status: Arc<HostStatus>,
    news: watch::Receiver<u64>,
    after: u64,
    form: EventForm,
}

impl Reader {
    async fn next(mut self) -> Option<(Result<Frame<Bytes>, Infallible>, Self)> {
        loop {
            // Before it looks: what comes meanwhile is news.
            self.news.mark_unchanged();
            let events = self.host_status.events.after(self.after);
            if let Some(last) = events.last() {
                self.after = last.id;
                return Some((Ok(Frame::data(self.form.written(&events))), self));
            }
            if self.host_status.events.has_ended() {
                return None;
            }
            let heard = tokio::time::timeout(KEEP_ALIVE, self.news.changed()).await;
            match heard {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return None,
                Err(_) if self.form == EventForm::Stream => {
                    return Some((Ok(Frame::data(Bytes::from_static(b":\n\n"))), self));
                }
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_written_as_lines_and_as_server_sent_events() {
        let events = [1, 2].map(|id| KeptEvent { id, line: Bytes::from(format!("{{\"id\":{id}}}")) });
        assert_eq!(EventForm::Lines.written(&events), "{\"id\":1}\n{\"id\":2}\n");
        assert_eq!(EventForm::Stream.written(&events), "id: 1\ndata: {\"id\":1}\n\nid: 2\ndata: {\"id\":2}\n\n");
        let accepts = |value: &'static str| {
            wants_stream(&HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(value))]))
        };
        assert!(accepts("text/event-stream") && accepts("text/html, text/event-stream;q=0.5") && !accepts("*/*"));
    }
}
