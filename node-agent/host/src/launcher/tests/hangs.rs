//! Pods of which nothing answers once it is opened.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::*;
use crate::launcher::pins::STUCK_AT_MOST;

const DEADLINE: Duration = Duration::from_secs(20);

/// What the check of the listener opens, in place of a file system that hangs: opening it waits for a writer.
struct Fifo(PathBuf);

impl Node {
    fn my_place(&self) -> PathBuf {
        self.dir.path().join(format!("proc/{}/cgroup", std::process::id()))
    }

    /// From now on whoever asks where the listener lives waits.
    fn hang(&self) {
        std::fs::remove_file(self.my_place()).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(self.my_place()).status().unwrap().success());
    }

    /// The same for those who wait already, and for nobody else.
    fn hang_no_more(&self, pod: &str) -> Fifo {
        let aside = self.dir.path().join("aside");
        std::fs::rename(self.my_place(), &aside).unwrap();
        self.i_live_in(pod);
        Fifo(aside)
    }

    fn add_launcher(&self, pod: &str, pid: u32) -> UnixListener {
        add_process(self.dir.path(), pid, "virtqemud", &cgroup(pod), &["virtqemud", "-f"]);
        let sockets = self.dir.path().join(format!("proc/{pid}/root/run/libvirt"));
        std::fs::create_dir_all(&sockets).unwrap();
        UnixListener::bind(sockets.join("virtqemud-sock")).unwrap()
    }
}

impl Fifo {
    /// Lets go of all who wait.
    fn answer(&self, pod: &str) {
        std::fs::write(&self.0, cgroup(pod)).unwrap();
    }
}

/// One scan, which must come back.
fn scan(mut launchers: Launchers) -> (Launchers, Scan) {
    let (out, done) = channel();
    std::thread::spawn(move || {
        let scan = launchers.scan(|_| true).unwrap();
        drop(out.send((launchers, scan)));
    });
    done.recv_timeout(DEADLINE).expect("the scan comes back")
}

fn found(scan: &Scan) -> Vec<&str> {
    scan.launchers.iter().map(|l| &*l.pod_uid).collect()
}

fn silent(scan: &Scan) -> usize {
    scan.refusals.iter().filter(|r| matches!(r.why, SocketError::Silent { .. })).count()
}

#[test]
fn a_pod_that_hangs_is_named_and_keeps_no_other_from_being_found() {
    let node = Node::new();
    let _listener = node.listen();
    node.hang();
    let (mut launchers, first) = scan(node.launchers());
    let [refusal] = first.refusals.as_slice() else { panic!("{first:?}") };
    let told = refusal.to_string();
    assert!(
        told.contains(POD) && told.contains("/proc/42/root") && told.contains("delete the pod"),
        "{told}"
    );

    let waiting = node.hang_no_more(OTHER);
    let _other = node.add_launcher(OTHER, 52);
    for _ in 0..3 {
        let (back, next) = scan(launchers);
        launchers = back;
        assert_eq!((found(&next), silent(&next)), (vec![OTHER], 1), "{next:?}");
        assert_eq!(launchers.pins.stuck(), 1, "it is waited for by one thread");
    }

    waiting.answer(POD);
    let end = Instant::now() + DEADLINE;
    loop {
        let (back, next) = scan(launchers);
        launchers = back;
        if found(&next) == [POD, OTHER] {
            break;
        }
        assert!(Instant::now() < end, "what came late is taken in: {next:?}");
    }
    assert_eq!(launchers.pins.stuck(), 0);
}

#[test]
fn threads_that_wait_for_silent_pods_are_bounded_and_who_is_not_opened_for_them_is_told() {
    let node = Node::new();
    std::fs::remove_dir_all(node.dir.path().join("proc/42")).unwrap();
    node.hang();
    let uid = |pid: u32| format!("4cd1b2a0-0a39-4f5e-9d11-{pid:012}");
    let pids = (100_u32..).take(STUCK_AT_MOST + 2);
    let _listeners: Vec<UnixListener> = pids.map(|pid| node.add_launcher(&uid(pid), pid)).collect();
    let mut launchers = node.launchers();
    for _ in 0..3 {
        let (back, next) = scan(launchers);
        launchers = back;
        let crowded = |r: &&Refusal| matches!(r.why, SocketError::Crowded(STUCK_AT_MOST));
        assert_eq!(next.refusals.iter().filter(crowded).count(), 2, "{next:?}");
        assert_eq!((silent(&next), launchers.pins.stuck()), (STUCK_AT_MOST, STUCK_AT_MOST), "{next:?}");
    }

    node.hang_no_more(&uid(100)).answer(POD);
    let end = Instant::now() + DEADLINE;
    loop {
        let (back, next) = scan(launchers);
        launchers = back;
        if found(&next) == [uid(100)] && silent(&next) == 0 {
            break;
        }
        assert!(Instant::now() < end, "{next:?}");
    }
    assert_eq!(launchers.pins.stuck(), 0);
}
