//! A guest's guaranteed minimum (invariants 1 and 9).

use crate::model::Track;
use crate::policy::Class;
use crate::reason::FloorKind;
use crate::units::{Bytes, Permille};

/// Usable memory that a guest always keeps, as used × 10 / 9: 10 % of what it holds. KubeVirt alerts below 5 %.
const WORKING_SET: (u64, u64) = (10, 9);
/// The same while turns are taken, as used × 16 / 15: 6.25 %, and nobody is taken to hurt above 5 %. What others are left beyond what
/// they need is what somebody lacks.
const CLOSE_WORKING_SET: (u64, u64) = (16, 15);
/// The same in an emergency, as used × 40 / 39: 2.5 %, what its kernel needs to go on reclaiming.
const EMERGENCY_WORKING_SET: (u64, u64) = (40, 39);
/// Least part of the full size in an emergency, and of who waits its turn, whatever the guest says it uses.
const EMERGENCY_PART: Permille = Permille::new(125);

/// The highest of percent, bytes, request and working set, and which it is; never above the guest's full size. Who waits its turn
/// keeps what it was promised, and not its working set.
pub fn of(track: &Track, class: &Class) -> (Bytes, FloorKind) {
    if track.waits() { of_waiting(track, class) } else { of_regular(track, class) }
}

/// What a guest keeps that uses so much.
pub(crate) fn of_working_set(used: Bytes) -> Bytes {
    used.scaled(WORKING_SET.0, WORKING_SET.1)
}

/// What it keeps while turns are taken that uses so much.
pub(crate) fn of_close_working_set(used: Bytes) -> Bytes {
    used.scaled(CLOSE_WORKING_SET.0, CLOSE_WORKING_SET.1)
}

/// As [`of`], while turns are taken: who waits keeps what it was promised, and everybody else its working set with little headroom.
pub(crate) fn in_turns(track: &Track, class: &Class) -> (Bytes, FloorKind) {
    if track.waits() { of_waiting(track, class) } else { of_close(track, class) }
}

/// The same, of a guest that does not wait. Never above its regular floor.
pub(crate) fn of_close(track: &Track, class: &Class) -> (Bytes, FloorKind) {
    let (promised, regular) = (promised(track, class), of_regular(track, class));
    let close = track.used().map_or(Bytes::ZERO, of_close_working_set).max(promised.0);
    if close < regular.0 { (close, FloorKind::Turn) } else { regular }
}

/// As [`of`], of a guest that does not wait.
pub(crate) fn of_regular(track: &Track, class: &Class) -> (Bytes, FloorKind) {
    let promised = promised(track, class);
    let used = track.used().map_or(Bytes::ZERO, of_working_set).min(track.sample.config.full);
    if used > promised.0 { (used, FloorKind::WorkingSet) } else { promised }
}

/// As [`of`], of a guest that waits its turn.
pub(crate) fn of_waiting(track: &Track, class: &Class) -> (Bytes, FloorKind) {
    let (promised, regular) = (promised(track, class), of_regular(track, class));
    let least = track.sample.config.full.share(EMERGENCY_PART);
    if least > promised.0 { (least.min(regular.0), FloorKind::Turn) } else { promised }
}

/// The highest of percent, bytes and request.
fn promised(track: &Track, class: &Class) -> (Bytes, FloorKind) {
    let full = track.sample.config.full;
    let mut floor = (full.share(class.floor.part), FloorKind::Part);
    let mut raise = |bytes: Bytes, kind| {
        if bytes > floor.0 {
            floor = (bytes, kind);
        }
    };
    raise(class.floor.bytes, FloorKind::Bytes);
    if let Some(request) = track.sample.facts.request.filter(|_| !class.floor.below_request) {
        // What was plugged into it is there already.
        raise(request.minus(track.overhead()).minus(track.plugged()), FloorKind::Request);
    }
    (floor.0.min(full), floor.1)
}

/// What a guest keeps in a declared emergency: its working set with the least headroom, and an eighth of its size. Never
/// above its regular floor.
pub fn in_emergency(track: &Track, class: &Class) -> (Bytes, FloorKind) {
    let regular = of(track, class);
    let full = track.sample.config.full;
    let used =
        track.used().map_or(full, |used| used.scaled(EMERGENCY_WORKING_SET.0, EMERGENCY_WORKING_SET.1));
    let floor = used.max(full.share(EMERGENCY_PART));
    if floor < regular.0 { (floor, FloorKind::Emergency) } else { regular }
}
