//! An agent that has no orders: those on disk are lost, and the API server is away or has none. Guests that were squeezed
//! under the last ones are not left to what they hold: the journal knows them.

use std::sync::Arc;
use std::time::Duration;

use overcommit_core::sample::Incarnation;
use overcommit_host::Root;

use super::{Loop, Purpose, Stop};
use crate::orders::Orders;

/// Orders are waited for so long before there are none. An API server within reach tells them within a second; from a node that
/// thrashes a connection may fail by its own deadline (`run`, 10 s), and the next one succeed.
const PATIENCE: Duration = Duration::from_secs(20);

impl Loop {
    /// Goes by what the journal knows where there are no orders and somebody is owed memory. True orders take the place of
    /// that when they come.
    pub(super) fn go_without_orders(&mut self) {
        let is_over = matches!(self.stopping, Some((Stop::Handover, _)));
        if self.orders.is_some() || is_over || self.age() < self.patience_for_orders() {
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

    /// Whoever is to hand over and to end cannot wait.
    fn patience_for_orders(&self) -> Duration {
        if self.parts.purpose == Purpose::Control { PATIENCE } else { Duration::ZERO }
    }
}
