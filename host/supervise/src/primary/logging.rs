//! What the host says of its start in the log; what the logs of its processes show, changed while it runs.

use tokio::sync::oneshot;

use wasmhost_base::log::{self, LevelFilter, LogNow, level_name};
use wasmhost_config::Config;

use super::state::Primary;
use crate::backend::{Backend, Worker};
use crate::events::HostEvent;
use crate::host_status::is_single;

/// Says what starts.
pub(super) fn tell_start(config: &Config) {
    let (version, workers, worker_kind) = (env!("CARGO_PKG_VERSION"), config.all_workers(), config.worker_kind.name());
    match &*config.apps {
        [only] if is_single(config) => {
            let component = only.component.display();
            tracing::info!(target: log::START, version, %component, workers, worker_kind, "starting");
        }
        apps => tracing::info!(target: log::START, version, apps = apps.len(), workers, worker_kind, "starting"),
    }
}

impl<B: Backend> Primary<B> {
    /// For somebody who waits for the outcome: the lowest level that the logs show is this one. They hear which it was.
    pub(super) fn change_log_level(&self, level: LevelFilter, ended: oneshot::Sender<LevelFilter>) {
        let now = log::now();
        self.show_in_logs(LogNow { level, ..now });
        // Who asked may have left.
        let _ = ended.send(now.level);
    }

    /// The file of settings says something else of the log than when it was read last.
    pub(super) fn follow_log(&mut self, config: &Config) {
        // (In development, all requests are shown.)
        let access = if self.config.development.is_some() { self.reload.log.access } else { config.access_log };
        let named = LogNow { level: config.log.level.into(), access };
        let before = std::mem::replace(&mut self.reload.log, named);
        self.show_in_logs(after(before, named, log::now()));
    }

    /// The host before this one had this in its settings, and showed that.
    pub(super) fn take_on_log(&self, named: LogNow, shown: LogNow) {
        self.show_in_logs(after(named, self.reload.log, shown));
    }

    fn show_in_logs(&self, shown: LogNow) {
        let before = log::now();
        if before == shown {
            return;
        }
        let (level, access_log) = (level_name(shown.level), shown.access);
        let tell = || tracing::info!(log_level = level, access_log, "log: what it shows has changed");
        // As long as it shows such lines.
        if shown.level < before.level {
            tell();
        }
        log::show(shown);
        if shown.level >= before.level {
            tell();
        }
        self.places.iter().filter_map(|place| place.handle.as_ref()).for_each(|handle| handle.log(shown));
        self.note(&HostEvent::Log { level, access_log });
    }
}

/// What a log shows after a reading of the file that says `named` of it, where the one before has said `before`: what a command has
/// changed meanwhile stays. Pure.
fn after(before: LogNow, named: LogNow, now: LogNow) -> LogNow {
    LogNow {
        level: if named.level == before.level { now.level } else { named.level },
        access: if named.access == before.access { now.access } else { named.access },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_has_changed_stays_until_the_file_says_something_else() {
        let shows = |level, access| LogNow { level, access };
        let (info, debug, warn) = (LevelFilter::INFO, LevelFilter::DEBUG, LevelFilter::WARN);
        for (before, named, now, expected) in [
            (shows(info, false), shows(info, false), shows(debug, false), shows(debug, false)),
            (shows(info, false), shows(warn, false), shows(debug, false), shows(warn, false)),
            (shows(info, false), shows(info, true), shows(debug, false), shows(debug, true)),
            (shows(info, true), shows(warn, false), shows(info, true), shows(warn, false)),
        ] {
            assert_eq!(after(before, named, now), expected);
        }
    }
}
