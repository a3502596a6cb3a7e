//! What a node learns of itself: how much memory grows while it reacts, and how long it takes until a guest gave what it was asked for.
//!
//! Both outlive the agent: a successor that begins with nothing learned would promise, for an hour, what its predecessor
//! knew better than to promise.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::apart::Apart;
use crate::ledger::{Merged, non_guest, resident};
use crate::model::Model;
use crate::quantile::{Window, nearest_rank};
use crate::sample::{GuestId, HostSample};
use crate::units::{Bytes, Monotonic, Permille};

/// Which of the guests' times counts: three quarters give as fast, and the loop does not wait for the others.
const FOLLOWED: Permille = Permille::new(750);
/// A balloon that takes longer is one that the loop does not count on: it has other donors by then.
const LONGEST: Duration = Duration::from_mins(1);
/// Guests that left tell how fast balloons are on this node, too; and an agent that starts hears of its guests one after
/// the other. As many are remembered as a node has pods by default (kubelet, `maxPods`).
const REMEMBERED: usize = 110;

/// What was learned, and what it is learned from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// By how much memory that is no guest's grew within a reaction; looked at once each control period.
    non_guest: Window<Bytes>,
    /// The same of the guests' resident memory.
    resident: Window<Bytes>,
    /// How long each guest's balloon took from its last take until it had followed.
    followed: BTreeMap<GuestId, Duration>,
    /// Readings of the last reaction, the oldest first, all of the same guests.
    course: VecDeque<Reading>,
    /// The guests of the course.
    guests: Vec<GuestId>,
    /// What was no guest when the host and all guests were last read at one moment.
    known: Option<Bytes>,
    /// What was merged when the kernel said so last.
    // By another name than what an earlier build wrote down, which was something else.
    #[serde(default, rename = "merged_last", skip_serializing_if = "Merged::is_nothing")]
    merged: Merged,
    /// The times in `followed`, in order.
    #[serde(skip)]
    times: Apart<Vec<Duration>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Reading {
    at: Monotonic,
    non_guest: Bytes,
    resident: Bytes,
}

impl Growth {
    /// What a successor can use of it: between the two nobody looked.
    #[must_use]
    pub fn inherited(self) -> Self {
        Self { course: VecDeque::new(), guests: Vec::new(), known: None, merged: Merged::default(), ..self }
    }

    /// Notes what grew within the last reaction: a rise as it was, and no rate, for a burst of seconds says nothing of
    /// what would come in a minute. Growth between two sets of guests says nothing either: a guest that is not known yet
    /// looks like memory of the node's own, as does one that was not looked at yet.
    pub fn note(&mut self, host: &HostSample, model: &Model, at: Monotonic, interval: Duration) {
        self.merged = Merged::on(host, self.merged);
        let same = model.tracks().map(|t| &t.sample.id).eq(&self.guests);
        let dated = model.tracks().any(|t| t.is_dated() || t.is_unseen());
        if !same || dated {
            self.course.clear();
            self.guests.clear();
            self.guests.extend(model.tracks().map(|t| t.sample.id.clone()));
        }
        if dated {
            return;
        }
        // A turn out of schedule: its growth belongs to the next one's.
        if self.course.back().is_some_and(|last| at.since(last.at).saturating_mul(2) < interval) {
            return;
        }
        let reaction = self.reaction(interval);
        while self.course.front().is_some_and(|first| at.since(first.at) > reaction) {
            self.course.pop_front();
        }
        let non_guest = non_guest(&host.memory, &self.merged, model, |_| true);
        let now = Reading { at, non_guest, resident: resident(model) };
        let rise = |of: fn(&Reading) -> Bytes| Some(of(&now).minus(self.course.iter().map(of).min()?));
        if let Some((non_guest, resident)) = rise(|r| r.non_guest).zip(rise(|r| r.resident)) {
            self.non_guest.push(non_guest);
            self.resident.push(resident);
        }
        self.course.push_back(now);
    }

    /// What is no guest. Where the facts of a guest are older than the host's nobody knows whether memory that came or
    /// went since is that guest's: it is what it was when that could be told last, but no less than with all that the
    /// guest held then, and no more than with nothing of it.
    pub fn own(&mut self, host: &HostSample, model: &Model) -> Bytes {
        let (memory, merged) = (&host.memory, Merged::on(host, self.merged));
        let least = non_guest(memory, &merged, model, |_| true);
        if model.tracks().all(|t| !t.is_dated()) {
            self.known = Some(least);
        }
        let most = non_guest(memory, &merged, model, |t| !t.is_dated());
        self.known.unwrap_or(most).max(least).min(most)
    }

    /// Notes balloons that have followed; each turn, for it is told once. A guest has one word, however often it was
    /// taken from.
    pub fn note_followed(&mut self, model: &Model) {
        for (id, took) in model.tracks().filter_map(|t| Some((&t.sample.id, t.followed_within?))) {
            if took <= LONGEST {
                self.followed.insert(id.clone(), took);
            } else {
                self.followed.remove(id);
            }
        }
        if self.followed.len() > model.tracks().count().saturating_add(REMEMBERED) {
            self.followed.retain(|id, _| model.track(id).is_some());
        }
    }

    /// From the moment at which memory is gone until guests have given as much: it is noticed a control period later at
    /// most, and then their balloons have to follow. Where none has followed yet, they are given a control period.
    pub fn reaction(&mut self, interval: Duration) -> Duration {
        let Apart(times) = &mut self.times;
        times.clear();
        times.extend(self.followed.values());
        times.sort_unstable();
        interval.saturating_add(nearest_rank(times, FOLLOWED).unwrap_or(interval))
    }

    /// What memory that is no guest's may grow within a reaction, by this quantile.
    pub fn of_non_guest(&self, quantile: Permille) -> Bytes {
        self.non_guest.quantile(quantile).unwrap_or_default()
    }

    /// What the guests' resident memory may grow within a reaction, by this quantile.
    pub fn of_resident(&self, quantile: Permille) -> Bytes {
        self.resident.quantile(quantile).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::HostMemory;

    fn follows(times: impl IntoIterator<Item = u64>) -> Growth {
        let named = |(n, time)| (GuestId::new(format!("g{n}")), Duration::from_secs(time));
        Growth { followed: times.into_iter().enumerate().map(named).collect(), ..Growth::default() }
    }

    #[test]
    fn a_reaction_is_a_control_period_and_what_most_balloons_take() {
        let seconds = Duration::from_secs;
        assert_eq!(follows([]).reaction(seconds(5)), seconds(10), "nothing is known: two control periods");
        assert_eq!(
            follows([2, 60, 1, 3]).reaction(seconds(5)),
            seconds(8),
            "one that is slow is not waited for"
        );
    }

    #[test]
    fn a_burst_counts_as_what_it_was_and_not_as_a_rate() {
        let (mut growth, model) = (Growth::default(), Model::default());
        let all = Permille::new(1000);
        for second in (0..600).step_by(5) {
            // 2 GiB come within five seconds, and go again.
            let anon = Bytes::from_gib(if (300..400).contains(&second) { 2 } else { 0 });
            let memory = HostMemory { anon, ..HostMemory::default() };
            let host = HostSample { memory, ..HostSample::default() };
            growth.note(&host, &model, Monotonic::new(Duration::from_secs(second)), Duration::from_secs(5));
        }
        assert_eq!(growth.of_non_guest(all), Bytes::from_gib(2));
        assert_eq!(growth.of_non_guest(Permille::new(500)), Bytes::ZERO);
    }

    #[test]
    fn what_was_learned_survives_being_written_and_read() {
        let mut growth = follows([2]);
        growth.non_guest.push(Bytes::from_mib(3));
        let read: Growth = serde_json::from_str(&serde_json::to_string(&growth).unwrap()).unwrap();
        assert_eq!(read, growth);
    }

    #[test]
    fn a_successor_that_knows_no_guest_yet_keeps_how_long_their_balloons_took() {
        let mut growth = follows([20, 20, 20]);
        growth.note_followed(&Model::default());
        assert_eq!(growth.reaction(Duration::from_secs(5)), Duration::from_secs(25));
    }

    #[test]
    fn guests_that_left_are_forgotten_before_they_are_too_many() {
        let mut growth = follows(std::iter::repeat_n(20, REMEMBERED + 1));
        growth.note_followed(&Model::default());
        assert_eq!(growth.followed, BTreeMap::new());
    }

    #[test]
    fn a_file_that_holds_too_much_is_cut_to_the_window() {
        let many = vec![Bytes::from_mib(1); 5000];
        let text = serde_json::json!({ "seen": many }).to_string();
        let window: Window<Bytes> = serde_json::from_str(&text).unwrap();
        assert_eq!(window.len(), Window::<Bytes>::CAPACITY);
    }
}
