//! Expressions that come to a value of a kind.

use super::data::{FLOATS, INTEGERS, SOMETIMES};
use super::{Kind, Maker, Node};

/// How deep expressions nest.
pub(super) const DEPTH: u32 = 4;

impl Maker {
    /// An expression of that kind, seldom of another, or broken.
    pub(super) fn expression(&mut self, kind: Kind, depth: u32) -> Node {
        if self.rng.u32(..100_000) < self.wrongness {
            return self.wrong(kind, depth);
        }
        if depth == 0 {
            return self.leaf(kind);
        }
        match self.rng.u32(..100) {
            0..12 => self.leaf(kind),
            12..28 => self.of_any_kind(kind, depth - 1),
            _ => match kind {
                Kind::Integer => self.integer(depth - 1),
                Kind::Float => self.float(depth - 1),
                Kind::Text => self.text(depth - 1),
                Kind::Truth => self.truth(depth - 1),
                Kind::List => self.list(depth - 1),
                Kind::Nil => self.nil(depth - 1),
                Kind::Entity => self.leaf(kind),
            },
        }
    }

    /// An expression of whatever kind.
    pub(super) fn anything(&mut self, depth: u32) -> Node {
        let kind = self.pick(&Kind::VALUES);
        self.expression(kind, depth)
    }

    /// An integer, a float, or a truth value as a number.
    fn number(&mut self, depth: u32) -> Node {
        match self.rng.u32(..20) {
            0..9 => self.expression(Kind::Integer, depth),
            9..18 => self.expression(Kind::Float, depth),
            _ => {
                self.count("truth arithmetic");
                self.expression(Kind::Truth, depth)
            }
        }
    }

    fn wrong(&mut self, kind: Kind, depth: u32) -> Node {
        let depth = depth.saturating_sub(1);
        match self.rng.u32(..4) {
            0 => {
                self.count("wrong name");
                let name = self.pick(&["unheard-of", "Host.undeclared", "Undefined.field", "nil.field", "+"]);
                Node::atom(name)
            }
            1 => {
                self.count("wrong argument count");
                let head = self.pick(&[
                    "+",
                    "if",
                    "not",
                    "def",
                    "min",
                    "and",
                    "abs",
                    "<<",
                    "let",
                    "set",
                    "Host.Prop",
                    "debug",
                ]);
                let arguments: Vec<_> = (0..self.rng.usize(..5)).map(|_| self.anything(depth)).collect();
                Node::call(head, arguments)
            }
            2 => {
                self.count("wrong name");
                Node::call(self.pick(&["unheard-of", "Host.Undefined", "F"]), [self.expression(kind, depth)])
            }
            _ => {
                self.count("wrong kind");
                self.anything(depth)
            }
        }
    }

    /// What needs no other expression.
    fn leaf(&mut self, kind: Kind) -> Node {
        if !self.one_in(3)
            && let Some(name) = self.variable(kind)
        {
            self.count(if kind == Kind::List { "list variable" } else { "variable" });
            return Node::atom(name);
        }
        match kind {
            Kind::Integer => self.integer_literal(),
            Kind::Float => self.float_literal(),
            Kind::Text => self.text_literal(),
            Kind::Truth => {
                let head = self.pick(&["<", ">", "==", "!=", "<=", ">="]);
                self.count(head);
                let (a, b) = (self.integer_literal(), self.integer_literal());
                Node::call(head, [a, b])
            }
            Kind::List => {
                self.count("with");
                Node::call("with", [Node::atom("Guests"), Node::atom("g"), Node::atom("1")])
            }
            Kind::Nil => {
                self.count("nil");
                Node::atom("nil")
            }
            Kind::Entity => Node::atom("Host"),
        }
    }

    fn integer_literal(&mut self) -> Node {
        let text = match self.rng.u32(..20) {
            0 => {
                self.count("hex");
                format!("0{}{:x}", if self.rng.bool() { 'x' } else { 'X' }, self.rng.u64(..1 << 40))
            }
            1 => {
                self.count("octal");
                format!("0o{:o}", self.rng.u32(..1 << 20))
            }
            // MOM's lexer takes 2 to the power of their number of digits.
            2..5 => self.rng.i64(-99_999_999..99_999_999).to_string(),
            _ => self.rng.i64(-3..20).to_string(),
        };
        self.count("integer");
        Node::atom(text)
    }

    fn float_literal(&mut self) -> Node {
        self.count("float");
        let text = match self.rng.u32(..8) {
            0 => format!(".{}", self.rng.u32(..1000)),
            1 => format!("-{}.{:02}", self.rng.u32(..100), self.rng.u32(..100)),
            2 => {
                self.count("exponent");
                format!("{}e{}", self.rng.u32(1..100), self.rng.i32(-20..20))
            }
            3 => {
                self.count("exponent");
                format!("{}.{}E{:+}", self.rng.u32(..10), self.rng.u32(..1000), self.rng.i32(-300..300))
            }
            4 => {
                self.pick(&["0.0", "-0.0", "1e308", "5e-324", "0.1", "1.0", "9007199254740992.0"]).to_owned()
            }
            _ => format!("{}.{}", self.rng.u32(..1000), self.rng.u32(..1000)),
        };
        Node::atom(text)
    }

    pub(super) fn text_literal(&mut self) -> Node {
        self.count("text");
        let text = match self.rng.u32(..10) {
            0 => {
                self.count("text of several lines");
                "\"two\n lines\""
            }
            1 => {
                self.count("text in quotes of the other kind");
                self.pick(&["'it says \"no\"'", "\"it's\""])
            }
            2 => "''",
            3 => self.pick(&["\"# none (\"", "\"back\\\\slash\"", "\"é日\"", "\"\\n\""]),
            _ => self.pick(&["\"a\"", "'b'", "\"ab\"", "\"kB\"", "'Z'"]),
        };
        Node::atom(text)
    }

    /// Forms that come to what one of their parts comes to.
    fn of_any_kind(&mut self, kind: Kind, depth: u32) -> Node {
        match self.rng.u32(..13) {
            0 | 1 => {
                self.count("if");
                let condition = self.anything(depth);
                let (yes, no) = (self.expression(kind, depth), self.expression(kind, depth));
                Node::call("if", [condition, yes, no])
            }
            2 | 3 => self.binding(kind, depth),
            4 => {
                let named = self.one_in(3);
                self.count(if named { "eval" } else { "braces" });
                let mut parts: Vec<_> =
                    (0..self.rng.usize(..3)).map(|_| self.statement_in_body(depth)).collect();
                parts.push(self.expression(kind, depth));
                if named { Node::call("eval", parts) } else { Node::Braces(parts) }
            }
            5 | 6 => {
                let head = if self.rng.bool() { "and" } else { "or" };
                self.count(head);
                let operands: Vec<_> =
                    (0..self.rng.usize(1..4)).map(|_| self.expression(kind, depth)).collect();
                Node::call(head, operands)
            }
            7 => {
                self.count("debug");
                let first = self.anything(depth);
                let last = self.expression(kind, depth);
                Node::call("debug", [first, last])
            }
            8 => self.remembered(kind, depth),
            9 if self.variable(kind).is_some() => {
                let head = if self.one_in(3) { "setq" } else { "set" };
                self.count(head);
                let name = self.variable(kind).unwrap_or_default();
                let value = self.expression(kind, depth);
                if name == "Host" { value } else { Node::call(head, [Node::atom(name), value]) }
            }
            _ => self.call(kind, depth).unwrap_or_else(|| self.leaf(kind)),
        }
    }

    fn binding(&mut self, kind: Kind, depth: u32) -> Node {
        self.count("let");
        self.scopes.push(Vec::new());
        let count = self.rng.usize(1..4);
        if count > 1 {
            self.count("two-part let");
        }
        let mut bindings = Vec::new();
        for _ in 0..count {
            let of = self.pick(&Kind::VALUES);
            let name = self.name(of);
            if self.names().any(|(known, _)| known == name) {
                self.count("shadowing");
            }
            let value = self.expression(of, depth);
            self.declare(&name, of);
            bindings.push(Node::List(vec![Node::atom(name), value]));
        }
        let mut parts = vec![Node::List(bindings)];
        parts.extend((0..self.rng.usize(..2)).map(|_| self.statement_in_body(depth)));
        parts.push(self.expression(kind, depth));
        self.scopes.pop();
        Node::call("let", parts)
    }

    /// What an entity remembers, or something else where it remembers nothing.
    fn remembered(&mut self, kind: Kind, depth: u32) -> Node {
        let entity = self.entity();
        let method = if self.rng.bool() { "GetVar" } else { "GetControl" };
        self.count(method);
        self.count("or");
        let key = Node::atom(format!("\"of {kind:?}\""));
        let value = self.expression(kind, depth);
        Node::call("or", [Node::call(&format!("{entity}.{method}"), [key]), value])
    }

    pub(super) fn entity(&mut self) -> String {
        let entity = self.variable(Kind::Entity).unwrap_or_else(|| "Host".into());
        // Inside, a name may be bound to something that has no such attribute.
        if entity == "Host" && self.one_in(3) { "Host".into() } else { entity }
    }

    /// A call of a function that gives that kind.
    fn call(&mut self, kind: Kind, depth: u32) -> Option<Node> {
        let fitting: Vec<_> =
            self.functions.iter().filter(|function| function.gives == kind).cloned().collect();
        if fitting.is_empty() {
            return None;
        }
        let function = self.pick(&fitting);
        self.count("call");
        let mut arguments = Vec::new();
        for (index, (_, of)) in function.parameters.iter().enumerate() {
            let before = function.parameters.iter().take(index).find(|(_, known)| known == of);
            arguments.push(match before.filter(|_| self.one_in(3)) {
                // Bound by then, to what is handed over.
                Some((name, _)) => {
                    self.count("argument capture");
                    Node::atom(name)
                }
                None => self.expression(*of, depth.min(2)),
            });
        }
        let call = Node::call(&function.name, arguments);
        let Some((name, of)) = function.free else { return Some(call) };
        self.count("dynamic scope");
        let value = self.expression(of, depth.min(1));
        Some(Node::call("let", [Node::List(vec![Node::List(vec![Node::atom(name), value])]), call]))
    }

    fn integer(&mut self, depth: u32) -> Node {
        match self.rng.u32(..14) {
            0..4 => {
                let (sign, name) = self.pick(&[("+", "add"), ("-", "sub"), ("*", "mul")]);
                let head = self.sign(sign, name);
                let (a, b) = (self.expression(Kind::Integer, depth), self.expression(Kind::Integer, depth));
                Node::call(head, [a, b])
            }
            4 | 5 => {
                let (sign, name) = self.pick(&[("<<", "shl"), (">>", "shr")]);
                let head = self.sign(sign, name);
                let by = self.rng.u32(..if sign == "<<" { 70 } else { 200 });
                if by > 63 {
                    self.count("long integer");
                }
                let value = self.expression(Kind::Integer, depth);
                Node::call(head, [value, Node::atom(by.to_string())])
            }
            6 => self.extreme(Kind::Integer, depth),
            7 => {
                self.count("abs");
                let value = self.expression(Kind::Integer, depth);
                Node::call("abs", [value])
            }
            8 | 9 => {
                self.count("field");
                let (entity, field) = (self.entity(), self.pick(&INTEGERS));
                Node::atom(format!("{entity}.{field}"))
            }
            10 => {
                self.count("Stat");
                let (entity, field) = (self.entity(), self.pick(&INTEGERS));
                let mut arguments = vec![Node::atom(format!("\"{field}\""))];
                if self.one_in(3) {
                    arguments.push(self.anything(depth.min(1)));
                }
                Node::call(&format!("{entity}.Stat"), arguments)
            }
            11 => {
                self.count("Prop");
                let entity = self.entity();
                Node::call(&format!("{entity}.Prop"), [Node::atom("\"interval\"")])
            }
            12 => {
                // The operand that counts, where one is nil.
                self.count("or");
                let none = self.expression(Kind::Nil, depth);
                let value = self.expression(Kind::Integer, depth);
                Node::call("or", [none, value])
            }
            _ => {
                self.count("truth arithmetic");
                let head = self.sign("+", "add");
                let (a, b) = (self.expression(Kind::Truth, depth), self.expression(Kind::Integer, depth));
                Node::call(head, [a, b])
            }
        }
    }

    fn float(&mut self, depth: u32) -> Node {
        match self.rng.u32(..12) {
            0..3 => {
                let (sign, name) = self.pick(&[("+", "add"), ("-", "sub"), ("*", "mul")]);
                let head = self.sign(sign, name);
                let (a, b) = (self.expression(Kind::Float, depth), self.number(depth));
                if self.rng.bool() { Node::call(head, [a, b]) } else { Node::call(head, [b, a]) }
            }
            3..6 => {
                let head = self.sign("/", "div");
                let a = self.number(depth);
                let divisor = self.number(depth);
                // Mostly not 0.
                let b = if self.one_in(60) { divisor } else { Node::call("or", [divisor, Node::atom("3")]) };
                Node::call(head, [a, b])
            }
            6 => self.extreme(Kind::Float, depth),
            7 => {
                self.count("abs");
                let value = self.expression(Kind::Float, depth);
                Node::call("abs", [value])
            }
            8 => {
                self.count("field");
                let (entity, field) = (self.entity(), self.pick(&FLOATS));
                Node::atom(format!("{entity}.{field}"))
            }
            9..11 => {
                self.count("StatAvg");
                let entity = self.entity();
                let fields = [&INTEGERS[..], &FLOATS[..], &[SOMETIMES, "declared"][..]].concat();
                let field = self.pick(&fields);
                Node::call(&format!("{entity}.StatAvg"), [Node::atom(format!("\"{field}\""))])
            }
            _ => {
                let (a, b) = (self.expression(Kind::Float, depth), self.expression(Kind::Float, depth));
                self.count("*");
                Node::call("*", [a, b])
            }
        }
    }

    /// A sign, seldom by its name.
    fn sign(&mut self, sign: &'static str, name: &'static str) -> &'static str {
        self.count(sign);
        if self.one_in(12) {
            self.count("named operator");
            return name;
        }
        sign
    }

    fn extreme(&mut self, kind: Kind, depth: u32) -> Node {
        let head = if self.rng.bool() { "min" } else { "max" };
        self.count(head);
        let mut operands = vec![self.expression(kind, depth)];
        for _ in 0..self.rng.usize(..3) {
            operands.push(if kind == Kind::Float {
                self.number(depth)
            } else {
                self.expression(kind, depth)
            });
        }
        Node::call(head, operands)
    }

    fn text(&mut self, depth: u32) -> Node {
        match self.rng.u32(..6) {
            0 | 1 => {
                let head = self.sign("+", "add");
                let (a, b) = (self.expression(Kind::Text, depth), self.expression(Kind::Text, depth));
                Node::call(head, [a, b])
            }
            2 => {
                self.count("text times");
                let (text, times) =
                    (self.expression(Kind::Text, depth.min(1)), Node::atom(self.rng.i32(-1..4).to_string()));
                if self.rng.bool() { Node::call("*", [text, times]) } else { Node::call("*", [times, text]) }
            }
            3 => self.extreme(Kind::Text, depth),
            4 => {
                self.count("Prop");
                let entity = self.entity();
                Node::call(&format!("{entity}.Prop"), [Node::atom("\"name\"")])
            }
            _ => self.text_literal(),
        }
    }

    fn truth(&mut self, depth: u32) -> Node {
        match self.rng.u32(..10) {
            0..5 => {
                let (sign, name) = self.pick(&[
                    ("<", "lt"),
                    (">", "gt"),
                    ("<=", "lte"),
                    (">=", "gte"),
                    ("==", "eq"),
                    ("!=", "neq"),
                ]);
                let head = self.sign(sign, name);
                let text = self.one_in(6);
                let operand = |maker: &mut Self| {
                    if text { maker.expression(Kind::Text, depth) } else { maker.number(depth) }
                };
                let (a, b) = (operand(self), operand(self));
                Node::call(head, [a, b])
            }
            5 => {
                let (sign, name) = self.pick(&[("==", "eq"), ("!=", "neq")]);
                let head = self.sign(sign, name);
                let (a, b) = (self.anything(depth), self.anything(depth));
                Node::call(head, [a, b])
            }
            6 | 7 => {
                self.count("not");
                let value = self.anything(depth);
                Node::call("not", [value])
            }
            _ => {
                let head = if self.rng.bool() { "null" } else { "valid" };
                self.count(head);
                let operands: Vec<_> = (0..self.rng.usize(..3)).map(|_| self.anything(depth)).collect();
                Node::call(head, operands)
            }
        }
    }

    fn list(&mut self, depth: u32) -> Node {
        match self.rng.u32(..6) {
            0 => {
                let (a, b) = (self.expression(Kind::List, depth), self.expression(Kind::List, depth));
                self.count("+");
                Node::call("+", [a, b])
            }
            1 => {
                self.count("list times");
                let list = self.expression(Kind::List, depth.min(1));
                let times = Node::atom(self.rng.i32(-1..3).to_string());
                Node::call("*", [list, times])
            }
            2 if self.variable(Kind::List).is_some() => {
                self.count("with over a list");
                let list = self.variable(Kind::List).unwrap_or_default();
                // Of what kind its elements are, nobody knows.
                let body = Node::call("==", [Node::atom("element"), self.anything(depth.min(1))]);
                Node::call("with", [Node::atom(list), Node::atom("element"), body])
            }
            3 if self.variable(Kind::Text).is_some() => {
                self.count("with over a text");
                let text = self.variable(Kind::Text).unwrap_or_default();
                let name = self.name(Kind::Text);
                self.scopes.push(vec![(name.clone(), Kind::Text)]);
                let body = self.anything(depth);
                self.scopes.pop();
                Node::call("with", [Node::atom(text), Node::atom(name), body])
            }
            _ => self.with_guests(depth),
        }
    }

    /// `(with Guests g ...)`.
    pub(super) fn with_guests(&mut self, depth: u32) -> Node {
        self.count("with");
        let name = self.name(Kind::Entity);
        self.scopes.push(vec![(name.clone(), Kind::Entity)]);
        let body = if depth > 0 && self.rng.bool() {
            self.count("braces");
            let mut parts: Vec<_> =
                (0..self.rng.usize(1..4)).map(|_| self.statement_in_body(depth)).collect();
            parts.push(self.anything(depth));
            Node::Braces(parts)
        } else {
            self.anything(depth)
        };
        self.scopes.pop();
        Node::call("with", [Node::atom("Guests"), Node::atom(name), body])
    }

    fn nil(&mut self, depth: u32) -> Node {
        let entity = self.entity();
        match self.rng.u32(..6) {
            0 | 1 => {
                self.count("SetVar");
                let (kind, key) = self.key();
                let value = self.expression(kind, depth);
                Node::call(&format!("{entity}.SetVar"), [key, value])
            }
            2 | 3 => {
                self.count("Control");
                let (kind, key) = self.key();
                let value = self.expression(kind, depth);
                Node::call(&format!("{entity}.Control"), [key, value])
            }
            4 => {
                self.count("GetVar");
                Node::call(&format!("{entity}.GetVar"), [Node::atom("\"never set\"")])
            }
            _ => {
                self.count("field");
                Node::atom(format!("{entity}.declared"))
            }
        }
    }

    /// A key whose values are of one kind, and which.
    fn key(&mut self) -> (Kind, Node) {
        let kind = self.pick(&Kind::VALUES);
        (kind, Node::atom(format!("\"of {kind:?}\"")))
    }
}
