//! PURE: the tables of the screen.

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TopTable {
    Hosts,
    Workers,
    Apps,
    Events,
}

impl TopTable {
    /// All, in their order on the screen.
    pub(super) const ALL: [Self; 4] = [Self::Hosts, Self::Workers, Self::Apps, Self::Events];

    /// Over its column of names.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Hosts => "HOST",
            Self::Workers => "WORKER",
            Self::Apps => "APP",
            Self::Events => "EVENT",
        }
    }

    /// The one after it, or before it.
    pub(super) fn beside(self, forth: bool) -> Self {
        let steps = if forth { 1 } else { Self::ALL.len() - 1 };
        Self::ALL.get((self as usize + steps) % Self::ALL.len()).copied().unwrap_or(self)
    }
}
