//! A program as a tree, and as text.

use fastrand::Rng;

/// A value of the program.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    /// A number, a text, a name or a sign, as it is written.
    Atom(String),
    /// Brackets.
    List(Vec<Node>),
    /// Curly ones.
    Braces(Vec<Node>),
}

impl Node {
    /// An atom.
    pub(crate) fn atom(text: impl Into<String>) -> Self {
        Self::Atom(text.into())
    }

    /// A list that begins with a word or a sign.
    pub(crate) fn call(head: &str, arguments: impl IntoIterator<Item = Node>) -> Self {
        Self::List(std::iter::once(Self::atom(head)).chain(arguments).collect())
    }

    /// What is in it.
    pub(crate) fn parts(&self) -> &[Node] {
        match self {
            Self::Atom(_) => &[],
            Self::List(parts) | Self::Braces(parts) => parts,
        }
    }

    /// The same brackets around other parts.
    pub(crate) fn with_parts(&self, parts: Vec<Node>) -> Self {
        match self {
            Self::Atom(_) => self.clone(),
            Self::List(_) => Self::List(parts),
            Self::Braces(_) => Self::Braces(parts),
        }
    }
}

/// The files of a program written in that style, and the constructs that it comes to. Style 0 is plain.
pub(crate) fn render(program: &[Node], style: u64) -> (Vec<Vec<u8>>, Vec<&'static str>) {
    let mut writer =
        Writer { rng: Rng::with_seed(style), plain: style == 0, text: String::new(), used: Vec::new() };
    let mut files = Vec::new();
    for (index, node) in program.iter().enumerate() {
        if index > 0 && writer.chance(12) {
            writer.used.push("several files");
            files.push(std::mem::take(&mut writer.text).into_bytes());
        }
        writer.node(node);
        writer.gap("\n");
    }
    if writer.chance(300) {
        writer.used.push("unlexable");
        writer.text.push_str("@ (+ 1");
    }
    files.push(writer.text.into_bytes());
    (files, writer.used)
}

struct Writer {
    rng: Rng,
    plain: bool,
    text: String,
    used: Vec<&'static str>,
}

impl Writer {
    fn chance(&mut self, one_in: u32) -> bool {
        !self.plain && self.rng.u32(..one_in) == 0
    }

    fn node(&mut self, node: &Node) {
        let parts = match node {
            Node::Atom(text) => return self.text.push_str(text),
            Node::List(parts) | Node::Braces(parts) => parts,
        };
        let square = self.chance(10);
        let (open, close) = match node {
            Node::Braces(_) => ('{', '}'),
            _ if square => ('[', ']'),
            _ => ('(', ')'),
        };
        if square {
            self.used.push("square brackets");
        }
        self.text.push(open);
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                self.gap(" ");
            }
            self.node(part);
        }
        self.text.push(close);
    }

    /// What separates two values.
    fn gap(&mut self, usual: &str) {
        if !self.chance(25) {
            return self.text.push_str(usual);
        }
        match self.rng.u32(..5) {
            0 => {
                self.used.push("comment");
                self.text.push_str(" # (not \"read\" ' @ %\n");
            }
            1 => self.text.push_str("\n\n  "),
            2 => self.text.push('\t'),
            3 => self.text.push_str(" \r\n"),
            _ => self.text.push_str("   "),
        }
    }
}
