//! Gives memory back when a squeezed machine makes no progress: `valve STALL_S DEADLINE_S REPORT RELIEF_FILE VALUE`.
//!
//! It must itself run when nothing else does: all of its memory is locked, all its files are open, and whoever starts it gives it a
//! real-time priority. It opens (writes the value to the relief file) after a stall, at its deadline, or when its standard input ends,
//! which is when its starter is gone. Standard library and rustix only, no allocation on the way to relief.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::time::{ClockId, clock_gettime};

/// Period of the look at the machine.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// A tick of a real-time process that comes this late: the machine stood still.
const LATE: Duration = Duration::from_secs(2);

/// Share of time in which nobody made progress (`full avg10` of PSI, percent) above which the machine counts as stalled.
const STALLED_PERCENT: f64 = 60.0;

struct Order {
    stall: Duration,
    deadline: Duration,
    value: String,
    pressure: File,
    relief: File,
    report: File,
}

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let mut order = match order(&words) {
        Ok(order) => order,
        Err(error) => {
            eprintln!("valve: {error}");
            return ExitCode::from(2);
        }
    };
    let start = Instant::now();
    let why = watch(&order, start);
    // What was done until now was done under the squeeze, however long the rest takes.
    let (at, lasted) = (clock_gettime(ClockId::Monotonic), start.elapsed());
    // Relief first: the report may wait for a disk.
    let relieved = order.relief.write_all_at(order.value.as_bytes(), 0);
    // In one piece, for somebody reads it meanwhile.
    let line = format!(
        "opened after {:.1} s: {why}; relief: {relieved:?}; at {}.{:09}\n",
        lasted.as_secs_f64(),
        at.tv_sec,
        at.tv_nsec
    );
    let _ = order.report.write_all(line.as_bytes());
    if relieved.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn order(words: &[String]) -> Result<Order, String> {
    let [stall, deadline, report, relief, value] = words else {
        return Err("usage: valve STALL_S DEADLINE_S REPORT RELIEF_FILE VALUE".into());
    };
    let seconds =
        |word: &String| word.parse().map(Duration::from_secs_f64).map_err(|e| format!("{word}: {e}"));
    let open = |path: &str, file: std::io::Result<File>| file.map_err(|e| format!("{path}: {e}"));
    let psi = "/proc/pressure/memory";
    let mut order = Order {
        stall: seconds(stall)?,
        deadline: seconds(deadline)?,
        value: value.clone(),
        pressure: open(psi, File::open(psi))?,
        relief: open(relief, File::options().write(true).open(relief))?,
        report: open(report, File::create(report))?,
    };
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE).map_err(|e| format!("locking memory: {e}"))?;
    writeln!(order.report, "armed").map_err(|e| format!("{report}: {e}"))?;
    Ok(order)
}

/// Returns when it is time to open, and why.
fn watch(order: &Order, start: Instant) -> &'static str {
    let stdin = std::io::stdin();
    let (mut last, mut stalled) = (start, Duration::ZERO);
    loop {
        let mut input = [PollFd::new(&stdin, PollFlags::IN)];
        if matches!(poll(&mut input, Some(&TICK)), Ok(ready) if ready > 0) {
            return "its starter is gone";
        }
        let now = Instant::now();
        let since = now - last;
        last = now;
        let no_progress =
            since > LATE || full_percent(&order.pressure).is_some_and(|share| share > STALLED_PERCENT);
        stalled = if no_progress { stalled + since } else { Duration::ZERO };
        if stalled > order.stall {
            return "the machine makes no progress";
        }
        if now - start > order.deadline {
            return "deadline";
        }
    }
}

/// `full avg10` of a pressure file.
fn full_percent(pressure: &File) -> Option<f64> {
    let mut text = [0; 256];
    let length = pressure.read_at(&mut text, 0).ok()?;
    let text = std::str::from_utf8(text.get(..length)?).ok()?;
    let (_, rest) = text.split_once("full avg10=")?;
    rest.split(' ').next()?.parse().ok()
}
