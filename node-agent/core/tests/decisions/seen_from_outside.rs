//! The fast lane's look at one guest, poll by poll: what is seen of its process before its next words come.

#![allow(clippy::unwrap_used)] // helpers outside #[test] functions are test code too

use std::time::Duration;

use crate::world::{World, guest, mib, reason, settle, view, world};
use overcommit_core::lane::{Felt, Glimpse, Lane};
use overcommit_core::plan::{Command, Outcome};
use overcommit_core::reason::{Pain, Reason};
use overcommit_core::sample::Sample;
use overcommit_core::step::Turn;
use overcommit_core::units::{Bytes, Monotonic};

/// A guest of 2 GiB that is looked at each 200 ms.
struct Looks {
    w: World,
    lane: Lane,
    polls: u64,
    resident: Bytes,
    read: Bytes,
    /// At the last poll.
    felt: Option<Felt>,
}

impl Looks {
    /// It was squeezed to `actual` MiB, of which it uses `used`, and was looked at once.
    fn at(actual: u64, used: u64) -> Self {
        let mut w = world(8192, vec![guest("a", 2048, used)]);
        settle(&mut w, 3);
        let mut looks =
            Self { w, lane: Lane::default(), polls: 0, resident: mib(1000), read: mib(0), felt: None };
        looks.asks_for(actual);
        looks.w.guest("a").actual = actual;
        looks.w.decide(1, Turn::Relief);
        assert_eq!(looks.poll(0, 0), None);
        looks
    }

    /// A take, or a give, that goes out.
    fn asks_for(&mut self, to: u64) {
        let from = self.w.state.model().track(&World::id("a")).unwrap().target;
        let command = Command::SetTarget { id: World::id("a"), from, to: mib(to) };
        self.w.state.note(&[Outcome { command, result: Ok(()) }]);
    }

    /// It speaks: it uses so much, and holds `actual`.
    fn speaks(&mut self, actual: u64, used: u64) {
        let a = self.w.guest("a");
        (a.actual, a.used) = (actual, used);
        self.w.decide(1, Turn::Relief);
    }

    /// Its device is read and has no new words.
    fn is_read(&mut self, actual: u64) {
        self.w.guest("a").reports = false;
        let mut sample: Sample = self.w.sample();
        sample.guests[0].balloon.as_mut().unwrap().actual = mib(actual);
        self.w.decide_on(&sample, Turn::Tick);
        self.w.guest("a").reports = true;
    }

    /// One poll later: what its process shows, having become larger by so many MiB (or smaller) and read so many.
    fn poll(&mut self, grown: i64, read: u64) -> Option<Pain> {
        let by = mib(grown.unsigned_abs());
        self.resident = if grown < 0 { self.resident.minus(by) } else { self.resident.plus(by) };
        self.read = self.read.plus(mib(read));
        self.polls += 1;
        let at = Monotonic::new(Duration::from_hours(2) + Duration::from_millis(200 * self.polls));
        let glimpse = Glimpse { resident: self.resident, read: self.read };
        let track = self.w.state.model().track(&World::id("a")).unwrap();
        self.felt = self.lane.look(track, glimpse, at);
        self.felt.map(|felt| felt.pain)
    }

    /// So many polls in a row; at which one it is seen to fill what it has.
    fn polls(&mut self, grown: &[i64]) -> Option<usize> {
        grown.iter().position(|grown| matches!(self.poll(*grown, 0), Some(Pain::Filling { .. })))
    }
}

#[test]
fn a_guest_that_fills_all_it_has_within_a_second_is_seen_from_outside_before_it_says_so() {
    let pain_at = |grown: u64, read: u64, millis: u64| {
        let mut w = world(1000, vec![guest("a", 512, 100), guest("b", 512, 100), guest("c", 512, 100)]);
        settle(&mut w, 20);
        let (mut lane, track) = (Lane::default(), w.state.model().track(&World::id("a")).unwrap());
        let usable = track.evidence.fresh().unwrap().usable;
        assert!(usable > mib(200) && usable < mib(240), "{usable}");
        let at = |millis| Monotonic::new(Duration::from_secs(w.now) + Duration::from_millis(millis));
        let glimpse = |resident, read| Glimpse { resident: mib(resident), read: mib(read) };
        assert_eq!(lane.look(track, glimpse(100, 0), at(0)), None);
        lane.look(track, glimpse(100 + grown, read), at(millis)).map(|felt| felt.pain)
    };
    assert_eq!(pain_at(50, 0, 200), Some(Pain::Filling { per_second: mib(250) }));
    assert_eq!(pain_at(50, 0, 1000), None, "at this speed its own words come in time");
    assert_eq!(pain_at(50, 45, 200), None, "what it reads is page cache");
    assert_eq!(pain_at(4, 0, 20), None, "too short to tell");
}

#[test]
fn pain_that_goes_on_is_worth_another_turn_each_second() {
    let mut looks = Looks::at(624, 520);
    let turns: Vec<bool> = (0..16)
        .map(|_| {
            assert!(looks.poll(0, 2).is_some());
            let felt = looks.felt.unwrap();
            let at = Monotonic::new(Duration::from_hours(2) + Duration::from_millis(200 * looks.polls));
            looks.w.state.note_pain(&World::id("a"), felt.pain, at);
            felt.news
        })
        .collect();
    let expected: Vec<bool> = (0..16).map(|poll| poll % 5 == 0).collect();
    assert_eq!(turns, expected);
}

#[test]
fn what_a_guest_filled_since_it_spoke_adds_up_and_begins_anew_with_its_next_words() {
    // 500 MiB usable, 31 of them below the line; 160 MiB/s.
    let mut looks = Looks::at(624, 124);
    assert_eq!(looks.polls(&[32; 5]), None, "309 MiB are left, for two seconds");
    looks.speaks(624, 284);
    assert_eq!(looks.polls(&[32; 5]), Some(4), "309 MiB less 160 are less than a second's worth");
    looks.speaks(624, 124);
    assert_eq!(looks.polls(&[32; 5]), None, "it was page cache: 500 MiB are usable still");
}

#[test]
fn words_that_came_between_two_polls_say_nothing_of_what_came_after_them() {
    let mut looks = Looks::at(624, 124);
    assert_eq!(looks.polls(&[32; 5]), None);
    // They may be as old as the poll before: what came since then counts.
    looks.speaks(624, 424);
    assert_eq!(looks.poll(32, 0), Some(Pain::Filling { per_second: mib(160) }), "200 - 31 - 32 < 160");
}

#[test]
fn page_cache_that_is_read_fills_nothing_poll_after_poll() {
    let mut looks = Looks::at(624, 424);
    assert!((0..6).all(|_| looks.poll(60, 60).is_none()));
}

#[test]
fn a_take_under_way_hides_no_guest_that_fills() {
    // Of 900 MiB usable 65 are below the line. It fills 800 MiB/s, its balloon grows by 324: its process shows 476.
    let mut looks = Looks::at(1300, 400);
    assert_eq!(looks.polls(&[95]), None, "nothing is taken from it: it has 740 MiB, for a second and a half");
    let mut looks = Looks::at(1300, 400);
    looks.asks_for(900);
    assert_eq!(
        looks.polls(&[95, 95, 95, 95]),
        Some(0),
        "of 435 MiB that the take leaves it, it fills 800 a second"
    );
    // It fills 600, and its process shows 276.
    let mut looks = Looks::at(1300, 400);
    looks.asks_for(900);
    assert_eq!(looks.polls(&[55, 55, 55, 55]), Some(0), "435 less 120 MiB are less than 600");
}

#[test]
fn a_take_under_way_alone_fills_nothing() {
    let mut looks = Looks::at(1300, 800);
    looks.asks_for(900);
    assert_eq!(
        looks.polls(&[-65, -65, 0, 6, 0, 6]),
        None,
        "a balloon, and a guest that does next to nothing"
    );
    assert_eq!(looks.polls(&[8]), Some(0), "40 MiB/s, where 35 MiB are left");
}

#[test]
fn what_was_taken_since_a_guest_spoke_is_no_longer_usable_until_it_speaks_again() {
    let mut looks = Looks::at(1300, 400);
    looks.asks_for(900);
    assert_eq!(looks.polls(&[-65, -65, -65]), None);
    looks.is_read(900);
    assert_eq!(looks.polls(&[55]), Some(0), "its words are of before the take");
    looks.speaks(900, 400);
    assert_eq!(looks.polls(&[10, 10]), None, "500 MiB are usable after it");
}

#[test]
fn a_guest_that_writes_files_is_given_memory_and_fails_no_take() {
    let mut w = world(1000, vec![guest("a", 512, 100), guest("b", 512, 100), guest("c", 512, 100)]);
    settle(&mut w, 2);
    assert!(view(&w.tick(), "a").underway.is_some());
    let fills = Pain::Filling { per_second: mib(800) };
    let id = World::id("a");
    w.state.note_pain(&id, fills, Monotonic::new(Duration::from_secs(w.now)));
    let decision = w.decide(1, Turn::Relief);
    assert!(matches!(reason(&decision, "a"), Reason::GiveDistress(_) | Reason::Waiting), "{decision:?}");
    let track = w.state.model().track(&id).unwrap();
    let at = Monotonic::new(Duration::from_secs(w.now));
    assert_eq!((track.pain, track.conduct.undo(), track.conduct.back_off(at)), (Some(fills), None, None));
}

#[test]
fn what_is_foreseen_hides_nothing_that_hurts_already() {
    let mut w = world(2048, vec![guest("a", 512, 500)]);
    settle(&mut w, 2);
    let pain = |w: &World| w.state.model().track(&World::id("a")).unwrap().pain;
    let hurts = pain(&w);
    assert!(matches!(hurts, Some(Pain::LowUsable { .. })), "{hurts:?}");
    let at = Monotonic::new(Duration::from_secs(w.now));
    w.state.note_pain(&World::id("a"), Pain::Filling { per_second: mib(800) }, at);
    assert_eq!(pain(&w), hurts);
    let reads = Pain::DiskReads { per_second: mib(90) };
    w.state.note_pain(&World::id("a"), reads, at);
    assert_eq!(pain(&w), Some(reads));
}

/// It holds `resident` MiB of 800 beside its overhead, of which so many are usable, by words that are fresh or by none.
fn thrashing(resident: u64, usable: Option<u64>) -> Looks {
    let mut looks = Looks::at(800, 800 - usable.unwrap_or(10));
    if usable.is_none() {
        // Long enough for its words to count for nothing.
        looks.w.guest("a").reports = false;
        looks.w.decide(60, Turn::Relief);
    }
    let overhead = looks.w.state.model().track(&World::id("a")).unwrap().overhead();
    looks.resident = overhead.plus(mib(resident));
    looks.poll(0, 0);
    looks
}

#[test]
fn a_guest_that_holds_all_it_may_and_reads_from_its_disks_hurts_unless_it_says_that_enough_is_usable() {
    for usable in [Some(10), None] {
        let pain = thrashing(790, usable).poll(0, 2);
        assert_eq!(pain, Some(Pain::DiskReads { per_second: mib(10) }), "{usable:?}");
    }
    assert_eq!(thrashing(790, Some(300)).poll(0, 2), None, "it reads files");
    assert_eq!(thrashing(600, Some(10)).poll(0, 2), None, "it has memory that it never touched");
    let mut slow = thrashing(790, Some(10));
    slow.read = slow.read.plus(Bytes::from_kib(500));
    assert_eq!(slow.poll(0, 0), None, "2.4 MiB/s");
}

/// Its kernel holds `cache` MiB of files, of 300 that are usable.
fn with_files(cache: u64) -> Looks {
    let mut looks = Looks::at(800, 500);
    looks.w.guest("a").cache = cache;
    looks.speaks(800, 500);
    looks
}

#[test]
fn who_goes_on_reading_files_with_all_its_memory_full_is_seen_and_told_each_second() {
    let seen = |cache: u64, reads: fn(usize) -> bool| -> Vec<usize> {
        let mut looks = with_files(cache);
        // A MiB in a fifth of a second.
        let mut seen =
            |poll: usize| matches!(looks.poll(0, u64::from(reads(poll))), Some(Pain::Rereads { .. }));
        (0..100).filter(|poll| seen(*poll)).collect()
    };
    let all: Vec<usize> = (50..100).step_by(5).collect();
    assert_eq!(seen(280, |_| true), all, "after ten seconds, which no start of a program takes");
    assert_eq!(seen(280, |poll| poll % 20 == 0), [60, 80], "with pauses of four");
    assert_eq!(seen(280, |poll| poll % 30 == 0), [0_usize; 0], "and of six, which is now and then");
    assert_eq!(seen(200, |_| true), [0_usize; 0], "it has room for more");
}

/// 300 MiB of files, of which it says that all are usable, on a host where its neighbour has memory in which it has nothing.
#[test]
fn room_for_files_that_are_read_again_is_what_others_have_nothing_in_and_no_more() {
    let mut w = world(1500, vec![guest("reads", 1024, 200), guest("rests", 1024, 200)]);
    for name in ["reads", "rests"] {
        w.guest(name).cache = 2000;
    }
    settle(&mut w, 40);
    let (before, filled) = (w.target("reads"), 200 + 300);
    w.guest("rests").cache = 300;
    let reread = |w: &mut World, seconds: u64| {
        for _ in 0..seconds {
            let at = Monotonic::new(Duration::from_secs(w.now));
            w.state.note_pain(&World::id("reads"), Pain::Rereads { per_second: mib(100) }, at);
            let decision = w.turn(1, if w.now % 5 == 4 { Turn::Tick } else { Turn::Relief });
            assert!(decision.guests.iter().all(|view| view.pain.is_none() && !view.distressed));
        }
    };
    settle(&mut w, 60);
    assert!(w.target("reads") <= before + 8, "nobody reads: {} of {before}", w.target("reads"));
    reread(&mut w, 120);
    assert!(w.target("reads") > before + 100, "{} of {before}", w.target("reads"));
    let rest = w.target("rests");
    assert!(
        rest >= filled && rest <= filled + 64,
        "what it has read it keeps, with little above that: {rest}"
    );
    reread(&mut w, 120);
    assert_eq!(w.target("rests"), rest, "it comes to rest");
}
