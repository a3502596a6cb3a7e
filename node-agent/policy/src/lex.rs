//! Text to tokens, as MOM cuts it: the longest token that begins here, and two that touch are two (`1.2.3` is `1.2` and
//! `.3`). Other than MOM, which drops the rest of a policy from the first text that it does not know, it says where that is.

use crate::source::At;

/// Most digits of an integer: 10 of them are more than 33 bits ([`crate::number::MAX_BITS`]).
const MAX_DIGITS: usize = 20_000;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Token<'a> {
    Open(Bracket),
    Close(Bracket),
    /// A name, dots and dashes included.
    Symbol(&'a str),
    /// A sign, by the name of what it does: `+` is `add`.
    Operator(&'static str),
    /// What stands between the quotes; a backslash is a backslash.
    Text(&'a str),
    Float(f64),
    /// Sign and digits to this base.
    Integer {
        digits: &'a str,
        negative: bool,
        base: u32,
    },
}

/// Round and square ones mean the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bracket {
    Round,
    Square,
    Curly,
}

impl Bracket {
    pub(crate) fn closing(self) -> char {
        match self {
            Self::Round => ')',
            Self::Square => ']',
            Self::Curly => '}',
        }
    }
}

/// A token, and where it begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lexeme<'a> {
    pub(crate) token: Token<'a>,
    pub(crate) at: At,
}

/// Text that is no token.
#[derive(Debug)]
pub(crate) struct Unlexable {
    pub(crate) at: At,
    pub(crate) message: String,
}

/// Signs and what they are called, the longer ones first.
const OPERATORS: [(&str, &str); 12] = [
    ("<=", "lte"),
    (">=", "gte"),
    ("<<", "shl"),
    (">>", "shr"),
    ("==", "eq"),
    ("!=", "neq"),
    ("+", "add"),
    ("-", "sub"),
    ("*", "mul"),
    ("/", "div"),
    ("<", "lt"),
    (">", "gt"),
];

/// The sign that is called so.
pub(crate) fn sign_of(name: &str) -> Option<&'static str> {
    OPERATORS.iter().find(|(_, called)| *called == name).map(|(sign, _)| *sign)
}

/// Reads tokens one after the other.
#[derive(Debug)]
pub(crate) struct Lexer<'a> {
    text: &'a str,
    offset: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, offset: 0 }
    }

    /// The next one, if there is one.
    pub(crate) fn next(&mut self) -> Result<Option<Lexeme<'a>>, Unlexable> {
        self.skip_blanks();
        let rest = self.rest();
        let Some(first) = rest.bytes().next() else { return Ok(None) };
        let at = At(u32::try_from(self.offset).unwrap_or(u32::MAX));
        let (token, length) = match first {
            b'(' => (Token::Open(Bracket::Round), 1),
            b'[' => (Token::Open(Bracket::Square), 1),
            b'{' => (Token::Open(Bracket::Curly), 1),
            b')' => (Token::Close(Bracket::Round), 1),
            b']' => (Token::Close(Bracket::Square), 1),
            b'}' => (Token::Close(Bracket::Curly), 1),
            b'"' | b'\'' => quoted(rest, at)?,
            b'A'..=b'Z' | b'a'..=b'z' | b'_' => symbol(rest),
            _ => match number(rest, at)? {
                Some(found) => found,
                None => operator(rest).ok_or_else(|| unknown(rest, at))?,
            },
        };
        self.offset = self.offset.saturating_add(length);
        Ok(Some(Lexeme { token, at }))
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.offset..).unwrap_or_default()
    }

    /// White space and comments. A carriage return ends one as well: MOM reads files of which it makes a newline.
    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            let blank = rest.find(|c| !is_blank(c)).unwrap_or(rest.len());
            let comment = match rest.as_bytes().get(blank) {
                Some(b'#') => rest.get(blank..).map_or(0, |c| c.find(['\n', '\r']).unwrap_or(c.len())),
                _ => 0,
            };
            self.offset = self.offset.saturating_add(blank).saturating_add(comment);
            if comment == 0 {
                return;
            }
        }
    }
}

/// What Python takes for white space: text that is pasted from web pages has no-break spaces.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// How many bytes from the beginning are such.
fn run(text: &str, such: impl Fn(u8) -> bool) -> usize {
    text.bytes().take_while(|b| such(*b)).count()
}

fn quoted(rest: &str, at: At) -> Result<(Token<'_>, usize), Unlexable> {
    let quote = if rest.starts_with('"') { '"' } else { '\'' };
    let inner = rest.get(1..).unwrap_or_default();
    // A backslash stays, and so does what is behind it.
    let mut hidden = false;
    let end = inner.find(|c| {
        let ends = c == quote && !hidden;
        hidden = c == '\\' && !hidden;
        ends
    });
    match end {
        Some(end) => Ok((Token::Text(inner.get(..end).unwrap_or_default()), end.saturating_add(2))),
        None => Err(Unlexable { at, message: format!("this text has no closing {quote}") }),
    }
}

fn symbol(rest: &str) -> (Token<'_>, usize) {
    let length = run(rest, |b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    (Token::Symbol(rest.get(..length).unwrap_or_default()), length)
}

fn operator(rest: &str) -> Option<(Token<'_>, usize)> {
    let (sign, name) = OPERATORS.iter().find(|(sign, _)| rest.starts_with(sign))?;
    Some((Token::Operator(name), sign.len()))
}

fn unknown(rest: &str, at: At) -> Unlexable {
    let message = match rest.chars().next() {
        Some('=') => {
            "\"=\" means nothing here: write \"==\" to compare, (set NAME VALUE) to assign".to_owned()
        }
        Some('!') => "\"!\" means nothing here: write \"!=\", or (not VALUE)".to_owned(),
        Some(';') => "\";\" means nothing here: a comment begins with \"#\"".to_owned(),
        Some(other) => format!("{other:?} means nothing here"),
        None => "nothing follows".to_owned(),
    };
    Unlexable { at, message }
}

/// How many bytes an exponent has: `e5`, `E-07`.
fn exponent(text: &str) -> usize {
    let mut bytes = text.bytes();
    if !matches!(bytes.next(), Some(b'e' | b'E')) {
        return 0;
    }
    let signed = usize::from(matches!(bytes.next(), Some(b'+' | b'-')));
    let digits = text.get(signed.saturating_add(1)..).map_or(0, |digits| run(digits, |b| b.is_ascii_digit()));
    if digits == 0 { 0 } else { digits.saturating_add(signed).saturating_add(1) }
}

/// Whether this text is a number of the language and nothing else: `5`, `-0.05`, `2e3`, `0x1F`.
pub fn is_number(text: &str) -> bool {
    matches!(number(text, At(0)), Ok(Some((_, length))) if length == text.len())
}

/// A number, if one begins here. A minus belongs to decimal ones alone.
fn number(rest: &str, at: At) -> Result<Option<(Token<'_>, usize)>, Unlexable> {
    let minus = usize::from(rest.starts_with('-'));
    let unsigned = rest.get(minus..).unwrap_or_default();
    let whole = run(unsigned, |b| b.is_ascii_digit());
    let behind = unsigned.get(whole..).unwrap_or_default();
    let fraction = behind.strip_prefix('.').map_or(0, |digits| run(digits, |b| b.is_ascii_digit()));
    if fraction > 0 {
        let length = minus.saturating_add(whole).saturating_add(fraction).saturating_add(1);
        let length = length.saturating_add(rest.get(length..).map_or(0, exponent));
        return float(rest, length, at).map(Some);
    }
    if whole == 0 {
        return Ok(None);
    }
    if let Some(found) = based(unsigned, at)? {
        // A minus before one is the sign.
        return Ok((minus == 0).then_some(found));
    }
    let bad = |message: &str| Err(Unlexable { at, message: message.to_owned() });
    if whole > 1 && unsigned.starts_with('0') {
        return bad("an integer does not begin with 0: write octal ones as 0o17");
    }
    let length = minus.saturating_add(whole);
    match exponent(behind) {
        0 if behind.starts_with(['e', 'E']) => bad("this number has an exponent without digits"),
        0 if unsigned.starts_with('0') && behind.starts_with(['x', 'X', 'o']) => {
            bad("this number has no digits that its base knows")
        }
        0 => {
            let digits = unsigned.get(..whole).unwrap_or_default();
            integer(digits, minus > 0, 10, at).map(|token| Some((token, length)))
        }
        exponent => float(rest, length.saturating_add(exponent), at).map(Some),
    }
}

fn float(rest: &str, length: usize, at: At) -> Result<(Token<'_>, usize), Unlexable> {
    match rest.get(..length).and_then(|text| text.parse().ok()) {
        Some(value) => Ok((Token::Float(value), length)),
        None => Err(Unlexable { at, message: "this is no number".to_owned() }),
    }
}

/// Hexadecimal and octal ones.
fn based(unsigned: &str, at: At) -> Result<Option<(Token<'_>, usize)>, Unlexable> {
    let base = match unsigned.as_bytes().get(..2) {
        Some(b"0x" | b"0X") => 16,
        Some(b"0o") => 8,
        _ => return Ok(None),
    };
    let behind = unsigned.get(2..).unwrap_or_default();
    let length = run(behind, |b| if base == 16 { b.is_ascii_hexdigit() } else { b.is_ascii_digit() });
    let digits = behind.get(..length).unwrap_or_default();
    if digits.is_empty() {
        return Ok(None);
    }
    if !digits.chars().all(|c| c.is_digit(base)) {
        return Err(Unlexable { at, message: "8 and 9 are no octal digits".to_owned() });
    }
    integer(digits, false, base, at).map(|token| Some((token, length.saturating_add(2))))
}

fn integer(digits: &str, negative: bool, base: u32, at: At) -> Result<Token<'_>, Unlexable> {
    if digits.len() > MAX_DIGITS {
        let message =
            format!("this number has {} digits, and no more than {MAX_DIGITS} are taken", digits.len());
        return Err(Unlexable { at, message });
    }
    Ok(Token::Integer { digits, negative, base })
}
