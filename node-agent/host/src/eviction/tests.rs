//! Lines as kubelets set them, and kubelets that are none.

use super::*;
use crate::proc::tests::add_process;

const TOTAL: Bytes = Bytes::from_gib(10);

/// A node whose kubelet, with pid 9, has these flags and sees these files below its root.
fn node(flags: &[&str], files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    add_process(dir.path(), 9, "kubelet", "0::/system.slice/kubelet.service\n", flags);
    std::fs::write(dir.path().join("proc/9/status"), "Uid:\t0\t0\t0\t0\n").unwrap();
    for name in ["root", "cwd"] {
        std::fs::create_dir_all(dir.path().join("proc/9").join(name)).unwrap();
    }
    for (path, text) in files {
        let path = dir.path().join("proc/9").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

fn read(dir: &tempfile::TempDir) -> EvictionLine {
    EvictionLine::read(&Root::new(dir.path()), TOTAL)
}

#[test]
fn the_kubelets_file_is_read_as_the_kubelet_sees_it() {
    let file = "kind: KubeletConfiguration\nevictionHard: {memory.available: \"50Mi\", nodefs.available: \"1%\"}\nport: 1\n";
    for (flag, path) in [("--config=/etc/k.yaml", "root/etc/k.yaml"), ("--config=k.yaml", "cwd/k.yaml")] {
        let line = read(&node(&["kubelet", flag], &[(path, file)]));
        assert_eq!((line.line, line.trouble), (Bytes::from_mib(50), None));
        assert!(line.source.contains("k.yaml: memory.available 50Mi"), "{}", line.source);
    }
}

#[test]
fn stronger_sources_win() {
    let files = [
        ("root/k", "evictionHard: {memory.available: 1Gi}\n"),
        ("root/d/20.conf", "evictionHard: {memory.available: 5%}\n"),
        ("root/d/10.conf", "evictionHard: {memory.available: 2Gi}\n"),
        ("root/d/30.txt", "evictionHard: {memory.available: 3Gi}\n"),
    ];
    let line = read(&node(&["kubelet", "--config", "/k", "--config-dir", "/d"], &files));
    assert_eq!(line.line, TOTAL.scaled(5, 100), "{line:?}");
    let flag = "--eviction-hard=memory.available<300Mi,nodefs.available<10%";
    assert_eq!(read(&node(&["kubelet", "--config", "/k", flag], &files)).line, Bytes::from_mib(300));
}

#[test]
fn without_a_word_the_default_holds() {
    for dir in [
        node(&["kubelet"], &[]),
        node(&["kubelet", "--config=/k"], &[("root/k", "port: 1\n")]),
        tempfile::tempdir().unwrap(),
    ] {
        let line = read(&dir);
        assert_eq!((line.line, line.trouble), (Bytes::from_mib(100), None), "{}", line.source);
    }
}

#[test]
fn a_signal_left_out_is_off_unless_defaults_are_merged() {
    let without = "evictionHard: {nodefs.available: 1%}\n";
    let flags = ["kubelet", "--config=/k"];
    assert_eq!(read(&node(&flags, &[("root/k", without)])).line, Bytes::ZERO);
    let merged = format!("{without}mergeDefaultEvictionSettings: true\n");
    assert_eq!(read(&node(&flags, &[("root/k", &merged)])).line, Bytes::from_mib(100));
    let off = "evictionHard: {memory.available: 0%}\n";
    assert_eq!(read(&node(&flags, &[("root/k", off)])).line, Bytes::ZERO);
}

#[test]
fn what_cannot_be_read_is_told_and_the_default_stands_in() {
    for text in ["evictionHard: [", "evictionHard: {memory.available: much}\n", "\u{0}"] {
        let line = read(&node(&["kubelet", "--config=/k"], &[("root/k", text)]));
        assert_eq!(line.line, Bytes::from_mib(100), "{text}");
        assert!(line.trouble.is_some(), "{text}");
    }
    let line = read(&node(&["kubelet", "--config=/gone"], &[]));
    assert!(line.trouble.unwrap().contains("/gone"));
}

#[test]
fn links_are_followed_within_the_kubelets_root() {
    let dir =
        node(&["kubelet", "--config=/etc/k"], &[("root/real/k", "evictionHard: {memory.available: 7Mi}\n")]);
    std::fs::create_dir_all(dir.path().join("proc/9/root/etc")).unwrap();
    std::os::unix::fs::symlink("/real/k", dir.path().join("proc/9/root/etc/k")).unwrap();
    assert_eq!(read(&dir).line, Bytes::from_mib(7));
}

#[test]
fn without_a_visible_kubelet_the_usual_file_counts() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("proc")).unwrap();
    std::fs::create_dir_all(dir.path().join("var/lib/kubelet")).unwrap();
    std::fs::write(dir.path().join("var/lib/kubelet/config.yaml"), "evictionHard: {memory.available: 9Mi}\n")
        .unwrap();
    assert_eq!(read(&dir).line, Bytes::from_mib(9));
}

#[test]
fn what_a_pod_says_is_not_asked_for() {
    let dir = node(&["kubelet", "--eviction-hard=memory.available<200Mi"], &[]);
    let pod = "0::/kubepods/besteffort/pod4cd1b2a0-0a39-4f5e-9d11-3c4a2d9b7e10/abc\n";
    add_process(dir.path(), 5, "kubelet", pod, &["kubelet", "--eviction-hard=memory.available<999Ti"]);
    std::fs::write(dir.path().join("proc/5/status"), "Uid:\t0\t0\t0\t0\n").unwrap();
    assert_eq!(read(&dir).line, Bytes::from_mib(200));
}

#[test]
fn a_line_beyond_half_of_the_memory_is_cut_and_told() {
    for (said, line, told) in [
        ("5Gi", TOTAL.scaled(1, 2), false),
        ("6Gi", TOTAL.scaled(1, 2), true),
        ("999Ti", TOTAL.scaled(1, 2), true),
        ("90%", TOTAL.scaled(1, 2), true),
    ] {
        let read = read(&node(&["kubelet", &format!("--eviction-hard=memory.available<{said}")], &[]));
        assert_eq!((read.line, read.trouble.is_some()), (line, told), "{said}: {:?}", read.trouble);
    }
}

#[test]
fn what_is_no_file_is_told_and_not_waited_for() {
    let dir = node(&["kubelet", "--config=/k", "--config-dir=/d"], &[("root/d/10.conf", "port: 1\n")]);
    let fifo = |name: &str| {
        let made =
            std::process::Command::new("mkfifo").arg(dir.path().join("proc/9/root").join(name)).status();
        assert!(made.unwrap().success());
    };
    fifo("k");
    fifo("d/20.conf");
    let root = Root::new(dir.path());
    let (reply, answer) = std::sync::mpsc::channel();
    std::thread::spawn(move || reply.send(EvictionLine::read(&root, TOTAL)));
    let line = answer.recv_timeout(std::time::Duration::from_secs(10)).expect("an answer");
    assert_eq!(line.line, Bytes::from_mib(100));
    assert!(line.trouble.unwrap().contains("no regular file"));
}
