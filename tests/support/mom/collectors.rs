//! MOM's own collectors on this host and its guests, as `momd` runs them (`testbed/mom/collect.py`).

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::python::{Python, Reply};

/// A Python process with MOM's collectors. It commands nothing, but sets the period of the guests' statistics, as MOM does.
#[derive(Debug)]
pub struct Collectors(Python);

impl Collectors {
    /// Gets MOM if the cache does not hold it, and starts its collectors on all guests that run now.
    ///
    /// # Errors
    /// When Python does not start.
    pub fn start(uri: &str) -> Result<Self> {
        Ok(Self(Python::start("collect.py", &[uri])?))
    }

    /// What they see now: `{"host": {FIELD: VALUE}, "guests": {NAME: {FIELD: VALUE}}}`; null where a field is missing to one.
    ///
    /// # Errors
    /// When one of them fails.
    pub fn collect(&mut self) -> Result<Value> {
        let line = match self.0.ask("")? {
            Reply::Line(line) => line,
            Reply::Ended(status) => bail!("collect.py ended with {status}; its words are above"),
        };
        let told: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        match told.get("error") {
            Some(why) => bail!("MOM's collectors: {why}"),
            None => Ok(told),
        }
    }
}
