//! The terminal: raw and on its other screen, and again as it was however the command ends; its keys and signals.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{
    self, DisableBracketedPaste, EnableBracketedPaste, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers,
};
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::crossterm::{cursor, execute};
use ratatui::layout::Rect;
use ratatui::text::Line;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, getpgid, getpgrp, getppid, getsid, kill_current_process_group};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use wasmhost_base::inject;

use super::lines::TopLook;
use super::news::{TopKey, TopNews, TopSignal};
use super::palette::TopPalette;
use super::texts::TopLetters;
use crate::commands::hosts::HostCommandError;

/// Bytes that are kept until the whole of a drawing is written: more than a large screen takes.
const DRAWING_BYTES: usize = 64 << 10;
/// Bytes that are written at once, so that a terminal that takes no more holds up nothing for long.
const WRITTEN_AT_ONCE: usize = 1_024;
/// How often a terminal that takes nothing is looked at.
const LOOKS_EVERY: Duration = Duration::from_millis(100);
/// A terminal that takes nothing is left as it is after so long, when the command ends.
const LEAVES_WITHIN: Duration = Duration::from_secs(1);

/// Whether the terminal is as we have made it.
static IS_OURS: AtomicBool = AtomicBool::new(false);
/// The command ends: nobody waits for the terminal any more.
static ENDS: AtomicBool = AtomicBool::new(false);

/// What the terminal is like; its size is asked at each drawing.
///
/// # Errors
/// When there is none, or it cannot show a screen.
pub(super) fn look(interval: Duration) -> Result<TopLook, HostCommandError> {
    let term = std::env::var("TERM").unwrap_or_default();
    let no_screen = |why: &str| Err(HostCommandError::NoScreen(why.to_owned()));
    if !io::stdout().is_terminal() {
        return no_screen("it is a file or a pipe");
    }
    if ["", "dumb", "unknown"].contains(&&*term) {
        return no_screen(&format!("TERM is `{}`", crate::commands::plain::plain(&term)));
    }
    let set = |name: &str| std::env::var(name).ok();
    Ok(TopLook {
        columns: 80,
        rows: 24,
        letters: TopLetters::of(Some(&term), set),
        palette: TopPalette::new(has_colours(&term, set("NO_COLOR").as_deref())),
        interval,
    })
}

/// Whether a terminal shows colours, and nobody asked for none (<https://no-color.org>).
fn has_colours(term: &str, no_color: Option<&str>) -> bool {
    let is_without = term.starts_with("vt") || ["-m", "-mono"].iter().any(|ending| term.ends_with(ending));
    !is_without && no_color.is_none_or(str::is_empty)
}

/// Standard output, waited for no longer than the command runs.
struct TerminalOutput;

impl Write for TerminalOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let output = io::stdout();
        let wait = Timespec::try_from(LOOKS_EVERY).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        let mut since_end: Option<Instant> = None;
        loop {
            let mut polled = [PollFd::new(&output, PollFlags::OUT)];
            match poll(&mut polled, Some(&wait)) {
                Ok(1..) => return Ok(rustix::io::write(output.as_fd(), &bytes[..bytes.len().min(WRITTEN_AT_ONCE)])?),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if ENDS.load(SeqCst) && since_end.get_or_insert_with(Instant::now).elapsed() >= LEAVES_WITHIN {
                return Err(io::Error::from(io::ErrorKind::TimedOut));
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The screen. Dropped, the terminal is as it was.
pub(super) struct TopScreen(Terminal<CrosstermBackend<BufWriter<TerminalOutput>>>);

impl TopScreen {
    /// Takes the terminal.
    pub(super) fn open() -> io::Result<Self> {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // Else its message would be on a screen that goes.
            leave();
            before(panic);
        }));
        enter()?;
        let output = BufWriter::with_capacity(DRAWING_BYTES, TerminalOutput);
        match Terminal::new(CrosstermBackend::new(output)) {
            Ok(terminal) => Ok(Self(terminal)),
            Err(error) => {
                leave();
                Err(error)
            }
        }
    }

    /// Draws what has changed of the lines that `lines` makes for a screen of so many columns and rows.
    pub(super) fn draw(&mut self, lines: impl FnOnce(usize, usize) -> Vec<Line<'static>>) -> io::Result<()> {
        if !IS_OURS.load(SeqCst) {
            return Err(io::Error::other("a thread of this program has panicked, which is a bug"));
        }
        inject::break_screen();
        self.0.draw(|frame| {
            let area = frame.area();
            let lines = lines(area.width.into(), area.height.into());
            for (y, line) in (area.top()..area.bottom()).zip(&lines) {
                frame.buffer_mut().set_line(area.left(), y, line, area.width);
            }
        })?;
        Ok(())
    }

    /// Has the next drawing draw all.
    pub(super) fn forget(&mut self) -> io::Result<()> {
        let size = self.0.size()?;
        self.0.resize(Rect::new(0, 0, size.width, size.height))
    }

    /// Gives the terminal back and stops, until somebody has the command go on. False where nobody could: then it does not stop.
    pub(super) fn suspend(&mut self) -> io::Result<bool> {
        if !is_of_a_job() {
            return Ok(false);
        }
        leave();
        // All of the job, as Ctrl-Z does.
        kill_current_process_group(Signal::STOP)?;
        self.go_on()?;
        Ok(true)
    }

    /// Takes the terminal again, as it may be after a stop.
    pub(super) fn go_on(&mut self) -> io::Result<()> {
        leave();
        enter()?;
        self.forget()
    }
}

impl Drop for TopScreen {
    fn drop(&mut self) {
        ENDS.store(true, SeqCst);
        leave();
    }
}

fn enter() -> io::Result<()> {
    enable_raw_mode()?;
    IS_OURS.store(true, SeqCst);
    let mut output = BufWriter::new(TerminalOutput);
    // (What is pasted is no key.)
    execute!(output, EnterAlternateScreen, EnableBracketedPaste, cursor::Hide).inspect_err(|_| leave())
}

/// Makes the terminal what it was, if it is not.
fn leave() {
    if IS_OURS.swap(false, SeqCst) {
        let mut output = BufWriter::new(TerminalOutput);
        // A terminal that is gone needs neither.
        let _ = execute!(output, cursor::Show, DisableBracketedPaste, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

/// Whether a shell looks after this process's group, and can go on with it: the parent of its leader, in another group of the same
/// session (a group without such a parent is orphaned, POSIX.1-2017, 3.264).
fn is_of_a_job() -> bool {
    let leader = getpgrp();
    let parent = parent_of(leader).or_else(getppid);
    let parent = parent.filter(|parent| *parent != leader);
    parent.is_some_and(|parent| {
        getsid(Some(parent)).is_ok_and(|session| getsid(None) == Ok(session))
            && getpgid(Some(parent)).is_ok_and(|group| group != leader)
    })
}

fn parent_of(process: Pid) -> Option<Pid> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).ok()?;
    // After the name, which may have any letters: state, parent (proc_pid_stat(5)).
    let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
    Pid::from_raw(parent)
}

/// Signals, told from now on by a thread, until nobody listens.
pub(super) fn tell_signals(news: SyncSender<TopNews>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let guard = runtime.enter();
    let [terminate, interrupt] = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    let [hangup, quit] = [SignalKind::hangup(), SignalKind::quit()].map(signal);
    let mut ends = [terminate?, interrupt?, hangup?, quit?];
    let mut stops = signal(SignalKind::from_raw(Signal::TSTP.as_raw()))?;
    let mut goes_on = signal(SignalKind::from_raw(Signal::CONT.as_raw()))?;
    drop(guard);
    let tell = move || {
        runtime.block_on(async {
            loop {
                let told = tokio::select! {
                    () = any(&mut ends) => TopSignal::End,
                    _ = stops.recv() => TopSignal::Suspend,
                    _ = goes_on.recv() => TopSignal::Continue,
                };
                if told == TopSignal::End {
                    ENDS.store(true, SeqCst);
                }
                if news.send(TopNews::Signal(told)).is_err() {
                    return;
                }
            }
        });
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(tell).map(drop)
}

async fn any(streams: &mut [SignalStream; 4]) {
    let [one, two, three, four] = streams;
    tokio::select! {
        _ = one.recv() => {}
        _ = two.recv() => {}
        _ = three.recv() => {}
        _ = four.recv() => {}
    }
}

/// Tells keys, until nobody listens or the keyboard is gone.
pub(super) fn tell_keys(news: &SyncSender<TopNews>) {
    loop {
        let told = match event::read() {
            Ok(Event::Key(key)) => match key_of(key) {
                Some(key) => TopNews::Key(key),
                None => continue,
            },
            Ok(Event::Resize(..)) => TopNews::Resized,
            Ok(_) => continue,
            Err(_) => TopNews::KeysLost,
        };
        let is_last = matches!(told, TopNews::KeysLost);
        if news.send(told).is_err() || is_last {
            return;
        }
    }
}

fn key_of(key: KeyEvent) -> Option<TopKey> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    Some(match key.code {
        KeyCode::Char(letter) if key.modifiers.contains(KeyModifiers::CONTROL) => TopKey::Control(letter),
        KeyCode::Char(letter) => TopKey::Letter(letter),
        KeyCode::Up => TopKey::Up,
        KeyCode::Down => TopKey::Down,
        KeyCode::Left => TopKey::Left,
        KeyCode::Right => TopKey::Right,
        KeyCode::PageUp => TopKey::PageUp,
        KeyCode::PageDown => TopKey::PageDown,
        KeyCode::Home => TopKey::Home,
        KeyCode::End => TopKey::End,
        KeyCode::Tab => TopKey::Tab,
        KeyCode::BackTab => TopKey::BackTab,
        KeyCode::Enter => TopKey::Enter,
        KeyCode::Esc => TopKey::Escape,
        KeyCode::Backspace => TopKey::Backspace,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_that_have_them_and_users_who_want_them() {
        assert!(has_colours("xterm-256color", None) && has_colours("linux", Some("")));
        for (term, no_color) in [("xterm", Some("1")), ("vt100", None), ("xterm-mono", None)] {
            assert!(!has_colours(term, no_color), "{term} {no_color:?}");
        }
    }

    #[test]
    fn a_key_that_is_let_go_is_none() {
        let mut key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(key_of(key), Some(TopKey::Control('c')));
        key.kind = KeyEventKind::Release;
        assert_eq!(key_of(key), None);
        assert_eq!(key_of(KeyEvent::new(KeyCode::F(1), KeyModifiers::NONE)), None);
    }
}
