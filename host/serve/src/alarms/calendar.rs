//! Things put down under the days on which they are to be looked at. Pure: a day is a number.

use std::collections::BTreeMap;

/// A day's number.
pub(super) type Day = u64;

/// Where a thing lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) day: Day,
    /// Its place among those of that day.
    index: usize,
}

/// A thing that knows where it lies, so that it can be removed in constant time.
pub(super) trait Item {
    fn lies_at(&self, page: Option<Page>);
}

/// Days with what lies there; days without anything take no room.
pub(super) struct Calendar<T>(BTreeMap<Day, Vec<T>>);

impl<T> Default for Calendar<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Item> Calendar<T> {
    /// The first day on which something lies.
    pub(super) fn first(&self) -> Option<Day> {
        self.0.first_key_value().map(|(day, _)| *day)
    }

    /// Puts a thing that lies nowhere under a day.
    pub(super) fn put(&mut self, day: Day, item: T) {
        let those = self.0.entry(day).or_default();
        item.lies_at(Some(Page { day, index: those.len() }));
        those.push(item);
    }

    /// Takes a thing away.
    pub(super) fn remove(&mut self, page: Page) {
        let Some(those) = self.0.get_mut(&page.day) else { return };
        if page.index < those.len() {
            those.swap_remove(page.index).lies_at(None);
        }
        if let Some(moved) = those.get(page.index) {
            moved.lies_at(Some(page));
        }
        if those.is_empty() {
            self.0.remove(&page.day);
        }
    }

    /// Takes away all that lies under the first day, if that is before `today`.
    pub(super) fn take_before(&mut self, today: Day) -> Option<Vec<T>> {
        let first = self.0.first_entry().filter(|first| *first.key() < today)?;
        let those = first.remove();
        those.iter().for_each(|item| item.lies_at(None));
        Some(those)
    }
}
