//! The kernel's knobs for merging, on a tree of fixtures.

use std::path::Path;

use overcommit_core::ksm::Held;
use overcommit_core::sample::GuestName;
use overcommit_crds::policy::{KsmMode, KsmSpec};
use overcommit_host::HostReader;

use super::*;
use crate::envelope;
use crate::knobs::tests::{read, tree};
use crate::tick::no_guests::guest;

/// A host of 64 GiB that has little to do, with one guest of 1 GiB.
fn host(temp: &Path, run: u64) -> Parts {
    tree(temp, run);
    std::fs::create_dir_all(temp.join("proc")).unwrap();
    available(temp, 60_000_000);
    std::fs::write(temp.join("proc/vmstat"), "pgmajfault 7\n").unwrap();
    let (wakes, _) = channel();
    let but = vec![guest("uuid", GuestName::standalone("web"), Bytes::from_gib(1))];
    let guests = NoGuests { but, ..NoGuests::default() };
    let host = Box::new(HostReader::new(&Root::new(temp)));
    Parts { host, ..parts(temp, &world(65_536), &wakes, Box::new(guests)) }
}

fn available(temp: &Path, kib: u64) {
    let memory = format!("MemTotal: 67108864 kB\nMemFree: {kib} kB\nMemAvailable: {kib} kB\n");
    // In place: it is held open.
    std::fs::write(temp.join("proc/meminfo"), memory).unwrap();
}

/// The same, whose loop is told what became of its journal.
fn started(temp: &Path, run: u64) -> (Sender<Wake>, std::thread::JoinHandle<Result<(), Unfinished>>) {
    let (wakes, inbox) = channel();
    let told = wakes.clone();
    let running = started_with(temp, run, inbox, move |recorded| drop(told.send(recorded)));
    (wakes, running)
}

/// The same by a way of the test's.
fn started_with(
    temp: &Path,
    run: u64,
    inbox: Receiver<Wake>,
    told: impl Fn(Wake) + Send + 'static,
) -> std::thread::JoinHandle<Result<(), Unfinished>> {
    let parts = host(temp, run);
    let dir = Arc::new(StateDir::open(&temp.join("other")).unwrap());
    let told = move |content, result| told(Wake::Recorded(content, result));
    let scribe = Scribe::start(Arc::clone(&dir), told).unwrap();
    let journal = Journal::open(&dir, "boot");
    let work = Loop::new(Parts { journal, scribe, ..parts });
    std::thread::spawn(move || work.run(&inbox))
}

fn auto() -> Wake {
    auto_across(false)
}

fn auto_across(across_namespaces: bool) -> Wake {
    let spec = OvercommitPolicySpec {
        mode: Wished::Enforce,
        interval: Period("1s".into()),
        ksm: KsmSpec { mode: KsmMode::Auto, across_namespaces },
        ..OvercommitPolicySpec::default()
    };
    Wake::Orders(Arc::new(Orders::from_file("p", &spec).unwrap()))
}

fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::yield_now();
    }
}

fn journal(temp: &Path) -> String {
    std::fs::read_to_string(temp.join("other/journal")).unwrap_or_default()
}

#[test]
fn knobs_are_written_once_the_journal_knows_what_was_found_and_put_back_at_the_end() {
    let temp = tempfile::tempdir().unwrap();
    // Nothing can be written over a folder.
    std::fs::create_dir_all(temp.path().join("other/.journal.new")).unwrap();
    let (wakes, running) = started(temp.path(), 1);
    wakes.send(auto()).unwrap();
    let troubles = || {
        let (reply, answer) = sync_channel(1);
        wakes.send(Wake::Ask(reply)).unwrap();
        let report = answer.recv_timeout(DEADLINE).unwrap();
        report.map_or(String::new(), |report| report.troubles.iter().collect::<String>())
    };
    wait("the trouble", || troubles().contains("cannot be written"));
    assert_eq!(read(temp.path(), "run"), "1");
    std::fs::remove_dir(temp.path().join("other/.journal.new")).unwrap();
    wait("ksmd to rest", || read(temp.path(), "run") == "0");
    assert!(journal(temp.path()).contains(r#""ksm":{"original":{"run":1,"#), "{}", journal(temp.path()));
    wakes.send(Wake::Stop(Stop::Handover)).unwrap();
    running.join().unwrap().unwrap();
    assert_eq!(read(temp.path(), "run"), "1", "the next agent finds what this one found");
    let journal = journal(temp.path());
    assert!(
        journal.contains(r#""before":{"run":1,"#),
        "it was looked at, what was there before is nobody's: {journal}"
    );
}

#[test]
fn what_waits_for_the_journal_is_not_started_once_it_must_not_be() {
    let temp = tempfile::tempdir().unwrap();
    let (wakes, inbox) = channel();
    let (told, recorded) = channel();
    let running = started_with(temp.path(), 0, inbox, move |wake| drop(told.send(wake)));
    available(temp.path(), 6_000_000);
    let touched = |name: &str| {
        let file = temp.path().join("sys/kernel/mm/ksm").join(name);
        std::fs::metadata(file).unwrap().modified().unwrap()
    };
    let (run, pages) = (touched("run"), touched("pages_to_scan"));
    wakes.send(auto_across(true)).unwrap();
    let late = recorded.recv_timeout(DEADLINE).unwrap();
    available(temp.path(), 60_000_000);
    let reason = || {
        let (reply, answer) = sync_channel(1);
        wakes.send(Wake::Ask(reply)).unwrap();
        answer.recv_timeout(DEADLINE).unwrap().map(|report| report.ksm.reason.code())
    };
    wait("the need to be over", || reason() == Some("KsmNotNeeded"));
    wakes.send(late).unwrap();
    wakes.send(Wake::Stop(Stop::Handover)).unwrap();
    while let Ok(wake) = recorded.recv_timeout(Duration::from_millis(20)).or_else(|_| {
        // Until it has ended, it may have more written.
        if running.is_finished() { Err(()) } else { Ok(Wake::News) }
    }) {
        wakes.send(wake).ok();
    }
    running.join().unwrap().ok();
    assert_eq!((touched("run"), touched("pages_to_scan")), (run, pages), "nothing was written");
}

/// A journal that knows of other knobs than those of the tree.
fn journal_of(temp: &Path, pages: u64) -> Journal {
    let knobs = |run: u64, pages: u64| serde_json::json!({"run": run, "pages_to_scan": pages, "sleep_millisecs": 20, "advisor": "None"});
    let held = serde_json::json!({"original": knobs(0, 50), "ours": knobs(1, pages), "before": knobs(1, pages),
        "yielded": null});
    let content = Content {
        boot_id: "boot".to_owned(),
        ksm: Some(serde_json::from_value::<Held>(held).unwrap()),
        ..Content::default()
    };
    std::fs::create_dir_all(temp.join("other")).unwrap();
    std::fs::write(temp.join("other/journal"), envelope::seal(&content)).unwrap();
    Journal::open(&StateDir::open(&temp.join("other")).unwrap(), "boot")
}

#[test]
fn what_could_not_be_put_back_at_the_end_is_told_with_what_to_do() {
    let by_hand = "by hand: echo 50 > /sys/kernel/mm/ksm/pages_to_scan; echo 0 > /sys/kernel/mm/ksm/run";
    let temp = tempfile::tempdir().unwrap();
    let parts = host(temp.path(), 1);
    let mut work = Loop::new(Parts { journal: journal_of(temp.path(), 100), ..parts });
    let told = work.knobs_left().unwrap();
    assert!(told.contains("(pages_to_scan, run): nothing was decided") && told.ends_with(by_hand), "{told}");
    std::fs::write(temp.path().join("sys/kernel/mm/ksm/pages_to_scan"), "50").unwrap();
    assert!(work.knobs_left().unwrap().ends_with("by hand: echo 0 > /sys/kernel/mm/ksm/run"));
    std::fs::write(temp.path().join("sys/kernel/mm/ksm/run"), "0").unwrap();
    assert_eq!(work.knobs_left(), None);
    std::fs::write(temp.path().join("sys/kernel/mm/ksm/run"), "what?").unwrap();
    let told = work.knobs_left().unwrap();
    assert!(told.contains("they cannot be read") && told.ends_with(by_hand), "{told}");
}

#[test]
fn an_end_that_leaves_knobs_as_they_were_not_found_is_none_in_order() {
    for (stop, refused) in [(Stop::Handover, true), (Stop::Release, true), (Stop::Release, false)] {
        let temp = tempfile::tempdir().unwrap();
        // A number that can be read, and that nobody can write.
        let refusing = Path::new("/proc/sys/kernel/ngroups_max");
        let number = std::fs::read_to_string(refusing).unwrap().trim().parse().unwrap();
        journal_of(temp.path(), if refused { number } else { 100 });
        let (wakes, inbox) = channel();
        let told = wakes.clone();
        let running = started_with(temp.path(), 1, inbox, move |recorded| drop(told.send(recorded)));
        if refused {
            let file = temp.path().join("sys/kernel/mm/ksm/pages_to_scan");
            std::fs::remove_file(&file).unwrap();
            std::os::unix::fs::symlink(refusing, &file).unwrap();
        }
        wakes.send(Wake::Stop(stop)).unwrap();
        let ended = running.join().unwrap();
        assert_eq!(ended.is_err(), refused, "{stop:?}: {ended:?}");
        assert_eq!(read(temp.path(), "run"), "0", "the others are put back");
    }
}

#[test]
fn everything_that_was_set_is_put_back_when_the_policy_says_off() {
    let temp = tempfile::tempdir().unwrap();
    let (wakes, running) = started(temp.path(), 1);
    wakes.send(auto()).unwrap();
    wait("ksmd to rest", || read(temp.path(), "run") == "0");
    let spec = OvercommitPolicySpec { mode: Wished::Enforce, ..OvercommitPolicySpec::default() };
    wakes.send(Wake::Orders(Arc::new(Orders::from_file("p", &spec).unwrap()))).unwrap();
    wait("ksmd to run", || read(temp.path(), "run") == "1");
    wakes.send(Wake::Release).unwrap();
    wait("the journal to forget it", || !journal(temp.path()).contains("ksm"));
    wakes.send(Wake::Stop(Stop::Release)).unwrap();
    running.join().unwrap().unwrap();
}

#[test]
fn what_a_loop_that_died_had_set_is_put_back_without_orders_but_for_what_others_set() {
    for stop in [Stop::Handover, Stop::Release] {
        let temp = tempfile::tempdir().unwrap();
        let knobs = |run: u64, pages: u64| serde_json::json!({"run": run, "pages_to_scan": pages, "sleep_millisecs": 20, "advisor": "None"});
        let held = serde_json::json!({"original": knobs(0, 50), "ours": knobs(1, 700), "before": knobs(1, 600),
            "yielded": null});
        let content = Content {
            boot_id: "boot".to_owned(),
            ksm: Some(serde_json::from_value::<Held>(held).unwrap()),
            ..Content::default()
        };
        std::fs::create_dir_all(temp.path().join("other")).unwrap();
        std::fs::write(temp.path().join("other/journal"), envelope::seal(&content)).unwrap();
        let (wakes, running) = started(temp.path(), 1);
        wakes.send(Wake::Stop(stop)).unwrap();
        running.join().unwrap().ok();
        let left = (read(temp.path(), "run"), read(temp.path(), "pages_to_scan"));
        assert_eq!(left, ("0".to_owned(), "100".to_owned()), "{stop:?}");
    }
}
