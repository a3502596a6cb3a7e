//! How the operator is doing, shared between the loop and the server of `/healthz`, `/readyz` and `/metrics`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use overcommit_serve::{Beat, Pages};
use prometheus_client::registry::Registry;

use crate::index::Watch;

/// The loop may be late by this before it counts as hung: with its turn of 30 s, three turns missed.
const SLACK: Duration = Duration::from_secs(70);

/// How the operator is doing.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    beat: Arc<Beat>,
    waiting: Arc<Mutex<Vec<Watch>>>,
}

impl Health {
    /// Nothing listed yet.
    pub(crate) fn starting() -> Self {
        Self { beat: Arc::new(Beat::new(SLACK)), waiting: Arc::new(Mutex::new(Watch::ALL.to_vec())) }
    }

    /// The loop turns and will again within `wait`; these watches have not listed yet.
    pub(crate) fn beat(&self, wait: Duration, waiting: Vec<Watch>) {
        self.beat.back_within(wait);
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = waiting;
    }

    /// What is served of it.
    pub(crate) fn pages(&self, registry: Registry) -> Arc<Pages> {
        let health = self.clone();
        Arc::new(Pages::new(Arc::clone(&self.beat), registry, move || health.ready()))
    }

    fn ready(&self) -> Result<String, String> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let names: Vec<&str> = waiting.iter().map(|w| w.resource()).collect();
        if names.is_empty() { Ok("ok".to_owned()) } else { Err(format!("waiting for {}", names.join(", "))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_names_the_watches_still_waited_for() {
        let health = Health::starting();
        assert!(health.ready().unwrap_err().contains("nodes"));
        health.beat(Duration::ZERO, vec![]);
        assert!(health.ready().is_ok());
    }
}
