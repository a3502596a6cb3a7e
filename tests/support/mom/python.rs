//! A program of ours in Python beside the product that imports MOM: a line in, a line out.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result};

use crate::parts::{mom_modules, testbed_sources};

/// Debian's, whatever else `PATH` has.
const PYTHON: &str = "/usr/bin/python3";

/// A process that answers.
#[derive(Debug)]
pub(super) struct Python {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What became of a question.
pub(super) enum Reply {
    Line(String),
    /// The process died of it; its words are on standard error.
    Ended(ExitStatus),
}

impl Python {
    /// Gets MOM if the cache does not hold it, and starts a program of `testbed/mom` with further arguments.
    pub(super) fn start(program: &str, further: &[&str]) -> Result<Self> {
        let mut python = Command::new(PYTHON);
        // -I: no environment, no user's packages; -B: the part in the cache stays as it was unpacked.
        python.args(["-I", "-B"]).arg(testbed_sources().join("mom").join(program)).arg(mom_modules()?);
        let started = python.args(further).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = started.with_context(|| {
            format!("starting {PYTHON} (Debian packages python3, python3-libvirt): run `make setup`")
        })?;
        let questions = child.stdin.take().context("no standard input")?;
        let answers = BufReader::new(child.stdout.take().context("no standard output")?);
        Ok(Self { child, questions, answers })
    }

    pub(super) fn ask(&mut self, question: &str) -> Result<Reply> {
        writeln!(self.questions, "{question}").context("asking MOM")?;
        let mut line = String::new();
        match self.answers.read_line(&mut line)? {
            0 => Ok(Reply::Ended(self.child.wait()?)),
            _ => Ok(Reply::Line(line)),
        }
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // It is ours, and may be in the middle of something long.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
