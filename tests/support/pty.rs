//! A command on a pseudo-terminal, and what its screen shows.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use super::{CEILING, eventually_within};

/// A terminal with a command on it, which is killed with it.
pub struct Terminal {
    child: Child,
    /// The side of whoever looks; none when it is closed.
    near: Option<File>,
    /// The side of the command, so that its settings can be read when that has ended.
    far: File,
    state: Arc<Mutex<Seen>>,
}

/// What came of the command.
struct Seen {
    parser: vt100::Parser,
    bytes: Vec<u8>,
}

impl Terminal {
    /// Runs a command on a terminal of this size. It should begin with [`CONTROLLING`].
    ///
    /// # Panics
    /// When the system has no pseudo-terminals.
    pub fn open(mut command: Command, columns: u16, rows: u16) -> Self {
        let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a pseudo-terminal");
        grantpt(&near).and_then(|()| unlockpt(&near)).expect("its other side");
        let name = ptsname(&near, Vec::new()).expect("its name");
        let open = || {
            let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
            let opened = rustix::fs::open(OsStr::from_bytes(name.as_bytes()), flags, rustix::fs::Mode::empty());
            opened.expect("its other side")
        };
        let far = open();
        resize(&far, columns, rows);
        let child = command.stdin(Stdio::from(open())).stdout(Stdio::from(open())).stderr(Stdio::from(open()));
        let child = child.spawn().expect("the command starts");
        let near = File::from(near);
        let (rows, columns) = (rows.try_into().expect("rows"), columns.try_into().expect("columns"));
        let seen = Seen { parser: vt100::Parser::new(rows, columns, 0), bytes: Vec::new() };
        let state = Arc::new(Mutex::new(seen));
        let mut reads = near.try_clone().expect("a descriptor");
        let shows = Arc::clone(&state);
        let read = move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reads.read(&mut buffer) {
                let mut seen = shows.lock().unwrap_or_else(PoisonError::into_inner);
                seen.parser.process(&buffer[..count]);
                seen.bytes.extend_from_slice(&buffer[..count]);
            }
        };
        std::thread::Builder::new().name("terminal".to_owned()).spawn(read).expect("a thread");
        Self { child, near: Some(near), far: File::from(far), state }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lines of the screen.
    pub fn lines(&self) -> Vec<String> {
        let seen = self.seen();
        let (_, columns) = seen.parser.screen().size();
        seen.parser.screen().rows(0, columns.get()).collect()
    }

    /// Whether a line of the screen has this text.
    pub fn has(&self, text: &str) -> bool {
        self.lines().iter().any(|line| line.contains(text))
    }

    /// Waits until a line of the screen has this text.
    #[track_caller]
    pub fn shows(&self, text: &str) {
        self.shows_within(CEILING, text);
    }

    /// The same, for what takes longer than the ceiling of other waits.
    #[track_caller]
    pub fn shows_within(&self, ceiling: Duration, text: &str) {
        self.waits(ceiling, text, |lines| lines.iter().any(|line| line.contains(text)));
    }

    /// Waits until the lines of the screen are such.
    #[track_caller]
    pub fn shows_such(&self, what: &str, such: impl Fn(&[String]) -> bool) {
        self.waits(CEILING, what, such);
    }

    #[track_caller]
    fn waits(&self, ceiling: Duration, what: &str, such: impl Fn(&[String]) -> bool) {
        let until = std::time::Instant::now() + ceiling;
        while !such(&self.lines()) {
            let lines = self.lines().join("\n");
            assert!(std::time::Instant::now() < until, "the screen never shows {what}:\n{lines}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether a cell of the screen is such.
    pub fn any_cell(&self, such: impl Fn(&vt100::Cell) -> bool) -> bool {
        let seen = self.seen();
        let (rows, columns) = seen.parser.screen().size();
        let cells = (0..rows.get()).flat_map(|row| (0..columns.get()).map(move |column| (row, column)));
        cells.into_iter().any(|(row, column)| seen.parser.screen().cell(row, column).is_some_and(&such))
    }

    /// Whether the command has the other screen, and whether the cursor is hidden.
    pub fn is_taken(&self) -> (bool, bool) {
        let seen = self.seen();
        (seen.parser.screen().alternate_screen(), seen.parser.screen().hide_cursor())
    }

    /// All that the command has written.
    pub fn written(&self) -> Vec<u8> {
        self.seen().bytes.clone()
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.near.as_mut().expect("it is open").write_all(keys.as_bytes()).expect("keys are taken");
    }

    /// Gives the terminal another size.
    pub fn resize(&self, columns: u16, rows: u16) {
        let mut seen = self.seen();
        seen.parser.set_size(rows.try_into().expect("rows"), columns.try_into().expect("columns"));
        drop(seen);
        resize(&self.far, columns, rows);
    }

    /// The settings of the terminal.
    pub fn settings(&self) -> Termios {
        tcgetattr(&self.far).expect("settings")
    }

    /// The command's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the command ends.
    #[track_caller]
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        self.wait_for_exit_within(CEILING)
    }

    /// The same, for what takes longer.
    #[track_caller]
    pub fn wait_for_exit_within(&mut self, ceiling: Duration) -> ExitStatus {
        let mut ended = None;
        eventually_within(ceiling, "the command ends", || {
            ended = self.child.try_wait().expect("it can be waited for");
            ended.is_some()
        });
        ended.expect("a status")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What makes the terminal a command's own, so that signals of keys and of its size reach it (setsid(1)).
pub const CONTROLLING: [&str; 2] = ["setsid", "--ctty"];

fn resize(terminal: &impl AsFd, columns: u16, rows: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).expect("a size");
}

/// What settings of two terminals differ in.
pub fn differences(one: &Termios, other: &Termios) -> Vec<String> {
    let all = |termios: &Termios| {
        let Termios { input_modes, output_modes, control_modes, local_modes, .. } = termios;
        [
            format!("{input_modes:?}"),
            format!("{output_modes:?}"),
            format!("{control_modes:?}"),
            format!("{local_modes:?}"),
        ]
    };
    let pairs = all(one).into_iter().zip(all(other));
    pairs.filter(|(one, other)| one != other).map(|(one, other)| format!("{one} is {other}")).collect()
}
