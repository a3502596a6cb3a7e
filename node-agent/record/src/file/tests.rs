//! Files as killed processes, full disks and other people leave them.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use overcommit_core::growth::Growth;
use overcommit_core::step::State;

use super::*;
use crate::line::{Begin, FORMAT, Line};
use crate::recorder::Before;

fn beginning(seconds: u64) -> Vec<u8> {
    let begin = Begin {
        format: FORMAT,
        version: Cow::Borrowed("test"),
        wall: Duration::from_secs(seconds),
        before: Before::Start,
        state: Cow::Owned(State::default()),
    };
    line(&Line::Begin(Box::new(begin)))
}

fn line(line: &Line<'_>) -> Vec<u8> {
    line.written().unwrap()
}

fn other() -> Vec<u8> {
    line(&Line::Recall(Cow::Owned(Growth::default())))
}

/// The seconds of each beginning, and 0 for every other line.
fn told(path: &Path) -> (Vec<u64>, u64) {
    let (reader, mut seen) = (read(path).unwrap(), Vec::new());
    reader.lines(|line| seen.push(if let Line::Begin(begin) = line { begin.wall.as_secs() } else { 0 }));
    let faults = reader.faults();
    assert_eq!((faults.unknown, faults.damaged), (0, 0));
    (seen, faults.torn)
}

#[test]
fn what_a_killed_process_wrote_is_read_up_to_its_end_and_what_comes_later_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("record");
    for seconds in [1, 2] {
        let mut writer = Writer::new(&path);
        writer.write(&beginning(seconds), true).unwrap();
        writer.write(&other(), false).unwrap();
        writer.flush().unwrap();
        // Half a line of the next, as a kill leaves it: nothing is closed.
        writer.write(other().get(..5).unwrap(), false).unwrap();
        writer.flush().unwrap();
        let torn = fs::read(&path).unwrap();
        drop(writer);
        fs::write(&path, torn).unwrap();
    }
    let mut writer = Writer::new(&path);
    writer.write(&beginning(3), true).unwrap();
    writer.close().unwrap();
    assert_eq!(told(&path), (vec![1, 0, 2, 0, 3], 2));
}

#[test]
fn what_is_damaged_is_told_apart_from_what_ends_in_the_middle() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("record");
    let mut writer = Writer::new(&path);
    writer.write(&beginning(1), true).unwrap();
    (0..2000).for_each(|seconds| writer.write(&beginning(seconds), false).unwrap());
    writer.close().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    fs::write(&path, &bytes).unwrap();
    let reader = read(&path).unwrap();
    let mut lines = 0;
    reader.lines(|_| lines += 1);
    assert_eq!(reader.faults(), Faults { damaged: 1, ..Faults::default() }, "{lines}");
}

#[test]
fn one_that_was_killed_within_its_header_leaves_room_for_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("record");
    fs::write(&path, &header()[..5]).unwrap();
    let mut writer = Writer::new(&path);
    writer.write(&beginning(7), true).unwrap();
    writer.close().unwrap();
    assert_eq!(told(&path), (vec![7], 0));
}

#[test]
fn a_file_that_somebody_moves_away_is_begun_anew_and_two_never_write_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("record");
    let mut writer = Writer::new(&path);
    writer.write(&beginning(1), true).unwrap();
    assert!(!writer.is_full());
    let error = Writer::new(&path).write(&beginning(2), true).unwrap_err();
    assert!(error.to_string().contains("another agent records"), "{error}");
    fs::rename(&path, dir.path().join("away")).unwrap();
    assert!(writer.is_full());
    writer.write(&beginning(3), true).unwrap();
    writer.close().unwrap();
    assert_eq!((told(&path).0, told(&dir.path().join("away")).0), (vec![3], vec![1]));
}

#[test]
fn a_full_file_becomes_the_older_one_and_the_one_before_that_goes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("record");
    let mut writer = Writer::with_size(&path, 1);
    assert!(writer.is_full(), "nothing is open");
    for seconds in [1, 2, 3] {
        writer.write(&beginning(seconds), true).unwrap();
        writer.write(&other(), false).unwrap();
        writer.flush().unwrap();
        assert!(writer.is_full());
    }
    writer.close().unwrap();
    assert_eq!(told(&path).0, [3, 0]);
    assert_eq!(told(&Writer::older(&path)).0, [2, 0]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn what_is_there_and_no_recording_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.yaml");
    fs::write(&policy, "spec: {}").unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path().join("anything"), &link).unwrap();
    let pipe = dir.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let linked = dir.path().join("linked");
    fs::write(&linked, "").unwrap();
    fs::hard_link(&linked, dir.path().join("other")).unwrap();
    // The older file is theirs.
    let taken = dir.path().join("taken");
    fs::write(Writer::older(&taken), "precious").unwrap();
    for path in [policy.as_path(), &link, dir.path(), &pipe, &linked, &taken] {
        assert_eq!(Writer::check(path).unwrap_err().kind(), io::ErrorKind::AlreadyExists, "{path:?}");
    }
    for path in [policy.as_path(), &link, dir.path(), &pipe, &linked] {
        Writer::new(path).write(&beginning(1), true).unwrap_err();
    }
    let mut writer = Writer::with_size(&taken, 0);
    writer.write(&beginning(1), true).unwrap_err();
    assert_eq!(fs::read_to_string(Writer::older(&taken)).unwrap(), "precious");
    assert_eq!(fs::read_to_string(&policy).unwrap(), "spec: {}");
    assert_eq!(Writer::check(&dir.path().join("no/where")).unwrap_err().kind(), io::ErrorKind::NotFound);
    Writer::check(&dir.path().join("new")).unwrap();
}

#[test]
fn a_file_that_is_no_recording_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("other");
    fs::write(&path, "apiVersion: overcommit.dev/v1alpha1").unwrap();
    assert!(matches!(read(&path), Err(NotRead::NoRecording)));
    assert!(matches!(read(dir.path()), Err(NotRead::NoRecording)));
    assert!(matches!(read(&dir.path().join("none")), Err(NotRead::Disk(_))));
}
