//! What stands at the top of a program, and in bodies.

use super::expressions::DEPTH;
use super::{Function, Kind, Maker, Node};

impl Maker {
    /// A whole program.
    pub(super) fn program(&mut self) -> Vec<Node> {
        let mut program = Vec::new();
        for _ in 0..self.rng.usize(1..7) {
            let statement = self.statement();
            program.push(statement);
        }
        program
    }

    fn statement(&mut self) -> Node {
        match self.rng.u32(..10) {
            0..3 => self.function(),
            3 | 4 => self.definition(DEPTH),
            5 => self.recursion(),
            6 | 7 => {
                self.count("top-level with");
                self.with_guests(DEPTH - 1)
            }
            8 => self.outer_attribute(),
            _ => self.anything(DEPTH),
        }
    }

    /// What stands before the last value of a body: something with an effect.
    pub(super) fn statement_in_body(&mut self, depth: u32) -> Node {
        let kind = self.pick(&Kind::VALUES);
        match self.rng.u32(..4) {
            0 => self.definition(depth),
            1 if self.variable(kind).is_some() => {
                self.count("set in a body");
                let name = self.variable(kind).unwrap_or_default();
                let value = self.expression(kind, depth);
                Node::call("set", [Node::atom(name), value])
            }
            _ => self.expression(Kind::Nil, depth),
        }
    }

    fn definition(&mut self, depth: u32) -> Node {
        self.count("defvar");
        let kind = self.pick(&Kind::VALUES);
        let name = self.name(kind);
        let value = self.expression(kind, depth);
        // It is in reach from here on if the form that it stands in is evaluated: in a branch it may not be.
        if depth == DEPTH {
            self.declare(&name, kind);
        }
        Node::call("defvar", [Node::atom(name), value])
    }

    fn function(&mut self) -> Node {
        let head = if self.one_in(3) { "defun" } else { "def" };
        self.count(head);
        let name = self.pick(&["f", "g2", "grow-guest", "helper", "k"]).to_owned();
        let mut parameters = Vec::new();
        for _ in 0..self.rng.usize(..4) {
            let kind = if self.one_in(5) { Kind::Entity } else { self.pick(&Kind::VALUES) };
            let parameter = (self.name(kind), kind);
            // The first of the same name counts.
            if !parameters.contains(&parameter) || self.one_in(4) {
                parameters.push(parameter);
            }
        }
        let free = self.one_in(3).then(|| {
            let kind = self.pick(&Kind::VALUES);
            (format!("caller-s-{}", self.name(kind)), kind)
        });
        self.scopes.push(parameters.iter().cloned().chain(free.clone()).collect());
        let gives = self.pick(&Kind::VALUES);
        // A function calls none of those of its own name: nothing would end that.
        let others = std::mem::take(&mut self.functions);
        self.functions =
            others.iter().filter(|other| other.name != name && other.free.is_none()).cloned().collect();
        let body = self.expression(gives, DEPTH - 1);
        self.functions = others;
        self.scopes.pop();
        let list = Node::List(parameters.iter().map(|(name, _)| Node::atom(name)).collect());
        self.replace(Function { name: name.clone(), parameters, gives, free });
        Node::call(head, [Node::atom(name), list, body])
    }

    /// The newest function of a name is the one that is called: those that call the former one may not end.
    fn replace(&mut self, function: Function) {
        if self.functions.iter().any(|known| known.name == function.name) {
            self.count("redefinition");
            self.functions.clear();
        }
        self.functions.push(function);
    }

    /// A function that counts down and calls itself, and a call of it.
    fn recursion(&mut self) -> Node {
        self.count("recursion");
        self.scopes.push(vec![("n".into(), Kind::Integer)]);
        let functions = std::mem::take(&mut self.functions);
        let kind = self.pick(&[Kind::Integer, Kind::Text, Kind::Float]);
        let (end, step) = (self.expression(kind, 1), self.expression(kind, 1));
        self.functions = functions;
        self.scopes.pop();
        let again = Node::call("down", [Node::call("-", [Node::atom("n"), Node::atom("1")])]);
        let next = Node::call("+", [step, again]);
        let done = Node::call("<=", [Node::atom("n"), Node::atom("0")]);
        let body = Node::call("if", [done, end, next]);
        let define = Node::call("def", [Node::atom("down"), Node::List(vec![Node::atom("n")]), body]);
        let times = Node::atom(self.rng.u32(..7).to_string());
        Node::Braces(vec![define, Node::call("down", [times])])
    }

    /// An attribute that the innermost binding of the name does not have.
    fn outer_attribute(&mut self) -> Node {
        self.count("attribute of an outer binding");
        let kind = self.pick(&Kind::VALUES);
        let value = self.expression(kind, 1);
        let field = Node::atom("Host.balloon_cur");
        Node::call("let", [Node::List(vec![Node::List(vec![Node::atom("Host"), value])]), field])
    }
}
