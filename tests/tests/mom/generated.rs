//! Programs by chance on both evaluators, a thousandth of them wrong on purpose somewhere.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Result, anyhow, bail};
use overcommit_tests::mom::{Answer, Oracle};
use overcommit_tests::parts::say;

use crate::differences::{ISOLATION, Verdict, alike, compare, explains, judge, row};
use crate::generate::{CONSTRUCTS, Generated, Node};
use crate::ours::Ours;

/// How many programs.
const PROGRAMS: u64 = 20_000;
/// How often each construct is generated at least.
const AT_LEAST: u32 = 20;
/// Of the programs, so many parts give values in both evaluators, at least (percent).
const WITH_VALUES: u64 = 60;
/// Kinds of differences that a failing run shows, one of each, made as small as it can be.
const SHOWN: usize = 5;
/// How many smaller programs are tried for one.
const ATTEMPTS: u32 = 600;

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

#[derive(Debug, Default)]
struct Tally {
    constructs: BTreeMap<&'static str, u32>,
    rows: BTreeMap<&'static str, u32>,
    values: u64,
    errors: u64,
    differing: Vec<u64>,
}

impl Tally {
    fn add(mut self, other: Self) -> Self {
        for (construct, count) in other.constructs {
            *self.constructs.entry(construct).or_default() += count;
        }
        for (row, count) in other.rows {
            *self.rows.entry(row).or_default() += count;
        }
        self.values += other.values;
        self.errors += other.errors;
        self.differing.extend(other.differing);
        self
    }
}

/// `OVERCOMMIT_SEED` and `OVERCOMMIT_PROGRAMS` take others, and more.
#[test]
fn both_make_the_same_of_twenty_thousand_programs_by_chance() -> Result<()> {
    let (seed, programs) = (number("OVERCOMMIT_SEED", 1), number("OVERCOMMIT_PROGRAMS", PROGRAMS));
    let next = AtomicU64::new(0);
    let workers = thread::available_parallelism()?.get();
    let mut tally = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(|| work(&next, seed, programs))).collect();
        let done =
            workers.into_iter().map(|worker| worker.join().map_err(|_| anyhow!("a worker panicked"))?);
        done.collect::<Result<Vec<_>>>().map(|tallies| tallies.into_iter().fold(Tally::default(), Tally::add))
    })?;
    say(&format!(
        "MOM and we on {programs} programs (seed {seed}): {} with values, {} with errors in both, on purpose {:?}",
        tally.values, tally.errors, tally.rows
    ));
    if !tally.differing.is_empty() {
        tally.differing.sort_unstable();
        bail!("{}", shown(seed, &tally.differing)?);
    }
    let rare: Vec<_> = CONSTRUCTS
        .iter()
        .filter(|construct| tally.constructs.get(*construct).copied().unwrap_or(0) < AT_LEAST)
        .collect();
    assert!(rare.is_empty() || programs < PROGRAMS, "seldom or never generated: {rare:?}");
    assert!(tally.values * 100 >= programs * WITH_VALUES, "only {} of {programs} gave values", tally.values);
    Ok(())
}

fn work(next: &AtomicU64, seed: u64, programs: u64) -> Result<Tally> {
    let mut oracle = Oracle::start()?;
    let mut tally = Tally::default();
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        if index >= programs {
            return Ok(tally);
        }
        let generated = Generated::of(seed.wrapping_mul(1 << 32).wrapping_add(index));
        for (construct, count) in &generated.counts {
            *tally.constructs.entry(construct).or_default() += count;
        }
        let (mom, _, verdict) = answers(&mut oracle, &generated)?;
        match (verdict, mom) {
            (Verdict::Same, Answer::Whole(_)) => tally.values += 1,
            (Verdict::Same, Answer::Error { .. }) => tally.errors += 1,
            (Verdict::OnPurpose(row), _) => *tally.rows.entry(row).or_default() += 1,
            (Verdict::Unexplained, _) => tally.differing.push(index),
        }
    }
}

/// As [`judge`], and two errors have to be one, or MOM's a guest's, which ends all of it there; some programs have a text in them
/// that is no token.
fn answers(oracle: &mut Oracle, generated: &Generated) -> Result<(Answer, Ours, Verdict)> {
    let case = generated.case();
    let ours = Ours::of(&case);
    let (mom, verdict) = judge(oracle, &case, &ours)?;
    let is_one = |mom: &Answer| compare(mom, &ours) == Verdict::Same && alike(mom, &ours);
    let verdict = match verdict {
        Verdict::Same if is_one(&mom) => Verdict::Same,
        Verdict::Same if is_one(&oracle.ask_isolating(&case)?) => Verdict::OnPurpose(ISOLATION),
        Verdict::Same => Verdict::Unexplained,
        other => other,
    };
    let unlexable = row("unlexable-text").filter(|_| generated.counts.contains_key("unlexable"));
    // What comes before it may fail in MOM, which drops the rest.
    let fails_both = verdict == Verdict::Unexplained && matches!(ours, Ours::NoProgram(_));
    let unlexable = unlexable.filter(|row| fails_both || explains(row, &mom, &ours));
    let verdict = unlexable.map_or(verdict, |row| Verdict::OnPurpose(row.name));
    Ok((mom, ours, verdict))
}

/// The first differences, as small as they get.
fn shown(seed: u64, differing: &[u64]) -> Result<String> {
    let mut oracle = Oracle::start()?;
    let mut text = format!("{} programs of seed {seed} differ:", differing.len());
    let mut kinds = Vec::new();
    for index in differing {
        let whole = Generated::of(seed.wrapping_mul(1 << 32).wrapping_add(*index));
        let (mom, ours, _) = answers(&mut oracle, &whole)?;
        if kinds.contains(&signature(&mom, &ours)) || kinds.len() == SHOWN {
            continue;
        }
        kinds.push(signature(&mom, &ours));
        let small = shrunk(&mut oracle, whole)?;
        let (mom, ours, _) = answers(&mut oracle, &small)?;
        let files = small.case().files;
        let program: Vec<_> = files.iter().map(|file| String::from_utf8_lossy(file)).collect();
        let program = program.join("\n---\n");
        write!(
            text,
            "\n\nprogram {index}: {program}\n  MOM: {mom}\n  ours: {ours}\n  input: {}",
            small.input
        )?;
    }
    Ok(text)
}

/// What two differences have in common that are probably one: how the two ended.
fn signature(mom: &Answer, ours: &Ours) -> (String, String) {
    let class = match mom {
        Answer::Whole(_) => "values".into(),
        Answer::Error { class, .. } => class.clone(),
    };
    let words = ours.error().unwrap_or("values").chars().filter(|letter| !letter.is_ascii_digit()).collect();
    (class, words)
}

/// A smaller program that differs still.
fn shrunk(oracle: &mut Oracle, mut smallest: Generated) -> Result<Generated> {
    let mut left = ATTEMPTS;
    let mut differs = |candidate: &Generated| -> Result<bool> {
        let (.., verdict) = answers(oracle, candidate)?;
        Ok(verdict == Verdict::Unexplained)
    };
    let plain = Generated { style: 0, ..smallest.clone() };
    if differs(&plain)? {
        smallest = plain;
    }
    'again: loop {
        for program in smaller(&smallest.program) {
            left = match left.checked_sub(1) {
                Some(left) if !program.is_empty() => left,
                Some(_) => continue,
                None => return Ok(smallest),
            };
            let candidate = Generated { program, ..smallest.clone() };
            if differs(&candidate)? {
                smallest = candidate;
                continue 'again;
            }
        }
        return Ok(smallest);
    }
}

/// The same row of values with one left out, or one made smaller.
fn smaller(nodes: &[Node]) -> Vec<Vec<Node>> {
    let mut all = Vec::new();
    for index in 0..nodes.len() {
        let mut without = nodes.to_vec();
        without.remove(index);
        all.push(without);
    }
    for (index, node) in nodes.iter().enumerate() {
        for less in simpler(node) {
            let mut with = nodes.to_vec();
            with[index] = less;
            all.push(with);
        }
    }
    all
}

fn simpler(node: &Node) -> Vec<Node> {
    let parts = node.parts();
    if parts.is_empty() {
        return Vec::new();
    }
    let mut all = vec![Node::atom("1")];
    all.extend(parts.iter().skip(1).cloned());
    all.extend(smaller(parts).into_iter().map(|parts| node.with_parts(parts)));
    all
}
