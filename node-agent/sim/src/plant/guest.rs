//! One guest: its life, its device, its programs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use overcommit_core::lane::Glimpse;
use overcommit_core::sample::{Balloon, Incarnation, ProcessFacts, RunState};
use overcommit_core::units::Bytes;

use super::memory::{self, Memory, Speeds, Want};
use super::words::{Counters, Words, shown};
use crate::course::{Course, millis, up_to};
use crate::moment::{Moment, Presence};
use crate::scenario::{Event, Group, Happening, Temper};

/// A guest of the test bed boots in 6 s of one emulated core.
const BOOT: Duration = Duration::from_secs(6);
/// A guest that deflates by itself does so this long after it was last told something.
const DEFLATES_AFTER: Duration = Duration::from_secs(30);
/// What was killed in it is started anew (`RestartSec=`, systemd.service(5), of a service that its owner made patient).
const PROGRAMS_AGAIN: Duration = Duration::from_secs(10);
/// What a guest has to lack of what it needs before it counts as distress: 1 %, and more than noise.
const LACK: (u64, u64, Bytes) = (1, 100, Bytes::from_mib(2));

/// What a guest lives through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Away {
        until: Option<Duration>,
    },
    Boots {
        until: Duration,
    },
    Runs,
    Frozen {
        until: Duration,
        boots: Option<Duration>,
    },
    /// It still runs on another node, and its memory comes.
    Arrives {
        since: Duration,
        until: Duration,
    },
}

/// What happened to it in one step, for whoever counts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Felt {
    /// It needs what it does not have in memory, or what its kernel killed is not back.
    pub(crate) distress: bool,
    /// Its own kernel killed.
    pub(crate) killed_within: bool,
}

/// One guest.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub(crate) name: Arc<str>,
    pub(crate) group: Arc<Group>,
    pub(crate) memory: Memory,
    pub(crate) felt: Felt,
    /// What of its memory is merged with others', and what of that they are charged for.
    pub(super) merged: Bytes,
    pub(super) charged_elsewhere: Bytes,
    life: Life,
    /// The node ended it, and it is not back.
    ended: bool,
    /// What its device was told last.
    device: Bytes,
    /// What the device says that the guest holds.
    said: Bytes,
    told_at: Duration,
    period: u32,
    next_words: Duration,
    silent_until: Duration,
    /// It runs here until then, and its memory goes to another node.
    migrates_until: Option<Duration>,
    /// It is yet to come from another node, and that takes so long.
    arrives: Option<Duration>,
    words: Option<Words>,
    counters: Counters,
    programs_again: Duration,
    demand: Course,
    files: Course,
    want: Want,
    events: VecDeque<Event>,
    process: Incarnation,
    read: Bytes,
    suffers_from_host: bool,
}

impl Guest {
    pub(crate) fn new(name: Arc<str>, group: &Arc<Group>, number: u32, chance: &mut Rng) -> Self {
        let size = group.size.0;
        let starts = group.starts.0;
        let arrives = group.arrives.map(|span| span.0);
        let is_here = starts.is_zero() && arrives.is_none();
        let life = if is_here { Life::Runs } else { Life::Away { until: Some(starts) } };
        let period = u32::try_from(group.statistics.0.as_secs()).unwrap_or(u32::MAX);
        Self {
            name,
            memory: Memory::new(size, group.swap.0),
            felt: Felt::default(),
            merged: Bytes::ZERO,
            charged_elsewhere: Bytes::ZERO,
            life,
            ended: false,
            device: size,
            said: size,
            told_at: Duration::ZERO,
            period,
            next_words: up_to(chance, group.statistics.0),
            silent_until: Duration::ZERO,
            migrates_until: None,
            arrives,
            words: None,
            counters: Counters::default(),
            programs_again: Duration::ZERO,
            demand: Course::new(&group.demand, chance),
            files: Course::new(&group.files, chance),
            want: Want::default(),
            events: group.events.iter().copied().collect(),
            process: Incarnation { pid: number.saturating_add(1000), start_ticks: 1 },
            read: Bytes::ZERO,
            suffers_from_host: false,
            group: Arc::clone(group),
        }
    }

    /// Its process runs on the node.
    pub(crate) fn is_here(&self) -> bool {
        !matches!(self.life, Life::Away { .. })
    }

    /// What it would need to have in memory, its kernel included.
    pub(crate) fn need(&self) -> Bytes {
        if !self.is_here() {
            return Bytes::ZERO;
        }
        self.memory.reserved().plus(self.want.anon).plus(self.want.hot)
    }

    /// What its balloon leaves it.
    pub(crate) fn holds(&self) -> Bytes {
        self.memory.size.minus(self.memory.inflated)
    }

    /// Time passes, until `now`; `wall` is the second of the wall clock then.
    pub(crate) fn live(&mut self, now: Duration, time: Duration, wall: u64, stalled: bool) {
        self.felt = Felt::default();
        self.suffer_events(now);
        self.go_on(now);
        match self.life {
            Life::Away { .. } | Life::Frozen { .. } => return,
            Life::Arrives { since, until } => return self.arrive(now, since, until),
            Life::Boots { .. } => self.want = Want::default(),
            Life::Runs => self.want = self.wants(now),
        }
        let group = &self.group;
        let speeds =
            Speeds { swap: group.swap_speed.0, disk: group.disk_speed.0, balloon: group.balloon_speed.0 };
        let cost = self.memory.live(self.want, speeds, self.wanted_balloon(now), time);
        if self.group.free_page_reporting {
            self.memory.report_free(time);
        }
        self.read = self.read.plus(cost.read);
        self.counters.count(&cost, time);
        if cost.killed {
            self.programs_again = now.saturating_add(PROGRAMS_AGAIN);
        }
        self.say(now, wall);
        let noise = self.need().scaled(LACK.0, LACK.1).max(LACK.2);
        let killed_within = cost.killed;
        let distress = now < self.programs_again || cost.lack > noise || self.suffers_from_host || stalled;
        self.felt = Felt { distress, killed_within };
    }

    /// Its memory comes at an even pace; what its programs do they do elsewhere.
    fn arrive(&mut self, now: Duration, since: Duration, until: Duration) {
        self.want = self.wants(now);
        let (gone, whole) = (millis(now.saturating_sub(since)), millis(until.saturating_sub(since)));
        self.memory.receive(self.want, gone, whole);
    }

    fn wants(&mut self, now: Duration) -> Want {
        let anon = self.demand.at(now);
        let anon = if now < self.programs_again { Bytes::ZERO } else { anon };
        memory::want(anon, self.files.at(now), self.group.hot.0)
    }

    /// What the driver wants in the balloon; absent while there is none that moves it.
    fn wanted_balloon(&self, now: Duration) -> Option<Bytes> {
        let told = self.memory.size.minus(self.device);
        match (self.life, self.group.temper) {
            (Life::Boots { .. }, _) | (_, Temper::Deaf | Temper::Pretends) => None,
            (_, Temper::Deflates) if now.saturating_sub(self.told_at) >= DEFLATES_AFTER => Some(Bytes::ZERO),
            _ => Some(told),
        }
    }

    fn say(&mut self, now: Duration, wall: u64) {
        if matches!(self.life, Life::Boots { .. }) {
            return;
        }
        self.said = if self.group.temper == Temper::Pretends { self.device } else { self.holds() };
        if now < self.next_words || now < self.silent_until {
            return;
        }
        let period = Duration::from_secs(u64::from(self.period.max(1)));
        let late = now.saturating_sub(self.next_words);
        self.next_words = if late < period { self.next_words } else { now }.saturating_add(period);
        let squeezed = self.device < self.memory.size;
        let says =
            if squeezed && self.group.temper == Temper::Hoards { Words::wailing } else { Words::honest };
        self.words = Some(says(&self.memory, self.counters, wall));
    }

    fn suffer_events(&mut self, now: Duration) {
        while let Some(event) = self.events.pop_front_if(|event| event.at.0 <= now) {
            let until = event.at.0.saturating_add(event.lasts.0);
            match event.what {
                _ if !self.is_here() => {}
                Happening::Reboots => self.boot(now),
                Happening::Freezes => self.freeze(until, event.lasts.0),
                Happening::FallsSilent => self.silent_until = until,
                Happening::Stops => self.leave(None),
                Happening::Migrates => self.migrates_until = Some(until),
            }
        }
    }

    /// A kernel that is booting boots for as long again afterwards.
    fn freeze(&mut self, until: Duration, lasts: Duration) {
        let boots = match self.life {
            Life::Boots { until } => Some(until.saturating_add(lasts)),
            Life::Frozen { boots, .. } => boots.map(|boots| boots.saturating_add(lasts)),
            Life::Runs | Life::Away { .. } | Life::Arrives { .. } => None,
        };
        self.life = Life::Frozen { until, boots };
    }

    fn go_on(&mut self, now: Duration) {
        if self.migrates_until.is_some_and(|until| until <= now) {
            self.leave(None);
        }
        match self.life {
            Life::Away { until: Some(until) } if until <= now => self.start(now),
            Life::Arrives { until, .. } if until <= now => {
                self.memory.receive(self.want, 1, 1);
                self.next_words = now.saturating_add(Duration::from_secs(u64::from(self.period)));
                self.life = Life::Runs;
            }
            Life::Frozen { until, boots: Some(boots) } if until <= now && boots > now => {
                self.life = Life::Boots { until: boots };
            }
            Life::Boots { until } | Life::Frozen { until, .. } if until <= now => self.life = Life::Runs,
            _ => {}
        }
    }

    /// The device keeps what it was told and goes on saying what it said until the new kernel's driver is there.
    fn boot(&mut self, now: Duration) {
        self.memory.reboot();
        self.counters = Counters::default();
        self.life = Life::Boots { until: now.saturating_add(BOOT) };
        self.next_words = now.saturating_add(BOOT);
    }

    /// A new process.
    fn start(&mut self, now: Duration) {
        self.ended = false;
        self.memory = Memory::new(self.group.size.0, self.group.swap.0);
        (self.device, self.said) = (self.memory.size, self.memory.size);
        self.period = u32::try_from(self.group.statistics.0.as_secs()).unwrap_or(u32::MAX);
        self.words = None;
        self.read = Bytes::ZERO;
        let pid = self.process.pid.saturating_add(10_000);
        self.process = Incarnation { pid, start_ticks: millis(now) / 10 };
        match self.arrives.take() {
            Some(takes) => self.life = Life::Arrives { since: now, until: now.saturating_add(takes) },
            None => self.boot(now),
        }
    }

    fn leave(&mut self, until: Option<Duration>) {
        self.life = Life::Away { until };
        (self.merged, self.charged_elsewhere) = (Bytes::ZERO, Bytes::ZERO);
        self.migrates_until = None;
        self.memory = Memory::new(self.group.size.0, self.group.swap.0);
        self.want = Want::default();
        self.felt = Felt::default();
    }

    /// The node killed it.
    pub(crate) fn is_killed(&mut self, now: Duration) {
        self.ended = true;
        self.leave(self.group.returns.map(|span| now.saturating_add(span.0)));
    }

    /// The host reads back what this guest needs of `swapped` memory that the host had taken.
    pub(crate) fn host_reads(&mut self, back: Bytes) {
        // Its process does, as the kernel counts (`task_io_account_read`).
        self.read = self.read.plus(back);
        self.suffers_from_host = back > LACK.2;
    }

    pub(crate) fn set_target(&mut self, to: Bytes, now: Duration) {
        if to != self.device {
            self.told_at = now;
        }
        self.device = to.min(self.memory.size);
    }

    pub(crate) fn target(&self) -> Bytes {
        self.device
    }

    pub(crate) fn set_period(&mut self, seconds: u32, now: Duration) {
        self.period = seconds;
        self.next_words = now.saturating_add(Duration::from_secs(u64::from(seconds.max(1))));
    }

    // What the host and libvirt show of it.

    pub(crate) fn balloon(&self) -> Balloon {
        shown(self.said, self.period, self.words.as_ref())
    }
    pub(crate) fn stamp(&self) -> Option<u64> {
        self.words.as_ref().map(Words::stamp)
    }
    pub(crate) fn process(&self) -> Incarnation {
        self.process
    }
    pub(crate) fn run_state(&self) -> RunState {
        match self.life {
            Life::Away { .. } => RunState::Unreachable,
            Life::Arrives { .. } => RunState::Paused,
            _ if self.migrates_until.is_some() => RunState::Busy,
            _ => RunState::Running,
        }
    }
    /// What its pod holds of the host's memory.
    pub(crate) fn resident(&self) -> Bytes {
        if self.is_here() { self.memory.resident().plus(self.group.overhead.0) } else { Bytes::ZERO }
    }
    /// What the host has in memory for its pod alone.
    pub(crate) fn charged(&self) -> Bytes {
        self.resident().minus(self.charged_elsewhere)
    }
    /// How it is now, for whoever counts.
    pub(crate) fn moment(&self) -> Moment {
        Moment {
            presence: match self.life {
                Life::Away { .. } if self.ended => Presence::Ended,
                Life::Away { .. } => Presence::Away,
                _ => Presence::Here,
            },
            size: self.memory.size,
            need: self.need(),
            holds: self.holds(),
            target: self.target(),
            resident: self.resident(),
            distress: self.felt.distress,
            killed_within: self.felt.killed_within,
        }
    }
    pub(crate) fn glimpse(&self) -> Glimpse {
        Glimpse { resident: self.resident(), read: self.read }
    }
    pub(crate) fn facts(&self) -> ProcessFacts {
        let limit = self.group.limit.map(|size| size.0);
        ProcessFacts {
            resident: Some(self.resident()),
            anon: Some(self.charged()),
            repeated: None,
            merging: Some(self.merged).filter(|merged| !merged.is_zero()),
            overhead: Some(self.group.overhead.0),
            request: Some(self.group.request.0),
            limit,
            bound: limit,
            swappable: None,
            swapped: Some(self.memory.host_swapped).filter(|swapped| !swapped.is_zero()),
            faults: None,
        }
    }

    /// The kubelet's `oom_score_adj` of a burstable pod (pkg/kubelet/qos/policy.go).
    pub(crate) fn oom_score_adj(&self, host: Bytes) -> u64 {
        let requested = self.group.request.0.scaled(1000, host.get().max(1)).get();
        1000_u64.saturating_sub(requested).clamp(2, 999)
    }

    /// A part of what it has, for ranking.
    pub(crate) fn over_request(&self) -> Bytes {
        self.resident().minus(self.group.request.0)
    }
}
