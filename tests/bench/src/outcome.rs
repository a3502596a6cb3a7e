//! What came of one window, as it is kept: one line of JSON each.

use std::time::Duration;

use overcommit_tests::valve::{Cause, Opening};
use overcommit_tests::waits::Waits;
use serde::{Deserialize, Serialize};

use crate::commands::Told;
use crate::controller::{Controller, Cost};
use crate::origin::Origin;
use crate::pace::Pace;
use crate::scenario::Scenario;

/// Bytes of a page of a guest.
const PAGE: u64 = 4096;

/// Which window it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) scenario: Scenario,
    pub(crate) seed: u64,
    /// From 1: each controller once in each round.
    pub(crate) round: u32,
    pub(crate) controller: Controller,
    /// How many guests, where that is what is searched for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) count: Option<u64>,
}

impl Key {
    /// How many guests there are.
    pub(crate) fn guests(self) -> u64 {
        self.count.unwrap_or_else(|| self.scenario.guests())
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    #[serde(flatten)]
    pub(crate) key: Key,
    /// What was run, and where.
    pub(crate) origin: Origin,
    /// Why there is no result: whatever else stands here is not one then.
    pub(crate) failed: Option<String>,
    /// How long it took from the first guest's start to the last one's end, in s.
    pub(crate) took_s: f64,
    /// How long the work counted, in s.
    pub(crate) window_s: f64,
    pub(crate) guests: Vec<GuestOutcome>,
    /// The machine, second by second.
    pub(crate) host: Vec<HostMoment>,
    /// What the machine's kernel killed.
    pub(crate) host_kills: u64,
    /// How the squeeze ended before the window did.
    pub(crate) relief: Option<Relief>,
    /// Why the controller ended before the window did.
    pub(crate) controller_died: Option<String>,
    /// What the controller told the guests' balloons, from its start on.
    pub(crate) told: Vec<Told>,
    /// What the controller used, from its start on.
    pub(crate) cost: Option<Cost>,
    /// CPU time of libvirt during the window, in ms.
    pub(crate) libvirt_cpu_ms: f64,
    /// CPU time of all emulators during the window, in ms.
    pub(crate) qemu_cpu_ms: f64,
    /// CPU time of the kernel's merging of equal pages, from the controller's start on, in ms.
    pub(crate) ksmd_cpu_ms: f64,
    /// How fast the machine was meanwhile.
    pub(crate) pace: Pace,
}

/// The end of a squeeze before its time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Relief {
    /// In s from the beginning of the work; 0 where that had not begun.
    pub(crate) at: f64,
    pub(crate) cause: Cause,
    /// In the valve's words.
    pub(crate) told: String,
}

impl Relief {
    /// `began`: when the work did, on the valve's clock.
    pub(crate) fn of(opening: Opening, began: Duration) -> Self {
        let at = opening.at.saturating_sub(began).as_secs_f64();
        Self { at, cause: opening.cause, told: opening.told }
    }
}

/// One guest's part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct GuestOutcome {
    pub(crate) name: String,
    /// It was to write over and over; one that was to be idle has no part in what is compared.
    pub(crate) works: bool,
    /// Why it could not be told what to do: killed or wedged by then.
    pub(crate) refused: Option<String>,
    /// Pages that its load wrote while it counted, or requests that it answered.
    pub(crate) done: u64,
    /// How long the answered ones had waited, and how many were not; absent where none came.
    pub(crate) waits: Option<Answers>,
    pub(crate) unanswered: u64,
    /// What its own kernel killed.
    pub(crate) kills: u64,
    /// Its emulator was gone at the end.
    pub(crate) gone: bool,
    pub(crate) course: Vec<GuestMoment>,
}

/// How long answers took, kept in its own words.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Answers(pub(crate) Waits);

impl TryFrom<String> for Answers {
    type Error = String;

    fn try_from(words: String) -> Result<Self, String> {
        words.parse().map(Self)
    }
}

impl From<Answers> for String {
    fn from(answers: Answers) -> Self {
        answers.0.to_string()
    }
}

/// One look at a guest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct GuestMoment {
    /// Seconds from the beginning.
    pub(crate) at: f64,
    /// Pages written, or requests answered, by then.
    pub(crate) done: u64,
    /// What its emulator holds, in MiB.
    pub(crate) resident_mib: u64,
}

/// One look at the machine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct HostMoment {
    /// Seconds from the beginning.
    pub(crate) at: f64,
    pub(crate) available_mib: u64,
    /// MiB swapped in and out by the machine since the beginning.
    pub(crate) swapped_in_mib: u64,
    pub(crate) swapped_out_mib: u64,
    /// What merging of equal pages saves it, in MiB.
    pub(crate) merged_mib: u64,
}

impl Outcome {
    /// A window that came to nothing, and why.
    pub(crate) fn failed(key: Key, origin: &Origin, why: String) -> Self {
        Self {
            key,
            origin: origin.clone(),
            failed: Some(why),
            took_s: 0.0,
            window_s: key.scenario.window().as_secs_f64(),
            guests: Vec::new(),
            host: Vec::new(),
            host_kills: 0,
            relief: None,
            controller_died: None,
            told: Vec::new(),
            cost: None,
            libvirt_cpu_ms: 0.0,
            qemu_cpu_ms: 0.0,
            ksmd_cpu_ms: 0.0,
            pace: Pace::default(),
        }
    }

    /// Why it is no result of its controller's: it is told of, enters no figure, and is run again.
    pub(crate) fn void(&self) -> Option<String> {
        let relief = self.relief.as_ref().filter(|relief| relief.cause != Cause::Livelock);
        let relief = relief.map(|relief| match relief.cause {
            Cause::Gone => format!("the valve was gone after {:.0} s: {}", relief.at, relief.told),
            _ => format!("the squeeze ended after {:.0} s: the valve {}", relief.at, relief.told),
        });
        self.failed.clone().or(relief)
    }

    /// When the machine stood still, in s from the beginning of the work.
    pub(crate) fn livelock(&self) -> Option<f64> {
        self.relief.as_ref().filter(|relief| relief.cause == Cause::Livelock).map(|relief| relief.at)
    }

    /// Work of all guests, in the scenario's unit. Time in which the machine stood still counts as every other.
    pub(crate) fn work(&self) -> f64 {
        let done: u64 = self.guests.iter().map(|guest| guest.done).sum();
        let done = if self.key.scenario.answers() { real(done) } else { mib(done) };
        done / self.window_s.max(1.0)
    }

    /// So many permille of all requests waited no longer for their answer, in ms; infinite where so many had none. Absent where
    /// nothing was asked.
    pub(crate) fn waited_ms(&self, permille: u64) -> Option<f64> {
        let answered = self.guests.iter().filter_map(|guest| guest.waits.as_ref());
        let waits = answered.fold(Waits::default(), |all, answers| all.plus(&answers.0));
        waits.quantile_ms(permille, self.guests.iter().map(|guest| guest.unanswered).sum())
    }

    /// The same at the pace that the machine has at `reference`; no more requests can be answered than come, however fast it is.
    pub(crate) fn work_at(&self, reference: f64) -> f64 {
        if self.key.scenario.answers() {
            return self.work();
        }
        self.work() * reference / self.pace.steps.max(f64::MIN_POSITIVE)
    }

    /// All that was killed: emulators, and programs in guests.
    pub(crate) fn kills(&self) -> u64 {
        self.host_kills + self.guests.iter().map(|guest| guest.kills).sum::<u64>()
    }

    /// Guests whose emulator and whose load lived to the end, and that could be told what to do.
    pub(crate) fn unhurt(&self) -> usize {
        self.guests.iter().filter(|guest| !guest.gone && guest.kills == 0 && guest.refused.is_none()).count()
    }

    /// The work of the guest that did least, as a part of what they did on average, of those that were to work; absent where
    /// nobody did anything.
    pub(crate) fn fairness(&self) -> Option<f64> {
        let each: Vec<f64> =
            self.guests.iter().filter(|guest| guest.works).map(|guest| real(guest.done)).collect();
        let (least, sum) = (each.iter().copied().fold(f64::INFINITY, f64::min), each.iter().sum::<f64>());
        let count = f64::from(u32::try_from(each.len()).unwrap_or(u32::MAX));
        (sum > 0.0).then(|| least * count / sum)
    }

    /// MiB that merging saved at the end.
    pub(crate) fn merged_mib(&self) -> u64 {
        self.host.last().map_or(0, |last| last.merged_mib)
    }

    /// MiB that the machine swapped, in and out.
    pub(crate) fn host_swap_mib(&self) -> u64 {
        self.host.last().map_or(0, |last| last.swapped_in_mib + last.swapped_out_mib)
    }
}

/// MiB of so many pages.
fn mib(pages: u64) -> f64 {
    real(pages * PAGE) / f64::from(1 << 20)
}

#[expect(clippy::cast_precision_loss, reason = "more bytes or requests than 2^53 are not done in a window")]
fn real(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An outcome in which each guest wrote so many pages in 100 s.
    pub(crate) fn outcome(controller: Controller, round: u32, done: &[u64]) -> Outcome {
        let guest = |(number, done): (usize, &u64)| GuestOutcome {
            name: format!("g{number}"),
            works: true,
            refused: None,
            done: *done,
            waits: None,
            unanswered: 0,
            kills: 0,
            gone: false,
            course: Vec::new(),
        };
        Outcome {
            failed: None,
            window_s: 100.0,
            guests: done.iter().enumerate().map(guest).collect(),
            pace: Pace { steps: 100.0, steal_percent: 0.0 },
            ..Outcome::failed(
                Key { scenario: Scenario::F, seed: 1, round, controller, count: None },
                &Origin { build: "b".into(), machine: "A machine.".into() },
                String::new(),
            )
        }
    }

    /// The end of its squeeze.
    pub(crate) fn relief(at: f64, cause: Cause) -> Relief {
        Relief { at, cause, told: "opened".into() }
    }

    #[test]
    fn only_a_machine_that_stood_still_is_a_livelock_and_what_is_left_of_other_windows_is_no_result() {
        let with = |cause| Outcome { relief: Some(relief(5.0, cause)), ..outcome(Controller::None, 1, &[1]) };
        let livelock = with(Cause::Livelock);
        assert_eq!((livelock.livelock(), livelock.void()), (Some(5.0), None));
        for cause in [Cause::Deadline, Cause::Gone, Cause::Starter] {
            let outcome = with(cause);
            assert!(outcome.livelock().is_none() && outcome.void().is_some(), "{cause:?}");
        }
    }

    #[test]
    fn a_squeeze_that_ended_before_the_work_began_ended_at_its_beginning() {
        let opening =
            |at| Opening { cause: Cause::Livelock, at: Duration::from_secs(at), told: String::new() };
        let at = |at| Relief::of(opening(at), Duration::from_secs(100)).at;
        assert!((at(130) - 30.0).abs() < 1e-9 && at(70).abs() < 1e-9);
    }

    #[test]
    fn idle_guests_are_not_compared_with_those_that_work() {
        let mut outcome = outcome(Controller::None, 1, &[100, 0, 300]);
        outcome.guests[1].works = false;
        assert!((outcome.fairness().unwrap() - 0.5).abs() < 1e-9);
    }

    #[test]
    fn work_is_what_all_wrote_over_the_whole_window() {
        let outcome = outcome(Controller::None, 1, &[25_600, 76_800]);
        assert!((outcome.work() - 4.0).abs() < 1e-9);
        assert!(
            (outcome.work_at(50.0) - 2.0).abs() < 1e-9,
            "a machine that was twice as fast did half of it itself"
        );
        assert!((outcome.fairness().unwrap() - 0.5).abs() < 1e-9);
    }

    #[test]
    fn services_are_told_by_their_answers_and_by_how_long_all_of_them_were_waited_for() {
        let waits = |words: &str| Some(Answers(words.parse().unwrap()));
        let mut outcome = outcome(Controller::None, 1, &[98, 100]);
        assert_eq!(outcome.waited_ms(950), None);
        outcome.key.scenario = Scenario::D;
        outcome.guests[0].waits = waits("8:98");
        outcome.guests[1].waits = waits("8:92,16:8");
        outcome.guests[1].unanswered = 2;
        assert!((outcome.work() - 1.98).abs() < 1e-9);
        let waited = [950, 990, 995].map(|permille| outcome.waited_ms(permille).unwrap());
        assert!((waited[0] - 0.2).abs() < 1e-9 && (waited[1] - 0.4).abs() < 1e-9, "{waited:?}");
        assert!(waited[2].is_infinite());
        let text = serde_json::to_string(&outcome).unwrap();
        assert_eq!(serde_json::from_str::<Outcome>(&text).unwrap(), outcome, "{text}");
    }

    #[test]
    fn a_guest_that_lost_its_load_is_hurt() {
        let mut outcome = outcome(Controller::None, 1, &[1, 1, 1, 1]);
        outcome.guests[0].kills = 1;
        outcome.guests[1].gone = true;
        outcome.guests[2].refused = Some("no answer".into());
        outcome.host_kills = 1;
        assert_eq!((outcome.unhurt(), outcome.kills()), (1, 2));
    }

    #[test]
    fn an_outcome_is_read_as_it_was_written() {
        let outcome = outcome(Controller::MomScaled, 3, &[7]);
        let text = serde_json::to_string(&outcome).unwrap();
        assert_eq!(serde_json::from_str::<Outcome>(&text).unwrap(), outcome, "{text}");
    }
}
