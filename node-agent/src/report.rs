//! What one turn found and did: one value that status, metrics, the socket and the log all render.

pub(crate) mod done;
pub(crate) mod explain;
#[cfg(test)]
mod fixture;
pub(crate) mod lines;
mod material;
pub(crate) mod metrics;
mod pace;
pub(crate) mod status;
mod troubles;
pub(crate) mod writer;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use overcommit_core::ksm::KsmPlan;
use overcommit_core::ledger::Ledger;
use overcommit_core::mom::Told;
use overcommit_core::plan::Move;
use overcommit_core::policy::Mode;
use overcommit_core::ports::PortError;
use overcommit_core::reason::Reason;
use overcommit_core::sample::{HostSample, Sample};
use overcommit_core::step::{Decision, Release};
use overcommit_core::stranger::Unlisted;
use overcommit_core::troubles::Troubles;
use overcommit_core::units::Bytes;
use overcommit_core::view::GuestView;
use overcommit_serve::Beat;
use serde::{Serialize, Serializer};
use tokio::sync::watch;

use crate::kept::Pulse;
use crate::orders::{Orders, Origin, Standing, Version};

/// What has to be declared before any floor is crossed.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Declared {
    /// The node is about to kill guests: floors are those of an emergency.
    pub(crate) emergency: bool,
    /// Guests need more than there is: some wait their turn.
    pub(crate) turns: bool,
}

/// One turn, told.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Wall clock.
    pub(crate) at: jiff::Timestamp,
    /// The policy's name.
    pub(crate) policy: String,
    /// Its revision.
    pub(crate) revision: String,
    /// Which version of the NodeOvercommit was obeyed; absent without Kubernetes.
    pub(crate) version: Option<Version>,
    /// Observe or Enforce.
    pub(crate) mode: Mode,
    /// Taking is paused.
    pub(crate) paused: bool,
    /// The orders come from disk because the API server is away.
    pub(crate) cached: bool,
    /// Since when there are no orders, and the journal alone says who is to be given what; absent while there are.
    pub(crate) orders_missing_since: Option<jiff::Timestamp>,
    /// Since when the API server is silent or refuses what the agent needs; absent while it does not.
    pub(crate) api_failing_since: Option<jiff::Timestamp>,
    /// Whether the object that the orders came from still stands.
    pub(crate) standing: Standing,
    /// The account; absent when the host could not be read.
    pub(crate) ledger: Option<Ledger>,
    /// The host; absent when it could not be read.
    pub(crate) host: Option<HostSample>,
    /// Every guest.
    #[serde(serialize_with = "with_words")]
    pub(crate) guests: Vec<GuestView>,
    /// Pods that look like guests and are not listed.
    pub(crate) unlisted: Unlisted,
    /// What was done now.
    pub(crate) actions: Vec<Action>,
    /// Why floors may be crossed.
    #[serde(flatten)]
    pub(crate) declared: Declared,
    /// How far a release is.
    pub(crate) release: Option<Release>,
    /// Whom it waits for, for people: guests that nobody has seen yet, so that what they are owed is in no sum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) waits_for: Option<String>,
    /// Merging of equal pages.
    #[serde(serialize_with = "ksm_with_words")]
    pub(crate) ksm: KsmPlan,
    /// What became of the policy's program; absent where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) program: Option<Told>,
    /// What does not work, for people.
    pub(crate) troubles: Troubles,
    /// How long the turn took.
    pub(crate) took: Duration,
}

/// A guest with its reason as `docs/reasons.md` has it: for programs beside the reason's own parts.
#[derive(Serialize)]
struct Worded<'a> {
    #[serde(flatten)]
    guest: &'a GuestView,
    code: &'static str,
    why: String,
}

fn with_words<S: Serializer>(guests: &[GuestView], to: S) -> Result<S::Ok, S::Error> {
    let worded = |guest| Worded { guest, code: guest.reason.code(), why: guest.why() };
    to.collect_seq(guests.iter().map(worded))
}

/// The same of merging.
#[derive(Serialize)]
struct WordedKsm<'a> {
    #[serde(flatten)]
    ksm: &'a KsmPlan,
    code: &'static str,
    why: String,
}

fn ksm_with_words<S: Serializer>(ksm: &KsmPlan, to: S) -> Result<S::Ok, S::Error> {
    WordedKsm { ksm, code: ksm.reason.code(), why: ksm.reason.to_string() }.serialize(to)
}

/// One thing done to one guest.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Action {
    /// When.
    pub(crate) at: jiff::Timestamp,
    /// Guest.
    pub(crate) guest: String,
    /// Target before.
    pub(crate) from: Bytes,
    /// Target after.
    pub(crate) to: Bytes,
    /// Why, in one word.
    pub(crate) reason: &'static str,
    /// Why, in a sentence.
    pub(crate) why: String,
    /// It undoes a take that failed.
    pub(crate) undoes: bool,
    /// Why it failed; absent when done.
    pub(crate) failed: Option<String>,
}

impl Report {
    /// A turn that decided.
    pub(crate) fn of(
        orders: &Orders,
        sample: &Sample,
        decision: &Decision,
        others: Troubles,
        took: Duration,
    ) -> Self {
        let mut troubles = troubles(orders);
        troubles.add_own(reserve(orders, &decision.ledger).filter(|_| orders.missing_since().is_none()));
        let kept_from = Some(&decision.ksm.reason).filter(|reason| reason.is_conflict());
        troubles.add_own(kept_from.map(|why| format!("equal pages are not merged: {why}")));
        troubles.add_own(failed(decision));
        troubles.extend(others);
        let refused = |guest: &GuestView| Some(format!("{}: {}", guest.name, guest.program.as_ref()?));
        troubles.add_of_guests(decision.guests.iter().filter_map(refused));
        let contested = |guest: &GuestView| Some(format!("{}: {}", guest.name, guest.contested?));
        troubles.add_of_guests(decision.guests.iter().filter_map(contested));
        let of_guests =
            sample.guests.iter().filter_map(|g| Some(format!("{}: {}", g.name, g.trouble.as_ref()?)));
        troubles.add_of_guests(of_guests);
        Self {
            ledger: Some(decision.ledger),
            host: Some(sample.host.clone()),
            guests: decision.guests.clone(),
            unlisted: decision.unlisted,
            declared: Declared { emergency: decision.emergency, turns: decision.turns },
            release: decision.release,
            ksm: decision.ksm.clone(),
            program: decision.program.clone(),
            troubles,
            took,
            ..Self::blank(orders)
        }
    }

    /// A turn in which the host could not be read.
    pub(crate) fn unreadable(orders: &Orders, error: &PortError) -> Self {
        let mut troubles = troubles(orders);
        troubles.add_own([format!("the host cannot be read, nothing is decided: {error}")]);
        Self { troubles, ..Self::blank(orders) }
    }

    fn blank(orders: &Orders) -> Self {
        Self {
            at: jiff::Timestamp::now(),
            policy: orders.policy_name.clone(),
            revision: orders.revision.clone(),
            version: orders.version.clone(),
            mode: orders.policy.mode,
            paused: orders.paused,
            cached: orders.origin == Origin::Cache,
            orders_missing_since: orders.missing_since(),
            api_failing_since: None,
            standing: orders.standing,
            ledger: None,
            host: None,
            guests: Vec::new(),
            unlisted: Unlisted::default(),
            actions: Vec::new(),
            declared: Declared::default(),
            release: None,
            waits_for: None,
            ksm: KsmPlan::default(),
            program: None,
            troubles: Troubles::default(),
            took: Duration::ZERO,
        }
    }
}

/// Why the policy's program as a whole came to nothing.
fn failed(decision: &Decision) -> Option<String> {
    let why = decision.program.as_ref()?.trouble.as_ref()?;
    Some(format!("the policy's program failed, and nothing that it says is done: {why}"))
}

/// A reserve that nobody can mean.
fn reserve(orders: &Orders, ledger: &Ledger) -> Option<String> {
    let place = if orders.is_standalone() { "spec" } else { "spec.resolved" };
    ledger.reserve_keeps_all().then(|| {
        format!(
            "{place}.reserve.minimum keeps {} of a node that has {} for guests: nothing is taken for that; write less",
            ledger.reserve,
            ledger.reservable(),
        )
    })
}

fn troubles(orders: &Orders) -> Troubles {
    let mut troubles = Troubles::default();
    troubles.add_own(orders.trouble().map(Cow::into_owned));
    troubles
}

impl Action {
    /// What became of a move; `failed` says why it was not done.
    pub(crate) fn of(step: &Move, from: Bytes, to: Bytes, failed: Option<String>) -> Self {
        Self {
            at: jiff::Timestamp::now(),
            guest: step.name.to_string(),
            from,
            to,
            reason: step.reason.code(),
            why: step.reason.to_string(),
            undoes: matches!(step.reason, Reason::Undo(_)),
            failed,
        }
    }
}

/// Hands reports to whoever renders them; never blocks the loop.
#[derive(Debug)]
pub(crate) struct Reporter {
    latest: watch::Sender<Option<Arc<Report>>>,
    done: done::Doing,
    metrics: metrics::Metrics,
    print: Option<lines::Printer>,
    beat: Arc<Beat>,
    pulse: Pulse,
    troubles: troubles::Told,
}

impl Reporter {
    /// A reporter, where the latest report can be watched, and where what was done is taken.
    pub(crate) fn new(
        metrics: metrics::Metrics,
        print: Option<lines::Printer>,
        beat: Arc<Beat>,
        pulse: Pulse,
    ) -> (Self, watch::Receiver<Option<Arc<Report>>>, done::Done) {
        let (latest, receiver) = watch::channel(None);
        let (done, taken) = done::queue(metrics.untold());
        let troubles = troubles::Told::default();
        (Self { latest, done, metrics, print, beat, pulse, troubles }, receiver, taken)
    }

    /// The loop turns, and will again within this time.
    pub(crate) fn beat(&self, wait: Duration) {
        self.beat.back_within(wait);
        self.pulse.back_within(wait);
    }

    /// Everything was asked back: that is to outlive the loop.
    pub(crate) fn released(&mut self) {
        self.pulse.released();
    }

    /// Publishes one report.
    pub(crate) fn publish(&mut self, report: Arc<Report>) {
        for action in &report.actions {
            match &action.failed {
                None => {
                    self.done.tell(action);
                    tracing::info!(guest = action.guest, from = %action.from, to = %action.to, reason = action.reason, "balloon");
                }
                Some(why) => tracing::warn!(guest = action.guest, to = %action.to, why, "balloon not set"),
            }
        }
        self.troubles.log(&report);
        self.metrics.take_in(&report);
        if let Some(printer) = &mut self.print {
            printer.print(&report);
        }
        self.latest.send_replace(Some(report));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_reads_the_code_and_the_words_of_a_reason_beside_its_parts() {
        let told = fixture::report(vec![fixture::guest(1, Reason::GiveNeed)]);
        let json = serde_json::to_value(&told).unwrap();
        let guest = &json["guests"][0];
        assert_eq!((&guest["code"], &guest["why"]), (&"GiveNeed".into(), &"needs more than it has".into()));
        assert_eq!(serde_json::from_value::<GuestView>(guest.clone()).unwrap(), told.guests[0]);
    }
}
