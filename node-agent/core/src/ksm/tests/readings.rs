//! The control alone, reading by reading.

use std::time::Duration;

use super::super::control::Control;
use super::super::{Merging, Need, Reason};
use super::running;
use crate::sample::Ksm;
use crate::units::{Bytes, Monotonic, Permille};

/// ksmd has come by everywhere so often, took that many seconds of CPU time, and saves so many MiB.
fn reading(scans: u64, cpu: u64, saves: u64) -> Ksm {
    let sharing = Bytes::from_mib(saves);
    let profit = i64::try_from(sharing.get()).ok();
    Ksm { run: 1, sharing, full_scans: scans, profit, cpu: Some(Duration::from_secs(cpu)), ..Ksm::default() }
}

/// How long it rests after a scan that found nothing, and then one that saved so many MiB, with 10 s of CPU time, while it
/// noted what there is, and nothing after that.
fn rest_after(saved_while_noting: u64) -> Option<Duration> {
    let mut control = Control::default();
    let mut at = |seconds: u64, ksm: Ksm| {
        let now = Monotonic::new(Duration::from_secs(seconds));
        control.measure(&ksm, now);
        control.next(&ksm, now, Need::Wanted, &[]);
        control.rests_for()
    };
    at(0, reading(0, 0, 100));
    at(60, reading(2, 10, 100));
    assert_eq!(at(120, reading(3, 20, 100)), Some(Duration::from_mins(2)));
    assert_eq!(at(240, reading(3, 20, 100)), None);
    assert_eq!(at(300, reading(5, 30, 100 + saved_while_noting)), None, "it was noting until now");
    at(360, reading(6, 40, 100 + saved_while_noting))
}

#[test]
fn what_is_merged_while_it_notes_after_a_rest_counts_for_the_scan() {
    assert_eq!(rest_after(0), Some(Duration::from_mins(4)), "twice as long as the one before");
    assert_eq!(rest_after(60), Some(Duration::from_mins(4)), "less than it cost");
    assert_eq!(rest_after(100), Some(Duration::from_mins(1)), "as long as what came after it");
}

#[test]
fn one_that_could_not_be_seen_at_first_has_not_worked_since_the_boot() {
    let mut control = Control::default();
    let mut share = |seconds: u64, cpu: Option<u64>| {
        let cpu = cpu.map(Duration::from_secs);
        control.measure(&Ksm { cpu, ..reading(0, 0, 0) }, Monotonic::new(Duration::from_secs(seconds)));
        control.share()
    };
    assert_eq!(share(1000, None), None);
    assert_eq!(share(1005, Some(500)), None, "since when is not known");
    assert_eq!(share(1015, Some(501)), Some(Permille::new(100)));
}

#[test]
fn one_reading_that_fails_makes_a_scan_neither_free_nor_as_dear_as_all_since_the_boot() {
    let rest = |unread: Option<u64>| {
        let mut control = Control::default();
        let mut at = |seconds: u64, ksm: Ksm| {
            let now = Monotonic::new(Duration::from_secs(seconds));
            let ksm = Ksm { cpu: ksm.cpu.filter(|_| unread != Some(seconds)), ..ksm };
            control.measure(&ksm, now);
            control.next(&ksm, now, Need::Wanted, &[]);
            control.rests_for()
        };
        // A hundred seconds since the boot; a scan that pays, until the last minute.
        let seen =
            [(0, 0, 100, 0), (60, 2, 110, 100), (120, 3, 120, 200), (180, 4, 130, 300), (240, 5, 140, 300)];
        seen.map(|(seconds, scans, cpu, saves)| at(seconds, reading(scans, cpu, saves)))
    };
    let read = rest(None);
    for unread in [60, 120, 180] {
        assert_eq!(rest(Some(unread)), read, "unread at {unread} s");
    }
}

#[test]
fn a_scan_of_which_another_version_wrote_less_is_read() {
    let (_, merging) = running();
    let written = serde_json::to_value(&merging).unwrap();
    let scan = written["control"]["scan"].as_object().unwrap();
    for name in scan.keys() {
        let mut less = written.clone();
        less["control"]["scan"].as_object_mut().unwrap().remove(name).unwrap();
        assert!(serde_json::from_value::<Merging>(less).is_ok(), "{name}");
    }
    let read: Merging = serde_json::from_value(written).unwrap();
    assert_eq!((read.told, &read), (Reason::Measuring, &merging));
}
