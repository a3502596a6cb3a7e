//! The corpus against every target: seeds as they are, and stretched and damaged in ways that are the same each time.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // helpers outside #[test] functions are test code too

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use overcommit_fuzz::{LONGEST, TARGETS, Target};
use rustix::time::{ClockId, clock_gettime};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// Names and contents of a target's inputs, by name.
fn inputs(target: &Target) -> Vec<(String, Vec<u8>)> {
    let dir = corpus().join(target.name);
    let entries = fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut inputs: Vec<(String, Vec<u8>)> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.display().to_string(), fs::read(&path).unwrap())
        })
        .collect();
    inputs.sort();
    inputs
}

fn try_input(target: &Target, name: &str, input: &[u8]) {
    let taken = catch_unwind(AssertUnwindSafe(|| (target.check)(input)));
    let shown = String::from_utf8_lossy(input.get(..200).unwrap_or(input)).into_owned();
    assert!(taken.is_ok(), "{} does not take {name}, {} bytes: {shown:?}", target.name, input.len());
}

#[test]
fn every_folder_is_a_targets_and_every_target_has_seeds() {
    for entry in fs::read_dir(corpus()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(overcommit_fuzz::target(&name).is_some(), "{name} is no target");
    }
    for target in TARGETS {
        let whole = inputs(target).iter().filter(|(name, _)| !name.contains("/found-")).count();
        assert!(whole > 0, "{} has no seeds", target.name);
    }
}

#[test]
fn every_input_of_the_corpus_is_taken() {
    for target in TARGETS {
        try_input(target, "nothing", &[]);
        for (name, input) in inputs(target) {
            try_input(target, &name, &input);
        }
    }
}

/// The same numbers each time.
struct Dice(u64);

impl Dice {
    /// Below `end` (xorshift64, Marsaglia 2003).
    fn roll(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end.max(1)).unwrap()).unwrap()
    }
}

/// Text at which parsers stumble.
const WORDS: [&[u8]; 12] = [
    b"18446744073709551615",
    b"18446744073709551616",
    b"-1",
    b"0",
    b" ",
    b"\n",
    b"\0",
    b"\xff",
    b"/../",
    b"\"",
    b"<a>",
    b"9999999999999999999999999999999999999999",
];

/// One to four small damages.
fn damaged(input: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=dice.roll(4) {
        let (at, other) = (dice.roll(bytes.len() + 1), dice.roll(bytes.len() + 1));
        let (from, to) = (at.min(other), at.max(other));
        match dice.roll(5) {
            0 => drop(bytes.drain(from..to)),
            1 => {
                let piece = bytes[from..to].to_vec();
                bytes.splice(at..at, piece);
            }
            2 => drop(bytes.splice(at..at, WORDS[dice.roll(WORDS.len())].iter().copied())),
            3 => {
                let digits = bytes[at..].iter().take_while(|b| b.is_ascii_digit()).count();
                bytes.splice(at..at + digits, WORDS[dice.roll(WORDS.len())].iter().copied());
            }
            _ if at < bytes.len() => bytes[at] ^= 1 << dice.roll(8),
            _ => {}
        }
        bytes.truncate(LONGEST);
    }
    bytes
}

#[test]
fn damaged_inputs_are_taken() {
    const TIMES: usize = 100;
    for target in TARGETS {
        for (name, input) in inputs(target).iter().filter(|(_, input)| input.len() < 8 << 10) {
            let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
            for _ in 0..TIMES {
                try_input(target, name, &damaged(input, &mut dice));
            }
        }
    }
}

/// Time that this thread has worked.
fn worked() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

fn repeated(piece: &[u8]) -> Vec<u8> {
    piece.iter().copied().cycle().take(LONGEST).collect()
}

/// Nothing is quadratic: 64 KiB of anything are worked off in a time that a square of it would exceed many times.
#[test]
fn a_long_input_takes_no_longer_than_its_length() {
    const AT_MOST: Duration = Duration::from_secs(2);
    let pieces: [&[u8]; 18] = [
        b"[",
        b"{",
        b"<a>",
        b"<a xmlns:a='a'>",
        b" a='a'",
        b"&a ",
        b"*a ",
        b"- ",
        b"? ",
        b": ",
        b"\"",
        b"a,",
        b",,=",
        b"0",
        b"\n",
        b"a: ",
        b"\\",
        b"(",
    ];
    for target in TARGETS {
        let inputs = inputs(target);
        let seeds = inputs.iter().map(|(_, input)| input.as_slice()).filter(|input| !input.is_empty());
        for piece in pieces.into_iter().chain(seeds) {
            let input = repeated(piece);
            let before = worked();
            try_input(target, "a long input", &input);
            let took = worked().saturating_sub(before);
            assert!(took < AT_MOST, "{} took {took:?} for {:?}", target.name, String::from_utf8_lossy(piece));
        }
    }
}
