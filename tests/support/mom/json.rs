//! JSON whose integers keep all their digits, to compare what two evaluators print.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail, ensure};

/// A JSON value. Integers and floats are different things, as they are in MOM's language.
#[derive(Clone, Debug)]
pub enum Told {
    /// `null`, MOM's nil.
    Null,
    /// What a comparison gives.
    Truth(bool),
    /// An integer by its decimal digits.
    Integer(String),
    /// Any other number.
    Float(f64),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Told>),
    /// An object.
    Map(BTreeMap<String, Told>),
}

impl PartialEq for Told {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Truth(one), Self::Truth(other)) => one == other,
            // -0.0 is another float than 0.0; JSON has no NaN.
            (Self::Float(one), Self::Float(other)) => one.to_bits() == other.to_bits(),
            (Self::Integer(one), Self::Integer(other)) | (Self::Text(one), Self::Text(other)) => one == other,
            (Self::List(one), Self::List(other)) => one == other,
            (Self::Map(one), Self::Map(other)) => one == other,
            _ => false,
        }
    }
}

impl Told {
    /// A field of an object.
    pub fn field(&self, name: &str) -> Option<&Told> {
        match self {
            Self::Map(map) => map.get(name),
            _ => None,
        }
    }

    /// The items of an array; none of anything else.
    pub fn items(&self) -> &[Told] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Truth(truth) => write!(f, "{truth}"),
            Self::Integer(digits) => f.write_str(digits),
            Self::Float(float) => write!(f, "{float:?}"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if index > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
            Self::Map(map) => {
                f.write_str("{")?;
                for (index, (key, value)) in map.iter().enumerate() {
                    write!(f, "{}{key:?}: {value}", if index > 0 { ", " } else { "" })?;
                }
                f.write_str("}")
            }
        }
    }
}

impl FromStr for Told {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut reader = Reader { rest: text.trim_start() };
        let told = reader.value()?;
        ensure!(reader.rest.is_empty(), "more than one value");
        Ok(told)
    }
}

/// Reads what Python's json and `serde_json` write; strings by the latter.
struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn value(&mut self) -> Result<Told> {
        match self.rest.bytes().next().context("no value")? {
            b'[' => {
                let mut items = Vec::new();
                self.each(']', |reader| {
                    items.push(reader.value()?);
                    Ok(())
                })?;
                Ok(Told::List(items))
            }
            b'{' => {
                let mut map = BTreeMap::new();
                self.each('}', |reader| {
                    let key = reader.string()?;
                    ensure!(reader.take(":"), "a key without a value");
                    map.insert(key, reader.value()?);
                    Ok(())
                })?;
                Ok(Told::Map(map))
            }
            b'"' => Ok(Told::Text(self.string()?)),
            _ => self.word(),
        }
    }

    /// Takes a token and the blanks after it.
    fn take(&mut self, token: &str) -> bool {
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.map_or(self.rest, str::trim_start);
        rest.is_some()
    }

    /// The items of a list or an object, up to `end`.
    fn each(&mut self, end: char, mut item: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        let end = end.to_string();
        let _ = self.take("[") || self.take("{");
        if self.take(&end) {
            return Ok(());
        }
        loop {
            item(self)?;
            if self.take(&end) {
                return Ok(());
            }
            ensure!(self.take(","), "neither comma nor end");
        }
    }

    fn string(&mut self) -> Result<String> {
        let mut escaped = false;
        let end = self.rest.char_indices().skip(1).find(|(_, letter)| {
            let ends = *letter == '"' && !escaped;
            escaped = *letter == '\\' && !escaped;
            ends
        });
        let (end, _) = end.context("a string without end")?;
        let (string, rest) = self.rest.split_at(end + 1);
        self.rest = rest.trim_start();
        Ok(serde_json::from_str(string)?)
    }

    fn word(&mut self) -> Result<Told> {
        let end = self.rest.find([',', ']', '}', ' ', '\n']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        Ok(match word {
            "null" => Told::Null,
            "true" | "false" => Told::Truth(word == "true"),
            number if digits(number) => Told::Integer(number.into()),
            number if number.contains(['.', 'e', 'E']) => Told::Float(number.parse()?),
            other => bail!("no JSON value: {other}"),
        })
    }
}

/// Whether this is an integer, however long.
fn digits(word: &str) -> bool {
    let digits = word.strip_prefix('-').unwrap_or(word);
    !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_keep_their_digits_and_are_no_floats() {
        let read: Told =
            r#" {"a": [123456789012345678901234567890, 1.0, -0.0, 1e+16], "b\"": {}} "#.parse().unwrap();
        let a = read.field("a").unwrap().items();
        let expected = [
            Told::Integer("123456789012345678901234567890".into()),
            Told::Float(1.0),
            Told::Float(-0.0),
            Told::Float(1e16),
        ];
        assert_eq!(a, expected);
        assert_ne!(Told::Float(0.0), Told::Float(-0.0));
        assert_ne!(Told::Integer("1".into()), Told::Float(1.0));
        assert_eq!(read.field("b\""), Some(&Told::Map(BTreeMap::new())));
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        for text in ["", "[1", "{\"a\" 1}", "[1,,2]", "nan", "\"a", "1 2"] {
            assert!(text.parse::<Told>().is_err(), "{text}");
        }
    }
}
