//! What no single field shows: whether they go together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use overcommit_core::units::Bytes;

use super::{Course, Group, Happening, Scenario};

/// The lane's own poll: nothing that decides looks more often.
const SHORTEST_STEP: Duration = overcommit_core::lane::POLL;
/// Statistics and the kubelet's look at memory would be missed in longer ones.
const LONGEST_STEP: Duration = Duration::from_secs(10);
/// Smaller than any kernel boots in.
const SMALLEST: Bytes = Bytes::from_mib(16);
/// A year; more is a slip.
const LONGEST: Duration = Duration::from_hours(365 * 24);
/// What a node of Kubernetes can be told to run; a hundred times fewer is usual.
const MOST_GUESTS: u64 = 10_000;

impl Scenario {
    /// What does not go together: each a sentence that begins with the field.
    pub(super) fn contradictions(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if !(SHORTEST_STEP..=LONGEST_STEP).contains(&self.step.0) {
            wrong.push("step: must be from 200ms to 10s".to_owned());
        }
        if self.lasts.0 < self.step.0 || self.lasts.0 > LONGEST {
            wrong.push("lasts: must be from one step to 365d".to_owned());
        }
        let kept = self.host.huge_pages.0.plus(self.host.kernel.0);
        if kept >= self.host.memory.0 {
            wrong.push(
                "host.memory: must be more than hugePages and kernel, which guests cannot have".to_owned(),
            );
        }
        if self.host.eviction.0 >= self.host.memory.0 {
            wrong
                .push("host.eviction: must be less than host.memory: the kubelet would evict all".to_owned());
        }
        self.host.other.contradictions("host.other", &mut wrong);
        if self.guests.iter().map(|group| u64::from(group.count)).sum::<u64>() > MOST_GUESTS {
            wrong.push(format!("guests: must be {MOST_GUESTS} at most, all counts together"));
        }
        self.names(&mut wrong);
        for (index, group) in self.guests.iter().enumerate() {
            group.contradictions(&format!("guests[{index}]"), &mut wrong);
        }
        wrong
    }

    /// Two guests of one name would be one to whoever reads the outcome.
    fn names(&self, wrong: &mut Vec<String>) {
        let several = self.guests.iter().filter(|group| group.count > 1);
        let several: BTreeMap<_, u32> = several.map(|group| (group.key(), group.count)).collect();
        let mut seen = BTreeSet::new();
        for (index, group) in self.guests.iter().enumerate() {
            if !seen.insert(group.key()) {
                wrong.push(format!(
                    "guests[{index}].name: stands twice: write another, or count: 2 in one place"
                ));
            }
            // Of two groups of several only those of one name have guests of one name: the number behind it has no dash.
            let alone = (group.count == 1).then(|| group.name.rsplit_once('-')).flatten();
            let Some((of, number)) = alone else { continue };
            let count = several.get(&(group.namespace.as_str(), of)).copied().unwrap_or_default();
            if number.parse::<u32>().is_ok_and(|n| n < count && n.to_string() == number) {
                wrong.push(format!(
                    "guests[{index}].name: {} is also what a guest of the group {of} with count: {count} is called: write another \
                     for one of both",
                    group.name
                ));
            }
        }
    }
}

impl Group {
    fn key(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }

    fn contradictions(&self, place: &str, wrong: &mut Vec<String>) {
        for (field, name) in [("name", &self.name), ("namespace", &self.namespace)] {
            if !is_name(name) {
                wrong.push(format!(
                    "{place}.{field}: {name:?} is no name: write up to 40 lower-case letters, digits and dashes"
                ));
            }
        }
        if self.size.0 < SMALLEST {
            wrong.push(format!("{place}.size: must be at least 16Mi"));
        }
        for (field, speed) in [
            ("swapSpeed", self.swap_speed),
            ("diskSpeed", self.disk_speed),
            ("balloonSpeed", self.balloon_speed),
        ] {
            if speed.0.is_zero() {
                wrong.push(format!("{place}.{field}: must be more than nothing: write what is moved in a second, such as 20Mi"));
            }
        }
        if self.count == 0 {
            wrong.push(format!("{place}.count: must be at least 1"));
        }
        if !(Duration::from_secs(1)..=Duration::from_mins(5)).contains(&self.statistics.0) {
            wrong.push(format!("{place}.statistics: must be from 1s to 5m"));
        }
        if self.arrives.is_some_and(|span| span.0.is_zero()) {
            wrong.push(format!(
                "{place}.arrives: must be more than nothing: write how long it takes, such as 30s"
            ));
        }
        self.demand.contradictions(&format!("{place}.demand"), wrong);
        self.files.contradictions(&format!("{place}.files"), wrong);
        for (number, pair) in self.events.windows(2).enumerate() {
            if let [before, after] = pair
                && after.at.0 < before.at.0.saturating_add(before.lasts.0)
            {
                let next = number.saturating_add(1);
                wrong.push(format!("{place}.events[{next}].at: comes before the event before it is over"));
            }
        }
        for (number, event) in self.events.iter().enumerate() {
            let lasting =
                matches!(event.what, Happening::Freezes | Happening::FallsSilent | Happening::Migrates);
            if lasting && event.lasts.0.is_zero() {
                wrong.push(format!(
                    "{place}.events[{number}].lasts: is missing: write for how long, such as 1m"
                ));
            }
        }
    }
}

impl Course {
    fn contradictions(&self, place: &str, wrong: &mut Vec<String>) {
        let mut over = Duration::ZERO;
        for (index, point) in self.0.points.iter().enumerate() {
            if point.at.0 < over {
                let free = over.as_secs().saturating_add(u64::from(over.subsec_nanos() > 0));
                wrong.push(format!(
                    "{place}.points[{index}].at: comes before the point before it is over: write {free}s or later"
                ));
            }
            over = point.at.0.saturating_add(point.over.0);
        }
        if self.0.repeats.is_some_and(|repeats| repeats.0 < over || repeats.0.is_zero()) {
            wrong.push(format!("{place}.repeats: must be no less than its last point, with what that takes"));
        }
        if let Some(bursts) = &self.0.bursts
            && (bursts.lasts.0 >= bursts.every.0 || bursts.lasts.0.is_zero())
        {
            wrong.push(format!("{place}.bursts: lasts must be more than nothing and less than every"));
        }
    }
}

/// What Kubernetes calls a label of DNS, with room for a number behind it.
fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=40).contains(&text.len()) && text.chars().all(fits) && !text.starts_with('-')
}
