//! The two ends of a connection's thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use overcommit_core::plan::Failed;
use overcommit_core::sample::Balloon;

use crate::domain::Observation;
use crate::session::{Listed, Order, Scope, Session};
use crate::target::Target;

/// Stack of a connection's thread: libvirt's client and an XML parser without recursion need far less.
pub(crate) const STACK: usize = 512 << 10;
/// Commands that a daemon has not taken by then are dropped: what was right then may be wrong now.
pub(crate) const COMMAND_DEADLINE: Duration = Duration::from_secs(5);

/// What a thread is asked for.
#[derive(Debug)]
pub(crate) enum Request {
    List,
    Observe(Scope),
    /// The statistics of one domain.
    Glance(Arc<str>),
    /// Orders, sent at that time, under a number that no other request has.
    CarryOut {
        number: u64,
        sent: Instant,
        orders: Vec<(Arc<str>, Order)>,
    },
}

/// What it answers.
#[derive(Debug)]
pub(crate) enum Reply {
    Listed(Result<Vec<Listed>, String>),
    Observed(Result<Vec<Observation>, String>),
    Glanced(Arc<str>, Result<Option<Balloon>, String>),
    CarriedOut { number: u64, results: Vec<Result<(), Failed>> },
}

/// An answer, with the thread that it comes from and when it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) link: u64,
    pub(crate) at: Instant,
    pub(crate) reply: Reply,
}

/// Where answers go, and whoever is to be told that there is one.
#[derive(Clone)]
pub(crate) struct Post {
    pub(crate) answers: Sender<Answer>,
    pub(crate) notify: Notify,
}

/// Tells the loop that something can be heard. Must not block.
pub type Notify = Arc<dyn Fn() + Send + Sync>;

impl Post {
    fn send(&self, answer: Answer) -> bool {
        let sent = self.answers.send(answer).is_ok();
        (self.notify)();
        sent
    }
}

/// The caller's end.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: u64,
    /// Dropped before `requests`, which ends the thread: so it is that thread which lets go of a socket last, and waits
    /// for the disk if its file is gone.
    pub(crate) target: Target,
    requests: Sender<Request>,
    /// Since when the answer to a list or a look is waited for.
    pub(crate) asked: Option<Instant>,
    /// Since when the answer to a glance is waited for.
    pub(crate) glanced: Option<Instant>,
}

impl Link {
    /// Starts a thread. It ends when this end is dropped, once the call that it is in returns.
    pub(crate) fn start(id: u64, target: Target, post: Post) -> std::io::Result<Self> {
        let (requests, inbox) = channel();
        let for_thread = target.clone();
        let builder = thread::Builder::new().name(format!("libvirt-{id}")).stack_size(STACK);
        builder.spawn(move || serve(id, Session::new(for_thread), &inbox, &post))?;
        Ok(Self { id, target, requests, asked: None, glanced: None })
    }

    /// Asks, unless the last question is still unanswered.
    pub(crate) fn ask(&mut self, request: Request) {
        if self.asked.is_none() && self.requests.send(request).is_ok() {
            self.asked = Some(Instant::now());
        }
    }

    /// Asks for a domain's statistics, unless anything is still unanswered.
    pub(crate) fn glance(&mut self, uuid: Arc<str>) {
        let free = self.asked.is_none() && self.glanced.is_none();
        if free && self.requests.send(Request::Glance(uuid)).is_ok() {
            self.glanced = Some(Instant::now());
        }
    }

    /// An answer came.
    pub(crate) fn answered(&mut self, reply: &Reply) {
        match reply {
            Reply::Glanced(..) => self.glanced = None,
            Reply::Listed(_) | Reply::Observed(_) => self.asked = None,
            Reply::CarriedOut { .. } => {}
        }
    }

    /// Sends orders behind whatever is under way. A thread that is gone is noticed as an answer that does not come.
    pub(crate) fn order(&self, number: u64, orders: Vec<(Arc<str>, Order)>) {
        drop(self.requests.send(Request::CarryOut { number, sent: Instant::now(), orders }));
    }
}

/// The thread. `virt` panics where libvirt refuses to free a handle; such a connection is opened anew.
fn serve(id: u64, mut session: Session, inbox: &Receiver<Request>, post: &Post) {
    while let Ok(request) = inbox.recv() {
        let fallback = refusal(&request);
        let reply = catch_unwind(AssertUnwindSafe(|| answer(&mut session, request))).unwrap_or_else(|_| {
            let _ = catch_unwind(AssertUnwindSafe(|| session.forget()));
            fallback
        });
        if !post.send(Answer { link: id, at: Instant::now(), reply }) {
            break;
        }
    }
    let _ = catch_unwind(AssertUnwindSafe(move || drop(session)));
}

fn answer(session: &mut Session, request: Request) -> Reply {
    match request {
        Request::List => Reply::Listed(session.list()),
        Request::Observe(scope) => Reply::Observed(session.observe(&scope)),
        Request::Glance(uuid) => {
            let seen = session.glance(&uuid);
            Reply::Glanced(uuid, seen)
        }
        Request::CarryOut { number, sent, orders } => {
            let carry = |(uuid, order): (Arc<str>, Order)| {
                if sent.elapsed() >= COMMAND_DEADLINE {
                    return Err("dropped: libvirt was busy for too long".into());
                }
                session.carry_out(&uuid, order)
            };
            Reply::CarriedOut { number, results: orders.into_iter().map(carry).collect() }
        }
    }
}

/// The reply to a request whose handling panicked.
fn refusal(request: &Request) -> Reply {
    let why = || "the libvirt client failed inside of the call; the connection is opened anew".to_owned();
    match request {
        Request::List => Reply::Listed(Err(why())),
        Request::Observe(_) => Reply::Observed(Err(why())),
        Request::Glance(uuid) => Reply::Glanced(Arc::clone(uuid), Err(why())),
        Request::CarryOut { number, orders, .. } => {
            let failed = || Err(Failed::unanswered(why()));
            Reply::CarriedOut { number: *number, results: orders.iter().map(|_| failed()).collect() }
        }
    }
}
