//! What the kernel says of processes, much of which a pod can shape: names, command lines, mapped files, cgroups.

use overcommit_core::units::Bytes;
use overcommit_host::{CgroupPlace, fuzz, request_from_score};

use crate::lossy;

/// A process without a resident size holds nothing; nobody is root by a name.
pub(crate) fn status(bytes: &[u8]) {
    let text = lossy(bytes);
    if let Some(sizes) = fuzz::status(&text) {
        assert!(text.contains("VmRSS:"));
        for (name, size) in ["VmRSS", "RssAnon", "RssShmem", "VmPTE"].into_iter().zip(sizes) {
            assert!(size.is_zero() || text.contains(name), "{name} {size:?}");
        }
    }
    if fuzz::is_root(&text) {
        let ids = text.lines().find(|line| line.starts_with("Uid:")).expect("there is such a line");
        assert!(!ids.contains(|c: char| ('1'..='9').contains(&c)), "{ids}");
    }
}

/// A name in parentheses moves no field.
pub(crate) fn stat(bytes: &[u8]) {
    let text = lossy(bytes);
    let start = fuzz::start_time(&text);
    if let Some((pid, rest)) = text.split_once('(')
        && let Some((name, fields)) = rest.rsplit_once(')')
    {
        let renamed = format!("{pid}({name}) 1 2 3){fields}");
        assert_eq!(fuzz::start_time(&renamed), start);
    }
    let read = fuzz::bytes_read(&text);
    assert!(read == 0 || text.contains(&read.to_string()), "{read}");
}

/// What a file is called changes nothing but whether it is guest memory: the rest of its line is not read.
pub(crate) fn smaps(bytes: &[u8]) {
    let full = Bytes::from_mib(64);
    let plugged = [full, Bytes::from_mib(1), Bytes::ZERO, Bytes::new(u64::MAX)];
    for pluggable in [&[][..], &plugged] {
        let beside = fuzz::beside_guest(bytes, full, pluggable);
        assert_eq!(fuzz::beside_guest(&[], full, pluggable), None, "guest memory is invented");
        if let Some(beside) = beside {
            assert!(beside.is_zero() || lossy(bytes).contains("kB"), "{beside:?}");
        }
    }
    // A mapped file whose name is all of this, as the kernel would write it.
    let name: Vec<u8> = bytes.iter().map(|b| if *b == b'\n' { b'/' } else { *b }).collect();
    let mapping = |name: &[u8]| {
        let guest = b"7f00-7f01 rw-p 00000000 00:00 0 \nSize: 65536 kB\nRss: 4 kB\nPss: 4 kB\n";
        let file = b"7f02-7f03 r--p 00000000 08:01 123 /";
        let sizes = b"\nSize: 8 kB\nRss: 8 kB\nPss: 2 kB\n";
        [&guest[..], &file[..], name, &sizes[..]].concat()
    };
    let shown = format!("/{}", lossy(&name));
    if !is_guest_memory(&shown) {
        assert_eq!(fuzz::beside_guest(&mapping(&name), full, &[]), Some(Bytes::from_kib(2)), "{shown}");
    }
}

/// A name that marks guest memory.
fn is_guest_memory(name: &str) -> bool {
    ["/memfd:", "/dev/shm/", "/dev/hugepages", "/dev/zero"].iter().any(|b| name.starts_with(b))
        || name.contains("/libvirt/qemu/")
}

/// A pod is one that stands there, its levels are levels of the path, and no component leads anywhere else.
pub(crate) fn cgroup(bytes: &[u8]) {
    let text = lossy(bytes);
    let Some(place) = CgroupPlace::parse(&text) else { return };
    assert_eq!(place.pod_uid().is_some(), place.qos().is_some());
    if let Some(uid) = place.pod_uid() {
        assert!(matches!(uid.len(), 32..=36), "{uid}");
        assert!(text.replace('_', "-").contains(&format!("pod{uid}")), "{uid}");
        // What a pod nests below its own cannot pass for another's.
        let line = text.trim_end();
        let nested = format!("{line}/kubepods/burstable/pod00000000-0000-0000-0000-000000000000");
        let below = CgroupPlace::parse(&nested).expect("still a path");
        assert!(line.contains('\n') || below.pod_uid() == Some(uid), "{nested}");
    }
}

/// What is believed of a command line has the shape of what libvirt writes; an argument that means nothing changes
/// nothing.
pub(crate) fn command_line(bytes: &[u8]) {
    let line = fuzz::hypervisor(bytes);
    if let Some(uuid) = &line.uuid {
        assert_eq!(uuid.len(), 36);
        assert!(uuid.bytes().all(|b| b == b'-' || b.is_ascii_digit() || matches!(b, b'a'..=b'f')), "{uuid}");
        assert!(lossy(bytes).to_ascii_lowercase().contains(uuid));
    }
    assert!(line.name.as_ref().is_none_or(|name| name.len() <= 3 * bytes.len()));
    assert!(line.full.is_none_or(|full| full > Bytes::ZERO));
    assert_eq!(fuzz::hypervisor(&[b"qemu\0", bytes].concat()), line);
    for flag in ["--uid", "--config", "--eviction-hard"] {
        let value = fuzz::flag_value(bytes, flag);
        assert!(value.is_none() || lossy(bytes).contains(flag));
    }
}

/// A request is no more than the node has, and grows as the score falls.
pub(crate) fn oom_score(bytes: &[u8]) {
    let text = lossy(bytes);
    let mut words = text.split_ascii_whitespace();
    let Some(score) = words.next().and_then(|word| word.parse::<i32>().ok()) else { return };
    let capacity = Bytes::new(words.next().and_then(|word| word.parse().ok()).unwrap_or(u64::MAX));
    let Some(request) = request_from_score(score, capacity) else { return };
    assert!(request <= capacity, "{score} of {capacity:?}: {request:?}");
    if let Some(more) = score.checked_sub(1).and_then(|lower| request_from_score(lower, capacity)) {
        assert!(more >= request, "{score} of {capacity:?}");
    }
}
