//! Names that are used before anything could have defined them. Only what is evaluated outside of functions has a sure order, and
//! what a function does at its first call in any case; whatever a function might define counts from its definition on, and what a
//! branch or a turn defines from there on, so that what is found here certainly fails.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Binding, Facts, form};
use crate::builtin::Builtin;
use crate::program::Program;
use crate::syntax::{Name, Node, NodeId};

/// A use of a name for which nothing could have been there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Early {
    /// Where it is used.
    pub(super) id: NodeId,
    pub(super) name: Name,
    /// A function is called.
    pub(super) call: bool,
}

/// What is still to be done, in the order of an evaluation.
enum Step {
    Evaluate(NodeId),
    Assign(NodeId),
    Bind(NodeId),
    Call {
        head: NodeId,
        name: Name,
    },
    Enter(Name),
    /// What comes until the end of it is evaluated more than once.
    Repeat,
    Leave,
    /// What comes until the end of it may never be evaluated.
    Branch,
    Join,
}

struct Order<'a> {
    program: &'a Program,
    all: &'a Facts,
    /// What could be there by now.
    now: Facts,
    ahead: Vec<Step>,
    early: Vec<Early>,
    /// The bodies of functions that are defined once, and have not been called yet.
    bodies: BTreeMap<Name, NodeId>,
    /// So many calls of functions and turns of lists are under way.
    inside: usize,
    /// So many branches of which nobody knows whether they are taken.
    branches: usize,
}

/// The first use of each name that something defines, and only later.
pub(super) fn early(program: &Program, all: &Facts) -> Vec<Early> {
    // Where a variable hides a word of the language nobody knows what is evaluated.
    if all.names().any(|name| all.is_bound(name) && program.builtin(name).is_some()) {
        return Vec::new();
    }
    let ahead = program.syntax.top().iter().rev().map(|id| Step::Evaluate(*id)).collect();
    let (now, bodies) = (Facts::given(program), bodies(program));
    let mut order = Order { program, all, now, ahead, early: Vec::new(), bodies, inside: 0, branches: 0 };
    while let Some(step) = order.ahead.pop() {
        match step {
            Step::Evaluate(id) => order.evaluate(id),
            Step::Assign(id) => order.assign(id),
            Step::Bind(id) => order.now.bind_at(program, id, Binding::Anything),
            Step::Call { head, name } => order.call(head, name),
            Step::Enter(name) => order.enter(name),
            Step::Repeat => order.inside = order.inside.saturating_add(1),
            Step::Leave => order.inside = order.inside.saturating_sub(1),
            Step::Branch => order.branches = order.branches.saturating_add(1),
            Step::Join => order.branches = order.branches.saturating_sub(1),
        }
    }
    order.early
}

/// What functions do that have one definition.
fn bodies(program: &Program) -> BTreeMap<Name, NodeId> {
    let (mut bodies, mut often) = (BTreeMap::new(), BTreeSet::new());
    for id in program.syntax.all() {
        if let Some((Builtin::Def, [name, _, body, ..])) = form(program, id)
            && let Some(name) = program.syntax.name_of(*name)
            && bodies.insert(name, *body).is_some()
        {
            often.insert(name);
        }
    }
    bodies.retain(|name, _| !often.contains(name));
    bodies
}

impl Order<'_> {
    fn then(&mut self, steps: impl DoubleEndedIterator<Item = Step>) {
        self.ahead.extend(steps.rev());
    }

    fn evaluate(&mut self, id: NodeId) {
        match self.program.syntax.node(id) {
            Node::Symbol(name) if *name == self.program.nil => {}
            Node::Symbol(name) | Node::Dotted { base: name, .. } => self.read(id, *name),
            Node::List { .. } => match form(self.program, id) {
                Some((builtin, arguments)) => self.form(builtin, arguments),
                None => self.list(id),
            },
            Node::Constant(_) | Node::Operator(_) => {}
        }
    }

    fn form(&mut self, builtin: Builtin, arguments: &[NodeId]) {
        match (builtin, arguments) {
            // At its next call, or in its next turn, another branch may be taken, and a list have elements that had none.
            (Builtin::If | Builtin::With, [first, ..]) if self.inside > 0 => {
                self.then([Step::Evaluate(*first)].into_iter());
            }
            (Builtin::If, [condition, branches @ ..]) => {
                let branches = branches.iter().map(|id| Step::Evaluate(*id));
                let first = [Step::Evaluate(*condition), Step::Branch];
                self.then(first.into_iter().chain(branches).chain([Step::Join]));
            }
            (Builtin::Def, _) => self.define(arguments),
            (Builtin::Defvar, [name, value]) => {
                self.then([Step::Evaluate(*value), Step::Bind(*name)].into_iter());
            }
            (Builtin::Set, [name, value]) => {
                self.then([Step::Evaluate(*value), Step::Assign(*name)].into_iter());
            }
            (Builtin::Let, [pairs, body @ ..]) => {
                self.then(body.iter().map(|id| Step::Evaluate(*id)));
                let pairs = self.program.syntax.parts_of(*pairs).unwrap_or_default();
                for pair in pairs.iter().rev() {
                    if let Some([name, value]) = self.program.syntax.parts_of(*pair) {
                        self.then([Step::Evaluate(*value), Step::Bind(*name)].into_iter());
                    }
                }
            }
            (Builtin::With, [list, variable, body]) => {
                let turn = [Step::Bind(*variable), Step::Repeat, Step::Evaluate(*body), Step::Leave];
                self.then([Step::Evaluate(*list)].into_iter().chain(turn));
            }
            _ => self.then(arguments.iter().map(|id| Step::Evaluate(*id))),
        }
    }

    /// A function, with all that it could define when it is called.
    fn define(&mut self, arguments: &[NodeId]) {
        self.now.note(self.program, Builtin::Def, arguments);
        let mut inside: Vec<NodeId> = arguments.to_vec();
        while let Some(id) = inside.pop() {
            if let Some((builtin, arguments)) = form(self.program, id) {
                self.now.note(self.program, builtin, arguments);
            }
            inside.extend(self.program.syntax.parts_of(id).unwrap_or_default());
        }
    }

    /// A call of what is no word of the language: what it calls is looked up before its arguments are evaluated.
    fn list(&mut self, id: NodeId) {
        let Some((head, arguments)) = self.program.syntax.parts_of(id).and_then(<[_]>::split_first) else {
            return;
        };
        let name = match self.program.syntax.node(*head) {
            Node::Symbol(name) => Some(*name),
            // A function may be called so, too.
            Node::Dotted { whole, base, .. } if self.all.function(*whole).is_none() => Some(*base),
            _ => None,
        };
        let call = name.map(|name| Step::Call { head: *head, name });
        let enter = name.map(Step::Enter);
        self.then(arguments.iter().map(|id| Step::Evaluate(*id)).chain(enter));
        self.ahead.extend(call);
    }

    /// The first call of a function that is there. One in a branch may be none: by the next one there may be more.
    fn enter(&mut self, name: Name) {
        if self.branches > 0 || self.now.function(name).is_none() {
            return;
        }
        if let Some(body) = self.bodies.remove(&name) {
            self.then([Step::Repeat, Step::Evaluate(body), Step::Leave].into_iter());
        }
    }

    fn call(&mut self, head: NodeId, name: Name) {
        let known = |facts: &Facts| facts.is_bound(name) || facts.function(name).is_some();
        if known(self.all) && !known(&self.now) {
            self.found(head, name, matches!(self.program.syntax.node(head), Node::Symbol(_)));
        }
    }

    fn read(&mut self, id: NodeId, name: Name) {
        if self.all.is_bound(name) && !self.now.is_bound(name) {
            self.found(id, name, false);
        }
    }

    fn assign(&mut self, id: NodeId) {
        if let Some(name) = self.program.syntax.name_of(id) {
            self.read(id, name);
        }
    }

    /// Once for each name: what comes behind fails for the same reason.
    fn found(&mut self, id: NodeId, name: Name, call: bool) {
        self.early.push(Early { id, name, call });
        self.now.bind(name, Binding::Anything);
    }
}
