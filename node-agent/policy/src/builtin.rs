//! The words and signs of the language, and how many arguments each takes.

use crate::number::Operation;
use crate::ops::Relation;

/// What a word or a sign does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Builtin {
    Def,
    Defvar,
    Set,
    Let,
    If,
    With,
    And,
    Or,
    Not,
    Arithmetic(Operation),
    Divide,
    Shift { left: bool },
    Compare(Relation),
    Equal { negated: bool },
    Min,
    Max,
    Null,
    Valid,
    Eval,
}

/// All of them by name; signs by the names of what they do, which policies may write as well.
pub(crate) const BUILTINS: [(&str, Builtin); 28] = [
    ("def", Builtin::Def),
    ("defun", Builtin::Def),
    ("defvar", Builtin::Defvar),
    ("set", Builtin::Set),
    ("setq", Builtin::Set),
    ("let", Builtin::Let),
    ("if", Builtin::If),
    ("with", Builtin::With),
    ("and", Builtin::And),
    ("or", Builtin::Or),
    ("not", Builtin::Not),
    ("add", Builtin::Arithmetic(Operation::Add)),
    ("sub", Builtin::Arithmetic(Operation::Sub)),
    ("mul", Builtin::Arithmetic(Operation::Mul)),
    ("div", Builtin::Divide),
    ("shl", Builtin::Shift { left: true }),
    ("shr", Builtin::Shift { left: false }),
    ("lt", Builtin::Compare(Relation::Less)),
    ("gt", Builtin::Compare(Relation::Greater)),
    ("lte", Builtin::Compare(Relation::LessOrEqual)),
    ("gte", Builtin::Compare(Relation::GreaterOrEqual)),
    ("eq", Builtin::Equal { negated: false }),
    ("neq", Builtin::Equal { negated: true }),
    ("min", Builtin::Min),
    ("max", Builtin::Max),
    ("null", Builtin::Null),
    ("valid", Builtin::Valid),
    ("eval", Builtin::Eval),
];

impl Builtin {
    pub(crate) fn named(name: &str) -> Option<Self> {
        BUILTINS.iter().find(|(known, _)| *known == name).map(|(_, builtin)| *builtin)
    }

    /// The fewest arguments and, if there is such a number, the most.
    pub(crate) fn arity(self) -> (usize, Option<usize>) {
        match self {
            Self::Def | Self::If | Self::With => (3, Some(3)),
            Self::Let => (2, None),
            Self::And | Self::Or | Self::Min | Self::Max | Self::Eval => (1, None),
            Self::Not => (1, Some(1)),
            Self::Defvar
            | Self::Set
            | Self::Arithmetic(_)
            | Self::Divide
            | Self::Shift { .. }
            | Self::Compare(_)
            | Self::Equal { .. } => (2, Some(2)),
            Self::Null | Self::Valid => (0, None),
        }
    }
}
