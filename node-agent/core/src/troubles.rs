//! What does not work, for people: the node's own troubles before those of single guests. A tenant can cause the latter, as
//! many as it likes, and the one condition of a node that shows them must not hide a full disk behind them.

use std::collections::BTreeSet;

use serde::{Serialize, Serializer};

/// What does not work now, in the order in which it is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Troubles {
    own: Vec<String>,
    /// Behind their wordings: which is told first depends on nothing but what they say.
    of_guests: BTreeSet<(String, String)>,
}

impl Troubles {
    /// Adds troubles of the node itself, its agent or its orders, the gravest first.
    pub fn add_own(&mut self, troubles: impl IntoIterator<Item = String>) {
        for trouble in troubles {
            if !self.own.contains(&trouble) {
                self.own.push(trouble);
            }
        }
    }

    /// Adds troubles with single guests and their pods, in any order.
    pub fn add_of_guests(&mut self, troubles: impl IntoIterator<Item = String>) {
        self.of_guests.extend(troubles.into_iter().map(|trouble| (wording(&trouble), trouble)));
    }

    /// Adds others behind these.
    pub fn extend(&mut self, others: Self) {
        self.add_own(others.own);
        self.of_guests.extend(others.of_guests);
    }

    /// The node's own.
    pub fn own(&self) -> impl Iterator<Item = &str> {
        self.own.iter().map(String::as_str)
    }

    /// Those with single guests.
    pub fn of_guests(&self) -> impl Iterator<Item = &str> {
        self.of_guests.iter().map(|(_, trouble)| trouble.as_str())
    }

    /// All.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.own().chain(self.of_guests())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.own.len().saturating_add(self.of_guests.len())
    }

    /// True if all works.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Serialize for Troubles {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.iter())
    }
}

/// The words of a trouble that are no numbers, for most troubles say how long they last. A number within a word, as in the
/// name of a guest, stays.
pub fn wording(trouble: &str) -> String {
    trouble.split_whitespace().filter(|word| word.parse::<f64>().is_err()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUESTS: [&str; 3] =
        ["libvirt of a-1 hangs for 30 s", "libvirt of a-2 hangs for 4 s", "shop/web: lost"];

    fn told(own: &[&str], of_guests: &[&str]) -> Vec<String> {
        let mut troubles = Troubles::default();
        let owned = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        troubles.add_of_guests(owned(of_guests));
        troubles.add_own(owned(own));
        assert_eq!(troubles.len(), troubles.iter().count());
        troubles.iter().map(str::to_owned).collect()
    }

    #[test]
    fn the_nodes_own_troubles_come_first_and_the_gravest_of_them_before_all() {
        let told = told(&["no journal", "a late kernel"], &GUESTS);
        assert_eq!(told[..2], ["no journal", "a late kernel"]);
        assert_eq!(told[2..], GUESTS);
    }

    #[test]
    fn troubles_of_guests_are_told_in_one_order_whatever_order_they_come_in_and_however_long_they_last() {
        let [first, second, third] = GUESTS;
        for order in [[first, second, third], [third, second, first], [second, third, first]] {
            assert_eq!(told(&[], &order), GUESTS);
        }
        let later = ["libvirt of a-1 hangs for 31 s", "libvirt of a-2 hangs for 5 s"];
        assert_eq!(told(&[], &[later[1], later[0]]), later);
    }

    #[test]
    fn what_is_told_twice_counts_once() {
        assert_eq!(told(&["full", "full"], &[GUESTS[0], GUESTS[0]]), ["full", GUESTS[0]]);
    }
}
