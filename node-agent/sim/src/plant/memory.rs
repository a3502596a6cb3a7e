//! Where a guest's memory is: what its kernel, its programs, its files and its balloon hold of its full size, and what
//! the host has behind it.
//!
//! One step in this order: what programs do not need any more goes; they get what they need, first from free memory, then
//! from files, then by swapping; what is swapped out and needed comes back; files are read; the balloon moves.

use std::time::Duration;

use overcommit_core::units::{Bytes, Permille};

use crate::course::millis;

/// `sizeof(struct page)` of each page of 4 KiB (`include/linux/mm_types.h`): no part of `MemTotal`.
const STRUCT_PAGE: (u64, u64) = (64, 4096);
/// What a kernel's code, data and start keep besides: `MemTotal` of guests of 256 and 512 MiB is 37.6 and 42.0 MiB less than
/// their sizes (Debian 12's cloud kernel 6.1, emulated).
const KERNEL: Bytes = Bytes::from_mib(34);
/// Files that are left whatever is needed: no kernel reclaims the last executable pages before it kills.
const LAST_FILES: (u64, u64) = (1, 64);
/// Free pages are reported that long after they became so (`PAGE_REPORTING_DELAY`, `mm/page_reporting.c`).
const REPORTED_AFTER: Duration = Duration::from_secs(2);
/// Free memory that stays with the guest: too small pieces to be reported (`PAGE_REPORTING_MIN_ORDER`, `mm/page_reporting.h`), between
/// pages of the kernel, where those of programs and of the balloon are put last. Guests of 256 and 512 MiB kept 33 to 47 MiB that
/// they did not use, idle, squeezed or busy.
const PIECES: Bytes = Bytes::from_mib(40);
/// Read at once where a page is missing: `read_ahead_kb` of files (Documentation/block/queue-sysfs.rst), and 2^`page-cluster`
/// pages of swap (Documentation/admin-guide/sysctl/vm.rst). Each is one major fault.
const FILE_READ: u64 = 128 << 10;
const SWAP_READ: u64 = 32 << 10;

/// What its programs and files want.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Want {
    pub(crate) anon: Bytes,
    pub(crate) files: Bytes,
    /// The part of the files that is read again and again.
    pub(crate) hot: Bytes,
}

/// What can be moved in a second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Speeds {
    pub(crate) swap: Bytes,
    pub(crate) disk: Bytes,
    pub(crate) balloon: Bytes,
}

/// What a step cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) swap_in: Bytes,
    pub(crate) swap_out: Bytes,
    /// Read from disks: swap and files.
    pub(crate) read: Bytes,
    pub(crate) major_faults: u64,
    /// What programs filled, also if they were killed over it.
    pub(crate) filled: Bytes,
    /// What programs need and do not have in memory.
    pub(crate) lack: Bytes,
    /// Nothing was left to give: its own kernel killed.
    pub(crate) killed: bool,
}

/// One guest's memory.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    pub(crate) size: Bytes,
    /// In the balloon.
    pub(crate) inflated: Bytes,
    /// Of its programs, in memory and in its swap.
    pub(crate) anon: Bytes,
    pub(crate) swapped: Bytes,
    pub(crate) files: Bytes,
    pub(crate) swap: Bytes,
    /// What the host has behind it, in memory or in its own swap.
    pub(crate) touched: Bytes,
    /// What of that is in the host's swap.
    pub(crate) host_swapped: Bytes,
    hot: Bytes,
    /// What stays with it in small pieces: some, once anything was given up.
    pieces: Bytes,
    /// The kernel keeps that many free for itself.
    watermark: Bytes,
}

/// What a kernel keeps free: the square root of 16 times its memory in KiB (`calculate_min_free_kbytes`, `mm/page_alloc.c`).
pub(crate) fn watermark(size: Bytes) -> Bytes {
    Bytes::from_kib(size.to_kib_floor().saturating_mul(16).isqrt())
}

impl Memory {
    pub(crate) fn new(size: Bytes, swap: Bytes) -> Self {
        let none = Bytes::ZERO;
        Self {
            size,
            inflated: none,
            anon: none,
            swapped: none,
            files: none,
            swap,
            touched: none,
            host_swapped: none,
            hot: none,
            pieces: none,
            watermark: watermark(size),
        }
    }

    /// What its kernel keeps, no part of its `MemTotal`.
    pub(crate) fn reserved(&self) -> Bytes {
        self.size.scaled(STRUCT_PAGE.0, STRUCT_PAGE.1).plus(KERNEL)
    }
    /// `MemTotal`: all but what kernel and balloon hold.
    pub(crate) fn total(&self) -> Bytes {
        self.size.minus(self.reserved()).minus(self.inflated)
    }
    /// `MemFree`.
    pub(crate) fn free(&self) -> Bytes {
        self.total().minus(self.anon).minus(self.files)
    }
    /// `MemAvailable`: free memory above the high watermarks, and files but for the smaller of their half and the low one
    /// (`si_mem_available`, `mm/show_mem.c`).
    pub(crate) fn usable(&self) -> Bytes {
        let low = self.watermark.scaled(5, 4);
        let files = self.files.minus(self.files.scaled(1, 2).min(low));
        self.free().minus(self.watermark.scaled(3, 2)).plus(files)
    }
    /// What programs can be given at once.
    fn at_hand(&self) -> Bytes {
        self.free().minus(self.watermark)
    }
    /// What it uses of the host's memory now; the rest of what it touched is free in it.
    pub(crate) fn in_use(&self) -> Bytes {
        self.reserved().plus(self.anon).plus(self.files)
    }
    /// What it touched and does not use now, but for pieces.
    fn idle(&self) -> Bytes {
        self.touched.minus(self.in_use()).minus(PIECES)
    }
    /// What could be in the host's swap without anybody noticing: what is free, and files that nobody reads.
    pub(crate) fn cold(&self) -> Bytes {
        self.touched.minus(self.in_use()).plus(self.files.minus(self.hot))
    }
    /// What the host has behind it in its memory.
    pub(crate) fn resident(&self) -> Bytes {
        self.touched.minus(self.host_swapped)
    }

    /// Everything that was in it is gone; the host still has what it had behind it, but for what the balloon held.
    pub(crate) fn reboot(&mut self) {
        let Self { size, swap, touched, host_swapped, .. } = *self;
        *self = Self { touched, host_swapped, ..Self::new(size, swap) };
    }

    /// It comes from another node: that part of what its programs and files want is here.
    pub(crate) fn receive(&mut self, want: Want, part: u64, whole: u64) {
        self.hot = want.hot;
        (self.anon, self.files) = (want.anon.scaled(part, whole), want.files.scaled(part, whole));
        self.touched = self.touched.max(self.in_use().min(self.size));
    }

    /// Time passes. The balloon is to hold `balloon`; absent while no driver moves it.
    pub(crate) fn live(
        &mut self,
        want: Want,
        speeds: Speeds,
        balloon: Option<Bytes>,
        time: Duration,
    ) -> Cost {
        let within = |speed: Bytes| speed.scaled(millis(time), 1000);
        let mut cost = Cost::default();
        let (mut swap_left, mut disk_left) = (within(speeds.swap), within(speeds.disk));
        self.hot = want.hot;
        self.let_go(want);
        self.pieces = self.pieces.max(self.touched.minus(self.in_use()).min(PIECES));
        if let Some(balloon) = balloon.filter(|balloon| *balloon < self.inflated) {
            // Deflating needs nothing but the driver's word: well under a second.
            self.inflated = balloon;
        }
        self.grow(want, &mut swap_left, &mut cost);
        let step = balloon.unwrap_or_default().minus(self.inflated).min(within(speeds.balloon));
        // Programs and the driver wait for the same disk.
        let for_balloon = if step.is_zero() { Bytes::ZERO } else { swap_left.scaled(1, 2) };
        let mut for_programs = swap_left.minus(for_balloon);
        self.swap_in(&mut for_programs, &mut cost);
        self.read_files(want, &mut disk_left, &mut cost);
        self.inflate(step, &mut for_programs.plus(for_balloon), &mut cost);
        cost.lack = cost.lack.plus(want.anon.minus(self.anon));
        // What programs take anew comes in large blocks, and leaves the pieces between them as they are.
        let least = self.in_use().plus(self.pieces);
        self.touched = self.touched.max(least).min(self.size.minus(self.inflated));
        self.host_swapped = self.host_swapped.min(self.touched);
        cost
    }

    fn let_go(&mut self, want: Want) {
        let excess = self.anon.plus(self.swapped).minus(want.anon);
        let of_swap = excess.min(self.swapped);
        self.swapped = self.swapped.minus(of_swap);
        self.anon = self.anon.minus(excess.minus(of_swap));
        self.files = self.files.min(want.files);
    }

    fn grow(&mut self, want: Want, swap_left: &mut Bytes, cost: &mut Cost) {
        let missing = want.anon.minus(self.anon.plus(self.swapped));
        let made = self.make_room(missing, swap_left, cost);
        self.anon = self.anon.plus(made);
        cost.filled = cost.filled.plus(made);
        let no_swap = self.swapped >= self.swap;
        if made < missing && no_swap {
            cost.killed = true;
            (self.anon, self.swapped) = (Bytes::ZERO, Bytes::ZERO);
        }
    }

    /// Up to `wanted` at hand: what is free, files that nobody reads, other files, what can be swapped out in time.
    fn make_room(&mut self, wanted: Bytes, swap_left: &mut Bytes, cost: &mut Cost) -> Bytes {
        let short = wanted.minus(self.at_hand());
        let last = self.total().scaled(LAST_FILES.0, LAST_FILES.1);
        self.files = self.files.minus(short.min(self.files.minus(last)));
        let short = wanted.minus(self.at_hand());
        let out = short.min(*swap_left).min(self.anon).min(self.swap.minus(self.swapped));
        self.swap_out(out, swap_left, cost);
        wanted.min(self.at_hand())
    }

    fn swap_out(&mut self, out: Bytes, swap_left: &mut Bytes, cost: &mut Cost) {
        self.anon = self.anon.minus(out);
        self.swapped = self.swapped.plus(out);
        *swap_left = swap_left.minus(out);
        cost.swap_out = cost.swap_out.plus(out);
    }

    /// Programs touch all that is theirs, so what is swapped out is wanted back; where there is no room something else
    /// goes for it, and the disk does nothing else.
    fn swap_in(&mut self, swap_left: &mut Bytes, cost: &mut Cost) {
        let room = self.at_hand().min(self.swapped).min(*swap_left);
        self.anon = self.anon.plus(room);
        self.swapped = self.swapped.minus(room);
        *swap_left = swap_left.minus(room);
        let exchanged = self.swapped.min(swap_left.scaled(1, 2));
        *swap_left = swap_left.minus(exchanged.scaled(2, 1));
        cost.swap_out = cost.swap_out.plus(exchanged);
        let back = room.plus(exchanged);
        cost.swap_in = cost.swap_in.plus(back);
        cost.read = cost.read.plus(back);
        cost.major_faults = cost.major_faults.saturating_add(back.get().div_ceil(SWAP_READ));
    }

    /// Files fill what is free. Those that are read again and again and find no room are read each time.
    fn read_files(&mut self, want: Want, disk_left: &mut Bytes, cost: &mut Cost) {
        let fresh = want.files.minus(self.files).min(self.at_hand()).min(*disk_left);
        self.files = self.files.plus(fresh);
        *disk_left = disk_left.minus(fresh);
        cost.read = cost.read.plus(fresh);
        if self.at_hand().is_zero() {
            let missing = want.hot.minus(self.files);
            let again = missing.min(*disk_left);
            cost.read = cost.read.plus(again);
            cost.major_faults = cost.major_faults.saturating_add(again.get().div_ceil(FILE_READ));
            cost.lack = cost.lack.plus(missing);
        }
    }

    /// The driver takes what is free, and makes the kernel drop files and swap; it never makes it kill
    /// (`__GFP_NORETRY`, `mm/balloon_compaction.c`). What was used last is handed out first (the head of a free list,
    /// `mm/page_alloc.c`): the host gets all of it back, as long as there is any, before memory that was never touched goes.
    fn inflate(&mut self, step: Bytes, swap_left: &mut Bytes, cost: &mut Cost) {
        let got = self.make_room(step, swap_left, cost);
        self.inflated = self.inflated.plus(got);
        self.touched = self.touched.minus(got.min(self.idle()));
    }

    /// The guest tells the host which of its pages are free.
    pub(crate) fn report_free(&mut self, time: Duration) {
        let free = self.idle();
        let told = free.scaled(millis(time), millis(REPORTED_AFTER).max(1)).min(free);
        self.touched = self.touched.minus(told);
        self.host_swapped = self.host_swapped.min(self.touched);
    }
}

/// The part of `files` that is read again and again.
pub(crate) fn want(anon: Bytes, files: Bytes, hot: Permille) -> Want {
    Want { anon, files, hot: files.share(hot) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const SPEEDS: Speeds =
        Speeds { swap: Bytes::from_mib(20), disk: Bytes::from_mib(100), balloon: Bytes::from_mib(300) };

    fn mib(n: u64) -> Bytes {
        Bytes::from_mib(n)
    }

    fn live(memory: &mut Memory, anon: u64, files: u64, balloon: u64, seconds: u32) -> Cost {
        let want = want(mib(anon), mib(files), Permille::new(500));
        let live = |_| memory.live(want, SPEEDS, Some(mib(balloon)), SECOND);
        (0..seconds).map(live).last().unwrap()
    }

    #[test]
    fn a_balloon_takes_free_memory_then_files_and_hurts_only_then() {
        let mut memory = Memory::new(mib(1024), Bytes::ZERO);
        assert_eq!(live(&mut memory, 300, 400, 0, 10).lack, Bytes::ZERO);
        assert_eq!(memory.files, mib(400));
        assert_eq!(
            live(&mut memory, 300, 400, 450, 10).lack,
            Bytes::ZERO,
            "half of the files are read seldom"
        );
        assert!(live(&mut memory, 300, 400, 650, 10).lack > mib(100));
        assert!(memory.inflated > mib(600), "it goes on without killing");
        let cost = live(&mut memory, 300, 400, 0, 10);
        assert_eq!((cost.lack, memory.files), (Bytes::ZERO, mib(400)), "and back");
    }

    #[test]
    fn without_swap_its_kernel_kills_what_does_not_fit_and_with_swap_it_thrashes() {
        let mut without = Memory::new(mib(512), Bytes::ZERO);
        assert!(live(&mut without, 600, 0, 0, 1).killed);
        let mut with = Memory::new(mib(512), mib(1024));
        let cost = live(&mut with, 600, 0, 0, 60);
        assert!(!cost.killed && cost.swap_in > mib(5), "{cost:?}");
        assert_eq!(live(&mut with, 600, 0, 0, 1).lack, cost.lack, "it does not get better by itself");
        assert_eq!(live(&mut with, 300, 0, 0, 60).lack, Bytes::ZERO, "what ends needs nothing");
    }

    #[test]
    fn a_balloon_in_a_thrashing_guest_moves_as_fast_as_its_swap() {
        let mut memory = Memory::new(mib(512), mib(1024));
        live(&mut memory, 480, 0, 0, 30);
        live(&mut memory, 480, 0, 200, 1);
        assert!(memory.inflated < mib(60), "{}", memory.inflated);
        live(&mut memory, 480, 0, 200, 60);
        assert!(memory.inflated > mib(150), "{}", memory.inflated);
    }

    #[test]
    fn free_pages_stay_with_the_host_unless_they_are_reported() {
        let mut memory = Memory::new(mib(1024), Bytes::ZERO);
        live(&mut memory, 800, 0, 0, 5);
        live(&mut memory, 100, 0, 0, 5);
        assert!(memory.resident() >= mib(800));
        for _ in 0..30 {
            memory.report_free(SECOND);
        }
        assert!(memory.resident() < mib(200), "{}", memory.resident());
    }
}
