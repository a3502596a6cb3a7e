//! A process that may open no further file: nothing is taken for gone, what is wrong is told, and all of it ends with its
//! cause. A test of its own process, for the limit holds for all of one.

#![allow(clippy::unwrap_used)] // helpers outside #[test] functions are test code too

use std::fs::{self, File};
use std::os::unix::net::UnixListener;
use std::path::Path;

use overcommit_core::ports::{HostPort as _, ProcessPort as _, Who};
use overcommit_core::sample::Incarnation;
use overcommit_core::units::Bytes;
use overcommit_host::{EvictionLine, Glimpses, HostReader, Launchers, ProcessFactsReader, Root, runs};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const POD: &str = "4cd1b2a0-0a39-4f5e-9d11-3c4a2d9b7e10";
const UUID: &str = "5a9f9c3e-1111-2222-3333-444444444444";
const QEMU: Incarnation = Incarnation { pid: 60, start_ticks: 1060 };

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn add_process(root: &Path, pid: u32, comm: &str, arguments: &[&str]) {
    let stat = format!("{pid} ({comm}) S 1 1 1 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 {} 1 1", pid + 1000);
    let line: String = arguments.iter().flat_map(|a| [a, "\0"]).collect();
    for (name, text) in [
        ("stat", stat.as_str()),
        ("comm", comm),
        ("cgroup", &format!("0::/kubepods/burstable/pod{POD}/abc\n")),
        ("oom_score_adj", "984\n"),
        ("cmdline", &line),
        ("statm", "5 4 3 2 1 0 0\n"),
        ("status", "VmRSS: 350000 kB\nRssAnon: 300000 kB\nVmPTE: 1024 kB\n"),
        ("smaps", "7f00-7f01 rw-p 00000000 00:00 0 \nSize: 524288 kB\nRss: 290000 kB\nPss: 290000 kB\n"),
    ] {
        write(root, &format!("proc/{pid}/{name}"), text);
    }
}

/// A node with one launcher pod, whose libvirt listens in this very process, and its guest.
fn node(root: &Path) -> UnixListener {
    write(root, "proc/meminfo", "MemTotal: 10485760 kB\nMemFree: 1 kB\nMemAvailable: 1 kB\n");
    write(root, "proc/vmstat", "pgmajfault 7\n");
    write(root, "proc/self/mountinfo", "41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    write(root, "var/lib/kubelet/config.yaml", "evictionHard: {memory.available: 300Mi}\n");
    let pod = format!("sys/fs/cgroup/kubepods/burstable/pod{POD}");
    write(root, &format!("{pod}/memory.stat"), "anon 419430400\nshmem 0\n");
    write(root, &format!("{pod}/memory.max"), "1073741824\n");
    add_process(root, 41, "virt-launcher-m", &["virt-launcher-monitor", "--uid", "vmi-1"]);
    add_process(root, 42, "virtqemud", &["virtqemud"]);
    add_process(root, QEMU.pid, "qemu-system-x86", &["qemu", "-m", "512", "-uuid", UUID]);
    add_process(root, std::process::id(), "me", &[]);
    fs::create_dir_all(root.join("proc/42/root/run/libvirt")).unwrap();
    UnixListener::bind(root.join("proc/42/root/run/libvirt/virtqemud-sock")).unwrap()
}

/// Runs `what` while `left` more files can be opened.
fn with_descriptors<T>(left: u64, what: impl FnOnce() -> T) -> T {
    let before = getrlimit(Resource::Nofile);
    // The next free number is the first that would be given out: below it holes may be left.
    let mut held: Vec<File> = Vec::new();
    let highest = highest_descriptor();
    setrlimit(Resource::Nofile, Rlimit { current: Some(highest + 1), ..before }).unwrap();
    while let Ok(file) = File::open("/dev/null") {
        held.push(file);
    }
    held.truncate(held.len().saturating_sub(usize::try_from(left).unwrap()));
    let done = what();
    setrlimit(Resource::Nofile, before).unwrap();
    done
}

/// Room for some files above those that are open.
fn highest_descriptor() -> u64 {
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let numbers = open.filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok());
    numbers.max().unwrap() + 16
}

#[test]
fn without_descriptors_nothing_is_taken_for_gone_and_the_trouble_ends_with_its_cause() {
    let dir = tempfile::tempdir().unwrap();
    let _listener = node(dir.path());
    let root = Root::new(dir.path());
    let who = Who {
        pod_uid: Some(POD.into()),
        uuid: UUID.into(),
        full: Bytes::from_mib(512),
        pluggable: Vec::new(),
    };
    let (mut host, mut unopened) = (HostReader::new(&root), HostReader::new(&root));
    let mut facts = ProcessFactsReader::new(root.clone());
    let (mut launchers, mut glimpses) = (Launchers::new(root.clone()), Glimpses::new(&root));
    let before = host.sample().unwrap();
    let seen = facts.look(&who);
    assert_eq!((seen.trouble.as_deref(), seen.facts.limit), (None, Some(Bytes::from_gib(1))));
    assert_eq!(facts.running(Some(POD)).len(), 1);
    assert_eq!(launchers.scan(|_| true).unwrap().launchers.len(), 1);
    assert!(glimpses.look(QEMU).is_some());

    for left in [0, 1, 2] {
        with_descriptors(left, || {
            assert_eq!(host.sample().unwrap(), before, "files that are open are read");
            if left == 0 {
                let told = unopened.sample().unwrap_err().to_string();
                assert!(told.contains("meminfo") && told.contains("Too many open files"), "{told}");
                assert!(told.contains("raise the limit of files") && !told.contains("mounted"), "{told}");
            }
            match launchers.scan(|_| true) {
                Ok(scan) => assert_eq!(scan.launchers.len(), 1, "with {left} descriptors"),
                Err(error) => assert!(error.to_string().contains("Too many open files"), "{error}"),
            }
            assert!(runs(&root, QEMU), "an original must not be lost");
            facts.begin_reading();
            let now = facts.look(&who);
            assert!(now.trouble.is_some() || now.facts.resident == seen.facts.resident, "{now:?}");
            if let Some(told) = &now.trouble {
                assert!(told.contains("raise the limit of files") && !told.contains("SYS_PTRACE"), "{told}");
            }
            assert_eq!(facts.running(Some(POD)).len(), 1);
            assert!(glimpses.look(QEMU).is_some(), "files that are open are read");
            let line = EvictionLine::read(&root, Bytes::from_gib(10));
            assert!(line.trouble.is_some() || line.line == Bytes::from_mib(300), "{line:?}");
        });
        assert!(unopened.sample().is_ok());
        unopened = HostReader::new(&root);
        assert_eq!(launchers.scan(|_| true).unwrap().launchers.len(), 1);
        facts.begin_reading();
        let again = facts.look(&who);
        assert_eq!((again.trouble, again.facts.limit), (None, seen.facts.limit), "after {left}");
        assert!(!runs(&root, Incarnation { start_ticks: 1, ..QEMU }));
        assert_eq!(EvictionLine::read(&root, Bytes::from_gib(10)).line, Bytes::from_mib(300));
    }
}
