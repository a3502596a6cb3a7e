//! Our evaluator, in this process.

use std::fmt;

use overcommit_policy::{Limits, Program, Source, World, evaluate, exchange};
use overcommit_tests::mom::{Case, Told};

/// What our evaluator says of a case.
#[derive(Clone, Debug)]
pub(crate) enum Ours {
    /// The whole of it, as `policy eval --output json` prints it.
    Whole(Told),
    /// The text is no program: place and message.
    NoProgram(String),
    /// The program ended in an error that is no single guest's.
    Failed(String),
}

impl Ours {
    /// Evaluates a case.
    pub(crate) fn of(case: &Case) -> Self {
        let names: Vec<_> = (0..case.files.len()).map(Self::name).collect();
        let sources: Vec<_> =
            names.iter().zip(&case.files).map(|(name, bytes)| Source { name, bytes }).collect();
        let program = match Program::parse(&sources) {
            Ok(program) => program,
            Err(trouble) => return Self::NoProgram(format!("{}: {}", trouble.place, trouble.message)),
        };
        let mut world = world(case);
        match evaluate(&program, &mut world, &Limits::default()) {
            Ok(evaluation) => {
                let text = exchange::write(&evaluation, &world);
                Self::Whole(text.parse().unwrap_or_else(|why| panic!("{why}: {text}")))
            }
            Err(trouble) => Self::Failed(format!("{}: {}", trouble.place, trouble.message)),
        }
    }

    /// What a file of a case is called.
    pub(crate) fn name(index: usize) -> String {
        format!("{index:02}.rules")
    }

    /// The errors that concern one guest each.
    pub(crate) fn guest_errors(&self) -> &[Told] {
        match self {
            Self::Whole(told) => told.field("errors").map_or(&[], Told::items),
            Self::NoProgram(_) | Self::Failed(_) => &[],
        }
    }

    /// What ended it, if something did.
    pub(crate) fn error(&self) -> Option<&str> {
        match self {
            Self::Whole(_) => None,
            Self::NoProgram(message) | Self::Failed(message) => Some(message),
        }
    }
}

impl fmt::Display for Ours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(told) => write!(f, "{told}"),
            Self::NoProgram(message) => write!(f, "no program: {message}"),
            Self::Failed(message) => write!(f, "failed: {message}"),
        }
    }
}

/// What a case sees.
pub(crate) fn world(case: &Case) -> World {
    let text = case.input.to_string();
    exchange::read(text.as_bytes()).unwrap_or_else(|why| panic!("{why}: {text}"))
}
