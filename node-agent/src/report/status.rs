//! A report as the status of a NodeOvercommit, within its 4 KiB.

use overcommit_core::conduct::Trust;
use overcommit_core::ksm::KsmPlan;
use overcommit_core::ledger::Ledger;
use overcommit_core::policy::Mode;
use overcommit_core::step::Release;
use overcommit_core::turns::Place;
use overcommit_core::units::Bytes;
use overcommit_core::view::GuestView;
use overcommit_crds::condition::{Condition, ConditionStatus, rfc3339};
use overcommit_crds::names::condition as types;
use overcommit_crds::node::{
    ActionStatus, GuestCounts, GuestStatus, KsmStatus, LedgerStatus, NodeOvercommitStatus, PressureStatus,
};
use overcommit_crds::quantity::Size;

use super::explain::requests_all;
use super::{Action, Report};

/// Guests shown at most.
const TOP: usize = 10;
/// Actions shown at most.
const LAST: usize = 5;
/// Size of the status as JSON at most: with 5,000 nodes every byte is stored and sent 5,000 times.
const MAX_BYTES: usize = 4096;
/// A sentence is cut here.
const MAX_SENTENCE: usize = 120;

/// The status, before [`fit`]; `before` holds the conditions' transition times, `actions` the last ones, newest first.
pub(crate) fn render(report: &Report, before: &[Condition], actions: &[Action]) -> NodeOvercommitStatus {
    NodeOvercommitStatus {
        observed_revision: report.orders_missing_since.is_none().then(|| report.revision.clone()),
        agent_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        reported_at: Some(rfc3339(report.at)),
        ledger: report.ledger.as_ref().map(|ledger| account(ledger, &report.guests)),
        pressure: report.host.as_ref().and_then(|h| h.pressure).map(|p| PressureStatus {
            some_avg10: i64::from(p.some_avg10),
            full_avg10: i64::from(p.full_avg10),
        }),
        ksm: (!report.ksm.is_unasked()).then(|| merging(&report.ksm)),
        guests: Some(counts(&report.guests)),
        top_guests: top(&report.guests),
        last_actions: actions.iter().take(LAST).map(action).collect(),
        conditions: conditions(report, before),
    }
}

/// Leaves guests and actions out, the last first, until the status is as small as it must be: their names may have 317
/// letters each. What is left without them is bounded by itself.
pub(crate) fn fit(status: &mut NodeOvercommitStatus) {
    let size = |status: &NodeOvercommitStatus| serde_json::to_vec(status).map_or(0, |text| text.len());
    while size(status) > MAX_BYTES {
        let guests_first = status.top_guests.len() >= status.last_actions.len();
        let left_out = if guests_first {
            status.top_guests.pop().map(drop)
        } else {
            status.last_actions.pop().map(drop)
        };
        if left_out.is_none() {
            return;
        }
    }
}

fn account(ledger: &Ledger, guests: &[GuestView]) -> LedgerStatus {
    let size = Size::from_bytes;
    LedgerStatus {
        total: size(ledger.total),
        budget: size(ledger.budget),
        promised: size(ledger.promised),
        resident: size(ledger.resident),
        reclaimed: size(ledger.reclaimed),
        reclaimable: size(guests.iter().map(|g| g.reclaimable).sum()),
        merged: size(ledger.merged),
        at_risk: size(ledger.at_risk),
        shortfall: size(ledger.shortfall),
    }
}

fn merging(ksm: &KsmPlan) -> KsmStatus {
    let profit = |bytes: i64| Size::from_bytes(Bytes::new(u64::try_from(bytes).unwrap_or(0)));
    KsmStatus {
        scanning: ksm.scan,
        reason: ksm.reason.code().to_owned(),
        message: cut(&ksm.reason.to_string()),
        merged: Size::from_bytes(ksm.merged),
        profit: ksm.profit.map(profit),
        cpu: ksm.cpu.map(|share| i64::from(share.get()).saturating_mul(10)),
    }
}

fn counts(guests: &[GuestView]) -> GuestCounts {
    let count = |which: fn(&GuestView) -> bool| {
        i64::try_from(guests.iter().filter(|g| which(g)).count()).unwrap_or(i64::MAX)
    };
    GuestCounts {
        total: count(|_| true),
        squeezed: count(|g| !g.exempt && g.target < g.ceiling()),
        distressed: count(|g| g.distressed),
        exempt: count(|g| g.exempt),
        blind: count(|g| g.blind),
        unbelieved: count(|g| g.trust != Trust::Trusted),
    }
}

/// Those that hurt first, then those with the largest takes, then by name.
fn top(guests: &[GuestView]) -> Vec<GuestStatus> {
    let mut order: Vec<&GuestView> = guests.iter().collect();
    order.sort_by_key(|g| (!g.distressed, std::cmp::Reverse(g.ceiling().minus(g.target)), g.name.clone()));
    order.into_iter().take(TOP).map(guest).collect()
}

fn guest(g: &GuestView) -> GuestStatus {
    let size = Size::from_bytes;
    GuestStatus {
        name: g.name.to_string(),
        full: size(g.full),
        target: size(g.target),
        actual: size(g.actual),
        floor: size(g.floor),
        reason: g.reason.code().to_owned(),
        message: cut(&g.why()),
    }
}

fn action(a: &Action) -> ActionStatus {
    ActionStatus {
        at: rfc3339(a.at),
        guest: a.guest.clone(),
        from: Size::from_bytes(a.from),
        to: Size::from_bytes(a.to),
        reason: a.reason.to_owned(),
    }
}

fn cut(sentence: &str) -> String {
    sentence.chars().take(MAX_SENTENCE).collect()
}

/// Ready, Degraded and, when a release was asked for, Released.
fn conditions(report: &Report, before: &[Condition]) -> Vec<Condition> {
    let generation = report.version.as_ref().map(|v| v.generation);
    let new = |type_, yes: bool, reason, message: String| {
        let status = ConditionStatus::from(yes);
        Condition::renewed(before, report.at, type_, status, reason, cut(&message), generation)
    };
    let (ready, reason, message) = readiness(report);
    let mut all = vec![new(types::READY, ready, reason, message.to_owned())];
    let (degraded, reason, message) = degradation(report);
    all.push(new(types::DEGRADED, degraded, reason, message));
    if let Some(release) = report.release {
        all.push(match release {
            Release::Done => new(types::RELEASED, true, "Released", "everything was given back".to_owned()),
            Release::Underway { outstanding } => {
                new(types::RELEASED, false, "Releasing", format!("{outstanding} are still being given back"))
            }
            Release::Blocked { short } => new(
                types::RELEASED,
                false,
                "ReleaseBlocked",
                format!("short {short}: stop or move guests to free memory"),
            ),
        });
    }
    all
}

fn readiness(report: &Report) -> (bool, &'static str, &'static str) {
    match (report.ledger.is_some(), report.release, report.mode) {
        (false, ..) => (false, "HostUnreadable", "the host's memory cannot be read: nothing is decided"),
        _ if report.orders_missing_since.is_some() => {
            (false, "NoOrders", "there is nothing to follow: gives by its journal, and takes nothing")
        }
        (true, Some(Release::Done), Mode::Enforce) => (true, "Released", "everything was given back"),
        (true, Some(_), _) => (true, "Releasing", "everything is being given back"),
        (true, None, Mode::Observe) => (true, "Observing", "reports what it would do and touches nothing"),
        (true, None, Mode::Enforce) if report.paused => (true, "Paused", "gives, and takes nothing"),
        (true, None, Mode::Enforce) => (true, "Enforcing", "balloons follow the policy"),
    }
}

fn degradation(report: &Report) -> (bool, &'static str, String) {
    let trouble = |words: &str| ("Trouble", words.to_owned());
    let cached = "the API server does not answer: the last orders on disk hold";
    let of_node =
        report.cached.then(|| ("CachedOrders", cached.to_owned())).into_iter().chain(shortage(report));
    // What tenants can cause, and as much of it as they like, hides nothing of the node.
    let of_guests = report.troubles.of_guests().map(trouble);
    let mut all = report.troubles.own().map(trouble).chain(of_node).chain(of_guests);
    match all.next() {
        Some((reason, first)) => {
            // They are the first of the node's own troubles then.
            let reason = report.orders_missing_since.map_or(reason, |_| "NoOrders");
            (true, reason, counted(&first, all.count()))
        }
        None => (false, "AsExpected", "nothing to report".to_owned()),
    }
}

/// What the account lacks, if anything.
fn shortage(report: &Report) -> Option<(&'static str, String)> {
    let shortfall = report.ledger.map_or(Bytes::ZERO, |l| l.shortfall);
    if report.declared.emergency {
        let message = format!("short of {shortfall}, and the node is about to kill: floors are crossed");
        return Some(("Emergency", message));
    }
    if report.declared.turns {
        let waiting = report.guests.iter().filter(|guest| guest.turn.is_some_and(Place::is_behind)).count();
        let message = match waiting {
            0 => "guests hurt, and are lent what others have usable beyond 6.25 %; nobody has to wait"
                .to_owned(),
            waiting => format!(
                "guests need more than there is: {waiting} wait their turn while others are served whole"
            ),
        };
        return Some(("TakingTurns", message));
    }
    let rest = match report.guests.iter().filter(|guest| requests_all(guest)).count() {
        0 => "takes are under way or at their floors".to_owned(),
        guests => format!("guests that request all they have, and give none: {guests}"),
    };
    let message = || format!("short of {shortfall} if every guest touched all it may; {rest}");
    (!shortfall.is_zero()).then(|| ("Overcommitted", message()))
}

/// A sentence, and how many more there are: whatever is cut, not their number.
fn counted(sentence: &str, more: usize) -> String {
    let rest = if more == 0 { String::new() } else { format!(" (and {more} more)") };
    let room = MAX_SENTENCE.saturating_sub(rest.chars().count());
    sentence.chars().take(room).chain(rest.chars()).collect()
}

#[cfg(test)]
mod tests {
    use overcommit_core::reason::{FloorKind, Reason};

    use super::*;
    use crate::report::Declared;
    use crate::report::fixture;

    #[test]
    fn a_shortfall_names_the_guests_that_cannot_give_for_their_requests() {
        let short = |guests| {
            let ledger = Ledger { shortfall: Bytes::from_mib(5), ..Ledger::default() };
            degradation(&Report { ledger: Some(ledger), ..fixture::report(guests) })
        };
        let gives = fixture::guest(1, Reason::FullSize);
        let all = GuestView { floor_kind: FloorKind::Request, floor: gives.full, ..gives.clone() };
        assert!(short(vec![gives.clone()]).2.ends_with("at their floors"));
        let (degraded, reason, message) = short(vec![gives, all]);
        assert_eq!((degraded, reason), (true, "Overcommitted"));
        assert!(message.ends_with("request all they have, and give none: 1"), "{message}");
        assert!(message.len() <= MAX_SENTENCE, "{message}");
    }

    #[test]
    fn what_somebody_else_left_a_guest_is_no_squeeze_of_ours() {
        let squeezed = |left: Option<u64>, target: u64| {
            let (left, target) = (left.map(Bytes::from_mib), Bytes::from_mib(target));
            counts(&[GuestView { left, target, ..fixture::guest(1, Reason::FullSize) }]).squeezed
        };
        assert_eq!([squeezed(None, 300), squeezed(Some(300), 300), squeezed(Some(300), 200)], [1, 0, 1]);
    }

    #[test]
    fn turns_say_how_many_wait() {
        let waits = GuestView { turn: Some(Place::Waits), ..fixture::guest(1, Reason::WaitsItsTurn) };
        let calm = || fixture::guest(2, Reason::Enough);
        for (guests, told) in
            [(vec![waits, calm()], "1 wait their turn"), (vec![calm()], "nobody has to wait")]
        {
            let declared = Declared { turns: true, ..Declared::default() };
            let (degraded, reason, message) = degradation(&Report { declared, ..fixture::report(guests) });
            assert_eq!((degraded, reason), (true, "TakingTurns"));
            assert!(message.contains(told), "{message}");
        }
    }

    #[test]
    fn what_guests_suffer_hides_nothing_of_the_node_and_is_counted() {
        let guests = ["shop/a: lost", "shop/b: lost"].map(str::to_owned);
        let told = |own: &[&str], order: [usize; 2], how: fn(Report) -> Report| {
            let mut report = fixture::report(Vec::new());
            report.troubles.add_of_guests(order.map(|at| guests[at].clone()));
            report.troubles.add_own(own.iter().map(|t| (*t).to_owned()));
            degradation(&how(report))
        };
        let as_it_is = |report: Report| report;
        let all = (true, "Trouble", "shop/a: lost (and 1 more)".to_owned());
        assert_eq!(told(&[], [0, 1], as_it_is), all);
        assert_eq!(told(&[], [1, 0], as_it_is), all, "whatever order they come in");
        let disk = told(&["the disk is full"], [0, 1], as_it_is);
        assert_eq!(disk, (true, "Trouble", "the disk is full (and 2 more)".to_owned()));
        let cached = told(&[], [0, 1], |report| Report {
            cached: true,
            declared: Declared { emergency: true, ..Declared::default() },
            ..report
        });
        assert_eq!((cached.1, cached.2.ends_with("(and 3 more)")), ("CachedOrders", true), "{}", cached.2);
        let short = |report: Report| {
            let ledger = Ledger { shortfall: Bytes::from_mib(5), ..Ledger::default() };
            Report { ledger: Some(ledger), ..report }
        };
        assert_eq!(told(&[], [0, 1], short).1, "Overcommitted");
        let long = told(&["\u{1f418}".repeat(1000).as_str()], [0, 1], as_it_is).2;
        assert!(long.ends_with(" (and 2 more)") && long.chars().count() == MAX_SENTENCE, "{long}");
    }

    #[test]
    fn without_orders_a_node_is_not_ready_and_degraded_for_that_before_all_else() {
        let since = Some(jiff::Timestamp::UNIX_EPOCH);
        let mut report = Report { orders_missing_since: since, ..fixture::report(Vec::new()) };
        report.troubles.add_own(["no orders since then", "the disk is full"].map(str::to_owned));
        let status = render(&report, &[], &[]);
        assert_eq!(status.observed_revision, None);
        let said = |type_| {
            let condition = Condition::find(&status.conditions, type_).unwrap();
            (condition.status, condition.reason.as_str(), condition.message.as_str())
        };
        let (ready, reason, _) = said(types::READY);
        assert_eq!((ready, reason), (ConditionStatus::False, "NoOrders"));
        let told = "no orders since then (and 1 more)";
        assert_eq!(said(types::DEGRADED), (ConditionStatus::True, "NoOrders", told));
    }

    #[test]
    fn the_longest_names_and_sentences_fit_with_some_of_each() {
        let (name, size) = ("n".repeat(400), Size::from_bytes(Bytes::MAX));
        let message = cut(&"\u{1f418}".repeat(1000));
        let guest = GuestStatus {
            name: name.clone(),
            full: size.clone(),
            target: size.clone(),
            actual: size.clone(),
            floor: size.clone(),
            reason: "NotFollowing".into(),
            message: "s".repeat(MAX_SENTENCE),
        };
        let at = rfc3339(jiff::Timestamp::MAX);
        let action = ActionStatus {
            at: at.clone(),
            guest: name,
            from: size.clone(),
            to: size,
            reason: "GiveDistress".into(),
        };
        let said = |type_| {
            let status = ConditionStatus::True;
            Condition::renewed(
                &[],
                jiff::Timestamp::MAX,
                type_,
                status,
                "ReleaseBlocked",
                &*message,
                Some(i64::MAX),
            )
        };
        let mut status = NodeOvercommitStatus {
            observed_revision: Some("0123456789ab".into()),
            reported_at: Some(at),
            ledger: Some(account(&Ledger::default(), &[])),
            guests: Some(GuestCounts::default()),
            top_guests: vec![guest; TOP],
            last_actions: vec![action; LAST],
            conditions: [types::READY, types::DEGRADED, types::RELEASED].map(said).into(),
            ..NodeOvercommitStatus::default()
        };
        fit(&mut status);
        let length = serde_json::to_vec(&status).unwrap().len();
        assert!(length <= MAX_BYTES, "{length}");
        assert!(!status.top_guests.is_empty() && !status.last_actions.is_empty());
        let before = status.clone();
        fit(&mut status);
        assert_eq!(status, before, "what fits stays");
    }
}
