//! A tree whose edges have names, made for many small nodes and for look-ups that take the same time however many nodes
//! there are. All nodes are in one vector and all edges in one hash table: a node costs about thirty bytes, and its name.

use std::hash::{BuildHasher, Hasher};
use std::num::NonZeroU32;

use hashbrown::{DefaultHashBuilder, HashTable};

/// A node of the tree that gave it out: its index, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NodeId(NonZeroU32);

impl NodeId {
    const fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

#[derive(Debug, Clone)]
struct Node<V> {
    parent: Option<NodeId>,
    /// The name of the edge from the parent: where it begins in `Tree::names`, and its length in bytes.
    name_at: u32,
    name_length: u16,
    has_children: bool,
    value: V,
}

/// Trees, one for each root, that share their storage.
#[derive(Debug, Clone)]
pub(super) struct Tree<V> {
    nodes: Vec<Node<V>>,
    names: Vec<u8>,
    /// The nodes that have a parent, by it and the edge's name. The hash has a random seed: nobody can choose names that
    /// make others' look-ups slow.
    edges: HashTable<NodeId>,
    seed: DefaultHashBuilder,
}

impl<V: Default> Tree<V> {
    /// Without a node.
    pub(super) fn new() -> Self {
        Self { nodes: Vec::new(), names: Vec::new(), edges: HashTable::new(), seed: DefaultHashBuilder::default() }
    }

    /// A new root; none when the tree is full (2³² nodes).
    pub(super) fn add_root(&mut self) -> Option<NodeId> {
        self.add_node(None, &[])
    }

    /// The node below `parent` with this name, which is made if it is not there; none when the tree is full (2³² nodes, or
    /// bytes of names) or the name is longer than 65,535 bytes.
    pub(super) fn add(&mut self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        if let Some(child) = self.child(parent, name) {
            return Some(child);
        }
        let child = self.add_node(Some(parent), name)?;
        self.nodes.get_mut(parent.index())?.has_children = true;
        let Self { nodes, names, edges, seed } = self;
        edges.insert_unique(hash(seed, parent, name), child, |id| {
            let edge = nodes.get(id.index()).and_then(|node| Some((node.parent?, node_name(names, node)?)));
            edge.map_or(0, |(parent, name)| hash(seed, parent, name))
        });
        Some(child)
    }

    fn add_node(&mut self, parent: Option<NodeId>, name: &[u8]) -> Option<NodeId> {
        let id = u32::try_from(self.nodes.len() + 1).ok().and_then(NonZeroU32::new).map(NodeId)?;
        let (name_at, name_length) = (u32::try_from(self.names.len()).ok()?, u16::try_from(name.len()).ok()?);
        self.names.extend_from_slice(name);
        self.nodes.push(Node { parent, name_at, name_length, has_children: false, value: V::default() });
        Some(id)
    }

    /// Gives back memory that was taken for more nodes.
    pub(super) fn shrink(&mut self) {
        self.nodes.shrink_to_fit();
        self.names.shrink_to_fit();
    }
}

impl<V> Tree<V> {
    /// The node below `parent` with this name.
    pub(super) fn child(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        count_step();
        if !self.nodes.get(parent.index())?.has_children {
            return None;
        }
        let is_it = |id: &NodeId| {
            count_step();
            let node = self.nodes.get(id.index()).filter(|node| node.parent == Some(parent));
            node.and_then(|node| node_name(&self.names, node)) == Some(name)
        };
        self.edges.find(hash(&self.seed, parent, name), is_it).copied()
    }

    /// The node above; none for a root.
    pub(super) fn parent(&self, id: NodeId) -> Option<NodeId> {
        self.nodes.get(id.index())?.parent
    }

    /// What a node holds.
    pub(super) fn value(&self, id: NodeId) -> Option<&V> {
        count_step();
        self.nodes.get(id.index()).map(|node| &node.value)
    }

    /// What a node holds, to change it.
    pub(super) fn value_mut(&mut self, id: NodeId) -> Option<&mut V> {
        self.nodes.get_mut(id.index()).map(|node| &mut node.value)
    }

    /// Memory on the heap.
    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node<V>>() + self.names.capacity() + self.edges.allocation_size()
    }
}

fn node_name<'a, V>(names: &'a [u8], node: &Node<V>) -> Option<&'a [u8]> {
    let at = node.name_at as usize;
    names.get(at..at + usize::from(node.name_length))
}

fn hash(seed: &DefaultHashBuilder, parent: NodeId, name: &[u8]) -> u64 {
    let mut hasher = seed.build_hasher();
    hasher.write_u32(parent.0.get());
    hasher.write(name);
    hasher.finish()
}

#[cfg(test)]
thread_local! {
    /// What look-ups of this thread have cost: each node that was asked for something, and each edge that was compared.
    static STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// How many steps this thread took since the last call.
#[cfg(test)]
pub(super) fn take_steps() -> usize {
    STEPS.take()
}

/// Only tests count.
fn count_step() {
    #[cfg(test)]
    STEPS.set(STEPS.get() + 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_found_by_its_parent_and_name_alone() {
        let mut tree = Tree::<u32>::new();
        let (one, two) = (tree.add_root().expect("a root"), tree.add_root().expect("a root"));
        let below_one = tree.add(one, b"a").expect("a node");
        assert_eq!(tree.add(one, b"a"), Some(below_one), "it is there already");
        assert_eq!(tree.child(two, b"a"), None);
        let below_two = tree.add(two, b"a").expect("a node");
        let empty = tree.add(below_two, b"").expect("a node");
        assert_ne!(below_one, below_two);
        assert_eq!((tree.child(one, b"a"), tree.child(two, b"a")), (Some(below_one), Some(below_two)));
        assert_eq!((tree.child(below_two, b""), tree.child(below_one, b"")), (Some(empty), None));
        assert_eq!((tree.parent(empty), tree.parent(below_two), tree.parent(two)), (Some(below_two), Some(two), None));
        *tree.value_mut(empty).expect("there") = 7;
        assert_eq!((tree.value(empty), tree.value(one)), (Some(&7), Some(&0)));
        assert_eq!(tree.add(one, &vec![b'a'; 65_536]), None, "the name is too long");
    }

    #[test]
    fn all_nodes_are_found_after_the_table_has_grown() {
        let mut tree = Tree::<u32>::new();
        let root = tree.add_root().expect("a root");
        let ids: Vec<NodeId> = (0..5_000).filter_map(|i| tree.add(root, format!("n{i}").as_bytes())).collect();
        tree.shrink();
        for (i, id) in ids.iter().enumerate() {
            assert_eq!(tree.child(root, format!("n{i}").as_bytes()), Some(*id));
        }
        assert_eq!((ids.len(), tree.child(root, b"n5000")), (5_000, None));
    }
}
