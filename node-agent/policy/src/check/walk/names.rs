//! Names: whether anything defines them, and whether their definitions are any good.

use std::collections::HashSet;

use super::super::catalog;
use super::super::nearest::hint;
use super::super::order::{self, Early};
use super::Walk;
use crate::builtin::{BUILTINS, Builtin};
use crate::syntax::{Name, Node, NodeId};
use crate::value::Function;
use crate::words::shown;

/// What other languages call truth values; here they are numbers.
const TRUTH: [(&str, u8); 2] = [("true", 1), ("false", 0)];

impl Walk<'_> {
    pub(super) fn symbol(&mut self, id: NodeId, name: Name) {
        if name == self.program.nil || self.facts.is_bound(name) {
            return;
        }
        self.error(id, |walk| walk.undefined(name));
    }

    fn undefined(&self, name: Name) -> String {
        let syntax = &self.program.syntax;
        let text = syntax.text(name);
        if self.is_builtin(name).is_some() || self.facts.function(name).is_some() {
            return format!("undefined symbol {}: a function is no value, call it", shown(text));
        }
        let known = |part: &str| {
            part.parse::<f64>().is_ok() || self.facts.names().any(|name| syntax.text(name).as_ref() == part)
        };
        if let Some((a, b)) = text.split_once('-')
            && known(a)
            && known(b)
        {
            return format!("undefined symbol {}: this is one name, write (- {a} {b})", shown(text));
        }
        if let Some((_, number)) = TRUTH.iter().find(|(word, _)| text.eq_ignore_ascii_case(word)) {
            return format!("undefined symbol {}: write {number}", shown(text));
        }
        let variables = self.facts.names().filter(|name| self.facts.is_bound(*name));
        let variables = variables.map(|name| syntax.text(name).as_ref()).chain(["nil"]);
        let meant = hint(text, variables);
        if meant.is_empty()
            && let Some(word) = catalog::word(text)
        {
            return format!(
                "undefined symbol {}: what methods take is a text, write \"{word}\"",
                shown(text)
            );
        }
        format!("undefined symbol {}{meant}", shown(text))
    }

    pub(super) fn undefined_function(&self, name: Name) -> String {
        let syntax = &self.program.syntax;
        let text = syntax.text(name);
        let functions = self.facts.names().filter(|name| self.facts.function(*name).is_some());
        let functions = functions.map(|name| syntax.text(name).as_ref());
        let words = BUILTINS.iter().map(|(name, _)| *name).chain(Function::ALL.map(|(name, _)| name));
        format!("undefined function {}{}", shown(text), hint(text, functions.chain(words)))
    }

    /// Names that are used before anything could have defined them.
    pub(super) fn early(&mut self) {
        for Early { id, name, call } in order::early(self.program, &self.facts) {
            self.error(id, |walk| {
                let what = if call { "function" } else { "symbol" };
                let text = shown(walk.program.syntax.text(name));
                let place =
                    walk.facts.place(name).map(|id| walk.program.text.place(walk.program.syntax.at(id)));
                let place = place.map_or_else(String::new, |place| format!(", at {place}"));
                format!("undefined {what} {text}: it is defined later{place}")
            });
        }
    }

    /// What definitions say about names, wherever they stand.
    pub(super) fn bindings(&mut self) {
        let program = self.program;
        let mut defined = HashSet::new();
        for id in program.syntax.all() {
            let Some((head, arguments)) = program.syntax.parts_of(id).and_then(<[_]>::split_first) else {
                continue;
            };
            let Node::Symbol(head) = program.syntax.node(*head) else { continue };
            match (program.builtin(*head), arguments) {
                (Some(Builtin::Def), [name, parameters, _]) => {
                    self.defined(*name, &mut defined);
                    for parameter in program.syntax.parts_of(*parameters).unwrap_or_default() {
                        self.bound(*parameter);
                    }
                }
                (Some(Builtin::Defvar), [name, _]) | (Some(Builtin::With), [_, name, _]) => {
                    self.bound(*name);
                }
                (Some(Builtin::Set), [name, _]) => self.assigned(*name),
                (Some(Builtin::Let), [pairs, ..]) => {
                    for pair in program.syntax.parts_of(*pairs).unwrap_or_default() {
                        if let Some([name, _]) = program.syntax.parts_of(*pair) {
                            self.bound(*name);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn defined(&mut self, id: NodeId, defined: &mut HashSet<Name>) {
        let Some(name) = self.program.syntax.name_of(id) else { return };
        let text = self.program.syntax.text(name).as_ref();
        if self.is_builtin(name).is_some() || Function::ALL.iter().any(|(known, _)| *known == text) {
            self.warning(id, |_| format!("{text} is a word of the language: this function is never called"));
        } else if !defined.insert(name) {
            self.warning(id, |_| {
                format!("{} is defined once more: the definition that was evaluated last counts", shown(text))
            });
        }
    }

    fn bound(&mut self, id: NodeId) {
        let Some(name) = self.program.syntax.name_of(id) else { return };
        let text = self.program.syntax.text(name).as_ref();
        if name == self.program.nil {
            self.warning(id, |_| "nil is nil whatever it is bound to".to_owned());
        } else if matches!(self.program.syntax.node(id), Node::Dotted { .. }) {
            let message = || format!("{} has a dot: what is bound to it can never be read", shown(text));
            self.warning(id, |_| message());
        } else if self.is_builtin(name).is_some() {
            self.warning(id, |_| {
                format!("{text} is a word of the language: while this variable has a value, ({text} …) fails")
            });
        } else if self.is_given(name) {
            self.warning(id, |_| {
                format!("{text} is there from the beginning: this hides it, or has no effect")
            });
        }
    }

    /// `Host` and `Guests`, and functions that are values.
    fn is_given(&self, name: Name) -> bool {
        let text = self.program.syntax.text(name).as_ref();
        let function = Function::ALL.iter().any(|(known, _)| *known == text);
        function || name == self.program.host || name == self.program.guests
    }

    fn assigned(&mut self, id: NodeId) {
        let given = self.program.syntax.name_of(id).filter(|name| self.is_given(*name));
        if let Some(name) = given {
            let text = self.program.syntax.text(name);
            self.warning(id, |_| format!("{text} is something else from here on: nothing says what it was"));
        }
    }
}
