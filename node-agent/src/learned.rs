//! What a node learned of itself, kept on its disk for the next agent: growth, and how fast balloons follow. Nothing in it
//! is needed to give anything back; without it the agent learns anew.

use std::time::{Duration, Instant};

use overcommit_core::growth::Growth;

use crate::envelope;
use crate::state_dir::StateDir;

/// Its name in the state directory.
pub(crate) const FILE: &str = "learned";
/// Written this often: what an hour taught is worth no disk write each turn.
const SPACING: Duration = Duration::from_mins(5);

/// What a predecessor learned; nothing where there is no file. One that cannot be understood is set aside.
pub(crate) fn read(dir: &StateDir) -> Growth {
    let read = dir.read(FILE).map_err(|e| e.to_string());
    match read.and_then(|content| content.map_or(Ok(None), |c| envelope::open(&c).map(Some))) {
        Ok(learned) => learned.unwrap_or_default(),
        Err(why) => {
            let aside = dir.set_aside(FILE);
            tracing::warn!(why, aside, "what was learned of this node cannot be read; it is learned anew");
            Growth::default()
        }
    }
}

/// When to write it next.
#[derive(Debug)]
pub(crate) struct Pace(Instant);

impl Pace {
    /// Not at once: nothing is new yet.
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }

    /// True if it is time, which counts as done.
    pub(crate) fn is_due(&mut self) -> bool {
        let due = self.0.elapsed() >= SPACING;
        if due {
            self.0 = Instant::now();
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_set_aside_and_learned_anew() {
        let temp = tempfile::tempdir().unwrap();
        let dir = StateDir::open(temp.path()).unwrap();
        assert_eq!(read(&dir), Growth::default());
        let whole = envelope::seal(&Growth::default());
        dir.replace(FILE, &whole).unwrap();
        assert_eq!(read(&dir), Growth::default());
        assert!(!temp.path().join("learned.corrupt").exists());
        dir.replace(FILE, &whole[..whole.len() - 2]).unwrap();
        assert_eq!(read(&dir), Growth::default());
        assert!(temp.path().join("learned.corrupt").exists());
    }
}
