//! The loop: waits, samples, decides, acts, reports. It owns its state and runs on a thread of its own, so that no
//! API server, no file system and no hung guest can hold it up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use overcommit_core::plan::{Command, Outcome};
use overcommit_core::ports::{GuestPort, HostPort};
use overcommit_core::sample::{GuestId, GuestSample, Sample};
use overcommit_core::step::{Decision, Input, Original, Release, State, Turn};
use overcommit_core::units::{Bytes, Monotonic};
use overcommit_host::Root;

use crate::actuate;
use crate::clock;
use crate::journal::Journal;
use crate::orders::Orders;
use crate::report::{Report, Reporter};

/// While a guest holds less than its full size its distress is looked for this often: statistics come at whole
/// seconds.
const WATCH: Duration = Duration::from_secs(1);
/// How long a release on exit may take before the loop leaves with what it could do.
const RELEASE_PATIENCE: Duration = Duration::from_mins(1);

/// What wakes the loop.
#[derive(Debug)]
pub(crate) enum Wake {
    /// New orders.
    Orders(Arc<Orders>),
    /// Everything is to be given back; the loop goes on.
    Release,
    /// The latest report is wanted.
    Ask(SyncSender<Option<Arc<Report>>>),
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

/// The loop's parts.
pub(crate) struct Loop {
    pub(crate) host: Box<dyn HostPort + Send>,
    pub(crate) guests: Box<dyn GuestPort + Send>,
    pub(crate) journal: Journal,
    pub(crate) reporter: Reporter,
    pub(crate) eviction: Box<dyn FnMut(Bytes) -> Bytes + Send>,
    state: State,
    orders: Option<Arc<Orders>>,
    release: bool,
    /// Adopted guests whose targets were not set again yet.
    unconfirmed: BTreeSet<GuestId>,
    /// When this loop was made.
    began: Monotonic,
    next_tick: Instant,
    squeezed: bool,
    last: Option<Arc<Report>>,
}

impl Loop {
    /// A loop that has not run yet.
    pub(crate) fn new(
        host: Box<dyn HostPort + Send>,
        guests: Box<dyn GuestPort + Send>,
        journal: Journal,
        reporter: Reporter,
        eviction: Box<dyn FnMut(Bytes) -> Bytes + Send>,
    ) -> Self {
        Self {
            host,
            guests,
            journal,
            reporter,
            eviction,
            state: State::default(),
            orders: None,
            release: false,
            unconfirmed: BTreeSet::new(),
            began: clock::now(),
            next_tick: Instant::now(),
            squeezed: false,
            last: None,
        }
    }

    /// Runs until stopped; true if everything was given back or that was not asked for.
    pub(crate) fn run(mut self, inbox: &Receiver<Wake>) -> bool {
        loop {
            match inbox.recv_timeout(self.patience()) {
                Ok(Wake::Orders(orders)) => self.obey(orders),
                Ok(Wake::Release) => self.begin_release(),
                Ok(Wake::Ask(reply)) => drop(reply.try_send(self.last.clone())),
                Ok(Wake::Stop(Stop::Release)) => return self.give_all_back(),
                Err(RecvTimeoutError::Timeout) => self.beat(),
                Ok(Wake::Stop(Stop::Handover)) | Err(RecvTimeoutError::Disconnected) => {
                    return self.hand_over();
                }
            }
        }
    }

    fn patience(&self) -> Duration {
        let tick = self.next_tick.saturating_duration_since(Instant::now());
        if self.squeezed { tick.min(WATCH) } else { tick }
    }

    fn obey(&mut self, orders: Arc<Orders>) {
        tracing::info!(policy = orders.policy_name, revision = orders.revision, mode = ?orders.policy.mode,
            paused = orders.paused, release = orders.release, origin = ?orders.origin, "orders");
        self.orders = Some(orders);
        self.turn(Turn::Tick);
    }

    fn begin_release(&mut self) {
        self.release = true;
        self.turn(Turn::Tick);
    }

    fn beat(&mut self) {
        let due = Instant::now() >= self.next_tick;
        self.turn(if due { Turn::Tick } else { Turn::Relief });
    }

    fn hand_over(&mut self) -> bool {
        self.turn(Turn::Handover);
        tracing::info!(
            "handed over: what was spare is spread, what is held stays as it is for the next agent"
        );
        true
    }

    fn give_all_back(&mut self) -> bool {
        self.release = true;
        let deadline = Instant::now() + RELEASE_PATIENCE;
        loop {
            match self.turn(Turn::Tick).and_then(|d| d.release) {
                None | Some(Release::Done) => {
                    tracing::info!("everything was given back");
                    return true;
                }
                Some(left) if Instant::now() >= deadline => {
                    tracing::error!(?left, "not everything could be given back");
                    return false;
                }
                Some(_) => std::thread::park_timeout(WATCH),
            }
        }
    }

    /// One turn; absent without orders or when the host cannot be read.
    fn turn(&mut self, turn: Turn) -> Option<Decision> {
        let began = Instant::now();
        let Some(orders) = self.orders.clone() else {
            self.next_tick = began + WATCH;
            return None;
        };
        if turn == Turn::Tick {
            self.next_tick = began + orders.policy.interval;
        }
        let host = match self.host.sample() {
            Ok(host) => host,
            Err(error) => {
                self.publish(Report::unreadable(&orders, &error));
                return None;
            }
        };
        let guests = self.guests.sample();
        let sample = Sample { at: clock::now(), wall: clock::wall(), host, guests };
        self.adopt(&sample);
        if self.journal.is_behind() {
            // Tried again each turn, so that it is known when the disk is well, whether or not anything is to be taken.
            drop(actuate::write_ahead(&[], &sample, &self.state, &mut self.journal));
        }
        let decision = self.decide(&orders, &sample, turn);
        let outcomes = actuate::actuate(
            &decision.plan,
            &decision.periods,
            &sample,
            &self.state,
            &mut self.journal,
            self.guests.as_mut(),
        );
        self.state.note(&outcomes);
        self.squeezed = self
            .state
            .targets()
            .iter()
            .any(|(id, t)| self.state.originals().get(id).is_some_and(|o| *t < o.target));
        let troubles = self.journal.troubles().chain(self.guests.troubles()).collect();
        let report = Report::of(&orders, &sample, &decision, &outcomes, troubles, began.elapsed());
        self.publish(report);
        Some(decision)
    }

    fn decide(&mut self, orders: &Orders, sample: &Sample, turn: Turn) -> Decision {
        let roster = orders.roster(sample);
        let eviction = (self.eviction)(sample.host.memory.total);
        self.state.step(&Input {
            sample,
            policy: &orders.policy,
            roster: &roster,
            turn,
            taking_paused: orders.paused || self.journal.is_behind(),
            release: orders.release || self.release,
            eviction,
            keep_found: orders.is_standalone(),
        })
    }

    /// On the first sight of a guest: take over what the journal knows. The target that QEMU has cannot be read, so it
    /// is set again, to no less than what the guest holds, once that is known.
    fn adopt(&mut self, sample: &Sample) {
        let root = Root::default();
        for (guest, entry) in
            self.journal.adopt(&sample.guests, |process| overcommit_host::runs(&root, process))
        {
            let (target, original) = (entry.target.min(entry.original.target), entry.original);
            tracing::info!(guest = %guest.name, %target, original = %original.target, "adopted");
            self.state.adopt(guest.id.clone(), original, target);
            self.unconfirmed.insert(guest.id.clone());
        }
        if self.journal.is_lost() {
            self.find_squeezed(&sample.guests);
        }
        let again: Vec<Command> = sample.guests.iter().filter_map(|guest| self.confirmation(guest)).collect();
        if !again.is_empty() {
            let outcomes: Vec<Outcome> = self.guests.apply(&again);
            self.state.note(&outcomes);
        }
    }

    /// Without a journal nobody knows who took what a guest lacks that ran before this agent: it is owed its full size.
    fn find_squeezed(&mut self, guests: &[GuestSample]) {
        let ran_before = |guest: &GuestSample| guest.incarnation.is_none_or(|p| p.started() < self.began);
        let known = |guest: &GuestSample| self.state.originals().contains_key(&guest.id);
        let found: Vec<_> = guests.iter().filter(|guest| ran_before(guest) && !known(guest)).collect();
        for guest in found {
            let Some(balloon) = guest.balloon.filter(|b| b.actual < guest.config.full) else { continue };
            tracing::warn!(guest = %guest.name, holds = %balloon.actual, full = %guest.config.full, "found squeezed");
            let original = Original { target: guest.config.full, period: balloon.period };
            self.state.adopt(guest.id.clone(), original, balloon.actual);
        }
    }

    /// The command that makes sure of an adopted target; nothing while the guest is out of reach.
    fn confirmation(&mut self, guest: &GuestSample) -> Option<Command> {
        let holds = guest.balloon?.actual;
        if !self.unconfirmed.remove(&guest.id) {
            return None;
        }
        let original = self.state.originals().get(&guest.id)?;
        let to = self.state.targets().get(&guest.id)?.max(&holds).min(&original.target);
        Some(Command::SetTarget { id: guest.id.clone(), from: *to, to: *to })
    }

    fn publish(&mut self, report: Report) {
        let report = Arc::new(report);
        self.last = Some(Arc::clone(&report));
        self.reporter.publish(report);
    }
}
