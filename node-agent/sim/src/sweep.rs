//! One parameter of a policy over several values, on the scenario that shows best what it trades: what is won, and what is lost
//! for it. `library` says which, `picture::trade` draws it (`docs/parameters.md`).

mod figure;
mod library;

use overcommit_core::units::Bytes;
use overcommit_crds::file::FileError;
use serde_json::{Map, Value};

use crate::scenario::Scenario;
use crate::{Orders, Outcome, simulate};

pub use figure::Figure;
pub use library::ALL;

/// A parameter, and where what it does is seen.
#[derive(Debug)]
pub struct Sweep {
    /// Of its picture.
    pub name: &'static str,
    /// Where it stands in a policy, below `spec`; numbers are places in a list.
    pub parameter: &'static str,
    /// What the picture shows.
    pub shows: &'static str,
    /// The scenario's name.
    pub scenario: &'static str,
    /// The host's memory, where it is another than the scenario's.
    pub memory: Option<Bytes>,
    /// What else the policy says: a field below `spec`, and its value as JSON.
    pub beside: Option<(&'static str, &'static str)>,
    /// Its values, as they are written in a policy.
    pub values: &'static [&'static str],
    /// That of them which holds where nothing is said.
    pub usual: &'static str,
    /// What is looked at.
    pub measures: &'static [Measure],
}

/// One thing that is looked at.
#[derive(Debug)]
pub struct Measure {
    /// What it is.
    pub name: &'static str,
    /// Less of it is better.
    pub is_price: bool,
    of: fn(&Outcome) -> Figure,
}

/// What came of one value.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// The value.
    pub value: &'static str,
    /// One for each measure.
    pub figures: Vec<Figure>,
}

impl Sweep {
    /// Runs `scenario` by the loop under `policy`, an object as for `kubectl apply`, once with each value.
    ///
    /// # Errors
    /// When a value is none that a policy may have.
    pub fn run(&self, scenario: &Scenario, policy: &Value) -> Result<Vec<Trial>, FileError> {
        let mut scenario = scenario.clone();
        if let Some(memory) = self.memory {
            scenario.host.memory.0 = memory;
        }
        let trial = |value: &&'static str| {
            let outcome = simulate(self.scenario, &scenario, &self.orders(policy, value)?);
            Ok(Trial { value, figures: self.measures.iter().map(|measure| (measure.of)(&outcome)).collect() })
        };
        self.values.iter().map(trial).collect()
    }

    /// The parameter as people name it.
    pub fn field(&self) -> String {
        self.parameter.replace(".0.", "[].")
    }

    /// The policy with that value.
    ///
    /// # Errors
    /// When it is none that a policy may have.
    pub fn orders(&self, policy: &Value, value: &str) -> Result<Orders, FileError> {
        let mut policy = policy.clone();
        // What is no JSON is text, as in YAML.
        let read = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
        for (path, value) in self.beside.into_iter().chain([(self.parameter, value)]) {
            set(&mut policy, path, read(value))
                .ok_or_else(|| FileError::UnknownFields(vec![path.to_owned()]))?;
        }
        Orders::read(policy.to_string().as_bytes())
    }
}

/// Puts a value where `path` leads to below `spec`; absent where nothing can stand.
fn set(policy: &mut Value, path: &str, value: Value) -> Option<()> {
    let mut place = policy.get_mut("spec")?;
    for key in path.split('.') {
        place = match place {
            Value::Array(list) => list.get_mut(key.parse::<usize>().ok()?)?,
            Value::Object(fields) => fields.entry(key).or_insert_with(|| Value::Object(Map::new())),
            _ => return None,
        };
    }
    *place = value;
    Some(())
}
