//! The loop: when something is to be done. It owns its state and runs on a thread of its own; everything that could wait
//! (guests, what the kernel says of their processes, the disk, the API server) is on the other side of channels, so
//! nothing can hold it up.
//!
//! Three rhythms: the policy's control period (a tick asks all guests, then the kernel about them, and decides once each
//! has answered or its time is over), the lane's poll between two ticks, and each squeezed guest's own statistics.

mod act;
mod ending;
mod knobs;
mod lane;
#[cfg(test)]
pub(crate) mod no_guests;
mod panics;
#[cfg(test)]
mod tests;
mod turn;
mod under_way;
mod without_orders;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use overcommit_core::growth::Growth;
use overcommit_core::ledger::Ledger;
use overcommit_core::mom::Seen;
use overcommit_core::plan::Move;
use overcommit_core::policy::Mode;
use overcommit_core::ports::{GuestPort, HostPort};
use overcommit_core::sample::{GuestId, HostSample};
use overcommit_core::step::Turn;
use overcommit_core::units::{Bytes, Monotonic};
use overcommit_host::Glimpses;
use overcommit_record::{Recorder, Tape};

use crate::clock;
use crate::contact::Contact;
use crate::failpoint;
use crate::journal::{Content, Journal};
use crate::knobs::Hand;
use crate::learned;
use crate::orders::Orders;
use crate::recording::Recording;
use crate::report::{Report, Reporter};
use crate::scribe::Scribe;
use act::Takes;
pub(crate) use ending::PROGRESS;
use ending::{HandOver, Unfinished};
use lane::Watched;
use panics::Panics;
use under_way::UnderWay;

/// A tick on the way out comes this often, and a host that could not be read is tried again.
const SOON: Duration = Duration::from_secs(1);

/// A loop that has only to hand over waits so long for hypervisors that have not answered.
const SEEN_BY: Duration = Duration::from_secs(8);
/// So long after its start it looks each second at guests whose targets it has adopted and not confirmed.
const SETTLED: Duration = Duration::from_secs(30);
/// After the loop has ended its last words are written: status, journal, log.
const ENDING: Duration = Duration::from_secs(15);

/// What wakes the loop.
#[derive(Debug)]
pub(crate) enum Wake {
    /// New orders.
    Orders(Arc<Orders>),
    /// Everything is to be given back; the loop goes on.
    Release,
    /// The latest report is wanted.
    Ask(SyncSender<Option<Arc<Report>>>),
    /// What the policy's program saw is wanted.
    AskProgram(SyncSender<Option<Seen>>),
    /// Guests or the kernel can be heard.
    News,
    /// A journal was written, or not.
    Recorded(Content, std::io::Result<()>),
    /// The loop ends.
    Stop(Stop),
}

/// How the loop ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// A successor will come: spread what is spare and go.
    Handover,
    /// Give everything back and go.
    Release,
}

/// What a loop is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To control.
    Control,
    /// To make guests safe for a time without a loop, and to end; also of one that is told to end before it has seen any.
    HandOver,
    /// To give everything back, and to end.
    Release,
}

/// What the loop works with.
pub(crate) struct Parts {
    pub(crate) host: Box<dyn HostPort + Send>,
    pub(crate) guests: Box<dyn GuestPort + Send>,
    pub(crate) glimpses: Glimpses,
    pub(crate) journal: Journal,
    pub(crate) knobs: Hand,
    pub(crate) scribe: Scribe,
    /// With the API server; absent without Kubernetes.
    pub(crate) contact: Option<Arc<Contact>>,
    pub(crate) reporter: Reporter,
    pub(crate) eviction: Box<dyn FnMut(Bytes) -> Bytes + Send>,
    /// What a predecessor learned of this node.
    pub(crate) learned: Growth,
    /// Where everything is recorded that decisions rest on, and they; absent where nobody asked for that.
    pub(crate) tape: Option<Box<dyn Tape + Send>>,
    /// The same, to be asked how it goes.
    pub(crate) recording: Option<Arc<Recording>>,
    pub(crate) purpose: Purpose,
    /// Everything was asked back of the loop before this one, by `overcommit-agent release`.
    pub(crate) released: bool,
    /// How the loop before this one ended, if it failed.
    pub(crate) restarted: Option<String>,
}

/// The host at one moment, with the account of then.
struct Known {
    host: HostSample,
    at: Monotonic,
    ledger: Ledger,
}

/// The loop.
pub(crate) struct Loop {
    parts: Parts,
    state: Recorder,
    orders: Option<Arc<Orders>>,
    release: bool,
    stopping: Option<(Stop, Instant)>,
    /// Who has not been seen by then is handed over unseen.
    seen_by: Instant,
    /// What came of the hand-over, once there was one.
    handed_over: HandOver,
    /// When people are told again how far the end is.
    progress: Instant,
    next_tick: Instant,
    /// Since when the coming tick waits for the guests that it asked.
    asked: Option<Instant>,
    /// It has asked the kernel about them, too.
    asked_host: bool,
    /// Since when the kernel is asked whose memory it is that the host lost.
    alarm: Option<Instant>,
    next_poll: Instant,
    /// The host as it was read last, and the account made of it.
    known: Option<Known>,
    eviction: Bytes,
    lane: overcommit_core::lane::Lane,
    /// Squeezed guests.
    watched: BTreeMap<GuestId, Watched>,
    /// Adopted guests whose targets were not set again yet, and what they held at the last tick.
    unconfirmed: BTreeMap<GuestId, Option<Bytes>>,
    /// When this loop was made.
    began: Monotonic,
    /// The same by the wall clock, for people.
    since: jiff::Timestamp,
    /// Takes that wait for the journal.
    takes: Option<Takes>,
    /// What lowers what was found, and nobody has answered.
    under_way: UnderWay,
    /// Moves whose outcomes are not known yet.
    moves: BTreeMap<GuestId, Move>,
    /// What failed since the last tick, for people.
    failures: Vec<String>,
    last: Option<Arc<Report>>,
    panics: Panics,
    learned: learned::Pace,
}

impl Loop {
    /// A loop that has not run yet.
    pub(crate) fn new(mut parts: Parts) -> Self {
        let now = Instant::now();
        let mut state = Recorder::new(parts.tape.take());
        state.recall(std::mem::take(&mut parts.learned));
        let release = parts.released;
        Self {
            parts,
            state,
            orders: None,
            release,
            stopping: None,
            seen_by: now + SEEN_BY,
            handed_over: HandOver::default(),
            progress: now,
            next_tick: now,
            asked: None,
            asked_host: false,
            alarm: None,
            next_poll: now,
            known: None,
            eviction: Bytes::ZERO,
            lane: overcommit_core::lane::Lane::default(),
            watched: BTreeMap::new(),
            unconfirmed: BTreeMap::new(),
            began: clock::now(),
            since: jiff::Timestamp::now(),
            takes: None,
            under_way: UnderWay::default(),
            moves: BTreeMap::new(),
            failures: Vec::new(),
            last: None,
            panics: Panics::default(),
            learned: learned::Pace::new(),
        }
    }

    /// Runs until stopped.
    ///
    /// # Errors
    /// What it could not do at its end; it has told why.
    pub(crate) fn run(mut self, inbox: &Receiver<Wake>) -> Result<(), Unfinished> {
        loop {
            self.parts.reporter.beat(self.patience());
            let wake = inbox.recv_timeout(self.patience());
            self.isolated(|this| this.work(wake));
            if let Some(ended) = self.ended() {
                self.parts.reporter.beat(ENDING);
                return ended;
            }
        }
    }

    fn work(&mut self, wake: Result<Wake, RecvTimeoutError>) {
        match wake {
            Ok(Wake::Orders(orders)) => self.obey(orders),
            Ok(Wake::Release) => self.release(),
            Ok(Wake::Ask(reply)) => drop(reply.try_send(self.last.clone())),
            Ok(Wake::AskProgram(reply)) => drop(reply.try_send(self.state.program_saw())),
            Ok(Wake::News) => self.hear(),
            Ok(Wake::Recorded(content, result)) => self.recorded(content, result),
            Ok(Wake::Stop(stop)) => self.end(stop),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => self.end(Stop::Handover),
        }
        self.do_what_is_due();
    }

    fn patience(&self) -> Duration {
        let alarm = self.alarm.map(|since| since + lane::WHOSE_MEMORY);
        let next = self.next_look().into_iter().chain(alarm).chain([self.next_tick, self.next_poll]).min();
        let left = next.map_or(SOON, |at| at.saturating_duration_since(Instant::now()));
        // What does not answer in time ends its tick without a wake.
        if self.asked.is_some() || self.stopping.is_some() {
            left.min(overcommit_core::lane::POLL)
        } else {
            left
        }
    }

    fn obey(&mut self, orders: Arc<Orders>) {
        tracing::info!(policy = orders.policy_name, revision = orders.revision, mode = ?orders.policy.mode,
            paused = orders.paused, release = orders.release, origin = ?orders.origin, "orders");
        // What they forbid may have been decided already.
        self.forget_takes(|_| true);
        self.forget_knobs();
        self.orders = Some(orders);
        self.next_tick = Instant::now();
    }

    /// Everything is to be given back, until the agent is started anew.
    fn release(&mut self) {
        self.forget_takes(|_| true);
        self.forget_knobs();
        self.release = true;
        self.parts.reporter.released();
        self.next_tick = Instant::now();
    }

    fn do_what_is_due(&mut self) {
        let now = Instant::now();
        if self.asked.is_none() && now >= self.next_tick {
            self.go_without_orders();
            self.admit();
            self.parts.guests.ask();
            (self.asked, self.asked_host) = (Some(now), false);
            failpoint::reach("asked");
            let interval = self.orders.as_ref().map_or(SOON, |orders| orders.policy.interval);
            let settles = !self.unconfirmed.is_empty() && self.age() < SETTLED;
            let interval = if self.stopping.is_some() || settles { interval.min(SOON) } else { interval };
            self.next_tick = now + interval;
        }
        // Guests first: then the kernel is asked about those that are new too, and just before the host is read.
        if self.asked.is_some() && !self.asked_host && !self.parts.guests.is_waiting() {
            self.parts.guests.ask_host();
            self.asked_host = true;
        }
        if self.asked_host && !self.parts.guests.is_waiting() {
            (self.asked, self.asked_host, self.alarm) = (None, false, None);
            self.tick();
        }
        if now >= self.next_poll {
            self.next_poll = now + overcommit_core::lane::POLL;
            self.hear();
            self.poll();
        }
        self.answer_alarm(false);
        self.look_at_due();
        self.tell_progress();
    }

    /// All guests have answered, or their time is over.
    fn tick(&mut self) {
        match self.parts.purpose {
            Purpose::Control => {
                self.turn(Turn::Tick);
                self.panics.over();
                if self.learned.is_due() {
                    self.parts.scribe.keep(self.state.learned().clone());
                }
            }
            Purpose::Release => {
                self.stop(Stop::Release);
                self.turn(Turn::Tick);
            }
            // Who has not been seen cannot be made safe.
            Purpose::HandOver if self.parts.guests.unseen() == 0 || Instant::now() >= self.seen_by => {
                self.stop(Stop::Handover);
            }
            Purpose::HandOver => self.next_tick = Instant::now() + overcommit_core::lane::POLL,
        }
    }

    /// How long this loop has lived.
    fn age(&self) -> Duration {
        clock::now().since(self.began)
    }

    /// The loop acts on guests, so it watches them between two ticks; as long as there is anything to give back as well.
    fn acts(&self) -> bool {
        let holds = || self.state.dealings().iter().any(|(_, dealing)| dealing.holds_anything());
        self.orders.as_ref().is_some_and(|orders| orders.policy.mode == Mode::Enforce || holds())
    }
}
