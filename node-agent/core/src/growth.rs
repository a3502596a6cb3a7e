//! What a node learns of itself: how fast memory grows, and how long it takes until a guest gave what it was asked for.
//!
//! Both outlive the agent: a successor that begins with nothing learned would promise, for an hour, what its predecessor
//! knew better than to promise.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ledger::{non_guest, resident};
use crate::model::{Model, Track};
use crate::quantile::Window;
use crate::sample::{GuestId, HostMemory, HostSample};
use crate::units::{Bytes, Monotonic, Permille};

/// Which of the times that balloons took counts: almost the longest, whatever part of the growth a policy covers.
const FOLLOWED: Permille = Permille::new(990);
/// A balloon that takes longer is one that the loop does not count on: it has other donors by then.
const LONGEST: Duration = Duration::from_mins(1);

/// What was learned, and what it is learned from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// Bytes per second by which memory that is no guest's grew, one for each control period.
    non_guest: Window<Bytes>,
    /// The same of the guests' resident memory.
    resident: Window<Bytes>,
    /// How long balloons took from a take until they had followed.
    followed: Window<Duration>,
    /// The last reading.
    last: Option<Last>,
    /// What was no guest when the host and all guests were last read at one moment.
    known: Option<Bytes>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Last {
    at: Monotonic,
    guests: Vec<GuestId>,
    non_guest: Bytes,
    resident: Bytes,
}

impl Growth {
    /// What a successor can use of it: between the two nobody looked.
    #[must_use]
    pub fn inherited(self) -> Self {
        Self { last: None, known: None, ..self }
    }

    /// Notes one control period's growth of non-guest and of resident guest memory. Growth between two sets of guests
    /// says nothing: a guest that is not known yet looks like memory of the node's own.
    pub fn note(&mut self, host: &HostSample, model: &Model, at: Monotonic, interval: Duration) {
        if model.tracks().any(Track::is_dated) {
            self.last = None;
            return;
        }
        let guests: Vec<GuestId> = model.tracks().map(|t| t.sample.id.clone()).collect();
        let non_guest = non_guest(&host.memory, model, |_| true);
        let now = Last { at, guests, non_guest, resident: resident(model) };
        match self.last.as_ref().filter(|last| last.guests == now.guests) {
            // A turn out of schedule: its growth belongs to the next one's.
            Some(last) if at.since(last.at).saturating_mul(2) < interval => return,
            Some(last) => {
                let elapsed = at.since(last.at);
                self.non_guest.push(per_second(now.non_guest.minus(last.non_guest), elapsed));
                self.resident.push(per_second(now.resident.minus(last.resident), elapsed));
            }
            None => {}
        }
        self.last = Some(now);
    }

    /// What is no guest. Where the facts of a guest are older than the host's nobody knows whether memory that came or
    /// went since is that guest's: it is what it was when that could be told last, but no less than with all that the
    /// guest held then, and no more than with nothing of it.
    pub fn own(&mut self, memory: &HostMemory, model: &Model) -> Bytes {
        let least = non_guest(memory, model, |_| true);
        if model.tracks().all(|t| !t.is_dated()) {
            self.known = Some(least);
        }
        let most = non_guest(memory, model, |t| !t.is_dated());
        self.known.unwrap_or(most).max(least).min(most)
    }

    /// Notes balloons that have followed; each turn, for it is told once.
    pub fn note_followed(&mut self, model: &Model) {
        for took in model.tracks().filter_map(|track| track.followed_within) {
            self.followed.push(took.min(LONGEST));
        }
    }

    /// From the moment at which memory is gone until guests have given as much: it is noticed a control period later at
    /// most, and then their balloons have to follow. Where none has followed yet, they are given a control period.
    pub fn reaction(&self, interval: Duration) -> Duration {
        interval.saturating_add(self.followed.quantile(FOLLOWED).unwrap_or(interval))
    }

    /// What memory that is no guest's may grow within `reaction`, by this quantile.
    pub fn of_non_guest(&self, quantile: Permille, reaction: Duration) -> Bytes {
        within(self.non_guest.quantile(quantile), reaction)
    }

    /// What the guests' resident memory may grow within `reaction`, by this quantile.
    pub fn of_resident(&self, quantile: Permille, reaction: Duration) -> Bytes {
        within(self.resident.quantile(quantile), reaction)
    }
}

fn per_second(grown: Bytes, elapsed: Duration) -> Bytes {
    grown.scaled(1000, millis(elapsed).max(1))
}

fn within(rate: Option<Bytes>, time: Duration) -> Bytes {
    rate.unwrap_or_default().scaled(millis(time), 1000)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reaction_is_a_control_period_and_what_balloons_took() {
        let mut growth = Growth::default();
        let seconds = Duration::from_secs;
        assert_eq!(growth.reaction(seconds(5)), seconds(10), "nothing is known: two control periods");
        for second in 1..=10 {
            growth.followed.push(seconds(second));
        }
        assert_eq!(growth.reaction(seconds(5)), seconds(15));
    }

    #[test]
    fn growth_is_a_rate_whatever_the_control_period_was() {
        let mut growth = Growth::default();
        growth.non_guest.push(per_second(Bytes::from_mib(50), Duration::from_secs(5)));
        growth.non_guest.push(per_second(Bytes::from_mib(600), Duration::from_mins(1)));
        let all = Permille::new(1000);
        assert_eq!(growth.of_non_guest(all, Duration::from_secs(10)), Bytes::from_mib(100));
        assert_eq!(growth.of_resident(all, Duration::from_secs(10)), Bytes::ZERO);
    }

    #[test]
    fn what_was_learned_survives_being_written_and_read() {
        let mut growth = Growth::default();
        growth.non_guest.push(Bytes::from_mib(3));
        growth.followed.push(Duration::from_millis(2500));
        let read: Growth = serde_json::from_str(&serde_json::to_string(&growth).unwrap()).unwrap();
        assert_eq!(read, growth);
    }

    #[test]
    fn a_file_that_holds_too_much_is_cut_to_the_window() {
        let many = vec![Bytes::from_mib(1); 5000];
        let text = serde_json::json!({ "seen": many }).to_string();
        let window: Window<Bytes> = serde_json::from_str(&text).unwrap();
        assert_eq!(window.len(), Window::<Bytes>::CAPACITY);
    }
}
