//! Whether a status tells anything that matters and the last one did not. Pure.
//!
//! With thousands of nodes every write is stored, sent to the operator and summed up there: measurements that wander
//! are no news. What is left out here comes with the next write, at the latest with the refresh.

use std::collections::BTreeMap;

use overcommit_core::units::Bytes;
use overcommit_crds::condition::Condition;
use overcommit_crds::node::{GuestStatus, KsmStatus, LedgerStatus, NodeOvercommitStatus};
use overcommit_crds::quantity::Size;

/// A size moved if it did by more than this, in parts of what it was.
const PART: u64 = 100;
/// And by more than this; on a small node by more than the same part of its memory.
const LEAST: Bytes = Bytes::from_mib(64);

/// A condition, the generation it speaks of, or the revision changed: somebody waits for that.
pub(crate) fn turned(old: &NodeOvercommitStatus, new: &NodeOvercommitStatus) -> bool {
    let key = |s: &NodeOvercommitStatus| {
        let of = |c: &Condition| (c.type_.clone(), c.status, c.reason.clone(), c.observed_generation);
        let conditions: Vec<_> = s.conditions.iter().map(of).collect();
        (s.observed_revision.clone(), conditions)
    };
    key(old) != key(new)
}

/// Something worth a write changed.
pub(crate) fn changed(old: &NodeOvercommitStatus, new: &NodeOvercommitStatus) -> bool {
    let least = new.ledger.as_ref().map_or(LEAST, |ledger| LEAST.min(bytes(&ledger.total).scaled(1, PART)));
    turned(old, new)
        || old.guests != new.guests
        || old.agent_version != new.agent_version
        || words(old) != words(new)
        || merging(old.ksm.as_ref()) != merging(new.ksm.as_ref())
        || ledger(old.ledger.as_ref(), new.ledger.as_ref(), least)
        || guests(&old.top_guests, &new.top_guests, least)
}

/// Whether ksmd scans, and else why not: what it saves is in the account, and how fast wanders.
fn merging(ksm: Option<&KsmStatus>) -> Option<(bool, Option<&str>)> {
    ksm.map(|ksm| (ksm.scanning, (!ksm.scanning).then_some(ksm.reason.as_str())))
}

/// What the conditions say, but for their numbers.
fn words(status: &NodeOvercommitStatus) -> Vec<String> {
    let word = |c: &Condition| c.message.chars().filter(|c| !c.is_ascii_digit() && *c != '.').collect();
    status.conditions.iter().map(word).collect()
}

fn ledger(old: Option<&LedgerStatus>, new: Option<&LedgerStatus>, least: Bytes) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return old.is_some() != new.is_some() };
    let all = |l: &LedgerStatus| {
        [&l.total, &l.budget, &l.promised, &l.resident, &l.reclaimed, &l.reclaimable, &l.merged, &l.at_risk]
            .map(bytes)
    };
    // Whether anything is missing matters, however little.
    let short = |l: &LedgerStatus| bytes(&l.shortfall).is_zero();
    short(old) != short(new)
        || moved(bytes(&old.shortfall), bytes(&new.shortfall), least)
        || all(old).into_iter().zip(all(new)).any(|(old, new)| moved(old, new, least))
}

/// Another guest, another reason, or a size that moved; in whatever order they stand.
fn guests(old: &[GuestStatus], new: &[GuestStatus], least: Bytes) -> bool {
    let before: BTreeMap<&str, &GuestStatus> = old.iter().map(|g| (g.name.as_str(), g)).collect();
    let sizes = |g: &GuestStatus| [&g.full, &g.target, &g.actual, &g.floor].map(bytes);
    let differs = |g: &GuestStatus| {
        before.get(g.name.as_str()).is_none_or(|b| {
            b.reason != g.reason
                || sizes(b).into_iter().zip(sizes(g)).any(|(old, new)| moved(old, new, least))
        })
    };
    old.len() != new.len() || new.iter().any(differs)
}

fn moved(old: Bytes, new: Bytes, least: Bytes) -> bool {
    old.minus(new).plus(new.minus(old)) > least.max(old.scaled(1, PART))
}

fn bytes(size: &Size) -> Bytes {
    size.parse().unwrap_or(Bytes::ZERO)
}

#[cfg(test)]
mod tests {
    use overcommit_crds::condition::ConditionStatus;

    use super::*;

    fn size(mib: u64) -> Size {
        Size::from_bytes(Bytes::from_mib(mib))
    }

    fn condition(reason: &str, message: &str) -> Condition {
        let at = jiff::Timestamp::UNIX_EPOCH;
        Condition::renewed(&[], at, "Degraded", ConditionStatus::False, reason, message, Some(1))
    }

    fn ksm(scanning: bool, reason: &str) -> KsmStatus {
        let (reason, message) = (reason.to_owned(), String::new());
        KsmStatus { scanning, reason, message, merged: size(100), profit: None, cpu: None }
    }

    /// A node of 64 GiB with one guest.
    fn status() -> NodeOvercommitStatus {
        let ledger = LedgerStatus {
            total: size(65_536),
            budget: size(60_000),
            promised: size(40_000),
            resident: size(30_000),
            reclaimed: size(2_000),
            reclaimable: size(500),
            merged: size(0),
            at_risk: size(0),
            shortfall: size(0),
        };
        let guest = GuestStatus {
            name: "n/g".into(),
            full: size(4096),
            target: size(3000),
            actual: size(3000),
            floor: size(2000),
            reason: "Squeezed".into(),
            message: "uses 2.5 GiB".into(),
        };
        NodeOvercommitStatus {
            ledger: Some(ledger),
            ksm: Some(ksm(true, "KsmPays")),
            top_guests: vec![guest],
            conditions: vec![condition("AsExpected", "short of 12 MiB")],
            ..NodeOvercommitStatus::default()
        }
    }

    /// A status that differs by `how`.
    fn with(how: impl FnOnce(&mut NodeOvercommitStatus, &mut LedgerStatus)) -> NodeOvercommitStatus {
        let mut status = status();
        let mut ledger = status.ledger.take().unwrap();
        how(&mut status, &mut ledger);
        NodeOvercommitStatus { ledger: Some(ledger), ..status }
    }

    #[test]
    fn what_wanders_is_no_news() {
        for (what, new) in [
            ("time", with(|s, _| s.reported_at = Some("later".into()))),
            ("speed", with(|s, _| s.ksm = Some(ksm(true, "KsmSlower")))),
            ("resident", with(|_, l| l.resident = size(30_290))),
            ("promised", with(|_, l| l.promised = size(39_650))),
            ("little", with(|_, l| l.reclaimable = size(560))),
            ("target", with(|s, _| s.top_guests[0].target = size(3060))),
            ("numbers", with(|s, _| s.top_guests[0].message = "uses 2.6 GiB".into())),
            ("numbers", with(|s, _| s.conditions = vec![condition("AsExpected", "short of 13.5 MiB")])),
        ] {
            assert!(!changed(&status(), &new), "{what}");
        }
    }

    #[test]
    fn what_matters_is_news() {
        for (what, new) in [
            ("promised", with(|_, l| l.promised = size(40_500))),
            ("reclaimed", with(|_, l| l.reclaimed = size(1_900))),
            ("a first shortfall", with(|_, l| l.shortfall = size(1))),
            ("target", with(|s, _| s.top_guests[0].target = size(2900))),
            ("reason", with(|s, _| s.top_guests[0].reason = "Distress".into())),
            ("guest", with(|s, _| s.top_guests[0].name = "n/h".into())),
            ("trouble", with(|s, _| s.conditions = vec![condition("AsExpected", "no way")])),
            ("turn", with(|s, _| s.conditions = vec![condition("Trouble", "short of 12 MiB")])),
            ("stop", with(|s, _| s.ksm = Some(ksm(false, "KsmExhausted")))),
            ("count", with(|s, _| s.guests = Some(overcommit_crds::node::GuestCounts::default()))),
        ] {
            assert!(changed(&status(), &new), "{what}");
        }
    }

    #[test]
    fn a_small_node_has_smaller_news() {
        let small = |resident| with(|_, l| (l.total, l.resident) = (size(2048), size(resident)));
        assert!(changed(&small(500), &small(530)));
        assert!(!changed(&small(500), &small(510)));
    }
}
