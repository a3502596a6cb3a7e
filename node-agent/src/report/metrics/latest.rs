//! What holds now, read from the latest report when somebody asks: all of it is one turn's, so no guest is missing while the
//! loop tells of the next turn, and a series ends with its guest. Asking costs the loop nothing but the exchange of a pointer.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use overcommit_core::ksm::KsmPlan;
use overcommit_core::ledger::Ledger;
use overcommit_core::units::Bytes;
use overcommit_core::view::GuestView;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::orders::Standing;
use crate::report::Report;

/// Guests by namespace and name.
type Named<'r> = BTreeMap<(&'r str, &'r str), &'r GuestView>;
/// A size of a guest: name, description, where it is.
type Size = (&'static str, &'static str, fn(&GuestView) -> Bytes);
/// Something that is so or not: name, description, whether it is.
type Flag = (&'static str, &'static str, fn(&Report) -> bool);

const SIZES: [Size; 4] = [
    ("guest_target", "Balloon target; the plan while observing.", |guest| guest.target),
    ("guest_actual", "What the guest holds.", |guest| guest.actual),
    ("guest_full", "Full size of the guest.", |guest| guest.full),
    ("guest_floor", "Nothing is taken below this.", |guest| guest.floor),
];
const FLAGS: [Flag; 6] = [
    ("orders_cached", "1 while the orders come from disk.", |report| report.cached),
    (
        "orders_missing",
        "1 while there are no orders, and the journal alone says who is owed what.",
        |report| report.orders_missing_since.is_some(),
    ),
    ("api_failing", "1 while the API server is silent or refuses what the agent needs.", |report| {
        report.api_failing_since.is_some()
    }),
    // After a release the object is meant to be gone.
    ("orders_gone", "1 while the node's object is gone and no release was asked for.", |report| {
        report.standing == Standing::Gone && report.release.is_none()
    }),
    ("emergency", "1 while floors are those of an emergency.", |report| report.declared.emergency),
    ("turns", "1 while guests need more than there is, and some wait their turn.", |report| {
        report.declared.turns
    }),
];

/// The latest report, for whoever scrapes; nothing before the first.
#[derive(Clone, Debug, Default)]
pub(super) struct Latest(Arc<Mutex<Option<Arc<Report>>>>);

impl Latest {
    /// From now on this is told.
    pub(super) fn set(&self, report: &Arc<Report>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(report));
    }

    fn get(&self) -> Option<Arc<Report>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Collector for Latest {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(report) = self.get() else { return Ok(()) };
        guests(&mut encoder, &named(&report))?;
        if let Some(ledger) = &report.ledger {
            account(&mut encoder, ledger, report.guests.iter().map(|guest| guest.reclaimable).sum())?;
        }
        if !report.ksm.is_unasked() {
            merging(&mut encoder, &report.ksm)?;
        }
        for (name, help, holds) in FLAGS {
            gauge(&mut encoder, name, help, None, &u64::from(holds(&report)))?;
        }
        let help = "Pods that look like guests and are not listed.";
        let pods = u64::try_from(report.unlisted.pods).unwrap_or(u64::MAX);
        gauge(&mut encoder, "unlisted_pods", help, None, &pods)?;
        let help = "What the node counts with for pods that look like guests and are not listed.";
        let charge = report.unlisted.charge.get();
        gauge(&mut encoder, "unlisted", help, Some(&Unit::Bytes), &charge)?;
        let troubles = u64::try_from(report.troubles.len()).unwrap_or(u64::MAX);
        gauge(&mut encoder, "troubles", "Things that do not work now.", None, &troubles)
    }
}

/// A name has one series of each kind, also while two launchers of that name overlap.
fn named<'r>(report: &'r Report) -> Named<'r> {
    let entry = |guest: &'r GuestView| {
        ((guest.name.namespace.as_deref().unwrap_or_default(), &*guest.name.name), guest)
    };
    report.guests.iter().map(entry).collect()
}

/// Labels as KubeVirt uses them for its own guest metrics.
fn guests(encoder: &mut DescriptorEncoder<'_>, named: &Named<'_>) -> fmt::Result {
    for (name, help, of) in SIZES {
        let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Bytes), MetricType::Gauge)?;
        for ((namespace, name), guest) in named {
            let labels = [("namespace", *namespace), ("name", *name)];
            family.encode_family(&labels)?.encode_gauge(&of(guest).get())?;
        }
    }
    let help = "1 for the reason that holds for the guest.";
    let mut family = encoder.encode_descriptor("guest_reason", help, None, MetricType::Gauge)?;
    for ((namespace, name), guest) in named {
        let labels = [("namespace", *namespace), ("name", *name), ("reason", guest.reason.code())];
        family.encode_family(&labels)?.encode_gauge(&1_u64)?;
    }
    Ok(())
}

fn account(encoder: &mut DescriptorEncoder<'_>, ledger: &Ledger, reclaimable: Bytes) -> fmt::Result {
    let help = "The node's account by entry.";
    let mut family = encoder.encode_descriptor("node_ledger", help, Some(&Unit::Bytes), MetricType::Gauge)?;
    for (entry, bytes) in entries(ledger).into_iter().chain([("reclaimable", reclaimable)]) {
        family.encode_family(&[("entry", entry)])?.encode_gauge(&bytes.get())?;
    }
    let help = "How long it takes until guests have given what is suddenly gone, measured.";
    gauge(encoder, "node_reaction", help, Some(&Unit::Seconds), &ledger.reaction.as_secs_f64())
}

fn entries(ledger: &Ledger) -> [(&'static str, Bytes); 19] {
    [
        ("total", ledger.total),
        ("huge_pages", ledger.huge_pages),
        ("eviction", ledger.eviction),
        ("reserve", ledger.reserve),
        ("non_guest", ledger.non_guest),
        ("non_guest_growth", ledger.non_guest_growth),
        ("unlisted", ledger.unlisted),
        ("budget", ledger.budget),
        ("promised", ledger.promised),
        ("resident", ledger.resident),
        ("overhead", ledger.overhead),
        ("plugged", ledger.plugged),
        ("swap", ledger.swap),
        ("at_risk", ledger.at_risk),
        ("committed", ledger.committed),
        ("shortfall", ledger.shortfall),
        ("spare", ledger.spare),
        ("reclaimed", ledger.reclaimed),
        ("merged", ledger.merged),
    ]
}

/// What is done about equal pages; what that saves is an entry of the account.
fn merging(encoder: &mut DescriptorEncoder<'_>, ksm: &KsmPlan) -> fmt::Result {
    gauge(encoder, "ksm_scanning", "1 while ksmd is to scan.", None, &u64::from(ksm.scan && !ksm.observing))?;
    if let Some(profit) = ksm.profit {
        let help = "What merging saves less what the kernel needs for it.";
        gauge(encoder, "ksm_profit", help, Some(&Unit::Bytes), &profit)?;
    }
    if let Some(share) = ksm.cpu {
        let help = "Share of one CPU that ksmd took lately.";
        gauge(encoder, "ksm_cpu", help, Some(&Unit::Ratios), &(f64::from(share.get()) / 1000.0))?;
    }
    let help = "1 for the reason that holds for merging.";
    let mut family = encoder.encode_descriptor("ksm_reason", help, None, MetricType::Gauge)?;
    family.encode_family(&[("reason", ksm.reason.code())])?.encode_gauge(&1_u64)
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: &impl EncodeGaugeValue,
) -> fmt::Result {
    encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(value)
}
