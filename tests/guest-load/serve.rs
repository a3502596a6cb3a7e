//! A service that answers requests out of its files and its own memory, as a web server with a database does.
//!
//! Requests come when they come, whether those before them are answered or not, and each has waited since it came: a service that
//! stands still would look fast otherwise.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use crate::load::draw;
use crate::waits::Waits;
use crate::work::{Buffer, SECOND, told};

/// What the guest's disk of files is called.
const DISK: &str = "data";
/// One is read at once, in bytes.
const FILE: u64 = 16 << 10;
/// So many are read for an answer.
const FILES: usize = 16;
/// So many runs of pages of its own memory are written for an answer.
const RUNS: usize = 2;
/// One in so many requests changes a file.
const CHANGES: u64 = 10;

/// The files, and the memory beside them.
struct Service {
    disk: File,
    files: u64,
    heap: Buffer,
    random: u64,
}

/// Answers for ever so many requests a second, out of so many MiB of files.
pub(crate) fn serve(data_mib: u64, heap: Buffer, per_second: u64, seed: u64) -> ! {
    let mut service = match open() {
        Ok(disk) => Service { disk, files: ((data_mib << 20) / FILE).max(1), heap, random: seed },
        Err(error) => {
            println!("LOAD has no disk of files: {error}");
            std::process::exit(1);
        }
    };
    service.read_all(data_mib);
    let (start, mut arrivals) = (Instant::now(), Arrivals { next: Duration::ZERO, per_second, random: seed });
    let (mut queue, mut waits, mut reported) = (VecDeque::new(), Waits::default(), Duration::ZERO);
    loop {
        arrivals.come(start.elapsed(), &mut queue);
        if let Some(came) = queue.pop_front() {
            service.answer();
            waits.add(start.elapsed().saturating_sub(came));
        } else {
            let next = arrivals.next.min(reported + SECOND);
            std::thread::sleep(next.saturating_sub(start.elapsed()));
        }
        let now = start.elapsed();
        if now >= reported + SECOND {
            reported = now;
            let (held, answered, waiting) = (service.heap.mib(), waits.count(), queue.len());
            told(&format!(
                "LOAD t={}s held={held}MiB answered={answered} waiting={waiting} waits={waits}",
                now.as_secs()
            ));
        }
    }
}

/// The disk that has this name: which letter it got hangs on whether there are others.
fn open() -> std::io::Result<File> {
    for block in fs::read_dir("/sys/block")?.flatten() {
        let serial = fs::read_to_string(block.path().join("serial")).unwrap_or_default();
        if serial.trim() == DISK {
            let path = std::path::Path::new("/dev").join(block.file_name());
            return File::options().read(true).write(true).open(path);
        }
    }
    Err(std::io::Error::other("none is called so"))
}

impl Service {
    /// A service is not opened before its files are in the cache.
    fn read_all(&self, mib: u64) {
        let (mut rest, mut piece) = ((&self.disk).take(mib << 20), vec![0; 1 << 18]);
        while matches!(rest.read(&mut piece), Ok(length) if length > 0) {}
    }

    fn answer(&mut self) {
        let mut text = vec![0; usize::try_from(FILE).unwrap_or_default()];
        for _ in 0..FILES {
            let place = popular(draw(&mut self.random), self.files) * FILE;
            let _ = self.disk.read_at(&mut text, place);
            // Somebody looks at what was read.
            let sum = text.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
            self.random ^= u64::from(sum);
        }
        for _ in 0..RUNS {
            self.heap.write_at(draw(&mut self.random));
        }
        if draw(&mut self.random).is_multiple_of(CHANGES) {
            let place = popular(draw(&mut self.random), self.files) * FILE;
            let _ = self.disk.write_at(text.get(..4096).unwrap_or_default(), place);
        }
    }
}

/// Which file is asked for: half of all requests are for an eighth of the files. Those lie everywhere on the disk.
fn popular(drawn: u64, files: u64) -> u64 {
    const SCATTERED: u64 = 1_000_003;
    let part = unit(drawn);
    let rank = f64::from(u32::try_from(files).unwrap_or(u32::MAX)) * part * part * part;
    // Below the number of files, as the part is below 1.
    let rank = Duration::from_secs_f64(rank).as_secs();
    rank.wrapping_mul(SCATTERED) % files
}

/// From 0 to below 1.
fn unit(drawn: u64) -> f64 {
    f64::from(u32::try_from(drawn >> 32).unwrap_or_default()) / 4_294_967_296.0
}

/// Requests at random times at a fixed mean rate (a Poisson process), by a seed alone.
struct Arrivals {
    next: Duration,
    per_second: u64,
    random: u64,
}

impl Arrivals {
    /// All that have come by now, with when they did.
    fn come(&mut self, now: Duration, queue: &mut VecDeque<Duration>) {
        while self.next <= now {
            queue.push_back(self.next);
            let mean = 1.0 / f64::from(u32::try_from(self.per_second.max(1)).unwrap_or(u32::MAX));
            let gap = -(1.0 - unit(draw(&mut self.random))).ln() * mean;
            self.next += Duration::from_secs_f64(gap);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn come(seed: u64, per_second: u64, until: u64) -> VecDeque<Duration> {
        let mut queue = VecDeque::new();
        Arrivals { next: Duration::ZERO, per_second, random: seed }
            .come(Duration::from_secs(until), &mut queue);
        queue
    }

    #[test]
    fn requests_come_at_their_rate_by_their_seed_alone_however_late_they_are_looked_for() {
        let at_once = come(7, 16, 1000);
        assert!((15_000..17_000).contains(&at_once.len()), "{}", at_once.len());
        assert!(at_once == come(7, 16, 1000) && at_once != come(8, 16, 1000));
        let (mut arrivals, mut queue) =
            (Arrivals { next: Duration::ZERO, per_second: 16, random: 7 }, VecDeque::new());
        for second in 0..=1000 {
            arrivals.come(Duration::from_secs(second), &mut queue);
        }
        assert_eq!(queue, at_once);
    }

    #[test]
    fn half_of_all_requests_are_for_an_eighth_of_the_files() {
        let (mut random, mut asked) = (7, vec![0_u32; 1000]);
        for _ in 0..100_000 {
            let file = popular(draw(&mut random), 1000);
            asked[usize::try_from(file).unwrap()] += 1;
        }
        asked.sort_unstable_by(|a, b| b.cmp(a));
        let eighth: u32 = asked[..125].iter().sum();
        assert!((48_000..52_000).contains(&eighth), "{eighth}");
        assert!(asked.iter().all(|count| *count > 0), "all files are some requests'");
    }
}
