//! PURE: what somebody at the keyboard looks at, and what keys change of it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::columns::{TopColumn, name};
use super::model::{TopHost, TopModel, TopRow};
use super::news::{TopKey, TopOrder};
use super::table::TopTable;

/// How long a message is shown.
const MESSAGE_FOR: Duration = Duration::from_secs(15);
/// Longest filter, in characters.
const FILTER_MAX: usize = 60;

/// What comes of a key, besides what it changes of the view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TopAct {
    /// Nothing.
    None,
    /// To end.
    End,
    /// To draw all anew.
    Redraw,
    /// To stop until the shell goes on with it.
    Suspend,
    /// To ask a host.
    Order(TopOrder),
}

/// What keys mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TopMode {
    /// They move in the tables.
    Tables,
    /// They are the filter's text.
    Filter,
    /// They answer whether this is meant.
    Confirm(TopOrder),
    /// They are explained.
    Help,
    /// All of the selected row is shown.
    Details,
}

/// What is shown.
#[derive(Debug)]
pub(super) struct TopView {
    /// The table that keys move in.
    pub(super) table: TopTable,
    pub(super) mode: TopMode,
    pub(super) filter: String,
    /// Nothing on the screen changes by itself.
    pub(super) is_paused: bool,
    /// The host whose workers and apps are shown, by its socket. None: the first.
    host: Option<PathBuf>,
    /// The name of the selected row, by table. None: the first.
    selected: [Option<String>; 4],
    orders: [(TopColumn, bool); 4],
    message: Option<(String, Instant)>,
}

impl Default for TopView {
    fn default() -> Self {
        Self {
            table: TopTable::Apps,
            mode: TopMode::Tables,
            filter: String::new(),
            is_paused: false,
            host: None,
            selected: [const { None }; 4],
            orders: [
                (TopColumn::Name, false),
                (TopColumn::Name, false),
                (TopColumn::Requests, false),
                (TopColumn::Name, false),
            ],
            message: None,
        }
    }
}

impl TopView {
    /// The host whose workers and apps are shown.
    pub(super) fn host<'a>(&self, model: &'a TopModel) -> Option<&'a TopHost> {
        self.host.as_deref().and_then(|socket| model.host(socket)).or_else(|| model.hosts.first())
    }

    /// The column that a table is ordered by, and whether the other way round.
    pub(super) fn order(&self, table: TopTable) -> (TopColumn, bool) {
        self.orders[table as usize]
    }

    /// The rows of a table that the filter lets through, in order.
    pub(super) fn rows<'a>(&self, model: &'a TopModel, table: TopTable) -> Vec<&'a TopRow> {
        let host = self.host(model);
        let mut rows: Vec<&TopRow> = match table {
            TopTable::Hosts => model.hosts.iter().map(|host| &host.row).collect(),
            TopTable::Workers => host.map(|host| host.workers.iter().collect()).unwrap_or_default(),
            TopTable::Apps => host.map(|host| host.apps.iter().collect()).unwrap_or_default(),
            TopTable::Events => Vec::new(),
        };
        let filter = self.filter.to_lowercase();
        let passes = |text: &str| text.to_lowercase().contains(&filter);
        rows.retain(|row| passes(&name(row)) || passes(&row.part.state));
        let (column, is_other_way) = self.order(table);
        rows.sort_by(|one, other| {
            let order = column.order(one, other);
            if is_other_way { order.reverse() } else { order }
        });
        rows
    }

    /// The events that the filter lets through, the newest first.
    pub(super) fn events<'a>(&self, model: &'a TopModel) -> Vec<&'a str> {
        let filter = self.filter.to_lowercase();
        let events = self.host(model).into_iter().flat_map(|host| &host.events).map(String::as_str);
        events.filter(|line| line.to_lowercase().contains(&filter)).collect()
    }

    /// Where the selected row is among these.
    pub(super) fn position(&self, table: TopTable, rows: &[&TopRow]) -> usize {
        let selected = match table {
            TopTable::Events => return self.event_at(),
            _ => self.selected[table as usize].as_deref(),
        };
        rows.iter().position(|row| Some(&*row.part.name) == selected).unwrap_or(0)
    }

    /// How many events are scrolled away.
    fn event_at(&self) -> usize {
        self.selected[TopTable::Events as usize].as_deref().and_then(|at| at.parse().ok()).unwrap_or(0)
    }

    /// Shows a message for a while.
    pub(super) fn tell(&mut self, message: String, now: Instant) {
        self.message = Some((message, now + MESSAGE_FOR));
    }

    /// The message that is shown.
    pub(super) fn message(&self, now: Instant) -> Option<&str> {
        self.message.as_ref().filter(|(_, until)| now < *until).map(|(message, _)| message.as_str())
    }

    /// Takes a key; `page`: rows of the table that are seen at once.
    pub(super) fn key(&mut self, key: TopKey, model: &TopModel, page: usize, now: Instant) -> TopAct {
        match key {
            TopKey::Control('c') => return TopAct::End,
            TopKey::Control('z') => return TopAct::Suspend,
            TopKey::Control('l') => return TopAct::Redraw,
            _ => {}
        }
        match std::mem::replace(&mut self.mode, TopMode::Tables) {
            TopMode::Filter => self.filter_key(key),
            TopMode::Confirm(order) => return self.confirm_key(key, order, model, now),
            TopMode::Help if key != TopKey::Letter('q') => {}
            TopMode::Details if matches!(key, TopKey::Enter | TopKey::Escape) => {}
            mode => {
                if mode == TopMode::Details {
                    self.mode = TopMode::Details;
                }
                return self.table_key(key, model, page);
            }
        }
        TopAct::None
    }

    fn filter_key(&mut self, key: TopKey) {
        self.mode = TopMode::Filter;
        match key {
            TopKey::Letter(letter) if self.filter.chars().count() < FILTER_MAX && !letter.is_control() => {
                self.filter.push(letter);
            }
            TopKey::Backspace => drop(self.filter.pop()),
            TopKey::Control('u') => self.filter.clear(),
            TopKey::Enter => self.mode = TopMode::Tables,
            TopKey::Escape => {
                self.filter.clear();
                self.mode = TopMode::Tables;
            }
            _ => {}
        }
    }

    fn confirm_key(&mut self, key: TopKey, order: TopOrder, model: &TopModel, now: Instant) -> TopAct {
        match key {
            TopKey::Letter('y' | 'Y') => {
                if let Some(busy) = model.host(order.socket()).and_then(|host| host.busy) {
                    self.tell(format!("not begun: the host is {busy}"), now);
                    return TopAct::None;
                }
                TopAct::Order(order)
            }
            TopKey::Letter('n' | 'N' | 'q') | TopKey::Escape => TopAct::None,
            _ => {
                self.mode = TopMode::Confirm(order);
                TopAct::None
            }
        }
    }

    fn table_key(&mut self, key: TopKey, model: &TopModel, page: usize) -> TopAct {
        let (column, is_other_way) = self.order(self.table);
        let page = page.max(1);
        match key {
            TopKey::Letter('q') => return TopAct::End,
            TopKey::Letter('h' | '?') => self.mode = TopMode::Help,
            TopKey::Letter('/') => self.mode = TopMode::Filter,
            TopKey::Letter(' ' | 'p') => self.is_paused = !self.is_paused,
            TopKey::Letter('i') => self.orders[self.table as usize].1 = !is_other_way,
            TopKey::Letter('<') | TopKey::Left => self.order_by(column.beside(self.table, false)),
            TopKey::Letter('>') | TopKey::Right => self.order_by(column.beside(self.table, true)),
            TopKey::Tab => self.table = self.table.beside(true),
            TopKey::BackTab => self.table = self.table.beside(false),
            TopKey::Letter(digit @ '1'..='4') => {
                let index = digit.to_digit(10).and_then(|digit| usize::try_from(digit).ok()).unwrap_or(1) - 1;
                self.table = TopTable::ALL.get(index).copied().unwrap_or(self.table);
            }
            TopKey::Up | TopKey::Letter('k') => self.go(model, |at| at.saturating_sub(1)),
            TopKey::Down | TopKey::Letter('j') => self.go(model, |at| at + 1),
            TopKey::PageUp => self.go(model, |at| at.saturating_sub(page)),
            TopKey::PageDown => self.go(model, |at| at + page),
            TopKey::Home => self.go(model, |_| 0),
            TopKey::End => self.go(model, |_| usize::MAX),
            TopKey::Enter => self.mode = TopMode::Details,
            TopKey::Escape => self.filter.clear(),
            TopKey::Letter('r') => self.ask(model, TopOrder::Reload),
            TopKey::Letter('x') => {
                let rows = self.rows(model, TopTable::Workers);
                let worker =
                    rows.get(self.position(TopTable::Workers, &rows)).and_then(|row| row.part.name.parse().ok());
                let worker = worker.filter(|_| self.table == TopTable::Workers);
                self.ask(model, |socket| TopOrder::Restart(socket, worker));
            }
            TopKey::Letter('+') => self.ask_to_scale(model, |workers| workers.checked_add(1)),
            TopKey::Letter('-') => self.ask_to_scale(model, |workers| workers.checked_sub(1)),
            _ => {}
        }
        TopAct::None
    }

    /// Another number of workers: of those that take connections, or, with a worker of a group selected, of that group.
    fn ask_to_scale(&mut self, model: &TopModel, to: impl FnOnce(u16) -> Option<u16>) {
        let rows = self.rows(model, TopTable::Workers);
        let selected = rows.get(self.position(TopTable::Workers, &rows)).filter(|_| self.table == TopTable::Workers);
        let group = selected.and_then(|row| row.part.group.clone());
        let now = self.host(model).map_or(0, |host| host.workers_of(group.as_deref()));
        let Some(workers) = u16::try_from(now).ok().and_then(to).filter(|workers| *workers > 0) else { return };
        self.ask(model, |socket| TopOrder::Scale { socket, group, workers });
    }

    fn order_by(&mut self, column: TopColumn) {
        self.orders[self.table as usize] = (column, false);
    }

    /// Has an order confirmed before it is given.
    fn ask(&mut self, model: &TopModel, order: impl FnOnce(PathBuf) -> TopOrder) {
        if let Some(host) = self.host(model) {
            self.mode = TopMode::Confirm(order(host.socket.clone()));
        }
    }

    /// Selects another row.
    fn go(&mut self, model: &TopModel, to: impl FnOnce(usize) -> usize) {
        let table = self.table;
        if table == TopTable::Events {
            let last = self.events(model).len().saturating_sub(1);
            self.selected[table as usize] = Some(to(self.event_at()).min(last).to_string());
            return;
        }
        let rows = self.rows(model, table);
        let at = to(self.position(table, &rows)).min(rows.len().saturating_sub(1));
        let Some(row) = rows.get(at) else { return };
        let name = row.part.name.clone();
        if table == TopTable::Hosts {
            // (Two may have one name: the row itself says which.)
            let host = model.hosts.iter().find(|host| std::ptr::eq(&raw const host.row, *row));
            let host = host.map(|host| host.socket.clone());
            if host != self.host {
                self.selected = [const { None }; 4];
            }
            self.host = host;
        }
        self.selected[table as usize] = Some(name);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, model, status};
    use std::path::Path;

    use super::*;

    fn press(view: &mut TopView, model: &TopModel, keys: &[TopKey]) -> TopAct {
        keys.iter().fold(TopAct::None, |_, key| view.key(*key, model, 10, Instant::now()))
    }

    fn letters(text: &str) -> Vec<TopKey> {
        text.chars().map(TopKey::Letter).collect()
    }

    fn names(view: &TopView, model: &TopModel, table: TopTable) -> Vec<String> {
        view.rows(model, table).iter().map(|row| row.part.name.clone()).collect()
    }

    #[test]
    fn rows_are_ordered_and_selected_by_keys_and_the_selection_stays_with_its_row() {
        let (mut model, mut view) = (model(), TopView::default());
        assert_eq!(names(&view, &model, TopTable::Apps)[0], "shop", "by requests");
        press(&mut view, &model, &[TopKey::Down]);
        let at = |view: &TopView, model: &TopModel| view.position(TopTable::Apps, &view.rows(model, TopTable::Apps));
        assert_eq!(at(&view, &model), 1);
        press(&mut view, &model, &letters("i"));
        assert_eq!((at(&view, &model), names(&view, &model, TopTable::Apps)[1].as_str()), (0, "shop"));
        press(&mut view, &model, &[TopKey::End, TopKey::Down, TopKey::PageDown]);
        assert_eq!(at(&view, &model), 1);
        press(&mut view, &model, &[TopKey::PageUp]);
        assert_eq!(at(&view, &model), 0);
        press(&mut view, &model, &letters("<"));
        assert_eq!(view.order(TopTable::Apps), (TopColumn::Queue, false));
        model.hosts[0].apps.clear();
        press(&mut view, &model, &[TopKey::Down, TopKey::Home]);
        assert_eq!(at(&view, &model), 0, "nothing is there");
    }

    #[test]
    fn a_filter_is_typed_kept_and_left() {
        let (model, mut view) = (model(), TopView::default());
        press(&mut view, &model, &letters("/sHoq"));
        assert_eq!((view.filter.as_str(), &view.mode), ("sHoq", &TopMode::Filter));
        assert!(names(&view, &model, TopTable::Apps).is_empty());
        press(&mut view, &model, &[TopKey::Backspace, TopKey::Enter]);
        assert_eq!((names(&view, &model, TopTable::Apps), &view.mode), (vec!["shop".to_owned()], &TopMode::Tables));
        press(&mut view, &model, &[TopKey::Escape]);
        assert_eq!(names(&view, &model, TopTable::Apps).len(), 2);
        press(&mut view, &model, &letters("/failed"));
        assert_eq!(names(&view, &model, TopTable::Apps).len(), 1, "states count, too");
        press(&mut view, &model, &letters(&"x".repeat(500)));
        assert_eq!(view.filter.len(), FILTER_MAX);
    }

    #[test]
    fn an_order_is_confirmed_before_it_is_given() {
        let (mut model, mut view) = (model(), TopView::default());
        let socket = model.hosts[0].socket.clone();
        assert_eq!(press(&mut view, &model, &letters("r")), TopAct::None);
        assert_eq!(press(&mut view, &model, &letters("z")), TopAct::None);
        assert_eq!(view.mode, TopMode::Confirm(TopOrder::Reload(socket.clone())), "another key answers nothing");
        assert_eq!(press(&mut view, &model, &letters("n")), TopAct::None);
        assert_eq!(view.mode, TopMode::Tables);
        assert_eq!(press(&mut view, &model, &letters("ry")), TopAct::Order(TopOrder::Reload(socket.clone())));
        let all = TopAct::Order(TopOrder::Restart(socket.clone(), None));
        assert_eq!(press(&mut view, &model, &letters("xy")), all, "an app is selected, no worker");
        press(&mut view, &model, &letters("2"));
        press(&mut view, &model, &[TopKey::Down]);
        let one = TopAct::Order(TopOrder::Restart(socket.clone(), Some(2)));
        assert_eq!(press(&mut view, &model, &letters("xy")), one);
        let scale = |workers| TopAct::Order(TopOrder::Scale { socket: socket.clone(), group: None, workers });
        assert_eq!(press(&mut view, &model, &letters("+y")), scale(3));
        assert_eq!(press(&mut view, &model, &letters("-y")), scale(1));
        // One that has left is none, and the last one stays.
        model.hosts[0].workers[1].part.state = "left".to_owned();
        assert_eq!(press(&mut view, &model, &letters("+y")), scale(2));
        assert_eq!(press(&mut view, &model, &letters("-")), TopAct::None);
        assert_eq!(view.mode, TopMode::Tables);
        model.hosts[0].workers[1].part.state = "listening".to_owned();
        model.hosts[0].workers[1].part.group = Some("g".to_owned());
        let of_group = TopOrder::Scale { socket: socket.clone(), group: Some("g".to_owned()), workers: 2 };
        assert_eq!(press(&mut view, &model, &letters("+y")), TopAct::Order(of_group), "a worker of it is selected");
        model.hosts[0].busy = Some("reloading");
        assert_eq!(press(&mut view, &model, &letters("xy")), TopAct::None);
        assert_eq!(view.message(Instant::now()), Some("not begun: the host is reloading"));
        assert_eq!(view.message(Instant::now() + MESSAGE_FOR), None);
    }

    #[test]
    fn keys_that_end_or_stop_do_so_wherever_they_are_pressed() {
        let model = model();
        for before in ["", "/", "h", "r"] {
            let mut view = TopView::default();
            press(&mut view, &model, &letters(before));
            assert_eq!(press(&mut view, &model, &[TopKey::Control('c')]), TopAct::End, "{before}");
            assert_eq!(press(&mut view, &model, &[TopKey::Control('z')]), TopAct::Suspend, "{before}");
        }
        let mut view = TopView::default();
        assert_eq!(press(&mut view, &model, &letters("q")), TopAct::End);
        press(&mut view, &model, &letters("/q"));
        assert_eq!(view.filter, "q");
    }

    #[test]
    fn another_host_shows_its_own_workers_and_apps() {
        let mut model = model();
        let mut other = status();
        other["apps"].as_array_mut().map(Vec::clear);
        model.answered("blog", Path::new("/run/blog.sock"), answer(Instant::now(), other));
        let mut view = TopView::default();
        assert_eq!(view.host(&model).map(|host| &*host.name), Some("blog"), "the first");
        press(&mut view, &model, &letters("1"));
        press(&mut view, &model, &[TopKey::Down]);
        assert_eq!(view.host(&model).map(|host| &*host.name), Some("shop"));
        assert_eq!(names(&view, &model, TopTable::Apps).len(), 2);
        model.hosts.retain(|host| host.name == "blog");
        assert_eq!(view.host(&model).map(|host| &*host.name), Some("blog"), "it is gone");
    }
}
