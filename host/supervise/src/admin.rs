//! The admin page, on an address of its own, and the control socket: what `routes` lists, where `gate` lets a request through.
//! Served by the primary's thread, so that they answer when every worker is busy.

mod answers;
mod dashboard;
mod event_details;
mod event_stream;
mod figures;
mod gate;
pub mod openapi;
mod profile;
mod prometheus;
mod reused;
pub mod routes;
mod status;
pub mod table;

use std::cell::Cell;
use std::convert::Infallible;
use std::fmt;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;

use wasmhost_base::log;
use wasmhost_base::panics::guarded;
use wasmhost_base::throttle::Throttles;
use wasmhost_config::LogLevel;
use wasmhost_serve::listener::{AcceptPause, Address, Listener};
use wasmhost_serve::metrics::AdminRefusal;
use wasmhost_serve::worker::Peer;
use wasmhost_serve::worker::inbox::Accepted;

pub(crate) use self::answers::{ADMIN_ADDRESS, AdminAnswer, page, switch_to};
use self::dashboard::Dashboard;
use self::gate::AdminDoor;
use self::reused::Reused;
use self::routes::{FoundRoute, RouteAccess, RouteAsks};
use crate::host_status::HostStatus;
use crate::profile::ProfileWish;

/// Connections to the admin page at once. One more takes the place of one that is there ([`whose_place`]).
const CONNECTIONS_MAX: usize = 32;
/// Time of a connection to the admin page, for one request and its answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Time of a connection to the control socket, over which the outcome of a reload or a restart may be waited for.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// Time of one that follows events; then whoever follows asks again for those after the last that it has.
const FOLLOWING_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// Longest body of a command, in bytes; no command has one.
const BODY_BYTES_MAX: usize = 64 << 10;
/// How often the log tells of refused requests, for each reason.
const REFUSALS_TOLD_EVERY: Duration = Duration::from_secs(10);
/// Where an upgrade of the program is asked for.
const UPGRADE: &str = "/upgrade";

/// After a panic in its own loop the page begins anew, in so long.
const AFTER_A_PANIC: Duration = Duration::from_secs(1);

/// The answer to a request that takes time.
pub(crate) type LaterAnswer = Pin<Box<dyn Future<Output = AdminAnswer>>>;

/// Takes commands.
pub(crate) trait Commands: 'static {
    /// Carries one out, and answers when that has ended.
    fn command(&self, command: AdminCommand, host_status: &Arc<HostStatus>) -> LaterAnswer;

    /// An upgrade of the program, which goes on over this connection.
    fn upgrade(&self, upgraded: OnUpgrade) -> LaterAnswer;
}

/// What a POST commands.
#[derive(Debug)]
pub(crate) enum AdminCommand {
    /// To read the file of settings, or load the component, again.
    Reload,
    /// To load the component of this app again.
    ReloadApp(String),
    /// To go back to this revision of an app, or to the latest good one before that which is served.
    RollBack(String, Option<u64>),
    /// To give all requests of this app to its new revision.
    Promote(String),
    /// To replace this worker, or all of them.
    Restart(Option<u16>),
    /// To take samples of guests' stacks.
    Profile(ProfileWish),
    /// To have so many workers, of this group or of those that take connections.
    Scale(u16, Option<String>),
    /// To have the log show this level, and all above.
    LogLevel(LogLevel),
    /// To say that it is not ready, or as it is again.
    Drain {
        /// As it is again.
        is_undone: bool,
    },
    /// To run this schedule (the second) of this app (the first) now.
    RunSchedule(String, String),
    /// To stop as after `SIGTERM`.
    Stop,
}

/// What is answered to whom: the state of the host, and commands.
struct Answerer {
    host_status: Arc<HostStatus>,
    commands: Box<dyn Commands>,
    door: AdminDoor,
    /// None at the control socket.
    dashboard: Option<Rc<Dashboard>>,
    /// What is told of refusals.
    told: Throttles<AdminRefusal>,
    /// The text of `/metrics`.
    metrics: Reused<(), Result<Bytes, fmt::Error>>,
}

/// Serves the admin address; never ends, not by a bug of its own.
pub(crate) async fn serve(listener: Listener, host_status: Arc<HostStatus>, commands: impl Commands) {
    let door = match listener.address() {
        Address::Tcp(address) if address.ip().to_canonical().is_loopback() => AdminDoor::Loopback,
        Address::Tcp(_) => AdminDoor::Network,
        Address::Unix(_) => AdminDoor::Socket,
    };
    serve_all(listener, Answerer::new(host_status, commands, door)).await;
}

/// Serves the control socket; never ends, either.
pub(crate) async fn serve_commands(listener: Listener, host_status: Arc<HostStatus>, commands: impl Commands) {
    serve_all(listener, Answerer::new(host_status, commands, AdminDoor::Control)).await;
}

impl Answerer {
    fn new(host_status: Arc<HostStatus>, commands: impl Commands, door: AdminDoor) -> Rc<Self> {
        let told = Throttles::new(REFUSALS_TOLD_EVERY, AdminRefusal::ALL.len());
        let dashboard = (door != AdminDoor::Control).then(|| Dashboard::begin(Arc::clone(&host_status)));
        Rc::new(Self { host_status, commands: Box::new(commands), door, dashboard, told, metrics: Reused::default() })
    }

    /// Answers a request of `peer`. `deadline`: when the connection is ended.
    async fn answer(&self, request: Request<Incoming>, peer: Peer, deadline: &Cell<Instant>) -> AdminAnswer {
        let found = routes::find(request.method(), request.uri().path());
        // (Who knows no token does not hear which paths there are.)
        let access = if let FoundRoute::Is(route, _) = &found { route.access } else { RouteAccess::Read };
        if let Err(refusal) = gate::check(self.door, access, &request, &self.host_status.admin_access()) {
            return self.refuse(refusal, peer);
        }
        let (asks, parts) = match found {
            FoundRoute::Is(route, parts) => (route.asks, parts),
            FoundRoute::OtherMethod(allowed) => {
                let text = format!("405 only {}\n", allowed.replace(", ", " and "));
                let mut response = page(StatusCode::METHOD_NOT_ALLOWED, "text/plain", text);
                // RFC 9110, section 15.5.6.
                response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
                return response;
            }
            FoundRoute::Nothing => return nothing(),
        };
        let command = match (asks, &*parts) {
            (RouteAsks::Reload, _) => AdminCommand::Reload,
            (RouteAsks::ReloadApp, [app]) => AdminCommand::ReloadApp((*app).to_owned()),
            (RouteAsks::RollBack, [app]) => AdminCommand::RollBack((*app).to_owned(), None),
            (RouteAsks::RollBackTo, [app, revision]) => match revision.parse() {
                Ok(revision) => AdminCommand::RollBack((*app).to_owned(), Some(revision)),
                Err(_) => return nothing(),
            },
            (RouteAsks::Promote, [app]) => AdminCommand::Promote((*app).to_owned()),
            (RouteAsks::Restart, _) => AdminCommand::Restart(None),
            (RouteAsks::RestartWorker, [worker]) => match worker.parse() {
                Ok(worker) => AdminCommand::Restart(Some(worker)),
                Err(_) => return nothing(),
            },
            (RouteAsks::Profile | RouteAsks::ProfileApp, parts) => match profile::wish(parts, request.uri().query()) {
                Some(wish) => AdminCommand::Profile(wish),
                None => return nothing(),
            },
            (RouteAsks::Scale, [workers]) => match workers.parse() {
                Ok(workers) => AdminCommand::Scale(workers, None),
                Err(_) => return nothing(),
            },
            (RouteAsks::ScaleGroup, [workers, group]) => match workers.parse() {
                Ok(workers) => AdminCommand::Scale(workers, Some((*group).to_owned())),
                Err(_) => return nothing(),
            },
            (RouteAsks::SetLogLevel, [level]) => match LogLevel::named(level) {
                Ok(level) => AdminCommand::LogLevel(level),
                Err(must) => return page(StatusCode::CONFLICT, "text/plain", format!("the level {must}\n")),
            },
            (RouteAsks::Drain | RouteAsks::UndoDrain, _) => {
                AdminCommand::Drain { is_undone: asks == RouteAsks::UndoDrain }
            }
            (RouteAsks::RunSchedule, [app, schedule]) => {
                AdminCommand::RunSchedule((*app).to_owned(), (*schedule).to_owned())
            }
            (RouteAsks::Stop, _) => AdminCommand::Stop,
            (RouteAsks::Metrics, _) => {
                return match self.metrics.get((), || prometheus::render(&self.host_status).map(Bytes::from)).await {
                    Ok(text) => page(StatusCode::OK, prometheus::CONTENT_TYPE, text),
                    Err(error) => page(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", format!("500 {error}\n")),
                };
            }
            (RouteAsks::Plots, _) => {
                return match &self.dashboard {
                    Some(dashboard) => dashboard.plots(request.uri().query()).await,
                    None => nothing(),
                };
            }
            (RouteAsks::Page | RouteAsks::PageFile | RouteAsks::Live, _) => {
                return self.show(asks, &parts, deadline).unwrap_or_else(nothing);
            }
            (RouteAsks::Event, [event]) => {
                return event_details::answer(event, &self.host_status).unwrap_or_else(nothing);
            }
            _ => return self.tell(asks, &request, deadline),
        };
        // No command has a body; one that is sent all the same is read, so that its sender reads the answer.
        if Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await.is_err() {
            return page(StatusCode::PAYLOAD_TOO_LARGE, "text/plain", "413 a command has no body\n");
        }
        // Its outcome may be waited for.
        deadline.set(Instant::now() + CONTROL_TIMEOUT);
        self.commands.command(command, &self.host_status).await
    }

    fn refuse(&self, refusal: AdminRefusal, peer: Peer) -> AdminAnswer {
        self.host_status.host.admin_refused(refusal);
        // Without a token is how browsers and people begin.
        let is_told = refusal != AdminRefusal::NoToken;
        if let Some(count) = self.told.admit(refusal, Instant::now()).filter(|_| is_told) {
            let reason = refusal.name();
            tracing::warn!(reason, client = %peer, count, "requests to the admin address were refused");
        }
        answers::refused(refusal)
    }

    /// Shows the dashboard, or a part of it.
    fn show(&self, asks: RouteAsks, parts: &[&str], deadline: &Cell<Instant>) -> Option<AdminAnswer> {
        let dashboard = self.dashboard.as_ref()?;
        match (asks, parts) {
            (RouteAsks::PageFile, [name]) => dashboard::file(name),
            (RouteAsks::Live, _) => {
                deadline.set(Instant::now() + FOLLOWING_TIMEOUT);
                Some(dashboard.follow())
            }
            _ => Some(dashboard::index()),
        }
    }

    /// Tells what is asked. `deadline`: when the connection is ended.
    fn tell(&self, asks: RouteAsks, request: &Request<Incoming>, deadline: &Cell<Instant>) -> AdminAnswer {
        wasmhost_base::inject::panic_at("admin");
        let host_status = &self.host_status;
        match asks {
            RouteAsks::Health => page(StatusCode::OK, "text/plain", "ok\n"),
            RouteAsks::Ready if host_status.is_ready() => page(StatusCode::OK, "text/plain", "ready\n"),
            RouteAsks::Ready => page(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "not ready\n"),
            RouteAsks::Status => page(StatusCode::OK, "application/json", status::render(host_status)),
            RouteAsks::Events => {
                let (answer, follows) = event_stream::answer(request, host_status);
                if follows {
                    deadline.set(Instant::now() + FOLLOWING_TIMEOUT);
                }
                answer
            }
            RouteAsks::LogLevel => {
                let shown = format!("{{\"level\":\"{}\"}}\n", log::level_name(log::now().level));
                page(StatusCode::OK, "application/json", shown)
            }
            RouteAsks::OpenApi => page(StatusCode::OK, "application/json", openapi::render()),
            // The others were answered before.
            _ => nothing(),
        }
    }
}

fn nothing() -> AdminAnswer {
    page(StatusCode::NOT_FOUND, "text/plain", "404 see /openapi.json\n")
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
    fn begin(socket: Accepted, peer: Peer, answerer: Rc<Answerer>) -> Self {
        let has_asked = Rc::new(Cell::new(false));
        let asked = Rc::clone(&has_asked);
        let task = tokio::task::spawn_local(async move {
            let time = if answerer.door == AdminDoor::Control { CONTROL_TIMEOUT } else { CONNECTION_TIMEOUT };
            let deadline = Rc::new(Cell::new(Instant::now() + time));
            let mut connection = pin!(connection(socket, peer, answerer, asked, Rc::clone(&deadline)));
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
            Ok((socket, peer)) => {
                pause.succeeded();
                visitors.retain(|visitor| !visitor.task.is_finished());
                if visitors.len() >= CONNECTIONS_MAX {
                    let leaver = visitors.remove(whose_place(visitors.iter().map(|visitor| visitor.has_asked.get())));
                    leaver.task.abort();
                    tracing::debug!("an admin connection was closed to make room for another");
                }
                visitors.push(Visitor::begin(socket, peer, Rc::clone(answerer)));
            }
            Err(error) => pause.failed(&error),
        }
    }
}

async fn connection(
    socket: Accepted,
    peer: Peer,
    answerer: Rc<Answerer>,
    asked: Rc<Cell<bool>>,
    deadline: Rc<Cell<Instant>>,
) -> Result<(), Box<dyn std::error::Error>> {
    let service = service_fn(move |mut request: Request<Incoming>| {
        asked.set(true);
        wasmhost_base::inject::arm(request.headers());
        let (answerer, deadline) = (Rc::clone(&answerer), Rc::clone(&deadline));
        async move {
            let is_upgrade = answerer.door == AdminDoor::Control
                && request.method() == Method::POST
                && request.uri().path() == UPGRADE
                && request.headers().contains_key(header::UPGRADE);
            let answered = if is_upgrade {
                let upgrade = answerer.commands.upgrade(hyper::upgrade::on(&mut request));
                guarded(Box::pin(upgrade)).await
            } else {
                guarded(Box::pin(answerer.answer(request, peer, &deadline))).await
            };
            let mut answer = answered.unwrap_or_else(|_| {
                page(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "500 a bug of the host, see its log\n")
            });
            answers::guard_browsers(&mut answer);
            if answerer.door != AdminDoor::Control {
                answer.headers_mut().insert(ADMIN_ADDRESS, HeaderValue::from_static("1"));
            }
            Ok::<_, Infallible>(answer)
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
