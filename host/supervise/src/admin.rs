//! The admin page, on an address of its own: `/healthz`, `/readyz`, `/status`, `/metrics` and `/events`; and the control socket,
//! which answers the same, and takes commands. Served by the primary's thread, so that they answer when every worker is busy.

mod answers;
mod event_stream;
mod figures;
mod prometheus;
mod status;
pub mod table;

use std::cell::Cell;
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;

use wasmhost_base::hops;
use wasmhost_base::panics::{caught, guarded};
use wasmhost_serve::listener::{AcceptPause, Listener};
use wasmhost_serve::worker::inbox::Accepted;

pub(crate) use self::answers::{AdminAnswer, page, switch_to};
use crate::host_status::HostStatus;

/// Connections to the admin page at once. One more takes the place of one that is there ([`whose_place`]).
const CONNECTIONS_MAX: usize = 32;
/// Time of a connection to the admin page, for one request and its answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Time of a connection to the control socket, over which the outcome of a reload or a restart may be waited for.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// Time of one that follows events; then whoever follows asks again for those after the last that it has.
const FOLLOWING_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// Where an upgrade of the program is asked for.
const UPGRADE: &str = "/upgrade";

/// After a panic in its own loop the page begins anew, in so long.
const AFTER_A_PANIC: Duration = Duration::from_secs(1);

/// The answer to a request that takes time.
pub(crate) type LaterAnswer = Pin<Box<dyn Future<Output = AdminAnswer>>>;

/// Takes commands.
pub(crate) trait Commands: 'static {
    /// What a POST to this path commands; none: nothing.
    fn command(&self, path: &str, host_status: &Arc<HostStatus>) -> Option<LaterAnswer>;

    /// An upgrade of the program, which goes on over this connection.
    fn upgrade(&self, upgraded: OnUpgrade) -> LaterAnswer;
}

/// What is answered: the state of the host, and, on the control socket, commands.
struct Answerer {
    host_status: Arc<HostStatus>,
    commands: Option<Box<dyn Commands>>,
}

/// Serves the page; never ends, not by a bug of its own.
pub async fn serve(listener: Listener, host_status: Arc<HostStatus>) {
    serve_all(listener, Rc::new(Answerer { host_status, commands: None })).await;
}

/// Serves the control socket; never ends, either.
pub(crate) async fn serve_commands(listener: Listener, host_status: Arc<HostStatus>, commands: impl Commands) {
    serve_all(listener, Rc::new(Answerer { host_status, commands: Some(Box::new(commands)) })).await;
}

async fn serve_all(listener: Listener, answerer: Rc<Answerer>) {
    while guarded(Box::pin(accept(&listener, &answerer))).await.is_err() {
        tokio::time::sleep(AFTER_A_PANIC).await;
    }
}

/// A connection that is open.
struct Visitor {
    has_asked: Rc<Cell<bool>>,
    task: JoinHandle<()>,
}

impl Visitor {
    fn begin(socket: Accepted, answerer: Rc<Answerer>) -> Self {
        let has_asked = Rc::new(Cell::new(false));
        let asked = Rc::clone(&has_asked);
        let task = tokio::task::spawn_local(async move {
            let time = if answerer.commands.is_some() { CONTROL_TIMEOUT } else { CONNECTION_TIMEOUT };
            let deadline = Rc::new(Cell::new(Instant::now() + time));
            let mut connection = pin!(connection(socket, answerer, asked, Rc::clone(&deadline)));
            loop {
                match tokio::time::timeout_at(deadline.get().into(), &mut connection).await {
                    Ok(Ok(())) => break,
                    Ok(Err(error)) => break tracing::debug!(%error, "an admin connection ended with an error"),
                    // It follows events meanwhile.
                    Err(_) if Instant::now() < deadline.get() => {}
                    Err(_) => break tracing::debug!("an admin connection took too long"),
                }
            }
        });
        Self { has_asked, task }
    }
}

/// Whose place a new connection takes when there is no other: the oldest that has not sent its request; where all have,
/// and do not read their answers, the oldest of all. `have_asked` is in the order of their coming.
fn whose_place(have_asked: impl IntoIterator<Item = bool>) -> usize {
    have_asked.into_iter().position(|has_asked| !has_asked).unwrap_or(0)
}

async fn accept(listener: &Listener, answerer: &Rc<Answerer>) {
    // In the order of their coming.
    let mut visitors: Vec<Visitor> = Vec::with_capacity(CONNECTIONS_MAX);
    let mut pause = AcceptPause::default();
    loop {
        pause.over().await;
        let accepted = listener.accept().await;
        wasmhost_base::inject::panic_at("admin-accept");
        match accepted {
            Ok((socket, _)) => {
                pause.succeeded();
                visitors.retain(|visitor| !visitor.task.is_finished());
                if visitors.len() >= CONNECTIONS_MAX {
                    let leaver = visitors.remove(whose_place(visitors.iter().map(|visitor| visitor.has_asked.get())));
                    leaver.task.abort();
                    tracing::debug!("an admin connection was closed to make room for another");
                }
                visitors.push(Visitor::begin(socket, Rc::clone(answerer)));
            }
            Err(error) => pause.failed(&error),
        }
    }
}

async fn connection(
    socket: Accepted,
    answerer: Rc<Answerer>,
    asked: Rc<Cell<bool>>,
    deadline: Rc<Cell<Instant>>,
) -> Result<(), Box<dyn std::error::Error>> {
    let service = service_fn(move |mut request: Request<Incoming>| {
        asked.set(true);
        wasmhost_base::inject::arm(request.headers());
        let (answerer, deadline) = (Rc::clone(&answerer), Rc::clone(&deadline));
        async move {
            let commands = answerer.commands.as_ref().filter(|_| request.method() == Method::POST);
            let command = commands.and_then(|commands| match request.uri().path() {
                UPGRADE if request.headers().contains_key(header::UPGRADE) => {
                    Some(commands.upgrade(hyper::upgrade::on(&mut request)))
                }
                path => commands.command(path, &answerer.host_status),
            });
            let response = match command {
                Some(command) => guarded(Box::pin(command)).await,
                None => caught(|| answer(&request, &answerer.host_status, &deadline)),
            };
            Ok::<_, Infallible>(response.unwrap_or_else(|_| {
                page(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "500 a bug of the host, see its log\n")
            }))
        }
    });
    let mut http = http1::Builder::new();
    // One answer each, so that nobody keeps a place.
    http.keep_alive(false).header_read_timeout(None);
    match socket {
        Accepted::Tcp(stream) => {
            http.serve_connection(TokioIo::new(tokio::net::TcpStream::from_std(stream)?), service).await?
        }
        Accepted::Unix(stream) => {
            let stream = TokioIo::new(tokio::net::UnixStream::from_std(stream)?);
            http.serve_connection(stream, service).with_upgrades().await?
        }
    }
    Ok(())
}

/// `deadline`: when the connection is ended.
fn answer(request: &Request<Incoming>, host_status: &Arc<HostStatus>, deadline: &Cell<Instant>) -> AdminAnswer {
    wasmhost_base::inject::panic_at("admin");
    // By whichever address it comes: guests have no business here.
    if hops::hops(request.headers()) != Some(0) {
        return page(StatusCode::FORBIDDEN, "text/plain", "403 this page answers no guest\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = page(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "405 only GET and HEAD\n");
        // RFC 9110, section 15.5.6.
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/healthz" => page(StatusCode::OK, "text/plain", "ok\n"),
        "/readyz" if host_status.is_ready() => page(StatusCode::OK, "text/plain", "ready\n"),
        "/readyz" => page(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "not ready\n"),
        "/status" => page(StatusCode::OK, "application/json", status::render(host_status)),
        "/metrics" => match prometheus::render(host_status) {
            Ok(text) => page(StatusCode::OK, prometheus::CONTENT_TYPE, text),
            Err(error) => page(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", format!("500 {error}\n")),
        },
        "/events" => {
            let (answer, follows) = event_stream::answer(request, host_status);
            if follows {
                deadline.set(Instant::now() + FOLLOWING_TIMEOUT);
            }
            answer
        }
        _ => page(StatusCode::NOT_FOUND, "text/plain", "404 see /healthz, /readyz, /status, /metrics and /events\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_connection_takes_the_place_of_the_oldest_silent_one_and_else_of_the_oldest() {
        assert_eq!(whose_place([true, false, false]), 1);
        assert_eq!(whose_place([false, true, false]), 0);
        assert_eq!(whose_place([true, true, true]), 0);
    }
}
