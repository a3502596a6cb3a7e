//! Tokens to a [`Syntax`]. A list of open brackets in place of recursion: nesting is bounded by a number, not by the stack.

use num_bigint::BigInt;

use crate::lex::{Bracket, Lexeme, Lexer, Token, Unlexable};
use crate::source::At;
use crate::syntax::{Node, NodeId, Syntax};
use crate::value::Value;

/// How deep brackets may be nested. MOM cannot evaluate 500.
pub(crate) const DEEPEST: usize = 900;

/// Text that is no program.
#[derive(Debug)]
pub(crate) struct Malformed {
    pub(crate) at: At,
    pub(crate) message: String,
}

impl From<Unlexable> for Malformed {
    fn from(why: Unlexable) -> Self {
        Self { at: why.at, message: why.message }
    }
}

/// A bracket that is still open, and what was in it so far.
struct Opened {
    bracket: Bracket,
    at: At,
    parts_from: usize,
}

/// Parses a program; `end` is where its text ends.
pub(crate) fn parse(text: &str, end: At) -> Result<Syntax, Malformed> {
    let mut parser = Parser { syntax: Syntax::default(), open: Vec::new(), parts: Vec::new() };
    let mut lexer = Lexer::new(text);
    while let Some(lexeme) = lexer.next()? {
        parser.take(lexeme)?;
    }
    if let Some(opened) = parser.open.last() {
        let message = format!("this bracket is never closed by {:?}", opened.bracket.closing());
        return Err(Malformed { at: opened.at, message });
    }
    if parser.parts.is_empty() {
        return Err(Malformed {
            at: end,
            message: "there is no program: nothing but blanks and comments".to_owned(),
        });
    }
    parser.syntax.end(parser.parts);
    Ok(parser.syntax)
}

struct Parser {
    syntax: Syntax,
    open: Vec<Opened>,
    /// What is in the open brackets so far, one after the other, behind what is at the top.
    parts: Vec<NodeId>,
}

impl Parser {
    fn take(&mut self, lexeme: Lexeme<'_>) -> Result<(), Malformed> {
        let at = lexeme.at;
        let node = match lexeme.token {
            Token::Open(bracket) => return self.open(bracket, at),
            Token::Close(bracket) => return self.close(bracket, at),
            Token::Symbol(name) => self.symbol(name),
            Token::Operator(name) => Node::Operator(self.syntax.intern(name)),
            Token::Text(text) => Node::Constant(Value::text(text)),
            Token::Float(value) => Node::Constant(Value::Float(value)),
            Token::Integer { digits, negative, base } => Node::Constant(integer(digits, negative, base, at)?),
        };
        let id = self.syntax.add(node, at);
        self.parts.push(id);
        Ok(())
    }

    fn open(&mut self, bracket: Bracket, at: At) -> Result<(), Malformed> {
        if self.open.len() >= DEEPEST {
            let message = format!("brackets are nested deeper than {DEEPEST}");
            return Err(Malformed { at, message });
        }
        self.open.push(Opened { bracket, at, parts_from: self.parts.len() });
        if bracket == Bracket::Curly {
            let eval = Node::Symbol(self.syntax.intern("eval"));
            let id = self.syntax.add(eval, at);
            self.parts.push(id);
        }
        Ok(())
    }

    fn close(&mut self, bracket: Bracket, at: At) -> Result<(), Malformed> {
        let Some(opened) = self.open.pop() else {
            let message = format!("{:?} closes no bracket", bracket.closing());
            return Err(Malformed { at, message });
        };
        if opened.bracket != bracket {
            let message =
                format!("{:?} stands where {:?} is due", bracket.closing(), opened.bracket.closing());
            return Err(Malformed { at, message });
        }
        let parts = self.parts.split_off(opened.parts_from);
        let id = self.syntax.list(&parts, opened.at);
        self.parts.push(id);
        Ok(())
    }

    /// Two parts of a dotted name count, as for MOM; what follows a second dot does not.
    fn symbol(&mut self, name: &str) -> Node {
        let whole = self.syntax.intern(name);
        match name.split_once('.') {
            None => Node::Symbol(whole),
            Some((base, rest)) => {
                let attribute = rest.split('.').next().unwrap_or_default();
                let (base, attribute) = (self.syntax.intern(base), self.syntax.intern_attribute(attribute));
                Node::Dotted { whole, base, attribute }
            }
        }
    }
}

fn integer(digits: &str, negative: bool, base: u32, at: At) -> Result<Value, Malformed> {
    if let Ok(value) = i64::from_str_radix(digits, base) {
        return Ok(Value::Int(if negative { value.wrapping_neg() } else { value }));
    }
    let value = BigInt::parse_bytes(digits.as_bytes(), base)
        .ok_or_else(|| Malformed { at, message: "this is no integer".to_owned() })?;
    crate::number::bounded(if negative { -value } else { value }).map_err(|_| Malformed {
        at,
        message: format!("this integer has more than {} bits", crate::number::MAX_BITS),
    })
}
