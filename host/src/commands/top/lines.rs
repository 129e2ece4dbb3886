//! PURE: the screen's lines, for its size: a head, tables, details of the selected row, and what keys do.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ratatui::text::{Line, Span};

use super::columns::{cells, layout, name, titles};
use super::model::{HostLink, RETURNS_WITHIN, TopHost, TopModel, TopRow, of};
use super::news::TopOrder;
use super::palette::{TopPaint, TopPalette};
use super::rates::{TopRates, TopTime};
use super::table::TopTable;
use super::texts::{NOTHING, TopLetters, by_name, bytes, count, cut, fit, percent, rate, span, time, width, wrapped};
use super::view::{TopMode, TopView};

/// What the screen is like.
#[derive(Debug, Clone, Copy)]
pub(super) struct TopLook {
    pub(super) columns: usize,
    pub(super) rows: usize,
    pub(super) letters: TopLetters,
    pub(super) palette: TopPalette,
    pub(super) interval: Duration,
}

/// Lines that a table which is not the one that keys move in has at least, with its titles.
const OTHER_TABLE_ROWS: usize = 4;
/// Columns that the texts of the head's second and third line take; the rest is for bars, within these bounds.
const HEAD_TEXTS: usize = 72;
const HEAD_BARS: [usize; 2] = [8, 60];

const HELP: [&str; 17] = [
    "Tab, 1 2 3 4    the next table; hosts, workers, apps, events",
    "arrows, j k     select a row (also PgUp, PgDn, Home, End)",
    "Enter           all of the selected row, with its whole last fault",
    "< >, left right the column that rows are ordered by",
    "i               the other way round",
    "/               filter by name or state; Enter keeps it, Esc leaves it",
    "r               reload the host",
    "x               restart the selected worker; in other tables, all",
    "+ -             one worker more or less (of the selected worker's group)",
    "space           pause, and go on",
    "Ctrl-L, Ctrl-Z  draw anew; stop until the shell goes on",
    "q, Ctrl-C       end",
    "",
    "BUSY: requests in flight   WAIT: requests that wait for an instance",
    "P50, P99: times of the last interval's requests   FLTS: faults so far",
    "CPU: % of a core (of a worker all, of an app its guests; 12c: 12 cores)",
    "CPU/RQ: CPU time in guests for each request   PEAK: most memory so far   RSS: RAM of the process",
];

/// The lines of the screen, none wider than it, and how many rows of the table are seen at once.
pub(super) fn screen(model: &TopModel, view: &TopView, look: TopLook, now: Instant) -> (Vec<Line<'static>>, usize) {
    let mut canvas = Canvas { look, lines: Vec::new() };
    let (head, details, foot) = match look.rows {
        0..=5 => (1, 0, usize::from(look.rows > 2)),
        6..=12 => (2, 0, 1),
        13..=19 => (3, 2, 1),
        _ => (3, 4, 1),
    };
    canvas.head(model, view, head, now);
    let body = look.rows.saturating_sub(canvas.lines.len() + foot);
    let page = match view.mode {
        TopMode::Help => {
            canvas.body(HELP.iter().map(|line| (*line).to_owned()), body);
            1
        }
        TopMode::Details => {
            let lines = view_details(model, view, look.columns, body);
            canvas.body(lines.into_iter(), body);
            1
        }
        _ => {
            let page = canvas.tables(model, view, body.saturating_sub(details));
            let lines = view_details(model, view, look.columns, details);
            canvas.details(lines, details);
            page
        }
    };
    if foot > 0 {
        canvas.foot(view, now);
    }
    canvas.lines.truncate(look.rows);
    (canvas.lines, page)
}

/// Lines as they are made.
struct Canvas {
    look: TopLook,
    lines: Vec<Line<'static>>,
}

impl Canvas {
    /// Adds a line of parts, cut where the screen ends.
    fn line(&mut self, parts: Vec<(String, TopPaint)>) {
        let mut left = self.look.columns;
        let mut spans = Vec::new();
        for (text, paint) in parts {
            let text = cut(&self.look.letters.shown(&text), left);
            left = left.saturating_sub(width(&text));
            spans.push(Span::styled(text, self.look.palette.style(paint)));
        }
        self.lines.push(Line::from(spans));
    }

    fn body(&mut self, lines: impl Iterator<Item = String>, rows: usize) {
        let end = self.lines.len() + rows;
        for line in lines.take(rows) {
            self.line(vec![(line, TopPaint::Plain)]);
        }
        self.fill(end);
    }

    fn fill(&mut self, rows: usize) {
        while self.lines.len() < rows {
            self.lines.push(Line::default());
        }
    }

    fn head(&mut self, model: &TopModel, view: &TopView, rows: usize, now: Instant) {
        let Some(host) = view.host(model) else {
            self.line(vec![
                ("wasmhost top".to_owned(), TopPaint::Title),
                ("  no host has answered yet".into(), TopPaint::Plain),
            ]);
            return self.fill(rows);
        };
        let right = match view.is_paused {
            true => "PAUSED".to_owned(),
            false => format!("every {}", humantime::format_duration(self.look.interval)),
        };
        let (text, paint) = title(host, now);
        let room = self.look.columns.saturating_sub(width(&host.name) + width(&right) + 3);
        let mut parts = vec![(host.name.clone(), TopPaint::Title), (format!(": {}", fit(&text, room, false)), paint)];
        parts.push((format!(" {right}"), if view.is_paused { TopPaint::Warn } else { TopPaint::Dim }));
        self.line(parts);
        let (figures, rates) = of(&host.row);
        let letters = self.look.letters;
        let columns = self.look.columns.saturating_sub(HEAD_TEXTS).clamp(HEAD_BARS[0], HEAD_BARS[1]);
        let of_rates =
            |text: fn(&TopRates) -> Option<String>| rates.and_then(text).unwrap_or_else(|| NOTHING.to_owned());
        let some = |value: Option<String>| value.unwrap_or_else(|| NOTHING.to_owned());
        let bars = |history: &VecDeque<f64>| letters.bars(history.iter().copied(), columns);
        let errors = rates.is_some_and(|rates| rates.errors > 0.0);
        let sheds = rates.is_some_and(|rates| rates.sheds > 0.0);
        let alarm = |is_bad: bool, paint| if is_bad { paint } else { TopPaint::Plain };
        let waits = figures.waiting.is_some_and(|waiting| waiting > 0);
        let first = vec![
            (format!("req/s {:>5} ", of_rates(|rates| Some(rate(rates.requests)))), TopPaint::Strong),
            (bars(&host.row.history), TopPaint::Bars),
            (
                format!(
                    "  p50 {:<5} p99 {:<5}",
                    of_rates(|rates| rates.p50.map(time)),
                    of_rates(|rates| rates.p99.map(time))
                ),
                TopPaint::Plain,
            ),
            (format!(" busy {}", count(figures.in_flight)), TopPaint::Plain),
            (format!(" wait {}", some(figures.waiting.map(count))), alarm(waits, TopPaint::Warn)),
            (format!(" 5xx/s {}", of_rates(|rates| Some(rate(rates.errors)))), alarm(errors, TopPaint::Bad)),
            (format!(" shed/s {}", of_rates(|rates| Some(rate(rates.sheds)))), alarm(sheds, TopPaint::Bad)),
        ];
        let faults: u64 = figures.faults.values().sum();
        let second = vec![
            (format!("cpu   {:>5} ", of_rates(|rates| rates.cpu_percent.map(percent))), TopPaint::Strong),
            (bars(&host.cpu_history), TopPaint::Bars),
            (
                format!(
                    "  cpu/rq {:<5}",
                    of_rates(|rates| rates.guest_us.map(|us| time(TopTime { us, is_above: false })))
                ),
                TopPaint::Plain,
            ),
            (
                format!(
                    " mem {}/{} peak {}",
                    some(figures.memory_bytes.map(bytes)),
                    some(host.sample.memory_max_bytes.map(bytes)),
                    some(figures.peak_bytes.map(bytes))
                ),
                TopPaint::Plain,
            ),
            (format!(" faults {}", count(faults)), alarm(faults > 0, TopPaint::Warn)),
            (format!(" conn {}", some(figures.connections.map(count))), TopPaint::Plain),
        ];
        for line in [first, second].into_iter().take(rows.saturating_sub(1)) {
            self.line(line);
        }
    }

    /// The tables, in so many lines. Returns how many rows are seen of the one that keys move in.
    fn tables(&mut self, model: &TopModel, view: &TopView, rows: usize) -> usize {
        let end = self.lines.len() + rows;
        let mut page = 1;
        for (table, rows) in heights(model, view, rows) {
            if table == view.table {
                page = rows.saturating_sub(1).max(1);
            }
            match table {
                TopTable::Events => self.events(model, view, rows),
                _ => self.table(model, view, table, rows),
            }
        }
        self.fill(end);
        page
    }

    fn table(&mut self, model: &TopModel, view: &TopView, table: TopTable, rows: usize) {
        let Some(rows) = rows.checked_sub(1) else { return };
        let (all, is_in) = (view.rows(model, table), table == view.table);
        let columns = layout(table, &all, self.look.columns);
        let head = fit(&format!(" {}", titles(&columns, table)), self.look.columns, false);
        self.line(vec![(head, if is_in { TopPaint::HeadIn } else { TopPaint::Head })]);
        if all.is_empty() && rows > 0 {
            let why = if view.filter.is_empty() { " (none)" } else { " (none that the filter lets through)" };
            return self.line(vec![(why.to_owned(), TopPaint::Dim)]);
        }
        let at = view.position(table, &all);
        // The selected one is seen, and as many before it as there is room for.
        let first = (at + 1).saturating_sub(rows);
        for (index, row) in all.iter().enumerate().skip(first).take(rows) {
            let is_selected = index == at && (is_in || table == TopTable::Hosts);
            let mark = if is_selected { ">" } else { " " };
            let line = fit(&format!("{mark}{}", cells(&columns, row, self.look.letters)), self.look.columns, false);
            let paint = if is_selected && is_in { TopPaint::Selected } else { paint_of(row) };
            self.line(vec![(line, paint)]);
        }
    }

    fn events(&mut self, model: &TopModel, view: &TopView, rows: usize) {
        let Some(rows) = rows.checked_sub(1) else { return };
        let head = fit(" EVENTS, the newest first", self.look.columns, false);
        self.line(vec![(head, TopPaint::HeadIn)]);
        let events = view.events(model);
        let first = view.position(TopTable::Events, &[]).min(events.len().saturating_sub(1));
        for event in events.into_iter().skip(first).take(rows) {
            self.line(vec![(format!(" {event}"), TopPaint::Plain)]);
        }
    }

    fn details(&mut self, lines: Vec<String>, rows: usize) {
        let end = self.lines.len() + rows;
        for (index, line) in lines.into_iter().take(rows).enumerate() {
            let (line, paint) = match index {
                0 => (fit(&line, self.look.columns, false), TopPaint::Head),
                _ => (line, TopPaint::Plain),
            };
            self.line(vec![(line, paint)]);
        }
        self.fill(end);
    }

    fn foot(&mut self, view: &TopView, now: Instant) {
        self.fill(self.look.rows.saturating_sub(1));
        self.lines.truncate(self.look.rows.saturating_sub(1));
        let parts = match &view.mode {
            TopMode::Filter => vec![
                (format!("filter: {}_", view.filter), TopPaint::Strong),
                ("  Enter keeps it, Esc leaves it".into(), TopPaint::Dim),
            ],
            TopMode::Confirm(order) => vec![(question(order), TopPaint::Warn)],
            _ => match view.message(now) {
                Some(message) => vec![(message.to_owned(), TopPaint::Strong)],
                None => self.keys(view),
            },
        };
        self.line(parts);
    }

    fn keys(&self, view: &TopView) -> Vec<(String, TopPaint)> {
        let (column, is_other_way) = view.order(view.table);
        let mut parts = Vec::new();
        if !view.filter.is_empty() {
            parts.push((format!("filter: {}  ", view.filter), TopPaint::Strong));
        }
        if view.table != TopTable::Events {
            let way = if is_other_way { " (i)" } else { "" };
            parts.push((format!("by {}{way}  ", column.title(view.table)), TopPaint::Strong));
        }
        let keys = match self.look.columns {
            0..=59 => "q end h help Tab <> / r x + -",
            _ => "q end  h help  Tab  <> order  / filter  r reload  x restart  +- scale",
        };
        parts.push((keys.to_owned(), TopPaint::Dim));
        parts
    }
}

/// The state of a host, in a line.
fn title(host: &TopHost, now: Instant) -> (String, TopPaint) {
    let ago = |since: Instant| span(now.saturating_duration_since(since));
    match &host.link {
        HostLink::Silent { since, why } => (format!("SILENT for {}: {why}", ago(*since)), TopPaint::Bad),
        HostLink::Gone { since, .. } => {
            let text = format!("GONE for {}, is tried again for {}", ago(*since), span(RETURNS_WITHIN));
            (text, TopPaint::Bad)
        }
        HostLink::Answers => {
            let sample = &host.sample;
            let up = sample.figures.uptime.map_or_else(|| NOTHING.to_owned(), span);
            let busy = host.busy.map(|busy| format!(", {busy}")).unwrap_or_default();
            let text =
                format!("{}{busy}, up {up}, process {}, version {}", host.row.part.state, sample.pid, sample.version);
            let is_well = host.row.part.state == "running" && host.busy.is_none();
            (text, if is_well { TopPaint::Plain } else { TopPaint::Warn })
        }
    }
}

/// How a row is painted that is not selected. What the paint says, the text says, too.
fn paint_of(row: &TopRow) -> TopPaint {
    match row.part.state.as_str() {
        "failed" | "stopped" | "down" => TopPaint::Bad,
        "loading" | "draining" | "starting" | "not ready" => TopPaint::Warn,
        "asleep" | "unloaded" => TopPaint::Dim,
        _ => TopPaint::Plain,
    }
}

fn question(order: &TopOrder) -> String {
    match order {
        TopOrder::Reload(_) => "reload the host? y n".to_owned(),
        TopOrder::Scale { group, workers, .. } => {
            let of = group.as_ref().map(|group| format!(" in the group {group}")).unwrap_or_default();
            format!("scale to {workers} workers{of}? Clients lose no request. y n")
        }
        TopOrder::Restart(_, Some(worker)) => format!("restart worker {worker}? Clients lose no request. y n"),
        TopOrder::Restart(_, None) => "restart all workers, one after another? Clients lose no request. y n".to_owned(),
    }
}

/// How many lines each table has, with its titles. Where there is no room for all, only the one that keys move in is there.
fn heights(model: &TopModel, view: &TopView, rows: usize) -> Vec<(TopTable, usize)> {
    if view.table == TopTable::Events {
        return vec![(TopTable::Events, rows)];
    }
    let is_there = |table: &TopTable| match table {
        TopTable::Hosts => model.hosts.len() > 1 || view.table == TopTable::Hosts,
        TopTable::Workers | TopTable::Apps => true,
        TopTable::Events => false,
    };
    let tables: Vec<TopTable> = TopTable::ALL.into_iter().filter(is_there).collect();
    let wanted = |table: TopTable| 1 + view.rows(model, table).len().max(1);
    let mut heights: Vec<(TopTable, usize)> =
        tables.iter().map(|table| (*table, wanted(*table).min(OTHER_TABLE_ROWS))).collect();
    let taken: usize = heights.iter().map(|(_, rows)| rows).sum();
    let Some(mut left) = rows.checked_sub(taken) else { return vec![(view.table, rows)] };
    let (own, others): (Vec<_>, Vec<_>) = heights.iter_mut().partition(|(table, _)| *table == view.table);
    for (table, rows) in own.into_iter().chain(others) {
        let more = wanted(*table).saturating_sub(*rows).min(left);
        *rows += more;
        left -= more;
    }
    heights
}

/// All that is known of the selected row, in lines: a title, what columns may have left out, faults by kind, the last one.
fn view_details(model: &TopModel, view: &TopView, columns: usize, rows: usize) -> Vec<String> {
    let Some(rows_left) = rows.checked_sub(1) else { return Vec::new() };
    let table = if view.table == TopTable::Events { TopTable::Hosts } else { view.table };
    let all = view.rows(model, table);
    let Some(row) = all.get(view.position(table, &all)) else { return Vec::new() };
    let mut lines = vec![detail_title(row, table)];
    let (figures, _) = of(row);
    let faults = by_name(&figures.faults);
    let sheds = by_name(&figures.sheds);
    let named = |what: &str, names: String| if names.is_empty() { String::new() } else { format!("{what}: {names}") };
    let counts = [named("faults", faults), named("refused", sheds)];
    let counts: Vec<String> = counts.into_iter().filter(|text| !text.is_empty()).collect();
    let mut texts = Vec::new();
    if let Some(error) = &row.part.error {
        texts.push(format!("error: {error}"));
    }
    if let Some(fault) = &row.fault {
        let time = fault.time.get(11..19).unwrap_or(&fault.time);
        texts.push(format!(
            "last fault at {time} UTC, {} on worker {}, {}: {}",
            fault.app, fault.worker, fault.kind, fault.detail
        ));
    }
    if counts.is_empty() && texts.is_empty() {
        texts.push("no faults, and nothing was refused".to_owned());
    }
    if !counts.is_empty() && (rows_left > 1 || texts.is_empty()) {
        lines.push(counts.join("; "));
    }
    for text in texts {
        let left = rows.saturating_sub(lines.len());
        if left > 0 {
            lines.extend(wrapped(&text, columns, left));
        }
    }
    lines
}

fn detail_title(row: &TopRow, table: TopTable) -> String {
    let (figures, rates) = of(row);
    let some = |value: Option<String>| value.unwrap_or_else(|| NOTHING.to_owned());
    let mut parts = vec![format!("{} {}", table.title().to_lowercase(), name(row)), row.part.state.clone()];
    if table == TopTable::Apps {
        parts.push(format!("revision {}", row.part.revision));
    }
    if table == TopTable::Workers {
        parts.push(format!("started {}x", row.part.revision));
    }
    parts.push(format!("up {}", some(figures.uptime.map(span))));
    if table != TopTable::Apps {
        parts.push(format!("conn {}", some(figures.connections.map(count))));
    }
    parts.push(format!("instances {}", figures.instances));
    parts.push(format!("peak {}", some(figures.peak_bytes.map(bytes))));
    if let Some(resident) = figures.resident_bytes {
        parts.push(format!("rss {}", bytes(resident)));
    }
    parts.push(format!("requests {}", figures.requests));
    parts.push(format!("5xx/s {}", some(rates.map(|rates| rate(rates.errors)))));
    format!("-- {} --", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::model::TopAnswer;
    use super::super::news::TopKey;
    use super::super::testing::{model, status};
    use super::*;

    fn look(columns: usize, rows: usize) -> TopLook {
        let (letters, palette) = (TopLetters::Unicode, TopPalette::new(false));
        TopLook { columns, rows, letters, palette, interval: Duration::from_secs(1) }
    }

    fn shown(model: &TopModel, view: &TopView, columns: usize, rows: usize) -> Vec<String> {
        screen(model, view, look(columns, rows), Instant::now()).0.iter().map(ToString::to_string).collect()
    }

    fn press(view: &mut TopView, model: &TopModel, keys: &str) {
        for key in keys.chars() {
            view.key(TopKey::Letter(key), model, 1, Instant::now());
        }
    }

    #[test]
    fn a_screen_of_any_size_is_as_wide_and_high_as_it_at_most() {
        let model = model();
        for keys in ["", "1", "2", "4", "h", "/x", "r"] {
            let mut view = TopView::default();
            press(&mut view, &model, keys);
            for (columns, rows) in (1..=200).step_by(7).flat_map(|columns| (1..60).map(move |rows| (columns, rows))) {
                let lines = shown(&model, &view, columns, rows);
                assert!(lines.len() <= rows, "{keys} {columns}x{rows}: {lines:#?}");
                assert!(lines.iter().all(|line| width(line) <= columns), "{keys} {columns}x{rows}: {lines:#?}");
                assert!(lines.iter().flat_map(|line| line.chars()).all(|letter| !letter.is_control()), "{lines:?}");
            }
        }
        shown(&TopModel::default(), &TopView::default(), 80, 24);
    }

    #[test]
    fn eighty_by_twenty_four_shows_host_workers_apps_and_the_last_fault() {
        let model = model();
        let lines = shown(&model, &TopView::default(), 80, 24);
        // (A long text goes on in the next line.)
        let has = |text: &str| lines.concat().contains(text);
        assert_eq!(lines.len(), 24);
        for text in [
            "shop: running, up 1m10s, process 7, version 0.1.0",
            "req/s    50 ",
            "mem 4.8M/2.0G peak 5.7M",
            " WORKER",
            " APP",
            "last fault at 03:04:05 UTC, shop on worker 2, trap: wasm trap: un\\u{1b}[31mreachable",
            "faults: trap 3",
            "q end  h help",
        ] {
            assert!(has(text), "{text}: {lines:#?}");
        }
        assert!(lines.iter().any(|line| line.starts_with(">shop")), "{lines:#?}");
        assert!(!has("HOST"), "there is one only");
    }

    #[test]
    fn a_small_screen_has_the_table_that_keys_move_in() {
        let model = model();
        let mut view = TopView::default();
        let lines = shown(&model, &view, 40, 10);
        assert!(lines.iter().any(|line| line.starts_with(">shop")) && lines.len() == 10, "{lines:#?}");
        press(&mut view, &model, "2");
        let lines = shown(&model, &view, 40, 6);
        assert!(lines.iter().any(|line| line.starts_with(">1 ")), "{lines:#?}");
        assert!(lines[5].contains("q end"), "{lines:#?}");
    }

    #[test]
    fn the_selected_row_is_seen_however_many_there_are() {
        let mut model = model();
        let mut status = status();
        let apps: Vec<_> =
            (100..400).map(|app| serde_json::json!({"name": format!("app{app}"), "state": "awake"})).collect();
        status["apps"] = apps.into();
        let socket = model.hosts[0].socket.clone();
        let at = Instant::now() + Duration::from_secs(9);
        model.answered("shop", &socket, TopAnswer { at, status, events: Vec::new() });
        let mut view = TopView::default();
        for (keys, app) in
            [(vec![TopKey::End], "app399"), (vec![TopKey::Home], "app100"), (vec![TopKey::Down; 40], "app140")]
        {
            for key in keys {
                view.key(key, &model, 1, Instant::now());
            }
            for rows in [5, 10, 24, 50] {
                let lines = shown(&model, &view, 80, rows);
                assert!(lines.iter().any(|line| line.starts_with(&format!(">{app}"))), "{rows}: {lines:#?}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_words() {
        let mut model = model();
        let now = Instant::now();
        model.hosts[0].failed(now, "no host listens", true);
        let later = now + Duration::from_secs(12);
        let (lines, _) = screen(&model, &TopView::default(), look(80, 24), later);
        assert!(lines[0].to_string().contains("GONE for 12s, is tried again for 30s"), "{}", lines[0]);
        let mut view = TopView::default();
        press(&mut view, &model, "i");
        let lines = shown(&model, &view, 80, 24);
        let has = |text: &str| lines.iter().any(|line| line.contains(text));
        assert!(has("error: no\\nfile\\u{202e}") && has(" failed "), "{lines:#?}");
        assert!(lines[23].starts_with("by REQ/S (i)"), "{}", lines[23]);
    }

    #[test]
    fn questions_and_messages_stand_in_the_last_line() {
        let model = model();
        let mut view = TopView::default();
        press(&mut view, &model, "r");
        assert!(shown(&model, &view, 80, 24)[23].starts_with("reload the host? y n"));
        press(&mut view, &model, "n+");
        assert!(shown(&model, &view, 80, 24)[23].starts_with("scale to 3 workers? Clients lose no request. y n"));
        press(&mut view, &model, "n");
        view.tell("reloaded".to_owned(), Instant::now());
        assert_eq!(shown(&model, &view, 80, 24)[23], "reloaded");
        press(&mut view, &model, "/sh");
        assert!(shown(&model, &view, 80, 24)[23].starts_with("filter: sh_"));
    }
}
