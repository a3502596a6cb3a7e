//! Uses memory as a load says, and reports each second on the console.

use std::fs::{self, File};
use std::io::Read;
use std::time::{Duration, Instant};

use crate::load::{Load, draw};
use crate::serve::serve;

/// Where the last report is kept for whoever asks.
pub(crate) const PROGRESS: &str = "/tmp/load-progress";

/// Words (of 8 bytes) in a page.
const PAGE_WORDS: usize = 4096 / 8;

/// The buffer grows and shrinks by pieces of 1 MiB.
const PAGES_PER_PIECE: usize = 256;

/// Pages that are written in a row.
const AT_ONCE: usize = 16;

/// How often a load reports.
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// The buffer, and where the writing is.
pub(crate) struct Buffer {
    pieces: Vec<Vec<u64>>,
    /// The next page to write, counted from the buffer's start.
    next: usize,
    /// State of the generator; never zero.
    random: u64,
}

/// Runs the load for ever, in the guest of this name.
pub(crate) fn work(load: &Load, name: &str) -> ! {
    // The kernel shall take this one first, not the supervisor, whose protection it inherited.
    let _ = fs::write("/proc/self/oom_score_adj", "500");
    if let Load::Idle { cache_mib } = load {
        fill_cache(*cache_mib);
    }
    let mut buffer = Buffer { pieces: Vec::new(), next: 0, random: start(load, name) };
    if let Load::Cloudy { data_mib, heap_mib, per_second, seed } = load {
        buffer.resize(usize::try_from(*heap_mib).unwrap_or(usize::MAX), || true);
        serve(*data_mib, buffer, *per_second, *seed);
    }
    if let Some(mib) = load.touched_mib() {
        buffer.resize(usize::try_from(mib).unwrap_or(usize::MAX), || true);
    }
    let (start, mut written) = (Instant::now(), 0);
    loop {
        let began = Instant::now();
        let wanted = load.wanted_mib(start.elapsed().as_secs());
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        let in_time = || began.elapsed() < SECOND;
        let mut pages = match load.spares_mib() {
            Some(spare) => buffer.grow_into(wanted, spare),
            None => buffer.resize(wanted, in_time),
        };
        if load.keeps_writing() {
            let pace = load.pace_mib().and_then(|mib| usize::try_from(mib).ok());
            let most = pace.map_or(usize::MAX, |mib| mib.saturating_mul(PAGES_PER_PIECE));
            while in_time() && pages < most && !buffer.pieces.is_empty() {
                pages += buffer.write_some();
            }
        }
        written += pages;
        report(start.elapsed(), &buffer, pages, began.elapsed(), written);
        std::thread::sleep(SECOND.saturating_sub(began.elapsed()));
    }
}

/// Where the generator starts: each guest from its name, or what it holds the others would hold too, and pages meant to be of no
/// use to merging would be merged.
fn start(load: &Load, name: &str) -> u64 {
    let mut state = load.equal_by().unwrap_or_else(|| hash(name));
    draw(&mut state).max(1)
}

/// FNV-1a (Fowler, Noll, Vo; draft-eastlake-fnv), 64 bits.
fn hash(text: &str) -> u64 {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, mix)
}

impl Buffer {
    /// Grows while there is time, writing each new page once, or shrinks. What is wanted next does not wait for what could not be
    /// had. Returns the pages written.
    fn resize(&mut self, wanted: usize, in_time: impl Fn() -> bool) -> usize {
        self.pieces.truncate(wanted);
        let mut pages = 0;
        while self.pieces.len() < wanted && in_time() {
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
            pages += self.resize(self.pieces.len() + 1, || true);
        }
        pages
    }

    /// Its size.
    pub(crate) fn mib(&self) -> usize {
        self.pieces.len()
    }

    /// Writes a few pages anew, somewhere.
    pub(crate) fn write_at(&mut self, random: u64) {
        let runs = self.pieces.len() * PAGES_PER_PIECE / AT_ONCE;
        let run = random % u64::try_from(runs).unwrap_or(1).max(1);
        self.next = usize::try_from(run).unwrap_or_default() * AT_ONCE;
        self.write_some();
    }

    /// Writes the next few pages anew, in order, round and round. Returns how many.
    fn write_some(&mut self) -> usize {
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
    told(&format!("LOAD t={}s held={held}MiB rate={rate}pages/s written={written}", since.as_secs()));
}

/// On the console, and for whoever asks.
pub(crate) fn told(line: &str) {
    println!("{line}");
    let _ = fs::write(PROGRESS, line);
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::HashSet;

    use super::*;

    /// Pages of the buffer that this load fills in the guest of this name.
    fn pages(word: &str, name: &str) -> HashSet<Vec<u64>> {
        let load: Load = word.parse().unwrap();
        let mut buffer = Buffer { pieces: Vec::new(), next: 0, random: start(&load, name) };
        buffer.resize(usize::try_from(load.wanted_mib(0)).unwrap(), || true);
        buffer.pieces.iter().flat_map(|piece| piece.chunks(PAGE_WORDS)).map(<[u64]>::to_vec).collect()
    }

    #[test]
    fn what_could_not_be_had_in_time_keeps_nobody_from_wanting_less() {
        let mut buffer = Buffer { pieces: Vec::new(), next: 0, random: 1 };
        let looks = Cell::new(0);
        let twice = || looks.replace(looks.get() + 1) < 2;
        assert_eq!(buffer.resize(100, twice), 2 * PAGES_PER_PIECE);
        assert_eq!((buffer.resize(1, || false), buffer.pieces.len()), (0, 1));
    }

    #[test]
    fn no_guest_holds_a_page_of_another_unless_it_is_to() {
        let (one, other) = (pages("hold:1", "g0"), pages("hold:1", "g1"));
        assert_eq!(one.len(), PAGES_PER_PIECE, "nor twice the same itself");
        assert!(one.is_disjoint(&other));
        assert_eq!(one, pages("hold:1", "g0"), "it holds the same each time");
    }

    #[test]
    fn equal_pages_are_those_of_all_guests_with_the_same_seed() {
        let one = pages("equal:1:7", "g0");
        assert_eq!(one, pages("equal:1:7", "g1"));
        assert_eq!(one.len(), PAGES_PER_PIECE);
        assert!(one.is_disjoint(&pages("equal:1:8", "g0")) && one.is_disjoint(&pages("hold:1", "g0")));
    }
}
