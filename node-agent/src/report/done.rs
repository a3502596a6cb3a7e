//! What was done, on its way to the status and its events. A report that nobody takes in time is replaced by the next; what
//! it said was done is told all the same.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;

use super::Action;

/// Actions that wait: those of a node with a hundred guests over the time in which the API server may be silent.
pub(crate) const WAITING: usize = 512;

/// The loop's end; never blocks.
#[derive(Debug)]
pub(crate) struct Doing {
    waiting: SyncSender<Action>,
    lost: Counter,
}

/// The writer's end; a writer that begins anew goes on where the former one stopped.
#[derive(Clone, Debug)]
pub(crate) struct Done(Arc<Mutex<Receiver<Action>>>);

/// Both ends; what does not fit is dropped and counted.
pub(crate) fn queue(lost: Counter) -> (Doing, Done) {
    let (waiting, taken) = sync_channel(WAITING);
    (Doing { waiting, lost }, Done(Arc::new(Mutex::new(taken))))
}

impl Doing {
    /// Something was done.
    pub(crate) fn tell(&self, action: &Action) {
        // Without Kubernetes nobody listens, and nothing is lost.
        if let Err(TrySendError::Full(_)) = self.waiting.try_send(action.clone()) {
            self.lost.inc();
        }
    }
}

impl Done {
    /// Everything since the last time, in its order.
    pub(crate) fn take(&self) -> Vec<Action> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).try_iter().collect()
    }
}
