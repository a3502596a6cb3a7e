//! How many guests a machine carries under a controller: as many as work as if nothing were squeezed, with nobody hurt.
//!
//! Found by halving, so it is taken for granted that fewer guests are carried where more are.

use overcommit_tests::parts::say;

use crate::controller::Controller;
use crate::outcome::{Key, Outcome};
use crate::scenario::Scenario;

/// As many as idle guests leave room for that can be squeezed at all.
pub(crate) const MOST: u64 = 12;
/// What each guest has to do of what it does beside as many others without a squeeze.
const PART: f64 = 0.9;

/// What so many guests came to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// They are carried.
    Carried,
    /// They are not, and why.
    Not(String),
}

/// What is known of one controller in one round.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Search {
    /// The largest number that is carried; no guest at all always is.
    pub(crate) carried: u64,
    /// The smallest that is not, and why.
    pub(crate) not: Option<(u64, String)>,
}

impl Search {
    /// Of what was measured so far, in that round.
    pub(crate) fn of(controller: Controller, round: u32, outcomes: &[Outcome]) -> Self {
        let of_round = |outcome: &&Outcome| {
            let key = outcome.key;
            key.scenario == Scenario::Density && key.round == round && outcome.void().is_none()
        };
        let find = |controller, guests| {
            let is =
                |outcome: &&Outcome| outcome.key.controller == controller && outcome.key.guests() == guests;
            outcomes.iter().filter(of_round).find(is)
        };
        let mut search = Self::default();
        for guests in 1..=MOST {
            let pair = find(controller, guests).zip(find(Controller::Ceiling, guests));
            match pair.map(|(with, without)| judge(with, without)) {
                Some(Verdict::Carried) if search.not.is_none() => search.carried = guests,
                Some(Verdict::Not(why)) if search.not.is_none() => search.not = Some((guests, why)),
                _ => {}
            }
        }
        search
    }

    /// The number to be tried next; absent once it is known.
    pub(crate) fn next(&self) -> Option<u64> {
        let above = self.not.as_ref().map_or(MOST + 1, |(guests, _)| *guests);
        (above - self.carried > 1).then(|| u64::midpoint(self.carried, above))
    }

    /// In words.
    pub(crate) fn told(&self) -> String {
        match &self.not {
            Some((guests, why)) => format!("{guests}: {why}"),
            None if self.carried == MOST => format!("no more than {MOST} are tried"),
            None => "larger numbers were not tried yet".to_owned(),
        }
    }
}

/// Whether the guests of `with` were carried, of which `without` shows what they do where nothing is squeezed.
fn judge(with: &Outcome, without: &Outcome) -> Verdict {
    let (kills, guests) = (with.kills(), with.guests.len());
    let part = with.work_at(without.pace.steps) / without.work().max(f64::MIN_POSITIVE);
    if let Some(at) = with.livelock() {
        return Verdict::Not(format!("livelock after {at:.0} s"));
    }
    if kills > 0 {
        return Verdict::Not(format!("{kills} killed"));
    }
    if with.unhurt() < guests {
        return Verdict::Not(format!("{} of {guests} hurt", guests - with.unhurt()));
    }
    if part < PART {
        return Verdict::Not(format!("{:.0} % of the work", part * 100.0));
    }
    Verdict::Carried
}

/// Tries one number of guests after the other until each controller's is known; controllers take turns, for the machine drifts.
///
/// # Errors
/// When `window` has one, which is not for guests that are hurt, or a window has no result.
pub(crate) fn search(
    controllers: &[Controller],
    (seed, round): (u64, u32),
    mut window: impl FnMut(Key) -> anyhow::Result<Outcome>,
) -> anyhow::Result<()> {
    let controllers: Vec<_> = controllers.iter().filter(|one| **one != Controller::Ceiling).collect();
    let mut outcomes: Vec<Outcome> = Vec::new();
    loop {
        let mut tried = false;
        for controller in &controllers {
            let Some(guests) = Search::of(**controller, round, &outcomes).next() else { continue };
            tried = true;
            for controller in [Controller::Ceiling, **controller] {
                let key = Key { scenario: Scenario::Density, seed, round, controller, count: Some(guests) };
                if !outcomes.iter().any(|outcome| outcome.key == key) {
                    let outcome = window(key)?;
                    if let Some(why) = outcome.void() {
                        anyhow::bail!(
                            "{guests} guests under {controller} came to no result, so nothing follows: {why}"
                        );
                    }
                    outcomes.push(outcome);
                }
            }
            let search = Search::of(**controller, round, &outcomes);
            say(&format!("bench: {controller} carries {} guests so far; {}", search.carried, search.told()));
        }
        if !tried {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::tests::{outcome, relief};
    use overcommit_tests::valve::Cause;

    /// So many guests, each of which does this much.
    fn crowd(key: Key, each: u64) -> Outcome {
        let count = usize::try_from(key.guests()).unwrap();
        Outcome { key, ..outcome(key.controller, key.round, &vec![each; count]) }
    }

    #[test]
    fn the_largest_number_is_found_of_each_and_without_a_squeeze_each_is_measured_once() {
        let mut keys = Vec::new();
        let controllers = [Controller::None, Controller::Ceiling, Controller::Ours];
        let mut outcomes = Vec::new();
        search(&controllers, (1, 1), |key| {
            keys.push(key);
            let each = match key.controller {
                Controller::Ceiling => 100,
                Controller::None if key.guests() > 5 => 80,
                Controller::Ours if key.guests() > 9 => 80,
                _ => 95,
            };
            let outcome = crowd(key, each);
            outcomes.push(outcome.clone());
            Ok(outcome)
        })
        .unwrap();
        let found = |controller| Search::of(controller, 1, &outcomes);
        assert_eq!((found(Controller::None).carried, found(Controller::Ours).carried), (5, 9));
        assert_eq!(found(Controller::Ours).told(), "10: 80 % of the work");
        let mut once = keys.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), keys.len());
        assert!(keys.len() < 16, "{keys:?}");
    }

    #[test]
    fn whoever_is_hurt_or_held_up_is_not_carried() {
        let key =
            |controller| Key { scenario: Scenario::Density, seed: 1, round: 1, controller, count: Some(2) };
        let (without, with) = (crowd(key(Controller::Ceiling), 100), crowd(key(Controller::Ours), 90));
        assert_eq!(judge(&with, &without), Verdict::Carried);
        let mut killed = with.clone();
        killed.guests[0].kills = 1;
        let mut gone = with.clone();
        gone.guests[0].gone = true;
        let stood = Outcome { relief: Some(relief(5.0, Cause::Livelock)), ..with.clone() };
        let slow = crowd(key(Controller::Ours), 89);
        for (outcome, why) in [
            (killed, "1 killed"),
            (gone, "1 of 2 hurt"),
            (stood, "livelock after 5 s"),
            (slow, "89 % of the work"),
        ] {
            assert_eq!(judge(&outcome, &without), Verdict::Not(why.to_owned()));
        }
    }

    #[test]
    fn a_search_that_is_not_over_says_so() {
        let so_far = |carried| Search { carried, not: None };
        assert_eq!(
            (so_far(6).told().as_str(), so_far(6).next()),
            ("larger numbers were not tried yet", Some(9))
        );
        assert_eq!((so_far(MOST).told().as_str(), so_far(MOST).next()), ("no more than 12 are tried", None));
    }

    #[test]
    fn a_window_without_a_result_ends_the_search() {
        let failed =
            |key: Key| Ok(Outcome::failed(key, &outcome(Controller::None, 1, &[]).origin, "no boot".into()));
        let error = search(&[Controller::None], (1, 1), failed).unwrap_err();
        assert!(error.to_string().ends_with("no boot"), "{error}");
    }
}
