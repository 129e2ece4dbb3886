//! The plots of the dashboard, as SVG. No text of a guest is in one: names stand in the legend, which the page writes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plotters::chart::ChartBuilder;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::drawing::{DrawingAreaErrorKind, IntoDrawingArea as _};
use plotters::prelude::{IntoLogRange as _, LineSeries, RGBAColor, RGBColor, SVGBackend};
use plotters::style::{Color as _, IntoFont as _};
use serde::Serialize;

use wasmhost_config::AppId;

use super::history::{Activity, EVERY, History, HistoryMoment, MOMENTS_MAX};

/// Height of a plot, in pixels.
const HEIGHT: u32 = 170;
/// Lines of a plot; what is beyond them is added up.
const LINES_MAX: usize = 6;
/// Colours that people tell apart who see colours differently (Okabe and Ito), on light and on dark.
const ON_LIGHT: [RGBColor; LINES_MAX] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 138, 100),
    RGBColor(176, 92, 142),
    RGBColor(150, 110, 0),
    RGBColor(90, 90, 90),
];
const ON_DARK: [RGBColor; LINES_MAX] = [
    RGBColor(86, 180, 233),
    RGBColor(240, 140, 60),
    RGBColor(60, 200, 150),
    RGBColor(224, 150, 195),
    RGBColor(240, 228, 66),
    RGBColor(180, 180, 180),
];

/// How plots are to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) is_dark: bool,
    /// In pixels.
    pub(super) width: u32,
}

/// A plot.
#[derive(Debug, Serialize)]
pub(super) struct Plot {
    name: &'static str,
    title: &'static str,
    svg: String,
    legend: Vec<LegendEntry>,
}

/// A line of a plot, in its legend.
#[derive(Debug, Serialize)]
struct LegendEntry {
    name: String,
    color: String,
    /// Its last value, as it is written.
    now: String,
}

/// What a plot shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Rate,
    Seconds,
    Cores,
    Mebibytes,
}

/// A line, before it is drawn: a value for each moment, the oldest first.
struct PlotLine {
    name: String,
    values: Vec<Option<f64>>,
}

/// All plots of a host whose apps have these names.
pub(super) fn all(
    history: &History,
    workers: &[(usize, Option<Arc<str>>)],
    names: &BTreeMap<AppId, String>,
    look: Look,
) -> Vec<Plot> {
    let line = |name: &str, of: &dyn Fn(&HistoryMoment) -> Option<f32>| PlotLine {
        name: name.to_owned(),
        values: history.moments().iter().map(|moment| of(moment).map(f64::from)).collect(),
    };
    let throughput = vec![
        line("responses", &|moment| Some(moment.all.requests)),
        line("5xx", &|moment| Some(moment.all.errors)),
        line("refused", &|moment| Some(moment.sheds)),
    ];
    let percentile = |name: &str, index: usize| line(name, &|moment| moment.percentiles.map(|all| all[index]));
    let latency = vec![percentile("50 %", 0), percentile("90 %", 1), percentile("99 %", 2)];
    let by_worker = |of: fn(&Activity) -> f32| {
        let lines = workers.iter().map(|(number, group)| {
            let group = group.as_ref().map(|group| format!(" ({group})")).unwrap_or_default();
            line(&format!("{number}{group}"), &|moment| moment.workers.get(number).map(of))
        });
        shortened(lines.collect())
    };
    let by_app = |of: fn(&Activity) -> f32| {
        let lines = names.iter().map(|(app, name)| line(name, &|moment| moment.apps.get(app).map(of)));
        shortened(lines.collect())
    };
    [
        ("throughput", "Throughput", Unit::Rate, throughput),
        ("latency", "Latency", Unit::Seconds, latency),
        ("cpu-workers", "CPU of guests, by worker", Unit::Cores, by_worker(|doing| doing.cpu)),
        ("memory-workers", "Memory of instances, by worker", Unit::Mebibytes, by_worker(|doing| doing.memory_mib)),
        ("cpu-apps", "CPU of guests, by app", Unit::Cores, by_app(|doing| doing.cpu)),
        ("memory-apps", "Memory of instances, by app", Unit::Mebibytes, by_app(|doing| doing.memory_mib)),
    ]
    .into_iter()
    .map(|(name, title, unit, lines)| {
        let colors = if look.is_dark { ON_DARK } else { ON_LIGHT };
        // Only the size of a plot could be wrong, and it is bounded.
        let svg = draw(unit, &lines, colors, look).unwrap_or_default();
        let entry = |(line, RGBColor(red, green, blue)): (&PlotLine, RGBColor)| LegendEntry {
            name: line.name.clone(),
            color: format!("#{red:02x}{green:02x}{blue:02x}"),
            now: line.values.last().copied().flatten().map_or_else(|| "–".to_owned(), |value| written(unit, value)),
        };
        Plot { name, title, svg, legend: lines.iter().zip(colors).map(entry).collect() }
    })
    .collect()
}

/// The lines that were highest at some moment, in their order, and the sum of all others.
fn shortened(mut lines: Vec<PlotLine>) -> Vec<PlotLine> {
    if lines.len() <= LINES_MAX {
        return lines;
    }
    let highest = |line: &PlotLine| line.values.iter().copied().flatten().fold(0.0, f64::max);
    let mut order: Vec<(f64, usize)> = lines.iter().map(highest).zip(0..).collect();
    order.sort_by(|(one, first), (other, second)| other.total_cmp(one).then(first.cmp(second)));
    let kept: BTreeSet<usize> = order.into_iter().take(LINES_MAX - 1).map(|(_, index)| index).collect();
    let mut index = 0..;
    let others: Vec<PlotLine> =
        lines.extract_if(.., |_| !index.next().is_some_and(|index| kept.contains(&index))).collect();
    let length = others.first().map_or(0, |line| line.values.len());
    let sum = |at: usize| {
        let values: Vec<f64> = others.iter().filter_map(|line| line.values.get(at).copied().flatten()).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    };
    lines.push(PlotLine { name: format!("{} others", others.len()), values: (0..length).map(sum).collect() });
    lines
}

fn draw(
    unit: Unit,
    lines: &[PlotLine],
    colors: [RGBColor; LINES_MAX],
    look: Look,
) -> Result<String, DrawingAreaErrorKind<std::io::Error>> {
    let values = || lines.iter().flat_map(|line| line.values.iter().copied().flatten());
    let highest = values().fold(0.0, f64::max);
    if unit == Unit::Seconds {
        // Whole decades.
        let lowest = values().fold(f64::INFINITY, f64::min);
        let (lowest, highest) = if lowest.is_finite() { (lowest.max(1e-5), highest.max(1e-5)) } else { (1e-4, 1.0) };
        let (low, high) = (10_f64.powf(lowest.log10().floor()), 10_f64.powf(highest.log10().ceil()));
        return draw_over((low..high.max(low * 10.0)).log_scale(), unit, lines, colors, look);
    }
    let least = match unit {
        Unit::Rate => 1.0,
        Unit::Cores => 0.01,
        Unit::Seconds | Unit::Mebibytes => 1.0,
    };
    draw_over(0.0..(highest * 1.05).max(least), unit, lines, colors, look)
}

fn draw_over<Y>(
    range: Y,
    unit: Unit,
    lines: &[PlotLine],
    colors: [RGBColor; LINES_MAX],
    look: Look,
) -> Result<String, DrawingAreaErrorKind<std::io::Error>>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let grey = if look.is_dark { RGBColor(163, 175, 189) } else { RGBColor(85, 96, 110) };
    let grid: RGBAColor = grey.mix(0.25);
    let label = || ("sans-serif", 11).into_font().color(&grey);
    let minutes = EVERY.as_secs_f64() * MOMENTS_MAX as f64 / 60.0;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (look.width, HEIGHT)).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(6)
            .margin_right(12)
            .x_label_area_size(20)
            .y_label_area_size(54)
            .build_cartesian_2d(-minutes..0.0, range)?;
        chart
            .configure_mesh()
            .x_labels(4)
            .y_labels(5)
            .max_light_lines(1)
            .disable_x_mesh()
            .bold_line_style(grid)
            .axis_style(grey.mix(0.6))
            .label_style(label())
            .x_label_formatter(&|minutes: &f64| {
                if *minutes > -0.1 { "now".to_owned() } else { format!("{minutes:.0} min") }
            })
            .y_label_formatter(&|value: &f64| written(unit, *value))
            .draw()?;
        for (line, color) in lines.iter().zip(colors) {
            // A moment without a value is a gap.
            let first = MOMENTS_MAX.saturating_sub(line.values.len());
            let at = |index: usize| EVERY.as_secs_f64() * ((first + index) as f64 + 1.0 - MOMENTS_MAX as f64) / 60.0;
            let points: Vec<Option<(f64, f64)>> =
                line.values.iter().enumerate().map(|(index, value)| value.map(|value| (at(index), value))).collect();
            for part in points.split(Option::is_none).filter(|part| !part.is_empty()) {
                let points = part.iter().copied().flatten();
                chart.draw_series(LineSeries::new(points, color.stroke_width(2)))?;
            }
        }
        area.present()?;
    }
    Ok(svg)
}

/// A value with its unit.
fn written(unit: Unit, value: f64) -> String {
    let short = |value: f64| match value {
        value if value >= 9.95 || value == 0.0 => format!("{value:.0}"),
        value if value >= 0.95 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    };
    match unit {
        Unit::Rate if value >= 1e6 => format!("{} M/s", short(value / 1e6)),
        Unit::Rate if value >= 1e4 => format!("{} k/s", short(value / 1e3)),
        Unit::Rate => format!("{}/s", short(value)),
        Unit::Seconds if value < 0.000_999 => format!("{:.0} µs", value * 1e6),
        Unit::Seconds if value < 0.999 => format!("{} ms", short(value * 1e3)),
        Unit::Seconds => format!("{} s", short(value)),
        Unit::Cores => format!("{} %", short(value * 100.0)),
        Unit::Mebibytes if value >= 1024.0 => format!("{} GiB", short(value / 1024.0)),
        Unit::Mebibytes => format!("{} MiB", short(value)),
    }
}
