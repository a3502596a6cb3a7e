//! JSON (RFC 8259) as far as worlds need it: numbers exactly, `NaN` and `Infinity` as Python writes them, bounded nesting.

use std::sync::Arc;

use num_bigint::BigInt;

use crate::number;
use crate::value::Value;

/// How deep arrays and objects may be nested; a world needs 6.
const DEEPEST: usize = 32;
/// Most digits of an integer.
const MAX_DIGITS: usize = 20_000;

/// A value of JSON.
#[derive(Debug)]
pub(super) enum Json {
    /// What a program knows as well.
    Plain(Value),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// Where it is wrong, in bytes, and why.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) offset: usize,
    pub(super) message: String,
}

/// Reads all of the text.
pub(super) fn parse(text: &str) -> Result<Json, Wrong> {
    let mut reader = Reader { text, offset: 0 };
    let value = reader.value(0)?;
    reader.blanks();
    if reader.rest().is_empty() { Ok(value) } else { reader.wrong("something follows the value") }
}

struct Reader<'a> {
    text: &'a str,
    offset: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.offset..).unwrap_or_default()
    }

    fn wrong<T>(&self, message: &str) -> Result<T, Wrong> {
        Err(Wrong { offset: self.offset, message: message.to_owned() })
    }

    fn skip(&mut self, bytes: usize) {
        self.offset = self.offset.saturating_add(bytes);
    }

    fn blanks(&mut self) {
        self.skip(self.rest().bytes().take_while(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')).count());
    }

    /// Whether that is next, behind blanks; it is taken then.
    fn takes(&mut self, token: &str) -> bool {
        self.blanks();
        let takes = self.rest().starts_with(token);
        if takes {
            self.skip(token.len());
        }
        takes
    }

    fn value(&mut self, depth: usize) -> Result<Json, Wrong> {
        if depth > DEEPEST {
            return self.wrong("nested too deep");
        }
        self.blanks();
        let words = [
            ("null", Value::Nil),
            ("true", Value::Bool(true)),
            ("false", Value::Bool(false)),
            ("NaN", Value::Float(f64::NAN)),
            ("Infinity", Value::Float(f64::INFINITY)),
            ("-Infinity", Value::Float(f64::NEG_INFINITY)),
        ];
        match self.rest().bytes().next() {
            Some(b'"') => self.string().map(|text| Json::Plain(Value::text(&text))),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            _ => {
                for (word, value) in words {
                    if self.takes(word) {
                        return Ok(Json::Plain(value));
                    }
                }
                self.number().map(Json::Plain)
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, Wrong> {
        self.skip(1);
        let mut members = Vec::new();
        if self.takes("}") {
            return Ok(Json::Object(members));
        }
        loop {
            self.blanks();
            if !self.rest().starts_with('"') {
                return self.wrong("a name in quotes is due");
            }
            let name = self.string()?;
            if !self.takes(":") {
                return self.wrong("a colon is due");
            }
            members.push((name, self.value(depth.saturating_add(1))?));
            if self.takes("}") {
                return Ok(Json::Object(members));
            }
            if !self.takes(",") {
                return self.wrong("a comma or a closing brace is due");
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Json, Wrong> {
        self.skip(1);
        let mut elements = Vec::new();
        if self.takes("]") {
            return Ok(Json::Array(elements));
        }
        loop {
            elements.push(self.value(depth.saturating_add(1))?);
            if self.takes("]") {
                return Ok(Json::Array(elements));
            }
            if !self.takes(",") {
                return self.wrong("a comma or a closing bracket is due");
            }
        }
    }

    fn string(&mut self) -> Result<String, Wrong> {
        self.skip(1);
        let mut text = String::new();
        loop {
            let rest = self.rest();
            let ends = |c: char| matches!(c, '"' | '\\' | '\0'..='\u{1f}');
            let Some(end) = rest.find(ends) else { return self.wrong("a text has no end") };
            text.push_str(rest.get(..end).unwrap_or_default());
            self.skip(end);
            match rest.as_bytes().get(end) {
                Some(b'"') => {
                    self.skip(1);
                    return Ok(text);
                }
                Some(b'\\') => {
                    self.skip(1);
                    text.push(self.escape()?);
                }
                _ => return self.wrong("a control character in a text: write it as an escape, such as \\n"),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Wrong> {
        let escaped = match self.rest().bytes().next() {
            Some(b'n') => '\n',
            Some(b't') => '\t',
            Some(b'r') => '\r',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(plain @ (b'"' | b'\\' | b'/')) => char::from(plain),
            Some(b'u') => return self.unicode(),
            _ => return self.wrong("an unknown escape"),
        };
        self.skip(1);
        Ok(escaped)
    }

    fn unicode(&mut self) -> Result<char, Wrong> {
        let first = self.unit()?;
        let code = if (0xd800..0xdc00).contains(&first) && self.rest().starts_with("\\u") {
            self.skip(1);
            let second = self.unit()?;
            if !(0xdc00..0xe000).contains(&second) {
                return self.wrong("half of a pair of surrogates");
            }
            0x1_0000 + ((first & 0x3ff) << 10) + (second & 0x3ff)
        } else {
            first
        };
        char::from_u32(code).map_or_else(|| self.wrong("half of a pair of surrogates"), Ok)
    }

    /// `uXXXX`.
    fn unit(&mut self) -> Result<u32, Wrong> {
        let digits = self.rest().get(1..5).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(unit) = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) else {
            return self.wrong("an escape needs four hexadecimal digits");
        };
        self.skip(5);
        Ok(unit)
    }

    fn number(&mut self) -> Result<Value, Wrong> {
        let rest = self.rest();
        let length =
            rest.bytes().take_while(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E'));
        let length = length.count();
        let text = rest.get(..length).unwrap_or_default();
        let digits = text.strip_prefix('-').unwrap_or(text);
        if !digits.starts_with(|c: char| c.is_ascii_digit()) {
            return self.wrong("no value that JSON knows");
        }
        if !is_number(digits) {
            return self
                .wrong("no number of JSON: 0 begins none but 0 itself, and digits follow a point and an e");
        }
        let value = if digits.bytes().all(|b| b.is_ascii_digit()) {
            if digits.len() > MAX_DIGITS {
                return self.wrong("an integer with too many digits");
            }
            integer(text)
        } else {
            text.parse().ok().map(Value::Float)
        };
        match value {
            Some(value) => {
                self.skip(length);
                Ok(value)
            }
            None => self.wrong("no number"),
        }
    }
}

/// `0` or digits that begin with another one, a fraction and an exponent where they are, and nothing else.
fn is_number(text: &str) -> bool {
    fn digits(text: &str) -> Option<&str> {
        let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
        (rest.len() < text.len()).then_some(rest)
    }
    let Some(rest) = text.strip_prefix('0').or_else(|| digits(text)) else { return false };
    let rest = match rest.strip_prefix('.') {
        Some(fraction) => digits(fraction),
        None => Some(rest),
    };
    let end = rest.and_then(|rest| match rest.strip_prefix(['e', 'E']) {
        Some(exponent) => digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)),
        None => Some(rest),
    });
    end.is_some_and(str::is_empty)
}

fn integer(text: &str) -> Option<Value> {
    if let Ok(value) = text.parse() {
        return Some(Value::Int(value));
    }
    BigInt::parse_bytes(text.as_bytes(), 10).and_then(|value| number::bounded(value).ok())
}

/// What a value is, for messages.
pub(super) fn kind(json: &Json) -> &'static str {
    match json {
        Json::Plain(value) => value.kind(),
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}

/// A name as tables have it.
pub(super) fn name(text: &str) -> Arc<str> {
    Arc::from(text)
}
