//! Writes the kernel's knobs for merging equal pages, on a thread of its own: a write to `run` waits until ksmd has finished a
//! batch, which may take long on a node that thrashes. What the loop decides meanwhile is decided anew later.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use overcommit_core::ksm::{Knob, Write, by_hand};

/// Where they are.
const FOLDER: &str = "sys/kernel/mm/ksm";
/// The same as process 1 of the node sees it: a container's own sysfs is mounted to be read only, and no mount of the host's is
/// needed beside this, which the host's PID namespace and `SYS_PTRACE` open.
const OF_THE_NODE: &str = "proc/1/root/sys/kernel/mm/ksm";

/// The thread that writes; ends with this.
#[derive(Debug)]
pub(crate) struct Hand {
    jobs: SyncSender<Vec<Write>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    writing: bool,
    /// Why the last writes failed.
    refused: Option<String>,
}

impl Hand {
    /// Starts it, for the host below `root`.
    ///
    /// # Errors
    /// When no thread can be had.
    pub(crate) fn start(root: &Path) -> io::Result<Self> {
        let (jobs, inbox) = sync_channel(1);
        let shared = Arc::new(Shared::default());
        let (own, root) = (Arc::clone(&shared), root.to_owned());
        std::thread::Builder::new().name("knobs".to_owned()).spawn(move || work(&root, &inbox, &own))?;
        Ok(Self { jobs, shared })
    }

    /// Has these written, unless it is still at others: false.
    pub(crate) fn write(&self, writes: Vec<Write>) -> bool {
        if writes.is_empty() {
            return true;
        }
        let mut state = self.shared.lock();
        if state.writing {
            return false;
        }
        state.writing = self.jobs.try_send(writes).is_ok();
        state.writing
    }

    /// It is at something.
    pub(crate) fn is_writing(&self) -> bool {
        self.shared.lock().writing
    }

    /// Waits until it is at nothing, for so long at most: whoever ends decides on what is read after that, and once.
    pub(crate) fn settle(&self, patience: Duration) {
        let state = self.shared.lock();
        drop(self.shared.written.wait_timeout_while(state, patience, |state| state.writing));
    }

    /// What could not be written, for people.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.shared.lock().refused.clone()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn work(root: &Path, inbox: &Receiver<Vec<Write>>, shared: &Shared) {
    while let Ok(writes) = inbox.recv() {
        let refused = write_all(root, &writes);
        let mut state = shared.lock();
        (state.writing, state.refused) = (false, refused);
        shared.written.notify_all();
    }
}

/// Writes them, but starts nothing that would rest on a knob that was refused. What went wrong, and what to do about it.
fn write_all(root: &Path, writes: &[Write]) -> Option<String> {
    let (mut why, mut left) = (None, Vec::new());
    for write in writes {
        if why.is_some() && write.starts() {
            left.push(*write);
        } else if let Err(refusal) = set(root, *write) {
            left.push(*write);
            why.get_or_insert(refusal);
        }
    }
    why.map(|why| format!("{why}; by hand: {}", by_hand(&left)))
}

/// Writes one knob.
fn set(root: &Path, write: Write) -> Result<(), String> {
    let (name, text) = (write.knob.file(), write.text());
    let to =
        |folder: &'static str| put(&root.join(folder).join(name), &text).map_err(|error| (folder, error));
    let written = match to(FOLDER) {
        Err((_, error)) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => to(OF_THE_NODE),
        written => written,
    };
    match &written {
        Ok(()) if write.knob == Knob::Run => tracing::info!(run = text, "ksm"),
        Ok(()) => tracing::debug!(knob = name, value = text, "ksm"),
        Err(_) => {}
    }
    written.map_err(|(folder, error)| format!("/{folder}/{name} cannot be set to {text}: {error}"))
}

fn put(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).truncate(true).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// A tree with knobs as the kernel has them, the last one as given.
    pub(crate) fn tree(root: &Path, run: u64) {
        let folder = root.join(FOLDER);
        std::fs::create_dir_all(&folder).unwrap();
        let files = [
            ("pages_to_scan", 100),
            ("sleep_millisecs", 20),
            ("pages_sharing", 0),
            ("pages_shared", 0),
            ("full_scans", 0),
        ];
        for (name, value) in files.into_iter().chain([("run", run)]) {
            std::fs::write(folder.join(name), value.to_string()).unwrap();
        }
        std::fs::write(folder.join("advisor_mode"), "[none] scan-time").unwrap();
    }

    pub(crate) fn read(root: &Path, name: &str) -> String {
        std::fs::read_to_string(root.join(FOLDER).join(name)).unwrap()
    }

    fn write(knob: &str, value: u64) -> Write {
        serde_json::from_value(serde_json::json!({"knob": knob, "value": value})).unwrap()
    }

    fn done(hand: &Hand) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while hand.is_writing() {
            assert!(Instant::now() < deadline, "it hangs");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_knob_is_written_whole_and_nothing_is_started_after_one_that_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        tree(temp.path(), 0);
        let hand = Hand::start(temp.path()).unwrap();
        assert!(hand.write(vec![write("PagesToScan", 7), write("Run", 1)]));
        done(&hand);
        assert_eq!((read(temp.path(), "pages_to_scan"), read(temp.path(), "run")), ("7".into(), "1".into()));
        std::fs::remove_file(temp.path().join(FOLDER).join("pages_to_scan")).unwrap();
        let last = || {
            assert!(hand.write(vec![write("PagesToScan", 8), write("SleepMillisecs", 9), write("Run", 0)]));
            done(&hand);
            hand.trouble().unwrap()
        };
        let trouble = last();
        assert!(trouble.contains("pages_to_scan cannot be set to 8"), "{trouble}");
        assert!(trouble.ends_with("; by hand: echo 8 > /sys/kernel/mm/ksm/pages_to_scan"), "{trouble}");
        let left = (read(temp.path(), "sleep_millisecs"), read(temp.path(), "run"));
        assert_eq!(left, ("9".into(), "0".into()), "what stops it does not wait for the others");
        assert!(hand.write(vec![write("PagesToScan", 8), write("Run", 1)]));
        done(&hand);
        let by_hand = "by hand: echo 8 > /sys/kernel/mm/ksm/pages_to_scan; echo 1 > /sys/kernel/mm/ksm/run";
        assert!(hand.trouble().unwrap().ends_with(by_hand));
        assert_eq!(read(temp.path(), "run"), "0");
        assert!(!temp.path().join(FOLDER).join("pages_to_scan").exists(), "nothing is made");
        assert!(hand.write(vec![write("Run", 0)]));
        done(&hand);
        assert_eq!(hand.trouble(), None);
    }
}
