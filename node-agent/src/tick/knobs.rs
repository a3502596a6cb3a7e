//! The kernel's knobs for merging equal pages. What the journal does not know yet is not written, but for what puts them back:
//! giving needs no disk.

use overcommit_core::ksm::{Held, Knobs, KsmPlan, Write, by_hand};

use super::{Loop, Stop};

impl Loop {
    /// Before the host is read for a decision about them: what the journal has held up is decided anew, and while others are
    /// being written nobody knows which are read.
    pub(super) fn prepare_knobs(&mut self) {
        self.forget_knobs();
        self.state.note_knobs(self.parts.knobs.is_writing());
    }

    /// What they are after the last writes of all, for the journal.
    pub(super) fn confirm_knobs(&mut self) {
        if self.parts.knobs.is_writing() || self.state.merging().held().is_none() {
            return;
        }
        if let Some(now) = self.knobs_now() {
            self.state.confirm_knobs(&now);
        }
    }

    /// What is held of them, as far as is known: before the first decision by the journal.
    fn knobs_held(&self) -> Option<Held> {
        self.state.merging().held().or_else(|| self.parts.journal.knobs()).cloned()
    }

    /// As they are; absent where they cannot be read.
    fn knobs_now(&mut self) -> Option<Knobs> {
        self.parts.host.sample().ok()?.ksm?.knobs
    }

    /// Writes what needs no journal, and returns what does.
    pub(super) fn set_knobs(&mut self, plan: &KsmPlan) -> Vec<Write> {
        // Nor does what stops it: tenants that must not be merged do not wait for a disk.
        let stops = !plan.scan && self.parts.journal.knobs().is_some();
        if !plan.ends && !stops {
            return plan.writes.clone();
        }
        self.parts.knobs.write(plan.writes.clone());
        // A hand-over writes the journal last.
        let goes_on = !matches!(self.stopping, Some((Stop::Handover, _)));
        if goes_on && self.parts.journal.knobs() != self.state.merging().held() {
            self.record_all();
        }
        Vec::new()
    }

    /// What of them is not as it was found, now that everything is over, and what to do about it.
    pub(super) fn knobs_left(&mut self) -> Option<String> {
        let mut held = self.knobs_held()?;
        let now = self.knobs_now();
        let left = match &now {
            Some(now) => held.restore(now),
            None => held.not_back(),
        };
        let names = left.iter().map(|write| write.knob.file()).collect::<Vec<_>>().join(", ");
        let hand = &self.parts.knobs;
        let why = match now {
            None => "they cannot be read".to_owned(),
            Some(_) if hand.is_writing() => "they are still being written, which waits for ksmd".to_owned(),
            Some(_) => hand.trouble().unwrap_or_else(|| "nothing was decided".to_owned()),
        };
        (!left.is_empty()).then(|| {
            format!(
                "the kernel's knobs for merging are not as they were found ({names}): {why}. The next agent puts them back, by \
                 its journal; where none is to come, by hand: {}",
                by_hand(&left)
            )
        })
    }

    /// Puts them back where nothing can be decided, as far as nobody else wrote them since.
    pub(super) fn restore_knobs(&mut self) {
        let Some((mut held, now)) = self.knobs_held().zip(self.knobs_now()) else { return };
        let writes = held.restore(&now);
        if !writes.is_empty() {
            tracing::info!("the kernel's knobs for merging are put back");
        }
        self.parts.knobs.write(writes);
    }
}
