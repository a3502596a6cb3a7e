//! Merged pages (KSM) in the account. `AnonPages` and a cgroup's `anon` have a page once, however many map it (mm/rmap.c,
//! `NR_ANON_MAPPED`); `RssAnon` of a process has it once for each place where that process maps it (mm/ksm.c,
//! `replace_page`). And whoever writes such a page has one of his own again: what others than guests have merged is theirs as
//! often as they map it, and no budget, as what guests have merged is none.
//!
//! So of a page in g places of guests and o of others, o is to count as no guest's. `AnonPages` has 1 of it, and what is
//! taken off for guests has g where processes count; where cgroups do, 1 if it is charged to one of a guest, which nobody
//! tells. Two counts of the kernel's say what is missing: `pages_sharing` has g + o − 1 of each page, `pages_shared` 1, and
//! `ksm_merging_pages` of the guests g.
//!
//! - Processes: o − (1 − g) is `pages_sharing`, exactly.
//! - Cgroups: o at most, for the page may be charged to a guest that does not map it any more: `pages_sharing + pages_shared`
//!   less `ksm_merging_pages` of the guests.
//! - Both: the latter; only those that a cgroup counts have merging pages to take off.
//!
//! All three are too high for what was written since, or whose process has ended, until ksmd comes by there again, which it
//! does not while it is stopped; that of a guest is as much too high as its part of the other two. Pages of zeros that were
//! merged with the kernel's own (`use_zero_pages`) are in none of all these.

use serde::{Deserialize, Serialize};

use crate::sample::{HostSample, ProcessFacts};
use crate::units::Bytes;

/// What is merged on a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Merged {
    /// `pages_sharing`, and what `pages_shared` has beside it.
    sharing: Bytes,
    shared: Bytes,
    /// The kernel did not say it this time: it is what it said last, if it ever did.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unsure: bool,
}

impl Merged {
    /// By a reading of the host; what was known `before` where that failed. Nothing where the kernel has no KSM.
    pub(crate) fn on(host: &HostSample, before: Self) -> Self {
        match host.ksm {
            Some(ksm) => Self { sharing: ksm.sharing, shared: ksm.shared, unsure: false },
            None if host.ksm_unread => Self { unsure: true, ..before },
            None => Self::default(),
        }
    }

    /// There is nothing to remember.
    pub(crate) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// How much there is to add to `AnonPages` before what these guests are said to hold is taken off.
    pub(crate) fn correction<'a>(&self, guests: impl Iterator<Item = &'a ProcessFacts>) -> Bytes {
        let (mut repeated, mut merging, mut by_cgroup) = (Bytes::ZERO, Bytes::ZERO, false);
        for facts in guests.filter(|facts| facts.anon.is_some()) {
            repeated = repeated.plus(facts.repeated.unwrap_or_default());
            if facts.repeated.is_none() {
                (by_cgroup, merging) = (true, merging.plus(facts.merging.unwrap_or_default()));
            }
        }
        let shared = if by_cgroup { self.shared } else { Bytes::ZERO };
        let by_host = self.sharing.plus(shared).minus(merging);
        // What guests count again they say themselves; what others have merged since, nobody does.
        if self.unsure { by_host.max(repeated) } else { by_host }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop_assert, prop_oneof, proptest};
    use proptest::test_runner::Config;

    use super::*;
    use crate::sample::Ksm;

    fn mib(mib: u64) -> Bytes {
        Bytes::from_mib(mib)
    }

    /// Counted by its process.
    fn process(anon: u64, repeated: u64) -> ProcessFacts {
        ProcessFacts { anon: Some(mib(anon)), repeated: Some(mib(repeated)), ..ProcessFacts::default() }
    }

    /// Counted by its cgroup.
    fn cgroup(anon: u64, merging: Option<u64>) -> ProcessFacts {
        ProcessFacts { anon: Some(mib(anon)), merging: merging.map(mib), ..ProcessFacts::default() }
    }

    fn host(sharing: u64, shared: u64) -> HostSample {
        let ksm = Ksm { sharing: mib(sharing), shared: mib(shared), ..Ksm::default() };
        HostSample { ksm: Some(ksm), ..HostSample::default() }
    }

    fn merged(sharing: u64, shared: u64) -> Merged {
        Merged::on(&host(sharing, shared), Merged::default())
    }

    #[test]
    fn what_processes_count_again_and_what_others_save_is_all_that_is_shared() {
        // 3 guests of 256 MiB, 100 MiB of each equal to the others': AnonPages has 768 − 200 of them.
        let guests = [process(256, 100), process(256, 100), process(256, 100)];
        assert_eq!(merged(200, 100).correction(guests.iter()), mib(200));
        // A pod has 500 MiB in five places, beside that: AnonPages has them once, and it may write them all.
        assert_eq!(merged(200 + 2000, 100 + 500).correction(guests.iter()), mib(200 + 2000));
        // The same before Linux 5.19, which does not say what of a process is merged.
        let guests = [process(256, 256), process(256, 256), process(256, 256)];
        assert_eq!(merged(200 + 2000, 100 + 500).correction(guests.iter()), mib(200 + 2000));
    }

    #[test]
    fn where_there_are_no_guests_others_may_still_write_what_they_merged() {
        assert_eq!(merged(2000, 500).correction([].iter()), mib(2000));
        assert_eq!(merged(2000, 500).correction([ProcessFacts::default()].iter()), mib(2000));
    }

    #[test]
    fn of_cgroups_what_is_not_the_guests_is_others() {
        // 100 MiB in three places: charged to one of them, and each counts only what is charged to it.
        let guests = [cgroup(256, Some(100)), cgroup(156, Some(100)), cgroup(156, Some(100))];
        assert_eq!(merged(200, 100).correction(guests.iter()), Bytes::ZERO, "nobody else merges");
        // A pod has 500 MiB in five places: four more than AnonPages has, and one for what may be charged to a guest.
        assert_eq!(merged(200 + 2000, 100 + 500).correction(guests.iter()), mib(2500));
        // 10 MiB of two guests were merged after they were looked at.
        assert_eq!(merged(200 + 10, 100 + 10).correction(guests.iter()), mib(20));
        assert_eq!(merged(200, 100).correction([cgroup(256, None)].iter()), mib(300), "it does not say");
    }

    #[test]
    fn only_guests_of_cgroups_have_merging_pages_to_take_off() {
        // 100 MiB in a place of each: the process counts them, the cgroup does if it is charged.
        let guests = [process(256, 100), cgroup(256, Some(100))];
        assert_eq!(merged(100, 100).correction(guests.iter()), mib(100));
        assert_eq!(merged(100 + 2000, 100 + 500).correction(guests.iter()), mib(100 + 2500));
    }

    #[test]
    fn a_reading_that_failed_is_not_one_of_nothing() {
        let guests = [process(256, 100), process(256, 100), process(256, 100)];
        let failed = HostSample { ksm_unread: true, ..HostSample::default() };
        let first = Merged::on(&failed, Merged::default());
        assert_eq!(first.correction(guests.iter()), mib(300), "no more than they have merged");
        let again = |sharing| Merged::on(&failed, merged(sharing, 600)).correction(guests.iter());
        assert_eq!(again(2200), mib(2200), "as it was");
        assert_eq!(again(50), mib(300), "more of the guests was merged since");
        let none = Merged::on(&HostSample::default(), merged(2200, 600));
        assert_eq!(none.correction(guests.iter()), Bytes::ZERO, "this kernel has no KSM");
    }

    /// A page: how many places of each guest map it, how many of others, whose cgroup it is charged to, and how many places
    /// the kernel still believes in that were written, of guests and of others.
    type Page = ([u64; 3], u64, Option<usize>, u64, u64);

    fn page() -> impl Strategy<Value = Page> {
        (
            proptest::array::uniform3(0_u64..3),
            0_u64..3,
            proptest::option::of(0_usize..3),
            prop_oneof![3 => Just(0), 1 => 0_u64..4],
            prop_oneof![3 => Just(0), 1 => 0_u64..4],
        )
    }

    proptest! {
        #![proptest_config(Config::with_cases(20_000))]

        /// Pages instead of MiB: others are never taken to hold less than they may without asking anybody, and by no more
        /// than is said here to hold more.
        #[test]
        fn whatever_is_merged_no_place_of_others_is_ever_budget(
            pages in proptest::collection::vec(page(), 1..12),
            by_cgroup in proptest::array::uniform3(any::<bool>()),
            old_kernel in any::<bool>(),
        ) {
            let (mut anon, mut others, mut sharing, mut shared, mut old) = (0, 0, 0, 0, 0);
            let (mut rss, mut groups, mut merging) = ([0; 3], [0; 3], [0; 3]);
            for (places, of_others, charged, stale, stale_of_others) in &pages {
                let there: u64 = places.iter().sum::<u64>() + of_others;
                let seen = there + stale + stale_of_others;
                let mapped_by = (0..3).find(|guest| places[*guest] > 0);
                // Nobody else's cgroup is charged for a page that was never merged, and whoever maps it is.
                let was_merged = seen > 1 || (charged.is_some() && seen > 0);
                let charged = if was_merged { *charged } else { mapped_by };
                others += of_others;
                if there > 0 {
                    anon += 1;
                    if let Some(guest) = charged.filter(|guest| by_cgroup[*guest]) {
                        groups[guest] += 1;
                    }
                    for guest in 0..3 {
                        rss[guest] += places[guest];
                    }
                }
                if was_merged {
                    for guest in 0..3 {
                        merging[guest] += places[guest];
                    }
                    (merging[0], old) = (merging[0] + stale, old + stale + stale_of_others);
                    (sharing, shared) = (sharing + seen - 1, shared + 1);
                }
            }
            let guests: Vec<ProcessFacts> = (0..3).map(|guest| match (by_cgroup[guest], old_kernel) {
                (false, true) => process(rss[guest], rss[guest]),
                (false, false) => process(rss[guest], rss[guest].min(merging[guest])),
                (true, true) => cgroup(groups[guest], Some(rss[guest].saturating_sub(groups[guest]))),
                (true, false) => cgroup(groups[guest], Some(merging[guest])),
            }).collect();
            let own: Bytes = guests.iter().filter_map(|facts| facts.anon).sum();
            let counted = mib(anon).plus(merged(sharing, shared).correction(guests.iter())).minus(own);
            prop_assert!(counted >= mib(others), "{counted} of {others}");
            let of_cgroups = if by_cgroup.contains(&true) { shared } else { 0 };
            let unsaid = if old_kernel { of_cgroups } else { 0 };
            prop_assert!(counted <= mib(others + old + of_cgroups + unsaid), "{counted} of {others}");
        }
    }
}
