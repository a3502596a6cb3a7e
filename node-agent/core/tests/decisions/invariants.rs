//! The guard's invariants (design §6, 1 to 5 and 9) over generated courses: whatever hosts, guests and policies do.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)] // helpers outside #[test] functions are test code too

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::course::generate::any_course;
use crate::course::oracle::{self, Memory, Rests, Taken};
use crate::course::plant::Moment;
use crate::course::prove::{Verdict, prove};
use overcommit_core::plan::{Command, Move};
use overcommit_core::reason::Reason;
use overcommit_core::sample::{GuestId, GuestSample, RunState};
use overcommit_core::step::Turn;
use overcommit_core::turns::Place;
use overcommit_core::units::{Bytes, Monotonic};
use proptest::{prop_assert, prop_assert_eq};

fn takes<'a>(moment: &'a Moment<'_>) -> impl Iterator<Item = &'a Move> {
    moment.decision.plan.moves().iter().filter(|m| m.takes())
}

fn gives<'a>(moment: &'a Moment<'_>) -> impl Iterator<Item = &'a Move> {
    moment.decision.plan.moves().iter().filter(|m| !m.takes())
}

/// A ceiling that is no multiple of a balloon's page is reached all the same, by each that is given something.
fn pages(moment: &Moment<'_>) -> Bytes {
    gives(moment).map(|_| Bytes::from_kib(4)).sum()
}

/// Invariants 1 and 9: below its floor a guest is taken only in a declared emergency, and never below that floor.
#[test]
fn no_take_goes_below_the_floor() {
    prove(any_course(), || {
        let mut memory = Memory::default();
        move |moment| {
            memory.observe(moment);
            for step in takes(moment) {
                let floor = oracle::least(moment, &memory, &step.id);
                prop_assert!(step.to >= floor, "{step:?} < {floor}");
            }
            Ok(())
        }
    });
}

/// Invariant 1 while observing: what would be reached is no less than the floor either.
#[test]
fn no_shadow_goes_below_the_floor() {
    prove(any_course(), || {
        let mut memory = Memory::default();
        move |moment| {
            memory.observe(moment);
            for view in moment.decision.guests.iter().filter(|v| v.target < v.previous_target) {
                let guest = memory.known(&view.id);
                let class = oracle::class(moment, guest).unwrap();
                let floor = if moment.decision.emergency && !oracle::observing(moment) {
                    oracle::emergency_floor(guest, class, Bytes::ZERO)
                } else {
                    oracle::floor(guest, class, Bytes::ZERO)
                };
                prop_assert!(view.target >= floor, "{view:?} < {floor}");
            }
            Ok(())
        }
    });
}

/// Invariant 2: nothing is taken on statistics that are stale, missing or impossible.
#[test]
fn takes_rest_on_fresh_and_possible_statistics() {
    prove(any_course(), || {
        let mut memory = Memory::default();
        move |moment| {
            memory.observe(moment);
            for step in takes(moment) {
                let guest = oracle::guest(moment, &step.id);
                let known = memory.life(&step.id).statistics(guest, moment.sample.at);
                prop_assert!(known.is_some(), "{step:?} {guest:?}");
            }
            Ok(())
        }
    });
}

/// Invariant 3: in one interval no more is taken from a guest, nor from the node, than the policy says.
#[test]
fn takes_are_bounded_per_interval() {
    prove(any_course(), || {
        let mut sums = Taken::default();
        move |moment| {
            sums.turn(moment);
            for view in moment.decision.guests.iter().filter(|v| v.target < v.previous_target) {
                sums.take(moment, &view.id, view.full, view.previous_target.minus(view.target))?;
            }
            Ok(())
        }
    });
}

/// Invariant 3 and design §3: at most one take per guest and new statistics.
#[test]
fn no_guest_is_taken_from_twice_on_the_same_statistics() {
    prove(any_course(), || {
        let mut memory = Memory::default();
        let mut rests = Rests::default();
        move |moment| {
            memory.observe(moment);
            rests.turn(moment);
            takes(moment).try_for_each(|step| rests.take(&memory, step))
        }
    });
}

/// Invariants 3 and 4: once a plan is carried out, guests may touch no more than the host can pay, or no more than
/// before; donors count at what they still hold.
#[test]
fn gives_never_promise_more_than_the_host_can_pay() {
    prove(any_course(), || {
        let mut memory = Memory::default();
        move |moment| {
            memory.observe(moment);
            if oracle::observing(moment) || !moment.sample.host.memory.swap_total.is_zero() {
                return Ok(());
            }
            let before = oracle::promised_at_most(moment, &memory, |view| view.previous_target);
            let after = oracle::promised(moment, &memory, |view| view.target.max(view.previous_target));
            let most = oracle::most(moment, &memory).max(before);
            prop_assert!(after <= most.plus(pages(moment)), "{after} > {most}");
            Ok(())
        }
    });
}

/// Invariant 3 with swap: what is given beyond what guests may touch already is spare, or needed and kept by swap.
#[test]
fn gives_never_exceed_what_is_spare() {
    prove(any_course(), || {
        let mut memory = Memory::default();
        move |moment| {
            memory.observe(moment);
            let ledger = &moment.decision.ledger;
            let resident = |g: &GuestSample| memory.known(&g.id).facts.resident;
            let resident: Bytes = moment.sample.guests.iter().filter_map(resident).sum();
            let promised = oracle::promised(moment, &memory, |view| view.previous_target);
            let swaps = !moment.sample.host.memory.swap_total.is_zero();
            let committed = if swaps { resident.min(promised) } else { promised };
            let spare = oracle::most(moment, &memory).minus(committed);
            let needs = |m: &&Move| oracle::is_for_need(moment, &memory, m);
            let (needed, rest): (Vec<_>, Vec<_>) = gives(moment).partition(needs);
            let sum = |gives: Vec<&Move>| gives.into_iter().map(|m| oracle::cost(moment, m)).sum::<Bytes>();
            let (needed, rest) = (sum(needed), sum(rest));
            let backed = if swaps { oracle::backed(moment, &memory) } else { Bytes::ZERO };
            prop_assert!(ledger.spare.is_zero() || ledger.shortfall.is_zero());
            prop_assert!(rest <= ledger.spare.plus(pages(moment)), "{rest} > {}", ledger.spare);
            let most = ledger.spare.max(backed);
            prop_assert!(rest.plus(needed) <= most.plus(pages(moment)), "{rest} and {needed} > {most}");
            prop_assert!(oracle::observing(moment) || ledger.spare <= spare, "{} > {spare}", ledger.spare);
            Ok(())
        }
    });
}

/// Invariant 4: no more than the guest's size and its cgroup's limit less overhead.
#[test]
fn gives_stay_within_the_guests_size_and_its_cgroup() {
    prove(any_course(), || {
        let mut memory = Memory::default();
        move |moment| {
            memory.observe(moment);
            for step in gives(moment) {
                let guest = memory.known(&step.id);
                prop_assert!(step.to <= guest.config.full, "{step:?}");
                let limit = oracle::most_given(guest, step);
                prop_assert!(step.to <= limit, "{step:?} > {limit}");
            }
            Ok(())
        }
    });
}

/// What `id` still lacks after the plan, if it is squeezed by more than what page and policy round away.
fn lacks(moment: &Moment<'_>, guest: &GuestSample) -> Option<Bytes> {
    let track = moment.state.model().track(&guest.id).unwrap();
    let view = oracle::view(moment, &guest.id);
    // Whose turn it is wants so much; what nobody wants then is divided as ever, in part for who waits.
    let wants = match view.turn {
        Some(Place::Served { want, .. }) => want,
        _ => view.ceiling(),
    };
    // Who was given more than its pod's limit by somebody else keeps that: a target within the limit would take it.
    let limit = oracle::limit(guest);
    if limit < view.actual && !track.conduct.is_on_its_way(view.actual) {
        return None;
    }
    // Nobody is charged for more than the host has, nor given it.
    let limit = limit.min(moment.sample.host.memory.total);
    let lack = wants.min(view.ceiling()).min(limit).minus(view.target);
    (view.previous_target < view.ceiling() && lack >= Bytes::from_kib(4)).then_some(lack)
}

/// What of the spare memory is left after the gives, beyond rounding.
fn left(moment: &Moment<'_>) -> Bytes {
    let given: Bytes = gives(moment).map(|m| oracle::cost(moment, m)).sum();
    let rounded = u64::try_from(moment.sample.guests.len()).unwrap() * 2 + 1;
    moment.decision.ledger.spare.minus(given).minus(Bytes::from_kib(4 * rounded))
}

/// Invariants 2 and 4: who is squeezed and hurts, or whose statistics stopped, gets in that very turn what the budget
/// can give.
#[test]
fn distress_and_silence_are_answered_with_all_that_is_spare() {
    prove(any_course(), || {
        let mut memory = Memory::default();
        move |moment| {
            memory.observe(moment);
            // Sums beyond what 64 bits hold are counted as all there is: then there is less to give.
            let full: u128 = moment.sample.guests.iter().map(|g| u128::from(g.config.full.get())).sum();
            if oracle::observing(moment) || full > 1 << 62 {
                return Ok(());
            }
            let reachable = |g: &&GuestSample| g.run_state != RunState::Unreachable;
            let covered = |g: &&GuestSample| !oracle::exempt(moment, &memory, &g.id);
            for guest in moment.sample.guests.iter().filter(reachable).filter(covered) {
                let blind = memory.life(&guest.id).words(moment.sample.at).is_none();
                let waits = oracle::view(moment, &guest.id).turn.is_some_and(Place::is_behind);
                if (blind || (memory.life(&guest.id).hurts(moment.sample.at) && !waits))
                    && let Some(lack) = lacks(moment, memory.known(&guest.id))
                {
                    prop_assert!(left(moment).is_zero(), "{} lacks {lack}, left {}", guest.id, left(moment));
                    let reach = |m: &Move| moment.state.model().track(&m.id).unwrap().reach();
                    let slack = gives(moment).find(|m| m.reason == Reason::GiveSlack && m.to > reach(m));
                    prop_assert!(slack.is_none(), "{} lacks {lack}: {slack:?}", guest.id);
                }
            }
            Ok(())
        }
    });
}

/// Invariant 5: nothing at all is done to who must not be touched, but giving back what was taken before.
#[test]
fn who_must_not_be_touched_is_not_touched() {
    prove(any_course(), || {
        let mut memory = Memory::default();
        let mut ours: BTreeSet<GuestId> = BTreeSet::new();
        move |moment| {
            memory.observe(moment);
            for guest in moment.sample.guests.iter().filter(|g| oracle::exempt(moment, &memory, &g.id)) {
                let view = oracle::view(moment, &guest.id);
                prop_assert!(view.target >= view.previous_target, "{view:?}");
                let commanded = moment.decision.periods.iter().any(|c| c.id() == &guest.id);
                prop_assert!(!commanded || ours.contains(&guest.id), "{guest:?}");
            }
            ours.extend(moment.decision.plan.moves().iter().map(|m| m.id.clone()));
            ours.extend(moment.decision.periods.iter().map(|c| c.id().clone()));
            Ok(())
        }
    });
}

/// Invariant 5: nothing is taken from who boots, migrates, is paused or has a job under way.
#[test]
fn nothing_is_taken_at_a_bad_time() {
    prove(any_course(), || {
        let mut memory = Memory::default();
        move |moment| {
            memory.observe(moment);
            for step in takes(moment) {
                let life = memory.life(&step.id);
                prop_assert!(!oracle::give_only(moment, life), "{:?}", life.known());
                prop_assert!(!moment.plan.paused && moment.plan.turn != Turn::Handover);
                prop_assert!(!oracle::giving_back(moment));
            }
            Ok(())
        }
    });
}

/// What is out of reach is sent nothing at all, and says so.
#[test]
fn nothing_is_sent_to_who_is_out_of_reach() {
    prove(any_course(), || {
        |moment| {
            let decision = moment.decision;
            for guest in moment.sample.guests.iter().filter(|g| g.run_state == RunState::Unreachable) {
                let commands = decision.periods.iter().chain(&decision.again);
                let sent = commands.map(Command::id).chain(decision.plan.moves().iter().map(|m| &m.id));
                prop_assert!(!sent.into_iter().any(|id| *id == guest.id), "{guest:?}");
                let view = oracle::view(moment, &guest.id);
                prop_assert_eq!(view.target, view.previous_target);
            }
            Ok(())
        }
    });
}

/// What is called a give must give: a guest that was never asked for memory, or is another process by now, is not
/// shrunk by it.
#[test]
fn no_give_shrinks_a_guest() {
    prove(any_course(), || {
        let mut asked: BTreeMap<GuestId, Option<u32>> = BTreeMap::new();
        move |moment| {
            asked.retain(|id, _| moment.sample.guests.iter().any(|g| g.id == *id));
            for step in moment.decision.plan.moves() {
                let guest = oracle::guest(moment, &step.id);
                let process = guest.incarnation.map(|i| i.pid);
                let same =
                    asked.get(&step.id).is_some_and(|p| p.is_none() || process.is_none() || *p == process);
                let holds = guest.balloon.map_or(Bytes::ZERO, |b| b.actual).min(guest.config.full);
                prop_assert!(step.takes() || same || step.to >= holds.to_balloon_page_floor(), "{step:?}");
                if guest.incarnation.is_some() || !asked.contains_key(&step.id) {
                    asked.insert(step.id.clone(), process);
                }
            }
            Ok(())
        }
    });
}

/// Invariant 9: an emergency is declared only while the account is short, the kernel says that memory is gone, and somebody kills for
/// that, or within ten seconds of it.
#[test]
fn an_emergency_takes_a_shortfall_and_the_kernels_word() {
    prove(any_course(), || {
        let (mut last, mut memory): (Option<Monotonic>, _) = (None, Memory::default());
        move |moment| {
            memory.observe(moment);
            let short = !moment.decision.ledger.shortfall.is_zero() && oracle::kills(moment, &memory);
            let now = moment.sample.at;
            let both = short && oracle::distressed(&moment.sample.host, moment.plan.eviction);
            if both {
                last = Some(now);
            }
            let due = last.is_some_and(|l| now.since(l) < Duration::from_secs(10));
            prop_assert_eq!(moment.decision.emergency, due);
            Ok(())
        }
    });
}

/// A plan moves each guest at most once, only guests that are there, and gives before it takes.
#[test]
fn a_plan_moves_each_guest_once_and_gives_first() {
    fn check(moment: &Moment<'_>) -> Verdict {
        let mut seen = BTreeSet::new();
        for step in moment.decision.plan.moves() {
            prop_assert!(seen.insert(&step.id), "{:?}", moment.decision.plan);
            prop_assert!(step.from != step.to);
            prop_assert_eq!(step.from, oracle::view(moment, &step.id).previous_target);
        }
        let commands: Vec<Command> = moment.decision.plan.commands().collect();
        prop_assert_eq!(commands.len(), seen.len());
        prop_assert!(commands.is_sorted_by_key(Command::takes));
        prop_assert!(!moment.decision.observing || commands.is_empty());
        Ok(())
    }
    prove(any_course(), || check);
}

/// Invariant 4 for programs, which do not know who hurts: nothing is taken from such by their wish.
#[test]
fn no_program_takes_from_who_hurts() {
    prove(any_course(), || {
        let mut memory = Memory::default();
        move |moment| {
            memory.observe(moment);
            for step in takes(moment).filter(|step| matches!(step.reason, Reason::TakeProgram(_))) {
                prop_assert!(!memory.life(&step.id).hurts(moment.sample.at), "{step:?}");
            }
            Ok(())
        }
    });
}
