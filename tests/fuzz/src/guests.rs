//! What a guest's driver and a tenant's libvirt say.

use std::collections::BTreeSet;
use std::time::Duration;

use overcommit_core::plan::{Failed, Outcome};
use overcommit_core::policy::{Class, Floor, Limits, Mode, Policy, Reserve};
use overcommit_core::roster::{Membership, Roster};
use overcommit_core::sample::{
    Balloon, GuestConfig, GuestId, GuestName, GuestSample, HostMemory, HostSample, Incarnation, ProcessFacts,
    RunState, Sample,
};
use overcommit_core::step::{Decision, Input, Mandate, State, Turn};
use overcommit_core::units::{Amount, Bytes, Monotonic, Permille};
use overcommit_guest::fuzz;

use crate::cursor::{Cursor, KIB};
use crate::lossy;

/// A definition is understood or refused in a sentence; a guest without balloon has no period, and nothing is untouchable
/// twice.
pub(crate) fn definition(bytes: &[u8]) {
    let text = lossy(bytes);
    let shown = fuzz::text(&text);
    assert!(shown.chars().count() <= 400 && !shown.contains(char::is_control));
    match fuzz::definition(&text) {
        Ok((config, period)) => {
            assert_eq!(config.has_balloon, period.is_some());
            assert!(config.has_balloon || !config.free_page_reporting);
            assert!(!config.plugging || !config.plugged.is_zero());
            let mut seen = Vec::new();
            for fact in &config.untouchable {
                assert!(!seen.contains(fact), "{fact:?}");
                seen.push(*fact);
            }
            // Space before the document is allowed nowhere but there.
            assert_eq!(fuzz::definition(&format!("{text}\n<!-- -->")), Ok((config, period)));
        }
        Err(why) => assert!(why.contains("definition"), "{why}"),
    }
}

/// Pairs of a tag and a number.
fn pairs(cursor: &mut Cursor<'_>) -> Vec<(u32, u64)> {
    let count = cursor.byte() % 16;
    (0..count).map(|_| (u32::from(cursor.byte() % 16), cursor.number(KIB))).collect()
}

/// No number that was not said, none that QEMU sets where nothing was said.
pub(crate) fn balloon(bytes: &[u8]) {
    let mut cursor = Cursor::new(bytes);
    let said = pairs(&mut cursor);
    let word =
        |tag: u32| said.iter().find(|said| said.0 == tag).map(|said| said.1).filter(|v| *v < u64::MAX >> 10);
    let Some(balloon) = fuzz::balloon(&said, Some(1)) else {
        assert_eq!(word(6), None);
        return;
    };
    let sizes = [
        (6, Some(balloon.actual)),
        (5, balloon.available),
        (4, balloon.unused),
        (8, balloon.usable),
        (0, balloon.swap_in),
        (1, balloon.swap_out),
    ];
    let numbers = [(2, balloon.major_faults), (3, balloon.minor_faults), (9, balloon.last_update)];
    for (tag, value) in sizes {
        assert_eq!(value, word(tag).map(Bytes::from_kib), "{tag}");
    }
    for (tag, value) in numbers {
        assert_eq!(value, word(tag).filter(|v| tag != 9 || *v > 0), "{tag}");
    }
}

/// What each guest is in the course below.
const FULL: Bytes = Bytes::from_gib(1);
/// What the honest one uses.
const USED: Bytes = Bytes::from_mib(300);
/// However a daemon cuts what it sends, a message passes if its length is one that is read, and nothing behind one that is not.
pub(crate) fn relay(bytes: &[u8]) {
    const LENGTHS: std::ops::RangeInclusive<u32> = 28..=(1 << 20) + (64 << 10);
    let mut good = 0;
    let mut rest = bytes;
    let refused = loop {
        let Some((head, _)) = rest.split_first_chunk::<4>() else { break false };
        let length = u32::from_be_bytes(*head);
        if !LENGTHS.contains(&length) {
            break true;
        }
        let Some(next) = rest.get(length as usize..) else { break false };
        good += length as usize;
        rest = next;
    };
    for size in [1, 3, 4, 5, 1000, bytes.len().max(1)] {
        let passed = fuzz::relayed(bytes.chunks(size));
        // The piece that ends the word of a bad length is the first that does not pass.
        let want = if refused { (good + 3) / size } else { bytes.chunks(size).len() };
        assert_eq!(passed, want, "in pieces of {size}");
    }
}

/// What its processes need beside it.
const OVERHEAD: Bytes = Bytes::from_mib(100);

/// A guest that says whatever it likes, beside one that tells the truth, on a node that is short: the honest one is never
/// taken below what it uses, the other never charged less than its processes hold, and every turn says why.
pub(crate) fn hostile_guest(bytes: &[u8]) {
    let mut cursor = Cursor::new(bytes);
    let policy = policy();
    let roster = roster();
    let mut state = State::default();
    let mut honest = FULL;
    let (mut now, mut wall) = (Duration::from_hours(1), 1_700_000_000_u64);
    for turn in 0..24 {
        if cursor.is_empty() {
            break;
        }
        now = now.saturating_add(Duration::from_secs(u64::from(cursor.byte() % 16)));
        wall = if cursor.byte() == 255 { cursor.number(KIB) } else { wall.saturating_add(5) };
        let hostile = hostile(&mut cursor);
        let held = hostile.facts.anon;
        let sample = sample(now, wall, vec![hostile, truthful(honest, wall)]);
        let turn = if turn % 4 == 3 { Turn::Relief } else { Turn::Tick };
        let input = Input {
            sample: &sample,
            policy: &policy,
            roster: &roster,
            turn,
            mandate: Mandate::Full,
            complete: true,
            eviction: Bytes::from_mib(100),
            keep_found: false,
            telling: true,
        };
        let decision = state.step(&input);
        check(&decision, held);
        let done = carry_out(&decision, cursor.byte());
        for Outcome { command, .. } in done.iter().filter(|o| o.result.is_ok()) {
            if let overcommit_core::plan::Command::SetTarget { id, to, .. } = command
                && id.as_str() == "honest"
            {
                honest = *to;
            }
        }
        state.note(&done);
    }
    let text = serde_json::to_vec(&state).expect("a state can be written");
    assert_eq!(serde_json::from_slice::<State>(&text).expect("and read"), state);
}

/// Some turns with two guests that tell the truth, from a state that may have any past.
pub(crate) fn live_with(state: &mut State) {
    let (policy, roster) = (policy(), roster());
    let mut held = [FULL, FULL];
    for turn in 0..12 {
        let (now, wall) = (Duration::from_secs(3600 + 5 * turn), 1_700_000_000 + 5 * turn);
        let twin = GuestSample {
            id: GuestId::new("hostile"),
            name: GuestName::standalone("hostile"),
            ..truthful(held[1], wall)
        };
        let sample = sample(now, wall, vec![truthful(held[0], wall), twin]);
        let input = Input {
            sample: &sample,
            policy: &policy,
            roster: &roster,
            turn: Turn::Tick,
            mandate: Mandate::Full,
            complete: true,
            eviction: Bytes::from_mib(100),
            keep_found: false,
            telling: true,
        };
        let decision = state.step(&input);
        check(&decision, None);
        assert!(decision.guests.iter().all(|view| view.target >= USED));
        state.note(&carry_out(&decision, 0));
        for step in decision.plan.moves() {
            held[usize::from(step.id.as_str() == "hostile")] = step.to;
        }
    }
}

fn check(decision: &Decision, held: Option<Bytes>) {
    let ledger = &decision.ledger;
    assert_eq!(decision.guests.len(), 2);
    assert!(ledger.budget <= ledger.total && ledger.spare <= ledger.budget);
    assert_eq!(ledger.shortfall, ledger.committed.minus(ledger.budget));
    for view in &decision.guests {
        assert!((1..=400).contains(&view.reason.to_string().len()), "{}", view.reason);
        if view.id.as_str() == "honest" {
            assert!(view.target >= USED, "{view:?}");
        } else if let Some(held) = held {
            // Measurements are not of one moment: some is allowed for.
            assert!(view.charge.plus(Bytes::from_mib(16)) >= held, "{view:?}");
        }
    }
    let mut moved = BTreeSet::new();
    for step in decision.plan.moves() {
        // Who says that it holds more than it can is taken from there.
        let sane = if step.takes() { step.to < step.from } else { step.from < step.to && step.to <= FULL };
        assert!(sane && moved.insert(&step.id), "{step:?}");
    }
}

/// Commands succeed, or are refused or not answered by a bit each.
fn carry_out(decision: &Decision, fails: u8) -> Vec<Outcome> {
    let commands = decision.plan.commands().chain(decision.periods.clone()).chain(decision.again.clone());
    let result = |at: usize| match at % 3 {
        _ if fails >> (at % 8) & 1 == 0 => Ok(()),
        0 => Err(Failed::unanswered("no answer")),
        _ => Err("refused".into()),
    };
    commands.enumerate().map(|(at, command)| Outcome { command, result: result(at) }).collect()
}

fn hostile(cursor: &mut Cursor<'_>) -> GuestSample {
    let period = cursor.optional(|c| u32::try_from(c.number(KIB)).unwrap_or(u32::MAX));
    let states =
        [RunState::Running, RunState::Running, RunState::Paused, RunState::Busy, RunState::Unreachable];
    let run_state = states[usize::from(cursor.byte()) % states.len()];
    let balloon = fuzz::balloon(&pairs(cursor), period);
    let facts = ProcessFacts {
        resident: cursor.optional(Cursor::bytes),
        anon: Some(cursor.bytes()),
        overhead: Some(OVERHEAD),
        ..ProcessFacts::default()
    };
    guest("hostile", run_state, balloon, facts)
}

fn truthful(target: Bytes, wall: u64) -> GuestSample {
    let balloon = Balloon {
        actual: target,
        last_update: Some(wall),
        period: Some(1),
        available: Some(target),
        unused: Some(target.minus(USED)),
        usable: Some(target.minus(USED)),
        ..Balloon::default()
    };
    let held = USED.plus(OVERHEAD);
    let facts = ProcessFacts {
        resident: Some(held),
        anon: Some(held),
        overhead: Some(OVERHEAD),
        ..ProcessFacts::default()
    };
    guest("honest", RunState::Running, Some(balloon), facts)
}

fn guest(name: &str, run_state: RunState, balloon: Option<Balloon>, facts: ProcessFacts) -> GuestSample {
    GuestSample {
        id: GuestId::new(name),
        name: GuestName::standalone(name),
        incarnation: Some(Incarnation { pid: 7, start_ticks: 1 }),
        config: GuestConfig {
            full: FULL,
            plugged: Bytes::ZERO,
            plugging: false,
            has_balloon: true,
            free_page_reporting: false,
            untouchable: Vec::new(),
            vcpus: None,
        },
        run_state,
        balloon,
        facts,
        facts_age: Some(Duration::ZERO),
        trouble: None,
    }
}

/// A node of 2 GiB of which the two want all.
fn sample(now: Duration, wall: u64, guests: Vec<GuestSample>) -> Sample {
    let held: Bytes = guests.iter().filter_map(|g| g.facts.anon).sum();
    let total = Bytes::from_gib(2);
    let memory = HostMemory { total, available: total.minus(held), anon: held, ..HostMemory::default() };
    let host = HostSample { memory, ..HostSample::default() };
    Sample {
        at: Monotonic::new(now),
        wall: Duration::from_secs(wall),
        host_age: Duration::ZERO,
        host,
        guests,
        strangers: Vec::new(),
    }
}

fn policy() -> Policy {
    let part = |n| Amount::Part(Permille::new(n));
    Policy {
        mode: Mode::Enforce,
        interval: Duration::from_secs(5),
        classes: vec![Class {
            name: "all".into(),
            floor: Floor { part: Permille::new(100), bytes: Bytes::ZERO, below_request: false },
            weight: 100,
            exclude: false,
        }],
        reserve: Reserve { minimum: Amount::Bytes(Bytes::ZERO), growth_quantile: Permille::new(990) },
        limits: Limits { take_per_guest: part(300), take_per_node: part(300), dead_band: part(10) },
        ksm: overcommit_core::policy::Ksm::default(),
        adaptive: overcommit_core::policy::Adaptive::default(),
        mom: None,
    }
}

fn roster() -> Roster {
    let member = || Membership { class: Some("all".into()), opt_out: None, migrating: false };
    Roster::by_name(["hostile", "honest"].map(|name| (GuestName::standalone(name), member())))
}
