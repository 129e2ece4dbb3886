//! PURE: stacks as a tree: what the functions have that were called by the same.

use std::collections::BTreeMap;

use wasmhost_supervise::profile::HostProfile;

/// A function, or an app, with what it called.
#[derive(Debug, Default)]
pub(super) struct CallNode<'a> {
    /// CPU time of it and all below, in microseconds.
    pub(super) cpu_us: u64,
    pub(super) called: BTreeMap<&'a str, CallNode<'a>>,
}

impl<'a> CallNode<'a> {
    /// All apps below one root.
    pub(super) fn of(profile: &'a HostProfile) -> Self {
        let mut root = Self::default();
        for (app, frames, stack) in profile.named() {
            root.cpu_us = root.cpu_us.saturating_add(stack.cpu_us);
            let mut node = &mut root;
            for name in std::iter::once(app).chain(frames) {
                node = node.called.entry(name).or_default();
                node.cpu_us = node.cpu_us.saturating_add(stack.cpu_us);
            }
        }
        root
    }

    /// How many are above one another.
    pub(super) fn height(&self) -> usize {
        self.called.values().map(Self::height).max().unwrap_or(0) + 1
    }
}
