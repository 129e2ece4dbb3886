//! The dashboard at `/` of the admin address: a page with its script and style, which are part of the program, and what they ask for.
//! Nothing of it is from elsewhere. The page itself tells nothing of the host, so that a browser gets it without a token.

mod history;
mod plots;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use futures_util::stream::unfold;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use serde::Serialize;
use tokio::sync::watch;

use wasmhost_base::panics::caught;
use wasmhost_config::AppId;
use wasmhost_serve::metrics::AppFigures;

use self::history::{Activity, EVERY, History, HistoryMoment};
use self::plots::Look;
use super::AdminAnswer;
use super::answers::page;
use super::figures::Sums;
use super::reused::Reused;
use super::status::state_of_worker;
use crate::host_status::{AppRow, HostStatus, Presence, WorkerRow};

/// Apps in the table of the page, those with the most requests.
const APPS_SHOWN_MAX: usize = 100;
/// Widths that a plot may have, in pixels.
const WIDTHS: std::ops::RangeInclusive<u32> = 240..=1_200;

/// What the page may load and do: its own script, style and icon, and plots that it has asked for.
const PAGE_MAY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// The files of the page below `/dashboard/`: names, types, texts.
const FILES: [(&str, &str, &str); 3] = [
    ("dashboard.js", "text/javascript; charset=utf-8", include_str!("dashboard/dashboard.js")),
    ("dashboard.css", "text/css; charset=utf-8", include_str!("dashboard/dashboard.css")),
    ("icon.svg", "image/svg+xml", include_str!("dashboard/icon.svg")),
];

/// The page.
pub(super) fn index() -> AdminAnswer {
    let mut answer = page(StatusCode::OK, "text/html; charset=utf-8", include_str!("dashboard/index.html"));
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_MAY));
    answer
}

/// A file of the page, if there is one of this name.
pub(super) fn file(name: &str) -> Option<AdminAnswer> {
    let (_, content_type, text) = FILES.into_iter().find(|(known, ..)| *known == name)?;
    Some(page(StatusCode::OK, content_type, text))
}

/// What the page shows of a host.
pub(super) struct Dashboard {
    host_status: Arc<HostStatus>,
    history: RefCell<History>,
    /// Plots, as JSON.
    plots: Reused<Look, Bytes>,
    /// The last moment, as a server-sent event.
    live: watch::Sender<Bytes>,
}

#[derive(Serialize)]
struct Live<'a> {
    version: &'static str,
    phase: &'static str,
    ready: bool,
    uptime_seconds: u64,
    host: LiveHost,
    workers: Vec<LiveWorker<'a>>,
    apps_in_all: usize,
    apps: Vec<LiveApp<'a>>,
}

#[derive(Serialize)]
struct LiveHost {
    #[serde(flatten)]
    doing: LiveDoing,
    sheds: f32,
    p50: Option<f32>,
    p90: Option<f32>,
    p99: Option<f32>,
    connections: u64,
}

#[derive(Serialize)]
struct LiveWorker<'a> {
    worker: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    state: &'static str,
    #[serde(flatten)]
    doing: LiveDoing,
    connections: u64,
}

#[derive(Serialize)]
struct LiveApp<'a> {
    name: &'a str,
    state: &'static str,
    #[serde(flatten)]
    doing: LiveDoing,
}

/// Rates in a second, and what is held now.
#[derive(Serialize)]
struct LiveDoing {
    requests: f32,
    errors: f32,
    /// Cores.
    cpu: f32,
    /// In bytes.
    memory: u64,
    in_flight: u64,
}

impl LiveDoing {
    fn of(Activity { requests, errors, cpu, .. }: Activity, memory: u64, in_flight: u64) -> Self {
        Self { requests, errors, cpu, memory, in_flight }
    }
}

impl Dashboard {
    /// Begins to take note of how the host does, for as long as the event loop runs.
    pub(super) fn begin(host_status: Arc<HostStatus>) -> Rc<Self> {
        let (history, plots, live) = (RefCell::default(), Reused::default(), watch::Sender::default());
        let dashboard = Rc::new(Self { host_status, history, plots, live });
        let sampled = Rc::clone(&dashboard);
        tokio::task::spawn_local(async move {
            let mut ticks = tokio::time::interval(EVERY);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                // A bug in it is told of, and ends nothing.
                let _ = caught(|| sampled.sample());
            }
        });
        dashboard
    }

    /// Takes note of how the host does, and tells who follows.
    fn sample(&self) {
        let host_status = &*self.host_status;
        let touched = host_status.touched();
        let sums = Sums::of(host_status, &touched);
        let mut history = self.history.borrow_mut();
        history.add(Instant::now(), &sums, &touched);
        let rows = host_status.apps();
        let text = serde_json::to_vec(&live((host_status, &rows), &sums, &touched, &history)).unwrap_or_default();
        drop(history);
        let mut event = BytesMut::from(&b"data: "[..]);
        event.extend_from_slice(&text);
        event.extend_from_slice(b"\n\n");
        self.live.send_replace(event.freeze());
    }

    /// A stream of server-sent events: the last moment, and each that comes.
    pub(super) fn follow(&self) -> AdminAnswer {
        let mut moments = self.live.subscribe();
        moments.mark_changed();
        let body = StreamBody::new(unfold(moments, |mut moments: watch::Receiver<Bytes>| async move {
            moments.changed().await.ok()?;
            let event = moments.borrow_and_update().clone();
            Some((Ok::<_, Infallible>(Frame::data(event)), moments))
        }));
        let mut response = Response::new(body.boxed_unsync());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        response
    }

    /// The plots, as JSON, for a page of this look.
    pub(super) async fn plots(&self, query: Option<&str>) -> AdminAnswer {
        let Some(look) = look(query.unwrap_or_default()) else {
            let text = format!(
                "400 write `theme=light` or `theme=dark`, and `width=` from {} to {}\n",
                WIDTHS.start(),
                WIDTHS.end()
            );
            return page(StatusCode::BAD_REQUEST, "text/plain", text);
        };
        page(StatusCode::OK, "application/json", self.plots.get(look, || self.plot(look)).await)
    }

    fn plot(&self, look: Look) -> Bytes {
        let names: BTreeMap<AppId, String> =
            self.host_status.apps().into_iter().map(|(app, row)| (app, row.name)).collect();
        let rows = (1..).zip(&self.host_status.workers);
        let workers = rows.filter(|(_, row)| row.presence() == Presence::Wanted);
        let workers: Vec<(usize, Option<Arc<str>>)> =
            workers.map(|(number, row)| (number, row.group.clone())).collect();
        let plots = plots::all(&self.history.borrow(), &workers, &names, look);
        serde_json::to_vec(&plots).unwrap_or_default().into()
    }
}

/// How the page wants its plots.
fn look(query: &str) -> Option<Look> {
    let mut look = Look { is_dark: false, width: 600 };
    for part in query.split('&').filter(|part| !part.is_empty()) {
        match part.split_once('=')? {
            ("theme", "light") => look.is_dark = false,
            ("theme", "dark") => look.is_dark = true,
            ("width", width) => look.width = width.parse().ok().filter(|width| WIDTHS.contains(width))?,
            _ => return None,
        }
    }
    Some(look)
}

fn live<'a>(
    (host_status, rows): (&'a HostStatus, &'a BTreeMap<AppId, AppRow>),
    sums: &Sums,
    touched: &[AppId],
    history: &History,
) -> Live<'a> {
    let moment = history.last().cloned().unwrap_or_default();
    let [p50, p90, p99] = moment.percentiles.map_or([None; 3], |all| all.map(Some));
    let in_flight = sums.of_workers.iter().map(|figures| figures.in_flight).sum();
    let memory = host_status.scoreboard.memory.get();
    let host = LiveHost {
        doing: LiveDoing::of(moment.all, memory, in_flight),
        sheds: moment.sheds,
        p50,
        p90,
        p99,
        connections: sums.workers.iter().map(|figures| figures.open_connections).sum(),
    };
    let of_worker = |(index, (shown, row)): (usize, (&(usize, Presence), &'a WorkerRow))| {
        let (figures, own) = (sums.of_workers.get(index)?, sums.workers.get(index)?);
        let (number, presence) = *shown;
        let doing = moment.workers.get(&number).copied().unwrap_or_default();
        Some(LiveWorker {
            worker: number,
            group: row.group.as_deref(),
            state: state_of_worker(&row.scoreboard.metrics, presence),
            doing: LiveDoing::of(doing, figures.memory_bytes, figures.in_flight),
            connections: own.open_connections,
        })
    };
    let workers = sums.shown.iter().zip(sums.workers_of(host_status)).enumerate();
    Live {
        version: env!("CARGO_PKG_VERSION"),
        phase: host_status.phase().name(),
        ready: host_status.is_ready(),
        uptime_seconds: host_status.started.elapsed().as_secs(),
        host,
        workers: workers.filter_map(of_worker).collect(),
        apps_in_all: rows.len(),
        apps: apps(rows, &moment, touched.iter().zip(&sums.of_apps).collect()),
    }
}

/// The apps with the most requests.
fn apps<'a>(
    rows: &'a BTreeMap<AppId, AppRow>,
    moment: &HistoryMoment,
    figures: HashMap<&AppId, &AppFigures>,
) -> Vec<LiveApp<'a>> {
    let mut apps: Vec<LiveApp<'_>> = rows
        .iter()
        .map(|(app, row)| {
            let doing = moment.apps.get(app).copied().unwrap_or_default();
            let (memory, in_flight) =
                figures.get(app).map_or((0, 0), |figures| (figures.memory_bytes, figures.in_flight));
            LiveApp { name: &row.name, state: row.state, doing: LiveDoing::of(doing, memory, in_flight) }
        })
        .collect();
    apps.sort_by(|one, other| other.doing.requests.total_cmp(&one.doing.requests).then(one.name.cmp(other.name)));
    apps.truncate(APPS_SHOWN_MAX);
    apps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_may_want_plots_of_a_look_that_is_bounded() {
        let dark = Look { is_dark: true, width: 300 };
        for (query, expected) in [
            ("", Some(Look { is_dark: false, width: 600 })),
            ("theme=dark&width=300", Some(dark)),
            ("width=300&theme=dark", Some(dark)),
            ("theme=blue", None),
            ("width=10", None),
            ("width=100000", None),
            ("width=x", None),
            ("height=300", None),
            ("theme", None),
        ] {
            assert_eq!(look(query), expected, "{query}");
        }
    }

    #[test]
    fn the_page_has_nothing_inline_and_nothing_from_elsewhere() {
        let page = include_str!("dashboard/index.html");
        for forbidden in ["<style", " style=", " onclick", " onload", "javascript:", "http://", "https://", "src=\"//"]
        {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        assert_eq!(page.matches("<script").count(), 1, "the one that is a file");
        let script = include_str!("dashboard/dashboard.js");
        for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"] {
            assert!(!script.contains(forbidden), "{forbidden}: text would become HTML, or code");
        }
        for (name, ..) in FILES {
            assert!(page.contains(&format!("\"/dashboard/{name}\"")), "{name}");
        }
    }
}
