//! What a guest is told to do with its memory, as words on its kernel command line (`load=…`) or over its command port.
//!
//! Used on both sides: the test bed writes these words, the program in the guest reads them. Standard library only.

use std::fmt;
use std::str::FromStr;

/// A way to use memory. Sizes are MiB, times are seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Load {
    /// Reads some of the disk, if there is one, so that there is page cache, and does nothing else. `idle` or `idle:CACHE`
    Idle {
        /// How much is read.
        cache_mib: u64,
    },
    /// Grows a buffer at a rate up to a size and writes all its pages over and over. `busy:SIZE:RATE`
    Busy {
        /// Final size.
        mib: u64,
        /// Growth per second.
        ramp_mib_per_s: u64,
    },
    /// The same, but writes no more than so much per second: what lacks nothing leaves its processor idle most of the time.
    /// `paced:SIZE:RATE:PACE`
    Paced {
        /// Final size.
        mib: u64,
        /// Growth per second.
        ramp_mib_per_s: u64,
        /// What it writes per second.
        pace_mib_per_s: u64,
    },
    /// Touches so much once, however long that takes, and lets it go: the host keeps its pages. `touched:SIZE`
    Touched {
        /// How much.
        mib: u64,
    },
    /// Fills a buffer once and keeps it. `hold:SIZE`
    Hold {
        /// Size.
        mib: u64,
    },
    /// The same, but what it is filled with follows from the seed alone: guests with the same seed hold the same pages, each
    /// of them once. `equal:SIZE:SEED`
    Equal {
        /// Size.
        mib: u64,
        /// What the pages follow from.
        seed: u64,
    },
    /// Writes a buffer over and over whose size goes up and down between two values. `waves:LOW:HIGH:PERIOD`
    Waves {
        /// Smallest size.
        low_mib: u64,
        /// Largest size.
        high_mib: u64,
        /// From one smallest size to the next.
        period_s: u64,
    },
    /// Writes a buffer over and over that grows and shrinks between two sizes by a pattern of which a seed is all: the
    /// same seed is the same demand, second by second, whatever the guest gets done. `memknobs:LOW:HIGH:SEED`
    Memknobs {
        /// Smallest size.
        low_mib: u64,
        /// Largest size.
        high_mib: u64,
        /// What the pattern follows from.
        seed: u64,
    },
    /// Writes a buffer over and over whose size follows a course; the last size stays. `steps:SIZExSECONDS,SIZExSECONDS,…`
    Steps(
        /// Sizes, each with how long it lasts.
        Vec<(u64, u64)>,
    ),
    /// Answers requests, which come at a fixed mean rate, out of files on a disk of its own and of its own memory, each of which
    /// it needs all the time, some files more than others. `cloudy:FILES:MEMORY:RATE:SEED`
    Cloudy {
        /// Size of the files.
        data_mib: u64,
        /// Size of its own memory.
        heap_mib: u64,
        /// Requests per second.
        per_second: u64,
        /// What the requests follow from, and when they come.
        seed: u64,
    },
    /// Touches all that it can get and keeps it, whatever that is by then: grows while more than this is usable
    /// (`MemAvailable`). `surge:SPARE:RATE`
    Surge {
        /// What it leaves usable, for the kernel.
        spare_mib: u64,
        /// Growth per second at most.
        ramp_mib_per_s: u64,
    },
}

/// Page cache of an idle guest where none is asked for.
const DEFAULT_CACHE_MIB: u64 = 24;

impl Load {
    /// Does nothing but hold a little page cache.
    pub const IDLE: Self = Self::Idle { cache_mib: DEFAULT_CACHE_MIB };

    /// How large the buffer should be, this many seconds after the load began.
    pub fn wanted_mib(&self, second: u64) -> u64 {
        match self {
            Self::Idle { .. } | Self::Touched { .. } => 0,
            Self::Busy { mib, ramp_mib_per_s } | Self::Paced { mib, ramp_mib_per_s, .. } => {
                ramp_mib_per_s.saturating_mul(second.saturating_add(1)).min(*mib)
            }
            Self::Hold { mib } | Self::Equal { mib, .. } | Self::Cloudy { heap_mib: mib, .. } => *mib,
            Self::Waves { low_mib, high_mib, period_s } => wave(*low_mib, *high_mib, *period_s, second),
            Self::Memknobs { low_mib, high_mib, seed } => pattern(*low_mib, *high_mib, *seed, second),
            Self::Steps(steps) => course(steps, second),
            Self::Surge { ramp_mib_per_s, .. } => ramp_mib_per_s.saturating_mul(second.saturating_add(1)),
        }
    }

    /// What must stay usable, where the buffer takes only what is.
    pub fn spares_mib(&self) -> Option<u64> {
        match self {
            Self::Surge { spare_mib, .. } => Some(*spare_mib),
            _ => None,
        }
    }

    /// What is written per second at most, where that is bounded.
    pub fn pace_mib(&self) -> Option<u64> {
        match self {
            Self::Paced { pace_mib_per_s, .. } => Some(*pace_mib_per_s),
            _ => None,
        }
    }

    /// What its pages follow from, where they are to be those of other guests too.
    pub fn equal_by(&self) -> Option<u64> {
        match self {
            Self::Equal { seed, .. } => Some(*seed),
            _ => None,
        }
    }

    /// How many requests come per second, where it answers some.
    pub fn per_second(&self) -> Option<u64> {
        match self {
            Self::Cloudy { per_second, .. } => Some(*per_second),
            _ => None,
        }
    }

    /// What is touched before all else.
    pub fn touched_mib(&self) -> Option<u64> {
        match self {
            Self::Touched { mib } => Some(*mib),
            _ => None,
        }
    }

    /// Whether it has work to do for ever: what only holds something has none.
    pub fn works(&self) -> bool {
        self.keeps_writing() || self.per_second().is_some()
    }

    /// Whether the buffer is written over and over, rather than once.
    pub fn keeps_writing(&self) -> bool {
        match self {
            Self::Idle { .. }
            | Self::Touched { .. }
            | Self::Hold { .. }
            | Self::Equal { .. }
            | Self::Cloudy { .. }
            | Self::Surge { .. } => false,
            Self::Busy { .. }
            | Self::Paced { .. }
            | Self::Waves { .. }
            | Self::Memknobs { .. }
            | Self::Steps(_) => true,
        }
    }
}

/// Up in the first half of the period, down in the second, in straight lines.
fn wave(low: u64, high: u64, period: u64, second: u64) -> u64 {
    let period = period.max(2);
    let phase = second % period;
    let distance = phase.min(period - phase).saturating_mul(2);
    low + high.saturating_sub(low).saturating_mul(distance) / period
}

/// Seconds that a size of the pattern lasts, from the shortest on, so many different ones.
const LASTS: (u64, u64) = (8, 17);

/// Sizes drawn evenly from `low..=high`, each for 8 to 24 s, the next one reached at once.
fn pattern(low: u64, high: u64, seed: u64, second: u64) -> u64 {
    let (mut state, mut end) = (seed, 0_u64);
    loop {
        let (size, lasts) = (draw(&mut state), draw(&mut state));
        end = end.saturating_add(LASTS.0 + lasts % LASTS.1);
        if second < end {
            return low + size % (high.saturating_sub(low) + 1);
        }
    }
}

/// `SplitMix64` (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
pub(crate) fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn course(steps: &[(u64, u64)], second: u64) -> u64 {
    let mut end: u64 = 0;
    for (size, lasts) in steps {
        end = end.saturating_add(*lasts);
        if second < end {
            return *size;
        }
    }
    steps.last().map_or(0, |(size, _)| *size)
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle { cache_mib } => write!(f, "idle:{cache_mib}"),
            Self::Busy { mib, ramp_mib_per_s } => write!(f, "busy:{mib}:{ramp_mib_per_s}"),
            Self::Paced { mib, ramp_mib_per_s, pace_mib_per_s } => {
                write!(f, "paced:{mib}:{ramp_mib_per_s}:{pace_mib_per_s}")
            }
            Self::Touched { mib } => write!(f, "touched:{mib}"),
            Self::Hold { mib } => write!(f, "hold:{mib}"),
            Self::Equal { mib, seed } => write!(f, "equal:{mib}:{seed}"),
            Self::Waves { low_mib, high_mib, period_s } => write!(f, "waves:{low_mib}:{high_mib}:{period_s}"),
            Self::Memknobs { low_mib, high_mib, seed } => write!(f, "memknobs:{low_mib}:{high_mib}:{seed}"),
            Self::Steps(steps) => {
                let words: Vec<_> = steps.iter().map(|(size, lasts)| format!("{size}x{lasts}")).collect();
                write!(f, "steps:{}", words.join(","))
            }
            Self::Cloudy { data_mib, heap_mib, per_second, seed } => {
                write!(f, "cloudy:{data_mib}:{heap_mib}:{per_second}:{seed}")
            }
            Self::Surge { spare_mib, ramp_mib_per_s } => write!(f, "surge:{spare_mib}:{ramp_mib_per_s}"),
        }
    }
}

impl FromStr for Load {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        if kind == "steps" {
            return steps(rest).map(Self::Steps).ok_or_else(|| format!("not SIZExSECONDS,…: {rest}"));
        }
        let words = rest.split(':').filter(|word| !word.is_empty());
        let numbers = words
            .map(|w| w.parse::<u64>().map_err(|_| format!("not a number: {w}")))
            .collect::<Result<Vec<_>, _>>()?;
        match (kind, numbers.as_slice()) {
            ("idle", []) => Ok(Self::IDLE),
            ("idle", [cache_mib]) => Ok(Self::Idle { cache_mib: *cache_mib }),
            ("busy", [mib, ramp]) => Ok(Self::Busy { mib: *mib, ramp_mib_per_s: *ramp }),
            ("paced", [mib, ramp, pace]) => {
                Ok(Self::Paced { mib: *mib, ramp_mib_per_s: *ramp, pace_mib_per_s: *pace })
            }
            ("touched", [mib]) => Ok(Self::Touched { mib: *mib }),
            ("hold", [mib]) => Ok(Self::Hold { mib: *mib }),
            ("equal", [mib, seed]) => Ok(Self::Equal { mib: *mib, seed: *seed }),
            ("waves", [low, high, period]) => {
                Ok(Self::Waves { low_mib: *low, high_mib: *high, period_s: *period })
            }
            ("memknobs", [low, high, seed]) => {
                Ok(Self::Memknobs { low_mib: *low, high_mib: *high, seed: *seed })
            }
            ("cloudy", [data_mib, heap_mib, per_second, seed]) => Ok(Self::Cloudy {
                data_mib: *data_mib,
                heap_mib: *heap_mib,
                per_second: *per_second,
                seed: *seed,
            }),
            ("surge", [spare, ramp]) => Ok(Self::Surge { spare_mib: *spare, ramp_mib_per_s: *ramp }),
            _ => Err(format!(
                "unknown load: {text} (idle[:CACHE] busy:SIZE:RATE paced:SIZE:RATE:PACE touched:SIZE hold:SIZE \
                 equal:SIZE:SEED waves:LOW:HIGH:PERIOD memknobs:LOW:HIGH:SEED cloudy:FILES:MEMORY:RATE:SEED \
                 steps:SIZExSECONDS,… surge:SPARE:RATE)"
            )),
        }
    }
}

fn steps(text: &str) -> Option<Vec<(u64, u64)>> {
    let step = |word: &str| {
        let (size, lasts) = word.split_once('x')?;
        Some((size.parse().ok()?, lasts.parse().ok()?))
    };
    text.split(',').map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_as_they_were_written() {
        for word in [
            "idle:24",
            "busy:300:50",
            "paced:300:50:20",
            "touched:200",
            "hold:200",
            "equal:64:7",
            "waves:50:250:60",
            "memknobs:60:400:7",
            "cloudy:300:64:16:7",
            "steps:100x20,300x40",
            "surge:16:50",
        ] {
            assert_eq!(word.parse::<Load>().unwrap().to_string(), word);
        }
    }

    #[test]
    fn wrong_words_are_refused() {
        for word in ["", "busy", "busy:1", "busy:x:1", "hold:1:2", "equal:1", "steps:", "steps:1", "nap"] {
            assert!(word.parse::<Load>().is_err(), "{word}");
        }
    }

    #[test]
    fn a_pattern_is_its_seeds_alone_and_uses_all_between_its_bounds() {
        let sizes = |seed| -> Vec<u64> { (0..3600).map(|second| pattern(60, 400, seed, second)).collect() };
        let hour = sizes(7);
        assert!(hour == sizes(7) && hour != sizes(8));
        let (least, most) = (hour.iter().min().unwrap(), hour.iter().max().unwrap());
        assert!((60..80).contains(least) && (380..=400).contains(most), "{least} to {most}");
        let changes = hour.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!((3600 / 24..3600 / 8).contains(&changes), "{changes} changes");
    }

    #[test]
    fn sizes_follow_the_course() {
        let at = |word: &str, second| word.parse::<Load>().unwrap().wanted_mib(second);
        assert_eq!([at("busy:300:50", 0), at("busy:300:50", 2), at("busy:300:50", 60)], [50, 150, 300]);
        assert_eq!(
            [at("waves:50:250:60", 0), at("waves:50:250:60", 30), at("waves:50:250:60", 60)],
            [50, 250, 50]
        );
        assert_eq!(
            [at("steps:10x2,20x3", 1), at("steps:10x2,20x3", 2), at("steps:10x2,20x3", 9)],
            [10, 20, 20]
        );
    }
}
