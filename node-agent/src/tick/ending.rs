//! How the loop ends: by a hand-over or a release, each with its patience, and told while it goes on.

use std::fmt;
use std::time::{Duration, Instant};

use overcommit_core::conduct::FOLLOW_TOLERANCE;
use overcommit_core::sample::RunState;
use overcommit_core::step::{Release, Turn};
use overcommit_core::units::Bytes;
use overcommit_core::view::GuestView;
use overcommit_host::Root;

use super::{Loop, Stop};
use crate::contact::Contact;
use crate::report::lines;

/// How long a release on exit may take before the loop leaves with what it could do.
const RELEASE_PATIENCE: Duration = Duration::from_mins(1);
/// How long a hand-over waits for knobs that are being written: a write to `run` lasts as long as what ksmd is at.
const KNOBS_PATIENCE: Duration = Duration::from_secs(1);
/// How long a hand-over waits for what it sent.
const HANDOVER_PATIENCE: Duration = Duration::from_secs(6);
/// People are told this often how far a release is.
pub(crate) const PROGRESS: Duration = Duration::from_secs(3);

/// So many guests that a release waits for are named.
const NAMED: usize = 3;
/// What becomes of guests that a lost journal knew.
const UNSEEN: &str = "the journal was unreadable, and not all guests that ran then were seen since: the next agent looks for \
                      them, and until then those that are squeezed stay so";

/// What the loop was to do at its end and could not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfinished {
    /// It was to give everything back.
    #[error("not everything could be given back")]
    Release,
    /// It was to make guests safe for a time without it.
    #[error("nothing was handed over")]
    HandOver,
    /// It was to do either for guests that it has not seen, and that no journal knows.
    #[error("the journal was lost, and not all guests that may be owed memory were seen since")]
    Unseen,
    /// It was to leave the kernel's knobs for merging as they were found.
    #[error("the kernel's knobs for merging could not be put back")]
    Knobs,
}

/// What came of a hand-over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HandOver {
    /// What was spare is spread.
    Spread,
    /// The decision failed, and guests were given what they lacked as there was memory.
    GivenBack,
    /// Nothing was decided, and nothing given.
    Left {
        /// For this reason.
        why: String,
        /// How many guests hold less than they had; absent if nobody knows.
        squeezed: Option<usize>,
    },
}

impl Default for HandOver {
    fn default() -> Self {
        Self::Left { why: "it was not tried".to_owned(), squeezed: None }
    }
}

impl HandOver {
    /// It did what there was to do.
    fn is_done(&self) -> bool {
        matches!(self, Self::Spread | Self::GivenBack | Self::Left { squeezed: Some(0), .. })
    }
}

impl fmt::Display for HandOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spread => f.write_str(
                "handed over: what was spare is spread, what is held stays as it is for the next agent",
            ),
            Self::GivenBack => f.write_str(
                "handed over without a decision, for it failed inside: what was taken is given back as there is memory",
            ),
            Self::Left { why, squeezed: Some(0) } => {
                write!(f, "nothing to hand over ({why}): the journal knows of no guest that holds less than it had")
            }
            Self::Left { why, squeezed: Some(guests) } => write!(
                f,
                "nothing was handed over ({why}): guests that keep what they hold until the next agent with orders \
                 adopts them from the journal: {guests}"
            ),
            Self::Left { why, squeezed: None } => write!(
                f,
                "nothing was handed over ({why}): the journal was unreadable, so that nobody knows which guests hold less \
                 than they had"
            ),
        }
    }
}

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
            Stop::Release => {
                self.release();
                if self.orders.is_none() {
                    self.restore_knobs();
                }
            }
        }
    }

    /// Spreads what is spare; nothing is decided after that.
    fn hand_over(&mut self) {
        self.forget_takes(|_| true);
        self.forget_knobs();
        self.parts.knobs.settle(KNOBS_PATIENCE);
        // Until it has come to its end.
        self.left("the decision failed inside".to_owned());
        if self.turn(Turn::Handover) {
            self.handed_over = HandOver::Spread;
            self.parts.knobs.settle(KNOBS_PATIENCE);
            self.confirm_knobs();
        } else if self.orders.is_some() {
            self.left("the host cannot be read".to_owned());
        } else {
            self.restore_knobs();
            let why = self.parts.contact.as_deref().map(Contact::without_orders);
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            self.left(format!("there are no orders{why}"));
        }
        self.orders = None;
        self.record_all();
        self.parts.scribe.keep(self.state.learned().clone());
    }

    /// Nothing is handed over, so far.
    fn left(&mut self, why: String) {
        let root = Root::default();
        let squeezed = self.squeezed(|process| overcommit_host::runs(&root, process)).len();
        let squeezed = Some(squeezed).filter(|_| !self.parts.journal.is_lost());
        self.handed_over = HandOver::Left { why, squeezed };
    }

    /// Guests were given back what they lacked, without a decision.
    pub(super) fn gave_back(&mut self) {
        if matches!(self.handed_over, HandOver::Left { .. }) {
            self.handed_over = HandOver::GivenBack;
        }
    }

    /// How the loop ended, once it has.
    pub(super) fn ended(&mut self) -> Option<Result<(), Unfinished>> {
        // What was answered since the last word was written, or while something else was.
        if self.stopping.is_some_and(|(stop, _)| stop == Stop::Handover) && !self.parts.journal.is_behind() {
            self.record_all();
        }
        let ended = self.guests_ended()?;
        let left = self.knobs_left();
        if let Some(left) = &left {
            tracing::error!("{left}");
        }
        Some(ended.and_then(|()| left.map_or(Ok(()), |_| Err(Unfinished::Knobs))))
    }

    /// The same of what concerns guests.
    fn guests_ended(&self) -> Option<Result<(), Unfinished>> {
        let (stop, deadline) = self.stopping?;
        let acts = self.parts.guests.is_carrying() || self.parts.knobs.is_writing();
        let writes = self.takes.is_some() || self.parts.scribe.is_writing();
        let busy = acts || writes;
        let late = Instant::now() >= deadline;
        match stop {
            Stop::Handover if !busy || late => {
                let (done, came) = (self.handed_over.is_done(), &self.handed_over);
                Some(match (done, self.parts.journal.is_lost()) {
                    (true, false) => {
                        tracing::info!("{came}");
                        Ok(())
                    }
                    (true, true) => {
                        tracing::error!("{came}; but {UNSEEN}");
                        Err(Unfinished::Unseen)
                    }
                    (false, _) => {
                        tracing::error!("{came}");
                        Err(Unfinished::HandOver)
                    }
                })
            }
            Stop::Release if self.orders.is_none() && self.parts.knobs.is_writing() => None,
            Stop::Release if self.orders.is_none() && self.parts.journal.is_lost() => {
                tracing::error!("nothing was given back: {UNSEEN}");
                Some(Err(Unfinished::Unseen))
            }
            Stop::Release if self.orders.is_none() => Some(Ok(())),
            Stop::Release => match self.last.as_ref().and_then(|report| report.release) {
                // What was given is given, also where the disk hangs, or fails.
                Some(Release::Done)
                    if !acts
                        && (!(writes || self.is_to_be_recorded()) || late)
                        && !self.state.is_in_doubt() =>
                {
                    tracing::info!("everything was given back");
                    Some(Ok(()))
                }
                left if late => {
                    let waits_for = self.waits_for();
                    tracing::error!(?left, waits_for, "not everything could be given back");
                    Some(Err(Unfinished::Release))
                }
                _ => None,
            },
            Stop::Handover => None,
        }
    }

    /// Whom a release waits for: that nobody has seen yet, or that cannot take what is given; absent if there is nobody.
    pub(super) fn waits_for(&self) -> Option<String> {
        let unseen = self.parts.guests.unseen();
        let (missing, lost) = (self.parts.journal.misses_guests(), self.parts.journal.is_lost());
        let whom = match (missing, lost) {
            (false, false) => return self.held_up(),
            (true, _) => "guests in the journal that were not seen yet",
            (false, true) => "guests that ran when the journal was lost and were not all seen since",
        };
        // A node that has just begun has not looked yet.
        let silent = (unseen > 0).then(|| format!("; of {unseen} libvirts there is no list of guests"));
        Some(format!("{whom}{}", silent.unwrap_or_default()))
    }

    /// Guests that cannot take what they are owed, the first of them by their names.
    fn held_up(&self) -> Option<String> {
        let why = |guest: &GuestView| match guest.run_state {
            RunState::Paused => Some("is paused"),
            RunState::Unreachable => Some("has a hypervisor that does not answer"),
            RunState::Running | RunState::Busy => None,
        };
        let lacks = |guest: &&GuestView| guest.actual.plus(FOLLOW_TOLERANCE) < guest.ceiling();
        let guests = self.last.iter().flat_map(|report| &report.guests).filter(lacks);
        let held_up: Vec<String> =
            guests.filter_map(|guest| Some(format!("{}, which {}", guest.name, why(guest)?))).collect();
        let (first, more) = held_up.split_at(held_up.len().min(NAMED));
        let more = if more.is_empty() { String::new() } else { format!(", and {} more", more.len()) };
        (!first.is_empty()).then(|| format!("{}{more}", first.join("; ")))
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
        let release = self.last.as_ref().and_then(|report| report.release);
        let so_far = lines::giving_back(release, self.waits_for().as_deref());
        match (release, self.parts.knobs.trouble()) {
            (Some(Release::Underway { outstanding: Bytes::ZERO }), Some(trouble)) => tracing::warn!(
                "giving back: all is given but KSM's knobs, for at most {left} s more: {trouble}"
            ),
            (Some(Release::Blocked { .. }), _) => {
                tracing::warn!("giving back: {so_far}, for at most {left} s more");
            }
            (Some(Release::Done), _) => tracing::info!("giving back: {so_far}, and is being written down"),
            (Some(Release::Underway { .. }) | None, _) => {
                tracing::info!("giving back: {so_far}, for at most {left} s more");
            }
        }
    }
}
