//! Makes counters of a table's rows. One row gives the cell that is counted in, its sum, and how `/status`, `/metrics` and
//! `docs/REFERENCE.md` show it.

/// A metric.
#[derive(Debug)]
pub struct MetricRow<Figures: 'static> {
    /// Its name, without the prefix `wasmhost_` and without the ending `_total` of a counter.
    pub name: &'static str,
    /// Its field on `/status`, where it has one.
    pub status: Option<&'static str>,
    /// What it means.
    pub help: &'static str,
    /// How it behaves.
    pub kind: MetricKind,
    /// What is shown of the figures.
    pub shows: Shows<Figures>,
    /// It says something of an app only, and nothing of a worker.
    pub is_of_apps: bool,
}

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows, from 0 at the host's start.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size ([`super::LATENCY_BOUNDS`]).
    Histogram,
}

/// What a metric shows.
#[derive(Debug)]
pub enum Shows<Figures: 'static> {
    /// A number.
    Number(fn(&Figures) -> MetricValue),
    /// Numbers, by this label.
    By(&'static str, fn(&Figures) -> Labelled),
    /// How long something took.
    Durations(fn(&Figures) -> &super::DurationsSum),
}

/// Numbers by the value of a label.
pub type Labelled = Vec<(std::borrow::Cow<'static, str>, u64)>;

/// A number. `/metrics` shows times in seconds, `/status` in the unit that the field's name ends in.
#[derive(Debug, Clone, Copy)]
pub enum MetricValue {
    /// As it is.
    Count(u64),
    /// Shown in microseconds on `/status`.
    Micros(u64),
    /// Shown in whole seconds on `/status`.
    Seconds(f64),
}

/// Makes two types of a table: the cells, where one thread counts, and the figures, which are their sums and have the rows.
/// A row is `/// HELP`, then `field: CELL => KIND "name", "field of /status" or -, [what is shown];`. Below `beside` stand
/// fields that are no metrics.
macro_rules! counters {
    (
        $(#[$about:meta])*
        $cells:ident, $figures:ident {
            $(
                $(#[doc = $help:literal])+
                $field:ident: $cell:ty => $kind:ident $name:literal, $status:tt, [$($shows:tt)+] $(of $scope:ident)?;
            )*
        }
        beside {
            $( $(#[$other_about:meta])* $other:ident: $type:ty; )*
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Default)]
        pub struct $cells {
            $( $(#[doc = $help])+ pub $field: $cell, )*
            $( $(#[$other_about])* pub $other: $type, )*
        }

        #[doc = concat!("What [`", stringify!($cells), "`] have counted: of one, or of several in sum.")]
        #[derive(Debug, Clone)]
        pub struct $figures {
            $( $(#[doc = $help])+ pub $field: <$cell as $crate::metrics::Summed>::Sum, )*
        }

        impl Default for $figures {
            fn default() -> Self {
                Self { $( $field: <$cell as $crate::metrics::Summed>::NONE, )* }
            }
        }

        impl $figures {
            /// How each is shown.
            pub const ROWS: &[$crate::metrics::MetricRow<Self>] = &[$(
                $crate::metrics::MetricRow {
                    name: $name,
                    status: counters!(@status $status),
                    help: concat!($($help),+).trim_ascii(),
                    kind: $crate::metrics::MetricKind::$kind,
                    shows: counters!(@shows $figures, $field, $($shows)+),
                    is_of_apps: counters!(@scope $($scope)?),
                },
            )*];

            /// Adds what was counted there.
            pub fn add(&mut self, cells: &$cells) {
                $( $crate::metrics::Summed::add_to(&cells.$field, &mut self.$field); )*
            }
        }
    };
    (@status -) => { None };
    (@status $field:literal) => { Some($field) };
    (@scope) => { false };
    (@scope apps) => { true };
    (@shows $figures:ident, $field:ident, count) => {
        $crate::metrics::Shows::Number(|figures: &$figures| $crate::metrics::MetricValue::Count(figures.$field))
    };
    (@shows $figures:ident, $field:ident, micros) => {
        $crate::metrics::Shows::Number(|figures: &$figures| $crate::metrics::MetricValue::Micros(figures.$field))
    };
    (@shows $figures:ident, $field:ident, by $label:literal: $names:expr) => {
        $crate::metrics::Shows::By($label, |figures: &$figures| {
            $names.into_iter().map(std::borrow::Cow::Borrowed).zip(figures.$field).collect()
        })
    };
    (@shows $figures:ident, $field:ident, by_revision) => {
        $crate::metrics::Shows::By("revision", |figures: &$figures| figures.$field.labelled())
    };
    (@shows $figures:ident, $field:ident, durations) => {
        $crate::metrics::Shows::Durations(|figures: &$figures| &figures.$field)
    };
}
