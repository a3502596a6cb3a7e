//! Reports to test with.

use overcommit_core::conduct::Trust;
use overcommit_core::ledger::Ledger;
use overcommit_core::reason::{FloorKind, Reason};
use overcommit_core::sample::{GuestId, GuestName, ProcessFacts, RunState};
use overcommit_core::units::Bytes;
use overcommit_core::view::GuestView;
use overcommit_crds::OvercommitPolicySpec;

use super::Report;
use crate::orders::Orders;

/// Guest `number` of 1 GiB, of which nothing was taken.
pub(crate) fn guest(number: usize, reason: Reason) -> GuestView {
    let size = Bytes::from_mib(1024);
    GuestView {
        id: GuestId::new(format!("id-{number:03}")),
        name: GuestName::namespaced("shop", format!("guest-{number:03}")),
        full: size,
        left: None,
        plugged: Bytes::ZERO,
        target: size,
        previous_target: size,
        wished: None,
        cut: None,
        actual: size,
        floor: Bytes::from_mib(256),
        floor_kind: FloorKind::Part,
        used: None,
        demand: Bytes::ZERO,
        rise: Bytes::ZERO,
        reclaimable: Bytes::from_mib(10),
        charge: size,
        statistics: None,
        statistics_age: None,
        facts: ProcessFacts::default(),
        facts_age: None,
        run_state: RunState::Running,
        pain: None,
        distressed: false,
        turn: None,
        exempt: false,
        blind: false,
        trust: Trust::Trusted,
        underway: None,
        failure: None,
        back_off: None,
        contested: None,
        reason,
        program: None,
    }
}

/// A turn with these guests under a policy that says nothing.
pub(crate) fn report(guests: Vec<GuestView>) -> Report {
    let orders = Orders::from_file("p", &OvercommitPolicySpec::default()).unwrap();
    Report { ledger: Some(Ledger::default()), guests, ..Report::blank(&orders) }
}
