//! The loop of the screen: it hears answers, keys and signals, and draws at most once in an interval, or after a key.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use wasmhost_base::inject;
use wasmhost_supervise::control::client::{ControlError, FoundHost};

use super::ask::{HOSTS_SHOWN_MAX, carry_out, find, watch};
use super::lines::{TopLook, screen};
use super::model::{RETURNS_WITHIN, TopModel};
use super::news::{TopNews, TopOrder, TopSignal};
use super::terminal::{TopScreen, tell_keys, tell_signals};
use super::view::{TopAct, TopView};
use crate::commands::hosts::HostCommandError;

/// What may wait to be heard. Whoever tells more waits.
const NEWS_MAX: usize = 64;
/// Answers that are kept while the screen is paused; the oldest make room.
const HELD_MAX: usize = 1_000;
/// So often the screen changes by itself at least, where it shows how long a host has not answered.
const AGES_EVERY: Duration = Duration::from_secs(1);

/// Shows these hosts, and those of this name (none: of any) that appear.
///
/// # Errors
/// When all are gone for too long, or the terminal cannot be used.
pub(super) fn run(hosts: Vec<FoundHost>, name: Option<&str>, look: TopLook) -> Result<(), HostCommandError> {
    let no_screen = |error: std::io::Error| HostCommandError::NoScreen(error.to_string());
    let (tells, news) = sync_channel(NEWS_MAX);
    tell_signals(tells.clone()).map_err(no_screen)?;
    let mut top = Top {
        terminal: TopScreen::open().map_err(no_screen)?,
        look,
        tells: tells.clone(),
        model: TopModel::default(),
        view: TopView::default(),
        watched: HashMap::new(),
        held: VecDeque::new(),
        page: 1,
        began: Instant::now(),
        next_draw: Instant::now(),
        is_dirty: true,
    };
    spawn("keys", {
        let tells = tells.clone();
        move || tell_keys(&tells)
    })
    .map_err(no_screen)?;
    top.found(hosts);
    let (name, interval) = (name.map(str::to_owned), look.interval);
    spawn("hosts", move || find(name.as_deref(), interval, &tells)).map_err(no_screen)?;
    top.run(&news)
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
}

struct Top {
    terminal: TopScreen,
    look: TopLook,
    tells: SyncSender<TopNews>,
    model: TopModel,
    view: TopView,
    /// Hosts that are asked, by their sockets.
    watched: HashMap<PathBuf, FoundHost>,
    /// Answers that came while the screen is paused.
    held: VecDeque<TopNews>,
    /// Rows that are seen at once of the table that keys move in.
    page: usize,
    began: Instant,
    /// Before this, nothing is drawn that came by itself.
    next_draw: Instant,
    is_dirty: bool,
}

impl Top {
    fn run(&mut self, news: &Receiver<TopNews>) -> Result<(), HostCommandError> {
        loop {
            let now = Instant::now();
            if !self.view.is_paused {
                self.check_is_there(now)?;
            }
            if self.is_dirty && now >= self.next_draw {
                self.draw()?;
                // A little less than an interval: answers do not come to the millisecond.
                self.next_draw = now + self.look.interval * 9 / 10;
            }
            let wait = if self.is_dirty { self.next_draw.saturating_duration_since(now) } else { AGES_EVERY };
            match news.recv_timeout(wait) {
                Ok(first) => {
                    for told in std::iter::once(first).chain(news.try_iter().take(NEWS_MAX)) {
                        if !self.hear(told)? {
                            return Ok(());
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.is_dirty |= !self.view.is_paused,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    /// Leaves out hosts that have been gone for too long; an error when none is left, or none has come.
    fn check_is_there(&mut self, now: Instant) -> Result<(), HostCommandError> {
        match self.model.hosts.first().map(|host| host.socket.clone()) {
            None if now.saturating_duration_since(self.began) >= inject::hastened(RETURNS_WITHIN) => {
                Err(HostCommandError::None)
            }
            Some(gone) if !self.model.forget_lost(now) => Err(ControlError::Gone(gone).into()),
            _ => Ok(()),
        }
    }

    /// Draws what has changed.
    fn draw(&mut self) -> Result<(), HostCommandError> {
        let Self { terminal, look, model, view, page, .. } = self;
        let drawn = terminal.draw(|columns, rows| {
            let (lines, seen) = screen(model, view, TopLook { columns, rows, ..*look }, Instant::now());
            *page = seen;
            lines
        });
        self.is_dirty = false;
        drawn.map_err(HostCommandError::Output)
    }

    /// False when it is time to end.
    fn hear(&mut self, told: TopNews) -> Result<bool, HostCommandError> {
        match told {
            TopNews::Key(key) => {
                let act = self.view.key(key, &self.model, self.page, Instant::now());
                if !self.act(act)? {
                    return Ok(false);
                }
                self.draw()?;
            }
            TopNews::Resized => self.draw()?,
            TopNews::KeysLost | TopNews::Signal(TopSignal::End) => return Ok(false),
            TopNews::Signal(TopSignal::Suspend) => drop(self.act(TopAct::Suspend)?),
            TopNews::Signal(TopSignal::Continue) => {
                self.terminal.go_on().map_err(HostCommandError::Output)?;
                self.draw()?;
            }
            TopNews::Found(hosts) => self.found(hosts),
            TopNews::Done { order, told } => {
                if let Some(host) = self.model.host_mut(order.socket()) {
                    host.busy = None;
                }
                self.view.tell(told, Instant::now());
                self.draw()?;
            }
            answer => {
                if let TopNews::Failed { host, is_gone: true, .. } = &answer {
                    self.watched.remove(&host.socket);
                }
                if self.held.len() >= HELD_MAX {
                    self.held.pop_front();
                }
                self.held.push_back(answer);
                self.take_held();
            }
        }
        Ok(true)
    }

    /// Takes note of answers, unless the screen is paused.
    fn take_held(&mut self) {
        if self.view.is_paused {
            return;
        }
        for answer in self.held.drain(..) {
            match answer {
                TopNews::Answered(host, answer) => self.model.answered(&host.name, &host.socket, answer),
                TopNews::Failed { host, why, is_gone } => {
                    if let Some(known) = self.model.host_mut(&host.socket) {
                        known.failed(Instant::now(), &why, is_gone);
                    }
                }
                _ => {}
            }
            self.is_dirty = true;
        }
    }

    /// Asks hosts that are not asked yet.
    fn found(&mut self, hosts: Vec<FoundHost>) {
        for host in hosts {
            if self.watched.len() >= HOSTS_SHOWN_MAX || self.watched.contains_key(&host.socket) {
                continue;
            }
            let (tells, interval, asked) = (self.tells.clone(), self.look.interval, host.clone());
            // (Else it is found again.)
            if spawn("watch", move || watch(&asked, interval, &tells)).is_ok() {
                self.watched.insert(host.socket.clone(), host);
            }
        }
    }

    /// False when it is time to end.
    fn act(&mut self, act: TopAct) -> Result<bool, HostCommandError> {
        let failed = HostCommandError::Output;
        match act {
            TopAct::None => self.take_held(),
            TopAct::End => return Ok(false),
            TopAct::Redraw => self.terminal.forget().map_err(failed)?,
            TopAct::Suspend => {
                if self.terminal.suspend().map_err(failed)? {
                    self.draw()?;
                } else {
                    self.view.tell("not stopped: no shell is there to go on with it".to_owned(), Instant::now());
                }
            }
            TopAct::Order(order) => self.order(order),
        }
        Ok(true)
    }

    /// Has a host do something, in a thread: it may take long. (The view has looked that it does nothing yet.)
    fn order(&mut self, order: TopOrder) {
        let Some(host) = self.model.host_mut(order.socket()) else { return };
        let Some(asked) = self.watched.get(order.socket()).cloned() else {
            return self.view.tell("not begun: the host is gone".to_owned(), Instant::now());
        };
        host.busy = Some(order.doing());
        let tells = self.tells.clone();
        if let Err(error) = spawn("order", move || carry_out(&asked, order, &tells)) {
            host.busy = None;
            self.view.tell(format!("not begun: {error}"), Instant::now());
        }
    }
}
