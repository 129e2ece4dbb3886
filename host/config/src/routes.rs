//! Which app answers a request, by its host and path: the routes of `wasmhost.toml` are made into a [`Router`] once, which
//! every request asks. The most specific route wins: an exact host before the longest wildcard before any host, and among
//! the routes of one host an exact path before the longest prefix.

mod pattern;
mod taken;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::HashMap;
use std::net::Ipv6Addr;

use crate::host_name::HOST_BYTES_MAX;

pub use self::taken::still_taken;

use self::pattern::{HostPart, PathPart, RoutePattern};
use self::tree::{NodeId, Tree};

/// Most routes of all apps together. (Its nodes and names then fit into a `Tree`'s 32 bits.)
pub const ROUTES_MAX: usize = 1 << 20;

/// A route of an app, as it is written.
#[derive(Debug, Clone, Copy)]
pub struct AppRoute<'a, T, P> {
    /// The app's name, for messages.
    pub name: &'a str,
    /// What a look-up answers.
    pub app: T,
    /// The route: `shop.example.com/api/*`.
    pub route: &'a str,
    /// Where the route is written, for messages.
    pub place: P,
}

/// A route that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteMistake<P> {
    /// Where the route is written.
    pub place: P,
    /// Where the same route is written first, if that is the mistake.
    pub earlier: Option<P>,
    /// Which route of which app is wrong, why, and what to write instead.
    pub message: String,
}

/// The app that answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<T> {
    /// The app.
    pub app: T,
    /// How much of the path the route names, in bytes: for `/api/*` the length of `/api`, for an exact path all.
    pub matched: usize,
}

impl<T> Found<T> {
    /// What is left of the path of the look-up behind the route's prefix, for `strip-prefix`; `/` when nothing is left.
    pub fn rest<'p>(&self, path: &'p str) -> &'p str {
        path.get(self.matched..).filter(|rest| !rest.is_empty()).unwrap_or("/")
    }
}

/// All routes. A look-up asks once for the whole host, then for each of its labels that wildcards name, and for each segment
/// of the path that routes name, and takes the same time however many apps there are. It allocates nothing. Where several
/// hosts match (`a.example.com`, `*.example.com`, `*`) it follows the path once for each until one has a route for it.
#[derive(Debug, Clone)]
pub struct Router<T> {
    /// The app of `*`, when there is no other route.
    only: Option<T>,
    /// Whole hosts, below one root; and the labels of wildcards from the last one, below another. A node holds the root in
    /// `paths` of its routes, if it has any.
    hosts: Tree<Option<NodeId>>,
    /// The roots of `hosts`; none without routes.
    roots: Option<HostRoots>,
    /// By their segments; a root for each host that has routes.
    paths: Tree<PathRoutes<T>>,
}

#[derive(Debug, Clone, Copy)]
struct HostRoots {
    exact: NodeId,
    /// Its own routes are those of any host.
    below: NodeId,
}

/// The apps of a path's routes.
#[derive(Debug, Clone, Copy)]
struct PathRoutes<T> {
    exact: Option<T>,
    below: Option<T>,
}

// Not derived, since an app needs no default.
impl<T> Default for PathRoutes<T> {
    fn default() -> Self {
        Self { exact: None, below: None }
    }
}

impl<T: Copy> Router<T> {
    /// Makes the table of these routes, at most [`ROUTES_MAX`].
    ///
    /// # Errors
    /// All mistakes, in the order of the routes: those that cannot be read, and those that match the same requests as an
    /// earlier one, of the same app or another.
    pub fn build<'a, P: Copy>(
        routes: impl IntoIterator<Item = AppRoute<'a, T, P>>,
    ) -> Result<Self, Vec<RouteMistake<P>>> {
        let mut router = Self { only: None, hosts: Tree::new(), roots: None, paths: Tree::new() };
        let mut taken: HashMap<RoutePattern, AppRoute<'a, T, P>> = HashMap::new();
        let mut mistakes = Vec::new();
        for (count, route) in routes.into_iter().enumerate() {
            let mistake = |reason, earlier| {
                let message = format!("route `{}` of app `{}` {reason}", shown(route.route), route.name);
                RouteMistake { place: route.place, earlier, message }
            };
            let pattern = match RoutePattern::parse(route.route) {
                Ok(pattern) => pattern,
                Err(reason) => {
                    mistakes.push(mistake(format!("cannot be used: {reason}"), None));
                    continue;
                }
            };
            if let Some(earlier) = taken.get(&pattern) {
                mistakes.push(mistake(same(&route, earlier, &pattern), Some(earlier.place)));
            } else if count >= ROUTES_MAX || router.insert(&pattern, route.app).is_none() {
                mistakes.push(mistake(format!("is one too many; write at most {ROUTES_MAX} in all"), None));
                break;
            } else {
                taken.insert(pattern, route);
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let mut all = taken.iter();
        router.only = all.next().filter(|(pattern, _)| pattern.is_all()).map(|(_, route)| route.app);
        router.only = router.only.filter(|_| all.next().is_none());
        router.hosts.shrink();
        router.paths.shrink();
        Ok(router)
    }

    /// None when a tree is full.
    fn insert(&mut self, pattern: &RoutePattern, app: T) -> Option<()> {
        let roots = match self.roots {
            Some(roots) => roots,
            None => *self.roots.insert(HostRoots { exact: self.hosts.add_root()?, below: self.hosts.add_root()? }),
        };
        let host = match &pattern.host {
            HostPart::Any => roots.below,
            HostPart::Below(name) => {
                name.rsplit('.').try_fold(roots.below, |node, label| self.hosts.add(node, label.as_bytes()))?
            }
            HostPart::Exact(host) => match address_key(host) {
                Some(key) => self.hosts.add(roots.exact, &key)?,
                None => self.hosts.add(roots.exact, host.as_bytes())?,
            },
        };
        let routes = self.hosts.value_mut(host)?;
        let mut node = match *routes {
            Some(root) => root,
            None => *routes.insert(self.paths.add_root()?),
        };
        let (PathPart::Below(path) | PathPart::Exact(path)) = &pattern.path;
        for segment in path.split('/').skip(1) {
            node = self.paths.add(node, segment.as_bytes())?;
        }
        let routes = self.paths.value_mut(node)?;
        match &pattern.path {
            PathPart::Below(_) => routes.below = Some(app),
            PathPart::Exact(_) => routes.exact = Some(app),
        }
        Some(())
    }

    /// The app for a request, if there is one.
    ///
    /// `host` is without its port ([`host_of`]); upper and lower case are the same, a dot at the end does not count, and
    /// IPv6 addresses may be written in any way. `path` is what the client sent, without the query: it is compared byte by
    /// byte and not decoded. A target that is no path (the `*` of `OPTIONS`, nothing for `CONNECT`; RFC 9112, section 3.2)
    /// is only for routes of all paths.
    #[inline]
    pub fn find(&self, host: &str, path: &str) -> Option<Found<T>> {
        self.find_by(|| host, path)
    }

    /// The same; the host is only looked for where there is more than the route `*`.
    #[inline]
    pub fn find_by<'h>(&self, host: impl FnOnce() -> &'h str, path: &str) -> Option<Found<T>> {
        match self.only {
            Some(app) => Some(Found { app, matched: 0 }),
            None => self.find_among_all(host(), path),
        }
    }

    fn find_among_all(&self, host: &str, path: &str) -> Option<Found<T>> {
        let roots = self.roots?;
        let host = host.strip_suffix('.').unwrap_or(host);
        let mut lower = [0; HOST_BYTES_MAX];
        // What is longer is no name, and only for routes of any host.
        let name = lower.get_mut(..host.len()).unwrap_or_default();
        if !name.is_empty() {
            name.copy_from_slice(host.as_bytes());
            name.make_ascii_lowercase();
        }
        let is_address = name.first() == Some(&b'[');
        let exact = if is_address {
            address_key(host).and_then(|key| self.hosts.child(roots.exact, &key))
        } else {
            self.hosts.child(roots.exact, name)
        };
        if let Some(found) = exact.and_then(|node| self.find_below_host(node, path)) {
            return Some(found);
        }
        let mut above = if is_address { roots.below } else { self.longest_wildcard(roots.below, name) };
        loop {
            if let Some(found) = self.find_below_host(above, path) {
                return Some(found);
            }
            above = self.hosts.parent(above)?;
        }
    }

    /// The deepest node that has a label of the host in front. From there, parents lead to the root, which is any host.
    fn longest_wildcard(&self, root: NodeId, name: &[u8]) -> NodeId {
        let (mut node, mut left) = (root, name);
        loop {
            let mut parts = left.rsplitn(2, |byte| *byte == b'.');
            let child = parts.next().and_then(|label| self.hosts.child(node, label));
            match (child, parts.next()) {
                // With nothing in front of its first dot a host is no name, and is not below the child.
                (None, _) | (Some(_), None | Some([])) => return node,
                (Some(child), Some(front)) => (node, left) = (child, front),
            }
        }
    }

    /// Among the routes of one host, if it has any.
    fn find_below_host(&self, host: NodeId, path: &str) -> Option<Found<T>> {
        let root = (*self.hosts.value(host)?)?;
        self.find_path(root, path)
    }

    /// Among the routes below a root of `paths`.
    fn find_path(&self, root: NodeId, path: &str) -> Option<Found<T>> {
        let below = |node, matched| {
            let routes: &PathRoutes<T> = self.paths.value(node)?;
            routes.below.map(|app| Found { app, matched })
        };
        let mut longest = below(root, 0);
        let (mut node, mut matched) = (root, 0);
        let mut left = path.as_bytes().strip_prefix(b"/");
        while let Some(segments) = left {
            let mut parts = segments.splitn(2, |byte| *byte == b'/');
            let segment = parts.next()?;
            match self.paths.child(node, segment) {
                Some(child) => node = child,
                None => return longest,
            }
            matched += 1 + segment.len();
            longest = below(node, matched).or(longest);
            left = parts.next();
        }
        let exact = if matched > 0 { self.paths.value(node)?.exact } else { None };
        exact.map(|app| Found { app, matched }).or(longest)
    }
}

/// The host in a request's authority: `example.com` of `example.com:8080`, `[::1]` of `[::1]:80` (RFC 3986, section 3.2).
pub fn host_of(authority: &str) -> &str {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let end = match host.starts_with('[') {
        true => host.find(']').map(|at| at + 1),
        false => host.find(':'),
    };
    end.and_then(|end| host.get(..end)).unwrap_or(host)
}

/// What stands for an IPv6 address in brackets among the names of hosts, however it is written; no name has a bracket.
fn address_key(host: &str) -> Option<[u8; 17]> {
    let address: Ipv6Addr = host.strip_prefix('[')?.strip_suffix(']')?.parse().ok()?;
    let mut key = [b'['; 17];
    key.last_chunk_mut::<16>()?.copy_from_slice(&address.octets());
    Some(key)
}

/// Why a route cannot stand beside an earlier one that is the same.
fn same<T, P>(route: &AppRoute<'_, T, P>, earlier: &AppRoute<'_, T, P>, pattern: &RoutePattern) -> String {
    let written = if earlier.route == route.route {
        String::new()
    } else {
        format!(", written `{}`, and both mean `{pattern}`", shown(earlier.route))
    };
    if earlier.name == route.name {
        return format!("is there twice{written}; leave one out");
    }
    format!(
        "is already a route of app `{}`{written}; a route leads to one app: take it from one of them, or change its host or \
         path",
        earlier.name
    )
}

/// A route in a message: on one line, and not too long.
fn shown(route: &str) -> String {
    const CHARACTERS_MAX: usize = 100;
    let mut text: String = route.chars().take(CHARACTERS_MAX).flat_map(char::escape_debug).collect();
    if route.chars().nth(CHARACTERS_MAX).is_some() {
        text.push('…');
    }
    text
}
