//! A program as it was written: values in values, in one piece of memory, so that nesting costs no stack to drop.
//!
//! What a value means depends on where it stands and on what is defined when it is evaluated; all that can be known before
//! is known here: names are numbers, numbers are values, and the parts of dotted names are apart.

use std::collections::HashMap;
use std::sync::Arc;

use crate::source::At;
use crate::value::Value;

/// A value of the program, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NodeId(u32);

/// A name, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name(u32);

impl Name {
    pub(crate) fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// What a value is.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    /// A number or a text.
    Constant(Value),
    /// A name without dots.
    Symbol(Name),
    /// A name with dots: what it says as a whole, up to its first dot, and between the first and the second.
    Dotted { whole: Name, base: Name, attribute: Name },
    /// A sign, by the name of what it does.
    Operator(Name),
    /// Brackets: which of the pool of parts are in them. Curly ones have `eval` as their first.
    List { from: u32, length: u32 },
}

/// The parsed program.
#[derive(Debug, Default)]
pub(crate) struct Syntax {
    nodes: Vec<(Node, At)>,
    parts: Vec<NodeId>,
    top: Vec<NodeId>,
    names: Names,
}

impl Syntax {
    pub(crate) fn add(&mut self, node: Node, at: At) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push((node, at));
        id
    }

    pub(crate) fn list(&mut self, parts: &[NodeId], at: At) -> NodeId {
        let from = u32::try_from(self.parts.len()).unwrap_or(u32::MAX);
        let length = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        self.parts.extend_from_slice(parts);
        self.add(Node::List { from, length }, at)
    }

    pub(crate) fn end(&mut self, top: Vec<NodeId>) {
        self.top = top;
    }

    pub(crate) fn intern(&mut self, name: &str) -> Name {
        self.names.intern(name)
    }

    /// A name that stands behind a dot.
    pub(crate) fn intern_attribute(&mut self, name: &str) -> Name {
        let name = self.names.intern(name);
        if let Some(mark) = self.names.attributes.get_mut(name.index()) {
            *mark = true;
        }
        name
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        const NOWHERE: &Node = &Node::Constant(Value::Nil);
        usize::try_from(id.0).ok().and_then(|n| self.nodes.get(n)).map_or(NOWHERE, |(node, _)| node)
    }

    pub(crate) fn at(&self, id: NodeId) -> At {
        usize::try_from(id.0).ok().and_then(|n| self.nodes.get(n)).map_or(At(0), |(_, at)| *at)
    }

    /// What is in the brackets.
    pub(crate) fn parts(&self, from: u32, length: u32) -> &[NodeId] {
        let range = usize::try_from(from).and_then(|from| Ok((from, usize::try_from(length)?)));
        range
            .ok()
            .and_then(|(from, length)| self.parts.get(from..from.checked_add(length)?))
            .unwrap_or_default()
    }

    /// The same by the list's number, if it is one.
    pub(crate) fn parts_of(&self, id: NodeId) -> Option<&[NodeId]> {
        match self.node(id) {
            Node::List { from, length } => Some(self.parts(*from, *length)),
            _ => None,
        }
    }

    /// The name that a value is, dots included.
    pub(crate) fn name_of(&self, id: NodeId) -> Option<Name> {
        match self.node(id) {
            Node::Symbol(name) | Node::Dotted { whole: name, .. } => Some(*name),
            _ => None,
        }
    }

    pub(crate) fn text(&self, name: Name) -> &Arc<str> {
        static EMPTY: std::sync::LazyLock<Arc<str>> = std::sync::LazyLock::new(|| Arc::from(""));
        self.names.texts.get(name.index()).unwrap_or(&EMPTY)
    }

    /// How many names there are.
    pub(crate) fn names(&self) -> usize {
        self.names.texts.len()
    }

    /// All of them in the order of their numbers, and whether they stand behind a dot somewhere.
    pub(crate) fn all_names(&self) -> impl Iterator<Item = (&Arc<str>, bool)> {
        self.names.texts.iter().zip(self.names.attributes.iter().copied())
    }

    /// All values, wherever they stand.
    pub(crate) fn all(&self) -> impl Iterator<Item = NodeId> {
        (0..self.nodes.len()).filter_map(|n| u32::try_from(n).ok()).map(NodeId)
    }

    /// The values at the top, in order.
    pub(crate) fn top(&self) -> &[NodeId] {
        &self.top
    }
}

/// Names and their numbers.
#[derive(Debug, Default)]
struct Names {
    texts: Vec<Arc<str>>,
    attributes: Vec<bool>,
    by_text: HashMap<Arc<str>, Name>,
}

impl Names {
    fn intern(&mut self, text: &str) -> Name {
        if let Some(name) = self.by_text.get(text) {
            return *name;
        }
        let name = Name(u32::try_from(self.texts.len()).unwrap_or(u32::MAX));
        let text: Arc<str> = Arc::from(text);
        self.texts.push(Arc::clone(&text));
        self.attributes.push(false);
        self.by_text.insert(text, name);
        name
    }
}
