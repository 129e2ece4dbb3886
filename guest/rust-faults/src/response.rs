//! Responses: whole ones, and ones whose body is written bit by bit.

use verbs::{Headers, Reply};
use wasip2::http::types::{Fields, HeaderError, OutgoingBody, OutgoingResponse, ResponseOutparam, Trailers};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

/// How much is moved at once, where there is a choice.
pub const PIECE_BYTES: usize = 64 * 1024;

/// Sends a whole response. A client that left meanwhile is no concern of the guest's.
pub fn send(out: ResponseOutparam, reply: Reply) {
    let head = match head(reply.status, &reply.headers) {
        Ok(head) => head,
        Err(error) => return send(out, Reply::text(500, format!("header error: {error:?}"))),
    };
    let sender = BodySender::start(out, head);
    if reply.body.is_empty() || sender.write(&reply.body).is_ok() {
        sender.finish(None);
    }
}

/// A response's head, not yet sent.
pub fn head(status: u16, headers: &Headers) -> Result<OutgoingResponse, HeaderError> {
    let response = OutgoingResponse::new(Fields::from_list(headers)?);
    response.set_status_code(status).expect("checked by the table of verbs");
    Ok(response)
}

/// A body under way, of a response or of an outgoing request. Dropped without `finish`, the body is broken off.
pub struct BodySender {
    // In this order: a stream goes before the body it belongs to.
    stream: OutputStream,
    body: OutgoingBody,
}

impl BodySender {
    /// Sends the head.
    pub fn start(out: ResponseOutparam, head: OutgoingResponse) -> Self {
        let sender = Self::new(head.body().unwrap());
        ResponseOutparam::set(out, Ok(head));
        sender
    }

    pub fn new(body: OutgoingBody) -> Self {
        Self { stream: body.write().unwrap(), body }
    }

    /// Hands all bytes to the host, as fast as it takes them.
    pub fn write(&self, mut bytes: &[u8]) -> Result<(), StreamError> {
        while !bytes.is_empty() {
            let room = self.stream.check_write()?;
            if room == 0 {
                self.stream.subscribe().block();
                continue;
            }
            let (now, later) = bytes.split_at(bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
            self.stream.write(now)?;
            bytes = later;
        }
        Ok(())
    }

    /// Waits until the host has taken what was written.
    pub fn flush(&self) -> Result<(), StreamError> {
        self.stream.blocking_flush()
    }

    /// Passes all of `input` on, as it comes. Ends well when either side has ended.
    pub fn copy(&self, input: &InputStream) -> Result<(), StreamError> {
        loop {
            match self.stream.blocking_splice(input, PIECE_BYTES as u64) {
                Ok(_) => {}
                Err(StreamError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends the body while its stream is there still, against the rules.
    pub fn finish_beside_stream(self) -> OutputStream {
        let Self { stream, body } = self;
        OutgoingBody::finish(body, None).ok();
        stream
    }

    /// Ends the body well. The host's complaint, of a length that was declared otherwise, is passed over.
    pub fn finish(self, trailers: Option<Trailers>) {
        let Self { stream, body } = self;
        drop(stream);
        OutgoingBody::finish(body, trailers).ok();
    }
}
