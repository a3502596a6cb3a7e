//! Pods with many processes that are named as QEMU's are.

use std::mem::MaybeUninit;
use std::sync::mpsc::channel;

use rustix::fd::OwnedFd;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

use super::*;

const MANY: u32 = 60;
const DEADLINE: Duration = Duration::from_secs(20);

impl Node {
    fn line_of(&self, pid: u32) -> std::path::PathBuf {
        self.dir.path().join(format!("proc/{pid}/cmdline"))
    }

    /// Processes of a pod from this number on, that say they are guests.
    fn forge(&self, first: u32, pod: &str) -> std::ops::Range<u32> {
        let forged = first..first + MANY;
        for pid in forged.clone() {
            let uuid = format!("5a9f9c3e-1111-2222-3333-{pid:012}");
            let cgroup = Self::cgroup().replace(POD, pod);
            add_process(self.dir.path(), pid, "qemu-x", &cgroup, &["qemu", "-m", "9G", "-uuid", &uuid]);
            self.write(&format!("proc/{pid}/status"), "VmRSS: 10 kB\n");
        }
        forged
    }

    /// Stands for a process whose memory lock is held: opening its command line waits for a writer.
    fn hang(&self, pid: u32) {
        std::fs::remove_file(self.line_of(pid)).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(self.line_of(pid)).status().unwrap().success());
    }
}

/// Sees whose command lines are opened.
struct Watch {
    events: OwnedFd,
    pids: HashMap<i32, u32>,
}

impl Watch {
    fn new(node: &Node, pids: impl Iterator<Item = u32>) -> Self {
        let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        // Two events that are alike in a row are told as one: its end is between two openings.
        let which = WatchFlags::OPEN | WatchFlags::CLOSE_NOWRITE;
        let pids = pids.map(|pid| (inotify::add_watch(&events, node.line_of(pid), which).unwrap(), pid));
        Self { pids: pids.collect(), events }
    }

    /// Those since the last time.
    fn opened(&self) -> Vec<u32> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.events, &mut buffer);
        let mut opened = Vec::new();
        while let Ok(event) = events.next() {
            opened.extend(event.events().contains(ReadFlags::OPEN).then(|| self.pids[&event.wd()]));
        }
        opened
    }
}

#[test]
fn of_a_pod_that_is_asked_about_a_few_command_lines_are_read_and_of_others_none() {
    let node = Node::new("max\n");
    node.add_qemu(80, &Node::cgroup());
    let (here, elsewhere) = (node.forge(1000, POD), node.forge(2000, OTHER));
    let watch = Watch::new(&node, here.clone().chain(elsewhere.clone()).chain([80]));
    let mut reader = node.reader();
    let read = |reader: &mut ProcessFactsReader| {
        reader.begin_reading();
        assert_eq!(reader.look(&query(Some(POD))).incarnation.map(|i| i.pid), Some(80));
        assert_eq!(reader.running(Some(POD)).len(), 1);
        watch.opened()
    };
    let first = read(&mut reader);
    assert!(first.contains(&80) && first.len() == 4, "{first:?}");
    assert!(first.iter().all(|pid| *pid == 80 || here.contains(pid)), "{first:?}");
    assert!(read(&mut reader).is_empty(), "who is known is not asked again");

    assert_eq!(reader.strangers(&[Arc::from(OTHER)]).len(), 1);
    let others = watch.opened();
    assert!(others.len() == 4 && others.iter().all(|pid| elsewhere.contains(pid)), "{others:?}");
}

#[test]
fn a_pod_holds_up_one_reader_however_many_of_its_processes_hang() {
    let node = Node::new("max\n");
    node.add_qemu(80, &Node::cgroup());
    for pid in [90, 91, 92] {
        node.add_qemu(pid, &Node::cgroup().replace(POD, OTHER));
        node.hang(pid);
    }
    let visits = Visits::default();
    let mut first = node.reader().among(visits.clone());
    // It waits for as long as the tests run.
    std::thread::spawn(move || first.look(&query(Some(OTHER))));
    let end = Instant::now() + DEADLINE;
    while !visits.are_at(&[90, 91, 92]) {
        assert!(Instant::now() < end, "the first reader never came there");
        std::thread::yield_now();
    }

    let mut second = node.reader().among(visits);
    let (out, told) = channel();
    std::thread::spawn(move || {
        let theirs = second.look(&query(Some(OTHER))).trouble;
        drop(out.send((theirs, second.look(&query(Some(POD))).incarnation)));
    });
    let (theirs, other) = told.recv_timeout(DEADLINE).expect("the second reader passes the pod over");
    assert!(theirs.unwrap().contains("does not answer"));
    assert_eq!(other.unwrap().pid, 80);
}
