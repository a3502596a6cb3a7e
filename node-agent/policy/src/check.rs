//! Looks at a program that is not run: what certainly fails where it is evaluated is an error, what is probably not meant is
//! a warning. Scope is dynamic, so a name is undefined only if nothing in the whole program defines it, or nothing that is
//! evaluated before ([`order`]).

mod catalog;
mod facts;
mod nearest;
mod order;
mod units;
mod walk;

use std::fmt;

use crate::Trouble;
use crate::program::Program;
use crate::source::{Place, Source};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It certainly fails.
    Error,
    /// It is probably not what is meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub place: Place,
    /// How bad.
    pub severity: Severity,
    /// What.
    pub message: String,
    /// A control that is known, and that nobody acts on here, by its name: it may well be meant.
    pub unsupported: Option<&'static str>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.place, self.severity, self.message)
    }
}

/// All that is found in the files of one program, in the order of their places; text that is no program is found alone.
pub fn check(sources: &[Source<'_>]) -> Vec<Finding> {
    match Program::parse(sources) {
        Ok(program) => program.check(),
        Err(trouble) => {
            let Trouble { place, message } = trouble;
            vec![Finding { place, severity: Severity::Error, message, unsupported: None }]
        }
    }
}

impl Program {
    /// All that is found in it, in the order of the places.
    pub fn check(&self) -> Vec<Finding> {
        let mut found = walk::walk(self);
        found.sort_by_key(|found| (found.at, found.severity));
        let place = |found: walk::Found| Finding {
            place: self.text.place(found.at),
            severity: found.severity,
            message: found.message,
            unsupported: found.unsupported,
        };
        found.into_iter().map(place).collect()
    }
}
