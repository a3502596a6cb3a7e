//! What a person who waits sees: which step of how many runs, since when, and about how long all of it still takes.

use std::io::{IsTerminal as _, Write as _};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a line says that a step still runs, where there is no terminal.
const EVERY: Duration = Duration::from_secs(15);
/// How often the line on a terminal is drawn anew.
const REDRAWN: Duration = Duration::from_secs(1);
/// The estimates count as much as so long of this machine's own doing.
const TRUST: Duration = Duration::from_mins(2);
/// A step that takes longer than estimated is taken to need this part of its time more.
const OVERRUN: u32 = 8;

/// Prints one line to standard error, past the capture of the test runner: who waits must see why.
pub fn say(line: &str) {
    let erase = if std::io::stderr().is_terminal() { "\r\x1b[K" } else { "" };
    // Nobody is left to tell if standard error is closed.
    let _ = writeln!(std::io::stderr(), "{erase}testbed: {line}");
}

/// A row of steps with estimates. Shown until dropped.
#[derive(Debug)]
pub struct Progress {
    course: Arc<Mutex<Course>>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Begins with the first step; `kind` is what a step is called.
    pub fn begin(kind: &'static str, steps: Vec<(&'static str, Duration)>) -> Self {
        let course = Course::new(kind, steps, Instant::now());
        say(&course.line(Instant::now()));
        let course = Arc::new(Mutex::new(course));
        let (stop, stopped) = channel();
        let shown = Arc::clone(&course);
        let terminal = std::io::stderr().is_terminal();
        let thread = std::thread::spawn(move || {
            let every = if terminal { REDRAWN } else { EVERY };
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let line = locked(&shown).line(Instant::now());
                if terminal {
                    let _ = write!(std::io::stderr(), "\r\x1b[Ktestbed: {line}");
                } else {
                    say(&line);
                }
            }
        });
        Self { course, stop: Some(stop), thread: Some(thread) }
    }

    /// Goes on to a step, counted from 0; steps before it have ended.
    pub fn enter(&self, step: usize) {
        let mut course = locked(&self.course);
        if step > course.at {
            say(&course.ended(Instant::now()));
            course.enter(step, Instant::now());
            say(&course.line(Instant::now()));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // The thread only prints.
            let _ = thread.join();
        }
        say(&locked(&self.course).ended(Instant::now()));
    }
}

fn locked(course: &Mutex<Course>) -> MutexGuard<'_, Course> {
    course.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Steps, where they are, and how fast they were so far.
#[derive(Debug)]
struct Course {
    kind: &'static str,
    steps: Vec<(&'static str, Duration)>,
    at: usize,
    entered: Instant,
    /// What the ended steps took, and what they were estimated at.
    took: Duration,
    estimated: Duration,
}

impl Course {
    fn new(kind: &'static str, steps: Vec<(&'static str, Duration)>, now: Instant) -> Self {
        Self { kind, steps, at: 0, entered: now, took: Duration::ZERO, estimated: Duration::ZERO }
    }

    fn enter(&mut self, step: usize, now: Instant) {
        let ended = self.steps.iter().take(step).skip(self.at);
        self.estimated += ended.map(|(_, cost)| *cost).sum::<Duration>();
        self.took += now.duration_since(self.entered);
        (self.at, self.entered) = (step, now);
    }

    /// What is left of all steps: the estimates, corrected by how long the ended ones took.
    fn left(&self, now: Instant) -> Duration {
        let pace = (TRUST + self.took).as_secs_f64() / (TRUST + self.estimated).as_secs_f64();
        let mut rest = self.steps.iter().skip(self.at).map(|(_, cost)| cost.mul_f64(pace));
        let spent = now.duration_since(self.entered);
        let current = rest.next().unwrap_or_default().saturating_sub(spent).max(spent / OVERRUN);
        current + rest.sum::<Duration>()
    }

    fn line(&self, now: Instant) -> String {
        let name = self.steps.get(self.at).map_or("", |(name, _)| name);
        format!(
            "{} {} of {}, {name}: {}, about {} left of all",
            self.kind,
            self.at + 1,
            self.steps.len(),
            told(now.duration_since(self.entered)),
            told(self.left(now))
        )
    }

    fn ended(&self, now: Instant) -> String {
        let name = self.steps.get(self.at).map_or("", |(name, _)| name);
        let place = format!("{} {} of {}", self.kind, self.at + 1, self.steps.len());
        format!("{place}, {name}: ended after {}", told(now.duration_since(self.entered)))
    }
}

/// A duration as people say it.
pub fn told(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [(&str, Duration); 3] =
        [("a", Duration::from_mins(1)), ("b", Duration::from_secs(30)), ("c", Duration::from_secs(90))];

    #[test]
    fn what_is_left_shrinks_with_time_and_grows_again_once_a_step_overruns() {
        let begun = Instant::now();
        let course = Course::new("part", STEPS.to_vec(), begun);
        let left = |seconds| course.left(begun + Duration::from_secs(seconds)).as_secs();
        assert_eq!([left(0), left(20), left(480)], [180, 160, 180]);
    }

    #[test]
    fn a_slow_machine_stretches_what_is_left_and_a_fast_one_shortens_it() {
        let begun = Instant::now();
        let after = |seconds| {
            let mut course = Course::new("part", STEPS.to_vec(), begun);
            course.enter(1, begun + Duration::from_secs(seconds));
            course.left(begun + Duration::from_secs(seconds)).as_secs()
        };
        // (120 + took) / (120 + 60) of the 120 s that are estimated.
        assert_eq!([after(60), after(240), after(15)], [120, 240, 90]);
    }

    #[test]
    fn a_line_says_step_elapsed_and_left() {
        let begun = Instant::now();
        let course = Course::new("part", STEPS.to_vec(), begun);
        let line = course.line(begun + Duration::from_secs(15));
        assert_eq!(line, "part 1 of 3, a: 15 s, about 2 min 45 s left of all");
    }
}
