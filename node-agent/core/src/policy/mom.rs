//! A program in MOM's language that decides in the place of the adaptive engine. What it is written as is what it is: slots in
//! their order; what they compile to follows from them.

use std::fmt;
use std::sync::Arc;

use overcommit_policy::{Program, Source, Trouble};
use serde::{Deserialize, Serialize, Serializer};

/// A program in named slots.
#[derive(Clone, Deserialize)]
#[serde(try_from = "Vec<Slot>")]
pub struct Mom {
    slots: Arc<[Slot]>,
    program: Arc<Program>,
}

/// A part of a program, as a file of MOM's policy directory. Parameters are a slot like others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// What places in it are told by.
    pub name: Arc<str>,
    /// Its text.
    pub text: Arc<str>,
}

impl Mom {
    /// Compiles slots as one program, joined by newlines in this order; what is no program is told with its place.
    pub fn new(slots: Vec<Slot>) -> Result<Self, Trouble> {
        let sources: Vec<Source<'_>> =
            slots.iter().map(|slot| Source { name: &slot.name, bytes: slot.text.as_bytes() }).collect();
        let program = Arc::new(Program::parse(&sources)?);
        Ok(Self { slots: slots.into(), program })
    }

    /// What it was made of.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// What it compiles to.
    pub fn program(&self) -> &Program {
        &self.program
    }
}

impl fmt::Debug for Mom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Mom").field(&self.slots).finish()
    }
}

/// Two that are written alike are alike.
impl PartialEq for Mom {
    fn eq(&self, other: &Self) -> bool {
        self.slots == other.slots
    }
}

impl TryFrom<Vec<Slot>> for Mom {
    type Error = Trouble;

    fn try_from(slots: Vec<Slot>) -> Result<Self, Trouble> {
        Self::new(slots)
    }
}

/// As its slots.
impl Serialize for Mom {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.slots.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(name: &str, text: &str) -> Slot {
        Slot { name: name.into(), text: text.into() }
    }

    #[test]
    fn a_program_is_written_as_its_slots_and_read_as_the_same() {
        let program =
            Mom::new(vec![slot("00-defines", "(defvar x 1)"), slot("parameters", "(set x 2)")]).unwrap();
        let written = serde_json::to_string(&program).unwrap();
        assert_eq!(
            written,
            r#"[{"name":"00-defines","text":"(defvar x 1)"},{"name":"parameters","text":"(set x 2)"}]"#
        );
        assert_eq!(serde_json::from_str::<Mom>(&written).unwrap(), program);
    }

    #[test]
    fn what_is_no_program_is_refused_with_its_slot_and_place() {
        let why = Mom::new(vec![slot("a", "(defvar x 1)"), slot("b", "\n  (set x")]).unwrap_err();
        assert!(why.to_string().starts_with("b:2:"), "{why}");
        assert!(serde_json::from_str::<Mom>(r#"[{"name":"b","text":"("}]"#).is_err());
    }
}
