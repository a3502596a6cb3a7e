//! Programs by chance: well typed but for a few, over every construct of the language, the same for the same seed.

mod data;
mod expressions;
mod statements;
mod text;

use std::collections::BTreeMap;

use fastrand::Rng;
use overcommit_tests::mom::Case;
use serde_json::Value;

pub(crate) use text::{Node, render};

/// What an expression comes to, if nothing is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Integer,
    Float,
    Text,
    Truth,
    List,
    Nil,
    Entity,
}

impl Kind {
    const VALUES: [Self; 6] = [Self::Integer, Self::Float, Self::Text, Self::Truth, Self::List, Self::Nil];
}

/// Each construct, by the name under which it is counted.
pub(crate) const CONSTRUCTS: &[&str] = &[
    "!=",
    "*",
    "+",
    "-",
    "/",
    "<",
    "<<",
    "<=",
    "==",
    ">",
    ">=",
    ">>",
    "Control",
    "GetControl",
    "GetVar",
    "Prop",
    "SetVar",
    "Stat",
    "StatAvg",
    "abs",
    "and",
    "argument capture",
    "attribute of an outer binding",
    "braces",
    "call",
    "comment",
    "debug",
    "def",
    "defun",
    "defvar",
    "dynamic scope",
    "eval",
    "exponent",
    "field",
    "float",
    "hex",
    "if",
    "integer",
    "let",
    "list times",
    "list variable",
    "long integer",
    "max",
    "min",
    "named operator",
    "nil",
    "not",
    "null",
    "octal",
    "or",
    "recursion",
    "redefinition",
    "several files",
    "set",
    "set in a body",
    "setq",
    "shadowing",
    "square brackets",
    "text",
    "text in quotes of the other kind",
    "text of several lines",
    "text times",
    "top-level with",
    "truth arithmetic",
    "two-part let",
    "unlexable",
    "valid",
    "variable",
    "with",
    "with over a list",
    "with over a text",
    "wrong argument count",
    "wrong kind",
    "wrong name",
];

/// A generated case.
#[derive(Clone, Debug)]
pub(crate) struct Generated {
    /// The values at the top.
    pub(crate) program: Vec<Node>,
    /// How it is written down: blanks, comments, files.
    pub(crate) style: u64,
    /// What it sees.
    pub(crate) input: Value,
    /// Whether nothing in it is wrong on purpose.
    pub(crate) right: bool,
    /// How often each construct is in it.
    pub(crate) counts: BTreeMap<&'static str, u32>,
}

impl Generated {
    /// The case of that seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut maker = Maker::new(seed);
        let program = maker.program();
        let input = data::world(&mut maker.rng);
        let mut generated = Self {
            program,
            style: maker.rng.u64(..),
            input,
            right: maker.wrongness == 0,
            counts: BTreeMap::new(),
        };
        let (_, styles) = render(&generated.program, generated.style);
        for construct in styles {
            maker.count(construct);
        }
        generated.counts = maker.counts;
        generated
    }

    /// As both evaluators take it.
    pub(crate) fn case(&self) -> Case {
        Case { files: render(&self.program, self.style).0, input: self.input.clone() }
    }
}

/// A function that was defined.
#[derive(Clone, Debug)]
struct Function {
    name: String,
    parameters: Vec<(String, Kind)>,
    gives: Kind,
    /// A variable that its callers must have.
    free: Option<(String, Kind)>,
}

/// Makes one program.
struct Maker {
    rng: Rng,
    counts: BTreeMap<&'static str, u32>,
    /// Variables of each scope, innermost last.
    scopes: Vec<Vec<(String, Kind)>>,
    functions: Vec<Function>,
    /// Of a hundred thousand values, how many are wrong on purpose.
    wrongness: u32,
}

impl Maker {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        // Most programs are right all over: what is wrong ends them.
        let wrongness = if rng.u32(..5) == 0 { 1500 } else { 0 };
        Self {
            rng,
            counts: BTreeMap::new(),
            scopes: vec![vec![("Host".into(), Kind::Entity)]],
            functions: Vec::new(),
            wrongness,
        }
    }

    fn count(&mut self, construct: &'static str) {
        debug_assert!(CONSTRUCTS.contains(&construct), "{construct}");
        *self.counts.entry(construct).or_default() += 1;
    }

    fn one_in(&mut self, times: u32) -> bool {
        self.rng.u32(..times) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.rng.usize(..from.len())].clone()
    }

    /// A variable of that kind that is in reach, if there is one.
    fn variable(&mut self, kind: Kind) -> Option<String> {
        let names: Vec<_> =
            self.names().filter(|(_, known)| *known == kind).map(|(name, _)| name.to_owned()).collect();
        (!names.is_empty()).then(|| self.pick(&names))
    }

    /// Names that are in reach, what is hidden left out.
    fn names(&self) -> impl Iterator<Item = (&str, Kind)> {
        let mut seen: Vec<&str> = Vec::new();
        let all = self.scopes.iter().rev().flat_map(|scope| scope.iter().rev());
        let visible: Vec<_> = all
            .filter(|(name, _)| {
                let new = !seen.contains(&name.as_str());
                seen.push(name);
                new
            })
            .map(|(name, kind)| (name.as_str(), *kind))
            .collect();
        visible.into_iter()
    }

    fn declare(&mut self, name: &str, kind: Kind) {
        if let Some(scope) = self.scopes.last_mut()
            && !scope.iter().any(|(known, _)| known == name)
        {
            scope.push((name.to_owned(), kind));
        }
    }

    /// A name for a variable of that kind: few for each, so that they meet.
    fn name(&mut self, kind: Kind) -> String {
        let names = match kind {
            Kind::Integer => ["i", "n", "count-of", "_x"],
            Kind::Float => ["f", "x", "ratio", "f-2"],
            Kind::Text => ["s", "t", "word", "s_1"],
            Kind::Truth => ["b", "yes", "p", "B"],
            Kind::List => ["l", "all", "row", "L2"],
            Kind::Nil => ["none", "z", "nils", "z9"],
            Kind::Entity => ["guest", "g", "vm", "e"],
        };
        self.pick(&names).to_owned()
    }
}
