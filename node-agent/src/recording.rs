//! Recording, on a thread of its own: a disk that hangs or refuses costs lines, which is told, and holds nothing up.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use overcommit_record::{Before, Tape, Writer};

use crate::clock;
use crate::state_dir::{self, refusal};

/// So much of the past may be lost when the process is killed.
const FLUSH: Duration = Duration::from_secs(1);
/// A disk that refused is tried again after this.
const RETRY: Duration = Duration::from_mins(1);
/// A disk that takes longer hangs, and is told.
const HANGS: Duration = Duration::from_secs(5);
/// What may wait for the disk: hundreds of turns of a full node.
const WAITING: usize = 8 << 20;
/// The last lines are written within this, or not at all.
const LAST_LINES: Duration = Duration::from_secs(2);

/// The loop's side.
struct Outbox {
    lines: Sender<Line>,
    desk: Arc<Desk>,
    began: bool,
    lost: bool,
}

struct Line {
    bytes: Vec<u8>,
    begins: bool,
}

/// What both sides see.
#[derive(Default)]
struct Desk {
    /// Bytes that wait.
    waiting: AtomicUsize,
    /// The file is full.
    full: AtomicBool,
    /// Lines were lost, and the disk is to be tried again.
    again: AtomicBool,
    /// What is wrong, for people.
    trouble: Mutex<Option<String>>,
    /// Since when the disk has something to do.
    busy: Mutex<Option<Instant>>,
}

/// A recording under way.
pub(crate) struct Recording {
    desk: Arc<Desk>,
    over: Mutex<Receiver<()>>,
}

/// Whether a recording can be written there.
///
/// # Errors
/// When it cannot, for people.
pub(crate) fn check(path: &Path, state_dir: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    let folder = path.parent().and_then(|folder| fs::canonicalize(folder).ok());
    let own = folder.is_some() && folder == fs::canonicalize(state_dir).ok() && state_dir::keeps(path);
    ensure!(!own, "--record {shown}: the agent keeps something else there; name another, such as recording");
    Writer::check(path).with_context(|| format!("--record {shown}"))
}

/// Begins to record; without a thread nothing is: guests need the loop more than people need that.
pub(crate) fn start(path: &Path) -> Option<(Box<dyn Tape + Send>, Recording)> {
    let started = start_with(path, RETRY);
    started.inspect_err(|error| tracing::error!(%error, "nothing is recorded: no thread can be started")).ok()
}

fn start_with(path: &Path, retry: Duration) -> std::io::Result<(Box<dyn Tape + Send>, Recording)> {
    let (lines, come) = channel();
    let (ends, over) = channel();
    let desk = Arc::new(Desk::default());
    let clerk = Clerk {
        path: path.to_owned(),
        writer: Writer::new(path),
        desk: Arc::clone(&desk),
        flushed: Instant::now(),
        refused: None,
        retry,
    };
    std::thread::Builder::new().name("recording".to_owned()).spawn(move || {
        clerk.work(&come);
        drop(ends);
    })?;
    let outbox = Outbox { lines, desk: Arc::clone(&desk), began: false, lost: false };
    Ok((Box::new(outbox), Recording { desk, over: Mutex::new(over) }))
}

impl Recording {
    /// What is wrong with it, for people.
    pub(crate) fn trouble(&self) -> Option<String> {
        let busy = locked(&self.desk.busy).map(|since| since.elapsed()).filter(|age| *age > HANGS);
        let hangs = busy.map(|age| {
            format!(
                "nothing is recorded for {} s: the disk hangs; what does not fit into {} MiB is lost",
                age.as_secs(),
                WAITING >> 20
            )
        });
        hangs.or_else(|| self.desk.trouble())
    }

    /// Waits for the last lines, once the loop is gone.
    pub(crate) fn end(&self) {
        let over = locked(&self.over);
        if over.recv_timeout(LAST_LINES) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the last lines of the recording are not on disk: the disk hangs");
        }
    }
}

impl Tape for Outbox {
    fn wants_beginning(&mut self) -> Option<Before> {
        let again = self.desk.again.swap(false, Ordering::Relaxed);
        let full = self.desk.full.swap(false, Ordering::Relaxed);
        let (began, lost) = (std::mem::replace(&mut self.began, true), std::mem::take(&mut self.lost));
        match (began, again || lost, full) {
            (false, false, _) => Some(Before::Start),
            (_, true, _) => Some(Before::Loss),
            (true, false, true) => Some(Before::Line),
            (true, false, false) => None,
        }
    }

    fn take(&mut self, bytes: Vec<u8>, begins: bool) {
        let size = bytes.len();
        if self.desk.waiting.load(Ordering::Relaxed).saturating_add(size) > WAITING {
            self.lost = true;
            return;
        }
        self.desk.waiting.fetch_add(size, Ordering::Relaxed);
        self.lost |= self.lines.send(Line { bytes, begins }).is_err();
    }

    fn wall(&self) -> Duration {
        clock::wall()
    }
}

impl Desk {
    fn trouble(&self) -> Option<String> {
        locked(&self.trouble).clone()
    }

    fn tell(&self, trouble: Option<String>) {
        *locked(&self.trouble) = trouble;
    }

    /// Whatever it does with the disk takes a while, or for ever.
    fn at_the_disk<T>(&self, work: impl FnOnce() -> T) -> T {
        *locked(&self.busy) = Some(Instant::now());
        let done = work();
        *locked(&self.busy) = None;
        done
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The disk's side.
struct Clerk {
    path: PathBuf,
    writer: Writer,
    desk: Arc<Desk>,
    flushed: Instant,
    /// When the disk refused; until it is tried again nothing is written.
    refused: Option<Instant>,
    retry: Duration,
}

impl Clerk {
    fn work(mut self, come: &Receiver<Line>) {
        loop {
            match come.recv_timeout(FLUSH.min(self.retry)) {
                Ok(line) => {
                    self.desk.waiting.fetch_sub(line.bytes.len(), Ordering::Relaxed);
                    self.write(&line);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.flushed.elapsed() >= FLUSH {
                self.flushed = Instant::now();
                let flushed = self.desk.at_the_disk(|| self.writer.flush());
                self.judge(flushed);
            }
            if self.refused.is_some_and(|at| at.elapsed() >= self.retry) {
                self.refused = Some(Instant::now());
                self.desk.again.store(true, Ordering::Relaxed);
            }
        }
        let closed = self.desk.at_the_disk(|| self.writer.close());
        self.judge(closed);
    }

    fn write(&mut self, line: &Line) {
        // After a refusal what comes rests on lines that are lost.
        if self.refused.is_some() && !line.begins {
            return;
        }
        let written = self.desk.at_the_disk(|| self.writer.write(&line.bytes, line.begins));
        if written.is_ok() && self.refused.take().is_some() {
            tracing::info!("the recording goes on");
            self.desk.tell(None);
        }
        self.judge(written);
        if self.refused.is_none() && self.writer.is_full() {
            self.desk.full.store(true, Ordering::Relaxed);
        }
    }

    fn judge(&mut self, done: std::io::Result<()>) {
        let Err(error) = done else { return };
        let (what, remedy) = refusal(&error);
        let file = self.path.display();
        let why = format!(
            "the recording {file} cannot be written ({what}): {remedy}; until then its lines are lost"
        );
        if self.desk.trouble().as_ref() != Some(&why) {
            tracing::warn!(%error, "{why}");
        }
        self.desk.tell(Some(why));
        self.refused = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use overcommit_core::growth::Growth;
    use overcommit_record::{Line as Recorded, Recorder};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    /// Of each line that begins what is before it.
    fn read(path: &Path) -> Vec<Option<Before>> {
        let mut seen = Vec::new();
        overcommit_record::read(path).unwrap().lines(|line| {
            seen.push(if let Recorded::Begin(begin) = line { Some(begin.before) } else { None });
        });
        seen
    }

    #[test]
    fn what_happens_is_on_disk_when_the_loop_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recording");
        let (tape, recording) = start(&path).unwrap();
        let mut recorder = Recorder::new(Some(tape));
        recorder.recall(Growth::default());
        recorder.begin_anew();
        drop(recorder);
        recording.end();
        assert_eq!(read(&path), [Some(Before::Start), None, None]);
        assert_eq!(recording.trouble(), None);
    }

    #[test]
    fn a_disk_that_refuses_is_told_and_tried_again_and_what_is_missing_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("folder/recording");
        let (tape, recording) = start_with(&path, Duration::from_millis(10)).unwrap();
        let mut recorder = Recorder::new(Some(tape));
        let mut wait = |what: &str, so: &dyn Fn() -> bool| {
            let begun = Instant::now();
            while !so() {
                assert!(begun.elapsed() < DEADLINE, "{what}");
                recorder.recall(Growth::default());
                std::thread::park_timeout(Duration::from_millis(2));
            }
        };
        wait("it refuses", &|| recording.trouble().is_some_and(|why| why.contains("folder/recording")));
        std::fs::create_dir(dir.path().join("folder")).unwrap();
        wait("it goes on", &|| recording.trouble().is_none());
        drop(recorder);
        recording.end();
        assert_eq!(read(&path).first(), Some(&Some(Before::Loss)));
    }

    #[test]
    fn a_disk_that_hangs_is_told() {
        let (_ends, over) = channel();
        let recording = Recording { desk: Arc::default(), over: Mutex::new(over) };
        recording.desk.at_the_disk(|| assert_eq!(recording.trouble(), None, "it may take a moment"));
        *locked(&recording.desk.busy) = Instant::now().checked_sub(HANGS * 2);
        let told = recording.trouble().unwrap();
        assert!(told.starts_with("nothing is recorded for 10 s: the disk hangs"), "{told}");
    }

    #[test]
    fn what_the_agent_keeps_itself_is_no_place_for_a_recording() {
        let dir = tempfile::tempdir().unwrap();
        for own in ["journal", "learned", "writable", ".journal.new", "journal.corrupt", "agent.sock"] {
            let error =
                check(&dir.path().join("../").join(dir.path().file_name().unwrap()).join(own), dir.path());
            assert!(error.is_err_and(|why| why.to_string().contains("keeps something else there")), "{own}");
        }
        check(&dir.path().join("recording"), dir.path()).unwrap();
        let other = tempfile::tempdir().unwrap();
        check(&other.path().join("journal"), dir.path()).unwrap();
    }

    #[test]
    fn a_disk_that_hangs_costs_lines_and_no_memory() {
        let (lines, _held) = channel();
        let mut outbox = Outbox { lines, desk: Arc::default(), began: true, lost: false };
        let piece = vec![0; WAITING / 4];
        for _ in 0..6 {
            outbox.take(piece.clone(), false);
        }
        assert_eq!(outbox.desk.waiting.load(Ordering::Relaxed), WAITING / 4 * 4);
        assert_eq!(outbox.wants_beginning(), Some(Before::Loss));
        assert_eq!(outbox.wants_beginning(), None);
    }
}
