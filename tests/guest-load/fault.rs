//! What goes wrong in guests: a balloon without its driver, and a kernel that has no time for its own work.

use std::fs;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// The driver, as the initramfs holds it.
const DRIVER: &str = "/modules/virtio_balloon.ko";
/// Share of time of real-time processes in each second, in microseconds; -1 is all of it (sched(7)).
const REAL_TIME: &str = "/proc/sys/kernel/sched_rt_runtime_us";
/// Above everything that the kernel does in its work queues, which is balloon and statistics among others.
const PRIORITY: &str = "50";

/// Loads the balloon's driver or unloads it; an unloaded one gives all of the balloon back to the guest first.
pub(crate) fn driver(present: bool) -> String {
    let words = if present { ["insmod", DRIVER] } else { ["rmmod", "virtio_balloon"] };
    match Command::new("/bin/busybox").args(words).status() {
        Ok(status) if status.success() => "ok".to_owned(),
        Ok(status) => format!("error {words:?}: {status}"),
        Err(error) => format!("error {words:?}: {error}"),
    }
}

/// Starts what takes the processor for so long. On a guest with one, nothing answers before it ends.
pub(crate) fn freeze(seconds: u64) {
    let hog =
        Command::new("/bin/chrt").args(["-f", PRIORITY, "/bin/load", "hog", &seconds.to_string()]).spawn();
    match hog.and_then(|mut hog| hog.wait()) {
        Ok(status) => println!("LOAD was frozen, {status}"),
        Err(error) => println!("LOAD cannot freeze: {error}"),
    }
}

/// Runs and never waits. It ends by itself: nobody else could end it.
pub(crate) fn hog(seconds: u64) -> ExitCode {
    let end = Instant::now() + Duration::from_secs(seconds);
    let before = fs::read_to_string(REAL_TIME).unwrap_or_default();
    if let Err(error) = fs::write(REAL_TIME, "-1") {
        println!("LOAD cannot freeze: {REAL_TIME}: {error}");
        return ExitCode::FAILURE;
    }
    while Instant::now() < end {
        std::hint::spin_loop();
    }
    let _ = fs::write(REAL_TIME, before.trim());
    ExitCode::SUCCESS
}
