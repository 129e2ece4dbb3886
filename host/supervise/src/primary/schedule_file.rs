//! Up to when the times of schedules were dealt with, in a file that outlives the host: for those that catch up on what they
//! missed. It is opened before the process confines itself, and written in its place: what is torn by a power cut is not
//! believed, and nothing is caught up then.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use wasmhost_base::private_files::make_directory;
use wasmhost_config::{CatchUp, Config};

/// Its name, in the directory of what outlives the host.
const NAME: &str = "schedules.json";
/// Longest file that is read: all schedules of all apps are far less.
const BYTES_MAX: u64 = 64 << 20;

/// Milliseconds since 1970, by app and schedule.
type KeptTimes = BTreeMap<String, BTreeMap<String, u64>>;

/// The file.
pub(super) struct ScheduleFile {
    file: File,
    times: KeptTimes,
}

impl ScheduleFile {
    /// Opens it, where the settings name a directory for it and a schedule that catches up.
    ///
    /// # Errors
    /// What is wrong with the directory or the file, and a way out.
    pub(super) fn open(config: &Config) -> Result<Option<Self>, String> {
        let catches_up = config.apps.iter().flat_map(|app| &app.schedules).any(|one| one.catch_up == CatchUp::Last);
        let Some(folder) = config.data_dir.as_deref().filter(|_| catches_up) else { return Ok(None) };
        make_directory(folder)?;
        let path = folder.join(NAME);
        let opened = Self::open_at(&path);
        opened.map(Some).map_err(|error| {
            format!("`{}` cannot be opened: {error}; remove it, or name another data-dir", path.display())
        })
    }

    fn open_at(path: &Path) -> io::Result<Self> {
        let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(flags)
            .open(path)?;
        let mut opened = Self { file, times: KeptTimes::new() };
        opened.read()?;
        Ok(opened)
    }

    /// Reads it again: another host had it until now.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn read(&mut self) -> io::Result<()> {
        let length = usize::try_from(self.file.metadata()?.len().min(BYTES_MAX)).unwrap_or_default();
        let mut text = vec![0; length];
        self.file.read_exact_at(&mut text, 0)?;
        self.times = serde_json::from_slice(&text).unwrap_or_else(|error| {
            if !text.is_empty() {
                tracing::warn!(file = NAME, %error, "what was kept of schedules cannot be read; nothing that they missed is caught up");
            }
            KeptTimes::new()
        });
        Ok(())
    }

    /// Up to when the times of a schedule were dealt with.
    pub(super) fn of(&self, app: &str, schedule: &str) -> Option<SystemTime> {
        let ms = *self.times.get(app)?.get(schedule)?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms))
    }

    /// Writes what holds now, if it is something else.
    pub(super) fn keep(&mut self, all: impl Iterator<Item = (String, String, SystemTime)>) {
        let mut times = KeptTimes::new();
        for (app, schedule, time) in all {
            let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
            times.entry(app).or_default().insert(schedule, ms);
        }
        if times == self.times {
            return;
        }
        self.times = times;
        // Only texts and numbers: it cannot fail.
        let text = serde_json::to_vec(&self.times).unwrap_or_default();
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        let written = self.file.write_all_at(&text, 0).and_then(|()| self.file.set_len(length));
        if let Err(error) = written {
            tracing::error!(%error, hint = "free room in data-dir", "what schedules have dealt with cannot be kept; after a restart they may run again, or not");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_again_and_what_is_torn_is_not_believed() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join(NAME);
        let time = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let row = |app: &str, seconds| (app.to_owned(), "nightly".to_owned(), time(seconds));
        let mut file = ScheduleFile::open_at(&path)?;
        assert_eq!(file.of("a", "nightly"), None);
        file.keep([row("a", 100_000), row("b", 2)].into_iter());
        file.keep([row("a", 3)].into_iter());
        let file = ScheduleFile::open_at(&path)?;
        assert_eq!((file.of("a", "nightly"), file.of("b", "nightly")), (Some(time(3)), None));
        std::fs::write(&path, b"{\"a\":{\"nigh")?;
        assert_eq!(ScheduleFile::open_at(&path)?.of("a", "nightly"), None);
        Ok(())
    }
}
