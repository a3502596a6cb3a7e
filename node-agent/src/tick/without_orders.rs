//! An agent that has no orders: those on disk are lost, and the API server is away or has none. Guests that were squeezed
//! under the last ones are not left to what they hold: the journal knows them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use overcommit_core::sample::Incarnation;
use overcommit_host::Root;

use super::{Loop, Purpose, SEEN_BY, Stop};
use crate::orders::Orders;

/// Orders are waited for so long before there are none. An API server within reach tells them within a second; from a node that
/// thrashes a connection may fail by its own deadline (`run`, 10 s), and the next one succeed.
const PATIENCE: Duration = Duration::from_secs(20);

impl Loop {
    /// Goes by what the journal knows where there are no orders, once they were waited for.
    pub(super) fn go_without_orders(&mut self) {
        let is_over = matches!(self.stopping, Some((Stop::Handover, _)));
        if !is_over && self.age() >= self.patience_for_orders() {
            self.go_by_the_journal();
            if self.orders.is_none() && !self.parts.knobs.is_writing() {
                self.restore_knobs();
            }
        }
    }

    /// Goes by what the journal knows where there are no orders and somebody is owed memory. True orders take the place of
    /// that when they come.
    fn go_by_the_journal(&mut self) {
        if self.orders.is_some() {
            return;
        }
        let root = Root::default();
        let runs = |process: Incarnation| overcommit_host::runs(&root, process);
        let journal = &self.parts.journal;
        if journal.squeezed(runs).next().is_none() {
            return;
        }
        let known = journal.alive(runs).map(|(id, entry)| (id.clone(), entry.name.clone()));
        if let Some(orders) = Orders::without_any(self.since, known) {
            self.obey(Arc::new(orders));
        }
    }

    /// Ends as it is told. Without orders nobody was connected to: whom the journal knows has to be seen before anything can
    /// be handed over, as by a loop that is started for that.
    pub(super) fn end(&mut self, stop: Stop) {
        let hands_over = stop == Stop::Handover && self.stopping.is_none();
        if hands_over && self.parts.purpose == Purpose::Control && self.orders.is_none() {
            self.go_by_the_journal();
            if self.orders.is_some() {
                let seconds = SEEN_BY.as_secs();
                tracing::info!(
                    "ending without orders: the guests in the journal are looked for, for at most {seconds} s"
                );
                self.parts.purpose = Purpose::HandOver;
                self.seen_by = Instant::now() + SEEN_BY;
                // Or those that were not looked for yet would count as seen.
                self.admit();
            }
        }
        if !hands_over || self.parts.purpose != Purpose::HandOver {
            self.stop(stop);
        }
    }

    /// Whoever is to hand over and to end, or to give everything back, cannot wait.
    fn patience_for_orders(&self) -> Duration {
        let waits = self.parts.purpose == Purpose::Control && !self.release;
        if waits { PATIENCE } else { Duration::ZERO }
    }
}
