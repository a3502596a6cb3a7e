//! Metrics, in base units.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::index::{Index, Watch};

/// One kind of objects.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Kind {
    kind: &'static str,
}

/// One sort of write.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ApiWrite {
    verb: &'static str,
    kind: &'static str,
    result: &'static str,
}

/// One way for a watch to fail.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct WatchError {
    kind: &'static str,
    reason: &'static str,
}

/// Everything that is counted.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Reconciles.
    pub(crate) reconciles: Counter,
    /// Writes that failed, whatever the reason.
    pub(crate) errors: Counter,
    /// Time to plan one reconcile.
    pub(crate) duration: Histogram,
    /// Writes planned and not yet done.
    pub(crate) queue_depth: Gauge,
    /// Writes under way.
    pub(crate) queue_running: Gauge,
    /// Events that were not written.
    pub(crate) events_dropped: Counter,
    objects: Family<Kind, Gauge>,
    writes: Family<ApiWrite, Counter>,
    watch_errors: Family<WatchError, Counter>,
}

impl Metrics {
    /// Registers all of them.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("overcommit_operator");
        // A plan takes well under a millisecond for ten nodes and some tens for thousands.
        let duration = Histogram::new([0.000_1, 0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0]);
        let metrics = Self {
            reconciles: Counter::default(),
            errors: Counter::default(),
            duration,
            queue_depth: Gauge::default(),
            queue_running: Gauge::default(),
            events_dropped: Counter::default(),
            objects: Family::default(),
            writes: Family::default(),
            watch_errors: Family::default(),
        };
        registry.register("reconciles", "Reconciles", metrics.reconciles.clone());
        registry.register("reconcile_errors", "Writes that failed", metrics.errors.clone());
        let help = "Time to plan one reconcile";
        registry.register_with_unit("reconcile_duration", help, Unit::Seconds, metrics.duration.clone());
        registry.register("workqueue_depth", "Writes planned and not yet done", metrics.queue_depth.clone());
        registry.register("workqueue_running", "Writes under way", metrics.queue_running.clone());
        registry.register("events_dropped", "Events that were not written", metrics.events_dropped.clone());
        registry.register("objects", "Objects known", metrics.objects.clone());
        registry.register("api_writes", "Writes to the API", metrics.writes.clone());
        registry.register("watch_errors", "Watches that failed", metrics.watch_errors.clone());
        metrics
    }

    /// Counts one write.
    pub(crate) fn written(&self, verb: &'static str, kind: &'static str, result: &'static str) {
        self.writes.get_or_create(&ApiWrite { verb, kind, result }).inc();
    }

    /// Counts one failure of a watch.
    pub(crate) fn watch_failed(&self, watch: Watch, reason: &'static str) {
        self.watch_errors.get_or_create(&WatchError { kind: watch.resource(), reason }).inc();
    }

    /// Sets the numbers of objects.
    pub(crate) fn known(&self, index: &Index) {
        let counts = [
            (Watch::Policies, index.policies.len()),
            (Watch::Objects, index.objects.len()),
            (Watch::Nodes, index.nodes.len()),
            (Watch::Namespaces, index.namespaces.len()),
            (Watch::Guests, index.guests.len()),
            (Watch::Launchers, index.launchers.len()),
            (Watch::ConfigMaps, index.maps.count()),
        ];
        for (watch, count) in counts {
            let gauge = self.objects.get_or_create(&Kind { kind: watch.resource() });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_documented() {
        let mut registry = Registry::default();
        let _metrics = Metrics::register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let documented = include_str!("../../docs/metrics.md");
        let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_whitespace().next());
        assert!(names.clone().count() > 5, "{text}");
        for name in names {
            assert!(documented.contains(&format!("`{name}")), "docs/metrics.md does not name {name}");
        }
    }
}
