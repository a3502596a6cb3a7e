//! The kubelet's eviction line, read by a thread of its own: its files may lie on a disk that hangs, and the loop must
//! not wait for them. The loop reads what was understood last.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use overcommit_core::ports::HostPort as _;
use overcommit_core::units::Bytes;
use overcommit_host::{EvictionLine, HostReader, Root};

/// How often the kubelet's configuration is read again.
const AGE: Duration = Duration::from_mins(1);
/// How long the start waits for the first reading.
const PATIENCE: Duration = Duration::from_secs(2);
/// Readings missed before that is a trouble.
const MISSED: u32 = 5;

/// What was read last.
#[derive(Debug)]
pub(crate) struct KubeletLine {
    line: AtomicU64,
    word: Mutex<Word>,
}

#[derive(Debug)]
struct Word {
    read: Instant,
    trouble: Option<String>,
}

impl KubeletLine {
    /// Starts the thread; it ends with the value. Until it has read something the kubelet's default holds.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn start(root: Root) -> std::io::Result<Arc<Self>> {
        Self::start_with(root, AGE, PATIENCE)
    }

    fn start_with(root: Root, age: Duration, patience: Duration) -> std::io::Result<Arc<Self>> {
        let trouble =
            Some("the kubelet's eviction line has not been read yet: its default is assumed".to_owned());
        let shared = Arc::new(Self {
            line: AtomicU64::new(EvictionLine::DEFAULT.get()),
            word: Mutex::new(Word { read: Instant::now(), trouble }),
        });
        let (first, read) = sync_channel(1);
        let weak = Arc::downgrade(&shared);
        std::thread::Builder::new()
            .name("kubelet-line".to_owned())
            .spawn(move || renew(&weak, &root, age, &first))?;
        // A disk that hangs now must not keep the agent from giving.
        let _ = read.recv_timeout(patience);
        Ok(shared)
    }

    /// Free memory below which the kubelet evicts.
    pub(crate) fn line(&self) -> Bytes {
        Bytes::new(self.line.load(Ordering::Relaxed))
    }

    /// What is wrong with it, for people.
    pub(crate) fn trouble(&self) -> Option<String> {
        let word = self.word.lock().unwrap_or_else(PoisonError::into_inner);
        let late = word.read.elapsed() > AGE * MISSED;
        let hangs = || {
            let age = word.read.elapsed().as_secs();
            format!("the kubelet's configuration could not be read for {age} s: {} is kept", self.line())
        };
        if late { Some(hangs()) } else { word.trouble.clone() }
    }

    fn take_in(&self, read: EvictionLine, first: bool) {
        // The kubelet goes on with what it read when it started: what cannot be read now lowers no line.
        let line = if first || read.trouble.is_none() { read.line } else { read.line.max(self.line()) };
        if first || line != self.line() {
            tracing::info!(%line, source = read.source, trouble = read.trouble, "the kubelet's eviction line");
        }
        self.line.store(line.get(), Ordering::Relaxed);
        *self.word.lock().unwrap_or_else(PoisonError::into_inner) =
            Word { read: Instant::now(), trouble: read.trouble };
    }
}

/// Reads again and again until nobody wants to know.
fn renew(shared: &Weak<KubeletLine>, root: &Root, age: Duration, told: &SyncSender<()>) {
    let mut host = HostReader::new(root);
    let mut first = true;
    loop {
        // A host that cannot be read is the loop's own trouble, and nothing is decided meanwhile.
        let read = host.sample().map(|host| EvictionLine::read(root, host.memory.total));
        let Some(shared) = shared.upgrade() else { return };
        if let Ok(read) = read {
            shared.take_in(read, std::mem::take(&mut first));
        }
        drop(shared);
        let _ = told.try_send(());
        std::thread::park_timeout(age);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;

    const AT_ONCE: Duration = Duration::from_millis(10);
    const DEADLINE: Duration = Duration::from_secs(20);

    /// A host with 10 GiB whose usual configuration file says this.
    fn host(config: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc")).unwrap();
        std::fs::create_dir_all(dir.path().join("var/lib/kubelet")).unwrap();
        let kib = Bytes::from_gib(10).get() / 1024;
        let meminfo = format!("MemTotal: {kib} kB\nMemFree: {kib} kB\nMemAvailable: {kib} kB\n");
        std::fs::write(dir.path().join("proc/meminfo"), meminfo).unwrap();
        std::fs::write(dir.path().join("proc/vmstat"), "pgfault 1\npgmajfault 1\n").unwrap();
        std::fs::write(file(dir.path()), config).unwrap();
        dir
    }

    fn file(dir: &Path) -> std::path::PathBuf {
        dir.join("var/lib/kubelet/config.yaml")
    }

    /// Replaces the file whole: one that is being written is read as empty.
    fn configure(dir: &Path, config: &str) {
        let fresh = file(dir).with_extension("new");
        std::fs::write(&fresh, config).unwrap();
        std::fs::rename(fresh, file(dir)).unwrap();
    }

    fn wait(line: &KubeletLine, so: impl Fn(&KubeletLine) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !so(line) {
            assert!(Instant::now() < end, "{} {:?}", line.line(), line.trouble());
            std::thread::park_timeout(AT_ONCE);
        }
    }

    #[test]
    fn the_line_is_there_at_once_and_follows_the_file() {
        let dir = host("evictionHard: {memory.available: 300Mi}\n");
        let line = KubeletLine::start_with(Root::new(dir.path()), AT_ONCE, DEADLINE).unwrap();
        assert_eq!((line.line(), line.trouble()), (Bytes::from_mib(300), None));
        configure(dir.path(), "evictionHard: {memory.available: 400Mi}\n");
        wait(&line, |l| l.line() == Bytes::from_mib(400));
        configure(dir.path(), "evictionHard: [\n");
        wait(&line, |l| l.trouble().is_some());
        assert_eq!(line.line(), Bytes::from_mib(400), "what cannot be read lowers no line");
        // A condition and the status show what the port calls a trouble.
        let port = crate::cluster::launchers(&Root::new(dir.path()), line, Arc::new(|| ())).unwrap();
        let troubles = port.troubles();
        assert!(troubles.own().any(|t| t.contains("config.yaml")), "{troubles:?}");
    }

    #[test]
    fn a_reading_that_hangs_holds_nobody_up_and_is_told() {
        let dir = host("");
        // Stands for a disk that hangs: opening it waits for a writer.
        std::fs::remove_file(dir.path().join("proc/meminfo")).unwrap();
        let made = Command::new("mkfifo").arg(dir.path().join("proc/meminfo")).status().unwrap();
        assert!(made.success());
        let line = KubeletLine::start_with(Root::new(dir.path()), AT_ONCE, AT_ONCE).unwrap();
        assert_eq!(line.line(), EvictionLine::DEFAULT);
        assert!(line.trouble().unwrap().contains("not been read yet"));
    }
}
