//! Metrics in base units. What holds now is read from the latest report; what happened is counted here.

mod latest;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use overcommit_core::mom::Told;
use overcommit_core::reason::{Failure, Pain, Reason, Spot};
use overcommit_core::units::Bytes;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tracing_appender::non_blocking::ErrorCounter;

use super::{Action, Report};
use latest::Latest;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionLabels {
    direction: &'static str,
    reason: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UndoneLabels {
    failure: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProgramLabels {
    scope: &'static str,
}

/// The reasons for which a balloon is set; of what they hold only their codes are used.
const TAKES: [Reason; 5] = [
    Reason::TakeUnused,
    Reason::TakeCache,
    Reason::TakeEmergency,
    Reason::TakeTurn,
    Reason::TakeProgram(NOWHERE),
];
const GIVES: [Reason; 8] = [
    Reason::GiveDistress(Pain::LowUsable { usable: Bytes::ZERO }),
    Reason::GiveNeed,
    Reason::GiveSlack,
    Reason::GiveBlind,
    Reason::GiveReboot,
    Reason::GiveRelease,
    Reason::GiveExempt,
    Reason::GiveProgram(NOWHERE),
];
const NOWHERE: Spot = Spot { slot: 1, line: 1 };
const FAILURES: [Failure; 5] = [
    Failure::NotFollowed { missing: Bytes::ZERO },
    Failure::Deflated { by: Bytes::ZERO },
    Failure::NotFreed { excess: Bytes::ZERO },
    Failure::Silent,
    Failure::Hurt(Pain::LowUsable { usable: Bytes::ZERO }),
];

/// The agent's metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    latest: Latest,
    actions: Family<ActionLabels, Counter>,
    undone: Family<UndoneLabels, Counter>,
    program_failures: Family<ProgramLabels, Counter>,
    turn: Histogram,
    lost: Counter,
    untold: Counter,
    outputs: Vec<ErrorCounter>,
    /// Why the last take from a guest is being undone.
    undoing: BTreeMap<String, String>,
}

impl Metrics {
    fn new(outputs: Vec<ErrorCounter>) -> Self {
        // From well below a turn without guests to a deadline that was missed.
        let buckets = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];
        Self {
            latest: Latest::default(),
            actions: Family::default(),
            undone: Family::default(),
            program_failures: Family::default(),
            turn: Histogram::new(buckets),
            lost: Counter::default(),
            untold: Counter::default(),
            outputs,
            undoing: BTreeMap::new(),
        }
    }

    /// Registers everything; `outputs` count the lines that they lost.
    pub(crate) fn register(registry: &mut Registry, outputs: Vec<ErrorCounter>) -> Self {
        let metrics = Self::new(outputs);
        metrics.begin_at_zero();
        let ours = registry.sub_registry_with_prefix("overcommit");
        ours.register_collector(Box::new(metrics.latest.clone()));
        ours.register("balloon_actions", "Balloon targets set", metrics.actions.clone());
        ours.register(
            "takes_undone",
            "Takes that were undone, by the expectation that failed",
            metrics.undone.clone(),
        );
        let help = "Evaluations of the policy's program that failed, as a whole or on a guest";
        ours.register("program_failures", help, metrics.program_failures.clone());
        let help = "Time of one turn of the loop";
        ours.register_with_unit("turn_duration", help, Unit::Seconds, metrics.turn.clone());
        let help = "Lines of log and reports that nobody took in time";
        ours.register("lines_lost", help, metrics.lost.clone());
        let help = "Actions that neither the status nor an event tells of, for nobody took them in time";
        ours.register("actions_untold", help, metrics.untold.clone());
        metrics
    }

    /// Every series of a count is there from the start: `increase()` does not see the first event of one that begins with it.
    fn begin_at_zero(&self) {
        for scope in ["program", "guest"] {
            drop(self.program_failures.get_or_create(&ProgramLabels { scope }));
        }
        let undoes = FAILURES.map(Failure::code);
        for failure in undoes {
            drop(self.undone.get_or_create(&UndoneLabels { failure }));
        }
        let takes = TAKES.map(|reason| ("take", reason.code()));
        let gives = GIVES.map(|reason| ("give", reason.code()));
        let undoes = undoes.map(|reason| ("give", reason));
        for (direction, reason) in takes.into_iter().chain(gives).chain(undoes) {
            for result in ["done", "failed"] {
                drop(self.actions.get_or_create(&ActionLabels { direction, reason, result }));
            }
        }
    }

    /// Counts actions that were not told.
    pub(crate) fn untold(&self) -> Counter {
        self.untold.clone()
    }

    /// Takes one report in.
    pub(crate) fn take_in(&mut self, report: &Arc<Report>) {
        self.latest.set(report);
        // What tells of actions is the last turn's report once more; a host that could not be read took no turn.
        if report.actions.is_empty() && report.ledger.is_some() {
            self.turn.observe(report.took.as_secs_f64());
            report.program.iter().filter(|told| told.ran).for_each(|told| self.count_failures(told));
        }
        let lost: usize = self.outputs.iter().map(ErrorCounter::dropped_lines).sum();
        self.lost.inner().store(u64::try_from(lost).unwrap_or(u64::MAX), Ordering::Relaxed);
        for action in &report.actions {
            self.count(action);
        }
        if !report.actions.is_empty() {
            self.forget_gone(report);
        }
    }

    /// What failed in one evaluation.
    fn count_failures(&self, told: &Told) {
        let failed = u64::try_from(told.failed).unwrap_or(u64::MAX);
        for (scope, count) in [("program", u64::from(told.trouble.is_some())), ("guest", failed)] {
            self.program_failures.get_or_create(&ProgramLabels { scope }).inc_by(count);
        }
    }

    fn count(&mut self, action: &Action) {
        let takes = action.to < action.from;
        let direction = if takes { "take" } else { "give" };
        let result = if action.failed.is_none() { "done" } else { "failed" };
        self.actions.get_or_create(&ActionLabels { direction, reason: action.reason, result }).inc();
        if action.failed.is_some() {
            return;
        }
        if takes {
            self.undoing.remove(&action.guest);
        } else if action.undoes {
            // A node that is short pays an undo in parts; all of them say the same of the same take.
            let before = self.undoing.insert(action.guest.clone(), action.why.clone());
            if before.as_ref() != Some(&action.why) {
                self.undone.get_or_create(&UndoneLabels { failure: action.reason }).inc();
            }
        }
    }

    fn forget_gone(&mut self, report: &Report) {
        if !self.undoing.is_empty() {
            let known: Vec<String> = report.guests.iter().map(|guest| guest.name.to_string()).collect();
            self.undoing.retain(|guest, _| known.contains(guest));
        }
    }
}
