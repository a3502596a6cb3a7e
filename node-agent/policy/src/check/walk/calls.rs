//! Calls of functions of the policy, and of the functions that are values.

use super::Walk;
use crate::syntax::{Name, NodeId};
use crate::value::Function;
use crate::words::{arguments as counted, shown};

impl Walk<'_> {
    pub(super) fn call(&mut self, head: NodeId, name: Name, arguments: &[NodeId]) {
        let program = self.program;
        let abs =
            program.functions.iter().any(|(known, function)| *known == name && *function == Function::Abs);
        let debug =
            program.functions.iter().any(|(known, function)| *known == name && *function == Function::Debug);
        let rebound = self.facts.bindings(name).len() > 1;
        if abs && !rebound && arguments.len() != 1 {
            self.error(head, |_| format!("abs takes 1 argument, and here are {}", arguments.len()));
        } else if debug && !rebound && arguments.is_empty() {
            self.error(head, |_| "debug takes 1 argument or more, and here are 0".to_owned());
        } else if !self.may_be_variable(name) {
            self.defined_call(head, name, arguments.len());
        }
    }

    pub(super) fn defined_call(&mut self, head: NodeId, name: Name, found: usize) {
        let Some(function) = self.facts.function(name) else {
            return self.error(head, |walk| walk.undefined_function(name));
        };
        if function.takes(found) {
            return;
        }
        let shown = shown(self.program.syntax.text(name));
        match function.first {
            Some(wanted) => {
                self.error(head, |_| format!("{shown} takes {}, and here are {found}", counted(wanted)));
            }
            None => self.error(head, |_| format!("the parameters of {shown} are no list")),
        }
    }
}
