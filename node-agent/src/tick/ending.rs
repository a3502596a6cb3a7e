//! How the loop ends: by a hand-over or a release, each with its patience, and told while it goes on.

use std::time::{Duration, Instant};

use overcommit_core::step::{Release, Turn};

use super::{Loop, Stop};

/// How long a release on exit may take before the loop leaves with what it could do.
const RELEASE_PATIENCE: Duration = Duration::from_mins(1);
/// How long a hand-over waits for what it sent.
const HANDOVER_PATIENCE: Duration = Duration::from_secs(6);
/// People are told this often how far a release is.
const PROGRESS: Duration = Duration::from_secs(3);

impl Loop {
    pub(super) fn stop(&mut self, stop: Stop) {
        if self.stopping.is_some() {
            return;
        }
        let patience = match stop {
            Stop::Handover => HANDOVER_PATIENCE,
            Stop::Release => RELEASE_PATIENCE,
        };
        let now = Instant::now();
        self.stopping = Some((stop, now + patience));
        self.progress = now + PROGRESS;
        let seconds = patience.as_secs();
        match stop {
            Stop::Handover => tracing::info!("ending: handing over, for at most {seconds} s"),
            Stop::Release => tracing::info!(
                "ending: everything is given back, for at most {seconds} s; another signal or Ctrl-C cuts nothing short"
            ),
        }
        match stop {
            Stop::Handover => self.hand_over(),
            Stop::Release => self.release(),
        }
    }

    /// Spreads what is spare; nothing is decided after that.
    fn hand_over(&mut self) {
        self.forget_takes(|_| true);
        self.turn(Turn::Handover);
        self.orders = None;
        self.record_all();
        self.parts.scribe.keep(self.state.learned().clone());
    }

    /// How the loop ended, once it has.
    pub(super) fn ended(&self) -> Option<bool> {
        let (stop, deadline) = self.stopping?;
        let busy = self.parts.guests.is_carrying() || self.takes.is_some() || self.parts.scribe.is_writing();
        let late = Instant::now() >= deadline;
        match stop {
            Stop::Handover if !busy || late => {
                tracing::info!(
                    "handed over: what was spare is spread, what is held stays as it is for the next agent"
                );
                Some(true)
            }
            Stop::Release if self.orders.is_none() => Some(true),
            Stop::Release => match self.last.as_ref().and_then(|report| report.release) {
                Some(Release::Done) if !busy => {
                    tracing::info!("everything was given back");
                    Some(true)
                }
                left if late => {
                    tracing::error!(?left, "not everything could be given back");
                    Some(false)
                }
                _ => None,
            },
            Stop::Handover => None,
        }
    }

    /// Says how far a release is.
    pub(super) fn tell_progress(&mut self) {
        let Some((Stop::Release, deadline)) = self.stopping else { return };
        let now = Instant::now();
        if now < self.progress {
            return;
        }
        self.progress = now + PROGRESS;
        let left = deadline.saturating_duration_since(now).as_secs();
        match self.last.as_ref().and_then(|report| report.release) {
            Some(Release::Underway { outstanding }) => {
                tracing::info!("giving back: {outstanding} to go, for at most {left} s more");
            }
            Some(Release::Blocked { short }) => tracing::warn!(
                "giving back: the node lacks {short}; more comes as memory becomes free, for at most {left} s more"
            ),
            Some(Release::Done) => tracing::info!("giving back: all is given, and written down"),
            None => tracing::info!("giving back: what guests hold is being asked, for at most {left} s more"),
        }
    }
}
