//! The variables that a program defines for all of itself, so that settings may change them.

use crate::builtin::Builtin;
use crate::program::Program;
use crate::source::Place;
use crate::syntax::{Node, NodeId};

impl Program {
    /// Each `defvar` outside of functions and scopes, with its place, in the order of the text. Of `if` both branches count.
    pub fn globals(&self) -> Vec<(&str, Place)> {
        let mut found = Vec::new();
        let mut ahead: Vec<NodeId> = self.syntax.top().iter().rev().copied().collect();
        while let Some(id) = ahead.pop() {
            let Some((head, arguments)) = self.syntax.parts_of(id).and_then(<[_]>::split_first) else {
                continue;
            };
            let Node::Symbol(head) = self.syntax.node(*head) else { continue };
            match (self.builtin(*head), arguments) {
                (Some(Builtin::Defvar), [name, ..]) => {
                    if let Some(name) = self.syntax.name_of(*name) {
                        found.push((self.syntax.text(name).as_ref(), self.text.place(self.syntax.at(id))));
                    }
                }
                (Some(Builtin::Eval | Builtin::If), _) => ahead.extend(arguments.iter().rev()),
                _ => {}
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    #[test]
    fn what_is_defined_for_all_of_a_program_is_found_with_its_place() {
        let text = "(def f (x) (defvar inner x))\n{(defvar a 1) (if a (defvar b 2) nil)}\n\
                    (let ((c 3)) (defvar d 4))\n[defvar e 5] (set a 2)";
        let program = Program::parse(&[Source { name: "one", bytes: text.as_bytes() }]).unwrap();
        let found: Vec<String> =
            program.globals().iter().map(|(name, place)| format!("{name} {place}")).collect();
        assert_eq!(found, ["a one:2:2", "b one:2:21", "e one:4:1"]);
    }
}
