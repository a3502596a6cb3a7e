//! What a value of a program can be.

use std::sync::Arc;

use num_bigint::BigInt;

/// A value. What is long is shared, and what holds others holds no more than a budget allows ([`crate::Limits`]).
#[derive(Clone, Debug)]
pub enum Value {
    /// `nil`.
    Nil,
    /// What a comparison says; a number, 0 or 1, to arithmetic.
    Bool(bool),
    /// An integer of up to 64 bits; longer ones are [`Value::Big`].
    Int(i64),
    /// An integer that 64 bits do not hold.
    Big(Arc<BigInt>),
    /// A float.
    Float(f64),
    /// A text.
    Text(Arc<str>),
    /// What `with` returns.
    List(Arc<List>),
    /// The host or a guest.
    Entity(Entity),
    /// A method of one.
    Method(Entity, Method),
    /// A function that is a value: `abs`, `debug`.
    Function(Function),
}

/// Values in a row, and what they weigh with all that they hold.
#[derive(Debug)]
pub struct List {
    items: Vec<Value>,
    weight: u64,
    depth: u32,
}

impl List {
    /// How deep lists may be nested; what compares them and writes them needs that much stack.
    pub(crate) const DEEPEST: u32 = 50;

    /// A list of these; none that would nest too deep.
    pub(crate) fn new(items: Vec<Value>) -> Option<Self> {
        let weight = items.iter().fold(BASE_WEIGHT, |sum, item| sum.saturating_add(item.weight()));
        let depth = items.iter().map(Value::depth).max().unwrap_or(0).saturating_add(1);
        (depth <= Self::DEEPEST).then_some(Self { items, weight, depth })
    }

    /// What is in it.
    pub fn items(&self) -> &[Value] {
        &self.items
    }
}

/// What a value weighs at least, in bytes.
const BASE_WEIGHT: u64 = 32;
/// The longest name of a guest, in bytes: a namespace of 63, a slash, and a name of 253, as Kubernetes bounds them
/// (apimachinery, `util/validation`).
pub(crate) const LONGEST_NAME: usize = 317;

/// Whom a policy can ask and tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entity {
    /// `Host`.
    Host,
    /// An element of `Guests`, by its position.
    Guest(u32),
}

/// What entities can be asked and told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A property: must be there.
    Prop,
    /// The last sample of a field.
    Stat,
    /// The mean of a field.
    StatAvg,
    /// Remembers a value.
    SetVar,
    /// A remembered value.
    GetVar,
    /// Proposes what a controller should do.
    Control,
    /// What is proposed.
    GetControl,
}

impl Method {
    /// All of them, and their names.
    pub(crate) const ALL: [(&'static str, Self); 7] = [
        ("Prop", Self::Prop),
        ("Stat", Self::Stat),
        ("StatAvg", Self::StatAvg),
        ("SetVar", Self::SetVar),
        ("GetVar", Self::GetVar),
        ("Control", Self::Control),
        ("GetControl", Self::GetControl),
    ];

    /// The one of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, method)| *method)
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, method)| *method == self).map_or("", |(name, _)| name)
    }

    /// The fewest and the most arguments.
    pub(crate) fn arity(self) -> (usize, usize) {
        match self {
            Self::Prop | Self::StatAvg | Self::GetVar | Self::GetControl => (1, 1),
            Self::Stat => (1, 2),
            Self::SetVar | Self::Control => (2, 2),
        }
    }
}

/// Functions that are values from the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// The amount of a number.
    Abs,
    /// Logs its arguments.
    Debug,
}

impl Function {
    /// All of them, and their names.
    pub(crate) const ALL: [(&'static str, Self); 2] = [("abs", Self::Abs), ("debug", Self::Debug)];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Abs => "abs",
            Self::Debug => "debug",
        }
    }
}

impl Value {
    /// A text.
    pub fn text(text: &str) -> Self {
        Self::Text(Arc::from(text))
    }

    /// An integer, the short way where it fits.
    pub(crate) fn integer(value: BigInt) -> Self {
        i64::try_from(&value).map_or_else(|_| Self::Big(Arc::new(value)), Self::Int)
    }

    /// Whether it is `nil`.
    pub fn is_nil(&self) -> bool {
        matches!(self, Self::Nil)
    }

    /// Whether a condition takes it for true: not `nil`, 0, and what is empty.
    pub fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::List(list) => !list.items.is_empty(),
            Self::Big(_) | Self::Entity(_) | Self::Method(..) | Self::Function(_) => true,
        }
    }

    /// Whether `null` takes it for nothing: `nil`, and what is empty; not 0.
    pub(crate) fn is_null(&self) -> bool {
        match self {
            Self::Nil => true,
            Self::Text(text) => text.is_empty(),
            Self::List(list) => list.items.is_empty(),
            _ => false,
        }
    }

    /// The whole number that it comes to, as a controller takes it: what is behind the point is dropped. Absent where it is no
    /// number, or none that 64 bits hold.
    pub fn to_whole(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            Self::Float(value) => num_traits::ToPrimitive::to_i64(value),
            _ => None,
        }
    }

    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "a truth value",
            Self::Int(_) | Self::Big(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Entity(Entity::Host) => "the host",
            Self::Entity(Entity::Guest(_)) => "a guest",
            Self::Method(..) | Self::Function(_) => "a function",
        }
    }

    /// About how many bytes it takes to keep it or to write it, all that it holds written out.
    pub(crate) fn weight(&self) -> u64 {
        match self {
            Self::Big(value) => BASE_WEIGHT.saturating_add(value.bits() / 3),
            Self::Text(text) => BASE_WEIGHT.saturating_add(u64::try_from(text.len()).unwrap_or(u64::MAX)),
            Self::List(list) => list.weight,
            // It is written as a name.
            Self::Entity(Entity::Guest(_)) | Self::Method(Entity::Guest(_), _) => {
                BASE_WEIGHT + LONGEST_NAME as u64
            }
            _ => BASE_WEIGHT,
        }
    }

    fn depth(&self) -> u32 {
        match self {
            Self::List(list) => list.depth,
            _ => 0,
        }
    }
}
