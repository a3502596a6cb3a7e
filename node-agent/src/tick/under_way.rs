//! What was sent and nobody has answered yet. It may be in force already: until then the journal says that it is.

use std::collections::BTreeMap;

use overcommit_core::plan::{Command, Outcome};
use overcommit_core::sample::GuestId;
use overcommit_core::step::SQUEEZED_PERIOD;
use overcommit_core::units::Bytes;

use super::Loop;

/// What was there before has to be on disk first: a size that is lowered, and a period that is shortened.
pub(super) fn changes_what_was_found(command: &Command) -> bool {
    command.takes() || matches!(command, Command::SetPeriod { seconds: SQUEEZED_PERIOD, .. })
}

/// Such commands, in the order in which they were sent. Each is answered at last, if only by its time being over.
#[derive(Debug, Default)]
pub(super) struct UnderWay(Vec<Command>);

impl UnderWay {
    pub(super) fn sent(&mut self, commands: &[Command]) {
        self.0.extend(commands.iter().filter(|command| changes_what_was_found(command)).cloned());
    }

    pub(super) fn answered(&mut self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            if let Some(place) = self.0.iter().position(|command| *command == outcome.command) {
                self.0.remove(place);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Loop {
    /// To what guests' targets are lowered by these commands and by those that are under way, if they are carried out. Whose
    /// statistics alone are hurried keeps what it holds.
    pub(super) fn lowered_by(&self, commands: &[Command]) -> BTreeMap<GuestId, Bytes> {
        let mut lowered = BTreeMap::new();
        for command in self.under_way.0.iter().chain(commands) {
            let (id, to) = match command {
                Command::SetTarget { id, to, .. } => (id, Some(*to)),
                Command::SetPeriod { id, .. } => (id, self.keeps(id)),
            };
            if let Some(to) = to {
                lowered
                    .entry(id.clone())
                    .and_modify(|known: &mut Bytes| *known = to.min(*known))
                    .or_insert(to);
            }
        }
        lowered
    }

    /// The target of a guest, or what it holds if it never had one.
    fn keeps(&self, id: &GuestId) -> Option<Bytes> {
        let target = self.state.dealings().of(id).and_then(|dealing| dealing.target);
        target.or_else(|| self.state.model().track(id).map(|track| track.actual))
    }
}
