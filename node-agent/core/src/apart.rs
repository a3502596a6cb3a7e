//! Memory that lies beside a value and is no part of it: kept so that it need not be asked for again each turn.

/// Not compared, not copied, and with `#[serde(skip)]` not written: two values that differ in nothing else are the same.
#[derive(Debug, Default)]
pub(crate) struct Apart<T>(pub(crate) T);

impl<T: Default> Clone for Apart<T> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<T> PartialEq for Apart<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
