//! A guest's guaranteed minimum (invariant 1).

use crate::model::Track;
use crate::policy::Class;
use crate::reason::FloorKind;
use crate::units::Bytes;

/// Usable memory that a guest always keeps, as used × 10 / 9: 10 % of what it holds. KubeVirt alerts below 5 %.
const WORKING_SET: (u64, u64) = (10, 9);

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
        raise(request.minus(track.overhead()), FloorKind::Request);
    }
    if let Some(used) = track.used() {
        raise(used.scaled(WORKING_SET.0, WORKING_SET.1), FloorKind::WorkingSet);
    }
    (floor.0.min(full), floor.1)
}
