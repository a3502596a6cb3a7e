//! Two courses of one scenario, and what of them is compared within which bounds. The bounds stand in `docs/simulator.md`.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overcommit_tests::course::{Course, Seen, Words, mib};

use crate::{SIZE, WATCHED};

/// When something happens, seconds: statistics come at other moments, a tick each 2 s.
const WHEN: f64 = 4.0;
/// How long a balloon takes to its rest, seconds.
const TAKES: f64 = 6.0;
/// What a guest holds, what its process does, and what it says is usable, MiB: 5 % of its size. Emulators need more as they run, which
/// the model does not know and somebody has to give.
const HOLDS: f64 = 0.05 * SIZE;
/// `MemTotal`, MiB: the model's own, beside what the balloon holds.
const TOTAL: f64 = 8.0;

/// A moment in the real course and the same in the model's.
type Both = (Duration, Duration);

pub(crate) struct Likeness {
    real: Course,
    model: Course,
    rows: Vec<Row>,
}

struct Row {
    what: String,
    real: f64,
    model: f64,
    bound: f64,
}

impl Likeness {
    pub(crate) fn new(real: Course, model: Course) -> Self {
        Self { real, model, rows: Vec::new() }
    }

    /// How soon the first memory is taken, how long it takes to come to rest, and what it holds on the way.
    pub(crate) fn squeeze(&mut self, guest: &str, until: Duration) -> Result<()> {
        let soon = |course: &Course| {
            let known = course.known(guest)?;
            Some(course.moved(guest, true, known)?.saturating_sub(known).as_secs_f64())
        };
        self.compare(format!("{guest}: first take, s"), WHEN, soon)?;
        let rests = |course: &Course| {
            let first = course.moved(guest, true, Duration::ZERO)?;
            Some(course.at_rest(guest, first, until)?.saturating_sub(first).as_secs_f64())
        };
        self.compare(format!("{guest}: from there to rest, s"), TAKES, rests)?;
        let first = |course: &Course| course.moved(guest, true, Duration::ZERO);
        let first = first(&self.real).zip(first(&self.model)).context("nothing was taken")?;
        self.way(guest, first, WATCHED)
    }

    /// What it holds before `until`, what the host has behind it, and what it says of itself.
    pub(crate) fn at_rest(&mut self, guest: &str, until: Duration) -> Result<()> {
        let at = |what: &str| format!("{guest}: {what} at {} s, MiB", until.as_secs());
        let words = |seen: &Seen, of: fn(Words) -> f64| seen.words.map(of);
        self.seen(guest, until, at("holds"), HOLDS, |seen| Some(mib(seen.actual)))?;
        self.seen(guest, until, at("resident"), HOLDS, |seen| {
            Some(mib(seen.resident.minus(seen.overhead?)))
        })?;
        self.seen(guest, until, at("usable"), HOLDS, |seen| words(seen, |words| mib(words.usable)))?;
        // What the balloon holds is no part of it, and compared above.
        self.seen(guest, until, at("of its kernel"), TOTAL, |seen| {
            Some(mib(seen.actual.minus(seen.words?.total)))
        })
    }

    /// How soon memory is given back once it is there, and all of it.
    pub(crate) fn relief(&mut self, guest: &str, from: Duration) -> Result<()> {
        self.help(guest, from)?;
        let rests = |course: &Course| {
            Some(course.at_rest(guest, from, from + WATCHED)?.checked_sub(from)?.as_secs_f64())
        };
        self.compare(format!("{guest}: all given, s"), WHEN, rests)?;
        self.seen(guest, from + WATCHED, format!("{guest}: holds in the end, MiB"), HOLDS, |seen| {
            Some(mib(seen.actual))
        })
    }

    /// How soon it is given memory.
    pub(crate) fn help(&mut self, guest: &str, from: Duration) -> Result<()> {
        let given =
            |course: &Course| Some(course.moved(guest, false, from)?.checked_sub(from)?.as_secs_f64());
        self.compare(format!("{guest}: first give, s"), WHEN, given)
    }

    /// How far apart the two are each second, on average.
    pub(crate) fn way(&mut self, guest: &str, from: Both, lasts: Duration) -> Result<()> {
        let (mut apart, mut seconds) = (0.0, 0.0);
        for second in 0..lasts.as_secs() {
            let at = Duration::from_secs(second);
            let of = |course: &Course, from: Duration| course.actual_mib(guest, from + at);
            let (real, model) =
                of(&self.real, from.0).zip(of(&self.model, from.1)).context("nothing is known")?;
            apart += (real - model).abs();
            seconds += 1.0;
        }
        let what = format!("{guest}: apart for {} s, MiB", lasts.as_secs());
        self.rows.push(Row { what, real: 0.0, model: apart / seconds, bound: HOLDS });
        Ok(())
    }

    fn seen(
        &mut self,
        guest: &str,
        until: Duration,
        what: String,
        bound: f64,
        of: impl Fn(&Seen) -> Option<f64>,
    ) -> Result<()> {
        self.compare(what, bound, |course| of(course.before(guest, until)?))
    }

    fn compare(&mut self, what: String, bound: f64, of: impl Fn(&Course) -> Option<f64>) -> Result<()> {
        let real = of(&self.real).with_context(|| format!("{what}: the real guests did nothing of the kind"));
        let model = of(&self.model).with_context(|| format!("{what}: the model did nothing of the kind"));
        let (real, model) = (real?, model?);
        self.rows.push(Row { what, real, model, bound });
        Ok(())
    }

    /// All of it, for people; and an error where the model is further off than it may be.
    pub(crate) fn verdict(self) -> Result<()> {
        let row = |row: &Row| {
            let beyond = if row.is_near() { "" } else { "  BEYOND" };
            format!("{:<36} {:>8.1} {:>8.1} ±{:<6.1}{beyond}", row.what, row.real, row.model, row.bound)
        };
        let rows = self.rows.iter().map(row).collect::<Vec<_>>().join("\n");
        let table = format!("{:<36} {:>8} {:>8}\n{rows}", "", "real", "model");
        eprintln!("{table}");
        ensure!(self.rows.iter().all(Row::is_near), "{table}");
        Ok(())
    }
}

impl Row {
    fn is_near(&self) -> bool {
        (self.real - self.model).abs() <= self.bound
    }
}
