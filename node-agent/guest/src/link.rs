//! The two ends of a connection's thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

use crate::domain::Observation;
use crate::session::{Listed, Order, Scope, Session};
use crate::target::Target;

/// Stack of a connection's thread: libvirt's client and an XML parser without recursion need far less.
pub(crate) const STACK: usize = 512 << 10;

/// What a thread is asked for.
#[derive(Debug)]
pub(crate) enum Request {
    List,
    Observe(Scope),
    /// Orders by their place in the caller's list.
    CarryOut(Vec<(usize, Arc<str>, Order)>),
}

/// What it answers.
#[derive(Debug)]
pub(crate) enum Reply {
    Listed(Result<Vec<Listed>, String>),
    Observed(Result<Vec<Observation>, String>),
    CarriedOut(Vec<(usize, Result<(), String>)>),
}

/// An answer, with the thread that it comes from.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) link: u64,
    pub(crate) reply: Reply,
}

/// The caller's end.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: u64,
    pub(crate) target: Target,
    requests: Sender<Request>,
    /// Since when an answer is waited for.
    pub(crate) asked: Option<Instant>,
}

impl Link {
    /// Starts a thread. It ends when this end is dropped, once the call that it is in returns.
    pub(crate) fn start(id: u64, target: Target, answers: Sender<Answer>) -> std::io::Result<Self> {
        let (requests, inbox) = channel();
        let for_thread = target.clone();
        let builder = thread::Builder::new().name(format!("libvirt-{id}")).stack_size(STACK);
        builder.spawn(move || serve(id, Session::new(for_thread), &inbox, &answers))?;
        Ok(Self { id, target, requests, asked: None })
    }

    /// Sends a request unless the last one is still unanswered. True if it was sent.
    pub(crate) fn ask(&mut self, request: Request) -> bool {
        let sent = self.asked.is_none() && self.requests.send(request).is_ok();
        if sent {
            self.asked = Some(Instant::now());
        }
        sent
    }
}

/// The thread. `virt` panics where libvirt refuses to free a handle; such a connection is opened anew.
fn serve(id: u64, mut session: Session, inbox: &Receiver<Request>, answers: &Sender<Answer>) {
    while let Ok(request) = inbox.recv() {
        let fallback = refusal(&request);
        let reply = catch_unwind(AssertUnwindSafe(|| answer(&mut session, request))).unwrap_or_else(|_| {
            let _ = catch_unwind(AssertUnwindSafe(|| session.forget()));
            fallback
        });
        if answers.send(Answer { link: id, reply }).is_err() {
            break;
        }
    }
    let _ = catch_unwind(AssertUnwindSafe(move || drop(session)));
}

fn answer(session: &mut Session, request: Request) -> Reply {
    match request {
        Request::List => Reply::Listed(session.list()),
        Request::Observe(scope) => Reply::Observed(session.observe(&scope)),
        Request::CarryOut(orders) => {
            let carry =
                |(place, uuid, order): (usize, Arc<str>, Order)| (place, session.carry_out(&uuid, order));
            Reply::CarriedOut(orders.into_iter().map(carry).collect())
        }
    }
}

/// The reply to a request whose handling panicked.
fn refusal(request: &Request) -> Reply {
    let why = || "the libvirt client failed inside of the call; the connection is opened anew".to_owned();
    match request {
        Request::List => Reply::Listed(Err(why())),
        Request::Observe(_) => Reply::Observed(Err(why())),
        Request::CarryOut(orders) => {
            Reply::CarriedOut(orders.iter().map(|(place, ..)| (*place, Err(why()))).collect())
        }
    }
}
