use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::*;
use crate::proc::tests::add_process;

mod hangs;

const POD: &str = "4cd1b2a0-0a39-4f5e-9d11-3c4a2d9b7e10";
const OTHER: &str = "99d1b2a0-0a39-4f5e-9d11-3c4a2d9b7e10";

/// A node with one launcher pod whose libvirt daemon has pid 42 and listens in this very process.
struct Node {
    dir: tempfile::TempDir,
}

fn cgroup(pod: &str) -> String {
    format!("0::/kubepods/burstable/pod{pod}/abc\n")
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        add_process(dir.path(), 41, "virt-launcher-m", &cgroup(POD), &["virt-launcher-monitor"]);
        add_process(dir.path(), 42, "virtqemud", &cgroup(POD), &["virtqemud", "-f"]);
        let node = Self { dir };
        std::fs::create_dir_all(node.sockets()).unwrap();
        node.i_live_in(POD);
        node
    }

    fn pod_root(&self) -> PathBuf {
        self.dir.path().join("proc/42/root")
    }

    fn sockets(&self) -> PathBuf {
        self.pod_root().join("run/libvirt")
    }

    fn listen(&self) -> UnixListener {
        UnixListener::bind(self.sockets().join("virtqemud-sock")).unwrap()
    }

    /// Says of this very process, which is the one that listens, in which pod it lives.
    fn i_live_in(&self, pod: &str) {
        add_process(self.dir.path(), std::process::id(), "me", &cgroup(pod), &[]);
    }

    fn launchers(&self) -> Launchers {
        Launchers::new(Root::new(self.dir.path()))
    }

    fn refusal(&self) -> SocketError {
        let mut scan = self.launchers().scan(|_| true).unwrap();
        assert!(scan.launchers.is_empty());
        let refusal = scan.refusals.pop().expect("the launcher is refused");
        assert!(refusal.to_string().contains(POD));
        refusal.why
    }
}

fn connect(socket: &Arc<OwnedFd>) -> std::io::Result<UnixStream> {
    UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd()))
}

#[test]
fn a_launcher_is_found_and_its_socket_pinned() {
    let node = Node::new();
    let listener = node.listen();
    let mut launchers = node.launchers();
    let scan = launchers.scan(|_| true).unwrap();
    assert!(scan.refusals.is_empty(), "{:?}", scan.refusals);
    let launcher = &scan.launchers[0];
    assert_eq!((&*launcher.pod_uid, launcher.daemon.pid), (POD, 42));
    connect(&launcher.socket).unwrap();
    let again = launchers.scan(|_| true).unwrap();
    assert!(Arc::ptr_eq(&launcher.socket, &again.launchers[0].socket), "connected to once only");
    drop(listener);
}

#[test]
fn a_socket_swapped_after_the_check_is_not_reached() {
    let node = Node::new();
    let listener = node.listen();
    let scan = node.launchers().scan(|_| true).unwrap();
    let path = node.sockets().join("virtqemud-sock");
    let evil = UnixListener::bind(node.sockets().join("evil")).unwrap();
    evil.set_nonblocking(true).unwrap();
    std::fs::rename(node.sockets().join("evil"), &path).unwrap();
    connect(&scan.launchers[0].socket).unwrap();
    assert!(evil.accept().is_err(), "the pinned inode is the one that was checked");
    drop(listener);
}

#[test]
fn a_symbolic_link_in_place_of_the_socket_is_refused() {
    let node = Node::new();
    let outside = node.dir.path().join("host.sock");
    let _listener = UnixListener::bind(&outside).unwrap();
    symlink(&outside, node.sockets().join("virtqemud-sock")).unwrap();
    assert!(matches!(node.refusal(), SocketError::Link(_)));
}

#[test]
fn a_link_on_the_way_is_refused() {
    let node = Node::new();
    let outside = node.dir.path().join("elsewhere");
    std::fs::rename(node.pod_root().join("run"), &outside).unwrap();
    for target in [outside.as_path(), Path::new("../../../elsewhere")] {
        symlink(target, node.pod_root().join("run")).unwrap();
        assert!(matches!(node.refusal(), SocketError::Link(_)), "{target:?}");
        std::fs::remove_file(node.pod_root().join("run")).unwrap();
    }
}

#[test]
fn a_file_or_a_directory_in_place_of_the_socket_is_refused() {
    let node = Node::new();
    let path = node.sockets().join("virtqemud-sock");
    std::fs::write(&path, "x").unwrap();
    assert!(matches!(node.refusal(), SocketError::NotASocket(_)));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(matches!(node.refusal(), SocketError::NotASocket(_)));
}

#[test]
fn a_listener_outside_the_pod_is_refused() {
    let node = Node::new();
    let _listener = node.listen();
    node.i_live_in(OTHER);
    let pid = i32::try_from(std::process::id()).unwrap();
    assert!(matches!(node.refusal(), SocketError::Stranger { pid: p } if p == pid));
    std::fs::write(node.dir.path().join(format!("proc/{pid}/cgroup")), "0::/system.slice/x.service\n")
        .unwrap();
    assert!(matches!(node.refusal(), SocketError::Stranger { .. }));
}

#[test]
fn a_socket_that_is_not_there_yet_or_that_nobody_serves_is_tried_again() {
    let node = Node::new();
    let mut launchers = node.launchers();
    let why = |launchers: &mut Launchers| launchers.scan(|_| true).unwrap().refusals.pop().unwrap().why;
    assert!(matches!(why(&mut launchers), SocketError::Absent));
    drop(node.listen());
    assert!(matches!(why(&mut launchers), SocketError::Refused(_)));
    std::fs::remove_file(node.sockets().join("virtqemud-sock")).unwrap();
    let _listener = node.listen();
    assert_eq!(launchers.scan(|_| true).unwrap().launchers.len(), 1);
}

#[test]
fn a_daemon_whose_queue_is_full_never_blocks_the_agent() {
    let node = Node::new();
    let socket =
        rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None).unwrap();
    let path = node.sockets().join("virtqemud-sock");
    rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    let _filler = UnixStream::connect(&path).unwrap();
    assert!(matches!(node.refusal(), SocketError::Refused(_)));
}

#[test]
fn a_daemon_that_ended_is_passed_over() {
    let node = Node::new();
    std::fs::remove_dir_all(node.pod_root()).unwrap();
    assert!(matches!(node.refusal(), SocketError::Vanished));
    std::fs::remove_file(node.dir.path().join("proc/42/stat")).unwrap();
    let scan = node.launchers().scan(|_| true).unwrap();
    assert!(scan.launchers.is_empty() && scan.refusals.is_empty());
}

#[test]
fn a_restarted_daemon_is_a_new_launcher() {
    let node = Node::new();
    let listener = node.listen();
    let mut launchers = node.launchers();
    let first = launchers.scan(|_| true).unwrap().launchers.remove(0);
    std::fs::rename(node.dir.path().join("proc/42"), node.dir.path().join("proc/43")).unwrap();
    add_process(node.dir.path(), 43, "virtqemud", &cgroup(POD), &[]);
    let second = launchers.scan(|_| true).unwrap().launchers.remove(0);
    assert_eq!((first.daemon.pid, second.daemon.pid), (42, 43));
    assert!(!Arc::ptr_eq(&first.socket, &second.socket));
    drop(listener);
}

#[test]
fn a_launcher_stays_while_its_daemon_restarts_and_its_guest_runs() {
    let node = Node::new();
    let listener = node.listen();
    add_process(node.dir.path(), 60, "qemu-system-x86", &cgroup(POD), &[]);
    let mut launchers = node.launchers();
    let first = launchers.scan(|_| true).unwrap().launchers.remove(0);
    std::fs::rename(node.dir.path().join("proc/42"), node.dir.path().join("gone")).unwrap();
    let without = launchers.scan(|_| true).unwrap().launchers.remove(0);
    assert!(Arc::ptr_eq(&first.socket, &without.socket));
    add_process(node.dir.path(), 43, "virtqemud", &cgroup(POD), &[]);
    std::fs::create_dir_all(node.dir.path().join("proc/43/root")).unwrap();
    let starting = launchers.scan(|_| true).unwrap();
    assert!(matches!(starting.refusals[0].why, SocketError::Absent));
    assert!(Arc::ptr_eq(&first.socket, &starting.launchers[0].socket));
    std::fs::remove_dir_all(node.dir.path().join("proc/43")).unwrap();
    std::fs::remove_dir_all(node.dir.path().join("proc/60")).unwrap();
    assert!(launchers.scan(|_| true).unwrap().launchers.is_empty(), "the guest is gone");
    drop(listener);
}

#[test]
fn the_hosts_own_libvirt_and_that_of_other_pods_are_left_alone() {
    let node = Node::new();
    add_process(node.dir.path(), 42, "virtqemud", "0::/system.slice/virtqemud.service\n", &[]);
    add_process(node.dir.path(), 50, "libvirtd", &cgroup(OTHER), &[]);
    let scan = node.launchers().scan(|_| true).unwrap();
    assert!(scan.launchers.is_empty() && scan.refusals.is_empty());
}

#[test]
fn processes_of_no_interest_are_asked_again_only_now_and_then() {
    let node = Node::new();
    let _listener = node.listen();
    let mut launchers = node.launchers();
    let comm = node.dir.path().join("proc/42/comm");
    std::fs::write(&comm, "runc:[2:INIT]\n").unwrap();
    assert!(launchers.scan(|_| true).unwrap().launchers.is_empty());
    std::fs::write(&comm, "virtqemud\n").unwrap();
    assert_eq!(
        launchers.scan(|_| true).unwrap().launchers.len(),
        1,
        "a new process may still become a daemon"
    );
    std::fs::write(&comm, "sh\n").unwrap();
    for _ in 0..LOOKS {
        launchers.scan(|_| true).unwrap();
    }
    std::fs::write(&comm, "virtqemud\n").unwrap();
    assert!(launchers.scan(|_| true).unwrap().launchers.is_empty(), "not asked");
    for _ in 0..FULL_SCAN {
        launchers.scan(|_| true).unwrap();
    }
    assert_eq!(launchers.scan(|_| true).unwrap().launchers.len(), 1);
}

#[test]
fn without_a_process_table_the_reason_is_told() {
    let error = Launchers::new(Root::new("/nonexistent")).scan(|_| true).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/proc"), "{error}");
}

#[test]
fn a_guest_without_a_daemon_is_told() {
    let node = Node::new();
    std::fs::remove_dir_all(node.dir.path().join("proc/42")).unwrap();
    assert!(node.launchers().scan(|_| true).unwrap().refusals.is_empty(), "nothing runs there yet");
    add_process(node.dir.path(), 60, "qemu-system-x86", &cgroup(POD), &[]);
    assert!(matches!(node.refusal(), SocketError::NoDaemon));
}

#[test]
fn nothing_is_opened_of_a_pod_that_is_not_admitted() {
    let node = Node::new();
    let listener = node.listen();
    listener.set_nonblocking(true).unwrap();
    add_process(node.dir.path(), 60, "qemu-system-x86", &cgroup(POD), &[]);
    // A QEMU alone is no launcher.
    add_process(node.dir.path(), 61, "qemu-system-x86", &cgroup(OTHER), &[]);
    let mut launchers = node.launchers();
    let scan = launchers.scan(|pod| pod == OTHER).unwrap();
    assert!(scan.launchers.is_empty() && scan.refusals.is_empty());
    assert_eq!(scan.strangers.iter().map(AsRef::as_ref).collect::<Vec<_>>(), [POD]);
    assert!(listener.accept().is_err(), "nobody knocked");
    let admitted = launchers.scan(|pod| pod == POD).unwrap();
    assert_eq!((admitted.launchers.len(), admitted.strangers.len()), (1, 0));
    let socket = Arc::downgrade(&admitted.launchers[0].socket);
    drop(admitted);
    assert!(socket.upgrade().is_some(), "kept for the next scan");
    launchers.scan(|_| false).unwrap();
    assert!(socket.upgrade().is_none(), "let go of");
}
