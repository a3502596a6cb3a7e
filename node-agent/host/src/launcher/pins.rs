//! Pins sockets, each on a thread of its own: what a pod has mounted below its root (FUSE, NFS) may never answer, and
//! whoever waits for it cannot be called back.
//!
//! A thread that is not back in time is left where it hangs, and its pod is not opened again before it is: one thread for
//! each pod, and no more than [`STUCK_AT_MOST`] together. What it brings in the end the next scan takes in.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use overcommit_core::sample::Incarnation;
use rustix::fd::OwnedFd;

use crate::proc::Proc;
use crate::root::Root;
use crate::socket::{self, SocketError};

/// How long a scan waits for one pod; a lookup takes microseconds.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long it waits for all pods together.
const PATIENCE_WITH_ALL: Duration = Duration::from_secs(1);
/// Threads that wait for pods at the same time; each keeps two files open.
pub(super) const STUCK_AT_MOST: usize = 16;
/// Stack of such a thread, which calls little but the kernel.
const STACK: usize = 256 << 10;

type Pinned = Result<Arc<OwnedFd>, SocketError>;

/// Sockets that are being pinned.
#[derive(Debug)]
pub(super) struct Pins {
    root: Root,
    under_way: HashMap<Arc<str>, Pinning>,
    /// For how long this scan may still wait.
    patience: Duration,
}

/// One that is being pinned.
#[derive(Debug)]
struct Pinning {
    daemon: Incarnation,
    answer: Receiver<Pinned>,
    thread: JoinHandle<()>,
}

impl Pins {
    /// Pins sockets of processes below `root`.
    pub(super) fn new(root: Root) -> Self {
        Self { root, under_way: HashMap::new(), patience: PATIENCE_WITH_ALL }
    }

    /// A new scan begins. What came for pods that are not wanted any more is let go of.
    pub(super) fn begin(&mut self, wanted: impl Fn(&Arc<str>) -> bool) {
        self.patience = PATIENCE_WITH_ALL;
        self.under_way.retain(|uid, pinning| wanted(uid) || !pinning.thread.is_finished());
    }

    /// The socket of the libvirt daemon of this pod.
    pub(super) fn pin(&mut self, pod_uid: &Arc<str>, daemon: Proc) -> Pinned {
        let which = daemon.incarnation();
        if let Some(before) = self.under_way.remove(pod_uid) {
            match before.answer.try_recv() {
                Ok(pinned) if before.daemon == which => return pinned,
                Err(TryRecvError::Empty) => return Err(self.leave(pod_uid, before)),
                // Of a daemon that ended since; or its thread failed.
                Ok(_) | Err(TryRecvError::Disconnected) => {}
            }
        }
        let pinning = self.start(pod_uid, daemon)?;
        let since = Instant::now();
        let answer = pinning.answer.recv_timeout(PATIENCE.min(self.patience));
        self.patience = self.patience.saturating_sub(since.elapsed());
        match answer {
            Ok(pinned) => pinned,
            Err(RecvTimeoutError::Timeout) => Err(self.leave(pod_uid, pinning)),
            Err(RecvTimeoutError::Disconnected) => {
                Err(SocketError::Other(std::io::Error::other("the thread that opens it failed")))
            }
        }
    }

    /// Leaves a thread where it is.
    fn leave(&mut self, pod_uid: &Arc<str>, pinning: Pinning) -> SocketError {
        let pid = pinning.daemon.pid;
        self.under_way.insert(Arc::clone(pod_uid), pinning);
        SocketError::Silent { pid }
    }

    fn start(&self, pod_uid: &Arc<str>, process: Proc) -> Result<Pinning, SocketError> {
        let stuck = self.stuck();
        if stuck >= STUCK_AT_MOST {
            return Err(SocketError::Crowded(stuck));
        }
        let (out, answer) = sync_channel(1);
        let (root, pod_uid, daemon) = (self.root.clone(), Arc::clone(pod_uid), process.incarnation());
        let builder = thread::Builder::new().name("socket".to_owned()).stack_size(STACK);
        let pin = move || drop(out.send(socket::pin(&root, &process, &pod_uid)));
        Ok(Pinning { daemon, answer, thread: builder.spawn(pin).map_err(SocketError::Other)? })
    }

    /// Threads that are not back, one for each pod at most.
    pub(super) fn stuck(&self) -> usize {
        self.under_way.values().filter(|pinning| !pinning.thread.is_finished()).count()
    }
}
