//! Merged pages (KSM) in what guests' processes count. `AnonPages` and a cgroup's `anon` have a page once, however many map it
//! (mm/rmap.c, `NR_ANON_MAPPED`); `RssAnon` of a process has it once for each place where that process maps it (mm/ksm.c,
//! `replace_page`). So of a page that is in n places of guests a sum of their own counts has n, and `AnonPages` one: taken
//! off as it is, n − 1 pages would be budget that nobody has.
//!
//! Two counts of the kernel's bound that from above: `pages_sharing` has n − 1 of every page, whoever maps it, and
//! `ksm_merging_pages` of the guests has n of theirs. Neither is ever too low: what was written since, or whose process has
//! ended, they keep until ksmd comes by there again, which it does not while it is stopped. Pages of zeros that were merged
//! with the kernel's own (`use_zero_pages`) are in none of all these.

use crate::sample::{Ksm, ProcessFacts};
use crate::units::Bytes;

/// What is merged on a host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Merged {
    /// `pages_sharing`, and what `pages_shared` has beside it.
    sharing: Bytes,
    shared: Bytes,
    /// What may have been merged after the guests were looked at, and before the host was.
    lately: Bytes,
}

impl Merged {
    /// By a reading of the host, and by what merging saved at a reading that came before the guests were looked at. Nothing
    /// where the kernel has no KSM.
    pub(crate) fn on(ksm: Option<&Ksm>, before: Bytes) -> Self {
        let (sharing, shared) = ksm.map_or_else(Default::default, |ksm| (ksm.sharing, ksm.shared));
        Self { sharing, shared, lately: sharing.minus(before) }
    }

    /// How much of what these guests are said to hold may be there more than once.
    pub(crate) fn counted_again<'a>(&self, guests: impl Iterator<Item = &'a ProcessFacts>) -> Bytes {
        let (mut again, mut known, mut by_cgroup) = (Bytes::ZERO, false, false);
        for facts in guests.filter(|facts| facts.anon.is_some()) {
            known = true;
            match facts.repeated {
                Some(merged) => again = again.plus(merged),
                None => by_cgroup = true,
            }
        }
        // A page may be charged to a cgroup whose processes do not map it any more: then all its places are others'.
        let most = self.sharing.plus(if by_cgroup { self.shared } else { Bytes::ZERO });
        if known { again.plus(self.lately).min(most) } else { Bytes::ZERO }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop_assert, prop_oneof, proptest};
    use proptest::test_runner::Config;

    use super::*;

    fn mib(mib: u64) -> Bytes {
        Bytes::from_mib(mib)
    }

    fn facts(anon: u64, repeated: Option<u64>) -> ProcessFacts {
        ProcessFacts { anon: Some(mib(anon)), repeated: repeated.map(mib), ..ProcessFacts::default() }
    }

    fn merged(sharing: u64, shared: u64, before: u64) -> Merged {
        let ksm = Ksm { sharing: mib(sharing), shared: mib(shared), ..Ksm::default() };
        Merged::on(Some(&ksm), mib(before))
    }

    #[test]
    fn a_page_that_three_guests_map_is_theirs_once() {
        // 3 guests of 256 MiB, 100 MiB of each equal to the others': AnonPages has 768 − 200 of them.
        let guests = [facts(256, Some(100)), facts(256, Some(100)), facts(256, Some(100))];
        let again = |merged: Merged| merged.counted_again(guests.iter());
        assert_eq!(again(merged(200, 100, 200)), mib(200));
        assert_eq!(
            again(merged(2200, 600, 2200)),
            mib(300),
            "others merge, too: no more than the guests have merged"
        );
        // Linux before 5.19 does not say what of a process is merged.
        let guests = [facts(256, Some(256)), facts(256, Some(256)), facts(256, Some(256))];
        assert_eq!(merged(200, 100, 200).counted_again(guests.iter()), mib(200));
    }

    #[test]
    fn what_was_merged_since_guests_were_looked_at_counts_whether_they_said_so_or_not() {
        let guests = [facts(256, Some(0)), facts(256, Some(0))];
        assert_eq!(merged(40, 20, 10).counted_again(guests.iter()), mib(30));
        assert_eq!(merged(40, 20, 0).counted_again(guests.iter()), mib(40), "nobody looked before");
    }

    #[test]
    fn a_cgroup_counts_each_page_once_but_perhaps_one_that_only_others_map() {
        let of_cgroups = [facts(256, None), facts(256, None)];
        assert_eq!(merged(200, 100, 200).counted_again(of_cgroups.iter()), Bytes::ZERO);
        assert_eq!(
            merged(200, 100, 150).counted_again(of_cgroups.iter()),
            mib(50),
            "merged since they were looked at"
        );
        assert_eq!(
            merged(200, 100, 200).counted_again([facts(256, None), facts(256, Some(280))].iter()),
            mib(280)
        );
        assert_eq!(Merged::on(None, Bytes::ZERO).counted_again([facts(256, Some(256))].iter()), Bytes::ZERO);
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

        /// Pages instead of MiB: what is no guest's is never less than it is, and by no more than it may be.
        #[test]
        fn whatever_is_merged_no_page_of_others_is_ever_taken_for_a_guests(
            pages in proptest::collection::vec(page(), 1..12),
            by_cgroup in proptest::array::uniform3(any::<bool>()),
            old_kernel in any::<bool>(),
        ) {
            let (mut anon, mut others, mut sharing, mut shared, mut old) = (0, 0, 0, 0, 0);
            let (mut rss, mut groups, mut merging) = ([0; 3], [0; 3], [0; 3]);
            for (places, of_others, charged, stale, stale_of_others) in &pages {
                let there: u64 = places.iter().sum::<u64>() + of_others;
                let seen = there + stale + stale_of_others;
                if there > 0 {
                    anon += 1;
                    let group = charged.filter(|guest| by_cgroup[*guest]);
                    let own = places.iter().zip(by_cgroup).any(|(n, group)| *n > 0 && !group);
                    others += u64::from(group.is_none() && !own);
                    if let Some(guest) = group {
                        groups[guest] += 1;
                    }
                    for guest in 0..3 {
                        rss[guest] += places[guest];
                    }
                }
                // Nobody else's cgroup is charged for a page that was never merged.
                if seen > 1 || charged.is_some() && seen > 0 {
                    for guest in 0..3 {
                        merging[guest] += places[guest];
                    }
                    (merging[0], old) = (merging[0] + stale, old + stale + stale_of_others);
                    (sharing, shared) = (sharing + seen - 1, shared + 1);
                }
            }
            let guests: Vec<ProcessFacts> = (0..3).map(|guest| {
                let repeated = if old_kernel { rss[guest] } else { merging[guest].min(rss[guest]) };
                let (anon, repeated) =
                    if by_cgroup[guest] { (groups[guest], None) } else { (rss[guest], Some(repeated)) };
                facts(anon, repeated)
            }).collect();
            let again = merged(sharing, shared, sharing).counted_again(guests.iter());
            let own: Bytes = guests.iter().filter_map(|facts| facts.anon).sum();
            let counted = mib(anon).plus(again).minus(own);
            prop_assert!(counted >= mib(others), "{counted} of {others}");
            let others_merge = pages.iter().map(|(_, others, ..)| others).sum::<u64>();
            let mixed = if by_cgroup.iter().all(|group| *group == by_cgroup[0]) { 0 } else { sharing };
            prop_assert!(counted <= mib(others + others_merge + old + shared + mixed), "{counted} of {others}");
        }
    }
}
