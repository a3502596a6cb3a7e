//! A program that can be evaluated: parsed, and its names resolved as far as a program with dynamic scope has them.

use std::sync::Arc;

use crate::builtin::Builtin;
use crate::eval::Trouble;
use crate::parse;
use crate::source::{Source, Text};
use crate::syntax::{Name, Syntax};
use crate::value::{Function, Method};

/// A program.
#[derive(Debug)]
pub struct Program {
    pub(crate) text: Text,
    pub(crate) syntax: Syntax,
    /// By name.
    words: Vec<Word>,
    /// Names that are attributes somewhere.
    pub(crate) attributes: Vec<Option<Arc<str>>>,
    pub(crate) nil: Name,
    pub(crate) host: Name,
    pub(crate) guests: Name,
    pub(crate) functions: [(Name, Function); 2],
}

/// What a name means before anybody defined anything.
#[derive(Clone, Copy, Debug, Default)]
struct Word {
    builtin: Option<Builtin>,
    method: Option<Method>,
}

impl Program {
    /// Parses files as one program, joined by newlines in this order.
    pub fn parse(sources: &[Source<'_>]) -> Result<Self, Trouble> {
        let text = Text::join(sources).map_err(|why| Trouble { place: why.place, message: why.message })?;
        let mut syntax = parse::parse(text.as_str(), text.end())
            .map_err(|why| Trouble { place: text.place(why.at), message: why.message })?;
        let (nil, host, guests) = (syntax.intern("nil"), syntax.intern("Host"), syntax.intern("Guests"));
        let functions = Function::ALL.map(|(name, function)| (syntax.intern(name), function));
        let names = || syntax.all_names();
        let word = |name: &str| Word { builtin: Builtin::named(name), method: Method::named(name) };
        let words = names().map(|(name, _)| word(name)).collect();
        let attributes = names().map(|(name, attribute)| attribute.then(|| Arc::clone(name))).collect();
        Ok(Self { text, syntax, words, attributes, nil, host, guests, functions })
    }

    #[inline]
    pub(crate) fn builtin(&self, name: Name) -> Option<Builtin> {
        self.words.get(name.index()).and_then(|word| word.builtin)
    }

    #[inline]
    pub(crate) fn method(&self, name: Name) -> Option<Method> {
        self.words.get(name.index()).and_then(|word| word.method)
    }
}
