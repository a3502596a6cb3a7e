use overcommit_core::sample::Incarnation;

use super::*;
use crate::proc::tests::add_process;

mod many;

const POD: &str = "4cd1b2a0-0a39-4f5e-9d11-3c4a2d9b7e10";
const OTHER: &str = "4cd1b2a0-0a39-4f5e-9d11-3c4a2d9b7e99";
const UUID: &str = "5a9f9c3e-1111-2222-3333-444444444444";

/// A node of 10 GiB with one launcher pod on the unified hierarchy.
struct Node {
    dir: tempfile::TempDir,
}

impl Node {
    fn new(limit: &str) -> Self {
        let node = Self { dir: tempfile::tempdir().unwrap() };
        node.write("proc/meminfo", "MemTotal: 10485760 kB\nMemFree: 1 kB\nMemAvailable: 1 kB\n");
        node.write("proc/self/mountinfo", "41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        let pod = format!("sys/fs/cgroup/kubepods/burstable/pod{POD}");
        node.write(&format!("{pod}/memory.stat"), "anon 419430400\nfile 1\n");
        node.write(&format!("{pod}/memory.max"), limit);
        node.write(&format!("{pod}/abc/memory.max"), "max\n");
        node.write(&format!("{pod}/abc/cgroup.procs"), "70\n80\n99\n");
        node
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn cgroup() -> String {
        format!("0::/kubepods/burstable/pod{POD}/abc\n")
    }

    fn add_qemu(&self, pid: u32, cgroup: &str) {
        let arguments = ["qemu", "-name", "guest=default_tiny,debug-threads=on", "-m", "512", "-uuid", UUID];
        add_process(self.dir.path(), pid, "qemu-system-x86", cgroup, &arguments);
        self.write(&format!("proc/{pid}/status"), "VmRSS: 350000 kB\nRssAnon: 300000 kB\nVmPTE: 1024 kB\n");
        self.write(
            &format!("proc/{pid}/smaps"),
            "7f00-7f01 rw-p 00000000 00:00 0 \nSize: 524288 kB\nRss: 290000 kB\nPss: 290000 kB\n\
             55e0-55e1 rw-p 00000000 00:00 0   [heap]\nSize: 20480 kB\nRss: 10240 kB\nPss: 10240 kB\n",
        );
    }

    fn add_launcher(&self) {
        add_process(self.dir.path(), 70, "virt-launcher", &Self::cgroup(), &["virt-launcher"]);
        self.write("proc/70/status", "VmRSS: 60000 kB\nRssAnon: 20480 kB\nVmPTE: 1024 kB\n");
    }

    fn reader(&self) -> ProcessFactsReader {
        ProcessFactsReader::new(Root::new(self.dir.path()))
    }
}

fn query(pod: Option<&str>) -> Who {
    Who {
        pod_uid: pod.map(Arc::from),
        uuid: Arc::from(UUID),
        full: Bytes::from_mib(512),
        pluggable: Vec::new(),
    }
}

#[test]
fn a_guest_in_a_pod_is_seen_whole() {
    let node = Node::new("max\n");
    node.add_qemu(80, &Node::cgroup());
    node.add_launcher();
    let view = node.reader().look(&query(Some(POD)));
    assert_eq!(view.trouble, None);
    assert_eq!(view.incarnation, Some(Incarnation { pid: 80, start_ticks: 1080 }));
    assert!(!view.guaranteed);
    assert_eq!(view.facts.resident, Some(Bytes::from_kib(350_000)));
    assert_eq!(view.facts.anon, Some(Bytes::from_mib(400)));
    assert_eq!(view.facts.overhead, Some(Bytes::from_mib(10 + 1 + 20 + 1)));
    let request = Bytes::from_gib(10).scaled(17, 1000).minus(Bytes::new(1));
    assert_eq!(view.facts.request, Some(request), "score 984 says less than 1.7 %");
    assert_eq!(view.facts.limit, None);
}

#[test]
fn a_request_is_never_above_the_limit() {
    let node = Node::new("104857600\n");
    node.add_qemu(80, &Node::cgroup());
    let facts = node.reader().look(&query(Some(POD))).facts;
    assert_eq!((facts.limit, facts.request), (Some(Bytes::from_mib(100)), Some(Bytes::from_mib(100))));
}

#[test]
fn a_guaranteed_pods_request_is_its_limit() {
    let node = Node::new("max\n");
    node.write(&format!("sys/fs/cgroup/kubepods/pod{POD}/memory.max"), "734003200\n");
    node.add_qemu(80, &format!("0::/kubepods/pod{POD}/abc\n"));
    node.write("proc/80/oom_score_adj", "-997\n");
    let view = node.reader().look(&query(Some(POD)));
    assert!(view.guaranteed);
    assert_eq!(view.facts.request, Some(Bytes::from_mib(700)));
}

#[test]
fn a_process_in_another_pod_or_on_the_host_is_not_the_guest() {
    let node = Node::new("max\n");
    node.add_qemu(80, &Node::cgroup());
    for other in [None, Some(OTHER)] {
        let view = node.reader().look(&query(other));
        assert_eq!(view.incarnation, None);
        assert!(view.trouble.unwrap().contains(UUID));
    }
}

#[test]
fn a_guest_without_a_cgroup_of_its_own_is_its_process_alone() {
    let node = Node::new("max\n");
    node.add_qemu(80, "0::/system.slice/libvirtd.service\n");
    let view = node.reader().look(&query(None));
    assert_eq!(view.trouble, None);
    assert_eq!(view.facts.anon, Some(Bytes::from_kib(300_000)));
    assert_eq!((view.facts.request, view.facts.limit), (None, None));
    assert_eq!(view.facts.overhead, Some(Bytes::from_mib(11)));
}

#[test]
fn what_of_a_process_is_merged_is_told_where_no_cgroup_counts_it_once() {
    let page = u64::try_from(rustix::param::page_size()).unwrap();
    let node = Node::new("max\n");
    node.add_qemu(80, "0::/system.slice/libvirtd.service\n");
    let repeated = || node.reader().look(&query(None)).facts.repeated;
    assert_eq!(repeated(), Some(Bytes::from_kib(300_000)), "before Linux 5.19 it may be all");
    node.write("proc/80/ksm_merging_pages", "1000\n");
    assert_eq!(repeated(), Some(Bytes::new(1000 * page)));
    assert_eq!(node.reader().look(&query(None)).facts.anon, Some(Bytes::from_kib(300_000)));
    node.write("proc/80/ksm_merging_pages", "1000000000\n");
    assert_eq!(repeated(), Some(Bytes::from_kib(300_000)), "some of it was written since");
    let node = Node::new("max\n");
    node.add_qemu(80, &Node::cgroup());
    node.add_launcher();
    let facts = || node.reader().look(&query(Some(POD))).facts;
    assert_eq!(
        (facts().repeated, facts().merging),
        (None, Some(Bytes::ZERO)),
        "before Linux 5.19 perhaps nothing"
    );
    node.write(
        &format!("sys/fs/cgroup/kubepods/burstable/pod{POD}/memory.stat"),
        "anon 102400000\nshmem 0\n",
    );
    assert_eq!(facts().merging, Some(Bytes::from_kib(200_000)), "others are charged for what is missing");
    node.write("proc/80/ksm_merging_pages", "1000\n");
    assert_eq!((facts().repeated, facts().merging), (None, Some(Bytes::new(1000 * page))));
}

#[test]
fn the_successor_of_a_process_that_ended_is_found_in_the_same_turn() {
    let node = Node::new("max\n");
    node.add_qemu(80, &Node::cgroup());
    let mut reader = node.reader();
    reader.begin_reading();
    assert_eq!(reader.look(&query(Some(POD))).incarnation.unwrap().pid, 80);
    std::fs::remove_dir_all(node.dir.path().join("proc/80")).unwrap();
    node.add_qemu(99, &Node::cgroup());
    reader.begin_reading();
    assert_eq!(reader.look(&query(Some(POD))).incarnation.unwrap().pid, 99);
}

#[test]
fn a_guest_that_is_gone_is_forgotten() {
    let node = Node::new("max\n");
    node.add_qemu(80, &Node::cgroup());
    let mut reader = node.reader();
    reader.look(&query(Some(POD)));
    std::fs::remove_dir_all(node.dir.path().join("proc/80")).unwrap();
    reader.begin_reading();
    assert_eq!(reader.look(&query(Some(POD))).incarnation, None);
    reader.begin_reading();
    reader.begin_reading();
    assert!(reader.known.is_empty());
}

#[test]
fn the_overhead_is_measured_once_and_again_when_it_is_old_and_nobody_waits() {
    let node = Node::new("max\n");
    node.add_qemu(80, &Node::cgroup());
    let mut reader = node.reader();
    let look = |reader: &mut ProcessFactsReader| {
        reader.begin_reading();
        let overhead = reader.look(&query(Some(POD))).facts.overhead;
        reader.end_reading();
        overhead
    };
    let first = look(&mut reader);
    assert_eq!(first, Some(Bytes::from_mib(10 + 1)));
    let text = std::fs::read_to_string(node.dir.path().join("proc/80/smaps")).unwrap();
    node.write("proc/80/smaps", &text.replace("10240 kB", "20480 kB"));
    assert_eq!((look(&mut reader), look(&mut reader)), (first, first));
    reader.known.values_mut().for_each(|known| known.age_by(Duration::from_secs(10)));
    assert_eq!(look(&mut reader), first, "what is told does not wait for it");
    assert_eq!(look(&mut reader), Some(Bytes::from_mib(20 + 1)));
}

#[test]
fn of_two_processes_with_one_uuid_the_one_with_the_memory_counts() {
    let node = Node::new("max\n");
    node.add_qemu(80, &Node::cgroup());
    node.add_qemu(70, &Node::cgroup());
    node.write("proc/70/status", "VmRSS: 10 kB\nRssAnon: 10 kB\n");
    assert_eq!(node.reader().look(&query(Some(POD))).incarnation.unwrap().pid, 80);
}

#[test]
fn a_guest_is_evident_by_its_process_in_its_pod_alone() {
    let node = Node::new("max\n");
    node.add_qemu(80, &Node::cgroup());
    let evident = Evident {
        uuid: Arc::from(UUID),
        domain: "default_tiny".to_owned(),
        full: Bytes::from_mib(512),
        has_balloon: false,
    };
    assert_eq!(node.reader().running(Some(POD)), [evident]);
    assert_eq!(node.reader().running(None), []);
    assert_eq!(node.reader().running(Some(OTHER)), []);
}

#[test]
fn what_a_pod_forges_beside_its_guest_is_not_counted() {
    let node = Node::new("max\n");
    node.add_qemu(80, &Node::cgroup());
    for pid in 100..110 {
        let uuid = format!("5a9f9c3e-1111-2222-3333-{pid:012}");
        let arguments = ["qemu", "-m", "900G", "-uuid", &uuid];
        add_process(node.dir.path(), pid, "qemu-forged", &Node::cgroup(), &arguments);
        node.write(&format!("proc/{pid}/status"), "VmRSS: 10 kB\n");
    }
    let running = node.reader().running(Some(POD));
    assert_eq!(running.iter().map(|e| &*e.uuid).collect::<Vec<_>>(), [UUID]);
}

#[test]
fn guests_of_two_pods_with_one_uuid_are_two() {
    let node = Node::new("max\n");
    node.add_qemu(80, &Node::cgroup());
    node.add_qemu(90, &Node::cgroup().replace(POD, OTHER));
    let mut reader = node.reader();
    let pid = |view: HostView| view.incarnation.map(|i| i.pid);
    assert_eq!(pid(reader.look(&query(Some(POD)))), Some(80));
    assert_eq!(pid(reader.look(&query(Some(OTHER)))), Some(90));
}

/// A guest of 512 MiB in a memfd, of which 200 MiB are touched; its pod keeps 30 MiB in a tmpfs.
fn add_memfd_qemu(node: &Node, cgroup: &str) {
    node.add_qemu(80, cgroup);
    node.write(
        "proc/80/status",
        "VmRSS: 250000 kB\nRssAnon: 20480 kB\nRssShmem: 204800 kB\nVmPTE: 1024 kB\n",
    );
    node.write(
        "proc/80/smaps",
        "7f00-7f01 rw-s 00000000 00:01 9   /memfd:memory-backend-memfd (deleted)\nSize: 524288 kB\nRss: 204800 kB\n\
         55e0-55e1 rw-p 00000000 00:00 0   [heap]\nSize: 20480 kB\nRss: 10240 kB\nPss: 10240 kB\n",
    );
}

#[test]
fn memory_of_a_guest_in_a_memfd_is_the_guests() {
    let mib = Bytes::from_mib;
    let node = Node::new("max\n");
    add_memfd_qemu(&node, &Node::cgroup());
    let pod = format!("sys/fs/cgroup/kubepods/burstable/pod{POD}/memory.stat");
    node.write(&pod, &format!("anon {}\nshmem {}\n", 50 << 20, 230 << 20));
    let facts = node.reader().look(&query(Some(POD))).facts;
    assert_eq!(facts.anon, Some(mib(50 + 230)));
    assert_eq!(facts.overhead, Some(mib(10 + 1 + 30)), "what the pod keeps in tmpfs is charged");
    node.write(&pod, &format!("anon {}\n", 50 << 20));
    assert_eq!(node.reader().look(&query(Some(POD))).facts.anon, Some(mib(50 + 200)), "an old kernel");
}

#[test]
fn memory_in_a_memfd_counts_without_a_cgroup_too() {
    let node = Node::new("max\n");
    add_memfd_qemu(&node, "0::/system.slice/libvirtd.service\n");
    let facts = node.reader().look(&query(None)).facts;
    assert_eq!(facts.anon, Some(Bytes::from_mib(20 + 200)));
    assert_eq!(facts.overhead, Some(Bytes::from_mib(11)));
}

#[test]
fn a_process_that_does_not_answer_holds_up_one_reader_and_no_other() {
    let node = Node::new("max\n");
    node.add_qemu(80, &Node::cgroup());
    node.add_qemu(90, &format!("0::/kubepods/burstable/pod{OTHER}/abc\n"));
    // Stands for a process whose memory lock is held: opening it waits for a writer.
    let line = node.dir.path().join("proc/90/cmdline");
    let text = std::fs::read(&line).unwrap();
    std::fs::remove_file(&line).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&line).status().unwrap().success());
    let visits = Visits::default();
    let mut first = node.reader().among(visits.clone());
    let stuck = std::thread::spawn(move || first.look(&query(Some(OTHER))).incarnation.map(|i| i.pid));
    let end = Instant::now() + Duration::from_secs(20);
    while !visits.are_at(&[90]) {
        assert!(Instant::now() < end, "the first reader never came there");
        std::thread::yield_now();
    }

    let mut second = node.reader().among(visits);
    assert_eq!(second.look(&query(Some(POD))).incarnation.unwrap().pid, 80);
    let trouble = second.look(&query(Some(OTHER))).trouble.unwrap();
    assert!(trouble.contains("does not answer"), "{trouble}");
    assert_eq!(second.running(Some(OTHER)), []);

    let aside = node.dir.path().join("aside");
    std::fs::rename(&line, &aside).unwrap();
    std::fs::write(&line, &text).unwrap();
    std::fs::write(&aside, &text).unwrap();
    assert_eq!(stuck.join().unwrap(), Some(90));
    second.begin_reading();
    assert_eq!(second.look(&query(Some(POD))).incarnation.unwrap().pid, 80);
}

#[test]
fn guests_that_were_evident_remain_while_nobody_can_look() {
    let node = Node::new("max\n");
    node.add_qemu(80, &Node::cgroup());
    let mut reader = node.reader();
    let later = |reader: &mut ProcessFactsReader| {
        reader.evident.values_mut().for_each(|(at, _)| *at -= EVIDENT_AGE);
        reader.begin_reading();
        reader.running(Some(POD)).len()
    };
    assert_eq!(later(&mut reader), 1);
    std::fs::rename(node.dir.path().join("proc"), node.dir.path().join("away")).unwrap();
    assert_eq!(later(&mut reader), 1);
    std::fs::create_dir(node.dir.path().join("proc")).unwrap();
    assert_eq!(later(&mut reader), 0, "its process is gone");
}

#[test]
fn a_pod_that_nobody_listed_is_counted_with_by_what_others_vouch_for() {
    let mib = Bytes::from_mib;
    let node = Node::new("max\n");
    let arguments = ["qemu", "-name", "guest=shop_victim", "-m", "104857600G", "-uuid", UUID];
    add_process(node.dir.path(), 80, "qemu-system-x86", &Node::cgroup(), &arguments);
    // It maps a page a thousand times.
    node.write("proc/80/status", "VmRSS: 90000000 kB\nRssAnon: 0 kB\nRssShmem: 90000000 kB\nVmPTE: 1 kB\n");
    node.write(
        &format!("sys/fs/cgroup/kubepods/burstable/pod{POD}/memory.stat"),
        "anon 1048576\nshmem 4096\n",
    );
    let asked: Vec<Arc<str>> = vec![Arc::from(OTHER), Arc::from(POD)];
    let strangers = node.reader().strangers(&asked);
    let (claim, request) = (Bytes::from_gib(104_857_600), Bytes::from_gib(10).scaled(16, 1000));
    let want = Stranger {
        pod: Arc::from(POD),
        claim,
        held: Some(mib(1).plus(Bytes::from_kib(4))),
        request: Some(request),
        bound: None,
    };
    assert_eq!(strangers, std::slice::from_ref(&want));
    assert_eq!(want.charge(), request, "the least that score 984 means");
    node.write("proc/80/oom_score_adj", "999\n");
    assert_eq!(
        node.reader().strangers(&asked).remove(0).charge(),
        want.held.unwrap(),
        "it may request nothing"
    );
    node.write(&format!("sys/fs/cgroup/kubepods/burstable/pod{POD}/memory.max"), "52428800\n");
    node.write("proc/80/oom_score_adj", "984\n");
    assert_eq!(node.reader().strangers(&asked).remove(0).charge(), mib(50));
    assert!(node.reader().strangers(&[]).is_empty());
}

#[test]
fn a_page_that_is_mapped_many_times_is_one_page_of_overhead() {
    let mib = Bytes::from_mib;
    let node = Node::new("max\n");
    node.add_qemu(80, &Node::cgroup());
    for pid in [70, 99] {
        add_process(node.dir.path(), pid, "child", &Node::cgroup(), &[]);
        node.write(
            &format!("proc/{pid}/status"),
            "VmRSS: 90000000 kB\nRssAnon: 90000000 kB\nVmPTE: 1024 kB\n",
        );
    }
    let stat = format!("sys/fs/cgroup/kubepods/burstable/pod{POD}/memory.stat");
    node.write(&stat, &format!("anon {}\nshmem {}\n", 300 << 20, 1 << 20));
    let facts = node.reader().look(&query(Some(POD))).facts;
    assert_eq!(facts.overhead, Some(mib(301 + 3)), "what the cgroup counts, and page tables");
    assert_eq!(facts.anon, Some(mib(301)));
}

#[test]
fn a_guest_is_bound_by_its_pods_limit_and_one_outside_of_pods_by_none() {
    let node = Node::new("734003200\n");
    node.add_qemu(80, &Node::cgroup());
    let of = |who| node.reader().look(&who).facts.bound;
    assert_eq!(of(query(Some(POD))), Some(Bytes::from_mib(700)));
    node.write(&format!("sys/fs/cgroup/kubepods/burstable/pod{POD}/memory.max"), "max\n");
    assert_eq!(of(query(Some(POD))), None);
    let scope = "machine.slice/machine-qemu\\x2d1\\x2dx.scope";
    node.write(&format!("sys/fs/cgroup/{scope}/memory.max"), "734003200\n");
    node.add_qemu(80, &format!("0::/{scope}\n"));
    let facts = node.reader().look(&query(None)).facts;
    assert_eq!((facts.limit, facts.bound), (Some(Bytes::from_mib(700)), None));
}
