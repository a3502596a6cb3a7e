//! The kernel's knobs: what was found, what was written, and what to put back.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A file in `/sys/kernel/mm/ksm` that is written (Documentation/admin-guide/mm/ksm.rst).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Knob {
    /// `advisor_mode`.
    Advisor,
    /// `pages_to_scan`.
    PagesToScan,
    /// `sleep_millisecs`.
    SleepMillisecs,
    /// `run`.
    Run,
}

impl Knob {
    /// Its file's name.
    pub fn file(self) -> &'static str {
        match self {
            Self::Advisor => "advisor_mode",
            Self::PagesToScan => "pages_to_scan",
            Self::SleepMillisecs => "sleep_millisecs",
            Self::Run => "run",
        }
    }
}

/// The kernel's own control of `pages_to_scan`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Advisor {
    /// There is none, or it is off.
    #[default]
    None,
    /// It aims at a time for a full scan.
    ScanTime,
}

/// What the knobs are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knobs {
    /// 0 stopped, 1 running, 2 unmerged and stopped.
    pub run: u64,
    /// Pages between two sleeps.
    pub pages_to_scan: u64,
    /// How long a sleep is.
    pub sleep_millisecs: u64,
    /// The kernel's own control. While it is on, `pages_to_scan` is its, and writing that fails.
    pub advisor: Advisor,
}

impl Knobs {
    fn get(&self, knob: Knob) -> u64 {
        match knob {
            Knob::Advisor => u64::from(self.advisor == Advisor::ScanTime),
            Knob::PagesToScan => self.pages_to_scan,
            Knob::SleepMillisecs => self.sleep_millisecs,
            Knob::Run => self.run,
        }
    }

    fn set(&mut self, knob: Knob, value: u64) {
        match knob {
            Knob::Advisor => self.advisor = if value == 1 { Advisor::ScanTime } else { Advisor::None },
            Knob::PagesToScan => self.pages_to_scan = value,
            Knob::SleepMillisecs => self.sleep_millisecs = value,
            Knob::Run => self.run = value,
        }
    }
}

/// One knob, and what to write there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// Which.
    pub knob: Knob,
    value: u64,
}

impl Write {
    /// The text for its file.
    pub fn text(self) -> String {
        match (self.knob, self.value) {
            (Knob::Advisor, 1) => "scan-time".to_owned(),
            (Knob::Advisor, _) => "none".to_owned(),
            (_, value) => value.to_string(),
        }
    }

    /// It has ksmd scan.
    pub fn starts(self) -> bool {
        (self.knob, self.value) == (Knob::Run, 1)
    }

    /// What a person does in its place.
    pub fn by_hand(self) -> String {
        format!("echo {} > /sys/kernel/mm/ksm/{}", self.text(), self.knob.file())
    }
}

/// The same of several, in their order.
pub fn by_hand(writes: &[Write]) -> String {
    writes.iter().map(|write| write.by_hand()).collect::<Vec<_>>().join("; ")
}

/// A value that somebody else wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreign {
    /// Where.
    pub knob: Knob,
    /// What was found there.
    pub found: u64,
}

impl Foreign {
    /// It is the kernel's own control that somebody turned on.
    pub fn is_advisor(&self) -> bool {
        *self == Self { knob: Knob::Advisor, found: 1 }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { knob, found } = *self;
        write!(f, "{} became {}", knob.file(), Write { knob, value: found }.text())
    }
}

/// What is held of the knobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// As they were found.
    original: Knobs,
    /// As they were written last, or are about to be.
    ours: Knobs,
    /// As they were before that: what was decided may not be written yet.
    before: Knobs,
    /// Somebody else writes them.
    pub(super) yielded: Option<Foreign>,
}

/// What the kernel sets `pages_to_scan` to when its advisor is turned off (mm/ksm.c, `DEFAULT_PAGES_TO_SCAN`).
const WITHOUT_ADVISOR: u64 = 100;

/// What `sleep_millisecs` is set to where ksmd is stopped. A stop needs no disk, so that perhaps no journal knows of it: by
/// this a successor tells it from somebody else's. Nobody else writes it: ksmtuned and MOM write 10 ms × 16 GiB / the node's
/// memory, which is that on a node of 40 MiB; KubeVirt 100 ms × 16 GiB / what is used, which is that where 400 MiB are, and no
/// node that runs it uses so little; and people write round numbers. Not longer, for whoever starts ksmd by hand after an
/// agent that was killed waits for that.
pub(super) const STOPPED_SLEEP: u64 = 4099;

/// The advisor first: while it is on, what is written to the others is its to change. Whether to run last.
const TAKE: [Knob; 4] = [Knob::Advisor, Knob::PagesToScan, Knob::SleepMillisecs, Knob::Run];
/// The advisor after what it would refuse.
const PUT_BACK: [Knob; 4] = [Knob::PagesToScan, Knob::SleepMillisecs, Knob::Advisor, Knob::Run];

impl Held {
    pub(super) fn new(found: Knobs) -> Self {
        Self { original: found, ours: found, before: found, yielded: None }
    }

    /// Everything is as it was found.
    pub(super) fn is_back(&self, now: &Knobs) -> bool {
        self.yielded.is_none() && self.original == *now
    }

    /// As it was written last, or as it was before, or as a stop leaves it, or as the kernel's advisor has it, which was found or is put back.
    fn is_ours(&self, knob: Knob, now: &Knobs) -> bool {
        let value = now.get(knob);
        let by_advisor = || now.advisor == Advisor::ScanTime && self.is_ours(Knob::Advisor, now);
        let by_stop = now.sleep_millisecs == STOPPED_SLEEP && (knob != Knob::Run || now.run == 0);
        value == self.ours.get(knob)
            || (by_stop && [Knob::Run, Knob::SleepMillisecs].contains(&knob))
            || value == self.before.get(knob)
            || (knob == Knob::PagesToScan && by_advisor())
    }

    /// What was written last, with ksmd at work, where it may be that by what was written here.
    pub(super) fn scanning(&self) -> Option<Knobs> {
        let may_scan = self.ours.run == 1 || self.before.run == 1;
        (may_scan && self.yielded.is_none()).then_some(Knobs { run: 1, ..self.ours })
    }

    /// As they were found, where what is there now is a stop by this.
    pub(super) fn found_before_stop(&self, now: &Knobs) -> Option<Knobs> {
        let stopped = now.run == 0 && now.sleep_millisecs == STOPPED_SLEEP;
        (stopped && self.yielded.is_none()).then_some(self.original)
    }

    /// A knob that is none of that: the advisor before what it changes by itself.
    pub(super) fn foreign(&self, now: &Knobs) -> Option<Foreign> {
        TAKE.into_iter()
            .find(|knob| !self.is_ours(*knob, now))
            .map(|knob| Foreign { knob, found: now.get(knob) })
    }

    /// What makes `now` as `wanted`, but for what somebody else wrote.
    pub(super) fn want(&mut self, now: &Knobs, wanted: &Knobs) -> Vec<Write> {
        let differs = |knob: &Knob| self.is_ours(*knob, now) && now.get(*knob) != wanted.get(*knob);
        let knobs: Vec<Knob> = TAKE.into_iter().filter(differs).collect();
        knobs.into_iter().map(|knob| self.write(knob, now, wanted.get(knob))).collect()
    }

    /// Takes in what is there: what was written is, and what it was before is nobody's here any more.
    pub(super) fn confirm(&mut self, now: &Knobs) {
        let advised = |at: &Knobs| at.advisor == Advisor::ScanTime;
        if advised(&self.before) && !advised(&self.ours) && !advised(now) {
            // Whoever ended between the two writes left that.
            self.before.pages_to_scan = WITHOUT_ADVISOR;
        }
        for knob in TAKE.into_iter().filter(|knob| now.get(*knob) == self.ours.get(*knob)) {
            self.before.set(knob, now.get(knob));
        }
    }

    /// The same where nothing is somebody else's: what is as it was before was not written.
    pub(super) fn settle(&mut self, now: &Knobs) {
        for knob in TAKE.into_iter().filter(|knob| now.get(*knob) == self.before.get(*knob)) {
            self.ours.set(knob, now.get(knob));
        }
    }

    /// Leaves the knobs to whoever wrote that, for good; puts back what is still as it was written here, once.
    pub(super) fn give_way(&mut self, to: Foreign, now: &Knobs) -> Vec<Write> {
        let writes = self.put_back(now, true);
        self.yielded = Some(to);
        writes
    }

    /// What is not as it was found, as far as is known without looking: what was written, or was to be.
    pub fn not_back(&self) -> Vec<Write> {
        let changed = |knob: &Knob| {
            let found = self.original.get(*knob);
            self.ours.get(*knob) != found || self.before.get(*knob) != found
        };
        let knobs = PUT_BACK.into_iter().filter(|knob| self.yielded.is_none() && changed(knob));
        knobs.map(|knob| Write { knob, value: self.original.get(knob) }).collect()
    }

    /// What puts back that is still as it was written here; what somebody else wrote stays.
    pub fn restore(&mut self, now: &Knobs) -> Vec<Write> {
        self.put_back(now, self.foreign(now).is_some())
    }

    /// The same; beside others, who may have written `run` as it was before the last write here, that only where it surely is
    /// as it was set.
    pub(super) fn put_back(&mut self, now: &Knobs, beside: bool) -> Vec<Write> {
        if self.yielded.is_some() {
            return Vec::new();
        }
        let sure = now.run == self.ours.run && now.run == self.before.run;
        let to_do = |held: &Self, knob: &Knob| {
            let ours = held.is_ours(*knob, now) && (sure || !beside || *knob != Knob::Run);
            ours && now.get(*knob) != held.original.get(*knob)
        };
        // What the advisor is about to set by itself, or has in its hands: it would be refused, and all that follows with it.
        let advised = [self.original.advisor, now.advisor].contains(&Advisor::ScanTime);
        let knobs: Vec<Knob> = PUT_BACK
            .into_iter()
            .filter(|knob| to_do(self, knob) && !(advised && *knob == Knob::PagesToScan))
            .collect();
        knobs.into_iter().map(|knob| self.write(knob, now, self.original.get(knob))).collect()
    }

    /// What is there now may stay there for a while, or for good if the write fails.
    fn write(&mut self, knob: Knob, now: &Knobs, value: u64) -> Write {
        self.before.set(knob, now.get(knob));
        self.ours.set(knob, value);
        Write { knob, value }
    }
}
