//! What is told of a program beside the reasons of guests.

use std::collections::BTreeSet;
use std::sync::Arc;

use overcommit_policy::world::Subject;
use serde::{Deserialize, Serialize};

use super::BALLOON;

/// Longest words that are told; a program may make any.
const LONGEST: usize = 400;
/// So many notes are told.
const MOST: usize = 8;
/// Controls of MOM's that `KubeVirt` offers no way to carry out.
const UNSUPPORTED: [&str; 3] = ["vcpu_quota", "vcpu_period", "io_tune"];
/// Controls of the host.
const MERGING: [&str; 4] = ["ksm_run", "ksm_pages_to_scan", "ksm_sleep_millisecs", "ksm_merge_across_nodes"];

/// What became of the last evaluation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The program was evaluated in this turn.
    pub ran: bool,
    /// Why nothing that it said counts: its place, and what is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Arc<str>>,
    /// Guests on which it failed, or for which it proposed what is no size.
    pub failed: usize,
    /// What it says and nobody here does, in words.
    pub notes: BTreeSet<String>,
}

impl Told {
    /// Tells something once.
    pub(super) fn note(&mut self, words: &str) {
        if self.notes.len() < MOST {
            self.notes.insert((*cut(words)).to_owned());
        }
    }

    /// What it told the host.
    pub(super) fn host(&mut self, host: &Subject) {
        for control in host.controls.keys().map(|name| &**name) {
            if MERGING.contains(&control) {
                self.note(&format!(
                    "{control} is not applied: the policy's ksm.mode leaves merging to others"
                ));
            } else {
                self.nobody_acts_on(control);
            }
        }
    }

    /// What it told a guest.
    pub(super) fn guest(&mut self, guest: &Subject) {
        for control in guest.controls.keys().map(|name| &**name).filter(|name| *name != BALLOON) {
            self.nobody_acts_on(control);
        }
    }

    fn nobody_acts_on(&mut self, control: &str) {
        if UNSUPPORTED.contains(&control) {
            self.note(&format!("{control} is not supported: KubeVirt offers no way to do it"));
        } else {
            self.note(&format!("nobody acts on the control {control}"));
        }
    }
}

/// Words of bounded length.
pub(super) fn cut(words: &str) -> Arc<str> {
    match words.char_indices().nth(LONGEST) {
        Some((end, _)) => words.get(..end).unwrap_or_default().into(),
        None => words.into(),
    }
}
