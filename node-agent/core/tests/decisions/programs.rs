//! Policies that carry a program in MOM's language: what it proposes is done as far as the guard lets it, and what it does wrong
//! hurts nobody.

#![allow(clippy::unwrap_used)] // helpers outside #[test] functions are test code too

use overcommit_core::policy::{KsmMode, Mode, Mom, Slot};
use overcommit_core::reason::{Hold, Pain, Reason, Spot};
use overcommit_core::step::{Decision, Turn};
use overcommit_core::units::{Amount, Bytes, Permille};

use crate::course::prove::written_and_read;
use crate::world::{World, guest, mib, reason, settle, view, world};

const STOCK: &str = include_str!("../../../../deploy/samples/mom/balloon.rules");
/// VDSM's set, and what oVirt's engine writes into its slot.
const VDSM: [(&str, &str); 4] = [
    ("00-defines", include_str!("../../../../deploy/samples/mom/vdsm/00-defines.policy")),
    ("01-parameters", "(set balloonEnabled 1)"),
    ("02-balloon", include_str!("../../../../deploy/samples/mom/vdsm/02-balloon.policy")),
    ("03-ksm", include_str!("../../../../deploy/samples/mom/vdsm/03-ksm.policy")),
];

fn program(slots: &[(&str, &str)]) -> Mom {
    let slot = |(name, text): &(&str, &str)| Slot { name: (*name).into(), text: (*text).into() };
    Mom::new(slots.iter().map(slot).collect()).unwrap()
}

/// Guests `a` and `b` of 1000 MiB that use 300, on a host of 4000 MiB whose policy is this program.
fn running(text: &str) -> World {
    let mut world = world(4000, vec![guest("a", 1000, 300), guest("b", 1000, 300)]);
    world.policy.mom = Some(program(&[("main", text)]));
    // Statistics of guests that have just been met are none to decide on.
    world.guests.iter_mut().for_each(|guest| guest.stamp = 1);
    world
}

/// The same, where so much of the host is free.
fn with_free(world: &mut World, mib: u64) {
    world.free = Some(mib);
}

fn told(decision: &Decision) -> &overcommit_core::mom::Told {
    decision.program.as_ref().unwrap()
}

fn line(line: u32) -> Spot {
    Spot { slot: 1, line }
}

#[test]
fn the_stock_program_takes_what_is_not_used_while_the_host_is_short_and_gives_it_back_after() {
    let mut world = running(STOCK);
    with_free(&mut world, 400);
    let taken = world.tick();
    // 5 % at once: a step of MOM's, rounded down to whole pages of a balloon.
    for name in ["a", "b"] {
        assert_eq!(view(&taken, name).target.to_mib_floor(), 950, "{:?}", view(&taken, name));
        assert!(matches!(reason(&taken, name), Reason::TakeProgram(Spot { slot: 1, .. })));
    }
    settle(&mut world, 40);
    // It keeps free what the rule says under this pressure, a tenth, and no less than the guard's floor.
    let kept = world.target("a");
    assert!((330..=345).contains(&kept), "{kept}");
    with_free(&mut world, 3000);
    let given = (0..10).map(|_| world.tick()).last().unwrap();
    assert!(view(&given, "a").target > mib(kept), "{:?}", view(&given, "a"));
    assert!(matches!(reason(&given, "a"), Reason::GiveProgram(_)));
    settle(&mut world, 40);
    assert_eq!(world.target("a"), 1000);
}

#[test]
fn vdsms_set_takes_from_an_idle_guest_on_a_kernel_without_ksm_and_on_one_that_hides_its_knobs() {
    use overcommit_core::sample::Ksm;
    let merged = Ksm { shared: mib(1), sharing: mib(10), ..Ksm::default() };
    for ksm in [None, Some(Ksm::default()), Some(merged)] {
        let mut world = running("0");
        world.policy.mom = Some(program(&VDSM));
        with_free(&mut world, 400);
        let mut sample = {
            world.now += 5;
            world.sample()
        };
        sample.host.ksm = ksm;
        let decision = world.decide_on(&sample, Turn::Tick);
        assert_eq!(told(&decision).trouble, None, "{ksm:?}");
        assert!(matches!(reason(&decision, "a"), Reason::TakeProgram(Spot { slot: 3, .. })), "{ksm:?}");
        // Nobody has to set what is as it should be.
        let notes = &told(&decision).notes;
        assert!(!notes.iter().any(|note| note.contains("merge_across_nodes")), "{notes:?}");
    }
}

#[test]
fn a_kernel_without_ksm_is_shown_as_one_that_merges_nothing() {
    let idle = "(if (and (== Host.ksm_run 0) (== Host.ksm_pages_to_scan 100) (== Host.ksm_sleep_millisecs 20)
        (== Host.ksm_merge_across_nodes 1)
        (== 0 (max Host.ksm_pages_shared Host.ksm_pages_sharing Host.ksm_pages_unshared Host.ksm_pages_volatile
            Host.ksm_full_scans))) 0 (/ 1 0))";
    let mut world = running(idle);
    assert_eq!(told(&world.tick()).trouble, None);
    // How much ksmd took is known from the second cycle on.
    world.policy.mom = Some(program(&[("main", "(if (== Host.ksmd_cpu_usage 0) 0 (/ 1 0))")]));
    assert_eq!(told(&world.tick()).trouble, None);
}

#[test]
fn pages_are_the_kernels_whatever_their_size() {
    use overcommit_core::sample::Ksm;
    let ksm = Ksm { shared: Bytes::from_kib(640), sharing: Bytes::from_kib(6400), ..Ksm::default() };
    for (page, [shared, sharing, resident]) in
        [(None, [160, 1600, 76_800]), (Some(64), [10, 100, 4800]), (Some(4), [160, 1600, 76_800])]
    {
        let mut world = running(&format!(
            "(if (and (== Host.ksm_pages_shared {shared}) (== Host.ksm_pages_sharing {sharing})) 0 (/ 1 0))
             (with Guests g (if (== g.rss {resident}) 0 (/ 1 0)))"
        ));
        world.now += 5;
        let mut sample = world.sample();
        (sample.host.ksm, sample.host.page) = (Some(ksm), page.map(Bytes::from_kib));
        let decision = world.decide_on(&sample, Turn::Tick);
        assert_eq!((&told(&decision).trouble, told(&decision).failed), (&None, 0), "{page:?}");
    }
}

#[test]
fn what_a_guests_process_faulted_since_the_last_cycle_and_its_processors_are_shown() {
    use overcommit_core::sample::Faults;
    let mut world = running("0");
    let mut seen = |faults: Option<(u64, u64)>, shown: &str| {
        let program_text = format!("(with Guests g (if (and {shown} (== g.vcpu_count 3)) 0 (/ 1 0)))");
        world.policy.mom = Some(program(&[("main", &program_text)]));
        world.now += 5;
        let mut sample = world.sample();
        for guest in &mut sample.guests {
            guest.facts.faults = faults.map(|(minor, major)| Faults { minor, major });
            guest.config.vcpus = Some(3);
        }
        told(&world.decide_on(&sample, Turn::Tick)).failed
    };
    let since =
        |minor: u64, major: u64| format!("(== g.host_minor_faults {minor}) (== g.host_major_faults {major})");
    assert_eq!(seen(None, "(null g.host_minor_faults g.host_major_faults)"), 0);
    assert_eq!(seen(Some((1000, 50)), &since(0, 0)), 0, "since when, nobody knows");
    assert_eq!(seen(Some((1700, 53)), &since(700, 3)), 0);
    assert_eq!(seen(Some((1701, 53)), &since(1, 0)), 0);
    assert_eq!(seen(Some((5, 5)), &since(0, 0)), 0, "another process");
}

/// The program that `docs/mom.md` explains.
fn documented() -> &'static str {
    let docs = include_str!("../../../../docs/mom.md");
    docs.split_once("```lisp\n").unwrap().1.split_once("```").unwrap().0
}

#[test]
fn the_program_that_the_documentation_explains_does_what_it_says() {
    let checked = overcommit_policy::Program::parse(&[overcommit_policy::Source {
        name: "patient",
        bytes: documented().as_bytes(),
    }]);
    assert_eq!(checked.unwrap().check(), []);
    let mut world = running(documented());
    for _ in 0..2 {
        assert!(world.tick().plan.is_empty());
    }
    let third = world.tick();
    assert_eq!(told(&third).failed, 0, "{:?}", third.guests);
    assert_eq!([world.target("a"), world.target("b")], [950, 950]);
    // Who is not idle begins anew.
    world.guest("a").used = 500;
    world.tick();
    assert_eq!([world.target("a"), world.target("b")], [950, 902]);
    world.guest("a").used = 300;
    for _ in 0..2 {
        world.tick();
        assert_eq!(world.target("a"), 950);
    }
    world.tick();
    assert_eq!(world.target("a"), 902);
}

#[test]
fn a_program_decides_in_the_place_of_the_adaptive_engine() {
    // The node promised 2000 MiB and has 1500: the adaptive engine would take.
    let mut world = running("(defvar x 1)");
    world.anon_other = 2500;
    let decision = (0..5).map(|_| world.tick()).last().unwrap();
    assert!(!decision.ledger.shortfall.is_zero());
    assert_eq!([world.target("a"), world.target("b")], [1000, 1000]);
    world.policy.mom = None;
    settle(&mut world, 5);
    assert!(world.target("a") < 1000, "now it does");
}

#[test]
fn a_guest_is_shown_as_one_whose_processors_nobody_limits() {
    let limited =
        "(with Guests g (if (and (== g.vcpu_user_limit 100) (== g.vcpu_quota -1) (== g.vcpu_period 100000)
        (null g.vcpu_count g.io_tune)) (g.Control \"balloon_target\" 972800) (/ 1 0)))";
    let mut world = running(limited);
    assert_eq!(view(&world.tick(), "a").target, mib(950));
}

#[test]
fn what_a_guest_must_have_is_never_shown_as_more_than_what_it_may_have() {
    let mut world = running("(with Guests g (if (<= g.balloon_min g.balloon_max) 0 (/ 1 0)))");
    world.keep_found = true;
    world.guest("a").actual = 400;
    world.policy.classes[0].floor.bytes = mib(700);
    assert_eq!(told(&world.tick()).failed, 0);
    world.policy.mom = Some(program(&[("main", "(with Guests g (if (> g.balloon_max 409600) (/ 1 0) 0))")]));
    assert_eq!(told(&world.tick()).failed, 1, "b alone has more");
}

#[test]
fn the_slot_and_the_line_of_what_is_proposed_are_told() {
    let mut world = running("0");
    let take =
        "# one\n(with Guests guest\n  (guest.Control \"balloon_target\"\n    (* 0.95 guest.balloon_cur)))";
    world.policy.mom = Some(program(&[("00-defines", "(defvar x 1)"), ("10-take", take)]));
    let decision = world.tick();
    let reason = reason(&decision, "a");
    assert_eq!(reason, Reason::TakeProgram(Spot { slot: 2, line: 3 }));
    assert_eq!(reason.to_string(), "gives what the policy's program takes, line 3 of its slot 2");
}

#[test]
fn an_error_on_one_guest_is_told_and_hurts_no_other() {
    let mut world = running(
        "(with Guests guest (if (== (guest.Prop \"name\") \"a\")\n (guest.Control \"balloon_target\" (/ 1 0))\n \
         (guest.Control \"balloon_target\" 972800)))",
    );
    let decision = world.tick();
    let failed = view(&decision, "a");
    assert_eq!((failed.target, failed.reason), (mib(1000), Reason::ProgramFailed(line(2))));
    assert_eq!(failed.program.as_deref(), Some("main:2:35: division by zero"));
    assert_eq!((view(&decision, "b").target, &view(&decision, "b").program), (mib(950), &None));
    assert_eq!((told(&decision).failed, &told(&decision).trouble), (1, &None));
    // It is told between its turns as well.
    assert_eq!(reason(&world.turn(1, Turn::Relief), "a"), Reason::ProgramFailed(line(2)));
}

#[test]
fn an_error_of_the_whole_program_leaves_all_as_it_is_and_is_told() {
    let mut world = running("(with Guests guest (guest.Control \"balloon_target\" 1))\n(undefined 1)");
    let decision = world.tick();
    assert!(decision.plan.is_empty());
    assert_eq!(told(&decision).trouble.as_deref(), Some("main:2:2: undefined function undefined"));
    assert!(told(&decision).ran && !told(&world.turn(1, Turn::Relief)).ran);
    assert!(told(&world.turn(1, Turn::Relief)).trouble.is_some());
}

#[test]
fn what_is_no_size_is_refused_with_its_place_and_what_is_above_the_ceiling_is_the_ceiling() {
    for (value, words) in [
        ("-5", "-5, which is less than nothing"),
        ("1e30", "1e30, which is no size"),
        ("(* 1e308 10)", "inf, which is no size"),
        ("(- (* 1e308 10) (* 1e308 10))", "NaN, which is no size"),
        ("\"4 GiB\"", "a text, which is no size"),
        ("9000000000000000", "more than any machine has"),
        ("(<< 1 70)", "an integer that is no size"),
    ] {
        let mut world = running(&format!("(with Guests g (g.Control \"balloon_target\" {value}))"));
        let refused = view(&world.tick(), "a");
        assert_eq!((refused.target, refused.reason), (mib(1000), Reason::ProgramRefused(line(1))), "{value}");
        let told = refused.program.unwrap();
        assert!(told.starts_with("main:1:17: balloon_target is ") && told.contains(words), "{told}");
    }
    let mut world = running("(with Guests g (g.Control \"balloon_target\" 900000))");
    settle(&mut world, 3);
    assert!(world.target("a") < 1000);
    world.policy.mom = Some(program(&[("main", "(with Guests g (g.Control \"balloon_target\" 99999999))")]));
    world.tick();
    assert_eq!(world.target("a"), 1000);
}

#[test]
fn who_hurts_is_given_whatever_the_program_says_and_between_its_turns_too() {
    let mut world = running("(with Guests g (g.Control \"balloon_target\" 0))");
    settle(&mut world, 30);
    // The guard keeps what it uses, and 10 % of what it holds.
    let floor = world.target("a");
    assert!((333..=334).contains(&floor), "{floor}");
    world.guest("a").used = 330;
    let relieved = world.turn(1, Turn::Relief);
    let hurt = view(&relieved, "a");
    assert!(matches!(hurt.reason, Reason::GiveDistress(Pain::LowUsable { .. })), "{hurt:?}");
    assert_eq!(hurt.target, mib(1000));
    let next = view(&world.tick(), "a");
    assert!(matches!(next.reason, Reason::Held(Hold::Hurts(_) | Hold::BackingOff { .. })), "{next:?}");
    assert_eq!(next.target, mib(1000));
}

#[test]
fn in_an_emergency_the_adaptive_engine_takes_whatever_the_program_says() {
    let mut world = running("(with Guests g (g.Control \"balloon_target\" g.balloon_max))");
    (world.anon_other, world.available) = (3000, Some(10));
    let decision = (0..3).map(|_| world.tick()).last().unwrap();
    assert!(decision.emergency);
    assert!(world.target("a") < 1000 && world.target("b") < 1000, "{decision:?}");
}

#[test]
fn in_an_emergency_a_program_takes_nothing_itself_and_floors_are_given_back_after_it() {
    let mut world = running("(with Guests g (g.Control \"balloon_target\" 0))");
    // They use so little that they hurt nowhere.
    world.guests.iter_mut().for_each(|guest| guest.used = 60);
    world.policy.classes[0].floor.bytes = mib(500);
    world.policy.limits.take_per_guest = Amount::Bytes(mib(100));
    // So little is missing that one of them gives all of it.
    (world.anon_other, world.available) = (2010, Some(10));
    let decision = world.tick();
    assert!(decision.emergency && !decision.ledger.shortfall.is_zero());
    assert_eq!(decision.plan.moves().len(), 1, "{:?}", decision.plan);

    world.anon_other = 3900;
    for _ in 0..20 {
        let decision = world.tick();
        assert!(decision.emergency);
        assert!(!decision.guests.iter().any(|g| matches!(g.reason, Reason::TakeProgram(_))), "{decision:?}");
    }
    assert!(world.target("a") < 450, "the adaptive engine takes: {}", world.target("a"));

    world.policy.mom = Some(program(&[("main", "0")]));
    (world.anon_other, world.available) = (0, None);
    settle(&mut world, 20);
    // What is above it is the program's to give, and it gives nothing.
    assert_eq!([world.target("a"), world.target("b")], [500, 500]);
}

#[test]
fn a_floor_that_was_raised_is_given_whatever_the_program_says() {
    let mut world = running("(with Guests g (g.Control \"balloon_target\" 409600))");
    settle(&mut world, 20);
    assert_eq!(world.target("a"), 400);
    world.policy.mom = Some(program(&[("main", "(undefined 1)")]));
    world.policy.classes[0].floor.bytes = mib(700);
    let decision = world.tick();
    assert_eq!((view(&decision, "a").target, reason(&decision, "a")), (mib(700), Reason::GiveNeed));
}

#[test]
fn what_failed_for_a_guest_is_not_said_again_of_a_cycle_in_which_nothing_was_said() {
    let mut world = running("(with Guests g (/ 1 0))");
    assert!(view(&world.tick(), "a").program.is_some());
    world.policy.mom = Some(program(&[("main", "(undefined 1)")]));
    let decision = world.tick();
    assert_eq!((reason(&decision, "a"), &view(&decision, "a").program), (Reason::FullSize, &None));
}

#[test]
fn what_a_program_remembers_and_saw_lasts_over_cycles_and_over_being_written() {
    let count = "(with Guests g (let ((n (g.GetVar \"n\")))\n (g.SetVar \"n\" (if (null n) 1 (+ n 1)))))
        (Host.SetVar \"of_host\" (if (null (Host.GetVar \"of_host\")) 0.5 (* 2 (Host.GetVar \"of_host\"))))
        (with Guests g (if (== (g.GetVar \"n\") 4) (g.Control \"balloon_target\" (- g.balloon_max (* 1024 (* 10
            (Host.GetVar \"of_host\"))))) 0))";
    let mut world = running(count);
    for _ in 0..3 {
        assert!(world.tick().plan.is_empty());
        world.turn(1, Turn::Relief);
        world.state = written_and_read(&world.state);
    }
    // The fourth cycle: 0.5, doubled three times.
    world.tick();
    assert_eq!(world.target("a"), 960);
    // Another process under the same identity has nothing of it.
    world.guest("a").pid = 7;
    world.tick();
    world.policy.mom = Some(program(&[("main", "(with Guests g (if (null (g.GetVar \"n\"))\n (/ 1 0) 0))")]));
    let asked = world.tick();
    assert_eq!(reason(&asked, "b"), Reason::Enough);
    assert_eq!(told(&asked).failed, 0, "it has begun to count anew");
}

#[test]
fn averages_are_of_ten_control_periods() {
    let mut world = running("(with Guests g (if (== (g.StatAvg \"mem_unused\") 512000) 0 (/ 1 0)))");
    world.guest("a").used = 500;
    world.guest("b").used = 900;
    world.tick();
    world.guest("b").used = 500;
    for turn in 2..=10 {
        world.turn(1, Turn::Relief);
        assert_eq!(told(&world.tick()).failed, 1, "{turn}");
    }
    assert_eq!(told(&world.tick()).failed, 0, "what was before the last ten is forgotten");
}

#[test]
fn while_observing_shadow_balloons_follow_the_program() {
    let mut world = running("(with Guests g (g.Control \"balloon_target\" (* 0.95 g.balloon_cur)))");
    world.policy.mode = Mode::Observe;
    let decision = (0..40).map(|_| world.tick()).last().unwrap();
    assert!(decision.observing && decision.plan.is_empty());
    let target = view(&decision, "a").target;
    assert!((mib(333)..mib(352)).contains(&target), "{target}");
    assert_eq!(world.guest("a").actual, 1000);
}

#[test]
fn who_is_exempt_or_sends_nothing_is_not_shown_to_the_program() {
    let mut world = running(
        "(with Guests g (if (== (g.Prop \"name\") \"b\") (g.Control \"balloon_target\" 972800) (/ 1 0)))",
    );
    world.guest("a").opt_out = Some(overcommit_core::roster::OptOut::Annotation);
    assert_eq!(told(&world.tick()).failed, 0);
    let mut world = running(
        "(with Guests g (if (== (g.Prop \"name\") \"b\") (g.Control \"balloon_target\" 972800) (/ 1 0)))",
    );
    (world.guest("a").reports, world.guest("a").stamp) = (false, 0);
    let decision = world.tick();
    assert_eq!((told(&decision).failed, world.target("b")), (0, 950));
    assert_eq!(reason(&decision, "a"), Reason::Held(Hold::NoStatistics));
}

#[test]
fn a_change_within_the_dead_band_is_not_made() {
    let mut world = running("(with Guests g (g.Control \"balloon_target\" (- g.balloon_cur 20480)))");
    world.policy.limits.dead_band = Amount::Part(Permille::from_percent(3));
    assert!(world.tick().plan.is_empty());
    world.policy.limits.dead_band = Amount::Part(Permille::from_percent(1));
    assert!(!world.tick().plan.is_empty());
}

#[test]
fn programs_that_mean_harm_end_and_leave_their_neighbours_alone() {
    for (text, whole) in [
        ("(def f (n) (f (+ n 1)))(f 0)", true),
        ("(def f (n) (+ (f n) (f n)))(with Guests g (f 0))", false),
        ("(def f (n) (if (< n 60) (+ (f (+ n 1)) (f (+ n 1))) 1))(with Guests g (f 0))", true),
        ("(defvar x \"0123456789abcdef\")(def f (n) {(set x (+ x x)) (f n)})(f 0)", true),
        ("(def f (n) {(Host.SetVar \"v\" (<< 1 (* 1000 n))) (f (+ n 1))})(f 0)", true),
    ] {
        let mut world = running(text);
        let decision = world.tick();
        assert!(decision.plan.is_empty());
        assert_eq!(told(&decision).trouble.is_some(), whole, "{text}: {:?}", told(&decision));
    }
}

#[test]
fn what_a_program_tells_and_nobody_does_is_noted_in_bounds() {
    let many: Vec<String> =
        (0..1000).map(|n| format!("(g.Control \"c{n}\" {n})(g.SetVar \"v{n}\" {n})")).collect();
    let many = many.concat();
    let mut world = running(&format!(
        "(with Guests g {{(g.Control \"vcpu_quota\" 1) {many}}})(Host.Control \"ksm_run\" 1)"
    ));
    let decision = (0..3).map(|_| world.tick()).last().unwrap();
    assert!(decision.plan.is_empty() && told(&decision).trouble.is_none() && told(&decision).failed == 0);
    let notes = &told(&decision).notes;
    assert!(
        notes.len() <= 8 && notes.iter().any(|note| note.starts_with("ksm_run is not applied")),
        "{notes:?}"
    );
    let written = serde_json::to_string(&world.state).unwrap();
    assert!(written.len() < 40_000, "{}", written.len());
}

#[test]
fn a_policy_without_a_program_tells_nothing_of_one_and_keeps_nothing() {
    let mut world = running(STOCK);
    world.tick();
    assert!(serde_json::to_string(&world.state).unwrap().contains("\"mom\""));
    world.policy.mom = None;
    let decision = world.tick();
    assert!(decision.program.is_none());
    assert!(!serde_json::to_string(&world.state).unwrap().contains("\"mom\""));
}

#[test]
fn what_a_program_asks_of_merging_is_noted_where_it_cannot_be_done() {
    let mut world = running(
        "(Host.Control \"ksm_run\" 2)(Host.Control \"ksm_merge_across_nodes\" 0)(Host.Control \"ksm_pages_to_scan\" \"x\")",
    );
    world.policy.ksm.mode = KsmMode::Program;
    let decision = world.tick();
    assert_eq!(decision.ksm.reason, overcommit_core::ksm::Reason::NoKsm);
    let notes = &told(&decision).notes;
    for words in [
        "ksm_run 2 is taken as 0",
        "ksm_merge_across_nodes is not applied",
        "ksm_pages_to_scan is not applied",
    ] {
        assert!(notes.iter().any(|note| note.starts_with(words)), "{words}: {notes:?}");
    }
    assert!(told(&decision).trouble.is_none());
    let mut world = running("(Host.Control \"ksm_run\" 3)");
    world.policy.ksm.mode = KsmMode::Program;
    let notes = told(&world.tick()).notes.clone();
    assert!(notes.contains("ksm_run 3 is taken as 0: the kernel takes no more than 2"), "{notes:?}");
}

#[test]
fn who_hurts_gets_what_others_need_too_for_a_program_knows_no_needs() {
    // The adaptive engine would share what is spare among all that are below what they need.
    let mut world = running("(with Guests g (g.Control \"balloon_target\" 0))");
    settle(&mut world, 30);
    world.anon_other = 3100;
    world.guest("a").used = 330;
    let decision = world.turn(1, Turn::Relief);
    let hurt = view(&decision, "a");
    let given: u64 =
        decision.plan.moves().iter().filter(|m| !m.takes()).map(|m| m.to.minus(m.from).get()).sum();
    assert!(matches!(hurt.reason, Reason::GiveDistress(_)), "{hurt:?}");
    assert!(
        decision.ledger.spare.get().saturating_sub(given) < 1 << 16,
        "{given} of {}",
        decision.ledger.spare
    );
}
