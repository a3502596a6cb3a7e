//! Metrics in base units. Series of a guest end with the guest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use overcommit_core::units::Bytes;
use overcommit_core::view::GuestView;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tracing_appender::non_blocking::ErrorCounter;

use super::Report;
use crate::orders::Standing;

type GaugeU64 = Gauge<u64, AtomicU64>;

/// Labels as KubeVirt uses them for its own guest metrics.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GuestLabels {
    namespace: String,
    name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    namespace: String,
    name: String,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionLabels {
    direction: String,
    reason: String,
    result: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LedgerLabels {
    entry: String,
}

/// The agent's metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    target: Family<GuestLabels, GaugeU64>,
    actual: Family<GuestLabels, GaugeU64>,
    full: Family<GuestLabels, GaugeU64>,
    floor: Family<GuestLabels, GaugeU64>,
    reason: Family<ReasonLabels, GaugeU64>,
    actions: Family<ActionLabels, Counter>,
    ledger: Family<LedgerLabels, GaugeU64>,
    turn: Histogram,
    cached: GaugeU64,
    api_failing: GaugeU64,
    gone: GaugeU64,
    troubles: GaugeU64,
    emergency: GaugeU64,
    lost: Counter,
    outputs: Vec<ErrorCounter>,
}

impl Metrics {
    /// Registers everything; `outputs` count the lines that they lost.
    pub(crate) fn register(registry: &mut Registry, outputs: Vec<ErrorCounter>) -> Self {
        // From well below a turn without guests to a deadline that was missed.
        let buckets = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];
        let metrics = Self {
            target: Family::default(),
            actual: Family::default(),
            full: Family::default(),
            floor: Family::default(),
            reason: Family::default(),
            actions: Family::default(),
            ledger: Family::default(),
            turn: Histogram::new(buckets),
            cached: Gauge::default(),
            api_failing: Gauge::default(),
            gone: Gauge::default(),
            troubles: Gauge::default(),
            emergency: Gauge::default(),
            lost: Counter::default(),
            outputs,
        };
        let guest = registry.sub_registry_with_prefix("overcommit");
        guest.register_with_unit(
            "guest_target",
            "Balloon target; the plan while observing",
            Unit::Bytes,
            metrics.target.clone(),
        );
        guest.register_with_unit("guest_actual", "What the guest holds", Unit::Bytes, metrics.actual.clone());
        guest.register_with_unit("guest_full", "Full size of the guest", Unit::Bytes, metrics.full.clone());
        guest.register_with_unit(
            "guest_floor",
            "Nothing is taken below this",
            Unit::Bytes,
            metrics.floor.clone(),
        );
        guest.register("guest_reason", "1 for the reason that holds for the guest", metrics.reason.clone());
        guest.register("balloon_actions", "Balloon targets set", metrics.actions.clone());
        guest.register_with_unit(
            "node_ledger",
            "The node's account by entry",
            Unit::Bytes,
            metrics.ledger.clone(),
        );
        metrics.register_loop(guest);
        metrics
    }

    fn register_loop(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "turn_duration",
            "Time of one turn of the loop",
            Unit::Seconds,
            self.turn.clone(),
        );
        registry.register("orders_cached", "1 while the orders come from disk", self.cached.clone());
        registry.register(
            "api_failing",
            "1 while the API server is silent or refuses what the agent needs",
            self.api_failing.clone(),
        );
        registry.register(
            "orders_gone",
            "1 while the API server has no orders for this node",
            self.gone.clone(),
        );
        registry.register("troubles", "Things that do not work now", self.troubles.clone());
        registry.register("emergency", "1 while floors are those of an emergency", self.emergency.clone());
        registry.register(
            "lines_lost",
            "Lines of log and reports that nobody took in time",
            self.lost.clone(),
        );
    }

    /// Takes one report in.
    pub(crate) fn take_in(&self, report: &Arc<Report>) {
        self.turn.observe(report.took.as_secs_f64());
        self.cached.set(u64::from(report.cached));
        self.api_failing.set(u64::from(report.api_failing_since.is_some()));
        self.gone.set(u64::from(report.standing == Standing::Gone));
        self.troubles.set(u64::try_from(report.troubles.len()).unwrap_or(u64::MAX));
        self.emergency.set(u64::from(report.emergency));
        let lost: usize = self.outputs.iter().map(ErrorCounter::dropped_lines).sum();
        self.lost.inner().store(u64::try_from(lost).unwrap_or(u64::MAX), Ordering::Relaxed);
        for family in [&self.target, &self.actual, &self.full, &self.floor] {
            family.clear();
        }
        self.reason.clear();
        for guest in &report.guests {
            self.guest(guest);
        }
        for action in &report.actions {
            let direction = if action.to < action.from { "take" } else { "give" };
            let result = if action.failed.is_none() { "done" } else { "failed" };
            let labels = [direction, action.reason, result].map(str::to_owned);
            let [direction, reason, result] = labels;
            self.actions.get_or_create(&ActionLabels { direction, reason, result }).inc();
        }
        if let Some(ledger) = &report.ledger {
            for (entry, bytes) in entries(ledger) {
                self.ledger.get_or_create(&LedgerLabels { entry: entry.to_owned() }).set(bytes.get());
            }
        }
    }

    fn guest(&self, guest: &GuestView) {
        let namespace = guest.name.namespace.as_deref().unwrap_or_default().to_owned();
        let name = guest.name.name.to_string();
        let labels = GuestLabels { namespace: namespace.clone(), name: name.clone() };
        let amounts = [
            (&self.target, guest.target),
            (&self.actual, guest.actual),
            (&self.full, guest.full),
            (&self.floor, guest.floor),
        ];
        for (family, bytes) in amounts {
            family.get_or_create(&labels).set(bytes.get());
        }
        let reason = guest.reason.code().to_owned();
        self.reason.get_or_create(&ReasonLabels { namespace, name, reason }).set(1);
    }
}

fn entries(ledger: &overcommit_core::ledger::Ledger) -> [(&'static str, Bytes); 14] {
    [
        ("total", ledger.total),
        ("huge_pages", ledger.huge_pages),
        ("eviction", ledger.eviction),
        ("reserve", ledger.reserve),
        ("non_guest", ledger.non_guest),
        ("non_guest_growth", ledger.non_guest_growth),
        ("budget", ledger.budget),
        ("promised", ledger.promised),
        ("resident", ledger.resident),
        ("overhead", ledger.overhead),
        ("plugged", ledger.plugged),
        ("at_risk", ledger.at_risk),
        ("shortfall", ledger.shortfall),
        ("reclaimed", ledger.reclaimed),
    ]
}
