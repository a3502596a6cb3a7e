//! A guest's guaranteed minimum (invariants 1 and 9).

use crate::model::Track;
use crate::policy::Class;
use crate::reason::FloorKind;
use crate::units::{Bytes, Permille};

/// Usable memory that a guest always keeps, as used × 10 / 9: 10 % of what it holds. KubeVirt alerts below 5 %.
const WORKING_SET: (u64, u64) = (10, 9);
/// The same in an emergency, as used × 40 / 39: 2.5 %, what its kernel needs to go on reclaiming.
const EMERGENCY_WORKING_SET: (u64, u64) = (40, 39);
/// Least part of the full size in an emergency, whatever the guest says it uses.
const EMERGENCY_PART: Permille = Permille::new(125);

/// The highest of percent, bytes, request and working set, and which it is; never above the guest's full size.
pub fn of(track: &Track, class: &Class) -> (Bytes, FloorKind) {
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
    if let Some(used) = track.used() {
        raise(used.scaled(WORKING_SET.0, WORKING_SET.1), FloorKind::WorkingSet);
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
