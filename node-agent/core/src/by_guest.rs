//! Something for each of some guests, in memory that can be used again: a map asks for new memory whenever it is filled.

use crate::sample::GuestId;

/// Values by guest. Cheap to fill in the order of the guests' identities, in which everything here walks them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByGuest<T>(Vec<(GuestId, T)>);

impl<T> Default for ByGuest<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> ByGuest<T> {
    /// Sets the value of a guest.
    pub fn insert(&mut self, id: GuestId, value: T) {
        match self.place(&id) {
            Ok(at) => {
                if let Some((_, known)) = self.0.get_mut(at) {
                    *known = value;
                }
            }
            Err(at) => self.0.insert(at, (id, value)),
        }
    }

    /// The value of a guest.
    pub fn get(&self, id: &GuestId) -> Option<&T> {
        self.0.get(self.place(id).ok()?).map(|(_, value)| value)
    }

    /// Forgets all values, and keeps the memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    fn place(&self, id: &GuestId) -> Result<usize, usize> {
        match self.0.last() {
            Some((last, _)) if last < id => Err(self.0.len()),
            _ => self.0.binary_search_by(|(known, _)| known.cmp(id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_guest_has_the_value_that_it_was_given_last_in_whatever_order_they_came() {
        let mut values = ByGuest::default();
        for (id, value) in [("b", 1), ("d", 2), ("a", 3), ("c", 4), ("d", 5), ("a", 6)] {
            values.insert(GuestId::new(id), value);
        }
        let got = ["a", "b", "c", "d", "e"].map(|id| values.get(&GuestId::new(id)).copied());
        assert_eq!(got, [Some(6), Some(1), Some(4), Some(5), None]);
        values.clear();
        assert_eq!(values, ByGuest::default());
    }
}
