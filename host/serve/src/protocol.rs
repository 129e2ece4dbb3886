//! Which protocol a connection speaks. The one place that decides.

use std::rc::Rc;

use bytes::Bytes;

use crate::http::WorkerShared;
use crate::net::{Peer, Stream};
use crate::{http1, http2};

/// Serves a connection to its end. With TLS, the client has said what it speaks (RFC 7301). Without, it begins as HTTP/1.1, which tells when the bytes are HTTP/2's: a client of either may
/// come, and one of HTTP/2 says so first (RFC 9113, section 3.3).
pub(crate) async fn serve(worker: Rc<WorkerShared>, stream: Rc<Stream>, peer: Peer) {
    if stream.is_http2() {
        return Box::pin(http2::serve(worker, stream, peer, Bytes::new())).await;
    }
    if let Some(ahead) = http1::serve(Rc::clone(&worker), Rc::clone(&stream), peer).await {
        // In a box: it would be a part of every connection's task.
        Box::pin(http2::serve(worker, stream, peer, ahead)).await;
    }
}
