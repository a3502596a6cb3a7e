//! The fast lane's look at one guest: what is seen of its process before its next words come.

#![allow(clippy::unwrap_used)] // helpers outside #[test] functions are test code too

use std::time::Duration;

use crate::world::{World, guest, mib, reason, settle, view, world};
use overcommit_core::reason::{Pain, Reason};
use overcommit_core::step::Turn;
use overcommit_core::units::Monotonic;

#[test]
fn a_guest_that_writes_files_is_given_memory_and_fails_no_take() {
    let mut w = world(1000, vec![guest("a", 512, 100), guest("b", 512, 100), guest("c", 512, 100)]);
    settle(&mut w, 2);
    assert!(view(&w.tick(), "a").underway.is_some());
    let fills = Pain::Filling { per_second: mib(800) };
    let id = World::id("a");
    w.state.note_pain(&id, fills, Monotonic::new(Duration::from_secs(w.now)));
    let decision = w.decide(1, Turn::Relief);
    assert!(matches!(reason(&decision, "a"), Reason::GiveDistress(_) | Reason::Waiting), "{decision:?}");
    let track = w.state.model().track(&id).unwrap();
    let at = Monotonic::new(Duration::from_secs(w.now));
    assert_eq!((track.pain, track.conduct.undo(), track.conduct.back_off(at)), (Some(fills), None, None));
}

#[test]
fn what_is_foreseen_hides_nothing_that_hurts_already() {
    let mut w = world(2048, vec![guest("a", 512, 500)]);
    settle(&mut w, 2);
    let pain = |w: &World| w.state.model().track(&World::id("a")).unwrap().pain;
    let hurts = pain(&w);
    assert!(matches!(hurts, Some(Pain::LowUsable { .. })), "{hurts:?}");
    let at = Monotonic::new(Duration::from_secs(w.now));
    w.state.note_pain(&World::id("a"), Pain::Filling { per_second: mib(800) }, at);
    assert_eq!(pain(&w), hurts);
    w.state.note_pain(&World::id("a"), Pain::HostFaults { per_second: 90 }, at);
    assert_eq!(pain(&w), Some(Pain::HostFaults { per_second: 90 }));
}
