//! What tenants can claim of themselves, and what that costs others (design §4 and §8).

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)] // helpers outside #[test] functions are test code too

use std::sync::Arc;

use crate::measure::show;
use crate::world::{World, guest, mib, world};
use overcommit_core::step::{Decision, Turn};
use overcommit_core::stranger::Stranger;
use overcommit_core::units::Bytes;
use proptest::prelude::*;

/// Sizes in MiB as tenants write them.
fn size() -> impl Strategy<Value = u64> {
    prop_oneof![0..4096_u64, Just(u64::MAX >> 20)]
}

/// One that holds that much, MiB.
fn stranger(held: u64) -> impl Strategy<Value = Stranger> {
    let words = (size(), prop::option::of(0..2048_u64), prop::option::of(size()));
    words.prop_map(move |(claim, request, bound)| Stranger {
        pod: Arc::from("p"),
        claim: mib(claim),
        held: Some(mib(held)),
        request: request.map(mib),
        bound: bound.map(mib),
    })
}

fn strangers() -> impl Strategy<Value = Vec<Stranger>> {
    prop::collection::vec((0..256_u64).prop_flat_map(stranger), 0..6)
}

/// Two guests, and pods that nobody listed.
fn node(strangers: &[Stranger]) -> World {
    let held: u64 = strangers.iter().filter_map(|s| s.held).map(Bytes::to_mib_floor).sum();
    let mut node = world(4096, vec![guest("a", 1024, 100), guest("b", 1024, 900)]);
    (node.anon_other, node.strangers) = (held, strangers.to_vec());
    node
}

fn moves(decision: &Decision) -> Vec<(String, Bytes)> {
    decision.plan.moves().iter().map(|m| (m.id.to_string(), m.to)).collect()
}

/// A claim costs others nothing: without a request it changes no decision, whatever it says.
#[test]
fn a_pod_that_requested_nothing_squeezes_nobody() {
    show((strangers(), 1..12_usize), |(all, ticks)| {
        let claiming: Vec<Stranger> = all.iter().map(|s| Stranger { request: None, ..s.clone() }).collect();
        let mut honest = node(&claiming);
        honest.strangers.clear();
        let mut node = node(&claiming);
        for _ in 0..ticks {
            let (told, expected) = (node.tick(), honest.tick());
            prop_assert_eq!(told.ledger, expected.ledger);
            prop_assert_eq!(moves(&told), moves(&expected));
            prop_assert_eq!(told.unlisted.pods, claiming.len());
        }
        Ok(ticks)
    });
}

/// All claims together cost others no more than the scheduler promised these pods, and no more than they claim and
/// their cgroups allow; and no less: one of them may be a guest that has just started.
#[test]
fn unlisted_pods_cost_what_the_scheduler_promised_them() {
    show(strangers(), |all| {
        let mut alone = node(&all);
        alone.strangers.clear();
        let (told, expected) = (node(&all).tick(), alone.tick());
        let least = |s: &Stranger| {
            let claim = s.claim.plus(mib(192)).min(s.request.unwrap_or_default());
            claim.min(s.bound.unwrap_or(Bytes::MAX)).max(s.held.unwrap())
        };
        let untouched: Bytes = all.iter().map(|s| least(s).minus(s.held.unwrap())).sum();
        prop_assert_eq!(told.ledger.budget, expected.ledger.budget.minus(untouched));
        prop_assert_eq!(told.ledger.promised, expected.ledger.promised);
        prop_assert_eq!(told.unlisted.charge, all.iter().map(least).sum::<Bytes>());
        Ok(1)
    });
}

/// What a listed guest says of its size costs others no more than its pod's limit, or what it holds, and no less than
/// the kernel lets it touch.
#[test]
fn a_listed_guest_is_promised_what_its_pod_may_hold() {
    let cases = (64..100_000_u64, 0..4096_u64, 0..2048_u64, 0..4096_u64);
    show(cases, |(full, bound, held, plugged)| {
        let mut w = world(4096, vec![guest("liar", full, 50), guest("b", 1024, 900)]);
        let liar = w.guest("liar");
        (liar.bound, liar.held, liar.plugged, liar.reports) = (Some(bound), Some(held), plugged, false);
        w.tick();
        let charge = w.state.model().track(&World::id("liar")).unwrap().charge();
        prop_assert!(charge <= mib(bound.max(held)), "{charge}");
        let touchable = full.min(4096).saturating_add(plugged).min(4096);
        prop_assert!(charge.plus(mib(16)) >= mib(touchable.min(bound).max(held)), "{charge}");
        Ok(1)
    });
}

#[test]
fn a_limit_that_is_gone_binds_nobody_any_more() {
    let mut w = world(4096, vec![guest("a", 1024, 100)]);
    w.guest("a").bound = Some(512);
    let charge = |w: &mut World| w.tick().ledger.promised;
    assert_eq!(charge(&mut w), mib(512));
    w.guest("a").bound = None;
    assert_eq!(charge(&mut w), mib(1024));
}

#[test]
fn what_a_limit_keeps_a_guest_from_is_not_counted_as_what_it_could_give() {
    let mut w = world(1400, vec![guest("bound", 2048, 100), guest("idle", 1024, 100)]);
    w.guest("bound").bound = Some(600);
    for _ in 0..30 {
        w.tick();
    }
    let decision = w.decide(1, Turn::Tick);
    assert_eq!(decision.ledger.shortfall, Bytes::ZERO, "{:?}", decision.ledger);
    assert!(w.target("idle") < 1024, "{}", w.target("idle"));
}

#[test]
fn a_guest_gives_by_and_by_what_its_limit_lets_it_have() {
    let mut w = world(1000, vec![guest("bound", 2048, 100), guest("idle", 1024, 100)]);
    w.guest("bound").bound = Some(900);
    for _ in 0..40 {
        w.tick();
    }
    let decision = w.decide(1, Turn::Tick);
    assert_eq!(decision.ledger.shortfall, Bytes::ZERO, "{:?}", decision.ledger);
    assert!(w.target("bound") < 900, "{}", w.target("bound"));
}
