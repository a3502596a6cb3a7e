//! Uses memory as a load says, and reports each second on the console.

use std::fs::{self, File};
use std::io::Read;
use std::time::{Duration, Instant};

use crate::load::Load;

/// Where the last report is kept for whoever asks.
pub(crate) const PROGRESS: &str = "/tmp/load-progress";

/// Words (of 8 bytes) in a page.
const PAGE_WORDS: usize = 4096 / 8;

/// The buffer grows and shrinks by pieces of 1 MiB.
const PAGES_PER_PIECE: usize = 256;

const SECOND: Duration = Duration::from_secs(1);

/// The buffer, and where the writing is.
struct Buffer {
    pieces: Vec<Vec<u64>>,
    /// The next page to write, counted from the buffer's start.
    next: usize,
    /// State of the generator; never zero.
    random: u64,
}

/// Runs the load for ever.
pub(crate) fn work(load: &Load) -> ! {
    // The kernel shall take this one first, not the supervisor, whose protection it inherited.
    let _ = fs::write("/proc/self/oom_score_adj", "500");
    if let Load::Idle { cache_mib } = load {
        fill_cache(*cache_mib);
    }
    let mut buffer = Buffer { pieces: Vec::new(), next: 0, random: 0x9E37_79B9_7F4A_7C15 };
    let (start, mut written) = (Instant::now(), 0);
    loop {
        let began = Instant::now();
        let wanted = load.wanted_mib(start.elapsed().as_secs());
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        let mut pages = match load.spares_mib() {
            Some(spare) => buffer.grow_into(wanted, spare),
            None => buffer.resize(wanted),
        };
        if load.keeps_writing() {
            let pace = load.pace_mib().and_then(|mib| usize::try_from(mib).ok());
            let most = pace.map_or(usize::MAX, |mib| mib.saturating_mul(PAGES_PER_PIECE));
            while began.elapsed() < SECOND && pages < most && !buffer.pieces.is_empty() {
                pages += buffer.write_some();
            }
        }
        written += pages;
        report(start.elapsed(), &buffer, pages, began.elapsed(), written);
        std::thread::sleep(SECOND.saturating_sub(began.elapsed()));
    }
}

impl Buffer {
    /// Grows, writing each new page once, or shrinks. Returns the pages written.
    fn resize(&mut self, wanted: usize) -> usize {
        self.pieces.truncate(wanted);
        let mut pages = 0;
        while self.pieces.len() < wanted {
            let mut piece = vec![0; PAGE_WORDS * PAGES_PER_PIECE];
            fill(&mut piece, &mut self.random);
            self.pieces.push(piece);
            pages += PAGES_PER_PIECE;
        }
        pages
    }

    /// Grows while more than `spare` MiB are usable, by one piece after each look. What it has it keeps. Returns the
    /// pages written.
    fn grow_into(&mut self, wanted: usize, spare: u64) -> usize {
        let mut pages = 0;
        while self.pieces.len() < wanted && usable_mib() > spare {
            pages += self.resize(self.pieces.len() + 1);
        }
        pages
    }

    /// Writes the next few pages anew, in order, round and round. Returns how many.
    fn write_some(&mut self) -> usize {
        const AT_ONCE: usize = 16;
        let total = self.pieces.len() * PAGES_PER_PIECE;
        if self.next >= total {
            self.next = 0;
        }
        let (piece, page) = (self.next / PAGES_PER_PIECE, self.next % PAGES_PER_PIECE);
        let words = page * PAGE_WORDS..(page + AT_ONCE) * PAGE_WORDS;
        if let Some(words) = self.pieces.get_mut(piece).and_then(|p| p.get_mut(words)) {
            fill(words, &mut self.random);
        }
        self.next += AT_ONCE;
        AT_ONCE
    }
}

/// The kernel's own estimate of what can be had without swapping (`MemAvailable`).
fn usable_mib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|value| value.trim().trim_end_matches(" kB").parse::<u64>().ok()).map_or(0, |kib| kib >> 10)
}

/// Fills with numbers that nothing can compress or merge (xorshift64).
fn fill(words: &mut [u64], random: &mut u64) {
    let mut x = *random;
    for word in words {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        *word = x;
    }
    *random = x;
}

/// Each page read from the disk is page cache, which the guest can drop.
fn fill_cache(mib: u64) {
    let Ok(disk) = File::open("/dev/vda") else { return };
    let mut rest = disk.take(mib << 20);
    let mut piece = vec![0; 1 << 16];
    while matches!(rest.read(&mut piece), Ok(length) if length > 0) {}
}

fn report(since: Duration, buffer: &Buffer, pages: usize, took: Duration, written: usize) {
    let rate = u128::try_from(pages).unwrap_or(0) * 1000 / took.max(SECOND).as_millis();
    let held = buffer.pieces.len();
    let line = format!("LOAD t={}s held={held}MiB rate={rate}pages/s written={written}", since.as_secs());
    println!("{line}");
    let _ = fs::write(PROGRESS, line);
}
