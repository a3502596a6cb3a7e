//! The course of a node by its recording, whoever recorded it: an agent on real guests, or the simulator.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use overcommit_core::plan::Move;
use overcommit_core::units::Bytes;
use overcommit_record::{Made, Played, Player};

/// So near to where it comes to rest a balloon rests: what emulators come to need moves it by as much later.
const NEAR: Bytes = Bytes::from_mib(16);

/// A node over time, turn by turn.
#[derive(Clone, Debug)]
pub struct Course {
    points: Vec<Point>,
}

/// The node at one turn.
#[derive(Clone, Debug)]
pub struct Point {
    /// Since the first turn.
    pub at: Duration,
    /// The wall clock.
    pub wall: Duration,
    /// The host's memory.
    pub total: Bytes,
    /// What was promised to guests.
    pub promised: Bytes,
    /// What was missing.
    pub shortfall: Bytes,
    /// Each guest by its name.
    pub guests: BTreeMap<String, Seen>,
    /// What was decided.
    pub moves: Vec<Move>,
}

/// A guest at one turn.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Full size.
    pub full: Bytes,
    /// What its balloon leaves it.
    pub actual: Bytes,
    /// What its process holds of the host's memory.
    pub resident: Bytes,
    /// What of that is not its memory, once it is measured.
    pub overhead: Option<Bytes>,
    /// What it said of itself last, if anything.
    pub words: Option<Words>,
}

/// A guest's own words.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// `MemTotal`.
    pub total: Bytes,
    /// `MemFree`.
    pub free: Bytes,
    /// `MemAvailable`.
    pub usable: Bytes,
}

impl Seen {
    /// It has spoken, and what its process needs besides is measured.
    pub fn is_known(&self) -> bool {
        self.words.is_some() && self.overhead.is_some()
    }
}

impl Course {
    /// Reads a recording.
    ///
    /// # Errors
    /// When it cannot be read or played whole.
    pub fn read(recording: &Path) -> Result<Self> {
        let read = overcommit_record::read(recording)?;
        let (mut player, mut points) = (Player::default(), Vec::<Point>::new());
        let (mut first, mut failed) = (None, None);
        read.lines(|line| match player.play(line) {
            Ok(Played::Decided(made)) => {
                let first = *first.get_or_insert(made.sample.at);
                points.push(Point::of(&made, made.sample.at.since(first)));
            }
            Ok(_) => {}
            Err(error) => failed = failed.take().or(Some(error)),
        });
        ensure!(failed.is_none() && !points.is_empty(), "{failed:?}, {} turns", points.len());
        Ok(Self { points })
    }

    /// Its turns.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// When this moment of the wall clock was, since the first turn.
    pub fn when(&self, wall: Duration) -> Duration {
        wall.saturating_sub(self.points.first().map_or(wall, |point| point.wall))
    }

    /// When this guest was known first.
    pub fn known(&self, guest: &str) -> Option<Duration> {
        let known = |point: &&Point| point.guests.get(guest).is_some_and(Seen::is_known);
        self.points.iter().find(known).map(|point| point.at)
    }

    /// This guest at the last turn before `until`.
    pub fn before(&self, guest: &str, until: Duration) -> Option<&Seen> {
        self.points.iter().rfind(|point| point.at < until)?.guests.get(guest)
    }

    /// The part from one time to another.
    pub fn between(&self, from: Duration, until: Duration) -> impl Iterator<Item = &Point> {
        self.points.iter().filter(move |point| point.at >= from && point.at < until)
    }

    /// When this guest was first told to move, from then on: down or up.
    pub fn moved(&self, guest: &str, down: bool, from: Duration) -> Option<Duration> {
        let so = |step: &Move| &*step.name.name == guest && (step.to < step.from) == down;
        self.points.iter().find(|point| point.at >= from && point.moves.iter().any(so)).map(|p| p.at)
    }

    /// What this guest held at a time, in MiB.
    pub fn actual_mib(&self, guest: &str, at: Duration) -> Option<f64> {
        let point = self.points.iter().rfind(|point| point.at <= at)?;
        point.guests.get(guest).map(|seen| mib(seen.actual))
    }

    /// From when on it held what it held in the end.
    pub fn at_rest(&self, guest: &str, from: Duration, until: Duration) -> Option<Duration> {
        let held = |point: &Point| point.guests.get(guest).map(|seen| seen.actual);
        let last = held(self.between(from, until).last()?)?;
        let away = |actual: Bytes| actual.max(last).minus(actual.min(last)) > NEAR;
        let mut rest = None;
        for point in self.between(from, until) {
            match held(point) {
                Some(actual) if !away(actual) => rest = rest.or(Some(point.at)),
                _ => rest = None,
            }
        }
        rest
    }
}

impl Point {
    fn of(made: &Made, at: Duration) -> Self {
        let guests = made.sample.guests.iter().filter_map(|guest| {
            let balloon = guest.balloon?;
            let words = balloon.last_update.filter(|at| *at > 0).and_then(|_| {
                Some(Words { total: balloon.available?, free: balloon.unused?, usable: balloon.usable? })
            });
            let seen = Seen {
                full: guest.config.full,
                actual: balloon.actual,
                resident: guest.facts.resident.unwrap_or_default(),
                overhead: guest.facts.overhead,
                words,
            };
            Some((guest.name.name.to_string(), seen))
        });
        Self {
            at,
            wall: made.sample.wall,
            total: made.sample.host.memory.total,
            promised: made.recorded.ledger.promised,
            shortfall: made.recorded.ledger.shortfall,
            guests: guests.collect(),
            moves: made.recorded.moves.to_vec(),
        }
    }
}

/// For people and comparisons.
pub fn mib(bytes: Bytes) -> f64 {
    f64::from(u32::try_from(bytes.to_kib_floor()).unwrap_or(u32::MAX)) / 1024.0
}
