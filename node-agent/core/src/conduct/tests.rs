//! One guest, one take, second by second.

use super::*;

const MIB: fn(u64) -> Bytes = Bytes::from_mib;

fn seen(second: u64, target: u64, actual: u64, held: u64) -> Seen {
    let at = Monotonic::new(Duration::from_secs(second));
    Seen {
        at,
        target: MIB(target),
        actual: MIB(actual),
        squeezed: true,
        waits: false,
        held: Some(MIB(held)),
        pain: None,
        heard: Some(at),
        asked: true,
    }
}

/// A guest that was taken from 512 to 400 MiB at second 0, all of it resident.
fn taken() -> Conduct {
    let mut conduct = Conduct::default();
    let before = seen(0, 512, 512, 512);
    conduct.observe(&before);
    conduct.took(MIB(512), MIB(400), &before);
    conduct
}

#[test]
fn a_balloon_that_follows_and_frees_without_pain_is_trusted() {
    let mut conduct = taken();
    assert_eq!(conduct.observe(&seen(2, 400, 400, 400)), Some(Duration::from_secs(2)));
    conduct.observe(&seen(12, 400, 400, 400));
    assert_eq!((conduct.trial, conduct.undo(), conduct.trust()), (None, None, Trust::Trusted));
}

#[test]
fn a_balloon_that_does_not_move_is_unresponsive_and_its_target_goes_back_to_what_it_holds() {
    let mut conduct = taken();
    for second in 1..=32 {
        conduct.observe(&seen(second, 400, 470, 470));
    }
    assert_eq!(conduct.trust(), Trust::Unresponsive);
    let undo = Undo { to: MIB(470), failure: Failure::NotFollowed { missing: MIB(70) } };
    assert_eq!(conduct.undo(), Some(undo));
}

#[test]
fn a_guest_that_falls_silent_after_a_take_failed_it_unless_nobody_looked() {
    let silent = |second, actual| Seen { heard: None, ..seen(second, 400, actual, actual) };
    let mut conduct = taken();
    conduct.observe(&silent(11, 512));
    let missing = MIB(112);
    assert_eq!(conduct.undo().unwrap(), Undo { to: MIB(512), failure: Failure::NotFollowed { missing } });
    assert_eq!(conduct.trust(), Trust::Unresponsive);

    let mut conduct = taken();
    conduct.observe(&seen(1, 400, 400, 400));
    conduct.observe(&silent(11, 400));
    assert_eq!(conduct.undo().unwrap(), Undo { to: MIB(512), failure: Failure::Silent });
    assert_eq!(conduct.trust(), Trust::Trusted);

    let mut conduct = taken();
    conduct.look_away();
    conduct.observe(&silent(11, 512));
    assert_eq!(conduct.undo(), None);
    conduct.observe(&seen(12, 400, 400, 400));
    conduct.observe(&silent(22, 400));
    assert_eq!(conduct.undo().unwrap().failure, Failure::Silent);
}

#[test]
fn a_take_is_no_success_before_the_guest_has_spoken_about_it() {
    let mut conduct = taken();
    conduct.observe(&seen(2, 400, 400, 400));
    let before = Some(seen(2, 0, 0, 0).at);
    conduct.observe(&Seen { heard: before, ..seen(12, 400, 400, 400) });
    assert!(conduct.trial.is_some());
    conduct.observe(&seen(13, 400, 400, 400));
    assert_eq!((conduct.trial, conduct.undo()), (None, None));
}

#[test]
fn a_reboot_neither_ends_a_back_off_nor_restores_trust() {
    let mut conduct = taken();
    for second in 1..=32 {
        conduct.observe(&seen(second, 400, 470, 470));
    }
    conduct.begin_life_anew();
    assert_eq!(conduct.trust(), Trust::Unresponsive);
    assert!(conduct.back_off(seen(33, 400, 470, 470).at).is_some());
}

#[test]
fn a_balloon_that_moves_slowly_is_waited_for() {
    let mut conduct = taken();
    for second in 1..=100 {
        conduct.observe(&seen(second, 400, 512 - second, 512 - second));
    }
    assert_eq!((conduct.undo(), conduct.is_stuck(seen(101, 400, 412, 412).at)), (None, false));
}

#[test]
fn a_driver_that_says_it_gave_and_did_not_is_untrusted() {
    let mut conduct = Conduct::default();
    let before = seen(0, 1024, 1024, 1024);
    conduct.took(MIB(1024), MIB(700), &before);
    conduct.observe(&seen(1, 700, 700, 1020));
    conduct.observe(&seen(11, 700, 700, 1020));
    assert_eq!(conduct.trust(), Trust::Untrusted);
    assert_eq!(conduct.undo().unwrap().to, MIB(1024));
}

#[test]
fn memory_that_was_never_resident_need_not_be_freed() {
    let mut conduct = Conduct::default();
    conduct.took(MIB(1024), MIB(700), &seen(0, 1024, 1024, 200));
    conduct.observe(&seen(1, 700, 700, 200));
    conduct.observe(&seen(11, 700, 700, 210));
    assert_eq!((conduct.trust(), conduct.undo()), (Trust::Trusted, None));
}

#[test]
fn pain_that_begins_with_a_take_undoes_it_and_pain_from_before_does_not() {
    let pain = Some(Pain::MajorFaults { per_second: 500 });
    let mut conduct = taken();
    conduct.observe(&Seen { pain, ..seen(3, 400, 405, 405) });
    assert_eq!(conduct.undo().unwrap().to, MIB(512));
    assert_eq!(conduct.trust(), Trust::Trusted);
    let mut conduct = Conduct::default();
    conduct.took(MIB(512), MIB(400), &Seen { pain, ..seen(0, 512, 512, 512) });
    conduct.observe(&Seen { pain, ..seen(3, 400, 405, 405) });
    assert_eq!(conduct.undo(), None);
}

#[test]
fn a_guest_that_is_seen_to_fill_fails_no_take_until_it_says_itself_that_it_hurts() {
    let fills = Some(Pain::Filling { per_second: MIB(800) });
    let hurts = Some(Pain::LowUsable { usable: MIB(10) });
    let mut conduct = taken();
    conduct.observe(&Seen { pain: fills, ..seen(1, 400, 405, 405) });
    assert_eq!((conduct.undo(), conduct.strikes), (None, 0), "it may be page cache that it writes");
    assert!(conduct.trial.is_some());
    conduct.observe(&Seen { pain: hurts, ..seen(2, 400, 400, 400) });
    assert_eq!(conduct.undo().map(|undo| undo.failure), hurts.map(Failure::Hurt));
    let mut conduct = Conduct::default();
    conduct.took(MIB(512), MIB(400), &Seen { pain: fills, ..seen(0, 512, 512, 512) });
    conduct.observe(&Seen { pain: hurts, ..seen(1, 400, 400, 400) });
    assert_eq!(conduct.undo().map(|undo| undo.failure), hurts.map(Failure::Hurt), "it did not hurt before");
}

#[test]
fn a_balloon_that_deflates_by_itself_is_noticed_without_a_take() {
    let mut conduct = taken();
    conduct.observe(&seen(1, 400, 400, 400));
    conduct.observe(&seen(11, 400, 400, 400));
    conduct.observe(&seen(20, 400, 500, 500));
    assert_eq!(conduct.undo(), None, "a device reset looks the same for a moment");
    conduct.observe(&seen(30, 400, 500, 500));
    assert_eq!(conduct.undo().unwrap().failure, Failure::Deflated { by: MIB(100) });
    assert_eq!(conduct.trust(), Trust::Unresponsive);
}

#[test]
fn a_balloon_that_deflates_while_it_is_watched_has_not_succeeded() {
    let mut conduct = taken();
    conduct.fail(Failure::Silent, MIB(512), seen(0, 0, 0, 0).at);
    conduct.took(MIB(512), MIB(400), &seen(0, 512, 512, 512));
    conduct.observe(&seen(1, 400, 400, 400));
    conduct.observe(&seen(5, 400, 400, 400));
    for second in 6..=16 {
        conduct.observe(&seen(second, 400, 512, 512));
    }
    assert_eq!(conduct.undo().unwrap().failure, Failure::Deflated { by: MIB(112) });
    assert_eq!(conduct.strikes, 2);
}

#[test]
fn what_a_balloon_gave_back_by_itself_is_no_give_though_the_target_goes_after_it() {
    let mut conduct = taken();
    conduct.observe(&seen(1, 400, 400, 400));
    conduct.observe(&seen(11, 400, 400, 400));
    for second in 12..=23 {
        let (before, now) = (400 + 3 * (second - 12), 400 + 3 * (second - 11));
        conduct.observe(&seen(second, before, now, 400));
        if second < 23 {
            conduct.gave(MIB(before), MIB(now), &seen(second, before, now, 400));
        }
    }
    let failure = conduct.undo().unwrap().failure;
    assert!(matches!(failure, Failure::Deflated { by } if by >= MIB(30)), "{failure:?}");
}

#[test]
fn small_gives_in_a_row_are_no_deflation() {
    let mut conduct = taken();
    conduct.observe(&seen(1, 400, 400, 400));
    for second in 2..=40 {
        conduct.gave(MIB(397 + second), MIB(398 + second), &seen(second, 397 + second, 397 + second, 400));
        conduct.observe(&seen(second, 398 + second, 398 + second, 400));
    }
    assert_eq!(conduct.undo(), None);
}

#[test]
fn a_give_is_no_deflation() {
    let mut conduct = taken();
    conduct.observe(&seen(1, 400, 400, 400));
    conduct.gave(MIB(400), MIB(500), &seen(1, 400, 400, 400));
    conduct.observe(&seen(2, 500, 450, 450));
    conduct.observe(&seen(20, 500, 500, 500));
    assert_eq!(conduct.undo(), None);
}

/// Fails by pain at this second; the back-off that follows.
fn hurts(conduct: &mut Conduct, second: u64) -> u64 {
    let now = seen(second, 512, 512, 512);
    conduct.took(MIB(512), MIB(400), &now);
    conduct.observe(&Seen { pain: Some(Pain::MajorFaults { per_second: 500 }), ..now });
    conduct.back_off(now.at).unwrap().0.as_secs()
}

#[test]
fn each_failure_doubles_the_back_off_and_ten_minutes_after_its_end_halve_it() {
    let mut conduct = Conduct::default();
    assert_eq!([0, 100, 200].map(|second| hurts(&mut conduct, second)), [30, 60, 120]);
    // Of three failures two are left twelve minutes after the last back-off.
    assert_eq!(hurts(&mut conduct, 320 + 720), 120);
    assert_eq!(hurts(&mut conduct, 1160 + 86_400), 30, "a day later nothing is left of it");
}

/// Falls silent at this second; the back-off that follows.
fn falls_silent(conduct: &mut Conduct, second: u64) -> u64 {
    let now = seen(second, 512, 512, 512);
    conduct.took(MIB(512), MIB(400), &now);
    let later = seen(second, 400, 400, 400);
    conduct.observe(&later);
    conduct.observe(&Seen { heard: None, asked: true, ..later });
    assert!(matches!(conduct.last_failure(), Some(Failure::Silent)), "{conduct:?}");
    conduct.back_off(now.at).unwrap().0.as_secs()
}

/// The back-offs of a guest that fails each time that it is tried, for days, and then is left in peace for so many minutes.
#[allow(clippy::arithmetic_side_effects, reason = "a test's own clock")]
fn costs(fails: fn(&mut Conduct, u64) -> u64, minutes: u64) -> (Vec<u64>, u64) {
    let (mut conduct, mut second, mut waits) = (Conduct::default(), 0, Vec::new());
    for _ in 0..45 {
        waits.push(fails(&mut conduct, second));
        second += waits.last().unwrap();
    }
    waits.dedup();
    (waits, fails(&mut conduct, second + minutes * 60))
}

#[test]
fn a_day_of_failures_is_forgotten_as_soon_as_those_that_made_the_back_off_its_longest() {
    assert_eq!(costs(falls_silent, 0).0, [30, 60, 120, 240, 480, 960, 1920], "32 min");
    let after = |minutes: u64| costs(falls_silent, minutes).1;
    assert_eq!([9, 19, 20, 30, 60, 70].map(after), [1920, 1920, 960, 480, 60, 30]);
}

#[test]
fn takes_that_hurt_are_tried_ever_more_seldom_and_remembered_for_twice_as_long() {
    let hours = [1920, 3840, 7680, 15_360];
    assert_eq!(costs(hurts, 0).0, [&[30, 60, 120, 240, 480, 960], &hours[..]].concat(), "4 h 16 min");
    let after = |minutes: u64| costs(hurts, minutes).1;
    // 512 minutes for the longest, and half as long for each before it; the last ones have ten.
    assert_eq!([511, 767, 768, 895, 896].map(after), [15_360, 15_360, 7680, 7680, 3840]);
    assert_eq!([512 * 2, 512 * 3].map(after), [240, 30]);
}

#[test]
fn what_hurts_makes_no_disobedience_worse_nor_the_other_way_round() {
    let mut conduct = Conduct::default();
    assert_eq!([0, 100, 200].map(|second| hurts(&mut conduct, second)), [30, 60, 120]);
    assert_eq!([400, 500].map(|second| falls_silent(&mut conduct, second)), [30, 60]);
    assert_eq!(hurts(&mut conduct, 600), 240);
    // Each is forgotten by time of its own.
    assert_eq!(falls_silent(&mut conduct, 840 + 1200), 30);
}

#[test]
fn a_take_that_succeeds_is_no_excuse_for_the_balloon_that_deflates_after_it() {
    let mut conduct = Conduct::default();
    let (mut second, mut waits) = (0, Vec::new());
    for _ in 0..4 {
        conduct.took(MIB(512), MIB(400), &seen(second, 512, 512, 512));
        for at in 1..=12 {
            conduct.observe(&seen(second + at, 400, 400, 400));
        }
        assert_eq!((conduct.trial, conduct.last_failure()), (None, None), "it succeeded");
        for at in 30..=41 {
            conduct.observe(&seen(second + at, 400, 512, 512));
        }
        let (wait, failure) = conduct.back_off(seen(second + 41, 0, 0, 0).at).unwrap();
        assert!(matches!(failure, Failure::Deflated { .. }), "{failure:?}");
        waits.push(wait.as_secs().div_ceil(10) * 10);
        second += 41 + wait.as_secs() + 1;
        conduct.gave(MIB(400), MIB(512), &seen(second - 1, 400, 512, 512));
        conduct.observe(&seen(second - 1, 512, 512, 512));
    }
    assert_eq!(waits, [30, 60, 120, 240]);
}

#[test]
fn a_paid_undo_is_over() {
    let mut conduct = taken();
    conduct.observe(&Seen { pain: Some(Pain::LowUsable { usable: MIB(1) }), ..seen(3, 400, 405, 405) });
    conduct.gave(MIB(400), MIB(450), &seen(3, 400, 405, 405));
    assert!(conduct.undo().is_some());
    conduct.gave(MIB(450), MIB(512), &seen(4, 450, 450, 450));
    assert_eq!(conduct.undo(), None);
}

/// Taken from 512 to 300 MiB while the host's kernel says nothing of its process `until` then, which it did before if `known`.
fn taken_in_the_dark(known: bool, until: u64) -> Conduct {
    let mut conduct = Conduct::default();
    if known {
        conduct.observe(&seen(0, 512, 512, 512));
    }
    let before = Seen { held: None, ..seen(1, 512, 512, 0) };
    conduct.observe(&before);
    conduct.took(MIB(512), MIB(300), &before);
    for second in 2..until {
        conduct.observe(&Seen { held: None, ..seen(second, 300, 300, 0) });
    }
    conduct
}

#[test]
fn who_was_taken_from_in_the_dark_is_judged_by_what_it_held_before_once_the_host_shows_it() {
    for (held, failure, trust) in
        [(512, Some(Failure::NotFreed { excess: MIB(212) }), Trust::Untrusted), (300, None, Trust::Trusted)]
    {
        let mut conduct = taken_in_the_dark(true, 3);
        for second in 3..16 {
            conduct.observe(&seen(second, 300, 300, held));
        }
        assert_eq!((conduct.last_failure(), conduct.trust()), (failure, trust));
    }
}

#[test]
fn who_is_not_believed_is_not_believed_for_what_nobody_could_check() {
    for (trust, then) in [
        (Trust::Untrusted, Trust::Untrusted),
        (Trust::Unresponsive, Trust::Trusted),
        (Trust::Trusted, Trust::Trusted),
    ] {
        let mut conduct = taken_in_the_dark(false, 20);
        assert_eq!(conduct.trial, None, "nothing would ever check it");
        let before = Seen { held: None, ..seen(21, 300, 300, 0) };
        conduct.trust = trust;
        conduct.took(MIB(300), MIB(250), &before);
        for second in 22..40 {
            conduct.observe(&Seen { held: None, ..seen(second, 250, 250, 0) });
        }
        assert_eq!((conduct.trial, conduct.trust()), (None, then));
    }
}

#[test]
fn what_was_held_too_much_before_a_take_is_known_from_the_take_before() {
    let mut conduct = taken();
    // Less than what khugepaged may put back, and the first take is over.
    conduct.observe(&seen(2, 400, 400, 500));
    conduct.observe(&seen(12, 400, 400, 500));
    assert_eq!((conduct.trial, conduct.trust()), (None, Trust::Trusted));
    // The kernel does not show it when it is taken from again.
    conduct.took(MIB(400), MIB(300), &Seen { held: None, ..seen(13, 400, 400, 0) });
    for second in 14..40 {
        conduct.observe(&seen(second, 300, 300, 500));
    }
    assert_eq!(
        (conduct.last_failure(), conduct.trust()),
        (None, Trust::Trusted),
        "100 MiB more, of 114 allowed"
    );
}

#[test]
fn who_was_found_out_is_not_believed_for_failing_in_another_way() {
    let mut conduct = Conduct { trust: Trust::Untrusted, ..Conduct::default() };
    conduct.observe(&seen(0, 400, 400, 400));
    for second in 1..60 {
        conduct.observe(&seen(second, 400, 450, 450));
    }
    assert!(matches!(conduct.last_failure(), Some(Failure::Deflated { .. })), "{:?}", conduct.last_failure());
    assert_eq!(conduct.trust(), Trust::Untrusted);
}
