//! MOM's own collectors on this host and its guests, as `momd` runs them (`testbed/mom/collect.py`).

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::PYTHON;
use crate::parts::{mom_modules, testbed_sources};

/// A Python process with MOM's collectors. It commands nothing, but sets the period of the guests' statistics, as MOM does.
#[derive(Debug)]
pub struct Collectors {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Collectors {
    /// Gets MOM if the cache does not hold it, and starts its collectors on all guests that run now.
    ///
    /// # Errors
    /// When Python does not start.
    pub fn start(uri: &str) -> Result<Self> {
        let mut python = Command::new(PYTHON);
        python.args(["-I", "-B"]).arg(testbed_sources().join("mom/collect.py")).arg(mom_modules()?).arg(uri);
        let started = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = started.with_context(|| {
            format!("starting {PYTHON} (Debian packages python3, python3-libvirt): run `make setup`")
        })?;
        let questions = child.stdin.take().context("no standard input")?;
        let answers = BufReader::new(child.stdout.take().context("no standard output")?);
        Ok(Self { child, questions, answers })
    }

    /// What they see now: `{"host": {FIELD: VALUE}, "guests": {NAME: {FIELD: VALUE}}}`; null where a field is missing to one.
    ///
    /// # Errors
    /// When one of them fails.
    pub fn collect(&mut self) -> Result<Value> {
        writeln!(self.questions).context("asking MOM's collectors")?;
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            let status = self.child.wait()?;
            bail!("{PYTHON} collect.py ended with {status}; its words are above");
        }
        let told: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        match told.get("error") {
            Some(why) => bail!("MOM's collectors: {why}"),
            None => Ok(told),
        }
    }
}

impl Drop for Collectors {
    fn drop(&mut self) {
        // It is ours, and may be in the middle of something long.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
