//! Targets that are set again: because a command may have been lost or come late, or because nobody answered it.

use super::State;
use crate::contest::AGAIN;
use crate::dealings::Force;
use crate::eligibility::{Standing, standing};
use crate::plan::{Command, Guarded, Plan};
use crate::policy::Policy;

impl State {
    /// Targets of guests that hold less than theirs, or of which nobody knows whether they are in force, each set again at most
    /// every [`AGAIN`]; less often where somebody else keeps lowering the balloon of a guest that is well.
    pub(super) fn again(
        &mut self,
        plan: &Plan<Guarded>,
        policy: &Policy,
        giving_back: bool,
        commands: &mut Vec<Command>,
    ) {
        let now = self.now;
        for track in self.model.tracks().filter(|track| track.is_reachable()) {
            let (id, to, lags) = (&track.sample.id, track.target, track.lags_behind());
            let Some(dealing) = self.dealings.get_mut(id) else { continue };
            let in_doubt = dealing.force == Force::InDoubt;
            let is_told = !in_doubt && track.follows_if_it_can();
            match (is_told, lags) {
                (false, _) => dealing.contest.look_away(),
                (true, true) => dealing.contest.lags(),
                (true, false) => dealing.contest.arrived(to, now),
            }
            let has_all = to >= track.ceiling && (dealing.let_go || track.has_arrived());
            let is_exempt = || matches!(standing(track, policy, now), Standing::Exempt(_));
            dealing.let_go = has_all && !in_doubt && is_exempt();
            if plan.of(id).is_some() || dealing.let_go || !(lags || in_doubt) {
                continue;
            }
            let is_well = is_told && track.pain.is_none() && track.lost(now).is_zero();
            let yielded = track.contested.filter(|_| is_well && !giving_back);
            let wait = yielded.map_or(AGAIN, |contested| contested.wait);
            if dealing.asked_again.is_none_or(|at| now.since(at) >= wait) {
                dealing.asked_again = Some(now);
                dealing.contest.set_again(to, track.actual);
                commands.push(Command::SetTarget { id: id.clone(), from: to, to });
            }
        }
    }
}
