//! What a person who waits for a build sees: a line when it starts, one every quarter minute, one when it ends.

use std::io::Write;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a running build says so.
const EVERY: Duration = Duration::from_secs(15);

/// Prints one line to standard error, past the capture of the test runner: who waits must see why.
pub fn say(line: &str) {
    // Nobody is left to tell if standard error is closed.
    let _ = writeln!(std::io::stderr(), "testbed: {line}");
}

/// Says every [`EVERY`] that a build runs, until dropped.
pub(super) struct Watch {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

pub(super) fn start(name: &'static str, cost: Duration) -> Watch {
    let (stop, stopped) = channel();
    let begun = Instant::now();
    say(&format!("{name}: building (about {} s)", cost.as_secs()));
    let thread = std::thread::spawn(move || {
        while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
            say(&format!("{name}: {} s of about {} s", begun.elapsed().as_secs(), cost.as_secs()));
        }
        say(&format!("{name}: ended after {} s", begun.elapsed().as_secs()));
    });
    Watch { stop: Some(stop), thread: Some(thread) }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // The thread only prints.
            let _ = thread.join();
        }
    }
}
