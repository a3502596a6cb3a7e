//! What is told of a program beside the reasons of guests.

use std::collections::BTreeSet;
use std::sync::Arc;

use overcommit_policy::Value;
use overcommit_policy::world::Subject;
use serde::{Deserialize, Serialize};

use super::BALLOON;
use crate::ksm::Asked;
use crate::policy::KsmMode;

/// Longest words that are told; a program may make any.
const LONGEST: usize = 400;
/// So many notes are told.
const MOST: usize = 8;
/// Controls of MOM's that `KubeVirt` offers no way to carry out.
const UNSUPPORTED: [&str; 3] = ["vcpu_quota", "vcpu_period", "io_tune"];
/// Controls of the host.
const MERGING: [&str; 4] = ["ksm_run", "ksm_pages_to_scan", "ksm_sleep_millisecs", ACROSS_NODES];
const ACROSS_NODES: &str = "ksm_merge_across_nodes";

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
    /// What it says and nobody here does, in words. Shared, so that turns between two evaluations ask for no memory.
    pub notes: Arc<BTreeSet<String>>,
}

impl Told {
    /// Tells something once.
    pub(super) fn note(&mut self, words: &str) {
        if self.notes.len() < MOST {
            Arc::make_mut(&mut self.notes).insert((*cut(words)).to_owned());
        }
    }

    /// What it told the host: what of that is asked of merging.
    pub(super) fn host(&mut self, host: &Subject, mode: KsmMode) -> Asked {
        for control in host.controls.keys().map(|name| &**name) {
            if !MERGING.contains(&control) {
                self.nobody_acts_on(control);
            } else if mode != KsmMode::Program {
                self.note(&format!("{control} is not applied: the policy's ksm.mode is not Program"));
            }
        }
        if mode != KsmMode::Program {
            return Asked::default();
        }
        if host.controls.contains_key(ACROSS_NODES) {
            self.note(&format!("{ACROSS_NODES} is not applied: everything would have to be unmerged first"));
        }
        let run = self.knob(host, "ksm_run");
        if let Some(run) = run.filter(|run| *run > 1) {
            let why = if run == 2 {
                "what is unmerged at once may be more than the node has"
            } else {
                "the kernel takes no more than 2"
            };
            self.note(&format!("ksm_run {run} is taken as 0: {why}"));
        }
        let pages_to_scan = self.knob(host, "ksm_pages_to_scan");
        let sleep_millisecs = self.knob(host, "ksm_sleep_millisecs");
        Asked { run: run.map(|run| u64::from(run == 1)), pages_to_scan, sleep_millisecs }
    }

    /// A knob's value, as MOM's controller has it: what is behind the point is dropped.
    fn knob(&mut self, host: &Subject, control: &str) -> Option<u64> {
        let value = host.controls.get(control).filter(|value| !value.is_nil())?;
        let whole = match value {
            Value::Bool(truth) => Some(u64::from(*truth)),
            other => other.to_whole().and_then(|whole| u64::try_from(whole).ok()),
        };
        if whole.is_none() {
            self.note(&format!("{control} is not applied: it is no number that the kernel takes"));
        }
        whole
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
