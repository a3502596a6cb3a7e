//! What the host's kernel says of guests, asked on a thread of its own: any part of it can hang, on a node that thrashes
//! or at a process whose memory lock is held.
//!
//! One question is under way at most, and what is said of each guest counts as soon as it came. A reader that says nothing
//! for too long is left where it is; another takes its place, and its port passes over what the first one hangs at.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use overcommit_core::ports::{HostView, ProcessPort, Who};
use overcommit_core::sample::GuestId;
use overcommit_core::stranger::Stranger;

use crate::domain::Observation;
use crate::link::{Notify, STACK};
use crate::target::ConnectionKey;

/// Makes a port, on the thread that is to use it.
pub type MakePort = Arc<dyn Fn() -> Box<dyn ProcessPort> + Send + Sync>;

/// Readers that hang at the same time; each keeps its thread, and a file of every guest open.
const STUCK_AT_MOST: usize = 4;
/// Silence is a trouble after so many times the patience.
const LATE: u32 = 5;

/// The caller's end.
pub(crate) struct Facts {
    make: MakePort,
    patience: Duration,
    reader: Option<Reader>,
    /// Left where they hang, and since when; they end by themselves.
    stuck: Vec<(Instant, JoinHandle<()>)>,
    /// Why there is no reader.
    trouble: Option<String>,
    newest: Said,
    /// Guests that are known by their processes, of the answer that is under way.
    coming: Vec<ByProcess>,
}

/// What was said of all guests.
#[derive(Clone, Default)]
pub(crate) struct Said {
    pub(crate) views: HashMap<GuestId, View>,
    pub(crate) evident: Vec<ByProcess>,
    /// Of pods that may not be talked to.
    pub(crate) strangers: Vec<Stranger>,
}

/// What was said of one guest, and when it was looked at.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) host: HostView,
    pub(crate) at: Instant,
}

/// A guest that is known by its process alone.
#[derive(Clone)]
pub(crate) struct ByProcess {
    /// Its connection; absent for a guest of a libvirt that has listed none.
    pub(crate) key: Option<ConnectionKey>,
    pub(crate) id: GuestId,
    pub(crate) seen: Observation,
}

/// What the kernel is asked.
pub(crate) struct Question {
    /// About these guests.
    pub(crate) guests: Vec<(GuestId, Who)>,
    /// Which guests these connections have that do not say.
    pub(crate) silent: Vec<Silent>,
    /// And about these pods.
    pub(crate) strangers: Vec<Arc<str>>,
}

/// A connection whose guests are looked for by their processes.
pub(crate) struct Silent {
    pub(crate) key: Option<ConnectionKey>,
    pub(crate) pod_uid: Option<Arc<str>>,
    /// It can have no other than this one.
    pub(crate) only: Option<Arc<str>>,
    /// Those it has told of.
    pub(crate) seen: Vec<Arc<str>>,
}

enum Finding {
    View(GuestId, View),
    ByProcess(ByProcess),
    Strangers(Vec<Stranger>),
    Done,
}

struct Reader {
    questions: Sender<Question>,
    findings: Receiver<Finding>,
    thread: JoinHandle<()>,
    /// Since when the answer is waited for.
    asked: Option<Instant>,
    /// When anything came last.
    heard: Instant,
}

/// Identity of a guest: in a cluster by pod and domain, so that no tenant can claim another's.
pub(crate) fn identity(pod_uid: Option<&str>, uuid: &Arc<str>) -> GuestId {
    match pod_uid {
        Some(pod) => GuestId::new(format!("{pod}/{uuid}")),
        None => GuestId::new(Arc::clone(uuid)),
    }
}

/// Which guest the kernel is asked about.
pub(crate) fn who(pod_uid: Option<&Arc<str>>, seen: &Observation) -> Who {
    Who {
        pod_uid: pod_uid.cloned(),
        uuid: Arc::clone(&seen.uuid),
        full: seen.config.full,
        pluggable: seen.pluggable.clone(),
    }
}

impl Said {
    /// What was said of a guest, and how long ago; absent while nothing was.
    pub(crate) fn of(&self, id: &GuestId) -> (HostView, Option<Duration>) {
        let view = self.views.get(id);
        (view.map(|v| v.host.clone()).unwrap_or_default(), view.map(|v| v.at.elapsed()))
    }
}

impl Facts {
    pub(crate) fn new(make: MakePort, patience: Duration) -> Self {
        Self {
            make,
            patience,
            reader: None,
            stuck: Vec::new(),
            trouble: None,
            newest: Said::default(),
            coming: Vec::new(),
        }
    }

    pub(crate) fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Asks, unless the last question is still unanswered; true if this one is under way now.
    pub(crate) fn ask(&mut self, question: Question, notify: &Notify) -> bool {
        self.leave_what_hangs();
        if self.reader.is_none() {
            self.start(notify);
        }
        let Some(reader) = self.reader.as_mut().filter(|reader| reader.asked.is_none()) else { return false };
        let asked: HashSet<GuestId> = question.guests.iter().map(|(id, _)| id.clone()).collect();
        let evident: HashSet<&GuestId> = self.newest.evident.iter().map(|guest| &guest.id).collect();
        self.newest.views.retain(|id, _| asked.contains(id) || evident.contains(id));
        // A thread that is gone is noticed when it is heard.
        let now = Instant::now();
        (reader.asked, reader.heard) = (Some(now), now);
        reader.questions.send(question).is_ok()
    }

    /// Takes in what has come; true if that completes an answer.
    pub(crate) fn hear(&mut self) -> bool {
        let mut complete = false;
        while let Some(reader) = &mut self.reader {
            match reader.findings.try_recv() {
                Ok(finding) => {
                    reader.heard = Instant::now();
                    complete |= self.take(finding);
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.reader = None;
                    self.trouble =
                        Some("the thread that asks the host's kernel about guests failed".to_owned());
                }
            }
        }
        complete
    }

    fn take(&mut self, finding: Finding) -> bool {
        match finding {
            Finding::View(id, view) => {
                self.newest.views.insert(id, view);
                false
            }
            Finding::ByProcess(guest) => {
                self.coming.push(guest);
                false
            }
            Finding::Strangers(all) => {
                self.newest.strangers = all;
                false
            }
            Finding::Done => {
                self.newest.evident = std::mem::take(&mut self.coming);
                self.trouble = None;
                if let Some(reader) = &mut self.reader {
                    reader.asked = None;
                }
                true
            }
        }
    }

    /// The newest that came.
    pub(crate) fn newest(&self) -> &Said {
        &self.newest
    }

    /// True while an answer is under way.
    pub(crate) fn is_asked(&self) -> bool {
        self.reader.as_ref().is_some_and(|reader| reader.asked.is_some())
    }

    /// True while an answer may still come in time.
    pub(crate) fn is_waiting(&self) -> bool {
        let asked = self.reader.as_ref().and_then(|reader| reader.asked);
        asked.is_some_and(|asked| asked.elapsed() < self.patience)
    }

    /// What does not work, for people.
    pub(crate) fn trouble(&self) -> Option<String> {
        let late = self.patience.saturating_mul(LATE);
        let silent = self.reader.as_ref().and_then(|r| r.asked).map(|asked| asked.elapsed());
        if let Some(age) = silent.filter(|age| *age >= late) {
            return Some(format!(
                "what the host's kernel says of guests is {} s old: it does not answer, and nothing is taken on old words",
                age.as_secs()
            ));
        }
        let hangs =
            |(since, thread): &&(Instant, JoinHandle<()>)| !thread.is_finished() && since.elapsed() >= late;
        match self.stuck.iter().filter(hangs).count() {
            0 => self.trouble.clone(),
            count => Some(format!(
                "the host's kernel does not answer about processes of guests ({count} of at most {STUCK_AT_MOST} threads \
                 wait for it): nothing is taken from those guests"
            )),
        }
    }

    fn start(&mut self, notify: &Notify) {
        let (questions, inbox) = channel();
        let (out, findings) = channel();
        let (make, notify) = (Arc::clone(&self.make), Arc::clone(notify));
        let builder = thread::Builder::new().name("facts".to_owned()).stack_size(STACK);
        match builder.spawn(move || serve(&make, &inbox, &out, &notify)) {
            Ok(thread) => {
                let heard = Instant::now();
                self.reader = Some(Reader { questions, findings, thread, asked: None, heard });
            }
            Err(error) => {
                self.trouble = Some(format!("no thread to ask the host's kernel about guests: {error}"));
            }
        }
    }

    /// A reader that has said nothing for too long is not waited for again.
    fn leave_what_hangs(&mut self) {
        self.stuck.retain(|(_, thread)| !thread.is_finished());
        let hangs = |r: &mut Reader| r.asked.is_some() && r.heard.elapsed() >= self.patience;
        if self.stuck.len() < STUCK_AT_MOST
            && let Some(reader) = self.reader.take_if(hangs)
        {
            tracing::warn!(
                others = self.stuck.len(),
                "the host's kernel does not answer about a guest's process"
            );
            self.stuck.push((reader.heard, reader.thread));
            self.coming.clear();
        }
    }
}

/// The thread; it ends when nobody listens any more.
fn serve(make: &MakePort, inbox: &Receiver<Question>, out: &Sender<Finding>, notify: &Notify) {
    let mut port = make();
    while let Ok(question) = inbox.recv() {
        if answer(port.as_mut(), question, out).is_none() {
            return;
        }
        notify();
        port.end_reading();
    }
}

/// Answers one question; nothing once nobody listens.
fn answer(port: &mut dyn ProcessPort, question: Question, out: &Sender<Finding>) -> Option<()> {
    port.begin_reading();
    for (id, who) in question.guests {
        let at = Instant::now();
        let host = port.look(&who);
        out.send(Finding::View(id, View { host, at })).ok()?;
    }
    for silent in question.silent {
        let running = port.running(silent.pod_uid.as_deref());
        let new = |uuid: &Arc<str>| {
            silent.only.as_ref().is_none_or(|only| only == uuid) && !silent.seen.contains(uuid)
        };
        for seen in running.into_iter().filter(|guest| new(&guest.uuid)).map(Observation::of_process) {
            let at = Instant::now();
            let host = port.look(&who(silent.pod_uid.as_ref(), &seen));
            let id = identity(silent.pod_uid.as_deref(), &seen.uuid);
            out.send(Finding::View(id.clone(), View { host, at })).ok()?;
            out.send(Finding::ByProcess(ByProcess { key: silent.key.clone(), id, seen })).ok()?;
        }
    }
    // Last: what nobody listed must not delay what was.
    out.send(Finding::Strangers(port.strangers(&question.strangers))).ok()?;
    out.send(Finding::Done).ok()
}

#[cfg(test)]
mod tests;
