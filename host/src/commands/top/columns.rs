//! PURE: the columns of the tables: titles, widths, texts, how rows are ordered by them, and which fit on a screen.

use std::cmp::Ordering;

use super::model::{TopRow, of};
use super::rates::{TopTime, float};
use super::table::TopTable;
use super::texts::{NOTHING, TopLetters, bytes, count, fit, percent, rate, span, time, width};

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TopColumn {
    Name,
    State,
    Uptime,
    Connections,
    InFlight,
    Queue,
    Requests,
    P50,
    P99,
    Cpu,
    GuestCpu,
    Memory,
    Peak,
    Resident,
    Faults,
    Errors,
    Bars,
}

use TopColumn::{
    Bars, Connections, Cpu, Errors, Faults, GuestCpu, InFlight, Memory, Name, P50, P99, Peak, Queue, Requests,
    Resident, State, Uptime,
};

/// All, in their order on the screen.
const ALL: [TopColumn; 17] = [
    Name,
    State,
    Uptime,
    Connections,
    InFlight,
    Queue,
    Requests,
    P50,
    P99,
    Cpu,
    GuestCpu,
    Memory,
    Peak,
    Resident,
    Faults,
    Errors,
    Bars,
];
/// Where there is little room, these go first, in this order. (A name and a rate stay.)
const LEFT_OUT: [TopColumn; 15] = [
    Bars,
    Errors,
    Peak,
    Resident,
    Uptime,
    Connections,
    GuestCpu,
    Memory,
    P50,
    Queue,
    InFlight,
    Cpu,
    Faults,
    State,
    P99,
];
/// Narrowest and widest column of names.
const NAMES: [usize; 2] = [12, 28];
/// Narrowest and widest column of bars.
const BARS: [usize; 2] = [10, 40];

impl TopColumn {
    /// Its title.
    pub(super) fn title(self, table: TopTable) -> &'static str {
        match self {
            Name => table.title(),
            State => "STATE",
            Uptime => "UP",
            Connections => "CONN",
            InFlight => "BUSY",
            Queue => "WAIT",
            Requests => "REQ/S",
            P50 => "P50",
            P99 => "P99",
            Cpu => "CPU",
            GuestCpu => "CPU/RQ",
            Memory => "MEM",
            Peak => "PEAK",
            Resident => "RSS",
            Faults => "FLTS",
            Errors => "5XX/S",
            Bars => "REQ/S BEFORE",
        }
    }

    /// Columns of the terminal that it takes; of names and bars, at least.
    fn width(self, table: TopTable) -> usize {
        match self {
            // Workers have numbers, and few have a group.
            Name if table == TopTable::Workers => NAMES[0] / 2,
            Name => NAMES[0],
            State if table == TopTable::Apps => 8,
            State => 9,
            Uptime | GuestCpu => 6,
            Connections | InFlight | Queue | Cpu | Faults => 4,
            Requests | P50 | P99 | Memory | Peak | Resident | Errors => 5,
            Bars => BARS[0],
        }
    }

    fn is_number(self) -> bool {
        !matches!(self, Name | State | Bars)
    }

    /// Whether the table has it: clients' connections and processes belong to no app.
    fn is_of(self, table: TopTable) -> bool {
        !matches!(self, Connections | Resident) || table != TopTable::Apps
    }

    /// What stands there of a row; bars take `columns`.
    fn text(self, row: &TopRow, letters: TopLetters, columns: usize) -> String {
        let (figures, rates) = of(row);
        let nothing = || NOTHING.to_owned();
        let some = |value: Option<String>| value.unwrap_or_else(nothing);
        match self {
            Name => name(row),
            State => row.part.state.clone(),
            Uptime => some(figures.uptime.filter(|uptime| !uptime.is_zero()).map(span)),
            Connections => some(figures.connections.map(count)),
            InFlight => count(figures.in_flight),
            Queue => some(figures.waiting.map(count)),
            Requests => some(rates.map(|rates| rate(rates.requests))),
            P50 => some(rates.and_then(|rates| rates.p50).map(time)),
            P99 => some(rates.and_then(|rates| rates.p99).map(time)),
            Cpu => some(rates.and_then(|rates| rates.cpu_percent).map(percent)),
            GuestCpu => some(rates.and_then(|rates| rates.guest_us).map(|us| time(TopTime { us, is_above: false }))),
            Memory => some(figures.memory_bytes.map(bytes)),
            Peak => some(figures.peak_bytes.map(bytes)),
            Resident => some(figures.resident_bytes.map(bytes)),
            Faults => count(figures.faults.values().sum()),
            Errors => some(rates.map(|rates| rate(rates.errors))),
            Bars => letters.bars(row.history.iter().copied(), columns),
        }
    }

    /// The number that rows are ordered by; none stands before all.
    fn number(self, row: &TopRow) -> Option<f64> {
        let (figures, rates) = of(row);
        match self {
            Name | State => None,
            Uptime => figures.uptime.map(|uptime| uptime.as_secs_f64()),
            Connections => figures.connections.map(float),
            InFlight => Some(float(figures.in_flight)),
            Queue => figures.waiting.map(float),
            Requests | Bars => rates.map(|rates| rates.requests),
            P50 => rates.and_then(|rates| rates.p50).map(|time| time.us),
            P99 => rates.and_then(|rates| rates.p99).map(|time| time.us),
            Cpu => rates.and_then(|rates| rates.cpu_percent),
            GuestCpu => rates.and_then(|rates| rates.guest_us),
            Memory => figures.memory_bytes.map(float),
            Peak => figures.peak_bytes.map(float),
            Resident => figures.resident_bytes.map(float),
            Faults => Some(float(figures.faults.values().sum())),
            Errors => rates.map(|rates| rates.errors),
        }
    }

    /// Which row comes first: texts from A to Z, numbers from the greatest. Equal ones by name, workers by number.
    pub(super) fn order(self, one: &TopRow, other: &TopRow) -> Ordering {
        let by_text = if self == State { one.part.state.cmp(&other.part.state) } else { Ordering::Equal };
        let by_number = match (self.number(one), self.number(other)) {
            (Some(one), Some(other)) => other.total_cmp(&one),
            (one, other) => other.is_some().cmp(&one.is_some()),
        };
        let number = |row: &TopRow| row.part.name.parse::<u64>().ok();
        let by_name = || number(one).cmp(&number(other)).then_with(|| one.part.name.cmp(&other.part.name));
        by_text.then(by_number).then_with(by_name)
    }

    /// The next column that rows can be ordered by, or the one before.
    pub(super) fn beside(self, table: TopTable, forth: bool) -> Self {
        let all: Vec<Self> = ALL.into_iter().filter(|column| column.is_of(table) && *column != Bars).collect();
        let at = all.iter().position(|column| *column == self).unwrap_or(0);
        let next = if forth { at + 1 } else { at + all.len() - 1 };
        all.get(next % all.len()).copied().unwrap_or(Name)
    }
}

/// A worker of a group is named with it.
pub(super) fn name(row: &TopRow) -> String {
    match &row.part.group {
        Some(group) if row.part.name.parse::<u64>().is_ok() => format!("{} {group}", row.part.name),
        _ => row.part.name.clone(),
    }
}

/// The columns of a table that fit on a screen, with their widths.
pub(super) fn layout(table: TopTable, rows: &[&TopRow], columns: usize) -> Vec<(TopColumn, usize)> {
    let mut shown: Vec<(TopColumn, usize)> =
        ALL.into_iter().filter(|column| column.is_of(table)).map(|column| (column, column.width(table))).collect();
    let taken = |shown: &[(TopColumn, usize)]| shown.iter().map(|(_, width)| width + 1).sum::<usize>();
    for left_out in LEFT_OUT {
        // (A column of one for the mark of the selected row, and none behind the last.)
        if taken(&shown) <= columns {
            break;
        }
        shown.retain(|(column, _)| *column != left_out);
    }
    let names = rows.iter().map(|row| width(&name(row))).max().unwrap_or(0).min(NAMES[1]);
    let mut left = columns.saturating_sub(taken(&shown));
    for (column, width) in &mut shown {
        let wanted = match column {
            Name => names,
            Bars => BARS[1],
            _ => continue,
        };
        let more = wanted.saturating_sub(*width).min(left);
        *width += more;
        left -= more;
    }
    shown
}

/// The titles of columns.
pub(super) fn titles(shown: &[(TopColumn, usize)], table: TopTable) -> String {
    let cells = shown.iter().map(|(column, width)| fit(column.title(table), *width, column.is_number()));
    cells.collect::<Vec<_>>().join(" ")
}

/// A row's cells.
pub(super) fn cells(shown: &[(TopColumn, usize)], row: &TopRow, letters: TopLetters) -> String {
    let cells = shown.iter().map(|(column, width)| fit(&column.text(row, letters, *width), *width, column.is_number()));
    cells.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::testing::model;
    use super::*;

    fn shown(table: TopTable, columns: usize) -> Vec<TopColumn> {
        let model = model();
        let rows: Vec<&TopRow> = model.hosts[0].apps.iter().collect();
        layout(table, &rows, columns).into_iter().map(|(column, _)| column).collect()
    }

    #[test]
    fn a_table_is_as_wide_as_the_screen_at_most() {
        let model = model();
        for table in [TopTable::Hosts, TopTable::Workers, TopTable::Apps] {
            let rows: Vec<&TopRow> = model.hosts[0].apps.iter().collect();
            for columns in 20..240 {
                let layout = layout(table, &rows, columns);
                for row in &rows {
                    let line = cells(&layout, row, TopLetters::Unicode);
                    assert!(
                        width(&line) < columns && width(&line) == width(&titles(&layout, table)),
                        "{columns}: {line}"
                    );
                }
            }
        }
    }

    #[test]
    fn eighty_columns_have_what_matters_and_two_hundred_have_all() {
        for table in [TopTable::Hosts, TopTable::Workers, TopTable::Apps] {
            let eighty = shown(table, 80);
            for column in [Name, State, InFlight, Queue, Requests, P50, P99, Cpu, GuestCpu, Memory, Faults] {
                assert!(eighty.contains(&column), "{table:?}: {column:?}");
            }
            assert_eq!(shown(table, 200).len(), ALL.iter().filter(|column| column.is_of(table)).count());
            let forty = shown(table, 40);
            for column in [Name, State, Requests, P99] {
                assert!(forty.contains(&column), "{table:?}: {column:?}");
            }
        }
    }

    #[test]
    fn rows_are_ordered_by_a_column_and_then_by_name() {
        let model = model();
        let mut rows: Vec<&TopRow> = model.hosts[0].workers.iter().collect();
        let names = |rows: &[&TopRow]| rows.iter().map(|row| row.part.name.clone()).collect::<Vec<_>>();
        rows.reverse();
        rows.sort_by(|one, other| Requests.order(one, other));
        assert_eq!(names(&rows), ["1", "2"]);
        rows.sort_by(|one, other| Faults.order(one, other));
        assert_eq!(names(&rows), ["2", "1"], "the second has two");
        rows.sort_by(|one, other| Memory.order(one, other));
        assert_eq!(names(&rows), ["1", "2"], "equal");
        let mut ten = rows[0].clone();
        ten.part.name = "10".to_owned();
        assert_eq!(Name.order(rows[1], &ten), Ordering::Less, "by number");
    }

    #[test]
    fn every_column_can_be_chosen_to_order_by() {
        let mut column = Name;
        let mut seen = Vec::new();
        while !seen.contains(&column) {
            seen.push(column);
            column = column.beside(TopTable::Apps, true);
        }
        assert_eq!((column, seen.len()), (Name, 14));
        assert_eq!(Name.beside(TopTable::Apps, false), Errors);
    }
}
