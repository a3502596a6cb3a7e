//! What an outcome is an outcome of: what was run, and on which machine. Outcomes of different ones are never compared.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use overcommit_tests::about;
use overcommit_tests::cost::released;
use overcommit_tests::guest_image::GUEST_KERNEL;
use overcommit_tests::parts::{KSMTUNED, MOM, fingerprint};
use serde::{Deserialize, Serialize};

/// Sources that shape a window. Others only tell of it.
const SOURCES: [&str; 9] = [
    include_str!("controller.rs"),
    include_str!("looks.rs"),
    include_str!("pace.rs"),
    include_str!("scenario.rs"),
    include_str!("swap.rs"),
    include_str!("window.rs"),
    include_str!("../../bin/valve.rs"),
    include_str!("../../support/guests/spec.rs"),
    include_str!("../../support/squeeze.rs"),
];

/// What was run, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// Hash of the bench with its policies, the agent, what the guests boot, and the peers.
    pub(crate) build: String,
    /// In words.
    pub(crate) machine: String,
}

impl Origin {
    /// This build on this machine.
    ///
    /// # Errors
    /// When a part of it cannot be found.
    pub(crate) fn here() -> Result<Self> {
        let agent = released("overcommit-agent")?;
        Ok(Self {
            build: build(&SOURCES, &agent, &[&GUEST_KERNEL.hash()?, &MOM.hash()?, &KSMTUNED.hash()?])?,
            machine: about::description()?,
        })
    }
}

fn build(sources: &[&str], agent: &Path, parts: &[&str]) -> Result<String> {
    let agent = fs::read(agent).with_context(|| agent.display().to_string())?;
    let texts = sources.iter().chain(parts).map(|text| text.as_bytes());
    Ok(fingerprint(texts.chain([agent.as_slice()])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_source_agent_or_part_is_another_build() {
        let dir = tempfile::tempdir().unwrap();
        let agent = dir.path().join("agent");
        let of = |sources: &[&str], program: &str, parts: &[&str]| {
            fs::write(&agent, program).unwrap();
            build(sources, &agent, parts).unwrap()
        };
        let first = of(&["a", "b"], "agent", &["image", "peer"]);
        assert_eq!(first, of(&["a", "b"], "agent", &["image", "peer"]));
        for other in [
            of(&["ab", ""], "agent", &["image", "peer"]),
            of(&["a", "b"], "agent 2", &["image", "peer"]),
            of(&["a", "b"], "agent", &["image 2", "peer"]),
            of(&["a", "b"], "agent", &["image", "peer 2"]),
        ] {
            assert_ne!(first, other);
        }
    }
}
