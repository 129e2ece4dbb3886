//! Responses: whole ones, and ones whose body a task of its own writes after they were returned.

use verbs::{Headers, Reply};
use wasip3::http::types::{ErrorCode, Fields, HeaderError, Response, Trailers};
use wasip3::wit_bindgen::{FutureReader, FutureWriter, StreamReader, StreamWriter};
use wasip3::{spawn_local, wit_future, wit_stream};

/// How much is moved at once, where there is a choice.
pub const PIECE_BYTES: usize = 64 * 1024;

/// How a body ends.
pub type End = Result<Option<Trailers>, ErrorCode>;

/// A whole response.
pub fn whole(reply: Reply) -> Response {
    let Reply { status, headers, body } = reply;
    let started = if body.is_empty() { without_body(status, &headers) } else { streamed(status, &headers, body) };
    started.unwrap_or_else(|error| whole(Reply::text(500, format!("header error: {error:?}"))))
}

fn without_body(status: u16, headers: &Headers) -> Result<Response, HeaderError> {
    let (_, end) = wit_future::new(|| Ok(None));
    new(status, headers, None, end)
}

fn streamed(status: u16, headers: &Headers, body: Vec<u8>) -> Result<Response, HeaderError> {
    let (response, mut sender) = start(status, headers)?;
    spawn_local(async move {
        sender.write(body).await.ok();
        sender.finish(Ok(None)).await;
    });
    Ok(response)
}

/// A head, and a body to be written once the response was returned.
pub fn start(status: u16, headers: &Headers) -> Result<(Response, BodySender), HeaderError> {
    let (body, body_reader) = wit_stream::new();
    let (end, end_reader) = wit_future::new(|| Ok(None));
    let response = new(status, headers, Some(body_reader), end_reader)?;
    Ok((response, BodySender { body, end }))
}

/// A response of these parts.
pub fn new(
    status: u16,
    headers: &Headers,
    body: Option<StreamReader<u8>>,
    end: FutureReader<End>,
) -> Result<Response, HeaderError> {
    let (response, _sent) = Response::new(Fields::from_list(headers)?, body, end);
    response.set_status_code(status).expect("checked by the table of verbs");
    Ok(response)
}

/// A body under way. Dropped without `finish`, it ends well and without trailers.
pub struct BodySender {
    body: StreamWriter<u8>,
    end: FutureWriter<End>,
}

/// The client left, or wants no more.
pub struct Left;

impl BodySender {
    /// Writes all bytes, as fast as the host takes them.
    pub async fn write(&mut self, bytes: Vec<u8>) -> Result<(), Left> {
        if self.body.write_all(bytes).await.is_empty() { Ok(()) } else { Err(Left) }
    }

    /// Tells the host that the body ended well, while its stream is there still.
    pub async fn finish_beside_stream(self) -> StreamWriter<u8> {
        let Self { body, end } = self;
        end.write(Ok(None)).await.ok();
        body
    }

    /// Ends the body, and tells the host how.
    pub async fn finish(self, how: End) {
        let Self { body, end } = self;
        drop(body);
        end.write(how).await.ok();
    }
}
