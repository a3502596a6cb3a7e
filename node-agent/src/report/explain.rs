//! Why one guest has the memory it has, for somebody who was woken at 3 a.m.: what is known and how old it is, what was
//! wanted, what was allowed, what the last take did, and what comes next.

use overcommit_core::conduct::{FOLLOW_TOLERANCE, Trust};
use overcommit_core::policy::Mode;
use overcommit_core::reason::{FloorKind, Reason};
use overcommit_core::sample::RunState;
use overcommit_core::units::Bytes;
use overcommit_core::view::GuestView;

use super::{Report, lines};

/// Growth per second that is worth a word.
const GROWS: Bytes = Bytes::from_mib(1);

/// The explanation of one guest.
pub(crate) fn explanation(report: &Report, guest: &GuestView) -> String {
    let rows: [(&str, Option<String>); 13] = [
        ("target", Some(target(report, guest))),
        ("holds", Some(holds(guest))),
        ("its words", Some(words(guest))),
        ("needs", needs(guest)),
        // What is never taken from has no floor to be kept above.
        ("floor", (!guest.exempt).then(|| floor(guest))),
        ("hurts", guest.pain.map(|pain| pain.to_string())),
        ("last take", last_take(guest)),
        ("balloon", trust(guest)),
        ("contested", guest.contested.map(|contested| contested.to_string())),
        ("next", Some(next(guest))),
        ("node", Some(lines::headline(report).trim_end().to_owned())),
        ("trouble", troubles(report, guest)),
        ("unlisted", lines::unlisted(report)),
    ];
    let rows = rows.into_iter().filter_map(|(name, text)| Some(format!("  {name:<10} {}\n", text?)));
    format!("{}: {}\n{}", guest.name, guest.why(), rows.collect::<String>())
}

fn target(report: &Report, guest: &GuestView) -> String {
    let shadow =
        if report.mode == Mode::Observe { ", as a plan that nobody carries out (Observe)" } else { "" };
    let moved = if guest.target == guest.previous_target {
        "as before".to_owned()
    } else {
        format!("was {} before this turn", guest.previous_target)
    };
    let wanted = guest.wished.filter(|wished| *wished != guest.target).map_or(String::new(), |wished| {
        let why = guest.cut.map_or(String::new(), |cut| format!(": {cut}"));
        format!("; the engine wanted {wished}, the guard allowed this{why}")
    });
    let plugged = if guest.plugged.is_zero() {
        String::new()
    } else {
        format!(", and {} plugged, which no balloon can take", guest.plugged)
    };
    let left =
        guest.left.map_or(String::new(), |left| format!(" (of which somebody else had left it {left})"));
    format!("{} of {}{left}{plugged}{shadow}, {moved}{wanted}", guest.target, guest.full)
}

fn holds(guest: &GuestView) -> String {
    let age = guest.facts_age.map_or(String::new(), |age| format!(" {:.1} s ago", age.as_secs_f64()));
    let processes = guest.facts.anon.map_or("unknown".to_owned(), |anon| format!("{anon}{age}"));
    let overhead = guest.facts.overhead.map_or("not measured yet".to_owned(), |o| format!("{o} of that"));
    format!(
        "{} by its balloon, {processes} by its processes (overhead: {overhead}); charged {}",
        guest.actual, guest.charge
    )
}

fn words(guest: &GuestView) -> String {
    // They were made before they were seen.
    let age = guest
        .statistics_age
        .map_or("never came".to_owned(), |age| format!("at least {:.1} s old", age.as_secs_f64()));
    guest.statistics.map_or_else(
        || format!("{age}: not used"),
        |s| format!("{age}: {} of {} usable, {} unused", s.usable, s.total, s.unused),
    )
}

fn needs(guest: &GuestView) -> Option<String> {
    let used = guest.used?;
    // Less than that changes nothing that anybody would see.
    let grows = guest.rise >= GROWS;
    let growing = if grows { format!(", growing by {} per second", guest.rise) } else { String::new() };
    Some(format!("{} for the {used} that it uses{growing}", guest.demand))
}

fn floor(guest: &GuestView) -> String {
    let hint = if requests_all(guest) {
        ", which is all it has: nothing can be taken. Let it request less, or set floor.belowRequest for its class"
    } else {
        ""
    };
    format!("{}, {}{hint}", guest.floor, guest.floor_kind)
}

/// The scheduler promised its pod as much as it has, as KubeVirt asks for unless told otherwise.
pub(super) fn requests_all(guest: &GuestView) -> bool {
    !guest.exempt && guest.floor_kind == FloorKind::Request && guest.floor >= guest.ceiling()
}

fn last_take(guest: &GuestView) -> Option<String> {
    if let Some(take) = guest.underway {
        let so_far = if take.followed {
            "its balloon followed; watched for pain"
        } else {
            "its balloon is on its way"
        };
        return Some(format!("{} → {} {} s ago: {so_far}", take.from, take.to, take.age.as_secs()));
    }
    guest.failure.map(|failure| format!("was undone: {failure}"))
}

fn trust(guest: &GuestView) -> Option<String> {
    match guest.trust {
        Trust::Trusted => None,
        Trust::Unresponsive => Some("does not do what it is told: charged at full size".to_owned()),
        Trust::Untrusted => Some("says what its process denies: charged at full size".to_owned()),
    }
}

/// What does not work on this node, or with the guest: it may be why nothing is taken, or given.
fn troubles(report: &Report, guest: &GuestView) -> Option<String> {
    let its = format!("{}: ", guest.name);
    let of_guest = report.troubles.of_guests().filter(|trouble| trouble.starts_with(&its));
    let told: Vec<&str> = report.troubles.own().chain(of_guest).collect();
    (!told.is_empty()).then(|| told.join("\n             "))
}

fn next(guest: &GuestView) -> String {
    if guest.exempt {
        return "nothing, as long as that holds".to_owned();
    }
    if guest.run_state == RunState::Unreachable {
        return "nothing, before its hypervisor answers".to_owned();
    }
    if guest.run_state == RunState::Paused && guest.actual.plus(FOLLOW_TOLERANCE) < guest.target {
        return format!("up to {} as soon as it runs: its balloon rests while it is paused", guest.target);
    }
    if guest.reason == Reason::Waiting {
        return "memory, as soon as others have given it or the node has it to spare".to_owned();
    }
    if let Some(left) = guest.back_off {
        return format!("nothing is taken from it for another {} s", left.as_secs());
    }
    let back = if guest.target < guest.ceiling() {
        "its memory back when it needs it, or the node has it to spare"
    } else {
        "nothing to do"
    };
    if guest.reclaimable.is_zero() {
        return back.to_owned();
    }
    format!("{back}; could give {} to others that need it", guest.reclaimable)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use overcommit_core::contest::Contested;
    use overcommit_core::reason::{Cut, Hold};
    use overcommit_core::units::Bytes;

    use super::*;
    use crate::report::fixture;

    #[test]
    fn a_guest_that_requests_all_it_has_is_told_what_to_set() {
        let part = fixture::guest(1, Reason::FullSize);
        let request = GuestView { floor_kind: FloorKind::Request, ..part.clone() };
        let all = GuestView { floor: request.full, ..request.clone() };
        let told = |guest: &GuestView| {
            explanation(&fixture::report(Vec::new()), guest).contains("floor.belowRequest")
        };
        assert!(told(&all));
        assert!(!told(&request) && !told(&part));
        assert!(!told(&GuestView { full: Bytes::from_gib(2), ..all }));
    }

    #[test]
    fn a_guest_that_is_left_alone_is_told_of_no_floor() {
        let guest = fixture::guest(1, Reason::FullSize);
        let told = |guest: &GuestView| {
            explanation(&fixture::report(Vec::new()), guest).contains("floor")
                || lines::table(&fixture::report(vec![guest.clone()])).contains("256.0 MiB")
        };
        assert!(told(&guest));
        assert!(!told(&GuestView { exempt: true, reason: Reason::Unlisted, ..guest }));
    }

    #[test]
    fn a_guest_that_has_what_somebody_else_left_it_waits_for_nothing() {
        let guest = GuestView {
            target: Bytes::from_mib(300),
            left: Some(Bytes::from_mib(300)),
            reclaimable: Bytes::ZERO,
            ..fixture::guest(1, Reason::FullSize)
        };
        let told = explanation(&fixture::report(Vec::new()), &guest);
        assert!(told.contains("somebody else had left it 300.0 MiB"), "{told}");
        assert!(told.contains("nothing to do") && !told.contains("memory back"), "{told}");
    }

    #[test]
    fn who_cannot_be_helped_now_is_told_what_has_to_come_first() {
        let guest = fixture::guest(1, Reason::Enough);
        let told = |run_state, holds: u64| {
            let guest = GuestView { run_state, actual: Bytes::from_mib(holds), ..guest.clone() };
            explanation(&fixture::report(Vec::new()), &guest)
        };
        let holds = guest.target.to_mib_floor();
        assert!(told(RunState::Paused, holds - 100).contains("as soon as it runs"));
        assert!(!told(RunState::Paused, holds).contains("as soon as it runs"));
        assert!(told(RunState::Unreachable, holds).contains("before its hypervisor answers"));
    }

    #[test]
    fn what_does_not_work_on_the_node_is_told_where_a_guest_is_explained() {
        let guest = fixture::guest(1, Reason::Held(Hold::TakingPaused));
        let mut report = fixture::report(Vec::new());
        assert!(!explanation(&report, &guest).contains("trouble"));
        report.troubles.add_own(["the disk is full".to_owned(), "and so on".to_owned()]);
        let told = explanation(&report, &guest);
        assert!(told.contains("trouble    the disk is full\n             and so on\n"), "{told}");
    }

    #[test]
    fn what_the_guard_changed_is_told_with_its_rule() {
        let guest = fixture::guest(1, Reason::TakeUnused);
        let wished = Some(guest.target.minus(Bytes::from_mib(50)));
        let told = |cut| {
            let guest = GuestView { wished, cut: Some(cut), ..guest.clone() };
            explanation(&fixture::report(Vec::new()), &guest)
        };
        let told = [Cut::GuestLimit, Cut::Floor(FloorKind::Request)].map(told);
        assert!(
            told[0].contains("the guard allowed this: limits.takePerGuest leaves no more"),
            "{}",
            told[0]
        );
        assert!(told[1].contains("the guard allowed this: it keeps its pod's memory request"), "{}", told[1]);
    }

    #[test]
    fn somebody_who_keeps_lowering_a_balloon_is_told_of_and_how_long_that_stands() {
        let mut contested = fixture::guest(1, Reason::Enough);
        let told = |guest: &GuestView| explanation(&fixture::report(Vec::new()), guest);
        assert!(!told(&contested).contains("another controller"));
        contested.contested = Some(Contested { times: 3, wait: Duration::from_secs(40) });
        let said = told(&contested);
        assert!(said.contains("another controller") && said.contains("after 40 s"), "{said}");
    }

    #[test]
    fn every_reason_is_documented() {
        let documented = include_str!("../../../docs/reasons.md");
        let code = |line: &'static str| line.split_once("=> \"")?.1.strip_suffix("\",");
        let named =
            |code: &&str| code.starts_with(char::is_uppercase) && code.chars().all(char::is_alphanumeric);
        let sources = [
            include_str!("../../core/src/reason.rs"),
            include_str!("../../core/src/reason/hold.rs"),
            include_str!("../../core/src/ksm/reason.rs"),
        ];
        let codes: Vec<&str> =
            sources.iter().flat_map(|source| source.lines()).filter_map(code).filter(named).collect();
        assert!(["FullSize", "AtFloorTurn", "KsmPays"].iter().all(|code| codes.contains(code)), "{codes:?}");
        assert!(codes.len() > 40, "{codes:?}");
        for code in codes {
            assert!(documented.contains(&format!("`{code}`")), "docs/reasons.md does not explain {code}");
        }
    }
}
