//! Merging equal pages (KSM): run when it pays, scan as fast as it pays, stop when it does not. Pure; docs/ksm.md has the rule.
//!
//! Nothing here is budget: what is merged comes apart as guests write. One writer per knob: what somebody else set is never
//! overwritten, and what was found is put back when the policy ends, on a release, and with every hand-over, because nobody
//! would look after tenants then.

mod asked;
mod control;
mod judge;
mod knobs;
mod need;
mod reason;
mod tenants;
#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::unchecked_time_subtraction,
    reason = "a kernel in a test: what overflows there fails it"
)]
mod tests;

use serde::{Deserialize, Serialize};

pub use asked::Asked;
pub use control::{CEILING_PRESSED, CEILING_WANTED};
pub use knobs::{Advisor, Foreign, Held, Knob, Knobs, Write, by_hand};
pub use need::Need;
pub use reason::Reason;

use crate::ledger::Ledger;
use crate::policy::{KsmMode, Mode, Policy};
use crate::roster::Roster;
use crate::sample::Sample;
use crate::step::{Mandate, Turn};
use crate::units::{Bytes, Permille};
use control::{Control, Pace};
use tenants::{Settled, Tenants};

/// Foreign values are seen so often in a row before they count: a reading may fall between two writes of one change.
const SURE: u32 = 2;

/// What lasts from turn to turn.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Merging {
    held: Option<Held>,
    /// It comes from a journal, and was not looked at yet.
    adopted: bool,
    /// What was decided is being written: what is read may be of before or after that.
    #[serde(default)]
    under_way: bool,
    /// So often in a row a value was there that nobody here wrote.
    suspected: u32,
    settled: Settled,
    need: Need,
    control: Control,
    told: Reason,
}

/// What a decision rests on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene<'a> {
    pub(crate) sample: &'a Sample,
    pub(crate) policy: &'a Policy,
    pub(crate) roster: &'a Roster,
    pub(crate) ledger: &'a Ledger,
    pub(crate) turn: Turn,
    pub(crate) mandate: Mandate,
    /// What the policy's program asks for.
    pub(crate) asked: Asked,
}

/// What was decided about merging.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KsmPlan {
    /// Why.
    pub reason: Reason,
    /// ksmd is to scan; while observing, would be.
    pub scan: bool,
    /// What to write, in this order.
    pub writes: Vec<Write>,
    /// They put back what was found, or the knobs are somebody else's: nothing more is held than is known already.
    pub ends: bool,
    /// The policy observes: nothing is written.
    pub observing: bool,
    /// What merging saves now.
    pub merged: Bytes,
    /// The same less what the kernel needs to keep track of it (`general_profit`); absent where the kernel does not say.
    pub profit: Option<i64>,
    /// ksmd's share of one CPU since the decision before; absent where it cannot be seen.
    pub cpu: Option<Permille>,
}

impl KsmPlan {
    /// Nobody asked for merging, and nothing is to be done about it.
    pub fn is_unasked(&self) -> bool {
        self.reason == Reason::Off && self.writes.is_empty()
    }
}

/// What the knobs should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// As they are: they are somebody else's.
    HandsOff,
    /// Whoever wrote that has them from now on; the others as they were found.
    GiveWay(Foreign),
    /// As they were found.
    Restore,
    /// The same, and somebody else has begun to write them.
    RestoreBeside,
    /// ksmd rests; what is merged stays merged.
    Stop,
    /// ksmd scans so many pages between two sleeps.
    Scan(Pace),
    /// ksmd scans as these knobs say.
    Set(Knobs),
}

impl Merging {
    /// Takes over what a journal knows: what was found, and what was written last.
    pub fn adopt(&mut self, held: Held) {
        (self.held, self.adopted) = (Some(held), true);
    }

    /// Whether what was decided is still being written, when the sample of the next decision is taken.
    pub fn note_writing(&mut self, under_way: bool) {
        self.under_way = under_way;
    }

    /// What was noted of that last.
    pub fn is_writing(&self) -> bool {
        self.under_way
    }

    /// Takes in what is there once all was written: what a knob was before is nobody's here any more.
    pub fn confirm(&mut self, now: &Knobs) {
        if let Some(held) = self.held.as_mut().filter(|held| held.yielded.is_none()) {
            held.confirm(now);
        }
    }

    /// What is held of the kernel's knobs, to be kept for a successor; absent while nothing is.
    pub fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    pub(crate) fn decide(&mut self, scene: &Scene<'_>) -> KsmPlan {
        let host = &scene.sample.host;
        let Some(ksm) = host.ksm else {
            let reason = if host.ksm_unread { Reason::NoKnobs } else { Reason::NoKsm };
            let writes = self.stop_unseen(scene);
            return KsmPlan { reason: asked(scene, reason), writes, ..KsmPlan::default() };
        };
        let observing = scene.policy.mode == Mode::Observe;
        let plan = |reason, scan, writes, cpu| KsmPlan {
            reason,
            scan,
            writes,
            ends: false,
            observing,
            merged: ksm.sharing,
            profit: ksm.profit,
            cpu,
        };
        if !matches!(scene.turn, Turn::Tick | Turn::Handover) {
            return plan(self.told, ksm.run == 1, Vec::new(), self.control.share());
        }
        let Some(knobs) = ksm.knobs else {
            return plan(asked(scene, Reason::NoKnobs), false, self.stop_unseen(scene), None);
        };
        if !self.under_way {
            self.take_in(&knobs);
        }
        self.control.measure(&ksm, scene.sample.at);
        let (wish, reason) = self.wish(scene, &knobs);
        self.told = reason;
        let scans = matches!(wish, Wish::Scan(_) | Wish::Set(_));
        let ours = scans || wish == Wish::Stop;
        let wish_now = if observing && ours { Wish::Restore } else { wish };
        // One at a time: what would be decided now is decided once it is known what came of the last.
        let writes = if self.under_way { Vec::new() } else { self.carry_out(wish_now, &knobs) };
        let ends = observing || !ours;
        KsmPlan { ends, ..plan(reason, scans, writes, self.control.share()) }
    }

    fn wish(&mut self, scene: &Scene<'_>, knobs: &Knobs) -> (Wish, Reason) {
        let rule = &scene.policy.ksm;
        let ended = match (rule.mode, scene.mandate, scene.turn) {
            (KsmMode::Off, ..) => Some(Reason::Off),
            (_, Mandate::Release, _) => Some(Reason::Released),
            (.., Turn::Handover) => Some(Reason::HandedOver),
            _ => None,
        };
        if let Some(reason) = ended {
            self.control = Control::default();
            // Whoever has them is forgotten with the wish to have them, and not by a hand-over.
            let over = reason != Reason::HandedOver;
            self.held = self.held.take().filter(|held| !over || held.yielded.is_none());
            return (Wish::Restore, reason);
        }
        if let Some(by) = scene.roster.ksm_manager() {
            return (Wish::RestoreBeside, Reason::Managed { by });
        }
        if let Some(foreign) = self.held.as_ref().and_then(|held| held.yielded) {
            return (Wish::HandsOff, Reason::Yielded(foreign));
        }
        if let Some(foreign) = self.look_for_others(knobs) {
            return (Wish::GiveWay(foreign), Reason::Yielded(foreign));
        }
        if knobs.run > 1 {
            return (Wish::HandsOff, Reason::Unmerged);
        }
        match self.objection(scene) {
            Some(reason) => {
                match (reason, &scene.sample.host.ksm) {
                    (Reason::NotNeeded, Some(ksm)) => {
                        self.control.give_up(ksm, scene.sample.at, &scene.sample.guests);
                    }
                    _ => self.control.stop(),
                }
                // Whoever is paused begins nothing.
                let begins = reason == Reason::Paused && self.held.is_none();
                (if begins { Wish::HandsOff } else { Wish::Stop }, reason)
            }
            None if rule.mode == KsmMode::Program => self.obey(&scene.asked, knobs),
            None => self.scan(scene),
        }
    }

    /// What stands in the knobs cannot be read. Guests that are not to be merged with each other are not merged for that: what was
    /// set to scan is stopped, each time anew until it is seen to rest.
    fn stop_unseen(&mut self, scene: &Scene<'_>) -> Vec<Write> {
        let Some(now) = self.held.as_ref().and_then(Held::scanning) else { return Vec::new() };
        let parts = Tenants::of(scene.sample, scene.roster).objection(scene.policy.ksm).is_some();
        let due = scene.turn == Turn::Tick && !self.under_way && parts;
        if due { self.carry_out(Wish::Stop, &now) } else { Vec::new() }
    }

    /// As the policy's program says in this cycle. What it does not name stays as it is, but for what a stop of ours left there.
    fn obey(&self, asked: &Asked, now: &Knobs) -> (Wish, Reason) {
        if asked.is_silent() {
            return (Wish::Restore, Reason::ProgramSilent);
        }
        let now = self.held.as_ref().and_then(|held| held.found_before_stop(now)).unwrap_or(*now);
        let wish = if asked.scans(&now) { Wish::Set(asked.knobs(&now)) } else { Wish::Stop };
        (wish, Reason::Program)
    }

    /// Why ksmd must not scan at all now.
    fn objection(&mut self, scene: &Scene<'_>) -> Option<Reason> {
        let tenants = Tenants::of(scene.sample, scene.roster);
        let settled = self.settled.since(&tenants, scene.sample.at);
        self.need = self.need.next(&scene.sample.host.memory, scene.ledger.promised);
        let (rule, differ) = (scene.policy.ksm, tenants.objection(scene.policy.ksm));
        match tenants {
            _ if scene.mandate == Mandate::GiveOnly => Some(Reason::Paused),
            Tenants::Nobody => Some(Reason::NoGuests),
            _ if differ.is_some() => differ,
            // Whether it is needed is the program's to say.
            _ if self.need == Need::Plenty && rule.mode == KsmMode::Auto => Some(Reason::NotNeeded),
            _ if !rule.across_namespaces && !settled => Some(Reason::TenantsSettle),
            _ => None,
        }
    }

    fn scan(&mut self, scene: &Scene<'_>) -> (Wish, Reason) {
        let Some(ksm) = scene.sample.host.ksm else { return (Wish::Stop, Reason::NoKsm) };
        let (pace, reason) = self.control.next(&ksm, scene.sample.at, self.need, &scene.sample.guests);
        (pace.map_or(Wish::Stop, Wish::Scan), reason)
    }

    /// What came of what was written last.
    fn take_in(&mut self, knobs: &Knobs) {
        // Put back by whoever ended before it could say so.
        if std::mem::take(&mut self.adopted) && self.held.as_ref().is_some_and(|held| held.is_back(knobs)) {
            self.held = None;
        }
        self.confirm(knobs);
    }

    /// A value that nobody here wrote, once that is sure.
    fn look_for_others(&mut self, knobs: &Knobs) -> Option<Foreign> {
        let held = self.held.as_mut().filter(|_| !self.under_way)?;
        let Some(foreign) = held.foreign(knobs) else {
            held.settle(knobs);
            self.suspected = 0;
            return None;
        };
        self.suspected = self.suspected.saturating_add(1);
        Some(foreign).filter(|_| self.suspected >= SURE)
    }

    fn carry_out(&mut self, wish: Wish, now: &Knobs) -> Vec<Write> {
        match wish {
            Wish::Restore => self.restore(|held| held.restore(now)),
            Wish::RestoreBeside => self.restore(|held| held.put_back(now, true)),
            Wish::HandsOff => Vec::new(),
            Wish::GiveWay(to) => self.held.as_mut().map(|held| held.give_way(to, now)).unwrap_or_default(),
            // What rests already is nobody's business.
            Wish::Stop if self.held.is_none() && now.run == 0 => Vec::new(),
            Wish::Stop => {
                // What is stopped already was not stopped by this.
                let sleep_millisecs = if now.run == 0 { now.sleep_millisecs } else { knobs::STOPPED_SLEEP };
                self.hold(now).want(now, &Knobs { run: 0, sleep_millisecs, ..*now })
            }
            Wish::Scan(pace) => self.hold(now).want(now, &pace.knobs(now)),
            Wish::Set(knobs) => self.hold(now).want(now, &knobs),
        }
    }

    fn hold(&mut self, now: &Knobs) -> &mut Held {
        self.held.get_or_insert_with(|| Held::new(*now))
    }

    /// Puts back what is still as it was written here; nothing is held once there is nothing to put back, but whose they are.
    fn restore(&mut self, put_back: impl FnOnce(&mut Held) -> Vec<Write>) -> Vec<Write> {
        self.suspected = 0;
        let writes = self.held.as_mut().map(put_back).unwrap_or_default();
        if writes.is_empty() {
            self.held = self.held.take().filter(|held| held.yielded.is_some());
        }
        writes
    }
}

/// Of what nobody asked for nothing is told.
fn asked(scene: &Scene<'_>, reason: Reason) -> Reason {
    if scene.policy.ksm.mode == KsmMode::Off { Reason::Off } else { reason }
}
