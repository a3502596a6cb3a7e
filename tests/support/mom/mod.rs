//! MOM as an oracle: its own evaluator in a Python process, asked case by case (`testbed/mom/oracle.py`).

mod collectors;
mod json;
mod python;

use std::fmt;
use std::os::unix::process::ExitStatusExt as _;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use python::{Python, Reply};

pub use collectors::Collectors;
pub use json::Told;

/// A program in files, and what it sees.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// The files in their order, each as bytes.
    pub files: Vec<Vec<u8>>,
    /// `IN.json` of `overcommit-agent policy eval --input`.
    pub input: Value,
}

impl Case {
    fn line(&self, isolate: bool) -> String {
        let files: Vec<_> = self.files.iter().map(|file| told_file(file)).collect();
        json!({ "files": files, "input": self.input, "isolate": isolate }).to_string()
    }
}

fn told_file(bytes: &[u8]) -> Value {
    std::str::from_utf8(bytes).map_or_else(
        |_| json!({ "hex": bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}")) }),
        |text| json!(text),
    )
}

/// What an evaluator says of a case.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The whole of it.
    Whole(Told),
    /// No program came of the text, or it ended in an error that is no single guest's.
    Error {
        /// `load` or `run`.
        stage: String,
        /// The Python exception's class; `Killed` if the process died of it.
        class: String,
        /// Its words.
        message: String,
    },
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(told) => write!(f, "{told}"),
            Self::Error { stage, class, message } => write!(f, "{class} ({stage}): {message}"),
        }
    }
}

/// One Python process with MOM's evaluator.
#[derive(Debug)]
pub struct Oracle {
    process: Option<Python>,
}

impl Oracle {
    /// Gets MOM if the cache does not hold it, and starts its evaluator.
    pub fn start() -> Result<Self> {
        Ok(Self { process: Some(Self::begin()?) })
    }

    /// Evaluates a case as MOM does.
    ///
    /// # Errors
    /// The driver does not work. What MOM cannot do is an [`Answer`].
    pub fn ask(&mut self, case: &Case) -> Result<Answer> {
        self.judge(&case.line(false))
    }

    /// The same, with our rule for errors in guests' turns: what fails there concerns that guest alone.
    ///
    /// # Errors
    /// As [`Oracle::ask`].
    pub fn ask_isolating(&mut self, case: &Case) -> Result<Answer> {
        self.judge(&case.line(true))
    }

    fn judge(&mut self, question: &str) -> Result<Answer> {
        match self.exchange(question)? {
            Some(line) => read_answer(&line),
            None => Ok(Answer::Error { stage: "run".into(), class: "Killed".into(), message: String::new() }),
        }
    }

    /// The answer's line; none if the process died of the question.
    fn exchange(&mut self, question: &str) -> Result<Option<String>> {
        let mut running = match self.process.take() {
            Some(running) => running,
            None => Self::begin()?,
        };
        match running.ask(question)? {
            Reply::Line(line) => {
                self.process = Some(running);
                Ok(Some(line))
            }
            Reply::Ended(status) if status.signal().is_some() => Ok(None),
            Reply::Ended(status) => {
                bail!("oracle.py ended with {status} (its words are above) at: {question}")
            }
        }
    }

    fn begin() -> Result<Python> {
        Python::start("oracle.py", &[])
    }
}

fn read_answer(line: &str) -> Result<Answer> {
    let told: Told = line.parse().with_context(|| line.to_owned())?;
    let Some(error) = told.field("error") else { return Ok(Answer::Whole(told)) };
    let word = |name| match error.field(name) {
        Some(Told::Text(text)) => text.clone(),
        _ => String::new(),
    };
    Ok(Answer::Error { stage: word("stage"), class: word("class"), message: word("message") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(program: &str) -> Answer {
        let mut oracle = Oracle::start().unwrap();
        let input = json!({"guests": [{"name": "g", "history": [{"balloon_cur": 4}]}]});
        oracle.ask(&Case { files: vec![program.into()], input }).unwrap()
    }

    #[test]
    fn moms_evaluator_says_what_a_program_does() {
        let Answer::Whole(told) =
            said("(/ 3 2) (<< 1 70) (with Guests g {(g.Control \"balloon_target\" 5) g.balloon_cur})")
        else {
            panic!("no values")
        };
        let values = "[1.5, 1180591620717411303424, [4]]".parse().unwrap();
        assert_eq!(told.field("values"), Some(&values));
        let guests = r#"{"g": {"controls": {"balloon_target": 5}, "variables": {}}}"#.parse().unwrap();
        assert_eq!(told.field("guests"), Some(&guests));
    }

    #[test]
    fn an_error_of_mom_is_an_answer_with_its_class() {
        for (program, at, of) in [
            ("(", "load", "PolicyError"),
            ("(unheard-of 1)", "run", "KeyError"),
            ("(def f () (f)) (f)", "run", "RecursionError"),
            ("(<< 1 100000000000)", "run", "MemoryError"),
        ] {
            let Answer::Error { stage, class, .. } = said(program) else { panic!("{program}: no error") };
            assert_eq!((stage.as_str(), class.as_str()), (at, of), "{program}");
        }
    }
}
