//! A loop that finds a journal in which an agent before it wrote what it took from a guest.

use overcommit_core::plan::Outcome;
use overcommit_core::sample::{GuestId, GuestName};

use super::*;
use crate::tick::no_guests::locked;

pub(super) const FULL: Bytes = Bytes::from_gib(1);
pub(super) const HALF: Bytes = Bytes::from_mib(512);

/// A guest of 1 GiB from which an agent took, and how it is found.
pub(super) struct Adopted {
    pub(super) id: &'static str,
    /// What it had before that.
    pub(super) had: Bytes,
    /// Its process, as it was written.
    pub(super) written: Option<Incarnation>,
    /// Its target, as it was written.
    pub(super) target: Bytes,
    /// It was seen to have all of it.
    pub(super) whole: bool,
    /// Its process now.
    pub(super) runs: Option<Incarnation>,
    /// What it holds now.
    pub(super) holds: Bytes,
}

impl Default for Adopted {
    fn default() -> Self {
        Self { id: "a", had: FULL, written: None, target: HALF, whole: false, runs: None, holds: HALF }
    }
}

/// The loop that finds it, without orders yet, and a port that carries everything out.
pub(super) struct Finder {
    pub(super) work: Loop,
    /// What was carried out.
    pub(super) told: Vec<Command>,
    pub(super) port: NoGuests,
    inbox: Receiver<Wake>,
}

impl Adopted {
    pub(super) fn begin(self, temp: &std::path::Path) -> Finder {
        let Self { id, had, written, target, whole, runs, holds } = self;
        let original = Original { target: had, period: None };
        let entry = Entry { incarnation: written, original, target, whole, name: None };
        leave_journal(temp, [(GuestId::new(id), entry)]);
        let but = vec![GuestSample { incarnation: runs, ..holding(id, holds) }];
        let port = NoGuests { but, ..NoGuests::default() };
        let (wakes, inbox) = channel();
        let work = Loop::new(parts(temp, &world(4096), &wakes, Box::new(port.clone())));
        Finder { work, told: Vec::new(), port, inbox }
    }
}

impl Finder {
    /// These turns, and after each what it made the loop send.
    pub(super) fn turn(&mut self, turns: &[Turn]) {
        for turn in turns {
            self.work.turn(*turn);
            self.carry_out();
        }
    }

    pub(super) fn carry_out(&mut self) {
        let sent = std::mem::take(&mut *locked(&self.port.sent));
        let done = sent.iter().map(|command| Outcome { command: command.clone(), result: Ok(()) });
        locked(&self.port.outcomes).extend(done);
        self.told.extend(sent);
        self.work.hear();
    }

    /// From now on the guest holds this.
    pub(super) fn holds(&mut self, holds: Bytes) {
        let guest = GuestSample { incarnation: self.port.but[0].incarnation, ..holding("a", holds) };
        self.port.but = vec![guest];
        self.work.parts.guests = Box::new(self.port.clone());
    }

    /// Until what is being written is.
    pub(super) fn wait_for_disk(&mut self) {
        while self.work.takes.is_some() {
            self.work.work(Ok(self.inbox.recv_timeout(DEADLINE).unwrap()));
        }
    }
}

/// What the journal has of the guest.
pub(super) fn entry(temp: &std::path::Path) -> Option<Entry> {
    let written = std::fs::read(temp.join("state").join(journal::FILE)).unwrap();
    let mut content: Content = envelope::open(&written).unwrap();
    content.guests.remove(&GuestId::new("a"))
}

/// The guest, running, when it holds so much.
pub(super) fn holding(id: &str, actual: Bytes) -> GuestSample {
    GuestSample {
        balloon: Some(Balloon { actual, ..Balloon::default() }),
        ..no_guests::guest(id, GuestName::standalone(id), FULL)
    }
}

/// Orders of a host without Kubernetes.
pub(super) fn obey(work: &mut Loop, mode: Wished) {
    let spec = OvercommitPolicySpec { mode, ..OvercommitPolicySpec::default() };
    work.obey(Arc::new(Orders::from_file("p", &spec).unwrap()));
}
