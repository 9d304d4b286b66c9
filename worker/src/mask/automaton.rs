//! All patterns at once, in one pass over the bytes (Aho and Corasick). Written here because the masking of a stream
//! needs what no crate tells: how much of a pattern the newest bytes could be the beginning of.

use std::collections::VecDeque;

/// Before the first byte, and wherever no pattern could have begun.
pub(super) const START: State = State(0);

/// What was seen last, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State(u32);

/// Stands for no node in a chain of siblings; the root is nobody's child.
const NONE: u32 = 0;

#[derive(Debug)]
struct Node {
    /// Where to go on when no child fits: the longest proper suffix that is a beginning as well.
    fallback: u32,
    first_child: u32,
    next_sibling: u32,
    depth: u32,
    /// Length of the longest pattern that ends here; 0: none does.
    ends: u32,
    byte: u8,
}

/// Finds patterns.
#[derive(Debug)]
pub(super) struct Automaton {
    nodes: Vec<Node>,
    from_start: Box<[u32; 256]>,
}

impl Automaton {
    /// Empty patterns are none. Together they have less than 4 GiB.
    pub(super) fn new<'a>(patterns: impl IntoIterator<Item = &'a [u8]>) -> Automaton {
        let root = Node {
            fallback: NONE,
            first_child: NONE,
            next_sibling: NONE,
            depth: 0,
            ends: 0,
            byte: 0,
        };
        let mut automaton = Automaton {
            nodes: vec![root],
            from_start: Box::new([NONE; 256]),
        };
        for pattern in patterns {
            automaton.insert(pattern);
        }
        automaton.link();
        automaton
    }

    /// Whether there is no pattern.
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.len() == 1
    }

    /// The state after one more byte.
    pub(super) fn step(&self, state: State, byte: u8) -> State {
        let mut at = state.0;
        loop {
            if at == START.0 {
                return State(self.from_start[usize::from(byte)]);
            }
            match self.child(at, byte) {
                NONE => at = self.node(at).fallback,
                child => return State(child),
            }
        }
    }

    /// How many of the newest bytes could be the beginning of a pattern.
    pub(super) fn depth(&self, state: State) -> usize {
        self.node(state.0).depth as usize
    }

    /// How many of the newest bytes are the longest pattern that has just ended; 0: none has.
    pub(super) fn ends(&self, state: State) -> usize {
        self.node(state.0).ends as usize
    }

    fn insert(&mut self, pattern: &[u8]) {
        let mut at = START.0;
        for byte in pattern {
            at = match self.child(at, *byte) {
                NONE => self.add_child(at, *byte),
                child => child,
            };
        }
        if at != START.0 {
            let node = &mut self.nodes[at as usize];
            node.ends = node.depth;
        }
    }

    fn add_child(&mut self, parent: u32, byte: u8) -> u32 {
        let child = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let above = &mut self.nodes[parent as usize];
        let node = Node {
            fallback: START.0,
            first_child: NONE,
            next_sibling: std::mem::replace(&mut above.first_child, child),
            depth: above.depth + 1,
            ends: 0,
            byte,
        };
        self.nodes.push(node);
        if parent == START.0 {
            self.from_start[usize::from(byte)] = child;
        }
        child
    }

    /// Breadth first, so that the fallback of a node's parent is known before its own.
    fn link(&mut self) {
        let mut open = VecDeque::from([START.0]);
        while let Some(parent) = open.pop_front() {
            let mut child = self.node(parent).first_child;
            while child != NONE {
                let fallback = if parent == START.0 {
                    START.0
                } else {
                    self.step(State(self.node(parent).fallback), self.node(child).byte)
                        .0
                };
                let inherited = self.node(fallback).ends;
                let node = &mut self.nodes[child as usize];
                node.fallback = fallback;
                node.ends = node.ends.max(inherited);
                open.push_back(child);
                child = node.next_sibling;
            }
        }
    }

    fn child(&self, parent: u32, byte: u8) -> u32 {
        if parent == START.0 {
            return self.from_start[usize::from(byte)];
        }
        let mut child = self.node(parent).first_child;
        while child != NONE && self.node(child).byte != byte {
            child = self.node(child).next_sibling;
        }
        child
    }

    fn node(&self, at: u32) -> &Node {
        &self.nodes[at as usize]
    }
}
