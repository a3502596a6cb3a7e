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

/// What guests are left beyond what they use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Headroom {
    /// As long as there is enough.
    Regular,
    /// While turns are taken.
    Close,
}

impl Headroom {
    /// What a guest keeps that uses so much.
    pub(crate) fn around(self, used: Bytes) -> Bytes {
        let (of, by) = match self {
            Self::Regular => WORKING_SET,
            Self::Close => CLOSE_WORKING_SET,
        };
        used.scaled(of, by)
    }

    /// As [`of`], of a guest that does not wait.
    pub(crate) fn floor(self, track: &Track, class: &Class) -> (Bytes, FloorKind) {
        let promised = promised(track, class);
        let around = |headroom: Self| track.used().map_or(Bytes::ZERO, |used| headroom.around(used));
        let regular = around(Self::Regular).min(track.sample.config.full);
        match self {
            _ if regular <= promised.0 => promised,
            Self::Close if around(self) < regular => (around(self).max(promised.0), FloorKind::Turn),
            Self::Regular | Self::Close => (regular, FloorKind::WorkingSet),
        }
    }
}

/// The highest of percent, bytes, request and working set, and which it is; never above the guest's full size. Who waits its turn
/// keeps what it was promised, and not its working set.
pub fn of(track: &Track, class: &Class) -> (Bytes, FloorKind) {
    with(Headroom::Regular, track, class)
}

/// As [`of`], with that headroom.
pub(crate) fn with(headroom: Headroom, track: &Track, class: &Class) -> (Bytes, FloorKind) {
    if track.waits() { of_waiting(track, class) } else { headroom.floor(track, class) }
}

/// As [`of`], of a guest that waits its turn.
pub(crate) fn of_waiting(track: &Track, class: &Class) -> (Bytes, FloorKind) {
    let (promised, regular) = (promised(track, class), Headroom::Regular.floor(track, class));
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
