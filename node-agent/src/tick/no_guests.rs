//! A port to no guests, for tests of what is around the loop.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use overcommit_core::plan::{Command, Outcome};
use overcommit_core::ports::{Admission, GuestPort, Heard, Reading};
use overcommit_core::sample::{GuestConfig, GuestId, GuestName, GuestSample, ProcessFacts, RunState};
use overcommit_core::stranger::Stranger;
use overcommit_core::units::Bytes;

/// Has no guests but those that a test names, and notes whom it may talk to.
#[derive(Clone, Default)]
pub(crate) struct NoGuests {
    pub(crate) admitted: Arc<Mutex<Arc<Admission>>>,
    /// So many hypervisors have not answered.
    pub(crate) unseen: Arc<AtomicUsize>,
    /// They say nothing by themselves.
    pub(crate) but: Vec<GuestSample>,
    /// What it was told.
    pub(crate) sent: Arc<Mutex<Vec<Command>>>,
    /// What became of commands, to be heard once.
    pub(crate) outcomes: Arc<Mutex<Vec<Outcome>>>,
}

/// What is in there, whoever panicked with it.
pub(crate) fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl GuestPort for NoGuests {
    fn ask(&mut self) {}
    fn ask_host(&mut self) {}
    fn ask_statistics(&mut self, _: &GuestId) {}
    fn hear(&mut self) -> Heard {
        Heard { outcomes: std::mem::take(&mut *locked(&self.outcomes)), ..Heard::default() }
    }
    fn is_waiting(&self) -> bool {
        false
    }
    fn admit(&mut self, admission: Arc<Admission>) {
        *locked(&self.admitted) = admission;
    }
    fn sample(&mut self, _: Reading) -> Vec<GuestSample> {
        self.but.clone()
    }
    fn strangers(&self) -> Vec<Stranger> {
        Vec::new()
    }
    fn send(&mut self, commands: &[Command]) {
        locked(&self.sent).extend_from_slice(commands);
    }
    fn is_carrying(&self) -> bool {
        false
    }
    fn unseen(&self) -> usize {
        self.unseen.load(Ordering::Relaxed)
    }
}

/// A guest of that size that runs, and of which nothing else is known.
pub(crate) fn guest(id: &str, name: GuestName, full: Bytes) -> GuestSample {
    let config = GuestConfig {
        full,
        plugged: Bytes::ZERO,
        plugging: false,
        has_balloon: true,
        free_page_reporting: false,
        untouchable: Vec::new(),
        vcpus: None,
    };
    GuestSample {
        id: GuestId::new(id),
        name,
        incarnation: None,
        config,
        run_state: RunState::Running,
        balloon: None,
        facts: ProcessFacts::default(),
        facts_age: None,
        trouble: None,
    }
}
