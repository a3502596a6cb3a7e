//! Reaches a launcher's libvirt socket without trusting anything that the pod could have put in its place.
//!
//! The pod owns the directory that the socket lies in. So the pod's root is opened first, the path is resolved
//! beneath it without following any link, the inode is pinned, and whoever listens must live in that same pod.
//! libvirt then connects to the pinned inode (`/proc/self/fd/N`), never to a path.

use std::io;
use std::sync::Arc;

use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt};

use crate::files::more_files;
use crate::proc::Proc;
use crate::root::Root;

/// Where KubeVirt's launchers listen, below the pod's root: the modular daemon's socket, or the monolithic one's in
/// a session (kubevirt: pkg/virt-launcher/virtwrap/util/libvirt_helper.go). Under `/run`, because `/var/run` is a
/// link.
const SOCKETS: [&str; 2] = ["run/libvirt/virtqemud-sock", "run/libvirt/libvirt-sock"];

/// Why a launcher's socket is not used.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The process ended meanwhile.
    #[error("the libvirt daemon ended while its socket was opened; it will be looked for again")]
    Vanished,
    /// The pod's root cannot be opened.
    #[error(
        "its root directory cannot be opened ({0}); {remedy}",
        remedy = more_files(.0).unwrap_or("the agent needs SYS_PTRACE and the host's PID namespace")
    )]
    Root(io::Error),
    /// A QEMU runs without it.
    #[error(
        "its guest runs and its libvirt daemon does not; the launcher restarts it, or the pod must be restarted"
    )]
    NoDaemon,
    /// No socket there (yet).
    #[error("no socket below /run/libvirt; the daemon may still be starting")]
    Absent,
    /// A symbolic link or a path that leads out of the pod: nothing that KubeVirt makes.
    #[error(
        "/{0} is or passes a symbolic link; a launcher of KubeVirt has none, so the pod tampered with it"
    )]
    Link(&'static str),
    /// Something else lies there.
    #[error("/{0} is no socket; a launcher of KubeVirt has one, so the pod tampered with it")]
    NotASocket(&'static str),
    /// Nobody accepts connections.
    #[error("nobody accepts connections ({0}); the daemon is starting or overloaded")]
    Refused(io::Error),
    /// The one who listens is not in the pod.
    #[error("process {pid} listens there, which does not live in the pod; the pod tampered with the socket")]
    Stranger {
        /// The listener; 0 if it is in another PID namespace.
        pid: i32,
    },
    /// A lookup or a connection that does not come back.
    #[error(
        "nothing below /proc/{pid}/root answers: what the pod has mounted there hangs (FUSE, NFS), or the node has no time; \
         if that stays, see /proc/{pid}/mountinfo and delete the pod"
    )]
    Silent {
        /// The daemon.
        pid: u32,
    },
    /// As many threads wait for silent pods as may.
    #[error("its socket is not opened, for {0} other pods do not answer; see what is said of those")]
    Crowded(usize),
    /// Anything else that the kernel refused.
    #[error("it cannot be opened: {0}")]
    Other(io::Error),
}

/// Pins the socket of the libvirt daemon `process`, which lives in pod `pod_uid`. May never come back: whoever serves a file
/// system that is mounted there has the last word.
pub(crate) fn pin(root: &Root, process: &Proc, pod_uid: &str) -> Result<Arc<OwnedFd>, SocketError> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let (dir, _) = process.dir();
    let pod_root = openat(dir, "root", directory, Mode::empty()).map_err(|e| match e {
        Errno::SRCH | Errno::NOENT => SocketError::Vanished,
        e => SocketError::Root(e.into()),
    })?;
    // The root that was opened is that of this very process only if it still is the same one.
    match process.start_ticks() {
        Ok(ticks) if ticks == process.incarnation().start_ticks => {}
        _ => return Err(SocketError::Vanished),
    }
    let socket = resolve(&pod_root)?;
    check_listener(root, &socket, pod_uid)?;
    Ok(Arc::new(socket))
}

/// Opens the socket's inode beneath the pod's root, without following any link.
fn resolve(pod_root: &OwnedFd) -> Result<OwnedFd, SocketError> {
    let resolution = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    for path in SOCKETS {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inode = match openat2(pod_root, path, flags, Mode::empty(), resolution) {
            Ok(inode) => inode,
            Err(Errno::NOENT) => continue,
            Err(Errno::LOOP | Errno::XDEV) => return Err(SocketError::Link(path)),
            Err(Errno::NOTDIR) => return Err(SocketError::NotASocket(path)),
            Err(e) => return Err(SocketError::Other(e.into())),
        };
        let stat = fstat(&inode).map_err(|e| SocketError::Other(e.into()))?;
        return match FileType::from_raw_mode(stat.st_mode) {
            FileType::Socket => Ok(inode),
            FileType::Symlink => Err(SocketError::Link(path)),
            _ => Err(SocketError::NotASocket(path)),
        };
    }
    Err(SocketError::Absent)
}

/// Connects once to see who listens. Never blocks: a full queue of connections is a refusal.
fn check_listener(root: &Root, inode: &OwnedFd, pod_uid: &str) -> Result<(), SocketError> {
    use std::os::fd::AsRawFd;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}", inode.as_raw_fd()))
        .map_err(|e| SocketError::Other(e.into()))?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|e| SocketError::Other(e.into()))?;
    connect(&socket, &address).map_err(|e| SocketError::Refused(e.into()))?;
    let peer = sockopt::socket_peercred(&socket).map_err(|e| SocketError::Other(e.into()))?;
    let pid = peer.pid.as_raw_nonzero().get();
    if lives_in(root, pid, pod_uid) { Ok(()) } else { Err(SocketError::Stranger { pid }) }
}

/// A listener outside of our PID namespace shows as pid 0, which is in no pod.
fn lives_in(root: &Root, pid: i32, pod_uid: &str) -> bool {
    let pod = Proc::open(root, u32::try_from(pid).unwrap_or(0)).and_then(|process| process.pod_uid());
    pod.ok().flatten().is_some_and(|uid| *uid == *pod_uid)
}
