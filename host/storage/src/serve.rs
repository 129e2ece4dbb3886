//! The side of a line that has the stores: answers what one other process asks.

use std::io;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use crate::codec::{Messages, put_reply, question};
use crate::error::StoreError;
use crate::owned::OwnedStores;
use crate::remote::ASKED_MAX;
use crate::room::QUESTION_BYTES_MAX;

/// Who has looked into the file for longer lets others have their turn.
const LOOK_MAX: Duration = Duration::from_micros(100);

/// Answers one process, of which `read` and `write` are, until it is gone. It may ask the stores that `may_ask` allows; of all
/// others it hears that they are not there. Who changes a store, or asks one in a server, is answered when that is done, in any
/// order; who only looks into the file is answered in the order of asking. It reads no more while `ASKED_MAX` questions or
/// `QUESTION_BYTES_MAX` of them wait, or while the other side does not read its answers.
///
/// # Errors
/// When what it sends is no question; what the system says.
pub async fn serve(
    (mut read, mut write): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    stores: impl Into<OwnedStores>,
    may_ask: impl Fn(&str) -> bool,
) -> io::Result<()> {
    let stores = stores.into();
    let mut incoming = Messages::default();
    let (mut changing, mut changing_bytes) = (FuturesUnordered::new(), 0_usize);
    loop {
        let (mut replies, mut looked_long) = (Vec::new(), false);
        tokio::select! {
            message = incoming.next(&mut read), if changing.len() < ASKED_MAX && changing_bytes < QUESTION_BYTES_MAX => {
                let Some(message) = message? else { return Ok(()) };
                let invalid = || io::Error::new(io::ErrorKind::InvalidData, "it is no question about a store");
                let (number, store, operation) = question(message).ok_or_else(invalid)?;
                if !may_ask(&store) {
                    put_reply(&mut replies, number, &Err(StoreError::NoSuchStore { name: store }));
                } else if stores.waits_for(&store, &operation) {
                    let bytes = operation.bytes();
                    let told = stores.begin(&store, operation);
                    changing_bytes = changing_bytes.saturating_add(bytes);
                    changing.push(async move { (number, bytes, told.await) });
                } else {
                    let began = Instant::now();
                    put_reply(&mut replies, number, &stores.embedded().look(&store, &operation));
                    looked_long = began.elapsed() > LOOK_MAX;
                }
            }
            Some((number, bytes, told)) = changing.next() => {
                changing_bytes = changing_bytes.saturating_sub(bytes);
                put_reply(&mut replies, number, &told);
            }
        }
        if !replies.is_empty() {
            write.write_all(&replies).await?;
        }
        if looked_long {
            // Others are answered in the same thread.
            tokio::task::yield_now().await;
        }
    }
}
