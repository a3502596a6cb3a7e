//! What is told of a recording: scores, courses, and where decisions differ.

use std::collections::BTreeMap;
use std::time::Duration;

use overcommit_core::plan::Move;
use overcommit_core::sample::{GuestId, GuestName};
use overcommit_core::units::{Bytes, Permille};
use overcommit_core::view::GuestView;
use overcommit_record::Made;

use super::Replayed;
use crate::Outcome;
use crate::chart::Chart;
use crate::moment::{Moment, Presence};
use crate::score::Score;

/// So many differences are told one by one.
const TOLD: usize = 20;
/// What another policy wants of a guest is the same as before if it is as near as that, of the guest's size.
const SAME: Permille = Permille::new(50);
/// Turns are as close as the lane's poll.
const STEP: Duration = Duration::from_millis(200);

/// Who and how long, before anything is told.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// The wall clock at the first decision, since 1970.
    pub(super) begun: Option<Duration>,
    lasts: Duration,
    guests: BTreeMap<GuestId, (GuestName, Bytes)>,
}

impl Survey {
    pub(super) fn see(&mut self, made: &Made, now: Duration) {
        self.begun = self.begun.or(Some(made.sample.wall));
        self.lasts = now;
        for guest in &made.sample.guests {
            if !self.guests.contains_key(&guest.id) {
                self.guests.insert(guest.id.clone(), (guest.name.clone(), guest.config.full));
            }
        }
    }
}

/// Tells decision after decision.
#[derive(Debug)]
pub(super) struct Telling {
    places: BTreeMap<GuestId, usize>,
    score: Score,
    chart: Chart,
    moments: Vec<Moment>,
    /// What another policy would have set last.
    wanted: BTreeMap<GuestId, Bytes>,
    now: Duration,
    /// When the decision before was made; absent where nobody knows what was between.
    last: Option<Duration>,
    decisions: u64,
    differing: u64,
    differences: Vec<String>,
}

impl Telling {
    pub(super) fn new(survey: &Survey) -> Self {
        let names = survey.guests.values().map(|(name, full)| (name.to_string(), *full));
        Self {
            places: survey.guests.keys().cloned().zip(0..).collect(),
            score: Score::new(names),
            chart: Chart::new(survey.lasts, STEP, survey.guests.len()),
            moments: vec![Moment::default(); survey.guests.len()],
            wanted: BTreeMap::new(),
            now: Duration::ZERO,
            last: None,
            decisions: 0,
            differing: 0,
            differences: Vec::new(),
        }
    }

    /// What is between the decision before and the next nobody knows.
    pub(super) fn pause(&mut self) {
        self.last = None;
    }

    /// The state is another than the recorded one; which decision made it so nobody compared.
    pub(super) fn strayed(&mut self) {
        self.differing = self.differing.saturating_add(1);
        self.differences
            .push(format!("{:>8.1} s  the state is not what was recorded", self.now.as_secs_f64()));
    }

    pub(super) fn decided(&mut self, made: &Made, now: Duration) {
        let time = self.last.replace(now).map_or(Duration::ZERO, |last| now.saturating_sub(last));
        let decision = made.instead.as_ref().unwrap_or(&made.decision);
        self.now = now;
        self.moments.fill(Moment::default());
        for view in &decision.guests {
            if let Some(moment) = self.places.get(&view.id).and_then(|place| self.moments.get_mut(*place)) {
                *moment = moment_of(view);
            }
        }
        let find = |id: &GuestId| {
            let place = *self.places.get(id)?;
            Some((place, self.moments.get(place)?.need))
        };
        self.score.passed(self.moments.iter().copied(), time, None);
        let sizes: BTreeMap<&GuestId, Bytes> = decision.guests.iter().map(|g| (&g.id, g.full)).collect();
        let wanted = &mut self.wanted;
        self.score.decided(decision, find, |id, to| {
            // Nobody carried out what another policy wants: it wants that again and again.
            let same = sizes.get(id).copied().unwrap_or_default().share(SAME);
            let near = |before: &Bytes| before.minus(to).max(to.minus(*before)) <= same;
            let is_new = made.instead.is_none() || !wanted.get(id).is_some_and(near);
            if is_new {
                wanted.insert(id.clone(), to);
            }
            is_new
        });
        self.chart.passed(now, time, self.moments.iter().copied(), Some(&decision.ledger));
        self.decisions = self.decisions.saturating_add(1);
        self.compare(made, now);
    }

    fn compare(&mut self, made: &Made, now: Duration) {
        let (before, after) = match &made.instead {
            None if made.agrees => return,
            None => (&*made.recorded.moves, made.decision.plan.moves()),
            Some(other) => (made.decision.plan.moves(), other.plan.moves()),
        };
        let mut told = differ(before, after);
        if told.is_empty() {
            if made.instead.is_some() {
                return;
            }
            told.push("the same targets, and another reason, account or view".to_owned());
        }
        self.differing = self.differing.saturating_add(1);
        let room = TOLD.saturating_sub(self.differences.len());
        let told = told.into_iter().take(room).map(|told| format!("{:>8.1} s  {told}", now.as_secs_f64()));
        self.differences.extend(told);
    }

    pub(super) fn sum_up(self, name: &str, shows: String, policy: String, remarks: Vec<String>) -> Replayed {
        let (node, guests) = self.score.sum_up();
        let outcome = Outcome {
            scenario: name.to_owned(),
            shows,
            policy,
            seed: None,
            lasted: self.now,
            node,
            guests,
            series: self.chart.series(),
        };
        let Self { decisions, differing, differences, .. } = self;
        Replayed { outcome, decisions, differing, differences, remarks }
    }
}

fn moment_of(view: &GuestView) -> Moment {
    Moment {
        presence: Presence::Here,
        size: view.full,
        need: view.used.unwrap_or(view.demand),
        holds: view.actual,
        target: view.target,
        resident: view.facts.resident.unwrap_or_default(),
        distress: view.distressed,
        killed_within: false,
    }
}

/// Each guest whose target one has and the other has not.
fn differ(before: &[Move], after: &[Move]) -> Vec<String> {
    let find = |moves: &[Move], id: &GuestId| moves.iter().find(|step| step.id == *id).cloned();
    let told = |step: Option<&Move>| {
        step.map_or_else(|| "left as it is".to_owned(), |step| format!("to {} ({})", step.to, step.reason))
    };
    let only_after = after.iter().filter(|step| find(before, &step.id).is_none());
    let ids = before.iter().chain(only_after).map(|step| (&step.id, &step.name));
    let pairs = ids.map(|(id, name)| (name, find(before, id), find(after, id)));
    let other = pairs.filter(|(_, one, other)| one.as_ref().map(|m| m.to) != other.as_ref().map(|m| m.to));
    other
        .map(|(name, one, other)| format!("{name}: {}; now {}", told(one.as_ref()), told(other.as_ref())))
        .collect()
}
