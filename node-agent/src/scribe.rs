//! Writes what must outlive the process, on a thread of its own: a disk that hangs or refuses holds takes up and nothing
//! else, and is told to people. Of each kind the newest alone waits, so that what waits is bounded however long it does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use overcommit_core::growth::Growth;

use crate::envelope;
use crate::intake;
use crate::journal::{self, Content};
use crate::learned;
use crate::state_dir::{StateDir, refusal};

/// Something that is being written for longer hangs: a disk that works takes some milliseconds, one that is worked hard a
/// second or two.
const HANGS: Duration = Duration::from_secs(5);
/// Orders that could not be written are tried again after this: nobody may write new ones for days, and what is on disk
/// may take what they forbid.
const RETRY: Duration = Duration::from_mins(1);

/// How long what is waited for.
#[derive(Clone, Copy)]
struct Patience {
    hangs: Duration,
    retry: Duration,
}

/// Writes for a loop and its intake; ends with the last of its clones.
#[derive(Clone)]
pub(crate) struct Scribe {
    desk: Arc<Desk>,
    bell: SyncSender<()>,
}

struct Desk {
    dir: Arc<StateDir>,
    patience: Patience,
    papers: Mutex<Papers>,
}

/// What waits, and what became of the rest.
#[derive(Default)]
struct Papers {
    journal: Option<Content>,
    orders: Option<Vec<u8>>,
    learned: Option<Growth>,
    /// Since when something is being written.
    writing: Option<Instant>,
    unkept: Option<Unkept>,
}

/// Orders that could not be written.
struct Unkept {
    sealed: Vec<u8>,
    /// Why, for people.
    why: String,
    tried: Instant,
}

enum Job {
    Journal(Content),
    Orders(Vec<u8>),
    Learned(Growth),
}

impl Scribe {
    /// Starts the thread; `told` is called, on it, with each journal and what became of it.
    ///
    /// # Errors
    /// When no thread can be had.
    pub(crate) fn start(
        dir: Arc<StateDir>,
        told: impl Fn(Content, std::io::Result<()>) + Send + 'static,
    ) -> std::io::Result<Self> {
        Self::start_with(dir, Patience { hangs: HANGS, retry: RETRY }, told)
    }

    fn start_with(
        dir: Arc<StateDir>,
        patience: Patience,
        told: impl Fn(Content, std::io::Result<()>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let desk = Arc::new(Desk { dir, patience, papers: Mutex::default() });
        let (bell, rings) = sync_channel(1);
        let own = Arc::clone(&desk);
        std::thread::Builder::new().name("scribe".to_owned()).spawn(move || own.work(&rings, told))?;
        Ok(Self { desk, bell })
    }

    /// Has a journal written.
    pub(crate) fn write(&self, journal: Content) {
        self.hand(|papers| papers.journal = Some(journal));
    }

    /// Has it keep orders, sealed.
    pub(crate) fn keep_orders(&self, sealed: Vec<u8>) {
        self.hand(|papers| papers.orders = Some(sealed));
    }

    /// Has it keep what was learned.
    pub(crate) fn keep(&self, learned: Growth) {
        self.hand(|papers| papers.learned = Some(learned));
    }

    /// Something is not on disk yet.
    pub(crate) fn is_writing(&self) -> bool {
        let papers = self.desk.papers();
        papers.writing.is_some()
            || papers.journal.is_some()
            || papers.orders.is_some()
            || papers.learned.is_some()
    }

    /// What is wrong with the disk, for people.
    pub(crate) fn troubles(&self) -> impl Iterator<Item = String> + use<> {
        let papers = self.desk.papers();
        let late = papers.writing.map(|since| since.elapsed());
        let late = late.filter(|age| *age > self.desk.patience.hangs);
        let dir = self.desk.dir.path().display();
        let hangs = late.map(|age| {
            format!(
                "nothing is written to {dir} for {} s: the disk hangs, and takes wait for it",
                age.as_secs()
            )
        });
        let unkept = papers.unkept.as_ref().map(|unkept| unkept.why.clone());
        hangs.into_iter().chain(unkept)
    }

    fn hand(&self, put: impl FnOnce(&mut Papers)) {
        put(&mut self.desk.papers());
        // One that is full rings already.
        let _ = self.bell.try_send(());
    }
}

impl Desk {
    fn papers(&self) -> MutexGuard<'_, Papers> {
        self.papers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, rings: &Receiver<()>, told: impl Fn(Content, std::io::Result<()>)) {
        while rings.recv_timeout(self.rest()) != Err(RecvTimeoutError::Disconnected) {
            while let Some(job) = self.next() {
                let written = catch_unwind(AssertUnwindSafe(|| self.write(&job)));
                let result =
                    written.unwrap_or_else(|_| Err(std::io::Error::other("writing it failed inside")));
                self.papers().writing = None;
                match (job, result) {
                    (Job::Journal(content), result) => told(content, result),
                    (Job::Orders(sealed), result) => self.kept(sealed, result),
                    (Job::Learned(_), Err(error)) => tracing::warn!(%error, "what was learned is not kept"),
                    (Job::Learned(_), Ok(())) => {}
                }
            }
        }
    }

    /// How long there is nothing to do, unless it rings.
    fn rest(&self) -> Duration {
        let next = |unkept: &Unkept| self.patience.retry.saturating_sub(unkept.tried.elapsed());
        self.papers().unkept.as_ref().map_or(Duration::MAX, next)
    }

    /// Orders were written, or not.
    fn kept(&self, sealed: Vec<u8>, result: std::io::Result<()>) {
        let mut papers = self.papers();
        let before = papers.unkept.take();
        let Err(error) = result else {
            if before.is_some() {
                tracing::info!("the orders are on disk again");
            }
            return;
        };
        let (what, remedy) = refusal(&error);
        let file = self.dir.shown(intake::FILE);
        let why =
            format!("{file} cannot be written ({what}): {remedy}, or a restart may follow older orders");
        if before.is_none_or(|before| before.why != why) {
            tracing::error!(%error, "{why}");
        }
        papers.unkept = Some(Unkept { sealed, why, tried: Instant::now() });
    }

    /// What is to be written now; the journal first, for takes wait for it.
    fn next(&self) -> Option<Job> {
        let mut papers = self.papers();
        let journal = papers.journal.take().map(Job::Journal);
        let due = papers.unkept.as_mut().filter(|unkept| unkept.tried.elapsed() >= self.patience.retry);
        let again = due.map(|unkept| {
            unkept.tried = Instant::now();
            unkept.sealed.clone()
        });
        let job = journal
            .or_else(|| papers.orders.take().or(again).map(Job::Orders))
            .or_else(|| papers.learned.take().map(Job::Learned));
        papers.writing = job.as_ref().map(|_| Instant::now());
        job
    }

    fn write(&self, job: &Job) -> std::io::Result<()> {
        match job {
            Job::Journal(content) => self.dir.replace(journal::FILE, &envelope::seal(content)),
            Job::Orders(sealed) => self.dir.replace(intake::FILE, sealed),
            Job::Learned(growth) => self.dir.replace(learned::FILE, &envelope::seal(growth)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::process::Command;
    use std::sync::mpsc::channel;

    use overcommit_core::dealings::Original;
    use overcommit_core::sample::GuestId;
    use overcommit_core::step::State;
    use overcommit_core::units::Bytes;

    use super::*;
    use crate::journal::Journal;

    const DEADLINE: Duration = Duration::from_secs(20);
    const AT_ONCE: Duration = Duration::from_millis(10);
    const PATIENCE: Patience = Patience { hangs: Duration::from_millis(300), retry: AT_ONCE };

    /// Stands for a disk that hangs: opening it for writing waits for a reader.
    fn hang(dir: &Path, file: &str) {
        let made = Command::new("mkfifo").arg(dir.join(format!(".{file}.new"))).status().unwrap();
        assert!(made.success());
    }

    fn wait(what: &str, so: impl Fn() -> bool) {
        let end = Instant::now() + DEADLINE;
        while !so() {
            assert!(Instant::now() < end, "{what}");
            std::thread::park_timeout(AT_ONCE);
        }
    }

    /// What a journal says in which this guest stands.
    fn content(journal: &Journal, guest: &str) -> Content {
        let mut state = State::default();
        let original = Original { target: Bytes::from_mib(512), period: None };
        state.adopt(&GuestId::new(guest), original, Bytes::from_mib(300));
        journal.next(&state, &BTreeMap::new(), &BTreeMap::new()).unwrap()
    }

    #[test]
    fn a_disk_that_hangs_is_told_for_as_long_as_it_does_and_the_newest_is_written_then() {
        for file in [journal::FILE, intake::FILE] {
            let temp = tempfile::tempdir().unwrap();
            let dir = Arc::new(StateDir::open(temp.path()).unwrap());
            let (results, told) = channel();
            let tell = move |content, result: std::io::Result<()>| {
                drop(results.send((content, result.is_ok())));
            };
            // Orders that were lost are not what comes next.
            let patience = Patience { retry: DEADLINE, ..PATIENCE };
            let scribe = Scribe::start_with(Arc::clone(&dir), patience, tell).unwrap();
            // Which is written as it is opened.
            let journal = Journal::open(&dir, "boot");
            hang(temp.path(), file);
            let give = |text: &str| {
                if file == journal::FILE {
                    scribe.write(content(&journal, text));
                } else {
                    scribe.keep_orders(text.as_bytes().to_vec());
                }
            };
            give("first");
            assert_eq!(scribe.troubles().count(), 0, "it may take its time");
            wait("the trouble", || scribe.troubles().any(|t| t.contains("the disk hangs")));
            assert!(scribe.troubles().any(|t| t.contains(&temp.path().display().to_string())));
            give("second");
            give("third");
            assert!(scribe.is_writing() && told.try_recv().is_err());
            // The first is lost with the pipe.
            drop(std::fs::File::open(temp.path().join(format!(".{file}.new"))).unwrap());
            wait("the disk to be well", || !scribe.is_writing() && scribe.troubles().count() == 0);
            let written = String::from_utf8(std::fs::read(temp.path().join(file)).unwrap()).unwrap();
            assert!(written.contains("third"), "{written}");
            if file == journal::FILE {
                let results: Vec<bool> = told.try_iter().map(|(_, written)| written).collect();
                assert_eq!(results, [false, true], "each write is told");
            }
        }
    }

    #[test]
    fn orders_that_could_not_be_written_are_tried_again_and_told_until_they_are() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Arc::new(StateDir::open(temp.path()).unwrap());
        let scribe = Scribe::start_with(dir, PATIENCE, |_, _| ()).unwrap();
        let fresh = temp.path().join(format!(".{}.new", intake::FILE));
        let kept = || std::fs::read(temp.path().join(intake::FILE)).unwrap_or_default();
        // Nothing can be written over a folder.
        std::fs::create_dir(&fresh).unwrap();
        scribe.keep_orders(b"first".to_vec());
        let told =
            || scribe.troubles().any(|t| t.contains("cannot be written") && t.contains("older orders"));
        wait("the trouble", told);
        scribe.keep_orders(b"second".to_vec());
        wait("the second try", || !scribe.is_writing());
        assert!(told() && kept().is_empty());
        std::fs::remove_dir(&fresh).unwrap();
        wait("the end of the trouble", || !told());
        assert_eq!(kept(), b"second");
    }

    #[test]
    fn new_orders_do_not_wait_for_the_next_try_of_old_ones() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Arc::new(StateDir::open(temp.path()).unwrap());
        let patience = Patience { retry: Duration::from_hours(1), ..PATIENCE };
        let scribe = Scribe::start_with(dir, patience, |_, _| ()).unwrap();
        let fresh = temp.path().join(format!(".{}.new", intake::FILE));
        std::fs::create_dir(&fresh).unwrap();
        scribe.keep_orders(b"first".to_vec());
        wait("the trouble", || scribe.troubles().count() == 1);
        std::fs::remove_dir(&fresh).unwrap();
        scribe.keep_orders(b"second".to_vec());
        wait("the end of the trouble", || scribe.troubles().count() == 0);
        assert_eq!(std::fs::read(temp.path().join(intake::FILE)).unwrap(), b"second");
    }
}
