//! The guard alone (design §6): the same invariants whatever an engine proposes. Ours never proposes more than a guest may
//! have, nor takes from one that is exempt or on statistics that it took on before; the guard must not count on that. What it
//! remembers of takes lasts from turn to turn, as in the loop, although nothing of these plans is carried out.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)] // helpers outside #[test] functions are test code too

use bumpalo::Bump;
use overcommit_core::guard::{Scene, Takings, Verdict, guard};
use overcommit_core::plan::{Move, Proposal};
use overcommit_core::reason::{Pain, Reason};
use overcommit_core::sample::{GuestSample, RunState};
use overcommit_core::step::Turn;
use overcommit_core::units::Bytes;
use proptest::prop_assert;
use proptest::test_runner::TestCaseError;

use crate::course::generate::any_course;
use crate::course::oracle::{self, Memory, Rests, Taken};
use crate::course::plant::Moment;
use crate::course::prove::prove;

/// Numbers without rhyme or reason, the same for the same turn (Knuth's MMIX generator).
struct Whim(u64);

impl Whim {
    fn of(moment: &Moment<'_>) -> Self {
        let at = moment.sample.at.since_origin();
        Self(at.as_secs() ^ u64::from(at.subsec_nanos()) ^ moment.sample.host.memory.available.get())
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn target(&mut self, guest: &GuestSample) -> Bytes {
        let full = guest.config.full;
        match self.below(6) {
            0 => Bytes::ZERO,
            1 => Bytes::MAX,
            2 => full,
            3 => oracle::limit(guest).plus(Bytes::from_kib(4)),
            _ => full.scaled(self.below(1001), 1000),
        }
    }

    fn reason(&mut self) -> Reason {
        let reasons = [
            Reason::TakeUnused,
            Reason::TakeCache,
            Reason::TakeEmergency,
            Reason::GiveNeed,
            Reason::GiveSlack,
            Reason::GiveDistress(Pain::LowUsable { usable: Bytes::ZERO }),
            Reason::GiveRelease,
            Reason::GiveExempt,
        ];
        reasons[usize::try_from(self.below(8)).unwrap()]
    }
}

/// What the guard lets pass of what nobody in their senses would propose.
fn whimsical(moment: &Moment<'_>, takings: &mut Takings) -> (Proposal, Verdict) {
    let mut whim = Whim::of(moment);
    let model = moment.state.model();
    let moves = model.tracks().map(|track| Move {
        id: track.sample.id.clone(),
        name: track.sample.name.clone(),
        from: track.target,
        to: whim.target(&track.sample),
        reason: whim.reason(),
    });
    let mut proposal = Proposal::default();
    proposal.extend(moves);
    let scene = Scene {
        model,
        ledger: &moment.decision.ledger,
        policy: moment.policy,
        now: moment.sample.at,
        no_takes: None,
        emergency: moment.decision.emergency,
        arena: &Bump::new(),
        turns: moment.decision.turns,
        tick: moment.input.turn == Turn::Tick,
    };
    let mut verdict = Verdict::default();
    guard(&proposal, &scene, takings, &mut verdict);
    (proposal, verdict)
}

/// Proves what holds of each turn for what the guard lets pass of whims, but for turns that only observe.
fn prove_whims(check: impl Fn(&Moment<'_>, &Memory, &Proposal, &Verdict) -> Result<(), TestCaseError>) {
    prove(any_course(), || {
        let (mut memory, mut takings) = (Memory::default(), Takings::default());
        let check = &check;
        move |moment| {
            memory.observe(moment);
            if oracle::observing(moment) {
                return Ok(());
            }
            let (proposal, verdict) = whimsical(moment, &mut takings);
            check(moment, &memory, &proposal, &verdict)
        }
    });
}

#[test]
fn no_take_that_any_engine_wants_breaks_an_invariant() {
    prove(any_course(), || {
        let (mut memory, mut takings) = (Memory::default(), Takings::default());
        let (mut sums, mut rests) = (Taken::default(), Rests::default());
        move |moment| {
            memory.observe(moment);
            rests.turn(moment);
            if oracle::observing(moment) {
                return Ok(());
            }
            sums.turn(moment);
            let (_, verdict) = whimsical(moment, &mut takings);
            for track in moment.state.model().tracks().filter(|track| !track.is_reachable()) {
                let why = verdict.dropped.get(&track.sample.id);
                prop_assert!(
                    why.is_none_or(|why| *why == Reason::Unreachable),
                    "{why:?}: {:?}",
                    track.sample.id
                );
            }
            for step in verdict.plan.moves().iter().filter(|step| step.takes()) {
                let life = memory.life(&step.id);
                prop_assert!(!oracle::exempt(moment, &memory, &step.id), "exempt: {step:?}");
                prop_assert!(!oracle::give_only(moment, life), "at a bad time: {step:?}");
                let guest = memory.known(&step.id);
                let words = life.statistics(guest, moment.sample.at);
                prop_assert!(words.is_some(), "on nothing: {step:?}");
                let floor = oracle::least(moment, &memory, &step.id);
                prop_assert!(step.to >= floor, "{step:?} < {floor}");
                rests.take(&memory, step)?;
                sums.take(moment, &step.id, guest.config.full, step.from.minus(step.to))?;
            }
            Ok(())
        }
    });
}

#[test]
fn no_give_that_any_engine_wants_breaks_an_invariant() {
    prove_whims(|moment, memory, _, verdict| {
        let (mut needed, mut rest, mut pages) = (Bytes::ZERO, Bytes::ZERO, Bytes::ZERO);
        for step in verdict.plan.moves().iter().filter(|step| !step.takes()) {
            let guest = memory.known(&step.id);
            prop_assert!(guest.run_state != RunState::Unreachable, "out of reach: {step:?}");
            prop_assert!(step.to <= guest.config.full, "{step:?}");
            let limit = oracle::most_given(guest, step);
            prop_assert!(step.to <= limit, "{step:?} > {limit}");
            let part = if oracle::is_for_need(moment, memory, step) { &mut needed } else { &mut rest };
            *part = part.plus(oracle::cost(moment, step));
            // A ceiling that is no multiple of a balloon's page is reached all the same.
            pages = pages.plus(Bytes::from_kib(4));
        }
        let spare = moment.decision.ledger.spare;
        prop_assert!(rest <= spare.plus(pages), "{rest} > {spare}");
        let most = spare.max(oracle::backed(moment, memory));
        prop_assert!(rest.plus(needed) <= most.plus(pages), "{rest} and {needed} > {most}");
        Ok(())
    });
}

/// Invariant 4: who hurts and is not given all that was wanted for it pays for nobody who does not.
#[test]
fn what_any_engine_gives_goes_to_who_hurts_first() {
    prove_whims(|moment, memory, proposal, verdict| {
        let page = Bytes::from_kib(4);
        let hurts = |step: &Move| memory.life(&step.id).hurts(moment.sample.at);
        let lacks = |wanted: &Move| {
            let guest = memory.known(&wanted.id);
            let most = guest.config.full.min(oracle::most_given(guest, wanted));
            let got = verdict.plan.of(&wanted.id).map_or(wanted.from, |step| step.to);
            let ceiling = oracle::view(moment, &wanted.id).ceiling();
            let short = Move { to: wanted.to.min(most).min(ceiling), from: got, ..wanted.clone() };
            !wanted.takes()
                && guest.run_state != RunState::Unreachable
                && verdict.plan.of(&wanted.id).is_none_or(|step| !step.takes())
                && short.to > got.plus(page)
                && oracle::cost(moment, &short) > page
        };
        let Some(short) = proposal.moves().iter().find(|step| hurts(step) && lacks(step)) else {
            return Ok(());
        };
        for step in verdict.plan.moves().iter().filter(|step| !step.takes() && !hurts(step)) {
            let first = matches!(step.reason, Reason::Undo(_) | Reason::GiveDistress(_));
            prop_assert!(first || oracle::cost(moment, step) <= page, "{step:?} before {short:?}");
        }
        Ok(())
    });
}
