//! What is found again, and by whom.

use std::sync::Arc;

use overcommit_core::sample::RunState;

use overcommit_core::dealings::Original;

use super::*;
use crate::tick::no_guests;

fn dir() -> (tempfile::TempDir, Arc<StateDir>) {
    let temp = tempfile::tempdir().unwrap();
    let dir = Arc::new(StateDir::open(temp.path()).unwrap());
    (temp, dir)
}

fn state(target: u64) -> State {
    let mut state = State::default();
    let original = Original { target: Bytes::from_mib(512), period: Some(10) };
    state.adopt(&GuestId::new("a"), original, Bytes::from_mib(target));
    state
}

fn record(
    dir: &StateDir,
    journal: &mut Journal,
    state: &State,
    incarnations: &BTreeMap<GuestId, Option<Incarnation>>,
    about_to: &BTreeMap<GuestId, Bytes>,
) -> std::io::Result<()> {
    let Some(content) = journal.next(state, incarnations, about_to) else { return Ok(()) };
    dir.replace(FILE, &envelope::seal(&content))?;
    assert!(journal.wrote(content, Ok(())));
    Ok(())
}

fn incarnations() -> BTreeMap<GuestId, Option<Incarnation>> {
    BTreeMap::from([(GuestId::new("a"), Some(Incarnation { pid: 7, start_ticks: 9 }))])
}

#[test]
fn what_was_recorded_is_found_again_in_the_same_boot_only() {
    let (_temp, dir) = dir();
    let mut journal = Journal::open(&dir, "boot-1");
    let about_to = BTreeMap::from([(GuestId::new("a"), Bytes::from_mib(300))]);
    record(&dir, &mut journal, &state(400), &incarnations(), &about_to).unwrap();
    let again = Journal::open(&dir, "boot-1");
    assert_eq!(again.written.guests[&GuestId::new("a")].target, Bytes::from_mib(300));
    assert!(Journal::open(&dir, "boot-2").written.guests.is_empty());
}

fn guest(incarnation: Option<Incarnation>) -> GuestSample {
    let guest = no_guests::guest("a", GuestName::standalone("a"), Bytes::from_mib(512));
    GuestSample { incarnation, run_state: RunState::Unreachable, ..guest }
}

#[test]
fn what_a_guest_had_is_kept_until_it_is_seen_or_its_process_ends() {
    let (_temp, dir) = dir();
    let incarnation = incarnations()[&GuestId::new("a")];
    record(&dir, &mut Journal::open(&dir, "b"), &state(400), &incarnations(), &BTreeMap::new()).unwrap();
    let mut journal = Journal::open(&dir, "b");
    assert!(journal.adopt(&[], &State::default(), |_| true).is_empty());
    record(&dir, &mut journal, &State::default(), &BTreeMap::new(), &BTreeMap::new()).unwrap();
    let mut journal = Journal::open(&dir, "b");
    let guests = [guest(incarnation)];
    assert_eq!(journal.adopt(&guests, &State::default(), |_| true).remove(0).1.target, Bytes::from_mib(400));
    assert!(journal.adopt(&guests, &state(400), |_| true).is_empty(), "once");

    let mut journal = Journal::open(&dir, "b");
    assert!(journal.adopt(&[guest(None)], &State::default(), |_| true).is_empty(), "its process is not seen");
    let other = incarnation.map(|i| Incarnation { pid: 8, ..i });
    assert!(journal.adopt(&[guest(other)], &State::default(), |_| true).is_empty(), "another process");
    assert!(journal.adopt(&guests, &state(400), |_| true).is_empty(), "the entry was another's");
    let mut journal = Journal::open(&dir, "b");
    assert!(journal.adopt(&[], &State::default(), |_| false).is_empty());
    record(&dir, &mut journal, &State::default(), &BTreeMap::new(), &BTreeMap::new()).unwrap();
    assert!(Journal::open(&dir, "b").written.guests.is_empty(), "its process ended");
}

#[test]
fn a_loop_that_has_seen_nobody_yet_forgets_neither_whose_an_entry_is_nor_what_he_had() {
    let (_temp, dir) = dir();
    let id = GuestId::new("a");
    let mut journal = Journal::open(&dir, "b");
    record(&dir, &mut journal, &state(400), &incarnations(), &BTreeMap::new()).unwrap();
    // Adopted, and written before its first turn was over, as after a write that failed.
    let nobody = BTreeMap::new();
    record(&dir, &mut journal, &state(390), &nobody, &BTreeMap::new()).unwrap();
    assert_eq!(journal.written.guests[&id].incarnation, incarnations()[&id]);
    // Not adopted, for its process was not seen, and met by its balloon.
    journal.forget_adoptions();
    let mut left = State::default();
    left.adopt(&id, Original { target: Bytes::from_mib(390), period: None }, Bytes::from_mib(390));
    record(&dir, &mut journal, &left, &nobody, &BTreeMap::new()).unwrap();
    assert_eq!(journal.written.guests[&id].original.target, Bytes::from_mib(512));
    // As an older agent may have left it.
    journal.written.guests.get_mut(&id).unwrap().incarnation = None;
    journal.forget_adoptions();
    let seen = [guest(incarnations()[&id])];
    assert_eq!(
        journal.adopt(&seen, &State::default(), |_| true).remove(0).1.original.target,
        Bytes::from_mib(512)
    );
}

#[test]
fn what_a_guest_was_called_stays_with_its_entry_and_may_be_missing() {
    let (_temp, dir) = dir();
    let id = GuestId::new("a");
    let called = |name: Option<GuestName>| {
        let (pid, original) = (incarnations()[&id], Original { target: Bytes::from_mib(512), period: None });
        let target = Bytes::from_mib(400);
        let entry = Entry { incarnation: pid, original, target, whole: false, name };
        Content {
            boot_id: "b".to_owned(),
            guests: BTreeMap::from([(id.clone(), entry)]),
            ksm: None,
            lost_at: None,
            ended: Vec::new(),
        }
    };
    let kept = |content: &Content| {
        dir.replace(FILE, &envelope::seal(content)).unwrap();
        let mut journal = Journal::open(&dir, "b");
        let seen = [guest(incarnations()[&id])];
        journal.adopt(&seen, &State::default(), |_| true);
        record(&dir, &mut journal, &state(300), &incarnations(), &BTreeMap::new()).unwrap();
        Journal::open(&dir, "b").alive(|_| true).map(|(_, entry)| entry.name.clone()).collect::<Vec<_>>()
    };
    let name = GuestName::namespaced("shop", "web");
    assert_eq!(kept(&called(Some(name.clone()))), [Some(name)]);
    assert_eq!(kept(&called(None)), [None]);
    // As an older agent wrote it.
    let mut older = serde_json::to_value(called(None)).unwrap();
    assert!(older.pointer_mut("/guests/a").unwrap().as_object_mut().unwrap().remove("name").is_none());
    assert_eq!(serde_json::from_value::<Content>(older).unwrap(), called(None));
}

#[test]
fn a_boot_that_cannot_be_told_forgets_nothing_and_another_one_all() {
    for (written, read, known) in [("b", "", 1), ("", "b", 1), ("b", "b", 1), ("b", "c", 0)] {
        let (_temp, dir) = dir();
        let mut journal = Journal::open(&dir, written);
        record(&dir, &mut journal, &state(400), &incarnations(), &BTreeMap::new()).unwrap();
        let mut journal = Journal::open(&dir, read);
        assert_eq!(journal.entries().count(), known, "{written:?} {read:?}");
        // Nor does what this one writes.
        journal.adopt(&[guest(incarnations()[&GuestId::new("a")])], &State::default(), |_| true);
        record(&dir, &mut journal, &state(300), &incarnations(), &BTreeMap::new()).unwrap();
        assert_eq!(Journal::open(&dir, if read.is_empty() { written } else { read }).entries().count(), 1);
    }
}

#[test]
fn a_torn_journal_is_set_aside_and_nothing_is_lost() {
    let (temp, dir) = dir();
    let mut journal = Journal::open(&dir, "b");
    record(&dir, &mut journal, &state(400), &incarnations(), &BTreeMap::new()).unwrap();
    let path = temp.path().join(FILE);
    let mut content = std::fs::read(&path).unwrap();
    content.truncate(content.len() - 3);
    std::fs::write(&path, &content).unwrap();
    let again = Journal::open(&dir, "b");
    assert!(again.is_lost() && again.troubles().next().unwrap().contains("journal.corrupt"));
    assert_eq!(std::fs::read(temp.path().join("journal.corrupt")).unwrap(), content);
}

#[test]
fn a_journal_that_is_gone_is_one_that_was_lost_where_an_agent_has_worked() {
    let (temp, dir) = dir();
    assert!(!Journal::open(&dir, "b").is_lost(), "the first agent");
    dir.replace(learned::FILE, b"what it learned").unwrap();
    assert!(!Journal::open(&dir, "b").is_lost(), "it took nothing, and wrote that");
    std::fs::remove_file(temp.path().join(FILE)).unwrap();
    let again = Journal::open(&dir, "b");
    let told = again.troubles().next().unwrap();
    assert!(again.is_lost() && told.contains("missing") && told.contains("owed its full size"), "{told}");
    assert!(Journal::open(&dir, "b").is_lost(), "the next one knows it too");
}

#[test]
fn a_second_agent_is_refused() {
    let (temp, _dir) = dir();
    let error = StateDir::open(temp.path()).unwrap_err();
    assert!(format!("{error:#}").contains("another agent"), "{error:#}");
}

/// Another process of the guest, that holds so many MiB.
fn anew(mib: u64) -> GuestSample {
    let actual = Bytes::from_mib(mib);
    let balloon = Some(overcommit_core::sample::Balloon { actual, ..Default::default() });
    let run_state = RunState::Running;
    GuestSample { balloon, run_state, ..guest(Some(Incarnation { pid: 8, start_ticks: 99 })) }
}

#[test]
fn who_ended_while_it_lacked_something_is_known_when_it_is_restored_with_that_balloon_also_after_a_boot() {
    for boot in ["b", "c"] {
        for (holds, had) in [(400, Some(512)), (450, Some(512)), (300, None), (512, None)] {
            let (_temp, dir) = dir();
            let mut journal = Journal::open(&dir, "b");
            record(&dir, &mut journal, &state(400), &incarnations(), &BTreeMap::new()).unwrap();
            // It is gone, and others are written of.
            record(&dir, &mut journal, &State::default(), &BTreeMap::new(), &BTreeMap::new()).unwrap();
            assert!(journal.written.guests.is_empty() && journal.written.ended.len() == 1);
            let mut journal = Journal::open(&dir, boot);
            // While it comes from the file it is paused.
            let comes = [GuestSample { run_state: RunState::Paused, ..anew(512) }];
            assert!(journal.restored(&comes, &State::default()).is_empty());
            let guests = [anew(holds)];
            let restored = |journal: &mut Journal| {
                let restored = journal.restored(&guests, &State::default());
                restored.first().map(|(_, original)| original.target.get() >> 20)
            };
            assert_eq!(restored(&mut journal), had, "{boot} {holds}");
            assert_eq!(restored(&mut journal), None, "once");
            assert!(journal.ended.is_empty());
            // A loop that has forgotten what it knew.
            journal.forget_adoptions();
            assert_eq!(restored(&mut journal), had, "{boot} {holds}");
        }
    }
}

#[test]
fn of_guests_that_ended_the_last_ones_are_remembered() {
    let (_temp, dir) = dir();
    let mut journal = Journal::open(&dir, "b");
    let entry = Entry {
        incarnation: incarnations()[&GuestId::new("a")],
        original: Original { target: Bytes::from_mib(512), period: None },
        target: Bytes::from_mib(400),
        whole: false,
        name: None,
    };
    for number in 0..300 {
        journal.end(&GuestId::new(format!("{number:03}")), entry.clone());
        journal.end(&GuestId::new("pod-1/uuid"), entry.clone());
    }
    record(&dir, &mut journal, &State::default(), &BTreeMap::new(), &BTreeMap::new()).unwrap();
    let kept: Vec<&str> = journal.ended.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!((kept.len(), kept[0], kept[127]), (128, "172", "299"));
}

#[test]
fn a_journal_that_is_gone_is_missed_though_nothing_was_learned_yet_and_a_first_one_is_not() {
    let (temp, dir) = dir();
    assert!(!Journal::open(&dir, "b").is_lost());
    assert!(!Journal::open(&dir, "b").is_lost());
    std::fs::remove_file(temp.path().join(FILE)).unwrap();
    assert!(Journal::open(&dir, "b").is_lost());
}
