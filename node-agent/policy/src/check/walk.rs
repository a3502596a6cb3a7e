//! Goes through all values that can be evaluated, once each.

mod attributes;
mod calls;
mod forms;
mod names;

use super::Severity;
use super::facts::Facts;
use crate::builtin::Builtin;
use crate::program::Program;
use crate::source::At;
use crate::syntax::{Name, Node, NodeId};

/// Something that was found; its place is still an offset.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) at: At,
    pub(super) severity: Severity,
    pub(super) message: String,
    /// The control that nobody acts on.
    pub(super) unsupported: Option<&'static str>,
}

/// Findings of each severity that are told; who has more begins with these.
const TOLD: usize = 200;

pub(super) struct Walk<'a> {
    program: &'a Program,
    facts: Facts,
    found: Vec<Found>,
    errors: usize,
    warnings: usize,
    /// What is still to be looked at.
    ahead: Vec<NodeId>,
    /// Counters that were warned of.
    counters: Vec<&'static str>,
    /// What disks have was warned of.
    disks: bool,
    /// Where `rss` is read first.
    rss: Option<NodeId>,
    /// Pages are multiplied, divided or shifted somewhere: whoever does that knows of them.
    scales_pages: bool,
}

pub(super) fn walk(program: &Program) -> Vec<Found> {
    let mut walk = Walk {
        program,
        facts: Facts::of(program),
        found: Vec::new(),
        errors: 0,
        warnings: 0,
        ahead: program.syntax.top().iter().rev().copied().collect(),
        counters: Vec::new(),
        disks: false,
        rss: None,
        scales_pages: false,
    };
    walk.bindings();
    walk.early();
    while let Some(id) = walk.ahead.pop() {
        walk.value(id);
    }
    walk.pages();
    walk.count_untold();
    walk.found
}

impl<'a> Walk<'a> {
    /// Something that certainly fails. The message is made only if it is told.
    fn error(&mut self, id: NodeId, message: impl FnOnce(&Self) -> String) {
        self.errors = self.errors.saturating_add(1);
        if self.errors <= TOLD {
            let message = message(self);
            self.tell(id, Severity::Error, message, None);
        }
    }

    fn warning(&mut self, id: NodeId, message: impl FnOnce(&Self) -> String) {
        self.warnings = self.warnings.saturating_add(1);
        if self.warnings <= TOLD {
            let message = message(self);
            self.tell(id, Severity::Warning, message, None);
        }
    }

    /// A control that nobody acts on, and why. The first of each is told however much else is.
    fn unsupported(&mut self, id: NodeId, control: &'static str, why: &str) {
        let first = !self.found.iter().any(|found| found.unsupported == Some(control));
        self.warnings = self.warnings.saturating_add(usize::from(!first));
        if first || self.warnings <= TOLD {
            self.tell(id, Severity::Warning, format!("{control} is {why}"), Some(control));
        }
    }

    fn tell(&mut self, id: NodeId, severity: Severity, message: String, unsupported: Option<&'static str>) {
        self.found.push(Found { at: self.program.syntax.at(id), severity, message, unsupported });
    }

    /// What nobody knows by heart who reads `rss` as it is.
    fn pages(&mut self) {
        if let Some(id) = self.rss.filter(|_| !self.scales_pages) {
            self.warning(id, |_| {
                "rss is in pages of the node's kernel, other than balloons and memory, which are in KiB: where those have 4 KiB, \
                 multiply it with 4"
                    .to_owned()
            });
        }
    }

    /// How many more there are, at the place of the last one that is told.
    fn count_untold(&mut self) {
        for (severity, count) in [(Severity::Error, self.errors), (Severity::Warning, self.warnings)] {
            let more = count.saturating_sub(TOLD);
            let last = self.found.iter().rev().find(|found| found.severity == severity).map(|found| found.at);
            if let Some(at) = last.filter(|_| more > 0) {
                self.found.push(Found {
                    at,
                    severity,
                    message: format!("and {more} more, which are not told"),
                    unsupported: None,
                });
            }
        }
    }

    /// These are evaluated.
    fn evaluated(&mut self, ids: &[NodeId]) {
        self.ahead.extend(ids.iter().rev());
    }

    fn value(&mut self, id: NodeId) {
        let program = self.program;
        match program.syntax.node(id) {
            Node::Constant(_) => {}
            Node::Symbol(name) => self.symbol(id, *name),
            Node::Dotted { whole, base, attribute } => self.dotted(id, *whole, *base, *attribute),
            Node::Operator(name) => {
                let sign = crate::lex::sign_of(program.syntax.text(*name)).unwrap_or_default();
                self.error(id, |_| format!("the sign {sign} stands where a value is due"));
            }
            Node::List { from, length } => self.list(id, program.syntax.parts(*from, *length)),
        }
    }

    fn list(&mut self, id: NodeId, parts: &'a [NodeId]) {
        let program = self.program;
        let Some((head, arguments)) = parts.split_first() else {
            return self.error(id, |_| "an empty list cannot be evaluated".to_owned());
        };
        match program.syntax.node(*head) {
            Node::Symbol(name) | Node::Operator(name) => {
                if let Some(builtin) = program.builtin(*name) {
                    self.form(builtin, *head, *name, arguments);
                } else {
                    self.call(*head, *name, arguments);
                    self.evaluated(arguments);
                }
            }
            Node::Dotted { whole, base, attribute } => {
                self.method_call(*head, *whole, (*base, *attribute), arguments);
                self.evaluated(arguments);
            }
            Node::List { .. } => {
                self.error(*head, |_| {
                    "a list begins with what it calls, and this is another list".to_owned()
                });
            }
            Node::Constant(value) => {
                let kind = value.kind();
                self.error(*head, |_| format!("a list begins with what it calls, and this is {kind}"));
            }
        }
    }

    /// Whether a variable may stand in for what is called so.
    fn may_be_variable(&self, name: Name) -> bool {
        self.facts.is_bound(name)
    }

    fn is_builtin(&self, name: Name) -> Option<Builtin> {
        self.program.builtin(name)
    }
}
