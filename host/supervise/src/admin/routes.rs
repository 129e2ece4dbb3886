//! PURE: what can be asked of the admin address and the control socket: each path with its method, and who may ask it.
//! `docs/openapi.json` describes each of them.

use http::Method;

/// Something that can be asked.
#[derive(Debug)]
pub struct AdminRoute {
    /// GET (which answers HEAD, too) or POST.
    pub method: Method,
    /// The path. A part in braces stands for any text without a slash.
    pub path: &'static str,
    /// Who may ask over TCP.
    pub(super) access: RouteAccess,
    pub(super) asks: RouteAsks,
}

/// Who may ask over the admin address. (Whoever reaches the control socket may ask all.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RouteAccess {
    /// Everybody who reaches the address: it tells nothing of the host but one word.
    Open,
    /// Who knows the token, where there is one or the address is not of this machine alone.
    Read,
    /// Who knows the token.
    Change,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RouteAsks {
    Health,
    Ready,
    Status,
    Metrics,
    Events,
    Event,
    OpenApi,
    Page,
    PageFile,
    Live,
    Plots,
    Reload,
    ReloadApp,
    RollBack,
    RollBackTo,
    Promote,
    Restart,
    RestartWorker,
    Profile,
    ProfileApp,
    Scale,
    ScaleGroup,
    LogLevel,
    SetLogLevel,
    Drain,
    UndoDrain,
    RunSchedule,
    Stop,
}

/// All of them.
pub static ROUTES: &[AdminRoute] = &[
    get("/healthz", RouteAccess::Open, RouteAsks::Health),
    get("/readyz", RouteAccess::Open, RouteAsks::Ready),
    get("/status", RouteAccess::Read, RouteAsks::Status),
    get("/metrics", RouteAccess::Read, RouteAsks::Metrics),
    get("/events", RouteAccess::Read, RouteAsks::Events),
    get("/events/{event}", RouteAccess::Read, RouteAsks::Event),
    get("/openapi.json", RouteAccess::Read, RouteAsks::OpenApi),
    get("/", RouteAccess::Open, RouteAsks::Page),
    get("/dashboard/live", RouteAccess::Read, RouteAsks::Live),
    get("/dashboard/plots", RouteAccess::Read, RouteAsks::Plots),
    get("/dashboard/{file}", RouteAccess::Open, RouteAsks::PageFile),
    post("/reload", RouteAsks::Reload),
    post("/apps/{app}/reload", RouteAsks::ReloadApp),
    post("/apps/{app}/rollback", RouteAsks::RollBack),
    post("/apps/{app}/rollback/{revision}", RouteAsks::RollBackTo),
    post("/apps/{app}/promote", RouteAsks::Promote),
    post("/restart", RouteAsks::Restart),
    post("/workers/{worker}/restart", RouteAsks::RestartWorker),
    post("/profile/{seconds}", RouteAsks::Profile),
    post("/apps/{app}/profile/{seconds}", RouteAsks::ProfileApp),
    post("/scale/{workers}", RouteAsks::Scale),
    post("/scale/{workers}/{group}", RouteAsks::ScaleGroup),
    get("/log-level", RouteAccess::Read, RouteAsks::LogLevel),
    post("/log-level/{level}", RouteAsks::SetLogLevel),
    post("/drain", RouteAsks::Drain),
    post("/drain/undo", RouteAsks::UndoDrain),
    post("/schedules/{app}/{schedule}/run", RouteAsks::RunSchedule),
    post("/stop", RouteAsks::Stop),
];

const fn get(path: &'static str, access: RouteAccess, asks: RouteAsks) -> AdminRoute {
    AdminRoute { method: Method::GET, path, access, asks }
}

const fn post(path: &'static str, asks: RouteAsks) -> AdminRoute {
    AdminRoute { method: Method::POST, path, access: RouteAccess::Change, asks }
}

/// What a request asks for.
#[derive(Debug)]
pub(super) enum FoundRoute<'p> {
    /// This, with the parts of the path that stand for the braces.
    Is(&'static AdminRoute, Vec<&'p str>),
    /// The path has other methods: these, as `Allow` has them.
    OtherMethod(&'static str),
    /// There is no such path.
    Nothing,
}

/// What is asked with this method and path.
pub(super) fn find<'p>(method: &Method, path: &'p str) -> FoundRoute<'p> {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let mut other = None;
    for route in ROUTES {
        let Some(parts) = parts_of(route.path, path) else { continue };
        if route.method == *method {
            return FoundRoute::Is(route, parts);
        }
        other = Some(if route.method == Method::GET { "GET, HEAD" } else { "POST" });
    }
    other.map_or(FoundRoute::Nothing, FoundRoute::OtherMethod)
}

/// The parts of a path that stand for braces; none: it is another path.
fn parts_of<'p>(pattern: &str, path: &'p str) -> Option<Vec<&'p str>> {
    let (mut parts, mut given) = (Vec::new(), path.split('/'));
    for expected in pattern.split('/') {
        match given.next()? {
            part if expected.starts_with('{') && !part.is_empty() => parts.push(part),
            part if part == expected => {}
            _ => return None,
        }
    }
    given.next().is_none().then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: &Method, path: &str) -> String {
        match find(method, path) {
            FoundRoute::Is(route, parts) => format!("{:?} {parts:?}", route.asks),
            FoundRoute::OtherMethod(allowed) => allowed.to_owned(),
            FoundRoute::Nothing => "nothing".to_owned(),
        }
    }

    #[test]
    fn requests_are_found_by_their_method_and_path() {
        let (get, post) = (Method::GET, Method::POST);
        for (method, path, expected) in [
            (&get, "/healthz", "Health []"),
            (&Method::HEAD, "/status", "Status []"),
            (&get, "/dashboard/live", "Live []"),
            (&get, "/dashboard/live.js", "PageFile [\"live.js\"]"),
            (&post, "/status", "GET, HEAD"),
            (&get, "/reload", "POST"),
            (&post, "/workers/12/restart", "RestartWorker [\"12\"]"),
            (&post, "/schedules/a.b/c/run", "RunSchedule [\"a.b\", \"c\"]"),
            (&post, "/schedules/a//run", "nothing"),
            (&post, "/schedules/a/b/c/run", "nothing"),
            (&get, "/status/", "nothing"),
            (&get, "*", "nothing"),
            (&Method::CONNECT, "", "nothing"),
        ] {
            assert_eq!(found(method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn whatever_changes_something_needs_the_token() {
        for route in ROUTES {
            assert_eq!(route.method == Method::POST, route.access == RouteAccess::Change, "{}", route.path);
        }
    }
}
